"""How many packets a second an interface may bring before one is lost, with hopwatch behind it and with nothing.

The mix is replayed by tcpreplay over a veth pair between two network namespaces. The rate is raised until a reader loses a packet,
then halved towards the highest that is lossless, and that is held for the time asked for. Beside it: the same with a reader that
looks at nothing, and what a packet costs when two sensors share the interface (PACKET_FANOUT_HASH). Sender and readers share the
machine, so the rates are those of this machine with its load. Run: ``make bench-live``.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import DECLARATION, ROOT, BenchError, apart, base_captures, install, machine
from benchmarks.captures import repeated

SENDER, READER = f"hw{os.getpid()}-send", f"hw{os.getpid()}-read"
INTERFACES = ("bench0", "bench1")
RATE_MIN, RATE_MAX, STEPS = 25_000, 3_200_000, 4
TRIAL_S = 4.0
SHARED_RATE, SHARED_TURNS = 200_000, 9
READY_S = 20.0
SENSOR = """
import json, signal, sys, time
from hopwatch_wire import Sensor
sensor = Sensor("bench", "tap-bench")
sensor.open_live([sys.argv[1]], fanout=int(sys.argv[2]) or None)
over = []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
while not over:
    sensor.read(65536, 200)
sensor.finish()
counted = sensor.counters()
print(json.dumps({"packets": counted["packets"], "lost": counted["kernel_drops"]}))
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """One replay: packets sent and at what rate, what the readers took and lost, and their time."""

    sent: int
    rate: float
    received: int
    lost: int
    cpu_s: float

    @property
    def whole(self) -> bool:
        """Whether every packet arrived."""
        return self.lost == 0 and self.received >= self.sent


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench-live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0, help="how long the highest rate is held (default %(default)s)")
    options.add_argument("--packets", type=int, default=1_000_000, help="packets of the recording that is repeated (default %(default)s)")
    options.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="captures (default %(default)s)")
    given = options.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        install(given.folder, others=False, more={"tcpreplay": "tcpreplay"})
        ring = built_ring()
        base, *_ = base_captures(given.packets, given.folder)
        with pair():
            measure(given, base, ring)
    except (BenchError, OSError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


def measure(given: argparse.Namespace, base: Path, ring: str) -> None:
    hopwatch = [sys.executable, "-m", "hopwatch.cli", "watch", "-d", str(DECLARATION), "-i", INTERFACES[1]]
    # The verdicts alone, as before there were questions.
    hopwatch += ["--store", "none", "--agent", "tap-bench", "--json", "--no-questions"]
    print(f"{machine()}; sender and readers on the same cores")
    for name, command in (("a reader that looks at nothing", [ring, INTERFACES[1]]), ("hopwatch watch", hopwatch)):
        rate = highest(base, [command], given.folder)
        if not rate:
            print(f"  {name:32} loses packets at {RATE_MIN:,} a second   (load average {os.getloadavg()[0]:.1f})")
            continue
        held = replay(base, [command], rate, given.seconds, given.folder)
        state = "no loss" if held.whole else f"{held.lost:,} lost, {held.sent - held.received - held.lost:,} missing"
        per = held.cpu_s / max(held.received, 1) * 1e9
        seconds = held.sent / held.rate if held.rate else 0.0
        print(
            f"  {name:32} {held.rate:10,.0f} packets/s for {seconds:.0f} s: {state}; {per:,.0f} ns/packet"
            f"   (load average {os.getloadavg()[0]:.1f})"
        )
    print(shared(base, given.folder))


def shared(base: Path, folder: Path) -> str:
    """What a packet costs one sensor, and each of two that share the interface, in turns; medians."""
    group = str(os.getpid() % 65_535 + 1)
    ones, twos, ratios, sent, arrived = [], [], [], 0, 0
    for _ in range(SHARED_TURNS):
        alone = replay(base, [[sys.executable, "-c", SENSOR, INTERFACES[1], "0"]], SHARED_RATE, TRIAL_S, folder)
        both = replay(base, [[sys.executable, "-c", SENSOR, INTERFACES[1], group]] * 2, SHARED_RATE, TRIAL_S, folder)
        if not alone.whole or not both.whole:
            lacking = f"{alone.sent - alone.received:,} and {both.sent - both.received:,}"
            return f"  two sensors share the interface: not told, {lacking} of {alone.sent:,} packets did not arrive"
        ones.append(alone.cpu_s / alone.received * 1e9)
        twos.append(both.cpu_s / both.received * 1e9)
        ratios.append(2 * ones[-1] / twos[-1])
        sent, arrived = sent + both.sent, arrived + both.received
    one, two, ratio = (statistics.median(figures) for figures in (ones, twos, ratios))
    costs = f"{two:,.0f} ns/packet, alone {one:,.0f}"
    took = f"{ratio:.2f} x what one takes ({min(ratios):.2f} to {max(ratios):.2f}; goal 1.8)"
    return (
        f"  two sensors share the interface, {SHARED_RATE:,} packets/s, {SHARED_TURNS} turns: {costs}: on two cores {took}\n"
        f"  {arrived:,} of {sent:,} packets arrived   (load average {os.getloadavg()[0]:.1f})"
    )


def highest(base: Path, readers: Sequence[list[str]], folder: Path) -> float:
    """The highest lossless rate found: doubled until it loses, then between the two."""
    good, bad = 0.0, 0.0
    rate = float(RATE_MIN)
    while rate <= RATE_MAX:
        trial = replay(base, readers, rate, TRIAL_S, folder)
        if not trial.whole:
            bad = rate
            break
        good = max(good, min(rate, trial.rate))
        if trial.rate < rate * 0.9:
            return good  # The sender is at its end.
        rate *= 2
    for _ in range(STEPS if good and bad else 0):
        middle = (good + bad) / 2
        if replay(base, readers, middle, TRIAL_S, folder).whole:
            good = middle
        else:
            bad = middle
    return good


def replay(base: Path, readers: Sequence[list[str]], rate: float, seconds: float, folder: Path) -> Trial:
    """Start the readers, send, end them; start-up is in their time, for live it is once a run."""
    capture = long_enough(base, int(rate * seconds), folder)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    outs = [folder / f"live-{number}" for number in range(len(readers))]
    processes: list[subprocess.Popen[bytes]] = []
    cpu_s, received, lost = 0.0, 0, 0
    try:
        for command, path in zip(readers, outs, strict=True):
            with path.open("wb") as out:
                full = ["ip", "netns", "exec", READER, *command]
                processes.append(subprocess.Popen(full, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.DEVNULL, env=environment))
        await_sockets(len(readers))
        before = sum(processor_s(process.pid) for process in processes)
        sent, achieved = send(capture, rate, int(rate * seconds))
        time.sleep(1.0)
        cpu_s = sum(processor_s(process.pid) for process in processes) - before
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            if "ring" not in str(process.args):
                process.send_signal(signal.SIGTERM)
            process.wait(30)
    for path in outs:
        one, two = told(path)
        received, lost = received + one, lost + two
    return Trial(sent, achieved, received, lost, cpu_s)


def send(capture: Path, rate: float, packets: int) -> tuple[int, float]:
    command = [
        "ip",
        "netns",
        "exec",
        SENDER,
        "tcpreplay",
        "-q",
        "-i",
        INTERFACES[0],
        f"--pps={rate:.0f}",
        f"--limit={packets}",
        str(capture),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Actual: (\d+) packets .* sent in ([\d.]+) seconds", done.stdout)
    if found is None:
        raise BenchError(f"tcpreplay: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return int(found[1]), int(found[1]) / max(float(found[2]), 1e-9)


def told(path: Path) -> tuple[int, int]:
    """Packets a reader took, and those the kernel dropped before it."""
    received, lost = 0, 0
    for line in path.read_bytes().splitlines():
        event = json.loads(line)
        if event.get("kind") == "loss" and event["stage"] == "kernel":
            lost += event["packets"]
        elif event.get("kind") in (None, "summary"):
            received += event["packets"]
            lost += event["lost"] if isinstance(event.get("lost"), int) else 0
    return received, lost


def long_enough(base: Path, packets: int, folder: Path) -> Path:
    """The recording, repeated to at least so many packets; made anew only when a longer one is needed."""
    capture, note = folder / "live.pcap", folder / "live.json"
    known = json.loads(note.read_text(encoding="utf-8")) if note.exists() and capture.exists() else {}
    if known.get("base") != base.name or known.get("packets", 0) < packets:
        one = apart(repeated, base, capture, 1)
        made = apart(repeated, base, capture, -(-packets // one)) if one < packets else one
        note.write_text(json.dumps({"base": base.name, "packets": made}), encoding="utf-8")
    return capture


def processor_s(pid: int) -> float:
    """Processor time of a process so far, all its threads, to the nanosecond: clock_getcpuclockid(3), as the kernel forms it.

    Ticks of a hundredth of a second (``/proc/PID/stat``) miss much of a reader that wakes for less than one.
    """
    return time.clock_gettime((~pid << 3) | 2)


def await_sockets(count: int) -> None:
    """Until so many packet sockets are open in the readers' namespace."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        shown = subprocess.run(
            ["ip", "netns", "exec", READER, "cat", "/proc/net/packet"], capture_output=True, text=True, check=True
        ).stdout
        if len(shown.splitlines()) > count:
            time.sleep(0.3)
            return
        time.sleep(0.1)
    raise BenchError("the reader does not open its interface")


@contextlib.contextmanager
def pair() -> Iterator[None]:
    """Two namespaces joined by a veth pair."""
    try:
        for name in (SENDER, READER):
            _ip("netns", "add", name)
        _ip("-n", SENDER, "link", "add", INTERFACES[0], "type", "veth", "peer", "name", INTERFACES[1], "netns", READER)
        for name, interface in ((SENDER, INTERFACES[0]), (READER, INTERFACES[1])):
            _ip("netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
            _ip("-n", name, "link", "set", interface, "up")
        yield
    finally:
        for name in (SENDER, READER):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def built_ring() -> str:
    """The no-op reader, built beside the packet path."""
    wire = ROOT / "wire"
    done = subprocess.run(
        ["cargo", "build", "--release", "--quiet", "--example", "ring"], cwd=wire, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise BenchError(f"cargo build --example ring: {done.stderr.strip().splitlines()[-1]}")
    return str(wire / "target" / "release" / "examples" / "ring")


if __name__ == "__main__":
    sys.exit(main())
