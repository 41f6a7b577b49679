"""What the verdict detector judges in a second, on the flows of plant-north. Run: ``python -m benchmarks.verdict``."""

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests" / "detectors")]

from north import collect, detector, end, extract, mes, publish, upload  # noqa: E402

from hopwatch.events import Flow, time_ns, time_text  # noqa: E402

WINDOWS = 5_000
CONNECTIONS = 200


def stream() -> list[Flow]:
    """Mostly declared windows of many connections, a second apart; one in ten is an undeclared reader's."""
    made = [
        extract, upload, publish, collect, mes, extract, publish, collect, mes,
        lambda **said: extract(**said | {"destination": end(("10.40.9.77", 51512)), "account": "svc_report"}),
    ]  # fmt: skip
    first_ns = time_ns("2026-04-07T00:00:00Z")
    return [
        made[n % len(made)](n=n // CONNECTIONS, key=str(n % CONNECTIONS), at=time_text(first_ns + n // CONNECTIONS * 10**9))
        for n in range(WINDOWS)
    ]


def main() -> None:
    """Print windows a second, of CPU time, the best of three runs: the machine may be shared."""
    windows, best_s = stream(), float("inf")
    for _ in range(3):
        watching = detector()
        started = time.process_time()
        for window in windows:
            watching.observe(window)
        best_s = min(best_s, time.process_time() - started)
    print(f"{WINDOWS / best_s:,.0f} windows/s ({best_s / WINDOWS * 1e6:.0f} us each): {dict(sorted(watching.counted.items()))}")


if __name__ == "__main__":
    main()
