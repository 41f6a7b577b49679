//! DNS (RFC 1035) over UDP and TCP (RFC 7766), and its multicast kin mDNS (RFC 6762) and LLMNR (RFC 4795).
//!
//! What a client was told is how addresses get names: the answer to a question that was seen names the address, under
//! every name of the chain of CNAMEs from the question to it. An answer that nobody asked for names nothing.

use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition};
use crate::windows::{Counts, Depth, Facts, Movement, Operation, Recorder, Side};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Questions waiting for their answer, a connection; the oldest goes first.
pub const OUTSTANDING_MAX: usize = 64;
/// Links of a chain of CNAMEs that are followed.
pub const CHAIN_MAX: usize = 16;
/// Octets of a name on the wire (RFC 1035, 2.3.4).
pub const NAME_BYTES_MAX: usize = 255;
/// Resource records read of a message.
pub const RECORDS_MAX: usize = 4096;
/// Questions and addresses kept for `hopwatch inspect`.
pub const FACTS_MAX: usize = 4096;
/// A client connects some time after it was told, even where the answer may not be cached (TTL 0).
pub const TTL_S_MIN: u32 = 30;
/// Messages in a row that are read behind a gap before they are believed: a header alone says little.
const DOUBTED_MESSAGES: u8 = 2;
/// Longer is not believed (RFC 8767, 4).
pub const TTL_S_MAX: u32 = 604_800;

const HEADER_BYTES: usize = 12;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const QUERY: Movement = Movement { operation: Operation::Query, from: Side::Server, objects: None };

pub const DNS_UDP: Protocol = Protocol { name: "dns", recognise: recognise_datagram, decoder: datagrams };
pub const DNS_TCP: Protocol = Protocol { name: "dns", recognise: recognise_stream, decoder: stream };

fn datagrams(options: Options) -> Box<dyn Decoder> {
    Box::new(Datagrams { dns: Dns::new(options) })
}

fn stream(options: Options) -> Box<dyn Decoder> {
    Box::new(Stream { dns: Dns::new(options), halves: Default::default() })
}

fn recognise_datagram(heads: &Heads<'_>) -> Recognition {
    recognise((heads.client, false), (heads.server, false), heads.ports)
}

/// A length of two bytes goes before every message (RFC 1035, 4.2.2).
fn recognise_stream(heads: &Heads<'_>) -> Recognition {
    for head in [heads.client, heads.server] {
        match *head {
            [high, low, ..] if usize::from(high) << 8 | usize::from(low) < HEADER_BYTES + 5 => return Recognition::No,
            // A length far above what a question takes, with the header still to come, is no reason to wait.
            [high, _, ..] if head.len() < 2 + HEADER_BYTES && high > 0x3f => return Recognition::No,
            _ => {}
        }
    }
    if heads.client.len().max(heads.server.len()) < 2 + HEADER_BYTES {
        // Wait only for what may still become a header: flags, and one question.
        let may =
            |head: &[u8]| head.get(4..).is_none_or(|rest| flags_fit(rest.first().copied().unwrap_or(0), rest.get(1).copied().unwrap_or(0)));
        let counts = |head: &[u8]| head.get(6).is_none_or(|high| *high == 0);
        let fits = [heads.client, heads.server].iter().all(|head| may(head) && counts(head));
        return if fits { Recognition::More } else { Recognition::No };
    }
    recognise(message(heads.client), message(heads.server), heads.ports)
}

/// What there is of a message behind its length, if its header is whole, and whether the head will have more of it.
fn message(head: &[u8]) -> (&[u8], bool) {
    match *head {
        [high, low, ref body @ ..] if body.len() >= HEADER_BYTES => {
            (body, body.len() < (usize::from(high) << 8 | usize::from(low)) && head.len() < super::HEAD_BYTES_MAX)
        }
        _ => (&[], false),
    }
}

/// Heads of messages, and whether more of them comes.
fn recognise(client: (&[u8], bool), server: (&[u8], bool), ports: (u16, u16)) -> Recognition {
    if client.0.is_empty() && server.0.is_empty() {
        return Recognition::More;
    }
    let hinted = [ports.0, ports.1].iter().any(|port| matches!(port, 53 | 5353 | 5355));
    let mut more = false;
    for ((head, comes), side) in [(client, Side::Client), (server, Side::Server)] {
        match plausible(head, comes, hinted) {
            Some(true) => {
                let response = head.get(2).is_some_and(|flags| flags & 0x80 != 0);
                return Recognition::Yes { client: if response { side.other() } else { side } };
            }
            Some(false) => {}
            None => more = true,
        }
    }
    if more { Recognition::More } else { Recognition::No }
}

/// Known opcodes, and of the three reserved bits those that DNSSEC has taken (RFC 1035, 4.1.1; RFC 4035, 3).
fn flags_fit(high: u8, low: u8) -> bool {
    matches!(high >> 3 & 15, 0..=2 | 4..=6) && low & 0x40 == 0
}

/// Whether a message may begin with these bytes: its header, and its first question or the name as far as the head goes; `None` if more of
/// them `comes` and is needed.
fn plausible(head: &[u8], comes: bool, hinted: bool) -> Option<bool> {
    let Some(header) = Header::read(head) else { return Some(false) };
    let [high, low] = header.flags.to_be_bytes();
    if !flags_fit(high, low) || (!header.response() && low & 15 != 0) {
        return Some(false);
    }
    let few = header.questions <= 16 && header.additional <= 32;
    if !few || (header.questions == 0 && header.answers == 0) || (!header.response() && header.answers > 64) {
        return Some(false);
    }
    let rest = head.get(HEADER_BYTES..).unwrap_or_default();
    // NetBIOS names look like DNS: one label of 32 letters, each half an octet (RFC 1001, 14.1).
    let netbios = |label: &[u8]| label.first() == Some(&32) && label.iter().skip(1).all(|b| (b'A'..=b'P').contains(b));
    if rest.get(..33).is_some_and(netbios) {
        return Some(false);
    }
    // On a port of its own a header that fits is enough: a damaged name or a type of 0 is a malformed message, not another protocol.
    if hinted {
        return Some(true);
    }
    let Some((name_bytes, labels)) = plain_name(rest) else { return Some(false) };
    if comes && rest.len() < name_bytes + 4 {
        return None;
    }
    let Some(after) = rest.get(name_bytes..) else { return Some(true) };
    let &[a, b, c, d, ..] = after else {
        // Cut by the length of the head, not by the end of the message.
        return Some(labels > 0 && head.len() >= super::HEAD_BYTES_MAX - 2);
    };
    let (kind, class) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]) & 0x7fff);
    Some(kind != 0 && (kind <= 260 || kind >= 0x8000) && matches!(class, 1 | 3 | 4 | 254 | 255))
}

/// Length of a name without compression (or cut by the end of the head), and its labels.
fn plain_name(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut labels) = (0, 0);
    loop {
        let Some(&length) = bytes.get(at) else { return Some((at, labels)) };
        at += 1;
        if length == 0 {
            return Some((at, labels));
        }
        if length > 63 || at + usize::from(length) > NAME_BYTES_MAX {
            return None;
        }
        let label = bytes.get(at..).unwrap_or_default();
        let label = label.get(..usize::from(length)).unwrap_or(label);
        if !label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return None;
        }
        at += usize::from(length);
        labels += 1;
    }
}

/// (RFC 1035, 4.1.1)
struct Header {
    id: u16,
    flags: u16,
    questions: u16,
    answers: u16,
    additional: u16,
}

impl Header {
    fn read(message: &[u8]) -> Option<Self> {
        let field = |at: usize| message.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
        Some(Self { id: field(0)?, flags: field(2)?, questions: field(4)?, answers: field(6)?, additional: field(10)? })
    }
    fn response(&self) -> bool {
        self.flags & 0x8000 != 0
    }
}

/// What both transports share: one message after another.
struct Dns {
    facts: bool,
    named: bool,
    /// Id, and the question as it must come back.
    outstanding: VecDeque<(u16, String, u16)>,
    queries: u64,
    responses: u64,
    questions: Vec<Value>,
    addresses: Vec<Value>,
}

impl Dns {
    fn new(options: Options) -> Self {
        Self {
            facts: options.facts,
            named: false,
            outstanding: VecDeque::new(),
            queries: 0,
            responses: 0,
            questions: Vec::new(),
            addresses: Vec::new(),
        }
    }

    fn name(&mut self, out: &mut Recorder<'_>) {
        if !self.named {
            self.named = true;
            out.protocol("dns", Depth::Decoded);
        }
    }

    /// One message; `None` where it breaks off or contradicts itself.
    fn message(&mut self, sender: Side, message: &[u8], out: &mut Recorder<'_>) -> Option<()> {
        let header = Header::read(message)?;
        if header.response() {
            self.responses += 1;
        } else {
            self.queries += 1;
        }
        let mut at = HEADER_BYTES;
        let mut asked = None;
        for _ in 0..header.questions {
            let name = read_name(message, &mut at)?;
            let kind = read_u16(message, &mut at)?;
            read_u16(message, &mut at)?;
            if self.facts && self.questions.len() < FACTS_MAX {
                self.questions.push(json!({"name": shown(&name), "type": kind}));
            }
            asked.get_or_insert((name, kind));
        }
        let mut told = false;
        if let Some((name, kind)) = &asked {
            if header.response() {
                told = sender == Side::Server && self.answers_a_question(header.id, name, *kind);
            } else if sender == Side::Client {
                self.remember(header.id, name, *kind, out);
            }
        }
        let mut aliases: Vec<(String, String)> = Vec::new();
        let mut addresses: Vec<(String, IpAddr, u32)> = Vec::new();
        if usize::from(header.answers) > RECORDS_MAX {
            out.bound_reached();
        }
        for _ in 0..usize::from(header.answers).min(RECORDS_MAX) {
            let owner = read_name(message, &mut at)?;
            let kind = read_u16(message, &mut at)?;
            let class = read_u16(message, &mut at)? & 0x7fff;
            let ttl_s = u32::from(read_u16(message, &mut at)?) << 16 | u32::from(read_u16(message, &mut at)?);
            let length = usize::from(read_u16(message, &mut at)?);
            let data = message.get(at..at + length)?;
            let mut inside = at;
            at += length;
            match (kind, class) {
                (CNAME, 1) if aliases.len() >= CHAIN_MAX => out.bound_reached(),
                (CNAME, 1) => aliases.push((owner, read_name(message, &mut inside)?)),
                (A | AAAA, 1) => {
                    let Some(address) = address(kind, data) else { continue };
                    if self.facts && self.addresses.len() < FACTS_MAX {
                        self.addresses.push(json!({"name": shown(&owner), "data": address.to_string()}));
                    }
                    addresses.push((owner, address, ttl_s));
                }
                _ => {}
            }
        }
        if told {
            let (question, _) = asked?;
            tell(&question, &aliases, &addresses, out);
        }
        Some(())
    }

    fn remember(&mut self, id: u16, name: &str, kind: u16, out: &mut Recorder<'_>) {
        if self.outstanding.len() >= OUTSTANDING_MAX {
            out.bound_reached();
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((id, name.to_ascii_lowercase(), kind));
    }

    /// Whether this was asked and not answered before (names compare without case: RFC 1035, 2.3.3).
    fn answers_a_question(&mut self, id: u16, name: &str, kind: u16) -> bool {
        let found = self.outstanding.iter().position(|(i, n, k)| *i == id && *k == kind && n.eq_ignore_ascii_case(name));
        found.is_some_and(|index| self.outstanding.remove(index).is_some())
    }

    fn facts(&self, into: &mut Facts) {
        if self.facts {
            let facts =
                json!({"queries": self.queries, "responses": self.responses, "questions": self.questions, "addresses": self.addresses});
            into.insert("dns", facts);
        }
    }

    fn memory_bytes(&self) -> usize {
        let outstanding: usize = self.outstanding.iter().map(|(_, name, _)| 32 + name.capacity()).sum();
        size_of::<Self>() + outstanding + 256 * (self.questions.len() + self.addresses.len())
    }
}

/// Names every address that the chain from the question leads to, under each name on the way.
fn tell(question: &str, aliases: &[(String, String)], addresses: &[(String, IpAddr, u32)], out: &mut Recorder<'_>) {
    let mut chain = vec![question];
    while chain.len() <= CHAIN_MAX {
        let last = chain.last().copied().unwrap_or_default();
        let Some((_, target)) = aliases.iter().find(|(owner, _)| owner.eq_ignore_ascii_case(last)) else { break };
        if chain.iter().any(|name| name.eq_ignore_ascii_case(target)) {
            break;
        }
        chain.push(target);
    }
    for (owner, address, ttl_s) in addresses {
        let Some(end) = chain.iter().position(|name| name.eq_ignore_ascii_case(owner)) else { continue };
        // The topmost bit makes a TTL zero (RFC 2181, 8).
        let ttl_s = if *ttl_s > i32::MAX.unsigned_abs() { 0 } else { *ttl_s };
        for name in chain.iter().take(end + 1) {
            out.answered(*address, &name.to_ascii_lowercase(), ttl_s.clamp(TTL_S_MIN, TTL_S_MAX));
        }
    }
}

fn address(kind: u16, data: &[u8]) -> Option<IpAddr> {
    if kind == A { <[u8; 4]>::try_from(data).ok().map(IpAddr::from) } else { <[u8; 16]>::try_from(data).ok().map(IpAddr::from) }
}

fn read_u16(message: &[u8], at: &mut usize) -> Option<u16> {
    let value = message.get(*at..*at + 2)?.try_into().ok().map(u16::from_be_bytes)?;
    *at += 2;
    Some(value)
}

/// A name at `at`, which moves behind it; without the last dot. A pointer must point before the place that it was
/// reached from, and the whole is at most 255 octets: so it ends (RFC 1035, 4.1.4).
fn read_name(message: &[u8], at: &mut usize) -> Option<String> {
    let mut name = String::new();
    let (mut place, mut limit, mut octets) = (*at, *at, 1);
    let mut end = None;
    loop {
        let length = *message.get(place)?;
        match length {
            0 => break,
            1..=63 => {
                octets += 1 + usize::from(length);
                if octets > NAME_BYTES_MAX {
                    return None;
                }
                let label = message.get(place + 1..place + 1 + usize::from(length))?;
                if !name.is_empty() {
                    name.push('.');
                }
                push_label(&mut name, label);
                place += 1 + usize::from(length);
            }
            0xc0.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*message.get(place + 1)?);
                end.get_or_insert(place + 2);
                if target >= limit {
                    return None;
                }
                (place, limit) = (target, target);
            }
            _ => return None,
        }
    }
    *at = end.unwrap_or(place + 1);
    Some(name)
}

/// Octets that cannot be shown, and a dot inside a label, as `\DDD` (RFC 1035, 5.1).
fn push_label(name: &mut String, label: &[u8]) {
    for &b in label {
        if b.is_ascii_graphic() && b != b'.' && b != b'\\' {
            name.push(char::from(b));
        } else {
            name.push_str(&format!("\\{b:03}"));
        }
    }
}

/// The root has no label to show.
fn shown(name: &str) -> &str {
    if name.is_empty() { "<Root>" } else { name }
}

struct Datagrams {
    dns: Dns,
}

impl Decoder for Datagrams {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        self.dns.name(out);
        // One bad datagram says nothing about the next: many transactions share the ports.
        if self.dns.message(sender, bytes, out).is_none() {
            out.condition(|c| c.malformed = true);
        }
        out.add(&QUERY, sender, bytes.len() as u64, Counts::messages(1));
        Ok(())
    }

    fn gap(&mut self, _sender: Side, _length: u64, _out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        Ok(())
    }

    fn facts(&self, into: &mut Facts) {
        self.dns.facts(into);
    }

    fn memory_bytes(&self) -> usize {
        self.dns.memory_bytes()
    }
}

#[derive(Default)]
struct Half {
    /// The message at hand, its length before it.
    buffer: Vec<u8>,
    /// After a gap the next message is looked for, where segments begin.
    seeking: bool,
    /// Messages that must be read behind a gap before it is believed that they are some.
    doubted: u8,
}

struct Stream {
    dns: Dns,
    halves: [Half; 2],
}

impl Decoder for Stream {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        self.dns.name(out);
        let half = &mut self.halves[sender as usize];
        let mut rest = bytes;
        if half.seeking {
            let length = usize::from(bytes.first().copied().unwrap_or(0)) << 8 | usize::from(bytes.get(1).copied().unwrap_or(0));
            if length < HEADER_BYTES + 5 || bytes.get(2..).is_none_or(|head| plausible(head, false, false) != Some(true)) {
                rest = &[];
            } else {
                half.seeking = false;
            }
        }
        let mut messages = 0;
        let mut result = Ok(());
        while !rest.is_empty() {
            let half = &mut self.halves[sender as usize];
            let wanted = match *half.buffer.as_slice() {
                [high, low, ..] => 2 + (usize::from(high) << 8 | usize::from(low)),
                _ => 2,
            };
            let (taken, after) = rest.split_at(rest.len().min(wanted - half.buffer.len()));
            half.buffer.extend_from_slice(taken);
            rest = after;
            if wanted == 2 {
                if let &[high, low] = half.buffer.as_slice() {
                    let length = u64::from(high) << 8 | u64::from(low);
                    if length < HEADER_BYTES as u64 {
                        result = Err(DecodeError::new("message length", length, "at least 12"));
                        break;
                    }
                }
            } else if half.buffer.len() == wanted {
                let message = std::mem::take(&mut half.buffer);
                messages += 1;
                let is_read = self.dns.message(sender, message.get(2..).unwrap_or_default(), out).is_some();
                if !is_read {
                    out.condition(|c| c.malformed = true);
                }
                let half = &mut self.halves[sender as usize];
                if half.doubted > 0 {
                    half.doubted = if is_read { half.doubted - 1 } else { DOUBTED_MESSAGES };
                    if self.halves.iter().all(|half| half.doubted == 0) {
                        out.sound();
                    }
                }
            }
        }
        out.add(&QUERY, sender, bytes.len() as u64, Counts::messages(messages));
        result
    }

    fn gap(&mut self, sender: Side, _length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        out.gapped();
        let half = &mut self.halves[sender as usize];
        half.buffer = Vec::new();
        half.seeking = true;
        half.doubted = DOUBTED_MESSAGES;
        Ok(())
    }

    fn facts(&self, into: &mut Facts) {
        self.dns.facts(into);
    }

    fn memory_bytes(&self) -> usize {
        self.dns.memory_bytes() + self.halves.iter().map(|h| h.buffer.capacity()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, CLIENT, Played, Random, SERVER, Script, Step};
    use super::*;
    use crate::windows::{Endpoint, Opening, Windows};
    use std::sync::Arc;

    const WHOLE: Options = Options { facts: true, midstream: false };

    fn name(name: &str) -> Vec<u8> {
        let labels = name.split('.').flat_map(|l| [vec![u8::try_from(l.len()).unwrap()], l.as_bytes().to_vec()].concat());
        labels.chain([0]).collect()
    }

    fn query(id: u16, asked: &str) -> Vec<u8> {
        [&id.to_be_bytes()[..], &testing::bytes("0100 0001 0000 0000 0000"), &name(asked), &testing::bytes("0001 0001")].concat()
    }

    /// Answers: (owner, type, data); the TTL is 60 s.
    fn response(id: u16, asked: &str, answers: &[(&str, u16, Vec<u8>)]) -> Vec<u8> {
        let count = u16::try_from(answers.len()).unwrap().to_be_bytes();
        let head =
            [&id.to_be_bytes()[..], &testing::bytes("8180 0001"), &count, &[0; 4], &name(asked), &testing::bytes("0001 0001")].concat();
        answers.iter().fold(head, |mut all, (owner, kind, data)| {
            all.extend(name(owner));
            all.extend(kind.to_be_bytes());
            all.extend(testing::bytes("0001 0000003c"));
            all.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            all.extend(data);
            all
        })
    }

    fn conversation() -> Script {
        let mes = "mes-db.plant.example";
        let answers = [("mes.plant.example", CNAME, name(mes)), (mes, A, vec![10, 0, 0, 9])];
        vec![(CLIENT, query(7, "MES.plant.example")), (SERVER, response(7, "mes.plant.example", &answers))]
    }

    fn framed(script: &Script) -> Script {
        let frame = |m: &Vec<u8>| [&u16::try_from(m.len()).unwrap().to_be_bytes()[..], m].concat();
        script.iter().map(|(side, message)| (*side, frame(message))).collect()
    }

    /// The names that a connection of the client to 10.0.0.9 has after these datagrams.
    fn names_after(script: &Script) -> Value {
        let mut windows = Windows::new("north", "test");
        let opening = |server: &str| Opening {
            client: Endpoint { address: "10.0.0.1".parse().unwrap(), port: 50_000 },
            server: Endpoint { address: server.parse().unwrap(), port: 53 },
            opened_by: Some(Side::Client),
            transport: Arc::from("udp"),
            tap: None,
            context: None,
            seen_by: "tap",
            first_ns: 0,
        };
        let asking = windows.open(opening("10.0.0.53"));
        let mut decoder = datagrams(WHOLE);
        for (side, bytes) in script {
            let mut out = windows.recorder(asking, 0);
            out.arrived(*side, bytes.len() as u64);
            decoder.data(*side, bytes, &mut out).unwrap();
        }
        let asked = windows.open(opening("10.0.0.9"));
        windows.recorder(asked, 1).arrived(CLIENT, 1);
        windows.close(asked, 1);
        let event: Value = serde_json::from_slice(windows.take().last().unwrap()).unwrap();
        event["destination"]["names"].clone()
    }

    fn play(script: &Script) -> Played {
        testing::play_script(datagrams(WHOLE), script)
    }

    #[test]
    fn shared_checks_hold_on_a_stream() {
        let script = framed(&conversation());
        assert_eq!(testing::recognise(&DNS_TCP, &script), Recognition::Yes { client: CLIENT });
        testing::shared_checks(&DNS_TCP, &script, &[]);
    }

    #[test]
    fn a_message_on_a_stream_is_recognised_wherever_its_first_segment_ends() {
        let heads = |client: &[u8], server: &[u8]| (DNS_TCP.recognise)(&Heads { client, server, ports: (50_000, 4000), midstream: false });
        let (length, script) = (2 + 12 + 19, framed(&conversation()));
        for cut in 1..=length + 4 {
            // The name ends before its type and class.
            let expected = if cut < length + 4 { Recognition::More } else { Recognition::Yes { client: CLIENT } };
            assert_eq!(heads(&script[0].1[..cut], &[]), expected, "{cut} bytes of the question");
            assert_eq!(heads(&[], &script[1].1[..cut]), expected, "{cut} bytes of the answer");
        }
        let not = [&script[0].1[..14], b"\x03a b"].concat();
        assert_eq!(heads(&not, &[]), Recognition::No);
        // A message that ends inside its name.
        assert_eq!(heads(&[&[0, 18], &script[0].1[2..20]].concat(), &[]), Recognition::Yes { client: CLIENT });
    }

    #[test]
    fn question_and_answer_are_two_messages_of_one_query_flow() {
        for played in [play(&conversation()), testing::play_script(stream(WHOLE), &framed(&conversation()))] {
            assert_eq!(played.events.len(), 1);
            let flow = &played.events[0];
            assert_eq!((&flow["operation"], &flow["messages"], &flow["protocol"]), (&json!("query"), &json!(2), &json!("dns")));
            assert_eq!(flow["source"]["address"], "10.0.0.2");
            testing::assert_conserved(&played);
            assert_eq!(played.facts["dns"]["addresses"], json!([{"name": "mes-db.plant.example", "data": "10.0.0.9"}]));
        }
    }

    #[test]
    fn every_name_of_the_chain_names_the_address() {
        let by_dns = |name: &str| json!({"name": name, "by": "dns"});
        assert_eq!(names_after(&conversation()), json!([by_dns("mes-db.plant.example"), by_dns("mes.plant.example")]));
    }

    #[test]
    fn a_chain_longer_than_the_bound_is_counted() {
        let owners: Vec<String> = (0..=CHAIN_MAX).map(|link| format!("n{link}.plant.example")).collect();
        let played = |links: usize| {
            let answers: Vec<_> = owners.iter().take(links).map(|owner| (owner.as_str(), CNAME, name("next.plant.example"))).collect();
            let script = vec![(CLIENT, query(7, "n0.plant.example")), (SERVER, response(7, "n0.plant.example", &answers))];
            testing::play_script(datagrams(WHOLE), &script).bounds_reached
        };
        assert_eq!((played(CHAIN_MAX), played(CHAIN_MAX + 1)), (0, 1));
    }

    #[test]
    fn answer_to_another_question_or_to_none_names_nothing() {
        let answer = |id, asked: &str| (SERVER, response(id, asked, &[(asked, A, vec![10, 0, 0, 9])]));
        let asked = |id, name: &str| (CLIENT, query(id, name));
        assert_eq!(names_after(&vec![answer(7, "bank.example")]), json!([]));
        assert_eq!(names_after(&vec![asked(7, "a.example"), answer(8, "a.example")]), json!([]));
        assert_eq!(names_after(&vec![asked(7, "a.example"), answer(7, "b.example")]), json!([]));
        assert_ne!(names_after(&vec![asked(7, "a.example"), answer(7, "a.example")]), json!([]));
        // A second answer to the same question, and a record beside the chain.
        let twice = vec![asked(7, "a.example"), (SERVER, response(7, "a.example", &[])), answer(7, "a.example")];
        assert_eq!(names_after(&twice), json!([]));
        let beside = vec![asked(7, "a.example"), (SERVER, response(7, "a.example", &[("bank.example", A, vec![10, 0, 0, 9])]))];
        assert_eq!(names_after(&beside), json!([]));
    }

    #[test]
    fn pointers_that_do_not_go_back_end_the_message() {
        for pointer in ["c00c", "c00e", "c0ff"] {
            let message = [testing::bytes("0007 0100 0001 0000 0000 0000"), testing::bytes(pointer), testing::bytes("0001 0001")].concat();
            let played = play(&vec![(CLIENT, message)]);
            assert_eq!(played.events[0]["completeness"]["state"], "malformed");
        }
    }

    #[test]
    fn mutated_and_cut_datagrams_never_panic_and_lose_no_byte() {
        for seed in 1..=500 {
            let mut random = Random(seed);
            let mut script = conversation();
            for _ in 0..=random.below(4) {
                let at = random.below(script.len());
                let place = random.below(script[at].1.len());
                match random.below(3) {
                    0 => script[at].1.truncate(place.max(1)),
                    1 => script[at].1[place] = 0xc0,
                    _ => script[at].1[place] = random.draw().to_le_bytes()[0],
                }
            }
            testing::assert_conserved(&play(&script));
        }
    }

    #[test]
    fn outstanding_questions_are_bounded() {
        let script: Script = (0..10_000).map(|id| (CLIENT, query(id, "a.example"))).collect();
        let played = testing::play_script(datagrams(Options::default()), &script);
        assert!(played.memory_bytes_max < 16 << 10, "{}", played.memory_bytes_max);
    }

    #[test]
    fn message_after_a_gap_in_a_stream_is_read() {
        let script = framed(&conversation());
        let played =
            testing::play(stream(WHOLE), &[Step::Gap(CLIENT, 40), Step::Data(CLIENT, &script[0].1), Step::Data(SERVER, &script[1].1)]);
        assert_eq!(played.facts["dns"]["queries"], 1);
    }

    #[test]
    fn a_damaged_message_on_the_port_of_dns_is_a_malformed_message_of_dns() {
        let cut = testing::bytes("2224 0100 0001 0000 0000 0000 03 61 62 63");
        let heads = |ports| Heads { client: &cut, server: &[], ports, midstream: false };
        assert_eq!(recognise_datagram(&heads((53_000, 53))), Recognition::Yes { client: CLIENT });
        assert_eq!(recognise_datagram(&heads((53_000, 54))), Recognition::No);
        let played = testing::play_script(datagrams(WHOLE), &vec![(CLIENT, cut.clone())]);
        assert_eq!(played.facts["dns"]["queries"], 1);
        assert_eq!(played.events[0]["completeness"]["state"], "malformed");
    }

    #[test]
    fn other_datagrams_are_not_recognised() {
        let dns = |bytes: &[u8]| testing::recognise(&DNS_UDP, &vec![(CLIENT, bytes.to_vec())]);
        assert_eq!(dns(&query(1, "a.example")), Recognition::Yes { client: CLIENT });
        assert_eq!(dns(&response(1, "a.example", &[])), Recognition::Yes { client: SERVER });
        // NetBIOS, NTP, SNMP, STUN, zeros, text.
        for other in [
            query(1, "FHEPFCELEHFCEPFFFACACACACACACABL"),
            testing::bytes("23 02 0a 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"),
            testing::bytes("30 29 02 01 01 04 06 70 75 62 6c 69 63 a0 1c 02 04 01 02 03 04 02 01 00"),
            testing::bytes("00 01 00 08 21 12 a4 42 01 02 03 04 05 06 07 08 09 0a 0b 0c 00 03 00 04 00 00 00 00"),
            vec![0; 40],
            b"M-SEARCH * HTTP/1.1\r\n".to_vec(),
        ] {
            assert_eq!(dns(&other), Recognition::No);
        }
    }
}
