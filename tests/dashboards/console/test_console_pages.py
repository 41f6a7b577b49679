"""The pages that look: what moved stands on the map as the store has it, and nobody is shown what is not theirs to read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dashboards.console import visit
from dashboards.console.pages import rendered
from hopwatch.store import JudgedFlow
from hopwatch.store.embedded import EmbeddedStore
from tests.dashboards.console.browser import DECLARATION, Clock, Make

SVG = "{http://www.w3.org/2000/svg}"


def drawing(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page[page.index("<svg xmlns=") : page.index("</svg>", page.index('class="map"')) + 6])


def bands(page: str, state: str) -> list[str]:
    return [link.get("aria-label", "") for link in drawing(page).iter(f"{SVG}a") if link.get("class") == f"band is-{state}"]


def test_the_map_has_a_band_for_each_hop_and_each_violation_of_the_day(make: Make) -> None:
    page = make().get("/map").text
    violations = bands(page, "violation")
    assert len(violations) == 6 and any("undeclared-destination (critical): mw to 192.0.2.66" in one for one in violations)
    assert len(bands(page, "declared")) == 7 and bands(page, "unseen") == []
    assert any(one.startswith("mes-works: mes-db to mes-app, declared, 44.3 KiB in 8 windows") for one in bands(page, "declared"))


def test_a_hop_that_nothing_used_is_drawn_as_not_seen(make: Make, tmp_path: Path) -> None:
    text = DECLARATION.read_text()
    more = tmp_path / "plant.yaml"
    more.write_text(
        text + "  nightly:\n    {who: svc_mw, from: mes-db, to: mw, via: c-ops, may: [select], what: [orders],\n"
        "     why: a report, limit: 10 rows / 1d, keep: 1d, approved: {by: h.keller, ticket: CHG-9}}\n"
    )
    (unseen,) = bands(make(declarations=[more]).get("/map").text, "unseen")
    assert unseen == "nightly: mes-db to mw, declared, not seen, nothing moved"


def test_a_band_opens_its_accounts_objects_amounts_and_protection(make: Make) -> None:
    browser = make()
    page = browser.get("/map").text
    link = next(one for one in drawing(page).iter(f"{SVG}a") if "extract-quality" in one.get("aria-label", ""))
    detail = browser.get(str(link.get("href"))).text
    for said in (
        "svc_mw",
        "quality.inspection",
        "cleartext, scram-sha-256",
        "47.3 KiB",
        "It may move at most 200k rows / 1h and 300 MiB / 1d.",
    ):
        assert said in detail, said
    assert browser.get("/map/band/0000000000000000").status_code == 404


def test_a_place_opens_what_moves_there(make: Make) -> None:
    browser = make()
    link = next(one for one in drawing(browser.get("/map").text).iter(f"{SVG}a") if one.get("aria-label", "").startswith("192.0.2.66"))
    page = browser.get(str(link.get("href"))).text
    assert "in no declared zone" in page and "undeclared-destination" in page


def test_the_declaration_page_has_every_hop_and_its_use(make: Make) -> None:
    browser = make()
    page = browser.get("/declaration").text
    assert all(f'<th scope="row">{hop}</th>' in page for hop in ("mes-works", "extract-quality", "lake-upload"))
    assert "UNSIGNED" in page
    picture = browser.get("/declaration/drawing.svg")
    assert picture.headers["content-type"] == "image/svg+xml" and "sha256-" in picture.headers["content-security-policy"]


def test_a_declaration_that_breaks_on_disk_stays_as_it_was_and_says_so(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text(DECLARATION.read_text())
    browser = make(declarations=[file])
    assert "does not load any more" not in browser.get("/declaration").text
    file.write_text("plant: demo\n")
    page = browser.get("/declaration").text
    assert "does not load any more" in page and "mes-works" in page
    file.write_text(DECLARATION.read_text().replace("plant: demo", "plant: another"))
    page = browser.get("/declaration").text
    assert "it is of plant another now" in page and "mes-works" in page


def test_coverage_counts_windows_by_conduit_and_depth(make: Make) -> None:
    page = make().get("/coverage").text
    row = re.search(r'<th scope="row">c-lake</th>.*?</tr>', page, re.DOTALL)
    assert row is not None and "sizes" in row[0] and "128 KiB" in row[0]
    assert "inside site-ops</th>" in page and "through no conduit</th>" in page


def test_a_live_part_is_the_page_without_its_frame_and_is_not_sent_twice(make: Make) -> None:
    browser = make()
    part = browser.get("/map", x_hopwatch_part="live")
    assert "<html" not in part.text and "What moves" in part.text
    again = browser.get("/map", x_hopwatch_part="live", if_none_match=part.headers["etag"])
    assert again.status_code == 304 and again.content == b""


FLOW = {
    "kind": "flow", "event_id": "1" * 32, "plant": "demo", "agent": "tap", "connection": "c", "flow_id": "2" * 32, "sequence": 0,
    "start": "2026-11-21T16:20:36Z", "end": "2026-11-21T16:20:36.1Z", "source": {"address": "10.20.1.21", "port": 5432},
    "destination": {"address": "10.40.9.78", "port": 5}, "operation": "select", "depth": "decoded", "account": "svc_x",
    "bytes": 900_000, "protocol": "postgresql",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/map", "/alerts", "/coverage"])
def test_a_page_at_rest_is_not_made_again_until_somebody_writes(
    path: str, make: Make, own: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = make(store=own, alerts=True)
    made = 0

    def counted(name: str, **context: Any) -> bytes:  # Any: what templates are given.
        nonlocal made
        made += 1
        return rendered(name, **context)

    monkeypatch.setattr(visit, "rendered", counted)
    tag = ""
    for _ in range(20):
        answer = browser.get(path, x_hopwatch_part="live", if_none_match=tag)
        tag = answer.headers["etag"]
        clock.now_s += 5
    assert answer.status_code == 304 and made <= 3
    held = EmbeddedStore(own, is_clear=lambda account: True)
    held.add(flows=[JudgedFlow(FLOW, verdict="undeclared-hop", severity="critical")])
    held.close()
    before = made
    answer = browser.get(path, x_hopwatch_part="live", if_none_match=tag)
    assert made == before + 1 and (path == "/alerts") == (answer.status_code == 304)


def test_who_has_another_role_is_not_told_that_nothing_has_changed(make: Make, own: Path) -> None:
    analyst = make(store=own, alerts=True)
    for _ in range(3):
        tag = analyst.get("/alerts", x_hopwatch_part="live").headers["etag"]
    viewer = make(store=own, alerts=True, local_role="viewer")
    viewer.console.unchanged |= analyst.console.unchanged
    assert viewer.get("/alerts", x_hopwatch_part="live", if_none_match=tag).status_code == 200


def test_a_decision_shows_at_once_on_a_page_that_was_at_rest(make: Make, own: Path, clock: Clock) -> None:
    browser = make(store=own, alerts=True)
    for _ in range(4):
        tag = browser.get("/alerts", x_hopwatch_part="live").headers["etag"]
        clock.now_s += 5
    browser.get("/suppressions")
    browser.post("/suppressions", verdict="undeclared-account", reason="x", **{"for": "24"})
    answer = browser.get("/alerts", x_hopwatch_part="live", if_none_match=tag)
    assert answer.status_code == 200 and answer.text.count("st-suppressed") == 2


def test_an_address_that_is_nobodys_and_a_span_that_is_none_are_answered(make: Make) -> None:
    browser = make()
    assert browser.get("/nowhere").status_code == 404
    assert browser.get("/map?span=9y&plant=mars").status_code == 200
    assert browser.get("/static/../app.py").status_code == 404
    assert browser.get("/static/console.css").headers["content-type"].startswith("text/css")


def test_what_came_off_the_wire_is_text_and_no_markup(make: Make, day: Path, tmp_path: Path) -> None:
    from hopwatch.store import JudgedFlow
    from hopwatch.store.embedded import EmbeddedStore

    evil = "<script>alert(1)</script>\x1b[31m"
    store = EmbeddedStore(tmp_path / "evil.db", is_clear=lambda account: True)
    flow = {
        "kind": "flow", "event_id": "1" * 32, "plant": "demo", "agent": "tap", "connection": "c", "flow_id": "2" * 32, "sequence": 0,
        "start": "2026-11-21T16:20:00Z", "end": "2026-11-21T16:20:01Z", "source": {"address": "10.20.1.21", "port": 5432},
        "destination": {"address": "10.40.9.77", "port": 5}, "operation": "select", "depth": "decoded", "account": evil,
        "application": evil, "objects": [{"names": [evil]}], "bytes": 9, "protocol": "postgresql",
    }  # fmt: skip
    store.add(flows=[JudgedFlow(flow, verdict="undeclared-hop", severity="critical")])
    store.close()
    browser = make(store=tmp_path / "evil.db")
    page = browser.get("/map").text
    link = next(one for one in drawing(page).iter(f"{SVG}a") if "undeclared-hop" in one.get("aria-label", ""))
    for text in (page, browser.get(str(link.get("href"))).text):
        assert "<script>alert" not in text and "\x1b" not in text and "&lt;script&gt;" in text
