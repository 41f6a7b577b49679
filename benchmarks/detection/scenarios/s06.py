"""S6, AI output writes back: what a model says reaches the plant without anyone's review."""

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Tape, plant_time
from examples.plant import clients
from examples.plant.clients import MqttSession
from examples.plant.opcua_server import node_ids

RECIPES = [node for node in node_ids() if "/Recipe/" in node]


def attack(stage: Stage) -> Tape:
    """ml writes setpoints into the line, and work orders into the MES."""
    ml, ledger = stage.host("ml"), stage.plant.ledger
    line, mes = stage.login("svc_ml", "opc-l1", "advisor"), stage.login("svc_ml", application="advisor/2.0")
    orders = [(number, "line1", stage.chance.randint(1, 400)) for number in range(900_000, 900_000 + stage.chance.randint(1, 5))]
    with stage.take() as written:
        ml.call(lambda: clients.opcua_write(line, ledger, ml.local_address(), RECIPES[:2], stage.chance.uniform(1, 9)))
    with stage.take() as inserted:
        ml.call(lambda: clients.change(mes, ledger, "insert into mes.work_order (id, line, quantity) values (%s, %s, %s)", orders))
    return Tape().add(written, plant_time("2026-04-07 10:00")).add(inserted, plant_time("2026-04-07 10:20"))


def twin(stage: Stage) -> Tape:
    """ml publishes to its declared advisory topic, which people read."""
    ml = stage.host("ml")
    with stage.take() as take:
        session = ml.call(lambda: MqttSession(stage.login("svc_ml", "uns"), stage.plant.ledger, ml.local_address(), "ml-advisor"))
        session.publish(["north/advice/line1"] * stage.chance.randint(3, 30), b'{"setpoint":7.1}', 1)
        session.close()
    return Tape().add(take, plant_time("2026-04-07 10:00"))


SCENARIO = Scenario(
    "S6", "AI output writes back", attack, twin,
    (
        Expected("write-back", "what", r"no hop from models to the plant -> write by svc_ml to ns=2;s=Line1/Recipe", immediate=True),
        Expected("write-back", "what", r"no hop from models to the plant -> insert by svc_ml to mes\.work_order", immediate=True),
    ),
    attacked="OPC UA Write and MES INSERT from ml",
    benign="ml publishes to its declared advisory topic",
)  # fmt: skip
