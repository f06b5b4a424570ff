//! No command of ours, and no transaction, has keys of more than one slot: all of it runs on a Redis
//! Cluster.

use hostbus_store::forget::forget;
use hostbus_store::{ChartQuery, Connection, Describer, Extent, Line, Log, Order, Reader, Tier};
use hostbus_wire::event::{Event, Severity};
use hostbus_wire::info::Info;
use hostbus_wire::status::Status;

use crate::server::Server;
use crate::site::{HOUR, MINUTE, Site};
use crate::{Step, take};

#[tokio::test]
async fn a_redis_cluster_takes_all_of_it() {
    let mut server = Server::cluster().await;
    let mut site = Site::new(&mut server);
    let range = (u64::MAX, 0);
    for (node, seed, every_ms) in [(0, 1, 10_000), (1, 2, MINUTE), (0, 3, HOUR)] {
        let live = Step::Live {
            node,
            seed,
            every_ms,
            count: 60,
            commit: true,
        };
        let late = Step::Late {
            node,
            seed,
            back_ms: HOUR,
            every_ms,
            count: 9,
        };
        let beside = Step::Beside {
            node,
            seed,
            back_rows: 5,
        };
        let timeless = Step::Timeless { node, seed };
        for step in [live, late, beside, timeless, Step::Tend { range }] {
            take(&mut site, step).await;
        }
    }
    for which in [1, 3, 6] {
        take(&mut site, Step::Settings(which)).await;
        take(&mut site, Step::Tend { range }).await;
    }
    let node = (*site.nodes[0].path).clone();
    let query = ChartQuery {
        lines: vec![Line {
            node: node.clone(),
            series: "memory".to_owned(),
            fields: Vec::new(),
        }],
        from_ms: site.now_ms - 100 * HOUR,
        to_ms: site.now_ms,
        points: 50,
        tier: Some(Tier::Hour),
    };
    assert!(
        !site.reader.chart(&query).await.unwrap()[0]
            .curves
            .is_empty()
    );
    assert_eq!(site.reader.nodes().await.unwrap().len(), 2);

    // What is no time series.
    let describer = Describer::open(&server.config).unwrap();
    let now_ms = 7;
    describer.fields().await.unwrap();
    describer
        .info(&node, &Info::default(), now_ms)
        .await
        .unwrap();
    describer
        .status(&node, Status::Online, now_ms)
        .await
        .unwrap();
    let event = Event {
        ts: now_ms,
        kind: "k".to_owned(),
        severity: Severity::Info,
        message: "m".to_owned(),
        details: [].into(),
    };
    describer.event(&node, &event).await.unwrap();
    let reader = Reader::open(&server.config).unwrap();
    for log in [Log::AllEvents, Log::Events(&node)] {
        let read = reader.records(log, Order::Oldest, (0, u64::MAX), None, 9);
        assert_eq!(read.await.unwrap().records.len(), 1);
    }
    let connection = Connection::open(&server.config).unwrap();
    let extent = Extent::ask(&connection).await.unwrap();
    assert_eq!(extent.nodes, 2);
    forget(&connection, &node).await.unwrap();
    let left: Vec<String> = redis::cmd("KEYS")
        .arg("*home.a*")
        .query(&mut server.redis())
        .unwrap();
    assert_eq!(left, [""; 0]);
}
