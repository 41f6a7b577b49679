"""S1, full history to an AI environment: a declared job takes the whole table, page by page, under every limit."""

import time
from datetime import timedelta

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import INSPECTIONS, Stage, Tape, plant_time
from examples.plant import clients

QUERY = "select id, serial, result, value from quality.inspection where id > %s and id <= %s"
PAUSE_S = 0.1


def attack(stage: Stage) -> Tape:
    """Pages by key, each in a session of its own, six hours long, until the table has left."""
    login, page = stage.login("svc_mw", application="quality-extract/1.4"), stage.chance.choice((500, 800, 1000))

    def paged() -> None:
        for first in range(0, INSPECTIONS, page):
            clients.select_prepared(login, stage.plant.ledger, QUERY, [(first, first + page)])
            time.sleep(PAUSE_S)

    with stage.take() as take:
        stage.host("mw").call(paged)
    return Tape().add(take, plant_time("2026-04-07 01:30"), spread=timedelta(hours=6))


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
