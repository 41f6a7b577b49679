//! A walk over the binary encoding of OPC UA (Part 6, 5.2) that can stop after any byte and go on with the next.
//!
//! Messages may be gigabytes over many chunks, and only their counts and a few names are wanted. So a body is never
//! put together: a *grammar* ([`Op`], static tables) says what comes next, the [`Walker`] keeps a short stack of what
//! is still to come, and what a grammar marks with a [`Tag`] is told to a [`Sink`] as it passes. Types that contain
//! themselves (Variant, DiagnosticInfo, ExtensionObject) push on that stack, whose depth is bounded.

use crate::protocols::DecodeError;

/// Nested types that are still followed; Part 6, 5.1.5 asks decoders to bear 100.
pub const STACK_MAX: usize = 200;
/// Bytes of one string that are kept; the rest is skipped. A certificate fits.
pub const TEXT_BYTES_MAX: usize = 8192;
/// Bytes of one NodeId that are kept: Part 3, 8.2.4 allows identifiers of 4,096.
pub const NODE_BYTES_MAX: usize = 4200;

/// What a grammar wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Passed without a word.
    None,
    /// NodeId of a message or of an ExtensionObject; handled by the walker itself.
    Type,
    Token,
    Node,
    Method,
    Items,
    Results,
    Notifications,
    Events,
    HistoryValues,
    UpdateValues,
    References,
    ContinuationPoint,
    Handle,
    ItemId,
    Subscription,
    Status,
    ItemStatus,
    SecurityMode,
    Policy,
    Certificate,
    EndpointUrl,
    ApplicationUri,
    User,
    UserCertificate,
    /// Which ExtensionObject is entered (its type as a number of namespace 0, else 0).
    Extension,
    FirstArgument,
}

/// One step of a grammar.
#[derive(Debug)]
pub enum Op {
    /// Bytes of fixed size.
    Skip(u64),
    /// String, ByteString, XmlElement.
    Bytes,
    /// The same, kept up to [`TEXT_BYTES_MAX`].
    Text(Tag),
    Number(Tag),
    Node(Tag),
    ExpandedNode,
    LocalizedText,
    Array(Tag, &'static [Op]),
    Variant,
    /// A Variant whose scalar String is told.
    TextVariant(Tag),
    DataValue,
    Diagnostic,
    /// ExtensionObject; bodies of the types named are entered, others skipped by their length (Part 6, 5.2.2.15).
    Extension(&'static [(u32, &'static [Op])]),
    Ops(&'static [Op]),
    /// The length of an array whose elements are not followed.
    Count(Tag),
    /// The TypeId of a message, after which the service's own grammar follows.
    Service,
    /// Nothing after this is wanted.
    End,
}

/// Who listens to a walk.
pub trait Sink {
    fn number(&mut self, tag: Tag, value: u32);
    fn text(&mut self, tag: Tag, bytes: &[u8]);
    /// A NodeId in its encoding, without namespace URI and server index.
    fn node(&mut self, tag: Tag, encoded: &[u8]);
    /// An array of `length` elements begins; of an absent array the length is 0.
    fn array(&mut self, tag: Tag, length: u32);
    /// An element of an array begins.
    fn element(&mut self, tag: Tag);
    /// The grammar of the message with this binary encoding id, if it is a service.
    fn service(&mut self, id: u32) -> Option<&'static [Op]>;
}

#[derive(Debug)]
enum Frame {
    Ops(&'static [Op]),
    Repeat(Tag, &'static [Op], u32),
    Length(Tag, &'static [Op]),
    Skip(u64),
    Until(u64),
    Bytes,
    TextLength(Tag),
    Text(Tag, u64),
    Number(Tag),
    Node(Tag),
    NodeFixed(Tag, u8, usize),
    NodeLength(Tag, u8),
    NodeText(Tag, u8, u64),
    LocalizedText,
    Variant(Tag),
    Values(u8),
    Value(u8, u32),
    DataValue,
    Diagnostic,
    ExtensionEncoding(&'static [(u32, &'static [Op])]),
    ExtensionLength(&'static [(u32, &'static [Op])], bool),
    Dispatch,
}

/// Whether a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    More,
    Done,
}

/// One walk over one message body.
#[derive(Debug)]
pub struct Walker {
    stack: Vec<Frame>,
    /// Bytes of a field of fixed size that is not complete.
    carry: [u8; 20],
    carried: usize,
    text: Vec<u8>,
    type_id: u32,
    position: u64,
}

impl Walker {
    #[must_use]
    pub fn new(ops: &'static [Op]) -> Self {
        Self { stack: vec![Frame::Ops(ops)], carry: [0; 20], carried: 0, text: Vec::new(), type_id: 0, position: 0 }
    }

    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.stack.capacity() * size_of::<Frame>() + self.text.capacity()
    }

    #[must_use]
    pub fn done(&self) -> bool {
        self.stack.is_empty()
    }

    /// Passes over `length` lost bytes if they lie inside something that is skipped anyway.
    pub fn swallow(&mut self, length: u64) -> bool {
        if self.stack.is_empty() {
            return true;
        }
        let position = self.position;
        let within = match self.stack.last_mut() {
            Some(Frame::Skip(left)) if *left >= length => {
                *left -= length;
                true
            }
            Some(Frame::Until(end)) => *end >= position.saturating_add(length),
            _ => false,
        };
        if within {
            self.position += length;
        }
        within
    }

    /// Walks over `rest`, all of which belongs to the body, and leaves in it what comes after the grammar's end.
    ///
    /// # Errors
    /// The body does not follow its grammar.
    pub fn walk(&mut self, rest: &mut &[u8], sink: &mut impl Sink) -> Result<Walk, DecodeError> {
        while let Some(frame) = self.stack.pop() {
            if !self.step(frame, rest, sink)? {
                return Ok(Walk::More);
            }
            if self.stack.len() > STACK_MAX {
                return Err(DecodeError::new("nesting", self.stack.len() as u64, "at most STACK_MAX"));
            }
        }
        Ok(Walk::Done)
    }

    /// One step; false if the input ended inside it (the frame is back on the stack then).
    fn step(&mut self, frame: Frame, rest: &mut &[u8], sink: &mut impl Sink) -> Result<bool, DecodeError> {
        // Reads a field of fixed size, or puts the frame back and asks for more.
        macro_rules! fixed {
            ($n:expr, $back:expr) => {
                match self.fixed($n, rest) {
                    Some(bytes) => bytes,
                    None => {
                        self.stack.push($back);
                        return Ok(false);
                    }
                }
            };
        }
        match frame {
            Frame::Ops(ops) => {
                if let Some((op, more)) = ops.split_first() {
                    if !more.is_empty() {
                        self.stack.push(Frame::Ops(more));
                    }
                    self.begin(op);
                }
            }
            Frame::Repeat(tag, ops, left) => {
                let left = self.notifications(tag, ops, left, rest, sink);
                if left == 0 {
                    return Ok(true);
                }
                if left > 1 {
                    self.stack.push(Frame::Repeat(tag, ops, left - 1));
                }
                self.stack.push(Frame::Ops(ops));
                sink.element(tag);
            }
            Frame::Length(tag, ops) => {
                let length = length(fixed!(4, Frame::Length(tag, ops)));
                sink.array(tag, length);
                if length > 0 && !ops.is_empty() {
                    self.stack.push(Frame::Repeat(tag, ops, length));
                }
            }
            Frame::Skip(left) => return Ok(self.skip(left, rest)),
            Frame::Until(end) => {
                let Some(left) = end.checked_sub(self.position) else {
                    return Err(DecodeError::new("ExtensionObject ends at", end, "the end of its fields"));
                };
                if left > 0 {
                    let taken = left.min(rest.len() as u64);
                    self.advance(taken, rest);
                    if taken < left {
                        self.stack.push(Frame::Until(end));
                        return Ok(false);
                    }
                }
            }
            Frame::Bytes => {
                let length = length(fixed!(4, Frame::Bytes));
                return Ok(self.skip(u64::from(length), rest));
            }
            Frame::TextLength(tag) => {
                let length = length(fixed!(4, Frame::TextLength(tag)));
                self.text.clear();
                self.stack.push(Frame::Text(tag, u64::from(length)));
            }
            Frame::Text(tag, left) => {
                let left = self.keep(left, TEXT_BYTES_MAX, rest);
                if left > 0 {
                    self.stack.push(Frame::Text(tag, left));
                    return Ok(false);
                }
                sink.text(tag, &self.text);
            }
            Frame::Number(tag) => {
                let bytes = fixed!(4, Frame::Number(tag));
                sink.number(tag, number(bytes));
            }
            Frame::Node(tag) => {
                let head = fixed!(1, Frame::Node(tag))[0];
                self.text.clear();
                self.text.push(head & 0x3f);
                let fixed = match head & 0x3f {
                    0 => 1,
                    1 => 3,
                    2 => 6,
                    3 | 5 => 2,
                    4 => 18,
                    other => return Err(DecodeError::new("NodeId encoding", other.into(), "0 to 5 (Part 6, 5.2.2.9)")),
                };
                self.stack.push(Frame::NodeFixed(tag, head, fixed));
            }
            Frame::NodeFixed(tag, head, size) => {
                let bytes = fixed!(size, Frame::NodeFixed(tag, head, size));
                self.text.extend_from_slice(bytes.get(..size).unwrap_or_default());
                if matches!(head & 0x3f, 3 | 5) {
                    self.stack.push(Frame::NodeLength(tag, head));
                } else {
                    self.end_node(tag, head, sink);
                }
            }
            Frame::NodeLength(tag, head) => {
                let bytes = fixed!(4, Frame::NodeLength(tag, head));
                self.stack.push(Frame::NodeText(tag, head, u64::from(length(bytes))));
            }
            Frame::NodeText(tag, head, left) => {
                let left = self.keep(left, NODE_BYTES_MAX, rest);
                if left > 0 {
                    self.stack.push(Frame::NodeText(tag, head, left));
                    return Ok(false);
                }
                self.end_node(tag, head, sink);
            }
            Frame::LocalizedText => {
                let mask = fixed!(1, Frame::LocalizedText)[0];
                for bit in [0x01, 0x02] {
                    if mask & bit != 0 {
                        self.stack.push(Frame::Bytes);
                    }
                }
            }
            Frame::Variant(tag) => {
                let mask = fixed!(1, Frame::Variant(tag))[0];
                let kind = mask & 0x3f;
                if mask & 0x80 != 0 && kind != 0 {
                    // Dimensions come after the elements (Part 6, 5.2.2.16).
                    if mask & 0x40 != 0 {
                        self.stack.push(Frame::Values(6));
                    }
                    self.stack.push(Frame::Values(kind));
                } else if kind == 12 && tag != Tag::None {
                    self.stack.push(Frame::TextLength(tag));
                } else if kind != 0 {
                    self.stack.push(Frame::Value(kind, 1));
                }
            }
            Frame::Values(kind) => {
                let length = length(fixed!(4, Frame::Values(kind)));
                if length > 0 {
                    self.stack.push(Frame::Value(kind, length));
                }
            }
            Frame::Value(kind, count) => {
                if let Some(size) = fixed_size(kind) {
                    return Ok(self.skip(size * u64::from(count), rest));
                }
                if count > 1 {
                    self.stack.push(Frame::Value(kind, count - 1));
                }
                match kind {
                    17 => self.begin(&Op::Node(Tag::None)),
                    18 => self.begin(&Op::ExpandedNode),
                    20 => {
                        self.stack.push(Frame::Bytes);
                        self.stack.push(Frame::Skip(2));
                    }
                    21 => self.stack.push(Frame::LocalizedText),
                    22 => self.begin(&Op::Extension(&[])),
                    23 => self.stack.push(Frame::DataValue),
                    24 => self.stack.push(Frame::Variant(Tag::None)),
                    25 => self.stack.push(Frame::Diagnostic),
                    // 26 to 31 are reserved and encoded as ByteString (Part 6, 5.2.2.16).
                    12 | 15 | 16 | 26..=31 => self.stack.push(Frame::Bytes),
                    other => return Err(DecodeError::new("Variant type", other.into(), "0 to 31")),
                }
            }
            Frame::DataValue => {
                let mask = fixed!(1, Frame::DataValue)[0];
                let size = |bit: u8, size: u64| if mask & bit != 0 { size } else { 0 };
                let after = size(0x02, 4) + size(0x04, 8) + size(0x08, 8) + size(0x10, 2) + size(0x20, 2);
                if after > 0 {
                    self.stack.push(Frame::Skip(after));
                }
                if mask & 0x01 != 0 {
                    self.stack.push(Frame::Variant(Tag::None));
                }
            }
            Frame::Diagnostic => {
                let mask = fixed!(1, Frame::Diagnostic)[0];
                if mask & 0x40 != 0 {
                    self.stack.push(Frame::Diagnostic);
                }
                if mask & 0x20 != 0 {
                    self.stack.push(Frame::Skip(4));
                }
                if mask & 0x10 != 0 {
                    self.stack.push(Frame::Bytes);
                }
                let before = u64::from((mask & 0x0f).count_ones()) * 4;
                if before > 0 {
                    self.stack.push(Frame::Skip(before));
                }
            }
            Frame::ExtensionEncoding(table) => {
                let encoding = fixed!(1, Frame::ExtensionEncoding(table))[0];
                match encoding {
                    0 => sink.number(Tag::Extension, self.type_id),
                    1 | 2 => self.stack.push(Frame::ExtensionLength(table, encoding == 1)),
                    other => return Err(DecodeError::new("ExtensionObject encoding", other.into(), "0, 1 or 2")),
                }
            }
            Frame::ExtensionLength(table, binary) => {
                let length = u64::from(length(fixed!(4, Frame::ExtensionLength(table, binary))));
                sink.number(Tag::Extension, self.type_id);
                match table.iter().find(|(id, _)| binary && *id == self.type_id) {
                    Some((_, ops)) => {
                        self.stack.push(Frame::Until(self.position + length));
                        self.stack.push(Frame::Ops(ops));
                    }
                    None => return Ok(self.skip(length, rest)),
                }
            }
            Frame::Dispatch => {
                let id = self.type_id;
                if let Some(ops) = sink.service(id) {
                    self.stack.push(Frame::Ops(ops));
                }
            }
        }
        Ok(true)
    }

    /// Passes over values of fixed size that are wholly there: nearly all that a server sends on its own. Returns how many
    /// elements are left.
    fn notifications(&mut self, tag: Tag, ops: &'static [Op], mut left: u32, rest: &mut &[u8], sink: &mut impl Sink) -> u32 {
        let [Op::Number(handle), Op::DataValue] = ops else { return left };
        while left > 0 {
            let Some((value, size)) = scalar(rest) else { break };
            sink.element(tag);
            sink.number(*handle, value);
            self.advance(size, rest);
            left -= 1;
        }
        left
    }

    fn begin(&mut self, op: &Op) {
        let frame = match *op {
            Op::Skip(size) => Frame::Skip(size),
            Op::Bytes => Frame::Bytes,
            Op::Text(tag) => Frame::TextLength(tag),
            Op::Number(tag) => Frame::Number(tag),
            Op::Node(tag) => Frame::Node(tag),
            Op::ExpandedNode => Frame::Node(Tag::None),
            Op::LocalizedText => Frame::LocalizedText,
            Op::Array(tag, ops) => Frame::Length(tag, ops),
            Op::Variant => Frame::Variant(Tag::None),
            Op::TextVariant(tag) => Frame::Variant(tag),
            Op::DataValue => Frame::DataValue,
            Op::Diagnostic => Frame::Diagnostic,
            Op::Extension(table) => {
                self.stack.push(Frame::ExtensionEncoding(table));
                Frame::Node(Tag::Type)
            }
            Op::Ops(ops) => Frame::Ops(ops),
            Op::Count(tag) => Frame::Length(tag, &[]),
            Op::Service => {
                self.stack.push(Frame::Dispatch);
                Frame::Node(Tag::Type)
            }
            Op::End => {
                self.stack.clear();
                return;
            }
        };
        self.stack.push(frame);
    }

    /// A NodeId is complete; a namespace URI and a server index may follow (Part 6, 5.2.2.10).
    fn end_node(&mut self, tag: Tag, head: u8, sink: &mut impl Sink) {
        if tag == Tag::Type {
            self.type_id = namespace_0(&self.text).unwrap_or(0);
        } else if tag != Tag::None {
            sink.node(tag, &self.text);
        }
        if head & 0x40 != 0 {
            self.stack.push(Frame::Skip(4));
        }
        if head & 0x80 != 0 {
            self.stack.push(Frame::Bytes);
        }
    }

    fn fixed(&mut self, size: usize, rest: &mut &[u8]) -> Option<[u8; 20]> {
        let wanted = size.saturating_sub(self.carried).min(rest.len());
        let (head, tail) = rest.split_at(wanted);
        if let Some(slot) = self.carry.get_mut(self.carried..self.carried + wanted) {
            slot.copy_from_slice(head);
        }
        *rest = tail;
        self.carried += wanted;
        self.position += wanted as u64;
        if self.carried < size {
            return None;
        }
        self.carried = 0;
        Some(self.carry)
    }

    fn advance(&mut self, size: u64, rest: &mut &[u8]) {
        let size = usize::try_from(size).unwrap_or(rest.len()).min(rest.len());
        *rest = rest.split_at(size).1;
        self.position += size as u64;
    }

    /// Skips; false if the input ended before (the remainder is on the stack then).
    fn skip(&mut self, size: u64, rest: &mut &[u8]) -> bool {
        let taken = size.min(rest.len() as u64);
        self.advance(taken, rest);
        if taken < size {
            self.stack.push(Frame::Skip(size - taken));
        }
        taken == size
    }

    /// Keeps text as it passes, at most `max` bytes of it; returns what is still to come.
    fn keep(&mut self, left: u64, max: usize, rest: &mut &[u8]) -> u64 {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let kept = taken.min(max.saturating_sub(self.text.len()));
        self.text.extend_from_slice(rest.get(..kept).unwrap_or_default());
        self.advance(taken as u64, rest);
        left - taken as u64
    }
}

/// Array and string lengths are Int32, -1 for absent ones (Part 6, 5.2.2.4, 5.2.5).
fn length(bytes: [u8; 20]) -> u32 {
    let value = number(bytes);
    if value > i32::MAX as u32 { 0 } else { value }
}

fn number(b: [u8; 20]) -> u32 {
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

/// A number and a DataValue with no value or one scalar of fixed size (Part 6, 5.2.2.16 and 5.2.2.17): the number, and the
/// bytes of both.
fn scalar(bytes: &[u8]) -> Option<(u32, u64)> {
    let (&[a, b, c, d, mask], rest) = bytes.split_first_chunk::<5>()?;
    let value = match mask & 0x01 {
        0 => 0,
        _ => match *rest.first()? {
            kind if kind & 0x80 != 0 => return None,
            kind if kind & 0x3f == 0 => 1,
            kind => 1 + fixed_size(kind & 0x3f)?,
        },
    };
    let size = |bit: u8, size: u64| if mask & bit != 0 { size } else { 0 };
    let size = value + size(0x02, 4) + size(0x04, 8) + size(0x08, 8) + size(0x10, 2) + size(0x20, 2);
    (rest.len() as u64 >= size).then_some((u32::from_le_bytes([a, b, c, d]), 5 + size))
}

/// Size of a built-in type (Part 6, table 1), if it is always the same.
fn fixed_size(kind: u8) -> Option<u64> {
    Some(match kind {
        1..=3 => 1,
        4 | 5 => 2,
        6 | 7 | 10 | 19 => 4,
        8 | 9 | 11 | 13 => 8,
        14 => 16,
        _ => return None,
    })
}

/// The number of an encoded NodeId of namespace 0.
#[must_use]
pub fn namespace_0(encoded: &[u8]) -> Option<u32> {
    match *encoded {
        [0, id] => Some(id.into()),
        [1, 0, a, b] => Some(u16::from_le_bytes([a, b]).into()),
        [2, 0, 0, a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d])),
        _ => None,
    }
}

/// A NodeId as text (Part 6, 5.3.1.10), always with its namespace: `ns=2;s=Line1/Telemetry/Temp`.
#[must_use]
pub fn node_text(encoded: &[u8]) -> String {
    match encoded {
        [0, id] => format!("ns=0;i={id}"),
        [1, namespace, a, b] => format!("ns={namespace};i={}", u16::from_le_bytes([*a, *b])),
        [2, n, m, a, b, c, d] => format!("ns={};i={}", u16::from_le_bytes([*n, *m]), u32::from_le_bytes([*a, *b, *c, *d])),
        [3, n, m, text @ ..] => format!("ns={};s={}", u16::from_le_bytes([*n, *m]), String::from_utf8_lossy(text)),
        [4, n, m, a, b, c, d, e, f, g, h, rest @ ..] => {
            let tail: String =
                rest.iter().enumerate().map(|(i, x)| if i == 2 { format!("-{x:02x}") } else { format!("{x:02x}") }).collect();
            let (first, second, third) = (u32::from_le_bytes([*a, *b, *c, *d]), u16::from_le_bytes([*e, *f]), u16::from_le_bytes([*g, *h]));
            format!("ns={};g={first:08x}-{second:04x}-{third:04x}-{tail}", u16::from_le_bytes([*n, *m]))
        }
        [5, n, m, bytes @ ..] => format!("ns={};b={}", u16::from_le_bytes([*n, *m]), base64(bytes)),
        _ => "unknown".to_owned(),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= group.len() { digit } else { '=' });
        }
    }
    text
}
