//! Pairs of contexts that carry the two directions of the same connections, learnt from handshakes.
//!
//! Some mirrors and routers mark the direction: another VLAN, another GRE key. Then each direction begins a connection of
//! its own, and each is one-sided. What shows that two are one is a whole handshake (RFC 9293, 3.5): a SYN in one context,
//! its SYN/ACK in another of the same kind, and the ACK again in the first; both sides' numbers must fit, 64 bits. Nothing
//! less joins two connections of TCP, so two cells that use the same addresses stay apart.
//!
//! A pair that was learnt so also joins what has no handshake: a datagram whose ends are those of a connection in the
//! partner's context that has not been heard from this side.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// SYN/ACKs whose client was not seen in their context and that wait for its acknowledgement in another; of more, the
/// oldest of a set is forgotten (`pairs_dropped`).
pub const WAITING_MAX: usize = 4096;
/// Pairs of contexts; further ones join their handshakes' connections alone (`pairs_dropped`).
pub const PAIRS_MAX: usize = 4096;
/// Partners of one context (`pairs_dropped`).
pub const PARTNERS_MAX: usize = 8;

/// Entries that share a place.
const WAYS: usize = 4;

/// Both ends, in the order of [`Ord`].
pub type Ends = [(IpAddr, u16); 2];

/// A connection that began with a SYN/ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub context: u32,
    /// Where the connection lies, and its generation there.
    pub index: usize,
    pub generation: u64,
    pub sequence: u32,
    pub acknowledgment: u32,
}

#[derive(Default)]
pub struct Pairs {
    /// Connections that were put together.
    pub joined_total: u64,
    /// Pairs learnt.
    pub learnt_total: u64,
    pub dropped_total: u64,
    seeds: RandomState,
    /// Empty until the first is noted.
    waiting: Vec<Option<(Ends, Answered)>>,
    /// The way that is overwritten next.
    next: usize,
    partners: HashMap<u32, Vec<u32>>,
}

impl Pairs {
    /// Whether any SYN/ACK waits.
    #[inline]
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn set(&mut self, ends: &Ends) -> &mut [Option<(Ends, Answered)>] {
        let first = self.seeds.hash_one(ends) as usize % (WAITING_MAX / WAYS) * WAYS;
        self.waiting.get_mut(first..first + WAYS).unwrap_or_default()
    }

    /// A SYN/ACK was seen in a context where nobody asked for it.
    #[cold]
    pub fn answered(&mut self, ends: &Ends, answer: Answered) {
        if self.waiting.is_empty() {
            self.waiting.resize(WAITING_MAX, None);
        }
        let oldest = self.next;
        let set = self.set(ends);
        // Seen again, or an empty place.
        let known = set.iter().position(|w| w.is_some_and(|(of, w)| of == *ends && w.context == answer.context));
        let place = known.or_else(|| set.iter().position(Option::is_none));
        if let Some(slot) = set.get_mut(place.unwrap_or(oldest)) {
            *slot = Some((*ends, answer));
        }
        if place.is_none() {
            self.next = (oldest + 1) % WAYS;
            self.dropped_total += 1;
        }
    }

    /// The client sent `acknowledgment`, after a SYN of number `initial`, in `context`: the SYN/ACK in another context that both
    /// numbers answer. `fits` says whether the contexts are of one kind.
    #[cold]
    pub fn acknowledged(
        &mut self,
        ends: &Ends,
        context: u32,
        initial: u32,
        acknowledgment: u32,
        fits: impl Fn(u32) -> bool,
    ) -> Option<Answered> {
        let is_it = |w: &Answered| {
            w.context != context
                && w.acknowledgment == initial.wrapping_add(1)
                && w.sequence.wrapping_add(1) == acknowledgment
                && fits(w.context)
        };
        let found = self.set(ends).iter_mut().find(|w| w.is_some_and(|(of, w)| of == *ends && is_it(&w)))?;
        found.take().map(|(_, answer)| answer)
    }

    /// Remembers that these contexts are two directions of one network.
    pub fn learn(&mut self, one: u32, other: u32) {
        if self.partners(one).contains(&other) {
            return;
        }
        let full = |context| self.partners(context).len() >= PARTNERS_MAX;
        if self.learnt_total as usize >= PAIRS_MAX || full(one) || full(other) {
            self.dropped_total += 1;
            return;
        }
        self.learnt_total += 1;
        self.partners.entry(one).or_default().push(other);
        self.partners.entry(other).or_default().push(one);
    }

    /// Contexts that carry the other direction of this one.
    #[must_use]
    pub fn partners(&self, context: u32) -> &[u32] {
        if self.partners.is_empty() {
            return &[];
        }
        self.partners.get(&context).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(number: u32) -> Ends {
        [(IpAddr::from(number.to_be_bytes()), 80), ("10.0.0.9".parse().unwrap(), 49_162)]
    }

    fn answer(context: u32, sequence: u32, acknowledgment: u32) -> Answered {
        Answered { context, index: 7, generation: 1, sequence, acknowledgment }
    }

    #[test]
    fn only_both_numbers_in_another_context_of_the_kind_are_a_handshake() {
        let mut pairs = Pairs::default();
        assert!(!pairs.waits());
        let wraps = answer(2, u32::MAX, 0);
        pairs.answered(&ends(1), wraps);
        assert!(pairs.waits());
        let asked = |pairs: &mut Pairs, of, context, initial, acknowledgment, fits: bool| {
            pairs.acknowledged(&ends(of), context, initial, acknowledgment, |_| fits)
        };
        for (of, context, initial, acknowledgment, fits) in [
            (2, 1, u32::MAX, 0, true),
            (1, 2, u32::MAX, 0, true),
            (1, 1, 5, 0, true),
            (1, 1, u32::MAX, 1, true),
            (1, 1, u32::MAX, 0, false),
        ] {
            assert_eq!(asked(&mut pairs, of, context, initial, acknowledgment, fits), None, "{of} {context} {initial} {acknowledgment}");
        }
        assert_eq!(asked(&mut pairs, 1, 1, u32::MAX, 0, true), Some(wraps));
        assert_eq!(asked(&mut pairs, 1, 1, u32::MAX, 0, true), None, "taken once");
    }

    #[test]
    fn answers_that_nobody_acknowledges_push_out_older_ones_and_are_counted() {
        let mut pairs = Pairs::default();
        for number in 0..20_000 {
            pairs.answered(&ends(number), answer(2, 1, 2));
        }
        assert_eq!(pairs.waiting.len(), WAITING_MAX);
        let kept = pairs.waiting.iter().flatten().count() as u64;
        assert_eq!(pairs.dropped_total + kept, 20_000);
        assert!(kept > 4000, "{kept}");
        pairs.answered(&ends(19_999), answer(2, 3, 4));
        assert_eq!(pairs.dropped_total + kept, 20_000, "the same answer again takes no further place");
    }

    #[test]
    fn pairs_are_learnt_once_and_have_a_bound() {
        let mut pairs = Pairs::default();
        pairs.learn(1, 2);
        pairs.learn(2, 1);
        assert_eq!((pairs.partners(1), pairs.partners(2), pairs.learnt_total), (&[2][..], &[1][..], 1));
        for other in 10..10 + PARTNERS_MAX as u32 {
            pairs.learn(1, other);
        }
        assert_eq!((pairs.partners(1).len(), pairs.dropped_total), (PARTNERS_MAX, 1));
        for one in 0..2 * PAIRS_MAX as u32 {
            pairs.learn(100_000 + 2 * one, 100_001 + 2 * one);
        }
        assert_eq!(pairs.learnt_total as usize, PAIRS_MAX);
    }
}
