//! Connections that plug-ins read: handed over whole, taken back where the queue is full, conserved in any case.

use hopwatch_wire::packet::LinkType;
use hopwatch_wire::sensor::{Sensor, SensorOptions};
use hopwatch_wire::slow::{Answer, HANDED_MAX, Item, Observation, QUEUE_BYTES_MAX, SlowPath, Wish};
use hopwatch_wire::windows::{Counts, Movement, Operation, Side};
use serde_json::Value;

const START_NS: i64 = 1_775_558_528_000_000_000;
const MS: i64 = 1_000_000;
const WISHES: &[Wish] = &[Wish { name: "gauge", transport: 6, port: 4000 }, Wish { name: "gauge", transport: 17, port: 4000 }];

struct Plant {
    sensor: Sensor,
    slow: SlowPath,
    time_ns: i64,
}

impl Plant {
    fn new() -> Self {
        let mut sensor = Sensor::new("north", "tap-1", SensorOptions::default());
        let (slow, outlet) = SlowPath::new("north", "tap-1", WISHES);
        sensor.hand_over(outlet);
        Self { sensor, slow, time_ns: START_NS }
    }

    /// A datagram, or a segment, between 10.0.0.1 and 10.0.0.2:4000.
    fn see(&mut self, protocol: u8, port: u16, from_client: bool, rest: &[u8]) {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(u16::try_from(24 + rest.len()).unwrap().to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        let ends = [([10, 0, 0, 1], port), ([10, 0, 0, 2], 4000)];
        let [from, to] = if from_client { ends } else { [ends[1], ends[0]] };
        frame.extend(from.0);
        frame.extend(to.0);
        frame.extend(from.1.to_be_bytes());
        frame.extend(to.1.to_be_bytes());
        frame.extend(rest);
        self.time_ns += MS;
        self.sensor.frame(self.time_ns, LinkType::Ethernet, &frame, u32::try_from(frame.len()).unwrap(), None);
    }

    fn tcp(&mut self, port: u16, from_client: bool, flags: u8, numbers: [u32; 2], payload: &[u8]) {
        let mut rest: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        rest.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        rest.extend(payload);
        self.see(6, port, from_client, &rest);
    }

    fn udp(&mut self, port: u16, from_client: bool, payload: &[u8]) {
        let mut rest = u16::try_from(8 + payload.len()).unwrap().to_be_bytes().to_vec();
        rest.extend([0, 0]);
        rest.extend(payload);
        self.see(17, port, from_client, &rest);
    }

    fn handshake(&mut self, port: u16) {
        self.tcp(port, true, 2, [99, 0], b"");
        self.tcp(port, false, 18, [499, 100], b"");
        self.tcp(port, true, 16, [100, 500], b"");
    }

    /// Answers all that waits: everything is a call.
    fn read(&mut self) {
        loop {
            self.slow.take();
            let answers: Vec<_> = self
                .slow
                .items()
                .map(|item| match item {
                    Some((_, "gauge", Item::Data(side, data))) => {
                        let mut bytes = [0; 2];
                        bytes[side as usize] = data.len() as u64;
                        let movement = Movement::new(Operation::Call, Side::Client);
                        Some(Answer::Said(vec![Observation { movement, counts: Counts::messages(1), bytes }]))
                    }
                    _ => None,
                })
                .collect();
            if answers.is_empty() {
                break;
            }
            self.slow.answer(answers);
        }
    }

    /// Events of the sensor and of the plug-ins.
    fn end(&mut self) -> [Vec<Value>; 2] {
        self.sensor.finish();
        self.read();
        [&mut self.sensor.windows, &mut self.slow.windows]
            .map(|windows| windows.take().iter().map(|line| serde_json::from_slice(line).unwrap()).collect())
    }
}

fn sum(events: &[Value], name: &str) -> u64 {
    events.iter().filter(|e| e["kind"] == "flow").map(|e| e[name].as_u64().unwrap()).sum()
}

#[test]
fn bytes_packets_and_gaps_are_those_of_the_connection() {
    let mut plant = Plant::new();
    plant.handshake(50_000);
    plant.tcp(50_000, true, 24, [100, 500], &[0; 10]);
    plant.tcp(50_000, false, 24, [500, 110], &[0; 20]);
    // 7 bytes of the client are acknowledged and were never seen.
    plant.tcp(50_000, true, 24, [117, 520], &[0; 5]);
    plant.tcp(50_000, false, 16, [520, 122], b"");
    plant.time_ns += 20 * MS;
    plant.tcp(50_000, true, 17, [122, 520], b"");
    plant.tcp(50_000, false, 17, [520, 123], b"");
    let [own, slow] = plant.end();
    assert_eq!(own, Vec::<Value>::new());
    assert_eq!((sum(&slow, "bytes"), sum(&slow, "bytes_back"), sum(&slow, "packets")), (15, 20, 9));
    let losses: Vec<_> = slow.iter().filter(|e| e["kind"] == "loss").map(|e| (e["bytes"].clone(), e["stage"].clone())).collect();
    assert_eq!(losses, [(7.into(), "stream".into())]);
    let flows: Vec<_> = slow.iter().filter(|e| e["kind"] == "flow").collect();
    assert_eq!(flows.iter().map(|e| e["completeness"]["lost_bytes"].as_u64().unwrap()).sum::<u64>(), 7);
    assert!(flows.iter().all(|e| e["protocol"] == "gauge" && e["depth"] == "decoded" && e["opened_by"] == "source"));
}

#[test]
fn a_late_answer_changes_no_window() {
    let play = |at_once: bool| {
        let mut plant = Plant::new();
        plant.handshake(50_000);
        for at in 0..50_u32 {
            plant.tcp(50_000, true, 24, [100 + 4 * at, 500], &[0; 4]);
            plant.time_ns += 100 * MS;
            if at_once {
                plant.read();
            }
        }
        plant.end()
    };
    let [own, slow] = play(true);
    assert_eq!(play(false), [own, slow.clone()]);
    assert_eq!((slow.len(), sum(&slow, "messages")), (5, 50));
}

#[test]
fn what_finds_no_room_is_counted_by_the_sensor_from_there_on() {
    let mut plant = Plant::new();
    plant.handshake(50_000);
    let (piece, count) = (vec![0; 1400], u32::try_from(QUEUE_BYTES_MAX / 1400 + 500).unwrap());
    for at in 0..count {
        plant.tcp(50_000, true, 24, [100 + 1400 * at, 500], &piece);
    }
    // It stays so, also when there is room again.
    plant.read();
    plant.tcp(50_000, true, 24, [100 + 1400 * count, 500], &piece);
    let counters = plant.slow.counters();
    let [own, slow] = plant.end();
    assert_eq!((counters.handed_total, counters.taken_back_total), (1, 1));
    assert_eq!(sum(&own, "bytes") + sum(&slow, "bytes"), 1400 * u64::from(count + 1));
    assert!(sum(&own, "bytes") >= 1400 * 500 && sum(&slow, "bytes") <= QUEUE_BYTES_MAX as u64);
    assert_eq!(sum(&own, "packets") + sum(&slow, "packets"), u64::from(count) + 4);
    let words = |events: &[Value], name: &str| {
        let mut words: Vec<_> = events.iter().filter(|e| e["kind"] == "flow").map(|e| e[name].as_str().unwrap().to_owned()).collect();
        words.sort();
        words.dedup();
        words
    };
    assert_eq!((words(&own, "depth"), words(&slow, "depth")), (vec!["sizes".to_owned()], vec!["decoded".to_owned()]));
    assert_eq!(words(&own, "connection"), words(&slow, "connection"));
    assert!(words(&own, "flow_id").iter().all(|id| !words(&slow, "flow_id").contains(id)));
    assert!(own.iter().any(|e| e["why"].as_str().is_some_and(|why| why.ends_with("its decoder is too slow; counted as bytes from here"))));
}

#[test]
fn connections_beyond_the_bound_are_counted_from_their_beginning() {
    let mut plant = Plant::new();
    let count = u16::try_from(HANDED_MAX + 5).unwrap();
    for port in 10_000..10_000 + count {
        plant.udp(port, true, b"\x00\x01\x02");
    }
    let counters = plant.slow.counters();
    assert_eq!((counters.handed_total, counters.refused_total), (HANDED_MAX as u64, 5));
    let [own, slow] = plant.end();
    assert_eq!((sum(&own, "bytes"), sum(&slow, "bytes")), (15, 3 * HANDED_MAX as u64));
    // They are over, so there is room again.
    plant.udp(9, true, b"\x00\x01\x02");
    assert_eq!(plant.slow.counters().handed_total, HANDED_MAX as u64 + 1);
}

#[test]
fn a_datagram_is_one_piece_and_the_port_tells_the_server() {
    let mut plant = Plant::new();
    plant.udp(50_000, false, b"\x00answer");
    plant.udp(50_000, true, b"\x00ask");
    plant.slow.take();
    let seen: Vec<_> = plant.slow.items().flatten().map(|(_, _, item)| format!("{item:?}")).collect();
    assert_eq!(seen, [format!("{:?}", Item::Data(Side::Server, b"\x00answer")), format!("{:?}", Item::Data(Side::Client, b"\x00ask"))]);
}
