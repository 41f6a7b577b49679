//! The checks that every decoder must pass, and what its own tests need: a conversation played without packets.

use super::{Decoder, Heads, Options, Protocol, Recognition};
use crate::windows::{Depth, Endpoint, Opening, Side, Windows};
use serde_json::Value;
use std::collections::BTreeMap;
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
}

#[derive(Clone, Copy)]
pub enum Step<'a> {
    Data(Side, &'a [u8]),
    Gap(Side, u64),
}

/// Plays steps, one microsecond apart, from a fixed instant: a login lies within one window, however it is cut.
pub fn play(mut decoder: Box<dyn Decoder>, steps: &[Step<'_>]) -> Played {
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
    let events = windows.take().iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    let mut facts = crate::windows::Facts::new();
    decoder.facts(&mut facts);
    Played { events, stream_bytes, error, memory_bytes_max, facts }
}

pub fn play_script(decoder: Box<dyn Decoder>, script: &Script) -> Played {
    let steps: Vec<_> = script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
    play(decoder, &steps)
}

/// Sums per (operation, sender of the data, account, role, application, object names, columns): rows, values,
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
            add(format!("{who} {} {}", set["names"], set["columns"]), set);
        }
    }
    sums
}

/// The bytes of all flows are the stream bytes, both ways.
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
        assert_conserved(&play_script(new(), &prefix));
    }

    // Never panics on mutated recordings, holds bounded memory, conserves bytes.
    // `make test-long` asks for more of them.
    let rounds = std::env::var("HOPWATCH_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
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

    for secret in secrets {
        let text = serde_json::to_string(&whole.events).unwrap();
        assert!(!text.contains(secret), "{}: a secret in an event", protocol.name);
    }
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
