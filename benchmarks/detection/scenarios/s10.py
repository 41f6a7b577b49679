"""S10, the MQTT wildcard sweep: one subscription takes all that the broker retains."""

from datetime import timedelta

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Tape, plant_time
from examples.plant.clients import MqttSession

CLIENT = "ml-forecast"
RECIPES = 40
OEE = "north/+/oee/#"


def attack(stage: Stage) -> Tape:
    """`#` from the approved client id."""
    with stage.take() as published:
        edge(stage, [f"north/line1/recipe/p{number}" for number in range(RECIPES)], retain=True)
    with stage.take() as take:
        session = subscriber(stage)
        session.subscribe("#")
        session.wait_for(RECIPES)
        session.close()
    return Tape().add(published, plant_time("2026-04-07 08:00"), story=False).add(take, plant_time("2026-04-07 12:05"))


def twin(stage: Stage) -> Tape:
    """Its declared filter, after a reconnect: the broker has kept four hours of messages for it."""
    before = subscriber(stage)
    before.subscribe(OEE, qos=1)
    before.close()
    kept = stage.chance.randint(400, 900)
    with stage.take() as published:
        edge(stage, [f"north/line{number % 2 + 1}/oee/availability" for number in range(kept)], retain=True)
    with stage.take() as take:
        session = subscriber(stage)
        session.subscribe(OEE, qos=1)
        # What is retained comes once more for the subscription, one message for each line.
        session.wait_for(kept + 2)
        session.close()
    return Tape().add(published, plant_time("2026-04-07 08:00"), over=timedelta(hours=4)).add(take, plant_time("2026-04-07 12:05"))


def subscriber(stage: Stage) -> MqttSession:
    """The forecast's session, which the broker keeps."""
    ml, login = stage.host("ml"), stage.login("svc_ml", "uns")
    return ml.call(lambda: MqttSession(login, stage.plant.ledger, ml.local_address(), CLIENT, clean=False))


def edge(stage: Stage, topics: list[str], *, retain: bool) -> None:
    """What the line's gateway publishes."""
    host, login = stage.host("opc-l1"), stage.login("svc_edge", "uns")
    session = host.call(lambda: MqttSession(login, stage.plant.ledger, host.local_address(), "edge-l1"))
    session.publish(topics, bytes(stage.chance.randint(40, 120)), 1, retain=retain)
    session.close()


SCENARIO = Scenario(
    "S10", "MQTT wildcard sweep", attack, twin,
    (
        Expected("undeclared-data", "what", r"oee -> \+ .*(#|north/line1/recipe/p\d+ \(process_ip\))", immediate=True),
        Expected("dump", "what", r"wildcard: \d+ or more topics delivered to one client"),
    ),
    attacked="subscribe # from an approved client id",
    benign="its declared filter after a reconnect, with 4 h of retained and queued messages",
)  # fmt: skip
