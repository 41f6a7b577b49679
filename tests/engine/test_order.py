"""Events of one agent come back into its order, wait for what is before them, and no longer than there is something to wait for."""

import json
import random
from collections.abc import Iterable

import pytest

from hopwatch.engine import order
from hopwatch.engine.order import HOLD_S, Order, numbers
from hopwatch.events import Event, Heartbeat

FLOWS, LOSSES = "flows", "losses"


def line(number: int, spool: str = "ab", **said: object) -> bytes:
    return json.dumps({"event_id": f"{spool}{number}"} | said | {"agent_sequence": number, "spool": spool}, separators=(",", ":")).encode()


def event(number: int, spool: str = "ab") -> Heartbeat:
    return Heartbeat(event_id=f"{spool}{number}", plant="north", agent="a", time="2026-04-07T00:00:00Z")


def put(to: Order, number: int, topic: str = FLOWS, now_s: float = 0.0, ends: dict[str, int] | None = None, **said: object) -> list[str]:
    return ids(to.put(topic, number, event(number), line(number, **said), ends or {}, now_s))


def ids(events: Iterable[Event]) -> list[str]:
    return [one.event_id for one in events if isinstance(one, Heartbeat)]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_order_between_topics_the_agents_comes_out(seed: int) -> None:
    draw, to, out = random.Random(seed), Order({"ab": 0}), []
    topics = [[n for n in range(300) if draw.random() < 0.8], []]
    topics[1] = sorted(set(range(300)) - set(topics[0]))
    while any(topics):
        topic = draw.choice([one for one in topics if one])
        out += put(to, topic.pop(0))
    assert out == [f"ab{n}" for n in range(300)]
    assert len(to) == 0


def test_what_never_comes_is_waited_for_until_every_topic_was_read_and_some_time_has_passed() -> None:
    to = Order({"ab": 0})
    assert put(to, 2, ends={FLOWS: 3, LOSSES: 7}) == []
    assert ids(to.overdue({FLOWS: 3, LOSSES: 6}, {}, HOLD_S)) == []
    assert ids(to.overdue({FLOWS: 3, LOSSES: 7}, {}, HOLD_S - 1)) == []
    assert to.held(FLOWS) == 2
    assert ids(to.overdue({FLOWS: 3, LOSSES: 7}, {}, HOLD_S)) == ["ab2"]
    assert (to.missing_total, to.next_numbers(), to.held(FLOWS)) == (2, {"ab": 3}, None)


def test_a_topic_whose_end_is_not_known_yet_is_waited_for() -> None:
    to = Order({"ab": 0})
    put(to, 1, ends={FLOWS: 2})
    assert ids(to.overdue({FLOWS: 2, LOSSES: 0}, {}, HOLD_S)) == []
    assert ids(to.overdue({FLOWS: 2, LOSSES: 0}, {LOSSES: 0}, HOLD_S)) == ["ab1"]


def test_a_repetition_passes_and_numbers_that_another_event_answers_for_are_not_waited_for() -> None:
    to = Order({"ab": 0})
    assert put(to, 0) + put(to, 0) == ["ab0", "ab0"]
    assert put(to, 4, merged={"agent_sequences": [[1, 4]]}) == ["ab4"]
    assert put(to, 5) == ["ab5"]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "WAITING_MAX", 10)
    to, out = Order({"ab": 0}), []
    for n in range(1, 30):
        out += put(to, n)
    assert out == [f"ab{n}" for n in range(1, 30)]
    assert to.missing_total == 1


def test_events_without_numbers_pass_and_numbers_are_read_wherever_they_stand() -> None:
    assert numbers(b'{"a":1}') == (None, ())
    assert numbers(line(7)) == ("ab", ((7, 7),))
    assert numbers(b'{"spool":"x","agent_sequence":3,"b":"' + b"y" * 400 + b'"}') == ("x", ((3, 3),))
    assert numbers(line(9, agent_sequences=[[2, 4], [6, 8]])) == ("ab", ((2, 4), (6, 8), (9, 9)))
    passed: list[Event] = list(Order().put(FLOWS, 0, event(1), b'{"a":1}', {}, 0.0))
    assert len(passed) == 1
