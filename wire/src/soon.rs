//! Memory that will be needed soon.
//!
//! A packet of one of a hundred thousand connections waits for memory four times in a row: its slot in the table, the
//! connection, what its windows and its decoder hold. Asked for ahead, for many packets at once, they come together.

/// What the processor fetches at a time, nearly everywhere.
const LINE_BYTES: usize = 64;
/// Lines asked for of one value; what a packet needs of a longer one is mostly in its beginning.
const LINES_MAX: usize = 12;

/// Asks for the memory of a value, as far as this processor can be asked. Changes nothing but time.
#[inline]
pub fn soon<T: ?Sized>(value: &T) {
    lines(value, LINES_MAX);
}

/// Asks for the first lines of a value, at most so many.
#[inline]
pub fn soon_lines<T: ?Sized>(value: &T, most: usize) {
    lines(value, most.min(LINES_MAX));
}

/// Asks for the beginning of a value.
#[inline]
pub fn soon_first<T: ?Sized>(value: &T) {
    lines(value, 1);
}

#[inline]
#[allow(unsafe_code)] // A prefetch is an intrinsic that takes a raw pointer.
fn lines<T: ?Sized>(value: &T, most: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(value).cast::<i8>();
        for line in 0..size_of_val(value).div_ceil(LINE_BYTES).min(most) {
            // SAFETY: a prefetch is a hint. It reads nothing into the program, writes nothing and faults at no address; this one is
            // within `value` or in the same line as its end. SSE, which has it, is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line * LINE_BYTES)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, most);
}
