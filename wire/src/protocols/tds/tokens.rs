//! The stream of tokens in which a server answers, and in which a client sends rows in bulk (MS-TDS 2.2.7).
//!
//! Nothing is kept but the shape of the rows: a row is passed over value by value, wherever packets end. A token that nobody
//! knows ends the reading of its message, and only that.

use super::types::{Column, Era, Got, Place, Read, Shape, Sort, Stage, Type, Width, Wrong, encryption, step, text, whole};
use super::{COLUMNS_MAX, DEFINITIONS_BYTES_MAX, ITEM_BYTES_MAX};

const ROW: u8 = 0xd1;
/// A row whose NULLs are bits in front of it.
const NBCROW: u8 = 0xd2;
const ALTROW: u8 = 0xd3;
/// Columns for which there is room at first.
const COLUMNS_AT_FIRST: usize = 32;
/// Shapes of rows that COMPUTE adds to one answer.
const ALTERNATIVES_MAX: usize = 16;

/// Features that the server acknowledges (MS-TDS 2.2.6.4).
const COLUMN_ENCRYPTION: u8 = 4;
const CLASSIFICATION: u8 = 9;

/// Rows that one statement may have changed; a larger number is not taken for one.
const COUNT_MAX: u64 = 1 << 40;

/// What was read.
#[derive(Debug)]
pub(super) enum Event {
    /// It has not ended yet.
    Incomplete,
    /// A token, or part of one, that needs nothing done.
    Nothing,
    /// Part of the description of rows.
    Describes,
    /// Rows of this shape follow.
    Columns,
    Rows(u64),
    Done(Done),
    Error(i32),
    Database(String),
    /// The session is as after its login.
    Reset,
    LoginAck(Era),
    Features(Features),
    /// A value that a procedure hands back.
    Returned(Option<i64>),
    /// The rest of the message is not read.
    Lost,
}

/// What of the features that server and client agree on changes how an answer is written (MS-TDS 2.2.7.11).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    /// Columns may be encrypted by the client's keys.
    pub encrypts: bool,
    /// The version of data classification; 0 if there is none.
    pub classifies: u8,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub kind: u8,
    pub status: u16,
    pub command: u16,
    pub count: u64,
}

pub(super) const DONE: u8 = 0xfd;
pub(super) const DONEPROC: u8 = 0xfe;
pub(super) const DONEINPROC: u8 = 0xff;

impl Done {
    pub fn failed(&self) -> bool {
        self.status & 0x0102 != 0
    }
    pub fn counted(&self) -> Option<u64> {
        // What no table holds is no count.
        (self.status & 0x10 != 0).then_some(self.count).filter(|count| *count < COUNT_MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Token,
    /// So many columns are to be described.
    Columns(u16),
    Row {
        column: usize,
        stage: Stage,
    },
    Value {
        width: Width,
        stage: Stage,
    },
    Lost,
}

pub(super) struct Tokens {
    shape: Shape,
    features: Features,
    state: State,
    /// An item whose end is not there yet.
    carry: Vec<u8>,
    skip: u64,
    widths: Vec<Width>,
    /// The names of the columns, each behind its length.
    names: Vec<u8>,
    names_cut: bool,
    /// Which of the row's values are NULL.
    nulls: Vec<u8>,
    alternatives: Vec<(u16, Vec<Width>)>,
    alternative: Option<usize>,
    /// Of the value that is handed back.
    returned: Option<Vec<u8>>,
    pub bounded: bool,
}

impl Tokens {
    pub fn new(place: Place) -> Self {
        Self {
            shape: Shape { era: Era::V72, place, encrypts: false, keys: false },
            features: Features::default(),
            state: State::Token,
            carry: Vec::new(),
            skip: 0,
            widths: Vec::new(),
            names: Vec::new(),
            names_cut: false,
            nulls: Vec::new(),
            alternatives: Vec::new(),
            alternative: None,
            returned: None,
            bounded: false,
        }
    }

    pub fn set_era(&mut self, era: Era) {
        self.shape.era = era;
    }

    pub fn set_features(&mut self, features: Features) {
        self.shape.encrypts = features.encrypts;
        self.features = features;
    }

    /// Another message begins.
    pub fn begin(&mut self) {
        self.state = State::Token;
        self.skip = 0;
        self.carry = Vec::new();
        self.alternatives.clear();
        self.alternative = None;
        self.returned = None;
    }

    pub fn lose(&mut self) {
        self.state = State::Lost;
        self.skip = 0;
        self.carry = Vec::new();
    }

    /// Rows have a shape now.
    pub fn has_columns(&self) -> bool {
        !self.widths.is_empty()
    }

    /// `length` bytes were lost; true if they were all of a value, so that nothing else was.
    pub fn gap(&mut self, length: u64) -> bool {
        if self.skip >= length && self.carry.is_empty() {
            self.skip -= length;
            self.returned = None;
            if self.skip == 0 {
                self.settle();
            }
            return true;
        }
        false
    }

    /// The names of the columns, each behind its length, and whether all are there.
    pub fn names(&mut self) -> (Vec<u8>, bool) {
        (std::mem::take(&mut self.names), !std::mem::take(&mut self.names_cut))
    }

    /// The shape of the rows, to be used again where it is not repeated.
    pub fn widths(&self) -> &[Width] {
        &self.widths
    }

    pub fn set_widths(&mut self, widths: &[Width]) {
        self.widths = widths.to_vec();
    }

    pub fn memory_bytes(&self) -> usize {
        let alternatives: usize = self.alternatives.iter().map(|(_, widths)| 2 * widths.capacity() + 32).sum();
        self.carry.capacity() + 2 * self.widths.capacity() + self.names.capacity() + self.nulls.capacity() + alternatives
    }

    /// Reads what stands first in `bytes`, which are not empty: how many were used, and what they were.
    pub fn next(&mut self, bytes: &[u8]) -> (usize, Event) {
        if self.skip > 0 {
            let used = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= used as u64;
            if let Some(returned) = self.returned.as_mut().filter(|kept| kept.len() < 8) {
                returned.extend(bytes.iter().take(used).take(8 - returned.len()));
            }
            let event = if self.skip == 0 { self.settle() } else { Event::Nothing };
            return (used, event);
        }
        if self.state == State::Lost {
            return (bytes.len(), Event::Nothing);
        }
        if self.carry.is_empty() {
            if self.state == State::Token && matches!(bytes.first(), Some(&(ROW | NBCROW))) {
                if let Some(found) = self.rows(bytes) {
                    return found;
                }
            }
            return match self.item(bytes) {
                Ok(found) => found,
                Err(Wrong::More) => {
                    self.carry.extend_from_slice(bytes.get(..ITEM_BYTES_MAX.min(bytes.len())).unwrap_or(bytes));
                    (self.carry.len(), Event::Incomplete)
                }
                Err(Wrong::Unknown) => (0, self.lost()),
            };
        }
        let mut carry = std::mem::take(&mut self.carry);
        let had = carry.len();
        let more = bytes.len().min(ITEM_BYTES_MAX.saturating_sub(had));
        carry.extend_from_slice(bytes.get(..more).unwrap_or(bytes));
        match self.item(&carry) {
            // What could not be read before has its end in what has come now.
            Ok((used, event)) => (used.saturating_sub(had), event),
            Err(Wrong::More) if more > 0 => {
                self.carry = carry;
                (more, Event::Incomplete)
            }
            Err(wrong) => {
                self.bounded |= wrong == Wrong::More;
                (0, self.lost())
            }
        }
    }

    fn lost(&mut self) -> Event {
        self.lose();
        Event::Lost
    }

    /// Whole rows, one after the other.
    fn rows(&self, bytes: &[u8]) -> Option<(usize, Event)> {
        let (mut at, mut rows) = (0, 0);
        while let Some(length) = bytes.get(at..).and_then(|rest| whole_row(&self.widths, rest)) {
            at += length;
            rows += 1;
        }
        (rows > 0).then_some((at, Event::Rows(rows)))
    }

    /// One item: a token, a column's description, a step of a value. Nothing is changed if its end is not there.
    fn item(&mut self, bytes: &[u8]) -> Got<(usize, Event)> {
        match self.state {
            State::Token => self.token(bytes),
            State::Columns(left) => {
                let mut read = Read(bytes);
                let column = Column::read(&mut read, self.shape)?;
                let used = bytes.len() - read.0.len();
                self.describe(&column);
                let left = left - 1;
                self.state = if left == 0 { State::Token } else { State::Columns(left) };
                Ok((used, if left == 0 { Event::Columns } else { Event::Describes }))
            }
            State::Row { column, stage } => {
                let Some(width) = self.row_widths().get(column).copied() else { return Err(Wrong::Unknown) };
                let step = step(width, stage, bytes)?;
                self.state = match step.then {
                    Some(stage) => State::Row { column, stage },
                    None => State::Row { column: column + 1, stage: Stage::Head },
                };
                self.skip = step.skip;
                if self.skip == 0 {
                    self.settle();
                }
                Ok((step.used, Event::Nothing))
            }
            State::Value { width, stage } => {
                let step = step(width, stage, bytes)?;
                self.skip = step.skip;
                self.state = match step.then {
                    Some(stage) => State::Value { width, stage },
                    None => State::Token,
                };
                let event = if self.skip == 0 { self.settle() } else { Event::Nothing };
                Ok((step.used, event))
            }
            State::Lost => Ok((bytes.len(), Event::Nothing)),
        }
    }

    fn row_widths(&self) -> &[Width] {
        match self.alternative.and_then(|at| self.alternatives.get(at)) {
            Some((_, widths)) => widths,
            None => &self.widths,
        }
    }

    /// A value has ended: on to the next that has bytes.
    fn settle(&mut self) -> Event {
        match self.state {
            State::Row { mut column, stage: Stage::Head } => {
                let widths = self.row_widths();
                while column < widths.len() && (self.is_null(column) || widths.get(column) == Some(&Width::Fixed(0))) {
                    column += 1;
                }
                self.state = if column < widths.len() {
                    State::Row { column, stage: Stage::Head }
                } else {
                    self.alternative = None;
                    State::Token
                };
                Event::Nothing
            }
            State::Token => match self.returned.take() {
                Some(bytes) => Event::Returned(number(&bytes)),
                None => Event::Nothing,
            },
            _ => Event::Nothing,
        }
    }

    fn is_null(&self, column: usize) -> bool {
        self.nulls.get(column / 8).is_some_and(|bits| bits >> (column % 8) & 1 == 1)
    }

    fn describe(&mut self, column: &Column<'_>) {
        self.widths.push(column.width);
        if self.names.len() + column.name.len() + 2 > DEFINITIONS_BYTES_MAX {
            self.names_cut = true;
            return;
        }
        self.names.extend_from_slice(&(column.name.len() as u16).to_le_bytes());
        self.names.extend_from_slice(column.name);
    }

    fn begin_row(&mut self) {
        self.state = State::Row { column: 0, stage: Stage::Head };
        self.settle();
    }

    /// A token, or the head of one that goes on.
    fn token(&mut self, bytes: &[u8]) -> Got<(usize, Event)> {
        let mut read = Read(bytes);
        let kind = read.u8()?;
        let used = |read: &Read<'_>| bytes.len() - read.0.len();
        let event = match kind {
            ROW if self.has_columns() => {
                self.nulls.clear();
                self.begin_row();
                Event::Rows(1)
            }
            NBCROW if self.has_columns() => {
                let nulls = read.take(self.widths.len().div_ceil(8))?;
                self.nulls.clear();
                self.nulls.extend_from_slice(nulls);
                self.begin_row();
                Event::Rows(1)
            }
            ALTROW => {
                let id = read.u16()?;
                let at = self.alternatives.iter().position(|(known, _)| *known == id).ok_or(Wrong::Unknown)?;
                self.alternative = Some(at);
                self.nulls.clear();
                self.begin_row();
                Event::Rows(1)
            }
            DONE | DONEPROC | DONEINPROC => {
                let (status, command) = (read.u16()?, read.u16()?);
                let count = read.number(if self.shape.era == Era::V72 { 8 } else { 4 })?;
                Event::Done(Done { kind, status, command, count })
            }
            0x81 => return self.columns(read, bytes.len()),
            0x88 => {
                let alternative = alternative(&mut read, self.shape)?;
                if self.alternatives.len() >= ALTERNATIVES_MAX {
                    self.bounded = true;
                    return Err(Wrong::Unknown);
                }
                self.alternatives.retain(|(id, _)| *id != alternative.0);
                self.alternatives.push(alternative);
                Event::Nothing
            }
            // ERROR: a number first; its text is not read.
            0xaa => {
                let length = u64::from(read.u16()?);
                let number = read.u32()? as i32;
                self.skip = length.checked_sub(4).ok_or(Wrong::Unknown)?;
                Event::Error(number)
            }
            0xe3 => self.change(&mut read)?,
            0xad => {
                let length = usize::from(read.u16()?);
                let body = read.take(length)?;
                body.get(1).and_then(|version| Era::of(*version)).map_or(Event::Nothing, Event::LoginAck)
            }
            0xae => self.features(&mut read)?,
            0xac => {
                read.u16()?;
                read.short_text()?;
                read.u8()?;
                read.take(if self.shape.era == Era::V72 { 4 } else { 2 })?;
                let flags = read.u16()?;
                let Type { width, sort } = Type::read(&mut read, self.shape.era, Place::Parameter)?;
                if self.shape.encrypts && flags & 0x0800 != 0 {
                    encryption(&mut read, Shape { keys: false, ..self.shape })?;
                }
                self.state = State::Value { width, stage: Stage::Head };
                self.returned = (sort == Sort::Number).then(Vec::new);
                Event::Nothing
            }
            // INFO, ORDER, the names of tables and columns, a challenge: a length of two bytes.
            0xab | 0xa9 | 0xa4 | 0xa5 | 0xed => {
                self.skip = read.u16()?.into();
                Event::Nothing
            }
            // The state of the session, what a federated login asks for: of four.
            0xe4 | 0xee => {
                self.skip = read.u32()?.into();
                Event::Nothing
            }
            // RETURNSTATUS, OFFSET.
            0x79 | 0x78 => {
                read.take(4)?;
                Event::Nothing
            }
            0xa3 => {
                classification(&mut read, self.features.classifies)?;
                Event::Nothing
            }
            _ => return Err(Wrong::Unknown),
        };
        Ok((used(&read), event))
    }

    /// COLMETADATA's head (MS-TDS 2.2.7.4).
    fn columns(&mut self, mut read: Read<'_>, length: usize) -> Got<(usize, Event)> {
        let count = read.u16()?;
        if count == u16::MAX {
            // As it was told before.
            return Ok((length - read.0.len(), Event::Columns));
        }
        self.shape.keys = self.shape.encrypts && self.shape.place == Place::Result && keys(&mut read)?;
        if usize::from(count) > COLUMNS_MAX {
            self.bounded = true;
            return Err(Wrong::Unknown);
        }
        self.widths.clear();
        self.names.clear();
        self.names_cut = false;
        self.widths.reserve(usize::from(count).min(COLUMNS_AT_FIRST));
        self.names.reserve(usize::from(count).min(COLUMNS_AT_FIRST) * 16);
        let used = length - read.0.len();
        if count == 0 {
            return Ok((used, Event::Columns));
        }
        self.state = State::Columns(count);
        Ok((used, Event::Describes))
    }

    /// ENVCHANGE (MS-TDS 2.2.7.9).
    fn change(&mut self, read: &mut Read<'_>) -> Got<Event> {
        let length = usize::from(read.u16()?);
        let kind = read.u8()?;
        let rest = length.checked_sub(1).ok_or(Wrong::Unknown)?;
        if kind != 1 {
            self.skip = rest as u64;
            return Ok(if kind == 18 { Event::Reset } else { Event::Nothing });
        }
        let body = read.take(rest)?;
        Ok(Read(body).short_text().map_or(Event::Nothing, |name| Event::Database(text(name))))
    }

    /// FEATUREEXTACK (MS-TDS 2.2.7.11).
    fn features(&mut self, read: &mut Read<'_>) -> Got<Event> {
        let mut features = self.features;
        loop {
            let id = read.u8()?;
            if id == 0xff {
                break;
            }
            let length = read.u32()? as usize;
            if length > ITEM_BYTES_MAX {
                return Err(Wrong::Unknown);
            }
            let data = read.take(length)?;
            match (id, data) {
                (COLUMN_ENCRYPTION, [version, ..]) => features.encrypts |= *version > 0,
                (CLASSIFICATION, [version, enabled, ..]) if *enabled != 0 => features.classifies = *version,
                _ => {}
            }
        }
        Ok(Event::Features(features))
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    let value = Read(bytes).number(bytes.len()).ok().filter(|_| !bytes.is_empty())?;
    // Only four bytes may be negative: a handle.
    Some(if bytes.len() == 4 { i64::from(value as u32 as i32) } else { value as i64 })
}

/// The length of a row that is wholly there, with its token.
#[inline]
fn whole_row(widths: &[Width], bytes: &[u8]) -> Option<usize> {
    if widths.is_empty() {
        return None;
    }
    let mut at = 1;
    match *bytes.first()? {
        ROW => {
            for width in widths {
                at += whole(*width, bytes.get(at..)?)?;
            }
        }
        NBCROW => {
            let nulls = bytes.get(1..1 + widths.len().div_ceil(8))?;
            at += nulls.len();
            for (column, width) in widths.iter().enumerate() {
                if nulls.get(column / 8).is_some_and(|bits| bits >> (column % 8) & 1 == 0) {
                    at += whole(*width, bytes.get(at..)?)?;
                }
            }
        }
        _ => return None,
    }
    Some(at)
}

/// CekTable (MS-TDS 2.2.7.4): whether there are any keys.
fn keys(read: &mut Read<'_>) -> Got<bool> {
    let count = read.u16()?;
    for _ in 0..count {
        read.take(4 + 4 + 4 + 8)?;
        for _ in 0..read.u8()? {
            let value = read.u16()?;
            read.take(value.into())?;
            read.short_text()?;
            read.text()?;
            read.short_text()?;
        }
    }
    Ok(count > 0)
}

/// ALTMETADATA (MS-TDS 2.2.7.1).
fn alternative(read: &mut Read<'_>, shape: Shape) -> Got<(u16, Vec<Width>)> {
    let (count, id) = (read.u16()?, read.u16()?);
    let by = read.u8()?;
    read.take(2 * usize::from(by))?;
    if usize::from(count) > COLUMNS_MAX {
        return Err(Wrong::Unknown);
    }
    let mut widths = Vec::new();
    for _ in 0..count {
        read.take(3)?;
        widths.push(Column::read(read, shape)?.width);
    }
    Ok((id, widths))
}

/// DATACLASSIFICATION (MS-TDS 2.2.7.5), of the version that was agreed on: the second one adds ranks. One that nobody asked for, or a
/// later one, is not read.
fn classification(read: &mut Read<'_>, version: u8) -> Got<()> {
    if !(1..=2).contains(&version) {
        return Err(Wrong::Unknown);
    }
    let ranked = version == 2;
    for _ in 0..2 {
        for _ in 0..read.u16()? {
            read.short_text()?;
            read.short_text()?;
        }
    }
    if ranked {
        read.u32()?;
    }
    for _ in 0..read.u16()? {
        for _ in 0..read.u16()? {
            read.take(if ranked { 8 } else { 4 })?;
        }
    }
    Ok(())
}
