//! What a client asks: calls of procedures with their parameters (MS-TDS 2.2.6.6), walked value by value, and the headers in
//! front of a request (2.2.5.3).

use super::types::{Column, Era, Got, Place, Read, Shape, Sort, Stage, TABLE, Type, Width, Wrong, step, text};
use super::{COLUMNS_MAX, ITEM_BYTES_MAX, SQL_BYTES_MAX};

/// Procedures that have a number (MS-TDS 2.2.6.6).
const NUMBERED: [&str; 15] = [
    "sp_cursor",
    "sp_cursoropen",
    "sp_cursorprepare",
    "sp_cursorexecute",
    "sp_cursorprepexec",
    "sp_cursorunprepare",
    "sp_cursorfetch",
    "sp_cursoroption",
    "sp_cursorclose",
    "sp_executesql",
    "sp_prepare",
    "sp_execute",
    "sp_prepexec",
    "sp_prepexecrpc",
    "sp_unprepare",
];

/// Parameters of a call whose values are looked at.
const LOOKED_AT: usize = 4;

/// The length of ALL_HEADERS at the front of a request; 0 if none are there.
///
/// Text or a name that stood there instead would have a character in its third byte.
pub(super) fn headers(bytes: &[u8]) -> Got<usize> {
    let total = Read(bytes).u32()?;
    if !(4..=0xffff).contains(&total) {
        return Ok(0);
    }
    if total == 4 {
        return Ok(4);
    }
    let mut read = Read(bytes.get(4..).unwrap_or(&[]));
    let (length, kind) = (read.u32()?, read.u16()?);
    Ok(if (6..=total - 4).contains(&length) && (1..=3).contains(&kind) { total as usize } else { 0 })
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Number(i64),
    /// A text, and whether all of it is there.
    Text(String, bool),
    Other,
}

#[derive(Debug)]
pub(super) enum Event {
    Incomplete,
    Nothing,
    /// The headers are read.
    Headers(bool),
    /// A call of this procedure begins.
    Call(String),
    /// A parameter has ended: its place, and its value if it is one of the first.
    Parameter(usize, Value),
    /// Rows of a table as a parameter.
    Rows(u64),
    /// Another call follows in the same message.
    Next,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Headers,
    Name,
    Parameter,
    Value {
        width: Width,
        stage: Stage,
    },
    /// How the server is to encrypt it.
    Cipher,
    Table(u16),
    TableOptions,
    TableRows,
    TableRow {
        column: usize,
        stage: Stage,
    },
    Lost,
}

pub(super) struct Rpc {
    shape: Shape,
    state: State,
    carry: Vec<u8>,
    skip: u64,
    /// Which parameter is next.
    at: usize,
    sort: Sort,
    ciphered: bool,
    kept: Vec<u8>,
    /// Some of its bytes were lost or are beyond what is kept.
    kept_cut: bool,
    some: bool,
    widths: Vec<Width>,
    pub bounded: bool,
}

impl Rpc {
    pub fn new() -> Self {
        Self {
            shape: Shape { era: Era::V72, place: Place::Parameter, encrypts: false, keys: false },
            state: State::Headers,
            carry: Vec::new(),
            skip: 0,
            at: 0,
            sort: Sort::Other,
            ciphered: false,
            kept: Vec::new(),
            kept_cut: false,
            some: false,
            widths: Vec::new(),
            bounded: false,
        }
    }

    pub fn set_era(&mut self, era: Era) {
        self.shape.era = era;
    }

    pub fn begin(&mut self) {
        *self = Self { shape: self.shape, ..Self::new() };
    }

    pub fn lose(&mut self) {
        self.begin();
        self.state = State::Lost;
    }

    pub fn gap(&mut self, length: u64) -> bool {
        // A value that ends with the gap would end unheard.
        let inside = self.skip > length && self.carry.is_empty();
        if inside {
            self.skip -= length;
            // What stands on both sides of a hole is no text.
            self.sort = Sort::Other;
            self.some = true;
        }
        inside
    }

    pub fn memory_bytes(&self) -> usize {
        self.carry.capacity() + self.kept.capacity() + 2 * self.widths.capacity()
    }

    pub fn next(&mut self, bytes: &[u8]) -> (usize, Event) {
        if self.skip > 0 {
            let used = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= used as u64;
            self.keep(bytes.get(..used).unwrap_or(bytes));
            let event = if self.skip == 0 { self.skip_ends() } else { Event::Nothing };
            return (used, event);
        }
        if self.state == State::Lost {
            return (bytes.len(), Event::Nothing);
        }
        let mut carry = std::mem::take(&mut self.carry);
        let had = carry.len();
        let more = bytes.len().min(ITEM_BYTES_MAX.saturating_sub(had));
        let found = if had == 0 {
            self.item(bytes)
        } else {
            carry.extend_from_slice(bytes.get(..more).unwrap_or(bytes));
            self.item(&carry)
        };
        match found {
            Ok((used, event)) => {
                // Headers that are not there leave what was carried.
                if used < had {
                    carry.truncate(had);
                    carry.drain(..used);
                    self.carry = carry;
                }
                (used.saturating_sub(had), event)
            }
            Err(Wrong::More) if more > 0 => {
                if had == 0 {
                    carry.extend_from_slice(bytes.get(..more).unwrap_or(bytes));
                }
                self.carry = carry;
                (more, Event::Incomplete)
            }
            Err(wrong) => {
                self.bounded |= wrong == Wrong::More;
                self.lose();
                (0, Event::Lost)
            }
        }
    }

    /// The message is over: the parameter that has no bytes left.
    pub fn end(&mut self) -> Option<Event> {
        match self.state {
            State::Value { width: Width::Fixed(0), .. } => Some(self.value_ends()),
            _ => None,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.at >= LOOKED_AT || !matches!(self.state, State::Parameter | State::Value { .. } | State::Cipher) || !self.some {
            return;
        }
        let most = match self.sort {
            Sort::Number => 8,
            Sort::Wide => 2 * SQL_BYTES_MAX,
            Sort::Narrow => SQL_BYTES_MAX,
            Sort::Other => 0,
        };
        let room = most - self.kept.len().min(most);
        self.kept_cut |= bytes.len() > room;
        self.kept.extend(bytes.iter().take(room));
    }

    fn item(&mut self, bytes: &[u8]) -> Got<(usize, Event)> {
        let mut read = Read(bytes);
        let event = match self.state {
            State::Headers => {
                let length = headers(bytes)?;
                read.take(length)?;
                self.state = State::Name;
                Event::Headers(length > 0)
            }
            State::Name => {
                let name = match read.u16()? {
                    u16::MAX => {
                        let number = usize::from(read.u16()?);
                        let name = number.checked_sub(1).and_then(|at| NUMBERED.get(at)).ok_or(Wrong::Unknown)?;
                        (*name).to_owned()
                    }
                    units => text(read.take(2 * usize::from(units))?),
                };
                // Options: to be compiled anew, without metadata, with metadata kept.
                read.u16()?;
                self.state = State::Parameter;
                self.at = 0;
                Event::Call(name)
            }
            State::Parameter => {
                let (next, other) = if self.shape.era == Era::V72 { (0xff, 0xfe) } else { (0x80, 0xfe) };
                let first = *bytes.first().ok_or(Wrong::More)?;
                if first == next || first == other {
                    read.u8()?;
                    self.state = State::Name;
                    return Ok((1, Event::Next));
                }
                read.short_text()?;
                let status = read.u8()?;
                let is_table = read.0.first() == Some(&TABLE);
                let Type { width, sort } = Type::read(&mut read, self.shape.era, Place::Parameter)?;
                self.widths.clear();
                if is_table {
                    match read.u16()? {
                        u16::MAX => self.state = State::TableOptions,
                        count if usize::from(count) > COLUMNS_MAX => return Err(Wrong::Unknown),
                        0 => self.state = State::TableOptions,
                        count => self.state = State::Table(count),
                    }
                } else {
                    self.state = State::Value { width, stage: Stage::Head };
                }
                self.sort = sort;
                self.ciphered = status & 8 != 0;
                self.kept = Vec::new();
                (self.kept_cut, self.some) = (false, false);
                Event::Nothing
            }
            State::Value { width, stage } => {
                let step = step(width, stage, bytes)?;
                // Of an empty value there are no bytes, of NULL neither; only a number must not be taken for it.
                self.some |= match (width, stage) {
                    (Width::Short, _) => bytes.first_chunk() != Some(&[0xff, 0xff]),
                    (Width::Long, _) => bytes.first_chunk() != Some(&[0xff; 4]),
                    (Width::Chunks, Stage::Head) => step.then.is_some(),
                    _ => step.skip > 0,
                };
                self.skip = step.skip;
                if let Some(stage) = step.then {
                    self.state = State::Value { width, stage };
                    return Ok((step.used, Event::Nothing));
                }
                self.state = State::Cipher;
                let event = if self.skip == 0 { self.skip_ends() } else { Event::Nothing };
                return Ok((step.used, event));
            }
            State::Cipher => {
                Type::read(&mut read, self.shape.era, Place::Parameter)?;
                if read.u8()? == 0 {
                    read.short_text()?;
                }
                read.take(1 + 4 + 4 + 4 + 8 + 1)?;
                self.ciphered = false;
                self.value_ends()
            }
            State::Table(left) => {
                let column = Column::read(&mut read, Shape { place: Place::Parameter, ..self.shape })?;
                if !column.default {
                    self.widths.push(column.width);
                }
                self.state = if left > 1 { State::Table(left - 1) } else { State::TableOptions };
                Event::Nothing
            }
            State::TableRows => match read.u8()? {
                0 => {
                    self.sort = Sort::Other;
                    self.value_ends()
                }
                1 => {
                    self.state = State::TableRow { column: 0, stage: Stage::Head };
                    self.row_goes_on();
                    Event::Rows(1)
                }
                _ => return Err(Wrong::Unknown),
            },
            State::TableOptions => match read.u8()? {
                0 => {
                    self.state = State::TableRows;
                    Event::Nothing
                }
                kind @ (0x10 | 0x11) => {
                    let count = usize::from(read.u16()?);
                    read.take(count * if kind == 0x10 { 3 } else { 2 })?;
                    Event::Nothing
                }
                _ => return Err(Wrong::Unknown),
            },
            State::TableRow { column, stage } => {
                let width = self.widths.get(column).copied().ok_or(Wrong::Unknown)?;
                let step = step(width, stage, bytes)?;
                self.skip = step.skip;
                self.state = match step.then {
                    Some(stage) => State::TableRow { column, stage },
                    None => State::TableRow { column: column + 1, stage: Stage::Head },
                };
                if self.skip == 0 {
                    self.skip_ends();
                }
                return Ok((step.used, Event::Nothing));
            }
            State::Lost => return Ok((bytes.len(), Event::Nothing)),
        };
        Ok((bytes.len() - read.0.len(), event))
    }

    /// What was skipped has ended.
    fn skip_ends(&mut self) -> Event {
        match self.state {
            State::Cipher if !self.ciphered => self.value_ends(),
            State::TableRow { .. } => {
                self.row_goes_on();
                Event::Nothing
            }
            _ => Event::Nothing,
        }
    }

    fn row_goes_on(&mut self) {
        if let State::TableRow { mut column, stage: Stage::Head } = self.state {
            while self.widths.get(column) == Some(&Width::Fixed(0)) {
                column += 1;
            }
            let stays = column < self.widths.len();
            self.state = if stays { State::TableRow { column, stage: Stage::Head } } else { State::TableRows };
        }
    }

    fn value_ends(&mut self) -> Event {
        let at = self.at;
        self.at += 1;
        self.state = State::Parameter;
        let kept = std::mem::take(&mut self.kept);
        let value = match self.sort {
            _ if at >= LOOKED_AT => Value::Other,
            _ if !self.some => Value::Null,
            Sort::Number if kept.len() == 4 => Value::Number(i64::from(Read(&kept).number(4).unwrap_or(0) as u32 as i32)),
            Sort::Number => Value::Number(Read(&kept).number(kept.len()).unwrap_or(0) as i64),
            Sort::Wide => Value::Text(text(&kept), !self.kept_cut),
            Sort::Narrow => Value::Text(String::from_utf8_lossy(&kept).into_owned(), !self.kept_cut),
            Sort::Other => Value::Other,
        };
        Event::Parameter(at, value)
    }
}
