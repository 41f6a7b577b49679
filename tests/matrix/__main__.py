"""The verb x client x server table, against real servers.

python -m tests.matrix [--only TEXT] [--save FILE] [--record TEXT]
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from datetime import date
from pathlib import Path

from tests.matrix.run import CUT_BYTES_MAX_ALL, bench, cells
from tests.matrix.table import Report, lines

HEAD = """# Verb x client x server

`make matrix`, {day}. Each cell is one real client at one real server, tapped between two network namespaces (MTU 1500, no
offload). Shown is what the client itself counted (rows its driver handed over, publishes acknowledged and arrived, values
decoded, bytes of the files it wrote) where the sensor counted exactly the same under the same account and operation, and no
row or value beside it. `WRONG` is a difference. `not shown` has no sample: the stack or the server cannot do it, or nobody
wrote it. `encrypted` has sizes only, and says so.

Every conversation of up to 60 kB is replayed with its bytes cut at every place of both streams (64 phases of 64 bytes; up to
20 kB also byte by byte; short requests also with each place as the only cut), and must give the same sums.

{versions}

"""


FOOT = """
## What it has shown

- A changed row of logical replication was not counted: 95 changes told by the client, 0 rows (decision 0011). It is now.
- Beside that: rows, values and messages of every other cell were equal at once, and at every cut.
- Not explained: in the very first run one base backup of 31 MB was told with 91 bytes. Its frames were not kept; it has been
  equal in every one of some forty runs since, 25 of them in a row. The listener of that run went by the clock, on a machine
  with six times the load it has cores; it now waits until its socket is found empty, and frames it had no room for are an error.
- What a client could not count itself is not compared: bytes of a result, statements of a cursor, notifications that a
  library drops for an item it has deleted.
- Two clients miscount themselves, and were kept away from it: mosquitto_sub 2.0.11 ends its connection after 20 publishes
  of MQTT 5.0 with QoS 2; asyncua's server forgets a subscription taken from a connection with no Publish waiting.
- The second server of COPY, replication and backup is PostgreSQL of another major version: PgBouncer speaks the protocol itself
  and passes statements on, H2 has none of them. History of Milo's server (pages, aggregates, updates) is written in
  tests/matrix/java, which Milo leaves to its user.
"""


def stacks(report: Report) -> list[str]:
    """A line for each client and server with its version."""
    out = ["| stack | version |", "| --- | --- |"]
    out += [f"| server {name} | {version} |" for name, version in sorted(report.servers.items())]
    return out + [f"| client {name} | {version} |" for name, version in sorted(report.clients.items())]


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
        versions = "\n".join(stacks(made.report))
    print(report)
    if arguments.save:
        arguments.save.write_text(HEAD.format(day=date.today(), versions=versions) + report + FOOT, encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
