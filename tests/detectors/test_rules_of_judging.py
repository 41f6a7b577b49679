"""The rules under the table of verdicts, each where it decides between two of them."""

import pytest
from north import (
    MES_APP,
    MES_DB,
    MW,
    NIGHT,
    NOON,
    architecture,
    collect,
    detector,
    end,
    extract,
    flow,
    judge,
    mes,
    objects,
    upload,
)  # fmt: skip

from detectors.verdict import VerdictDetector
from hopwatch.events import Heartbeat, time_ns, time_text


def lot(table: str = "quality.inspection", rows: int = 1) -> dict[str, object]:
    return objects(table, columns=("lot",), rows=rows)


UNREAD = {"operation": "transfer", "objects": [], "account": None, "application": None, "depth": "sizes", "bytes": 5_000,
          "completeness": {"state": "encrypted"}}  # fmt: skip


# Several sets, several hops


def test_each_set_is_judged_by_itself_and_the_window_takes_the_first_row_among_them() -> None:
    judgement = judge(extract(objects=[lot(), lot("mes.genealogy", 5)], rows=6))
    assert (judgement.verdict, judgement.hop) == ("undeclared-data", "extract-quality")
    assert judge(extract(objects=[lot(), lot("mes.work_order", 5)], rows=6)).verdict == "declared"


def test_a_set_goes_to_the_hop_that_gives_it_the_mildest_row_and_charges_that_one_alone() -> None:
    watching = detector()
    there = {"source": end(MES_APP), "destination": end(MES_DB), "opened_by": "source"}
    assert watching.observe(mes(**there, operation="insert", objects=[lot("mes.work_order", 100_000)]))[0].hop == "mes-writes"
    assert watching.observe(mes(objects=[lot("mes.work_order", 500_000)]))[0].verdict == "declared"
    # Each is spent now, by its own windows.
    assert watching.observe(mes(n=1, objects=[lot("mes.work_order", 1)]))[0].verdict == "over-limit"
    again = mes(n=1, **there, operation="insert", objects=[lot("mes.work_order", 1)])
    assert (watching.observe(again)[0].verdict, watching.observe(mes(n=2, **there, operation="delete"))[0].hop) == (
        "over-limit", "mes-works",
    )  # fmt: skip


def test_the_severity_is_the_highest_among_the_differences() -> None:
    late = judge(extract(at=NOON))
    both = judge(
        extract(at=NOON, protection={"transport": "none"}, objects=[objects("quality.inspection", columns=("operator_id",), rows=1)])
    )
    assert (late.verdict, late.severity) == ("outside-window", "medium")
    assert (both.verdict, both.severity) == ("outside-window", "high")


# Unreadable flows


def test_what_cannot_be_read_is_judged_as_data_both_ways() -> None:
    inward = {"source": end(("192.0.2.200", 40_000)), "destination": end(("10.30.0.77", 443)), "opened_by": "source", "protocol": "tls"}
    assert judge(flow(**inward | UNREAD)).verdict == "undeclared-destination"
    readable = {"operation": "put", "objects": [objects("x", bytes=9)], "depth": "decoded"}
    assert judge(flow(**inward | readable, account="a")).verdict == "undeclared-hop"


def test_inside_one_zone_the_hop_says_how_deep_it_is_seen() -> None:
    unread = mes(**UNREAD)
    assert (judge(unread).verdict, judge(unread).checked["what"]) == ("blind", "unknown")
    watching = detector()
    watching.observe(Heartbeat(event_id="h", plant="north", agent="mes-db-log", time=NOON))
    assert watching.observe(unread)[0].verdict == "declared-in-part"
    seen = "     agent: tap-l3, sees: server-log, feed: mes-db-log, why: MES runs the plant, limit: 500k rows / 1h"
    sizes = architecture(sees=(seen, "     agent: tap-l3, sees: sizes, why: MES runs the plant, limit: 500 MiB / 1h"))
    writes = [one for one in judge(unread, architecture=sizes).differences]
    assert (judge(unread, architecture=sizes).verdict, writes) == ("declared-in-part", [])


@pytest.mark.parametrize(("quiet_s", "verdict"), [(120, "declared-in-part"), (121, "blind")])
def test_a_feed_lives_for_two_minutes_after_its_last_sign(quiet_s: int, verdict: str) -> None:
    watching = detector()
    last = time_text(time_ns(NOON) - quiet_s * 10**9)
    watching.observe(Heartbeat(event_id="h", plant="north", agent="mes-db-log", time=last))
    assert watching.observe(mes(**UNREAD))[0].verdict == verdict


# Views


def test_who_it_was_comes_from_the_deepest_view_also_for_the_windows_of_the_others() -> None:
    log = {"agent": "mes-db-log", "seen_by": "log", "depth": "server-log", "connection": "c", "bytes": 0}
    tap = extract(**UNREAD, connection="c", n=1)
    for account, verdict in (("svc_mw", "declared-in-part"), ("svc_report", "undeclared-account")):
        watching = detector()
        watching.observe(extract(**log, account=account, objects=[lot()]))
        (judgement,) = watching.observe(tap)
        assert (judgement.verdict, account == "svc_mw" or "svc_report" in judgement.differences[0].observed) == (verdict, True)
    assert judge(tap).verdict == "blind"


# A name many tenants share


def test_a_name_many_tenants_share_leaves_the_place_assumed_unless_its_feed_lives() -> None:
    name = "s3.eu-central-1.amazonaws.com"
    plant = architecture(
        at=("plant-north.lake.example-cloud.eu:443", f"{name}:443"),
        names=('names: ["*.lake.example-cloud.eu"]', 'names: ["*.amazonaws.com"]'),
        feed=("sees: sizes,   through: proxy-out", "sees: sizes, feed: proxy-log"),
    )
    sent = upload(destination=end(("203.0.113.5", 443), (name, "dns")))
    assert judge(sent, architecture=plant).checked["where"] == "assumed"
    watching = VerdictDetector(plant)
    watching.observe(Heartbeat(event_id="h", plant="north", agent="proxy-log", time=sent.start))
    assert watching.observe(sent)[0].checked["where"] == "checked"
    assert judge(upload()).checked["where"] == "checked"


# Nearest hop


@pytest.mark.parametrize(
    ("window", "hop"),
    [
        # The joined one.
        (extract(account="svc_report"), "extract-quality"),
        # The same server's; of those one with a conduit, as the flow crosses zones, whoever it is.
        (extract(destination=end(("10.40.8.40", 1)), account="svc_mes"), "extract-quality"),
        # Inside the zone of the server none crosses: file order among those that differ least.
        (mes(destination=end(("10.20.1.99", 1)), account="x", operation="insert", source=end(("10.20.1.21", 22))), "mes-works"),
        # No hop at the server: the account's.
        (flow(source=end(("10.40.8.41", 9000)), destination=end(("10.50.0.1", 1)), account="svc_ml", operation="get"), "ml-features"),
    ],
)
def test_the_nearest_hop_is_the_joined_one_else_the_servers_else_the_accounts(window: object, hop: str) -> None:
    assert judge(window).finding.nearest_hop == hop


# Protection


@pytest.mark.parametrize(
    ("protection", "verdict"),
    [
        ({"transport": "opcua-none", "policy": "None"}, "under-protected"),
        ({"transport": "opcua-sign", "policy": "Basic256Sha256"}, "under-protected"),
        ({"transport": "opcua-signandencrypt", "policy": "Basic256"}, "under-protected"),
        ({"transport": "opcua-signandencrypt", "policy": "Basic128Rsa15"}, "under-protected"),
        ({"transport": "opcua-signandencrypt", "policy": "Basic256Sha256"}, "declared"),
        ({"transport": "opcua-signandencrypt", "policy": "Aes256_Sha256_RsaPss"}, "declared"),
        ({"transport": "opcua-signandencrypt", "policy": "Newer2030"}, "blind"),
        ({"transport": "tls1.1"}, "under-protected"),
    ],
)
def test_opc_ua_security_counts_as_what_it_is_worth(protection: dict[str, str], verdict: str) -> None:
    strict = architecture(
        telemetry=("telemetry:  {sensitivity: internal,     transit: any,", "telemetry:  {sensitivity: internal,     transit: tls1.3,"),
        keys=("sees: decoded, through: fw-cell", "sees: decoded, keylog: keys, through: fw-cell"),
    )
    assert judge(collect(protection=protection | {"authentication": "certificate"}), architecture=strict).verdict == verdict
    assert judge(collect(protection=protection | {"authentication": "certificate"})).verdict in ("declared", "under-protected", "blind")


# Time


@pytest.mark.parametrize(("at", "verdict"), [("2026-04-07T21:59:59Z", "over-limit"), ("2026-04-07T22:00:00Z", "declared")])
def test_a_day_is_the_plants_calendar_day(at: str, verdict: str) -> None:
    plant = architecture(
        limit=("limit: [200k rows / 1h, 400k rows / 1d, 300 MiB / 1d]", "limit: 400k rows / 1d"), when=("    when: daily 01:30-03:00\n", "")
    )
    watching = VerdictDetector(plant)
    watching.observe(extract(at="2026-04-06T22:00:00Z", objects=[lot(rows=400_000)]))
    assert watching.observe(extract(n=1, at=at, objects=[lot()]))[0].verdict == verdict


@pytest.mark.parametrize(("at", "verdict"), [("2026-09-02T21:59:59Z", "declared"), ("2026-09-02T22:00:00Z", "expired")])
def test_a_hop_without_an_end_of_its_own_ends_with_the_review(at: str, verdict: str) -> None:
    assert judge(mes(at=at)).verdict == verdict


@pytest.mark.parametrize(("at", "severity"), [("2026-09-03T10:00:00Z", "medium"), ("2026-10-03T10:00:00Z", "high")])
def test_what_goes_on_long_after_its_end_is_worse(at: str, severity: str) -> None:
    assert (judge(mes(at=at)).verdict, judge(mes(at=at)).severity) == ("expired", severity)


def test_everything_is_judged_at_the_windows_start() -> None:
    # It ends after the hop's hours do.
    assert judge(extract(at="2026-04-07T00:59:59Z")).verdict == "declared"


# No crying wolf


@pytest.mark.parametrize("address", ["224.0.0.251", "ff02::fb", "239.1.2.3", "255.255.255.255", "169.254.3.4", "fe80::1", "febf::1"])
def test_what_is_said_to_neighbours_is_counted_to_its_cap_and_judged_beyond(address: str) -> None:
    said = {"source": end(MW), "destination": end((address, 5353)), "opened_by": "source", "transport": "udp", "protocol": "mdns",
            "operation": "transfer", "depth": "sizes", "key": "mdns", "account": None}  # fmt: skip
    watching = detector()
    (quiet,) = watching.observe(flow(**said, bytes=2**20, at=NIGHT))
    assert (quiet.verdict, quiet.service) == ("service", "discovery")
    assert watching.observe(flow(**said, n=1, bytes=1, at=NIGHT))[0].verdict == "undeclared-destination"


@pytest.mark.parametrize("address", ["223.255.255.255", "240.0.0.1", "22.4.0.1", "169.253.3.4", "ff::1", "fec0::1", "::ffff:224.0.0.1"])
def test_what_only_looks_like_a_neighbours_address_is_judged(address: str) -> None:
    said = {"source": end(MW), "destination": end((address, 5353)), "opened_by": "source", "transport": "udp", "operation": "transfer"}
    assert judge(flow(**said, depth="sizes", bytes=9, account=None)).verdict == "undeclared-destination"


def test_a_login_that_is_refused_is_judged_for_who_where_and_protection_only() -> None:
    refused = {"operation": "refused", "objects": [], "bytes": 90}
    assert judge(extract(**refused, at=NOON)).verdict == "declared"
    assert judge(extract(**refused, at=NOON, account="svc_report")).verdict == "undeclared-account"
    assert judge(extract(**refused, at=NOON, destination=end(("10.40.8.40", 1)))).verdict == "undeclared-hop"
    assert judge(extract(**refused, at=NOON, protection={"transport": "none"})).verdict == "under-protected"
