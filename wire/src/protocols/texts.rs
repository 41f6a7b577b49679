//! Statements by their text: read once for all connections of a sensor.

use crate::sql::Statement;
use crate::table::{Map, Seeded};
use crate::windows::{Movement, ObjectSet, Operation, Side};
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock, OnceLock};

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

impl<T: Deref<Target = Moves>> Weighed for T {
    fn size_bytes(&self) -> usize {
        self.size_bytes
    }
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
    /// The statements of a text, if it is known.
    pub fn known(&self, key: Fingerprint) -> Option<&Many<T>> {
        self.known.get(&key)
    }

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

/// A statement and what it moves, made once for all who ask it.
pub(crate) struct Moves {
    pub statement: Statement,
    /// What the request's bytes belong to where the answer tells the rest.
    pub request: Arc<Movement>,
    /// What it moves, as far as its text tells.
    pub named: Arc<Movement>,
    /// It is counted when it is answered.
    pub late: bool,
    pub size_bytes: usize,
    /// Its rows as an answer described them first, and the hash of that description.
    described: OnceLock<(u64, Arc<Movement>)>,
}

impl Moves {
    /// Of a statement whose names are as they shall be told.
    pub fn new(statement: Statement) -> Self {
        let objects = Arc::new(statement.objects(None));
        let size_bytes =
            512 + objects.names.iter().chain(&objects.columns).chain(&statement.reads).map(|n| 2 * n.len() + 64).sum::<usize>();
        let (operation, from) = (statement.operation, statement.from);
        let request = Arc::new(Movement::new(operation, from));
        let bare = matches!(operation, Operation::Connect | Operation::Transfer);
        let named = if bare { Arc::clone(&request) } else { Arc::new(Movement::of(operation, from, objects)) };
        let late = matches!(operation, Operation::Select | Operation::Admin);
        Self { statement, request, named, late, size_bytes, described: OnceLock::new() }
    }

    /// Of a statement that moves nothing.
    pub fn nothing() -> Statement {
        let mut empty = Statement::unknown(Operation::Connect, Side::Client);
        empty.readable = true;
        empty
    }

    /// What the request's bytes belong to.
    pub fn asked(&self) -> &Arc<Movement> {
        if self.late { &self.request } else { &self.named }
    }

    /// Its rows under a description of their columns; `objects` reads that.
    pub fn described(&self, columns: &[u8], whole: bool, objects: impl FnOnce() -> ObjectSet) -> Arc<Movement> {
        let hash = fingerprint(columns).0[0] ^ u64::from(whole);
        if let Some((_, known)) = self.described.get().filter(|(known, _)| *known == hash) {
            return Arc::clone(known);
        }
        let made = Arc::new(Movement::of(Operation::Select, Side::Server, Arc::new(objects())));
        let _ = self.described.set((hash, Arc::clone(&made)));
        made
    }

    /// The same as they were described first.
    pub fn described_first(&self) -> Option<Arc<Movement>> {
        self.described.get().map(|(_, known)| Arc::clone(known))
    }
}
