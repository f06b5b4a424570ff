//! Independent clients of both versions on one port.

mod raw;

use std::time::Duration;

use raw::{DEADLINE, broker};
use rumqttc::v5;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::time::timeout;

#[tokio::test]
async fn clients_of_both_versions_talk_to_each_other() {
    let broker = broker(|_| {}).await;
    let (host, port) = (broker.address.ip().to_string(), broker.address.port());

    let mut options = MqttOptions::new("old", host.clone(), port);
    options
        .set_credentials("ingester", "pw")
        .set_keep_alive(Duration::from_secs(5));
    let (old, mut old_events) = AsyncClient::new(options, 10);
    let mut options = v5::MqttOptions::new("new", host, port);
    options
        .set_credentials("web1", "pw")
        .set_keep_alive(Duration::from_secs(5));
    let (new, mut new_events) = v5::AsyncClient::new(options, 10);

    let metrics = "hostbus/v1/home/web1/metrics";
    let committed = "hostbus/v1/home/web1/committed";
    old.subscribe("hostbus/v1/+/+/metrics", QoS::AtLeastOnce)
        .await
        .unwrap();
    new.subscribe(committed, v5::mqttbytes::QoS::AtLeastOnce)
        .await
        .unwrap();

    let scenario = async {
        let old_side = async {
            loop {
                match old_events.poll().await.unwrap() {
                    Event::Incoming(Packet::Publish(message)) if message.topic == metrics => {
                        assert_eq!(&message.payload[..], b"sample");
                        old.publish(committed, QoS::AtLeastOnce, true, "mark")
                            .await
                            .unwrap();
                    }
                    Event::Incoming(Packet::PubAck(_)) => return,
                    _ => {}
                }
            }
        };
        let new_side = async {
            loop {
                match new_events.poll().await.unwrap() {
                    v5::Event::Incoming(v5::mqttbytes::v5::Packet::SubAck(_)) => {
                        let qos = v5::mqttbytes::QoS::AtLeastOnce;
                        new.publish(metrics, qos, true, "sample").await.unwrap();
                    }
                    v5::Event::Incoming(v5::mqttbytes::v5::Packet::Publish(message)) => {
                        assert_eq!(&message.payload[..], b"mark");
                        return;
                    }
                    _ => {}
                }
            }
        };
        tokio::join!(old_side, new_side);
    };
    timeout(DEADLINE, scenario)
        .await
        .expect("both ends hear each other");
}

#[tokio::test]
async fn a_refused_client_hears_why() {
    let broker = broker(|_| {}).await;
    let (host, port) = (broker.address.ip().to_string(), broker.address.port());
    let mut options = MqttOptions::new("old", host.clone(), port);
    options.set_credentials("ingester", "wrong");
    let (_client, mut events) = AsyncClient::new(options, 10);
    let error = timeout(DEADLINE, events.poll()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("BadUserNamePassword"), "{error}");
    let mut options = v5::MqttOptions::new("new", host, port);
    options.set_credentials("ingester", "wrong");
    let (_client, mut events) = v5::AsyncClient::new(options, 10);
    let error = timeout(DEADLINE, events.poll()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("BadUserNamePassword"), "{error}");
}
