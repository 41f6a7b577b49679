//! Conversations recorded with a real server (`tests/data/mysql/record.py`), against the client's own ledger.

use super::*;
use crate::protocols::testing::{
    CLIENT, Played, Recording, assert_conserved, play_script, recognise as recognise_script, recordings, shared_checks,
};
use serde_json::Value;

fn all() -> Vec<Recording> {
    recordings().into_iter().filter(|r| r.protocol == "mysql").collect()
}

fn recording(name: &str) -> Recording {
    all().into_iter().find(|r| r.name == format!("{name}.json")).expect("the recording is there")
}

fn ledger(name: &str) -> BTreeMap<String, i64> {
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/mysql").join(name);
    let value: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let ledger = value["ledger"].as_object().unwrap();
    ledger.iter().map(|(k, v)| (k.clone(), v.as_i64().unwrap())).filter(|(_, n)| *n != 0).collect()
}

fn played_of(recording: &Recording) -> Played {
    let played = play_script(decoder(Options { facts: true, midstream: false }), &recording.script);
    assert_eq!(played.error, None, "{}", recording.name);
    assert_conserved(&played);
    played
}

fn played(name: &str) -> Played {
    played_of(&recording(name))
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
    for recording in all() {
        println!("{}", recording.name);
        let secrets: Vec<_> = recording.secrets.iter().map(String::as_str).collect();
        shared_checks(&MYSQL, &recording.script, &secrets);
    }
}

#[test]
fn rows_are_those_of_the_clients_own_ledger() {
    let mut wrong = Vec::new();
    for recording in all() {
        let (found, ledger) = (rows(&played_of(&recording)), ledger(&recording.name));
        if found != ledger {
            wrong.push(format!("{}: client {ledger:?}, found {found:?}", recording.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recording_is_recognised() {
    for recording in all() {
        assert_eq!(recognise_script(&MYSQL, &recording.script), Recognition::Yes { client: CLIENT }, "{}", recording.name);
    }
}

#[test]
fn objects_and_columns_are_those_that_the_server_names() {
    let of = |name: &str| sets(&played(name)).into_iter().filter(|s| s.3 != 0).map(|s| (s.0, s.1, s.2)).collect::<Vec<_>>();
    let set = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(of("plain-select"), [set("select", "mes.genealogy", "id part")]);
    assert_eq!(of("cursor"), [set("select", "mes.genealogy", "id part")]);
    assert_eq!(
        of("aliases"),
        [
            set("select", "mes.genealogy", "station"),
            set("select", "mes.genealogy", "part station"),
            set("select", "mes.genealogy mes.shown", "part"),
            set("select", "mes.shown", "part"),
        ]
    );
    assert_eq!(of("tableless"), [set("select", "", "now"), set("select", "unknown", "*")]);
    assert_eq!(of("databases")[1], set("select", "information_schema.TABLES", "TABLE_NAME"));
    assert_eq!(of("load")[0], set("copy", "mes.lots", "id note"));
    assert_eq!(
        of("dynamic"),
        [
            set("select", "mes.genealogy", "part"),
            set("select", "mes.genealogy", "id"),
            set("insert", "mes.lots mes.genealogy", "*"),
            set("delete", "mes.lots", "*"),
        ]
    );
}

#[test]
fn account_changes_name_the_account_and_the_change() {
    let admin: Vec<_> = sets(&played("accounts")).into_iter().map(|s| (s.0, s.1, s.2)).collect();
    let one = |names: &str, columns: &str| ("admin".to_owned(), names.to_owned(), columns.to_owned());
    assert_eq!(
        admin,
        [
            one("account:intruder", "create password"),
            one("account:intruder", "alter password"),
            one("account:intruder", "alter password"),
            one("account:intruder", "grant:select grant:update"),
            one("account:intruder", "grant:auditor"),
            one("account:intruder", "revoke:all revoke:grant"),
            one("account:intruder account:guest", "rename"),
            one("account:guest", "drop"),
        ]
    );
}

/// (operation, account, role, messages) of every flow.
fn who(name: &str) -> Vec<(String, String, String, i64)> {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let of = |e: &Value| (text(&e["operation"]), text(&e["account"]), text(&e["role"]), e["messages"].as_i64().unwrap());
    played(name).events.iter().map(of).collect()
}

#[test]
fn who_moves_the_data_is_the_account_that_logged_in_or_was_changed_to() {
    let select = |account: &str, role: &str| ("select".to_owned(), account.to_owned(), role.to_owned(), 1);
    let selects = |name: &str| who(name).into_iter().filter(|flow| flow.0 == "select").collect::<Vec<_>>();
    assert_eq!(selects("change-user"), [select("reader", ""), select("second", "")]);
    assert_eq!(selects("roles"), [select("reader", "auditor"), select("reader", "")]);
    assert!(who("change-user-fails").contains(&("refused".into(), "second".into(), String::new(), 1)));
    assert!(who("login-fails").contains(&("refused".into(), "reader".into(), String::new(), 1)));
    let played = played("no-password");
    assert_eq!(played.events[0]["protection"]["authentication"], "none");
    assert_eq!(played.events[0]["application"], "report");
}

#[test]
fn access_denied_is_refused_and_other_errors_are_not() {
    let refused: Vec<_> = sets(&played("errors")).into_iter().filter(|s| s.0 == "refused").map(|s| s.1).collect();
    assert_eq!(refused, ["mes.nowhere", "mes.hidden", "mes.hidden", "mes.orders"]);
    assert_eq!(played("errors").facts["mysql"]["error_count"], 5);
}

#[test]
fn request_to_encrypt_hands_over_to_tls() {
    let played = played("encrypted");
    assert_eq!(played.facts["mysql"]["ssl_requested"], true);
    assert!(played.facts.contains_key("tls"));
    let last = played.events.last().unwrap();
    assert_eq!((last["protocol"].as_str(), last["depth"].as_str()), (Some("mysql"), Some("sizes")));
    assert!(last["protection"]["transport"].as_str().unwrap().starts_with("tls1."));
}

#[test]
fn what_is_written_to_a_file_of_the_server_is_marked_and_moves_no_rows() {
    let played = played("outfile");
    let marks: Vec<_> =
        played.events.iter().flat_map(|e| e["objects"].as_array().unwrap()).map(|set| (&set["marks"], &set["rows"])).collect();
    assert!(marks.contains(&(&serde_json::json!(["to-file"]), &serde_json::json!(0))), "{marks:?}");
}
