//! Compressed packets (MySQL, "Compression"): a header of seven bytes around what would have been said without it.
//!
//! Bodies are inflated as they come, so that nothing of them is kept. What crossed the wire is shared out among the
//! movements of what was inside, by how much each had there: so the bytes of a flow are those of the wire.

use super::search::SURE;
use super::{COMMON, Mysql, Phase};
use crate::protocols::DecodeError;
use crate::protocols::search::{Found, Search};
use crate::windows::{Counts, Depth, Movement, Recorder, Side};
use flate2::{Decompress, FlushDecompress, Status};
use std::io::Read as _;
use std::sync::Arc;

/// Length, number, length before compression (0: it is not compressed).
const HEADER_BYTES: usize = 7;
/// Movements of one packet that are told apart; the bytes of further ones go to the last.
pub const WEIGHTS_MAX: usize = 64;
/// Bytes of one packet that are kept until it is whole, where its compression is Zstandard's, and what it may become;
/// a larger one is counted only.
pub const ZSTD_BYTES_MAX: usize = 1 << 20;
const PIECE_BYTES: usize = 8 << 10;
const BLOCK_BYTES: usize = 4 << 10;
/// What an inflater holds, roughly.
const INFLATER_BYTES: usize = 48 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Stored,
    /// The first byte tells.
    Unknown,
    Zlib,
    Zstd,
    /// Not to be read, for whatever reason.
    Broken,
}

/// One direction.
pub(super) struct Pipe {
    phase: Phase,
    head: Vec<u8>,
    left: u64,
    becomes: usize,
    kind: Kind,
    inflater: Option<Box<Decompress>>,
    /// Bytes that are not decompressed yet.
    held: Vec<u8>,
    /// What was in the packet, and how many bytes of it.
    weights: Vec<(Arc<Movement>, u64)>,
    /// Bytes of the wire that nobody has claimed.
    wire: u64,
    search: Search,
}

impl Default for Pipe {
    fn default() -> Self {
        Self {
            phase: Phase::Framed,
            head: Vec::new(),
            left: 0,
            becomes: 0,
            kind: Kind::Stored,
            inflater: None,
            held: Vec::new(),
            weights: Vec::new(),
            wire: 0,
            search: Search::default(),
        }
    }
}

impl Pipe {
    pub fn weigh(&mut self, movement: &Arc<Movement>, bytes: u64) {
        let full = self.weights.len() >= WEIGHTS_MAX;
        match self.weights.iter_mut().rev().find(|(known, _)| full || Arc::ptr_eq(known, movement)) {
            Some((_, weight)) => *weight += bytes,
            None => self.weights.push((Arc::clone(movement), bytes)),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let held = self.head.capacity() + self.held.capacity() + self.weights.capacity() * 16 + self.search.memory_bytes();
        held + self.inflater.as_ref().map_or(0, |_| INFLATER_BYTES)
    }

    /// `length` bytes were lost: whether the packet at hand holds all of them.
    pub fn lose(&mut self, length: u64) -> bool {
        self.held = Vec::new();
        if self.phase == Phase::Framed && self.left >= length && self.left > 0 {
            self.left -= length;
            self.kind = Kind::Broken;
            return true;
        }
        // A whole header was counted when it became whole.
        let uncounted = if self.phase == Phase::Framed && self.head.len() == HEADER_BYTES { 0 } else { self.head.len() };
        self.search.passed(uncounted.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)));
        self.phase = Phase::Search;
        self.wire += uncounted as u64;
        self.head.clear();
        self.left = 0;
        false
    }
}

/// What stands at the front of `bytes`, which hold a header and a byte at least.
fn at(bytes: &[u8]) -> Found {
    let Some((head, body)) = bytes.split_at_checked(HEADER_BYTES) else { return Found::No };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let (length, becomes) = (number(&head[..3]), number(&head[4..]));
    let worth = match (becomes, body.first(), body.get(1)) {
        (0, ..) => u8::from((4..=1 << 20).contains(&length)),
        (_, Some(0x78), Some(second)) if (0x7800 + u32::from(*second)) % 31 == 0 && length <= becomes => 4,
        (_, Some(0x28), Some(0xb5)) if length <= becomes => 4,
        _ => 0,
    };
    if worth == 0 { Found::No } else { Found::Message { length: HEADER_BYTES + length, worth: worth.min(SURE) } }
}

impl Mysql {
    fn pipe(&mut self, sender: Side) -> Option<&mut Pipe> {
        self.pipes.as_mut().map(|pipes| &mut pipes[sender as usize])
    }

    /// Reads what stands first in `bytes`; the number of bytes used.
    pub(super) fn piped(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let Some(pipe) = self.pipe(sender) else { return Ok(bytes.len()) };
        if pipe.phase == Phase::Search {
            return self.search_pipe(sender, bytes, out);
        }
        if pipe.head.len() < HEADER_BYTES {
            let used = bytes.len().min(HEADER_BYTES - pipe.head.len());
            pipe.head.extend_from_slice(&bytes[..used]);
            if let &[a, b, c, _, x, y, z] = pipe.head.as_slice() {
                pipe.wire += HEADER_BYTES as u64;
                pipe.left = u64::from(u32::from_le_bytes([a, b, c, 0]));
                pipe.becomes = u32::from_le_bytes([x, y, z, 0]) as usize;
                pipe.kind = if pipe.becomes == 0 { Kind::Stored } else { Kind::Unknown };
                if let Some(inflater) = pipe.inflater.as_mut().filter(|_| pipe.becomes > 0) {
                    inflater.reset(true);
                }
                if let Some(g) = self.gathered.as_mut() {
                    g.compressed_packets += 1;
                }
                self.end_if_whole(sender, out)?;
            }
            return Ok(used);
        }
        let used = bytes.len().min(usize::try_from(pipe.left).unwrap_or(usize::MAX));
        let piece = &bytes[..used];
        pipe.left -= used as u64;
        pipe.wire += used as u64;
        if pipe.kind == Kind::Unknown {
            let small = pipe.left as usize + used <= ZSTD_BYTES_MAX && pipe.becomes <= ZSTD_BYTES_MAX;
            pipe.kind = match piece.first() {
                // A frame's magic number (RFC 8878, 3.1.1); in zlib it would be a window that nobody takes.
                Some(0x28) if small => Kind::Zstd,
                Some(first) if first & 0x0f == 8 => Kind::Zlib,
                _ => Kind::Broken,
            };
            if pipe.kind == Kind::Broken {
                if matches!(piece.first(), Some(0x28)) {
                    self.give_up(out);
                    return Ok(used);
                }
                self.lose_inside(sender, out)?;
            }
        }
        match self.pipe(sender).map(|pipe| pipe.kind) {
            Some(Kind::Stored) => self.plain(sender, piece, out)?,
            Some(Kind::Zlib) => self.inflate_blocks(sender, piece, out)?,
            Some(Kind::Zstd) => {
                if let Some(pipe) = self.pipe(sender) {
                    pipe.held.extend_from_slice(piece);
                }
            }
            _ => {}
        }
        self.end_if_whole(sender, out)?;
        Ok(used)
    }

    /// What is inside, as it would stand on the wire without compression.
    fn plain(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = self.step(sender, rest, out)?;
            if used == 0 {
                break;
            }
            rest = rest.get(used..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// In blocks that begin at the same places however the bytes are cut: where a stream is damaged, how much comes out before
    /// that is noticed depends on what was given at a time.
    fn inflate_blocks(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let mut rest = bytes;
        while let Some(pipe) = self.pipe(sender).filter(|pipe| pipe.kind == Kind::Zlib && !rest.is_empty()) {
            let (now, after) = rest.split_at(rest.len().min(BLOCK_BYTES - pipe.held.len()));
            rest = after;
            pipe.held.extend_from_slice(now);
            if pipe.held.len() == BLOCK_BYTES || (rest.is_empty() && pipe.left == 0) {
                let mut block = std::mem::take(&mut pipe.held);
                self.inflate(sender, &block, out)?;
                block.clear();
                if let Some(pipe) = self.pipe(sender) {
                    pipe.held = block;
                }
            }
        }
        Ok(())
    }

    fn inflate(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let Some(mut inflater) = self.pipe(sender).map(|pipe| pipe.inflater.take().unwrap_or_else(|| Box::new(Decompress::new(true))))
        else {
            return Ok(());
        };
        let most = self.pipe(sender).map_or(0, |pipe| pipe.becomes as u64);
        let mut rest = bytes;
        let mut piece = [0; PIECE_BYTES];
        loop {
            let (before, made) = (inflater.total_in(), inflater.total_out());
            let room = most.saturating_sub(made).min(PIECE_BYTES as u64) as usize;
            // A stream that becomes more than it says ends here.
            let status = inflater.decompress(rest, &mut piece[..room], FlushDecompress::None);
            let (taken, given) = ((inflater.total_in() - before) as usize, (inflater.total_out() - made) as usize);
            rest = rest.get(taken..).unwrap_or(&[]);
            self.plain(sender, &piece[..given], out)?;
            match status {
                Ok(Status::Ok | Status::BufError) if taken + given > 0 => {}
                Ok(_) => break,
                Err(_) => {
                    if let Some(pipe) = self.pipe(sender) {
                        pipe.kind = Kind::Broken;
                    }
                    self.lose_inside(sender, out)?;
                    break;
                }
            }
        }
        if let Some(pipe) = self.pipe(sender) {
            pipe.inflater = Some(inflater);
        }
        Ok(())
    }

    fn unpack(&mut self, sender: Side, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let Some((packed, becomes)) = self.pipe(sender).map(|pipe| (std::mem::take(&mut pipe.held), pipe.becomes)) else { return Ok(()) };
        let mut plain = Vec::new();
        let read = ruzstd::decoding::StreamingDecoder::new(packed.as_slice())
            .ok()
            .and_then(|frame| frame.take(becomes as u64).read_to_end(&mut plain).ok());
        if read == Some(becomes) {
            return self.plain(sender, &plain, out);
        }
        self.lose_inside(sender, out)
    }

    /// At the end of a packet its bytes are shared out.
    pub(super) fn end_if_whole(&mut self, sender: Side, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let Some(pipe) = self.pipe(sender).filter(|pipe| pipe.left == 0) else { return Ok(()) };
        pipe.head.clear();
        if pipe.kind == Kind::Zstd {
            self.unpack(sender, out)?;
        }
        self.share_out(sender);
        Ok(())
    }

    fn share_out(&mut self, sender: Side) {
        let Some(pipe) = self.pipe(sender) else { return };
        if pipe.kind == Kind::Broken {
            pipe.weigh(&COMMON.transfer, 1);
        }
        let weights = std::mem::take(&mut pipe.weights);
        let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            // All of it is held back: it goes with what comes next.
            return;
        }
        let (mut wire, mut left) = (std::mem::take(&mut pipe.wire), total);
        for (movement, weight) in weights {
            let share = (u128::from(wire) * u128::from(weight) / u128::from(left.max(1))) as u64;
            left -= weight;
            wire -= share;
            self.claims.add(&movement, sender, share, Counts::ZERO);
        }
    }

    /// What is inside cannot be read: behind a gap it may be no packet at all; without one it is not this protocol.
    fn lose_inside(&mut self, sender: Side, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if !self.marked {
            let becomes = self.pipe(sender).map_or(0, |pipe| pipe.becomes as u64);
            return Err(DecodeError::new("compressed packet that becomes", becomes, "what it says, of zlib or Zstandard"));
        }
        out.gapped();
        self.lost(sender, u64::MAX);
        Ok(())
    }

    /// A packet that is too large to be kept: from here on bytes are counted only.
    fn give_up(&mut self, out: &mut Recorder<'_>) {
        for side in [Side::Client, Side::Server] {
            if let Some(pipe) = self.pipe(side) {
                let begun = if pipe.head.len() < HEADER_BYTES { pipe.head.len() as u64 } else { 0 };
                let wire = std::mem::take(&mut pipe.wire) + begun;
                self.claims.add(&COMMON.transfer, side, wire, Counts::ZERO);
            }
        }
        self.counted_only = true;
        out.depth(Depth::Sizes);
    }

    fn search_pipe(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let Some(pipe) = self.pipe(sender) else { return Ok(bytes.len()) };
        let mut joined = std::mem::take(&mut pipe.head);
        joined.extend_from_slice(bytes);
        let tail = HEADER_BYTES + 1;
        let found = pipe.search.look(&joined, tail, &at);
        let passed = found.unwrap_or(joined.len().saturating_sub(tail));
        pipe.search.passed(passed);
        let rest = joined.split_off(passed);
        pipe.wire += passed as u64;
        pipe.kind = Kind::Broken;
        if found.is_none() {
            pipe.head = rest;
            self.share_out(sender);
            return Ok(bytes.len());
        }
        pipe.phase = Phase::Framed;
        self.share_out(sender);
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            let used = self.piped(sender, rest, out)?;
            rest = rest.get(used..).unwrap_or(&[]);
        }
        Ok(bytes.len())
    }
}
