"""HTTP of real clients, direct and through a real relay, equals what the clients counted; the relay hides no destination.

Clients: curl and Python's `http.client`. Server: Python's `http.server`. Relay: tinyproxy. All traffic crosses the plant's tap.
"""

import http.client
import http.server
import json
import re
import subprocess
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from examples.plant import servers
from examples.plant.network import Host, Network, network
from examples.plant.record import recording
from examples.plant.watched import Json, hopwatch, replay, stored_flows
from tests.integration.declared import HEAD

MIB = 1 << 20
BODY = 10 * MIB
ADDRESSES = {"web": "10.20.1.40", "mw": "10.30.0.20", "proxy-out": "10.30.0.40"}
PASSWORD = "only-for-this-test"  # Goes over the wire in base64, into no event.
DECLARATION = (
    HEAD
    + """\
unlisted: critical
classes:
  production: {{sensitivity: confidential, transit: any, keep_max: 2y, off_site: approved}}
zones:
  site-ops: {{level: 3, nets: [{web}/32]}}
  idmz: {{level: 3.5, nets: [{mw}/32, {proxy-out}/32]}}
assets:
  reports: {{zone: site-ops, kind: web, at: "{web}:{web_port}"}}
  mw: {{zone: idmz, kind: middleware, at: {mw}}}
  proxy-out: {{zone: idmz, kind: proxy, at: "{proxy-out}:{proxy_port}", relay: true}}
data:
  scrap: {{class: production, in: [reports], paths: ["/reports/*"]}}
accounts:
  svc_report: {{kind: service, owner: integration, from: [mw], auth: password}}
conduits:
  c-up: {{from: idmz, to: site-ops, agent: tap-demo, sees: decoded}}
  c-down: {{from: site-ops, to: idmz, agent: tap-demo, sees: decoded}}
hops:
  fetch:
    {{who: svc_report, from: reports, to: mw, via: c-down, may: [get], what: [scrap], why: scrap analysis, limit: 1 GiB / 1h, keep: 7d,
     approved: {{by: h.keller, ticket: CHG-2}}}}
  store:
    {{who: svc_report, from: mw, to: reports, via: c-up, may: [put], what: [scrap], why: scrap analysis, limit: 1 GiB / 1h, keep: 7d,
     approved: {{by: h.keller, ticket: CHG-3}}}}
"""
)


class Reports(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if self.path.endswith("/chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 60_000):
                piece = body[start : start + 60_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/reports/secret" and "Authorization" not in self.headers:
            self.reply(401, b"")
            return
        self.reply(200, b"part;line;scrap\n" * (BODY // 16) if "big" in self.path else b"small")

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(201, b"")


@dataclass(slots=True)
class Counted:
    """What one client counted on one connection."""

    port: int
    codes: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0

    @property
    def requests(self) -> int:
        return sum(number for code, number in self.codes.items() if code != "100")


@dataclass(frozen=True, slots=True)
class Seen:
    """The day: each client's counts by name, what `inspect` and `watch` made of the capture, and where the servers were."""

    counted: dict[str, Counted]
    conversations: dict[int, Json]
    flows: dict[int, list[Json]]
    web: tuple[str, int]
    relay: tuple[str, int]


def by_curl(host: Host, *arguments: str, sent: int = 0) -> Counted:
    """One curl process on one connection; ``sent`` is the size of the file it sends (its own count includes chunk sizes)."""
    local = host.local_address()
    bound = ["--interface", local[0]] if local else []
    command = ["curl", "-sSv", "--max-time", "60", *bound, "-u", f"svc_report:{PASSWORD}", "-o", "/dev/null", "-w", "%{json}\n", *arguments]
    done = subprocess.run(host.command(command), check=True, capture_output=True, text=True)
    transfer = json.loads(done.stdout)
    counted = Counted(transfer["local_port"], sent=sent, received=transfer["size_download"])
    # Every status line that curl was given, the relay's and the interim ones included.
    counted.codes.update(re.findall(r"^< HTTP/1\.[01] (\d{3})", done.stderr, re.MULTILINE))
    return counted


def by_http_client(host: Host, at: tuple[str, int], asks: list[tuple[str, str, bytes | list[bytes] | None, bool]]) -> Counted:
    """Several requests on one kept connection."""

    def work() -> Counted:
        client = http.client.HTTPConnection(*at, timeout=60, source_address=host.local_address())
        client.connect()
        counted = Counted(client.sock.getsockname()[1])
        login = {"Authorization": "Basic " + b64encode(f"svc_report:{PASSWORD}".encode()).decode()}
        for method, path, body, named in asks:
            chunked = {"Transfer-Encoding": "chunked"} if isinstance(body, list) else {}
            client.request(method, path, body, {**chunked, **(login if named else {})}, encode_chunked=isinstance(body, list))
            answer = client.getresponse()
            counted.received += len(answer.read())
            counted.sent += sum(map(len, body)) if isinstance(body, list) else len(body or b"")
            counted.codes[str(answer.status)] += 1
        client.close()
        return counted

    return host.call(work)


def work(net: Network, web: tuple[str, int], relay: tuple[str, int], big: Path) -> dict[str, Counted]:
    mw, origin, proxy = net.hosts["mw"], f"http://{web[0]}:{web[1]}", ["-x", f"http://{relay[0]}:{relay[1]}"]
    kept: list[tuple[str, str, bytes | list[bytes] | None, bool]] = [
        ("GET", "/reports/secret", None, False),
        ("GET", "/reports/secret", None, True),
        ("HEAD", "/reports/big", None, True),
        ("GET", "/reports/big/chunked", None, True),
        ("PUT", "/reports/parts", [b"a" * 100_000, b"b" * 7, b"c" * MIB], True),
        ("GET", "/reports/today?token=swordfish", None, True),
    ]
    return {
        "curl GET 10 MiB": by_curl(mw, f"{origin}/reports/big"),
        "curl GET 10 MiB in chunks": by_curl(mw, f"{origin}/reports/big/chunked"),
        "curl PUT 10 MiB": by_curl(mw, "-T", str(big), "-H", "Expect: 100-continue", f"{origin}/reports/2026", sent=BODY),
        "curl PUT of unknown length": by_curl(mw, "-T", str(big), "-H", "Transfer-Encoding: chunked", f"{origin}/reports/x", sent=BODY),
        "http.client, kept": by_http_client(mw, web, kept),
        "curl by absolute form": by_curl(mw, *proxy, f"{origin}/reports/big"),
        "curl by CONNECT": by_curl(mw, *proxy, "-p", f"{origin}/reports/big"),
        "another path": by_curl(mw, f"{origin}/admin/big"),
        "another destination": by_curl(mw, *proxy, "-p", f"http://{relay[0]}:{relay[1]}/reports/big"),
    }


@pytest.fixture(scope="module")
def seen(namespaces: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    missing = [name for name in ("tinyproxy", "curl") if servers.program(name) is None]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}; `make setup` as root installs them")
    folder = tmp_path_factory.mktemp("http")
    big = folder / "big"
    big.write_bytes(b"lot;value\n" * (BODY // 10))
    with network(ADDRESSES, namespaces=namespaces, kernel_chooses="nobody") as net, servers.processes(folder) as held:
        web, proxy = net.hosts["web"], net.hosts["proxy-out"]
        web_at, relay_at = (web.address, net.port(8080)), (proxy.address, net.port(3128))
        server = web.call(lambda: http.server.ThreadingHTTPServer(web_at, Reports))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        settings = folder / "tinyproxy.conf"
        listening = f"User nobody\nPort {relay_at[1]}\nListen {relay_at[0]}\nBind {relay_at[0]}\nTimeout 60\nLogLevel Warning\n"
        settings.write_text(listening, encoding="ascii")
        relay = held.start("tinyproxy", proxy, [str(servers.program("tinyproxy")), "-d", "-c", str(settings)], unprivileged=False)
        held.wait_for("tinyproxy", relay, proxy, relay_at)
        capture = folder / "http.pcap.gz"
        with recording(net, capture):
            counted = work(net, web_at, relay_at, big)
        server.shutdown()
        server.server_close()
        thread.join(10)
    declaration = folder / "plant.yaml"
    places = {name: host.address for name, host in net.hosts.items()}
    declaration.write_text(DECLARATION.format(**places, web_port=web_at[1], proxy_port=relay_at[1]), encoding="utf-8")
    inspected = subprocess.run(hopwatch("inspect", "--json", str(capture)), check=True, capture_output=True, text=True)
    conversations = {}
    for line in inspected.stdout.splitlines():
        one = json.loads(line)
        if one["kind"] == "conversation":
            conversations[one["a_port"]] = one
    watch, code = replay([capture], declaration, folder / "store.db")
    assert code in (0, 1), watch.errors
    flows: dict[int, list[Json]] = {}
    for flow in stored_flows(folder / "store.db"):
        client = flow["source"] if flow["opened_by"] == "source" else flow["destination"]
        flows.setdefault(client["port"], []).append(flow)
    yield Seen(counted, conversations, flows, web_at, relay_at)


def test_requests_statuses_and_bytes_of_bodies_are_the_clients_own(seen: Seen) -> None:
    for name, counted in seen.counted.items():
        facts = seen.conversations[counted.port]["facts"]["http"]
        assert facts["response_codes"] == counted.codes, name
        assert facts["requests"] == counted.requests, name
        assert (facts["request_body_bytes"], facts["response_body_bytes"]) == (counted.sent, counted.received), name
        assert counted.sent + counted.received >= BODY or "another destination" in name, name


def test_messages_are_requests_and_bytes_are_those_of_the_stream(seen: Seen) -> None:
    for name, counted in seen.counted.items():
        line, flows = seen.conversations[counted.port], seen.flows[counted.port]
        assert sum(flow["messages"] for flow in flows) == counted.requests, name
        total = sum(flow["bytes"] + flow["bytes_back"] for flow in flows)
        assert total == line["stream_bytes_ab"] + line["stream_bytes_ba"], name
        assert line["lost_bytes"] == 0, name


def test_direction_account_and_object_are_those_of_each_request(seen: Seen) -> None:
    uploads = seen.flows[seen.counted["curl PUT 10 MiB"].port]
    assert {(flow["operation"], flow["account"], flow["source"]["port"]) for flow in uploads} == {
        ("put", "svc_report", seen.counted["curl PUT 10 MiB"].port)
    }
    kept = seen.flows[seen.counted["http.client, kept"].port]
    accounts = {(flow["operation"], flow["account"]) for flow in kept}
    assert accounts == {("get", None), ("refused", None), ("get", "svc_report"), ("put", "svc_report")}
    objects = {name for flow in kept for entry in flow["objects"] for name in entry["names"]}
    assert objects == {"/reports/secret", "/reports/big", "/reports/big/chunked", "/reports/parts", "/reports/today"}


def test_relay_names_the_destination_and_both_legs_are_read(seen: Seen) -> None:
    for name, by in (("curl by absolute form", "absolute-form"), ("curl by CONNECT", "connect")):
        flows = seen.flows[seen.counted[name].port]
        for flow in flows:
            server = flow["destination"] if flow["opened_by"] == "source" else flow["source"]
            assert server["names"][0] == {"name": seen.web[0], "by": by, "port": seen.web[1]}, name
        assert sum(flow["bytes"] for flow in flows if flow["operation"] == "get") > BODY
    legs = [line for line in seen.conversations.values() if line["a"] == seen.relay[0] and line["b"] == seen.web[0]]
    assert [leg["facts"]["http"]["response_body_bytes"] for leg in legs] == [BODY, BODY]


def test_verdicts_follow_object_and_destination_through_the_relay(seen: Seen) -> None:
    def verdicts(name: str, *operations: str) -> set[str]:
        return {flow["judgement"]["verdict"] for flow in seen.flows[seen.counted[name].port] if flow["operation"] in operations}

    for name in ("curl GET 10 MiB", "curl GET 10 MiB in chunks", "curl by absolute form", "curl by CONNECT"):
        assert verdicts(name, "get") == {"declared"}, name
    assert verdicts("curl PUT 10 MiB", "put") == {"declared"}
    assert verdicts("another path", "get") == {"undeclared-data"}
    assert verdicts("another destination", "connect", "get", "refused") == {"undeclared-hop"}


def test_no_secret_of_a_request_is_in_any_event(seen: Seen) -> None:
    text = json.dumps(seen.flows)
    secrets = (PASSWORD, b64encode(f"svc_report:{PASSWORD}".encode()).decode(), "swordfish")
    assert not [secret for secret in secrets if secret in text]
