//! Lines of windows, read by what windows of their kind said before.
//!
//! A flow goes on as it went a second before, and a client's flow as another client's: of the thousand bytes that say a window, all but
//! a few numbers, two times, three identities and the ends are those of another window. A [`Shape`] is what stays, and where between it
//! something changes; a line that has exactly those bytes, and plain values between them, says what the line says that the shape was
//! made of, but for these values.
//!
//! Nothing here judges a line: a shape is made of one that the vocabulary has taken (`hopwatch/events.py`), and whatever is not
//! plainly like it is no window of the shape, and is read there. A number is plain without sign (but that of a correction), leading
//! zero, fraction and exponent (RFC 8259, 6), a text without escapes and within ASCII (RFC 8259, 7), a time in UTC with at most nine
//! digits (RFC 3339, 5.6).

use std::collections::HashMap;
use std::ops::Range;

/// Kinds of windows remembered, some 2 kB each; when half as many were read, those not read since the half before are forgotten.
pub const KINDS_MAX: usize = 32_768;
/// Bytes of their lines, all together; forgotten as kinds are.
pub const LINES_BYTES_MAX: usize = 64 << 20;
/// Parts of windows that kinds share; forgotten as kinds are, which keep what they have.
pub const PARTS_MAX: usize = 65_536;
/// Kinds of windows that are the same from who opened them to what was done; the one that was learnt first gives way.
pub const VARIANTS_MAX: usize = 8;
/// Learning a kind costs so many lines that were read by one that was known; each of those pays for a part.
pub const LEARNING_COST: usize = 4;
/// So many lines read by known kinds are remembered to pay for others.
pub const PAID_MAX: usize = 4096;
/// Where nothing is left to pay with, one in so many lines is learnt, and the others are passed over (`passed_over_total`).
pub const PASSED_OVER_MAX: usize = 32;
/// Object sets in one window.
pub const SETS_MAX: usize = 64;
/// Kinds of object sets remembered of one kind of window; when there are more it begins with those of its last.
pub const SET_KINDS_MAX: usize = 1024;
/// Of one kind of window, servers and object sets that are told apart (`Known::mark`); what else comes is not marked.
pub const MARKS_MAX: usize = 256;

/// Where a number of a window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Window,
    Totals,
    Completeness,
}

/// The numbers of a window that change: part, name, and whether it may be negative.
pub const NUMBERS: [(Part, &str, bool); 14] = [
    (Part::Window, "sequence", false),
    (Part::Window, "rows", true),
    (Part::Window, "values", true),
    (Part::Window, "messages", true),
    (Part::Window, "bytes", false),
    (Part::Window, "bytes_back", false),
    (Part::Window, "packets", false),
    (Part::Window, "agent_sequence", false),
    (Part::Totals, "rows", true),
    (Part::Totals, "values", true),
    (Part::Totals, "messages", true),
    (Part::Totals, "bytes", false),
    (Part::Totals, "bytes_back", false),
    (Part::Completeness, "lost_bytes", false),
];

/// Where the amounts of an object set begin, as sensors write one.
const SET_HEAD: &[u8] = b"\"rows\":";

/// Those of an object set.
pub const SET_NUMBERS: [(&str, bool); 4] = [("rows", true), ("values", true), ("messages", true), ("bytes", false)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    EventId,
    Connection,
    FlowId,
    Source,
    Destination,
    Statement,
    Start,
    End,
    Final,
    Objects,
    /// By its place among the numbers of a window, or of a set.
    Number(u8),
}

/// What stays of a line, or of an object set in it, and what changes between.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The stretches that stay, one after another.
    text: Box<[u8]>,
    /// How much of them comes before each slot.
    slots: Box<[(u16, Slot)]>,
}

impl AsRef<Shape> for Shape {
    fn as_ref(&self) -> &Shape {
        self
    }
}

/// An instant as it is written, and as it is.
#[derive(Clone, Debug, Default)]
pub struct Time {
    pub text: Range<usize>,
    pub time_ns: i64,
}

/// One end of a window: what is written of it, and of one without names its address and port.
#[derive(Clone, Debug, Default)]
pub struct End {
    pub text: Range<usize>,
    pub plain: Option<(Range<usize>, u16)>,
}

/// An object set: which of the kinds that are known, and its amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    pub kind: usize,
    pub numbers: [i64; SET_NUMBERS.len()],
}

/// What changes, of one line; texts are places in it, without their quotes.
#[derive(Clone, Debug, Default)]
pub struct Values {
    pub event_id: Range<usize>,
    pub connection: Range<usize>,
    pub flow_id: Range<usize>,
    pub source: End,
    pub destination: End,
    /// None is `null`.
    pub statement: Option<Range<usize>>,
    pub start: Time,
    pub end: Time,
    pub is_final: bool,
    pub numbers: [i64; NUMBERS.len()],
    pub sets: Vec<Set>,
}

/// Where a field's name is, and something that belongs to it.
pub type Field = (Range<usize>, Range<usize>);

/// A line's shape and those of its sets.
#[derive(Debug)]
pub struct Learned {
    pub shape: Shape,
    pub sets: Vec<Shape>,
    /// Which numbers the line has.
    pub present: [bool; NUMBERS.len()],
    /// Fields that stay, with all that is said of them: name and value.
    pub fields: Vec<Field>,
}

/// Kinds of object sets that are known.
pub trait Kinds {
    /// The shape of one of them, by its number.
    fn shape(&self, kind: usize) -> Option<&Shape>;
    /// The first kind from a number on that may be of the set that begins with these bytes, up to its first amount.
    fn like(&self, head: &[u8], from: usize) -> Option<usize>;
}

impl<T: AsRef<Shape>> Kinds for Vec<T> {
    fn shape(&self, kind: usize) -> Option<&Shape> {
        Some(self.get(kind)?.as_ref())
    }

    fn like(&self, _: &[u8], from: usize) -> Option<usize> {
        (from < self.len()).then_some(from)
    }
}

/// What of a line says of which kind it may be: all from who opened it to what was done, but for numbers, times, identities and ends.
#[must_use]
pub fn kind(line: &[u8]) -> Option<&[u8]> {
    let start = memchr::memmem::find(line, b"\"opened_by\":")?;
    let rest = line.get(start..)?;
    rest.get(..memchr::memmem::find(rest, b"\"statement\":")?)
}

impl Shape {
    /// What the line says between the stretches; None if it is not of this shape.
    #[must_use]
    pub fn read(&self, kinds: &impl Kinds, line: &[u8], values: &mut Values) -> Option<()> {
        *values = Values { sets: std::mem::take(&mut values.sets), ..Values::default() };
        values.sets.clear();
        let (mut text, mut at) = (&*self.text, 0);
        for &(length, slot) in &self.slots {
            let stretch;
            (stretch, text) = text.split_at_checked(length.into())?;
            at = after(line, at, stretch)?;
            at = match slot {
                Slot::EventId | Slot::Connection | Slot::FlowId => {
                    let word = word(line, at)?;
                    let end = word.end + 1;
                    *match slot {
                        Slot::EventId => &mut values.event_id,
                        Slot::Connection => &mut values.connection,
                        _ => &mut values.flow_id,
                    } = word;
                    end
                }
                Slot::Source => end(line, at, &mut values.source)?,
                Slot::Destination => end(line, at, &mut values.destination)?,
                Slot::Statement => {
                    if let Some(end) = after(line, at, b"null") {
                        values.statement = None;
                        end
                    } else {
                        let statement = word(line, at)?;
                        let end = statement.end + 1;
                        values.statement = Some(statement);
                        end
                    }
                }
                Slot::Start => instant(line, at, &mut values.start)?,
                Slot::End => instant(line, at, &mut values.end)?,
                Slot::Final => {
                    values.is_final = after(line, at, b"true").is_some();
                    at + if values.is_final { 4 } else { after(line, at, b"false")? - at }
                }
                Slot::Objects => objects(line, at, kinds, &mut values.sets)?,
                Slot::Number(which) => {
                    let (_, _, signed) = NUMBERS.get(usize::from(which))?;
                    let (number, end) = number(line, at, *signed)?;
                    *values.numbers.get_mut(usize::from(which))? = number;
                    end
                }
            };
        }
        (line.get(at..)? == text).then_some(())
    }

    /// The amounts of the object set that begins here, and where it ends.
    fn read_set(&self, line: &[u8], mut at: usize) -> Option<([i64; SET_NUMBERS.len()], usize)> {
        let (mut text, mut numbers) = (&*self.text, [0; SET_NUMBERS.len()]);
        for &(length, slot) in &self.slots {
            let stretch;
            (stretch, text) = text.split_at_checked(length.into())?;
            at = after(line, at, stretch)?;
            let Slot::Number(which) = slot else { return None };
            let (_, signed) = SET_NUMBERS.get(usize::from(which))?;
            (*numbers.get_mut(usize::from(which))?, at) = number(line, at, *signed)?;
        }
        Some((numbers, after(line, at, text)?))
    }

    /// What stays before the first that changes.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        let length = self.slots.first().map_or(0, |(length, _)| usize::from(*length));
        self.text.get(..length).unwrap_or_default()
    }

    /// What stays, one stretch after another.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

fn after(line: &[u8], at: usize, expected: &[u8]) -> Option<usize> {
    let end = at.checked_add(expected.len())?;
    (line.get(at..end)? == expected).then_some(end)
}

fn word(line: &[u8], at: usize) -> Option<Range<usize>> {
    let start = after(line, at, b"\"")?;
    let rest = line.get(start..)?;
    let text = rest.get(..memchr::memchr(b'"', rest)?)?;
    text.iter().all(|byte| (b' '..=b'~').contains(byte) && *byte != b'\\').then_some(start..start + text.len())
}

fn number(line: &[u8], mut at: usize, signed: bool) -> Option<(i64, usize)> {
    let negative = signed && line.get(at) == Some(&b'-');
    at += usize::from(negative);
    let (first, mut value) = (at, 0i64);
    while let Some(digit @ b'0'..=b'9') = line.get(at) {
        // So many digits are in range whatever they are; a larger number is not worth a rule of its own.
        if at - first == 18 {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
        at += 1;
    }
    let plain = at - first == 1 || line.get(first) != Some(&b'0');
    (at > first && plain && !(negative && value == 0)).then_some((if negative { -value } else { value }, at))
}

fn instant(line: &[u8], at: usize, time: &mut Time) -> Option<usize> {
    let start = after(line, at, b"\"")?;
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1] = line.get(start..start + 19)? else {
        return None;
    };
    let two = |tens: u8, ones: u8| Some(i64::from(digit(tens)?) * 10 + i64::from(digit(ones)?));
    let (year, month, day) = (two(y0, y1)? * 100 + two(y2, y3)?, two(m0, m1)?, two(d0, d1)?);
    let (hour, minute, second) = (two(h0, h1)?, two(n0, n1)?, two(s0, s1)?);
    // Leap seconds, days that no month has, and centuries beyond 64 bits of nanoseconds are read where every time is.
    if !(1970..=2261).contains(&year) || !(1..=12).contains(&month) || !(1..=28).contains(&day) && !late(year, month, day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (mut end, mut fraction_ns) = (start + 19, 0);
    if line.get(end) == Some(&b'.') {
        let mut unit_ns = 1_000_000_000;
        end += 1;
        while let Some(&byte @ b'0'..=b'9') = line.get(end) {
            if unit_ns == 1 {
                return None;
            }
            unit_ns /= 10;
            fraction_ns += i64::from(byte - b'0') * unit_ns;
            end += 1;
        }
        if unit_ns == 1_000_000_000 {
            return None;
        }
    }
    let after_quote = after(line, end, b"Z\"")?;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    *time = Time { text: start..end + 1, time_ns: seconds * 1_000_000_000 + fraction_ns };
    Some(after_quote)
}

/// Where an end of the window stands that begins here.
fn end(line: &[u8], at: usize, end: &mut End) -> Option<usize> {
    if let Some((plain, after)) = plain_end(line, at) {
        *end = End { text: at..after, plain: Some(plain) };
        return Some(after);
    }
    after(line, at, b"{")?;
    let after = value_end(line, at)?;
    *end = End { text: at..after, plain: None };
    Some(after)
}

/// Address and port of an end without names, as sensors write one, and where it ends.
fn plain_end(line: &[u8], at: usize) -> Option<((Range<usize>, u16), usize)> {
    let address = word(line, after(line, at, b"{\"address\":")?)?;
    let (port, at) = number(line, after(line, address.end, b"\",\"port\":")?, false)?;
    let at = after(line, at, b",\"names\":[]}")?;
    Some(((address, u16::try_from(port).ok()?), at))
}

fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then(|| byte - b'0')
}

/// Whether a month has the day, which is its 29th or a later one.
fn late(year: i64, month: i64, day: i64) -> bool {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (29..=days).contains(&day)
}

/// Days since 1970-01-01 by the proleptic Gregorian calendar, of years that begin in March so that a leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

fn objects(line: &[u8], at: usize, kinds: &impl Kinds, sets: &mut Vec<Set>) -> Option<usize> {
    let mut at = after(line, at, b"[")?;
    if let Some(end) = after(line, at, b"]") {
        return Some(end);
    }
    // Sets come in the order they came in before, as a rule.
    let mut next = 0;
    while sets.len() < SETS_MAX {
        let read = |kind: usize| kinds.shape(kind)?.read_set(line, at).map(|(numbers, end)| (kind, numbers, end));
        let (kind, numbers, end) = read(next).or_else(|| {
            let rest = line.get(at..)?;
            let head = rest.get(..memchr::memmem::find(rest, SET_HEAD)? + SET_HEAD.len())?;
            let mut kind = kinds.like(head, 0);
            while let Some(one) = kind {
                if let Some(read) = read(one) {
                    return Some(read);
                }
                kind = kinds.like(head, one + 1);
            }
            None
        })?;
        sets.push(Set { kind, numbers });
        next = kind + 1;
        at = match line.get(end)? {
            b',' => end + 1,
            b']' => return Some(end + 1),
            _ => return None,
        };
    }
    None
}

/// The shape of a line that is known to be JSON and a window; None if it is not written plainly enough to be told from others.
#[must_use]
pub fn learn(line: &[u8]) -> Option<Learned> {
    let (mut sets, mut present, mut fields) = (Vec::new(), [false; NUMBERS.len()], Vec::new());
    let mut whole = Cut::new(line, 0);
    let (said, end) = self::fields(line, 0)?;
    let mut alike = 0u64;
    for (at, (name, value)) in said.iter().enumerate() {
        let text = line.get(name.clone())?;
        // Which of two holds that have one name is not for this to say. Most names differ in length, first or last byte.
        let (first, last) = (text.first()?, text.last()?);
        let sign = 1 << ((text.len() * 7 + usize::from(*first) * 3 + usize::from(*last)) % 64);
        if alike & sign != 0 && said.get(..at)?.iter().any(|(before, _)| line.get(before.clone()) == Some(text)) {
            return None;
        }
        alike |= sign;
        match text {
            b"event_id" => whole.slot(Slot::EventId, value)?,
            b"connection" => whole.slot(Slot::Connection, value)?,
            b"flow_id" => whole.slot(Slot::FlowId, value)?,
            b"source" => whole.slot(Slot::Source, value)?,
            b"destination" => whole.slot(Slot::Destination, value)?,
            b"statement" => whole.slot(Slot::Statement, value)?,
            b"start" => whole.slot(Slot::Start, value)?,
            b"end" => whole.slot(Slot::End, value)?,
            b"final" => whole.slot(Slot::Final, value)?,
            b"objects" => {
                sets = self::sets(line, value)?;
                whole.slot(Slot::Objects, value)?;
            }
            b"totals" => whole.numbers(Part::Totals, value.start, &mut present)?,
            b"completeness" => whole.numbers(Part::Completeness, value.start, &mut present)?,
            text => {
                if !whole.number(Part::Window, text, value, &mut present)? {
                    fields.push((name.clone(), name.start..value.end));
                }
            }
        }
    }
    let slots = &whole.slots;
    let required = [Slot::EventId, Slot::Connection, Slot::FlowId, Slot::Source, Slot::Destination, Slot::Start, Slot::End];
    let required = required.iter().all(|slot| slots.iter().any(|(_, known)| known == slot));
    (end == line.len() && required).then_some(())?;
    Some(Learned { shape: whole.shape(end)?, sets, present, fields })
}

/// Which of the numbers that is.
fn number_named(part: Part, name: &[u8]) -> Option<usize> {
    // Most fields are none.
    let may_be = matches!(name.first()?, b's' | b'r' | b'v' | b'm' | b'b' | b'p' | b'a' | b'l');
    may_be.then(|| NUMBERS.iter().position(|&(of, known, _)| of == part && known.as_bytes() == name))?
}

/// The kinds of object sets in an array of them.
fn sets(line: &[u8], array: &Range<usize>) -> Option<Vec<Shape>> {
    let (mut kinds, mut at) = (Vec::new(), after(line, array.start, b"[")?);
    while at + 1 < array.end {
        let (fields, end) = fields(line, at)?;
        let (mut cut, mut present) = (Cut::new(line, at), [false; SET_NUMBERS.len()]);
        for (name, value) in &fields {
            let name = line.get(name.clone())?;
            let Some(which) = SET_NUMBERS.iter().position(|(known, _)| known.as_bytes() == name) else { continue };
            if std::mem::replace(present.get_mut(which)?, true) {
                return None;
            }
            cut.slot(Slot::Number(u8::try_from(which).ok()?), value)?;
        }
        // A number that is not said is not the last set's.
        if !present.iter().all(|present| *present) {
            return None;
        }
        let shape = cut.shape(end)?;
        if !kinds.contains(&shape) {
            kinds.push(shape);
        }
        at = end + usize::from(line.get(end) == Some(&b','));
    }
    (kinds.len() <= SETS_MAX).then_some(kinds)
}

/// A line that is cut where something changes.
struct Cut<'a> {
    line: &'a [u8],
    at: usize,
    text: Vec<u8>,
    slots: Vec<(u16, Slot)>,
}

impl<'a> Cut<'a> {
    fn new(line: &'a [u8], at: usize) -> Self {
        Self { line, at, text: Vec::new(), slots: Vec::new() }
    }

    fn slot(&mut self, slot: Slot, value: &Range<usize>) -> Option<()> {
        let stretch = self.line.get(self.at..value.start)?;
        self.text.extend_from_slice(stretch);
        self.slots.push((u16::try_from(stretch.len()).ok()?, slot));
        self.at = value.end;
        Some(())
    }

    /// Whether the field is one of the numbers.
    fn number(&mut self, part: Part, name: &[u8], value: &Range<usize>, present: &mut [bool]) -> Option<bool> {
        let Some(which) = number_named(part, name) else { return Some(false) };
        if std::mem::replace(present.get_mut(which)?, true) {
            return None;
        }
        self.slot(Slot::Number(u8::try_from(which).ok()?), value)?;
        Some(true)
    }

    /// The numbers in the object that begins here.
    fn numbers(&mut self, part: Part, at: usize, present: &mut [bool]) -> Option<()> {
        for (name, value) in &fields(self.line, at)?.0 {
            self.number(part, self.line.get(name.clone())?, value, present)?;
        }
        Some(())
    }

    fn shape(mut self, end: usize) -> Option<Shape> {
        self.text.extend_from_slice(self.line.get(self.at..end)?);
        Some(Shape { text: self.text.into(), slots: self.slots.into() })
    }
}

/// Names and values in the object that begins here, and where it ends; None if a name has escapes, or anything but JSON without spaces.
fn fields(line: &[u8], at: usize) -> Option<(Vec<Field>, usize)> {
    let (mut fields, mut at) = (Vec::with_capacity(40), after(line, at, b"{")?);
    loop {
        let name = word(line, at)?;
        let value = after(line, name.end, b"\":")?;
        let end = value_end(line, value)?;
        fields.push((name, value..end));
        at = match line.get(end)? {
            b',' => end + 1,
            b'}' => return Some((fields, end + 1)),
            _ => return None,
        };
    }
}

/// Where the value that begins here ends.
fn value_end(line: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0usize);
    loop {
        match line.get(at)? {
            b'"' => at = text_end(line, at + 1)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b',' | b'}' | b']' if depth == 0 => return (at > start).then_some(at),
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            byte if byte.is_ascii_graphic() => at += 1,
            _ => return None,
        }
    }
}

/// Where the text ends whose first byte is here, its closing quote included.
fn text_end(line: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', line.get(at..)?)?;
        if line.get(found) == Some(&b'"') {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// Whether learning pays: a line that is read by what is known pays for a part of what is learnt.
#[derive(Debug)]
pub struct Paid {
    paid: usize,
    passes: usize,
    pub passed_over_total: u64,
}

impl Default for Paid {
    fn default() -> Self {
        Self { paid: PAID_MAX, passes: 0, passed_over_total: 0 }
    }
}

impl Paid {
    /// A line was read by what is known.
    pub fn again(&mut self) {
        self.paid = (self.paid + 1).min(PAID_MAX);
    }

    /// Whether it is worth learning something more; what is not is passed over.
    pub fn takes(&mut self) -> bool {
        if let Some(rest) = self.paid.checked_sub(LEARNING_COST) {
            self.paid = rest;
            return true;
        }
        self.passes = (self.passes + 1) % PASSED_OVER_MAX;
        self.passed_over_total += u64::from(self.passes != 0);
        self.passes == 0
    }
}

/// What is remembered by its text: what was asked for last, in two halves.
#[derive(Debug)]
pub struct Remembered<T> {
    now: HashMap<Box<[u8]>, (T, usize)>,
    before: HashMap<Box<[u8]>, (T, usize)>,
    now_bytes: usize,
    most: usize,
    /// What was forgotten for something else.
    pub forgotten_total: u64,
}

impl<T> Remembered<T> {
    /// At most so many, and [`LINES_BYTES_MAX`].
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { now: HashMap::new(), before: HashMap::new(), now_bytes: 0, most, forgotten_total: 0 }
    }

    pub fn get(&mut self, key: &[u8]) -> Option<&mut T> {
        if !self.before.is_empty() && !self.now.contains_key(key) {
            if let Some((key, (remembered, size_bytes))) = self.before.remove_entry(key) {
                self.insert(key, remembered, size_bytes);
            }
        }
        self.now.get_mut(key).map(|(remembered, _)| remembered)
    }

    /// In the place of what was remembered.
    pub fn put(&mut self, key: &[u8], remembered: T, size_bytes: usize) {
        self.before.remove(key);
        self.insert(key.into(), remembered, size_bytes);
    }

    /// What is remembered under the key has another size from now on; it was just asked for.
    pub fn resized(&mut self, key: &[u8], size_bytes: usize) {
        if let Some((_, known_bytes)) = self.now.get_mut(key) {
            self.now_bytes = self.now_bytes - *known_bytes + size_bytes;
            *known_bytes = size_bytes;
        }
    }

    fn insert(&mut self, key: Box<[u8]>, remembered: T, size_bytes: usize) {
        if self.now.len() >= self.most / 2 || self.now_bytes + size_bytes > LINES_BYTES_MAX / 2 {
            self.forgotten_total += self.before.len() as u64;
            self.before = std::mem::take(&mut self.now);
            self.now_bytes = 0;
        }
        self.now_bytes += size_bytes;
        if let Some((_, replaced_bytes)) = self.now.insert(key, (remembered, size_bytes)) {
            self.now_bytes -= replaced_bytes;
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.now.len() + self.before.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = br#"{"kind":"flow","event_id":"e0","plant":"n","connection":"c","flow_id":"f","sequence":1,"final":false,"start":"2026-04-07T10:42:08Z","end":"2026-04-07T10:42:08.5Z","source":{"address":"a","port":1,"names":[]},"destination":{"address":"b,\"}","port":2},"opened_by":"source","operation":"o","statement":null,"objects":[{"names":["x"],"columns":[],"rows":1,"values":0,"messages":2,"bytes":90},{"names":["y"],"columns":[],"rows":0,"values":0,"messages":1,"bytes":9,"marks":["m"]}],"rows":-1,"bytes":99,"totals":{"rows":7,"bytes":1000},"completeness":{"state":"complete","lost_bytes":0}}"#;

    fn with(from: &str, to: &str) -> Vec<u8> {
        let line = std::str::from_utf8(LINE).expect("text");
        assert!(line.contains(from), "{from}");
        line.replacen(from, to, 1).into_bytes()
    }

    fn read(line: &[u8]) -> Option<Values> {
        let learned = learn(LINE).expect("plain");
        let mut values = Values::default();
        learned.shape.read(&learned.sets, line, &mut values)?;
        Some(values)
    }

    #[test]
    fn a_line_is_read_by_its_own_shape() {
        let values = read(LINE).expect("its own");
        let text = |place: &Range<usize>| std::str::from_utf8(&LINE[place.clone()]).expect("text");
        assert_eq!([&values.event_id, &values.connection, &values.flow_id].map(text), ["e0", "c", "f"]);
        assert_eq!(values.source.plain.as_ref().map(|(address, port)| (text(address), *port)), Some(("a", 1)));
        assert_eq!((text(&values.destination.text), values.destination.plain), (r#"{"address":"b,\"}","port":2}"#, None));
        assert_eq!(kind(LINE), Some(&b"\"opened_by\":\"source\",\"operation\":\"o\","[..]));
        assert_eq!((text(&values.start.text), text(&values.end.text)), ("2026-04-07T10:42:08Z", "2026-04-07T10:42:08.5Z"));
        assert_eq!(values.end.time_ns - values.start.time_ns, 500_000_000);
        assert_eq!(values.start.time_ns, 1_775_558_528_000_000_000);
        assert_eq!((values.is_final, values.statement), (false, None));
        assert_eq!(values.numbers, [1, -1, 0, 0, 99, 0, 0, 0, 7, 0, 0, 1000, 0, 0]);
        assert_eq!(values.sets, [Set { kind: 0, numbers: [1, 0, 2, 90] }, Set { kind: 1, numbers: [0, 0, 1, 9] }]);
    }

    #[test]
    fn what_changes_is_read_and_whatever_else_changes_is_another_shape() {
        assert_eq!(read(&with("\"sequence\":1", "\"sequence\":20")).expect("a number").numbers[0], 20);
        assert_eq!(read(&with("null", "\"c01d\"")).expect("a statement").statement.map(|place| place.len()), Some(4));
        assert!(read(&with("false", "true")).expect("the last").is_final);
        for (from, to) in
            [("\"n\"", "\"m\""), ("complete", "lossy"), ("\"o\"", "\"p\""), ("\"x\"", "\"z\""), ("}}", "}} "), ("{\"kind", " {\"kind")]
        {
            assert!(read(&with(from, to)).is_none(), "{to}");
        }
        let source = read(&with("\"a\",\"port\":1,", "\"other\",\"port\":65535,")).expect("an end").source;
        assert_eq!(source.plain.map(|(address, port)| (address.len(), port)), Some((5, 65_535)));
        for end in ["\"a\",\"port\":65536,", "\"a\\\\\",\"port\":1,", "\"a\", \"port\":1,", "\"a\",\"port\":-1,"] {
            assert!(read(&with("\"a\",\"port\":1,", end)).is_none_or(|values| values.source.plain.is_none()), "{end}");
        }
        for number in ["", "-", "00", "01", "-0", "+1", "1.0", "1e3", "1000000000000000000", "true", "\"1\"", " 1"] {
            assert!(read(&with("\"rows\":-1", &format!("\"rows\":{number}"))).is_none(), "{number}");
        }
        assert!(read(&with("\"bytes\":99", "\"bytes\":-99")).is_none(), "only a correction is negative");
        for text in ["e\\\"", "\u{e4}", "\u{7f}", "\u{1}"] {
            assert!(read(&with("e0", text)).is_none(), "{text:?}");
        }
    }

    #[test]
    fn sets_come_in_any_order_up_to_the_most() {
        let set = |name: &str| format!("{{\"names\":[\"{name}\"],\"columns\":[],\"rows\":1,\"values\":0,\"messages\":2,\"bytes\":90}}");
        let sets = |sets: &[String]| {
            let (head, rest) = std::str::from_utf8(LINE).expect("text").split_once("\"objects\":[").expect("sets");
            let rest = &rest[rest.find("],\"rows\":-1").expect("after the sets")..];
            read(format!("{head}\"objects\":[{}{rest}", sets.join(",")).as_bytes()).map(|values| values.sets.len())
        };
        assert_eq!(sets(&[]), Some(0));
        assert_eq!(sets(&vec![set("x"); SETS_MAX]), Some(SETS_MAX));
        assert_eq!(sets(&vec![set("x"); SETS_MAX + 1]), None);
        assert_eq!(sets(&[set("x"), set("z")]), None);
        assert_eq!(sets(&[set("x"), String::new()]), None);
    }

    #[test]
    fn only_plain_lines_are_learnt() {
        for (from, to) in [
            ("\"rows\":-1", "\"rows\":-1,\"rows\":-1"),
            ("\"plant\":\"n\"", "\"plant\":\"n\",\"plant\":\"n\""),
            ("\"totals\":{", "\"totals\":{\"rows\":7},\"totals\":{"),
            ("\"plant\"", "\"pl\\u0061nt\""),
            (",\"plant\"", ", \"plant\""),
            ("\"event_id\":\"e0\",", ""),
            ("}}", "}}\n"),
            ("\"messages\":2,", ""),
        ] {
            assert!(learn(&with(from, to)).is_none(), "{to}");
        }
        for end in 0..LINE.len() {
            assert!(learn(&LINE[..end]).is_none());
        }
    }

    #[test]
    fn times_are_read_to_the_nanosecond_and_odd_ones_are_not() {
        let time_ns = |text: &str| {
            let mut time = Time::default();
            instant(format!("\"{text}\"").as_bytes(), 0, &mut time).map(|_| time.time_ns)
        };
        assert_eq!(time_ns("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(time_ns("2000-02-29T23:59:59.000000001Z"), Some(951_868_799_000_000_001));
        assert_eq!(time_ns("2261-12-31T23:59:59.999999999Z"), Some(9_214_646_399_999_999_999));
        for odd in [
            "1969-12-31T23:59:59Z",
            "2262-01-01T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-04-00T00:00:00Z",
            "2026-04-07T24:00:00Z",
            "2026-04-07T23:60:00Z",
            "2026-04-07T23:59:60Z",
            "2026-04-07T23:59:59.Z",
            "2026-04-07T23:59:59.1234567890Z",
            "2026-04-07t23:59:59Z",
            "2026-04-07T23:59:59+00:00",
            "2026-04-07T23:59:59",
        ] {
            assert_eq!(time_ns(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_forgotten_and_counted() {
        let mut remembered = Remembered::new(4);
        for n in 0u8..8 {
            remembered.put(&[n], n, 1);
            assert_eq!(remembered.get(&[0]), Some(&mut 0), "asked for again and again");
        }
        assert!(remembered.len() <= 5);
        assert_eq!(remembered.len() as u64 + remembered.forgotten_total, 8);
        assert_eq!(remembered.get(&[1]), None);
        remembered.put(&[9], 9, LINES_BYTES_MAX);
        assert_eq!(remembered.get(&[9]), Some(&mut 9));
        remembered.put(&[10], 10, LINES_BYTES_MAX);
        remembered.put(&[11], 11, 1);
        assert_eq!(remembered.get(&[9]), None, "bytes are bounded, too");
    }

    #[test]
    fn what_grows_takes_the_room_of_others() {
        let mut remembered = Remembered::new(100);
        for n in 0u8..3 {
            remembered.put(&[n], n, 1);
        }
        remembered.resized(&[2], LINES_BYTES_MAX / 2);
        assert_eq!(remembered.now_bytes, LINES_BYTES_MAX / 2 + 2);
        remembered.put(&[3], 3, 1);
        remembered.resized(&[3], LINES_BYTES_MAX / 2);
        remembered.put(&[4], 4, 1);
        assert_eq!((remembered.len(), remembered.forgotten_total), (2, 3));
    }

    #[test]
    fn where_nothing_comes_again_little_is_learnt_and_what_comes_again_pays_for_more() {
        let mut paid = Paid::default();
        let learnt = (0..100_000).filter(|_| paid.takes()).count();
        assert_eq!(learnt, PAID_MAX / LEARNING_COST + (100_000 - PAID_MAX / LEARNING_COST) / PASSED_OVER_MAX);
        assert_eq!(learnt as u64 + paid.passed_over_total, 100_000);
        (0..LEARNING_COST).for_each(|_| paid.again());
        assert!(paid.takes(), "paid for");
    }
}
