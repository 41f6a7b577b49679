//! MQTT over WebSocket (RFC 6455; OASIS MQTT 5.0, 6): after the upgrade by HTTP, frames whose payload is MQTT.
//!
//! Frames and packets do not line up: a packet may lie in several frames. What a client sends is masked and unmasked
//! as it streams by.

use super::mqtt::Mqtt;
use super::{DecodeError, Decoder, Options};
use crate::windows::{Counts, Facts, Movement, Operation, Recorder, Side};

/// Masked bytes are unmasked in pieces of this size.
const PIECE_BYTES: usize = 1024;
/// Told to MQTT where nobody knows how much of it was lost.
const LOST_BYTES: u64 = 1 << 40;

/// The frames after an upgrade that agreed on MQTT.
#[must_use]
pub fn upgraded(options: Options) -> Box<dyn Decoder> {
    Box::new(WebSocket { mqtt: Mqtt::new(options), halves: Default::default() })
}

#[derive(Default)]
struct Half {
    /// The head of a frame, as far as it is there.
    carried: Vec<u8>,
    mask: Option<[u8; 4]>,
    /// Where in the mask the next byte stands.
    place: usize,
    left: u64,
    /// A control frame carries no MQTT (RFC 6455, 5.5).
    control: bool,
    /// The place in the frames is lost: bytes are counted only.
    lost: bool,
    /// A byte of the direction was seen; and the head of an HTTP request is passed over, so much of whose end was seen.
    begun: bool,
    in_head: bool,
    head_end: usize,
}

impl Half {
    /// Whether this byte ends the head of the request.
    fn end_of_head(&mut self, byte: u8) -> bool {
        const END: &[u8] = b"\r\n\r\n";
        let goes_on = END.get(self.head_end) == Some(&byte);
        self.head_end = if goes_on { self.head_end + 1 } else { usize::from(byte == b'\r') };
        self.in_head = self.head_end < END.len();
        !self.in_head
    }
}

struct WebSocket {
    mqtt: Mqtt,
    halves: [Half; 2],
}

impl WebSocket {
    /// One more byte of a frame's head (RFC 6455, 5.2).
    fn frame_head(&mut self, sender: Side, byte: u8, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let half = &mut self.halves[sender as usize];
        half.carried.push(byte);
        let &[first, second, ref rest @ ..] = half.carried.as_slice() else { return Ok(()) };
        if first & 0x70 != 0 || !matches!(first & 15, 0..=2 | 8..=10) {
            return Err(DecodeError::new("first byte of a frame", first.into(), "a known opcode without extensions"));
        }
        let width = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = second & 0x80 != 0;
        if rest.len() < width + if masked { 4 } else { 0 } {
            return Ok(());
        }
        let (length, mask) = rest.split_at(width);
        half.left = if width == 0 { u64::from(second & 0x7f) } else { length.iter().fold(0, |n, b| n << 8 | u64::from(*b)) };
        half.mask = mask.try_into().ok();
        half.place = 0;
        half.control = first & 8 != 0;
        let bytes = half.carried.len() as u64;
        half.carried.clear();
        // The frame before it says to what a head belongs, wherever the packets end.
        let movement = self.mqtt.last_movement(sender);
        out.add(&movement, sender, bytes, Counts::ZERO);
        Ok(())
    }

    /// Payload of a frame.
    fn payload(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let half = &mut self.halves[sender as usize];
        if half.control {
            let movement = self.mqtt.last_movement(sender);
            out.add(&movement, sender, bytes.len() as u64, Counts::ZERO);
            return Ok(());
        }
        let Some(mask) = half.mask else { return self.mqtt.data(sender, bytes, out) };
        for piece in bytes.chunks(PIECE_BYTES) {
            let half = &mut self.halves[sender as usize];
            let mut clear = [0; PIECE_BYTES];
            for (index, (to, from)) in clear.iter_mut().zip(piece).enumerate() {
                *to = from ^ mask[(half.place + index) % 4];
            }
            half.place = (half.place + piece.len()) % 4;
            self.mqtt.data(sender, clear.get(..piece.len()).unwrap_or_default(), out)?;
        }
        Ok(())
    }
}

/// Whether `bytes` are whole frames from end to end, masked if the client sends them (RFC 6455, 5.1 and 5.2).
fn frames(mut bytes: &[u8], sender: Side) -> bool {
    while let [first, second, rest @ ..] = bytes {
        let width = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = second & 0x80 != 0;
        let Some((length, rest)) = rest.split_at_checked(width) else { return false };
        let short = usize::from(second & 0x7f);
        let long = length.iter().fold(0_usize, |n, b| n.saturating_mul(256).saturating_add(usize::from(*b)));
        let length = if width == 0 { short } else { long }.saturating_add(if masked { 4 } else { 0 });
        let known = first & 0x70 == 0 && matches!(first & 15, 0 | 2 | 8..=10) && masked == (sender == Side::Client);
        let Some(after) = rest.get(length..).filter(|_| known) else { return false };
        bytes = after;
    }
    bytes.is_empty()
}

impl Decoder for WebSocket {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let half = &mut self.halves[sender as usize];
        half.lost = half.lost && !frames(bytes, sender);
        let mut rest = bytes;
        while let Some(&next) = rest.first() {
            let half = &mut self.halves[sender as usize];
            let taken = if half.lost {
                let movement = self.mqtt.last_movement(sender);
                out.add(&movement, sender, rest.len() as u64, Counts::ZERO);
                rest.len()
            } else if half.in_head || (!half.begun && next == b'G') {
                // The answer that upgraded was seen before the request: this is its head, and no frame begins with a G.
                let first = u64::from(!half.in_head);
                (half.begun, half.in_head) = (true, true);
                let seen = rest.iter().position(|b| half.end_of_head(*b)).map_or(rest.len(), |last| last + 1);
                out.add(&Movement::new(Operation::Connect, Side::Client), sender, seen as u64, Counts::messages(first));
                seen
            } else if half.left == 0 {
                half.begun = true;
                self.frame_head(sender, next, out)?;
                1
            } else {
                let length = rest.len().min(usize::try_from(half.left).unwrap_or(usize::MAX));
                half.left -= length as u64;
                self.payload(sender, rest.get(..length).unwrap_or_default(), out)?;
                length
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        out.gapped();
        let half = &mut self.halves[sender as usize];
        if half.lost || length > half.left {
            // Where the next frame begins cannot be told, a frame's head has two bytes and no mark; unless a segment is
            // frames from end to end.
            half.lost = true;
            half.left = 0;
            half.carried.clear();
            // Whatever MQTT was in the middle of is over.
            return self.mqtt.gap(sender, LOST_BYTES, out);
        }
        half.left -= length;
        half.place = (half.place + usize::try_from(length % 4).unwrap_or(0)) % 4;
        if half.control { Ok(()) } else { self.mqtt.gap(sender, length, out) }
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        self.mqtt.close(out);
    }

    fn facts(&self, into: &mut Facts) {
        self.mqtt.facts(into);
    }

    fn memory_bytes(&self) -> usize {
        self.mqtt.memory_bytes() + self.halves.iter().map(|h| h.carried.capacity()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recognition;
    use super::super::http::{HTTP, decoder};
    use super::super::testing::{self, CLIENT, SERVER, Script, Step};
    use super::*;
    use serde_json::Value;

    const TEXT: &str = include_str!("../../../tests/data/mqtt/websocket.txt");
    const LEDGER: &str = include_str!("../../../tests/data/mqtt/websocket.json");
    const WHOLE: Options = Options { facts: true, midstream: false };

    fn recording() -> Script {
        let side = |line: &str| if line.starts_with('>') { CLIENT } else { SERVER };
        TEXT.lines().map(|line| (side(line), testing::bytes(line.get(2..).unwrap()))).collect()
    }

    #[test]
    fn shared_checks_hold_on_a_recording_of_mosquitto() {
        assert_eq!(testing::recognise(&HTTP, &recording()), Recognition::Yes { client: CLIENT });
        testing::shared_checks(&HTTP, &recording(), &["not-a-secret", "swordfish", "xxxxx"]);
    }

    #[test]
    fn counts_are_those_of_the_clients_own_ledger() {
        let played = testing::play_script(decoder(WHOLE), &recording());
        let ledger: Value = serde_json::from_str(LEDGER).unwrap();
        let sum = |operation: &str| {
            let events = played.events.iter().filter(|e| e["operation"] == operation);
            events.map(|e| e["messages"].as_i64().unwrap()).sum::<i64>()
        };
        let all = |side: &str| ledger[side].as_object().unwrap().values().map(|n| n.as_i64().unwrap()).sum::<i64>();
        assert_eq!((sum("publish"), sum("subscribe"), sum("admin")), (all("published"), all("received"), 1));
        assert_eq!(played.events.last().unwrap()["account"], "svc_edge");
        assert_eq!(played.events.last().unwrap()["protocol"], "mqtt");
    }

    #[test]
    fn values_are_counted_in_payloads_that_lie_in_several_frames() {
        const BARE: &str = include_str!("../../../tests/data/mqtt/sparkplug.txt");
        let mut script: Script = recording().into_iter().take(2).collect();
        for line in BARE.lines() {
            let said = testing::bytes(line.get(2..).unwrap());
            for part in said.chunks(60) {
                let (side, mask) = if line.starts_with('>') { (CLIENT, 0x80) } else { (SERVER, 0) };
                let key: &[u8] = if mask == 0 { &[] } else { &[0; 4] };
                script.push((side, [&[0x82, u8::try_from(part.len()).unwrap() | mask][..], key, part].concat()));
            }
        }
        testing::shared_checks(&HTTP, &script, &["not-a-secret", "swordfish"]);
        let played = testing::play_script(decoder(WHOLE), &script);
        let values = |operation: &str| {
            let events = played.events.iter().filter(|e| e["operation"] == operation);
            events.map(|e| e["values"].as_i64().unwrap()).sum::<i64>()
        };
        assert_eq!((values("publish"), values("write"), values("subscribe")), (155, 2, 157));
    }

    #[test]
    fn gap_over_a_frames_head_ends_the_reading_of_that_side_alone() {
        let script = recording();
        let steps = [
            Step::Data(CLIENT, &script[0].1),
            Step::Data(SERVER, &script[1].1),
            Step::Gap(CLIENT, 9),
            Step::Data(CLIENT, b"\xff\xff\xff\xff"),
        ];
        let played = testing::play(decoder(WHOLE), &steps);
        assert_eq!(played.error, None);
        testing::assert_conserved(&played);
    }

    #[test]
    fn upgrade_to_another_subprotocol_is_counted_and_not_read() {
        let request = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n\r\n".to_vec();
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n\r\n".to_vec();
        let played = testing::play_script(decoder(WHOLE), &vec![(CLIENT, request), (SERVER, answer), (SERVER, vec![0x81, 2, 104, 105])]);
        assert_eq!(played.error, None);
        assert_eq!(played.events.last().unwrap()["protocol"], "websocket");
        assert_eq!(played.events.last().unwrap()["operation"], "transfer");
        testing::assert_conserved(&played);
    }

    #[test]
    fn mqtt_is_read_whatever_the_path_of_the_upgrade_is() {
        let mut script = recording();
        let request = String::from_utf8(script[0].1.clone()).unwrap();
        script[0].1 = request.replacen("/mqtt", "/plant/uns?site=north", 1).into_bytes();
        let played = testing::play_script(decoder(WHOLE), &script);
        assert!(played.events.iter().any(|e| e["protocol"] == "mqtt" && e["operation"] == "publish"));
    }
}
