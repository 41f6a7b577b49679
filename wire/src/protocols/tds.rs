//! SQL Server's protocol, TDS 7.0 to 8.0 (MS-TDS), with MARS (MC-SMP).
//!
//! A message is one or several packets, each with its length; a request has one answer, and the next request waits for it.
//! So what is lost costs the message that it is part of, and no more. Rows are walked value by value and counted; what an
//! INSERT, UPDATE or DELETE changed is the number in its DONE.
//!
//! Nearly every server encrypts the login, in TLS inside packets of PRELOGIN, and where it encrypts no more than that,
//! everything behind it is in the clear again (2.2.6.5): statements and rows are read, and whose they are is not known.

mod answers;
mod login;
mod requests;
mod rpc;
mod search;
mod session;
mod statements;
mod tokens;
mod types;

use super::claims::{Claims, bare, unknown};
use super::few::Few;
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition, tls};
use crate::sql::tsql::Quotes;
use crate::windows::{Counts, Depth, Facts, Movement, Operation, Recorder, Side};
use serde_json::{Value, json};
use session::Session;
use statements::Known;
pub(crate) use statements::Texted;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use tokens::Features;
use types::{Era, Width};

/// SQL text that is read, in characters; of a longer one, its beginning.
pub const SQL_BYTES_MAX: usize = 16 << 10;
/// Bytes that are read of a login.
pub const LOGIN_BYTES_MAX: usize = 16 << 10;
/// One token, or one column's description, is kept until it is whole; the rest of the message is not read if it is longer.
pub const ITEM_BYTES_MAX: usize = (64 << 10) + 16;
/// Columns of one result; of a wider one the rows are bytes.
pub const COLUMNS_MAX: usize = 4096;
/// Names of the columns of one answer; those of a wider one are `*`.
pub const DEFINITIONS_BYTES_MAX: usize = 32 << 10;
/// Prepared statements and cursors, and their bytes; further ones are `unknown`.
pub const PREPARED_MAX: usize = 1024;
pub const PREPARED_BYTES_MAX: usize = 1 << 20;
/// Requests that await an answer, and calls in one of them; further ones are `unknown`.
pub const REQUESTS_MAX: usize = 16;
pub const CALLS_MAX: usize = 1024;
/// Sessions of one connection (MARS); the bytes of further ones are counted only.
pub const SESSIONS_MAX: usize = 64;
/// A statement that names no table may return this much before its objects are `unknown`.
pub const TABLELESS_BYTES_MAX: u64 = 1024;
/// Logins that are shown.
const FACTS_MAX: usize = 16;

/// Packet types (2.2.3.1.1).
const BATCH: u8 = 0x01;
const RPC: u8 = 0x03;
const ANSWER: u8 = 0x04;
const ATTENTION: u8 = 0x06;
const BULK: u8 = 0x07;
const FEDERATED: u8 = 0x08;
const TRANSACTION: u8 = 0x0e;
const LOGIN: u8 = 0x10;
const SSPI: u8 = 0x11;
const PRELOGIN: u8 = 0x12;
/// The length of a packet's header (2.2.3.1).
const HEADER_BYTES: usize = 8;
/// First byte and length of a header of MARS (MC-SMP 2.2.1).
const SMP: u8 = 0x53;
const SMP_BYTES: usize = 16;
const SMP_FIN: u8 = 4;

/// The line of the registry.
pub const TDS: Protocol = Protocol { name: "tds", recognise, decoder };

/// Whether a PRELOGIN packet with a ClientHello starts here.
#[must_use]
pub fn starts(bytes: &[u8]) -> bool {
    bytes.first() == Some(&PRELOGIN) && bytes.get(HEADER_BYTES..).is_some_and(tls::starts)
}

/// A decoder for one connection.
#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    Box::new(Tds::new(options))
}

/// Movements that are the same on every connection.
struct Common {
    connect: Arc<Movement>,
    refused: Arc<Movement>,
    /// Data whose statement was not seen: any operation may stand behind it, so none is told.
    transfer: Arc<Movement>,
    rows: Arc<Movement>,
    copied_in: Arc<Movement>,
}

static COMMON: LazyLock<Common> = LazyLock::new(|| Common {
    connect: bare(Operation::Connect),
    refused: bare(Operation::Refused),
    transfer: bare(Operation::Transfer),
    rows: unknown(Operation::Select, Side::Server),
    copied_in: unknown(Operation::Copy, Side::Client),
});

#[derive(Default)]
struct Gathered {
    messages: BTreeMap<&'static str, u64>,
    batches: u64,
    calls: u64,
    rows: u64,
    done_rows: u64,
    errors: u64,
    logins: Vec<Value>,
}

/// A prepared statement or a cursor, and the shape that its rows had.
#[derive(Clone)]
struct Prepared {
    texted: Arc<Texted>,
    widths: Option<Arc<[Width]>>,
}

/// What the sessions of a connection share.
struct Core {
    era: Option<Era>,
    database: Option<String>,
    /// The database of the login.
    first_database: Option<String>,
    quotes: Quotes,
    /// By the number that the server gave it.
    prepared: Few<i32, Prepared>,
    cursors: Few<i32, Prepared>,
    /// Cursors that statements declare.
    named: Few<Box<str>, Arc<Known>>,
    prepared_bytes: usize,
    claims: Claims,
    gathered: Option<Box<Gathered>>,
    features: Features,
    logged_in: bool,
    /// Windows are marked since a gap; for good if what was lost may have changed what the session means.
    marked: bool,
    for_good: bool,
}

impl Core {
    fn claim(&mut self, movement: &Arc<Movement>, sender: Side, bytes: u64, counts: Counts) {
        self.claims.add(movement, sender, bytes, counts);
    }

    fn flush(&mut self, out: &mut Recorder<'_>) {
        self.claims.flush(out);
    }

    fn note(&mut self, change: impl FnOnce(&mut Gathered)) {
        if let Some(gathered) = &mut self.gathered {
            change(gathered);
        }
    }

    /// Remembers a statement, or a cursor, by its number.
    fn keep(&mut self, cursor: bool, id: i32, prepared: Prepared) {
        self.forget(cursor, id);
        let bytes = prepared_bytes(&prepared);
        if self.prepared.len() + self.cursors.len() >= PREPARED_MAX || self.prepared_bytes + bytes > PREPARED_BYTES_MAX {
            self.claims.bounds_reached += 1;
            return;
        }
        self.prepared_bytes += bytes;
        if cursor { &mut self.cursors } else { &mut self.prepared }.insert(id, prepared);
    }

    fn forget(&mut self, cursor: bool, id: i32) {
        if let Some(old) = if cursor { &mut self.cursors } else { &mut self.prepared }.remove(&id) {
            self.prepared_bytes = self.prepared_bytes.saturating_sub(prepared_bytes(&old));
        }
    }

    fn known(&self, cursor: bool, id: Option<i32>) -> Option<Prepared> {
        id.and_then(|id| if cursor { &self.cursors } else { &self.prepared }.get(&id).cloned())
    }

    /// Declares a cursor by its name.
    fn declare(&mut self, name: &str, known: &Arc<Known>) {
        if self.named.len() >= PREPARED_MAX || self.prepared_bytes + known.size_bytes > PREPARED_BYTES_MAX {
            self.claims.bounds_reached += 1;
            return;
        }
        self.prepared_bytes += known.size_bytes;
        if let Some(old) = self.named.insert(name.into(), Arc::clone(known)) {
            self.prepared_bytes = self.prepared_bytes.saturating_sub(old.size_bytes);
        }
    }

    /// As after the login (sp_reset_connection, which pools ask for).
    fn reset(&mut self, out: &mut Recorder<'_>) {
        self.prepared.clear();
        self.cursors.clear();
        self.named.clear();
        self.prepared_bytes = 0;
        self.database.clone_from(&self.first_database);
        self.flush(out);
        out.identify(|identity| identity.role = None);
    }
}

fn prepared_bytes(prepared: &Prepared) -> usize {
    let texts: usize = prepared.texted.list.iter().map(|known| known.size_bytes).sum();
    128 + texts + prepared.widths.as_ref().map_or(0, |widths| 2 * widths.len())
}

/// What one direction is at, below the packets of a session.
#[derive(Default)]
struct Layer {
    head: Vec<u8>,
    /// Bytes of a TLS record, or of a packet of MARS, that are to come.
    left: usize,
    kind: Kind,
    /// From here on bytes are counted only.
    counted: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Packets,
    Record,
    /// A packet of MARS, of this session.
    Smp(u16),
}

struct Tds {
    options: Options,
    named: bool,
    tls: Box<dyn Decoder>,
    /// The handshake has begun; one side has gone back to the clear.
    tls_begun: bool,
    clear: bool,
    layers: [Layer; 2],
    core: Core,
    session: Box<Session>,
    /// Sessions of MARS.
    sessions: Few<u16, Box<Session>>,
}

impl Tds {
    fn new(options: Options) -> Self {
        Self {
            options,
            named: false,
            tls: tls::embedded(options),
            tls_begun: false,
            clear: false,
            layers: Default::default(),
            core: Core {
                era: None,
                database: None,
                first_database: None,
                quotes: if options.midstream { Quotes::Unknown } else { Quotes::Names },
                prepared: Few::default(),
                cursors: Few::default(),
                named: Few::default(),
                prepared_bytes: 0,
                claims: Claims::default(),
                gathered: options.facts.then(Box::default),
                features: Features::default(),
                logged_in: options.midstream,
                marked: options.midstream,
                for_good: options.midstream,
            },
            session: Box::new(Session::new(options.midstream)),
            sessions: Few::default(),
        }
    }

    /// What stands first in `bytes`; the number of bytes used.
    fn step(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let layer = &mut self.layers[sender as usize];
        if layer.counted {
            self.core.claim(&COMMON.transfer, sender, bytes.len() as u64, Counts::ZERO);
            return Ok(bytes.len());
        }
        if layer.left > 0 {
            let used = bytes.len().min(layer.left);
            let piece = bytes.get(..used).unwrap_or(bytes);
            match layer.kind {
                Kind::Smp(id) => return self.inside(id, sender, piece, out),
                _ => {
                    layer.left -= used;
                    self.core.flush(out);
                    self.tls.data(sender, piece, out)?;
                }
            }
            return Ok(used);
        }
        let Some(&first) = bytes.first() else { return Ok(0) };
        let begins = !layer.head.is_empty();
        let above = self.session.is_between(sender);
        let record = above && !begins && self.tls_begun && (0x14..=0x17).contains(&first);
        if begins || record || (above && first == SMP) {
            return self.head(sender, bytes, out);
        }
        if above && self.tls_begun && !self.clear && first != PRELOGIN {
            self.clear = true;
            self.core.flush(out);
            out.cut();
            out.protect(|p| p.transport = "none".into());
            out.condition(|c| c.encrypted = false);
            out.depth(Depth::Decoded);
        }
        let used = self.session.step(&mut self.core, sender, bytes, out)?;
        // What a packet of PRELOGIN holds may be TLS.
        if let Some(piece) = self.session.take_tls(sender, bytes.get(..used).unwrap_or(bytes)) {
            self.tls_begun = true;
            self.core.flush(out);
            self.tls.data(sender, piece, out)?;
        }
        Ok(used)
    }

    /// The head of a TLS record, or of a packet of MARS.
    fn head(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let layer = &mut self.layers[sender as usize];
        let is_smp = layer.head.first().or(bytes.first()) == Some(&SMP);
        let need = if is_smp { SMP_BYTES } else { 5 };
        let used = bytes.len().min(need - layer.head.len().min(need));
        layer.head.extend_from_slice(bytes.get(..used).unwrap_or(bytes));
        if layer.head.len() < need {
            return Ok(used);
        }
        let head = std::mem::take(&mut layer.head);
        if !is_smp {
            layer.left = head.get(3..).map_or(0, |length| usize::from(length[0]) << 8 | usize::from(length[1]));
            layer.kind = Kind::Record;
            self.core.flush(out);
            self.tls.data(sender, &head, out)?;
            return Ok(used);
        }
        let &[_, flags, low, high, a, b, c, d, ..] = head.as_slice() else { return Ok(used) };
        let (id, length) = (u16::from_le_bytes([low, high]), u32::from_le_bytes([a, b, c, d]));
        let left = (length as usize)
            .checked_sub(SMP_BYTES)
            .ok_or_else(|| DecodeError::new("length of a packet of MARS", length.into(), "at least 16"))?;
        layer.left = left;
        layer.kind = Kind::Smp(id);
        self.core.claim(&COMMON.connect, sender, SMP_BYTES as u64, Counts::ZERO);
        if flags & SMP_FIN != 0 && sender == Side::Server {
            if let Some(mut over) = self.sessions.remove(&id) {
                over.close(&mut self.core);
            }
        }
        Ok(used)
    }

    /// Bytes of one session of MARS.
    fn inside(&mut self, id: u16, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        if self.sessions.get(&id).is_none() {
            if self.sessions.len() >= SESSIONS_MAX {
                self.core.claims.bounds_reached += 1;
                self.layers[sender as usize].left -= bytes.len();
                self.core.claim(&COMMON.transfer, sender, bytes.len() as u64, Counts::ZERO);
                return Ok(bytes.len());
            }
            self.sessions.insert(id, Box::new(Session::new(self.options.midstream)));
        }
        let Some(mut session) = self.sessions.remove(&id) else { return Ok(bytes.len()) };
        let used = session.step(&mut self.core, sender, bytes, out);
        self.sessions.insert(id, session);
        let used = used?;
        self.layers[sender as usize].left -= used.min(bytes.len());
        Ok(used)
    }
}

impl Decoder for Tds {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if !std::mem::replace(&mut self.named, true) {
            out.protocol("tds", Depth::Decoded);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.step(sender, rest, out) {
                Ok(used) => rest = rest.get(used..).unwrap_or(&[]),
                Err(wrong) => {
                    self.core.flush(out);
                    return Err(wrong);
                }
            }
        }
        self.core.flush(out);
        Ok(())
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let layer = &mut self.layers[sender as usize];
        if layer.counted {
            return Ok(());
        }
        if layer.left > 0 || !layer.head.is_empty() {
            if length > layer.left as u64 || !layer.head.is_empty() {
                // Where the next packet begins cannot be told.
                layer.counted = true;
                let head = std::mem::take(&mut layer.head).len() as u64;
                layer.left = 0;
                self.core.claim(&COMMON.transfer, sender, head, Counts::ZERO);
                self.core.flush(out);
                out.gapped();
                return Ok(());
            }
            layer.left -= usize::try_from(length).unwrap_or(layer.left);
            let Kind::Smp(id) = layer.kind else { return self.tls.gap(sender, length, out) };
            out.gapped();
            if let Some(mut session) = self.sessions.remove(&id) {
                session.gap(&mut self.core, sender, length, out);
                self.sessions.insert(id, session);
            }
            self.core.flush(out);
            return Ok(());
        }
        if self.session.holds_tls(sender) {
            return if self.session.gap_in_tls(sender, length) {
                self.tls.gap(sender, length, out)
            } else {
                self.layers[sender as usize].counted = true;
                Ok(())
            };
        }
        out.gapped();
        if self.tls_begun && !self.clear {
            self.layers[sender as usize].counted = true;
            return Ok(());
        }
        self.session.gap(&mut self.core, sender, length, out);
        self.core.flush(out);
        if !self.core.marked {
            // The end of the value is known, and all behind it.
            out.sound();
        }
        Ok(())
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        self.session.close(&mut self.core);
        let mut sessions: Vec<_> = self.sessions.iter().map(|(id, _)| *id).collect();
        sessions.sort_unstable();
        for id in sessions {
            if let Some(mut session) = self.sessions.remove(&id) {
                session.close(&mut self.core);
            }
        }
        self.core.flush(out);
    }

    fn facts(&self, into: &mut Facts) {
        self.tls.facts(into);
        if let Some(g) = &self.core.gathered {
            into.insert(
                "tds",
                json!({
                    "messages_by_type": g.messages, "batch_count": g.batches, "rpc_count": g.calls, "row_tokens": g.rows,
                    "done_row_count": g.done_rows, "error_count": g.errors, "logins": g.logins, "login_encrypted": self.tls_begun,
                }),
            );
        }
    }

    fn memory_bytes(&self) -> usize {
        let core = &self.core;
        let tables = core.claims.memory_bytes() + core.prepared_bytes + 96 * (core.prepared.len() + core.cursors.len());
        let sessions: usize = self.sessions.iter().map(|(_, session)| session.memory_bytes() + 64).sum();
        size_of::<Self>() + tables + self.session.memory_bytes() + sessions + self.tls.memory_bytes()
    }
}

/// The header of a packet: its type, whether it ends its message, its length.
fn header(bytes: &[u8]) -> Option<(u8, u8, usize)> {
    let &[kind, status, high, low, ..] = bytes else { return None };
    Some((kind, status, usize::from(high) << 8 | usize::from(low)))
}

/// Whether these are the first bytes of a client; `None` if there are too few.
fn begins(head: &[u8]) -> Option<bool> {
    let fits = |at: usize, test: fn(u8) -> bool| head.get(at).copied().is_none_or(test);
    if !fits(0, |b| matches!(b, PRELOGIN | LOGIN)) || !fits(1, |b| b <= 1) || !fits(7, |b| b == 0) {
        return Some(false);
    }
    let (kind, _, length) = header(head)?;
    let body = head.get(HEADER_BYTES..).filter(|body| body.len() >= 8)?;
    if kind == PRELOGIN {
        return Some(tls::starts(body) || offers(body, length));
    }
    let said = u32::from_le_bytes([body[0], body[1], body[2], body[3]]) as usize;
    Some((94..LOGIN_BYTES_MAX * 8).contains(&said) && length >= HEADER_BYTES + 86 && Era::of(body[7]).is_some() && body[7] >= 0x70)
}

/// Whether a list of PRELOGIN's options stands here (2.2.6.5): the version comes first and has six bytes.
fn offers(body: &[u8], length: usize) -> bool {
    let &[0, high, low, 0, 6, ..] = body else { return false };
    let place = usize::from(high) << 8 | usize::from(low);
    (6..256).contains(&place) && length >= HEADER_BYTES + place + 6 && length <= 4096
}

/// Whether these are the first bytes of a server whose client is not heard.
fn answers(head: &[u8]) -> Option<bool> {
    if head.first().is_some_and(|b| *b != ANSWER) {
        return Some(false);
    }
    let (_, status, length) = header(head)?;
    let body = head.get(HEADER_BYTES..).filter(|body| body.len() >= 5)?;
    Some(status == 1 && offers(body, length))
}

/// A PRELOGIN or a login; midway, packets that say enough.
fn recognise(heads: &Heads<'_>) -> Recognition {
    let sides = [(heads.client, heads.server, Side::Client), (heads.server, heads.client, Side::Server)];
    if heads.midstream {
        for (client, server, side) in sides {
            let (c, s) = (search::chain(Side::Client, client), search::chain(Side::Server, server));
            if c != Some(false) && s != Some(false) && (c == Some(true) || s == Some(true)) {
                return Recognition::Yes { client: side };
            }
        }
        return Recognition::No;
    }
    let mut more = false;
    for (client, server, side) in sides {
        let answered = server.is_empty() || server.first().is_some_and(|b| matches!(*b, ANSWER | SSPI | PRELOGIN));
        match begins(client) {
            Some(true) if answered => return Recognition::Yes { client: side },
            None if !client.is_empty() && answered => more = true,
            _ => {}
        }
        if client.is_empty() && !server.is_empty() {
            match answers(server) {
                Some(true) => return Recognition::Yes { client: side },
                None => more = true,
                Some(false) => {}
            }
        }
    }
    if more { Recognition::More } else { Recognition::No }
}

#[cfg(test)]
mod tests;
