//! pcapng (draft-ietf-opsawg-pcapng): blocks in sections, each section with its own byte order and interfaces.

use super::input::Input;
use super::{BLOCK_BYTES_MAX, FRAME_BYTES_MAX, Frame, INTERFACES_MAX, Interface, Record, SourceError};
use crate::packet::LinkType;

/// Type of a Section Header Block; reads the same in both byte orders (4.1).
pub(super) const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION_TYPE: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const OPTION_IF_NAME: u16 = 2;
const OPTION_IF_TSRESOL: u16 = 9;
const OPTION_IF_TSOFFSET: u16 = 14;
const OPTION_ISB_IFDROP: u16 = 5;
/// A name longer than any operating system's is kept to this many bytes.
const NAME_BYTES_MAX: usize = 64;

/// What a section knows of one of its interfaces.
#[derive(Clone, Copy)]
struct Local {
    /// Index in [`Pcapng::interfaces`].
    interface: u32,
    link: u16,
    snap: u32,
    clock: Clock,
    lost: u64,
}

/// How a timestamp becomes nanoseconds.
#[derive(Clone, Copy)]
struct Clock {
    /// Nanoseconds a tick where that is whole; 0 asks for the division.
    nanos_per_tick: u64,
    ticks_per_second: u128,
    offset_s: i64,
}

impl Clock {
    fn time_ns(&self, ticks: u64) -> i64 {
        let since = if self.nanos_per_tick != 0 {
            u128::from(ticks) * u128::from(self.nanos_per_tick)
        } else {
            u128::from(ticks) * 1_000_000_000 / self.ticks_per_second
        };
        i64::try_from(since).unwrap_or(i64::MAX).saturating_add(self.offset_s.saturating_mul(1_000_000_000))
    }

    /// if_tsresol: a negative power of 2 if the high bit is set, of 10 otherwise (4.2). None: finer than can be told.
    fn from_resolution(resolution: u8) -> Option<Clock> {
        let exponent = u32::from(resolution & 0x7f);
        let ticks_per_second =
            if resolution & 0x80 != 0 { 1u128.checked_shl(exponent).filter(|_| exponent < 64) } else { 10u128.checked_pow(exponent) }?;
        Some(Clock {
            nanos_per_tick: match 1_000_000_000 % ticks_per_second {
                0 => (1_000_000_000 / ticks_per_second) as u64,
                _ => 0,
            },
            ticks_per_second,
            offset_s: 0,
        })
    }
}

impl Default for Clock {
    /// Microseconds, as the draft has it where the option is absent.
    fn default() -> Clock {
        Clock { nanos_per_tick: 1000, ticks_per_second: 1_000_000, offset_s: 0 }
    }
}

#[derive(Default)]
pub(super) struct Pcapng {
    little: bool,
    /// Interfaces of the current section, as its packets number them.
    locals: Vec<Local>,
    /// Distinct interfaces of the whole file: many sections repeat the same ones.
    interfaces: Vec<Interface>,
    /// A Simple Packet Block has no time; it gets that of the packet before it.
    time_ns: i64,
    /// Lost frames of the sections before this one.
    lost_before: u64,
}

impl Pcapng {
    pub(super) fn interface_name(&self, interface: u32) -> Option<&str> {
        self.interfaces.get(interface as usize)?.name.as_deref()
    }

    pub(super) fn lost_total(&self) -> u64 {
        self.lost_before + self.locals.iter().map(|local| local.lost).sum::<u64>()
    }

    /// The next packet; other blocks are read or skipped on the way.
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, SourceError> {
        loop {
            if input.peek(1)?.is_empty() {
                return Ok(None);
            }
            let head = input.need(12, "a block header")?;
            if head.starts_with(&SECTION) {
                self.little = match head.get(8..12) {
                    Some([0x4d, 0x3c, 0x2b, 0x1a]) => true,
                    Some([0x1a, 0x2b, 0x3c, 0x4d]) => false,
                    _ => return Err(input.wrong(8, "no byte-order magic".to_owned(), "0x1a2b3c4d")),
                };
            }
            let mut header = Reader::new(head, self.little);
            let kind = header.u32();
            let stated = header.u32();
            // Some writers leave the padding out of the length (Wireshark rounds it up as well).
            let size = (stated as usize).saturating_add(3) & !3;
            if !(12..=BLOCK_BYTES_MAX).contains(&size) {
                return Err(input.wrong(4, format!("block length {stated}"), format!("12 to {BLOCK_BYTES_MAX}")));
            }
            let block = input.need(size, "a block")?;
            let (content, last) = block.split_at(size - 4);
            if Reader::new(last, self.little).u32() != stated {
                return Err(input.wrong(size - 4, "a different length at the end of the block".to_owned(), stated.to_string()));
            }
            let body = content.get(8..).unwrap_or(&[]);
            let done = match kind {
                ENHANCED_PACKET => self.enhanced(body, size).map(Some),
                PACKET => self.packet(body, size).map(Some),
                SIMPLE_PACKET => self.simple(body, size).map(Some),
                INTERFACE_DESCRIPTION => self.describe(body).map(|()| None),
                INTERFACE_STATISTICS => {
                    self.statistics(body);
                    Ok(None)
                }
                SECTION_TYPE => self.section(body).map(|()| None),
                _ => Ok(None),
            };
            match done {
                Ok(Some(record)) => {
                    self.time_ns = record.time_ns;
                    return Ok(Some(record));
                }
                Ok(None) => {
                    input.take(size);
                }
                Err((at, found, expected)) => return Err(input.wrong(8 + at, found, expected)),
            }
        }
    }

    /// The frame of the Enhanced Packet Block that `bytes` begin with, and what follows it; None where another block stands, or
    /// none that is whole and sound.
    pub(super) fn lend<'a>(&mut self, bytes: &'a [u8]) -> Option<(Frame<'a>, &'a [u8])> {
        let mut header = Reader::new(bytes, self.little);
        let (kind, stated) = (header.u32(), header.u32());
        let size = (stated as usize).saturating_add(3) & !3;
        if kind != ENHANCED_PACKET || !(12..=BLOCK_BYTES_MAX).contains(&size) {
            return None;
        }
        let (block, rest) = bytes.split_at_checked(size)?;
        let (content, last) = block.split_at(size - 4);
        if Reader::new(last, self.little).u32() != stated {
            return None;
        }
        let Record { time_ns, link, start, captured, wire_len, interface, .. } = self.enhanced(content.get(8..)?, size).ok()?;
        let data = block.get(start..start + captured)?;
        self.time_ns = time_ns;
        Some((Frame { time_ns, link: LinkType::from_number(link), data, wire_len, vlan: None, interface }, rest))
    }

    /// Section Header Block (4.1): interfaces are numbered anew.
    fn section(&mut self, body: &[u8]) -> Result<(), Wrong> {
        let mut reader = Reader::new(body, self.little);
        reader.skip(4);
        let major = reader.u16();
        if major != 1 {
            return Err((4, format!("pcapng version {major}"), "version 1".to_owned()));
        }
        self.lost_before = self.lost_total();
        self.locals.clear();
        Ok(())
    }

    /// Interface Description Block (4.2).
    fn describe(&mut self, body: &[u8]) -> Result<(), Wrong> {
        let mut reader = Reader::new(body, self.little);
        let link = reader.u16();
        reader.skip(2);
        let snap = reader.u32();
        let mut clock = Clock::default();
        let mut offset_s = 0;
        let mut name = None;
        while let Some((code, value)) = reader.option() {
            match (code, value) {
                (OPTION_IF_TSRESOL, [resolution, ..]) => {
                    clock = Clock::from_resolution(*resolution).ok_or_else(|| {
                        let found = format!("time resolution {resolution:#04x}");
                        (8, found, "10^-38 s or 2^-63 s at the finest".to_owned())
                    })?;
                }
                (OPTION_IF_TSOFFSET, bytes) => offset_s = Reader::new(bytes, self.little).u64() as i64,
                (OPTION_IF_NAME, bytes) => {
                    let text = bytes.get(..NAME_BYTES_MAX).unwrap_or(bytes);
                    name = Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
                }
                _ => {}
            }
        }
        let described = Interface { name, link };
        let known = self.interfaces.iter().position(|interface| *interface == described);
        let interface = known.unwrap_or(self.interfaces.len());
        if known.is_none() {
            self.interfaces.push(described);
        }
        self.locals.push(Local { interface: interface as u32, link, snap, clock: Clock { offset_s, ..clock }, lost: 0 });
        if self.interfaces.len() > INTERFACES_MAX || self.locals.len() > INTERFACES_MAX {
            return Err((0, "one interface more".to_owned(), format!("at most {INTERFACES_MAX}")));
        }
        Ok(())
    }

    /// Interface Statistics Block (4.6): isb_ifdrop counts from the start of the capture.
    fn statistics(&mut self, body: &[u8]) {
        let mut reader = Reader::new(body, self.little);
        let interface = reader.u32();
        reader.skip(8);
        let Some(local) = self.locals.get_mut(interface as usize) else {
            return;
        };
        while let Some((code, value)) = reader.option() {
            if code == OPTION_ISB_IFDROP {
                local.lost = local.lost.max(Reader::new(value, self.little).u64());
            }
        }
    }

    /// Enhanced Packet Block (4.3).
    fn enhanced(&self, body: &[u8], size: usize) -> Result<Record, Wrong> {
        let mut reader = Reader::new(body, self.little);
        let local = self.local(reader.u32())?;
        let ticks = u64::from(reader.u32()) << 32 | u64::from(reader.u32());
        let (captured, wire_len) = (reader.u32(), reader.u32());
        let time_ns = local.clock.time_ns(ticks);
        record(local, time_ns, captured, wire_len, body.len(), 20, size)
    }

    /// The obsolete Packet Block (appendix A), still found in old files.
    fn packet(&self, body: &[u8], size: usize) -> Result<Record, Wrong> {
        let mut reader = Reader::new(body, self.little);
        let local = self.local(u32::from(reader.u16()))?;
        reader.skip(2);
        let ticks = u64::from(reader.u32()) << 32 | u64::from(reader.u32());
        let (captured, wire_len) = (reader.u32(), reader.u32());
        let time_ns = local.clock.time_ns(ticks);
        record(local, time_ns, captured, wire_len, body.len(), 20, size)
    }

    /// Simple Packet Block (4.4): the first interface, no time, captured length told by the snap length.
    fn simple(&self, body: &[u8], size: usize) -> Result<Record, Wrong> {
        let mut reader = Reader::new(body, self.little);
        let local = self.local(0)?;
        let wire_len = reader.u32();
        let captured = match local.snap {
            0 => wire_len,
            snap => wire_len.min(snap),
        };
        record(local, self.time_ns, captured, wire_len, body.len(), 4, size)
    }

    fn local(&self, interface: u32) -> Result<&Local, Wrong> {
        self.locals.get(interface as usize).ok_or_else(|| {
            let described = self.locals.len();
            (0, format!("interface {interface}"), format!("one of the {described} described"))
        })
    }
}

/// Place in the block's body, what stands there, what should.
type Wrong = (usize, String, String);

fn record(
    local: &Local,
    time_ns: i64,
    captured: u32,
    wire_len: u32,
    body_bytes: usize,
    before: usize,
    size: usize,
) -> Result<Record, Wrong> {
    let room = body_bytes.saturating_sub(before).min(FRAME_BYTES_MAX);
    if captured as usize > room || body_bytes < before {
        let at = before.saturating_sub(8);
        return Err((at, format!("frame of {captured} bytes"), format!("at most {room}")));
    }
    Ok(Record {
        time_ns,
        link: local.link,
        start: 8 + before,
        captured: captured as usize,
        wire_len: wire_len.max(captured),
        interface: local.interface,
        size,
    })
}

/// Numbers in the section's byte order; past the end everything is 0, and lengths are checked where they matter.
struct Reader<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], little: bool) -> Reader<'a> {
        Reader { bytes, little }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.bytes.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.bytes = rest;
                *head
            }
            None => {
                self.bytes = &[];
                [0; N]
            }
        }
    }

    fn u16(&mut self) -> u16 {
        let array = self.array();
        if self.little { u16::from_le_bytes(array) } else { u16::from_be_bytes(array) }
    }

    fn u32(&mut self) -> u32 {
        let array = self.array();
        if self.little { u32::from_le_bytes(array) } else { u32::from_be_bytes(array) }
    }

    fn u64(&mut self) -> u64 {
        let array = self.array();
        if self.little { u64::from_le_bytes(array) } else { u64::from_be_bytes(array) }
    }

    fn skip(&mut self, count: usize) {
        self.bytes = self.bytes.get(count..).unwrap_or(&[]);
    }

    /// The next option (3.5): code, length, value padded to four bytes; None at the end or where it does not fit.
    fn option(&mut self) -> Option<(u16, &'a [u8])> {
        let code = self.u16();
        let length = usize::from(self.u16());
        if code == 0 {
            return None;
        }
        let value = self.bytes.get(..length)?;
        self.skip((length + 3) & !3);
        Some((code, value))
    }
}
