//! Payloads whose values are counted: which ones, by the grammar of their topics alone, and what was found in them.
//!
//! A payload is read as it passes and never kept; what is told of it is a count and the names of what it carries. Where it
//! cannot be read (damaged, compressed, encrypted, of a layout that only its sender knows) the message and its bytes count and
//! the window says that more moved.

use super::json::{self, Names};
use super::{sparkplug, uadp};
use crate::protocols::DecodeError;
use crate::table::Map;

/// Edge nodes of one direction whose aliases are known, the aliases of one, and the bytes of all their names. What finds no
/// room has no name: its message says `*`.
pub const NODES_MAX: usize = 256;
pub const ALIASES_OF_NODE_MAX: usize = 8192;
pub const ALIAS_BYTES_SUM_MAX: usize = 512 << 10;
/// What an alias costs beside its name.
const ALIAS_BYTES: usize = 40;

/// How the payload of a topic is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) mapping: Mapping,
    /// It tells somebody what to do.
    pub(super) command: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    Sparkplug(Verb),
    Json(&'static str),
    Uadp(&'static str),
}

/// The message types of Sparkplug that have metrics (Eclipse Sparkplug 3.0.0, 4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    NodeBirth,
    NodeDeath,
    DeviceBirth,
    DeviceDeath,
    NodeData,
    DeviceData,
    NodeCommand,
    DeviceCommand,
}

impl Verb {
    const ALL: [(&'static str, Self); 8] = [
        ("NBIRTH", Self::NodeBirth),
        ("NDEATH", Self::NodeDeath),
        ("DBIRTH", Self::DeviceBirth),
        ("DDEATH", Self::DeviceDeath),
        ("NDATA", Self::NodeData),
        ("DDATA", Self::DeviceData),
        ("NCMD", Self::NodeCommand),
        ("DCMD", Self::DeviceCommand),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, verb)| *verb == self).map_or("", |(name, _)| name)
    }
}

/// Messages of PubSub whose fields are values (OPC 10000-14, 7.3.4.7.2); all others of its topic tree describe.
const PUBSUB: [&str; 3] = ["data", "action-request", "action-response"];

impl Reading {
    /// How the payload of this topic is read; `None`: it is not.
    pub(super) fn of(topic: &str) -> Option<Self> {
        if let Some(rest) = behind_namespace(topic) {
            let mut levels = rest.split('/');
            let (group, verb, node) = (levels.next()?, levels.next()?, levels.next()?);
            let (device, more) = (levels.next(), levels.next());
            let (_, verb) = Verb::ALL.into_iter().find(|(name, _)| *name == verb)?;
            let of_device = matches!(verb, Verb::DeviceBirth | Verb::DeviceDeath | Verb::DeviceData | Verb::DeviceCommand);
            let fits = device.is_some_and(|device| !device.is_empty()) == of_device && device.is_some() == of_device && more.is_none();
            let command = matches!(verb, Verb::NodeCommand | Verb::DeviceCommand);
            return (fits && !group.is_empty() && !node.is_empty()).then_some(Self { mapping: Mapping::Sparkplug(verb), command });
        }
        let mut levels = topic.strip_prefix("opcua/")?.split('/');
        let (encoding, kind, publisher) = (levels.next()?, levels.next()?, levels.next()?);
        let kind = PUBSUB.into_iter().find(|one| *one == kind)?;
        let fits = !publisher.is_empty() && levels.clone().all(|level| !level.is_empty()) && levels.count() <= 2;
        let mapping = match encoding {
            "json" => Mapping::Json(kind),
            "uadp" => Mapping::Uadp(kind),
            _ => return None,
        };
        fits.then_some(Self { mapping, command: kind == "action-request" })
    }

    /// What `hopwatch inspect` files it under.
    pub(super) fn shown(self) -> (&'static str, &'static str) {
        match self.mapping {
            Mapping::Sparkplug(verb) => ("sparkplug", verb.name()),
            Mapping::Json(kind) => ("pubsub-json", kind),
            Mapping::Uadp(kind) => ("pubsub-uadp", kind),
        }
    }
}

/// What follows the namespace of Sparkplug. Where a server keeps birth certificates, the topic itself follows theirs (Eclipse Sparkplug
/// 3.0.0, 10.2).
fn behind_namespace(topic: &str) -> Option<&str> {
    topic.strip_prefix("$sparkplug/certificates/").unwrap_or(topic).strip_prefix("spBv1.0/")
}

/// Group and edge node of a topic of Sparkplug: what aliases belong to (Eclipse Sparkplug 3.0.0, 6.4.6).
fn node_of(topic: &str) -> Option<(&str, &str)> {
    let mut levels = behind_namespace(topic)?.split('/');
    let (group, _, node) = (levels.next()?, levels.next()?, levels.next()?);
    Some((group, node))
}

/// Which edge node a topic is of, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Node {
    #[default]
    Unasked,
    Number(u32),
    /// None, or one too many.
    Nobody,
}

/// Names of metrics by alias, as births told them in one direction.
#[derive(Default)]
pub(super) struct Nodes {
    numbers: Map<Box<str>, u32>,
    aliases: Vec<Map<u64, Box<[u8]>>>,
    bytes: usize,
    /// Aliases that found no room and are not reported yet.
    pub(super) full: u64,
}

impl Nodes {
    /// Something was missed: nothing that was told holds for sure.
    pub(super) fn clear(&mut self) {
        for number in 0..self.aliases.len() {
            self.forget(Node::Number(number as u32));
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// The edge node that a topic is of.
    pub(super) fn of(&mut self, reading: Reading, topic: &str) -> Node {
        let (Mapping::Sparkplug(_), Some((group, node))) = (reading.mapping, node_of(topic)) else { return Node::Nobody };
        let name = format!("{group}/{node}");
        if let Some(number) = self.numbers.get(name.as_str()) {
            return Node::Number(*number);
        }
        let more = cost(name.len());
        if self.aliases.len() >= NODES_MAX || self.bytes + more > ALIAS_BYTES_SUM_MAX {
            return Node::Nobody;
        }
        let number = self.aliases.len() as u32;
        self.bytes += more;
        self.numbers.insert(name.into(), number);
        self.aliases.push(Map::default());
        Node::Number(number)
    }

    fn table(&mut self, node: Node) -> Option<&mut Map<u64, Box<[u8]>>> {
        let Node::Number(number) = node else { return None };
        self.aliases.get_mut(number as usize)
    }

    fn forget(&mut self, node: Node) {
        let gone = self.table(node).map(std::mem::take).unwrap_or_default();
        self.bytes -= gone.values().map(|name| cost(name.len())).sum::<usize>();
    }

    fn name(&self, node: Node, alias: u64) -> Option<&[u8]> {
        let Node::Number(number) = node else { return None };
        self.aliases.get(number as usize)?.get(&alias).map(|name| &**name)
    }

    fn unlearn(&mut self, node: Node, alias: u64) {
        let old = self.table(node).and_then(|aliases| aliases.remove(&alias));
        self.bytes -= old.map_or(0, |old| cost(old.len()));
    }

    fn learn(&mut self, node: Node, alias: u64, name: &[u8]) {
        let room = self.bytes + cost(name.len()) <= ALIAS_BYTES_SUM_MAX;
        let Some(aliases) = self.table(node) else {
            self.full += 1;
            return;
        };
        // Without room for it an old name would be a wrong one.
        let full = !room || (aliases.len() >= ALIASES_OF_NODE_MAX && !aliases.contains_key(&alias));
        let old = if full { aliases.remove(&alias) } else { aliases.insert(alias, name.into()) };
        self.bytes -= old.map_or(0, |old| cost(old.len()));
        self.bytes += if full { 0 } else { cost(name.len()) };
        self.full += u64::from(full);
    }
}

/// What a name costs in a table.
fn cost(bytes: usize) -> usize {
    2 * ALIAS_BYTES + bytes
}

/// The payload at hand.
enum Walk {
    Sparkplug(sparkplug::Walk),
    Json(json::Walk),
    Uadp(uadp::Walk),
    /// It could not be read on.
    Lost,
}

/// What a payload was found to hold.
pub(super) struct Held {
    /// `None`: there is something that was not counted.
    pub(super) values: Option<u64>,
    /// As the message says it, perhaps not the whole.
    pub(super) supposed: bool,
}

/// Reads one payload.
pub(super) struct Payload {
    reading: Reading,
    walk: Walk,
    /// Where aliases are looked up or learned.
    node: Node,
    pub(super) names: Names,
}

impl Payload {
    pub(super) fn new(reading: Reading, node: Node, length: u64, nodes: &mut Nodes) -> Self {
        let mut payload = Self { reading, walk: Walk::Lost, node, names: Names::default() };
        payload.restart(reading, node, length, nodes);
        payload
    }

    /// Begins another one, with the memory that there is.
    pub(super) fn restart(&mut self, reading: Reading, node: Node, length: u64, nodes: &mut Nodes) {
        (self.reading, self.node) = (reading, node);
        self.names.clear();
        // A birth tells all aliases anew; after a death none holds (Eclipse Sparkplug 3.0.0, 6.4.6 and 6.4.19).
        if matches!(reading.mapping, Mapping::Sparkplug(Verb::NodeBirth | Verb::NodeDeath)) {
            nodes.forget(node);
        }
        match (reading.mapping, &mut self.walk) {
            (Mapping::Sparkplug(_), Walk::Sparkplug(walk)) => walk.restart(length),
            (Mapping::Sparkplug(_), walk) => *walk = Walk::Sparkplug(sparkplug::Walk::new(length)),
            (Mapping::Json(_), Walk::Json(walk)) => walk.restart(),
            (Mapping::Json(_), walk) => *walk = Walk::Json(json::Walk::new()),
            (Mapping::Uadp(_), walk) => *walk = Walk::Uadp(uadp::Walk::new(length)),
        }
    }

    pub(super) fn reading(&self) -> Reading {
        self.reading
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let walk = match &self.walk {
            Walk::Sparkplug(walk) => walk.memory_bytes(),
            Walk::Json(walk) => walk.memory_bytes(),
            Walk::Uadp(walk) => walk.memory_bytes(),
            Walk::Lost => 0,
        };
        size_of::<Self>() + walk + self.names.text.capacity()
    }

    /// Bytes of it are missing, or are none of it.
    pub(super) fn lose(&mut self) {
        self.walk = Walk::Lost;
    }

    /// The next bytes.
    pub(super) fn read(&mut self, bytes: &[u8], nodes: &mut Nodes) {
        let read = match &mut self.walk {
            Walk::Sparkplug(walk) => walk.walk(bytes, &mut naming(self.reading, self.node, &mut self.names, nodes)),
            Walk::Json(walk) => walk.walk(bytes),
            Walk::Uadp(walk) => walk.walk(bytes),
            Walk::Lost => Ok(()),
        };
        if read.is_err() {
            self.lose();
        }
    }

    /// All of it has been read.
    pub(super) fn end(&mut self, nodes: &mut Nodes) -> Held {
        let mut supposed = false;
        let values: Result<Option<u64>, DecodeError> = match &mut self.walk {
            Walk::Sparkplug(walk) => walk.end(&mut naming(self.reading, self.node, &mut self.names, nodes)),
            Walk::Json(walk) => walk.end(&mut self.names).map(Some),
            Walk::Uadp(walk) => {
                // Its fields have numbers; their names are in another message.
                let values = walk.end();
                supposed = walk.supposed();
                self.names.more = !matches!(values, Ok(Some(0)));
                values
            }
            Walk::Lost => Ok(None),
        };
        let values = values.ok().flatten();
        self.names.more |= values.is_none();
        Held { values, supposed }
    }
}

struct Naming<'a> {
    births: bool,
    node: Node,
    names: &'a mut Names,
    nodes: &'a mut Nodes,
}

fn naming<'a>(reading: Reading, node: Node, names: &'a mut Names, nodes: &'a mut Nodes) -> Naming<'a> {
    let births = matches!(reading.mapping, Mapping::Sparkplug(Verb::NodeBirth | Verb::DeviceBirth));
    Naming { births, node, names, nodes }
}

impl sparkplug::Metrics for Naming<'_> {
    fn metric(&mut self, name: Option<&[u8]>, alias: Option<u64>) {
        let Self { births, node, names, nodes } = self;
        match (name, alias) {
            (Some([]), Some(alias)) => {
                names.add(nodes.name(*node, alias));
            }
            (name, alias) => {
                match (name, alias) {
                    (Some(name), Some(alias)) if *births => nodes.learn(*node, alias, name),
                    // A name too long to be kept: what the alias stood for before would be a wrong one.
                    (None, Some(alias)) if *births => nodes.unlearn(*node, alias),
                    _ => {}
                }
                names.add(name);
            }
        }
    }
}
