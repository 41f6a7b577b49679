//! Zstandard frames one after the other as one reader (RFC 8878, 3).

use std::io::{self, ErrorKind, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Header of an empty raw block that is the last of its frame (RFC 8878, 3.1.1.2).
const LAST_BLOCK: [u8; 3] = [1, 0, 0];

/// Window of a frame that is decoded: as much as `zstd -d` allows without being asked. A decoder keeps a window of what it
/// decoded, and a header may ask for terabytes.
pub const WINDOW_BYTES_MAX: u64 = 128 << 20;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Decodes block by block. The decoder keeps back a window of what it decoded until its frame is finished, so a file
/// that breaks off is given an empty last block: what was decoded comes out before the error does.
pub(super) struct Zstd {
    source: Watched,
    decoder: FrameDecoder,
    in_frame: bool,
    truncated: bool,
}

struct Watched {
    reader: Box<dyn Read + Send>,
    ended: bool,
}

impl Read for Watched {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(target)?;
        self.ended |= count == 0 && !target.is_empty();
        Ok(count)
    }
}

impl Zstd {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Zstd {
        Zstd { source: Watched { reader, ended: false }, decoder: FrameDecoder::new(), in_frame: false, truncated: false }
    }

    /// Starts the next frame; false at the end of the input.
    fn start(&mut self) -> io::Result<bool> {
        loop {
            let mut magic = [0; 1];
            if self.source.read(&mut magic)? == 0 {
                return Ok(false);
            }
            let mut head = magic.to_vec();
            if header(&mut head, &mut self.source)?.is_some_and(|window| window > WINDOW_BYTES_MAX) {
                return Err(io::Error::new(ErrorKind::InvalidData, "a zstd window above 128 MiB"));
            }
            match self.decoder.reset(head.as_slice().chain(&mut self.source)) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut (&mut self.source).take(u64::from(length)), &mut io::sink())?;
                }
                Err(_) if self.source.ended => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error.to_string())),
            }
        }
    }

    fn block(&mut self) -> io::Result<()> {
        match self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1)) {
            Ok(_) => Ok(()),
            Err(_) if self.source.ended => {
                self.truncated = true;
                // Only the checksum can be missing after it, and that error says nothing new.
                let _ = self.decoder.decode_blocks(&LAST_BLOCK[..], BlockDecodingStrategy::UptoBlocks(1));
                Ok(())
            }
            Err(error) => Err(io::Error::new(ErrorKind::InvalidData, error.to_string())),
        }
    }

    fn check(&self) -> io::Result<()> {
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(stored), Some(calculated)) if stored != calculated => {
                Err(io::Error::new(ErrorKind::InvalidData, "zstd checksum differs"))
            }
            _ => Ok(()),
        }
    }
}

impl Read for Zstd {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() {
            return Ok(0);
        }
        loop {
            if self.in_frame && self.decoder.can_collect() > 0 {
                return self.decoder.read(target);
            }
            if self.in_frame && self.decoder.is_finished() {
                self.in_frame = false;
                if !self.truncated {
                    self.check()?;
                }
            }
            if self.truncated {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if !self.in_frame && !self.start()? {
                return Ok(0);
            }
            self.block()?;
        }
    }
}

/// Reads on in a frame's header as far as its window (RFC 8878, 3.1.1.1) and gives that; `None` for what is no frame or
/// breaks off.
fn header(head: &mut Vec<u8>, source: &mut impl Read) -> io::Result<Option<u64>> {
    let mut more = |head: &mut Vec<u8>, until: usize| -> io::Result<bool> {
        let missing = until.saturating_sub(head.len()) as u64;
        source.by_ref().take(missing).read_to_end(head)?;
        Ok(head.len() >= until)
    };
    if !more(head, 4)? || *head != MAGIC || !more(head, 5)? {
        return Ok(None);
    }
    let descriptor = head.get(4).copied().unwrap_or(0);
    let single = descriptor & 0x20 != 0;
    if !single {
        if !more(head, 6)? {
            return Ok(None);
        }
        let window = u64::from(head.get(5).copied().unwrap_or(0));
        let base = 1_u64 << (10 + (window >> 3));
        return Ok(Some(base + base / 8 * (window & 7)));
    }
    // Without a window the whole content is one.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let width = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    if !more(head, 5 + dictionary + width)? {
        return Ok(None);
    }
    let size = head.get(5 + dictionary..).unwrap_or_default().iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    Ok(Some(size + if width == 2 { 256 } else { 0 }))
}
