//! `hostbus rules`: the rules that raise alerts, checked, shown, tried on the past and published.
//!
//! [`check`] looks for mistakes, [`sources`] gathers what files and the bus say, [`list`] shows it,
//! [`trial`] replays the [`past`], [`publish`] writes to `_rules`.

pub(crate) mod args;
mod check;
mod list;
mod past;
mod publish;
mod sources;
mod trial;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use args::{RulesArgs, RulesVerb};
use hostbus_notifier::rule::document::{self, Written};
use hostbus_notifier::rule::mistake::Mistake;

pub(crate) fn run(args: &RulesArgs) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &args.verb {
            RulesVerb::Check(args) => check::check(args),
            RulesVerb::List(args) => list::list(args).await,
            RulesVerb::Show(args) => list::show(args).await,
            RulesVerb::Test(args) => trial::test(args).await,
            RulesVerb::Put(args) => publish::put(args).await,
            RulesVerb::Remove(args) => publish::remove(args).await,
        }
    })
}

/// A file's document; of one that is too long, enough to see that.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut document = Vec::new();
    let most = document::MAX_BYTES as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut document))
        .with_context(|| format!("failed to read {}", path.display()))?;
    Ok(document)
}

/// The rules of a file; its mistakes are the error.
fn rules_of(path: &Path) -> anyhow::Result<Vec<Written>> {
    match document::read(&read(path)?) {
        Ok(rules) if rules.is_empty() => bail!("{} has no [[rule]]", path.display()),
        Ok(rules) => Ok(rules),
        Err(mistakes) => {
            let origin = path.display().to_string();
            let told: Vec<String> = mistakes.iter().map(|one| told(&origin, one)).collect();
            bail!("{}", told.join("\n"))
        }
    }
}

/// A mistake with the place where it stands.
fn told(origin: &str, mistake: &Mistake) -> String {
    format!("{origin}: {mistake}")
}
