"""S5, a pilot without change control: it takes more tables than were approved, and does not end."""

from datetime import date, timedelta

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Take, Tape, plant_time
from examples.plant import clients

APPROVED = date(2026, 2, 1)
ORDERS = "select id, line, product, quantity from mes.work_order"


def attack(stage: Stage) -> Tape:
    """Two tables more on day 45; still running on day 61."""
    usual, more, tape = run(stage, ORDERS), run(stage, "select id, station from mes.routing_step", "select id, name from mes.tool"), Tape()
    for day in range(38, 62):
        tape.add(more if day == 45 else usual, on(day), story=day in (45, 61))
    return tape


def twin(stage: Stage) -> Tape:
    """Closed on day 59; the plant goes on."""
    usual, tape = run(stage, ORDERS), Tape()
    for day in range(38, 60):
        tape.add(usual, on(day))
    login = stage.login("svc_mes", application="mes-app/7.2")
    with stage.take() as take:
        stage.host("mes-app").call(lambda: clients.select(login, stage.plant.ledger, ORDERS))
    for day in range(60, 64):
        tape.add(take, on(day))
    return tape


def run(stage: Stage, *statements: str) -> Take:
    """What the pilot reads in a day."""
    login = stage.login("svc_pilot", application="scrap-pilot/0.3")
    with stage.take() as take:
        for statement in statements:
            stage.host("lab-1").call(lambda statement=statement: clients.select(login, stage.plant.ledger, statement))  # type: ignore[misc]
    return take


def on(day: int) -> int:
    """Nine o'clock of a day of the pilot."""
    return plant_time(f"{APPROVED + timedelta(days=day)} 09:00")


SCENARIO = Scenario(
    "S5", "pilot without change control", attack, twin,
    (Expected("undeclared-data", "what", r"mes\.routing_step"), Expected("expired", "when", r"until 2026-04-02 -> 2026-04-03")),
    attacked="a hop tagged pilot adds 2 tables on day 45 and runs on day 61",
    benign="the pilot is closed on day 59",
)  # fmt: skip
