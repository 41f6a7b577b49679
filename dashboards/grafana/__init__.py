"""Dashboards for Grafana as code: each file here is one, `python -m dashboards.grafana` writes their JSON (docs/dashboards.md).

Queries go to two data sources, Prometheus and PostgreSQL (as the role of ``reader.sql``, which names the views that may be read);
panels are Grafana's own.
"""
