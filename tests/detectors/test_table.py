"""Each verdict from both sides, on the flows of plant-north: the window that gets it, and its twin that does not."""

from datetime import date

import pytest
from north import (
    LAKE,
    LAKE_NAME,
    MES_APP,
    MES_DB,
    MW,
    NIGHT,
    NOON,
    UNS,
    architecture,
    collect,
    detector,
    end,
    extract,
    flow,
    judge,
    mes,
    objects,
    publish,
    upload,
)  # fmt: skip

from hopwatch.events import Heartbeat


def questions(judgement: object) -> set[str]:
    return {one.question for one in judgement.differences}  # type: ignore[attr-defined]


@pytest.mark.parametrize("window", [extract(), publish(), collect(), mes()])
def test_a_declared_window_read_whole_is_declared(window: object) -> None:
    judgement = judge(window)
    assert (judgement.verdict, judgement.severity, judgement.finding) == ("declared", None, None)
    assert set(judgement.checked.values()) == {"checked"}


def test_an_upload_whose_content_was_never_promised_is_declared_in_part() -> None:
    judgement = judge(upload())
    assert (judgement.verdict, judgement.hop, judgement.finding) == ("declared-in-part", "lake-upload", None)
    assert (judgement.checked["what"], judgement.checked["where"], judgement.checked["how_much"]) == ("assumed", "checked", "checked")


# decoy


def test_a_decoy_read_by_a_declared_account_is_critical() -> None:
    judgement = judge(mes(objects=[objects("mes.recipe_master_2019", rows=1)]))
    assert (judgement.verdict, judgement.severity) == ("decoy", "critical")


@pytest.mark.parametrize("name", ["pg_catalog.pg_class", "mes..sysobjects", "SYS.ALL_TAB_COLUMNS"])
def test_listing_the_schema_touches_no_decoy(name: str) -> None:
    assert judge(mes(objects=[objects(name, columns=("*",), rows=300)])).verdict == "declared"


def test_a_drivers_call_of_a_catalogue_procedure_is_no_finding_and_another_is() -> None:
    assert judge(extract(operation="call", objects=[objects("function:sp_columns", rows=30, messages=1)])).verdict == "declared"
    assert judge(extract(operation="call", objects=[objects("function:sp_loads", rows=30, messages=1)])).verdict != "declared"


# service


def dns(n: int = 0, **said: object) -> object:
    base = {
        "source": end(("10.30.0.2", 53)), "destination": end(("10.30.0.20", 5353)), "protocol": "dns", "operation": "query",
        "transport": "udp", "bytes": 100, "at": NOON, "key": "dns", "n": n, "protection": {"transport": "none"},
    }  # fmt: skip
    return flow(**base | said)


def test_dns_within_its_servers_users_and_cap_is_service() -> None:
    judgement = judge(dns())
    assert (judgement.verdict, judgement.service, judgement.severity) == ("service", "dns", None)


def test_dns_to_another_server_is_judged_as_any_flow() -> None:
    assert judge(dns(source=end(("10.30.0.99", 53)))).verdict == "undeclared-hop"


def test_dns_over_its_cap_is_over_limit_by_ratio() -> None:
    watching = detector()
    cap = 20 * 2**20
    assert [watching.observe(dns(n, bytes=size))[0].verdict for n, size in enumerate((cap, 1))] == ["service", "over-limit"]
    (judgement,) = watching.observe(dns(2, bytes=cap * 10))
    assert judgement.severity == "critical"


def test_the_cap_of_a_service_counts_each_host_for_itself() -> None:
    watching = detector()
    watching.observe(dns(0, bytes=20 * 2**20))
    assert watching.observe(dns(0, key="other", destination=end(("10.30.0.21", 5353))))[0].verdict == "service"


def test_the_scanner_may_only_do_what_it_declares_and_only_in_its_hours() -> None:
    scan = {"source": end(("10.30.0.8", 50000)), "destination": end(MES_DB), "opened_by": "source", "operation": "attempt", "bytes": 0}
    assert judge(flow(at="2026-04-05T01:00:00Z", **scan)).verdict == "service"
    assert judge(flow(at="2026-04-06T01:00:00Z", **scan)).verdict != "service"
    assert judge(flow(at="2026-04-05T01:00:00Z", **scan | {"operation": "select"})).verdict != "service"


def test_replication_between_an_assets_own_addresses_is_service() -> None:
    standby = end(("10.20.1.22", 50100))
    replicate = {"source": end(MES_DB), "destination": standby, "operation": "replicate", "bytes": 10**9, "at": NOON}
    assert judge(flow(account="replicator", **replicate)).verdict == "service"
    assert judge(flow(account="svc_mes", **replicate)).verdict != "service"


# undeclared-destination and undeclared-hop


def test_data_to_a_place_in_no_zone_is_an_undeclared_destination() -> None:
    judgement = judge(upload(destination=end(("192.0.2.200", 443), ("api.openai.com", "sni"))))
    assert (judgement.verdict, judgement.severity) == ("undeclared-destination", "critical")
    assert judgement.finding.known_places == [
        {"name": "api.openai.com", "category": "model-api", "provider": "OpenAI", "list": "2026-04-01", "confirmed": "no"}
    ]
    assert any("name unconfirmed: api.openai.com" in one.observed for one in judgement.differences)
    # No asset, account or class in common with any hop: the nearest is the one whose data starts where this starts.
    assert judgement.finding.nearest_hop == "lake-upload"


def test_a_name_approves_only_if_dns_or_the_nets_agree() -> None:
    elsewhere = ("192.0.2.200", 443)
    assert judge(upload(destination=end(elsewhere, (LAKE_NAME, "sni")))).verdict == "undeclared-destination"
    assert judge(upload(destination=end(elsewhere, (LAKE_NAME, "sni"), (LAKE_NAME, "dns")))).hop == "lake-upload"
    assert judge(upload(destination=end(LAKE, (LAKE_NAME, "sni")))).hop == "lake-upload"


def test_a_read_from_a_zone_without_a_hop_is_an_undeclared_hop_near_the_extraction() -> None:
    judgement = judge(
        extract(destination=end(("10.40.9.77", 51512)), account="svc_report", application="python/psycopg", at="2026-04-07T10:42:08Z",
                objects=[objects("mes.genealogy", columns=("*",), rows=212, bytes=48123)])
    )  # fmt: skip
    assert (judgement.verdict, judgement.severity, judgement.hop) == ("undeclared-hop", "critical", None)
    assert judgement.finding.nearest_hop == "extract-quality"
    assert questions(judgement) >= {"who", "where", "what", "when"}


def test_the_port_is_part_of_the_asset() -> None:
    assert judge(extract(source=end(("10.20.1.21", 22)))).verdict == "undeclared-hop"


def test_a_standby_keeps_the_hop() -> None:
    assert judge(extract(source=end(("10.20.1.22", 5432)))).verdict == "declared"
    assert judge(extract(destination=end(("10.30.0.21", 50002)))).verdict == "declared"


def test_a_scan_is_one_finding_at_most_medium() -> None:
    watching = detector()
    found = [
        watching.observe(
            flow(source=end(("10.50.0.9", 40000)), destination=end((f"10.20.1.{host}", 22)), opened_by="source", operation="attempt",
                 account=None, bytes=0, protocol=None, protection={"transport": "none"}, key=str(host))
        )[0]
        for host in range(40, 60)
    ]  # fmt: skip
    assert len({one.finding.finding_id for one in found}) == 1
    assert {one.severity for one in found} == {"medium"}
    assert found[-1].finding.windows == 20


def test_an_attempt_between_the_hosts_of_a_hop_is_declared_in_part() -> None:
    attempt = {"source": end(MW), "destination": end(MES_DB), "opened_by": "source", "operation": "attempt", "bytes": 0, "account": None}
    assert judge(flow(**attempt)).verdict == "declared-in-part"


# undeclared-account


@pytest.mark.parametrize(
    "said",
    [
        {"account": "svc_report"},
        {"account": "svc_ml"},
        {"destination": end(("10.30.0.99", 50002))},
        {"application": "psql"},
        {"application": None},
        {"role": "postgres"},
    ],
)
def test_another_account_host_application_or_role_is_an_undeclared_account(said: dict[str, object]) -> None:
    judgement = judge(extract(**said))
    assert (judgement.verdict, judgement.severity, judgement.hop) == ("undeclared-account", "high", "extract-quality")


def test_the_host_is_compared_even_where_the_account_is_unread() -> None:
    assert judge(upload(source=end(("10.30.0.99", 50002)))).verdict == "undeclared-account"


def test_an_account_made_on_the_wire_is_undeclared_and_ones_own_password_is_not() -> None:
    admin = {"source": end(MW), "destination": end(MES_DB), "opened_by": "source", "operation": "admin"}
    assert judge(extract(**admin, objects=[objects("account:svc_new", columns=("create",))])).verdict == "undeclared-account"
    assert judge(extract(**admin, objects=[objects("account:svc_ml", columns=("grant:pg_read_all_data",))])).verdict == "undeclared-account"
    assert judge(extract(**admin, objects=[objects("account:svc_mw", columns=("password",))])).verdict == "declared"
    assert judge(extract(**admin, objects=[objects("account:svc_mw", columns=("alter", "password"))])).verdict == "declared"
    more = objects("account:svc_mw", columns=("alter", "grant:superuser", "password"))
    assert judge(extract(**admin, objects=[more])).verdict == "undeclared-account"
    assert judge(extract(**admin, objects=[objects("account:svc_mes", columns=("password",))])).verdict == "unapproved-operation"


def test_a_ticket_account_works_only_under_an_exception() -> None:
    dba = {"destination": end(("10.20.1.5", 50300)), "account": "dba", "application": None, "at": NOON}
    assert judge(extract(**dba)).verdict == "undeclared-account"
    ticket = (
        "exceptions:",
        "exceptions:\n  repair: {account: dba, asset: mes-db, when: 2026-04-07 08:00-16:00, may: [select], ticket: CHG-9, by: a.ruiz}\nX:",
    )
    text = architecture(x=("  quarter-reload:", f"{ticket[1].split(chr(10))[1]}\n  quarter-reload:"))
    assert judge(extract(**dba), architecture=text).verdict == "declared"
    assert judge(extract(**dba | {"at": NIGHT}), architecture=text).verdict == "undeclared-account"
    assert judge(extract(**dba, operation="update"), architecture=text).verdict == "unapproved-operation"


# undeclared-data


@pytest.mark.parametrize(
    ("part", "severity"),
    [
        (objects("mes.genealogy", columns=("lot",), rows=5), "high"),
        (objects("quality.inspection", columns=("lot", "operator_name"), rows=5), "high"),
        (objects("quality.inspection", columns=("*",), rows=5), "high"),
        (objects("mes.nobody_classed_me", columns=("a",), rows=5), "high"),
        (objects("quality.inspection", "mes.genealogy", columns=("a",), rows=5), "high"),
        (objects("pg_catalog.pg_authid", columns=("*",), rows=5), "high"),
        (objects("sys.sql_logins", columns=("*",), rows=5), "high"),
        (objects("DBA_USERS", columns=("*",), rows=5), "high"),
        (objects("sys.tables", "mes.dbo.lots", columns=("*",), rows=5), "high"),
    ],
)
def test_objects_outside_what_or_inside_without_are_undeclared_data(part: dict[str, object], severity: str) -> None:
    judgement = judge(extract(objects=[part]))
    assert (judgement.verdict, judgement.severity) == ("undeclared-data", severity)


def test_a_pseudonymised_operator_id_on_the_extraction_is_not_removed() -> None:
    assert judge(extract(objects=[objects("quality.inspection", columns=("lot", "operator_id"), rows=5)])).verdict == "declared"


def test_copy_without_a_column_list_breaks_without() -> None:
    assert judge(extract(operation="copy", objects=[objects("quality.inspection", rows=5)])).verdict == "undeclared-data"
    assert judge(extract(operation="copy", objects=[objects("quality.inspection", columns=("lot",), rows=5)])).verdict == "declared"


def test_a_wildcard_sweep_is_undeclared_data_and_the_declared_filter_is_not() -> None:
    subscribe = {"source": end(("10.40.8.40", 50003)), "destination": end(UNS), "opened_by": "source", "protocol": "mqtt", "at": NOON,
                 "account": "svc_ml", "operation": "subscribe", "protection": {"transport": "tls1.3"}}  # fmt: skip
    sweep = judge(flow(**subscribe, objects=[objects("#", bytes=20)]))
    assert (sweep.verdict, sweep.hop) == ("undeclared-data", "ml-features")
    assert judge(flow(**subscribe, objects=[objects("north/+/oee/#", bytes=20)])).verdict == "declared"
    assert judge(flow(**subscribe, objects=[objects("$share/g/north/+/state", bytes=20)])).verdict == "declared"


def test_recipe_nodes_are_outside_a_telemetry_hop() -> None:
    judgement = judge(collect(objects=[objects("ns=2;s=Line1/Recipe/Mix", values=1)]))
    assert (judgement.verdict, judgement.severity) == ("undeclared-data", "high")


def test_metadata_is_free_to_its_limit_and_low_beyond() -> None:
    watching = detector()
    listing = [objects("pg_catalog.pg_class", columns=("*",), rows=50_000)]
    assert watching.observe(extract(at=NOON, objects=listing))[0].verdict == "declared"
    (judgement,) = watching.observe(extract(at=NOON, n=1, objects=[objects("pg_catalog.pg_class", rows=1)]))
    assert (judgement.verdict, judgement.severity) == ("undeclared-data", "low")


# unapproved-operation


def test_an_operation_outside_may_and_the_wrong_way_round_are_unapproved() -> None:
    written = {"source": end(MW), "destination": end(MES_DB), "opened_by": "source"}
    assert judge(extract(**written, operation="insert")).verdict == "unapproved-operation"
    assert judge(collect(operation="history-read")).verdict == "unapproved-operation"
    assert (
        judge(mes(source=end(MES_APP), destination=end(MES_DB), opened_by="source", operation="delete")).verdict == "unapproved-operation"
    )
    insert = mes(source=end(MES_APP), destination=end(MES_DB), opened_by="source", operation="insert")
    assert (judge(insert).verdict, judge(insert).hop) == ("declared", "mes-writes")


# over-limit


def test_the_limit_holds_to_the_last_row_and_not_beyond() -> None:
    watching = detector()
    full = [objects("quality.inspection", columns=("lot",), rows=200_000)]
    assert watching.observe(extract(objects=full))[0].verdict == "declared"
    (judgement,) = watching.observe(extract(n=1, objects=[objects("quality.inspection", columns=("lot",), rows=1)]))
    assert (judgement.verdict, judgement.severity) == ("over-limit", "medium")


@pytest.mark.parametrize(("rows", "severity"), [(200_001, "medium"), (400_000, "high"), (2_000_000, "critical")])
def test_severity_rises_with_the_ratio(rows: int, severity: str) -> None:
    assert judge(extract(objects=[objects("quality.inspection", columns=("lot",), rows=rows)])).severity == severity


def test_an_hour_slides_and_is_counted_early_never_late() -> None:
    def second(minutes: int) -> str:
        watching = detector()
        half = [objects("quality.inspection", columns=("lot",), rows=150_000)]
        watching.observe(extract(at="2026-04-06T23:31:00Z", objects=half))
        hour, minute = divmod(31 + minutes, 60)
        at = f"2026-04-{6 + (23 + hour) // 24:02d}T{(23 + hour) % 24:02d}:{minute:02d}:00Z"
        return watching.observe(extract(n=1, at=at, objects=half))[0].verdict

    assert (second(59), second(60), second(61)) == ("over-limit", "over-limit", "declared")


def test_an_unread_upload_is_charged_in_its_direction_and_to_the_class_budget() -> None:
    watching = detector()
    assert watching.observe(upload(bytes=250 * 2**20))[0].verdict == "declared-in-part"
    assert watching.observe(upload(n=1, bytes=1))[0].verdict == "over-limit"
    assert judge(upload(bytes=1, bytes_back=10**12)).verdict == "declared-in-part"


def test_an_exception_replaces_the_limit_for_its_hours_and_charges_nothing_else() -> None:
    watching = detector()
    many = [objects("quality.inspection", columns=("lot",), rows=3_000_000)]
    assert watching.observe(extract(at="2026-04-03T22:30:00Z", objects=many))[0].verdict == "declared"
    few = [objects("quality.inspection", columns=("lot",), rows=100_000)]
    assert watching.observe(extract(n=1, at="2026-04-04T23:40:00Z", objects=few))[0].verdict == "declared"
    assert judge(extract(at="2026-04-03T21:30:00Z", objects=many)).verdict == "over-limit"


def test_a_calendar_line_multiplies_the_limit() -> None:
    rows = [objects("mes.work_order", columns=("id",), rows=1_400_000)]
    assert judge(mes(at="2026-04-30T17:00:00Z", objects=rows)).verdict == "declared"
    assert judge(mes(at="2026-04-29T17:00:00Z", objects=rows)).verdict == "over-limit"


# outside-window, under-protected, expired


def test_the_right_hop_at_the_wrong_time_is_outside_its_window() -> None:
    assert [judge(extract(at=at)).verdict for at in ("2026-04-06T23:29:59Z", "2026-04-06T23:30:00Z", "2026-04-07T01:00:00Z")] == [
        "outside-window", "declared", "outside-window",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("window", "verdict"),
    [
        (extract(protection={"transport": "none", "authentication": "scram-sha-256"}), "under-protected"),
        (extract(protection={"transport": "tls1.2", "authentication": "scram-sha-256"}), "under-protected"),
        (extract(protection={"transport": "tls1.3", "authentication": "md5"}), "under-protected"),
        (extract(protection={"transport": "tls1.3", "certificate": {"self_signed": True}}), "under-protected"),
        (collect(protection={"transport": "opcua-none", "policy": "None", "authentication": "certificate"}), "declared"),
        (collect(protection={"transport": "opcua-none", "policy": "None", "authentication": "anonymous"}), "under-protected"),
        (upload(protection={"transport": "tls1.2"}), "under-protected"),
    ],
)
def test_protection_below_the_class_or_the_accounts_login_differs(window: object, verdict: str) -> None:
    assert judge(window).verdict == verdict


@pytest.mark.parametrize(("at", "verdict"), [("2026-12-31T00:45:00Z", "declared"), ("2027-01-01T00:45:00Z", "expired")])
def test_a_hop_holds_to_the_end_of_its_last_day(at: str, verdict: str) -> None:
    assert judge(extract(at=at)).verdict == verdict


def test_an_old_capture_is_judged_on_the_day_stated() -> None:
    assert judge(extract(at="2027-03-01T01:00:00Z"), at=date(2026, 12, 31)).verdict == "declared"


# blind, and what answers for it


def test_a_connection_that_could_not_be_read_as_promised_is_blind_unless_its_feed_lives() -> None:
    unread = extract(
        operation="transfer", objects=[], account=None, application=None, depth="sizes", bytes=5000, completeness={"state": "encrypted"}
    )
    judgement = judge(unread)
    assert (judgement.verdict, judgement.severity, judgement.hop) == ("blind", "low", "extract-quality")
    watching = detector()
    watching.observe(Heartbeat(event_id="h", plant="north", agent="mes-db-log", time=NIGHT))
    assert watching.observe(unread)[0].verdict == "declared-in-part"


def test_a_window_with_loss_is_judged_and_its_amount_is_unknown() -> None:
    judgement = judge(extract(completeness={"state": "lossy", "lost_bytes": 100}))
    assert (judgement.verdict, judgement.checked["how_much"]) == ("blind", "unknown")
    assert judge(extract(account="svc_ml", completeness={"state": "lossy"})).verdict == "undeclared-account"


def test_a_statement_nobody_could_read_is_blind_at_best() -> None:
    assert judge(extract(objects=[objects("unknown", rows=1)])).verdict == "blind"
    assert judge(extract(objects=[objects(rows=2, bytes=100)])).verdict == "blind"
    assert judge(extract(objects=[objects(rows=1, bytes=100)])).verdict == "declared"


def test_connecting_is_judged_for_who_where_and_protection_only() -> None:
    connect = {"source": end(MW), "destination": end(MES_DB), "opened_by": "source", "operation": "connect", "objects": [], "bytes": 300}
    assert judge(extract(**connect, at=NOON)).verdict == "declared"
    assert judge(extract(**connect, account=None, application=None)).verdict == "declared-in-part"
    assert judge(extract(**connect, protection={"transport": "none"})).verdict == "under-protected"


# views, relays, plants


def test_two_views_of_one_connection_are_charged_once() -> None:
    watching = detector()
    part = [objects("quality.inspection", columns=("lot",), rows=150_000, bytes=9_000_000)]
    tap = extract(objects=part, connection="c")
    log = extract(objects=part, connection="c", agent="mes-db-log", seen_by="log", depth="server-log")
    assert [watching.observe(one)[0].verdict for one in (tap, log)] == ["declared", "declared"]
    assert watching.observe(extract(objects=part, key="again", connection="d"))[0].verdict == "over-limit"


def test_both_legs_of_a_relay_are_charged_once_and_a_hidden_client_is_assumed() -> None:
    watching = detector()
    asked = end(("10.30.0.40", 3128), (LAKE_NAME, "connect"))
    first = upload(destination=asked, bytes=200 * 2**20)
    second = upload(source=end(("10.30.0.40", 50900)), bytes=200 * 2**20)
    judgements = [watching.observe(one)[0] for one in (first, second)]
    assert [one.hop for one in judgements] == ["lake-upload", "lake-upload"]
    assert [one.verdict for one in judgements] == ["declared-in-part", "declared-in-part"]
    assert judgements[1].checked["who"] == "assumed"


def test_a_name_asked_of_the_relay_that_is_undeclared_is_an_undeclared_destination() -> None:
    asked = end(("10.30.0.40", 3128), ("api.openai.com", "connect"))
    assert judge(upload(destination=asked)).verdict == "undeclared-destination"


def test_another_plants_windows_are_not_judged() -> None:
    assert detector().observe(extract(plant="south")) == []


def test_discovery_is_counted_to_its_cap_and_judged_beyond() -> None:
    watching = detector()
    ping = {"source": end(("10.50.0.9", 0)), "destination": end(("10.20.1.21", 0)), "opened_by": "source", "transport": "icmp",
            "protocol": "icmp", "operation": "transfer", "depth": "sizes", "key": "ping"}  # fmt: skip
    assert watching.observe(flow(**ping, bytes=2**20))[0].verdict == "service"
    assert watching.observe(flow(**ping, n=1, bytes=1))[0].verdict == "undeclared-hop"


def test_time_service_nobody_decodes_is_known_by_its_port() -> None:
    ntp = {"source": end(("10.30.0.3", 123)), "destination": end(("10.30.0.20", 40123)), "transport": "udp", "protocol": None,
           "operation": "transfer", "depth": "sizes", "bytes": 90, "protection": {"transport": "none"}}  # fmt: skip
    assert judge(flow(**ntp)).service == "time"
    assert judge(flow(**ntp | {"source": end(("10.30.0.3", 124))})).verdict != "service"


def test_without_a_handshake_the_declared_listener_is_the_server() -> None:
    assert judge(extract(opened_by=None)).verdict == "declared"
    insert = mes(source=end(MES_APP), destination=end(MES_DB), operation="insert", opened_by=None)
    assert (judge(insert).verdict, judge(insert).hop) == ("declared", "mes-writes")
