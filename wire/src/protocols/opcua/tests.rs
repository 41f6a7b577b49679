use super::*;
use crate::protocols::testing::{self, *};
use serde_json::Value;

/// A recording (`record.py`): what was said, and what the client itself counted.
fn recording(text: &str) -> (Script, HashMap<String, i64>) {
    let (mut script, mut ledger) = (Script::new(), HashMap::new());
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("c", hex)) => script.push((CLIENT, bytes(hex))),
            Some(("s", hex)) => script.push((SERVER, bytes(hex))),
            Some(("!", count)) => {
                let (name, count) = count.split_once(' ').unwrap();
                ledger.insert(name.to_owned(), count.parse().unwrap());
            }
            _ => {}
        }
    }
    (script, ledger)
}

macro_rules! recorded {
    ($name:literal) => {
        recording(include_str!(concat!("../../../../tests/data/opcua/", $name, ".opcua")))
    };
}

fn new() -> Box<dyn Decoder> {
    (OPCUA.decoder)(Options { facts: true, midstream: false })
}

fn total(events: &[Value], operation: &str, field: &str) -> i64 {
    events.iter().filter(|e| e["operation"] == operation).map(|e| e[field].as_i64().unwrap()).sum()
}

fn names(events: &[Value], operation: &str) -> Vec<String> {
    let mut names: Vec<String> = events
        .iter()
        .filter(|e| e["operation"] == operation)
        .flat_map(|e| e["objects"].as_array().unwrap().clone())
        .flat_map(|set| set["names"].as_array().unwrap().clone())
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

const SECRETS: &[&str] = &["correct-horse", "636f7272656374"];

#[test]
fn the_shared_checks_hold_on_every_recording() {
    for (script, _) in [
        recorded!("write"),
        recorded!("browse"),
        recorded!("subscribe"),
        recorded!("call"),
        recorded!("username"),
        recorded!("refused"),
        recorded!("sign-username"),
        recorded!("encrypted"),
    ] {
        assert_eq!(testing::recognise(&OPCUA, &script), Recognition::Yes { client: CLIENT });
        shared_checks(&OPCUA, &script, SECRETS);
    }
}

#[test]
fn a_read_over_many_chunks_counts_the_values_the_client_was_given() {
    let (script, ledger) = recorded!("read");
    let played = play_script(new(), &script);
    assert_eq!(played.error, None);
    assert_eq!(total(&played.events, "read", "values"), ledger["read.values"]);
    assert!(names(&played.events, "read").contains(&"ns=2;s=Line1/Telemetry/Wave".to_owned()));
    assert_conserved(&played);
}

#[test]
fn history_counts_the_values_over_all_continuation_points() {
    let (script, ledger) = recorded!("history");
    let played = play_script(new(), &script);
    assert_eq!(total(&played.events, "history-read", "values"), ledger["history-read.values"]);
    assert_eq!(total(&played.events, "history-read", "messages"), 2 * ledger["history-read.requests"]);
    assert_eq!(names(&played.events, "history-read"), ["ns=2;s=Line1/Telemetry/T00", "ns=2;s=Line1/Telemetry/T01"]);
}
