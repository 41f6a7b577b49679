//! What is worth how much in the search for messages after a gap: a body that is there and adds up is proof.

use super::super::search::{Found, SURE};
use super::{be32, cstring, plausible};
use crate::windows::Side;

/// A header that fits, alone.
const FITS: u8 = 2;

#[derive(PartialEq, Eq)]
enum Body {
    Proof,
    Fits,
    Wrong,
}

/// What stands at the front of `bytes`, at least a header's.
pub(super) fn at(sender: Side, bytes: &[u8]) -> Found {
    let (Some(length), Some((&tag, _)), Some(body)) = (plausible(sender, bytes), bytes.split_first(), bytes.get(5..)) else {
        return Found::No;
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let worth = match body.get(..length).map_or_else(|| so_far(sender, tag, body, length), |body| whole(sender, tag, body)) {
        Body::Proof => SURE,
        Body::Fits => FITS,
        Body::Wrong => return Found::No,
    };
    Found::Message { length: length.saturating_add(5), worth }
}

/// What a body says that is there from end to end (PostgreSQL, 55.7).
fn whole(sender: Side, tag: u8, body: &[u8]) -> Body {
    let proof = |holds: bool| if holds { Body::Proof } else { Body::Wrong };
    match (sender, tag) {
        (Side::Server, b'D') => match columns(body) {
            Some((0, _)) => Body::Fits,
            Some((_, rest)) => proof(rest == Some(0)),
            None => Body::Wrong,
        },
        (Side::Server, b'C') => {
            const VERBS: [&[u8]; 16] = [
                b"SELECT ",
                b"INSERT 0 ",
                b"UPDATE ",
                b"DELETE ",
                b"MERGE ",
                b"COPY ",
                b"FETCH ",
                b"MOVE ",
                b"BEGIN\0",
                b"COMMIT\0",
                b"ROLLBACK\0",
                b"SET\0",
                b"CREATE ",
                b"DROP ",
                b"ALTER ",
                b"TRUNCATE ",
            ];
            let known = VERBS.iter().any(|verb| body.starts_with(verb));
            if known { proof(memchr::memchr(0, body) == Some(body.len() - 1)) } else { text_to_the_end(body) }
        }
        (Side::Server, b'Z') => proof(matches!(body, [b'I' | b'T' | b'E'])),
        (Side::Server, b'T') => proof(described(body)),
        (Side::Server, b'E' | b'N') => proof(fields(body)),
        (Side::Server, b'S') => {
            let (name, rest) = cstring(body);
            proof(!name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') && text_to_the_end(rest) == Body::Fits)
        }
        (Side::Client, b'Q') => proof(body.len() > 1 && text_to_the_end(body) == Body::Fits),
        (Side::Client, b'P') => {
            let (_, rest) = cstring(body);
            let (sql, rest) = cstring(rest);
            let readable = sql.iter().all(|b| !b.is_ascii_control() || b.is_ascii_whitespace());
            let types = rest.get(..2).map(|n| usize::from(n[0]) << 8 | usize::from(n[1]));
            proof(readable && types.is_some_and(|n| rest.len() == 2 + 4 * n))
        }
        (Side::Client, b'E') => proof(named(body, 4)),
        (Side::Client, b'D' | b'C') => proof(body.split_first().is_some_and(|(_, name)| named(name, 0))),
        _ => Body::Fits,
    }
}

/// What the beginning of a body says whose end is still to come.
fn so_far(sender: Side, tag: u8, body: &[u8], length: usize) -> Body {
    let fits = |holds: bool| if holds { Body::Fits } else { Body::Wrong };
    match (sender, tag) {
        (Side::Server, b'D') if body.len() >= 2 => fits(columns_so_far(body, length)),
        (Side::Client, b'Q') => fits(readable(body)),
        (Side::Client, b'P') => fits(readable(cstring(body).1.split(|b| *b == 0).next().unwrap_or(&[]))),
        _ => Body::Fits,
    }
}

fn readable(text: &[u8]) -> bool {
    text.iter().all(|b| !b.is_ascii_control() || b.is_ascii_whitespace())
}

/// A text with its NUL, and nothing behind it.
fn text_to_the_end(body: &[u8]) -> Body {
    let (text, rest) = cstring(body);
    if rest.is_empty() && body.last() == Some(&0) && readable(text) { Body::Fits } else { Body::Wrong }
}

/// A readable name with its NUL, and `after` bytes behind it.
fn named(body: &[u8], after: usize) -> bool {
    let (name, rest) = cstring(body);
    rest.len() == after && body.len() == name.len() + 1 + after && readable(name)
}

/// Columns of a DataRow, and what is left behind the last value (`None` where a value goes beyond the end).
fn columns(body: &[u8]) -> Option<(usize, Option<usize>)> {
    let count = usize::from(*body.first()?) << 8 | usize::from(*body.get(1)?);
    let mut rest = body.get(2..)?;
    for _ in 0..count {
        let Some(length) = be32(rest, 0) else { return Some((count, None)) };
        let value = if length == u32::MAX { 0 } else { length as usize };
        let Some(after) = value.checked_add(4).and_then(|n| rest.get(n..)) else { return Some((count, None)) };
        rest = after;
    }
    Some((count, Some(rest.len())))
}

/// Whether the values that are there leave room for those that are to come.
fn columns_so_far(body: &[u8], length: usize) -> bool {
    let count = usize::from(body[0]) << 8 | usize::from(body[1]);
    let mut at = 2_usize;
    for left in (1..=count).rev() {
        if at.saturating_add(4 * left) > length {
            return false;
        }
        let Some(value) = be32(body, at) else { return true };
        at = at.saturating_add(4).saturating_add(if value == u32::MAX { 0 } else { value as usize });
    }
    at == length && count > 0
}

/// RowDescription: names with 18 bytes behind each.
fn described(body: &[u8]) -> bool {
    let Some(count) = body.get(..2).map(|n| usize::from(n[0]) << 8 | usize::from(n[1])) else { return false };
    let mut rest = &body[2..];
    for _ in 0..count {
        let (name, after) = cstring(rest);
        match after.get(18..) {
            Some(next) if readable(name) => rest = next,
            _ => return false,
        }
    }
    rest.is_empty() && count > 0
}

/// Fields of an error or notice: a letter and a text each, a NUL at the end.
fn fields(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some((&field, after)) = rest.split_first() {
        if field == 0 {
            return after.is_empty() && body.len() > 1;
        }
        let (text, next) = cstring(after);
        if !field.is_ascii_alphabetic() || !readable(text) || next.len() + text.len() == after.len() {
            return false;
        }
        rest = next;
    }
    false
}
