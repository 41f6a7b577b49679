//! What a client asks (MySQL, "Command Phase"): a command's first byte, and what its answer is read against.

use super::answers::Answer;
use super::packets::{Login, Read, change_user, query_text, text};
use super::statements::{self, Known};
use super::{
    Belongs, COMMON, LOGIN_BYTES_MAX, Mysql, PREPARED_BYTES_MAX, PREPARED_MAX, Phase, Prepared, QUIET_NS, REQUESTS_MAX, SQL_BYTES_MAX,
};
use crate::protocols::texts::Many;
use crate::sql::Effect;
use crate::windows::{Counts, Identity, Recorder, Side};
use std::sync::Arc;

const QUIT: u8 = 0x01;
const INIT_DB: u8 = 0x02;
const QUERY: u8 = 0x03;
const FIELD_LIST: u8 = 0x04;
const STATISTICS: u8 = 0x09;
const PROCESS_INFO: u8 = 0x0a;
const CHANGE_USER: u8 = 0x11;
const BINLOG_DUMP: u8 = 0x12;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;
const FETCH: u8 = 0x1c;
const BINLOG_DUMP_GTID: u8 = 0x1e;
/// MariaDB's COM_STMT_BULK_EXECUTE: many rows of parameters for one statement.
const BULK_EXECUTE: u8 = 0xfa;
/// The statement that was prepared last, in a client that does not wait to hear its number (MariaDB).
const LAST: u32 = u32::MAX;

/// Names of the commands, from 0 on.
const NAMES: [&str; 33] = [
    "SLEEP",
    "Quit",
    "Use Database",
    "Query",
    "Show Fields",
    "Create Database",
    "Drop Database",
    "Refresh",
    "Shutdown",
    "Statistics",
    "Process List",
    "Connect",
    "Kill Server Thread",
    "Dump Debuginfo",
    "Ping",
    "Time",
    "Insert Delayed",
    "Change User",
    "Send Binlog",
    "Send Table",
    "Slave Connect",
    "Register Slave",
    "Prepare Statement",
    "Execute Statement",
    "Send BLOB",
    "Close Statement",
    "Reset Statement",
    "Set Option",
    "Fetch Data",
    "Daemon",
    "Send Binlog GTID",
    "Reset Connection",
    "Clone",
];

/// How much of a command is needed.
pub(super) fn wanted(command: u8, answer: &Answer) -> usize {
    match command {
        _ if answer.is_loading() => 0,
        QUERY | PREPARE => SQL_BYTES_MAX,
        CHANGE_USER => LOGIN_BYTES_MAX,
        _ => 256,
    }
}

/// What answers a request.
pub(super) enum Ask {
    /// One result for each statement.
    Query,
    /// The same, of a prepared statement.
    Execute(u32),
    Prepare,
    Fetch(u32),
    /// Column definitions.
    Fields,
    Database(String),
    /// As a login; who it was before.
    User(Box<(Identity, Option<String>)>),
    /// A text in one packet.
    Text,
    /// OK, EOF or an error.
    Plain,
    /// A stream without an end.
    Dump,
    /// It was not seen.
    Unseen,
}

enum Run {
    One(Arc<Known>),
    Many(Many<Known>),
}

pub(super) struct Request {
    pub ask: Ask,
    run: Run,
    at: usize,
    pub counted: bool,
}

impl Request {
    pub fn new(ask: Ask, known: Arc<Known>) -> Self {
        Self { ask, run: Run::One(known), at: 0, counted: false }
    }

    /// The statement that runs.
    pub fn known(&self) -> Arc<Known> {
        match &self.run {
            Run::One(known) => Arc::clone(known),
            Run::Many(many) => many.get(self.at).or(many.last()).map_or_else(Known::empty, Arc::clone),
        }
    }

    pub fn next(&mut self) {
        self.at += 1;
        self.counted = false;
    }

    /// If the answer is lost, what the session means is not known any more.
    pub fn changes_session(&self) -> bool {
        let plain = |known: &Arc<Known>| matches!(known.statement.effect, Effect::None | Effect::Begin);
        match (&self.ask, &self.run) {
            (Ask::Prepare | Ask::Database(_) | Ask::User(_), _) => true,
            (_, Run::One(known)) => !plain(known),
            (_, Run::Many(many)) => !many.iter().all(plain),
        }
    }
}

impl Mysql {
    /// One packet of the client in the command phase.
    pub(super) fn command(&mut self, sequence: u8, length: u64, head: &[u8], out: &mut Recorder<'_>) -> Belongs {
        if self.answer.is_loading() {
            let target = self.loaded_into();
            if length == 0 {
                self.answer.loaded();
            }
            return Belongs::To(target);
        }
        if sequence != 0 {
            // The proof that a change of user asks for; or data of a file that nobody was seen to ask for.
            let proves = matches!(self.requests.front(), Some(Request { ask: Ask::User(_), .. }));
            return Belongs::To(Arc::clone(if proves { &COMMON.connect } else { &COMMON.transfer }));
        }
        if self.doubt {
            self.settle();
        }
        let Some((&code, body)) = head.split_first() else { return Belongs::To(Arc::clone(&COMMON.connect)) };
        if let Some(g) = &mut self.gathered {
            let name = NAMES.get(usize::from(code)).copied().unwrap_or("Unknown");
            *g.commands.entry(name).or_default() += 1;
        }
        let whole = head.len() as u64 == length;
        let id = || Read(body).number(4).unwrap_or(0) as u32;
        let connect = Arc::clone(&COMMON.connect);
        match code {
            QUIT | LONG_DATA | CLOSE => {
                if code == CLOSE {
                    self.forget(id());
                }
                let movement = if code == LONG_DATA { Arc::clone(self.prepared(id()).known.asked()) } else { connect };
                return Belongs::To(movement);
            }
            QUERY => return Belongs::To(self.query(body, whole, out)),
            PREPARE => {
                let read = self.read(body, whole, out);
                let known = read.first().map_or_else(Known::empty, Arc::clone);
                let movement = Arc::clone(known.asked());
                self.last_prepared = Some(Arc::clone(&known));
                self.ask(Request::new(Ask::Prepare, known));
                return Belongs::To(movement);
            }
            EXECUTE | BULK_EXECUTE | FETCH => {
                let id = id();
                let known = self.prepared(id).known;
                let movement = Arc::clone(known.asked());
                if code == FETCH {
                    self.ask(Request::new(Ask::Fetch(id), known));
                } else {
                    if !known.late && !Arc::ptr_eq(&known, &Known::unseen()) {
                        self.claim(&movement, Side::Client, 0, Counts::messages(1));
                    }
                    self.ask(Request::new(Ask::Execute(id), known));
                }
                return Belongs::To(movement);
            }
            INIT_DB => self.ask(Request::new(Ask::Database(text(body)), Known::empty())),
            FIELD_LIST => {
                self.claim(&COMMON.described, Side::Client, 0, Counts::messages(1));
                self.ask(Request::new(Ask::Fields, Known::empty()));
                return Belongs::To(Arc::clone(&COMMON.described));
            }
            STATISTICS => self.ask(Request::new(Ask::Text, Known::empty())),
            PROCESS_INFO => self.ask(Request::new(Ask::Query, Known::empty())),
            BINLOG_DUMP | BINLOG_DUMP_GTID => {
                self.claim(&COMMON.replicated, Side::Client, 0, Counts::messages(1));
                self.ask(Request::new(Ask::Dump, Known::empty()));
                return Belongs::To(Arc::clone(&COMMON.replicated));
            }
            CHANGE_USER => {
                let before = (out.identity().clone(), self.database.clone());
                let mut login = change_user(body, self.capabilities);
                if !self.agreed {
                    // Where the proof ends is not known, so nothing behind the name is read.
                    login = Login { user: login.user, ..Login::default() };
                }
                self.become_user(login, out);
                self.clear_prepared();
                self.ask(Request::new(Ask::User(Box::new(before)), Known::empty()));
            }
            0x1f => {
                // COM_RESET_CONNECTION: as after a login.
                self.clear_prepared();
                self.ask(Request::new(Ask::Plain, Known::empty()));
            }
            _ => self.ask(Request::new(Ask::Plain, Known::empty())),
        }
        Belongs::To(connect)
    }

    fn read(&mut self, text: &[u8], whole: bool, out: &mut Recorder<'_>) -> Many<Known> {
        let database = self.database.as_deref();
        let read = statements::of(&mut out.shared().texts, text, whole, self.mode, database);
        self.claims.bounds_reached += read.iter().filter(|known| known.statement.bounded).count() as u32;
        read
    }

    fn query(&mut self, body: &[u8], whole: bool, out: &mut Recorder<'_>) -> Arc<crate::windows::Movement> {
        let Some(sql) = query_text(body, self.capabilities) else {
            self.ask(Request::new(Ask::Query, Known::unseen()));
            return Arc::clone(&COMMON.transfer);
        };
        let read = self.read(sql, whole, out);
        let stands_for = |known: &Arc<Known>| matches!(known.statement.effect, Effect::Prepare(_) | Effect::Execute(_));
        let run: Many<Known> = if read.iter().any(stands_for) { read.iter().map(|known| self.meant(known)).collect() } else { read };
        for known in run.iter().filter(|known| !known.late && !Arc::ptr_eq(known, &Known::unseen())) {
            self.claim(&known.named, Side::Client, 0, Counts::messages(1));
        }
        let moves = |known: &&Arc<Known>| known.statement.operation != crate::windows::Operation::Connect;
        let main = run.iter().find(moves).or(run.first());
        let movement = main.map_or_else(|| Arc::clone(&COMMON.connect), |known| Arc::clone(known.asked()));
        self.ask(Request { ask: Ask::Query, run: Run::Many(run), at: 0, counted: false });
        movement
    }

    /// What a statement stands for: EXECUTE what was prepared; preparing moves nothing.
    fn meant(&mut self, known: &Arc<Known>) -> Arc<Known> {
        match &known.statement.effect {
            Effect::Prepare(name) => {
                if self.named.len() < PREPARED_MAX && self.prepared_bytes + known.size_bytes <= PREPARED_BYTES_MAX {
                    self.prepared_bytes += known.size_bytes;
                    if let Some(old) = self.named.insert(name.as_str().into(), Arc::clone(known)) {
                        self.prepared_bytes -= old.size_bytes;
                    }
                } else {
                    self.claims.bounds_reached += 1;
                }
                Known::empty()
            }
            Effect::Execute(name) => self.named.get(name.as_str()).map_or_else(Known::unseen, Arc::clone),
            _ => Arc::clone(known),
        }
    }

    // ---- prepared statements ----------------------------------------------------------------------------------

    pub(super) fn prepared(&self, id: u32) -> Prepared {
        if let (LAST, Some(known)) = (id, &self.last_prepared) {
            return Prepared { known: Arc::clone(known), rows: None };
        }
        self.prepared.get(&id).cloned().unwrap_or_else(|| Prepared { known: Known::unseen(), rows: None })
    }

    /// Remembers a statement by the number that the server gave it.
    pub(super) fn keep(&mut self, id: u32, prepared: Prepared) {
        self.forget(id);
        let size_bytes = prepared.known.size_bytes;
        if self.prepared.len() >= PREPARED_MAX || self.prepared_bytes + size_bytes > PREPARED_BYTES_MAX {
            self.claims.bounds_reached += 1;
            return;
        }
        self.prepared_bytes += size_bytes;
        self.prepared.insert(id, prepared);
    }

    fn forget(&mut self, id: u32) {
        if let Some(old) = self.prepared.remove(&id) {
            self.prepared_bytes -= old.known.size_bytes;
        }
    }

    fn clear_prepared(&mut self) {
        self.prepared.clear();
        self.named.clear();
        self.prepared_bytes = 0;
        self.last_prepared = None;
    }

    // ---- pairing ----------------------------------------------------------------------------------------------

    fn ask(&mut self, request: Request) {
        if self.doubt {
            self.for_good |= request.changes_session();
            self.drop_requests();
        } else if !self.requests.is_empty() {
            self.pipelines = true;
        }
        if self.requests.len() >= REQUESTS_MAX {
            self.claims.bounds_reached += 1;
            self.lose_pairing();
        }
        self.requests.push_back(request);
    }

    /// Answers can no longer be paired with requests.
    pub(super) fn lose_pairing(&mut self) {
        self.release(true);
        self.doubt = true;
        self.drop_requests();
        self.answer.lose();
    }

    /// Forgets what was asked; whether it took effect nobody knows.
    fn drop_requests(&mut self) {
        if self.requests.iter().any(Request::changes_session) {
            self.database = None;
        }
        self.requests.clear();
    }

    /// The client speaks again: it has had all its answers, so what comes next answers this. One that sends ahead may have
    /// asked before; the server must have been silent for a while.
    fn settle(&mut self) {
        let quiet_ns = if self.pipelines { QUIET_NS } else { 0 };
        if self.now_ns.saturating_sub(self.answered_ns) < quiet_ns {
            return;
        }
        self.release(true);
        self.drop_requests();
        self.answer = Answer::default();
        let half = &mut self.halves[Side::Server as usize];
        let carried = std::mem::take(&mut half.carry).len() as u64;
        half.phase = Phase::Framed;
        (half.skip, half.goes_on, half.search) = (0, false, None);
        if carried > 0 {
            self.claim(&COMMON.transfer, Side::Server, carried, Counts::ZERO);
        }
    }
}
