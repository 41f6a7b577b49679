"""What the dashboards share: data sources, queries, variables, colours, links."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.common import GraphThresholdsStyleConfig, StackingConfig, VizLegendOptions
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import (
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

PROMETHEUS: Final = DataSourceRef("prometheus", "hopwatch-prometheus")
POSTGRESQL: Final = DataSourceRef("grafana-postgresql-datasource", "hopwatch-postgresql")
"""By the uids that ``provisioning/datasources`` gives."""

NODES_MAX: Final = 1_000
"""Ends of movements that a graph tells apart, those that moved most; the others are one."""

ROWS_MAX: Final = 200
"""Rows of a table, those with most."""

ACCOUNTS_MAX: Final = 1_000
"""Accounts to choose from; `All` is of every account, listed or not."""

VERDICT_COLOURS: Final = {
    "declared": "#8e8e8e",
    "declared-in-part": "#b8b8b8",
    "service": "#5794f2",
    "blind": "#ff9830",
}
RED: Final = "#e02f44"
SEVERITY_COLOURS: Final = {"critical": "#c4162a", "high": "#e02f44", "medium": "#ff9830", "low": "#fade2a", "info": "#5794f2"}

COLOUR_OF_VERDICT: Final = (
    "CASE verdict " + " ".join(f"WHEN '{name}' THEN '{c}'" for name, c in VERDICT_COLOURS.items()) + f" ELSE '{RED}' END"
)

CHOSEN: Final = (
    "plant IN (${plant:sqlstring}) AND COALESCE(class, '~none') IN (${class:sqlstring})"
    " AND (COALESCE(source_zone, '~outside') IN (${zone:sqlstring}) OR COALESCE(destination_zone, '~outside') IN (${zone:sqlstring}))"
    " AND ('~all' IN (${account:sqlstring}) OR COALESCE(who, '~unknown') IN (${account:sqlstring}))"
)
MOVED: Final = f"$__timeFilter(start_time) AND {CHOSEN}"
"""What of ``movements`` the variables choose."""

SAID: Final = f"""said AS MATERIALIZED (SELECT DISTINCT ON (outcome) * FROM outcomes
    WHERE day_time >= left($__timeFrom(), 10) AND day_time <= left($__timeTo(), 10) AND {CHOSEN} ORDER BY outcome)"""
"""What of ``outcomes`` the variables choose. Each lies with the day of its windows, and is the same on every day."""

TOTALS: Final = f"""{SAID}, totals AS (SELECT said.*, t.rows, t.bytes, t.windows, t.last FROM said JOIN (
        SELECT outcome, sum(row_count) AS rows, sum(byte_count) AS bytes, count(*) AS windows, max(start_time) AS last
        FROM judgements WHERE $__timeFilter(start_time) GROUP BY outcome) AS t USING (outcome))"""
"""What ``movements`` moved, a row for each thing that was said of any: some hundreds, where a day has a million windows.

An outcome's name is the hash of all that stands in its row, so that windows are gathered by it before anything is joined to them.
"""

ABOUT: Final = (
    "plant IN (${plant:sqlstring}) AND ('~all' IN (${account:sqlstring}) OR COALESCE(who, '~unknown') IN (${account:sqlstring}))"
    " AND classes && ARRAY[${class:sqlstring}] AND zones && ARRAY[${zone:sqlstring}]"
)
"""What of ``findings`` and ``alerts`` the variables choose; the arrays are computed last, of what is left."""

WATCHED: Final = """plant IN (${plant:sqlstring}) AND COALESCE((SELECT bool_or(z.zone IN (${zone:sqlstring})) FROM agent_zones z
    WHERE z.plant = said.plant AND z.agent = said.agent), '~outside' IN (${zone:sqlstring}))"""
"""What of the agents' own words, ``said``, the variables choose: an agent is of the zones it is declared to watch."""

VARIABLES_OF_EACH: Final = ("plant", "zone", "class", "account")

PANEL = TypeVar("PANEL", timeseries.Panel, table.Panel, stat.Panel, statetimeline.Panel)


class Sql(Dataquery, Builder[Dataquery]):
    """A query of the PostgreSQL data source (its own model is no part of the SDK)."""

    def __init__(self, text: str, ref: str = "A", *, series: bool = False) -> None:
        self.text, self.ref, self.series = " ".join(text.split()), ref, series

    def build(self) -> Dataquery:
        """Itself."""
        return self

    def largest(self) -> Sql:
        """The same, with the largest of an interval's minutes in place of their sum."""
        return Sql(self.text.replace("sum(amount)", "max(amount)"), self.ref, series=self.series)

    def to_json(self) -> dict[str, object]:
        """As the data source reads it."""
        return {
            "refId": self.ref,
            "datasource": POSTGRESQL,
            "rawSql": self.text,
            "format": "time_series" if self.series else "table",
            "rawQuery": True,
            "editorMode": "code",
        }


def promql(expression: str, legend: str = "", ref: str = "A", *, instant: bool = False) -> prometheus.Dataquery:
    """A query of the Prometheus data source; over time, or of now as a table."""
    made = prometheus.Dataquery().expr(" ".join(expression.split())).ref_id(ref).datasource(PROMETHEUS)
    made = made.instant() if instant else made.range()
    return made.legend_format(legend) if legend else made


def over_time(value: str, by: str, *, unit_name: str, more: str = "") -> Sql:
    """A series of each ``by`` of the movements: counted by minutes first, since reading a time of text costs."""
    return Sql(
        f"""SELECT $__timeGroupAlias(minute::timestamptz, $__interval), name AS metric, sum(amount) AS "{unit_name}"
        FROM (SELECT left(start_time, 16) || ':00Z' AS minute, {by} AS name, {value} AS amount
            FROM movements WHERE {MOVED}{more} GROUP BY 1, 2) AS minutes GROUP BY 1, 2 ORDER BY 1""",
        series=True,
    )


def chart(title: str, about: str, *targets: Builder[Dataquery], unit: str = "short", stacked: bool = False) -> timeseries.Panel:
    """Something over time."""
    made = timeseries.Panel().title(title).description(about).unit(unit).targets(list(targets)).datasource(_source(targets))
    made = made.legend(VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True))
    made = made.fill_opacity(25 if stacked else 8)
    return made.stacking(StackingConfig().mode(StackingMode.NORMAL)) if stacked else made


def listing(title: str, about: str, *targets: Builder[Dataquery]) -> table.Panel:
    """Rows."""
    return table.Panel().title(title).description(about).targets(list(targets)).datasource(_source(targets)).filterable(True)


def number(title: str, about: str, target: Builder[Dataquery], *, unit: str = "short", red: float | None = None) -> stat.Panel:
    """One number, red from ``red`` on."""
    made = stat.Panel().title(title).description(about).unit(unit).targets([target]).datasource(_source([target]))
    steps = [Threshold(None, "green")] + ([] if red is None else [Threshold(red, "red")])
    return made.thresholds(build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))


def line_at(panel: timeseries.Panel, value: float) -> timeseries.Panel:
    """The chart with a line that is not to be crossed."""
    steps = [Threshold(None, "green"), Threshold(value, "red")]
    style = GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.LINE_AND_AREA)
    return panel.thresholds(build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)).thresholds_style(style)


def column(
    panel: PANEL, name: str, *, unit: str | None = None, link: tuple[str, str] | None = None, colours: dict[str, str] | None = None
) -> PANEL:
    """How one column is shown: its unit, where it leads, which value has which colour."""
    said: list[DynamicConfigValue] = []
    if unit is not None:
        said.append(DynamicConfigValue("unit", unit))
    if link is not None:
        said.append(DynamicConfigValue("links", [{"title": link[0], "url": link[1], "targetBlank": True}]))
    if colours is not None:
        options = {value: {"color": colour, "index": place} for place, (value, colour) in enumerate(colours.items())}
        said.append(DynamicConfigValue("mappings", [{"type": "value", "options": options}]))
        said.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    return panel.override_by_name(name, said)


def coloured(panel: PANEL, colours: dict[str, str]) -> PANEL:
    """Series by name in colours of their own."""
    for name, colour in colours.items():
        panel = panel.override_by_name(name, [DynamicConfigValue("color", {"mode": FieldColorModeId.FIXED, "fixedColor": colour})])
    return panel


def dashboard(uid: str, title: str, about: str, *, hours: int = 24) -> build.Dashboard:
    """A dashboard with the variables that all have, and the way to the others."""
    made = (
        build.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["hopwatch"])
        .timezone("browser")
        .refresh("1m")
        .time(f"now-{hours}h", "now")
        .readonly()
        .link(_to_the_others())
    )
    for variable in VARIABLES.values():
        made = made.with_variable(variable())
    return made


def unfiltered(panel: Mapping[str, Any]) -> str:  # Any: JSON values
    """A sentence that names the variables which change nothing in a panel; empty if all do."""
    used = [set(re.findall(r"\$\{?([a-z]\w*)", said.get("rawSql") or said["expr"])) for said in panel["targets"]]
    missing = [name for name in VARIABLES_OF_EACH if any(name not in names for names in used)]
    if not missing:
        return ""
    figures = " (its figures have no such labels)" if panel["targets"][0]["datasource"]["type"] == PROMETHEUS.type_val else ""
    return f" Not narrowed by {', '.join(missing)}{figures}."


def _to_the_others() -> build.DashboardLink:
    link = build.DashboardLink("hopwatch").type(DashboardLinkType.DASHBOARDS).tags(["hopwatch"]).as_dropdown(False)
    return link.include_vars(True).keep_time(True)


def _choice(name: str, label: str, query: str, *, all_value: str | None = None) -> build.QueryVariable:
    made = (
        build.QueryVariable(name)
        .label(label)
        .datasource(POSTGRESQL)
        .query(" ".join(query.split()))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(VariableOption(text="All", value="$__all", selected=True))
    )
    return made if all_value is None else made.all_value(all_value)


def _console() -> build.TextBoxVariable:
    return build.TextBoxVariable("console").label("Console").default_value(CONSOLE).current(VariableOption(text=CONSOLE, value=CONSOLE))


CONSOLE: Final = "http://127.0.0.1:8710"

VARIABLES: Final[dict[str, Any]] = {  # Any: builders of variables of several kinds.
    "plant": lambda: _choice("plant", "Plant", "SELECT plant FROM declared_plants ORDER BY 1"),
    "zone": lambda: _choice(
        "zone", "Zone", "SELECT zone FROM declared_zones WHERE plant IN (${plant:sqlstring}) UNION SELECT '~outside' ORDER BY 1"
    ),
    "class": lambda: _choice(
        "class", "Class", "SELECT class FROM declared_classes WHERE plant IN (${plant:sqlstring}) UNION SELECT '~none' ORDER BY 1"
    ),
    "account": lambda: _choice(
        "account",
        "Account",
        f"""SELECT DISTINCT COALESCE(who, '~unknown') FROM accounts WHERE plant IN (${{plant:sqlstring}})
        AND day_time >= left($__timeFrom(), 10) AND day_time <= left($__timeTo(), 10) ORDER BY 1 LIMIT {ACCOUNTS_MAX}""",
        all_value="'~all'",
    ),
    "console": _console,
}


def _source(targets: Sequence[Builder[Dataquery]]) -> DataSourceRef:
    return POSTGRESQL if isinstance(targets[0], Sql) else PROMETHEUS
