"""Whatever is read stands out from its ground in both themes (WCAG 2.2: 1.4.3 text 4.5:1, 1.4.11 what means something 3:1)."""

from __future__ import annotations

import re

import pytest

from dashboards.console.pages import STATIC

SHEET = (STATIC / "console.css").read_text()
LIGHT = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", SHEET[: SHEET.index("@media")]))
DARK = LIGHT | dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", SHEET[SHEET.index("@media") : SHEET.index("* { box-sizing")]))

TEXT = [
    *((text, ground) for text in ("text", "quiet", "link") for ground in ("ground", "sheet", "raised", "zone", "outside")),
    *((text, ground) for text in ("text", "quiet", "link") for ground in ("note-ground", "warn-ground", "bad-ground")),
    ("bad", "sheet"), ("bad", "ground"), ("bad", "bad-ground"), ("warn", "warn-ground"), ("note", "note-ground"),
    ("bar-text", "bar"), ("bar-quiet", "bar"), ("raised", "link"),
]  # fmt: skip
LINES = [
    ("band", "sheet"), ("bad", "sheet"), ("hatch", "sheet"), ("unseen", "sheet"), ("unjudged", "sheet"), ("edge", "raised"),
    ("focus", "sheet"), ("focus", "ground"), ("outside-edge", "outside"),
]  # fmt: skip


def luminance(colour: str) -> float:
    def linear(part: str) -> float:
        value = int(part, 16) / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(colour[place : place + 2]) for place in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_lines_stand_out_in_either_theme(theme: dict[str, str]) -> None:
    assert set(LIGHT) == set(DARK) and LIGHT["text"] != DARK["text"]
    weak = [f"{a} on {b}: {contrast(theme[a], theme[b]):.2f}" for a, b in TEXT if contrast(theme[a], theme[b]) < 4.5]
    weak += [f"{a} on {b}: {contrast(theme[a], theme[b]):.2f}" for a, b in LINES if contrast(theme[a], theme[b]) < 3]
    assert weak == []
