//! Puts IP fragments together again (RFC 791, 3.2; RFC 815; RFC 8200, 4.5), within bounds.
//!
//! Hosts disagree on overlapping fragments, and every disagreement hides something from whoever reads along. RFC 5722
//! has IPv6 drop the whole packet, and current systems do the same for IPv4; so it is done here, except that a fragment
//! seen twice with the same bytes changes nothing.
//!
//! A packet that never becomes whole is given up after [`PATIENCE_NS`]. Of a UDP datagram whose first fragment is there
//! the length is known and the beginning can be read: it is handed on with what is missing counted as cut. Anything
//! else is a loss of the bytes that were seen.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::copies::COPY_NS;
use crate::packet::{self, Fragment, Layer, Malformed};

/// Packets that wait for fragments at once; beyond, the oldest is given up (`fragments_evicted_total`).
pub const PACKETS_MAX: usize = 4096;
/// Bytes of all of them together; beyond, the oldest is given up.
pub const BYTES_MAX: usize = 32 << 20;
/// Separate runs of bytes one packet may consist of; beyond, it is given up. 64 KiB in pieces of 512 bytes, every
/// other one missing, are 64.
pub const RUNS_MAX: usize = 256;
/// Packets just made of fragments that are remembered, for [`COPY_NS`]: a mirror may show their fragments once more.
pub const MADE_MAX: usize = 4096;
/// How long a packet waits for its last fragment. Longer is worse: an IPv4 identification comes again within seconds
/// on a fast link (RFC 4963); Linux waits as long.
pub const PATIENCE_NS: i64 = 30_000_000_000;
/// No packet is longer (RFC 791, 3.1); a fragment that ends beyond is an attack on those who do not look.
const PACKET_BYTES_MAX: u32 = 65_535;

const PROTOCOL_UDP: u8 = 17;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FragmentCounters {
    /// Fragments seen.
    pub fragments_total: u64,
    /// Packets made of them.
    pub reassembled_total: u64,
    /// Fragments of packets that were whole already.
    pub copies_total: u64,
    /// Packets given up, for whatever reason.
    pub incomplete_total: u64,
    /// Of these: for a bound.
    pub evicted_total: u64,
    /// Of these: because their fragments contradict one another.
    pub overlaps_total: u64,
}

/// Whose fragments belong together (RFC 791, 3.2; RFC 8200, 4.5: there without the protocol).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    context: u32,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

struct Pending {
    serial: u64,
    depth: u8,
    hop_limit: u8,
    first_ns: i64,
    last_ns: i64,
    /// Bytes from the packet's beginning on; what lies between the runs means nothing.
    bytes: Vec<u8>,
    /// From and to, ascending, never touching.
    runs: Vec<(u32, u32)>,
    /// Where the first captured byte is missing, though its fragment was seen.
    cut_from: u32,
    /// The whole length, once the last fragment was seen.
    length: Option<u32>,
    /// The header behind the fragment header, from the first fragment.
    protocol: Option<u8>,
    fragments: u64,
    seen_bytes: u64,
    /// Why it cannot become whole; kept only so that its later fragments do not begin another.
    refused: Option<&'static str>,
}

/// A packet that was made of fragments, or what there is of one.
#[derive(Debug)]
pub struct Whole {
    fragment: Fragment<'static>,
    bytes: Vec<u8>,
    length: u32,
    pub context: u32,
    /// Tunnels it lies in.
    pub depth: u8,
    /// When its last fragment came.
    pub time_ns: i64,
}

impl Whole {
    /// Reads its headers.
    ///
    /// # Errors
    /// As [`packet::parse`].
    pub fn parse(&self) -> Result<Layer<'_>, Malformed> {
        packet::whole(&self.fragment, &self.bytes, self.length)
    }

    pub fn size_bytes(&self) -> u64 {
        u64::from(self.length)
    }
}

/// Fragments that were seen and will never be a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub packets: u64,
    pub bytes: u64,
    pub start_ns: i64,
    pub end_ns: i64,
    pub why: &'static str,
}

/// What became of packets in waiting.
#[derive(Debug)]
pub enum Outcome {
    Whole(Whole),
    Lost(Lost),
}

/// Packets that wait for the rest of their fragments.
#[derive(Default)]
pub struct Fragments {
    pub counters: FragmentCounters,
    /// Packets that became whole and when, and the same in the order of time: what still comes of them are copies.
    made: HashMap<Key, i64>,
    made_order: VecDeque<(i64, Key)>,
    pending: HashMap<Key, Pending>,
    /// In the order of their first fragments.
    ages: VecDeque<(i64, u64, Key)>,
    bytes: usize,
    serial: u64,
}

impl Fragments {
    /// Takes one fragment in, found inside `depth` tunnels; `outcome` hears of a packet that is whole now and of those that had to go for it.
    pub fn add(&mut self, fragment: &Fragment<'_>, context: u32, depth: u8, time_ns: i64, outcome: &mut dyn FnMut(Outcome)) {
        self.counters.fragments_total += 1;
        let (start, end) = (u32::from(fragment.offset_bytes), u32::from(fragment.offset_bytes) + fragment.payload_bytes);
        if end > PACKET_BYTES_MAX || end == start {
            self.counters.incomplete_total += 1;
            let bytes = u64::from(fragment.payload_bytes);
            outcome(Outcome::Lost(Lost { packets: 1, bytes, start_ns: time_ns, end_ns: time_ns, why: "fragment of an impossible length" }));
            return;
        }
        let is_ipv4 = fragment.source.is_ipv4();
        let key = Key {
            context,
            source: fragment.source,
            destination: fragment.destination,
            protocol: if is_ipv4 { fragment.protocol } else { 0 },
            identification: fragment.identification,
        };
        if self.made.get(&key).is_some_and(|&made_ns| time_ns.saturating_sub(made_ns).saturating_abs() < COPY_NS) {
            self.counters.copies_total += 1;
            return;
        }
        // An entry whose patience is over belongs to an earlier packet of the same number.
        if self.pending.get(&key).is_some_and(|pending| time_ns.saturating_sub(pending.first_ns) > PATIENCE_NS) {
            self.give_up(&key, "fragments of packets that were never whole", outcome);
        }
        let pending = match self.pending.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.serial += 1;
                self.ages.push_back((time_ns, self.serial, key));
                entry.insert(Pending {
                    serial: self.serial,
                    depth,
                    hop_limit: fragment.hop_limit,
                    first_ns: time_ns,
                    last_ns: time_ns,
                    bytes: Vec::new(),
                    runs: Vec::new(),
                    cut_from: u32::MAX,
                    length: None,
                    protocol: None,
                    fragments: 0,
                    seen_bytes: 0,
                    refused: None,
                })
            }
        };
        pending.fragments += 1;
        pending.seen_bytes += u64::from(fragment.payload_bytes);
        pending.last_ns = pending.last_ns.max(time_ns);
        if pending.refused.is_some() {
            return;
        }
        let before = pending.bytes.capacity();
        let placed = pending.place(fragment, start, end);
        self.bytes = self.bytes + pending.bytes.capacity() - before;
        if let Err(wrong) = placed {
            let (counter, why) = match wrong {
                Wrong::Contradiction => (&mut self.counters.overlaps_total, "fragments that contradict one another"),
                Wrong::Scattered => (&mut self.counters.evicted_total, "fragments given up: too many pieces of one packet apart"),
            };
            *counter += 1;
            pending.refused = Some(why);
            self.bytes -= pending.bytes.capacity();
            pending.bytes = Vec::new();
            return;
        }
        let is_whole = pending.length.is_some_and(|length| pending.runs == [(0, length)]);
        if is_whole {
            self.counters.reassembled_total += 1;
            self.remember(key, time_ns);
            if let Some(pending) = self.take(&key) {
                let time_ns = pending.last_ns;
                outcome(Outcome::Whole(pending.hand_on(&key, time_ns)));
            }
        }
        while self.pending.len() > PACKETS_MAX || self.bytes > BYTES_MAX {
            let Some(&(_, serial, oldest)) = self.ages.front() else { break };
            self.ages.pop_front();
            if self.pending.get(&oldest).is_some_and(|pending| pending.serial == serial) {
                self.counters.evicted_total += 1;
                self.give_up(&oldest, "fragments given up: too many packets wait for theirs", outcome);
            }
        }
    }

    fn remember(&mut self, key: Key, time_ns: i64) {
        while let Some(&(made_ns, oldest)) = self.made_order.front() {
            if self.made_order.len() < MADE_MAX && time_ns.saturating_sub(made_ns).saturating_abs() < COPY_NS {
                break;
            }
            self.made_order.pop_front();
            if self.made.get(&oldest) == Some(&made_ns) {
                self.made.remove(&oldest);
            }
        }
        self.made.insert(key, time_ns);
        self.made_order.push_back((time_ns, key));
    }

    /// Gives up what has waited too long; at `i64::MAX` everything.
    pub fn advance(&mut self, now_ns: i64, outcome: &mut dyn FnMut(Outcome)) {
        while let Some(&(first_ns, serial, key)) = self.ages.front() {
            let is_gone = self.pending.get(&key).is_none_or(|pending| pending.serial != serial);
            if !is_gone && now_ns != i64::MAX && now_ns.saturating_sub(first_ns) <= PATIENCE_NS {
                break;
            }
            self.ages.pop_front();
            if !is_gone {
                self.give_up(&key, "fragments of packets that were never whole", outcome);
            }
        }
    }

    fn take(&mut self, key: &Key) -> Option<Pending> {
        let pending = self.pending.remove(key)?;
        self.bytes -= pending.bytes.capacity();
        if self.pending.is_empty() {
            self.ages.clear();
        } else if self.ages.len() > 2 * PACKETS_MAX {
            // Most packets become whole and leave their place in the queue behind.
            let pending = &self.pending;
            self.ages.retain(|(_, serial, key)| pending.get(key).is_some_and(|pending| pending.serial == *serial));
        }
        Some(pending)
    }

    fn give_up(&mut self, key: &Key, why: &'static str, outcome: &mut dyn FnMut(Outcome)) {
        let Some(mut pending) = self.take(key) else { return };
        self.counters.incomplete_total += 1;
        let known = pending.known();
        let is_udp = if key.source.is_ipv4() { key.protocol } else { pending.protocol.unwrap_or(0) } == PROTOCOL_UDP;
        if let (true, false, Some(&[_, _, _, _, l0, l1, _, _])) = (is_udp, pending.refused.is_some(), pending.bytes.get(..known.min(8))) {
            let seen = pending.runs.last().map_or(0, |run| run.1);
            pending.length = Some(seen.max(u32::from(u16::from_be_bytes([l0, l1]))));
            let time_ns = pending.last_ns;
            outcome(Outcome::Whole(pending.hand_on(key, time_ns)));
            return;
        }
        let why = pending.refused.unwrap_or(why);
        let (start_ns, end_ns) = (pending.first_ns, pending.last_ns);
        outcome(Outcome::Lost(Lost { packets: pending.fragments, bytes: pending.seen_bytes, start_ns, end_ns, why }));
    }
}

/// Why a fragment cannot be placed.
enum Wrong {
    /// It says something else than another of the same packet.
    Contradiction,
    Scattered,
}

impl Pending {
    fn place(&mut self, fragment: &Fragment<'_>, start: u32, end: u32) -> Result<(), Wrong> {
        let seen = self.runs.last().map_or(0, |run| run.1);
        if fragment.more {
            if self.length.is_some_and(|length| end > length) {
                return Err(Wrong::Contradiction);
            }
        } else {
            if self.length.is_some_and(|length| length != end) || seen > end {
                return Err(Wrong::Contradiction);
            }
            self.length = Some(end);
        }
        if start == 0 {
            self.protocol = Some(fragment.protocol);
        }
        let at = self.runs.partition_point(|run| run.1 < start);
        let touched = self.runs.get(at..).unwrap_or(&[]).iter().take_while(|run| run.0 <= end).count();
        let overlaps = |run: &&(u32, u32)| run.0 < end && start < run.1;
        for run in self.runs.iter().skip(at).take(touched).filter(overlaps) {
            let is_within = run.0 <= start && end <= run.1;
            let from = run.0.max(start);
            // What was cut from either cannot be compared.
            let to = run.1.min(end).min(self.cut_from).min(start + fragment.payload.len() as u32).max(from);
            let ours = self.bytes.get(from as usize..to as usize);
            let is_same = from == to || ours == fragment.payload.get((from - start) as usize..(to - start) as usize);
            if !is_same || (!is_within && fragment.source.is_ipv6()) {
                return Err(Wrong::Contradiction);
            }
        }
        let captured = fragment.payload.get(..(end - start) as usize).unwrap_or(fragment.payload);
        let captured_end = start + captured.len() as u32;
        if captured_end < end {
            self.cut_from = self.cut_from.min(captured_end);
        }
        if self.bytes.len() < captured_end as usize {
            self.bytes.resize(captured_end as usize, 0);
        }
        if let Some(place) = self.bytes.get_mut(start as usize..captured_end as usize) {
            place.copy_from_slice(captured);
        }
        let joined = self.runs.iter().skip(at).take(touched).fold((start, end), |all, run| (all.0.min(run.0), all.1.max(run.1)));
        self.runs.splice(at..at + touched, [joined]);
        if self.runs.len() > RUNS_MAX { Err(Wrong::Scattered) } else { Ok(()) }
    }

    /// Captured bytes from the beginning to the first that is missing.
    fn known(&self) -> usize {
        match self.runs.first() {
            Some(&(0, end)) => end.min(self.cut_from).min(self.bytes.len() as u32) as usize,
            _ => 0,
        }
    }

    fn hand_on(mut self, key: &Key, time_ns: i64) -> Whole {
        self.bytes.truncate(self.known());
        let length = self.length.unwrap_or(0);
        let protocol = self.protocol.unwrap_or(key.protocol);
        let fragment = Fragment::of_packet(key.source, key.destination, protocol, key.identification, self.hop_limit);
        Whole { fragment, bytes: self.bytes, length, context: key.context, depth: self.depth, time_ns }
    }
}

#[cfg(test)]
mod tests;
