"""`make scenarios`: every attack and its twin, played on real servers, and what `hopwatch watch` made of them.

Exit 0: every attack was alerted with its cause and every twin was silent; 1: not so, and the report says which; 2: it could not
be shown.
"""

import argparse
import secrets
import sys
import time
from pathlib import Path

from benchmarks.detection.scenarios import SCENARIOS
from benchmarks.detection.scenarios.play import Outcome, play_scenario
from benchmarks.detection.scenarios.report import html, markdown
from benchmarks.detection.scenarios.stage import stage
from examples.plant import servers
from examples.plant.network import namespaces_work
from examples.plant.watched import WatchError

BUILD = Path(__file__).parents[3] / "build"
KEPT = Path(__file__).parents[3] / "docs" / "measurements" / "scenarios.md"


def main() -> int:
    """Play, report, and say whether everything held."""
    options = argparse.ArgumentParser(prog="make scenarios", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, help="repeat the amounts of this seed")
    options.add_argument("--only", default="", help="names of scenarios, with commas between them")
    options.add_argument("--save", action="store_true", help="keep the report as docs/measurements/scenarios.md")
    given = options.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    wanted = [name for name in given.only.upper().split(",") if name] or list(SCENARIOS)
    if unknown := [name for name in wanted if name not in SCENARIOS]:
        options.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    if not namespaces_work():
        print("scenarios: network namespaces need root and CAP_SYS_ADMIN", file=sys.stderr)
        return 2
    print(f"seed {seed} (repeat it with: make scenarios SEED={seed})", flush=True)
    played: list[tuple[Outcome, float]] = []
    try:
        with stage(seed) as raised:
            for name in wanted:
                began = time.monotonic()
                outcome = play_scenario(SCENARIOS[name], raised)
                played.append((outcome, time.monotonic() - began))
                said = "; ".join(outcome.misses) or "as expected"
                print(f"{name:4} {outcome.scenario.title:40} {played[-1][1]:5.1f} s  {said}", flush=True)
    except (servers.PlantError, WatchError, OSError) as error:
        print(f"scenarios: {error}", file=sys.stderr)
        return 2
    outcomes = [outcome for outcome, _ in played]
    BUILD.mkdir(exist_ok=True)
    (BUILD / "scenarios.md").write_text(markdown(outcomes, seed), encoding="utf-8")
    (BUILD / "scenarios.html").write_text(html(outcomes, seed), encoding="utf-8")
    if given.save:
        KEPT.write_text(markdown(outcomes, seed), encoding="utf-8")
    found, loud = sum(outcome.found for outcome in outcomes), sum(not outcome.silent for outcome in outcomes)
    print(f"{found}/{len(outcomes)} attacks alerted with their cause, {loud}/{len(outcomes)} twins alerted; {BUILD / 'scenarios.html'}")
    return 0 if not any(outcome.misses for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
