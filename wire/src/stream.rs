//! One direction of a TCP connection: segments in any order become bytes in order (RFC 9293, 3.4 and 3.10).
//!
//! In-order segments are handed on as slices of the packet; only out-of-order ones are copied and held. A hole is
//! declared lost when the receiver has acknowledged it and it still did not show up ([`PATIENCE_NS`] or
//! [`PATIENCE_SEGMENTS`] later: acknowledgements overtake reordered segments), when too much is held, or at the end.
//!
//! Of segments that overlap, the bytes of the one that begins first count; of two that begin together those of the longer
//! one, else of the first. So does Linux: what it has given to the application stays, and of what it holds a segment only
//! gives way to one that begins before it, or begins with it and ends behind it. Where both copies are still here and
//! disagree, that is counted (`conflicts`).

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Time that a hole, once acknowledged, may still be filled by a reordered segment.
pub const PATIENCE_NS: i64 = 5_000_000;
/// Segments after which it is no longer waited for.
pub const PATIENCE_SEGMENTS: u32 = 32;
/// Bytes held out of order for one direction, [`SEGMENT_BYTES`] for each segment among them; beyond, the hole before them
/// is given up.
pub const HELD_BYTES_MAX: usize = 4 << 20;
/// What a held segment takes beside its payload: its place in the tree and the allocator's own, roughly.
pub const SEGMENT_BYTES: usize = 96;
/// Segments held out of order for one direction.
pub const HELD_SEGMENTS_MAX: usize = 4096;
/// A sequence number further ahead than the largest window (RFC 7323, 2.3) is not of this stream.
const AHEAD_MAX: u32 = 1 << 30;

/// What a stream hands on, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Data(&'a [u8]),
    /// Bytes that were on the wire and never seen.
    Gap(u64),
}

/// One segment as it arrived. `cut` counts payload bytes that the capture did not keep (snap length).
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub sequence: u32,
    pub payload: &'a [u8],
    pub cut: u32,
    pub syn: bool,
    pub fin: bool,
    pub time_ns: i64,
}

struct Held {
    sequence: u32,
    payload: Box<[u8]>,
    cut: u32,
    fin: bool,
}

impl Held {
    fn size_bytes(&self) -> usize {
        self.payload.len() + SEGMENT_BYTES
    }

    fn length(&self) -> u32 {
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX).wrapping_add(self.cut)
    }
}

/// How far from the stream's first byte a held segment begins: numbers that do not wrap, so that a tree can hold them. A
/// sorted list would be moved by every segment that is put into its middle.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(u64);

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        #[cfg(test)]
        tests::COMPARISONS.with(|count| count.set(count.get() + 1));
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    pub retransmitted_bytes: u64,
    pub out_of_order_segments: u64,
    pub invalid_segments: u64,
    /// Segments whose bytes differ from another copy of them that was held.
    pub conflicts: u64,
    pub gaps: u64,
    pub lost_bytes: u64,
    /// Of them, the gaps and bytes that the capture itself cut off (snap length): they were on the wire.
    pub cuts: u64,
    pub cut_bytes: u64,
}

/// After the first segment.
const SEEN: u8 = 1;
/// A hole is waited on or segments are held; else nothing of [`Trouble`] but its counters and what was acknowledged counts.
const WAITS: u8 = 2;
/// Everything up to the FIN has been handed on.
const FINISHED: u8 = 4;

/// Reassembly of one direction. Small: most streams have no trouble, and there may be a million of them.
#[derive(Default)]
pub struct Stream {
    /// Sequence number of the next byte to hand on, and of the first.
    next: u32,
    first: u32,
    /// [`SEEN`], [`WAITS`], [`FINISHED`]: together, as the next segment asks for all of them.
    state: u8,
    /// The end of what was acknowledged was given up but for its last number, which may be that of a FIN.
    given: bool,
    fin_seen: bool,
    /// From the first segment on that was out of order, repeated, lost or cut.
    trouble: Option<Box<Trouble>>,
}

/// What only a stream has that did not come in order and whole.
#[derive(Default)]
struct Trouble {
    /// How far `next` is from where it was when nothing was held.
    passed: u64,
    /// All beyond `next`.
    held: BTreeMap<Place, Held>,
    held_bytes: usize,
    acknowledged: Option<u32>,
    /// How far the sender itself says to have sent, beyond what was seen.
    reached: Option<u32>,
    /// When, and after how many segments, the hole at `next` was acknowledged.
    hole_ns: Option<i64>,
    hole_segments: u32,
    counters: StreamCounters,
}

impl Stream {
    /// Has everything up to the FIN been handed on?
    #[must_use]
    pub fn finished(&self) -> bool {
        self.state & FINISHED != 0
    }

    fn waits(&self) -> bool {
        self.state & WAITS != 0
    }

    /// The same, and nothing is held or waited on: whatever still comes, nothing more is handed on.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.finished() && !self.waits()
    }

    #[must_use]
    pub fn seen(&self) -> bool {
        self.state & SEEN != 0
    }

    /// Whether data begins right behind this SYN: it belongs to this stream, even if it comes late.
    #[must_use]
    pub fn begins_after(&self, syn: u32) -> bool {
        self.seen() && self.first == syn.wrapping_add(1)
    }

    #[must_use]
    pub fn fin_seen(&self) -> bool {
        self.fin_seen
    }

    #[must_use]
    pub fn held_bytes(&self) -> usize {
        if self.waits() { self.trouble.as_ref().map_or(0, |trouble| trouble.held_bytes) } else { 0 }
    }

    #[must_use]
    pub fn counters(&self) -> StreamCounters {
        self.trouble.as_ref().map_or_else(StreamCounters::default, |trouble| trouble.counters)
    }

    /// Has a hole been acknowledged, so that it will be given up in time ([`Stream::patience`])?
    #[must_use]
    pub fn patient(&self) -> bool {
        self.waits() && self.trouble.as_ref().is_some_and(|trouble| trouble.hole_ns.is_some())
    }

    fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    fn counted(&mut self) -> &mut StreamCounters {
        &mut self.trouble().counters
    }

    fn holds(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| !trouble.held.is_empty())
    }

    /// Whether a hole is waited on from now on.
    fn look(&mut self) {
        let waits = self.trouble.as_ref().is_some_and(|trouble| !trouble.held.is_empty() || trouble.hole_ns.is_some());
        self.state = self.state & !WAITS | if waits { WAITS } else { 0 };
    }

    /// Whether a segment without flags that begins at `sequence` is next and changes nothing but what was handed on: no hole,
    /// nothing held, no end.
    #[inline]
    #[must_use]
    pub fn is_next(&self, sequence: u32) -> bool {
        self.next == sequence && self.state == SEEN
    }

    /// Takes the payload of such a segment, which is handed on as it is.
    #[inline]
    pub fn pass(&mut self, length: u32) {
        if length > 0 {
            self.given = false;
            self.next = self.next.wrapping_add(length);
        }
    }

    /// Whether an acknowledgement of all before `number` says nothing: all of it was seen, and nothing is held.
    #[inline]
    #[must_use]
    pub fn is_heard(&self, number: u32) -> bool {
        let ahead = number.wrapping_sub(self.next);
        self.state & !FINISHED == SEEN && (ahead <= 1 || ahead >= AHEAD_MAX)
    }

    /// Takes a segment and hands on what is now in order.
    pub fn segment(&mut self, segment: &Segment<'_>, deliver: &mut dyn FnMut(Piece<'_>)) {
        let first = if segment.syn { segment.sequence.wrapping_add(1) } else { segment.sequence };
        if !self.seen() {
            (self.next, self.first) = (first, first);
            self.state |= SEEN;
        }
        let next = self.next;
        self.fin_seen |= segment.fin;
        let length = u32::try_from(segment.payload.len()).unwrap_or(u32::MAX).wrapping_add(segment.cut);
        let ahead = first.wrapping_sub(next);
        if ahead != 0 && ahead < AHEAD_MAX {
            if length == 0 && !segment.fin && !segment.syn {
                // A bare acknowledgement: its sender has sent all before its number.
                let reached = &mut self.trouble().reached;
                *reached = Some(reached.filter(|known| first.wrapping_sub(*known) >= AHEAD_MAX).unwrap_or(first));
            } else if length > 0 || segment.fin {
                self.hold(first, segment);
                if self.given && self.first_ahead() == Some(1) {
                    // The last number was no FIN.
                    self.give_up_first_hole(deliver);
                }
            }
        } else if ahead == 0 || ahead > u32::MAX - AHEAD_MAX {
            if self.holds() {
                let fresh = segment.payload.get(next.wrapping_sub(first) as usize..).unwrap_or_default();
                let trouble = self.trouble();
                trouble.compare(trouble.passed, fresh);
            }
            self.in_order(first, segment.payload, segment.cut, segment.fin, deliver);
            self.drain(deliver);
        } else {
            self.counted().invalid_segments += 1;
        }
        self.look();
        if self.waits() {
            let trouble = self.trouble();
            trouble.hole_segments = trouble.hole_segments.saturating_add(1);
            self.patience(segment.time_ns, deliver);
        }
    }

    /// The other side has received everything before `number`.
    pub fn acknowledge(&mut self, number: u32, time_ns: i64, deliver: &mut dyn FnMut(Piece<'_>)) {
        if !self.seen() {
            return;
        }
        let ahead = number.wrapping_sub(self.next);
        // One byte beyond the end with nothing after it is an unseen FIN, not data.
        if ahead == 0 || ahead >= AHEAD_MAX || (ahead == 1 && !self.holds()) || self.finished() {
            return;
        }
        let trouble = self.trouble();
        if trouble.acknowledged.is_none_or(|known| number.wrapping_sub(known) < AHEAD_MAX) {
            trouble.acknowledged = Some(number);
        }
        if trouble.hole_ns.is_none() {
            trouble.hole_ns = Some(time_ns);
            trouble.hole_segments = 0;
        }
        self.patience(time_ns, deliver);
    }

    /// Gives up holes that have been waited on long enough by `now_ns`.
    pub fn patience(&mut self, now_ns: i64, deliver: &mut dyn FnMut(Piece<'_>)) {
        let seen = self.seen();
        while let Some(trouble) = self.trouble.as_deref_mut().filter(|_| seen) {
            let (Some(since_ns), Some(acknowledged)) = (trouble.hole_ns, trouble.acknowledged) else { break };
            if now_ns.saturating_sub(since_ns) < PATIENCE_NS && trouble.hole_segments < PATIENCE_SEGMENTS {
                break;
            }
            let lost = acknowledged.wrapping_sub(self.next);
            if lost == 0 || lost >= AHEAD_MAX {
                trouble.hole_ns = None;
                break;
            }
            let Some(ahead) = trouble.first_ahead() else {
                trouble.hole_ns = None;
                if lost > 1 {
                    self.give_up(lost - 1, deliver);
                    self.given = true;
                }
                break;
            };
            self.give_up(ahead.min(lost), deliver);
        }
        while self.trouble.as_ref().is_some_and(|t| t.held_bytes > HELD_BYTES_MAX || t.held.len() > HELD_SEGMENTS_MAX) {
            self.give_up_first_hole(deliver);
        }
        self.look();
    }

    /// Hands on everything that is held: the connection ended, or its memory is needed. Where the other side has ended its
    /// own direction and this one's FIN was not seen, the last number that was acknowledged is the FIN's.
    pub fn flush(&mut self, other_fin_seen: bool, deliver: &mut dyn FnMut(Piece<'_>)) {
        if self.trouble.is_none() {
            return;
        }
        while self.holds() {
            self.give_up_first_hole(deliver);
        }
        let ends = self.trouble.as_ref().map_or([None; 2], |trouble| [trouble.acknowledged, trouble.reached]);
        for end in ends.into_iter().flatten() {
            if !self.seen() {
                continue;
            }
            let lost = end.wrapping_sub(self.next);
            let fin = u32::from(other_fin_seen);
            if (lost > 1 || (lost == 1 && self.given)) && lost > fin && lost < AHEAD_MAX && !self.finished() {
                self.give_up(lost - fin, deliver);
            }
        }
        self.look();
    }

    /// Bytes between the next one and the first segment held.
    fn first_ahead(&self) -> Option<u32> {
        self.trouble.as_ref()?.first_ahead()
    }

    fn give_up_first_hole(&mut self, deliver: &mut dyn FnMut(Piece<'_>)) {
        if let Some(lost) = self.first_ahead() {
            self.give_up(lost, deliver);
        }
    }

    fn advance(&mut self, count: u32) {
        self.next = self.next.wrapping_add(count);
        if let Some(trouble) = &mut self.trouble {
            trouble.passed += u64::from(count);
        }
    }

    fn give_up(&mut self, lost: u32, deliver: &mut dyn FnMut(Piece<'_>)) {
        if lost > 0 {
            self.gap(lost, deliver);
        }
        let trouble = self.trouble();
        trouble.hole_ns = None;
        trouble.hole_segments = 0;
        self.drain(deliver);
    }

    fn gap(&mut self, lost: u32, deliver: &mut dyn FnMut(Piece<'_>)) {
        let gaps = u64::from(!std::mem::take(&mut self.given));
        let counters = self.counted();
        counters.gaps += gaps;
        counters.lost_bytes += u64::from(lost);
        self.advance(lost);
        deliver(Piece::Gap(u64::from(lost)));
    }

    /// A segment that begins at or before `next`: hands on its new part.
    fn in_order(&mut self, first: u32, payload: &[u8], cut: u32, fin: bool, deliver: &mut dyn FnMut(Piece<'_>)) {
        let old = self.next.wrapping_sub(first) as usize;
        let fresh = payload.get(old..).unwrap_or_default();
        if fresh.len() < payload.len() {
            self.counted().retransmitted_bytes += (payload.len() - fresh.len()) as u64;
        }
        let cut = cut.saturating_sub(u32::try_from(old.saturating_sub(payload.len())).unwrap_or(u32::MAX));
        if !self.finished() {
            if !fresh.is_empty() {
                self.given = false;
                self.advance(u32::try_from(fresh.len()).unwrap_or(0));
                deliver(Piece::Data(fresh));
            }
            if cut > 0 {
                let counters = self.counted();
                counters.cuts += 1;
                counters.cut_bytes += u64::from(cut);
                self.gap(cut, deliver);
            }
        }
        if fin && !self.finished() {
            self.state |= FINISHED;
            self.advance(1);
        }
    }

    fn hold(&mut self, first: u32, segment: &Segment<'_>) {
        if self.finished() {
            self.counted().invalid_segments += 1;
            return;
        }
        let ahead = first.wrapping_sub(self.next);
        let trouble = self.trouble();
        trouble.counters.out_of_order_segments += 1;
        let place = trouble.passed + u64::from(ahead);
        trouble.compare(place, segment.payload);
        let held = Held { sequence: first, payload: segment.payload.into(), cut: segment.cut, fin: segment.fin };
        match trouble.held.get_mut(&Place(place)) {
            // The copy that says more wins; the same segment again is dropped.
            Some(same) if held.length() > same.length() => {
                trouble.held_bytes = trouble.held_bytes - same.size_bytes() + held.size_bytes();
                *same = held;
            }
            Some(_) => {}
            None => {
                trouble.held_bytes += held.size_bytes();
                trouble.held.insert(Place(place), held);
            }
        }
    }

    fn drain(&mut self, deliver: &mut dyn FnMut(Piece<'_>)) {
        let mut taken = 0;
        while let Some(trouble) = self.trouble.as_deref_mut() {
            let Some(entry) = trouble.held.first_entry().filter(|entry| entry.key().0 <= trouble.passed) else { break };
            let held = entry.remove();
            trouble.held_bytes -= held.size_bytes();
            self.in_order(held.sequence, &held.payload, held.cut, held.fin, deliver);
            taken += 1;
        }
        let (next, seen) = (self.next, self.seen());
        let Some(trouble) = self.trouble.as_deref_mut() else { return };
        if taken > 0 {
            trouble.hole_ns = None;
            trouble.hole_segments = 0;
        }
        if let Some(acknowledged) = trouble.acknowledged.filter(|_| seen) {
            let ahead = acknowledged.wrapping_sub(next);
            if ahead == 0 || ahead >= AHEAD_MAX {
                trouble.hole_ns = None;
            }
        }
    }
}

impl Trouble {
    fn first_ahead(&self) -> Option<u32> {
        let (place, _) = self.held.first_key_value()?;
        Some(u32::try_from(place.0.saturating_sub(self.passed)).unwrap_or(u32::MAX))
    }

    /// Counts a segment that says otherwise than those held beside it: the one that begins before it or with it, and the
    /// next one.
    fn compare(&mut self, place: u64, payload: &[u8]) {
        let before = self.held.range(..=Place(place)).next_back();
        let after = self.held.range(Place(place + 1)..).next();
        let differs = before.into_iter().chain(after).any(|(other, held)| {
            let from = place.max(other.0);
            let skip = |start: u64| usize::try_from(from - start).unwrap_or(usize::MAX);
            let mine = payload.get(skip(place)..).unwrap_or_default();
            let theirs = held.payload.get(skip(other.0)..).unwrap_or_default();
            let both = mine.len().min(theirs.len());
            mine.get(..both) != theirs.get(..both)
        });
        self.counters.conflicts += u64::from(differs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Places compared in the tree of held segments: the work that an order of segments makes.
        pub static COMPARISONS: Cell<u64> = const { Cell::new(0) };
    }

    /// What came out, gaps as runs of `_`.
    #[derive(Default)]
    struct Out(String);

    impl Out {
        fn take(&mut self, piece: Piece<'_>) {
            match piece {
                Piece::Data(data) => self.0.push_str(std::str::from_utf8(data).unwrap()),
                Piece::Gap(length) => self.0.extend(std::iter::repeat_n('_', usize::try_from(length).unwrap())),
            }
        }
    }

    fn segment(sequence: u32, payload: &str, time_ns: i64) -> Segment<'_> {
        Segment { sequence, payload: payload.as_bytes(), cut: 0, syn: false, fin: false, time_ns }
    }

    fn syn(sequence: u32) -> Segment<'static> {
        Segment { sequence, payload: b"", cut: 0, syn: true, fin: false, time_ns: 0 }
    }

    fn run(segments: &[Segment<'_>]) -> (String, Stream) {
        let (mut stream, mut out) = (Stream::default(), Out::default());
        for one in segments {
            stream.segment(one, &mut |p| out.take(p));
        }
        (out.0, stream)
    }

    #[test]
    fn out_of_order_segments_are_handed_on_in_order() {
        let (out, stream) = run(&[syn(99), segment(103, "defg", 1), segment(100, "abc", 2)]);
        assert_eq!(out, "abcdefg");
        assert_eq!(stream.held_bytes(), 0);
    }

    #[test]
    fn sequence_numbers_wrap_around() {
        let start = u32::MAX - 2;
        let (out, _) = run(&[syn(start.wrapping_sub(1)), segment(start.wrapping_add(4), "efg", 1), segment(start, "abcd", 2)]);
        assert_eq!(out, "abcdefg");
    }

    #[test]
    fn overlaps_and_retransmissions_are_counted_once() {
        let (out, stream) =
            run(&[syn(99), segment(100, "abcd", 1), segment(100, "abcd", 2), segment(102, "cdef", 3), segment(101, "bc", 4)]);
        assert_eq!(out, "abcdef");
        assert_eq!(stream.counters().retransmitted_bytes, 4 + 2 + 2);
    }

    #[test]
    fn a_hole_that_is_not_acknowledged_is_waited_for() {
        let mut segments = vec![syn(99), segment(100, "a", 0)];
        segments.extend((0..100).map(|i| segment(102 + i, "x", i64::from(i) * 1_000_000_000)));
        let (out, stream) = run(&segments);
        assert_eq!(out, "a");
        assert_eq!(stream.held_bytes(), 100 * (1 + SEGMENT_BYTES));
    }

    #[test]
    fn an_acknowledged_hole_is_lost_after_patience_and_not_before() {
        let (mut stream, mut out) = (Stream::default(), Out::default());
        for one in [syn(99), segment(100, "ab", 0), segment(105, "fg", 1)] {
            stream.segment(&one, &mut |p| out.take(p));
        }
        stream.acknowledge(107, 1_000, &mut |p| out.take(p));
        stream.patience(1_000 + PATIENCE_NS - 1, &mut |p| out.take(p));
        assert_eq!(out.0, "ab");
        stream.patience(1_000 + PATIENCE_NS, &mut |p| out.take(p));
        assert_eq!(out.0, "ab___fg");
        assert_eq!(stream.counters().lost_bytes, 3);
    }

    #[test]
    fn a_reordered_segment_within_patience_leaves_no_gap() {
        let (mut stream, mut out) = (Stream::default(), Out::default());
        for one in [syn(99), segment(100, "ab", 0), segment(105, "fg", 1)] {
            stream.segment(&one, &mut |p| out.take(p));
        }
        stream.acknowledge(107, 1_000, &mut |p| out.take(p));
        stream.segment(&segment(102, "cde", 2_000), &mut |p| out.take(p));
        stream.patience(i64::MAX, &mut |p| out.take(p));
        assert_eq!(out.0, "abcdefg");
        assert_eq!(stream.counters().gaps, 0);
    }

    #[test]
    fn lost_bytes_at_the_end_are_known_from_the_acknowledgement() {
        let (mut stream, mut out) = (Stream::default(), Out::default());
        stream.segment(&syn(99), &mut |p| out.take(p));
        stream.segment(&segment(100, "ab", 0), &mut |p| out.take(p));
        stream.acknowledge(110, 1, &mut |p| out.take(p));
        stream.flush(false, &mut |p| out.take(p));
        assert_eq!(out.0, "ab________");
    }

    #[test]
    fn the_last_number_of_a_lost_end_is_the_fins_if_the_other_side_ended_too() {
        for (other_fin_seen, expected) in [(true, "ab_______"), (false, "ab________")] {
            let (mut stream, mut out) = (Stream::default(), Out::default());
            stream.segment(&syn(99), &mut |p| out.take(p));
            stream.segment(&segment(100, "ab", 0), &mut |p| out.take(p));
            stream.acknowledge(110, 1, &mut |p| out.take(p));
            stream.patience(1 + PATIENCE_NS, &mut |p| out.take(p));
            assert_eq!(out.0, "ab_______");
            stream.flush(other_fin_seen, &mut |p| out.take(p));
            assert_eq!(out.0, expected);
            assert_eq!(stream.counters().gaps, 1);
        }
        let (mut stream, mut out) = (Stream::default(), Out::default());
        stream.segment(&segment(100, "ab", 0), &mut |p| out.take(p));
        stream.acknowledge(110, 1, &mut |p| out.take(p));
        stream.patience(1 + PATIENCE_NS, &mut |p| out.take(p));
        stream.segment(&segment(110, "cd", 1), &mut |p| out.take(p));
        assert_eq!(out.0, "ab________cd");
    }

    #[test]
    fn an_unseen_fin_is_not_a_lost_byte() {
        let (mut stream, mut out) = (Stream::default(), Out::default());
        stream.segment(&syn(99), &mut |p| out.take(p));
        stream.segment(&segment(100, "ab", 0), &mut |p| out.take(p));
        stream.acknowledge(103, 1, &mut |p| out.take(p));
        stream.flush(false, &mut |p| out.take(p));
        assert_eq!(out.0, "ab");
    }

    #[test]
    fn bytes_beyond_the_snap_length_are_an_exact_gap() {
        let cut = Segment { cut: 3, ..segment(100, "ab", 0) };
        let (out, stream) = run(&[syn(99), cut, segment(105, "fg", 1)]);
        assert_eq!(out, "ab___fg");
        assert_eq!((stream.counters().lost_bytes, stream.counters().cut_bytes), (3, 3));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let payload = "x".repeat(60_000);
        let mut segments = vec![syn(99)];
        segments.extend((0..200).map(|i| segment(101 + i * 60_000, &payload, 0)));
        let (out, stream) = run(&segments);
        assert!(stream.held_bytes() <= HELD_BYTES_MAX);
        assert!(out.starts_with('_') && out.len() > 60_000);
    }

    #[test]
    fn a_fin_ends_the_stream_once_all_before_it_came() {
        let fin = Segment { fin: true, ..segment(102, "c", 0) };
        let (out, stream) = run(&[syn(99), fin]);
        assert_eq!((out.as_str(), stream.finished()), ("", false));
        let (out, stream) = run(&[syn(99), fin, segment(100, "ab", 1)]);
        assert_eq!((out.as_str(), stream.finished()), ("abc", true));
    }

    #[test]
    fn random_order_gives_the_same_bytes() {
        use crate::protocols::testing::Random;
        for seed in 1..200 {
            let mut random = Random(seed);
            let text: String = (0..400).map(|i| char::from(b'a' + u8::try_from(i % 26).unwrap())).collect();
            let mut pieces = Vec::new();
            let mut at = 0;
            while at < text.len() {
                let length = (1 + random.below(20)).min(text.len() - at);
                let back = random.below(5).min(at);
                pieces.push((at - back, at + length));
                at += length;
            }
            for i in (1..pieces.len()).rev() {
                pieces.swap(i, random.below(i + 1));
            }
            let start = u32::MAX - 200;
            let mut segments = vec![syn(start.wrapping_sub(1))];
            segments.extend(pieces.iter().map(|&(a, b)| segment(start.wrapping_add(u32::try_from(a).unwrap()), &text[a..b], 0)));
            assert_eq!(run(&segments).0, text, "seed {seed}");
        }
    }

    #[test]
    fn of_segments_that_disagree_the_one_that_begins_first_wins_and_it_is_counted() {
        let conflicts = |segments: &[Segment<'_>]| {
            let (out, stream) = run(segments);
            (out, stream.counters().conflicts)
        };
        // What was handed on stays: the first copy. It is gone, so nobody can tell that the second differs.
        assert_eq!(conflicts(&[syn(99), segment(100, "abcd", 1), segment(102, "XYef", 2)]), ("abcdef".into(), 0));
        // Held: the earlier beginning, whichever came first.
        assert_eq!(conflicts(&[syn(99), segment(103, "defg", 1), segment(101, "bcXY", 2), segment(100, "a", 3)]), ("abcXYfg".into(), 1));
        assert_eq!(conflicts(&[syn(99), segment(101, "bcXY", 1), segment(103, "defg", 2), segment(100, "a", 3)]), ("abcXYfg".into(), 1));
        // The same beginning: the longer one, else the first.
        assert_eq!(conflicts(&[syn(99), segment(101, "bX", 1), segment(101, "bcd", 2), segment(100, "a", 3)]), ("abcd".into(), 1));
        assert_eq!(conflicts(&[syn(99), segment(101, "bcd", 1), segment(101, "bXd", 2), segment(100, "a", 3)]), ("abcd".into(), 1));
        // The one that fills the hole reaches into what is held.
        assert_eq!(conflicts(&[syn(99), segment(102, "cd", 1), segment(100, "abXY", 2)]), ("abXY".into(), 1));
        // Copies that agree are no conflict.
        assert_eq!(conflicts(&[syn(99), segment(102, "cd", 1), segment(101, "bcd", 2), segment(100, "abc", 3)]), ("abcd".into(), 0));
    }

    #[test]
    fn no_order_of_segments_makes_more_than_a_few_comparisons_each_or_holds_more_than_its_bound() {
        let count = u32::try_from(2 * HELD_SEGMENTS_MAX).unwrap();
        // Holes at every second byte, in orders that a sorted list would hate.
        let ascending: Vec<u32> = (0..count).collect();
        let descending: Vec<u32> = (0..count).rev().collect();
        let outside_in: Vec<u32> = (0..count).map(|i| if i % 2 == 0 { i / 2 } else { count - 1 - i / 2 }).collect();
        let bits = count.ilog2();
        let scattered: Vec<u32> = (0..count).map(|i| i.reverse_bits() >> (32 - bits)).collect();
        for (name, order) in [("ascending", ascending), ("descending", descending), ("outside in", outside_in), ("scattered", scattered)] {
            let mut stream = Stream::default();
            let mut out = 0_u64;
            let mut deliver = |piece: Piece<'_>| out += u64::from(matches!(piece, Piece::Data(_)));
            stream.segment(&syn(99), &mut deliver);
            COMPARISONS.set(0);
            let mut most = 0;
            for at in &order {
                let before = COMPARISONS.get();
                stream.segment(&segment(101 + 2 * at, "x", 0), &mut deliver);
                most = most.max(COMPARISONS.get() - before);
                assert!(
                    stream.held_bytes() <= HELD_BYTES_MAX
                        && stream.trouble.as_ref().is_none_or(|trouble| trouble.held.len() <= HELD_SEGMENTS_MAX),
                    "{name}"
                );
            }
            // Then the holes are filled one by one, from the far end.
            for at in (0..count).rev() {
                stream.segment(&segment(100 + 2 * at, "y", 0), &mut deliver);
            }
            stream.flush(false, &mut deliver);
            let each = COMPARISONS.get() / u64::from(2 * count);
            assert!(each <= 150, "{name}: {each} comparisons a segment");
            assert!(most <= 600, "{name}: {most} comparisons for one segment");
            // What was given up and came later is old.
            assert!(out >= u64::from(count) / 2, "{name}: {out} pieces of {count} came out");
        }
    }
}
