//! Is a capture any good? What is measured of a mirror port beside the packets themselves, for `hopwatch capture check`.
//!
//! Every question has a fault of a real plant behind it: a mirror of one direction only, of the same packets twice, with
//! its tags taken off; a mirror port that cannot carry what it is sent; a network card that joins segments; a snap
//! length; a clock that is set while it captures; a switch that nobody asked to mirror. Here they are counted; what is
//! too much, and what to do about it, is `collectors/quality.py`'s.
//!
//! Silence proves nothing by itself, so a clock that jumps forward is told from a quiet night by TCP: a segment that was
//! acknowledged a long silence later without having been sent again (RFC 9293, 3.8.1), or timestamps (RFC 7323, 3.2)
//! that stood still meanwhile.

use crate::packet::{LinkType, Packet, Tcp, Transport, Vlans};
use crate::windows::rfc3339;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::IpAddr;

/// TCP directions watched for segment sizes and clocks; further ones are counted (`unwatched`).
pub const WATCHED_MAX: usize = 65_536;
/// Contexts told apart; further ones are counted with the first.
pub const CONTEXTS_MAX: usize = 4096;
/// Networks that may be expected.
pub const EXPECTED_MAX: usize = 4096;
/// Interfaces interleave by less; a frame this much before the one before it is a clock set back.
pub const BACK_NS: i64 = 50_000_000;
/// A silence this long is looked at for a clock set forward: every retransmission timer runs out sooner (RFC 6298, 2.4).
pub const FORWARD_NS: i64 = 10_000_000_000;
/// The largest IP packet of any network in use (jumbo frames); a longer one was joined after it was received.
const JUMBO_BYTES: u32 = 9_216;
/// A timestamp clock is known after so much of it.
const TICKS_MIN: u32 = 10;
const TICKING_NS: i64 = 100_000_000;

/// A network whose hosts are expected to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    text: String,
    first: IpAddr,
    prefix: u8,
}

impl Net {
    /// Reads `10.20.0.0/22` or `2001:db8::/32`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (first, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let width = if first.is_ipv4() { 32 } else { 128 };
        (prefix <= width).then(|| Self { text: text.to_owned(), first, prefix })
    }

    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// What was seen of one tag, or without any.
#[derive(Default)]
struct Context {
    packets: u64,
    copies: u64,
    conversing: u64,
    one_sided: u64,
}

/// A connection of which one end was seen, until the other end turns up under another tag.
type Ends = (u8, (IpAddr, u16), (IpAddr, u16));

/// What is known of one direction of a TCP connection.
struct Watch {
    /// The largest segment that its receiver takes (RFC 9293, 3.7.1), if the SYN was seen.
    segment_bytes_max: Option<u32>,
    /// Where what was sent last ends, and when that was; `None` once it was acknowledged.
    sent: Option<(u32, i64)>,
    /// Timestamps (RFC 7323, 3.2): the first and the last of a clock that runs evenly.
    ticks: Option<[(i64, u32); 2]>,
}

/// Jumps of the clock in one direction.
#[derive(Default)]
struct Jumps {
    count: u64,
    largest_ns: i64,
    first_ns: Option<i64>,
}

impl Jumps {
    fn add(&mut self, by_ns: i64, at_ns: i64) {
        self.count += 1;
        self.largest_ns = self.largest_ns.max(by_ns);
        self.first_ns.get_or_insert(at_ns);
    }

    fn said(&self) -> Value {
        json!({"count": self.count, "largest_s": self.largest_ns as f64 / 1e9, "first": self.first_ns.map(rfc3339)})
    }
}

/// The measures of a capture.
#[derive(Default)]
pub struct Quality {
    contexts: HashMap<Vlans, Context>,
    folded: u64,
    expected: Vec<(Net, u64, bool)>,
    watched: HashMap<Ends, Watch>,
    unwatched: u64,
    halves: HashMap<Ends, (Vlans, bool)>,
    split: u64,
    half_untagged: u64,
    routed_untagged: u64,
    /// Hosts of different networks speak to one another without a router.
    flat: bool,
    span_ns: Option<[i64; 2]>,
    last_ns: i64,
    /// The last silence that may be a jump: its ends.
    silence_ns: Option<[i64; 2]>,
    back: Jumps,
    forward: Jumps,
    cut_frames: u64,
    cut_at_bytes: usize,
    giants: u64,
    giant_bytes_max: u32,
    loopback: bool,
    gaps: u64,
    lost_bytes: u64,
    lossy: u64,
}

impl Quality {
    #[must_use]
    pub fn new(expected: Vec<Net>) -> Self {
        Self { expected: expected.into_iter().take(EXPECTED_MAX).map(|net| (net, 0, false)).collect(), ..Self::default() }
    }

    /// A frame, before anything is read of it.
    pub fn frame(&mut self, time_ns: i64, link: LinkType, data: &[u8], wire_bytes: u32) {
        if data.len() < wire_bytes as usize {
            self.cut_frames += 1;
            self.cut_at_bytes = self.cut_at_bytes.max(data.len());
        }
        // On `lo` both addresses are zero, and segments are as long as memory allows.
        self.loopback = link == LinkType::Ethernet && data.get(..12) == Some(&[0; 12]);
        if let Some([first_ns, last_ns]) = &mut self.span_ns {
            let step_ns = time_ns.saturating_sub(self.last_ns);
            if step_ns < -BACK_NS {
                self.back.add(-step_ns, time_ns);
            } else if step_ns >= FORWARD_NS {
                self.silence_ns = Some([self.last_ns, time_ns]);
            }
            (*first_ns, *last_ns) = ((*first_ns).min(time_ns), (*last_ns).max(time_ns));
        } else {
            self.span_ns = Some([time_ns; 2]);
        }
        self.last_ns = time_ns;
    }

    /// An ARP packet (RFC 826): a host of an expected network that speaks to its own segment.
    pub fn announced(&mut self, ethertype: u16, vlans: &Vlans, data: &[u8]) {
        let start = 14 + 4 * vlans.as_slice().len();
        if ethertype != 0x0806 || !vlans.as_slice().is_empty() {
            return;
        }
        let Some([s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3]) = data.get(start + 14..).and_then(|rest| rest.first_chunk()) else {
            return;
        };
        let (sender, target) = (IpAddr::from([*s0, *s1, *s2, *s3]), IpAddr::from([*t0, *t1, *t2, *t3]));
        for (net, _, untagged) in &mut self.expected {
            let (asks, asked) = (net.contains(sender), net.contains(target));
            *untagged |= asks && asked;
            // One network asks for a host of another: the segment is one, and no tag is missing.
            self.flat |= asks != asked && !target.is_unspecified() && !sender.is_unspecified();
        }
    }

    /// A packet, copies included.
    pub fn packet(&mut self, packet: &Packet<'_>, time_ns: i64) {
        self.context(packet.vlans).packets += 1;
        for (net, packets, _) in &mut self.expected {
            *packets += u64::from(net.contains(packet.source));
        }
        let limit = match packet.transport {
            Transport::Tcp(tcp) => self.segment(packet, &tcp, time_ns),
            _ => None,
        };
        let local = self.loopback || packet.source.is_loopback();
        let is_giant = match (limit, packet.transport) {
            (Some(limit), Transport::Tcp(tcp)) => tcp.payload_bytes > limit,
            _ => !local && packet.ip_payload_bytes > JUMBO_BYTES,
        };
        if is_giant {
            self.giants += 1;
            self.giant_bytes_max = self.giant_bytes_max.max(packet.ip_payload_bytes);
        }
    }

    /// A packet that is a copy; `routed`: behind a router and under the same tags.
    pub fn copy(&mut self, packet: &Packet<'_>, routed: bool) {
        self.context(packet.vlans).copies += 1;
        // A router joins networks. That both are here without a tag says that nothing tells them apart.
        self.routed_untagged += u64::from(routed && packet.vlans.as_slice().is_empty());
    }

    /// A handshake has shown two contexts to be the directions of one connection; `tags`: their VLANs differ.
    pub fn paired(&mut self, tags: bool) {
        self.split += u64::from(tags);
    }

    /// A TCP connection that ended: its ends in order, how many packets each sent, and whether one is held to be out of
    /// sight. `lost`: gaps and bytes that were acknowledged and never seen.
    pub fn connection(&mut self, vlans: Vlans, ends: [(IpAddr, u16); 2], packets: [u64; 2], one_sided: bool, lost: (u64, u64)) {
        self.gaps += lost.0;
        self.lost_bytes += lost.1;
        self.lossy += u64::from(lost.0 > 0);
        let seen = self.context(vlans);
        if !one_sided {
            seen.conversing += u64::from(!packets.contains(&0));
            return;
        }
        seen.conversing += 1;
        seen.one_sided += 1;
        let [first, second] = ends;
        let speaker = if packets[0] > 0 { first } else { second };
        let key = if first <= second { (6, first, second) } else { (6, second, first) };
        let low_speaks = speaker == key.1;
        match self.halves.get(&key).copied() {
            Some((other, low)) if low != low_speaks && other != vlans => {
                self.halves.remove(&key);
                self.split += 1;
                self.half_untagged += u64::from(other.as_slice().is_empty() != vlans.as_slice().is_empty());
                // Both sides were seen, under two tags: one conversation.
                for each in [other, vlans] {
                    let context = self.context(each);
                    context.one_sided = context.one_sided.saturating_sub(1);
                }
            }
            None if self.halves.len() >= WATCHED_MAX => self.unwatched += 1,
            _ => {
                self.halves.insert(key, (vlans, low_speaks));
            }
        }
    }

    fn context(&mut self, vlans: Vlans) -> &mut Context {
        let known = self.contexts.contains_key(&vlans) || self.contexts.len() < CONTEXTS_MAX;
        self.folded += u64::from(!known);
        self.contexts.entry(if known { vlans } else { Vlans::default() }).or_default()
    }

    /// Looks at one segment; the largest payload that its receiver takes, if known.
    fn segment(&mut self, packet: &Packet<'_>, tcp: &Tcp<'_>, time_ns: i64) -> Option<u32> {
        let source = (packet.source, tcp.source_port);
        let destination = (packet.destination, tcp.destination_port);
        let (offered, tick) = options(packet.ip_payload);
        let silence_ns = self.silence_ns;
        let mut jumped = false;
        // What the other end sent is acknowledged.
        if let Some(back) = self.watched.get_mut(&(6, destination, source)) {
            if tcp.flags.syn() {
                back.segment_bytes_max = offered.or(back.segment_bytes_max);
            }
            if let Some((end, sent_ns)) = back.sent.filter(|_| tcp.flags.ack()) {
                if (tcp.acknowledgment.wrapping_sub(end) as i32) >= 0 {
                    back.sent = None;
                    jumped |= silence_ns.is_some_and(|[from_ns, to_ns]| sent_ns <= from_ns && time_ns >= to_ns);
                }
            }
        } else if tcp.flags.syn() {
            let watch = Watch { segment_bytes_max: offered, sent: None, ticks: None };
            self.watch((6, destination, source), watch);
        }
        let key = (6, source, destination);
        if !self.watched.contains_key(&key) {
            self.watch(key, Watch { segment_bytes_max: None, sent: None, ticks: None });
        }
        let watch = self.watched.get_mut(&key)?;
        if tcp.payload_bytes > 0 {
            let end = tcp.sequence.wrapping_add(tcp.payload_bytes);
            // Sent again: its acknowledgement may be that of the second.
            watch.sent = Some((end, time_ns));
        }
        if let Some(tick) = tick {
            let [first, last] = watch.ticks.unwrap_or([(time_ns, tick); 2]);
            let known = (last.1.wrapping_sub(first.1), last.0.saturating_sub(first.0));
            let crossed = silence_ns.is_some_and(|[from_ns, to_ns]| last.0 <= from_ns && time_ns >= to_ns);
            if crossed {
                // Before its pace is known: a timestamp clock ticks at least once a second (RFC 7323, 5.4).
                let pace = if known.0 >= TICKS_MIN && known.1 >= TICKING_NS { f64::from(known.0) / known.1 as f64 } else { 1e-9 };
                jumped |= f64::from(tick.wrapping_sub(last.1)) < pace * (time_ns - last.0) as f64 / 2.0;
            }
            let again = crossed || time_ns < last.0;
            watch.ticks = Some(if again { [(time_ns, tick); 2] } else { [first, (time_ns, tick)] });
        }
        let limit = watch.segment_bytes_max;
        if let Some([from_ns, to_ns]) = silence_ns.filter(|_| jumped) {
            self.forward.add(to_ns - from_ns, to_ns);
            self.silence_ns = None;
        }
        limit
    }

    fn watch(&mut self, key: Ends, watch: Watch) {
        if self.watched.len() < WATCHED_MAX {
            self.watched.insert(key, watch);
        } else {
            self.unwatched += 1;
        }
    }

    /// The measures, as one JSON object.
    #[must_use]
    pub fn said(&self) -> Vec<u8> {
        let mut contexts: Vec<_> = self.contexts.iter().collect();
        contexts.sort_by_key(|(vlans, _)| vlans.as_slice().to_vec());
        let contexts: Vec<_> = contexts
            .into_iter()
            .map(|(vlans, c)| {
                json!({"vlans": vlans.as_slice(), "packets": c.packets, "copies": c.copies,
                       "conversing": c.conversing, "one_sided": c.one_sided})
            })
            .collect();
        let expected: Vec<_> = self
            .expected
            .iter()
            .map(|(net, packets, untagged)| json!({"net": net.text, "packets": packets, "announced_untagged": *untagged && !self.flat}))
            .collect();
        let said = json!({
            "first": self.span_ns.map(|[first_ns, _]| rfc3339(first_ns)),
            "last": self.span_ns.map(|[_, last_ns]| rfc3339(last_ns)),
            "contexts": contexts,
            "contexts_folded": self.folded,
            "expected": expected,
            "clock": {"back": self.back.said(), "forward": self.forward.said()},
            "cut": {"frames": self.cut_frames, "at_bytes": self.cut_at_bytes},
            "giants": {"packets": self.giants, "bytes_max": self.giant_bytes_max},
            "lost": {"gaps": self.gaps, "bytes": self.lost_bytes, "connections": self.lossy},
            "tags": {"split": self.split, "half_untagged": self.half_untagged, "routed_untagged": self.routed_untagged},
            "unwatched": self.unwatched,
        });
        serde_json::to_vec(&said).expect("measures serialise")
    }
}

/// The maximum segment size and the timestamp among a segment's options (RFC 9293, 3.2; RFC 7323, 3.2).
fn options(segment: &[u8]) -> (Option<u32>, Option<u32>) {
    let (mut offered, mut tick) = (None, None);
    let header_bytes = segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    let mut rest = segment.get(20..header_bytes).unwrap_or(&[]);
    loop {
        rest = match rest {
            [0, ..] | [] => break,
            [1, after @ ..] => after,
            [kind, length, ..] => {
                let Some((option, after)) = rest.split_at_checked(usize::from(*length).max(2)) else { break };
                match (kind, option) {
                    (2, [_, _, high, low]) => offered = Some(u32::from(u16::from_be_bytes([*high, *low]))),
                    (8, [_, _, a, b, c, d, ..]) => tick = Some(u32::from_be_bytes([*a, *b, *c, *d])),
                    _ => {}
                }
                after
            }
            [_] => break,
        };
    }
    (offered, tick)
}
