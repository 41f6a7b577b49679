"""S9, the wrong hour: what is right at night is not in the afternoon."""

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Take, Tape, plant_time
from examples.plant import clients


def attack(stage: Stage) -> Tape:
    """Five nights as ever, then the normal amount at 14:00."""
    take, tape = nightly(stage), Tape()
    for day in range(1, 6):
        tape.add(take, plant_time(f"2026-04-{day:02} 01:40"), story=False)
    return tape.add(take, plant_time("2026-04-06 14:00"))


def twin(stage: Stage) -> Tape:
    """The job is timed by UTC: in the night of summer time it runs at 03:40 of the wall clock, where 02:40 does not exist."""
    take, tape = nightly(stage), Tape()
    for day in (26, 27, 28):
        tape.add(take, plant_time(f"2026-03-{day} 02:40"))
    return tape.add(take, plant_time("2026-03-29 03:40")).add(take, plant_time("2026-03-30 01:40"))


def nightly(stage: Stage) -> Take:
    """The declared extraction, by COPY as asyncpg does it."""
    login, mw = stage.login("svc_mw", application="quality-extract/1.4"), stage.host("mw")
    query = f"select id, serial, result, value from quality.inspection where id <= {stage.chance.randint(500, 1500)}"
    with stage.take() as take:
        mw.call(lambda: clients.copy_out_asyncpg(login, stage.plant.ledger, mw.local_address(), query))
    return take


SCENARIO = Scenario(
    "S9", "wrong hour", attack, twin,
    (Expected("outside-window", "when", r"daily 01:30-03:00 -> .*14:00", immediate=True),),
    attacked="the normal nightly amount at 14:00",
    benign="the night of summer time, shifted by one hour",
)  # fmt: skip
