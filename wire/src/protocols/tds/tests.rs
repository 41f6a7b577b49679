//! Conversations of real servers and clients, and what the specification says of what none of them does.

use super::*;
use crate::protocols::testing::{self, CLIENT, Played, Recording, recognise as recognise_script, recordings_of, shared_checks};

fn all() -> Vec<Recording> {
    recordings_of("tds")
}

fn played(name: &str) -> Played {
    testing::played(&TDS, &testing::recording("tds", name))
}

/// `operation names [columns] rows messages` of every object set, summed.
fn sets(played: &Played) -> Vec<String> {
    let mut sums: BTreeMap<String, [i64; 2]> = BTreeMap::new();
    for e in &played.events {
        for set in e["objects"].as_array().unwrap() {
            let join = |v: &Value| v.as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect::<Vec<_>>().join(" ");
            let key = format!("{} {} [{}]", e["operation"].as_str().unwrap(), join(&set["names"]), join(&set["columns"]));
            let sum = sums.entry(key).or_default();
            sum[0] += set["rows"].as_i64().unwrap();
            sum[1] += set["messages"].as_i64().unwrap();
        }
    }
    sums.into_iter().map(|(key, [rows, messages])| format!("{key} {rows} {messages}")).collect()
}

#[test]
fn every_recording_passes_the_shared_checks() {
    for recording in all() {
        println!("{}", recording.name);
        let secrets: Vec<_> = recording.secrets.iter().map(String::as_str).collect();
        shared_checks(&TDS, &recording.script, &secrets);
    }
}

#[test]
fn rows_are_those_of_the_clients_own_ledger() {
    let mut wrong = Vec::new();
    for recording in all() {
        let found = testing::played(&TDS, &recording).rows();
        if found != recording.ledger {
            wrong.push(format!("{}: client {:?}, found {found:?}", recording.name, recording.ledger));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recording_is_recognised() {
    for recording in all() {
        assert_eq!(recognise_script(&TDS, &recording.script), Recognition::Yes { client: CLIENT }, "{}", recording.name);
    }
}

#[test]
fn what_follows_an_encrypted_login_is_read_and_its_account_is_not_known() {
    let select = played("encrypted-login-select");
    assert_eq!(select.facts["tls"]["client_hellos"][0]["sni"], "localhost");
    assert_eq!(sets(&select), ["select master..inventory [id name quantity] 1 1"]);
    let said: Vec<_> =
        select.events.iter().map(|e| (e["operation"].as_str().unwrap(), e["protection"]["transport"].as_str().unwrap())).collect();
    assert_eq!(said, [("connect", "tls1.2"), ("transfer", "tls1.2"), ("connect", "none"), ("select", "none")]);
    let last = select.events.last().unwrap();
    assert_eq!((&last["account"], last["account_from"].as_str()), (&Value::Null, Some("unknown")));
    assert_eq!((last["completeness"]["state"].as_str(), last["depth"].as_str()), (Some("complete"), Some("decoded")));
    assert_eq!(sets(&played("encrypted-login-insert")), ["insert master..inventory [*] 1 1"]);
}

#[test]
fn account_of_a_windows_login_is_that_of_its_ntlm_message() {
    let ntlm = played("ntlm");
    let who: Vec<_> = ntlm.events.iter().map(|e| (e["account"].as_str(), e["account_from"].as_str().unwrap())).collect();
    assert_eq!(who, [(Some("TDSDOM\\mona"), "token")]);
    assert_eq!(ntlm.events[0]["protection"]["authentication"], "ntlm");
}
