//! What a piece of data turned out to be, gathered until it is handed over.

use crate::sql::UNKNOWN;
use crate::windows::{Counts, Movement, ObjectSet, Operation, Recorder, Side};
use std::sync::Arc;

/// What a client does beside moving data, the same on every connection.
pub(super) fn bare(operation: Operation) -> Arc<Movement> {
    Arc::new(Movement::new(operation, Side::Client))
}

/// What moves of objects by this name, all columns of them.
pub(super) fn whole(operation: Operation, from: Side, name: &str) -> Arc<Movement> {
    let objects = ObjectSet { names: vec![name.into()], columns: vec!["*".into()], ..ObjectSet::default() };
    Arc::new(Movement::of(operation, from, Arc::new(objects)))
}

/// What moves of objects that are not known.
pub(super) fn unknown(operation: Operation, from: Side) -> Arc<Movement> {
    whole(operation, from, UNKNOWN)
}

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
