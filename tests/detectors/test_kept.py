"""A judgement that is given again is the judgement that would have been made: word for word, and so is everything remembered."""

import json
import random
from collections import Counter
from typing import Any

import pytest
from north import LAKE, LAKE_NAME, MES_APP, MES_DB, MW, OPC, UNS, architecture, collect, end, extract, flow, mes, objects, publish, upload

from detectors import budget, findings, kept, verdict, views
from detectors.kept import Allowance
from detectors.verdict import VerdictDetector
from hopwatch.declared.quantity import Limit
from hopwatch.events import Event, Flow, Heartbeat, Loss, dump, time_ns, time_text
from hopwatch.lines import reader

WINDOWS = 900
TEMPLATES = 30

# An exception and a calendar line cover some of the times below, an account works under a ticket, objects are counted by their number.
PLANT = architecture(
    a=("limit: [200k rows / 1h,", "limit: [200k rows / 1h, 20 objects / 1h,"),
    b=(
        "exceptions: ",
        "exceptions:\n  night-repair: {account: dba, asset: mes-db, may: [select, update], ticket: CHG-4999, by: a.ruiz,"
        ' when: "2026-04-07 02:00-04:00"}  #',
    ),
)  # fmt: skip
SMALL = (
    (views, "CONNECTIONS_MAX", 9), (views, "FLOWS_MAX", 7), (budget, "BUDGETS_MAX", 6), (budget, "SLOTS_MAX", 6),
    (findings, "FINDINGS_MAX", 3), (kept, "KEPT_MAX", 12), (views, "VIEWS_MAX", 2),
)  # fmt: skip

# Nobody in particular, of a zone from which some may ask for names and none may read.
ANYONE = ("10.20.3.7", "10.20.3.8", "10.20.3.9")
PROXY, JUMP, DBA = ("10.30.0.40", 3128), ("10.30.0.41", 22), ("10.20.1.5", 50_000)
SQL, QUALITY = "mes.genealogy", "quality.inspection"


def dns(**said: Any) -> Flow:
    base = {"source": end(MW), "destination": end(("10.30.0.2", 53)), "opened_by": "source", "protocol": "dns", "operation": "query",
            "transport": "udp", "bytes": 90, "account": None}  # fmt: skip
    return flow(**base | said)


def leg(**said: Any) -> Flow:
    return upload(**{"destination": end(PROXY, (LAKE_NAME, "connect"))} | said)


def dba(**said: Any) -> Flow:
    return extract(**{"destination": end(DBA), "account": "dba", "application": "psql", "objects": [objects(SQL, rows=1)]} | said)


def anyone(**said: Any) -> Flow:
    return dns(**{"source": end(("10.20.0.2", 53)), "destination": end((ANYONE[0], 50_000)), "opened_by": "destination"} | said)


KINDS = (extract, extract, anyone, anyone, upload, publish, collect, mes, mes, dns, leg, dba)
ADDRESSES = (
    "10.30.0.20", "10.30.0.21", "10.20.1.21", "10.20.1.22", "10.20.3.7", "10.20.3.8", "10.20.1.20", "10.40.9.77", "10.40.9.78",
    "192.0.2.9", "10.20.1.5", "10.30.0.8", "224.0.0.251", "10.30.0.99", "203.0.113.5",
)  # fmt: skip
CHANGES: dict[str, list[Any]] = {
    "account": [None, "svc_mw", "svc_mes", "svc_report", "dba", "acme", "replicator", "certificate:CN=edge-7"],
    "application": [None, "quality-extract/3", "psql"],
    "role": [None, "admin", "svc_mw"],
    "operation": ["select", "copy", "connect", "refused", "attempt", "transfer", "admin", "insert", "subscribe", "replicate", "put"],
    "objects": [
        [], [objects(rows=1)], [objects(rows=5, bytes=2000)], [objects(QUALITY, columns=("lot",), rows=7)],
        [objects(QUALITY, columns=("operator_name",), rows=7)], [objects("mes.recipe_master_2019", rows=1)], [objects("unknown", rows=3)],
        [objects("pg_catalog.pg_class", rows=3)], [objects("hr.operator", rows=3)], [objects("account:svc_mw", columns=("password",))],
        [objects("account:new", columns=("create",))], [objects(QUALITY, rows=3), objects("mes.work_order", rows=4)],
        [objects("pg_catalog.pg_class", rows=3_000)],
        [objects(f"quality.{n}", rows=n, bytes=10 * n) for n in range(5)], [objects(QUALITY, rows=n, messages=1) for n in range(4)],
        [objects("mes.work_order", rows=n) for n in range(4)], [objects("north/line1/telemetry/temp", messages=n) for n in range(4)],
    ],
    "depth": ["decoded", "server-log", "sizes", "blind"],
    "protection": [{"transport": "none"}, {"transport": "tls1.3"}, {"transport": "tls1.2", "authentication": "md5"},
                   {"transport": "opcua-signandencrypt", "policy": "None"},
                   {"transport": "tls1.3", "certificate": {"self_signed": True}}],
    "agent": ["tap-idmz", "mes-db-log", "uns-log", "tap-l3"],
    "opened_by": ["source", "destination", None],
    "transport": ["tcp", "udp", "icmp"],
    "protocol": ["postgresql", None, "dns"],
    "completeness": [{"state": "lossy"}, {"state": "encrypted"}, {"state": "complete", "estimated": True}],
    "source": [*(end((address, 5432)) for address in ADDRESSES), end(LAKE, (LAKE_NAME, "dns"))],
    "destination": [*(end((address, 50_123)) for address in ADDRESSES), end(UNS), end(OPC), end(MES_DB), end(MES_APP), end(JUMP),
                    end(LAKE, (LAKE_NAME, "sni")), end(LAKE, ("other.example", "dns")), end(PROXY, ("files.example", "connect"))],
}  # fmt: skip
# Nights, edges of schedules, midnight, an exception, the last day of a month, a skipped hour, a day after the review.
STARTS = ("2026-04-06T23:29:58Z", "2026-04-07T00:59:57Z", "2026-04-07T21:59:58Z", "2026-04-03T23:59:00Z", "2026-04-30T15:59:30Z",
          "2026-03-29T00:59:58Z", "2026-09-02T21:59:00Z", "2026-04-07T05:59:58Z")  # fmt: skip


def stream(seed: int) -> list[Event]:
    """A few kinds of windows over and over: of many amounts and times, on few connections, some late, some again, losses among them."""
    draw = random.Random(seed)
    # Two sets that one limit is wide enough for, each by itself.
    two = [objects(QUALITY, rows=50_000), objects("mes.work_order", rows=60_000)]
    templates: list[tuple[Any, dict[str, Any], str]] = [(extract, {"objects": two}, "two")]
    for n in range(TEMPLATES):
        changed = {name: draw.choice(CHANGES[name]) for name in draw.sample(sorted(CHANGES), draw.choice([0, 0, 0, 1, 1, 2, 3]))}
        templates.append((draw.choice(KINDS), changed, f"{n}"))
    now_ns, made, numbers = time_ns(draw.choice(STARTS)), [], Counter[str]()  # type: int, list[Event], Counter[str]
    for n in range(WINDOWS):
        now_ns += draw.choice(
            [0, 0, 10**6, 10**9, 10**9, 20 * 10**9, draw.choice([60, 600, 3600, 30_000]) * 10**9 if n % 40 == 0 else 10**9]
        )
        at = time_text(max(0, now_ns - (draw.choice([1, 100, 4_000]) * 10**9 if draw.random() < 0.05 else 0)))
        chance = draw.random()
        if chance < 0.01:
            made.append(Heartbeat(event_id=f"h{n}", plant="north", agent=draw.choice(["mes-db-log", "uns-log"]), time=at))
        elif chance < 0.02:
            flows = draw.choice([[], [one.flow_id for one in made[-3:] if isinstance(one, Flow)]])
            made.append(
                Loss(
                    event_id=f"l{n}",
                    plant="north",
                    agent=draw.choice(CHANGES["agent"]),
                    stage="spool",
                    start=at,
                    end=at,
                    events=3,
                    flows=flows,
                )
            )
        elif chance < 0.04 and made:
            made.append(draw.choice(made))
        else:
            kind, changed, name = draw.choice(templates)
            key = f"{name}/{draw.randrange(2)}"
            numbers[key] += 1
            window = kind(**changed | {"at": at, "n": numbers[key], "key": key, "connection": draw.choice([key, name])})
            made.append(counted(draw, window))
    return made


def counted(draw: random.Random, window: Flow) -> Flow:
    """The window with other amounts: nothing, little, corrections, and what no limit is wide enough for."""
    times = draw.choice([0, 1, 1, 1, 1, 2, 30, 400, -1 if draw.random() < 0.2 else 1])
    parts = [
        part.model_copy(update={unit: getattr(part, unit) * times for unit in ("rows", "values", "messages")}) for part in window.objects
    ]
    parts = [part.model_copy(update={"bytes": part.bytes * abs(times)}) for part in parts]
    draw.shuffle(parts)
    size = window.bytes * abs(times) + draw.choice([0, 0, 40])
    sums = {unit: sum(getattr(part, unit) for part in parts) for unit in ("rows", "values", "messages")}
    other = {"port": draw.choice([window.destination.port, draw.randrange(50_000, 50_004)])}
    if window.destination.address in ANYONE:
        other |= {"address": draw.choice(ANYONE)}
    ends = {} if window.opened_by != "destination" else {"destination": window.destination.model_copy(update=other)}
    return window.model_copy(update={"objects": parts, "bytes": size, "bytes_back": draw.choice([0, size]), **sums, **ends})


def said(detector: VerdictDetector, event: Event) -> list[Any]:
    return [
        (one.event, one.finding and one.finding.model_dump(), [notice.model_dump() for notice in one.notices])
        for one in detector.observe(event)
    ]  # fmt: skip


def as_json(detector: VerdictDetector) -> str:
    """Everything remembered; of what a budget counted, the order of the distinct objects says nothing."""
    state = detector.state()
    for name in ("budgets", "caps"):
        state[name] = [[key, spent, sorted(counted)] for key, (spent, counted) in state[name].items()]
    return json.dumps(state)


def compare(events: list[Event], **options: Any) -> VerdictDetector:
    """Both ways over the same events; the detector that gave judgements again."""
    keeping, anew = VerdictDetector(PLANT, **options), VerdictDetector(PLANT, keeps=False, **options)
    for place, event in enumerate(events):
        assert said(keeping, event) == said(anew, event), place
        if place % 100 == 0 or place == len(events) - 1:
            assert as_json(keeping) == as_json(anew), place
    counters = keeping.forgotten()
    assert {name: counters[name] for name in counters if name not in KEPT} == {n: c for n, c in anew.forgotten().items() if n not in KEPT}
    assert len(anew._kept) == anew._kept.given_total == 0
    return keeping


KEPT = {"judgements", "courses", "zones", "anyones", "nets", "objects", "identities", "object_sets"}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("small", [False, True])
def test_with_and_without_kept_judgements_the_same_is_said_and_remembered(seed: int, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, bound in SMALL if small else ():
        monkeypatch.setattr(module, name, bound)
    compare(stream(seed + 100 * small))


@pytest.mark.parametrize("seed", range(10))
def test_the_same_is_said_and_remembered_of_windows_whose_reader_knows_which_are_alike(seed: int) -> None:
    read = reader()
    # Twice, for of the first of each kind it knows nothing.
    lines = [dump(event) for event in stream(seed)]
    events = [[read(line) for line in lines] for _ in range(2)][1]
    marked = [event for event in events if isinstance(event, Flow) and event.mark is not None]
    assert len(marked) > len(events) / 2 > len({event.mark for event in marked})
    assert compare(events)._kept.given_total > len(events) / 4


def test_most_windows_of_such_a_stream_are_judged_as_one_before_and_nearly_every_verdict_is_among_them() -> None:
    given, courses, verdicts = 0, 0, Counter[str]()
    for seed in range(16):
        keeping, before = VerdictDetector(PLANT), dict[int, Any]()
        for event in stream(seed):
            for one in keeping.observe(event):
                courses += one.course is not None and id(one.course) in before
                before[id(one.course)] = one.course
        given += keeping._kept.given_total
        verdicts.update(keeping.counted)
    assert given > 16 * WINDOWS / 3
    assert courses > 16 * WINDOWS / 30
    assert len(verdicts) >= 12, verdicts


def test_a_flow_that_goes_on_as_before_is_not_asked_what_it_is_like(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(verdict, "likeness", lambda index, flow, *more: asked.append(flow.sequence) or kept.likeness(index, flow, *more))
    watching = VerdictDetector(PLANT)
    for n, window in enumerate((extract(), extract(rows=7), extract(rows=9), extract(operation="copy"), extract(rows=8))):
        watching.observe(window.model_copy(update={"sequence": n}))
    # The first is judged, and the second found by what it is like; the fourth is another.
    assert asked == [0, 1, 3]


def test_topics_in_another_order_and_windows_of_no_objects_go_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(verdict, "likeness", lambda index, flow, *more: asked.append(flow.sequence) or kept.likeness(index, flow, *more))
    topics = [objects(f"north/line1/telemetry/{name}", messages=1) for name in ("temp", "speed", "power")]
    for make in (
        lambda n: publish(objects=topics[n % 3 :] + topics[: n % 3], messages=3, n=n),
        lambda n: extract(operation="connect", n=n),
    ):
        watching = VerdictDetector(PLANT)
        for n in range(5):
            watching.observe(make(n))
        assert asked == [0, 1]
        asked.clear()


def test_what_one_hop_would_have_charged_is_asked_for_and_not_charged() -> None:
    limit, other = Limit.parse("5 rows / 1h"), Limit.parse("9 rows / 1d")
    one, two = Allowance("hop:a", limit, 1, "rows"), Allowance("hop:b", other, 1, "rows")
    made = kept.dues([kept.Step(0, (two, one), (one,))])
    assert made is not None
    assert [(due.claim.key, due.most, due.charged) for due in made] == [("hop:a", 5, True), ("hop:b", 9, False)]
    # Asked for twice, charged without being asked for, or of distinct objects: each time by the step.
    for steps in ([kept.Step(0, (one, one), (one,))], [kept.Step(0, (two,), (one,))], [kept.Step(0, (one,), (one,))] * 2):
        assert kept.dues(steps) is None
    assert kept.dues([kept.Step(0, (Allowance("hop:c", Limit.parse("3 objects / 1d"), 1, ""),), ())]) is None
