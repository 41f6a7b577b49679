//! A sliding buffer over a reader: a whole record lies in one slice, however the bytes arrive.

use std::io::{self, BufReader, Cursor, ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use super::zstd::Zstd;
use super::{BUFFER_BYTES, SourceError};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

pub(super) struct Input {
    place: String,
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Uncompressed bytes before `start`.
    offset: u64,
    ended: bool,
}

impl Input {
    /// Looks at the first bytes and puts the decompressor between that they ask for.
    pub(super) fn open(place: &str, mut reader: Box<dyn Read + Send>) -> Result<Input, SourceError> {
        let mut magic = Vec::with_capacity(4);
        reader.by_ref().take(4).read_to_end(&mut magic).map_err(|error| SourceError::Io { place: place.to_owned(), error })?;
        let (is_gzip, is_zstd) = (magic.starts_with(&GZIP), magic.starts_with(&ZSTD));
        let whole = Cursor::new(magic).chain(reader);
        let reader: Box<dyn Read + Send> = if is_gzip {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, whole)))
        } else if is_zstd {
            Box::new(Zstd::new(Box::new(BufReader::with_capacity(BUFFER_BYTES, whole))))
        } else {
            Box::new(whole)
        };
        Ok(Input { place: place.to_owned(), reader, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, offset: 0, ended: false })
    }

    /// Tries to have `count` bytes at hand; gives what there is, fewer only at the end of the input.
    pub(super) fn peek(&mut self, count: usize) -> Result<&[u8], SourceError> {
        if self.end - self.start < count {
            self.fill(count)?;
        }
        let last = self.end.min(self.start + count);
        Ok(self.buffer.get(self.start..last).unwrap_or(&[]))
    }

    /// Exactly `count` bytes, or [`SourceError::Truncated`].
    pub(super) fn need(&mut self, count: usize, within: &str) -> Result<&[u8], SourceError> {
        if self.end - self.start < count {
            self.fill(count)?;
            if self.end - self.start < count {
                return Err(SourceError::Truncated {
                    place: self.place.clone(),
                    offset: self.offset + (self.end - self.start) as u64,
                    within: within.to_owned(),
                });
            }
        }
        Ok(self.buffer.get(self.start..self.start + count).unwrap_or(&[]))
    }

    /// All that is in the buffer.
    pub(super) fn at_hand(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or(&[])
    }

    /// Consumes and lends `count` bytes, which [`Input::need`] has made sure of.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let first = self.start;
        self.start = (first + count).min(self.end);
        self.offset += (self.start - first) as u64;
        self.buffer.get(first..self.start).unwrap_or(&[])
    }

    /// An error about the bytes `at` bytes after the current position.
    #[cold]
    pub(super) fn wrong(&self, at: usize, found: String, expected: impl Into<String>) -> SourceError {
        SourceError::Format { place: self.place.clone(), offset: self.offset + at as u64, found, expected: expected.into() }
    }

    #[cold]
    fn fill(&mut self, count: usize) -> Result<(), SourceError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < count {
            self.buffer.resize(count.next_power_of_two(), 0);
        }
        while self.end < count && !self.ended {
            let Some(room) = self.buffer.get_mut(self.end..) else {
                break;
            };
            match self.reader.read(room) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A compressed file that breaks off: the caller finds its record incomplete.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.ended = true;
                    if self.end == 0 {
                        return Err(self.broken_off());
                    }
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    #[cold]
    fn broken_off(&self) -> SourceError {
        SourceError::Truncated { place: self.place.clone(), offset: self.offset, within: "the compressed data".to_owned() }
    }

    #[cold]
    fn failed(&self, error: io::Error) -> SourceError {
        if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput) {
            return self.wrong(self.end - self.start, format!("damaged compression ({error})"), "a whole gzip or zstd file");
        }
        SourceError::Io { place: self.place.clone(), error }
    }
}
