"""What a judgement costs with 10, 1,000 and 10,000 hops: it must not grow. Run: ``python -m benchmarks.match``."""

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests" / "detectors")]

from north import MES_APP, architecture, end, flow, objects  # noqa: E402

from detectors.verdict import VerdictDetector  # noqa: E402
from hopwatch.declared.model import Architecture  # noqa: E402

WINDOWS = 5_000


def plant(hops: int) -> Architecture:
    """The north plant with one database and one hop for each of ``hops``."""
    north = architecture()
    assets, made = dict(north.assets), {}
    mes_db = north.assets["mes-db"]
    for n in range(hops):
        at = type(mes_db.endpoints[0])(f"10.20.{n >> 8 & 3}.{n & 255}", 6000 + n)
        assets[f"db{n}"] = mes_db.model_copy(update={"at": at, "standby": []})
        made[f"hop{n}"] = north.hops["mes-works"].model_copy(update={"from_": [f"db{n}"]})
    return north.model_copy(update={"assets": assets, "hops": made})


def main() -> None:
    """Print build time, microseconds a window, and hops visited a window."""
    for hops in (10, 1_000, 10_000):
        started = time.perf_counter()
        detector = VerdictDetector(plant(hops))
        built_s = time.perf_counter() - started
        windows = [
            flow(
                source=end((f"10.20.{place >> 8 & 3}.{place & 255}", 6000 + place)), destination=end(MES_APP), account="svc_mes",
                operation="select", objects=[objects("mes.genealogy", rows=1, bytes=90)], n=n // hops, key=str(place), connection=place,
            )
            for n in range(WINDOWS)
            for place in (n % hops,)
        ]  # fmt: skip
        started = time.perf_counter()
        for window in windows:
            detector.observe(window)
        each_us = (time.perf_counter() - started) / WINDOWS * 1e6
        visited = detector.index.visited_total / WINDOWS
        print(f"{hops:>6} hops: built in {built_s:.2f} s, {each_us:.0f} us a window, {visited:.1f} hops visited a window")


if __name__ == "__main__":
    main()
