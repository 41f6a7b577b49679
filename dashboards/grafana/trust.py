"""Trust in the view: how deep is seen where, what was blind or lost, whether agents, detectors and delivery live."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.grafana.parts import (
    RED,
    ROWS_MAX,
    SAID,
    WATCHED,
    Sql,
    chart,
    column,
    dashboard,
    line_at,
    listing,
    number,
    over_time,
    promql,
)

SILENT_S: Final = 60
"""An agent says something every ten seconds; after a minute of silence its zone is not watched."""

_PLANT: Final = "plant IN (${plant:sqlstring})"


def made() -> Dashboard:
    """The dashboard."""
    conduits = listing(
        "Coverage by conduit",
        "How deep the windows between the zones of each conduit were read, beside what was promised; last what crosses zones without one.",
        Sql(
            f"""WITH {SAID}, read AS (
                SELECT outcome, depth, count(*) AS windows FROM judgements WHERE $__timeFilter(start_time) GROUP BY 1, 2),
            crossed AS (
                SELECT plant, source_zone, destination_zone, sum(windows) AS windows,
                    sum(windows) FILTER (WHERE depth = 'decoded') AS decoded,
                    sum(windows) FILTER (WHERE depth = 'server-log') AS server_log, sum(windows) FILTER (WHERE depth = 'sizes') AS sizes,
                    sum(windows) FILTER (WHERE depth = 'blind') AS blind, sum(windows) FILTER (WHERE verdict = 'blind') AS unanswered
                FROM said JOIN read USING (outcome) WHERE source_zone IS DISTINCT FROM destination_zone GROUP BY 1, 2, 3),
            joined AS (
                SELECT x.*, COALESCE(c.conduit, '~none') AS conduit, c.sees, c.agent FROM crossed x LEFT JOIN declared_conduits c
                ON c.plant = x.plant AND ((x.source_zone = ANY(c.sources) AND x.destination_zone = ANY(c.destinations))
                    OR (x.destination_zone = ANY(c.sources) AND x.source_zone = ANY(c.destinations))))
            SELECT plant, conduit, min(sees) AS promised, min(agent) AS agent, sum(windows) AS windows,
                COALESCE(sum(decoded), 0) AS decoded, COALESCE(sum(server_log), 0) AS server_log, COALESCE(sum(sizes), 0) AS sizes,
                COALESCE(sum(blind), 0) AS blind, COALESCE(sum(unanswered), 0) / sum(windows) AS blind_share
            FROM joined GROUP BY 1, 2
            UNION ALL SELECT c.plant, c.conduit, c.sees, c.agent, 0, 0, 0, 0, 0, NULL FROM declared_conduits c WHERE c.{_PLANT}
                AND (c.sources || c.destinations) && ARRAY[${{zone:sqlstring}}]
                AND NOT EXISTS (SELECT FROM joined j WHERE j.plant = c.plant AND j.conduit = c.conduit)
            ORDER BY plant, conduit LIMIT {ROWS_MAX}"""
        ),
    )
    column(column(conduits, "blind_share", unit="percentunit"), "conduit", link=("Coverage", "${console}/coverage"))
    taps = listing(
        "Coverage by tap",
        "What each agent said of its taps and their contexts (VLAN, VNI): most windows' depth, and the share that showed one side only.",
        Sql(
            f"""SELECT plant, agent, COALESCE(tap, '~none') AS tap, COALESCE(context, '~none') AS context,
            mode() WITHIN GROUP (ORDER BY depth) AS depth,
            sum(windows) AS windows, sum(windows * one_sided_share) / GREATEST(sum(windows), 1) AS one_sided_share
            FROM coverage said WHERE {WATCHED} AND $__timeFilter(seen_time) GROUP BY 1, 2, 3, 4 ORDER BY windows DESC LIMIT {ROWS_MAX}"""
        ),
    )
    column(taps, "one_sided_share", unit="percentunit")
    agents = listing(
        "Agents",
        "The last word of each agent in this time.",
        Sql(
            f"""SELECT DISTINCT ON (plant,
            agent) CASE WHEN seen_time::timestamptz < $__timeTo()::timestamptz - interval '{SILENT_S} seconds' THEN 'silent'
            ELSE 'heard' END AS state, plant, agent, seen_time::timestamptz AS last_heard, version, clock_offset_s,
            clock_synchronised, spool_events
            FROM heartbeats said WHERE {WATCHED} AND $__timeFilter(seen_time) ORDER BY plant, agent, seen_time DESC LIMIT {ROWS_MAX}"""
        ),
    )
    column(column(agents, "state", colours={"heard": "green", "silent": RED}), "clock_offset_s", unit="s")
    losses = listing(
        "Losses",
        "What was not seen, by where it was lost.",
        Sql(
            f"""SELECT plant, agent, stage, count(*) AS losses, sum(packets) AS packets, sum(bytes) AS bytes, sum(events) AS events,
            max(end_time)::timestamptz AS last FROM losses said WHERE {WATCHED} AND $__timeFilter(start_time) GROUP BY 1, 2, 3
            ORDER BY packets DESC, bytes DESC LIMIT {ROWS_MAX}"""
        ),
    )
    column(losses, "bytes", unit="bytes")
    share = (
        '(sum(rate(hopwatch_windows_total{{plant=~"$plant",verdict="blind"}}[{0}])) or vector(0))'
        ' / sum(rate(hopwatch_windows_total{{plant=~"$plant"}}[{0}]))'
    )
    blind = line_at(
        chart(
            "Blind share",
            "Windows of which something that is asked could not be known.",
            over_time("avg(CASE WHEN verdict = 'blind' THEN 1.0 ELSE 0.0 END)", "plant", unit_name="share").largest(),
            unit="percentunit",
        ),
        0.2,
    )
    board = dashboard(
        "hopwatch-trust",
        "Trust in the view",
        "How much of what moved could be seen, and whether everything that looks lives.",
    )
    for small in (
        number(
            "Agents silent",
            f"Not heard for {SILENT_S} s.",
            promql(
                f"""count(time() - max by (plant, agent) (hopwatch_heartbeat_timestamp_seconds{{plant=~"$plant"}}) > {SILENT_S})
                    or vector(0)""",
                instant=True,
            ),
            red=1,
        ),
        number(
            "Blind share",
            "Of the last five minutes.",
            promql(f"({share.format('5m')}) >= 0 or vector(0)", instant=True),
            unit="percentunit",
            red=0.2,
        ),
        number(
            "Packets lost",
            "In the last hour.",
            promql('sum(increase(hopwatch_lost_packets_total{plant=~"$plant"}[1h])) or vector(0)', instant=True),
            red=1,
        ),
        number("Events behind", "What detectors have not read yet.", promql("sum(hopwatch_lag_events)", instant=True), red=100_000),
        number(
            "Spools",
            "Events that wait at agents.",
            promql('sum(hopwatch_heartbeat_spool_events{plant=~"$plant"})', instant=True),
            red=100_000,
        ),
        number(
            "Oldest undelivered",
            "The alert that waits longest for a destination.",
            promql("max(hopwatch_delivery_oldest_letter_age_seconds)", instant=True),
            unit="s",
            red=300,
        ),
    ):
        board.with_panel(small.span(4).height(4))
    board.with_row(Row("What is seen"))
    board.with_panel(conduits.span(24).height(9))
    for drawn in (
        blind,
        taps,
    ):
        board.with_panel(drawn.span(12).height(8))
    board.with_row(Row("What is lost"))
    for drawn in (
        losses,
        chart(
            "Packets lost a second",
            "By the stage that lost them.",
            promql('sum by (agent, stage) (rate(hopwatch_lost_packets_total{plant=~"$plant"}[$__rate_interval]))', "{{agent}} {{stage}}"),
            unit="pps",
        ),
    ):
        board.with_panel(drawn.span(12).height(8))
    board.with_row(Row("What looks"))
    board.with_panel(agents.span(24).height(8))
    for drawn in (
        chart(
            "Clock offset",
            "As each agent's kernel knows it.",
            promql('hopwatch_heartbeat_clock_offset_seconds{plant=~"$plant"}', "{{agent}}"),
            unit="s",
        ),
        chart(
            "Lag",
            "Messages of each topic that are not read yet.",
            promql("sum by (job, topic) (hopwatch_lag_events)", "{{job}} {{topic}}"),
        ),
        chart(
            "Time of a step",
            "What 19 of 20 batches take, from reading to keeping.",
            promql("histogram_quantile(0.95, sum by (job, le) (rate(hopwatch_step_seconds_bucket[$__rate_interval])))", "{{job}}"),
            unit="s",
        ),
    ):
        board.with_panel(drawn.span(8).height(8))
    board.with_row(Row("Who is told"))
    for drawn in (
        chart("Letters that wait", "By destination.", promql("sum by (destination) (hopwatch_delivery_queue_letters)", "{{destination}}")),
        chart(
            "Age of the oldest",
            "By destination.",
            promql("max by (destination) (hopwatch_delivery_oldest_letter_age_seconds)", "{{destination}}"),
            unit="s",
        ),
        chart(
            "Delivery delay",
            "From the alert's own time to the destination's acknowledgement: 19 of 20.",
            promql(
                """histogram_quantile(0.95,
                    sum by (destination, le) (rate(hopwatch_delivery_alert_delay_seconds_bucket[$__rate_interval])))""",
                "{{destination}}",
            ),
            unit="s",
        ),
    ):
        board.with_panel(drawn.span(8).height(8))
    return board
