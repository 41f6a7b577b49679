"""The life of an alert: when a person is told, what keeps quiet, and that twice and late change nothing."""

import json
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from said import DAY, HOUR, MINUTE, NOW_NS, SECOND, decision, finding

from alerts import desk as desks
from alerts.desk import ALIKE_MAX, BATCH_S, FLOOD_MAX, DecisionRefused, Desk, alert_id
from alerts.memory import Held, Kept
from alerts.severity import because, rank, severity
from hopwatch.events import SEVERITIES, Alert, Finding

A1 = alert_id(finding(1).finding_id)


class House:
    """A desk with everything in memory, and a clock that the test turns."""

    def __init__(self) -> None:
        self.held = Held()
        self.desk = Desk(self.held)
        self.now_ns = NOW_NS
        self.said: list[Alert] = []

    def found(self, *findings: Finding, after: int = 0) -> list[Alert]:
        self.now_ns += after
        for one in findings:
            self.desk.found(one, self.now_ns)
        return self._taken()

    def passed(self, after: int) -> list[Alert]:
        self.now_ns += after
        self.desk.passed(self.now_ns)
        return self._taken()

    def decide(self, action: str, alert: str | None = None, **more: object) -> list[Alert]:
        self.desk.decided(decision(action, alert, self.now_ns - NOW_NS, **more))
        return self._taken()

    def until(self, after: int) -> dict[str, str]:
        return {"until": decision("comment", None, self.now_ns - NOW_NS + after).time}

    def _taken(self) -> list[Alert]:
        made = self.desk.taken()
        self.said += made
        return made

    def told(self) -> list[Alert]:
        return [alert for alert in self.said if alert.notify]

    def alert(self, number: int = 1) -> Alert:
        return self.held.alerts[alert_id(finding(number).finding_id)].alert


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    check(made)


def check(house: House) -> None:
    """What holds of everything a desk ever said."""
    by: dict[str, list[Alert]] = {}
    for alert in house.said:
        by.setdefault(alert.alert_id, []).append(alert)
    for revisions in by.values():
        assert [one.revision for one in revisions] == list(range(len(revisions)))
        assert len({one.event_id for one in revisions}) == len(revisions)
        assert revisions[0].change == "raised"
        assert [one.notified for one in revisions] == [sum(x.notify for x in revisions[: n + 1]) for n in range(len(revisions))]
        assert all(json.loads(json.dumps(one.model_dump())) == one.model_dump() for one in revisions)


def test_a_finding_raises_one_alert_and_its_repetition_none(house: House) -> None:
    (raised,) = house.found(finding())
    assert (raised.change, raised.revision, raised.notify, raised.state, raised.group) == ("raised", 0, True, "new", "north/svc_report")
    assert house.found(finding()) == []


def test_what_merely_goes_on_is_for_the_record_and_at_most_one_revision_in_five_minutes(house: House) -> None:
    house.found(finding())
    for word in range(1, 60):
        house.found(finding(word=word, seen=word * 10 * SECOND), after=10 * SECOND)
        house.passed(0)
    updates = house.said[1:]
    assert [one.change for one in updates] == ["updated"]
    assert not any(one.notify for one in updates)
    house.passed(HOUR)
    assert house.alert().finding.windows == 60


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({"severity": "medium"}, {"severity": "high"}, "high, was medium"),
        ({"ratio": 3.0}, {"ratio": 6.0}, "6.0 times the limit, was 3.0"),
        ({"ratio": 3.0}, {"ratio": 5.9}, ""),
        ({"classes": ("quality",)}, {"classes": ("process_ip", "quality")}, "data of process_ip joined"),
        ({"classes": ("quality",)}, {"classes": ("internal", "quality")}, ""),
        ({"classes": ("quality",)}, {"classes": ("of-nobody-knows", "quality")}, "data of of-nobody-knows joined"),
        ({}, {"resumed": "2026-04-08T11:00:00Z"}, "goes on since 2026-04-08T11:00:00Z after more than 24 hours of quiet"),
        ({}, {"seen": DAY}, "goes on after 24 hours of quiet"),
        ({}, {"seen": DAY - SECOND}, ""),
        ({}, {"seen": DAY, "word": 9}, ""),
    ],
)
def test_a_person_is_told_again_only_of_news(house: House, before: dict[str, object], after: dict[str, object], why: str) -> None:
    house.found(finding(**before))
    said = house.found(finding(**{"word": 1, "seen": HOUR} | before | after), after=2 * DAY)
    assert [one.change for one in said] == (["raised-again"] if why else ["updated"])
    assert said[0].notify == bool(why)
    assert said[0].why.startswith(why or "went on")


def test_a_late_word_changes_nothing_unless_it_is_worse(house: House) -> None:
    house.found(finding(word=5, seen=HOUR, ratio=4.0))
    assert house.found(finding(word=2, seen=MINUTE, ratio=3.0)) == []
    house.passed(DAY)
    assert len(house.said) == 1
    (worse,) = house.found(finding(word=3, seen=2 * MINUTE, severity="critical"))
    assert (worse.change, worse.severity, worse.finding.last_seen) == ("raised-again", "critical", finding(seen=HOUR).last_seen)


def test_one_notification_of_an_account_in_the_first_minute_and_then_batches(house: House) -> None:
    house.found(*(finding(number) for number in range(1, 6)))
    house.found(*(finding(number, severity="critical", verdict="undeclared-hop") for number in range(6, 9)), after=30 * SECOND)
    assert len(house.told()) == 1
    (batch,) = [one for one in house.passed(31 * SECOND) if one.notify]
    assert batch.severity == "critical"
    assert batch.why == "7 alerts of north/svc_report: 4 over-limit, 3 undeclared-hop"
    assert len(batch.model_extra["batch"]["ids"]) == 7
    house.found(*(finding(number) for number in range(9, 20)), after=SECOND)
    assert len(house.told()) == 2
    house.passed(BATCH_S * SECOND)
    assert (len(house.told()), house.told()[-1].model_extra["batch"]["alerts"]) == (3, 11)


def test_after_the_first_minute_what_is_worse_than_all_that_was_told_does_not_wait(house: House) -> None:
    house.found(finding(1), finding(2))
    house.passed(61 * SECOND)
    assert [one.notify for one in house.found(finding(3), after=SECOND)] == [False]
    assert [one.notify for one in house.found(finding(4, "decoy", severity="critical"), after=SECOND)] == [True]
    assert [one.notify for one in house.found(finding(5, "decoy", severity="critical"), after=SECOND)] == [False]


def test_a_group_that_was_quiet_is_told_of_at_once(house: House) -> None:
    house.found(finding(1))
    house.passed(61 * SECOND)
    assert [one.notify for one in house.found(finding(2), after=MINUTE)] == [True]


def test_a_batch_is_named_by_one_revision_only(house: House) -> None:
    house.found(*(finding(number) for number in range(1, 4)))
    (batch,) = [one for one in house.passed(61 * SECOND) if one.notify]
    (again,) = house.found(finding(int(batch.alert_id[2:], 16), word=1, severity="critical", seen=MINUTE), after=SECOND)
    assert "batch" in batch.model_extra
    assert "batch" not in again.model_extra


def test_more_than_ten_notifications_of_a_plant_in_ten_minutes_are_gathered(house: House) -> None:
    house.found(*(finding(number, who=f"svc_{number}") for number in range(1, 201)))
    assert len(house.told()) == FLOOD_MAX
    house.passed(BATCH_S * SECOND)
    assert house.told()[-1].why.startswith("190 alerts of north/*")
    assert len(house.told()) == FLOOD_MAX + 1
    house.found(finding(300, "decoy", who="svc_x", severity="critical"), after=SECOND)
    assert len(house.told()) == FLOOD_MAX + 2, "a worse one does not wait for the flood to end"


def test_findings_beyond_so_many_alike_are_folded_into_one_alert_that_counts_them(house: House) -> None:
    house.found(*(finding(number, ratio=1.0) for number in range(1, 1_001)))
    assert len(house.held.alerts) == ALIKE_MAX + 1
    fold = house.held.alerts[house.held.folded[finding(1_000).finding_id][0]]
    assert fold.alert.finding.verdict == "over-limit"
    house.passed(HOUR)
    assert fold.alert.model_extra["folded"] == 1_000 - ALIKE_MAX
    said = house.found(finding(500, word=1, severity="critical", seen=HOUR), after=SECOND)
    assert [(one.alert_id, one.change, one.severity) for one in said] == [(fold.alert.alert_id, "raised-again", "critical")]
    assert house.found(finding(500, word=1, severity="critical", seen=HOUR)) == []
    assert house.desk.counted["folded"] == 1_000 - ALIKE_MAX


def test_info_is_listed_and_calls_nobody(house: House) -> None:
    (raised,) = house.found(finding(verdict="broad", severity="info", who=None))
    assert (raised.notify, raised.hidden, raised.group) == (False, 0, "north/mes-db")


def test_an_undeclared_account_makes_its_limits_needless_until_it_is_resolved(house: House) -> None:
    house.found(finding(1), finding(3, who="svc_other"))
    said = house.found(finding(2, "undeclared-account", severity="high"), after=10 * MINUTE)
    inhibited = next(one for one in said if one.alert_id == A1)
    account = alert_id(finding(2).finding_id)
    assert (inhibited.change, inhibited.inhibited_by, inhibited.notify) == ("inhibited", account, False)
    assert house.alert(3).inhibited_by is None
    (hidden,) = house.found(finding(1, word=1, severity="critical", seen=MINUTE), after=HOUR)
    assert (hidden.notify, hidden.hidden) == (False, 1)
    (later,) = house.found(finding(4), after=HOUR)
    assert (later.inhibited_by, later.hidden) == (account, 1)
    said = house.decide("resolve", account, disposition="benign-trigger")
    assert {(one.alert_id, one.change, one.inhibited_by) for one in said[1:]} == {
        (A1, "released", None),
        (alert_id(finding(4).finding_id), "released", None),
    }
    assert [one.notify for one in said[1:]] == [True, False], "one notification of the account, the other waits"


def test_an_alert_that_is_hidden_itself_inhibits_nothing(house: House) -> None:
    house.found(finding(2, "undeclared-account"), finding(1))
    assert house.alert(1).inhibited_by is not None
    house.decide("suppress", None, scope={"verdict": "undeclared-account"}, **house.until(HOUR))
    assert house.alert(1).inhibited_by is None
    house.passed(2 * HOUR)
    assert house.alert(2).suppressed_by is None
    assert house.alert(1).inhibited_by == house.alert(2).alert_id


def test_a_silent_agent_makes_what_is_unseen_without_it_needless_until_it_is_heard(house: House) -> None:
    house.found(finding(1, "agent-silent", source="tap-idmz", who=None, severity="high"))
    house.found(finding(2, "drifting", agent="tap-idmz", severity="low"), finding(3, "drifting", agent="tap-cell", severity="low"))
    assert (house.alert(2).inhibited_by, house.alert(3).inhibited_by) == (A1, None)
    house.desk.heard("north", "tap-idmz", NOW_NS - MINUTE, house.now_ns)
    assert house.alert(2).inhibited_by == A1, "what it said before it fell silent says nothing"
    house.desk.heard("north", "tap-idmz", NOW_NS + HOUR, house.now_ns + HOUR)
    house.desk.heard("north", "tap-idmz", NOW_NS + HOUR + SECOND, house.now_ns + HOUR)
    assert [(one.alert_id, one.change) for one in house._taken()] == [(A1, "updated"), (house.alert(2).alert_id, "released")]
    (again,) = house.found(finding(1, "agent-silent", word=1, source="tap-idmz", who=None, severity="high", seen=2 * HOUR), after=2 * HOUR)[
        :1
    ]
    assert (again.change, again.why) == ("raised-again", "once more, after it had ended")
    assert house.alert(2).inhibited_by == A1


def test_a_suppression_hides_by_one_to_three_fields_counts_and_ends_by_itself(house: House) -> None:
    house.found(finding(1), finding(2, "dump"))
    house.passed(HOUR)
    house.decide("suppress", None, scope={"verdict": "over-limit", "who": "svc_report"}, **house.until(HOUR))
    assert (house.alert(1).state, house.alert(2).state) == ("suppressed", "new")
    (new,) = house.found(finding(3), after=MINUTE)
    assert (new.state, new.notify, new.hidden) == ("suppressed", False, 1)
    house.found(finding(1, word=1, severity="critical", seen=HOUR), after=MINUTE)
    (rule,) = house.held.rules.values()
    assert rule.hidden == 2
    said = house.passed(HOUR)
    assert {one.change for one in said} == {"returned"}
    assert house.alert(1).state == "new"
    assert "1 were hidden, the worst critical" in house.alert(1).why
    assert rule.ended is not None


def test_a_suppression_ends_when_a_person_says_so(house: House) -> None:
    house.decide("suppress", None, scope={"who": "svc_report"}, **house.until(HOUR))
    house.found(finding(1))
    house.decide("unsuppress", None, scope={"who": "svc_report"})
    assert (house.alert(1).state, house.alert(1).suppressed_by) == ("new", None)
    assert house.found(finding(1, word=1, severity="critical", seen=MINUTE), after=HOUR)[0].notify


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"scope": {}}, "one to 3 of"),
        ({"scope": {"verdict": "a", "who": "b", "source": "c", "hop": "d"}}, "one to 3 of"),
        ({"scope": {"colour": "red"}}, "one to 3 of"),
        ({"scope": {"who": "a"}, "until": None}, "an end is needed"),
        ({"scope": {"who": "a"}, "until": "2026-04-07T10:00:00Z"}, "an end within"),
        ({"scope": {"who": "a"}, "until": "2036-04-07T10:00:00Z"}, "an end within"),
        ({"scope": {"who": "a"}, "reason": " "}, "a reason"),
    ],
)
def test_a_suppression_without_owner_reason_end_or_scope_is_refused(house: House, said: dict[str, object], why: str) -> None:
    with pytest.raises(DecisionRefused, match=why):
        house.decide("suppress", None, **{**house.until(HOUR), **said})
    assert not house.held.rules


def test_what_is_shelved_returns_by_itself(house: House) -> None:
    house.found(finding(1))
    (shelved,) = house.decide("shelve", A1, **house.until(HOUR))
    assert (shelved.state, shelved.shelved_until) == ("new", house.until(HOUR)["until"])
    assert not house.found(finding(1, word=1, severity="critical", seen=MINUTE), after=30 * MINUTE)[0].notify
    (returned,) = house.passed(31 * MINUTE)
    assert (returned.change, returned.notify, returned.shelved_until) == ("returned", True, None)
    assert returned.why == "the shelf ended; 1 were hidden, the worst critical"


def test_to_acknowledge_is_not_to_close(house: House) -> None:
    house.found(finding(1))
    (acknowledged,) = house.decide("acknowledge", A1)
    assert (acknowledged.state, acknowledged.owner, acknowledged.notify) == ("in-progress", "analyst-7", False)
    assert acknowledged.why == "acknowledged by analyst-7: load test of the historian"
    assert house.found(finding(1, word=1, severity="critical", seen=MINUTE), after=HOUR)[0].notify


def test_a_resolved_alert_stays_quiet_except_for_news(house: House) -> None:
    house.found(finding(1))
    with pytest.raises(DecisionRefused, match="a disposition is needed"):
        house.decide("resolve", A1)
    (resolved,) = house.decide("resolve", A1, disposition="false-positive")
    assert (resolved.state, resolved.disposition) == ("resolved", "false-positive")
    for word in range(1, 100):
        assert not any(one.notify for one in house.found(finding(1, word=word, seen=word * HOUR), after=HOUR))
    (again,) = house.found(finding(1, word=100, severity="high", seen=100 * HOUR), after=HOUR)
    assert (again.change, again.state, again.disposition, again.notify) == ("raised-again", "new", None, True)
    assert house.held.alerts[A1].judged == "false-positive", "for the precision of the detector"


def test_what_was_resolved_as_true_and_goes_on_is_raised_again(house: House) -> None:
    house.found(finding(1))
    house.decide("resolve", A1, disposition="true-positive")
    assert not any(one.notify for one in house.found(finding(1, word=1, seen=30 * MINUTE), after=30 * MINUTE))
    (again,) = house.found(finding(1, word=2, seen=HOUR), after=30 * MINUTE)
    assert (again.change, again.why) == ("raised-again", "goes on after it was resolved")


def test_decisions_that_make_no_sense_are_refused_and_change_nothing(house: House) -> None:
    house.found(finding(1))
    for action in ("unsuppress", "unshelve", "reopen"):
        with pytest.raises(DecisionRefused):
            house.decide(action, A1)
    with pytest.raises(DecisionRefused, match="no such alert"):
        house.decide("acknowledge", "A-0000000000000000")
    house.decide("resolve", A1, disposition="test")
    for action in ("acknowledge", "shelve", "suppress"):
        with pytest.raises(DecisionRefused, match="reopen it first"):
            house.decide(action, A1, **house.until(HOUR))
    (reopened,) = house.decide("reopen", A1)
    assert (reopened.state, reopened.disposition) == ("in-progress", None)
    assert len(house.said) == 3


def test_a_scope_can_be_acknowledged_and_resolved(house: House) -> None:
    house.found(*(finding(number) for number in range(1, 4)), finding(9, "dump"))
    assert len(house.decide("acknowledge", None, scope={"verdict": "over-limit"})) == 3
    assert len(house.decide("resolve", None, scope={"who": "svc_report"}, disposition="duplicate")) == 4


def test_what_is_remembered_survives_being_written_down(house: House) -> None:
    house.found(finding(1, ratio=2.0, classes=("quality",)))
    house.found(finding(1, word=1, seen=MINUTE), after=SECOND)
    house.decide("shelve", A1, **house.until(HOUR))
    kept = house.held.alerts[A1]
    again = Kept.restored(Alert.model_validate_json(json.dumps(kept.alert.model_dump())), json.loads(json.dumps(kept.state())))
    assert again == kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_any_order_with_repetitions_gives_one_alert_a_finding_and_the_worst_of_its_words(seed: int) -> None:
    draw = random.Random(seed)
    words = [
        finding(number, word=word, seen=word * MINUTE, severity=draw.choice(SEVERITIES))
        for number in range(1, 5)
        for word in range(draw.randint(1, 6))
    ]
    said = [one for one in words for _ in range(draw.randint(1, 3))]
    draw.shuffle(said)
    house = House()
    for one in said:
        house.found(one, after=draw.randint(0, 90) * SECOND)
        house.passed(draw.randint(0, 90) * SECOND)
    house.passed(DAY)
    check(house)
    assert len(house.held.alerts) == len({one.finding_id for one in words})
    for kept in house.held.alerts.values():
        of = [one for one in words if alert_id(one.finding_id) == kept.alert.alert_id]
        assert kept.alert.severity == max((one.severity for one in of), key=rank), seed
        assert kept.alert.finding.last_seen == max(one.last_seen for one in of), seed
        if kept.alert.severity != "info":
            assert kept.alert.notified or any(
                kept.alert.alert_id in (one.model_extra or {}).get("batch", {}).get("ids", ()) for one in house.told()
            )


SEVERITY = st.sampled_from(SEVERITIES)
CLASSES = st.dictionaries(st.sampled_from("abcdef"), SEVERITY)


@given(SEVERITY, CLASSES, CLASSES, st.one_of(st.none(), st.floats(0, 1e9)), st.floats(1, 100))
def test_severity_grows_with_class_and_ratio_and_never_falls(
    base: str, classes: dict[str, str], more: dict[str, str], ratio: float | None, times: float
) -> None:
    both = {name: max((one for one in (classes.get(name), more.get(name)) if one), key=rank) for name in classes.keys() | more.keys()}
    less = rank(severity(base, classes, ratio))
    assert less <= rank(severity(base, both, ratio))
    assert less <= rank(severity(base, classes, (ratio or 0.0) * times))
    assert less >= rank(base)


def test_an_alert_says_what_its_severity_follows_from() -> None:
    assert because(finding(severity="critical", ratio=6.0, classes=("process_ip",))) == (
        "process_ip is high; 6.0 times the limit is one step worse"
    )
    assert because(finding(verdict="decoy", severity="critical")) == "decoy is critical"
    assert because(finding(verdict="undeclared-hop", severity="critical")) == "critical by its difference"


def test_every_bound_of_the_desk_is_reached_in_a_test_with_its_own_number(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "WAITING_MAX", 3)
    monkeypatch.setattr(desks, "RULES_MAX", 1)
    house.found(*(finding(number) for number in range(1, 8)))
    assert house.held.groups["north/svc_report"].waiting_more == 3
    assert next(one for one in house.passed(61 * SECOND) if one.notify).why.startswith("6 alerts of north/svc_report")
    house.decide("suppress", None, scope={"who": "a"}, **house.until(HOUR))
    with pytest.raises(DecisionRefused, match="1 suppressions are in force"):
        house.decide("suppress", None, scope={"who": "b"}, **house.until(HOUR))
    with pytest.raises(DecisionRefused, match="1001 characters"):
        house.decide("comment", A1, reason="x" * 1_001)
