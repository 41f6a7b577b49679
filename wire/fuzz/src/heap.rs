//! Counts the bytes that the program holds: bounds are checked against what was really allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub struct Counting;

// Of each thread its own: one runs the inputs, and counts that threads share would cost ten times as much.
thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// Bytes held now, of what this thread asked for and gave back.
pub fn held() -> usize {
    HELD.get()
}

/// The most bytes held at once while `run` ran, above those held before.
pub fn peak_of<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = held();
    PEAK.set(before);
    let result = run();
    (result, PEAK.get().saturating_sub(before))
}

fn grown(bytes: usize) {
    let now = held().wrapping_add(bytes);
    HELD.set(now);
    PEAK.set(PEAK.get().max(now));
}

fn shrunk(bytes: usize) {
    HELD.set(held().wrapping_sub(bytes));
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; the counters are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrunk(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        grown(bytes);
        shrunk(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}
