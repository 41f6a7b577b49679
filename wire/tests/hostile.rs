//! Traffic made to exhaust: every bound is reached, counted, and costs what it says. Memory is what the allocator gave.

use flate2::{Compression, write::GzEncoder};
use hopwatch_wire::packet::LinkType;
use hopwatch_wire::sensor::{Sensor, SensorOptions};
use hopwatch_wire::source::{FileSource, Source, Step};
use serde_json::Value;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Memory is the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator with the arguments it came with; the counters are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// What `run` gives, and the most bytes it held at once.
fn peak_of<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    (result, PEAK.load(Relaxed).saturating_sub(before))
}

const START_NS: i64 = 1_775_558_528_000_000_000;
const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A raw IPv4 packet with a TCP segment from client `number` to 10.9.9.9:4000, or back.
fn tcp(number: u32, back: bool, flags: u8, sequence: u32, acknowledgement: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let client = ((0x0a00_0000 + number / 50_000).to_be_bytes(), u16::try_from(10_000 + number % 50_000).unwrap());
    let server = ([10, 9, 9, 9], 4000);
    let (source, destination) = if back { (server, client) } else { (client, server) };
    packet.extend(source.0);
    packet.extend(destination.0);
    packet.extend(source.1.to_be_bytes());
    packet.extend(destination.1.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(acknowledgement.to_be_bytes());
    packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

fn see(sensor: &mut Sensor, time_ns: i64, packet: &[u8]) {
    sensor.frame(time_ns, LinkType::Raw, packet, u32::try_from(packet.len()).unwrap(), None);
}

fn events(sensor: &mut Sensor) -> Vec<Value> {
    sensor.windows.take().iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// `make test-long` takes the real bound and a million.
fn long() -> bool {
    std::env::var_os("MUTATIONS").is_some()
}

#[test]
fn a_flood_of_half_open_connections_evicts_itself_and_none_that_carries_data() {
    let _alone = ALONE.lock();
    let (bound, flood, talking) = if long() { (500_000, 1_000_000, 2000) } else { (20_000, 50_000, 200) };
    let options = SensorOptions { connections_max: Some(bound), ..SensorOptions::default() };
    let mut sensor = Sensor::new("north", "tap", options);
    let mut time_ns = START_NS;
    let mut tick = || {
        time_ns += 1000;
        time_ns
    };
    for number in 0..talking {
        see(&mut sensor, tick(), &tcp(number, false, SYN, 99, 0, b""));
        see(&mut sensor, tick(), &tcp(number, false, ACK, 100, 1, &[0xfe; 10]));
    }
    let ((), peak) = peak_of(|| {
        for number in talking..talking + flood {
            see(&mut sensor, tick(), &tcp(number, false, SYN, 99, 0, b""));
            sensor.windows.take();
        }
    });
    let c = &sensor.counters;
    let batch = bound as u64 / 16;
    let over = u64::from(talking + flood) - bound as u64;
    assert_eq!(c.evicted_total, over.div_ceil(batch) * batch, "evicted in sixteenths");
    assert_eq!(c.evicted_with_data_total, 0);
    assert!(peak < bound * 3000, "{peak} bytes for {bound} connections");
    // The ones that talked before the flood still are the same connections.
    for number in 0..talking {
        see(&mut sensor, tick(), &tcp(number, false, ACK, 110, 1, &[0xfe; 10]));
    }
    assert_eq!(sensor.counters.connections_total, u64::from(talking + flood));
}

#[test]
fn decoders_that_hold_too_much_together_cost_the_one_that_asks_its_reading_and_no_bytes() {
    let _alone = ALONE.lock();
    let run = |decoder_bytes_max| {
        let mut sensor = Sensor::new("north", "tap", SensorOptions { decoder_bytes_max, ..SensorOptions::default() });
        let mut given = 0;
        let startup = [&39_u32.to_be_bytes()[..], &[0, 3, 0, 0], b"user\0reader\0database\0postgres\0\0"].concat();
        for number in 0..40 {
            see(&mut sensor, START_NS, &tcp(number, false, SYN, 99, 0, b""));
            let mut sequence = 100;
            let mut say = |bytes: &[u8]| {
                see(&mut sensor, START_NS, &tcp(number, false, ACK, sequence, 1, bytes));
                sequence += u32::try_from(bytes.len()).unwrap();
                given += bytes.len() as u64;
            };
            say(&startup);
            for statement in 0..200 {
                // Parse: each keeps a named statement.
                let body = format!("s{statement}\0SELECT a, b, c FROM t{statement} WHERE d = $1\0\0\0");
                say(&[b"P", &u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], body.as_bytes()].concat());
            }
        }
        sensor.finish();
        let events = events(&mut sensor);
        let told: u64 =
            events.iter().filter(|e| e["kind"] == "flow").map(|e| e["bytes"].as_u64().unwrap() + e["bytes_back"].as_u64().unwrap()).sum();
        assert_eq!(told, given);
        let said = events.iter().filter(|e| e["kind"] == "loss" && e["stage"] == "decoder").count() as u64;
        let malformed = events.iter().filter(|e| e["completeness"]["state"] == "malformed").count();
        (sensor.counters.decoders_dropped_total, said, malformed)
    };
    assert_eq!(run(None), (0, 0, 0));
    let (dropped, said, malformed) = run(Some(1 << 20));
    assert!((10..40).contains(&dropped), "{dropped} of 40 connections were given up");
    assert_eq!((said, malformed), (dropped, 0));
}

/// Bytes of the heap that a connection holds once both ends have closed it, and when its windows have been told. It says
/// `statement` twenty times, each under a name of its own, and waits for no answer if `answered`.
fn held_by_a_closed_connection(answered: bool) -> (usize, usize) {
    let mut sensor = Sensor::new("north", "tap", SensorOptions::default());
    let message = |tag: &[u8], body: &[u8]| [tag, &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat();
    let mut said = [&39_u32.to_be_bytes()[..], &[0, 3, 0, 0], b"user\0reader\0database\0postgres\0\0"].concat();
    let mut answer = [message(b"R", &[0; 4]), message(b"Z", b"I")].concat();
    for statement in 0..20 {
        let body = format!("s{statement}\0SELECT a, b FROM t{statement}\0\0\0");
        said.extend(message(b"P", body.as_bytes()));
        answer.extend(message(b"1", b""));
    }
    said.extend(message(b"S", b""));
    answer.extend(message(b"Z", b"I"));
    let answer = if answered { answer } else { Vec::new() };
    let lengths = [&said, &answer].map(|bytes| u32::try_from(bytes.len()).unwrap());
    let ends = [100 + lengths[0], 500 + lengths[1]];
    let visit = |sensor: &mut Sensor, number: u32| {
        see(sensor, START_NS, &tcp(number, false, SYN, 99, 0, b""));
        see(sensor, START_NS, &tcp(number, true, SYN | ACK, 499, 100, b""));
        see(sensor, START_NS, &tcp(number, false, ACK, 100, 500, &said));
        see(sensor, START_NS, &tcp(number, true, ACK, 500, ends[0], &answer));
        see(sensor, START_NS, &tcp(number, true, FIN | ACK, ends[1], ends[0], b""));
        see(sensor, START_NS, &tcp(number, false, FIN | ACK, ends[0], ends[1] + 1, b""));
    };
    // What all connections share is there, and the tables are large enough.
    (0..2000).for_each(|number| visit(&mut sensor, number));
    sensor.finish();
    sensor.windows.take();
    let before = HELD.load(Relaxed);
    (0..2000).for_each(|number| visit(&mut sensor, 5000 + number));
    let closed = HELD.load(Relaxed).saturating_sub(before) / 2000;
    // After the wait for stragglers, before the connections leave the table.
    sensor.advance(START_NS + 1_500_000_000);
    sensor.windows.take();
    assert_eq!(sensor.counters.connections_total, 4000);
    (closed, HELD.load(Relaxed).saturating_sub(before) / 2000)
}

#[test]
fn a_connection_that_both_ends_closed_holds_no_decoder_and_when_it_is_told_no_windows() {
    let _alone = ALONE.lock();
    let (closed, told) = held_by_a_closed_connection(true);
    assert!(closed < 1200, "{closed} bytes a closed connection: its windows");
    assert!(told < 100, "{told} bytes one that is told, beside its place in the table");
    // What was asked and not answered is told when the wait is over.
    let (closed, told) = held_by_a_closed_connection(false);
    assert!(closed > 2000, "{closed} bytes, its decoder among them");
    assert!(told < 100, "{told} bytes one that is told, beside its place in the table");
}

#[test]
fn holes_in_very_many_connections_cost_a_packet_elsewhere_nothing() {
    let _alone = ALONE.lock();
    let mut sensor = Sensor::new("north", "tap", SensorOptions::default());
    for number in 0..2000 {
        see(&mut sensor, START_NS, &tcp(number, false, SYN, 99, 0, b""));
        see(&mut sensor, START_NS, &tcp(number, false, ACK, 200, 1, b"later"));
    }
    // Not acknowledged: nobody knows that anything is missing, and nothing is looked at again.
    assert_eq!(sensor.waiting(), 0);
    for number in 0..2000 {
        see(&mut sensor, START_NS, &tcp(number, true, ACK, 1, 205, b""));
    }
    assert_eq!(sensor.waiting(), 2000);
    sensor.advance(START_NS + 20_000_000);
    assert_eq!(sensor.waiting(), 0, "each was given up once");
    sensor.finish();
    assert_eq!(sensor.counters.lost_bytes_total, 2000 * 100);
}

/// What a capture of `records` frames of 1 MiB of zeros needs in memory, and how it ends.
fn read(bytes: Vec<u8>) -> ((u64, Option<String>), usize) {
    peak_of(|| {
        let mut source = match FileSource::from_reader("bomb", Box::new(Cursor::new(bytes)), None) {
            Ok(source) => source,
            Err(error) => return (0, Some(error.to_string())),
        };
        let mut frames = 0;
        loop {
            match source.read() {
                Ok(Step::Frame(_)) => frames += 1,
                Ok(_) => return (frames, None),
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    })
}

const PCAP: [u8; 24] = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 1, 0, 0, 0];
const RECORD: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0];

#[test]
fn a_gzip_bomb_is_read_piece_by_piece() {
    let _alone = ALONE.lock();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&PCAP).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..48 {
        gzip.write_all(&RECORD).unwrap();
        gzip.write_all(&zeros).unwrap();
    }
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 100_000, "{} bytes", bomb.len());
    let ((frames, error), peak) = read(bomb);
    assert_eq!((frames, error), (48, None));
    assert!(peak < 5 << 20, "{peak} bytes held");
}

/// A zstd frame of the window given (RFC 8878, 3.1.1.1.2) with the frames of a capture in blocks that repeat one byte.
fn zstd(window: u8, records: usize) -> Vec<u8> {
    let mut file = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
    let mut block = |kind: u32, size: usize, content: &[u8]| {
        file.extend((kind << 1 | u32::try_from(size).unwrap() << 3).to_le_bytes().iter().take(3));
        file.extend(content);
    };
    block(0, PCAP.len(), &PCAP);
    for _ in 0..records {
        block(0, RECORD.len(), &RECORD);
        for _ in 0..8 {
            block(1, 128 << 10, &[0]);
        }
    }
    file.extend([1, 0, 0]);
    file
}

#[test]
fn a_zstd_bomb_is_read_piece_by_piece_and_one_with_a_giant_window_is_refused() {
    let _alone = ALONE.lock();
    // 2 MiB of window.
    let ((frames, error), peak) = read(zstd(11 << 3, 48));
    assert_eq!((frames, error), (48, None));
    assert!(peak < 16 << 20, "{peak} bytes held");
    // 128 GiB.
    let ((frames, error), peak) = read(zstd(27 << 3, 4));
    assert!(frames == 0 && error.as_ref().is_some_and(|text| text.contains("compression")), "{frames} frames, {error:?}");
    assert!(peak < 16 << 20, "{peak} bytes held");
}

#[test]
fn numbers_near_the_wrap_are_numbers_like_others() {
    let _alone = ALONE.lock();
    for start in [u32::MAX - 30, u32::MAX - 1, u32::MAX, 0] {
        let mut sensor = Sensor::new("north", "tap", SensorOptions { conversations: true, ..SensorOptions::default() });
        see(&mut sensor, START_NS, &tcp(1, false, SYN, start, 0, b""));
        let at = |offset: u32| start.wrapping_add(1 + offset);
        // Out of order, over the wrap, one missing and acknowledged.
        for (offset, length) in [(20, 10), (0, 10), (10, 10), (40, 10)] {
            see(&mut sensor, START_NS, &tcp(1, false, ACK, at(offset), 1, &vec![0xfe; length]));
        }
        see(&mut sensor, START_NS, &tcp(1, true, ACK, 1, at(50), b""));
        sensor.finish();
        let said: Value = serde_json::from_slice(&sensor.take_conversations()[0]).unwrap();
        assert_eq!((said["stream_bytes_ab"].as_u64(), said["lost_bytes"].as_u64()), (Some(40), Some(10)), "from {start}");
    }
}
