//! OPC UA over TCP (Part 6: 5.2 binary encoding, 6.7 secure conversation, 7.1 connection protocol; services of Part 4).
//!
//! A connection is a sequence of *chunks*: type, flag (`F` final, `C` to be continued, `A` aborted) and size, then for
//! `MSG` the channel, token, sequence number and request id, a piece of a message body, and in Sign mode a signature.
//! Bodies are walked as they pass ([`types`]), never put together: a chunk may be as long as it likes. The message's
//! type decides what moved (`services`), the request id joins a response to its request, and the request names the
//! nodes. Bodies of a channel in `SignAndEncrypt` mode are counted; whether a channel with a security policy is
//! encrypted is not said in the clear, so its first message is tried.
//!
//! Not kept, ever: values, passwords, certificates beyond their subject's common name.

mod found;
mod services;
pub(super) mod types;

use self::found::{Found, Nodes};
use self::services::{Kind, Service};
use self::types::{Walk, Walker};
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition};
use crate::sql::marks::SECRET_PASSWORD;
use crate::table::Map;
use crate::windows::{Counts, Depth, Facts, Identity, Movement, ObjectSet, Operation, Recorder, Side};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

pub const OPCUA: Protocol = Protocol { name: "opcua", recognise, decoder: |options| -> Box<dyn Decoder> { Box::new(OpcUa::new(options)) } };

/// Node names in one object set; a request with more has several.
pub const NAMES_MAX: usize = 1000;
/// Encoded nodes kept of one message; further ones are called `unknown`.
pub const NODES_BYTES_MAX: usize = 256 << 10;
/// Object sets kept for repetition, in bytes; emptied when full.
pub const SETS_BYTES_MAX: usize = 512 << 10;
/// Requests waiting for their response; the one with the lowest id is forgotten (its response has unknown objects).
pub const PENDING_MAX: usize = 1024;
/// Bytes held by waiting requests; beyond, their objects are called `unknown`.
pub const PENDING_BYTES_MAX: usize = 1 << 20;
/// Monitored items remembered on a connection, in bytes; notifications of further ones have unknown objects.
pub const ITEMS_BYTES_MAX: usize = 1 << 20;
/// Client handles kept of one message.
pub const HANDLES_MAX: usize = 16_384;
pub const SESSIONS_MAX: usize = 64;
/// Bytes of an authentication token; sessions with longer ones are not told apart.
pub const TOKEN_BYTES_MAX: usize = 128;
/// Bytes kept of a name: account, application, URL, policy.
pub const NAME_BYTES_MAX: usize = 512;
/// Continuation points of Browse remembered, and the bytes of one.
pub const POINTS_MAX: usize = 128;
pub const POINT_BYTES_MAX: usize = 256;
/// Values of one kind kept as facts (URLs, policies, sessions).
pub const FACTS_MAX: usize = 400;
/// A size that a header found in the middle of a stream may have.
const RESYNC_SIZE_MAX: u32 = 16 << 20;
/// Headers that must follow each other after a resynchronisation before a bad one is an error.
const DOUBT: u8 = 3;
/// Unreadable messages after which a channel whose opening was not seen is taken for encrypted.
const UNREADABLE_MAX: u8 = 8;

/// What the first bytes of one side say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    Foreign,
    /// The protocol, and whether its client sends these bytes, where that shows.
    Speaks(Option<bool>),
}

/// HEL begins a connection; RHE too, from the server, when the server opens it (Part 6, 7.1.3). Other messages are
/// accepted where the beginning was missed.
fn recognise(heads: &Heads<'_>) -> Recognition {
    let (client, server) = (says(heads.client), says(heads.server));
    match (client, server) {
        (Says::Speaks(Some(true)), _) | (_, Says::Speaks(Some(false))) => Recognition::Yes { client: Side::Client },
        (Says::Speaks(Some(false)), _) | (_, Says::Speaks(Some(true))) => Recognition::Yes { client: Side::Server },
        (Says::Speaks(None), _) | (_, Says::Speaks(None)) => Recognition::Yes { client: Side::Client },
        (Says::Foreign, Says::Foreign) => Recognition::No,
        (Says::Foreign, Says::Nothing) | (Says::Nothing, Says::Foreign) if !heads.midstream => Recognition::No,
        _ => Recognition::More,
    }
}

fn says(head: &[u8]) -> Says {
    const TYPES: [&[u8]; 7] = [b"HELF", b"RHEF", b"ACKF", b"ERRF", b"OPNF", b"CLOF", b"MSG"];
    if !TYPES.iter().any(|t| head.iter().zip(*t).all(|(a, b)| a == b)) {
        return Says::Foreign;
    }
    let Some(size) = u32_at(head, 4) else { return Says::Nothing };
    let sane = |min: u32, max: u32| (min..=max).contains(&size);
    let speaks = |fits: bool, client: Option<bool>| if fits { Says::Speaks(client) } else { Says::Foreign };
    match head.get(..4).unwrap_or_default() {
        b"HELF" => speaks(sane(32, 32 + 4096), Some(true)),
        b"RHEF" => speaks(sane(16, 16 + 2 * 4096), Some(false)),
        b"ACKF" => speaks(size == 28, Some(false)),
        b"ERRF" => speaks(sane(16, 16 + 4096), Some(false)),
        b"OPNF" => {
            let (Some(channel), Some(policy)) = (u32_at(head, 8), u32_at(head, 12)) else { return Says::Nothing };
            // The first OPN of a client has no channel yet (Part 6, 6.7.2.2). Policies are URIs of at most 255 bytes.
            speaks(sane(32, RESYNC_SIZE_MAX) && policy <= 255, (channel == 0).then_some(true))
        }
        [b'M', b'S', b'G', b'F' | b'C' | b'A'] | b"CLOF" => {
            if !sane(24, i32::MAX as u32) {
                return Says::Foreign;
            }
            if head.len() < 28 && size >= 28 {
                return Says::Nothing;
            }
            let client = message_type(head.get(24..).unwrap_or_default()).map(|s| !s.response());
            Says::Speaks(client)
        }
        _ => Says::Foreign,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The service that a body begins with, if it begins with the four-byte NodeId of one (all stacks write that form).
fn message_type(body: &[u8]) -> Option<&'static Service> {
    services::service(types::namespace_0(body.get(..4)?)?)
}

/// Part 6, 7.1.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Hello,
    Acknowledge,
    Error,
    ReverseHello,
    Open,
    Close,
    Message,
}

impl Type {
    fn of(head: &[u8]) -> Option<(Self, u8)> {
        let (name, flag) = (head.get(..3)?, *head.get(3)?);
        let found = match name {
            b"HEL" => Self::Hello,
            b"ACK" => Self::Acknowledge,
            b"ERR" => Self::Error,
            b"RHE" => Self::ReverseHello,
            b"OPN" => Self::Open,
            b"CLO" => Self::Close,
            b"MSG" => Self::Message,
            _ => return None,
        };
        let known = if found == Self::Message { b"FCA".contains(&flag) } else { flag == b'F' };
        known.then_some((found, flag))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hello => "HEL",
            Self::Acknowledge => "ACK",
            Self::Error => "ERR",
            Self::ReverseHello => "RHE",
            Self::Open => "OPN",
            Self::Close => "CLO",
            Self::Message => "MSG",
        }
    }

    fn size_min(self) -> u32 {
        match self {
            Self::Hello => 32,
            Self::Acknowledge => 28,
            Self::Error | Self::ReverseHello => 16,
            Self::Open => 32,
            Self::Close | Self::Message => 24,
        }
    }

    /// Whether the symmetric header (channel, token, sequence number, request id) follows.
    fn symmetric(self) -> bool {
        matches!(self, Self::Close | Self::Message)
    }
}

/// A message that is not complete.
struct Message {
    kind: Type,
    request_id: u32,
    walker: Option<Walker>,
    found: Box<Found>,
    /// Bytes seen and not yet claimed.
    held: u64,
    /// Bytes of the body so far.
    body: u64,
    encrypted: bool,
    /// Something of it was lost or unreadable.
    broken: bool,
    lost: bool,
    /// What its bytes are claimed for as they arrive, once that is certain.
    early: Option<Movement>,
    aborted: bool,
}

impl Message {
    fn new(kind: Type, request_id: u32, walker: Option<Walker>, encrypted: bool) -> Self {
        let found = Box::default();
        Self { kind, request_id, walker, found, held: 0, body: 0, encrypted, broken: false, lost: false, early: None, aborted: false }
    }
}

enum State {
    /// Gathering a chunk's header.
    Head,
    /// Inside a chunk.
    Body,
    /// Looking for a chunk's header.
    Lost,
}

/// One direction.
struct Stream {
    state: State,
    head: Vec<u8>,
    /// Bytes of the chunk still to come, and how many at its end are a signature.
    left: u64,
    footer: u64,
    flag: u8,
    message: Option<Message>,
    /// The secure channel that this side last named.
    channel: Option<u32>,
    doubt: u8,
    /// What the bytes that belong to no message are claimed for.
    last: Movement,
}

/// A request that waits for its response.
struct Pending {
    kind: Kind,
    movement: Movement,
    sets: Arc<Vec<Arc<ObjectSet>>>,
    token: Arc<[u8]>,
    /// Browse, BrowseNext: nodes by result. CreateMonitoredItems: handles by result.
    nodes: Option<Nodes>,
    handles: Vec<u32>,
    subscription: u32,
    attempt: Option<Identity>,
    authentication: Option<&'static str>,
    application: Option<String>,
    /// CreateSession: the place of the session among the facts.
    fact: Option<usize>,
    size: usize,
}

#[derive(Default)]
struct Session {
    application: Option<String>,
    identity: Option<Identity>,
    fact: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Unknown,
    /// Readable; a signature of so many bytes ends each chunk.
    Plain(u64),
    Encrypted,
}

/// The client's application URI, and the token types and user names that its session was activated with.
type SessionFact = (Option<String>, Vec<(&'static str, Option<String>)>);

#[derive(Default)]
struct Gathered {
    endpoint_urls: Vec<String>,
    policies: Vec<String>,
    modes: Vec<&'static str>,
    types: BTreeMap<&'static str, u64>,
    services: BTreeMap<&'static str, u64>,
    items: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    sessions: Vec<SessionFact>,
    undecoded: u64,
    bytes: [u64; 2],
}

struct OpcUa {
    options: Options,
    streams: [Stream; 2],
    begun: bool,
    mode: Mode,
    policy: Option<String>,
    certificate: Option<String>,
    unreadable: u8,
    /// The answer to the first OPN was seen.
    opened: bool,
    pending: BTreeMap<u32, Pending>,
    pending_bytes: usize,
    sets: Map<Nodes, Arc<Vec<Arc<ObjectSet>>>>,
    sets_bytes: usize,
    unknown: Arc<ObjectSet>,
    /// Nodes of monitored items, by subscription and client handle.
    items: Map<(u32, u32), Arc<str>>,
    /// Client handles by subscription and the server's item id.
    item_handles: Map<(u32, u32), u32>,
    items_bytes: usize,
    notified: Map<(u32, Vec<u32>), Arc<ObjectSet>>,
    /// Bounds reached and not yet reported.
    full: u64,
    /// There was a gap, or the beginning was not seen.
    gapped: bool,
    /// The server has said something.
    answered: bool,
    points: HashMap<Vec<u8>, Vec<u8>>,
    sessions: HashMap<Arc<[u8]>, Session>,
    speaking: Arc<[u8]>,
    gathered: Gathered,
}

/// A message whose service cannot be told.
fn unread() -> Movement {
    Movement::new(Operation::Transfer, Side::Client)
}

fn connect() -> Movement {
    Movement::new(Operation::Connect, Side::Client)
}

impl OpcUa {
    fn new(options: Options) -> Self {
        let stream = || Stream {
            state: if options.midstream { State::Lost } else { State::Head },
            head: Vec::new(),
            left: 0,
            footer: 0,
            flag: b'F',
            message: None,
            channel: None,
            doubt: if options.midstream { DOUBT } else { 0 },
            last: connect(),
        };
        Self {
            options,
            streams: [stream(), stream()],
            begun: false,
            mode: Mode::Unknown,
            policy: None,
            certificate: None,
            unreadable: 0,
            opened: false,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            sets: Map::default(),
            sets_bytes: 0,
            unknown: Arc::new(ObjectSet { names: vec!["unknown".to_owned()], ..ObjectSet::default() }),
            items: Map::default(),
            item_handles: Map::default(),
            items_bytes: 0,
            notified: Map::default(),
            full: 0,
            gapped: options.midstream,
            answered: false,
            points: HashMap::new(),
            sessions: HashMap::new(),
            speaking: Arc::from([]),
            gathered: Gathered::default(),
        }
    }

    /// Bytes that a chunk's header has, as far as it is known.
    fn head_size(&self, head: &[u8], continues: bool) -> usize {
        match Type::of(head) {
            Some((kind, _)) if kind.symmetric() => {
                let size = u32_at(head, 4).unwrap_or(u32::MAX) as usize;
                // Whether the body is encrypted shows in its first four bytes.
                if self.mode == Mode::Unknown && !continues { size.clamp(24, 28) } else { 24 }
            }
            _ => 8,
        }
    }

    /// A chunk's header is complete.
    fn begin(&mut self, sender: Side, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let head = std::mem::take(&mut self.streams[sender as usize].head);
        let wrong = |what, found: u32, expected| DecodeError::new(what, found.into(), expected);
        let size = u32_at(&head, 4).unwrap_or(0);
        let Some((kind, flag)) = Type::of(&head) else {
            return Err(wrong("message type", u32_at(&head, 0).unwrap_or(0), "HEL, ACK, ERR, RHE, OPN, CLO or MSG"));
        };
        if size < kind.size_min() || size > i32::MAX as u32 {
            return Err(wrong("message size", size, "the size of its type at least"));
        }
        self.streams[sender as usize].doubt = self.streams[sender as usize].doubt.saturating_sub(1);
        if self.options.facts {
            *self.gathered.types.entry(kind.name()).or_default() += 1;
            if flag != b'F' {
                self.gathered.undecoded += 1;
            }
        }
        let request_id = u32_at(&head, 20).unwrap_or(0);
        if kind.symmetric() {
            self.streams[sender as usize].channel = u32_at(&head, 8);
        }
        // Encryption begins with the sequence header, so that an encrypted request id says nothing (Part 6, 6.7.2.1).
        let same = |m: &Message| m.kind == Type::Message && (m.encrypted || m.request_id == request_id);
        let continued = self.streams[sender as usize].message.as_ref().map(same);
        let continues = kind == Type::Message && continued == Some(true);
        if continued.is_some() && !continues {
            self.abandon(sender, out);
        }
        if !continues {
            if kind.symmetric() && self.mode == Mode::Unknown {
                self.guess_mode(head.get(24..).unwrap_or_default(), sender, out);
            }
            let ops = match kind {
                Type::Hello => services::HELLO,
                Type::Acknowledge => services::ACKNOWLEDGE,
                Type::Error => services::ERROR,
                Type::ReverseHello => services::REVERSE_HELLO,
                Type::Open => services::OPEN,
                Type::Close | Type::Message => services::BODY,
            };
            let readable = !kind.symmetric() || matches!(self.mode, Mode::Plain(_));
            let message =
                Message::new(kind, request_id, readable.then(|| Walker::new(ops)), kind.symmetric() && self.mode == Mode::Encrypted);
            self.streams[sender as usize].message = Some(message);
        }
        let footer = match self.mode {
            Mode::Plain(signature) if kind.symmetric() => signature,
            _ => 0,
        };
        let header = if kind.symmetric() { 24 } else { 8 };
        let stream = &mut self.streams[sender as usize];
        stream.flag = flag;
        stream.left = u64::from(size) - header;
        stream.footer = footer;
        stream.state = State::Body;
        if let Some(message) = &mut stream.message {
            message.held += header;
            message.aborted |= flag == b'A';
        }
        // What was read ahead to guess the mode belongs to the body.
        let ahead = head.get(usize::try_from(header).unwrap_or(24)..).unwrap_or_default();
        if stream.left == 0 || !ahead.is_empty() {
            self.body(sender, ahead, out);
        }
        Ok(())
    }

    /// Whether the channel's bodies can be read: a readable one begins with the type of a service.
    fn guess_mode(&mut self, body: &[u8], sender: Side, out: &mut Recorder<'_>) {
        if message_type(body).is_some() {
            let signature = self.policy.as_deref().map_or(0, signature_size);
            self.mode = Mode::Plain(signature);
            if self.policy.as_deref().is_some_and(|p| p != "None") {
                out.protect(|p| p.transport = "opcua-sign".into());
            }
            return;
        }
        self.unreadable += 1;
        let certain = self.policy.is_some() && self.streams[sender as usize].doubt == 0;
        if !certain && self.unreadable < UNREADABLE_MAX {
            return;
        }
        self.mode = Mode::Encrypted;
        out.protect(|p| p.transport = "opcua-signandencrypt".into());
        out.depth(Depth::Sizes);
        out.condition(|c| c.encrypted = true);
        self.name_by_certificate(out);
    }

    /// Nothing better will be seen of who this is than the certificate in the clear part of OPN.
    fn name_by_certificate(&self, out: &mut Recorder<'_>) {
        if let Some(name) = &self.certificate {
            let account = format!("certificate:CN={name}");
            out.login(|i| {
                i.account = Some(account);
                i.account_from = Some("certificate");
            });
        }
    }

    /// Bytes of the chunk that is open, none of which lies beyond it.
    fn body(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) {
        let stream = &mut self.streams[sender as usize];
        let Some(mut message) = stream.message.take() else { return };
        let readable = usize::try_from(stream.left.saturating_sub(stream.footer)).unwrap_or(usize::MAX).min(bytes.len());
        stream.left -= bytes.len() as u64;
        let (left, flag) = (stream.left, stream.flag);
        message.held += bytes.len() as u64;
        message.body += readable as u64;
        let mut rest = bytes.get(..readable).unwrap_or_default();
        while let Some(walker) = &mut message.walker {
            match walker.walk(&mut rest, message.found.as_mut()) {
                Ok(Walk::Done)
                    if message.kind == Type::Open && message.found.service.is_none() && message.found.security_mode.is_none() =>
                {
                    self.open_channel(&mut message, out);
                    if message.walker.is_none() || rest.is_empty() {
                        break;
                    }
                }
                Ok(_) => break,
                Err(_) => {
                    message.walker = None;
                    message.broken = true;
                }
            }
        }
        if message.early.is_none() && self.settled(&message) {
            let pending = self.pending.get(&message.request_id);
            let token = pending.map(|p| Arc::clone(&p.token));
            message.early = Some(match pending {
                Some(pending) => with(&pending.movement, pending.sets.first()),
                None => self.unpaired(&message.found),
            });
            if let Some(token) = token {
                self.speak(&token, out);
            }
        }
        if let Some(movement) = &message.early {
            if message.held > 0 {
                out.add(movement, sender, message.held, Counts::ZERO);
                message.held = 0;
            }
        }
        let stream = &mut self.streams[sender as usize];
        if left > 0 {
            stream.message = Some(message);
            return;
        }
        stream.state = State::Head;
        if flag == b'C' {
            stream.message = Some(message);
        } else {
            self.finish(sender, message, out);
        }
    }

    /// Whether what the message moves is certain before its end: the answers that carry much.
    fn settled(&self, message: &Message) -> bool {
        let response = message.found.service.filter(|s| s.response());
        response
            .is_some_and(|s| matches!(s.kind, Kind::Read | Kind::HistoryRead | Kind::Browse | Kind::BrowseNext | Kind::Call | Kind::Query))
    }

    /// The clear part of an OPN is read; the rest is, too, unless there is a security policy.
    fn open_channel(&mut self, message: &mut Message, out: &mut Recorder<'_>) {
        let uri = message.found.policy.clone().unwrap_or_default();
        let short = uri.rsplit('#').next().unwrap_or_default().to_owned();
        if self.options.facts {
            note(&mut self.gathered.policies, &uri);
        }
        if short == "None" {
            message.walker = Some(Walker::new(&[types::Op::Skip(8), types::Op::Service]));
            self.mode = Mode::Plain(0);
            out.protect(|p| p.transport = "opcua-none".into());
        } else {
            message.walker = None;
            if self.policy.as_deref() != Some(&short) {
                self.mode = Mode::Unknown;
            }
        }
        out.protect(|p| p.policy = Some(short.clone()));
        self.policy = Some(short);
    }

    /// A message is complete.
    fn finish(&mut self, sender: Side, mut message: Message, out: &mut Recorder<'_>) {
        let found = std::mem::take(&mut message.found);
        self.full += u64::from(found.cut || found.nodes.cut || found.methods.cut);
        let unwalked = message.walker.as_ref().is_some_and(|w| !w.done());
        message.broken |= unwalked;
        match message.kind {
            Type::Hello | Type::Acknowledge | Type::ReverseHello => {
                self.url(found.url.as_deref(), out);
                self.claim(sender, &message, connect(), Counts::messages(1), out);
            }
            Type::Error => {
                let status = found.status.unwrap_or(0);
                let operation = if !self.opened || denied(status) { Operation::Refused } else { Operation::Connect };
                if !self.opened {
                    self.name_by_certificate(out);
                }
                self.claim(sender, &message, Movement::new(operation, Side::Client), Counts::messages(1), out);
            }
            Type::Open => self.finish_open(sender, &message, &found, out),
            Type::Close if message.encrypted => {
                self.undecoded();
                self.claim(sender, &message, connect(), Counts::messages(1), out);
            }
            Type::Close | Type::Message => match found.service {
                _ if message.encrypted => {
                    self.undecoded();
                    self.claim(sender, &message, unread(), Counts::messages(1), out);
                }
                Some(service) if !message.aborted => self.finish_service(sender, &message, service, *found, out),
                _ => {
                    if !message.aborted {
                        self.undecoded();
                    }
                    self.forget(message.request_id);
                    // Of a message that lost its type, nobody can say what it was one of.
                    let known = message.early.is_some() || !(message.lost || self.gapped);
                    let other = || if found.service.is_none() { unread() } else { connect() };
                    let movement = message.early.clone().unwrap_or_else(other);
                    self.claim(sender, &message, movement, Counts::messages(u64::from(known)), out);
                }
            },
        }
    }

    fn undecoded(&mut self) {
        if self.options.facts {
            self.gathered.undecoded += 1;
        }
    }

    fn finish_open(&mut self, sender: Side, message: &Message, found: &Found, out: &mut Recorder<'_>) {
        match found.service {
            Some(service) => self.service_fact(service),
            None => self.undecoded(),
        }
        if sender == Side::Client {
            if found.certificate.is_some() {
                self.certificate.clone_from(&found.certificate);
                let subject = found.certificate.clone();
                out.protect(|p| p.certificate = subject.map(|name| json!({"subject": format!("CN={name}")})));
            }
        } else {
            self.opened = true;
        }
        if let Some(mode) = found.security_mode {
            let (fact, transport) = match mode {
                1 => ("None", "opcua-none"),
                2 => ("Sign", "opcua-sign"),
                3 => ("SignAndEncrypt", "opcua-signandencrypt"),
                _ => ("Invalid", "opcua-none"),
            };
            if self.options.facts && !self.gathered.modes.contains(&fact) {
                self.gathered.modes.push(fact);
            }
            out.protect(|p| p.transport = transport.into());
        }
        let refused = found.status.is_some_and(|s| s & 0x8000_0000 != 0);
        let operation = if refused { Operation::Refused } else { Operation::Connect };
        self.claim(sender, message, Movement::new(operation, Side::Client), Counts::messages(1), out);
    }

    fn finish_service(&mut self, sender: Side, message: &Message, service: &'static Service, found: Found, out: &mut Recorder<'_>) {
        self.service_fact(service);
        if self.options.facts && !service.items.is_empty() {
            let count = if service.response() { found.notifications } else { found.items.into() };
            if count > 0 {
                *self.gathered.items.entry(format!("{}.{}", service.name, service.items)).or_default() += count;
            }
        }
        if service.response() {
            self.finish_response(sender, message, service, found, out);
        } else {
            self.finish_request(sender, message, service, found, out);
        }
    }

    fn finish_request(&mut self, sender: Side, message: &Message, service: &'static Service, mut found: Found, out: &mut Recorder<'_>) {
        let kind = service.kind;
        let token: Arc<[u8]> = if *found.token == *self.speaking { Arc::clone(&self.speaking) } else { Arc::from(found.token.as_slice()) };
        if !self.answered && !matches!(kind, Kind::CreateSession | Kind::ActivateSession) {
            self.unanswered(&token, out);
        }
        self.speak(&token, out);
        self.url(found.url.as_deref(), out);
        let mut movement = movement_of(kind);
        let mut nodes = None;
        let sets = match kind {
            Kind::Call if found.user_change.is_some() => {
                movement = Movement::new(Operation::Admin, Side::Client);
                Arc::new(vec![Arc::new(user_change(found.user_change.take(), out.identity()))])
            }
            Kind::BrowseNext => {
                let mut browsed = Nodes::default();
                for (_, point) in &found.points {
                    match self.points.remove(point) {
                        Some(node) => browsed.push(&node),
                        None => browsed.push(&[]),
                    }
                }
                let sets = self.sets_of(&browsed);
                nodes = Some(browsed);
                sets
            }
            Kind::Publish | Kind::Republish | Kind::Other | Kind::Query | Kind::CreateSession | Kind::ActivateSession => Arc::default(),
            _ if found.nodes.len() == 0 => Arc::default(),
            _ => self.sets_of(&found.nodes),
        };
        let values = if matches!(kind, Kind::Write | Kind::HistoryWrite) { found.values.min(message.body) } else { 0 };
        self.monitor(kind, &found);
        // A request's counts stay together, except that each thousand values written have the set of their nodes.
        for index in 0..sets.len().max(1) {
            let share = if kind == Kind::Write && sets.len() > 1 { share(values, index, sets.len()) } else { values };
            let counts =
                Counts { values: if index == 0 || kind == Kind::Write { share } else { 0 }, messages: u64::from(index == 0), rows: 0 };
            let of = with(&movement, sets.get(index));
            if index == 0 {
                self.claim(sender, message, of, counts, out);
            } else {
                out.add(&of, sender, 0, counts);
            }
        }
        if message.broken {
            out.estimated(&movement);
        }
        let (attempt, authentication) = match kind {
            Kind::ActivateSession => self.attempt(&token, &found, out),
            _ => (None, None),
        };
        if kind == Kind::Browse {
            nodes = Some(std::mem::take(&mut found.nodes));
        }
        let handles = if kind == Kind::CreateItems { std::mem::take(&mut found.handles) } else { Vec::new() };
        let set_bytes: usize = sets.iter().map(|set| set_size(set)).sum();
        let size = 400 + token.len() + set_bytes + nodes.as_ref().map_or(0, Nodes::size) + 4 * handles.len();
        let fact = if kind == Kind::CreateSession { self.session_fact(found.application.clone()) } else { None };
        let token_bytes = token.len();
        let fits = self.pending_bytes + size <= PENDING_BYTES_MAX;
        self.full += u64::from(!fits);
        let pending = Pending {
            kind,
            movement,
            sets: if fits { sets } else { Arc::new(vec![Arc::clone(&self.unknown)]) },
            token,
            nodes: nodes.filter(|_| fits),
            handles: if fits { handles } else { Vec::new() },
            subscription: found.subscription,
            attempt,
            authentication,
            application: found.application.take(),
            fact,
            size: if fits { size } else { 400 + token_bytes },
        };
        self.pending_bytes += pending.size;
        if let Some(old) = self.pending.insert(message.request_id, pending) {
            self.pending_bytes -= old.size;
        }
        if self.pending.len() > PENDING_MAX {
            self.full += 1;
            if let Some((_, old)) = self.pending.pop_first() {
                self.pending_bytes -= old.size;
            }
        }
    }

    fn finish_response(&mut self, sender: Side, message: &Message, service: &'static Service, found: Found, out: &mut Recorder<'_>) {
        let pending = self.pending.remove(&message.request_id);
        if let Some(pending) = &pending {
            self.pending_bytes -= pending.size;
            let token = Arc::clone(&pending.token);
            self.speak(&token, out);
        }
        let status = found.status.unwrap_or(0);
        let bad = status & 0x8000_0000 != 0;
        if service.kind == Kind::Fault && self.options.facts {
            let name = if self.gathered.faults.len() < FACTS_MAX { status_name(status) } else { "other".to_owned() };
            *self.gathered.faults.entry(name).or_default() += 1;
        }
        let kind = pending.as_ref().map_or(service.kind, |p| p.kind);
        let entry = matches!(kind, Kind::CreateSession | Kind::ActivateSession | Kind::Channel);
        let sets = pending.as_ref().map(|p| Arc::clone(&p.sets)).unwrap_or_default();
        // A fault says nothing of what it answers, if that was lost.
        let known = pending.is_some() || service.kind != Kind::Fault || !self.gapped;
        let mut counts = Counts::messages(u64::from(known));
        let mut movement = match &pending {
            Some(pending) => with(&pending.movement, sets.first()),
            None => self.unpaired(&found),
        };
        if bad && (entry || denied(status)) {
            movement = Movement { operation: Operation::Refused, from: Side::Client, objects: movement.objects };
        }
        // A value is at least one byte, so an array's length beyond the body is not believed.
        let values = found.values.min(message.body);
        match service.kind {
            Kind::Publish | Kind::Republish if values > 0 => {
                let subscription = match &pending {
                    Some(pending) if service.kind == Kind::Republish => pending.subscription,
                    _ => found.subscription,
                };
                movement = Movement::of(Operation::Subscribe, Side::Server, self.notified(subscription, &found.handles));
                counts.values = values;
            }
            Kind::Read if sets.len() > 1 => counts.values = share(values, 0, sets.len()),
            Kind::HistoryRead if sets.len() > 1 => counts.values = found.values_by_set.first().copied().unwrap_or(0).min(values),
            Kind::Read | Kind::HistoryRead => counts.values = values,
            Kind::CreateItems => self.created(pending.as_ref(), &found),
            Kind::Browse | Kind::BrowseNext => self.browsed(pending.as_ref(), &found),
            _ => {}
        }
        let previous = out.identity().clone();
        if let Some(attempt) = pending.as_ref().and_then(|p| p.attempt.clone()) {
            if bad { out.identify(|i| *i = attempt) } else { out.login(|i| *i = attempt) }
        }
        let estimated = message.broken || values < found.values;
        self.claim(sender, message, movement.clone(), counts, out);
        if matches!(service.kind, Kind::Read | Kind::HistoryRead) {
            for (index, set) in sets.iter().enumerate().skip(1) {
                let more = match service.kind {
                    Kind::Read => share(values, index, sets.len()),
                    _ => found.values_by_set.get(index).copied().unwrap_or(0).min(values),
                };
                out.add(&with(&movement, Some(set)), sender, 0, Counts::values(more));
            }
        }
        if estimated {
            out.estimated(&movement);
        }
        let Some(pending) = pending else { return };
        match service.kind {
            Kind::CreateSession if !bad => self.created_session(found.token, pending.application, pending.fact),
            Kind::ActivateSession if !bad => self.activated(&pending, out),
            Kind::CloseSession if !bad => {
                self.sessions.remove(&pending.token);
            }
            _ if pending.attempt.is_some() => out.identify(|i| *i = previous),
            _ => {}
        }
    }

    /// What a response without its request is claimed for.
    fn unpaired(&self, found: &Found) -> Movement {
        let kind = found.service.map_or(Kind::Other, |s| s.kind);
        let movement = movement_of(kind);
        let named = !matches!(movement.operation, Operation::Connect | Operation::Query);
        with(&movement, named.then_some(&self.unknown))
    }

    fn claim(&mut self, sender: Side, message: &Message, movement: Movement, counts: Counts, out: &mut Recorder<'_>) {
        out.add(&movement, sender, message.held, counts);
        self.streams[sender as usize].last = Movement { objects: None, ..movement };
    }

    /// The message being read will not be completed.
    fn abandon(&mut self, sender: Side, out: &mut Recorder<'_>) {
        let Some(message) = self.streams[sender as usize].message.take() else { return };
        let (movement, known) = match (&message.early, message.found.service) {
            (Some(movement), _) => (movement.clone(), true),
            (None, Some(service)) if !service.response() => (movement_of(service.kind), true),
            _ if message.encrypted => (unread(), true),
            (None, None) => (unread(), false),
            _ => (connect(), false),
        };
        if message.encrypted || message.found.service.is_none() {
            self.undecoded();
        }
        let values = if message.early.is_some() { message.found.values.min(message.body) } else { 0 };
        self.claim(sender, &message, movement.clone(), Counts { values, messages: u64::from(known), rows: 0 }, out);
        out.estimated(&movement);
        self.forget(message.request_id);
    }

    /// A request will have no answer.
    fn forget(&mut self, request_id: u32) {
        if let Some(pending) = self.pending.remove(&request_id) {
            self.pending_bytes -= pending.size;
        }
    }

    /// Who moves the data of a session's messages.
    fn speak(&mut self, token: &Arc<[u8]>, out: &mut Recorder<'_>) {
        if *token == self.speaking {
            return;
        }
        if let Some(identity) = self.sessions.get(token).and_then(|s| s.identity.clone()) {
            out.identify(|i| *i = identity);
            self.speaking = Arc::clone(token);
        }
    }

    /// What an ActivateSession request claims about its user.
    fn attempt(&mut self, token: &Arc<[u8]>, found: &Found, out: &Recorder<'_>) -> (Option<Identity>, Option<&'static str>) {
        let session = self.sessions.get(token);
        let application = session.and_then(|s| s.application.clone()).or_else(|| out.identity().application.clone());
        let by_application = application.as_ref().map(|uri| format!("application:{uri}"));
        let (account, from, authentication, fact) = match found.identity_token {
            Some(324) => (found.user.clone().or(by_application), "token", "username", "username"),
            Some(327) => match &found.user_certificate {
                Some(name) => (Some(format!("certificate:CN={name}")), "certificate", "certificate", "certificate"),
                None => (by_application, "certificate", "certificate", "certificate"),
            },
            Some(940) => (by_application, "token", "issued", "issued"),
            Some(0) => (by_application, "token", "anonymous", "anonymous (null token)"),
            _ => (by_application, "token", "anonymous", "anonymous"),
        };
        if self.options.facts {
            let user = if authentication == "username" { found.user.clone() } else { None };
            let sessions = &mut self.gathered.sessions;
            // Without the answer that named its token, a session is the one last asked for.
            let at = session.and_then(|s| s.fact).unwrap_or(sessions.len().saturating_sub(1));
            if at == sessions.len() && at < FACTS_MAX {
                sessions.push((None, Vec::new()));
            }
            if let Some((_, identities)) = sessions.get_mut(at) {
                if identities.len() < FACTS_MAX {
                    identities.push((fact, user));
                }
            }
        }
        let from = account.is_some().then_some(from);
        let identity = Identity { account, account_from: from, application, ..Identity::default() };
        (Some(identity), Some(authentication))
    }

    fn session_fact(&mut self, application: Option<String>) -> Option<usize> {
        let place = self.gathered.sessions.len();
        if !self.options.facts || place >= FACTS_MAX {
            return None;
        }
        self.gathered.sessions.push((application, Vec::new()));
        Some(place)
    }

    fn created_session(&mut self, token: Vec<u8>, application: Option<String>, fact: Option<usize>) {
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.clear();
            self.full += 1;
        }
        self.sessions.insert(Arc::from(token), Session { application, identity: None, fact });
    }

    fn activated(&mut self, pending: &Pending, out: &mut Recorder<'_>) {
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&pending.token) {
            self.sessions.clear();
            self.full += 1;
        }
        let session = self.sessions.entry(Arc::clone(&pending.token)).or_default();
        session.identity.clone_from(&pending.attempt);
        self.speaking = Arc::clone(&pending.token);
        if let Some(authentication) = pending.authentication {
            out.protect(|p| p.authentication = Some(authentication.into()));
        }
    }

    /// Of the server nothing is seen. A client that goes on with its session was let in (OPC 10000-4, 5.7.3: before
    /// ActivateSession succeeds, every other service fails).
    fn unanswered(&mut self, token: &Arc<[u8]>, out: &mut Recorder<'_>) {
        let waits = |(id, pending): (&u32, &Pending)| (pending.attempt.is_some() && pending.token == *token).then_some(*id);
        let Some(mut pending) = self.pending.iter().rev().find_map(waits).and_then(|id| self.pending.remove(&id)) else { return };
        self.pending_bytes -= pending.size;
        let asked = self.pending.values().rev().find(|pending| pending.kind == Kind::CreateSession);
        let application = asked.and_then(|pending| pending.application.clone());
        if let Some(identity) = pending.attempt.as_mut().filter(|identity| identity.application.is_none()) {
            if identity.account.is_none() && application.is_some() {
                identity.account = application.as_ref().map(|uri| format!("application:{uri}"));
                identity.account_from = Some("token");
            }
            identity.application = application;
        }
        self.activated(&pending, out);
        if let Some(identity) = pending.attempt {
            out.identify(|i| *i = identity);
        }
    }

    fn url(&mut self, url: Option<&str>, out: &mut Recorder<'_>) {
        let Some(url) = url else { return };
        if self.options.facts {
            note(&mut self.gathered.endpoint_urls, url);
        }
        if let Some(host) = host(url) {
            out.server_name(host, "opcua");
        }
    }

    fn service_fact(&mut self, service: &'static Service) {
        if self.options.facts {
            *self.gathered.services.entry(service.name).or_default() += 1;
        }
    }

    /// The object sets of a request's nodes: those of the same request before, or new ones.
    fn sets_of(&mut self, nodes: &Nodes) -> Arc<Vec<Arc<ObjectSet>>> {
        if let Some(sets) = self.sets.get(nodes) {
            return Arc::clone(sets);
        }
        let all: Vec<&[u8]> = nodes.iter().collect();
        let mut sets: Vec<Arc<ObjectSet>> = all.chunks(NAMES_MAX).map(|part| Arc::new(set_of(part.iter().copied()))).collect();
        if nodes.cut || sets.is_empty() {
            sets.push(Arc::clone(&self.unknown));
        }
        let sets = Arc::new(sets);
        let size = 100 + nodes.size() + sets.iter().map(|set| set_size(set)).sum::<usize>();
        if self.sets_bytes + size > SETS_BYTES_MAX {
            self.sets.clear();
            self.sets_bytes = 0;
        }
        if size <= SETS_BYTES_MAX {
            self.sets.insert(nodes.clone(), Arc::clone(&sets));
            self.sets_bytes += size;
        }
        sets
    }

    /// Monitored items come and go; their handles are the client's own, each within its subscription.
    fn monitor(&mut self, kind: Kind, found: &Found) {
        let subscription = found.subscription;
        match kind {
            Kind::CreateItems => {
                for (handle, node) in found.handles.iter().zip(found.nodes.iter()) {
                    let name: Arc<str> = Arc::from(types::node_text(node));
                    let size = 120 + name.len();
                    if self.items_bytes + size <= ITEMS_BYTES_MAX {
                        self.items_bytes += size;
                        if let Some(old) = self.items.insert((subscription, *handle), name) {
                            self.items_bytes -= 120 + old.len();
                        }
                    } else {
                        self.full += 1;
                    }
                }
            }
            Kind::ModifyItems => {
                for ((id, _), handle) in found.item_ids.iter().zip(&found.handles) {
                    let Some(old) = self.item_handles.insert((subscription, *id), *handle) else {
                        self.item_handles.remove(&(subscription, *id));
                        continue;
                    };
                    if old != *handle {
                        if let Some(name) = self.items.remove(&(subscription, old)) {
                            if let Some(replaced) = self.items.insert((subscription, *handle), name) {
                                self.items_bytes -= 120 + replaced.len();
                            }
                        }
                    }
                }
            }
            Kind::DeleteItems => {
                for (id, _) in &found.item_ids {
                    if let Some(handle) = self.item_handles.remove(&(subscription, *id)) {
                        if let Some(name) = self.items.remove(&(subscription, handle)) {
                            self.items_bytes -= 120 + name.len();
                        }
                    }
                }
            }
            Kind::DeleteSubscriptions => {
                let gone: HashSet<u32> = found.subscriptions.iter().copied().collect();
                self.items.retain(|(of, _), _| !gone.contains(of));
                self.item_handles.retain(|(of, _), _| !gone.contains(of));
                self.items_bytes = self.items.values().map(|name| 120 + name.len()).sum();
            }
            _ => return,
        }
        self.notified.clear();
    }

    fn created(&mut self, pending: Option<&Pending>, found: &Found) {
        let Some(pending) = pending else { return };
        for (handle, (id, status)) in pending.handles.iter().zip(&found.item_ids) {
            if status & 0x8000_0000 == 0 && self.items.contains_key(&(pending.subscription, *handle)) {
                self.item_handles.insert((pending.subscription, *id), *handle);
            }
        }
        // Item ids are as many as items, unless a server gives one twice.
        if self.item_handles.len() > self.items.len() {
            let items = &self.items;
            self.item_handles.retain(|(of, _), handle| items.contains_key(&(*of, *handle)));
        }
    }

    fn browsed(&mut self, pending: Option<&Pending>, found: &Found) {
        let Some(nodes) = pending.and_then(|p| p.nodes.as_ref()) else { return };
        for (index, point) in &found.points {
            if self.points.len() >= POINTS_MAX {
                self.points.clear();
                self.full += 1;
            }
            if let Some(node) = nodes.get(usize::try_from(*index).unwrap_or(usize::MAX)) {
                self.points.insert(point.clone(), node.to_vec());
            }
        }
    }

    /// The nodes of a notification, each once.
    fn notified(&mut self, subscription: u32, handles: &[u32]) -> Arc<ObjectSet> {
        let mut handles = handles.to_vec();
        handles.sort_unstable();
        handles.dedup();
        let key = (subscription, handles);
        if let Some(set) = self.notified.get(&key) {
            return Arc::clone(set);
        }
        let mut names: Vec<String> = key
            .1
            .iter()
            .take(NAMES_MAX)
            .map(|handle| self.items.get(&(subscription, *handle)).map_or("unknown".to_owned(), |name| name.to_string()))
            .collect();
        names.sort();
        names.dedup();
        let set = Arc::new(ObjectSet { names, ..ObjectSet::default() });
        let size = 100 + set_size(&set) + 4 * key.1.len();
        if self.sets_bytes + size > SETS_BYTES_MAX {
            self.sets.clear();
            self.notified.clear();
            self.sets_bytes = 0;
        }
        self.sets_bytes += size;
        self.notified.insert(key, Arc::clone(&set));
        set
    }

    /// Whether a chunk may begin here, seen from the middle of a stream.
    fn plausible(&self, sender: Side, head: &[u8]) -> bool {
        let (Some((kind, _)), Some(size)) = (Type::of(head), u32_at(head, 4)) else { return false };
        let fits = size >= kind.size_min() && size <= RESYNC_SIZE_MAX;
        let known = match (self.streams[sender as usize].channel, u32_at(head, 8)) {
            (Some(channel), Some(said)) => channel == said,
            _ => true,
        };
        fits && (!matches!(kind, Type::Open | Type::Close | Type::Message) || known)
    }

    /// Looks for a chunk's header in `bytes` and what was kept before; gives what follows from there on.
    fn find(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.streams[sender as usize].head);
        all.extend_from_slice(bytes);
        let at = (0..all.len().saturating_sub(11)).find(|at| self.plausible(sender, all.get(*at..*at + 12).unwrap_or_default()));
        let passed = at.unwrap_or(all.len().saturating_sub(11));
        if passed > 0 {
            let last = self.streams[sender as usize].last.clone();
            out.add(&last, sender, passed as u64, Counts::ZERO);
        }
        let rest = all.split_off(passed);
        let stream = &mut self.streams[sender as usize];
        if at.is_some() {
            stream.state = State::Head;
            stream.doubt = DOUBT;
            return rest;
        }
        stream.head = rest;
        Vec::new()
    }

    /// Reads on; what it gives back is to be read again, from a place where a chunk seems to begin.
    fn read(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<Option<Vec<u8>>, DecodeError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.streams[sender as usize].state {
                State::Body => {
                    let left = usize::try_from(self.streams[sender as usize].left).unwrap_or(usize::MAX);
                    let (now, later) = rest.split_at(left.min(rest.len()));
                    rest = later;
                    self.body(sender, now, out);
                }
                State::Head => {
                    let continues = self.streams[sender as usize].message.is_some();
                    let wanted = self.head_size(&self.streams[sender as usize].head, continues);
                    let stream = &mut self.streams[sender as usize];
                    let (now, later) = rest.split_at(wanted.saturating_sub(stream.head.len()).min(rest.len()));
                    stream.head.extend_from_slice(now);
                    rest = later;
                    if stream.head.len() < wanted {
                        return Ok(None);
                    }
                    let (head, doubt) = (stream.head.clone(), stream.doubt);
                    if self.head_size(&head, continues) > head.len() {
                        continue;
                    }
                    match self.begin(sender, out) {
                        Err(_) if doubt > 0 => {
                            let mut again = head;
                            again.extend_from_slice(rest);
                            // The first byte is not a header's: pass it, look on from the next.
                            let last = self.streams[sender as usize].last.clone();
                            out.add(&last, sender, 1, Counts::ZERO);
                            self.streams[sender as usize].state = State::Lost;
                            let found = self.find(sender, again.get(1..).unwrap_or_default(), out);
                            return Ok(Some(found).filter(|f| !f.is_empty()));
                        }
                        result => result?,
                    }
                }
                State::Lost => {
                    let found = self.find(sender, rest, out);
                    return Ok(Some(found).filter(|f| !f.is_empty()));
                }
            }
        }
        Ok(None)
    }
}

impl Decoder for OpcUa {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if !self.begun {
            self.begun = true;
            out.protocol("opcua", Depth::Decoded);
        }
        if self.options.facts {
            self.gathered.bytes[sender as usize] += bytes.len() as u64;
        }
        self.answered |= sender == Side::Server;
        let mut again = self.read(sender, bytes, out)?;
        while let Some(bytes) = again {
            again = self.read(sender, &bytes, out)?;
        }
        for _ in 0..std::mem::take(&mut self.full) {
            out.bound_reached();
        }
        Ok(())
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        out.gapped();
        self.gapped = true;
        let stream = &mut self.streams[sender as usize];
        let inside = matches!(stream.state, State::Body) && length <= stream.left;
        if inside {
            let readable = length.min(stream.left.saturating_sub(stream.footer));
            stream.left -= length;
            if let Some(message) = &mut stream.message {
                message.lost = true;
                // Counts stand before what they count, so that most of a long body may be missing.
                if message.walker.as_mut().is_some_and(|w| !w.swallow(readable)) {
                    message.walker = None;
                    message.broken = true;
                }
                message.body += readable;
            }
            if stream.left == 0 {
                self.body(sender, &[], out);
            }
            return Ok(());
        }
        let carried = stream.head.len() as u64;
        stream.head.clear();
        stream.state = State::Lost;
        let last = stream.last.clone();
        self.abandon(sender, out);
        if carried > 0 {
            out.add(&last, sender, carried, Counts::ZERO);
        }
        Ok(())
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        for sender in [Side::Client, Side::Server] {
            self.abandon(sender, out);
        }
    }

    fn facts(&self, into: &mut Facts) {
        if !self.options.facts || !self.begun {
            return;
        }
        let g = &self.gathered;
        let sessions: Vec<Value> = g
            .sessions
            .iter()
            .map(|(uri, identities)| {
                let identities: Vec<Value> =
                    identities.iter().map(|(token, user)| json!({"token_type": token, "user_name": user})).collect();
                json!({"client_application_uri": uri, "identities": identities})
            })
            .collect();
        into.insert(
            "opcua",
            json!({
                "endpoint_urls": g.endpoint_urls,
                "security_policies": g.policies,
                "security_modes": g.modes,
                "message_types": g.types,
                "services": g.services,
                "item_counts": g.items,
                "undecoded_messages": g.undecoded,
                "bytes_from_client": g.bytes[0],
                "bytes_from_server": g.bytes[1],
                "service_faults": g.faults,
                "sessions": sessions,
            }),
        );
    }

    fn memory_bytes(&self) -> usize {
        let streams: usize = self
            .streams
            .iter()
            .map(|s| {
                let message = s.message.as_ref();
                s.head.capacity() + message.map_or(0, |m| m.found.memory_bytes() + m.walker.as_ref().map_or(0, Walker::memory_bytes))
            })
            .sum();
        let points: usize = self.points.iter().map(|(point, node)| 96 + point.len() + node.len()).sum();
        let tables = self.item_handles.len() * 24 + self.sessions.len() * (300 + TOKEN_BYTES_MAX + 2 * NAME_BYTES_MAX);
        size_of::<Self>() + streams + self.pending_bytes + self.sets_bytes + self.items_bytes + points + tables
    }
}

/// The movement of a service's messages, both ways; its objects come with the request.
fn movement_of(kind: Kind) -> Movement {
    let (operation, from) = match kind {
        Kind::Read => (Operation::Read, Side::Server),
        Kind::HistoryRead => (Operation::HistoryRead, Side::Server),
        Kind::Browse | Kind::BrowseNext => (Operation::Browse, Side::Server),
        Kind::Query => (Operation::Query, Side::Server),
        Kind::CreateItems => (Operation::Subscribe, Side::Server),
        Kind::Write => (Operation::Write, Side::Client),
        Kind::HistoryWrite => (Operation::HistoryWrite, Side::Client),
        Kind::Call => (Operation::Call, Side::Client),
        Kind::Manage => (Operation::Ddl, Side::Client),
        _ => (Operation::Connect, Side::Client),
    };
    Movement::new(operation, from)
}

fn with(movement: &Movement, objects: Option<&Arc<ObjectSet>>) -> Movement {
    Movement { objects: objects.map(Arc::clone).or_else(|| movement.objects.clone()), ..*movement }
}

/// Of `total` values, those of the set at `index`: sets hold a thousand nodes each, the last one the rest.
fn share(total: u64, index: usize, sets: usize) -> u64 {
    let before = (index * NAMES_MAX) as u64;
    let left = total.saturating_sub(before);
    if index + 1 == sets { left } else { left.min(NAMES_MAX as u64) }
}

fn set_of<'a>(nodes: impl Iterator<Item = &'a [u8]>) -> ObjectSet {
    let mut seen = HashSet::new();
    let names = nodes.filter(|node| seen.insert(*node)).map(types::node_text).collect();
    ObjectSet { names, ..ObjectSet::default() }
}

fn set_size(set: &ObjectSet) -> usize {
    set.names.iter().chain(&set.columns).map(|name| 24 + name.len()).sum()
}

/// The object of a change of users: whose account, and what happens to it.
fn user_change(change: Option<(&'static str, Option<String>)>, caller: &Identity) -> ObjectSet {
    let (word, name) = change.unwrap_or(("alter", None));
    // ChangePassword names nobody: it changes the caller's own.
    let name = name.or_else(|| caller.account.clone().filter(|_| word == "password")).unwrap_or_else(|| "unknown".to_owned());
    // What could be read was not encrypted, as the methods that carry a password must be (Part 18, 5.2).
    let marks = matches!(word, "create" | "password").then_some(SECRET_PASSWORD).into_iter().collect();
    ObjectSet { names: vec![format!("account:{name}")], columns: vec![word.to_owned()], statement: None, marks }
}

fn note(list: &mut Vec<String>, text: &str) {
    if list.len() < FACTS_MAX && !list.iter().any(|known| known == text) {
        list.push(text.to_owned());
    }
}

/// The host of an endpoint URL (Part 6, 7.2): `opc.tcp://HOST:PORT/PATH`, IPv6 addresses in brackets.
fn host(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?.0,
        None => authority.split(':').next()?,
    };
    (!host.is_empty() && host.len() <= 253).then_some(host)
}

/// Bytes of the symmetric signature of a policy (Part 7, security policies).
fn signature_size(policy: &str) -> u64 {
    match policy {
        "None" => 0,
        "Basic128Rsa15" | "Basic256" => 20,
        "ECC_nistP384" | "ECC_brainpoolP384r1" => 48,
        "ECC_curve25519" | "ECC_curve448" => 16,
        _ => 32,
    }
}

/// Whether a status says that somebody was not let in: certificates, identity, rights (Part 4, 7.39; Part 6, A.2).
fn denied(status: u32) -> bool {
    matches!(status >> 16, 0x8012..=0x8021 | 0x8054..=0x8056)
}

fn status_name(status: u32) -> String {
    let name = match status >> 16 {
        0x8001 => "BadUnexpectedError",
        0x8002 => "BadInternalError",
        0x8003 => "BadOutOfMemory",
        0x8008 => "BadEncodingLimitsExceeded",
        0x800A => "BadTimeout",
        0x800B => "BadServiceUnsupported",
        0x800F => "BadNothingToDo",
        0x8010 => "BadTooManyOperations",
        0x8013 => "BadSecurityChecksFailed",
        0x801F => "BadUserAccessDenied",
        0x8020 => "BadIdentityTokenInvalid",
        0x8021 => "BadIdentityTokenRejected",
        0x8022 => "BadSecureChannelIdInvalid",
        0x8025 => "BadSessionIdInvalid",
        0x8026 => "BadSessionClosed",
        0x8027 => "BadSessionNotActivated",
        0x8028 => "BadSubscriptionIdInvalid",
        0x8056 => "BadTooManySessions",
        0x8078 => "BadTooManyPublishRequests",
        0x8079 => "BadNoSubscription",
        _ => return format!("0x{status:08X}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;
