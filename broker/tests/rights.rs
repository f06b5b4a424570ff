//! Who may publish and read what.

mod raw;

use raw::{broker, connect};

const METRICS: &str = "hostbus/v1/home/web1/metrics";
const FOREIGN: &str = "hostbus/v1/home/web2/metrics";

#[tokio::test]
async fn a_publish_to_a_foreign_topic_reaches_nobody() {
    let broker = broker(|_| {}).await;
    let mut admin = connect(5, "a", "admin").go(&broker).await;
    admin.subscribe("#", 0).await;
    for (level, refused) in [(4, 0), (5, 0x87)] {
        let mut web1 = connect(level, "w", "web1").go(&broker).await;
        assert_eq!(web1.publish_acked(1, FOREIGN, "forged").await, refused);
        web1.publish(1, FOREIGN, "forged").await;
        assert_eq!(web1.publish_acked(0, METRICS, "true").await, 0);
        assert_eq!(admin.message().await.payload, "true");
        web1.goodbye().await;
    }
    admin.nothing_waits().await;
    let mut late = connect(5, "late", "admin").go(&broker).await;
    late.subscribe(FOREIGN, 0).await;
    late.nothing_waits().await;
}

#[tokio::test]
async fn a_will_on_a_foreign_topic_is_refused_at_connect() {
    let broker = broker(|_| {}).await;
    for (level, refused) in [(4, 5), (5, 0x87)] {
        let mut packet = connect(level, "w", "web1");
        packet.will = Some(("hostbus/v1/home/web2/status", "offline", 0b11));
        assert_eq!(packet.open(&broker).await.1[1], refused);
    }
}

#[tokio::test]
async fn a_viewer_reads_and_never_writes() {
    let broker = broker(|_| {}).await;
    let mut viewer = connect(5, "v", "viewer").go(&broker).await;
    for topic in [
        METRICS,
        "x",
        "$SYS/broker/uptime",
        "hostbus/v1/home/_rules/r",
    ] {
        assert_eq!(viewer.publish_acked(0, topic, "x").await, 0x87, "{topic}");
    }
    assert_eq!(viewer.subscribe(METRICS, 1).await, 1);
    assert_eq!(
        viewer
            .subscribe("hostbus/v1/home/web1/config/desired", 1)
            .await,
        0x87
    );
    assert_eq!(viewer.subscribe("hostbus/v1/home/_admin/+", 1).await, 0x87);
    let mut old = connect(4, "o", "viewer").go(&broker).await;
    assert_eq!(old.subscribe("hostbus/v1/home/_admin/+", 1).await, 0x80);
}

#[tokio::test]
async fn a_wide_subscription_is_filtered_on_delivery_and_for_retained_messages() {
    let broker = broker(|_| {}).await;
    let mut admin = connect(5, "a", "admin").go(&broker).await;
    let mut viewer = connect(5, "v", "viewer").go(&broker).await;
    assert_eq!(viewer.subscribe("hostbus/v1/#", 1).await, 1);
    for secret in [
        "_admin/x",
        "web1/config/desired",
        "web1/command/refresh",
        "_enrol/1/grant",
    ] {
        admin
            .publish_acked(1, &format!("hostbus/v1/home/{secret}"), "secret")
            .await;
    }
    admin.publish_acked(1, METRICS, "open").await;
    let message = viewer.message().await;
    assert_eq!(
        (message.topic.as_str(), message.payload.as_str()),
        (METRICS, "open")
    );
    viewer.acknowledge(message.packet_id).await;
    viewer.nothing_waits().await;
    let mut late = connect(5, "late", "viewer").go(&broker).await;
    late.subscribe("hostbus/v1/#", 0).await;
    assert_eq!(late.message().await.topic, METRICS);
    late.nothing_waits().await;
}

#[tokio::test]
async fn a_client_id_belongs_to_its_user() {
    let broker = broker(|_| {}).await;
    let mut web1 = connect(5, "same", "web1").go(&broker).await;
    let mut viewer = connect(5, "same", "viewer").go(&broker).await;
    web1.nothing_waits().await;
    let mut again = connect(5, "same", "web1").go(&broker).await;
    assert_eq!(web1.ended().await, Some(0x8e));
    again.nothing_waits().await;
    viewer.nothing_waits().await;
}
