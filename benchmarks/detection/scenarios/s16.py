"""S16, secrets on the wire: said where anyone who listens can read them. They are flagged, and kept nowhere."""

import contextlib
import http.client
import ssl
import sys

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Tape, plant_time
from examples.plant import clients, servers
from examples.plant.ledger import Entry, metered

VAULT_PORT = 8200
API_PORT = 8080
WAIT_S = 10


def attack(stage: Stage) -> Tape:
    """A password in the text of a statement, HTTP to the vault, and a token in a URL."""
    mes, mw = stage.login("svc_mes", application="mes-app/7.2"), stage.host("mw")
    statement = f"alter role svc_mes password '{stage.plant.passwords['svc_mes']}'"
    with stage.take() as said:
        stage.host("mes-app").call(lambda: clients.execute(mes, stage.plant.ledger, [statement]))
    token = stage.plant.passwords.setdefault("token", stage.plant.new_password())
    empty = stage.folder / "empty"
    empty.mkdir(mode=0o755, exist_ok=True)
    plain = [sys.executable, "-m", "http.server", "--directory", str(empty), "--bind"]
    vault, api = stage.host("vault").address, stage.host("mes-app").address
    with stage.serving("vault", VAULT_PORT, [*plain, vault, str(VAULT_PORT)]), stage.take() as asked:
        mw.call(lambda: get(vault, VAULT_PORT, "/v1/secret/data/mw", {"X-Vault-Token": token}))
    with stage.serving("mes-app", API_PORT, [*plain, api, str(API_PORT)]), stage.take() as called:
        mw.call(lambda: get(api, API_PORT, f"/api/orders?access_token={token}", {}))
    tape = Tape().add(said, plant_time("2026-04-07 09:00")).add(asked, plant_time("2026-04-07 10:00"))
    return tape.add(called, plant_time("2026-04-07 11:00"))


def twin(stage: Stage) -> Tape:
    """The vault over TLS."""
    vault, mw = stage.host("vault"), stage.host("mw")
    certificate, key = servers.self_signed(stage.held.folder, "vault.plant.example")
    sink = [sys.executable, "-m", "examples.plant.tls_sink", vault.address, str(VAULT_PORT), str(certificate), str(key)]
    with stage.serving("vault", VAULT_PORT, sink), stage.take() as take:
        take.entries.append(mw.call(lambda: over_tls(vault.address)))
    return Tape().add(take, plant_time("2026-04-07 10:00"))


def get(address: str, port: int, target: str, headers: dict[str, str]) -> None:
    """One GET in clear; what it answers does not matter."""
    connection = http.client.HTTPConnection(address, port, timeout=WAIT_S)
    connection.request("GET", target, headers=headers)
    connection.getresponse().read()
    connection.close()


def over_tls(address: str) -> Entry:
    """One request inside TLS 1.3."""
    context = clients.trusting(ssl.create_default_context())
    connection = http.client.HTTPSConnection(address, VAULT_PORT, timeout=WAIT_S, context=context)
    connection.connect()
    entry = Entry("svc_mw", "tls")
    with metered(entry, connection.sock):
        connection.request("PUT", "/v1/secret/data/mw", headers={"X-Vault-Token": "hvs", "content-length": "0"})
        connection.getresponse().read()
        with contextlib.suppress(OSError):
            connection.sock.unwrap()
        connection.close()
    return entry


SCENARIO = Scenario(
    "S16", "secrets on the wire", attack, twin,
    (
        Expected("secret-in-clear", "protection", r"a password in the text of a statement", immediate=True),
        Expected("secret-in-clear", "protection", r"HTTP in clear to a vault", immediate=True),
        Expected("secret-in-clear", "protection", r"a secret in a URL", immediate=True),
    ),
    attacked="password in SQL text, HTTP to the vault's port, token in a URL",
    benign="TLS to the vault",
)  # fmt: skip
