"""Sources that are heard or asked while they run: each goes on by steps and keeps a ledger, as those in files do."""

import asyncio
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from asyncua import Server, ua
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from examples.plant import servers
from examples.plant.network import Network
from tests.collectors.growing import Ledger
from tests.integration.receivers import eventually, free_port

PASSWORD = "only-for-this-test"
ADDRESS = "127.0.0.1"
STATE = Mapping[str, Any]


class Live:
    """One source; what it can replay of the time in which nobody listened is in ``ledger``."""

    kind: str
    told: str

    def __init__(self) -> None:
        self.ledger: Ledger = Counter()
        self.turn = 0

    def step(self) -> None:
        self.turn += 1

    def rotate(self) -> None:
        """It has no files."""

    def end(self) -> None:
        """Nothing is open."""

    def begun(self, state: STATE) -> bool:
        """Whether the collector stands where nothing is lost any more without being told."""
        return True

    def close(self) -> None:
        """Nothing is left behind."""


class Exporter(Live):
    """A switch with NetFlow 5: one connection a datagram, each with a port of its own, both ways."""

    kind = "netflow"
    octets, packets = 5_000, 10

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port(socket.SOCK_DGRAM)
        self.told = f"netflow:netflow={ADDRESS}:{self.port}?from={ADDRESS}"
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((ADDRESS, 0))
        self.began = time.monotonic()

    def step(self) -> None:
        super().step()
        now, uptime = time.time(), int((time.monotonic() - self.began) * 1_000) + 10_000
        client, server = (socket.inet_aton(one) for one in ("10.30.0.20", "10.20.1.30"))
        ends = [(client, server, 10_000 + self.turn, 9100, 0x1B), (server, client, 9100, 10_000 + self.turn, 0x1B)]
        records = b"".join(
            struct.pack("!4s4s4sHHIIIIHHBBBBHHBBH", src, dst, bytes(4), 0, 0, self.packets, self.octets, uptime - 5, uptime - 1,
                        src_port, dst_port, 0, flags, 6, 0, 0, 0, 0, 0, 0)
            for src, dst, src_port, dst_port, flags in ends
        )  # fmt: skip
        header = struct.pack("!HHIIIIBBH", 5, len(ends), uptime, int(now), int(now % 1 * 1e9), 2 * (self.turn - 1), 0, 0, 0)
        # Whoever is not there is told by the kernel that nobody heard it.
        try:
            self.socket.sendto(header + records, (ADDRESS, self.port))
        except ConnectionRefusedError:
            return

    def begun(self, state: STATE) -> bool:
        return bool(state["sources"])

    def close(self) -> None:
        self.socket.close()


class Publisher(Live):
    """A real Mosquitto, and a client that publishes each message under a topic of its own."""

    kind = "mqtt-broker"

    def __init__(self, held: servers.Processes, place: Network, folder: Path) -> None:
        super().__init__()
        host, port = place.hosts["uns"], place.port(1883)
        users = dict.fromkeys(("hopwatch", "svc_edge"), PASSWORD)
        servers.mosquitto(held, host, port, users, more=["sys_interval 1"])
        secret = folder / "monitor"
        secret.touch(mode=0o600)
        secret.write_text(PASSWORD)
        where = f"mqtt://{host.address}:{port}?user=hopwatch&password_file={secret}&cleartext=yes"
        self.told = f"mqtt-broker:mqtt-broker={where}&filter=north/#"
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="edge", protocol=mqtt.MQTTv311)
        self.client.username_pw_set("svc_edge", PASSWORD)
        self.client.connect(host.address, port)
        self.client.loop_start()

    def step(self) -> None:
        super().step()
        self.client.publish(f"north/m{self.turn}", b"x" * 10, qos=1).wait_for_publish(20)

    def begun(self, state: STATE) -> bool:
        return state["until_ns"] is not None

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Asked(Live):
    """A real PostgreSQL that may not log; its account has one session that lasts, and short ones."""

    kind = "postgresql-activity"

    def __init__(self, held: servers.Processes, place: Network, folder: Path) -> None:
        super().__init__()
        host, port = place.hosts["mes-db"], place.port(5432)
        more = {"shared_preload_libraries": "pg_stat_statements"}
        server = servers.postgresql(held, host, port, PASSWORD, more=more)
        with server.administrator("postgres") as admin:
            admin.execute("create database mes")
        with server.administrator() as admin:
            admin.execute("create extension pg_stat_statements")
            admin.execute("create table lots as select g as id from generate_series(1, 300) g")
            for user in ("svc_rows", "hopwatch"):
                admin.execute(f"create role {user} login password '{PASSWORD}'")
            admin.execute("grant select on lots to svc_rows")
            # All that the collector needs.
            admin.execute("grant pg_monitor to hopwatch")
        secret = folder / "asked"
        secret.touch(mode=0o600)
        secret.write_text(PASSWORD)
        self.told = f"postgresql-activity:postgresql-activity={server.address}:{port}=mes?user=hopwatch&password_file={secret}&every=0.1"
        self.login = {"host": server.address, "port": port, "dbname": "mes", "user": "svc_rows", "password": PASSWORD}
        self.lasting = self.session()

    def session(self) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(**self.login, autocommit=True)  # type: ignore[arg-type]  # texts and a number

    def begun(self, state: STATE) -> bool:
        return state["counts"] is not None and len(state["sessions"]) > 0

    def step(self) -> None:
        super().step()
        for client in (self.lasting, self.session()) if self.turn % 10 == 0 else (self.lasting,):
            self.ledger["select rows"] += len(client.execute("select id from lots where id <= %s", (1 + self.turn % 9,)).fetchall())
            if client is not self.lasting:
                client.close()

    def measure(self, flows: Iterable[Mapping[str, Any]]) -> Ledger:
        lots = [flow for flow in flows if any("lots" in part["names"] for part in flow["objects"])]
        return Counter({"select rows": sum(flow["rows"] for flow in lots if flow["operation"] == "select")})

    def close(self) -> None:
        self.lasting.close()


class Diagnosed(Live):
    """An OPC UA server (asyncua's, which counts nothing itself) whose diagnostics grow as those of one that does."""

    kind = "opcua-server"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.port = free_port()
        (folder / "clients").write_text("10.20.1.30 urn:historian\n")
        where = f"opc.tcp://{ADDRESS}:{self.port}?cleartext=yes&poll=1&clients={folder / 'clients'}"
        self.told = f"opcua-server:opcua-server={where}"
        self.loop = asyncio.new_event_loop()
        self.ready, self.over = threading.Event(), asyncio.Event()
        self.thread = threading.Thread(target=lambda: self.loop.run_until_complete(self._serve()), daemon=True)
        self.thread.start()
        eventually(self.ready.is_set, "the OPC UA server listens")

    async def _serve(self) -> None:
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://{ADDRESS}:{self.port}/")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        under = ua.ObjectIds.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray
        self.sessions = server.get_node(ua.NodeId(ua.Int32(under)))
        under = ua.ObjectIds.Server_ServerDiagnostics_SubscriptionDiagnosticsArray
        self.subscriptions = server.get_node(ua.NodeId(ua.Int32(under)))
        under = ua.ObjectIds.Server_ServerDiagnostics_ServerDiagnosticsSummary
        await server.get_node(ua.NodeId(ua.Int32(under))).write_value(ua.ServerDiagnosticsSummaryDataType(CumulatedSessionCount=1))
        await self._say()
        async with server:
            self.ready.set()
            await self.over.wait()

    async def _say(self) -> None:
        one = ua.SessionDiagnosticsDataType(SessionId=ua.NodeId(ua.Int32(7)), SessionName="historian")
        one.ClientDescription.ApplicationUri = "urn:historian"
        sent = ua.SubscriptionDiagnosticsDataType(SessionId=ua.NodeId(ua.Int32(7)), SubscriptionId=ua.UInt32(3))
        sent.DataChangeNotificationsCount = ua.UInt32(self.ledger["subscribe values"])
        await self.sessions.write_value([one])
        await self.subscriptions.write_value([sent])

    def step(self) -> None:
        super().step()
        self.ledger["subscribe values"] += self.turn % 5
        asyncio.run_coroutine_threadsafe(self._say(), self.loop).result(20)

    def begun(self, state: STATE) -> bool:
        return bool(state["sessions"])

    def measure(self, flows: Iterable[Mapping[str, Any]]) -> Ledger:
        return Counter({"subscribe values": sum(flow["values"] for flow in flows if flow["operation"] == "subscribe")})

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(20)


def topics(flows: Iterable[Mapping[str, Any]]) -> Counter[int]:
    """Messages by the number in their topic, as a publisher of these gave it."""
    found: Counter[int] = Counter()
    for flow in flows:
        for part in flow["objects"]:
            for name in part["names"] if part["messages"] else ():
                if name.startswith("north/m"):
                    found[int(name.removeprefix("north/m"))] += part["messages"]
    return found
