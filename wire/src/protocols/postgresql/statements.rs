//! Statements: read once for all connections of a sensor, and what one connection knows of them.
//!
//! A message names what it belongs to by a number ([`Move`]), not by a counted pointer: a transaction of one SELECT is eleven
//! messages, and the numbers are all that most of them change.

use crate::protocols::few::Few;
use crate::protocols::texts::{Weighed, fingerprint};
use crate::soon::soon_first;
use crate::sql::{Effect, Statement, UNKNOWN};
use crate::windows::{Counts, Movement, ObjectSet, Operation, Place, Recorder, Side};
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock, OnceLock};

/// Bytes up to which a statement's text and the description of its rows are kept: what comes again is compared, which is less than hashing
/// it. Longer ones are known by their hash alone.
const KEPT_BYTES_MAX: usize = 1024;
/// Movements that belong to no statement, kept before those that nothing names any more are let go.
const OTHERS: usize = 8;

/// One statement, resolved under one search path.
pub(crate) struct Parsed {
    pub statement: Statement,
    /// What the request's bytes belong to. A query's request has no objects yet: its columns come with the answer.
    request: Movement,
    /// What it moves with the columns that its text names.
    pub named: Movement,
    /// The rows that it returns.
    pub returned: Movement,
    /// Statements are counted with the request, except where the answer decides what it was.
    pub late: bool,
    returns_named: bool,
    /// It changes nothing in its session, and stands for no other.
    pub plain: bool,
    pub tableless: bool,
    pub size_bytes: usize,
    /// All that it was read from; empty if that is longer than [`KEPT_BYTES_MAX`], not this statement alone, or says a secret.
    text: Box<[u8]>,
    /// The description that came first: of most statements it is every connection's.
    described: OnceLock<Arc<Described>>,
}

/// Rows of a statement with the columns of their RowDescription, and the hash of that.
pub(super) struct Described {
    hash: u64,
    /// What is hashed, if it is short enough to be kept.
    body: Box<[u8]>,
    movement: Movement,
    /// Of the columns.
    size_bytes: u32,
}

impl Described {
    #[inline(never)]
    fn is_hashed(&self, body: &[u8]) -> bool {
        self.hash == hash_of(body)
    }
}

fn hash_of(body: &[u8]) -> u64 {
    let [hash, _] = fingerprint(body).0;
    hash
}

/// What is kept of some bytes.
fn kept(bytes: &[u8]) -> Box<[u8]> {
    bytes.get(..bytes.len() * usize::from(bytes.len() <= KEPT_BYTES_MAX)).unwrap_or_default().into()
}

impl Weighed for Parsed {
    fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

impl Parsed {
    pub fn new(statement: Statement, path: Option<&[String]>) -> Self {
        let objects = Arc::new(statement.objects(path));
        let size_bytes =
            512 + objects.names.iter().chain(&objects.columns).chain(&statement.reads).map(|n| 2 * n.len() + 64).sum::<usize>();
        let (operation, from) = (statement.operation, statement.from);
        let bare = Movement::new(operation, from);
        let without = matches!(operation, Operation::Connect | Operation::Transfer);
        let named = if without { bare.clone() } else { Movement::of(operation, from, Arc::clone(&objects)) };
        let late = matches!(operation, Operation::Select | Operation::Admin);
        let returns_named =
            matches!(operation, Operation::Select | Operation::Connect | Operation::Transfer | Operation::Replicate | Operation::Backup);
        let returned = if returns_named { named.clone() } else { Movement::of(Operation::Select, Side::Server, objects) };
        let tableless = statement.tableless() && matches!(operation, Operation::Select | Operation::Call);
        let plain = matches!(statement.effect, Effect::None | Effect::Begin);
        let (text, described) = (Box::default(), OnceLock::new());
        Self { statement, plain, request: bare, named, returned, late, returns_named, tableless, size_bytes, text, described }
    }

    /// The only statement of a text.
    pub fn alone(self, text: &[u8]) -> Self {
        let is_secret = self.statement.operation == Operation::Admin || self.statement.marks.iter().any(|mark| mark.starts_with("secret"));
        let text = if is_secret { Box::default() } else { kept(text) };
        Self { size_bytes: self.size_bytes + text.len(), text, ..self }
    }

    /// A statement that was not seen: prepared before the recording began, or inside a gap.
    fn unknown() -> &'static Self {
        static PARSED: LazyLock<Parsed> = LazyLock::new(|| Parsed::new(Statement::unknown(Operation::Transfer, Side::Client), None));
        &PARSED
    }

    /// One that moves nothing.
    fn empty() -> &'static Self {
        static PARSED: LazyLock<Parsed> = LazyLock::new(|| {
            let mut empty = Statement::unknown(Operation::Connect, Side::Client);
            empty.readable = true;
            Parsed::new(empty, None)
        });
        &PARSED
    }

    fn movement(&self, kind: u32) -> &Movement {
        match kind {
            REQUEST => &self.request,
            NAMED => &self.named,
            _ => &self.returned,
        }
    }
}

/// A statement of this connection, by its number.
pub(super) type Id = u32;

/// The number of a statement that was not seen, and of one that moves nothing; they take no room.
pub(super) const UNSEEN: Id = (1 << 29) - 1;
pub(super) const EMPTY: Id = UNSEEN - 1;

/// Statements with numbers in a row: those of one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub first: Id,
    pub count: u16,
}

impl Run {
    pub fn one(id: Id) -> Self {
        Self { first: id, count: 1 }
    }

    pub fn get(self, at: u16) -> Option<Id> {
        (at < self.count).then(|| self.first + u32::from(at))
    }

    pub fn ids(self) -> impl Iterator<Item = Id> {
        (0..self.count).filter_map(move |at| self.get(at))
    }
}

/// A movement by its number: what of which statement, or one of [`COMMON`], or another. No number is 0, so that none takes no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move(NonZeroU32);

const REQUEST: u32 = 1;
const NAMED: u32 = 2;
const RETURNED: u32 = 3;
const DESCRIBED: u32 = 4;
const OTHER: u32 = 5;
const SHARED: u32 = 6;

impl Move {
    pub const CONNECT: Self = Self::of(SHARED, 0);
    pub const REFUSED: Self = Self::of(SHARED, 1);
    pub const ROWS: Self = Self::of(SHARED, 2);
    pub const COPIED_IN: Self = Self::of(SHARED, 3);
    pub const COPIED_OUT: Self = Self::of(SHARED, 4);
    /// Data whose statement was not seen: any operation may stand behind it, so none is told.
    pub const TRANSFER: Self = Self::of(SHARED, 5);
    pub const INSERTED: Self = Self::of(SHARED, 6);
    pub const UPDATED: Self = Self::of(SHARED, 7);
    pub const DELETED: Self = Self::of(SHARED, 8);
    pub const MERGED: Self = Self::of(SHARED, 9);

    #[inline(always)]
    const fn of(kind: u32, index: u32) -> Self {
        match NonZeroU32::new(index << 3 | kind) {
            Some(number) => Self(number),
            None => unreachable!(),
        }
    }

    #[inline(always)]
    fn kind(self) -> u32 {
        self.0.get() & 7
    }

    #[inline(always)]
    fn index(self) -> usize {
        (self.0.get() >> 3) as usize
    }

    /// The statement that it is of.
    fn statement(self) -> Option<Id> {
        (self.kind() < OTHER).then_some(self.0.get() >> 3)
    }
}

/// Movements that are the same on every connection, in the order of their numbers.
static COMMON: LazyLock<[Movement; 10]> = LazyLock::new(|| {
    let unknown = Arc::new(ObjectSet { names: vec![UNKNOWN.into()], columns: vec!["*".into()], statement: None, ..ObjectSet::default() });
    let of = |operation, from| Movement::of(operation, from, Arc::clone(&unknown));
    [
        Movement::new(Operation::Connect, Side::Client),
        Movement::new(Operation::Refused, Side::Client),
        of(Operation::Select, Side::Server),
        of(Operation::Copy, Side::Client),
        of(Operation::Copy, Side::Server),
        Movement::new(Operation::Transfer, Side::Client),
        of(Operation::Insert, Side::Client),
        of(Operation::Update, Side::Client),
        of(Operation::Delete, Side::Client),
        of(Operation::Update, Side::Client),
    ]
});

/// What was claimed and is not yet handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub movement: Move,
    pub sender: Side,
    pub estimated: bool,
    pub bytes: u64,
    pub counts: Counts,
}

struct Entry {
    parsed: Arc<Parsed>,
    described: Option<Arc<Described>>,
    /// Where requests and rows of it were counted last.
    places: [Place; 2],
    /// What was asked after it the last time.
    next: Option<Id>,
}

impl Entry {
    fn new(parsed: Arc<Parsed>, described: Option<Arc<Described>>) -> Self {
        Self { parsed, described, places: Default::default(), next: None }
    }

    /// A movement of the statement and where it was counted last, if that is kept: of requests in the first place, of rows, which
    /// have one movement at a time, in the second.
    #[inline]
    fn counted(&mut self, kind: u32) -> Option<(&Movement, &mut Place)> {
        let Self { parsed, described, places: [asked, told], .. } = self;
        match (kind, described) {
            (REQUEST, _) => Some((&parsed.request, asked)),
            (NAMED, _) if !parsed.late => Some((&parsed.named, asked)),
            (DESCRIBED, Some(described)) => Some((&described.movement, told)),
            (NAMED, None) if parsed.returns_named => Some((&parsed.named, told)),
            (RETURNED, None) => Some((&parsed.returned, told)),
            _ => None,
        }
    }
}

/// The statements that one connection knows.
#[derive(Default)]
pub(super) struct Entries {
    list: Vec<Entry>,
    #[allow(clippy::box_collection)] // Few connections have any; this is two words less in each.
    others: Option<Box<Vec<Arc<Movement>>>>,
    connect: Place,
    /// What was asked last, of the statements that are read where they are asked.
    last: Option<Id>,
}

impl Entries {
    /// The statement that came next last time, if this is its text once more: read under what it was read under then
    /// ([`Entries::forget_order`]).
    #[inline]
    pub fn expected(&self, text: &[u8]) -> Option<Id> {
        let next = self.list.get(self.last? as usize)?.next?;
        let known = &self.list.get(next as usize)?.parsed.text;
        (**known == *text && !text.is_empty()).then_some(next)
    }

    /// A statement was asked.
    #[inline]
    pub fn asked(&mut self, id: Id) {
        if let Some(last) = self.last.and_then(|last| self.list.get_mut(last as usize)) {
            last.next = Some(id);
        }
        self.last = Some(id);
    }

    /// What was asked means something else from now on, or has other numbers.
    pub fn forget_order(&mut self) {
        self.last = None;
        self.list.iter_mut().for_each(|entry| entry.next = None);
    }

    /// Asks for the memory of the first of them.
    pub fn soon(&self) {
        soon_first(self.list.as_slice());
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    #[inline(always)]
    pub fn parsed(&self, id: Id) -> &Parsed {
        match self.list.get(id as usize) {
            Some(entry) => &entry.parsed,
            None => Self::fixed(id),
        }
    }

    #[cold]
    fn fixed(id: Id) -> &'static Parsed {
        if id == EMPTY { Parsed::empty() } else { Parsed::unknown() }
    }

    pub fn push(&mut self, parsed: impl Iterator<Item = Arc<Parsed>>) -> Run {
        let first = self.list.len();
        self.list.reserve_exact(usize::from(first < 2));
        self.list.extend(parsed.map(|parsed| Entry::new(parsed, None)));
        Run { first: first as Id, count: (self.list.len() - first) as u16 }
    }

    /// The same statements once more, in a row.
    pub fn row_of(&mut self, ids: &[Id]) -> Run {
        let first = self.list.len();
        for &id in ids {
            let (parsed, described) = match self.list.get(id as usize) {
                Some(entry) => (Arc::clone(&entry.parsed), entry.described.clone()),
                None => {
                    let known = self.parsed(id);
                    (Arc::new(Parsed::new(known.statement.clone(), None)), None)
                }
            };
            self.list.push(Entry::new(parsed, described));
        }
        Run { first: first as Id, count: ids.len() as u16 }
    }

    pub fn other(&mut self, movement: Arc<Movement>) -> Move {
        let others = self.others.get_or_insert_default();
        let known = others.iter().rposition(|other| Arc::ptr_eq(other, &movement));
        let index = known.unwrap_or_else(|| {
            others.push(movement);
            others.len() - 1
        });
        Move::of(OTHER, index as u32)
    }

    /// A request's bytes.
    #[inline]
    pub fn request(&self, id: Id) -> Move {
        if self.parsed(id).late { Move::of(REQUEST, id) } else { Move::of(NAMED, id) }
    }

    #[inline]
    pub fn named(&self, id: Id) -> Move {
        Move::of(NAMED, id)
    }

    #[inline]
    pub fn returned(&self, id: Id) -> Move {
        if self.parsed(id).returns_named { Move::of(NAMED, id) } else { Move::of(RETURNED, id) }
    }

    #[inline]
    pub fn rows(&self, id: Id) -> Move {
        match self.list.get(id as usize) {
            Some(Entry { described: Some(_), .. }) => Move::of(DESCRIBED, id),
            _ => self.returned(id),
        }
    }

    /// What the messages of a statement belong to, columns included.
    #[inline]
    pub fn whole(&self, id: Id) -> Move {
        if self.parsed(id).statement.operation == Operation::Select { self.rows(id) } else { Move::of(NAMED, id) }
    }

    pub fn movement(&self, of: Move) -> &Movement {
        match of.kind() {
            SHARED => COMMON.get(of.index()).unwrap_or(&COMMON[0]),
            OTHER => self.others().get(of.index()).map_or(&COMMON[0], |other| other),
            kind => match self.list.get(of.index()) {
                Some(Entry { described: Some(described), .. }) if kind == DESCRIBED => &described.movement,
                _ => self.parsed(of.0.get() >> 3).movement(kind),
            },
        }
    }

    /// Whether this is the RowDescription that the statement is described by.
    #[inline]
    pub fn is_described(&self, id: Id, body: &[u8]) -> bool {
        let described = self.list.get(id as usize).and_then(|e| e.described.as_deref());
        described.is_some_and(|known| if known.body.is_empty() { known.is_hashed(body) } else { *known.body == *body })
    }

    /// Gives a statement the columns that it was described by first, on whatever connection, if this is the same description; their size.
    pub fn describe_as_first(&mut self, id: Id, body: &[u8]) -> Option<u32> {
        let entry = self.list.get_mut(id as usize).filter(|entry| entry.described.is_none())?;
        let first = entry.parsed.described.get().filter(|first| *first.body == *body && !body.is_empty())?;
        entry.described = Some(Arc::clone(first));
        entry.places[1] = Place::default();
        Some(first.size_bytes)
    }

    /// Gives a statement the columns of its rows; false if it has others.
    pub fn describe(&mut self, id: Id, body: &[u8], objects: ObjectSet, size_bytes: u32) -> bool {
        let Some(entry) = self.list.get_mut(id as usize) else { return true };
        if entry.described.is_some() {
            return false;
        }
        let known = entry.parsed.described.get().filter(|known| known.is_hashed(body));
        let same = known.filter(|known| known.movement.objects.as_deref() == Some(&objects));
        let described = same.map_or_else(
            || {
                let returned = &entry.parsed.returned;
                let movement = Movement::of(returned.operation, returned.from, Arc::new(objects));
                Arc::new(Described { hash: hash_of(body), body: kept(body), movement, size_bytes })
            },
            Arc::clone,
        );
        entry.parsed.described.get_or_init(|| Arc::clone(&described));
        entry.described = Some(described);
        entry.places[1] = Place::default();
        true
    }

    /// Hands a claim over.
    pub fn record(&mut self, claim: &Claim, out: &mut Recorder<'_>) {
        let Claim { movement: of, sender, bytes, counts, .. } = *claim;
        if claim.estimated {
            out.estimated(self.movement(of));
        }
        if of == Move::CONNECT {
            out.add_at(&COMMON[0], &mut self.connect, sender, bytes, counts);
            return;
        }
        let entry = self.list.get_mut(of.index()).filter(|_| of.kind() < OTHER);
        if let Some((movement, place)) = entry.and_then(|entry| entry.counted(of.kind())) {
            out.add_at(movement, place, sender, bytes, counts);
        } else {
            out.add(self.movement(of), sender, bytes, counts);
        }
    }

    /// Where requests of a statement were counted last, its rows, and what belongs to the session.
    #[inline]
    pub fn places(&self, id: Id) -> [Place; 3] {
        let [asked, told] = self.list.get(id as usize).map_or_else(Default::default, |entry| entry.places);
        [asked, told, self.connect]
    }

    /// Where a movement of a statement was counted last.
    #[inline]
    pub fn place(&mut self, of: Move) -> Place {
        let entry = self.list.get_mut(of.index()).filter(|_| of.kind() < OTHER);
        entry.and_then(|entry| entry.counted(of.kind())).map_or_else(Place::default, |(_, place)| *place)
    }

    fn others(&self) -> &[Arc<Movement>] {
        self.others.as_ref().map_or(&[], |others| others.as_slice())
    }

    #[inline]
    pub fn untidy(&self) -> bool {
        self.others().len() > OTHERS
    }

    /// Drops the movements beside statements that none of `held` is; those get other numbers. Nothing else may name one.
    pub fn tidy<'a>(&mut self, held: impl Iterator<Item = &'a mut Move>) {
        let mut others = Vec::new();
        for of in held.filter(|of| of.kind() == OTHER) {
            if let Some(other) = self.others().get(of.index()) {
                others.push(Arc::clone(other));
                *of = Move::of(OTHER, others.len() as u32 - 1);
            }
        }
        self.others = (!others.is_empty()).then(|| Box::new(others));
    }

    /// Bytes held, shared ones by halves and thirds.
    pub fn memory_bytes(&self) -> usize {
        let shared = |e: &Entry| e.parsed.size_bytes / Arc::strong_count(&e.parsed).max(1);
        let described = |known: &Arc<Described>| known.body.len() / Arc::strong_count(known).max(1);
        let of_one = |e: &Entry| size_of::<Entry>() + shared(e) + e.described.as_ref().map_or(0, described);
        self.list.iter().map(of_one).sum::<usize>()
            + (self.list.capacity() - self.list.len()) * size_of::<Entry>()
            + 64 * self.others().len()
    }

    /// Marks a statement of this connection.
    pub fn mark(live: &mut [bool], id: Id) {
        if let Some(live) = live.get_mut(id as usize) {
            *live = true;
        }
    }

    /// Drops the statements that are not `live`; each number's new one.
    pub fn keep(&mut self, live: &[bool]) -> Vec<Id> {
        let mut next = 0;
        let numbers = live.iter().map(|live| {
            next += Id::from(*live);
            next.saturating_sub(1)
        });
        let numbers = numbers.collect();
        let mut live = live.iter();
        self.list.retain(|_| *live.next().unwrap_or(&true));
        self.list.shrink_to_fit();
        numbers
    }
}

impl Move {
    /// The statement that it names, to be marked or renumbered.
    pub fn named_statement(self) -> Option<Id> {
        self.statement()
    }

    pub fn renumber(&mut self, numbers: &[Id]) {
        if let Some(new) = self.statement().and_then(|id| numbers.get(id as usize)) {
            *self = Self::of(self.kind(), *new);
        }
    }
}

/// Statements by name. Drivers that prepare nothing use the name without letters for everything.
#[derive(Default)]
pub(super) struct Names {
    unnamed: Option<Id>,
    named: Option<Box<Few<Box<[u8]>, Id>>>,
}

impl Names {
    #[inline(always)]
    pub fn get(&self, name: &[u8]) -> Option<Id> {
        if name.is_empty() { self.unnamed } else { self.named.as_ref()?.get(name).copied() }
    }

    pub fn insert(&mut self, name: &[u8], id: Id) {
        if name.is_empty() {
            self.unnamed = Some(id);
        } else {
            self.named.get_or_insert_default().insert(name.into(), id);
        }
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Id> {
        if name.is_empty() { self.unnamed.take() } else { self.named.as_mut()?.remove(name) }
    }

    pub fn len(&self) -> usize {
        self.named.as_ref().map_or(0, |named| named.len()) + usize::from(self.unnamed.is_some())
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Names and what they stand for.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Id)> {
        let unnamed = self.unnamed.iter().map(|id| (&[][..], *id));
        unnamed.chain(self.named.iter().flat_map(|named| named.iter()).map(|(name, id)| (&**name, *id)))
    }

    pub fn ids_mut(&mut self) -> impl Iterator<Item = &mut Id> {
        self.unnamed.iter_mut().chain(self.named.iter_mut().flat_map(|named| named.values_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql;

    #[test]
    fn a_text_that_says_a_secret_is_not_kept() {
        let kept = |text: &str| {
            let statement = sql::read(text.as_bytes(), true, false).into_iter().next().expect("a statement");
            Parsed::new(statement, None).alone(text.as_bytes()).text
        };
        assert_eq!(&*kept("SELECT lot FROM quality.inspection"), b"SELECT lot FROM quality.inspection");
        for secret in [
            "ALTER ROLE svc_mw PASSWORD 'x'",
            "CREATE USER svc_mw",
            "SELECT * FROM dblink('host=a password=x', 'SELECT 1') AS t(a int)",
            "CREATE SUBSCRIPTION s CONNECTION 'host=a password=x' PUBLICATION p",
        ] {
            assert_eq!(&*kept(secret), b"", "{secret}");
        }
    }
}
