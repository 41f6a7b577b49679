"""A declared day is quiet, and breaking one line of the declaration breaks exactly the flows that line approves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.demo import APPROVED
from examples.plant.watched import Json, replay, stored_flows
from tests.integration.ways import Recorded

Approves = Callable[[Json], bool]


def _by(account: str, *operations: str) -> Approves:
    return lambda flow: flow["account"] == account and (not operations or flow["operation"] in operations)


def _of_the_historian(flow: Json) -> bool:
    """Its account's, and the channel it opens before it says who it is."""
    return bool(flow["protocol"] == "opcua")


def _goes_to_the_lake(flow: Json) -> bool:
    return bool(flow["protocol"] == "tls")


# What is broken: the text in the file, what stands there instead, the verdict, the flows it approved.
BROKEN: dict[str, tuple[str, str, str, Approves]] = {
    "an operation": ("may: [select], what:", "may: [call], what:", "unapproved-operation", _by("svc_mes", "select")),
    "another operation": ("may: [select, copy]", "may: [select]", "unapproved-operation", _by("svc_mw", "copy")),
    "an account's host": ("from: [ml],        auth", "from: [mw],        auth", "undeclared-account", _by("svc_ml")),
    "an account": ("{who: svc_hist, from: opc-l1", "{who: svc_edge, from: opc-l1", "undeclared-account", _of_the_historian),
    "an object": ("what: [oee],", "what: [line-tags],", "undeclared-data", _by("svc_ml", "subscribe")),
    "a destination": (".113.10:", ".113.11:", "undeclared-destination", _goes_to_the_lake),
}
READABLE = {"postgresql", "mqtt", "opcua"}


def test_declared_day_gives_no_finding_and_no_other_verdict(recorded: Recorded, tmp_path: Path) -> None:
    watch, code = replay([recorded.capture], recorded.declaration, tmp_path / "store.db")
    assert [event for _, event in watch.of("finding")] == []
    assert {flow["judgement"]["verdict"] for flow in stored_flows(tmp_path / "store.db")} <= APPROVED
    assert (code, watch.errors) == (0, [])


def test_work_over_readable_protocols_ends_as_declared(recorded: Recorded, tmp_path: Path) -> None:
    replay([recorded.capture], recorded.declaration, tmp_path / "store.db")
    flows = stored_flows(tmp_path / "store.db")
    work = [flow for flow in flows if flow["protocol"] in READABLE and flow["operation"] != "connect"]
    assert {flow["judgement"]["verdict"] for flow in work} == {"declared"}


@pytest.mark.parametrize("line", BROKEN)
def test_breaking_one_line_breaks_exactly_the_flows_it_approves(recorded: Recorded, tmp_path: Path, line: str) -> None:
    written, instead, verdict, approves = BROKEN[line]
    text = recorded.declaration.read_text(encoding="utf-8")
    assert text.count(written) == 1
    broken = tmp_path / "broken.yaml"
    broken.write_text(text.replace(written, instead), encoding="utf-8")
    watch, _ = replay([recorded.capture], broken, tmp_path / "store.db")
    assert watch.errors == []
    flows = stored_flows(tmp_path / "store.db")
    differing = {flow["event_id"]: flow["judgement"]["verdict"] for flow in flows if flow["judgement"]["verdict"] not in APPROVED}
    assert differing == {flow["event_id"]: verdict for flow in flows if approves(flow)}
