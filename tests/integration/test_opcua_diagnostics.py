"""An encrypted OPC UA conduit is decided from the diagnostics of a real server (node-opcua), and is blind without them."""

import asyncio
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from collectors.feed import Told
from collectors.opcua_server import OpcuaServer
from examples.plant import servers
from examples.plant.network import Network, network
from examples.plant.record import recording
from examples.plant.watched import Json, replay, stored_flows, watching
from hopwatch.events import Flow, Loss, parse
from tests.integration.declared import HEAD

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "node-opcua"
PASSWORD = "only-for-this-test"
TIMEOUT_S = 30.0
QUIET_S = 2.5
"""Longer than two questions to the server."""

ADDRESSES = {"opc": "10.10.1.10", "historian": "10.20.1.30"}
DECLARATION = (
    HEAD
    + """\
unlisted: critical
classes:
  telemetry: {{sensitivity: confidential, transit: tls1.2, keep_max: 2y, off_site: approved}}
zones:
  cell-1: {{level: 1, nets: [{opc}/32]}}
  site-ops: {{level: 3, nets: [{historian}/32]}}
assets:
  opc: {{zone: cell-1, kind: opcua, at: "{opc}:{port}"}}
  historian: {{zone: site-ops, kind: historian, at: {historian}}}
data:
  press: {{class: telemetry, in: [opc], nodes: [any-node]}}
accounts:
  svc_hist: {{kind: service, owner: ot-data, from: [historian], auth: certificate, identities: ["certificate:CN=historian"]}}
  hopwatch: {{kind: service, owner: ot-security, from: [historian], auth: certificate, identities: ["certificate:CN=hopwatch"]}}
conduits:
  c-cell: {{from: cell-1, to: site-ops, agent: tap-demo, sees: server-log, feed: press-diagnostics}}
  c-down: {{from: site-ops, to: cell-1, agent: tap-demo, sees: server-log, feed: press-diagnostics}}
hops:
  collect:
    {{who: svc_hist, from: opc, to: historian, via: c-cell, may: [subscribe, browse], what: [press], why: process history,
     limit: 20k values / 1h, keep: 2y, approved: {{by: a.ruiz, ticket: CHG-2}}}}
  monitor:
    {{who: hopwatch, from: opc, to: historian, via: c-cell, may: [subscribe, read, browse], what: [press], why: monitoring of data movement,
     limit: 20k values / 1h, keep: 1d, approved: {{by: a.ruiz, ticket: CHG-3}}}}
"""
)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """An application's certificate and its key (OPC 10000-6, 6.2.2)."""
    der, key = folder / f"{name}.der", folder / f"{name}.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-outform", "DER"]
    uses = ["keyUsage=digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment", "extendedKeyUsage=clientAuth"]
    more = [part for said in (f"subjectAltName=URI:urn:{name}", *uses) for part in ("-addext", said)]
    subprocess.run([*request, *more, "-keyout", str(key), "-out", str(der)], check=True, capture_output=True)
    key.chmod(0o600)
    return der, key


@dataclass
class Press:
    """The server, and what is needed to ask it."""

    place: Network
    process: subprocess.Popen[bytes]
    folder: Path
    address: str
    port: int
    server_certificate: Path

    def change(self) -> None:
        """Every variable changes 40 times."""
        self.process.send_signal(signal.SIGUSR1)

    def told(self, *more: str) -> str:
        """How the collector is told of it: it logs in with a user certificate."""
        der, key = self.folder / "hopwatch.der", self.folder / "hopwatch.pem"
        files = f"cert={der}&key={key}&user_cert={der}&user_key={key}&server_cert={self.server_certificate}"
        options = "&".join([files, f"uri=urn:hopwatch&poll=1&clients={self.folder / 'clients'}", *more])
        return f"opc.tcp://{self.address}:{self.port}?{options}"

    async def client(self, name: str) -> Client:
        client = Client(f"opc.tcp://{self.address}:{self.port}/", timeout=TIMEOUT_S)
        client.application_uri = f"urn:{name}"
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            self.folder / f"{name}.der",
            self.folder / f"{name}.pem",
            server_certificate=str(self.server_certificate),
            mode=ua.MessageSecurityMode.SignAndEncrypt,
        )
        client.set_user("svc_hist")
        client.set_password(PASSWORD)
        return client


@pytest.fixture(scope="module")
def press() -> Iterator[Press]:
    node = shutil.which("node")
    if node is None or not (BUILD / "node_modules").is_dir():
        pytest.fail("node-opcua is not there; `scripts/setup.sh long` fetches it")
    with (
        tempfile.TemporaryDirectory(prefix="hopwatch-opcua-") as name,
        network(ADDRESSES, namespaces=False, kernel_chooses="historian") as place,
    ):
        folder = Path(name)
        for one in ("historian", "hopwatch"):
            certificate(folder, one)
        host, port = place.hosts["opc"], place.port(4840)
        (folder / "clients").write_text(f"{place.hosts['historian'].address} urn:historian\n")
        (folder / "password").write_text(PASSWORD)
        with servers.processes(folder) as held:
            script = Path(__file__).with_name("opcua_server.js")
            process = held.start("opcua", host, [node, str(script), str(BUILD), host.address, str(port), str(folder)], unprivileged=False)
            held.wait_for("opcua", process, host, (host.address, port))
            (own,) = (folder / "server" / "own" / "certs").glob("*.pem")
            yield Press(place, process, folder, host.address, port, own)


class Counting:
    """What a client was sent, as it counted."""

    def __init__(self) -> None:
        self.values = 0

    def datachange_notification(self, *_: object) -> None:
        self.values += 1


async def collected(press: Press, done: asyncio.Event, ledger: Counting) -> None:
    """A historian: five nodes, 40 changes each, and then it is quiet until it may go."""
    async with await press.client("historian") as client:
        await client.get_node("ns=1;s=Line").get_children()
        await asyncio.sleep(QUIET_S)
        subscription = await client.create_subscription(50, ledger)
        nodes = [client.get_node(f"ns=1;s=Line/V{number}") for number in range(5)]
        await subscription.subscribe_data_change(nodes, queuesize=100, sampling_interval=10)
        await asyncio.sleep(0.5)
        press.change()
        await quiet(ledger)
        await done.wait()


async def quiet(ledger: Counting) -> None:
    """Until the last value has long come, and the server was asked behind it."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET_S or ledger.values < 5:
        if ledger.values != seen:
            seen, since = ledger.values, time.monotonic()
        await asyncio.sleep(0.1)


@dataclass
class Day:
    """What was watched with the diagnostics, and recorded to be read without them."""

    flows: list[Json]
    unread: list[Json]
    values: int


@pytest.fixture(scope="module")
def day(press: Press, tmp_path_factory: pytest.TempPathFactory) -> Day:
    folder = tmp_path_factory.mktemp("watched")
    declaration = folder / "plant.yaml"
    addresses = {name: host.address for name, host in press.place.hosts.items()}
    declaration.write_text(DECLARATION.format(port=press.port, **addresses), encoding="utf-8")
    ledger, store, capture = Counting(), folder / "store.db", folder / "day.pcap.gz"
    feed = ["--agent", "tap-demo", "--feed", f"opcua-server:press-diagnostics={press.told('objects=any-node')}"]

    async def live() -> None:
        done = asyncio.Event()
        deadline = time.monotonic() + TIMEOUT_S
        while not any(event.get("agent") == "press-diagnostics" for _, event in list(watch.lines)):
            assert time.monotonic() < deadline, watch.errors
            await asyncio.sleep(0.1)
        working = asyncio.create_task(collected(press, done, ledger))
        while ledger.values < 5 or not settled():
            if working.done():
                working.result()
            await asyncio.sleep(0.2)
        watch.stop()
        done.set()
        await working

    last = [-1, time.monotonic()]

    def settled() -> bool:
        if ledger.values != last[0]:
            last[:] = [ledger.values, time.monotonic()]
        return time.monotonic() - last[1] > QUIET_S

    with (
        recording(press.place, capture, level=1),
        watching(press.place, declaration, store, *feed, "--feeds-state", str(folder / "p")) as watch,
    ):
        asyncio.run(live())
    assert not [line for line in watch.errors if "UNSIGNED" not in line], watch.errors
    alone = folder / "alone.db"
    replay([capture], declaration, alone, "--agent", "tap-demo")

    def of_press(store_: Path) -> list[Json]:
        # What else this machine says to itself is not the plant's.
        return [flow for flow in stored_flows(store_) if press.port in (flow["source"]["port"], flow["destination"]["port"])]

    return Day(of_press(store), of_press(alone), ledger.values)


def of_client(flow: Json) -> bool:
    """What a tap sees of the historian: its certificate, in the clear, and that it moves something."""
    return bool(flow["operation"] == "transfer" and flow["account"] == "certificate:CN=historian")


def of_historian(day: Day) -> list[Json]:
    return [flow for flow in day.flows if flow["seen_by"] == "server-log" and flow["application"] == "urn:historian"]


def test_the_diagnostics_count_the_values_that_the_client_counts(day: Day) -> None:
    assert day.values >= 50
    assert sum(flow["values"] for flow in of_historian(day)) == day.values


def test_an_encrypted_conduit_is_decided_from_the_diagnostics_and_blind_without_them(day: Day) -> None:
    told = [flow for flow in of_historian(day) if flow["values"]]
    assert {(flow["operation"], flow["judgement"]["verdict"]) for flow in told} == {("subscribe", "declared")}
    assert {(flow["protection"]["transport"], flow["protection"]["policy"]) for flow in told} == {
        ("opcua-signandencrypt", "Basic256Sha256")
    }
    by_tap = {flow["judgement"]["verdict"] for flow in day.flows if flow["seen_by"] == "tap" and of_client(flow)}
    assert by_tap == {"declared-in-part"}
    assert {flow["judgement"]["verdict"] for flow in day.unread if of_client(flow)} == {"blind"}


def test_nothing_counts_twice_beside_the_tap(day: Day) -> None:
    assert {flow["messages"] for flow in of_historian(day)} == {0}
    assert {flow["bytes"] for flow in of_historian(day)} == {0}
    assert sum(flow["values"] for flow in day.flows if flow["seen_by"] == "tap") == 0


def test_a_killed_collector_goes_on_where_it_was(press: Press, tmp_path: Path) -> None:
    ledger = Counting()
    lines: list[bytes] = []

    def read(until: float) -> OpcuaServer:
        feed = OpcuaServer.of(Told.of(f"opcua-server:press-diagnostics={press.told()}", "agent"), "demo", tmp_path / "place")
        for batch in feed.batches(lambda: time.monotonic() > until, follow=True):
            lines.extend(batch)
        return feed

    async def both() -> None:
        done = asyncio.Event()
        first = asyncio.create_task(asyncio.to_thread(read, time.monotonic() + 4))
        await asyncio.sleep(2)
        working = asyncio.create_task(collected(press, done, ledger))
        # Gone in the middle of it.
        await first
        while ledger.values < 5:
            await asyncio.sleep(0.1)
        await quiet(ledger)
        await asyncio.to_thread(read, time.monotonic() + 5)
        done.set()
        await working

    asyncio.run(both())
    told = [flow for flow in map(parse, lines) if isinstance(flow, Flow) and flow.application == "urn:historian"]
    assert sum(flow.values for flow in told) == ledger.values
    assert len({flow.event_id for flow in told}) == len(told)
    assert PASSWORD not in b"".join(lines).decode()
    assert not [event for event in map(parse, lines) if isinstance(event, Loss) and "anew" in event.why]


def test_a_server_that_lets_nobody_in_is_said_and_is_no_sign_of_life(press: Press, tmp_path: Path) -> None:
    feed = OpcuaServer.of(Told.of(f"opcua-server:p={press.told()}".replace(f":{press.port}", ":9"), "a"), "demo", tmp_path / "place")
    until = time.monotonic() + 2
    assert [line for batch in feed.batches(lambda: time.monotonic() > until, follow=True) for line in batch] == []
    assert not feed.lives
    assert feed.example
    assert json.dumps(feed.counters())
