//! QUIC version 1 and 2 (RFC 9000, RFC 9001, RFC 9369): what a passer-by may read of it.
//!
//! Initial packets are encrypted with keys that follow from the client's first destination connection id (RFC 9001,
//! 5.2), so that anybody who sees it reads the TLS hellos in them: name, versions, ALPN, fingerprint. Everything later is
//! counted by its size. Several packets share a datagram, and a hello may lie in several packets, in any order.

use super::read::Read;
use super::tls::{self, Tls};
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition};
use crate::windows::{Counts, Depth, Facts, Movement, Operation, Recorder, Side};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::aes::Aes128;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use aes_gcm::{Aes128Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;

/// Initial packets of a connection that are opened; what comes after is counted only.
pub const INITIALS_MAX: u32 = 64;
/// Bytes of CRYPTO frames kept that wait for earlier ones, of one side; and their end at most.
pub const CRYPTO_BYTES_MAX: u64 = 64 << 10;
/// Pieces of CRYPTO frames kept that wait for earlier ones, of one side.
pub const PIECES_MAX: usize = 256;
/// Versions kept of a Version Negotiation packet.
pub const VERSIONS_MAX: usize = 16;
/// A connection id of versions 1 and 2 is at most this long (RFC 9000, 17.2).
const ID_BYTES_MAX: usize = 20;

const VERSION_1: u32 = 1;
const VERSION_2: u32 = 0x6b33_43cf;

pub const QUIC: Protocol = Protocol { name: "quic", recognise, decoder };

#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    Box::new(Quic::new(options))
}

/// A long header of a known version. Who is the client is the caller's guess: the header does not say.
fn recognise(heads: &Heads<'_>) -> Recognition {
    for head in [heads.client, heads.server] {
        let &[first, a, b, c, d, length, ..] = head else { continue };
        let version = u32::from_be_bytes([a, b, c, d]);
        if first & 0xc0 == 0xc0 && matches!(version, VERSION_1 | VERSION_2) && usize::from(length) <= ID_BYTES_MAX {
            return Recognition::Yes { client: Side::Client };
        }
    }
    Recognition::No
}

/// What the version decides (RFC 9001, 5.2; RFC 9369, 3.3).
struct Derivation {
    salt: [u8; 20],
    key: &'static [u8],
    iv: &'static [u8],
    hp: &'static [u8],
}

const DERIVATION_1: Derivation = Derivation {
    salt: [0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a],
    key: b"quic key",
    iv: b"quic iv",
    hp: b"quic hp",
};
const DERIVATION_2: Derivation = Derivation {
    salt: [0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9],
    key: b"quicv2 key",
    iv: b"quicv2 iv",
    hp: b"quicv2 hp",
};

/// Keys of one side's Initial packets.
#[derive(Clone)]
struct Keys {
    packet: Aes128Gcm,
    iv: [u8; 12],
    header: Aes128,
}

impl Keys {
    /// (RFC 9001, 5.1 and 5.2)
    fn new(version: u32, id: &[u8], sender: Side) -> Option<Self> {
        let derivation = if version == VERSION_2 { &DERIVATION_2 } else { &DERIVATION_1 };
        let label: &[u8] = if sender == Side::Client { b"client in" } else { b"server in" };
        let mut secret = [0; 32];
        expand(&Hkdf::<Sha256>::new(Some(&derivation.salt), id), label, &mut secret)?;
        let secret = Hkdf::<Sha256>::from_prk(&secret).ok()?;
        let (mut key, mut iv, mut hp) = ([0; 16], [0; 12], [0; 16]);
        expand(&secret, derivation.key, &mut key)?;
        expand(&secret, derivation.iv, &mut iv)?;
        expand(&secret, derivation.hp, &mut hp)?;
        Some(Self { packet: Aes128Gcm::new(&key.into()), iv, header: Aes128::new(&hp.into()) })
    }

    /// The frames of a packet, of which `number_at` is the place of its number; `None` if it is not of these keys.
    fn open(&self, packet: &[u8], number_at: usize, largest: u64) -> Option<(u64, Vec<u8>)> {
        let sample: [u8; 16] = packet.get(number_at + 4..number_at + 20)?.try_into().ok()?;
        let mut mask = sample.into();
        self.header.encrypt_block(&mut mask);
        let first = packet.first()? ^ (mask.first()? & 0x0f);
        let width = usize::from(first & 3) + 1;
        let mut head = packet.get(..number_at + width)?.to_vec();
        *head.first_mut()? = first;
        let mut truncated = 0;
        for (byte, mask) in head.iter_mut().skip(number_at).zip(mask.iter().skip(1)) {
            *byte ^= mask;
            truncated = truncated << 8 | u64::from(*byte);
        }
        let number = whole_number(largest, truncated, width);
        let mut nonce = self.iv;
        for (byte, of_number) in nonce.iter_mut().skip(4).zip(number.to_be_bytes()) {
            *byte ^= of_number;
        }
        let sealed = packet.get(number_at + width..)?;
        let nonce: &Nonce<_> = (&nonce).into();
        self.packet.decrypt(nonce, Payload { msg: sealed, aad: &head }).ok().map(|frames| (number, frames))
    }
}

/// HKDF-Expand-Label without a context (RFC 8446, 7.1).
fn expand(secret: &Hkdf<Sha256>, label: &[u8], out: &mut [u8]) -> Option<()> {
    let mut info = Vec::with_capacity(24);
    info.extend(u16::try_from(out.len()).ok()?.to_be_bytes());
    info.push(u8::try_from(label.len() + 6).ok()?);
    info.extend(b"tls13 ");
    info.extend(label);
    info.push(0);
    secret.expand(&info, out).ok()
}

/// A packet number from its last bytes and the largest seen (RFC 9000, A.3).
fn whole_number(largest: u64, truncated: u64, width: usize) -> u64 {
    let window = 1_u64 << (8 * width);
    let expected = largest + 1;
    let candidate = (expected & !(window - 1)) | truncated;
    if candidate + window / 2 <= expected && candidate < (1 << 62) - window {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Initial,
    Early,
    Handshake,
    Retry,
}

/// A long header up to its version's own fields (RFC 9000, 17.2).
struct Long<'a> {
    version: u32,
    kind: Kind,
    to: &'a [u8],
    from: &'a [u8],
}

fn long<'a>(read: &mut Read<'a>) -> Option<Long<'a>> {
    let first = read.u8()?;
    let version = read.take(4)?.try_into().ok().map(u32::from_be_bytes)?;
    let bits = first >> 4 & 3;
    // Version 2 counts its types from another place (RFC 9369, 3.2).
    let bits = if version == VERSION_2 { bits.wrapping_sub(1) & 3 } else { bits };
    let kind = [Kind::Initial, Kind::Early, Kind::Handshake, Kind::Retry].into_iter().nth(usize::from(bits))?;
    let length = usize::from(read.u8()?);
    let to = read.take(length)?;
    let length = usize::from(read.u8()?);
    let from = read.take(length)?;
    Some(Long { version, kind, to, from })
}

impl<'a> Read<'a> {
    /// A number whose first two bits say how long it is (RFC 9000, 16).
    fn varint(&mut self) -> Option<u64> {
        let first = self.u8()?;
        let rest = self.take((1 << (first >> 6)) - 1)?;
        Some(rest.iter().fold(u64::from(first & 0x3f), |n, b| n << 8 | u64::from(*b)))
    }

    fn run(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }
}

/// The handshake bytes of one side, in order.
#[derive(Default)]
struct Crypto {
    next: u64,
    ahead: BTreeMap<u64, Vec<u8>>,
    ahead_bytes: u64,
    /// Largest packet number.
    largest: Option<u64>,
}

impl Crypto {
    /// What `bytes` at `offset` add; false if a bound was reached and it was dropped.
    fn add(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let end = offset.saturating_add(bytes.len() as u64);
        if end <= self.next || self.ahead.get(&offset).is_some_and(|known| known.len() >= bytes.len()) {
            return true;
        }
        if end > CRYPTO_BYTES_MAX || self.ahead.len() >= PIECES_MAX || self.ahead_bytes + bytes.len() as u64 > CRYPTO_BYTES_MAX {
            return false;
        }
        self.ahead_bytes += bytes.len() as u64;
        if let Some(shorter) = self.ahead.insert(offset, bytes.to_vec()) {
            self.ahead_bytes -= shorter.len() as u64;
        }
        true
    }

    /// The next bytes in order, if they are there.
    fn take(&mut self) -> Option<Vec<u8>> {
        while let Some(entry) = self.ahead.first_entry() {
            if *entry.key() > self.next {
                return None;
            }
            let (offset, piece) = entry.remove_entry();
            self.ahead_bytes -= piece.len() as u64;
            let known = usize::try_from(self.next - offset).unwrap_or(usize::MAX);
            if let Some(new) = piece.get(known..).filter(|new| !new.is_empty()) {
                self.next += new.len() as u64;
                return Some(new.to_vec());
            }
        }
        None
    }
}

struct Quic {
    options: Options,
    named: bool,
    /// What the keys follow from: the version and the client's first destination connection id.
    origin: Option<(u32, Vec<u8>)>,
    keys: [Option<Keys>; 2],
    tls: Tls,
    crypto: [Crypto; 2],
    opened: u32,
    /// The client has gone on to other keys; its Initial packets are over (RFC 9001, 4.9.1).
    over: bool,
    versions: Vec<u32>,
    offered: Vec<u32>,
    /// The server refused the client's version.
    refused: bool,
    initials: [u64; 2],
    unread: u64,
    retries: u64,
}

impl Quic {
    fn new(options: Options) -> Self {
        Self {
            options,
            named: false,
            origin: None,
            keys: [None, None],
            tls: tls::in_quic(options),
            crypto: Default::default(),
            opened: 0,
            over: false,
            versions: Vec::new(),
            offered: Vec::new(),
            refused: false,
            initials: [0; 2],
            unread: 0,
            retries: 0,
        }
    }

    /// The packets of a datagram, one after another (RFC 9000, 12.2).
    fn datagram(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) {
        let mut rest = bytes;
        // A short header has no length: it is the last.
        while rest.first().is_some_and(|first| first & 0x80 != 0) {
            let Some(length) = self.packet(sender, rest, out) else { return };
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    /// One packet with a long header; returns its length, `None` if nothing can follow.
    fn packet(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Option<usize> {
        let mut read = Read(bytes);
        let header = long(&mut read)?;
        if header.version == 0 {
            self.refused |= sender == Side::Server;
            // Version Negotiation (RFC 9000, 17.2.1): the client begins anew, or gives up.
            while let Some(version) = read.take(4).and_then(|v| v.try_into().ok()).map(u32::from_be_bytes) {
                if self.offered.len() < VERSIONS_MAX && !self.offered.contains(&version) {
                    self.offered.push(version);
                }
            }
            return None;
        }
        if !matches!(header.version, VERSION_1 | VERSION_2) || header.to.len() > ID_BYTES_MAX || header.from.len() > ID_BYTES_MAX {
            return None;
        }
        if !self.versions.contains(&header.version) && self.versions.len() < VERSIONS_MAX {
            self.versions.push(header.version);
        }
        if !self.named {
            self.named = true;
            out.protocol("quic", Depth::Sizes);
            out.condition(|c| c.encrypted = true);
            // No version of QUIC allows an older one (RFC 9001, 4.2).
            out.protect(|p| p.transport = "tls1.3".into());
        }
        if header.kind == Kind::Retry {
            self.retries += 1;
            return None;
        }
        if header.kind == Kind::Initial {
            read.run()?;
        }
        let length = usize::try_from(read.varint()?).ok()?;
        let number_at = bytes.len() - read.0.len();
        read.take(length)?;
        let packet = bytes.get(..number_at + length)?;
        match header.kind {
            Kind::Initial => self.initial(sender, &header, packet, number_at, out),
            Kind::Handshake if sender == Side::Client => self.over = true,
            _ => {}
        }
        Some(packet.len())
    }

    fn initial(&mut self, sender: Side, header: &Long<'_>, packet: &[u8], number_at: usize, out: &mut Recorder<'_>) {
        self.initials[sender as usize] += 1;
        if self.over || self.opened >= INITIALS_MAX {
            if !self.over && self.opened == INITIALS_MAX {
                self.opened += 1;
                out.bound_reached();
            }
            return;
        }
        self.opened += 1;
        let largest = self.crypto[sender as usize].largest.unwrap_or(0);
        let mut opened = None;
        // The keys stay those of the client's first packet, also where it speaks another version by now (RFC 9368, 4.1).
        if let Some((version, id)) = self.origin.clone() {
            if version != header.version {
                self.keys = [Keys::new(header.version, &id, Side::Client), Keys::new(header.version, &id, Side::Server)];
                self.origin = Some((header.version, id));
                if sender == Side::Client && std::mem::take(&mut self.refused) {
                    self.begin_again();
                }
            }
            opened = self.keys[sender as usize].as_ref().and_then(|keys| keys.open(packet, number_at, largest));
        }
        if opened.is_none() && sender == Side::Client {
            // The first of all, or the first after a Retry or Version Negotiation: the id is a new one.
            let keys = Keys::new(header.version, header.to, Side::Client);
            opened = keys.as_ref().and_then(|keys| keys.open(packet, number_at, 0));
            if opened.is_some() {
                self.keys = [keys, Keys::new(header.version, header.to, Side::Server)];
                self.origin = Some((header.version, header.to.to_vec()));
                self.begin_again();
            }
        }
        let Some((number, frames)) = opened else {
            self.unread += 1;
            return;
        };
        let crypto = &mut self.crypto[sender as usize];
        crypto.largest = Some(crypto.largest.map_or(number, |largest| largest.max(number)));
        self.frames(sender, &frames, out);
    }

    /// The client's handshake begins anew, after a Retry or Version Negotiation.
    fn begin_again(&mut self) {
        self.crypto = Default::default();
        self.tls = tls::in_quic(self.options);
    }

    /// The frames that an Initial packet may hold (RFC 9000, 12.4).
    fn frames(&mut self, sender: Side, frames: &[u8], out: &mut Recorder<'_>) -> Option<()> {
        let mut read = Read(frames);
        while let Some(kind) = read.varint() {
            match kind {
                // PADDING and PING.
                0 | 1 => {}
                // ACK: largest, delay, ranges, first range; two numbers a range; three counters with ECN.
                2 | 3 => {
                    read.varint()?;
                    read.varint()?;
                    let ranges = read.varint()?;
                    read.varint()?;
                    for _ in 0..ranges {
                        read.varint()?;
                        read.varint()?;
                    }
                    for _ in 0..if kind == 3 { 3 } else { 0 } {
                        read.varint()?;
                    }
                }
                // CRYPTO.
                6 => {
                    let offset = read.varint()?;
                    let bytes = read.run()?;
                    if !self.crypto[sender as usize].add(offset, bytes) {
                        out.bound_reached();
                    }
                    while let Some(next) = self.crypto[sender as usize].take() {
                        self.tls.handshake(sender, &next, out);
                    }
                }
                // CONNECTION_CLOSE, and what must not be here.
                _ => return None,
            }
        }
        Some(())
    }
}

impl Decoder for Quic {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        self.datagram(sender, bytes, out);
        // Nobody can say what moved, so all of it is one movement.
        out.add(&Movement::new(Operation::Transfer, Side::Client), sender, bytes.len() as u64, Counts::ZERO);
        Ok(())
    }

    fn gap(&mut self, _sender: Side, _length: u64, _out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        Ok(())
    }

    fn facts(&self, into: &mut Facts) {
        if !self.options.facts {
            return;
        }
        let mut inner = Facts::new();
        self.tls.facts(&mut inner);
        let hello = inner.remove("tls").unwrap_or(Value::Null);
        let hex = |versions: &[u32]| versions.iter().map(|v| format!("{v:#010x}")).collect::<Vec<_>>();
        into.insert(
            "quic",
            json!({"versions": hex(&self.versions), "offered_versions": hex(&self.offered), "retries": self.retries,
                   "initials_from_client": self.initials[0], "initials_from_server": self.initials[1], "unread_initials": self.unread,
                   "client_hellos": hello["client_hellos"], "cipher_suite": hello["cipher_suite"],
                   "negotiated_version": hello["negotiated_version"]}),
        );
    }

    fn memory_bytes(&self) -> usize {
        let crypto: usize = self.crypto.iter().map(|c| c.ahead.values().map(|p| p.capacity() + 64).sum::<usize>()).sum();
        size_of::<Self>() + crypto + self.tls.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, CLIENT, Played, Random, SERVER, Script};
    use super::super::{UDP, dns};
    use super::*;

    const V1: &str = include_str!("../../../tests/data/quic/v1.txt");
    const V2: &str = include_str!("../../../tests/data/quic/v2.txt");
    const RETRY: &str = include_str!("../../../tests/data/quic/retry.txt");
    const LONG: &str = include_str!("../../../tests/data/quic/long-hello.txt");
    const TO_V2: &str = include_str!("../../../tests/data/quic/to-v2.txt");
    const NEGOTIATED: &str = include_str!("../../../tests/data/quic/negotiated.txt");
    const RFC9001: &str = include_str!("../../../tests/data/quic/rfc9001.txt");
    const RFC9369: &str = include_str!("../../../tests/data/quic/rfc9369.txt");
    const WHOLE: Options = Options { facts: true, midstream: false };
    const NAME: &str = "plant-north.lake.example-cloud.eu";

    fn recording(text: &str) -> Script {
        let side = |line: &str| if line.starts_with('>') { CLIENT } else { SERVER };
        text.lines().map(|line| (side(line), testing::bytes(line.get(2..).unwrap()))).collect()
    }

    fn played(script: &Script) -> Played {
        let played = testing::play_script(decoder(WHOLE), script);
        assert_eq!(played.error, None);
        testing::assert_conserved(&played);
        played
    }

    #[test]
    fn keys_are_those_that_the_rfcs_print() {
        // RFC 9001, A.1 and RFC 9369, A.1: key, iv and header protection of client and server. What opens a packet that
        // others sealed has all three, so the packets of A.2 and A.3 are the check.
        for (text, cipher) in [(RFC9001, "0x1301"), (RFC9369, "0x1301")] {
            let played = played(&recording(text));
            let facts = &played.facts["quic"];
            assert_eq!((&facts["client_hellos"][0]["sni"], &facts["client_hellos"][0]["alpn"]), (&json!("example.com"), &json!(["alpn"])));
            assert_eq!((&facts["cipher_suite"], &facts["unread_initials"]), (&json!(cipher), &json!(0)));
            assert_eq!(played.events.last().unwrap()["destination"]["names"], json!([{"name": "example.com", "by": "sni"}]));
        }
    }

    #[test]
    fn hello_is_read_in_both_versions_after_a_retry_and_out_of_several_packets() {
        for (text, versions, unread) in [
            (V1, json!(["0x00000001"]), 0),
            (V2, json!(["0x6b3343cf"]), 0),
            (RETRY, json!(["0x00000001"]), 0),
            (LONG, json!(["0x00000001"]), 0),
            // aioquic seals its last Initial (an ACK) with the keys of version 1 and labels it version 2.
            (TO_V2, json!(["0x00000001", "0x6b3343cf"]), 1),
            (NEGOTIATED, json!(["0x6b3343cf", "0x00000001"]), 0),
        ] {
            let played = played(&recording(text));
            let facts = &played.facts["quic"];
            assert_eq!(facts["versions"], versions);
            assert_eq!((&facts["client_hellos"][0]["sni"], &facts["negotiated_version"]), (&json!(NAME), &json!("0x0304")), "{versions}");
            let last = played.events.last().unwrap();
            assert!(last["protection"]["ja4"].as_str().unwrap().starts_with("q13d"), "{}", last["protection"]["ja4"]);
            assert_eq!((&last["protocol"], &last["operation"]), (&json!("quic"), &json!("transfer")));
            assert_eq!((&last["depth"], &last["completeness"]["state"]), (&json!("sizes"), &json!("encrypted")));
            assert_eq!(last["protection"]["transport"], "tls1.3");
            assert_eq!(facts["unread_initials"], unread, "{versions}");
        }
        assert_eq!(played(&recording(RETRY)).facts["quic"]["retries"], 1);
        assert_eq!(played(&recording(NEGOTIATED)).facts["quic"]["offered_versions"], json!(["0x00000001"]));
        assert_eq!(played(&recording(LONG)).facts["quic"]["client_hellos"][0]["alpn"].as_array().unwrap().len(), 122);
    }

    #[test]
    fn every_recording_is_quic_and_not_dns() {
        for text in [V1, V2, RETRY, LONG, TO_V2, NEGOTIATED] {
            assert_eq!(testing::recognise(&QUIC, &recording(text)), Recognition::Yes { client: CLIENT });
            assert_ne!(testing::recognise(&dns::DNS_UDP, &recording(text)), Recognition::Yes { client: CLIENT });
        }
        assert_eq!(UDP.first().map(|p| p.name), Some("quic"));
        // A query whose random id looks like a long header.
        let query = testing::bytes("c0 00 01 00 00 01 00 00 00 00 00 00 01 61 00 00 01 00 01");
        assert_eq!(testing::recognise(&QUIC, &vec![(CLIENT, query)]), Recognition::No);
    }

    #[test]
    fn packets_that_share_a_datagram_are_read_in_any_order_of_datagrams() {
        let mut script = recording(LONG);
        let ahead: Vec<_> = script.iter().take_while(|(side, _)| *side == CLIENT).cloned().collect();
        assert!(ahead.len() > 1, "the hello lies in several datagrams");
        // All of one side in one datagram, as coalescing allows (RFC 9000, 12.2).
        let joined: Vec<u8> = ahead.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        script.splice(..ahead.len(), ahead.into_iter().rev());
        assert_eq!(played(&script).facts["quic"]["client_hellos"][0]["sni"], NAME);
        assert_eq!(played(&vec![(CLIENT, joined)]).facts["quic"]["client_hellos"][0]["sni"], NAME);
    }

    #[test]
    fn path_that_a_client_moved_to_takes_no_name_of_another() {
        // After migration only short headers travel (RFC 9000, 9): bytes without a name, or with one side's Initials unread.
        let moved: Script = recording(V1).into_iter().filter(|(_, bytes)| bytes[0] & 0x80 == 0).collect();
        assert!(!moved.is_empty());
        let played = played(&moved);
        assert!(played.events.iter().all(|e| e["destination"]["names"] == json!([]) && e["protocol"].is_null()));
        assert_eq!(testing::recognise(&QUIC, &moved), Recognition::No);
    }

    #[test]
    fn mutated_datagrams_neither_panic_nor_lose_a_byte() {
        let rounds = std::env::var("MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
        for text in [V1, V2, RETRY, LONG, NEGOTIATED] {
            let script = recording(text);
            for seed in 1..=rounds {
                let mut random = Random(seed);
                let mut mutated = script.clone();
                for _ in 0..=random.below(4) {
                    let at = random.below(mutated.len());
                    let bytes = &mut mutated[at].1;
                    let place = random.below(bytes.len().min(64));
                    match random.below(3) {
                        0 => bytes[place] = random.draw().to_le_bytes()[0],
                        1 => bytes.truncate(place + 1),
                        _ => mutated.truncate(at + 1),
                    }
                }
                assert!(played(&mutated).memory_bytes_max <= testing::MEMORY_BYTES_MAX, "seed {seed}");
            }
        }
    }

    #[test]
    fn crypto_frames_that_lie_hold_bounded_memory_and_overlap_without_harm() {
        let mut crypto = Crypto::default();
        assert!(crypto.add(4, b"efgh") && crypto.add(0, b"abcdef") && crypto.add(2, b"cd"));
        let mut read = Vec::new();
        while let Some(next) = crypto.take() {
            read.extend(next);
        }
        assert_eq!(read, b"abcdefgh");
        assert!(crypto.add(0, b"again") && crypto.take().is_none());
        assert!(!crypto.add(CRYPTO_BYTES_MAX, b"x") && !crypto.add(u64::MAX - 2, b"xyz"));
        let kept = (0..2 * PIECES_MAX as u64).filter(|n| crypto.add(100 + 2 * n, b"x")).count();
        assert_eq!(kept, PIECES_MAX);
    }

    #[test]
    fn packet_numbers_are_made_whole_as_in_the_rfc() {
        // RFC 9000, A.3.
        assert_eq!(whole_number(0xa82f_30ea, 0x9b32, 2), 0xa82f_9b32);
        assert_eq!(whole_number(0xff, 0x00, 1), 0x100);
        assert_eq!(whole_number(0, 2, 4), 2);
    }
}
