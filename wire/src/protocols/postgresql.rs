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

use super::search::Search;
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition, tls};
use crate::sql::{self, CopyFormat, Effect, Statement, UNKNOWN};
use crate::table::{Map, Seeded};
use crate::windows::{Counts, Depth, Facts, Movement, ObjectSet, Operation, Recorder, Side};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, LazyLock, OnceLock};

mod replication;
use replication::{CHANGE_BYTES_MAX, Changes};

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
/// Distinct command tags, and SQLSTATEs, kept for `inspect`.
pub const FACTS_MAX: usize = 1024;
/// After a gap: how long the server must have been at rest before a client that sends ahead is paired again.
const QUIET_NS: i64 = 1_000_000_000;
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

/// Movements that are the same on every connection.
struct Common {
    connect: Arc<Movement>,
    refused: Arc<Movement>,
    rows: Arc<Movement>,
    copied_in: Arc<Movement>,
    copied_out: Arc<Movement>,
    changed: [(&'static str, Arc<Movement>); 4],
    /// Data whose statement was not seen: any operation may stand behind it, so none is told.
    transfer: Arc<Movement>,
}

static COMMON: LazyLock<Common> = LazyLock::new(|| {
    let unknown = Arc::new(ObjectSet { names: vec![UNKNOWN.into()], columns: vec!["*".into()], statement: None });
    Common {
        connect: Arc::new(Movement::new(Operation::Connect, Side::Client)),
        refused: Arc::new(Movement::new(Operation::Refused, Side::Client)),
        rows: Arc::new(Movement::of(Operation::Select, Side::Server, Arc::clone(&unknown))),
        copied_in: Arc::new(Movement::of(Operation::Copy, Side::Client, Arc::clone(&unknown))),
        copied_out: Arc::new(Movement::of(Operation::Copy, Side::Server, Arc::clone(&unknown))),
        changed: [
            ("INSERT ", Operation::Insert),
            ("UPDATE ", Operation::Update),
            ("DELETE ", Operation::Delete),
            ("MERGE ", Operation::Update),
        ]
        .map(|(verb, operation)| (verb, Arc::new(Movement::of(operation, Side::Client, Arc::clone(&unknown))))),
        transfer: Arc::new(Movement::new(Operation::Transfer, Side::Client)),
    }
});

/// Seeds of the hash by which statement texts are told apart: 128 bits, so that no one can choose two that collide.
static SEEDS: LazyLock<[Seeded; 2]> = LazyLock::new(|| [Seeded::random(), Seeded::random()]);

/// One statement, resolved under one search path.
struct Entry {
    statement: Statement,
    /// What the request's bytes belong to. A query's request has no objects yet: its columns come with the answer.
    request: Arc<Movement>,
    /// What it moves with the columns that its text names.
    named: Arc<Movement>,
    /// The rows that it returns.
    returned: Arc<Movement>,
    /// The same with the columns of its RowDescription, whose hash it is kept under.
    described: OnceLock<(u64, Arc<Movement>)>,
    tableless: bool,
    size_bytes: usize,
}

impl Entry {
    fn new(statement: Statement, path: Option<&[String]>) -> Arc<Self> {
        let objects = Arc::new(statement.objects(path));
        let size_bytes =
            512 + objects.names.iter().chain(&objects.columns).chain(&statement.reads).map(|n| 2 * n.len() + 64).sum::<usize>();
        let (operation, from) = (statement.operation, statement.from);
        let bare = Arc::new(Movement::new(operation, from));
        let without = matches!(operation, Operation::Connect | Operation::Transfer);
        let named = if without { Arc::clone(&bare) } else { Arc::new(Movement::of(operation, from, Arc::clone(&objects))) };
        let late = matches!(operation, Operation::Select | Operation::Admin);
        let request = if late { bare } else { Arc::clone(&named) };
        let returned = match operation {
            Operation::Select | Operation::Connect | Operation::Transfer | Operation::Replicate | Operation::Backup => Arc::clone(&named),
            _ => Arc::new(Movement::of(Operation::Select, Side::Server, objects)),
        };
        let tableless = statement.tableless() && matches!(operation, Operation::Select | Operation::Call);
        Arc::new(Self { statement, request, named, returned, described: OnceLock::new(), tableless, size_bytes })
    }

    /// A statement that was not seen: prepared before the recording began, or inside a gap.
    fn unknown() -> Arc<Self> {
        static ENTRY: LazyLock<Arc<Entry>> = LazyLock::new(|| Entry::new(Statement::unknown(Operation::Transfer, Side::Client), None));
        Arc::clone(&ENTRY)
    }

    fn is_unknown(self: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, &Self::unknown())
    }

    /// Statements are counted with the request, except where the answer decides what it was.
    fn counted_late(&self) -> bool {
        matches!(self.statement.operation, Operation::Select | Operation::Admin)
    }

    fn rows(&self) -> &Arc<Movement> {
        self.described.get().map_or(&self.returned, |(_, movement)| movement)
    }

    /// What the messages of this statement belong to, columns included.
    fn whole(&self) -> &Arc<Movement> {
        if self.statement.operation == Operation::Select { self.rows() } else { &self.named }
    }
}

/// Entries by name. Drivers that prepare nothing use the name without letters for everything.
#[derive(Default)]
struct Names {
    unnamed: Option<Arc<Entry>>,
    named: Map<Vec<u8>, Arc<Entry>>,
}

impl Names {
    fn get(&self, name: &[u8]) -> Option<&Arc<Entry>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    fn insert(&mut self, name: &[u8], entry: Arc<Entry>) {
        if name.is_empty() {
            self.unnamed = Some(entry);
        } else {
            self.named.insert(name.to_vec(), entry);
        }
    }

    fn remove(&mut self, name: &[u8]) -> Option<Arc<Entry>> {
        if name.is_empty() { self.unnamed.take() } else { self.named.remove(name) }
    }

    fn len(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }

    fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }

    fn size_bytes(&self) -> usize {
        let named: usize = self.named.iter().map(|(name, entry)| entry.size_bytes + name.len()).sum();
        named + self.unnamed.as_ref().map_or(0, |entry| entry.size_bytes)
    }
}

/// A request that awaits its answer.
enum Request {
    Parse(Arc<Entry>),
    Bind(Arc<Entry>),
    Describe(Arc<Entry>),
    Execute(Arc<Entry>),
    Close,
    Sync,
    /// The statements of a Query and the one that runs.
    Query(Arc<[Arc<Entry>]>, usize),
    Function(Arc<Entry>),
}

impl Request {
    /// Answered by ReadyForQuery.
    fn ends(&self) -> bool {
        matches!(self, Self::Sync | Self::Query(..) | Self::Function(_))
    }
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
    counted: bool,
    /// Rows and bytes of a statement that names no table, so far.
    rows: u64,
    bytes: u64,
    /// Held back until it is known whether it stays small.
    held_bytes: u64,
    held_rows: i64,
    large: bool,
    copying: Option<Copying>,
    /// The next CopyData message is a header or stands for the trailer: no row.
    uncounted_copy: bool,
    /// Lines of a COPY in are rows.
    lines: bool,
    estimate: i64,
    /// A logical replication stream: each change is a row.
    changes: Option<Box<Changes>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Messages without a tag (client) or the byte that answers them (server).
    Startup,
    Framed,
    Search,
}

struct Half {
    phase: Phase,
    carry: Vec<u8>,
    /// Bytes of the present body still to come, and what they belong to (`None`: held back).
    skip: u64,
    rest: Option<Arc<Movement>>,
    lines: bool,
    /// There was a gap, or the beginning was not seen: what does not fit is searched past, it is no violation.
    doubtful: bool,
    search: Search,
}

impl Half {
    fn new(phase: Phase, doubtful: bool) -> Self {
        Self { phase, carry: Vec::new(), skip: 0, rest: None, lines: false, doubtful, search: Search::default() }
    }
}

/// What the session set: ends with a transaction that is rolled back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    role: Option<String>,
    path: Option<Vec<String>>,
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

/// Counters of one connection; all grow only.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    requests_dropped_total: u64,
    named_dropped_total: u64,
    /// Statements that were read in part, because of a bound of [`sql`] or of the text.
    statements_cut_total: u64,
}

impl Counters {
    /// Times that something went out as `unknown` because a bound was reached.
    fn bounds_total(self) -> u64 {
        self.requests_dropped_total + self.named_dropped_total + self.statements_cut_total
    }
}

struct Postgresql {
    options: Options,
    named_protocol: bool,
    halves: [Half; 2],
    /// The request to encrypt that awaits its one byte.
    asked: Option<u32>,
    inner: Option<Box<dyn Decoder>>,
    opaque: bool,
    /// The first ReadyForQuery was seen, or the connection was joined later.
    ready: bool,
    backslash: bool,
    /// SASL mechanisms that the server offered, until the client answers.
    offered: Vec<String>,
    requests: VecDeque<Request>,
    requested_bytes: usize,
    running: Running,
    /// Answers cannot be paired; the most ReadyForQuery that are still awaited (a gap may have swallowed some).
    doubt: Option<u32>,
    /// What the answer that doubt interrupted was bringing, and still brings.
    interrupted: Option<Arc<Movement>>,
    /// There was a gap: requests or answers may be missing from here on.
    gapped: bool,
    /// The client has had several requests on their way at once.
    pipelines: bool,
    /// When the server last became ready, if it has said nothing since.
    idle_ns: Option<i64>,
    now_ns: i64,
    /// What a replication or a base backup streams; of a connection whose startup was not seen nobody knows whether it is one.
    streamed: Option<Arc<Movement>>,
    walsender: Option<bool>,
    cache: Map<u128, Arc<[Arc<Entry>]>>,
    cached_bytes: usize,
    prepared: Names,
    portals: Names,
    named_bytes: usize,
    settings: Settings,
    /// Outlives the transaction if it commits; the values at its beginning.
    session: Settings,
    before: Settings,
    startup: Settings,
    generation: u32,
    rolled_back: bool,
    batch: Vec<(Arc<Movement>, Side, u64, Counts, bool)>,
    gathered: Option<Box<Gathered>>,
    counters: Counters,
    /// Of [`Counters::bounds_total`], those that the recorder knows of.
    bounds_reported: u64,
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
            offered: Vec::new(),
            requests: VecDeque::new(),
            requested_bytes: 0,
            running: Running::default(),
            doubt: None,
            interrupted: None,
            gapped: options.midstream,
            pipelines: false,
            idle_ns: None,
            now_ns: 0,
            streamed: None,
            walsender: None,
            cache: Map::default(),
            cached_bytes: 0,
            prepared: Names::default(),
            portals: Names::default(),
            named_bytes: 0,
            settings: Settings::default(),
            session: Settings::default(),
            before: Settings::default(),
            startup: Settings::default(),
            generation: 0,
            rolled_back: false,
            batch: Vec::with_capacity(4),
            gathered: options.facts.then(Box::default),
            counters: Counters::default(),
            bounds_reported: 0,
        }
    }

    // ---- claims -----------------------------------------------------------------------------------------------

    fn claim(&mut self, movement: &Arc<Movement>, sender: Side, bytes: u64, counts: Counts) {
        let known = self.batch.iter().position(|(known, side, ..)| Arc::ptr_eq(known, movement) && *side == sender);
        let Some(at) = known else {
            self.batch.push((Arc::clone(movement), sender, bytes, counts, false));
            return;
        };
        // The last claim comes last, however the bytes were cut: what nobody claims is settled there.
        if at + 1 < self.batch.len() {
            self.batch[at..].rotate_left(1);
        }
        if let Some((_, _, sum, all, _)) = self.batch.last_mut() {
            *sum += bytes;
            all.rows += counts.rows;
            all.values += counts.values;
            all.messages += counts.messages;
        }
    }

    fn estimated(&mut self, movement: &Arc<Movement>, sender: Side, rows: i64) {
        self.claim(movement, sender, 0, Counts::rows(rows));
        for (known, side, _, _, estimated) in &mut self.batch {
            *estimated |= Arc::ptr_eq(known, movement) && *side == sender;
        }
    }

    /// Hands over what was claimed. Before a change of identity, and at the end of each piece of data.
    fn flush(&mut self, out: &mut Recorder<'_>) {
        for (movement, sender, bytes, counts, estimated) in self.batch.drain(..) {
            if estimated {
                out.estimated(&movement);
            }
            out.add(&movement, sender, bytes, counts);
        }
        let bounds = self.counters.bounds_total();
        while self.bounds_reported < bounds {
            self.bounds_reported += 1;
            out.bound_reached();
        }
    }

    // ---- statements -------------------------------------------------------------------------------------------

    /// The statements of a text, from the table or read now.
    fn statements(&mut self, text: &[u8], whole: bool) -> Arc<[Arc<Entry>]> {
        let key = SEEDS.each_ref().map(|seed| {
            let mut hasher = seed.build_hasher();
            hasher.write(text);
            hasher.write_u32(self.generation);
            hasher.write_u8(u8::from(self.backslash) | u8::from(whole) << 1);
            hasher.finish()
        });
        let key = u128::from(key[0]) << 64 | u128::from(key[1]);
        if let Some(known) = self.cache.get(&key) {
            return Arc::clone(known);
        }
        let mut path = self.settings.path.clone();
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        for statement in sql::read(text, whole, self.backslash) {
            let effect = statement.effect.clone();
            self.counters.statements_cut_total += u64::from(statement.bounded);
            entries.push(Entry::new(statement, path.as_deref()));
            match effect {
                Effect::Path(new) => path = new,
                Effect::ResetPath | Effect::ResetAll | Effect::DiscardAll => path.clone_from(&self.startup.path),
                _ => {}
            }
        }
        let size_bytes: usize = entries.iter().map(|e| e.size_bytes).sum();
        let entries: Arc<[Arc<Entry>]> = entries.into();
        if self.cache.len() >= CACHED_MAX || self.cached_bytes + size_bytes > CACHED_BYTES_MAX {
            self.cache.clear();
            self.cached_bytes = 0;
        }
        self.cache.insert(key, Arc::clone(&entries));
        self.cached_bytes += size_bytes;
        self.requested_bytes += size_bytes;
        entries
    }

    /// What a statement stands for: FETCH its cursor's query, EXECUTE what was prepared.
    fn meant(&mut self, entry: &Arc<Entry>) -> Arc<Entry> {
        match &entry.statement.effect {
            Effect::Fetch(cursor) => self.portals.get(cursor.as_bytes()).map_or_else(|| Arc::clone(entry), Arc::clone),
            Effect::Execute(name) => self.prepared.get(name.as_bytes()).map_or_else(Entry::unknown, Arc::clone),
            Effect::Declare(name) => {
                Self::keep(&mut self.portals, &mut self.named_bytes, &mut self.counters, name.as_bytes(), entry);
                Arc::clone(entry)
            }
            Effect::Prepare(name) => {
                // What is prepared runs later; preparing moves nothing.
                Self::keep(&mut self.prepared, &mut self.named_bytes, &mut self.counters, name.as_bytes(), entry);
                let mut preparation = Statement::unknown(Operation::Connect, Side::Client);
                preparation.readable = true;
                Entry::new(preparation, None)
            }
            Effect::CloseCursor(name) => {
                Self::forget(&mut self.portals, &mut self.named_bytes, name.as_bytes());
                Arc::clone(entry)
            }
            _ => Arc::clone(entry),
        }
    }

    fn keep(map: &mut Names, bytes: &mut usize, counters: &mut Counters, name: &[u8], entry: &Arc<Entry>) {
        Self::forget(map, bytes, name);
        let size_bytes = entry.size_bytes + name.len();
        if map.len() >= NAMED_MAX || *bytes + size_bytes > NAMED_BYTES_MAX {
            counters.named_dropped_total += 1;
            return;
        }
        *bytes += size_bytes;
        map.insert(name, Arc::clone(entry));
    }

    fn forget(map: &mut Names, bytes: &mut usize, name: &[u8]) {
        if let Some(old) = map.remove(name) {
            *bytes = bytes.saturating_sub(old.size_bytes + name.len());
        }
    }

    // ---- requests ---------------------------------------------------------------------------------------------

    fn ask(&mut self, request: Request) {
        self.pipelines |= self.requests.iter().any(Request::ends);
        if let Some(awaited) = &mut self.doubt {
            *awaited = awaited.saturating_add(u32::from(request.ends()));
            self.count_at_once(&request);
            return;
        }
        if self.requests.len() >= REQUESTS_MAX || self.requested_bytes > REQUESTED_BYTES_MAX {
            self.counters.requests_dropped_total += 1;
            let awaited = self.requests.iter().filter(|r| r.ends()).count();
            self.lose_pairing(u32::try_from(awaited).unwrap_or(u32::MAX));
            self.ask(request);
            return;
        }
        self.requests.push_back(request);
    }

    /// Counts statements whose answer will not be paired: an estimate, for the server may have refused them, and does
    /// not run those behind an error.
    fn count_at_once(&mut self, request: &Request) {
        let entries: &[Arc<Entry>] = match request {
            Request::Execute(entry) => std::slice::from_ref(entry),
            Request::Query(entries, from) => entries.get(*from..).unwrap_or_default(),
            _ => return,
        };
        for entry in entries.iter().filter(|e| e.counted_late()) {
            self.claim(&entry.named, Side::Client, 0, Counts::messages(1));
            self.estimated(&entry.named, Side::Client, 0);
        }
    }

    /// Answers can no longer be paired with requests, until `awaited` ReadyForQuery were seen.
    fn lose_pairing(&mut self, awaited: u32) {
        self.release(true);
        let counted = self.running.counted;
        let interrupted = self.current().filter(|_| counted && self.running.copying.is_none());
        self.interrupted = interrupted.map(|entry| match entry.returned.operation {
            Operation::Select => Arc::clone(&COMMON.rows),
            operation => Arc::new(Movement::new(operation, entry.returned.from)),
        });
        let requests = std::mem::take(&mut self.requests);
        for (at, request) in requests.iter().enumerate() {
            match request {
                Request::Execute(_) if at == 0 && counted => {}
                Request::Query(entries, from) if at == 0 && counted => {
                    self.count_at_once(&Request::Query(Arc::clone(entries), from + 1));
                }
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
    fn settle_doubt(&mut self) {
        let quiet_ns = if self.pipelines { QUIET_NS } else { 0 };
        if self.doubt.is_some() && self.idle_ns.is_some_and(|since_ns| self.now_ns.saturating_sub(since_ns) >= quiet_ns) {
            self.doubt = None;
            self.running = Running::default();
        }
    }

    /// A gap in what `sender` said. Lost requests make the number of answers unknown.
    fn doubt_after_gap(&mut self, sender: Side) {
        let awaited = match (sender, self.doubt) {
            (Side::Client, _) => u32::MAX,
            (Side::Server, Some(awaited)) => awaited,
            (Side::Server, None) => u32::try_from(self.requests.iter().filter(|r| r.ends()).count()).unwrap_or(u32::MAX),
        };
        if sender == Side::Client {
            // Another Parse or Bind may have taken these names.
            Self::forget(&mut self.prepared, &mut self.named_bytes, b"");
            let portals = std::mem::take(&mut self.portals);
            self.named_bytes = self.named_bytes.saturating_sub(portals.size_bytes());
        }
        // Another search path may have been set in what was lost: names stay as the statements have them.
        if self.settings.path.is_some() {
            for settings in [&mut self.settings, &mut self.session, &mut self.before] {
                settings.path = None;
            }
            self.generation += 1;
        }
        self.gapped = true;
        self.idle_ns = None;
        self.lose_pairing(awaited);
    }

    /// The statement that runs.
    fn current(&self) -> Option<Arc<Entry>> {
        self.requests.front().and_then(running).map(Arc::clone)
    }

    /// What an answer belongs to that is no row.
    fn answer(&self) -> Arc<Movement> {
        match self.requests.front() {
            Some(Request::Parse(entry) | Request::Bind(entry) | Request::Describe(entry)) => Arc::clone(&entry.request),
            Some(Request::Execute(entry) | Request::Function(entry)) => Arc::clone(entry.whole()),
            Some(Request::Query(entries, at)) => {
                entries.get(*at).or_else(|| entries.last()).map_or_else(|| Arc::clone(&COMMON.connect), |e| Arc::clone(e.whole()))
            }
            Some(Request::Close | Request::Sync) | None => Arc::clone(&COMMON.connect),
        }
    }

    /// Takes the first request if it is of the kind that an answer fits. A Sync before it was swallowed: the server
    /// ignores those that come while it copies (PostgreSQL, 55.2.6).
    fn fits(&mut self, kind: fn(&Request) -> bool) -> Option<Request> {
        if self.doubt.is_some() {
            return None;
        }
        if self.requests.front().is_some_and(kind) {
            return self.requests.pop_front();
        }
        let syncs = self.requests.iter().take_while(|r| matches!(r, Request::Sync)).count();
        if self.requests.get(syncs).is_some_and(kind) {
            self.requests.drain(..syncs);
            return self.requests.pop_front();
        }
        let awaited = self.requests.iter().filter(|r| r.ends()).count();
        self.lose_pairing(u32::try_from(awaited).unwrap_or(u32::MAX));
        None
    }

    /// Counts the running statement, once.
    fn count(&mut self, entry: &Arc<Entry>) {
        if entry.is_unknown() {
            // Its tag will say what it did.
            return;
        }
        if entry.counted_late() && !self.running.counted && !entry.tableless {
            let movement = Arc::clone(entry.whole());
            self.claim(&movement, Side::Server, 0, Counts::messages(1));
        }
        if entry.tableless && !self.running.counted && entry.counted_late() {
            // Its objects are decided when it ends.
            return;
        }
        self.running.counted = true;
    }

    /// Ends the hold on a statement without tables: `large` gives it to `unknown`.
    fn release(&mut self, large: bool) {
        let Some(entry) = self.current().filter(|e| e.tableless) else { return };
        let (bytes, rows) = (self.running.held_bytes, self.running.held_rows);
        self.running.held_bytes = 0;
        self.running.held_rows = 0;
        let large = (large && self.running.rows > 0) || self.running.large;
        let first = !self.running.counted && entry.counted_late();
        self.running.counted = true;
        let movement = if large { Self::enlarged(&entry) } else { Arc::clone(entry.rows()) };
        if bytes > 0 || rows > 0 || first {
            self.claim(&movement, Side::Server, bytes, Counts { rows, messages: u64::from(first), ..Counts::ZERO });
        }
    }

    /// A statement without tables that returned much.
    fn enlarged(entry: &Entry) -> Arc<Movement> {
        let rows = entry.rows();
        let known = rows.objects.as_deref().cloned().unwrap_or_default();
        let objects = ObjectSet { names: vec![UNKNOWN.into()], ..known };
        Arc::new(Movement::of(rows.operation, rows.from, Arc::new(objects)))
    }

    // ---- the client's messages --------------------------------------------------------------------------------

    /// Messages without a tag. Returns the length that is needed, or `None` when the message was read.
    fn startup(&mut self, bytes: &[u8], out: &mut Recorder<'_>) -> Result<Option<usize>, DecodeError> {
        // TLS may follow an answer that was not seen.
        if bytes.first() == Some(&0x16) && self.asked.is_some() {
            self.encrypt(SSL_REQUEST, out);
            return Ok(Some(0));
        }
        let (Some(length), Some(code)) = (be32(bytes, 0), be32(bytes, 4)) else { return Ok(Some(8)) };
        let length_bytes = length as usize;
        if length_bytes < 8 && code >> 16 == 3 {
            // The server refuses it (`ProcessStartupPacket`: "invalid length of startup packet"); nobody is named by
            // it, and no message can be told apart in what else the client says.
            out.condition(|c| c.malformed = true);
            self.asked = None;
            self.claim(&COMMON.connect, Side::Client, bytes.len() as u64, Counts::ZERO);
            let half = &mut self.halves[0];
            half.phase = Phase::Framed;
            half.skip = u64::MAX;
            half.rest = Some(Arc::clone(&COMMON.connect));
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
                self.asked = Some(code);
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
        self.claim(&COMMON.connect, Side::Client, length_bytes as u64, Counts::ZERO);
        Ok(None)
    }

    /// The startup message's parameters (PostgreSQL, 55.7).
    fn parameters(&mut self, body: &[u8], out: &mut Recorder<'_>) {
        let mut parts = body.split(|b| *b == 0).map(text);
        self.walsender = Some(false);
        let (mut user, mut database, mut application) = (None, None, None);
        while let (Some(name), Some(value)) = (parts.next().filter(|n| !n.is_empty()), parts.next()) {
            match name.as_str() {
                "user" => user = Some(value),
                "database" => database = Some(value),
                // A boolean, or `database` (PostgreSQL, 55.4).
                "replication" => self.walsender = Some(!matches!(value.as_str(), "false" | "off" | "no" | "0")),
                "application_name" => application = Some(value),
                "search_path" => self.startup.path = Some(sql::path_of(&value)),
                "role" => self.startup.role = Some(value),
                "options" => {
                    for (name, value) in options(&value) {
                        match name.as_str() {
                            "search_path" => self.startup.path = Some(sql::path_of(&value)),
                            "role" => self.startup.role = Some(value),
                            "application_name" => application = application.or(Some(value)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        self.settings = self.startup.clone();
        self.session = self.startup.clone();
        self.before = self.startup.clone();
        self.generation += 1;
        if let Some(g) = &mut self.gathered {
            g.user.clone_from(&user);
            g.database = database.or_else(|| user.clone());
            g.application.clone_from(&application);
        }
        self.flush(out);
        let role = self.startup.role.clone();
        out.login(|identity| {
            identity.account_from = user.as_ref().map(|_| "startup");
            identity.account = user;
            identity.application = application.filter(|a| !a.is_empty());
            identity.role = role;
        });
    }

    /// One message of the client.
    fn client_message(&mut self, tag: u8, head: &[u8], length: u64, out: &mut Recorder<'_>) -> Option<Arc<Movement>> {
        match tag {
            b'Q' => return Some(self.query(head, length)),
            b'P' => {
                if let Some(g) = &mut self.gathered {
                    g.parses += 1;
                }
                let (name, rest) = cstring(head);
                let (sql, ended) = until_nul(rest);
                let entries = self.statements(sql, ended);
                let entry = entries.first().map_or_else(empty_entry, Arc::clone);
                let entry = self.meant(&entry);
                Self::keep(&mut self.prepared, &mut self.named_bytes, &mut self.counters, name, &entry);
                let movement = Arc::clone(&entry.request);
                self.ask(Request::Parse(entry));
                return Some(movement);
            }
            b'B' => {
                let (portal, rest) = cstring(head);
                let (name, _) = cstring(rest);
                let entry = self.prepared.get(name).map_or_else(Entry::unknown, Arc::clone);
                Self::keep(&mut self.portals, &mut self.named_bytes, &mut self.counters, portal, &entry);
                let movement = Arc::clone(&entry.request);
                self.ask(Request::Bind(entry));
                return Some(movement);
            }
            b'D' => {
                let (name, _) = cstring(head.get(1..).unwrap_or(&[]));
                let map = if head.first() == Some(&b'S') { &self.prepared } else { &self.portals };
                let entry = map.get(name).map_or_else(Entry::unknown, Arc::clone);
                let movement = Arc::clone(&entry.request);
                self.ask(Request::Describe(entry));
                return Some(movement);
            }
            b'E' => {
                if let Some(g) = &mut self.gathered {
                    g.executes += 1;
                }
                let (portal, _) = cstring(head);
                let entry = self.portals.get(portal).map_or_else(Entry::unknown, Arc::clone);
                let entry = self.meant(&entry);
                let movement = Arc::clone(&entry.request);
                if !entry.counted_late() && !entry.is_unknown() {
                    self.claim(&movement, Side::Client, 0, Counts::messages(1));
                }
                self.ask(Request::Execute(entry));
                return Some(movement);
            }
            b'C' => {
                let (name, _) = cstring(head.get(1..).unwrap_or(&[]));
                let map = if head.first() == Some(&b'S') { &mut self.prepared } else { &mut self.portals };
                Self::forget(map, &mut self.named_bytes, name);
                self.ask(Request::Close);
            }
            b'S' => self.ask(Request::Sync),
            b'F' => {
                let mut call = Statement::unknown(Operation::Call, Side::Client);
                call.readable = true;
                call.names = vec![format!("function:{}", be32(head, 0).unwrap_or(0))];
                let entry = Entry::new(call, None);
                let movement = Arc::clone(&entry.request);
                self.claim(&movement, Side::Client, 0, Counts::messages(1));
                self.ask(Request::Function(entry));
                return Some(movement);
            }
            b'p' => self.initial_response(head, out),
            b'd' => return Some(self.copied_in(length)),
            b'c' | b'f' => {
                let movement = self.copy_target().map_or_else(|| self.stray_copy(), |e| Arc::clone(&e.named));
                // The Sync that was sent behind the Execute is ignored by a server that copies.
                if matches!((self.requests.front(), self.requests.get(1)), (Some(Request::Execute(_)), Some(Request::Sync))) {
                    self.requests.remove(1);
                }
                return Some(movement);
            }
            _ => {}
        }
        Some(Arc::clone(&COMMON.connect))
    }

    fn query(&mut self, head: &[u8], length: u64) -> Arc<Movement> {
        if let Some(g) = &mut self.gathered {
            g.simple_queries += 1;
        }
        let (sql, ended) = until_nul(head);
        let read = self.statements(sql, ended || head.len() as u64 >= length);
        let plain = |e: &Arc<Entry>| {
            !matches!(
                e.statement.effect,
                Effect::Fetch(_) | Effect::Execute(_) | Effect::Declare(_) | Effect::Prepare(_) | Effect::CloseCursor(_)
            )
        };
        let entries = if read.iter().all(plain) { read } else { read.iter().map(|e| self.meant(e)).collect::<Vec<_>>().into() };
        for entry in entries.iter().filter(|e| !e.counted_late()) {
            self.claim(&Arc::clone(&entry.named), Side::Client, 0, Counts::messages(1));
        }
        let main = entries.iter().find(|e| e.statement.operation != Operation::Connect).or_else(|| entries.first());
        let movement = main.map_or_else(|| Arc::clone(&COMMON.connect), |e| Arc::clone(&e.request));
        self.ask(Request::Query(entries, 0));
        movement
    }

    /// The COPY that the client's data is for.
    fn copy_target(&self) -> Option<Arc<Entry>> {
        let inward = |e: &Arc<Entry>| {
            e.statement.copy.is_some_and(|c| c.inward) || matches!(e.statement.operation, Operation::Replicate | Operation::Backup)
        };
        self.current().filter(inward)
    }

    /// What the client copies to nobody knows where; one that may replicate tells how far it is in the same messages.
    fn stray_copy(&self) -> Arc<Movement> {
        Arc::clone(if self.walsender == Some(false) { &COMMON.copied_in } else { &COMMON.transfer })
    }

    fn copied_in(&mut self, length: u64) -> Arc<Movement> {
        if let Some(g) = &mut self.gathered {
            g.copy_messages[0] += 1;
            g.copy_bytes[0] += length;
        }
        let Some(entry) = self.copy_target() else { return self.stray_copy() };
        self.halves[0].lines = self.running.lines;
        Arc::clone(&entry.named)
    }

    // ---- the server's messages --------------------------------------------------------------------------------

    /// One message of the server; `None` holds its bytes back.
    fn server_message(&mut self, tag: u8, head: &[u8], length: u64, out: &mut Recorder<'_>) -> Option<Arc<Movement>> {
        match tag {
            b'D' => return self.row(length),
            b'd' => return Some(self.copied_out(head, length)),
            b'C' => return Some(self.complete(head, out)),
            b'Z' => self.ready_for_query(head.first().copied(), out),
            b'1' => return Some(self.paired(|r| matches!(r, Request::Parse(_)))),
            b'2' => return Some(self.paired(|r| matches!(r, Request::Bind(_)))),
            b'3' => return Some(self.paired(|r| matches!(r, Request::Close))),
            b'T' => return Some(self.row_description(head, length)),
            b'n' => return Some(self.paired(|r| matches!(r, Request::Describe(_)))),
            b't' | b'c' | b'V' => return Some(self.answer()),
            b's' => return Some(self.suspended()),
            b'I' => return Some(self.finished()),
            b'G' | b'H' | b'W' => return Some(self.copy_begins(tag, head)),
            b'E' => return Some(self.error(head, out)),
            b'N' => {
                if let Some(g) = &mut self.gathered {
                    g.notice_count += 1;
                }
                return Some(self.answer());
            }
            b'A' => {
                let (channel, _) = cstring(head.get(4..).unwrap_or(&[]));
                let objects = ObjectSet { names: vec![text(channel)], columns: vec!["*".into()], statement: None };
                let movement = Arc::new(Movement::of(Operation::Subscribe, Side::Server, Arc::new(objects)));
                self.claim(&movement, Side::Server, 0, Counts::messages(1));
                return Some(movement);
            }
            b'R' => self.authentication(head, out),
            b'S' => self.parameter_status(head, out),
            _ => {}
        }
        Some(Arc::clone(&COMMON.connect))
    }

    fn paired(&mut self, kind: fn(&Request) -> bool) -> Arc<Movement> {
        match self.fits(kind) {
            Some(Request::Parse(entry) | Request::Bind(entry) | Request::Describe(entry)) => Arc::clone(&entry.request),
            _ => Arc::clone(&COMMON.connect),
        }
    }

    fn row(&mut self, length: u64) -> Option<Arc<Movement>> {
        if let Some(g) = &mut self.gathered {
            g.data_rows += 1;
        }
        let entry = match self.current() {
            Some(entry) if self.doubt.is_none() => entry,
            _ => {
                // A statement runs that was not seen.
                if self.doubt.is_none() {
                    let awaited = self.requests.iter().filter(|r| r.ends()).count();
                    self.lose_pairing(u32::try_from(awaited).unwrap_or(u32::MAX));
                }
                let movement = Arc::clone(self.interrupted.as_ref().unwrap_or(&COMMON.transfer));
                if movement.operation != Operation::Connect && self.walsender != Some(true) {
                    self.claim(&movement, Side::Server, 0, Counts::rows(1));
                }
                return Some(movement);
            }
        };
        if entry.statement.operation == Operation::Connect {
            return Some(Arc::clone(&entry.named));
        }
        self.count(&entry);
        if !entry.tableless {
            let movement = Arc::clone(entry.rows());
            self.claim(&movement, Side::Server, 0, Counts::rows(1));
            return Some(movement);
        }
        self.running.rows += 1;
        self.running.bytes += length + 5;
        if self.running.rows > 1 || self.running.bytes > TABLELESS_BYTES_MAX {
            self.running.large = true;
            self.running.held_rows += 1;
            let bytes = std::mem::take(&mut self.running.held_bytes);
            let rows = std::mem::take(&mut self.running.held_rows);
            let first = !self.running.counted && entry.counted_late();
            self.running.counted = true;
            let movement = Self::enlarged(&entry);
            self.claim(&movement, Side::Server, bytes, Counts { rows, messages: u64::from(first), ..Counts::ZERO });
            return Some(movement);
        }
        self.running.held_rows += 1;
        None
    }

    /// Columns of what follows: names as the server gives them (PostgreSQL, 55.7, RowDescription).
    fn row_description(&mut self, head: &[u8], length: u64) -> Arc<Movement> {
        let entry = match self.requests.front() {
            Some(Request::Query(entries, at)) if self.doubt.is_none() => entries.get(*at).map(Arc::clone),
            _ => match self.fits(|r| matches!(r, Request::Describe(_))) {
                Some(Request::Describe(entry)) => Some(entry),
                _ => None,
            },
        };
        let Some(entry) = entry else { return Arc::clone(&COMMON.connect) };
        if entry.statement.operation == Operation::Connect {
            return Arc::clone(&entry.named);
        }
        let hash = SEEDS[0].hash_one(head);
        if entry.described.get().is_none_or(|(known, _)| *known != hash) {
            let columns = if head.len() as u64 == length { column_names(head) } else { None };
            if let (Some(mut columns), Some(objects)) = (columns, &entry.returned.objects) {
                // The server names what it returns, the text what that is made of: an alias is no other column.
                sql::add_names(&mut columns, &entry.statement.reads);
                let described = ObjectSet { columns, ..(**objects).clone() };
                self.requested_bytes += described.columns.iter().map(|c| c.len() + 32).sum::<usize>();
                let movement = Movement::of(entry.returned.operation, entry.returned.from, Arc::new(described));
                // Another description of the same text comes after a change of the table: the first one's names stay
                // until the text is read anew.
                if entry.described.set((hash, Arc::new(movement))).is_err() {
                    self.cache.clear();
                    self.cached_bytes = 0;
                }
            }
        }
        if matches!(self.requests.front(), Some(Request::Query(..))) && !entry.tableless {
            self.count(&entry);
        }
        if entry.statement.operation == Operation::Select && !entry.tableless {
            Arc::clone(entry.rows())
        } else {
            Arc::clone(&entry.request)
        }
    }

    fn copy_begins(&mut self, tag: u8, head: &[u8]) -> Arc<Movement> {
        let binary = head.first() == Some(&1);
        self.unasked();
        if self.doubt.is_some() {
            self.running.copying = Some(match tag {
                b'G' => Copying::In,
                b'H' => Copying::Out,
                _ => Copying::Both,
            });
        }
        let Some(entry) = self.current().filter(|_| self.doubt.is_none()) else { return self.answer() };
        let options = entry.statement.copy.unwrap_or_default();
        self.count(&entry);
        let running = &mut self.running;
        running.copying = Some(match tag {
            b'G' => Copying::In,
            b'H' => Copying::Out,
            _ => Copying::Both,
        });
        running.uncounted_copy = binary || options.header;
        running.changes = match entry.statement.effect {
            Effect::Replicate(decoding) if tag == b'W' => Some(Box::new(Changes::new(decoding))),
            _ => None,
        };
        running.lines = tag == b'G' && !binary && options.format != CopyFormat::Binary;
        // The header line is no row.
        running.estimate = 0;
        Arc::clone(entry.whole())
    }

    fn copied_out(&mut self, head: &[u8], length: u64) -> Arc<Movement> {
        if let Some(g) = &mut self.gathered {
            g.copy_messages[1] += 1;
            g.copy_bytes[1] += length;
        }
        let Some(entry) = self.current().filter(|_| self.doubt.is_none()) else {
            match (&self.streamed, self.walsender) {
                (Some(streamed), _) => return Arc::clone(streamed),
                // What is told of a backup are chunks, not rows.
                (None, None | Some(true)) => return Arc::clone(&COMMON.transfer),
                (None, Some(false)) => {}
            }
            // The trailer of a binary COPY is the one message of two bytes (PostgreSQL, COPY, binary format).
            // The first may be a header line.
            self.estimated(&COMMON.copied_out, Side::Server, i64::from(length != 2));
            return Arc::clone(&COMMON.copied_out);
        };
        if matches!(entry.statement.operation, Operation::Replicate | Operation::Backup) {
            self.streamed = Some(Arc::clone(entry.whole()));
        }
        let row = self.running.changes.as_mut().and_then(|changes| changes.row(head));
        if let Some(changes) = &mut self.running.changes {
            self.counters.named_dropped_total += std::mem::take(&mut changes.dropped_total);
        }
        if let Some(row) = row {
            self.claim(&row, Side::Server, 0, Counts::rows(1));
            return row;
        }
        let movement = Arc::clone(entry.whole());
        if matches!(entry.statement.operation, Operation::Replicate | Operation::Backup) {
            return movement;
        }
        if std::mem::take(&mut self.running.uncounted_copy) {
            return movement;
        }
        self.claim(&movement, Side::Server, 0, Counts::rows(1));
        movement
    }

    fn complete(&mut self, head: &[u8], out: &mut Recorder<'_>) -> Arc<Movement> {
        let (tag, _) = until_nul(head);
        let tag = &*String::from_utf8_lossy(tag);
        if let Some(g) = &mut self.gathered {
            if g.command_tags.len() < FACTS_MAX || g.command_tags.contains_key(tag) {
                *g.command_tags.entry(tag.to_owned()).or_default() += 1;
            }
        }
        self.rolled_back = tag.starts_with("ROLLBACK");
        self.interrupted = None;
        let number: i64 = tag.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        self.mistrust(tag);
        if number > 0 {
            self.unasked();
        }
        let Some(entry) = self.current().filter(|_| self.doubt.is_none()) else { return self.complete_unpaired(tag, number) };
        if entry.is_unknown() {
            let changed = COMMON.changed.iter().find(|(verb, _)| tag.starts_with(verb)).map(|(_, movement)| movement);
            if let Some(movement) = changed.or(tag.starts_with("SELECT ").then_some(&COMMON.rows)) {
                let rows = if movement.operation == Operation::Select { 0 } else { number };
                self.claim(movement, Side::Server, 0, Counts { rows, messages: 1, ..Counts::ZERO });
            }
        }
        let movement = Arc::clone(entry.whole());
        let changes = ["INSERT ", "UPDATE ", "DELETE ", "MERGE ", "COPY "].iter().any(|verb| tag.starts_with(verb));
        let copy = entry.statement.copy;
        let counts = match entry.statement.operation {
            Operation::Insert | Operation::Update | Operation::Delete if changes => Counts::rows(number),
            Operation::Copy if copy.is_some_and(|c| c.inward && !c.server_side) && changes => Counts::rows(number - self.running.estimate),
            _ => Counts::ZERO,
        };
        if counts != Counts::ZERO {
            self.claim(&movement, Side::Server, 0, counts);
        }
        self.count(&entry);
        self.release(false);
        let movement = if entry.tableless && self.running.large { Self::enlarged(&entry) } else { movement };
        if !matches!(entry.statement.effect, Effect::None | Effect::Begin) {
            self.apply(entry.statement.effect.clone(), entry.statement.local, out);
        }
        self.next_statement();
        movement
    }

    /// An answer to nothing: what asked for it was not seen.
    fn unasked(&mut self) {
        if self.doubt.is_none() && self.requests.is_empty() && self.current().is_none() {
            self.lose_pairing(0);
        }
    }

    /// After a gap, a tag that does not fit the statement that it answers shows that answers and requests have slipped.
    fn mistrust(&mut self, tag: &str) {
        let Some(entry) = self.current().filter(|_| self.gapped && self.doubt.is_none()) else { return };
        let verb = COMMON.changed.iter().find(|(verb, _)| tag.starts_with(verb));
        let fits = match (entry.statement.operation, verb) {
            (Operation::Insert | Operation::Update | Operation::Delete, Some((_, movement))) => {
                movement.operation == entry.statement.operation
            }
            (Operation::Select, Some(_)) => entry.is_unknown(),
            _ => true,
        };
        if !fits {
            let awaited = self.requests.iter().filter(|r| r.ends()).count();
            self.lose_pairing(u32::try_from(awaited).unwrap_or(u32::MAX));
        }
    }

    /// The end of a statement that was not seen: the tag says how many rows were changed, if not where.
    fn complete_unpaired(&mut self, tag: &str, number: i64) -> Arc<Movement> {
        let Running { copying, estimate, .. } = std::mem::take(&mut self.running);
        let changed = COMMON.changed.iter().find(|(verb, _)| tag.starts_with(verb)).map(|(_, movement)| movement);
        let copied = match copying.filter(|_| tag.starts_with("COPY ")) {
            Some(Copying::In) => Some(&COMMON.copied_in),
            // Not counted as it came: it might have been a backup, which has no such tag.
            Some(Copying::Out) if self.walsender.is_none() => Some(&COMMON.copied_out),
            _ => None,
        };
        let Some(movement) = changed.or(copied).filter(|_| self.doubt.is_some()) else { return self.answer() };
        self.claim(movement, Side::Server, 0, Counts::rows(number - estimate));
        Arc::clone(movement)
    }

    /// PortalSuspended: the Execute's row limit was reached (PostgreSQL, 55.2.3).
    fn suspended(&mut self) -> Arc<Movement> {
        self.interrupted = None;
        let Some(entry) = self.current().filter(|_| self.doubt.is_none()) else { return self.answer() };
        self.count(&entry);
        self.release(false);
        let movement = Arc::clone(entry.whole());
        self.next_statement();
        movement
    }

    /// EmptyQueryResponse.
    fn finished(&mut self) -> Arc<Movement> {
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
                self.requests.pop_front();
            }
            // A walsender's command may have several results; it is the only one of its Query (PostgreSQL, 55.4).
            Some(Request::Query(entries, at)) => {
                let walsender = |e: &Arc<Entry>| matches!(e.statement.operation, Operation::Replicate | Operation::Backup);
                *at += usize::from(!entries.get(*at).is_some_and(walsender));
            }
            _ => {}
        }
    }

    fn error(&mut self, head: &[u8], out: &mut Recorder<'_>) -> Arc<Movement> {
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
            self.claim(&COMMON.refused, Side::Server, 0, Counts::messages(1));
            return Arc::clone(&COMMON.refused);
        }
        let denied = code.as_deref().is_some_and(|c| c.starts_with("28") || c == "42501");
        let mut movement = self.answer();
        self.rolled_back = true;
        if self.doubt.is_some() {
            return if denied { Arc::clone(&COMMON.refused) } else { movement };
        }
        let entry = match self.requests.front() {
            Some(Request::Parse(entry) | Request::Bind(entry) | Request::Describe(entry)) => Some(Arc::clone(entry)),
            _ => self.current(),
        };
        if let Some(entry) = &entry {
            if self.running.copying == Some(Copying::In) && self.running.estimate != 0 {
                // Nothing of it stays.
                let rows = -std::mem::take(&mut self.running.estimate);
                self.claim(&Arc::clone(&entry.named), Side::Server, 0, Counts::rows(rows));
            }
            if denied {
                movement = match &entry.named.objects {
                    Some(objects) => Arc::new(Movement::of(Operation::Refused, Side::Client, Arc::clone(objects))),
                    None => Arc::clone(&COMMON.refused),
                };
                self.claim(&movement, Side::Server, 0, Counts::messages(1));
                self.running.counted = true;
            } else if self.current().is_some() && entry.statement.operation != Operation::Admin {
                self.count(entry);
            }
            self.release(false);
        } else if denied {
            movement = Arc::clone(&COMMON.refused);
            self.claim(&movement, Side::Server, 0, Counts::messages(1));
        }
        self.running = Running::default();
        match self.requests.front_mut() {
            // The rest of a Query is not run.
            Some(Request::Query(entries, at)) => *at = entries.len(),
            // The server discards everything up to the next Sync (PostgreSQL, 55.2.3).
            Some(Request::Sync | Request::Function(_)) | None => {}
            Some(_) => {
                let until = self.requests.iter().position(|r| matches!(r, Request::Sync)).unwrap_or(self.requests.len());
                self.requests.drain(..until);
            }
        }
        let _ = out;
        movement
    }

    fn ready_for_query(&mut self, status: Option<u8>, out: &mut Recorder<'_>) {
        self.idle_ns = Some(self.now_ns);
        self.interrupted = None;
        if !self.ready {
            self.ready = true;
        } else if let Some(awaited) = self.doubt {
            self.doubt = if awaited <= 1 { None } else { Some(awaited - 1) };
        } else {
            while self.requests.pop_front().is_some_and(|request| !request.ends()) {}
        }
        self.running = Running::default();
        if self.requests.is_empty() {
            self.requested_bytes = 0;
        }
        if status == Some(b'I') {
            // The transaction is over: SET LOCAL ends, and with a rollback every SET since its beginning.
            if self.rolled_back {
                self.session.clone_from(&self.before);
            } else if self.session != self.before {
                self.before.clone_from(&self.session);
            }
            if self.settings != self.session {
                let session = self.session.clone();
                self.change(session, out);
            }
            self.rolled_back = false;
        }
    }

    // ---- the session ------------------------------------------------------------------------------------------

    fn apply(&mut self, effect: Effect, local: bool, out: &mut Recorder<'_>) {
        let mut new = self.settings.clone();
        match effect {
            Effect::Role(role) => new.role = role,
            Effect::Path(path) => new.path = path,
            Effect::ResetPath | Effect::ResetAll => new.path.clone_from(&self.startup.path),
            Effect::DiscardAll => {
                new = self.startup.clone();
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
        if !local {
            if new.role != self.settings.role {
                self.session.role.clone_from(&new.role);
            }
            if new.path != self.settings.path {
                self.session.path.clone_from(&new.path);
            }
        }
        self.change(new, out);
    }

    fn change(&mut self, new: Settings, out: &mut Recorder<'_>) {
        if new.path != self.settings.path {
            self.generation += 1;
        }
        if new.role != self.settings.role {
            self.flush(out);
            let role = new.role.clone();
            out.identify(|identity| identity.role = role);
        }
        self.settings = new;
    }

    fn authentication(&mut self, head: &[u8], out: &mut Recorder<'_>) {
        let Some(code) = be32(head, 0) else { return };
        let method = match code {
            0 => {
                // Accepted without being asked for anything.
                out.protect(|p| p.authentication = p.authentication.take().or_else(|| Some("trust".into())));
                return;
            }
            2 => "kerberos",
            3 => "password",
            5 => "md5",
            6 => "scm",
            7 => "gssapi",
            9 => "sspi",
            10 => {
                let mechanisms: Vec<_> = head[4..].split(|b| *b == 0).filter(|m| !m.is_empty()).map(text).collect();
                let offered = mechanisms.first().map(|m| m.to_ascii_lowercase());
                if let Some(g) = &mut self.gathered {
                    g.sasl_mechanisms.clone_from(&mechanisms);
                }
                self.offered = mechanisms;
                out.protect(|p| p.authentication = offered.or_else(|| Some("sasl".into())));
                return;
            }
            _ => return,
        };
        out.protect(|p| p.authentication = Some(method.into()));
    }

    /// SASLInitialResponse names the mechanism that the client chose of those offered (PostgreSQL, 55.3.1).
    fn initial_response(&mut self, head: &[u8], out: &mut Recorder<'_>) {
        let offered = std::mem::take(&mut self.offered);
        // Compared with what was offered: a response is never told, whatever stands first in it.
        let chosen = offered.into_iter().find(|m| until_nul(head) == (m.as_bytes(), true));
        if let Some(mechanism) = chosen {
            out.protect(|p| p.authentication = Some(mechanism.to_ascii_lowercase()));
        }
    }

    fn parameter_status(&mut self, head: &[u8], out: &mut Recorder<'_>) {
        let (name, rest) = cstring(head);
        let (value, _) = until_nul(rest);
        match name {
            b"standard_conforming_strings" => self.backslash = value == b"off",
            b"application_name" => {
                let value = text(value);
                self.flush(out);
                out.identify(|identity| identity.application = (!value.is_empty()).then_some(value));
            }
            b"search_path" => {
                let new = Settings { path: Some(sql::path_of(&text(value))), ..self.settings.clone() };
                if !self.ready {
                    self.startup.path.clone_from(&new.path);
                    self.before.path.clone_from(&new.path);
                }
                self.session.path.clone_from(&new.path);
                self.change(new, out);
            }
            _ => {}
        }
    }

    /// The bytes that follow are encrypted.
    fn encrypt(&mut self, code: u32, out: &mut Recorder<'_>) {
        self.asked = None;
        self.flush(out);
        if code == SSL_REQUEST {
            self.inner = Some(tls::embedded(self.options));
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
            let (rest, lines) = (half.rest.clone(), half.lines);
            match rest {
                Some(movement) => {
                    self.claim(&movement, sender, used as u64, Counts::ZERO);
                    if lines {
                        self.lines(&movement, &bytes[..used]);
                    }
                }
                None => self.running.held_bytes += used as u64,
            }
            return Ok(used);
        }
        if sender == Side::Server {
            if let Some(code) = self.asked {
                return Ok(self.encryption_answer(code, bytes[0], out));
            }
        }
        match half.phase {
            Phase::Startup => self.gather_startup(bytes, out),
            Phase::Framed => self.gather_frame(sender, bytes, out),
            Phase::Search => Ok(self.search(sender, bytes, out)),
        }
    }

    /// Servers answer a request to encrypt with one bare byte; old ones with an error message (PostgreSQL, 55.2.10).
    fn encryption_answer(&mut self, code: u32, answer: u8, out: &mut Recorder<'_>) -> usize {
        if answer == b'E' {
            self.asked = None;
            return 0;
        }
        self.claim(&COMMON.connect, Side::Server, 1, Counts::ZERO);
        if let (Some(g), SSL_REQUEST) = (&mut self.gathered, code) {
            g.ssl_response = Some(char::from(answer).to_string());
        }
        self.asked = None;
        if answer == b'S' || answer == b'G' {
            self.encrypt(code, out);
        }
        1
    }

    fn gather_startup(&mut self, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let mut carry = std::mem::take(&mut self.halves[0].carry);
        let had = carry.len();
        let mut need = self.startup_need(&carry);
        let mut used = 0;
        loop {
            let take = need.saturating_sub(carry.len()).min(bytes.len() - used);
            carry.extend_from_slice(&bytes[used..used + take]);
            used += take;
            if carry.len() < need {
                self.halves[0].carry = carry;
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

    fn gather_frame(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let half = &mut self.halves[sender as usize];
        if half.carry.is_empty() {
            if let Some(header) = bytes.get(..5) {
                if matches!(header[0], b'D' | b'd') && sender == Side::Server && half.phase == Phase::Framed {
                    let used = self.rows(bytes);
                    if used > 0 {
                        return Ok(used);
                    }
                }
                let Some((length, wanted)) = self.header(sender, header)? else { return Ok(0) };
                if let Some(head) = bytes.get(5..5 + wanted) {
                    self.frame(sender, header[0], head, length, out);
                    return Ok(5 + wanted);
                }
            }
        }
        let mut carry = std::mem::take(&mut self.halves[sender as usize].carry);
        let take = 5_usize.saturating_sub(carry.len()).min(bytes.len());
        carry.extend_from_slice(&bytes[..take]);
        let mut used = take;
        if carry.len() >= 5 {
            match self.header(sender, &carry[..5])? {
                None => {
                    // Searched from the next byte on; those carried are looked at again there.
                    self.halves[sender as usize].carry = carry;
                    return Ok(used);
                }
                Some((length, wanted)) => {
                    let take = (5 + wanted).saturating_sub(carry.len()).min(bytes.len() - used);
                    carry.extend_from_slice(&bytes[used..used + take]);
                    used += take;
                    if carry.len() >= 5 + wanted {
                        self.frame(sender, carry[0], &carry[5..], length, out);
                        carry.clear();
                        carry.shrink_to(1024);
                    }
                }
            }
        }
        self.halves[sender as usize].carry = carry;
        Ok(used)
    }

    /// Body length and how much of it is needed. `None`: no frame begins here and one is searched for.
    fn header(&mut self, sender: Side, header: &[u8]) -> Result<Option<(u64, usize)>, DecodeError> {
        let (tag, length) = (header[0], be32(header, 1).unwrap_or(0));
        let (least, most, mut wanted) = shape(sender, tag);
        if (sender, tag) == (Side::Server, b'd') && self.running.changes.is_some() {
            wanted = CHANGE_BYTES_MAX;
        }
        if length < 4 + least || u64::from(length) > 4 + most {
            if self.halves[sender as usize].doubtful {
                self.halves[sender as usize].phase = Phase::Search;
                return Ok(None);
            }
            return Err(if most == 0 && wanted == NONE {
                DecodeError::new("message tag", u64::from(tag), "a tag of protocol 3")
            } else {
                DecodeError::new("message length", u64::from(length), "one that fits the tag")
            });
        }
        let body = u64::from(length) - 4;
        Ok(Some((body, wanted.min(usize::try_from(body).unwrap_or(usize::MAX)))))
    }

    fn frame(&mut self, sender: Side, tag: u8, head: &[u8], length: u64, out: &mut Recorder<'_>) {
        self.halves[sender as usize].lines = false;
        let movement = match sender {
            Side::Client => {
                self.settle_doubt();
                self.client_message(tag, head, length, out)
            }
            Side::Server => {
                // Notices, notifications and settings may come at any time (PostgreSQL, 55.2.7).
                if !matches!(tag, b'A' | b'N' | b'S') {
                    self.idle_ns = None;
                }
                self.server_message(tag, head, length, out)
            }
        };
        let used = 5 + head.len() as u64;
        match &movement {
            Some(movement) => self.claim(movement, sender, used, Counts::ZERO),
            None => self.running.held_bytes += used,
        }
        let half = &mut self.halves[sender as usize];
        half.skip = length - head.len() as u64;
        if half.skip > 0 {
            half.rest = movement;
        }
    }

    /// DataRow and CopyData messages in a row: counted together, as each would be by itself. Returns the bytes used;
    /// 0 where one has to be looked at.
    fn rows(&mut self, bytes: &[u8]) -> usize {
        let tag = bytes.first().copied();
        let Some(entry) = self.requests.front().filter(|_| self.doubt.is_none() && self.gathered.is_none()).and_then(running) else {
            return 0;
        };
        let operation = entry.statement.operation;
        let movement = match tag {
            Some(b'D') if self.running.counted && !entry.tableless && operation != Operation::Connect => entry.rows(),
            Some(b'd') if !self.running.uncounted_copy && !matches!(operation, Operation::Replicate | Operation::Backup) => entry.whole(),
            _ => return 0,
        };
        let movement = Arc::clone(movement);
        let (mut used, mut rows) = (0, 0);
        while let Some((length, rest)) =
            bytes.get(used..).filter(|b| b.first().copied() == tag).and_then(|b| Some((be32(b, 1)?, b.len() - 1)))
        {
            let least = if tag == Some(b'D') { 6 } else { 4 };
            if !(least..=ROW_BYTES_MAX).contains(&length) {
                break;
            }
            rows += 1;
            if length as usize > rest {
                let half = &mut self.halves[Side::Server as usize];
                half.skip = (length as usize - rest) as u64;
                half.rest = Some(Arc::clone(&movement));
                used = bytes.len();
                break;
            }
            used += 1 + length as usize;
        }
        if rows > 0 {
            self.halves[Side::Server as usize].lines = false;
            self.claim(&movement, Side::Server, used as u64, Counts::rows(rows));
        }
        used
    }

    /// Lines of a COPY in are its rows so far.
    fn lines(&mut self, movement: &Arc<Movement>, bytes: &[u8]) {
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
        let mut joined = std::mem::take(&mut half.carry);
        joined.extend_from_slice(bytes);
        let found = half.search.look(&joined, HEADER_BYTES - 1, &|bytes| search::at(sender, bytes));
        let passed = found.unwrap_or(joined.len().saturating_sub(HEADER_BYTES - 1));
        half.search.passed(passed);
        let rest = joined.split_off(passed);
        let lost = &COMMON.transfer;
        if passed > 0 {
            self.claim(lost, sender, passed as u64, Counts::ZERO);
        }
        let half = &mut self.halves[sender as usize];
        if found.is_none() {
            half.carry = rest;
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
fn shape(sender: Side, tag: u8) -> (u32, u64, usize) {
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

/// The statement of a request that runs.
fn running(request: &Request) -> Option<&Arc<Entry>> {
    match request {
        Request::Execute(entry) | Request::Function(entry) => Some(entry),
        Request::Query(entries, at) => entries.get(*at),
        _ => None,
    }
}

fn empty_entry() -> Arc<Entry> {
    let mut empty = Statement::unknown(Operation::Connect, Side::Client);
    empty.readable = true;
    Entry::new(empty, None)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

/// Up to a NUL, and whether there was one.
fn until_nul(bytes: &[u8]) -> (&[u8], bool) {
    memchr::memchr(0, bytes).map_or((bytes, false), |at| (&bytes[..at], true))
}

/// A NUL-terminated string and what follows it.
fn cstring(bytes: &[u8]) -> (&[u8], &[u8]) {
    memchr::memchr(0, bytes).map_or((bytes, &[]), |at| (&bytes[..at], &bytes[at + 1..]))
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
        if !self.named_protocol {
            self.named_protocol = true;
            out.protocol("postgresql", Depth::Decoded);
        }
        self.now_ns = out.time_ns;
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(inner) = &mut self.inner {
                return inner.data(sender, rest, out);
            }
            if self.opaque {
                self.claim(&COMMON.transfer, sender, rest.len() as u64, Counts::ZERO);
                break;
            }
            match self.step(sender, rest, out) {
                Ok(used) => rest = &rest[used..],
                Err(wrong) => {
                    self.flush(out);
                    return Err(wrong);
                }
            }
        }
        self.flush(out);
        Ok(())
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if let Some(inner) = &mut self.inner {
            return inner.gap(sender, length, out);
        }
        if self.opaque {
            return Ok(());
        }
        out.condition(|c| c.lossy = true);
        let half = &mut self.halves[sender as usize];
        half.doubtful = true;
        if half.skip >= length && half.phase != Phase::Startup {
            half.skip -= length;
            return Ok(());
        }
        let carried = std::mem::take(&mut half.carry);
        let lost = &COMMON.transfer;
        // Of a message whose header is there the end is known.
        let whole = be32(&carried, 1).filter(|_| half.phase == Phase::Framed).map(|body| u64::from(body) + 1);
        match whole.and_then(|whole| whole.checked_sub(carried.len() as u64 + length)) {
            Some(left) => {
                half.skip = left;
                half.rest = Some(Arc::clone(lost));
                half.lines = false;
            }
            None => {
                half.skip = 0;
                half.search.passed(carried.len().saturating_add(usize::try_from(length).unwrap_or(usize::MAX)));
                half.phase = Phase::Search;
            }
        }
        self.claim(lost, sender, carried.len() as u64, Counts::ZERO);
        if sender == Side::Client {
            self.asked = None;
        }
        self.ready = true;
        self.doubt_after_gap(sender);
        self.flush(out);
        Ok(())
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.close(out);
            return;
        }
        if self.doubt.is_none() {
            self.lose_pairing(0);
        }
        self.flush(out);
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

    fn memory_bytes(&self) -> usize {
        let carried: usize = self.halves.iter().map(|h| h.carry.capacity() + h.search.memory_bytes()).sum();
        let tables = self.cached_bytes + self.named_bytes + self.requested_bytes;
        let tables = tables + self.running.changes.as_ref().map_or(0, |c| c.memory_bytes());
        carried + tables + self.requests.capacity() * size_of::<Request>() + self.inner.as_ref().map_or(0, |i| i.memory_bytes())
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
