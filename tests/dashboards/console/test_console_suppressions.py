"""A scope that is suppressed on the console: carried out by the book, shown with who, why and until when, ended by whoever may."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from alerts.book import book
from hopwatch.events import Decision, time_text
from tests.dashboards.console.browser import NOW_NS, Browser, Make


def suppressed(browser: Browser, **fields: str) -> Any:  # Any: an answer of httpx.
    browser.get("/suppressions")
    return browser.post("/suppressions", **({"for": "168", "reason": "load test until Friday", "ticket": "CHG-5120"} | fields))


def states(browser: Browser) -> dict[str, str]:
    """By verdict, the state of one alert of it."""
    rows = re.findall(
        r'class="sev-\w+ st-([\w-]+)".*?href="/alerts/A-[0-9a-f]+">([a-z-]+)<', browser.get("/alerts?state=all").text, re.DOTALL
    )
    return {verdict: state for state, verdict in rows}


def decided(store: Path) -> list[dict[str, Any]]:  # Any: JSON values.
    kept = book(str(store))
    try:
        return kept.decisions()
    finally:
        kept.close()


def test_what_has_the_scope_is_quiet_and_the_decision_is_an_event(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)
    assert states(browser)["undeclared-account"] == "new"
    done = suppressed(browser, verdict="undeclared-account")
    assert done.status_code == 303 and done.headers["location"] == "/suppressions?done=suppress%2C%202%20alerts%20changed%20now"
    now = states(browser)
    assert now.pop("undeclared-account") == "suppressed" and set(now.values()) == {"new"}
    page = browser.get("/suppressions").text
    for shown in ("<b>undeclared-account</b>", "2026-11-28 16:21:00Z", "load test until Friday", "CHG-5120"):
        assert shown in page
    (decision,) = decided(own)
    assert (decision["action"], decision["scope"], decision["until"], decision["alert_id"]) == (
        "suppress", {"verdict": "undeclared-account"}, "2026-11-28T16:21:00Z", None,
    )  # fmt: skip
    assert decision["person"] == browser.console.entrance.local.name and decision["ticket"] == "CHG-5120"
    assert [one.about for one in browser.console.entries if one.what == "decided"] == ["suppress verdict undeclared-account"]


def test_it_ends_when_somebody_says_so_with_a_reason(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)
    suppressed(browser, verdict="undeclared-account")
    address = re.search(r'action="(/suppressions/[0-9a-f]+/end)"', browser.get("/suppressions").text)
    assert address is not None
    refused = browser.post(address[1], reason=" ")
    assert refused.status_code == 400 and states(browser)["undeclared-account"] == "suppressed"
    assert browser.post(address[1], reason="the test is over").status_code == 303
    assert states(browser)["undeclared-account"] == "new"
    assert {one["action"]: one["reason"] for one in decided(own)} == {
        "suppress": "load test until Friday",
        "unsuppress": "the test is over",
    }
    page = browser.get("/suppressions").text
    assert "Nothing is suppressed by scope." in page and "<h2>Over</h2>" in page
    assert browser.post(address[1], reason="again").status_code == 404


def test_one_of_another_plant_is_as_unknown_as_none(make: Make, own: Path) -> None:
    elsewhere = Decision(
        event_id="e" * 32, plant="elsewhere", time=time_text(NOW_NS), person="somebody", action="suppress", reason="theirs",
        scope={"verdict": "blind"}, until=time_text(NOW_NS + 3_600 * 10**9),
    )  # fmt: skip
    kept = book(str(own))
    kept.decide(elsewhere)
    kept.close()
    browser = make(store=own, alerts=True)
    browser.get("/suppressions")
    answers = [browser.post(f"/suppressions/{one * 32}/end?plant=elsewhere", reason="not ours") for one in "ef"]
    assert [answer.status_code for answer in answers] == [404, 404] and answers[0].text == answers[1].text
    assert [one["action"] for one in decided(own)] == ["suppress"]


def test_an_account_in_clear_means_its_pseudonym(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)
    assert suppressed(browser, who="svc_report").status_code == 303
    (decision,) = decided(own)
    assert decision["scope"]["who"].startswith("person:") and states(browser)["undeclared-hop"] == "suppressed"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "expected one to 3 of verdict, who"),
        ({"verdict": "a", "who": "b", "source": "c", "destination": "d"}, "expected one to 3"),
        ({"verdict": "blind", "for": "x"}, "an end is needed"),
        ({"verdict": "blind", "reason": " "}, "A reason is needed"),
        ({"verdict": "b" * 301}, "at most 300 characters"),
    ],
)
def test_what_cannot_be_suppressed_says_why_changes_nothing_and_keeps_what_was_typed(
    make: Make, own: Path, fields: dict[str, str], why: str
) -> None:
    browser = make(store=own, alerts=True)
    answer = suppressed(browser, **fields)
    assert answer.status_code in (400, 409) and why in answer.text and 'value="CHG-5120"' in answer.text
    assert decided(own) == []


def test_a_viewer_sees_the_list_and_may_neither_make_nor_end_one(make: Make, own: Path) -> None:
    analyst = make(store=own, alerts=True)
    suppressed(analyst, verdict="undeclared-account")
    address = re.search(r'action="(/suppressions/[0-9a-f]+/end)"', analyst.get("/suppressions").text)
    assert address is not None
    viewer = make(store=own, alerts=True, local_role="viewer")
    page = viewer.get("/suppressions").text
    assert "load test until Friday" in page and "<form" not in page
    viewer.get("/alerts")
    assert viewer.post("/suppressions", verdict="blind", reason="x").status_code == 403
    assert viewer.post(address[1], reason="x").status_code == 403
    assert len(decided(own)) == 1


def test_a_form_of_another_session_suppresses_nothing(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)
    browser.get("/suppressions")
    assert browser.post("/suppressions", token="0" * 43, verdict="blind", reason="x", **{"for": "24"}).status_code == 403
    assert decided(own) == []


def test_what_is_kept_quiet_is_counted_and_an_alert_leads_here_with_its_fields(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)
    found = re.search(r'href="(/alerts/A-[0-9a-f]+)">undeclared-hop<', browser.get("/alerts").text)
    assert found is not None
    leads = re.search(r'href="(/suppressions\?[^"#]+)#make"', browser.get(found[1]).text)
    assert leads is not None
    form = browser.get(leads[1].replace("&amp;", "&")).text
    assert 'name="verdict" value="undeclared-hop"' in form and 'name="destination" value="10.40.9.77"' in form
