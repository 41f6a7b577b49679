//! Where frames come from: one reading interface for capture files, standard input and live interfaces.
//!
//! A [`Source`] lends frames out of its own buffer, so nothing is copied or allocated per packet. Files may
//! be pcap or pcapng, plain, gzip or zstd; all of that is told by their first bytes, never by their name.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::packet::LinkType;
use crate::soon::soon_first;

mod input;
pub mod merge;
mod pcap;
mod pcapng;
mod zstd;

use input::Input;

/// Bytes asked of the operating system at a time.
pub const BUFFER_BYTES: usize = 256 * 1024;
/// Largest frame accepted from a file: above any snap length, so a larger one is a damaged length field.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Largest pcapng block accepted; sections carry comments and decryption secrets, never this long.
pub const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Distinct interfaces accepted from one file.
pub const INTERFACES_MAX: usize = 4096;
/// How far ahead of a record the bytes are asked for that later ones begin in.
const AHEAD_BYTES: usize = 1024;
/// Frames lent at a time ([`Source::read_some`]): as many as their headers fit the innermost cache beside what they lead to.
pub const FRAMES_MAX: usize = 32;

/// One frame, lent until the source is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Nanoseconds since the Unix epoch.
    pub time_ns: i64,
    pub link: LinkType,
    pub data: &'a [u8],
    /// Length on the wire, at least `data.len()`.
    pub wire_len: u32,
    /// The tag (TCI) that was taken out of the frame before it was captured.
    pub vlan: Option<u16>,
    /// Index for [`Source::interface_name`].
    pub interface: u32,
}

impl Frame<'_> {
    pub(crate) const NONE: Frame<'static> = Frame { time_ns: 0, link: LinkType::Raw, data: &[], wire_len: 0, vlan: None, interface: 0 };
}

/// What one reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Frame(Frame<'a>),
    /// Live only: no frame arrived within the timeout. Time passes and the source is still open.
    Idle,
    /// Nothing will follow.
    End,
}

/// The same of a reading of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// So many were lent.
    Frames(usize),
    Idle,
    End,
}

/// An interface that gave nothing for a while, and the others did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    pub place: String,
    pub why: String,
    /// From the last telling of the same outage on.
    pub since_ns: i64,
    pub until_ns: i64,
}

/// Anything that gives frames.
pub trait Source {
    /// The next frame.
    ///
    /// # Errors
    /// See [`SourceError`]; after an error the source is at its [`Step::End`].
    fn read(&mut self) -> Result<Step<'_>, SourceError>;

    /// Lends the next frames that are at hand, at least one, at most `most` and [`FRAMES_MAX`], all of one interface: who takes
    /// them can look ahead.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_some(&mut self, _most: usize, take: &mut dyn FnMut(&[Frame<'_>])) -> Result<Turn, SourceError> {
        Ok(lent(self.read()?, take))
    }

    /// Bytes of input consumed: of a compressed file the compressed ones, of an interface those of the frames.
    fn bytes_read(&self) -> u64;

    /// Size of the input where it is known, for progress.
    fn bytes_total(&self) -> Option<u64>;

    /// The name of an interface seen so far; None where the file does not say.
    fn interface_name(&self, interface: u32) -> Option<&str>;

    /// Frames known to be lost before this point: what the kernel dropped, or what the file says was dropped.
    /// Never falls.
    fn lost_total(&mut self) -> u64;

    /// Interfaces that failed since the last call, came back, or are still down.
    fn take_outages(&mut self) -> Vec<Outage> {
        Vec::new()
    }
}

/// Puts the frames that `bytes` begin with in their places, at most `most` and all of one interface; how many, and their bytes.
#[inline]
fn together<'a>(
    places: &mut [Frame<'a>],
    most: usize,
    bytes: &'a [u8],
    mut lend: impl FnMut(&'a [u8]) -> Option<(Frame<'a>, &'a [u8])>,
) -> (usize, usize) {
    let (mut count, mut rest) = (0, bytes);
    let mut interface = None;
    for place in places.iter_mut().take(most) {
        let Some((frame, after)) = lend(rest) else { break };
        if *interface.get_or_insert(frame.interface) != frame.interface {
            break;
        }
        (*place, rest) = (frame, after);
        // Where the next record begins is known only once this one's header has come.
        if let Some(further) = rest.get(AHEAD_BYTES..) {
            soon_first(further);
        }
        count += 1;
    }
    (count, bytes.len() - rest.len())
}

/// Lends the one frame that was read.
fn lent(step: Step<'_>, take: &mut dyn FnMut(&[Frame<'_>])) -> Turn {
    match step {
        Step::Frame(frame) => {
            take(&[frame]);
            Turn::Frames(1)
        }
        Step::Idle => Turn::Idle,
        Step::End => Turn::End,
    }
}

/// Why reading stopped. Every message is one line.
#[derive(Debug)]
pub enum SourceError {
    /// The operating system refused.
    Io { place: String, error: io::Error },
    /// What the input holds from its beginning is no capture.
    NoCapture(Box<SourceError>),
    /// A damaged capture. `offset` counts uncompressed bytes.
    Format { place: String, offset: u64, found: String, expected: String },
    /// The input ended inside a record; every whole frame before it was given.
    Truncated { place: String, offset: u64, within: String },
    /// Live capture could not start or go on; the message says what to do.
    Capture { place: String, message: String },
}

impl fmt::Display for SourceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::Io { place, error } => write!(formatter, "{place}: {error}"),
            SourceError::NoCapture(why) => why.fmt(formatter),
            SourceError::Format { place, offset, found, expected } => {
                write!(formatter, "{place}: {found} at offset {offset}, expected {expected}")
            }
            SourceError::Truncated { place, offset, within } => {
                write!(formatter, "{place}: ends at offset {offset} within {within}")
            }
            SourceError::Capture { place, message } => write!(formatter, "{place}: {message}"),
        }
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SourceError::Io { error, .. } => Some(error),
            SourceError::NoCapture(why) => Some(why),
            _ => None,
        }
    }
}

/// One interface of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    name: Option<String>,
    link: u16,
}

/// A frame's place in the input's buffer, from the start of the current record.
struct Record {
    time_ns: i64,
    link: u16,
    start: usize,
    captured: usize,
    wire_len: u32,
    interface: u32,
    /// Bytes of the whole record, consumed when the next one is read.
    size: usize,
}

enum Format {
    Pcap(pcap::Pcap),
    Pcapng(pcapng::Pcapng),
}

impl Format {
    fn of(input: &mut Input) -> Result<Format, SourceError> {
        let magic = input.need(4, "the magic number")?.first_chunk::<4>().copied();
        Ok(match magic.unwrap_or_default() {
            pcapng::SECTION => Format::Pcapng(pcapng::Pcapng::default()),
            other => Format::Pcap(pcap::Pcap::open(other, input)?),
        })
    }
}

/// A capture file or a stream in the form of one.
pub struct FileSource {
    input: Input,
    format: Format,
    ended: bool,
    /// The record that was looked at and not lent yet.
    peeked: Option<Record>,
    bytes_read: Arc<AtomicU64>,
    bytes_total: Option<u64>,
}

impl FileSource {
    /// Opens a capture; `-` is standard input.
    ///
    /// # Errors
    /// The file cannot be read or is no capture.
    pub fn open(path: &Path) -> Result<FileSource, SourceError> {
        if path == Path::new("-") {
            return FileSource::from_reader("standard input", Box::new(io::stdin()), None);
        }
        let place = path.display().to_string();
        let opened = File::open(path).and_then(|file| {
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            Ok((file, metadata))
        });
        match opened {
            Ok((file, metadata)) => {
                // A named pipe has no size to speak of.
                let bytes_total = metadata.is_file().then_some(metadata.len());
                FileSource::from_reader(&place, Box::new(file), bytes_total)
            }
            Err(error) => Err(SourceError::Io { place, error }),
        }
    }

    /// Reads a capture from anything; it may arrive in pieces of any size. `place` names it in errors.
    ///
    /// # Errors
    /// The first bytes cannot be read or begin no capture.
    pub fn from_reader(place: &str, reader: Box<dyn Read + Send>, bytes_total: Option<u64>) -> Result<FileSource, SourceError> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = Counted { reader, bytes: Arc::clone(&bytes_read) };
        let mut input = Input::open(place, Box::new(counted))?;
        let format = Format::of(&mut input).map_err(|error| match error {
            SourceError::Io { .. } => error,
            what_it_holds => SourceError::NoCapture(Box::new(what_it_holds)),
        })?;
        Ok(FileSource { input, format, ended: false, peeked: None, bytes_read, bytes_total })
    }

    /// The time of the next frame; None at the end.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn peek_ns(&mut self) -> Result<Option<i64>, SourceError> {
        if self.peeked.is_none() && !self.ended {
            let found = self.next_record();
            self.ended = !matches!(found, Ok(Some(_)));
            self.peeked = found?;
        }
        Ok(self.peeked.as_ref().map(|record| record.time_ns))
    }

    /// Apart from [`FileSource::lend`], so that reading a single file does not pay for it.
    #[cold]
    fn lend_peeked(&mut self) -> Step<'_> {
        match self.peeked.take() {
            Some(record) => self.lend(&record),
            None => Step::End,
        }
    }

    #[inline]
    fn lend(&mut self, record: &Record) -> Step<'_> {
        let link = LinkType::from_number(record.link);
        let bytes = self.input.take(record.size);
        let data = bytes.get(record.start..record.start + record.captured).unwrap_or(&[]);
        Step::Frame(Frame { time_ns: record.time_ns, link, data, wire_len: record.wire_len, vlan: None, interface: record.interface })
    }

    fn next_record(&mut self) -> Result<Option<Record>, SourceError> {
        match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.input),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.input),
        }
    }
}

impl Source for FileSource {
    fn read_some(&mut self, most: usize, take: &mut dyn FnMut(&[Frame<'_>])) -> Result<Turn, SourceError> {
        if self.peeked.is_none() && !self.ended {
            let mut frames = [Frame::NONE; FRAMES_MAX];
            let (at_hand, most) = (self.input.at_hand(), most.min(FRAMES_MAX));
            let (count, size) = match &mut self.format {
                Format::Pcap(pcap) => together(&mut frames, most, at_hand, |bytes| pcap.lend(bytes)),
                Format::Pcapng(pcapng) => together(&mut frames, most, at_hand, |bytes| pcapng.lend(bytes)),
            };
            if let Some(frames) = frames.get(..count).filter(|frames| !frames.is_empty()) {
                take(frames);
                self.input.take(size);
                return Ok(Turn::Frames(count));
            }
        }
        // What is at hand is no whole frame, or none that is sound: read on, or say why not.
        Ok(lent(self.read()?, take))
    }

    fn read(&mut self) -> Result<Step<'_>, SourceError> {
        if self.ended {
            return Ok(Step::End);
        }
        if self.peeked.is_some() {
            return Ok(self.lend_peeked());
        }
        match self.next_record() {
            Ok(Some(record)) => Ok(self.lend(&record)),
            Ok(None) => {
                self.ended = true;
                Ok(Step::End)
            }
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    fn interface_name(&self, interface: u32) -> Option<&str> {
        match &self.format {
            Format::Pcap(_) => None,
            Format::Pcapng(pcapng) => pcapng.interface_name(interface),
        }
    }

    fn lost_total(&mut self) -> u64 {
        match &self.format {
            Format::Pcap(_) => 0,
            Format::Pcapng(pcapng) => pcapng.lost_total(),
        }
    }
}

/// Counts what passes, below any decompression.
struct Counted {
    reader: Box<dyn Read + Send>,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(target)?;
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
