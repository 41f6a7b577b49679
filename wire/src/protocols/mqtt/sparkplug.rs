//! The payload of Sparkplug B (Eclipse Sparkplug 3.0.0, 6.4; `sparkplug_b.proto`): how many values, of which metrics.
//!
//! The protobuf wire format is walked tag by tag, and the walk can stop after any byte. Of all fields only the names and
//! aliases of metrics are kept, until the metric ends; every other one is passed over by its length. A metric is one value;
//! one that holds a DataSet or a Template is as many as that has cells, or members and parameters.

use crate::protocols::DecodeError;

/// Messages inside one another that are followed: a template in a template takes two. What is deeper is not counted.
pub const DEPTH_MAX: usize = 32;
/// Bytes of a metric's name that are kept; a longer one is told as `*`.
pub const NAME_BYTES_MAX: usize = 256;

/// What a payload that holds another, compressed, has for its UUID (Sparkplug B, payload compression).
const COMPRESSED: &[u8] = b"SPBV1.0_COMPRESSED";
/// Bytes of one number (protobuf, encoding); a longer one is none.
const VARINT_BYTES_MAX: u32 = 10;

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const DELIMITED: u8 = 2;
const FIXED_32: u8 = 5;

/// Who is told of the metrics.
pub(super) trait Metrics {
    /// A metric of the payload itself has ended; an absent name is empty, one that is too long `None`.
    fn metric(&mut self, name: Option<&[u8]>, alias: Option<u64>);
}

/// The messages of `sparkplug_b.proto` that are entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Payload,
    Metric,
    /// A metric in a template.
    Member,
    DataSet,
    Row,
    Template,
}

/// What a field is to the walk.
enum Field {
    Passed,
    Entered(Message),
    /// A value by itself.
    Value,
    Name,
    Alias,
    Uuid,
    Body,
}

fn field(of: Message, number: u64, kind: u8) -> Field {
    match (of, number, kind) {
        (Message::Payload, 2, DELIMITED) => Field::Entered(Message::Metric),
        (Message::Payload, 4, DELIMITED) => Field::Uuid,
        (Message::Payload, 5, DELIMITED) => Field::Body,
        (Message::Metric, 1, DELIMITED) => Field::Name,
        (Message::Metric, 2, VARINT) => Field::Alias,
        (Message::Metric | Message::Member, 17, DELIMITED) => Field::Entered(Message::DataSet),
        (Message::Metric | Message::Member, 18, DELIMITED) => Field::Entered(Message::Template),
        (Message::DataSet, 4, DELIMITED) => Field::Entered(Message::Row),
        (Message::Row, 1, DELIMITED) | (Message::Template, 3, DELIMITED) => Field::Value,
        (Message::Template, 2, DELIMITED) => Field::Entered(Message::Member),
        _ => Field::Passed,
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Tag,
    /// A number that is passed over, or the alias.
    Number {
        alias: bool,
    },
    Length {
        number: u64,
    },
    Skip(u64),
    Name(u64),
    Uuid(u64),
}

#[derive(Clone, Copy, Debug)]
struct Level {
    message: Message,
    /// Where in the payload it ends.
    end: u64,
    /// Values counted before it.
    before: u64,
}

/// One walk over one payload.
#[derive(Debug)]
pub(super) struct Walk {
    levels: Vec<Level>,
    next: Next,
    /// A varint that is not complete.
    varint: u64,
    varint_bytes: u32,
    position: u64,
    values: u64,
    name: Vec<u8>,
    name_cut: bool,
    alias: Option<u64>,
    uuid: Vec<u8>,
    body: bool,
}

impl Walk {
    /// Of a payload of so many bytes.
    pub(super) fn new(length: u64) -> Self {
        let mut walk = Self {
            levels: Vec::new(),
            next: Next::Tag,
            varint: 0,
            varint_bytes: 0,
            position: 0,
            values: 0,
            name: Vec::new(),
            name_cut: false,
            alias: None,
            uuid: Vec::new(),
            body: false,
        };
        walk.restart(length);
        walk
    }

    /// Begins anew, with the memory that there is.
    pub(super) fn restart(&mut self, length: u64) {
        self.levels.clear();
        self.levels.push(Level { message: Message::Payload, end: length, before: 0 });
        self.next = Next::Tag;
        (self.varint, self.varint_bytes, self.position, self.values) = (0, 0, 0, 0);
        (self.name_cut, self.alias, self.body) = (false, None, false);
        self.name.clear();
        self.uuid.clear();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.levels.capacity() * size_of::<Level>() + self.name.capacity() + self.uuid.capacity()
    }

    /// The next bytes of the payload.
    ///
    /// # Errors
    /// They are no such message.
    pub(super) fn walk(&mut self, mut bytes: &[u8], out: &mut impl Metrics) -> Result<(), DecodeError> {
        loop {
            self.leave(out)?;
            let Some(level) = self.levels.last().copied().filter(|_| !bytes.is_empty()) else { return Ok(()) };
            if matches!(self.next, Next::Tag) && self.varint_bytes == 0 {
                let used = self.whole(level, bytes);
                if used > 0 {
                    bytes = bytes.get(used..).unwrap_or_default();
                    continue;
                }
            }
            match self.next {
                Next::Tag => {
                    let Some(tag) = self.number(&mut bytes)? else { continue };
                    self.tagged(tag)?;
                }
                Next::Number { alias } => {
                    let Some(value) = self.number(&mut bytes)? else { continue };
                    if alias {
                        self.alias = Some(value);
                    }
                    self.next = Next::Tag;
                }
                Next::Length { number } => {
                    let Some(length) = self.number(&mut bytes)? else { continue };
                    if length > level.end.saturating_sub(self.position) {
                        return Err(DecodeError::new("length of a field", length, "at most what is left of its message"));
                    }
                    self.measured(level.message, number, length)?;
                }
                Next::Skip(left) => {
                    let taken = self.take(left, &mut bytes).len() as u64;
                    self.next = if taken == left { Next::Tag } else { Next::Skip(left - taken) };
                }
                Next::Name(left) => {
                    let text = self.take(left, &mut bytes);
                    if self.name.len() + text.len() > NAME_BYTES_MAX {
                        self.name_cut = true;
                    } else {
                        self.name.extend_from_slice(text);
                    }
                    let taken = text.len() as u64;
                    self.next = if taken == left { Next::Tag } else { Next::Name(left - taken) };
                }
                Next::Uuid(left) => {
                    let text = self.take(left, &mut bytes);
                    let room = (COMPRESSED.len() + 1).saturating_sub(self.uuid.len());
                    self.uuid.extend_from_slice(text.get(..room.min(text.len())).unwrap_or_default());
                    let taken = text.len() as u64;
                    self.next = if taken == left { Next::Tag } else { Next::Uuid(left - taken) };
                }
            }
        }
    }

    /// Fields of one message that are wholly here, up to the first that begins or ends another one; the bytes passed.
    #[inline]
    fn whole(&mut self, level: Level, bytes: &[u8]) -> usize {
        let here = usize::try_from(level.end - self.position).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = bytes.get(..here).unwrap_or(bytes);
        let mut used = 0;
        while let Some(&[tag, first, ..]) = bytes.get(used..) {
            // A tag and a length of one byte each, nearly always; alias and number may be longer.
            let passed = match tag & 0x87 {
                VARINT => {
                    let (mut value, mut more) = (u64::from(first & 0x7f), 0);
                    let mut digit = first;
                    while digit & 0x80 != 0 && more < VARINT_BYTES_MAX as usize {
                        more += 1;
                        let Some(&next) = bytes.get(used + 1 + more) else { return self.passed(used) };
                        digit = next;
                        value |= u64::from(digit & 0x7f).checked_shl(7 * more as u32).unwrap_or(0);
                    }
                    if more >= VARINT_BYTES_MAX as usize {
                        break;
                    }
                    if tag == 2 << 3 && level.message == Message::Metric {
                        self.alias = Some(value);
                    }
                    2 + more
                }
                FIXED_64 => 9,
                FIXED_32 => 5,
                DELIMITED if first < 0x80 => {
                    let length = usize::from(first);
                    let Some(inner) = bytes.get(used + 2..used + 2 + length) else { break };
                    match field(level.message, u64::from(tag >> 3), DELIMITED) {
                        Field::Passed => {}
                        Field::Value => self.values += 1,
                        Field::Name => {
                            self.name.clear();
                            self.name.extend_from_slice(inner);
                            self.name_cut = false;
                        }
                        Field::Entered(message) if length > 0 && self.levels.len() < DEPTH_MAX => {
                            used += 2;
                            self.passed(used);
                            self.levels.push(Level { message, end: self.position + u64::from(first), before: self.values });
                            return used;
                        }
                        _ => break,
                    }
                    2 + length
                }
                _ => break,
            };
            if tag < 8 || used + passed > bytes.len() {
                break;
            }
            used += passed;
        }
        self.passed(used)
    }

    fn passed(&mut self, used: usize) -> usize {
        self.position += used as u64;
        used
    }

    /// The payload is over: its values; `None` where it holds what is not counted, compressed or of another kind.
    ///
    /// # Errors
    /// It is cut.
    pub(super) fn end(&mut self, out: &mut impl Metrics) -> Result<Option<u64>, DecodeError> {
        self.leave(out)?;
        if !self.levels.is_empty() {
            return Err(DecodeError::new("end of the payload at", self.position, "the end of its messages"));
        }
        Ok((!self.body && self.uuid != COMPRESSED).then_some(self.values))
    }

    /// Leaves the messages that end here.
    #[inline]
    fn leave(&mut self, out: &mut impl Metrics) -> Result<(), DecodeError> {
        while let Some(level) = self.levels.last().copied().filter(|level| level.end <= self.position) {
            if level.end < self.position || !matches!(self.next, Next::Tag) || self.varint_bytes > 0 {
                return Err(DecodeError::new("end of a message at", level.end, "the end of its last field"));
            }
            self.levels.pop();
            if matches!(level.message, Message::Metric | Message::Member) && self.values == level.before {
                self.values += 1;
            }
            if level.message == Message::Metric {
                out.metric(Some(self.name.as_slice()).filter(|_| !self.name_cut), self.alias.take());
                self.name.clear();
                self.name_cut = false;
            }
        }
        Ok(())
    }

    fn tagged(&mut self, tag: u64) -> Result<(), DecodeError> {
        let (number, kind) = (tag >> 3, (tag & 7) as u8);
        if number == 0 {
            return Err(DecodeError::new("field number", 0, "at least 1"));
        }
        let message = self.levels.last().map_or(Message::Payload, |level| level.message);
        self.next = match kind {
            VARINT => Next::Number { alias: matches!(field(message, number, kind), Field::Alias) },
            FIXED_64 => Next::Skip(8),
            DELIMITED => Next::Length { number },
            FIXED_32 => Next::Skip(4),
            other => return Err(DecodeError::new("wire type", other.into(), "0, 1, 2 or 5")),
        };
        Ok(())
    }

    fn measured(&mut self, message: Message, number: u64, length: u64) -> Result<(), DecodeError> {
        self.next = Next::Skip(length);
        match field(message, number, DELIMITED) {
            Field::Entered(message) => {
                if self.levels.len() >= DEPTH_MAX {
                    return Err(DecodeError::new("nesting", self.levels.len() as u64, "at most DEPTH_MAX"));
                }
                self.levels.push(Level { message, end: self.position + length, before: self.values });
                self.next = Next::Tag;
            }
            Field::Value => self.values += 1,
            Field::Name => {
                // Of a field that is there twice the last one counts (protobuf, encoding).
                self.name.clear();
                self.name_cut = false;
                self.next = Next::Name(length);
            }
            Field::Uuid => {
                self.uuid.clear();
                self.next = Next::Uuid(length);
            }
            Field::Body => self.body |= length > 0,
            Field::Alias | Field::Passed => {}
        }
        if length == 0 {
            self.next = Next::Tag;
        }
        Ok(())
    }

    /// A varint (protobuf, encoding); `None`: the bytes ended in it.
    #[inline]
    fn number(&mut self, bytes: &mut &[u8]) -> Result<Option<u64>, DecodeError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.position += 1;
            self.varint |= u64::from(byte & 0x7f).checked_shl(7 * self.varint_bytes).unwrap_or(0);
            self.varint_bytes += 1;
            if byte & 0x80 == 0 {
                self.varint_bytes = 0;
                return Ok(Some(std::mem::take(&mut self.varint)));
            }
            if self.varint_bytes >= VARINT_BYTES_MAX {
                return Err(DecodeError::new("bytes of a number", u64::from(self.varint_bytes) + 1, "at most 10"));
            }
        }
        Ok(None)
    }

    fn take<'a>(&mut self, most: u64, bytes: &mut &'a [u8]) -> &'a [u8] {
        let taken = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
        let (head, rest) = bytes.split_at(taken);
        *bytes = rest;
        self.position += taken as u64;
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, PartialEq, Eq, Debug)]
    struct Told(Vec<(Option<String>, Option<u64>)>);

    impl Metrics for Told {
        fn metric(&mut self, name: Option<&[u8]>, alias: Option<u64>) {
            self.0.push((name.map(|name| String::from_utf8_lossy(name).into_owned()), alias));
        }
    }

    /// A field of bytes.
    fn of(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![(number << 3 & 0x7f) | 2];
        if number > 15 {
            bytes = vec![(number << 3) | 0x82, number >> 4];
        }
        let mut length = inner.len();
        while length > 0x7f {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        [bytes.as_slice(), inner].concat()
    }

    fn read(payload: &[u8]) -> (Result<Option<u64>, ()>, Told) {
        let mut answers = [1, payload.len().max(1)].map(|piece| {
            let (mut walk, mut told) = (Walk::new(payload.len() as u64), Told::default());
            let read = payload.chunks(piece).try_for_each(|part| walk.walk(part, &mut told)).and_then(|()| walk.end(&mut told));
            (read.map_err(|_| ()), told)
        });
        assert_eq!(answers[0].0, answers[1].0, "byte by byte");
        std::mem::replace(&mut answers[0], (Err(()), Told::default()))
    }

    #[test]
    fn metrics_in_any_order_of_fields_have_one_value_each() {
        let metric =
            [&[0x10, 0x07][..], &[0x5d, 0, 0, 0, 0], &of(1, b"Temperature"), &[0x69, 0, 0, 0, 0, 0, 0, 0, 0], &of(9, b"..")].concat();
        let (values, told) = read(&[of(2, &metric), vec![0x18, 0x05], of(2, &[0x10, 0x81, 0x01, 0x38, 0x01]), of(2, &[])].concat());
        assert_eq!(values, Ok(Some(3)));
        assert_eq!(told.0, [(Some("Temperature".into()), Some(7)), (Some(String::new()), Some(129)), (Some(String::new()), None)]);
    }

    #[test]
    fn cells_members_and_parameters_are_counted_and_an_empty_table_is_one() {
        let row = of(4, &[of(1, &[0x08, 1]), of(1, &[])].concat());
        let table = of(17, &[of(2, b"a"), of(2, b"b"), row.clone(), row].concat());
        let template = of(18, &[of(2, &table), of(2, &of(1, b"rpm")), of(3, &of(1, b"size"))].concat());
        assert_eq!(read(&of(2, &table)).0, Ok(Some(4)));
        assert_eq!(read(&of(2, &template)).0, Ok(Some(6)));
        assert_eq!(read(&of(2, &of(17, &of(2, b"a")))).0, Ok(Some(1)));
        assert_eq!(read(&[]).0, Ok(Some(0)));
        assert_eq!(read(&of(2, &template)).1.0.len(), 1, "a member is no metric of the payload");
    }

    #[test]
    fn compressed_and_other_bodies_are_not_counted_and_said() {
        assert_eq!(read(&[of(2, &of(1, b"algorithm")), of(4, COMPRESSED), of(5, b"..")].concat()).0, Ok(None));
        assert_eq!(read(&[of(4, COMPRESSED)].concat()).0, Ok(None));
        assert_eq!(read(&of(5, b".")).0, Ok(None));
        assert_eq!(read(&[of(4, b"SPBV1.0_COMPRESSED2"), of(5, b"")].concat()).0, Ok(Some(0)));
    }

    #[test]
    fn lengths_beyond_their_message_groups_and_cut_numbers_are_refused() {
        let number = [&[0x08][..], &[0x80; 10], &[1]].concat();
        for wrong in [&of(2, b"\x0a\x05ab")[..], &[0x12, 5, 0x10], &[0x13], &[0x00], &[0x0f, 1], &[0x08], &[0x08, 0x80], &number] {
            assert_eq!(read(wrong).0, Err(()), "{wrong:02x?}");
        }
    }

    #[test]
    fn nesting_is_followed_up_to_its_bound() {
        let nested = |templates: usize| {
            let inner = (0..templates).fold(Vec::new(), |inner, _| of(18, &of(2, &inner)));
            read(&of(2, &inner)).0
        };
        assert_eq!(nested(DEPTH_MAX / 2 - 1), Ok(Some(1)));
        assert_eq!(nested(DEPTH_MAX / 2), Err(()));
    }

    #[test]
    fn a_name_too_long_is_none() {
        let told = |bytes: usize| read(&of(2, &of(1, &vec![b'n'; bytes]))).1.0.remove(0).0.map(|name| name.len());
        assert_eq!((told(NAME_BYTES_MAX), told(NAME_BYTES_MAX + 1)), (Some(NAME_BYTES_MAX), None));
    }
}
