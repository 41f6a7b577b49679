//! What is worth how much in the search for packets after a gap, or at the first sight of a connection that is under way.

use super::calls::{EXECUTE, FETCH, FUNCTION, PIGGYBACK};
use super::{DATA, HEADER_BYTES};
use crate::protocols::search::Found;
pub(super) use crate::protocols::search::SURE;
use crate::windows::Side;

/// Bytes that must be there behind a place.
pub(super) const TAIL: usize = HEADER_BYTES + 6;
/// A packet longer than this is not looked for.
const LENGTH_MAX: usize = 1 << 16;

/// What stands at the front of `bytes`: the header of a packet of data, and a message that may well begin there.
pub(super) fn at(sender: Side, bytes: &[u8]) -> Found {
    let &[a, b, c, d, DATA, flags, 0, 0, data_flags, data_more, ref payload @ ..] = bytes else { return Found::No };
    let length = match [a, b] {
        [0, 0] => usize::from(u16::from_be_bytes([c, d])),
        short if [c, d] == [0, 0] => usize::from(u16::from_be_bytes(short)),
        _ => return Found::No,
    };
    // Begin of a pipeline, end of a request, end of a response, end of file, and what asks for none of them.
    let plain = data_flags & !0x38 == 0 && matches!(data_more, 0 | 0x20 | 0x40) && flags & !0x28 == 0;
    if !plain || !(HEADER_BYTES + 2..=LENGTH_MAX).contains(&length) {
        return Found::No;
    }
    let there = length - HEADER_BYTES - 2;
    let worth = match (sender, payload) {
        (_, _) if there == 0 => 2,
        // Options, no cursor, and a pointer as processors hold it.
        (Side::Client, &[FUNCTION, EXECUTE, _, _, _, _, 0, _, _, _, _, 0xfe, 0xff, 0xff, 0xff, ..]) => SURE,
        (Side::Client, &[FUNCTION, EXECUTE, number, ..]) if there > 100 && number > 0 => 5,
        (Side::Client, &[FUNCTION, FETCH, ..]) if there <= 32 => 4,
        (Side::Client, &[FUNCTION, function, number, ..]) if there >= 3 && function > 0 && number > 0 => 3,
        (Side::Client, &[PIGGYBACK, function, number, ..]) if there >= 6 && function > 0x40 && number > 0 => 4,
        (Side::Server, &[4 | 9, 1..=4, ..]) if there >= 4 => 3,
        (Side::Server, &[6..=8 | 14 | 16 | 21 | 23, ..]) if there >= 4 => 3,
        _ => 1,
    };
    Found::Message { length, worth }
}
