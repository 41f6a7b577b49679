//! Windows: the one place where observations become flow events.
//!
//! A *connection* holds *flows*, one per (direction of the data, account, role, application, operation); a flow has
//! at most one open *window*. A window ends after [`WINDOW_NS`] of packet time (later where very many are open:
//! [`SHORT_WINDOWS_MAX`]), at [`ROWS_MAX`] rows or
//! [`BYTES_MAX`] bytes, when the account, role or application changes, at the end of the connection, and before it
//! would hold more than [`OBJECTS_MAX`] object sets. Its end follows packet time alone, never batches or reads, so
//! that the same packets give the same events with the same ids.
//!
//! Conservation: the caller says how many stream bytes arrived ([`Windows::arrived`]), decoders say what they belong
//! to ([`Recorder::add`]), and what nobody claimed by the end of the connection is settled on its last flow. So the
//! bytes of a connection's flows add up to its stream bytes, both ways, whatever a decoder does.

use crate::protocols::Shared;
use crate::soon::{soon, soon_lines};
use crate::table::Map;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

mod due;
mod line;
mod onward;
mod ready;

use due::{Deadline, Due};
use line::{Clock, Line};
pub use onward::Told;
pub use ready::Ready;

pub const WINDOW_NS: i64 = 1_000_000_000;
/// Windows that may be open at once and still last [`WINDOW_NS`]; for each so many more the next ones last as much longer, so that about
/// as many end in a second (`long_windows_total`). The first window of a flow never lasts longer: what is new is told at once.
pub const SHORT_WINDOWS_MAX: usize = 10_000;
/// A window lasts at most so many [`WINDOW_NS`], however many are open.
pub const LASTS_MAX: i64 = 10;
/// A window ends at so many rows, so many bytes, and before it would hold more object sets; the next one goes on, and
/// nothing is dropped.
pub const ROWS_MAX: i64 = 10_000;
pub const BYTES_MAX: u64 = 8 << 20;
pub const OBJECTS_MAX: usize = 64;
/// Flows of one connection; further keys are counted on its last flow (`flows_folded_total`).
pub const FLOWS_MAX: usize = 1024;
/// DNS answers remembered; the table is emptied of what has expired, then wholly, when full (`names_dropped_total`).
pub const NAMES_MAX: usize = 65_536;
/// Names kept for one (client, address).
pub const NAMES_OF_ADDRESS_MAX: usize = 8;

/// Identities, protections, and where connections are seen, of which one copy serves all connections; the table is emptied when full.
pub const INTERNED_MAX: usize = 4096;

/// Who sent the bytes, in the protocol's sense. The client opens the session of the protocol, which is not always the
/// end that opened the TCP connection (OPC UA reverse connect).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Client = 0,
    Server = 1,
}

impl Side {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The operations of the event contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Connect,
    Refused,
    Admin,
    Select,
    Insert,
    Update,
    Delete,
    Copy,
    Replicate,
    Backup,
    Ddl,
    Call,
    Publish,
    Subscribe,
    Browse,
    Read,
    HistoryRead,
    Write,
    HistoryWrite,
    Get,
    Put,
    Query,
    Transfer,
    Attempt,
}

impl Operation {
    pub const ALL: [Self; 24] = [
        Self::Connect,
        Self::Refused,
        Self::Admin,
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Copy,
        Self::Replicate,
        Self::Backup,
        Self::Ddl,
        Self::Call,
        Self::Publish,
        Self::Subscribe,
        Self::Browse,
        Self::Read,
        Self::HistoryRead,
        Self::Write,
        Self::HistoryWrite,
        Self::Get,
        Self::Put,
        Self::Query,
        Self::Transfer,
        Self::Attempt,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refused => "refused",
            Self::Admin => "admin",
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Copy => "copy",
            Self::Replicate => "replicate",
            Self::Backup => "backup",
            Self::Ddl => "ddl",
            Self::Call => "call",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Browse => "browse",
            Self::Read => "read",
            Self::HistoryRead => "history-read",
            Self::Write => "write",
            Self::HistoryWrite => "history-write",
            Self::Get => "get",
            Self::Put => "put",
            Self::Query => "query",
            Self::Transfer => "transfer",
            Self::Attempt => "attempt",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

/// What a statement, topic, node or request touches. Counts of one set are never split between its names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObjectSet {
    pub names: Vec<String>,
    pub columns: Vec<String>,
    /// Fingerprint of the statement, literals removed (hex), where there is one.
    pub statement: Option<String>,
    /// What was done besides, by kind: never a value.
    pub marks: Vec<&'static str>,
}

/// One movement of data: the part of the window key that a decoder decides per message, and what it touches.
#[derive(Clone, Debug)]
pub struct Movement {
    pub operation: Operation,
    /// The side that the data comes from (rows of a SELECT: [`Side::Server`]).
    pub from: Side,
    /// `None` where there is no object (`connect`, `transfer`).
    pub objects: Option<Arc<ObjectSet>>,
}

impl Movement {
    #[must_use]
    pub fn new(operation: Operation, from: Side) -> Self {
        Self { operation, from, objects: None }
    }

    #[must_use]
    pub fn of(operation: Operation, from: Side, objects: Arc<ObjectSet>) -> Self {
        Self { operation, from, objects: Some(objects) }
    }
}

/// What a message adds. `rows` is signed: a running COPY IN count is an estimate that the server's tag corrects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: i64,
    pub values: u64,
    pub messages: u64,
}

impl Counts {
    pub const ZERO: Self = Self { rows: 0, values: 0, messages: 0 };

    #[must_use]
    pub fn rows(rows: i64) -> Self {
        Self { rows, ..Self::ZERO }
    }
    #[must_use]
    pub fn values(values: u64) -> Self {
        Self { values, ..Self::ZERO }
    }
    #[must_use]
    pub fn messages(messages: u64) -> Self {
        Self { messages, ..Self::ZERO }
    }

    fn write(self, line: &mut Line) {
        line.raw("\"rows\":").signed(self.rows).raw(",\"values\":").number(self.values).raw(",\"messages\":").number(self.messages);
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.rows += more.rows;
        self.values += more.values;
        self.messages += more.messages;
    }
}

/// Who moves the data. A change of `account`, `role` or `application` ends the open windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    pub account: Option<String>,
    pub role: Option<String>,
    pub application: Option<String>,
    /// `startup`, `token`, `certificate`, `server-log`, `proxy-log`; `None` is written `unknown`.
    pub account_from: Option<&'static str>,
    /// What an application merely claims about its user; not part of the key.
    pub on_behalf_of: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// `none`, `tls1.0`…`tls1.3`, `opcua-none`, `opcua-sign`, `opcua-signandencrypt`.
    pub transport: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// OPC UA security policy, short name (`Basic256Sha256`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// `scram-sha-256`, `md5`, `password`, `trust`, `certificate`, `anonymous`, `username`, …
    pub authentication: Option<Cow<'static, str>>,
    pub certificate: Option<serde_json::Value>,
    /// Fingerprint of the client's TLS hello (JA4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    /// The hello may hide the name really asked for (Encrypted Client Hello); it cannot be told from one that only looks so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ech: bool,
}

impl Hash for Protection {
    /// By what most of them differ in.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.transport, &self.authentication, &self.cipher, &self.ja4).hash(state);
    }
}

impl Default for Protection {
    fn default() -> Self {
        Self { transport: "none".into(), cipher: None, policy: None, authentication: None, certificate: None, ja4: None, ech: false }
    }
}

/// How deep a connection is read: the `depth` of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Decoded,
    ServerLog,
    Sizes,
    Blind,
}

impl Depth {
    fn name(self) -> &'static str {
        match self {
            Self::Decoded => "decoded",
            Self::ServerLog => "server-log",
            Self::Sizes => "sizes",
            Self::Blind => "blind",
        }
    }
}

/// What is known of how completely a connection was seen; sticky, except the lost bytes, which count once.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    pub joined_late: bool,
    pub one_sided: bool,
    pub encrypted: bool,
    pub malformed: bool,
    pub lossy: bool,
    /// Since when it is known again that nothing is missing: windows that begin later are not lossy. [`NEVER`] if it is not.
    sound_ns: i64,
}

/// A time that does not come.
const NEVER: i64 = i64::MAX;

impl Default for Condition {
    fn default() -> Self {
        Self { joined_late: false, one_sided: false, encrypted: false, malformed: false, lossy: false, sound_ns: NEVER }
    }
}

impl Condition {
    /// The one word of the contract: the gravest condition first.
    fn state(self) -> &'static str {
        [
            (self.malformed, "malformed"),
            (self.lossy, "lossy"),
            (self.encrypted, "encrypted"),
            (self.one_sided, "one-sided"),
            (self.joined_late, "late"),
        ]
        .into_iter()
        .find_map(|(holds, name)| holds.then_some(name))
        .unwrap_or("complete")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
}

/// A name of the server and how it is known (`dns`, `sni`, `outer-sni`, `http`, `opcua`), or the destination that a
/// relay was asked for, with its port (`connect`, `absolute-form`, `socks`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub name: String,
    pub by: &'static str,
    pub port: Option<u16>,
}

/// What is known when a connection is first seen.
#[derive(Clone, Debug)]
pub struct Opening {
    pub client: Endpoint,
    pub server: Endpoint,
    pub opened_by: Option<Side>,
    pub transport: Arc<str>,
    pub tap: Option<Arc<str>>,
    pub context: Option<Arc<str>>,
    pub seen_by: &'static str,
    pub first_ns: i64,
}

/// What of an [`Opening`] is the same for many connections: transport, tap and context, and who saw it.
type Where = (Arc<str>, Option<Arc<str>>, Option<Arc<str>>, &'static str);

/// How it is written.
struct Setting {
    /// Plant, agent, tap and context; transport; who saw it.
    json: [Box<str>; 3],
    /// What the ids of flows begin with.
    hashed: Box<str>,
}

impl Setting {
    fn new(plant: &str, agent: &str, opening: &Opening) -> Self {
        let written = |write: &dyn Fn(&mut Line)| {
            let mut line = Line::default();
            write(&mut line);
            line.into_text()
        };
        let whose = written(&|line| {
            line.raw("\",\"plant\":").text(plant).raw(",\"agent\":").text(agent);
            line.raw(",\"tap\":").optional(opening.tap.as_deref()).raw(",\"context\":").optional(opening.context.as_deref());
            line.raw(",\"connection\":\"");
        });
        let transport = written(&|line| {
            line.raw(",\"transport\":").text(&opening.transport).raw(",\"protocol\":");
        });
        let seen_by = written(&|line| {
            line.raw(",\"seen_by\":").text(opening.seen_by).raw(",\"completeness\":{\"state\":");
        });
        Self {
            json: [whose, transport, seen_by],
            hashed: format!("{plant}{END}{agent}{END}{}{END}", opening.context.as_deref().unwrap_or_default()).into(),
        }
    }
}

/// An identity, and how it is written: account and role, application; and what of it the ids of flows are made of.
struct Named {
    value: Identity,
    json: [Box<str>; 2],
    hashed: Box<str>,
}

impl Named {
    fn new(value: Identity) -> Arc<Self> {
        let (mut first, mut second, mut hashed) = (Line::default(), Line::default(), Line::default());
        first.raw(",\"account\":").optional(value.account.as_deref());
        first.raw(",\"account_from\":").text(value.account_from.unwrap_or("unknown"));
        first.raw(",\"role\":").optional(value.role.as_deref()).raw(",\"on_behalf_of\":");
        second.raw(",\"application\":").optional(value.application.as_deref()).raw(",\"operation\":");
        for part in [&value.account, &value.role, &value.application] {
            // An absent part and an empty one must differ.
            match part {
                Some(part) => hashed.raw("=").raw(part),
                None => hashed.raw("-"),
            }
            .raw(END);
        }
        Arc::new(Self { json: [first.into_text(), second.into_text()], hashed: hashed.into_text(), value })
    }
}

/// Where a movement was counted last. A decoder keeps one beside each movement that it repeats: while the same window is
/// open, the next count finds its place without looking for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Of the window; 0 is the epoch of none.
    epoch: u32,
    flow: u16,
    set: u16,
}

/// The set of a movement without objects.
const NO_SET: u16 = u16::MAX;

impl Place {
    /// Whether what was counted here is in the window of another place, and of no objects.
    #[inline]
    pub(crate) fn is_beside(self, other: Self) -> bool {
        self.set == NO_SET && (self.epoch, self.flow) == (other.epoch, other.flow)
    }
}

/// Objects, what was counted of them, and their bytes.
type Set = (Arc<ObjectSet>, Counts, u64);

/// What few windows have.
#[derive(Default)]
struct More {
    /// What was counted of the first objects.
    first: Counts,
    /// The sets behind the first.
    sets: Vec<Set>,
    lost_bytes: u64,
}

/// What each count changes stands first.
#[derive(Default)]
#[repr(C)]
struct Window {
    end_ns: i64,
    bytes: u64,
    bytes_back: u64,
    packets: u64,
    counts: Counts,
    /// The first objects, and their bytes. All that the window counts was counted of them, unless there is `more`.
    first: Option<Arc<ObjectSet>>,
    first_bytes: u64,
    more: Option<Box<More>>,
    start_ns: i64,
}

impl Window {
    fn lost_bytes(&self) -> u64 {
        self.more.as_ref().map_or(0, |more| more.lost_bytes)
    }

    /// The sets behind the first.
    fn others(&self) -> &[Set] {
        self.more.as_ref().map_or(&[], |more| more.sets.as_slice())
    }

    /// From here on what was counted of the first objects is told apart from what the window counts.
    fn more(&mut self) -> &mut More {
        let counts = if self.first.is_some() { self.counts } else { Counts::ZERO };
        self.more.get_or_insert_with(|| Box::new(More { first: counts, ..More::default() }))
    }

    fn sets(&self) -> impl Iterator<Item = (&ObjectSet, Counts, u64)> {
        let counts = self.more.as_ref().map_or(self.counts, |more| more.first);
        let first = self.first.iter().map(move |objects| (&**objects, counts, self.first_bytes));
        first.chain(self.others().iter().map(|(objects, counts, bytes)| (&**objects, *counts, *bytes)))
    }

    fn sets_len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others().len()
    }

    /// Adds a set; where it stands.
    #[inline(never)]
    fn push(&mut self, objects: &Arc<ObjectSet>) -> usize {
        if self.first.is_some() {
            self.more().sets.push((Arc::clone(objects), Counts::ZERO, 0));
        } else {
            if self.counts != Counts::ZERO {
                self.more();
            }
            self.first = Some(Arc::clone(objects));
        }
        self.sets_len() - 1
    }

    /// Where a set stands. Nearly always it is the very one that was counted before.
    fn place_of(&self, objects: &Arc<ObjectSet>) -> Option<usize> {
        let last = |is_it: &dyn Fn(&Arc<ObjectSet>) -> bool| {
            let others = self.others().iter().rposition(|(set, ..)| is_it(set)).map(|at| at + 1);
            others.or_else(|| self.first.as_ref().filter(|set| is_it(set)).map(|_| 0))
        };
        last(&|set| Arc::ptr_eq(set, objects)).or_else(|| last(&|set| set == objects))
    }

    /// Counts what belongs to a set, or to none; false if there is no such set.
    #[inline(always)]
    fn count(&mut self, set: u16, bytes: u64, counts: Counts) -> bool {
        match (usize::from(set).checked_sub(1), &mut self.more) {
            (None, None) if self.first.is_none() => return false,
            (None, None) => self.first_bytes += bytes,
            (None, Some(more)) => {
                more.first.add(counts);
                self.first_bytes += bytes;
            }
            (Some(_), _) if set == NO_SET => {
                if counts != Counts::ZERO {
                    self.count_beside();
                }
            }
            (Some(at), more) => {
                let Some(set) = more.as_mut().and_then(|more| more.sets.get_mut(at)) else { return false };
                set.1.add(counts);
                set.2 += bytes;
            }
        }
        self.counts.add(counts);
        true
    }

    /// What belongs to no set is about to be counted.
    #[inline(never)]
    fn count_beside(&mut self) {
        if self.first.is_some() {
            self.more();
        }
    }
}

/// What a count looks at stands first.
#[repr(C)]
struct Flow {
    /// Distinguishes a window from the one before it in the queue of deadlines.
    epoch: u32,
    /// Stands for the identity's key: equal numbers, equal keys.
    key: u32,
    operation: Operation,
    from: Side,
    is_open: bool,
    estimated: bool,
    /// Something moved that nobody counted.
    uncounted: bool,
    /// Nothing is in it unless it is open.
    window: Window,
    identity: Arc<Named>,
    id: [u8; 16],
    sequence: u64,
    /// Of the windows that have ended.
    totals: Counts,
    total_bytes: u64,
    total_bytes_back: u64,
}

impl Flow {
    /// The window, if it is open.
    fn open(&self) -> Option<&Window> {
        self.is_open.then_some(&self.window)
    }
}

/// So many deadlines ahead, what they need is asked for.
const AHEAD: usize = 16;
/// Lines of the cache, at the most, in which what a count needs of a flow lies.
const COUNTED_LINES: usize = 3;

/// A protection as it is written.
struct Protected {
    value: Protection,
    json: Box<str>,
}

impl Protected {
    fn new(value: Protection) -> Arc<Self> {
        let json = serde_json::to_string(&value).expect("a protection serialises").into();
        Arc::new(Self { value, json })
    }

    fn none() -> Arc<Self> {
        static NONE: LazyLock<Arc<Protected>> = LazyLock::new(|| Protected::new(Protection::default()));
        Arc::clone(&NONE)
    }
}

/// The identity of a connection that nobody has named.
static NOBODY: LazyLock<Arc<Named>> = LazyLock::new(|| Named::new(Identity::default()));

/// Lies in one table with all others. What every packet looks at comes first.
#[repr(C, align(64))]
struct Connection {
    flows: Vec<Flow>,
    last: u32,
    key: u32,
    /// Stream bytes handed in and not yet claimed, by sender.
    pending: [u64; 2],
    packets: u64,
    turn: Turn,
    keys: u32,
    client: Endpoint,
    server: Endpoint,
    /// A number of [`Windows::protocols`].
    protocol: u16,
    depth: Depth,
    opened_by: Option<Side>,
    hash: [u8; 16],
    first_ns: i64,
    ordinal: u64,
    identity: Arc<Named>,
    protection: Arc<Protected>,
    setting: Arc<Setting>,
    condition: Condition,
    /// By side; `None`: none.
    names: Option<Box<[Vec<Name>; 2]>>,
    /// Of what was settled, by sender: a connection that only seemed over is read on, and its decoder claims what it carried.
    #[cfg(debug_assertions)]
    settled: [u64; 2],
}

/// What is counted at a place.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub place: Place,
    pub bytes: u64,
    /// Bytes of the same flow that belong to none of its objects.
    pub beside: u64,
    pub counts: Counts,
}

impl Connection {
    /// Adds to the window of a place if it is still open and has room. Nearly everything that is counted is counted here.
    #[inline(always)]
    fn add_here(&mut self, part: Part, sender: Side, time_ns: i64) -> bool {
        let Part { place, bytes, beside, counts } = part;
        let all = bytes + beside;
        let Some(flow) = self.flows.get_mut(usize::from(place.flow)) else { return false };
        if !(flow.is_open && flow.epoch == place.epoch) {
            return false;
        }
        let window = &mut flow.window;
        let pending = &mut self.pending[sender as usize];
        // What makes the window full takes the long way; so does a claim beyond what arrived. It is open, so it has fewer rows.
        let full =
            (counts.rows != 0 && window.counts.rows + counts.rows >= ROWS_MAX) || window.bytes + window.bytes_back + all >= BYTES_MAX;
        if full || all > *pending {
            return false;
        }
        let (forward, back) = if sender == flow.from { (all, 0) } else { (0, all) };
        if !window.count(place.set, if sender == flow.from { bytes } else { 0 }, counts) {
            return false;
        }
        *pending -= all;
        window.end_ns = window.end_ns.max(time_ns);
        window.packets += std::mem::take(&mut self.packets);
        window.bytes += forward;
        window.bytes_back += back;
        self.last = place.flow.into();
        true
    }
}

pub type ConnectionId = usize;

/// Of windows that end at one moment, which goes first. A number, free again when its connection is forgotten.
pub type Turn = u32;

/// Counters of the windows; all grow only.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowCounters {
    pub windows_total: u64,
    /// Windows that were given longer than [`WINDOW_NS`].
    pub long_windows_total: u64,
    pub flows_folded_total: u64,
    pub names_dropped_total: u64,
    pub losses_total: u64,
    /// Times that a decoder's table or queue was full and something went out as `unknown` instead.
    pub bounds_reached_total: u64,
}

/// What was not seen, or could not be read.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    /// `kernel`, `capture`, `stream`, `decoder`, `spool` or `collector`.
    pub stage: &'static str,
    pub start_ns: i64,
    pub end_ns: i64,
    pub packets: u64,
    pub bytes: u64,
    /// Ids of the flows it hit.
    pub flows: Vec<String>,
    pub why: String,
}

/// Builds flow events from observations, of packets or of any other source.
pub struct Windows {
    plant: String,
    agent: String,
    connections: Vec<Option<Connection>>,
    free: Vec<ConnectionId>,
    /// How many turns were given, and those that are free again.
    turns: Turn,
    free_turns: Vec<Turn>,
    due: Due,
    /// How many windows are open.
    open: usize,
    epoch: u32,
    names: HashMap<(IpAddr, IpAddr), Vec<(String, i64)>>,
    ready: Ready,
    /// Where ids are made.
    scratch: Line,
    clock: Clock,
    settings: Map<Where, Arc<Setting>>,
    identities: Map<Identity, Arc<Named>>,
    protections: Map<Protection, Arc<Protected>>,
    /// Those that connections were said to speak; the first is none.
    protocols: Vec<Option<&'static str>>,
    shared: Shared,
    pub counters: WindowCounters,
}

impl Windows {
    #[must_use]
    pub fn new(plant: &str, agent: &str) -> Self {
        Self {
            plant: plant.into(),
            agent: agent.into(),
            connections: Vec::new(),
            free: Vec::new(),
            turns: 0,
            free_turns: Vec::new(),
            due: Due::default(),
            open: 0,
            epoch: 0,
            names: HashMap::new(),
            ready: Ready::default(),
            scratch: Line::default(),
            clock: Clock::default(),
            settings: Map::default(),
            identities: Map::default(),
            protections: Map::default(),
            protocols: vec![None],
            shared: Shared::default(),
            counters: WindowCounters::default(),
        }
    }

    #[must_use]
    pub fn plant(&self) -> &str {
        &self.plant
    }

    /// Statements that the decoders share and that were let go because there were too many.
    #[must_use]
    pub fn statements_forgotten_total(&self) -> u64 {
        self.shared.statements.forgotten_total
            + self.shared.texts.forgotten_total
            + self.shared.batches.forgotten_total
            + self.shared.oracle.forgotten_total
    }

    #[must_use]
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Begins a connection. Names that its client was told for the server's address (DNS) hold from now on.
    pub fn open(&mut self, opening: Opening) -> ConnectionId {
        self.open_again(opening, 0)
    }

    /// The same for a connection whose ends and first time may be those of an earlier one: another `ordinal` (0: there is
    /// no doubt) gives other ids.
    pub fn open_again(&mut self, opening: Opening, ordinal: u64) -> ConnectionId {
        let asked = self.names_of(opening.client.address, opening.server.address, opening.first_ns);
        let back = self.names_of(opening.server.address, opening.client.address, opening.first_ns);
        let hash = connection_hash(&mut self.scratch, &self.plant, &opening);
        let names = if back.is_empty() && asked.is_empty() { None } else { Some(Box::new([back, asked])) };
        let setting = self.setting_of(&opening);
        let turn = self.free_turns.pop().unwrap_or_else(|| {
            self.turns += 1;
            self.turns - 1
        });
        let connection = Connection {
            turn,
            hash,
            protocol: 0,
            identity: Arc::clone(&NOBODY),
            key: 0,
            keys: 0,
            protection: Protected::none(),
            depth: Depth::Sizes,
            condition: Condition::default(),
            names,
            flows: Vec::new(),
            last: 0,
            pending: [0; 2],
            #[cfg(debug_assertions)]
            settled: [0; 2],
            packets: 0,
            ordinal,
            opened_by: opening.opened_by,
            client: opening.client,
            server: opening.server,
            first_ns: opening.first_ns,
            setting,
        };
        if let Some(id) = self.free.pop() {
            self.connections[id] = Some(connection);
            id
        } else {
            self.connections.push(Some(connection));
            self.connections.len() - 1
        }
    }

    #[must_use]
    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.connections.get(connection).is_some_and(Option::is_some)
    }

    /// Asks for what a recorder of `connection` is going to look at first; `flows`: what it looks at next, if the first has come.
    pub(crate) fn soon(&self, connection: ConnectionId, flows: bool) {
        let Some(place) = self.connections.get(connection) else { return };
        if !flows {
            soon(place);
        } else if let Some(connection) = place {
            // What a message says is mostly of two flows: what was asked, and the session.
            let last = connection.last as usize;
            let others = connection.flows.iter().take(2);
            others.chain(connection.flows.get(last).filter(|_| last >= 2)).for_each(|flow| soon_lines(flow, COUNTED_LINES));
        }
    }

    /// Asks for all that is told of a flow, if its connection has come.
    fn soon_flow(&self, connection: ConnectionId, flow: usize) {
        if let Some(Some(connection)) = self.connections.get(connection) {
            soon(connection);
            if let Some(flow) = connection.flows.get(flow) {
                soon(flow);
            }
        }
    }

    /// Asks for what [`Windows::settle`] is going to look at, as [`Windows::soon`] in two steps.
    pub(crate) fn soon_settled(&self, connection: ConnectionId, flows: bool) {
        if !flows {
            self.soon(connection, false);
            return;
        }
        let Some(Some(connection)) = self.connections.get(connection) else { return };
        soon(connection);
        connection.flows.iter().take(2).for_each(soon);
    }

    /// A recorder of what is observed on `connection` at `time_ns`.
    ///
    /// # Panics
    /// If the connection was closed: a caller's bug.
    #[inline]
    pub fn recorder(&mut self, connection: ConnectionId, time_ns: i64) -> Recorder<'_> {
        assert!(self.is_open(connection), "connection {connection} is closed");
        Recorder { windows: self, connection, time_ns }
    }

    /// Ends every window whose time has passed.
    #[inline]
    pub fn advance(&mut self, now_ns: i64) {
        if self.due.is_due(now_ns) {
            self.end_due(now_ns);
        }
    }

    #[inline(never)]
    fn end_due(&mut self, now_ns: i64) {
        while let Some(Deadline { connection, flow, epoch, .. }) = self.due.next(now_ns) {
            // Of very many windows each waits for memory, in no order: what the next ones will need is asked for.
            if let Some(later) = self.due.ahead(AHEAD) {
                self.soon(later.connection as usize, false);
            }
            if let Some(later) = self.due.ahead(AHEAD / 2) {
                self.soon_flow(later.connection as usize, usize::from(later.flow));
            }
            let (id, flow) = (connection as usize, usize::from(flow));
            let current = self.connections.get(id).and_then(|c| c.as_ref()).and_then(|c| c.flows.get(flow));
            if current.is_some_and(|f| f.epoch == epoch && f.is_open) {
                self.emit(id, flow, false);
            }
        }
    }

    /// Ends a connection: unclaimed bytes are settled, open windows go out as final.
    pub fn close(&mut self, id: ConnectionId, time_ns: i64) {
        if !self.is_open(id) {
            return;
        }
        self.settle(id, time_ns);
        if let Some(turn) = self.let_go(id) {
            self.forget(turn);
        }
    }

    /// Lets go of a connection that is settled and of which nothing more can come. It is closed but for its turn, which is no
    /// other's before it is forgotten.
    pub(crate) fn let_go(&mut self, id: ConnectionId) -> Option<Turn> {
        let connection = self.connections.get_mut(id)?.take()?;
        debug_assert!(connection.flows.iter().all(|flow| !flow.is_open), "its windows went out");
        self.free.push(id);
        Some(connection.turn)
    }

    /// The turn may be another connection's.
    pub(crate) fn forget(&mut self, turn: Turn) {
        self.free_turns.push(turn);
    }

    /// The connection seems over: unclaimed bytes are settled and its open windows go out as final. What still arrives
    /// opens another window.
    pub fn settle(&mut self, id: ConnectionId, time_ns: i64) {
        self.recorder(id, time_ns).settle();
        for flow in 0..self.connection(id).flows.len() {
            self.emit(id, flow, true);
        }
    }

    /// Ends all connections, in the order in which they were first seen.
    pub fn finish(&mut self) {
        let mut open: Vec<_> =
            self.connections.iter().enumerate().filter_map(|(id, c)| c.as_ref().map(|c| (c.first_ns, c.hash, c.turn, id))).collect();
        open.sort();
        for (_, _, _, id) in open {
            let last_ns = self.connection(id).flows.iter().filter_map(|f| f.open().map(|window| window.end_ns)).max();
            let first_ns = self.connection(id).first_ns;
            self.close(id, last_ns.unwrap_or(first_ns));
        }
    }

    /// The events that are ready, one JSON object each, oldest first.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let mut lines = Vec::with_capacity(self.ready.len());
        self.take_each(|line| lines.push(line.to_vec()));
        lines
    }

    /// The same one by one, as they lie in memory.
    pub fn take_each(&mut self, each: impl FnMut(&[u8])) {
        self.ready.iter().for_each(each);
        self.ready.clear();
    }

    /// How many events are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Adds a loss event in its place among the windows.
    pub fn loss(&mut self, loss: &Loss) {
        let (start, end) = (rfc3339(loss.start_ns), rfc3339(loss.end_ns));
        // Losses have no key of their own: their order tells equal ones apart.
        let number = self.counters.losses_total.to_string();
        self.counters.losses_total += 1;
        let out = LossOut {
            kind: "loss",
            event_id: hex(&hash(&[&self.plant, &self.agent, "loss", loss.stage, &start, &end, &loss.why, &number])),
            plant: &self.plant,
            agent: &self.agent,
            stage: loss.stage,
            start,
            end,
            packets: loss.packets,
            bytes: loss.bytes,
            events: 0,
            flows: &loss.flows,
            why: &loss.why,
        };
        self.ready.next().raw(&serde_json::to_string(&out).expect("a loss serialises"));
        self.ready.ended();
    }

    /// Remembers a DNS answer: `client` was told that `name` has `address` until `expires_ns`.
    pub fn answered(&mut self, client: IpAddr, address: IpAddr, name: &str, now_ns: i64, expires_ns: i64) {
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(&(client, address)) {
            let before = self.names.len();
            self.names.retain(|_, names| names.iter().any(|(_, until)| *until > now_ns));
            if self.names.len() >= NAMES_MAX {
                self.names.clear();
            }
            self.counters.names_dropped_total += (before - self.names.len()) as u64;
        }
        let names = self.names.entry((client, address)).or_default();
        if let Some(known) = names.iter_mut().find(|(known, _)| known == name) {
            known.1 = known.1.max(expires_ns);
            return;
        }
        if names.len() >= NAMES_OF_ADDRESS_MAX {
            names.remove(0);
            self.counters.names_dropped_total += 1;
        }
        names.push((name.to_owned(), expires_ns));
    }

    pub(crate) fn names_of(&self, client: IpAddr, address: IpAddr, now_ns: i64) -> Vec<Name> {
        if self.names.is_empty() {
            return Vec::new();
        }
        let known = self.names.get(&(client, address));
        let mut names: Vec<_> = known
            .into_iter()
            .flatten()
            .filter(|(_, until)| *until >= now_ns)
            .map(|(name, _)| Name { name: name.clone(), by: "dns", port: None })
            .collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names
    }

    /// The number of a protocol's name; those of the registry and of the plug-ins are few.
    fn protocol_number(&mut self, name: &'static str) -> u16 {
        let known = self.protocols.iter().position(|known| *known == Some(name));
        known.unwrap_or_else(|| {
            self.protocols.push(Some(name));
            self.protocols.len() - 1
        }) as u16
    }

    fn setting_of(&mut self, opening: &Opening) -> Arc<Setting> {
        let of = (Arc::clone(&opening.transport), opening.tap.clone(), opening.context.clone(), opening.seen_by);
        if let Some(known) = self.settings.get(&of) {
            return Arc::clone(known);
        }
        if self.settings.len() >= INTERNED_MAX {
            self.settings.clear();
        }
        let setting = Arc::new(Setting::new(&self.plant, &self.agent, opening));
        self.settings.insert(of, Arc::clone(&setting));
        setting
    }

    /// The same identity, of which there is one copy.
    fn interned(&mut self, identity: Identity) -> Arc<Named> {
        if let Some(known) = self.identities.get(&identity) {
            return Arc::clone(known);
        }
        if self.identities.len() >= INTERNED_MAX {
            self.identities.clear();
        }
        let named = Named::new(identity.clone());
        self.identities.insert(identity, Arc::clone(&named));
        named
    }

    fn protected(&mut self, value: Protection) -> Arc<Protected> {
        if let Some(known) = self.protections.get(&value) {
            return Arc::clone(known);
        }
        if self.protections.len() >= INTERNED_MAX {
            self.protections.clear();
        }
        let protected = Protected::new(value.clone());
        self.protections.insert(value, Arc::clone(&protected));
        protected
    }

    #[inline(always)]
    fn connection(&mut self, id: ConnectionId) -> &mut Connection {
        self.connections[id].as_mut().expect("the connection is open")
    }

    fn flow(&mut self, id: ConnectionId, operation: Operation, from: Side) -> usize {
        let connection = self.connection(id);
        let key = connection.key;
        let same = |f: &Flow| f.operation == operation && f.from == from && f.key == key;
        if connection.flows.get(connection.last as usize).is_some_and(same) {
            return connection.last as usize;
        }
        if let Some(index) = connection.flows.iter().position(same) {
            return index;
        }
        if connection.flows.len() >= FLOWS_MAX {
            self.counters.flows_folded_total += 1;
            return FLOWS_MAX - 1;
        }
        let identity = Arc::clone(&connection.identity);
        let mut line = std::mem::take(&mut self.scratch);
        let known = self.connections[id].as_ref().expect("open");
        let id_hash = flow_hash(&mut line, known, &identity, operation, from);
        self.scratch = line;
        let connection = self.connection(id);
        // Most connections have one; of a session that begins with a login follows another.
        let room = if connection.flows.is_empty() && operation == Operation::Connect { 2 } else { 1 };
        if connection.flows.len() < 4 && connection.flows.len() == connection.flows.capacity() {
            connection.flows.reserve_exact(room);
        }
        connection.flows.push(Flow {
            operation,
            from,
            identity,
            key,
            id: id_hash,
            sequence: 0,
            totals: Counts::ZERO,
            total_bytes: 0,
            total_bytes_back: 0,
            is_open: false,
            estimated: false,
            uncounted: false,
            window: Window::default(),
            epoch: 0,
        });
        connection.flows.len() - 1
    }

    fn emit(&mut self, id: ConnectionId, flow_index: usize, is_final: bool) {
        let connection = self.connections[id].as_mut().expect("the connection is open");
        let flow = &mut connection.flows[flow_index];
        if !std::mem::take(&mut flow.is_open) {
            return;
        }
        let window = std::mem::take(&mut flow.window);
        let (estimated, uncounted) = (std::mem::take(&mut flow.estimated), std::mem::take(&mut flow.uncounted));
        self.open -= 1;
        let setting = &*connection.setting;
        let mut condition = connection.condition;
        condition.lossy &= window.start_ns <= condition.sound_ns;
        condition.lossy |= window.lost_bytes() > 0 || uncounted;
        flow.totals.add(window.counts);
        flow.total_bytes += window.bytes;
        flow.total_bytes_back += window.bytes_back;
        let statement = window.first.as_ref().and_then(|set| set.statement.as_deref());
        let one_statement = window.others().iter().all(|(set, ..)| set.statement.as_deref() == statement);
        let event_id = event_hash(&mut self.scratch, &flow.id, flow.sequence);
        let line = self.ready.next();
        line.raw("{\"kind\":\"flow\",\"event_id\":\"").hex(&event_id).raw(&setting.json[0]);
        line.hex(&connection.hash).raw("\",\"flow_id\":\"").hex(&flow.id);
        line.raw("\",\"sequence\":").number(flow.sequence).raw(",\"final\":").bool(is_final);
        line.raw(",\"start\":\"").time_by(&mut self.clock, window.start_ns).raw("\",\"end\":\"").time_by(&mut self.clock, window.end_ns);
        for (role, side) in [("\",\"source\":{\"address\":", flow.from), (",\"destination\":{\"address\":", flow.from.other())] {
            let end = if side == Side::Client { &connection.client } else { &connection.server };
            line.raw(role).address(end.address).raw(",\"port\":").number(end.port.into()).raw(",\"names\":");
            let names = connection.names.as_ref().map_or(&[][..], |names| names[side as usize].as_slice());
            line.each(names, |line, name| {
                line.raw("{\"name\":").text(&name.name).raw(",\"by\":").text(name.by);
                if let Some(port) = name.port {
                    line.raw(",\"port\":").number(port.into());
                }
                line.raw("}");
            });
            line.raw("}");
        }
        let opened_by = connection.opened_by.map(|side| if side == flow.from { "source" } else { "destination" });
        line.raw(",\"opened_by\":")
            .word(opened_by)
            .raw(&setting.json[1])
            .word(self.protocols.get(usize::from(connection.protocol)).copied().flatten());
        let [account, application] = &flow.identity.json;
        line.raw(account).optional(connection.identity.value.on_behalf_of.as_deref()).raw(application);
        line.word(Some(flow.operation.name()));
        line.raw(",\"statement\":").optional(statement.filter(|_| one_statement)).raw(",\"objects\":");
        line.each(window.sets(), |line, (set, counts, bytes)| {
            line.raw("{\"names\":").texts(&set.names).raw(",\"columns\":").texts(&set.columns).raw(",");
            counts.write(line);
            line.raw(",\"bytes\":").number(bytes);
            if !set.marks.is_empty() {
                line.raw(",\"marks\":").each(&set.marks, |line, mark| {
                    line.text(mark);
                });
            }
            line.raw("}");
        });
        line.raw(",");
        window.counts.write(line);
        line.raw(",\"bytes\":").number(window.bytes).raw(",\"bytes_back\":").number(window.bytes_back);
        line.raw(",\"packets\":").number(window.packets).raw(",\"totals\":{");
        flow.totals.write(line);
        line.raw(",\"bytes\":").number(flow.total_bytes).raw(",\"bytes_back\":").number(flow.total_bytes_back);
        line.raw("},\"protection\":").raw(&connection.protection.json).raw(",\"depth\":").word(Some(connection.depth.name()));
        line.raw(&setting.json[2]).word(Some(condition.state()));
        line.raw(",\"lost_bytes\":").number(window.lost_bytes()).raw(",\"joined_late\":").bool(condition.joined_late);
        line.raw(",\"one_sided\":").bool(condition.one_sided).raw(",\"estimated\":").bool(estimated).raw("}}");
        self.ready.ended();
        flow.sequence += 1;
        self.counters.windows_total += 1;
    }

    /// Opens the window of a flow if it is closed.
    fn window(&mut self, id: ConnectionId, flow_index: usize, time_ns: i64) -> &mut Window {
        let connection = self.connections[id].as_mut().expect("the connection is open");
        connection.last = flow_index as u32;
        let packets = std::mem::take(&mut connection.packets);
        let flow = &mut connection.flows[flow_index];
        if !flow.is_open {
            self.epoch = self.epoch.wrapping_add(1).max(1);
            flow.epoch = self.epoch;
            let lasts_ns = if flow.sequence == 0 { WINDOW_NS } else { lasts_ns(self.open) };
            let at_ns = time_ns.saturating_add(lasts_ns);
            self.open += 1;
            self.counters.long_windows_total += u64::from(lasts_ns > WINDOW_NS);
            let (turn, connection) = (connection.turn, id as u32);
            self.due.note(Deadline { at_ns, turn, flow: flow_index as u16, epoch: self.epoch, connection });
        }
        let window = &mut flow.window;
        if !std::mem::replace(&mut flow.is_open, true) {
            (window.start_ns, window.end_ns) = (time_ns, time_ns);
        }
        window.end_ns = window.end_ns.max(time_ns);
        window.packets += packets;
        window
    }
}

/// How long a window lasts that is opened beside so many others.
fn lasts_ns(open: usize) -> i64 {
    LASTS_MAX.min(1 + (open / SHORT_WINDOWS_MAX) as i64) * WINDOW_NS
}

/// What decoders speak to: everything they learn about one connection at one moment.
pub struct Recorder<'a> {
    windows: &'a mut Windows,
    connection: ConnectionId,
    pub time_ns: i64,
}

impl Recorder<'_> {
    #[inline(always)]
    fn connection(&mut self) -> &mut Connection {
        self.windows.connection(self.connection)
    }

    /// `bytes` of the stream sent by `sender`, and `counts`, belong to `movement`. Bytes beyond those that arrived
    /// and are unclaimed are not counted (a decoder's bug must not create bytes).
    pub fn add(&mut self, movement: &Movement, sender: Side, bytes: u64, counts: Counts) {
        self.add_elsewhere(movement, &mut Place::default(), sender, bytes, counts);
    }

    /// As [`Self::add`], for a movement that was counted before: `place` is where, and is kept up to date.
    #[inline]
    pub fn add_at(&mut self, movement: &Movement, place: &mut Place, sender: Side, bytes: u64, counts: Counts) {
        if !self.add_here(*place, sender, bytes, counts) {
            self.add_elsewhere(movement, place, sender, bytes, counts);
        }
    }

    /// Two pieces of one message, its head with `counts`, then its body if there is any of it: as one, unless the window
    /// ends between them.
    pub fn add_both(&mut self, movement: &Movement, place: &mut Place, sender: Side, [head, body]: [u64; 2], counts: Counts) {
        if self.add_here(*place, sender, head + body, counts) {
            return;
        }
        self.add_at(movement, place, sender, head, counts);
        if body > 0 {
            self.add_at(movement, place, sender, body, Counts::ZERO);
        }
    }

    /// Adds to the window of `place` if it is still open and has room.
    #[inline]
    fn add_here(&mut self, place: Place, sender: Side, bytes: u64, counts: Counts) -> bool {
        let Some(Some(connection)) = self.windows.connections.get_mut(self.connection) else { return false };
        connection.add_here(Part { place, bytes, beside: 0, counts }, sender, self.time_ns)
    }

    /// The same for one part of several that a message has: what it does not count costs nothing.
    #[inline(always)]
    pub(crate) fn add_part(&mut self, part: Part, sender: Side) -> bool {
        let Some(Some(connection)) = self.windows.connections.get_mut(self.connection) else { return false };
        connection.add_here(part, sender, self.time_ns)
    }

    /// A decoder claims what arrived, and once more at the most what was settled meanwhile.
    #[cfg(debug_assertions)]
    fn check_claim(&mut self, sender: Side, bytes: u64) {
        let connection = self.connection();
        let (pending, settled) = (connection.pending[sender as usize], &mut connection.settled[sender as usize]);
        let again = bytes.saturating_sub(pending);
        assert!(again <= *settled, "a decoder claimed {bytes} bytes of {pending}");
        *settled -= again;
    }

    fn add_elsewhere(&mut self, movement: &Movement, place: &mut Place, sender: Side, bytes: u64, counts: Counts) {
        let flow = self.windows.flow(self.connection, movement.operation, movement.from);
        #[cfg(debug_assertions)]
        self.check_claim(sender, bytes);
        let pending = &mut self.connection().pending[sender as usize];
        let bytes = bytes.min(*pending);
        *pending -= bytes;
        if let Some(objects) = &movement.objects {
            self.room_for(flow, objects);
        }
        let time_ns = self.time_ns;
        let window = self.windows.window(self.connection, flow, time_ns);
        let forward = sender == movement.from;
        if forward {
            window.bytes += bytes;
        } else {
            window.bytes_back += bytes;
        }
        let place_of_set = match &movement.objects {
            Some(objects) => window.place_of(objects).unwrap_or_else(|| window.push(objects)) as u16,
            None => NO_SET,
        };
        window.count(place_of_set, if forward { bytes } else { 0 }, counts);
        let full = window.counts.rows >= ROWS_MAX || window.bytes + window.bytes_back >= BYTES_MAX;
        let known = &self.connection().flows[flow];
        // One that stands for flows beyond the bound may go the other way: it keeps no place.
        if known.from == movement.from {
            *place = Place { epoch: known.epoch, flow: flow as u16, set: place_of_set };
        }
        if full {
            self.windows.emit(self.connection, flow, false);
        }
    }

    /// What the decoders of this sensor share.
    pub(crate) fn shared(&mut self) -> &mut Shared {
        &mut self.windows.shared
    }

    /// Ends the flow's window if it has no room for one more object set.
    fn room_for(&mut self, flow: usize, objects: &Arc<ObjectSet>) {
        let open = self.connection().flows[flow].open();
        if open.is_some_and(|window| window.sets_len() >= OBJECTS_MAX && window.place_of(objects).is_none()) {
            self.windows.emit(self.connection, flow, false);
        }
    }

    /// Marks the open window of `movement` as holding an estimate (a running COPY IN).
    pub fn estimated(&mut self, movement: &Movement) {
        let flow = self.windows.flow(self.connection, movement.operation, movement.from);
        let time_ns = self.time_ns;
        self.windows.window(self.connection, flow, time_ns);
        self.connection().flows[flow].estimated = true;
    }

    /// Changes who moves the data; a change of account, role or application ends the open windows.
    pub fn identify(&mut self, change: impl FnOnce(&mut Identity)) {
        self.become_identity(change, false);
    }

    /// As [`Self::identify`], of a login: what the connection has said so far to bring it about is the account's, if it
    /// was under no name and is untold. So one session is one `connect` flow, not a nameless one and a named one.
    pub fn login(&mut self, change: impl FnOnce(&mut Identity)) {
        self.become_identity(change, true);
    }

    fn become_identity(&mut self, change: impl FnOnce(&mut Identity), login: bool) {
        let before = Arc::clone(&self.connection().identity);
        let mut identity = before.value.clone();
        change(&mut identity);
        if identity == before.value {
            return;
        }
        let identity = self.windows.interned(identity);
        if !same_key(&identity.value, &before.value) {
            let connection = self.connection();
            let known = connection.flows.iter().find(|flow| same_key(&flow.identity.value, &identity.value)).map(|flow| flow.key);
            connection.keys += u32::from(known.is_none());
            let key = known.unwrap_or(connection.keys);
            let named = login && before.value.account.is_none() && identity.value.account.is_some();
            for index in 0..self.connection().flows.len() {
                if !(named && self.adopt(index, &identity, key)) {
                    self.windows.emit(self.connection, index, false);
                }
            }
            self.connection().key = key;
        }
        self.connection().identity = identity;
    }

    /// Gives the first, still open window of a login to the account that it named; false if it is not one.
    fn adopt(&mut self, index: usize, identity: &Arc<Named>, key: u32) -> bool {
        let Recorder { windows, connection, .. } = self;
        let connection = windows.connections[*connection].as_mut().expect("the connection is open");
        let flow = &connection.flows[index];
        // A loss event may already have named the flow by its id.
        let untold = flow.sequence == 0 && flow.open().is_some_and(|window| window.lost_bytes() == 0);
        let entry = matches!(flow.operation, Operation::Connect | Operation::Transfer);
        if !entry || !untold || flow.key != connection.key {
            return false;
        }
        let id = flow_hash(&mut windows.scratch, connection, identity, flow.operation, flow.from);
        if connection.flows.iter().any(|f| f.id == id) {
            return false;
        }
        let flow = &mut connection.flows[index];
        flow.id = id;
        flow.identity = Arc::clone(identity);
        flow.key = key;
        true
    }

    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.windows.connections[self.connection].as_ref().expect("the connection is open").identity.value
    }

    /// How the client has proved who it is, as far as that is known.
    #[must_use]
    pub fn authentication(&self) -> Option<&str> {
        self.windows.connections[self.connection].as_ref().expect("the connection is open").protection.value.authentication.as_deref()
    }

    pub fn protect(&mut self, change: impl FnOnce(&mut Protection)) {
        let mut value = self.connection().protection.value.clone();
        change(&mut value);
        if value != self.connection().protection.value {
            self.connection().protection = self.windows.protected(value);
        }
    }

    /// Names the protocol and how deep it is read from now on.
    pub fn protocol(&mut self, name: &'static str, depth: Depth) {
        let number = self.windows.protocol_number(name);
        let connection = self.connection();
        connection.protocol = number;
        connection.depth = depth;
    }

    pub fn depth(&mut self, depth: Depth) {
        self.connection().depth = depth;
    }

    pub fn condition(&mut self, change: impl FnOnce(&mut Condition)) {
        change(&mut self.connection().condition);
    }

    /// Bytes are missing, and with them what nobody can know: every window is marked from here on.
    pub fn gapped(&mut self) {
        self.condition(|c| (c.lossy, c.sound_ns) = (true, NEVER));
    }

    /// Messages are read from their beginning again, and answers known by their requests: windows that begin later hold all that
    /// was said, and are marked no more.
    pub fn sound(&mut self) {
        let now_ns = self.time_ns;
        self.condition(|c| c.sound_ns = now_ns);
    }

    /// A name that the client used for the server (SNI, Host, endpoint URL).
    pub fn server_name(&mut self, name: &str, by: &'static str) {
        let names = &mut self.connection().names.get_or_insert_default()[Side::Server as usize];
        if names.iter().any(|n| n.name == name && n.by == by) {
            return;
        }
        if names.len() < NAMES_OF_ADDRESS_MAX {
            names.push(Name { name: name.to_owned(), by, port: None });
        } else {
            self.windows.counters.names_dropped_total += 1;
        }
    }

    /// The destination that the client asks a relay for from now on. Another one than before ends the open windows, so
    /// that no window holds what went to two destinations.
    pub fn asked(&mut self, asked: Option<&Name>) {
        let connection = self.connection();
        let names = connection.names.as_ref().map_or(&[][..], |names| names[Side::Server as usize].as_slice());
        if names.iter().find(|n| n.port.is_some()) == asked {
            return;
        }
        if !connection.flows.is_empty() {
            self.cut();
        }
        let names = &mut self.connection().names.get_or_insert_default()[Side::Server as usize];
        names.retain(|n| n.port.is_none());
        if let Some(asked) = asked {
            names.insert(0, asked.clone());
        }
    }

    /// Ends the open windows: what follows is of another kind (another destination, encrypted from here).
    pub fn cut(&mut self) {
        for flow in 0..self.connection().flows.len() {
            self.windows.emit(self.connection, flow, false);
        }
    }

    /// A DNS answer to this connection's client.
    pub fn answered(&mut self, address: IpAddr, name: &str, ttl_s: u32) {
        let client = self.connection().client.address;
        let (now_ns, ttl_ns) = (self.time_ns, i64::from(ttl_s) * 1_000_000_000);
        self.windows.answered(client, address, name, now_ns, now_ns.saturating_add(ttl_ns));
    }

    /// Stream bytes that arrived from `sender`, to be claimed by [`Self::add`]. Called by the stream layer only.
    #[inline]
    pub fn arrived(&mut self, sender: Side, bytes: u64) {
        let connection = self.connection();
        connection.pending[sender as usize] += bytes;
    }

    /// A bounded table or queue of the decoder was full: what it would have told goes out as `unknown`.
    pub fn bound_reached(&mut self) {
        self.windows.counters.bounds_reached_total += 1;
    }

    /// One packet of the connection; counted in the window that is touched next.
    #[inline]
    pub fn packet(&mut self) {
        self.connection().packets += 1;
    }

    /// Stream bytes that were never seen, in the place where they are missing; returns the id of the flow they hit.
    pub fn lost(&mut self, bytes: u64) -> String {
        let (flow, time_ns) = (self.last_flow(), self.time_ns);
        self.windows.window(self.connection, flow, time_ns).more().lost_bytes += bytes;
        hex(&self.connection().flows[flow].id)
    }

    /// Bytes from `sender` that arrived and that nobody has claimed.
    #[must_use]
    pub fn pending(&self, sender: Side) -> u64 {
        self.windows.connections[self.connection].as_ref().expect("the connection is open").pending[sender as usize]
    }

    /// Claims what is left for the last flow (`transfer` if there is none).
    pub fn settle(&mut self) {
        for sender in [Side::Client, Side::Server] {
            let bytes = self.pending(sender);
            if bytes > 0 {
                let flow = self.last_flow();
                let flow = &self.connection().flows[flow];
                let movement = Movement::new(flow.operation, flow.from);
                self.add(&movement, sender, bytes, Counts::ZERO);
            }
            #[cfg(debug_assertions)]
            {
                self.connection().settled[sender as usize] += bytes;
            }
        }
        let connection = self.connection();
        if connection.packets > 0 && connection.flows.get(connection.last as usize).is_some_and(|f| f.is_open) {
            let (last, time_ns) = (connection.last as usize, self.time_ns);
            self.windows.window(self.connection, last, time_ns);
        }
    }

    fn last_flow(&mut self) -> usize {
        if self.connection().flows.is_empty() {
            let from = self.connection().opened_by.unwrap_or(Side::Client);
            return self.windows.flow(self.connection, Operation::Transfer, from);
        }
        self.connection().last as usize
    }
}

fn same_key(a: &Identity, b: &Identity) -> bool {
    a.account == b.account && a.role == b.role && a.application == b.application
}

/// Ends each part of what is hashed; it occurs in none of them.
const END: &str = "\u{1f}";

/// The first 16 bytes of SHA-256 over the parts, each ended by [`END`].
fn hash(parts: &[&str]) -> [u8; 16] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part.as_bytes());
        sha.update(END);
    }
    let digest = sha.finalize();
    let mut out = [0; 16];
    out.copy_from_slice(&digest[..16]);
    out
}

fn connection_hash(line: &mut Line, plant: &str, opening: &Opening) -> [u8; 16] {
    line.0.clear();
    line.raw(plant).raw(END).raw(&opening.transport).raw(END);
    let start = line.0.len();
    line.host(opening.client.address).raw(" ").number(opening.client.port.into()).raw(END);
    let middle = line.0.len();
    line.host(opening.server.address).raw(" ").number(opening.server.port.into()).raw(END);
    // As text, the lesser end comes first; what ends each is less than anything in it.
    if line.0.get(start..middle) > line.0.get(middle..) {
        line.0[start..].rotate_left(middle - start);
    }
    first_16(&line.0)
}

fn flow_hash(line: &mut Line, connection: &Connection, identity: &Named, operation: Operation, from: Side) -> [u8; 16] {
    line.0.clear();
    line.raw(&connection.setting.hashed).hex(&connection.hash);
    line.raw(if from == Side::Client { "\u{1f}client\u{1f}" } else { "\u{1f}server\u{1f}" });
    line.raw(&identity.hashed).raw(operation.name()).raw(END).signed(connection.first_ns);
    if connection.ordinal != 0 {
        line.raw(" ").number(connection.ordinal);
    }
    line.raw(END);
    first_16(&line.0)
}

fn event_hash(line: &mut Line, flow_id: &[u8; 16], sequence: u64) -> [u8; 16] {
    line.0.clear();
    line.hex(flow_id).raw("\u{1f}").number(sequence).raw("\u{1f}");
    first_16(&line.0)
}

fn first_16(bytes: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(bytes);
    let mut out = [0; 16];
    out.copy_from_slice(&digest[..16]);
    out
}

#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

/// RFC 3339 in UTC with as many digits as the time has (0, 3, 6 or 9).
#[must_use]
pub fn rfc3339(time_ns: i64) -> String {
    let mut line = Line::default();
    line.time(time_ns);
    String::from_utf8(line.0).unwrap_or_default()
}

#[derive(Serialize)]
struct LossOut<'a> {
    kind: &'static str,
    event_id: String,
    plant: &'a str,
    agent: &'a str,
    stage: &'static str,
    start: String,
    end: String,
    packets: u64,
    bytes: u64,
    events: u64,
    flows: &'a [String],
    why: &'a str,
}

/// Facts that `hopwatch inspect` shows, by protocol name.
pub type Facts = BTreeMap<&'static str, serde_json::Value>;

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred thousand of them may be open, with two flows each.
    #[test]
    fn a_connection_takes_three_lines_of_the_cache_and_a_flow_less() {
        let checks = if cfg!(debug_assertions) { 64 } else { 0 };
        assert_eq!(size_of::<Option<Connection>>(), 3 * 64 + checks);
        assert!(size_of::<Flow>() <= 176);
    }
}
