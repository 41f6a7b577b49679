"""Signing in through an identity provider: a small one of its own on loopback, which checks what OpenID Connect lets it check."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from dashboards.console.serve import Oidc, Options, Serving
from hopwatch.cli import main
from hopwatch.store.reader import reader

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = secrets.token_urlsafe(24)


class Provider:
    """An identity provider: discovery, authorization code with PKCE (RFC 7636), tokens (OpenID Connect Core 1.0, 3.1), keys."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
        self.signing = self.key
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.claims: dict[str, Any] = {"sub": "0001", "preferred_username": "h.keller", "groups": ["everyone", "soc"]}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.get(self)

            def do_POST(self) -> None:
                provider.post(self)

            def log_message(self, format: str, *args: object) -> None:
                provider.asked.append(self.path.split("?")[0])

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, request: Any) -> None:  # Any: the handler above.
        url = urlsplit(request.path)
        if url.path == "/.well-known/openid-configuration":
            said = {
                "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys", "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"],
            }  # fmt: skip
            self.answer(request, 200, said)
        elif url.path == "/keys":
            self.answer(request, 200, {"keys": [self.key.as_dict(private=False)]})
        elif url.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", "hopwatch", "S256")
            assert "openid" in asked["scope"].split() and len(asked["state"]) > 15 and len(asked["nonce"]) > 15
            code = secrets.token_urlsafe(16)
            self.codes[code] = asked
            request.send_response(302)
            request.send_header("Location", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
            request.end_headers()
        else:
            self.answer(request, 404, {})

    def post(self, request: Any) -> None:  # Any: the handler above.
        form = dict(parse_qsl(request.rfile.read(int(request.headers["Content-Length"])).decode()))
        known = base64.b64decode(request.headers.get("Authorization", "Basic ").removeprefix("Basic ")).decode() == f"hopwatch:{SECRET}"
        asked = self.codes.pop(form.get("code", ""), None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
        if not known or asked is None or asked["code_challenge"] != proof or asked["redirect_uri"] != form["redirect_uri"]:
            self.answer(request, 400, {"error": "invalid_grant"})
            return
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": "hopwatch", "iat": now, "exp": now + 300, "nonce": asked["nonce"]} | self.claims
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.signing)
        self.answer(request, 200, {"access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": token})

    def answer(self, request: Any, status: int, said: object) -> None:  # Any: the handler above.
        content = json.dumps(said).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("day") / "store.db"
    capture = str(EXAMPLES / "plant-day.pcap.gz")
    assert main(["watch", "-d", str(EXAMPLES / "plant-demo.yaml"), "-r", capture, "--store", str(store), "--json"]) == 1
    return store


@pytest.fixture
def serving(provider: Provider, day: Path, tmp_path: Path) -> Iterator[Serving]:
    for end in ("", ".key"):
        shutil.copy(f"{day}{end}", tmp_path / f"store.db{end}")
    # The port is known once it is bound; the provider is told where to send people back to before.
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    oidc = Oidc(provider.issuer, "hopwatch", SECRET, f"http://127.0.0.1:{port}", {"soc": "analyst", "audit": "auditor"}, title="Plant ID")
    opened = partial(reader, str(tmp_path / "store.db"))
    started = Serving(Options([EXAMPLES / "plant-demo.yaml"], opened, address=f"127.0.0.1:{port}", oidc=oidc))
    started.start()
    yield started
    started.stop()


def signed_in(serving: Serving) -> tuple[httpx.Client, httpx.Response]:
    """A browser that has followed the sign-in to its end."""
    client = httpx.Client(base_url=serving.address, follow_redirects=True, timeout=30)
    page = client.get("/coverage")
    assert "Sign in with Plant ID" in page.text
    return client, client.get("/login/provider?next=/coverage")


def test_who_the_provider_knows_comes_in_with_the_role_of_their_group(serving: Serving, provider: Provider) -> None:
    client, page = signed_in(serving)
    assert page.status_code == 200 and str(page.url).endswith("/coverage") and "Trust in the view" in page.text
    assert "h.keller" in page.text and "analyst" in page.text
    assert serving.console.entries[-1].what == "came-in" and "provider, analyst" in serving.console.entries[-1].about
    client.close()


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"groups": ["everyone"]}, "h.keller has no role"),
        ({"aud": "another"}, ""),
        ({"iss": "https://evil.example"}, ""),
        ({"nonce": "of another request"}, ""),
        ({"exp": 1_000}, ""),
        ({"preferred_username": "<b>"}, "no name that will do"),
    ],
)
def test_whoever_the_token_does_not_speak_for_stays_outside(serving: Serving, provider: Provider, claims: dict[str, Any], why: str) -> None:
    provider.claims |= claims
    client, page = signed_in(serving)
    assert page.status_code == 403 and "did not let you in" in page.text
    entry = serving.console.entries[-1]
    assert entry.what == "refused-by-provider" and why in entry.about
    assert str(client.get("/map").url).endswith("/login?next=%2Fmap")
    client.close()


def test_a_token_signed_with_another_key_is_not_believed(serving: Serving, provider: Provider) -> None:
    provider.signing = RSAKey.generate_key(2048, {"kid": "1"})
    client, page = signed_in(serving)
    assert page.status_code == 403
    client.close()


def test_an_answer_that_was_not_asked_for_or_comes_twice_is_refused(serving: Serving, provider: Provider) -> None:
    client = httpx.Client(base_url=serving.address, timeout=30)
    client.get("/login")
    assert client.get("/login/back?code=x&state=y").status_code == 403
    to = client.get("/login/provider").headers["location"]
    back = httpx.get(to).headers["location"]
    stranger = httpx.Client(base_url=serving.address, timeout=30)
    assert stranger.get(back).status_code == 403, "somebody else's answer (login CSRF)"
    assert client.get(back).status_code == 303
    assert client.get("/map").status_code == 200
    assert stranger.get(back).status_code == 403
    client.close()
    stranger.close()


def test_a_provider_that_is_away_is_said_and_nobody_comes_in(serving: Serving, provider: Provider) -> None:
    provider.server.shutdown()
    provider.server.server_close()
    with httpx.Client(base_url=serving.address, timeout=30) as client:
        client.get("/login")
        answer = client.get("/login/provider")
        assert answer.status_code == 502 and "does not answer as one" in answer.text
