//! `hostbus top`: all nodes in a live table, fed from the bus.
//!
//! [`nodes`] holds what is known of each node, [`view`] draws it.

mod nodes;
mod view;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use hostbus_client::{Connection, Event};
use hostbus_daemon::{CancellationToken, clock, exit, shutdown};
use hostbus_wire::{Kind, QoS};
use nodes::Nodes;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use view::View;

use crate::cli::TopArgs;
use crate::reach;

/// How often the table is drawn without news: ages go on.
const REDRAW: Duration = Duration::from_millis(500);

pub(crate) fn run(args: &TopArgs) -> anyhow::Result<u8> {
    anyhow::ensure!(
        args.wait.is_finite() && (0.0..=3600.0).contains(&args.wait),
        "--wait takes 0 to 3600 seconds, not {}",
        args.wait
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(top(args))
}

async fn top(args: &TopArgs) -> anyhow::Result<u8> {
    let bus = reach::bus(&args.bus)?;
    let filters = [Kind::Metrics, Kind::Status]
        .map(|kind| (bus.root.filter(kind), QoS::AtLeastOnce))
        .to_vec();
    let mut connection = reach::connect(&bus, "top", filters).await?;
    let mut nodes = Nodes::new(bus.root.clone());
    if args.once || args.json || !std::io::stdout().is_terminal() {
        listen(
            &mut connection,
            &mut nodes,
            Duration::from_secs_f64(args.wait),
        )
        .await;
        let mut out = std::io::stdout().lock();
        if args.json {
            writeln!(
                out,
                "{}",
                serde_json::to_string_pretty(&nodes.summaries(clock::unix_ms()))?
            )?;
        } else {
            write!(out, "{}", view::plain(&nodes.summaries(clock::unix_ms())))?;
        }
    } else {
        live(&mut connection, &mut nodes).await?;
    }
    connection.close().await;
    Ok(exit::OK)
}

async fn listen(connection: &mut Connection, nodes: &mut Nodes, within: Duration) {
    let heard = async {
        loop {
            take(nodes, connection.next().await);
        }
    };
    // The time-out is how listening ends.
    let _ = tokio::time::timeout(within, heard).await;
}

fn take(nodes: &mut Nodes, event: Event) {
    match event {
        Event::Message(message) => nodes.take(&message),
        Event::Connected => nodes.connected = true,
        Event::Disconnected => nodes.connected = false,
    }
}

async fn live(connection: &mut Connection, nodes: &mut Nodes) -> anyhow::Result<()> {
    nodes.connected = true;
    let mut terminal = ratatui::try_init()?;
    let mut keys = keys();
    let mut view = View::default();
    let mut redraw = tokio::time::interval(REDRAW);
    // The terminal must be given back when a signal ends us, too.
    let signal = shutdown::on_signal(CancellationToken::new());
    tokio::pin!(signal);
    let done = loop {
        let drawn = terminal
            .draw(|frame| view.draw(frame, nodes.connected, nodes.summaries(clock::unix_ms())));
        if let Err(error) = drawn {
            break Err(error.into());
        }
        tokio::select! {
            event = connection.next() => take(nodes, event),
            key = keys.recv() => match key {
                Some(KeyCode::Char('q') | KeyCode::Esc) | None => break Ok(()),
                Some(key) => view.press(key),
            },
            _ = redraw.tick() => {}
            signalled = &mut signal => break signalled.map_err(Into::into),
        }
    };
    ratatui::restore();
    done
}

/// Keys as they are pressed; Ctrl-C reads as `q`. The terminal gives them to a blocking reader only,
/// so they have a thread, which ends with the process.
fn keys() -> mpsc::Receiver<KeyCode> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(input) = event::read() {
            let key = match input {
                Input::Key(key) if key.kind != KeyEventKind::Press => continue,
                Input::Key(key)
                    if key.code == KeyCode::Char('c')
                        && key.modifiers.contains(KeyModifiers::CONTROL) =>
                {
                    KeyCode::Char('q')
                }
                Input::Key(key) => key.code,
                // Anything else, such as a resize, is answered by drawing again.
                _ => KeyCode::Null,
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}
