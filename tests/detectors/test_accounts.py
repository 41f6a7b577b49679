"""Accounts that are new, and accounts that are not who they were."""

from typing import Any

from moves import DAY_NS, HOUR_NS, QUOTED, later, moved
from north import MES_DB, MW, architecture, end, extract, flow, objects

from detectors.accounts import BREADTH_MIN, WAYS_MAX, Accounts
from detectors.moved import Moved
from hopwatch.events import Finding

LAPTOP = ("10.40.9.77", 50200)
STANDBY = ("10.30.0.21", 50300)


def watch() -> Accounts:
    return Accounts(architecture(), QUOTED)


def said(found: Any) -> list[tuple[str, str | None]]:  # Any: what observe returns
    return [(finding.verdict, finding.who) for finding in found]


def learnt(detector: Accounts, window: Moved, days: int = 20) -> list[Finding]:
    """So many days of the same, an hour a day."""
    found: list[Finding] = []
    for day in range(days):
        found += detector.observe(later(window, day * DAY_NS))
    return found


def admin(name: str, *columns: str, **more: Any) -> Moved:  # Any: fields of a flow
    return moved(flow(source=end(MW), destination=end(MES_DB), opened_by="source", account="svc_mes", operation="admin",
                      objects=[objects(f"account:{name}", columns=columns, messages=1)], **more))  # fmt: skip


def test_an_account_made_given_rights_and_used_is_one_finding_that_tells_all_three() -> None:
    detector = watch()
    made = detector.observe(admin("svc_new", "create"))
    given = detector.observe(later(admin("svc_new", "grant:mes_read"), 60 * 10**9))
    used = detector.observe(later(moved(extract(account="svc_new")), 240 * 10**9))
    ids = {finding.finding_id for finding in (*made, *given, *used) if finding.verdict == "new-account"}
    assert len(ids) == 1
    last = next(finding for finding in used if finding.verdict == "new-account")
    told = [one.observed for one in last.differences]
    assert told[0].startswith("made by svc_mes")
    assert told[1].startswith("given mes_read by svc_mes")
    assert told[2].startswith("first use from mw with quality-extract, made 2026-04-07T00:00:00Z by svc_mes")


def test_a_password_rotated_is_no_new_account() -> None:
    assert watch().observe(admin("svc_mw", "password")) == []


def test_a_declared_account_is_no_news_at_its_first_use_and_an_unlisted_one_is() -> None:
    assert watch().observe(moved(extract())) == []
    assert said(watch().observe(moved(extract(account="svc_other")))) == [("new-account", "svc_other")]


def test_the_declared_standby_is_quiet_and_a_laptop_beside_the_host_is_a_shared_account() -> None:
    detector = watch()
    assert learnt(detector, moved(extract())) == []
    at = 20 * DAY_NS
    assert detector.observe(later(moved(extract(destination=end(STANDBY))), at)) == []
    found = detector.observe(later(moved(extract(destination=end(LAPTOP), application="psql")), at + 10**9))
    assert {("shared-account", "svc_mw"), ("new-client", "svc_mw")} == set(said(found))
    told = {one.observed for finding in found for one in finding.differences}
    assert any("within 5 min" in one for one in told)


def test_a_persons_tool_on_a_service_account_is_said_on_the_first_day() -> None:
    found = watch().observe(moved(extract(application="DBeaver 24.1 - Main")))
    assert said(found) == [("shared-account", "svc_mw")]
    assert found[0].differences[0].observed == "used with dbeaver, a person's tool"


def test_another_version_of_the_same_program_is_quiet_and_another_program_is_not() -> None:
    detector = watch()
    window = moved(extract(account="svc_mes", application="mes-core/8.1"))
    learnt(detector, window)
    at = 20 * DAY_NS
    newer = window.but(flow=extract(account="svc_mes", application="mes-core/9.0"))
    assert "new-client" not in [verdict for verdict, _ in said(detector.observe(later(newer, at)))]
    other = window.but(flow=extract(account="svc_mes", application="python/psycopg"))
    found = [finding for finding in detector.observe(later(other, at)) if finding.verdict == "new-client"]
    assert found[0].differences[0].observed == "svc_mes with python"


def test_a_program_the_declaration_lists_is_quiet_from_the_first_hour() -> None:
    detector = watch()
    learnt(detector, moved(extract()))
    assert detector.observe(later(moved(extract(application="quality-extract/99")), 20 * DAY_NS)) == []


def test_an_account_that_rested_two_months_is_said_when_it_comes_back() -> None:
    detector = watch()
    window = moved(extract())
    detector.observe(window)
    assert detector.observe(later(window, 59 * DAY_NS)) == []
    assert said(detector.observe(later(window, 120 * DAY_NS))) == [("dormant-account", "svc_mw")]


def test_an_account_that_touches_many_times_its_usual_objects_is_broad_once_a_day() -> None:
    detector = watch()
    learnt(detector, moved(extract()))
    found = []
    for number in range(3 * BREADTH_MIN):
        window = moved(extract(objects=[objects(f"mes.table_{number}", rows=1)]))
        found += detector.observe(later(window, 20 * DAY_NS + number * 10**9))
    assert said(found) == [("broad-account", "svc_mw")]


def test_the_first_two_weeks_are_learnt_and_not_judged() -> None:
    detector = watch()
    detector.observe(moved(extract(account="svc_mes", application="mes-core/8.1")))
    other = moved(extract(account="svc_mes", application="reporting/1"))
    assert [one for one in said(detector.observe(later(other, 10 * DAY_NS))) if one[0] == "new-client"] == []


def test_hosts_of_one_account_are_bounded() -> None:
    detector = watch()
    for number in range(3 * WAYS_MAX):
        detector.observe(later(moved(extract(destination=end((f"10.40.9.{number}", 50000)))), number * HOUR_NS))
    ((_, known),) = detector.memories()["known"].items()
    assert len(known.hosts) == WAYS_MAX


def test_objects_of_windows_alike_count_on_every_day_and_after_a_restart() -> None:
    detector = watch()
    window = moved(extract(objects=[objects("quality.inspection", "mes.work_order", rows=1)]))
    use, elsewhere = detector.asked(window), detector.asked(moved(extract(destination=end(STANDBY))))
    assert use is not None
    assert elsewhere is not None
    name, counted = f"mes-db|{window.account}", []
    for hour in (0, 1, 24, 25, 48):
        use(later(window, hour * HOUR_NS))
        elsewhere(later(moved(extract(destination=end(STANDBY))), hour * HOUR_NS))
        if hour == 1:
            detector.restore(detector.state())
        known = detector.known.known(name)
        assert known is not None
        counted.append((known.days, len(known.objects)))
    assert counted == [(0, 2), (0, 2), (1, 2), (1, 2), (2, 2)]
