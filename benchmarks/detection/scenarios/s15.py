"""S15, cleartext downgrade: a server that no longer speaks TLS, and one that speaks too old a version."""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Tape, plant_time
from examples.plant import clients, servers
from examples.plant.day import NAMES
from examples.plant.ledger import Entry, metered

ORDERS = "select id, line, product, quantity from mes.work_order"


def attack(stage: Stage) -> Tape:
    """The database answers N to SSLRequest and the report goes on in clear; the lake takes TLS 1.0."""
    login = stage.login("svc_bi", application="report/1")
    with without_tls(stage), stage.take() as clear:
        stage.host("bi").call(lambda: clients.select(login, stage.plant.ledger, ORDERS, sslmode="prefer"))
    context = clients.trusting(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with stage.take() as old:
        stage.upload("mw", NAMES["lake"], stage.chance.randint(60_000, 160_000), to="lake-old", account="svc_lake", context=context)
    return Tape().add(clear, plant_time("2026-04-07 09:00")).add(old, plant_time("2026-04-07 10:00"))


def twin(stage: Stage) -> Tape:
    """The report over TLS 1.3, and an upload whose second connection resumes the session of the first."""
    login, mw, lake = stage.login("svc_bi", application="report/1"), stage.host("mw"), stage.host("lake")
    with stage.take() as report:
        stage.host("bi").call(lambda: clients.select(login, stage.plant.ledger, ORDERS, sslmode="require"))
        for entry in stage.plant.ledger.entries[-1:]:
            entry.protocol = "unread"
    with stage.take() as resumed, stage.resolver(NAMES["lake"], "lake") as resolver:
        mw.call(lambda: clients.resolve(mw, resolver, NAMES["lake"]))
        for entry in mw.call(lambda: list(resuming((lake.address, 443), NAMES["lake"], stage.chance.randint(20_000, 60_000)))):
            stage.plant.ledger.add(entry)
    return Tape().add(report, plant_time("2026-04-07 09:00")).add(resumed, plant_time("2026-04-07 10:00"))


@contextlib.contextmanager
def without_tls(stage: Stage) -> Iterator[None]:
    """The database without TLS while the body runs."""
    try:
        _switch(stage, "off")
        yield
    finally:
        _switch(stage, "on")


def _switch(stage: Stage, state: str) -> None:
    with stage.plant.database.administrator() as admin:
        admin.execute(f"alter system set ssl = {state}")
        admin.execute("select pg_reload_conf()")
    for _ in range(100):
        with stage.plant.database.administrator() as admin:
            if admin.execute("show ssl").fetchall() == [(state,)]:
                return
        time.sleep(0.05)
    raise servers.PlantError(f"postgresql does not switch TLS {state}")


def resuming(address: tuple[str, int], name: str, size: int) -> Iterator[Entry]:
    """Two uploads; the second with the ticket of the first (RFC 8446, 2.2)."""
    context = clients.trusting(ssl.create_default_context())
    session: ssl.SSLSession | None = None
    for again in (False, True):
        plain = socket.create_connection(address, timeout=10)
        entry = Entry("svc_lake", "tls")
        with metered(entry, plain), context.wrap_socket(plain, server_hostname=name, session=session) as secured:
            secured.sendall(f"PUT /upload HTTP/1.1\r\nhost: {name}\r\ncontent-length: {size}\r\n\r\n".encode() + bytes(size))
            secured.recv(4096)
            assert secured.session_reused is again
            session = secured.session
            with contextlib.suppress(OSError):
                secured.unwrap()
        yield entry


SCENARIO = Scenario(
    "S15", "cleartext downgrade", attack, twin,
    (
        Expected("under-protected", "protection", r"tls1\.3 -> none", immediate=True),
        Expected("under-protected", "protection", r"tls1\.2 -> tls1\.0", immediate=True),
    ),
    attacked="the server answers N to SSLRequest; TLS 1.0",
    benign="TLS 1.3, resumed on the second connection",
)  # fmt: skip
