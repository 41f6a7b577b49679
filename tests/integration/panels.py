"""Panels' queries as Grafana would send them: variables and macros filled in, for whoever runs them without Grafana.

As Grafana 11 does: variables of the dashboard by format (`sqlstring` quotes, `regex` is Prometheus's default), `$__interval` as text, then
the macros of the PostgreSQL data source, whose arguments end at the first closing bracket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

JSON = Path(__file__).parents[2] / "dashboards" / "grafana" / "json"
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

_MACRO = re.compile(r"\$(__[a-zA-Z]+)\(([^)]*)\)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")


@dataclass(frozen=True)
class Target:
    """One query of one panel."""

    dashboard: str
    panel: str
    kind: str
    ref: str
    source: str
    text: str
    series: bool = False
    instant: bool = False


@dataclass
class Chosen:
    """A time, and what the variables are set to; a text is an `All` with a value of its own, taken as it is."""

    first: str
    last: str
    values: dict[str, Sequence[str] | str] = field(default_factory=dict)
    interval: str = "1m"
    rate_interval: str = "30s"


def loaded() -> list[dict[str, Any]]:  # Any: JSON values.
    """Every dashboard that is shipped."""
    return [json.loads(path.read_text()) for path in sorted(JSON.glob("*.json"))]


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:  # Any: JSON values.
    """The panels, those of rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panels(panel)
        else:
            yield panel


def targets(dashboard: Mapping[str, Any]) -> Iterator[Target]:
    """Every query of every panel."""
    for panel in panels(dashboard):
        for said in panel["targets"]:
            source = said.get("datasource", panel.get("datasource"))["type"]
            text = said.get("rawSql") or said["expr"]
            more = {"series": said.get("format") == "time_series", "instant": bool(said.get("instant"))}
            yield Target(dashboard["uid"], panel["title"], panel["type"], said["refId"], source, text, **more)


def with_variables(text: str, chosen: Chosen) -> str:
    """The text with the dashboard's variables in it; a name nobody knows stays."""

    def value(match: re.Match[str]) -> str:
        name, how = match[1] or match[3], match[2]
        if name == "__rate_interval":
            return chosen.rate_interval
        if name not in chosen.values:
            return match[0]
        said = chosen.values[name]
        if isinstance(said, str):
            return said
        if how == "sqlstring":
            return ",".join("'" + one.replace("'", "''") + "'" for one in said)
        return "(" + "|".join(re.sub(r"([\\^$*+?.()|\[\]{}])", r"\\\\\1", one) for one in said) + ")"

    return _VARIABLE.sub(value, text)


def sql(text: str, chosen: Chosen) -> str:
    """A query of PostgreSQL, whole."""

    def macro(match: re.Match[str]) -> str:
        name, said = match[1], [one.strip() for one in match[2].split(",")]
        if name == "__timeFilter":
            return f"{said[0]} BETWEEN '{chosen.first}' AND '{chosen.last}'"
        if name in ("__timeFrom", "__timeTo"):
            return f"'{chosen.first if name == '__timeFrom' else chosen.last}'"
        if name in ("__timeGroup", "__timeGroupAlias"):
            width = said[1].strip("'\"")
            seconds = int(width[:-1]) * SECONDS[width[-1]]
            return f"floor(extract(epoch from {said[0]})/{seconds})*{seconds}" + (' AS "time"' if name.endswith("Alias") else "")
        raise AssertionError(f"{match[0]}: no macro of the data source")

    text = with_variables(text, chosen).replace("$__interval", chosen.interval)
    made = _MACRO.sub(macro, text)
    assert "$" not in made, f"left unfilled: {made}"
    return made


def prometheus(text: str, chosen: Chosen) -> str:
    """A query of Prometheus, whole."""
    made = with_variables(text, chosen)
    assert "$" not in made, f"left unfilled: {made}"
    return made
