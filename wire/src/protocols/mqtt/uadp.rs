//! The UADP mapping of OPC UA PubSub (OPC 10000-14, 7.2.4): how many fields a NetworkMessage says it has.
//!
//! The headers are read field by field, and the walk can stop after any byte; values are passed over by the sizes that stand
//! before them, or one by one where no size does. What only the configuration of a writer tells (fields of RawData), what is
//! encrypted, and what comes in chunks is not counted, and said.

use crate::protocols::DecodeError;
use crate::protocols::opcua::types::{self, Op, Sink, Tag};

/// What comes next; each is of fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Flags,
    Flags1,
    Flags2,
    PublisherLength,
    GroupFlags,
    Count,
    Promoted,
    Security,
    Footer,
    Size,
    Message,
    MessageFlags2,
    Fields,
    ActionFields,
    /// Fields one by one, of a message without a size.
    Values,
    /// Nothing after this is wanted.
    Rest,
}

/// Nothing of a value is wanted but its end.
struct Nobody;

impl Sink for Nobody {
    fn number(&mut self, _: Tag, _: u32) {}
    fn text(&mut self, _: Tag, _: &[u8]) {}
    fn node(&mut self, _: Tag, _: &[u8]) {}
    fn array(&mut self, _: Tag, _: u32) {}
    fn element(&mut self, _: Tag) {}
    fn service(&mut self, _: u32) -> Option<&'static [Op]> {
        None
    }
}

/// A field by its encoding, and in a delta frame its index before it (7.2.4.5.6).
fn grammar(delta: bool, data_value: bool) -> &'static [Op] {
    match (delta, data_value) {
        (false, false) => &[Op::Variant],
        (false, true) => &[Op::DataValue],
        (true, false) => &[Op::Skip(2), Op::Variant],
        (true, true) => &[Op::Skip(2), Op::DataValue],
    }
}

impl At {
    fn bytes(self) -> usize {
        match self {
            Self::Flags | Self::Flags1 | Self::Flags2 | Self::GroupFlags | Self::Count | Self::Message | Self::MessageFlags2 => 1,
            Self::Promoted | Self::Footer | Self::Size | Self::Fields => 2,
            Self::PublisherLength => 4,
            // SecurityFlags, SecurityTokenId, NonceLength.
            Self::Security => 6,
            // ActionTargetId, RequestId, ActionState, FieldCount (7.2.4.5.9).
            Self::ActionFields => 7,
            Self::Values | Self::Rest => 0,
        }
    }
}

/// One walk over one payload.
#[derive(Debug)]
pub(super) struct Walk {
    at: At,
    carry: [u8; 8],
    carried: usize,
    /// Bytes to be passed over first.
    skip: u64,
    position: u64,
    length: u64,
    flags: u8,
    flags1: u8,
    flags2: u8,
    security: u8,
    /// Messages, where the payload header counts them; their sizes, and the end of the one at hand.
    count: Option<u8>,
    sizes: Vec<u16>,
    message: usize,
    message_end: u64,
    message_flags: u8,
    /// Fields that are passed one by one, and how they are encoded.
    fields_left: u16,
    grammar: &'static [Op],
    field: Option<Box<types::Walker>>,
    values: u64,
    /// There is something that is not counted.
    unknown: bool,
}

impl Walk {
    /// Of a payload of so many bytes.
    pub(super) fn new(length: u64) -> Self {
        Self {
            at: At::Flags,
            carry: [0; 8],
            carried: 0,
            skip: 0,
            position: 0,
            length,
            flags: 0,
            flags1: 0,
            flags2: 0,
            security: 0,
            count: None,
            sizes: Vec::new(),
            message: 0,
            message_end: 0,
            message_flags: 0,
            fields_left: 0,
            grammar: &[],
            field: None,
            values: 0,
            unknown: false,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        2 * self.sizes.capacity() + self.field.as_ref().map_or(0, |field| size_of_val(&**field) + field.memory_bytes())
    }

    /// Without a payload header nothing tells a signature from another message: there may be more.
    pub(super) fn supposed(&self) -> bool {
        self.count.is_none() && self.flags1 & 0x10 != 0 && self.values > 0
    }

    /// The next bytes of the payload.
    ///
    /// # Errors
    /// They are no such message.
    pub(super) fn walk(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        loop {
            if self.skip > 0 {
                let taken = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(taken..).unwrap_or_default();
                self.skip -= taken as u64;
                self.position += taken as u64;
                if self.skip > 0 {
                    return Ok(());
                }
            }
            if self.at == At::Values {
                if !self.pass(&mut bytes)? {
                    return Ok(());
                }
                continue;
            }
            if self.at == At::Rest {
                self.skip = self.length.saturating_sub(self.position);
                if self.skip == 0 {
                    return if bytes.is_empty() { Ok(()) } else { Err(DecodeError::new("bytes too many", bytes.len() as u64, "none")) };
                }
                continue;
            }
            let wanted = self.at.bytes() - self.carried;
            let taken = wanted.min(bytes.len());
            let (head, rest) = bytes.split_at(taken);
            if let Some(slot) = self.carry.get_mut(self.carried..self.carried + taken) {
                slot.copy_from_slice(head);
            }
            bytes = rest;
            self.carried += taken;
            self.position += taken as u64;
            if taken < wanted {
                return Ok(());
            }
            self.carried = 0;
            self.read(self.carry)?;
            if self.skip > self.length.saturating_sub(self.position) {
                return Err(DecodeError::new("length of a field", self.skip, "at most what is left of the payload"));
            }
        }
    }

    /// The payload is over: its fields; `None` where there are some that are not counted.
    ///
    /// # Errors
    /// It is cut.
    pub(super) fn end(&mut self) -> Result<Option<u64>, DecodeError> {
        if self.at != At::Rest || self.skip > 0 {
            return Err(DecodeError::new("end of the payload at", self.position, "the end of its messages"));
        }
        Ok((!self.unknown).then_some(self.values))
    }

    fn read(&mut self, bytes: [u8; 8]) -> Result<(), DecodeError> {
        let [byte, second, third, fourth, _, sixth, seventh, _] = bytes;
        let short = u16::from_le_bytes([byte, second]);
        match self.at {
            At::Flags => {
                if byte & 0x0f != 1 {
                    return Err(DecodeError::new("UADPVersion", (byte & 0x0f).into(), "1"));
                }
                self.flags = byte;
                if byte & 0x80 != 0 {
                    self.at = At::Flags1;
                } else {
                    self.publisher();
                }
            }
            At::Flags1 => {
                self.flags1 = byte;
                if byte & 0x80 != 0 {
                    self.at = At::Flags2;
                } else {
                    self.publisher();
                }
            }
            At::Flags2 => {
                self.flags2 = byte;
                self.publisher();
            }
            At::PublisherLength => {
                let length = u32::from_le_bytes([byte, second, third, fourth]);
                self.skip = if length > i32::MAX as u32 { 0 } else { length.into() };
                self.class();
            }
            At::GroupFlags => {
                // WriterGroupId, GroupVersion, NetworkMessageNumber, SequenceNumber.
                self.skip = bits(byte, &[2, 4, 2, 2]);
                self.payload_header();
            }
            At::Count => {
                self.count = Some(byte);
                self.skip = 2 * u64::from(byte);
                self.extended();
            }
            At::Promoted => {
                self.skip = short.into();
                self.security();
            }
            At::Security => {
                self.security = byte;
                self.skip = sixth.into();
                if byte & 0x04 != 0 {
                    self.at = At::Footer;
                } else {
                    self.payload();
                }
            }
            At::Footer => self.payload(),
            At::Size => {
                self.sizes.push(short);
                if self.sizes.len() >= usize::from(self.count.unwrap_or(0)) {
                    self.begin_message();
                }
            }
            At::Message => {
                self.message_flags = byte;
                if byte & 0x80 != 0 {
                    self.at = At::MessageFlags2;
                } else {
                    self.message_header(0);
                }
            }
            At::MessageFlags2 => self.message_header(byte),
            At::Fields => self.fields(short)?,
            At::ActionFields => self.fields(u16::from_le_bytes([sixth, seventh]))?,
            At::Values | At::Rest => {}
        }
        Ok(())
    }

    /// Passes over fields; false if the bytes ended in one.
    fn pass(&mut self, bytes: &mut &[u8]) -> Result<bool, DecodeError> {
        while self.fields_left > 0 {
            if bytes.is_empty() {
                return Ok(false);
            }
            let (grammar, before) = (self.grammar, bytes.len());
            let field = self.field.get_or_insert_with(|| Box::new(types::Walker::new(grammar)));
            let walked = field.walk(bytes, &mut Nobody)?;
            self.position += (before - bytes.len()) as u64;
            if walked == types::Walk::More {
                return Ok(false);
            }
            self.field = None;
            self.fields_left -= 1;
        }
        // Another message, or a signature.
        if self.flags1 & 0x10 != 0 {
            self.at = At::Rest
        } else {
            self.next_message()
        }
        Ok(true)
    }

    /// The message after this one, where no size tells where it begins.
    fn next_message(&mut self) {
        self.at = if self.position + self.skip < self.length { At::Message } else { At::Rest };
    }

    /// (Table 154 of OPC 10000-14, 7.2.4.4.2, as all that follow)
    fn publisher(&mut self) {
        if self.flags & 0x10 == 0 {
            return self.class();
        }
        self.skip = match self.flags1 & 0x07 {
            0 => 1,
            1 => 2,
            2 => 4,
            3 => 8,
            4 => {
                self.at = At::PublisherLength;
                return;
            }
            _ => return self.unread(),
        };
        self.class();
    }

    fn class(&mut self) {
        self.skip += if self.flags1 & 0x08 != 0 { 16 } else { 0 };
        if self.flags & 0x20 != 0 {
            self.at = At::GroupFlags;
        } else {
            self.payload_header();
        }
    }

    fn payload_header(&mut self) {
        // Bit 0: a chunk; bits 2 to 4: a discovery message, which has no fields; from bit 5 on: headers of Actions.
        if self.flags2 & 0xe1 != 0 {
            self.unread();
        } else if self.flags2 & 0x1c != 0 {
            self.at = At::Rest;
        } else if self.flags & 0x40 != 0 {
            self.at = At::Count;
        } else {
            self.extended();
        }
    }

    fn extended(&mut self) {
        self.skip += bits(self.flags1 >> 5, &[8, 2]);
        if self.flags2 & 0x02 != 0 {
            self.at = At::Promoted;
        } else {
            self.security();
        }
    }

    fn security(&mut self) {
        if self.flags1 & 0x10 != 0 {
            self.at = At::Security;
        } else {
            self.payload();
        }
    }

    fn payload(&mut self) {
        if self.security & 0x02 != 0 {
            return self.unread();
        }
        match self.count {
            Some(0) => self.at = At::Rest,
            Some(2..) => self.at = At::Size,
            _ => self.begin_message(),
        }
    }

    /// Encrypted, a chunk, of a kind that is not known: bytes only.
    fn unread(&mut self) {
        self.unknown = true;
        self.at = At::Rest;
    }

    fn begin_message(&mut self) {
        let size = self.sizes.get(self.message).copied();
        if self.message > 0 && size.is_none() {
            self.at = At::Rest;
            return;
        }
        // What is left of the skip lies before it.
        let from = self.position + self.skip;
        self.message_end = size.map_or(self.length, |size| from + u64::from(size));
        self.at = At::Message;
        if self.message_end == from {
            self.end_message();
        }
    }

    /// Passes over what is left of the message.
    fn end_message(&mut self) {
        let from = self.position + self.skip;
        self.skip += self.message_end.saturating_sub(from);
        self.message += 1;
        if self.message >= self.sizes.len() {
            self.at = At::Rest;
        } else {
            self.begin_message();
        }
    }

    /// (7.2.4.5.4)
    fn message_header(&mut self, flags2: u8) {
        let flags = self.message_flags;
        self.skip = bits(flags2 >> 4, &[8, 2]) + bits(flags >> 3, &[2, 2, 4, 4]);
        let raw = flags & 0x06 == 0x02;
        if flags & 0x01 == 0 {
            // Not valid: nobody is to read on.
            return self.end_message();
        }
        match flags2 & 0x0f {
            0 | 1 if raw => {
                self.unknown |= self.message_end > self.position + self.skip;
                self.end_message();
            }
            kind @ 0..=2 => {
                self.at = At::Fields;
                self.grammar = grammar(kind == 1, flags & 0x06 == 0x04 && kind != 2);
                if self.message_end == self.position + self.skip {
                    // A heartbeat is a header alone (7.2.4.5.5).
                    self.end_message();
                }
            }
            3 if self.count.is_none() => self.next_message(),
            3 => self.end_message(),
            5 | 6 if !raw => {
                self.at = At::ActionFields;
                self.grammar = grammar(false, false);
            }
            _ => {
                self.unknown = true;
                self.end_message();
            }
        }
    }

    /// A count that the bytes after it cannot hold is none.
    fn fields(&mut self, count: u16) -> Result<(), DecodeError> {
        let left = self.message_end.saturating_sub(self.position);
        if self.message_end < self.position || u64::from(count) > left {
            return Err(DecodeError::new("FieldCount", count.into(), "at most the bytes that are left"));
        }
        self.values += u64::from(count);
        if self.count.is_none() {
            self.fields_left = count;
            self.at = At::Values;
        } else {
            self.end_message();
        }
        Ok(())
    }
}

/// The sum of the sizes whose bits are set, from the lowest bit on.
fn bits(flags: u8, sizes: &[u64]) -> u64 {
    sizes.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, size)| size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::testing::bytes;

    /// Fields, whole and byte by byte; `None` where some are not counted.
    fn fields(payload: &[u8]) -> Result<Option<u64>, ()> {
        let mut answers = [1, payload.len().max(1)].map(|piece| {
            let mut walk = Walk::new(payload.len() as u64);
            payload.chunks(piece).try_for_each(|part| walk.walk(part)).and_then(|()| walk.end()).map_err(|_| ())
        });
        assert_eq!(answers[0], answers[1], "byte by byte");
        std::mem::replace(&mut answers[0], Err(()))
    }

    #[test]
    fn fields_of_every_message_are_counted_by_what_the_headers_say() {
        let boolean = "01 01"; // a Variant
        let one = format!("01 02 00 {boolean} {boolean}");
        // Publisher of one byte, two messages with their sizes.
        assert_eq!(fields(&bytes(&format!("51 07 02 01 00 02 00 07 00 07 00 {one} {one}"))), Ok(Some(4)));
        // UInt64 publisher, class, timestamp, picoseconds; one message without size; group header of all fields.
        let header =
            format!("f1 6b {} {} 0f 01 00 01 00 00 00 01 00 01 00 01 01 00 {} 05 00", "00".repeat(8), "00".repeat(16), "00".repeat(8));
        assert_eq!(fields(&bytes(&format!("{header} {one}"))), Ok(Some(2)));
        // All headers of a message: sequence, timestamp, picoseconds, status, versions; a delta frame.
        let full = format!("f9 31 01 00 {} 05 00 00 00 01 00 00 00 01 00 00 00 01 00 03 00 {boolean}", "00".repeat(8));
        assert_eq!(fields(&bytes(&format!("41 01 01 00 {full}"))), Ok(Some(1)));
        // Heartbeat, keep-alive, a message that is not valid; a discovery announcement; a NetworkMessage of none.
        for none in ["41 01 01 00 01", "41 01 01 00 81 03", "41 01 01 00 00 05 00", "81 80 08 02 01 00", "41 00"] {
            assert_eq!(fields(&bytes(none)), Ok(Some(0)), "{none}");
        }
        // Actions: target, request, state, fields (7.2.4.5.9).
        assert_eq!(fields(&bytes("41 01 01 00 81 05 01 00 02 00 01 01 00 01 01")), Ok(Some(1)));
    }

    #[test]
    fn raw_fields_encryption_and_chunks_are_not_counted_and_said() {
        for unknown in ["41 01 01 00 03 00 00 00 00", "81 10 03 01 00 00 00 02 aa bb cc dd", "81 80 01 01 00", "81 80 20 01 02 03"] {
            assert_eq!(fields(&bytes(unknown)), Ok(None), "{unknown}");
        }
        // Signed only: the signature follows the message.
        assert_eq!(fields(&bytes("c1 10 01 01 00 01 01 00 00 00 02 aa bb 01 01 00 01 01 dd dd dd dd")), Ok(Some(1)));
    }

    #[test]
    fn counts_and_sizes_beyond_the_payload_are_refused() {
        for wrong in
            ["", "02 00", "41 01 01 00 01 05 00 01", "51 07 02 01 00 02 00 07 00 ff ff 01 01 00 01 01", "41 01", "91 04 ff ff ff 7f 00"]
        {
            assert_eq!(fields(&bytes(wrong)), Err(()), "{wrong}");
        }
    }

    #[test]
    fn without_a_payload_header_messages_end_where_their_fields_do() {
        // A string, a DataValue with its time, an array, index and value of a delta frame; then zeros that fill up.
        let string = "01 02 00 0c 03 00 00 00 61 62 63 01 00";
        let values = format!("05 01 00 05 01 01 {}", "00".repeat(8));
        let delta = "81 01 01 00 07 00 86 02 00 00 00 01 00 00 00 02 00 00 00";
        assert_eq!(fields(&bytes(&format!("01 {string} {values} 81 03 {delta} 00 00 00"))), Ok(Some(4)));
        assert_eq!(fields(&bytes(&format!("01 {string} 03 aa bb"))), Ok(None), "RawData behind it");
        for wrong in ["01 01 02 00 01 01", "01 01 01 00 0c 09 00 00 00 61", "01 01 01 00 01 01 01 09 00 01 01"] {
            assert_eq!(fields(&bytes(wrong)), Err(()), "{wrong}");
        }
        let signed = bytes("81 10 01 01 00 00 00 00 01 01 00 01 01 dd dd dd");
        let mut walk = Walk::new(signed.len() as u64);
        walk.walk(&signed).unwrap();
        assert_eq!((walk.end().unwrap(), walk.supposed()), (Some(1), true), "a signature, or another message");
    }
}
