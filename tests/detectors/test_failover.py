"""Failovers keep the hop and are said once; two active members and an overdue review are findings of their own."""

import json
from datetime import date

import pytest
from north import MES_DB, architecture, detector, end, extract, objects

STANDBY = ("10.20.1.22", 5432)


def served(by: tuple[str, int], second: int, minute: int = 0, **said: object) -> object:
    return extract(source=end(by), at=f"2026-04-07T00:{minute:02d}:{second:02d}Z", n=minute * 60 + second, **said)


def judgements(windows: list[object], **options: object) -> list[object]:
    watching = detector(**options)
    return [watching.observe(window)[0] for window in windows]


def test_a_failover_keeps_the_hop_and_is_said_once() -> None:
    judged = judgements([served(MES_DB, 0), served(MES_DB, 5), served(STANDBY, 9), served(STANDBY, 10)])
    assert [(one.verdict, one.hop) for one in judged] == [("declared", "extract-quality")] * 4
    assert [len(one.notices) for one in judged] == [0, 0, 1, 0]
    (notice,) = judged[2].notices
    assert (notice.verdict, notice.severity, notice.source) == ("failover", "info", "mes-db")
    assert notice.differences[0].observed == "mes-db at 10.20.1.22"


def test_a_failover_keeps_the_budget() -> None:
    full = [objects("quality.inspection", columns=("lot",), rows=150_000)]
    judged = judgements([served(MES_DB, 0, objects=full), served(STANDBY, 9, objects=full)])
    assert [one.verdict for one in judged] == ["declared", "over-limit"]


def test_going_back_later_is_another_failover_and_a_late_window_of_the_old_member_is_none() -> None:
    judged = judgements([served(MES_DB, 0), served(STANDBY, 9), served(MES_DB, 5), served(STANDBY, 30), served(MES_DB, 10, 5)])
    assert [len(one.notices) for one in judged] == [0, 1, 0, 0, 1]
    assert {one.verdict for one in judged} == {"declared"}
    assert judged[1].notices[0].finding_id != judged[4].notices[0].finding_id


def test_two_active_members_are_an_undeclared_hop_high() -> None:
    judged = judgements([served(MES_DB, 0), served(STANDBY, 9), served(MES_DB, 20), served(STANDBY, 25)])
    assert [(one.verdict, one.severity) for one in judged[2:]] == [("undeclared-hop", "high")] * 2
    assert (judged[2].hop, judged[2].finding.source) == ("extract-quality", "mes-db")


def test_logging_in_at_the_old_member_is_not_serving() -> None:
    goodbye = {"operation": "connect", "objects": []}
    judged = judgements([served(MES_DB, 0), served(STANDBY, 9), served(MES_DB, 20, **goodbye)])
    assert "undeclared-hop" not in {one.verdict for one in judged}


def test_a_virtual_address_stands_for_whichever_member_is_active() -> None:
    old = 'at: "10.20.1.21:5432", standby: ["10.20.1.22:5432"]'
    plant = architecture(x=(old, 'members: ["10.20.1.21:5432", "10.20.1.22:5432"], vip: "10.20.1.25:5432"'))
    vip = ("10.20.1.25", 5432)
    judged = judgements([served(MES_DB, 0), served(vip, 2), served(MES_DB, 4), served(STANDBY, 9)], architecture=plant)
    assert {(one.verdict, one.hop) for one in judged} == {("declared", "extract-quality")}
    assert [len(one.notices) for one in judged] == [0, 0, 0, 1]
    both = judgements([served(MES_DB, 0), served(STANDBY, 1), served(MES_DB, 2)], architecture=plant)
    assert both[2].verdict == "undeclared-hop"


def test_a_failover_is_not_said_again_after_a_restart() -> None:
    first = detector()
    first.observe(served(MES_DB, 0))
    first.observe(served(STANDBY, 9))
    second = detector()
    second.restore(json.loads(json.dumps(first.state())))
    assert second.observe(served(STANDBY, 12))[0].notices == ()
    assert second.observe(served(MES_DB, 14))[0].verdict == "undeclared-hop"


@pytest.mark.parametrize(("at", "said", "severity"), [("09-02", 0, None), ("09-03", 1, "medium"), ("10-20", 1, "high")])
def test_an_overdue_review_is_one_finding_about_the_declaration(at: str, said: int, severity: str | None) -> None:
    watching = detector()
    judged = [watching.observe(extract(at=f"2026-{at}T00:00:0{n}Z", n=n))[0] for n in range(3)]
    notices = [notice for one in judged for notice in one.notices]
    assert len(notices) == said
    assert {(one.verdict, one.severity, one.who) for one in notices} == {("expired", severity, "ot-architecture@example.com")} - {
        ("expired", None, "ot-architecture@example.com")
    }
    assert {one.verdict for one in judged} == {"declared"}


def test_the_day_stated_decides_whether_the_review_is_overdue() -> None:
    assert judgements([extract()], at=date(2026, 9, 3))[0].notices != ()
    assert judgements([extract(at="2026-10-20T00:00:00Z")], at=date(2026, 9, 2))[0].notices == ()
