"""Print what `requirements.lock` is compiled from: every dependency pyproject.toml names, the command's and the developers'.

Renew the lock with Debian 12's Python (3.11, the oldest supported):
    python scripts/lock.py > /tmp/requirements.in && pip-compile --generate-hashes --strip-extras --allow-unsafe \\
        --no-annotate --no-header --no-emit-find-links -o requirements.lock /tmp/requirements.in

    python scripts/lock.py --lines requirements.lock NAME…            # of the lock, what it says of these packages
    python scripts/lock.py --lines requirements.lock --report FILE    # … of those that `pip install --dry-run --report FILE` chose
"""

import argparse
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path


def wanted() -> list[str]:
    """The dependencies of every kind."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    every = set(project["dependencies"]).union(*project["optional-dependencies"].values())
    return sorted(name for name in every if not name.startswith("hopwatch["))


def lines(lock: str, names: Iterable[str]) -> str:
    """What the lock says of these packages, version and hashes.

    Raises:
        SystemExit: it says nothing of one of them.
    """
    said = {plain(entry.partition("==")[0]): entry for entry in re.split(r"\n(?=[A-Za-z0-9])", lock.rstrip("\n"))}
    names = [plain(name) for name in names]
    if missing := [name for name in names if name not in said]:
        raise SystemExit(f"lock.py: not in the lock: {', '.join(missing)}")
    return "\n".join(said[name] for name in names)


def plain(name: str) -> str:
    """A package's one name for all its spellings (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=Path, metavar="LOCK")
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    if arguments.lines is None:
        print("\n".join(wanted()))
    else:
        names = list(arguments.names)
        if arguments.report is not None:
            chosen = [one["metadata"]["name"] for one in json.loads(arguments.report.read_text(encoding="utf-8"))["install"]]
            # Ourselves are no dependency of ours.
            names += [name for name in chosen if plain(name) != "hopwatch"]
        print(lines(arguments.lines.read_text(encoding="utf-8"), names))
