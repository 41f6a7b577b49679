"""What curl asks a SOCKS relay for is the destination, and what goes through is read: counted against curl's own figures."""

import http.server
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from examples.plant.network import network
from examples.plant.record import recording
from examples.plant.watched import Json, replay, stored_flows
from hopwatch.declared.load import load
from tests.integration.declared import HEAD
from tests.integration.receivers import program

ADDRESSES = {"web": "10.40.9.50", "proxy-out": "10.30.0.40", "mw": "10.30.0.20"}
BODY = b"lot;value\n" * 20_000
PASSWORD = "only-for-this-test"
DECLARATION = (
    HEAD
    + """\
classes:
  production: {{sensitivity: confidential, transit: any, keep_max: 2y, off_site: approved}}
zones:
  idmz: {{level: 3.5, nets: [{proxy}/32, {mw}/32]}}
  analytics: {{level: 4, nets: [{web}/32]}}
assets:
  proxy-out: {{zone: idmz, kind: proxy, at: "{proxy}:{proxy_port}", relay: true}}
  web: {{zone: analytics, kind: lake, at: "{web}:{web_port}"}}
"""
)


class Reports(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        return


def exactly(wire: socket.socket, count: int) -> bytes:
    taken = b""
    while len(taken) < count:
        part = wire.recv(count - len(taken))
        if not part:
            raise ConnectionError
        taken += part
    return taken


def relayed(client: socket.socket, here: str) -> None:
    """RFC 1928 and 1929, as a relay; a name that is asked for is none that it may reach unless it is an address."""
    with client, suppress(ConnectionError):
        _, count = exactly(client, 2)
        methods = exactly(client, count)
        client.sendall(bytes([5, 2 if 2 in methods else 0]))
        if 2 in methods:
            _, length = exactly(client, 2)
            exactly(client, length)
            exactly(client, exactly(client, 1)[0])
            client.sendall(b"\1\0")
        _, _, _, kind = exactly(client, 4)
        host = socket.inet_ntoa(exactly(client, 4)) if kind == 1 else exactly(client, exactly(client, 1)[0]).decode()
        (port,) = struct.unpack("!H", exactly(client, 2))
        answer = bytes([5, 0 if host.replace(".", "").isdigit() else 2, 0, 1, 0, 0, 0, 0, 0, 0])
        client.sendall(answer)
        if answer[1]:
            return
        with socket.create_connection((host, port), 10, (here, 0)) as server:
            back = threading.Thread(target=poured, args=(server, client), daemon=True)
            back.start()
            poured(client, server)
            back.join(10)


def poured(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


@dataclass
class Seen:
    """The flows of the client's leg, by its port."""

    flows: dict[int, list[Json]]
    ports: list[int]
    web: tuple[str, int]


@pytest.fixture(scope="module")
def seen(namespaces: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    curl = program("curl", "curl")
    folder = tmp_path_factory.mktemp("socks")
    with network(ADDRESSES, namespaces=namespaces, kernel_chooses="mw") as net:
        web_at, relay_at = (net.hosts["web"].address, net.port(8080)), (net.hosts["proxy-out"].address, net.port(1080))
        server = net.hosts["web"].call(lambda: http.server.ThreadingHTTPServer(web_at, Reports))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        listener = net.hosts["proxy-out"].call(lambda: socket.create_server(relay_at))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=relayed, args=(client, relay_at[0]), daemon=True).start()

        threading.Thread(target=lambda: net.hosts["proxy-out"].call(serve), daemon=True).start()
        ports = []
        with recording(net, folder / "day.pcap.gz"):
            for way in ("socks5", "socks5h"):
                login = f"{way}://svc_lake:{PASSWORD}@{relay_at[0]}:{relay_at[1]}"
                for url in (f"http://{web_at[0]}:{web_at[1]}/raw/day", "http://lake.example/raw/day"):
                    if way == "socks5" and "lake" in url:
                        continue
                    command = [curl, "-s", "-o", "/dev/null", "-w", "%{local_port}", "--proxy", login, "--noproxy", "", url]
                    said = subprocess.run(net.hosts["mw"].command(command), capture_output=True, text=True, check=False)
                    ports.append(int(said.stdout))
        listener.close()
        server.shutdown()
        server.server_close()
    declaration = folder / "plant.yaml"
    places = {"web": web_at[0], "proxy": relay_at[0], "mw": net.hosts["mw"].address}
    declaration.write_text(DECLARATION.format(**places, web_port=web_at[1], proxy_port=relay_at[1]), encoding="utf-8")
    assert load(declaration)
    replay([folder / "day.pcap.gz"], declaration, folder / "store.db")
    flows: dict[int, list[Json]] = {}
    for flow in stored_flows(folder / "store.db"):
        for end in (flow["source"], flow["destination"]):
            flows.setdefault(end["port"], []).append(flow)
    yield Seen(flows, ports, web_at)


def test_what_curl_asks_the_relay_for_is_the_destination_and_what_goes_through_is_read(seen: Seen) -> None:
    for port in seen.ports[:2]:
        (got,) = [flow for flow in seen.flows[port] if flow["operation"] == "get"]
        assert [part["names"] for part in got["objects"]] == [["/raw/day"]]
        assert sum(flow["bytes"] for flow in seen.flows[port] if flow["operation"] == "get") >= len(BODY)
        assert {"name": seen.web[0], "by": "socks", "port": seen.web[1]} in got["source"]["names"]


def test_who_asked_is_told_and_what_the_relay_did_not_allow_is_refused(seen: Seen) -> None:
    refused = [flow for flow in seen.flows[seen.ports[2]] if flow["operation"] == "refused"]
    assert [name["name"] for flow in refused for name in flow["destination"]["names"]] == ["lake.example"]
    assert {flow["protection"]["authentication"] for flow in refused} == {"password"}
    assert len({flow["account"] for flow in refused} - {None}) == 1
    assert PASSWORD not in json.dumps(seen.flows)
