"""Real clients of real drivers, each filling one ledger entry: what a connection moved, as its own client counted it.

Every function runs on the calling thread's host (`Host.call`) and closes its connection before it returns. ``messages``
follows the event contract's units: statements executed (PostgreSQL), PUBLISH packets (MQTT), service answers (OPC UA).
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import paho.mqtt.client as mqtt
import psycopg
from asyncua import ua
from asyncua.client.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from examples.plant.ledger import Entry, Ledger, metered
from examples.plant.network import Host

DATABASE = "mes"
WAIT_S = 15.0

Bound = tuple[str, int] | None

# asyncua warns of what is meant here: a plain-text password on a channel without encryption.
logging.getLogger("asyncua").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects where."""

    account: str
    password: str
    address: str
    port: int
    application: str = ""


# -- PostgreSQL: psycopg (libpq) -----------------------------------------------------------------------------------


@contextlib.contextmanager
def psycopg_session(login: Login, ledger: Ledger, **options: Any) -> Iterator[tuple["psycopg.Connection[tuple[Any, ...]]", Entry]]:
    # gssencmode: libpq would ask for GSS encryption before anything else where a Kerberos ticket lies about.
    given: dict[str, Any] = {"sslmode": "disable", "gssencmode": "disable", **options}
    connection = psycopg.connect(
        host=login.address, port=login.port, dbname=DATABASE, user=login.account, password=login.password,
        application_name=login.application, autocommit=True, **given,
    )  # fmt: skip
    entry = Entry(login.account, "postgresql")
    with metered(entry, connection.fileno()), connection:
        yield connection, entry
    ledger.add(entry)


def select(login: Login, ledger: Ledger, statement: str, parameters: Sequence[object] = (), **options: Any) -> Entry:
    """A plain SELECT: simple protocol without parameters, extended with them."""
    with psycopg_session(login, ledger, **options) as (connection, entry):
        entry.rows += len(connection.execute(statement, parameters or None).fetchall())
        entry.messages += 1
    return entry


def select_prepared(login: Login, ledger: Ledger, statement: str, parameters: Sequence[Sequence[object]]) -> Entry:
    """One named prepared statement, executed once per parameter set."""
    with psycopg_session(login, ledger) as (connection, entry):
        for values in parameters:
            entry.rows += len(connection.execute(statement, values, prepare=True).fetchall())
            entry.messages += 1
    return entry


def select_pipelined(login: Login, ledger: Ledger, statement: str, parameters: Sequence[Sequence[object]]) -> Entry:
    """Every statement sent before the first answer is read (libpq's pipeline mode)."""
    with psycopg_session(login, ledger) as (connection, entry), connection.pipeline():
        cursors = [connection.execute(statement, values) for values in parameters]
        for cursor in cursors:
            entry.rows += len(cursor.fetchall())
            entry.messages += 1
    return entry


def select_by_cursor(login: Login, ledger: Ledger, statement: str, page: int) -> Entry:
    """DECLARE, FETCH FORWARD until nothing comes, CLOSE."""
    with psycopg_session(login, ledger) as (connection, entry), connection.transaction(), connection.cursor("page") as cursor:
        cursor.itersize = page
        cursor.execute(statement)
        while rows := cursor.fetchmany(page):
            entry.rows += len(rows)
    return entry


def copy_out(login: Login, ledger: Ledger, statement: str) -> Entry:
    """COPY ... TO STDOUT; rows by parsing what arrives, so that headers and trailers are told from rows as a reader would."""
    with psycopg_session(login, ledger) as (connection, entry), connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            received = b"".join(bytes(block) for block in copy)
        entry.rows += rows_of_copy(received, statement)
        entry.messages += 1
    return entry


def copy_in(login: Login, ledger: Ledger, statement: str, rows: Sequence[Sequence[object]], types: Sequence[str] = ()) -> Entry:
    """COPY ... FROM STDIN; text, or binary if ``types`` says how to write it."""
    with psycopg_session(login, ledger) as (connection, entry), connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            if types:
                copy.set_types(list(types))
            for row in rows:
                copy.write_row(row)
        entry.rows += cursor.rowcount
        entry.messages += 1
    return entry


def copy_in_csv(login: Login, ledger: Ledger, statement: str, rows: Sequence[Sequence[object]]) -> Entry:
    """COPY ... FROM STDIN (FORMAT csv, HEADER)."""
    with psycopg_session(login, ledger) as (connection, entry), connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(b"header\n" + "".join(",".join(map(str, row)) + "\n" for row in rows).encode())
        entry.rows += cursor.rowcount
        entry.messages += 1
    return entry


def change(login: Login, ledger: Ledger, statement: str, parameters: Sequence[Sequence[object]]) -> Entry:
    """INSERT, UPDATE or DELETE, once per parameter set."""
    with psycopg_session(login, ledger) as (connection, entry):
        for values in parameters:
            entry.rows += connection.execute(statement, values or None).rowcount
            entry.messages += 1
    return entry


def execute(login: Login, ledger: Ledger, statements: Sequence[str]) -> Entry:
    """Statements that move no rows."""
    with psycopg_session(login, ledger) as (connection, entry):
        for statement in statements:
            connection.execute(statement)
            entry.messages += 1
    return entry


def rows_of_copy(received: bytes, statement: str) -> int:
    if "binary" in statement.lower():
        # Header of 11 + 4 + 4 bytes (no extension), then tuples that begin with a field count, -1 ending them.
        position, rows = 19 + struct.unpack_from("!i", received, 15)[0], 0
        while (fields := struct.unpack_from("!h", received, position)[0]) >= 0:
            position += 2
            for _ in range(fields):
                size = struct.unpack_from("!i", received, position)[0]
                position += 4 + max(size, 0)
            rows += 1
        return rows
    return received.count(b"\n") - ("header" in statement.lower())


# -- PostgreSQL: asyncpg --------------------------------------------------------------------------------------------


def asyncpg_session(login: Login, ledger: Ledger, bound: Bound, work: Callable[[Any, Entry], Awaitable[None]]) -> Entry:
    """Run ``work`` with an asyncpg connection (extended protocol, binary results)."""

    async def body() -> Entry:
        bind_loop(asyncio.get_running_loop(), bound)
        connection = await asyncpg.connect(
            host=login.address, port=login.port, database=DATABASE, user=login.account, password=login.password, ssl=False,
            server_settings={"application_name": login.application} if login.application else None,
        )  # fmt: skip
        entry = Entry(login.account, "postgresql")
        with metered(entry, connection._transport.get_extra_info("socket").fileno()):
            await work(connection, entry)
            await connection.close()
        return ledger.add(entry)

    return asyncio.run(body())


def select_partial(login: Login, ledger: Ledger, bound: Bound, statement: str, page: int) -> Entry:
    """One portal, executed ``page`` rows at a time until it is exhausted (Execute with a row limit, PortalSuspended)."""

    async def work(connection: Any, entry: Entry) -> None:
        async with connection.transaction():
            async for _ in connection.cursor(statement, prefetch=page):
                entry.rows += 1

    return asyncpg_session(login, ledger, bound, work)


def copy_out_asyncpg(login: Login, ledger: Ledger, bound: Bound, query: str, fmt: str = "csv") -> Entry:
    """COPY (query) TO STDOUT as asyncpg writes it."""

    async def work(connection: Any, entry: Entry) -> None:
        received = bytearray()

        async def keep(block: bytes) -> None:
            received.extend(block)

        await connection.copy_from_query(query, output=keep, format=fmt)
        entry.rows += rows_of_copy(bytes(received), f"format {fmt}")
        entry.messages += 1

    return asyncpg_session(login, ledger, bound, work)


def bind_loop(loop: asyncio.AbstractEventLoop, bound: Bound) -> None:
    """Make ``loop``'s client sockets come from ``bound``: neither asyncpg nor asyncua has an option for it."""
    if bound is None:
        return
    connect = loop.create_connection

    async def create(*arguments: Any, **options: Any) -> Any:
        return await connect(*arguments, **{"local_addr": bound, **options})

    loop.create_connection = create  # type: ignore[method-assign]  # on this loop only, for this connection only


# -- MQTT -----------------------------------------------------------------------------------------------------------


class MqttSession:
    """One paho client: counts publishes the broker acknowledged and publishes that arrived."""

    def __init__(self, login: Login, ledger: Ledger, bound: Bound, client_id: str, *, version: int = 4, clean: bool = True) -> None:
        self.ledger = ledger
        self.entry = Entry(login.account, "mqtt")
        self.values_of: Callable[[bytes], int] = lambda payload: 0
        self.ready, self.subscribed = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        protocol = MQTTProtocolVersion(version)
        options: dict[str, Any] = {} if version == 5 else {"clean_session": clean}
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, **options)
        self.client.username_pw_set(login.account, login.password)
        self.client.max_inflight_messages_set(100)
        self.client.on_connect = lambda *_: self.ready.set()
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self._arrived
        self.client.connect(login.address, login.port, keepalive=60, bind_address=bound[0] if bound else "")
        self.meter = metered(self.entry, self.client.socket())  # type: ignore[arg-type]  # connected, so not None
        self.meter.__enter__()
        self.client.loop_start()
        if not self.ready.wait(WAIT_S):
            raise TimeoutError(f"no CONNACK for {login.account}")

    def _arrived(self, client: object, data: object, message: mqtt.MQTTMessage) -> None:
        values = self.values_of(bytes(message.payload))
        with self.lock:
            self.entry.messages += 1
            self.entry.values += values

    def subscribe(self, *filters: str, qos: int = 0) -> None:
        for one in filters:
            self.subscribed.clear()
            self.client.subscribe(one, qos)
            if not self.subscribed.wait(WAIT_S):
                raise TimeoutError(f"no SUBACK for {one}")

    def publish(self, topics: Sequence[str], payload: bytes, qos: int, *, retain: bool = False, values: int = 0) -> None:
        """Publish once per topic and wait until the broker has acknowledged each (QoS 1, 2) or the kernel has it (QoS 0)."""
        sent = [self.client.publish(topic, payload, qos, retain) for topic in topics]
        for one in sent:
            one.wait_for_publish(WAIT_S)
            if not one.is_published():
                raise TimeoutError("a publish was not acknowledged")
        with self.lock:
            self.entry.messages += len(sent)
            self.entry.values += values * len(sent)

    def wait_for(self, messages: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.entry.messages < messages:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.entry.messages} of {messages} publishes arrived")
            time.sleep(0.01)

    def close(self) -> Entry:
        self.client.disconnect()
        self.client.loop_stop()
        self.meter.__exit__(None, None, None)
        return self.ledger.add(self.entry)


# -- OPC UA ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def opcua_session(login: Login, ledger: Ledger, bound: Bound) -> AsyncIterator[tuple[Client, Entry]]:
    bind_loop(asyncio.get_running_loop(), bound)
    client = Client(f"opc.tcp://{login.address}:{login.port}/", timeout=WAIT_S, watchdog_intervall=30)
    client.set_user(login.account)
    client.set_password(login.password)
    client.name = login.application or "plant client"
    await client.connect()
    entry = Entry(login.account, "opcua")
    protocol: Any = client.uaclient.protocol  # Any: asyncua types it as absent until connected
    with metered(entry, protocol.transport.get_extra_info("socket").fileno()):
        try:
            yield client, entry
        finally:
            await client.disconnect()
            await asyncio.sleep(0.05)
    ledger.add(entry)


def opcua_read(login: Login, ledger: Ledger, bound: Bound, nodes: Sequence[str], times: int = 1) -> Entry:
    """Read every node's value in one request, ``times`` times."""

    async def body() -> Entry:
        async with opcua_session(login, ledger, bound) as (client, entry):
            for _ in range(times):
                entry.values += len(await client.read_values([client.get_node(node) for node in nodes]))
                entry.messages += 1
        return entry

    return asyncio.run(body())


def opcua_write(login: Login, ledger: Ledger, bound: Bound, nodes: Sequence[str], value: float) -> Entry:
    """Write every node's value in one request."""

    async def body() -> Entry:
        async with opcua_session(login, ledger, bound) as (client, entry):
            values = [ua.DataValue(ua.Variant(value, ua.VariantType.Double)) for _ in nodes]
            await client.write_values([client.get_node(node) for node in nodes], [one.Value for one in values])
            entry.values += len(nodes)
            entry.messages += 1
        return entry

    return asyncio.run(body())


def opcua_history(login: Login, ledger: Ledger, bound: Bound, nodes: Sequence[str], count: int = 0) -> Entry:
    """HistoryRead of every node, following continuation points; answers of several chunks where they are long."""

    async def body() -> Entry:
        start = datetime.now(UTC) - timedelta(days=2)
        end = datetime.now(UTC) - timedelta(seconds=90)
        async with opcua_session(login, ledger, bound) as (client, entry):
            for node in nodes:
                values = await client.get_node(node).read_raw_history(start, end, numvalues=count)
                entry.values += len(values)
                entry.messages += 1
        return entry

    return asyncio.run(body())


def opcua_history_at_once(login: Login, ledger: Ledger, bound: Bound, nodes: Sequence[str]) -> Entry:
    """One HistoryRead request for every node: an answer too long for one chunk (OPC UA Part 6, 6.7.2)."""

    async def body() -> Entry:
        details = ua.ReadRawModifiedDetails(
            IsReadModified=False,
            StartTime=ua.DateTime.now(UTC) - timedelta(days=2),
            EndTime=ua.DateTime.now(UTC) - timedelta(seconds=90),
            ReturnBounds=False,
        )
        wanted = [ua.HistoryReadValueId(NodeId=ua.NodeId.from_string(node)) for node in nodes]
        async with opcua_session(login, ledger, bound) as (client, entry):
            parameters = ua.HistoryReadParameters(HistoryReadDetails=details, NodesToRead=wanted)
            for result in await client.uaclient.history_read(parameters):
                history: Any = result.HistoryData  # Any: an ExtensionObject that asyncua has decoded
                entry.values += len(history.DataValues)
            entry.messages += 1
        return entry

    return asyncio.run(body())


class _Counter:
    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def datachange_notification(self, node: object, value: object, data: object) -> None:
        self.entry.values += 1


def opcua_subscribe(login: Login, ledger: Ledger, bound: Bound, nodes: Sequence[str], seconds: float, period_ms: float = 200) -> Entry:
    """A subscription on every node for ``seconds``."""

    async def body() -> Entry:
        async with opcua_session(login, ledger, bound) as (client, entry):
            subscription = await client.create_subscription(period_ms, _Counter(entry))
            await subscription.subscribe_data_change([client.get_node(node) for node in nodes])
            await asyncio.sleep(seconds)
            await subscription.delete()
            await asyncio.sleep(0.2)
        return entry

    return asyncio.run(body())


# -- TLS and DNS ----------------------------------------------------------------------------------------------------


def resolve(host: Host, resolver: tuple[str, int], name: str) -> str:
    """Ask the plant's resolver for ``name`` over UDP, as a stub resolver does, so that the answer is on the wire."""
    query = struct.pack("!HHHHHH", 0x4857, 0x0100, 1, 0, 0, 0)
    query += b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split(".")) + b"\0" + struct.pack("!HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(WAIT_S)
        client.bind(host.local_address() or ("", 0))
        client.sendto(query, resolver)
        return socket.inet_ntoa(client.recv(4096)[-4:])


def trusting(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context, taking any certificate: those of the plant are of this run, and what is shown is the movement, not its validation."""
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def tls_upload(
    ledger: Ledger, account: str, bound: Bound, address: str, port: int, name: str, size: int, context: ssl.SSLContext | None = None
) -> Entry:
    """PUT ``size`` bytes over TLS; only sizes and the name asked for can be seen of it."""
    context = trusting(context or ssl.create_default_context())
    plain = socket.create_connection((address, port), timeout=WAIT_S, source_address=bound)
    entry = Entry(account, "tls")
    with metered(entry, plain), context.wrap_socket(plain, server_hostname=name) as secured:
        secured.sendall(f"PUT /upload HTTP/1.1\r\nhost: {name}\r\ncontent-length: {size}\r\n\r\n".encode())
        block = bytes(16384)
        for start in range(0, size, len(block)):
            secured.sendall(block[: size - start])
        secured.recv(4096)
        with contextlib.suppress(OSError):
            secured.unwrap()
    return ledger.add(entry)
