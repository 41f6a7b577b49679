//! The protocols: one file each, one line each in [`TCP`] or [`UDP`].
//!
//! A decoder is given the bytes of a stream in order, as slices of the packets themselves, and tells a
//! [`Recorder`] what they belong to. It never sees a packet, a clock or another connection.

use crate::windows::{Facts, Recorder, Side};

mod claims;
pub mod dns;
mod few;
pub mod http;
mod inner;
pub mod mqtt;
pub mod mysql;
pub mod opcua;
pub mod postgresql;
pub mod quic;
mod read;
mod search;
pub mod socks;
pub mod tds;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod texts;
pub mod tls;
pub mod tns;
pub mod websocket;

/// Bytes of each side kept until a protocol is recognised; most need fewer than twelve.
pub const HEAD_BYTES_MAX: usize = 64;
/// Bytes kept of a connection, or of what goes through one, whose protocol is still in doubt.
pub const UNDECIDED_BYTES_MAX: usize = 4096;

/// What the decoders of one sensor share.
#[derive(Default)]
pub struct Shared {
    pub(crate) statements: texts::Texts<postgresql::Parsed>,
    pub(crate) texts: texts::Texts<mysql::Known>,
    pub(crate) oracle: texts::Texts<tns::Known>,
    pub(crate) batches: texts::Texts<tds::Texted>,
    pub(crate) postgresql: postgresql::Spare,
}

/// These bytes are not this protocol, or no longer. The connection goes on as counted bytes, marked `malformed`.
/// Never carries payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    pub what: &'static str,
    pub found: u64,
    pub expected: &'static str,
}

impl DecodeError {
    #[must_use]
    pub fn new(what: &'static str, found: u64, expected: &'static str) -> Self {
        Self { what, found, expected }
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}, expected {}", self.what, self.found, self.expected)
    }
}

/// What a decoder should gather beside its observations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Gather facts for `hopwatch inspect`.
    pub facts: bool,
    /// The first byte of the connection was not seen: begin in the middle.
    pub midstream: bool,
}

/// The state machine of one protocol on one connection.
///
/// Every byte given to [`Decoder::data`] is either claimed at once ([`Recorder::add`]) or later, when the frame it
/// begins is understood; what a decoder carries meanwhile is bounded. Bodies that are not needed are skipped by
/// length, and claimed as they arrive.
pub trait Decoder: Send {
    /// The next bytes sent by `sender`.
    ///
    /// # Errors
    /// The bytes are not this protocol; the decoder is not called again.
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError>;

    /// `length` bytes from `sender` were lost here. A body being skipped swallows them; otherwise the decoder looks
    /// for the next frame. Nothing is claimed for lost bytes.
    ///
    /// # Errors
    /// As for [`Decoder::data`].
    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError>;

    /// The connection ended. Bytes still carried are settled by the windows.
    fn close(&mut self, _out: &mut Recorder<'_>) {}

    /// Whether [`Decoder::close`] would say nothing, and surely so: then a decoder whose streams have ended is let go at once.
    fn has_said_all(&self) -> bool {
        false
    }

    /// What `hopwatch inspect` shows, under the protocol's name (several, if one carries another). Empty unless
    /// [`Options::facts`].
    fn facts(&self, _into: &mut Facts) {}

    /// Bytes of memory held, roughly: buffers and tables.
    fn memory_bytes(&self) -> usize;

    /// Asks for the memory behind it that its next bytes will need; its own has been asked for before.
    fn soon(&self) {}
}

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// Not this protocol.
    No,
    /// Too few bytes to tell.
    More,
    /// This protocol; `client` is the side, as guessed by the caller, that is the protocol's client.
    Yes { client: Side },
}

/// The first bytes of both sides (at most [`HEAD_BYTES_MAX`] each, perhaps none), sides as guessed by the caller:
/// who sent the SYN is the client; without a SYN, the higher port.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    pub client: &'a [u8],
    pub server: &'a [u8],
    /// Ports of (client, server): a hint that may order the questions, never decide them.
    pub ports: (u16, u16),
    /// The connection's first bytes were not seen.
    pub midstream: bool,
}

/// One line of the registry.
pub struct Protocol {
    pub name: &'static str,
    pub recognise: fn(&Heads<'_>) -> Recognition,
    pub decoder: fn(Options) -> Box<dyn Decoder>,
}

/// What may begin at a segment of the client in a connection that nobody reads: TLS, after STARTTLS and its kin.
#[must_use]
pub fn later(segment: &[u8]) -> Option<&'static Protocol> {
    if tls::starts(segment) {
        Some(&tls::TLS)
    } else if tds::starts(segment) {
        Some(&tds::TDS)
    } else {
        None
    }
}

/// Protocols on TCP, asked in this order; the first `Yes` wins once no earlier one says `More`.
pub const TCP: &[Protocol] =
    &[tls::TLS, postgresql::POSTGRESQL, mysql::MYSQL, tds::TDS, mqtt::MQTT, http::HTTP, opcua::OPCUA, tns::TNS, socks::SOCKS, dns::DNS_TCP];

/// Protocols on UDP: each datagram is one call of [`Decoder::data`].
pub const UDP: &[Protocol] = &[quic::QUIC, dns::DNS_UDP];
