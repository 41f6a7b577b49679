//! TLS 1.0 to 1.3 with its drafts (RFC 2246, 4346, 5246, 8446), and SSL 3.0 (RFC 6101): what is visible of it. Of SSL 2.0,
//! that it is spoken (its hello may also begin a later version: RFC 5246, E.2).
//!
//! The handshake of a connection is in the clear until the keys change: names asked for (SNI), versions, cipher,
//! fingerprint of the client (JA4), and up to TLS 1.2 the certificates. After that, records are skipped by their
//! length. All bytes are one movement, client to server and back, since nobody can say what moved.
//!
//! A server that speaks HTTP on that port answers a ClientHello in the clear ("plain HTTP request sent to HTTPS port" and
//! its opposite are everyday mistakes of configuration): its side is read as HTTP from there.

use super::read::Read;
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition, http};
use crate::windows::{Counts, Depth, Facts, Movement, Operation, Recorder, Side, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

/// A handshake message that is longer is skipped by its length; so is what follows once a side sent this much in the clear.
pub const HANDSHAKE_BYTES_MAX: usize = 64 << 10;
/// Records are at most 2^14 bytes and what compression and encryption may add (RFC 5246, 6.2.3: 2048).
pub const RECORD_BYTES_MAX: usize = (1 << 14) + 2048;
/// Hellos and alerts kept for `hopwatch inspect`.
pub const FACTS_MAX: usize = 64;
/// Subject alternative names kept of a certificate, and one more where there are more.
pub const SANS_MAX: usize = 32;
/// Characters kept of a name in a certificate or hello.
pub const NAME_CHARS_MAX: usize = 255;

/// How an answer of HTTP begins, as long as a record's header (RFC 9112, 4).
const HTTP_ANSWER: &[u8] = b"HTTP/";

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// Drafts of TLS 1.3 before 22 had a message of its own for this (draft-ietf-tls-tls13-21, 4.1.4).
const HELLO_RETRY_REQUEST: u8 = 6;
const CERTIFICATE: u8 = 11;

pub const TLS: Protocol = Protocol { name: "tls", recognise, decoder };

/// TLS from the first byte of the connection.
#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    Box::new(Tls::new(options, false))
}

/// The handshake alone, without records: QUIC carries its messages in frames of its own (RFC 9001, 4).
pub(super) fn in_quic(options: Options) -> Tls {
    Tls { carrier: 'q', ..Tls::new(options, true) }
}

/// TLS inside another protocol, after its own request to encrypt: the protocol keeps its name, the depth becomes `sizes`.
#[must_use]
pub fn embedded(options: Options) -> Box<dyn Decoder> {
    Box::new(Tls::new(options, true))
}

/// Whether a record with a whole ClientHello's head starts here: what begins TLS inside a protocol that nobody reads
/// (STARTTLS and its kin), so every field that has few values is looked at (RFC 8446, 4.1.2).
#[must_use]
pub fn starts(bytes: &[u8]) -> bool {
    // Record (type, version, length), message (type, length), version, random of 32 bytes, length of the session id.
    let &[_, _, _, high, low, _, top, middle, bottom, major, minor, ..] = bytes else { return false };
    let (record, message) = (usize::from(high) << 8 | usize::from(low), usize::from(middle) << 8 | usize::from(bottom));
    begins(bytes, CLIENT_HELLO) == Some(true)
        && top == 0
        && (41..=HANDSHAKE_BYTES_MAX).contains(&message)
        && record <= message + 4
        && major == 3
        && minor <= 4
        && bytes.get(43).is_none_or(|session| *session <= 32)
}

/// A ClientHello from one side, or a ServerHello where the client is not seen (RFC 8446, 4 and 5.1).
fn recognise(heads: &Heads<'_>) -> Recognition {
    if heads.midstream {
        return recognise_midstream(heads);
    }
    let sides = [(heads.client, Side::Client), (heads.server, Side::Server)];
    for (head, side) in sides {
        let answers = [begins(head, CLIENT_HELLO), begins_in_ssl2(head)];
        if answers.contains(&Some(true)) {
            return Recognition::Yes { client: side };
        }
        if !head.is_empty() && answers.contains(&None) {
            return Recognition::More;
        }
    }
    for (head, side) in sides {
        let other = if side == Side::Client { heads.server } else { heads.client };
        if other.is_empty() {
            match begins(head, SERVER_HELLO) {
                Some(true) => return Recognition::Yes { client: side.other() },
                None => return Recognition::More,
                Some(false) => {}
            }
        }
    }
    Recognition::No
}

/// Whether a handshake record that begins with this message starts here; `None` asks for more.
fn begins(head: &[u8], message: u8) -> Option<bool> {
    let fits = |at: usize, test: fn(u8) -> bool| head.get(at).copied().is_none_or(test);
    let plausible = fits(0, |b| b == HANDSHAKE) && fits(1, |b| b == 3) && fits(2, |b| b <= 4);
    if !plausible || head.get(5).is_some_and(|b| *b != message) {
        return Some(false);
    }
    let (Some(&high), Some(&low), Some(_)) = (head.get(3), head.get(4), head.get(5)) else { return None };
    let length = usize::from(high) << 8 | usize::from(low);
    // The first record may hold as little as one byte of the hello; if it holds the length, that is below 64 KiB.
    let long = match head.get(6) {
        _ if length < 2 => false,
        Some(top) => *top != 0,
        None => return None,
    };
    Some((1..=RECORD_BYTES_MAX).contains(&length) && !long)
}

/// Whether a ClientHello of SSL 2.0 starts here (RFC 6101, appendix E): its lengths must add up; `None` asks for more.
fn begins_in_ssl2(head: &[u8]) -> Option<bool> {
    let fits = |at: usize, test: fn(u8) -> bool| head.get(at).copied().is_none_or(test);
    let version = |major: u8, minor: u8| (major == 3 && minor <= 4) || (major == 0 && minor == 2);
    if !fits(0, |b| b & 0x80 != 0) || !fits(2, |b| b == CLIENT_HELLO) || !fits(3, |b| b == 3 || b == 0) {
        return Some(false);
    }
    let &[high, low, _, major, minor, c1, c0, s1, s0, r1, r0, ..] = head else { return None };
    let number = |high: u8, low: u8| usize::from(high) << 8 | usize::from(low);
    let (ciphers, session, challenge) = (number(c1, c0), number(s1, s0), number(r1, r0));
    let lengths = ciphers > 0 && ciphers % 3 == 0 && matches!(session, 0 | 16) && (16..=32).contains(&challenge);
    Some(version(major, minor) && lengths && number(high & 0x7f, low) == 9 + ciphers + session + challenge)
}

/// In the middle, a record's header on every side that was heard: 24 bits that must fit, and a length.
fn recognise_midstream(heads: &Heads<'_>) -> Recognition {
    let mut heard = false;
    for head in [heads.client, heads.server] {
        match head {
            [] => {}
            [kind, 3, minor, high, low, rest @ ..] => {
                let length = usize::from(*high) << 8 | usize::from(*low);
                let fits = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(kind) && (1..=3).contains(minor);
                if !fits || length == 0 || length > RECORD_BYTES_MAX || (*kind == CHANGE_CIPHER_SPEC && length != 1) {
                    return Recognition::No;
                }
                let next = rest.get(length..).unwrap_or_default();
                if !record_may_begin(next) {
                    return Recognition::No;
                }
                heard = true;
            }
            _ if record_may_begin(head) => return Recognition::More,
            _ => return Recognition::No,
        }
    }
    // Server first is as likely as client first; the caller's guess stands.
    if heard { Recognition::Yes { client: Side::Client } } else { Recognition::More }
}

/// Whether the first bytes of a record header, as far as they are there, fit one.
fn record_may_begin(head: &[u8]) -> bool {
    let fits = |at: usize, test: fn(u8) -> bool| head.get(at).copied().is_none_or(test);
    fits(0, |b| (CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&b)) && fits(1, |b| b == 3) && fits(2, |b| b <= 4)
}

/// One direction: where it stands in its records and in its handshake messages.
#[derive(Default)]
struct Half {
    header: Vec<u8>,
    /// Content type of the record at hand and what is left of it.
    kind: u8,
    left: usize,
    /// The record length as its header said.
    length: usize,
    alert: Vec<u8>,
    message_head: Vec<u8>,
    message_left: usize,
    /// The message at hand is one that is read.
    kept: bool,
    message: Vec<u8>,
    /// Handshake bytes seen in the clear.
    clear_bytes: usize,
    /// A record's header was read.
    begun: bool,
    /// The keys have changed (or the handshake was lost): nothing of the handshake is read any more.
    closed: bool,
    /// After a gap the next record is looked for.
    seeking: bool,
    /// A record was found by looking; if the next is none, look on.
    doubtful: bool,
}

pub(super) struct Tls {
    embedded: bool,
    /// The letter that JA4 begins with: `t` on TCP, `q` in QUIC.
    carrier: char,
    options: Options,
    facts: bool,
    named: bool,
    /// The server answers in HTTP.
    in_clear: Option<Box<dyn Decoder>>,
    /// TLS 1.3 was negotiated: a ChangeCipherSpec means nothing (RFC 8446, D.4).
    version13: bool,
    known_version: bool,
    /// The client began with a hello of SSL 2.0, and the server answered in it.
    hello2: bool,
    ssl2: bool,
    halves: [Half; 2],
    /// The name in a client's certificate whose record is not yet whole.
    presented: Option<String>,
    hellos: Vec<Value>,
    alerts: Vec<Value>,
    negotiated_version: Option<u16>,
    cipher_suite: Option<u16>,
}

impl Tls {
    fn new(options: Options, embedded: bool) -> Self {
        let half = || Half { seeking: options.midstream, closed: options.midstream, ..Half::default() };
        Self {
            embedded,
            carrier: 't',
            options,
            facts: options.facts,
            named: false,
            in_clear: None,
            version13: false,
            known_version: false,
            hello2: false,
            ssl2: false,
            halves: [half(), half()],
            presented: None,
            hellos: Vec::new(),
            alerts: Vec::new(),
            negotiated_version: None,
            cipher_suite: None,
        }
    }

    fn name(&mut self, out: &mut Recorder<'_>) {
        if !self.named {
            self.named = true;
            if self.embedded {
                out.depth(Depth::Sizes);
            } else {
                out.protocol("tls", Depth::Sizes);
            }
            out.condition(|c| c.encrypted = true);
        }
    }

    /// Whether what the server sent so far, if anything, may be the beginning of an answer in HTTP.
    fn may_be_in_clear(&self) -> bool {
        let half = &self.halves[1];
        !(half.begun || half.seeking || half.closed || self.embedded) && HTTP_ANSWER.starts_with(&half.header)
    }

    /// Bytes of the server that are not claimed yet, since they may be such an answer's.
    fn held(&self) -> usize {
        if self.may_be_in_clear() { self.halves[1].header.len() } else { 0 }
    }

    fn begin_in_clear(&mut self, rest: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        self.halves[1].header.clear();
        out.cut();
        out.condition(|c| c.encrypted = false);
        let answer = self.in_clear.insert(http::decoder(self.options));
        answer.data(Side::Server, HTTP_ANSWER, out)?;
        answer.data(Side::Server, rest, out)
    }

    /// A record's header is whole.
    fn begin_record(&mut self, sender: Side, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let half = &mut self.halves[sender as usize];
        let &[kind, major, minor, high, low] = half.header.as_slice() else { return Ok(()) };
        let hello2 = sender == Side::Client && !half.begun && !half.seeking && begins_in_ssl2(&half.header) != Some(false);
        // SERVER-HELLO of SSL 2.0 is its message 4.
        let answer2 = sender == Side::Server && self.hello2 && !half.begun && kind & 0x80 != 0 && minor == 4;
        half.begun = true;
        if hello2 || answer2 {
            self.hello2 = true;
            self.ssl2 = answer2;
            half.header.clear();
            half.kind = 0;
            // The header of five bytes holds three of the record's own.
            half.left = (usize::from(kind & 0x7f) << 8 | usize::from(major)).saturating_sub(3);
            if answer2 {
                out.protect(|p| p.transport = "ssl2".into());
            }
            return Ok(());
        }
        let length = usize::from(high) << 8 | usize::from(low);
        let wrong = if !(CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&kind) {
            Some(DecodeError::new("record type", kind.into(), "20 to 24"))
        } else if major != 3 || minor > 4 {
            Some(DecodeError::new("record version", u64::from(major) << 8 | u64::from(minor), "0x0300 to 0x0304"))
        } else if length > RECORD_BYTES_MAX {
            Some(DecodeError::new("record length", length as u64, "at most 18432"))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            if half.seeking || half.doubtful {
                half.seeking = true;
                half.header.remove(0);
                return Ok(());
            }
            return Err(wrong);
        }
        half.header.clear();
        half.doubtful = half.seeking;
        half.seeking = false;
        half.kind = kind;
        half.left = length;
        half.length = length;
        half.alert.clear();
        if kind == CHANGE_CIPHER_SPEC && !self.version13 {
            half.closed = true;
        }
        // A hello that was not seen leaves what the records say: 0x0303 is TLS 1.2 or more (RFC 8446, 5.1).
        if kind == APPLICATION_DATA && !self.known_version {
            self.known_version = true;
            let transport = version_name(u16::from(major) << 8 | u16::from(minor));
            out.protect(|p| p.transport = transport.into());
        }
        Ok(())
    }

    /// Bytes of a record of the handshake protocol.
    pub(super) fn handshake(&mut self, sender: Side, mut bytes: &[u8], out: &mut Recorder<'_>) {
        while !bytes.is_empty() {
            let half = &mut self.halves[sender as usize];
            if half.closed && !self.version13 {
                return;
            }
            if half.message_head.len() < 4 {
                let (head, rest) = bytes.split_at(bytes.len().min(4 - half.message_head.len()));
                half.message_head.extend_from_slice(head);
                bytes = rest;
                let &[kind, high, middle, low] = half.message_head.as_slice() else { return };
                half.message_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                let wanted = matches!(kind, CLIENT_HELLO | SERVER_HELLO | HELLO_RETRY_REQUEST | CERTIFICATE);
                half.kept = wanted && half.message_left <= HANDSHAKE_BYTES_MAX && half.clear_bytes <= HANDSHAKE_BYTES_MAX;
                if wanted && !half.kept {
                    out.bound_reached();
                }
                half.clear_bytes = half.clear_bytes.saturating_add(half.message_left);
            }
            let (body, rest) = bytes.split_at(bytes.len().min(half.message_left));
            if half.kept {
                half.message.extend_from_slice(body);
            }
            half.message_left -= body.len();
            bytes = rest;
            if half.message_left == 0 {
                let kind = half.message_head.first().copied().unwrap_or_default();
                half.message_head.clear();
                let (kept, message) = (half.kept, std::mem::take(&mut half.message));
                if kept {
                    // A message that cannot be parsed is not read; the records go on.
                    let _ = self.message(sender, kind, &message, out);
                }
            }
        }
    }

    fn message(&mut self, sender: Side, kind: u8, body: &[u8], out: &mut Recorder<'_>) -> Option<()> {
        match (kind, sender) {
            (CLIENT_HELLO, Side::Client) => {
                let hello = ClientHello::read(body)?;
                if let Some(name) = &hello.sni {
                    // With Encrypted Client Hello this is the name of who stands before the destination.
                    out.server_name(name, if hello.ech { "outer-sni" } else { "sni" });
                }
                let (ech, ja4) = (hello.ech, hello.ja4(self.carrier));
                if self.facts && self.hellos.len() < FACTS_MAX {
                    let max_version = format!("{:#06x}", hello.max_version());
                    self.hellos.push(json!({"sni": hello.sni, "max_version": max_version, "alpn": hello.alpn, "ja4": ja4, "ech": ech}));
                }
                out.protect(|p| {
                    p.ja4 = Some(ja4);
                    p.ech = ech;
                });
            }
            (SERVER_HELLO | HELLO_RETRY_REQUEST, Side::Server) => {
                let (version, cipher) = server_hello(kind, body)?;
                self.known_version = true;
                self.version13 = version_name(version) == "tls1.3";
                self.negotiated_version = Some(version);
                if let Some(cipher) = cipher {
                    self.cipher_suite = Some(cipher);
                }
                out.protect(|p| {
                    p.transport = version_name(version).into();
                    p.cipher = cipher.map(cipher_name).or_else(|| p.cipher.take());
                });
            }
            (CERTIFICATE, _) => {
                // The sender's own certificate is the first of the list (RFC 5246, 7.4.2).
                let mut list = Read(Read(body).vector(3)?);
                let (name, facts) = certificate(list.vector(3)?)?;
                if facts["sans"].as_array().is_some_and(|names| names.len() > SANS_MAX) {
                    out.bound_reached();
                }
                if sender == Side::Server {
                    out.protect(|p| p.certificate = Some(facts));
                } else {
                    self.presented = name;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// The server checks that the client holds the key (RFC 5246, 7.4.8); who does not is sent away with an alert.
    fn identify(&mut self, out: &mut Recorder<'_>) {
        let Some(name) = self.presented.take() else { return };
        out.login(|i| {
            if i.account.is_none() {
                i.account = Some(format!("certificate:CN={name}"));
                i.account_from = Some("certificate");
            }
        });
        out.protect(|p| p.authentication = Some("certificate".into()));
    }

    fn alert(&mut self, sender: Side) {
        let half = &self.halves[sender as usize];
        let &[_, description] = half.alert.as_slice() else { return };
        if self.facts && self.alerts.len() < FACTS_MAX {
            let sender = if sender == Side::Client { "client" } else { "server" };
            self.alerts.push(json!({"sender": sender, "description": alert_name(description)}));
        }
    }
}

impl Decoder for Tls {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if let (Side::Server, Some(answer)) = (sender, &mut self.in_clear) {
            return answer.data(sender, bytes, out);
        }
        self.name(out);
        let held = if sender == Side::Server { self.held() } else { 0 };
        if sender == Side::Server && self.may_be_in_clear() {
            let wanted = HTTP_ANSWER.get(held..).unwrap_or_default();
            if let Some(rest) = bytes.strip_prefix(wanted) {
                return self.begin_in_clear(rest, out);
            }
            if wanted.starts_with(bytes) {
                // Claimed when it is known whose they are.
                self.halves[1].header.extend_from_slice(bytes);
                return Ok(());
            }
        }
        // All bytes of a connection are one flow, until a certificate says whose.
        let movement = Movement::new(Operation::Transfer, Side::Client);
        out.add(&movement, sender, held as u64, Counts::ZERO);
        let mut claimed = 0;
        let mut rest = bytes;
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() {
            let half = &mut self.halves[sender as usize];
            if self.ssl2 && half.left == 0 {
                // Its records have another shape; nothing in them is read.
                break;
            }
            if half.left == 0 {
                let (head, after) = rest.split_at(rest.len().min(5 - half.header.len()));
                half.header.extend_from_slice(head);
                rest = after;
                if half.header.len() == 5 {
                    result = self.begin_record(sender, out);
                }
                continue;
            }
            let (body, after) = rest.split_at(rest.len().min(half.left));
            half.left -= body.len();
            rest = after;
            // An alert in the clear is two bytes; encrypted ones are longer (RFC 5246, 7.2).
            let clear_alert = half.kind == ALERT && half.length == 2 && (self.version13 || !half.closed);
            match half.kind {
                HANDSHAKE => self.handshake(sender, body, out),
                ALERT if clear_alert => {
                    half.alert.extend_from_slice(body);
                    self.alert(sender);
                }
                _ => {}
            }
            if self.presented.is_some() && self.halves[sender as usize].left == 0 {
                // At the end of the record, wherever the segments end.
                let seen = bytes.len() - rest.len();
                out.add(&movement, sender, (seen - claimed) as u64, Counts::ZERO);
                claimed = seen;
                self.identify(out);
            }
        }
        out.add(&movement, sender, (bytes.len() - claimed) as u64, Counts::ZERO);
        result
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if let (Side::Server, Some(answer)) = (sender, &mut self.in_clear) {
            return answer.gap(sender, length, out);
        }
        if sender == Side::Server {
            out.add(&Movement::new(Operation::Transfer, Side::Client), sender, self.held() as u64, Counts::ZERO);
        }
        let half = &mut self.halves[sender as usize];
        let left = half.left as u64;
        if half.kind == HANDSHAKE || length > left {
            // What is left of the handshake has lost its thread.
            half.closed = true;
            half.message_head.clear();
            half.message = Vec::new();
            half.message_left = 0;
        }
        half.alert.clear();
        if length <= left {
            half.left -= usize::try_from(length).unwrap_or(half.left);
        } else {
            half.left = 0;
            half.header.clear();
            half.seeking = true;
        }
        Ok(())
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        if let Some(answer) = &mut self.in_clear {
            answer.close(out);
        }
    }

    fn facts(&self, into: &mut Facts) {
        if let Some(answer) = &self.in_clear {
            answer.facts(into);
        }
        if self.facts {
            let hexed = |v: Option<u16>| v.map(|v| format!("{v:#06x}"));
            into.insert(
                "tls",
                json!({"client_hellos": self.hellos, "negotiated_version": hexed(self.negotiated_version),
                       "cipher_suite": hexed(self.cipher_suite), "alerts": self.alerts}),
            );
        }
    }

    fn memory_bytes(&self) -> usize {
        let halves: usize = self.halves.iter().map(|h| h.message.capacity() + h.header.capacity() + h.message_head.capacity()).sum();
        let answer = self.in_clear.as_ref().map_or(0, |answer| answer.memory_bytes());
        size_of::<Self>() + halves + answer + 512 * (self.hellos.len() + self.alerts.len())
    }
}

impl<'a> Read<'a> {
    /// A vector with a length of `width` bytes before it (RFC 8446, 3.4).
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.take(width)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        self.take(length)
    }
}

fn u16s(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes))
}

/// Values that clients send to keep servers tolerant (RFC 8701).
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

#[derive(Default)]
struct ClientHello {
    legacy_version: u16,
    versions: Vec<u16>,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    signatures: Vec<u16>,
    has_sni: bool,
    sni: Option<String>,
    alpn: Vec<String>,
    /// First and last character of the first protocol, as JA4 writes them.
    alpn_mark: Option<String>,
    /// Encrypted Client Hello (RFC 9849, 5), or its predecessor that hid the name alone.
    ech: bool,
}

impl ClientHello {
    /// (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301, 3.1)
    fn read(body: &[u8]) -> Option<Self> {
        let mut read = Read(body);
        let mut hello = Self { legacy_version: read.u16()?, ..Self::default() };
        read.take(32)?;
        read.vector(1)?;
        hello.ciphers = u16s(read.vector(2)?).filter(|c| !is_grease(*c)).collect();
        read.vector(1)?;
        let mut extensions = Read(read.vector(2).unwrap_or_default());
        while let Some(kind) = extensions.u16() {
            let Some(content) = extensions.vector(2) else { break };
            if is_grease(kind) {
                continue;
            }
            hello.extensions.push(kind);
            hello.extension(kind, content);
        }
        Some(hello)
    }

    fn extension(&mut self, kind: u16, content: &[u8]) -> Option<()> {
        let mut content = Read(content);
        match kind {
            0 => {
                self.has_sni = true;
                let mut names = Read(content.vector(2)?);
                if names.u8()? == 0 {
                    self.sni = Some(text(names.vector(2)?));
                }
            }
            13 => self.signatures = u16s(content.vector(2)?).filter(|s| !is_grease(*s)).collect(),
            16 => {
                let mut protocols = Read(content.vector(2)?);
                while let Some(name) = protocols.vector(1) {
                    self.alpn_mark.get_or_insert_with(|| alpn_mark(name));
                    self.alpn.push(text(name));
                }
            }
            0xfe0d | 0xffce => self.ech = true,
            43 => self.versions = u16s(content.vector(1)?).filter(|v| !is_grease(*v)).collect(),
            _ => {}
        }
        Some(())
    }

    fn max_version(&self) -> u16 {
        self.versions.iter().copied().max().unwrap_or(self.legacy_version)
    }

    /// JA4 of FoxIO (BSD-3-Clause): counts in the clear, then sorted ciphers and extensions, hashed.
    fn ja4(&self, carrier: char) -> String {
        let version = match self.max_version() {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let sorted = |values: &[u16], without: &[u16]| {
            let mut values: Vec<_> = values.iter().filter(|v| !without.contains(v)).map(|v| format!("{v:04x}")).collect();
            values.sort();
            values.join(",")
        };
        let hashed = |text: &str| {
            if text.is_empty() { "0".repeat(12) } else { hex(&Sha256::digest(text.as_bytes())).chars().take(12).collect() }
        };
        let mut extensions = sorted(&self.extensions, &[0, 16]);
        if !self.signatures.is_empty() {
            let signatures: Vec<_> = self.signatures.iter().map(|s| format!("{s:04x}")).collect();
            extensions = format!("{extensions}_{}", signatures.join(","));
        }
        format!(
            "{carrier}{version}{}{:02}{:02}{}_{}_{}",
            if self.has_sni { 'd' } else { 'i' },
            self.ciphers.len().min(99),
            self.extensions.len().min(99),
            self.alpn_mark.as_deref().unwrap_or("00"),
            hashed(&sorted(&self.ciphers, &[])),
            hashed(&extensions),
        )
    }
}

/// First and last character; of a name that has others than letters and digits there, the first and last digit of its hex.
fn alpn_mark(name: &[u8]) -> String {
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else { return "00".into() };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        [first, last].map(char::from).iter().collect()
    } else {
        let digits = hex(&[first, last]);
        digits.chars().take(1).chain(digits.chars().skip(3)).collect()
    }
}

/// The version and cipher that were chosen (RFC 8446, 4.1.3 and 4.2.1).
fn server_hello(kind: u8, body: &[u8]) -> Option<(u16, Option<u16>)> {
    let mut read = Read(body);
    let mut version = read.u16()?;
    // Drafts 18 to 21 name themselves here and have no session id; the retry has a cipher from draft 19 on.
    let draft = version >> 8 == 0x7f;
    if kind == HELLO_RETRY_REQUEST {
        return draft.then(|| (version, (version >= 0x7f13).then(|| read.u16()).flatten()));
    }
    read.take(32)?;
    if draft {
        return Some((version, read.u16()));
    }
    read.vector(1)?;
    let cipher = read.u16()?;
    read.u8()?;
    let mut extensions = Read(read.vector(2).unwrap_or_default());
    while let Some(kind) = extensions.u16() {
        let Some(content) = extensions.vector(2) else { break };
        if kind == 43 {
            version = Read(content).u16().unwrap_or(version);
        }
    }
    Some((version, Some(cipher)))
}

/// The words of the event contract; drafts and their variants count as 1.3.
fn version_name(version: u16) -> String {
    match version {
        0x0300 => "ssl3".into(),
        0x0301 => "tls1.0".into(),
        0x0302 => "tls1.1".into(),
        0x0303 => "tls1.2".into(),
        0x0304 | 0x7f00..=0x7fff | 0xfb00..=0xfbff => "tls1.3".into(),
        other => format!("{other:#06x}"),
    }
}

/// A name from the wire, in characters that can be shown.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(NAME_CHARS_MAX).collect()
}

/// Common name of the subject and the facts of one certificate (RFC 5280), DER encoded; `None` if it cannot be parsed.
#[must_use]
pub fn certificate(der: &[u8]) -> Option<(Option<String>, Value)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let common_name = |name: &x509_parser::x509::X509Name<'_>| {
        name.iter_common_name().next().and_then(|part| part.as_str().ok()).map(|part| text(part.as_bytes()))
    };
    let subject = common_name(certificate.subject());
    let names = certificate.subject_alternative_name().ok().flatten();
    let sans: Vec<_> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some(text(name.as_bytes())),
            GeneralName::IPAddress(bytes) => ip_text(bytes),
            _ => None,
        })
        .take(SANS_MAX + 1)
        .collect();
    let key = certificate.public_key();
    let (key_type, bits) = match (key.algorithm.algorithm.to_id_string().as_str(), key.parsed()) {
        ("1.3.101.112", _) => ("ed25519", 256),
        ("1.3.101.113", _) => ("ed448", 456),
        (_, Ok(PublicKey::RSA(key))) => ("rsa", key.key_size()),
        (_, Ok(PublicKey::EC(point))) => ("ec", point.key_size()),
        (_, Ok(PublicKey::DSA(_))) => ("dsa", 0),
        _ => ("unknown", 0),
    };
    let validity = certificate.validity();
    let facts = json!({
        "subject": subject,
        "issuer": common_name(certificate.issuer()),
        "sans": sans,
        "not_before": date(&validity.not_before),
        "not_after": date(&validity.not_after),
        // By name: whether the signature is its own is not checked.
        "self_signed": certificate.subject().as_raw() == certificate.issuer().as_raw(),
        "key": key_type,
        "key_bits": bits,
        "sha256": hex(&Sha256::digest(certificate.as_raw())),
    });
    Some((subject, facts))
}

/// Certificates without an end say 9999 (RFC 5280, 4.1.2.5), which nanoseconds cannot hold.
fn date(time: &x509_parser::time::ASN1Time) -> String {
    let at = time.to_datetime();
    let (month, day) = (u8::from(at.month()), at.day());
    format!("{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", at.year(), at.hour(), at.minute(), at.second())
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from)).ok().map(|address| address.to_string())
}

/// The name in the IANA registry of cipher suites for those in use, otherwise its number.
fn cipher_name(cipher: u16) -> String {
    let known = CIPHERS.iter().find(|(number, _)| *number == cipher);
    known.map_or_else(|| format!("{cipher:#06x}"), |(_, name)| format!("TLS_{name}"))
}

const CIPHERS: &[(u16, &str)] = &[
    (0x0000, "NULL_WITH_NULL_NULL"),
    (0x0001, "RSA_WITH_NULL_MD5"),
    (0x0002, "RSA_WITH_NULL_SHA"),
    (0x0004, "RSA_WITH_RC4_128_MD5"),
    (0x0005, "RSA_WITH_RC4_128_SHA"),
    (0x0009, "RSA_WITH_DES_CBC_SHA"),
    (0x000a, "RSA_WITH_3DES_EDE_CBC_SHA"),
    (0x0016, "DHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0x002f, "RSA_WITH_AES_128_CBC_SHA"),
    (0x0033, "DHE_RSA_WITH_AES_128_CBC_SHA"),
    (0x0035, "RSA_WITH_AES_256_CBC_SHA"),
    (0x0039, "DHE_RSA_WITH_AES_256_CBC_SHA"),
    (0x003b, "RSA_WITH_NULL_SHA256"),
    (0x003c, "RSA_WITH_AES_128_CBC_SHA256"),
    (0x003d, "RSA_WITH_AES_256_CBC_SHA256"),
    (0x0067, "DHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0x006b, "DHE_RSA_WITH_AES_256_CBC_SHA256"),
    (0x009c, "RSA_WITH_AES_128_GCM_SHA256"),
    (0x009d, "RSA_WITH_AES_256_GCM_SHA384"),
    (0x009e, "DHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0x009f, "DHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0x1301, "AES_128_GCM_SHA256"),
    (0x1302, "AES_256_GCM_SHA384"),
    (0x1303, "CHACHA20_POLY1305_SHA256"),
    (0x1304, "AES_128_CCM_SHA256"),
    (0x1305, "AES_128_CCM_8_SHA256"),
    (0xc007, "ECDHE_ECDSA_WITH_RC4_128_SHA"),
    (0xc009, "ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    (0xc00a, "ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    (0xc011, "ECDHE_RSA_WITH_RC4_128_SHA"),
    (0xc012, "ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0xc013, "ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    (0xc014, "ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    (0xc023, "ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
    (0xc024, "ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"),
    (0xc027, "ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0xc028, "ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
    (0xc02b, "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xc02c, "ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xc02f, "ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xc030, "ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xc0ac, "ECDHE_ECDSA_WITH_AES_128_CCM"),
    (0xc0ae, "ECDHE_ECDSA_WITH_AES_128_CCM_8"),
    (0xcca8, "ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xcca9, "ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xccaa, "DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// (RFC 8446, 6; the wording of the analysers that people compare with)
fn alert_name(description: u8) -> String {
    let name = match description {
        0 => "Close Notify",
        1 => "End of Early Data",
        10 => "Unexpected Message",
        20 => "Bad Record MAC",
        21 => "Decryption Failed",
        22 => "Record Overflow",
        30 => "Decompression Failure",
        40 => "Handshake Failure",
        41 => "No Certificate",
        42 => "Bad Certificate",
        43 => "Unsupported Certificate",
        44 => "Certificate Revoked",
        45 => "Certificate Expired",
        46 => "Certificate Unknown",
        47 => "Illegal Parameter",
        48 => "Unknown CA",
        49 => "Access Denied",
        50 => "Decode Error",
        51 => "Decrypt Error",
        60 => "Export Restriction",
        70 => "Protocol Version",
        71 => "Insufficient Security",
        80 => "Internal Error",
        86 => "Inappropriate Fallback",
        90 => "User Canceled",
        100 => "No Renegotiation",
        109 => "Missing Extension",
        110 => "Unsupported Extension",
        111 => "Certificate Unobtainable",
        112 => "Unrecognized Name",
        113 => "Bad Certificate Status Response",
        114 => "Bad Certificate Hash Value",
        115 => "Unknown PSK Identity",
        116 => "Certificate Required",
        120 => "No application Protocol",
        other => return format!("Unknown ({other})"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, CLIENT, Played, SERVER, Script, Step};
    use super::*;

    const MUTUAL: &str = include_str!("../../../tests/data/tls/tls12-mutual.txt");
    const MODERN: &str = include_str!("../../../tests/data/tls/tls13.txt");
    const WHOLE: Options = Options { facts: true, midstream: false };

    fn recording(text: &str) -> Script {
        let side = |line: &str| if line.starts_with('>') { CLIENT } else { SERVER };
        text.lines().map(|line| (side(line), testing::bytes(line.get(2..).unwrap()))).collect()
    }

    fn facts(played: &Played) -> &Value {
        &played.facts["tls"]
    }

    #[test]
    fn shared_checks_hold_on_both_recordings() {
        for text in [MUTUAL, MODERN] {
            let script = recording(text);
            assert_eq!(testing::recognise(&TLS, &script), Recognition::Yes { client: CLIENT });
            testing::shared_checks(&TLS, &script, &["request request", "rows rows"]);
        }
    }

    #[test]
    fn tls12_shows_both_certificates_and_names_the_account() {
        let played = testing::play_script(decoder(WHOLE), &recording(MUTUAL));
        let last = played.events.last().unwrap();
        assert_eq!(last["protocol"], "tls");
        assert_eq!(last["account"], "certificate:CN=edge-press-1");
        assert_eq!(last["account_from"], "certificate");
        assert_eq!(last["operation"], "transfer");
        assert_eq!(last["depth"], "sizes");
        assert_eq!(last["completeness"]["state"], "encrypted");
        assert_eq!(last["destination"]["names"], json!([{"name": "mes-db.plant.example", "by": "sni"}]));
        let protection = &last["protection"];
        assert_eq!(protection["transport"], "tls1.2");
        assert_eq!(protection["cipher"], "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
        assert_eq!(protection["authentication"], "certificate");
        let certificate = &protection["certificate"];
        assert_eq!(certificate["subject"], "mes-db.plant.example");
        assert_eq!(certificate["sans"], json!(["mes-db.plant.example", "mes.plant.example"]));
        assert_eq!(certificate["self_signed"], true);
        assert_eq!((&certificate["key"], &certificate["key_bits"]), (&json!("ec"), &json!(256)));
        assert_eq!(
            (&certificate["not_before"], &certificate["not_after"]),
            (&json!("2026-01-01T00:00:00Z"), &json!("2028-01-01T00:00:00Z"))
        );
    }

    /// A hello of SSL 2.0 that offers TLS 1.0 (RFC 5246, E.2): two suites, no session, 16 bytes of challenge.
    fn hello_in_ssl2(version: &str) -> Vec<u8> {
        testing::bytes(&format!("801f 01 {version} 0006 0000 0010 000005 00000a {}", "5a".repeat(16)))
    }

    #[test]
    fn a_hello_of_ssl2_may_begin_tls() {
        let answer = "160301 002a 02 000026 0301".to_owned() + &"11".repeat(32) + "00 0005 00";
        let script = vec![(CLIENT, hello_in_ssl2("0301")), (SERVER, testing::bytes(&answer)), (CLIENT, testing::bytes("140301 0001 01"))];
        assert_eq!(testing::recognise(&TLS, &script), Recognition::Yes { client: CLIENT });
        let played = testing::play_script(decoder(WHOLE), &script);
        assert_eq!(played.error, None);
        assert_eq!(facts(&played)["negotiated_version"], "0x0301");
        assert_eq!(played.events.last().unwrap()["protection"]["transport"], "tls1.0");
        testing::shared_checks(&TLS, &script, &[]);
    }

    #[test]
    fn ssl2_is_named_and_its_records_are_counted() {
        let script = vec![
            (CLIENT, hello_in_ssl2("0002")),
            (SERVER, testing::bytes("8006 04 0001 0002 00")),
            (CLIENT, testing::bytes("0028 07 1a e7 f8")),
            (SERVER, testing::bytes("0028 07 3e df 91")),
        ];
        let played = testing::play_script(decoder(WHOLE), &script);
        assert_eq!(played.error, None);
        assert_eq!(played.events.last().unwrap()["protection"]["transport"], "ssl2");
        assert_eq!(facts(&played)["negotiated_version"], Value::Null);
        let one_less = vec![(CLIENT, [&hello_in_ssl2("0002")[..1], &[0x20], &hello_in_ssl2("0002")[2..]].concat())];
        assert_eq!(testing::recognise(&TLS, &one_less), Recognition::No);
    }

    #[test]
    fn tls13_shows_versions_and_alpn_but_no_certificate() {
        let played = testing::play_script(decoder(WHOLE), &recording(MODERN));
        let last = played.events.last().unwrap();
        assert_eq!(last["protection"]["transport"], "tls1.3");
        assert_eq!(last["protection"]["certificate"], Value::Null);
        assert_eq!(last["account"], Value::Null);
        assert_eq!(facts(&played)["negotiated_version"], "0x0304");
        let hello = &facts(&played)["client_hellos"][0];
        assert_eq!((&hello["alpn"], &hello["max_version"]), (&json!(["h2", "http/1.1"]), &json!("0x0304")));
    }

    #[test]
    fn sql_servers_strict_encryption_is_sizes_and_shows_as_alpn() {
        let script = recording(include_str!("../../../tests/data/tls/tds-strict.txt"));
        assert_eq!(testing::recognise(&crate::protocols::tds::TDS, &script), Recognition::No);
        let played = testing::play_script(decoder(WHOLE), &script);
        assert_eq!(facts(&played)["client_hellos"][0]["alpn"], json!(["tds/8.0"]));
        for e in &played.events {
            assert_eq!(
                (&e["depth"], &e["account"], &e["account_from"], &e["rows"]),
                (&json!("sizes"), &Value::Null, &json!("unknown"), &json!(0))
            );
        }
    }

    #[test]
    fn ja4_matches_its_published_example() {
        // FoxIO's technical description of JA4: the ciphers and extensions of its example, and the result.
        let u16s = |text: &str| text.split(',').map(|v| u16::from_str_radix(v, 16).unwrap()).collect::<Vec<_>>();
        let hello = ClientHello {
            legacy_version: 0x0303,
            versions: vec![0x0304, 0x0303],
            ciphers: u16s("1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"),
            extensions: u16s("001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015"),
            signatures: u16s("0403,0804,0401,0503,0805,0501,0806,0601"),
            has_sni: true,
            sni: None,
            alpn: Vec::new(),
            alpn_mark: Some(alpn_mark(b"h2")),
            ech: false,
        };
        assert_eq!(hello.ja4('t'), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn embedded_keeps_the_name_of_the_protocol_around_it() {
        let played = testing::play_script(embedded(WHOLE), &recording(MODERN));
        assert!(played.events.iter().all(|e| e["protocol"].is_null() && e["depth"] == "sizes"));
    }

    #[test]
    fn alert_in_the_clear_is_read_and_an_encrypted_one_is_not() {
        let played = testing::play_script(
            decoder(WHOLE),
            &vec![(CLIENT, testing::bytes("16 03 01 00 04 01 00 00 00")), (SERVER, testing::bytes("15 03 01 00 02 02 28"))],
        );
        assert_eq!(facts(&played)["alerts"], json!([{"sender": "server", "description": "Handshake Failure"}]));
        let closed = testing::play_script(decoder(WHOLE), &vec![(SERVER, testing::bytes("14 03 03 00 01 01 15 03 03 00 02 02 28"))]);
        assert_eq!(facts(&closed)["alerts"], json!([]));
    }

    #[test]
    fn a_server_of_http_answers_a_hello_in_the_clear_and_is_read() {
        let hello = recording(MODERN).remove(0);
        let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nwrong".to_vec();
        let alert = (CLIENT, testing::bytes("15 03 01 00 02 02 46"));
        let script = vec![hello.clone(), (SERVER, answer), alert];
        let played = testing::play_script(decoder(WHOLE), &script);
        assert_eq!(played.error, None);
        assert_eq!(played.facts["http"]["response_codes"], json!({"400": 1}));
        assert_eq!(facts(&played)["alerts"].as_array().unwrap().len(), 1);
        assert_eq!((&played.events[0]["protocol"], &played.events.last().unwrap()["protocol"]), (&json!("tls"), &json!("http")));
        assert_eq!(played.events.last().unwrap()["completeness"]["state"], "complete");
        testing::shared_checks(&TLS, &script, &["wrong"]);
        // What only begins like one is a violation, and its bytes count all the same.
        testing::shared_checks(&TLS, &vec![hello, (SERVER, b"HTTQ".to_vec())], &[]);
    }

    #[test]
    fn record_that_is_none_is_refused_with_its_place() {
        let played = testing::play_script(decoder(WHOLE), &vec![(CLIENT, b"GET / HTTP/1.1\r\n".to_vec())]);
        assert_eq!(played.error, Some(DecodeError::new("record type", 71, "20 to 24")));
    }

    #[test]
    fn records_are_found_again_after_a_gap() {
        let hello = testing::bytes("16 03 01 00 04 01 00 00 00");
        let tail = testing::bytes("00 ff 16 17 03 03 00 03 aa bb cc 15 03 03 00 02 01 00");
        let played = testing::play(decoder(WHOLE), &[Step::Data(SERVER, &hello), Step::Gap(SERVER, 700), Step::Data(SERVER, &tail)]);
        assert_eq!(played.error, None);
        testing::assert_conserved(&played);
        assert_eq!(played.events.last().unwrap()["protection"]["transport"], "tls1.2");
    }

    #[test]
    fn message_longer_than_the_bound_is_skipped_and_the_next_is_read() {
        let mut sent = testing::bytes("16 03 03 00 04 0b 02 00 00");
        for _ in 0..0x2_0000 / 0x1000 {
            sent.extend(testing::bytes("16 03 03 10 00"));
            sent.extend(vec![0; 0x1000]);
        }
        sent.extend(testing::bytes("15 03 03 00 02 02 2d"));
        let played = testing::play_script(decoder(WHOLE), &vec![(SERVER, sent)]);
        assert_eq!(facts(&played)["alerts"], json!([{"sender": "server", "description": "Certificate Expired"}]));
        assert!(played.memory_bytes_max < 4096);
        assert_eq!(played.bounds_reached, 1);
    }

    #[test]
    fn hello_in_one_byte_records_is_recognised_and_other_protocols_are_not() {
        let one = testing::bytes("16 03 01 00 01 01 16 03 01 00 01 00");
        assert_eq!(testing::recognise(&TLS, &vec![(CLIENT, one)]), Recognition::Yes { client: CLIENT });
        assert_eq!(testing::recognise(&TLS, &vec![(CLIENT, testing::bytes("16 03"))]), Recognition::More);
        for other in ["10 16 00 04 4d 51 54 54", "00 00 00 08 04 d2 16 2f", "48 45 4c 46", "47 45 54 20 2f"] {
            assert_eq!(testing::recognise(&TLS, &vec![(CLIENT, testing::bytes(other))]), Recognition::No);
        }
    }

    /// The recorded hello with one more extension, empty.
    fn hello_with(extension: [u8; 2]) -> Vec<u8> {
        let mut hello = recording(MODERN)[0].1.clone();
        // Record, message, version, random; then session, ciphers, compressions.
        let mut at = 5 + 4 + 2 + 32;
        at += 1 + usize::from(hello[at]);
        at += 2 + (usize::from(hello[at]) << 8 | usize::from(hello[at + 1]));
        at += 1 + usize::from(hello[at]);
        for length in [3, 7, at] {
            let longer = (u16::from(hello[length]) << 8 | u16::from(hello[length + 1])) + 4;
            hello[length..length + 2].copy_from_slice(&longer.to_be_bytes());
        }
        hello.extend([extension[0], extension[1], 0, 0]);
        hello
    }

    #[test]
    fn name_beside_an_encrypted_hello_is_an_outer_one_and_said_so() {
        for (extension, ech, by) in [([0xfe, 0x0d], true, "outer-sni"), ([0xff, 0xce], true, "outer-sni"), ([0x00, 0x17], false, "sni")] {
            let played = testing::play_script(decoder(WHOLE), &vec![(CLIENT, hello_with(extension))]);
            let last = played.events.last().unwrap();
            assert_eq!(last["destination"]["names"], json!([{"name": "mes-db.plant.example", "by": by}]));
            assert_eq!((last["protection"]["ech"] == json!(true), &facts(&played)["client_hellos"][0]["ech"]), (ech, &json!(ech)));
        }
    }

    #[test]
    fn hello_starts_tls_and_what_only_looks_like_one_does_not() {
        let hello = recording(MODERN)[0].1.clone();
        assert!(starts(&hello) && starts(&hello[..11]) && !starts(&hello[..10]) && !starts(&hello[1..]));
        for (at, byte) in [(0, 0x17), (1, 2), (2, 9), (5, 2), (6, 1), (9, 2), (10, 9), (43, 33)] {
            let mut other = hello.clone();
            other[at] = byte;
            assert!(!starts(&other), "byte {at}");
        }
    }
}
