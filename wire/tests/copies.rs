//! A mirror that shows packets twice: each counts once, and the copies are counted.

use hopwatch_wire::copies::{COPY_NS, PACKETS_MAX, REPEAT_NS};
use hopwatch_wire::packet::LinkType;
use hopwatch_wire::sensor::{Sensor, SensorOptions};
use serde_json::Value;

const START_NS: i64 = 1_775_558_528_000_000_000;
const MS: i64 = 1_000_000;
const SYN: u8 = 2;
const ACK: u8 = 16;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// One IPv4 packet and where it is seen. Ends are 10.0.0.1:50000 (client) and 10.0.0.2:4000.
#[derive(Clone)]
struct Sight {
    protocol: u8,
    from_client: bool,
    identification: u16,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    payload: Vec<u8>,
    hops: u8,
    mac: u8,
    vlan: Option<u16>,
}

fn segment(from_client: bool, flags: u8, sequence: u32, acknowledgement: u32, payload: &[u8]) -> Sight {
    let identification = 7000_u16.wrapping_add((sequence ^ acknowledgement) as u16) | 1;
    let payload = payload.to_vec();
    Sight { protocol: TCP, from_client, identification, flags, sequence, acknowledgement, payload, hops: 64, mac: 2, vlan: None }
}

fn datagram(from_client: bool, payload: &[u8]) -> Sight {
    Sight { protocol: UDP, ..segment(from_client, 0, 1, 0, payload) }
}

impl Sight {
    fn vlan(&self, vlan: u16) -> Self {
        Self { vlan: Some(vlan), ..self.clone() }
    }
    /// Behind a router: one hop less, other MAC addresses.
    fn routed(&self) -> Self {
        Self { hops: self.hops - 1, mac: self.mac ^ 0x40, ..self.clone() }
    }
    fn mac(&self, mac: u8) -> Self {
        Self { mac, ..self.clone() }
    }
    fn identified(&self, identification: u16) -> Self {
        Self { identification, ..self.clone() }
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![self.mac; 12];
        if let Some(id) = self.vlan {
            frame.extend([0x81, 0x00]);
            frame.extend(id.to_be_bytes());
        }
        let header_bytes = if self.protocol == TCP { 20 } else { 8 };
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(u16::try_from(20 + header_bytes + self.payload.len()).unwrap().to_be_bytes());
        frame.extend(self.identification.to_be_bytes());
        frame.extend([0x40, 0, self.hops, self.protocol, 0, 0]);
        let (client, server) = (([10, 0, 0, 1], 50_000_u16), ([10, 0, 0, 2], 4000_u16));
        let (source, destination) = if self.from_client { (client, server) } else { (server, client) };
        frame.extend(source.0);
        frame.extend(destination.0);
        frame.extend(source.1.to_be_bytes());
        frame.extend(destination.1.to_be_bytes());
        if self.protocol == TCP {
            frame.extend(self.sequence.to_be_bytes());
            frame.extend(self.acknowledgement.to_be_bytes());
            frame.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        } else {
            frame.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
            frame.extend([0, 0]);
        }
        frame.extend(&self.payload);
        frame
    }
}

struct Seen {
    flows: Vec<Value>,
    conversations: Vec<Value>,
    copies: u64,
    sensor: Sensor,
}

impl Seen {
    /// What the flows say, boundaries and packets included.
    fn ids_and_counts(&self) -> Vec<(String, u64, u64, u64)> {
        let number = |flow: &Value, name: &str| flow[name].as_u64().unwrap();
        let said = |flow: &Value| {
            let id = flow["event_id"].as_str().unwrap().to_owned();
            (id, number(flow, "bytes"), number(flow, "bytes_back"), number(flow, "packets"))
        };
        self.flows.iter().map(said).collect()
    }
}

/// Sights with their times after the start.
fn see(sights: &[(i64, Sight)]) -> Seen {
    let options = SensorOptions { conversations: true, ..SensorOptions::default() };
    let mut sensor = Sensor::new("north", "tap-1", options);
    for (after_ns, sight) in sights {
        let frame = sight.frame();
        sensor.frame(START_NS + after_ns, LinkType::Ethernet, &frame, u32::try_from(frame.len()).unwrap(), None);
    }
    sensor.finish();
    let read = |lines: Vec<Vec<u8>>| lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect::<Vec<Value>>();
    let flows = read(sensor.windows.take()).into_iter().filter(|e| e["kind"] == "flow").collect();
    Seen { flows, conversations: read(sensor.take_conversations()), copies: sensor.counters.copies_total, sensor }
}

/// A connection of seven packets, 3 ms apart.
fn connection() -> Vec<(i64, Sight)> {
    let sights = [
        segment(true, SYN, 99, 0, b""),
        segment(false, SYN | ACK, 499, 100, b"").identified(0),
        segment(true, ACK, 100, 500, b""),
        segment(true, ACK, 100, 500, &[0xfe; 300]),
        segment(false, ACK, 500, 400, &[0xfd; 1000]),
        segment(false, ACK, 1500, 400, &[0xfd; 700]),
        segment(true, ACK, 400, 2200, b""),
    ];
    sights.into_iter().enumerate().map(|(i, sight)| (3 * MS * i as i64, sight)).collect()
}

/// Each sight, and after `delay_ns` once more as `again` makes it; in the order of time.
fn mirrored(sights: &[(i64, Sight)], delay_ns: i64, again: impl Fn(&Sight) -> Sight) -> Vec<(i64, Sight)> {
    let copies = sights.iter().map(|(after_ns, sight)| (after_ns + delay_ns, again(sight)));
    let mut all: Vec<_> = sights.iter().cloned().chain(copies).collect();
    all.sort_by_key(|(after_ns, _)| *after_ns);
    all
}

#[test]
fn a_mirrored_connection_gives_the_same_flows_as_a_plain_one() {
    let unnumbered: Vec<_> = connection().into_iter().map(|(after_ns, sight)| (after_ns, sight.identified(0))).collect();
    let plain = see(&connection());
    type Again = fn(&Sight) -> Sight;
    let mirrors: [(&str, i64, Again); 6] = [
        ("nothing", 40_000, Sight::clone),
        ("another tag", 40_000, |sight| sight.vlan(20)),
        ("a router", 40_000, Sight::routed),
        ("a router into another VLAN, late", 49 * MS, |sight| sight.routed().vlan(20)),
        ("another MAC address", 40_000, |sight| sight.mac(9)),
        ("a bridge between two VLANs, late", 49 * MS, |sight| sight.vlan(20)),
    ];
    for (what, delay_ns, again) in mirrors {
        for sights in [connection(), unnumbered.clone()] {
            let seen = see(&mirrored(&sights, delay_ns, again));
            assert_eq!(seen.ids_and_counts(), plain.ids_and_counts(), "{what}");
            assert_eq!(seen.copies, 7, "{what}");
            assert_eq!(seen.conversations.len(), 1, "{what}");
        }
    }
}

#[test]
fn inspect_counts_every_packet_and_says_which_were_copies() {
    let seen = see(&mirrored(&connection(), 40_000, |sight| sight.routed().vlan(20)));
    let one = &seen.conversations[0];
    assert_eq!((one["packets_ab"].as_u64(), one["copies_ab"].as_u64()), (Some(8), Some(4)));
    assert_eq!((one["packets_ba"].as_u64(), one["copies_ba"].as_u64()), (Some(6), Some(3)));
    assert_eq!((one["payload_bytes_ba"].as_u64(), one["stream_bytes_ba"].as_u64()), (Some(3400), Some(1700)));
    assert_eq!(one["vlans"], serde_json::json!([20]));
}

#[test]
fn both_sides_of_a_router_are_one_connection_in_the_context_seen_first() {
    // What the server sends is seen in VLAN 20 first.
    let mut sights = Vec::new();
    for (after_ns, sight) in connection() {
        let (first, second) = if sight.from_client { (10, 20) } else { (20, 10) };
        sights.extend([(after_ns, sight.vlan(first)), (after_ns + 40_000, sight.routed().vlan(second))]);
    }
    let (seen, plain) = (see(&sights), see(&connection()));
    assert_eq!((seen.copies, seen.conversations.len()), (7, 1));
    assert!(seen.flows.iter().all(|flow| flow["context"] == "vlan:10" && flow["completeness"]["one_sided"] == false));
    let counts =
        |seen: &Seen| seen.ids_and_counts().into_iter().map(|(_, bytes, back, packets)| (bytes, back, packets)).collect::<Vec<_>>();
    assert_eq!(counts(&seen), counts(&plain));
}

#[test]
fn a_routed_connection_joined_midway_is_one_as_soon_as_a_copy_tells() {
    // Both directions begin before a copy of either is seen: the younger of the two gives way.
    let mut sights = vec![
        (0, segment(true, ACK, 100, 500, &[0xfe; 10]).vlan(10)),
        (10_000, segment(false, ACK, 500, 110, &[0xfd; 20]).vlan(20)),
        (40_000, segment(true, ACK, 100, 500, &[0xfe; 10]).routed().vlan(20)),
        (50_000, segment(false, ACK, 500, 110, &[0xfd; 20]).routed().vlan(10)),
    ];
    for i in 0..20 {
        let after_ns = MS * i64::from(i + 1);
        let sight = segment(false, ACK, 520 + i * 100, 110, &[0xfd; 100]);
        sights.extend([(after_ns, sight.vlan(20)), (after_ns + 40_000, sight.routed().vlan(10))]);
    }
    let seen = see(&sights);
    assert_eq!((seen.copies, seen.conversations.len()), (22, 2));
    let bytes = |context: &str, name: &str| -> u64 {
        seen.flows.iter().filter(|flow| flow["context"] == context).map(|flow| flow[name].as_u64().unwrap()).sum()
    };
    assert_eq!((bytes("vlan:10", "bytes"), bytes("vlan:10", "bytes_back")), (10, 2000));
    assert_eq!(bytes("vlan:20", "bytes") + bytes("vlan:20", "bytes_back"), 20);
}

#[test]
fn a_retransmission_is_no_copy() {
    let mut sights = connection();
    let again = segment(false, ACK, 500, 400, &[0xfd; 1000]);
    sights.push((sights[4].0 + 5 * MS, again.identified(31)));
    sights.push((sights[4].0 + 5 * MS, again.identified(0)));
    sights.push((sights[4].0 + 5 * MS + REPEAT_NS + 2048, again.identified(0)));
    sights.sort_by_key(|(after_ns, _)| *after_ns);
    let seen = see(&sights);
    assert_eq!(seen.copies, 0);
    assert_eq!(seen.conversations[0]["packets_ba"], 6);
    assert_eq!(seen.conversations[0]["stream_bytes_ba"], 1700);
}

#[test]
fn a_packet_without_identification_is_a_copy_at_once_or_elsewhere() {
    let sent = datagram(false, b"status ok").identified(0);
    let copies = |after_ns, again: Sight| see(&[(0, sent.clone()), (after_ns, again)]).copies;
    assert_eq!(copies(REPEAT_NS - 2048, sent.clone()), 1);
    assert_eq!(copies(REPEAT_NS + 2048, sent.clone()), 0, "sent twice");
    assert_eq!(copies(20 * MS, sent.vlan(20)), 1);
    assert_eq!(copies(20 * MS, sent.routed()), 1);
    assert_eq!(copies(20 * MS, sent.routed().vlan(20)), 1);
    assert_eq!(copies(40_000, Sight { payload: b"status no".to_vec(), ..sent.clone() }), 0);
}

#[test]
fn the_same_message_of_another_machine_with_the_same_addresses_is_no_copy() {
    let cell = |mac, vlan| datagram(false, b"cyclic").identified(0).mac(mac).vlan(vlan);
    let seen = see(&[(0, cell(2, 10)), (30_000, cell(3, 20)), (60_000, cell(4, 30))]);
    assert_eq!((seen.copies, seen.conversations.len()), (0, 3));
}

#[test]
fn a_copy_comes_within_fifty_milliseconds() {
    let sent = datagram(false, b"status ok");
    assert_eq!(see(&[(0, sent.clone()), (COPY_NS - 2048, sent.clone())]).copies, 1);
    assert_eq!(see(&[(0, sent.clone()), (COPY_NS + 2048, sent)]).copies, 0);
}

#[test]
fn three_sights_are_two_copies_and_several_contexts_stay_bounded() {
    let sent = datagram(false, b"status ok");
    let sights: Vec<_> = (0..20).map(|i| (i64::from(i) * 40_000, sent.vlan(10 + i))).collect();
    let seen = see(&sights);
    assert_eq!((seen.copies, seen.conversations.len()), (19, 1));
    assert_eq!(seen.sensor.counters.contexts_dropped_total, 11);
}

#[test]
fn packets_forgotten_too_early_are_counted() {
    let numbered = |i: usize| (i as i64, datagram(false, &i.to_be_bytes()));
    let few: Vec<_> = (0..PACKETS_MAX / 64).map(numbered).collect();
    assert_eq!(see(&few).sensor.copies.unwatched_total, 0);
    let many: Vec<_> = (0..2 * PACKETS_MAX).map(numbered).collect();
    let seen = see(&many);
    assert_eq!(seen.copies, 0);
    assert!(seen.sensor.copies.unwatched_total >= PACKETS_MAX as u64);
}

#[test]
fn a_clock_that_goes_back_or_stands_still_gives_no_two_connections_one_id() {
    let ids = |seen: &Seen| seen.flows.iter().map(|flow| flow["event_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let distinct = |seen: &Seen| {
        let mut all = ids(seen);
        all.sort();
        all.dedup();
        all.len()
    };
    let hour = 3600 * 1000 * MS;
    // An idle connection is closed by a time that then turns out to be wrong.
    let asked = |i: u8| datagram(true, &[i; 8]);
    let other = |i: u32| segment(true, SYN, 99 + i * 7000, 0, b"");
    let back = [(0, asked(1)), (10 * hour, other(1)), (0, asked(2)), (20 * hour, other(2)), (0, asked(3)), (20 * hour, other(3))];
    let seen = see(&back);
    assert_eq!((seen.flows.len(), distinct(&seen)), (6, 6));
    assert_eq!(ids(&seen), ids(&see(&back)), "the same packets give the same ids");
    // Three connections of the same ends at one time.
    let still: Vec<_> = [99, 7099, 88_099].map(|first| (0, segment(true, SYN, first, 0, b""))).to_vec();
    let seen = see(&still);
    assert_eq!((seen.flows.len(), distinct(&seen)), (3, 3));
}

#[test]
fn an_answer_that_overtakes_the_copy_of_its_question_is_of_the_same_connection() {
    let mut sights = Vec::new();
    for (i, (_, sight)) in connection().into_iter().enumerate() {
        let after_ns = 10_000 * i as i64;
        let (first, second) = if sight.from_client { (10, 20) } else { (20, 10) };
        sights.extend([(after_ns, sight.vlan(first)), (after_ns + 25_000, sight.routed().vlan(second))]);
    }
    sights.sort_by_key(|(after_ns, _)| *after_ns);
    let (seen, plain) = (see(&sights), see(&connection()));
    assert_eq!((seen.copies, seen.conversations.len()), (7, 1));
    let total = |seen: &Seen, name: &str| seen.flows.iter().map(|flow| flow[name].as_u64().unwrap()).sum::<u64>();
    for name in ["bytes", "bytes_back", "packets"] {
        assert_eq!(total(&seen, name), total(&plain, name), "{name}");
    }
    assert_eq!(seen.flows[0]["opened_by"], plain.flows[0]["opened_by"]);
}
