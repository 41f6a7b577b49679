//! A statement asked in one segment and answered in one: most of what a database says all day.
//!
//! A driver that speaks the extended protocol sends Parse, Bind, Describe, Execute and Sync together (PostgreSQL, 55.2.3), and
//! what answers them comes together too. Read one by one, eleven messages change the same few states eleven times. Here a round
//! is looked at as a whole, and only then anything is changed: what is unusual in any respect is left as it was, for the
//! messages one by one, and what was asked is put in their queue as if it had never been anywhere else
//! ([`Postgresql::unfold`]). `facts` are gathered message by message, so a decoder that gathers them goes no rounds: the shared
//! checks hold the events of both against each other.

use super::statements::{Claim, EMPTY, Id, Move, UNSEEN};
use super::{
    CHANGED, NAME_BYTES_MAX, NAMED_BYTES_MAX, NAMED_MAX, Phase, Postgresql, REQUESTED_BYTES_MAX, Request, SHAPES, Shape, cstring, narrow,
    number_of,
};
use crate::windows::{Counts, Operation, Part, Place, Recorder, Side};

/// What was asked in one segment while nothing else was outstanding, and is not answered yet.
#[derive(Clone, Copy)]
pub(super) struct Round {
    id: Id,
    parses: bool,
    describes: bool,
}

/// What a server says to Parse and Bind, and to Bind alone.
const PARSED_AND_BOUND: &[u8; 10] = &[b'1', 0, 0, 0, 4, b'2', 0, 0, 0, 4];
const BOUND: &[u8; 5] = &[b'2', 0, 0, 0, 4];
const NO_DATA: &[u8; 5] = &[b'n', 0, 0, 0, 4];
const SYNC: &[u8] = &[b'S', 0, 0, 0, 4];

/// What follows `head`, if that stands first. Its length is a constant, so that a few words are compared and nothing is called.
#[inline(always)]
fn behind<'a, const N: usize>(head: &[u8; N], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    (first == head).then_some(rest)
}

/// The body of the message that stands first, if it has this tag and is whole, and what follows it. One that is too long to be
/// read wholly otherwise is none, but for a Bind: its names stand first.
#[inline(always)]
fn message(sender: Side, tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([first, length @ ..], rest) = bytes.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes(*length);
    let Shape { length_min, wanted, .. } = SHAPES[sender as usize][usize::from(tag)];
    if *first != tag || length < length_min || (length - 4 > wanted && tag != b'B') {
        return None;
    }
    rest.split_at_checked(length as usize - 4)
}

/// Whether what ends a round describes it: Describe, if there is one, Execute, Sync, and nothing else. `name` is that of the statement.
#[inline(always)]
fn ending(bytes: &[u8], name: &[u8]) -> Option<bool> {
    // Nearly always of the portal without a name; how many rows are asked for changes nothing.
    if let Ok::<&[u8; 22], _>(usual) = bytes.try_into() {
        let (head, rest) = usual.split_first_chunk::<13>()?;
        let (_, sync) = rest.split_first_chunk::<4>()?;
        if *head == [b'D', 0, 0, 0, 6, b'P', 0, b'E', 0, 0, 0, 9, 0] && sync == SYNC {
            return Some(true);
        }
    }
    ending_otherwise(bytes, name)
}

#[inline(never)]
fn ending_otherwise(bytes: &[u8], name: &[u8]) -> Option<bool> {
    const CLIENT: Side = Side::Client;
    let described = message(CLIENT, b'D', bytes);
    let mut rest = bytes;
    if let Some((body, after)) = described {
        // Of the portal, or of the statement that it was made of.
        let is_it = body == b"P\0" || body.strip_prefix(b"S").is_some_and(|body| cstring(body).0 == name);
        rest = is_it.then_some(after)?;
    }
    let (body, after) = message(CLIENT, b'E', rest)?;
    (body.len() == 5 && body.first() == Some(&0) && after == SYNC).then_some(described.is_some())
}

impl Postgresql {
    /// Nothing is outstanding, half read, held back or in doubt: rounds may be gone.
    pub(super) fn is_at_rest(&self) -> bool {
        let framed = self.halves.iter().all(|half| half.phase == Phase::Framed && half.skip == 0 && half.carried().is_empty());
        framed
            && self.ready
            && self.requests.is_empty()
            && self.doubt.is_none()
            && !(self.opaque || self.running.counted)
            && self.inner.is_none()
            && self.gathered.is_none()
            && self.requested_bytes as usize <= REQUESTED_BYTES_MAX
            && self.entries.len() < self.entries_due as usize
            && !self.entries.untidy()
    }

    /// Reads a segment that is one half of a round, all of it; false: it is something else, and nothing was changed.
    #[inline]
    pub(super) fn read_round(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> bool {
        match (sender, self.round) {
            (Side::Client, None) if self.at_rest => self.asked_at_once(bytes, out).is_some(),
            (Side::Server, Some(round)) => self.answered_at_once(round, bytes, out).is_some(),
            _ => false,
        }
    }

    /// Puts what a round asked in the queue of requests.
    pub(super) fn unfold(&mut self) {
        let Some(Round { id, parses, describes }) = self.round.take() else { return };
        if parses {
            self.requests.push(Request::Parse(id));
        }
        self.requests.push(Request::Bind(id));
        if describes {
            self.requests.push(Request::Describe(id));
        }
        self.requests.push(Request::Execute(id));
        self.requests.push(Request::Sync);
    }

    /// Parse of a text that is known, if there is one, Bind, Describe if there is one, Execute, Sync; of the statement and the
    /// portal without a name, or of a prepared statement.
    fn asked_at_once(&mut self, bytes: &[u8], out: &mut Recorder<'_>) -> Option<()> {
        const CLIENT: Side = Side::Client;
        let (mut id, mut rest, mut parses) = (None, bytes, false);
        if let Some((body, after)) = message(CLIENT, b'P', rest) {
            id = Some(self.parsed_before(behind(b"\0", body)?, out)?);
            (rest, parses) = (after, true);
        }
        let (body, after) = message(CLIENT, b'B', rest)?;
        let (name, _) = cstring(behind(b"\0", body)?);
        if !(parses && name.is_empty()) {
            id = self.prepared.get(name).filter(|_| !parses && name.len() < NAME_BYTES_MAX);
        }
        let id = id.filter(|id| !matches!(*id, UNSEEN | EMPTY))?;
        let describes = ending(after, name)?;
        let known = self.entries.parsed(id);
        if !known.plain {
            return None;
        }
        let late = known.late;
        let keeps = self.portals.get(b"") != Some(id) || (parses && self.prepared.get(b"") != Some(id));
        if keeps {
            let room = self.named_bytes as usize + 2 * known.size_bytes <= NAMED_BYTES_MAX;
            if !room || self.portals.len() >= NAMED_MAX || self.prepared.len() >= NAMED_MAX {
                return None;
            }
            if parses {
                self.exchange(false, id);
            }
            self.exchange(true, id);
        }
        if parses {
            self.entries.asked(id);
        }
        self.round = Some(Round { id, parses, describes });
        let asked = (bytes.len() - SYNC.len()) as u64;
        let counts = Counts::messages(u64::from(!late));
        let [at_request, _, at_session] = self.entries.places(id);
        self.tell(self.entries.request(id), Part { place: at_request, bytes: asked, beside: 0, counts }, CLIENT, out);
        self.tell(Move::CONNECT, Part { place: at_session, bytes: SYNC.len() as u64, beside: 0, counts: Counts::ZERO }, CLIENT, out);
        Some(())
    }

    /// The statement of a Parse's text and what follows it, if the text was read before.
    #[inline]
    fn parsed_before(&mut self, text: &[u8], out: &mut Recorder<'_>) -> Option<Id> {
        // Nearly always no type is given. A text that is known has no NUL in it, so there is no need to look for one.
        let untyped = text.strip_suffix(b"\0\0\0").and_then(|text| self.entries.expected(text).or_else(|| self.known_statement(text)));
        untyped.or_else(|| {
            let text = text.get(..memchr::memchr(0, text)?)?;
            self.known_statement(text).or_else(|| self.heard_elsewhere(text, out))
        })
    }

    /// What answers a round that the server did not refuse: as it was described before, with whole rows, and the end of the
    /// transaction or of the statement.
    fn answered_at_once(&mut self, round: Round, bytes: &[u8], out: &mut Recorder<'_>) -> Option<()> {
        const SERVER: Side = Side::Server;
        let Round { id, parses, describes } = round;
        let known = self.entries.parsed(id);
        let operation = known.statement.operation;
        let returns = operation == Operation::Select;
        if known.tableless || matches!(operation, Operation::Copy | Operation::Replicate | Operation::Backup) {
            return None;
        }
        let late = known.late;
        let mut rest = if parses { behind(PARSED_AND_BOUND, bytes) } else { behind(BOUND, bytes) }?;
        let mut asked = bytes.len() - rest.len();
        if describes {
            if let Some(after) = behind(NO_DATA, rest) {
                asked += NO_DATA.len();
                rest = after;
            } else {
                let (body, after) = message(SERVER, b'T', rest).filter(|_| returns)?;
                rest = (self.entries.is_described(id, body) || self.describe_as_first(id, body)).then_some(after)?;
            }
        }
        let mut rows = 0;
        while let Some(&[b'D', a, b, c, d]) = rest.first_chunk() {
            let length = u32::from_be_bytes([a, b, c, d]);
            rest = rest.get(1 + length as usize..).filter(|_| length >= 6 && returns)?;
            rows += 1;
        }
        let (tag, after) = message(SERVER, b'C', rest)?;
        let &[b'Z', 0, 0, 0, 5, status] = after else { return None };
        if self.gapped && !self.fits_tag(id, tag) {
            return None;
        }

        self.idle_ns = out.time_ns;
        self.interrupted = None;
        self.requested_bytes = 0;
        self.mark.naming = false;
        self.round = None;
        self.rolled_back = tag.starts_with(b"ROLLBACK");
        if matches!(operation, Operation::Insert | Operation::Update | Operation::Delete) {
            let (tag, _) = cstring(tag);
            if tag.starts_with(b"COPY ") || CHANGED.iter().any(|(verb, _)| tag.starts_with(verb)) {
                rows = number_of(tag);
            }
        }
        let (request, whole) = (self.entries.request(id), self.entries.whole(id));
        let counts = Counts { rows, messages: u64::from(late), ..Counts::ZERO };
        let mut told = bytes.len() - after.len();
        let [at_request, at_rows, at_session] = self.entries.places(id);
        // What returns nothing and is counted with its request has the request's place.
        let at_whole = match (returns, late) {
            (true, _) => at_rows,
            (false, true) => Place::default(),
            (false, false) => at_request,
        };
        let apart = request != whole;
        let beside = if apart { asked as u64 } else { 0 };
        told -= beside as usize;
        let part = Part { place: at_whole, bytes: told as u64, beside: 0, counts };
        let together = apart && at_request.is_beside(at_whole) && out.add_part(Part { beside, ..part }, SERVER);
        if !together {
            if apart {
                self.tell(request, Part { place: at_request, bytes: beside, beside: 0, counts: Counts::ZERO }, SERVER, out);
            }
            self.tell(whole, part, SERVER, out);
        }
        // The end of the transaction may change who the rest is told of.
        self.transaction(status, out);
        if self.mark.is_set {
            self.end_mark(out);
        }
        self.tell(Move::CONNECT, Part { place: at_session, bytes: after.len() as u64, beside: 0, counts: Counts::ZERO }, SERVER, out);
        Some(())
    }

    /// As [`Postgresql::keep`] of the statement or the portal without a name, where there is room.
    #[inline(always)]
    fn exchange(&mut self, portal: bool, id: Id) {
        let names = if portal { &mut self.portals } else { &mut self.prepared };
        let before = names.get(b"");
        if before != Some(id) {
            names.insert(b"", id);
            let bytes = |id| narrow(self.entries.parsed(id).size_bytes);
            self.named_bytes = self.named_bytes.saturating_sub(before.map_or(0, bytes)).saturating_add(bytes(id));
        }
    }

    /// Hands over what belongs to a movement: where it was counted last, if that window is open.
    #[inline(always)]
    pub(super) fn tell(&mut self, movement: Move, part: Part, sender: Side, out: &mut Recorder<'_>) {
        if !out.add_part(part, sender) {
            let Part { bytes, counts, .. } = part;
            debug_assert_eq!(part.beside, 0, "what is beside has a movement of its own");
            self.entries.record(&Claim { movement, sender, estimated: false, bytes, counts }, out);
        }
    }
}

#[cfg(test)]
mod tests;
