"""Records HTTP through a TCP relay that writes down what passes, one file a connection, and beside it the client's ledger.

Servers: Python's ``http.server``, and a relay of a few lines that grants CONNECT. Clients: ``http.client``, curl, and bytes
of our own where no client says them (pipelining). A line of ``NAME.txt`` is ``> HEX`` (client) or ``< HEX`` (server);
``NAME.json`` is what the client counted: requests by method, status codes, bytes of bodies sent and received. Users,
passwords and bodies are made up. Usage: record.py DIRECTORY
"""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections import Counter

PASSWORD = "not-a-secret"
BASIC = "Basic " + base64.b64encode(f"svc_report:{PASSWORD}".encode()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, body: bytes = b"", chunked: bool = False, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 700):
                piece = body[start : start + 700]
                self.wfile.write(f"{len(piece):x};part={start}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\nX-Rows: 12\r\n\r\n")
            return
        if status not in (204, 304) and status >= 200:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/secret" and self.headers.get("Authorization") != BASIC:
            self.answer(401, b"who are you?", WWW_Authenticate='Basic realm="plant"')
        elif path == "/chunked":
            self.answer(200, b"line,scrap\n" * 300, chunked=True)
        elif path == "/old":
            self.answer(304)
        elif path == "/close":
            self.close_connection = True
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"until the end " * 90)
        else:
            self.answer(200, b"part,line\n" * 500)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.body()
        # A query by POST: the data comes back.
        self.answer(200, b"genealogy\n" * 2000 if self.path == "/query" else str(len(body)).encode())

    def do_PUT(self) -> None:
        self.body()
        self.answer(201, b"")

    def do_DELETE(self) -> None:
        self.answer(204)


class Recorder:
    """Listens, and passes one connection on to ``target``, writing down both directions in the order of arrival."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lines: list[str] = []
        self.target = target
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        client, _ = self.listener.accept()
        server = socket.create_connection(self.target)
        threads = [
            threading.Thread(target=self.carry, args=(client, server, ">")),
            threading.Thread(target=self.carry, args=(server, client, "<")),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()
        server.close()
        self.listener.close()

    def carry(self, near: socket.socket, far: socket.socket, mark: str) -> None:
        try:
            while data := near.recv(65536):
                with self.lock:
                    self.lines.append(f"{mark} {data.hex()}")
                    far.sendall(data)
        except OSError:
            pass
        try:
            far.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def write(self, path: pathlib.Path, ledger: dict[str, object]) -> None:
        self.thread.join()
        path.with_suffix(".txt").write_text("\n".join(self.lines) + "\n")
        path.with_suffix(".json").write_text(json.dumps(ledger) + "\n")


class Relay(http.server.BaseHTTPRequestHandler):
    """Grants CONNECT to TARGET, whatever name was asked for."""

    protocol_version = "HTTP/1.1"
    target: tuple[str, int]

    def log_message(self, *_: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.send_response(200, "Connection established")
        self.end_headers()
        self.close_connection = True
        far = socket.create_connection(self.target)
        near = self.connection

        def back() -> None:
            while data := far.recv(65536):
                near.sendall(data)
            near.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=back)
        thread.start()
        while data := self.rfile.read1(65536):
            far.sendall(data)
        far.shutdown(socket.SHUT_WR)
        thread.join()


def serve(handler: type[http.server.BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> tuple[str, int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return "127.0.0.1", server.server_address[1]


class Ledger:
    def __init__(self) -> None:
        self.methods: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.sent = self.received = 0

    def ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: object = None, **headers: str) -> None:
        plain = {name.replace("_", "-"): value for name, value in headers.items()}
        chunked = not isinstance(body, bytes | None)
        connection.request(method, path, body, {"User-Agent": "extract/1.4 (plant)", **plain}, encode_chunked=chunked)
        answer = connection.getresponse()
        self.received += len(answer.read())
        self.methods[method] += 1
        self.codes[str(answer.status)] += 1
        self.sent += len(body) if isinstance(body, bytes) else sum(map(len, body)) if isinstance(body, list) else 0

    def as_json(self) -> dict[str, object]:
        return {"methods": self.methods, "codes": self.codes, "sent": self.sent, "received": self.received}


def session(into: pathlib.Path, target: tuple[str, int]) -> None:
    recorder, ledger = Recorder(target), Ledger()
    client = http.client.HTTPConnection("127.0.0.1", recorder.port)
    ledger.ask(client, "GET", "/reports/2026/%7Escrap.csv?token=swordfish&from=1", Host="reports.plant.example:8080")
    ledger.ask(client, "HEAD", "/reports/2026/scrap.csv")
    ledger.ask(client, "GET", "/secret")
    ledger.ask(client, "GET", "/secret", Authorization=BASIC)
    ledger.ask(client, "GET", "/chunked", Authorization=BASIC)
    ledger.ask(client, "GET", "/old", If_None_Match='"1"')
    ledger.ask(client, "POST", "/upload/part", [b"a" * 900, b"b" * 1100, b"c"], Transfer_Encoding="chunked")
    ledger.ask(client, "POST", "/query", b"select the genealogy")
    ledger.ask(client, "PUT", "/upload/big", b"x" * 9000)
    ledger.ask(client, "DELETE", "/upload/big")
    ledger.ask(client, "GET", "/close")
    client.close()
    recorder.write(into / "session", ledger.as_json())


def pipelined(into: pathlib.Path, target: tuple[str, int]) -> None:
    recorder, ledger = Recorder(target), Ledger()
    with socket.create_connection(("127.0.0.1", recorder.port)) as near:
        near.sendall(b"".join(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in (b"one", b"chunked", b"old", b"close")))
        while near.recv(65536):
            pass
    ledger.methods["GET"], ledger.received = 4, 5000 + 3300 + 14 * 90
    ledger.codes.update({"200": 3, "304": 1})
    recorder.write(into / "pipelined", ledger.as_json())


def by_curl(into: pathlib.Path, target: tuple[str, int]) -> None:
    recorder, ledger = Recorder(target), Ledger()
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"y" * 3000)
        file.flush()
        # The server answers 100 Continue by itself, and does not know h2c.
        arguments = ["curl", "-sS", "--http2", "-H", "Expect: 100-continue", "-T", file.name, "-u", f"svc_report:{PASSWORD}"]
        near = f"http://127.0.0.1:{recorder.port}"
        done = subprocess.run([*arguments, f"{near}/upload/curl", "--next", "-sS", f"{near}/one"], check=True, capture_output=True)
    ledger.methods.update({"PUT": 1, "GET": 1})
    ledger.codes.update({"100": 1, "201": 1, "200": 1})
    ledger.sent, ledger.received = 3000, len(done.stdout)
    recorder.write(into / "curl", ledger.as_json())


def connect(into: pathlib.Path, context: ssl.SSLContext) -> None:
    Relay.target = serve(Handler, context)
    recorder, ledger = Recorder(serve(Relay)), Ledger()
    proxy = ["--proxy", f"http://127.0.0.1:{recorder.port}", "--proxy-user", f"svc_lake:{PASSWORD}"]
    subprocess.run(["curl", "-sSk", *proxy, "https://plant-north.lake.example-cloud.eu/one"], check=True, capture_output=True)
    ledger.methods["CONNECT"], ledger.codes["200"] = 1, 1
    recorder.write(into / "connect", ledger.as_json())


def inside(into: pathlib.Path, target: tuple[str, int]) -> None:
    """HTTP in the clear through CONNECT."""
    Relay.target = target
    recorder, ledger = Recorder(serve(Relay)), Ledger()
    arguments = ["curl", "-sS", "--proxytunnel", "--proxy", f"http://127.0.0.1:{recorder.port}", "http://reports.plant.example:8080/one"]
    done = subprocess.run(arguments, check=True, capture_output=True)
    ledger.methods.update({"CONNECT": 1, "GET": 1})
    ledger.codes["200"], ledger.received = 2, len(done.stdout)
    recorder.write(into / "inside", ledger.as_json())


if __name__ == "__main__":
    directory = pathlib.Path(sys.argv[1])
    address = serve(Handler)
    session(directory, address)
    pipelined(directory, address)
    by_curl(directory, address)
    inside(directory, address)
    with tempfile.TemporaryDirectory() as name:
        pem = pathlib.Path(name) / "key.pem"
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=lake"]
        subprocess.run([*made, "-keyout", pem, "-out", pem.with_suffix(".crt")], check=True, capture_output=True)
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(pem.with_suffix(".crt"), pem)
        connect(directory, server_context)
