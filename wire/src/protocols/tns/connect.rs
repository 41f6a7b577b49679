//! What is said until a session is accepted: connect data, the listener's answers, and what Advanced Networking agrees on.

use super::super::read::Read;
use crate::sql::NAME_BYTES_MAX;

/// A name and its value in `(NAME=VALUE)`, however deep it stands; values that are lists themselves are passed over.
///
/// The grammar is that of connect descriptors (Oracle Net Services Reference, "Syntax Rules for Configuration Files").
pub(super) struct Pairs<'a> {
    text: &'a [u8],
    at: usize,
    path: Vec<&'a [u8]>,
}

/// Lists inside one another that are followed.
pub(super) const NESTED_MAX: usize = 16;

impl<'a> Pairs<'a> {
    pub fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0, path: Vec::new() }
    }
}

impl<'a> Iterator for Pairs<'a> {
    /// What it stands in, its name, its value.
    type Item = (Option<&'a [u8]>, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.text.get(self.at)? {
                b'(' => {
                    let rest = self.text.get(self.at + 1..)?;
                    let equals = memchr::memchr3(b'=', b'(', b')', rest)?;
                    if rest.get(equals) != Some(&b'=') {
                        self.at += 1 + equals;
                        continue;
                    }
                    let (name, value) = (rest.get(..equals)?.trim_ascii(), rest.get(equals + 1..)?);
                    self.at += equals + 2;
                    let blank = value.iter().take_while(|b| b.is_ascii_whitespace()).count();
                    if value.get(blank) == Some(&b'(') {
                        if self.path.len() == NESTED_MAX {
                            return None;
                        }
                        self.path.push(name);
                        continue;
                    }
                    let end = memchr::memchr2(b'(', b')', value).unwrap_or(value.len());
                    self.at += end + usize::from(value.get(end) == Some(&b')'));
                    return Some((self.path.last().copied(), name, value.get(..end)?.trim_ascii()));
                }
                b')' => {
                    self.path.pop();
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
    }
}

/// What a client says of itself and of where it wants to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub service: Option<String>,
    pub sid: Option<String>,
    pub program: Option<String>,
    /// The operating system's user, not an account of the database.
    pub os_user: Option<String>,
    pub client_host: Option<String>,
    /// Host and port of the first address.
    pub address: Option<(String, u16)>,
}

/// A name as it is told: what is no plain text is left out.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.get(..bytes.len().min(NAME_BYTES_MAX))?;
    let text = String::from_utf8_lossy(bytes);
    let plain = !text.is_empty() && !text.chars().any(char::is_control);
    plain.then(|| text.into_owned())
}

pub(super) fn asked(data: &[u8]) -> Asked {
    let mut asked = Asked::default();
    for (within, name, value) in Pairs::of(data) {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let set = |slot: &mut Option<String>| {
            if slot.is_none() {
                *slot = text(value);
            }
        };
        if within.is_some_and(|list| list.eq_ignore_ascii_case(b"CID")) {
            if is("PROGRAM") {
                set(&mut asked.program);
            } else if is("HOST") {
                set(&mut asked.client_host);
            } else if is("USER") {
                set(&mut asked.os_user);
            }
        } else if is("SERVICE_NAME") {
            set(&mut asked.service);
        } else if is("SID") {
            set(&mut asked.sid);
        }
    }
    asked.address = address(data);
    asked
}

/// Host and port of the first address.
pub(super) fn address(data: &[u8]) -> Option<(String, u16)> {
    let (mut host, mut port) = (None, None);
    for (within, name, value) in Pairs::of(data) {
        if !within.is_some_and(|list| list.eq_ignore_ascii_case(b"ADDRESS")) {
            continue;
        }
        if name.eq_ignore_ascii_case(b"HOST") && host.is_none() {
            host = text(value);
        } else if name.eq_ignore_ascii_case(b"PORT") && port.is_none() {
            port = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        }
    }
    Some((host?, port?))
}

/// The code of a refusal: `ERR` behind the description, 0 if there is none.
pub(super) fn refusal(data: &[u8]) -> u32 {
    let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    Pairs::of(data).filter(|(_, name, _)| name.eq_ignore_ascii_case(b"ERR")).find_map(|(_, _, value)| number(value)).unwrap_or(0)
}

/// A CONNECT packet behind its header.
pub(super) struct Connect<'a> {
    /// Empty if it comes in a packet of its own.
    pub data: &'a [u8],
    /// So much of it comes in a packet of its own.
    pub follows: usize,
}

/// `header`: bytes in front of `body` that offsets count too.
pub(super) fn connect(body: &[u8], header: usize) -> Option<Connect<'_>> {
    let mut read = Read(body);
    // Version, lowest version, options, two sizes, characteristics, line turnaround, byte order.
    read.take(16)?;
    let (length, offset) = (usize::from(read.u16()?), usize::from(read.u16()?));
    let data = offset.checked_sub(header).and_then(|at| body.get(at..)).unwrap_or_default();
    let data = data.get(..length.min(data.len())).unwrap_or_default();
    let follows = if data.is_empty() { length } else { 0 };
    Some(Connect { data, follows })
}

/// An ACCEPT packet behind its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    pub version: u16,
    /// The largest packet.
    pub unit: u32,
    /// Responses say where they end.
    pub ends: bool,
}

/// From this version on, sizes have four bytes.
pub(super) const WIDE_FROM: u16 = 315;
/// From this version on a server may say where its responses end.
const ENDS_FROM: u16 = 319;
const FLAGS_FROM: u16 = 318;
const HAS_ENDS: u32 = 0x0200_0000;

pub(super) fn accept(body: &[u8]) -> Option<Accept> {
    let mut read = Read(body);
    let version = read.u16()?;
    read.take(2)?;
    let mut unit = u32::from(read.u16()?);
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
    let mut ends = false;
    if version >= WIDE_FROM {
        // Another size, byte order, length and offset of data, flags, and what is reserved.
        read.take(18)?;
        unit = number(read.take(4)?)?;
        if version >= FLAGS_FROM && read.take(5).is_some() {
            let flags = read.take(4).and_then(number).unwrap_or(0);
            ends = version >= ENDS_FROM && flags & HAS_ENDS != 0;
        }
    }
    Some(Accept { version, unit, ends })
}

/// What stands in front of each message of Advanced Networking.
pub(super) const NETWORK_MAGIC: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];
const ENCRYPTION: u16 = 2;
const INTEGRITY: u16 = 3;

/// What the server chose of what it was offered: algorithms by number, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub encryption: u8,
    pub integrity: u8,
}

/// A server's answer; `None` if it cannot be read.
///
/// Magic number, length, version, how many services, a flag; a service is its number, how many parts, an error; a part its
/// length, its type and its bytes. The second part of encryption and of integrity is what was chosen.
pub(super) fn chosen(body: &[u8]) -> Option<Chosen> {
    let mut read = Read(body);
    read.take(4).filter(|magic| *magic == NETWORK_MAGIC)?;
    read.take(6)?;
    let services = read.u16()?;
    read.u8()?;
    let mut chosen = Chosen::default();
    for _ in 0..services {
        let (service, parts) = (read.u16()?, read.u16()?);
        read.take(4)?;
        for part in 0..parts {
            let length = usize::from(read.u16()?);
            read.u16()?;
            let bytes = read.take(length)?;
            if part == 1 {
                // Of several, any that is one.
                let number = bytes.iter().copied().find(|algorithm| *algorithm != 0).unwrap_or(0);
                match service {
                    ENCRYPTION => chosen.encryption = number,
                    INTEGRITY => chosen.integrity = number,
                    _ => {}
                }
            }
        }
    }
    Some(chosen)
}

/// The name of an algorithm of encryption, in the numbers that Advanced Networking gives them.
pub(super) fn algorithm(number: u8) -> &'static str {
    match number {
        1 => "rc4-40",
        2 => "des56",
        3 => "des40",
        6 => "rc4-256",
        8 => "rc4-56",
        10 => "rc4-128",
        11 => "3des112",
        12 => "3des168",
        15 => "aes128",
        16 => "aes192",
        17 => "aes256",
        21 => "tls",
        _ => "unknown",
    }
}
