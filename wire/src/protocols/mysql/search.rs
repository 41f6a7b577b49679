//! What is worth how much in the search for packets after a gap: packets that are numbered one after the other, and bodies
//! that add up.

use super::packets::{Read, column, done, error_code};
use super::{FULL_BYTES, HEADER_BYTES, header};
use crate::protocols::search::Found;
pub(super) use crate::protocols::search::SURE;
use crate::windows::Side;

/// Words that a statement begins with.
const VERBS: [&[u8]; 30] = [
    b"select",
    b"insert",
    b"update",
    b"delete",
    b"replace",
    b"begin",
    b"start",
    b"commit",
    b"rollback",
    b"set ",
    b"show ",
    b"use ",
    b"with ",
    b"call ",
    b"create ",
    b"alter ",
    b"drop ",
    b"load ",
    b"truncate",
    b"grant ",
    b"revoke ",
    b"lock ",
    b"unlock ",
    b"flush ",
    b"explain",
    b"describe",
    b"desc ",
    b"/*",
    b"prepare",
    b"execute",
];

/// A body that is there from end to end and fits, alone.
const FITS: u8 = 3;
/// The next packet has the next number.
const NUMBERED: u8 = 2;

/// What stands at the front of `bytes`, which hold a header and a byte at least.
pub(super) fn at(sender: Side, bytes: &[u8]) -> Found {
    let Some((length, sequence)) = header(bytes).filter(|(length, _)| (1..FULL_BYTES).contains(length)) else { return Found::No };
    let whole = HEADER_BYTES + length as usize;
    let body = bytes.get(HEADER_BYTES..whole.min(bytes.len())).unwrap_or(&[]);
    let is_whole = bytes.len() >= whole;
    let worth = match sender {
        Side::Client => asks(sequence, length, body),
        Side::Server => answers(length, body, is_whole),
    };
    let Some(mut worth) = worth else { return Found::No };
    if sender == Side::Server {
        if let Some((_, next)) = bytes.get(whole..).and_then(header) {
            if next == sequence.wrapping_add(1) {
                worth += NUMBERED;
            } else if next != 1 {
                return Found::No;
            }
        }
    }
    Found::Message { length: whole, worth }
}

/// A command (MySQL, "Command Phase"); `None` if it is none.
fn asks(sequence: u8, length: u64, body: &[u8]) -> Option<u8> {
    let (&code, rest) = body.split_first()?;
    if sequence != 0 {
        return None;
    }
    let verb = |text: &[u8]| VERBS.iter().any(|verb| text.get(..verb.len()).is_some_and(|word| word.eq_ignore_ascii_case(verb)));
    match code {
        // Attributes may stand in front of the text.
        0x03 if verb(rest.trim_ascii_start()) || (rest.starts_with(&[0, 1]) && verb(rest.get(2..)?.trim_ascii_start())) => Some(SURE),
        0x16 if verb(rest.trim_ascii_start()) => Some(SURE),
        // Number of the statement, cursor flags, one iteration.
        0x17 if length >= 10 && rest.get(5..9) == Some(&[1, 0, 0, 0]) && rest.get(4).is_some_and(|flags| *flags < 16) => Some(SURE),
        0x01 | 0x09 | 0x0a | 0x0d | 0x0e | 0x1f if length == 1 => Some(FITS),
        0x19 | 0x1a if length == 5 => Some(2),
        0x1c if length == 9 => Some(2),
        0x1b if length == 3 => Some(2),
        _ => None,
    }
}

fn answers(length: u64, body: &[u8], is_whole: bool) -> Option<u8> {
    let first = *body.first()?;
    if body.starts_with(b"\x03def") {
        return (!is_whole || column(body).is_some()).then_some(SURE);
    }
    match first {
        0xff => {
            let state = body.get(3..9).is_some_and(|state| state[0] == b'#' && state[1..].iter().all(u8::is_ascii_alphanumeric));
            (state && (1000..5000).contains(&error_code(body))).then_some(SURE)
        }
        0xfe if length == 5 => body.get(3..5).is_none_or(|status| status[1] & 0xf0 == 0).then_some(FITS + 1),
        0 if is_whole && length <= 256 => {
            let fits = done(body.get(1..)?, 0).is_some_and(|done| done.status & 0x1000 == 0);
            Some(if fits { FITS } else { 1 })
        }
        0xfb..=0xfd if !is_whole => Some(1),
        _ if is_whole => values(body).map(|values| if values > 1 { FITS + 1 } else { FITS }),
        _ => Some(1),
    }
}

/// How many values a row of texts has, if they fill it.
fn values(body: &[u8]) -> Option<usize> {
    let (mut read, mut values) = (Read(body), 0);
    while let Some(first) = read.0.first() {
        if *first == 0xfb {
            read.u8();
        } else {
            read.lenenc_bytes()?;
        }
        values += 1;
    }
    Some(values)
}
