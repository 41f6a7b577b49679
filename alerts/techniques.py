"""Techniques of MITRE ATT&CK (Enterprise and ICS) by verdict, from one dated data file, and where the page of a verdict is.

A technique says what an adversary may be doing where the verdict is given. It is a hint for whoever sorts alerts, never evidence.
Verdicts that no technique stands for are in the file too, with the reason.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Literal

TECHNIQUES_MAX: Final = 8
"""Techniques that one verdict may name."""

ATTACK: Final = "https://attack.mitre.org"


@dataclass(frozen=True, slots=True)
class Technique:
    """One technique, by the names of the release it was read from."""

    id: str
    name: str
    matrix: Literal["enterprise", "ics"]
    tactic: str
    version: str

    @property
    def url(self) -> str:
        """Its page in the release."""
        return f"{ATTACK}/versions/v{self.version}/techniques/{self.id.replace('.', '/')}/"

    @property
    def parent(self) -> str:
        """The technique that a sub-technique is of; its own id if it is none."""
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Techniques:
    """The file of one release; ``none`` says why a verdict has no technique."""

    version: str
    released: str
    source: str
    known: dict[str, Technique]
    by_verdict: dict[str, tuple[str, ...]]
    none: dict[str, str]


def read(text: str) -> Techniques:
    """Read a file of techniques.

    Raises:
        ValueError: it is none, or a verdict names a technique that the file does not have.
    """
    try:
        said = tomllib.loads(text)
        version = str(said["version"])
        known = {id: Technique(id, one["name"], one["matrix"], one["tactic"], version) for id, one in said["techniques"].items()}
        by_verdict = {verdict: tuple(ids) for verdict, ids in said["verdicts"].items()}
        made = Techniques(version, str(said["released"]), str(said["source"]), known, by_verdict, dict(said["none"]))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no file of techniques: {error!r}") from None
    for verdict, ids in by_verdict.items():
        for id in ids:
            if id not in known:
                raise ValueError(f"{verdict}: {id} is not among the techniques")
        if len(ids) > TECHNIQUES_MAX:
            raise ValueError(f"{verdict}: {len(ids)} techniques, expected at most {TECHNIQUES_MAX}")
    return made


@cache
def shipped() -> Techniques:
    """The file that comes with the package."""
    return read((files("alerts") / "techniques.toml").read_text(encoding="utf-8"))


def techniques(verdict: str) -> list[str]:
    """The ids of a verdict, as an alert names them; none of a verdict that the file does not know."""
    return list(shipped().by_verdict.get(verdict, ()))


def technique(id: str) -> Technique | None:
    """What the shipped file knows of an id."""
    return shipped().known.get(id)


def page(verdict: str) -> str:
    """Where the page of a verdict is, from the root of the repository; that of all verdicts for one that the file does not know."""
    made = shipped()
    return f"docs/verdicts/{verdict}.md" if verdict in made.by_verdict or verdict in made.none else "docs/verdicts.md"
