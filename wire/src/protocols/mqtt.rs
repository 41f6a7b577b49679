//! MQTT 3.1, 3.1.1 and 5 (OASIS MQTT 3.1.1; OASIS MQTT 5.0): who publishes and who is given what.
//!
//! Of a PUBLISH only the head is read (topic, packet identifier, properties); its payload is skipped by length. There are two
//! exceptions. On `$CONTROL/dynamic-security/v1` Mosquitto is told about accounts: the commands are read, never the passwords
//! in them. And of Sparkplug B and OPC UA PubSub, known by the grammar of their topics ([`payload`]), the values are counted.

use super::read::Read;
use super::search::{self, Search};
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition};
use crate::sql::marks::SECRET_PASSWORD;
use crate::table::Map;
use crate::windows::{Counts, Depth, Facts, Movement, ObjectSet, Operation, Place, Recorder, Side};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

mod json;
mod payload;
mod sparkplug;
mod uadp;

use payload::{Node, Nodes, Payload, Reading};

/// A packet whose content is needed is carried up to this size; a longer one is skipped unread.
pub const PACKET_BYTES_MAX: usize = 64 << 10;
/// Topics whose object is kept, and topic aliases of one direction; the tables are emptied, or not added to, when full.
pub const TOPICS_MAX: usize = 4096;
pub const TOPIC_BYTES_SUM_MAX: usize = 512 << 10;
pub const ALIASES_MAX: usize = 4096;
/// Subscription requests that wait for their answer; the oldest goes first.
pub const REQUESTS_MAX: usize = 64;
/// Filters read of one request.
pub const FILTERS_MAX: usize = 64;
/// Commands read of one message to the broker's account administration.
pub const COMMANDS_MAX: usize = 64;
/// Rows of each table that `hopwatch inspect` shows.
pub const FACTS_MAX: usize = 1024;
/// After a gap: the longest packet and topic that are believed; and how much of one is looked at, at least.
pub const SOUGHT_BYTES_MAX: usize = 1 << 20;
pub const SOUGHT_TOPIC_BYTES_MAX: usize = 512;

/// A payload up to this size is counted when it is over, under the names that it has; a longer one as it passes, under `*`.
pub const NAMED_BYTES_MAX: usize = 64 << 10;
/// Selections of names that one topic is told with; further ones are told as `*`. So many messages of different content cannot
/// end a window each.
pub const SELECTIONS_OF_TOPIC_MAX: u8 = 64;
/// Selections of one direction that are kept ready, and what they may hold; the table is emptied when full.
pub const SELECTIONS_MAX: usize = 1024;
pub const SELECTION_BYTES_SUM_MAX: usize = 128 << 10;

const SEEN_BYTES: usize = 15;

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 10;
const UNSUBACK: u8 = 11;
const PINGREQ: u8 = 12;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;
const AUTH: u8 = 15;

const PACKET_NAMES: [&str; 16] = [
    "RESERVED",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];

/// Mosquitto's account administration (mosquitto_dynamic_security plugin).
const DYNAMIC_SECURITY: &str = "$CONTROL/dynamic-security/v1";

/// Properties that are read (OASIS MQTT 5.0, 2.2.2.2).
const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
const AUTHENTICATION_METHOD: u8 = 0x15;
const TOPIC_ALIAS: u8 = 0x23;

pub const MQTT: Protocol = Protocol { name: "mqtt", recognise, decoder };

#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    Box::new(Mqtt::new(options))
}

/// CONNECT by its protocol name, or CONNACK where the client is not heard; in the middle a PUBLISH with a topic that
/// can be printed, or two whole packets in a row.
fn recognise(heads: &Heads<'_>) -> Recognition {
    let sides = [(heads.client, Side::Client), (heads.server, Side::Server)];
    let mut more = false;
    for (head, side) in sides {
        match connects(head) {
            Some(true) => return Recognition::Yes { client: side },
            None if !head.is_empty() => more = true,
            _ => {}
        }
    }
    if more && !heads.midstream {
        return Recognition::More;
    }
    if heads.client.is_empty() && heads.server.is_empty() {
        return Recognition::More;
    }
    if !heads.midstream {
        let accepted = |head: &[u8], other: &[u8]| other.is_empty() && matches!(head, [0x20, 2, 0 | 1, 0..=5, ..]);
        return match sides {
            [(a, _), (b, _)] if accepted(b, a) => Recognition::Yes { client: Side::Client },
            [(a, _), (b, _)] if accepted(a, b) => Recognition::Yes { client: Side::Server },
            _ => Recognition::No,
        };
    }
    // Both readings of who is the client; the packets that only one side may send decide.
    for client in [Side::Client, Side::Server] {
        let (by_client, by_server) = if client == Side::Client { (heads.client, heads.server) } else { (heads.server, heads.client) };
        let (a, b) = (chain(by_client, Side::Client), chain(by_server, Side::Server));
        let (Some(a), Some(b)) = (a, b) else { continue };
        more |= heads.client.len().max(heads.server.len()) < super::HEAD_BYTES_MAX;
        if a.max(b) >= 2 || (a >= 1 && b >= 1) {
            return Recognition::Yes { client };
        }
    }
    if more { Recognition::More } else { Recognition::No }
}

/// Whether a CONNECT starts here (OASIS MQTT 5.0, 3.1.2.1): its flags, a length and the protocol's name; `None` asks for more.
fn connects(head: &[u8]) -> Option<bool> {
    match head.first() {
        None => return None,
        Some(0x10) => {}
        Some(_) => return Some(false),
    }
    let (length, width) = match remaining_length(head.get(1..)?) {
        Ok(Some(found)) => found,
        Ok(None) => return None,
        Err(_) => return Some(false),
    };
    let body = head.get(1 + width..)?;
    for name in [&b"\0\x04MQTT"[..], b"\0\x06MQIsdp"] {
        let same = body.iter().zip(name).all(|(a, b)| a == b);
        if same && length >= 12 {
            return if body.len() > name.len() {
                Some(body.get(name.len()).is_some_and(|level| matches!(level & 0x7f, 3..=5)))
            } else {
                None
            };
        }
    }
    Some(false)
}

/// Packets that follow one another from the start of a head, the last perhaps cut; a PUBLISH counts twice. `None`
/// where something else follows.
fn chain(mut head: &[u8], sender: Side) -> Option<usize> {
    let mut packets = 0;
    while !head.is_empty() {
        match plausible(head, sender, false) {
            Plausible::No => return None,
            Plausible::More => break,
            Plausible::Packet { bytes, kind } => {
                packets += if kind == PUBLISH { 2 } else { 1 };
                head = head.get(bytes..).unwrap_or_default();
            }
        }
    }
    Some(packets)
}

/// Whether `bytes` are whole packets from end to end.
fn exact(mut bytes: &[u8], sender: Side, five: bool) -> bool {
    while !bytes.is_empty() {
        let Plausible::Packet { bytes: length, .. } = plausible(bytes, sender, five) else { return false };
        let Some(rest) = bytes.get(length..) else { return false };
        bytes = rest;
    }
    true
}

/// The topic of a PUBLISH, as far as it is there as a whole.
fn topic_of(packet: &[u8]) -> Option<&str> {
    let (_, width) = remaining_length(packet.get(1..)?).ok()??;
    std::str::from_utf8(Read(packet.get(1 + width..)?).string()?).ok()
}

enum Plausible {
    No,
    More,
    Packet { bytes: usize, kind: u8 },
}

/// Whether a packet that `sender` may send starts here, so far that its end can be trusted. Of version 5, a PUBLISH may
/// name its topic by an alias alone.
fn plausible(bytes: &[u8], sender: Side, five: bool) -> Plausible {
    let Some(&first) = bytes.first() else { return Plausible::More };
    let kind = first >> 4;
    if !flags_fit(first) || !may_send(kind, sender) {
        return Plausible::No;
    }
    let (length, header) = match remaining_length(bytes.get(1..).unwrap_or_default()) {
        Ok(Some(found)) => found,
        Ok(None) => return Plausible::More,
        Err(_) => return Plausible::No,
    };
    let fits = match kind {
        PUBLISH => (3..=SOUGHT_BYTES_MAX).contains(&length),
        PINGREQ | PINGRESP => length == 0,
        PUBACK | PUBREC | PUBREL | PUBCOMP => (2..=4).contains(&length),
        SUBACK => (3..=64).contains(&length),
        UNSUBACK => (2..=64).contains(&length),
        DISCONNECT => length <= 2,
        SUBSCRIBE | UNSUBSCRIBE => (5..=2048).contains(&length),
        _ => false,
    };
    if !fits {
        return Plausible::No;
    }
    if kind == PUBLISH {
        let body = bytes.get(1 + header..).unwrap_or_default();
        let &[high, low, ref rest @ ..] = body else { return Plausible::More };
        let topic_bytes = usize::from(high) << 8 | usize::from(low);
        if five && topic_bytes == 0 {
            let properties = rest.get(if first & 6 == 0 { 0 } else { 2 }..).unwrap_or_default();
            let Some((long, width)) = remaining_length(properties).ok().flatten() else { return Plausible::No };
            let Some(known) = properties.get(width..width + long.min(64)) else { return Plausible::More };
            let aliased = long <= 64 && property(known, TOPIC_ALIAS).is_some();
            return if aliased { Plausible::Packet { bytes: 1 + header + length, kind } } else { Plausible::No };
        }
        if topic_bytes == 0 || topic_bytes > SOUGHT_TOPIC_BYTES_MAX || topic_bytes + 2 > length {
            return Plausible::No;
        }
        let topic = rest.get(..topic_bytes).unwrap_or(rest);
        if !topic.iter().all(|b| b.is_ascii_graphic() && !matches!(b, b'+' | b'#') || *b == b' ' || *b >= 0xa0) {
            return Plausible::No;
        }
        if topic.len() < topic_bytes.min(8) {
            return Plausible::More;
        }
    }
    Plausible::Packet { bytes: 1 + header + length, kind }
}

/// Reserved flags (OASIS MQTT 5.0, 2.1.3); MQTT 3.1 also let PUBREL, SUBSCRIBE and UNSUBSCRIBE be marked as repeated.
fn flags_fit(first: u8) -> bool {
    match (first >> 4, first & 15) {
        (0, _) => false,
        (PUBLISH, flags) => flags & 6 != 6,
        (PUBREL | SUBSCRIBE | UNSUBSCRIBE, flags) => flags & 7 == 2,
        (_, flags) => flags == 0,
    }
}

fn may_send(kind: u8, sender: Side) -> bool {
    match kind {
        CONNECT | SUBSCRIBE | UNSUBSCRIBE | PINGREQ => sender == Side::Client,
        CONNACK | SUBACK | UNSUBACK | PINGRESP => sender == Side::Server,
        _ => true,
    }
}

/// A variable byte integer (OASIS MQTT 5.0, 1.5.5) and its width; `None` asks for more.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(DecodeError::new("length bytes", 5, "at most 4")) } else { Ok(None) }
}

/// One direction.
#[derive(Default)]
struct Half {
    /// The packet at hand, as far as it is there and its content is needed.
    carried: Vec<u8>,
    /// Bytes of the packet at hand still to be skipped, and what they belong to.
    skip: u64,
    /// What the last message in this direction was.
    last: Option<Movement>,
    movement: Option<Movement>,
    /// The topic, by its number, that stands for `last`; and the one, with who published, whose message stands for
    /// `movement`.
    last_topic: Option<u32>,
    moved_topic: Option<(u32, Side)>,
    aliases: Map<u16, Arc<ObjectSet>>,
    alias_bytes: usize,
    /// Packets are looked for.
    seeking: bool,
    search: Search,
    /// There was a gap (or the beginning was not seen): what does not fit is looked past, it is no violation.
    doubtful: bool,
    /// A PUBLISH whose payload is being skipped: topic, payload bytes, retained.
    publishing: Option<(Option<Arc<ObjectSet>>, u64, bool)>,
    /// A PUBLISH whose payload is being read.
    message: Option<Box<Message>>,
    /// The last one, whose memory serves the next.
    spare: Option<Box<Message>>,
    nodes: Nodes,
    selections: Map<Box<[u8]>, (Movement, Place)>,
    /// Where the key of a selection is put together.
    key: Vec<u8>,
    selection_bytes: usize,
}

/// A PUBLISH whose payload is read.
struct Message {
    payload: Payload,
    topic: Arc<ObjectSet>,
    /// Bytes that wait for the names.
    held: u64,
    /// What its bytes are claimed for already: it is too long to wait, or something of it is missing.
    claimed: Option<Movement>,
}

/// A topic that was heard before.
struct Topic {
    /// What was sent, where that is text: compared with what comes next, and nearer than in the objects.
    name: Box<[u8]>,
    objects: Arc<ObjectSet>,
    /// A message of it, by sender, and where one was counted last.
    movements: [Movement; 2],
    places: [Place; 2],
    administers: bool,
    reading: Option<Reading>,
    /// The edge node, by sender.
    nodes: [Node; 2],
    /// Selections of names that it was told with, by sender.
    selections: [u8; 2],
    /// The topic that came after it last, by sender: machines tell their topics in turns.
    next: [u32; 2],
}

impl Topic {
    fn new(name: &str) -> Self {
        let objects = Arc::new(ObjectSet { names: vec![name.to_owned()], ..ObjectSet::default() });
        let reading = Reading::of(name);
        let movements = [Side::Client, Side::Server].map(|side| Movement::of(moving(side, reading), side, Arc::clone(&objects)));
        Self {
            name: name.as_bytes().into(),
            objects,
            movements,
            places: Default::default(),
            administers: name == DYNAMIC_SECURITY,
            reading,
            nodes: Default::default(),
            selections: [0; 2],
            next: [u32::MAX; 2],
        }
    }
}

#[derive(Default)]
struct TopicFacts {
    count: u64,
    payload_bytes: u64,
    retained: u64,
}

#[derive(Default)]
struct Gathered {
    connects: Vec<Value>,
    connack_codes: Vec<u8>,
    packets: BTreeMap<&'static str, u64>,
    publish_count: u64,
    publish_payload_bytes: u64,
    topics: BTreeMap<(bool, String), TopicFacts>,
    subscriptions: Vec<Value>,
    disconnects: Vec<Value>,
    /// Messages, values and messages not read, of payloads that are.
    payloads: BTreeMap<(&'static str, &'static str), [u64; 3]>,
}

/// MQTT on one connection.
pub struct Mqtt {
    facts: bool,
    named: bool,
    /// Protocol level: 3, 4 or 5 (OASIS MQTT 5.0, 3.1.2.2).
    version: Option<u8>,
    /// The client left its name to the broker.
    unnamed: bool,
    halves: [Half; 2],
    /// Numbers of topics, by their bytes.
    numbers: Map<Box<[u8]>, u32>,
    topics: Vec<Topic>,
    topic_bytes: usize,
    requests: VecDeque<(u16, Arc<ObjectSet>, usize)>,
    /// Bounds reached and not yet reported.
    full: u64,
    connected: bool,
    gapped: bool,
    /// Of whom bytes are missing and no packet has been read since.
    missing: [bool; 2],
    /// What is missing may say what later packets mean: who speaks, or what an alias stands for.
    unsure: bool,
    gathered: Gathered,
}

/// What the bytes at the front of a direction are.
enum Step {
    /// This many bytes are needed, header included.
    More(usize),
    /// A packet, read as far as `used`; `skip` more bytes belong to it.
    Packet { used: usize, skip: u64, movement: Movement, counts: Counts },
}

impl Mqtt {
    #[must_use]
    pub fn new(options: Options) -> Self {
        let half = || Half { doubtful: options.midstream, ..Half::default() };
        Self {
            facts: options.facts,
            named: false,
            version: None,
            unnamed: false,
            halves: [half(), half()],
            numbers: Map::default(),
            topics: Vec::new(),
            topic_bytes: 0,
            requests: VecDeque::new(),
            full: 0,
            connected: false,
            gapped: false,
            missing: [false; 2],
            unsure: false,
            gathered: Gathered::default(),
        }
    }

    /// What the last packet from `sender` belonged to.
    #[must_use]
    pub fn last_movement(&self, sender: Side) -> Movement {
        let half = &self.halves[sender as usize];
        let repeated = half.moved_topic.and_then(|(number, by)| Some(self.topics.get(number as usize)?.movements[by as usize].clone()));
        repeated.or_else(|| half.movement.clone()).unwrap_or_else(|| Movement::new(Operation::Connect, Side::Client))
    }

    /// The object of a topic, shared by all its messages.
    fn topic(&mut self, bytes: &[u8]) -> Arc<ObjectSet> {
        if let Some(topic) = self.numbers.get(bytes).and_then(|number| self.topics.get(*number as usize)) {
            return Arc::clone(&topic.objects);
        }
        if self.topics.len() >= TOPICS_MAX || self.topic_bytes + bytes.len() > TOPIC_BYTES_SUM_MAX {
            for side in [Side::Client, Side::Server] {
                self.spell_out(side);
            }
            self.numbers.clear();
            self.topics.clear();
            self.topic_bytes = 0;
        }
        let topic = Topic::new(&String::from_utf8_lossy(bytes));
        let objects = Arc::clone(&topic.objects);
        self.topic_bytes += bytes.len();
        self.numbers.insert(bytes.into(), self.topics.len() as u32);
        self.topics.push(topic);
        objects
    }

    /// Puts what the number of a topic stands for in its place.
    fn spell_out(&mut self, sender: Side) {
        let half = &mut self.halves[sender as usize];
        if let Some(topic) = half.last_topic.take().and_then(|number| self.topics.get(number as usize)) {
            half.last = Some(topic.movements[sender as usize].clone());
        }
        if let Some((number, by)) = half.moved_topic.take() {
            half.movement = self.topics.get(number as usize).map(|topic| topic.movements[by as usize].clone());
        }
    }

    /// The number of a topic that was heard before: mostly the one that came after the last one before.
    #[inline]
    fn number_of(&mut self, sender: Side, topic: &[u8]) -> Option<u32> {
        let last = self.halves[sender as usize].last_topic.map(|last| last as usize);
        let next = last.and_then(|last| self.topics.get(last)).map(|last| last.next[sender as usize]);
        // The name of a topic that is no text is not what was sent.
        let is_it = |next: &u32| self.topics.get(*next as usize).is_some_and(|next| *next.name == *topic);
        if let Some(next) = next.filter(is_it) {
            return Some(next);
        }
        let number = *self.numbers.get(topic)?;
        if let Some(last) = last.and_then(|last| self.topics.get_mut(last)) {
            last.next[sender as usize] = number;
        }
        Some(number)
    }

    /// A PUBLISH whose head is whole and of a topic that was heard before: its head and what is there of its payload are
    /// counted at once. `None`: anything else.
    fn repeated(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Option<usize> {
        let &[first, length, ..] = bytes else { return None };
        if !flags_fit(first) || self.facts || self.missing[sender as usize] {
            return None;
        }
        if matches!(first >> 4, PUBACK | PUBREC | PUBREL | PUBCOMP) && length == 2 {
            return self.acknowledged(first >> 4, sender, bytes, out);
        }
        if first >> 4 != PUBLISH {
            return None;
        }
        let (length, width) = if length < 0x80 { (usize::from(length), 1) } else { remaining_length(&bytes[1..]).ok()?? };
        let body = bytes.get(1 + width..)?;
        let (topic_bytes, rest) = body.split_first_chunk::<2>()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*topic_bytes)))?;
        let rest = rest.get(if first & 6 == 0 { 0 } else { 2 }..)?;
        let rest = if self.version == Some(5) { rest.strip_prefix(&[0])? } else { rest };
        let head = body.len() - rest.len();
        let payload = length.checked_sub(head)?;
        if topic.is_empty() {
            return None;
        }
        let number = self.number_of(sender, topic)?;
        let topic = self.topics.get_mut(number as usize)?;
        if topic.administers && sender == Side::Client {
            return None;
        }
        if let Some(reading) = topic.reading {
            let half = &mut self.halves[sender as usize];
            let node = &mut topic.nodes[sender as usize];
            if *node == Node::Unasked {
                *node = half.nodes.of(reading, topic.objects.names.first().map_or("", String::as_str));
            }
            half.last_topic = None;
            half.last = Some(topic.movements[sender as usize].clone());
            half.moved_topic = None;
            half.skip = payload as u64;
            let (node, objects) = (*node, Arc::clone(&topic.objects));
            let used = 1 + width + head;
            self.begin(sender, (reading, node), objects, payload);
            self.head(sender, used as u64, out);
            if payload == 0 {
                self.ended(sender, out);
            }
            return Some(used);
        }
        let there = payload.min(rest.len());
        let (movement, place) = (&topic.movements[sender as usize], &mut topic.places[sender as usize]);
        out.add_both(movement, place, sender, [(1 + width + head) as u64, there as u64], Counts::messages(1));
        let half = &mut self.halves[sender as usize];
        half.last_topic = Some(number);
        half.moved_topic = Some((number, sender));
        half.skip = (payload - there) as u64;
        Some(1 + width + head + there)
    }

    fn step(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<Step, DecodeError> {
        let Some(&first) = bytes.first() else { return Ok(Step::More(2)) };
        let kind = first >> 4;
        if !flags_fit(first) {
            return Err(DecodeError::new("packet type and flags", first.into(), "a control packet with its reserved flags"));
        }
        if !may_send(kind, sender) {
            return Err(DecodeError::new("packet type", kind.into(), "one that this side sends"));
        }
        let Some((length, width)) = remaining_length(bytes.get(1..).unwrap_or_default())? else { return Ok(Step::More(bytes.len() + 1)) };
        let header = 1 + width;
        if kind == PUBLISH {
            return self.publish(sender, first, header, length, bytes, out);
        }
        let total = header + length;
        if total <= PACKET_BYTES_MAX && bytes.len() < total {
            return Ok(Step::More(total));
        }
        // A longer packet is counted and not read.
        let body = if total <= PACKET_BYTES_MAX { bytes.get(header..total).unwrap_or_default() } else { &[] };
        self.full += u64::from(total > PACKET_BYTES_MAX);
        let read = !body.is_empty();
        if self.facts {
            *self.gathered.packets.entry(PACKET_NAMES[usize::from(kind)]).or_default() += 1;
        }
        let movement = match kind {
            CONNECT if read => self.connect(body, out)?,
            CONNACK if read => {
                self.connected = true;
                self.connack(body, out)?
            }
            SUBSCRIBE | UNSUBSCRIBE if read => self.request(kind, body)?,
            SUBACK | UNSUBACK if read => self.answer(body)?,
            PUBACK | PUBREC | PUBREL | PUBCOMP => self.handshake(kind, sender, body)?,
            SUBSCRIBE | UNSUBSCRIBE | SUBACK | UNSUBACK => Movement::new(Operation::Subscribe, Side::Server),
            PINGREQ | PINGRESP if length > 0 => return Err(DecodeError::new("length of a ping", length as u64, "0")),
            AUTH if self.version.is_some_and(|version| version < 5) => {
                return Err(DecodeError::new("packet type", kind.into(), "one of this protocol level"));
            }
            DISCONNECT => {
                self.disconnect(sender, body);
                Movement::new(Operation::Connect, Side::Client)
            }
            _ => Movement::new(Operation::Connect, Side::Client),
        };
        let used = header + body.len();
        Ok(Step::Packet { used, skip: (total - used) as u64, movement, counts: Counts::ZERO })
    }

    /// (OASIS MQTT 5.0, 3.1)
    fn connect(&mut self, body: &[u8], out: &mut Recorder<'_>) -> Result<Movement, DecodeError> {
        let wrong = || DecodeError::new("length of CONNECT", body.len() as u64, "its fields");
        let mut read = Read(body);
        let name = read.string().ok_or_else(wrong)?;
        if name != b"MQTT" && name != b"MQIsdp" {
            return Err(DecodeError::new("length of the protocol name", name.len() as u64, "MQTT or MQIsdp"));
        }
        let level = read.u8().ok_or_else(wrong)?;
        let flags = read.u8().ok_or_else(wrong)?;
        let keep_alive_s = read.u16().ok_or_else(wrong)?;
        // Mosquitto's bridges, and others after them, set the topmost bit.
        let (bridge, version) = (level & 0x80 != 0, level & 0x7f);
        if !(3..=5).contains(&version) {
            return Err(DecodeError::new("protocol level", version.into(), "3, 4 or 5"));
        }
        self.version = Some(version);
        // Fields that cannot be read name nobody; brokers have accepted such a client, so what follows is still read.
        let fields = connect_fields(&mut read, version, flags);
        if fields.is_none() {
            out.condition(|c| c.malformed = true);
        }
        let (method, client_id, user) = fields.unwrap_or_default();
        let has_password = flags & 0x40 != 0;
        if self.facts && self.gathered.connects.len() < FACTS_MAX {
            self.gathered.connects.push(json!({"client_id": client_id, "user_name": user, "has_password": has_password,
                "protocol_version": version, "keep_alive": keep_alive_s, "clean": flags & 2 != 0, "bridge": bridge}));
        }
        self.unnamed = client_id.is_empty();
        out.login(|i| {
            let by_certificate = i.account_from == Some("certificate");
            if let Some(user) = user.filter(|user| !user.is_empty()) {
                i.account = Some(user);
                i.account_from = Some("startup");
            } else if !by_certificate && !client_id.is_empty() {
                i.account = Some(format!("client-id:{client_id}"));
                i.account_from = Some("startup");
            }
            i.application = Some(client_id).filter(|id| !id.is_empty());
        });
        out.protect(|p| {
            if p.authentication.as_deref() != Some("certificate") || has_password || method.is_some() {
                let plain = if has_password { "password" } else { "none" };
                p.authentication = Some(method.map_or_else(|| plain.into(), |method| format!("enhanced:{method}").into()));
            }
        });
        Ok(Movement::new(Operation::Connect, Side::Client))
    }

    /// (OASIS MQTT 5.0, 3.2)
    fn connack(&mut self, body: &[u8], out: &mut Recorder<'_>) -> Result<Movement, DecodeError> {
        let mut read = Read(body);
        let (Some(_), Some(code)) = (read.u8(), read.u8()) else {
            return Err(DecodeError::new("length of CONNACK", body.len() as u64, "at least 2"));
        };
        if self.version.is_none() {
            self.version = Some(if body.len() > 2 { 5 } else { 4 });
        }
        if self.facts && self.gathered.connack_codes.len() < FACTS_MAX {
            self.gathered.connack_codes.push(code);
        }
        if self.version == Some(5) && self.unnamed {
            let assigned = read.properties().and_then(|p| property(p, ASSIGNED_CLIENT_IDENTIFIER)).map(text);
            if let Some(name) = assigned {
                self.unnamed = false;
                out.login(|i| {
                    if i.account.is_none() {
                        i.account = Some(format!("client-id:{name}"));
                        i.account_from = Some("startup");
                    }
                    i.application = Some(name);
                });
            }
        }
        Ok(Movement::new(if code == 0 { Operation::Connect } else { Operation::Refused }, Side::Client))
    }

    /// SUBSCRIBE and UNSUBSCRIBE: the filters are one object (OASIS MQTT 5.0, 3.8 and 3.10).
    fn request(&mut self, kind: u8, body: &[u8]) -> Result<Movement, DecodeError> {
        let wrong = || DecodeError::new("length of a subscription request", body.len() as u64, "its fields");
        let mut read = Read(body);
        let id = read.u16().ok_or_else(wrong)?;
        if self.version == Some(5) {
            read.properties().ok_or_else(wrong)?;
        }
        let mut names = Vec::new();
        let first_fact = self.gathered.subscriptions.len();
        while !read.0.is_empty() {
            let filter = text(read.string().ok_or_else(wrong)?);
            let qos = if kind == SUBSCRIBE { read.u8().ok_or_else(wrong)? & 3 } else { 0 };
            let (group, shared) = shared(&filter);
            if self.facts && kind == SUBSCRIBE && self.gathered.subscriptions.len() < FACTS_MAX {
                self.gathered.subscriptions.push(json!({"filter": filter, "qos": qos, "group": group}));
            }
            if names.len() < FILTERS_MAX {
                names.push(shared.to_owned());
            } else {
                self.full += 1;
            }
        }
        let objects = Arc::new(ObjectSet { names, ..ObjectSet::default() });
        if self.requests.len() >= REQUESTS_MAX {
            self.requests.pop_front();
            self.full += 1;
        }
        self.requests.push_back((id, Arc::clone(&objects), if kind == SUBSCRIBE { first_fact } else { usize::MAX }));
        Ok(Movement::of(Operation::Subscribe, Side::Server, objects))
    }

    /// SUBACK and UNSUBACK belong to their request; one that grants nothing is a refusal (OASIS MQTT 5.0, 3.9.3).
    fn answer(&mut self, body: &[u8]) -> Result<Movement, DecodeError> {
        let mut read = Read(body);
        let Some(id) = read.u16() else {
            return Err(DecodeError::new("length of a subscription answer", body.len() as u64, "at least 2"));
        };
        if self.version == Some(5) {
            read.properties();
        }
        let refused = !read.0.is_empty() && read.0.iter().all(|code| *code >= 0x80);
        let operation = if refused { Operation::Refused } else { Operation::Subscribe };
        let Some(index) = self.requests.iter().position(|(i, ..)| *i == id) else { return Ok(Movement::new(operation, Side::Server)) };
        let Some((_, objects, first_fact)) = self.requests.remove(index) else { return Ok(Movement::new(operation, Side::Server)) };
        for (fact, code) in self.gathered.subscriptions.iter_mut().skip(first_fact).zip(read.0) {
            fact["granted"] = json!(code);
        }
        Ok(Movement::of(operation, Side::Server, objects))
    }

    /// The acknowledgements belong to the direction of what they acknowledge.
    fn handshake(&mut self, kind: u8, sender: Side, body: &[u8]) -> Result<Movement, DecodeError> {
        if body.len() < 2 {
            return Err(DecodeError::new("length of an acknowledgement", body.len() as u64, "at least 2"));
        }
        let publisher = if kind == PUBREL { sender } else { sender.other() };
        let refused = matches!(kind, PUBACK | PUBREC) && body.get(2).is_some_and(|reason| *reason >= 0x80);
        self.spell_out(publisher);
        let last = self.halves[publisher as usize].last.clone();
        let last = last.unwrap_or_else(|| Movement::new(moving(publisher, None), publisher));
        Ok(if refused { Movement { operation: Operation::Refused, ..last } } else { last })
    }

    /// (OASIS MQTT 5.0, 3.14.2)
    fn disconnect(&mut self, sender: Side, body: &[u8]) {
        if self.facts && self.gathered.disconnects.len() < FACTS_MAX {
            self.gathered.disconnects.push(json!({"sender": side_name(sender), "reason": body.first().copied().unwrap_or(0)}));
        }
    }

    /// (OASIS MQTT 5.0, 3.3)
    fn publish(
        &mut self,
        sender: Side,
        first: u8,
        header: usize,
        length: usize,
        bytes: &[u8],
        out: &mut Recorder<'_>,
    ) -> Result<Step, DecodeError> {
        let wrong = || DecodeError::new("length of PUBLISH", length as u64, "its topic, identifier and properties");
        let total = header + length;
        let body = bytes.get(header..bytes.len().min(total)).unwrap_or_default();
        let more = |wanted: usize| if wanted > length { Err(wrong()) } else { Ok(Step::More(header + wanted)) };
        let &[high, low, ref rest @ ..] = body else { return more(2) };
        let topic_bytes = usize::from(high) << 8 | usize::from(low);
        let id_bytes = if first & 6 == 0 { 0 } else { 2 };
        let mut head = 2 + topic_bytes + id_bytes;
        // An empty topic needs an alias, which only MQTT 5 has; so the level shows where CONNECT was not seen.
        let five = self.version == Some(5) || (self.version.is_none() && topic_bytes == 0);
        if head + usize::from(five) > length {
            return Err(wrong());
        }
        if body.len() < head + usize::from(five) {
            return more(head + usize::from(five));
        }
        let mut alias = None;
        if five {
            let Some((properties, width)) = remaining_length(body.get(head..).unwrap_or_default())? else { return more(body.len() + 1) };
            let from = head + width;
            head = from + properties;
            if head > length {
                return Err(wrong());
            }
            if header + head <= PACKET_BYTES_MAX {
                if body.len() < head {
                    return more(head);
                }
                alias =
                    property(body.get(from..head).unwrap_or_default(), TOPIC_ALIAS).and_then(|v| v.try_into().ok()).map(u16::from_be_bytes);
            } else {
                self.full += 1;
            }
        }
        let topic = rest.get(..topic_bytes).unwrap_or_default();
        let objects = self.resolve(sender, topic, alias);
        let administers =
            sender == Side::Client && objects.as_ref().is_some_and(|o| o.names.first().is_some_and(|n| n == DYNAMIC_SECURITY));
        if administers && total <= PACKET_BYTES_MAX && body.len() < length {
            return more(length);
        }
        let reading = objects.as_ref().and_then(|o| Reading::of(o.names.first()?));
        let half = &mut self.halves[sender as usize];
        if self.facts {
            half.publishing = Some((objects.clone(), (length - head) as u64, first & 1 != 0));
        }
        let mut movement = Movement { operation: moving(sender, reading), from: sender, objects };
        half.last_topic = None;
        half.last = Some(movement.clone());
        if let (Some(reading), Some(topic)) = (reading, &movement.objects) {
            let node = half.nodes.of(reading, topic.names.first().map_or("", String::as_str));
            self.begin(sender, (reading, node), Arc::clone(topic), length - head);
        }
        if administers {
            let (changes, cut) = body.get(head..).filter(|_| total <= PACKET_BYTES_MAX).map_or((Vec::new(), true), administration);
            self.full += u64::from(cut);
            movement = Movement::new(Operation::Admin, Side::Client);
            for change in changes {
                // The packet itself belongs to the last one.
                if movement.objects.is_some() {
                    out.add(&movement, sender, 0, Counts::ZERO);
                }
                movement = Movement::of(Operation::Admin, Side::Client, Arc::new(change));
            }
        }
        let used = (header + head).min(bytes.len());
        Ok(Step::Packet { used, skip: (total - used) as u64, movement, counts: Counts::messages(1) })
    }

    /// The topic, by its name or by the alias that stands for it (OASIS MQTT 5.0, 3.3.2.3.4).
    fn resolve(&mut self, sender: Side, topic: &[u8], alias: Option<u16>) -> Option<Arc<ObjectSet>> {
        if topic.is_empty() {
            return alias.and_then(|alias| self.halves[sender as usize].aliases.get(&alias).cloned());
        }
        let objects = self.topic(topic);
        if let Some(alias) = alias {
            let size = objects.names.first().map_or(0, String::len);
            let half = &mut self.halves[sender as usize];
            if let Some(old) = half.aliases.remove(&alias) {
                half.alias_bytes -= old.names.first().map_or(0, String::len);
            }
            if half.aliases.len() < ALIASES_MAX && half.alias_bytes + size <= TOPIC_BYTES_SUM_MAX {
                half.alias_bytes += size;
                half.aliases.insert(alias, Arc::clone(&objects));
            } else {
                self.full += 1;
            }
        }
        Some(objects)
    }

    /// A whole acknowledgement without a reason code, of a message whose topic was heard before.
    fn acknowledged(&mut self, kind: u8, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Option<usize> {
        let publisher = if kind == PUBREL { sender } else { sender.other() };
        let number = self.halves[publisher as usize].last_topic.filter(|_| bytes.len() >= 4)?;
        let topic = self.topics.get_mut(number as usize)?;
        let (movement, place) = (&topic.movements[publisher as usize], &mut topic.places[publisher as usize]);
        out.add_at(movement, place, sender, 4, Counts::ZERO);
        let half = &mut self.halves[sender as usize];
        half.moved_topic = Some((number, publisher));
        half.skip = 0;
        Some(4)
    }

    /// A PUBLISH whose payload, of so many bytes, is read.
    fn begin(&mut self, sender: Side, (reading, node): (Reading, Node), topic: Arc<ObjectSet>, length: usize) {
        let half = &mut self.halves[sender as usize];
        let mut message = match half.spare.take() {
            Some(mut message) => {
                message.payload.restart(reading, node, length as u64, &mut half.nodes);
                (message.topic, message.held, message.claimed) = (topic, 0, None);
                message
            }
            None => {
                let payload = Payload::new(reading, node, length as u64, &mut half.nodes);
                Box::new(Message { payload, topic, held: 0, claimed: None })
            }
        };
        if length > NAMED_BYTES_MAX {
            message.payload.names.more = true;
            message.claimed = Some(self.select(sender, &message));
        }
        self.halves[sender as usize].message = Some(message);
    }

    /// The head of the message at hand.
    fn head(&mut self, sender: Side, bytes: u64, out: &mut Recorder<'_>) {
        let Some(message) = &mut self.halves[sender as usize].message else { return };
        match &message.claimed {
            None => message.held += bytes,
            Some(movement) => out.add(movement, sender, bytes, Counts::ZERO),
        }
    }

    /// What a message is under the names that it has; its key is left in the half.
    fn select(&mut self, sender: Side, message: &Message) -> Movement {
        // Every column, or columns that nobody knows.
        const EVERY: &[u8] = b"*\0";
        let name = message.topic.names.first().map_or("", String::as_str).as_bytes();
        let half = &mut self.halves[sender as usize];
        let names = &message.payload.names;
        let spell = |key: &mut Vec<u8>, names: &[u8]| {
            key.clear();
            key.extend_from_slice(name);
            key.push(0);
            key.extend_from_slice(names);
        };
        let mut text: &[u8] = if names.more { EVERY } else { &names.text };
        spell(&mut half.key, text);
        if let Some((movement, _)) = half.selections.get(half.key.as_slice()) {
            return movement.clone();
        }
        if !names.more && names.count > 0 {
            let topic = self.numbers.get(name).and_then(|number| self.topics.get_mut(*number as usize));
            match topic.map(|topic| &mut topic.selections[sender as usize]) {
                Some(selections) if *selections < SELECTIONS_OF_TOPIC_MAX => *selections += 1,
                _ => {
                    text = EVERY;
                    spell(&mut half.key, text);
                    if let Some((movement, _)) = half.selections.get(half.key.as_slice()) {
                        return movement.clone();
                    }
                }
            }
        }
        let mut columns: Vec<_> =
            text.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        columns.sort_unstable();
        columns.dedup();
        let objects = Arc::new(ObjectSet { names: message.topic.names.clone(), columns, ..ObjectSet::default() });
        let movement = Movement::of(moving(sender, Some(message.payload.reading())), sender, objects);
        let cost = selection_cost(&half.key);
        if half.selections.len() >= SELECTIONS_MAX || half.selection_bytes + cost > SELECTION_BYTES_SUM_MAX {
            half.selections.clear();
            half.selection_bytes = 0;
        }
        half.selection_bytes += cost;
        half.selections.insert(half.key.as_slice().into(), (movement.clone(), Place::default()));
        movement
    }

    /// More of the packet at hand, which is skipped or read.
    fn body(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) {
        let half = &mut self.halves[sender as usize];
        let length = bytes.len() as u64;
        if let Some(message) = &mut half.message {
            message.payload.read(bytes, &mut half.nodes);
            match &message.claimed {
                Some(movement) => out.add(movement, sender, length, Counts::ZERO),
                None => message.held += length,
            }
            return;
        }
        let moved = half.moved_topic.and_then(|(number, by)| Some((self.topics.get_mut(number as usize)?, by)));
        if let Some((topic, by)) = moved {
            let (movement, place) = (&topic.movements[by as usize], &mut topic.places[by as usize]);
            out.add_at(movement, place, sender, length, Counts::ZERO);
        } else if let Some(movement) = &half.movement {
            out.add(movement, sender, length, Counts::ZERO);
        }
    }

    /// A packet is whole.
    fn ended(&mut self, sender: Side, out: &mut Recorder<'_>) {
        let half = &mut self.halves[sender as usize];
        if let Some(mut message) = half.message.take() {
            let held = message.payload.end(&mut half.nodes);
            for _ in 0..std::mem::take(&mut half.nodes.full) {
                out.bound_reached();
            }
            if self.facts {
                let [messages, values, unread] = self.gathered.payloads.entry(message.payload.reading().shown()).or_default();
                *messages += 1;
                *values += held.values.unwrap_or(0);
                *unread += u64::from(held.values.is_none());
            }
            let counts = Counts { values: held.values.unwrap_or(0), ..Counts::messages(1) };
            let movement = self.claim(sender, message, counts, out);
            if held.values.is_none() {
                out.uncounted(&movement);
            } else if held.supposed {
                out.estimated(&movement);
            }
        }
        self.published(sender);
    }

    /// Claims what a message is made of.
    fn claim(&mut self, sender: Side, mut message: Box<Message>, counts: Counts, out: &mut Recorder<'_>) -> Movement {
        let movement = match message.claimed.take() {
            Some(movement) => {
                out.add(&movement, sender, 0, counts);
                movement
            }
            None => {
                let movement = self.select(sender, &message);
                let half = &mut self.halves[sender as usize];
                match half.selections.get_mut(half.key.as_slice()) {
                    Some((movement, place)) => out.add_at(movement, place, sender, message.held, counts),
                    None => out.add(&movement, sender, message.held, counts),
                }
                movement
            }
        };
        let half = &mut self.halves[sender as usize];
        half.last = Some(movement.clone());
        half.movement = Some(movement.clone());
        half.spare = Some(message);
        movement
    }

    /// A message whose end is not seen: it counts, and its values are not known.
    fn give_up(&mut self, sender: Side, out: &mut Recorder<'_>) {
        if let Some(mut message) = self.halves[sender as usize].message.take() {
            message.payload.names.more = true;
            let movement = self.claim(sender, message, Counts::messages(1), out);
            out.uncounted(&movement);
        }
    }

    /// A PUBLISH is whole.
    fn published(&mut self, sender: Side) {
        let Some((objects, payload_bytes, retained)) = self.halves[sender as usize].publishing.take() else { return };
        let gathered = &mut self.gathered;
        *gathered.packets.entry("PUBLISH").or_default() += 1;
        gathered.publish_count += 1;
        gathered.publish_payload_bytes += payload_bytes;
        let name = objects.and_then(|o| o.names.first().cloned()).unwrap_or_default();
        let key = (sender == Side::Server, name);
        if gathered.topics.len() < FACTS_MAX || gathered.topics.contains_key(&key) {
            let topic = gathered.topics.entry(key).or_default();
            topic.count += 1;
            topic.payload_bytes += payload_bytes;
            topic.retained += u64::from(retained);
        }
    }

    /// Looks for a packet that is believed; what is passed over is counted as bytes.
    fn seek(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) {
        let five = self.version == Some(5);
        let half = &mut self.halves[sender as usize];
        if !bytes.is_empty() && exact(bytes, sender, five) {
            // A segment that is packets from its first byte to its last: they begin here.
            out.add(&unread(), sender, half.carried.len() as u64, Counts::ZERO);
            half.carried = bytes.to_vec();
            half.search = Search::default();
            half.seeking = false;
            return;
        }
        half.carried.extend_from_slice(bytes);
        let topics = &self.numbers;
        let worth = |bytes: &[u8]| match plausible(bytes, sender, five) {
            Plausible::Packet { bytes: length, kind } => {
                let worth = if kind != PUBLISH {
                    1
                } else if topic_of(bytes).is_some_and(|topic| topics.contains_key(topic.as_bytes())) {
                    // A topic that was heard before.
                    search::SURE
                } else {
                    search::SURE / 2
                };
                search::Found::Message { length, worth }
            }
            Plausible::More | Plausible::No => search::Found::No,
        };
        let found = half.search.look(&half.carried, SEEN_BYTES, &worth);
        let passed = found.unwrap_or(half.carried.len().saturating_sub(SEEN_BYTES));
        half.search.passed(passed);
        half.carried.drain(..passed);
        half.seeking = found.is_none();
        if passed > 0 {
            out.add(&unread(), sender, passed as u64, Counts::ZERO);
        }
    }

    /// Bytes that fit nothing: after a gap a reason to look on, otherwise a violation.
    fn lost(&mut self, sender: Side, wrong: DecodeError, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let half = &mut self.halves[sender as usize];
        if !half.doubtful {
            return Err(wrong);
        }
        if !half.seeking && self.gapped {
            // What was taken for packets since the gap may have been none.
            self.unsure = true;
            out.gapped();
        }
        let half = &mut self.halves[sender as usize];
        half.seeking = true;
        if !half.carried.is_empty() {
            half.carried.remove(0);
            out.add(&unread(), sender, 1, Counts::ZERO);
        }
        Ok(())
    }

    fn take_packet(&mut self, sender: Side, step: Step, out: &mut Recorder<'_>) -> Option<usize> {
        for _ in 0..std::mem::take(&mut self.full) {
            out.bound_reached();
        }
        let Step::Packet { used, skip, movement, counts } = step else { return None };
        if self.halves[sender as usize].message.is_some() {
            self.head(sender, used as u64, out);
        } else {
            out.add(&movement, sender, used as u64, counts);
            self.halves[sender as usize].movement = Some(movement);
        }
        let half = &mut self.halves[sender as usize];
        half.moved_topic = None;
        half.skip = skip;
        if skip == 0 {
            self.ended(sender, out);
        }
        if std::mem::take(&mut self.missing[sender as usize]) && self.missing == [false; 2] && !self.unsure {
            out.sound();
        }
        Some(used)
    }
}

impl Decoder for Mqtt {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if !self.named {
            self.named = true;
            out.protocol("mqtt", Depth::Decoded);
        }
        let mut rest = bytes;
        // After looking for packets, what is carried may hold whole ones.
        while !rest.is_empty() || self.halves[sender as usize].carried.len() > 1 {
            let half = &mut self.halves[sender as usize];
            if half.seeking {
                self.seek(sender, std::mem::take(&mut rest), out);
                if self.halves[sender as usize].seeking {
                    break;
                }
                continue;
            }
            if half.skip > 0 {
                let taken = rest.len().min(usize::try_from(half.skip).unwrap_or(usize::MAX));
                let (body, after) = rest.split_at(taken);
                half.skip -= body.len() as u64;
                rest = after;
                let done = half.skip == 0;
                self.body(sender, body, out);
                if done {
                    self.ended(sender, out);
                } else if rest.is_empty() {
                    break;
                }
                continue;
            }
            if half.carried.is_empty() {
                if let Some(used) = self.repeated(sender, rest, out) {
                    rest = rest.get(used..).unwrap_or_default();
                    continue;
                }
                // The whole packet, or the head that is needed, is often here.
                match self.step(sender, rest, out) {
                    Ok(Step::More(_)) => {
                        self.halves[sender as usize].carried.extend_from_slice(rest);
                        break;
                    }
                    Ok(step) => {
                        let used = self.take_packet(sender, step, out).unwrap_or(rest.len());
                        rest = rest.get(used..).unwrap_or_default();
                    }
                    Err(wrong) => {
                        self.halves[sender as usize].carried.extend_from_slice(rest);
                        rest = &[];
                        self.lost(sender, wrong, out)?;
                    }
                }
                continue;
            }
            let carried = std::mem::take(&mut half.carried);
            match self.step(sender, &carried, out) {
                Ok(Step::More(wanted)) => {
                    let (head, after) = rest.split_at(rest.len().min(wanted.saturating_sub(carried.len()).max(1)));
                    self.halves[sender as usize].carried = carried;
                    self.halves[sender as usize].carried.extend_from_slice(head);
                    if head.is_empty() {
                        break;
                    }
                    rest = after;
                    if rest.is_empty() && self.halves[sender as usize].carried.len() < wanted {
                        break;
                    }
                }
                Ok(step) => {
                    let used = self.take_packet(sender, step, out).unwrap_or(carried.len());
                    let half = &mut self.halves[sender as usize];
                    let mut left = carried.get(used..).unwrap_or_default();
                    let skipped = left.len().min(usize::try_from(half.skip).unwrap_or(usize::MAX));
                    if skipped > 0 {
                        half.skip -= skipped as u64;
                        let (body, after) = left.split_at(skipped);
                        left = after;
                        let done = half.skip == 0;
                        self.body(sender, body, out);
                        if done {
                            self.ended(sender, out);
                        }
                    }
                    self.halves[sender as usize].carried = left.to_vec();
                }
                Err(wrong) => {
                    self.halves[sender as usize].carried = carried;
                    self.lost(sender, wrong, out)?;
                }
            }
        }
        Ok(())
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        out.gapped();
        self.gapped = true;
        self.spell_out(sender);
        let half = &mut self.halves[sender as usize];
        half.doubtful = true;
        // An alias may have been given to another metric.
        half.nodes.clear();
        if length <= half.skip {
            half.skip -= length;
            if length > 0 && half.message.is_some() {
                // Its head and its end are known, what it holds is not.
                if let Some(message) = &mut half.message {
                    message.payload.lose();
                }
            }
            if half.skip == 0 {
                self.ended(sender, out);
            }
            if self.missing == [false; 2] {
                // The end of the packet is known, and all behind it.
                out.sound();
            }
            return Ok(());
        }
        self.give_up(sender, out);
        let half = &mut self.halves[sender as usize];
        self.missing[sender as usize] = true;
        // Who speaks is said once, and an alias may have been given another topic.
        self.unsure |= !self.connected || !half.aliases.is_empty();
        let carried = std::mem::take(&mut half.carried);
        half.publishing = None;
        // Of a packet whose length is there the end is known.
        let whole =
            remaining_length(carried.get(1..).unwrap_or_default()).ok().flatten().map(|(length, width)| (1 + width + length) as u64);
        match whole.filter(|_| !half.seeking).and_then(|whole| whole.checked_sub(carried.len() as u64 + length)) {
            Some(left) => {
                half.skip = left;
                half.movement = Some(unread());
            }
            None => {
                half.search.passed(carried.len().saturating_add(usize::try_from(length).unwrap_or(usize::MAX)));
                half.skip = 0;
                half.seeking = true;
            }
        }
        // An alias may have been given another topic.
        half.aliases.clear();
        half.alias_bytes = 0;
        out.add(&unread(), sender, carried.len() as u64, Counts::ZERO);
        Ok(())
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        for sender in [Side::Client, Side::Server] {
            self.give_up(sender, out);
        }
    }

    fn facts(&self, into: &mut Facts) {
        if !self.facts {
            return;
        }
        for ((of, kind), [messages, values, unread]) in &self.gathered.payloads {
            into.entry(of).or_insert_with(|| json!({}))[kind] = json!({"messages": messages, "values": values, "unread": unread});
        }
        let g = &self.gathered;
        let topics: Vec<_> = g
            .topics
            .iter()
            .map(|((by_server, topic), t)| {
                let sender = if *by_server { "server" } else { "client" };
                json!({"sender": sender, "topic": topic, "count": t.count, "payload_bytes": t.payload_bytes, "retained": t.retained})
            })
            .collect();
        into.insert(
            "mqtt",
            json!({"connects": g.connects, "connack_codes": g.connack_codes, "publish_count": g.publish_count,
                   "publish_payload_bytes": g.publish_payload_bytes, "packets": g.packets, "topics": topics,
                   "subscriptions": g.subscriptions, "disconnects": g.disconnects}),
        );
    }

    fn memory_bytes(&self) -> usize {
        let of_half = |h: &Half| {
            let messages: usize = h.message.iter().chain(&h.spare).map(|message| message.payload.memory_bytes()).sum();
            let read = messages + h.nodes.memory_bytes() + h.selection_bytes + h.key.capacity();
            h.search.memory_bytes() + h.carried.capacity() + h.alias_bytes + 64 * h.aliases.len() + read
        };
        let halves: usize = self.halves.iter().map(of_half).sum();
        let requests: usize = self.requests.iter().flat_map(|(_, o, _)| &o.names).map(|n| 32 + n.capacity()).sum();
        let g = &self.gathered;
        let facts = 256 * (g.connects.len() + g.subscriptions.len() + g.disconnects.len() + g.topics.len());
        size_of::<Self>() + halves + 3 * self.topic_bytes + 256 * self.topics.len() + requests + facts
    }
}

/// Authentication method, client identifier and user name of a CONNECT (OASIS MQTT 5.0, 3.1.2.11 and 3.1.3).
fn connect_fields(read: &mut Read<'_>, version: u8, flags: u8) -> Option<(Option<String>, String, Option<String>)> {
    let method = if version == 5 { property(read.properties()?, AUTHENTICATION_METHOD).map(text) } else { None };
    let client_id = text(read.string()?);
    if flags & 0x04 != 0 {
        if version == 5 {
            read.properties()?;
        }
        read.string()?;
        read.string()?;
    }
    let user = if flags & 0x80 != 0 { Some(text(read.string()?)) } else { None };
    Some((method, client_id, user))
}

/// Bytes around a gap, of packets that nobody can tell.
fn unread() -> Movement {
    Movement::new(Operation::Transfer, Side::Client)
}

/// What a PUBLISH is, by who sends it: a client that tells others what to do writes to them.
fn moving(publisher: Side, reading: Option<Reading>) -> Operation {
    match publisher {
        Side::Client if reading.is_some_and(|reading| reading.command) => Operation::Write,
        Side::Client => Operation::Publish,
        Side::Server => Operation::Subscribe,
    }
}

/// What a selection holds, roughly: its key, its set with a string for each name, and their places.
fn selection_cost(key: &[u8]) -> usize {
    let names = key.iter().filter(|byte| **byte == 0).count();
    256 + 3 * key.len() + 48 * names
}

fn side_name(side: Side) -> &'static str {
    if side == Side::Client { "client" } else { "server" }
}

/// Group and filter of a shared subscription (OASIS MQTT 5.0, 4.8.2).
fn shared(filter: &str) -> (Option<&str>, &str) {
    let parts = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    parts.map_or((None, filter), |(group, filter)| (Some(group), filter))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl<'a> Read<'a> {
    /// (OASIS MQTT 5.0, 1.5.4)
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
    fn properties(&mut self) -> Option<&'a [u8]> {
        let (length, width) = remaining_length(self.0).ok()??;
        self.take(width)?;
        self.take(length)
    }
}

/// The value of the first property of a kind (OASIS MQTT 5.0, 2.2.2.2).
fn property(properties: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut read = Read(properties);
    while let Some(kind) = read.u8() {
        let value = match kind {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => read.take(1)?,
            0x13 | 0x21 | 0x22 | TOPIC_ALIAS => read.take(2)?,
            0x02 | 0x11 | 0x18 | 0x27 => read.take(4)?,
            0x0b => {
                let (_, width) = remaining_length(read.0).ok()??;
                read.take(width)?
            }
            0x26 => {
                read.string()?;
                read.string()?
            }
            0x03 | 0x08 | 0x09 | ASSIGNED_CLIENT_IDENTIFIER | AUTHENTICATION_METHOD | 0x16 | 0x1a | 0x1c | 0x1f => read.string()?,
            _ => return None,
        };
        if kind == wanted {
            return Some(value);
        }
    }
    None
}

#[derive(Deserialize)]
struct Commands {
    #[serde(default)]
    commands: Vec<Command>,
}

/// What is kept of a command: a password only as the fact that there is one.
#[derive(Deserialize)]
struct Command {
    #[serde(default)]
    command: String,
    username: Option<String>,
    rolename: Option<String>,
    groupname: Option<String>,
    password: Option<IgnoredAny>,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    rolename: String,
}

/// Changes to accounts, roles and groups in a message to Mosquitto's dynamic security, and whether there were more; asking is no
/// change.
fn administration(payload: &[u8]) -> (Vec<ObjectSet>, bool) {
    let Ok(commands) = serde_json::from_slice::<Commands>(payload) else { return (Vec::new(), false) };
    let cut = commands.commands.len() > COMMANDS_MAX || commands.commands.iter().any(|command| command.roles.len() > COMMANDS_MAX);
    (commands.commands.iter().take(COMMANDS_MAX).filter_map(change).collect(), cut)
}

fn change(command: &Command) -> Option<ObjectSet> {
    let account = command.username.as_ref().map(|name| format!("account:{name}"));
    let role = command.rolename.as_ref().map(|name| format!("role:{name}"));
    let group = command.groupname.as_ref().map(|name| format!("group:{name}"));
    let role_name = command.rolename.as_deref().unwrap_or_default();
    let group_name = command.groupname.as_deref().unwrap_or_default();
    let (name, verb) = match command.command.as_str() {
        "createClient" => (account, "create".to_owned()),
        "deleteClient" => (account, "drop".into()),
        "setClientPassword" => (account, "password".into()),
        "modifyClient" | "enableClient" | "disableClient" | "setClientId" => (account, "alter".into()),
        "addClientRole" => (account, format!("grant:{role_name}")),
        "removeClientRole" => (account, format!("revoke:{role_name}")),
        "addGroupClient" => (account, format!("grant:group:{group_name}")),
        "removeGroupClient" => (account, format!("revoke:group:{group_name}")),
        "createRole" => (role, "create".into()),
        "deleteRole" => (role, "drop".into()),
        "modifyRole" | "addRoleACL" | "removeRoleACL" => (role, "alter".into()),
        "createGroup" => (group, "create".into()),
        "deleteGroup" => (group, "drop".into()),
        "modifyGroup" => (group, "alter".into()),
        "addGroupRole" => (group, format!("grant:{role_name}")),
        "removeGroupRole" => (group, format!("revoke:{role_name}")),
        "setDefaultACLAccess" | "setAnonymousGroup" => (Some("broker".into()), "alter".into()),
        _ => return None,
    };
    let mut columns = vec![verb];
    if command.password.is_some() && command.command == "modifyClient" {
        columns.push("password".into());
    }
    columns.extend(command.roles.iter().take(COMMANDS_MAX).map(|role| format!("grant:{}", role.rolename)));
    let marks = command.password.is_some().then_some(SECRET_PASSWORD).into_iter().collect();
    Some(ObjectSet { names: vec![name?], columns, statement: None, marks })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, CLIENT, Played, SERVER, Script, Step as Said};
    use super::*;

    const V311: (&str, &str) = (include_str!("../../../tests/data/mqtt/v311.txt"), include_str!("../../../tests/data/mqtt/v311.json"));
    const V5: (&str, &str) = (include_str!("../../../tests/data/mqtt/v5.txt"), include_str!("../../../tests/data/mqtt/v5.json"));
    const SPARKPLUG: (&str, &str) =
        (include_str!("../../../tests/data/mqtt/sparkplug.txt"), include_str!("../../../tests/data/mqtt/sparkplug.json"));
    const PUBSUB: (&str, &str) =
        (include_str!("../../../tests/data/mqtt/pubsub.txt"), include_str!("../../../tests/data/mqtt/pubsub.json"));
    /// By sparkplug-client (Eclipse Tahu), with a compressed message.
    const TAHU: (&str, &str) = (include_str!("../../../tests/data/mqtt/tahu.txt"), include_str!("../../../tests/data/mqtt/tahu.json"));
    const REFUSED: &str = include_str!("../../../tests/data/mqtt/refused.txt");
    const WHOLE: Options = Options { facts: true, midstream: false };
    const SECRETS: [&str; 4] = ["not-a-secret", "wrong-word", "swordfish", "xxxxx"];

    fn recording(text: &str) -> Script {
        let side = |line: &str| if line.starts_with('>') { CLIENT } else { SERVER };
        text.lines().map(|line| (side(line), testing::bytes(line.get(2..).unwrap()))).collect()
    }

    fn play(script: &Script) -> Played {
        testing::play_script(decoder(WHOLE), script)
    }

    /// Messages by (operation, object names).
    fn messages(played: &Played) -> BTreeMap<(String, String), i64> {
        let mut sums = BTreeMap::new();
        for event in &played.events {
            for set in event["objects"].as_array().unwrap() {
                let key = (event["operation"].as_str().unwrap().to_owned(), set["names"].to_string());
                *sums.entry(key).or_default() += set["messages"].as_i64().unwrap();
            }
        }
        sums
    }

    fn flow<'a>(played: &'a Played, operation: &str) -> &'a Value {
        played.events.iter().rev().find(|e| e["operation"] == operation).unwrap()
    }

    fn connect(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let body = [&b"\0\x04MQTT"[..], &[level, flags, 0, 60], rest].concat();
        [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat()
    }

    fn publication(topic: &str, payload: &[u8]) -> Vec<u8> {
        let body = [&u16::try_from(topic.len()).unwrap().to_be_bytes()[..], topic.as_bytes(), payload].concat();
        let (low, high) = (u8::try_from(body.len() & 0x7f).unwrap() | 0x80, u8::try_from(body.len() >> 7).unwrap());
        [&[0x30, low, high][..], &body].concat()
    }

    #[test]
    fn shared_checks_hold_on_recordings_of_mosquitto() {
        for text in [V311.0, V5.0, REFUSED, SPARKPLUG.0, PUBSUB.0, TAHU.0] {
            let script = recording(text);
            assert_eq!(testing::recognise(&MQTT, &script), Recognition::Yes { client: CLIENT });
            testing::shared_checks(&MQTT, &script, &SECRETS);
        }
    }

    #[test]
    fn counts_are_those_of_the_clients_own_ledger() {
        for (text, ledger) in [V311, V5] {
            let played = play(&recording(text));
            let ledger: Value = serde_json::from_str(ledger).unwrap();
            let counted = messages(&played);
            for (operation, side) in [("publish", "published"), ("subscribe", "received")] {
                let of_topics = |(key, n): (&(String, String), &i64)| {
                    (key.0 == operation && *n > 0).then(|| (serde_json::from_str::<Vec<String>>(&key.1).unwrap()[0].clone(), json!(n)))
                };
                let found: serde_json::Map<_, _> = counted.iter().filter_map(of_topics).collect();
                assert_eq!(Value::Object(found), ledger[side], "{operation}");
            }
        }
    }

    /// Values and messages by topic, of one operation.
    fn by_topic(played: &Played, operations: &[&str]) -> BTreeMap<String, [i64; 2]> {
        let mut sums: BTreeMap<String, [i64; 2]> = BTreeMap::new();
        for event in played.events.iter().filter(|e| operations.contains(&e["operation"].as_str().unwrap())) {
            for set in event["objects"].as_array().unwrap() {
                let sum = sums.entry(set["names"][0].as_str().unwrap().to_owned()).or_default();
                sum[0] += set["messages"].as_i64().unwrap();
                sum[1] += set["values"].as_i64().unwrap();
            }
        }
        sums.retain(|_, sum| sum[0] > 0);
        sums
    }

    #[test]
    fn values_are_those_that_publishers_of_sparkplug_and_pubsub_counted() {
        for (text, ledger) in [SPARKPLUG, PUBSUB] {
            let played = play(&recording(text));
            let ledger: Value = serde_json::from_str(ledger).unwrap();
            let told: BTreeMap<_, _> = ledger["messages"].as_object().unwrap().iter().collect();
            let told = told.into_iter().map(|(topic, n)| (topic.clone(), [n.as_i64().unwrap(), ledger["values"][topic].as_i64().unwrap()]));
            let told: BTreeMap<_, _> = told.collect();
            assert_eq!(by_topic(&played, &["publish", "write"]), told);
            assert_eq!(by_topic(&played, &["subscribe"]), told, "as they were delivered");
            assert!(played.events.iter().all(|e| e["completeness"]["state"] == "complete" && e["completeness"]["estimated"] == false));
        }
    }

    #[test]
    fn values_are_those_that_the_reference_implementation_published_and_a_compressed_message_is_said() {
        let played = play(&recording(TAHU.0));
        let ledger: Value = serde_json::from_str(TAHU.1).unwrap();
        let number = |field: &str, topic: &str| ledger[field][topic].as_i64().unwrap();
        let told: BTreeMap<_, _> =
            ledger["messages"].as_object().unwrap().keys().map(|t| (t.clone(), [number("messages", t), number("values", t)])).collect();
        assert_eq!(by_topic(&played, &["publish"]), told);
        assert_eq!(played.facts["sparkplug"]["DDATA"], json!({"messages": 5, "values": 33, "unread": 1}));
        assert_eq!(flow(&played, "publish")["completeness"]["state"], "lossy");
        let sets: Vec<_> = played.events.iter().flat_map(|e| e["objects"].as_array().unwrap()).collect();
        let columns =
            |names: &[&str]| sets.iter().any(|set| set["names"][0] == "spBv1.0/north/DDATA/tahu-1/robot" && set["columns"] == json!(names));
        assert!(columns(&["Temperature"]) && columns(&["Scrap", "Temperature"]) && columns(&["Photo", "Pump"]) && columns(&["*"]));
    }

    #[test]
    fn commands_are_writes_of_the_client_and_deliveries_of_the_broker() {
        let (sparkplug, pubsub) = (play(&recording(SPARKPLUG.0)), play(&recording(PUBSUB.0)));
        let written: Vec<_> = by_topic(&sparkplug, &["write"]).into_keys().chain(by_topic(&pubsub, &["write"]).into_keys()).collect();
        let wanted = ["spBv1.0/north/DCMD/press-1/robot", "spBv1.0/north/NCMD/press-1", "opcua/json/action-request/press-1/group/writer"];
        assert_eq!(written, wanted);
        assert!(by_topic(&sparkplug, &["publish"]).keys().all(|topic| !topic.contains("CMD")));
        assert!(by_topic(&sparkplug, &["subscribe"]).contains_key(wanted[0]));
        // The broker's acknowledgement (the second of these has QoS 1) belongs to what it acknowledges.
        assert!(flow(&sparkplug, "write")["bytes_back"].as_i64().unwrap() > 0);
    }

    #[test]
    fn metrics_are_columns_by_the_names_that_births_gave_their_aliases() {
        let played = play(&recording(SPARKPLUG.0));
        let columns = |topic: &str| {
            let sets = played.events.iter().filter(|e| e["operation"] == "publish").flat_map(|e| e["objects"].as_array().unwrap());
            sets.filter(|set| set["names"][0] == topic).map(|set| set["columns"].clone()).collect::<Vec<_>>()
        };
        let robot = columns("spBv1.0/north/DDATA/press-1/robot");
        let wanted = [json!(["Temperature"]), json!(["Operator", "Scrap", "Temperature"]), json!(["Idle", "Photo", "Pump"])];
        assert_eq!(robot, wanted);
        assert_eq!(columns("spBv1.0/north/DDATA/press-1/line"), [json!(["Tag/7", "Tag/8"]), json!(["*"])], "more than can be told");
        let midway = testing::play_script(decoder(Options { midstream: true, ..WHOLE }), &recording(SPARKPLUG.0)[9..].to_vec());
        let late = midway.events.iter().filter(|e| e["operation"] == "publish").flat_map(|e| e["objects"].as_array().unwrap());
        let robot: Vec<_> = late.filter(|set| set["names"][0] == "spBv1.0/north/DDATA/press-1/robot").collect();
        assert!(!robot.is_empty() && robot.iter().all(|set| set["columns"] == json!(["*"]) && set["values"].as_i64() > Some(0)));
    }

    #[test]
    fn aliases_belong_to_their_node_whatever_it_is_called_and_a_name_too_long_takes_the_old_one_away() {
        let metric = |name: &str| {
            let length = [(name.len() as u8 & 0x7f) | 0x80, (name.len() >> 7) as u8];
            let inner = [&[0x0a][..], &length, name.as_bytes(), &[0x10, 7]].concat();
            [&[0x12, (inner.len() as u8 & 0x7f) | 0x80, (inner.len() >> 7) as u8][..], &inner].concat()
        };
        let data = [0x12, 2, 0x10, 7];
        for (group, node) in [("spBv1.0", "e"), ("g", "spBv1.0"), ("g", "e")] {
            let topic = |verb: &str, device: &str| format!("spBv1.0/{group}/{verb}/{node}{device}");
            let script = vec![
                (CLIENT, connect(4, 2, b"\0\x01c")),
                (CLIENT, publication(&topic("DBIRTH", "/d"), &metric("Temperature"))),
                (CLIENT, publication(&topic("DDATA", "/d"), &data)),
                (CLIENT, publication(&topic("DBIRTH", "/d"), &metric(&"n".repeat(300)))),
                (CLIENT, publication(&topic("DDATA", "/d"), &data)),
                (CLIENT, publication(&topic("DBIRTH", "/d"), &metric("Pressure"))),
                (CLIENT, publication(&topic("NBIRTH", ""), &[])),
                (CLIENT, publication(&topic("DDATA", "/d"), &data)),
            ];
            let played = play(&script);
            let sets = played.events.iter().flat_map(|e| e["objects"].as_array().unwrap());
            let told: Vec<_> =
                sets.filter(|set| set["names"][0] == topic("DDATA", "/d")).map(|set| (&set["columns"], &set["values"])).collect();
            assert_eq!(told, [(&json!(["Temperature"]), &json!(1)), (&json!(["*"]), &json!(2))], "{group}/{node}");
        }
    }

    #[test]
    fn payload_that_cannot_be_read_counts_as_a_message_and_says_that_more_moved() {
        let compressed = [&b"\"\x12SPBV1.0_COMPRESSED*\x02xx"[..]].concat();
        let cases: [(&str, &[u8]); 6] = [
            ("spBv1.0/g/NDATA/e", b"{\"Temperature\": 21.5}"),
            ("spBv1.0/g/DDATA/e/d", &compressed),
            ("spBv1.0/g/NDATA/e", b"\x12\x7f\x10\x01"),
            ("opcua/json/data/p", b"\x1f\x8b\x08\0\0\0"),
            ("opcua/json/data/p", b"{\"Payload\": {\"a\": 1}"),
            ("opcua/uadp/data/p", b"\x02\0\0"),
        ];
        for (topic, payload) in cases {
            let script = vec![(CLIENT, connect(4, 2, b"\0\x01c")), (CLIENT, publication(topic, payload))];
            let played = play(&script);
            let told = flow(&played, "publish");
            assert_eq!(
                (&told["messages"], &told["values"], &told["completeness"]["state"]),
                (&json!(1), &json!(0), &json!("lossy")),
                "{topic}"
            );
            assert_eq!(told["objects"][0]["columns"], json!(["*"]));
            assert_eq!((played.error.is_none(), told["depth"].as_str()), (true, Some("decoded")));
            let fact = played.facts.iter().find(|(name, _)| **name != "mqtt").unwrap().1;
            assert_eq!(fact.as_object().unwrap().values().next().unwrap()["unread"], 1);
        }
    }

    #[test]
    fn topics_beside_the_grammar_are_not_read() {
        let payload = b"\x12\x02\x10\x01";
        for topic in [
            "spBv1.0/g/NDATA/e/d",
            "spBv1.0/g/DDATA/e",
            "spBv1.0/g/DDATA/e/d/more",
            "spBv1.0/g//e",
            "spBv1.0//NDATA/e",
            "spBv1.0/g/NDATA/",
            "spBv1.0/STATE/host",
            "spAv1.0/g/NDATA/e",
            "opcua/json/data",
            "opcua/xml/data/p",
            "opcua/json/status/p",
            "plant/spBv1.0/g/NDATA/e",
        ] {
            let played = play(&vec![(CLIENT, connect(4, 2, b"\0\x01c")), (CLIENT, publication(topic, payload))]);
            let told = flow(&played, "publish");
            assert_eq!((&told["values"], &told["objects"][0]["columns"]), (&json!(0), &json!([])), "{topic}");
        }
        for topic in ["spBv1.0/g/NDATA/e", "spBv1.0/g/DDATA/e/d", "$sparkplug/certificates/spBv1.0/g/NBIRTH/e"] {
            let played = play(&vec![(CLIENT, connect(4, 2, b"\0\x01c")), (CLIENT, publication(topic, payload))]);
            assert_eq!(flow(&played, "publish")["values"], 1, "{topic}");
        }
    }

    #[test]
    fn gap_in_a_payload_that_is_read_costs_its_values_alone() {
        let metrics: Vec<u8> = (0..200_u8).flat_map(|n| [0x12, 4, 0x0a, 2, b'm', b'0' + n % 10]).collect();
        let (first, second) = (publication("spBv1.0/g/NDATA/e", &metrics), publication("spBv1.0/g/NDATA/e", &metrics[..12]));
        let played = testing::play(
            decoder(WHOLE),
            &[Said::Data(CLIENT, &first[..100]), Said::Gap(CLIENT, 500), Said::Data(CLIENT, &first[600..]), Said::Data(CLIENT, &second)],
        );
        testing::assert_conserved(&played);
        assert_eq!(by_topic(&played, &["publish"])["spBv1.0/g/NDATA/e"], [2, 2]);
        assert_eq!(flow(&played, "publish")["completeness"]["state"], "lossy");
    }

    #[test]
    fn selections_of_names_and_aliases_are_bounded() {
        let metric = |name: &str| {
            let inner = [&[0x0a, u8::try_from(name.len()).unwrap()][..], name.as_bytes()].concat();
            [&[0x12, u8::try_from(inner.len()).unwrap()][..], &inner].concat()
        };
        let mut script = vec![(CLIENT, connect(4, 2, b"\0\x01c"))];
        for number in 0..3000 {
            let name = format!("{number}/{}", "x".repeat(60));
            script.push((CLIENT, publication(&format!("spBv1.0/g/NDATA/e{}", number % 3), &metric(&name))));
        }
        let played = testing::play_script(decoder(Options::default()), &script);
        let sets: Vec<_> =
            played.events.iter().flat_map(|e| e["objects"].as_array().unwrap()).filter(|set| set["columns"] != json!(["*"])).collect();
        assert_eq!(sets.len(), 3 * usize::from(SELECTIONS_OF_TOPIC_MAX));
        assert_eq!(by_topic(&played, &["publish"]).values().map(|sum| sum[1]).sum::<i64>(), 3000);
        // Births of more names than there is room for: those that found none are not told, and it is counted.
        let mut script = vec![(CLIENT, connect(4, 2, b"\0\x01c"))];
        for node in 0..40_000_u32 {
            let name = format!("{node}/{}", "x".repeat(90));
            let inner = [&[0x0a, u8::try_from(name.len()).unwrap()][..], name.as_bytes(), &[0x10, 7]].concat();
            let birth = [&[0x12, u8::try_from(inner.len()).unwrap()][..], &inner].concat();
            script.push((CLIENT, publication(&format!("spBv1.0/g/NBIRTH/e{node}"), &birth)));
        }
        let played = testing::play_script(decoder(Options::default()), &script);
        assert!(played.memory_bytes_max < 3 << 20, "{}", played.memory_bytes_max);
        assert!(played.bounds_reached >= 39_000, "{}", played.bounds_reached);
    }

    #[test]
    fn account_is_the_user_and_application_the_client_id() {
        let played = play(&recording(V5.0));
        assert!(played.events.iter().all(|e| e["account"] == "svc_edge" && e["application"] == "edge-v5"));
        assert_eq!(flow(&played, "connect")["protection"]["authentication"], "password");
        assert_eq!(flow(&played, "connect")["account_from"], "startup");
        let unnamed = play(&vec![(CLIENT, connect(4, 2, b"\0\x05press"))]);
        assert_eq!(flow(&unnamed, "connect")["account"], "client-id:press");
        assert_eq!(flow(&unnamed, "connect")["protection"]["authentication"], "none");
    }

    #[test]
    fn enhanced_authentication_and_a_bridge_are_noted() {
        let played = play(&vec![(CLIENT, connect(0x85, 2, b"\x08\x15\0\x05SCRAM\0\x01b"))]);
        assert_eq!(flow(&played, "connect")["protection"]["authentication"], "enhanced:SCRAM");
        assert_eq!(played.facts["mqtt"]["connects"][0]["bridge"], true);
    }

    #[test]
    fn connect_with_properties_beyond_its_end_names_nobody_and_reading_goes_on() {
        let played = play(&vec![(CLIENT, connect(5, 0xc2, b"\xff\x21\0\x05press")), (CLIENT, testing::bytes("30 06 00 02 61 62 00 63"))]);
        assert_eq!(played.error, None);
        assert_eq!((&flow(&played, "publish")["account"], &flow(&played, "publish")["messages"]), (&Value::Null, &json!(1)));
        assert_eq!(flow(&played, "publish")["completeness"]["state"], "malformed");
    }

    #[test]
    fn wrong_password_is_refused() {
        let played = play(&recording(REFUSED));
        assert_eq!(flow(&played, "refused")["account"], "svc_edge");
        assert_eq!(played.facts["mqtt"]["connack_codes"], json!([0x87]));
    }

    #[test]
    fn filters_and_packets_beyond_the_bounds_are_counted() {
        let long = |first: u8, body: &[u8]| {
            let mut packet = vec![first];
            let mut left = body.len();
            while left > 0 {
                packet.push(left as u8 & 0x7f | if left > 0x7f { 0x80 } else { 0 });
                left >>= 7;
            }
            [packet.as_slice(), body].concat()
        };
        let filters = |count: usize, bytes: usize| {
            let filter = [&u16::try_from(bytes).unwrap().to_be_bytes()[..], &vec![b'a'; bytes], &[1]].concat();
            let script = vec![(CLIENT, connect(4, 2, b"\0\x01c")), (CLIENT, long(0x82, &[&[0, 9][..], &filter.repeat(count)].concat()))];
            play(&script).bounds_reached
        };
        assert_eq!((filters(FILTERS_MAX, 4), filters(FILTERS_MAX + 2, 4), filters(2, 60_000)), (0, 2, 1));
    }

    #[test]
    fn shared_subscription_shows_its_filter_and_its_grant() {
        let played = play(&recording(V5.0));
        assert!(messages(&played).contains_key(&("subscribe".into(), r#"["line/+/state","line/+/order"]"#.into())));
        let rows = &played.facts["mqtt"]["subscriptions"];
        assert_eq!(rows[1], json!({"filter": "$share/mes/line/+/order", "qos": 1, "group": "mes", "granted": 1}));
    }

    #[test]
    fn administration_names_accounts_and_never_passwords() {
        let played = play(&recording(V311.0));
        let sets: Vec<_> =
            played.events.iter().filter(|e| e["operation"] == "admin").flat_map(|e| e["objects"].as_array().unwrap()).collect();
        assert_eq!((&sets[0]["names"], &sets[0]["columns"]), (&json!(["account:eve"]), &json!(["create", "grant:admin"])));
        assert_eq!((&sets[1]["names"], &sets[1]["columns"]), (&json!(["account:svc_edge"]), &json!(["grant:admin"])));
        assert_eq!((&sets[0]["marks"], &sets[1]["marks"]), (&json!(["secret-password"]), &Value::Null));
        assert_eq!(flow(&played, "admin")["messages"], 1);
    }

    #[test]
    fn gap_inside_a_payload_is_swallowed_and_the_next_publish_is_read() {
        let first = publication("line/1/recipe", &[7; 4000]);
        let second = publication("line/1/state", b"ok");
        let played = testing::play(
            decoder(WHOLE),
            &[Said::Data(CLIENT, &first[..100]), Said::Gap(CLIENT, 3000), Said::Data(CLIENT, &first[3100..]), Said::Data(CLIENT, &second)],
        );
        assert_eq!(played.error, None);
        testing::assert_conserved(&played);
        assert_eq!(messages(&played).values().sum::<i64>(), 2);
    }

    #[test]
    fn packets_are_found_again_after_a_gap_over_their_heads() {
        let many: Vec<u8> = (0..5).flat_map(|_| publication("line/1/state", &[0xc0; 200])).collect();
        for cut in [10, 60, 150, 229, 230, 240] {
            for size in [1, 7, 2000] {
                let tail = &many[cut..];
                let mut steps = vec![Said::Data(CLIENT, &many[..3]), Said::Gap(CLIENT, 500)];
                steps.extend(tail.chunks(size).map(|chunk| Said::Data(CLIENT, chunk)));
                let played = testing::play(decoder(WHOLE), &steps);
                assert_eq!(played.error, None);
                testing::assert_conserved(&played);
                // The first packet found only shows where the next one begins.
                assert!(messages(&played).values().sum::<i64>() >= 2, "cut {cut}, segments of {size}");
            }
        }
    }

    #[test]
    fn middle_of_a_connection_is_recognised_by_a_topic_or_two_packets_and_not_by_less() {
        let ask = |client: &[u8], server: &[u8]| recognise(&Heads { client, server, ports: (50_000, 4000), midstream: true });
        assert_eq!(ask(&publication("line/1/state", &[0; 100]), &[]), Recognition::Yes { client: CLIENT });
        assert_eq!(ask(&[0xc0, 0], &[0xd0, 0]), Recognition::Yes { client: CLIENT });
        assert_eq!(ask(&[0xd0, 0], &[0xc0, 0]), Recognition::Yes { client: SERVER });
        for other in
            [&b"GET / HTTP/1.1\r\n"[..], b"MSGF\x20\0\0\0", b"\x16\x03\x01\x02\0\x01", b"0\x84\0\0\0\x10\0\0\0", b"D\0\0\0\x0b\0\x01\0\0"]
        {
            assert_eq!(ask(other, &[]), Recognition::No);
        }
    }

    #[test]
    fn alias_table_and_topics_are_bounded() {
        let mut script = vec![(CLIENT, connect(5, 2, b"\0\0\x01a"))];
        for alias in 0..=u16::MAX {
            let topic = format!("line/{alias}/{}", "x".repeat(80));
            let mut body = [&u16::try_from(topic.len()).unwrap().to_be_bytes()[..], topic.as_bytes(), &[3, TOPIC_ALIAS]].concat();
            body.extend(alias.to_be_bytes());
            script.push((CLIENT, [&[0x30, u8::try_from(body.len()).unwrap()][..], &body].concat()));
        }
        let played = testing::play_script(decoder(Options::default()), &script);
        assert_eq!(played.error, None);
        assert!(played.memory_bytes_max < 3 << 20, "{}", played.memory_bytes_max);
    }

    #[test]
    fn packet_with_reserved_flags_or_from_the_wrong_side_is_a_violation() {
        for (side, bytes) in [(CLIENT, vec![0x80, 0]), (SERVER, vec![0xc0, 0]), (CLIENT, vec![0xc0, 0xff, 0xff, 0xff, 0xff])] {
            assert!(play(&vec![(side, bytes)]).error.is_some());
        }
    }
}
