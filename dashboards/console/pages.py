"""Pages as text: Jinja templates with everything escaped, and the words that a page writes amounts and times in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from hopwatch.events import time_ns
from hopwatch.show import clean, grouped, instant, size, span

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"

SEVERITY_SIGNS: Final = {"critical": "◆", "high": "▲", "medium": "●", "low": "▽", "info": "○"}
"""A shape for each severity: colour alone says nothing to some (WCAG 2.2, 1.4.1)."""


@cache
def environment() -> Environment:
    """The templates; a name that nobody gave is an error, not an empty place."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {
        "clean": clean, "grouped": grouped, "size": size, "instant": lambda time: instant(time) if time else "", "ago": ago,
        "pretty": pretty, "asset": asset, "words": lambda text: str(text).replace("_", " ").replace("-", " "), "listed": listed,
    }  # fmt: skip
    made.globals |= {"SIGNS": SEVERITY_SIGNS, "span": span}
    return made


def rendered(name: str, **context: Any) -> bytes:  # Any: what templates are given.
    """The page."""
    return environment().get_template(name).render(**context).encode("utf-8", "replace")


def ago(time: str | None, now_ns: int) -> str:
    """``3 min ago``, no finer than minutes, so that a page that did not change is the same page; nothing for no time."""
    if not time:
        return ""
    seconds = (now_ns - time_ns(time)) / 1e9
    if seconds < -1:
        return "in the future"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


def pretty(value: object) -> str:
    """JSON for people."""
    return json.dumps(value, indent=1, ensure_ascii=False)


def listed(names: Iterable[object], most: int = 6) -> Markup:
    """The first of the names, and how many more there are."""
    every = [clean(name) for name in names]
    shown = ", ".join(every[:most])
    return escape(f"{shown} and {len(every) - most} more" if len(every) > most else shown)


@cache
def asset(name: str) -> str:
    """The address of a file that is shipped, with its digest: a new version is fetched, an old one kept for a year."""
    digest = blake2b((STATIC / name).read_bytes(), digest_size=6).hexdigest()
    return f"/static/{name}?v={digest}"
