"""The story: a site is set up as docs/deploy.md says, a day is played, everything is restarted once, and the day is played again."""

import base64
import json
import os
import re
import secrets as secrets_
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from examples.broker import ROOT
from tests.compose import capture, images
from tests.compose.engine import Engine, Project

PLANT = "demo"
RUNNING = ("kafka", "postgres", "detect", "store", "alerts", "console", "prometheus", "alertmanager")
PROGRAMS = ("detect", "store", "alerts")
ONCE = "setup"
PROFILES = ("--profile", "agent", "--profile", "apply", "--profile", "console")
WITHIN_S = 240.0
SETTLED_S = 3.0
TAP = "hwtap0"
TAP_END = "hwtap1"
NET_RAW = 1 << 13
"""CAP_NET_RAW in the masks of /proc/PID/status (capabilities(7))."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Held:
    """What must be in the database: windows by id, findings by id."""

    flows: frozenset[str]
    findings: frozenset[str]


def play(engine: Engine, folder: Path, say: Say) -> None:
    """All of it.

    Raises:
        AssertionError: something does not hold.
    """
    project = site(engine, folder)
    days = capture.write_days(folder, 2)
    # What a run that was killed left in an engine's data that were kept.
    project.compose(*PROFILES, "down", "--volumes", "--remove-orphans", check=False)
    try:
        say("starting everything but Grafana")
        user(project)
        project.compose("--profile", "console", "up", "-d", "--no-build", *RUNNING)
        project.wait_healthy(RUNNING, WITHIN_S)
        say("every service is healthy")
        hardened(project)
        project.compose("run", "--rm", "-T", "--no-deps", "apply")
        run_agent(project, days[0], "first")
        first = expected(folder, days[:1])
        wait_held(project, first)
        say(f"the day is in the database: {len(first.flows)} windows, {len(first.findings)} findings")
        alerts = wait_alerted(project, first)
        say(f"{len(alerts)} alerts arrived")
        for name in RUNNING:
            project.compose("restart", name)
            project.wait_healthy((name,), WITHIN_S)
        project.wait_healthy(RUNNING, WITHIN_S)
        say("every service was restarted once")
        run_agent(project, days[0], "again")
        run_agent(project, days[1], "second")
        both = expected(folder, days)
        wait_held(project, both)
        say(f"both days are, the first one played twice: {len(both.flows)} windows, {len(both.findings)} findings")
        views(project)
        later = wait_alerted(project, both)
        assert set(alerts) <= set(later), "no alert is lost"
        say(f"{len(later)} alerts arrived, each raised once")
        live(project, say)
        figures(project)
        secret_nowhere(project)
    except (AssertionError, KeyError, ValueError, OSError):
        say(project.compose("logs", "--no-color", "--tail=40", check=False))
        raise
    finally:
        project.compose(*PROFILES, "down", "--volumes", "--remove-orphans", "--timeout", "20", check=False)


# The site


def site(engine: Engine, folder: Path) -> Project:
    """The folder of somebody who runs it: the compose file, secrets, and a signed declaration."""
    folder.chmod(0o755)
    shutil.copyfile(ROOT / "docker-compose.yml", folder / "docker-compose.yml")
    for part in ("deploy", "dashboards"):
        shutil.copytree(ROOT / part, folder / part)
    subprocess.run([ROOT / "deploy" / "compose" / "secrets.sh", folder], check=True)
    plant = folder / "plant"
    plant.mkdir()
    shutil.copyfile(ROOT / "examples" / "plant-demo.yaml", plant / "plant.yaml")
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    (plant / "approvers").write_text(f"reviewer ed25519 {base64.b64encode(public).decode()}\n")
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "reviewer.pem").write_bytes(private)
    hopwatch("declared", "sign", str(plant / "plant.yaml"), "--key", str(folder / "reviewer.pem"))
    return Project(engine, folder, {"HOPWATCH_INTERFACE": TAP, "HOPWATCH_PLANT": PLANT})


def hopwatch(*arguments: str) -> str:
    """This checkout's own command, outside of any container; 1 is findings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOPWATCH_")}
    done = subprocess.run([sys.executable, "-m", "hopwatch.cli", *arguments], cwd=ROOT, env=kept, check=False, capture_output=True)
    assert done.returncode in (0, 1), done.stderr.decode()
    return done.stdout.decode()


def expected(folder: Path, days: list[Path]) -> Held:
    """What one process says of the same captures, with the same declaration."""
    store = folder / f"expected-{len(days)}.db"
    plant = folder / "plant"
    for day in days:
        hopwatch(
            "watch",
            "-d",
            str(plant / "plant.yaml"),
            "--approvers",
            str(plant / "approvers"),
            "-r",
            str(day),
            "--store",
            str(store),
            "--json",
        )
    with sqlite3.connect(store) as db:
        flows = frozenset(row[0] for row in db.execute("SELECT event_id FROM flows"))
        findings = frozenset(row[0] for row in db.execute("SELECT finding_id FROM findings"))
    assert flows and findings
    return Held(flows, findings)


# The day


def run_agent(project: Project, day: Path, name: str) -> None:
    """An agent reads a capture and ends when the broker has everything; its spool is new, so nothing is left out as repeated."""
    arguments = ["agent", "--read", "/capture.pcap", "--plant", PLANT, "--spool", f"/tmp/{name}.spool"]
    project.compose(
        "run", "--rm", "-T", "--no-deps", "-e", "HOPWATCH_METRICS=127.0.0.1:9470", "-v", f"{day}:/capture.pcap:ro", "agent", *arguments
    )


def wait_held(project: Project, wanted: Held) -> None:
    """Until the database holds exactly this, and still does a while later."""
    deadline = time.monotonic() + WITHIN_S
    while (found := held(project)) != wanted:
        said = "\n".join(f"{name}:\n{project.logs(name)}" for name in PROGRAMS)
        assert time.monotonic() < deadline, (
            f"windows {difference(found.flows, wanted.flows)}; findings {difference(found.findings, wanted.findings)}\n{said}"
        )
        time.sleep(0.5)
    time.sleep(SETTLED_S)
    assert held(project) == wanted, "what is complete stays as it is"
    for table, key in (("flows", "event_id"), ("findings", "finding_id")):
        (double,) = rows(project, f"SELECT count(*) - count(DISTINCT {key}) FROM {table}")
        assert double == "0", f"{table}: {double} twice"


def wait_alerted(project: Project, wanted: Held) -> dict[str, int]:
    """Until every finding has its alert in the destination's file; the revisions of each alert that are there, each once."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        text = project.compose("exec", "-T", "alerts", "sh", "-c", "cat /var/lib/hopwatch/data/alerts.jsonl 2>/dev/null || true")
        events = [json.loads(line) for line in text.splitlines()]
        told = [event for event in events if event["kind"] == "alert"]
        if {event["finding"]["finding_id"] for event in told} >= wanted.findings and not waiting(project):
            break
        assert time.monotonic() < deadline, f"{len(told)} revisions of alerts arrived; {waiting(project)} wait\n{project.logs('alerts')}"
        time.sleep(0.5)
    ids = [event["event_id"] for event in told]
    assert len(ids) == len(set(ids)), "no revision is told twice"
    revisions: dict[str, list[int]] = {}
    for event in told:
        revisions.setdefault(event["alert_id"], []).append(event["revision"])
    for alert, numbers in revisions.items():
        assert numbers == list(range(len(numbers))), f"{alert}: revisions {numbers} arrived: each once, in order, none left out"
    first = [event["alert_id"] for event in told if event["change"] == "raised" and event["notify"]]
    assert len(first) == len(set(first)), "a person is told once that an alert is raised"
    return {alert: len(numbers) for alert, numbers in revisions.items()}


def waiting(project: Project) -> int:
    """Letters in the queues of all destinations."""
    (count,) = rows(project, "SELECT count(*) FROM deliveries WHERE state = 'waiting'")
    return int(count)


def views(project: Project) -> None:
    """What Grafana reads is there for its account, and what it must not read is not."""
    project.compose("run", "--rm", "-T", "--no-deps", "views")
    password = (project.folder / "secrets" / "grafana_postgres_password").read_text()
    command = ["psql", "--no-psqlrc", "-At", "-h", "localhost", "-U", "hopwatch_grafana", "-d", "hopwatch", "-c"]
    ask = ["exec", "-T", "-e", f"PGPASSWORD={password}", "postgres", *command]
    assert int(project.compose(*ask, "SELECT count(*) FROM movements")) > 0
    assert project.compose(*ask, "SELECT event FROM public.flows LIMIT 1", check=False) == ""


def user(project: Project) -> None:
    """Somebody who may use the console: its users are made before it starts."""
    arguments = ["console", "user", "add", "h.keller", "--role", "analyst", "--users", "/var/lib/hopwatch/data/users"]
    (project.folder / "password").write_text(secrets_.token_hex(16) + "\n")
    (project.folder / "password").chmod(0o444)
    shown = f"{project.folder}/password:/password:ro"
    project.compose(
        "--profile", "console", "run", "--rm", "-T", "--no-deps", "-v", shown, "console", *arguments, "--password-file", "/password"
    )


def difference(found: frozenset[str], wanted: frozenset[str]) -> str:
    return f"{len(found)}, expected {len(wanted)}; missing {sorted(wanted - found)[:3]}, too many {sorted(found - wanted)[:3]}"


def held(project: Project) -> Held:
    """What the database holds of the captures; of a table that is not there, nothing."""
    there = rows(project, "SELECT to_regclass('flows') IS NOT NULL AND to_regclass('findings') IS NOT NULL")
    if there != ["t"]:
        return Held(frozenset(), frozenset())
    return Held(frozenset(rows(project, "SELECT event_id FROM flows")), frozenset(rows(project, "SELECT finding_id FROM findings")))


def rows(project: Project, sql: str) -> list[str]:
    """What the database answers."""
    password = (project.folder / "secrets" / "database").read_text()
    command = ["psql", "--no-psqlrc", "-At", "-h", "localhost", "-U", "hopwatch", "-d", "hopwatch", "-c", sql]
    return project.compose("exec", "-T", "-e", f"PGPASSWORD={password}", "postgres", *command).splitlines()


# A live interface


def live(project: Project, say: Say) -> None:
    """The agent of the profile on an interface, with one right and no root; what is sent there is what it counts."""
    engine = project.engine
    engine.inside("ip", "link", "add", TAP, "type", "veth", "peer", "name", TAP_END)
    for name in (TAP, TAP_END):
        # Nothing of this kernel's own is to be among the frames.
        engine.inside("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
        engine.inside("ip", "link", "set", name, "arp", "off", "up")
    project.compose("--profile", "agent", "up", "-d", "--no-build", "--no-deps", "agent")
    project.wait_healthy(("agent",), WITHIN_S)
    status = status_of(project, "agent")
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == NET_RAW, status
    sent = capture.send(engine, TAP_END, 400.0)
    deadline = time.monotonic() + WITHIN_S
    while (seen := agent_figure(project, "hopwatch_sensor_packets_total")) < sent:
        assert time.monotonic() < deadline, f"{seen} of {sent} frames\n{project.logs('agent')}"
        time.sleep(0.5)
    assert seen == sent and agent_figure(project, "hopwatch_sensor_kernel_drops_total") == 0
    while rows(project, f"SELECT count(*) > 0 FROM heartbeats WHERE plant = '{PLANT}'") != ["t"]:
        assert time.monotonic() < deadline, project.logs("agent")
        time.sleep(0.5)
    say(f"the live agent saw all of {sent} frames, and its heartbeat is in the database")


def agent_figure(project: Project, name: str) -> int:
    page = project.compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", "http://agent:9464/metrics")
    found = re.search(rf"^{name} (\S+)$", page, re.MULTILINE)
    assert found, f"no {name}"
    return int(float(found[1]))


# What it promises


def status_of(project: Project, service: str) -> dict[str, str]:
    """/proc/PID/status of the service's program."""
    # With `init: true` the first process is Docker's; the program is its child.
    state = project.inspect(service)["State"]
    pid = str(state["Pid"])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if project.inspect(service)["HostConfig"].get("Init"):
        pid = children[0]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def hardened(project: Project) -> None:
    """No root, no rights, no way to get some, no image that can be written to, nothing open beyond this machine."""
    for name in RUNNING:
        status = status_of(project, name)
        assert "0" not in status["Uid"].split(), f"{name} is root"
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, f"{name}: {status['CapBnd']}"
        assert status["NoNewPrivs"] == "1", name
        host = project.inspect(name)["HostConfig"]
        assert host["ReadonlyRootfs"] and not host["Privileged"], name
    listening = project.engine.inside("ss", "-Hltn").splitlines()
    open_ = {line.split()[3] for line in listening}
    assert {address.rpartition(":")[2] for address in open_} == {"8710", "9092"}, open_
    assert open_ and all(address.startswith("127.") for address in open_), open_


def figures(project: Project) -> None:
    """Prometheus reaches every program, and the one alert that is always raised reaches Alertmanager."""
    deadline = time.monotonic() + WITHIN_S
    wanted = {f"hopwatch-{name}" for name in (*PROGRAMS, "agent")}
    while True:
        said = project.compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", "http://127.0.0.1:9090/api/v1/query?query=up")
        up = {one["metric"]["job"]: one["value"][1] for one in json.loads(said)["data"]["result"]}
        if {name for name, value in up.items() if value == "1"} >= wanted:
            return
        assert time.monotonic() < deadline, f"scraped: {up}"
        time.sleep(1.0)


def secret_nowhere(project: Project) -> None:
    """No password stands where others read: arguments, variables, labels, logs."""
    secrets = {path.name: path.read_text() for path in (project.folder / "secrets").iterdir()}
    for name in (*RUNNING, ONCE, "agent"):
        for place, said in (("inspect", json.dumps(project.inspect(name))), ("log", project.logs(name, 5000))):
            for secret, text in secrets.items():
                assert text not in said, f"{secret} stands in the {place} of {name}"


def images_started() -> set[str]:
    """The services this run starts, for the test that none is forgotten."""
    return {*RUNNING, ONCE, "agent", "apply", "views"} - {images.UNSTARTED}
