//! Frames made here, events out: connections, conservation, loss, and that nothing is judged by how it was read.

use hopwatch_wire::packet::LinkType;
use hopwatch_wire::quality::Quality;
use hopwatch_wire::sensor::{Sensor, SensorOptions};
use hopwatch_wire::source::Frame;
use serde_json::Value;

const START_NS: i64 = 1_775_558_528_000_000_000;
const MS: i64 = 1_000_000;
const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;
const RST: u8 = 4;

#[derive(Clone, Copy, PartialEq)]
enum From {
    Client,
    Server,
}

/// An Ethernet frame with a TCP segment between 10.0.0.1:50000 and 10.0.0.2:4000.
fn tcp(from: From, flags: u8, sequence: u32, acknowledgement: u32, payload: &[u8], vlan: Option<u16>) -> Vec<u8> {
    let mut frame = vec![2; 12];
    if let Some(id) = vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(id.to_be_bytes());
    }
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let (client, server) = (([10, 0, 0, 1], 50_000_u16), ([10, 0, 0, 2], 4000_u16));
    let (source, destination) = if from == From::Client { (client, server) } else { (server, client) };
    frame.extend(source.0);
    frame.extend(destination.0);
    frame.extend(source.1.to_be_bytes());
    frame.extend(destination.1.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend(acknowledgement.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

struct Tap {
    sensor: Sensor,
    time_ns: i64,
}

impl Tap {
    fn new() -> Self {
        let options = SensorOptions { conversations: true, ..SensorOptions::default() };
        Self { sensor: Sensor::new("north", "tap-1", options), time_ns: START_NS }
    }

    fn see(&mut self, from: From, flags: u8, sequence: u32, acknowledgement: u32, payload: &[u8]) {
        self.see_on(None, from, flags, sequence, acknowledgement, payload);
    }

    fn see_on(&mut self, vlan: Option<u16>, from: From, flags: u8, sequence: u32, acknowledgement: u32, payload: &[u8]) {
        let frame = tcp(from, flags, sequence, acknowledgement, payload, vlan);
        self.time_ns += MS;
        self.sensor.frame(self.time_ns, LinkType::Ethernet, &frame, u32::try_from(frame.len()).unwrap(), None);
    }

    fn handshake(&mut self) {
        self.see(From::Client, SYN, 99, 0, b"");
        self.see(From::Server, SYN | ACK, 499, 100, b"");
        self.see(From::Client, ACK, 100, 500, b"");
    }

    fn events(&mut self) -> Vec<Value> {
        self.sensor.windows.take().iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    fn end(&mut self) -> Vec<Value> {
        self.sensor.finish();
        self.events()
    }
}

fn flows(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|e| e["kind"] == "flow").collect()
}

#[test]
fn an_answer_behind_a_clock_that_leaps_goes_on_with_the_connection_that_it_answers() {
    const YEARS_NS: i64 = 46 * 365 * 86_400_000 * MS;
    let conversations = |acknowledged: u32| {
        let mut tap = Tap::new();
        tap.see(From::Client, SYN, 99, 0, b"");
        tap.time_ns += YEARS_NS;
        tap.see(From::Server, SYN | ACK, 499, acknowledged, b"");
        tap.see(From::Client, ACK, 100, 500, b"");
        tap.see(From::Client, ACK, 100, 500, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let flows = tap.end();
        let lines = tap.sensor.take_conversations();
        let shown: Vec<Value> = lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
        let packets = shown.iter().map(|c| [&c["packets_ab"], &c["packets_ba"]].map(|n| n.as_u64().unwrap())).collect::<Vec<_>>();
        (packets, flows.iter().filter(|flow| flow["operation"] == "attempt").count())
    };
    assert_eq!(conversations(100), (vec![[3, 1]], 0));
    // One that answers something else is of another connection.
    assert_eq!(conversations(101), (vec![[1, 0], [1, 2]], 1));
}

#[test]
fn windows_of_one_moment_end_in_the_order_of_their_connections_and_stragglers_of_one_that_is_over_say_nothing() {
    let mut tap = Tap::new();
    let open = |tap: &mut Tap, vlan: u16, sequence: u32| {
        tap.see_on(Some(vlan), From::Client, SYN, sequence - 1, 0, b"");
        tap.see_on(Some(vlan), From::Server, SYN | ACK, 499, sequence, b"");
        tap.see_on(Some(vlan), From::Client, ACK, sequence, 500, &[0xfe; 100]);
    };
    let contexts = |tap: &mut Tap| {
        let events = tap.events();
        flows(&events)
            .iter()
            .map(|flow| (flow["context"].as_str().unwrap().to_owned(), flow["bytes"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    open(&mut tap, 1, 100);
    open(&mut tap, 2, 10_100);
    tap.see_on(Some(1), From::Client, FIN | ACK, 200, 500, b"");
    tap.see_on(Some(1), From::Server, FIN | ACK, 500, 201, b"");
    tap.time_ns += 2_000 * MS;
    // The first is told and over: its last segment once more, and its acknowledgement, change nothing.
    tap.see_on(Some(1), From::Client, FIN | ACK, 100, 501, &[0xfe; 100]);
    tap.see_on(Some(1), From::Server, ACK, 501, 201, b"");
    assert_eq!(contexts(&mut tap), [("vlan:1".to_owned(), 100), ("vlan:2".to_owned(), 100)]);
    // Its place is another's now, but not its turn.
    let later_ns = tap.time_ns + 10 * MS;
    open(&mut tap, 3, 20_100);
    for (vlan, sequence) in [(3, 20_200), (2, 10_200)] {
        tap.time_ns = later_ns + 2_000 * MS;
        tap.see_on(Some(vlan), From::Client, ACK, sequence, 500, &[0xfe; 7]);
    }
    tap.sensor.advance(later_ns + 5_000 * MS);
    assert_eq!(contexts(&mut tap), [("vlan:3".to_owned(), 100), ("vlan:2".to_owned(), 7), ("vlan:3".to_owned(), 7)]);
    assert!(flows(&tap.end()).is_empty());
}

#[test]
fn an_unknown_protocol_is_one_flow_from_who_opened_it_with_both_counts() {
    let mut tap = Tap::new();
    tap.handshake();
    tap.see(From::Client, ACK, 100, 500, &[0xfe; 300]);
    tap.see(From::Server, ACK, 500, 400, &[0xfd; 1000]);
    let events = tap.end();
    let flows = flows(&events);
    assert_eq!(flows.len(), 1);
    assert_eq!((flows[0]["operation"].as_str(), flows[0]["depth"].as_str()), (Some("transfer"), Some("sizes")));
    assert_eq!((flows[0]["bytes"].as_u64(), flows[0]["bytes_back"].as_u64()), (Some(300), Some(1000)));
    assert_eq!((flows[0]["source"]["port"].as_u64(), flows[0]["opened_by"].as_str()), (Some(50_000), Some("source")));
}

#[test]
fn a_connection_without_payload_is_one_attempt_soon_after_its_end() {
    let mut tap = Tap::new();
    tap.see(From::Client, SYN, 99, 0, b"");
    tap.see(From::Server, RST | ACK, 0, 100, b"");
    assert!(tap.events().is_empty());
    tap.time_ns += 2000 * MS;
    tap.sensor.advance(tap.time_ns);
    let events = tap.events();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0]["operation"].as_str(), events[0]["bytes"].as_u64()), (Some("attempt"), Some(0)));
    assert!(tap.end().is_empty());
}

#[test]
fn a_gap_is_a_loss_event_with_its_exact_length_and_the_flow_it_hit() {
    let mut tap = Tap::new();
    tap.handshake();
    tap.see(From::Client, ACK, 100, 500, &[0xfe; 100]);
    tap.see(From::Client, ACK, 1200, 500, &[0xfe; 100]);
    tap.see(From::Server, ACK, 500, 1300, b"");
    let events = tap.end();
    let loss: Vec<_> = events.iter().filter(|e| e["kind"] == "loss").collect();
    assert_eq!(loss.len(), 1);
    assert_eq!((loss[0]["stage"].as_str(), loss[0]["bytes"].as_u64()), (Some("stream"), Some(1000)));
    let hit: Vec<_> = flows(&events).into_iter().filter(|f| f["completeness"]["lost_bytes"].as_u64() > Some(0)).collect();
    assert_eq!(hit.len(), 1);
    assert_eq!(loss[0]["flows"][0], hit[0]["flow_id"]);
    assert_eq!(hit[0]["completeness"]["state"], "lossy");
    let bytes: u64 = flows(&events).iter().map(|f| f["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes, 200);
}

#[test]
fn a_new_syn_between_the_same_ends_is_another_connection() {
    let mut tap = Tap::new();
    tap.handshake();
    tap.see(From::Client, ACK | FIN, 100, 500, &[0xfe; 10]);
    tap.see(From::Server, ACK | FIN, 500, 111, b"");
    tap.see(From::Client, SYN, 90_000, 0, b"");
    tap.see(From::Client, ACK, 90_001, 1, &[0xfe; 20]);
    let events = tap.end();
    let bytes: Vec<_> = flows(&events).iter().map(|f| f["bytes"].as_u64().unwrap()).collect();
    assert_eq!(bytes, [10, 20]);
    assert_ne!(flows(&events)[0]["flow_id"], flows(&events)[1]["flow_id"]);
    assert_eq!(tap.sensor.take_conversations().len(), 2);
}

#[test]
fn a_syn_ack_with_another_number_begins_another_connection_unless_something_was_said() {
    let mut tap = Tap::new();
    tap.see(From::Server, SYN | ACK, 499, 100, b"");
    tap.see(From::Server, SYN | ACK, 9499, 200, b"");
    tap.see(From::Client, ACK, 200, 9500, &[0xfe; 10]);
    tap.see(From::Server, ACK, 9500, 210, &[0xfd; 20]);
    tap.see(From::Server, SYN | ACK, 77_000, 210, b"");
    let events = tap.end();
    let said: Vec<_> = flows(&events).iter().map(|f| (f["bytes"].as_u64().unwrap(), f["bytes_back"].as_u64().unwrap())).collect();
    assert_eq!(said, [(0, 0), (10, 20)]);
    assert!(events.iter().all(|e| e["kind"] == "flow"), "nothing is lost");
}

#[test]
fn an_open_connection_may_be_silent_and_a_half_open_one_is_forgotten() {
    let mut tap = Tap::new();
    tap.handshake();
    tap.time_ns += 300_000 * MS;
    tap.see(From::Client, ACK, 100, 500, &[0xfe; 10]);
    tap.sensor.finish();
    let lines = tap.sensor.take_conversations();
    assert_eq!(lines.len(), 1);
    assert_eq!(serde_json::from_slice::<Value>(&lines[0]).unwrap()["joined_late"], false);
    let mut tap = Tap::new();
    tap.see(From::Client, SYN, 99, 0, b"");
    tap.time_ns += 300_000 * MS;
    tap.see(From::Client, ACK, 100, 500, &[0xfe; 10]);
    tap.sensor.finish();
    assert_eq!(tap.sensor.take_conversations().len(), 2);
}

#[test]
fn bytes_that_the_capture_cut_off_are_stream_bytes_and_lost() {
    let mut tap = Tap::new();
    tap.handshake();
    let frame = tcp(From::Client, ACK, 100, 500, &[0xfe; 100], None);
    tap.sensor.frame(tap.time_ns, LinkType::Ethernet, &frame[..frame.len() - 60], u32::try_from(frame.len()).unwrap(), None);
    let events = tap.end();
    assert_eq!(flows(&events).iter().map(|f| f["bytes"].as_u64().unwrap()).sum::<u64>(), 40);
    let lost: u64 = events.iter().filter(|e| e["kind"] == "loss").map(|e| e["bytes"].as_u64().unwrap()).sum();
    let line: Value = serde_json::from_slice(&tap.sensor.take_conversations()[0]).unwrap();
    assert_eq!((lost, line["stream_bytes_ab"].as_u64(), line["cut_bytes_ab"].as_u64()), (60, Some(100), Some(60)));
}

#[test]
fn the_same_addresses_in_another_vlan_are_another_connection() {
    let mut tap = Tap::new();
    for (vlan, first) in [(Some(120), 99), (Some(130), 7099), (None, 77_099)] {
        tap.see_on(vlan, From::Client, SYN, first, 0, b"");
        tap.see_on(vlan, From::Client, ACK, first + 1, 500, &[0xfe; 5]);
    }
    let events = tap.end();
    let contexts: Vec<_> = flows(&events).iter().map(|f| f["context"].as_str()).collect();
    assert_eq!(contexts, [Some("vlan:120"), Some("vlan:130"), None]);
}

/// A handshake, a request and its answer: the server's side has the tag `back`.
fn each_direction_on_a_vlan_of_its_own(tap: &mut Tap, out: u16, back: u16, acknowledged: [u32; 2]) {
    tap.see_on(Some(out), From::Client, SYN, 99, 0, b"");
    tap.see_on(Some(back), From::Server, SYN | ACK, 499, acknowledged[0], b"");
    tap.see_on(Some(out), From::Client, ACK, 100, acknowledged[1], b"");
    tap.see_on(Some(out), From::Client, ACK, 100, acknowledged[1], &[0xfe; 30]);
    tap.see_on(Some(back), From::Server, ACK, 500, acknowledged[0] + 30, &[0xfd; 70]);
    tap.see_on(Some(out), From::Client, ACK, 130, acknowledged[1] + 70, b"");
}

#[test]
fn directions_on_two_vlans_are_one_connection_where_the_handshake_shows_it() {
    let mut tap = Tap::new();
    each_direction_on_a_vlan_of_its_own(&mut tap, 120, 220, [100, 500]);
    let events = tap.end();
    let flow = flows(&events)[0];
    assert_eq!(
        (flows(&events).len(), &flow["context"], &flow["bytes"], &flow["bytes_back"]),
        (1, &"vlan:120".into(), &30.into(), &70.into())
    );
    assert_eq!(flow["completeness"]["state"], "complete");
    let line: Value = serde_json::from_slice(&tap.sensor.take_conversations()[0]).unwrap();
    assert_eq!((&line["vlans"], &line["one_sided"]), (&serde_json::json!([120, 220]), &false.into()));
    assert_eq!((tap.sensor.pairs.joined_total, tap.sensor.pairs.learnt_total, tap.sensor.counters.connections_total), (1, 1, 1));
}

#[test]
fn numbers_that_do_not_fit_keep_networks_with_the_same_addresses_apart() {
    for acknowledged in [[101, 500], [100, 501], [7000, 9000]] {
        let mut tap = Tap::new();
        each_direction_on_a_vlan_of_its_own(&mut tap, 120, 220, acknowledged);
        assert_eq!(flows(&tap.end()).len(), 2, "{acknowledged:?}");
        assert_eq!((tap.sensor.pairs.joined_total, tap.sensor.pairs.learnt_total), (0, 0));
    }
    // Two cells whose connections are whole, with the same addresses and even the same numbers.
    let mut tap = Tap::new();
    for vlan in [120, 220] {
        each_direction_on_a_vlan_of_its_own(&mut tap, vlan, vlan, [100, 500]);
        tap.time_ns += 1_000 * MS; // Sooner, the same bytes are a mirror's copy.
    }
    assert_eq!((flows(&tap.end()).len(), tap.sensor.pairs.learnt_total), (2, 0));
}

/// A UDP datagram between 10.0.0.1:50000 and 10.0.0.2:4000.
fn udp(from: From, payload: &[u8], vlan: u16) -> Vec<u8> {
    let mut frame = tcp(from, 0, 0, 0, b"", Some(vlan));
    frame.truncate(18 + 20 + 4);
    let length = u16::try_from(8 + payload.len()).unwrap();
    frame[20..22].copy_from_slice(&(20 + length).to_be_bytes());
    frame[27] = 17;
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

#[test]
fn a_pair_that_was_learnt_joins_datagrams_that_answer_and_no_others() {
    let datagrams = |paired: bool, sights: &[(From, u16)]| {
        let mut tap = Tap::new();
        if paired {
            each_direction_on_a_vlan_of_its_own(&mut tap, 120, 220, [100, 500]);
        }
        for (number, &(from, vlan)) in (0..).zip(sights) {
            let frame = udp(from, &[number; 10], vlan);
            tap.time_ns += MS;
            tap.sensor.frame(tap.time_ns, LinkType::Ethernet, &frame, u32::try_from(frame.len()).unwrap(), None);
        }
        let events = tap.end();
        flows(&events).iter().filter(|f| f["transport"] == "udp").count()
    };
    let answer = [(From::Client, 120), (From::Server, 220), (From::Server, 220)];
    assert_eq!((datagrams(true, &answer), datagrams(false, &answer)), (1, 2));
    // Both directions in each: two networks.
    let cells = [(From::Client, 120), (From::Server, 120), (From::Client, 220), (From::Server, 220)];
    assert_eq!(datagrams(true, &cells), 2);
    assert_eq!(datagrams(true, &[(From::Client, 120), (From::Server, 230)]), 2, "no partner");
}

#[test]
fn joined_midway_is_said_and_the_lower_port_is_the_server() {
    let mut tap = Tap::new();
    tap.see(From::Server, ACK, 500, 400, &[0xfd; 70]);
    tap.see(From::Client, ACK, 400, 570, &[0xfe; 30]);
    let events = tap.end();
    assert_eq!(flows(&events)[0]["completeness"]["joined_late"], true);
    assert_eq!(flows(&events)[0]["source"]["port"].as_u64(), Some(50_000));
    assert_eq!(flows(&events)[0]["opened_by"], Value::Null);
    assert_eq!(flows(&events)[0]["bytes_back"].as_u64(), Some(70));
}

#[test]
fn a_straggler_after_the_end_is_counted_and_is_no_new_connection() {
    let mut tap = Tap::new();
    tap.handshake();
    tap.see(From::Client, ACK, 100, 500, &[0xfe; 10]);
    tap.see(From::Server, RST | ACK, 500, 110, b"");
    tap.time_ns += 3000 * MS;
    tap.see(From::Client, ACK, 110, 500, &[0xfe; 7]);
    let events = tap.end();
    assert_eq!(flows(&events).iter().map(|f| f["bytes"].as_u64().unwrap()).sum::<u64>(), 17);
    assert_eq!(tap.sensor.take_conversations().len(), 1);
}

#[test]
fn frames_that_cannot_be_read_are_a_capture_loss_not_silence() {
    let mut tap = Tap::new();
    let mut frame = tcp(From::Client, ACK, 1, 1, b"abc", None);
    frame[14] = 0x95;
    tap.sensor.frame(START_NS, LinkType::Ethernet, &frame, 57, None);
    let events = tap.end();
    assert_eq!((events[0]["stage"].as_str(), events[0]["packets"].as_u64()), (Some("capture"), Some(1)));
}

#[test]
fn kernel_drops_are_a_loss_of_their_own_kind() {
    let mut tap = Tap::new();
    tap.sensor.kernel_drops(120, START_NS, START_NS + 7 * MS);
    let events = tap.end();
    assert_eq!((events[0]["stage"].as_str(), events[0]["packets"].as_u64()), (Some("kernel"), Some(120)));
    assert_eq!(tap.sensor.counters.kernel_drops_total, 120);
}

#[test]
fn finishing_twice_adds_nothing_and_the_same_frames_give_the_same_events() {
    let run = || {
        let mut tap = Tap::new();
        tap.handshake();
        for i in 0..50 {
            tap.see(From::Client, ACK, 100 + i * 10, 500, &[0xfe; 10]);
            tap.time_ns += 100 * MS;
        }
        let events = tap.end();
        assert!(tap.end().is_empty());
        events
    };
    assert_eq!(run(), run());
    assert!(run().len() >= 4, "five seconds are several windows");
}

#[test]
fn hostile_frames_neither_panic_nor_create_bytes() {
    let mut seed = 7_u64;
    let mut draw = move || {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let mut tap = Tap::new();
    for _ in 0..20_000 {
        let from = if draw() % 2 == 0 { From::Client } else { From::Server };
        let payload = vec![0xfe; usize::try_from(draw() % 50).unwrap()];
        let mut frame = tcp(
            from,
            u8::try_from(draw() % 64).unwrap(),
            u32::try_from(draw() % 3000).unwrap(),
            u32::try_from(draw() % 3000).unwrap(),
            &payload,
            None,
        );
        let place = usize::try_from(draw()).unwrap_or(0) % frame.len();
        if draw() % 4 == 0 {
            frame[place] = draw().to_le_bytes()[0];
        }
        tap.time_ns += MS;
        tap.sensor.frame(tap.time_ns, LinkType::Ethernet, &frame, u32::try_from(frame.len()).unwrap(), None);
    }
    let events = tap.end();
    let told: u64 = flows(&events).iter().map(|f| f["bytes"].as_u64().unwrap() + f["bytes_back"].as_u64().unwrap()).sum();
    let seen: u64 = tap
        .sensor
        .take_conversations()
        .iter()
        .map(|line| serde_json::from_slice::<Value>(line).unwrap())
        .filter(|c| c["transport"] == "tcp")
        .map(|c| c["stream_bytes_ab"].as_u64().unwrap() + c["stream_bytes_ba"].as_u64().unwrap())
        .sum();
    let told_other: u64 = flows(&events)
        .iter()
        .filter(|f| f["transport"] != "tcp")
        .map(|f| f["bytes"].as_u64().unwrap() + f["bytes_back"].as_u64().unwrap())
        .sum();
    assert_eq!(told - told_other, seen);
    let ids: std::collections::BTreeSet<_> = events.iter().map(|e| e["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
}

#[test]
fn interfaces_of_one_tap_are_one_network_and_other_taps_are_others() {
    let of = |interface: &str, tap: &str| (interface.to_owned(), tap.to_owned());
    let taps = vec![of("eth1", "cell-1"), of("eth2", "cell-1"), of("eth3", "cell-2")];
    let mut tap = Tap::new();
    tap.sensor = Sensor::new("north", "tap-1", SensorOptions { conversations: true, taps, ..SensorOptions::default() });
    let names = ["eth1", "eth2", "eth3", "eth4"].map(std::sync::Arc::<str>::from);
    // The two directions of one connection on two interfaces; the same ends in another cell; and without a tap.
    for (client, server) in [(0, 1), (2, 2), (3, 3)] {
        tap.time_ns += 100 * MS; // Sooner, equal packets in another place would be copies.
        for (from, flags, sequence, acknowledgement, payload) in [
            (From::Client, SYN, 99, 0, &b""[..]),
            (From::Server, SYN | ACK, 499, 100, b""),
            (From::Client, ACK, 100, 500, &[0xfe; 30]),
            (From::Server, ACK, 500, 130, &[0xfd; 70]),
        ] {
            tap.sensor.tap(&names[if from == From::Client { client } else { server }]);
            tap.see(from, flags, sequence, acknowledgement, payload);
        }
    }
    let events = tap.end();
    let mut told: Vec<_> =
        flows(&events).iter().map(|flow| (flow["context"].as_str(), flow["tap"].as_str(), flow["bytes"].as_u64())).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [(None, Some("eth4"), Some(30)), (Some("tap:cell-1"), Some("cell-1"), Some(30)), (Some("tap:cell-2"), Some("cell-2"), Some(30))]
    );
}

/// The ClientHello of a recording of TLS.
fn hello() -> Vec<u8> {
    let text = include_str!("../../tests/data/tls/tls13.txt");
    let digits: Vec<u8> = text.lines().next().unwrap()[2..].bytes().collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

#[test]
fn tls_that_begins_later_is_read_and_what_came_before_stays_in_the_clear() {
    let mut tap = Tap::new();
    tap.handshake();
    let (greeting, command, answer, hello) = (b"220 mail\r\n", b"STARTTLS\r\n", b"220 ready\r\n", hello());
    tap.see(From::Server, ACK, 500, 100, greeting);
    tap.see(From::Client, ACK, 100, 510, command);
    tap.see(From::Server, ACK, 510, 110, answer);
    tap.see(From::Client, ACK, 110, 521, &hello);
    let events = tap.end();
    let flows = flows(&events);
    assert_eq!(flows.len(), 2);
    assert!(flows.iter().all(|f| f["operation"] == "transfer"));
    let said = |f: &Value| {
        (f["protection"]["transport"].clone(), f["bytes"].as_u64(), f["bytes_back"].as_u64(), f["destination"]["names"].clone())
    };
    assert_eq!(said(flows[0]), ("none".into(), Some(10), Some(21), Value::Array(Vec::new())));
    assert_eq!((flows[1]["protocol"].as_str(), flows[1]["bytes"].as_u64()), (Some("tls"), Some(hello.len() as u64)));
    assert_eq!(flows[1]["destination"]["names"][0]["name"], "mes-db.plant.example");
}

#[test]
fn a_connection_joined_at_a_keep_alive_is_recognised_at_its_next_request() {
    let mut tap = Tap::new();
    tap.see(From::Client, ACK, 100, 500, b"\0");
    tap.see(From::Server, ACK, 500, 101, b"");
    tap.see(From::Client, ACK, 101, 500, b"GET /a HTTP/1.1\r\nHost: reports\r\n\r\n");
    tap.see(From::Server, ACK, 500, 135, b"HTTP/1.1 204 No Content\r\n\r\n");
    let events = tap.end();
    let get: Vec<_> = flows(&events).into_iter().filter(|f| f["operation"] == "get").collect();
    assert_eq!(get.len(), 1);
    assert_eq!((get[0]["messages"].as_u64(), get[0]["objects"][0]["names"][0].as_str()), (Some(1), Some("/a")));
    assert_eq!(get[0]["completeness"]["joined_late"], true);
}

#[test]
fn quic_is_read_from_its_first_datagram_and_a_moved_client_takes_no_name_along() {
    let mut tap = Tap::new();
    let text = include_str!("../../tests/data/quic/retry.txt");
    for (number, line) in text.lines().enumerate() {
        let digits: Vec<u8> = line[2..].bytes().collect();
        let payload: Vec<u8> = digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect();
        // After the handshake the client goes on from another port (RFC 9000, 9).
        let port = if number < 8 { 50_000_u16 } else { 50_001 };
        let from = if line.starts_with('>') { From::Client } else { From::Server };
        let mut frame = tcp(from, 0, 0, 0, b"", None);
        frame.truncate(34);
        frame[16..18].copy_from_slice(&u16::try_from(28 + payload.len()).unwrap().to_be_bytes());
        frame[23] = 17;
        let ports = if from == From::Client { [port, 443] } else { [443, port] };
        frame.extend(ports.iter().flat_map(|p| p.to_be_bytes()));
        frame.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(&payload);
        tap.time_ns += MS;
        tap.sensor.frame(tap.time_ns, LinkType::Ethernet, &frame, u32::try_from(frame.len()).unwrap(), None);
    }
    let events = tap.end();
    let of = |port: u64| flows(&events).into_iter().filter(|f| f["source"]["port"] == port).collect::<Vec<_>>();
    let (first, moved) = (of(50_000), of(50_001));
    assert_eq!((first.len(), first[0]["protocol"].as_str(), first[0]["operation"].as_str()), (1, Some("quic"), Some("transfer")));
    assert_eq!(first[0]["destination"]["names"][0]["name"], "plant-north.lake.example-cloud.eu");
    assert_eq!((moved.len(), moved[0]["protocol"].as_str(), moved[0]["destination"]["names"].as_array().unwrap().len()), (1, None, 0));
    let told: u64 = flows(&events).iter().map(|f| f["bytes"].as_u64().unwrap() + f["bytes_back"].as_u64().unwrap()).sum();
    assert_eq!(told, text.lines().map(|line| (line.len() as u64 - 2) / 2).sum::<u64>());
}

/// Connections of a few clients, opened and closed again and again; segments lost, late, repeated, mirrored and cut off.
fn busy(seed: u64, frames_max: usize) -> Vec<(i64, Vec<u8>)> {
    let mut state = seed;
    let mut draw = move |below: u64| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % below
    };
    let mut next = [[0_u32; 2]; 5];
    let mut frames = Vec::new();
    let mut time_ns = START_NS;
    while frames.len() < frames_max {
        time_ns += draw(300_000) as i64;
        let client = draw(5) as usize;
        let from = if draw(2) == 0 { From::Client } else { From::Server };
        let (own, other) = (from as usize, 1 - from as usize);
        let (flags, bytes) = match draw(40) {
            0 => {
                next[client] = [draw(1 << 32) as u32, draw(1 << 32) as u32];
                (SYN | if from == From::Server { ACK } else { 0 }, 0)
            }
            1 => (FIN | ACK, draw(4)),
            2 if draw(4) == 0 => (RST, 0),
            3..=14 => (ACK, 0),
            _ => (ACK, 1 + draw(400)),
        };
        let back = draw(12) as u32 / 11 * draw(300) as u32;
        let [sequence, acknowledgement] = [next[client][own].wrapping_sub(back), next[client][other]];
        let mut frame = tcp(from, flags, sequence, acknowledgement, &vec![0xfe; bytes as usize], (client == 4).then_some(7));
        let port = frame.len() - bytes as usize - 20 + 2 * own;
        frame[port + 1] += client as u8;
        let identification = frame.len() - bytes as usize - 36;
        frame[identification..identification + 2].copy_from_slice(&(draw(1 << 16) as u16).to_be_bytes());
        let sent = next[client][own].wrapping_add(bytes as u32 + u32::from(flags & (SYN | FIN) != 0));
        next[client][own] = if back == 0 { sent } else { next[client][own] };
        let late_ns = if draw(20) == 0 { draw(12_000_000) as i64 } else { 0 };
        if draw(30) == 0 {
            frames.push((time_ns + late_ns + draw(60_000_000) as i64, frame.clone()));
        }
        if draw(50) == 0 {
            frame.truncate(frame.len() - (draw(1 + bytes) as usize));
        }
        if draw(40) > 0 {
            frames.push((time_ns + late_ns, frame));
        }
    }
    frames.sort_by_key(|(time_ns, _)| *time_ns);
    frames
}

#[test]
fn how_many_frames_are_given_at_a_time_and_which_way_they_are_read_changes_nothing() {
    let said = |frames: &[(i64, Vec<u8>)], in_general: bool, at_a_time: usize| {
        let mut sensor = Tap::new().sensor;
        // What is measured is read in the general way.
        sensor.quality = in_general.then(|| Box::new(Quality::new(Vec::new())));
        for some in frames.chunks(at_a_time) {
            let lent: Vec<_> = some
                .iter()
                .map(|(time_ns, data)| {
                    let wire_len = u32::try_from(data.len()).unwrap();
                    Frame { time_ns: *time_ns, link: LinkType::Ethernet, data, wire_len, vlan: None, interface: 0 }
                })
                .collect();
            sensor.frames(&lent);
        }
        // Nor does how many connections are ended at a time.
        while sensor.finish_some(if in_general { usize::MAX } else { at_a_time }) {}
        (sensor.windows.take(), sensor.take_conversations(), format!("{:?}", sensor.counters))
    };
    for seed in 1..=6 {
        let frames = busy(seed, 3000);
        let general = said(&frames, true, 1);
        assert!(general.0.len() > 50 && general.1.len() > 20, "{} events of {} conversations", general.0.len(), general.1.len());
        for at_a_time in [1, 2, 7, 32, 100] {
            assert!(said(&frames, false, at_a_time) == general, "seed {seed}, {at_a_time} at a time");
        }
    }
}
