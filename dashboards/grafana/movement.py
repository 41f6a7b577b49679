"""Data movement: who moves what from where to where, how much, and what of it leaves the site."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import nodegraph
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.grafana.parts import (
    COLOUR_OF_VERDICT,
    NODES_MAX,
    POSTGRESQL,
    ROWS_MAX,
    TOTALS,
    Sql,
    chart,
    column,
    dashboard,
    listing,
    over_time,
    promql,
)

QUIET: Final = "('declared', 'declared-in-part', 'service', 'blind')"
"""Verdicts that say nothing against a movement."""

_ENDS: Final = f"""
    WITH {TOTALS},
    moved AS (
        SELECT COALESCE(source_zone, '~outside') AS source_zone, COALESCE(source, '~hosts') AS source,
            COALESCE(destination_zone, '~outside') AS destination_zone, COALESCE(destination, '~hosts') AS destination,
            verdict, sum(bytes) AS bytes, sum(rows) AS rows, sum(windows) AS windows
        FROM totals GROUP BY 1, 2, 3, 4, 5),
    ends AS (
        SELECT zone, name, sum(bytes) AS bytes, sum(windows) AS windows, bool_or(verdict NOT IN {QUIET}) AS differs,
            row_number() OVER (ORDER BY bool_or(verdict NOT IN {QUIET}) DESC, sum(bytes) DESC, zone, name) AS place
        FROM (SELECT source_zone AS zone, source AS name, verdict, bytes, windows FROM moved
            UNION ALL SELECT destination_zone, destination, verdict, bytes, windows FROM moved) AS both_ends GROUP BY 1, 2),
    nodes AS (
        SELECT zone, name, bytes, windows, differs, CASE WHEN place <= {NODES_MAX} THEN zone || '/' || name
        ELSE '~other' END AS id FROM ends)
"""
"""Ends of what moved; those that differ from what is declared are told apart first, then those that moved most."""

NODES: Final = f"""{_ENDS}
    SELECT id, CASE WHEN id = '~other' THEN '~other' ELSE max(name) END AS title,
        CASE WHEN id = '~other' THEN '' ELSE max(zone) END AS subtitle, sum(bytes) AS mainstat, sum(windows) AS secondarystat,
        CASE WHEN bool_or(differs) THEN '#e02f44' ELSE '#5794f2' END AS color, max(zone) AS detail__zone, sum(bytes) AS detail__bytes
    FROM nodes GROUP BY id ORDER BY sum(bytes) DESC"""

EDGES: Final = f"""{_ENDS},
    edges AS (
        SELECT s.id AS source, d.id AS target, m.verdict, sum(m.bytes) AS bytes, sum(m.rows) AS rows, sum(m.windows) AS windows
        FROM moved m JOIN nodes s ON s.zone = m.source_zone AND s.name = m.source
        JOIN nodes d ON d.zone = m.destination_zone AND d.name = m.destination GROUP BY 1, 2, 3)
    SELECT source || '>' || target || '>' || verdict AS id, source, target, bytes AS mainstat, windows AS secondarystat,
        {COLOUR_OF_VERDICT} AS color, 1 + 9 * ln(1 + GREATEST(bytes, 0)) / ln(2 + max(GREATEST(bytes, 0)) OVER ()) AS thickness,
        verdict AS detail__verdict, rows AS detail__rows, bytes AS detail__bytes
    FROM edges ORDER BY bytes DESC LIMIT 5000"""


def made() -> Dashboard:
    """The dashboard."""
    graph = (
        nodegraph.Panel()
        .title("What moved, from where to where")
        .description(
            "An edge for each verdict: grey declared, blue infrastructure, orange blind, red anything else; as thick as it is much."
        )
        .datasource(POSTGRESQL)
        .targets([Sql(NODES, "nodes"), Sql(EDGES, "edges")])
        .nodes(nodegraph.NodeOptions().main_stat_unit("bytes").secondary_stat_unit("short"))
        .edges(nodegraph.EdgeOptions().main_stat_unit("bytes").secondary_stat_unit("short"))
    )
    classes = listing(
        "By class and destination",
        "Rows and bytes of each class (the highest of a window) by the zone they reached.",
        Sql(
            f"""WITH {TOTALS} SELECT COALESCE(class, '~none') AS class, COALESCE(destination_zone, '~outside') AS destination_zone,
            sum(rows) AS rows, sum(bytes) AS bytes, sum(windows) AS windows,
            COALESCE(sum(windows) FILTER (WHERE verdict NOT IN {QUIET}), 0) AS not_declared
            FROM totals GROUP BY 1, 2 ORDER BY bytes DESC LIMIT {ROWS_MAX}"""
        ),
    )
    register = listing(
        "Off-site register",
        "Every declared hop that leaves the site and what it moved; below them what left without one.",
        Sql(
            f"""WITH {TOTALS}, left_site AS (
                SELECT m.plant, m.hop, m.destination_zone, m.destination, sum(m.rows) AS rows, sum(m.bytes) AS bytes,
                    max(m.last) AS last, string_agg(DISTINCT m.class, ', ') AS moved
                FROM totals m LEFT JOIN declared_zones z ON z.plant = m.plant AND z.zone = m.destination_zone
                WHERE (z.off_site OR m.destination_zone IS NULL) AND m.service IS NULL
                GROUP BY 1, 2, 3, 4),
            hops AS (SELECT h.*, zone FROM declared_hops h CROSS JOIN LATERAL unnest(h.destination_zones) AS zone
                WHERE h.off_site AND h.plant IN (${{plant:sqlstring}}))
            SELECT COALESCE(h.plant, l.plant) AS plant, COALESCE(h.hop, l.hop, 'none') AS hop, h.account,
                COALESCE(l.destination, h.zone) AS destination, z.country, z.operator, z.terms, z.terms_until, h.why,
                h.until AS approved_until,
                COALESCE(l.moved, array_to_string(h.classes, ', ')) AS classes, COALESCE(l.rows, 0) AS rows, COALESCE(l.bytes, 0) AS bytes,
                l.last::timestamptz AS last
            FROM hops h FULL JOIN left_site l ON l.plant = h.plant AND l.hop = h.hop
            LEFT JOIN declared_zones z ON z.plant = COALESCE(h.plant, l.plant) AND z.zone = COALESCE(h.zone, l.destination_zone)
            ORDER BY (h.hop IS NULL) DESC, bytes DESC LIMIT {ROWS_MAX}"""
        ),
    )
    accounts = listing(
        "Top accounts",
        "Who moved most; persons are pseudonyms.",
        Sql(
            f"""WITH {TOTALS} SELECT COALESCE(who, '~unknown') AS account, sum(bytes) AS bytes, sum(rows) AS rows,
            sum(windows) AS windows, COALESCE(sum(windows) FILTER (WHERE verdict NOT IN {QUIET}), 0) AS not_declared,
            count(DISTINCT destination) AS destinations FROM totals GROUP BY 1 ORDER BY bytes DESC LIMIT {ROWS_MAX}"""
        ),
    )
    for panel in (classes, register, accounts):
        column(panel, "bytes", unit="bytes")
    column(
        classes,
        "class",
        link=("Only this class", "/d/hopwatch-movement?${__url_time_range}&${plant:queryparam}&var-class=${__value.raw:percentencode}"),
    )
    column(
        accounts,
        "account",
        link=("What it moved", "/d/hopwatch-movement?${__url_time_range}&${plant:queryparam}&var-account=${__value.raw:percentencode}"),
    )
    column(register, "hop", link=("The declaration", "${console}/declaration"))
    rate = 'sum by ({0}) (rate(hopwatch_moved_bytes_total{{plant=~"$plant",class=~"$class",zone=~"$zone"}}[$__rate_interval]))'
    return (
        dashboard(
            "hopwatch-movement",
            "Data movement",
            "What moves in the plant, against what was declared.",
        )
        .with_panel(graph.span(24).height(18))
        .with_row(Row("How much"))
        .with_panel(
            chart(
                "Bytes by class",
                "By the highest class of each window.",
                over_time("sum(byte_count)", "COALESCE(class, '~none')", unit_name="bytes"),
                unit="bytes",
                stacked=True,
            )
            .span(12)
            .height(8)
        )
        .with_panel(
            chart(
                "Rows by destination",
                "By the zone they reached.",
                over_time("sum(row_count)", "COALESCE(destination_zone, '~outside')", unit_name="rows"),
                stacked=True,
            )
            .span(12)
            .height(8)
        )
        .with_panel(classes.span(12).height(10))
        .with_panel(accounts.span(12).height(10))
        .with_row(Row("What leaves"))
        .with_panel(register.span(24).height(10))
        .with_row(Row("Now, as the detectors count"))
        .with_panel(
            chart(
                "Bytes a second by class",
                "From the detectors' own counters: no database needed.",
                promql(rate.format("class"), "{{class}}"),
                unit="Bps",
                stacked=True,
            )
            .span(12)
            .height(8)
        )
        .with_panel(
            chart("Bytes a second by destination", "Likewise.", promql(rate.format("zone"), "{{zone}}"), unit="Bps", stacked=True)
            .span(12)
            .height(8)
        )
    )
