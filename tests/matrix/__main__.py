"""The verb x client x server table, against real servers.

python -m tests.matrix [--only TEXT] [--save FILE] [--record TEXT]
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.matrix.run import CUT_BYTES_MAX_ALL, bench, cells
from tests.matrix.table import lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="make matrix", description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name has this in it")
    parser.add_argument("--save", type=Path, help="write the report to this file")
    parser.add_argument("--record", action="store_true", help="keep the cells' recordings in tests/data/matrix")
    arguments = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder, bench(Path(folder)) as made:
        for cell in [*cells(), *made.built_cells()]:
            if arguments.only not in str(cell):
                continue
            begun = time.monotonic()
            try:
                shown = made.record(cell) if arguments.record else made.run(cell, cut_bytes_max=CUT_BYTES_MAX_ALL)
                text = "; ".join(shown.wrong) or f"{shown.text(cell)}, {shown.cuts} cuts"
                wrong += bool(shown.wrong)
            except Exception:
                text = traceback.format_exc(limit=-3)
                wrong += 1
            print(f"{time.monotonic() - begun:5.1f} s  {cell}: {text}", file=sys.stderr, flush=True)
        report = "\n".join(lines(made.report))
    print(report)
    if arguments.save:
        arguments.save.write_text(report, encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
