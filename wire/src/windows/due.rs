//! Which window ends when.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The end of one window: when, its connection's turn and its flow, and the epoch that tells it from every window before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    pub at_ns: i64,
    pub turn: u32,
    pub flow: u16,
    pub epoch: u32,
    /// Where it stands, perhaps with another one in its place.
    pub connection: u32,
}

/// Deadlines, the earliest first. Nearly all of them are noted in their order: windows last equally long, and time goes on.
pub(super) struct Due {
    /// When the first of all is due: what every packet asks.
    first_ns: i64,
    /// In order.
    queue: VecDeque<Deadline>,
    /// Those that were noted after a later one.
    late: BinaryHeap<Reverse<Deadline>>,
}

impl Default for Due {
    fn default() -> Self {
        Self { first_ns: i64::MAX, queue: VecDeque::new(), late: BinaryHeap::new() }
    }
}

impl Due {
    pub fn note(&mut self, deadline: Deadline) {
        self.first_ns = self.first_ns.min(deadline.at_ns);
        if self.queue.back().is_none_or(|last| *last <= deadline) {
            self.queue.push_back(deadline);
        } else {
            self.late.push(Reverse(deadline));
        }
    }

    /// Whether the time of any has come.
    #[inline]
    pub fn is_due(&self, now_ns: i64) -> bool {
        self.first_ns <= now_ns
    }

    /// The next window whose time has come.
    pub fn next(&mut self, now_ns: i64) -> Option<Deadline> {
        let next = self.take(now_ns);
        if next.is_none() {
            let late = self.late.peek().map(|Reverse(late)| *late);
            self.first_ns = self.queue.front().copied().into_iter().chain(late).map(|first| first.at_ns).min().unwrap_or(i64::MAX);
        }
        next
    }

    /// One of the next ones, nearly always.
    pub fn ahead(&self, by: usize) -> Option<Deadline> {
        self.queue.get(by).copied()
    }

    #[inline]
    fn take(&mut self, now_ns: i64) -> Option<Deadline> {
        let late = self.late.peek().map(|Reverse(late)| *late);
        let first = self.queue.front().copied();
        let next = match (first, late) {
            (Some(first), Some(late)) => first.min(late),
            (first, late) => first.or(late)?,
        };
        if next.at_ns > now_ns {
            return None;
        }
        if first == Some(next) {
            self.queue.pop_front();
        } else {
            self.late.pop();
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::testing::Random;

    #[test]
    fn deadlines_come_in_order_however_they_were_noted() {
        for seed in 1..40 {
            let mut random = Random(seed);
            let (mut due, mut model) = (Due::default(), BinaryHeap::new());
            let mut now_ns = 0;
            for epoch in 0..400 {
                now_ns += random.below(5) as i64;
                let at_ns = now_ns + 50 - random.below(3) as i64 * random.below(30) as i64;
                let deadline = Deadline { at_ns, turn: random.below(4) as u32, flow: random.below(2) as u16, epoch, connection: 0 };
                due.note(deadline);
                model.push(Reverse(deadline));
                assert_eq!(due.is_due(now_ns), model.peek().is_some_and(|Reverse(first)| first.at_ns <= now_ns), "seed {seed}");
                while model.peek().is_some_and(|Reverse(first)| first.at_ns <= now_ns) {
                    assert_eq!(due.next(now_ns), model.pop().map(|Reverse(first)| first), "seed {seed}");
                }
                assert_eq!(due.next(now_ns), None, "seed {seed}");
            }
            while let Some(Reverse(first)) = model.pop() {
                assert_eq!(due.next(i64::MAX), Some(first), "seed {seed}");
            }
        }
    }
}
