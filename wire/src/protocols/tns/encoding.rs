//! How the two-task layer (TTC) writes numbers, pointers and bytes.
//!
//! The client chooses: a thin client writes every number as its length and its bytes ("universal"), one that is built on
//! Oracle's own library writes memory as its processor holds it, with pointers of four or eight bytes.

use super::super::read::Read as Plain;

/// Why something could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// More bytes are needed.
    Short,
    /// It cannot stand so.
    Wrong,
}

pub(super) type Read<T> = Result<T, Miss>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Universal,
    Native { pointer: u8, big: bool },
}

/// What the two ends have agreed to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub encoding: Encoding,
    /// The version of the messages' fields: the seventh of the compile-time capabilities, the lesser of both ends'.
    pub fields: u8,
    /// Long values are cut into pieces of any length, not of at most 252 bytes.
    pub big_chunks: bool,
}

impl Dialect {
    /// All that a pointer may look like, in the order in which it is tried.
    pub const ENCODINGS: [Encoding; 5] = [
        Encoding::Native { pointer: 8, big: false },
        Encoding::Native { pointer: 4, big: false },
        Encoding::Native { pointer: 8, big: true },
        Encoding::Native { pointer: 4, big: true },
        Encoding::Universal,
    ];
}

/// The first versions that have certain fields.
pub(super) const FIELDS_12_1: u8 = 7;
pub(super) const FIELDS_12_2: u8 = 8;
pub(super) const FIELDS_12_2_EXT: u8 = 9;
pub(super) const FIELDS_20_1: u8 = 14;
pub(super) const FIELDS_23_1: u8 = 17;
pub(super) const FIELDS_23_1_EXT_1: u8 = 18;
pub(super) const FIELDS_23_1_EXT_3: u8 = 20;
pub(super) const FIELDS_23_4: u8 = 24;

/// Marks of a value's length.
const NULL: u8 = 0xff;
const CHUNKED: u8 = 0xfe;

/// What the first bytes of a value say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Bytes(usize),
    Chunked,
}

pub(super) struct Ttc<'a> {
    pub rest: &'a [u8],
    pub of: Dialect,
}

impl<'a> Ttc<'a> {
    pub fn new(rest: &'a [u8], of: Dialect) -> Self {
        Self { rest, of }
    }

    pub fn take(&mut self, n: usize) -> Read<&'a [u8]> {
        let mut plain = Plain(self.rest);
        let taken = plain.take(n).ok_or(Miss::Short)?;
        self.rest = plain.0;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Read<u8> {
        self.take(1)?.first().copied().ok_or(Miss::Short)
    }

    pub fn skip_u8s(&mut self, n: usize) -> Read<()> {
        self.take(n).map(|_| ())
    }

    /// A number of at most `width` bytes (UB2, UB4, UB8); the sign of a negative one is passed over.
    pub fn number(&mut self, width: u8) -> Read<u64> {
        match self.of.encoding {
            Encoding::Universal => {
                let length = self.u8()? & 0x7f;
                if length > width {
                    return Err(Miss::Wrong);
                }
                Ok(self.take(usize::from(length))?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
            }
            Encoding::Native { big, .. } => {
                let bytes = self.take(usize::from(width))?;
                let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
                Ok(if big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
            }
        }
    }

    pub fn ub2(&mut self) -> Read<u64> {
        self.number(2)
    }

    pub fn ub4(&mut self) -> Read<u64> {
        self.number(4)
    }

    pub fn ub8(&mut self) -> Read<u64> {
        self.number(8)
    }

    pub fn skip_ub4s(&mut self, n: usize) -> Read<()> {
        for _ in 0..n {
            self.ub4()?;
        }
        Ok(())
    }

    /// A length that a number of two bytes carries in the universal form, of four in memory.
    pub fn length(&mut self) -> Read<u64> {
        self.ub4()
    }

    /// Whether what a pointer points at follows. A native one is all ones but for the last bit, or zero.
    pub fn pointer(&mut self) -> Read<bool> {
        match self.of.encoding {
            Encoding::Universal => match self.u8()? {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(Miss::Wrong),
            },
            Encoding::Native { pointer, big } => {
                let bytes = self.take(usize::from(pointer))?;
                let (last, others) = if big { bytes.split_last() } else { bytes.split_first() }.ok_or(Miss::Short)?;
                match last {
                    0xfe if others.iter().all(|b| *b == 0xff) => Ok(true),
                    0 if others.iter().all(|b| *b == 0) => Ok(false),
                    _ => Err(Miss::Wrong),
                }
            }
        }
    }

    pub fn skip_ub2s(&mut self, n: usize) -> Read<()> {
        for _ in 0..n {
            self.ub2()?;
        }
        Ok(())
    }

    pub fn pointers(&mut self, n: usize) -> Read<()> {
        for _ in 0..n {
            self.pointer()?;
        }
        Ok(())
    }

    /// The head of a value.
    pub fn value(&mut self) -> Read<Value> {
        Ok(match self.u8()? {
            0 | NULL => Value::Null,
            CHUNKED => Value::Chunked,
            length => Value::Bytes(usize::from(length)),
        })
    }

    /// The length of a chunk; 0 ends the value.
    pub fn chunk(&mut self) -> Read<usize> {
        if !self.of.big_chunks {
            return self.u8().map(usize::from);
        }
        usize::try_from(self.ub4()?).map_err(|_| Miss::Wrong)
    }

    /// Passes over a value.
    pub fn skip_value(&mut self) -> Read<bool> {
        match self.value()? {
            Value::Null => return Ok(false),
            Value::Bytes(length) => self.skip_u8s(length)?,
            Value::Chunked => loop {
                match self.chunk()? {
                    0 => break,
                    length => self.skip_u8s(length)?,
                }
            },
        }
        Ok(true)
    }

    /// The bytes of a value, at most `most` of them; how many it has.
    pub fn bytes(&mut self, most: usize) -> Read<(Vec<u8>, usize)> {
        let (mut kept, mut length) = (Vec::new(), 0);
        let mut keep = |piece: &[u8], length: &mut usize| {
            *length += piece.len();
            let room = most.saturating_sub(kept.len());
            kept.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        };
        match self.value()? {
            Value::Null => {}
            Value::Bytes(n) => keep(self.take(n)?, &mut length),
            Value::Chunked => loop {
                match self.chunk()? {
                    0 => break,
                    n => keep(self.take(n)?, &mut length),
                }
            },
        }
        Ok((kept, length))
    }

    /// A value behind its length; nothing follows a length of 0.
    pub fn long_bytes(&mut self, most: usize) -> Read<Vec<u8>> {
        if self.ub4()? == 0 { Ok(Vec::new()) } else { Ok(self.bytes(most)?.0) }
    }

    pub fn skip_long(&mut self) -> Read<bool> {
        if self.ub4()? == 0 { Ok(false) } else { self.skip_value() }
    }

    /// Where a row is.
    pub fn row_id(&mut self) -> Read<()> {
        self.ub4()?;
        self.ub2()?;
        self.u8()?;
        self.ub4()?;
        self.ub2().map(|_| ())
    }
}
