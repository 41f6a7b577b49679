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
        recorded!("history"),
        recorded!("sign"),
        recorded!("subscribe"),
        recorded!("call"),
        recorded!("username"),
        recorded!("refused"),
        recorded!("sign-username"),
        recorded!("encrypted"),
    ] {
        assert_eq!(testing::recognise(&OPCUA, &script), Recognition::Yes { client: CLIENT });
        shared_checks(&OPCUA, &script, SECRETS);
        // Every body is walked to its end: the grammars are right.
        let estimated = |e: &&Value| e["completeness"]["estimated"] == true;
        assert_eq!(play_script(new(), &script).events.iter().find(estimated), None);
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

#[test]
fn notifications_are_counted_as_the_client_saw_them_and_name_their_nodes() {
    let (script, ledger) = recorded!("subscribe");
    let played = play_script(new(), &script);
    assert_eq!(total(&played.events, "subscribe", "values"), ledger["subscribe.values"]);
    let names = names(&played.events, "subscribe");
    assert_eq!((names.len(), names[0].as_str()), (12, "ns=2;s=Line1/Telemetry/T00"));
}

#[test]
fn sign_mode_is_read_and_sign_and_encrypt_is_counted() {
    for name in ["username", "sign-username"] {
        let (script, ledger) = if name == "username" { recorded!("username") } else { recorded!("sign-username") };
        let played = play_script(new(), &script);
        assert_eq!(total(&played.events, "write", "values"), ledger["write.values"], "{name}");
        assert_eq!(total(&played.events, "read", "values"), ledger["read.values"], "{name}");
        assert_eq!(total(&played.events, "call", "messages"), 2 * ledger["call.requests"], "{name}");
        let write = played.events.iter().find(|e| e["operation"] == "write").unwrap();
        assert_eq!((&write["account"], &write["account_from"]), (&json!("svc_hist"), &json!("token")));
        assert_eq!(write["application"], "urn:north:client");
        let identities = json!([{"token_type": "username", "user_name": "svc_hist"}]);
        assert_eq!(played.facts["opcua"]["sessions"], json!([{"client_application_uri": "urn:north:client", "identities": identities}]));
        assert_eq!(write["protection"]["authentication"], "username");
        assert_eq!(write["protection"]["transport"], if name == "username" { "opcua-none" } else { "opcua-sign" });
        assert_eq!(write["destination"]["names"][0], json!({"name": "127.0.0.1", "by": "opcua"}));
    }
    let (script, _) = recorded!("encrypted");
    let played = play_script(new(), &script);
    let moved = played.events.iter().find(|e| e["operation"] == "transfer").unwrap();
    assert_eq!(moved["account"], "certificate:CN=urn:north:client");
    assert_eq!((&moved["depth"], &moved["completeness"]["state"]), (&json!("sizes"), &json!("encrypted")));
    assert_eq!(moved["protection"]["transport"], "opcua-signandencrypt");
    assert!(played.events.iter().all(|e| e["values"] == 0));
}

#[test]
fn a_refused_login_names_who_tried_and_moves_nothing() {
    let (script, _) = recorded!("refused");
    let played = play_script(new(), &script);
    let refused = played.events.iter().find(|e| e["operation"] == "refused").unwrap();
    assert_eq!((&refused["account"], &refused["messages"]), (&json!("mallory"), &json!(1)));
    assert!(played.events.iter().all(|e| e["operation"] == "refused" || e["account"] != "mallory"));
}

/// A chunk of a message on channel 7.
fn chunk(flag: u8, request_id: u32, body: &[u8]) -> Vec<u8> {
    let mut chunk = vec![b'M', b'S', b'G', flag];
    chunk.extend(u32::try_from(24 + body.len()).unwrap().to_le_bytes());
    for field in [7, 1, request_id, request_id] {
        chunk.extend(u32::to_le_bytes(field));
    }
    chunk.extend(body);
    chunk
}

fn text(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
}

fn typed(id: u16) -> Vec<u8> {
    [&[1, 0][..], &id.to_le_bytes()].concat()
}

/// A request of session `ns=0;i=9` up to the service's own fields.
fn request(id: u16) -> Vec<u8> {
    [typed(id), vec![0, 9], vec![0; 16], vec![0xff; 4], vec![0; 4], vec![0, 0, 0]].concat()
}

fn response(id: u16, status: u32) -> Vec<u8> {
    [typed(id), vec![0; 12], status.to_le_bytes().to_vec(), vec![0], vec![0xff; 4], vec![0, 0, 0]].concat()
}

/// A Read of nodes ns=1;i=0… up to `count`.
fn read_request(count: u16) -> Vec<u8> {
    let mut body = [request(631), vec![0; 12], u32::from(count).to_le_bytes().to_vec()].concat();
    for node in 0..count {
        body.extend([&[1, 1][..], &node.to_le_bytes(), &[13, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff]].concat());
    }
    body
}

fn read_response(count: u32, values: usize) -> Vec<u8> {
    [response(634, 0), count.to_le_bytes().to_vec(), vec![0; values]].concat()
}

fn midway(steps: &[Step<'_>]) -> Played {
    play((OPCUA.decoder)(Options { facts: true, midstream: true }), steps)
}

#[test]
fn values_of_more_than_a_thousand_nodes_go_to_the_set_of_their_node() {
    let (asked, given) = (chunk(b'F', 1, &read_request(2500)), chunk(b'F', 1, &read_response(2500, 2500)));
    let played = midway(&[Step::Data(CLIENT, &asked), Step::Data(SERVER, &given)]);
    let sets = played.events.iter().find(|e| e["operation"] == "read").unwrap()["objects"].as_array().unwrap().clone();
    let values: Vec<_> = sets.iter().map(|set| (set["names"].as_array().unwrap().len(), set["values"].as_u64().unwrap())).collect();
    assert_eq!(values, [(1000, 1000), (1000, 1000), (500, 500)]);
    assert_conserved(&played);
}

#[test]
fn a_gap_inside_values_loses_no_count_and_the_next_message_is_read() {
    let asked = [chunk(b'F', 1, &read_request(3)), chunk(b'F', 2, &read_request(1))].concat();
    let given = chunk(b'F', 1, &read_response(3, 9000));
    let next = chunk(b'F', 2, &read_response(1, 10));
    let steps = [
        Step::Data(CLIENT, &asked),
        Step::Data(SERVER, &given[..2000]),
        Step::Gap(SERVER, 5000),
        Step::Data(SERVER, &given[7000..]),
        Step::Data(SERVER, &next),
    ];
    let played = midway(&steps);
    assert_eq!(total(&played.events, "read", "values"), 4);
    assert!(played.events.iter().all(|e| e["completeness"]["estimated"] == false));
    assert_conserved(&played);
}

#[test]
fn after_a_gap_over_a_header_the_next_chunk_is_found() {
    let asked: Vec<u8> = (1..=4).flat_map(|id| chunk(b'F', id, &read_request(1))).collect();
    let given: Vec<u8> = (1..=4).flat_map(|id| chunk(b'F', id, &read_response(1, 100))).collect();
    let one = given.len() / 4;
    let steps =
        [Step::Data(CLIENT, &asked), Step::Data(SERVER, &given[..one - 20]), Step::Gap(SERVER, 60), Step::Data(SERVER, &given[one + 40..])];
    let played = midway(&steps);
    // The first answer's count stood before the gap; the second lost its header.
    assert_eq!(total(&played.events, "read", "values"), 3);
    assert_eq!(played.error, None);
    assert_conserved(&played);
}

#[test]
fn a_length_beyond_the_body_is_not_believed() {
    let given = chunk(b'F', 1, &read_response(i32::MAX as u32, 10));
    let played = midway(&[Step::Data(SERVER, &given)]);
    assert!(total(&played.events, "read", "values") < 100);
    assert!(played.events.iter().any(|e| e["completeness"]["estimated"] == true));
}

#[test]
fn nesting_without_end_is_refused_and_the_next_message_is_read() {
    // An array of one Variant, which is an array of one Variant, …
    let nest: Vec<u8> = (0..5000).flat_map(|_| [0x98, 2, 0, 0, 0]).collect();
    let write = [request(673), 1_u32.to_le_bytes().to_vec(), vec![0, 85], vec![13, 0, 0, 0], vec![0xff; 4], vec![1], nest].concat();
    let steps = [chunk(b'F', 1, &write), chunk(b'F', 2, &read_request(1))].concat();
    let played = midway(&[Step::Data(CLIENT, &steps)]);
    assert_eq!(played.error, None);
    assert_eq!(names(&played.events, "write"), ["ns=0;i=85"]);
    assert_eq!(names(&played.events, "read"), ["ns=1;i=0"]);
    assert!(played.memory_bytes_max < 1 << 20);
}

/// A Call of a method of namespace 0 with String arguments.
fn call(method: u16, arguments: &[&str]) -> Vec<u8> {
    let mut body = [request(712), 1_u32.to_le_bytes().to_vec(), typed(24290), typed(method)].concat();
    body.extend(u32::try_from(arguments.len()).unwrap().to_le_bytes());
    for argument in arguments {
        body.push(12);
        body.extend(text(argument));
    }
    body
}

#[test]
fn user_management_names_the_account_and_never_a_password() {
    let steps = [
        chunk(b'F', 1, &call(24304, &["operator7", "s3cret-one", ""])),
        chunk(b'F', 2, &call(24308, &["operator8"])),
        chunk(b'F', 3, &call(24310, &["s3cret-old", "s3cret-new"])),
    ]
    .concat();
    let played = midway(&[Step::Data(CLIENT, &steps)]);
    let sets = played.events.iter().find(|e| e["operation"] == "admin").unwrap()["objects"].as_array().unwrap().clone();
    let said: Vec<_> = sets.iter().map(|set| (set["names"][0].as_str().unwrap(), set["columns"][0].as_str().unwrap())).collect();
    assert_eq!(said, [("account:operator7", "create"), ("account:operator8", "drop"), ("account:unknown", "password")]);
    let marks: Vec<_> = sets.iter().map(|set| &set["marks"]).collect();
    assert_eq!(marks, [&json!(["secret-password"]), &Value::Null, &json!(["secret-password"])]);
    assert!(!serde_json::to_string(&played.events).unwrap().contains("s3cret"));
}

#[test]
fn browse_next_names_the_node_whose_browse_it_continues() {
    let browse = [request(527), vec![0, 0], vec![0; 16], vec![1, 0, 0, 0], vec![0, 85], vec![0; 4], vec![0, 33], vec![0; 9]].concat();
    let browsed = [response(530, 0), vec![1, 0, 0, 0], vec![0; 4], text("point-1"), vec![0; 4], vec![0xff; 4]].concat();
    let next = [request(533), vec![0], vec![1, 0, 0, 0], text("point-1")].concat();
    let (first, answer, second) = (chunk(b'F', 1, &browse), chunk(b'F', 1, &browsed), chunk(b'F', 2, &next));
    let played = midway(&[Step::Data(CLIENT, &first), Step::Data(SERVER, &answer), Step::Data(CLIENT, &second)]);
    assert_eq!(names(&played.events, "browse"), ["ns=0;i=85"]);
    assert_eq!(total(&played.events, "browse", "messages"), 3);
}

#[test]
fn a_server_that_opens_the_connection_is_not_the_client() {
    let body = [text("urn:server"), text("opc.tcp://cell-1:4840")].concat();
    let reverse = [&b"RHEF"[..], &u32::try_from(8 + body.len()).unwrap().to_le_bytes(), &body].concat();
    let script = vec![(CLIENT, reverse)];
    assert_eq!(testing::recognise(&OPCUA, &script), Recognition::Yes { client: SERVER });
    let played = play_script(new(), &vec![(SERVER, script[0].1.clone())]);
    assert_eq!((played.error, played.events[0]["operation"].as_str()), (None, Some("connect")));
}

#[test]
fn notifications_of_items_made_before_are_unknown_and_counted() {
    let items =
        [vec![2, 0, 0, 0], [5_u32.to_le_bytes().to_vec(), vec![0]].concat(), [6_u32.to_le_bytes().to_vec(), vec![0]].concat()].concat();
    let change = [typed(811), vec![1], u32::try_from(items.len() + 4).unwrap().to_le_bytes().to_vec(), items, vec![0xff; 4]].concat();
    let publish = [response(829, 0), vec![3, 0, 0, 0], vec![0; 4], vec![0], vec![0; 12], vec![1, 0, 0, 0], change, vec![0; 8]].concat();
    let played = midway(&[Step::Data(SERVER, &chunk(b'F', 1, &publish))]);
    assert_eq!(total(&played.events, "subscribe", "values"), 2);
    assert_eq!(names(&played.events, "subscribe"), ["unknown"]);
}

#[test]
fn node_ids_are_written_in_the_standards_form() {
    let guid = [&[4, 3, 0][..], &[1, 0, 0, 0, 2, 0, 3, 0, 4, 5, 6, 7, 8, 9, 10, 11]].concat();
    for (encoded, text) in [
        (&[0, 85][..], "ns=0;i=85"),
        (&[1, 2, 1, 1], "ns=2;i=257"),
        (&[2, 1, 0, 0, 0, 1, 0], "ns=1;i=65536"),
        (&[3, 2, 0, b'T', b'1'], "ns=2;s=T1"),
        (&guid, "ns=3;g=00000001-0002-0003-0405-060708090a0b"),
        (&[5, 1, 0, 0xff, 0], "ns=1;b=/wA="),
    ] {
        assert_eq!(types::node_text(encoded), text);
    }
}
