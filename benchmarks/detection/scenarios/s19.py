"""S19, the decoy: a table that nobody has a reason to read."""

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Tape, plant_time
from examples.plant import clients


def attack(stage: Stage) -> Tape:
    """One row of it, by an account that could."""
    return story(stage, "select id, recipe from mes.recipe_master_2019 limit 1", "svc_backup", "vtl", "2026-04-07 22:30")


def twin(stage: Stage) -> Tape:
    """Listing the schema, in which its name stands."""
    listing = "select table_name from information_schema.tables where table_schema = 'mes' order by 1"
    return story(stage, listing, "svc_backup", "vtl", "2026-04-07 22:30")


def story(stage: Stage, statement: str, account: str, host: str, at: str) -> Tape:
    """One statement."""
    with stage.take() as take:
        stage.host(host).call(lambda: clients.select(stage.login(account, application="backup/3"), stage.plant.ledger, statement))
    return Tape().add(take, plant_time(at))


SCENARIO = Scenario(
    "S19", "decoy", attack, twin,
    (Expected("decoy", "what", r"mes\.recipe_master_2019", immediate=True),),
    attacked="one row of mes.recipe_master_2019",
    benign="schema listing only",
)  # fmt: skip
