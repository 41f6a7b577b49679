//! MySQL's and MariaDB's client/server protocol, version 10 (MySQL Internals, "Client/Server Protocol"; MariaDB Knowledge
//! Base, "Client/Server Protocol").
//!
//! A packet is a length of three bytes, a number that counts packets of one command, and a body. A command begins at 0,
//! its answer goes on from there. Most clients wait for each answer; those that do not are answered in order. Rows are
//! skipped by length and counted; what an INSERT, UPDATE, DELETE or LOAD DATA changed is the number in the OK packet. The
//! server names schema, table and column of everything that it returns, so those names are better than the text's.
//!
//! Where an answer cannot be paired (a gap), its rows go to the objects `unknown` or are not counted: never to wrong ones.

mod answers;
mod binlog;
mod commands;
mod compressed;
mod packets;
mod search;
mod statements;

use super::claims::{Claims, bare, unknown, whole};
use super::few::Few;
use super::search::Search;
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition, tls};
use crate::sql;
use crate::windows::{Counts, Depth, Facts, Identity, Movement, ObjectSet, Operation, Recorder, Side};
use answers::Answer;
use commands::Request;
use compressed::Pipe;
use packets::{COMPRESS, Greeting, Login, PROTOCOL_41, Read, SSL, ZSTD, greeting, login};
use serde_json::json;
pub(crate) use statements::Known;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock};

/// SQL text that is read; of a longer one, its beginning.
pub const SQL_BYTES_MAX: usize = 16 << 10;
/// Requests that await an answer; with more, answers are not paired until all are answered.
pub const REQUESTS_MAX: usize = 256;
/// Prepared statements, and their bytes; further ones are `unknown`.
pub const PREPARED_MAX: usize = 1024;
pub const PREPARED_BYTES_MAX: usize = 1 << 20;
/// Column definitions of one answer; those of a wider one are `*`.
pub const DEFINITIONS_BYTES_MAX: usize = 32 << 10;
/// Room for them at first: nearly every answer has a few columns.
const DEFINITIONS_BYTES_AT_FIRST: usize = 512;
/// Bytes that are read of a login: names, and the attributes of the connection.
pub const LOGIN_BYTES_MAX: usize = 16 << 10;
/// A statement that names no table may return this much before its objects are `unknown`.
pub const TABLELESS_BYTES_MAX: u64 = 1024;
/// After a gap: how long the server must have been silent before a client that sends ahead is paired again.
const QUIET_NS: i64 = 1_000_000_000;
/// A length, and a number.
const HEADER_BYTES: usize = 4;
/// A packet of this length goes on in the next one.
const FULL_BYTES: u64 = 0xff_ffff;
/// Of an answer that is no row: what it says stands first.
const ANSWER_BYTES_MAX: usize = 512;

/// The line of the registry.
pub const MYSQL: Protocol = Protocol { name: "mysql", recognise, decoder };

/// A decoder for one connection.
#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    Box::new(Mysql::new(options))
}

/// Movements that are the same on every connection.
struct Common {
    connect: Arc<Movement>,
    refused: Arc<Movement>,
    /// Data whose statement was not seen: any operation may stand behind it, so none is told.
    transfer: Arc<Movement>,
    rows: Arc<Movement>,
    copied_in: Arc<Movement>,
    replicated: Arc<Movement>,
    described: Arc<Movement>,
}

static COMMON: LazyLock<Common> = LazyLock::new(|| Common {
    connect: bare(Operation::Connect),
    refused: bare(Operation::Refused),
    transfer: bare(Operation::Transfer),
    rows: unknown(Operation::Select, Side::Server),
    copied_in: unknown(Operation::Copy, Side::Client),
    replicated: Arc::new(Movement::of(
        Operation::Replicate,
        Side::Server,
        Arc::new(ObjectSet { columns: vec!["*".into()], ..ObjectSet::default() }),
    )),
    described: whole(Operation::Select, Side::Server, statements::CATALOGUE),
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Framed,
    Search,
}

struct Half {
    phase: Phase,
    carry: Vec<u8>,
    /// Bytes of the present body still to come, and what they belong to (`None`: held back).
    skip: u64,
    rest: Option<Arc<Movement>>,
    /// The next packet goes on with the body of this one.
    goes_on: bool,
    search: Option<Box<Search>>,
}

impl Half {
    fn new(phase: Phase) -> Self {
        Self { phase, carry: Vec::new(), skip: 0, rest: None, goes_on: false, search: None }
    }
}

/// How far the login has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Response,
    Proof,
    Commands,
}

/// What a packet's bytes belong to.
enum Belongs {
    To(Arc<Movement>),
    /// To what the rows behind it turn out to be.
    Held,
}

#[derive(Default)]
struct Gathered {
    server_version: Option<String>,
    user: Option<String>,
    schema: Option<String>,
    plugin: Option<String>,
    ssl_requested: bool,
    commands: BTreeMap<&'static str, u64>,
    row_packets: u64,
    affected_rows: u64,
    error_count: u64,
    compressed_packets: u64,
}

/// One prepared statement, and what its rows were described as.
#[derive(Clone)]
struct Prepared {
    known: Arc<Known>,
    rows: Option<Arc<Movement>>,
}

struct Mysql {
    options: Options,
    named_protocol: bool,
    stage: Stage,
    capabilities: u64,
    /// Both sides were heard to agree on them.
    agreed: bool,
    halves: [Half; 2],
    /// Both directions are compressed.
    pipes: Option<Box<[Pipe; 2]>>,
    inner: Option<Box<dyn Decoder>>,
    requests: VecDeque<Request>,
    answer: Answer,
    /// Answers cannot be paired.
    doubt: bool,
    /// Windows are marked since a gap; for good if what was lost may have changed what the session means.
    marked: bool,
    for_good: bool,
    /// The client has had several requests on their way at once.
    pipelines: bool,
    answered_ns: i64,
    now_ns: i64,
    prepared: Few<u32, Prepared>,
    named: Few<Box<str>, Arc<Known>>,
    prepared_bytes: usize,
    database: Option<String>,
    mode: sql::mysql::Mode,
    claims: Claims,
    gathered: Option<Box<Gathered>>,
    /// The server has accepted the login; all behind this packet are commands.
    logged_in: bool,
    /// Who it is again: a change of user failed.
    restored: Option<Identity>,
    last_prepared: Option<Arc<Known>>,
    /// Nothing is read any more.
    counted_only: bool,
}

impl Mysql {
    fn new(options: Options) -> Self {
        let (stage, phase) = if options.midstream { (Stage::Commands, Phase::Search) } else { (Stage::Greeting, Phase::Framed) };
        Self {
            options,
            named_protocol: false,
            stage,
            capabilities: if options.midstream { PROTOCOL_41 } else { 0 },
            agreed: false,
            halves: [Half::new(phase), Half::new(phase)],
            pipes: None,
            inner: None,
            requests: VecDeque::new(),
            answer: Answer::default(),
            doubt: options.midstream,
            marked: options.midstream,
            for_good: options.midstream,
            pipelines: false,
            answered_ns: 0,
            now_ns: 0,
            prepared: Few::default(),
            named: Few::default(),
            prepared_bytes: 0,
            database: None,
            mode: sql::mysql::Mode::default(),
            claims: Claims::default(),
            gathered: options.facts.then(Box::default),
            logged_in: false,
            restored: None,
            last_prepared: None,
            counted_only: false,
        }
    }

    // ---- claims -----------------------------------------------------------------------------------------------

    fn claim(&mut self, movement: &Arc<Movement>, sender: Side, bytes: u64, counts: Counts) {
        let bytes = match &mut self.pipes {
            // What crossed the wire is settled when the packet around it ends.
            Some(pipes) if bytes > 0 => {
                pipes[sender as usize].weigh(movement, bytes);
                0
            }
            _ => bytes,
        };
        self.claims.add(movement, sender, bytes, counts);
    }

    // ---- the login --------------------------------------------------------------------------------------------

    fn greeted(&mut self, head: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if head.first() == Some(&0xff) {
            self.refuse();
            return Ok(());
        }
        let Some(Greeting { version, capabilities, plugin }) = greeting(head) else {
            let first = u64::from(head.first().copied().unwrap_or(0));
            return Err(DecodeError::new("server's first packet", first, "a greeting of version 10, or an error"));
        };
        self.capabilities = capabilities;
        self.stage = Stage::Response;
        if let Some(g) = &mut self.gathered {
            g.server_version = Some(version);
        }
        self.authenticated_by(plugin, out);
        Ok(())
    }

    fn authenticated_by(&mut self, plugin: Option<String>, out: &mut Recorder<'_>) {
        let Some(plugin) = plugin else { return };
        if let Some(g) = &mut self.gathered {
            g.plugin = Some(plugin.clone());
        }
        out.protect(|p| p.authentication = Some(plugin.into()));
    }

    /// A login that fails, for whatever reason.
    fn refuse(&mut self) {
        if let Some(g) = &mut self.gathered {
            g.error_count += 1;
        }
        self.claim(&COMMON.refused, Side::Server, 0, Counts::messages(1));
    }

    fn responded(&mut self, head: &[u8], length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let Some((capabilities, login)) = login(head, head.len() as u64 == length) else {
            return Err(DecodeError::new("length of a login", length, "at least 32"));
        };
        // Without the greeting (one direction alone), what the client asks for is what it gets.
        let offered = if self.stage == Stage::Greeting { u64::MAX } else { self.capabilities };
        self.capabilities = capabilities & (offered | PROTOCOL_41 | SSL);
        let Some(login) = login else {
            if let Some(g) = &mut self.gathered {
                g.ssl_requested = true;
                // Its place in the packet is empty.
                g.user.get_or_insert_default();
            }
            self.claim(&COMMON.connect, Side::Client, HEADER_BYTES as u64 + length, Counts::ZERO);
            self.claims.flush(out);
            self.inner = Some(tls::embedded(self.options));
            return Ok(());
        };
        self.agreed = true;
        self.stage = Stage::Proof;
        self.become_user(login, out);
        Ok(())
    }

    fn become_user(&mut self, login: Login, out: &mut Recorder<'_>) {
        let Login { user, database, plugin, program, bare, .. } = login;
        if let Some(g) = &mut self.gathered {
            // A change of user is another one's login.
            if self.stage != Stage::Commands {
                g.user = Some(user.clone());
                g.schema.clone_from(&database);
            }
        }
        self.database = database.filter(|name| !name.is_empty());
        self.authenticated_by(if bare { Some("none".into()) } else { plugin }, out);
        self.claims.flush(out);
        let login = |identity: &mut Identity| {
            identity.account_from = (!user.is_empty()).then_some("startup");
            identity.account = Some(user).filter(|name| !name.is_empty());
            identity.application = program;
            identity.role = None;
        };
        if self.stage == Stage::Commands { out.identify(login) } else { out.login(login) }
    }

    /// What the server says until the login is done; whether it is, and whether it failed.
    fn proof(&mut self, head: &[u8], out: &mut Recorder<'_>) -> Option<bool> {
        match head.first() {
            Some(0) => return Some(true),
            Some(0xff) => return Some(false),
            // Another plugin is asked for, or a further one.
            Some(0xfe) if head.len() == 1 => self.authenticated_by(Some("mysql_old_password".into()), out),
            Some(0xfe | 2) => {
                let plugin = packets::plugin(Read(head.get(1..).unwrap_or(&[])).cstring());
                self.authenticated_by(plugin, out);
            }
            _ => {}
        }
        None
    }

    fn begin_commands(&mut self) {
        self.stage = Stage::Commands;
        // Who has heard the server alone knows what it offers, not what was taken; most take no compression.
        if self.agreed && self.capabilities & (COMPRESS | ZSTD) != 0 {
            self.pipes = Some(Box::default());
        }
    }

    // ---- packets ----------------------------------------------------------------------------------------------

    /// How much of a body is needed, as its first byte says.
    fn wanted(&self, sender: Side, length: u64, first: u8) -> usize {
        let most = match (self.stage, sender) {
            _ if self.halves[sender as usize].goes_on => 0,
            (Stage::Commands, Side::Client) => commands::wanted(first, &self.answer),
            (Stage::Commands, Side::Server) => self.answer.wanted(first, length),
            (_, Side::Client) => LOGIN_BYTES_MAX,
            (_, Side::Server) => ANSWER_BYTES_MAX,
        };
        usize::try_from(length).unwrap_or(usize::MAX).min(most)
    }

    /// The bytes of the packet at the front that are needed, header included; more may be needed once they are there.
    fn need(&self, sender: Side, bytes: &[u8]) -> usize {
        let Some((length, _)) = header(bytes) else { return HEADER_BYTES };
        match bytes.get(HEADER_BYTES) {
            None if length > 0 => HEADER_BYTES + 1,
            first => HEADER_BYTES + self.wanted(sender, length, first.copied().unwrap_or(0)),
        }
    }

    /// Reads what stands first in `bytes`; the number of bytes used.
    fn step(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let half = &mut self.halves[sender as usize];
        if half.skip > 0 {
            let used = bytes.len().min(usize::try_from(half.skip).unwrap_or(usize::MAX));
            half.skip -= used as u64;
            match half.rest.clone() {
                Some(movement) => self.claim(&movement, sender, used as u64, Counts::ZERO),
                None => self.answer.held_bytes += used as u64,
            }
            return Ok(used);
        }
        if half.phase == Phase::Search {
            return Ok(self.search(sender, bytes, out));
        }
        if half.carry.is_empty() {
            if sender == Side::Server {
                let used = self.rows(bytes);
                if used > 0 {
                    return Ok(used);
                }
            }
            let need = self.need(sender, bytes);
            if bytes.len() >= need {
                return self.packet(sender, bytes, need, out);
            }
        }
        let mut carry = std::mem::take(&mut self.halves[sender as usize].carry);
        let had = carry.len();
        loop {
            let need = self.need(sender, &carry);
            if carry.len() >= need {
                let used = carry.len() - had;
                let inside = self.pipes.is_some();
                let taken = self.packet(sender, &carry, need, out)?;
                // A packet that is read otherwise from here on (compressed, TLS) is given back.
                let rest = carry.split_off(taken.min(carry.len()));
                if !rest.is_empty() {
                    self.again(sender, &rest, inside, out)?;
                }
                // Less was needed than is there, since the server has answered meanwhile: the piece itself is still to be read.
                if used == 0 && inside == self.pipes.is_some() && self.inner.is_none() && !bytes.is_empty() {
                    return self.step(sender, bytes, out);
                }
                return Ok(used);
            }
            let at = carry.len() - had;
            let more = bytes.get(at..).unwrap_or(&[]);
            if more.is_empty() {
                self.halves[sender as usize].carry = carry;
                return Ok(bytes.len());
            }
            carry.extend_from_slice(&more[..more.len().min(need - carry.len())]);
        }
    }

    /// Bytes that were carried and turn out to begin something else.
    fn again(&mut self, sender: Side, bytes: &[u8], inside: bool, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // What was inside a compressed packet before is not compressed once more.
            let used = if self.pipes.is_some() && !inside { self.piped(sender, rest, out)? } else { self.step(sender, rest, out)? };
            if used == 0 {
                break;
            }
            rest = rest.get(used..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// One packet, of which `need` bytes are there; the number of bytes used (0: it is to be read again).
    fn packet(&mut self, sender: Side, bytes: &[u8], need: usize, out: &mut Recorder<'_>) -> Result<usize, DecodeError> {
        let Some((length, sequence)) = header(bytes) else { return Ok(bytes.len()) };
        let head = bytes.get(HEADER_BYTES..need).unwrap_or(&[]);
        if let Some(identity) = self.restored.take() {
            self.claims.flush(out);
            out.identify(|now| *now = identity);
        }
        // Who has heard the client alone has not heard that its login was accepted.
        if sender == Side::Client && self.stage == Stage::Proof && sequence == 0 && !self.halves[0].goes_on {
            self.begin_commands();
            if self.pipes.is_some() {
                return Ok(0);
            }
        }
        let half = &mut self.halves[sender as usize];
        let going_on = std::mem::replace(&mut half.goes_on, length == FULL_BYTES);
        let belongs = if going_on {
            half.rest.clone().map_or(Belongs::Held, Belongs::To)
        } else if self.stage == Stage::Commands {
            match sender {
                Side::Client => self.command(sequence, length, head, out),
                Side::Server => self.answered(sequence, length, head, out),
            }
        } else {
            self.entry(sender, length, head, out)?;
            if self.inner.is_some() {
                // All of it was claimed before.
                return Ok(need);
            }
            Belongs::To(Arc::clone(&COMMON.connect))
        };
        let half = &mut self.halves[sender as usize];
        half.skip = length - head.len() as u64;
        match belongs {
            Belongs::To(movement) => {
                half.rest = Some(Arc::clone(&movement));
                self.claim(&movement, sender, need as u64, Counts::ZERO);
            }
            Belongs::Held => {
                half.rest = None;
                self.answer.held_bytes += need as u64;
            }
        }
        if std::mem::take(&mut self.logged_in) {
            self.begin_commands();
        }
        Ok(need)
    }

    /// A packet of the login.
    fn entry(&mut self, sender: Side, length: u64, head: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        match (sender, self.stage) {
            (Side::Server, Stage::Greeting) => self.greeted(head, out),
            (Side::Client, Stage::Greeting | Stage::Response) => self.responded(head, length, out),
            (Side::Server, _) => {
                match self.proof(head, out) {
                    Some(true) => {
                        let status = packets::done(head.get(1..).unwrap_or(&[]), self.capabilities);
                        if let Some(database) = status.and_then(|done| done.database) {
                            self.database = Some(packets::text(database)).filter(|name| !name.is_empty());
                        }
                        self.logged_in = true;
                    }
                    Some(false) => self.refuse(),
                    None => {}
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Mysql {
    /// Looks for a packet that is certain; what is passed over is counted as bytes.
    fn search(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> usize {
        let half = &mut self.halves[sender as usize];
        let mut joined = std::mem::take(&mut half.carry);
        joined.extend_from_slice(bytes);
        let search = half.search.get_or_insert_default();
        let found = search.look(&joined, HEADER_BYTES, &|bytes| search::at(sender, bytes));
        let passed = found.unwrap_or(joined.len().saturating_sub(HEADER_BYTES));
        search.passed(passed);
        let rest = joined.split_off(passed);
        self.claim(&COMMON.transfer, sender, passed as u64, Counts::ZERO);
        let half = &mut self.halves[sender as usize];
        if found.is_none() {
            half.carry = rest;
            return bytes.len();
        }
        half.phase = Phase::Framed;
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            match self.step(sender, rest, out) {
                Ok(used) if used > 0 => rest = rest.get(used..).unwrap_or(&[]),
                _ => break,
            }
        }
        bytes.len()
    }

    /// `length` bytes from `sender` are missing in what is read packet by packet.
    fn lost(&mut self, sender: Side, length: u64) {
        let half = &mut self.halves[sender as usize];
        let in_body = half.phase == Phase::Framed && half.skip >= length && length > 0;
        if in_body {
            half.skip -= length;
            return;
        }
        self.marked = true;
        let asked = self.requests.iter().any(Request::changes_session);
        self.for_good |= sender == Side::Client || asked || self.stage != Stage::Commands;
        let half = &mut self.halves[sender as usize];
        let carried = std::mem::take(&mut half.carry);
        // Of a packet whose header is there the end is known.
        let whole = header(&carried).filter(|_| half.phase == Phase::Framed).map(|(body, _)| body + HEADER_BYTES as u64);
        match whole.and_then(|whole| whole.checked_sub((carried.len() as u64).saturating_add(length))) {
            Some(left) => {
                half.skip = left;
                half.rest = Some(Arc::clone(&COMMON.transfer));
            }
            None => {
                half.skip = 0;
                let passed = carried.len().saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
                half.search.get_or_insert_default().passed(passed);
                half.phase = Phase::Search;
            }
        }
        half.goes_on = false;
        self.claim(&COMMON.transfer, sender, carried.len() as u64, Counts::ZERO);
        if sender == Side::Client {
            // Another default database may have been chosen.
            self.database = None;
            self.last_prepared = None;
        }
        self.stage = match (sender, self.stage) {
            (Side::Server, Stage::Greeting | Stage::Response) => Stage::Response,
            (Side::Server, Stage::Proof) => Stage::Proof,
            _ => Stage::Commands,
        };
        if self.stage == Stage::Response && self.capabilities == 0 {
            self.capabilities = u64::MAX;
        }
        self.lose_pairing();
    }
}

impl Decoder for Mysql {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if !self.named_protocol {
            self.named_protocol = true;
            out.protocol("mysql", Depth::Decoded);
        }
        self.now_ns = out.time_ns;
        let mut rest = bytes;
        while !rest.is_empty() && self.inner.is_none() {
            if self.counted_only {
                self.claims.add(&COMMON.transfer, sender, rest.len() as u64, Counts::ZERO);
                break;
            }
            let piped = self.pipes.is_some();
            let used = if piped { self.piped(sender, rest, out) } else { self.step(sender, rest, out) };
            match used {
                // A packet that is read otherwise is read again, once.
                Ok(0) if piped || self.pipes.is_none() => break,
                Ok(used) => rest = rest.get(used..).unwrap_or(&[]),
                Err(wrong) => {
                    self.claims.flush(out);
                    return Err(wrong);
                }
            }
        }
        self.claims.flush(out);
        match &mut self.inner {
            Some(inner) if !rest.is_empty() => inner.data(sender, rest, out),
            _ => Ok(()),
        }
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if let Some(inner) = &mut self.inner {
            return inner.gap(sender, length, out);
        }
        if self.counted_only {
            return Ok(());
        }
        out.gapped();
        match &mut self.pipes {
            Some(pipes) => {
                let ends = pipes[sender as usize].lose(length);
                self.lost(sender, u64::MAX);
                if ends {
                    self.end_if_whole(sender, out)?;
                }
            }
            None => self.lost(sender, length),
        }
        self.claims.flush(out);
        if !self.marked {
            // The end of the packet is known, and all behind it.
            out.sound();
        }
        Ok(())
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.close(out);
            return;
        }
        self.release(true);
        self.claims.flush(out);
    }

    fn facts(&self, into: &mut Facts) {
        if let Some(g) = &self.gathered {
            into.insert(
                "mysql",
                json!({
                    "server_version": g.server_version, "user": g.user, "schema": g.schema, "authentication": g.plugin,
                    "ssl_requested": g.ssl_requested, "commands": g.commands, "row_packets": g.row_packets,
                    "affected_rows": g.affected_rows, "error_count": g.error_count, "compressed_packets": g.compressed_packets,
                }),
            );
        }
        if let Some(inner) = &self.inner {
            inner.facts(into);
        }
    }

    fn memory_bytes(&self) -> usize {
        let searched = |half: &Half| half.search.as_ref().map_or(0, |search| search.memory_bytes());
        let carried: usize = self.halves.iter().map(|half| half.carry.capacity() + searched(half)).sum();
        let pipes = self.pipes.as_ref().map_or(0, |pipes| pipes.iter().map(Pipe::memory_bytes).sum());
        let tables = self.requests.capacity() * size_of::<Request>() + self.claims.memory_bytes();
        let prepared = self.prepared_bytes + 64 * (self.prepared.len() + self.named.len()) + self.answer.memory_bytes();
        size_of::<Self>() + carried + pipes + tables + prepared + self.inner.as_ref().map_or(0, |inner| inner.memory_bytes())
    }
}

/// Length and number of the packet at the front.
fn header(bytes: &[u8]) -> Option<(u64, u8)> {
    bytes.first_chunk().map(|&[a, b, c, number]| (u64::from(u32::from_le_bytes([a, b, c, 0])), number))
}

/// Whether these are the first bytes of a server: a greeting, or an error in its place; `None` if there are too few.
fn greets(head: &[u8]) -> Option<bool> {
    let Some((length, number)) = header(head) else {
        return if head.get(1).is_some_and(|b| *b > 3) || head.get(2).is_some_and(|b| *b != 0) { Some(false) } else { None };
    };
    if number != 0 || !(8..=1024).contains(&length) {
        return Some(false);
    }
    let body = head.get(HEADER_BYTES..)?;
    match body.first() {
        None => None,
        Some(0xff) => {
            let said = body.get(3..)?;
            let code = packets::error_code(body);
            Some(
                body.len() as u64 <= length
                    && (1000..5000).contains(&code)
                    && said.len() > 8
                    && said.iter().all(|b| matches!(b, 0x20..=0x7e)),
            )
        }
        Some(10) => {
            let version = &body[1..];
            if version.first().is_some_and(|b| !b.is_ascii_digit()) {
                return Some(false);
            }
            let Some(end) = memchr::memchr(0, version) else {
                let printable = version.iter().all(u8::is_ascii_graphic);
                return if printable && head.len() < super::HEAD_BYTES_MAX { None } else { Some(printable && version.len() > 16) };
            };
            let filler = version.get(end + 1 + 4 + 8);
            let fits = version[..end].iter().all(u8::is_ascii_graphic) && end > 2 && version[..end].contains(&b'.');
            if !fits || filler.is_some_and(|b| *b != 0) {
                return Some(false);
            }
            // Told by the filler, unless there is no room for more.
            if filler.is_none() && head.len() < super::HEAD_BYTES_MAX { None } else { Some(true) }
        }
        _ => Some(false),
    }
}

/// Whether these are the first bytes of a client whose server is not heard.
fn logs_in(head: &[u8]) -> Option<bool> {
    let (length, number) = header(head)?;
    if number != 1 || !(32..=LOGIN_BYTES_MAX as u64).contains(&length) {
        return Some(false);
    }
    let body = head.get(HEADER_BYTES..)?;
    let capabilities = Read(body).number(4)?;
    let filler = body.get(9..28)?;
    Some(capabilities & PROTOCOL_41 != 0 && filler.iter().all(|b| *b == 0))
}

/// A greeting of one side; midway, packets that say enough.
fn recognise(heads: &Heads<'_>) -> Recognition {
    let sides = [(heads.client, heads.server, Side::Client), (heads.server, heads.client, Side::Server)];
    if heads.midstream {
        for (client, server, side) in sides {
            let (c, s) = (chain(Side::Client, client), chain(Side::Server, server));
            if c != Some(false) && s != Some(false) && (c == Some(true) || s == Some(true)) {
                return Recognition::Yes { client: side };
            }
        }
        let short = |head: &[u8]| head.len() <= HEADER_BYTES;
        return if short(heads.client) && short(heads.server) { Recognition::More } else { Recognition::No };
    }
    let mut more = heads.client.is_empty() && heads.server.is_empty();
    for (client, server, side) in sides {
        match (greets(server), logs_in(client)) {
            (Some(true), login) if login != Some(false) => return Recognition::Yes { client: side },
            (None, Some(true)) if server.is_empty() => return Recognition::Yes { client: side },
            (None, _) if !server.is_empty() => more = true,
            (None, None) if !client.is_empty() && client.len() >= 4 => more = true,
            _ => {}
        }
    }
    if more { Recognition::More } else { Recognition::No }
}

/// Whether `head` is a chain of packets that says enough.
fn chain(sender: Side, head: &[u8]) -> Option<bool> {
    let (mut rest, mut worth) = (head, 0_u8);
    while rest.len() > HEADER_BYTES {
        match search::at(sender, rest) {
            super::search::Found::No => return Some(false),
            super::search::Found::Message { length, worth: more } => {
                worth = worth.saturating_add(more);
                rest = rest.get(length..).unwrap_or(&[]);
            }
        }
    }
    (worth >= search::SURE).then_some(true)
}

#[cfg(test)]
mod tests;
