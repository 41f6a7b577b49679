//! Several captures as one stream in the order of time: the two directions of a tap, or a capture that was cut in pieces.
//!
//! Each file is opened once to see its first frame, and again when the time of the stream reaches it, so a day of pieces
//! keeps one file open at a time; only files that overlap are open together. Within a file the order is the file's.

use std::path::{Path, PathBuf};

use super::{FileSource, Source, SourceError, Step};

/// Files open at once; where more overlap, the next waits until one ends, and frames of the two may change places.
pub const FILES_OPEN_MAX: usize = 256;

/// What pcapng interface numbers stay below ([`super::INTERFACES_MAX`]).
const INTERFACE_BITS: u32 = 16;
/// Stands for the time of the next frame while one is lent.
const LENT: i64 = i64::MIN;

struct Waiting {
    first_ns: i64,
    number: u32,
    path: PathBuf,
    /// Kept open where it cannot be opened a second time.
    source: Option<FileSource>,
}

struct Open {
    next_ns: i64,
    number: u32,
    source: FileSource,
}

/// Captures, merged.
pub struct Merged {
    /// Latest first.
    waiting: Vec<Waiting>,
    open: Vec<Open>,
    /// The first that failed; told when all others were read.
    failure: Option<SourceError>,
    bytes_total: Option<u64>,
    /// Of files that are over.
    bytes_read: u64,
    lost_total: u64,
}

impl Merged {
    /// Opens the captures; one that cannot be read is the error at the end, and hides no other. Files whose first frames
    /// are of one time come in the order given.
    pub fn open(paths: &[PathBuf]) -> Merged {
        let mut merged =
            Merged { waiting: Vec::new(), open: Vec::new(), failure: None, bytes_total: Some(0), bytes_read: 0, lost_total: 0 };
        for (number, path) in paths.iter().enumerate() {
            let opened = FileSource::open(path).and_then(|mut source| Ok((source.peek_ns()?, source)));
            match opened {
                Ok((first_ns, source)) => {
                    let bytes_total = source.bytes_total();
                    merged.bytes_total = merged.bytes_total.zip(bytes_total).map(|(sum, bytes)| sum + bytes);
                    // Only a regular file has a size, and only a regular file begins anew.
                    let source = bytes_total.is_none().then_some(source);
                    let first_ns = first_ns.unwrap_or(i64::MAX);
                    merged.waiting.push(Waiting { first_ns, number: number as u32, path: path.clone(), source });
                }
                Err(error) => merged.fail(error),
            }
        }
        merged.waiting.sort_by_key(|file| std::cmp::Reverse((file.first_ns, file.number)));
        merged
    }

    fn fail(&mut self, error: SourceError) {
        self.failure.get_or_insert(error);
    }

    /// Opens the files that the stream has reached.
    fn reach(&mut self) {
        while let Some(next) = self.waiting.last() {
            let front_ns = self.open.iter().map(|open| open.next_ns).min();
            if self.open.len() >= FILES_OPEN_MAX || front_ns.is_some_and(|front_ns| front_ns < next.first_ns) {
                return;
            }
            let Some(Waiting { number, path, source, .. }) = self.waiting.pop() else { return };
            let opened = source.map_or_else(|| FileSource::open(Path::new(&path)), Ok);
            match opened {
                Ok(source) => {
                    self.open.push(Open { next_ns: LENT, number, source });
                    self.advance(self.open.len() - 1);
                }
                Err(error) => self.fail(error),
            }
        }
    }

    /// Takes the time of a file's next frame, or the file away at its end.
    fn advance(&mut self, at: usize) {
        let Some(file) = self.open.get_mut(at) else { return };
        let failure = match file.source.peek_ns() {
            Ok(Some(next_ns)) => {
                file.next_ns = next_ns;
                return;
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let mut file = self.open.swap_remove(at);
        self.bytes_read += file.source.bytes_read();
        self.lost_total += file.source.lost_total();
        if let Some(error) = failure {
            self.fail(error);
        }
    }
}

impl Source for Merged {
    fn read(&mut self) -> Result<Step<'_>, SourceError> {
        // The frame lent last is over: where its file stands now decides where it comes next.
        if let Some(at) = self.open.iter().position(|open| open.next_ns == LENT) {
            self.advance(at);
        }
        self.reach();
        let next = self.open.iter().enumerate().min_by_key(|(_, open)| (open.next_ns, open.number)).map(|(at, _)| at);
        let Some(file) = next.and_then(|at| self.open.get_mut(at)) else {
            return self.failure.take().map_or(Ok(Step::End), Err);
        };
        file.next_ns = LENT;
        let number = file.number;
        match file.source.read()? {
            Step::Frame(mut frame) => {
                frame.interface |= number << INTERFACE_BITS;
                Ok(Step::Frame(frame))
            }
            other => Ok(other),
        }
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read + self.open.iter().map(|open| open.source.bytes_read()).sum::<u64>()
    }

    fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    fn interface_name(&self, interface: u32) -> Option<&str> {
        let file = self.open.iter().find(|open| open.number == interface >> INTERFACE_BITS)?;
        file.source.interface_name(interface & ((1 << INTERFACE_BITS) - 1))
    }

    fn lost_total(&mut self) -> u64 {
        self.lost_total + self.open.iter_mut().map(|open| open.source.lost_total()).sum::<u64>()
    }
}
