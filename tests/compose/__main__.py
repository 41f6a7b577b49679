"""Run what docker-compose.yml says: everything but Grafana, the demo's day played through it, each service restarted once.

    python -m tests.compose [--keep DIR]      # DIR keeps the engine's data, so that the next run builds only what changed

Exit status: 0 everything held, or no container engine can start here (one line says why); 1 something did not.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.compose import images
from tests.compose.engine import EngineError, engine
from tests.compose.play import play


def main() -> int:
    """The run; its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the engine's data there")
    arguments = parser.parse_args()
    folder = arguments.keep.resolve() if arguments.keep else Path(tempfile.mkdtemp(prefix="hopwatch-compose-"))
    started = time.monotonic()
    # Whoever ends it has it cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)

    try:
        try:
            with engine(folder / "engine", building=True) as building:
                say("making the images")
                images.make(building, folder)
            with engine(folder / "engine", building=False) as running, tempfile.TemporaryDirectory(prefix="hopwatch-site-") as site:
                play(running, Path(site), say)
        except EngineError as error:
            print(f"test-compose left out: {error}")
            return 0
    except AssertionError as error:
        print(f"test-compose: {error}", file=sys.stderr)
        return 1
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    say("everything held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
