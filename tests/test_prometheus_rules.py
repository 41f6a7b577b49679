"""The rules for Prometheus: accepted by it, each alert shown firing, each with a severity and a page, and of metrics that there are."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from alerts.delivery.metrics import DeliveryCollector
from hopwatch.metrics import SENSOR
from scripts import metrics as page
from tests.integration.panels import loaded, targets

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "dashboards" / "prometheus"
RUNBOOK = ROOT / "docs" / "runbook.md"
PARTS = ("_bucket", "_sum", "_count")


def promtool(*said: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program, "promtool is missing; `make setup` installs Debian's prometheus"
    return subprocess.run([program, *said], cwd=FOLDER, capture_output=True, text=True, check=False)


def read(name: str) -> Any:  # Any: YAML values.
    return YAML(typ="safe").load((FOLDER / name).read_text())


def alerts() -> list[dict[str, Any]]:  # Any: YAML values.
    return [rule for group in read("alerts.rules.yml")["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "said",
    [("check", "rules", "recording.rules.yml", "alerts.rules.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "tests.yml")],
    ids=" ".join,
)
def test_prometheus_takes_rules_and_configuration_and_their_stories_hold(said: tuple[str, ...]) -> None:
    done = promtool(*said)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_severity_a_page_and_a_story_in_which_it_fires() -> None:
    headings = {line.removeprefix("## ") for line in RUNBOOK.read_text().splitlines() if line.startswith("## ")}
    told = [one for story in read("tests.yml")["tests"] for one in story.get("alert_rule_test", ())]
    fires = {one["alertname"] for one in told if one["exp_alerts"]}
    names = [rule["alert"] for rule in alerts()]
    assert set(names) == fires and len(names) == len(set(names))
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        where, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert where == "docs/runbook.md" and anchor in headings, rule["alert"]
        assert rule["annotations"]["summary"]


def test_rules_and_panels_ask_for_metrics_that_there_are() -> None:
    known = {metric.name for group in page.GROUPS for metric in group}
    registry = CollectorRegistry()
    registry.register(DeliveryCollector(lambda: (), (), {}))
    for family in registry.collect():
        known.add(f"{family.name}_total" if family.type == "counter" else family.name)
    recorded = {rule["record"] for group in read("recording.rules.yml")["groups"] for rule in group["rules"]}
    texts = [rule["expr"] for group in read("recording.rules.yml")["groups"] for rule in group["rules"]]
    texts += [rule["expr"] for rule in alerts()]
    texts += [target.text for dashboard in loaded() for target in targets(dashboard) if target.source == "prometheus"]
    asked = {name for text in texts for name in re.findall(r"[a-z_:0-9]*hopwatch_[a-z_:0-9]+", text)}
    for name in asked:
        plain = next((name.removesuffix(part) for part in PARTS if name.endswith(part) and name.removesuffix(part) in known), name)
        assert plain in known | recorded or plain.startswith(SENSOR), name
