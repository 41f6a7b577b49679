//! `Lines`: the reader of windows that knows what was read of their flow before.

use crate::lines::{self, FLOWS_MAX, Learned, NUMBERS, PARTS_MAX, Part, Remembered, SET_NUMBERS, SETS_MAX, Set, Shape, Values};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyType};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The names of what is set, made once.
struct Names {
    copy: Py<PyString>,
    event_id: Py<PyString>,
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
        Self { shape: Arc::clone(&self.shape), object: self.object.clone_ref(py) }
    }
}

/// A window of the flow, in which nothing is counted, and the shape of its line.
struct Known {
    shape: Shape,
    kinds: Vec<Kind>,
    window: Py<PyAny>,
    totals: Py<PyAny>,
    completeness: Py<PyAny>,
    statement: Option<Box<[u8]>>,
}

struct State {
    flows: Remembered<Known>,
    /// What flows share: fields by their text, and kinds of sets by theirs.
    fields: Remembered<(Py<PyString>, Py<PyAny>)>,
    kinds: Remembered<Kind>,
    values: Values,
    /// Where the identity of the last line's flow was.
    flow_id_at: usize,
    again_total: u64,
    learned_total: u64,
}

/// Reads lines; a window that is like the one before it of its flow shares with it everything but what changed.
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
            flows: Remembered::new(FLOWS_MAX),
            fields: Remembered::new(PARTS_MAX),
            kinds: Remembered::new(PARTS_MAX),
            values: Values::default(),
            flow_id_at: 0,
            again_total: 0,
            learned_total: 0,
        };
        Self { read, window, names: Names::new(py), state: Mutex::new(state) }
    }

    fn __call__<'py>(&self, py: Python<'py>, line: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let Ok(bytes) = line.cast::<PyBytes>() else { return self.read.bind(py).call1((line,)) };
        let text = bytes.as_bytes();
        let flow_id = {
            let state = &mut *self.lock();
            let flow_id = lines::flow_id(text, &mut state.flow_id_at);
            if let Some(known) = flow_id.and_then(|flow_id| state.flows.get(flow_id)) {
                if known.shape.read(&known.kinds, text, &mut state.values).is_some() {
                    state.again_total += 1;
                    let event = known.again(py, &self.names, text, &state.values);
                    if state.values.is_final {
                        flow_id.into_iter().for_each(|flow_id| state.flows.remove(flow_id));
                    }
                    return event;
                }
            }
            flow_id
        };
        // Whatever this runs may ask for other lines.
        let event = self.read.bind(py).call1((line,))?;
        if let Some(flow_id) = flow_id {
            if event.get_type().is(&self.window) {
                self.lock().learn(&self.names, flow_id, text, &event);
            }
        }
        Ok(event)
    }

    /// How many lines were read again, how many flows are known, and what was forgotten for others.
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        let state = self.lock();
        BTreeMap::from([
            ("again", state.again_total),
            ("learned", state.learned_total),
            ("flows", state.flows.len() as u64),
            ("parts", (state.fields.len() + state.kinds.len()) as u64),
            ("flows_forgotten", state.flows.forgotten_total),
            ("flows_passed_over", state.flows.passed_over_total),
            ("parts_forgotten", state.fields.forgotten_total + state.kinds.forgotten_total),
        ])
    }
}

impl State {
    /// Keeps a window that was just read for those to come; nothing if its flow begins or ends, or its line does not plainly say what was read.
    fn learn(&mut self, names: &Names, flow_id: &[u8], line: &[u8], window: &Bound<'_, PyAny>) -> Option<()> {
        // Most flows that are short say one window.
        if window.getattr(names.numbers.first()?).ok()?.extract::<i64>().ok()? == 0 {
            return None;
        }
        // One that ends here says no more, and of too many none is worth it.
        if window.getattr(&names.is_final).ok()?.is_truthy().ok()? {
            self.flows.remove(flow_id);
            return None;
        }
        if self.flows.get(flow_id).is_none() && !self.flows.takes() {
            return None;
        }
        let mut learned = lines::learn(line)?;
        let mut values = Values::default();
        learned.shape.read(&learned.sets, line, &mut values)?;
        for (name, whole) in &learned.fields {
            self.share(line.get(name.clone())?, line.get(whole.clone())?, window)?;
        }
        let objects = window.getattr(&names.objects).ok()?.cast_into::<PyList>().ok()?;
        let mut kinds: Vec<Kind> = Vec::with_capacity(learned.sets.len());
        for (object, set) in objects.iter().zip(&values.sets) {
            if set.kind == kinds.len() {
                let shape = std::mem::take(learned.sets.get_mut(set.kind)?);
                kinds.push(self.kind(names, shape, &object)?);
            }
        }
        let known = Known::new(names, learned, kinds, line, &values, window)?;
        // What is made of it is what was read, or it is not known.
        let again = known.again(window.py(), names, line, &values).ok()?;
        for name in [&names.start_ns, &names.end_ns] {
            again.getattr(name).ok()?.eq(window.getattr(name).ok()?).ok()?.then_some(())?;
        }
        again.eq(window).ok()?.then_some(())?;
        self.learned_total += 1;
        self.remember(flow_id, known);
        Some(())
    }

    /// The field as it was read before, if it was said in the same words.
    fn share(&mut self, name: &[u8], whole: &[u8], window: &Bound<'_, PyAny>) -> Option<()> {
        // The kind is no field, and few others, if any, have the identities.
        if matches!(name, b"kind" | b"flow_id" | b"connection") || whole.ends_with(b":null") {
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
    fn kind(&mut self, names: &Names, shape: Shape, object: &Bound<'_, PyAny>) -> Option<Kind> {
        let py = object.py();
        if let Some(kind) = self.kinds.get(shape.text()) {
            if *kind.shape == shape {
                return Some(kind.share(py));
            }
        }
        let object = object.call_method0(&names.copy).ok()?;
        for name in &names.set_numbers {
            object.setattr(name, 0).ok()?;
        }
        let kind = Kind { shape: Arc::new(shape), object: object.unbind() };
        self.kinds.put(kind.shape.text(), kind.share(py), kind.shape.text().len());
        Some(kind)
    }

    /// Keeps the window for those to come; other kinds of sets that came in such windows stay known.
    fn remember(&mut self, flow_id: &[u8], mut known: Known) {
        if let Some(before) = self.flows.get(flow_id) {
            if before.shape == known.shape {
                for kind in before.kinds.drain(..) {
                    if known.kinds.len() < SETS_MAX && !known.kinds.iter().any(|one| one.shape == kind.shape) {
                        known.kinds.push(kind);
                    }
                }
            }
        }
        let size_bytes = known.shape.text().len();
        self.flows.put(flow_id, known, size_bytes);
    }
}

fn copy<'py>(names: &Names, of: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    of.call_method0(&names.copy).ok()
}

impl Known {
    /// Of what changes nothing is kept: what is not touched need not be near.
    fn new(names: &Names, learned: Learned, kinds: Vec<Kind>, line: &[u8], values: &Values, window: &Bound<'_, PyAny>) -> Option<Self> {
        let (window, py) = (copy(names, window)?, window.py());
        let (totals, completeness) = (window.getattr(&names.totals).ok()?, window.getattr(&names.completeness).ok()?);
        let (totals, completeness) = (copy(names, &totals)?, copy(names, &completeness)?);
        for name in [&names.event_id, &names.start, &names.end] {
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
        let statement = values.statement.clone().and_then(|place| line.get(place)).map(Into::into);
        let (window, totals, completeness) = (window.unbind(), totals.unbind(), completeness.unbind());
        Some(Self { shape: learned.shape, kinds, window, totals, completeness, statement })
    }

    /// The window that the line says.
    fn again<'py>(&self, py: Python<'py>, names: &Names, line: &[u8], values: &Values) -> PyResult<Bound<'py, PyAny>> {
        let window = self.window.bind(py).call_method0(&names.copy)?;
        let text = |place: &Range<usize>| {
            let text = line.get(place.clone()).unwrap_or_default();
            // A plain text is ASCII.
            PyString::new(py, std::str::from_utf8(text).unwrap_or_default())
        };
        window.setattr(&names.event_id, text(&values.event_id))?;
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
                if let Some(kind) = self.kinds.get(set.kind) {
                    sets.append(kind.again(py, names, set)?)?;
                }
            }
            window.setattr(&names.objects, sets)?;
        }
        Ok(window)
    }
}
