//! What a server answers (MySQL, "COM_QUERY Response", "Text Resultset", "Binary Protocol Resultset").
//!
//! Capabilities that only change the shape of an answer need not be known, since each shape tells itself: an EOF has five
//! bytes and the OK that stands for it seven or more, no row begins with 0xfe unless it has 16 MiB, none with 0xff.

use super::binlog::{EVENT_BYTES_MAX, Event, Log};
use super::commands::{Ask, Request};
use super::packets::{
    ANSI_QUOTES, CURSOR_EXISTS, Done, MORE_RESULTS, NO_BACKSLASH, OPTIONAL_METADATA, Read, done, ended, error_code, text,
};
use super::statements::Known;
use super::{
    ANSWER_BYTES_MAX, Belongs, COMMON, DEFINITIONS_BYTES_AT_FIRST, DEFINITIONS_BYTES_MAX, FULL_BYTES, HEADER_BYTES, Mysql, Phase, Prepared,
    TABLELESS_BYTES_MAX, header,
};
use crate::sql::{Effect, UNKNOWN};
use crate::windows::{Counts, Movement, ObjectSet, Operation, Recorder, Side};
use std::sync::Arc;

/// Rows that one statement may have changed; a larger number is not taken for one.
const COUNT_MAX: i64 = 1 << 40;
/// The client wants no EOF behind definitions ("Capabilities Flags", CLIENT_DEPRECATE_EOF).
const DEPRECATE_EOF: u64 = 1 << 24;
/// An error of this number reports how far a long command is (MariaDB, "Progress Reporting").
const PROGRESS: u16 = 0xffff;
/// Refused for want of rights: to a database, at a login, to a table, to a column, to a command, to a routine, …
const DENIED: [u16; 10] = [1044, 1045, 1130, 1142, 1143, 1227, 1370, 1698, 3118, 4151];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Start,
    /// So many column definitions are to come.
    Definitions(u64),
    /// An EOF, a row or the end.
    Defined,
    Rows,
    /// Definitions of parameters and of columns that a prepared statement has.
    Prepared {
        parameters: u64,
        columns: u64,
        eofs: u64,
    },
    Fields,
    /// The client sends a file.
    Loading,
    Dump,
    /// Something that was not seen from its beginning: rows, or anything.
    LostRows,
    Lost,
}

/// The answer that is being read.
#[derive(Default)]
pub(super) struct Answer {
    step: Step,
    definitions: Vec<u8>,
    definitions_cut: bool,
    /// What its rows are.
    rows_to: Option<Arc<Movement>>,
    counts_rows: bool,
    rows: u64,
    /// Held back: until the columns are known, and of a statement that names no table until it is known whether it stays
    /// small.
    pub held_bytes: u64,
    held_rows: i64,
    tableless: bool,
    /// The number of the statement that is being prepared.
    prepares: u32,
    /// What is replicated.
    log: Option<Box<Log>>,
}

impl Answer {
    pub fn is_loading(&self) -> bool {
        self.step == Step::Loading
    }

    pub fn loaded(&mut self) {
        self.step = Step::Start;
    }

    pub fn lose(&mut self) {
        let rows = matches!(self.step, Step::Rows | Step::LostRows) && (self.counts_rows || self.step == Step::LostRows);
        *self = Self { step: if rows { Step::LostRows } else { Step::Lost }, ..Self::default() };
    }

    /// How much of a packet is needed.
    pub fn wanted(&self, first: u8, length: u64) -> usize {
        match self.step {
            Step::Rows | Step::LostRows | Step::Defined if first != 0xff && (first != 0xfe || length >= FULL_BYTES) => 1,
            Step::Definitions(_) | Step::Prepared { .. } => 1024,
            Step::Dump => EVENT_BYTES_MAX,
            _ => ANSWER_BYTES_MAX,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.definitions.capacity() + self.log.as_ref().map_or(0, |log| log.memory_bytes())
    }

    /// Keeps a column definition, with its length in front.
    fn define(&mut self, head: &[u8]) {
        if self.definitions.len() + head.len() + 2 > DEFINITIONS_BYTES_MAX {
            self.definitions_cut = true;
            return;
        }
        if self.definitions.is_empty() {
            self.definitions.reserve(DEFINITIONS_BYTES_AT_FIRST.max(head.len() + 2));
        }
        self.definitions.extend_from_slice(&(head.len() as u16).to_le_bytes());
        self.definitions.extend_from_slice(head);
    }
}

/// Whether an answer may well begin so.
pub(super) fn begins(head: &[u8], length: u64) -> bool {
    let mut read = Read(head);
    match head.first() {
        Some(0) => length == 12 || (length >= 7 && done(head.get(1..).unwrap_or(&[]), 0).is_some_and(|done| done.status & 0x1000 == 0)),
        Some(0xff) => (1000..=PROGRESS).contains(&error_code(head)),
        Some(0xfb) => length > 1,
        Some(0xfe) => length == 5,
        _ => read.lenenc().is_some_and(|count| count <= 4096) && length <= (head.len() - read.0.len()) as u64 + 1,
    }
}

impl Mysql {
    /// One packet of the server in the command phase.
    pub(super) fn answered(&mut self, sequence: u8, length: u64, head: &[u8], out: &mut Recorder<'_>) -> Belongs {
        self.answered_ns = self.now_ns;
        let first = head.first().copied().unwrap_or(0);
        let may_begin = (sequence == 1 || self.pipes.is_some()) && begins(head, length);
        if self.doubt {
            if self.requests.len() != 1 || !may_begin {
                return self.doubtful(first, length);
            }
            self.doubt = false;
            self.answer = Answer::default();
        }
        if self.requests.is_empty() {
            if first == 0xff {
                // The server ends the connection.
                self.count_error();
                return to(&COMMON.connect);
            }
            if !may_begin {
                return to(&COMMON.transfer);
            }
            self.answer = Answer::default();
            self.requests.push_back(Request::new(Ask::Unseen, Known::unseen()));
        }
        match self.answer.step {
            Step::Start => self.start(sequence, first, length, head, out),
            Step::Definitions(left) => {
                self.answer.define(head);
                if left > 1 {
                    self.answer.step = Step::Definitions(left - 1);
                    return Belongs::Held;
                }
                self.defined()
            }
            Step::Defined if first == 0xfe && length < 7 => {
                let done = ended(head, length, self.capabilities);
                self.note(&done);
                if done.status & CURSOR_EXISTS != 0 {
                    return self.end_rows(&done, out);
                }
                self.answer.step = Step::Rows;
                self.of_rows()
            }
            Step::Defined | Step::Rows => self.row(first, length, head, out),
            Step::Prepared { parameters, columns, eofs } => self.preparing([parameters, columns, eofs], first, length, head),
            Step::Fields => {
                if first == 0xff {
                    return self.error(head, out);
                }
                if first == 0xfe && length < FULL_BYTES {
                    self.finish(false, true, out);
                }
                to(&COMMON.described)
            }
            Step::Dump => self.event(length, head, out),
            Step::Loading | Step::Lost | Step::LostRows => {
                if first == 0xff {
                    return self.error(head, out);
                }
                to(&COMMON.transfer)
            }
        }
    }

    /// A packet that cannot be paired: rows go on being rows, of nobody knows what.
    fn doubtful(&mut self, first: u8, length: u64) -> Belongs {
        if self.answer.step != Step::LostRows {
            return to(&COMMON.transfer);
        }
        if first == 0xff || (first == 0xfe && length < FULL_BYTES) {
            self.answer.step = Step::Lost;
        } else if length > 0 {
            if let Some(g) = &mut self.gathered {
                g.row_packets += 1;
            }
            self.claim(&COMMON.rows, Side::Server, 0, Counts::rows(1));
        }
        to(&COMMON.rows)
    }

    fn known(&self) -> Arc<Known> {
        self.requests.front().map_or_else(Known::unseen, Request::known)
    }

    /// The first packet of an answer.
    fn start(&mut self, sequence: u8, first: u8, length: u64, head: &[u8], out: &mut Recorder<'_>) -> Belongs {
        if first == 0xfe && length == 5 && sequence > 1 && self.pipes.is_none() && !matches!(self.requests.front(), Some(r) if r.counted) {
            // Behind the definitions of a prepared statement, where it is not known whether there is one.
            if !matches!(self.requests.front(), Some(Request { ask: Ask::Fetch(_) | Ask::User(_), .. })) {
                return to(&COMMON.connect);
            }
        }
        let Some(request) = self.requests.front() else { return to(&COMMON.connect) };
        match &request.ask {
            Ask::User(_) => match self.proof(head, out) {
                Some(true) => {
                    self.mode = Default::default();
                    self.finish(false, true, out);
                    return to(&COMMON.connect);
                }
                Some(false) => return self.error(head, out),
                None => return to(&COMMON.connect),
            },
            _ if first == 0xff => return self.error(head, out),
            Ask::Text => {
                self.finish(false, true, out);
                return to(&COMMON.connect);
            }
            Ask::Fields => {
                self.answer.step = Step::Fields;
                if first == 0xfe {
                    self.finish(false, true, out);
                }
                return to(&COMMON.described);
            }
            Ask::Dump => {
                self.answer.step = Step::Dump;
                return self.event(length, head, out);
            }
            Ask::Prepare if first == 0 && length >= 9 => return self.prepare_begins(head),
            Ask::Fetch(id) => {
                let Prepared { known, rows } = self.prepared(*id);
                let rows = rows.unwrap_or_else(|| known.rows(&[], false));
                self.answer.counts_rows = known.returns();
                self.answer.tableless = rows.objects.as_ref().is_some_and(|objects| objects.names.is_empty());
                self.answer.rows_to = Some(rows);
                self.answer.step = Step::Rows;
                if let Some(request) = self.requests.front_mut() {
                    request.counted = true;
                }
                return self.row(first, length, head, out);
            }
            _ => {}
        }
        match first {
            0 => self.ok(head, out),
            0xfb => {
                self.answer.step = Step::Loading;
                Belongs::To(self.loaded_into())
            }
            0xfe if length < 9 => self.ok(head, out),
            _ => self.columns(head),
        }
    }

    /// The table that a file of the client is for.
    pub(super) fn loaded_into(&self) -> Arc<Movement> {
        let known = self.known();
        if known.statement.operation == Operation::Copy { Arc::clone(&known.named) } else { Arc::clone(&COMMON.copied_in) }
    }

    /// The number of columns, and whether their definitions follow.
    fn columns(&mut self, head: &[u8]) -> Belongs {
        let mut read = Read(head);
        let mut follow = true;
        if self.capabilities & OPTIONAL_METADATA != 0 && head.len() > 1 {
            follow = read.u8() != Some(0);
        }
        let count = read.lenenc().unwrap_or(0);
        if read.0.len() == 1 {
            // MariaDB's clients remember the definitions of what they prepared.
            follow = read.u8() != Some(0);
        }
        if !follow || count == 0 {
            return self.defined();
        }
        self.answer.step = Step::Definitions(count);
        Belongs::Held
    }

    /// All columns are known: what rows belong to.
    fn defined(&mut self) -> Belongs {
        let known = self.known();
        let id = match self.requests.front() {
            Some(Request { ask: Ask::Execute(id), .. }) => Some(*id),
            _ => None,
        };
        let remembered = id.filter(|_| self.answer.definitions.is_empty()).and_then(|id| self.prepared(id).rows);
        let rows = remembered.unwrap_or_else(|| known.rows(&self.answer.definitions, !self.answer.definitions_cut));
        if let Some(prepared) = id.and_then(|id| self.prepared.remove(&id).map(|prepared| (id, prepared))) {
            let (id, prepared) = prepared;
            self.prepared.insert(id, Prepared { rows: Some(Arc::clone(&rows)), ..prepared });
        }
        self.answer.definitions = Vec::new();
        // What answers a statement that was not seen may be words about what it did, unless it names a table.
        let nameless = rows.objects.as_ref().is_some_and(|objects| objects.names == [UNKNOWN]);
        self.answer.counts_rows = known.returns() && !(nameless && Arc::ptr_eq(&known, &Known::unseen()));
        self.answer.tableless = rows.objects.as_ref().is_some_and(|objects| objects.names.is_empty());
        self.answer.rows_to = Some(rows);
        self.answer.step = Step::Defined;
        if self.answer.tableless { Belongs::Held } else { self.settle_held() }
    }

    /// Counts the statement and what was held back of its answer.
    fn settle_held(&mut self) -> Belongs {
        let Some(movement) = self.answer.rows_to.clone() else { return to(&COMMON.transfer) };
        let messages = u64::from(self.counts_now());
        let (bytes, rows) = (std::mem::take(&mut self.answer.held_bytes), std::mem::take(&mut self.answer.held_rows));
        self.claim(&movement, Side::Server, bytes, Counts { rows, messages, ..Counts::ZERO });
        self.answer.tableless = false;
        Belongs::To(movement)
    }

    /// Whether the statement that runs is to be counted with its answer, once.
    fn counts_now(&mut self) -> bool {
        let late = self.known().late;
        self.requests.front_mut().is_some_and(|request| !std::mem::replace(&mut request.counted, true)) && late
    }

    /// Ends what is held back: `large` gives it to `unknown` if it has rows.
    pub(super) fn release(&mut self, large: bool) {
        if self.answer.rows_to.is_none() {
            let bytes = std::mem::take(&mut self.answer.held_bytes);
            self.claim(&COMMON.transfer, Side::Server, bytes, Counts::ZERO);
        } else if self.answer.tableless {
            if large && self.answer.held_rows > 0 {
                self.enlarge();
            }
            self.settle_held();
        }
    }

    /// A statement without tables that returned much.
    fn enlarge(&mut self) {
        if let Some(known) = &self.answer.rows_to {
            let objects = known.objects.as_deref().cloned().unwrap_or_default();
            let objects = ObjectSet { names: vec![UNKNOWN.into()], ..objects };
            self.answer.rows_to = Some(Arc::new(Movement::of(known.operation, known.from, Arc::new(objects))));
        }
    }

    fn of_rows(&self) -> Belongs {
        match &self.answer.rows_to {
            Some(movement) if !self.answer.tableless => Belongs::To(Arc::clone(movement)),
            Some(_) => Belongs::Held,
            None => to(&COMMON.transfer),
        }
    }

    /// A row, or what ends them.
    fn row(&mut self, first: u8, length: u64, head: &[u8], out: &mut Recorder<'_>) -> Belongs {
        if first == 0xff && length > 0 {
            return self.error(head, out);
        }
        if first == 0xfe && length < FULL_BYTES {
            let done = ended(head, length, self.capabilities);
            self.note(&done);
            return self.end_rows(&done, out);
        }
        self.answer.step = Step::Rows;
        self.answer.rows += 1;
        if let Some(g) = &mut self.gathered {
            g.row_packets += 1;
        }
        if !self.answer.counts_rows {
            return self.of_rows();
        }
        if self.answer.tableless && self.answer.rows < 2 && length + HEADER_BYTES as u64 <= TABLELESS_BYTES_MAX {
            self.answer.held_rows += 1;
            return Belongs::Held;
        }
        if self.answer.tableless {
            self.enlarge();
            self.settle_held();
        }
        if let Some(movement) = self.answer.rows_to.clone() {
            self.claim(&movement, Side::Server, 0, Counts::rows(1));
        }
        self.of_rows()
    }

    /// Rows one after the other, counted together as each would be by itself. Returns the bytes used; 0 where one has to be
    /// looked at.
    pub(super) fn rows(&mut self, bytes: &[u8]) -> usize {
        let half = &self.halves[Side::Server as usize];
        let ready = self.answer.step == Step::Rows && !self.answer.tableless && !self.doubt && !half.goes_on && half.phase == Phase::Framed;
        let Some(movement) = self.answer.rows_to.clone().filter(|_| ready && self.stage == super::Stage::Commands) else { return 0 };
        let (mut rest, mut rows, mut skip) = (bytes, 0_u64, 0);
        while let Some((length, _)) = header(rest).filter(|(length, _)| (1..FULL_BYTES).contains(length)) {
            if rest.get(HEADER_BYTES).is_none_or(|first| *first >= 0xfe) {
                break;
            }
            rows += 1;
            let whole = HEADER_BYTES + length as usize;
            if rest.len() < whole {
                skip = (whole - rest.len()) as u64;
                rest = &[];
                break;
            }
            rest = &rest[whole..];
        }
        if rows == 0 {
            return 0;
        }
        self.answered_ns = self.now_ns;
        self.answer.rows += rows;
        if let Some(g) = &mut self.gathered {
            g.row_packets += rows;
        }
        let used = bytes.len() - rest.len();
        let counts = if self.answer.counts_rows { Counts::rows(rows as i64) } else { Counts::ZERO };
        self.claim(&movement, Side::Server, used as u64, counts);
        let half = &mut self.halves[Side::Server as usize];
        (half.skip, half.rest) = (skip, Some(movement));
        used
    }

    fn end_rows(&mut self, done: &Done<'_>, out: &mut Recorder<'_>) -> Belongs {
        let known = self.known();
        let belongs = if self.answer.tableless { self.settle_held() } else { self.of_rows() };
        // INSERT … RETURNING and its kin return a row for each that they changed (MariaDB).
        if matches!(known.statement.operation, Operation::Insert | Operation::Update | Operation::Delete) {
            let rows = i64::try_from(self.answer.rows).unwrap_or(i64::MAX);
            self.claim(&known.named, Side::Server, 0, Counts::rows(rows));
        }
        self.apply(&known, out);
        self.finish(done.status & MORE_RESULTS != 0, false, out);
        belongs
    }

    /// An OK: what the statement changed.
    fn ok(&mut self, head: &[u8], out: &mut Recorder<'_>) -> Belongs {
        let is_ok = head.first() == Some(&0);
        let done = if is_ok {
            done(head.get(1..).unwrap_or(&[]), self.capabilities).unwrap_or_default()
        } else {
            ended(head, head.len() as u64, 0)
        };
        self.note(&done);
        let known = self.known();
        // What no table holds is no count.
        let counted = |n: u64| i64::try_from(n).ok().filter(|n| *n < COUNT_MAX).unwrap_or(0);
        let affected = counted(done.affected);
        if let Some(g) = &mut self.gathered {
            g.affected_rows = g.affected_rows.saturating_add(done.affected);
        }
        let copy = known.statement.copy;
        let rows = match known.statement.operation {
            // A row that takes another's place is counted twice by the server, once here.
            Operation::Insert if known.statement.replaces => done.records.map_or(affected.min(1), counted),
            Operation::Insert | Operation::Update | Operation::Delete => affected,
            Operation::Copy if copy.is_some_and(|copy| !copy.server_side) => affected,
            _ => 0,
        };
        let unseen = Arc::ptr_eq(&known, &Known::unseen());
        let messages = u64::from(!unseen && self.counts_now());
        self.claim(&known.named, Side::Server, 0, Counts { rows, messages, ..Counts::ZERO });
        if let Some(Request { ask: Ask::Database(name), .. }) = self.requests.front() {
            self.database = Some(name.clone());
        }
        if let Some(database) = done.database {
            self.database = Some(text(database)).filter(|name| !name.is_empty());
        }
        self.apply(&known, out);
        self.finish(done.status & MORE_RESULTS != 0, true, out);
        Belongs::To(Arc::clone(&known.named))
    }

    /// What each end of an answer says of the session.
    fn note(&mut self, done: &Done<'_>) {
        self.mode.plain_backslash = done.status & NO_BACKSLASH != 0;
        self.mode.ansi_quotes = done.status & ANSI_QUOTES != 0;
    }

    /// What the statement changed in the session.
    fn apply(&mut self, known: &Known, out: &mut Recorder<'_>) {
        match &known.statement.effect {
            Effect::Path(path) => self.database = path.as_ref().and_then(|path| path.first().cloned()),
            Effect::Role(role) => {
                self.claims.flush(out);
                out.identify(|identity| identity.role.clone_from(role));
            }
            _ => {}
        }
    }

    /// The answer of one statement is over.
    fn finish(&mut self, more: bool, is_ok: bool, out: &mut Recorder<'_>) {
        self.answer = Answer::default();
        if more {
            // A routine returns as many results as it likes, and an OK behind them.
            let many = matches!(self.known().statement.operation, Operation::Call | Operation::Transfer);
            if let Some(request) = self.requests.front_mut().filter(|_| is_ok || !many) {
                request.next();
            }
            return;
        }
        self.requests.pop_front();
        let framed = self.halves.iter().all(|half| half.phase == Phase::Framed);
        if self.marked && !self.for_good && framed && !self.doubt && self.requests.is_empty() {
            self.marked = false;
            self.claims.flush(out);
            out.sound();
        }
    }

    fn count_error(&mut self) {
        if let Some(g) = &mut self.gathered {
            g.error_count += 1;
        }
    }

    fn error(&mut self, head: &[u8], out: &mut Recorder<'_>) -> Belongs {
        let code = error_code(head);
        let known = self.known();
        if code == PROGRESS {
            return Belongs::To(Arc::clone(known.asked()));
        }
        self.count_error();
        self.release(false);
        let denied = DENIED.contains(&code);
        let movement = if denied {
            let objects = known.named.objects.clone();
            let refused = objects
                .map_or_else(|| Arc::clone(&COMMON.refused), |objects| Arc::new(Movement::of(Operation::Refused, Side::Client, objects)));
            self.claim(&refused, Side::Server, 0, Counts::messages(1));
            refused
        } else {
            let runs = matches!(self.requests.front(), Some(Request { ask: Ask::Query | Ask::Execute(_), .. }));
            if runs && known.statement.operation != Operation::Admin && !Arc::ptr_eq(&known, &Known::unseen()) && self.counts_now() {
                self.claim(&known.named, Side::Server, 0, Counts::messages(1));
            }
            Arc::clone(known.asked())
        };
        if let Some(request) = self.requests.front_mut() {
            if let Ask::User(before) = std::mem::replace(&mut request.ask, Ask::Plain) {
                // The server ends the connection, or it stays whose it was.
                let (identity, database) = *before;
                self.restored = Some(identity);
                self.database = database;
            }
        }
        self.finish(false, true, out);
        Belongs::To(movement)
    }

    // ---- prepared statements ----------------------------------------------------------------------------------

    /// COM_STMT_PREPARE_OK: a number, how many columns and parameters.
    fn prepare_begins(&mut self, head: &[u8]) -> Belongs {
        let mut read = Read(head.get(1..).unwrap_or(&[]));
        let id = read.number(4).unwrap_or(0) as u32;
        let (mut columns, mut parameters) = (read.number(2).unwrap_or(0), read.number(2).unwrap_or(0));
        if self.capabilities & OPTIONAL_METADATA != 0 && head.get(12) == Some(&0) {
            (columns, parameters) = (0, 0);
        }
        let known = self.known();
        let movement = Arc::clone(known.asked());
        self.keep(id, Prepared { known, rows: None });
        self.answer.prepares = id;
        let marked = !self.options.midstream && self.capabilities & DEPRECATE_EOF == 0;
        let eofs = if marked { u64::from(parameters > 0) + u64::from(columns > 0) } else { 0 };
        self.next_prepared(parameters, columns, eofs);
        Belongs::To(movement)
    }

    fn preparing(&mut self, [parameters, columns, eofs]: [u64; 3], first: u8, length: u64, head: &[u8]) -> Belongs {
        let movement = Arc::clone(self.known().asked());
        if first == 0xfe && length == 5 {
            self.next_prepared(parameters, columns, eofs.saturating_sub(1));
        } else if parameters > 0 {
            self.next_prepared(parameters - 1, columns, eofs);
        } else {
            self.answer.define(head);
            self.next_prepared(0, columns.saturating_sub(1), eofs);
        }
        Belongs::To(movement)
    }

    fn next_prepared(&mut self, parameters: u64, columns: u64, eofs: u64) {
        self.answer.step = Step::Prepared { parameters, columns, eofs };
        if (parameters, columns, eofs) == (0, 0, 0) {
            self.prepared_whole();
        }
    }

    fn prepared_whole(&mut self) {
        let id = self.answer.prepares;
        if !self.answer.definitions.is_empty() {
            if let Some(prepared) = self.prepared.remove(&id) {
                let rows = prepared.known.rows(&self.answer.definitions, !self.answer.definitions_cut);
                self.prepared.insert(id, Prepared { rows: Some(rows), ..prepared });
            }
        }
        self.answer = Answer::default();
        self.requests.pop_front();
    }

    /// One event of the binary log.
    fn event(&mut self, length: u64, head: &[u8], out: &mut Recorder<'_>) -> Belongs {
        match head.first().copied().unwrap_or(0) {
            0xff => self.error(head, out),
            0xfe => {
                self.finish(false, true, out);
                to(&COMMON.replicated)
            }
            _ => match self.answer.log.get_or_insert_default().event(head, head.len() as u64 == length && length < FULL_BYTES) {
                Event::Other => to(&COMMON.replicated),
                Event::Rows(movement, rows) => {
                    self.claim(&movement, Side::Server, 0, Counts::rows(rows));
                    Belongs::To(movement)
                }
                Event::Uncounted(movement) => {
                    self.claims.flush(out);
                    out.uncounted(&movement);
                    Belongs::To(movement)
                }
            },
        }
    }
}

fn to(movement: &Arc<Movement>) -> Belongs {
    Belongs::To(Arc::clone(movement))
}
