//! `Lines`: the reader of windows that knows what was read of their kind before.

use crate::lines::{
    self, End, KINDS_MAX, Kinds, Learned, MARKS_MAX, NUMBERS, PARTS_MAX, Paid, Part, Remembered, SET_KINDS_MAX, SET_NUMBERS, Set, Shape,
    VARIANTS_MAX, Values,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyType};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The names of what is set, made once.
struct Names {
    copy: Py<PyString>,
    event_id: Py<PyString>,
    connection: Py<PyString>,
    flow_id: Py<PyString>,
    source: Py<PyString>,
    destination: Py<PyString>,
    address: Py<PyString>,
    port: Py<PyString>,
    names: Py<PyString>,
    opened_by: Py<PyString>,
    mark: Py<PyString>,
    statement: Py<PyString>,
    start: Py<PyString>,
    start_ns: Py<PyString>,
    end: Py<PyString>,
    end_ns: Py<PyString>,
    is_final: Py<PyString>,
    objects: Py<PyString>,
    totals: Py<PyString>,
    completeness: Py<PyString>,
    numbers: [Py<PyString>; NUMBERS.len()],
    set_numbers: [Py<PyString>; SET_NUMBERS.len()],
}

impl Names {
    fn new(py: Python<'_>) -> Self {
        let name = |text: &str| PyString::intern(py, text).unbind();
        Self {
            copy: name("__copy__"),
            event_id: name("event_id"),
            connection: name("connection"),
            flow_id: name("flow_id"),
            source: name("source"),
            destination: name("destination"),
            address: name("address"),
            port: name("port"),
            names: name("names"),
            opened_by: name("opened_by"),
            mark: name("mark"),
            statement: name("statement"),
            start: name("start"),
            start_ns: name("start_ns"),
            end: name("end"),
            end_ns: name("end_ns"),
            is_final: name("final"),
            objects: name("objects"),
            totals: name("totals"),
            completeness: name("completeness"),
            numbers: NUMBERS.map(|(_, text, _)| name(text)),
            set_numbers: SET_NUMBERS.map(|(text, _)| name(text)),
        }
    }
}

/// A kind of object set, and one of it that counts nothing.
struct Kind {
    shape: Arc<Shape>,
    object: Py<PyAny>,
    named: bool,
}

impl AsRef<Shape> for Kind {
    fn as_ref(&self) -> &Shape {
        &self.shape
    }
}

impl Kind {
    fn again<'py>(&self, py: Python<'py>, names: &Names, set: &Set) -> PyResult<Bound<'py, PyAny>> {
        let made = self.object.bind(py).call_method0(&names.copy)?;
        for (name, &value) in names.set_numbers.iter().zip(&set.numbers) {
            if value != 0 {
                made.setattr(name, value)?;
            }
        }
        Ok(made)
    }

    fn share(&self, py: Python<'_>) -> Self {
        Self { shape: Arc::clone(&self.shape), object: self.object.clone_ref(py), named: self.named }
    }
}

/// Kinds of object sets, in the order in which they were first met, and by what they begin with where they are many.
#[derive(Default)]
struct SetKinds {
    kinds: Vec<Kind>,
    by_head: HashMap<Box<[u8]>, Vec<usize>>,
}

/// So many are gone through one by one.
const FEW: usize = 4;

impl SetKinds {
    fn push(&mut self, kind: Kind) {
        self.kinds.push(kind);
        if self.kinds.len() > FEW {
            let from = if self.by_head.is_empty() { 0 } else { self.kinds.len() - 1 };
            for (number, kind) in self.kinds.iter().enumerate().skip(from) {
                self.by_head.entry(kind.shape.head().into()).or_default().push(number);
            }
        }
    }
}

impl Kinds for SetKinds {
    fn shape(&self, kind: usize) -> Option<&Shape> {
        Some(&self.kinds.get(kind)?.shape)
    }

    fn like(&self, head: &[u8], from: usize) -> Option<usize> {
        if self.by_head.is_empty() {
            return (from < self.kinds.len()).then_some(from);
        }
        self.by_head.get(head)?.iter().copied().find(|kind| *kind >= from)
    }
}

/// A window of the kind, in which nothing is counted, and the shape of its line.
struct Known {
    shape: Shape,
    sets: SetKinds,
    window: Py<PyAny>,
    totals: Py<PyAny>,
    completeness: Py<PyAny>,
    statement: Option<Box<[u8]>>,
    /// Whether the window's source is the end that was dialled; None if nobody knows who dialled.
    from_server: Option<bool>,
    /// What stands for windows of the kind that a server says, and that have the same object sets, in any order.
    marks: HashMap<Box<[u8]>, Py<PyAny>>,
    marked: Option<(Box<[u8]>, Py<PyAny>)>,
}

/// Ends made last: the windows of a connection come together.
const RECENT: usize = 2;

/// Ends of windows.
struct Ends {
    /// Servers, and ends with names.
    known: Remembered<Py<PyAny>>,
    recent: VecDeque<(Box<[u8]>, Py<PyAny>)>,
    /// One without names, to be copied.
    plain: Option<Py<PyAny>>,
}

impl Ends {
    fn end<'py>(&mut self, py: Python<'py>, names: &Names, line: &[u8], end: &End) -> Option<Bound<'py, PyAny>> {
        let text = line.get(end.text.clone())?;
        if let Some((_, known)) = self.recent.iter().find(|(known, _)| **known == *text) {
            return Some(known.bind(py).clone());
        }
        if let Some(known) = self.known.get(text) {
            return Some(known.bind(py).clone());
        }
        let (address, port) = end.plain.as_ref()?;
        let made = self.plain.as_ref()?.bind(py).call_method0(&names.copy).ok()?;
        made.setattr(&names.address, plain_text(py, line, address)).ok()?;
        made.setattr(&names.port, *port).ok()?;
        self.met(text, &made);
        Some(made)
    }

    fn met(&mut self, text: &[u8], end: &Bound<'_, PyAny>) {
        self.recent.truncate(RECENT - 1);
        self.recent.push_front((text.into(), end.clone().unbind()));
    }

    /// Keeps an end that was just read.
    fn learn(&mut self, names: &Names, line: &[u8], end: &End, read: &Bound<'_, PyAny>, is_server: bool) -> Option<()> {
        if end.plain.is_some() && self.plain.is_none() {
            self.plain = Some(read.call_method0(&names.copy).ok()?.unbind());
        }
        let text = line.get(end.text.clone())?;
        if !is_server && end.plain.is_some() {
            self.met(text, read);
        } else if self.known.get(text).is_none() {
            self.known.put(text, read.clone().unbind(), text.len());
        }
        Some(())
    }
}

struct State {
    /// Kinds of windows by what ``lines::kind`` says of their lines.
    kinds: Remembered<Vec<Known>>,
    /// What kinds share: fields by their text, and kinds of sets by theirs.
    fields: Remembered<(Py<PyString>, Py<PyAny>)>,
    sets: Remembered<Kind>,
    ends: Ends,
    /// The identity of the connection that was read last.
    connection: Option<(Box<[u8]>, Py<PyString>)>,
    values: Values,
    paid: Paid,
    mark_key: Vec<u8>,
    mark_sets: Vec<usize>,
    again_total: u64,
    learned_total: u64,
}

/// Reads lines; a window that is like one before it shares with it everything but what changed.
#[pyclass(module = "hopwatch_wire", frozen)]
pub struct Lines {
    read: Py<PyAny>,
    window: Py<PyType>,
    names: Names,
    state: Mutex<State>,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Lines {
    #[new]
    fn new(py: Python<'_>, read: Py<PyAny>, window: Py<PyType>) -> Self {
        let state = State {
            kinds: Remembered::new(KINDS_MAX),
            fields: Remembered::new(PARTS_MAX),
            sets: Remembered::new(PARTS_MAX),
            ends: Ends { known: Remembered::new(PARTS_MAX), recent: VecDeque::with_capacity(RECENT), plain: None },
            connection: None,
            values: Values::default(),
            paid: Paid::default(),
            mark_key: Vec::new(),
            mark_sets: Vec::new(),
            again_total: 0,
            learned_total: 0,
        };
        Self { read, window, names: Names::new(py), state: Mutex::new(state) }
    }

    fn __call__<'py>(&self, py: Python<'py>, line: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let Ok(bytes) = line.cast::<PyBytes>() else { return self.read.bind(py).call1((line,)) };
        let text = bytes.as_bytes();
        let kind = lines::kind(text);
        if let Some(event) = kind.and_then(|kind| self.lock().again(py, &self.names, kind, text)) {
            return Ok(event);
        }
        // Whatever this runs may ask for other lines.
        let event = self.read.bind(py).call1((line,))?;
        if let Some(kind) = kind {
            if event.get_type().is(&self.window) {
                self.lock().learn(&self.names, kind, text, &event);
            }
        }
        Ok(event)
    }

    /// How many lines were read again, how many kinds are known, and what was forgotten for others.
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        let state = self.lock();
        let parts = [&state.fields.len(), &state.sets.len(), &state.ends.known.len()].into_iter().sum::<usize>();
        BTreeMap::from([
            ("again", state.again_total),
            ("learned", state.learned_total),
            ("kinds", state.kinds.len() as u64),
            ("parts", parts as u64),
            ("kinds_forgotten", state.kinds.forgotten_total),
            ("passed_over", state.paid.passed_over_total),
            ("parts_forgotten", state.fields.forgotten_total + state.sets.forgotten_total + state.ends.known.forgotten_total),
        ])
    }
}

impl State {
    /// The window that the line says, if it is like one that is known.
    fn again<'py>(&mut self, py: Python<'py>, names: &Names, kind: &[u8], line: &[u8]) -> Option<Bound<'py, PyAny>> {
        let variants = self.kinds.get(kind)?;
        let place = variants.iter().position(|known| known.shape.read(&known.sets, line, &mut self.values).is_some())?;
        let known = variants.get_mut(place)?;
        let source = self.ends.end(py, names, line, &self.values.source)?;
        let destination = self.ends.end(py, names, line, &self.values.destination)?;
        let window = known.again(py, names, line, &self.values).ok()?;
        let connection = line.get(self.values.connection.clone())?;
        match &self.connection {
            Some((known, text)) if **known == *connection => window.setattr(&names.connection, text).ok()?,
            _ => {
                let text = plain_text(py, line, &self.values.connection);
                window.setattr(&names.connection, &text).ok()?;
                self.connection = Some((connection.into(), text.unbind()));
            }
        }
        window.setattr(&names.source, source).ok()?;
        window.setattr(&names.destination, destination).ok()?;
        let mark = known.mark(py, line, &self.values, &mut self.mark_key, &mut self.mark_sets);
        window.setattr(&names.mark, mark).ok()?;
        self.again_total += 1;
        self.paid.again();
        Some(window)
    }

    /// Keeps a window that was just read for those to come; nothing if its line does not plainly say what was read.
    fn learn(&mut self, names: &Names, kind: &[u8], line: &[u8], window: &Bound<'_, PyAny>) -> Option<()> {
        if !self.paid.takes() {
            return None;
        }
        let mut learned = lines::learn(line)?;
        let mut values = Values::default();
        learned.shape.read(&learned.sets, line, &mut values)?;
        for (name, whole) in &learned.fields {
            self.share(line.get(name.clone())?, line.get(whole.clone())?, window)?;
        }
        let opened_by = window.getattr(&names.opened_by).ok()?;
        let from_server = opened_by.cast::<PyString>().ok().map(|side| side == "destination");
        for (name, end, is_server) in [
            (&names.source, &values.source, from_server == Some(true)),
            (&names.destination, &values.destination, from_server == Some(false)),
        ] {
            self.ends.learn(names, line, end, &window.getattr(name).ok()?, is_server)?;
        }
        let objects = window.getattr(&names.objects).ok()?.cast_into::<PyList>().ok()?;
        let mut sets = SetKinds::default();
        for (object, set) in objects.iter().zip(&values.sets) {
            if set.kind == sets.kinds.len() {
                let shape = std::mem::take(learned.sets.get_mut(set.kind)?);
                sets.push(self.set_kind(names, shape, &object)?);
            }
        }
        let known = Known::new(names, learned, sets, line, &values, from_server, window)?;
        // What is made of it is what was read, or it is not known.
        let again = known.again(window.py(), names, line, &values).ok()?;
        for (name, end) in [(&names.source, &values.source), (&names.destination, &values.destination)] {
            again.setattr(name, self.ends.end(window.py(), names, line, end)?).ok()?;
        }
        for (name, place) in [(&names.connection, &values.connection), (&names.flow_id, &values.flow_id)] {
            again.setattr(name, plain_text(window.py(), line, place)).ok()?;
        }
        for name in [&names.start_ns, &names.end_ns] {
            again.getattr(name).ok()?.eq(window.getattr(name).ok()?).ok()?.then_some(())?;
        }
        again.eq(window).ok()?.then_some(())?;
        let connection = window.getattr(&names.connection).ok()?.cast_into::<PyString>().ok()?;
        self.connection = Some((line.get(values.connection.clone())?.into(), connection.unbind()));
        self.learned_total += 1;
        self.remember(kind, known);
        Some(())
    }

    /// The field as it was read before, if it was said in the same words.
    fn share(&mut self, name: &[u8], whole: &[u8], window: &Bound<'_, PyAny>) -> Option<()> {
        // The kind is no field.
        if name == b"kind" || whole.ends_with(b":null") {
            return Some(());
        }
        if let Some((name, field)) = self.fields.get(whole) {
            return window.setattr(&*name, &*field).ok();
        }
        let name = PyString::intern(window.py(), std::str::from_utf8(name).ok()?);
        let field = window.getattr(&name).ok()?;
        self.fields.put(whole, (name.unbind(), field.unbind()), whole.len());
        Some(())
    }

    /// The kind of an object set that was just read.
    fn set_kind(&mut self, names: &Names, shape: Shape, object: &Bound<'_, PyAny>) -> Option<Kind> {
        let py = object.py();
        if let Some(kind) = self.sets.get(shape.text()) {
            if *kind.shape == shape {
                return Some(kind.share(py));
            }
        }
        let object = object.call_method0(&names.copy).ok()?;
        for name in &names.set_numbers {
            object.setattr(name, 0).ok()?;
        }
        let named = object.getattr(&names.names).ok()?.len().ok()? > 0;
        let kind = Kind { shape: Arc::new(shape), object: object.unbind(), named };
        self.sets.put(kind.shape.text(), kind.share(py), kind.shape.text().len());
        Some(kind)
    }

    /// Keeps the window for those to come; other kinds of sets that came in such windows stay known.
    fn remember(&mut self, kind: &[u8], known: Known) {
        let size_bytes = known.shape.text().len();
        let Some(variants) = self.kinds.get(kind) else {
            return self.kinds.put(kind, vec![known], size_bytes);
        };
        let Some(before) = variants.iter_mut().find(|before| before.shape == known.shape) else {
            if variants.len() == VARIANTS_MAX {
                variants.remove(0);
            }
            variants.push(known);
            let size_bytes = variants.iter().map(|known| known.shape.text().len()).sum();
            return self.kinds.resized(kind, size_bytes);
        };
        if before.sets.kinds.len() + known.sets.kinds.len() > SET_KINDS_MAX {
            *before = known;
            return;
        }
        for set in known.sets.kinds {
            if !before.sets.kinds.iter().any(|one| one.shape == set.shape) {
                before.sets.push(set);
            }
        }
    }
}

/// A plain text is ASCII.
fn plain_text<'py>(py: Python<'py>, line: &[u8], place: &Range<usize>) -> Bound<'py, PyString> {
    PyString::new(py, std::str::from_utf8(line.get(place.clone()).unwrap_or_default()).unwrap_or_default())
}

fn copy<'py>(names: &Names, of: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    of.call_method0(&names.copy).ok()
}

impl Known {
    /// Of what changes nothing is kept: what is not touched need not be near.
    fn new(
        names: &Names,
        learned: Learned,
        sets: SetKinds,
        line: &[u8],
        values: &Values,
        from_server: Option<bool>,
        window: &Bound<'_, PyAny>,
    ) -> Option<Self> {
        let (window, py) = (copy(names, window)?, window.py());
        let (totals, completeness) = (window.getattr(&names.totals).ok()?, window.getattr(&names.completeness).ok()?);
        let (totals, completeness) = (copy(names, &totals)?, copy(names, &completeness)?);
        for name in
            [&names.event_id, &names.connection, &names.flow_id, &names.source, &names.destination, &names.start, &names.end, &names.mark]
        {
            window.setattr(name, py.None()).ok()?;
        }
        for (((part, ..), name), _) in NUMBERS.iter().zip(&names.numbers).zip(learned.present).filter(|(_, present)| *present) {
            let of = match part {
                Part::Window => &window,
                Part::Totals => &totals,
                Part::Completeness => &completeness,
            };
            of.setattr(name, 0).ok()?;
        }
        window.setattr(&names.totals, &totals).ok()?;
        window.setattr(&names.completeness, &completeness).ok()?;
        window.setattr(&names.objects, PyList::empty(py)).ok()?;
        window.setattr(&names.is_final, false).ok()?;
        let statement = values.statement.clone().and_then(|place| line.get(place)).map(Into::into);
        let (window, totals, completeness) = (window.unbind(), totals.unbind(), completeness.unbind());
        let (marks, marked) = (HashMap::new(), None);
        Some(Self { shape: learned.shape, sets, window, totals, completeness, statement, from_server, marks, marked })
    }

    /// What stands for windows that say the same but for client, identities, times and amounts; None where more is to be looked at.
    fn mark<'a>(
        &'a mut self,
        py: Python<'_>,
        line: &[u8],
        values: &Values,
        key: &mut Vec<u8>,
        sets: &mut Vec<usize>,
    ) -> Option<&'a Py<PyAny>> {
        let (server, client) = match self.from_server? {
            true => (&values.source, &values.destination),
            false => (&values.destination, &values.source),
        };
        client.plain.as_ref()?;
        if let [_, _, ..] = &*values.sets {
            // What takes something back, or names nothing, is like no other window.
            let alike = |set: &Set| self.sets.kinds.get(set.kind).is_some_and(|kind| kind.named) && set.numbers.iter().all(|n| *n >= 0);
            values.sets.iter().all(alike).then_some(())?;
        }
        sets.clear();
        sets.extend(values.sets.iter().map(|set| set.kind));
        sets.sort_unstable();
        key.clear();
        for set in &*sets {
            key.extend_from_slice(&set.to_le_bytes());
        }
        key.extend_from_slice(line.get(server.text.clone())?);
        if self.marked.as_ref().is_none_or(|(known, _)| **known != **key) {
            if !self.marks.contains_key(&**key) {
                if self.marks.len() >= MARKS_MAX {
                    return None;
                }
                let made = py.eval(c"object()", None, None).ok()?;
                self.marks.insert((&**key).into(), made.unbind());
            }
            self.marked = Some(((&**key).into(), self.marks.get(&**key)?.clone_ref(py)));
        }
        self.marked.as_ref().map(|(_, mark)| mark)
    }

    /// The window that the line says, but for its ends and its connection.
    fn again<'py>(&self, py: Python<'py>, names: &Names, line: &[u8], values: &Values) -> PyResult<Bound<'py, PyAny>> {
        let window = self.window.bind(py).call_method0(&names.copy)?;
        let text = |place: &Range<usize>| plain_text(py, line, place);
        window.setattr(&names.event_id, text(&values.event_id))?;
        window.setattr(&names.flow_id, text(&values.flow_id))?;
        window.setattr(&names.start, text(&values.start.text))?;
        window.setattr(&names.start_ns, values.start.time_ns)?;
        window.setattr(&names.end, text(&values.end.text))?;
        window.setattr(&names.end_ns, values.end.time_ns)?;
        if values.is_final {
            window.setattr(&names.is_final, true)?;
        }
        let statement = values.statement.as_ref().and_then(|place| line.get(place.clone()));
        if statement != self.statement.as_deref() {
            window.setattr(&names.statement, values.statement.as_ref().map(text))?;
        }
        let (mut totals, mut completeness) = (None, None);
        for (((part, ..), name), &value) in NUMBERS.iter().zip(&names.numbers).zip(&values.numbers) {
            if value == 0 {
                continue;
            }
            let (made, of, part) = match part {
                Part::Window => {
                    window.setattr(name, value)?;
                    continue;
                }
                Part::Totals => (&mut totals, &self.totals, &names.totals),
                Part::Completeness => (&mut completeness, &self.completeness, &names.completeness),
            };
            if let Some(made) = made {
                Bound::setattr(made, name, value)?;
            } else {
                let copy = of.bind(py).call_method0(&names.copy)?;
                copy.setattr(name, value)?;
                window.setattr(part, &copy)?;
                *made = Some(copy);
            }
        }
        if !values.sets.is_empty() {
            let sets = PyList::empty(py);
            for set in &values.sets {
                if let Some(kind) = self.sets.kinds.get(set.kind) {
                    sets.append(kind.again(py, names, set)?)?;
                }
            }
            window.setattr(&names.objects, sets)?;
        }
        Ok(window)
    }
}
