//! One session: packets become messages, each side's bytes go to what they turn out to be.

use super::answers::Outcome;
use super::login::{login, ntlm};
use super::requests::{Call, Request};
use super::rpc::Rpc;
use super::statements::Known;
use super::tokens::Tokens;
use super::types::{Era, Place};
use super::{
    ANSWER, ATTENTION, BATCH, BULK, COMMON, Core, FACTS_MAX, FEDERATED, HEADER_BYTES, LOGIN, LOGIN_BYTES_MAX, PRELOGIN, REQUESTS_MAX, RPC,
    SSPI, TRANSACTION, header, search,
};
use crate::protocols::DecodeError;
use crate::protocols::search::Search;
use crate::sql::tsql::Quotes;
use crate::windows::{Counts, Identity, Movement, Recorder, Side};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Framed,
    Search,
}

struct Half {
    phase: Phase,
    /// A packet's header that is not whole; in the search, what was not looked at.
    carry: Vec<u8>,
    /// Bytes of the packet that are to come.
    left: usize,
    kind: u8,
    /// It ends its message.
    last: bool,
    /// A message has begun.
    begun: bool,
    /// The rest of the message is not read.
    lost: bool,
    /// What the packet holds has not begun.
    fresh: bool,
    /// What the packet holds is TLS.
    tls: bool,
    /// All packets of PRELOGIN from here on hold TLS.
    tls_begun: bool,
    search: Option<Box<Search>>,
    /// Where bytes go now (`None`: they are held back).
    target: Option<Arc<Movement>>,
    held: u64,
    /// Bytes of an item that has not ended.
    item: u64,
}

impl Half {
    fn new(midstream: bool) -> Self {
        Self {
            phase: if midstream { Phase::Search } else { Phase::Framed },
            carry: Vec::new(),
            left: 0,
            kind: 0,
            last: false,
            begun: false,
            lost: false,
            fresh: false,
            tls: false,
            tls_begun: false,
            search: None,
            target: None,
            held: 0,
            item: 0,
        }
    }
}

pub(super) struct Session {
    halves: [Half; 2],
    tls_piece: bool,
    /// What of the client's message is kept: a statement's text, a login.
    pub text: Vec<u8>,
    pub text_cut: bool,
    /// Bytes of headers in front of the text that are to be passed over (`None`: they are not known yet).
    pub text_skip: Option<usize>,
    pub decided: bool,
    pub rpc: Rpc,
    /// The call that is being read.
    pub reading: super::requests::Reading,
    /// The table that INSERT BULK announced, and the rows that follow it.
    pub bulk: Option<Arc<Known>>,
    pub bulk_rows: Tokens,
    pub server: Tokens,
    /// Nothing of the answer was read yet.
    pub answer_is_new: bool,
    pub requests: VecDeque<Request>,
    pub result: Option<Outcome>,
}

impl Session {
    pub fn new(midstream: bool) -> Self {
        Self {
            halves: [Half::new(midstream), Half::new(midstream)],
            tls_piece: false,
            text: Vec::new(),
            text_cut: false,
            text_skip: None,
            decided: false,
            rpc: Rpc::new(),
            reading: Default::default(),
            bulk: None,
            bulk_rows: Tokens::new(Place::Bulk),
            server: Tokens::new(Place::Result),
            answer_is_new: false,
            requests: VecDeque::new(),
            result: None,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let halves: usize = self.halves.iter().map(|h| h.carry.capacity() + h.search.as_ref().map_or(0, |s| s.memory_bytes())).sum();
        let requests: usize = self.requests.iter().map(Request::memory_bytes).sum();
        let read = self.rpc.memory_bytes() + self.bulk_rows.memory_bytes() + self.server.memory_bytes() + self.reading.memory_bytes();
        size_of::<Self>() + halves + requests + read + self.text.capacity()
    }

    /// Whether the next byte begins a packet.
    pub fn is_between(&self, sender: Side) -> bool {
        let half = &self.halves[sender as usize];
        half.phase == Phase::Framed && half.left == 0 && half.carry.is_empty()
    }

    pub fn holds_tls(&self, sender: Side) -> bool {
        let half = &self.halves[sender as usize];
        half.left > 0 && half.tls
    }

    /// A gap inside a packet that holds TLS; false if it ends beyond.
    pub fn gap_in_tls(&mut self, sender: Side, length: u64) -> bool {
        let half = &mut self.halves[sender as usize];
        let inside = length <= half.left as u64;
        half.left -= usize::try_from(length).unwrap_or(half.left).min(half.left);
        half.begun &= half.left > 0;
        inside
    }

    /// What was used last, if it is TLS.
    pub fn take_tls<'a>(&mut self, _sender: Side, piece: &'a [u8]) -> Option<&'a [u8]> {
        std::mem::take(&mut self.tls_piece).then_some(piece)
    }

    // ---- where bytes go ---------------------------------------------------------------------------------------

    /// Gives bytes to what they belong to, or holds them back.
    pub fn spend(&mut self, core: &mut Core, sender: Side, bytes: u64) {
        let half = &mut self.halves[sender as usize];
        match &half.target {
            Some(movement) => core.claim(movement, sender, bytes, Counts::ZERO),
            None => half.held += bytes,
        }
    }

    /// What is held back, and what follows, belongs to a movement.
    pub fn settle(&mut self, core: &mut Core, sender: Side, movement: &Arc<Movement>) {
        let half = &mut self.halves[sender as usize];
        let held = std::mem::take(&mut half.held);
        half.target = Some(Arc::clone(movement));
        core.claim(movement, sender, held, Counts::ZERO);
    }

    /// What follows is held back.
    pub fn hold(&mut self, sender: Side) {
        self.halves[sender as usize].target = None;
    }

    pub fn held(&self, sender: Side) -> u64 {
        self.halves[sender as usize].held
    }

    pub fn is_held(&self, sender: Side) -> bool {
        self.halves[sender as usize].target.is_none()
    }

    // ---- packets ----------------------------------------------------------------------------------------------

    /// Reads what stands first in `bytes`, at most one packet; the number of bytes used.
    pub fn step(&mut self, core: &mut Core, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let half = &mut self.halves[sender as usize];
        if half.phase == Phase::Search {
            return self.search(core, sender, bytes, out);
        }
        if half.left > 0 {
            let used = bytes.len().min(half.left);
            let piece = bytes.get(..used).unwrap_or(bytes);
            if std::mem::take(&mut half.fresh) && half.kind == PRELOGIN {
                half.tls = half.tls_begun || piece.first().is_some_and(|b| (0x14..=0x17).contains(b));
                half.tls_begun |= half.tls;
            }
            half.left -= used;
            if half.tls {
                self.tls_piece = true;
            } else if half.lost {
                self.spend(core, sender, used as u64);
            } else {
                self.payload(core, sender, piece, out);
            }
            if self.halves[sender as usize].left == 0 {
                self.packet_ends(core, sender, out);
            }
            return Ok(used);
        }
        let used = bytes.len().min(HEADER_BYTES - half.carry.len().min(HEADER_BYTES));
        let head = if half.carry.is_empty() && used == HEADER_BYTES {
            bytes.first_chunk::<HEADER_BYTES>().copied()
        } else {
            half.carry.extend_from_slice(bytes.get(..used).unwrap_or(bytes));
            half.carry.first_chunk::<HEADER_BYTES>().copied()
        };
        let Some(head) = head else { return Ok(used) };
        half.carry = Vec::new();
        self.packet(core, sender, head, out)?;
        Ok(used)
    }

    fn packet(&mut self, core: &mut Core, sender: Side, head: [u8; HEADER_BYTES], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let Some((kind, status, length)) = header(&head) else { return Ok(()) };
        let left = length.checked_sub(HEADER_BYTES);
        let left = left.ok_or_else(|| DecodeError::new("length of a TDS packet", length as u64, "at least 8"))?;
        let known = match sender {
            Side::Client => name(kind).is_some() && kind != ANSWER,
            // NTLM's challenge may come in a packet of its own type.
            Side::Server => matches!(kind, ANSWER | PRELOGIN | SSPI),
        };
        if !known {
            return Err(DecodeError::new("type of a TDS packet", kind.into(), "one of 1, 3, 4, 6, 7, 8, 14, 16, 17, 18"));
        }
        let half = &mut self.halves[sender as usize];
        // All packets of a message have its type (2.2.3.1.1): one of another begins another, and what came of this one is all of it.
        if half.begun && !half.lost && half.kind != kind {
            half.last = true;
            self.lose(core, sender, out);
            self.packet_ends(core, sender, out);
        }
        let half = &mut self.halves[sender as usize];
        half.left = left;
        half.kind = kind;
        half.last = status & 1 != 0;
        (half.tls, half.fresh) = (false, true);
        if !std::mem::replace(&mut half.begun, true) {
            half.lost = false;
            half.item = 0;
            match sender {
                Side::Client => self.request_begins(core, kind, status, out),
                Side::Server => self.answer_begins(core, out),
            }
        }
        self.spend(core, sender, HEADER_BYTES as u64);
        if left == 0 {
            self.packet_ends(core, sender, out);
        }
        Ok(())
    }

    fn packet_ends(&mut self, core: &mut Core, sender: Side, out: &mut Recorder<'_>) {
        let half = &mut self.halves[sender as usize];
        if !half.last {
            return;
        }
        half.begun = false;
        let (kind, item, tls) = (half.kind, std::mem::take(&mut half.item), half.tls);
        core.note(|g| *g.messages.entry(name(kind).unwrap_or("Unknown")).or_default() += 1);
        self.spend(core, sender, item);
        match sender {
            _ if tls => {}
            Side::Client => self.request_ends(core, kind, out),
            Side::Server => self.answer_ends(core, out),
        }
        let half = &mut self.halves[sender as usize];
        half.lost = false;
        if half.held > 0 {
            self.settle(core, sender, &COMMON.transfer);
        }
        self.halves[sender as usize].target = None;
        self.sound(core, out);
    }

    fn sound(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        let framed = self.halves.iter().all(|half| half.phase == Phase::Framed && !half.lost);
        if core.marked && !core.for_good && framed && self.requests.is_empty() {
            core.marked = false;
            core.flush(out);
            out.sound();
        }
    }

    fn payload(&mut self, core: &mut Core, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) {
        if sender == Side::Server {
            match self.halves[1].kind {
                ANSWER => self.answer(core, bytes, out),
                _ => self.spend(core, sender, bytes.len() as u64),
            }
            return;
        }
        match self.halves[0].kind {
            BATCH => {
                self.spend(core, sender, bytes.len() as u64);
                self.batch(core, bytes, out);
            }
            RPC => self.calls(core, bytes, out),
            BULK if self.bulk.is_some() => self.rows_in_bulk(core, bytes, out),
            LOGIN | SSPI => {
                self.spend(core, sender, bytes.len() as u64);
                let room = LOGIN_BYTES_MAX.saturating_sub(self.text.len());
                self.text.extend(bytes.iter().take(room));
            }
            _ => self.spend(core, sender, bytes.len() as u64),
        }
    }

    /// Counts bytes of an item: the whole of it once it has ended.
    pub fn of_item(&mut self, sender: Side, used: usize, ends: bool) -> u64 {
        let half = &mut self.halves[sender as usize];
        half.item += used as u64;
        if ends { std::mem::take(&mut half.item) } else { 0 }
    }

    // ---- the client's messages --------------------------------------------------------------------------------

    fn request_begins(&mut self, core: &mut Core, kind: u8, status: u8, out: &mut Recorder<'_>) {
        self.text = Vec::new();
        self.text_cut = false;
        self.text_skip = None;
        self.decided = false;
        if kind == LOGIN {
            self.settle_server(core);
        }
        if matches!(kind, BATCH | RPC | BULK | TRANSACTION) {
            self.settle_server(core);
            core.logged_in = true;
            // The session is to be as after its login (2.2.3.1.2).
            if status & 0x18 != 0 {
                core.reset(out);
            }
        }
        let target = match kind {
            BATCH | RPC => None,
            BULK => Some(self.bulk_begins(core)),
            _ => Some(Arc::clone(&COMMON.connect)),
        };
        self.halves[0].target = target;
        if kind == RPC {
            self.rpc.set_era(core.era.unwrap_or(Era::V72));
            self.rpc.begin();
            self.reading = Default::default();
        }
        match kind {
            // What goes with a request, or asks to end it, has no answer of its own that is read.
            ATTENTION | SSPI | FEDERATED => {}
            PRELOGIN if self.halves[0].tls_begun => {}
            _ => self.ask(core, Request::new(kind)),
        }
    }

    /// The client speaks again: it has had all its answers.
    fn settle_server(&mut self, core: &mut Core) {
        let half = &mut self.halves[1];
        if half.phase == Phase::Framed {
            return;
        }
        half.phase = Phase::Framed;
        let carried = std::mem::take(&mut half.carry).len() as u64;
        (half.left, half.begun, half.lost, half.search) = (0, false, false, None);
        core.claim(&COMMON.transfer, Side::Server, carried, Counts::ZERO);
        self.requests.clear();
        self.result = None;
    }

    fn ask(&mut self, core: &mut Core, request: Request) {
        if self.requests.len() >= REQUESTS_MAX {
            core.claims.bounds_reached += 1;
            self.requests.clear();
        }
        self.requests.push_back(request);
    }

    fn request_ends(&mut self, core: &mut Core, kind: u8, out: &mut Recorder<'_>) {
        let lost = self.halves[0].lost;
        match kind {
            BATCH if !self.decided => self.batch_ends(core, lost, out),
            RPC => self.calls_end(core, lost, out),
            LOGIN if !lost => self.log_in(core, out),
            SSPI if !lost => {
                if let Some(account) = ntlm(&self.text) {
                    core.flush(out);
                    out.protect(|p| p.authentication = Some("ntlm".into()));
                    out.login(|identity: &mut Identity| {
                        identity.account_from = Some("token");
                        identity.account = Some(account);
                    });
                }
            }
            _ => {}
        }
        self.text = Vec::new();
    }

    fn log_in(&mut self, core: &mut Core, out: &mut Recorder<'_>) {
        let Some(login) = login(&self.text) else { return };
        core.note(|g| {
            if g.logins.len() < FACTS_MAX {
                let (user, host, application, database) = (&login.user, &login.host, &login.application, &login.database);
                g.logins.push(json!({"user": user, "host": host, "application": application, "database": database}));
            }
        });
        self.become_era(core, login.era);
        core.database = login.database.map(|name| name.to_lowercase());
        core.quotes = if login.ansi { Quotes::Names } else { Quotes::Unknown };
        core.flush(out);
        out.protect(|p| p.authentication = Some(login.authentication.into()));
        let (user, application) = (login.user, login.application);
        out.login(|identity: &mut Identity| {
            identity.account_from = user.is_some().then_some("startup");
            identity.account = user;
            identity.application = application;
        });
    }

    pub fn become_era(&mut self, core: &mut Core, era: Option<Era>) {
        let Some(era) = era else { return };
        core.era = Some(era);
        self.server.set_era(era);
        self.rpc.set_era(era);
    }

    // ---- gaps -------------------------------------------------------------------------------------------------

    /// `length` bytes were lost.
    pub fn gap(&mut self, core: &mut Core, sender: Side, length: u64, out: &mut Recorder<'_>) {
        let half = &mut self.halves[sender as usize];
        let framed = half.phase == Phase::Framed;
        if framed && half.left as u64 >= length && length > 0 {
            half.left -= usize::try_from(length).unwrap_or(half.left);
            let ends = half.left == 0;
            let exact = half.lost
                || match (sender, half.kind) {
                    (Side::Server, ANSWER) => self.server.gap(length),
                    (Side::Client, RPC) => self.rpc.gap(length),
                    (Side::Client, BULK) if self.bulk.is_some() => self.bulk_rows.gap(length),
                    _ => false,
                };
            if !exact {
                core.marked = true;
                core.for_good |= sender == Side::Client || self.requests.iter().any(Request::changes_session);
                self.lose(core, sender, out);
            }
            if ends {
                self.packet_ends(core, sender, out);
            }
            return;
        }
        core.marked = true;
        core.for_good |= sender == Side::Client || self.requests.iter().any(Request::changes_session);
        self.lose(core, sender, out);
        let half = &mut self.halves[sender as usize];
        let carried = std::mem::take(&mut half.carry);
        half.left = 0;
        half.search.get_or_insert_default().passed(carried.len().saturating_add(usize::try_from(length).unwrap_or(usize::MAX)));
        half.phase = Phase::Search;
        core.claim(&COMMON.transfer, sender, carried.len() as u64, Counts::ZERO);
        if sender == Side::Client {
            // What is asked from here on may not be what was asked.
            let answering = usize::from(self.halves[1].begun);
            self.requests.truncate(answering);
            self.bulk = None;
            core.database = None;
        }
    }

    /// The rest of the message is not read: what is held back of it goes to what it may be.
    fn lose(&mut self, core: &mut Core, sender: Side, out: &mut Recorder<'_>) {
        let item = self.of_item(sender, 0, true);
        self.spend(core, sender, item);
        match sender {
            Side::Server => self.answer_lost(core, out),
            Side::Client => self.request_lost(core, out),
        }
        self.halves[sender as usize].lost = true;
    }

    /// Looks for a packet that is certain; what is passed over is counted as bytes.
    fn search(&mut self, core: &mut Core, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let half = &mut self.halves[sender as usize];
        let mut joined = std::mem::take(&mut half.carry);
        let had = joined.len();
        joined.extend_from_slice(bytes);
        let search = half.search.get_or_insert_default();
        let found = search.look(&joined, search::TAIL, &|bytes| search::at(sender, bytes));
        let passed = found.unwrap_or(joined.len().saturating_sub(search::TAIL));
        search.passed(passed);
        core.claim(&COMMON.transfer, sender, passed as u64, Counts::ZERO);
        let half = &mut self.halves[sender as usize];
        let rest = joined.get(passed..).unwrap_or(&[]);
        if found.is_none() {
            half.carry = rest.to_vec();
            return Ok(bytes.len());
        }
        half.phase = Phase::Framed;
        half.search = None;
        // Where a message begins that is certain, it is read; otherwise from the next one on.
        half.begun = !search::starts(sender, rest);
        half.lost = half.begun;
        if half.begun {
            half.target = Some(Arc::clone(&COMMON.transfer));
        }
        // What was carried is gone through here, the rest by who asked.
        let mut carried = joined.get(passed..had).unwrap_or(&[]);
        while !carried.is_empty() {
            let used = self.step(core, sender, carried, out)?;
            carried = carried.get(used..).unwrap_or(&[]);
        }
        Ok(passed.saturating_sub(had))
    }

    pub fn close(&mut self, core: &mut Core) {
        for sender in [Side::Client, Side::Server] {
            let item = self.of_item(sender, 0, true);
            self.spend(core, sender, item);
            if self.is_held(sender) && self.held(sender) > 0 {
                let to = match (&self.result, sender) {
                    (Some(result), Side::Server) => Arc::clone(&result.movement),
                    _ => Arc::clone(&COMMON.transfer),
                };
                self.settle(core, sender, &to);
            }
        }
    }
}

/// Types of packets as tshark calls them.
pub(super) fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        BATCH => "SQL batch",
        RPC => "Remote Procedure Call",
        ANSWER => "Response",
        ATTENTION => "Attention",
        BULK => "Bulk load data",
        FEDERATED => "Federated Authentication Token",
        TRANSACTION => "Transaction Manager Request",
        LOGIN => "TDS7 login",
        SSPI => "SSPI message",
        PRELOGIN => "TDS7 pre-login message",
        _ => return None,
    })
}

/// The last call of a request that the server has not ended.
pub(super) fn current(requests: &mut VecDeque<Request>) -> Option<&mut Call> {
    requests.front_mut().and_then(|request| request.calls.front_mut())
}
