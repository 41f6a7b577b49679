//! Packets that are lost, come late or come twice: nothing is invented, the bytes that are missing are exact, what was not
//! touched is counted, and what follows a gap says so.
//!
//! Recordings of every protocol, and longer conversations that are made here with a ledger, are cut into frames of TCP;
//! frames are then dropped, moved and doubled by a seed that every failure names.

use hopwatch_wire::packet::LinkType;
use hopwatch_wire::sensor::{Sensor, SensorOptions};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const START_NS: i64 = 1_775_558_528_000_000_000;
const US: i64 = 1_000;
const MSS: usize = 1448;
const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;

const CLIENT: usize = 0;
const SERVER: usize = 1;

struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.draw() % n.max(1) as u64).unwrap()
    }
    fn happens(&mut self, share: f64) -> bool {
        (self.draw() >> 11) as f64 / ((1_u64 << 53) as f64) < share
    }
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.draw().to_le_bytes()[3]).collect()
    }
}

/// Rows, values, messages.
type Counts = [i64; 3];

/// One message that counts something, by its place in the stream of who sends it.
struct Item {
    side: usize,
    start: usize,
    end: usize,
    operation: String,
    counts: Counts,
}

/// One conversation: who says what, in order, and what of it counts.
#[derive(Default)]
struct Talk {
    script: Vec<(usize, Vec<u8>)>,
    said: [usize; 2],
    /// What is sent is wrapped in frames of WebSocket (RFC 6455, 5.2).
    wrapped: bool,
    items: Vec<Item>,
    /// By (account, operation).
    ledger: BTreeMap<(String, String), Counts>,
}

impl Talk {
    fn say(&mut self, side: usize, bytes: &[u8]) -> (usize, usize) {
        let start = self.said[side];
        self.said[side] += bytes.len();
        match self.script.last_mut() {
            Some((last, piece)) if *last == side => piece.extend_from_slice(bytes),
            _ => self.script.push((side, bytes.to_vec())),
        }
        (start, self.said[side])
    }
    fn send(&mut self, side: usize, bytes: &[u8]) -> (usize, usize) {
        if !self.wrapped {
            return self.say(side, bytes);
        }
        let length = u16::try_from(bytes.len()).unwrap();
        let mask: &[u8] = if side == CLIENT { &[7, 1, 9, 3] } else { &[] };
        let bit = if side == CLIENT { 0x80 } else { 0 };
        let head = if length < 126 { vec![0x82, bit | length as u8] } else { [&[0x82, bit | 126][..], &length.to_be_bytes()].concat() };
        let body: Vec<u8> = bytes.iter().enumerate().map(|(i, b)| b ^ mask.get(i % 4).unwrap_or(&0)).collect();
        self.say(side, &[&head[..], mask, &body].concat())
    }
    fn count(&mut self, side: usize, (start, end): (usize, usize), account: &str, operation: &str, counts: Counts) {
        self.items.push(Item { side, start, end, operation: operation.to_owned(), counts });
        let sum = self.ledger.entry((account.to_owned(), operation.to_owned())).or_default();
        (0..3).for_each(|i| sum[i] += counts[i]);
    }
}

/// A frame and what it is, so that what is lost with it is known.
#[derive(Clone)]
struct Frame {
    time_ns: i64,
    bytes: Vec<u8>,
    talk: usize,
    side: usize,
    /// Place of its payload in the stream (the SYN stands before 0), and of what it acknowledges.
    place: usize,
    length: usize,
    acknowledged: Option<usize>,
    syn: bool,
    fin: bool,
}

fn frame(talk: usize, side: usize, flags: u8, place: usize, acknowledged: usize, payload: &[u8]) -> Vec<u8> {
    const INITIAL: [u32; 2] = [0xffff_f000, 5_000];
    let number = |side: usize, place: usize| INITIAL[side].wrapping_add(1).wrapping_add(u32::try_from(place).unwrap());
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let client = ([10, 0, 0, 1], 40_000 + u16::try_from(talk).unwrap());
    let server = ([10, 0, 0, 2], 4000_u16);
    let ends = if side == CLIENT { [client, server] } else { [server, client] };
    ends.iter().for_each(|(address, _)| frame.extend(address));
    ends.iter().for_each(|(_, port)| frame.extend(port.to_be_bytes()));
    let sequence = if flags & SYN != 0 { INITIAL[side] } else { number(side, place) };
    frame.extend(sequence.to_be_bytes());
    frame.extend(if flags & ACK != 0 { number(1 - side, acknowledged) } else { 0 }.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

/// The frames of all talks, in the order of time: each its own connection, begun one millisecond after the other.
fn frames(talks: &[Talk]) -> Vec<Frame> {
    frames_every(100 * US, talks)
}

fn frames_every(step_ns: i64, talks: &[Talk]) -> Vec<Frame> {
    let mut all = Vec::new();
    for (talk, what) in talks.iter().enumerate() {
        let mut time_ns = START_NS + i64::try_from(talk).unwrap() * 1000 * US;
        let mut said = [0, 0];
        let mut add = |side: usize, flags: u8, said: [usize; 2], payload: &[u8]| {
            time_ns += step_ns;
            let bytes = frame(talk, side, flags, said[side], said[1 - side], payload);
            let acknowledged = (flags & ACK != 0).then_some(said[1 - side]);
            let (syn, fin) = (flags & SYN != 0, flags & FIN != 0);
            all.push(Frame { time_ns, bytes, talk, side, place: said[side], length: payload.len(), acknowledged, syn, fin });
        };
        add(CLIENT, SYN, said, b"");
        add(SERVER, SYN | ACK, said, b"");
        add(CLIENT, ACK, said, b"");
        for (side, piece) in &what.script {
            for (i, segment) in piece.chunks(MSS).enumerate() {
                add(*side, ACK, said, segment);
                said[*side] += segment.len();
                if i % 2 == 1 {
                    add(1 - side, ACK, said, b"");
                }
            }
            add(1 - side, ACK, said, b"");
        }
        add(CLIENT, ACK | FIN, said, b"");
        said[CLIENT] += 1;
        add(SERVER, ACK | FIN, said, b"");
        said[SERVER] += 1;
        add(CLIENT, ACK, said, b"");
    }
    all.sort_by_key(|f| f.time_ns);
    all
}

#[derive(Clone, Copy, Debug)]
struct Damage {
    dropped: f64,
    moved: f64,
    doubled: f64,
}

/// The six damages that are tried.
const DAMAGES: [Damage; 6] = [
    Damage { dropped: 0.001, moved: 0.0, doubled: 0.0 },
    Damage { dropped: 0.01, moved: 0.0, doubled: 0.0 },
    Damage { dropped: 0.05, moved: 0.01, doubled: 0.01 },
    Damage { dropped: 0.2, moved: 0.0, doubled: 0.0 },
    Damage { dropped: 0.0, moved: 0.01, doubled: 0.0 },
    Damage { dropped: 0.0, moved: 0.0, doubled: 0.01 },
];

fn damaged(frames: &[Frame], damage: Damage, random: &mut Random) -> Vec<Frame> {
    let mut kept: Vec<Frame> = Vec::new();
    for one in frames {
        if random.happens(damage.dropped) {
            continue;
        }
        kept.push(one.clone());
        if random.happens(damage.doubled) {
            kept.push(one.clone());
        }
    }
    let times: Vec<i64> = kept.iter().map(|f| f.time_ns).collect();
    for i in 0..kept.len() {
        if random.happens(damage.moved) {
            let to = (i + 1 + random.below(3)).min(kept.len() - 1);
            let one = kept.remove(i);
            kept.insert(to, one);
        }
    }
    kept.iter_mut().zip(times).for_each(|(f, time_ns)| f.time_ns = time_ns);
    kept
}

/// What of one direction arrived: where it begins, what is there, and where it ends as far as anybody said.
struct Arrived {
    ranges: Vec<(usize, usize)>,
    bytes: u64,
    lost: u64,
    /// The end is missing with its FIN: whether the last number that was acknowledged is the FIN's, nobody can know.
    open: bool,
}

fn arrived(frames: &[Frame], talk: usize, side: usize, said: usize) -> Arrived {
    let own = || frames.iter().filter(|f| f.talk == talk && f.side == side);
    let Some(first) = own().next() else { return Arrived { ranges: Vec::new(), bytes: 0, lost: 0, open: false } };
    let begin = if first.syn { 0 } else { first.place };
    let answered = frames.iter().filter(|f| f.talk == talk && f.side != side).filter_map(|f| f.acknowledged).max().unwrap_or(0);
    // The FIN takes a number, and is no byte.
    let end = own().map(|f| f.place + f.length).max().unwrap_or(0).max(answered).min(said);
    let mut ranges: Vec<(usize, usize)> = own().map(|f| (f.place.max(begin), f.place + f.length)).filter(|(a, b)| a < b).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (a, b) in ranges {
        match merged.last_mut() {
            Some(last) if a <= last.1 => last.1 = last.1.max(b),
            _ => merged.push((a, b)),
        }
    }
    let bytes: usize = merged.iter().map(|(a, b)| b - a).sum();
    let open = merged.last().is_none_or(|last| last.1 < end) && !own().any(|f| f.fin);
    Arrived { ranges: merged, bytes: bytes as u64, lost: (end.saturating_sub(begin) - bytes) as u64, open }
}

fn run(frames: &[Frame]) -> (Vec<Value>, u64) {
    let mut sensor = Sensor::new("north", "tap-1", SensorOptions::default());
    for one in frames {
        sensor.frame(one.time_ns, LinkType::Ethernet, &one.bytes, u32::try_from(one.bytes.len()).unwrap(), None);
    }
    sensor.finish();
    let events = sensor.windows.take().iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    (events, sensor.counters.decode_errors_total)
}

fn counts(event: &Value) -> Counts {
    ["rows", "values", "messages"].map(|name| event[name].as_i64().unwrap())
}

/// Sums by (account, operation); an account that is not known is "".
fn sums<'a>(events: impl Iterator<Item = &'a Value>) -> BTreeMap<(String, String), Counts> {
    let mut sums: BTreeMap<(String, String), Counts> = BTreeMap::new();
    for event in events.filter(|e| e["kind"] == "flow") {
        let key = (event["account"].as_str().unwrap_or("").to_owned(), event["operation"].as_str().unwrap().to_owned());
        let sum = sums.entry(key).or_default();
        counts(event).iter().enumerate().for_each(|(i, n)| sum[i] += n);
    }
    sums
}

fn total(counts: impl Iterator<Item = Counts>) -> Counts {
    counts.fold([0; 3], |sum, one| [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]])
}

/// Which talk an event is of.
fn talk_of(event: &Value) -> usize {
    let port = |end: &str| event[end]["port"].as_u64().unwrap();
    usize::try_from(port("source").max(port("destination")) - 40_000).unwrap()
}

/// What was said so long before the end of a window is in it: a hole that was given up delays what comes behind it.
const SLACK_NS: i64 = 20_000 * US;

/// Nanoseconds of an event's time, all of one day.
fn time_ns(value: &Value) -> i64 {
    let text = value.as_str().unwrap();
    let (clock, fraction) = text[11..].trim_end_matches('Z').split_once('.').unwrap_or((text[11..].trim_end_matches('Z'), "0"));
    let seconds = clock.split(':').fold(0, |sum, part| 60 * sum + part.parse::<i64>().unwrap());
    let nanos = format!("{fraction:0<9}").parse::<i64>().unwrap();
    START_NS - START_NS % (86_400 * 1_000_000_000) + seconds * 1_000_000_000 + nanos
}

/// Runs the damaged frames and holds what came out against what went in. Returns what was counted and what could be.
fn hold(
    faults: &mut Vec<String>,
    name: &str,
    talks: &[Talk],
    truth: &BTreeMap<(String, String), Counts>,
    damage: Damage,
    (seed, step_ns): (u64, i64),
) -> (Counts, Counts, [u64; 2]) {
    let mut wrong = |holds: bool, text: &dyn Fn() -> String| {
        if !holds {
            faults.push(format!("{name}, {damage:?}, seed {seed}: {}", text()))
        }
    };
    let left = damaged(&frames_every(step_ns, talks), damage, &mut Random(seed));
    let (events, errors) = run(&left);
    let gave_up = || events.iter().filter(|e| e["stage"] == "decoder").map(|e| e["why"].to_string()).collect::<Vec<_>>().join(", ");
    wrong(errors == 0, &|| format!("a decoder gave up: {}", gave_up()));

    // The bytes that are missing, and those that are there, are exact.
    let (mut lost, mut outside) = (0, [0; 3]);
    // Decoded windows behind a gap: marked, and complete again.
    let mut marks = [0_u64; 2];
    for (index, talk) in talks.iter().enumerate() {
        let sides = [CLIENT, SERVER].map(|side| arrived(&left, index, side, talk.said[side]));
        let here = |e: &&Value| e["kind"] == "flow" && talk_of(e) == index;
        let told: u64 = events.iter().filter(here).map(|e| e["completeness"]["lost_bytes"].as_u64().unwrap()).sum();
        let missing = sides[0].lost + sides[1].lost;
        let unsure = sides.iter().filter(|s| s.open).count() as u64;
        wrong(told.abs_diff(missing) <= unsure, &|| format!("connection {index} lost {missing} bytes, told {told}"));
        // Conservation, both ways: who sends is the flow's source for its bytes, its destination for those back.
        for (side, port) in [(CLIENT, 40_000 + index as u64), (SERVER, 4000)] {
            let of = |e: &Value| e[if e["source"]["port"] == port { "bytes" } else { "bytes_back" }].as_u64().unwrap();
            let (carried, there) = (events.iter().filter(here).map(of).sum::<u64>(), sides[side].bytes);
            wrong(carried == there, &|| format!("connection {index}: side {side} sent {there} bytes, flows {carried}"));
        }
        lost += told;
        for item in &talk.items {
            if sides[item.side].ranges.iter().any(|(a, b)| *a <= item.start && item.end <= *b) {
                outside = total([outside, item.counts].into_iter());
            }
        }
        // A window that calls itself complete holds all that was said while it was open, also behind a gap.
        let whole = frames_every(step_ns, &talks[index..=index]);
        let segments = [CLIENT, SERVER].map(|side| whole.iter().filter(|f| f.side == side && f.length > 0).collect::<Vec<_>>());
        let said_ns = |side: usize, place: usize| {
            let segment = segments[side].partition_point(|f| f.place + f.length <= place);
            segments[side][segment].time_ns + i64::try_from(index).unwrap() * 1000 * US
        };
        let timed: Vec<(i64, i64, &Item)> = talk
            .items
            .iter()
            .filter(|item| item.counts[0] > 0 || !name.starts_with("postgresql"))
            .map(|item| (said_ns(item.side, item.start), said_ns(item.side, item.end - 1), item))
            .collect();
        let mut gap_seen = false;
        for event in events.iter().filter(here).filter(|e| e["depth"] == "decoded") {
            let is_lossy = event["completeness"]["state"] == "lossy";
            wrong(is_lossy || event["completeness"]["lost_bytes"] == 0, &|| {
                format!("bytes are lost and not marked: {}", event["operation"])
            });
            gap_seen |= is_lossy;
            marks[usize::from(!is_lossy)] += u64::from(gap_seen);
            let (start_ns, end_ns) = (time_ns(&event["start"]), time_ns(&event["end"]));
            let within = |(first, last, item): &&(i64, i64, &Item)| {
                event["operation"] == item.operation.as_str() && *first > start_ns + SLACK_NS && *last < end_ns - SLACK_NS
            };
            let least = total(timed.iter().filter(within).map(|(_, _, item)| item.counts));
            let told = counts(event);
            // Rows of PostgreSQL and messages of the others: a statement is counted when it is answered, which may be much later.
            let counted = if name.starts_with("postgresql") { told[0] >= least[0] } else { told[2] >= least[2] };
            wrong(is_lossy || counted, &|| format!("called complete: {} counted {told:?}, said {least:?}", event["operation"]));
        }
    }
    let told: u64 = events.iter().filter(|e| e["kind"] == "loss" && e["stage"] == "stream").map(|e| e["bytes"].as_u64().unwrap()).sum();
    wrong(told == lost, &|| format!("loss events say {told} bytes, flows {lost}"));

    // Nothing is invented. Whose the messages before a login are shows later, and that a statement was denied shows in its
    // answer only: the first are held by their operation, the others together with what was refused. Rows whose statement
    // was lost are `transfer`, and count towards the sum.
    let counted = sums(events.iter());
    let connects = |sums: &BTreeMap<(String, String), Counts>| {
        total(sums.iter().filter(|((_, operation), _)| operation == "connect").map(|(_, counts)| *counts))
    };
    let (told, most) = (connects(&counted), connects(truth));
    wrong((0..3).all(|i| told[i] <= most[i]), &|| format!("connect counted {told:?} of {most:?}, {counted:?}"));
    for ((account, operation), counts) in
        counted.iter().filter(|((account, operation), _)| !account.is_empty() && operation != "connect" && operation != "transfer")
    {
        let of = |operation: &str| truth.get(&(account.clone(), operation.to_owned())).copied().unwrap_or_default();
        let mut most = of(operation);
        most[2] += if operation == "refused" { 0 } else { of("refused")[2] };
        wrong((0..3).all(|i| counts[i] <= most[i]), &|| format!("{account} {operation} counted {counts:?} of {most:?}"));
    }
    let counted = total(counted.into_values());
    let most = total(truth.values().copied());
    wrong((0..3).all(|i| counted[i] <= most[i]), &|| format!("counted {counted:?} of {most:?}"));
    if lost == 0 && !name.contains('/') {
        wrong(counted == most, &|| format!("nothing was lost, and {counted:?} of {most:?} counted"));
    }
    (counted, outside, marks)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data")
}

/// Every recording under tests/data, by its path.
fn recordings() -> Vec<(String, Talk)> {
    let mut found = Vec::new();
    for protocol in ["postgresql", "mqtt", "opcua", "tls", "http"] {
        for entry in fs::read_dir(data().join(protocol)).unwrap().flatten() {
            let (path, mut talk) = (entry.path(), Talk::default());
            let text = || fs::read_to_string(&path).unwrap();
            match (protocol, path.extension().and_then(|e| e.to_str()).unwrap_or("")) {
                ("postgresql", "json") => {
                    let value: Value = serde_json::from_str(&text()).unwrap();
                    for piece in value["script"].as_array().unwrap() {
                        talk.say(usize::from(piece[0] != "client"), &bytes(piece[1].as_str().unwrap()));
                    }
                }
                ("mqtt" | "tls" | "http", "txt") | ("opcua", "opcua") => {
                    for line in text().lines().filter(|l| l.len() > 2 && ">c<s".contains(&l[..1])) {
                        talk.say(usize::from("<s".contains(&line[..1])), &bytes(&line[2..]));
                    }
                }
                _ => continue,
            }
            found.push((format!("{protocol}/{}", path.file_name().unwrap().to_string_lossy()), talk));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() > 40, "{} recordings", found.len());
    found
}

#[test]
fn no_recording_invents_anything_and_lost_bytes_are_exact() {
    let mut faults = Vec::new();
    for (name, talk) in recordings() {
        let talks = [talk];
        let mut truth = sums(run(&frames(&talks)).0.iter());
        if name.starts_with("postgresql/") {
            // A DataRow whose statement was lost is a row, also if it answered a SHOW.
            let shown = data_rows(&talks[0]) - total(truth.values().copied())[0];
            let accounts: Vec<String> = truth.keys().map(|(account, _)| account.clone()).collect();
            accounts.into_iter().for_each(|account| truth.entry((account, "select".into())).or_default()[0] += shown.max(0));
        }
        for damage in DAMAGES {
            for seed in 1..=8 {
                hold(&mut faults, &name, &talks, &truth, damage, (seed, 100 * US));
            }
        }
    }
    none(&faults);
}

/// DataRow messages that the server of a recording sends; none, if it is encrypted.
fn data_rows(talk: &Talk) -> i64 {
    let said: Vec<u8> = talk.script.iter().filter(|(side, _)| *side == SERVER).flat_map(|(_, bytes)| bytes.clone()).collect();
    let mut rest = if said.starts_with(b"N") { &said[1..] } else { &said[..] };
    let mut rows = 0;
    while let Some(length) = rest.get(1..5).map(|n| u32::from_be_bytes(n.try_into().unwrap()) as usize) {
        rows += i64::from(rest[0] == b'D');
        rest = rest.get(1 + length..).unwrap_or_default();
    }
    rows
}

/// At most a screen of them.
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.iter().take(60).cloned().collect::<Vec<_>>().join("\n"));
}

// ---- PostgreSQL -----------------------------------------------------------------------------------------------------

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

fn data_row(random: &mut Random) -> Vec<u8> {
    let columns = 1 + random.below(4);
    let mut body = u16::try_from(columns).unwrap().to_be_bytes().to_vec();
    for _ in 0..columns {
        let longest = if random.below(20) == 0 { 3000 } else { 120 };
        let value = random.below(longest);
        let value = random.bytes(value);
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value);
    }
    message(b'D', &body)
}

fn row_description() -> Vec<u8> {
    let column = |name: &[u8]| [name, &[0; 19]].concat();
    message(b'T', &[&2_u16.to_be_bytes()[..], &column(b"serial"), &column(b"value")].concat())
}

/// What a server says, and what of it counts for which operation.
type Answers = Vec<(Vec<u8>, Option<(&'static str, Counts)>)>;

/// One statement: what the client says, and what the server answers with what counts in it.
fn statement(talk: &mut Talk, random: &mut Random, account: &str, answers: &mut Answers) {
    let table = random.below(12);
    let simple = |talk: &mut Talk, text: String, operation: &str| {
        let place = talk.say(CLIENT, &message(b'Q', format!("{text}\0").as_bytes()));
        talk.count(CLIENT, place, account, operation, [0, 0, 1]);
    };
    let extended = |talk: &mut Talk, text: String, operation: &str| {
        talk.say(CLIENT, &message(b'P', format!("\0{text}\0\0\0").as_bytes()));
        talk.say(CLIENT, &message(b'B', &[0; 8]));
        talk.say(CLIENT, &message(b'D', b"P\0"));
        let place = talk.say(CLIENT, &message(b'E', &[0; 5]));
        talk.count(CLIENT, place, account, operation, [0, 0, 1]);
        talk.say(CLIENT, &message(b'S', b""));
    };
    let mut answer = |bytes: Vec<u8>, counts: Option<(&'static str, Counts)>| answers.push((bytes, counts));
    let tag = |text: String| message(b'C', format!("{text}\0").as_bytes());
    match random.below(6) {
        0 | 1 => {
            let with_parse = random.below(2) == 0;
            let text = format!("SELECT serial, value FROM mes.genealogy_{table}");
            if with_parse {
                extended(talk, text, "select");
                answer(message(b'1', b""), None);
                answer(message(b'2', b""), None);
            } else {
                simple(talk, text, "select");
            }
            answer(row_description(), None);
            let rows = random.below(400);
            (0..rows).for_each(|_| answer(data_row(random), Some(("select", [1, 0, 0]))));
            answer(tag(format!("SELECT {rows}")), None);
        }
        2 => {
            extended(talk, format!("INSERT INTO mes.results_{table} VALUES ($1)"), "insert");
            [b'1', b'2', b'n'].iter().for_each(|kind| answer(message(*kind, b""), None));
            answer(tag("INSERT 0 3".into()), Some(("insert", [3, 0, 0])));
        }
        3 => {
            simple(talk, format!("UPDATE mes.orders_{table} SET done = true"), "update");
            answer(tag("UPDATE 7".into()), Some(("update", [7, 0, 0])));
        }
        4 => {
            simple(talk, format!("COPY mes.genealogy_{table} TO STDOUT"), "copy");
            answer(message(b'H', &[0, 0, 1, 0, 0]), None);
            let (rows, longest) = (random.below(60), if random.below(2) == 0 { 200 } else { 8192 });
            for _ in 0..rows {
                let line = random.below(longest);
                answer(message(b'd', &random.bytes(line)), Some(("copy", [1, 0, 0])));
            }
            answer(message(b'c', b""), None);
            answer(tag(format!("COPY {rows}")), None);
        }
        _ => {
            extended(talk, format!("DELETE FROM mes.old_{table}"), "delete");
            [b'1', b'2', b'n'].iter().for_each(|kind| answer(message(*kind, b""), None));
            answer(tag("DELETE 2".into()), Some(("delete", [2, 0, 0])));
        }
    }
    answer(message(b'Z', b"I"), None);
}

/// A session of `statements`, up to `depth` of them on their way at once.
fn postgresql(random: &mut Random, account: &str, statements: usize, depth: usize) -> Talk {
    let mut talk = Talk::default();
    let startup = format!("\0\x03\0\0user\0{account}\0database\0mes\0\0");
    talk.say(CLIENT, &[&u32::try_from(startup.len() + 4).unwrap().to_be_bytes()[..], startup.as_bytes()].concat());
    talk.say(SERVER, &[message(b'R', &[0; 4]), message(b'K', &[0; 8]), message(b'Z', b"I")].concat());
    let mut left = statements;
    while left > 0 {
        let mut answers = Answers::new();
        for _ in 0..1 + random.below(depth) {
            statement(&mut talk, random, account, &mut answers);
            left = left.saturating_sub(1);
        }
        for (bytes, counts) in answers {
            let place = talk.say(SERVER, &bytes);
            if let Some((operation, counts)) = counts {
                talk.count(SERVER, place, account, operation, counts);
            }
        }
    }
    talk.say(CLIENT, &message(b'X', b""));
    talk
}

// ---- MQTT -----------------------------------------------------------------------------------------------------------

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut out, mut length) = (vec![first], body.len());
    loop {
        let byte = u8::try_from(length % 128).unwrap();
        length /= 128;
        out.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    [&out[..], body].concat()
}

fn text(value: &str) -> Vec<u8> {
    [&u16::try_from(value.len()).unwrap().to_be_bytes()[..], value.as_bytes()].concat()
}

/// A publisher, or a subscriber, of `publishes` messages; payloads of any bytes, topics by alias in every second talk of version 5.
fn mqtt(random: &mut Random, account: &str, publishes: usize, five: bool, subscriber: bool, wrapped: bool) -> Talk {
    let mut talk = Talk::default();
    if wrapped {
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: mqtt\r\n";
        let place =
            talk.say(CLIENT, format!("GET /mqtt HTTP/1.1\r\nHost: broker\r\n{upgrade}Sec-WebSocket-Version: 13\r\n\r\n").as_bytes());
        talk.count(CLIENT, place, account, "connect", [0, 0, 1]);
        talk.say(SERVER, format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n").as_bytes());
        talk.wrapped = true;
    }
    let none: &[u8] = if five { &[0] } else { &[] };
    let level = if five { 5 } else { 4 };
    let connect = [&text("MQTT")[..], &[level, 0x82, 0, 60], none, &text("c1"), &text(account)].concat();
    talk.send(CLIENT, &packet(0x10, &connect));
    talk.send(SERVER, &packet(0x20, &[&[0, 0][..], none].concat()));
    if subscriber {
        talk.send(CLIENT, &packet(0x82, &[&[0, 1][..], none, &text("line/#"), &[1]].concat()));
        talk.send(SERVER, &packet(0x90, &[&[0, 1][..], none, &[1]].concat()));
    }
    let (sender, operation) = if subscriber { (SERVER, "subscribe") } else { (CLIENT, "publish") };
    let mut known = [false; 6];
    for id in 1..=publishes {
        let topic = random.below(6);
        let qos = u8::try_from(random.below(2)).unwrap();
        let longest = if random.below(30) == 0 { 60_000 } else { 500 };
        let payload = random.below(longest);
        let payload = random.bytes(payload);
        let id = u16::try_from(id % 60_000 + 1).unwrap().to_be_bytes();
        let mut body = if five && known[topic] { text("") } else { text(&format!("line/{topic}/state")) };
        known[topic] = five;
        if qos > 0 {
            body.extend(id);
        }
        if five {
            body.extend([3, 0x23, 0, u8::try_from(topic + 1).unwrap()]);
        }
        body.extend(payload);
        let place = talk.send(sender, &packet(0x30 | qos << 1, &body));
        talk.count(sender, place, account, operation, [0, 0, 1]);
        if qos > 0 {
            talk.send(1 - sender, &packet(0x40, &id));
        }
    }
    talk.send(CLIENT, &packet(0xe0, &[]));
    talk
}

// ---- OPC UA ---------------------------------------------------------------------------------------------------------

/// The recorded session with its exchange of `of` repeated, each time with sequence numbers and a request id of its own.
fn opcua(recording: &str, of: u16, times: usize) -> Talk {
    let text = fs::read_to_string(data().join("opcua").join(recording)).unwrap();
    let mut chunks: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut unread = [Vec::new(), Vec::new()];
    for line in text.lines().filter(|l| l.starts_with("c ") || l.starts_with("s ")) {
        let side = usize::from(line.starts_with('s'));
        let rest: &mut Vec<u8> = &mut unread[side];
        rest.extend(bytes(&line[2..]));
        while let Some(size) = rest.get(4..8).map(|n| u32::from_le_bytes(n.try_into().unwrap()) as usize).filter(|n| *n <= rest.len()) {
            let tail = rest.split_off(size);
            chunks.push((side, std::mem::replace(rest, tail)));
        }
    }
    let request_id = |chunk: &[u8]| u32::from_le_bytes(chunk[20..24].try_into().unwrap());
    let service = |chunk: &[u8]| chunk.starts_with(b"MSG").then(|| u16::from_le_bytes([chunk[26], chunk[27]]));
    let at = chunks.iter().position(|(side, chunk)| *side == CLIENT && service(chunk) == Some(of)).expect("the request is there");
    let id = request_id(&chunks[at].1);
    let answer = chunks.iter().position(|(side, chunk)| *side == SERVER && chunk.starts_with(b"MSG") && request_id(chunk) == id).unwrap();
    let mut talk = Talk::default();
    let (request, response) = (chunks[at].1.clone(), chunks[answer].1.clone());
    for (index, (side, chunk)) in chunks.into_iter().enumerate() {
        if index == at {
            for time in 0..times {
                for (side, chunk) in [(CLIENT, &request), (SERVER, &response)] {
                    let mut chunk = chunk.clone();
                    let number = u32::try_from(100_000 + time).unwrap().to_le_bytes();
                    chunk[16..20].copy_from_slice(&number);
                    chunk[20..24].copy_from_slice(&number);
                    let (start, end) = talk.say(side, &chunk);
                    talk.items.push(Item { side, start, end, operation: String::new(), counts: [0, 0, 1] });
                }
            }
        }
        let (start, end) = talk.say(side, &chunk);
        if chunk.starts_with(b"MSG") {
            talk.items.push(Item { side, start, end, operation: String::new(), counts: [0, 0, 1] });
        }
    }
    talk
}

// ---- DNS over TCP ---------------------------------------------------------------------------------------------------

/// Questions, some on their way at once, and their answers (RFC 7766).
fn dns(random: &mut Random, questions: u16) -> Talk {
    let mut talk = Talk::default();
    let mut waiting = Vec::new();
    for id in 0..questions {
        let name = [&[7][..], b"machine", &[u8::try_from(2 + random.below(8)).unwrap()]].concat();
        let label = vec![b'a' + u8::try_from(random.below(26)).unwrap(); usize::from(name[8])];
        let question = [&name[..], &label, &[0, 0, 1, 0, 1]].concat();
        let message = |flags: [u8; 2], answers: u16, rest: &[u8]| {
            let head = [&id.to_be_bytes()[..], &flags, &1_u16.to_be_bytes(), &answers.to_be_bytes(), &[0; 4], &question, rest].concat();
            [&u16::try_from(head.len()).unwrap().to_be_bytes()[..], &head].concat()
        };
        let place = talk.say(CLIENT, &message([1, 0], 0, b""));
        talk.count(CLIENT, place, "", "query", [0, 0, 1]);
        let records = random.below(60);
        let record = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4][..], &[10, 1, 2, 3]].concat();
        waiting.push(message([0x81, 0x80], u16::try_from(records).unwrap(), &record.repeat(records)));
        if random.below(4) > 0 {
            for answer in waiting.drain(..) {
                let place = talk.say(SERVER, &answer);
                talk.count(SERVER, place, "", "query", [0, 0, 1]);
            }
        }
    }
    talk
}

// ---- the larger captures --------------------------------------------------------------------------------------------

fn share(name: &str, talks: &[Talk], truth: &BTreeMap<(String, String), Counts>, units: &[usize]) {
    let mut faults = Vec::new();
    let (clean, outside, _) = hold(&mut faults, name, talks, truth, Damage { dropped: 0.0, moved: 0.0, doubled: 0.0 }, (1, 100 * US));
    println!("{name}: {} frames, counted {clean:?}, in the ledger {outside:?}", frames(talks).len());
    for damage in DAMAGES {
        let mut sum = ([0; 3], [0; 3]);
        for seed in 1..=3 {
            let (counted, outside, _) = hold(&mut faults, name, talks, truth, damage, (seed, 100 * US));
            sum = (total([sum.0, counted].into_iter()), total([sum.1, outside].into_iter()));
        }
        let percent = |i: usize| 100.0 * sum.0[i] as f64 / sum.1[i].max(1) as f64;
        println!("  {damage:?}: {}", units.iter().map(|i| format!("{:.2} %", percent(*i))).collect::<Vec<_>>().join(", "));
        let wanted = if damage.dropped <= 0.001 { 99.0 } else { 95.0 };
        if damage.dropped <= 0.01 {
            for unit in units {
                if percent(*unit) < wanted {
                    faults.push(format!("{name}, {damage:?}: {:.2} % of what lies outside the gaps", percent(*unit)));
                }
            }
        }
    }
    none(&faults);
}

fn ledger(talks: &[Talk]) -> BTreeMap<(String, String), Counts> {
    let mut sums: BTreeMap<(String, String), Counts> = BTreeMap::new();
    for (key, counts) in talks.iter().flat_map(|t| &t.ledger) {
        let sum = sums.entry(key.clone()).or_default();
        (0..3).for_each(|i| sum[i] += counts[i]);
    }
    sums
}

#[test]
fn postgresql_one_statement_at_a_time_is_counted_around_the_gaps() {
    let mut random = Random(11);
    let talks: Vec<_> = (0..6).map(|i| postgresql(&mut random, &format!("svc_{i}"), 60, 1)).collect();
    share("postgresql", &talks, &ledger(&talks), &[0, 2]);
}

#[test]
fn postgresql_in_pipelines_is_counted_around_the_gaps() {
    let mut random = Random(12);
    let talks: Vec<_> = (0..6).map(|i| postgresql(&mut random, &format!("svc_{i}"), 60, 8)).collect();
    share("postgresql, pipelined", &talks, &ledger(&talks), &[0, 2]);
}

#[test]
fn mqtt_is_counted_around_the_gaps() {
    let mut random = Random(13);
    let talks: Vec<_> = (0..8).map(|i| mqtt(&mut random, &format!("edge_{i}"), 600, i % 2 == 0, i % 4 < 2, false)).collect();
    share("mqtt", &talks, &ledger(&talks), &[2]);
}

#[test]
fn mqtt_in_websocket_is_counted_around_the_gaps() {
    let mut random = Random(15);
    let talks: Vec<_> = (0..8).map(|i| mqtt(&mut random, &format!("edge_{i}"), 400, i % 2 == 0, i % 4 < 2, true)).collect();
    share("mqtt in websocket", &talks, &ledger(&talks), &[2]);
}

#[test]
fn opcua_is_counted_around_the_gaps() {
    let talks = [opcua("read.opcua", 631, 1500), opcua("write.opcua", 673, 1500), opcua("browse.opcua", 527, 400)];
    let truth = sums(run(&frames(&talks)).0.iter());
    share("opcua", &talks, &truth, &[2]);
}

#[test]
fn dns_over_tcp_is_counted_around_the_gaps() {
    let mut random = Random(14);
    let talks: Vec<_> = (0..6).map(|_| dns(&mut random, 500)).collect();
    share("dns", &talks, &ledger(&talks), &[2]);
}

/// The same at one frame in 10 ms, where windows end by their time: of those behind a gap some are complete again, and
/// what calls itself complete is.
#[test]
fn the_mark_of_a_gap_ends_where_nothing_is_missing_any_more() {
    let mut random = Random(16);
    let talks = |make: &mut dyn FnMut(usize, &mut Random) -> Talk, random: &mut Random| (0..3).map(|i| make(i, random)).collect::<Vec<_>>();
    let all = [
        ("postgresql", talks(&mut |i, random| postgresql(random, &format!("svc_{i}"), 60, 1), &mut random)),
        ("postgresql, pipelined", talks(&mut |i, random| postgresql(random, &format!("svc_{i}"), 60, 8), &mut random)),
        ("mqtt", talks(&mut |i, random| mqtt(random, &format!("edge_{i}"), 400, false, i % 2 == 0, false), &mut random)),
        ("dns", talks(&mut |_, random| dns(random, 500), &mut random)),
    ];
    let mut faults = Vec::new();
    for (name, talks) in all {
        let truth = ledger(&talks);
        for dropped in [0.001, 0.01, 0.05] {
            let damage = Damage { dropped, moved: 0.0, doubled: 0.0 };
            let mut marks = [0; 2];
            for seed in 1..=4 {
                let (_, _, marked) = hold(&mut faults, name, &talks, &truth, damage, (seed, 10_000 * US));
                (0..2).for_each(|i| marks[i] += marked[i]);
            }
            println!("{name}, {dropped} dropped: {} windows behind a gap marked, {} complete", marks[0], marks[1]);
            if dropped < 0.05 && marks[1] == 0 {
                faults.push(format!("{name}, {damage:?}: no window behind a gap is complete again"));
            }
        }
    }
    none(&faults);
}
