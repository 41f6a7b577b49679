"""What is asked of windows of one client is asked of every client that nothing tells from it, as if each had been met first."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from north import end, flow, objects

from detectors import lineage, online
from detectors.online import Online
from hopwatch.declared.load import load
from hopwatch.events import Finding, Flow, dump, time_ns, time_text
from hopwatch.lines import reader

PLANT = load(Path(__file__).parents[2] / "benchmarks" / "plant.yaml")
DATABASE = ("10.20.1.21", 5432)
START_NS = time_ns("2026-04-07T05:59:00Z")


def stream(seed: int) -> list[Flow]:
    """Terminals and strangers at the database: approved, refused, much, at night, by other programs; most say one window, some go on."""
    draw, made = random.Random(seed), []
    now_ns, numbers = START_NS, dict[str, int]()
    for _ in range(700):
        now_ns += draw.choice([0, 10**6, 10**9, 7 * 10**9, 400 * 10**9, 30_000 * 10**9 if draw.random() < 0.05 else 0])
        client = end((draw.choice([f"10.64.{draw.randrange(2)}.{draw.randrange(30)}", "10.20.1.20", "10.40.8.40", "192.0.2.7"]), 40_000))
        operation = draw.choice(["select"] * 4 + ["connect", "insert", "refused", "copy", "admin", "transfer"])
        sets = [] if operation in ("connect", "refused", "transfer") else [
            objects(draw.choice(["pgbench_accounts", "wide", "other"]), columns=("*",), rows=draw.choice([1, 9, 30_000]),
                    bytes=draw.choice([90, 4 << 20]))
        ]  # fmt: skip
        into = operation in ("connect", "insert", "admin")
        key = f"{client['address']} {operation} {draw.randrange(2)}"
        n = numbers[key] = numbers.get(key, -1) + 1
        ends = {"source": client, "destination": end(DATABASE)} if into else {"source": end(DATABASE), "destination": client}
        made.append(
            flow(**ends, key=key, n=n, at=time_text(now_ns), opened_by="source" if into else "destination", operation=operation,
                 objects=sets, plant="bench", agent="tap-bench", account=draw.choice(["svc_mes"] * 6 + ["svc_mw", None]), connection=key,
                 application=draw.choice(["pgbench", "pgbench", "psql"]), final=draw.random() < 0.1)
        )  # fmt: skip
    return made


def said(asking: Online, events: Iterable[Flow]) -> list[Any]:
    told: list[Any] = []
    for event in events:
        for one in (*asking.advance(event.end_ns), *asking.observe(event)):
            told.append(one.model_dump() if isinstance(one, Finding) else (one.event, one.new, one.finding and one.finding.model_dump()))
    return told


def state(asking: Online) -> Any:
    """In what order the entries of a memory were touched within one of its turns is no matter."""

    def sort(one: Any) -> Any:
        if isinstance(one, dict):
            return {name: sort(part) for name, part in one.items()}
        if isinstance(one, list) and one and isinstance(one[0], list):
            return sorted(map(sort, one), key=repr)
        return one

    return sort(json.loads(json.dumps(asking.state())))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("small", [False, True])
def test_what_is_asked_of_anyone_is_what_would_be_asked_of_each(seed: int, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if small:
        monkeypatch.setattr(online, "KINDS_MAX", 5)
        monkeypatch.setattr(lineage, "UNCOUNTED_MAX", 3)
    shared, each = online.online(PLANT), online.online(PLANT)
    each._by_client = list(enumerate(each.questions))
    read = reader()
    events = [read(dump(event)) for event in stream(seed)]
    windows = [event for event in events if isinstance(event, Flow)]
    assert said(shared, windows) == said(each, windows)
    assert state(shared) == state(each)


def test_of_clients_that_nothing_tells_apart_a_question_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asking, asked = online.online(PLANT), dict[str, int]()
    for question in asking.questions:

        def count(moved: Any, question: Any = question, before: Any = question.asked) -> Any:
            asked[question.name] = asked.get(question.name, 0) + 1
            return before(moved)

        monkeypatch.setattr(question, "asked", count)
    for n in range(200):
        asking.observe(
            flow(source=end(DATABASE), destination=end((f"10.64.1.{n}", 40_000)), key=str(n), opened_by="destination", operation="select",
                 objects=[objects("wide", rows=1)], plant="bench", agent="tap-bench", account="svc_mes", connection=str(n))
        )  # fmt: skip
    assert asked.pop("accounts") == asked.pop("anomaly") == asked.pop("lineage") == 200
    # The first window was judged anew, and is like none.
    assert max(asked.values()) <= 2 and len(asked) == 9
