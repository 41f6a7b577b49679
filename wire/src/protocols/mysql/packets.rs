//! Packets of the client/server protocol, read with checks: numbers are little-endian (MySQL, "Client/Server Protocol";
//! MariaDB Knowledge Base, "Client/Server Protocol").

use crate::sql;

/// Capabilities, as both sides write them ("Capabilities Flags").
pub(super) const CLIENT_MYSQL: u64 = 1;
pub(super) const CONNECT_WITH_DB: u64 = 1 << 3;
pub(super) const COMPRESS: u64 = 1 << 5;
pub(super) const PROTOCOL_41: u64 = 1 << 9;
pub(super) const SSL: u64 = 1 << 11;
pub(super) const SECURE_CONNECTION: u64 = 1 << 15;
pub(super) const PLUGIN_AUTH: u64 = 1 << 19;
pub(super) const CONNECT_ATTRIBUTES: u64 = 1 << 20;
pub(super) const AUTH_LENENC: u64 = 1 << 21;
pub(super) const SESSION_TRACK: u64 = 1 << 23;
pub(super) const OPTIONAL_METADATA: u64 = 1 << 25;
pub(super) const ZSTD: u64 = 1 << 26;
pub(super) const QUERY_ATTRIBUTES: u64 = 1 << 27;

/// Status flags of an answer ("Server Status Flags").
pub(super) const MORE_RESULTS: u16 = 0x0008;
pub(super) const CURSOR_EXISTS: u16 = 0x0040;
pub(super) const NO_BACKSLASH: u16 = 0x0200;
pub(super) const STATE_CHANGED: u16 = 0x4000;
pub(super) const ANSI_QUOTES: u16 = 0x8000;

/// Checked reads from the front of a packet.
#[derive(Clone, Copy)]
pub(super) struct Read<'a>(pub &'a [u8]);

impl<'a> Read<'a> {
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    pub fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }
    pub fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|n| n as u16)
    }
    /// A length-encoded integer; NULL and what begins an error are none.
    pub fn lenenc(&mut self) -> Option<u64> {
        match self.u8()? {
            small @ 0..=0xfa => Some(u64::from(small)),
            0xfc => self.number(2),
            0xfd => self.number(3),
            0xfe => self.number(8),
            _ => None,
        }
    }
    pub fn lenenc_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.lenenc()?;
        self.take(usize::try_from(length).ok()?)
    }
    /// Up to a NUL, or to the end where there is none.
    pub fn cstring(&mut self) -> &'a [u8] {
        let end = memchr::memchr(0, self.0);
        let (text, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or(&[]);
        text
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..sql::NAME_BYTES_MAX.min(bytes.len())).unwrap_or(&[])).into_owned()
}

/// The name of an authentication plugin; anything else is none, and nothing of it is told.
pub(super) fn plugin(bytes: &[u8]) -> Option<String> {
    let plain = !bytes.is_empty() && bytes.len() <= 64 && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    plain.then(|| text(bytes).to_ascii_lowercase())
}

/// What the server says first ("Protocol::HandshakeV10").
#[derive(Default)]
pub(super) struct Greeting {
    pub version: String,
    pub capabilities: u64,
    pub plugin: Option<String>,
}

pub(super) fn greeting(body: &[u8]) -> Option<Greeting> {
    let mut read = Read(body);
    if read.u8()? != 10 {
        return None;
    }
    memchr::memchr(0, read.0)?;
    let version = text(read.cstring());
    // Connection id, first part of the challenge, filler.
    read.take(4 + 8 + 1)?;
    let mut capabilities = read.number(2)?;
    let mut plugin = None;
    if read.take(3).is_some() {
        capabilities |= read.number(2).unwrap_or(0) << 16;
        let challenge = usize::from(read.u8().unwrap_or(0));
        read.take(6);
        let extended = read.number(4).unwrap_or(0);
        if capabilities & CLIENT_MYSQL == 0 {
            capabilities |= extended << 32;
        }
        if read.take(challenge.saturating_sub(8).max(13)).is_some() && capabilities & PLUGIN_AUTH != 0 {
            plugin = self::plugin(read.cstring());
        }
    }
    Some(Greeting { version, capabilities, plugin })
}

/// What a client answers ("Protocol::HandshakeResponse41" and "…320"). The proof of its password is passed over.
#[derive(Default)]
pub(super) struct Login {
    pub capabilities: u64,
    pub user: String,
    pub database: Option<String>,
    pub plugin: Option<String>,
    pub program: Option<String>,
    /// It proves nothing: the account has no password.
    pub bare: bool,
}

/// `None` if it ends behind its fixed part: a request to encrypt.
pub(super) fn login(body: &[u8], whole: bool) -> Option<(u64, Option<Login>)> {
    let mut read = Read(body);
    let mut capabilities = read.number(2)?;
    if capabilities & PROTOCOL_41 == 0 {
        let ssl = capabilities & SSL != 0;
        read.take(3)?;
        if ssl && read.0.is_empty() {
            return Some((capabilities, None));
        }
        let user = text(read.cstring());
        let (bare, database) = if capabilities & CONNECT_WITH_DB == 0 {
            (read.0.iter().all(|b| *b == 0), None)
        } else {
            (read.cstring().is_empty(), Some(text(read.cstring())))
        };
        return Some((capabilities, Some(Login { capabilities, user, database, bare, ..Login::default() })));
    }
    capabilities |= read.number(2)? << 16;
    read.take(4 + 1 + 19)?;
    let extended = read.number(4)?;
    if capabilities & CLIENT_MYSQL == 0 {
        capabilities |= extended << 32;
    }
    if capabilities & SSL != 0 && read.0.is_empty() && whole {
        return Some((capabilities, None));
    }
    let mut login = Login { capabilities, user: text(read.cstring()), ..Login::default() };
    let proof = if capabilities & AUTH_LENENC != 0 {
        read.lenenc_bytes()
    } else if capabilities & SECURE_CONNECTION != 0 {
        read.u8().and_then(|length| read.take(usize::from(length)))
    } else {
        Some(read.cstring())
    };
    let Some(proof) = proof else { return Some((capabilities, Some(login))) };
    login.bare = proof.iter().all(|b| *b == 0);
    rest_of_login(&mut read, &mut login);
    Some((capabilities, Some(login)))
}

fn rest_of_login(read: &mut Read<'_>, login: &mut Login) {
    if login.capabilities & CONNECT_WITH_DB != 0 && !read.0.is_empty() {
        login.database = Some(text(read.cstring()));
    }
    if login.capabilities & PLUGIN_AUTH != 0 {
        login.plugin = plugin(read.cstring());
    }
    if login.capabilities & CONNECT_ATTRIBUTES != 0 {
        login.program = program(read);
    }
}

/// `program_name` of the connection attributes.
fn program(read: &mut Read<'_>) -> Option<String> {
    let length = usize::try_from(read.lenenc()?).ok()?;
    let mut pairs = Read(read.0.get(..length.min(read.0.len()))?);
    while let (Some(name), Some(value)) = (pairs.lenenc_bytes(), pairs.lenenc_bytes()) {
        if name == b"program_name" && !value.is_empty() {
            return Some(text(value));
        }
    }
    None
}

/// COM_CHANGE_USER behind its first byte.
pub(super) fn change_user(body: &[u8], capabilities: u64) -> Login {
    let mut read = Read(body);
    let mut login = Login { capabilities, user: text(read.cstring()), ..Login::default() };
    let proof =
        if capabilities & SECURE_CONNECTION != 0 { read.u8().and_then(|n| read.take(usize::from(n))) } else { Some(read.cstring()) };
    let Some(proof) = proof else { return login };
    login.bare = proof.iter().all(|b| *b == 0);
    login.database = Some(text(read.cstring())).filter(|name| !name.is_empty());
    if read.take(2).is_some() {
        login.capabilities &= !CONNECT_WITH_DB;
        rest_of_login(&mut read, &mut login);
    }
    login
}

/// An OK packet, or the EOF that says the same ("OK_Packet", "EOF_Packet").
#[derive(Clone, Copy, Default)]
pub(super) struct Done<'a> {
    pub affected: u64,
    pub status: u16,
    /// `Records: 3  Duplicates: 1 …`, if it says so.
    pub records: Option<u64>,
    /// The database that is the default from now on.
    pub database: Option<&'a [u8]>,
}

/// An OK behind its first byte.
pub(super) fn done(body: &[u8], capabilities: u64) -> Option<Done<'_>> {
    let mut read = Read(body);
    let affected = read.lenenc()?;
    read.lenenc()?;
    let status = read.u16().unwrap_or(0);
    read.u16();
    let mut done = Done { affected, status, ..Done::default() };
    let tracked = capabilities & SESSION_TRACK != 0;
    let info = if tracked { read.lenenc_bytes().unwrap_or(&[]) } else { read.0 };
    // Before 4.1, and in some servers still, the text has its length in front.
    let at = info.iter().take(2).position(|b| *b == b'R').unwrap_or(0);
    done.records = info.get(at..).and_then(|info| info.strip_prefix(b"Records: ")).map(number);
    if tracked && status & STATE_CHANGED != 0 {
        let mut changes = Read(read.lenenc_bytes().unwrap_or(&[]));
        while let (Some(kind), Some(change)) = (changes.u8(), changes.lenenc_bytes()) {
            if kind == 1 {
                done.database = Read(change).lenenc_bytes();
            }
        }
    }
    Some(done)
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().take(18).take_while(|b| b.is_ascii_digit()).fold(0, |sum, digit| 10 * sum + u64::from(digit - b'0'))
}

/// The end of rows or definitions: an EOF of one or five bytes, or an OK with another first byte.
pub(super) fn ended(body: &[u8], length: u64, capabilities: u64) -> Done<'_> {
    let rest = body.get(1..).unwrap_or(&[]);
    if length < 7 {
        let mut read = Read(rest);
        read.u16();
        return Done { status: read.u16().unwrap_or(0), ..Done::default() };
    }
    done(rest, capabilities).unwrap_or_default()
}

/// The number of an error; 0 if there is none.
pub(super) fn error_code(body: &[u8]) -> u16 {
    Read(body.get(1..).unwrap_or(&[])).u16().unwrap_or(0)
}

/// Names in a column definition ("Protocol::ColumnDefinition41"): schema, table, name.
pub(super) struct Column<'a> {
    pub schema: &'a [u8],
    pub table: &'a [u8],
    pub name: &'a [u8],
}

pub(super) fn column(body: &[u8]) -> Option<Column<'_>> {
    let mut read = Read(body);
    read.lenenc_bytes().filter(|catalog| *catalog == b"def")?;
    let schema = read.lenenc_bytes()?;
    read.lenenc_bytes()?;
    let table = read.lenenc_bytes()?;
    read.lenenc_bytes()?;
    let name = read.lenenc_bytes()?;
    Some(Column { schema, table, name })
}

/// The text of a COM_QUERY behind its first byte: in front of it may stand attributes (MySQL, "COM_QUERY").
pub(super) fn query_text(body: &[u8], capabilities: u64) -> Option<&[u8]> {
    if capabilities & QUERY_ATTRIBUTES == 0 {
        return Some(body);
    }
    let mut read = Read(body);
    let count = usize::try_from(read.lenenc()?).ok()?;
    read.lenenc()?;
    if count == 0 {
        return Some(read.0);
    }
    let nulls = read.take(count.checked_add(7)? / 8)?;
    read.u8().filter(|bound| *bound == 1)?;
    let mut types = Vec::new();
    for _ in 0..count.min(read.0.len()) {
        types.push(read.u16()?);
        read.lenenc_bytes()?;
    }
    for (at, kind) in types.iter().enumerate() {
        if nulls.get(at / 8).is_some_and(|byte| byte & 1 << (at % 8) != 0) {
            continue;
        }
        match kind & 0xff {
            0x01 => read.take(1).map(|_| ())?,
            0x02 | 0x0d => read.take(2).map(|_| ())?,
            0x03 | 0x04 | 0x09 => read.take(4).map(|_| ())?,
            0x05 | 0x08 => read.take(8).map(|_| ())?,
            0x06 => {}
            0x07 | 0x0a | 0x0b | 0x0c => {
                let length = read.u8()?;
                read.take(usize::from(length))?;
            }
            _ => read.lenenc_bytes().map(|_| ())?,
        }
    }
    Some(read.0)
}
