"""What a person is told beforehand is what the detector says of the window afterwards."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from north import LAKE, architecture, collect, end, extract, judge, mes, objects, publish, upload

from detectors.judgement import QUIET
from detectors.whatif import what_if
from hopwatch.declared.explain import Answer
from hopwatch.declared.load import load
from hopwatch.events import Flow

PLANT = architecture()
DAY = date(2026, 4, 7)


def ask(who: str, source: str, destination: str, what: str, count: int = 1, day: date = DAY) -> Answer:
    return what_if(PLANT, who, source, destination, what, count, day)


def test_the_hop_that_approves_is_named_with_its_conditions() -> None:
    answer = ask("svc_mw", "mes-db", "mw", "quality.defect", 200_000)
    assert (answer.approved, answer.hop) == (True, "extract-quality")
    assert str(answer) == (
        "approved by extract-quality\n  on condition: operation is select or copy\n"
        "  on condition: it runs daily 01:30-03:00 (Europe/Berlin)\n"
        "  on condition: it carries no *.operator_name\n  on condition: in transit tls1.3 or better\n  on condition: within 300 MiB / 1d\n"
        "  on condition: within 2M rows / 1d of all hops of owner integration, with what else counts towards it\n"
        "  on condition: until 2026-12-31"
    )


@pytest.mark.parametrize(
    ("asked", "hop"),
    [
        (("svc_mw", "mes-db", "10.30.0.21", "inspection"), "extract-quality"),
        (("svc_mes", "mes-app", "mes-db", "mes.genealogy"), "mes-writes"),
        (("svc_mes", "mes-db", "mes-app", "operators"), "mes-works"),
        (("svc_lake", "mw", "lake", "inspection"), "lake-upload"),
        (("svc_lake", "mw", "lake", "quality.defect"), "lake-upload"),
        (("certificate:CN=svc_hist", "opc-l1", "historian", "ns=2;s=Line1/Telemetry/Temp"), "collect-tags"),
        (("svc_edge", "opc-l2", "uns", "line-tags"), "publish-uns"),
        (("svc_ml", "uns", "ml", "north/l1/oee/x"), "ml-features"),
        (("svc_ml", "10.30.0.10", "10.40.8.40", "uns-events"), "ml-features"),
        (("acme", "opc-l2", "acme-rs", "line-tags"), None),
        (("acme", "opc-l2", "198.51.100.18", "line-tags"), None),
    ],
)
def test_every_hop_of_the_plant_approves_what_it_is_for(asked: tuple[str, str, str, str], hop: str | None) -> None:
    answer = ask(*asked)
    # Nothing lists the vendor's zone as a host of an account there; it comes from its own zone.
    assert (answer.approved, answer.hop) == (True, hop or "acme-diagnose"), str(answer)


@pytest.mark.parametrize(
    ("asked", "verdict", "hop", "said"),
    [
        (("svc_mw", "mes-db", "10.30.0.21", "quality.defect", 200_001), "over-limit", "extract-quality", "200k rows / 1h -> 200001 rows"),
        (("svc_report", "mes-db", "10.40.9.77", "mes.genealogy", 1_200_000), "undeclared-hop", "extract-quality", "is not in the file"),
        (("svc_mw", "mes-db", "mw", "mes.never_seen"), "undeclared-data", "extract-quality", "mes.never_seen (unclassified)"),
        (("svc_mw", "mes-db", "mw", "genealogy"), "undeclared-data", "extract-quality", "(process_ip)"),
        (("svc_lake", "mw", "lake", "mes.genealogy"), "undeclared-data", "lake-upload", "mes.genealogy (process_ip)"),
        (("svc_lake", "mw", "lake", "nothing_known"), "undeclared-data", "lake-upload", "nothing_known, which is unclassified"),
        (("svc_mw", "mes-db", "10.30.0.99", "inspection"), "undeclared-account", "extract-quality", "svc_mw at mw"),
        (("svc_ml", "mes-db", "mw", "inspection"), "undeclared-account", "extract-quality", "svc_ml at mw"),
        (("svc_mw", "mw", "mes-db", "inspection"), "unapproved-operation", "extract-quality", "mes-db -> mw"),
        (("svc_mw", "mw", "192.0.2.200", "inspection"), "undeclared-destination", None, "no declared zone"),
        (("svc_mes", "mes-db", "mes-app", "decoy"), "decoy", "mes-works", "nobody touches it"),
        (("dba", "mes-db", "10.20.1.5", "inspection"), "undeclared-account", "mes-works", "dba at"),
    ],
)  # fmt: skip
def test_what_no_hop_approves_says_what_differs(asked: tuple[str, str, str, str], verdict: str, hop: str | None, said: str) -> None:
    answer = ask(*asked)
    assert (answer.approved, answer.verdict) == (False, verdict), str(answer)
    assert hop in (None, answer.hop)
    assert any(said in one for one in answer.said), str(answer)


def test_an_answer_is_for_its_day() -> None:
    asked = ("svc_mw", "mes-db", "mw", "inspection")
    assert [ask(*asked, day=date(2026, 12, 31) + timedelta(days=more)).approved for more in (0, 1)] == [True, False]
    assert "until 2026-12-31" in str(ask(*asked, day=date(2027, 1, 1)))


def test_a_ticket_of_the_day_is_no_ordinary_approval() -> None:
    # On this day an exception lets five million rows pass until six; a question is about what may always move.
    assert ask("svc_mw", "mes-db", "mw", "inspection", 400_001, day=date(2026, 4, 4)).verdict == "over-limit"
    assert ask("svc_mes", "mes-db", "mes-app", "orders", 500_001, day=date(2026, 4, 30)).verdict == "over-limit"


def test_a_place_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere is no asset or zone of this file, and no address"):
        ask("svc_mw", "mes-db", "nowhere", "inspection")


PLACES = {"10.20.1.21": "mes-db", "10.30.0.20": "mw", "10.20.1.20": "mes-app", "10.10.1.10": "opc-l1", "10.30.0.10": "uns",
          "10.20.1.30": "historian", LAKE[0]: "lake"}  # fmt: skip


@pytest.mark.parametrize(
    "window",
    [
        extract(), mes(), collect(), publish(), extract(account="svc_report"), extract(account="svc_ml"),
        extract(destination=end(("10.30.0.99", 50002))), extract(destination=end(("10.40.9.77", 50002))),
        extract(destination=end(("8.8.8.8", 50002))), extract(objects=[objects("mes.genealogy", rows=5)]),
        extract(objects=[objects("mes.nothing", rows=5)]), extract(objects=[objects("quality.inspection", rows=200_001)]),
        mes(objects=[objects("mes.genealogy", rows=500_001)]), mes(objects=[objects("mes.recipe_master_2019", rows=1)]),
        mes(account="svc_mw"), collect(objects=[objects("ns=2;s=Line1/Recipe/Mix", values=1)]),
        publish(objects=[objects("north/line1/recipe/x", messages=1)]), publish(account="svc_ml"),
        upload(operation="put", depth="decoded", account="svc_lake", objects=[objects("quality.inspection", bytes=9)]),
        upload(operation="put", depth="decoded", account="svc_mw", objects=[objects("quality.inspection", bytes=9)]),
    ],
)  # fmt: skip
def test_the_answer_is_the_verdict_of_the_window_itself(window: Flow) -> None:
    part = window.objects[0]
    count = part.rows or part.values or part.messages
    ends = [PLACES.get(one.address, one.address) for one in (window.source, window.destination)]
    verdict, judgement = ask(window.account or "", *ends, part.names[0], count), judge(window)
    assert verdict.approved == (judgement.verdict in QUIET), (str(verdict), judgement.verdict)
    if not verdict.approved:
        assert verdict.verdict == judgement.verdict
        assert judgement.finding is not None and verdict.hop == judgement.finding.nearest_hop


def test_the_demo_plants_approved_work_is_approved() -> None:
    demo = load(Path(__file__).parents[2] / "examples" / "plant-demo.yaml", at=DAY)
    for hop in demo.hops.values():
        answer = what_if(demo, hop.who, hop.from_[0], hop.to[0], hop.what[0], 1, DAY)
        assert answer.approved, (hop.why, str(answer))
