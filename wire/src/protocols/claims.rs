//! What a piece of data turned out to be, gathered until it is handed over.

use crate::windows::{Counts, Movement, Recorder, Side};
use std::sync::Arc;

struct Claim {
    movement: Arc<Movement>,
    sender: Side,
    bytes: u64,
    counts: Counts,
}

/// Bytes and counts by movement, in order.
#[derive(Default)]
pub(super) struct Claims {
    list: Vec<Claim>,
    /// Bounds of the decoder that were reached.
    pub bounds_reached: u32,
}

impl Claims {
    pub fn add(&mut self, movement: &Arc<Movement>, sender: Side, bytes: u64, counts: Counts) {
        if bytes == 0 && counts == Counts::ZERO {
            return;
        }
        match self.list.last_mut() {
            Some(last) if last.sender == sender && Arc::ptr_eq(&last.movement, movement) => {
                last.bytes += bytes;
                last.counts.add(counts);
            }
            _ => self.list.push(Claim { movement: Arc::clone(movement), sender, bytes, counts }),
        }
    }

    /// Hands over what was claimed: before a change of identity, and at the end of each piece of data.
    pub fn flush(&mut self, out: &mut Recorder<'_>) {
        for claim in self.list.drain(..) {
            out.add(&claim.movement, claim.sender, claim.bytes, claim.counts);
        }
        for _ in 0..std::mem::take(&mut self.bounds_reached) {
            out.bound_reached();
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Claim>()
    }
}
