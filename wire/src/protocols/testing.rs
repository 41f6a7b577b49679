//! The checks that every decoder must pass, and what its own tests need: a conversation played without packets.

use super::{Decoder, Heads, Options, Protocol, Recognition};
use crate::windows::{Depth, Endpoint, Opening, Side, Windows};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A conversation: who says what, in order.
pub type Script = Vec<(Side, Vec<u8>)>;

pub const CLIENT: Side = Side::Client;
pub const SERVER: Side = Side::Server;

pub struct Played {
    /// Flow events, in order.
    pub events: Vec<Value>,
    /// Stream bytes handed in, by sender.
    pub stream_bytes: [u64; 2],
    pub error: Option<super::DecodeError>,
    /// Largest [`Decoder::memory_bytes`] seen.
    pub memory_bytes_max: usize,
    pub facts: crate::windows::Facts,
    /// Times that a table of the decoder was full.
    pub bounds_reached: u64,
}

#[derive(Clone, Copy)]
pub enum Step<'a> {
    Data(Side, &'a [u8]),
    Gap(Side, u64),
}

/// Plays steps, one microsecond apart, from a fixed instant: a login lies within one window, however it is cut.
pub fn play(mut decoder: Box<dyn Decoder>, steps: &[Step<'_>]) -> Played {
    play_with(&mut *decoder, steps)
}

/// The same with a decoder that the caller keeps.
pub fn play_with(decoder: &mut dyn Decoder, steps: &[Step<'_>]) -> Played {
    let fed = feed(decoder, steps);
    let events = fed.lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    let mut facts = crate::windows::Facts::new();
    decoder.facts(&mut facts);
    let Fed { stream_bytes, error, memory_bytes_max, bounds_reached, .. } = fed;
    Played { events, stream_bytes, error, memory_bytes_max, facts, bounds_reached }
}

/// What came of it before anybody reads the events: their lines. The other fields are those of [`Played`].
pub struct Fed {
    pub lines: Vec<Vec<u8>>,
    pub stream_bytes: [u64; 2],
    pub error: Option<super::DecodeError>,
    pub memory_bytes_max: usize,
    pub bounds_reached: u64,
}

/// Plays the steps and reads nothing of what is said: a fraction of the time.
pub fn feed(decoder: &mut dyn Decoder, steps: &[Step<'_>]) -> Fed {
    let mut windows = Windows::new("north", "test");
    let first_ns = 1_775_000_000_000_000_000;
    let id = windows.open(Opening {
        client: Endpoint { address: "10.0.0.1".parse().unwrap(), port: 50_000 },
        server: Endpoint { address: "10.0.0.2".parse().unwrap(), port: 4000 },
        opened_by: Some(Side::Client),
        transport: Arc::from("tcp"),
        tap: None,
        context: None,
        seen_by: "tap",
        first_ns,
    });
    let mut error = None;
    let mut memory_bytes_max = 0;
    let mut stream_bytes = [0; 2];
    let mut time_ns = first_ns;
    for step in steps {
        time_ns += 1_000;
        windows.advance(time_ns);
        let mut out = windows.recorder(id, time_ns);
        let result = match *step {
            Step::Data(side, bytes) => {
                stream_bytes[side as usize] += bytes.len() as u64;
                out.arrived(side, bytes.len() as u64);
                if error.is_none() { decoder.data(side, bytes, &mut out) } else { Ok(()) }
            }
            Step::Gap(side, length) => {
                let _ = out.lost(length);
                if error.is_none() { decoder.gap(side, length, &mut out) } else { Ok(()) }
            }
        };
        if let Err(wrong) = result {
            out.condition(|c| c.malformed = true);
            out.depth(Depth::Sizes);
            error = Some(wrong);
        }
        memory_bytes_max = memory_bytes_max.max(decoder.memory_bytes());
    }
    if error.is_none() {
        decoder.close(&mut windows.recorder(id, time_ns));
    }
    windows.close(id, time_ns);
    let bounds_reached = windows.counters.bounds_reached_total;
    Fed { lines: windows.take(), stream_bytes, error, memory_bytes_max, bounds_reached }
}

pub fn play_script(decoder: Box<dyn Decoder>, script: &Script) -> Played {
    let steps: Vec<_> = script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
    play(decoder, &steps)
}

/// Sums per (operation, sender of the data, account, role, application, object names, columns, marks): rows, values,
/// messages, bytes. Boundaries of windows do not show.
pub fn sums(events: &[Value]) -> BTreeMap<String, [i64; 4]> {
    let mut sums = BTreeMap::new();
    for e in events {
        let from = if e["source"]["port"] == 50_000 { "client" } else { "server" };
        let who = format!("{} {from} {} {} {}", e["operation"].as_str().unwrap(), e["account"], e["role"], e["application"]);
        let mut add = |key: String, of: &Value| {
            let sum: &mut [i64; 4] = sums.entry(key).or_default();
            for (slot, field) in sum.iter_mut().zip(["rows", "values", "messages", "bytes"]) {
                *slot += of[field].as_i64().unwrap();
            }
        };
        add(who.clone(), e);
        add(format!("{who} back"), &serde_json::json!({"rows": 0, "values": 0, "messages": 0, "bytes": e["bytes_back"]}));
        for set in e["objects"].as_array().unwrap() {
            add(format!("{who} {} {} {}", set["names"], set["columns"], set["marks"]), set);
        }
    }
    sums
}

/// The bytes of all flows are the stream bytes, both ways.
///
/// # Panics
/// They are not.
pub fn assert_conserved(played: &Played) {
    let mut sent = [0_u64; 2];
    for e in &played.events {
        let from = if e["source"]["port"] == 50_000 { 0 } else { 1 };
        sent[from] += e["bytes"].as_u64().unwrap();
        sent[1 - from] += e["bytes_back"].as_u64().unwrap();
    }
    assert_eq!(sent, played.stream_bytes, "bytes of the flows against bytes of the stream (client, server)");
}

/// A small deterministic generator (xorshift64*), so that a failing case is repeated from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.draw() % n.max(1) as u64).unwrap()
    }
}

/// Memory a decoder may hold at any point, in the shared checks.
pub const MEMORY_BYTES_MAX: usize = 4 << 20;

/// The shared checks of the house on one recording of `protocol`. `secrets` must occur in no event.
pub fn shared_checks(protocol: &Protocol, script: &Script, secrets: &[&str]) {
    let new = || (protocol.decoder)(Options { facts: true, midstream: false });
    let whole = play_script(new(), script);
    assert_eq!(whole.error, None, "{}: the recording is read", protocol.name);
    assert_conserved(&whole);
    let expected = sums(&whole.events);

    // What is gathered for `inspect` changes no event: without it, decoders take shorter ways.
    let plain = || (protocol.decoder)(Options::default());
    assert_eq!(play_script(plain(), script).events, whole.events, "{}: without facts", protocol.name);

    // Whole = byte by byte = any segmentation.
    let bytes: Vec<_> = script.iter().flat_map(|(side, bytes)| bytes.chunks(1).map(move |b| Step::Data(*side, b))).collect();
    let split = play(new(), &bytes);
    assert_eq!(sums(&split.events), expected, "{}: byte by byte", protocol.name);
    assert_conserved(&split);
    for seed in 1..=8 {
        let mut random = Random(seed);
        let mut steps = Vec::new();
        for (side, bytes) in script {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(1 + random.below(rest.len().min(700)));
                steps.push(Step::Data(*side, head));
                rest = tail;
            }
        }
        assert_eq!(sums(&play(new(), &steps).events), expected, "{}: segmentation of seed {seed}", protocol.name);
        assert_eq!(sums(&play(plain(), &steps).events), expected, "{}: without facts, seed {seed}", protocol.name);
    }

    // Every prefix is read or refused; nothing panics; bytes are conserved.
    let total: usize = script.iter().map(|(_, b)| b.len()).sum();
    let stride = (total / 200).max(1);
    for cut in (0..total).step_by(stride) {
        let mut left = cut;
        let mut prefix: Script = Vec::new();
        for (side, bytes) in script {
            let take = left.min(bytes.len());
            prefix.push((*side, bytes[..take].to_vec()));
            left -= take;
        }
        assert_conserved(&play_script(if cut % 2 == 0 { new() } else { plain() }, &prefix));
    }

    // Never panics on mutated recordings, holds bounded memory, conserves bytes.
    // `make test-long` asks for more of them.
    let rounds = std::env::var("MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    for seed in 1..=rounds {
        let mut random = Random(seed);
        let mut mutated = script.clone();
        for _ in 0..=random.below(6) {
            let at = random.below(mutated.len());
            let bytes = &mut mutated[at].1;
            if bytes.is_empty() {
                continue;
            }
            let place = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[place] = random.draw().to_le_bytes()[0],
                1 => bytes.truncate(place),
                2 => bytes[place] = 0xff,
                _ => {
                    let tail = bytes.split_off(place);
                    bytes.extend((0..random.below(20)).map(|_| random.draw().to_le_bytes()[0]));
                    bytes.extend(tail);
                }
            }
        }
        let played = play_script(new(), &mutated);
        assert!(played.memory_bytes_max <= MEMORY_BYTES_MAX, "{}: {} bytes held, seed {seed}", protocol.name, played.memory_bytes_max);
        assert_conserved(&played);
    }

    // Started midway, or with a gap anywhere, it neither panics nor invents bytes.
    for skip in 1..script.len() {
        let steps: Vec<_> = script[skip..].iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
        assert_conserved(&play((protocol.decoder)(Options { facts: true, midstream: true }), &steps));
        let mut gapped: Vec<_> = script[..skip].iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
        gapped.push(Step::Gap(script[skip].0, script[skip].1.len() as u64));
        gapped.extend(script[skip + 1..].iter().map(|(side, bytes)| Step::Data(*side, bytes)));
        let lost = play(new(), &gapped);
        assert_conserved(&lost);
        let counted: u64 = lost.events.iter().map(|e| e["completeness"]["lost_bytes"].as_u64().unwrap()).sum();
        assert_eq!(counted, script[skip].1.len() as u64, "{}: lost bytes of a gap at step {skip}", protocol.name);
    }

    // Started at any piece, or with any piece lost, it tells of nothing that the whole does not have.
    let mut invented = Vec::new();
    for skip in 1..script.len() {
        let mut steps: Vec<_> = script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
        let midway = play((protocol.decoder)(Options { facts: true, midstream: true }), &steps[skip..]);
        invented.extend(invents(&midway.events, &whole.events).map(|what| format!("started at piece {skip}: {what}")));
        steps[skip] = Step::Gap(script[skip].0, script[skip].1.len() as u64);
        invented.extend(invents(&play(new(), &steps).events, &whole.events).map(|what| format!("piece {skip} lost: {what}")));
    }
    assert!(invented.is_empty(), "{}: {}", protocol.name, invented.join("\n"));

    // One direction alone is read as far as it goes: no error, and nothing that both together do not show. Without its
    // answer a COPY in may have failed: its rows are marked as estimated.
    let amounts = |played: &Played, estimates: bool| {
        ["rows", "values", "messages"].map(|unit| {
            let exact = |e: &&Value| unit != "rows" || estimates || e["completeness"]["estimated"] == false;
            played.events.iter().filter(exact).map(|e| e[unit].as_i64().unwrap()).sum::<i64>()
        })
    };
    for (side, midstream) in [(CLIENT, false), (SERVER, false), (SERVER, true)] {
        let steps: Vec<_> = script.iter().filter(|(sender, _)| *sender == side).map(|(_, bytes)| Step::Data(side, bytes)).collect();
        let half = play((protocol.decoder)(Options { facts: true, midstream }), &steps);
        assert_conserved(&half);
        assert_eq!(half.error, None, "{}: {side:?} alone", protocol.name);
        let (seen, all) = (amounts(&half, false), amounts(&whole, true));
        // A DataRow is a row to who has not seen that it answers `SELECT 1` or begins a backup.
        let answered = whole.facts.get("postgresql").map_or(0, |facts| facts["data_rows"].as_i64().unwrap());
        let bounds = [all[0].max(answered), all[1], all[2]];
        let invented = seen.iter().zip(bounds).any(|(seen, bound)| *seen > bound);
        assert!(!invented, "{}: {side:?} alone shows {seen:?} of {bounds:?}", protocol.name);
    }

    for secret in secrets {
        let text = serde_json::to_string(&whole.events).unwrap();
        assert!(!text.contains(secret), "{}: a secret in an event", protocol.name);
    }
}

/// What `part`, which was told of fewer packets than `whole`, has too much: per operation more rows, values or messages;
/// an operation, object, column, account, role or application that the whole does not have. The object `unknown` is none,
/// nor is `transfer`: bytes whose operation was not seen.
fn invents(part: &[Value], whole: &[Value]) -> impl Iterator<Item = String> {
    let amounts = |events: &[Value], estimates: bool| {
        let mut sums: BTreeMap<String, [i64; 3]> = BTreeMap::new();
        for e in events {
            let sum = sums.entry(e["operation"].as_str().unwrap().to_owned()).or_default();
            // What may have come to nothing (a COPY, a statement behind another) is marked as an estimate.
            if estimates || e["completeness"]["estimated"] == false {
                for (slot, field) in sum.iter_mut().zip(["rows", "values", "messages"]) {
                    *slot += e[field].as_i64().unwrap();
                }
            }
        }
        sums
    };
    let unknown = serde_json::json!(["unknown"]);
    let words = |events: &[Value], all: bool| {
        let mut words = BTreeSet::new();
        for e in events {
            for field in ["account", "role", "application"] {
                words.extend(e[field].as_str().map(|text| format!("{field} {text}")));
            }
            for set in e["objects"].as_array().unwrap().iter().filter(|set| all || set["names"] != unknown) {
                for field in ["names", "columns"] {
                    words.extend(set[field].as_array().unwrap().iter().map(|text| format!("{field} {}", text.as_str().unwrap())));
                }
            }
        }
        // `SELECT *` whose RowDescription was not seen has all columns.
        words.remove("columns *");
        words
    };
    let (allowed, known) = (amounts(whole, true), words(whole, true));
    let more = amounts(part, false).into_iter().filter_map(move |(operation, found)| match allowed.get(&operation) {
        Some(most) if found.iter().zip(most).all(|(a, b)| a <= b) => None,
        Some(most) => Some(format!("{operation} has {found:?} rows, values, messages; the whole {most:?}")),
        None => (operation != "transfer").then(|| format!("no {operation} in the whole, here {found:?}")),
    });
    // A table whose schema was told before the recording began goes out without it.
    let unqualified = |word: &str, known: &str| {
        let (end, name) = (word.strip_prefix("names "), known.strip_prefix("names "));
        matches!((end, name), (Some(end), Some(name)) if name.strip_suffix(end).is_some_and(|schema| schema.ends_with('.')))
    };
    let is_known = move |word: &String| known.contains(word) || known.iter().any(|one| unqualified(word, one));
    more.chain(words(part, false).into_iter().filter(move |word| !is_known(word)))
}

/// A recording under `tests/data`: the protocol it is of (its folder), its file's name, what was said, and the words
/// that no event may carry.
pub struct Recording {
    pub protocol: String,
    pub name: String,
    pub script: Script,
    pub secrets: Vec<String>,
    /// What the client itself counted: rows by operation. Empty where the recording has none.
    pub ledger: BTreeMap<String, i64>,
}

/// Passwords and payload words of the recordings that do not list their own.
pub const SECRETS: &[(&str, &[&str])] = &[
    ("mqtt", &["not-a-secret", "wrong-word", "swordfish", "xxxxx"]),
    ("opcua", &["correct-horse", "636f7272656374"]),
    ("http", &["not-a-secret", "bm90LWEtc2VjcmV0", "swordfish", "part,line", "select the"]),
    ("tls", &["request request", "rows rows"]),
];

/// Every recording of a conversation under `tests/data`, in order of their names.
///
/// # Panics
/// The folder is not there.
pub fn recordings() -> Vec<Recording> {
    let folders = std::fs::read_dir(data()).expect("tests/data is there").flatten().filter(|f| f.path().is_dir());
    let mut found: Vec<_> = folders.flat_map(|folder| recordings_of(&folder.file_name().to_string_lossy())).collect();
    found.sort_by(|a, b| (&a.protocol, &a.name).cmp(&(&b.protocol, &b.name)));
    found
}

/// Those of one protocol, in order of their names.
///
/// # Panics
/// Its folder is not there.
pub fn recordings_of(protocol: &str) -> Vec<Recording> {
    let files = std::fs::read_dir(data().join(protocol)).expect("a folder").flatten();
    let mut found: Vec<_> = files.filter_map(|file| recorded(protocol, &file.file_name().to_string_lossy())).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// One by its name, without `.json`.
///
/// # Panics
/// It is not there.
pub fn recording(protocol: &str, name: &str) -> Recording {
    recorded(protocol, &format!("{name}.json")).expect("the recording is there")
}

fn data() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data")
}

fn recorded(protocol: &str, name: &str) -> Option<Recording> {
    let text = std::fs::read_to_string(data().join(protocol).join(name)).ok()?;
    let (script, mut secrets, ledger) = said(&text);
    if script.is_empty() {
        return None;
    }
    let common = SECRETS.iter().filter(|(of, _)| *of == protocol).flat_map(|(_, words)| *words);
    secrets.extend(common.map(|word| (*word).to_owned()));
    Some(Recording { protocol: protocol.to_owned(), name: name.to_owned(), script, secrets, ledger })
}

/// Plays a whole conversation, which must be read without a mistake and to its last byte.
///
/// # Panics
/// It is not.
pub fn played(protocol: &Protocol, recording: &Recording) -> Played {
    let played = play_script((protocol.decoder)(Options { facts: true, midstream: false }), &recording.script);
    assert_eq!(played.error, None, "{}", recording.name);
    assert_conserved(&played);
    played
}

/// What holds for every recording of a protocol: the shared checks, that it is recognised, and its client's ledger.
pub fn every_recording(protocol: &Protocol) {
    let mut wrong = Vec::new();
    for recording in recordings_of(protocol.name) {
        println!("{}", recording.name);
        assert_eq!(recognise(protocol, &recording.script), Recognition::Yes { client: CLIENT }, "{}", recording.name);
        let found = played(protocol, &recording).rows();
        if found != recording.ledger {
            wrong.push(format!("{}: client {:?}, found {found:?}", recording.name, recording.ledger));
        }
        let secrets: Vec<_> = recording.secrets.iter().map(String::as_str).collect();
        shared_checks(protocol, &recording.script, &secrets);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Played {
    /// `operation names [columns] rows messages` of every object set, summed.
    pub fn sums(&self) -> Vec<String> {
        let mut sums: BTreeMap<String, [i64; 2]> = BTreeMap::new();
        for (operation, names, columns, rows, messages) in self.sets() {
            let sum = sums.entry(format!("{operation} {names} [{columns}]")).or_default();
            sum[0] += rows;
            sum[1] += messages;
        }
        sums.into_iter().map(|(key, [rows, messages])| format!("{key} {rows} {messages}")).collect()
    }

    /// Rows by operation, as a [`Recording::ledger`] has them.
    pub fn rows(&self) -> BTreeMap<String, i64> {
        let mut rows = BTreeMap::new();
        for e in &self.events {
            *rows.entry(e["operation"].as_str().unwrap().to_owned()).or_default() += e["rows"].as_i64().unwrap();
        }
        rows.retain(|_, n| *n != 0);
        rows
    }

    /// (operation, names, columns, rows, messages) of every object set.
    pub fn sets(&self) -> Vec<(String, String, String, i64, i64)> {
        let join = |v: &Value| v.as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect::<Vec<_>>().join(" ");
        let of = |e: &Value| {
            let operation = e["operation"].as_str().unwrap().to_owned();
            let set = move |set: &Value| {
                let [rows, messages] = ["rows", "messages"].map(|count| set[count].as_i64().unwrap());
                (operation.clone(), join(&set["names"]), join(&set["columns"]), rows, messages)
            };
            e["objects"].as_array().unwrap().iter().map(set).collect::<Vec<_>>()
        };
        self.events.iter().flat_map(of).collect()
    }
}

/// A recording is JSON with a `script`, or lines of hex after `c`, `>` (client) and `s`, `<` (server).
fn said(text: &str) -> (Script, Vec<String>, BTreeMap<String, i64>) {
    let side = |word: &str| match word {
        "c" | ">" | "client" => Some(CLIENT),
        "s" | "<" | "server" => Some(SERVER),
        _ => None,
    };
    if let Ok(json) = serde_json::from_str::<Value>(text) {
        let pieces = json["script"].as_array().cloned().unwrap_or_default();
        let script = pieces.iter().filter_map(|p| Some((side(p[0].as_str()?)?, bytes(p[1].as_str()?)))).collect();
        let secrets = json["secrets"].as_array().cloned().unwrap_or_default();
        let secrets = secrets.iter().filter_map(|s| Some(s.as_str()?.to_owned())).collect();
        let ledger = json["ledger"].as_object().cloned().unwrap_or_default();
        return (script, secrets, ledger.into_iter().filter_map(|(name, n)| Some((name, n.as_i64().filter(|n| *n != 0)?))).collect());
    }
    let pieces = text.lines().filter_map(|line| line.split_once(' '));
    (pieces.filter_map(|(word, hex)| Some((side(word)?, bytes(hex)))).collect(), Vec::new(), BTreeMap::new())
}

/// What the registry says of a conversation's first bytes.
pub fn recognise(protocol: &Protocol, script: &Script) -> Recognition {
    let head = |side| {
        script.iter().filter(|(s, _)| *s == side).flat_map(|(_, b)| b.iter().copied()).take(super::HEAD_BYTES_MAX).collect::<Vec<_>>()
    };
    (protocol.recognise)(&Heads { client: &head(CLIENT), server: &head(SERVER), ports: (50_000, 4000), midstream: false })
}

/// Hex with spaces to bytes, for recordings written in a test.
pub fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::{HEAD_BYTES_MAX, TCP};

    /// Recordings of one protocol inside another: the file, and the other probe that may take it.
    const CARRIES: [(&str, &str); 6] = [
        ("http/connect.txt", "tls"),
        ("mqtt/websocket.txt", "http"),
        ("mysql/encrypted.json", "tls"),
        ("tds/encrypted-login.json", "tls"),
        ("tds/encrypted-login-insert.json", "tls"),
        ("tds/encrypted-login-select.json", "tls"),
    ];

    /// The first bytes of each side from piece `from` on.
    fn heads(script: &[(Side, Vec<u8>)]) -> [Vec<u8>; 2] {
        [CLIENT, SERVER].map(|side| {
            script.iter().filter(|(s, _)| *s == side).flat_map(|(_, b)| b.iter().copied()).take(HEAD_BYTES_MAX).collect::<Vec<_>>()
        })
    }

    #[test]
    fn every_recording_is_refused_by_the_probes_of_the_other_protocols() {
        let recordings = recordings();
        let protocols: BTreeSet<_> = recordings.iter().map(|r| r.protocol.as_str()).collect();
        assert!(recordings.len() > 40 && protocols.len() >= 4, "{} recordings of {protocols:?}", recordings.len());
        let mut wrong = Vec::new();
        for recording in &recordings {
            let file = format!("{}/{}", recording.protocol, recording.name);
            for probe in TCP.iter().filter(|p| p.name != recording.protocol && !CARRIES.contains(&(file.as_str(), p.name))) {
                for from in 0..recording.script.len() {
                    let [client, server] = heads(&recording.script[from..]);
                    // Either end may be taken for the client, and either may be heard alone.
                    for (a, b) in [(&client, &server), (&server, &client), (&client, &Vec::new()), (&Vec::new(), &server)] {
                        for midstream in [false, true] {
                            if from == 0 || midstream {
                                let heads = Heads { client: a, server: b, ports: (50_000, 4000), midstream };
                                if let Recognition::Yes { .. } = (probe.recognise)(&heads) {
                                    wrong.push(format!("{} takes {file} from piece {from} on, midstream {midstream}", probe.name));
                                }
                            }
                        }
                    }
                }
            }
        }
        wrong.dedup();
        assert!(wrong.is_empty(), "{} times:\n{}", wrong.len(), wrong.join("\n"));
    }
}
