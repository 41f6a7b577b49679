"""Record what the programs of a version write to a real broker: one message a line in NAME.jsonl, as it lies in its topic.

    python -m tests.data.messages.record tests/data/messages/2026-11.jsonl

A recording is never written again: a later version must read what an earlier one wrote. A new version adds its own.
"""

import gzip
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from examples.broker import kafka
from hopwatch.bus.admin import Cluster
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Publisher, Reader
from hopwatch.bus.topics import TOPICS

ROOT = Path(__file__).resolve().parents[3]
CAPTURE, DECLARATION = ROOT / "examples" / "plant-day.pcap.gz", ROOT / "examples" / "plant-demo.yaml"
EACH_MAX = 2
HOPWATCH = [sys.executable, "-m", "hopwatch.cli"]


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, kafka(Path(folder) / "cluster") as cluster:
        there = Connection(bootstrap_servers=cluster.bootstrap)
        administrator = Cluster(there)
        administrator.create(administrator.wanted(partitions=1))
        at = ["--bootstrap-servers", cluster.bootstrap]
        # A copy outside of any repository: whose checkout this is concerns nobody.
        declaration = shutil.copy(DECLARATION, folder)
        run("declared", "apply", *at, "--allow-unsigned", "--allow-dirty", str(declaration), folder=folder)
        run("agent", "--brokers", cluster.bootstrap, "--plant", "demo", "-r", str(CAPTURE), folder=folder)
        run("agent", "--brokers", cluster.bootstrap, "--plant", "holes", "-r", str(holes(Path(folder))), folder=folder)
        # Only who listens beats; nothing speaks on this port.
        live = ("-i", "lo", "--bpf", "port 9", "--duration", "1")
        run("agent", "--brokers", cluster.bootstrap, "--plant", "demo", "--agent", "live", *live, folder=folder)
        findings(there, folder)
        alerts(cluster.bootstrap, folder)
        messages = {kind: everything(there, kind) for kind in TOPICS}
        publisher: Publisher[int] = Publisher(there, speaker="detectors/record")
        bad = messages["flow"][0]
        publisher.reject(bad, "start: string_pattern_mismatch", 0)
        publisher.close()
        messages["rejected"] = everything(there, "rejected")
    lines, seen = [], {}
    for kind, found in messages.items():
        for message in found:
            said = json.loads(message.value)
            shape = (
                kind,
                said.get("protocol"),
                said.get("operation"),
                said.get("verdict"),
                said.get("stage"),
                said.get("depth"),
                said.get("change"),
                said.get("action"),
            )
            seen[shape] = seen.get(shape, 0) + 1
            if seen[shape] <= EACH_MAX:
                headers = {name: value.decode() for name, value in message.headers().items()}
                lines.append(
                    {"topic": message.partition.topic, "key": message.key.decode(), "headers": headers, "value": message.value.decode()}
                )
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} messages", {kind: len(found) for kind, found in messages.items()})


def run(*arguments: str, folder: str) -> str:
    done = subprocess.run([*HOPWATCH, *arguments], capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode == 2:
        raise SystemExit(done.stderr)
    return done.stdout


def holes(folder: Path) -> Path:
    """The capture without every 40th packet, so that losses are said."""
    data = gzip.decompress(CAPTURE.read_bytes())
    order, kept, at, number = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">", [data[:24]], 24, 0
    while at < len(data):
        size = 16 + struct.unpack_from(f"{order}I", data, at + 8)[0]
        number += 1
        if number % 40:
            kept.append(data[at : at + size])
        at += size
    path = folder / "holes.pcap"
    path.write_bytes(b"".join(kept))
    return path


def findings(there: Connection, folder: str) -> None:
    """The embedded run's, as a detector publishes them."""
    publisher: Publisher[int] = Publisher(there, speaker="detectors/record")
    for line in run("watch", "--json", "-d", str(DECLARATION), "-r", str(CAPTURE), "--store", "none", folder=folder).splitlines():
        event = json.loads(line)
        if event["kind"] in ("finding", "loss", "heartbeat"):
            publisher.send(event["kind"], event["plant"], event["event_id"], line.encode(), 0)
    publisher.close()


def alerts(bootstrap: str, folder: str) -> None:
    """Those of an embedded run, and a decision of each kind that one alert can take, as `hopwatch alerts run` delivers them."""
    settings = Path(folder) / "alerts.toml"
    settings.write_text(f'[kafka]\nbootstrap_servers = "{bootstrap}"\n[alerts.destinations.bus]\nkind = "kafka"\n', encoding="utf-8")
    store = ["--store", str(Path(folder) / "alerts.db"), "--config", str(settings)]
    run("watch", "--json", "-d", str(DECLARATION), "-r", str(CAPTURE), *store, folder=folder)
    run("alerts", "run", "--once", *store, folder=folder)
    listed = [json.loads(line)["alert_id"] for line in run("alerts", "list", "--json", *store, folder=folder).splitlines()]
    said = ["--reason", "recorded", "--person", "analyst-7"]
    run("alerts", "ack", *listed[:1], *said, *store, folder=folder)
    run("alerts", "shelve", *listed[:1], *said, "--for", "8h", *store, folder=folder)
    run("alerts", "suppress", "--verdict", "undeclared-account", *said, "--for", "8h", "--ticket", "CHG-5120", *store, folder=folder)
    run("alerts", "resolve", *listed[1:2], *said, "--as", "benign-trigger", *store, folder=folder)
    sender = subprocess.Popen([*HOPWATCH, "alerts", "run", *store], cwd=folder, stderr=subprocess.DEVNULL)
    for _ in range(120):
        waiting = [json.loads(line) for line in run("alerts", "destinations", "--json", *store, folder=folder).splitlines()]
        if waiting and not any(one["waiting"] for one in waiting):
            break
        time.sleep(0.5)
    sender.terminate()
    sender.wait()


def everything(there: Connection, kind: str):
    with closing(Reader(there, kind)) as reader:
        found = []
        while not reader.caught_up:
            found += reader.poll(0.5)
        return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
