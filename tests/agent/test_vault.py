"""Secrets from HashiCorp Vault, against a stand-in: this is no Vault, but a server that answers the four requests hvac makes as
Vault's HTTP API documents them (KV version 2, AppRole). No registry that can be reached here has the real one.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.vault import Vault, VaultError
from hopwatch.config import ConfigError, kafka, vault

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


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    for name in ("VAULT_TOKEN", "VAULT_ADDR", "VAULT_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    Path("token").write_text(f"{TOKEN}\n")
    Path("secret-id").write_text(f"{SECRET_ID}\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_secret_is_read_with_a_token_or_an_approle(address: str) -> None:
    token = Vault(address=address, path="hopwatch/tap-idmz", token_file=Path("token"))
    approle = Vault(address=address, path="hopwatch/tap-idmz", role_id=ROLE, secret_id_file=Path("secret-id"))
    for one in (token, approle):
        # What is empty is not there, what was not asked for is not taken.
        assert one.secrets(("sasl_password", "key_password")) == {"sasl_password": "correct horse"}


def test_a_vault_that_refuses_is_one_line_without_a_secret(address: str) -> None:
    Path("wrong").write_text("s.wrong")
    for one, said in (
        (Vault(address=address, path="hopwatch/tap-idmz", token_file=Path("wrong")), "Forbidden"),
        (Vault(address=address, path="hopwatch/nobody", token_file=Path("token")), "InvalidPath"),
        (Vault(address=address, path="hopwatch/tap-idmz", role_id="other", secret_id_file=Path("secret-id")), "InvalidRequest"),
        (Vault(address="http://127.0.0.1:1", path="hopwatch/tap-idmz", token_file=Path("token")), "cannot be reached"),
        (Vault(address=address, path="hopwatch/tap-idmz", token_file=Path("nowhere")), "No such file"),
    ):
        with pytest.raises(VaultError, match=said) as raised:
            one.secrets(("sasl_password",))
        assert "\n" not in str(raised.value)
        for secret in (TOKEN, SECRET_ID, "s.wrong"):
            assert secret not in str(raised.value)
    with pytest.raises(VaultError, match="has none of passphrase"):
        Vault(address=address, path="hopwatch/tap-idmz", token_file=Path("token")).secrets(("passphrase",))


def test_the_password_of_the_vault_reaches_the_client_and_nothing_else(address: str) -> None:
    Path("hopwatch.toml").write_text(
        f'[kafka]\nbootstrap_servers = "a:1"\nsecurity_protocol = "SASL_SSL"\nsasl_username = "agent-north"\n'
        f'[vault]\naddress = "{address}"\npath = "hopwatch/tap-idmz"\ntoken_file = "token"\n'
    )
    kept = vault()
    assert kept is not None
    reached = kafka({}, None, kept.secrets(("sasl_password", "key_password")))
    assert reached.client()["sasl.password"] == "correct horse"
    assert "correct horse" not in repr(reached)


def test_a_table_that_is_wrong_names_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert vault() is None
    Path("hopwatch.toml").write_text('[vault]\naddres = "http://a"\n')
    with pytest.raises(ConfigError, match=r"unknown key addres: did you mean address\?"):
        vault()
    Path("hopwatch.toml").write_text('[vault]\naddress = "http://a"\npath = "x"\n')
    with pytest.raises(ConfigError, match="needs token_file, or role_id and secret_id_file"):
        vault()
