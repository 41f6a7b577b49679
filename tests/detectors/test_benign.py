"""What every plant has calls nobody, and what only looks like it does: each rule that a week of real tools has asked for."""

from moves import DAY_NS, HOUR_NS, QUOTED, later, moved
from north import MES_DB, MW, NOON, architecture, end, extract, flow, judge, objects

from detectors.accounts import Accounts
from detectors.extraction import Extraction
from detectors.silence import Silence
from hopwatch.events import Finding, time_ns

SCANNER = ("10.30.0.8", 50000)
SUNDAY = "2026-04-05T01:00:00Z"
STANDBY = ("10.20.1.22", 50100)
POOL = ("10.30.0.25", 6432)
SCAN = {"source": end(SCANNER), "destination": end(MES_DB), "opened_by": "source", "at": SUNDAY}
FETCH = {"source": end(MES_DB), "destination": end(SCANNER), "opened_by": "destination", "at": SUNDAY}
WATCHING = (
    "  watching:  {ports: [161, 9100, 9187], to: [site-ops, idmz],      from: [10.30.0.7], ",
    "  watching:  {ports: [5432], to: [mes-db], from: [10.30.0.7], ",
)


# A service answers for what it is listed for


def test_a_scanner_may_get_what_nobody_classed_and_never_what_the_file_classes() -> None:
    assert judge(flow(**FETCH, operation="get", protocol="http", objects=[objects("/", bytes=300)])).verdict == "service"
    assert judge(flow(**FETCH, operation="get", protocol="http", objects=[objects("mes.genealogy", rows=1)])).verdict != "service"


def test_a_service_without_operations_reads_catalogues_and_no_table() -> None:
    watching = architecture(watching=WATCHING)
    read = {"source": end(MES_DB), "destination": end(("10.30.0.7", 50001)), "account": "svc_watch", "operation": "select", "at": NOON}
    assert judge(flow(**read, objects=[objects("pg_stat_database", rows=15)]), architecture=watching).verdict == "service"
    for table in ("mes.genealogy", "mes.nobody_classed_this", "unknown"):
        assert judge(flow(**read, objects=[objects(table, rows=15)]), architecture=watching).verdict != "service", table


def test_a_health_check_that_logs_in_as_somebody_is_no_service_any_more() -> None:
    assert judge(flow(**SCAN, operation="connect", account="haproxy")).verdict == "service"
    assert judge(flow(**SCAN, operation="connect", account="svc_mes")).verdict != "service"


def test_the_name_a_health_check_gives_itself_is_no_new_account() -> None:
    accounts = Accounts(architecture(), QUOTED)
    assert list(accounts.observe(moved(flow(**SCAN, operation="connect", account="haproxy")))) == []
    outside = flow(**SCAN | {"at": NOON}, operation="connect", account="haproxy")
    assert [found.verdict for found in accounts.observe(moved(outside))] == ["new-account"]


# A standby


def test_a_standby_begins_as_a_base_backup_and_knocks_while_the_primary_is_away() -> None:
    backup = {"source": end(MES_DB), "destination": end(STANDBY), "operation": "backup", "bytes": 10**9, "at": NOON}
    knock = {"source": end(STANDBY), "destination": end(MES_DB), "opened_by": "source", "operation": "attempt", "bytes": 0, "at": NOON}
    assert judge(flow(account="replicator", **backup)).verdict == "service"
    assert judge(flow(account="svc_mes", **backup)).verdict != "service"
    assert judge(flow(account="replicator", **backup | {"destination": end(("10.20.1.77", 50100))})).verdict != "service"
    assert judge(flow(**knock)).verdict == "service"


# A pool


def test_what_leaves_a_pool_is_classed_as_what_came_into_it() -> None:
    through = architecture(
        pool=("  jump-1: ", '  pool:      {zone: idmz, kind: pooler, at: "10.30.0.25:6432", relay: true}\n  jump-1: '),
        ops=("through: fw-ot}\n  c-ml:", "through: pool}\n  c-ml:"),
    )
    leg = {"source": end(POOL), "destination": end(MW), "application": "quality-extract/2.1", "connection": "to the client"}
    wanted = judge(extract(**leg), architecture=through)
    assert (wanted.verdict, wanted.checked["what"]) == ("declared-in-part", "checked")
    taken = judge(extract(**leg, objects=[objects("mes.genealogy", columns=("id",), rows=3)]), architecture=through)
    assert (taken.verdict, taken.severity) == ("undeclared-data", "high")


# Catalogues and what names no table


def test_small_answers_that_name_no_table_are_small_however_many_there_are() -> None:
    asked = {"messages": 30, "bytes": 2_000}
    assert judge(extract(objects=[objects(rows=30, **asked)])).verdict == "declared"
    assert judge(extract(objects=[objects(rows=31, **asked)])).verdict == "blind"


# An agent that was never heard to beat


def test_a_capture_that_is_read_has_no_heartbeat_to_miss() -> None:
    silence = Silence(architecture(), QUOTED)
    silence.observe(moved(extract()))
    assert list(silence.advance(time_ns(NOON) + 5 * HOUR_NS)) == []


def test_a_conduit_of_a_capture_with_a_day_without_packets_is_not_unwatched() -> None:
    silence = Silence(architecture(), QUOTED)
    silence.observe(moved(extract()))
    later_ns = time_ns(NOON) + 48 * HOUR_NS
    assert "tap-idmz" not in " ".join(one.differences[0].observed for one in silence.advance(later_ns))


# What one account does through a pool, and what is read again and again


def test_an_account_behind_a_declared_pool_is_in_one_place() -> None:
    through = architecture(
        pool=("  jump-1: ", '  pool:      {zone: idmz, kind: pooler, at: "10.30.0.25:6432", relay: true}\n  jump-1: '),
        ops=("through: fw-ot}\n  c-ml:", "through: pool}\n  c-ml:"),
    )
    accounts = Accounts(through, QUOTED)
    legs = [
        extract(),
        extract(source=end(POOL), connection="to the client"),
        extract(destination=end(("10.30.0.25", 50009)), connection="to the server"),
    ]
    assert [found for leg in legs for found in accounts.observe(moved(leg, through))] == []
    laptop = extract(destination=end(("10.30.0.77", 50009)), connection="from a laptop")
    assert [found.verdict for found in accounts.observe(moved(laptop, through))] == ["shared-account"]


def test_catalogues_and_what_a_ticket_allows_are_no_extraction() -> None:
    month_end = ("last day 18:00-24:00, hops: [mes-works]", "Mon-Sun 00:00-24:00, hops: [extract-quality]")

    def taken(table: str, *changes: tuple[str, str]) -> list[str]:
        plant = architecture(**{str(n): change for n, change in enumerate(changes)})
        extraction = Extraction(plant, QUOTED)
        found: list[Finding] = []
        for day in range(16):
            rows = 90_000 if day == 15 else 1_000
            window = moved(extract(objects=[objects(table, columns=("lot",), rows=rows)]), plant)
            found += extraction.observe(later(window, day * DAY_NS))
        return [one.verdict for one in found]

    assert taken("quality.inspection") == ["bulk-extraction"]
    assert taken("pg_settings") == []
    assert taken("quality.inspection", month_end) == []


# Connections nobody saw begin, and shouts into a net


def test_a_late_connection_belongs_to_the_end_that_a_service_lists_even_if_the_client_has_the_lower_port() -> None:
    late = {"source": end(("10.30.0.6", 8530)), "destination": end(("10.20.1.5", 1130)), "opened_by": None, "operation": "transfer"}
    assert judge(flow(**late, at=NOON, protocol=None, bytes=500)).service == "updates"
    other = late | {"source": end(("10.30.0.6", 8599))}
    assert judge(flow(**other, at=NOON, protocol=None, bytes=500)).verdict == "undeclared-hop"


def test_a_shout_to_a_declared_nets_broadcast_address_is_discovery_and_the_host_below_it_is_not() -> None:
    shout = {"source": end(("10.30.0.77", 138)), "opened_by": "source", "transport": "udp", "protocol": None, "operation": "transfer"}
    assert judge(flow(**shout, at=NOON, destination=end(("10.30.0.255", 138)), bytes=200)).service == "discovery"
    assert judge(flow(**shout, at=NOON, destination=end(("10.30.0.254", 138)), bytes=200)).service is None
