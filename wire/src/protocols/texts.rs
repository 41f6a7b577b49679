//! Statements by their text: read once for all connections of a sensor.

use crate::table::{Map, Seeded};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// Bytes of the statements that all connections of a sensor share, of each protocol; the table is emptied when full
/// (`statements_forgotten`).
pub const SHARED_BYTES_MAX: usize = 32 << 20;

/// Seeds of the hash by which statement texts are told apart: 128 bits, so that no one can choose two that collide.
static SEEDS: LazyLock<[u64; 4]> = LazyLock::new(|| [0, 1, 2, 3].map(|_| Seeded::random().hash_one(0_u8) | 1));

/// A statement's text, or what it is read under, as 128 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub [u64; 2]);

impl Hash for Fingerprint {
    /// It is a hash already.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// Two lanes of sixteen bytes a step, each multiplied 64 by 64 bits and folded onto itself.
pub(crate) fn fingerprint(text: &[u8]) -> Fingerprint {
    let [a, b, c, d] = *SEEDS;
    let fold = |x: u64, y: u64| {
        let product = u128::from(x) * u128::from(y);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let (mut first, mut second) = (a ^ text.len() as u64, b ^ text.len() as u64);
    let mut rest = text;
    while let Some((pair, after)) = rest.split_first_chunk::<16>() {
        let (low, high) = (word(pair), word(&pair[8..]));
        first = fold(low ^ first, high ^ c);
        second = fold(low ^ d, high ^ second);
        rest = after;
    }
    // The last bytes of all, some of them once more; the length tells how many are new.
    let (low, high) = match text.last_chunk::<16>() {
        Some(last) => (word(last), word(&last[8..])),
        None => {
            let mut last = [0; 16];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            (word(&last), word(&last[8..]))
        }
    };
    first = fold(fold(low ^ first, high ^ c) ^ a, d);
    second = fold(fold(low ^ d, high ^ second) ^ b, c);
    Fingerprint([first, second])
}

/// `print` with something that it is read under.
pub(crate) fn under(print: Fingerprint, circumstance: u64) -> Fingerprint {
    let [a, b, ..] = *SEEDS;
    let spread = ((u128::from(circumstance ^ a) * u128::from(b)) << 1) | 1;
    let Fingerprint([first, second]) = print;
    Fingerprint([first ^ spread as u64, second ^ (spread >> 64) as u64])
}

/// What is kept of a statement, and how much that takes.
pub(crate) trait Weighed {
    fn size_bytes(&self) -> usize;
}

/// The statements of one text.
pub(crate) type Many<T> = Arc<[Arc<T>]>;

/// Statements of all connections, by their text and what it was read under.
pub(crate) struct Texts<T> {
    known: Map<Fingerprint, Many<T>>,
    size_bytes: usize,
    /// Statements that the table let go because it was full.
    pub forgotten_total: u64,
}

impl<T> Default for Texts<T> {
    fn default() -> Self {
        Self { known: Map::default(), size_bytes: 0, forgotten_total: 0 }
    }
}

impl<T: Weighed> Texts<T> {
    /// The statements of a text, known or read now by `read`.
    pub fn of(&mut self, key: Fingerprint, read: impl FnOnce() -> Vec<Arc<T>>) -> Many<T> {
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(known);
        }
        let parsed: Many<T> = read().into();
        let size_bytes: usize = 64 + parsed.iter().map(|statement| statement.size_bytes()).sum::<usize>();
        if self.size_bytes + size_bytes > SHARED_BYTES_MAX {
            self.forgotten_total += self.known.len() as u64;
            self.known.clear();
            self.size_bytes = 0;
        }
        self.size_bytes += size_bytes;
        self.known.insert(key, Arc::clone(&parsed));
        parsed
    }
}
