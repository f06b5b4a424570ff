//! `hostbus-broker identity …`: adds, lists and removes identities in a data folder that no broker
//! has open.

use std::io::{self, BufRead, Write};

use anyhow::{Context, Result, bail};
use hostbus_broker::{Credential, Identities, config};
use hostbus_daemon::Secret;

use crate::arguments::IdentityVerb;

/// Does what was asked for. Results go to stdout.
pub(crate) fn run(verb: IdentityVerb) -> Result<()> {
    let mut out = io::stdout().lock();
    match verb {
        IdentityVerb::Add {
            name,
            role,
            node,
            password_stdin,
            folder,
        } => {
            let identity = config::identity(&name, role, node)?;
            let identities = Identities::open(&folder.data)?;
            if password_stdin {
                let password = read_password()?;
                identities.put(&name, identity, &Credential::Password(password))?;
            } else {
                let secret = Secret::random();
                identities.put(&name, identity, &Credential::Secret(secret.clone()))?;
                writeln!(out, "{}", secret.reveal())?;
            }
        }
        IdentityVerb::List { json, folder } => {
            let identities = Identities::open(&folder.data)?.list();
            if json {
                let rows: Vec<_> = identities
                    .iter()
                    .map(|(name, identity)| serde_json::json!({"name": name, "identity": identity}))
                    .collect();
                writeln!(out, "{}", serde_json::to_string(&rows)?)?;
                return Ok(());
            }
            for (name, identity) in identities {
                let role = format!("{:?}", identity.role()).to_lowercase();
                let node = match &identity {
                    hostbus_wire::Identity::Publisher { node } => node.to_string(),
                    _ => String::new(),
                };
                writeln!(
                    out,
                    "{}",
                    format!("{name:<24} {role:<10} {node}").trim_end()
                )?;
            }
        }
        IdentityVerb::Remove { name, folder } => {
            if !Identities::open(&folder.data)?.remove(&name)? {
                bail!("there is no identity `{name}` in {}", folder.data.display());
            }
        }
    }
    Ok(())
}

fn read_password() -> Result<Secret> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("failed to read the password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("the password on standard input is empty");
    }
    Ok(Secret::new(password))
}
