//! Conversations recorded with a real server (`tests/data/mysql/record.py`), against the client's own ledger.

use super::binlog::EVENT_BYTES_MAX;
use super::*;
use crate::protocols::testing::{
    self, CLIENT, Played, Recording, SERVER, Script, Step, assert_conserved, play, play_script, shared_checks,
};
use serde_json::Value;

fn played(name: &str) -> Played {
    testing::played(&MYSQL, &recording(name))
}

fn recording(name: &str) -> Recording {
    testing::recording("mysql", name)
}

#[test]
fn every_recording_is_recognised_counts_its_clients_rows_and_passes_the_shared_checks() {
    testing::every_recording(&MYSQL);
}

#[test]
fn objects_and_columns_are_those_that_the_server_names() {
    let of = |name: &str| played(name).sets().into_iter().filter(|s| s.3 != 0).map(|s| (s.0, s.1, s.2)).collect::<Vec<_>>();
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
    let admin: Vec<_> = played("accounts").sets().into_iter().map(|s| (s.0, s.1, s.2)).collect();
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
    let refused: Vec<_> = played("errors").sets().into_iter().filter(|s| s.0 == "refused").map(|s| s.1).collect();
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

// ---- what no server here says: made by the documentation -------------------------------------------------------

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&length[..3], &[number], body].concat()
}

fn lenenc(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn definition(schema: &str, table: &str, column: &str) -> Vec<u8> {
    let mut body = lenenc("def");
    for name in [schema, "alias", table, "alias", column] {
        body.extend(lenenc(name));
    }
    body.extend([0x0c, 0x21, 0, 40, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
    body
}

const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
/// What ends rows where no EOF does.
const OK_END: &[u8] = &[0xfe, 0, 0, 2, 0, 0, 0];

fn with_capabilities(capabilities: u64) -> Script {
    let low = capabilities.to_le_bytes();
    let mut greeting = b"\x0a8.4.0-made\0\x01\0\0\0abcdefgh\0".to_vec();
    greeting.extend([low[0], low[1], 0x21, 2, 0, low[2], low[3], 21]);
    greeting.extend([0; 10]);
    greeting.extend(b"ijklmnopqrst\0caching_sha2_password\0");
    let mut login = low[..4].to_vec();
    login.extend([0, 0, 0, 1, 0x21]);
    login.extend([0; 23]);
    login.extend(b"svc_report\0\x04\x01\x02\x03\x04mes\0caching_sha2_password\0");
    vec![(SERVER, packet(0, &greeting)), (CLIENT, packet(1, &login)), (SERVER, [packet(2, &[1, 3]), packet(3, OK)].concat())]
}

const USUAL: u64 = packets::CLIENT_MYSQL | PROTOCOL_41 | packets::SECURE_CONNECTION | packets::PLUGIN_AUTH | packets::CONNECT_WITH_DB;

fn query(text: &str) -> Vec<u8> {
    packet(0, &[b"\x03", text.as_bytes()].concat())
}

/// The answer of a SELECT: `rows` rows of one column, ended by `end`.
fn answer(rows: u8, end: &[u8], marked: bool) -> Vec<u8> {
    let mut bytes = [packet(1, &[1]), packet(2, &definition("mes", "genealogy", "part"))].concat();
    let mut number = 3;
    if marked {
        bytes.extend(packet(number, EOF));
        number += 1;
    }
    for row in 0..rows {
        bytes.extend(packet(number, &lenenc(&format!("part {row}"))));
        number += 1;
    }
    bytes.extend(packet(number, end));
    bytes
}

fn read(script: &Script) -> Played {
    shared_checks(&MYSQL, script, &[]);
    let played = play_script(decoder(Options { facts: true, midstream: false }), script);
    assert_conserved(&played);
    played
}

#[test]
fn rows_without_eofs_are_ended_by_an_ok_that_begins_like_one() {
    let mut script = with_capabilities(USUAL | 1 << 24);
    script.extend([(CLIENT, query("SELECT part FROM genealogy")), (SERVER, answer(5, OK_END, false))]);
    script.extend([(CLIENT, query("SELECT part FROM genealogy WHERE 0")), (SERVER, answer(0, OK_END, false))]);
    let played = read(&script);
    assert_eq!(
        played.sets(),
        [("select".into(), "mes.genealogy".into(), "part".into(), 5, 1), ("select".into(), "mes.genealogy".into(), "part".into(), 0, 1)]
    );
    assert_eq!(played.events[0]["protection"]["authentication"], "caching_sha2_password");
}

#[test]
fn a_row_of_several_packets_is_one_whatever_the_next_packet_begins_with() {
    let mut script = with_capabilities(USUAL);
    let mut said = [packet(1, &[1]), packet(2, &definition("mes", "genealogy", "part")), packet(3, EOF)].concat();
    let full = [&[0xfd, 0xff, 0xff, 0xff][..], &vec![b'x'; 0xff_ffff - 4]].concat();
    said.extend(packet(4, &full));
    said.extend(packet(5, &[0xfe; 8]));
    said.extend(packet(6, &lenenc("next")));
    said.extend(packet(7, EOF));
    script.extend([(CLIENT, query("SELECT part FROM genealogy")), (SERVER, said)]);
    let played = play_script(decoder(Options::default()), &script);
    assert_conserved(&played);
    assert_eq!(played.rows(), BTreeMap::from([("select".to_owned(), 2)]));
    assert!(played.memory_bytes_max < 64 << 10, "{}", played.memory_bytes_max);
}

#[test]
fn definitions_that_a_client_remembers_are_not_awaited() {
    // MariaDB: a second byte behind the number of columns says whether definitions follow.
    let mut script = with_capabilities(USUAL & !packets::CLIENT_MYSQL);
    let prepared =
        [packet(1, &[0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), packet(2, &definition("mes", "genealogy", "part")), packet(3, EOF)].concat();
    script.extend([(CLIENT, packet(0, b"\x16SELECT part FROM genealogy")), (SERVER, prepared)]);
    for _ in 0..3 {
        let said = [packet(1, &[1, 0]), packet(2, EOF), packet(3, &[&[0, 0][..], &lenenc("a")].concat()), packet(4, EOF)].concat();
        script.extend([(CLIENT, packet(0, &[0x17, 9, 0, 0, 0, 0, 1, 0, 0, 0])), (SERVER, said)]);
    }
    assert_eq!(read(&script).sets(), [("select".into(), "mes.genealogy".into(), "part".into(), 3, 3)]);
}

#[test]
fn attributes_in_front_of_a_text_are_passed_over() {
    let mut script = with_capabilities(USUAL | packets::QUERY_ATTRIBUTES);
    let mut asked = b"\x03\x02\x01\0\x01\xfe\0\x01n\x08\0\x01m".to_vec();
    asked.extend(lenenc("not-told"));
    asked.extend(7_u64.to_le_bytes());
    asked.extend(b"SELECT part FROM genealogy");
    script.extend([(CLIENT, packet(0, &asked)), (SERVER, answer(2, EOF, true))]);
    script.extend([(CLIENT, packet(0, b"\x03\0\x01SELECT part FROM genealogy")), (SERVER, answer(3, EOF, true))]);
    let played = play_script(decoder(Options::default()), &script);
    assert_eq!(played.sets(), [("select".into(), "mes.genealogy".into(), "part".into(), 5, 2)]);
    assert!(!serde_json::to_string(&played.events).unwrap().contains("not-told"));
}

#[test]
fn progress_of_a_long_command_is_no_answer() {
    let mut script = with_capabilities(USUAL);
    let progress = [&[0xff, 0xff, 0xff, 1, 1, 2, 0, 0, 0][..], &lenenc("copy to tmp table")].concat();
    let said = [packet(1, &progress), packet(2, OK)].concat();
    script.extend([(CLIENT, query("ALTER TABLE orders ADD x int")), (SERVER, said)]);
    script.extend([(CLIENT, query("SELECT part FROM genealogy")), (SERVER, answer(4, EOF, true))]);
    let played = read(&script);
    assert_eq!(played.rows(), BTreeMap::from([("select".to_owned(), 4)]));
    assert_eq!(played.facts["mysql"]["error_count"], 0);
}

/// What is said, in compressed packets as `pack` makes them.
fn packed(script: Script, pack: &dyn Fn(&[u8]) -> Vec<u8>) -> Script {
    let login = 3;
    let around = |(at, (side, bytes)): (usize, (Side, Vec<u8>))| {
        if at < login {
            return (side, bytes);
        }
        let body = pack(&bytes);
        let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        (side, [&number(body.len())[..3], &[0], &number(bytes.len())[..3], &body].concat())
    };
    script.into_iter().enumerate().map(around).collect()
}

#[test]
fn what_is_inside_a_zstandard_packet_is_read() {
    let mut script = with_capabilities(USUAL | ZSTD);
    script.extend([(CLIENT, query("SELECT part FROM genealogy")), (SERVER, answer(60, EOF, true))]);
    script.extend([(CLIENT, query("SELECT part FROM genealogy WHERE 1")), (SERVER, answer(9, EOF, true))]);
    let zstd = |bytes: &[u8]| ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest);
    let script = packed(script, &zstd);
    assert_eq!(read(&script).rows(), BTreeMap::from([("select".to_owned(), 69)]));
}

#[test]
fn behind_a_gap_compressed_packets_are_found_and_read_again() {
    let mut script = with_capabilities(USUAL | COMPRESS);
    for _ in 0..4 {
        script.extend([(CLIENT, query("SELECT part FROM genealogy")), (SERVER, answer(40, EOF, true))]);
    }
    let zlib = |bytes: &[u8]| {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let script = packed(script, &zlib);
    assert_eq!(read(&script).rows(), BTreeMap::from([("select".to_owned(), 160)]));
    // The middle of one answer is missing; the next ones are read.
    let mut steps: Vec<_> = script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
    let bytes = &script[6].1;
    steps.splice(6..7, [Step::Data(SERVER, &bytes[..30]), Step::Gap(SERVER, 20), Step::Data(SERVER, &bytes[50..])]);
    let played = play(decoder(Options::default()), &steps);
    assert_conserved(&played);
    assert_eq!(played.rows(), BTreeMap::from([("select".to_owned(), 120)]));
}

#[test]
fn a_gap_in_rows_costs_no_more_than_the_rows_that_are_lost() {
    let mut script = with_capabilities(USUAL);
    script.extend([(CLIENT, query("SELECT part FROM genealogy")), (SERVER, answer(200, EOF, true))]);
    script.extend([(CLIENT, query("SELECT part FROM genealogy WHERE 1")), (SERVER, answer(7, EOF, true))]);
    let bytes = &script[4].1;
    let mut steps: Vec<_> = script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
    steps.splice(4..5, [Step::Data(SERVER, &bytes[..600]), Step::Gap(SERVER, 100), Step::Data(SERVER, &bytes[700..])]);
    let played = play(decoder(Options::default()), &steps);
    assert_conserved(&played);
    let told = played.sets();
    let named: i64 = told.iter().filter(|set| set.1 == "mes.genealogy").map(|set| set.3).sum();
    let unknown: i64 = told.iter().filter(|set| set.1 == "unknown").map(|set| set.3).sum();
    assert!((180..207).contains(&(named + unknown)) && unknown > 100, "{told:?}");
    // The server's bytes alone were lost, and nothing that changes the session: what comes later is sound.
    assert_eq!(told.last().map(|set| (set.1.as_str(), set.3)), Some(("mes.genealogy", 7)), "{told:?}");
}

#[test]
fn a_client_that_sends_ahead_is_answered_in_order() {
    let mut script = with_capabilities(USUAL);
    script.push((CLIENT, [query("SELECT part FROM genealogy"), query("INSERT INTO orders VALUES (1)"), packet(0, &[0x0e])].concat()));
    let insert = &[0, 1, 0, 2, 0, 0, 0];
    script.push((SERVER, [answer(3, EOF, true), packet(1, insert), packet(1, OK)].concat()));
    let played = read(&script);
    assert_eq!(played.rows(), BTreeMap::from([("insert".to_owned(), 1), ("select".to_owned(), 3)]));
}

/// Rows of the binary log by table, in three recordings that differ in how the server writes it.
#[test]
fn rows_of_the_binary_log_are_those_of_the_tables_that_it_names() {
    for name in ["binlog", "binlog-checksums", "binlog-compressed"] {
        let mut rows = BTreeMap::new();
        for set in played(name).sets().into_iter().filter(|set| set.0 == "replicate") {
            *rows.entry(set.1).or_insert(0) += set.3;
        }
        rows.retain(|_, n| *n != 0);
        assert_eq!(rows.keys().map(String::as_str).collect::<Vec<_>>(), ["mes.kinds", "mes.plain"], "{name}");
        assert_eq!(rows.values().sum::<i64>(), recording(name).ledger["replicate"], "{name}");
        assert!(played(name).events.iter().all(|e| e["completeness"]["state"] == "complete"), "{name}");
    }
}

/// MySQL's replicas ask by transactions (MySQL, "COM_BINLOG_DUMP_GTID"): flags, a number, a file, a place, and the set that they have.
#[test]
fn a_replica_that_asks_by_transactions_is_sent_the_same_rows() {
    let mut script = recording("binlog").script;
    let asked = script.iter().position(|(side, bytes)| *side == CLIENT && bytes.get(4) == Some(&0x12)).unwrap();
    let set = [&1_u64.to_le_bytes()[..], &[7; 16], &1_u64.to_le_bytes(), &1_u64.to_le_bytes(), &9_u64.to_le_bytes()].concat();
    let size = u32::try_from(set.len()).unwrap().to_le_bytes();
    script[asked].1 = packet(0, &[&[0x1e, 4, 0, 9, 0, 0, 0, 0, 0, 0, 0][..], &4_u64.to_le_bytes(), &size, &set].concat());
    let replicated = |played: &Played| played.sets().into_iter().filter(|set| set.0 == "replicate").collect::<Vec<_>>();
    assert_eq!(replicated(&read(&script)), replicated(&played("binlog")));
}

/// Behind a switch, and where the server has no proof in its cache (MySQL, "Caching SHA-2 Pluggable Authentication"): it asks for all
/// of it (4), the client for its key (2), and what is sent then is encrypted by that.
#[test]
fn a_login_that_is_switched_and_wholly_proven_is_passed_over() {
    let mut script = with_capabilities(USUAL);
    script.pop();
    let key = [b"\x01-----BEGIN PUBLIC KEY-----\n", b"synthetic".repeat(30).as_slice(), b"\n-----END PUBLIC KEY-----\n"].concat();
    script.extend([
        (SERVER, packet(2, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0")),
        (CLIENT, packet(3, &[0x5a; 32])),
        (SERVER, packet(4, &[1, 4])),
        (CLIENT, packet(5, &[2])),
        (SERVER, packet(6, &key)),
        (CLIENT, packet(7, &[0xa5; 256])),
        (SERVER, packet(8, OK)),
        (CLIENT, query("SELECT part FROM genealogy")),
        (SERVER, answer(3, EOF, true)),
    ]);
    let played = read(&script);
    assert_eq!(played.sets(), [("select".into(), "mes.genealogy".into(), "part".into(), 3, 1)]);
    let last = played.events.last().unwrap();
    assert_eq!(
        (last["account"].as_str(), last["protection"]["authentication"].as_str()),
        (Some("svc_report"), Some("caching_sha2_password"))
    );
}

/// A packet of the server with one event of the log: its type and its body.
fn logged(number: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut event = vec![0, 0, 0, 0, 0, kind, 1, 0, 0, 0];
    event.extend(u32::try_from(19 + body.len()).unwrap().to_le_bytes());
    event.extend([0; 6]);
    event.extend(body);
    packet(number, &event)
}

/// Rows of table 7, of an integer and a varying text; `says`: how long the text claims to be.
fn written(count: usize, says: u8) -> Vec<u8> {
    let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 3];
    for _ in 0..count {
        body.extend([0, 1, 0, 0, 0, says, b'x', b'y']);
    }
    body
}

const TABLE: &[u8] = b"\x07\0\0\0\0\0\x01\0\x03mes\0\x04lots\0\x02\x03\x0f\x02\x28\0\x03";

#[test]
fn an_event_that_is_not_what_its_table_says_counts_no_row_and_says_so() {
    let dump = |events: &[Vec<u8>]| {
        let mut script = with_capabilities(USUAL);
        script.push((CLIENT, packet(0, b"\x12\x04\0\0\0\x01\0\x4d\0\0\0bin.000001")));
        script.push((SERVER, events.concat()));
        let played = play_script(decoder(Options { facts: true, midstream: false }), &script);
        assert_conserved(&played);
        let told = |e: &&Value| e["operation"] == "replicate" && e["completeness"]["state"] != "complete";
        let uncounted = played.events.iter().filter(told).count() > 0;
        let sets: Vec<_> = played.sets().into_iter().filter(|set| set.0 == "replicate" && set.3 != 0).map(|set| (set.1, set.3)).collect();
        (sets, uncounted)
    };
    let rows = |n: i64| vec![("mes.lots".to_owned(), n)];
    let table = logged(1, 19, TABLE);
    assert_eq!(dump(&[table.clone(), logged(2, 30, &written(3, 2))]), (rows(3), false));
    // A text that is longer than what is there; a table that was not named; a type that compresses whole transactions.
    assert_eq!(dump(&[table.clone(), logged(2, 30, &written(3, 9))]), (vec![], true));
    assert_eq!(dump(&[logged(1, 30, &written(3, 2))]), (vec![], true));
    assert_eq!(dump(&[table.clone(), logged(2, 40, &[0; 30])]), (vec![], true));
    // More than is kept of an event: the next one counts again.
    let large = written(EVENT_BYTES_MAX / 8, 2);
    assert_eq!(dump(&[table, logged(2, 30, &large), logged(3, 30, &written(2, 2))]), (rows(2), true));
}
