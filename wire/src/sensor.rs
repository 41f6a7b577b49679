//! The sensor: frames become connections, connections are recognised and decoded, windows come out.
//!
//! Time is packet time throughout: the same frames give the same events, however they were read. Only a live capture
//! that is silent is moved on by the clock ([`Sensor::advance`]).

use crate::contexts::{self, Contexts, Step};
use crate::copies::{Copies, PlainSight};
use crate::fragments::{FragmentCounters, Fragments, Outcome};
use crate::packet::plain::Plain;
use crate::packet::tunnel::{self, TUNNELS_MAX};
use crate::packet::{self, Fragment, Layer, LinkType, Malformed, Packet, Tcp, TcpFlags, Transport, Udp, Vlans};
use crate::pairs::{Answered, Ends, Pairs};
use crate::protocols::{self, Decoder, HEAD_BYTES_MAX, Heads, Options, Protocol, Recognition, UNDECIDED_BYTES_MAX};
use crate::quality::Quality;
use crate::slow::{At, Handed, Line, Outlet};
use crate::soon::{soon, soon_lines};
use crate::source::{FRAMES_MAX, Frame};
use crate::stream::{PATIENCE_NS, Piece, Segment, Stream};
use crate::table::{Seeded, Table};
use crate::windows::{ConnectionId, Counts, Depth, Endpoint, Facts, Loss, Movement, Opening, Operation, Side, Turn, Windows, rfc3339};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Connections followed at once; beyond, the sixteenth part that was silent longest is closed, those without payload
/// first (`evicted_total`).
pub const CONNECTIONS_MAX: usize = 500_000;
/// Bytes held out of order by all streams together; beyond, the stream that asks for more gives its holes up.
pub const HELD_BYTES_TOTAL_MAX: usize = 256 << 20;
/// Bytes held by all decoders together, by their own account; beyond, the connection whose decoder asks for more is
/// counted in bytes (`decoders_dropped_total`).
pub const DECODER_BYTES_TOTAL_MAX: usize = 1 << 30;
/// Stream bytes after which a decoder is asked again what it holds: at first, and at the most.
const WEIGHED_BYTES_MIN: u64 = 256;
const WEIGHED_BYTES_MAX: u64 = 16 << 10;
/// Segments at which a connection joined midway may be recognised.
pub const RECOGNITIONS_MAX: u8 = 64;
/// A connection whose other side was not heard after so many packets is not looked for in other contexts any more: the
/// acknowledgement of a SYN/ACK, or what repeats it, is among the first.
const PAIRING_PACKETS_MAX: u64 = 4;
/// Further contexts of one connection, known from copies; in more its packets begin connections of their own
/// (`contexts_dropped_total`).
pub const CONTEXTS_MAX: usize = 8;
/// Lines of `conversations()`; beyond, they are counted only.
pub const CONVERSATIONS_MAX: usize = 1_000_000;

/// Connections from which on what they hold is asked for ahead.
const MANY: usize = 512;
/// So many connections before one ends, what it holds is asked for.
const ENDING_AHEAD: usize = 16;
/// Places of [`Recent`]: 4 KB.
const RECENT: usize = 1024;
/// Packets of one end without one of the other, before the other is held to be out of sight rather than late.
const ONE_SIDED_PACKETS: u64 = 3;
const TCP_NUMBER: u8 = 6;
const UDP_NUMBER: u8 = 17;
const SECOND_NS: i64 = 1_000_000_000;
/// How often holes, closings and losses are looked at.
const TICK_NS: i64 = 5_000_000;
const SWEEP_NS: i64 = 10 * SECOND_NS;
/// After FIN both ways or RST: stragglers are still awaited for this long.
const LINGER_NS: i64 = SECOND_NS / 2;
const CLOSED_NS: i64 = 30 * SECOND_NS;
const HALF_OPEN_NS: i64 = 30 * SECOND_NS;
const IDLE_TCP_NS: i64 = 3600 * SECOND_NS;
/// Interfaces interleave, so time may go back a little; by more, the clock went back.
const BACK_NS: i64 = SECOND_NS;
const IDLE_OTHER_NS: i64 = 60 * SECOND_NS;

#[derive(Clone, Debug, Default)]
pub struct SensorOptions {
    /// Keep what `hopwatch inspect` shows.
    pub conversations: bool,
    /// Count and leave out packets with wrong checksums. Off: offload makes most local ones wrong.
    pub verify_checksums: bool,
    pub tap: Option<String>,
    /// Other bounds than [`DECODER_BYTES_TOTAL_MAX`] and [`CONNECTIONS_MAX`].
    pub decoder_bytes_max: Option<usize>,
    pub connections_max: Option<usize>,
    /// Pairs of tags, or of other steps of a context, that are one network.
    pub equal: Vec<(Step, Step)>,
    /// Interfaces and the taps they belong to: what two taps show are different networks.
    pub taps: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default)]
pub struct SensorCounters {
    pub packets_total: u64,
    pub bytes_total: u64,
    pub not_ip_packets_total: u64,
    /// Packets that a mirror showed again, and their bytes of IP payload.
    pub copies_total: u64,
    pub copied_bytes_total: u64,
    pub contexts_dropped_total: u64,
    /// TCP connections that said enough to tell whether both sides were seen, and those of which one was not.
    pub conversing_total: u64,
    pub one_sided_total: u64,
    /// Packets found inside others, and those too deep inside to be opened.
    pub tunnelled_packets_total: u64,
    pub tunnel_depth_total: u64,
    pub checksum_errors_total: u64,
    pub malformed_packets_total: [u64; Malformed::ALL.len()],
    pub connections_total: u64,
    pub evicted_total: u64,
    /// Of them, those that carried data.
    pub evicted_with_data_total: u64,
    /// Segments whose bytes differ from another copy of them.
    pub conflicting_segments_total: u64,
    /// Connections whose decoder was given up because all together held too much.
    pub decoders_dropped_total: u64,
    pub gaps_total: u64,
    pub lost_bytes_total: u64,
    pub decode_errors_total: u64,
    pub kernel_drops_total: u64,
    pub conversations_dropped_total: u64,
}

/// Context, protocol and both ends, the lower one first. In words: it is hashed and compared for every packet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Key {
    /// Addresses, of IPv6 ones the lower halves.
    low: u64,
    high: u64,
    /// Both ports, and the context.
    ports: u64,
    /// The protocol, and [`Key::IPV6`].
    kind: u64,
    /// The upper halves of IPv6 addresses.
    upper: [u64; 2],
}

impl Hash for Key {
    /// Two words for IPv4, whose addresses are halves of one.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let about = self.ports ^ self.kind.rotate_right(16);
        if self.kind & Self::IPV6 == 0 {
            state.write_u64(self.low << 32 | self.high);
            state.write_u64(about);
        } else {
            let [low, high] = self.upper;
            [self.low, self.high, about, low, high].into_iter().for_each(|word| state.write_u64(word));
        }
    }
}

impl Key {
    const IPV6: u64 = 1 << 8;
    const CONTEXT: u64 = 0xffff_ffff;

    fn of(packet: &Packet<'_>, ends: [(IpAddr, u16); 2]) -> Self {
        let [first, second] = ends;
        let ((low, low_port), (high, high_port)) = if first <= second { (first, second) } else { (second, first) };
        let words = |address| match address {
            IpAddr::V4(v4) => (u64::from(v4.to_bits()), 0),
            IpAddr::V6(v6) => (v6.to_bits() as u64, (v6.to_bits() >> 64) as u64),
        };
        let ((low, low_upper), (high, high_upper)) = (words(low), words(high));
        let family = if first.0.is_ipv6() { Self::IPV6 } else { 0 };
        let ports = Self::ports(low_port, high_port, packet.context);
        Self { low, high, ports, kind: u64::from(packet.protocol) | family, upper: [low_upper, high_upper] }
    }

    /// That of a plain packet, and whether its sender is the lower end.
    #[inline]
    fn of_plain(packet: &Plain<'_>, context: u32) -> (PlainKey, bool) {
        // As one number each: which is lower changes with every packet, and no processor foresees that.
        let end = |address: u32, port: u16| u64::from(address) << 16 | u64::from(port);
        let source = end(packet.source, packet.source_port);
        let destination = end(packet.destination, packet.destination_port);
        let (low, high) = (source.min(destination), source.max(destination));
        let ports = Self::ports(low as u16, high as u16, context);
        (PlainKey { low: (low >> 16) as u32, high: (high >> 16) as u32, ports }, source <= destination)
    }

    #[inline]
    fn is_plain(&self, key: PlainKey) -> bool {
        let PlainKey { low, high, ports } = key;
        self.low == u64::from(low) && self.high == u64::from(high) && self.ports == ports && self.kind == u64::from(TCP_NUMBER)
    }

    #[inline]
    fn ports(low: u16, high: u16, context: u32) -> u64 {
        u64::from(low) << 48 | u64::from(high) << 32 | u64::from(context)
    }

    fn context(&self) -> u32 {
        (self.ports & Self::CONTEXT) as u32
    }

    fn protocol(&self) -> u8 {
        self.kind as u8
    }

    fn endpoints(&self) -> [Endpoint; 2] {
        let address = |lower: u64, upper: u64| match self.kind & Self::IPV6 {
            0 => IpAddr::V4(Ipv4Addr::from_bits(lower as u32)),
            _ => plain(IpAddr::V6(Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower)))),
        };
        [
            Endpoint { address: address(self.low, self.upper[0]), port: (self.ports >> 48) as u16 },
            Endpoint { address: address(self.high, self.upper[1]), port: (self.ports >> 32) as u16 },
        ]
    }

    /// The same in no context.
    fn ends(self) -> Self {
        Self { ports: self.ports & !Self::CONTEXT, ..self }
    }
}

/// The key of TCP in IPv4.
#[derive(Clone, Copy, Default)]
struct PlainKey {
    low: u32,
    high: u32,
    ports: u64,
}

impl PlainKey {
    /// The hash of the same [`Key`].
    #[inline(always)]
    #[allow(clippy::manual_hash_one)] // That one is not inlined.
    fn hashed(self, seeds: &Seeded) -> u64 {
        let mut hasher = seeds.build_hasher();
        Key::from(self).hash(&mut hasher);
        hasher.finish()
    }
}

impl From<PlainKey> for Key {
    #[inline]
    fn from(key: PlainKey) -> Self {
        Self { low: key.low.into(), high: key.high.into(), ports: key.ports, kind: TCP_NUMBER.into(), upper: [0; 2] }
    }
}

/// Of them a segment in the midst of a stream has but one, the acknowledgement.
const BARE: u8 = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::ACK;

/// Where connections stand whose packets came last, by their ends alone: a guess, to be held against the key. A table of keys would be
/// hashed so that nobody can fill one place of it; here whoever does makes others wait for that table, no more.
struct Recent(Box<[u32; RECENT]>);

impl Default for Recent {
    fn default() -> Self {
        Self(Box::new([u32::MAX; RECENT]))
    }
}

impl Recent {
    #[inline]
    fn place(key: PlainKey) -> usize {
        let ends = key.ports >> 32 ^ u64::from(key.low ^ key.high);
        (ends ^ ends >> 16) as usize % RECENT
    }

    #[inline]
    fn guess(&self, key: PlainKey) -> u32 {
        self.0[Self::place(key)]
    }

    fn note(&mut self, key: PlainKey, index: u32) {
        self.0[Self::place(key)] = index;
    }
}

/// What is known of a packet before it is its turn. Kept between batches: a place for each frame of one, in one line of the cache.
#[derive(Clone, Copy, Default)]
struct Ahead {
    key: PlainKey,
    sight: PlainSight,
    sequence: u32,
    acknowledgment: u32,
    /// Where its connection stands, as far as that was guessed; else beyond all.
    index: u32,
    /// Where its payload lies in the frame.
    payload: [u16; 2],
    flags: TcpFlags,
    is_low: bool,
    /// Else it is read in its turn, and nothing else here is of it.
    is_plain: bool,
}

/// What is to be done when: the time, a connection's index and generation.
type Due = VecDeque<(i64, usize, u64)>;

/// The next that is due.
fn due(queue: &mut Due, now_ns: i64) -> Option<(usize, u64)> {
    let &(due_ns, index, generation) = queue.front()?;
    (due_ns <= now_ns).then(|| queue.pop_front())?;
    Some((index, generation))
}

enum State {
    /// Waiting for enough bytes to recognise the protocol.
    Undecided(Option<Box<Undecided>>),
    Decoding(Box<dyn Decoder>),
    /// Read by a plug-in, elsewhere.
    Slow(Box<Line>),
    /// Counted, not read.
    Opaque,
}

#[derive(Default)]
struct Undecided {
    pieces: Vec<(usize, Vec<u8>)>,
    bytes: usize,
}

impl State {
    /// Bytes held, by the decoder's own account.
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Undecided(undecided) => undecided.as_ref().map_or(0, |undecided| undecided.bytes),
            Self::Decoding(decoder) => decoder.memory_bytes(),
            Self::Slow(_) | Self::Opaque => 0,
        }
    }
}

/// What connections have in common, each a number in their records.
struct About {
    contexts: Contexts,
    /// Names of the IP protocols that were seen, with their numbers.
    transports: Vec<(u8, Arc<str>)>,
    /// Taps in the order in which they were seen; the first is none.
    taps: Vec<Option<Arc<str>>>,
    /// Where connections go that plug-ins read.
    slow: Option<Outlet>,
}

impl About {
    fn transport(&self, protocol: u8) -> Arc<str> {
        let known = self.transports.iter().find(|(number, _)| *number == protocol);
        known.map_or_else(|| Arc::from(transport_name(protocol)), |(_, name)| Arc::clone(name))
    }

    fn tap_number(&mut self, name: Arc<str>) -> u32 {
        let known = self.taps.iter().position(|tap| tap.as_ref() == Some(&name));
        let number = known.unwrap_or(self.taps.len());
        if known.is_none() {
            self.taps.push(Some(name));
        }
        number as u32
    }

    fn tap(&self, number: u32) -> Option<Arc<str>> {
        self.taps.get(number as usize).cloned().flatten()
    }
}

/// Marks the ordinal of a connection that a plug-in read up to some place.
const TAKEN_BACK: u64 = 1 << 63;

/// What a connection carries: everything but the transport's own state. What its next segment needs stands first, in two lines
/// of the cache.
#[repr(C)]
struct Application {
    state: State,
    known: Known,
    packets: [u64; 2],
    stream_bytes: [u64; 2],
    last_ns: i64,
    /// After how many stream bytes more its decoder is asked again what it holds, and what it held when it was asked last.
    weighed_in: u32,
    decoder_bytes: u32,
    tap: u32,
    recognitions: u8,
    /// Which end is the protocol's client: the opener, until the protocol says otherwise.
    client: u8,
    opener: Option<bool>,
    /// Whether the first packet came from the lower end of the key.
    first_is_low: bool,
    midstream: bool,
    /// It acknowledges: the other end has spoken, seen or not.
    heard: bool,
    /// Only one end has been seen.
    silent: bool,
    one_sided: bool,
    /// What the windows were told of that.
    told: bool,
    facts: bool,
    lost: bool,
    settled: bool,
    key: Key,
    first_ns: i64,
    /// The last protocol that recognised it.
    protocol: Option<&'static Protocol>,
    rare: Option<Box<Rare>>,
}

/// What the windows know of a connection.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    /// Its number there.
    Open(u32),
    /// Everything was said of it and nothing more can come: they have let it go, but for this.
    LetGo(Turn),
}

/// What few connections have.
#[derive(Default)]
struct Rare {
    /// Not 0 where ends and first time do not tell it from another connection.
    ordinal: u64,
    loss: Option<Box<Gaps>>,
    shown: Option<Box<Shown>>,
    copied: Option<Box<Copied>>,
    errors: u32,
    /// Of its first packet; only where the capture is measured.
    vlans: Vlans,
}

/// What `hopwatch inspect` shows of a connection.
#[derive(Default)]
struct Shown {
    found: Facts,
    protocols: Vec<&'static str>,
}

/// Gaps not yet told, at most a second of them.
struct Gaps {
    start_ns: i64,
    end_ns: i64,
    bytes: u64,
    gaps: u64,
    flows: BTreeSet<String>,
}

/// Lies in one table with all others: what it does not need yet is a pointer, what others have too a number. What the next
/// segment needs stands first.
#[repr(C, align(64))]
struct Connection {
    streams: [Stream; 2],
    payload_bytes: [u64; 2],
    application: Application,
    generation: u64,
    initial: Initial,
    /// It stands in the queue of that name.
    waiting: bool,
    lossy: bool,
    closing: bool,
}

/// The sequence numbers of both ends' first SYN, where they were seen.
#[derive(Clone, Copy, Default)]
struct Initial {
    numbers: [u32; 2],
    seen: [bool; 2],
}

impl Initial {
    fn of(self, end: usize) -> Option<u32> {
        self.seen[end].then_some(self.numbers[end])
    }

    fn note(&mut self, end: usize, number: u32) {
        if !self.seen[end] {
            (self.numbers[end], self.seen[end]) = (number, true);
        }
    }
}

/// Lines of the cache that the next segment of a connection needs.
const NEXT_LINES: usize = 3;

/// What a mirror showed again of a connection.
#[derive(Default)]
struct Copied {
    packets: [u64; 2],
    payload_bytes: [u64; 2],
    /// Its keys in the other contexts that it was seen in.
    keys: Vec<Key>,
}

/// Why packets could not be read; a link type is named by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unread {
    Link(u16),
    Reason(&'static str),
}

/// Frames in, events out.
pub struct Sensor {
    pub windows: Windows,
    pub counters: SensorCounters,
    pub copies: Copies,
    pub pairs: Pairs,
    /// Measures of the capture, if they were asked for.
    pub quality: Option<Box<Quality>>,
    options: SensorOptions,
    /// The tap that the next connections are seen by, a number of [`About`].
    tap: u32,
    interface: Option<Arc<str>>,
    /// The context that the interface's frames lie in.
    root: u32,
    table: Table,
    recent: Recent,
    ahead: Option<Box<[Ahead; FRAMES_MAX]>>,
    seeds: Seeded,
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    generation: u64,
    now_ns: i64,
    tick_ns: i64,
    sweep_ns: i64,
    /// Connections with an acknowledged hole, and those with a loss to tell, in the order in which they are due, each
    /// there once: looking at all of them every few milliseconds would cost more than their packets.
    waiting: Due,
    lossy: Due,
    decoder_bytes: usize,
    closing: Due,
    /// Connections that [`Sensor::finish_some`] has not reached yet, the next one last.
    ending: Vec<(u64, usize)>,
    held_bytes: usize,
    opened_ns: i64,
    clock_went_back: bool,
    ordinal: u64,
    about: About,
    fragments: Fragments,
    unread: BTreeMap<Unread, (u64, u64, i64, i64)>,
    conversations: Vec<Vec<u8>>,
}

impl Sensor {
    #[must_use]
    pub fn new(plant: &str, agent: &str, options: SensorOptions) -> Self {
        Self {
            windows: Windows::new(plant, agent),
            counters: SensorCounters::default(),
            tap: u32::from(options.tap.is_some()),
            interface: None,
            root: contexts::NONE,
            about: About {
                contexts: Contexts::new(&options.equal),
                transports: Vec::new(),
                taps: std::iter::once(None).chain(options.tap.as_deref().map(|tap| Some(Arc::from(tap)))).collect(),
                slow: None,
            },
            options,
            table: Table::default(),
            recent: Recent::default(),
            ahead: None,
            seeds: Seeded::default(),
            connections: Vec::new(),
            free: Vec::new(),
            generation: 0,
            now_ns: i64::MIN,
            tick_ns: i64::MIN,
            sweep_ns: i64::MIN,
            waiting: Due::new(),
            lossy: Due::new(),
            decoder_bytes: 0,
            closing: VecDeque::new(),
            ending: Vec::new(),
            held_bytes: 0,
            copies: Copies::default(),
            pairs: Pairs::default(),
            quality: None,
            opened_ns: i64::MIN,
            clock_went_back: false,
            ordinal: 0,
            fragments: Fragments::default(),
            unread: BTreeMap::new(),
            conversations: Vec::new(),
        }
    }

    /// One frame, as captured. `wire_bytes` is its length on the wire, `vlan` a tag that the kernel took off.
    pub fn frame(&mut self, time_ns: i64, link: LinkType, data: &[u8], wire_bytes: u32, vlan: Option<u16>) {
        self.frames(&[Frame { time_ns, link, data, wire_len: wire_bytes, vlan, interface: 0 }]);
    }

    /// What no decoder reads on the ports that plug-ins asked for goes this way from now on.
    pub fn hand_over(&mut self, outlet: Outlet) {
        self.about.slow = Some(outlet);
    }

    /// The plug-ins have much to read: a source that can wait should.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.about.slow.as_ref().is_some_and(Outlet::is_filling)
    }

    /// Frames in the order in which they were captured, all of one interface. Given several, their headers are read first and
    /// what they lead to is looked at together, so that memory is waited for once and not for each of them; nothing else
    /// depends on how many are given at a time.
    pub fn frames(&mut self, frames: &[Frame<'_>]) {
        let in_general = self.quality.is_some() || self.options.verify_checksums;
        for frames in frames.chunks(FRAMES_MAX) {
            self.counters.packets_total += frames.len() as u64;
            self.counters.bytes_total += frames.iter().map(|frame| u64::from(frame.wire_len)).sum::<u64>();
            if in_general {
                self.frames_in_general(frames);
                continue;
            }
            // Taken out meanwhile, so that all else of the sensor may change.
            let mut all = self.ahead.take().unwrap_or_default();
            self.look_ahead(frames, &mut all);
            for (frame, ahead) in frames.iter().zip(all.iter()) {
                self.advance_to(frame);
                if ahead.is_plain {
                    self.plain(frame, ahead);
                } else {
                    self.general(frame);
                }
            }
            self.ahead = Some(all);
        }
    }

    #[inline(never)]
    fn frames_in_general(&mut self, frames: &[Frame<'_>]) {
        for frame in frames {
            self.advance_to(frame);
            self.general(frame);
        }
    }

    /// Moves time on to a frame's.
    #[inline(always)]
    fn advance_to(&mut self, frame: &Frame<'_>) {
        // Whatever leaps goes beyond the next tick, which is nearer.
        if frame.time_ns >= self.tick_ns {
            self.leap_to(frame);
        }
        self.advance(frame.time_ns);
    }

    #[inline(never)]
    fn leap_to(&mut self, frame: &Frame<'_>) {
        if frame.time_ns.saturating_sub(self.now_ns) > HALF_OPEN_NS {
            self.answered_late(frame);
        }
    }

    /// Time is about to leap, so that whatever was only knocked at is over. A SYN/ACK that acknowledges a SYN is the answer to
    /// it however late the capture's clock says it is (RFC 9293, 3.10.7.3): its connection goes on.
    #[cold]
    fn answered_late(&mut self, frame: &Frame<'_>) {
        let Ok(Layer::Ip(mut packet)) = packet::parse(frame.link, frame.data, frame.wire_len, frame.vlan) else { return };
        let Transport::Tcp(tcp) = packet.transport else { return };
        if !(tcp.flags.syn() && tcp.flags.ack()) {
            return;
        }
        packet.context = self.about.contexts.tagged(self.root, packet.vlans);
        let ends = [(packet.source, tcp.source_port), (packet.destination, tcp.destination_port)];
        let key = Key::of(&packet, ends);
        let Some(index) = self.known(self.seeds.hash_one(key), &key) else { return };
        let Some(connection) = self.connections[index].as_mut() else { return };
        let end = usize::from((ends[0] <= ends[1]) != connection.application.first_is_low);
        let answers = connection.initial.of(1 - end).is_some_and(|initial| tcp.acknowledgment == initial.wrapping_add(1));
        if answers && connection.initial.of(end).is_none_or(|initial| initial == tcp.sequence) {
            connection.application.last_ns = connection.application.last_ns.max(frame.time_ns);
        }
    }

    /// Apart from [`Sensor::frames`], as it has enough to remember without what that remembers.
    #[inline(never)]
    fn look_ahead(&mut self, frames: &[Frame<'_>], all: &mut [Ahead; FRAMES_MAX]) {
        for (frame, ahead) in frames.iter().zip(all.iter_mut()) {
            let Some(packet) = Plain::read(frame) else {
                ahead.is_plain = false;
                continue;
            };
            let context = self.about.contexts.tagged(self.root, packet.vlans);
            let (key, is_low) = Key::of_plain(&packet, context);
            let (sight, index) = (self.copies.sight_of(&packet, context), self.recent.guess(key));
            // What few connections have is near anyway; what is remembered of packets is not.
            self.copies.soon(&sight);
            let Plain { payload, payload_at, sequence, acknowledgment, flags, .. } = packet;
            let payload = [payload_at, payload.len() as u16];
            *ahead = Ahead { key, sight, sequence, acknowledgment, index, payload, flags, is_low, is_plain: true };
        }
        if self.table.len() >= MANY && frames.len() > 1 {
            if let Some(all) = all.get_mut(..frames.len()) {
                self.look_further(all);
            }
        }
    }

    /// Asks for what the next packets of many connections lead to.
    #[inline(never)]
    fn look_further(&self, all: &mut [Ahead]) {
        let mut hashes = [0; FRAMES_MAX];
        for (ahead, hash) in all.iter().zip(&mut hashes) {
            *hash = ahead.key.hashed(&self.seeds);
            self.table.soon(*hash);
        }
        for (ahead, hash) in all.iter_mut().zip(hashes) {
            if !ahead.is_plain {
                continue;
            }
            ahead.index = self.table.guess(hash).map_or(u32::MAX, |index| index as u32);
            if let Some(connection) = self.connections.get(ahead.index as usize) {
                let is_next = ahead.flags.0 & BARE == TcpFlags::ACK;
                soon_lines(connection, if is_next { NEXT_LINES } else { usize::MAX });
            }
        }
        let applications = || all.iter().filter(|ahead| ahead.is_plain).filter_map(|ahead| self.application(ahead));
        for application in applications() {
            if let State::Decoding(decoder) = &application.state {
                soon(&**decoder);
            }
            if let Some(id) = application.window() {
                self.windows.soon(id as usize, false);
            }
        }
        for application in applications() {
            if let State::Decoding(decoder) = &application.state {
                decoder.soon();
            }
            if let Some(id) = application.window() {
                self.windows.soon(id as usize, true);
            }
        }
    }

    fn application(&self, ahead: &Ahead) -> Option<&Application> {
        Some(&self.connections.get(ahead.index as usize)?.as_ref()?.application)
    }

    /// A packet of which the most is known.
    #[inline(always)]
    fn plain(&mut self, frame: &Frame<'_>, ahead: &Ahead) {
        let copy = self.copies.seen_plain(&ahead.sight, frame.time_ns);
        if copy.is_none() {
            // It may have been closed or opened since.
            let guessed = self.connections.get(ahead.index as usize).and_then(Option::as_ref);
            let index = match guessed {
                Some(connection) if connection.application.key.is_plain(ahead.key) => ahead.index,
                _ => self.found(ahead.key),
            };
            if self.straight(index as usize, ahead, frame) {
                return;
            }
        }
        self.aside(frame, ahead, copy);
    }

    /// The connection of a packet that was not guessed; beyond all if there is none.
    #[inline(never)]
    fn found(&mut self, key: PlainKey) -> u32 {
        let Some(index) = self.known(key.hashed(&self.seeds), &key.into()) else { return u32::MAX };
        self.recent.note(key, index as u32);
        index as u32
    }

    /// A plain packet that is a copy, or changes more of its connection than what comes next.
    #[inline(never)]
    fn aside(&mut self, frame: &Frame<'_>, ahead: &Ahead, copy: Option<usize>) {
        let Ok(Layer::Ip(mut packet)) = packet::parse(frame.link, frame.data, frame.wire_len, frame.vlan) else { return };
        packet.context = (ahead.key.ports & Key::CONTEXT) as u32;
        match (copy, packet.transport) {
            (Some(index), _) => self.copy(&packet, index),
            (None, Transport::Tcp(tcp)) => self.tcp(&packet, &tcp, frame.time_ns),
            _ => {}
        }
    }

    /// The next segment of a connection that both ends speak on, or a bare acknowledgement of what was seen: what
    /// [`Sensor::tcp`] does with one, and nothing of what it need not. False: it is something else, and nothing was done.
    #[inline(always)]
    fn straight(&mut self, index: usize, ahead: &Ahead, frame: &Frame<'_>) -> bool {
        let time_ns = frame.time_ns;
        let [start, length] = ahead.payload.map(usize::from);
        let payload = frame.data.get(start..start + length).unwrap_or_default();
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return false };
        let end = usize::from(ahead.is_low != connection.application.first_is_low);
        let [first, second] = &mut connection.streams;
        let (stream, back) = if end == 0 { (first, second) } else { (second, first) };
        let is_straight = ahead.flags.0 & BARE == TcpFlags::ACK
            && stream.is_next(ahead.sequence)
            && back.is_heard(ahead.acknowledgment)
            && self.held_bytes <= HELD_BYTES_TOTAL_MAX;
        if !is_straight {
            return false;
        }
        debug_assert!(connection.application.packets[1 - end] > 0, "a stream begins with a packet");
        self.copies.belongs(index);
        stream.pass(length as u32);
        connection.application.last_ns = connection.application.last_ns.max(time_ns);
        connection.payload_bytes[end] += length as u64;
        connection.application.straight(&mut self.windows, &self.about, end, payload, time_ns);
        if connection.application.is_to_weigh() {
            self.weigh(index, time_ns);
        }
        true
    }

    /// A frame of any kind.
    fn general(&mut self, frame: &Frame<'_>) {
        let Frame { time_ns, link, data, wire_len: wire_bytes, vlan, .. } = *frame;
        self.copies.frame(link, data);
        if let Some(quality) = &mut self.quality {
            quality.frame(time_ns, link, data, wire_bytes);
        }
        match packet::parse(link, data, wire_bytes, vlan) {
            Ok(Layer::Ip(mut packet)) => {
                packet.context = self.about.contexts.tagged(self.root, packet.vlans);
                self.packet(&packet, 0, time_ns);
            }
            Ok(Layer::Fragment(fragment)) => {
                let context = self.about.contexts.tagged(self.root, fragment.vlans);
                self.fragment(&fragment, context, 0, time_ns);
            }
            Ok(Layer::NotIp { ethertype, vlans, .. }) => {
                self.counters.not_ip_packets_total += 1;
                if let Some(quality) = &mut self.quality {
                    quality.announced(ethertype, &vlans, data);
                }
            }
            Err(reason) => {
                self.counters.malformed_packets_total[reason.index()] += 1;
                let why = if let LinkType::Other(number) = link { Unread::Link(number) } else { Unread::Reason(reason.name()) };
                self.unread(why, 1, u64::from(wire_bytes), time_ns, time_ns);
            }
        }
    }

    /// The interface that the next frames come from.
    pub fn tap(&mut self, name: &Arc<str>) {
        if self.interface.as_ref().is_some_and(|interface| Arc::ptr_eq(interface, name)) {
            return;
        }
        self.interface = Some(Arc::clone(name));
        let of = self.options.taps.iter().find(|(interface, _)| **interface == **name).map(|(_, tap)| Arc::<str>::from(tap.as_str()));
        self.root = of.as_ref().map_or(contexts::NONE, |tap| self.about.contexts.tap(tap));
        if self.options.tap.is_none() {
            self.tap = self.about.tap_number(of.unwrap_or_else(|| Arc::clone(name)));
        }
    }

    /// Moves time on: ends windows, gives up holes, closes what is over. Time never goes back.
    #[inline]
    pub fn advance(&mut self, now_ns: i64) {
        self.now_ns = self.now_ns.max(now_ns);
        if self.now_ns >= self.tick_ns {
            self.tick_ns = self.now_ns.saturating_add(TICK_NS);
            self.tick();
        }
        self.windows.advance(self.now_ns);
    }

    /// The kernel dropped `packets` between two looks at its counter.
    pub fn kernel_drops(&mut self, packets: u64, since_ns: i64, now_ns: i64) {
        self.counters.kernel_drops_total += packets;
        let why = "frames dropped before they were read: ring full".into();
        self.windows.loss(&Loss { stage: "kernel", start_ns: since_ns, end_ns: now_ns, packets, why, ..Loss::default() });
    }

    /// An interface gave nothing in this time, or gives nothing from now on.
    pub fn interface_lost(&mut self, why: String, since_ns: i64, now_ns: i64) {
        self.windows.loss(&Loss { stage: "capture", start_ns: since_ns, end_ns: now_ns, why, ..Loss::default() });
    }

    /// Fragments, and what became of them.
    pub fn fragment_counters(&self) -> &FragmentCounters {
        &self.fragments.counters
    }

    /// Packets whose context was one too many.
    pub fn contexts_folded_total(&self) -> u64 {
        self.about.contexts.folded_total
    }

    /// Ends everything. Calling it again adds nothing.
    pub fn finish(&mut self) {
        while self.finish_some(usize::MAX) {}
    }

    /// Ends at most so many connections, in the order in which they were first seen: what all of them have to say at once may
    /// be more than all that they hold. False if nothing is left.
    pub fn finish_some(&mut self, most: usize) -> bool {
        self.fragments_over(i64::MAX);
        if self.ending.is_empty() {
            let open = self.connections.iter().enumerate();
            self.ending = open.filter_map(|(i, c)| c.as_ref().map(|c| (c.generation, i))).collect();
            self.ending.sort_unstable_by_key(|(generation, _)| std::cmp::Reverse(*generation));
        }
        for _ in 0..most {
            let Some((generation, index)) = self.ending.pop() else { break };
            self.look_at_ending(|by| self.ending.iter().rev().nth(by).map(|(_, index)| *index));
            // It may have been closed since, if frames came.
            if self.connections[index].as_ref().is_some_and(|c| c.generation == generation) {
                self.remove(index);
            }
        }
        let more = !self.ending.is_empty();
        if !more {
            self.ending = Vec::new();
            self.flush_unread(i64::MAX);
        }
        more
    }

    /// Asks for what the next connections that end will need: `next` says which comes so many after this one.
    fn look_at_ending(&self, next: impl Fn(usize) -> Option<usize>) {
        let ahead = |by: usize| self.connections.get(next(by)?);
        if let Some(place) = ahead(ENDING_AHEAD) {
            soon(place);
        }
        let known = |by: usize| Some(&ahead(by)?.as_ref()?.application);
        if let Some(application) = known(ENDING_AHEAD / 2) {
            if let State::Decoding(decoder) = &application.state {
                soon(&**decoder);
            }
            if let Some(id) = application.window() {
                self.windows.soon_settled(id as usize, false);
            }
        }
        if let Some(id) = known(ENDING_AHEAD / 4).and_then(Application::window) {
            self.windows.soon_settled(id as usize, true);
        }
    }

    /// Connections that are looked at again because a hole in them may be given up.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// One JSON line per conversation that ended.
    pub fn take_conversations(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.conversations)
    }

    /// `depth`: how many tunnels it lies in.
    fn packet(&mut self, packet: &Packet<'_>, depth: u8, time_ns: i64) {
        if self.options.verify_checksums && packet::checksum_ok(packet) == Some(false) {
            self.wrong_checksum(packet.ip_payload_bytes, time_ns);
            return;
        }
        let is_tunnel = match packet.transport {
            Transport::Tcp(_) => false,
            Transport::Udp(udp) => tunnel::is_port(udp.destination_port, udp.source_port) && self.open(packet, depth, time_ns),
            Transport::Other { .. } => self.open(packet, depth, time_ns),
        };
        if is_tunnel {
            return;
        }
        if let Some(quality) = &mut self.quality {
            quality.packet(packet, time_ns);
        }
        // Of a tunnel, what is inside: a mirror may see it on both sides of the tunnel's end.
        if let Some(index) = self.copies.seen(packet, time_ns) {
            self.copy(packet, index);
            return;
        }
        match packet.transport {
            Transport::Tcp(tcp) => self.tcp(packet, &tcp, time_ns),
            Transport::Udp(udp) => self.udp(packet, &udp, time_ns),
            Transport::Other { bytes, .. } => self.other(packet, bytes, time_ns),
        }
    }

    fn wrong_checksum(&mut self, bytes: u32, time_ns: i64) {
        self.counters.checksum_errors_total += 1;
        self.unread(Unread::Reason("checksum"), 1, u64::from(bytes), time_ns, time_ns);
    }

    /// Reads on inside a tunnel. False: this is none, or holds nothing that can be read; then it counts as what it is.
    #[cold]
    fn open(&mut self, packet: &Packet<'_>, depth: u8, time_ns: i64) -> bool {
        let Some(inside) = tunnel::inside(packet) else { return false };
        if depth >= TUNNELS_MAX {
            self.counters.tunnel_depth_total += 1;
            return false;
        }
        let found = inside.parse();
        if !matches!(found, Ok(Layer::Ip(_) | Layer::Fragment(_))) {
            return false;
        }
        self.counters.tunnelled_packets_total += 1;
        let context = inside.steps.into_iter().flatten().fold(packet.context, |context, step| self.about.contexts.step(context, step));
        match found {
            Ok(Layer::Ip(mut inner)) => {
                inner.context = self.about.contexts.tagged(context, inner.vlans);
                self.packet(&inner, depth + 1, time_ns);
            }
            Ok(Layer::Fragment(fragment)) => {
                let context = self.about.contexts.tagged(context, fragment.vlans);
                self.fragment(&fragment, context, depth + 1, time_ns);
            }
            _ => {}
        }
        true
    }

    #[cold]
    fn fragment(&mut self, fragment: &Fragment<'_>, context: u32, depth: u8, time_ns: i64) {
        if self.options.verify_checksums && !fragment.header_checksum_ok() {
            self.wrong_checksum(fragment.payload_bytes, time_ns);
            return;
        }
        let mut outcomes = Vec::new();
        self.fragments.add(fragment, context, depth, time_ns, &mut |outcome| outcomes.push(outcome));
        self.fragments_told(outcomes);
    }

    /// Gives up the fragments whose patience is over.
    fn fragments_over(&mut self, now_ns: i64) {
        let mut outcomes = Vec::new();
        self.fragments.advance(now_ns, &mut |outcome| outcomes.push(outcome));
        self.fragments_told(outcomes);
    }

    fn fragments_told(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome {
                Outcome::Whole(whole) => match whole.parse() {
                    Ok(Layer::Ip(mut packet)) => {
                        packet.context = whole.context;
                        self.packet(&packet, whole.depth, whole.time_ns);
                    }
                    // A fragment within the fragments of one packet: nobody sends that.
                    Ok(_) => self.unread(Unread::Reason("fragment"), 1, whole.size_bytes(), whole.time_ns, whole.time_ns),
                    Err(reason) => {
                        self.counters.malformed_packets_total[reason.index()] += 1;
                        self.unread(Unread::Reason(reason.name()), 1, whole.size_bytes(), whole.time_ns, whole.time_ns);
                    }
                },
                Outcome::Lost(lost) => self.unread(Unread::Reason(lost.why), lost.packets, lost.bytes, lost.start_ns, lost.end_ns),
            }
        }
    }

    /// A packet that the connection at `index` has had already: counted beside it. Where it was seen in another context, what
    /// follows there is of the same connection; the first sight names its context. Both directions of a routed
    /// connection that is joined midway may have begun one each: the younger gives way.
    fn copy(&mut self, packet: &Packet<'_>, index: usize) {
        self.counters.copies_total += 1;
        self.counters.copied_bytes_total += u64::from(packet.ip_payload_bytes);
        if let Some(quality) = &mut self.quality {
            quality.copy(packet, self.copies.routed);
        }
        let (ports, payload_bytes) = match packet.transport {
            Transport::Tcp(tcp) => ([tcp.source_port, tcp.destination_port], tcp.payload_bytes),
            Transport::Udp(udp) => ([udp.source_port, udp.destination_port], udp.payload_bytes),
            Transport::Other { bytes, .. } => ([0; 2], bytes),
        };
        let key = Key::of(packet, [(packet.source, ports[0]), (packet.destination, ports[1])]);
        let hash = self.seeds.hash_one(key);
        let is_same = |c: &Option<Connection>| c.as_ref().is_some_and(|c| c.application.key.ends() == key.ends());
        // Its first sight's connection may be over; then it is of the one that is open.
        let found = Some(index).filter(|&index| self.connections.get(index).is_some_and(is_same));
        let Some(index) = found.or_else(|| self.known(hash, &key)) else { return };
        let connection = self.connections[index].as_mut().expect("found");
        let is_low = (packet.source, ports[0]) <= (packet.destination, ports[1]);
        let end = usize::from(is_low != connection.application.first_is_low);
        let copied = connection.application.copied();
        copied.packets[end] += 1;
        copied.payload_bytes[end] += u64::from(payload_bytes);
        let is_known = copied.keys.contains(&key);
        if is_known || key.context() == connection.application.key.context() {
            return;
        }
        let generation = connection.generation;
        let own = connection.application.key;
        let other = self.known(hash, &key).and_then(|other| Some((self.connections[other].as_ref()?.generation, other)));
        // `known` goes on; `alias` leads to it from now on, and what stood there ends.
        let (known, alias, over) = match other {
            Some((earlier, other)) if earlier < generation => (other, own, Some(index)),
            Some((_, other)) => (index, key, Some(other)),
            None => (index, key, None),
        };
        if !self.has_room(known) {
            return;
        }
        if let Some(over) = over.filter(|&over| !self.absorb(known, over)) {
            self.remove(over);
        }
        self.join(known, alias);
    }

    /// Makes one of two connections that a copy has shown to be the same. Only if the younger has no payload, so that
    /// nothing was said of it yet: an answer that overtook the copy of its question.
    fn absorb(&mut self, known: usize, over: usize) -> bool {
        if self.connections[over].as_ref().is_none_or(|young| young.payload_bytes != [0; 2] || young.application.is_told()) {
            return false;
        }
        let Some(young) = self.connections[over].take() else { return false };
        self.forget(over, &young);
        self.counters.connections_total -= 1;
        let old = self.connections[known].as_mut().expect("found");
        let flip = usize::from(old.application.first_is_low != young.application.first_is_low);
        for (end, stream) in young.streams.into_iter().enumerate() {
            let own = end ^ flip;
            old.application.packets[own] += young.application.packets[end];
            if let Some(number) = young.initial.of(end) {
                old.initial.note(own, number);
            }
            if !old.streams[own].seen() {
                old.streams[own] = stream;
            }
        }
        old.application.last_ns = old.application.last_ns.max(young.application.last_ns);
        let (application, other) = (&mut old.application, young.application);
        application.heard |= other.heard;
        if application.opener.is_none() && !application.is_told() {
            application.opener = other.opener.map(|second| second ^ (flip == 1));
            application.client = application.opener.map_or(application.client, u8::from);
        }
        true
    }

    fn tcp(&mut self, packet: &Packet<'_>, tcp: &Tcp<'_>, time_ns: i64) {
        let ends = [(packet.source, tcp.source_port), (packet.destination, tcp.destination_port)];
        let (mut index, mut end) = self.find(packet, ends, time_ns);
        if tcp.flags.syn() {
            let connection = self.connections[index].as_ref().expect("found");
            let other_start = connection.initial.of(end).is_some_and(|initial| initial != tcp.sequence)
                || (connection.initial.of(end).is_none()
                    && connection.streams[end].seen()
                    && !connection.streams[end].begins_after(tcp.sequence));
            // A new connection between the same ends; a SYN/ACK alone begins one only after the last is over, or if
            // nothing was said on it (the client's SYN was not seen).
            if other_start && (!tcp.flags.ack() || connection.closing || connection.payload_bytes == [0; 2]) {
                let same_time = time_ns <= connection.application.first_ns || connection.application.ordinal() > 0;
                self.remove(index);
                (index, end) = self.find(packet, ends, time_ns);
                if same_time {
                    self.distinguish(index);
                }
            }
        }
        if (tcp.flags.syn() || self.pairs.waits()) && tcp.flags.ack() && packet.context != contexts::NONE {
            self.pair(packet.context, ends, tcp, index, end);
        }
        let connection = self.connections[index].as_mut().expect("found");
        connection.application.last_ns = connection.application.last_ns.max(time_ns);
        connection.application.packets[end] += 1;
        connection.payload_bytes[end] += u64::from(tcp.payload_bytes);
        let application = &mut connection.application;
        if tcp.flags.syn() {
            connection.initial.note(end, tcp.sequence);
            if application.opener.is_none() {
                let opener = if tcp.flags.ack() { 1 - end } else { end };
                application.opener = Some(opener == 1);
                if !application.is_told() {
                    application.client = opener as u8;
                }
            }
        }
        let silent = application.packets[1 - end] == 0;
        application.heard |= tcp.flags.ack() && !tcp.flags.rst();
        application.silent = silent;
        application.one_sided = silent && application.heard && application.packets[end] > ONE_SIDED_PACKETS;
        let segment =
            Segment { sequence: tcp.sequence, payload: tcp.payload, cut: tcp.cut, syn: tcp.flags.syn(), fin: tcp.flags.fin(), time_ns };
        let held_before: usize = connection.streams.iter().map(Stream::held_bytes).sum();
        let (windows, about) = (&mut self.windows, &self.about);
        // A RST carries no data of the stream, whatever bytes it may hold (RFC 9293, 3.5.3).
        if !tcp.flags.rst() {
            let [first, second] = &mut connection.streams;
            let (stream, back) = if end == 0 { (first, second) } else { (second, first) };
            application.midstream |= application.opener.is_none() && !stream.seen();
            stream.segment(&segment, &mut |piece| application.piece(windows, about, end, piece, time_ns));
            if tcp.flags.ack() {
                back.acknowledge(tcp.acknowledgment, time_ns, &mut |piece| application.piece(windows, about, 1 - end, piece, time_ns));
            }
            let held: usize = stream.held_bytes() + back.held_bytes();
            if self.held_bytes + held > HELD_BYTES_TOTAL_MAX + held_before {
                stream.flush(false, &mut |piece| application.piece(windows, about, end, piece, time_ns));
            }
        }
        if let Some(id) = application.window() {
            windows.recorder(id as usize, time_ns).packet();
        }
        let held: usize = connection.streams.iter().map(Stream::held_bytes).sum();
        self.held_bytes = self.held_bytes + held - held_before;
        let over = tcp.flags.rst() || connection.streams.iter().all(Stream::finished);
        let generation = connection.generation;
        let closes = over && !std::mem::replace(&mut connection.closing, true);
        let application = &mut connection.application;
        if closes && application.has_said_all() && connection.streams.iter().all(Stream::is_over) {
            // Its windows wait for stragglers; its decoder has nothing to wait for.
            self.decoder_bytes -= std::mem::take(&mut application.decoder_bytes) as usize;
            application.release();
        }
        self.look_again(index);
        self.weigh(index, time_ns);
        if closes {
            self.closing.push_back((self.now_ns.saturating_add(LINGER_NS), index, generation));
        }
    }

    /// The two directions of a handshake may lie in two contexts ([`crate::pairs`]).
    fn pair(&mut self, context: u32, ends: Ends, tcp: &Tcp<'_>, index: usize, end: usize) {
        let connection = self.connections[index].as_ref().expect("found");
        // The SYN/ACK and the first acknowledgements: whoever is answered in its own context has no partner.
        if connection.application.packets[1 - end] != 0 || connection.application.packets[end] > PAIRING_PACKETS_MAX {
            return;
        }
        let ends = if ends[0] <= ends[1] { ends } else { [ends[1], ends[0]] };
        if tcp.flags.syn() {
            let (generation, sequence, acknowledgment) = (connection.generation, tcp.sequence, tcp.acknowledgment);
            self.pairs.answered(&ends, Answered { context, index, generation, sequence, acknowledgment });
            return;
        }
        let Some(initial) = connection.initial.of(end) else { return };
        let contexts = &self.about.contexts;
        let fits = |other| contexts.same_kind(context, other);
        let Some(answer) = self.pairs.acknowledged(&ends, context, initial, tcp.acknowledgment, fits) else { return };
        let other = self.connections.get(answer.index).and_then(Option::as_ref);
        let Some(alias) =
            other.filter(|c| c.generation == answer.generation && c.application.key.context() == answer.context).map(|c| c.application.key)
        else {
            return;
        };
        self.pairs.learn(context, answer.context);
        if let Some(quality) = &mut self.quality {
            quality.paired(self.about.contexts.vlans(context) != self.about.contexts.vlans(answer.context));
        }
        if self.has_room(index) && self.absorb(index, answer.index) {
            self.pairs.joined_total += 1;
            self.join(index, alias);
        }
    }

    /// Whether the connection may be known in one context more.
    fn has_room(&mut self, index: usize) -> bool {
        let keys = self.connections[index].as_ref().map_or(0, |c| c.application.aliases().len());
        self.counters.contexts_dropped_total += u64::from(keys >= CONTEXTS_MAX);
        keys < CONTEXTS_MAX
    }

    /// What is seen under `alias` is of this connection from now on.
    fn join(&mut self, index: usize, alias: Key) {
        self.table.insert(self.seeds.hash_one(alias), index);
        let connection = self.connections[index].as_mut().expect("found");
        connection.application.copied().keys.push(alias);
    }

    /// The connection of a datagram that begins none in its own context, but answers one in its partner's.
    #[cold]
    fn paired(&mut self, key: &Key, first_is_low: bool) -> Option<(usize, usize)> {
        let partners: Vec<u32> = self.pairs.partners(key.context()).to_vec();
        for context in partners {
            let other = Key { ports: key.ends().ports | u64::from(context), ..*key };
            let Some(index) = self.known(self.seeds.hash_one(other), &other) else { continue };
            let connection = self.connections[index].as_ref().expect("in the table");
            let end = usize::from(first_is_low != connection.application.first_is_low);
            if connection.application.packets[end] == 0 && self.has_room(index) {
                self.pairs.joined_total += 1;
                self.join(index, *key);
                return Some((index, end));
            }
        }
        None
    }

    fn udp(&mut self, packet: &Packet<'_>, udp: &Udp<'_>, time_ns: i64) {
        let ends = [(packet.source, udp.source_port), (packet.destination, udp.destination_port)];
        let (index, end) = self.find(packet, ends, time_ns);
        self.datagram(index, end, udp.payload, udp.payload_bytes, udp.cut, time_ns);
    }

    /// Any other IP protocol: counted by the pair of addresses.
    fn other(&mut self, packet: &Packet<'_>, bytes: u32, time_ns: i64) {
        let (index, end) = self.find(packet, [(packet.source, 0), (packet.destination, 0)], time_ns);
        let captured = packet.ip_payload.get(..bytes as usize).unwrap_or(packet.ip_payload);
        let cut = bytes - u32::try_from(captured.len()).unwrap_or(bytes).min(bytes);
        self.datagram(index, end, captured, bytes, cut, time_ns);
    }

    fn datagram(&mut self, index: usize, end: usize, payload: &[u8], payload_bytes: u32, cut: u32, time_ns: i64) {
        let connection = self.connections[index].as_mut().expect("found");
        connection.application.last_ns = connection.application.last_ns.max(time_ns);
        connection.application.packets[end] += 1;
        connection.payload_bytes[end] += u64::from(payload_bytes);
        let application = &mut connection.application;
        if !payload.is_empty() {
            application.piece(&mut self.windows, &self.about, end, Piece::Data(payload), time_ns);
        }
        if cut > 0 {
            application.piece(&mut self.windows, &self.about, end, Piece::Gap(u64::from(cut)), time_ns);
        }
        if let Some(id) = application.window() {
            self.windows.recorder(id as usize, time_ns).packet();
        }
        self.look_again(index);
        self.weigh(index, time_ns);
    }

    /// The connection with this key, its own or that of a copy's context.
    fn known(&self, hash: u64, key: &Key) -> Option<usize> {
        let is_it = |c: &Connection| c.application.key == *key || c.application.aliases().contains(key);
        self.table.find(hash, |index| self.connections[index].as_ref().is_some_and(is_it))
    }

    /// The connection of a packet and which of its ends sent it; ends are in the order of the first packet.
    fn find(&mut self, packet: &Packet<'_>, ends: [(IpAddr, u16); 2], time_ns: i64) -> (usize, usize) {
        let protocol = packet.protocol;
        let key = Key::of(packet, ends);
        let is_low = ends[0] <= ends[1];
        let hash = self.seeds.hash_one(key);
        if let Some(index) = self.known(hash, &key) {
            let connection = self.connections[index].as_ref().expect("in the table");
            // Between equal ends everything is said by the first.
            let end = usize::from(is_low != connection.application.first_is_low);
            self.copies.belongs(index);
            return (index, end);
        }
        if protocol != 6 && !self.pairs.partners(packet.context).is_empty() {
            if let Some((index, end)) = self.paired(&key, is_low) {
                self.copies.belongs(index);
                return (index, end);
            }
        }
        let most = self.options.connections_max.unwrap_or(CONNECTIONS_MAX);
        if self.table.len() >= most {
            self.evict(most);
        }
        if !self.about.transports.iter().any(|(number, _)| *number == protocol) {
            self.about.transports.push((protocol, Arc::from(transport_name(protocol))));
        }
        self.generation += 1;
        self.counters.connections_total += 1;
        let application = Application {
            key,
            packets: [0; 2],
            stream_bytes: [0; 2],
            state: if registry(protocol).is_empty() { State::Opaque } else { State::Undecided(None) },
            weighed_in: 1,
            decoder_bytes: 0,
            last_ns: time_ns,
            first_ns: time_ns,
            protocol: None,
            known: Known::Nothing,
            rare: self.quality.is_some().then(|| Box::new(Rare { vlans: packet.vlans, ..Rare::default() })),
            tap: self.tap,
            recognitions: 0,
            // Without a SYN the lower port is the server's; the first to speak is the client if they are equal.
            client: u8::from(ends[0].1 < ends[1].1),
            opener: None,
            first_is_low: is_low,
            midstream: false,
            heard: false,
            silent: false,
            one_sided: false,
            told: false,
            facts: self.options.conversations,
            lost: false,
            settled: false,
        };
        let connection = Connection {
            streams: Default::default(),
            application,
            payload_bytes: [0; 2],
            generation: self.generation,
            initial: Initial::default(),
            waiting: false,
            lossy: false,
            closing: false,
        };
        let index = if let Some(index) = self.free.pop() {
            self.connections[index as usize] = Some(connection);
            index as usize
        } else {
            self.connections.push(Some(connection));
            self.connections.len() - 1
        };
        self.table.insert(hash, index);
        self.copies.belongs(index);
        self.clock_went_back |= time_ns < self.now_ns.saturating_sub(BACK_NS);
        if self.clock_went_back && time_ns <= self.opened_ns {
            self.distinguish(index);
        }
        self.opened_ns = self.opened_ns.max(time_ns);
        (index, 0)
    }

    /// Ids hash the ends and the first time of a connection. Where the clock goes back, or stands still between two
    /// connections of the same ends, both may be those of an earlier one; then the packets' order tells them apart.
    fn distinguish(&mut self, index: usize) {
        self.ordinal += 1;
        let connection = self.connections[index].as_mut().expect("found");
        connection.application.rare().ordinal = self.ordinal;
    }

    fn tick(&mut self) {
        let now_ns = self.now_ns;
        if let Some(outlet) = &self.about.slow {
            outlet.advance(now_ns);
        }
        while let Some((index, generation)) = due(&mut self.waiting, now_ns) {
            let Some(connection) = self.connections[index].as_mut().filter(|c| c.generation == generation) else { continue };
            connection.waiting = false;
            let before: usize = connection.streams.iter().map(Stream::held_bytes).sum();
            let Connection { streams, application, .. } = &mut *connection;
            for (end, stream) in streams.iter_mut().enumerate() {
                stream.patience(now_ns, &mut |piece| application.piece(&mut self.windows, &self.about, end, piece, now_ns));
            }
            let after: usize = streams.iter().map(Stream::held_bytes).sum();
            self.held_bytes = self.held_bytes + after - before;
            self.look_again(index);
        }
        while let Some((index, generation)) = due(&mut self.closing, now_ns) {
            self.look_at_ending(|by| self.closing.get(by).map(|(_, index, _)| *index));
            if self.connections[index].as_ref().is_some_and(|c| c.generation == generation) {
                self.settle(index);
            }
        }
        while let Some((index, generation)) = due(&mut self.lossy, now_ns) {
            let Some(connection) = self.connections[index].as_mut().filter(|c| c.generation == generation) else { continue };
            connection.lossy = false;
            self.flush_loss(index);
        }
        self.fragments_over(now_ns);
        self.flush_unread(now_ns);
        if now_ns >= self.sweep_ns {
            self.sweep_ns = now_ns.saturating_add(SWEEP_NS);
            self.sweep();
        }
    }

    /// Queues a connection that has a hole to give up or a loss to tell in time.
    fn look_again(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        if !connection.waiting && connection.streams.iter().any(Stream::patient) {
            connection.waiting = true;
            self.waiting.push_back((self.now_ns.saturating_add(PATIENCE_NS), index, connection.generation));
        }
        if !connection.lossy && connection.application.has_loss() {
            connection.lossy = true;
            self.lossy.push_back((self.now_ns.saturating_add(SECOND_NS), index, connection.generation));
        }
    }

    /// Adds up what decoders hold, each asked again when it was given half as much as it had before: small change for the
    /// packet path. Beyond the bound the connection that asks for more is counted in bytes from here.
    fn weigh(&mut self, index: usize, time_ns: i64) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let application = &mut connection.application;
        if !application.is_to_weigh() {
            return;
        }
        let given = application.stream_bytes[0] + application.stream_bytes[1];
        application.weighed_in = (given / 2).clamp(WEIGHED_BYTES_MIN, WEIGHED_BYTES_MAX) as u32;
        let held = u32::try_from(application.state.memory_bytes()).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut application.decoder_bytes, held);
        self.decoder_bytes = self.decoder_bytes - before as usize + held as usize;
        let most = self.options.decoder_bytes_max.unwrap_or(DECODER_BYTES_TOTAL_MAX);
        if application.decoder_bytes > before && self.decoder_bytes > most {
            self.counters.decoders_dropped_total += 1;
            self.decoder_bytes -= std::mem::take(&mut application.decoder_bytes) as usize;
            application.unburden(&mut self.windows, &self.about, time_ns);
        }
    }

    /// Closes what has been silent too long.
    fn sweep(&mut self) {
        let now_ns = self.now_ns;
        let silent = |c: &Connection| {
            let allowed_ns = if c.closing {
                CLOSED_NS
            } else if c.application.key.protocol() != 6 {
                IDLE_OTHER_NS
            } else if c.payload_bytes == [0; 2] && (c.application.packets.contains(&0) || c.application.packets.iter().sum::<u64>() < 3) {
                // Not answered, or the answer not acknowledged. Once open, a connection may be silent for long.
                HALF_OPEN_NS
            } else {
                IDLE_TCP_NS
            };
            now_ns.saturating_sub(c.application.last_ns) > allowed_ns
        };
        let mut over: Vec<_> =
            self.connections.iter().enumerate().filter_map(|(i, c)| c.as_ref().filter(|c| silent(c)).map(|c| (c.generation, i))).collect();
        over.sort_unstable();
        for (_, index) in over {
            self.remove(index);
        }
    }

    fn evict(&mut self, most: usize) {
        // Whoever only knocks goes first, however fresh: a flood of SYNs must not cost a connection that carries data.
        let age = |(index, c): (usize, &Option<Connection>)| {
            c.as_ref().map(|c| (c.payload_bytes != [0; 2], c.application.last_ns, c.generation, index))
        };
        let mut ages: Vec<_> = self.connections.iter().enumerate().filter_map(age).collect();
        ages.sort_unstable();
        for &(with_data, _, _, index) in ages.iter().take((most / 16).max(1)) {
            self.counters.evicted_total += 1;
            self.counters.evicted_with_data_total += u64::from(with_data);
            self.remove(index);
        }
    }

    /// Emits what is open of a connection; it stays known, so that stragglers do not look like a new one.
    fn settle(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let last_ns = connection.application.last_ns;
        let held: usize = connection.streams.iter().map(Stream::held_bytes).sum();
        self.held_bytes -= held;
        // The last packets of a connection that was joined at its end tell nothing.
        let enough =
            connection.application.opener.is_some() || connection.application.packets.iter().any(|count| *count > ONE_SIDED_PACKETS);
        let silent = enough && connection.application.packets.contains(&0) && connection.payload_bytes != [0; 2];
        let Connection { streams, application, .. } = &mut *connection;
        application.one_sided |= application.heard && silent;
        let ended = streams.each_ref().map(Stream::fin_seen);
        for (end, stream) in streams.iter_mut().enumerate() {
            stream.flush(ended[1 - end], &mut |piece| application.piece(&mut self.windows, &self.about, end, piece, last_ns));
        }
        application.settle(&mut self.windows, &self.about, last_ns);
        // A RST may be forged, so what follows one is still read; after both FINs nothing of the streams is left to come.
        if streams.iter().all(Stream::finished) {
            self.decoder_bytes -= std::mem::take(&mut application.decoder_bytes) as usize;
            application.release();
            if streams.iter().all(Stream::is_over) {
                application.let_go(&mut self.windows);
            }
        }
        self.flush_loss(index);
    }

    fn remove(&mut self, index: usize) {
        self.settle(index);
        let Some(mut connection) = self.connections[index].take() else { return };
        let last_ns = connection.application.last_ns;
        connection.application.close(&mut self.windows, last_ns);
        self.forget(index, &connection);
        let application = &connection.application;
        if connection.application.key.protocol() == 6 && (application.one_sided || !connection.application.packets.contains(&0)) {
            self.counters.conversing_total += 1;
            self.counters.one_sided_total += u64::from(application.one_sided);
        }
        self.counters.decode_errors_total += u64::from(application.errors());
        for stream in &connection.streams {
            self.counters.gaps_total += stream.counters().gaps;
            self.counters.lost_bytes_total += stream.counters().lost_bytes;
            self.counters.conflicting_segments_total += stream.counters().conflicts;
        }
        if let Some(quality) = self.quality.as_mut().filter(|_| connection.application.key.protocol() == 6) {
            let lost = connection.streams.iter().map(|stream| stream.counters());
            let lost = lost.fold((0, 0), |sum, c| (sum.0 + c.gaps - c.cuts, sum.1 + c.lost_bytes - c.cut_bytes));
            let ends = application.ends().map(|end| (end.address, end.port));
            quality.connection(application.vlans(), ends, connection.application.packets, application.one_sided, lost);
        }
        if self.options.conversations {
            if self.conversations.len() < CONVERSATIONS_MAX {
                self.conversations.push(conversation(&connection, &self.about));
            } else {
                self.counters.conversations_dropped_total += 1;
            }
        }
    }

    fn forget(&mut self, index: usize, connection: &Connection) {
        self.decoder_bytes -= connection.application.decoder_bytes as usize;
        self.free.push(index as u32);
        self.table.remove(self.seeds.hash_one(connection.application.key), index);
        for key in connection.application.aliases() {
            self.table.remove(self.seeds.hash_one(key), index);
        }
    }

    fn flush_loss(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let ends = connection.application.ends();
        if let Some(loss) = connection.application.rare.as_mut().and_then(|rare| rare.loss.take()) {
            let why = format!("{} of {}: acknowledged, never seen", count(loss.gaps, "gap"), ends_text(&ends));
            self.windows.loss(&Loss {
                stage: "stream",
                start_ns: loss.start_ns,
                end_ns: loss.end_ns,
                packets: 0,
                bytes: loss.bytes,
                flows: loss.flows.into_iter().collect(),
                why,
            });
        }
    }

    fn unread(&mut self, why: Unread, packets: u64, bytes: u64, start_ns: i64, end_ns: i64) {
        let entry = self.unread.entry(why).or_insert((0, 0, start_ns, end_ns));
        entry.0 += packets;
        entry.1 += bytes;
        entry.2 = entry.2.min(start_ns);
        entry.3 = entry.3.max(end_ns);
    }

    fn flush_unread(&mut self, now_ns: i64) {
        if self.unread.values().any(|&(_, _, start_ns, _)| start_ns <= now_ns.saturating_sub(SECOND_NS)) {
            for (why, (packets, bytes, start_ns, end_ns)) in std::mem::take(&mut self.unread) {
                let why = match why {
                    Unread::Link(number) => format!("unreadable packets: link type {number}"),
                    Unread::Reason(reason) => format!("unreadable packets: {reason}"),
                };
                self.windows.loss(&Loss { stage: "capture", start_ns, end_ns, packets, bytes, flows: Vec::new(), why });
            }
        }
    }
}

impl Application {
    /// In the order of the first packet. IPv4-mapped addresses are their IPv4 selves.
    fn ends(&self) -> [Endpoint; 2] {
        let [low, high] = self.key.endpoints();
        if self.first_is_low { [low, high] } else { [high, low] }
    }

    fn registry(&self) -> &'static [Protocol] {
        registry(self.key.protocol())
    }

    /// The windows know of it, or have known.
    fn is_told(&self) -> bool {
        !matches!(self.known, Known::Nothing)
    }

    /// Its number there, while it is open.
    #[inline]
    fn window(&self) -> Option<u32> {
        if let Known::Open(id) = self.known { Some(id) } else { None }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn ordinal(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.ordinal)
    }

    fn errors(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.errors)
    }

    fn vlans(&self) -> Vlans {
        self.rare.as_ref().map_or_else(Vlans::default, |rare| rare.vlans)
    }

    fn has_loss(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.loss.is_some())
    }

    fn shown(&mut self) -> &mut Shown {
        self.rare().shown.get_or_insert_default()
    }

    fn copied(&mut self) -> &mut Copied {
        self.rare().copied.get_or_insert_default()
    }

    /// Its keys in other contexts.
    fn aliases(&self) -> &[Key] {
        self.rare.as_ref().and_then(|rare| rare.copied.as_ref()).map_or(&[], |copied| &copied.keys)
    }

    /// So many bytes of a stream came.
    #[inline]
    fn carried(&mut self, end: usize, bytes: usize) {
        self.stream_bytes[end] += bytes as u64;
        self.weighed_in = self.weighed_in.saturating_sub(bytes as u32);
    }

    fn recognised(&mut self, protocol: &'static Protocol) {
        self.protocol = Some(protocol);
        if self.facts {
            self.shown().protocols.push(protocol.name);
        }
    }

    fn side(&self, end: usize) -> Side {
        if end == usize::from(self.client) { Side::Client } else { Side::Server }
    }

    /// Its decoder, if it has one, has nothing to say any more unless more comes.
    fn has_said_all(&self) -> bool {
        matches!(&self.state, State::Decoding(decoder) if decoder.has_said_all())
    }

    /// Has its decoder been given so much that it may hold more?
    fn is_to_weigh(&self) -> bool {
        self.weighed_in == 0
    }

    /// A packet whose payload is next, of a connection that both ends speak on: as a [`Application::piece`], and the packet.
    #[inline]
    fn straight(&mut self, windows: &mut Windows, about: &About, end: usize, data: &[u8], time_ns: i64) {
        self.packets[end] += 1;
        (self.heard, self.silent, self.one_sided) = (true, false, false);
        match (&mut self.state, self.known) {
            // The windows know the connection, and nothing has changed that they are told of.
            (State::Decoding(decoder), Known::Open(id)) if !data.is_empty() && !self.told => {
                self.stream_bytes[end] += data.len() as u64;
                self.weighed_in = self.weighed_in.saturating_sub(data.len() as u32);
                let side = if end == usize::from(self.client) { Side::Client } else { Side::Server };
                let mut out = windows.recorder(id as usize, time_ns);
                out.arrived(side, data.len() as u64);
                if let Err(wrong) = decoder.data(side, data, &mut out) {
                    self.degrade(windows, id as usize, &wrong, time_ns);
                    out = windows.recorder(id as usize, time_ns);
                }
                out.packet();
            }
            _ => {
                if !data.is_empty() {
                    self.piece(windows, about, end, Piece::Data(data), time_ns);
                }
                if let Some(id) = self.window() {
                    windows.recorder(id as usize, time_ns).packet();
                }
            }
        }
    }

    fn piece(&mut self, windows: &mut Windows, about: &About, end: usize, piece: Piece<'_>, time_ns: i64) {
        if let Piece::Data(data) = piece {
            self.carried(end, data.len());
        }
        match (&mut self.state, piece) {
            (State::Undecided(_), Piece::Data(data)) => self.recognise(windows, about, end, data, time_ns),
            (State::Undecided(_), Piece::Gap(length)) => {
                self.decide(windows, about, time_ns);
                self.gap(windows, about, end, length, time_ns);
                if matches!(self.state, State::Opaque) {
                    // What follows is as if joined midway.
                    self.midstream = true;
                    self.state = State::Undecided(None);
                }
            }
            (_, Piece::Data(data)) => self.decode(windows, about, end, data, time_ns),
            (_, Piece::Gap(length)) => {
                self.gap(windows, about, end, length, time_ns);
                // The gap may have held what the protocol is recognised by: as if joined midway.
                let unread = self.protocol.is_none() && !matches!(self.state, State::Slow(_));
                if unread && !self.registry().is_empty() && self.recognitions < RECOGNITIONS_MAX {
                    self.midstream = true;
                    self.state = State::Undecided(None);
                }
            }
        }
    }

    /// Asks the registry; keeps the bytes while the answer is open.
    fn recognise(&mut self, windows: &mut Windows, about: &About, end: usize, data: &[u8], time_ns: i64) {
        let State::Undecided(undecided) = &mut self.state else { return };
        self.recognitions = self.recognitions.saturating_add(1);
        let (pieces, bytes) = undecided.as_ref().map_or((&[][..], 0), |undecided| (&undecided.pieces[..], undecided.bytes));
        let heads = heads(pieces.iter().map(|(e, p)| (*e, p.as_slice())).chain([(end, data)]));
        let enough = bytes + data.len() > UNDECIDED_BYTES_MAX || heads.iter().all(|head| head.length >= HEAD_BYTES_MAX);
        let answer = self.ask(&heads, enough);
        let State::Undecided(undecided) = &mut self.state else { return };
        if matches!(answer, Answer::Doubt) {
            let undecided = undecided.get_or_insert_default();
            undecided.pieces.push((end, data.to_vec()));
            undecided.bytes += data.len();
            return;
        }
        let kept = undecided.take().map(|undecided| undecided.pieces).unwrap_or_default();
        let again = matches!(answer, Answer::None) && (self.midstream || self.half()) && self.recognitions < RECOGNITIONS_MAX;
        if again && !kept.is_empty() && self.wished(about).is_none() {
            // What came first may be a keep-alive's one byte or the end of a message: a later segment may begin one.
            let mut rest = kept.into_iter().chain([(end, data.to_vec())]);
            self.decided(windows, about, answer, rest.next().into_iter().collect(), time_ns);
            self.state = State::Undecided(None);
            for (end, piece) in rest {
                if matches!(self.state, State::Undecided(_)) {
                    self.recognise(windows, about, end, &piece, time_ns);
                } else {
                    self.decode(windows, about, end, &piece, time_ns);
                }
            }
            return;
        }
        self.decided(windows, about, answer, kept, time_ns);
        self.decode(windows, about, end, data, time_ns);
        if again && matches!(self.state, State::Opaque) {
            self.state = State::Undecided(None);
        }
    }

    /// No more bytes will come before the answer is needed.
    fn decide(&mut self, windows: &mut Windows, about: &About, time_ns: i64) {
        if let State::Undecided(undecided) = &mut self.state {
            let kept = undecided.take().map(|undecided| undecided.pieces).unwrap_or_default();
            let answer = self.ask(&heads(kept.iter().map(|(e, p)| (*e, p.as_slice()))), true);
            self.decided(windows, about, answer, kept, time_ns);
        }
    }

    /// One end speaks to another that it hears and that is not seen.
    fn half(&self) -> bool {
        self.silent && self.heard
    }

    /// A capture may begin after the handshake of TCP and yet before the first byte of the protocol: its beginning is
    /// looked for first.
    fn ask(&self, heads: &[Head; 2], enough: bool) -> Answer {
        let client = usize::from(self.client);
        let (server, ends) = (1 - client, self.ends());
        let ask = |midstream| {
            let (client_head, server_head) = (heads[client].bytes(), heads[server].bytes());
            let ports = (ends[client].port, ends[server].port);
            ask(self.registry(), &Heads { client: client_head, server: server_head, ports, midstream }, enough)
        };
        match ask(false) {
            // Of an end that was never seen nothing can be the beginning.
            Answer::None if self.midstream || self.half() => ask(true),
            answer => answer,
        }
    }

    fn decided(&mut self, windows: &mut Windows, about: &About, answer: Answer, kept: Vec<(usize, Vec<u8>)>, time_ns: i64) {
        self.state = State::Opaque;
        if self.window().is_none() && matches!(answer, Answer::None) {
            if let Some(line) = self.handed_over(windows, about, time_ns) {
                self.state = State::Slow(Box::new(line));
            }
        }
        if let Answer::Found { protocol, client, midstream } = answer {
            if self.window().is_none() {
                self.midstream &= midstream;
                if client == Side::Server {
                    self.client = 1 - self.client;
                }
            }
            let options = Options { facts: self.facts, midstream };
            self.state = State::Decoding((protocol.decoder)(options));
            self.recognised(protocol);
        }
        if !matches!(self.state, State::Slow(_)) {
            self.begin(windows, about, time_ns);
        }
        for (end, piece) in kept {
            self.decode(windows, about, end, &piece, time_ns);
        }
    }

    /// The plug-in that asked for what is spoken here, and its port's end.
    fn wished(&self, about: &About) -> Option<(&'static str, usize)> {
        let (ends, client) = (self.ends(), usize::from(self.client));
        let (plugin, at) = about.slow.as_ref()?.asked(self.key.protocol(), [ends[client].port, ends[1 - client].port])?;
        Some((plugin, if at == 0 { client } else { 1 - client }))
    }

    /// Gives the connection to a plug-in, if one asked for it and has room.
    #[cold]
    fn handed_over(&mut self, windows: &Windows, about: &About, time_ns: i64) -> Option<Line> {
        let (plugin, server) = self.wished(about)?;
        self.client = 1 - server as u8;
        let opening = self.opening(about);
        let names = windows.names_of(opening.client.address, opening.server.address, opening.first_ns);
        let names = names.into_iter().map(|name| name.name).collect();
        let handed = Handed { opening, ordinal: self.ordinal(), names, joined_late: self.midstream, plugin };
        let line = about.slow.as_ref()?.open(handed, self.at(time_ns));
        if line.is_some() && self.facts {
            self.shown().protocols.push(plugin);
        }
        line
    }

    fn at(&self, time_ns: i64) -> At {
        At { time_ns, packets: self.packets[0] + self.packets[1], one_sided: self.one_sided }
    }

    /// The plug-ins are too slow: what comes from here on is a connection that is counted.
    #[cold]
    fn taken_back(&mut self, windows: &mut Windows, about: &About, time_ns: i64) {
        self.state = State::Opaque;
        self.midstream = true;
        // Its flows are others than those that the plug-in told of.
        self.rare().ordinal |= TAKEN_BACK;
        self.begin(windows, about, time_ns);
        let why = format!("{}: its decoder is too slow; counted as bytes from here", ends_text(&self.ends()));
        windows.loss(&Loss { stage: "decoder", start_ns: time_ns, end_ns: time_ns, why, ..Loss::default() });
    }

    /// Opens the connection in the windows, once.
    fn begin(&mut self, windows: &mut Windows, about: &About, time_ns: i64) -> ConnectionId {
        if let Some(id) = self.window() {
            return id as usize;
        }
        let id = windows.open_again(self.opening(about), self.ordinal());
        self.known = Known::Open(u32::try_from(id).expect("connections are bounded far below"));
        let mut out = windows.recorder(id, time_ns);
        let midstream = self.midstream;
        out.condition(|c| c.joined_late = midstream);
        if self.ordinal() & TAKEN_BACK == 0 {
            for _ in 1..self.packets[0] + self.packets[1] {
                out.packet();
            }
        }
        id
    }

    /// Datagrams have no handshake (RFC 768): who asks is who opens.
    fn opening(&self, about: &About) -> Opening {
        let (ends, client) = (self.ends(), usize::from(self.client));
        let opener = self.opener.map(|second| self.side(usize::from(second)));
        Opening {
            client: ends[client],
            server: ends[1 - client],
            opened_by: opener.or_else(|| (self.key.protocol() == UDP_NUMBER).then_some(Side::Client)),
            transport: about.transport(self.key.protocol()),
            tap: about.tap(self.tap),
            context: about.contexts.text(self.key.context()),
            seen_by: "tap",
            first_ns: self.first_ns,
        }
    }

    fn decode(&mut self, windows: &mut Windows, about: &About, end: usize, data: &[u8], time_ns: i64) {
        if let State::Slow(line) = &self.state {
            if line.data(self.side(end), data, self.at(time_ns)) {
                return;
            }
            self.taken_back(windows, about, time_ns);
        }
        let (id, side, one_sided) = (self.begin(windows, about, time_ns), self.side(end), self.one_sided);
        let mut out = windows.recorder(id, time_ns);
        out.arrived(side, data.len() as u64);
        if one_sided != self.told {
            out.condition(|c| c.one_sided = one_sided);
            self.told = one_sided;
        }
        if side == Side::Client && matches!(self.state, State::Opaque) && self.key.protocol() == TCP_NUMBER {
            if let Some(protocol) = protocols::later(data) {
                // STARTTLS and its kin (RFC 3207, RFC 2595, RFC 4511 …): what came before was in the clear and stays so.
                out.cut();
                self.state = State::Decoding((protocol.decoder)(Options { facts: self.facts, midstream: false }));
                self.recognised(protocol);
            }
        }
        let result = match &mut self.state {
            State::Decoding(decoder) => decoder.data(side, data, &mut out),
            _ => {
                let bytes = out.pending(side);
                out.add(&Movement::new(Operation::Transfer, self.opener_side()), side, bytes, Counts::ZERO);
                Ok(())
            }
        };
        if let Err(wrong) = result {
            self.degrade(windows, id, &wrong, time_ns);
        }
    }

    fn gap(&mut self, windows: &mut Windows, about: &About, end: usize, length: u64, time_ns: i64) {
        if let State::Slow(line) = &self.state {
            line.gap(self.side(end), length, self.at(time_ns));
            self.lost = true;
            return;
        }
        let (id, side) = (self.begin(windows, about, time_ns), self.side(end));
        let mut out = windows.recorder(id, time_ns);
        let flow = out.lost(length);
        self.lost = true;
        let loss = self
            .rare()
            .loss
            .get_or_insert_with(|| Box::new(Gaps { start_ns: time_ns, end_ns: time_ns, bytes: 0, gaps: 0, flows: BTreeSet::new() }));
        loss.end_ns = time_ns;
        loss.bytes += length;
        loss.gaps += 1;
        loss.flows.insert(flow);
        let result = match &mut self.state {
            State::Decoding(decoder) => decoder.gap(side, length, &mut out),
            _ => Ok(()),
        };
        if let Err(wrong) = result {
            self.degrade(windows, id, &wrong, time_ns);
        }
    }

    /// A parser that gave up leaves counted bytes behind, marked malformed.
    #[cold]
    fn degrade(&mut self, windows: &mut Windows, id: ConnectionId, wrong: &protocols::DecodeError, time_ns: i64) {
        self.rare().errors += 1;
        windows.recorder(id, time_ns).condition(|c| c.malformed = true);
        self.count_only(windows, id, &wrong.to_string(), time_ns);
    }

    /// Its decoder's memory is needed: from here on its bytes are counted.
    fn unburden(&mut self, windows: &mut Windows, about: &About, time_ns: i64) {
        if let State::Undecided(undecided) = &mut self.state {
            let kept = undecided.take().map(|undecided| undecided.pieces).unwrap_or_default();
            self.decided(windows, about, Answer::None, kept, time_ns);
        }
        let id = self.begin(windows, about, time_ns);
        self.count_only(windows, id, "all decoders together hold too much", time_ns);
    }

    fn count_only(&mut self, windows: &mut Windows, id: ConnectionId, wrong: &str, time_ns: i64) {
        let decoding = matches!(self.state, State::Decoding(_));
        let name = self.protocol.filter(|_| decoding).map_or("unknown", |protocol| protocol.name);
        self.release();
        self.state = State::Opaque;
        let from = self.opener_side();
        let mut out = windows.recorder(id, time_ns);
        out.depth(Depth::Sizes);
        for side in [Side::Client, Side::Server] {
            let bytes = out.pending(side);
            if bytes > 0 {
                out.add(&Movement::new(Operation::Transfer, from), side, bytes, Counts::ZERO);
            }
        }
        let why = format!("{name} at {}: {wrong}; counted as bytes from here", ends_text(&self.ends()));
        windows.loss(&Loss { stage: "decoder", start_ns: time_ns, end_ns: time_ns, why, ..Loss::default() });
    }

    /// The connection seems over: everything goes out. Stragglers are counted in one more window.
    fn settle(&mut self, windows: &mut Windows, about: &About, time_ns: i64) {
        if matches!(self.known, Known::LetGo(_)) {
            return;
        }
        if matches!(self.state, State::Undecided(_)) && self.stream_bytes != [0; 2] {
            self.decide(windows, about, time_ns);
        }
        if let State::Slow(line) = &self.state {
            line.settle(self.at(time_ns));
            return;
        }
        let id = self.begin(windows, about, time_ns);
        let mut out = windows.recorder(id, time_ns);
        let (again, one_sided) = (std::mem::replace(&mut self.settled, true), self.one_sided);
        out.condition(|c| c.one_sided = one_sided);
        self.told = one_sided;
        if again {
            // Told before; only what came since goes out.
        } else if let State::Decoding(decoder) = &mut self.state {
            decoder.close(&mut out);
        } else if self.stream_bytes == [0; 2] && !self.lost {
            out.add(&Movement::new(Operation::Attempt, Side::Client), Side::Client, 0, Counts::ZERO);
        }
        windows.settle(id, time_ns);
    }

    /// Lets the decoder go: a closed connection stays in the table for stragglers, and there may be many of them.
    fn release(&mut self) {
        if matches!(self.state, State::Decoding(_)) {
            let state = std::mem::replace(&mut self.state, State::Opaque);
            if let (State::Decoding(decoder), true) = (state, self.facts) {
                decoder.facts(&mut self.shown().found);
            }
        }
    }

    /// It stays in the table for stragglers, which say nothing: there may be many of those, too.
    fn let_go(&mut self, windows: &mut Windows) {
        if let Known::Open(id) = self.known {
            self.known = windows.let_go(id as usize).map_or(Known::Nothing, Known::LetGo);
        }
    }

    fn close(&mut self, windows: &mut Windows, time_ns: i64) {
        self.release();
        if let State::Slow(line) = &self.state {
            line.close(self.at(time_ns));
        }
        match std::mem::replace(&mut self.known, Known::Nothing) {
            Known::Nothing => {}
            Known::Open(id) => windows.close(id as usize, time_ns),
            Known::LetGo(turn) => windows.forget(turn),
        }
    }

    /// An unreadable connection is one flow from who opened it.
    fn opener_side(&self) -> Side {
        self.opener.map_or(Side::Client, |second| self.side(usize::from(second)))
    }
}

enum Answer {
    Found { protocol: &'static Protocol, client: Side, midstream: bool },
    Doubt,
    None,
}

/// The first protocol of the registry that recognises the heads; doubt of an earlier one comes first, unless `enough`
/// was seen.
fn ask(registry: &'static [Protocol], heads: &Heads<'_>, enough: bool) -> Answer {
    for protocol in registry {
        match (protocol.recognise)(heads) {
            Recognition::Yes { client } => return Answer::Found { protocol, client, midstream: heads.midstream },
            Recognition::More if !enough => return Answer::Doubt,
            Recognition::More | Recognition::No => {}
        }
    }
    Answer::None
}

/// The first bytes of one end.
struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    length: usize,
}

impl Head {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The first bytes of each end.
fn heads<'a>(pieces: impl Iterator<Item = (usize, &'a [u8])>) -> [Head; 2] {
    let mut heads = [0; 2].map(|length| Head { bytes: [0; HEAD_BYTES_MAX], length });
    for (end, piece) in pieces {
        let Head { bytes, length } = &mut heads[end];
        let room = bytes.get_mut(*length..).unwrap_or_default();
        let count = room.len().min(piece.len());
        room[..count].copy_from_slice(&piece[..count]);
        *length += count;
    }
    heads
}

/// IPv4-mapped IPv6 addresses are their IPv4 selves (RFC 4291, 2.5.5.2).
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => Ipv6Addr::to_ipv4_mapped(&v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// What may be spoken over an IP protocol.
fn registry(protocol: u8) -> &'static [Protocol] {
    match protocol {
        TCP_NUMBER => protocols::TCP,
        UDP_NUMBER => protocols::UDP,
        _ => &[],
    }
}

fn transport_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        other => format!("ip-{other}"),
    }
}

fn ends_text(ends: &[Endpoint; 2]) -> String {
    format!("{} {} and {} {}", ends[0].address, ends[0].port, ends[1].address, ends[1].port)
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The line that `hopwatch inspect --json` prints; `a` sent the first packet.
fn conversation(connection: &Connection, about: &About) -> Vec<u8> {
    let application = &connection.application;
    let [a, b] = application.ends();
    let nothing = Shown::default();
    let rare = application.rare.as_deref();
    let shown = rare.and_then(|rare| rare.shown.as_deref()).unwrap_or(&nothing);
    let lost: u64 = connection.streams.iter().map(|s| s.counters().lost_bytes).sum();
    let (copies, copied_bytes) =
        rare.and_then(|rare| rare.copied.as_ref()).map_or(([0; 2], [0; 2]), |copied| (copied.packets, copied.payload_bytes));
    let keys = application.aliases().iter().chain([&connection.application.key]);
    let vlans: BTreeSet<u16> = keys.flat_map(|key| about.contexts.vlans(key.context())).collect();
    let retransmitted: u64 = connection.streams.iter().map(|s| s.counters().retransmitted_bytes).sum();
    let cut = connection.streams.each_ref().map(|s| s.counters().cut_bytes);
    let line = serde_json::json!({
        "kind": "conversation",
        "transport": &*about.transport(application.key.protocol()),
        "a": a.address, "a_port": a.port, "b": b.address, "b_port": b.port,
        "opened_by": application.opener.map(|second| if second { "b" } else { "a" }),
        "start": rfc3339(application.first_ns), "end": rfc3339(connection.application.last_ns),
        // Every packet of the capture; of them, copies.
        "packets_ab": connection.application.packets[0] + copies[0], "packets_ba": connection.application.packets[1] + copies[1],
        "copies_ab": copies[0], "copies_ba": copies[1],
        "payload_bytes_ab": connection.payload_bytes[0] + copied_bytes[0],
        "payload_bytes_ba": connection.payload_bytes[1] + copied_bytes[1],
        // Each stream byte once that was on the wire in a packet that was seen, its cut part too.
        "stream_bytes_ab": application.stream_bytes[0] + cut[0], "stream_bytes_ba": application.stream_bytes[1] + cut[1],
        "cut_bytes_ab": cut[0], "cut_bytes_ba": cut[1], "lost_bytes": lost, "retransmitted_bytes": retransmitted,
        "joined_late": application.midstream, "one_sided": application.one_sided,
        "decode_errors": application.errors(),
        "context": about.contexts.text(application.key.context()).as_deref(), "vlans": vlans,
        "protocols": shown.protocols,
        "facts": shown.found,
    });
    serde_json::to_vec(&line).expect("a conversation serialises")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn a_connection_without_trouble_takes_four_lines_of_the_cache_beside_its_decoder() {
        assert_eq!(size_of::<Option<Connection>>(), 4 * 64);
    }

    #[test]
    fn what_the_next_segment_needs_of_a_connection_stands_in_its_first_lines() {
        let key = offset_of!(Connection, application) + offset_of!(Application, key);
        assert!(key + offset_of!(Key, upper) <= NEXT_LINES * 64);
    }
}
