"""Real receivers of alerts on loopback: rsyslog, Alertmanager, an HTTP server; each started, stopped and ended by its test."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.authority import Authority, Certificate

ADDRESS = "127.0.0.1"
START_S = 30.0


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port nobody has now."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind((ADDRESS, 0))
        return int(one.getsockname()[1])


def eventually(what: Callable[[], object], said: str, limit_s: float = START_S) -> None:
    """Wait until it is so."""
    until = time.monotonic() + limit_s
    while not what():
        if time.monotonic() > until:
            pytest.fail(f"{said}: not within {limit_s:g} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), 1.0):
        return True
    return False


def program(name: str, package: str) -> str:
    """Where it is installed; nothing is ever skipped."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed; `make setup` as root brings {package}")
    return found


@dataclass
class Process:
    """A server of a test's own."""

    command: list[str]
    folder: Path
    port: int
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self.folder / "server.log").open("ab") as log:
            self.running = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder)
        eventually(lambda: listens(self.port), f"{self.command[0]} listens ({(self.folder / 'server.log').read_text()[-500:]})")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self.running is not None:
            self.running.send_signal(how)
            self.running.wait(20)
            self.running = None


@dataclass
class Rsyslog(Process):
    """rsyslogd with a listener for UDP, one for TCP and one for TLS; what it read stands in ``lines``."""

    udp: int = 0
    tls: int = 0

    def start(self) -> None:
        Process.start(self)
        eventually(lambda: listens(self.tls), "rsyslogd listens for TLS")

    def lines(self) -> list[dict[str, str]]:
        """Its parts of each message, as rsyslog's parser found them."""
        path = self.folder / "received"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    def events(self) -> list[str]:
        """What identifies each message, in the order they came."""
        return [line["data"] for line in self.lines()]


@contextlib.contextmanager
def rsyslog(folder: Path, authority: Authority) -> Iterator[Rsyslog]:
    """A running rsyslog that wants a certificate named ``hopwatch`` from who comes by TLS."""
    folder.mkdir()
    held = authority.issue("siem.example", ADDRESS)
    tcp, tls, udp = free_port(), free_port(), free_port(socket.SOCK_DGRAM)
    parts = ("severity:syslogseverity-text", "host:hostname", "app:app-name", "id:msgid", "data:structured-data", "text:msg")
    properties = ' constant(value=",") '.join(
        f'property(name="{of.split(":")[1]}" outname="{of.split(":")[0]}" format="jsonf")' for of in parts
    )
    (folder / "rsyslog.conf").write_text(
        f"""
global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriverCAFile="{authority.certificate}"
    defaultNetstreamDriverCertFile="{held.certificate}" defaultNetstreamDriverKeyFile="{held.key}")
module(load="imudp") module(load="imptcp")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/name" permittedPeer=["hopwatch"])
template(name="parts" type="list") {{ constant(value="{{") {properties} constant(value="}}\\n") }}
ruleset(name="all") {{ action(type="omfile" file="{folder}/received" template="parts") }}
input(type="imudp" address="{ADDRESS}" port="{udp}" ruleset="all")
input(type="imptcp" address="{ADDRESS}" port="{tcp}" ruleset="all" supportOctetCountedFraming="on")
input(type="imtcp" address="{ADDRESS}" port="{tls}" ruleset="all" supportOctetCountedFraming="on")
"""
    )
    command = [program("rsyslogd", "rsyslog rsyslog-gnutls"), "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")]
    server = Rsyslog(command, folder, tcp, udp=udp, tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[Process]:
    """A running Alertmanager that notifies nobody."""
    folder.mkdir()
    (folder / "alertmanager.yml").write_text("route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n")
    port = free_port()
    server = Process(
        [
            program("prometheus-alertmanager", "prometheus-alertmanager"),
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/data",
            f"--web.listen-address={ADDRESS}:{port}",
            "--cluster.listen-address=",
        ],
        folder,
        port,
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Taken:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:  # Any: JSON values
        return json.loads(self.body)


Answer = Callable[[Taken], tuple[int, bytes, dict[str, str]]]


@dataclass
class HttpReceiver:
    """An HTTP server that keeps what it is sent; ``answer`` says what it says to it."""

    port: int
    answer: Answer = lambda taken: (200, b"{}", {})
    certificate: Certificate | None = None
    client_ca: Path | None = None
    taken: list[Taken] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{ADDRESS}:{self.port}"

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                taken = Taken(self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])))
                status, body, headers = receiver.answer(taken)
                if status < 300:
                    receiver.taken.append(taken)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer((ADDRESS, self.port), Handler)
        self.server.daemon_threads = True
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate.certificate, self.certificate.key)
            if self.client_ca is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(self.client_ca)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@contextlib.contextmanager
def http(answer: Answer | None = None, certificate: Certificate | None = None, client_ca: Path | None = None) -> Iterator[HttpReceiver]:
    """A running HTTP server."""
    receiver = HttpReceiver(free_port(), certificate=certificate, client_ca=client_ca)
    if answer is not None:
        receiver.answer = answer
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind((ADDRESS, 0))
        server.listen(16)
        yield int(server.getsockname()[1])
