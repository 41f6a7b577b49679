"""What `hopwatch watch` costs beside tcpdump, tshark and nfstream, and whether what it counted is true. Run: ``make bench``.

Captures of real servers and clients are repeated to the size asked for; every program reads the same file, in turns, and the
median of the turns is told: user and system time of all processes, in nanoseconds per packet. Every run of hopwatch prints its
events, which are summed and compared with what the clients counted: one difference, and the bench has failed.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import traffic
from benchmarks.captures import HEADER, Ledger, many_flows, repeated, slice_of
from examples.plant.servers import PlantError

ROOT = Path(__file__).parents[1]
DECLARATION = ROOT / "benchmarks" / "plant.yaml"
PROGRAMS = {"tcpdump": "tcpdump", "tshark": "tshark", "mosquitto": "mosquitto", "psql": "postgresql-client", "ip": "iproute2"}
NFSTREAM = "nfstream==6.6.0"
BASE_PACKETS_MAX = 1_000_000
SLICE_PACKETS = 100_000
SEED = 20_260_407
GOAL_MIX, GOAL_FLOWS, GOAL_TSHARK, GOAL_MEMORY_MB = 0.8, 2.0, 150.0, 150.0

SENSOR_ALONE = """
import sys
from hopwatch_wire import Sensor
sensor = Sensor("bench", "tap-bench")
sensor.open_file(sys.argv[1])
done = False
while not done:
    _, done = sensor.read(65536, 200)
while sensor.finish(4096):
    pass
"""
NFSTREAM_RUN = """
import sys
from nfstream import NFStreamer
print(sum(1 for _ in NFStreamer(source=sys.argv[1], statistical_analysis=False, n_meters=1)))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process and its children took."""

    cpu_s: float
    memory_mb: float


@dataclass(slots=True)
class Contender:
    """One program on one capture."""

    name: str
    command: list[str]
    packets: int
    start_up: str | None = None
    costs: list[Cost] = field(default_factory=list)
    exits: tuple[int, ...] = (0,)
    checked: Ledger | None = None

    @property
    def cpu_s(self) -> float:
        return statistics.median(cost.cpu_s for cost in self.costs)

    @property
    def memory_mb(self) -> float:
        return max(cost.memory_mb for cost in self.costs)


class BenchError(Exception):
    """The bench could not be run."""


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--packets", type=int, default=10_000_000, help="packets of the mix (default %(default)s)")
    options.add_argument("--flows", type=int, default=0, help="concurrent flows (default: 100000, or a hundredth of the packets)")
    options.add_argument("--runs", type=int, default=9, help="turns (default %(default)s)")
    options.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="captures and results (default %(default)s)")
    options.add_argument("--only", choices=["mix", "flows", "stays"], help="one of the captures")
    options.add_argument("--without-others", action="store_true", help="leave tshark and nfstream out")
    given = options.parse_args()
    flows = given.flows or max(1000, min(100_000, given.packets // 100))
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        install(given.folder, others=not given.without_others)
        base, visit, stay = base_captures(min(given.packets, BASE_PACKETS_MAX), given.folder)
        failures: list[str] = []
        results: dict[str, object] = {"machine": machine(), "packets": given.packets, "runs": given.runs}
        if given.only in (None, "mix"):
            results["mix"] = bench_mix(given, base, failures)
        if given.only in (None, "flows"):
            results["flows"] = bench_flows(given, visit, flows, (100, flows), failures)
        # A turn takes a minute, and the capture 1.7 GB: only for who asks for it.
        if given.only == "stays":
            results["stays"] = bench_flows(given, stay, flows, (flows,), failures)
    except (BenchError, traffic.TrafficError, PlantError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    (given.folder / "result.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for failure in failures:
        print(f"FAILED  {failure}")
    print("\nevery count equals the ledger" if not failures else "\nthe bench has failed")
    return 1 if failures else 0


# What is needed


def install(folder: Path, *, others: bool, more: Mapping[str, str] | None = None) -> None:
    """What the bench runs, as packages by the program they bring."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = sorted({package for program, package in (PROGRAMS | dict(more or {})).items() if shutil.which(program) is None})
    if missing:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise BenchError(f"missing: {' '.join(missing)}; install them and run this again")
        print(f"installing {' '.join(missing)}")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=False, env=quiet)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        done = subprocess.run(command, check=False, env=quiet, capture_output=True)
        if done.returncode != 0:
            raise BenchError(f"apt-get install {' '.join(missing)} failed")
    if others and not (folder / "venv" / "bin" / "python").exists():
        print(f"installing {NFSTREAM} beside the product, in {folder / 'venv'}")
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        done = subprocess.run([str(folder / "venv" / "bin" / "pip"), "install", "-q", NFSTREAM], check=False, capture_output=True)
        if done.returncode != 0:
            shutil.rmtree(folder / "venv")
            raise BenchError(f"pip install {NFSTREAM} failed: {done.stderr.decode().strip().splitlines()[-1]}")


def base_captures(packets: int, folder: Path) -> tuple[Path, Path, Path]:
    """The recording of about so many packets, a short visit and a longer one, made once."""
    base, visit, stay = folder / f"mix-{packets}.pcap", folder / "visit.pcap", folder / "stay.pcap"
    if not all(made.with_suffix(".json").exists() for made in (base, visit, stay)):
        apart(traffic.record, packets, base, {visit: traffic.VISIT_TRANSACTIONS, stay: traffic.STAY_TRANSACTIONS})
    return base, visit, stay


def machine() -> str:
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def apart(make: Callable[..., Any], *arguments: object) -> Any:  # Any: what ``make`` returns
    """In a process of its own: the peak memory of a child begins with what its parent holds (getrusage(2))."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(make, *arguments).result()


# Measuring


def measured(command: Sequence[str], out: Path, exits: tuple[int, ...]) -> Cost:
    """Run it to its end; user and system time of it and of every child it waited for."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with out.open("wb") as stdout, (out.with_suffix(".err")).open("wb") as stderr:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in exits:
        last = out.with_suffix(".err").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise BenchError(f"{Path(command[0]).name} ended with {process.returncode}: {last[-1] if last else 'no message'}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def turns(contenders: Sequence[Contender], runs: int, folder: Path, failures: list[str]) -> None:
    """Every contender once a turn, so that a busy moment of the machine hits all of them."""
    out = folder / "out"
    for turn in range(runs):
        for contender in contenders:
            contender.costs.append(measured(contender.command, out, contender.exits))
            if contender.checked is not None:
                for failure in differences(out, contender.checked, contender.packets):
                    if failure not in failures:
                        failures.append(failure)
        print(f"  turn {turn + 1} of {runs}, load {os.getloadavg()[0]:.1f}", end="\r", flush=True)
    print(" " * 40, end="\r")


def differences(out: Path, ledger: Ledger, packets: int) -> list[str]:
    """What hopwatch printed against what the clients counted."""
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    stream, found = 0, []
    with out.open("rb") as lines:
        for line in lines:
            event = json.loads(line)
            if event["kind"] == "flow":
                sums = counted[f"{event['protocol']} {event['operation']}"]
                for unit in ("rows", "values", "messages"):
                    sums[unit] += event[unit]
                stream += event["bytes"] + event["bytes_back"]
            elif event["kind"] == "loss":
                found.append(f"{out.name}: loss at {event['stage']}: {event['why']}")
            elif event["kind"] == "summary" and event["packets"] != packets:
                found.append(f"packets: {event['packets']}, in the capture {packets}")
    for name, units in ledger.counted.items():
        for unit, told in units.items():
            if counted[name][unit] != told:
                found.append(f"{name}: {counted[name][unit]} {unit}, the clients counted {told}")
    if stream != ledger.bytes:
        found.append(f"stream bytes: {stream}, TCP counted {ledger.bytes}")
    return found


def watch(capture: Path, questions: str = "--no-questions") -> list[str]:
    options = ["-d", str(DECLARATION), "-r", str(capture), "--store", "none", "--agent", "tap-bench", "--json", questions]
    return [sys.executable, "-m", "hopwatch.cli", "watch", *options]


def empty(folder: Path, like: Path) -> Path:
    path = folder / "empty.pcap"
    with like.open("rb") as source:
        path.write_bytes(source.read(HEADER.size))
    return path


def products(capture: Path, packets: int, ledger: Ledger, folder: Path) -> list[Contender]:
    nothing = empty(folder, capture)
    return [
        Contender("hopwatch, start-up", watch(nothing), 0),
        Contender("hopwatch watch", watch(capture), packets, "hopwatch, start-up", exits=(0, 1), checked=ledger),
        Contender("with questions, start-up", watch(nothing, "--questions"), 0),
        Contender("with questions", watch(capture, "--questions"), packets, "with questions, start-up", exits=(0, 1), checked=ledger),
        Contender("sensor, start-up", [sys.executable, "-c", SENSOR_ALONE, str(nothing)], 0),
        Contender("sensor alone", [sys.executable, "-c", SENSOR_ALONE, str(capture)], packets, "sensor, start-up"),
        Contender("tcpdump -w /dev/null", ["tcpdump", "-r", str(capture), "-w", "/dev/null"], packets),
    ]


def others(capture: Path, folder: Path) -> list[Contender]:
    part, nothing = folder / "slice.pcap", empty(folder, capture)
    packets = apart(slice_of, capture, part, SLICE_PACKETS)
    fields = ["-T", "fields", "-e", "pgsql.type", "-e", "mqtt.msgtype", "-e", "opcua.servicenodeid.numeric"]
    python = str(folder / "venv" / "bin" / "python")
    return [
        Contender("tshark, start-up", ["tshark", "-r", str(nothing), *fields], 0),
        Contender(f"tshark ({packets:,} packets)", ["tshark", "-r", str(part), *fields], packets, "tshark, start-up"),
        Contender("nfstream, start-up", [python, "-c", NFSTREAM_RUN, str(nothing)], 0),
        Contender(f"nfstream ({packets:,} packets)", [python, "-c", NFSTREAM_RUN, str(part)], packets, "nfstream, start-up"),
    ]


def told(title: str, contenders: Sequence[Contender]) -> dict[str, object]:
    """The table of one capture; ratios are to tcpdump, start-up taken off where it was measured."""
    by_name = {contender.name: contender for contender in contenders}
    tcpdump = by_name["tcpdump -w /dev/null"]
    print(f"\n{title}   (load average {os.getloadavg()[0]:.1f})")
    print(f"  {'':32} {'CPU s':>9} {'ns/packet':>10} {'packets/s':>12} {'/ tcpdump':>9} {'peak MB':>8}")
    rows: dict[str, object] = {}
    for contender in contenders:
        start_s = by_name[contender.start_up].cpu_s if contender.start_up else 0.0
        net_s = contender.cpu_s - start_s
        row: dict[str, float] = {"cpu_s": round(contender.cpu_s, 4), "memory_mb": round(contender.memory_mb, 1)}
        if contender.packets:
            # Paired by turn: both halves of a ratio saw the same load.
            starts = by_name[contender.start_up].costs if contender.start_up else [Cost(0.0, 0.0)] * len(contender.costs)
            pairs = zip(contender.costs, starts, tcpdump.costs, strict=True)
            per_packet = tcpdump.packets / contender.packets
            ratio = statistics.median((mine.cpu_s - start.cpu_s) / base.cpu_s * per_packet for mine, start, base in pairs)
            row |= {"ns_per_packet": round(net_s / contender.packets * 1e9, 1), "packets": contender.packets, "ratio": round(ratio, 3)}
            rate = contender.packets / net_s if net_s > 0 else float("inf")
            figures = f"{net_s:9.3f} {row['ns_per_packet']:10.1f} {rate:12,.0f} {ratio:9.2f} {contender.memory_mb:8.0f}"
            print(f"  {contender.name:32} {figures}")
        else:
            print(f"  {contender.name:32} {contender.cpu_s:9.3f} {'':33} {contender.memory_mb:8.0f}")
        rows[contender.name] = row
    return rows


def bench_mix(given: argparse.Namespace, base: Path, failures: list[str]) -> dict[str, object]:
    folder: Path = given.folder
    capture = folder / "mix.pcap"
    copies = 1
    base_packets = apart(repeated, base, capture, 1)
    if base_packets < given.packets:
        copies = -(-given.packets // base_packets)
        print(f"  repeating {base_packets:,} packets {copies} times", flush=True)
        apart(repeated, base, capture, copies)
    packets, ledger = base_packets * copies, Ledger.load(base).times(copies)
    contenders = products(capture, packets, ledger, folder)
    if not given.without_others:
        contenders += others(capture, folder)
    turns(contenders, given.runs, folder, failures)
    size = capture.stat().st_size
    rows = told(f"the mix: {packets:,} packets, {size / 1e6:,.0f} MB, {size // packets} bytes each", contenders)
    for name, units in ledger.counted.items():
        print(f"  {name:22} " + ", ".join(f"{count:,} {unit}" for unit, count in units.items()))
    print(f"  {'stream bytes':22} {ledger.bytes:,}")
    goal(rows, "hopwatch watch", GOAL_MIX)
    tshark = next((row for name, row in rows.items() if name.startswith("tshark (")), None)
    if isinstance(tshark, dict):
        mine = rows["hopwatch watch"]
        assert isinstance(mine, dict)
        print(f"  {tshark['ns_per_packet'] / mine['ns_per_packet']:,.0f} x tshark (goal {GOAL_TSHARK:.0f})")
    capture.unlink()
    return rows


def bench_flows(given: argparse.Namespace, visit: Path, flows: int, open_at_once: Sequence[int], failures: list[str]) -> dict[str, object]:
    """The same connections, few or all of them open at once: what a connection costs must not grow with their number."""
    folder: Path = given.folder
    capture = folder / "flows.pcap"
    result: dict[str, object] = {}
    for at_once in open_at_once:
        packets = apart(many_flows, visit, capture, flows, at_once, SEED)
        contenders = products(capture, packets, Ledger.load(visit).times(flows), folder)
        turns(contenders, given.runs, folder, failures)
        rows = told(f"{flows:,} connections, {at_once:,} at once, random order: {packets:,} packets, {packets // flows} each", contenders)
        goal(rows, "hopwatch watch", GOAL_FLOWS)
        goal(rows, "sensor alone", GOAL_FLOWS)
        result[str(at_once)] = rows
    print(f"  goal for memory: {GOAL_MEMORY_MB:.0f} MB")
    capture.unlink()
    return result


def goal(rows: dict[str, object], name: str, most: float) -> None:
    row = rows[name]
    assert isinstance(row, dict)
    print(f"  goal for {name}: {most} x tcpdump: {'reached' if row['ratio'] <= most else 'not reached'} ({row['ratio']:.2f})")


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(code)
