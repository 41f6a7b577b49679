//! rumqttc, for MQTT 3.1.1 and 5.0.

use crate::{ACCOUNT, Error, Moved, PLACEHOLDER, Told, Where};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

pub const VERBS: &[&str] = &[
    "publish and subscribe, 3.1.1, QoS 0",
    "publish and subscribe, 3.1.1, QoS 1",
    "publish and subscribe, 3.1.1, QoS 2",
    "publish and subscribe, 5.0, QoS 0",
    "publish and subscribe, 5.0, QoS 1",
    "publish and subscribe, 5.0, QoS 2",
    "retained, wildcard replay",
    "shared subscription",
    "topic alias",
    "WebSocket",
];
const MESSAGES: u64 = 50;
const PAYLOAD: &[u8] = b"{\"oee\":0.81}";

/// What a session counts of itself.
#[derive(Default)]
struct Counts {
    ready: AtomicU64,
    subscribed: AtomicU64,
    arrived: AtomicU64,
    /// Publishes written (QoS 0) or acknowledged (QoS 1 and 2).
    sent: AtomicU64,
    written: AtomicU64,
}

async fn until(of: impl Fn() -> u64, wanted: u64) -> Result<(), Error> {
    for _ in 0..1500 {
        if of() >= wanted {
            tokio::time::sleep(Duration::from_millis(30)).await;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("{} of {wanted}", of()).into())
}

fn qos3(level: u8) -> rumqttc::QoS {
    rumqttc::qos(level).expect("0, 1 or 2")
}

struct Session3 {
    client: rumqttc::AsyncClient,
    counts: Arc<Counts>,
    driver: JoinHandle<()>,
}

impl Session3 {
    async fn new(at: &Where, name: &str, websocket: bool) -> Result<Self, Error> {
        let mut options = if websocket {
            let url = format!("ws://{}:{}/mqtt", at.address, at.more["websocket"]);
            let mut options = rumqttc::MqttOptions::new(name, url, at.more["websocket"].parse()?);
            options.set_transport(rumqttc::Transport::Ws);
            options
        } else {
            rumqttc::MqttOptions::new(name, &at.address, at.port)
        };
        options
            .set_credentials(ACCOUNT, PLACEHOLDER)
            .set_keep_alive(Duration::from_secs(60));
        let (client, mut events) = rumqttc::AsyncClient::new(options, 100);
        let counts = Arc::new(Counts::default());
        let told = Arc::clone(&counts);
        let driver = tokio::spawn(async move {
            use rumqttc::{Event, Outgoing, Packet};
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::ConnAck(_)) => told.ready.fetch_add(1, Ordering::SeqCst),
                    Event::Incoming(Packet::SubAck(_)) => told.subscribed.fetch_add(1, Ordering::SeqCst),
                    Event::Incoming(Packet::Publish(_)) => told.arrived.fetch_add(1, Ordering::SeqCst),
                    Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => told.sent.fetch_add(1, Ordering::SeqCst),
                    Event::Outgoing(Outgoing::Publish(_)) => told.written.fetch_add(1, Ordering::SeqCst),
                    Event::Outgoing(Outgoing::Disconnect) => break,
                    _ => 0,
                };
            }
            // What was put in order before the end is written by one more turn.
            let _ = tokio::time::timeout(Duration::from_millis(100), events.poll()).await;
        });
        until(|| counts.ready.load(Ordering::SeqCst), 1).await?;
        Ok(Self { client, counts, driver })
    }

    async fn subscribe(&self, filter: &str, qos: u8) -> Result<(), Error> {
        self.client.subscribe(filter, qos3(qos)).await?;
        until(|| self.counts.subscribed.load(Ordering::SeqCst), 1).await
    }

    async fn publish(&self, topics: &[String], qos: u8, retain: bool, payload: &[u8]) -> Result<u64, Error> {
        for topic in topics {
            self.client.publish(topic, qos3(qos), retain, payload).await?;
        }
        Ok(topics.len() as u64)
    }

    async fn close(self) -> Result<(), Error> {
        self.client.disconnect().await?;
        self.driver.await?;
        Ok(())
    }
}

struct Session5 {
    client: rumqttc::v5::AsyncClient,
    counts: Arc<Counts>,
    driver: JoinHandle<()>,
}

impl Session5 {
    async fn new(at: &Where, name: &str) -> Result<Self, Error> {
        let mut options = rumqttc::v5::MqttOptions::new(name, &at.address, at.port);
        options
            .set_credentials(ACCOUNT, PLACEHOLDER)
            .set_keep_alive(Duration::from_secs(60));
        let (client, mut events) = rumqttc::v5::AsyncClient::new(options, 100);
        let counts = Arc::new(Counts::default());
        let told = Arc::clone(&counts);
        let driver = tokio::spawn(async move {
            use rumqttc::Outgoing;
            use rumqttc::v5::{Event, Incoming};
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Incoming::ConnAck(_)) => told.ready.fetch_add(1, Ordering::SeqCst),
                    Event::Incoming(Incoming::SubAck(_)) => told.subscribed.fetch_add(1, Ordering::SeqCst),
                    Event::Incoming(Incoming::Publish(_)) => told.arrived.fetch_add(1, Ordering::SeqCst),
                    Event::Incoming(Incoming::PubAck(_) | Incoming::PubComp(_)) => told.sent.fetch_add(1, Ordering::SeqCst),
                    Event::Outgoing(Outgoing::Publish(_)) => told.written.fetch_add(1, Ordering::SeqCst),
                    Event::Outgoing(Outgoing::Disconnect) => break,
                    _ => 0,
                };
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), events.poll()).await;
        });
        until(|| counts.ready.load(Ordering::SeqCst), 1).await?;
        Ok(Self { client, counts, driver })
    }

    async fn subscribe(&self, filter: &str, qos: u8) -> Result<(), Error> {
        self.client.subscribe(filter, qos5(qos)).await?;
        until(|| self.counts.subscribed.load(Ordering::SeqCst), 1).await
    }

    async fn close(self) -> Result<(), Error> {
        self.client.disconnect().await?;
        self.driver.await?;
        Ok(())
    }
}

fn qos5(level: u8) -> rumqttc::v5::mqttbytes::QoS {
    rumqttc::v5::mqttbytes::qos(level).expect("0, 1 or 2")
}

fn told(sent: u64, arrived: u64) -> Vec<Moved> {
    vec![Moved::messages("publish", sent), Moved::messages("subscribe", arrived)]
}

pub async fn run(verb: &str, at: &Where) -> Told {
    let qos = verb.as_bytes().last().map_or(0, |last| last.wrapping_sub(b'0'));
    match verb {
        "WebSocket" => pair3(at, 1, true).await,
        "topic alias" => pair5(at, 0, true).await,
        "shared subscription" => shared(at).await,
        "retained, wildcard replay" => retained(at).await,
        _ if verb.contains("3.1.1") => pair3(at, qos, false).await,
        _ => pair5(at, qos, false).await,
    }
}

/// Publishes that left and, with QoS 1 and 2, were acknowledged.
async fn settled(counts: &Counts, qos: u8, wanted: u64) -> Result<u64, Error> {
    let of = if qos == 0 { &counts.written } else { &counts.sent };
    until(|| of.load(Ordering::SeqCst), wanted).await?;
    Ok(of.load(Ordering::SeqCst))
}

async fn pair3(at: &Where, qos: u8, websocket: bool) -> Told {
    let topic = format!("north/rust/{qos}/{websocket}");
    let subscriber = Session3::new(at, &format!("rust-sub-{qos}-{websocket}"), websocket).await?;
    let publisher = Session3::new(at, &format!("rust-pub-{qos}-{websocket}"), websocket).await?;
    subscriber.subscribe(&topic, qos).await?;
    publisher.publish(&vec![topic; MESSAGES as usize], qos, false, PAYLOAD).await?;
    let sent = settled(&publisher.counts, qos, MESSAGES).await?;
    until(|| subscriber.counts.arrived.load(Ordering::SeqCst), MESSAGES).await?;
    let arrived = subscriber.counts.arrived.load(Ordering::SeqCst);
    publisher.close().await?;
    subscriber.close().await?;
    Ok(told(sent, arrived))
}

async fn pair5(at: &Where, qos: u8, alias: bool) -> Told {
    use rumqttc::v5::mqttbytes::v5::PublishProperties;
    let topic = format!("north/rust5/{qos}/{alias}");
    let subscriber = Session5::new(at, &format!("rust5-sub-{qos}-{alias}")).await?;
    let publisher = Session5::new(at, &format!("rust5-pub-{qos}-{alias}")).await?;
    subscriber.subscribe(&topic, qos).await?;
    for number in 0..MESSAGES {
        if alias {
            // The topic once, then the alias alone (OASIS MQTT 5.0, 3.3.2.3.4).
            let name = if number == 0 { topic.as_str() } else { "" };
            let properties = PublishProperties {
                topic_alias: Some(3),
                ..PublishProperties::default()
            };
            publisher
                .client
                .publish_with_properties(name, qos5(qos), false, PAYLOAD, properties)
                .await?;
        } else {
            publisher.client.publish(&topic, qos5(qos), false, PAYLOAD).await?;
        }
    }
    let sent = settled(&publisher.counts, qos, MESSAGES).await?;
    until(|| subscriber.counts.arrived.load(Ordering::SeqCst), MESSAGES).await?;
    let arrived = subscriber.counts.arrived.load(Ordering::SeqCst);
    publisher.close().await?;
    subscriber.close().await?;
    Ok(told(sent, arrived))
}

async fn shared(at: &Where) -> Told {
    let mut members = Vec::new();
    for number in 0..2 {
        let member = Session5::new(at, &format!("rust-member-{number}")).await?;
        member.subscribe("$share/rust/north/rust-shared/#", 1).await?;
        members.push(member);
    }
    let publisher = Session5::new(at, "rust-pub-shared").await?;
    for number in 0..MESSAGES {
        publisher
            .client
            .publish(format!("north/rust-shared/{number}"), qos5(1), false, PAYLOAD)
            .await?;
    }
    let sent = settled(&publisher.counts, 1, MESSAGES).await?;
    let arrived = || members.iter().map(|member| member.counts.arrived.load(Ordering::SeqCst)).sum();
    until(arrived, MESSAGES).await?;
    let arrived = arrived();
    publisher.close().await?;
    for member in members {
        member.close().await?;
    }
    Ok(told(sent, arrived))
}

async fn retained(at: &Where) -> Told {
    let topics: Vec<_> = (0..20).map(|line| format!("north/rust{line}/state")).collect();
    let publisher = Session3::new(at, "rust-retains", false).await?;
    let mut wanted = publisher.publish(&topics, 1, true, PAYLOAD).await?;
    settled(&publisher.counts, 1, wanted).await?;
    let late = Session3::new(at, "rust-late", false).await?;
    late.subscribe("north/+/state", 1).await?;
    until(|| late.counts.arrived.load(Ordering::SeqCst), 20).await?;
    let arrived = late.counts.arrived.load(Ordering::SeqCst);
    late.close().await?;
    wanted += publisher.publish(&topics, 1, true, b"").await?;
    let sent = settled(&publisher.counts, 1, wanted).await?;
    publisher.close().await?;
    Ok(told(sent, arrived))
}
