"""OCSF, ECS, Splunk, Alertmanager: held to schemas that others keep, and read back as JSON."""

import json
import re
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from py_ocsf_models.events.findings.detection_finding import DetectionFinding
from told import ANY, alert, alerts, one_line, shown

from alerts.formats import FORMATS, alertmanager, ecs, ocsf, splunk
from alerts.formats.view import Origin
from hopwatch.events import Alert, dump, parse, time_ns

SOC = Origin("soc-1", "0.1.0", "https://console.plant.example:8443")
ECS = json.loads((Path(__file__).parents[1] / "data/ecs/fields-9.4.0.json").read_text(encoding="utf-8"))
Json = dict[str, Any]


@cache
def schema(name: str) -> Draft202012Validator:
    """The published schema of OCSF 1.6.0 with profile incident; fields that it does not know are errors."""
    return Draft202012Validator(OcsfJsonSchemaEmbedded(get_ocsf_schema("1.6.0")).get_class_schema(name, ["incident"]))


def texts(value: Any) -> list[str]:
    """Every text in JSON values, names of fields too."""
    if isinstance(value, dict):
        return [one for name, inner in value.items() for one in (name, *texts(inner))]
    return [one for inner in value for one in texts(inner)] if isinstance(value, list) else [value] if isinstance(value, str) else []


def flat(document: Json, before: str = "") -> Json:
    """Fields by their full names."""
    found: Json = {}
    for name, value in document.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


@ANY
@given(alerts())
def test_any_alert_is_a_detection_finding_by_the_schema_of_ocsf_and_by_models_of_others(said: Alert) -> None:
    event = json.loads(FORMATS["ocsf"].render(said, SOC))
    assert [error.message for error in schema("detection_finding").iter_errors(event)] == []
    model = DetectionFinding.model_validate(event)
    assert (int(model.class_uid), int(model.type_uid)) == (2004, 200400 + int(model.activity_id))
    assert (model.finding_info.uid, model.finding_info.types) == (shown(said.alert_id), [shown(said.finding.verdict)])
    assert model.time == time_ns(said.time) // 10**6
    assert event["evidences"][0].get("actor", {}).get("user", {}).get("name", "") == shown(said.finding.who or "")
    assert all(map(one_line, texts(event)))


@ANY
@given(alerts())
def test_any_alert_is_a_data_security_finding_by_the_schema_of_ocsf(said: Alert) -> None:
    event = json.loads(FORMATS["ocsf-data"].render(said, SOC))
    assert [error.message for error in schema("data_security_finding").iter_errors(event)] == []
    assert event["type_uid"] == 200600 + event["activity_id"]
    assert event["unmapped"]["rows"] == said.finding.observed.rows


def test_a_schema_that_is_not_kept_is_noticed() -> None:
    event = ocsf.detection_finding(alert(), SOC)
    assert list(schema("detection_finding").iter_errors(event | {"severity_id": 7}))
    assert list(schema("detection_finding").iter_errors(event | {"verdict_of_ours": 1}))
    assert list(schema("detection_finding").iter_errors({name: value for name, value in event.items() if name != "finding_info"}))


@pytest.mark.parametrize(
    ("said", "activity"),
    [
        ({"revision": 0, "change": "raised"}, 1),
        ({"revision": 4, "change": "released", "notified": 1}, 1),
        ({"revision": 4, "change": "raised-again", "notified": 2}, 2),
        ({"revision": 1, "change": "updated", "notify": False}, 2),
        ({"revision": 2, "change": "decided", "notified": 2, "state": "in-progress"}, 2),
        ({"revision": 3, "change": "decided", "state": "resolved", "disposition": "true-positive"}, 3),
    ],
)
def test_a_finding_is_created_updated_and_closed_in_the_life_of_an_alert(said: Json, activity: int) -> None:
    event = ocsf.detection_finding(alert(**said), SOC)
    assert (event["activity_id"], event["type_uid"]) == (activity, 200400 + activity)
    assert event["finding_info"]["uid"] == "A-7c1e9a02aabbccdd"


def test_ocsf_names_techniques_of_both_matrices_with_their_release() -> None:
    attacks = ocsf.detection_finding(alert(), SOC)["finding_info"]["attacks"]
    assert [one["version"] for one in attacks] == ["18", "18"]
    assert attacks[0]["technique"] == {"uid": "T1213"}
    assert (attacks[0]["sub_technique"]["uid"], attacks[1]["technique"]["name"]) == ("T1213.006", "Theft of Operational Information")


@ANY
@given(alerts())
def test_every_field_of_any_document_is_one_of_ecs_with_its_type(said: Alert) -> None:
    document = json.loads(FORMATS["ecs"].render(said, SOC))
    for name, value in flat(document).items():
        if name.startswith(("hopwatch.", "labels.")):
            continue
        kind = ECS["fields"][name]
        if isinstance(value, list):
            assert "Array<string>" in kind and value and all(isinstance(one, str) for one in value), (name, kind)
        elif kind == "number":
            assert type(value) is int
        else:
            assert isinstance(value, str) and ("string" in kind or kind == f"'{value}'"), (name, kind)
        if name.endswith(".ip"):
            for one in value if isinstance(value, list) else [value]:
                ip_address(one)
    assert document["ecs"]["version"] == ECS["ecs"] == ecs.VERSION
    assert time_ns(document["@timestamp"]) == time_ns(said.time)
    assert document["event"]["kind"] == "alert"
    assert document.get("user", {}).get("name", "") == shown(said.finding.who or "")
    assert document["hopwatch"]["finding"]["rows"] == said.finding.observed.rows
    assert all(map(one_line, texts(document)))


def test_categories_and_types_of_ecs_are_allowed_together() -> None:
    event = ecs.document(alert(), SOC)["event"]
    # ECS, "event.category": the types that each of the two expects have info in common.
    assert (event["category"], event["type"]) == (["intrusion_detection", "network"], ["info"])


@ANY
@given(alerts())
def test_a_reader_of_splunks_collector_finds_every_value_of_any_alert(said: Alert) -> None:
    event = json.loads(FORMATS["splunk"].render(said, SOC))
    body = event["event"]
    assert set(event) == {"time", "host", "source", "sourcetype", "event", "fields"}
    assert abs(event["time"] - time_ns(said.time) / 1e9) < 1e-5
    assert all(isinstance(one, str) for one in event["fields"].values())
    names = {"alert_id": said.alert_id, "verdict": said.finding.verdict, "user": said.finding.who or "", "plant": said.plant}
    assert {name: body.get(name, "") for name in names} == {name: shown(value) for name, value in names.items()}
    assert [one["observed"] for one in body.get("differences", [])] == [shown(one.observed) for one in said.finding.differences]
    assert all(map(one_line, texts(event)))


def test_events_for_the_collector_follow_each_other() -> None:
    splunks = FORMATS["splunk"]
    both = splunks.together([splunks.render(alert(), SOC), splunks.render(alert(revision=1), SOC)]).decode()
    first, end = json.JSONDecoder().raw_decode(both)
    second, _ = json.JSONDecoder().raw_decode(both[end:])
    assert (first["event"]["revision"], second["event"]["revision"]) == (0, 1)
    assert first["sourcetype"] == splunk.SOURCE_TYPE


@ANY
@given(alerts())
def test_any_alert_is_one_that_alertmanager_takes(said: Alert) -> None:
    for one in json.loads(FORMATS["alertmanager"].render(said, SOC)):
        assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in (*one["labels"], *one.get("annotations", {})))
        assert one["labels"]["alertname"] == "hopwatch"
        assert time_ns(one["startsAt"]) <= time_ns(one["endsAt"])
        assert set(one["labels"]) <= {"alertname", "verdict", "plant", "alert_id", "severity", "canary"}, "no account is a label"
    assert all(map(one_line, texts(json.loads(FORMATS["alertmanager"].render(said, SOC)))))


def test_an_alert_fires_until_it_is_resolved_or_kept_quiet() -> None:
    now_ns = time_ns("2026-04-07T10:42:10.5Z")
    for said, firing in (
        ({}, True), ({"state": "in-progress"}, True), ({"state": "suppressed"}, False), ({"state": "resolved"}, False),
        ({"revision": 1, "change": "inhibited", "inhibited_by": "A-1"}, False), ({"change": "updated", "inhibited_by": "A-1"}, False),
        ({"shelved_until": "2026-04-08T00:00:00Z"}, False), ({"severity": "info"}, False), ({"change": "released"}, True),
    ):  # fmt: skip
        *_, one = alertmanager.alerts(alert(**said), SOC)
        assert (time_ns(one["endsAt"]) - now_ns == alertmanager.FIRING_S * 10**9) is firing
        assert (time_ns(one["endsAt"]) == now_ns) is not firing


def test_an_alert_that_rose_ends_under_the_labels_of_before() -> None:
    said = alertmanager.alerts(alert(revision=2, change="raised-again", severity="high"), SOC)
    ended = {one["labels"]["severity"] for one in said if time_ns(one["endsAt"]) <= time_ns("2026-04-07T10:42:10.5Z")}
    assert (ended, said[-1]["labels"]["severity"]) == ({"info", "low", "medium"}, "high")
    assert [one["labels"]["severity"] for one in alertmanager.alerts(alert(), SOC)] == ["critical"]


def test_several_alerts_of_alertmanager_are_one_list() -> None:
    every = FORMATS["alertmanager"]
    both = every.together([every.render(alert(), SOC), every.render(alert(alert_id="A-2"), SOC)])
    assert [one["labels"]["alert_id"] for one in json.loads(both)] == ["A-7c1e9a02aabbccdd", "A-2"]
    assert json.loads(every.together([])) == []


def test_the_page_of_a_verdict_is_linked_where_the_documents_are_read() -> None:
    origin = Origin("soc-1", "0.1.0", pages="https://git.plant.example/hopwatch/blob/main/")
    *_, one = alertmanager.alerts(alert(), origin)
    assert one["annotations"]["runbook_url"] == "https://git.plant.example/hopwatch/blob/main/docs/verdicts/undeclared-hop.md"
    assert alertmanager.alerts(alert(page=""), origin)[-1]["annotations"].get("runbook_url") is None


@ANY
@given(alerts())
def test_the_event_itself_loses_nothing(said: Alert) -> None:
    line = FORMATS["event"].render(said, SOC)
    assert b"\n" not in line
    assert parse(line) == said
    assert line == dump(said)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_alert_gives_the_same_bytes(name: str) -> None:
    assert FORMATS[name].render(alert(), SOC) == FORMATS[name].render(alert(), SOC)


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_says_an_account_that_the_finding_does_not(name: str) -> None:
    without = alert({"who": None, "differences": [], "client": None}, group="", owner=None)
    assert b"svc_report" in FORMATS[name].render(alert(), SOC).replace(b"\\", b"")
    assert b"svc" not in FORMATS[name].render(without, SOC)
