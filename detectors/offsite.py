"""What kind of place a name off site is: a model API or cloud storage, from a dated list that ships with the package.

The list adds a word to a finding ("model-api, OpenAI"); it never decides a verdict, so an entry it lacks hides nothing.
Blind to: names nobody said (no SNI, no DNS answer seen) and providers younger than the list's date, which every answer quotes.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from hopwatch.declared.match import glob

ENTRIES_MAX: Final = 10_000
"""Entries a list may have."""


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of place. ``shared``: many tenants answer under the name, so it says nothing about whose bucket it is."""

    category: str
    provider: str
    shared: bool
    list_date: str


@dataclass(frozen=True, slots=True)
class OffsiteList:
    """The list of one date."""

    date: str
    entries: tuple[tuple[str, Place], ...]

    def find(self, name: str) -> Place | None:
        """What the name is known as; None if the list does not hold it."""
        lower = name.rstrip(".").lower()
        return next((place for pattern, place in self.entries if glob(pattern)(lower)), None)


def read(text: str) -> OffsiteList:
    """Read a list.

    Raises:
        ValueError: the text is no list.
    """
    try:
        said = json.loads(text)
        date = str(said["date"])
        entries = tuple(
            (str(one["name"]).lower(), Place(str(one["category"]), str(one["provider"]), bool(one.get("shared", False)), date))
            for one in said["entries"]
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"off-site list: {type(error).__name__}, expected a date and entries of name, category and provider") from None
    if len(entries) > ENTRIES_MAX:
        raise ValueError(f"off-site list: {len(entries)} entries, expected at most {ENTRIES_MAX}")
    return OffsiteList(date, entries)


@cache
def shipped() -> OffsiteList:
    """The list inside the package; it is part of the code, as a table in a module would be."""
    return read((files("detectors") / "data" / "offsite.json").read_text(encoding="utf-8"))
