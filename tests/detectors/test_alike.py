"""What is worked out once for windows like one another says of each what would be said of it by itself."""

from random import Random
from typing import Any

import pytest
from moves import DAY_NS, HOUR_NS, later, moved
from north import architecture, collect, end, extract, mes, objects, publish, upload

from detectors.judgement import Spent
from detectors.moved import Moved, Question
from detectors.online import online
from hopwatch.declared.quantity import Limit
from hopwatch.events import Flow

SEED = 20261122
LAPTOP = ("10.40.9.77", 50200)
STEPS_NS = (10**9, 10**9, 40 * 10**9, HOUR_NS // 5, 7 * HOUR_NS, -(10**9), -HOUR_NS, -DAY_NS, 30 * DAY_NS)
PLANT = architecture()
LIMIT = Limit.parse("100k rows / 1h")

QUESTIONS = [question.name for question in online(PLANT).questions]
WINDOWS: dict[str, Flow] = {
    "extract": extract(),
    "mes": mes(),
    "mes with a person's tool": mes(application="psql/15"),
    "a stranger": extract(account="stranger", destination=end(LAPTOP), application="psql/15"),
    "upload": upload(),
    "what nobody declared": upload(destination=end(LAPTOP)),
    "collect": collect(),
    "publish": publish(objects=[objects(f"north/line1/telemetry/{name}", messages=5, bytes=500) for name in "abc"]),
    "an account that is made": mes(operation="admin", objects=[objects("account:new", columns=("create",))]),
    "refused": mes(operation="refused"),
}


def windows(first: Moved, count: int) -> list[Moved]:
    """Windows like the first: to and fro in time, with other amounts; a limit is used less and more."""
    random, at_ns = Random(SEED), 0
    made: list[Moved] = []
    for _ in range(count):
        at_ns += random.choice(STEPS_NS)
        rows = random.choice((0, 10, 4_000, 400_000)) if first.rows else 0
        spent = tuple(Spent(one.key, LIMIT, one.name, random.randrange(110_000)) for one in first.spent)
        made.append(later(first, at_ns, rows=rows, bytes=random.choice((0, 900, 20 << 20)), spent=spent))
    return made


def remembered(question: Question) -> dict[str, Any]:  # Any: JSON values
    """By table and key; in which order is another matter, for what is held is touched once a turn."""
    return {table: dict(entries) for table, entries in question.state().items()}


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_like_one_another_are_told_what_each_would_be_told_by_itself(name: str, window: str) -> None:
    together, each = (next(one for one in online(PLANT).questions if one.name == name) for _ in range(2))
    first = moved(WINDOWS[window])
    look = together.asked(first)
    for number, one in enumerate(windows(first, 60)):
        assert list(() if look is None else look(one)) == list(each.observe(one)), number
        if number % 7 == 0:
            assert dict(together.changes()).keys() == dict(each.changes()).keys()
        if number % 5 == 0:
            assert remembered(together) == remembered(each)
        if number % 11 == 0:
            now_ns = one.end_ns + HOUR_NS
            assert list(together.advance(now_ns)) == list(each.advance(now_ns))
    assert remembered(together) == remembered(each)
