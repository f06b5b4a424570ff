//! Three clients on a whole broker, each byte of what they do from the fuzzer. `script` says how
//! bytes become deeds, `peer` what a client may expect from the broker.
#![no_main]

#[path = "../../../tests/src/chaos/packet.rs"]
#[allow(dead_code, reason = "shared with the chaos tests, which use all of it")]
mod packet;
mod peer;
mod script;

use std::time::Duration;

use hostbus_broker::fuzz::Broker;
use libfuzzer_sys::fuzz_target;
use tokio::task::JoinSet;

use peer::Peer;
use script::{Deed, Script};

/// Longer than anything that a client can ask for.
const LONG: Duration = Duration::from_secs(1_000_000);

fuzz_target!(|bytes: &[u8]| {
    // The clock stands still while there is work, so that a short sleep means: all is done.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(play(Script::new(bytes)));
});

async fn play(mut script: Script<'_>) {
    let broker = Broker::new().expect("a broker");
    let mut serving = JoinSet::new();
    let mut peers: [Peer; 3] = Default::default();
    while let Some((actor, deed)) = script.next() {
        let peer = &mut peers[actor];
        match deed {
            Deed::Pass(seconds) => broker.sweep(Duration::from_secs(seconds)),
            Deed::Die => peer.die(),
            Deed::Stall => peer.stall(),
            Deed::Send(bytes) => {
                if !peer.is_connected()
                    && let Some((pipe, serve)) = broker.connect()
                {
                    peer.begin(pipe);
                    serving.spawn(serve);
                }
                peer.send(&bytes).await;
            }
        }
        for peer in &mut peers {
            peer.receive().await;
        }
    }
    for peer in &mut peers {
        peer.die();
    }
    let ended = async { while serving.join_next().await.is_some() {} };
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
    assert!(ended.is_ok(), "a connection goes on without its client");
    broker.sweep(LONG);
    for (what, count) in broker.left() {
        assert_eq!(count, 0, "{what} are left");
    }
}
