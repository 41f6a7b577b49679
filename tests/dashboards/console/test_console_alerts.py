"""What a person sees of an alert, and what becomes of a decision."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts.book import book
from tests.dashboards.console.browser import DECLARATION, Browser, Make


def link(browser: Browser, verdict: str) -> str:
    found = re.search(rf'href="(/alerts/A-[0-9a-f]+)">{verdict}<', browser.get("/alerts").text)
    assert found is not None
    return found[1]


def test_every_finding_of_the_day_is_an_alert_in_the_list(make: Make, own: Path) -> None:
    page = make(store=own, alerts=True).get("/alerts").text
    verdicts = re.findall(r'href="/alerts/A-[0-9a-f]+">([a-z-]+)<', page)
    assert sorted(verdicts) == sorted([
        "undeclared-hop", "undeclared-account", "undeclared-account", "unapproved-operation", "undeclared-data", "undeclared-destination",
    ])  # fmt: skip


def test_the_list_is_filtered_by_state_severity_and_verdict(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)

    def listed(query: str) -> int:
        return len(re.findall(r'href="/alerts/A-', browser.get(f"/alerts?{query}").text))

    assert listed("severity=critical") == 2 and listed("severity=high") == 6
    assert listed("verdict=undeclared-account") == 2 and listed("verdict=nothing") == 0
    assert listed("state=resolved") == 0 and listed("state=all") == 6 == listed("state=invented&severity=x&page=-1")
    assert listed("page=2") == 0
    assert listed("page=%C2%B2") == listed(f"page={'9' * 5000}") == 6, "a digit that is no number, and a number without end"


def test_the_nearest_hop_stands_beside_what_was_observed(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)
    page = browser.get(link(browser, "undeclared-hop")).text
    assert "Nearest approved hop: extract-quality" in page
    rows = dict(re.findall(r'<th scope="row">([a-z ]+)</th>(.*?)</tr>', page, re.DOTALL))
    assert "svc_mw from mw" in rows["who"] and "account is not in the file" in rows["who"] and "from 10.40.9.77" in rows["who"]
    assert "mes-db → mw via c-ops" in rows["where"] and "mes-db → 10.40.9.77" in rows["where"]
    assert "200k rows / 1h, 300 MiB / 1d" in rows["how much"] and "213 rows, 12.4 KiB" in rows["how much"]
    assert "10.20.1.21:5432" in page and "Data from Information Repositories" in page, "evidence and techniques"


def test_a_decision_is_an_event_with_person_time_and_reason(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)
    alert = link(browser, "undeclared-hop")
    assert 'value="acknowledge"' in browser.get(alert).text
    done = browser.post(f"{alert}/decide", action="acknowledge", reason="asking the owner of 10.40.9.77")
    assert done.status_code == 303 and done.headers["location"] == f"{alert}?done=acknowledge"
    page = browser.get(alert).text
    assert "in-progress" in page and "asking the owner of 10.40.9.77" in page and 'value="acknowledge"' not in page
    kept = book(str(own))
    (decision,) = kept.decisions()
    kept.close()
    assert (decision["action"], decision["time"], decision["plant"]) == ("acknowledge", "2026-11-21T16:21:00Z", "demo")
    assert decision["person"] == browser.console.entrance.local.name


def test_an_alert_of_a_plant_that_is_not_looked_at_here_is_as_unknown_as_none(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)
    alert = link(browser, "undeclared-hop")
    browser.get(alert)
    declared = browser.console.declarations.of
    declared["elsewhere"] = declared.pop("demo")
    refused = browser.post(f"{alert}/decide", action="acknowledge", reason="not ours")
    kept = book(str(own))
    assert refused.status_code == 404 and kept.decisions() == []
    kept.close()


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"action": "shelve", "for": "8", "reason": "planned work"}, "shelved until 2026-11-22 00:21:00Z"),
        ({"action": "suppress", "for": "168", "reason": "load test", "ticket": "CHG-5120"}, "CHG-5120"),
        ({"action": "resolve", "disposition": "benign-trigger", "reason": "a report"}, "benign-trigger"),
        ({"action": "comment", "reason": "<b>seen</b>"}, "&lt;b&gt;seen&lt;/b&gt;"),
    ],
)
def test_each_decision_is_carried_out_and_shown(make: Make, own: Path, fields: dict[str, str], shown: str) -> None:
    browser = make(store=own, alerts=True)
    alert = link(browser, "unapproved-operation")
    browser.get(alert)
    assert browser.post(f"{alert}/decide", **fields).status_code == 303
    assert shown in browser.get(alert).text


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"action": "acknowledge", "reason": "  "}, "A reason is needed"),
        ({"action": "delete", "reason": "x"}, "nothing that can be decided"),
        ({"action": "resolve", "reason": "x"}, "a disposition is needed"),
        ({"action": "shelve", "reason": "x"}, "an end is needed"),
        ({"action": "unshelve", "reason": "x"}, "is not shelved"),
    ],
)
def test_what_cannot_be_decided_says_why_and_changes_nothing(make: Make, own: Path, fields: dict[str, str], why: str) -> None:
    browser = make(store=own, alerts=True)
    alert = link(browser, "unapproved-operation")
    browser.get(alert)
    answer = browser.post(f"{alert}/decide", **fields)
    assert answer.status_code in (400, 409) and why in answer.text
    kept = book(str(own))
    assert kept.decisions() == []
    kept.close()


def test_a_draft_is_shown_and_the_declaration_is_not_touched(make: Make, own: Path) -> None:
    before = DECLARATION.read_bytes()
    browser = make(store=own, alerts=True)
    page = browser.get(f"{link(browser, 'undeclared-hop')}/draft").text
    assert "mes-db-to-host-10-40-9-77:" in page and "keep: DECIDE" in page
    assert DECLARATION.read_bytes() == before


def test_a_band_leads_to_its_alert(make: Make, own: Path) -> None:
    browser = make(store=own, alerts=True)
    band = re.search(r'href="(/map/band/[0-9a-f]+)" data-open>undeclared-destination', browser.get("/map").text)
    assert band is not None
    finding = re.search(r'href="(/alerts/F-[0-9a-f]+)"', browser.get(band[1]).text)
    assert finding is not None and "192.0.2.66" in browser.get(finding[1]).text
    assert browser.get("/alerts/A-0000000000").status_code == 404 == browser.get("/alerts/%27%20OR%201").status_code
