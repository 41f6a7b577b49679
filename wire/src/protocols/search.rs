//! Finding messages again after a gap, or in the middle of a connection.
//!
//! A header that fits is worth little: in 8 KB of random payload about two do. So none is followed alone. Each protocol
//! says how much what stands at a place is worth ([`Found::Message`]); messages that follow one another, each at the end that
//! the one before predicted, add up until they are believed. Meanwhile all of them are remembered by their predicted ends and
//! the search goes on behind each, so that a wrong one costs nothing.

/// Headers remembered; beyond, the one that ends last is forgotten.
pub(super) const CANDIDATES_MAX: usize = 32;
/// What messages in a row must be worth together to be believed.
pub(super) const SURE: u8 = 6;

/// What stands at a place.
pub(super) enum Found {
    No,
    /// A message of so many bytes, header included, and what that is worth.
    Message {
        length: usize,
        worth: u8,
    },
}

#[derive(Clone, Copy)]
struct Candidate {
    /// Where its chain goes on, from the first byte that the next look is given.
    end: usize,
    worth: u8,
}

/// The search in one direction.
#[derive(Default)]
pub(super) struct Search {
    candidates: Vec<Candidate>,
}

enum Walk {
    Believed,
    No,
    Pending(Candidate),
}

impl Search {
    /// The place of the first message that is believed. `at` says what stands at the front of what it is given, always
    /// more than `tail` bytes: as many at the end of `bytes` are looked at the next time only.
    pub(super) fn look(&mut self, bytes: &[u8], tail: usize, at: &dyn Fn(&[u8]) -> Found) -> Option<usize> {
        let mut next = self.next_end();
        for place in 0..bytes.len().saturating_sub(tail) {
            while next == Some(place) {
                let index = self.candidates.iter().position(|c| c.end == place)?;
                let worth = self.candidates.swap_remove(index).worth;
                match walk(bytes, tail, place, worth, at) {
                    Walk::Believed => return self.found(place),
                    Walk::Pending(more) => self.remember(more),
                    Walk::No => {}
                }
                next = self.next_end();
            }
            match walk(bytes, tail, place, 0, at) {
                Walk::Believed => return self.found(place),
                Walk::Pending(more) => {
                    self.remember(more);
                    next = self.next_end();
                }
                Walk::No => {}
            }
        }
        None
    }

    /// `count` bytes were looked through, or lost: they are not given again.
    pub(super) fn passed(&mut self, count: usize) {
        self.candidates.retain_mut(|c| {
            let end = c.end.checked_sub(count);
            c.end = end.unwrap_or(0);
            end.is_some()
        });
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.candidates.capacity() * size_of::<Candidate>()
    }

    fn found(&mut self, place: usize) -> Option<usize> {
        self.candidates.clear();
        Some(place)
    }

    fn next_end(&self) -> Option<usize> {
        self.candidates.iter().map(|c| c.end).min()
    }

    fn remember(&mut self, candidate: Candidate) {
        self.candidates.push(candidate);
        if self.candidates.len() > CANDIDATES_MAX {
            let last = self.candidates.iter().enumerate().max_by_key(|(_, c)| c.end).map_or(0, |(i, _)| i);
            self.candidates.swap_remove(last);
        }
    }
}

/// Follows messages from `place` on; what led here is worth `worth`.
fn walk(bytes: &[u8], tail: usize, mut place: usize, mut worth: u8, at: &dyn Fn(&[u8]) -> Found) -> Walk {
    loop {
        let rest = bytes.get(place..).unwrap_or(&[]);
        if rest.len() <= tail {
            return Walk::Pending(Candidate { end: place, worth });
        }
        let Found::Message { length, worth: more } = at(rest) else { return Walk::No };
        worth = worth.saturating_add(more);
        if worth >= SURE {
            return Walk::Believed;
        }
        place = place.saturating_add(length.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::testing::Random;

    /// Messages of this test: `#`, a length of one byte, a body.
    fn at(bytes: &[u8]) -> Found {
        if bytes[0] == b'#' { Found::Message { length: 2 + usize::from(bytes[1]), worth: 2 } } else { Found::No }
    }

    /// Where the search ends, given pieces, and what it was given until then.
    fn found(pieces: &[&[u8]]) -> Option<usize> {
        let (mut search, mut carry, mut before) = (Search::default(), Vec::new(), 0);
        for piece in pieces {
            carry.extend_from_slice(piece);
            if let Some(place) = search.look(&carry, 1, &at) {
                return Some(before + place);
            }
            let passed = carry.len().saturating_sub(1);
            search.passed(passed);
            carry.drain(..passed);
            before += passed;
        }
        None
    }

    #[test]
    fn three_in_a_row_are_believed_and_two_are_not() {
        assert_eq!(found(&[b"xx#\x03abc#\x00#\x01a"]), Some(2));
        assert_eq!(found(&[b"xx#\x03abc#\x00.#"]), None);
    }

    #[test]
    fn a_header_that_lies_costs_nothing() {
        // `#z` claims 122 bytes, beyond all that follows.
        assert_eq!(found(&[b"#z..#\x01a#\x00#\x02ab"]), Some(4));
    }

    #[test]
    fn a_chain_goes_on_over_pieces_and_ends_in_a_gap() {
        let long = [&b"#\xc8"[..], &[b'.'; 200]].concat();
        assert_eq!(found(&[&long[..100], &long[100..], b"#\x01a", b"#\x00", b"--"]), Some(202 + 3));
        let mut search = Search::default();
        assert_eq!(search.look(&long[..100], 1, &at), None);
        search.passed(99);
        search.passed(1 + 150);
        assert!(search.candidates.is_empty());
    }

    #[test]
    fn any_bytes_in_any_pieces_give_the_same_place() {
        for seed in 1..300 {
            let mut random = Random(seed);
            let bytes: Vec<u8> =
                (0..300).map(|_| if random.below(4) == 0 { b'#' } else { u8::try_from(random.below(20)).unwrap() }).collect();
            let whole = found(&[&bytes]);
            let (mut pieces, mut rest) = (Vec::new(), bytes.as_slice());
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((1 + random.below(9)).min(rest.len()));
                pieces.push(head);
                rest = tail;
            }
            let split = found(&pieces);
            assert!(split >= whole, "seed {seed}: {split:?} before {whole:?}");
        }
    }
}
