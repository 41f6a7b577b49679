"""What a judgement costs with 10, 1,000 and 10,000 hops, and with many accounts: it must not grow. Run: ``python -m benchmarks.match``.

First windows are each the first of their kind; then the same connections go on, as they do in a plant.
"""

import gc
import time
from collections.abc import Iterator

from detectors.verdict import VerdictDetector
from hopwatch.declared.model import Architecture
from hopwatch.engine import Engine
from hopwatch.events import dump, time_text
from hopwatch.lines import reader
from tests.detectors.north import MES_APP, architecture, end, flow, objects

WINDOWS = 10_000
TURNS = 3
COLLECTION_OBJECTS = 500_000


class Quiet:
    """Nobody listens."""

    def say(self, outcome: object) -> None:
        """Not heard."""


def plant(hops: int, accounts: int) -> Architecture:
    """The north plant with one database and one hop for each of ``hops``, and so many further accounts, used by the hops in turn."""
    north = architecture()
    assets, made = dict(north.assets), {}
    mes_db, svc_mes = north.assets["mes-db"], north.accounts["svc_mes"]
    named = {f"svc_{n}": svc_mes for n in range(accounts)}
    for n in range(hops):
        at = type(mes_db.endpoints[0])(f"10.20.{n >> 8 & 3}.{n & 255}", 6000 + n)
        assets[f"db{n}"] = mes_db.model_copy(update={"at": at, "standby": []})
        made[f"hop{n}"] = north.hops["mes-works"].model_copy(update={"from_": [f"db{n}"], "who": f"svc_{n % accounts}"})
    return north.model_copy(update={"assets": assets, "hops": made, "accounts": north.accounts | named})


def windows(hops: int, accounts: int, turn: int) -> Iterator[bytes]:
    """Windows of many connections on every hop, each by the hop's account; begun and ended as packets are, to the nanosecond."""
    for n in range(max(hops, WINDOWS)):
        place = n % hops
        window = flow(
            source=end((f"10.20.{place >> 8 & 3}.{place & 255}", 6000 + place)), destination=end(MES_APP),
            account=f"svc_{place % accounts}", operation="select", objects=[objects("mes.genealogy", rows=1, bytes=90)],
            n=turn, key=str(n), connection=n,
        )  # fmt: skip
        late_ns = n * 99_991 % 10**9
        began, ended = time_text(window.start_ns + late_ns), time_text(window.end_ns + late_ns - turn - 1)
        yield dump(window.model_copy(update={"start": began, "end": ended}))


def main() -> None:
    """Print build time, microseconds a window read and judged the first and the next time, and events a second of the latter."""
    gc.freeze()
    gc.set_threshold(COLLECTION_OBJECTS)
    for hops, accounts in ((10, 10), (1_000, 1_000), (1_000, 10_000), (10_000, 10_000)):
        started = time.process_time()
        detector = VerdictDetector(plant(hops, accounts))
        built_s = time.process_time() - started
        engine, read = Engine([detector], Quiet()), reader()
        costs: list[float] = []
        for turn in range(TURNS):
            lines = list(windows(hops, accounts, turn))
            started = time.process_time()
            engine.take(map(read, lines))
            costs.append((time.process_time() - started) / len(lines))
        first, again = costs[0], min(costs[1:])
        visited = detector.index.visited_total / (len(lines) * TURNS)
        print(
            f"{hops:>6} hops, {accounts:>6} accounts: built in {built_s:.2f} s; {first * 1e6:5.1f} us a window at first, "
            f"{again * 1e6:5.1f} us then ({1 / again:,.0f}/s), {visited:.2f} hops visited a window"
        )


if __name__ == "__main__":
    main()
