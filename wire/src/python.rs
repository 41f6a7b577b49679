//! The Python module `hopwatch_wire`: [`Sensor`] for packets, [`Windows`] for every other source of observations.
//!
//! Python sees windows as lines of JSON, in the shape of the event contract; the interpreter is released while frames
//! are decoded. `hopwatch_wire.pyi` at the root of the repository is the typed face of this file.

mod lines;

use crate::capture::{Capture, Options};
use crate::contexts;
use crate::packet::Malformed;
use crate::protocols::http;
use crate::quality::{self, Net, Quality};
use crate::sensor::{self, SensorOptions};
use crate::slow::{self, Answer, Item, Observation, Wish};
use crate::source::merge::Merged;
use crate::source::{FileSource, Source, SourceError, Turn};
use crate::sql::{self, Effect};
use crate::windows::{self, Counts, Depth, Endpoint, Movement, Name, ObjectSet, Opening, Operation, Side, Told};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What Python's allocator aligns objects to (CPython, `Objects/obmalloc.c`, ALIGNMENT). PyO3 puts our classes into such objects and
/// does not look: a field that wants more (a vector register of a searcher, a line of the cache) would be read where it cannot be.
const OBJECT_ALIGNMENT: usize = 16;
const _: () = {
    assert!(align_of::<Sensor>() <= OBJECT_ALIGNMENT);
    assert!(align_of::<SlowPath>() <= OBJECT_ALIGNMENT);
    assert!(align_of::<Windows>() <= OBJECT_ALIGNMENT);
    assert!(align_of::<Read>() <= OBJECT_ALIGNMENT);
    assert!(align_of::<lines::Lines>() <= OBJECT_ALIGNMENT);
};

const PROTOCOLS: [&str; 9] = ["postgresql", "mqtt", "opcua", "tls", "dns", "http", "mysql", "tds", "tns"];

/// Connections that end between two looks at how many events they gave.
const FINISHED_MAX: usize = 256;

/// How far a silent capture's time stays behind the clock: frames may still lie in a ring's unfinished block.
const BEHIND_NS: i64 = 50_000_000;

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn error(wrong: &SourceError) -> PyErr {
    match wrong {
        SourceError::Io { .. } | SourceError::NoCapture(_) | SourceError::Capture { .. } => PyOSError::new_err(wrong.to_string()),
        SourceError::Format { .. } | SourceError::Truncated { .. } => PyValueError::new_err(wrong.to_string()),
    }
}

/// Each line is freed as soon as Python has it.
/// Events that one read hands over at a time, about: so many are ready before it looks for more.
const READY_MAX: usize = 1024;

/// The events that are ready.
fn taken(py: Python<'_>, windows: &mut windows::Windows) -> Vec<Py<PyBytes>> {
    let mut lines = Vec::with_capacity(windows.ready());
    windows.take_each(|line| lines.push(PyBytes::new(py, line).unbind()));
    lines
}

fn lines(py: Python<'_>, events: Vec<Vec<u8>>) -> Vec<Py<PyBytes>> {
    events.into_iter().map(|line| PyBytes::new(py, &line).unbind()).collect()
}

enum Input {
    None,
    Open {
        source: Box<dyn Source + Send>,
        live: bool,
    },
    /// Reading failed; the error is raised after the events before it were taken.
    Failed(SourceError),
}

struct SensorState {
    sensor: sensor::Sensor,
    input: Input,
    /// Names of the live interfaces, by the number in a frame.
    taps: Vec<Arc<str>>,
    lost_total: u64,
    lost_ns: i64,
    bytes_read: u64,
    bytes_total: u64,
}

impl SensorState {
    /// Reads frames until `packets_max`, the end, or (live) the timeout. True at the end.
    fn read(&mut self, packets_max: usize, timeout: Duration) -> Result<bool, SourceError> {
        let (source, live) = match &mut self.input {
            Input::None => return Ok(true),
            Input::Open { source, live } => (source, *live),
            Input::Failed(_) => {
                let Input::Failed(wrong) = std::mem::replace(&mut self.input, Input::None) else { return Ok(true) };
                return Err(wrong);
            }
        };
        let until = Instant::now() + timeout;
        let (mut result, mut count) = (Ok(false), 0);
        while count < packets_max && self.sensor.windows.ready() < READY_MAX && (live || !self.sensor.is_ahead()) {
            let (sensor, taps) = (&mut self.sensor, &self.taps);
            // Of one interface are all frames that are lent together.
            let turn = source.read_some(packets_max - count, &mut |frames| {
                if let Some(tap) = frames.first().and_then(|frame| taps.get(frame.interface as usize)) {
                    sensor.tap(tap);
                }
                sensor.frames(frames);
            });
            match turn {
                Ok(Turn::Frames(lent)) => {
                    let before = count;
                    count += lent;
                    if live && count / 64 > before / 64 && Instant::now() >= until {
                        break;
                    }
                }
                Ok(Turn::Idle) => {
                    self.sensor.advance(now_ns() - BEHIND_NS);
                    if Instant::now() >= until {
                        break;
                    }
                }
                Ok(Turn::End) => {
                    result = Ok(true);
                    break;
                }
                Err(wrong) => {
                    result = Err(wrong);
                    break;
                }
            }
        }
        self.bytes_read = source.bytes_read();
        self.bytes_total = source.bytes_total().unwrap_or(0);
        let lost_total = source.lost_total();
        if lost_total > self.lost_total {
            let now_ns = if live { now_ns() } else { self.lost_ns };
            self.sensor.kernel_drops(lost_total - self.lost_total, self.lost_ns, now_ns);
            self.lost_total = lost_total;
        }
        for outage in source.take_outages() {
            self.sensor.interface_lost(format!("{}: {}", outage.place, outage.why), outage.since_ns, outage.until_ns);
        }
        if live {
            self.lost_ns = now_ns();
        }
        match result {
            Ok(true) => {
                self.input = Input::None;
                self.lost_total = 0;
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(wrong) => {
                self.input = Input::Failed(wrong);
                Ok(false)
            }
        }
    }
}

/// Packets in, events out.
#[pyclass(module = "hopwatch_wire")]
struct Sensor {
    state: Mutex<SensorState>,
}

impl Sensor {
    fn lock(&self) -> MutexGuard<'_, SensorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Sensor {
    #[new]
    #[pyo3(signature = (plant, agent, *, tap=None, conversations=false, verify_checksums=false, vlans_equal=Vec::new(), tap_of=Vec::new()))]
    fn new(
        plant: &str,
        agent: &str,
        tap: Option<String>,
        conversations: bool,
        verify_checksums: bool,
        vlans_equal: Vec<String>,
        tap_of: Vec<String>,
    ) -> PyResult<Self> {
        if vlans_equal.len() > contexts::EQUAL_MAX {
            let message = format!("vlans_equal: {} pairs, expected at most {}", vlans_equal.len(), contexts::EQUAL_MAX);
            return Err(PyValueError::new_err(message));
        }
        let equal: Result<Vec<_>, _> = vlans_equal.iter().map(|text| contexts::equal_pair(text)).collect();
        let equal = equal.map_err(|wrong| PyValueError::new_err(format!("vlans_equal: {wrong}")))?;
        let taps: Result<Vec<_>, _> = tap_of.iter().map(|text| contexts::tap_of(text)).collect();
        let taps = taps.map_err(|wrong| PyValueError::new_err(format!("tap_of: {wrong}")))?;
        let options = SensorOptions { conversations, verify_checksums, tap, equal, taps, decoder_bytes_max: None, connections_max: None };
        let sensor = sensor::Sensor::new(plant, agent, options);
        let state =
            SensorState { sensor, input: Input::None, taps: Vec::new(), lost_total: 0, lost_ns: now_ns(), bytes_read: 0, bytes_total: 0 };
        Ok(Self { state: Mutex::new(state) })
    }

    /// What plug-ins asked for goes to them: `wishes` are plug-in, transport (`tcp`, `udp`) and port.
    fn slow_path(&self, wishes: Vec<(String, String, u16)>) -> PyResult<SlowPath> {
        if wishes.len() > slow::WISHES_MAX {
            let message = format!("wishes: {} ports, expected at most {}", wishes.len(), slow::WISHES_MAX);
            return Err(PyValueError::new_err(message));
        }
        let wish = |(name, transport, port): (String, String, u16)| {
            let transport = match known(&transport, &["tcp", "udp"], "transport")? {
                "tcp" => 6,
                _ => 17,
            };
            Ok(Wish { name: name_of(name), transport, port })
        };
        let wishes = wishes.into_iter().map(wish).collect::<PyResult<Vec<_>>>()?;
        let mut state = self.lock();
        let (path, outlet) = slow::SlowPath::new(state.sensor.windows.plant(), state.sensor.windows.agent(), &wishes);
        state.sensor.hand_over(outlet.clone());
        Ok(SlowPath { path: Mutex::new(path), outlet })
    }

    fn open_file(&self, py: Python<'_>, path: &str) -> PyResult<()> {
        let opened = py.detach(|| FileSource::open(Path::new(path)));
        let file = opened.map_err(|wrong| error(&wrong))?;
        let mut state = self.lock();
        state.bytes_read = 0;
        state.bytes_total = file.bytes_total().unwrap_or(0);
        state.lost_total = 0;
        state.taps = Vec::new();
        state.input = Input::Open { source: Box::new(file), live: false };
        Ok(())
    }

    /// Several captures as one stream in the order of time.
    fn open_files(&self, py: Python<'_>, paths: Vec<PathBuf>) {
        let merged = py.detach(|| Merged::open(&paths));
        let mut state = self.lock();
        state.bytes_read = 0;
        state.bytes_total = merged.bytes_total().unwrap_or(0);
        state.lost_total = 0;
        state.taps = Vec::new();
        state.input = Input::Open { source: Box::new(merged), live: false };
    }

    /// `fanout` is a group number: sensors with the same one share the interfaces' flows, each flow whole.
    #[pyo3(signature = (interfaces, *, bpf=None, snaplen=262_144, fanout=None, ring_bytes=64 << 20))]
    fn open_live(
        &self,
        interfaces: Vec<String>,
        bpf: Option<String>,
        snaplen: u32,
        fanout: Option<u16>,
        ring_bytes: usize,
    ) -> PyResult<()> {
        let names: Vec<&str> = interfaces.iter().map(String::as_str).collect();
        let options = Options { filter: bpf, snap_bytes: snaplen, ring_bytes, fanout, ..Options::default() };
        let capture = Capture::open(&names, &options).map_err(|wrong| error(&wrong))?;
        let mut state = self.lock();
        state.lost_total = 0;
        state.lost_ns = now_ns();
        state.taps = names.into_iter().map(Arc::from).collect();
        state.input = Input::Open { source: Box::new(capture), live: true };
        Ok(())
    }

    /// Measures the capture from now on; `expected` are networks whose hosts should be seen.
    #[pyo3(signature = (expected=Vec::new()))]
    fn measure(&self, expected: Vec<String>) -> PyResult<()> {
        let net = |text: &String| Net::parse(text).ok_or_else(|| PyValueError::new_err(format!("network {text:?}, expected 10.20.0.0/22")));
        let nets = expected.iter().map(net).collect::<PyResult<Vec<_>>>()?;
        if nets.len() > quality::EXPECTED_MAX {
            let message = format!("expected: {} networks, expected at most {}", nets.len(), quality::EXPECTED_MAX);
            return Err(PyValueError::new_err(message));
        }
        self.lock().sensor.quality = Some(Box::new(Quality::new(nets)));
        Ok(())
    }

    /// What was measured, as one JSON object; of connections, what has ended.
    fn measured(&self, py: Python<'_>) -> Py<PyBytes> {
        let said = self.lock().sensor.quality.as_ref().map_or_else(|| b"{}".to_vec(), |quality| quality.said());
        PyBytes::new(py, &said).unbind()
    }

    /// Events since the last call, and whether the input has ended.
    #[pyo3(signature = (packets_max=65_536, timeout_ms=200))]
    fn read(&self, py: Python<'_>, packets_max: usize, timeout_ms: u64) -> PyResult<(Vec<Py<PyBytes>>, bool)> {
        let done = py.detach(|| self.lock().read(packets_max, Duration::from_millis(timeout_ms)));
        let done = done.map_err(|wrong| error(&wrong))?;
        Ok((taken(py, &mut self.lock().sensor.windows), done))
    }

    /// Ends all windows, or so many that about `events_max` events are told; then it is to be called until it gives nothing.
    #[pyo3(signature = (events_max=usize::MAX))]
    fn finish(&self, py: Python<'_>, events_max: usize) -> Vec<Py<PyBytes>> {
        py.detach(|| {
            let sensor = &mut self.lock().sensor;
            while sensor.finish_some(FINISHED_MAX) && sensor.windows.ready() < events_max {}
        });
        taken(py, &mut self.lock().sensor.windows)
    }

    /// One line per conversation that has ended since the last call.
    fn conversations(&self, py: Python<'_>) -> Vec<Py<PyBytes>> {
        let conversations = self.lock().sensor.take_conversations();
        lines(py, conversations)
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let state = self.lock();
        let c = &state.sensor.counters;
        let w = &state.sensor.windows.counters;
        let f = state.sensor.fragment_counters();
        let mut all: BTreeMap<String, u64> = [
            ("packets", c.packets_total),
            ("bytes", c.bytes_total),
            ("bytes_read", state.bytes_read),
            ("bytes_total", state.bytes_total),
            ("windows", w.windows_total),
            ("long_windows", w.long_windows_total),
            ("flows_folded", w.flows_folded_total),
            ("names_dropped", w.names_dropped_total),
            ("bounds_reached", w.bounds_reached_total),
            ("statements_forgotten", state.sensor.windows.statements_forgotten_total()),
            ("not_ip_packets", c.not_ip_packets_total),
            ("copies", c.copies_total),
            ("copied_bytes", c.copied_bytes_total),
            ("copies_unwatched", state.sensor.copies.unwatched_total),
            ("contexts_dropped", c.contexts_dropped_total),
            ("contexts_paired", state.sensor.pairs.learnt_total),
            ("connections_paired", state.sensor.pairs.joined_total),
            ("pairs_dropped", state.sensor.pairs.dropped_total),
            ("conversing", c.conversing_total),
            ("one_sided", c.one_sided_total),
            ("tunnelled_packets", c.tunnelled_packets_total),
            ("tunnel_depth", c.tunnel_depth_total),
            ("contexts_folded", state.sensor.contexts_folded_total()),
            ("fragments", f.fragments_total),
            ("fragments_reassembled", f.reassembled_total),
            ("fragments_copied", f.copies_total),
            ("fragments_incomplete", f.incomplete_total),
            ("fragments_evicted", f.evicted_total),
            ("fragments_overlapping", f.overlaps_total),
            ("checksum_errors", c.checksum_errors_total),
            ("connections", c.connections_total),
            ("evicted", c.evicted_total),
            ("evicted_with_data", c.evicted_with_data_total),
            ("conflicting_segments", c.conflicting_segments_total),
            ("decoders_dropped", c.decoders_dropped_total),
            ("gaps", c.gaps_total),
            ("lost_bytes", c.lost_bytes_total),
            ("decode_errors", c.decode_errors_total),
            ("kernel_drops", c.kernel_drops_total),
            ("conversations_dropped", c.conversations_dropped_total),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        for reason in Malformed::ALL {
            all.insert(format!("malformed_{}", reason.name()), c.malformed_packets_total[reason.index()]);
        }
        all
    }

    /// Closes the input; what was read stays.
    fn stop(&self) {
        self.lock().input = Input::None;
    }
}

/// A name that lives as long as the process: a handful of plug-ins, each told once.
fn name_of(name: String) -> &'static str {
    static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.iter().find(|known| **known == name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.into_boxed_str());
    names.push(kept);
    kept
}

/// What plug-ins read, and the windows of it.
#[pyclass(module = "hopwatch_wire")]
struct SlowPath {
    path: Mutex<slow::SlowPath>,
    outlet: slow::Outlet,
}

/// Connection, plug-in, what it is (`data`, `gap`, `close`), its sender, the bytes or how many are missing.
type ItemOut = (u64, &'static str, &'static str, Option<&'static str>, Option<Py<PyBytes>>, u64);
/// Operation, the side that the data comes from, names; rows, values, messages; bytes of the client and of the server.
type Said = (String, String, Vec<String>, i64, u64, u64, u64, u64);

#[derive(FromPyObject)]
enum Answered {
    Said(Vec<Said>),
    Failed(String),
}

fn observation((operation, from, names, rows, values, messages, client, server): Said) -> PyResult<Observation> {
    if names.len() > slow::NAMES_MAX {
        return Err(PyValueError::new_err(format!("{} names, expected at most {}", names.len(), slow::NAMES_MAX)));
    }
    let objects = (!names.is_empty()).then(|| Arc::new(ObjectSet { names, ..ObjectSet::default() }));
    let movement = Movement { operation: operation_of(&operation)?, from: side(&from)?, objects };
    Ok(Observation { movement, counts: Counts { rows, values, messages }, bytes: [client, server] })
}

impl SlowPath {
    fn lock(&self) -> MutexGuard<'_, slow::SlowPath> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl SlowPath {
    /// What the plug-ins are to read next; every item is to be answered before others are taken.
    #[pyo3(signature = (timeout_ms=0))]
    fn take(&self, py: Python<'_>, timeout_ms: u64) -> Vec<Option<ItemOut>> {
        if timeout_ms > 0 {
            py.detach(|| self.outlet.wait(Duration::from_millis(timeout_ms)));
        }
        let name = |side| if side == Side::Client { "client" } else { "server" };
        let mut path = self.lock();
        path.take();
        let items = path.items().map(|item| {
            let (number, plugin, item) = item?;
            Some(match item {
                Item::Data(side, data) => (number, plugin, "data", Some(name(side)), Some(PyBytes::new(py, data).unbind()), 0),
                Item::Gap(side, length) => (number, plugin, "gap", Some(name(side)), None, length),
                Item::Close => (number, plugin, "close", None, None, 0),
            })
        });
        items.collect()
    }

    /// One answer for each item: what was observed, or why nothing can be (`""`: the bytes are not the plug-in's protocol).
    fn answer(&self, answers: Vec<Option<Answered>>) {
        let answer = |answered: Answered| match answered {
            Answered::Said(said) => match said.into_iter().map(observation).collect::<PyResult<Vec<_>>>() {
                Ok(said) => Answer::Said(said),
                Err(wrong) => Answer::Failed(wrong.to_string()),
            },
            Answered::Failed(why) if why.is_empty() => Answer::Refused,
            Answered::Failed(why) => Answer::Failed(why),
        };
        let answers: Vec<_> = answers.into_iter().map(|answered| answered.map(answer)).collect();
        self.lock().answer(answers);
    }

    /// A plug-in is not asked any more about what it reads now.
    fn forsake(&self, plugin: &str, why: &str) {
        self.lock().forsake(plugin, why);
    }

    /// The events that are ready.
    fn events(&self, py: Python<'_>) -> Vec<Py<PyBytes>> {
        taken(py, &mut self.lock().windows)
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let path = self.lock();
        let c = path.counters();
        let all = [
            ("slow_handed", c.handed_total),
            ("slow_refused", c.refused_total),
            ("slow_taken_back", c.taken_back_total),
            ("slow_degraded", c.degraded_total),
            ("slow_waiting_bytes", c.waiting_bytes),
            ("slow_windows", path.windows.counters.windows_total),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The same windows for sources that are not packets (server logs, brokers).
#[pyclass(module = "hopwatch_wire")]
struct Windows {
    windows: Mutex<windows::Windows>,
}

impl Windows {
    fn lock(&self) -> MutexGuard<'_, windows::Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address_of(text: &str) -> PyResult<IpAddr> {
    text.parse().map_err(|_| PyValueError::new_err(format!("address {text:?}, expected IPv4 or IPv6")))
}

fn endpoint((address, port): (String, u16)) -> PyResult<Endpoint> {
    Ok(Endpoint { address: address_of(&address)?, port })
}

fn side(name: &str) -> PyResult<Side> {
    match name {
        "client" => Ok(Side::Client),
        "server" => Ok(Side::Server),
        other => Err(PyValueError::new_err(format!("side {other:?}, expected 'client' or 'server'"))),
    }
}

fn known(name: &str, of: &'static [&'static str], what: &str) -> PyResult<&'static str> {
    let found = of.iter().find(|known| **known == name).copied();
    found.ok_or_else(|| PyValueError::new_err(format!("{what} {name:?}, expected one of {}", of.join(", "))))
}

const ACCOUNT_FROM: [&str; 6] = ["startup", "token", "certificate", "server-log", "proxy-log", "unknown"];

/// A flow as Python keeps it: operation, side, account, role, application, whence the account is known; rows; sequence, values, messages and bytes both ways.
type ToldFlow = (String, String, Option<String>, Option<String>, Option<String>, Option<String>, i64, [u64; 5]);

fn operation_of(name: &str) -> PyResult<Operation> {
    Operation::named(name).ok_or_else(|| {
        let all: Vec<_> = Operation::ALL.iter().map(|o| o.name()).collect();
        PyValueError::new_err(format!("operation {name:?}, expected one of {}", all.join(", ")))
    })
}

fn is_open(windows: &windows::Windows, connection: usize) -> PyResult<()> {
    if windows.is_open(connection) {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!("connection {connection} is not open")))
}

/// A request: its operation and whence its data comes, its object and marks, and the host and port that it names.
type Request = (String, String, String, Vec<String>, Option<String>, Option<u16>);

/// What an HTTP request moves, as somebody's log has it: no query, no token, no user.
#[pyfunction]
#[pyo3(signature = (method, target, *, status=0))]
fn read_request(method: &str, target: &str, status: u16) -> Request {
    let http::Asked { operation, object, marks, destination } = http::asked(method, target, status);
    let from = if operation == Operation::Get { "server" } else { "client" };
    let marks = marks.iter().map(ToString::to_string).collect();
    let (host, port) = destination.map_or((None, None), |name| (Some(name.name), name.port));
    (operation.name().to_owned(), from.to_owned(), object, marks, host, port)
}

/// One statement of a text, as the wire's decoders read it; it holds no literal but the names that settings give.
#[pyclass(module = "hopwatch_wire", frozen, get_all)]
struct Read {
    fingerprint: String,
    operation: String,
    data_from: String,
    names: Vec<String>,
    columns: Vec<String>,
    marks: Vec<String>,
    readable: bool,
    server_side: bool,
    effect: Option<(String, Option<String>)>,
    local: bool,
    replaces: bool,
}

/// The statements of a text in PostgreSQL's SQL, or MySQL's, Oracle's or SQL Server's; `database` is where its unqualified names are.
#[pyfunction]
#[pyo3(signature = (text, *, whole=true, dialect="postgresql", database=None))]
fn read_sql(text: &[u8], whole: bool, dialect: &str, database: Option<&str>) -> PyResult<Vec<Read>> {
    let read = |mut s: sql::Statement| {
        for table in s.tables.iter_mut().filter(|table| !table.qualified) {
            if let Some(database) = database {
                table.name = format!("{database}.{}", table.name);
            }
        }
        let objects = s.objects(None);
        let effect = match s.effect {
            Effect::Role(name) => Some(("role", name)),
            Effect::Declare(name) => Some(("declare", Some(name))),
            Effect::Fetch(name) => Some(("fetch", Some(name))),
            Effect::Prepare(name) => Some(("prepare", Some(name))),
            Effect::Execute(name) => Some(("execute", Some(name))),
            Effect::Path(path) => Some(("path", path.and_then(|path| path.into_iter().next()))),
            _ => None,
        };
        Read {
            fingerprint: s.fingerprint,
            operation: s.operation.name().to_owned(),
            data_from: if s.from == Side::Client { "client" } else { "server" }.to_owned(),
            names: objects.names,
            columns: objects.columns,
            marks: objects.marks.into_iter().map(str::to_owned).collect(),
            readable: s.readable,
            server_side: s.copy.is_some_and(|copy| copy.server_side),
            effect: effect.map(|(kind, name)| (kind.to_owned(), name)),
            local: s.local,
            replaces: s.replaces,
        }
    };
    let statements = match dialect {
        "postgresql" => sql::read(text, whole, false),
        "mysql" => sql::mysql::read(text, whole, sql::mysql::Mode::default()),
        "oracle" => vec![sql::oracle::read(text, whole)],
        "transact-sql" => sql::tsql::read(text, whole, sql::tsql::Quotes::Names).statements,
        _ => return Err(PyValueError::new_err(format!("dialect {dialect:?}, expected postgresql, mysql, oracle or transact-sql"))),
    };
    Ok(statements.into_iter().map(read).collect())
}

#[pymethods]
impl Windows {
    #[new]
    fn new(plant: &str, agent: &str) -> Self {
        Self { windows: Mutex::new(windows::Windows::new(plant, agent)) }
    }

    /// Begins a connection; returns its number.
    #[pyo3(signature = (client, server, time_ns, *, protocol=None, depth="server-log", seen_by="server-log", transport="tcp", opened_by=None, context=None))]
    #[allow(clippy::too_many_arguments)] // One call names everything that a connection has.
    fn open(
        &self,
        client: (String, u16),
        server: (String, u16),
        time_ns: i64,
        protocol: Option<&str>,
        depth: &str,
        seen_by: &str,
        transport: &str,
        opened_by: Option<&str>,
        context: Option<&str>,
    ) -> PyResult<usize> {
        let opening = Opening {
            client: endpoint(client)?,
            server: endpoint(server)?,
            opened_by: opened_by.map(side).transpose()?,
            transport: Arc::from(transport),
            tap: None,
            context: context.map(Arc::from),
            seen_by: known(seen_by, &["tap", "server-log", "proxy-log", "broker", "sensor", "switch"], "seen_by")?,
            first_ns: time_ns,
        };
        let protocol = protocol.map(|name| known(name, &PROTOCOLS, "protocol")).transpose()?;
        let depth = match known(depth, &["decoded", "server-log", "sizes", "blind"], "depth")? {
            "decoded" => Depth::Decoded,
            "server-log" => Depth::ServerLog,
            "sizes" => Depth::Sizes,
            _ => Depth::Blind,
        };
        let mut windows = self.lock();
        let id = windows.open(opening);
        let mut out = windows.recorder(id, time_ns);
        match protocol {
            Some(name) => out.protocol(name, depth),
            None => out.depth(depth),
        }
        Ok(id)
    }

    /// Says who moves the data from now on.
    #[pyo3(signature = (connection, time_ns, *, account=None, role=None, application=None, account_from=None, on_behalf_of=None))]
    #[allow(clippy::too_many_arguments)] // The parts of an identity.
    fn identify(
        &self,
        connection: usize,
        time_ns: i64,
        account: Option<String>,
        role: Option<String>,
        application: Option<String>,
        account_from: Option<&str>,
        on_behalf_of: Option<String>,
    ) -> PyResult<()> {
        let from = account_from.map(|name| known(name, &ACCOUNT_FROM, "account_from")).transpose()?;
        let mut windows = self.lock();
        is_open(&windows, connection)?;
        windows.recorder(connection, time_ns).identify(|i| {
            i.account = account;
            i.role = role;
            i.application = application;
            i.account_from = from;
            i.on_behalf_of = on_behalf_of;
        });
        Ok(())
    }

    /// Adds what moved; `data_from` is the side that the data comes from.
    #[pyo3(signature = (connection, time_ns, operation, data_from, *, names=Vec::new(), columns=Vec::new(), statement=None, rows=0, values=0, messages=0, bytes=0, bytes_back=0, marks=Vec::new()))]
    #[allow(clippy::too_many_arguments)] // The counts of the contract.
    fn add(
        &self,
        connection: usize,
        time_ns: i64,
        operation: &str,
        data_from: &str,
        names: Vec<String>,
        columns: Vec<String>,
        statement: Option<String>,
        rows: i64,
        values: u64,
        messages: u64,
        bytes: u64,
        bytes_back: u64,
        marks: Vec<String>,
    ) -> PyResult<()> {
        let operation = operation_of(operation)?;
        let from = side(data_from)?;
        let marks = marks.iter().filter_map(|mark| sql::marks::known(mark)).collect();
        let objects = (!names.is_empty() || statement.is_some()).then(|| Arc::new(ObjectSet { names, columns, statement, marks }));
        let mut windows = self.lock();
        is_open(&windows, connection)?;
        let mut out = windows.recorder(connection, time_ns);
        let movement = Movement { operation, from, objects };
        out.arrived(from, bytes);
        out.arrived(from.other(), bytes_back);
        out.add(&movement, from, bytes, Counts { rows, values, messages });
        if bytes_back > 0 {
            out.add(&movement, from.other(), bytes_back, Counts::ZERO);
        }
        Ok(())
    }

    /// What is known of the connection besides: how the wire is protected, and in which condition it was seen.
    #[pyo3(signature = (connection, time_ns, *, transport=None, cipher=None, policy=None, authentication=None, joined_late=false, one_sided=false, encrypted=false))]
    #[allow(clippy::too_many_arguments)] // One call says everything that is known.
    fn describe(
        &self,
        connection: usize,
        time_ns: i64,
        transport: Option<String>,
        cipher: Option<String>,
        policy: Option<String>,
        authentication: Option<String>,
        joined_late: bool,
        one_sided: bool,
        encrypted: bool,
    ) -> PyResult<()> {
        let mut windows = self.lock();
        is_open(&windows, connection)?;
        let mut out = windows.recorder(connection, time_ns);
        out.protect(|p| {
            if let Some(transport) = transport {
                p.transport = transport.into();
            }
            p.cipher = cipher;
            p.policy = policy;
            p.authentication = authentication.map(Into::into);
        });
        out.condition(|c| {
            c.joined_late |= joined_late;
            c.one_sided |= one_sided;
            c.encrypted |= encrypted;
        });
        Ok(())
    }

    /// A name that the client used for the server.
    fn named(&self, connection: usize, time_ns: i64, name: &str, by: &str) -> PyResult<()> {
        let by = known(by, &["sni", "http", "opcua"], "by")?;
        let mut windows = self.lock();
        is_open(&windows, connection)?;
        windows.recorder(connection, time_ns).server_name(name, by);
        Ok(())
    }

    /// The destination that the client asks a relay for from now on; another one ends the open windows.
    fn asked(&self, connection: usize, time_ns: i64, name: &str, port: u16, by: &str) -> PyResult<()> {
        let by = known(by, &["connect", "absolute-form", "socks"], "by")?;
        let mut windows = self.lock();
        is_open(&windows, connection)?;
        windows.recorder(connection, time_ns).asked(Some(&Name { name: name.to_owned(), by, port: Some(port) }));
        Ok(())
    }

    /// A DNS answer: `client` was told that `name` has `address`.
    fn answered(&self, client: &str, address: &str, name: &str, time_ns: i64, ttl_s: u32) -> PyResult<()> {
        let until_ns = time_ns.saturating_add(i64::from(ttl_s) * 1_000_000_000);
        self.lock().answered(address_of(client)?, address_of(address)?, name, time_ns, until_ns);
        Ok(())
    }

    /// Something moved that could not be counted: the window of it is `lossy`.
    fn uncounted(&self, connection: usize, time_ns: i64, operation: &str, data_from: &str) -> PyResult<()> {
        let operation = operation_of(operation)?;
        let from = side(data_from)?;
        let mut windows = self.lock();
        is_open(&windows, connection)?;
        windows.recorder(connection, time_ns).uncounted(&Movement::new(operation, from));
        Ok(())
    }

    /// Amounts that are near the truth, not counted at its source: the window of them is `estimated`.
    fn estimated(&self, connection: usize, time_ns: i64, operation: &str, data_from: &str) -> PyResult<()> {
        let operation = operation_of(operation)?;
        let from = side(data_from)?;
        let mut windows = self.lock();
        is_open(&windows, connection)?;
        windows.recorder(connection, time_ns).estimated(&Movement::new(operation, from));
        Ok(())
    }

    /// Ends the open windows of a connection that goes on, and says what its flows have counted.
    fn told(&self, connection: usize) -> PyResult<Vec<ToldFlow>> {
        let mut windows = self.lock();
        is_open(&windows, connection)?;
        let flows = windows.told(connection).into_iter().map(|t| {
            let counts = [t.sequence, t.totals.values, t.totals.messages, t.total_bytes, t.total_bytes_back];
            let from = if t.from == Side::Client { "client" } else { "server" };
            (
                t.operation.name().to_owned(),
                from.to_owned(),
                t.account,
                t.role,
                t.application,
                t.account_from.map(str::to_owned),
                t.totals.rows,
                counts,
            )
        });
        Ok(flows.collect())
    }

    /// Goes on with what `told` gave for a connection that was just opened as it was then.
    fn go_on(&self, connection: usize, time_ns: i64, told: Vec<ToldFlow>) -> PyResult<()> {
        let mut windows = self.lock();
        is_open(&windows, connection)?;
        let mut flows = Vec::with_capacity(told.len());
        for (operation, from, account, role, application, account_from, rows, counts) in told {
            let [sequence, values, messages, total_bytes, total_bytes_back] = counts;
            let totals = Counts { rows, values, messages };
            let (operation, from) = (operation_of(&operation)?, side(&from)?);
            let account_from = account_from.map(|name| known(&name, &ACCOUNT_FROM, "account_from")).transpose()?;
            flows.push(Told { operation, from, account, role, application, account_from, sequence, totals, total_bytes, total_bytes_back });
        }
        windows.go_on(connection, time_ns, flows);
        Ok(())
    }

    /// Ends a connection and its windows.
    fn close(&self, connection: usize, time_ns: i64) {
        self.lock().close(connection, time_ns);
    }

    /// Ends the windows whose time has passed.
    fn advance(&self, now_ns: i64) {
        self.lock().advance(now_ns);
    }

    /// Ends everything.
    fn finish(&self) {
        self.lock().finish();
    }

    /// The events that are ready.
    fn take(&self, py: Python<'_>) -> Vec<Py<PyBytes>> {
        taken(py, &mut self.lock())
    }
}

#[pymodule]
fn hopwatch_wire(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Sensor>()?;
    module.add_class::<Windows>()?;
    module.add_class::<lines::Lines>()?;
    module.add_class::<Read>()?;
    module.add_function(wrap_pyfunction!(read_request, module)?)?;
    module.add_class::<SlowPath>()?;
    module.add_function(wrap_pyfunction!(read_sql, module)?)
}
