//! HTTP/1.0 and 1.1, and the simple requests of 0.9, in the clear (RFC 9110, RFC 9112): who asks for what, and which way it goes.
//!
//! Heads are read line by line, so that their length costs no memory; bodies are skipped by their length, by chunks, or
//! to the end of the connection. A request is one message. `get` runs from the server (GET, HEAD, OPTIONS …), `put` from
//! the client (all other methods). The data decides: what a message carries against the direction of its method
//! beyond [`ANSWER_BYTES_MAX`] is the other movement of the same object.
//!
//! CONNECT and the absolute form name the destination that a relay is asked for. What follows a CONNECT that was
//! granted, or an Upgrade, is read on by whoever recognises it.

mod secrets;

use super::inner::Inner;
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition, websocket};
use crate::windows::{Counts, Depth, Facts, Movement, Name, ObjectSet, Operation, Recorder, Side};
use memchr::{memchr, memmem};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Bytes kept of a line; the rest of a longer one is skipped.
pub const LINE_BYTES_MAX: usize = 8 << 10;
/// Requests that wait for their answer; of more, the oldest is forgotten.
pub const EXCHANGES_MAX: usize = 256;
/// Bytes kept of what a client sends before its CONNECT or Upgrade was answered.
pub const WAITING_BYTES_MAX: usize = 16 << 10;
/// Bytes of a body against the direction of its method that still belong to the method: an acknowledgement, a query.
pub const ANSWER_BYTES_MAX: u64 = 4 << 10;
/// An object is at most so many segments and characters of a path; what is cut off is written `*`.
pub const PATH_SEGMENTS_MAX: usize = 8;
pub const PATH_CHARS_MAX: usize = 128;
/// Letters and digits in a row, mixed, that make a segment of a path a token rather than a name.
pub const TOKEN_CHARS_MIN: usize = 20;
/// Characters kept of a name: of a host, an account, a user agent.
pub const NAME_CHARS_MAX: usize = 255;
/// Requests kept for `hopwatch inspect`, and characters of their targets.
pub const FACTS_MAX: usize = 512;
pub const TARGET_CHARS_MAX: usize = 2048;
/// Relays one inside the other that are looked into.
pub const LEVELS_MAX: u8 = 2;

pub const HTTP: Protocol = Protocol { name: "http", recognise, decoder };

/// Methods whose data comes from the server (RFC 9110, 9.3; RFC 4918, 9.1; RFC 3253, 3.6; RFC 5323).
const GETS: &[&str] = &["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"];
/// Further methods by which a connection is known before its first line is whole.
const PUTS: &[&str] = &[
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "CONNECT",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "MERGE",
    "NOTIFY",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "M-SEARCH",
    "LINK",
    "UNLINK",
    "PURGE",
];
/// Connection preface of HTTP/2 without TLS (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    within(options, LEVELS_MAX)
}

/// HTTP inside a tunnel that HTTP made; `levels` bounds how deep that goes.
pub(super) fn within(options: Options, levels: u8) -> Box<dyn Decoder> {
    Box::new(Http::new(options, levels))
}

/// A request from one side, or an answer from the other. In the middle of a connection the same is looked for at the
/// beginning of each segment, so nothing is recognised by its middle.
fn recognise(heads: &Heads<'_>) -> Recognition {
    if heads.midstream {
        return Recognition::No;
    }
    let mut doubt = heads.client.is_empty() && heads.server.is_empty();
    for (head, side) in [(heads.client, Side::Client), (heads.server, Side::Server)] {
        if head.is_empty() {
            continue;
        }
        for (begins, client) in [(begins_request(head), side), (begins_answer(head), side.other())] {
            match begins {
                Some(true) => return Recognition::Yes { client },
                None => doubt = true,
                Some(false) => {}
            }
        }
        if !doubt {
            // Whoever speaks first and not HTTP makes it another protocol, whatever is answered.
            return Recognition::No;
        }
    }
    if doubt { Recognition::More } else { Recognition::No }
}

/// Whether a request's first line starts here; `None` asks for more.
fn begins_request(head: &[u8]) -> Option<bool> {
    if let Some(end) = memchr(b'\n', head) {
        let line = trimmed(head.get(..end)?);
        // What its beginning would have been taken for, had it come alone: how a line is cut must not decide what it is.
        return Some(request_line(line).is_some() || head.starts_with(PREFACE) || alike(line) == Some(true));
    }
    alike(head)
}

/// The same of a line whose end is not there.
fn alike(head: &[u8]) -> Option<bool> {
    if PREFACE.starts_with(head) {
        return None;
    }
    let Some(space) = memchr(b' ', head) else {
        let known = GETS.iter().chain(PUTS).any(|method| method.as_bytes().starts_with(head));
        return if known { None } else { Some(false) };
    };
    let (method, target) = (head.get(..space)?, head.get(space + 1..)?);
    if !GETS.iter().chain(PUTS).any(|known| known.as_bytes() == method) {
        return Some(false);
    }
    let absolute = [&b"http://"[..], b"https://"].iter().any(|scheme| {
        let length = scheme.len().min(target.len());
        target.get(..length).is_some_and(|start| start.eq_ignore_ascii_case(scheme.get(..length).unwrap_or_default()))
    });
    if target.first() == Some(&b'/') || (absolute && target.len() >= 8) || (method == b"CONNECT" && target.len() >= 40) {
        return Some(true);
    }
    // An asterisk or a host and port: short enough for the whole line to come soon.
    let may_be = target.is_empty() || absolute || target.first() == Some(&b'*') || method == b"CONNECT";
    if may_be { None } else { Some(false) }
}

fn begins_answer(head: &[u8]) -> Option<bool> {
    const VERSION: &[u8] = b"HTTP/1.";
    if head.len() < 9 {
        return if VERSION.starts_with(head.get(..head.len().min(7)).unwrap_or_default()) { None } else { Some(false) };
    }
    Some(head.starts_with(VERSION) && matches!(head.get(7), Some(b'0' | b'1')) && head.get(8) == Some(&b' '))
}

/// A line without its end (RFC 9112, 2.2: a bare LF is one, too).
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Whether a request line is one of HTTP/0.9.
fn is_simple(line: &[u8]) -> bool {
    line.len() < LINE_BYTES_MAX && line.starts_with(b"GET /") && !line.get(5..).is_some_and(|rest| rest.contains(&b' '))
}

/// Method and target of a request line (RFC 9112, 3).
fn request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr(b' ', line)?;
    let (method, rest) = line.split_at(space);
    let rest = rest.get(1..)?;
    // One cut off at its end has lost its version.
    let target = if line.len() >= LINE_BYTES_MAX {
        rest
    } else {
        match memchr::memrchr(b' ', rest) {
            Some(end) => {
                let version = rest.get(end + 1..)?;
                if !version.starts_with(b"HTTP/1.") || version.len() != 8 {
                    return None;
                }
                rest.get(..end)?
            }
            // HTTP/0.9, still spoken by devices (RFC 1945, 5.1): no version, no fields, and the answer is the body alone.
            None if method == b"GET" && rest.starts_with(b"/") => rest,
            None => return None,
        }
    };
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    (!method.is_empty() && method.len() <= 32 && method.iter().all(token) && !target.is_empty()).then_some((method, target))
}

/// The status of a status line (RFC 9112, 4).
fn status_line(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (&[_, b' ', a, b, c], after) = rest.split_first_chunk::<5>()? else { return None };
    let digits = [a, b, c];
    let whole = matches!(after.first(), None | Some(b' '));
    (whole && digits.iter().all(u8::is_ascii_digit) && a >= b'1').then(|| digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')))
}

/// Where in a line a request or status line begins, after bytes that were lost: a body may end in the middle of it.
fn found_in(line: &[u8], sender: Side) -> Option<usize> {
    if sender == Side::Server {
        return memmem::rfind(line, b"HTTP/1.").filter(|at| line.get(*at..).and_then(status_line).is_some());
    }
    let at = |method: &&str| {
        let pattern = format!("{method} ");
        memmem::find(line, pattern.as_bytes())
            .filter(|at| line.get(*at..).and_then(request_line).is_some_and(|(_, target)| !target.contains(&b' ')))
    };
    GETS.iter().chain(PUTS).filter_map(at).min()
}

/// Who asks, and for which destination; the same for most requests of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Who {
    account: Option<String>,
    application: Option<String>,
    asked: Option<Name>,
}

/// A request and what belongs to it.
struct Exchange {
    who: Arc<Who>,
    /// The movement of its method.
    own: Movement,
    /// The same object, the other way.
    back: Movement,
    head_only: bool,
    connect: bool,
    /// HTTP/0.9: the answer has no head.
    simple: bool,
    /// It asks for another protocol; counted when the answer says whether it goes there.
    upgrade: bool,
}

impl Exchange {
    fn of(who: &Arc<Who>, operation: Operation, objects: Option<Arc<ObjectSet>>) -> Self {
        let movement = |operation| {
            let from = if operation == Operation::Get { Side::Server } else { Side::Client };
            Movement { operation, from, objects: objects.clone() }
        };
        let back = match operation {
            Operation::Get => Operation::Put,
            Operation::Put => Operation::Get,
            other => other,
        };
        Self {
            who: Arc::clone(who),
            own: movement(operation),
            back: movement(back),
            head_only: false,
            connect: false,
            simple: false,
            upgrade: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Head,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// A body up to the end of the connection (RFC 9112, 6.3).
    Close,
    /// After a CONNECT or Upgrade that is not answered yet.
    Waiting,
    Tunnel,
    /// After lost bytes, until a first line.
    Seek,
}

/// The fields of a head that are needed, and its first line.
#[derive(Default)]
struct Fields {
    started: bool,
    simple: bool,
    method: String,
    target: String,
    status: u16,
    length: Option<u64>,
    /// `Some(true)` if the last coding is `chunked`.
    coding: Option<bool>,
    host: Option<String>,
    agent: Option<String>,
    scheme: Option<&'static str>,
    user: Option<String>,
    upgrade: Option<String>,
    mqtt: bool,
    /// Secrets that header lines say.
    marks: Vec<&'static str>,
}

#[derive(Default)]
struct Half {
    place: Place,
    line: Vec<u8>,
    /// Bytes of the head at hand, claimed when it is understood.
    head_bytes: u64,
    fields: Fields,
    /// The exchange whose message is at hand, or was last.
    exchange: Option<Arc<Exchange>>,
    /// Bytes of the body so far, its framing included.
    body_bytes: u64,
}

#[derive(Default)]
struct Seen {
    requests: u64,
    answers: u64,
    codes: BTreeMap<u16, u64>,
    list: Vec<Value>,
    body_bytes: [u64; 2],
    upgrades: Vec<String>,
}

struct Http {
    options: Options,
    levels: u8,
    named: bool,
    halves: [Half; 2],
    open: VecDeque<Arc<Exchange>>,
    /// Bytes of the client that wait for the answer to a CONNECT or Upgrade.
    waiting: Vec<u8>,
    tunnel: Option<Box<dyn Decoder>>,
    who: Arc<Who>,
    current: Option<Arc<Who>>,
    /// Something was lost: which answer is to which request is not known.
    doubt: bool,
    /// There was a gap: what does not fit is looked past, it is no violation.
    gapped: bool,
    seen: Seen,
}

impl Http {
    fn new(options: Options, levels: u8) -> Self {
        let half = || Half { place: if options.midstream { Place::Seek } else { Place::Head }, ..Half::default() };
        Self {
            options,
            levels,
            named: false,
            halves: [half(), half()],
            open: VecDeque::new(),
            waiting: Vec::new(),
            tunnel: None,
            who: Arc::default(),
            current: None,
            doubt: options.midstream,
            gapped: options.midstream,
            seen: Seen::default(),
        }
    }

    /// The next bytes of one side, as far as one place goes; returns how many that is.
    fn step(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let half = &mut self.halves[sender as usize];
        let whole = bytes.len();
        match half.place {
            Place::Length(left) | Place::Chunk(left) => {
                let taken = whole.min(usize::try_from(left).unwrap_or(usize::MAX));
                let rest = left - taken as u64;
                let chunk = matches!(half.place, Place::Chunk(_));
                half.place = match (chunk, rest) {
                    (true, 0) => Place::ChunkEnd,
                    (true, rest) => Place::Chunk(rest),
                    (false, rest) => Place::Length(rest),
                };
                self.seen.body_bytes[sender as usize] += taken as u64;
                self.body(sender, taken as u64, out);
                if !chunk && rest == 0 {
                    self.over(sender);
                }
                Ok(taken)
            }
            Place::Close => {
                self.seen.body_bytes[sender as usize] += whole as u64;
                self.body(sender, whole as u64, out);
                Ok(whole)
            }
            Place::Tunnel => {
                if let Some(tunnel) = &mut self.tunnel {
                    tunnel.data(sender, bytes, out)?;
                }
                Ok(whole)
            }
            Place::Waiting => {
                let room = WAITING_BYTES_MAX - self.waiting.len().min(WAITING_BYTES_MAX);
                self.waiting.extend_from_slice(bytes.get(..room.min(whole)).unwrap_or_default());
                if room < whole {
                    out.bound_reached();
                    self.unanswered(out)?;
                }
                Ok(room.min(whole))
            }
            Place::Head | Place::ChunkSize | Place::ChunkEnd | Place::Trailer | Place::Seek => self.lines(sender, bytes, out),
        }
    }

    /// What is read by lines.
    fn lines(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let half = &mut self.halves[sender as usize];
        let end = memchr(b'\n', bytes);
        let taken = end.map_or(bytes.len(), |end| end + 1);
        let room = LINE_BYTES_MAX - half.line.len().min(LINE_BYTES_MAX);
        half.line.extend_from_slice(bytes.get(..taken.min(room)).unwrap_or_default());
        let place = half.place;
        if place == Place::Head {
            half.head_bytes += taken as u64;
        } else {
            self.body(sender, taken as u64, out);
        }
        if end.is_none() {
            return Ok(taken);
        }
        let line = std::mem::take(&mut self.halves[sender as usize].line);
        self.line(sender, place, trimmed(&line), out)?;
        let half = &mut self.halves[sender as usize];
        if half.line.is_empty() {
            // The buffer is used again.
            half.line = line;
            half.line.clear();
        }
        Ok(taken)
    }

    fn line(&mut self, sender: Side, place: Place, line: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let half = &mut self.halves[sender as usize];
        match place {
            Place::Head if !half.fields.started && line.is_empty() => {}
            Place::Head if !half.fields.started => {
                if !self.first_line(sender, line, out) {
                    return if self.without_head(sender, out) { Ok(()) } else { self.astray(sender, line.len(), out) };
                }
                if sender == Side::Client && is_simple(line) {
                    let fields = Fields { simple: true, ..std::mem::take(&mut self.halves[0].fields) };
                    return self.request(fields, out);
                }
            }
            Place::Head if line.is_empty() => {
                let fields = std::mem::take(&mut half.fields);
                return if sender == Side::Client { self.request(fields, out) } else { self.answer(fields, out) };
            }
            Place::Head => field(&mut half.fields, line)?,
            Place::ChunkSize => {
                let digits = line.split(|b| !b.is_ascii_hexdigit()).next().unwrap_or_default();
                if digits.is_empty() || digits.len() > 15 {
                    return self.astray(sender, line.len(), out);
                }
                let size = digits.iter().fold(0, |n, d| n << 4 | u64::from(char::from(*d).to_digit(16).unwrap_or(0)));
                half.place = if size == 0 { Place::Trailer } else { Place::Chunk(size) };
            }
            Place::ChunkEnd if line.is_empty() => half.place = Place::ChunkSize,
            Place::ChunkEnd => return self.astray(sender, line.len(), out),
            Place::Trailer if line.is_empty() => self.over(sender),
            Place::Seek => {
                if let Some(at) = found_in(line, sender) {
                    half.place = Place::Head;
                    half.fields = Fields::default();
                    self.first_line(sender, line.get(at..).unwrap_or_default(), out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The answer to a request of HTTP/0.9 begins with its body; false if this is none.
    fn without_head(&mut self, sender: Side, out: &mut Recorder<'_>) -> bool {
        if sender == Side::Client || !self.open.front().is_some_and(|exchange| exchange.simple) {
            return false;
        }
        let half = &mut self.halves[1];
        half.exchange = self.open.pop_front();
        half.place = Place::Close;
        let bytes = std::mem::take(&mut half.head_bytes);
        self.seen.body_bytes[1] += bytes;
        self.body(Side::Server, bytes, out);
        true
    }

    /// What cannot be read: after a loss it is looked on, otherwise this is not HTTP.
    fn astray(&mut self, sender: Side, length: usize, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if self.gapped && !self.doubt {
            out.gapped();
        }
        if self.doubt || self.gapped {
            self.doubt = true;
            self.halves[sender as usize].place = Place::Seek;
            return Ok(());
        }
        Err(DecodeError::new("line of length", length as u64, "a request, status or chunk size line"))
    }

    fn first_line(&mut self, sender: Side, line: &[u8], out: &mut Recorder<'_>) -> bool {
        let fields = &mut self.halves[sender as usize].fields;
        if sender == Side::Server {
            let Some(status) = status_line(line) else { return false };
            fields.status = status;
        } else if let Some((method, target)) = request_line(line) {
            fields.method = text(method, NAME_CHARS_MAX);
            fields.target = text(target, LINE_BYTES_MAX);
        } else if line == trimmed(PREFACE) && !self.named {
            self.begin("http2", out);
            self.halves[sender as usize].fields.started = true;
            self.switch(Box::new(Inner::opaque(self.options)));
            return true;
        } else {
            return false;
        }
        fields.started = true;
        if !self.named {
            self.named = true;
            out.protocol("http", Depth::Decoded);
        }
        true
    }

    /// Another protocol has begun that is counted only.
    fn begin(&mut self, name: &'static str, out: &mut Recorder<'_>) {
        self.named = true;
        out.protocol(name, Depth::Sizes);
        self.seen.upgrades.push(name.into());
    }

    /// Makes who moves data that of this exchange.
    fn become_of(&mut self, who: &Arc<Who>, out: &mut Recorder<'_>) {
        if self.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, who)) {
            return;
        }
        // Inside a tunnel the name that the first relay was asked for stays: the data goes there, whatever it is asked.
        if self.levels == LEVELS_MAX {
            out.asked(who.asked.as_ref());
        }
        out.identify(|i| {
            i.account.clone_from(&who.account);
            i.account_from = who.account.is_some().then_some("startup");
            i.application.clone_from(&who.application);
        });
        self.current = Some(Arc::clone(who));
    }

    fn add(&mut self, exchange: &Exchange, movement: &Movement, sender: Side, bytes: u64, counts: Counts, out: &mut Recorder<'_>) {
        self.become_of(&exchange.who, out);
        out.add(movement, sender, bytes, counts);
    }

    /// Bytes of a body, or of its framing.
    fn body(&mut self, sender: Side, bytes: u64, out: &mut Recorder<'_>) {
        let exchange = self.halves[sender as usize].exchange.clone().unwrap_or_else(|| self.unknown());
        let half = &mut self.halves[sender as usize];
        let before = half.body_bytes;
        half.body_bytes += bytes;
        let near = if exchange.own.from == sender { bytes } else { bytes.min(ANSWER_BYTES_MAX.saturating_sub(before)) };
        if near > 0 {
            self.add(&exchange, &exchange.own, sender, near, Counts::ZERO, out);
        }
        if bytes > near {
            self.add(&exchange, &exchange.back, sender, bytes - near, Counts::ZERO, out);
        }
    }

    /// The exchange of bytes that belong to none that was seen: whether it gets or puts is not known.
    fn unknown(&self) -> Arc<Exchange> {
        Arc::new(Exchange::of(self.current.as_ref().unwrap_or(&self.who), Operation::Transfer, None))
    }

    /// A message has ended.
    fn over(&mut self, sender: Side) {
        let waits = self.halves[sender as usize].exchange.as_ref().is_some_and(|e| e.connect || e.upgrade);
        let half = &mut self.halves[sender as usize];
        half.place = if sender == Side::Client && waits { Place::Waiting } else { Place::Head };
        half.body_bytes = 0;
        half.head_bytes = 0;
        half.fields = Fields::default();
    }

    /// The head of a request is whole.
    fn request(&mut self, mut fields: Fields, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let idle = self.open.is_empty() && self.halves[1].place == Place::Head && self.halves[1].head_bytes == 0;
        self.doubt &= !idle;
        let connect = fields.method == "CONNECT";
        let (asked, path) = target(&fields.target, connect);
        let who = Who { account: fields.user, application: fields.agent, asked };
        if *self.who != who {
            self.who = Arc::new(who);
        }
        let who = Arc::clone(&self.who);
        let upgrade = fields.upgrade.is_some() && !connect;
        let operation = operation_of(&fields.method);
        let mut marks = std::mem::take(&mut fields.marks);
        secrets::note_query(&mut marks, path);
        let objects = (!connect).then(|| Arc::new(ObjectSet { names: vec![object(path)], marks, ..ObjectSet::default() }));
        let exchange = Arc::new(Exchange {
            head_only: fields.method == "HEAD",
            connect,
            upgrade,
            simple: fields.simple,
            ..Exchange::of(&who, operation, objects)
        });
        let half = &mut self.halves[0];
        let bytes = std::mem::take(&mut half.head_bytes);
        half.exchange = Some(Arc::clone(&exchange));
        if upgrade {
            // A login of the protocol that follows, unless the answer says otherwise.
            let movement = Movement::new(Operation::Connect, Side::Client);
            self.add(&exchange, &movement, Side::Client, bytes, Counts::ZERO, out);
        } else {
            self.add(&exchange, &exchange.own, Side::Client, bytes, Counts::messages(1), out);
        }
        if let Some(scheme) = fields.scheme {
            out.protect(|p| p.authentication = Some(scheme.into()));
        }
        if let (None, Some(host)) = (&who.asked, &fields.host) {
            out.server_name(host_port(host).0, "http");
        }
        self.seen.requests += 1;
        if self.options.facts && self.seen.list.len() < FACTS_MAX {
            let path: String = fields.target.split('?').next().unwrap_or_default().chars().take(TARGET_CHARS_MAX).collect();
            self.seen.list.push(json!({"method": fields.method, "host": fields.host, "path": without_user(&path)}));
        }
        if self.open.len() >= EXCHANGES_MAX {
            self.open.pop_front();
            self.doubt = true;
            out.bound_reached();
        }
        self.open.push_back(exchange);
        let half = &mut self.halves[0];
        half.body_bytes = 0;
        match (fields.coding, fields.length) {
            (Some(true), _) => half.place = Place::ChunkSize,
            // How long it is cannot be told (RFC 9112, 6.3).
            (Some(false), _) => return Err(DecodeError::new("transfer coding of a request", 0, "chunked as the last one")),
            (None, Some(length)) if length > 0 => half.place = Place::Length(length),
            _ => self.over(Side::Client),
        }
        Ok(())
    }

    /// The head of an answer is whole.
    fn answer(&mut self, fields: Fields, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let status = fields.status;
        self.seen.answers += 1;
        *self.seen.codes.entry(status).or_default() += 1;
        let interim = status < 200 && status != 101;
        let known = if interim { self.open.front().cloned() } else { self.open.pop_front() };
        // Whether a body follows depends on the request (RFC 9112, 6.3), which was not seen.
        self.doubt |= known.is_none() && !interim;
        let exchange = known.unwrap_or_else(|| self.unknown());
        let bytes = std::mem::take(&mut self.halves[1].head_bytes);
        let granted = (exchange.connect && (200..300).contains(&status)) || status == 101;
        let connect = Movement::new(Operation::Connect, Side::Client);
        if interim {
            let movement = if exchange.upgrade { &connect } else { &exchange.own };
            self.add(&exchange, movement, Side::Server, bytes, Counts::ZERO, out);
            self.over(Side::Server);
            return Ok(());
        }
        if granted {
            let counts = Counts::messages(u64::from(exchange.upgrade));
            self.add(&exchange, &connect, Side::Server, bytes, counts, out);
            let tunnel = self.after(&fields, status, out);
            self.switch(tunnel);
            return self.pour(out);
        }
        let refused = is_refusal(status);
        let head_only = exchange.head_only;
        let waited = exchange.connect || exchange.upgrade;
        let of_body = if refused {
            let movement = Movement { objects: exchange.own.objects.clone(), ..Movement::new(Operation::Refused, Side::Client) };
            Arc::new(Exchange { own: movement.clone(), back: movement, ..Exchange::of(&exchange.who, Operation::Refused, None) })
        } else {
            Arc::clone(&exchange)
        };
        let counts = Counts::messages(u64::from(exchange.upgrade));
        self.add(&of_body, &of_body.own, Side::Server, bytes, counts, out);
        let half = &mut self.halves[1];
        half.exchange = Some(of_body);
        half.body_bytes = 0;
        let none = head_only || matches!(status, 204 | 304);
        match (fields.coding, fields.length) {
            _ if none => self.over(Side::Server),
            (Some(true), _) => half.place = Place::ChunkSize,
            (None, Some(0)) => self.over(Side::Server),
            (None, Some(length)) => half.place = Place::Length(length),
            (Some(false), _) | (None, None) => half.place = Place::Close,
        }
        if waited && self.halves[0].place == Place::Waiting {
            // It is HTTP that goes on.
            self.halves[0].place = Place::Head;
            let waiting = std::mem::take(&mut self.waiting);
            return self.data(Side::Client, &waiting, out);
        }
        Ok(())
    }

    /// What follows an answer that lets another protocol begin.
    fn after(&mut self, fields: &Fields, status: u16, out: &mut Recorder<'_>) -> Box<dyn Decoder> {
        let asked = if status == 101 { fields.upgrade.as_deref().unwrap_or_default().to_ascii_lowercase() } else { String::new() };
        match asked.as_str() {
            "websocket" if fields.mqtt => {
                self.seen.upgrades.push("mqtt".into());
                out.protocol("mqtt", Depth::Decoded);
                websocket::upgraded(self.options)
            }
            "websocket" => {
                self.begin("websocket", out);
                Box::new(Inner::opaque(self.options))
            }
            "h2c" => {
                self.begin("http2", out);
                Box::new(Inner::opaque(self.options))
            }
            _ => Box::new(Inner::unknown(self.options, self.levels)),
        }
    }

    fn switch(&mut self, tunnel: Box<dyn Decoder>) {
        self.tunnel = Some(tunnel);
        for half in &mut self.halves {
            half.place = Place::Tunnel;
            half.line = Vec::new();
        }
    }

    /// What waited is the tunnel's.
    fn pour(&mut self, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let waiting = std::mem::take(&mut self.waiting);
        match &mut self.tunnel {
            Some(tunnel) if !waiting.is_empty() => tunnel.data(Side::Client, &waiting, out),
            _ => Ok(()),
        }
    }

    /// No answer will come, or was seen: what the client sends says whether it was granted.
    fn unanswered(&mut self, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        self.doubt = true;
        if begins_request(&self.waiting) == Some(true) {
            self.halves[0].place = Place::Head;
            let waiting = std::mem::take(&mut self.waiting);
            return self.data(Side::Client, &waiting, out);
        }
        self.switch(Box::new(Inner::unknown(self.options, self.levels)));
        self.pour(out)
    }
}

/// A field line (RFC 9112, 5); those that are not needed are passed over.
fn field(fields: &mut Fields, line: &[u8]) -> Result<(), DecodeError> {
    let Some(colon) = memchr(b':', line) else { return Ok(()) };
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("content-length") {
        // A list of equal numbers is one number (RFC 9110, 8.6); several that differ are an attack on whoever reads them.
        for part in value.split(|b| *b == b',') {
            let length =
                std::str::from_utf8(part.trim_ascii()).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit())).and_then(|t| t.parse().ok());
            match (length, fields.length) {
                (Some(length), None) => fields.length = Some(length),
                (Some(length), Some(before)) if length == before => {}
                _ => return Err(DecodeError::new("content length, digits", part.len() as u64, "one number below 2^64")),
            }
        }
    } else if is("transfer-encoding") {
        let last = value.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
        fields.coding = Some(last.eq_ignore_ascii_case(b"chunked"));
    } else if is("host") && fields.host.is_none() {
        fields.host = Some(text(value, NAME_CHARS_MAX));
    } else if is("user-agent") {
        let product = value.split(|b| *b == b' ').next().unwrap_or_default();
        fields.agent = Some(text(product, NAME_CHARS_MAX)).filter(|agent| !agent.is_empty());
    } else if is("authorization") || (is("proxy-authorization") && fields.scheme.is_none()) {
        let (scheme, user) = credentials(value);
        fields.scheme = Some(scheme);
        fields.user = user;
    } else if is("upgrade") {
        let first = value.split(|b| *b == b',').next().unwrap_or_default().trim_ascii();
        fields.upgrade = Some(text(first, NAME_CHARS_MAX)).filter(|upgrade| !upgrade.is_empty());
    } else if is("sec-websocket-protocol") {
        fields.mqtt = value.split(|b| *b == b',').any(|one| one.trim_ascii().to_ascii_lowercase().starts_with(b"mqtt"));
    } else {
        secrets::note_header(&mut fields.marks, name, value);
    }
    Ok(())
}

/// The scheme of credentials and the user they name, never more of them (RFC 7617, 2; RFC 7616, 3.4).
fn credentials(value: &[u8]) -> (&'static str, Option<String>) {
    let space = memchr(b' ', value).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(space);
    let rest = rest.trim_ascii();
    let known = ["basic", "digest", "bearer", "negotiate", "ntlm", "mutual", "scram-sha-256", "aws4-hmac-sha256"];
    let scheme = known.into_iter().find(|known| scheme.eq_ignore_ascii_case(known.as_bytes())).unwrap_or("other");
    let user = match scheme {
        "basic" => base64_until_colon(rest),
        "digest" => memmem::find(rest, b"username=\"").and_then(|at| {
            let name = rest.get(at + 10..)?;
            name.get(..memchr(b'"', name)?).map(<[u8]>::to_vec)
        }),
        _ => None,
    };
    (scheme, user.map(|user| text(&user, NAME_CHARS_MAX)).filter(|user| !user.is_empty()))
}

/// What base64 (RFC 4648, 4) hides before its first colon; `None` without one. The password behind it is not decoded.
fn base64_until_colon(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    for four in text.chunks(4).take(NAME_CHARS_MAX) {
        let mut bits = 0_u32;
        let mut sixes = 0;
        for digit in four.iter().take_while(|b| **b != b'=') {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
            sixes += 1;
        }
        bits <<= 6 * (4 - sixes);
        for byte in bits.to_be_bytes().into_iter().skip(1).take(sixes * 6 / 8) {
            if byte == b':' {
                return Some(decoded);
            }
            decoded.push(byte);
        }
    }
    None
}

/// What a method moves (RFC 9110, 9).
fn operation_of(method: &str) -> Operation {
    match method {
        "CONNECT" => Operation::Connect,
        method if GETS.contains(&method) => Operation::Get,
        _ => Operation::Put,
    }
}

/// The client has no right, or has not shown that it has (RFC 9110, 15.5.2, 15.5.4 and 15.5.8).
fn is_refusal(status: u16) -> bool {
    matches!(status, 401 | 403 | 407)
}

/// A request as somebody's log has it: what it moves, its object and marks, and the destination that a relay is asked for.
pub struct Asked {
    pub operation: Operation,
    pub object: String,
    pub marks: Vec<&'static str>,
    pub destination: Option<Name>,
}

/// What somebody's log says of a request and its answer; `status` 0: not said.
#[must_use]
pub fn asked(method: &str, asked: &str, status: u16) -> Asked {
    let (destination, path) = target(asked, method == "CONNECT");
    let mut marks = Vec::new();
    secrets::note_query(&mut marks, path);
    let operation = if is_refusal(status) { Operation::Refused } else { operation_of(method) };
    Asked { operation, object: object(path), marks, destination }
}

/// The destination that a relay is asked for, if the target names one, and the path (RFC 9112, 3.2).
fn target(target: &str, connect: bool) -> (Option<Name>, &str) {
    let name = |authority: &str, default: u16, by| {
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = host_port(authority);
        let name = host.trim_end_matches('.').to_ascii_lowercase().chars().take(NAME_CHARS_MAX).collect::<String>();
        (!name.is_empty()).then(|| Name { name, by, port: Some(port.unwrap_or(default)) })
    };
    if connect {
        return (name(target, 443, "connect"), "");
    }
    for (scheme, port) in [("http://", 80), ("https://", 443)] {
        if target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)) {
            let rest = target.get(scheme.len()..).unwrap_or_default();
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            return (name(authority, port, "absolute-form"), path);
        }
    }
    (None, target)
}

/// Host and port of an authority; brackets around IPv6 are left out (RFC 3986, 3.2).
fn host_port(authority: &str) -> (&str, Option<u16>) {
    if let Some(rest) = authority.strip_prefix('[') {
        if let Some((host, after)) = rest.split_once(']') {
            return (host, after.strip_prefix(':').and_then(|port| port.parse().ok()));
        }
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// A target without the user and password that an absolute form may hold (RFC 3986, 3.2.1).
fn without_user(target: &str) -> String {
    let Some((scheme, rest)) = target.split_once("://") else { return target.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    authority.rsplit_once('@').map_or_else(|| target.to_owned(), |(_, host)| format!("{scheme}://{host}{path}"))
}

/// The object of a path: no query, fragment or parameters, equivalent spellings made one (RFC 3986, 6.2.2), tokens
/// hidden, and bounded.
fn object(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut segments: Vec<String> = Vec::new();
    let mut directory = false;
    for raw in path.split('/').skip(usize::from(path.starts_with('/'))) {
        let segment = unescaped(raw.split(';').next().unwrap_or_default());
        directory = matches!(segment.as_str(), "" | "." | "..");
        match segment.as_str() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    if path == "*" {
        return "*".into();
    }
    let mut object = String::new();
    for (place, segment) in segments.iter().enumerate() {
        let shown = if is_token(segment) { "{token}" } else { segment.as_str() };
        if place >= PATH_SEGMENTS_MAX || object.chars().count() + shown.chars().count() >= PATH_CHARS_MAX {
            object.push_str("/*");
            return object;
        }
        object.push('/');
        object.push_str(shown);
    }
    if directory || object.is_empty() {
        object.push('/');
    }
    object
}

/// Percent-encoded characters that need not be (RFC 3986, 6.2.2.2), decoded.
fn unescaped(segment: &str) -> String {
    let mut bytes = segment.bytes().peekable();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digits = (byte == b'%').then(|| (ahead.next().and_then(hex_digit), ahead.next().and_then(hex_digit)));
        match digits {
            Some((Some(high), Some(low))) => {
                let decoded = high << 4 | low;
                if decoded.is_ascii_alphanumeric() || b"-._~".contains(&decoded) {
                    plain.push(decoded);
                } else {
                    plain.extend(format!("%{decoded:02X}").bytes());
                }
                bytes = ahead;
            }
            _ => plain.push(byte),
        }
    }
    text(&plain, LINE_BYTES_MAX)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether a segment holds what only a machine would choose: letters and digits mixed, long, without a separator.
fn is_token(segment: &str) -> bool {
    segment
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|run| run.len() >= TOKEN_CHARS_MIN && run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic()))
}

fn text(bytes: &[u8], chars: usize) -> String {
    String::from_utf8_lossy(bytes).chars().take(chars).collect()
}

impl Decoder for Http {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.step(sender, rest, out)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        out.gapped();
        self.gapped = true;
        if self.halves[sender as usize].place == Place::Waiting {
            self.unanswered(out)?;
        }
        let half = &mut self.halves[sender as usize];
        match half.place {
            Place::Length(left) if length < left => half.place = Place::Length(left - length),
            Place::Chunk(left) if length < left => half.place = Place::Chunk(left - length),
            Place::Length(left) if length == left => self.over(sender),
            Place::Chunk(left) if length == left => half.place = Place::ChunkEnd,
            Place::Close => {}
            Place::Tunnel => {
                if let Some(tunnel) = &mut self.tunnel {
                    tunnel.gap(sender, length, out)?;
                }
            }
            _ => {
                let half = &mut self.halves[sender as usize];
                if half.place == Place::Head && half.fields.started {
                    // The end of the head is lost, not who asks for what.
                    let fields = std::mem::take(&mut half.fields);
                    let _ = if sender == Side::Client { self.request(fields, out) } else { self.answer(fields, out) };
                }
                let half = &mut self.halves[sender as usize];
                half.place = Place::Seek;
                half.line.clear();
                half.head_bytes = 0;
                half.fields = Fields::default();
                self.doubt = true;
                self.open.clear();
            }
        }
        if !self.doubt && self.tunnel.is_none() {
            // The end of the body is known, and all behind it.
            out.sound();
        }
        Ok(())
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        if !self.waiting.is_empty() {
            // A parser that gives up now leaves bytes that the windows settle.
            let _ = self.unanswered(out);
        }
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.close(out);
        }
    }

    fn facts(&self, into: &mut Facts) {
        if !self.options.facts {
            return;
        }
        if let Some(tunnel) = &self.tunnel {
            tunnel.facts(into);
        }
        let seen = &self.seen;
        let mut codes: BTreeMap<String, u64> = seen.codes.iter().map(|(code, count)| (code.to_string(), *count)).collect();
        let mut list = seen.list.clone();
        let mut upgrades = seen.upgrades.clone();
        let mut counts = [seen.requests, seen.answers, seen.body_bytes[0], seen.body_bytes[1]];
        // HTTP inside a tunnel of HTTP: one list for the connection.
        if let Some(inner) = into.remove("http") {
            for (count, name) in counts.iter_mut().zip(["requests", "responses", "request_body_bytes", "response_body_bytes"]) {
                *count += inner[name].as_u64().unwrap_or(0);
            }
            for (code, count) in inner["response_codes"].as_object().into_iter().flatten() {
                *codes.entry(code.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
            list.extend(inner["request_list"].as_array().into_iter().flatten().take(FACTS_MAX - list.len().min(FACTS_MAX)).cloned());
            upgrades.extend(inner["upgrades"].as_array().into_iter().flatten().filter_map(|u| u.as_str().map(String::from)));
        }
        into.insert(
            "http",
            json!({"requests": counts[0], "responses": counts[1], "response_codes": codes, "request_list": list,
                   "request_body_bytes": counts[2], "response_body_bytes": counts[3], "upgrades": upgrades}),
        );
    }

    fn memory_bytes(&self) -> usize {
        let halves: usize = self.halves.iter().map(|h| h.line.capacity() + h.fields.target.capacity() + 2 * NAME_CHARS_MAX).sum();
        let facts: usize = self.seen.list.iter().map(|q| 200 + q["path"].as_str().map_or(0, str::len)).sum();
        let tunnel = self.tunnel.as_ref().map_or(0, |t| t.memory_bytes());
        size_of::<Self>() + halves + facts + tunnel + self.waiting.capacity() + self.open.len() * (size_of::<Exchange>() + PATH_CHARS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TCP;
    use super::super::testing::{self, CLIENT, Played, SERVER, Script, Step};
    use super::*;

    const SESSION: &str = include_str!("../../../tests/data/http/session.txt");
    const PIPELINED: &str = include_str!("../../../tests/data/http/pipelined.txt");
    const CURL: &str = include_str!("../../../tests/data/http/curl.txt");
    const CONNECT: &str = include_str!("../../../tests/data/http/connect.txt");
    const INSIDE: &str = include_str!("../../../tests/data/http/inside.txt");
    const LEDGERS: [(&str, &str); 4] = [
        (SESSION, include_str!("../../../tests/data/http/session.json")),
        (PIPELINED, include_str!("../../../tests/data/http/pipelined.json")),
        (CURL, include_str!("../../../tests/data/http/curl.json")),
        (INSIDE, include_str!("../../../tests/data/http/inside.json")),
    ];
    const WHOLE: Options = Options { facts: true, midstream: false };

    fn recording(text: &str) -> Script {
        let side = |line: &str| if line.starts_with('>') { CLIENT } else { SERVER };
        text.lines().map(|line| (side(line), testing::bytes(line.get(2..).unwrap()))).collect()
    }

    /// Text in lines: `>` from the client, `<` from the server, each ended by CRLF.
    fn talk(text: &str) -> Script {
        let side = |line: &str| if line.starts_with('>') { CLIENT } else { SERVER };
        text.lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map(|l| (side(l), format!("{}\r\n", l[1..].trim_start()).into_bytes()))
            .collect()
    }

    fn play(text: &str) -> Played {
        let played = testing::play_script(decoder(WHOLE), &talk(text));
        testing::assert_conserved(&played);
        played
    }

    fn sum(played: &Played, operation: &str, field: &str) -> u64 {
        played.events.iter().filter(|e| e["operation"] == operation).map(|e| e[field].as_u64().unwrap()).sum()
    }

    fn objects(played: &Played, operation: &str) -> Vec<String> {
        let events = played.events.iter().filter(|e| e["operation"] == operation);
        let sets = events.flat_map(|e| e["objects"].as_array().unwrap().clone());
        sets.map(|set| set["names"][0].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn shared_checks_hold_on_every_recording() {
        for text in [SESSION, PIPELINED, CURL, CONNECT, INSIDE] {
            let script = recording(text);
            assert_eq!(testing::recognise(&HTTP, &script), Recognition::Yes { client: CLIENT });
            testing::shared_checks(&HTTP, &script, &["not-a-secret", "bm90LWEtc2VjcmV0", "swordfish", "part,line", "select the"]);
        }
    }

    #[test]
    fn counts_are_those_of_the_clients_own_ledger() {
        for (text, ledger) in LEDGERS {
            let played = testing::play_script(decoder(WHOLE), &recording(text));
            let (facts, ledger): (&Value, Value) = (&played.facts["http"], serde_json::from_str(ledger).unwrap());
            let methods: u64 = ledger["methods"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
            assert_eq!((&facts["requests"], &facts["response_codes"]), (&json!(methods), &ledger["codes"]));
            assert_eq!((&facts["request_body_bytes"], &facts["response_body_bytes"]), (&ledger["sent"], &ledger["received"]));
            let messages: u64 = played.events.iter().map(|e| e["messages"].as_u64().unwrap()).sum();
            assert_eq!(messages, methods);
        }
    }

    #[test]
    fn direction_follows_the_data_and_an_acknowledgement_stays_with_its_request() {
        let played = testing::play_script(decoder(WHOLE), &recording(SESSION));
        let of = |operation, object: &str| objects(&played, operation).iter().any(|name| name == object);
        assert!(of("get", "/reports/2026/~scrap.csv") && of("put", "/upload/part") && of("put", "/upload/big"));
        // 20,000 bytes came back for a POST; the few bytes that answered the other POST did not make a `get`.
        assert!(of("get", "/query") && of("put", "/query") && !of("get", "/upload/part"));
        let sets = played.events.iter().filter(|e| e["operation"] == "get").flat_map(|e| e["objects"].as_array().unwrap().clone());
        let back: u64 = sets.filter(|set| set["names"][0] == "/query").map(|set| set["bytes"].as_u64().unwrap()).sum();
        assert_eq!(back, 20_000 - ANSWER_BYTES_MAX);
        assert!(played.events.iter().filter(|e| e["operation"] == "get").all(|e| e["source"]["port"] == 4000));
        assert!(played.events.iter().filter(|e| e["operation"] == "put").all(|e| e["source"]["port"] == 50_000));
    }

    #[test]
    fn basic_names_the_account_of_its_own_requests_alone() {
        let played = testing::play_script(decoder(WHOLE), &recording(SESSION));
        let of = |object: &str| {
            let at = |e: &&Value| e["objects"].as_array().unwrap().iter().any(|set| set["names"][0] == object);
            played.events.iter().filter(at).map(|e| e["account"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of("/chunked"), ["svc_report"]);
        assert_eq!(of("/old"), [Value::Null]);
        let refused: Vec<_> = played.events.iter().filter(|e| e["operation"] == "refused").collect();
        assert!(refused.len() == 1 && refused[0]["account"].is_null());
        assert_eq!(refused[0]["objects"][0]["names"][0], "/secret");
        assert!(played.events.iter().all(|e| e["application"] == "extract/1.4"));
        let last = played.events.last().unwrap();
        assert_eq!(
            (&last["protocol"], &last["depth"], &last["protection"]["authentication"]),
            (&json!("http"), &json!("decoded"), &json!("basic"))
        );
        let server = if last["source"]["port"] == 4000 { &last["source"] } else { &last["destination"] };
        assert!(server["names"].as_array().unwrap().contains(&json!({"name": "reports.plant.example", "by": "http"})));
    }

    #[test]
    fn digest_names_its_user_and_a_bearer_token_nobody() {
        let said = |line: &str| {
            let played = play(&format!(
                "> GET /a HTTP/1.1
                 > Authorization: {line}
                 >"
            ));
            (played.events[0]["account"].clone(), played.events[0]["protection"]["authentication"].clone())
        };
        assert_eq!(said("Digest realm=\"p\", username=\"svc_mw\", nonce=\"0\""), (json!("svc_mw"), json!("digest")));
        assert_eq!(said("Bearer eyJhbGciOi.eyJzdWIi.c2ln"), (Value::Null, json!("bearer")));
        assert_eq!(said("Basic !!!"), (Value::Null, json!("basic")));
    }

    /// Secrets beside the credentials are told by the name that they go under.
    #[test]
    fn a_secret_in_a_url_or_a_header_is_marked_by_its_name_and_never_told() {
        let marks = |head: &str| {
            let played = play(&format!("> {head}\n>"));
            let told = serde_json::to_string(&played.events).unwrap() + &serde_json::to_string(&played.facts).unwrap();
            assert!(!told.contains("hidden"), "{told}");
            played.events[0]["objects"][0]["marks"].clone()
        };
        assert_eq!(marks("GET /a?x=1&Token=hidden&sig=hidden&token=hidden#key=1 HTTP/1.1"), json!(["secret-url:token", "secret-url:sig"]));
        assert_eq!(marks("GET http://lake/a?api_key=hidden HTTP/1.1"), json!(["secret-url:api_key"]));
        assert_eq!(marks("GET /v1/kv HTTP/1.1\n> X-Vault-Token: hidden"), json!(["secret-header:x-vault-token"]));
        for none in ["GET /a?token=&tokens=2&keyword=x HTTP/1.1", "GET /token=x HTTP/1.1", "GET /a HTTP/1.1\n> X-Api-Key:\n> X-Other: 1"] {
            assert_eq!(marks(none), Value::Null, "{none}");
        }
    }

    #[test]
    fn connect_names_the_destination_and_the_tls_inside_is_read() {
        let played = testing::play_script(decoder(WHOLE), &recording(CONNECT));
        let asked = json!({"name": "plant-north.lake.example-cloud.eu", "by": "connect", "port": 443});
        for event in &played.events {
            let server = if event["source"]["port"] == 4000 { &event["source"] } else { &event["destination"] };
            assert_eq!(server["names"][0], asked);
            assert_eq!(event["account"], "svc_lake");
        }
        let last = played.events.last().unwrap();
        assert_eq!((&last["protocol"], &last["protection"]["transport"]), (&json!("tls"), &json!("tls1.3")));
        assert_eq!(played.facts["tls"]["client_hellos"][0]["sni"], "plant-north.lake.example-cloud.eu");
        assert_eq!((sum(&played, "connect", "messages"), played.facts["http"]["requests"].as_u64()), (1, Some(1)));
    }

    #[test]
    fn http_inside_a_tunnel_is_read_and_a_tunnel_too_many_is_counted() {
        let played = testing::play_script(decoder(WHOLE), &recording(INSIDE));
        assert_eq!(objects(&played, "get"), ["/one"]);
        let asked = json!({"name": "reports.plant.example", "by": "connect", "port": 8080});
        assert!(played.events.iter().all(|e| e["source"]["names"][0] == asked || e["destination"]["names"][0] == asked));
        let mut text = String::new();
        for _ in 0..=LEVELS_MAX + 2 {
            text.push_str("> CONNECT relay:3128 HTTP/1.1\n>\n< HTTP/1.1 200 OK\n<\n");
        }
        let deep = play(&text);
        assert_eq!(deep.facts["http"]["requests"], u64::from(LEVELS_MAX) + 1);
        assert!(sum(&deep, "transfer", "bytes") > 0);
    }

    #[test]
    fn absolute_form_gives_each_destination_windows_of_its_own() {
        let played = play(
            "> GET http://User:pw@Lake.Example:8080/a?x=1 HTTP/1.1
             > Host: Lake.Example:8080
             >
             > GET http://files.example/b HTTP/1.1
             >
             < HTTP/1.1 200 OK
             < Content-Length: 3
             <
             < a
             < HTTP/1.1 200 OK
             < Content-Length: 3
             <
             < b",
        );
        for (object, name, port) in [("/a", "lake.example", 8080), ("/b", "files.example", 80)] {
            let of: Vec<_> = played.events.iter().filter(|e| e["objects"][0]["names"][0] == object).collect();
            // One window of the request, one of its answer, since the other destination came between.
            assert_eq!(of.len(), 2);
            for event in of {
                assert_eq!(event["objects"].as_array().unwrap().len(), 1);
                assert_eq!(event["source"]["names"], json!([{"name": name, "by": "absolute-form", "port": port}]));
            }
        }
        assert_eq!(played.facts["http"]["request_list"][0]["path"], "http://Lake.Example:8080/a");
    }

    #[test]
    fn answers_without_a_body_and_interim_ones_leave_the_next_in_its_place() {
        let played = play(
            "> HEAD /a HTTP/1.1
             >
             < HTTP/1.1 200 OK
             < Content-Length: 1000
             <
             > PUT /b HTTP/1.1
             > Expect: 100-continue
             > Content-Length: 4
             >
             < HTTP/1.1 100 Continue
             <
             < HTTP/1.1 103 Early Hints
             <
             > ab
             < HTTP/1.1 204 No Content
             <
             > GET /c HTTP/1.1
             >
             < HTTP/1.1 304 Not Modified
             < Content-Length: 99
             <
             > GET /d HTTP/1.0
             >
             < HTTP/1.0 200 OK
             <
             < anything
             < HTTP/1.1 999 is body now",
        );
        assert_eq!(played.error, None);
        let codes = json!({"100": 1, "103": 1, "200": 2, "204": 1, "304": 1});
        assert_eq!((&played.facts["http"]["requests"], &played.facts["http"]["response_codes"]), (&json!(4), &codes));
        assert_eq!(played.facts["http"]["request_body_bytes"], 4);
    }

    #[test]
    fn head_of_any_length_costs_no_memory() {
        let mut script = talk("> GET /a HTTP/1.1");
        for _ in 0..2000 {
            script.push((CLIENT, [b"X-Pad: ".as_slice(), &[b'x'; 5000], b"\r\n"].concat()));
        }
        script.push((CLIENT, [b"X-Line: ".as_slice(), &[b'y'; 3_000_000], b"\r\n\r\n"].concat()));
        let played = testing::play_script(decoder(WHOLE), &script);
        assert_eq!((played.error.clone(), sum(&played, "get", "messages")), (None, 1));
        assert!(played.memory_bytes_max < 64 << 10);
        testing::assert_conserved(&played);
    }

    #[test]
    fn more_requests_than_the_bound_forget_the_oldest_and_say_so() {
        let request = b"GET /a HTTP/1.1\r\n\r\n".to_vec();
        let script: Script = (0..2 * EXCHANGES_MAX).map(|_| (CLIENT, request.clone())).collect();
        let played = testing::play_script(decoder(WHOLE), &script);
        assert_eq!(sum(&played, "get", "messages"), 2 * EXCHANGES_MAX as u64);
        assert!(played.memory_bytes_max < 512 << 10);
    }

    #[test]
    fn gap_inside_a_body_costs_nothing_and_after_another_the_next_request_is_found() {
        let script = talk(
            "> POST /a HTTP/1.1
             > Content-Length: 100
             >
             > 0123456789",
        );
        let mut steps: Vec<_> = script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
        steps.push(Step::Gap(CLIENT, 88));
        steps.push(Step::Data(CLIENT, b"GET /b HTTP/1.1\r\n\r\n"));
        let exact = testing::play(decoder(WHOLE), &steps);
        assert_eq!((exact.error.clone(), objects(&exact, "get")), (None, vec!["/b".to_owned()]));
        steps.pop();
        steps.push(Step::Gap(CLIENT, 5));
        steps.push(Step::Data(CLIENT, b"lost end of a body}GET /c HTTP/1.1\r\nHost: x\r\n\r\n"));
        steps.push(Step::Data(SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n."));
        let found = testing::play(decoder(WHOLE), &steps);
        testing::assert_conserved(&found);
        assert_eq!(found.error, None);
        assert_eq!(found.facts["http"]["requests"], 2);
        assert!(objects(&found, "get").contains(&"/c".to_owned()));
    }

    #[test]
    fn head_whose_end_is_lost_still_says_who_asks_for_what() {
        let request = b"GET /a HTTP/1.1\r\nHost: x\r\nCookie: ";
        let answer = b"HTTP/1.1 200 OK\r\nSet-Coo";
        let steps = [Step::Data(CLIENT, request), Step::Gap(CLIENT, 300), Step::Data(SERVER, answer), Step::Gap(SERVER, 900)];
        let played = testing::play(decoder(WHOLE), &steps);
        testing::assert_conserved(&played);
        assert_eq!((objects(&played, "get")[0].as_str(), sum(&played, "get", "messages")), ("/a", 1));
        assert_eq!(played.facts["http"]["response_codes"], json!({"200": 1}));
    }

    #[test]
    fn request_without_a_version_is_answered_by_a_body_alone() {
        let played = play(
            "> GET /index.html
             >
             < <!DOCTYPE HTML>
             < <p>HTTP/1.1 200 OK",
        );
        assert_eq!((played.error.clone(), objects(&played, "get")), (None, vec!["/index.html".to_owned()]));
        assert_eq!((played.facts["http"]["responses"].as_u64(), sum(&played, "get", "bytes")), (Some(0), 17 + 20));
        let whole = play("> GET /a\n< HTTP/1.1 400 Bad Request\n< Content-Length: 0\n<");
        assert_eq!((whole.error, &whole.facts["http"]["response_codes"]), (None, &json!({"400": 1})));
        assert_eq!(testing::recognise(&HTTP, &talk("> GET /a")), Recognition::Yes { client: CLIENT });
        assert_eq!(testing::recognise(&HTTP, &talk("> GET key")), Recognition::No);
    }

    #[test]
    fn objects_are_one_spelling_without_query_parameters_or_tokens() {
        for (path, expected) in [
            ("/reports/../%73ecret/./plan%2e?x=1", "/secret/plan."),
            ("/a//b/#part", "/a/b/"),
            ("/cart;jsessionid=0A1B2C/item;v=1", "/cart/item"),
            ("/reset/4f9a1c02d4e8b7766554433221100ffa/ok", "/reset/{token}/ok"),
            ("/reports/report-2026-04-07-line-2-quality.csv", "/reports/report-2026-04-07-line-2-quality.csv"),
            ("/id/123e4567-e89b-12d3-a456-426614174000", "/id/123e4567-e89b-12d3-a456-426614174000"),
            ("/a%2fb%zz", "/a%2Fb%zz"),
            ("/../..", "/"),
            ("", "/"),
            ("*", "*"),
            ("/1/2/3/4/5/6/7/8/9/10", "/1/2/3/4/5/6/7/8/*"),
        ] {
            assert_eq!(object(path), expected, "{path}");
        }
        assert!(object(&format!("/{}", "a/".repeat(500))).len() <= PATH_CHARS_MAX + 2);
        assert_eq!(object(&format!("/a/{}", "long".repeat(100))), "/a/*");
    }

    #[test]
    fn bytes_sent_before_the_tunnel_is_granted_are_the_tunnels_and_after_a_refusal_requests_go_on() {
        let hello = recording(CONNECT)[2].1.clone();
        let head = b"CONNECT lake:443 HTTP/1.1\r\n\r\n".to_vec();
        let early = vec![(CLIENT, head.clone()), (CLIENT, hello.clone()), (SERVER, b"HTTP/1.1 200 OK\r\n\r\n".to_vec())];
        let played = testing::play_script(decoder(WHOLE), &early);
        testing::assert_conserved(&played);
        assert_eq!(played.events.last().unwrap()["protocol"], "tls");
        // No answer was captured: the hello says that it was granted.
        let unanswered = testing::play_script(decoder(WHOLE), &early[..2].to_vec());
        assert_eq!(unanswered.facts["tls"]["client_hellos"].as_array().unwrap().len(), 1);
        testing::assert_conserved(&unanswered);
        let refused = play(
            "> CONNECT lake:443 HTTP/1.1
             >
             < HTTP/1.1 407 Proxy Authentication Required
             < Content-Length: 0
             <
             > GET http://lake/a HTTP/1.1
             >",
        );
        assert_eq!(objects(&refused, "get"), ["/a"]);
        assert_eq!(played.error, None);
    }

    #[test]
    fn upgrade_that_is_not_taken_up_is_an_ordinary_request() {
        let played = play(
            "> GET /a HTTP/1.1
             > Upgrade: h2c
             >
             < HTTP/1.1 200 OK
             < Content-Length: 4
             <
             < ok
             > GET /b HTTP/1.1
             >",
        );
        assert_eq!((sum(&played, "get", "messages"), objects(&played, "get")), (2, vec!["/a".into(), "/b".into()]));
    }

    #[test]
    fn http2_without_tls_is_noticed_by_its_preface_and_by_its_upgrade() {
        let preface = testing::play_script(decoder(WHOLE), &vec![(CLIENT, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0".to_vec())]);
        let upgrade = play(
            "> GET /a HTTP/1.1
             > Upgrade: h2c
             >
             < HTTP/1.1 101 Switching Protocols
             < Upgrade: h2c
             <
             < (frames)",
        );
        for played in [&preface, &upgrade] {
            let last = played.events.last().unwrap();
            assert_eq!((&last["protocol"], &last["operation"], &last["depth"]), (&json!("http2"), &json!("transfer"), &json!("sizes")));
            assert_eq!(played.facts["http"]["upgrades"], json!(["http2"]));
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for text in ["> GET /a HTTP/1.1\n>\n< SSH-2.0-OpenSSH\n<", "> GET /a HTTP/1.1\n> Content-Length: 5, 6\n>", "> hello there\n>"] {
            let played = play(text);
            assert!(played.error.is_some(), "{text}");
        }
        let no = |head: &[u8]| testing::recognise(&HTTP, &vec![(CLIENT, head.to_vec())]);
        for other in ["OPTIONS rtsp://cam/1 RTSP/1.0\r\n", "USER anonymous\r\n", "GET\r\n", "HELO a\r\n", "GETX /a HTTP/1.1"] {
            assert_eq!(no(other.as_bytes()), Recognition::No, "{other}");
        }
        assert_eq!(no(b"PROPF"), Recognition::More);
        assert_eq!(no(b"BREW /pot HTTP/1.1\r\n"), Recognition::Yes { client: CLIENT });
        assert_eq!(testing::recognise(&HTTP, &vec![(SERVER, b"HTTP/1.1 200 OK\r\n".to_vec())]), Recognition::Yes { client: CLIENT });
        assert_eq!(testing::recognise(&HTTP, &vec![(CLIENT, b"HTTP/1.1 200 OK\r\n".to_vec())]), Recognition::Yes { client: SERVER });
    }

    #[test]
    fn recordings_of_http_are_no_other_protocols() {
        for text in [SESSION, CONNECT] {
            for protocol in TCP.iter().filter(|p| p.name != "http") {
                assert_ne!(testing::recognise(protocol, &recording(text)), Recognition::Yes { client: CLIENT }, "{}", protocol.name);
            }
        }
    }
}
