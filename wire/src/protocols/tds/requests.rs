//! What a client asks: texts, calls of procedures, rows in bulk; and what is done once it is known which statement it is.

use super::rpc::{Event, Value, headers};
use super::session::Session;
use super::statements::{self, Known, Texted};
use super::tokens;
use super::types::{Era, Width, text};
use super::{BATCH, BULK, CALLS_MAX, COMMON, Core, LOGIN, PRELOGIN, Prepared, RPC, SQL_BYTES_MAX};
use crate::sql::{Effect, tsql};
use crate::windows::{Counts, Movement, Operation, Recorder, Side};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a procedure hands back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Statement,
    Cursor,
}

/// Statements that run together: of a text, or of one call.
pub(super) struct Call {
    pub texted: Arc<Texted>,
    /// The statement that is next to be answered, and how many have taken effect.
    pub at: usize,
    pub applied: usize,
    /// Statements that were counted, by their places.
    pub counted: u128,
    /// What a procedure does inside is what the statements do.
    pub inner: bool,
    /// Rows of what was counted before.
    pub fetches: bool,
    pub failed: bool,
    pub outputs: VecDeque<Output>,
    pub prepares: Option<Arc<Texted>>,
    pub widths: Option<Arc<[Width]>>,
    /// The prepared statement or cursor whose shape this is.
    pub of: Option<(bool, i32)>,
}

impl Call {
    pub fn new(texted: Arc<Texted>, inner: bool) -> Self {
        Self {
            texted,
            at: 0,
            applied: 0,
            counted: 0,
            inner,
            fetches: false,
            failed: false,
            outputs: VecDeque::new(),
            prepares: None,
            widths: None,
            of: None,
        }
    }

    pub fn unseen() -> Self {
        Self::new(Texted::one(Known::unseen()), true)
    }

    /// Whether the statement at `place` is counted now for the first time.
    pub fn counts(&mut self, place: usize) -> bool {
        let bit = 1_u128.checked_shl(u32::try_from(place).unwrap_or(u32::MAX)).unwrap_or(0);
        let new = self.counted & bit == 0 && bit != 0;
        self.counted |= bit;
        new
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Login,
    Prelogin,
    Batch,
    Calls,
    Bulk,
    Plain,
}

pub(super) struct Request {
    pub kind: Kind,
    pub calls: VecDeque<Call>,
    /// Rows that were sent in bulk, and their table.
    pub rows: i64,
    pub bulk: Option<Arc<Known>>,
    /// All of it was seen.
    pub whole: bool,
}

impl Request {
    pub fn new(kind: u8) -> Self {
        let kind = match kind {
            LOGIN => Kind::Login,
            PRELOGIN => Kind::Prelogin,
            BATCH => Kind::Batch,
            RPC => Kind::Calls,
            BULK => Kind::Bulk,
            _ => Kind::Plain,
        };
        Self { kind, calls: VecDeque::new(), rows: 0, bulk: None, whole: false }
    }

    /// If its answer is lost, what the session means is not known any more.
    pub fn changes_session(&self) -> bool {
        let changes = |call: &Call| call.texted.changes_session() || call.prepares.is_some() || !call.outputs.is_empty();
        matches!(self.kind, Kind::Login | Kind::Prelogin) || self.calls.iter().any(changes)
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.calls.capacity() * size_of::<Call>()
    }
}

/// The call that is being read.
#[derive(Default)]
pub(super) struct Reading {
    name: Option<String>,
    values: Vec<Value>,
    /// What its bytes belong to, once that is known; then the call itself is kept until it ends.
    movement: Option<Arc<Movement>>,
    rows: i64,
    call: Option<Call>,
}

impl Reading {
    pub fn memory_bytes(&self) -> usize {
        let text = |value: &Value| if let Value::Text(text, _) = value { text.capacity() } else { 0 };
        self.values.iter().map(|value| text(value) + size_of::<Value>()).sum::<usize>() + self.name.as_ref().map_or(0, String::capacity)
    }
}

/// The parameter by which it is known what a procedure does; `None`: its name tells.
fn deciding(name: &str) -> Option<usize> {
    Some(match name {
        "sp_executesql" | "sp_execute" | "sp_unprepare" | "sp_cursorexecute" | "sp_cursorfetch" | "sp_cursorclose"
        | "sp_cursorunprepare" => 0,
        "sp_cursoropen" | "sp_cursor" | "sp_prepexecrpc" => 1,
        "sp_prepare" | "sp_prepexec" | "sp_cursorprepare" => 2,
        "sp_cursorprepexec" => 3,
        _ if name.starts_with("sp_") || name.starts_with("xp_") => usize::MAX,
        _ => return None,
    })
}

impl Session {
    /// Bytes of a text.
    pub(super) fn batch(&mut self, core: &mut Core, bytes: &[u8], out: &mut Recorder<'_>) {
        if self.decided {
            return;
        }
        let mut bytes = bytes;
        if let Some(skip) = self.text_skip.filter(|skip| *skip > 0) {
            let used = skip.min(bytes.len());
            self.text_skip = Some(skip - used);
            bytes = bytes.get(used..).unwrap_or(&[]);
        }
        let room = (2 * SQL_BYTES_MAX).saturating_sub(self.text.len());
        self.text_cut |= bytes.len() > room;
        self.text.extend(bytes.iter().take(room));
        if self.text_skip.is_none() {
            let Ok(length) = headers(&self.text) else { return };
            self.has_headers(core, length > 0);
            let here = length.min(self.text.len());
            self.text.drain(..here);
            self.text_skip = Some(length - here);
        }
        if self.text_cut {
            self.batch_ends(core, false, out);
        }
    }

    /// The headers are those of 7.2 and later.
    fn has_headers(&mut self, core: &mut Core, are_there: bool) {
        let era = if are_there { Era::V72 } else { Era::V71 };
        if core.era.is_none() {
            self.become_era(core, Some(era));
        }
    }

    /// The text is there, as far as it is read.
    pub(super) fn batch_ends(&mut self, core: &mut Core, lost: bool, out: &mut Recorder<'_>) {
        if self.decided {
            return;
        }
        self.decided = true;
        core.note(|g| g.batches += 1);
        // The end of the headers was not there.
        let headless = self.text_skip.is_none() && self.text.len() >= 4;
        let sql = text(&std::mem::take(&mut self.text));
        let whole = !(lost || self.text_cut || headless);
        let texted = if sql.is_empty() && !whole { Texted::one(Known::unseen()) } else { self.texted(core, &sql, whole, out) };
        if let Some(known) = texted.list.iter().find(|known| is_bulk(known)) {
            self.bulk = Some(Arc::clone(known));
        }
        let call = Call::new(self.meant(core, texted), false);
        let movement = self.asks(core, &call);
        self.settle(core, Side::Client, &movement);
        if let Some(request) = self.requests.back_mut() {
            request.calls.push_back(call);
            request.whole = whole;
        }
    }

    /// The statements of a text.
    fn texted(&mut self, core: &mut Core, sql: &str, whole: bool, out: &mut Recorder<'_>) -> Arc<Texted> {
        let texted = statements::of(&mut out.shared().batches, sql, whole, core.quotes, core.database.as_deref());
        core.claims.bounds_reached += texted.list.iter().filter(|known| known.statement.bounded).count() as u32;
        texted
    }

    /// What statements stand for: FETCH what the cursor was declared for; declaring it moves nothing.
    fn meant(&mut self, core: &mut Core, texted: Arc<Texted>) -> Arc<Texted> {
        let stands_for = |known: &Arc<Known>| matches!(known.statement.effect, Effect::Declare(_) | Effect::Fetch(_));
        if !texted.list.iter().any(stands_for) {
            return texted;
        }
        let mut list = Vec::with_capacity(texted.list.len());
        for known in &texted.list {
            list.push(match &known.statement.effect {
                Effect::Declare(name) => {
                    core.declare(name, known);
                    Known::empty()
                }
                Effect::Fetch(name) => core.named.get(name.as_str()).map_or_else(Known::unseen, Arc::clone),
                _ => Arc::clone(known),
            });
        }
        let branches = texted.branches;
        Arc::new(if branches { Texted::without_order(list, texted.quotes) } else { Texted::of(list, texted.quotes) })
    }

    /// Counts what is counted when it is asked; what the request's bytes belong to.
    fn asks(&mut self, core: &mut Core, call: &Call) -> Arc<Movement> {
        let texted = &call.texted;
        if call.prepares.is_none() && !call.fetches {
            let changes = |known: &Known| matches!(known.statement.operation, Operation::Insert | Operation::Update | Operation::Delete);
            for known in texted.list.iter().filter(|known| !known.late && !known.is_unseen()) {
                if !(texted.branches && changes(known)) {
                    core.claim(&known.named, Side::Client, 0, Counts::messages(1));
                }
            }
        }
        let main = call.prepares.as_ref().unwrap_or(texted).main();
        main.map_or_else(|| Arc::clone(&COMMON.connect), |known| Arc::clone(known.asked()))
    }

    // ---- calls ------------------------------------------------------------------------------------------------

    /// Bytes of calls.
    pub(super) fn calls(&mut self, core: &mut Core, bytes: &[u8], out: &mut Recorder<'_>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (used, event) = self.rpc.next(rest);
            rest = rest.get(used..).unwrap_or(&[]);
            let ends = !matches!(event, Event::Incomplete);
            let spent = self.of_item(Side::Client, used, ends);
            if matches!(event, Event::Call(_)) {
                // The separator before it, and its name, are its own.
                self.hold(Side::Client);
            }
            let lost = matches!(event, Event::Lost);
            if !lost {
                self.spend(core, Side::Client, spent);
            }
            self.called(core, event, out);
            if lost {
                self.spend(core, Side::Client, spent);
            }
        }
        core.claims.bounds_reached += u32::from(std::mem::take(&mut self.rpc.bounded));
    }

    fn called(&mut self, core: &mut Core, event: Event, out: &mut Recorder<'_>) {
        match event {
            Event::Headers(are_there) => {
                self.has_headers(core, are_there);
                self.rpc.set_era(core.era.unwrap_or(Era::V72));
            }
            Event::Call(name) => {
                core.note(|g| g.calls += 1);
                let decided = deciding(last(&name).as_str()).is_none();
                self.reading = Reading { name: Some(name), ..Reading::default() };
                if decided {
                    self.decide(core, out);
                }
            }
            Event::Parameter(place, value) => {
                if self.reading.movement.is_none() {
                    while self.reading.values.len() < place {
                        self.reading.values.push(Value::Other);
                    }
                    self.reading.values.push(value);
                    let name = self.reading.name.as_deref().map(last).unwrap_or_default();
                    if deciding(&name) == Some(place) {
                        self.decide(core, out);
                    }
                }
            }
            Event::Rows(rows) => {
                self.reading.rows += rows as i64;
                if let Some(movement) = self.reading.movement.clone() {
                    let rows = std::mem::take(&mut self.reading.rows);
                    self.table_rows(core, &movement, rows);
                }
            }
            Event::Next => self.call_ends(core, out),
            Event::Lost => self.request_lost(core, out),
            Event::Incomplete | Event::Nothing => {}
        }
    }

    /// Rows of a table as a parameter: those of a procedure are what moves; those of a statement are counted by the server.
    fn table_rows(&mut self, core: &mut Core, movement: &Arc<Movement>, rows: i64) {
        if movement.operation == Operation::Call {
            core.claim(movement, Side::Client, 0, Counts::rows(rows));
        }
    }

    /// It is known what the call does.
    fn decide(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        let name = self.reading.name.clone().unwrap_or_default();
        let values = std::mem::take(&mut self.reading.values);
        let call = self.resolve(core, &name, &values, out);
        let movement = self.asks(core, &call);
        self.settle(core, Side::Client, &movement);
        let rows = std::mem::take(&mut self.reading.rows);
        self.table_rows(core, &movement, rows);
        self.reading.movement = Some(movement);
        self.reading.call = Some(call);
    }

    fn resolve(&mut self, core: &mut Core, name: &str, values: &[Value], out: &mut Recorder<'_>) -> Call {
        let number = |place: usize| match values.get(place) {
            Some(Value::Number(number)) => i32::try_from(*number).ok(),
            _ => None,
        };
        let mut read = |session: &mut Self, core: &mut Core, place: usize| match values.get(place) {
            Some(Value::Text(sql, whole)) => {
                let texted = session.texted(core, sql, *whole, out);
                session.meant(core, texted)
            }
            _ => Texted::one(Known::unseen()),
        };
        let plain = || Call::new(Texted::one(Known::empty()), true);
        let again = |found: Option<Prepared>, of: Option<(bool, i32)>| {
            let Prepared { texted, widths } = found.unwrap_or_else(|| Prepared { texted: Texted::one(Known::unseen()), widths: None });
            Call { widths, of, ..Call::new(texted, true) }
        };
        match last(name).as_str() {
            "sp_executesql" => Call::new(read(self, core, 0), true),
            "sp_prepare" | "sp_cursorprepare" => {
                let outputs = VecDeque::from([Output::Statement]);
                Call { prepares: Some(read(self, core, 2)), outputs, ..plain() }
            }
            "sp_prepexec" => Call { outputs: VecDeque::from([Output::Statement]), ..Call::new(read(self, core, 2), true) },
            "sp_prepexecrpc" => {
                let texted = match values.get(1) {
                    Some(Value::Text(sql, whole)) => {
                        let sql = sql.trim().trim_start_matches('{').trim_end_matches('}').replacen("call ", "exec ", 1);
                        self.texted(core, &sql, *whole, out)
                    }
                    _ => Texted::one(Known::unseen()),
                };
                Call { outputs: VecDeque::from([Output::Statement]), ..Call::new(texted, true) }
            }
            "sp_cursoropen" => Call { outputs: VecDeque::from([Output::Cursor]), ..Call::new(read(self, core, 1), true) },
            "sp_cursorprepexec" => {
                let outputs = VecDeque::from([Output::Statement, Output::Cursor]);
                Call { outputs, ..Call::new(read(self, core, 3), true) }
            }
            "sp_execute" => again(core.known(false, number(0)), number(0).map(|id| (false, id))),
            "sp_cursorexecute" => {
                let call = again(core.known(false, number(0)), number(0).map(|id| (false, id)));
                Call { outputs: VecDeque::from([Output::Cursor]), ..call }
            }
            "sp_cursorfetch" => {
                let call = again(core.known(true, number(0)), number(0).map(|id| (true, id)));
                Call { fetches: true, ..call }
            }
            "sp_cursor" => {
                let known = core.known(true, number(0)).and_then(|cursor| cursor.texted.main().map(Arc::clone));
                let known = known.unwrap_or_else(Known::unseen);
                let operation = match number(1).unwrap_or(0) & 7 {
                    1 => Operation::Update,
                    2 => Operation::Delete,
                    4 => Operation::Insert,
                    _ => return plain(),
                };
                let known = if known.is_unseen() { known } else { Arc::new(known.positioned(operation)) };
                Call::new(Texted::one(known), true)
            }
            word @ ("sp_unprepare" | "sp_cursorunprepare" | "sp_cursorclose") => {
                if let Some(id) = number(0) {
                    core.forget(word == "sp_cursorclose", id);
                }
                plain()
            }
            "sp_cursoroption" | "sp_reset_connection" => plain(),
            word if deciding(word).is_some() => {
                let texts: Vec<_> = values.iter().map(|v| if let Value::Text(text, _) = v { Some(text.clone()) } else { None }).collect();
                let statement = tsql::call(name, &texts);
                let known = Known::new(statement, core.database.as_deref());
                Call::new(Texted::one(Arc::new(known)), false)
            }
            _ => {
                let texted = self.texted(core, &format!("EXEC {name}"), true, out);
                Call::new(texted, false)
            }
        }
    }

    /// A call has ended; another may follow in the same message.
    fn call_ends(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        if self.reading.name.is_some() && self.reading.call.is_none() {
            self.decide(core, out);
        }
        let Reading { call, .. } = std::mem::take(&mut self.reading);
        let (Some(request), Some(call)) = (self.requests.back_mut(), call) else { return };
        if request.calls.len() >= CALLS_MAX {
            core.claims.bounds_reached += 1;
            return;
        }
        request.calls.push_back(call);
    }

    pub(super) fn calls_end(&mut self, core: &mut Core, lost: bool, out: &mut Recorder<'_>) {
        if let Some(event) = self.rpc.end().filter(|_| !lost) {
            self.called(core, event, out);
        }
        if !lost {
            self.call_ends(core, out);
        }
        if let Some(request) = self.requests.back_mut() {
            request.whole = !lost;
        }
    }

    /// The rest of the client's message is not read.
    pub(super) fn request_lost(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        match self.requests.back().map(|request| request.kind) {
            Some(Kind::Batch) if !self.decided => self.batch_ends(core, true, out),
            Some(Kind::Calls) => {
                // What was decided runs; what comes behind it is not known.
                if self.reading.call.is_some() {
                    self.call_ends(core, out);
                }
                self.reading = Reading::default();
                self.rpc.lose();
                if self.is_held(Side::Client) {
                    self.settle(core, Side::Client, &COMMON.transfer);
                }
                if let Some(request) = self.requests.back_mut() {
                    request.calls.push_back(Call::unseen());
                }
            }
            Some(Kind::Bulk) => {
                self.bulk_rows.lose();
                if let Some(known) = &self.bulk {
                    out.uncounted(&known.named);
                }
            }
            _ => {}
        }
    }

    // ---- rows in bulk -----------------------------------------------------------------------------------------

    /// What a message of rows belongs to.
    pub(super) fn bulk_begins(&mut self, core: &mut Core) -> Arc<Movement> {
        self.bulk_rows.set_era(core.era.unwrap_or(Era::V72));
        self.bulk_rows.begin();
        self.bulk_rows.set_widths(&[]);
        self.bulk.as_ref().map_or_else(|| Arc::clone(&COMMON.copied_in), |known| Arc::clone(&known.named))
    }

    pub(super) fn rows_in_bulk(&mut self, core: &mut Core, bytes: &[u8], out: &mut Recorder<'_>) {
        let Some(movement) = self.bulk.as_ref().map(|known| Arc::clone(&known.named)) else { return };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (used, event) = self.bulk_rows.next(rest);
            rest = rest.get(used..).unwrap_or(&[]);
            self.spend(core, Side::Client, used as u64);
            match event {
                tokens::Event::Rows(rows) => {
                    let rows = rows as i64;
                    core.claim(&movement, Side::Client, 0, Counts::rows(rows));
                    if let Some(request) = self.requests.back_mut() {
                        request.rows += rows;
                        request.bulk = self.bulk.clone();
                    }
                    core.flush(out);
                    out.estimated(&movement);
                }
                tokens::Event::Lost => out.uncounted(&movement),
                _ => {}
            }
        }
    }
}

/// INSERT BULK: rows of the client follow.
fn is_bulk(known: &Known) -> bool {
    known.statement.copy.is_some_and(|copy| copy.inward && !copy.server_side)
}

/// The last part of a procedure's name, in lower case.
fn last(name: &str) -> String {
    name.rsplit('.').next().unwrap_or_default().trim_matches(|c| matches!(c, '[' | ']' | '"')).to_lowercase()
}
