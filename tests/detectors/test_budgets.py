"""Budgets in layers: thirty days of a class and of an owner, an account on an object, a session; and the warning before each."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from moves import DAY_NS, HOUR_NS
from north import MES_APP, NIGHT, NOON, architecture, detector, end, extract, mes, objects, publish, upload

from detectors.hygiene import Hygiene
from detectors.judgement import Judgement
from detectors.online import Online, moved_of
from detectors.verdict import VerdictDetector
from hopwatch.declared.model import Architecture
from hopwatch.events import Finding, Flow, time_ns, time_text

MIB = 2**20
UPLOAD_NS = time_ns("2026-04-07T01:30:00Z")
NOON_NS = time_ns(NOON)

# What the lake may get in thirty days in all, over two hops of two accounts, each far under its own limit.
MONTH = (
    "  - {class: quality, to: off-site, limit: 300 MiB / 1d}",
    "  - {class: quality, to: off-site, limit: [300 MiB / 1d, 1 GiB / 30d]}",
)
SECOND_HOP = (
    "  ml-features:",
    "  lake-again:\n    {who: svc_two, from: mw, to: lake, via: c-lake, may: [put], what: [inspection], limit: 250 MiB / 1d,\n"
    '     keep: 90d, without: ["*.operator_name", "*.operator_id"], protect: {at_rest: customer-key}, why: again,\n'
    "     approved: {by: h.keller, ticket: CHG-2, until: 2026-12-31}}\n  ml-features:",
)
SECOND_ACCOUNT = ("  svc_ml:   {kind", "  svc_two:  {kind: service, owner: data-eng, from: [mw], auth: short-lived}\n  svc_ml:   {kind")
ON_OBJECTS = (
    "auth: scram-sha-256, rotate: 180d}\n  svc_edge",
    "auth: scram-sha-256, rotate: 180d, limit: [1k rows / 1h, 3k rows / 1d]}\n  svc_edge",
)
PERSON = (
    "  dba:      {kind",
    "  j.doe:    {kind: person, owner: mes-team, from: [site-ops], auth: scram-sha-256, limit: [10k rows / session]}\n  dba:      {kind",
)
PERSONS_HOP = (
    "  mes-writes:",
    "  mes-reads:\n    {who: j.doe, from: mes-db, to: site-ops, may: [select], what: [orders, genealogy, inspection],\n"
    "     agent: tap-l3, sees: server-log, feed: mes-db-log, why: shift reports, limit: 500k rows / 1h, keep: 1d}\n  mes-writes:",
)


def differences(judgement: Judgement) -> list[str]:
    return [f"{one.declared}: {one.observed}" for one in judgement.differences if one.question == "how_much"]


def word(judgement: Judgement) -> tuple[object, ...]:
    """What is said, whichever of two like windows it was first said of."""
    return judgement.flow.event_id, judgement.verdict, judgement.severity, judgement.hop, judgement.differences, judgement.spent


def uploaded(watching: VerdictDetector, day: int, size: int, n: int = 0) -> Judgement:
    at = time_text(UPLOAD_NS + day * DAY_NS)
    return watching.observe(upload(at=at, n=day * 10 + n, bytes=size))[0]


def lake() -> Architecture:
    return architecture(month=MONTH, hop=SECOND_HOP, account=SECOND_ACCOUNT)


# Thirty days


def test_hops_that_each_keep_their_limits_add_up_over_thirty_days() -> None:
    watching = VerdictDetector(lake())
    # 140 MiB a night is 56 % of either hop, 47 % of the day's budget, and in the eighth night more than 1 GiB.
    nights = [uploaded(watching, day, 140 * MIB) for day in range(8)]
    assert [night.verdict for night in nights] == ["declared-in-part"] * 7 + ["over-limit"]
    assert differences(nights[7]) == [f"all hops with quality to off-site: 1 GiB / 30d: {8 * 140 * MIB} bytes, 1.1 x"]


def test_the_thirtieth_day_still_counts_and_the_next_is_free_of_the_first() -> None:
    for day, verdict in ((29, "over-limit"), (30, "declared-in-part")):
        watching = VerdictDetector(lake())
        for night in range(5):
            # 1,000 MiB on the first day, as far as the day's budget is not asked.
            watching.observe(upload(at=time_text(UPLOAD_NS), n=night, bytes=200 * MIB))
        assert uploaded(watching, day, 100 * MIB).verdict == verdict


def test_days_are_those_of_the_plants_clock() -> None:
    # 22:30Z is the next day in Berlin, so the first lies 30 days before it and no longer counts.
    watching = detector(
        architecture=architecture(
            owner=("limit: 2M rows / 1d", "limit: 1k rows / 30d"),
            when=("    when: daily 01:30-03:00\n    limit: [200k", "    limit: [200k"),
        )
    )
    rows = [objects("quality.inspection", columns=("lot",), rows=900)]

    def read(at: str) -> str:
        return watching.observe(extract(at=at, n=time_ns(at) // 10**9, objects=rows))[0].verdict

    assert read("2026-04-07T12:00:00Z") == "declared"
    assert read("2026-05-06T21:30:00Z") == "over-limit"
    watching = detector(architecture=watching.architecture)
    assert [read("2026-04-07T12:00:00Z"), read("2026-05-06T22:30:00Z")] == ["declared", "declared"]


def test_what_was_spent_stays_spent_when_the_amount_is_changed() -> None:
    before = VerdictDetector(lake(), edition="1")
    for day in range(5):
        uploaded(before, day, 140 * MIB)
    narrower = architecture(month=(MONTH[0], MONTH[1].replace("1 GiB", "750 MiB")), hop=SECOND_HOP, account=SECOND_ACCOUNT)
    after = VerdictDetector(narrower, edition="2")
    after.restore(json.loads(json.dumps(before.state())))
    assert differences(uploaded(after, 5, 140 * MIB)) == [f"all hops with quality to off-site: 750 MiB / 30d: {840 * MIB} bytes, 1.1 x"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_restart_in_the_middle_loses_and_doubles_nothing(whole: bool) -> None:
    plant = architecture(month=MONTH, hop=SECOND_HOP, account=SECOND_ACCOUNT, objects=ON_OBJECTS, person=PERSON, reads=PERSONS_HOP)
    windows = [upload(at=time_text(UPLOAD_NS + day * DAY_NS), n=day, bytes=140 * MIB) for day in range(8)]
    windows += [read("mes.genealogy", 900, hour=hour) for hour in range(5)] + [asked(4_000, minute=40 * one) for one in range(4)]
    windows.sort(key=lambda one: time_ns(one.start))
    for cut in range(1, len(windows)):
        one, other = VerdictDetector(plant), VerdictDetector(plant)
        for window in windows[: cut - 1]:
            one.observe(window)
        other.restore(json.loads(json.dumps(one.state())))
        one.changes()
        one.observe(windows[cut - 1])
        if whole:
            other.restore(json.loads(json.dumps(one.state())))
        else:
            other.merge(json.loads(json.dumps(one.changes())))
        # What was read already comes once more, as after a kill.
        said = [[word(judged) for window in windows[max(0, cut - 2) :] for judged in each.observe(window)] for each in (one, other)]
        assert said[0] == said[1]
        assert one.state()["budgets"] == other.state()["budgets"]
        assert one.state()["caps"] == other.state()["caps"]


# An account on an object


def read(table: str, rows: int, *, hour: int = 0, n: int = 0, **more: Any) -> Flow:  # Any: fields of a flow
    at = time_text(NOON_NS + hour * HOUR_NS)
    return mes(at=at, n=hour * 100 + n, objects=[objects(table, columns=("*",), rows=rows, bytes=rows * 9)], **more)


def test_an_account_is_limited_on_each_object_by_hour_and_day() -> None:
    watching = VerdictDetector(architecture(objects=ON_OBJECTS))
    first = [
        watching.observe(one)[0]
        for one in (read("mes.genealogy", 1_000), read("mes.work_order", 1_000, n=1), read("mes.process_param", 1, n=2))
    ]
    # Both tables of genealogy are one object of the file; orders are another.
    assert [one.verdict for one in first] == ["declared", "declared", "over-limit"]
    assert differences(first[2]) == ["svc_mes on genealogy: 1k rows / 1h: 1001 rows, 1.0 x"]
    later = [watching.observe(read("mes.genealogy", 900, hour=hour))[0] for hour in (2, 4, 6)]
    assert [one.verdict for one in later] == ["declared", "declared", "over-limit"]
    assert differences(later[2]) == ["svc_mes on genealogy: 3k rows / 1d: 3701 rows, 1.2 x"]


def test_a_statement_over_two_objects_is_charged_to_both() -> None:
    watching = VerdictDetector(architecture(objects=ON_OBJECTS))
    both = [objects("mes.genealogy", "mes.work_order", columns=("lot",), rows=600, bytes=900)]
    watching.observe(mes(objects=both))
    judged = watching.observe(read("mes.work_order", 600, n=1))[0]
    assert differences(judged) == ["svc_mes on orders: 1k rows / 1h: 1200 rows, 1.2 x"]


def test_topics_of_two_objects_in_one_window_are_counted_apart() -> None:
    own = ('identities: ["certificate:CN=edge-*"]}', 'identities: ["certificate:CN=edge-*"], limit: 100 messages / 1h}')
    # Of one class, so that nothing else keeps their sets apart.
    watching = VerdictDetector(architecture(own=own, same=("uns-events: {class: production", "uns-events: {class: telemetry")))
    topics = [objects(f"north/line1/{name}", messages=40, bytes=90) for name in ("telemetry/a", "telemetry/b", "oee/a", "oee/b")]
    few = [part | {"messages": 10} for part in topics]
    assert watching.observe(publish(objects=few))[0].verdict == "declared"
    assert watching.observe(publish(n=1, objects=topics))[0].verdict == "declared", "a hundred of each now"
    judged = watching.observe(publish(n=2, objects=few))[0]
    assert {text for text in differences(judged) if "120" in text} == {
        "svc_edge on line-tags: 100 messages / 1h: 120 messages, 1.2 x", "svc_edge on uns-events: 100 messages / 1h: 120 messages, 1.2 x",
    }  # fmt: skip


# A session


def asked(rows: int, *, minute: int, host: int = 77, connection: str = "c") -> Flow:
    client = end((f"10.20.2.{host}", 50_000 + minute % 999))
    part = [objects("mes.work_order", columns=("*",), rows=rows, bytes=rows * 9)]
    at = time_text(NOON_NS + minute * 60 * 10**9)
    return mes(
        at=at,
        n=minute,
        account="j.doe",
        destination=client,
        objects=part,
        connection=f"{connection}{host}",
        key=f"{connection}{host}{rows}",
    )


def person() -> VerdictDetector:
    return VerdictDetector(architecture(person=PERSON, reads=PERSONS_HOP))


def test_connecting_again_begins_no_new_session() -> None:
    watching = person()
    said = [watching.observe(asked(3_000, minute=5 * n, connection=f"c{n}"))[0] for n in range(4)]
    assert [one.verdict for one in said] == ["declared"] * 3 + ["over-limit"]
    assert differences(said[3]) == ["j.doe from 10.20.2.77: 10k rows / session: 12000 rows, 1.2 x"]
    # Another host of the person is another session.
    assert watching.observe(asked(3_000, minute=20, host=78))[0].verdict == "declared"


@pytest.mark.parametrize(("rest", "verdict"), [(29, "over-limit"), (61, "declared")])
def test_a_session_ends_with_a_rest(rest: int, verdict: str) -> None:
    for offset in range(0, 60, 7):
        watching = person()
        assert watching.observe(asked(9_000, minute=offset))[0].verdict == "declared"
        assert watching.observe(asked(9_000, minute=offset + rest))[0].verdict == verdict


def test_a_window_that_comes_late_belongs_to_the_session_around_it() -> None:
    watching = person()
    watching.observe(asked(4_000, minute=0))
    watching.observe(asked(4_000, minute=60))
    assert watching.observe(asked(4_000, minute=31))[0].verdict == "over-limit"


def test_a_judgement_given_again_is_of_the_session_it_was_made_for() -> None:
    # Without a standby nothing but the session tells one host of the zone from another.
    alone = ('standby: ["10.20.1.22:5432"], replication: replicator, ', "")
    plant = architecture(person=PERSON, reads=PERSONS_HOP, objects=ON_OBJECTS, alone=alone)
    one, other = VerdictDetector(plant), VerdictDetector(plant, keeps=False)
    windows = [asked(2_000, minute=3 * n, host=77 + n % 3) for n in range(30)] + [read("mes.genealogy", 90, n=n) for n in range(20)]
    assert [word(one.observe(window)[0]) for window in windows] == [word(other.observe(window)[0]) for window in windows]
    assert one.counted["over-limit"] > 10


def test_an_account_that_works_under_a_ticket_has_its_own_limits_all_the_same() -> None:
    plant = architecture(
        dba=("needs: ticket}", "needs: ticket, limit: [5k rows / 1h, 8k rows / session]}"),
        ticket=(
            "exceptions:",
            "exceptions:\n  fix: {account: dba, asset: mes-db, may: [select], when: 2026-04-07 00:00-24:00, ticket: CHG-9, by: a}\n#",
        ),
    )
    watching = VerdictDetector(plant)
    ask = {"destination": end(("10.20.1.5", 50_300)), "account": "dba"}
    both = [objects(table, columns=("lot",), rows=2_000, bytes=900) for table in ("mes.work_order", "mes.genealogy", "pg_catalog.pg_class")]
    said = [watching.observe(mes(n=n, at=time_text(NOON_NS + n * 10**9), objects=both, **ask))[0] for n in range(3)]
    assert [one.verdict for one in said] == ["declared", "declared", "over-limit"]
    assert differences(said[2]) == [
        "dba on orders: 5k rows / 1h: 6000 rows, 1.2 x",
        "dba from 10.20.1.5: 8k rows / session: 12000 rows, 1.5 x",
        "dba on genealogy: 5k rows / 1h: 6000 rows, 1.2 x",
    ]
    assert said[0].spent and moved_of(said[0], watching.index).under_ticket


# The warning before each


def drifting(plant: Architecture, windows: Iterable[Flow]) -> list[tuple[str, str, str]]:
    verdict = VerdictDetector(plant)
    online = Online(verdict, [Hygiene(plant, verdict.quoted)])
    found = [one for window in windows for one in online.observe(window) if isinstance(one, Finding)]
    return [(one.last_seen[:10], one.differences[-1].declared, one.differences[-1].observed) for one in found if one.verdict == "drifting"]


def test_each_layer_warns_at_four_fifths_once_in_its_period() -> None:
    plant = architecture(month=MONTH, hop=SECOND_HOP, account=SECOND_ACCOUNT, objects=ON_OBJECTS, person=PERSON, reads=PERSONS_HOP)
    nights = [upload(at=time_text(UPLOAD_NS + day * DAY_NS), n=day, bytes=139 * MIB) for day in range(7)]
    # 81 % in the sixth night, 93 % in the seventh.
    assert drifting(plant, nights) == [
        ("2026-04-12", "all hops with quality to off-site: 1 GiB / 30d", f"81% of it used: {6 * 139 * MIB} bytes")
    ]
    reads = [
        read("mes.genealogy", 850),
        read("mes.genealogy", 50, n=1),
        read("mes.genealogy", 900, hour=3),
        read("mes.genealogy", 850, hour=24),
    ]
    assert drifting(plant, reads) == [
        ("2026-04-07", "svc_mes on genealogy: 1k rows / 1h", "85% of it used: 850 rows"),
        ("2026-04-08", "svc_mes on genealogy: 1k rows / 1h", "85% of it used: 850 rows"),
    ]  # fmt: skip
    assert drifting(plant, [asked(3_000, minute=5 * n) for n in range(3)]) == [
        ("2026-04-07", "j.doe from 10.20.2.77: 10k rows / session", "90% of it used: 9000 rows")
    ]


def test_a_limit_that_is_passed_at_once_is_the_verdicts_and_a_ticket_warns_nobody() -> None:
    plant = architecture(objects=ON_OBJECTS)
    assert drifting(plant, [read("mes.genealogy", 1_001)]) == []
    reload_ = ("when: 2026-04-04 00:00-06:00", "when: 2026-04-07 00:00-06:00")
    rows = [objects("quality.inspection", columns=("lot",), rows=4_500_000)]
    assert drifting(architecture(reload=reload_), [extract(objects=rows)]) == []


def test_the_questions_see_the_limits_the_window_was_charged_to() -> None:
    watching = VerdictDetector(architecture(objects=ON_OBJECTS))
    for n in range(3):
        (judged,) = watching.observe(mes(n=n, destination=end(MES_APP)))
        moved = moved_of(judged, watching.index)
        assert {(one.key, one.used) for one in moved.spent} == {
            ("hop:mes-works#rows/1h", 10 * (n + 1)), ("account:svc_mes|genealogy#rows/1h", 10 * (n + 1)),
            ("account:svc_mes|genealogy#rows/1d", 10 * (n + 1)),
        }  # fmt: skip
        assert not moved.under_ticket
    assert NIGHT < NOON
