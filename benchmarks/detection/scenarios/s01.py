"""S1, full history to an AI environment: a declared job takes the whole table, page by page, under every limit."""

import time
from datetime import timedelta

from benchmarks.detection.restamp import SECOND_NS
from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import INSPECTIONS, Stage, Tape, plant_time
from examples.plant import clients

QUERY = "select id, serial, result, value from quality.inspection where id > %s and id <= %s"
SESSIONS = 4
PAUSE_S = 0.4


def attack(stage: Stage) -> Tape:
    """Pages by key in several sessions, six hours long, until the table has left."""
    login, page = stage.login("svc_mw", application="quality-extract/1.4"), stage.chance.choice((800, 1000, 1250))
    keys = [(first, first + page) for first in range(0, INSPECTIONS, page)]
    each = -(-len(keys) // SESSIONS)
    tape = Tape()
    for number in range(SESSIONS):
        part = keys[number * each : (number + 1) * each]
        with stage.take() as take:
            stage.host("mw").call(lambda part=part: paged(stage, login, part))  # type: ignore[misc]
        tape.add(take, plant_time("2026-04-07 01:30") + number * 90 * 60 * SECOND_NS, over=timedelta(minutes=85))
    return tape


def paged(stage: Stage, login: clients.Login, keys: list[tuple[int, int]]) -> None:
    """A page, a pause, a page: stretched, the pauses stay those of the story and not of its login."""
    with clients.psycopg_session(login, stage.plant.ledger) as (connection, entry):
        for first, last in keys:
            entry.rows += len(connection.execute(QUERY, (first, last), prepare=True).fetchall())
            entry.messages += 1
            time.sleep(PAUSE_S)


def twin(stage: Stage) -> Tape:
    """The same job every night, the last day only."""
    login, tape = stage.login("svc_mw", application="quality-extract/1.4"), Tape()
    newest = (INSPECTIONS - stage.chance.randint(200, 400), INSPECTIONS)
    with stage.take() as take:
        stage.host("mw").call(lambda: clients.select_prepared(login, stage.plant.ledger, QUERY, [newest]))
    for day in range(1, 8):
        tape.add(take, plant_time(f"2026-04-{day:02} 01:40"))
    return tape


SCENARIO = Scenario(
    "S1", "full history to an AI environment", attack, twin,
    (Expected("bulk-extraction", "how_much", r"% of the table"),),
    attacked="svc_mw pages quality.inspection by key for 6 h, 100 % of the table",
    benign="the same job, last day only, inside its window, seven nights",
)  # fmt: skip
