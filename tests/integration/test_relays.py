"""Two clients behind one real relay are told apart by the relay's own log, to the byte that each of them counted."""

import json
import random
import socket
import subprocess
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from collectors.feed import Told
from collectors.relay_log import RelayLog
from hopwatch.events import Flow, parse
from tests.integration.receivers import ADDRESS, Process, eventually, free_port, program

SQUID_FORMAT = (
    '{"time":%ts.%03tu,"client":"%>a","client_port":%>p,"relay":"%>la","relay_port":%>lp,"user":"%"un","method":"%rm","target":"%"ru",'
    '"agent":"%"{User-Agent}>h","status":%>Hs,"received":%>st,"sent":%<st}'
)
NGINX_FORMAT = (
    'escape=json \'{"time":$msec,"client":"$remote_addr","client_port":$remote_port,"relay":"$server_addr","relay_port":$server_port,'
    '"user":"$remote_user","method":"$request_method","target":"$request_uri","host":"$host","agent":"$http_user_agent",'
    '"status":$status,"received":$request_length,"sent":$bytes_sent}\''
)
HAPROXY_FORMAT = (
    '{"time":"%Ts.%ms","client":"%ci","client_port":%cp,"relay":"%fi","relay_port":%fp,"status":%ST,"received":%U,"sent":%B}'
).replace('"', r"\"")
UPLOADS = 500
"""Of each of the two clients."""


@dataclass
class Counted:
    """What one client has put on the wire and taken off it."""

    requests: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0


@pytest.fixture(scope="module")
def origin() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((ADDRESS, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o777)
    for above in tmp_path.parents:
        if above.name.startswith("pytest-"):
            above.chmod(0o755)
    return tmp_path


def client(address: str, port: int, head: bytes, target: str, count: int, seed: int, counted: Counted) -> None:
    """Uploads over one connection kept alive, and what it has sent and got, by its own socket."""
    bodies = random.Random(seed)
    with socket.create_connection((ADDRESS, port), 10, (address, 0)) as wire:
        for number in range(count):
            body = b"x" * bodies.randint(1, 4_000)
            path = f"/lake/batch-{number % 3}"
            request = b"POST %s%s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (target.encode(), path.encode(), head, len(body)) + body
            wire.sendall(request)
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):
                part = wire.recv(65_536)
                assert part, answer
                answer += part
            counted.requests[path] += 1
            counted.sent += len(request)
            counted.received += len(answer)


def interleaved(port: int, heads: dict[str, bytes], target: str) -> dict[str, Counted]:
    """Both clients at once, each over four connections of its own."""
    counted = {who: [Counted() for _ in range(4)] for who in heads}
    threads = [
        threading.Thread(
            target=client, args=(f"127.0.0.{2 + place}", port, head, target, UPLOADS // 4, 10 * place + one, counted[who][one])
        )
        for place, (who, head) in enumerate(heads.items())
        for one in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    joined = {}
    for who, parts in counted.items():
        joined[who] = Counted(sum((part.requests for part in parts), Counter()), sum(p.sent for p in parts), sum(p.received for p in parts))
    return joined


def told(folder: Path, log: str) -> list[Flow]:
    feed = RelayLog.of(Told.of(f"relay-log:proxy-log={folder / log}", "a"), "north", folder / "place")
    events = [parse(line) for batch in feed.batches(lambda: False, follow=False) for line in batch]
    assert feed.counters()["relay_log_unreadable"] == 0, feed.example
    return [event for event in events if isinstance(event, Flow)]


def written(path: Path, lines: int) -> None:
    eventually(lambda: path.exists() and path.read_bytes().count(b"\n") >= lines, f"{lines} lines of {path.name}")


def test_a_thousand_interleaved_uploads_through_squid_are_each_their_own_users(folder: Path, origin: int) -> None:
    port = free_port()
    users = {"svc_lake": b"placeholder-1", "svc_other": b"placeholder-2"}
    hashed = {
        who: subprocess.run(["openssl", "passwd", "-apr1", word], capture_output=True, text=True, check=True) for who, word in users.items()
    }
    (folder / "users").write_text("".join(f"{who}:{run.stdout}" for who, run in hashed.items()))
    (folder / "squid.conf").write_text(
        f"http_port {ADDRESS}:{port}\npid_filename none\ncache deny all\ncache_log {folder}/cache.log\ncoredump_dir {folder}\n"
        f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/users\n"
        "acl known proxy_auth REQUIRED\nhttp_access allow known\n"
        f"logformat hopwatch {SQUID_FORMAT}\naccess_log stdio:{folder}/access.json hopwatch\n"
        "buffered_logs off\nshutdown_lifetime 1 seconds\n"
    )
    squid = Process([program("squid", "squid"), "-N", "-f", str(folder / "squid.conf")], folder, port)
    squid.start()
    try:
        heads = {
            who: f"Host: {ADDRESS}:{origin}\r\nProxy-Authorization: Basic {_basic(who, word)}\r\n".encode() for who, word in users.items()
        }
        counted = interleaved(port, heads, f"http://{ADDRESS}:{origin}")
        with socket.create_connection((ADDRESS, port), 10) as stranger:
            stranger.sendall(b"POST http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
            assert b" 407 " in stranger.recv(65_536)
        written(folder / "access.json", 2 * UPLOADS + 1)
    finally:
        squid.stop()
    flows = told(folder, "access.json")
    for who, one in counted.items():
        mine = [flow for flow in flows if flow.account == who]
        assert len({flow.event_id for flow in mine}) == sum(one.requests.values()) == UPLOADS
        assert Counter(flow.objects[0].names[0] for flow in mine) == one.requests
        assert (sum(flow.bytes for flow in mine), sum(flow.bytes_back for flow in mine)) == (one.sent, one.received)
        assert {(flow.operation, flow.account_from, flow.seen_by) for flow in mine} == {("put", "proxy-log", "proxy-log")}
        assert {(name.name, name.port, name.by) for flow in mine for name in flow.destination.names} == {(ADDRESS, origin, "absolute-form")}
    assert len({flow.source.address for flow in flows if flow.account == "svc_lake"}) == 1
    # Whoever waits for the relay to listen knocks.
    assert [flow.operation for flow in flows if flow.account is None and flow.operation != "attempt"] == ["refused"]
    assert "placeholder" not in (folder / "place").read_text() + json.dumps([str(flow) for flow in flows])


def test_uploads_through_nginx_keep_their_clients_and_bytes(folder: Path, origin: int) -> None:
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;\n"
        f"scgi_temp_path {folder}/s; log_format hopwatch {NGINX_FORMAT}; access_log {folder}/access.json hopwatch;\n"
        f"server {{ listen {ADDRESS}:{port}; keepalive_requests 10000; location / {{ proxy_pass http://{ADDRESS}:{origin}; }} }} }}\n"
    )
    nginx = Process([program("nginx", "nginx-light"), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")], folder, port)
    nginx.start()
    try:
        heads = {"127.0.0.2": b"Host: lake.example\r\nUser-Agent: one\r\n", "127.0.0.3": b"Host: lake.example\r\nUser-Agent: two\r\n"}
        counted = interleaved(port, heads, "")
        written(folder / "access.json", 2 * UPLOADS)
    finally:
        nginx.stop()
    flows = told(folder, "access.json")
    for address, one in counted.items():
        mine = [flow for flow in flows if flow.source.address == address]
        assert Counter(flow.objects[0].names[0] for flow in mine) == one.requests
        assert (sum(flow.bytes for flow in mine), sum(flow.bytes_back for flow in mine)) == (one.sent, one.received)
        assert {name.name for flow in mine for name in flow.destination.names} == {"lake.example"}


def test_what_haproxy_passed_on_unread_is_a_transfer_of_its_client(folder: Path, origin: int) -> None:
    port = free_port()
    (folder / "haproxy.cfg").write_text(
        f"global\n  log stdout format raw daemon\ndefaults\n  mode tcp\n  log global\n"
        f"  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        f'listen through\n  bind {ADDRESS}:{port}\n  log-format "{HAPROXY_FORMAT}"\n  server origin {ADDRESS}:{origin}\n'
    )
    haproxy = Process([program("haproxy", "haproxy"), "-db", "-f", str(folder / "haproxy.cfg")], folder, port)
    haproxy.start()
    try:
        counted = interleaved(port, {"127.0.0.2": b"Host: a\r\n", "127.0.0.3": b"Host: b\r\n"}, "")
        log = folder / "server.log"
        eventually(lambda: sum(log.read_text().count(f'"client":"{who}"') for who in counted) >= 8, "8 connections in the log")
    finally:
        haproxy.stop()
    lines = [line for line in log.read_text().splitlines() if any(f'"client":"{who}"' in line for who in counted)]
    (folder / "connections.json").write_text("\n".join(lines) + "\n")
    flows = told(folder, "connections.json")
    for address, one in counted.items():
        mine = [flow for flow in flows if flow.source.address == address]
        assert len(mine) == 4
        assert (sum(flow.bytes for flow in mine), sum(flow.bytes_back for flow in mine)) == (one.sent, one.received)
        assert {(flow.operation, flow.depth) for flow in mine} == {("transfer", "sizes")}


def _basic(who: str, word: bytes) -> str:
    return b64encode(who.encode() + b":" + word).decode()
