//! What must hold whatever the bytes are. A failure is a panic.

use crate::{heap, input};
use hopwatch_wire::packet::LinkType;
use hopwatch_wire::protocols::testing::{self, MEMORY_BYTES_MAX, Played, Recording, Step};
use hopwatch_wire::protocols::{Options, Protocol};
use hopwatch_wire::quality::{Net, Quality};
use hopwatch_wire::sensor::{Sensor, SensorOptions};
use hopwatch_wire::source::{FRAMES_MAX as FRAMES_AT_A_TIME, FileSource, Frame, Source, Step as Read, Turn};
use hopwatch_wire::stream::{HELD_BYTES_MAX, Piece, Segment, Stream};
use hopwatch_wire::{sql, windows};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What one input of the fuzzer may make the packet path hold, windows and events included.
const HEAP_BYTES_MAX: usize = 64 << 20;
/// Bytes of a recording, from where it begins, that most inputs play.
const SECRETS_BYTES_MAX: usize = 1500;
/// Frames that one input may make a file give: a bomb is read piece by piece, and there is no end to wait for.
const FRAMES_MAX: usize = 20_000;

/// What costs many times the reading itself (other segmentations, events read again, everything twice) is checked of one input in so
/// many, chosen by its bytes: the fuzzer comes by as many more of them. Whoever sets nothing checks everything.
pub static THOROUGH_EVERY: AtomicU64 = AtomicU64::new(1);
/// Inputs that were.
pub static THOROUGH_TOTAL: AtomicU64 = AtomicU64::new(0);

fn sum_of(data: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    let words = data.chunks_exact(8);
    let rest = words.remainder().iter().fold(data.len() as u64, |sum, byte| mix(sum, u64::from(*byte)));
    words.fold(rest, |sum, word| mix(sum, word.try_into().map_or(0, u64::from_le_bytes)))
}

fn thorough(data: &[u8]) -> bool {
    let every = THOROUGH_EVERY.load(Relaxed);
    let thorough = every < 2 || (sum_of(data) >> 20) % every == 0;
    THOROUGH_TOTAL.fetch_add(u64::from(thorough), Relaxed);
    thorough
}

/// The decoder conserves bytes, holds what it says and no more than it may, and does not care how bytes are cut.
pub fn decoder(protocol: &Protocol, data: &[u8], datagrams: bool) {
    let Some((&options, rest)) = data.split_first() else { return };
    let options = Options { facts: options & 2 != 0, midstream: options & 1 != 0 };
    let steps = input::steps(rest);
    let mut decoder = (protocol.decoder)(options);
    if !thorough(data) {
        let (fed, peak) = heap::peak_of(|| testing::feed(&mut *decoder, &steps));
        assert!(peak <= HEAP_BYTES_MAX, "{peak} bytes were held at once");
        return held(fed.memory_bytes_max);
    }
    let (whole, peak) = heap::peak_of(|| testing::play_with(&mut *decoder, &steps));
    assert!(peak <= HEAP_BYTES_MAX, "{peak} bytes were held at once");
    held(whole.memory_bytes_max);
    testing::assert_conserved(&whole);
    let said = decoder.memory_bytes();
    let before = heap::held();
    drop(decoder);
    let really = before.saturating_sub(heap::held());
    assert!(really <= 4 * said + (256 << 10), "it held {really} bytes and said {said}");
    if datagrams {
        return;
    }
    let seed = data.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let parts = input::split(&steps, seed);
    let other = testing::play((protocol.decoder)(options), &parts);
    testing::assert_conserved(&other);
    held(other.memory_bytes_max);
    // Where a stream begins in the middle, or goes on behind a gap, the next frame is looked for, and where a segment
    // begins is a good place to look.
    if options.midstream || steps.iter().any(|step| matches!(step, Step::Gap(..))) {
        return;
    }
    // So it is in a tunnel whose content nobody reads: TLS may begin there later.
    let tunnelled = |played: &Played| testing::sums(&played.events).keys().any(|key| key.starts_with("transfer"));
    if matches!(protocol.name, "http" | "socks") && (tunnelled(&whole) || tunnelled(&other)) {
        return;
    }
    // And behind an upgrade that a server of HTTP grants in the clear to who began with TLS: what is there is told by the bytes of one side that
    // are there first.
    if protocol.name == "tls" && is_upgrade_in_clear(&steps) {
        return;
    }
    if std::env::var_os("FUZZ_SHOW").is_some() {
        for (name, steps, played) in [("whole", &steps, &whole), ("parts", &parts, &other)] {
            println!("== {name}: {:?}", played.error);
            for step in steps {
                if let Step::Data(side, bytes) = step {
                    println!("{side:?} {}", bytes.escape_ascii());
                }
            }
            for (key, sum) in testing::sums(&played.events) {
                println!("   {key} {sum:?}");
            }
        }
    }
    assert_eq!(other.error.is_some(), whole.error.is_some(), "refused in one segmentation alone: {:?} {:?}", whole.error, other.error);
    assert_eq!(testing::sums(&other.events), testing::sums(&whole.events), "another segmentation");
}

fn is_upgrade_in_clear(steps: &[Step<'_>]) -> bool {
    let from_server = |step: &Step<'_>| if let Step::Data(testing::SERVER, bytes) = step { bytes.to_vec() } else { Vec::new() };
    let said: Vec<u8> = steps.iter().flat_map(from_server).collect();
    said.starts_with(b"HTTP/1.") && said.windows(4).any(|status| status == b" 101")
}

const TOPICS: [&str; 8] = [
    "spBv1.0/g/NBIRTH/e",
    "spBv1.0/g/DBIRTH/e/d",
    "spBv1.0/g/NDATA/e",
    "spBv1.0/g/DDATA/e/d",
    "spBv1.0/g/DCMD/e/d",
    "opcua/json/data/p",
    "opcua/uadp/data/p",
    "opcua/uadp/action-request/p",
];

/// Payloads whose values are counted, each published whole on a topic that its control byte chooses: whatever they are, every
/// message counts, none has more values than bytes, and how they are cut changes nothing.
pub fn payloads(data: &[u8]) {
    let mut packets = vec![b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c".to_vec()];
    let (mut messages, mut payload_bytes) = (0, 0);
    for (control, payload) in input::Pieces(data) {
        let topic = TOPICS[usize::from(control) % TOPICS.len()];
        let length = 2 + topic.len() + payload.len();
        let mut packet = vec![0x30];
        let mut left = length;
        while left > 0x7f {
            packet.push(left as u8 | 0x80);
            left >>= 7;
        }
        packet.push(left as u8);
        packet.extend([0, topic.len() as u8]);
        packet.extend_from_slice(topic.as_bytes());
        packet.extend_from_slice(payload);
        packets.push(packet);
        messages += 1;
        payload_bytes += payload.len() as i64;
    }
    let steps: Vec<_> = packets.iter().map(|packet| Step::Data(testing::CLIENT, packet)).collect();
    let seed = data.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let new = || hopwatch_wire::protocols::mqtt::decoder(Options::default());
    if !thorough(data) {
        let fed = testing::feed(&mut *new(), &steps);
        assert_eq!(fed.error, None);
        return held(fed.memory_bytes_max);
    }
    let (whole, parts) = (testing::play(new(), &steps), testing::play(new(), &input::split(&steps, seed)));
    for played in [&whole, &parts] {
        testing::assert_conserved(played);
        held(played.memory_bytes_max);
        assert_eq!(played.error, None);
        let sum = |field: &str| played.events.iter().map(|e| e[field].as_i64().expect("a count")).sum::<i64>();
        assert_eq!(sum("messages"), messages);
        // Every value is at least a byte of its own.
        assert!(sum("values") <= payload_bytes, "{} values of {payload_bytes} bytes", sum("values"));
    }
    assert_eq!(testing::sums(&parts.events), testing::sums(&whole.events), "another segmentation");
}

fn held(bytes: usize) {
    assert!(bytes <= MEMORY_BYTES_MAX, "{bytes} bytes held");
}

/// Frames of every link type: bytes are conserved, losses are told with the flows they hit, and the same frames give the
/// same events although every table has another hash seed, one by one as many at a time.
pub fn packets(data: &[u8]) {
    let thorough = thorough(data);
    let at_a_time = if thorough || sum_of(data) & 1 == 0 { 1 } else { FRAMES_AT_A_TIME };
    let (first, peak) = heap::peak_of(|| sensed(data, at_a_time));
    assert!(peak <= HEAP_BYTES_MAX, "{peak} bytes were held at once");
    if !thorough {
        return;
    }
    assert!(sensed(data, FRAMES_AT_A_TIME) == first, "the same frames gave other events");
    let parsed = |lines: &[Vec<u8>]| lines.iter().map(|l| serde_json::from_slice(l).expect("JSON")).collect::<Vec<Value>>();
    let (events, conversations) = (parsed(&first.0), parsed(&first.1));
    let count = |of: &Value, field: &str| of[field].as_u64().expect("a count");
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let (mut lost, mut hit) = (0, 0);
    for e in &events {
        match e["kind"].as_str() {
            Some("flow") => {
                *told.entry(e["transport"].to_string()).or_default() += count(e, "bytes") + count(e, "bytes_back");
                hit += count(&e["completeness"], "lost_bytes");
            }
            Some("loss") if e["stage"] == "stream" => lost += count(e, "bytes"),
            _ => {}
        }
    }
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for c in &conversations {
        *seen.entry(c["transport"].to_string()).or_default() += count(c, "stream_bytes_ab") + count(c, "stream_bytes_ba");
    }
    // A conversation's bytes hold what the capture cut off, which the flows count as lost.
    let (told, seen): (u64, u64) = (told.values().sum(), seen.values().sum());
    assert!(told <= seen && seen - told <= hit, "bytes of the flows {told}, of the streams {seen}, lost {hit}");
    assert_eq!(lost, hit, "lost bytes of the loss events against those of the flows");
}

/// Events and conversations. What the first frame's link type says twice asks for more of the sensor: whether the capture is any
/// good, or checksums.
fn sensed(data: &[u8], at_a_time: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    const LINKS: [u16; 8] = [1, 1, 1, 101, 113, 276, 0, 108];
    let asked = data.first().map_or(0, |control| control & 7);
    let options = SensorOptions { conversations: true, verify_checksums: asked == 2, ..SensorOptions::default() };
    let mut sensor = Sensor::new("north", "fuzz", options);
    if asked == 1 {
        sensor.quality = Some(Box::new(Quality::new(["10.0.0.0/24", "2001:db8::/32"].into_iter().filter_map(Net::parse).collect())));
    }
    let mut time_ns = 1_775_000_000_000_000_000;
    let mut frames = Vec::new();
    for (control, data) in input::Pieces(data) {
        // 0, 1 ms, 32 ms … 1073 s.
        let steps_ns = (1_i64 << (5 * (control >> 5))) * 1_000_000;
        time_ns += if control >> 5 == 0 { 0 } else { steps_ns };
        let link = LinkType::from_number(LINKS[usize::from(control & 7)]);
        let cut = if control & 8 == 0 { 0 } else { 40 };
        let wire_len = u32::try_from(data.len()).unwrap_or(0) + cut;
        frames.push(Frame { time_ns, link, data, wire_len, vlan: (control & 16 != 0).then_some(7), interface: 0 });
    }
    let mut events = Vec::new();
    for frames in frames.chunks(at_a_time) {
        sensor.frames(frames);
        events.append(&mut sensor.windows.take());
    }
    sensor.finish();
    events.append(&mut sensor.windows.take());
    events.extend(sensor.quality.as_ref().map(|quality| quality.said()));
    (events, sensor.take_conversations())
}

/// Segments with any numbers: what is held is bounded and nothing comes out that did not go in.
pub fn stream(data: &[u8]) {
    let mut stream = Stream::default();
    let (mut given, mut out) = (0_u64, 0_u64);
    let mut deliver = |piece: Piece<'_>| {
        if let Piece::Data(data) = piece {
            out += data.len() as u64;
        }
    };
    let mut time_ns = 0;
    let base = data.first().map_or(0, |b| u32::from_be_bytes([*b, 0xff, 0xff, 0]));
    for step in data.get(1..).unwrap_or_default().chunks_exact(6) {
        let &[control, a, b, c, d, length] = step else { continue };
        let near = u32::from(u16::from_be_bytes([a, b]));
        // Most numbers lie close together, where segments overlap.
        let number = if control & 1 == 0 { base.wrapping_add(near) } else { u32::from_be_bytes([a, b, c, d]) };
        time_ns += i64::from(control >> 5) * 1_000_000;
        match control >> 1 & 3 {
            0 => stream.acknowledge(number, time_ns, &mut deliver),
            1 => stream.patience(time_ns, &mut deliver),
            _ => {
                let payload = vec![d; usize::from(length) * if control & 8 == 0 { 1 } else { 250 }];
                given += payload.len() as u64;
                let cut = if control & 16 == 0 { 0 } else { u32::from(c) };
                let (syn, fin) = (c & 7 == 1, c & 7 == 2);
                stream.segment(&Segment { sequence: number, payload: &payload, cut, syn, fin, time_ns }, &mut deliver);
            }
        }
        assert!(stream.held_bytes() <= HELD_BYTES_MAX, "{} bytes held", stream.held_bytes());
    }
    stream.flush(data.len() % 2 == 0, &mut deliver);
    assert_eq!(stream.held_bytes(), 0);
    assert!(out <= given, "{out} bytes came out of {given}");
}

/// A capture file: the same frames however its bytes arrive, one by one as many at a time.
pub fn file(magic: &[u8], data: &[u8]) {
    let bytes = [magic, data].concat();
    let ((first, total), peak) = heap::peak_of(|| frames(&bytes, usize::MAX, true));
    assert!(peak <= HEAP_BYTES_MAX + first.len(), "{peak} bytes were held at once");
    if !thorough(data) {
        return;
    }
    // How much comes out of a compressed file before its damage follows the reading.
    let damaged = first.iter().any(|line| line.contains("damaged compression"));
    if total < FRAMES_MAX && !damaged {
        let piece = 1 + data.len() % 97;
        let other = frames(&bytes, piece, false).0;
        let damaged = other.iter().any(|line| line.contains("damaged compression"));
        let at = first.iter().zip(&other).position(|(a, b)| a != b).unwrap_or(first.len().min(other.len()));
        assert!(damaged || other == first, "in pieces of {piece} bytes {:?}, else {:?}", other.get(at), first.get(at));
    }
}

/// What a file says, as text, and the number of its frames.
fn frames(bytes: &[u8], piece: usize, together: bool) -> (Vec<String>, usize) {
    struct Slow(Cursor<Vec<u8>>, usize);
    impl std::io::Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let most = into.len().min(self.1);
            self.0.read(into.get_mut(..most).unwrap_or_default())
        }
    }
    let (mut said, mut total) = (Vec::new(), 0);
    let mut source = match FileSource::from_reader("input", Box::new(Slow(Cursor::new(bytes.to_vec()), piece)), None) {
        Ok(source) => source,
        Err(error) => return (vec![error.to_string()], 0),
    };
    let mut take = |frames: &[Frame<'_>]| {
        for frame in frames {
            total += 1;
            let _ = hopwatch_wire::packet::parse(frame.link, frame.data, frame.wire_len, frame.vlan);
            if total < 200 {
                said.push(format!("{} {:?} {} {} {}", frame.time_ns, frame.link, frame.wire_len, frame.data.len(), frame.interface));
            }
        }
        total
    };
    let error = loop {
        let read = if together {
            source.read_some(FRAMES_AT_A_TIME, &mut |frames| {
                take(frames);
            })
        } else {
            source.read().map(|step| match step {
                Read::Frame(frame) => Turn::Frames(take(&[frame])),
                Read::Idle | Read::End => Turn::End,
            })
        };
        match read {
            Ok(Turn::Frames(_)) if take(&[]) < FRAMES_MAX => {}
            Ok(_) => break None,
            Err(error) => break Some(error),
        }
    };
    said.extend(error.map(|error| error.to_string()));
    said.push(format!("{total} frames, {} lost", source.lost_total()));
    (said, total)
}

/// Statements of any text: bounded, and no literal of it comes out.
pub fn statements(data: &[u8]) {
    let Some((&kind, text)) = data.split_first() else { return };
    let backslash = kind & 1 != 0;
    for statement in sql::read(text, kind & 2 != 0, backslash) {
        let objects = statement.objects(None);
        assert!(objects.names.len() <= 2 * sql::TABLES_MAX && objects.columns.len() <= 2 * sql::COLUMNS_MAX);
    }
    let mode = sql::mysql::Mode { ansi_quotes: kind & 4 != 0, plain_backslash: kind & 8 != 0 };
    for statement in sql::mysql::read(text, kind & 2 != 0, mode) {
        let objects = statement.objects(None);
        assert!(objects.names.len() <= 2 * sql::TABLES_MAX && objects.columns.len() <= 2 * sql::COLUMNS_MAX);
    }
    let quotes = [sql::tsql::Quotes::Names, sql::tsql::Quotes::Literals, sql::tsql::Quotes::Unknown][usize::from(kind >> 4) % 3];
    for statement in sql::tsql::read(text, kind & 2 != 0, quotes).statements {
        let objects = statement.objects(None);
        assert!(objects.names.len() <= 2 * sql::TABLES_MAX && objects.columns.len() <= 2 * sql::COLUMNS_MAX);
    }
    if !thorough(data) {
        return;
    }
    // The text as a literal, escaped as a client would: nothing of it is a name.
    let literal = String::from_utf8_lossy(text).replace('\\', "\\\\").replace('\'', "''").replace('\0', "");
    let planted =
        format!("INSERT INTO t (a) VALUES (E'{literal} {PLANTED}', 1); SELECT a FROM t WHERE b = E'{PLANTED} {literal}' AND c = 2");
    for statement in sql::read(planted.as_bytes(), true, backslash) {
        let objects = statement.objects(None);
        let told = format!("{:?} {:?} {:?}", objects.names, objects.columns, objects.marks);
        assert!(!told.contains(PLANTED), "a literal is told: {told}");
        assert!(objects.names == ["t"] || objects.names == [sql::UNKNOWN], "{told}");
    }
    let national = planted.replace("E'", "N'");
    for statement in sql::tsql::read(national.as_bytes(), true, sql::tsql::Quotes::Names).statements {
        let objects = statement.objects(None);
        let told = format!("{:?} {:?} {:?}", objects.names, objects.columns, objects.marks);
        assert!(!told.contains(PLANTED), "a literal is told: {told}");
        assert!(objects.names == ["t"] || objects.names == [sql::UNKNOWN], "{told}");
    }
    let planted = planted.replace("E'", "_utf8'");
    for statement in sql::mysql::read(planted.as_bytes(), true, sql::mysql::Mode::default()) {
        let objects = statement.objects(None);
        let told = format!("{:?} {:?} {:?}", objects.names, objects.columns, objects.marks);
        assert!(!told.contains(PLANTED), "a literal is told: {told}");
        assert!(objects.names == ["t"] || objects.names == [sql::UNKNOWN], "{told}");
    }
}

pub const PLANTED: &str = "Zq7planted";

/// Recordings with known secrets, cut, started and lost in every way: no event, no fact, no error says a secret. Whole recordings are
/// played for one input in many, else [`SECRETS_BYTES_MAX`] of them: who logs in does so first.
pub fn secrets(recordings: &[Recording], protocols: &[&Protocol], data: &[u8]) {
    let [which, options, start, edits @ ..] = data else { return };
    let Some(recording) = recordings.get(usize::from(*which) % recordings.len().max(1)) else { return };
    let midstream = options & 1 != 0;
    let from = if midstream { usize::from(*start) * recording.script.len() / 256 } else { 0 };
    let mut steps = Vec::new();
    let mut edits = edits.chunks_exact(3).cycle().take(200);
    let mut left = if thorough(data) { usize::MAX } else { SECRETS_BYTES_MAX };
    for (side, bytes) in recording.script.get(from..).unwrap_or_default() {
        let mut rest = bytes.get(..bytes.len().min(left)).unwrap_or_default();
        left -= rest.len();
        while !rest.is_empty() {
            let edit = edits.next();
            let Some(&[how, high, low]) = edit else {
                steps.push(Step::Data(*side, rest));
                break;
            };
            let length = (usize::from(u16::from_be_bytes([high, low])) % rest.len().min(4000)) + 1;
            let (head, tail) = rest.split_at(length);
            match how {
                // Never without saying so: a stream that closes over a hole makes another word of the two beside it.
                0..30 => steps.push(Step::Gap(*side, head.len() as u64)),
                _ => steps.push(Step::Data(*side, head)),
            }
            rest = tail;
        }
    }
    for protocol in protocols.iter().filter(|p| p.name == recording.protocol) {
        let mut decoder = (protocol.decoder)(Options { facts: true, midstream });
        let fed = testing::feed(&mut *decoder, &steps);
        let mut facts = windows::Facts::new();
        decoder.facts(&mut facts);
        let lines = fed.lines.concat();
        let told = format!("{} {facts:?} {:?}", String::from_utf8_lossy(&lines), fed.error.map(|e| e.to_string()));
        for secret in &recording.secrets {
            assert!(!told.contains(secret), "{secret} of {}/{} is told", recording.protocol, recording.name);
        }
    }
    let _ = windows::WINDOW_NS;
}
