"""The console in a real browser, headless Chromium: from the alert to its cause, to a decision and a draft; with the keyboard alone; and
as somebody who may not read the accounts of persons. Whatever the browser has to complain about fails the test."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dashboards.console import users
from dashboards.console.serve import Options, Serving
from hopwatch.cli import main
from hopwatch.console import booked
from hopwatch.store import JudgedFlow
from hopwatch.store.embedded import EmbeddedStore
from hopwatch.store.reader import reader

EXAMPLES = Path(__file__).parents[2] / "examples"
DECLARATION = EXAMPLES / "plant-demo.yaml"
CHROMIUM = "/usr/bin/chromium"
SECRET = "correct horse battery"
# Chromium's own sandbox does not start for root.
ARGUMENTS = ["--no-sandbox"] if os.geteuid() == 0 else []


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is not there; `make setup` brings it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("day") / "store.db"
    assert main(["watch", "-d", str(DECLARATION), "-r", str(EXAMPLES / "plant-day.pcap.gz"), "--store", str(store), "--json"]) == 1
    return store


@pytest.fixture
def store(day: Path, tmp_path: Path) -> Path:
    for end in ("", ".key"):
        shutil.copy(f"{day}{end}", tmp_path / f"store.db{end}")
    return tmp_path / "store.db"


class Served:
    """A console that listens, and pages of it whose complaints are kept."""

    def __init__(self, chromium: Browser, serving: Serving) -> None:
        self.chromium, self.address = chromium, serving.address.rstrip("/")
        self.complaints: list[str] = []
        self.contexts: list[BrowserContext] = []

    def page(self, **options: Any) -> Page:  # Any: options of a browser's context.
        context = self.chromium.new_context(base_url=self.address, viewport={"width": 1440, "height": 900}, **options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(self.address) else self.complaints.append(f"asked for {asked.url}"))
        return page


@pytest.fixture
def serve(chromium: Browser, store: Path) -> Iterator[Any]:
    started: list[tuple[Serving, Served]] = []

    def serve(**more: Any) -> Served:  # Any: options of a console.
        options = Options([DECLARATION], partial(reader, str(store)), partial(booked, str(store)), True, address="127.0.0.1:0", **more)
        serving = Serving(options)
        serving.start()
        served = Served(chromium, serving)
        started.append((serving, served))
        return served

    yield serve
    for serving, served in started:
        for context in served.contexts:
            context.close()
        serving.stop()
        assert served.complaints == []


def test_from_the_alert_to_its_cause_to_a_decision_and_a_draft(serve: Any, tmp_path: Path) -> None:
    before = DECLARATION.read_bytes()
    page = serve().page()
    page.goto("/")
    page.get_by_role("link", name="Alerts").click()
    page.get_by_role("link", name="undeclared-hop").click()
    expect(page.get_by_role("heading", name="Nearest approved hop: extract-quality")).to_be_visible()
    row = page.get_by_role("row", name=re.compile("^who"))
    expect(row).to_contain_text("svc_mw from mw")
    expect(row).to_contain_text("account is not in the file")
    page.get_by_text("Acknowledge", exact=True).first.click()
    page.get_by_label("reason").first.fill("asking the owner of 10.40.9.77")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_role("status").filter(has_text="Done: acknowledge")).to_be_visible()
    expect(page.locator(".state-word")).to_have_text("in-progress")
    expect(page.locator(".history")).to_contain_text("asking the owner of 10.40.9.77")
    page.get_by_role("link", name="Draft hop").click()
    expect(page.locator("#draft")).to_contain_text("mes-db-to-host-10-40-9-77:")
    expect(page.locator("#draft")).to_contain_text("keep: DECIDE")
    assert DECLARATION.read_bytes() == before


def test_a_scope_is_suppressed_from_its_alert_and_tells_again_when_that_is_ended(serve: Any) -> None:
    page = serve().page()
    page.goto("/alerts")
    page.get_by_role("link", name="undeclared-hop").click()
    page.get_by_role("link", name="Suppress by scope").click()
    expect(page.get_by_label("verdict")).to_have_value("undeclared-hop")
    expect(page.get_by_label("destination")).to_have_value("10.40.9.77")
    page.get_by_label("who").fill("")
    page.get_by_label("for", exact=True).select_option("30 days")
    page.get_by_label("ticket").fill("CHG-7")
    page.get_by_label("reason", exact=True).fill("the new replica, until it is declared")
    page.get_by_role("button", name="Suppress", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("Done: suppress, 1 alerts changed now.")
    row = page.get_by_role("row", name=re.compile("CHG-7"))
    expect(row).to_contain_text("verdict undeclared-hop destination 10.40.9.77")
    page.goto("/alerts?state=suppressed")
    expect(page.get_by_role("link", name="undeclared-hop")).to_be_visible()
    page.get_by_role("link", name="Suppressions").click()
    page.get_by_label("reason to end it").fill("it is declared now")
    page.get_by_role("button", name="End now").click()
    expect(page.get_by_text("Nothing is suppressed by scope.")).to_be_visible()
    expect(page.get_by_role("heading", name="Over")).to_be_visible()
    page.goto("/alerts?state=new")
    expect(page.get_by_role("link", name="undeclared-hop")).to_be_visible()


def test_a_band_opens_beside_the_map_by_keyboard_alone_and_gives_the_focus_back(serve: Any) -> None:
    page = serve().page()
    page.goto("/map")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to content")
    for _ in range(40):
        page.keyboard.press("Tab")
        if "band" in (page.locator(":focus").get_attribute("class") or ""):
            break
    label = page.locator(":focus").get_attribute("aria-label")
    assert label is not None and " to " in label
    page.keyboard.press("Enter")
    expect(page.locator("#panel h1")).to_be_focused()
    expect(page.locator("#panel")).to_contain_text("Who did what")
    assert page.url.endswith("/map")
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    expect(page.locator(":focus")).to_have_attribute("aria-label", label)


def test_every_link_of_the_map_works_without_script(serve: Any) -> None:
    page = serve().page(java_script_enabled=False)
    page.goto("/map")
    page.get_by_role("link", name="lake-upload", exact=True).click()
    expect(page.get_by_role("heading", name="lake-upload")).to_be_visible()
    expect(page.locator("main")).to_contain_text("No object could be read.")
    page.goto("/alerts?verdict=undeclared-data")
    page.get_by_role("link", name="undeclared-data").click()
    page.get_by_text("Comment", exact=True).first.click()
    page.get_by_role("textbox", name="reason").first.fill("seen without script")
    page.get_by_role("button", name="Comment").click()
    expect(page.locator(".history")).to_contain_text("seen without script")


def test_a_viewer_signs_in_reads_no_person_and_decides_nothing(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_HASHER", PasswordHasher(1, 8, 1))
    users.put(tmp_path / "users", "v.look", "viewer", SECRET)
    page = serve(users=tmp_path / "users").page()
    page.goto("/alerts")
    page.get_by_label("Name").fill("v.look")
    page.get_by_label("Password").fill(SECRET)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Alerts")).to_be_visible()
    expect(page.get_by_role("table").first).to_contain_text("a person")
    for path in ("/map", "/alerts", "/declaration", "/coverage"):
        page.goto(path)
        assert "person:" not in page.content()
    page.goto("/alerts")
    page.get_by_role("link", name="undeclared-hop").click()
    expect(page.get_by_role("heading", name="Nearest approved hop: extract-quality")).to_be_visible()
    assert "person:" not in page.content()
    expect(page.get_by_text("Acknowledge")).to_have_count(0)
    expect(page.get_by_role("link", name="Draft hop")).to_have_count(0)
    page.goto("/suppressions")
    expect(page.get_by_text("Nothing is suppressed by scope.")).to_be_visible()
    expect(page.get_by_role("button", name="Suppress")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_what_moves_appears_on_the_map_by_itself_and_the_focus_stays(serve: Any, store: Path) -> None:
    page = serve().page()
    page.clock.install()
    page.goto("/map")
    expect(page.locator("li.is-violation b")).to_have_text("6")
    page.get_by_role("link", name="lake-upload", exact=True).focus()
    flow = {
        "kind": "flow", "event_id": "1" * 32, "plant": "demo", "agent": "tap", "connection": "c", "flow_id": "2" * 32, "sequence": 0,
        "start": "2026-11-21T16:20:36Z", "end": "2026-11-21T16:20:36.1Z", "source": {"address": "10.20.1.21", "port": 5432},
        "destination": {"address": "10.40.9.78", "port": 5}, "operation": "select", "depth": "decoded", "account": "svc_x",
        "bytes": 900_000, "protocol": "postgresql",
    }  # fmt: skip
    held = EmbeddedStore(store, is_clear=lambda account: True)
    held.add(flows=[JudgedFlow(flow, verdict="undeclared-hop", severity="critical")])
    held.close()
    page.clock.run_for(12_000)
    expect(page.locator("li.is-violation b")).to_have_text("7")
    expect(page.get_by_role("link", name=re.compile("10.40.9.78: violation"))).to_be_visible()
    expect(page.locator(":focus")).to_have_text("lake-upload")
