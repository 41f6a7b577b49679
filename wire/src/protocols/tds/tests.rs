//! Conversations of real servers and clients, and what the specification says of what none of them does.

use super::*;
use crate::protocols::testing::{self, CLIENT, Played, SERVER, Script, Step, assert_conserved, bytes, play, play_script, shared_checks};

fn played(name: &str) -> Played {
    testing::played(&TDS, &testing::recording("tds", name))
}

fn sets(played: &Played) -> Vec<String> {
    played.sums()
}

#[test]
fn every_recording_is_recognised_counts_its_clients_rows_and_passes_the_shared_checks() {
    testing::every_recording(&TDS);
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

#[test]
fn what_statements_touch_and_how_often_they_ran() {
    assert_eq!(sets(&played("plain")), ["select  [*] 1 1", "select mes.dbo.genealogy [id part] 25 1"],);
    assert_eq!(
        sets(&played("prepared")),
        ["select mes.dbo.genealogy [id part] 11 2", "select mes.dbo.orders [id part] 13 1", "update mes.dbo.lots [n] 3 2"],
    );
    assert_eq!(
        sets(&played("procedures")),
        [
            "call function:dbo.load [*] 3 1",
            "call function:dbo.report [*] 0 2",
            "select function:dbo.report [id part] 4 0",
            "select function:dbo.report [n] 2 0",
        ],
    );
    assert_eq!(
        sets(&played("changes")),
        [
            "ddl mes.dbo.lots [*] 0 1",
            "insert mes.dbo.lots [*] 2 1",
            "select mes.dbo.genealogy [id part] 3 1",
            "update mes.dbo.orders [n] 4 1",
            "update mes.dbo.orders mes.dbo.lots [*] 6 1",
        ],
    );
    assert_eq!(
        sets(&played("errors")),
        ["insert mes.dbo.lots [*] 0 1", "refused mes.dbo.hidden [word] 0 1", "select mes.dbo.genealogy [id part] 2 1",],
    );
    assert_eq!(sets(&played("bulk")), ["copy mes.dbo.lots [id note doc] 40 1"]);
    assert_eq!(sets(&played("bulk-fails")), ["copy mes..lots [id] 0 1"]);
}

#[test]
fn account_application_and_role_are_told_and_a_refused_login_is_refused() {
    let roles = played("roles");
    let who: std::collections::BTreeSet<_> = roles
        .events
        .iter()
        .filter(|e| e["operation"] == "select")
        .map(|e| (e["account"].as_str().unwrap(), e["application"].as_str().unwrap(), e["role"].as_str(), e["rows"].as_i64().unwrap()))
        .collect();
    assert_eq!(who.into_iter().collect::<Vec<_>>(), [("reader", "report", None, 2), ("reader", "report", Some("auditor"), 2)]);
    assert_eq!(
        sets(&roles)[..3],
        ["admin account:joe [create password] 0 1", "admin account:joe [grant:db_owner] 0 1", "admin account:joe [grant:select] 0 1"],
    );
    let marks: Vec<_> =
        roles.events.iter().flat_map(|e| e["objects"].as_array().unwrap()).filter(|set| set["marks"][0] == "secret-password").collect();
    assert_eq!(marks.len(), 1);
    let refused = played("login-fails");
    let last = refused.events.iter().find(|e| e["operation"] == "refused").unwrap();
    assert_eq!((last["account"].as_str(), last["messages"].as_i64()), (Some("reader"), Some(1)));
    assert_eq!(last["protection"]["authentication"], "password");
}

// ---- what no recording has ----------------------------------------------------------------------------------------------

/// A packet that is a whole message.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + HEADER_BYTES).unwrap().to_be_bytes();
    [&[kind, 1, length[0], length[1], 0, 51, 1, 0], body].concat()
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn headers() -> Vec<u8> {
    bytes("16000000 12000000 0200 0000000000000000 01000000")
}

fn batch(text: &str) -> (Side, Vec<u8>) {
    (CLIENT, packet(BATCH, &[headers(), wide(text)].concat()))
}

fn answer(hex: &str) -> (Side, Vec<u8>) {
    (SERVER, packet(ANSWER, &bytes(hex)))
}

/// `id int`, `part nvarchar`: COLMETADATA.
const SHAPE: &str = "81 0200 00000000 0900 26 04 02 69006400 00000000 0900 e7 7800 0904d00034 04 7000610072007400";
const ROW: &str = "d1 04 01000000 0200 6100";

fn done(command: u8, count: u8) -> String {
    format!("fd 1000 {command:02x}00 {count:02x}00000000000000")
}

/// The beginning of a connection whose login is not encrypted, as `plain` has it.
fn entry() -> Script {
    testing::recording("tds", "plain").script.into_iter().take(4).collect()
}

fn of(steps: &[(Side, Vec<u8>)]) -> Played {
    let script: Script = entry().into_iter().chain(steps.iter().cloned()).collect();
    let played = play_script(decoder(Options { facts: true, midstream: false }), &script);
    assert_eq!(played.error, None);
    assert_conserved(&played);
    shared_checks(&TDS, &script, &[]);
    played
}

#[test]
fn attention_session_state_and_features_are_passed_over() {
    let features = "ae 0a 01000000 01 09 01000000 01 ff";
    let state = "e4 07000000 01000000 01 00 00";
    let played = of(&[
        batch("SELECT id, part FROM dbo.t"),
        answer(&format!("{features} {state} {SHAPE} {ROW} fd 2200 c100 0100000000000000")),
        (CLIENT, packet(ATTENTION, &[])),
        answer("fd 2000 0000 0000000000000000"),
        batch("SELECT id, part FROM dbo.u"),
        answer(&format!("{SHAPE} {ROW} {ROW} {}", done(0xc1, 2))),
    ]);
    assert_eq!(sets(&played), ["select mes.dbo.t [id part] 1 1", "select mes.dbo.u [id part] 2 1"]);
}

/// DATACLASSIFICATION (MS-TDS 2.2.7.5): a label, a type of information, and of two columns the first has both. `rank`: of the second
/// version.
fn classified(rank: &str) -> String {
    let (label, kind) = ("01 4700 01 3100", "01 4300 01 3200");
    format!("a3 0100 {label} 0100 {kind} {rank} 0200 0100 0000 0000 {rank} 0000")
}

#[test]
fn classes_that_the_server_tells_of_columns_are_passed_over_in_the_version_that_was_agreed_on() {
    // FEATUREEXTACK of feature 9: the version, and whether it is on (2.2.7.11).
    let agreed = |version: u8, on: u8| format!("ae 09 02000000 {version:02x} {on:02x} ff");
    let rows = |said: &str, classes: &str| {
        of(&[batch("SELECT id, part FROM dbo.t"), answer(&format!("{said} {SHAPE} {classes} {ROW} {ROW} {}", done(0xc1, 2)))])
    };
    for (version, rank) in [(1, ""), (2, "0a000000")] {
        assert_eq!(sets(&rows(&agreed(version, 1), &classified(rank))), ["select mes.dbo.t [id part] 2 1"]);
    }
    // Where it was not agreed on, or is of a version that nobody knows, nothing behind it is counted, and that is said.
    for said in [String::new(), agreed(2, 0), agreed(3, 1)] {
        let played = rows(&said, &classified("0a000000"));
        assert_eq!(sets(&played), ["select mes.dbo.t [id part] 0 1", "select unknown [*] 0 0"], "{said}");
        assert!(played.events.iter().any(|e| e["completeness"]["state"] == "lossy"), "{said}");
    }
}

#[test]
fn json_and_vectors_are_walked() {
    // JSONTYPE has no length in its description and comes in chunks (2.2.5.4.4, 2.2.5.6); VECTORTYPE has one of two bytes, and the type
    // of its numbers; its value has eight bytes in front of them.
    let columns = "81 0300 00000000 0900 f4 03 64006f006300 00000000 0900 f5 1400 00 01 7600 00000000 0900 26 04 02 69006400";
    let json = "feffffffffffffff 05000000 7b2261223a 02000000 317d 00000000";
    let vector = "1400 a901 0300 00 000000 0000803f 00000040 00004040";
    let one = format!("d1 {json} {vector} 04 01000000");
    // NULLs as values, and as bits in front.
    let (two, three) = ("d1 ffffffffffffffff ffff 00", "d2 03 04 02000000");
    let played = of(&[batch("SELECT doc, v, id FROM dbo.t"), answer(&format!("{columns} {one} {two} {three} {one} {}", done(0xc1, 4)))]);
    assert_eq!(sets(&played), ["select mes.dbo.t [doc v id] 4 1"]);
}

#[test]
fn federated_login_is_told_and_its_token_is_not() {
    // LOGIN7 with FeatureExt of feature 2, library 2: the token comes in a message of its own, after the server has said for whom it is to
    // be (2.2.6.3, 2.2.6.4, 2.2.7.12).
    let mut login = vec![0_u8; 94];
    login[4..8].copy_from_slice(&[4, 0, 0, 0x74]);
    login[27] = 0x10;
    for (at, (place, units)) in [(36, (94_u16, 2_u16)), (40, (98, 0)), (48, (98, 3)), (56, (104, 4)), (68, (98, 0))] {
        login[at..at + 2].copy_from_slice(&place.to_le_bytes());
        login[at + 2..at + 4].copy_from_slice(&units.to_le_bytes());
    }
    login.extend([wide("pc"), wide("mes"), bytes("6c000000"), bytes("02 02000000 05 01 ff")].concat());
    let length = u32::try_from(login.len()).unwrap().to_le_bytes();
    login[..4].copy_from_slice(&length);
    let token = wide("synthetic-token-71");
    let said = [u32::try_from(token.len() + 4).unwrap().to_le_bytes(), u32::try_from(token.len()).unwrap().to_le_bytes()].concat();
    let script: Script = entry()[..2]
        .iter()
        .cloned()
        .chain([
            (CLIENT, packet(LOGIN, &login)),
            answer("ee 0d000000 01000000 02 00000000 0d000000"),
            (CLIENT, packet(FEDERATED, &[said, token].concat())),
            answer(&format!("ad 0600 01 74000004 00 ae 02 00000000 ff {}", done(0, 0))),
            batch("SELECT id, part FROM dbo.t"),
            answer(&format!("{SHAPE} {ROW} {}", done(0xc1, 1))),
        ])
        .collect();
    let played = play_script(decoder(Options { facts: true, midstream: false }), &script);
    assert_eq!(played.error, None);
    let last = played.events.last().unwrap();
    assert_eq!((&last["account"], &last["account_from"]), (&Value::Null, &json!("unknown")));
    assert_eq!((&last["application"], &last["protection"]["authentication"]), (&json!("mes"), &json!("fedauth")));
    assert_eq!(sets(&played), ["select dbo.t [id part] 1 1"]);
    assert!(!format!("{:?} {:?}", played.events, played.facts).contains("synthetic-token-71"));
    shared_checks(&TDS, &script, &["synthetic-token-71"]);
}

#[test]
fn sessions_of_one_connection_share_what_was_agreed_on() {
    // MC-SMP 2.2.1: SYN opens session 0, DATA carries it.
    let smp = |flags: u8, number: u32, body: &[u8]| {
        let length = u32::try_from(body.len() + 16).unwrap().to_le_bytes();
        [&[SMP, flags, 0, 0][..], &length, &number.to_le_bytes(), &4_u32.to_le_bytes(), body].concat()
    };
    let rows = packet(ANSWER, &bytes(&format!("{SHAPE} {} {ROW} {}", classified("0a000000"), done(0xc1, 1))));
    let mut script = entry();
    // The answer to the login, with the feature in front.
    let logged_in = script.pop().unwrap().1;
    script.push((SERVER, packet(ANSWER, &[bytes("ae 09 02000000 02 01 ff"), logged_in[HEADER_BYTES..].to_vec()].concat())));
    script.extend([(CLIENT, smp(1, 0, &[])), (CLIENT, smp(8, 1, &batch("SELECT id, part FROM dbo.t").1)), (SERVER, smp(8, 1, &rows))]);
    let played = play_script(decoder(Options { facts: true, midstream: false }), &script);
    assert_eq!(played.error, None);
    assert_eq!(sets(&played), ["select mes.dbo.t [id part] 1 1"]);
    shared_checks(&TDS, &script, &[]);
}

#[test]
fn columns_that_the_clients_keys_encrypt_are_walked() {
    // FEATUREEXTACK of COLUMNENCRYPTION; one key; a column whose values are VARBINARY and mean INT.
    let keys = "0100 01000000 01000000 01000000 0100000000000000 01 0200 abcd 01 6100 0100 6200 01 6300";
    let column = "00000000 0908 a5 2000 0000 00000000 38 02 01 01 02 69006400";
    let rows = "d1 0400 01020304 d2 01 d1 ffff";
    let played =
        of(&[batch("SELECT id FROM dbo.t"), answer(&format!("ae 04 01000000 01 ff 81 0100 {keys} {column} {rows} {}", done(0xc1, 3)))]);
    assert_eq!(sets(&played), ["select mes.dbo.t [id] 3 1"]);
}

#[test]
fn rows_that_compute_adds_are_rows() {
    let computed = "88 0100 0100 00 4d 0100 00000000 0900 26 04 00";
    let played = of(&[
        batch("SELECT id, part FROM dbo.t"),
        answer(&format!("{SHAPE} {computed} {ROW} d3 0100 04 05000000 {ROW} {}", done(0xc1, 2))),
    ]);
    assert_eq!(sets(&played), ["select mes.dbo.t [id part] 3 1"]);
}

#[test]
fn metadata_that_is_not_repeated_is_that_of_before() {
    let execute = |number: u8| {
        let body = [headers(), bytes(&format!("ffff 0c00 0200 00 00 26 04 04 {number:02x}000000"))].concat();
        (CLIENT, packet(RPC, &body))
    };
    let text = wide("SELECT id, part FROM dbo.t");
    let prepare = [
        headers(),
        bytes("ffff 0b00 0000 00 01 26 04 00 00 00 e7 0800 0904d00034 ffff 00 00 e7"),
        bytes("401f 0904d00034"),
        (text.len() as u16).to_le_bytes().to_vec(),
        text,
    ]
    .concat();
    let returned = "ac 0000 00 01 00000000 0000 26 04 04 03000000 79 00000000 fe 0000 e000 0000000000000000";
    let rows = |shape: &str, n: usize| {
        answer(&format!("{shape} {} ff 1100 c100 0{n}00000000000000 79 00000000 fe 0000 e000 0000000000000000", ROW.repeat(n)))
    };
    let played = of(&[(CLIENT, packet(RPC, &prepare)), answer(returned), execute(3), rows(SHAPE, 2), execute(3), rows("81 ffff", 4)]);
    assert_eq!(sets(&played), ["select mes.dbo.t [id part] 6 2"]);
}

#[test]
fn statements_that_need_not_run_share_what_is_returned_and_changed() {
    let played = of(&[
        batch("IF EXISTS (SELECT 1 FROM dbo.a) SELECT id, part FROM dbo.b ELSE SELECT id, part FROM dbo.c UPDATE dbo.d SET x = 1"),
        answer(&format!("{SHAPE} {ROW} fd 1100 c100 0100000000000000 {}", done(0xc5, 4))),
    ]);
    assert_eq!(sets(&played), ["select mes.dbo.b mes.dbo.c [id part] 1 1", "update mes.dbo.d [x] 4 1"]);
}

#[test]
fn what_is_changed_through_a_cursor_is_of_its_statements_table() {
    // sp_cursoropen (2) hands back a cursor; sp_cursor (1) updates, inserts or deletes a row of what it has fetched: the second parameter
    // says which (MS-TDS 2.2.6.6; "sp_cursor" of Transact-SQL).
    let text = wide("SELECT id, part FROM dbo.t");
    let open =
        [headers(), bytes("ffff 0200 0000 00 01 26 04 00 00 00 e7 0800 0904d00034"), (text.len() as u16).to_le_bytes().to_vec(), text]
            .concat();
    let opened = "ac 0000 00 01 00000000 0000 26 04 04 07000000 79 00000000 fe 0000 e000 0000000000000000";
    let change = |kind: u8| {
        let body =
            [headers(), bytes(&format!("ffff 0100 0000 00 00 26 04 04 07000000 00 00 26 04 04 {kind:02x}000000 00 00 26 04 04 01000000"))];
        (CLIENT, packet(RPC, &body.concat()))
    };
    let over = || answer("79 00000000 fe 0000 e000 0000000000000000");
    let steps = [
        (CLIENT, packet(RPC, &open)),
        answer(&format!("{SHAPE} {ROW} ff 1100 c100 0100000000000000 {opened}")),
        change(1),
        over(),
        change(2),
        over(),
        change(4),
        over(),
    ];
    let told: Vec<_> = sets(&of(&steps)).into_iter().filter(|set| !set.starts_with("connect")).collect();
    assert_eq!(
        told,
        ["delete mes.dbo.t [*] 0 1", "insert mes.dbo.t [*] 0 1", "select mes.dbo.t [id part] 1 1", "update mes.dbo.t [*] 0 1"]
    );
}

#[test]
fn several_calls_of_one_message_are_answered_in_their_order() {
    let call = |text: &str| {
        let text = wide(text);
        [bytes("ffff 0a00 0000 00 00 e7 401f 0904d00034"), (text.len() as u16).to_le_bytes().to_vec(), text].concat()
    };
    let body = [headers(), call("INSERT INTO dbo.a VALUES (1)"), vec![0xff], call("DELETE FROM dbo.b")].concat();
    let one = |command: u8, count: u8, last: bool| {
        let status = if last { "0000" } else { "8100" };
        format!("ff 1100 {command:02x}00 {count:02x}00000000000000 79 00000000 fe {status} e000 0000000000000000")
    };
    let played = of(&[(CLIENT, packet(RPC, &body)), answer(&format!("{} {}", one(0xc3, 1, false), one(0xc4, 7, true)))]);
    assert_eq!(sets(&played), ["delete mes.dbo.b [*] 7 1", "insert mes.dbo.a [*] 1 1"]);
    assert_eq!(played.facts["tds"]["rpc_count"], 2);
}

#[test]
fn database_that_is_chosen_qualifies_what_follows_and_a_reset_takes_it_back() {
    let reset = {
        let (side, mut sent) = batch("SELECT id, part FROM t");
        sent[1] |= 8;
        (side, sent)
    };
    let rows = || answer(&format!("{SHAPE} {ROW} {}", done(0xc1, 1)));
    let body = [bytes("01 05"), wide("other"), bytes("00")].concat();
    let change = [&[0xe3, body.len() as u8, 0][..], body.as_slice(), bytes(&done(0, 0)).as_slice()].concat();
    let played = of(&[batch("USE other"), (SERVER, packet(ANSWER, &change)), batch("SELECT id, part FROM t"), rows(), reset, rows()]);
    assert_eq!(sets(&played), ["select mes..t [id part] 1 1", "select other..t [id part] 1 1"]);
}

#[test]
fn a_loss_costs_the_message_that_it_is_part_of_and_no_more() {
    let entry = entry();
    let mut steps: Vec<_> = entry.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
    let (one, two) = (batch("SELECT id, part FROM dbo.t"), batch("SELECT id, part FROM dbo.u"));
    let rows = answer(&format!("{SHAPE} {ROW} {ROW} {ROW} {}", done(0xc1, 3)));
    let (head, tail) = rows.1.split_at(HEADER_BYTES + bytes(&format!("{SHAPE} {ROW}")).len() + 3);
    // Inside the second row the next eight bytes are lost; the third is not found, the next answer is.
    steps.extend([Step::Data(CLIENT, &one.1), Step::Data(SERVER, head), Step::Gap(SERVER, 8), Step::Data(SERVER, &tail[8..])]);
    steps.extend([Step::Data(CLIENT, &two.1), Step::Data(SERVER, &rows.1)]);
    let played = play(decoder(Options { facts: true, midstream: false }), &steps);
    assert_conserved(&played);
    assert_eq!(sets(&played), ["select mes.dbo.t [id part] 2 1", "select mes.dbo.u [id part] 3 1", "select unknown [*] 0 0"]);
    let states: Vec<_> =
        played.events.iter().filter(|e| e["operation"] == "select").map(|e| e["completeness"]["state"].as_str().unwrap()).collect();
    assert!(states.contains(&"lossy"), "{states:?}");
}

#[test]
fn a_loss_inside_one_value_loses_nothing_else() {
    let entry = entry();
    let mut steps: Vec<_> = entry.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
    let one = batch("SELECT id, part FROM dbo.t");
    let long = format!("d1 04 01000000 6400 {}", "6100".repeat(50));
    let rows = answer(&format!("{SHAPE} {long} {ROW} {}", done(0xc1, 2)));
    let (head, tail) = rows.1.split_at(HEADER_BYTES + bytes(SHAPE).len() + 20);
    steps.extend([Step::Data(CLIENT, &one.1), Step::Data(SERVER, head), Step::Gap(SERVER, 40), Step::Data(SERVER, &tail[40..])]);
    let played = play(decoder(Options { facts: true, midstream: false }), &steps);
    assert_conserved(&played);
    assert_eq!(sets(&played), ["select mes.dbo.t [id part] 2 1"]);
}

#[test]
fn packets_are_found_again_after_a_gap_that_hides_their_ends() {
    let recorded = testing::recording("tds", "large");
    let whole = testing::played(&TDS, &recorded);
    let pieces = recorded.script;
    // Pieces 10 to 12 and half of the next are lost: the rest of the answer is not read, the statement behind it is.
    let mut steps: Vec<_> = pieces[..10].iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
    let lost: usize = pieces[10..13].iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(pieces[10..14].iter().all(|(side, _)| *side == SERVER));
    steps.push(Step::Gap(SERVER, lost as u64 + 100));
    steps.push(Step::Data(SERVER, &pieces[13].1[100..]));
    steps.extend(pieces[14..].iter().map(|(side, bytes)| Step::Data(*side, bytes)));
    let played = play(decoder(Options { facts: true, midstream: false }), &steps);
    assert_conserved(&played);
    assert_eq!(played.error, None);
    let of_orders = |played: &Played| sets(played).into_iter().find(|set| set.contains("orders")).unwrap();
    assert_eq!(of_orders(&played), of_orders(&whole));
}

#[test]
fn wrong_lengths_and_types_are_refused_and_absurd_ones_bounded() {
    let new = || decoder(Options::default());
    for wrong in ["12 01 00 03 00 00 00 00", "4f 01 00 20 00 00 00 00"] {
        assert!(play_script(new(), &vec![(CLIENT, bytes(wrong))]).error.is_some(), "{wrong}");
    }
    // A column whose name of an assembly does not end: the message is not read, and nothing more is kept.
    let udt = format!("81 0100 00000000 0900 f0 ffff 00 00 00 ffff {}", "61".repeat(3000));
    let mut script = entry();
    script.push(batch("SELECT g FROM dbo.t"));
    let body = bytes(&udt);
    for _ in 0..60 {
        let length = u16::try_from(body.len() + HEADER_BYTES).unwrap().to_be_bytes();
        script.push((SERVER, [&[ANSWER, 0, length[0], length[1], 0, 51, 1, 0], body.as_slice()].concat()));
    }
    let played = play_script(new(), &script);
    assert_conserved(&played);
    assert_eq!(played.error, None);
    assert!(played.memory_bytes_max < 2 * ITEM_BYTES_MAX + 65_536, "{}", played.memory_bytes_max);
}

#[test]
fn a_call_without_headers_is_read_however_it_is_cut() {
    let mut script: Script = testing::recording("tds", "old").script.into_iter().take(4).collect();
    script.push((CLIENT, packet(RPC, &[bytes("0a00"), wide("dbo.p_load"), bytes("0000 00 00 26 04 04 07000000")].concat())));
    script.push((SERVER, packet(ANSWER, &bytes("79 00000000 fe 0000 e000 00000000"))));
    let played = play_script(decoder(Options { facts: true, midstream: false }), &script);
    assert_eq!(sets(&played), ["call function:dbo.p_load [*] 0 1"]);
    shared_checks(&TDS, &script, &[]);
}

#[test]
fn a_message_that_a_packet_of_another_type_cuts_short_is_over() {
    let mut unfinished = packet(ATTENTION, &[]);
    unfinished[1] = 0;
    let played = of(&[
        (CLIENT, unfinished),
        // A call without headers, of a procedure without a name.
        (CLIENT, packet(RPC, &bytes("0000 0000 0000"))),
        (SERVER, packet(ANSWER, &bytes("79 00000000 fe 0000 e000 0000000000000000"))),
        batch("SELECT a FROM t"),
        answer(&done(0xc1, 0)),
    ]);
    assert_eq!(sets(&played), ["call unknown [*] 0 1", "select mes..t [a] 0 1"]);
}
