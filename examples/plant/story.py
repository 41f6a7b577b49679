"""The demo's day: approved work first, then five things that nobody approved; every amount from a seed."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from examples.plant import clients
from examples.plant.clients import MqttSession
from examples.plant.day import NAMES, Plant
from examples.plant.ledger import Entry
from examples.plant.opcua_server import node_ids

TELEMETRY = [node for node in node_ids() if "/Telemetry/" in node]
RETAINED = 12
Say = Callable[[str], None]


@dataclass(slots=True)
class Act:
    """Something nobody approved: what it is called, what hopwatch must say of it, and what it moved."""

    name: str
    verdict: str
    nearest_hop: str | None
    entries: list[Entry] = field(default_factory=list)
    began: float = 0.0

    def as_json(self) -> dict[str, Any]:  # Any: what json writes
        connections = [[list(entry.client), list(entry.server)] for entry in self.entries]
        return {"name": self.name, "verdict": self.verdict, "nearest_hop": self.nearest_hop, "connections": connections}


def approved_work(plant: Plant, chance: random.Random, say: Say) -> None:
    """One of everything the declaration approves."""
    ledger = plant.ledger
    mes = plant.login("svc_mes", "mes-db", "mes-app/7.2")
    mw = plant.login("svc_mw", "mes-db", "quality-extract/1.4")
    hist = plant.login("svc_hist", "opc-l1", "historian")
    hosts = {name: plant.host(name) for name in ("mes-app", "mw", "historian", "opc-l1", "ml")}
    bound = {name: host.local_address() for name, host in hosts.items()}

    say("mes-app    INSERT and SELECT of work orders, genealogy by prepared statement and server-side cursor")
    orders = [(number, f"line{number % 2 + 1}", chance.randint(1, 400)) for number in range(100_000, 100_000 + chance.randint(20, 60))]
    insert = "insert into mes.work_order (id, line, quantity) values (%s, %s, %s)"
    hosts["mes-app"].call(lambda: clients.change(mes, ledger, insert, orders))
    hosts["mes-app"].call(lambda: clients.select(mes, ledger, "select id, line, product, quantity from mes.work_order"))
    parents = [(chance.randint(1, 100),) for _ in range(chance.randint(10, 30))]
    genealogy = "select id, component, serial from mes.genealogy where parent = %s"
    hosts["mes-app"].call(lambda: clients.select_prepared(mes, ledger, genealogy, parents))
    hosts["mes-app"].call(lambda: clients.select_by_cursor(mes, ledger, "select id, serial, result from quality.inspection", 100))

    say("mw         nightly extraction of inspections: a portal in pages, then COPY")
    columns = "select id, serial, result, value from quality.inspection"
    hosts["mw"].call(lambda: clients.select_partial(mw, ledger, bound["mw"], columns, chance.randint(40, 90)))
    hosts["mw"].call(lambda: clients.copy_out_asyncpg(mw, ledger, bound["mw"], columns))

    say("historian  OPC UA read and subscription of line telemetry")
    hosts["historian"].call(lambda: clients.opcua_read(hist, ledger, bound["historian"], TELEMETRY, times=chance.randint(3, 8)))
    hosts["historian"].call(lambda: clients.opcua_subscribe(hist, ledger, bound["historian"], TELEMETRY, seconds=2.0))

    say("edge-l1    MQTT publishes of telemetry, recipes and OEE; ml subscribes to OEE")
    subscriber = hosts["ml"].call(lambda: MqttSession(plant.login("svc_ml", "uns"), ledger, bound["ml"], "ml-forecast"))
    subscriber.subscribe("north/+/oee/#", qos=1)
    oee = chance.randint(60, 160)
    publish(plant, chance, oee)
    subscriber.wait_for(oee)
    subscriber.close()

    say("mw         TLS upload to the lake: the one hop of which only sizes can be seen")
    upload(plant, chance, "svc_lake", "lake")


def acts(plant: Plant, chance: random.Random, say: Say) -> Iterator[Act]:
    """The violations, one after the other, each told before it happens."""
    for act in (_genealogy_copied, _role_created, _role_logs_in, _history_harvested, _everything_subscribed, _uploaded_elsewhere):
        yield act(plant, chance, say)


def _genealogy_copied(plant: Plant, chance: random.Random, say: Say) -> Act:
    say("notebook   COPY mes.genealogy TO STDOUT, by an account nobody declared")
    act = begun("COPY by a notebook", "undeclared-hop", "extract-quality")
    login, host = plant.login("svc_report", "mes-db", "python/notebook"), plant.host("notebook")
    query = f"select * from mes.genealogy order by id limit {chance.randint(300, 500)}"
    act.entries.append(host.call(lambda: clients.copy_out_asyncpg(login, plant.ledger, host.local_address(), query)))
    return act


def _role_created(plant: Plant, chance: random.Random, say: Say) -> Act:
    say("mes-app    CREATE ROLE and GRANT by the MES's own account")
    act = begun("a role is created", "undeclared-account", "mes-works")
    plant.passwords["tmp_export"] = password = plant.new_password()
    login = plant.login("svc_mes", "mes-db", "mes-app/7.2")
    statements = [
        f"create role tmp_export login password '{password}'",
        "grant select on mes.work_order to tmp_export",
        "grant usage on schema mes to tmp_export",
    ]
    act.entries.append(plant.host("mes-app").call(lambda: clients.execute(login, plant.ledger, statements)))
    return act


def _role_logs_in(plant: Plant, chance: random.Random, say: Say) -> Act:
    say("mes-app    the new role logs in and reads the work orders")
    act = begun("the new role logs in", "undeclared-account", "mes-works")
    login = plant.login("tmp_export", "mes-db", "psql")
    read = "select id, line, product, quantity from mes.work_order"
    act.entries.append(plant.host("mes-app").call(lambda: clients.select(login, plant.ledger, read)))
    return act


def _history_harvested(plant: Plant, chance: random.Random, say: Say) -> Act:
    say("historian  OPC UA HistoryRead of every telemetry node: the account may read, not harvest")
    act = begun("OPC UA history harvest", "unapproved-operation", "collect-tags")
    login, host = plant.login("svc_hist", "opc-l1", "historian"), plant.host("historian")
    nodes = chance.sample(TELEMETRY, chance.randint(8, len(TELEMETRY)))
    act.entries.append(host.call(lambda: clients.opcua_history(login, plant.ledger, host.local_address(), nodes)))
    return act


def _everything_subscribed(plant: Plant, chance: random.Random, say: Say) -> Act:
    say("ml         MQTT SUBSCRIBE # and takes what is retained, recipes too")
    act = begun("MQTT # sweep", "undeclared-data", "ml-features")
    host = plant.host("ml")
    sweep = host.call(lambda: MqttSession(plant.login("svc_ml", "uns"), plant.ledger, host.local_address(), "ml-forecast"))
    sweep.subscribe("#")
    sweep.wait_for(RETAINED)
    act.entries.append(sweep.close())
    return act


def _uploaded_elsewhere(plant: Plant, chance: random.Random, say: Say) -> Act:
    say(f"mw         TLS upload to {NAMES['elsewhere']}")
    act = begun("TLS upload off-site", "undeclared-destination", "lake-upload")
    act.entries.append(upload(plant, chance, "mw (TLS)", "elsewhere"))
    return act


def publish(plant: Plant, chance: random.Random, oee: int) -> Entry:
    """The edge's publishes: telemetry with QoS 0, OEE with QoS 1, recipes with QoS 2 and retained."""
    host = plant.host("opc-l1")
    session = host.call(lambda: MqttSession(plant.login("svc_edge", "uns"), plant.ledger, host.local_address(), "edge-l1"))
    session.publish([f"north/line{number % 2 + 1}/telemetry/t{number % 9}" for number in range(chance.randint(80, 200))], b"21.5", 0)
    session.publish([f"north/line{number % 2 + 1}/oee/availability" for number in range(oee)], b'{"oee":0.81}', 1)
    session.publish([f"north/line1/recipe/p{number}" for number in range(RETAINED)], bytes(chance.randint(40, 120)), 2, retain=True)
    return session.close()


def upload(plant: Plant, chance: random.Random, account: str, target: str) -> Entry:
    """Resolve the target's name, then PUT some hundred kilobytes."""
    host, server = plant.host("mw"), plant.host(target)
    resolver = (plant.host("dns").address, plant.ports["dns"])
    address = host.call(lambda: clients.resolve(host, resolver, NAMES[target]))
    assert address == server.address
    size = chance.randint(60_000, 160_000)
    bound = host.local_address()
    return host.call(lambda: clients.tls_upload(plant.ledger, account, bound, address, plant.ports[target], NAMES[target], size))


def begun(name: str, verdict: str, nearest_hop: str | None) -> Act:
    return Act(name, verdict, nearest_hop, began=time.time())
