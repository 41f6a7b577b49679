"""S14, personal data beyond purpose: the name of the operator beside the result, which the use case does without."""

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Tape, plant_time
from examples.plant import clients


def attack(stage: Stage) -> Tape:
    """operator_name selected by the declared job, in its window."""
    return story(stage, "operator_name")


def twin(stage: Stage) -> Tape:
    """operator_id only, the same rows."""
    return story(stage, "operator_id")


def story(stage: Stage, column: str) -> Tape:
    """The nightly extraction with one column more."""
    login = stage.login("svc_mw", application="quality-extract/1.4")
    query = f"select id, serial, result, {column} from quality.inspection where id <= 1200"
    with stage.take() as take:
        stage.host("mw").call(lambda: clients.select(login, stage.plant.ledger, query))
    return Tape().add(take, plant_time("2026-04-07 01:40"))


SCENARIO = Scenario(
    "S14", "personal data beyond purpose", attack, twin,
    (Expected("undeclared-data", "what", r"operator_name", immediate=True),),
    attacked="operator_name selected by svc_mw on extract-quality",
    benign="operator_id only, the same rows",
)  # fmt: skip
