//! Oracle's network substrate (TNS) and the two-task calls inside it (TTC).
//!
//! Neither has a published specification. What is here follows the source of python-oracledb's thin mode (Oracle, Universal
//! Permissive License), whose own messages a test records, and captures of sqlplus with Oracle 11.1; docs/protocols/tns.md says
//! what of it was shown by which.
//!
//! A packet is a length, a type, flags and a body; data packets carry the calls, which go on from packet to packet. A client asks,
//! the server answers, then the client asks again. Rows are counted where the answer could be followed byte by byte to the
//! record that ends it; where it could not, the window says so.

mod calls;
mod connect;
mod encoding;
mod rows;
mod search;
mod statements;

use super::claims::{bare, unknown};
use super::few::Few;
use super::search::Search;
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition};
use crate::windows::{Condition, Counts, Depth, Facts, Identity, Movement, Name, Operation, Recorder, Side};
use calls::{Asked, Asks};
use connect::{Accept, WIDE_FROM};
use encoding::{Dialect, Encoding, Miss, Ttc};
use rows::{Columns, End, Met, NO_DATA, Walk};
use serde_json::{Value, json};
pub(crate) use statements::Known;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock};

/// SQL text that is read; of a longer one, its beginning.
pub const SQL_BYTES_MAX: usize = 16 << 10;
/// Bytes of one request that are read.
pub const REQUEST_BYTES_MAX: usize = 32 << 10;
/// Bytes of an answer to a login, or of what both ends agree on, that are read.
pub const ANSWER_BYTES_MAX: usize = 4 << 10;
/// Bytes of a packet of the listener that are read: connect data, a redirection, a refusal.
pub const CONNECT_BYTES_MAX: usize = 8 << 10;
/// Requests that await an answer; with more, answers are not paired until the client waits again.
pub const REQUESTS_MAX: usize = 256;
/// Cursors whose statements are known; those of further ones are `unknown`.
pub const CURSORS_MAX: usize = 1024;
/// Connects, redirections and refusals that `inspect` shows.
const FACTS_MAX: usize = 400;
/// The longest packet: a session data unit of 2 MiB.
const PACKET_BYTES_MAX: u64 = 2 << 20;

const HEADER_BYTES: usize = 8;
const CONNECT: u8 = 1;
const ACCEPT: u8 = 2;
const REFUSE: u8 = 4;
const REDIRECT: u8 = 5;
const DATA: u8 = 6;
const RESEND: u8 = 11;
const MARKER: u8 = 12;

/// Types of packets as people call them.
const TYPES: [(u8, &str); 12] = [
    (CONNECT, "Connect"),
    (ACCEPT, "Accept"),
    (3, "Acknowledge"),
    (REFUSE, "Refuse"),
    (REDIRECT, "Redirect"),
    (DATA, "Data"),
    (7, "Null"),
    (9, "Abort"),
    (RESEND, "Resend"),
    (MARKER, "Marker"),
    (13, "Attention"),
    (14, "Control"),
];

/// Flags of a data packet.
const END_OF_REQUEST: u16 = 0x0800;
const END_OF_RESPONSE: u16 = 0x2000;

/// Places in the capabilities: the version of fields, whether long values are cut into pieces of any length.
const FIELDS: usize = 7;
const CHUNKS: usize = 37;
const BIG_CHUNKS: u8 = 0x20;

/// Refused for want of rights, or at a login: insufficient privileges, a missing privilege, an invalid name or password, no right
/// to a session, an account that is locked or expired.
const DENIED: [u32; 7] = [1031, 41900, 1017, 1045, 28000, 28001, 1720];

/// The line of the registry.
pub const TNS: Protocol = Protocol { name: "tns", recognise, decoder };

/// A decoder for one connection.
#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    Box::new(Tns::new(options))
}

struct Common {
    connect: Arc<Movement>,
    refused: Arc<Movement>,
    /// Data whose call was not seen, or cannot be read.
    transfer: Arc<Movement>,
    /// Calls that are not read.
    called: Arc<Movement>,
    lob_read: Arc<Movement>,
    lob_written: Arc<Movement>,
    loaded: Arc<Movement>,
    enqueued: Arc<Movement>,
    dequeued: Arc<Movement>,
}

static COMMON: LazyLock<Common> = LazyLock::new(|| Common {
    connect: bare(Operation::Connect),
    refused: bare(Operation::Refused),
    transfer: bare(Operation::Transfer),
    called: unknown(Operation::Call, Side::Client),
    lob_read: unknown(Operation::Select, Side::Server),
    lob_written: unknown(Operation::Update, Side::Client),
    loaded: unknown(Operation::Copy, Side::Client),
    enqueued: unknown(Operation::Publish, Side::Client),
    dequeued: unknown(Operation::Subscribe, Side::Server),
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Framed,
    Search,
}

struct Half {
    phase: Phase,
    /// The header at hand, and of a client's data the first bytes behind it.
    head: Vec<u8>,
    kind: u8,
    flags: u16,
    left: u64,
    /// Of the listener's packets: what was said. In the search: what has not been passed over.
    body: Vec<u8>,
    /// So much text follows in a packet of data.
    follows: usize,
    /// The packet at hand is that text.
    is_text: bool,
    search: Option<Box<Search>>,
}

impl Half {
    fn new(phase: Phase) -> Self {
        Self { phase, head: Vec::new(), kind: 0, flags: 0, left: 0, body: Vec::new(), follows: 0, is_text: false, search: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Setup,
    Login,
    /// Its answer is rows, or how many there are.
    Walked,
    Other,
}

/// A request that was sent.
struct Call {
    kind: Kind,
    /// What the answer's bytes belong to.
    movement: Arc<Movement>,
    known: Option<Arc<Known>>,
    cursor: u64,
    /// It runs the statement, rather than fetching from it or describing it.
    executes: bool,
    fetches: bool,
    answered: bool,
    settled: bool,
    /// Its answer cannot be followed.
    lost: bool,
    walk: Walk,
    /// Something of it that nobody counts moves.
    uncounted: bool,
}

impl Call {
    fn new(kind: Kind, movement: &Arc<Movement>) -> Self {
        Self {
            kind,
            movement: Arc::clone(movement),
            known: None,
            cursor: 0,
            executes: false,
            fetches: false,
            answered: false,
            settled: false,
            lost: false,
            walk: Walk::default(),
            uncounted: false,
        }
    }
}

struct Cursor {
    known: Arc<Known>,
    columns: Option<Columns>,
    rows: Arc<Movement>,
    /// Rows that it has returned since it was executed.
    returned: u64,
}

#[derive(Default)]
struct Gathered {
    packet_types: BTreeMap<&'static str, u64>,
    accept_versions: Vec<u16>,
    connects: Vec<Value>,
    refusals: Vec<u32>,
    redirects: Vec<Value>,
    calls: BTreeMap<String, u64>,
    banner: Option<String>,
    user: Option<String>,
    rows: u64,
    errors: BTreeMap<String, u64>,
    encryption: Option<&'static str>,
    integrity: bool,
}

struct Tns {
    named: bool,
    halves: [Half; 2],
    /// Lengths have four bytes.
    wide: bool,
    accepted: Option<Accept>,
    /// Encrypted, or sealed, from here on.
    blind: bool,
    encoding: Option<Encoding>,
    /// Versions of fields, and whether values are cut anyhow, of client and server.
    capabilities: [Option<(u8, bool)>; 2],
    logged_in: bool,
    program: Option<String>,
    /// Who sent data last.
    turn: Option<Side>,
    /// The client's packet before filled a whole unit, or said that it ends a request.
    was_full: bool,
    has_ended: bool,
    number: Option<u8>,
    /// The client sends ahead.
    pipelined: bool,
    /// The request at hand, and its bytes that belong to nothing yet.
    gathering: Option<Vec<u8>>,
    held: [u64; 2],
    current: Arc<Movement>,
    answering: Arc<Movement>,
    answer: Vec<u8>,
    calls: VecDeque<Call>,
    cursors: Few<u64, Cursor>,
    /// Windows are marked since a gap; for good if what was lost may have said who it is.
    marked: bool,
    for_good: bool,
    gathered: Option<Box<Gathered>>,
}

impl Tns {
    fn new(options: Options) -> Self {
        let phase = if options.midstream { Phase::Search } else { Phase::Framed };
        Self {
            named: false,
            halves: [Half::new(phase), Half::new(phase)],
            wide: false,
            accepted: None,
            blind: false,
            encoding: None,
            capabilities: [None; 2],
            logged_in: options.midstream,
            program: None,
            turn: None,
            was_full: false,
            has_ended: false,
            number: None,
            pipelined: false,
            gathering: None,
            held: [0; 2],
            current: Arc::clone(&COMMON.connect),
            answering: Arc::clone(if options.midstream { &COMMON.transfer } else { &COMMON.connect }),
            answer: Vec::new(),
            calls: VecDeque::new(),
            cursors: Few::default(),
            marked: options.midstream,
            for_good: false,
            gathered: options.facts.then(Box::default),
        }
    }

    fn dialect(&self) -> Option<Dialect> {
        let [Some((client, one)), Some((server, other))] = self.capabilities else { return None };
        Some(Dialect { encoding: self.encoding?, fields: client.min(server), big_chunks: one && other })
    }

    fn known(&self, ends: bool) -> calls::Known {
        let dialect = self.dialect();
        calls::Known {
            encoding: self.encoding,
            fields: dialect.map(|dialect| dialect.fields),
            big_chunks: dialect.is_some_and(|dialect| dialect.big_chunks),
            ends,
        }
    }

    // ---- packets ----------------------------------------------------------------------------------------------

    fn length(&self, head: &[u8]) -> u64 {
        let Some(&[a, b, c, d]) = head.first_chunk() else { return 0 };
        if self.wide || (a == 0 && b == 0) { u64::from(u32::from_be_bytes([a, b, c, d])) } else { u64::from(u16::from_be_bytes([a, b])) }
    }

    /// How much of the front of a packet is needed before anything is done with it.
    fn need(&self, sender: Side, head: &[u8]) -> usize {
        let behind = match (head.get(4), sender) {
            (Some(&DATA), Side::Client) => 5,
            (Some(&DATA), Side::Server) => 2,
            _ => return HEADER_BYTES,
        };
        let length = usize::try_from(self.length(head)).unwrap_or(usize::MAX);
        (HEADER_BYTES + behind).min(length.max(HEADER_BYTES + 2))
    }

    fn step(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        if self.halves[sender as usize].phase == Phase::Search {
            return Ok(self.search(sender, bytes, out));
        }
        let half = &mut self.halves[sender as usize];
        if half.left > 0 {
            let taken = bytes.len().min(usize::try_from(half.left).unwrap_or(usize::MAX));
            half.left -= taken as u64;
            let ends = half.left == 0;
            self.body(sender, bytes.get(..taken).unwrap_or_default(), ends, out);
            return Ok(taken);
        }
        let mut head = std::mem::take(&mut half.head);
        let mut used = 0;
        loop {
            let need = self.need(sender, &head);
            if head.len() >= need {
                break;
            }
            let more = bytes.get(used..).unwrap_or_default();
            if more.is_empty() {
                self.halves[sender as usize].head = head;
                return Ok(used);
            }
            let taken = more.len().min(need - head.len());
            head.extend_from_slice(more.get(..taken).unwrap_or_default());
            used += taken;
        }
        if let Err(wrong) = self.packet(sender, &head, out) {
            if !self.marked {
                return Err(wrong);
            }
            // It was lost on the way here, and has lost its way.
            self.lose_frame(sender);
            self.halves[sender as usize].body = head;
        }
        Ok(used)
    }

    /// The front of a packet.
    fn packet(&mut self, sender: Side, head: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let length = self.length(head);
        let kind = head.get(4).copied().unwrap_or(0);
        let least = head.len().max(if kind == DATA { HEADER_BYTES + 2 } else { HEADER_BYTES }) as u64;
        if !(least..=PACKET_BYTES_MAX).contains(&length) {
            return Err(DecodeError::new("length of a TNS packet", length, "8 (of data 10) to 2 MiB"));
        }
        let Some((_, name)) = TYPES.iter().find(|(known, _)| *known == kind) else {
            return Err(DecodeError::new("type of a TNS packet", kind.into(), "1 to 7, 9, 11 to 14"));
        };
        if let Some(g) = &mut self.gathered {
            *g.packet_types.entry(name).or_default() += 1;
        }
        self.wide |= head.starts_with(&[0, 0]);
        let half = &mut self.halves[sender as usize];
        half.kind = kind;
        half.left = length - head.len() as u64;
        half.body = Vec::new();
        half.is_text = false;
        if kind == DATA {
            half.flags = head.get(8..10).map_or(0, |flags| u16::from_be_bytes([flags[0], flags[1]]));
            let first = head.get(HEADER_BYTES + 2..).unwrap_or_default();
            let empty = half.left == 0 && first.is_empty();
            if half.follows > 0 && !self.logged_in {
                half.is_text = true;
                half.follows = 0;
            } else if !self.blind {
                match sender {
                    Side::Client if empty => {}
                    Side::Client => self.client_begins(first, out),
                    Side::Server if empty => {}
                    Side::Server => self.server_begins(out),
                }
            }
            self.claim(sender, (HEADER_BYTES + 2) as u64, out);
            let ends = self.halves[sender as usize].left == 0;
            self.body(sender, first, ends, out);
            if sender == Side::Client {
                let unit = self.accepted.map_or(u64::MAX, |accepted| accepted.unit.into());
                self.was_full = length >= unit;
            }
            return Ok(());
        }
        self.claim(sender, head.len() as u64, out);
        if length == head.len() as u64 {
            self.body(sender, &[], true, out);
        }
        Ok(())
    }

    /// Bytes of the packet at hand belong to what it does.
    fn claim(&mut self, sender: Side, bytes: u64, out: &mut Recorder<'_>) {
        let half = &self.halves[sender as usize];
        let movement = match (half.kind, sender) {
            _ if half.phase == Phase::Search => &COMMON.transfer,
            (DATA, _) if half.is_text => {
                self.held[sender as usize] += bytes;
                return;
            }
            (DATA, _) if self.blind => &COMMON.transfer,
            (DATA, Side::Client) if self.gathering.is_some() => {
                self.held[0] += bytes;
                return;
            }
            (DATA, Side::Client) => &self.current,
            (DATA, Side::Server) => &self.answering,
            // It says who asks, or where to: its own bytes are theirs already.
            (CONNECT, Side::Client) | (REDIRECT, Side::Server) => {
                self.held[sender as usize] += bytes;
                return;
            }
            _ => &COMMON.connect,
        };
        let movement = Arc::clone(movement);
        out.add(&movement, sender, bytes, Counts::ZERO);
    }

    /// Bytes of a packet behind its head; whether it ends with them.
    fn body(&mut self, sender: Side, bytes: &[u8], ends: bool, out: &mut Recorder<'_>) {
        let half = &mut self.halves[sender as usize];
        if half.kind != DATA || half.is_text {
            let room = CONNECT_BYTES_MAX.saturating_sub(half.body.len());
            half.body.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
            self.claim(sender, bytes.len() as u64, out);
            if ends {
                self.listens(sender, out);
            }
            return;
        }
        if self.blind {
            self.claim(sender, bytes.len() as u64, out);
            return;
        }
        match sender {
            Side::Client => {
                self.claim(sender, bytes.len() as u64, out);
                if let Some(request) = &mut self.gathering {
                    let room = REQUEST_BYTES_MAX.saturating_sub(request.len());
                    request.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
                    let full = request.len() >= REQUEST_BYTES_MAX;
                    if full || ends {
                        self.interpret(full, out);
                    }
                }
                if ends {
                    self.has_ended = self.halves[0].flags & END_OF_REQUEST != 0;
                }
            }
            Side::Server => {
                self.claim(sender, bytes.len() as u64, out);
                self.answers(bytes, ends, out);
                if ends && self.halves[1].flags & END_OF_RESPONSE != 0 && self.accepted.is_some_and(|accepted| accepted.ends) {
                    self.finish_front(out);
                }
            }
        }
    }

    /// A packet of the listener, or one that carries no data, is over.
    fn listens(&mut self, sender: Side, out: &mut Recorder<'_>) {
        let half = &mut self.halves[sender as usize];
        let body = std::mem::take(&mut half.body);
        match (sender, half.kind) {
            (Side::Client, CONNECT) => {
                if let Some(connect) = connect::connect(&body, HEADER_BYTES) {
                    half.follows = connect.follows;
                    if connect.follows == 0 {
                        self.connects(connect.data, out);
                    }
                }
                self.release(out);
            }
            (Side::Client, DATA) => {
                self.connects(&body, out);
                self.release(out);
            }
            (Side::Server, ACCEPT) => {
                let Some(accepted) = connect::accept(&body) else { return };
                self.wide |= accepted.version >= WIDE_FROM;
                self.accepted = Some(accepted);
                if let Some(g) = self.gathered.as_mut().filter(|g| g.accept_versions.len() < FACTS_MAX) {
                    g.accept_versions.push(accepted.version);
                }
            }
            (Side::Server, REFUSE) => {
                // Two reasons and a length stand in front of the text.
                let code = connect::refusal(body.get(4..).unwrap_or_default());
                if let Some(g) = self.gathered.as_mut().filter(|g| g.refusals.len() < FACTS_MAX) {
                    g.refusals.push(code);
                }
                out.add(&COMMON.refused, sender, 0, Counts::messages(1));
            }
            (Side::Server, REDIRECT) => {
                let length = body.first_chunk().map_or(0, |&two| usize::from(u16::from_be_bytes(two)));
                let data = body.get(2..).unwrap_or_default();
                if data.is_empty() {
                    half.follows = length;
                } else {
                    self.redirected(data, out);
                }
                self.release(out);
            }
            (Side::Server, DATA) => {
                self.redirected(&body, out);
                self.release(out);
            }
            // What was being said is broken off; an error follows.
            (Side::Server, MARKER) => {
                self.answer.clear();
                if let Some(call) = self.calls.front_mut() {
                    call.walk.reset();
                }
            }
            _ => {}
        }
    }

    /// What was held belongs to what it has turned out to be.
    fn release(&mut self, out: &mut Recorder<'_>) {
        let held = std::mem::take(&mut self.held);
        let current = Arc::clone(&self.current);
        out.add(&current, Side::Client, held[0], Counts::ZERO);
        if held[1] > 0 {
            out.add(&COMMON.connect, Side::Server, held[1], Counts::ZERO);
        }
    }

    fn connects(&mut self, data: &[u8], out: &mut Recorder<'_>) {
        let asked = connect::asked(data);
        if let Some(g) = self.gathered.as_mut().filter(|g| g.connects.len() < FACTS_MAX) {
            g.connects.push(json!({
                "service_name": asked.service, "sid": asked.sid, "program": asked.program, "os_user": asked.os_user, "host": asked.client_host,
            }));
        }
        // JDBC writes this where it has no name.
        self.program = asked.program.filter(|program| program != "null");
        let (program, os_user) = (self.program.clone(), asked.os_user);
        out.identify(|identity| {
            identity.application = program;
            identity.on_behalf_of = os_user;
        });
        if let Some((host, _)) = asked.address.filter(|(host, _)| host.parse::<std::net::IpAddr>().is_err()) {
            out.server_name(&host, "tns");
        }
    }

    fn redirected(&mut self, data: &[u8], out: &mut Recorder<'_>) {
        // Behind the address stands, after a zero, what to say there.
        let data = data.split(|b| *b == 0).next().unwrap_or_default();
        let Some((host, port)) = connect::address(data) else { return };
        if let Some(g) = self.gathered.as_mut().filter(|g| g.redirects.len() < FACTS_MAX) {
            g.redirects.push(json!({"host": host, "port": port}));
        }
        out.asked(Some(&Name { name: host, by: "redirect", port: Some(port) }));
    }

    // ---- requests ---------------------------------------------------------------------------------------------

    /// A data packet of the client: does a request begin with it?
    fn client_begins(&mut self, first: &[u8], out: &mut Recorder<'_>) {
        let sets_up =
            !self.logged_in && matches!(first.first(), Some(&(calls::PROTOCOL | calls::DATA_TYPES | 0xde | calls::FAST_AUTHENTICATION)));
        let is_new =
            self.turn != Some(Side::Client) || self.has_ended || (!self.was_full && (sets_up || calls::begins(first, self.number)));
        if !is_new {
            return;
        }
        if self.gathering.is_some() {
            self.interpret(true, out);
        }
        // A client waits, unless it has said that it will not: what has not been answered by now was, unseen.
        if !self.pipelined {
            if self.calls.front().is_some_and(|call| call.answered) {
                self.finish_front(out);
            }
            self.forget_calls(out);
        }
        self.turn = Some(Side::Client);
        self.gathering = Some(Vec::new());
        if self.marked && !self.for_good && self.calls.is_empty() {
            self.marked = false;
            out.sound();
        }
    }

    /// Reads the request at hand; `force`: no more of it is waited for.
    fn interpret(&mut self, force: bool, out: &mut Recorder<'_>) {
        let Some(request) = self.gathering.take() else { return };
        match calls::read(&request, self.known(force)) {
            Ok(asked) => self.asks(asked, &request, out),
            Err(Miss::Short) if !force => {
                self.gathering = Some(request);
                return;
            }
            Err(_) => {
                let mut call = Call::new(Kind::Other, &COMMON.transfer);
                call.uncounted = true;
                self.await_answer(call, out);
            }
        }
        self.release(out);
    }

    /// Calls whose answers were not seen: that their statements ran is taken for granted, and marked so.
    fn forget_calls(&mut self, out: &mut Recorder<'_>) {
        for call in self.calls.drain(..).filter(|call| call.executes && !call.settled) {
            if let Some(known) = call.known.filter(|known| known.late) {
                out.add(&known.named, Side::Client, 0, Counts::messages(1));
                out.estimated(&known.named);
            }
        }
    }

    fn await_answer(&mut self, call: Call, out: &mut Recorder<'_>) {
        self.current = Arc::clone(&call.movement);
        if self.calls.len() == REQUESTS_MAX {
            out.bound_reached();
            self.forget_calls(out);
            return;
        }
        self.calls.push_back(call);
    }

    fn asks(&mut self, asked: Asked, request: &[u8], out: &mut Recorder<'_>) {
        let Asked { function, number, asks, before, closed, claimed, encoding, one_way } = asked;
        if let Some(g) = &mut self.gathered {
            let named = number.map(|_| calls::name(function)).filter(|_| function != 0);
            for name in before.iter().map(|function| calls::name(*function)).chain(named) {
                *g.calls.entry(name).or_default() += 1;
            }
        }
        self.pipelined = before.contains(&calls::PIPELINE_BEGIN) || (self.pipelined && !self.calls.is_empty());
        self.number = number.or(self.number);
        self.encoding = self.encoding.or(encoding);
        for cursor in closed {
            self.cursors.remove(&cursor);
        }
        if let Some(claimed) = claimed {
            out.identify(|identity| identity.on_behalf_of = Some(claimed));
        }
        let call = match asks {
            Asks::Setup => {
                let offered = if request.first() == Some(&calls::DATA_TYPES) { calls::capabilities(request) } else { None };
                if let Some(offered) = offered {
                    self.capabilities[0] = agreed(offered);
                }
                Call::new(Kind::Setup, &COMMON.connect)
            }
            Asks::Login(login) => {
                if request.first() == Some(&calls::FAST_AUTHENTICATION) {
                    self.capabilities[0] = calls::fast_capabilities(request).and_then(agreed);
                }
                self.logs_in(login, out);
                Call::new(Kind::Login, &COMMON.connect)
            }
            Asks::Execute(execution) => self.executes(execution, out),
            Asks::Again { cursor, fetches } => {
                let mut call = self.of_cursor(cursor, fetches);
                call.executes = true;
                call.fetches = fetches;
                if let Some(cursor) = self.cursor(cursor) {
                    cursor.returned = 0;
                }
                call
            }
            Asks::Fetch { cursor } => {
                let mut call = self.of_cursor(cursor, true);
                call.fetches = true;
                call
            }
            Asks::Lob { operation } => Call::new(
                Kind::Other,
                match operation {
                    calls::LOB_READ => &COMMON.lob_read,
                    calls::LOB_WRITE => &COMMON.lob_written,
                    _ => &COMMON.connect,
                },
            ),
            Asks::Plain => Call::new(Kind::Other, &COMMON.connect),
            Asks::Other => {
                let movement = match function {
                    // Behind a piggyback that is not known.
                    0 => &COMMON.transfer,
                    calls::ENQUEUE => &COMMON.enqueued,
                    calls::DEQUEUE => &COMMON.dequeued,
                    calls::DIRECT_PREPARE..=calls::DIRECT_OPERATION => &COMMON.loaded,
                    _ => &COMMON.called,
                };
                let mut call = Call::new(Kind::Other, movement);
                call.uncounted = true;
                call
            }
        };
        // What answers a setup or a login is read whatever encodes it.
        if call.executes {
            if let Some(known) = call.known.as_ref().filter(|known| !known.late) {
                out.add(&known.named, Side::Client, 0, Counts::messages(1));
            }
        }
        if one_way {
            self.current = Arc::clone(&call.movement);
        } else {
            self.await_answer(call, out);
        }
    }

    fn logs_in(&mut self, login: calls::Login, out: &mut Recorder<'_>) {
        let calls::Login { user, program, proxied, administers, by } = login;
        if let Some(g) = &mut self.gathered {
            g.user = user.clone().or(g.user.take());
        }
        if let Some(by) = by {
            out.protect(|p| p.authentication = Some(by.into()));
        }
        let application = self.program.clone().or(program);
        out.login(|identity: &mut Identity| {
            if user.is_some() {
                identity.account = user;
                identity.account_from = Some("startup");
            }
            identity.role = proxied.or(administers.map(str::to_owned)).or(identity.role.take());
            identity.application = application;
        });
    }

    fn executes(&mut self, execution: calls::Execution, out: &mut Recorder<'_>) -> Call {
        let calls::Execution { options, cursor, sql, defines, per_row_counts } = execution;
        let mut call = match sql {
            Some((text, whole)) => {
                let text = text.get(..text.len().min(SQL_BYTES_MAX)).unwrap_or_default();
                let known = statements::of(&mut out.shared().oracle, text, whole);
                if known.statement.bounded {
                    out.bound_reached();
                }
                self.cursors.remove(&cursor);
                let mut call = Call::new(Kind::Walked, known.asked());
                call.known = Some(known);
                call
            }
            None => self.of_cursor(cursor, options & calls::OPTION_FETCH != 0 && defines.is_some()),
        };
        call.cursor = cursor;
        call.executes = options & calls::OPTION_EXECUTE != 0;
        call.fetches = options & calls::OPTION_FETCH != 0;
        call.walk.per_row_counts = per_row_counts;
        if call.executes {
            if let Some(cursor) = self.cursor(cursor) {
                cursor.returned = 0;
            }
        }
        if let Some(columns) = defines {
            call.walk.columns = Some(columns.into());
        }
        call
    }

    fn cursor(&mut self, id: u64) -> Option<&mut Cursor> {
        self.cursors.get_mut(&id)
    }

    /// A call that goes on with a cursor; `is_query`: whatever it is, it returns rows.
    fn of_cursor(&self, id: u64, is_query: bool) -> Call {
        if self.cursors.get(&id).is_none() && !is_query {
            let mut call = Call::new(Kind::Other, &COMMON.transfer);
            call.uncounted = true;
            return call;
        }
        let mut call = Call::new(Kind::Walked, Known::unseen().asked());
        call.cursor = id;
        match self.cursors.get(&id) {
            Some(cursor) => {
                call.movement = Arc::clone(if cursor.known.late { &cursor.rows } else { cursor.known.asked() });
                call.known = Some(Arc::clone(&cursor.known));
                call.walk.columns.clone_from(&cursor.columns);
            }
            None => call.known = Some(Known::unseen()),
        }
        call
    }

    // ---- answers ----------------------------------------------------------------------------------------------

    fn server_begins(&mut self, out: &mut Recorder<'_>) {
        if self.gathering.is_some() {
            self.interpret(true, out);
        }
        self.turn = Some(Side::Server);
        if let Some(call) = self.calls.front_mut() {
            if !std::mem::replace(&mut call.answered, true) {
                self.answer.clear();
            }
            self.answering = Arc::clone(&call.movement);
        } else {
            self.answering = Arc::clone(if self.logged_in { &COMMON.transfer } else { &COMMON.connect });
        }
    }

    fn answers(&mut self, bytes: &[u8], pause: bool, out: &mut Recorder<'_>) {
        let dialect = self.dialect();
        let Some(call) = self.calls.front_mut() else { return };
        // Where the version of fields is not known, an error can still be told: it stands first.
        if call.kind == Kind::Walked && dialect.is_some() {
            let Some(dialect) = dialect.filter(|_| !call.lost && !call.settled) else { return };
            match call.walk.go_on(bytes, dialect, pause) {
                Met::Nothing => {}
                Met::Lost => {
                    call.lost = true;
                    call.walk.reset();
                }
                Met::Done => self.settle(None, true, out),
                Met::End(end) => {
                    let Some(call) = self.calls.front() else { return };
                    // A record that ends another call is none that was rightly met.
                    let native = matches!(dialect.encoding, Encoding::Native { .. });
                    let strays = native && self.number.is_some_and(|number| number != end.call) && self.calls.len() == 1;
                    if strays || call.settled {
                        if let Some(call) = self.calls.front_mut() {
                            call.lost = true;
                        }
                        return;
                    }
                    self.settle(Some(end), true, out);
                }
            }
            return;
        }
        if call.settled || call.lost {
            return;
        }
        let kind = call.kind;
        let room = ANSWER_BYTES_MAX.saturating_sub(self.answer.len());
        self.answer.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        if !pause {
            return;
        }
        let error = self.error_of_answer();
        match kind {
            Kind::Setup | Kind::Login => self.sets_up(kind, error, out),
            Kind::Walked => {
                if let Some(error) = error.filter(|error| *error != 0 && *error != NO_DATA) {
                    self.settle(Some(End { error, ..End::default() }), false, out);
                }
            }
            Kind::Other => {
                if let Some(error) = error.filter(|error| *error != 0 && *error != NO_DATA) {
                    self.errs(error);
                }
            }
        }
    }

    /// The number of the error, if the answer is one.
    fn error_of_answer(&self) -> Option<u32> {
        if self.answer.first() != Some(&4) {
            return None;
        }
        let dialect = Dialect { encoding: self.encoding?, fields: 0, big_chunks: false };
        let mut read = Ttc::new(self.answer.get(1..)?, dialect);
        rows::error(&mut read).ok()
    }

    fn errs(&mut self, error: u32) {
        if let Some(g) = &mut self.gathered {
            *g.errors.entry(format!("ORA-{error:05}")).or_default() += 1;
        }
    }

    fn sets_up(&mut self, kind: Kind, error: Option<u32>, out: &mut Recorder<'_>) {
        match self.answer.first() {
            Some(&0xde) => {
                let Some(chosen) = connect::chosen(&self.answer) else { return };
                if chosen.encryption == 0 && chosen.integrity == 0 {
                    return;
                }
                // From here on nothing is read: the bytes are encrypted, or end in a seal that this does not follow.
                self.blind = true;
                let encrypted = chosen.encryption != 0;
                if let Some(g) = &mut self.gathered {
                    g.encryption = encrypted.then(|| connect::algorithm(chosen.encryption));
                    g.integrity = chosen.integrity != 0;
                }
                out.cut();
                out.depth(Depth::Sizes);
                if encrypted {
                    let name = format!("oracle-{}", connect::algorithm(chosen.encryption));
                    out.protect(|p| p.transport = name.into());
                }
                out.condition(|c: &mut Condition| c.encrypted = true);
            }
            Some(&calls::PROTOCOL) => {
                if let Some((banner, offered)) = calls::server_protocol(&self.answer) {
                    self.capabilities[1] = agreed(offered);
                    if let Some(g) = &mut self.gathered {
                        g.banner = Some(banner);
                    }
                }
            }
            _ => {}
        }
        if kind != Kind::Login {
            return;
        }
        match error {
            Some(error) if error != 0 => {
                self.errs(error);
                out.add(&COMMON.refused, Side::Server, 0, Counts::messages(1));
                if let Some(call) = self.calls.front_mut() {
                    call.settled = true;
                }
            }
            _ => self.logged_in = true,
        }
    }

    /// What the front call has brought. `end`: the record at its end; `followed`: everything up to it was.
    fn settle(&mut self, end: Option<End>, followed: bool, out: &mut Recorder<'_>) {
        let Some(call) = self.calls.front_mut() else { return };
        if std::mem::replace(&mut call.settled, true) {
            return;
        }
        let Some(known) = call.known.clone().filter(|_| call.kind == Kind::Walked) else {
            if call.uncounted && call.answered {
                let movement = Arc::clone(&call.movement);
                out.uncounted(&movement);
            }
            return;
        };
        let nested = std::mem::take(&mut call.walk.nested);
        let (executes, fetches, columns, returned) = (call.executes, call.fetches, call.walk.columns.clone(), call.walk.rows);
        let late = u64::from(known.late && executes);
        let before = self.cursors.get(&call.cursor).map_or(0, |cursor| cursor.returned);
        let id = end.map_or(0, |end| end.cursor);
        let id = if id == 0 { call.cursor } else { id };
        let error = end.map_or(0, |end| end.error);
        if error != 0 && error != NO_DATA {
            self.errs(error);
            if DENIED.contains(&error) {
                let refused = known.named.objects.clone().map_or_else(
                    || Arc::clone(&COMMON.refused),
                    |objects| Arc::new(Movement::of(Operation::Refused, Side::Client, objects)),
                );
                out.add(&refused, Side::Server, 0, Counts::messages(1));
            } else if late > 0 && known.statement.operation != Operation::Admin {
                out.add(&known.named, Side::Server, 0, Counts::messages(1));
            }
            if returned == 0 {
                return;
            }
        }
        let same = self.cursors.get(&id).filter(|cursor| Arc::ptr_eq(&cursor.known, &known)).map(|cursor| Arc::clone(&cursor.rows));
        let rows_to = match (&columns, same) {
            (_, Some(rows)) => rows,
            (Some(columns), None) => known.rows(columns),
            (None, None) => Arc::clone(&known.named),
        };
        let failed = error != 0 && error != NO_DATA;
        let messages = if failed { 0 } else { late };
        let counted = if !followed {
            !known.has_rows() && !fetches
        } else if known.is_query() {
            // The record counts the rows of the cursor since it was executed.
            let all = before + returned;
            end.is_none_or(|end| failed || end.rows == all || end.rows == returned)
        } else {
            true
        };
        let rows = match end {
            _ if !counted || !followed => 0,
            _ if known.is_query() => returned,
            Some(end) if executes && known.has_rows() && !failed => end.rows,
            _ => 0,
        };
        if let Some(g) = &mut self.gathered {
            g.rows += rows;
        }
        let counts = Counts { rows: i64::try_from(rows).unwrap_or(i64::MAX), messages, ..Counts::ZERO };
        if counts != Counts::ZERO {
            out.add(&rows_to, Side::Server, 0, counts);
        }
        if !counted {
            out.uncounted(&rows_to);
        }
        for (nested, columns) in nested {
            self.remember(
                nested,
                Cursor { known: Arc::clone(&known), columns: Some(columns), rows: Arc::clone(&known.named), returned: 0 },
                out,
            );
        }
        if id == 0 || !followed {
            return;
        }
        let returned = end.map_or(before + returned, |end| if failed { 0 } else { end.rows });
        self.remember(id, Cursor { known, columns, rows: rows_to, returned }, out);
    }

    fn remember(&mut self, id: u64, cursor: Cursor, out: &mut Recorder<'_>) {
        if self.cursors.get(&id).is_none() && self.cursors.len() >= CURSORS_MAX {
            out.bound_reached();
            return;
        }
        self.cursors.insert(id, cursor);
    }

    /// Nothing more answers the front call.
    fn finish_front(&mut self, out: &mut Recorder<'_>) {
        if self.calls.front().is_some_and(|call| call.answered) {
            self.settle(None, false, out);
        }
        self.calls.pop_front();
        self.answer.clear();
    }

    // ---- losses -----------------------------------------------------------------------------------------------

    fn lose_frame(&mut self, sender: Side) {
        let half = &mut self.halves[sender as usize];
        *half = Half { search: half.search.take(), ..Half::new(Phase::Search) };
    }

    /// Something that `sender` said in calls is missing.
    fn lose_calls(&mut self, sender: Side, out: &mut Recorder<'_>) {
        self.marked = true;
        self.for_good |= !self.logged_in;
        // Numbers of cursors may have been given anew.
        self.cursors.clear();
        let cut = sender == Side::Client && self.gathering.take().is_some();
        match sender {
            Side::Client => {
                if cut {
                    let mut call = Call::new(Kind::Other, &COMMON.transfer);
                    call.uncounted = true;
                    self.await_answer(call, out);
                }
                self.number = None;
            }
            Side::Server => {
                self.answer.clear();
                if let Some(call) = self.calls.front_mut() {
                    call.answered = true;
                    call.lost = true;
                    call.walk.reset();
                }
            }
        }
        if self.gathering.is_none() {
            self.release(out);
        }
    }

    fn search(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> usize {
        let half = &mut self.halves[sender as usize];
        let mut joined = std::mem::take(&mut half.body);
        joined.extend_from_slice(bytes);
        let search = half.search.get_or_insert_default();
        let found = search.look(&joined, search::TAIL, &|bytes| search::at(sender, bytes));
        let passed = found.unwrap_or(joined.len().saturating_sub(search::TAIL));
        search.passed(passed);
        let rest = joined.split_off(passed);
        self.claim(sender, passed as u64, out);
        let half = &mut self.halves[sender as usize];
        if found.is_none() {
            half.body = rest;
            return bytes.len();
        }
        half.phase = Phase::Framed;
        // What the other end says next answers this, or is answered by it.
        if sender == Side::Client {
            self.turn = None;
        } else if let Some(call) = self.calls.front_mut() {
            call.lost = true;
        }
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            match self.step(sender, rest, out) {
                Ok(used) if used > 0 => rest = rest.get(used..).unwrap_or_default(),
                _ => break,
            }
        }
        bytes.len()
    }
}

/// The version of fields in capabilities, and whether long values may be cut anyhow.
fn agreed(capabilities: &[u8]) -> Option<(u8, bool)> {
    let big = capabilities.get(CHUNKS).is_some_and(|byte| byte & BIG_CHUNKS != 0);
    capabilities.get(FIELDS).map(|fields| (*fields, big))
}

impl Decoder for Tns {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if !std::mem::replace(&mut self.named, true) {
            out.protocol("tns", Depth::Decoded);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = self.step(sender, rest, out)?;
            if used == 0 {
                break;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let half = &mut self.halves[sender as usize];
        let within = half.phase == Phase::Framed && half.head.is_empty() && half.left >= length && half.left > 0;
        if self.blind {
            // Sizes are all that is told, and those are known.
            if within {
                half.left -= length;
            } else {
                out.gapped();
                self.lose(sender, length, out);
            }
            return Ok(());
        }
        out.gapped();
        self.lose_calls(sender, out);
        let half = &mut self.halves[sender as usize];
        if within {
            half.left -= length;
        } else {
            self.lose(sender, length, out);
        }
        Ok(())
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        if self.gathering.is_some() {
            self.interpret(true, out);
        }
        if self.calls.front().is_some_and(|call| call.answered) {
            self.finish_front(out);
        }
        self.forget_calls(out);
    }

    fn facts(&self, into: &mut Facts) {
        if let Some(g) = &self.gathered {
            into.insert(
                "tns",
                json!({
                    "packet_types": g.packet_types, "accept_versions": g.accept_versions, "connects": g.connects,
                    "refusals": g.refusals, "redirects": g.redirects, "calls": g.calls, "server_banner": g.banner, "user": g.user,
                    "rows": g.rows, "errors": g.errors, "encryption": g.encryption, "integrity": g.integrity,
                }),
            );
        }
    }

    fn memory_bytes(&self) -> usize {
        let searched = |half: &Half| half.search.as_ref().map_or(0, |search| search.memory_bytes());
        let halves: usize = self.halves.iter().map(|half| half.head.capacity() + half.body.capacity() + searched(half)).sum();
        let calls: usize = self.calls.iter().map(|call| size_of::<Call>() + call.walk.memory_bytes()).sum();
        let cursors = self.cursors.len() * (size_of::<Cursor>() + 64);
        size_of::<Self>() + halves + calls + cursors + self.answer.capacity() + self.gathering.as_ref().map_or(0, Vec::capacity)
    }
}

impl Tns {
    /// Bytes of a frame are missing, and with them where the next begins.
    fn lose(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) {
        let half = &mut self.halves[sender as usize];
        let carried = half.head.len() + if half.phase == Phase::Search { half.body.len() } else { 0 };
        self.marked = true;
        self.lose_frame(sender);
        self.claim(sender, carried as u64, out);
        let passed = carried.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        self.halves[sender as usize].search.get_or_insert_default().passed(passed);
    }
}

/// Whether a packet of such a type may begin so; `None` if there are too few bytes.
fn starts(head: &[u8], kinds: &[u8]) -> Option<bool> {
    if head.len() >= 5 && !head.get(4).is_some_and(|kind| kinds.contains(kind)) {
        return Some(false);
    }
    let &[high, low, check, sum, kind, flags, 0, 0, ref body @ ..] = head else {
        return if head.len() < HEADER_BYTES { None } else { Some(false) };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if (check, sum) != (0, 0) || flags & !0x0c != 0 {
        return Some(false);
    }
    let number = |at: usize| body.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    match kind {
        CONNECT => {
            if length < 34 {
                return Some(false);
            }
            let (version, least, offset) = (number(0)?, number(2)?, number(18)?);
            Some((300..400).contains(&version) && least <= version && least >= 200 && (26..=200).contains(&offset))
        }
        ACCEPT => Some((24..=1024).contains(&length) && (300..400).contains(&number(0)?)),
        REFUSE => Some(length >= 12 && number(2)? as usize + 12 == length && matches!(body.get(4), None | Some(b'('))),
        // What it says may come in a packet of its own.
        REDIRECT => Some(length == HEADER_BYTES + 2 || (length > HEADER_BYTES + 2 && matches!(body.get(2), None | Some(b'(')))),
        RESEND => Some(length == HEADER_BYTES),
        _ => Some(false),
    }
}

/// A connect of one side, or what only a listener answers; midway, packets that say enough.
fn recognise(heads: &Heads<'_>) -> Recognition {
    let sides = [(heads.client, heads.server, Side::Client), (heads.server, heads.client, Side::Server)];
    if heads.midstream {
        for (client, server, side) in sides {
            if let (Some(c), Some(s)) = (chain(Side::Client, client), chain(Side::Server, server)) {
                if c + s >= search::SURE {
                    return Recognition::Yes { client: side };
                }
            }
        }
        let short = |head: &[u8]| head.len() <= search::TAIL;
        return if short(heads.client) && short(heads.server) { Recognition::More } else { Recognition::No };
    }
    let mut more = heads.client.is_empty() && heads.server.is_empty();
    for (client, server, side) in sides {
        let asks = starts(client, &[CONNECT]);
        let answers = starts(server, &[ACCEPT, REFUSE, REDIRECT, RESEND]);
        match (asks, answers) {
            (Some(true), answers) if answers != Some(false) => return Recognition::Yes { client: side },
            (None, Some(true)) if client.is_empty() => return Recognition::Yes { client: side },
            (None, answers) if answers != Some(false) && !(client.is_empty() && server.is_empty()) => more = true,
            _ => {}
        }
    }
    if more { Recognition::More } else { Recognition::No }
}

/// How much a chain of packets says, 0 if too little is there; `None` if it is none.
fn chain(sender: Side, head: &[u8]) -> Option<u8> {
    let (mut rest, mut worth) = (head, 0_u8);
    while rest.len() > search::TAIL {
        match search::at(sender, rest) {
            super::search::Found::No => return None,
            super::search::Found::Message { length, worth: more } => {
                worth = worth.saturating_add(more).min(100);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
    Some(worth)
}

#[cfg(test)]
mod tests;
