//! The slow path: connections that no decoder here reads, and that a plug-in outside reads at its own pace.
//!
//! The sensor hands such a connection over when it is first decided what it is, with all that it is known by, and from
//! then on every byte, gap and end of it in the order and at the time of the packets, through one bounded queue. Behind
//! the queue lie [`Windows`] of their own, moved on by the times that come out of it: how late a plug-in answers changes no
//! window, and the ids are those that a decoder's windows would have. What finds no room in the queue is counted by the sensor
//! itself from there on, so nothing waits for a plug-in and no byte is lost.

use crate::table::Map;
use crate::windows::{ConnectionId, Counts, Depth, Loss, Movement, Opening, Operation, Side, Windows};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes and entries that wait for the plug-ins; of a connection that finds no room the bytes are counted from there on
/// (`slow_taken_back`).
pub const QUEUE_BYTES_MAX: usize = 16 << 20;
pub const QUEUE_ENTRIES_MAX: usize = 65_536;
/// Connections that plug-ins read at a time; further ones are counted (`slow_refused`).
pub const HANDED_MAX: usize = 4096;
/// Ports that plug-ins ask for.
pub const WISHES_MAX: usize = 256;
/// Bytes of one side that a plug-in may leave unclaimed; beyond, the connection is counted from there on (`slow_degraded`).
pub const UNCLAIMED_BYTES_MAX: u64 = 1 << 20;
/// Object names of one observation.
pub const NAMES_MAX: usize = 256;
/// Entries and bytes that the plug-ins are given at a time.
const BATCH_ENTRIES: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

/// A plug-in asks for what is spoken with this port and nobody else reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub name: &'static str,
    /// The number of the transport's protocol.
    pub transport: u8,
    pub port: u16,
}

/// A connection as it is handed over.
pub struct Handed {
    pub opening: Opening,
    pub ordinal: u64,
    /// What the client was told the server is called.
    pub names: Vec<String>,
    pub joined_late: bool,
    pub plugin: &'static str,
}

enum What {
    Open(Box<Handed>),
    Data(Side, Vec<u8>),
    Gap(Side, u64),
    Settle,
    Close,
}

/// When something happened, and what was known of the connection then.
#[derive(Clone, Copy)]
pub struct At {
    pub time_ns: i64,
    /// Packets so far.
    pub packets: u64,
    pub one_sided: bool,
}

struct Entry {
    number: u64,
    at: At,
    what: What,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    now_ns: i64,
    open: usize,
    next: u64,
    handed_total: u64,
    refused_total: u64,
    taken_back_total: u64,
}

impl Queue {
    fn is_full(&self, bytes: usize, share: usize) -> bool {
        self.bytes + bytes > QUEUE_BYTES_MAX / share || self.entries.len() >= QUEUE_ENTRIES_MAX / share
    }
}

/// The sensor's end of the queue.
#[derive(Clone)]
pub struct Outlet {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    wishes: Arc<[Wish]>,
}

impl Outlet {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plug-in that asked for one of two ports, and which of them; the client's last.
    #[must_use]
    pub fn asked(&self, transport: u8, ports: [u16; 2]) -> Option<(&'static str, usize)> {
        let wish = |port: u16| self.wishes.iter().find(|wish| wish.transport == transport && wish.port == port);
        (0..2).rev().find_map(|at| wish(ports[at]).map(|wish| (wish.name, at)))
    }

    /// Hands a connection over; `None`: there is no room.
    pub(crate) fn open(&self, handed: Handed, at: At) -> Option<Line> {
        let mut queue = self.lock();
        if queue.open >= HANDED_MAX || queue.is_full(0, 1) {
            queue.refused_total += 1;
            return None;
        }
        (queue.open, queue.next) = (queue.open + 1, queue.next + 1);
        queue.handed_total += 1;
        let number = queue.next;
        queue.entries.push_back(Entry { number, at, what: What::Open(Box::new(handed)) });
        Some(Line { outlet: self.clone(), number })
    }

    /// Packets came up to this time.
    pub(crate) fn advance(&self, now_ns: i64) {
        self.lock().now_ns = now_ns;
    }

    /// Waits for something to take, or so long.
    pub fn wait(&self, timeout: Duration) {
        let queue = self.lock();
        if queue.entries.is_empty() {
            drop(self.queue.1.wait_timeout(queue, timeout).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Half of the queue is taken: a source that can wait should.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        self.lock().is_full(0, 2)
    }
}

/// One connection's way into the queue.
pub(crate) struct Line {
    outlet: Outlet,
    number: u64,
}

impl Line {
    /// False: there is no room, and the connection is not the plug-in's any more.
    #[must_use]
    pub fn data(&self, sender: Side, bytes: &[u8], at: At) -> bool {
        let mut queue = self.outlet.lock();
        if queue.is_full(bytes.len(), 1) {
            queue.taken_back_total += 1;
            // The packet that brought them is the sensor's.
            let at = At { packets: at.packets.saturating_sub(1), ..at };
            queue.entries.push_back(Entry { number: self.number, at, what: What::Close });
            return false;
        }
        queue.bytes += bytes.len();
        queue.entries.push_back(Entry { number: self.number, at, what: What::Data(sender, bytes.to_vec()) });
        drop(queue);
        self.outlet.queue.1.notify_one();
        true
    }

    pub fn gap(&self, sender: Side, length: u64, at: At) {
        self.put(at, What::Gap(sender, length));
    }

    pub fn settle(&self, at: At) {
        self.put(at, What::Settle);
    }

    pub fn close(&self, at: At) {
        self.put(at, What::Close);
    }

    /// What is small has room always: there are at most a few for each connection and each loss.
    fn put(&self, at: At, what: What) {
        self.outlet.lock().entries.push_back(Entry { number: self.number, at, what });
        self.outlet.queue.1.notify_one();
    }
}

/// What a plug-in says that bytes are.
#[derive(Clone, Debug)]
pub struct Observation {
    pub movement: Movement,
    pub counts: Counts,
    /// Bytes of the client and of the server that belong to it.
    pub bytes: [u64; 2],
}

/// What a plug-in answers to one entry.
#[derive(Clone, Debug)]
pub enum Answer {
    Said(Vec<Observation>),
    /// The bytes are not its protocol.
    Refused,
    /// It failed, by its own fault.
    Failed(String),
}

/// What a plug-in is given.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Data(Side, &'a [u8]),
    Gap(Side, u64),
    Close,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Nothing was understood yet.
    Fresh,
    Read,
    Counted,
}

/// A connection on this side of the queue.
struct Followed {
    id: ConnectionId,
    plugin: &'static str,
    from: Side,
    packets: u64,
    last_ns: i64,
    ends: String,
    reading: Reading,
    /// Nothing is missing of what is read next.
    whole: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SlowCounters {
    pub handed_total: u64,
    pub refused_total: u64,
    pub taken_back_total: u64,
    /// Connections that are counted since their plug-in failed or refused them.
    pub degraded_total: u64,
    pub waiting_bytes: u64,
}

/// The plug-ins' end of the queue, and the windows of what they read.
pub struct SlowPath {
    pub windows: Windows,
    outlet: Outlet,
    lines: Map<u64, Followed>,
    taken: Vec<Entry>,
    degraded_total: u64,
}

impl SlowPath {
    #[must_use]
    pub fn new(plant: &str, agent: &str, wishes: &[Wish]) -> (Self, Outlet) {
        let outlet = Outlet { queue: Arc::default(), wishes: wishes.into() };
        let windows = Windows::new(plant, agent);
        (Self { windows, outlet: outlet.clone(), lines: Map::default(), taken: Vec::new(), degraded_total: 0 }, outlet)
    }

    /// Takes some entries; they are to be answered by [`SlowPath::answer`] before others are taken.
    pub fn take(&mut self) {
        if !self.taken.is_empty() {
            return;
        }
        let mut queue = self.outlet.lock();
        let mut bytes = 0;
        while self.taken.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
            let Some(entry) = queue.entries.pop_front() else { break };
            if let What::Data(_, data) = &entry.what {
                bytes += data.len();
            }
            self.taken.push(entry);
        }
        queue.bytes -= bytes;
        // Entries that wait are older than what the sensor has seen since.
        let now_ns = queue.now_ns;
        let is_empty = queue.entries.is_empty() && self.taken.is_empty();
        drop(queue);
        if is_empty {
            self.windows.advance(now_ns);
        }
        for entry in &self.taken {
            if let What::Open(handed) = &entry.what {
                let Handed { opening, plugin, .. } = &**handed;
                let ends = [&opening.client, &opening.server].map(|end| format!("{} {}", end.address, end.port)).join(" and ");
                let from = opening.opened_by.unwrap_or(Side::Client);
                let (packets, last_ns) = (0, opening.first_ns);
                let followed = Followed { id: usize::MAX, plugin, from, packets, last_ns, ends, reading: Reading::Fresh, whole: true };
                self.lines.insert(entry.number, followed);
            }
        }
    }

    /// What was taken, each with its connection and its plug-in; `None` is answered by nobody.
    pub fn items(&self) -> impl Iterator<Item = Option<(u64, &'static str, Item<'_>)>> {
        self.taken.iter().map(|entry| {
            let line = self.lines.get(&entry.number)?;
            let item = match &entry.what {
                What::Close => Item::Close,
                _ if line.reading == Reading::Counted => return None,
                What::Data(side, data) => Item::Data(*side, data),
                What::Gap(side, length) => Item::Gap(*side, *length),
                What::Open(_) | What::Settle => return None,
            };
            Some((entry.number, line.plugin, item))
        })
    }

    /// What the plug-ins make of what was taken, one answer for each; a missing one says nothing.
    pub fn answer(&mut self, answers: impl IntoIterator<Item = Option<Answer>>) {
        let mut answers = answers.into_iter();
        for entry in std::mem::take(&mut self.taken) {
            let answer = answers.next().flatten();
            self.entry(entry, answer);
        }
    }

    /// A plug-in is not asked any more about the connections that it reads.
    pub fn forsake(&mut self, plugin: &str, why: &str) {
        let mut numbers: Vec<u64> =
            self.lines.iter().filter(|(_, line)| line.plugin == plugin && line.id != usize::MAX).map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(line) = self.lines.get_mut(&number) {
                self.degraded_total += line.degrade(&mut self.windows, why, false);
            }
        }
    }

    #[must_use]
    pub fn counters(&self) -> SlowCounters {
        let queue = self.outlet.lock();
        SlowCounters {
            handed_total: queue.handed_total,
            refused_total: queue.refused_total,
            taken_back_total: queue.taken_back_total,
            degraded_total: self.degraded_total,
            waiting_bytes: queue.bytes as u64,
        }
    }

    fn entry(&mut self, entry: Entry, answer: Option<Answer>) {
        let Entry { number, at, what } = entry;
        let Some(line) = self.lines.get_mut(&number) else { return };
        let windows = &mut self.windows;
        windows.advance(at.time_ns);
        if let What::Open(handed) = what {
            let Opening { client, server, first_ns, .. } = &handed.opening;
            for name in &handed.names {
                windows.answered(client.address, server.address, name, *first_ns, *first_ns);
            }
            line.id = windows.open_again(handed.opening, handed.ordinal);
            windows.recorder(line.id, at.time_ns).condition(|c| c.joined_late = handed.joined_late);
            return;
        }
        line.last_ns = at.time_ns;
        windows.recorder(line.id, at.time_ns).condition(|c| c.one_sided = at.one_sided);
        if let What::Gap(_, length) = &what {
            let mut out = windows.recorder(line.id, at.time_ns);
            let flow = out.lost(*length);
            out.gapped();
            line.whole = false;
            let why = format!("1 gap of {}: acknowledged, never seen", line.ends);
            let loss = Loss {
                stage: "stream",
                start_ns: at.time_ns,
                end_ns: at.time_ns,
                bytes: *length,
                flows: vec![flow],
                why,
                ..Loss::default()
            };
            windows.loss(&loss);
        }
        if let What::Data(side, data) = &what {
            windows.recorder(line.id, at.time_ns).arrived(*side, data.len() as u64);
        }
        match answer {
            _ if line.reading == Reading::Counted => line.count(windows),
            None => {}
            Some(Answer::Said(said)) => {
                for observation in &said {
                    if let Err(why) = line.say(windows, observation) {
                        self.degraded_total += line.degrade(windows, &why, false);
                        break;
                    }
                }
            }
            // What nobody recognises is no failure.
            Some(Answer::Refused) if line.reading == Reading::Fresh => {
                line.reading = Reading::Counted;
                line.count(windows);
            }
            Some(Answer::Refused) => self.degraded_total += line.degrade(windows, "no longer its protocol", true),
            Some(Answer::Failed(why)) => self.degraded_total += line.degrade(windows, &why, false),
        }
        let out = windows.recorder(line.id, at.time_ns);
        if out.pending(Side::Client).max(out.pending(Side::Server)) > UNCLAIMED_BYTES_MAX {
            self.degraded_total += line.degrade(windows, "too many bytes were left unclaimed", false);
        }
        let mut out = windows.recorder(line.id, at.time_ns);
        for _ in line.packets..at.packets {
            out.packet();
        }
        line.packets = line.packets.max(at.packets);
        match what {
            What::Settle => windows.settle(line.id, at.time_ns),
            What::Close => {
                windows.close(line.id, at.time_ns);
                self.lines.remove(&number);
                self.outlet.lock().open -= 1;
            }
            _ => {}
        }
    }
}

impl Followed {
    /// Takes an observation into the windows, if it can be true.
    fn say(&mut self, windows: &mut Windows, said: &Observation) -> Result<(), String> {
        let mut out = windows.recorder(self.id, self.last_ns);
        for side in [Side::Client, Side::Server] {
            let (claimed, there) = (said.bytes[side as usize], out.pending(side));
            if claimed > there {
                return Err(format!("claimed {claimed} bytes of {there}"));
            }
        }
        if self.reading == Reading::Fresh {
            self.reading = Reading::Read;
            out.protocol(self.plugin, Depth::Decoded);
        }
        if !std::mem::replace(&mut self.whole, true) {
            out.sound();
        }
        let from = said.movement.from;
        out.add(&said.movement, from, said.bytes[from as usize], said.counts);
        let back = said.bytes[from.other() as usize];
        if back > 0 {
            out.add(&said.movement, from.other(), back, Counts::ZERO);
        }
        Ok(())
    }

    /// From here on its bytes are counted. How many connections these are: 1, or 0 if it was so before.
    fn degrade(&mut self, windows: &mut Windows, why: &str, malformed: bool) -> u64 {
        let before = std::mem::replace(&mut self.reading, Reading::Counted);
        if before == Reading::Counted {
            return 0;
        }
        let mut out = windows.recorder(self.id, self.last_ns);
        out.condition(|c| c.malformed |= malformed);
        out.depth(Depth::Sizes);
        self.count(windows);
        let why = format!("{} at {}: {why}; counted as bytes from here", self.plugin, self.ends);
        windows.loss(&Loss { stage: "decoder", start_ns: self.last_ns, end_ns: self.last_ns, why, ..Loss::default() });
        1
    }

    fn count(&self, windows: &mut Windows) {
        let mut out = windows.recorder(self.id, self.last_ns);
        for side in [Side::Client, Side::Server] {
            let bytes = out.pending(side);
            if bytes > 0 {
                out.add(&Movement::new(Operation::Transfer, self.from), side, bytes, Counts::ZERO);
            }
        }
    }
}
