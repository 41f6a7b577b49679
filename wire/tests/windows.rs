//! Where windows end, what their ids hash, and that bytes are neither made nor lost.

use hopwatch_wire::windows::{
    BYTES_MAX, ConnectionId, Counts, Endpoint, FLOWS_MAX, Identity, LASTS_MAX, Movement, OBJECTS_MAX, ObjectSet, Opening, Operation,
    ROWS_MAX, SHORT_WINDOWS_MAX, Side, WINDOW_NS, Windows, rfc3339,
};
use serde_json::Value;
use std::sync::Arc;

const START_NS: i64 = 1_775_558_528_000_000_000;

fn opened(first_ns: i64) -> (Windows, ConnectionId) {
    let mut windows = Windows::new("north", "tap-1");
    let id = windows.open(opening(first_ns));
    (windows, id)
}

fn opening(first_ns: i64) -> Opening {
    Opening {
        client: Endpoint { address: "10.40.9.77".parse().unwrap(), port: 51_512 },
        server: Endpoint { address: "10.20.1.21".parse().unwrap(), port: 5432 },
        opened_by: Some(Side::Client),
        transport: Arc::from("tcp"),
        tap: None,
        context: None,
        seen_by: "tap",
        first_ns,
    }
}

fn objects(name: &str) -> Arc<ObjectSet> {
    Arc::new(ObjectSet { names: vec![name.into()], columns: vec!["*".into()], statement: None, ..ObjectSet::default() })
}

fn select(name: &str) -> Movement {
    Movement::of(Operation::Select, Side::Server, objects(name))
}

fn events(windows: &mut Windows) -> Vec<Value> {
    windows.take().iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn a_window_ends_one_second_after_it_began() {
    let (mut windows, id) = opened(START_NS);
    windows.recorder(id, START_NS).add(&select("a"), Side::Server, 0, Counts::rows(1));
    windows.recorder(id, START_NS + WINDOW_NS / 2).add(&select("a"), Side::Server, 0, Counts::rows(2));
    windows.advance(START_NS + WINDOW_NS - 1);
    assert!(events(&mut windows).is_empty());
    windows.advance(START_NS + WINDOW_NS);
    let out = events(&mut windows);
    assert_eq!(out.len(), 1);
    assert_eq!(
        (out[0]["rows"].as_i64(), out[0]["start"].as_str(), out[0]["end"].as_str()),
        (Some(3), Some("2026-04-07T10:42:08Z"), Some("2026-04-07T10:42:08.500Z"))
    );
}

/// However many flows go on, about as many windows end in a second. What is new is told after a second all the same.
#[test]
fn beside_many_open_windows_the_next_one_of_a_flow_lasts_longer() {
    for (others, lasts) in
        [(SHORT_WINDOWS_MAX - 1, 1), (SHORT_WINDOWS_MAX, 2), (SHORT_WINDOWS_MAX * 2 + 1, 3), (SHORT_WINDOWS_MAX * 12, LASTS_MAX)]
    {
        let (mut windows, first) = opened(START_NS);
        let say = |windows: &mut Windows, id, time_ns| windows.recorder(id, time_ns).add(&select("a"), Side::Server, 0, Counts::rows(1));
        say(&mut windows, first, START_NS);
        let began_ns = START_NS + WINDOW_NS;
        windows.advance(began_ns);
        assert_eq!(windows.take().len(), 1);
        for _ in 0..others {
            let id = windows.open(opening(began_ns));
            say(&mut windows, id, began_ns);
        }
        say(&mut windows, first, began_ns);
        // The others are new, however many came before them.
        windows.advance(began_ns + WINDOW_NS - 1);
        assert_eq!(windows.take().len(), 0);
        windows.advance(began_ns + WINDOW_NS);
        assert_eq!(windows.take().len(), others + usize::from(lasts == 1));
        say(&mut windows, first, began_ns + lasts * WINDOW_NS - 1);
        windows.advance(began_ns + lasts * WINDOW_NS - 1);
        assert_eq!(windows.take().len(), 0);
        windows.advance(began_ns + lasts * WINDOW_NS + i64::from(lasts == 1) * WINDOW_NS);
        let out = events(&mut windows);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0]["rows"].as_i64(), Some(if lasts == 1 { 1 } else { 2 }), "{others} others");
        assert_eq!(windows.counters.long_windows_total, u64::from(lasts > 1));
        // Few are open again, and the next one lasts a second.
        let later_ns = began_ns + 20 * WINDOW_NS;
        say(&mut windows, first, later_ns);
        windows.advance(later_ns + WINDOW_NS);
        assert_eq!(windows.take().len(), 1);
    }
}

#[test]
fn a_window_ends_at_its_row_limit_and_the_next_goes_on() {
    let (mut windows, id) = opened(START_NS);
    for _ in 0..ROWS_MAX + 1 {
        windows.recorder(id, START_NS).add(&select("a"), Side::Server, 0, Counts::rows(1));
    }
    windows.close(id, START_NS);
    let out = events(&mut windows);
    let rows: Vec<_> = out.iter().map(|e| e["rows"].as_i64().unwrap()).collect();
    assert_eq!(rows, [ROWS_MAX, 1]);
    assert_eq!((out[0]["sequence"].as_u64(), out[1]["sequence"].as_u64()), (Some(0), Some(1)));
    assert_eq!(out[1]["totals"]["rows"].as_i64(), Some(ROWS_MAX + 1));
    assert_eq!((out[0]["final"].as_bool(), out[1]["final"].as_bool()), (Some(false), Some(true)));
}

#[test]
fn a_window_ends_at_its_byte_limit() {
    let (mut windows, id) = opened(START_NS);
    let mut out = windows.recorder(id, START_NS);
    out.arrived(Side::Server, BYTES_MAX);
    out.add(&select("a"), Side::Server, BYTES_MAX - 1, Counts::ZERO);
    out.add(&select("a"), Side::Server, 1, Counts::ZERO);
    let out = events(&mut windows);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0]["bytes"].as_u64(), Some(BYTES_MAX));
}

#[test]
fn one_object_set_too_many_opens_another_window_and_hides_nothing() {
    let (mut windows, id) = opened(START_NS);
    for i in 0..=OBJECTS_MAX {
        windows.recorder(id, START_NS).add(&select(&format!("t{i}")), Side::Server, 0, Counts::rows(1));
    }
    windows.close(id, START_NS);
    let out = events(&mut windows);
    let sets: Vec<_> = out.iter().map(|e| e["objects"].as_array().unwrap().len()).collect();
    assert_eq!(sets, [OBJECTS_MAX, 1]);
}

#[test]
fn a_change_of_role_ends_the_window_and_changes_the_flow() {
    let (mut windows, id) = opened(START_NS);
    let mut out = windows.recorder(id, START_NS);
    out.identify(|i| i.account = Some("svc_mw".into()));
    out.add(&select("a"), Side::Server, 0, Counts::rows(1));
    out.identify(|i| i.role = Some("dba".into()));
    out.add(&select("a"), Side::Server, 0, Counts::rows(2));
    out.identify(|i| i.role = None);
    out.add(&select("a"), Side::Server, 0, Counts::rows(4));
    windows.close(id, START_NS);
    let out = events(&mut windows);
    let seen: Vec<_> = out.iter().map(|e| (e["role"].as_str(), e["rows"].as_i64().unwrap(), e["sequence"].as_u64().unwrap())).collect();
    assert_eq!(seen, [(None, 1, 0), (Some("dba"), 2, 0), (None, 4, 1)]);
    assert_eq!(out[0]["flow_id"], out[2]["flow_id"]);
    assert_ne!(out[0]["flow_id"], out[1]["flow_id"]);
}

#[test]
fn a_claim_to_be_somebody_does_not_end_the_window() {
    let (mut windows, id) = opened(START_NS);
    let mut out = windows.recorder(id, START_NS);
    out.add(&select("a"), Side::Server, 0, Counts::rows(1));
    out.identify(|i| i.on_behalf_of = Some("shift-lead".into()));
    out.add(&select("a"), Side::Server, 0, Counts::rows(1));
    windows.close(id, START_NS);
    assert_eq!(events(&mut windows).len(), 1);
}

#[test]
fn the_source_is_where_the_data_comes_from() {
    let (mut windows, id) = opened(START_NS);
    let mut out = windows.recorder(id, START_NS);
    out.arrived(Side::Server, 100);
    out.arrived(Side::Client, 7);
    out.add(&select("a"), Side::Server, 100, Counts::rows(1));
    out.add(&select("a"), Side::Client, 7, Counts::ZERO);
    windows.close(id, START_NS);
    let out = events(&mut windows);
    assert_eq!(out[0]["source"]["address"], "10.20.1.21");
    assert_eq!(out[0]["opened_by"], "destination");
    assert_eq!((out[0]["bytes"].as_u64(), out[0]["bytes_back"].as_u64()), (Some(100), Some(7)));
    assert_eq!(out[0]["objects"][0]["bytes"].as_u64(), Some(100));
}

#[test]
fn bytes_that_nobody_claimed_are_settled_at_the_end() {
    let (mut windows, id) = opened(START_NS);
    let mut out = windows.recorder(id, START_NS);
    out.arrived(Side::Client, 10);
    out.add(&Movement::new(Operation::Connect, Side::Client), Side::Client, 4, Counts::ZERO);
    windows.close(id, START_NS);
    let out = events(&mut windows);
    assert_eq!(out.iter().map(|e| e["bytes"].as_u64().unwrap()).sum::<u64>(), 10);
}

#[test]
fn the_same_observations_give_the_same_ids_and_another_start_gives_others() {
    let ids = |first_ns: i64| {
        let (mut windows, id) = opened(first_ns);
        windows.recorder(id, first_ns).add(&select("a"), Side::Server, 0, Counts::rows(1));
        windows.close(id, first_ns);
        let out = events(&mut windows);
        (out[0]["event_id"].clone(), out[0]["flow_id"].clone(), out[0]["connection"].clone())
    };
    assert_eq!(ids(START_NS), ids(START_NS));
    let (one, two) = (ids(START_NS), ids(START_NS + 1));
    assert_ne!(one.0, two.0);
    assert_ne!(one.1, two.1);
    assert_eq!(one.2, two.2, "a connection is told by its ends alone");
}

#[test]
fn a_connection_has_the_same_hash_on_every_agent_and_from_either_end() {
    let hash = |agent: &str, swap: bool| {
        let mut windows = Windows::new("north", agent);
        let mut one = opening(START_NS);
        if swap {
            std::mem::swap(&mut one.client, &mut one.server);
        }
        let id = windows.open(one);
        windows.recorder(id, START_NS).add(&select("a"), Side::Server, 0, Counts::rows(1));
        windows.close(id, START_NS);
        events(&mut windows)[0]["connection"].clone()
    };
    assert_eq!(hash("tap-1", false), hash("tap-2", true));
}

#[test]
fn a_name_holds_for_the_client_that_was_told_it_and_only_in_its_lifetime() {
    let told = |client: &str, until_ns: i64| {
        let mut windows = Windows::new("north", "tap-1");
        windows.answered(client.parse().unwrap(), "10.20.1.21".parse().unwrap(), "mes-db.plant.example", START_NS - 5, until_ns);
        let id = windows.open(opening(START_NS));
        windows.recorder(id, START_NS).add(&select("a"), Side::Server, 0, Counts::rows(1));
        windows.close(id, START_NS);
        events(&mut windows)[0]["source"]["names"].clone()
    };
    assert_eq!(told("10.40.9.77", START_NS), serde_json::json!([{"name": "mes-db.plant.example", "by": "dns"}]));
    assert_eq!(told("10.40.9.77", START_NS - 1), serde_json::json!([]));
    assert_eq!(told("10.40.9.78", START_NS), serde_json::json!([]));
}

#[test]
fn the_flows_of_one_connection_are_bounded_and_nothing_is_dropped() {
    let (mut windows, id) = opened(START_NS);
    let extra = 10;
    for i in 0..FLOWS_MAX + extra {
        let mut out = windows.recorder(id, START_NS);
        out.identify(|identity| identity.role = Some(format!("r{i}")));
        out.add(&select("a"), Side::Server, 0, Counts::rows(1));
    }
    windows.close(id, START_NS);
    assert_eq!(windows.counters.flows_folded_total, extra as u64);
    let out = events(&mut windows);
    assert_eq!(out.iter().map(|e| e["rows"].as_u64().unwrap()).sum::<u64>(), (FLOWS_MAX + extra) as u64);
    let ids: std::collections::BTreeSet<_> = out.iter().map(|e| e["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), out.len());
}

#[test]
fn times_have_as_many_digits_as_they_need() {
    // `date -u -d @1775558528` and the leap day of 2000, from coreutils.
    for (time_ns, text) in [
        (1_775_558_528_000_000_000, "2026-04-07T10:42:08Z"),
        (1_775_558_528_120_000_000, "2026-04-07T10:42:08.120Z"),
        (1_775_558_528_000_001_000, "2026-04-07T10:42:08.000001Z"),
        (1_775_558_528_000_000_001, "2026-04-07T10:42:08.000000001Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-1_000_000_000, "1969-12-31T23:59:59Z"),
    ] {
        assert_eq!(rfc3339(time_ns), text);
    }
}

fn svc_report(identity: &mut Identity) {
    identity.account = Some("svc_report".into());
    identity.account_from = Some("token");
}

#[test]
fn a_login_is_the_accounts_from_its_first_byte() {
    let (mut windows, id) = opened(START_NS);
    let connect = Movement::new(Operation::Connect, Side::Client);
    let mut out = windows.recorder(id, START_NS);
    out.arrived(Side::Client, 70);
    out.add(&connect, Side::Client, 40, Counts::messages(1));
    out.login(svc_report);
    out.add(&connect, Side::Client, 30, Counts::messages(1));
    windows.close(id, START_NS);
    let seen = events(&mut windows);
    assert_eq!(seen.len(), 1, "one session, one flow");
    assert_eq!((&seen[0]["account"], &seen[0]["bytes"], &seen[0]["messages"]), (&"svc_report".into(), &70.into(), &2.into()));
    // Its id is the one that the named key gives, whatever came before the name.
    let (mut windows, id) = opened(START_NS);
    let mut out = windows.recorder(id, START_NS);
    out.login(svc_report);
    out.add(&connect, Side::Client, 0, Counts::messages(1));
    windows.close(id, START_NS);
    assert_eq!(events(&mut windows)[0]["flow_id"], seen[0]["flow_id"]);
}

#[test]
fn what_was_told_before_the_login_stays_under_no_name() {
    let (mut windows, id) = opened(START_NS);
    let connect = Movement::new(Operation::Connect, Side::Client);
    windows.recorder(id, START_NS).add(&connect, Side::Client, 0, Counts::messages(1));
    windows.advance(START_NS + WINDOW_NS);
    let mut out = windows.recorder(id, START_NS + WINDOW_NS);
    out.add(&connect, Side::Client, 0, Counts::messages(1));
    out.login(svc_report);
    out.add(&connect, Side::Client, 0, Counts::messages(1));
    windows.close(id, START_NS + WINDOW_NS);
    let accounts: Vec<_> = events(&mut windows).iter().map(|e| (e["account"].clone(), e["sequence"].clone())).collect();
    assert_eq!(accounts, [(Value::Null, 0.into()), (Value::Null, 1.into()), ("svc_report".into(), 0.into())]);
}

#[test]
fn data_read_before_the_login_and_an_attempt_that_fails_name_nobody() {
    let (mut windows, id) = opened(START_NS);
    let mut out = windows.recorder(id, START_NS);
    out.add(&select("a"), Side::Server, 0, Counts::rows(1));
    out.login(svc_report);
    out.identify(|i| *i = Identity::default());
    out.add(&Movement::new(Operation::Connect, Side::Client), Side::Client, 0, Counts::messages(1));
    out.identify(svc_report);
    windows.close(id, START_NS);
    assert!(events(&mut windows).iter().all(|e| e["account"].is_null()));
}
