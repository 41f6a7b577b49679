//! Lines that are read by what others of their kind said: what is read is what the plain reader reads.

use crate::input::Pieces;
use hopwatch_wire::lines::{self, End, NUMBERS, Part, SET_NUMBERS, Values};
use hopwatch_wire::protocols::testing::{self, Recording, Step};
use hopwatch_wire::protocols::{Options, TCP};
use hopwatch_wire::windows::rfc3339;
use serde_json::Value;
use std::ops::Range;

/// Real windows to begin with: those of every recording.
pub fn windows(recordings: &[Recording]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for recording in recordings {
        let Some(protocol) = TCP.iter().find(|protocol| protocol.name == recording.protocol) else { continue };
        let steps: Vec<_> = recording.script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
        lines.extend(testing::feed(&mut *(protocol.decoder)(Options::default()), &steps).lines);
    }
    lines.retain(|line| line.starts_with(b"{\"kind\":\"flow\""));
    lines
}

/// An input is the number of a window, and edits of its line: the place (16 bits), how many bytes go, and what comes instead. The first
/// bit of an edit's control byte says that the line learnt from has it not; the second that the place is the number of a value, all of which goes.
///
/// A line that the shape of another reads is JSON, and says what the other says but for what was read.
pub fn alike(windows: &[Vec<u8>], data: &[u8]) {
    let &[low, high, ref edits @ ..] = data else { return };
    let Some(window) = windows.get(usize::from(u16::from_le_bytes([low, high])) % windows.len().max(1)) else { return };
    let edited = |mut line: Vec<u8>, late: bool| {
        for (control, edit) in Pieces(edits).filter(|(control, _)| (control & 1 != 0) == late) {
            let &[low, high, removed, ref put @ ..] = edit else { continue };
            let place = usize::from(u16::from_le_bytes([low, high]));
            let goes = if control & 2 == 0 {
                let start = place % (line.len() + 1);
                start..line.len().min(start + usize::from(removed))
            } else {
                value(&line, place)
            };
            line.splice(goes, put.iter().copied());
        }
        line
    };
    let before = edited(window.clone(), false);
    let after = edited(before.clone(), true);
    let Some(learned) = lines::learn(&before) else { return };
    let (mut own, mut read) = (Values::default(), Values::default());
    if learned.shape.read(&learned.sets, &after, &mut read).is_none() {
        return;
    }
    // Nothing is learnt of a line that the plain reader refuses, or that does not say again what it said.
    if learned.shape.read(&learned.sets, &before, &mut own).is_none() {
        return;
    }
    // An end with names is known by its bytes, or read elsewhere.
    for (end, was) in [(&read.source, &own.source), (&read.destination, &own.destination)] {
        if end.plain.is_none() && after[end.text.clone()] != before[was.text.clone()] {
            return;
        }
    }
    let Ok(plain) = serde_json::from_slice::<Value>(&before) else { return };
    if said(&plain, &before, &own, &own, &learned.present).as_ref() != Some(&plain) {
        return;
    }
    let expected = said(&plain, &after, &own, &read, &learned.present).expect("a known kind of set");
    let found: Value = serde_json::from_slice(&after).expect("a line that was read is JSON");
    assert!(found == expected, "read as {expected}, which is {found}");
    for time in [&read.start, &read.end] {
        let (written, text) = (rfc3339(time.time_ns), word(&after, &time.text));
        let plain =
            |text: &str| text.trim_end_matches('Z').trim_end_matches(|c| c == '0' && text.contains('.')).trim_end_matches('.').to_owned();
        assert_eq!(plain(&written), plain(text), "{text}");
    }
}

/// The window with what was read of a line in the place of its own; None if its object sets are not those that its shape read.
fn said(window: &Value, line: &[u8], own: &Values, read: &Values, present: &[bool]) -> Option<Value> {
    let mut made = window.clone();
    let fields = made.as_object_mut()?;
    let mut put = |name: &str, value: Value| {
        if let Some(field) = fields.get_mut(name) {
            *field = value;
        }
    };
    for (name, place) in [("event_id", &read.event_id), ("connection", &read.connection), ("flow_id", &read.flow_id)] {
        put(name, word(line, place).into());
    }
    for (name, end) in [("source", &read.source), ("destination", &read.destination)] {
        put(name, said_end(line, end)?);
    }
    put("statement", read.statement.as_ref().map_or(Value::Null, |place| word(line, place).into()));
    put("start", word(line, &read.start.text).into());
    put("end", word(line, &read.end.text).into());
    put("final", read.is_final.into());
    let sets = window.get("objects").and_then(Value::as_array);
    if sets.map_or(0, Vec::len) != own.sets.len() {
        return None;
    }
    let mut made_sets = Vec::new();
    for set in &read.sets {
        let known = own.sets.iter().position(|one| one.kind == set.kind)?;
        let mut object = sets?.get(known)?.clone();
        for ((name, _), number) in SET_NUMBERS.iter().zip(&set.numbers) {
            *object.get_mut(name)? = (*number).into();
        }
        made_sets.push(object);
    }
    put("objects", made_sets.into());
    for (((part, name, _), number), _) in NUMBERS.iter().zip(&read.numbers).zip(present).filter(|(_, present)| **present) {
        let of = match part {
            Part::Window => &mut made,
            Part::Totals => made.get_mut("totals")?,
            Part::Completeness => made.get_mut("completeness")?,
        };
        *of.get_mut(name)? = (*number).into();
    }
    Some(made)
}

/// What is read of an end.
fn said_end(line: &[u8], end: &End) -> Option<Value> {
    let Some((address, port)) = &end.plain else { return serde_json::from_slice(&line[end.text.clone()]).ok() };
    Some(serde_json::json!({"address": word(line, address), "port": port, "names": []}))
}

fn word<'a>(line: &'a [u8], place: &Range<usize>) -> &'a str {
    std::str::from_utf8(&line[place.clone()]).expect("ASCII")
}

/// Where a value of the line is: the one behind so many colons that stand between values, or as many as there are, again and again.
fn value(line: &[u8], number: usize) -> Range<usize> {
    let starts: Vec<_> = (2..).zip(line.windows(2)).filter(|(_, before)| **before == *b"\":").map(|(at, _)| at).collect();
    let Some(&start) = starts.get(number % starts.len().max(1)) else { return 0..0 };
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in line.iter().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b',' | b'}' | b']' if depth == 0 => return start..at,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    start..line.len()
}
