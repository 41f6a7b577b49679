"""However many peers there are, every table stays within its bound, says what it dropped, and a window costs what it always did."""

import json
import time
from collections.abc import Iterator

import pytest
from north import LAKE_NAME, MES_DB, MW, NIGHT, UPLOAD, architecture, detector, end, extract, flow, mes, objects, upload

from detectors import budget, failover, findings, kept, logins, losses, verdict, views
from detectors.losses import Losses
from detectors.verdict import VerdictDetector
from hopwatch.declared import match
from hopwatch.events import Flow, Heartbeat, Loss, time_text

BOUNDS = {
    "connections": views.CONNECTIONS_MAX // 2,
    "legs": views.CONNECTIONS_MAX // 2,
    "logins": logins.LOGINS_MAX,
    "flows": views.FLOWS_MAX // 4,
    "earlier_flows": views.FLOWS_MAX // 4,
    "budgets": budget.BUDGETS_MAX,
    "caps": budget.BUDGETS_MAX,
    "findings": findings.FINDINGS_MAX,
    "sessions": findings.FINDINGS_MAX,
    "losses": losses.LOSSES_MAX,
    "agents": verdict.AGENTS_MAX,
    "judgements": kept.KEPT_MAX,
    "places": match.CACHE_ENTRIES_MAX,
    "zones": match.CACHE_ENTRIES_MAX,
    "anyones": match.CACHE_ENTRIES_MAX,
    "nets": match.CACHE_ENTRIES_MAX,
    "identities": match.CACHE_ENTRIES_MAX,
    "objects": match.CACHE_ENTRIES_MAX,
    "object_sets": match.CACHE_ENTRIES_MAX,
}
PEERS = 100_000
# A zone with room for them all: its hosts may ask the name server and lie where clients of the database do.
CROWDED = ("nets: [10.20.0.0/22]", "nets: [10.20.0.0/15]")

PEER_READS_CATALOGUE = mes(objects=[objects("pg_catalog.pg_class", rows=1)])
PEER_READS_TABLE = mes()
PEER_ASKS_NAMES = flow(source=end(("10.30.0.2", 53)), protocol="dns", operation="query", transport="udp", bytes=90, destination=end(MW))
STRANGER_READS_TABLE = extract()
STRANGER_TRIES = flow(source=end(MES_DB), operation="attempt", bytes=0, destination=end(MW), account=None)
# Most of a plant asks for names, and most strangers scan.
KINDS = (
    PEER_ASKS_NAMES, PEER_READS_TABLE, PEER_ASKS_NAMES, STRANGER_READS_TABLE, STRANGER_TRIES,
    PEER_ASKS_NAMES, PEER_READS_CATALOGUE, PEER_ASKS_NAMES, STRANGER_TRIES, PEER_ASKS_NAMES,
)  # fmt: skip


def crowded() -> VerdictDetector:
    return VerdictDetector(architecture(crowded=CROWDED))


def peers(first: int, behind: int) -> Iterator[Flow]:
    """A window of each of so many peers, with its own address, connection, flow, agent, account and table."""
    for peer in range(first, behind):
        kind = KINDS[peer % len(KINDS)]
        outside = kind is STRANGER_READS_TABLE or kind is STRANGER_TRIES
        network = f"100.{64 + (peer >> 16)}" if outside else f"10.{20 + (peer >> 16)}"
        made = kind.model_copy()
        made.event_id, made.flow_id, made.connection, made.agent = f"e{peer}", f"f{peer}", f"c{peer}", f"tap-{peer}"
        made.account = kind.account and f"person{peer}"
        made.destination = kind.destination.model_copy(update={"address": f"{network}.{peer >> 8 & 255}.{peer & 255}"})
        if kind is PEER_READS_TABLE or kind is STRANGER_READS_TABLE:
            made.objects = [kind.objects[0].model_copy(update={"names": [f"t.{peer}"]})]
        yield made


def test_a_hundred_thousand_peers_stay_within_every_bound_and_every_drop_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    # The bounds hold more than so many.
    monkeypatch.setattr(views, "CONNECTIONS_MAX", BOUNDS["connections"])
    monkeypatch.setattr(views, "FLOWS_MAX", BOUNDS["flows"])
    watching = crowded()
    spent_s: list[float] = []
    quarter = PEERS // 4
    for first in range(0, PEERS, quarter):
        windows = list(peers(first, first + quarter))
        started_s = time.process_time()
        for window in windows:
            watching.observe(window)
        spent_s.append(time.process_time() - started_s)
    for n in range(losses.LOSSES_MAX + 10):
        lost = {"stage": "spool", "events": 1, "start": NIGHT, "end": NIGHT}
        watching.blind(Loss(event_id=f"l{n}", plant="north", agent=f"tap-{n}", **lost))
    sizes, forgotten = watching.sizes(), watching.forgotten()
    assert set(sizes) == {*BOUNDS, "members"}
    assert {name: size for name, size in sizes.items() if name in BOUNDS and size > BOUNDS[name]} == {}
    assert sum(watching.counted.values()) == PEERS
    # Each peer is one entry of these tables: what is not there was dropped, and said so.
    for name in ("connections", "flows", "agents"):
        assert sizes[name] == BOUNDS[name]
        assert forgotten[name] >= PEERS - BOUNDS[name], name
    assert sizes["findings"] == BOUNDS["findings"] and forgotten["findings"] > 0
    assert (sizes["losses"], forgotten["losses"]) == (losses.LOSSES_MAX, 10)
    # Flat, with room for a machine that is busy: the last quarter works at full tables, the first at empty ones.
    assert spent_s[-1] < 5 * spent_s[0], spent_s


def test_peers_however_many_push_out_no_budget_of_a_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "BUDGETS_MAX", 50)
    watching = crowded()
    full = [objects("quality.inspection", columns=("lot",), rows=200_000)]
    assert watching.observe(extract(objects=full))[0].verdict == "declared"
    for window in peers(0, 400):
        watching.observe(window)
    one_more = [objects("quality.inspection", columns=("lot",), rows=1)]
    assert watching.observe(extract(n=1, objects=one_more))[0].verdict == "over-limit"
    assert watching.sizes()["caps"] == 50
    assert watching.forgotten()["caps"] > 0


@pytest.mark.parametrize(
    ("module", "name", "table"),
    [
        (views, "CONNECTIONS_MAX", "connections"), (views, "FLOWS_MAX", "flows"), (findings, "FINDINGS_MAX", "findings"),
        (budget, "BUDGETS_MAX", "caps"), (verdict, "AGENTS_MAX", "agents"), (match, "CACHE_ENTRIES_MAX", "zones"),
        (match, "CACHE_ENTRIES_MAX", "identities"), (match, "CACHE_ENTRIES_MAX", "objects"), (match, "CACHE_ENTRIES_MAX", "object_sets"),
    ],
)  # fmt: skip
def test_each_table_holds_to_its_bound_and_counts_what_it_drops(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, table: str
) -> None:
    monkeypatch.setattr(module, name, 40)
    watching = crowded()
    for window in peers(0, 400):
        watching.observe(window)
    assert watching.sizes()[table] == 40
    assert watching.forgotten()[table] > 0


def test_what_a_bound_leaves_out_inside_an_entry_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "VIEWS_MAX", 2)
    monkeypatch.setattr(views, "SPANS_MAX", 2)
    monkeypatch.setattr(budget, "SLOTS_MAX", 2)
    monkeypatch.setattr(budget, "OBJECTS_COUNTED_MAX", 2)
    monkeypatch.setattr(failover, "MEMBERS_MAX", 1)
    plant = architecture(limit=("limit: [200k rows / 1h, 400k rows / 1d, 300 MiB / 1d]", "limit: [200k rows / 1h, 9 objects / 1d]"))
    watching = VerdictDetector(plant)
    for n in range(4):
        at = f"2026-04-07T00:{n:02d}:00Z"
        watching.observe(extract(n=2 * n, at=at, agent=f"tap-{n}", connection="c", key="k"))
        watching.observe(extract(n=n, at=at, key=f"s{n}", source=end((f"10.20.1.{21 + n % 2}", 5432)),
                                 objects=[objects(f"quality.{n}", rows=1)]))  # fmt: skip
    forgotten = watching.forgotten()
    assert {name: forgotten[name] > 0 for name in ("views", "window_runs", "slots", "distinct_objects", "members")} == dict.fromkeys(
        ("views", "window_runs", "slots", "distinct_objects", "members"), True
    )


def test_the_legs_of_relays_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "CONNECTIONS_MAX", 3)
    watching = detector()
    for day in range(1, 10):
        asked = end(("10.30.0.40", 3128), (LAKE_NAME, "connect"))
        watching.observe(upload(n=day, destination=asked, at=UPLOAD.replace("-07T", f"-{day:02d}T")))
    assert (watching.sizes()["legs"], watching.forgotten()["legs"]) == (3, 6)


def lost(first_s: int, last_s: int, agent: str = "a", **said: object) -> Loss:
    times = {"start": time_text(first_s * 10**9), "end": time_text(last_s * 10**9)}
    return Loss.model_validate({"event_id": "l", "plant": "north", "agent": agent, "stage": "spool", "events": 1} | times | said)


def window(first_s: int, last_s: int, **said: object) -> Flow:
    return extract(agent="a").model_copy(
        update={"start": time_text(first_s * 10**9), "end": time_text(last_s * 10**9), "flow_id": "f"} | said
    )


def covers(known: Losses, first_s: int, last_s: int, **said: object) -> bool:
    return known.cover(window(first_s, last_s, **said), first_s * 10**9)


def test_a_loss_covers_the_windows_of_its_agent_or_flow_that_it_overlaps_and_no_other() -> None:
    known = Losses()
    for loss in (lost(10, 20), lost(40, 50), lost(15, 30), lost(60, 60, flows=["g"]), lost(80, 90, events=0)):
        known.add(loss)
    assert [covers(known, *span) for span in ((5, 9), (5, 10), (30, 31), (31, 39), (35, 45), (51, 59), (0, 100))] == [
        False, True, True, False, True, False, True,
    ]  # fmt: skip
    assert not covers(known, 15, 16, agent="b")
    assert not covers(known, 55, 65)
    assert covers(known, 55, 65, flow_id="g")
    assert len(known) == 3
    again = Losses()
    again.restore(json.loads(json.dumps(known.state())))
    assert (again.state(), len(again)) == (known.state(), 3)


def test_intervals_give_the_same_answer_as_every_loss_by_itself() -> None:
    import random

    draw = random.Random(11)
    known, every = Losses(), []
    for _ in range(300):
        first = draw.randrange(1_000)
        every.append((first, first + draw.randrange(8)))
        known.add(lost(*every[-1]))
        asked = draw.randrange(1_000)
        assert covers(known, asked, asked + 1) == any(first <= asked + 1 and asked <= last for first, last in every)


def test_agents_that_come_by_heartbeat_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "AGENTS_MAX", 5)
    watching = detector()
    for n in range(8):
        watching.observe(Heartbeat(event_id=f"h{n}", plant="north", agent=f"a{n}", time=NIGHT))
    assert (watching.sizes()["agents"], watching.forgotten()["agents"]) == (5, 3)
