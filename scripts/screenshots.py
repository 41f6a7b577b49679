"""Take the pictures of the console in docs/images: `python -m scripts.screenshots [--all]`, over the recorded plant day, in Chromium.

In the dark are the map and an alert; ``--all`` takes every page in both themes, to be looked at.

Time stands still a little after the day, so that the same console gives the same pictures.
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from dashboards.console.access import Person
from dashboards.console.serve import Options, Serving
from hopwatch.console import booked
from hopwatch.events import time_ns
from hopwatch.store.reader import reader

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
DECLARATION = ROOT / "examples" / "plant-demo.yaml"
CAPTURE = ROOT / "examples" / "plant-day.pcap.gz"
NOW_NS = time_ns("2026-11-21T16:21:40Z")
CHROMIUM = "/usr/bin/chromium"
IN_THE_DARK = ("map", "alert")


def main() -> int:
    """Make them all."""
    if not Path(CHROMIUM).exists():
        print(f"{CHROMIUM} is not there; `make setup` brings it", file=sys.stderr)
        return 2
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hopwatch-pictures-") as folder:
        store = str(Path(folder) / "store.db")
        watch = [sys.executable, "-m", "hopwatch.cli", "watch", "-d", str(DECLARATION), "-r", str(CAPTURE), "--store", store, "--json"]
        subprocess.run(watch, stdout=subprocess.DEVNULL, check=False, cwd=ROOT)
        options = Options([DECLARATION], partial(reader, store), partial(booked, store), True, address="127.0.0.1:0")
        serving = Serving(options, lambda: NOW_NS)
        serving.console.entrance.local = Person("a.ruiz", "analyst", "this host")
        serving.start()
        try:
            with sync_playwright() as playwright:
                # Chromium's own sandbox does not start for root.
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
                for theme in ("light", "dark"):
                    context = browser.new_context(
                        base_url=serving.address, viewport={"width": 1280, "height": 760}, color_scheme=theme, reduced_motion="reduce"
                    )
                    take(context.new_page(), theme)
                    context.close()
                browser.close()
        finally:
            serving.stop()
    return 0


def take(page: Page, theme: str) -> None:
    """The main pages in one theme."""

    def kept(name: str) -> None:
        if theme == "dark" and name not in IN_THE_DARK and "--all" not in sys.argv:
            return
        page.mouse.move(0, 0)
        path = IMAGES / f"console-{name}-{theme}.png"
        page.screenshot(path=path, scale="css")
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size // 1024} KiB")

    page.goto("/map")
    kept("map")
    page.get_by_role("link", name="undeclared-hop (critical)").first.press("Enter")
    page.locator("#panel h1").wait_for()
    kept("band")
    page.goto("/alerts")
    kept("alerts")
    page.get_by_role("link", name="undeclared-hop").click()
    page.get_by_text("Acknowledge", exact=True).first.click()
    kept("alert")
    page.get_by_role("link", name="Draft hop").click()
    page.locator("#draft").wait_for()
    kept("draft")
    page.goto("/declaration")
    kept("declaration")
    page.goto("/coverage")
    kept("coverage")


if __name__ == "__main__":
    sys.exit(main())
