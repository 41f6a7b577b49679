//! What is worth how much in the search for packets after a gap: headers that follow one another, requests behind their headers,
//! answers that end in a DONE.

use super::rpc::headers;
use super::types::{Column, Era, Place, Read, Shape};
use super::{ANSWER, ATTENTION, BATCH, BULK, COLUMNS_MAX, HEADER_BYTES, RPC, TRANSACTION, header};
use crate::protocols::search::Found;
pub(super) use crate::protocols::search::SURE;
use crate::windows::Side;

/// Bytes that are looked at together: a packet's header, and those of a request.
pub(super) const TAIL: usize = HEADER_BYTES + 22;
/// Bytes of a packet at most (MS-TDS 2.2.6.4).
const PACKET_BYTES_MAX: usize = 32_767;

/// What stands at the front of `bytes`.
pub(super) fn at(sender: Side, bytes: &[u8]) -> Found {
    let Some((kind, status, length)) = header(bytes) else { return Found::No };
    let window = bytes.get(7).copied().unwrap_or(0);
    if !(HEADER_BYTES..=PACKET_BYTES_MAX).contains(&length) || window != 0 || status & 0xe4 != 0 {
        return Found::No;
    }
    let body = bytes.get(HEADER_BYTES..length.min(bytes.len())).unwrap_or(&[]);
    let whole = bytes.len() >= length;
    let worth = match (sender, kind) {
        (Side::Client, BATCH | RPC | TRANSACTION) if asks(kind, bytes, body) => SURE,
        (Side::Client, BULK) if body.first() == Some(&0x81) => 3,
        (Side::Client, ATTENTION) if length == HEADER_BYTES && status == 1 => 3,
        (Side::Client, BATCH | RPC | BULK) if length >= 512 => 1,
        (Side::Server, ANSWER) if describes(body) => SURE,
        (Side::Server, ANSWER) if status == 1 && whole && ends(body) => SURE,
        (Side::Server, ANSWER) if status == 0 && length >= 512 => 2,
        (Side::Server, ANSWER) if status == 1 => 1,
        _ => return Found::No,
    };
    Found::Message { length, worth }
}

/// Whether a message certainly begins here.
pub(super) fn starts(sender: Side, bytes: &[u8]) -> bool {
    let Some((kind, status, length)) = header(bytes) else { return false };
    let body = bytes.get(HEADER_BYTES..length.min(bytes.len())).unwrap_or(&[]);
    match sender {
        Side::Client => matches!(kind, BATCH | RPC | TRANSACTION) && asks(kind, bytes, body),
        Side::Server => {
            let first = bytes.get(6).is_some_and(|number| *number <= 1);
            let token = body.first().is_some_and(|b| matches!(b, 0x79 | 0xa9..=0xae | 0xe3 | 0xe4 | 0xfd..=0xff));
            first && (describes(body) || (token && status & 1 == 1 && bytes.len() >= length && ends(body)))
        }
    }
}

/// The headers of 7.2 and later, or the beginning of a text, or of a name, in UTF-16.
fn asks(kind: u8, bytes: &[u8], body: &[u8]) -> bool {
    if headers(body).is_ok_and(|length| length > 4) {
        return true;
    }
    // Without headers, what goes on a long message looks like one that begins: its packet's number tells.
    if bytes.get(6).is_none_or(|number| *number > 1) {
        return false;
    }
    let ascii = |bytes: &[u8]| {
        bytes.len() >= 12 && bytes.chunks_exact(2).take(6).all(|pair| pair[1] == 0 && matches!(pair[0], 9 | 10 | 13 | 0x20..=0x7e))
    };
    match (kind, body) {
        (BATCH, _) => ascii(body),
        (RPC, [0xff, 0xff, 1..=15, 0, _, 0, ..]) => true,
        (RPC, [1..=128, 0, name @ ..]) => ascii(name),
        _ => false,
    }
}

/// COLMETADATA whose first column can be read.
fn describes(body: &[u8]) -> bool {
    let mut read = Read(body);
    let (Ok(0x81), Ok(count)) = (read.u8(), read.u16()) else { return false };
    if count == 0 || usize::from(count) > COLUMNS_MAX {
        return false;
    }
    [Era::V72, Era::V71].into_iter().any(|era| {
        let shape = Shape { era, place: Place::Result, encrypts: false, keys: false };
        Column::read(&mut Read(read.0), shape).is_ok()
    })
}

/// A DONE at the very end: bits of its status that there are, a count that is no larger than anybody's.
fn ends(body: &[u8]) -> bool {
    let fits = |at: usize, bytes: usize| {
        let Some(done) = body.len().checked_sub(at).and_then(|from| body.get(from..)) else { return false };
        let mut read = Read(done);
        let (Ok(token), Ok(status), Ok(command)) = (read.u8(), read.u16(), read.u16()) else { return false };
        (0xfd..=0xff).contains(&token)
            && status & !0x01f7 == 0
            && status & 1 == 0
            && command < 0x400
            && read.number(bytes).is_ok_and(|count| count < 1 << 40)
    };
    fits(13, 8) || fits(9, 4)
}

/// Whether `head` is a chain of packets that says enough.
pub(super) fn chain(sender: Side, head: &[u8]) -> Option<bool> {
    let (mut rest, mut worth) = (head, 0_u8);
    while rest.len() > HEADER_BYTES {
        match at(sender, rest) {
            Found::No => return Some(false),
            Found::Message { length, worth: more } => {
                worth = worth.saturating_add(more);
                rest = rest.get(length..).unwrap_or(&[]);
            }
        }
    }
    (worth >= SURE).then_some(true)
}
