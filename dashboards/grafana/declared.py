"""Declared against observed: which hops are used, how near their limits, what nobody uses, and what was said window by window."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import statetimeline
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from dashboards.grafana.movement import QUIET
from dashboards.grafana.parts import (
    ABOUT,
    MOVED,
    POSTGRESQL,
    RED,
    ROWS_MAX,
    SEVERITY_COLOURS,
    TOTALS,
    VERDICT_COLOURS,
    Sql,
    chart,
    coloured,
    column,
    dashboard,
    listing,
    number,
    over_time,
    promql,
)

DRIFTING_SHARE: Final = 0.8
"""From this share of a limit on, the verdicts' own warning is given too (docs/detectors.md)."""

_HOPS: Final = """declared_hops h WHERE h.plant IN (${plant:sqlstring}) AND (h.source_zones && ARRAY[${zone:sqlstring}]
    OR h.destination_zones && ARRAY[${zone:sqlstring}]) AND ('~all' IN (${account:sqlstring}) OR h.account IN (${account:sqlstring}))
    AND CASE WHEN cardinality(h.classes) = 0 THEN '~none' IN (${class:sqlstring}) ELSE h.classes && ARRAY[${class:sqlstring}] END"""

_USED: Final = f"""{TOTALS}, used AS (SELECT plant, hop, sum(windows) AS windows,
    COALESCE(sum(windows) FILTER (WHERE verdict NOT IN {QUIET}), 0) AS not_declared,
    sum(rows) AS rows, sum(bytes) AS bytes, max(last) AS last FROM totals WHERE hop IS NOT NULL GROUP BY 1, 2)"""

_SLOTS: Final = f"""slots AS (SELECT plant, hop, left(start_time, 13) AS hour, sum(row_count) AS rows, sum(byte_count) AS bytes
        FROM movements WHERE {MOVED} AND hop IS NOT NULL GROUP BY 1, 2, 3),
    peaks AS (SELECT plant, hop, 3600 AS period_s, max(rows) AS rows, max(bytes) AS bytes FROM slots GROUP BY 1, 2
        UNION ALL SELECT plant, hop, 86400, max(rows), max(bytes)
        FROM (SELECT plant, hop, left(hour, 10), sum(rows) AS rows, sum(bytes) AS bytes FROM slots GROUP BY 1, 2, 3)
        AS days GROUP BY 1, 2)"""


def made() -> Dashboard:
    """The dashboard."""
    hits = listing(
        "Hits",
        "Every declared hop with what was seen of it; a hop nobody used is unseen.",
        Sql(
            f"""WITH {_USED} SELECT CASE WHEN u.hop IS NULL THEN 'unseen' WHEN u.not_declared > 0 THEN 'differs' ELSE 'seen' END AS state,
            h.plant, h.hop, h.account, array_to_string(h.sources, ', ') AS "from", array_to_string(h.destinations, ', ') AS "to",
            array_to_string(h.classes, ', ') AS classes, COALESCE(u.windows, 0) AS windows, COALESCE(u.not_declared, 0) AS not_declared,
            COALESCE(u.rows, 0) AS rows, COALESCE(u.bytes, 0) AS bytes, u.last::timestamptz AS last, h.until AS approved_until
            FROM {_HOPS.replace("WHERE", "LEFT JOIN used u ON u.plant = h.plant AND u.hop = h.hop WHERE", 1)}
            ORDER BY not_declared DESC, windows DESC, h.hop LIMIT {ROWS_MAX}"""
        ),
    )
    column(column(hits, "bytes", unit="bytes"), "state", colours={"seen": "green", "unseen": "#ff9830", "differs": RED})
    column(
        hits,
        "hop",
        link=(
            "What it moved",
            "/d/hopwatch-movement?${__url_time_range}&${plant:queryparam}&var-account=${__data.fields.account:percentencode}",
        ),
    )
    unseen = listing(
        "Unseen",
        "Approved, and nothing of it was seen in this time: approvals that may end.",
        Sql(
            f"""WITH {_USED} SELECT h.plant, h.hop, h.account, h.why, h.ticket, h.until AS approved_until
            FROM {_HOPS} AND NOT EXISTS (SELECT FROM used u WHERE u.plant = h.plant AND u.hop = h.hop) ORDER BY h.hop LIMIT {ROWS_MAX}"""
        ),
    )
    column(unseen, "hop", link=("The declaration", "${console}/declaration"))
    drifting = listing(
        "Drifting",
        "The largest share of each limit that one hour or day of UTC used; sliding hours and plant days are the detectors' to judge.",
        Sql(
            f"""WITH {_SLOTS} SELECT CASE WHEN share > 1 THEN 'over' WHEN share > {DRIFTING_SHARE} THEN 'drifting'
            ELSE 'within' END AS state,
            plant, hop, said AS "limit", amount, peak, share FROM (
                SELECT l.plant, l.hop, l.said, l.amount, CASE l.unit WHEN 'rows' THEN p.rows ELSE p.bytes END AS peak,
                    round(CASE l.unit WHEN 'rows' THEN p.rows ELSE p.bytes END / l.amount::numeric, 4) AS share
                FROM declared_limits l JOIN peaks p ON p.plant = l.plant AND p.hop = l.hop AND p.period_s = l.period_s
                WHERE l.unit IN ('rows', 'bytes') AND l.amount > 0) AS shares ORDER BY share DESC LIMIT {ROWS_MAX}"""
        ),
    )
    column(column(drifting, "share", unit="percentunit"), "state", colours={"within": "green", "drifting": "#ff9830", "over": RED})
    findings = listing(
        "Findings",
        "What differs from the declaration, with the window that shows it.",
        Sql(
            f"""SELECT f.severity, f.verdict, f.plant, f.who AS account, f.source, f.destination, f.hop AS nearest_hop, f.windows,
            array_to_string(f.classes, ', ') AS classes, array_to_string(f.zones, ', ') AS zones,
            f.first_seen::timestamptz AS first_seen, f.last_seen::timestamptz AS last_seen, f.finding_id
            FROM findings f WHERE {ABOUT} AND $__timeFilter(f.last_seen)
            ORDER BY f.last_seen DESC LIMIT {ROWS_MAX}"""
        ),
    )
    column(findings, "severity", colours=SEVERITY_COLOURS)
    column(findings, "finding_id", link=("Its alert and evidence", "${console}/alerts/${__value.raw:percentencode}"))
    evidence = listing(
        "Evidence",
        "The windows that findings were raised from, newest first; `hopwatch explain ID` tells each in full.",
        Sql(
            f"""SELECT start_time::timestamptz AS time, finding_id, verdict, COALESCE(who, '~unknown') AS account, source, destination,
            COALESCE(class, '~none') AS class, row_count AS rows, byte_count AS bytes, depth, event_id
            FROM movements WHERE {MOVED} AND finding_id IS NOT NULL ORDER BY start_time DESC LIMIT {ROWS_MAX}"""
        ),
    )
    column(column(evidence, "bytes", unit="bytes"), "finding_id", link=("Its alert", "${console}/alerts/${__value.raw:percentencode}"))
    worst = (
        statetimeline.Panel()
        .title("Worst verdict by hop")
        .description("0 declared, 1 in part or infrastructure, 2 blind, 3 anything else.")
        .datasource(POSTGRESQL)
        .targets(
            [
                over_time(
                    f"max(CASE WHEN verdict = 'declared' THEN 0 WHEN verdict = 'blind' THEN 2 WHEN verdict IN {QUIET} THEN 1 ELSE 3 END)",
                    "COALESCE(hop, '~none')",
                    unit_name="worst",
                ).largest()
            ]
        )
    )
    colours = {"0": ("declared", "#8e8e8e"), "1": ("in part", "#5794f2"), "2": ("blind", "#ff9830"), "3": ("differs", RED)}
    options = {value: {"text": text, "color": colour, "index": int(value)} for value, (text, colour) in colours.items()}
    worst.override_by_regexp(".*", [DynamicConfigValue("mappings", [{"type": "value", "options": options}])])
    windows = "count(*)"
    verdicts = coloured(
        chart("Verdicts", "Windows by what was said of them.", over_time(windows, "verdict", unit_name="windows"), stacked=True),
        VERDICT_COLOURS,
    )
    rate = chart(
        "Verdicts a second",
        "From the detectors' own counters: no database needed.",
        promql('sum by (verdict) (rate(hopwatch_windows_total{plant=~"$plant"}[$__rate_interval]))', "{{verdict}}"),
        unit="ops",
        stacked=True,
    )
    hops = f"SELECT count(*) AS hops FROM {_HOPS}"
    return (
        dashboard(
            "hopwatch-declared",
            "Declared against observed",
            "Which approvals are used, how much of them, and what was not approved.",
        )
        .with_panel(number("Hops declared", "Of what is chosen.", Sql(hops)).span(6).height(4))
        .with_panel(
            number(
                "Hops unseen",
                "Nothing of them was seen in this time.",
                Sql(f"WITH {_USED} {hops} AND NOT EXISTS (SELECT FROM used u WHERE u.plant = h.plant AND u.hop = h.hop)"),
                red=1,
            )
            .span(6)
            .height(4)
        )
        .with_panel(
            number(
                "Windows declared",
                "The share of windows that are as declared, infrastructure included.",
                Sql(
                    f"""WITH {TOTALS} SELECT COALESCE(sum(windows) FILTER (WHERE verdict IN ('declared', 'declared-in-part', 'service'))
                    / sum(windows), 0)::float AS share FROM totals"""
                ),
                unit="percentunit",
            )
            .span(6)
            .height(4)
        )
        .with_panel(
            number(
                "Findings",
                "Said in this time.",
                Sql(f"SELECT count(*) AS findings FROM findings WHERE {ABOUT} AND $__timeFilter(last_seen)"),
                red=1,
            )
            .span(6)
            .height(4)
        )
        .with_panel(hits.span(24).height(10))
        .with_panel(drifting.span(12).height(9))
        .with_panel(unseen.span(12).height(9))
        .with_row(Row("Verdicts"))
        .with_panel(verdicts.span(12).height(8))
        .with_panel(rate.span(12).height(8))
        .with_panel(worst.span(24).height(10))
        .with_row(Row("What differs"))
        .with_panel(findings.span(24).height(9))
        .with_panel(evidence.span(24).height(9))
    )
