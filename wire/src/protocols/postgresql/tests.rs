//! Conversations recorded with a real server (`tests/data/postgresql/record.py`), against the client's own ledger.

use super::*;
use crate::protocols::testing::{
    CLIENT, Played, SERVER, Script, assert_conserved, bytes, play_script, recognise as recognise_script, shared_checks,
};
use std::path::PathBuf;

struct Recording {
    name: String,
    script: Script,
    ledger: BTreeMap<String, i64>,
    secrets: Vec<String>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/postgresql")
}

fn recording(name: &str) -> Recording {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).expect("the recording is there");
    let value: Value = serde_json::from_str(&text).unwrap();
    let strings = |v: &Value| v.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let script = value["script"].as_array().unwrap().iter().map(|piece| {
        let side = if piece[0] == "client" { CLIENT } else { SERVER };
        (side, bytes(piece[1].as_str().unwrap()))
    });
    Recording {
        name: name.into(),
        script: script.collect(),
        ledger: value["ledger"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.as_i64().unwrap())).collect(),
        secrets: strings(&value["secrets"]),
    }
}

fn names() -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|f| f.unwrap().file_name().to_str().and_then(|n| n.strip_suffix(".json")).map(str::to_owned))
        .collect();
    names.sort();
    names
}

fn played(name: &str) -> Played {
    let played = play_script(decoder(Options { facts: true, midstream: false }), &recording(name).script);
    assert_eq!(played.error, None, "{name}");
    assert_conserved(&played);
    played
}

/// Rows by operation.
fn rows(played: &Played) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    for e in &played.events {
        *rows.entry(e["operation"].as_str().unwrap().to_owned()).or_default() += e["rows"].as_i64().unwrap();
    }
    rows.retain(|_, n| *n != 0);
    rows
}

/// (operation, names, columns, rows, messages) of every object set.
fn sets(played: &Played) -> Vec<(String, String, String, i64, i64)> {
    let mut sets = Vec::new();
    for e in &played.events {
        for set in e["objects"].as_array().unwrap() {
            let join = |v: &Value| v.as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect::<Vec<_>>().join(" ");
            sets.push((
                e["operation"].as_str().unwrap().to_owned(),
                join(&set["names"]),
                join(&set["columns"]),
                set["rows"].as_i64().unwrap(),
                set["messages"].as_i64().unwrap(),
            ));
        }
    }
    sets
}

#[test]
fn every_recording_passes_the_shared_checks() {
    for name in names() {
        let recording = recording(&name);
        let secrets: Vec<_> = recording.secrets.iter().map(String::as_str).collect();
        shared_checks(&POSTGRESQL, &recording.script, &secrets);
    }
}

#[test]
fn rows_are_those_of_the_clients_own_ledger() {
    let mut wrong = Vec::new();
    for name in names() {
        let recording = recording(&name);
        // A second connection of a scenario (cancel) has no rows.
        let second = name.rsplit('-').next().is_some_and(|n| n.parse::<u32>().is_ok());
        let mut ledger = if second { BTreeMap::new() } else { recording.ledger };
        ledger.retain(|_, n| *n != 0);
        let found = rows(&played(&name));
        if found != ledger && name != "backup" {
            wrong.push(format!("{}: client {ledger:?}, found {found:?}", recording.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recording_is_recognised() {
    for name in names() {
        assert_eq!(recognise_script(&POSTGRESQL, &recording(&name).script), Recognition::Yes { client: CLIENT }, "{name}");
    }
}

#[test]
fn objects_and_columns_are_those_of_the_statement() {
    let of = |name: &str| sets(&played(name)).into_iter().filter(|s| s.3 != 0).map(|s| (s.0, s.1, s.2)).collect::<Vec<_>>();
    let set = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(of("plain-select"), [set("select", "mes.genealogy", "id part")]);
    assert_eq!(of("search-path"), [set("select", "mes.genealogy", "id part station")]);
    assert_eq!(of("tableless"), [set("select", "", "now"), set("select", "unknown", "n")]);
    assert_eq!(of("cursor"), [set("select", "mes.genealogy", "id station")]);
    assert_eq!(of("copy-query"), [set("copy", "mes.genealogy", "id part")]);
}

#[test]
fn account_changes_name_the_account_and_the_change() {
    let admin: Vec<_> = sets(&played("accounts")).into_iter().map(|s| (s.0, s.1, s.2)).collect();
    let columns = [
        "create grant:login password",
        "alter grant:superuser password",
        "grant:auditor",
        "grant:select grant:update",
        "revoke:all",
        "drop",
    ];
    let expected: Vec<_> = columns.map(|c| ("admin".to_owned(), "account:intruder".to_owned(), c.to_owned())).into();
    assert_eq!(admin, expected);
}

#[test]
fn a_role_holds_from_its_confirmation_until_reset_or_rollback() {
    let selects: Vec<_> =
        played("roles").events.iter().filter(|e| e["operation"] == "select").map(|e| (e["role"].clone(), e["rows"].clone())).collect();
    assert_eq!(selects, [(json!("auditor"), json!(5)), (Value::Null, json!(2)), (Value::Null, json!(1))]);
}

#[test]
fn a_missing_privilege_is_refused_and_another_error_stays_with_its_statement() {
    let sets = sets(&played("errors"));
    let of = |operation: &str| sets.iter().filter(|s| s.0 == operation).map(|s| s.1.as_str()).collect::<Vec<_>>();
    assert_eq!(of("refused"), ["mes.orders"]);
    assert_eq!(of("select"), ["mes.nothing", "", "mes.genealogy"]);
}
