//! PostgreSQL's frontend/backend protocol, version 3 (PostgreSQL documentation, chapter 55).
//!
//! A message is a tag byte, a length that counts itself, and a body; only the first ones of a client have no tag.
//! Requests may be pipelined and answers carry no number, so the decoder keeps the requests that await an answer in
//! order and reads every answer against the first of them. Bodies of rows and COPY data are skipped by length. Where
//! an answer cannot be paired (a gap, too many requests), its rows go to the objects `unknown`: never to wrong ones.
//!
//! Rows are DataRow messages; of COPY out CopyData messages less the binary trailer and the header line; of INSERT,
//! UPDATE, DELETE, MERGE and COPY in the number in CommandComplete.

mod search;

use super::few::Few;
use super::search::Search;
use super::texts::{Fingerprint, fingerprint, under};
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition, tls};
use crate::soon::soon_first;
use crate::sql::{self, CopyFormat, Effect, Statement, UNKNOWN};
use crate::table::Seeded;
use crate::windows::{Counts, Depth, Facts, Movement, ObjectSet, Operation, Part, Recorder, Side};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

mod replication;
mod round;
mod statements;
use replication::{CHANGE_BYTES_MAX, Changes};
use round::Round;
pub(crate) use statements::{Claim, Parsed};
use statements::{EMPTY, Entries, Id, Move, Names, Run, UNSEEN};

/// SQL text that is read; of a longer one, its beginning.
pub const SQL_BYTES_MAX: usize = 16 << 10;
/// Requests that await an answer; with more, answers are `unknown` until all are answered.
pub const REQUESTS_MAX: usize = 4096;
/// Bytes of statements made for requests that still await an answer.
pub const REQUESTED_BYTES_MAX: usize = 1 << 20;
/// Distinct statement texts remembered of a connection, and their bytes; the table is emptied when full.
pub const CACHED_MAX: usize = 256;
pub const CACHED_BYTES_MAX: usize = 512 << 10;
/// Named statements and portals, and their bytes; further ones are `unknown`.
pub const NAMED_MAX: usize = 1024;
pub const NAMED_BYTES_MAX: usize = 1 << 20;
/// Bytes of the startup packet (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// A statement that names no table may return this much before its objects are `unknown`.
pub const TABLELESS_BYTES_MAX: u64 = 1024;
/// Room for so many requests is kept for the next connection that asks.
const SPARE_REQUESTS: usize = 64;
/// Statements of a connection before those are looked for that nothing names any more.
const ENTRIES_MIN: usize = 32;
/// Distinct command tags, and SQLSTATEs, kept for `inspect`.
pub const FACTS_MAX: usize = 1024;
/// After a gap: how long the server must have been at rest before a client that sends ahead is paired again.
const QUIET_NS: i64 = 1_000_000_000;
/// A time that is never past.
const BUSY: i64 = i64::MAX;
/// A tag, and a length.
const HEADER_BYTES: usize = 5;
/// A frame longer than this is not taken for one while frames are searched for.
const PLAUSIBLE_BYTES_MAX: u64 = 16 << 20;
/// The largest length that a row can announce: `Int32` is signed (PostgreSQL, 55.6).
const ROW_BYTES_MAX: u32 = 0x7fff_ffff;
/// Of an error: severity and SQLSTATE stand first.
const ERROR_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 256;
/// Names of SASL mechanisms have up to 20 bytes (RFC 4422, 3.1), and a NUL here.
const MECHANISM_BYTES_MAX: usize = 21;

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// The line of the registry.
pub const POSTGRESQL: Protocol = Protocol { name: "postgresql", recognise, decoder };

/// A decoder for one connection.
#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    Box::new(Postgresql::new(options))
}

/// What a tag says was changed.
const CHANGED: [(&[u8], Move); 4] =
    [(b"INSERT ", Move::INSERTED), (b"UPDATE ", Move::UPDATED), (b"DELETE ", Move::DELETED), (b"MERGE ", Move::MERGED)];

/// What a client may ask for before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Tls,
    Gssapi,
}

/// A request that awaits its answer.
#[derive(Clone, Copy)]
enum Request {
    Parse(Id),
    Bind(Id),
    Describe(Id),
    Execute(Id),
    Close,
    Sync,
    /// The statements of a Query and the one that runs.
    Query(Run, u16),
    Function(Id),
}

impl Request {
    /// Answered by ReadyForQuery.
    fn ends(self) -> bool {
        matches!(self, Self::Sync | Self::Query(..) | Self::Function(_))
    }

    /// The statement that runs.
    fn runs(self) -> Option<Id> {
        match self {
            Self::Execute(id) | Self::Function(id) => Some(id),
            Self::Query(run, at) => run.get(at),
            _ => None,
        }
    }

    fn run(&mut self) -> Option<&mut Run> {
        match self {
            Self::Query(run, _) => Some(run),
            _ => None,
        }
    }

    fn id(&mut self) -> Option<&mut Id> {
        match self {
            Self::Parse(id) | Self::Bind(id) | Self::Describe(id) | Self::Execute(id) | Self::Function(id) => Some(id),
            _ => None,
        }
    }
}

/// Requests in the order in which they are answered. Most connections have none most of the time, and then no queue.
#[derive(Default)]
struct Requests(Option<Box<Queue>>);

pub(crate) struct Queue {
    list: VecDeque<Request>,
    /// Of them, those that [`Request::ends`].
    ends: u32,
}

impl Requests {
    fn front(&self) -> Option<Request> {
        self.get(0)
    }

    fn front_mut(&mut self) -> Option<&mut Request> {
        self.0.as_mut()?.list.front_mut()
    }

    fn get(&self, at: usize) -> Option<Request> {
        self.0.as_ref()?.list.get(at).copied()
    }

    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.list.len())
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that [`Request::ends`].
    fn ends(&self) -> u32 {
        self.0.as_ref().map_or(0, |queue| queue.ends)
    }

    fn iter(&self) -> impl Iterator<Item = Request> {
        self.0.iter().flat_map(|queue| queue.list.iter().copied())
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.0.iter_mut().flat_map(|queue| queue.list.iter_mut())
    }

    fn push(&mut self, request: Request) {
        // A statement of the extended protocol is five of them.
        let queue = self.0.get_or_insert_with(|| Box::new(Queue { list: VecDeque::with_capacity(8), ends: 0 }));
        queue.ends += u32::from(request.ends());
        queue.list.push_back(request);
    }

    fn pop(&mut self) -> Option<Request> {
        let queue = self.0.as_mut()?;
        let request = queue.list.pop_front()?;
        queue.ends -= u32::from(request.ends());
        Some(request)
    }

    /// Takes out a Sync that stands second.
    fn pass_second_sync(&mut self) {
        if let (Some(Request::Sync), Some(queue)) = (self.get(1), &mut self.0) {
            queue.list.remove(1);
            queue.ends -= 1;
        }
    }

    fn memory_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| size_of::<Queue>() + queue.list.capacity() * size_of::<Request>())
    }

    /// Takes out the first `count`.
    fn pass(&mut self, count: usize) {
        for _ in 0..count {
            self.pop();
        }
    }
}

/// What no decoder needs between its turns: the next one takes it.
#[derive(Default)]
pub(crate) struct Spare {
    /// Where what is claimed is gathered.
    #[allow(clippy::box_collection)] // As the decoder has it.
    claims: Option<Box<Vec<Claim>>>,
    requests: Option<Box<Queue>>,
    /// What was offered last: most servers of a plant offer the same.
    offered: Option<Arc<Offered>>,
    /// How a client began last, and its message: a program opens many connections.
    startup: Option<(Box<[u8]>, Arc<Startup>)>,
}

/// What a startup message says.
#[derive(Default)]
struct Startup {
    user: Option<String>,
    database: Option<String>,
    application: Option<String>,
    replicates: bool,
    settings: Settings,
}

impl Startup {
    /// Its parameters (PostgreSQL, 55.7); `settings` are those of an earlier one.
    fn read(body: &[u8], settings: Settings) -> Self {
        let mut said = Self { settings, ..Self::default() };
        let mut parts = body.split(|b| *b == 0).map(text);
        while let (Some(name), Some(value)) = (parts.next().filter(|n| !n.is_empty()), parts.next()) {
            match name.as_str() {
                "user" => said.user = Some(value),
                "database" => said.database = Some(value),
                // A boolean, or `database` (PostgreSQL, 55.4).
                "replication" => said.replicates = !matches!(value.as_str(), "false" | "off" | "no" | "0"),
                "application_name" => said.application = Some(value),
                "search_path" => said.settings.path = Some(sql::path_of(&value)),
                "role" => said.settings.role = Some(value),
                "options" => {
                    for (name, value) in options(&value) {
                        match name.as_str() {
                            "search_path" => said.settings.path = Some(sql::path_of(&value)),
                            "role" => said.settings.role = Some(value),
                            "application_name" => said.application = said.application.take().or(Some(value)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        said
    }
}

/// SASL mechanisms, and the message that named them.
struct Offered {
    said: Box<[u8]>,
    mechanisms: Vec<String>,
}

impl Spare {
    /// What a startup message says, of a connection that has had none before.
    fn startup(&mut self, body: &[u8]) -> Arc<Startup> {
        if let Some((_, said)) = self.startup.as_ref().filter(|(known, _)| **known == *body) {
            return Arc::clone(said);
        }
        let said = Arc::new(Startup::read(body, Settings::default()));
        self.startup = Some((body.into(), Arc::clone(&said)));
        said
    }

    /// The mechanisms that a message names.
    fn offered(&mut self, said: &[u8]) -> Arc<Offered> {
        if let Some(known) = self.offered.as_ref().filter(|known| *known.said == *said) {
            return Arc::clone(known);
        }
        let mechanisms = said.split(|b| *b == 0).filter(|m| !m.is_empty()).map(text).collect();
        let offered = Arc::new(Offered { said: said.into(), mechanisms });
        self.offered = Some(Arc::clone(&offered));
        offered
    }
}

/// Windows are marked since a gap, until it is known again that nothing is missing.
#[derive(Default)]
struct Mark {
    is_set: bool,
    /// What was lost may have changed what the session means: the mark stays.
    for_good: bool,
    /// A frame that was believed behind a gap was none; told with the next flush.
    astray: bool,
    /// A named statement was asked for, and not yet all that was asked is answered.
    naming: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    Out,
    In,
    Both,
}

/// The statement that runs at the server.
#[derive(Default)]
struct Running {
    /// A logical replication stream: each change is a row.
    changes: Option<Box<Changes>>,
    estimate: i64,
    /// Bytes of a statement that names no table, so far, as far as they matter.
    bytes: u32,
    /// Held back until it is known whether it stays small: a row at the most.
    held_bytes: u32,
    /// What the rows of a statement without tables belong to that returned much.
    enlarged: Option<Move>,
    held_row: bool,
    /// A statement that names no table has returned a row.
    returned: bool,
    counted: bool,
    large: bool,
    copying: Option<Copying>,
    /// The next CopyData message is a header or stands for the trailer: no row.
    uncounted_copy: bool,
    /// Lines of a COPY in are rows.
    lines: bool,
}

impl Running {
    /// Bytes and rows that were held back.
    fn take_held(&mut self) -> (u64, i64) {
        (std::mem::take(&mut self.held_bytes).into(), std::mem::take(&mut self.held_row).into())
    }

    fn hold(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Messages without a tag (client) or the byte that answers them (server).
    Startup,
    Framed,
    Search,
}

struct Half {
    /// Bytes of the present body still to come, and what they belong to (`None`: held back).
    skip: u64,
    /// From the first message on that came in pieces.
    pieces: Option<Box<Pieces>>,
    rest: Option<Move>,
    phase: Phase,
    lines: bool,
    /// There was a gap, or the beginning was not seen: what does not fit is searched past, it is no violation.
    doubtful: bool,
}

/// What only a direction has whose messages come in pieces.
#[derive(Default)]
struct Pieces {
    carry: Vec<u8>,
    search: Search,
}

impl Half {
    fn new(phase: Phase, doubtful: bool) -> Self {
        Self { skip: 0, pieces: None, rest: None, phase, lines: false, doubtful }
    }

    /// The beginning of a message whose end is still to come.
    fn carried(&self) -> &[u8] {
        self.pieces.as_ref().map_or(&[], |pieces| &pieces.carry)
    }

    /// The same, to be carried again by [`Half::carry`].
    fn take(&mut self) -> Vec<u8> {
        self.pieces.as_mut().map_or_else(Vec::new, |pieces| std::mem::take(&mut pieces.carry))
    }

    fn carry(&mut self, bytes: Vec<u8>) {
        if self.pieces.is_some() || !bytes.is_empty() {
            self.pieces.get_or_insert_default().carry = bytes;
        }
    }

    fn search(&mut self) -> &mut Search {
        &mut self.pieces.get_or_insert_default().search
    }

    fn memory_bytes(&self) -> usize {
        self.pieces.as_ref().map_or(0, |pieces| size_of::<Pieces>() + pieces.carry.capacity() + pieces.search.memory_bytes())
    }
}

/// What the session set: ends with a transaction that is rolled back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    role: Option<String>,
    path: Option<Vec<String>>,
}

/// Settings, as of now and as they will be.
#[derive(Default)]
struct Session {
    now: Settings,
    /// Outlives the transaction if it commits; the values at its beginning.
    kept: Settings,
    before: Settings,
    startup: Settings,
    /// Stands for the paths, now and at startup, in the key of a statement.
    paths: u64,
}

impl Session {
    fn new(startup: Settings) -> Self {
        let mut session = Self { now: startup.clone(), kept: startup.clone(), before: startup.clone(), startup, paths: 0 };
        session.path_changed();
        session
    }

    fn path_changed(&mut self) {
        let of = |path: &Option<Vec<String>>| path.as_ref().map(|p| p.join("\0"));
        self.paths = Seeded::default().hash_one((of(&self.now.path), of(&self.startup.path)));
    }
}

#[derive(Default)]
struct Gathered {
    user: Option<String>,
    database: Option<String>,
    application: Option<String>,
    ssl_requested: bool,
    ssl_response: Option<String>,
    gssenc_requested: bool,
    cancel_request: bool,
    sasl_mechanisms: Vec<String>,
    simple_queries: u64,
    parses: u64,
    executes: u64,
    data_rows: u64,
    copy_messages: [u64; 2],
    copy_bytes: [u64; 2],
    command_tags: BTreeMap<String, u64>,
    sqlstates: Vec<Value>,
    error_count: u64,
    notice_count: u64,
}

struct Postgresql {
    options: Options,
    named_protocol: bool,
    halves: [Half; 2],
    /// The request to encrypt that awaits its one byte.
    asked: Option<Encryption>,
    /// Boxed twice: a word less in each connection.
    inner: Option<Box<Box<dyn Decoder>>>,
    opaque: bool,
    /// The first ReadyForQuery was seen, or the connection was joined later.
    ready: bool,
    backslash: bool,
    /// SASL mechanisms that the server offered, until the client answers.
    offered: Option<Arc<Offered>>,
    requests: Requests,
    /// What [`Postgresql::read_round`] has read and is not in `requests`; only while `at_rest`.
    round: Option<Round>,
    at_rest: bool,
    requested_bytes: u32,
    running: Running,
    /// Answers cannot be paired; the most ReadyForQuery that are still awaited (a gap may have swallowed some).
    doubt: Option<u32>,
    mark: Mark,
    /// What the answer that doubt interrupted was bringing, and still brings.
    interrupted: Option<Move>,
    /// There was a gap: requests or answers may be missing from here on.
    gapped: bool,
    /// The client has had several requests on their way at once.
    pipelines: bool,
    /// When the server last became ready, if it has said nothing since; else [`BUSY`].
    idle_ns: i64,
    /// What a replication or a base backup streams; of a connection whose startup was not seen nobody knows whether it is one.
    streamed: Option<Move>,
    walsender: Option<bool>,
    entries: Entries,
    /// Entries at which those are dropped that nothing names any more.
    entries_due: u32,
    cache: Few<Fingerprint, Run>,
    cached_bytes: u32,
    prepared: Names,
    portals: Names,
    named_bytes: u32,
    /// `None` while nothing was ever set.
    settings: Option<Box<Session>>,
    generation: u32,
    rolled_back: bool,
    /// What was claimed and is not yet handed over; in its order, the last claim last. Empty between calls.
    #[allow(clippy::box_collection)] // Two words less in each connection.
    batch: Option<Box<Vec<Claim>>>,
    gathered: Option<Box<Gathered>>,
    /// Times that something went out as `unknown`, or a statement was read in part, because a bound was reached, and that the recorder
    /// does not know of yet.
    bounds_reached: u32,
}

impl Postgresql {
    fn new(options: Options) -> Self {
        let phase = if options.midstream { Phase::Search } else { Phase::Startup };
        let server = if options.midstream { Phase::Search } else { Phase::Framed };
        Self {
            options,
            named_protocol: false,
            halves: [Half::new(phase, options.midstream), Half::new(server, options.midstream)],
            asked: None,
            inner: None,
            opaque: false,
            ready: options.midstream,
            backslash: false,
            offered: None,
            requests: Requests::default(),
            round: None,
            at_rest: false,
            requested_bytes: 0,
            running: Running::default(),
            doubt: None,
            mark: Mark { is_set: options.midstream, for_good: options.midstream, ..Mark::default() },
            interrupted: None,
            gapped: options.midstream,
            pipelines: false,
            idle_ns: BUSY,
            streamed: None,
            walsender: None,
            entries: Entries::default(),
            entries_due: ENTRIES_MIN as u32,
            cache: Few::default(),
            cached_bytes: 0,
            prepared: Names::default(),
            portals: Names::default(),
            named_bytes: 0,
            settings: None,
            generation: 0,
            rolled_back: false,
            batch: None,
            gathered: options.facts.then(Box::default),
            bounds_reached: 0,
        }
    }

    // ---- claims -----------------------------------------------------------------------------------------------

    #[inline]
    fn claim(&mut self, movement: Move, sender: Side, bytes: u64, counts: Counts) {
        match self.batch.as_mut().and_then(|batch| batch.last_mut()) {
            Some(last) if last.movement == movement && last.sender == sender => {
                last.bytes += bytes;
                last.counts.add(counts);
            }
            _ => self.claim_another(movement, sender, bytes, counts),
        }
    }

    /// Bytes of one message: the claim that all of them make.
    #[inline(always)]
    fn claim_bytes(&mut self, movement: Move, sender: Side, bytes: u64) {
        match self.batch.as_mut().and_then(|batch| batch.last_mut()) {
            Some(last) if last.movement == movement && last.sender == sender => last.bytes += bytes,
            _ => self.claim_another(movement, sender, bytes, Counts::ZERO),
        }
    }

    #[inline(never)]
    fn claim_another(&mut self, movement: Move, sender: Side, bytes: u64, counts: Counts) {
        let batch = self.batch.get_or_insert_default();
        let Some(at) = batch.iter().position(|known| known.movement == movement && known.sender == sender) else {
            batch.push(Claim { movement, sender, estimated: false, bytes, counts });
            return;
        };
        // The last claim comes last, however the bytes were cut: what nobody claims is settled there.
        batch[at..].rotate_left(1);
        if let Some(last) = batch.last_mut() {
            last.bytes += bytes;
            last.counts.add(counts);
        }
    }

    fn estimated(&mut self, movement: Move, sender: Side, rows: i64) {
        self.claim(movement, sender, 0, Counts::rows(rows));
        if let Some(last) = self.batch.as_mut().and_then(|batch| batch.last_mut()) {
            last.estimated = true;
        }
    }

    /// Hands over what was claimed. Before a change of identity, and at the end of each piece of data.
    fn flush(&mut self, out: &mut Recorder<'_>) {
        if std::mem::take(&mut self.mark.astray) {
            out.gapped();
        }
        if let Some(batch) = &mut self.batch {
            for claim in batch.iter() {
                self.entries.record(claim, out);
            }
            batch.clear();
        }
        for _ in 0..std::mem::take(&mut self.bounds_reached) {
            out.bound_reached();
        }
    }

    /// Before a piece of data: the claims are gathered where those of all connections are, and what nothing names any more is
    /// dropped.
    fn begin(&mut self, out: &mut Recorder<'_>) {
        self.at_rest = false;
        self.unfold();
        let spare = &mut out.shared().postgresql;
        self.batch = spare.claims.take();
        if self.requests.0.is_none() {
            self.requests.0 = spare.requests.take();
        }
        if self.entries.len() >= self.entries_due as usize {
            self.collect();
        }
        if self.entries.untidy() {
            let rests = self.halves.iter_mut().filter_map(|half| half.rest.as_mut());
            self.entries.tidy(rests.chain(&mut self.streamed).chain(&mut self.interrupted).chain(&mut self.running.enlarged));
        }
    }

    fn end(&mut self, out: &mut Recorder<'_>) {
        self.flush(out);
        let spare = &mut out.shared().postgresql;
        spare.claims = self.batch.take();
        if self.requests.0.as_ref().is_some_and(|queue| queue.list.is_empty()) {
            spare.requests = self.requests.0.take().filter(|queue| queue.list.capacity() <= SPARE_REQUESTS);
        }
    }

    /// Drops the statements that no table, request or movement names.
    fn collect(&mut self) {
        let mut live = vec![false; self.entries.len()];
        let mut mark = |id| Entries::mark(&mut live, id);
        self.cache.iter().flat_map(|(_, run)| run.ids()).for_each(&mut mark);
        self.prepared.iter().chain(self.portals.iter()).for_each(|(_, id)| mark(id));
        for mut request in self.requests.iter() {
            if let Some(run) = request.run() {
                run.ids().for_each(&mut mark);
            }
            request.id().copied().map(&mut mark);
        }
        let rests = self.halves.iter_mut().filter_map(|half| half.rest.as_mut());
        let mut moves: Vec<&mut Move> =
            rests.chain(&mut self.streamed).chain(&mut self.interrupted).chain(&mut self.running.enlarged).collect();
        moves.iter().filter_map(|of| of.named_statement()).for_each(mark);
        let numbers = self.entries.keep(&live);
        let renumber = |id: &mut Id| {
            if let Some(new) = numbers.get(*id as usize) {
                *id = *new;
            }
        };
        moves.iter_mut().for_each(|of| of.renumber(&numbers));
        self.cache.values_mut().for_each(|run| renumber(&mut run.first));
        self.prepared.ids_mut().chain(self.portals.ids_mut()).for_each(renumber);
        for request in self.requests.iter_mut() {
            if let Some(run) = request.run() {
                renumber(&mut run.first);
            }
            request.id().map(renumber);
        }
        self.entries.forget_order();
        self.entries_due = narrow((2 * self.entries.len()).max(ENTRIES_MIN));
    }

    // ---- statements -------------------------------------------------------------------------------------------

    /// What a text is known by on this connection, and what it is read under.
    #[inline]
    fn key(&self, print: Fingerprint, whole: bool) -> (Fingerprint, u64) {
        let flags = u64::from(self.backslash) | u64::from(whole) << 1;
        (under(print, u64::from(self.generation) << 2 | flags), flags)
    }

    /// The one statement of a whole text that was read before.
    #[inline]
    fn known_statement(&self, text: &[u8]) -> Option<Id> {
        let (key, _) = self.key(fingerprint(text), true);
        self.cache.get(&key)?.get(0)
    }

    /// The one statement of a whole text that another connection has asked before; known on this one from here on, too.
    #[inline(never)]
    fn heard_elsewhere(&mut self, text: &[u8], out: &mut Recorder<'_>) -> Option<Id> {
        let print = fingerprint(text);
        let (key, flags) = self.key(print, true);
        let known = out.shared().statements.known(self.shared_key(print, flags))?;
        let [parsed] = &**known else { return None };
        let size_bytes = parsed.size_bytes;
        let has_room = self.cache.len() < CACHED_MAX
            && self.cached_bytes as usize + size_bytes <= CACHED_BYTES_MAX
            && self.requested_bytes as usize + size_bytes <= REQUESTED_BYTES_MAX
            && self.entries.len() + 1 < self.entries_due as usize;
        if !parsed.plain || parsed.statement.bounded || !has_room || self.cache.get(&key).is_some() {
            return None;
        }
        let run = self.entries.push([Arc::clone(parsed)].into_iter());
        self.cache.insert(key, run);
        self.cached_bytes += narrow(size_bytes);
        self.requested_bytes += narrow(size_bytes);
        run.get(0)
    }

    /// What a text and what it is read under is known by on all connections.
    fn shared_key(&self, print: Fingerprint, flags: u64) -> Fingerprint {
        let paths = self.settings.as_ref().map_or(0, |session| session.paths);
        under(under(print, paths), u64::MAX << 2 | flags)
    }

    /// The statements of a text, from the tables or read now.
    fn statements(&mut self, text: &[u8], whole: bool, out: &mut Recorder<'_>) -> Run {
        let print = fingerprint(text);
        let (key, flags) = self.key(print, whole);
        if let Some(known) = self.cache.get(&key) {
            return *known;
        }
        let shared = self.shared_key(print, flags);
        let (session, backslash) = (self.settings.as_deref(), self.backslash);
        let parsed = out.shared().statements.of(shared, || read(text, whole, backslash, session));
        self.bounds_reached += parsed.iter().filter(|p| p.statement.bounded).count() as u32;
        let size_bytes: usize = parsed.iter().map(|p| p.size_bytes).sum();
        if self.cache.len() >= CACHED_MAX || self.cached_bytes as usize + size_bytes > CACHED_BYTES_MAX {
            self.forget_texts();
        }
        let run = self.entries.push(parsed.iter().map(Arc::clone));
        self.cache.insert(key, run);
        self.cached_bytes = self.cached_bytes.saturating_add(narrow(size_bytes));
        self.requested_bytes = self.requested_bytes.saturating_add(narrow(size_bytes));
        run
    }

    fn forget_texts(&mut self) {
        self.cache.clear();
        self.cached_bytes = 0;
        self.entries.forget_order();
    }

    /// From here on the same text may be another statement.
    fn read_otherwise(&mut self) {
        self.generation += 1;
        self.entries.forget_order();
    }

    /// What a statement stands for: FETCH its cursor's query, EXECUTE what was prepared.
    #[inline]
    fn meant(&mut self, id: Id) -> Id {
        if self.entries.parsed(id).plain { id } else { self.meant_otherwise(id) }
    }

    fn meant_otherwise(&mut self, id: Id) -> Id {
        match self.entries.parsed(id).statement.effect.clone() {
            Effect::Fetch(cursor) => self.portals.get(cursor.as_bytes()).unwrap_or(id),
            Effect::Execute(name) => self.prepared.get(name.as_bytes()).unwrap_or(UNSEEN),
            Effect::Declare(name) => {
                self.keep(true, name.as_bytes(), id);
                id
            }
            Effect::Prepare(name) => {
                // What is prepared runs later; preparing moves nothing.
                self.keep(false, name.as_bytes(), id);
                EMPTY
            }
            Effect::CloseCursor(name) => {
                self.forget(true, name.as_bytes());
                id
            }
            _ => id,
        }
    }

    /// Remembers a portal, or a prepared statement, by its name.
    #[inline]
    fn keep(&mut self, portal: bool, name: &[u8], id: Id) {
        let names = if portal { &self.portals } else { &self.prepared };
        if !name.is_empty() || names.get(name) != Some(id) {
            self.keep_another(portal, name, id);
        }
    }

    fn keep_another(&mut self, portal: bool, name: &[u8], id: Id) {
        self.forget(portal, name);
        let names = if portal { &mut self.portals } else { &mut self.prepared };
        let size_bytes = self.entries.parsed(id).size_bytes + name.len();
        if names.len() >= NAMED_MAX || self.named_bytes as usize + size_bytes > NAMED_BYTES_MAX {
            self.bounds_reached += 1;
            return;
        }
        self.named_bytes = self.named_bytes.saturating_add(narrow(size_bytes));
        names.insert(name, id);
    }

    fn forget(&mut self, portal: bool, name: &[u8]) {
        let names = if portal { &mut self.portals } else { &mut self.prepared };
        if let Some(old) = names.remove(name) {
            self.named_bytes = self.named_bytes.saturating_sub(narrow(self.entries.parsed(old).size_bytes + name.len()));
        }
    }

    // ---- requests ---------------------------------------------------------------------------------------------

    #[inline]
    fn ask(&mut self, request: Request) {
        self.pipelines |= self.requests.ends() > 0;
        let full = self.requests.len() >= REQUESTS_MAX || self.requested_bytes as usize > REQUESTED_BYTES_MAX;
        if full || self.doubt.is_some() {
            self.ask_in_doubt(request);
            return;
        }
        self.requests.push(request);
    }

    #[cold]
    fn ask_in_doubt(&mut self, request: Request) {
        if self.doubt.is_none() {
            self.bounds_reached += 1;
            self.lose_pairing(self.requests.ends());
        }
        if let Some(awaited) = &mut self.doubt {
            *awaited = awaited.saturating_add(u32::from(request.ends()));
        }
        self.mark.for_good |= self.mark.naming || self.changes_session(request);
        self.count_at_once(request);
    }

    /// If the answer is lost, what the session means is not known any more: a role, a search path.
    fn changes_session(&self, request: Request) -> bool {
        let run = match request {
            Request::Execute(id) => Run::one(id),
            Request::Query(run, _) => run,
            _ => return false,
        };
        run.ids().any(|id| !matches!(self.entries.parsed(id).statement.effect, Effect::None | Effect::Begin))
    }

    /// Behind a gap, when the server is ready: ends the mark if both sides are read message by message, no answer is
    /// outstanding, and what was lost can have changed nothing but what it moved.
    #[cold]
    fn end_mark(&mut self, out: &mut Recorder<'_>) {
        let framed = self.halves.iter().all(|half| half.phase == Phase::Framed);
        if !self.mark.for_good && framed && self.doubt.is_none() && self.requests.is_empty() {
            self.mark.is_set = false;
            self.flush(out);
            out.sound();
        }
    }

    /// Counts statements whose answer will not be paired: an estimate, for the server may have refused them, and does
    /// not run those behind an error.
    fn count_at_once(&mut self, request: Request) {
        let (run, from) = match request {
            Request::Execute(id) => (Run::one(id), 0),
            Request::Query(run, from) => (run, from),
            _ => return,
        };
        for id in run.ids().skip(usize::from(from)).filter(|id| self.entries.parsed(*id).late).collect::<Vec<_>>() {
            let named = self.entries.named(id);
            self.claim(named, Side::Client, 0, Counts::messages(1));
            self.estimated(named, Side::Client, 0);
        }
    }

    /// Answers can no longer be paired with requests, until `awaited` ReadyForQuery were seen.
    fn lose_pairing(&mut self, awaited: u32) {
        self.release(true);
        let counted = self.running.counted;
        let interrupted = self.current().filter(|_| counted && self.running.copying.is_none());
        self.interrupted = interrupted.map(|id| {
            let returned = &self.entries.parsed(id).returned;
            match (returned.operation, returned.from) {
                (Operation::Select, _) => Move::ROWS,
                (operation, from) => self.entries.other(Arc::new(Movement::new(operation, from))),
            }
        });
        let requests = std::mem::take(&mut self.requests);
        for (at, request) in requests.iter().enumerate() {
            match request {
                Request::Execute(_) if at == 0 && counted => {}
                Request::Query(run, from) if at == 0 && counted => self.count_at_once(Request::Query(run, from + 1)),
                _ => self.count_at_once(request),
            }
        }
        self.requested_bytes = 0;
        // What a COPY has counted so far is corrected by its tag, whatever table it was.
        let Running { copying, estimate, .. } = self.running;
        self.running = Running { copying, estimate, ..Running::default() };
        self.doubt = Some(awaited);
    }

    /// The client speaks while the server is at rest: it has had all its answers, so what it asks now can be paired. One
    /// that sends ahead may have asked before; it must have been silent for a while.
    fn settle_doubt(&mut self, now_ns: i64) {
        let quiet_ns = if self.pipelines { QUIET_NS } else { 0 };
        if self.doubt.is_some() && self.idle_ns != BUSY && now_ns.saturating_sub(self.idle_ns) >= quiet_ns {
            self.doubt = None;
            self.running = Running::default();
        }
    }

    /// A gap in what `sender` said. Lost requests make the number of answers unknown.
    fn doubt_after_gap(&mut self, sender: Side) {
        let awaited = match (sender, self.doubt) {
            (Side::Client, _) => u32::MAX,
            (Side::Server, Some(awaited)) => awaited,
            (Side::Server, None) => self.requests.ends(),
        };
        if sender == Side::Client {
            // Another Parse or Bind may have taken these names.
            self.forget(false, b"");
            let portals = std::mem::take(&mut self.portals);
            let size_bytes: usize = portals.iter().map(|(name, id)| self.entries.parsed(id).size_bytes + name.len()).sum();
            self.named_bytes = self.named_bytes.saturating_sub(narrow(size_bytes));
        }
        // Another search path may have been set in what was lost: names stay as the statements have them.
        if let Some(session) = self.settings.as_mut().filter(|session| session.now.path.is_some()) {
            for settings in [&mut session.now, &mut session.kept, &mut session.before] {
                settings.path = None;
            }
            session.path_changed();
            self.read_otherwise();
        }
        self.gapped = true;
        self.idle_ns = BUSY;
        self.lose_pairing(awaited);
    }

    /// The statement that runs.
    fn current(&self) -> Option<Id> {
        self.requests.front().and_then(Request::runs)
    }

    /// The same, unless answers cannot be paired.
    fn paired_with(&self) -> Option<Id> {
        if self.doubt.is_some() { None } else { self.current() }
    }

    /// What an answer belongs to that is no row.
    fn answer(&self) -> Move {
        match self.requests.front() {
            Some(Request::Parse(id) | Request::Bind(id) | Request::Describe(id)) => self.entries.request(id),
            Some(Request::Execute(id) | Request::Function(id)) => self.entries.whole(id),
            Some(Request::Query(run, at)) => {
                let last = run.count.checked_sub(1).and_then(|last| run.get(last));
                run.get(at).or(last).map_or(Move::CONNECT, |id| self.entries.whole(id))
            }
            Some(Request::Close | Request::Sync) | None => Move::CONNECT,
        }
    }

    /// Takes the first request if it is of the kind that an answer fits. A Sync before it was swallowed: the server
    /// ignores those that come while it copies (PostgreSQL, 55.2.6).
    #[inline]
    fn fits(&mut self, kind: impl Fn(Request) -> bool) -> Option<Request> {
        if self.doubt.is_some() {
            return None;
        }
        if self.requests.front().is_some_and(&kind) {
            return self.requests.pop();
        }
        let syncs = self.requests.iter().take_while(|r| matches!(r, Request::Sync)).count();
        if self.requests.get(syncs).is_some_and(kind) {
            self.requests.pass(syncs);
            return self.requests.pop();
        }
        self.lose_pairing(self.requests.ends());
        None
    }

    /// Counts the running statement, once.
    fn count(&mut self, id: Id) {
        if id == UNSEEN || self.running.counted {
            // Of one that was not seen its tag will say what it did.
            return;
        }
        let parsed = self.entries.parsed(id);
        if parsed.late {
            if parsed.tableless {
                // Its objects are decided when it ends.
                return;
            }
            self.claim(self.entries.whole(id), Side::Server, 0, Counts::messages(1));
        }
        self.running.counted = true;
    }

    /// Ends the hold on a statement without tables: `large` gives it to `unknown`.
    #[inline(never)]
    fn release(&mut self, large: bool) {
        let Some(id) = self.current().filter(|id| self.entries.parsed(*id).tableless) else { return };
        let (bytes, rows) = self.running.take_held();
        let large = (large && self.running.returned) || self.running.large;
        let first = !self.running.counted && self.entries.parsed(id).late;
        self.running.counted = true;
        let movement = if large { self.enlarged(id) } else { self.entries.rows(id) };
        if bytes > 0 || rows > 0 || first {
            self.claim(movement, Side::Server, bytes, Counts { rows, messages: u64::from(first), ..Counts::ZERO });
        }
    }

    /// A statement without tables that returned much.
    #[inline(never)]
    fn enlarged(&mut self, id: Id) -> Move {
        if let Some(known) = self.running.enlarged {
            return known;
        }
        let rows = self.entries.movement(self.entries.rows(id));
        let known = rows.objects.as_deref().cloned().unwrap_or_default();
        let objects = ObjectSet { names: vec![UNKNOWN.into()], ..known };
        let enlarged = Arc::new(Movement::of(rows.operation, rows.from, Arc::new(objects)));
        let enlarged = self.entries.other(enlarged);
        self.running.enlarged = Some(enlarged);
        enlarged
    }

    // ---- the client's messages --------------------------------------------------------------------------------

    /// Messages without a tag. Returns the length that is needed, or `None` when the message was read.
    fn startup(&mut self, bytes: &[u8], out: &mut Recorder<'_>) -> Result<Option<usize>, DecodeError> {
        // TLS may follow an answer that was not seen.
        if bytes.first() == Some(&0x16) && self.asked.is_some() {
            self.encrypt(Encryption::Tls, out);
            return Ok(Some(0));
        }
        let (Some(length), Some(code)) = (be32(bytes, 0), be32(bytes, 4)) else { return Ok(Some(8)) };
        let length_bytes = length as usize;
        if length_bytes < 8 && code >> 16 == 3 {
            // The server refuses it (`ProcessStartupPacket`: "invalid length of startup packet"); nobody is named by
            // it, and no message can be told apart in what else the client says.
            out.condition(|c| c.malformed = true);
            self.asked = None;
            self.claim(Move::CONNECT, Side::Client, bytes.len() as u64, Counts::ZERO);
            let half = &mut self.halves[0];
            half.phase = Phase::Framed;
            half.skip = u64::MAX;
            half.rest = Some(Move::CONNECT);
            half.lines = false;
            return Ok(None);
        }
        if !(8..=STARTUP_BYTES_MAX).contains(&length_bytes) {
            return Err(DecodeError::new("startup length", u64::from(length), "8 to 10000"));
        }
        if bytes.len() < length_bytes {
            return Ok(Some(length_bytes));
        }
        match code {
            SSL_REQUEST | GSSENC_REQUEST => {
                self.asked = Some(if code == SSL_REQUEST { Encryption::Tls } else { Encryption::Gssapi });
                if let Some(g) = &mut self.gathered {
                    g.ssl_requested |= code == SSL_REQUEST;
                    g.gssenc_requested |= code == GSSENC_REQUEST;
                }
            }
            CANCEL_REQUEST => {
                if let Some(g) = &mut self.gathered {
                    g.cancel_request = true;
                }
            }
            _ if code >> 16 == 3 => {
                self.parameters(&bytes[8..length_bytes], out);
                self.asked = None;
                self.halves[0].phase = Phase::Framed;
            }
            _ => return Err(DecodeError::new("startup code", u64::from(code), "protocol 3 or a request code")),
        }
        self.claim(Move::CONNECT, Side::Client, length_bytes as u64, Counts::ZERO);
        Ok(None)
    }

    /// The startup message's parameters (PostgreSQL, 55.7).
    fn parameters(&mut self, body: &[u8], out: &mut Recorder<'_>) {
        let before = self.settings.take().map_or_else(Settings::default, |session| session.startup);
        let said =
            if before == Settings::default() { out.shared().postgresql.startup(body) } else { Arc::new(Startup::read(body, before)) };
        self.walsender = Some(said.replicates);
        let (user, database, application, startup) =
            (said.user.clone(), said.database.clone(), said.application.clone(), said.settings.clone());
        let role = startup.role.clone();
        self.settings = (startup != Settings::default()).then(|| Box::new(Session::new(startup)));
        self.read_otherwise();
        if let Some(g) = &mut self.gathered {
            g.user.clone_from(&user);
            g.database = database.or_else(|| user.clone());
            g.application.clone_from(&application);
        }
        self.flush(out);
        out.login(|identity| {
            identity.account_from = user.as_ref().map(|_| "startup");
            identity.account = user;
            identity.application = application.filter(|a| !a.is_empty());
            identity.role = role;
        });
    }

    /// One message of the client.
    #[inline(always)]
    fn client_message(&mut self, tag: u8, head: &[u8], length: u64, out: &mut Recorder<'_>) -> Move {
        match tag {
            b'Q' => return self.query(head, length, out),
            b'P' => {
                if let Some(g) = &mut self.gathered {
                    g.parses += 1;
                }
                let (name, rest) = cstring(head);
                let (sql, ended) = until_nul(rest);
                let id = self.statements(sql, ended, out).get(0).unwrap_or(EMPTY);
                let id = self.meant(id);
                self.keep(false, name, id);
                self.mark.naming |= !name.is_empty();
                self.ask(Request::Parse(id));
                return self.entries.request(id);
            }
            b'B' => {
                let (portal, rest) = cstring(head);
                let (name, _) = cstring(rest);
                let id = self.prepared.get(name).unwrap_or(UNSEEN);
                self.keep(true, portal, id);
                self.ask(Request::Bind(id));
                return self.entries.request(id);
            }
            b'D' => {
                let (name, _) = cstring(head.get(1..).unwrap_or(&[]));
                let names = if head.first() == Some(&b'S') { &self.prepared } else { &self.portals };
                let id = names.get(name).unwrap_or(UNSEEN);
                self.ask(Request::Describe(id));
                return self.entries.request(id);
            }
            b'E' => {
                if let Some(g) = &mut self.gathered {
                    g.executes += 1;
                }
                let (portal, _) = cstring(head);
                let id = self.portals.get(portal).unwrap_or(UNSEEN);
                let id = self.meant(id);
                let movement = self.entries.request(id);
                if id != UNSEEN && !self.entries.parsed(id).late {
                    self.claim(movement, Side::Client, 0, Counts::messages(1));
                }
                self.ask(Request::Execute(id));
                return movement;
            }
            b'C' => {
                let (name, _) = cstring(head.get(1..).unwrap_or(&[]));
                self.forget(head.first() != Some(&b'S'), name);
                self.ask(Request::Close);
            }
            b'S' => self.ask(Request::Sync),
            b'F' => {
                let mut call = Statement::unknown(Operation::Call, Side::Client);
                call.readable = true;
                call.names = vec![format!("function:{}", be32(head, 0).unwrap_or(0))];
                let id = self.entries.push([Arc::new(Parsed::new(call, None))].into_iter()).first;
                let movement = self.entries.request(id);
                self.claim(movement, Side::Client, 0, Counts::messages(1));
                self.ask(Request::Function(id));
                return movement;
            }
            b'p' => self.initial_response(head, out),
            b'd' => return self.copied_in(length),
            b'c' | b'f' => {
                let movement = self.copy_target().map_or_else(|| self.stray_copy(), |id| self.entries.named(id));
                // The Sync that was sent behind the Execute is ignored by a server that copies.
                if matches!(self.requests.front(), Some(Request::Execute(_))) {
                    self.requests.pass_second_sync();
                }
                return movement;
            }
            _ => {}
        }
        Move::CONNECT
    }

    #[inline(never)]
    fn query(&mut self, head: &[u8], length: u64, out: &mut Recorder<'_>) -> Move {
        if let Some(g) = &mut self.gathered {
            g.simple_queries += 1;
        }
        let (sql, ended) = until_nul(head);
        let read = self.statements(sql, ended || head.len() as u64 >= length, out);
        let stands_for = |id: &Id| {
            matches!(
                self.entries.parsed(*id).statement.effect,
                Effect::Fetch(_) | Effect::Execute(_) | Effect::Declare(_) | Effect::Prepare(_) | Effect::CloseCursor(_)
            )
        };
        let run = match read.count {
            0 => read,
            1 => Run::one(self.meant(read.first)),
            _ if !read.ids().any(|id| stands_for(&id)) => read,
            _ => {
                let meant: Vec<_> = read.ids().map(|id| self.meant(id)).collect();
                self.entries.row_of(&meant)
            }
        };
        for id in run.ids() {
            if !self.entries.parsed(id).late {
                self.claim(self.entries.named(id), Side::Client, 0, Counts::messages(1));
            }
        }
        let main = run.ids().find(|id| self.entries.parsed(*id).statement.operation != Operation::Connect).or_else(|| run.get(0));
        let movement = main.map_or(Move::CONNECT, |id| self.entries.request(id));
        self.ask(Request::Query(run, 0));
        movement
    }

    /// The COPY that the client's data is for.
    fn copy_target(&self) -> Option<Id> {
        let inward = |id: &Id| {
            let statement = &self.entries.parsed(*id).statement;
            statement.copy.is_some_and(|c| c.inward) || matches!(statement.operation, Operation::Replicate | Operation::Backup)
        };
        self.current().filter(inward)
    }

    /// What the client copies to nobody knows where; one that may replicate tells how far it is in the same messages.
    fn stray_copy(&self) -> Move {
        if self.walsender == Some(false) { Move::COPIED_IN } else { Move::TRANSFER }
    }

    #[inline(never)]
    fn copied_in(&mut self, length: u64) -> Move {
        if let Some(g) = &mut self.gathered {
            g.copy_messages[0] += 1;
            g.copy_bytes[0] += length;
        }
        let Some(id) = self.copy_target() else { return self.stray_copy() };
        self.halves[0].lines = self.running.lines;
        self.entries.named(id)
    }

    // ---- the server's messages --------------------------------------------------------------------------------

    /// One message of the server; `None` holds its bytes back.
    #[inline(always)]
    fn server_message(&mut self, tag: u8, head: &[u8], length: u64, out: &mut Recorder<'_>) -> Option<Move> {
        Some(match tag {
            b'D' => return self.row(length),
            b'd' => self.copied_out(head, length),
            b'C' => self.complete(head, out),
            b'Z' => {
                self.ready_for_query(head.first().copied(), out);
                Move::CONNECT
            }
            b'1' => self.paired(|r| matches!(r, Request::Parse(_))),
            b'2' => self.paired(|r| matches!(r, Request::Bind(_))),
            b'3' => self.paired(|r| matches!(r, Request::Close)),
            b'T' => self.row_description(head, length),
            b'n' => self.paired(|r| matches!(r, Request::Describe(_))),
            b't' | b'c' | b'V' => self.answer(),
            b's' => self.suspended(),
            b'I' => self.finished(),
            b'G' | b'H' | b'W' => self.copy_begins(tag, head),
            b'E' => self.error(head),
            b'N' => {
                if let Some(g) = &mut self.gathered {
                    g.notice_count += 1;
                }
                self.answer()
            }
            b'A' => self.notified(head),
            b'R' => {
                self.authentication(head, out);
                Move::CONNECT
            }
            b'S' => {
                self.parameter_status(head, out);
                Move::CONNECT
            }
            _ => Move::CONNECT,
        })
    }

    #[inline(never)]
    fn notified(&mut self, head: &[u8]) -> Move {
        let (channel, _) = cstring(head.get(4..).unwrap_or(&[]));
        let objects = ObjectSet { names: vec![text(channel)], columns: vec!["*".into()], statement: None, ..ObjectSet::default() };
        let movement = Arc::new(Movement::of(Operation::Subscribe, Side::Server, Arc::new(objects)));
        let movement = self.entries.other(movement);
        self.claim(movement, Side::Server, 0, Counts::messages(1));
        movement
    }

    #[inline]
    fn paired(&mut self, kind: impl Fn(Request) -> bool) -> Move {
        match self.fits(kind) {
            Some(Request::Parse(id) | Request::Bind(id) | Request::Describe(id)) => self.entries.request(id),
            _ => Move::CONNECT,
        }
    }

    fn row(&mut self, length: u64) -> Option<Move> {
        if let Some(g) = &mut self.gathered {
            g.data_rows += 1;
        }
        let Some(id) = self.paired_with() else { return Some(self.stray_row()) };
        let parsed = self.entries.parsed(id);
        if parsed.statement.operation == Operation::Connect {
            return Some(self.entries.named(id));
        }
        let (tableless, late) = (parsed.tableless, parsed.late);
        self.count(id);
        if !tableless {
            let movement = self.entries.rows(id);
            self.claim(movement, Side::Server, 0, Counts::rows(1));
            return Some(movement);
        }
        let again = std::mem::replace(&mut self.running.returned, true);
        let length = u32::try_from(length + 5).unwrap_or(u32::MAX);
        self.running.bytes = self.running.bytes.saturating_add(length);
        if again || u64::from(self.running.bytes) > TABLELESS_BYTES_MAX {
            self.running.large = true;
            let (bytes, rows) = self.running.take_held();
            let rows = rows + 1;
            let first = !self.running.counted && late;
            self.running.counted = true;
            let movement = self.enlarged(id);
            self.claim(movement, Side::Server, bytes, Counts { rows, messages: u64::from(first), ..Counts::ZERO });
            return Some(movement);
        }
        self.running.held_row = true;
        None
    }

    /// A row of a statement that was not seen.
    #[cold]
    #[inline(never)]
    fn stray_row(&mut self) -> Move {
        if self.doubt.is_none() {
            self.lose_pairing(self.requests.ends());
        }
        let movement = self.interrupted.unwrap_or(Move::TRANSFER);
        if self.entries.movement(movement).operation != Operation::Connect && self.walsender != Some(true) {
            self.claim(movement, Side::Server, 0, Counts::rows(1));
        }
        movement
    }

    /// Columns of what follows: names as the server gives them (PostgreSQL, 55.7, RowDescription).
    fn row_description(&mut self, head: &[u8], length: u64) -> Move {
        let id = match self.requests.front() {
            Some(Request::Query(run, at)) if self.doubt.is_none() => run.get(at),
            _ => match self.fits(|r| matches!(r, Request::Describe(_))) {
                Some(Request::Describe(id)) => Some(id),
                _ => None,
            },
        };
        let Some(id) = id else { return Move::CONNECT };
        let parsed = self.entries.parsed(id);
        let (operation, tableless) = (parsed.statement.operation, parsed.tableless);
        if operation == Operation::Connect {
            return self.entries.named(id);
        }
        if !self.entries.is_described(id, head) {
            self.describe(id, head, length);
        }
        if matches!(self.requests.front(), Some(Request::Query(..))) && !tableless {
            self.count(id);
        }
        if operation == Operation::Select && !tableless { self.entries.rows(id) } else { self.entries.request(id) }
    }

    /// Describes a statement as it was described first on whatever connection, if it is not described yet and this is the same.
    fn describe_as_first(&mut self, id: Id, body: &[u8]) -> bool {
        let size_bytes = self.entries.describe_as_first(id, body);
        self.requested_bytes = self.requested_bytes.saturating_add(size_bytes.unwrap_or(0));
        size_bytes.is_some()
    }

    #[inline(never)]
    fn describe(&mut self, id: Id, head: &[u8], length: u64) {
        if self.describe_as_first(id, head) {
            return;
        }
        let columns = if head.len() as u64 == length { column_names(head) } else { None };
        let parsed = self.entries.parsed(id);
        if let (Some(mut columns), Some(objects)) = (columns, &parsed.returned.objects) {
            // The server names what it returns, the text what that is made of: an alias is no other column.
            sql::add_names(&mut columns, &parsed.statement.reads);
            let described = ObjectSet { columns, ..(**objects).clone() };
            let size_bytes = narrow(described.columns.iter().map(|c| c.len() + 32).sum::<usize>());
            self.requested_bytes = self.requested_bytes.saturating_add(size_bytes);
            // Another description of the same text comes after a change of the table: the first one's names stay
            // until the text is read anew.
            if !self.entries.describe(id, head, described, size_bytes) {
                self.forget_texts();
            }
        }
    }

    #[inline(never)]
    fn copy_begins(&mut self, tag: u8, head: &[u8]) -> Move {
        let binary = head.first() == Some(&1);
        self.unasked();
        if self.doubt.is_some() {
            self.running.copying = Some(match tag {
                b'G' => Copying::In,
                b'H' => Copying::Out,
                _ => Copying::Both,
            });
        }
        let Some(id) = self.paired_with() else { return self.answer() };
        self.count(id);
        let statement = &self.entries.parsed(id).statement;
        let options = statement.copy.unwrap_or_default();
        let running = &mut self.running;
        running.copying = Some(match tag {
            b'G' => Copying::In,
            b'H' => Copying::Out,
            _ => Copying::Both,
        });
        running.uncounted_copy = binary || options.header;
        running.changes = match statement.effect {
            Effect::Replicate(decoding) if tag == b'W' => Some(Box::new(Changes::new(decoding))),
            _ => None,
        };
        running.lines = tag == b'G' && !binary && options.format != CopyFormat::Binary;
        // The header line is no row.
        running.estimate = 0;
        self.entries.whole(id)
    }

    #[inline(never)]
    fn copied_out(&mut self, head: &[u8], length: u64) -> Move {
        if let Some(g) = &mut self.gathered {
            g.copy_messages[1] += 1;
            g.copy_bytes[1] += length;
        }
        let Some(id) = self.paired_with() else {
            match (self.streamed, self.walsender) {
                (Some(streamed), _) => return streamed,
                // What is told of a backup are chunks, not rows.
                (None, None | Some(true)) => return Move::TRANSFER,
                (None, Some(false)) => {}
            }
            // The trailer of a binary COPY is the one message of two bytes (PostgreSQL, COPY, binary format).
            // The first may be a header line.
            self.estimated(Move::COPIED_OUT, Side::Server, i64::from(length != 2));
            return Move::COPIED_OUT;
        };
        let movement = self.entries.whole(id);
        let streams = matches!(self.entries.parsed(id).statement.operation, Operation::Replicate | Operation::Backup);
        if streams {
            self.streamed = Some(movement);
        }
        let row = self.running.changes.as_mut().and_then(|changes| changes.row(head));
        if let Some(changes) = &mut self.running.changes {
            self.bounds_reached += std::mem::take(&mut changes.dropped_total) as u32;
        }
        if let Some(row) = row {
            let row = self.entries.other(row);
            self.claim(row, Side::Server, 0, Counts::rows(1));
            return row;
        }
        if streams || std::mem::take(&mut self.running.uncounted_copy) {
            return movement;
        }
        self.claim(movement, Side::Server, 0, Counts::rows(1));
        movement
    }

    fn complete(&mut self, head: &[u8], out: &mut Recorder<'_>) -> Move {
        let (tag, _) = until_nul(head);
        if let Some(g) = &mut self.gathered {
            let tag = &*String::from_utf8_lossy(tag);
            if g.command_tags.len() < FACTS_MAX || g.command_tags.contains_key(tag) {
                *g.command_tags.entry(tag.to_owned()).or_default() += 1;
            }
        }
        self.rolled_back = tag.starts_with(b"ROLLBACK");
        self.interrupted = None;
        let number = number_of(tag);
        if self.gapped {
            self.mistrust(tag);
        }
        if number > 0 {
            self.unasked();
        }
        let Some(id) = self.paired_with() else { return self.complete_unpaired(tag, number) };
        if id == UNSEEN {
            let changed = CHANGED.iter().find(|(verb, _)| tag.starts_with(verb)).map(|(_, movement)| *movement);
            if let Some(movement) = changed.or(tag.starts_with(b"SELECT ").then_some(Move::ROWS)) {
                let rows = if movement == Move::ROWS { 0 } else { number };
                self.claim(movement, Side::Server, 0, Counts { rows, messages: 1, ..Counts::ZERO });
            }
        }
        let movement = self.entries.whole(id);
        let Parsed { statement, tableless, plain, .. } = self.entries.parsed(id);
        let (tableless, plain) = (*tableless, *plain);
        let changes = || CHANGED.iter().any(|(verb, _)| tag.starts_with(verb)) || tag.starts_with(b"COPY ");
        let counts = match statement.operation {
            Operation::Insert | Operation::Update | Operation::Delete if changes() => Counts::rows(number),
            Operation::Copy if statement.copy.is_some_and(|c| c.inward && !c.server_side) && changes() => {
                Counts::rows(number - self.running.estimate)
            }
            _ => Counts::ZERO,
        };
        if counts != Counts::ZERO {
            self.claim(movement, Side::Server, 0, counts);
        }
        self.count(id);
        if tableless {
            self.release(false);
        }
        let movement = if tableless && self.running.large { self.enlarged(id) } else { movement };
        if !plain {
            let Statement { effect, local, .. } = &self.entries.parsed(id).statement;
            let (effect, local) = (effect.clone(), *local);
            self.apply(effect, local, out);
        }
        self.next_statement();
        movement
    }

    /// An answer to nothing: what asked for it was not seen.
    fn unasked(&mut self) {
        if self.doubt.is_none() && self.requests.is_empty() {
            self.lose_pairing(0);
        }
    }

    /// After a gap, a tag that does not fit the statement that it answers shows that answers and requests have slipped.
    #[inline(never)]
    fn mistrust(&mut self, tag: &[u8]) {
        if self.paired_with().is_some_and(|id| !self.fits_tag(id, tag)) {
            self.lose_pairing(self.requests.ends());
        }
    }

    fn fits_tag(&self, id: Id, tag: &[u8]) -> bool {
        let verb = CHANGED.iter().find(|(verb, _)| tag.starts_with(verb));
        match (self.entries.parsed(id).statement.operation, verb) {
            (operation @ (Operation::Insert | Operation::Update | Operation::Delete), Some((_, movement))) => {
                self.entries.movement(*movement).operation == operation
            }
            (Operation::Select, Some(_)) => false,
            _ => true,
        }
    }

    /// The end of a statement that was not seen: the tag says how many rows were changed, if not where.
    #[inline(never)]
    fn complete_unpaired(&mut self, tag: &[u8], number: i64) -> Move {
        let Running { copying, estimate, .. } = std::mem::take(&mut self.running);
        let changed = CHANGED.iter().find(|(verb, _)| tag.starts_with(verb)).map(|(_, movement)| *movement);
        let copied = match copying.filter(|_| tag.starts_with(b"COPY ")) {
            Some(Copying::In) => Some(Move::COPIED_IN),
            // Not counted as it came: it might have been a backup, which has no such tag.
            Some(Copying::Out) if self.walsender.is_none() => Some(Move::COPIED_OUT),
            _ => None,
        };
        let Some(movement) = changed.or(copied).filter(|_| self.doubt.is_some()) else { return self.answer() };
        self.claim(movement, Side::Server, 0, Counts::rows(number - estimate));
        movement
    }

    /// PortalSuspended: the Execute's row limit was reached (PostgreSQL, 55.2.3).
    #[inline(never)]
    fn suspended(&mut self) -> Move {
        self.interrupted = None;
        let Some(id) = self.paired_with() else { return self.answer() };
        self.count(id);
        self.release(false);
        let movement = self.entries.whole(id);
        self.next_statement();
        movement
    }

    /// EmptyQueryResponse.
    #[inline(never)]
    fn finished(&mut self) -> Move {
        let movement = self.answer();
        if self.doubt.is_none() {
            self.next_statement();
        }
        movement
    }

    fn next_statement(&mut self) {
        self.running = Running::default();
        match self.requests.front_mut() {
            Some(Request::Execute(_)) => {
                self.requests.pop();
            }
            // A walsender's command may have several results; it is the only one of its Query (PostgreSQL, 55.4).
            Some(Request::Query(run, at)) => {
                let operation = run.get(*at).map(|id| self.entries.parsed(id).statement.operation);
                *at = at.saturating_add(u16::from(!matches!(operation, Some(Operation::Replicate | Operation::Backup))));
            }
            _ => {}
        }
    }

    #[inline(never)]
    fn error(&mut self, head: &[u8]) -> Move {
        self.interrupted = None;
        let code = sqlstate(head);
        if let Some(g) = &mut self.gathered {
            g.error_count += 1;
            if g.sqlstates.len() < FACTS_MAX {
                g.sqlstates.push(json!(code));
            }
        }
        if !self.ready {
            // A login that fails, for whatever reason.
            self.claim(Move::REFUSED, Side::Server, 0, Counts::messages(1));
            return Move::REFUSED;
        }
        let denied = code.as_deref().is_some_and(|c| c.starts_with("28") || c == "42501");
        let mut movement = self.answer();
        self.rolled_back = true;
        if self.doubt.is_some() {
            return if denied { Move::REFUSED } else { movement };
        }
        let id = match self.requests.front() {
            Some(Request::Parse(id) | Request::Bind(id) | Request::Describe(id)) => Some(id),
            _ => self.current(),
        };
        if let Some(id) = id {
            let named = self.entries.named(id);
            if self.running.copying == Some(Copying::In) && self.running.estimate != 0 {
                // Nothing of it stays.
                let rows = -std::mem::take(&mut self.running.estimate);
                self.claim(named, Side::Server, 0, Counts::rows(rows));
            }
            if denied {
                movement = match self.entries.movement(named).objects.clone() {
                    Some(objects) => self.entries.other(Arc::new(Movement::of(Operation::Refused, Side::Client, objects))),
                    None => Move::REFUSED,
                };
                self.claim(movement, Side::Server, 0, Counts::messages(1));
                self.running.counted = true;
            } else if self.current().is_some() && self.entries.parsed(id).statement.operation != Operation::Admin {
                self.count(id);
            }
            self.release(false);
        } else if denied {
            movement = Move::REFUSED;
            self.claim(movement, Side::Server, 0, Counts::messages(1));
        }
        self.running = Running::default();
        match self.requests.front_mut() {
            // The rest of a Query is not run.
            Some(Request::Query(run, at)) => *at = run.count,
            // The server discards everything up to the next Sync (PostgreSQL, 55.2.3).
            Some(Request::Sync | Request::Function(_)) | None => {}
            Some(_) => {
                let until = self.requests.iter().position(|r| matches!(r, Request::Sync)).unwrap_or(self.requests.len());
                self.requests.pass(until);
            }
        }
        movement
    }

    fn ready_for_query(&mut self, status: Option<u8>, out: &mut Recorder<'_>) {
        self.idle_ns = out.time_ns;
        self.interrupted = None;
        if !self.ready {
            self.ready = true;
        } else if let Some(awaited) = self.doubt {
            self.doubt = if awaited <= 1 { None } else { Some(awaited - 1) };
        } else {
            while self.requests.pop().is_some_and(|request| !request.ends()) {}
        }
        self.running = Running::default();
        if self.requests.is_empty() {
            self.requested_bytes = 0;
            self.mark.naming &= self.doubt.is_some();
        }
        if let Some(status) = status {
            self.transaction(status, out);
        }
        if self.mark.is_set {
            self.end_mark(out);
        }
    }

    /// What ReadyForQuery says of the transaction.
    #[inline(always)]
    fn transaction(&mut self, status: u8, out: &mut Recorder<'_>) {
        if status == b'I' {
            if self.settings.is_some() {
                self.transaction_over(out);
            }
            self.rolled_back = false;
        }
    }

    /// SET LOCAL ends, and with a rollback every SET since the beginning of the transaction.
    #[inline(never)]
    fn transaction_over(&mut self, out: &mut Recorder<'_>) {
        let Some(session) = &mut self.settings else { return };
        if self.rolled_back {
            session.kept.clone_from(&session.before);
        } else if session.kept != session.before {
            session.before.clone_from(&session.kept);
        }
        if session.now != session.kept {
            let kept = session.kept.clone();
            self.change(kept, out);
        }
    }

    // ---- the session ------------------------------------------------------------------------------------------

    #[inline(never)]
    fn apply(&mut self, effect: Effect, local: bool, out: &mut Recorder<'_>) {
        let mut new = self.settings.as_ref().map_or_else(Settings::default, |session| session.now.clone());
        let startup = || self.settings.as_ref().map_or_else(Settings::default, |session| session.startup.clone());
        match effect {
            Effect::Role(role) => new.role = role,
            Effect::Path(path) => new.path = path,
            Effect::ResetPath | Effect::ResetAll => new.path = startup().path,
            Effect::DiscardAll => {
                new = startup();
                new.role = None;
                self.prepared.clear();
                self.portals.clear();
                self.named_bytes = 0;
            }
            Effect::Application(name) => {
                self.flush(out);
                out.identify(|identity| identity.application = (!name.is_empty()).then_some(name));
                return;
            }
            Effect::OnBehalfOf(name) => {
                self.flush(out);
                out.identify(|identity| identity.on_behalf_of = (!name.is_empty()).then_some(name));
                return;
            }
            _ => return,
        }
        let session = self.settings.get_or_insert_default();
        if !local {
            if new.role != session.now.role {
                session.kept.role.clone_from(&new.role);
            }
            if new.path != session.now.path {
                session.kept.path.clone_from(&new.path);
            }
        }
        self.change(new, out);
    }

    fn change(&mut self, new: Settings, out: &mut Recorder<'_>) {
        let session = self.settings.get_or_insert_default();
        let role = (new.role != session.now.role).then(|| new.role.clone());
        let moves = new.path != session.now.path;
        session.now = new;
        session.path_changed();
        if moves {
            self.read_otherwise();
        }
        if let Some(role) = role {
            self.flush(out);
            out.identify(|identity| identity.role = role);
        }
    }

    #[inline(never)]
    fn authentication(&mut self, head: &[u8], out: &mut Recorder<'_>) {
        let Some(code) = be32(head, 0) else { return };
        let method = match code {
            0 => {
                // Accepted without being asked for anything.
                if out.authentication().is_none() {
                    out.protect(|p| p.authentication = Some("trust".into()));
                }
                return;
            }
            2 => "kerberos",
            3 => "password",
            5 => "md5",
            6 => "scm",
            7 => "gssapi",
            9 => "sspi",
            10 => {
                let offered = out.shared().postgresql.offered(head.get(4..).unwrap_or(&[]));
                if let Some(g) = &mut self.gathered {
                    g.sasl_mechanisms.clone_from(&offered.mechanisms);
                }
                let first = offered.mechanisms.first().map(|m| m.to_ascii_lowercase().into());
                self.offered = Some(offered);
                out.protect(|p| p.authentication = first.or_else(|| Some("sasl".into())));
                return;
            }
            _ => return,
        };
        out.protect(|p| p.authentication = Some(method.into()));
    }

    /// SASLInitialResponse names the mechanism that the client chose of those offered (PostgreSQL, 55.3.1).
    #[inline(never)]
    fn initial_response(&mut self, head: &[u8], out: &mut Recorder<'_>) {
        let Some(offered) = self.offered.take() else { return };
        // Compared with what was offered: a response is never told, whatever stands first in it.
        let chosen = offered.mechanisms.iter().find(|m| until_nul(head) == (m.as_bytes(), true));
        if let Some(mechanism) = chosen.map(|mechanism| mechanism.to_ascii_lowercase()) {
            if out.authentication() != Some(&mechanism) {
                out.protect(|p| p.authentication = Some(mechanism.into()));
            }
        }
    }

    #[inline(never)]
    fn parameter_status(&mut self, head: &[u8], out: &mut Recorder<'_>) {
        // Of a dozen settings that a server tells of.
        if !matches!(head.first(), Some(b's' | b'a')) {
            return;
        }
        let (name, rest) = cstring(head);
        let (value, _) = until_nul(rest);
        match name {
            b"standard_conforming_strings" => {
                self.backslash = value == b"off";
                self.entries.forget_order();
            }
            b"application_name" => {
                let value = text(value);
                self.flush(out);
                // Nearly always what the client asked for.
                if out.identity().application.as_deref().unwrap_or("") != value {
                    out.identify(|identity| identity.application = (!value.is_empty()).then_some(value));
                }
            }
            b"search_path" => {
                let session = self.settings.get_or_insert_default();
                let new = Settings { path: Some(sql::path_of(&text(value))), ..session.now.clone() };
                if !self.ready {
                    session.startup.path.clone_from(&new.path);
                    session.before.path.clone_from(&new.path);
                }
                session.kept.path.clone_from(&new.path);
                self.change(new, out);
            }
            _ => {}
        }
    }

    /// The bytes that follow are encrypted.
    fn encrypt(&mut self, asked: Encryption, out: &mut Recorder<'_>) {
        self.asked = None;
        self.flush(out);
        if asked == Encryption::Tls {
            self.inner = Some(Box::new(tls::embedded(self.options)));
        } else {
            self.opaque = true;
            out.depth(Depth::Sizes);
            out.condition(|c| c.encrypted = true);
            out.protect(|p| p.transport = "gssapi".into());
        }
    }

    // ---- frames -----------------------------------------------------------------------------------------------

    /// Reads what stands first in `bytes`; the number of bytes used.
    fn step(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let half = &mut self.halves[sender as usize];
        if half.skip > 0 {
            let used = bytes.len().min(usize::try_from(half.skip).unwrap_or(usize::MAX));
            half.skip -= used as u64;
            let (rest, lines) = (half.rest, half.lines);
            match rest {
                Some(movement) => {
                    self.claim(movement, sender, used as u64, Counts::ZERO);
                    if lines {
                        self.lines(movement, &bytes[..used]);
                    }
                }
                None => self.running.hold(used),
            }
            return Ok(used);
        }
        if sender == Side::Server {
            if let Some(asked) = self.asked {
                return Ok(self.encryption_answer(asked, bytes[0], out));
            }
        }
        match half.phase {
            Phase::Startup => self.gather_startup(bytes, out),
            Phase::Framed => match sender {
                Side::Client => self.frames::<true>(bytes, out),
                Side::Server => self.frames::<false>(bytes, out),
            },
            Phase::Search => Ok(self.search(sender, bytes, out)),
        }
    }

    /// Servers answer a request to encrypt with one bare byte; old ones with an error message (PostgreSQL, 55.2.10).
    fn encryption_answer(&mut self, asked: Encryption, answer: u8, out: &mut Recorder<'_>) -> usize {
        if answer == b'E' {
            self.asked = None;
            return 0;
        }
        self.claim(Move::CONNECT, Side::Server, 1, Counts::ZERO);
        if let (Some(g), Encryption::Tls) = (&mut self.gathered, asked) {
            g.ssl_response = Some(char::from(answer).to_string());
        }
        self.asked = None;
        if answer == b'S' || answer == b'G' {
            self.encrypt(asked, out);
        }
        1
    }

    fn gather_startup(&mut self, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let mut carry = self.halves[0].take();
        let had = carry.len();
        let mut need = self.startup_need(&carry);
        // Most come in one piece.
        while let Some(message) = bytes.get(..need).filter(|_| had == 0) {
            match self.startup(message, out)? {
                None => return Ok(need),
                // It is TLS: nothing of it was used.
                Some(0) => return Ok(0),
                Some(more) => need = more,
            }
        }
        let mut used = 0;
        loop {
            let take = need.saturating_sub(carry.len()).min(bytes.len() - used);
            carry.extend_from_slice(&bytes[used..used + take]);
            used += take;
            if carry.len() < need {
                self.halves[0].carry(carry);
                return Ok(used);
            }
            match self.startup(&carry, out)? {
                None => return Ok(used),
                // It is TLS: nothing of it was used.
                Some(0) => {
                    if had > 0 {
                        if let Some(inner) = &mut self.inner {
                            inner.data(Side::Client, &carry[..had], out)?;
                        }
                    }
                    return Ok(0);
                }
                Some(more) => need = more,
            }
        }
    }

    fn startup_need(&self, carry: &[u8]) -> usize {
        if self.asked.is_some() && carry.is_empty() { 1 } else { be32(carry, 0).filter(|_| carry.len() >= 8).map_or(8, |n| n as usize) }
    }

    /// Whole messages, as many as there are; of a longer one, as much as is needed.
    fn frames<const CLIENT: bool>(&mut self, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let sender = if CLIENT { Side::Client } else { Side::Server };
        if !self.halves[sender as usize].carried().is_empty() {
            return self.gather_frame(sender, bytes, out);
        }
        let mut rest = bytes;
        while let Some(&[tag, a, b, c, d]) = rest.first_chunk::<HEADER_BYTES>() {
            if !CLIENT && matches!(tag, b'D' | b'd') {
                let used = self.rows(tag, rest);
                if used > 0 {
                    rest = rest.get(used..).unwrap_or(&[]);
                    continue;
                }
            }
            let Some((length, wanted)) = self.header(sender, [tag, a, b, c, d])? else { return Ok(bytes.len() - rest.len()) };
            let Some((head, after)) = rest[HEADER_BYTES..].split_at_checked(wanted) else { break };
            self.frame::<CLIENT>(tag, head, length, out);
            rest = after;
            if length > wanted as u64 {
                return Ok(bytes.len() - rest.len());
            }
        }
        let used = bytes.len() - rest.len();
        // What is left has no whole header, or not all that is needed.
        if rest.is_empty() || used > 0 { Ok(used) } else { self.gather_frame(sender, bytes, out) }
    }

    fn gather_frame(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let mut carry = self.halves[sender as usize].take();
        let take = 5_usize.saturating_sub(carry.len()).min(bytes.len());
        carry.extend_from_slice(&bytes[..take]);
        let mut used = take;
        if carry.len() >= 5 {
            match self.header(sender, [carry[0], carry[1], carry[2], carry[3], carry[4]])? {
                None => {
                    // Searched from the next byte on; those carried are looked at again there.
                    self.halves[sender as usize].carry(carry);
                    return Ok(used);
                }
                Some((length, wanted)) => {
                    let take = (5 + wanted).saturating_sub(carry.len()).min(bytes.len() - used);
                    carry.extend_from_slice(&bytes[used..used + take]);
                    used += take;
                    if carry.len() >= 5 + wanted {
                        match sender {
                            Side::Client => self.frame::<true>(carry[0], &carry[5..], length, out),
                            Side::Server => self.frame::<false>(carry[0], &carry[5..], length, out),
                        }
                        carry.clear();
                        carry.shrink_to(1024);
                    }
                }
            }
        }
        self.halves[sender as usize].carry(carry);
        Ok(used)
    }

    /// Body length and how much of it is needed. `None`: no frame begins here and one is searched for.
    #[inline]
    fn header(&mut self, sender: Side, header: [u8; HEADER_BYTES]) -> Result<Option<(u64, usize)>, DecodeError> {
        let [tag, length @ ..] = header;
        let length = u32::from_be_bytes(length);
        let Shape { length_min, length_max, wanted } = SHAPES[sender as usize][usize::from(tag)];
        let mut wanted = wanted as usize;
        if (sender, tag) == (Side::Server, b'd') && self.running.changes.is_some() {
            wanted = CHANGE_BYTES_MAX;
        }
        if length < length_min || length > length_max {
            return self.no_header(sender, tag, length);
        }
        let body = length - 4;
        Ok(Some((u64::from(body), wanted.min(body as usize))))
    }

    #[cold]
    fn no_header(&mut self, sender: Side, tag: u8, length: u32) -> Result<Option<(u64, usize)>, DecodeError> {
        if self.halves[sender as usize].doubtful {
            self.halves[sender as usize].phase = Phase::Search;
            // What was taken for messages since the gap may have been none.
            self.mark = Mark { is_set: true, for_good: true, astray: self.gapped, ..self.mark };
            return Ok(None);
        }
        Err(if shape(sender, tag).1 == 0 && shape(sender, tag).2 == NONE {
            DecodeError::new("message tag", u64::from(tag), "a tag of protocol 3")
        } else {
            DecodeError::new("message length", u64::from(length), "one that fits the tag")
        })
    }

    #[inline(always)]
    fn frame<const CLIENT: bool>(&mut self, tag: u8, head: &[u8], length: u64, out: &mut Recorder<'_>) {
        let sender = if CLIENT { Side::Client } else { Side::Server };
        self.halves[sender as usize].lines = false;
        let movement = if CLIENT {
            if self.doubt.is_some() {
                self.settle_doubt(out.time_ns);
            }
            Some(self.client_message(tag, head, length, out))
        } else {
            // Notices, notifications and settings may come at any time (PostgreSQL, 55.2.7).
            if !matches!(tag, b'A' | b'N' | b'S') {
                self.idle_ns = BUSY;
            }
            self.server_message(tag, head, length, out)
        };
        let used = HEADER_BYTES + head.len();
        match movement {
            Some(movement) => self.claim_bytes(movement, sender, used as u64),
            None => self.running.hold(used),
        }
        let half = &mut self.halves[sender as usize];
        half.skip = length - head.len() as u64;
        if half.skip > 0 {
            half.rest = movement;
        }
    }

    /// DataRow and CopyData messages in a row: counted together, as each would be by itself. Returns the bytes used;
    /// 0 where one has to be looked at.
    fn rows(&mut self, tag: u8, bytes: &[u8]) -> usize {
        let Some(id) = self.paired_with().filter(|_| self.gathered.is_none()) else { return 0 };
        let least = if tag == b'D' { 6 } else { 4 };
        if !be32(bytes, 1).is_some_and(|length| (least..=ROW_BYTES_MAX).contains(&length)) {
            return 0;
        }
        let Parsed { statement, tableless, .. } = self.entries.parsed(id);
        let movement = if tag == b'D' {
            if *tableless || statement.operation == Operation::Connect {
                return 0;
            }
            self.count(id);
            self.entries.rows(id)
        } else {
            if self.running.uncounted_copy || matches!(statement.operation, Operation::Replicate | Operation::Backup) {
                return 0;
            }
            self.entries.whole(id)
        };
        let mut rows = 0;
        let mut rest = bytes;
        while let Some(header) = rest.first_chunk::<HEADER_BYTES>().filter(|header| header[0] == tag) {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            if !(least..=ROW_BYTES_MAX).contains(&length) {
                break;
            }
            rows += 1;
            let Some(after) = rest.get(1 + length as usize..) else {
                let half = &mut self.halves[Side::Server as usize];
                half.skip = (length as usize + 1 - rest.len()) as u64;
                half.rest = Some(movement);
                rest = &[];
                break;
            };
            rest = after;
        }
        let used = bytes.len() - rest.len();
        self.halves[Side::Server as usize].lines = false;
        self.idle_ns = BUSY;
        self.claim(movement, Side::Server, used as u64, Counts::rows(rows));
        used
    }

    /// Reads a segment in the midst of rows, or of what is copied out, all of it: the end of one, whole ones, the beginning of another,
    /// of a statement that is counted already. False: it is something else, and nothing was changed.
    fn read_rows(&mut self, bytes: &[u8], out: &mut Recorder<'_>) -> bool {
        self.read_rows_at_once(bytes, out).is_some()
    }

    fn read_rows_at_once(&mut self, bytes: &[u8], out: &mut Recorder<'_>) -> Option<()> {
        let half = &self.halves[Side::Server as usize];
        let is_plain = half.phase == Phase::Framed
            && half.carried().is_empty()
            && self.asked.is_none()
            && self.inner.is_none()
            && self.gathered.is_none()
            && !(self.opaque || self.mark.astray || self.running.uncounted_copy)
            && self.bounds_reached == 0;
        let id = self.paired_with().filter(|_| is_plain)?;
        let Parsed { statement, tableless, .. } = self.entries.parsed(id);
        let (rows_of, copy_of) = match statement.operation {
            Operation::Connect | Operation::Replicate | Operation::Backup => return None,
            _ if *tableless => return None,
            _ => (self.entries.rows(id), self.entries.whole(id)),
        };
        let skipped = usize::try_from(half.skip).unwrap_or(usize::MAX);
        let mut rest = bytes.get(skipped..)?;
        let (tag, movement) = match rest.first()? {
            b'D' => (b'D', rows_of),
            b'd' => (b'd', copy_of),
            _ => return None,
        };
        if skipped > 0 && half.rest != Some(movement) {
            return None;
        }
        let least = if tag == b'D' { 6 } else { 4 };
        let mut rows = 0;
        let mut skip = 0;
        while !rest.is_empty() {
            let &[first, a, b, c, d] = rest.first_chunk::<HEADER_BYTES>()?;
            let length = u32::from_be_bytes([a, b, c, d]);
            if first != tag || !(least..=ROW_BYTES_MAX).contains(&length) {
                return None;
            }
            rows += 1;
            let whole = 1 + length as usize;
            skip = whole.saturating_sub(rest.len());
            rest = rest.get(whole..).unwrap_or_default();
        }
        let half = &mut self.halves[Side::Server as usize];
        half.skip = skip as u64;
        half.lines = false;
        if skip > 0 {
            half.rest = Some(movement);
        }
        self.idle_ns = BUSY;
        let place = self.entries.place(movement);
        self.tell(movement, Part { place, bytes: bytes.len() as u64, beside: 0, counts: Counts::rows(rows) }, Side::Server, out);
        Some(())
    }

    /// Lines of a COPY in are its rows so far.
    fn lines(&mut self, movement: Move, bytes: &[u8]) {
        let lines = i64::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(0);
        if lines == 0 {
            return;
        }
        let mut rows = lines;
        if std::mem::take(&mut self.running.uncounted_copy) {
            rows -= 1;
        }
        self.running.estimate += rows;
        self.estimated(movement, Side::Client, rows);
    }

    /// Looks for a message that is certain; what is passed over is counted as bytes.
    fn search(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> usize {
        let half = &mut self.halves[sender as usize];
        let mut joined = half.take();
        joined.extend_from_slice(bytes);
        let search = half.search();
        let found = search.look(&joined, HEADER_BYTES - 1, &|bytes| search::at(sender, bytes));
        let passed = found.unwrap_or(joined.len().saturating_sub(HEADER_BYTES - 1));
        search.passed(passed);
        let rest = joined.split_off(passed);
        let lost = Move::TRANSFER;
        if passed > 0 {
            self.claim(lost, sender, passed as u64, Counts::ZERO);
        }
        let half = &mut self.halves[sender as usize];
        if found.is_none() {
            half.carry(rest);
            return bytes.len();
        }
        half.phase = Phase::Framed;
        self.replay(sender, rest, bytes.len(), out)
    }

    /// Goes on with `rest`, which was taken out of the carried bytes and this piece together.
    fn replay(&mut self, sender: Side, rest: Vec<u8>, used: usize, out: &mut Recorder<'_>) -> usize {
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            match self.step(sender, rest, out) {
                Ok(0) | Err(_) if self.halves[sender as usize].phase != Phase::Search => break,
                Ok(n) => rest = &rest[n..],
                Err(_) => break,
            }
        }
        used
    }
}

/// A tag of no message.
const NONE: usize = usize::MAX;

/// Least and most bytes of a body, and how many of them are needed (PostgreSQL, 55.7). Most 0 with [`NONE`]: no such tag.
const fn shape(sender: Side, tag: u8) -> (u32, u64, usize) {
    const ANY: u64 = 0x7fff_ffff;
    match sender {
        Side::Client => match tag {
            b'Q' => (1, ANY, SQL_BYTES_MAX),
            b'P' => (4, ANY, SQL_BYTES_MAX),
            b'B' => (8, ANY, 2 * NAME_BYTES_MAX),
            b'E' => (5, ANY, NAME_BYTES_MAX),
            b'D' | b'C' => (2, ANY, NAME_BYTES_MAX),
            b'S' | b'H' | b'X' | b'c' => (0, 0, 0),
            b'F' => (10, ANY, 4),
            b'd' => (0, ANY, 0),
            b'f' => (1, ANY, 0),
            // Passwords and their like: of a SASL one the mechanism's name, which stands first.
            b'p' => (0, 65_535, MECHANISM_BYTES_MAX),
            _ => (u32::MAX - 4, 0, NONE),
        },
        Side::Server => match tag {
            b'D' => (2, ANY, 0),
            b'd' => (0, ANY, 0),
            b'C' => (1, 1024, 128),
            b'Z' => (1, 1, 1),
            b'1' | b'2' | b'3' | b'n' | b'I' | b's' | b'c' => (0, 0, 0),
            b'T' => (2, ANY, SQL_BYTES_MAX),
            b't' => (2, ANY, 0),
            b'G' | b'H' | b'W' => (3, 65_539, 1),
            b'E' => (1, ANY, ERROR_BYTES_MAX),
            b'N' => (1, ANY, 0),
            b'A' => (6, ANY, 4 + NAME_BYTES_MAX),
            b'R' => (4, 65_535, 256),
            b'S' => (2, ANY, 512),
            b'K' => (8, 260, 0),
            b'v' => (8, ANY, 0),
            b'V' => (4, ANY, 0),
            _ => (u32::MAX - 4, 0, NONE),
        },
    }
}

/// The same as a table, of the whole message: its length field's least and most, and how much of the body is needed.
#[derive(Clone, Copy)]
struct Shape {
    length_min: u32,
    length_max: u32,
    wanted: u32,
}

static SHAPES: [[Shape; 256]; 2] = [shapes(Side::Client), shapes(Side::Server)];

const fn shapes(sender: Side) -> [Shape; 256] {
    let mut shapes = [Shape { length_min: u32::MAX, length_max: 0, wanted: 0 }; 256];
    let mut tag = 0;
    while tag < 256 {
        let (least, most, wanted) = shape(sender, tag as u8);
        if wanted != NONE {
            let length_max = if most + 4 > u32::MAX as u64 { u32::MAX } else { (most + 4) as u32 };
            shapes[tag] = Shape { length_min: least + 4, length_max, wanted: wanted as u32 };
        }
        tag += 1;
    }
    shapes
}

/// The body length of a header that may well be one.
fn plausible(sender: Side, bytes: &[u8]) -> Option<u64> {
    let (tag, length) = (*bytes.first()?, be32(bytes, 1)?);
    let (least, most, _) = shape(sender, tag);
    let fits = length.checked_sub(4).is_some_and(|body| body >= least && u64::from(body) <= most.min(PLAUSIBLE_BYTES_MAX));
    if !fits {
        return None;
    }
    let body = bytes.get(5..).unwrap_or(&[]);
    let first = body.first().copied();
    let good = match (sender, tag) {
        (Side::Client, b'Q') => first.is_none_or(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()),
        (Side::Client, b'D' | b'C') => first.is_none_or(|b| b == b'S' || b == b'P'),
        (Side::Server, b'C') => first.is_none_or(|b| b.is_ascii_uppercase()),
        (Side::Server, b'Z') => first.is_none_or(|b| matches!(b, b'I' | b'T' | b'E')),
        (Side::Server, b'E' | b'N') => first.is_none_or(|b| b == b'S'),
        (Side::Server, b'S') => first.is_none_or(|b| b.is_ascii_alphabetic()),
        // At most 1,664 columns (MaxTupleAttributeNumber).
        (Side::Server, b'D' | b'T' | b't') => body.get(..2).is_none_or(|n| u16::from_be_bytes([n[0], n[1]]) <= 1664),
        (Side::Server, b'G' | b'H' | b'W') => first.is_none_or(|b| b <= 1),
        (Side::Server, b'R') => body.get(..4).is_none_or(|n| n[..3] == [0, 0, 0] && n[3] <= 12),
        _ => true,
    };
    good.then(|| u64::from(length) - 4)
}

/// The statements of a text as the session has it: names of tables follow the path, also one that the text itself sets.
fn read(text: &[u8], whole: bool, backslash: bool, session: Option<&Session>) -> Vec<Arc<Parsed>> {
    let mut path = session.and_then(|session| session.now.path.clone());
    let mut parsed = Vec::new();
    for statement in sql::read(text, whole, backslash) {
        let effect = statement.effect.clone();
        parsed.push(Parsed::new(statement, path.as_deref()));
        match effect {
            Effect::Path(new) => path = new,
            Effect::ResetPath | Effect::ResetAll | Effect::DiscardAll => path = session.and_then(|session| session.startup.path.clone()),
            _ => {}
        }
    }
    if whole && parsed.len() == 1 {
        parsed = parsed.into_iter().map(|statement| statement.alone(text)).collect();
    }
    parsed.into_iter().map(Arc::new).collect()
}

/// The number that a command tag ends with, 0 if it has none.
fn number_of(tag: &[u8]) -> i64 {
    let digits = tag.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let (before, digits) = tag.split_at(tag.len() - digits);
    if before.last() == Some(&b' ') && (1..=18).contains(&digits.len()) {
        return digits.iter().fold(0, |sum, digit| 10 * sum + i64::from(digit - b'0'));
    }
    String::from_utf8_lossy(tag).rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A size that is kept in half a word: its bound is far below.
fn narrow(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

/// Up to a NUL, and whether there was one.
fn until_nul(bytes: &[u8]) -> (&[u8], bool) {
    memchr::memchr(0, bytes).map_or((bytes, false), |at| (&bytes[..at], true))
}

/// A NUL-terminated string and what follows it.
#[inline]
fn cstring(bytes: &[u8]) -> (&[u8], &[u8]) {
    // Most are empty: names that nobody gave.
    match bytes.split_first() {
        Some((0, rest)) => (&[], rest),
        _ => memchr::memchr(0, bytes).map_or((bytes, &[]), |at| (&bytes[..at], &bytes[at + 1..])),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..sql::NAME_BYTES_MAX.min(bytes.len())).unwrap_or(&[])).into_owned()
}

/// `-c name=value` and `--name=value` of the startup parameter `options`; a backslash escapes a space.
fn options(value: &str) -> Vec<(String, String)> {
    let mut words: Vec<String> = vec![String::new()];
    let mut escaped = false;
    for c in value.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            ' ' if !escaped => words.push(String::new()),
            _ => {
                escaped = false;
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter().filter(|w| !w.is_empty());
    while let Some(word) = words.next() {
        let setting =
            if word == "-c" { words.next() } else { word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(str::to_owned) };
        if let Some((name, value)) = setting.as_deref().and_then(|s| s.split_once('=')) {
            settings.push((name.replace('-', "_").to_lowercase(), value.to_owned()));
        }
    }
    settings
}

/// Names in a RowDescription; `None` if it cannot be read or has too many.
fn column_names(body: &[u8]) -> Option<Vec<String>> {
    let count = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    if count > sql::COLUMNS_MAX {
        return None;
    }
    let mut rest = &body[2..];
    let mut names = Vec::with_capacity(count);
    for _ in 0..count {
        let end = memchr::memchr(0, rest)?;
        let name = text(&rest[..end]);
        if !names.contains(&name) {
            names.push(name);
        }
        // Table, attribute, type, size, modifier, format.
        rest = rest.get(end + 1 + 18..)?;
    }
    Some(names)
}

/// The field `C` of an error.
fn sqlstate(body: &[u8]) -> Option<String> {
    let mut rest = body;
    while let Some((&field, after)) = rest.split_first() {
        let (value, next) = cstring(after);
        if field == b'C' {
            let known = value.len() == 5 && value.iter().all(u8::is_ascii_alphanumeric);
            return known.then(|| text(value));
        }
        rest = next;
    }
    None
}

impl Decoder for Postgresql {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if self.read_round(sender, bytes, out) || (self.running.counted && sender == Side::Server && self.read_rows(bytes, out)) {
            return Ok(());
        }
        if !self.named_protocol {
            self.named_protocol = true;
            out.protocol("postgresql", Depth::Decoded);
        }
        self.begin(out);
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.inner.is_some() {
                break;
            }
            if self.opaque {
                self.claim(Move::TRANSFER, sender, rest.len() as u64, Counts::ZERO);
                rest = &[];
                break;
            }
            match self.step(sender, rest, out) {
                Ok(used) => rest = &rest[used..],
                Err(wrong) => {
                    self.end(out);
                    return Err(wrong);
                }
            }
        }
        self.end(out);
        self.at_rest = self.is_at_rest();
        match &mut self.inner {
            Some(inner) if !rest.is_empty() => inner.data(sender, rest, out),
            _ => Ok(()),
        }
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if let Some(inner) = &mut self.inner {
            return inner.gap(sender, length, out);
        }
        if self.opaque {
            return Ok(());
        }
        out.gapped();
        self.begin(out);
        let half = &mut self.halves[sender as usize];
        half.doubtful = true;
        if half.skip >= length && half.phase != Phase::Startup {
            half.skip -= length;
            self.end(out);
            if !self.mark.is_set {
                // The end of the message is known, and all behind it.
                out.sound();
            }
            return Ok(());
        }
        let unsettled = self.settings.as_ref().is_some_and(|session| session.now != session.kept || session.kept != session.before);
        let asked = self.requests.iter().any(|request| self.changes_session(request));
        self.mark.is_set = true;
        self.mark.for_good |= sender == Side::Client || self.mark.naming || unsettled || asked;
        let half = &mut self.halves[sender as usize];
        let carried = half.take();
        let lost = Move::TRANSFER;
        // Of a message whose header is there the end is known.
        let whole = be32(&carried, 1).filter(|_| half.phase == Phase::Framed).map(|body| u64::from(body) + 1);
        match whole.and_then(|whole| whole.checked_sub(carried.len() as u64 + length)) {
            Some(left) => {
                half.skip = left;
                half.rest = Some(lost);
                half.lines = false;
            }
            None => {
                half.skip = 0;
                half.search().passed(carried.len().saturating_add(usize::try_from(length).unwrap_or(usize::MAX)));
                half.phase = Phase::Search;
            }
        }
        self.claim(lost, sender, carried.len() as u64, Counts::ZERO);
        if sender == Side::Client {
            self.asked = None;
        }
        self.ready = true;
        self.doubt_after_gap(sender);
        self.end(out);
        Ok(())
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.close(out);
            return;
        }
        self.begin(out);
        if self.doubt.is_none() {
            self.lose_pairing(0);
        }
        self.end(out);
    }

    fn has_said_all(&self) -> bool {
        let asked = self.round.is_some() || !self.requests.is_empty();
        !asked && self.inner.is_none() && !self.mark.astray && self.bounds_reached == 0
    }

    fn facts(&self, into: &mut Facts) {
        if let Some(g) = &self.gathered {
            into.insert(
                "postgresql",
                json!({
                    "user": g.user, "database": g.database, "application_name": g.application,
                    "ssl_requested": g.ssl_requested, "ssl_response": g.ssl_response, "gssenc_requested": g.gssenc_requested,
                    "cancel_request": g.cancel_request, "sasl_mechanisms": g.sasl_mechanisms,
                    "simple_queries": g.simple_queries, "parses": g.parses, "executes": g.executes, "data_rows": g.data_rows,
                    "copy_messages_from_client": g.copy_messages[0], "copy_bytes_from_client": g.copy_bytes[0],
                    "copy_messages_from_server": g.copy_messages[1], "copy_bytes_from_server": g.copy_bytes[1],
                    "command_tags": g.command_tags, "error_count": g.error_count, "notice_count": g.notice_count,
                    "sqlstates": g.sqlstates,
                }),
            );
        }
        if let Some(inner) = &self.inner {
            inner.facts(into);
        }
    }

    fn soon(&self) {
        self.entries.soon();
        self.cache.soon();
        if let Some(queue) = &self.requests.0 {
            soon_first(&**queue);
        }
    }

    fn memory_bytes(&self) -> usize {
        let carried: usize = self.halves.iter().map(Half::memory_bytes).sum();
        let names: usize = self.prepared.iter().chain(self.portals.iter()).map(|(name, _)| name.len() + 48).sum();
        let tables = self.entries.memory_bytes() + 48 * self.cache.len() + names;
        let tables = tables + self.running.changes.as_ref().map_or(0, |c| c.memory_bytes());
        let requests = self.requests.memory_bytes();
        size_of::<Self>() + carried + tables + requests + self.inner.as_ref().map_or(0, |i| i.memory_bytes())
    }
}

/// Whether these are the first bytes of a PostgreSQL client; `None` if there are too few.
fn begins(head: &[u8]) -> Option<bool> {
    if head.iter().take(2).any(|b| *b != 0) {
        return Some(false);
    }
    let (Some(length), Some(code)) = (be32(head, 0), be32(head, 4)) else { return None };
    Some(match code {
        SSL_REQUEST | GSSENC_REQUEST => length == 8,
        // The key has 4 bytes, or up to 256 since protocol 3.2.
        CANCEL_REQUEST => (16..=268).contains(&length),
        // A length below that of its own header is wrong, but the parameters behind it may still tell.
        _ if length < 8 && code == 3 << 16 => {
            let first = b"user\0";
            let there = head.get(8..head.len().min(8 + first.len())).unwrap_or(&[]);
            if there.len() < first.len() && first.starts_with(there) {
                return None;
            }
            there == first
        }
        _ => {
            code >> 16 == 3
                && code & 0xffff < 100
                && (9..=10_000).contains(&length)
                && head.get(8).is_none_or(|b| b.is_ascii_lowercase() || *b == 0 || *b == b'_')
        }
    })
}

/// Startup, or a request code, from one side; midway, a chain of frames.
fn recognise(heads: &Heads<'_>) -> Recognition {
    let sides = [(heads.client, heads.server, Side::Client), (heads.server, heads.client, Side::Server)];
    if heads.midstream {
        for (client, server, side) in sides {
            let (c, s) = (chain(Side::Client, client), chain(Side::Server, server));
            if c != Some(false) && s != Some(false) && (c == Some(true) || s == Some(true)) {
                return Recognition::Yes { client: side };
            }
        }
        let short = |head: &[u8]| head.len() < 5;
        return if short(heads.client) && short(heads.server) { Recognition::More } else { Recognition::No };
    }
    for (client, _, side) in sides {
        match begins(client) {
            Some(true) => return Recognition::Yes { client: side },
            None if !client.is_empty() => return Recognition::More,
            _ => {}
        }
    }
    // A server of this protocol never speaks first.
    if heads.client.is_empty() && heads.server.is_empty() {
        return Recognition::More;
    }
    Recognition::No
}

/// Whether `head` is a chain of frames that says enough: one that is telling, or two.
fn chain(sender: Side, head: &[u8]) -> Option<bool> {
    if head.len() < 5 {
        return None;
    }
    let (mut at, mut telling) = (0_usize, 0_u32);
    while let Some(rest) = head.get(at..).filter(|r| r.len() >= 5) {
        let Some(body) = plausible(sender, rest) else { return Some(false) };
        let starts = |words: &[&[u8]]| words.iter().any(|w| rest.get(5..5 + w.len()).is_some_and(|b| b.eq_ignore_ascii_case(w)));
        let strong = match (sender, rest[0]) {
            (Side::Client, b'Q') => starts(&[
                b"select",
                b"insert",
                b"update",
                b"delete",
                b"begin",
                b"commit",
                b"rollback",
                b"set ",
                b"with",
                b"copy",
                b"create",
                b"drop",
                b"alter",
                b"show",
                b"fetch",
                b"declare",
                b"truncate",
            ]),
            (Side::Server, b'Z') => true,
            (Side::Server, b'C') => {
                starts(&[b"SELECT ", b"INSERT ", b"UPDATE ", b"DELETE ", b"COPY ", b"BEGIN", b"COMMIT", b"ROLLBACK", b"SET", b"FETCH "])
            }
            (Side::Server, b'E' | b'N') => starts(&[b"SERROR\0", b"SFATAL\0", b"SNOTICE\0", b"SWARNING\0"]),
            (Side::Server, b'T') => rest.len() > 8 && rest.get(7).is_some_and(|b| b.is_ascii_graphic()) && rest[5] == 0 && rest[6] > 0,
            _ => false,
        };
        telling += if strong { 2 } else { 1 };
        at = at.saturating_add(5).saturating_add(usize::try_from(body).unwrap_or(usize::MAX));
    }
    if telling >= 2 { Some(true) } else { None }
}

#[cfg(test)]
mod tests;
