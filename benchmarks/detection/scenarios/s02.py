"""S2, a shared account: what a service logs in with is used by a person from a laptop."""

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Take, Tape, plant_time
from examples.plant import clients
from examples.plant.ledger import Entry

QUERY = "select id, serial, result, value from quality.inspection where id <= {rows}"


def attack(stage: Stage) -> Tape:
    """The middleware's night job, and two minutes later psql on a laptop with its password."""
    rows = stage.chance.randint(50, 400)
    with stage.take() as take:
        written = stage.psql("laptop", "svc_mw", QUERY.format(rows=rows))
        take.entries.append(Entry("svc_mw", "postgresql", rows=len(written.splitlines())))
    return Tape().add(job(stage, "mw"), plant_time("2026-04-07 01:40"), story=False).add(take, plant_time("2026-04-07 01:42"))


def twin(stage: Stage) -> Tape:
    """The middleware fails over to its declared standby host and goes on from there."""
    return Tape().add(job(stage, "mw"), plant_time("2026-04-07 01:40")).add(job(stage, "mw-standby"), plant_time("2026-04-07 01:42"))


def job(stage: Stage, host: str) -> Take:
    """One run of the declared extraction."""
    login, query = stage.login("svc_mw", application="quality-extract/1.4"), QUERY.format(rows=stage.chance.randint(50, 400))
    with stage.take() as take:
        stage.host(host).call(lambda: clients.select(login, stage.plant.ledger, query))
    return take


SCENARIO = Scenario(
    "S2", "shared or over-privileged account", attack, twin,
    (
        Expected("shared-account", "who", r"10\.40\.9\.90, mw within 5 min"),
        Expected("shared-account", "who", r"psql, a person's tool"),
        Expected("undeclared-hop", "who", r"svc_mw at 10\.40\.9\.90"),
    ),
    attacked="svc_mw from mw and from a laptop, psql as application",
    benign="failover of mw to its declared standby host",
)  # fmt: skip
