//! The JSON mapping of OPC UA PubSub (OPC 10000-14, 7.2.5): how many fields, and their names.
//!
//! The text is walked byte by byte and nothing of a value is kept. Three headers may be there or left out: that of the
//! NetworkMessage (`Messages`), of each DataSetMessage (`Payload`), and the array around them; so what an object is shows by
//! the members it has. A field is a member of a Payload, whatever its value is made of.

use crate::protocols::DecodeError;

/// Arrays and objects inside one another that are followed. What is deeper is not counted.
pub const DEPTH_MAX: usize = 64;
/// Bytes of a field's name that are kept; a longer one, or one with escapes, is told as `*`.
pub const NAME_BYTES_MAX: usize = 256;
/// Fields whose names are remembered while it is not known what their object is.
pub const NAMES_MAX: usize = 32;

/// Members that only a header has: without a Payload beside them there are no fields (a keep-alive).
const HEADERS: [&[u8]; 5] = [b"MessageId", b"MessageType", b"DataSetWriterId", b"DataSetWriterName", b"ActionTargetId"];

/// What an array or object is to the count. Roles go outside in: each stands at a depth of its own, at most the fourth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The whole, or an element of `Messages`: a NetworkMessage, a DataSetMessage or a bare payload.
    Message,
    Messages,
    Payload,
    Other,
}

/// What was found in one object that may be a message.
#[derive(Debug, Default)]
struct Found {
    members: u64,
    fields: u64,
    header: bool,
    payload: bool,
    /// It had `Messages`, and what those held.
    messages: Option<u64>,
    /// Names of its own members; of its payload's.
    own: Names,
    named: Names,
}

/// Names, each ended by a zero.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) text: Vec<u8>,
    pub(super) count: usize,
    /// Some name is not among them.
    pub(super) more: bool,
}

impl Names {
    pub(super) fn add(&mut self, name: Option<&[u8]>) {
        match name.filter(|name| !name.is_empty() && self.count < NAMES_MAX && !name.contains(&0)) {
            Some(name) => {
                self.text.extend_from_slice(name);
                self.text.push(0);
                self.count += 1;
            }
            None => self.more = true,
        }
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.count = 0;
        self.more = false;
    }

    fn append(&mut self, other: &Self) {
        self.more |= other.more;
        for name in other.text.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            self.add(Some(name));
        }
    }
}

impl Found {
    fn memory_bytes(&self) -> usize {
        self.own.text.capacity() + self.named.text.capacity()
    }

    fn clear(&mut self) {
        (self.members, self.fields, self.header, self.payload, self.messages) = (0, 0, false, false, None);
        self.own.clear();
        self.named.clear();
    }

    /// Its fields, and their names added to `names`.
    fn close(&self, names: &mut Names) -> u64 {
        if let Some(fields) = self.messages {
            return fields;
        }
        if self.payload {
            names.append(&self.named);
            return self.fields;
        }
        if self.header {
            return 0;
        }
        names.append(&self.own);
        self.members
    }
}

/// What the grammar awaits (RFC 8259).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Await {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
    String { key: bool, escape: bool },
    Scalar,
}

/// One walk over one payload.
#[derive(Debug)]
pub(super) struct Walk {
    /// A bit for each open array or object: an object has 1.
    objects: u64,
    depth: usize,
    roles: [Role; 5],
    awaited: Await,
    key: Vec<u8>,
    key_cut: bool,
    /// The whole, if it is an object, and the message inside it.
    outer: Found,
    inner: Found,
    values: u64,
    names: Names,
}

impl Walk {
    pub(super) fn new() -> Self {
        Self {
            objects: 0,
            depth: 0,
            roles: [Role::Other; 5],
            awaited: Await::Value,
            key: Vec::new(),
            key_cut: false,
            outer: Found::default(),
            inner: Found::default(),
            values: 0,
            names: Names::default(),
        }
    }

    /// Begins anew, with the memory that there is.
    pub(super) fn restart(&mut self) {
        (self.objects, self.depth, self.awaited, self.values) = (0, 0, Await::Value, 0);
        self.outer.clear();
        self.inner.clear();
        self.names.clear();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.key.capacity() + self.names.text.capacity() + self.outer.memory_bytes() + self.inner.memory_bytes()
    }

    /// The next bytes of the payload.
    ///
    /// # Errors
    /// They are no JSON, or nested too deep.
    pub(super) fn walk(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.awaited {
                Await::String { key, escape: true } => self.awaited = Await::String { key, escape: false },
                Await::String { key, escape: false } => {
                    let end = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                    let (text, after) = bytes.split_at(end);
                    if key && matches!(self.role(), Role::Message | Role::Payload) {
                        self.keep(text);
                    }
                    bytes = after;
                    match bytes.split_first() {
                        Some((b'"', after)) => {
                            bytes = after;
                            self.string_ended(key);
                        }
                        Some((_, after)) => {
                            bytes = after;
                            self.key_cut |= key;
                            self.awaited = Await::String { key, escape: true };
                        }
                        None => {}
                    }
                    continue;
                }
                Await::Scalar => {
                    let of_scalar = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                    match bytes.iter().position(|byte| !of_scalar(byte)) {
                        Some(end) => {
                            bytes = bytes.get(end..).unwrap_or_default();
                            self.value_ended();
                        }
                        None => return Ok(()),
                    }
                    continue;
                }
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {}
                _ => self.token(byte)?,
            }
            bytes = rest;
        }
        Ok(())
    }

    /// The payload is over: its fields.
    ///
    /// # Errors
    /// It is cut.
    pub(super) fn end(&mut self, names: &mut Names) -> Result<u64, DecodeError> {
        if self.awaited == Await::Scalar {
            self.value_ended();
        }
        if self.awaited != Await::Nothing {
            return Err(DecodeError::new("arrays and objects open at the end", self.depth as u64, "none"));
        }
        names.append(&self.names);
        Ok(self.values)
    }

    fn token(&mut self, byte: u8) -> Result<(), DecodeError> {
        let wrong = || DecodeError::new("byte", byte.into(), "one that JSON has here");
        match (self.awaited, byte) {
            (Await::Value | Await::ValueOrEnd, b'{' | b'[') => self.open(byte == b'{')?,
            (Await::Value | Await::ValueOrEnd, b'"') => self.awaited = Await::String { key: false, escape: false },
            (Await::Value | Await::ValueOrEnd, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => self.awaited = Await::Scalar,
            (Await::Key | Await::KeyOrEnd, b'"') => {
                self.key.clear();
                self.key_cut = false;
                self.awaited = Await::String { key: true, escape: false };
            }
            (Await::Colon, b':') => self.awaited = Await::Value,
            (Await::CommaOrEnd, b',') => self.awaited = if self.in_object() { Await::Key } else { Await::Value },
            (Await::KeyOrEnd, b'}') => self.close(),
            (Await::ValueOrEnd, b']') => self.close(),
            (Await::CommaOrEnd, b'}') if self.in_object() => self.close(),
            (Await::CommaOrEnd, b']') if !self.in_object() => self.close(),
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// What the innermost open array or object is.
    fn role(&self) -> Role {
        self.depth.checked_sub(1).and_then(|at| self.roles.get(at)).copied().unwrap_or(Role::Other)
    }

    fn open(&mut self, object: bool) -> Result<(), DecodeError> {
        if self.depth >= DEPTH_MAX {
            return Err(DecodeError::new("nesting", self.depth as u64 + 1, "at most DEPTH_MAX"));
        }
        let role = match (self.depth, self.role(), object) {
            (0, _, true) => Role::Message,
            (0, _, false) => Role::Messages,
            (_, Role::Messages, true) => Role::Message,
            (_, Role::Message, _) if self.in_object() => match self.key.as_slice() {
                b"Messages" if self.depth == 1 && !self.key_cut => {
                    self.outer.messages.get_or_insert(0);
                    if object { Role::Message } else { Role::Messages }
                }
                b"Payload" if object && !self.key_cut => Role::Payload,
                _ => Role::Other,
            },
            _ => Role::Other,
        };
        if let Some(slot) = self.roles.get_mut(self.depth) {
            *slot = role;
        }
        if role == Role::Message && self.depth > 0 {
            self.inner.clear();
        }
        self.objects = self.objects << 1 | u64::from(object);
        self.depth += 1;
        self.awaited = if object { Await::KeyOrEnd } else { Await::ValueOrEnd };
        Ok(())
    }

    fn close(&mut self) {
        let role = self.role();
        self.depth = self.depth.saturating_sub(1);
        self.objects >>= 1;
        if role == Role::Message {
            let whole = self.depth == 0;
            let found = if whole { &self.outer } else { &self.inner };
            let fields = found.close(&mut self.names);
            match &mut self.outer.messages {
                Some(sum) if !whole => *sum = sum.saturating_add(fields),
                _ => self.values = self.values.saturating_add(fields),
            }
        }
        self.value_ended();
    }

    fn value_ended(&mut self) {
        self.awaited = if self.depth == 0 { Await::Nothing } else { Await::CommaOrEnd };
    }

    fn string_ended(&mut self, key: bool) {
        if !key {
            self.value_ended();
            return;
        }
        self.awaited = Await::Colon;
        let name = Some(self.key.as_slice()).filter(|_| !self.key_cut);
        // A message in `Messages`, or the whole.
        let within = |depth: usize| if depth <= 1 { 0 } else { 1 };
        match self.role() {
            Role::Message => {
                let found = if within(self.depth) == 0 { &mut self.outer } else { &mut self.inner };
                found.members += 1;
                found.header |= name.is_some_and(|name| HEADERS.contains(&name));
                found.payload |= name == Some(b"Payload");
                found.own.add(name);
            }
            Role::Payload => {
                let found = if within(self.depth - 1) == 0 { &mut self.outer } else { &mut self.inner };
                found.fields += 1;
                found.named.add(name);
            }
            Role::Messages | Role::Other => {}
        }
    }

    fn keep(&mut self, text: &[u8]) {
        if self.key.len() + text.len() > NAME_BYTES_MAX {
            self.key_cut = true;
        } else {
            self.key.extend_from_slice(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields and names, whole and byte by byte.
    fn fields(text: &str) -> Result<(u64, String), ()> {
        let mut answers = [1, text.len().max(1)].map(|piece| {
            let (mut walk, mut names) = (Walk::new(), Names::default());
            let read = text.as_bytes().chunks(piece).try_for_each(|part| walk.walk(part)).and_then(|()| walk.end(&mut names));
            let told = String::from_utf8_lossy(&names.text).replace('\0', " ");
            read.map(|fields| (fields, if names.more { "*".to_owned() } else { told.trim_end().to_owned() })).map_err(|_| ())
        });
        assert_eq!(answers[0], answers[1], "byte by byte: {text}");
        std::mem::replace(&mut answers[0], Err(()))
    }

    fn told(fields: u64, names: &str) -> Result<(u64, String), ()> {
        Ok((fields, names.to_owned()))
    }

    #[test]
    fn fields_are_counted_whichever_headers_are_there() {
        let message = r#"{"DataSetWriterId": 1, "Payload": {"a": {"Type": 1, "Body": [1, 2]}, "b": null}}"#;
        assert_eq!(fields(message), told(2, "a b"));
        assert_eq!(fields(&format!("[{message}, {message}]")), told(4, "a b a b"));
        for order in [r#"{"MessageId": "x", "Messages": [M, M]}"#, r#" { "Messages" : [M ,M] , "MessageType": "ua-data" } "#] {
            assert_eq!(fields(&order.replace('M', message).replace(&format!("{message}essage"), "Message")), told(4, "a b a b"), "{order}");
        }
        assert_eq!(fields(&format!(r#"{{"MessageId": "x", "Messages": {message}}}"#)), told(2, "a b"));
        assert_eq!(fields(r#"{"MessageId": "x", "Messages": [{"c": 1}, {"d": {"Payload": {"e": 1}}}]}"#), told(2, "c d"));
        assert_eq!(fields(r#"{"c": 1, "d": "}]\"{", "e": {"x": [{}]}}"#), told(3, "c d e"));
    }

    #[test]
    fn headers_without_a_payload_have_no_fields() {
        for none in
            [r#"{"MessageId": "x", "MessageType": "ua-keepalive"}"#, r#"[{"DataSetWriterId": 1, "Timestamp": "t"}]"#, "{}", "[]", "7"]
        {
            assert_eq!(fields(none), told(0, ""), "{none}");
        }
    }

    #[test]
    fn what_is_no_json_or_nested_too_deep_is_refused() {
        for wrong in ["", "{", "{]", "[1,]", r#"{"a" 1}"#, "{} {}", r#"{"a": 1"#, "\u{1}", "[1}", r#"{"a": 'x'}"#] {
            assert_eq!(fields(wrong), Err(()), "{wrong}");
        }
        let nested = |depth: usize| format!(r#"{{"a": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(fields(&nested(DEPTH_MAX - 1)), told(1, "a"));
        assert_eq!(fields(&nested(DEPTH_MAX)), Err(()));
    }

    #[test]
    fn names_with_escapes_and_names_too_many_or_too_long_are_not_told() {
        let many = |count: usize| (0..count).map(|n| format!(r#""n{n}": 1"#)).collect::<Vec<_>>().join(", ");
        assert_eq!(fields(r#"{"a\u0062": 1}"#), told(1, "*"));
        assert_eq!(fields(&format!(r#"{{"{}": 1}}"#, "n".repeat(NAME_BYTES_MAX + 1))), told(1, "*"));
        assert_eq!(fields(&format!("{{{}}}", many(NAMES_MAX))).unwrap().1.split(' ').count(), NAMES_MAX);
        assert_eq!(fields(&format!("{{{}}}", many(NAMES_MAX + 1))), told(33, "*"));
    }
}
