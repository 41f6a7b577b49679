//! What a connection carries inside another protocol: behind a relay's CONNECT, after an Upgrade.
//!
//! Recognised by the same registry as a connection's first bytes. What nobody recognises is counted, and watched for a
//! TLS handshake that begins later.

use super::{DecodeError, Decoder, HEAD_BYTES_MAX, Heads, Options, Recognition, TCP, UNDECIDED_BYTES_MAX, http, socks};
use crate::windows::{Counts, Depth, Facts, Movement, Operation, Recorder, Side};

enum State {
    Undecided { pieces: Vec<(Side, Vec<u8>)>, bytes: usize },
    Decoding(Box<dyn Decoder>),
    Opaque,
}

pub(super) struct Inner {
    options: Options,
    /// How many more relays may stand one inside the other.
    levels: u8,
    state: State,
}

impl Inner {
    /// Bytes whose protocol is to be found out.
    pub(super) fn unknown(options: Options, levels: u8) -> Self {
        Self { options, levels, state: State::Undecided { pieces: Vec::new(), bytes: 0 } }
    }

    /// Bytes that nobody reads.
    pub(super) fn opaque(options: Options) -> Self {
        Self { options, levels: 0, state: State::Opaque }
    }

    /// Asks the registry; `enough` if no more bytes may be waited for. Returns whether it is decided.
    fn decide(&mut self, enough: bool, out: &mut Recorder<'_>) -> Result<bool, DecodeError> {
        let State::Undecided { pieces, bytes } = &mut self.state else { return Ok(true) };
        let mut heads: [Vec<u8>; 2] = Default::default();
        for (side, piece) in pieces.iter() {
            let head = &mut heads[*side as usize];
            head.extend(piece.iter().take(HEAD_BYTES_MAX - head.len()));
        }
        let enough = enough || *bytes > UNDECIDED_BYTES_MAX || heads.iter().all(|head| head.len() >= HEAD_BYTES_MAX);
        let asked = Heads { client: &heads[0], server: &heads[1], ports: (0, 0), midstream: false };
        let mut found = None;
        for protocol in TCP {
            match (protocol.recognise)(&asked) {
                // Who asked the relay is the client of what follows; the other way round is not followed.
                Recognition::Yes { client: Side::Client } => {
                    found = Some(protocol);
                    break;
                }
                Recognition::More if !enough => return Ok(false),
                _ => {}
            }
        }
        let kept = std::mem::take(pieces);
        self.state = match found {
            Some(protocol) if !matches!(protocol.name, "http" | "socks") => State::Decoding((protocol.decoder)(self.options)),
            Some(protocol) if self.levels > 0 => {
                let relay = if protocol.name == "http" { http::within } else { socks::within };
                State::Decoding(relay(self.options, self.levels - 1))
            }
            _ => {
                out.depth(Depth::Sizes);
                State::Opaque
            }
        };
        for (side, piece) in kept {
            self.data(side, &piece, out)?;
        }
        Ok(true)
    }
}

impl Decoder for Inner {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if let (State::Opaque, Side::Client, Some(protocol)) = (&self.state, sender, super::later(bytes)) {
            out.cut();
            self.state = State::Decoding((protocol.decoder)(self.options));
        }
        match &mut self.state {
            State::Decoding(decoder) => decoder.data(sender, bytes, out),
            State::Opaque => {
                out.add(&Movement::new(Operation::Transfer, Side::Client), sender, bytes.len() as u64, Counts::ZERO);
                Ok(())
            }
            State::Undecided { pieces, bytes: kept } => {
                pieces.push((sender, bytes.to_vec()));
                *kept += bytes.len();
                self.decide(false, out).map(|_| ())
            }
        }
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        self.decide(true, out)?;
        match &mut self.state {
            State::Decoding(decoder) => decoder.gap(sender, length, out),
            _ => Ok(()),
        }
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        // A parser that gives up now leaves bytes that the windows settle.
        let _ = self.decide(true, out);
        if let State::Decoding(decoder) = &mut self.state {
            decoder.close(out);
        }
    }

    fn facts(&self, into: &mut Facts) {
        if let State::Decoding(decoder) = &self.state {
            decoder.facts(into);
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.state {
                State::Undecided { pieces, .. } => pieces.iter().map(|(_, piece)| piece.capacity() + 32).sum(),
                State::Decoding(decoder) => decoder.memory_bytes(),
                State::Opaque => 0,
            }
    }
}
