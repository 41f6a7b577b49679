//! Events of the binary log as a replica is sent them (MySQL Source Code Documentation, "Replication Protocol", "Row Based
//! Replication Events"; MariaDB Knowledge Base, "Replication Protocol"): which table each changed row is of.
//!
//! A TABLE_MAP names a table and the types of its columns; the rows events behind it hold row after row without a count, so each
//! is walked by its columns' lengths, and no value is looked at. A row event that is not walked to its last byte counts none
//! of its rows, and says that some were not counted.

use super::packets::{Read, text};
use crate::sql::UNKNOWN;
use crate::table::Map;
use crate::windows::{Movement, ObjectSet, Operation, Side};
use std::sync::{Arc, LazyLock};

/// Bytes of a packet with one event that are read; the rows of a larger one are not counted (`lossy`).
pub const EVENT_BYTES_MAX: usize = 256 << 10;
/// Bytes of the tables that a stream has named; when they are full they are forgotten, and the rows of a table that is not named
/// again are not counted.
pub const TABLES_BYTES_MAX: usize = 1 << 20;
/// Bytes that the rows of a compressed event may become; those of a larger one are not counted (`lossy`).
pub const ROWS_BYTES_MAX: usize = 4 << 20;
/// Columns of a table (MySQL 8.0 Reference Manual, 8.4.7: 4,096).
pub const COLUMNS_MAX: usize = 4096;
/// Time, type, server, length, position, flags.
const HEADER_BYTES: usize = 19;
const CHECKSUM_BYTES: usize = 4;
/// A table without rows: the end of a statement.
const NO_TABLE: u64 = 0xff_ffff;

const FORMAT: u8 = 15;
const TABLE_MAP: u8 = 19;
/// Transactions that MySQL has compressed (8.0.20), and updates of parts of a JSON.
const TRANSACTION: u8 = 40;
const PARTIAL_UPDATE: u8 = 39;

/// What an event moves.
pub(super) enum Event {
    /// Nothing that is counted.
    Other,
    Rows(Arc<Movement>, i64),
    /// Rows, nobody knows how many.
    Uncounted(Arc<Movement>),
}

struct Table {
    movement: Arc<Movement>,
    columns: Vec<Column>,
}

/// How long a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Fixed(u16),
    /// A length of so many bytes stands before it.
    Prefixed(u8),
}

#[derive(Default)]
pub(super) struct Log {
    tables: Map<u64, Table>,
    bytes: usize,
    checksum: bool,
}

static OF_NOBODY_KNOWS: LazyLock<Arc<Movement>> = LazyLock::new(|| movement(UNKNOWN.into()));

fn movement(name: String) -> Arc<Movement> {
    let objects = ObjectSet { names: vec![name], columns: vec!["*".into()], ..ObjectSet::default() };
    Arc::new(Movement::of(Operation::Replicate, Side::Server, Arc::new(objects)))
}

impl Log {
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// One packet of the stream; `whole`: nothing of it is missing.
    pub fn event(&mut self, packet: &[u8], whole: bool) -> Event {
        let mut read = Read(packet);
        // OK, and with semi-synchronous replication two bytes more.
        if read.u8() != Some(0) {
            return Event::Other;
        }
        if read.0.first() == Some(&0xef) && read.take(2).is_none() {
            return Event::Other;
        }
        let Some(kind) = read.take(HEADER_BYTES).and_then(|header| header.get(4).copied()) else { return Event::Other };
        match kind {
            FORMAT => self.checksum = whole && read.0.len().checked_sub(CHECKSUM_BYTES + 1).and_then(|at| read.0.get(at)) == Some(&1),
            TABLE_MAP => self.named(self.body(read.0)),
            23..=25 | 30..=32 | 166..=171 if whole => return self.rows(kind, self.body(read.0)),
            20..=25 | 30..=32 | PARTIAL_UPDATE | 166..=171 => {
                let table = read.number(6).filter(|id| *id != NO_TABLE).and_then(|id| self.tables.get(&id));
                return Event::Uncounted(Arc::clone(table.map_or(&*OF_NOBODY_KNOWS, |table| &table.movement)));
            }
            TRANSACTION => return Event::Uncounted(Arc::clone(&OF_NOBODY_KNOWS)),
            _ => {}
        }
        Event::Other
    }

    fn body<'a>(&self, rest: &'a [u8]) -> &'a [u8] {
        let end = if self.checksum { rest.len().saturating_sub(CHECKSUM_BYTES) } else { rest.len() };
        rest.get(..end).unwrap_or(&[])
    }

    /// A number, schema and name, and the columns' types.
    fn named(&mut self, body: &[u8]) {
        let Some((id, schema, name, columns)) = table(body) else { return };
        let size = 128 + schema.len() + name.len() + columns.len() * size_of::<Column>();
        if self.bytes + size > TABLES_BYTES_MAX {
            (self.tables, self.bytes) = (Map::default(), 0);
        }
        let known = movement(format!("{}.{}", text(schema), text(name)));
        if let Some(old) = self.tables.insert(id, Table { movement: known, columns }) {
            // As large as it was when it was added, but for its name.
            self.bytes = self.bytes.saturating_sub(128 + old.columns.len() * size_of::<Column>());
        }
        self.bytes += size;
    }

    fn rows(&self, kind: u8, body: &[u8]) -> Event {
        let mut read = Read(body);
        let id = read.number(6);
        if id == Some(NO_TABLE) {
            return Event::Other;
        }
        let Some(table) = id.and_then(|id| self.tables.get(&id)) else { return Event::Uncounted(Arc::clone(&OF_NOBODY_KNOWS)) };
        match rows(kind, read, &table.columns) {
            Some(count) => Event::Rows(Arc::clone(&table.movement), count),
            None => Event::Uncounted(Arc::clone(&table.movement)),
        }
    }
}

/// Number, schema and name of a table, and its columns.
type Mapped<'a> = (u64, &'a [u8], &'a [u8], Vec<Column>);

fn table(body: &[u8]) -> Option<Mapped<'_>> {
    let mut read = Read(body);
    let id = read.number(6)?;
    read.take(2)?;
    let mut name = || {
        let length = read.u8()?;
        let name = read.take(usize::from(length))?;
        read.take(1)?;
        Some(name)
    };
    let (schema, table) = (name()?, name()?);
    let count = usize::try_from(read.lenenc()?).ok().filter(|count| *count <= COLUMNS_MAX)?;
    let types = read.take(count)?;
    let mut more = Read(read.lenenc_bytes()?);
    let columns = types.iter().map(|kind| column(*kind, &mut more)).collect::<Option<Vec<_>>>()?;
    Some((id, schema, table, columns))
}

/// A column's length by its type and what the table map says of it ("Table_map_event", column types and metadata).
fn column(kind: u8, more: &mut Read<'_>) -> Option<Column> {
    let fixed = |length: u64| u16::try_from(length).ok().map(Column::Fixed);
    match kind {
        1 | 13 => fixed(1),
        2 => fixed(2),
        3 | 7 => fixed(4),
        // FLOAT and DOUBLE say how long they are.
        4 | 5 => fixed(more.number(1)?),
        6 => fixed(0),
        8 | 12 => fixed(8),
        9 | 10 | 11 | 14 => fixed(3),
        // Varying strings; MariaDB's compressed ones (141).
        15 | 141 => Some(Column::Prefixed(if more.number(2)? > 255 { 2 } else { 1 })),
        // BIT: bits beside whole bytes.
        16 => {
            let (bits, bytes) = (more.number(1)?, more.number(1)?);
            fixed(bytes + u64::from(bits > 0))
        }
        // TIMESTAMP, DATETIME and TIME with so many digits of a second.
        17 => fixed(4 + more.number(1)?.div_ceil(2)),
        18 => fixed(5 + more.number(1)?.div_ceil(2)),
        19 => fixed(3 + more.number(1)?.div_ceil(2)),
        // BLOB and what is stored as one: JSON, vectors, geometry; MariaDB's compressed ones (140).
        140 | 242 | 245 | 249..=252 | 255 => more.number(1).filter(|length| (1..=4).contains(length)).map(|n| Column::Prefixed(n as u8)),
        246 => decimal(more.number(1)?, more.number(1)?),
        247 | 248 => {
            more.number(1)?;
            fixed(more.number(1)?)
        }
        // CHAR, ENUM and SET: what it really is, and its length, of which two bits stand with the type.
        253 | 254 => {
            let (real, length) = (more.number(1)?, more.number(1)?);
            if matches!(real, 247 | 248) {
                return fixed(length);
            }
            let length = length | ((real & 0x30) ^ 0x30) << 4;
            Some(Column::Prefixed(if length > 255 { 2 } else { 1 }))
        }
        _ => None,
    }
}

/// Digits nine to four bytes, on each side of the point ("Precision Math", storage of DECIMAL).
fn decimal(digits: u64, decimals: u64) -> Option<Column> {
    const LEFT_OVER: [u16; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let bytes = |digits: u64| Some(u16::try_from(digits / 9 * 4).ok()? + LEFT_OVER.get(digits as usize % 9)?);
    Some(Column::Fixed(bytes(digits.checked_sub(decimals)?)? + bytes(decimals)?))
}

/// How many rows an event holds; `None` if it is not what its table says.
fn rows(kind: u8, mut read: Read<'_>, columns: &[Column]) -> Option<i64> {
    read.take(2)?;
    // Writes, updates and deletions of version 1 and 2, then MariaDB's compressed ones of both.
    let (is_second, updates) = (matches!(kind, 30..=32 | 169..=171), matches!(kind, 24 | 31 | 167 | 170));
    if is_second {
        let more = read.number(2)?.checked_sub(2)?;
        read.take(usize::try_from(more).ok()?)?;
    }
    let count = usize::try_from(read.lenenc()?).ok()?;
    if count != columns.len() {
        return None;
    }
    // An update has an image before and one after, each with columns of its own.
    let before = read.take(count.div_ceil(8))?;
    let after = if updates { Some(read.take(count.div_ceil(8))?) } else { None };
    let inflated = if kind >= 166 { inflated(read)? } else { Vec::new() };
    let mut read = if kind >= 166 { Read(&inflated) } else { read };
    let mut rows = 0;
    while !read.0.is_empty() {
        let left = read.0.len();
        image(&mut read, before, columns)?;
        if let Some(after) = after {
            image(&mut read, after, columns)?;
        }
        if read.0.len() == left {
            return None;
        }
        rows += 1;
    }
    Some(rows)
}

/// What rows were before MariaDB compressed them: a byte that says how (0: zlib) and how long the length behind it is, whose
/// first byte is the highest.
fn inflated(mut read: Read<'_>) -> Option<Vec<u8>> {
    let how = read.u8()?;
    if how & 0xf0 != 0x80 {
        return None;
    }
    let length = read.take(usize::from(how & 7))?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let mut rows = Vec::with_capacity(length.min(ROWS_BYTES_MAX));
    let most = u64::try_from(ROWS_BYTES_MAX).unwrap_or(u64::MAX);
    std::io::Read::read_to_end(&mut std::io::Read::take(flate2::read::ZlibDecoder::new(read.0), most), &mut rows).ok()?;
    (rows.len() == length).then_some(rows)
}

/// Passes over one image of a row.
fn image(read: &mut Read<'_>, present: &[u8], columns: &[Column]) -> Option<()> {
    let is_set = |bits: &[u8], at: usize| bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    let here = (0..columns.len()).filter(|at| is_set(present, *at)).count();
    let nulls = read.take(here.div_ceil(8))?;
    let there = columns.iter().enumerate().filter(|(at, _)| is_set(present, *at));
    for (place, (_, column)) in there.enumerate() {
        if is_set(nulls, place) {
            continue;
        }
        let length = match column {
            Column::Fixed(length) => usize::from(*length),
            Column::Prefixed(bytes) => usize::try_from(read.number(usize::from(*bytes))?).ok()?,
        };
        read.take(length)?;
    }
    Some(())
}
