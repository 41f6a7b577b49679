//! Types of columns and parameters, and how long their values are (MS-TDS 2.2.5.4 to 2.2.5.6).

/// Why an item could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Its end is not there yet.
    More,
    /// Nothing that is known.
    Unknown,
}

pub(super) type Got<T> = Result<T, Wrong>;

/// Checked reads from the front; numbers are little-endian.
pub(super) struct Read<'a>(pub &'a [u8]);

impl<'a> Read<'a> {
    pub fn take(&mut self, n: usize) -> Got<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Wrong::More)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn number(&mut self, bytes: usize) -> Got<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    pub fn u8(&mut self) -> Got<u8> {
        Ok(self.number(1)? as u8)
    }

    pub fn u16(&mut self) -> Got<u16> {
        Ok(self.number(2)? as u16)
    }

    pub fn u32(&mut self) -> Got<u32> {
        Ok(self.number(4)? as u32)
    }

    /// B_VARCHAR: the number of characters in one byte.
    pub fn short_text(&mut self) -> Got<&'a [u8]> {
        let units = usize::from(self.u8()?);
        self.take(2 * units)
    }

    /// US_VARCHAR: the number of characters in two bytes.
    pub fn text(&mut self) -> Got<&'a [u8]> {
        let units = usize::from(self.u16()?);
        self.take(2 * units)
    }
}

/// Text in UTF-16.
pub(super) fn text(bytes: &[u8]) -> String {
    // Nearly all of it is ASCII.
    if bytes.chunks_exact(2).all(|pair| pair[0] < 0x80 && pair[1] == 0) {
        let narrow = bytes.chunks_exact(2).map(|pair| pair[0]).collect();
        return String::from_utf8(narrow).unwrap_or_default();
    }
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// What the version of the protocol changes in how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Era {
    /// 7.0: no collations.
    V70,
    /// 7.1.
    V71,
    /// 7.2 and later: headers in front of requests, row counts of eight bytes.
    V72,
}

impl Era {
    /// By the high byte of a version (MS-TDS 2.2.6.4, 2.2.7.14).
    pub fn of(version: u8) -> Option<Self> {
        match version {
            0x70 | 7 => Some(Self::V70),
            0x71 => Some(Self::V71),
            0x72..=0x7f | 8 => Some(Self::V72),
            _ => None,
        }
    }
}

/// How the end of a value is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fixed(u8),
    /// A length of one byte.
    Byte,
    /// Of two; 0xffff is NULL.
    Short,
    /// Of four; 0xffffffff is NULL.
    Long,
    /// A pointer (its length in one byte, 0 is NULL), a time stamp, a length of four bytes.
    Pointed,
    /// Chunks, the last one empty (PLP).
    Chunks,
    /// No value: a table.
    Table,
}

/// What a value means, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Number,
    /// UTF-16.
    Wide,
    /// One byte a character, in whatever page of codes.
    Narrow,
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub width: Width,
    pub sort: Sort,
}

/// Where a type stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// What the server describes.
    Result,
    Parameter,
    /// What a client sends in bulk: as a result, but for the names of tables.
    Bulk,
}

pub(super) const TABLE: u8 = 0xf3;

impl Type {
    /// TYPE_INFO.
    pub fn read(read: &mut Read<'_>, era: Era, place: Place) -> Got<Self> {
        let collation = if era == Era::V70 { 0 } else { 5 };
        let kind = read.u8()?;
        let of = |width, sort| Ok(Self { width, sort });
        match kind {
            0x1f => of(Width::Fixed(0), Sort::Other),
            0x30 | 0x32 => of(Width::Fixed(1), Sort::Number),
            0x34 => of(Width::Fixed(2), Sort::Number),
            0x38 => of(Width::Fixed(4), Sort::Number),
            0x3a | 0x3b | 0x7a => of(Width::Fixed(4), Sort::Other),
            0x7f => of(Width::Fixed(8), Sort::Number),
            0x3c..=0x3e => of(Width::Fixed(8), Sort::Other),
            // DATEN has no length, the other times a scale.
            0x28 => of(Width::Byte, Sort::Other),
            0x29..=0x2b => {
                read.u8()?;
                of(Width::Byte, Sort::Other)
            }
            0x26 => {
                read.u8()?;
                of(Width::Byte, Sort::Number)
            }
            0x24 | 0x68 | 0x6d..=0x6f | 0x25 | 0x2d => {
                read.u8()?;
                of(Width::Byte, Sort::Other)
            }
            0x27 | 0x2f => {
                read.u8()?;
                of(Width::Byte, Sort::Narrow)
            }
            // Length, precision, scale.
            0x37 | 0x3f | 0x6a | 0x6c => {
                read.take(3)?;
                of(Width::Byte, Sort::Other)
            }
            0xa5 | 0xad => {
                let length = read.u16()?;
                of(if kind == 0xa5 && length == u16::MAX { Width::Chunks } else { Width::Short }, Sort::Other)
            }
            0xa7 | 0xaf | 0xe7 | 0xef => {
                let length = read.u16()?;
                read.take(collation)?;
                let sort = if kind >= 0xe7 { Sort::Wide } else { Sort::Narrow };
                let many = matches!(kind, 0xa7 | 0xe7) && length == u16::MAX;
                of(if many { Width::Chunks } else { Width::Short }, sort)
            }
            // TEXT, NTEXT, IMAGE.
            0x22 | 0x23 | 0x63 => {
                read.u32()?;
                let sort = match kind {
                    0x23 => Sort::Narrow,
                    0x63 => Sort::Wide,
                    _ => Sort::Other,
                };
                if sort != Sort::Other {
                    read.take(collation)?;
                }
                of(if place == Place::Parameter { Width::Long } else { Width::Pointed }, sort)
            }
            // SQL_VARIANT.
            0x62 => {
                read.u32()?;
                of(Width::Long, Sort::Other)
            }
            // XML, with the schema that it keeps to.
            0xf1 => {
                if read.u8()? != 0 {
                    read.short_text()?;
                    read.short_text()?;
                    read.text()?;
                }
                of(Width::Chunks, Sort::Other)
            }
            // A CLR type: where it is told of a result, its size and its assembly besides.
            0xf0 => {
                if place != Place::Parameter {
                    read.u16()?;
                }
                for _ in 0..3 {
                    read.short_text()?;
                }
                if place != Place::Parameter {
                    read.text()?;
                }
                of(Width::Chunks, Sort::Other)
            }
            TABLE if place == Place::Parameter => {
                for _ in 0..3 {
                    read.short_text()?;
                }
                of(Width::Table, Sort::Other)
            }
            // JSON; VECTOR: a length and the type of its numbers.
            0xf4 => of(Width::Chunks, Sort::Other),
            0xf5 => {
                read.take(3)?;
                of(Width::Short, Sort::Other)
            }
            _ => Err(Wrong::Unknown),
        }
    }
}

/// What is told of one column.
pub(super) struct Column<'a> {
    pub width: Width,
    /// UTF-16.
    pub name: &'a [u8],
    /// The client leaves it to the server (a table as a parameter).
    pub default: bool,
}

/// What of the metadata depends on what was negotiated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub era: Era,
    pub place: Place,
    /// Columns may be encrypted by the client's keys.
    pub encrypts: bool,
    /// There are keys in this answer.
    pub keys: bool,
}

impl<'a> Column<'a> {
    /// ColumnData of COLMETADATA (MS-TDS 2.2.7.4).
    pub fn read(read: &mut Read<'a>, shape: Shape) -> Got<Self> {
        read.take(if shape.era == Era::V72 { 4 } else { 2 })?;
        let flags = read.u16()?;
        let Type { width, .. } = Type::read(read, shape.era, shape.place)?;
        if width == Width::Pointed {
            let parts = if shape.era == Era::V72 && shape.place == Place::Result { read.u8()? } else { 1 };
            for _ in 0..parts {
                read.text()?;
            }
        }
        if shape.encrypts && flags & ENCRYPTED != 0 {
            encryption(read, shape)?;
        }
        Ok(Self { width, name: read.short_text()?, default: flags & DEFAULT != 0 })
    }
}

const ENCRYPTED: u16 = 0x0800;
/// Of a column of a table-valued parameter (MS-TDS 2.2.5.5.5.3).
const DEFAULT: u16 = 0x0200;

/// CryptoMetaData (MS-TDS 2.2.7.4).
pub(super) fn encryption(read: &mut Read<'_>, shape: Shape) -> Got<()> {
    if shape.keys {
        read.u16()?;
    }
    read.u32()?;
    Type::read(read, shape.era, Place::Result)?;
    if read.u8()? == 0 {
        read.short_text()?;
    }
    read.take(2)?;
    Ok(())
}

/// How far a value has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Head,
    /// The length of a chunk is next.
    Chunk,
}

/// The next bytes of a value: so many say how long it is, so many are it, and what comes behind them (`None`: it ends).
pub(super) struct Step {
    pub used: usize,
    pub skip: u64,
    pub then: Option<Stage>,
}

/// One step of a value.
#[inline]
pub(super) fn step(width: Width, stage: Stage, bytes: &[u8]) -> Got<Step> {
    let ends = |used: usize, skip: u64| Ok(Step { used, skip, then: None });
    let number = |n: usize| Read(bytes).number(n);
    match (width, stage) {
        (Width::Fixed(length), _) => ends(0, length.into()),
        (Width::Byte, _) => ends(1, number(1)?),
        (Width::Short, _) => {
            let length = number(2)?;
            ends(2, if length == 0xffff { 0 } else { length })
        }
        (Width::Long, _) => {
            let length = number(4)?;
            ends(4, if length == 0xffff_ffff { 0 } else { length })
        }
        (Width::Pointed, _) => {
            let pointer = number(1)? as usize;
            if pointer == 0 {
                return ends(1, 0);
            }
            let mut read = Read(bytes);
            read.take(1 + pointer + 8)?;
            let length = read.u32()?;
            ends(1 + pointer + 8 + 4, if length == u32::MAX { 0 } else { length.into() })
        }
        (Width::Chunks, Stage::Head) => {
            let length = number(8)?;
            Ok(Step { used: 8, skip: 0, then: (length != u64::MAX).then_some(Stage::Chunk) })
        }
        (Width::Chunks, Stage::Chunk) => {
            let length = number(4)?;
            Ok(Step { used: 4, skip: length, then: (length > 0).then_some(Stage::Chunk) })
        }
        (Width::Table, _) => Err(Wrong::Unknown),
    }
}

/// The bytes of a value that is wholly there.
#[inline]
pub(super) fn whole(width: Width, bytes: &[u8]) -> Option<usize> {
    let used = match width {
        Width::Fixed(length) => usize::from(length),
        Width::Byte => 1 + usize::from(*bytes.first()?),
        Width::Short => match u16::from_le_bytes(*bytes.first_chunk()?) {
            u16::MAX => 2,
            length => 2 + usize::from(length),
        },
        _ => {
            let (mut used, mut stage) = (0_usize, Some(Stage::Head));
            while let Some(now) = stage {
                let step = step(width, now, bytes.get(used..)?).ok()?;
                used = used.checked_add(step.used)?.checked_add(usize::try_from(step.skip).ok()?)?;
                stage = step.then;
            }
            used
        }
    };
    (used <= bytes.len()).then_some(used)
}
