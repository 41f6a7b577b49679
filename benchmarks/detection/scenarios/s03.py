"""S3, the notebook bypass: rows that have an approved way are fetched past it."""

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Tape, plant_time
from examples.plant import clients

QUERY = "select id, serial, result, value from quality.inspection where id <= {rows}"
PAGE = 200


def attack(stage: Stage) -> Tape:
    """psycopg's named cursor from an analyst's notebook straight to the MES database."""
    query, login = QUERY.format(rows=stage.chance.randint(2_000, 5_000)), stage.login("svc_report", application="python/notebook")
    with stage.take() as take:
        stage.host("notebook").call(lambda: clients.select_by_cursor(login, stage.plant.ledger, query, PAGE))
    return Tape().add(take, plant_time("2026-04-07 12:33"))


def twin(stage: Stage) -> Tape:
    """The same query from the declared extraction host, in its window."""
    query, login = QUERY.format(rows=stage.chance.randint(2_000, 5_000)), stage.login("svc_mw", application="quality-extract/1.4")
    with stage.take() as take:
        stage.host("mw").call(lambda: clients.select_by_cursor(login, stage.plant.ledger, query, PAGE))
    return Tape().add(take, plant_time("2026-04-07 01:40"))


SCENARIO = Scenario(
    "S3", "notebook bypass", attack, twin,
    (Expected("undeclared-hop", "who", r"svc_report at 10\.40\.9\.77", immediate=True),),
    attacked="psycopg named cursor from analytics straight to mes-db",
    benign="the same query from the declared extraction host",
)  # fmt: skip
