"""S11, the OPC UA history harvest: the recipes of a line, read out of its server's history."""

import asyncio

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.s06 import RECIPES
from benchmarks.detection.scenarios.stage import Stage, Tape, plant_time
from examples.plant import clients
from examples.plant.story import TELEMETRY


def attack(stage: Stage) -> Tape:
    """The historian's account browses the line and reads the history of every node under Recipe."""
    login, host = stage.login("svc_hist", "opc-l1", "historian"), stage.host("historian")
    with stage.take() as take:
        host.call(lambda: clients.opcua_history(login, stage.plant.ledger, host.local_address(), RECIPES))
    return Tape().add(take, plant_time("2026-04-08 15:10"))


def twin(stage: Stage) -> Tape:
    """The vendor browses the line and reads its telemetry, on Tuesday morning."""
    host = stage.host("acme-1")

    async def body() -> None:
        async with clients.opcua_session(stage.login("acme", "opc-l1", "acme-diagnose"), stage.plant.ledger, host.local_address()) as (
            client,
            entry,
        ):
            await client.get_node("ns=2;s=Line").get_children()
            entry.values += len(await client.read_values([client.get_node(node) for node in TELEMETRY]))

    with stage.take() as take:
        host.call(lambda: asyncio.run(body()))
    return Tape().add(take, plant_time("2026-04-07 09:00"))


SCENARIO = Scenario(
    "S11", "OPC UA history harvest", attack, twin,
    (Expected("undeclared-data", "what", r"line-tags -> \+ ns=2;s=Line1/Recipe/.*process_ip", immediate=True),),
    attacked="HistoryRead of every node under Recipe by the historian's account",
    benign="maintenance browse by the vendor in its window",
)  # fmt: skip
