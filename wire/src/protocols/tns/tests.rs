//! Recordings under `tests/data/tns`, and conversations made by the framing that sqlplus 11.1 was seen to speak.

use super::*;
use crate::protocols::testing::{
    CLIENT, Played, Recording, SERVER, Script, Step, assert_conserved, play, play_script, recognise as recognise_script, recordings,
    shared_checks,
};

fn all() -> Vec<Recording> {
    recordings().into_iter().filter(|r| r.protocol == "tns").collect()
}

fn recording(name: &str) -> Recording {
    all().into_iter().find(|r| r.name.starts_with(&format!("{name}."))).expect("the recording is there")
}

fn played(script: &Script) -> Played {
    let played = play_script(decoder(Options { facts: true, midstream: false }), script);
    assert_eq!(played.error, None);
    assert_conserved(&played);
    played
}

/// (operation, account, names, columns, rows, messages) of every object set, or of a flow without one.
fn sets(played: &Played) -> Vec<(String, String, String, String, i64, i64)> {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let join = |v: &Value| v.as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect::<Vec<_>>().join(" ");
    let mut sets = Vec::new();
    for e in &played.events {
        let (operation, account) = (text(&e["operation"]), text(&e["account"]));
        let objects = e["objects"].as_array().unwrap();
        if objects.is_empty() {
            let (rows, messages) = (e["rows"].as_i64().unwrap(), e["messages"].as_i64().unwrap());
            sets.push((operation.clone(), account.clone(), String::new(), String::new(), rows, messages));
        }
        for set in objects {
            let (rows, messages) = (set["rows"].as_i64().unwrap(), set["messages"].as_i64().unwrap());
            sets.push((operation.clone(), account.clone(), join(&set["names"]), join(&set["columns"]), rows, messages));
        }
    }
    sets
}

fn set(operation: &str, names: &str, columns: &str, rows: i64, messages: i64) -> (String, String, String, String, i64, i64) {
    (operation.to_owned(), "SVC_MES".to_owned(), names.to_owned(), columns.to_owned(), rows, messages)
}

// ---- what a client with Oracle's own library and a server of 11.1 say ---------------------------------------------

/// A packet with a length of two bytes.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + HEADER_BYTES).unwrap().to_be_bytes();
    [&[length[0], length[1], 0, 0, kind, 0, 0, 0], body].concat()
}

fn data(body: &[u8]) -> Vec<u8> {
    packet(DATA, &[&[0, 0], body].concat())
}

const DESCRIPTOR: &str = "(DESCRIPTION=(CONNECT_DATA=(SERVICE_NAME=mes)(CID=(PROGRAM=loader@edge)(HOST=edge)(USER=opc)))\
    (ADDRESS=(PROTOCOL=TCP)(HOST=mes-db.plant.example)(PORT=1521)))";

fn connect_packet(descriptor: &str, apart: bool) -> Vec<u8> {
    let length = u16::try_from(descriptor.len()).unwrap().to_be_bytes();
    let mut body =
        vec![1, 0x3a, 1, 0x2c, 0xc, 0x41, 0x20, 0, 0xff, 0xff, 0x7f, 8, 0, 0, 1, 0, length[0], length[1], 0, 58, 0, 0, 8, 0, 0x41, 0x41];
    body.resize(50, 0);
    packet(CONNECT, &[body.as_slice(), if apart { &[] } else { descriptor.as_bytes() }].concat())
}

fn accept_packet() -> Vec<u8> {
    let mut body = vec![1, 0x3a, 8, 0x41, 0x20, 0, 0x7f, 0xff, 1, 0, 0, 0, 0, 0x20, 0x61, 0x41];
    body.resize(24, 0);
    packet(ACCEPT, &body)
}

const POINTER: [u8; 8] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Numbers, pointers and bytes as a little-endian processor of 64 bits holds them.
#[derive(Default)]
struct Native(Vec<u8>);

impl Native {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn ub4(self, number: u32) -> Self {
        self.raw(&number.to_le_bytes())
    }
    fn ub2(self, number: u16) -> Self {
        self.raw(&number.to_le_bytes())
    }
    fn pointer(self, is_there: bool) -> Self {
        self.raw(if is_there { &POINTER } else { &[0; 8] })
    }
    fn zeros(self, count: usize) -> Self {
        self.raw(&vec![0; count])
    }
    fn value(self, text: &str) -> Self {
        if text.len() < 64 {
            return self.raw(&[u8::try_from(text.len()).unwrap()]).raw(text.as_bytes());
        }
        let mut this = self.raw(&[0xfe]);
        for piece in text.as_bytes().chunks(64) {
            this = this.raw(&[u8::try_from(piece.len()).unwrap()]).raw(piece);
        }
        this.raw(&[0])
    }
    fn long(self, text: &str) -> Self {
        let this = self.ub4(u32::try_from(text.len()).unwrap());
        if text.is_empty() { this } else { this.value(text) }
    }
    fn data(self) -> Vec<u8> {
        data(&self.0)
    }
}

fn login(number: u8, function: u8, user: &str, pairs: &[(&str, &str)]) -> Vec<u8> {
    let this = Native::default().raw(&[3, function, number]).pointer(!user.is_empty()).ub4(u32::try_from(user.len()).unwrap()).ub4(1);
    let this = this.pointer(true).ub4(u32::try_from(pairs.len()).unwrap()).pointer(true).pointer(true);
    let this = if user.is_empty() { this } else { this.value(user) };
    pairs.iter().fold(this, |this, (name, value)| this.long(name).long(value).ub4(0)).data()
}

/// An execution; `cursor` 0 parses `sql`.
fn execute(number: u8, options: u32, cursor: u32, sql: &str) -> Vec<u8> {
    execution(Native::default().raw(&[3, 0x5e, number]), options, cursor, sql).data()
}

fn execution(this: Native, options: u32, cursor: u32, sql: &str) -> Native {
    let this = this.ub4(options).ub4(cursor).pointer(!sql.is_empty()).ub4(u32::try_from(sql.len()).unwrap());
    let this = this.pointer(true).ub4(13).pointer(true).pointer(true).ub4(0).ub4(1).ub4(0).pointer(false).ub4(0);
    let this = (0..5).fold(this, |this, _| this.pointer(false)).pointer(false).ub4(0).ub4(0);
    let this = this.pointer(false).pointer(true).pointer(true).ub4(0).pointer(true).ub4(0).ub4(0);
    let this = if sql.is_empty() { this } else { this.value(sql) };
    this.ub4(1).zeros(12 * 4)
}

/// Columns of text of these names.
fn description(names: &[&str]) -> Native {
    let mut this = Native::default().raw(&[16]).ub4(23).zeros(23).ub4(30).ub4(u32::try_from(names.len()).unwrap()).raw(&[0x4d]);
    for name in names {
        this = this.raw(&[1, 0x80, 0, 0]).ub4(30).ub4(0).ub4(0).ub4(0).ub2(0).ub2(178).raw(&[1]).ub4(30);
        this = this.raw(&[1, u8::try_from(name.len()).unwrap()]).long(name).long("").long("").ub2(0);
    }
    this.long("dateof7").ub4(0).ub4(8168).ub4(2).ub4(2).long("")
}

fn row(this: Native, values: &[&str]) -> Native {
    values.iter().fold(this.raw(&[7]), |this, value| this.value(value))
}

fn row_header(this: Native) -> Native {
    this.raw(&[6, 2]).ub2(1).ub4(0).ub4(1).ub2(0).ub4(0).ub4(0)
}

fn end(this: Native, number: u8, error: u16, cursor: u16, rows: u32) -> Native {
    let this = this.raw(&[8]).ub2(2).ub4(0).ub4(0).ub2(0).ub2(0).ub4(0);
    let this = this.raw(&[4]).ub4(1).ub2(4).ub4(rows).ub2(error).ub2(0).ub2(0).ub2(cursor).ub2(0).raw(&[3, 0, 0, 0, 0, 0]);
    let this = this.zeros(13).ub4(0).raw(&[0, number]).ub2(0).ub4(1).zeros(14);
    if error == 0 { this } else { this.value("ORA-00000: words about values of yours") }
}

/// What a client and a server agree on before a login: 11.2 and 11.1.
fn agreement() -> Script {
    let capabilities = |fields: u8| [0, 0, 0, 0, 0, 0, 0, fields, 0, 0];
    let protocol = [&[1, 6, 0][..], b"IBMPC/WIN_NT64-9.1.0\0", &[0xb2, 0, 1, 0, 0, 0, 0, 10], &capabilities(5), &[1, 0]].concat();
    let types = [&[2, 0xb2, 0, 0xb2, 0, 0x42, 10][..], &capabilities(6), &[1, 0, 0, 0]].concat();
    vec![
        (CLIENT, connect_packet(DESCRIPTOR, false)),
        (SERVER, packet(RESEND, &[])),
        (CLIENT, connect_packet(DESCRIPTOR, false)),
        (SERVER, accept_packet()),
        (CLIENT, data(b"\x01\x06\x05\x04\0x86_64/Linux\0")),
        (SERVER, data(&protocol)),
        (CLIENT, data(&types)),
        (SERVER, data(&[2, 0, 0])),
    ]
}

fn logged_in() -> Script {
    let mut script = agreement();
    script.extend([
        (CLIENT, login(2, 0x76, "svc_mes", &[("AUTH_PROGRAM_NM", "loader@edge (TNS V1-V3)"), ("AUTH_SID", "opc")])),
        (SERVER, Native::default().raw(&[8]).ub2(1).long("AUTH_SESSKEY").long("75FEF5BD").ub4(0).data()),
        (CLIENT, login(3, 0x73, "svc_mes", &[("AUTH_SESSKEY", "80A1EADE"), ("AUTH_PASSWORD", "BD0B6E2FD5")])),
        (SERVER, Native::default().raw(&[8]).ub2(1).long("AUTH_VERSION_NO").long("185599744").ub4(0).data()),
    ]);
    script
}

const RUN: u32 = 0x8061;

/// A query of three rows, the third of which comes with a fetch that finds the end.
fn queried() -> Script {
    let mut script = logged_in();
    let first = row(row(row_header(description(&["SERIAL", "PART"])), &["S-1", "P-1"]), &["S-2", ""]);
    let rest = row(row_header(Native::default()), &["S-3", &"x".repeat(200)]);
    script.extend([
        (CLIENT, execute(4, RUN, 0, "select serial, part from mes.genealogy where station = 'swordfish'")),
        (SERVER, end(first, 4, 0, 3, 2).data()),
        (CLIENT, Native::default().raw(&[3, 5, 5]).ub4(3).ub4(100).data()),
        (SERVER, end(rest, 5, 1403, 3, 3).data()),
    ]);
    script
}

#[test]
fn recordings_and_made_conversations_pass_the_shared_checks() {
    for recording in all() {
        println!("{}", recording.name);
        let secrets: Vec<_> = recording.secrets.iter().map(String::as_str).collect();
        shared_checks(&TNS, &recording.script, &secrets);
        assert_eq!(recognise_script(&TNS, &recording.script), Recognition::Yes { client: CLIENT }, "{}", recording.name);
    }
    shared_checks(&TNS, &queried(), &["swordfish", "BD0B6E2FD5", "80A1EADE", "S-1"]);
}

#[test]
fn connect_data_name_program_service_and_user_of_the_system() {
    let jdbc = played(&recording("connect").script);
    assert_eq!(
        jdbc.facts["tns"]["connects"][0],
        json!({"service_name": "xxxxx.xxx", "sid": null, "program": "null", "os_user": "user", "host": "__jdbc__"})
    );
    // JDBC writes `null` where it has no name.
    assert_eq!((&jdbc.events[0]["application"], &jdbc.events[0]["on_behalf_of"]), (&Value::Null, &json!("user")));
    let oci = played(&vec![(CLIENT, connect_packet(DESCRIPTOR, false))]);
    assert_eq!((&oci.events[0]["application"], &oci.events[0]["account"]), (&json!("loader@edge"), &Value::Null));
    assert_eq!(oci.events[0]["destination"]["names"], json!([{"name": "mes-db.plant.example", "by": "tns"}]));
    // Long connect data follow in a packet of their own.
    let apart = played(&vec![(CLIENT, connect_packet(DESCRIPTOR, true)), (CLIENT, data(DESCRIPTOR.as_bytes()))]);
    assert_eq!(apart.facts["tns"]["connects"], oci.facts["tns"]["connects"]);
}

#[test]
fn refusal_is_told_with_its_number() {
    let text = b"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR=12514)(ERROR_STACK=(ERROR=(CODE=12514)(EMFI=4))))";
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    let script =
        vec![(CLIENT, connect_packet(DESCRIPTOR, false)), (SERVER, packet(REFUSE, &[&[4, 0, length[0], length[1]][..], text].concat()))];
    let refused = played(&script);
    assert_eq!(refused.facts["tns"]["refusals"], json!([12514]));
    let told: Vec<_> = sets(&refused).into_iter().map(|set| (set.0, set.5)).collect();
    assert_eq!(told, [("connect".to_owned(), 0), ("refused".to_owned(), 1)]);
    shared_checks(&TNS, &script, &[]);
}

#[test]
fn redirection_names_where_the_client_goes_next() {
    let next = b"(ADDRESS=(PROTOCOL=tcp)(HOST=10.20.1.22)(PORT=1526))\0(DESCRIPTION=(ADDRESS=(HOST=other)(PORT=1)))";
    let length = u16::try_from(next.len()).unwrap().to_be_bytes();
    let whole = packet(REDIRECT, &[&length[..], next].concat());
    let apart = [packet(REDIRECT, &length), data(next)].concat();
    for answer in [whole, apart] {
        let script = vec![(CLIENT, connect_packet(DESCRIPTOR, false)), (SERVER, answer)];
        let told = played(&script);
        assert_eq!(told.facts["tns"]["redirects"], json!([{"host": "10.20.1.22", "port": 1526}]));
        let names = &told.events.last().unwrap()["destination"]["names"];
        assert!(names.as_array().unwrap().contains(&json!({"name": "10.20.1.22", "by": "redirect", "port": 1526})), "{names}");
        shared_checks(&TNS, &script, &[]);
    }
}

#[test]
fn account_is_the_one_of_the_login_and_not_that_of_the_system() {
    let told = played(&queried());
    for e in &told.events {
        assert_eq!((&e["account"], &e["account_from"]), (&json!("SVC_MES"), &json!("startup")));
        assert_eq!((&e["application"], &e["on_behalf_of"]), (&json!("loader@edge"), &json!("opc")));
        assert_eq!((&e["protection"]["authentication"], &e["completeness"]["state"]), (&json!("o5logon"), &json!("complete")));
    }
    assert_eq!(told.facts["tns"]["server_banner"], "IBMPC/WIN_NT64-9.1.0");
}

#[test]
fn login_by_token_is_told_and_the_token_is_not() {
    let mut script = agreement();
    script.extend([
        (CLIENT, login(2, 0x73, "", &[("AUTH_TOKEN", "synthetic-token-71")])),
        (SERVER, Native::default().raw(&[8]).ub2(1).long("AUTH_VERSION_NO").long("185599744").ub4(0).data()),
        (CLIENT, execute(4, RUN, 0, "select serial from mes.genealogy")),
    ]);
    let told = played(&script);
    assert_eq!(told.events.last().unwrap()["protection"]["authentication"], "token");
    assert!(!told.events.iter().any(|e| e.to_string().contains("synthetic-token-71")));
    shared_checks(&TNS, &script, &["synthetic-token-71"]);
}

#[test]
fn rows_are_counted_over_execution_and_fetches() {
    let told = played(&queried());
    assert_eq!(sets(&told), [set("connect", "", "", 0, 0), set("select", "MES.GENEALOGY", "SERIAL PART", 3, 1)]);
    assert_eq!(told.facts["tns"]["calls"], json!({"authenticate": 1, "execute": 1, "fetch": 1, "session key": 1}));
}

#[test]
fn bytes_of_a_call_both_ways_are_those_of_its_statement() {
    let (script, before) = (queried(), logged_in().len());
    let told = played(&script);
    let sent = |side: Side| script[before..].iter().filter(|(by, _)| *by == side).map(|(_, bytes)| bytes.len()).sum::<usize>();
    let select = told.events.iter().find(|e| e["operation"] == "select").unwrap();
    assert_eq!((&select["bytes"], &select["bytes_back"]), (&json!(sent(SERVER)), &json!(sent(CLIENT))));
}

#[test]
fn answer_that_cannot_be_followed_leaves_its_rows_unknown_and_says_so() {
    let mut script = queried();
    let last = script.len() - 3;
    // The record at the end claims another number of rows than there were.
    let first = row(row_header(description(&["SERIAL", "PART"])), &["S-1", "P-1"]);
    script[last].1 = end(first, 4, 0, 3, 7).data();
    script[last + 2].1 = end(row(row_header(Native::default()), &["S-3", "P-3"]), 5, 1403, 3, 8).data();
    let state = |script: &Script| {
        let told = played(script);
        let select = told.events.into_iter().find(|e| e["operation"] == "select").unwrap();
        (select["rows"].as_i64().unwrap(), select["completeness"]["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(state(&script), (1, "lossy".into()));
    let strange = row_header(description(&["SERIAL", "PART"])).raw(&[99, 1, 2, 3]);
    script[last].1 = end(strange, 4, 0, 3, 2).data();
    assert_eq!(state(&script).1, "lossy");
    assert_eq!(state(&queried()).1, "complete");
}

#[test]
fn changes_are_counted_by_the_server() {
    let mut script = logged_in();
    let piggyback = Native::default().raw(&[17, 0x69, 6]).pointer(true).ub4(1).ub4(3).raw(&[3, 0x5e, 7]);
    script.extend([
        (CLIENT, execute(4, 0x8021, 0, &format!("insert into mes.lots (id, note) values (:1, '{}')", "swordfish ".repeat(20)))),
        (SERVER, end(Native::default(), 4, 0, 3, 12).data()),
        (CLIENT, execute(5, 0x8021, 0, "delete from mes.lots where id = 7")),
        (SERVER, end(Native::default(), 5, 1031, 0, 0).data()),
        (CLIENT, execution(piggyback, 0x21, 0, "begin mes.close_lot(7); end;").data()),
        (SERVER, end(Native::default(), 7, 0, 4, 1).data()),
        (CLIENT, data(&[3, 0x0e, 8])),
        (SERVER, data(&[9, 1, 0, 0, 0, 8, 0])),
    ]);
    let told = played(&script);
    let moved: Vec<_> = sets(&told).into_iter().filter(|set| set.0 != "connect").collect();
    assert_eq!(
        moved,
        [
            set("insert", "MES.LOTS", "ID NOTE", 12, 1),
            set("delete", "MES.LOTS", "*", 0, 1),
            set("refused", "MES.LOTS", "*", 0, 1),
            set("call", "function:MES.CLOSE_LOT", "*", 0, 1),
        ]
    );
    assert_eq!(told.facts["tns"]["errors"], json!({"ORA-01031": 1}));
    shared_checks(&TNS, &script, &["swordfish"]);
}

#[test]
fn login_that_fails_is_refused() {
    let mut script = logged_in();
    script.truncate(script.len() - 1);
    let error = Native::default().raw(&[4]).ub4(1).ub2(4).ub4(0).ub2(1017).zeros(60).data();
    // The server breaks off, the client sees to it, then the error comes.
    let marker = |kind: u8| packet(MARKER, &[1, 0, kind]);
    script.extend([(SERVER, marker(1)), (CLIENT, marker(2)), (SERVER, marker(2)), (SERVER, error)]);
    let told = played(&script);
    assert_eq!(sets(&told), [set("connect", "", "", 0, 0), set("refused", "", "", 0, 1)]);
    assert_eq!(told.facts["tns"]["errors"], json!({"ORA-01017": 1}));
    shared_checks(&TNS, &script, &[]);
}

/// An answer of Advanced Networking that chooses these algorithms.
fn networking(encryption: u8, integrity: u8) -> Vec<u8> {
    let service =
        |number: u8, chosen: u8| [&[0, number, 0, 2, 0, 0, 0, 0, 0, 4, 0, 5, 0x0b, 0x20, 2, 0][..], &[0, 1, 0, 2, chosen]].concat();
    let body = [&[0xde, 0xad, 0xbe, 0xef, 0, 55, 0x0b, 0x20, 2, 0, 0, 2, 0][..], &service(2, encryption), &service(3, integrity)].concat();
    data(&body)
}

#[test]
fn native_encryption_is_known_and_nothing_behind_it_is_read() {
    for (encryption, integrity, transport) in [(17, 3, "oracle-aes256"), (0, 3, "none"), (0, 0, "none")] {
        let mut script = queried();
        if encryption != 0 || integrity != 0 {
            for (_, piece) in script.iter_mut().skip(4) {
                piece.iter_mut().skip(HEADER_BYTES + 2).for_each(|byte| *byte ^= 0x5a);
            }
        }
        script.splice(4..4, [(CLIENT, networking(17, 3)), (SERVER, networking(encryption, integrity))]);
        let told = played(&script);
        let last = told.events.last().unwrap();
        let blind = encryption != 0 || integrity != 0;
        assert_eq!(last["protection"]["transport"], transport);
        assert_eq!(last["depth"], if blind { "sizes" } else { "decoded" });
        assert_eq!(last["completeness"]["state"], if blind { "encrypted" } else { "complete" });
        assert_eq!(last["account"].is_null(), blind);
        assert_eq!(last["application"], "loader@edge");
        shared_checks(&TNS, &script, &[]);
    }
}

#[test]
fn connection_that_was_joined_late_is_known_by_its_calls() {
    let script: Script = queried()[12..].to_vec();
    let head = |side: Side| script.iter().filter(|(s, _)| *s == side).flat_map(|(_, b)| b.iter().copied()).take(64).collect::<Vec<_>>();
    let (client, server) = (head(CLIENT), head(SERVER));
    let heads = Heads { client: &client, server: &server, ports: (50_000, 1521), midstream: true };
    assert_eq!(recognise(&heads), Recognition::Yes { client: CLIENT });
    let steps: Vec<_> = script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
    let told = play(decoder(Options { facts: true, midstream: true }), &steps);
    let select = told.events.iter().find(|e| e["operation"] == "select").unwrap();
    assert_eq!((&select["objects"][0]["names"], &select["completeness"]["state"]), (&json!(["MES.GENEALOGY"]), &json!("lossy")));
    assert_eq!((&select["rows"], &select["account"]), (&json!(0), &Value::Null));
}

#[test]
fn lengths_that_lie_are_refused() {
    for head in [[0, 3, 0, 0, 6, 0, 0, 0, 0, 0], [0, 20, 0, 0, 99, 0, 0, 0, 0, 0]] {
        let mut script = agreement();
        script.push((CLIENT, head.to_vec()));
        assert!(play_script(decoder(Options::default()), &script).error.is_some());
    }
}

// ---- python-oracledb and a stand-in of a server (tests/data/tns/record.py) ----------------------------------------

#[test]
fn rows_are_those_of_the_clients_own_ledger() {
    let mut wrong = Vec::new();
    let recorded: Vec<_> = all().into_iter().filter(|r| r.name.ends_with(".json")).collect();
    assert!(recorded.len() >= 16, "{} recordings", recorded.len());
    for recording in recorded {
        let told = played(&recording.script);
        for e in &told.events {
            if e["completeness"]["state"] != "complete" {
                wrong.push(format!("{}: {} is {}", recording.name, e["operation"], e["completeness"]["state"]));
            }
        }
        if told.rows() != recording.ledger {
            wrong.push(format!("{}: client {:?}, found {:?}", recording.name, recording.ledger, told.rows()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn real_client_is_told_with_what_it_asked_for() {
    let of = |name: &str| {
        let told = played(&recording(name).script);
        let moved = sets(&told).into_iter().filter(|set| set.0 != "connect").collect::<Vec<_>>();
        (moved, told)
    };
    let (moved, told) = of("queries-23");
    assert_eq!(
        moved,
        [
            set("select", "MES.GENEALOGY", "ID PART STATION", 117, 2),
            set("select", "MES.GENEALOGY", "ID PART STATION", 30, 1),
            set("select", "MES.SORTS", "ID PLACE MADE SEAL WORDS NOTHING NOTE", 3, 1),
        ]
    );
    assert_eq!(told.facts["tns"]["connects"][0]["program"], "loader");
    assert_eq!(told.facts["tns"]["accept_versions"], json!([319]));
    assert_eq!(told.events[0]["application"], "loader");
    let (moved, _) = of("changes");
    assert_eq!(
        moved,
        [
            set("insert", "MES.LOTS", "ID NOTE", 6, 2),
            set("update", "MES.ORDERS", "QUANTITY", 42, 1),
            set("delete", "MES.LOTS", "*", 7, 1),
            set("call", "function:MES.CLOSE_LOT", "*", 0, 1),
        ]
    );
    let (moved, told) = of("errors");
    assert!(moved.contains(&set("refused", "MES.HIDDEN", "WORD", 0, 1)), "{moved:?}");
    assert!(moved.contains(&set("select", "MES.NOWHERE", "WORD", 0, 1)), "{moved:?}");
    assert_eq!(told.facts["tns"]["errors"], json!({"ORA-00942": 1, "ORA-01031": 1}));
    let (_, told) = of("claims");
    assert_eq!(told.events.last().unwrap()["on_behalf_of"], "h.keller");
    let (moved, told) = of("login-fails");
    assert_eq!(moved, [set("refused", "", "", 0, 1)]);
    assert_eq!(told.facts["tns"]["errors"], json!({"ORA-01017": 1}));
    assert_eq!(of("refused").1.facts["tns"]["refusals"], json!([12514]));
    let redirects = &of("redirected").1.facts["tns"]["redirects"];
    assert_eq!((redirects.as_array().unwrap().len(), &redirects[0]["host"]), (1, &json!("127.0.0.1")));
}
