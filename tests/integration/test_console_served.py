"""The console as it is served: beside a watch that still reads, and over the store at scale."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import threading
import time
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboards.console.serve import Options, Serving
from hopwatch.cli import main
from hopwatch.console import booked
from hopwatch.store import Query
from hopwatch.store.judgements import Judged
from hopwatch.store.postgresql import Hiding, PostgresStore, Said
from hopwatch.store.progress import Progress, Step
from hopwatch.store.reader import reader

EXAMPLES = Path(__file__).parents[2] / "examples"
DECLARATION = EXAMPLES / "plant-demo.yaml"
WAIT_S = 60.0


def test_a_console_beside_a_watch_serves_its_store_while_it_goes_on_and_ends_with_it(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    day = ["watch", "-d", str(DECLARATION), "-r", str(EXAMPLES / "plant-day.pcap.gz"), "--store", str(store), "--json", "--no-questions"]
    assert main(day) == 1
    command = [sys.executable, "-m", "hopwatch.cli", "watch", "-d", str(DECLARATION), "-r", "-", "--store", str(store)]
    watch = subprocess.Popen(
        [*command, "--no-questions", "--console", "127.0.0.1:0"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        assert watch.stdin is not None and watch.stderr is not None
        address = ""
        while not address:
            line = watch.stderr.readline().decode()
            assert line, "the watch ended"
            found = re.search(r"console on (http://127\.0\.0\.1:\d+)/", line)
            address = found[1] if found else ""
        threading.Thread(target=watch.stderr.read, daemon=True).start()
        with httpx.Client(base_url=address, timeout=WAIT_S) as browser:
            assert "undeclared-hop" in browser.get("/map").text
            assert "undeclared-hop" in browser.get("/alerts").text
        assert watch.poll() is None, "it waits for its capture"
        watch.stdin.write((EXAMPLES / "plant-day.pcap.gz").read_bytes())
        watch.stdin.close()
        assert watch.wait(WAIT_S) == 1, "findings"
        with pytest.raises(httpx.HTTPError):
            httpx.get(address)
    finally:
        watch.kill()
        watch.wait()


class Outcome:
    """What was said of a window in the recorded day, as a detector says it."""

    def __init__(self, judgement: dict[str, Any], account: str | None) -> None:  # Any: JSON values.
        self.event = judgement | {"classes": []}
        self.verdict, self.severity, self.hop = judgement["verdict"], judgement.get("severity"), judgement.get("hop")
        self.who, self.differences, self.classes = account, (), ()
        self.highest = self.service = None
        self.places = (None, None, None, None)


def test_over_the_store_at_scale_the_pages_say_what_they_say_over_a_file(postgres: str, tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    arguments = ["watch", "-d", str(DECLARATION), "-r", str(EXAMPLES / "plant-day.pcap.gz"), "--store", str(file), "--json"]
    assert main([*arguments, "--no-questions"]) == 1
    held = reader(str(file))
    flows = list(held.history())
    findings = held.findings(Query(plant="demo"))
    held.close()
    key = secrets.token_bytes(32)
    hiding = Hiding(key)
    hiding.declare("demo", lambda account: True)
    store = PostgresStore(postgres, hiding, today=lambda: date(2026, 11, 22))
    store.add([Said(json.dumps(one).encode(), one) for one in (*(flow | {"judgement": None} for flow in flows), *findings)])
    store.close()
    progress = Progress(postgres, "detect", key, hiding, today=lambda: date(2026, 11, 22))
    epoch = progress.claim(0, "me").epoch
    judged = [
        Judged(
            one["event_id"], one["start"], "demo", Outcome(one["judgement"], one.get("account")), one["judgement"].get("finding_id"), None,
            one["rows"], one["bytes"], one["depth"],
        )
        for one in flows
    ]  # fmt: skip
    assert not progress.keep([Step(0, epoch, {}, {}, judged=judged)]).fenced
    progress.close()
    book = booked(postgres)
    book.step(time.time_ns())
    book.close()

    def asked(address: str, takes_in: bool) -> dict[str, list[str]]:
        opened, kept = partial(reader, address), partial(booked, address)
        serving = Serving(Options([DECLARATION], opened, kept, takes_in, address="127.0.0.1:0"))
        serving.start()
        try:
            with httpx.Client(base_url=serving.address, timeout=WAIT_S) as browser:
                pages = {path: browser.get(path) for path in ("/map", "/alerts", "/coverage", "/declaration")}
                assert {answer.status_code for answer in pages.values()} == {200}
                band = re.search(r'href="(/map/band/[0-9a-f]+)" data-open>undeclared-hop', pages["/map"].text)
                alert = re.search(r'href="(/alerts/A-[0-9a-f]+)">undeclared-hop', pages["/alerts"].text)
                assert band is not None and alert is not None
                opened_band, opened_alert = browser.get(band[1]).text, browser.get(alert[1]).text
                assert "mes.genealogy" in opened_band and "10.20.1.21:5432" in opened_alert
                return {
                    "bands": sorted(re.findall(r'class="band is-[a-z]+" data-open="" aria-label="([^"]+)"', pages["/map"].text)),
                    "alerts": sorted(re.findall(r'href="/alerts/A-[0-9a-f]+">([a-z-]+)<', pages["/alerts"].text)),
                    "coverage": re.findall(r'<th scope="row">.*?</tr>', pages["/coverage"].text, re.DOTALL),
                }
        finally:
            serving.stop()

    assert asked(postgres, False) == asked(str(file), True)
