"""`make demo`: a plant day in about a minute, watched live, and what hopwatch says held against what the clients know.

Real servers and clients work on real interfaces (network namespaces as root); without the rights or the servers for that,
the day recorded in `examples/plant-day.pcap.gz` goes through the same path. Exit 0: everything agrees; 1: it does not;
2: it could not be shown.
"""

import argparse
import contextlib
import json
import random
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from alerts.book import AlertQuery
from dashboards.console.settings import ADDRESS
from detectors.judgement import TABLE
from examples.plant import servers, story
from examples.plant.day import declaration_for, plant
from examples.plant.ledger import Ledger
from examples.plant.network import loopback_capture_works, namespaces_work
from examples.plant.record import recording
from examples.plant.story import Act
from examples.plant.watched import (
    COUNTED,
    Connection,
    WatchError,
    connection_of,
    hopwatch,
    replay,
    stored_flows,
    sums_per_account,
    watching,
)
from hopwatch.console import booked

HERE = Path(__file__).parent
DECLARATION = HERE / "plant-demo.yaml"
CAPTURE = HERE / "plant-day.pcap.gz"
EXPECTED = HERE / "plant-day.expected.json"
KEPT = HERE.parent / "build" / "demo"
DELAY_S_MAX = 2.0
APPROVED = {"declared", "service", "declared-in-part"}
# How long after its last packet a window may take to end and be judged.
SETTLE_S = 2.5

# Wide enough for the tables where the output is no terminal.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
Amounts = Mapping[str, Mapping[str, int]]


def main() -> int:
    options = argparse.ArgumentParser(prog="make demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, help="repeat the day of this seed")
    options.add_argument("--recorded", action="store_true", help="play the recorded day even where a live one is possible")
    options.add_argument("--record", action="store_true", help=f"run live and renew {CAPTURE.name} and {EXPECTED.name}")
    options.add_argument("--stay", action="store_true", help="serve the console over the day afterwards, until Ctrl-C")
    given = options.parse_args()
    # SIGTERM takes the same way out as Ctrl-C, so that servers and namespaces are gone afterwards.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        reason = "--recorded" if given.recorded else why_not_live()
        if reason is None:
            code = live(secrets.randbelow(1_000_000) if given.seed is None else given.seed, record=given.record)
        else:
            console.print(f"No live plant here ({reason}): playing the recorded day.\n")
            code = recorded()
        look(stay=given.stay)
        return code
    except (WatchError, servers.PlantError, OSError, subprocess.CalledProcessError) as error:
        console.print(f"[bold red]demo:[/] {error}")
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started has been ended")
        return 2


def why_not_live() -> str | None:
    missing = servers.missing_servers()
    if missing:
        return f"not installed: {', '.join(missing)}"
    if not namespaces_work() and not loopback_capture_works():
        return "capturing needs root"
    return None


def live(seed: int, *, record: bool) -> int:
    started = time.time()
    chance = random.Random(seed)
    namespaces = namespaces_work()
    console.rule("a plant day")
    console.print(f"seed {seed} (repeat it with: make demo SEED={seed})")
    console.print(f"network: {'one namespace per host, one bridge as tap' if namespaces else 'addresses of 127.0.0.0/8, tap on lo'}")

    def say(text: str) -> None:
        console.print(f"  {time.time() - started:5.1f} s  {text}")

    with contextlib.ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hopwatch-demo-")))
        day = stack.enter_context(plant(chance, namespaces=namespaces, rows_max=800, recorded=record))
        say("PostgreSQL, Mosquitto, an OPC UA server, two TLS servers and a resolver are up")
        if record:
            stack.enter_context(recording(day.network, CAPTURE))
        store = temporary / "store.db"
        declaration = declaration_for(day.network, DECLARATION, day.ports, temporary)
        with watching(day.network, declaration, store) as watch:
            say("hopwatch watch listens")
            console.print("\n[bold]approved work[/]")
            story.approved_work(day, chance, say)
            time.sleep(SETTLE_S)
            early = watch.findings()
            console.print(f"           findings so far: {len(early)}")
            console.print("\n[bold]what nobody approved[/]")
            acts: list[Act] = []
            for act in story.acts(day, chance, say):
                acts.append(act)
                time.sleep(SETTLE_S)
            code = watch.stop()
        expected = {"seed": seed, "ledger": day.ledger.as_json(), "acts": [act.as_json() for act in acts]}
        delays = delays_of(acts, watch.findings(), {event["event_id"]: event for _, event in watch.of("flow")})
        if code != 1:
            console.print(f"[red]hopwatch watch ended with {code}, expected 1 (findings)[/]  {' '.join(watch.errors[-3:])}")
        agreed = report(store, expected, [event for _, event in watch.findings().values()], delays) and code == 1 and not early
        keep(store, declaration)
    if record and agreed:
        EXPECTED.write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
        console.print(f"recorded {CAPTURE.name} ({CAPTURE.stat().st_size} bytes) and {EXPECTED.name}")
    return verdict(agreed, started)


def recorded() -> int:
    started = time.time()
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="hopwatch-demo-") as temporary:
        store = Path(temporary) / "store.db"
        console.print(f"hopwatch watch -d {DECLARATION.name} -r {CAPTURE.name}")
        watch, code = replay([CAPTURE], DECLARATION, store, "--alerts")
        if code != 1:
            console.print(f"[red]hopwatch watch ended with {code}, expected 1 (findings)[/]  {' '.join(watch.errors[-3:])}")
        agreed = report(store, expected, [event for _, event in watch.findings().values()], None) and code == 1
        keep(store, DECLARATION)
    return verdict(agreed, started)


def keep(store: Path, declaration: Path) -> None:
    """Put the day where the console finds it after this run; the one before goes."""
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(store)) as held, contextlib.closing(sqlite3.connect(KEPT / "store.db")) as copy:
        held.backup(copy)
    (KEPT / "store.db").chmod(0o600)
    shutil.copy(f"{store}.key", KEPT / "store.db.key")
    shutil.copy(declaration, KEPT / "plant.yaml")


def look(*, stay: bool) -> None:
    """Where the day's alerts can be looked at; with ``stay`` serve them until somebody has seen enough."""
    book = booked(str(KEPT / "store.db"))
    try:
        book.step(time.time_ns())
        alerts = len(book.alerts(AlertQuery(state="open")))
    finally:
        book.close()
    command = hopwatch("console", "-d", near(KEPT / "plant.yaml"), "--store", near(KEPT / "store.db"))
    console.print(f"\nits {alerts} alerts, and the map of what moved: [bold]http://{ADDRESS}/alerts[/]", soft_wrap=True)
    if not stay:
        console.print(f"  served by: {' '.join([near(Path(command[0])), *command[1:]])}", soft_wrap=True)
        return
    console.print("  until Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run(command, check=False)


def near(path: Path) -> str:
    """The path as it is written from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def verdict(agreed: bool, started: float) -> int:
    took = time.time() - started
    console.print(f"\n{'[bold green]everything agrees' if agreed else '[bold red]it does not agree'}[/] after {took:.0f} s")
    return 0 if agreed else 1


def delays_of(acts: Sequence[Act], findings: Mapping[str, tuple[float, Any]], flows: Mapping[str, Any]) -> dict[str, float]:
    """Seconds from the start of each act to the line that told its finding."""
    delays: dict[str, float] = {}
    for act in acts:
        mine = {(entry.client, entry.server) for entry in act.entries}
        moments = [moment for moment, finding in findings.values() if finding["verdict"] == act.verdict and touches(finding, flows, mine)]
        if moments:
            delays[act.name] = min(moments) - act.began
    return delays


def touches(finding: Any, flows: Mapping[str, Any], connections: set[Connection]) -> bool:
    return any(connection_of(flows[identity]) in connections for identity in finding["evidence"] if identity in flows)


def report(store: Path, expected: Any, findings: Sequence[Any], delays: Mapping[str, float] | None) -> bool:
    """The last screen: the product's own list, then both tables; whether everything agrees."""
    console.print()
    console.rule("hopwatch findings")
    subprocess.run(hopwatch("findings", "--store", str(store)), check=False)
    alerted = alerts_agree(store, findings)
    flows = stored_flows(store)
    console.print()
    agreed = [ledger_table(Ledger.from_json(expected["ledger"]), flows), acts_table(expected["acts"], flows, findings, delays)]
    return all([alerted, *agreed])


def alerts_agree(store: Path, findings: Sequence[Any]) -> bool:
    """What a person is called to: one alert for each finding, and how many notifications that made."""
    console.print()
    console.rule("hopwatch alerts list")
    subprocess.run(hopwatch("alerts", "list", "--store", str(store)), check=False)
    listed = subprocess.run(hopwatch("alerts", "list", "--json", "--store", str(store)), check=False, capture_output=True, text=True)
    alerts = [json.loads(line) for line in listed.stdout.splitlines()]
    told = sum(alert["notified"] for alert in alerts)
    console.print(f"{len(alerts)} alerts of {len(findings)} findings; a person is told {told} times")
    if {alert["finding"]["finding_id"] for alert in alerts} == {finding["finding_id"] for finding in findings}:
        return True
    console.print("[bold red]alerts are not those of the findings[/]")
    return False


def ledger_table(ledger: Ledger, flows: Sequence[Any]) -> bool:
    table = Table(title="what the clients counted = what the store holds", title_justify="left", caption_justify="left")
    table.add_column("account")
    for name in COUNTED:
        table.add_column(name, justify="right")
    table.add_column("")
    told, held = ledger.per_account(), sums_per_account(flows, ledger)
    protocols = {entry.account: entry.protocol for entry in ledger.entries}
    agreed = True
    for account, amounts in told.items():
        compared = COMPARED[protocols[account]]
        same = all(amounts[name] == held[account][name] for name in compared)
        agreed &= same
        cells = [cell(amounts[name], held[account][name]) if name in compared else "-" for name in COUNTED]
        table.add_row(account, *cells, "[green]equal[/]" if same else "[bold red]differs[/]")
    console.print(table)
    return agreed


# What a client can count exactly: statements behind a driver's cursor and OPC UA's own keep-alives it cannot.
COMPARED = {
    "postgresql": ("rows", "bytes"),
    "mqtt": ("messages", "bytes"),
    "opcua": ("values", "bytes"),
    "tls": ("bytes",),
}


def cell(told: int, held: int) -> str:
    return f"{told:,}" if told == held else f"[red]{told:,} but {held:,}[/]"


def acts_table(acts: Sequence[Any], flows: Sequence[Any], findings: Sequence[Any], delays: Mapping[str, float] | None) -> bool:
    table = Table(title="what nobody approved, and what was said of it", title_justify="left")
    for name in ("act", "verdict", "nearest hop", "finding", "delay", ""):
        table.add_column(name, justify="right" if name == "delay" else "left")
    by_id = {flow["event_id"]: flow for flow in flows}
    agreed, explained = True, set()
    for act in acts:
        mine = {(tuple(client), tuple(server)) for client, server in act["connections"]}
        about = [finding for finding in findings if touches(finding, by_id, mine)]
        # The verdict by its windows; what questions say of them besides is told, and no part of what is expected.
        verdicts = {finding["verdict"] for finding in about}
        own = [finding for finding in about if finding["verdict"] in TABLE]
        hops = {finding["nearest_hop"] for finding in own}
        delay = None if delays is None else delays.get(act["name"], float("inf"))
        same = (
            {finding["verdict"] for finding in own} == {act["verdict"]}
            and hops == {act["nearest_hop"]}
            and (delay is None or delay <= DELAY_S_MAX)
        )
        agreed &= same
        explained |= {finding["finding_id"] for finding in about}
        table.add_row(
            act["name"],
            " ".join(sorted(verdicts)) or "none",
            " ".join(sorted(hop or "none" for hop in hops)) or "-",
            " ".join(finding["finding_id"][:10] for finding in about),
            "recorded" if delay is None else f"{delay:.2f} s",
            "[green]as expected[/]"
            if same
            else f"[bold red]expected {act['verdict']}, {act['nearest_hop'] or 'no hop'}, <= {DELAY_S_MAX:.0f} s[/]",
        )
    console.print(table)
    unexplained = [finding for finding in findings if finding["finding_id"] not in explained]
    for finding in unexplained:
        console.print(f"[bold red]a finding about approved work:[/] {finding['verdict']} {finding['source']} -> {finding['destination']}")
    acted = {(tuple(client), tuple(server)) for act in acts for client, server in act["connections"]}
    others = [flow["judgement"]["verdict"] for flow in flows if connection_of(flow) not in acted]
    counted = {name: others.count(name) for name in sorted(set(others))}
    wrong = {name: count for name, count in counted.items() if name not in APPROVED}
    console.print(f"approved work: {', '.join(f'{count} windows {name}' for name, count in counted.items())}")
    return agreed and not unexplained and not wrong


if __name__ == "__main__":
    sys.exit(main())
