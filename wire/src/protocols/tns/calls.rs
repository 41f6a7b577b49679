//! What a client asks: the functions of TTC, alone or behind others that ride along ("piggybacks").
//!
//! A request is one function (3), in front of which piggybacks (17) may stand. Each has a number that grows by one, which is how
//! the next is known. A function whose fields are not known is counted by its number; nothing of it is told.

use super::SQL_BYTES_MAX;
use super::connect::text;
use super::encoding::{Dialect, Encoding, FIELDS_12_1, FIELDS_12_2, FIELDS_12_2_EXT, FIELDS_23_1_EXT_1, Miss, Read, Ttc, Value};
use super::rows::{Column, described_column};
use crate::sql::NAME_BYTES_MAX;

pub(super) const PROTOCOL: u8 = 1;
pub(super) const DATA_TYPES: u8 = 2;
pub(super) const FUNCTION: u8 = 3;
pub(super) const PIGGYBACK: u8 = 17;
pub(super) const ONE_WAY: u8 = 26;
pub(super) const FAST_AUTHENTICATION: u8 = 34;

pub(super) const REEXECUTE: u8 = 0x04;
pub(super) const FETCH: u8 = 0x05;
pub(super) const LOGOFF: u8 = 0x09;
pub(super) const COMMIT: u8 = 0x0e;
pub(super) const ROLLBACK: u8 = 0x0f;
pub(super) const VERSION: u8 = 0x3b;
pub(super) const REEXECUTE_AND_FETCH: u8 = 0x4e;
pub(super) const EXECUTE: u8 = 0x5e;
pub(super) const LOB: u8 = 0x60;
pub(super) const SWITCH_TRANSACTION: u8 = 0x67;
pub(super) const END_TRANSACTION: u8 = 0x68;
pub(super) const CLOSE_CURSORS: u8 = 0x69;
pub(super) const SWITCH_SESSION: u8 = 0x6b;
pub(super) const AUTHENTICATE: u8 = 0x73;
pub(super) const SESSION_KEY: u8 = 0x76;
pub(super) const ENQUEUE: u8 = 0x79;
pub(super) const DEQUEUE: u8 = 0x7a;
pub(super) const DIRECT_PREPARE: u8 = 0x80;
pub(super) const DIRECT_STREAM: u8 = 0x81;
pub(super) const DIRECT_OPERATION: u8 = 0x82;
pub(super) const END_TO_END: u8 = 0x87;
pub(super) const PING: u8 = 0x93;
pub(super) const SCHEMA: u8 = 0x98;
pub(super) const SESSION_STATE: u8 = 0xb0;
pub(super) const PIPELINE_BEGIN: u8 = 0xc7;
pub(super) const PIPELINE_END: u8 = 0xc8;

/// Names of functions, for people.
pub(super) fn name(function: u8) -> String {
    let known = match function {
        REEXECUTE => "re-execute",
        FETCH => "fetch",
        LOGOFF => "logoff",
        COMMIT => "commit",
        ROLLBACK => "rollback",
        VERSION => "version",
        REEXECUTE_AND_FETCH => "re-execute and fetch",
        EXECUTE => "execute",
        LOB => "lob",
        SWITCH_TRANSACTION => "switch transaction",
        END_TRANSACTION => "end transaction",
        CLOSE_CURSORS => "close cursors",
        SWITCH_SESSION => "switch session",
        AUTHENTICATE => "authenticate",
        SESSION_KEY => "session key",
        ENQUEUE => "enqueue",
        DEQUEUE => "dequeue",
        DIRECT_PREPARE => "direct path prepare",
        DIRECT_STREAM => "direct path stream",
        DIRECT_OPERATION => "direct path operation",
        END_TO_END => "end-to-end attributes",
        PING => "ping",
        SCHEMA => "schema",
        SESSION_STATE => "session state",
        PIPELINE_BEGIN => "pipeline begin",
        PIPELINE_END => "pipeline end",
        _ => return format!("function {function}"),
    };
    known.to_owned()
}

/// Bits of the options of an execution.
pub(super) const OPTION_DEFINE: u32 = 0x10;
pub(super) const OPTION_EXECUTE: u32 = 0x20;
pub(super) const OPTION_FETCH: u32 = 0x40;

/// Piggybacks in front of one function that are followed.
pub(super) const PIGGYBACKS_MAX: usize = 32;
/// Columns of a definition that are kept.
pub(super) const COLUMNS_MAX: usize = 4096;

/// A login, as far as it names anybody. Proofs of passwords are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub user: Option<String>,
    pub program: Option<String>,
    /// The account for which another one logs in.
    pub proxied: Option<String>,
    /// `sysdba`, `sysoper`, …
    pub administers: Option<&'static str>,
    /// `o5logon`, `token`; `None` where it is not said yet, or a certificate or a ticket of Kerberos said it below.
    pub by: Option<&'static str>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Execution {
    pub options: u32,
    pub cursor: u64,
    /// The text, cut; whether it is whole.
    pub sql: Option<(Vec<u8>, bool)>,
    /// The types that rows shall have.
    pub defines: Option<Vec<Column>>,
    /// Rows of parameters, or executions.
    pub per_row_counts: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Asks {
    Setup,
    Login(Login),
    Execute(Execution),
    Again {
        cursor: u64,
        fetches: bool,
    },
    Fetch {
        cursor: u64,
    },
    Lob {
        operation: u64,
    },
    /// One that moves nothing of its own.
    Plain,
    /// Not read.
    Other,
}

/// What one request holds.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The last function, and its number.
    pub function: u8,
    pub number: Option<u8>,
    pub asks: Asks,
    /// Functions in front of it.
    pub before: Vec<u8>,
    pub closed: Vec<u64>,
    /// What the client says it does for whom.
    pub claimed: Option<String>,
    pub encoding: Option<Encoding>,
    pub one_way: bool,
}

/// What is known when a request is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub encoding: Option<Encoding>,
    pub fields: Option<u8>,
    pub big_chunks: bool,
    /// No more of it will come: a text that is not whole is read as far as it goes.
    pub ends: bool,
}

/// Whether a request may well begin so: a type, a function, and the next number.
pub(super) fn begins(head: &[u8], last: Option<u8>) -> bool {
    match *head {
        [FUNCTION | PIGGYBACK | ONE_WAY, function, number, ..] => {
            function != 0 && last.is_none_or(|last| (1..=8).contains(&number.wrapping_sub(last)))
        }
        _ => false,
    }
}

/// The compile-time capabilities of a client that offers its data types.
pub(super) fn capabilities(body: &[u8]) -> Option<&[u8]> {
    // Type, two character sets, flags.
    let length = usize::from(*body.get(6)?);
    body.get(7..7 + length)
}

/// What a server says when protocols are agreed: version, banner, characters, its capabilities.
pub(super) fn server_protocol(body: &[u8]) -> Option<(String, &[u8])> {
    let rest = body.get(3..)?;
    let end = memchr::memchr(0, rest)?;
    let banner = text(rest.get(..end)?).unwrap_or_default();
    let rest = rest.get(end + 1..)?;
    let count = usize::from(u16::from_le_bytes([*rest.get(3)?, *rest.get(4)?]));
    let rest = rest.get(5 + 5 * count..)?;
    let skipped = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
    let rest = rest.get(2 + skipped..)?;
    let length = usize::from(*rest.first()?);
    Some((banner, rest.get(1..=length)?))
}

/// Reads a request. `Short`: its end has not come; `Wrong`: it is none.
pub(super) fn read(body: &[u8], known: Known) -> Read<Asked> {
    let mut asked = Asked {
        function: 0,
        number: None,
        asks: Asks::Other,
        before: Vec::new(),
        closed: Vec::new(),
        claimed: None,
        encoding: None,
        one_way: false,
    };
    match body.first() {
        None => return Err(Miss::Short),
        Some(&(PROTOCOL | DATA_TYPES)) => {
            asked.asks = Asks::Setup;
            return Ok(asked);
        }
        Some(&FAST_AUTHENTICATION) => return fast(body, known, asked),
        _ if body.starts_with(&super::connect::NETWORK_MAGIC) => {
            asked.asks = Asks::Setup;
            return Ok(asked);
        }
        _ => {}
    }
    let Some(encoding) = known.encoding else {
        // The first that fits is the one: a pointer of one form is none of another.
        let mut wrong = Miss::Wrong;
        for encoding in Dialect::ENCODINGS {
            match in_order(body, known, encoding, asked.clone()) {
                Ok(found) if !matches!(found.asks, Asks::Other | Asks::Plain) => return Ok(Asked { encoding: Some(encoding), ..found }),
                Ok(found) => asked = found,
                Err(miss) => wrong = if miss == Miss::Short { Miss::Short } else { wrong },
            }
        }
        return if asked.number.is_some() { Ok(asked) } else { Err(wrong) };
    };
    in_order(body, known, encoding, asked)
}

fn dialect(known: Known, encoding: Encoding) -> Dialect {
    Dialect { encoding, fields: known.fields.unwrap_or(0), big_chunks: known.big_chunks }
}

fn in_order(body: &[u8], known: Known, encoding: Encoding, mut asked: Asked) -> Read<Asked> {
    let mut read = Ttc::new(body, dialect(known, encoding));
    for _ in 0..PIGGYBACKS_MAX {
        let (kind, function, number) = (read.u8()?, read.u8()?, read.u8()?);
        if !matches!(kind, FUNCTION | PIGGYBACK | ONE_WAY) {
            return Err(Miss::Wrong);
        }
        if known.fields.is_some_and(|fields| fields >= FIELDS_23_1_EXT_1) {
            read.ub8()?;
        }
        asked.number = Some(number);
        if kind != PIGGYBACK {
            asked.function = function;
            asked.one_way = kind == ONE_WAY;
            asked.asks = function_of(function, &mut read, known)?;
            return Ok(asked);
        }
        asked.before.push(function);
        if piggyback(function, &mut read, &mut asked).is_err() {
            return behind(body, known, encoding, asked);
        }
    }
    Err(Miss::Wrong)
}

/// Behind a piggyback that is not known, an execution is found by its number, and by a text of the length that it says.
fn behind(body: &[u8], known: Known, encoding: Encoding, mut asked: Asked) -> Read<Asked> {
    let next = asked.number.map_or(0, |number| number.wrapping_add(1));
    let mut found = None;
    for place in memchr::memmem::find_iter(body, &[FUNCTION, EXECUTE, next]) {
        let mut read = Ttc::new(body.get(place + 3..).unwrap_or_default(), dialect(known, encoding));
        if known.fields.is_some_and(|fields| fields >= FIELDS_23_1_EXT_1) && read.ub8().is_err() {
            continue;
        }
        if let Ok(execution) = execution(&mut read, known) {
            if execution.sql.is_some() && found.replace(execution).is_some() {
                return Ok(asked);
            }
        }
    }
    if let Some(execution) = found {
        asked.function = EXECUTE;
        asked.number = Some(next);
        asked.asks = Asks::Execute(execution);
    }
    Ok(asked)
}

fn piggyback(function: u8, read: &mut Ttc<'_>, asked: &mut Asked) -> Read<()> {
    match function {
        CLOSE_CURSORS => {
            read.pointer()?;
            for _ in 0..read.ub4()?.min(1 << 16) {
                let cursor = read.ub4()?;
                if asked.closed.len() < super::CURSORS_MAX {
                    asked.closed.push(cursor);
                }
            }
        }
        SWITCH_SESSION => read.skip_ub4s(3)?,
        SESSION_STATE => read.ub8().map(|_| ())?,
        PIPELINE_BEGIN => {
            read.ub2()?;
            read.skip_u8s(2)?;
        }
        SCHEMA => {
            if read.pointer()? {
                read.ub4()?;
                read.skip_value()?;
            } else {
                read.ub4()?;
            }
        }
        END_TO_END => asked.claimed = end_to_end(read)?,
        _ => return Err(Miss::Wrong),
    }
    Ok(())
}

/// What the application says of itself: whom it works for, its module, action, operation. The first is told, the others are
/// passed over.
fn end_to_end(read: &mut Ttc<'_>) -> Read<Option<String>> {
    read.pointers(2)?;
    read.ub4()?;
    let text_follows = |read: &mut Ttc<'_>| -> Read<bool> {
        let pointer = read.pointer()?;
        Ok(read.ub4()? > 0 && pointer)
    };
    let identifier = text_follows(read)?;
    let mut others = [text_follows(read)?, text_follows(read)?, false, false];
    text_follows(read)?;
    read.u8()?;
    read.ub4()?;
    others[2] = text_follows(read)?;
    text_follows(read)?;
    text_follows(read)?;
    others[3] = read.of.fields >= FIELDS_12_1 && text_follows(read)?;
    let claimed = if identifier { text(&read.bytes(NAME_BYTES_MAX)?.0) } else { None };
    for _ in others.into_iter().filter(|follows| *follows) {
        read.skip_value()?;
    }
    Ok(claimed)
}

/// Protocol, data types and the first half of a login in one message, as clients of servers from 23 on send them.
fn fast(body: &[u8], known: Known, asked: Asked) -> Read<Asked> {
    // Version and two flags; then type and versions of the protocol message up to a zero, and the client's name up to another.
    let protocol = body.get(4..).ok_or(Miss::Short)?;
    let name = protocol.get(3..).ok_or(Miss::Short)?;
    let end = memchr::memchr(0, name).ok_or(Miss::Short)?;
    // Characters of the server (5 bytes), the version of the fields of what follows.
    let fields = *name.get(end + 6).ok_or(Miss::Short)?;
    let types = name.get(end + 7..).ok_or(Miss::Short)?;
    if types.first() != Some(&DATA_TYPES) {
        return Err(Miss::Wrong);
    }
    let mut rest = types.get(6..).ok_or(Miss::Short)?;
    for _ in 0..2 {
        let length = usize::from(*rest.first().ok_or(Miss::Short)?);
        rest = rest.get(1 + length..).ok_or(Miss::Short)?;
    }
    loop {
        let kind = rest.get(..2).ok_or(Miss::Short)?;
        let converted = rest.get(2..4);
        if kind == [0, 0] {
            break;
        }
        let length = if converted.ok_or(Miss::Short)? == [0, 0] { 4 } else { 8 };
        rest = rest.get(length..).ok_or(Miss::Short)?;
    }
    let login = rest.get(2..).ok_or(Miss::Short)?;
    let known = Known { fields: Some(fields), ..known };
    in_order(login, known, Encoding::Universal, asked).map(|found| Asked { encoding: Some(Encoding::Universal), ..found })
}

/// The capabilities in a message that holds protocol, data types and a login.
pub(super) fn fast_capabilities(body: &[u8]) -> Option<&[u8]> {
    let name = body.get(7..)?;
    let end = memchr::memchr(0, name)?;
    capabilities(name.get(end + 7..)?)
}

fn function_of(function: u8, read: &mut Ttc<'_>, known: Known) -> Read<Asks> {
    Ok(match function {
        SESSION_KEY | AUTHENTICATE => Asks::Login(login(read)?),
        EXECUTE => Asks::Execute(execution(read, known)?),
        REEXECUTE | REEXECUTE_AND_FETCH => {
            let cursor = read.ub4()?;
            read.skip_ub4s(3)?;
            Asks::Again { cursor, fetches: function == REEXECUTE_AND_FETCH }
        }
        FETCH => {
            let cursor = read.ub4()?;
            read.ub4()?;
            Asks::Fetch { cursor }
        }
        LOB => Asks::Lob { operation: lob(read)? },
        LOGOFF | COMMIT | ROLLBACK | VERSION | SWITCH_TRANSACTION | END_TRANSACTION | PING | SCHEMA | SESSION_STATE | PIPELINE_END
        | CLOSE_CURSORS | END_TO_END | SWITCH_SESSION => Asks::Plain,
        _ => Asks::Other,
    })
}

/// Bits of the mode of a login.
const PRIVILEGES: [(u64, &str); 7] = [
    (0x20, "sysdba"),
    (0x40, "sysoper"),
    (0x40_0000, "sysasm"),
    (0x100_0000, "sysbackup"),
    (0x200_0000, "sysdg"),
    (0x400_0000, "syskm"),
    (0x800_0000, "sysrac"),
];
/// Names and values of a login that are read.
const PAIRS_MAX: u64 = 256;

fn login(read: &mut Ttc<'_>) -> Read<Login> {
    let has_user = read.pointer()?;
    let length = usize::try_from(read.ub4()?).map_err(|_| Miss::Wrong)?;
    let mode = read.ub4()?;
    read.pointer()?;
    let pairs = read.ub4()?;
    read.pointers(2)?;
    if length > 1024 || pairs > PAIRS_MAX {
        return Err(Miss::Wrong);
    }
    let mut login = Login::default();
    if has_user && length > 0 {
        // Older clients leave out the second length.
        let framed = read.rest.first().is_some_and(|first| usize::from(*first) == length);
        let user = if framed { read.bytes(NAME_BYTES_MAX)?.0 } else { read.take(length)?.to_vec() };
        login.user = account(&user);
    }
    login.administers = PRIVILEGES.iter().find(|(bit, _)| mode & bit != 0).map(|(_, name)| *name);
    for _ in 0..pairs {
        let name = read.long_bytes(64)?;
        match name.as_slice() {
            b"AUTH_PROGRAM_NM" => {
                let said = read.long_bytes(NAME_BYTES_MAX)?;
                // Oracle's own library adds which protocol it speaks.
                let end = memchr::memmem::find(&said, b" (TNS ").unwrap_or(said.len());
                login.program = text(said.get(..end).unwrap_or_default());
            }
            b"PROXY_CLIENT_NAME" => login.proxied = account(&read.long_bytes(NAME_BYTES_MAX)?),
            other => {
                let says = read.skip_long()?;
                match other {
                    b"AUTH_SESSKEY" | b"AUTH_PASSWORD" if says => login.by = Some("o5logon"),
                    b"AUTH_TOKEN" if says => login.by = Some("token"),
                    _ => {}
                }
            }
        }
        read.ub4()?;
    }
    Ok(login)
}

/// A name as the server holds it: in upper case unless quoted (SQL Language Reference, "Database Object Naming Rules").
pub(super) fn account(name: &[u8]) -> Option<String> {
    let quoted = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
    match quoted {
        Some(inner) => text(inner),
        None => text(name).map(|name| name.to_uppercase()),
    }
}

/// What a LOB is asked for.
fn lob(read: &mut Ttc<'_>) -> Read<u64> {
    // Source, destination and their lengths, two short offsets, character set, amount, whether there is one.
    for _ in 0..2 {
        read.pointer()?;
        read.ub4()?;
    }
    read.skip_ub4s(2)?;
    read.pointers(3)?;
    read.ub4()
}

pub(super) const LOB_READ: u64 = 2;
pub(super) const LOB_WRITE: u64 = 0x40;

/// Fields that stand between the parts that all versions have and the text, by version: how many there may be.
#[derive(Clone, Copy)]
enum Tail {
    /// Before 12.1.
    Old,
    Counts,
    Signature,
    Chunks,
}

const TAILS: [Tail; 4] = [Tail::Old, Tail::Counts, Tail::Signature, Tail::Chunks];

impl Tail {
    fn of(fields: u8) -> Self {
        match fields {
            FIELDS_12_2_EXT.. => Self::Chunks,
            FIELDS_12_2.. => Self::Signature,
            FIELDS_12_1.. => Self::Counts,
            _ => Self::Old,
        }
    }

    fn pass(self, read: &mut Ttc<'_>) -> Read<bool> {
        let mut per_row_counts = false;
        if !matches!(self, Self::Old) {
            per_row_counts = read.pointer()?;
            read.ub4()?;
            read.pointer()?;
        }
        if matches!(self, Self::Signature | Self::Chunks) {
            read.pointer()?;
            read.ub4()?;
            read.pointer()?;
            read.ub4()?;
            read.pointer()?;
        }
        if matches!(self, Self::Chunks) {
            read.pointer()?;
            read.ub4()?;
        }
        Ok(per_row_counts)
    }
}

/// How many numbers stand behind the text: parse, executions, …, whether it is a query, …
const VECTOR: u64 = 13;

/// An execution (function 94), from behind its number.
fn execution(read: &mut Ttc<'_>, known: Known) -> Read<Execution> {
    let options = u32::try_from(read.ub4()?).map_err(|_| Miss::Wrong)?;
    let cursor = read.ub4()?;
    let has_text = read.pointer()?;
    let length = usize::try_from(read.ub4()?).map_err(|_| Miss::Wrong)?;
    read.pointer()?;
    if read.ub4()? != VECTOR {
        return Err(Miss::Wrong);
    }
    read.pointers(2)?;
    read.skip_ub4s(3)?;
    read.pointer()?;
    let binds = read.ub4()?;
    read.pointers(5)?;
    let has_defines = read.pointer()?;
    let defines = read.ub4()?;
    if binds > 65_535 || defines > COLUMNS_MAX as u64 {
        return Err(Miss::Wrong);
    }
    read.ub4()?;
    read.pointers(3)?;
    read.ub4()?;
    read.pointer()?;
    read.skip_ub4s(2)?;
    let text_length = if has_text { length } else { 0 };
    let known_tail = known.fields.map(Tail::of);
    let (mut found, mut miss) = (None, Miss::Wrong);
    for tail in known_tail.as_slice().iter().chain(TAILS.iter().filter(|_| known_tail.is_none())) {
        let mut here = Ttc::new(read.rest, read.of);
        match behind_tail(&mut here, *tail, text_length, known.ends) {
            Ok(text) => {
                found = Some((text, here));
                break;
            }
            Err(Miss::Short) => miss = Miss::Short,
            Err(Miss::Wrong) => {}
        }
    }
    let Some(((sql, per_row_counts), mut here)) = found else { return Err(miss) };
    let mut execution = Execution { options, cursor, sql, defines: None, per_row_counts };
    if has_defines && options & OPTION_DEFINE != 0 && known.fields.is_some() {
        let columns: Read<Vec<Column>> = (0..defines).map(|_| described_column(&mut here)).collect();
        match columns {
            Ok(columns) => execution.defines = Some(columns),
            Err(Miss::Short) => return Err(Miss::Short),
            Err(Miss::Wrong) => {}
        }
    }
    Ok(execution)
}

type Text = Option<(Vec<u8>, bool)>;

/// The fields of `tail`, the text of just the length that was said, and the numbers behind it.
fn behind_tail(read: &mut Ttc<'_>, tail: Tail, length: usize, ends: bool) -> Read<(Text, bool)> {
    let per_row_counts = tail.pass(read)?;
    let mut text = None;
    if length > 0 {
        let (kept, seen) = statement(read, length, ends)?;
        let whole = kept.len() == length;
        text = Some((kept, whole));
        if seen < length {
            return Ok((text, per_row_counts));
        }
    }
    for _ in 0..VECTOR {
        read.ub4()?;
    }
    Ok((text, per_row_counts))
}

/// The beginning of a text of `length` bytes, and how many of them were seen.
fn statement(read: &mut Ttc<'_>, length: usize, ends: bool) -> Read<(Vec<u8>, usize)> {
    let mut miss = Miss::Wrong;
    for big_chunks in [read.of.big_chunks, !read.of.big_chunks] {
        let mut here = Ttc::new(read.rest, Dialect { big_chunks, ..read.of });
        match here.value()? {
            Value::Bytes(n) if n == length => {
                let text = here.take(n)?.to_vec();
                read.rest = here.rest;
                return Ok((text, n));
            }
            Value::Chunked => {}
            _ => return Err(Miss::Wrong),
        }
        let (mut kept, mut seen) = (Vec::new(), 0);
        let outcome = loop {
            match here.chunk() {
                Ok(0) if seen == length => break Ok(()),
                Ok(n) if n > 0 && seen + n <= length => {
                    let there = n.min(here.rest.len());
                    let piece = here.take(there).unwrap_or_default();
                    seen += there;
                    let room = SQL_BYTES_MAX.saturating_sub(kept.len());
                    kept.extend_from_slice(piece.get(..room.min(there)).unwrap_or_default());
                    if there < n {
                        break Err(Miss::Short);
                    }
                }
                Ok(_) => break Err(Miss::Wrong),
                Err(miss) => break Err(miss),
            }
        };
        match outcome {
            Err(Miss::Wrong) => {}
            Err(Miss::Short) if !ends || kept.is_empty() => miss = Miss::Short,
            _ => {
                read.rest = here.rest;
                return Ok((kept, seen));
            }
        }
    }
    Err(miss)
}
