"""SOC: what is open, how soon somebody looks, what came of it, and whether one person can keep up."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.grafana.parts import ABOUT, SEVERITY_COLOURS, Sql, chart, coloured, column, dashboard, line_at, listing, number, promql

MANAGEABLE_PER_TEN_MINUTES: Final = 1
"""Alarms that one person can answer, on average, in ten minutes (EEMUA 191); 144 in a day."""

ALERTS_SHOWN_MAX: Final = 500

_RAISED: Final = f"{ABOUT} AND $__timeFilter(raised_time)"
_OPEN: Final = f"{ABOUT} AND state IN ('new', 'in-progress')"
_TOLD: Final = f"""told AS (SELECT r.changed_time, a.plant, a.severity FROM alert_revisions r
    JOIN (SELECT alert_id, plant, severity FROM alerts WHERE {ABOUT}) AS a USING (alert_id)
    WHERE r.notify AND $__timeFilter(r.changed_time))"""
_WAITED: Final = "extract(epoch FROM acknowledged_time::timestamptz - raised_time::timestamptz)"


def made() -> Dashboard:
    """The dashboard."""
    alerts = listing(
        "Open alerts",
        "New and in progress, the worst and oldest first.",
        Sql(
            f"""SELECT severity, state, verdict, plant, COALESCE(who, '~unknown') AS account, source, destination,
            array_to_string(classes, ', ') AS classes, array_to_string(zones, ', ') AS zones,
            raised_time::timestamptz AS raised, changed_time::timestamptz AS changed, acknowledged_time::timestamptz AS acknowledged,
            hidden, alert_id, finding_id FROM alerts WHERE {_OPEN}
            ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low', 'info'], severity), raised_time LIMIT {ALERTS_SHOWN_MAX}"""
        ),
    )
    column(
        column(alerts, "severity", colours=SEVERITY_COLOURS),
        "alert_id",
        link=("The alert", "${console}/alerts/${__value.raw:percentencode}"),
    )
    column(
        alerts,
        "finding_id",
        link=(
            "Its evidence",
            "/d/hopwatch-declared?${__url_time_range}&${plant:queryparam}&var-account=${__data.fields.account:percentencode}",
        ),
    )
    raised = line_at(
        chart(
            "Alerts in ten minutes",
            "Raised and told to a person, by severity; the line is EEMUA 191's: one in ten minutes is what a person can answer.",
            Sql(
                f"""WITH {_TOLD} SELECT $__timeGroupAlias(changed_time::timestamptz, '10m'), severity AS metric, count(*) AS alerts
                FROM told GROUP BY 1, 2 ORDER BY 1""",
                series=True,
            ),
            stacked=True,
        ),
        MANAGEABLE_PER_TEN_MINUTES,
    )
    days = listing(
        "Alerts by plant and day",
        f"Told to a person; {144 * MANAGEABLE_PER_TEN_MINUTES} in a day are one in ten minutes (EEMUA 191).",
        Sql(
            f"""WITH {_TOLD}, slots AS (SELECT plant, left(changed_time, 15) AS ten_minutes, count(*) AS alerts FROM told GROUP BY 1, 2)
            SELECT left(ten_minutes, 10) AS day, plant, sum(alerts) AS alerts, round(sum(alerts) / 144.0, 3) AS per_ten_minutes,
            max(alerts) AS most_in_ten_minutes FROM slots GROUP BY 1, 2 ORDER BY 1 DESC, 3 DESC LIMIT 400"""
        ),
    )
    waited = listing(
        "Time to acknowledge",
        "Of alerts raised in this time, by severity; those nobody has acknowledged yet are counted apart.",
        Sql(
            f"""SELECT severity, count(*) AS alerts, count(acknowledged_time) AS acknowledged,
            count(*) - count(acknowledged_time) AS waiting,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY {_WAITED}) AS median,
            percentile_cont(0.95) WITHIN GROUP (ORDER BY {_WAITED}) AS p95,
            max({_WAITED}) AS longest FROM alerts WHERE {_RAISED} GROUP BY 1
            ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low', 'info'], severity)"""
        ),
    )
    for name in ("median", "p95", "longest"):
        column(waited, name, unit="s")
    dispositions = listing(
        "Dispositions",
        "What came of the alerts raised in this time, by verdict.",
        Sql(
            f"""SELECT verdict, COALESCE(disposition, '~open') AS disposition, count(*) AS alerts, sum(hidden) AS hidden,
            count(*) FILTER (WHERE state = 'suppressed') AS suppressed FROM alerts WHERE {_RAISED} GROUP BY 1,
            2 ORDER BY alerts DESC LIMIT 200"""
        ),
    )
    decisions = chart(
        "Decisions",
        "What people decided, by kind; who did is in the console. Of a whole scope, whatever of its plant is chosen.",
        Sql(
            f"""SELECT $__timeGroupAlias(made_time::timestamptz, $__interval), action AS metric, count(*) AS decisions FROM decisions
            WHERE plant IN (${{plant:sqlstring}}) AND $__timeFilter(made_time)
            AND (alert_id IS NULL OR alert_id IN (SELECT alert_id FROM alerts WHERE {ABOUT})) GROUP BY 1, 2 ORDER BY 1""",
            series=True,
        ),
        stacked=True,
    )
    findings = chart(
        "Findings a minute",
        "From the detectors' own counters, before anything is grouped or hidden: no database needed.",
        promql('sum by (severity) (rate(hopwatch_findings_total{plant=~"$plant"}[$__rate_interval])) * 60', "{{severity}}"),
        unit="cpm",
        stacked=True,
    )
    return (
        dashboard(
            "hopwatch-soc",
            "SOC",
            "Open alerts, how soon somebody looks, what came of them, and whether that can be kept up.",
            hours=168,
        )
        .with_panel(number("Open", "New and in progress.", Sql(f"SELECT count(*) AS alerts FROM alerts WHERE {_OPEN}")).span(6).height(4))
        .with_panel(
            number(
                "Open, critical", "Of these.", Sql(f"SELECT count(*) AS alerts FROM alerts WHERE {_OPEN} AND severity = 'critical'"), red=1
            )
            .span(6)
            .height(4)
        )
        .with_panel(
            number(
                "Not acknowledged",
                "Nobody has looked yet.",
                Sql(f"SELECT count(*) AS alerts FROM alerts WHERE {_OPEN} AND acknowledged_time IS NULL"),
                red=1,
            )
            .span(6)
            .height(4)
        )
        .with_panel(
            number(
                "Median time to acknowledge",
                "Of alerts raised in this time.",
                Sql(f"SELECT COALESCE(percentile_cont(0.5) WITHIN GROUP (ORDER BY {_WAITED}), 0) AS seconds FROM alerts WHERE {_RAISED}"),
                unit="s",
            )
            .span(6)
            .height(4)
        )
        .with_panel(alerts.span(24).height(12))
        .with_row(Row("Can it be kept up"))
        .with_panel(coloured(raised, SEVERITY_COLOURS).span(14).height(9))
        .with_panel(days.span(10).height(9))
        .with_panel(waited.span(12).height(8))
        .with_panel(findings.span(12).height(8))
        .with_row(Row("What came of it"))
        .with_panel(dispositions.span(12).height(9))
        .with_panel(decisions.span(12).height(9))
    )
