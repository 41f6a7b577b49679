//! What a server answers: results and counts, paired with the statements that were asked.

use super::requests::{Call, Kind, Output, Request};
use super::session::{Session, current};
use super::statements::{Known, Texted};
use super::tokens::{DONEINPROC, DONEPROC, Done, Event};
use super::types::Era;
use super::{COMMON, Core, Prepared, TABLELESS_BYTES_MAX};
use crate::sql::{Effect, UNKNOWN};
use crate::windows::{Counts, Movement, ObjectSet, Operation, Recorder, Side};
use std::sync::Arc;

/// Refused for want of rights: to an object, to columns, to a statement, to the server's state, a login, a database, …
const DENIED: [i32; 22] = [
    229, 230, 262, 297, 300, 916, 4060, 4064, 6004, 15247, 15404, 17892, 18452, 18456, 18461, 18470, 18486, 18487, 18488, 40615, 21089,
    15517,
];

/// The result that is being read.
pub(super) struct Outcome {
    pub movement: Arc<Movement>,
    counts: bool,
    rows: u64,
    held_rows: i64,
    /// It names no table: held back until it is known whether it stays small.
    tableless: bool,
}

/// What a DONE says was done (the commands of the server, as drivers know them).
fn operation(command: u16) -> Option<Operation> {
    Some(match command {
        0xc1 => Operation::Select,
        0xc3 => Operation::Insert,
        0xc4 => Operation::Delete,
        // MERGE is an update here.
        0xc5 | 0x117 => Operation::Update,
        _ => return None,
    })
}

impl Session {
    pub(super) fn answer_begins(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        self.server.set_era(core.era.unwrap_or(Era::V72));
        self.server.set_features(core.features);
        self.server.begin();
        self.answer_is_new = true;
        self.result = None;
        if self.requests.is_empty() && core.logged_in {
            // What asked for it was not seen.
            let mut request = Request::new(super::BATCH);
            request.calls.push_back(Call::unseen());
            self.requests.push_back(request);
        }
        let widths = current(&mut self.requests).and_then(|call| call.widths.clone());
        self.server.set_widths(widths.as_deref().unwrap_or(&[]));
        let movement = self.asked_for();
        self.settle(core, Side::Server, &movement);
        let _ = out;
    }

    /// What bytes between results belong to: the request that they answer.
    fn asked_for(&mut self) -> Arc<Movement> {
        let Some(request) = self.requests.front() else { return Arc::clone(&COMMON.connect) };
        match (request.kind, request.calls.front()) {
            (Kind::Bulk, _) => request.bulk.as_ref().map_or_else(|| Arc::clone(&COMMON.copied_in), |known| Arc::clone(&known.named)),
            (Kind::Batch | Kind::Calls, Some(call)) => {
                let main = call.prepares.as_ref().unwrap_or(&call.texted).main();
                main.map_or_else(|| Arc::clone(&COMMON.connect), |known| Arc::clone(known.asked()))
            }
            _ => Arc::clone(&COMMON.connect),
        }
    }

    /// Bytes of an answer.
    pub(super) fn answer(&mut self, core: &mut Core, bytes: &[u8], out: &mut Recorder<'_>) {
        // What PRELOGIN is answered with is no stream of tokens; its first option is 0.
        if std::mem::take(&mut self.answer_is_new) && !core.logged_in && bytes.first() == Some(&0) {
            self.server.lose();
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (used, event) = self.server.next(rest);
            rest = rest.get(used..).unwrap_or(&[]);
            let ends = !matches!(event, Event::Incomplete);
            let spent = self.of_item(Side::Server, used, ends);
            if ends {
                self.answered(core, event, spent, out);
            }
        }
        core.claims.bounds_reached += u32::from(std::mem::take(&mut self.server.bounded));
    }

    fn answered(&mut self, core: &mut Core, event: Event, bytes: u64, out: &mut Recorder<'_>) {
        match event {
            Event::Describes => {
                self.end_result(core);
                self.hold(Side::Server);
                self.spend(core, Side::Server, bytes);
            }
            Event::Columns => {
                self.end_result(core);
                self.hold(Side::Server);
                self.spend(core, Side::Server, bytes);
                self.begin_result(core, out);
            }
            Event::Rows(rows) => {
                self.spend(core, Side::Server, bytes);
                self.rows(core, rows);
            }
            Event::Done(done) => {
                self.settle_small(core);
                self.spend(core, Side::Server, bytes);
                self.done(core, done, out);
            }
            Event::Error(number) => self.error(core, number, bytes),
            Event::Lost => {
                // What was kept of a token that is none is not read either.
                self.answer_lost(core, out);
                self.spend(core, Side::Server, bytes);
            }
            Event::Database(name) => {
                self.spend(core, Side::Server, bytes);
                core.database = Some(name.to_lowercase()).filter(|name| !name.is_empty());
                if !core.logged_in {
                    core.first_database.clone_from(&core.database);
                }
            }
            Event::LoginAck(era) => {
                self.spend(core, Side::Server, bytes);
                self.become_era(core, Some(era));
                core.logged_in = true;
                if core.first_database.is_none() {
                    core.first_database.clone_from(&core.database);
                }
            }
            Event::Features(features) => {
                self.spend(core, Side::Server, bytes);
                core.features = features;
                self.server.set_features(features);
            }
            Event::Returned(value) => {
                self.spend(core, Side::Server, bytes);
                self.returned(core, value);
            }
            Event::Reset | Event::Nothing | Event::Incomplete => {
                self.spend(core, Side::Server, bytes);
                self.weigh(core);
            }
        }
    }

    // ---- results ----------------------------------------------------------------------------------------------

    /// Rows of some shape follow: whose they are.
    fn begin_result(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        let (names, whole) = self.server.names();
        if self.server.has_columns() {
            self.remember_shape(core);
        }
        let Some(call) = current(&mut self.requests) else {
            let unseen = Known::unseen();
            self.show(core, &unseen, &names, whole, true);
            return;
        };
        let texted = Arc::clone(&call.texted);
        let (known, place) = returning(&texted, call.at);
        let known = if call.prepares.is_some() { Known::empty() } else { known };
        let mut counts = known.late && !call.fetches;
        if let Some(place) = place {
            call.at = place;
            counts &= call.counts(place);
            self.apply(core, place, out);
        }
        let counts = u64::from(counts && !known.is_unseen());
        self.show(core, &known, &names, whole, !names.is_empty());
        if let Some(result) = &self.result {
            core.claim(&result.movement, Side::Server, 0, Counts::messages(counts));
        }
    }

    fn show(&mut self, core: &mut Core, known: &Arc<Known>, names: &[u8], whole: bool, told: bool) {
        let movement = if told { known.rows(names, whole) } else { known.rows_as_before() };
        let result = Outcome { movement, counts: known.returns(), rows: 0, held_rows: 0, tableless: known.tableless };
        if !result.tableless {
            self.settle(core, Side::Server, &result.movement);
        }
        self.result = Some(result);
        self.weigh(core);
    }

    /// The shape of a prepared statement's rows, which need not be told again.
    fn remember_shape(&mut self, core: &mut Core) {
        let Some((cursor, id)) = current(&mut self.requests).filter(|call| call.widths.is_none()).and_then(|call| call.of) else { return };
        let Some(mut prepared) = core.known(cursor, Some(id)) else { return };
        prepared.widths = Some(self.server.widths().into());
        core.keep(cursor, id, prepared);
    }

    fn rows(&mut self, core: &mut Core, rows: u64) {
        core.note(|g| g.rows += rows);
        let Some(result) = &mut self.result else {
            core.claim(&COMMON.rows, Side::Server, 0, Counts::rows(rows as i64));
            return;
        };
        result.rows += rows;
        if !result.counts {
            return;
        }
        if result.tableless {
            result.held_rows += rows as i64;
            self.weigh(core);
            return;
        }
        core.claim(&result.movement, Side::Server, 0, Counts::rows(rows as i64));
    }

    /// A statement without tables that has returned much goes to `unknown`.
    fn weigh(&mut self, core: &mut Core) {
        let held = self.held(Side::Server);
        let Some(result) = self.result.as_mut().filter(|result| result.tableless) else { return };
        if result.rows < 2 && (held <= TABLELESS_BYTES_MAX || result.rows == 0) {
            return;
        }
        let objects = result.movement.objects.as_deref().cloned().unwrap_or_default();
        let objects = ObjectSet { names: vec![UNKNOWN.into()], ..objects };
        result.movement = Arc::new(Movement::of(result.movement.operation, result.movement.from, Arc::new(objects)));
        self.settle_small(core);
    }

    /// What was held back of a statement without tables.
    fn settle_small(&mut self, core: &mut Core) {
        let Some(result) = self.result.as_mut().filter(|result| result.tableless) else { return };
        result.tableless = false;
        let (movement, rows) = (Arc::clone(&result.movement), std::mem::take(&mut result.held_rows));
        core.claim(&movement, Side::Server, 0, Counts::rows(rows));
        self.settle(core, Side::Server, &movement);
    }

    fn end_result(&mut self, core: &mut Core) {
        if self.result.is_none() {
            return;
        }
        self.settle_small(core);
        self.result = None;
        if !self.is_held(Side::Server) {
            let movement = self.asked_for();
            self.settle(core, Side::Server, &movement);
        }
    }

    // ---- ends -------------------------------------------------------------------------------------------------

    fn done(&mut self, core: &mut Core, done: Done, out: &mut Recorder<'_>) {
        core.note(|g| g.done_rows += done.counted().unwrap_or(0));
        self.end_result(core);
        let Some(request) = self.requests.front_mut() else { return };
        let (kind, inside) = (request.kind, done.kind == DONEINPROC);
        if kind == Kind::Bulk {
            let sent = std::mem::take(&mut request.rows);
            if let Some(known) = request.bulk.clone() {
                // What was counted as it passed is corrected by what arrived; a failure leaves nothing.
                let arrived = if done.failed() { Some(0) } else { done.counted().map(|count| count as i64) };
                core.claim(&known.named, Side::Client, 0, Counts::rows(arrived.map_or(0, |arrived| arrived - sent)));
            }
            return;
        }
        let Some(call) = request.calls.front_mut() else { return };
        call.failed |= done.failed();
        let of_statement = done.kind != DONEPROC && (!inside || call.inner);
        if let (true, Some(operation)) = (of_statement && call.prepares.is_none(), operation(done.command)) {
            let texted = Arc::clone(&call.texted);
            let found = changing(&texted, call.at, operation);
            if let Some((known, place)) = found {
                if let Some(place) = place.filter(|place| *place >= call.at) {
                    call.at = place + 1;
                }
                let new = place.is_none_or(|place| call.counts(place));
                let rows = if operation == Operation::Select || done.failed() { 0 } else { done.counted().unwrap_or(0) as i64 };
                // Of several that need not run, those that did are counted.
                let late = if texted.branches { operation != Operation::Select } else { known.late && new && !call.fetches };
                let messages = u64::from(late && !known.is_unseen());
                let at = call.at;
                core.claim(&known.named, Side::Server, 0, Counts { rows, messages, ..Counts::ZERO });
                self.apply(core, at, out);
            }
        }
        if done.kind == DONEPROC && kind == Kind::Calls {
            self.end_call(core, out);
            // What comes next answers the next call.
            let widths = current(&mut self.requests).and_then(|call| call.widths.clone());
            self.server.set_widths(widths.as_deref().unwrap_or(&[]));
            let movement = self.asked_for();
            self.settle(core, Side::Server, &movement);
        }
    }

    /// One call, or the text, is over.
    fn end_call(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        let Some(mut call) = self.requests.front_mut().and_then(|request| request.calls.pop_front()) else { return };
        let texted = Arc::clone(&call.texted);
        if !call.fetches && call.prepares.is_none() && !texted.branches {
            let ran = if call.failed { call.at + 1 } else { texted.list.len() };
            for (place, known) in texted.list.iter().enumerate().take(ran) {
                if known.late && !known.is_unseen() && call.counts(place) {
                    core.claim(&known.named, Side::Server, 0, Counts::messages(1));
                }
            }
        }
        let until = if call.failed { call.at } else { texted.list.len() };
        take_effect(core, &mut call, until, out);
        if let Some(quotes) = texted.quotes {
            core.quotes = quotes;
        }
    }

    /// What the statements before `until` changed in the session.
    fn apply(&mut self, core: &mut Core, until: usize, out: &mut Recorder<'_>) {
        if let Some(call) = current(&mut self.requests) {
            take_effect(core, call, until, out);
        }
    }

    pub(super) fn answer_ends(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        self.end_result(core);
        let Some(request) = self.requests.front() else { return };
        if request.kind == Kind::Bulk {
            self.bulk = None;
        }
        for _ in 0..request.calls.len() {
            self.end_call(core, out);
        }
        self.requests.pop_front();
    }

    /// The rest of the answer is not read.
    pub(super) fn answer_lost(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        self.server.lose();
        self.settle_small(core);
        let rows = self.result.take().is_some();
        // Rows go on being rows, of nobody knows what.
        let to = Arc::clone(if rows { &COMMON.rows } else { &COMMON.transfer });
        self.settle(core, Side::Server, &to);
        if rows {
            core.flush(out);
            out.uncounted(&to);
        }
        let Some(request) = self.requests.front_mut().filter(|request| request.kind != Kind::Login) else { return };
        if core.logged_in {
            // What was counted before stays; what follows is not known.
            for call in &mut request.calls {
                call.failed = true;
                call.counted = u128::MAX;
            }
        }
    }

    // ---- errors and values ------------------------------------------------------------------------------------

    fn error(&mut self, core: &mut Core, number: i32, bytes: u64) {
        core.note(|g| g.errors += 1);
        self.settle_small(core);
        let login = !core.logged_in;
        let denied = login || DENIED.contains(&number);
        if !denied {
            self.spend(core, Side::Server, bytes);
            return;
        }
        let mut objects = None;
        if let Some(call) = current(&mut self.requests).filter(|_| !login) {
            let place = (call.at..call.texted.list.len())
                .find(|place| call.texted.list.get(*place).is_some_and(|known| known.statement.operation != Operation::Connect));
            let known = place.and_then(|place| call.texted.list.get(place)).or(call.texted.main()).map(Arc::clone);
            if let Some(place) = place {
                call.counts(place);
                call.at = place;
            }
            call.failed = true;
            objects = known.and_then(|known| known.named.objects.clone());
        }
        let refused = objects
            .map_or_else(|| Arc::clone(&COMMON.refused), |objects| Arc::new(Movement::of(Operation::Refused, Side::Client, objects)));
        // Its text stands behind it: the rest of the answer is the refusal's.
        core.claim(&refused, Side::Server, bytes, Counts::messages(1));
    }

    fn returned(&mut self, core: &mut Core, value: Option<i64>) {
        let Some(call) = current(&mut self.requests) else { return };
        let Some(output) = call.outputs.pop_front() else { return };
        let Some(id) = value.and_then(|value| i32::try_from(value).ok()).filter(|id| *id != 0) else { return };
        let texted: Arc<Texted> = call.prepares.as_ref().map_or_else(|| Arc::clone(&call.texted), Arc::clone);
        core.keep(output == Output::Cursor, id, Prepared { texted, widths: None });
    }
}

fn take_effect(core: &mut Core, call: &mut Call, until: usize, out: &mut Recorder<'_>) {
    while call.applied < until.min(call.texted.list.len()) {
        let known = call.texted.list.get(call.applied).map(Arc::clone);
        call.applied += 1;
        let effect = known.as_ref().map(|known| &known.statement.effect);
        if let Some(Effect::Role(role)) = effect.filter(|_| call.prepares.is_none() && !call.fetches) {
            // Where it need not have run, nobody knows who acts.
            let role = if call.texted.branches { Some(UNKNOWN.to_owned()) } else { role.clone() };
            core.flush(out);
            out.identify(|identity| identity.role = role);
        }
    }
}

/// The statement that a result from `at` on is of, and its place.
fn returning(texted: &Texted, at: usize) -> (Arc<Known>, Option<usize>) {
    if texted.branches {
        let known = texted.merged(Operation::Select).or_else(|| texted.merged(Operation::Call));
        return (known.unwrap_or_else(Known::unseen), None);
    }
    let place = |wanted: &dyn Fn(&Known) -> bool| (at..texted.list.len()).find(|place| texted.list.get(*place).is_some_and(|k| wanted(k)));
    let place = place(&|known| known.may_return()).or_else(|| place(&|known| known.returns())).or_else(|| place(&|_| true));
    let place = place.or(texted.list.len().checked_sub(1));
    let known = place.and_then(|place| texted.list.get(place)).map_or_else(Known::unseen, Arc::clone);
    (known, place)
}

/// The statement of an operation that has ended, and its place; of one that was not seen nothing is told.
fn changing(texted: &Texted, at: usize, operation: Operation) -> Option<(Arc<Known>, Option<usize>)> {
    if texted.branches {
        return texted.merged(operation).map(|known| (known, None));
    }
    let is = |place: &usize| texted.list.get(*place).is_some_and(|known| known.statement.operation == operation);
    let place = (at..texted.list.len()).find(is).or_else(|| (0..at.min(texted.list.len())).find(is))?;
    texted.list.get(place).map(|known| (Arc::clone(known), Some(place)))
}
