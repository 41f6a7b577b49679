//! What a server answers to an execution or a fetch, message by message: columns, rows, and the record that ends it.
//!
//! Rows are counted where every message up to that record could be followed, byte by byte, and never else.

use super::encoding::{
    Dialect, Encoding, FIELDS_12_1, FIELDS_12_2, FIELDS_20_1, FIELDS_23_1, FIELDS_23_1_EXT_3, FIELDS_23_4, Miss, Read, Ttc, Value,
};
use crate::sql::NAME_BYTES_MAX;
use std::sync::Arc;

/// Bytes of one message that are kept until it is whole; of a larger one nothing is counted.
pub(super) const MESSAGE_BYTES_MAX: usize = 128 << 10;
/// Columns of a description.
const COLUMNS_MAX: u64 = 4096;

const END: u8 = 4;
const ROW_HEADER: u8 = 6;
const ROW: u8 = 7;
const PARAMETERS: u8 = 8;
const STATUS: u8 = 9;
const WARNING: u8 = 15;
const DESCRIPTION: u8 = 16;
const BIT_VECTOR: u8 = 21;
const SERVER_PIGGYBACK: u8 = 23;
const END_OF_RESPONSE: u8 = 29;
const TOKEN: u8 = 33;

const TYPE_LONG: u8 = 8;
const TYPE_ROWID: u8 = 11;
const TYPE_LONG_RAW: u8 = 24;
const TYPE_CURSOR: u8 = 102;
const TYPE_OBJECT: u8 = 109;
const TYPE_CLOB: u8 = 112;
const TYPE_BLOB: u8 = 113;
const TYPE_FILE: u8 = 114;
const TYPE_JSON: u8 = 119;
const TYPE_VECTOR: u8 = 127;
const TYPE_UROWID: u8 = 208;

/// No more rows: not an error.
pub(super) const NO_DATA: u32 = 1403;

/// A column: what its values look like, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub kind: u8,
    /// Its values take no room at all.
    pub empty: bool,
    pub name: Option<String>,
}

pub(super) type Columns = Arc<[Column]>;

/// The record that ends a response (of an error, and of none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub error: u32,
    pub cursor: u64,
    pub rows: u64,
    /// The number of the call, as the client gave it.
    pub call: u8,
}

/// A definition of a column as a client sends it.
pub(super) fn described_column(read: &mut Ttc<'_>) -> Read<Column> {
    let kind = read.u8()?;
    read.skip_u8s(3)?;
    let size = read.ub4()?;
    read.ub4()?;
    continued(read)?;
    read.skip_long()?;
    read.skip_ub2s(2)?;
    read.u8()?;
    read.ub4()?;
    if read.of.fields >= FIELDS_12_2 {
        read.ub4()?;
    }
    Ok(Column { kind, empty: size == 0 && !matches!(kind, TYPE_LONG | TYPE_LONG_RAW | TYPE_UROWID), name: None })
}

/// Flags, four bytes in memory before 12.1.
fn continued(read: &mut Ttc<'_>) -> Read<()> {
    let width = if read.of.fields >= FIELDS_12_1 || read.of.encoding == Encoding::Universal { 8 } else { 4 };
    read.number(width).map(|_| ())
}

fn described(read: &mut Ttc<'_>) -> Read<Column> {
    let mut column = described_column(read)?;
    // Whether it may be null, an old length of the name.
    read.skip_u8s(2)?;
    column.name = plain(&read.long_bytes(NAME_BYTES_MAX)?);
    read.skip_long()?;
    read.skip_long()?;
    read.ub2()?;
    if read.of.fields >= FIELDS_12_1 {
        read.ub4()?;
    }
    if read.of.fields >= FIELDS_23_1 {
        read.skip_long()?;
        read.skip_long()?;
    }
    if read.of.fields >= FIELDS_23_1_EXT_3 && read.ub4()? > 0 {
        read.u8()?;
        let annotations = read.ub4()?;
        read.u8()?;
        for _ in 0..annotations.min(COLUMNS_MAX) {
            read.skip_long()?;
            read.skip_long()?;
            read.ub4()?;
        }
        read.ub4()?;
    }
    if read.of.fields >= FIELDS_23_4 {
        read.ub4()?;
        read.skip_u8s(2)?;
    }
    Ok(column)
}

/// A name that is no expression: what is computed bears the text that computes it, literals and all.
fn plain(name: &[u8]) -> Option<String> {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'#') || *b >= 0x80;
    let fits = name.first().is_some_and(|b| !b.is_ascii_digit()) && name.iter().all(is_plain);
    fits.then(|| String::from_utf8_lossy(name).into_owned())
}

fn columns(read: &mut Ttc<'_>) -> Read<Vec<Column>> {
    read.ub4()?;
    let count = read.ub4()?;
    if count > COLUMNS_MAX {
        return Err(Miss::Wrong);
    }
    if count > 0 {
        read.u8()?;
    }
    let columns: Read<Vec<Column>> = (0..count).map(|_| described(read)).collect();
    let columns = columns?;
    // The date, four numbers, a key of the result cache.
    read.skip_long()?;
    read.skip_ub4s(4)?;
    read.skip_long()?;
    Ok(columns)
}

/// The record that ends a response, behind its type.
pub(super) fn end(read: &mut Ttc<'_>) -> Read<End> {
    let mut end = End::default();
    read.ub4()?;
    read.ub2()?;
    end.rows = read.ub4()?;
    end.error = u32::try_from(read.ub2()?).unwrap_or(0);
    read.skip_ub2s(2)?;
    end.cursor = read.ub2()?;
    read.ub2()?;
    // Kind of statement, fatal, flags, options of the cursor, parameter, warnings.
    read.skip_u8s(6)?;
    read.row_id()?;
    read.ub4()?;
    read.u8()?;
    end.call = read.u8()?;
    read.ub2()?;
    read.ub4()?;
    if read.of.fields < FIELDS_12_1 {
        // What follows is the text of an error.
        read.rest = &[];
        return Ok(end);
    }
    read.skip_long()?;
    let codes = read.ub2()?;
    list(read, codes, Ttc::ub2)?;
    let offsets = read.ub4()?;
    list(read, offsets, Ttc::ub4)?;
    let messages = read.ub2()?;
    if messages > 0 {
        read.u8()?;
        for _ in 0..messages {
            read.ub2()?;
            read.skip_value()?;
            read.skip_u8s(2)?;
        }
    }
    end.error = u32::try_from(read.ub4()?).map_err(|_| Miss::Wrong)?;
    end.rows = read.ub8()?;
    if read.of.fields >= FIELDS_20_1 {
        read.skip_ub4s(2)?;
    }
    if end.error != 0 {
        read.skip_value()?;
    }
    Ok(end)
}

/// Numbers of a batch's errors, in one piece or in several.
fn list<'a>(read: &mut Ttc<'a>, count: u64, one: fn(&mut Ttc<'a>) -> Read<u64>) -> Read<()> {
    if count == 0 {
        return Ok(());
    }
    let chunked = read.u8()? == 0xfe;
    for _ in 0..count {
        if chunked {
            read.ub4()?;
        }
        one(read)?;
    }
    if chunked {
        read.u8()?;
    }
    Ok(())
}

fn parameters(read: &mut Ttc<'_>, per_row_counts: bool) -> Read<()> {
    let numbers = usize::try_from(read.ub2()?).map_err(|_| Miss::Wrong)?;
    read.skip_ub4s(numbers)?;
    let transaction = usize::try_from(read.ub2()?).map_err(|_| Miss::Wrong)?;
    read.skip_u8s(transaction)?;
    let pairs = read.ub2()?;
    for _ in 0..pairs {
        for _ in 0..2 {
            if read.length()? > 0 {
                read.skip_value()?;
            }
        }
        read.ub2()?;
    }
    let registration = usize::try_from(read.length()?).map_err(|_| Miss::Wrong)?;
    read.skip_u8s(registration)?;
    if per_row_counts {
        for _ in 0..read.ub4()? {
            read.ub8()?;
        }
    }
    Ok(())
}

fn row_header(read: &mut Ttc<'_>) -> Read<Option<Vec<u8>>> {
    read.u8()?;
    read.ub2()?;
    read.skip_ub4s(2)?;
    read.ub2()?;
    let length = usize::try_from(read.ub4()?).map_err(|_| Miss::Wrong)?;
    let mut vector = None;
    if length > 0 {
        read.u8()?;
        vector = Some(read.take(length)?.to_vec());
    }
    read.skip_long()?;
    Ok(vector)
}

fn warning(read: &mut Ttc<'_>) -> Read<()> {
    let error = read.ub2()?;
    let length = read.ub2()?;
    read.ub2()?;
    if error != 0 && length > 0 {
        read.skip_value()?;
    }
    Ok(())
}

/// What the server says of its own accord, in front of an answer.
fn server_piggyback(read: &mut Ttc<'_>) -> Read<()> {
    match read.u8()? {
        // Queries in a cache are no longer valid; an event is traced.
        1 | 3 => Ok(()),
        2 => {
            read.ub2()?;
            read.skip_value().map(|_| ())
        }
        4 => {
            read.ub2()?;
            read.u8()?;
            let pairs = read.ub2()?;
            if pairs > 0 {
                read.u8()?;
            }
            for _ in 0..pairs {
                for _ in 0..2 {
                    if read.ub2()? > 0 {
                        read.skip_value()?;
                    }
                }
                read.ub2()?;
            }
            read.skip_ub4s(2)?;
            read.ub2().map(|_| ())
        }
        5 => {
            read.ub2()?;
            read.u8()?;
            let pairs = read.ub2()?;
            read.u8()?;
            for _ in 0..pairs {
                for _ in 0..2 {
                    if read.ub2()? > 0 {
                        read.skip_value()?;
                    }
                }
                read.ub2()?;
            }
            read.ub4().map(|_| ())
        }
        7 => read.skip_long().map(|_| ()),
        8 => {
            read.ub2()?;
            read.u8()?;
            read.skip_ub4s(2)?;
            read.u8()?;
            read.skip_long().map(|_| ())
        }
        9 => {
            read.ub2()?;
            read.u8().map(|_| ())
        }
        10 => {
            read.ub2()?;
            read.u8()?;
            for _ in 0..3 {
                read.ub8()?;
            }
            Ok(())
        }
        _ => Err(Miss::Wrong),
    }
}

/// Where in a response the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Message,
    Column(usize),
    /// So many bytes of a value are to be passed over; then on.
    Skip {
        left: usize,
        chunked: bool,
        column: usize,
    },
    Chunk {
        column: usize,
    },
}

/// What the walk came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// All that is there was passed over.
    Nothing,
    /// The end of the response.
    End(End),
    /// An answer of a few bytes that says that it is done.
    Done,
    /// It cannot be followed any further.
    Lost,
}

/// The walk through one response.
#[derive(Default)]
pub(super) struct Walk {
    at: At,
    carry: Vec<u8>,
    /// Not worth another try before so many bytes are there.
    wanted: usize,
    pub columns: Option<Columns>,
    /// Columns were described in this response.
    pub described: bool,
    vector: Option<Vec<u8>>,
    pub rows: u64,
    pub per_row_counts: bool,
    /// Cursors that stood in rows, and their columns.
    pub nested: Vec<(u64, Columns)>,
}

impl Walk {
    pub fn memory_bytes(&self) -> usize {
        self.carry.capacity() + self.vector.as_ref().map_or(0, Vec::capacity) + 64 * self.nested.capacity()
    }

    /// The server has broken off what it said: what comes is a message again.
    pub fn reset(&mut self) {
        self.at = At::Message;
        self.carry = Vec::new();
        self.wanted = 0;
    }

    /// Goes on with `bytes`; `pause`: a packet ends here.
    pub fn go_on(&mut self, mut bytes: &[u8], of: Dialect, pause: bool) -> Met {
        if let At::Skip { left, .. } = &mut self.at {
            if self.carry.is_empty() {
                let passed = (*left).min(bytes.len());
                *left -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
            }
        }
        if self.carry.is_empty() {
            let (met, used) = self.through(bytes, of);
            self.carry.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return self.checked(met);
        }
        self.carry.extend_from_slice(bytes);
        if self.carry.len() < self.wanted && !pause && self.carry.len() <= MESSAGE_BYTES_MAX {
            return Met::Nothing;
        }
        let mut carry = std::mem::take(&mut self.carry);
        let (met, used) = self.through(&carry, of);
        carry.drain(..used.min(carry.len()));
        self.carry = carry;
        self.checked(met)
    }

    fn checked(&mut self, met: Met) -> Met {
        // A message that is read from its beginning each time is tried anew when it has grown by a quarter.
        self.wanted = self.carry.len() + self.carry.len() / 4;
        if self.carry.len() > MESSAGE_BYTES_MAX { Met::Lost } else { met }
    }

    fn through(&mut self, bytes: &[u8], of: Dialect) -> (Met, usize) {
        let mut rest = bytes;
        loop {
            if let At::Skip { left, chunked, column } = self.at {
                let passed = left.min(rest.len());
                rest = rest.get(passed..).unwrap_or_default();
                self.at = match left - passed {
                    0 if chunked => At::Chunk { column },
                    0 => At::Column(column),
                    left => At::Skip { left, chunked, column },
                };
            }
            let ends_row = matches!(self.at, At::Column(at) if at >= self.columns.as_ref().map_or(0, |columns| columns.len()));
            if ends_row {
                self.at = At::Message;
                self.rows += 1;
                self.vector = None;
            }
            if rest.is_empty() {
                return (Met::Nothing, bytes.len());
            }
            let mut read = Ttc::new(rest, of);
            match self.step(&mut read) {
                Ok(Met::Nothing) => rest = read.rest,
                Ok(met) => return (met, bytes.len() - read.rest.len()),
                Err(Miss::Short) => return (Met::Nothing, bytes.len() - rest.len()),
                Err(Miss::Wrong) => return (Met::Lost, bytes.len()),
            }
        }
    }

    fn step(&mut self, read: &mut Ttc<'_>) -> Read<Met> {
        match self.at {
            At::Message => self.message(read),
            At::Column(at) => self.column(at, read).map(|()| Met::Nothing),
            At::Chunk { column } => {
                self.at = match read.chunk()? {
                    0 => self.behind(column, read)?,
                    left => At::Skip { left, chunked: true, column },
                };
                Ok(Met::Nothing)
            }
            At::Skip { .. } => Ok(Met::Nothing),
        }
    }

    /// A value is over: the columns of long values have a word more.
    fn behind(&mut self, column: usize, read: &mut Ttc<'_>) -> Read<At> {
        let kind = self.columns.as_ref().and_then(|columns| columns.get(column)).map_or(0, |column| column.kind);
        if matches!(kind, TYPE_LONG | TYPE_LONG_RAW) {
            read.skip_ub4s(2)?;
        }
        Ok(At::Column(column + 1))
    }

    fn message(&mut self, read: &mut Ttc<'_>) -> Read<Met> {
        match read.u8()? {
            END => return end(read).map(Met::End),
            ROW_HEADER => self.vector = row_header(read)?,
            ROW => {
                if self.columns.as_ref().is_none_or(|columns| columns.is_empty()) {
                    return Err(Miss::Wrong);
                }
                self.at = At::Column(0);
            }
            PARAMETERS => parameters(read, self.per_row_counts)?,
            STATUS => {
                read.ub4()?;
                read.ub2()?;
                return Ok(Met::Done);
            }
            WARNING => warning(read)?,
            DESCRIPTION => {
                if read.of.encoding == Encoding::Universal {
                    read.skip_value()?;
                } else {
                    let length = usize::try_from(read.ub4()?).map_err(|_| Miss::Wrong)?;
                    read.skip_u8s(length)?;
                }
                self.columns = Some(columns(read)?.into());
                self.described = true;
            }
            BIT_VECTOR => {
                read.ub2()?;
                let columns = self.columns.as_ref().map_or(0, |columns| columns.len());
                self.vector = Some(read.take(columns.div_ceil(8))?.to_vec());
            }
            SERVER_PIGGYBACK => server_piggyback(read)?,
            END_OF_RESPONSE => {}
            TOKEN => read.ub8().map(|_| ())?,
            _ => return Err(Miss::Wrong),
        }
        Ok(Met::Nothing)
    }

    /// Whether a column's value is that of the row before, and not sent.
    fn repeats(&self, at: usize) -> bool {
        self.vector.as_ref().is_some_and(|vector| vector.get(at / 8).is_some_and(|byte| byte & 1 << (at % 8) == 0))
    }

    fn column(&mut self, at: usize, read: &mut Ttc<'_>) -> Read<()> {
        let Some(column) = self.columns.as_ref().and_then(|columns| columns.get(at)) else { return Err(Miss::Wrong) };
        self.at = if self.repeats(at) || column.empty {
            At::Column(at + 1)
        } else {
            match column.kind {
                TYPE_ROWID => {
                    if !matches!(read.u8()?, 0 | 0xff) {
                        read.row_id()?;
                    }
                    At::Column(at + 1)
                }
                TYPE_UROWID => {
                    if read.skip_value()? {
                        read.skip_value()?;
                    }
                    At::Column(at + 1)
                }
                TYPE_CURSOR => {
                    read.u8()?;
                    let columns = columns(read)?;
                    let cursor = read.ub2()?;
                    if self.nested.len() < super::CURSORS_MAX {
                        self.nested.push((cursor, columns.into()));
                    }
                    At::Column(at + 1)
                }
                TYPE_CLOB | TYPE_BLOB | TYPE_FILE | TYPE_JSON | TYPE_VECTOR => {
                    if read.ub4()? > 0 {
                        if column.kind != TYPE_FILE {
                            read.ub8()?;
                            read.ub4()?;
                        }
                        read.skip_value()?;
                        if matches!(column.kind, TYPE_JSON | TYPE_VECTOR) {
                            read.skip_value()?;
                        }
                    }
                    At::Column(at + 1)
                }
                TYPE_OBJECT => {
                    for _ in 0..3 {
                        read.skip_long()?;
                    }
                    read.ub2()?;
                    let length = read.ub4()?;
                    read.ub2()?;
                    if length > 0 {
                        read.skip_value()?;
                    }
                    At::Column(at + 1)
                }
                TYPE_LONG | TYPE_LONG_RAW => match read.value()? {
                    Value::Chunked => At::Chunk { column: at },
                    Value::Null => self.behind(at, read)?,
                    Value::Bytes(length) => {
                        read.skip_u8s(length)?;
                        self.behind(at, read)?
                    }
                },
                _ => match read.value()? {
                    Value::Null => At::Column(at + 1),
                    Value::Chunked => At::Chunk { column: at },
                    Value::Bytes(left) => At::Skip { left, chunked: false, column: at + 1 },
                },
            }
        };
        Ok(())
    }
}

/// The number of an error in the record that ends an answer, behind its type.
pub(super) fn error(read: &mut Ttc<'_>) -> Read<u32> {
    read.ub4()?;
    read.ub2()?;
    read.ub4()?;
    Ok(u32::try_from(read.ub2()?).unwrap_or(0))
}
