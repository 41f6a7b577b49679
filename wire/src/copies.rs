//! Copies: a mirror port that shows one packet twice, recognised so that it counts once.
//!
//! A switch that mirrors both directions of several ports, or several VLANs, or both sides of a router, sends the same
//! packet more than once: with another tag, another time to live, other MAC addresses, or with no difference at all. What
//! a network leaves alone tells it again: addresses, IP identification (RFC 791, 3.1), lengths, ports, sequence numbers,
//! flags and the checksum of the transport, which covers the payload. Those are hashed; the last packets are remembered in
//! a small table under that hash, with where they were seen: time to live, MAC addresses, context.
//!
//! A retransmission is no copy: it has an identification of its own. Where there is none (IPv6; 0 in atomic IPv4 packets,
//! RFC 6864, 4.1) the same packet in another place is a copy, and in the same place only within [`REPEAT_NS`]: no
//! retransmission timer is that short (RFC 6298, 2.4), so what comes later was sent twice. Datagrams have no sequence
//! number, and machine builders use the same addresses and the same cyclic message in every cell: one with other MAC
//! addresses and an unchanged time to live has not passed a router and is another machine's.
//!
//! Copies are not decoded and not in windows; the connection of the first sight counts them beside.

use crate::packet::plain::Plain;
use crate::packet::{LinkType, Packet, Transport};
use crate::soon::soon;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;

/// A copy comes less than this after the first sight: a mirror's queue is never longer.
pub const COPY_NS: i64 = 50_000_000;
/// The same where nothing but time tells a copy from a packet sent twice.
pub const REPEAT_NS: i64 = 500_000;
/// Packets remembered; the oldest with the same place gives way, and one that had not reached [`COPY_NS`] is counted
/// (`copies_unwatched`): at 40,000 packets a second 1 in 2,500, at 200,000 1 in 15, then all but the youngest.
/// Mirrors are faster than that: most copies come within a millisecond.
pub const PACKETS_MAX: usize = 16_384;

/// Packets with the same place in the table: one line of the processor's cache.
const WAYS: usize = 4;
const SETS: usize = PACKETS_MAX / WAYS;
/// Bytes of the IP payload that are hashed where a checksum, numbers or an identification stand for the rest.
const TCP_HEAD_BYTES: usize = 20;
const HEAD_BYTES: usize = 64;
/// Of the digest of a place. No seed: two places in 256 look like one, and which do must not differ from run to run.
const PLACE_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Nanoseconds to the table's unit of time.
const UNIT_SHIFT: u32 = 10;

/// One packet that was seen. `tag`: 40 bits of its hash, then where it was seen ([`Place`]).
#[derive(Clone, Copy, Default)]
struct Sight {
    tag: u64,
    time: u32,
    connection: u32,
}

/// The youngest first.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Sight; WAYS]);

/// Where a packet was seen, in digests of 8 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    hops: u8,
    macs: u8,
    context: u8,
}

impl Place {
    const BITS: u32 = 24;

    #[inline]
    fn new(hops: u8, macs: u8, context: u32) -> Self {
        // Contexts are numbered in the order in which they are seen, so different ones are mostly different here.
        let [low, high, ..] = context.to_le_bytes();
        Self { hops, macs, context: low ^ high }
    }

    fn number(self) -> u64 {
        u64::from(self.hops) << 16 | u64::from(self.macs) << 8 | u64::from(self.context)
    }

    fn of(tag: u64) -> Self {
        let [context, macs, hops, ..] = tag.to_le_bytes();
        Self { hops, macs, context }
    }
}

/// The packets seen last.
pub struct Copies {
    sets: Box<[Set]>,
    seeds: [u64; 3],
    macs: u8,
    /// The set of the packet that [`Copies::seen`] took in last.
    last: usize,
    /// The last copy was behind a router, and under the same tags.
    pub routed: bool,
    pub unwatched_total: u64,
}

impl Default for Copies {
    fn default() -> Self {
        let state = RandomState::new();
        let seed = |number: u64| {
            let mut hasher = state.build_hasher();
            hasher.write_u64(number);
            hasher.finish() | 1
        };
        let sets = vec![Set::default(); SETS].into_boxed_slice();
        Self { sets, seeds: [seed(1), seed(2), seed(3)], macs: 0, last: 0, routed: false, unwatched_total: 0 }
    }
}

impl Copies {
    /// The frame that the next packets are in: its MAC addresses, or what its link has instead (interface and direction
    /// in Linux cooked captures).
    pub fn frame(&mut self, link: LinkType, data: &[u8]) {
        let word = |at: usize| data.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        // The middle of what is digested is in both words.
        let (first, last) = match link {
            // Destination, then source.
            LinkType::Ethernet => (word(0), word(4)),
            LinkType::LinuxSll => (word(0), word(6)),
            LinkType::LinuxSll2 => (word(4), word(12)),
            _ => (0, 0),
        };
        self.macs = digest_of_macs(first, last);
    }

    /// The connection of the packet's first sight, if this is a copy; else the packet is remembered and
    /// [`Copies::belongs`] says whose it is.
    pub fn seen(&mut self, packet: &Packet<'_>, time_ns: i64) -> Option<usize> {
        let identification = packet.identification;
        let is_tcp = matches!(packet.transport, Transport::Tcp(_));
        let hash = self.digest(packet, identification, is_tcp);
        let place = Place::new(packet.hop_limit, self.macs, packet.context);
        self.look(hash, place.number(), is_tcp, identification != 0, time_ns)
    }

    /// The same for a packet whose digest, and where it was seen, is known.
    #[inline]
    pub fn seen_plain(&mut self, known: &PlainSight, time_ns: i64) -> Option<usize> {
        self.look(known.hash, known.place.into(), true, known.is_identified, time_ns)
    }

    /// Asks for what [`Copies::seen_plain`] is going to look at.
    #[inline]
    pub fn soon(&self, known: &PlainSight) {
        if let Some(set) = self.sets.get(index_of(known.hash)) {
            soon(set);
        }
    }

    #[inline]
    fn look(&mut self, hash: u64, place: u64, is_tcp: bool, is_identified: bool, time_ns: i64) -> Option<usize> {
        let tag = hash << Place::BITS | place;
        let time = (time_ns >> UNIT_SHIFT) as u32;
        let index = index_of(hash);
        let set = self.sets.get_mut(index)?;
        let [one, two, three, oldest] = set.0;
        // Nearly always none of the four is equal: one question.
        let nearest = (one.tag ^ tag).min(two.tag ^ tag).min(three.tag ^ tag).min(oldest.tag ^ tag);
        if nearest >> Place::BITS == 0 {
            if let Some((sight, routed)) = set.copied(tag, time, is_tcp, is_identified) {
                self.routed = routed;
                return Some(sight.connection as usize);
            }
        }
        if oldest.tag != 0 && age(&oldest, time) < units(COPY_NS) {
            self.unwatched_total += 1;
        }
        set.0 = [Sight { tag, time, connection: u32::MAX }, one, two, three];
        self.last = index;
        None
    }

    /// The packet taken in last is of this connection.
    pub fn belongs(&mut self, connection: usize) {
        if let Some(Set([sight, ..])) = self.sets.get_mut(self.last) {
            sight.connection = connection as u32;
        }
    }

    /// A hash of what no switch and no router changes.
    fn digest(&self, packet: &Packet<'_>, identification: u16, is_tcp: bool) -> u64 {
        let [first, second, _] = self.seeds;
        let addresses = match (packet.source, packet.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits()),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.bytes(self.bytes(first, &source.octets()), &destination.octets()),
            _ => 0,
        };
        let payload = packet.ip_payload;
        let about = u64::from(packet.ip_payload_bytes) << 16 | u64::from(identification);
        if let (true, Some(head)) = (is_tcp, payload.first_chunk::<TCP_HEAD_BYTES>()) {
            return self.digest_of(addresses, about, head);
        }
        let hash = mix(addresses ^ first, about ^ u64::from(packet.protocol) << 56 ^ second);
        // Where nothing numbers packets they are equal only if every byte is.
        let is_numbered = is_tcp || identification != 0;
        self.bytes(hash, payload.get(..HEAD_BYTES).filter(|_| is_numbered).unwrap_or(payload))
    }

    /// What [`Copies::seen_plain`] needs to know of a packet in this context.
    #[inline]
    #[must_use]
    pub fn sight_of(&self, packet: &Plain<'_>, context: u32) -> PlainSight {
        let addresses = u64::from(packet.source) << 32 | u64::from(packet.destination);
        let about = u64::from(packet.ip_payload_bytes) << 16 | u64::from(packet.identification);
        let [first, last] = [packet.macs.first_chunk(), packet.macs.last_chunk()];
        let [first, last] = [first, last].map(|bytes| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes)));
        let place = Place::new(packet.hop_limit, digest_of_macs(first, last), context).number() as u32;
        PlainSight { hash: self.digest_of(addresses, about, packet.tcp), place, is_identified: packet.identification != 0 }
    }

    /// Ports, numbers, flags, window and the checksum, which covers options and payload (RFC 9293, 3.1).
    #[inline]
    fn digest_of(&self, addresses: u64, about: u64, head: &[u8; TCP_HEAD_BYTES]) -> u64 {
        let [first, second, third] = self.seeds;
        let [p0, p1, p2, p3, n0, n1, n2, n3, a0, a1, a2, a3, o0, f0, w0, w1, s0, s1, u0, u1] = *head;
        let low = u64::from_le_bytes([p0, p1, p2, p3, n0, n1, n2, n3]);
        let high = u64::from_le_bytes([a0, a1, a2, a3, o0, f0, w0, w1]);
        let sum = u64::from(u32::from_le_bytes([s0, s1, u0, u1]));
        mix(low ^ third, high ^ mix(addresses ^ first, about ^ sum << 32 ^ second))
    }

    /// `hash` with some bytes mixed in.
    fn bytes(&self, hash: u64, bytes: &[u8]) -> u64 {
        let [_, second, third] = self.seeds;
        let (mut hash, mut rest) = (hash, bytes);
        while let Some((chunk, after)) = rest.split_first_chunk::<16>() {
            let number = u128::from_le_bytes(*chunk);
            hash = mix(number as u64 ^ second, (number >> 64) as u64 ^ hash);
            rest = after;
        }
        if rest.is_empty() {
            return hash;
        }
        // The last sixteen once more, in part; fewer than sixteen in all are filled up, and lengths are hashed.
        let number = match bytes.last_chunk::<16>() {
            Some(last) => u128::from_le_bytes(*last),
            None => rest.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)),
        };
        mix(number as u64 ^ third, (number >> 64) as u64 ^ hash)
    }
}

/// What is known of a plain packet before it is its turn.
#[derive(Clone, Copy, Default)]
pub struct PlainSight {
    hash: u64,
    /// As a number ([`Place`]).
    place: u32,
    is_identified: bool,
}

impl Set {
    /// The first sight of the packet with this tag, if it is a copy, and whether a router passed it on.
    #[cold]
    fn copied(&self, tag: u64, time: u32, is_tcp: bool, is_identified: bool) -> Option<(Sight, bool)> {
        let place = Place::of(tag);
        let equal = self.0.iter().filter(|sight| (sight.tag ^ tag) >> Place::BITS == 0);
        let mut placed = equal.map(|sight| (sight, Place::of(sight.tag)));
        let (sight, first) = placed.find(|(sight, first)| age(sight, time) < limit(*first, place, is_tcp, is_identified))?;
        Some((*sight, first.hops != place.hops && first.context == place.context))
    }
}

fn age(sight: &Sight, time: u32) -> u32 {
    (time.wrapping_sub(sight.time) as i32).unsigned_abs()
}

fn digest_of_macs(first: u64, last: u64) -> u8 {
    ((first.rotate_left(25) ^ last).wrapping_mul(PLACE_FACTOR) >> 56) as u8
}

/// The set that a packet is remembered in.
fn index_of(hash: u64) -> usize {
    (hash >> (64 - SETS.trailing_zeros())) as usize % SETS
}

/// How long after its first sight, in the table's units, an equal packet is a copy.
fn limit(first: Place, second: Place, is_tcp: bool, identified: bool) -> u32 {
    if !is_tcp && first.macs != second.macs && first.hops == second.hops {
        0
    } else if !identified && first == second {
        units(REPEAT_NS)
    } else {
        units(COPY_NS)
    }
}

const fn units(time_ns: i64) -> u32 {
    (time_ns >> UNIT_SHIFT) as u32
}

/// Both factors spread over all bits: the two halves of the product, folded.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
