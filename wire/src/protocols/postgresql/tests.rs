//! Conversations recorded with a real server (`tests/data/postgresql/record.py`), against the client's own ledger.

use super::*;
use crate::protocols::testing::{
    self, CLIENT, Played, Recording, SERVER, Script, Step, assert_conserved, play, play_script, recognise as recognise_script,
    recordings_of, shared_checks,
};
use crate::windows::{ConnectionId, Endpoint, Opening, Windows};

fn all() -> Vec<Recording> {
    recordings_of("postgresql")
}

fn played(name: &str) -> Played {
    testing::played(&POSTGRESQL, &recording(name))
}

fn recording(name: &str) -> Recording {
    testing::recording("postgresql", name)
}

#[test]
fn every_recording_passes_the_shared_checks() {
    for recording in all() {
        println!("{}", recording.name);
        let secrets: Vec<_> = recording.secrets.iter().map(String::as_str).collect();
        shared_checks(&POSTGRESQL, &recording.script, &secrets);
    }
}

/// A hundred thousand of them may be open.
#[test]
fn a_decoder_takes_five_lines_of_the_cache() {
    assert!(size_of::<Postgresql>() <= 5 * 64);
}

#[test]
fn rows_are_those_of_the_clients_own_ledger() {
    let mut wrong = Vec::new();
    for recording in all() {
        // A second connection of a scenario (cancel) has no rows.
        let second = recording.name.trim_end_matches(".json").rsplit('-').next().is_some_and(|n| n.parse::<u32>().is_ok());
        let ledger = if second { &BTreeMap::new() } else { &recording.ledger };
        let found = testing::played(&POSTGRESQL, &recording).rows();
        if found != *ledger {
            wrong.push(format!("{}: client {ledger:?}, found {found:?}", recording.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recording_is_recognised() {
    for recording in all() {
        assert_eq!(recognise_script(&POSTGRESQL, &recording.script), Recognition::Yes { client: CLIENT }, "{}", recording.name);
    }
}

#[test]
fn objects_and_columns_are_those_of_the_statement() {
    let of = |name: &str| played(name).sets().into_iter().filter(|s| s.3 != 0).map(|s| (s.0, s.1, s.2)).collect::<Vec<_>>();
    let set = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(of("plain-select"), [set("select", "mes.genealogy", "id part")]);
    assert_eq!(of("search-path"), [set("select", "mes.genealogy", "id part station")]);
    assert_eq!(of("tableless"), [set("select", "", "now"), set("select", "unknown", "n")]);
    assert_eq!(of("cursor"), [set("select", "mes.genealogy", "id station")]);
    assert_eq!(of("copy-query"), [set("copy", "mes.genealogy", "id part")]);
}

/// A server describes a column by the name it is returned under; the text says which it is.
#[test]
fn no_name_a_column_is_returned_under_hides_it() {
    let told = played("aliases").sets();
    let moved: Vec<_> = told.iter().filter(|s| s.1 == "mes.genealogy" && s.3 != 0).collect();
    assert_eq!(moved.iter().map(|s| s.3).sum::<i64>(), 25);
    for set in moved {
        assert!(set.2.split(' ').any(|column| column == "station"), "{set:?}");
    }
}

#[test]
fn account_changes_name_the_account_and_the_change() {
    let admin: Vec<_> = played("accounts").sets().into_iter().map(|s| (s.0, s.1, s.2)).collect();
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
    let sets = played("errors").sets();
    let of = |operation: &str| sets.iter().filter(|s| s.0 == operation).map(|s| s.1.as_str()).collect::<Vec<_>>();
    assert_eq!(of("refused"), ["mes.orders"]);
    assert_eq!(of("select"), ["mes.nothing", "", "mes.genealogy"]);
}

/// A message with a tag.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

pub(super) fn complete(tag: &str) -> Vec<u8> {
    [message(b'C', &[tag.as_bytes(), b"\0"].concat()), message(b'Z', b"I")].concat()
}

/// A row of one column that holds `1`.
pub(super) fn row() -> Vec<u8> {
    message(b'D', &[0, 1, 0, 0, 0, 1, b'1'])
}

/// The answer of a SELECT of one column `id`.
pub(super) fn selected(rows: usize) -> Vec<u8> {
    let description = message(b'T', &[&[0, 1][..], b"id\0", &[0; 18]].concat());
    [description, row().repeat(rows), complete("SELECT 1")].concat()
}

/// A session of `reader` up to its first ReadyForQuery.
pub(super) fn opened() -> Script {
    let body = [&196_608_u32.to_be_bytes()[..], b"user\0reader\0\0"].concat();
    let startup = [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat();
    vec![(CLIENT, startup), (SERVER, [message(b'R', &[0; 4]), message(b'Z', b"I")].concat())]
}

fn steps(script: &Script) -> Vec<Step<'_>> {
    script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect()
}

/// (names, rows) of the object sets that have rows.
fn named_rows(played: &Played) -> Vec<(String, i64)> {
    played.sets().into_iter().filter(|s| s.3 != 0).map(|s| (s.1, s.3)).collect()
}

fn new(midstream: bool) -> Box<dyn Decoder> {
    decoder(Options { facts: true, midstream })
}

#[test]
fn rows_behind_a_gap_are_unknown_until_the_server_is_ready() {
    let opening = opened();
    let (first, second) = (query("SELECT id FROM mes.a"), query("SELECT id FROM mes.b"));
    let (lost, later, after) = (row().repeat(3), [row().repeat(4), complete("SELECT 9")].concat(), selected(5));
    let mut played_steps = steps(&opening);
    let description = message(b'T', &[&[0, 1][..], b"id\0", &[0; 18]].concat());
    played_steps.extend([
        Step::Data(CLIENT, &first),
        Step::Data(SERVER, &description),
        Step::Data(SERVER, &later[..row().len()]),
        Step::Gap(SERVER, lost.len() as u64),
        Step::Data(SERVER, &later),
        Step::Data(CLIENT, &second),
        Step::Data(SERVER, &after),
    ]);
    let played = play(new(false), &played_steps);
    assert_eq!(played.error, None);
    assert_conserved(&played);
    let mut found = named_rows(&played);
    found.sort();
    assert_eq!(found, [("mes.a".into(), 1), ("mes.b".into(), 5), ("unknown".into(), 4)]);
    assert!(played.events.iter().all(|e| e["account"] == "reader"), "the account outlives a gap");
}

#[test]
fn joined_midway_rows_count_and_no_account_is_invented() {
    let script =
        vec![(SERVER, [row().repeat(3), complete("SELECT 8")].concat()), (CLIENT, query("SELECT id FROM mes.a")), (SERVER, selected(2))];
    let played = play(new(true), &steps(&script));
    assert_eq!(played.error, None);
    assert_conserved(&played);
    let mut found = named_rows(&played);
    found.sort();
    assert_eq!(found, [("mes.a".into(), 2)]);
    // Any statement may have returned the first ones.
    assert_eq!(played.rows(), BTreeMap::from([("select".into(), 2), ("transfer".into(), 3)]));
    assert!(played.events.iter().all(|e| e["account"].is_null() && e["role"].is_null()));
}

/// Plays on windows of the test's own: rows by name, and how often a bound was reached.
/// Windows of one sensor, and a connection of it whose client has this port.
pub(super) fn opened_in(windows: &mut Windows, port: u16) -> ConnectionId {
    let end = |port| Endpoint { address: "10.0.0.1".parse().unwrap(), port };
    windows.open(Opening {
        client: end(port),
        server: end(4000),
        opened_by: Some(CLIENT),
        transport: Arc::from("tcp"),
        tap: None,
        context: None,
        seen_by: "tap",
        first_ns: FIRST_NS,
    })
}

const FIRST_NS: i64 = 1_775_000_000_000_000_000;

pub(super) fn say(windows: &mut Windows, id: ConnectionId, decoder: &mut dyn Decoder, script: &[(Side, Vec<u8>)]) {
    for (side, bytes) in script {
        let mut out = windows.recorder(id, FIRST_NS);
        out.arrived(*side, bytes.len() as u64);
        decoder.data(*side, bytes, &mut out).unwrap();
    }
}

fn bounds_of(script: &Script) -> u64 {
    let mut windows = Windows::new("north", "test");
    let id = opened_in(&mut windows, 50_000);
    let mut decoder = new(false);
    say(&mut windows, id, &mut *decoder, script);
    decoder.close(&mut windows.recorder(id, FIRST_NS));
    windows.counters.bounds_reached_total
}

#[test]
fn more_requests_than_are_kept_make_unknown_rows_and_are_reported() {
    let parse = message(b'P', b"\0SELECT id FROM mes.a\0\0\0");
    let run = [message(b'B', &[0; 8]), message(b'E', &[0; 5])].concat();
    let pipelined = |n: usize| {
        let requests = [parse.clone(), run.repeat(n), message(b'S', b"")].concat();
        let one = [message(b'2', b""), row(), message(b'C', b"SELECT 1\0")].concat();
        let mut script = opened();
        script.push((CLIENT, requests));
        script.push((SERVER, [message(b'1', b""), one.repeat(n), message(b'Z', b"I")].concat()));
        script.push((CLIENT, query("SELECT id FROM mes.b")));
        script.push((SERVER, selected(2)));
        script
    };
    let n = REQUESTS_MAX / 2;
    let rows_of = |n: usize| {
        let played = play(new(false), &steps(&pipelined(n)));
        assert_conserved(&played);
        let mut found = named_rows(&played);
        found.sort();
        (found, played.rows().get("transfer").copied())
    };
    let all = |n: usize| i64::try_from(n).unwrap();
    assert_eq!(rows_of(n - 1), (vec![("mes.a".into(), all(n - 1)), ("mes.b".into(), 2)], None));
    assert_eq!(bounds_of(&pipelined(n - 1)), 0);
    assert_eq!(rows_of(n), (vec![("mes.b".into(), 2)], Some(all(n))));
    assert_eq!(bounds_of(&pipelined(n)), 1);
}

#[test]
fn statements_of_a_cut_text_or_without_a_name_kept_are_reported() {
    let mut script = opened();
    script.push((CLIENT, query(&format!("SELECT id FROM mes.a WHERE id IN ({}1)", "1,".repeat(SQL_BYTES_MAX)))));
    script.push((SERVER, selected(1)));
    assert_eq!(bounds_of(&script), 1);
    assert_eq!(named_rows(&play(new(false), &steps(&script))), [("mes.a unknown".into(), 1)]);

    let mut script = opened();
    for n in 0..=NAMED_MAX {
        script.push((CLIENT, message(b'P', format!("s{n}\0SELECT 1\0\0\0").as_bytes())));
        script.push((CLIENT, message(b'S', b"")));
        script.push((SERVER, [message(b'1', b""), message(b'Z', b"I")].concat()));
    }
    assert_eq!(bounds_of(&script), 1);
}

#[test]
fn a_running_copy_in_is_estimated_by_lines_and_corrected_at_its_end() {
    let mut script = opened();
    script.push((CLIENT, query("COPY mes.a (id, part) FROM STDIN (FORMAT csv, HEADER)")));
    script.push((SERVER, message(b'G', &[0, 0, 2, 0, 0, 0, 0])));
    script.push((CLIENT, message(b'd', b"id,part\n1,\"two\nlines\"\n2,\"two\nlines\"\n")));
    let running = play(new(false), &steps(&script));
    assert_eq!(named_rows(&running), [("mes.a".into(), 4)]);
    let copy = |played: &Played| played.events.iter().find(|e| e["operation"] == "copy").cloned().unwrap();
    assert_eq!(copy(&running)["completeness"]["estimated"], true);
    script.push((CLIENT, message(b'c', b"")));
    script.push((SERVER, complete("COPY 2")));
    let ended = play(new(false), &steps(&script));
    assert_eq!(named_rows(&ended), [("mes.a".into(), 2)]);
    assert_conserved(&ended);
}

#[test]
fn the_authentication_is_the_one_that_the_client_answered_with() {
    let expected = [
        ("plain-select", "trust"),
        ("login-password", "password"),
        ("login-md5", "md5"),
        ("login-scram", "scram-sha-256"),
        ("login-fails", "scram-sha-256"),
    ];
    for (name, authentication) in expected {
        let played = played(name);
        let last = played.events.last().unwrap();
        assert_eq!(last["protection"]["authentication"], authentication, "{name}");
        assert_eq!(last["protection"]["transport"], "none", "{name}");
    }
    let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    let chose = |mechanism: &str| {
        let mut script = vec![opened().remove(0), (SERVER, offer.clone())];
        script.push((CLIENT, message(b'p', format!("{mechanism}\0\0\0\0\x04n,,x").as_bytes())));
        script.push((SERVER, [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()));
        play(new(false), &steps(&script)).events.last().unwrap()["protection"]["authentication"].clone()
    };
    assert_eq!(chose("SCRAM-SHA-256"), "scram-sha-256");
    assert_eq!(chose("SCRAM-SHA-256-PLUS"), "scram-sha-256-plus");
    // What was not offered is not told.
    assert_eq!(chose("hunter2"), "scram-sha-256-plus");
}

#[test]
fn a_login_that_fails_is_refused_and_names_who_tried() {
    let played = played("login-fails");
    let refused: Vec<_> = played.events.iter().filter(|e| e["operation"] == "refused").collect();
    assert_eq!(refused.len(), 1);
    assert_eq!((&refused[0]["account"], &refused[0]["messages"]), (&json!("scram_user"), &json!(1)));
    assert_eq!(played.facts["postgresql"]["sqlstates"], json!(["28P01"]));
}

#[test]
fn encryption_that_the_server_refuses_leaves_the_session_readable() {
    let played = played("refused-encryption");
    let facts = &played.facts["postgresql"];
    assert_eq!((&facts["ssl_requested"], &facts["ssl_response"], &facts["user"]), (&json!(true), &json!("N"), &json!("reader")));
    assert_eq!(named_rows(&played), [("mes.genealogy".into(), 2)]);
}

#[test]
fn a_cancelled_statement_and_the_request_to_cancel_it_are_told_apart() {
    let cancelled = played("cancel");
    assert_eq!(cancelled.facts["postgresql"]["sqlstates"], json!(["57014"]));
    assert!(cancelled.events.iter().any(|e| e["operation"] == "select" && e["messages"] == 1 && e["rows"] == 0));
    assert!(cancelled.events.iter().all(|e| e["operation"] != "refused"));
    let request = played("cancel-2");
    assert_eq!(request.facts["postgresql"]["cancel_request"], true);
    assert!(request.events.iter().all(|e| e["operation"] == "connect" && e["account"].is_null()));
}

#[test]
fn a_notification_is_published_and_delivered_under_its_channel() {
    let mut told: Vec<_> = played("notify").sets().into_iter().map(|s| (s.0, s.1, s.4)).collect();
    told.sort();
    // LISTEN itself, and what was delivered of it.
    let expected = [("publish", 1), ("subscribe", 1), ("subscribe", 1)];
    assert_eq!(told, expected.map(|(operation, messages)| (operation.to_owned(), "line_stop".to_owned(), messages)));
    let text = serde_json::to_string(&played("notify").events).unwrap();
    assert!(!text.contains("synthetic payload"));
}

#[test]
fn replication_and_backup_are_told_with_their_bytes() {
    let replicated = played("replication").sets();
    assert!(replicated.iter().any(|s| s.0 == "replicate" && s.1 == "slot:tap" && s.4 > 0), "{replicated:?}");
    let backup = played("backup");
    let bytes: i64 = backup.events.iter().filter(|e| e["operation"] == "backup").map(|e| e["bytes"].as_i64().unwrap()).sum();
    let sent = i64::try_from(backup.stream_bytes[1]).unwrap();
    assert!(bytes > 60_000 && bytes <= sent, "{bytes} of {sent}");
    assert!(backup.events.iter().all(|e| e["account"] == "postgres" && e["application"] == "pg_basebackup" || e["operation"] == "connect"));
}

/// Zeek's `bad-startup-message-1`: the length counts 3 bytes, and the server answers with an error.
#[test]
fn a_startup_that_the_server_cannot_read_is_refused_and_names_nobody() {
    let script =
        vec![(CLIENT, [&[0, 0, 0, 3, 0, 3, 0, 0][..], b"user\0zeek\0\0"].concat()), (SERVER, message(b'E', b"SINFO\0MTest Error\0\0"))];
    shared_checks(&POSTGRESQL, &script, &["zeek"]);
    assert_eq!(recognise_script(&POSTGRESQL, &script), Recognition::Yes { client: CLIENT });
    let played = play_script(new(false), &script);
    assert_eq!(played.error, None);
    let refused: Vec<_> = played.events.iter().filter(|e| e["operation"] == "refused").collect();
    assert_eq!((refused.len(), &refused[0]["messages"], &refused[0]["account"]), (1, &json!(1), &Value::Null));
    let facts = &played.facts["postgresql"];
    assert_eq!((&facts["user"], &facts["error_count"], &facts["sqlstates"]), (&Value::Null, &json!(1), &json!([null])));

    // As short a length before anything else is no PostgreSQL.
    for other in [&b"\0\0\0\x03\0\x03\0\0\0\0\0\0\0\0"[..], b"\0\0\0\x03\0\x03\0\x01user\0x", b"\0\0\0\x07\0\x03\0\0usex\0"] {
        assert_eq!(recognise_script(&POSTGRESQL, &vec![(CLIENT, other.to_vec())]), Recognition::No, "{other:?}");
    }
    assert_eq!(recognise_script(&POSTGRESQL, &vec![(CLIENT, b"\0\0\0\x03\0\x03\0\0us".to_vec())]), Recognition::More);
}

/// A walsender's stream: what it was asked for, and CopyData messages with these bodies.
fn logical(command: &str, bodies: &[Vec<u8>]) -> Script {
    let ready = [message(b'R', &0_u32.to_be_bytes()), message(b'Z', b"I")].concat();
    let copies = bodies.iter().flat_map(|body| message(b'd', body));
    let stream = message(b'W', &[0, 0, 0]).into_iter().chain(copies).collect();
    let startup = b"\0\x03\0\0user\0svc_cdc\0replication\0database\0\0";
    let length = u32::try_from(startup.len() + 4).unwrap().to_be_bytes();
    vec![
        (CLIENT, [&length[..], startup].concat()),
        (SERVER, ready),
        (CLIENT, message(b'Q', format!("{command}\0").as_bytes())),
        (SERVER, stream),
        (CLIENT, [message(b'd', &[b'r'; 34]), message(b'c', b"")].concat()),
        (SERVER, [message(b'c', b""), message(b'C', b"COPY 0\0"), message(b'Z', b"I")].concat()),
    ]
}

fn xlog_data(change: &[u8]) -> Vec<u8> {
    [&b"w"[..], &[0; 24], change].concat()
}

fn relation(number: u32, name: &str) -> Vec<u8> {
    [&number.to_be_bytes()[..], b"mes\0", name.as_bytes(), b"\0d\0\x02\x01id\0", &[0; 8], b"\0line\0", &[0; 8]].concat()
}

#[test]
fn each_change_of_a_logical_stream_is_a_row_of_its_table() {
    let change = |tag: u8, number: u32| xlog_data(&[&[tag][..], &number.to_be_bytes(), b"N\0\x01t\0\0\0\x011"].concat());
    let described = |number, name| xlog_data(&[&b"R"[..], &relation(number, name)].concat());
    let keep_alive = [&b"k"[..], &[0; 17]].concat();
    let bodies = [
        xlog_data(&[b'B'; 21]),
        described(7, "work"),
        change(b'I', 7),
        change(b'U', 7),
        keep_alive,
        described(9, "orders"),
        change(b'D', 9),
        xlog_data(b"T\0\0\0\x01\0\0\0\0\x07"),
        change(b'I', 11),
        xlog_data(&[b'C'; 26]),
    ];
    let script = logical("START_REPLICATION SLOT s LOGICAL 0/0 (\"proto_version\" '1', publication_names 'p')", &bodies);
    shared_checks(&POSTGRESQL, &script, &[]);
    let mut sets: Vec<_> = play_script(new(false), &script).sets().into_iter().filter(|s| s.0 == "replicate" && s.3 > 0).collect();
    sets.sort();
    let row = |names: &str, columns: &str, rows| ("replicate".to_owned(), names.to_owned(), columns.to_owned(), rows, 0);
    assert_eq!(sets, [row("mes.orders", "id line", 1), row("mes.work", "id line", 2), row(UNKNOWN, "*", 1)]);
}

#[test]
fn changes_of_a_streamed_transaction_are_rows_too() {
    let streamed = |tag: u8, body: &[u8]| xlog_data(&[&[tag][..], &[0, 0, 2, 1], body].concat());
    let bodies = [
        xlog_data(b"S\0\0\x02\x01\x01"),
        streamed(b'R', &relation(7, "work")),
        streamed(b'I', &[0, 0, 0, 7, b'N', 0, 0]),
        streamed(b'I', &[0, 0, 0, 7, b'N', 0, 0]),
        xlog_data(b"E"),
        xlog_data(&[&b"U\0\0\0\x07"[..], b"N\0\0"].concat()),
    ];
    let script = logical("START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '2', streaming 'on')", &bodies);
    let told: Vec<_> = play_script(new(false), &script).sets().into_iter().filter(|s| s.3 > 0).map(|s| (s.1, s.3)).collect();
    assert_eq!(told, [("mes.work".to_owned(), 3)]);
}

#[test]
fn lines_of_test_decoding_are_rows_and_its_other_lines_are_none() {
    let bodies = [
        xlog_data(b"BEGIN 731"),
        xlog_data(b"table mes.work: INSERT: id[integer]:1 line[text]:'synthetic: value'"),
        xlog_data(b"table mes.work: DELETE: id[integer]:1"),
        xlog_data(b"table mes.work: TRUNCATE: (no-flags)"),
        xlog_data(b"COMMIT 731"),
    ];
    let script = logical("START_REPLICATION SLOT s LOGICAL 0/0", &bodies);
    shared_checks(&POSTGRESQL, &script, &["synthetic"]);
    let told: Vec<_> = play_script(new(false), &script).sets().into_iter().filter(|s| s.3 > 0).map(|s| (s.1, s.3)).collect();
    assert_eq!(told, [("mes.work".to_owned(), 2)]);
    // The log itself holds no rows that can be told.
    let physical = logical("START_REPLICATION SLOT s 0/0", &bodies);
    assert_eq!(play_script(new(false), &physical).rows(), BTreeMap::new());
}

#[test]
fn tables_of_a_logical_stream_are_bounded_and_further_ones_are_unknown() {
    let bodies: Vec<_> = (0..4000_u32)
        .flat_map(|number| {
            let name = format!("{number:0>60}");
            [xlog_data(&[&b"R"[..], &relation(number, &name)].concat()), xlog_data(&[&b"I"[..], &number.to_be_bytes(), b"N\0\0"].concat())]
        })
        .collect();
    let script = logical("START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1')", &bodies);
    let played = play_script(new(false), &script);
    assert!(played.memory_bytes_max < 1 << 20, "{} bytes held", played.memory_bytes_max);
    let unknown: i64 = played.sets().iter().filter(|s| s.1 == UNKNOWN).map(|s| s.3).sum();
    assert!(unknown > 1000 && played.rows()["replicate"] == 4000, "{unknown} rows are unknown");
}

#[test]
fn statements_that_nothing_names_any_more_are_let_go_and_named_ones_stay() {
    let mut decoder = Postgresql::new(Options::default());
    let mut script = opened();
    // Something stands before it, so that its number changes.
    script.push((CLIENT, query("SELECT 1")));
    script.push((SERVER, complete("SELECT 1")));
    script.push((CLIENT, [message(b'P', b"kept\0SELECT id FROM mes.kept\0\0\0"), message(b'S', b"")].concat()));
    script.push((SERVER, [message(b'1', b""), message(b'Z', b"I")].concat()));
    for n in 0..4 * CACHED_MAX {
        script.push((CLIENT, query(&format!("SELECT id FROM mes.t{n}"))));
        script.push((SERVER, selected(1)));
        if n % 100 == 7 {
            // Not yet answered when the table is emptied.
            script.push((CLIENT, [message(b'B', b"\0kept\0\0\0\0\0\0\0"), message(b'E', &[0; 5]), message(b'S', b"")].concat()));
            script.push((SERVER, [message(b'2', b""), row().repeat(3), complete("SELECT 3")].concat()));
        }
    }
    let mut windows = Windows::new("north", "test");
    let id = opened_in(&mut windows, 50_000);
    let mut entries = 0;
    for line in &script {
        say(&mut windows, id, &mut decoder, std::slice::from_ref(line));
        entries = entries.max(decoder.entries.len());
    }
    assert!(entries < 3 * CACHED_MAX, "{entries} statements held");
    windows.close(id, FIRST_NS);
    let events = windows.take().iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    let played = Played { events, stream_bytes: [0; 2], error: None, memory_bytes_max: 0, bounds_reached: 0, facts: Facts::new() };
    let mut of_table = BTreeMap::<String, i64>::new();
    for (name, rows) in named_rows(&played) {
        *of_table.entry(name).or_default() += rows;
    }
    assert_eq!(of_table.remove("mes.kept"), Some(3 * 11));
    assert_eq!(of_table.len(), 4 * CACHED_MAX);
    assert!(of_table.values().all(|rows| *rows == 1), "{of_table:?}");
}

#[test]
fn connections_share_a_text_and_neither_its_schema_nor_its_columns() {
    let mut windows = Windows::new("north", "test");
    let of = |path: &str, column: &str| {
        let mut script = opened();
        script.push((SERVER, message(b'S', format!("search_path\0{path}\0").as_bytes())));
        script.push((CLIENT, query("SELECT * FROM parts")));
        let description = message(b'T', &[&[0, 1][..], column.as_bytes(), &[0; 19]].concat());
        script.push((SERVER, [description, row(), complete("SELECT 1")].concat()));
        script
    };
    let told: Vec<_> = [("mes", "id"), ("erp", "id"), ("mes", "serial"), ("mes", "id")]
        .iter()
        .zip(50_000..)
        .map(|((path, column), port)| {
            let (id, mut decoder) = (opened_in(&mut windows, port), Postgresql::new(Options::default()));
            say(&mut windows, id, &mut decoder, &of(path, column));
            windows.close(id, FIRST_NS);
            let events = windows.take().iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
            let played = Played { events, stream_bytes: [0; 2], error: None, memory_bytes_max: 0, bounds_reached: 0, facts: Facts::new() };
            played.sets().into_iter().filter(|set| set.3 > 0).map(|set| format!("{} {}", set.1, set.2)).collect::<String>()
        })
        .collect();
    assert_eq!(told, ["mes.parts id", "erp.parts id", "mes.parts serial", "mes.parts id"]);
}

/// (operation, names, marks) of every object set with a mark, in the order of their windows.
fn marks(name: &str) -> Vec<(String, String, String)> {
    let mut marks = Vec::new();
    for e in &played(name).events {
        for set in e["objects"].as_array().unwrap().iter().filter(|set| !set["marks"].is_null()) {
            let join = |v: &Value| v.as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect::<Vec<_>>().join(" ");
            marks.push((e["operation"].as_str().unwrap().to_owned(), join(&set["names"]), join(&set["marks"])));
        }
    }
    marks.sort();
    marks.dedup();
    marks
}

#[test]
fn what_leaves_a_table_elsewhere_is_marked_on_its_objects() {
    let told = marks("elsewhere");
    let told: Vec<_> = told.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(
        told,
        [
            ("copy", "mes.genealogy", "to-file"),
            ("copy", "mes.genealogy", "to-program"),
            ("ddl", "extension:dblink", "foreign"),
            ("ddl", "extension:postgres_fdw", "foreign"),
            ("ddl", "public.far", "foreign"),
            ("ddl", "public.kept mes.genealogy", "fills"),
            ("ddl", "public.other public.also", "fills"),
            ("ddl", "public.seen mes.genealogy", "fills"),
            ("ddl", "server:far", "foreign"),
            ("ddl", "user:mapping", "secret-connection"),
            ("insert", "public.far mes.genealogy", "fills"),
            ("insert", "public.kept mes.genealogy", "fills"),
            ("select", "", "to-file"),
            ("select", "", "to-server"),
            ("select", "", "to-server secret-connection"),
            ("select", "mes.genealogy", "folded"),
            ("select", "mes.genealogy", "to-server"),
            ("select", "public.also mes.genealogy", "fills"),
        ]
    );
}

#[test]
fn a_password_in_clear_is_marked_and_one_that_the_client_hashed_is_not() {
    let told: Vec<_> = marks("accounts").into_iter().map(|(_, names, marks)| (names, marks)).collect();
    assert_eq!(told, [("account:intruder".to_owned(), "secret-password".to_owned())]);
    assert_eq!(marks("hashed-password"), []);
    assert_eq!(marks("plain-select"), []);
}
