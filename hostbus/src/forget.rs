//! `hostbus forget`: a node removed whole, from the bus and from Redis.
//!
//! The bus goes first: what stands retained there would be stored again by the next ingester that
//! starts. Only an admin may take away what a node's publisher, the ingester and the notifier left.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use hostbus_client::{BusConfig, Event, Message};
use hostbus_daemon::exit;
use hostbus_store::{Connection, Forgotten, Reader, StoreConfig, forget};
use hostbus_wire::{NodePath, QoS};
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cli::{BusArgs, ForgetArgs};
use crate::{history, reach};

/// What stands retained comes at once after the subscription, and then nothing for this long.
const QUIET_AFTER: Duration = Duration::from_millis(500);
/// How long a node that publishes may keep it from being quiet.
const GATHER_WITHIN: Duration = Duration::from_secs(3);
/// How long the broker may take to tell that a message is gone.
const CLEAR_WITHIN: Duration = Duration::from_secs(5);
/// Who may remove what others left on the bus.
const ADMIN: &str = "admin";

pub(crate) fn run(args: &ForgetArgs) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(forget_node(args))
}

async fn forget_node(args: &ForgetArgs) -> anyhow::Result<u8> {
    let store = reach::store(&args.redis, args.bus.data.as_deref())?;
    let connection = Connection::open(&store)?;
    let node = find(args, &store).await?;
    if forget::is_publishing(&connection, &node).await? && !args.force {
        bail!(
            "{node} still publishes, and would be back with its next sample: stop its publisher first, or add --force"
        );
    }
    if !args.yes && !confirmed(&node)? {
        bail!("nothing was removed");
    }
    let bus = if args.redis_only {
        Ok(Cleared::default())
    } else {
        clear_bus(args, &node).await
    };
    let forgotten = forget::forget(&connection, &node).await?;
    report(args, &node, forgotten, &bus)?;
    // What was asked for is done only when nothing of the node is left.
    Ok(match &bus {
        Ok(cleared) if cleared.left.is_empty() => exit::OK,
        _ => exit::FAILED,
    })
}

/// The node that is meant. A full path is taken as it stands: something of it may be left anywhere.
async fn find(args: &ForgetArgs, store: &StoreConfig) -> anyhow::Result<NodePath> {
    if args.node.contains(['.', '/']) {
        return Ok(args.node.parse()?);
    }
    let nodes = Reader::open(store)?.nodes().await?;
    history::find(&args.node, &nodes)
}

fn confirmed(node: &NodePath) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("this removes all history of {node}: add --yes to do it without being asked");
    }
    let mut out = std::io::stderr().lock();
    write!(
        out,
        "Remove {node} with all its history? This can't be undone. [y/N] "
    )?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// What was removed from the bus.
#[derive(Debug, Default)]
struct Cleared {
    /// The topics that stand empty now.
    topics: BTreeSet<String>,
    /// Those that the broker did not tell to be empty.
    left: BTreeSet<String>,
}

async fn clear_bus(args: &ForgetArgs, node: &NodePath) -> anyhow::Result<Cleared> {
    let user = args.bus.user.clone().unwrap_or_else(|| ADMIN.to_owned());
    let bus = reach::bus(&BusArgs {
        user: Some(user),
        ..args.bus.clone()
    })?;
    clear(&bus, node).await
}

/// Takes away what stands retained of the node, and waits until the broker has told so.
async fn clear(bus: &BusConfig, node: &NodePath) -> anyhow::Result<Cleared> {
    let (root, site, name) = (&bus.root, &node.site, &node.node);
    let filters = [
        format!("{root}/{site}/{name}/#"),
        format!("{root}/{site}/_system/publisher/{name}"),
    ];
    let filters = filters.map(|filter| (filter, QoS::AtLeastOnce)).to_vec();
    let mut connection = reach::connect(bus, "forget", filters).await?;
    let mut cleared = Cleared::default();
    let until = Instant::now() + GATHER_WITHIN;
    while let Ok(message) = timeout_at(
        until.min(Instant::now() + QUIET_AFTER),
        message(&mut connection),
    )
    .await
    {
        if message.retained {
            cleared.left.insert(message.topic);
        }
    }
    let sender = connection.sender();
    for topic in &cleared.left {
        let gone = sender.publish(topic.clone(), QoS::AtLeastOnce, true, Vec::new());
        gone.await
            .with_context(|| format!("failed to remove {topic} from the bus"))?;
    }
    let emptied = async {
        while !cleared.left.is_empty() {
            let message = message(&mut connection).await;
            if message.payload.is_empty()
                && let Some(topic) = cleared.left.take(&message.topic)
            {
                cleared.topics.insert(topic);
            }
        }
    };
    // What is late is told as left.
    let _ = timeout(CLEAR_WITHIN, emptied).await;
    connection.close().await;
    Ok(cleared)
}

async fn message(connection: &mut hostbus_client::Connection) -> Message {
    loop {
        if let Event::Message(message) = connection.next().await {
            return message;
        }
    }
}

fn report(
    args: &ForgetArgs,
    node: &NodePath,
    forgotten: Forgotten,
    bus: &anyhow::Result<Cleared>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let Forgotten {
        series,
        keys,
        was_listed,
    } = forgotten;
    if args.json {
        let mut object = json!({
            "node": node,
            "series": series,
            "keys": keys,
            "was_listed": was_listed,
        });
        match bus {
            Ok(cleared) => {
                object["topics"] = json!(cleared.topics);
                object["topics_left"] = json!(cleared.left);
            }
            Err(error) => object["bus_error"] = json!(format!("{error:#}")),
        }
        writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
        return Ok(());
    }
    if keys == 0 && !was_listed {
        writeln!(out, "redis   nothing of {node} was there")?;
    } else {
        writeln!(out, "redis   {node}: {series} series, {keys} keys removed")?;
    }
    match bus {
        Ok(cleared) => {
            let count = cleared.topics.len();
            writeln!(out, "bus     {count} retained messages removed")?;
            for topic in &cleared.left {
                writeln!(out, "bus     not removed: {topic}")?;
            }
        }
        Err(error) => writeln!(out, "bus     nothing removed: {error:#}")?,
    }
    Ok(())
}
