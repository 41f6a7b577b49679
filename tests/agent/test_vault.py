"""Secrets from HashiCorp Vault: from the real one in `make test-long`, where it is built (`scripts/setup.sh long`), and in every run from
a stand-in, which is no Vault but answers the four requests that hvac makes as Vault's HTTP API documents them (KV version 2, AppRole).
"""

import json
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import hvac
import pytest

from agent.vault import Vault, VaultError
from hopwatch.config import ConfigError, kafka, vault

PROGRAM = Path(__file__).parents[2] / "build" / "vault" / "vault"
PATH = "hopwatch/tap-idmz"
TOKEN, ROLE, SECRET_ID = "s.token", "role", "s.secret-id"
KEPT = {"sasl_password": "correct horse", "other": "x", "key_password": ""}


class StandIn(BaseHTTPRequestHandler):
    def _answer(self, status: int, body: object) -> None:
        said = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_GET(self) -> None:
        if self.headers.get("X-Vault-Token") != TOKEN:
            self._answer(403, {"errors": ["permission denied"]})
        elif self.path.startswith("/v1/secret/data/hopwatch/tap-idmz"):
            self._answer(200, {"data": {"data": KEPT, "metadata": {"version": 3, "deletion_time": "", "destroyed": False}}})
        else:
            self._answer(404, {"errors": []})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/auth/approle/login" and asked == {"role_id": ROLE, "secret_id": SECRET_ID}:
            self._answer(200, {"auth": {"client_token": TOKEN, "lease_duration": 3600}})
        else:
            self._answer(400, {"errors": ["invalid role or secret ID"]})

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: its log would be of the test's secrets."""


class There(NamedTuple):
    """A vault that holds ``KEPT``: where it is, its AppRole, and what must not be said. Files ``token`` and ``secret-id`` lie beside."""

    settings: dict[str, Any]
    role_id: str
    secrets: tuple[str, ...]

    def with_token(self, path: str = PATH, file: str = "token") -> Vault:
        return Vault(path=path, token_file=Path(file), **self.settings)

    def with_role(self, role_id: str) -> Vault:
        return Vault(path=PATH, role_id=role_id, secret_id_file=Path("secret-id"), **self.settings)


def stand_in() -> Iterator[There]:
    Path("token").write_text(f"{TOKEN}\n")
    Path("secret-id").write_text(f"{SECRET_ID}\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield There({"address": f"http://127.0.0.1:{server.server_port}"}, ROLE, (TOKEN, SECRET_ID))
    server.shutdown()
    server.server_close()
    thread.join()


def real() -> Iterator[There]:
    """HashiCorp's own program with TLS, a policy for one path, and a token and an AppRole that have no other."""
    assert PROGRAM.exists(), f"{PROGRAM} is not there: `scripts/setup.sh long` builds it"
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"https://127.0.0.1:{free.getsockname()[1]}"
    root = secrets.token_hex(16)
    options = ["-dev-tls", "-dev-tls-cert-dir=.", "-dev-no-store-token", f"-dev-listen-address={address.removeprefix('https://')}"]
    with Path("vault.log").open("wb") as log:
        # The token would stand in the arguments.
        process = subprocess.Popen(
            [PROGRAM, "server", "-dev", *options], stdout=log, stderr=log, env={"VAULT_DEV_ROOT_TOKEN_ID": root, "HOME": "."}
        )
    try:
        admin = hvac.Client(address, token=root, verify="vault-ca.pem")
        wait(admin, process)
        admin.sys.create_or_update_policy("agent", 'path "secret/data/hopwatch/*" { capabilities = ["read"] }')
        admin.secrets.kv.v2.create_or_update_secret(PATH, KEPT)
        token = admin.auth.token.create(policies=["agent"], no_default_policy=True)["auth"]["client_token"]
        admin.sys.enable_auth_method("approle")
        admin.auth.approle.create_or_update_approle("tap", token_policies=["agent"], token_no_default_policy=True)
        role_id = admin.auth.approle.read_role_id("tap")["data"]["role_id"]
        secret_id = admin.auth.approle.generate_secret_id("tap")["data"]["secret_id"]
        admin.adapter.close()
        Path("token").write_text(f"{token}\n")
        Path("secret-id").write_text(f"{secret_id}\n")
        yield There({"address": address, "ca_file": Path("vault-ca.pem")}, role_id, (token, secret_id))
    finally:
        process.terminate()
        process.wait(30)


def wait(admin: hvac.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < deadline, Path("vault.log").read_text()
        try:
            # The mount of KV comes after the door is open.
            if "secret/" in admin.sys.list_mounted_secrets_engines()["data"]:
                return
        except (OSError, hvac.exceptions.VaultError):
            pass
        time.sleep(0.2)


@pytest.fixture(params=[stand_in, pytest.param(real, marks=pytest.mark.long)], ids=["stand-in", "vault"])
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[There]:
    monkeypatch.chdir(tmp_path)
    for name in ("VAULT_TOKEN", "VAULT_ADDR", "VAULT_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    yield from request.param()


def test_a_secret_is_read_with_a_token_or_an_approle(there: There) -> None:
    for one in (there.with_token(), there.with_role(there.role_id)):
        # What is empty is not there, what was not asked for is not taken.
        assert one.secrets(("sasl_password", "key_password")) == {"sasl_password": "correct horse"}


def test_a_vault_that_refuses_is_one_line_without_a_secret(there: There) -> None:
    Path("wrong").write_text("s.wrong")
    nobody = there._replace(settings={"address": "http://127.0.0.1:1"})
    for one, said in (
        (there.with_token(file="wrong"), "Forbidden"),
        (there.with_token("hopwatch/nobody"), "InvalidPath"),
        (there.with_role("other"), "InvalidRequest"),
        (nobody.with_token(), "cannot be reached"),
        (there.with_token(file="nowhere"), "No such file"),
    ):
        with pytest.raises(VaultError, match=said) as raised:
            one.secrets(("sasl_password",))
        assert "\n" not in str(raised.value)
        for secret in (*there.secrets, "s.wrong"):
            assert secret not in str(raised.value)
    with pytest.raises(VaultError, match="has none of passphrase"):
        there.with_token().secrets(("passphrase",))


def test_the_password_of_the_vault_reaches_the_client_and_nothing_else(there: There) -> None:
    settings = "".join(f'{name} = "{value}"\n' for name, value in there.settings.items())
    Path("hopwatch.toml").write_text(
        f'[kafka]\nbootstrap_servers = "a:1"\nsecurity_protocol = "SASL_SSL"\nsasl_username = "agent-north"\n'
        f'[vault]\npath = "{PATH}"\ntoken_file = "token"\n{settings}'
    )
    kept = vault()
    assert kept is not None
    reached = kafka({}, None, kept.secrets(("sasl_password", "key_password")))
    assert reached.client()["sasl.password"] == "correct horse"
    assert "correct horse" not in repr(reached)


@pytest.mark.long
def test_a_vault_whose_certificate_nobody_knows_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for there in real():
        stranger = there._replace(settings={"address": there.settings["address"]})
        with pytest.raises(VaultError, match="cannot be reached: SSLError"):
            stranger.with_token().secrets(("sasl_password",))


def test_a_table_that_is_wrong_names_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert vault() is None
    Path("hopwatch.toml").write_text('[vault]\naddres = "http://a"\n')
    with pytest.raises(ConfigError, match=r"unknown key addres: did you mean address\?"):
        vault()
    Path("hopwatch.toml").write_text('[vault]\naddress = "http://a"\npath = "x"\n')
    with pytest.raises(ConfigError, match="needs token_file, or role_id and secret_id_file"):
        vault()
