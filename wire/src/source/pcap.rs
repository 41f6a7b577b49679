//! The classic pcap file (draft-ietf-opsawg-pcap): a 24-byte header, then records of 16 bytes and a frame.

use super::input::Input;
use super::{FRAME_BYTES_MAX, Frame, Record, SourceError};
use crate::packet::LinkType;

const FILE_HEADER_BYTES: usize = 24;

pub(super) struct Pcap {
    little: bool,
    nanos_per_tick: i64,
    header_bytes: usize,
    link: u16,
    link_type: LinkType,
}

/// What stands before a frame.
struct Header {
    time_ns: i64,
    captured: usize,
    wire_len: u32,
}

impl Pcap {
    pub(super) fn open(magic: [u8; 4], input: &mut Input) -> Result<Pcap, SourceError> {
        let (little, nanos_per_tick, header_bytes) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (true, 1000, 16),
            [0xa1, 0xb2, 0xc3, 0xd4] => (false, 1000, 16),
            [0x4d, 0x3c, 0xb2, 0xa1] => (true, 1, 16),
            [0xa1, 0xb2, 0x3c, 0x4d] => (false, 1, 16),
            // Kuznetzov's patched libpcap adds interface, protocol and packet type to each record.
            [0x34, 0xcd, 0xb2, 0xa1] => (true, 1000, 24),
            [0xa1, 0xb2, 0xcd, 0x34] => (false, 1000, 24),
            [a, b, c, d] => {
                return Err(input.wrong(
                    0,
                    format!("magic number {a:02x}{b:02x}{c:02x}{d:02x}"),
                    "a pcap or pcapng file, plain, gzip or zstd",
                ));
            }
        };
        let header = input.need(FILE_HEADER_BYTES, "the pcap file header")?;
        let number = |bytes: &[u8]| word(bytes, little);
        let major = header.get(4..8).map_or(0, |bytes| match (little, bytes) {
            (true, [low, high, ..]) | (false, [high, low, ..]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        });
        // The upper half holds flags and the length of the frame check sequence.
        let link = number(header.get(20..24).unwrap_or(&[])) as u16;
        if major != 2 {
            return Err(input.wrong(4, format!("pcap version {major}"), "version 2"));
        }
        input.take(FILE_HEADER_BYTES);
        Ok(Pcap { little, nanos_per_tick, header_bytes, link, link_type: LinkType::from_number(link) })
    }

    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, SourceError> {
        if input.peek(1)?.is_empty() {
            return Ok(None);
        }
        let header = self.header(input.need(self.header_bytes, "a record header")?);
        let Some(Header { time_ns, captured, wire_len }) = header else { return Ok(None) };
        if captured > FRAME_BYTES_MAX {
            return Err(input.wrong(8, format!("frame of {captured} bytes"), format!("at most {FRAME_BYTES_MAX}")));
        }
        let size = self.header_bytes + captured;
        input.need(size, "a frame")?;
        Ok(Some(Record { time_ns, link: self.link, start: self.header_bytes, captured, wire_len, interface: 0, size }))
    }

    /// The frame that `bytes` begin with, and what follows it; None where they hold no whole and sound one.
    #[inline]
    pub(super) fn lend<'a>(&self, bytes: &'a [u8]) -> Option<(Frame<'a>, &'a [u8])> {
        let Header { time_ns, captured, wire_len } = self.header(bytes)?;
        if captured > FRAME_BYTES_MAX {
            return None;
        }
        let (data, rest) = bytes.get(self.header_bytes..)?.split_at_checked(captured)?;
        Some((Frame { time_ns, link: self.link_type, data, wire_len, vlan: None, interface: 0 }, rest))
    }

    #[inline]
    fn header(&self, bytes: &[u8]) -> Option<Header> {
        let words = bytes.first_chunk::<16>()?;
        let [s0, s1, s2, s3, t0, t1, t2, t3, c0, c1, c2, c3, w0, w1, w2, w3] = *words;
        let word = |bytes| if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
        let (seconds, ticks, captured) = (word([s0, s1, s2, s3]), word([t0, t1, t2, t3]), word([c0, c1, c2, c3]));
        let time_ns = i64::from(seconds) * 1_000_000_000 + i64::from(ticks) * self.nanos_per_tick;
        Some(Header { time_ns, captured: captured as usize, wire_len: word([w0, w1, w2, w3]).max(captured) })
    }
}

fn word(bytes: &[u8], little: bool) -> u32 {
    match *bytes {
        [a, b, c, d] if little => u32::from_le_bytes([a, b, c, d]),
        [a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    }
}
