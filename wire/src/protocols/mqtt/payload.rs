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
/// Every column, or columns that nobody knows.
pub(super) const EVERY: &str = "*";

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
        // Where a server keeps birth certificates, the topic itself follows (Eclipse Sparkplug 3.0.0, 10.2).
        let sparkplug = topic.strip_prefix("$sparkplug/certificates/").unwrap_or(topic).strip_prefix("spBv1.0/");
        if let Some(rest) = sparkplug {
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

/// Group and edge node of a topic of Sparkplug: what aliases belong to (Eclipse Sparkplug 3.0.0, 6.4.6).
fn node_of(topic: &str) -> Option<(&str, &str)> {
    let mut levels = topic.split("spBv1.0/").nth(1)?.split('/');
    let (group, _, node) = (levels.next()?, levels.next()?, levels.next()?);
    Some((group, node))
}

/// Names of metrics by alias, as births told them in one direction.
#[derive(Default)]
pub(super) struct Nodes {
    nodes: Map<Box<str>, Map<u64, Box<[u8]>>>,
    bytes: usize,
    /// Aliases that found no room and are not reported yet.
    pub(super) full: u64,
}

impl Nodes {
    /// Something was missed: nothing that was told holds for sure.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.bytes = 0;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, node: &str) {
        if let Some(aliases) = self.nodes.remove(node) {
            self.bytes -= cost(node.len()) + aliases.values().map(|name| cost(name.len())).sum::<usize>();
        }
    }

    fn learn(&mut self, node: &str, alias: u64, name: &[u8]) {
        let known = self.nodes.contains_key(node);
        let more = cost(name.len()) + if known { 0 } else { cost(node.len()) };
        let room = self.bytes + more <= ALIAS_BYTES_SUM_MAX && (known || self.nodes.len() < NODES_MAX);
        let aliases = if known || room { Some(self.nodes.entry(node.into()).or_default()) } else { None };
        match aliases {
            Some(aliases) if room && (aliases.len() < ALIASES_OF_NODE_MAX || aliases.contains_key(&alias)) => {
                self.bytes += more;
                if let Some(old) = aliases.insert(alias, name.into()) {
                    self.bytes -= cost(old.len());
                }
            }
            _ => {
                // An old name would be a wrong one.
                if let Some(old) = aliases.and_then(|aliases| aliases.remove(&alias)) {
                    self.bytes -= cost(old.len());
                }
                self.full += 1;
            }
        }
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
    /// Group and node, where aliases are looked up or learned.
    node: Box<str>,
    pub(super) names: Names,
}

impl Payload {
    pub(super) fn new(reading: Reading, topic: &str, length: u64, nodes: &mut Nodes) -> Self {
        let mut node = String::new();
        let walk = match reading.mapping {
            Mapping::Sparkplug(verb) => {
                if let Some((group, name)) = node_of(topic) {
                    node = format!("{group}/{name}");
                }
                // A birth tells all aliases anew; after a death none holds (Eclipse Sparkplug 3.0.0, 6.4.6 and 6.4.19).
                if matches!(verb, Verb::NodeBirth | Verb::NodeDeath) {
                    nodes.forget(&node);
                }
                Walk::Sparkplug(sparkplug::Walk::new(length))
            }
            Mapping::Json(_) => Walk::Json(json::Walk::new()),
            Mapping::Uadp(_) => Walk::Uadp(uadp::Walk::new(length)),
        };
        Self { reading, walk, node: node.into(), names: Names::default() }
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
        size_of::<Self>() + walk + self.node.len() + self.names.text.capacity()
    }

    /// Bytes of it are missing, or are none of it.
    pub(super) fn lose(&mut self) {
        self.walk = Walk::Lost;
    }

    /// The next bytes.
    pub(super) fn read(&mut self, bytes: &[u8], nodes: &mut Nodes) {
        let read = match &mut self.walk {
            Walk::Sparkplug(walk) => walk.walk(bytes, &mut naming(self.reading, &self.node, &mut self.names, nodes)),
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
            Walk::Sparkplug(walk) => walk.end(&mut naming(self.reading, &self.node, &mut self.names, nodes)),
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
    node: &'a str,
    names: &'a mut Names,
    nodes: &'a mut Nodes,
}

fn naming<'a>(reading: Reading, node: &'a str, names: &'a mut Names, nodes: &'a mut Nodes) -> Naming<'a> {
    let births = matches!(reading.mapping, Mapping::Sparkplug(Verb::NodeBirth | Verb::DeviceBirth));
    Naming { births, node, names, nodes }
}

impl sparkplug::Metrics for Naming<'_> {
    fn metric(&mut self, name: Option<&[u8]>, alias: Option<u64>) {
        let Self { births, node, names, nodes } = self;
        match (name, alias) {
            (Some([]), Some(alias)) => {
                names.add(nodes.nodes.get(*node).and_then(|aliases| aliases.get(&alias)).map(|name| &**name));
            }
            (name, alias) => {
                if let (true, Some(name), Some(alias)) = (*births, name, alias) {
                    nodes.learn(node, alias, name);
                }
                names.add(name);
            }
        }
    }
}
