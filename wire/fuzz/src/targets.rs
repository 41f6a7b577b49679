//! What can be fuzzed: every decoder of the registry, the whole path from packet to window, every file format, and the reader of
//! windows.

use crate::{lines, properties};
use hopwatch_wire::protocols::testing::{Recording, recordings};
use hopwatch_wire::protocols::{Protocol, TCP, UDP};
use std::sync::LazyLock;

type Run = Box<dyn Fn(&[u8]) + Send + Sync>;

pub struct Target {
    pub name: String,
    /// Where the pieces of its inputs begin (see `input`), if they have any.
    #[allow(dead_code)] // The tests change no input.
    pub pieces: Option<usize>,
    pub run: Run,
}

const PCAP: &[u8] = &[0xd4, 0xc3, 0xb2, 0xa1];
const PCAPNG: &[u8] = &[0x0a, 0x0d, 0x0d, 0x0a];
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

pub static RECORDINGS: LazyLock<Vec<Recording>> = LazyLock::new(recordings);
static WINDOWS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| lines::windows(&RECORDINGS));

/// The decoders with a name each: a protocol that stands in the registry twice gets a number.
pub fn decoders() -> Vec<(String, &'static Protocol, bool)> {
    let mut named: Vec<(String, &'static Protocol, bool)> = Vec::new();
    for (protocol, datagrams) in TCP.iter().map(|p| (p, false)).chain(UDP.iter().map(|p| (p, true))) {
        let before = named.iter().filter(|(_, known, _)| known.name == protocol.name).count();
        let name = if before == 0 { protocol.name.to_owned() } else { format!("{}-{}", protocol.name, before + 1) };
        named.push((name, protocol, datagrams));
    }
    named
}

pub fn all() -> Vec<Target> {
    let mut targets: Vec<Target> = decoders()
        .into_iter()
        .map(|(name, protocol, datagrams)| Target {
            name,
            pieces: Some(1),
            run: Box::new(move |data| properties::decoder(protocol, data, datagrams)),
        })
        .collect();
    let mut add = |name: &str, run: fn(&[u8])| {
        let pieces = match name {
            "packets" | "payloads" => Some(0),
            "lines" => Some(2),
            _ => None,
        };
        targets.push(Target { name: name.to_owned(), pieces, run: Box::new(run) });
    };
    add("packets", properties::packets);
    add("payloads", properties::payloads);
    add("stream", properties::stream);
    add("sql", properties::statements);
    add("secrets", |data| properties::secrets(&RECORDINGS, &TCP.iter().collect::<Vec<_>>(), data));
    add("lines", |data| lines::alike(&WINDOWS, data));
    add("pcap", |data| properties::file(PCAP, data));
    add("pcapng", |data| properties::file(PCAPNG, data));
    add("gzip", |data| properties::file(GZIP, data));
    add("zstd", |data| properties::file(ZSTD, data));
    targets
}
