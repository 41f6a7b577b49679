//! TLS as SQL Server speaks it (MS-TDS 2.2.6.5 and 3.2.5.1): the handshake lies inside TDS packets, what follows does not.
//!
//! Where only the login is encrypted, everything after it is in the clear again, and the windows say so. TDS itself is
//! not read.

use super::{DecodeError, Decoder, Options, Protocol, Recognition, tls};
use crate::windows::{Counts, Depth, Facts, Movement, Operation, Recorder, Side};

/// Packet type PRELOGIN, whose packets carry the handshake, and the length of a packet's header (MS-TDS 2.2.3.1).
const PRELOGIN: u8 = 0x12;
const HEADER_BYTES: usize = 8;

/// Known by what begins later in a connection only ([`super::later`]).
pub const TDS: Protocol = Protocol { name: "tds", recognise: |_| Recognition::No, decoder };

/// Whether a PRELOGIN packet with a ClientHello starts here.
#[must_use]
pub fn starts(bytes: &[u8]) -> bool {
    bytes.first() == Some(&PRELOGIN) && bytes.get(HEADER_BYTES..).is_some_and(tls::starts)
}

#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    Box::new(Tds { tls: tls::embedded(options), halves: Default::default(), named: false, clear: false })
}

#[derive(Default)]
struct Half {
    head: Vec<u8>,
    /// Bytes of the packet or record at hand that are TLS.
    left: usize,
    /// From here on bytes are counted only.
    counted: bool,
}

struct Tds {
    tls: Box<dyn Decoder>,
    halves: [Half; 2],
    named: bool,
    /// One side has gone back to the clear.
    clear: bool,
}

impl Tds {
    /// One more byte of a header, of TDS or of a TLS record.
    fn head(&mut self, sender: Side, byte: u8, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let half = &mut self.halves[sender as usize];
        half.head.push(byte);
        let count = |high: u8, low: u8| usize::from(high) << 8 | usize::from(low);
        match half.head.as_slice() {
            &[PRELOGIN, _, high, low, _, _, _, _] => {
                let length = count(high, low);
                half.left = length
                    .checked_sub(HEADER_BYTES)
                    .ok_or_else(|| DecodeError::new("length of a TDS packet", length as u64, "at least 8"))?;
                half.head.clear();
                out.add(&Movement::new(Operation::Transfer, Side::Client), sender, HEADER_BYTES as u64, Counts::ZERO);
            }
            &[0x14..=0x17, _, _, high, low] => {
                half.left = count(high, low);
                let head = std::mem::take(&mut half.head);
                self.tls.data(sender, &head, out)?;
            }
            [PRELOGIN | 0x14..=0x17, ..] => {}
            _ => {
                half.head.clear();
                half.counted = true;
                if !std::mem::replace(&mut self.clear, true) {
                    out.cut();
                    out.protect(|p| p.transport = "none".into());
                    out.condition(|c| c.encrypted = false);
                }
                out.add(&Movement::new(Operation::Transfer, Side::Client), sender, 1, Counts::ZERO);
            }
        }
        Ok(())
    }
}

impl Decoder for Tds {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if !std::mem::replace(&mut self.named, true) {
            out.protocol("tds", Depth::Sizes);
        }
        let mut rest = bytes;
        while let Some(&next) = rest.first() {
            let half = &mut self.halves[sender as usize];
            let taken = if half.counted {
                out.add(&Movement::new(Operation::Transfer, Side::Client), sender, rest.len() as u64, Counts::ZERO);
                rest.len()
            } else if half.left > 0 {
                let taken = rest.len().min(half.left);
                half.left -= taken;
                self.tls.data(sender, rest.get(..taken).unwrap_or_default(), out)?;
                taken
            } else {
                self.head(sender, next, out)?;
                1
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let half = &mut self.halves[sender as usize];
        if half.counted {
            return Ok(());
        }
        if length <= half.left as u64 {
            half.left -= usize::try_from(length).unwrap_or(half.left);
            return self.tls.gap(sender, length, out);
        }
        // Where the next packet begins cannot be told.
        half.counted = true;
        half.head.clear();
        Ok(())
    }

    fn facts(&self, into: &mut Facts) {
        self.tls.facts(into);
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.tls.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, CLIENT, SERVER, Script, Step};
    use super::*;

    const MODERN: &str = include_str!("../../../tests/data/tls/tls13.txt");

    /// The recorded handshake as SQL Server wraps it: whole flights in packets, then the login bare, then TDS in the clear.
    fn script() -> Script {
        let side = |line: &str| if line.starts_with('>') { CLIENT } else { SERVER };
        let recorded: Script = MODERN.lines().map(|line| (side(line), testing::bytes(line.get(2..).unwrap()))).collect();
        let wrapped = |(side, bytes): &(Side, Vec<u8>)| {
            let length = u16::try_from(bytes.len() + HEADER_BYTES).unwrap().to_be_bytes();
            (*side, [&[PRELOGIN, 1, length[0], length[1], 0, 0, 0, 0], bytes.as_slice()].concat())
        };
        let mut script: Script = recorded.iter().take(3).map(wrapped).collect();
        script.push((CLIENT, testing::bytes("17 03 03 00 03 aa bb cc")));
        script.push((SERVER, testing::bytes("04 01 00 0a 00 35 01 00 ab cd")));
        script.push((CLIENT, testing::bytes("01 01 00 0a 00 00 01 00 41 00")));
        script
    }

    #[test]
    fn shared_checks_hold() {
        testing::shared_checks(&TDS, &script(), &[]);
        assert!(starts(&script()[0].1) && !starts(&script()[1].1) && !starts(&script()[5].1));
    }

    #[test]
    fn hello_is_read_and_what_follows_an_encrypted_login_is_in_the_clear() {
        let played = testing::play_script(decoder(Options { facts: true, midstream: false }), &script());
        testing::assert_conserved(&played);
        assert_eq!(played.facts["tls"]["client_hellos"][0]["sni"], "mes-db.plant.example");
        let said: Vec<_> = played.events.iter().map(|e| (e["protection"]["transport"].as_str(), e["bytes"].as_u64())).collect();
        assert_eq!(said.len(), 2);
        assert_eq!((said[0].0, said[1]), (Some("tls1.3"), (Some("none"), Some(10))));
        assert_eq!(played.events[1]["completeness"]["state"], "complete");
    }

    #[test]
    fn length_that_lies_and_a_gap_are_survived() {
        let lies = testing::play_script(decoder(Options::default()), &vec![(CLIENT, vec![PRELOGIN, 1, 0, 3, 0, 0, 0, 0])]);
        assert!(lies.error.is_some());
        let script = script();
        let steps = [Step::Data(CLIENT, &script[0].1), Step::Gap(SERVER, 40), Step::Data(SERVER, b"\x12\x01anything")];
        let gapped = testing::play(decoder(Options::default()), &steps);
        assert_eq!(gapped.error, None);
        testing::assert_conserved(&gapped);
    }
}
