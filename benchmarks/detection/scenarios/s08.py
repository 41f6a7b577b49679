"""S8, low and slow: a third more on an approved hop, every day, far under its limit."""

from datetime import date, timedelta

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Take, Tape, plant_time
from examples.plant import clients
from examples.plant.story import TELEMETRY

LEARNT = timedelta(days=21)
HOURS = range(1, 24, 3)
REQUESTS = 20
MORE = 1.3


def attack(stage: Stage) -> Tape:
    """Three weeks as ever, then 30 % more on five days."""
    return story(stage, date(2026, 3, 23))


def twin(stage: Stage) -> Tape:
    """As much more for as long, with a ticket: a line goes into operation."""
    return story(stage, date(2026, 3, 30))


def story(stage: Stage, since: date) -> Tape:
    """The historian's collection, every three hours; more of it on five days."""
    usual = [collected(stage, REQUESTS + more) for more in (-1, 0, 1)]
    more, tape = collected(stage, round(REQUESTS * MORE)), Tape()
    day = since - LEARNT
    while day < since + timedelta(days=5):
        for hour in HOURS:
            extra = day >= since
            tape.add(more if extra else stage.chance.choice(usual), plant_time(f"{day} {hour:02}:05"), story=extra)
        day += timedelta(days=1)
    # The day after, on which nothing but the end of the last day is to be seen.
    return tape.add(usual[0], plant_time(f"{day} 00:30"), story=False)


def collected(stage: Stage, requests: int) -> Take:
    """One collection: what a take holds follows from its requests."""
    login, host = stage.login("svc_hist", "opc-l1", "historian"), stage.host("historian")
    with stage.take() as take:
        host.call(lambda: clients.opcua_read(login, stage.plant.ledger, host.local_address(), TELEMETRY * 100, times=requests))
    return take


SCENARIO = Scenario(
    "S8", "low and slow", attack, twin,
    (Expected("slow", "how_much", r"bytes more in \d days, 1\.[23]"),),
    attacked="30 % more on an approved hop for 5 days, after three weeks of learning",
    benign="new line onboarded under an exception with its ticket",
)  # fmt: skip
