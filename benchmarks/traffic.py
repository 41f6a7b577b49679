"""Real servers and clients at full speed, recorded: the capture that `make bench` repeats, and what its clients counted.

The mix is a plant's: pgbench in the extended protocol, SELECT and COPY of many rows, Mosquitto with five subscribers, an OPC
UA server with four clients of 200 monitored items. Hosts are network namespaces with an MTU of 1500 and no offload
(`examples.plant.network`). The recorder is tcpdump; a recording that the kernel dropped a packet of is no recording.
"""

import asyncio
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.captures import Ledger, last_connection, stream_bytes
from examples.plant import clients, servers
from examples.plant.clients import Login, MqttSession
from examples.plant.ledger import Ledger as Clients
from examples.plant.network import Host, Network, network

ADDRESSES = {
    "opc-l1": "10.10.1.10",
    "edge-l1": "10.10.1.11",
    "mes-app": "10.20.1.20",
    "mes-db": "10.20.1.21",
    "historian": "10.20.1.30",
    "uns": "10.30.0.10",
    "mw": "10.30.0.20",
    "ml": "10.40.8.40",
    "terminal": "10.64.0.1",
}
POSTGRESQL, MQTT, OPCUA = 5432, 1883, 4840
ACCOUNTS = ("svc_mes", "svc_mw")
ITEMS = 200
OPCUA_CLIENTS = 4
SUBSCRIBERS = 5
TOPICS = [f"north/line{line}/telemetry/{name}" for line in range(1, 9) for name in ("temperature", "pressure", "speed", "torque", "power")]
BURST = 500
VISIT_TRANSACTIONS = 3
# With what opens and ends a connection, about a hundred packets.
STAY_TRANSACTIONS = 43
# What pgbench asks before it begins: the number of branches, and how its tables are partitioned.
PGBENCH_ROWS = 2

# Per thousand packets of the mix; a pgbench transaction of one SELECT is a packet each way.
SELECTS, CHANGES, ROWS, PUBLISHES = 300, 8, 430, 44


class TrafficError(Exception):
    """The traffic could not be made; the message says why."""


def record(packets: int, mix: Path, visits: Mapping[Path, int]) -> None:
    """About ``packets`` packets of the mix, and visits of a terminal of so many transactions, each with its ledger beside it."""
    with (
        tempfile.TemporaryDirectory(prefix="hopwatch-bench-", ignore_cleanup_errors=True) as temporary,
        network(ADDRESSES, namespaces=True, kernel_chooses="mes-app") as net,
        servers.processes(Path(temporary)) as held,
    ):
        Path(temporary).chmod(0o711)
        passwords = {name: secrets.token_hex(12) for name in ("admin", "svc_mes", "svc_mw", "svc_edge", "svc_ml", "svc_hist")}
        _say("starting PostgreSQL, Mosquitto and an OPC UA server")
        database = servers.postgresql(held, net.hosts["mes-db"], POSTGRESQL, passwords["admin"])
        rows = max(packets * ROWS // 1000, 1000)
        _fill(database, passwords, rows)
        servers.mosquitto(held, net.hosts["uns"], MQTT, {name: passwords[name] for name in ("svc_edge", "svc_ml")})
        opc = net.hosts["opc-l1"]
        script = str(Path(__file__).with_name("opcua_server.py"))
        period_s = "0.05"
        process = held.start(
            "opcua", opc, [sys.executable, script, opc.address, str(OPCUA), str(ITEMS), period_s, "svc_hist", passwords["svc_hist"]],
            unprivileged=servers.nobody_may_run_python(),
        )  # fmt: skip
        held.wait_for("opcua", process, opc, (opc.address, OPCUA))
        _say("recording the mix")
        with _tcpdump(net, mix):
            counted = _work(net, passwords, packets, rows)
        for visit, transactions in visits.items():
            _say(f"recording a visit of {transactions} transactions")
            with _tcpdump(net, visit):
                _pgbench(net.hosts["terminal"], net, passwords["svc_mes"], ["-S", "-c", "1", "-t", str(transactions)])
    Ledger(counted, stream_bytes(mix)).save(mix)
    for visit, transactions in visits.items():
        # pgbench looks at its tables through a connection of its own first; the visit is the one after it.
        last_connection(visit)
        Ledger({"postgresql select": {"rows": transactions}}, stream_bytes(visit)).save(visit)


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _fill(database: servers.PostgreSQL, passwords: dict[str, str], rows: int) -> None:
    pgbench = servers.postgresql_program("pgbench")
    if pgbench is None:
        raise TrafficError("pgbench is not installed")
    with database.administrator("postgres") as admin:
        admin.execute("create database mes")
    known = {**os.environ, "PGPASSWORD": passwords["admin"]}
    at = ["-h", str(database.folder), "-p", str(database.port), "-U", "plant_admin"]
    made = subprocess.run([pgbench, "-i", "-q", "-s", "4", *at, "mes"], env=known, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise TrafficError(f"pgbench -i: {made.stderr.strip().splitlines()[-1]}")
    with database.administrator() as admin:
        admin.execute("create table wide (id int, serial text, result text, value double precision, taken timestamp)")
        fill = "i, md5(i::text), 'ok', i * 0.1, timestamp '2026-01-01' + i * interval '1 min'"
        admin.execute(f"insert into wide select {fill} from generate_series(1, {rows}) i")
        for role in ACCOUNTS:
            admin.execute(f"create role {role} login password '{passwords[role]}'")
            admin.execute(f"grant select, insert, update on all tables in schema public to {role}")
        admin.execute("vacuum analyze")


@contextlib.contextmanager
def _tcpdump(net: Network, path: Path) -> Iterator[None]:
    program = servers.program("tcpdump")
    if program is None:
        raise TrafficError("tcpdump is not installed")
    command = [program, "-i", net.interface, "-n", "-Z", "root", "-B", "262144", "--time-stamp-precision=nano", "-w", str(path), "ip"]
    process = subprocess.Popen(net.tap.command(command), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "listening on" not in (line := process.stderr.readline()):
        if not line:
            raise TrafficError("tcpdump did not start")
    try:
        yield
        time.sleep(1.0)
    finally:
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        process.wait()
    dropped = re.search(r"(\d+) packets? dropped by kernel", said)
    if dropped is None or int(dropped[1]):
        raise TrafficError(f"the recording is not whole: {' '.join(said.split())}; run it on a calmer machine")


def _work(net: Network, passwords: dict[str, str], packets: int, rows: int) -> dict[str, dict[str, int]]:
    """Everything at once; OPC UA lasts as long as the rest. Returns what the clients counted, by operation."""
    selects, changes, publishes = (packets * share // 1000 for share in (SELECTS, CHANGES, PUBLISHES))
    over = threading.Event()
    subscribed = [0] * OPCUA_CLIENTS
    values: list[int] = []
    errors: list[BaseException] = []

    def caught(work: Callable[[], object]) -> Callable[[], None]:
        def body() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
                over.set()

        return body

    login = Login("svc_hist", passwords["svc_hist"], ADDRESSES["opc-l1"], OPCUA)
    started = time.monotonic()

    def historian(number: int) -> None:
        values.append(net.hosts["historian"].call(lambda: _monitor(login, subscribed, number, over)))

    readers = [threading.Thread(target=caught(partial(historian, number))) for number in range(OPCUA_CLIENTS)]
    for thread in readers:
        thread.start()
    app, mw = net.hosts["mes-app"], net.hosts["mw"]
    each, each_change = max(selects // 8, 1), max(changes // 2, 1)
    jobs: list[Callable[[], object]] = [
        lambda: _pgbench(app, net, passwords["svc_mes"], ["-S", "-c", "8", "-t", str(each)]),
        lambda: _pgbench(app, net, passwords["svc_mes"], ["-N", "-c", "2", "-t", str(each_change)]),
        lambda: _psql(mw, passwords["svc_mw"], "select * from wide", rows),
        lambda: _psql(mw, passwords["svc_mw"], r"\copy wide to stdout", rows),
        lambda: _publish(net, passwords, publishes),
    ]
    workers = [threading.Thread(target=caught(job)) for job in jobs]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    # A client that has not yet its items would be cut off in the middle of their creation.
    while not all(subscribed) and not errors:
        time.sleep(0.1)
    over.set()
    for thread in readers:
        thread.join()
    if errors:
        raise TrafficError(f"{type(errors[0]).__name__}: {errors[0]}") from errors[0]
    _say(f"the mix took {time.monotonic() - started:.0f} s")
    reads, changed = each * 8, each_change * 2
    return {
        "postgresql select": {"rows": reads + changed + rows + 2 * PGBENCH_ROWS},
        "postgresql update": {"rows": changed},
        "postgresql insert": {"rows": changed},
        "postgresql copy": {"rows": rows},
        "mqtt publish": {"messages": publishes},
        "mqtt subscribe": {"messages": publishes * SUBSCRIBERS},
        "opcua subscribe": {"values": sum(values)},
    }


def _pgbench(host: Host, net: Network, password: str, options: list[str]) -> None:
    program = servers.postgresql_program("pgbench")
    assert program is not None
    at = ["-h", ADDRESSES["mes-db"], "-p", str(POSTGRESQL), "-U", "svc_mes"]
    command = host.command([program, "-n", "-M", "extended", *options, *at, "mes"])
    known = {**os.environ, "PGPASSWORD": password, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "failed transactions: 0 " not in done.stdout:
        raise TrafficError(f"pgbench {' '.join(options)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


def _psql(host: Host, password: str, statement: str, rows: int) -> None:
    """Rows are counted in what psql prints."""
    options = ["-X", "-q", "-A", "-t", "-h", ADDRESSES["mes-db"], "-p", str(POSTGRESQL), "-U", "svc_mw", "-d", "mes", "-c", statement]
    known = {**os.environ, "PGPASSWORD": password, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}
    process = subprocess.Popen(host.command(["psql", *options]), env=known, stdout=subprocess.PIPE)
    assert process.stdout is not None
    printed = 0
    while block := process.stdout.read(1 << 20):
        printed += block.count(b"\n")
    if process.wait() != 0 or printed != rows:
        raise TrafficError(f"psql {statement}: {printed} rows of {rows}")


def _publish(net: Network, passwords: dict[str, str], publishes: int) -> None:
    """One publisher, five subscribers that each wait for everything; QoS 1 in, so that nothing is dropped unseen."""
    reader = Login("svc_ml", passwords["svc_ml"], ADDRESSES["uns"], MQTT)
    writer = Login("svc_edge", passwords["svc_edge"], ADDRESSES["uns"], MQTT)

    def subscribe() -> list[MqttSession]:
        sessions = [MqttSession(reader, Clients(), None, f"ml-{number}") for number in range(SUBSCRIBERS)]
        for session in sessions:
            session.subscribe("north/#", qos=1)
        return sessions

    subscribers = net.hosts["ml"].call(subscribe)

    def publish() -> None:
        session = MqttSession(writer, Clients(), None, "edge")
        for start in range(0, publishes, BURST):
            burst = [TOPICS[number % len(TOPICS)] for number in range(start, min(start + BURST, publishes))]
            session.publish(burst, b'{"value":21.53,"unit":"C","at":"2026-04-07T10:42:08Z"}', 1)
        session.close()

    net.hosts["edge-l1"].call(publish)
    for session in subscribers:
        session.wait_for(publishes)
        session.close()


def _monitor(login: Login, subscribed: list[int], number: int, over: threading.Event) -> int:
    """One subscription on all items until ``over``; the values that arrived."""

    class Counter:
        values = 0

        def datachange_notification(self, node: object, value: object, data: object) -> None:
            self.values += 1

    counter = Counter()

    async def body() -> None:
        async with clients.opcua_session(login, Clients(), None) as (client, _):
            subscription = await client.create_subscription(100, counter)
            nodes = [client.get_node(f"ns=2;s=Line/Tag{item}") for item in range(ITEMS)]
            await subscription.subscribe_data_change(nodes, queuesize=10)
            subscribed[number] = 1
            while not over.is_set():
                await asyncio.sleep(0.2)
            await subscription.delete()
            await asyncio.sleep(0.5)

    asyncio.run(body())
    return counter.values
