"""Every named bound of the code in one table: `python -m scripts.bounds` writes docs/bounds.md, a test holds it to the code.

The reason is the constant's own comment. The counter is the one that the comment names, or that `COUNTED` knows; a bound
without one is shown with a dash: what it cuts off is refused, or told as `unknown`, but not added up.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "bounds.md"
ROOMS = ("hopwatch", "collectors", "agent", "detectors", "alerts", "dashboards")

DECODERS = "`bounds_reached`"
COUNTED = {
    ("protocols/postgresql.rs", "REQUESTS_MAX"): DECODERS,
    ("protocols/postgresql.rs", "REQUESTED_BYTES_MAX"): DECODERS,
    ("protocols/postgresql.rs", "NAMED_MAX"): DECODERS,
    ("protocols/postgresql.rs", "NAMED_BYTES_MAX"): DECODERS,
    ("protocols/postgresql.rs", "SQL_BYTES_MAX"): DECODERS,
    ("protocols/postgresql/replication.rs", "RELATIONS_BYTES_MAX"): DECODERS,
    ("sql.rs", "STATEMENTS_MAX"): DECODERS,
    ("sql.rs", "DEPTH_MAX"): DECODERS,
    ("sql.rs", "TABLES_MAX"): DECODERS,
    ("stream.rs", "HELD_BYTES_MAX"): "`gaps`",
    ("stream.rs", "HELD_SEGMENTS_MAX"): "`gaps`",
    ("stream.rs", "AHEAD_MAX"): "`invalid_segments`",
    ("sensor.rs", "HELD_BYTES_TOTAL_MAX"): "`gaps`",
    ("sensor.rs", "CONVERSATIONS_MAX"): "`conversations_dropped`",
    ("fragments.rs", "BYTES_MAX"): "`fragments_evicted`",
    ("fragments.rs", "RUNS_MAX"): "`fragments_evicted`",
}

RUST = re.compile(r"((?:^[ \t]*///[^\n]*\n)*)^[ \t]*(?:pub(?:\(\w+\))? )?const ([A-Z0-9_]+_MAX): [^=]+ = ([^;]+);", re.M)
PYTHON = re.compile(r'^(_?[A-Z0-9_]+_MAX)(?:: [^=\n]+)? = ([^\n]+)\n((?:"""[^"]*""")?)', re.M)


class Bound(NamedTuple):
    place: str
    name: str
    value: str
    why: str


def found() -> Iterator[Bound]:
    """Every constant that ends in ``_MAX``, of the packet path first."""
    source = ROOT / "wire" / "src"
    for path in sorted(source.rglob("*.rs")):
        if path.name in ("tests.rs", "testing.rs"):
            continue
        text = path.read_text().split("#[cfg(test)]\nmod tests {")[0]
        above = ""
        for comment, name, value in RUST.findall(text):
            said = " ".join(line.strip()[3:].strip() for line in comment.splitlines())
            above = said or above
            yield Bound(path.relative_to(source).as_posix(), name, value.strip(), above)
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for name, line, said in PYTHON.findall(path.read_text()):
                value, _, beside = line.partition("#")
                why = said.strip('"').replace("\n", " ") or beside.strip()
                yield Bound(path.relative_to(ROOT).as_posix(), name, value.strip(), why)


def counter(bound: Bound) -> str:
    """What is counted when the bound is reached."""
    named = re.search(r"\(`(\w+)`\)", bound.why)
    return COUNTED.get((bound.place, bound.name)) or (f"`{named[1].removesuffix('_total')}`" if named else "–")


def page() -> str:
    """The table."""
    lines = [
        "# Bounds",
        "",
        "Every queue and table has one, with its default, what counts that it was reached, and why it is what it is. Written from the",
        "code by `python -m scripts.bounds`. `bounds_reached` adds up the tables of all decoders; what a decoder cannot keep goes out as",
        "`unknown`. A dash: what lies beyond is refused, cut or told as `unknown`, and not added up.",
        "",
        "| Where | Bound | Default | Counter | What and why |",
        "| --- | --- | --- | --- | --- |",
    ]
    for bound in found():
        why = bound.why.replace("|", "\\|").replace("[`", "`").replace("`]", "`")
        lines.append(f"| `{bound.place}` | `{bound.name}` | {bound.value} | {counter(bound)} | {why} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
