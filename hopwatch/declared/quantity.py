"""Quantities as the declaration writes them: ``200k rows / 1h``, ``20 MiB / 1d per host``, ``3x``, ``90d``.

A quantity keeps its own words: ``str(limit)`` is what the author wrote, so that a finding or a diff quotes the
file and not a conversion of it. Amounts are exact integers; ``1.5 GiB`` is accepted because it is a whole number
of bytes and ``1.5 rows`` is refused.

Byte units are the binary ones of IEC 80000-13 (KiB, MiB, GiB, TiB). MB and GB are refused rather than guessed:
they are read as either power by different people, and a limit is no place for a 7 % misunderstanding.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

AMOUNT_MAX = 2**63 - 1  # what a counter in an event and a column in the store can hold

_MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_BYTE_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_LIMIT = re.compile(
    r"(?P<amount>\d{1,18}(?:\.\d{1,6})?) ?(?:(?P<multiple>[kMG]?) ?(?P<counted>rows|values|messages|objects)|(?P<size>B|KiB|MiB|GiB|TiB))"
    r" ?/ ?(?P<period>1h|1d|30d|session)(?P<per_host> per host)?",
    re.ASCII,
)
_FACTOR = re.compile(r"(?P<factor>\d{1,6}(?:\.\d{1,3})?)x", re.ASCII)
_DURATION = re.compile(r"(?P<count>\d{1,6})(?P<unit>min|h|d|w|y)", re.ASCII)
_DURATION_UNITS_S = {"min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}

LIMIT_PATTERN = f"^{re.sub(r'[?]P<[a-z_]+>', '', _LIMIT.pattern)}$"
FACTOR_PATTERN = f"^{re.sub(r'[?]P<[a-z_]+>', '', _FACTOR.pattern)}$"
DURATION_PATTERN = f"^{re.sub(r'[?]P<[a-z_]+>', '', _DURATION.pattern)}$"


class Unit(StrEnum):
    """What a limit counts; the names are those of the counters in a flow event."""

    ROWS = "rows"
    VALUES = "values"
    MESSAGES = "messages"
    BYTES = "bytes"
    OBJECTS = "objects"


class Period(StrEnum):
    """Over what a limit counts: an hour slides, a day is the plant's calendar day, thirty such days slide by whole days.

    A session is what one account does from one host at one server until it rests (see ``detectors.budget``).
    """

    HOUR = "1h"
    DAY = "1d"
    MONTH = "30d"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``amount`` of ``unit`` in any ``period``; per client host where ``per_host``."""

    amount: int
    unit: Unit
    period: Period
    per_host: bool = False
    text: str = field(default="", compare=False)

    @property
    def counts(self) -> tuple[Unit, Period]:
        """What two limits of one list may not have in common, and what stays the same when an amount is changed."""
        return self.unit, self.period

    def __str__(self) -> str:
        return self.text or f"{self.amount} {'B' if self.unit is Unit.BYTES else self.unit.value} / {self.period.value}" + (
            " per host" if self.per_host else ""
        )

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read ``200k rows / 1h``.

        Raises:
            ValueError: the text is no limit; the message says what one looks like.
        """
        match = _LIMIT.fullmatch(text)
        if match is None:
            expected = "an amount, a unit and 1h, 1d or 30d, such as 200k rows / 1h or 300 MiB / 1d"
            raise ValueError(f'"{text}": expected {expected}{_unit_hint(text)}')
        size = match["size"]
        exact = Decimal(match["amount"]) * (_BYTE_UNITS[size] if size else _MULTIPLES[match["multiple"]])
        if exact != exact.to_integral_value():
            raise ValueError(f'"{text}": expected a whole number of {"bytes" if size else match["counted"]}')
        if exact > AMOUNT_MAX:
            raise ValueError(f'"{text}": expected at most {AMOUNT_MAX} {"bytes" if size else match["counted"]}')
        unit = Unit.BYTES if size else Unit(match["counted"])
        return cls(int(exact), unit, Period(match["period"]), match["per_host"] is not None, text)


@dataclass(frozen=True, slots=True)
class Factor:
    """How many times a normal limit holds: ``3x``. Never below 1, because a calendar line loosens."""

    value: Decimal
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text or f"{self.value}x"

    def of(self, amount: int) -> int:
        """``amount`` times the factor, rounded down to a whole count."""
        return int(self.value * amount)

    @classmethod
    def parse(cls, text: str) -> "Factor":
        """Read ``3x`` or ``1.5x``.

        Raises:
            ValueError: the text is no factor, or would tighten.
        """
        match = _FACTOR.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}": expected a factor such as 3x')
        value = Decimal(match["factor"])
        if value < 1:
            raise ValueError(f'"{text}": expected 1x or more, a calendar line loosens')
        return cls(value, text)


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time: ``30min``, ``24h``, ``90d``, ``2w``, ``3y`` (a year is 365 days)."""

    seconds: int
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text or f"{self.seconds // 60}min"

    @property
    def days(self) -> float:
        """Length in days of 24 hours."""
        return self.seconds / 86_400

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read ``90d``.

        Raises:
            ValueError: the text is no duration or is zero.
        """
        match = _DURATION.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}": expected a duration such as 30min, 24h, 90d, 2w or 3y')
        seconds = int(match["count"]) * _DURATION_UNITS_S[match["unit"]]
        if seconds == 0:
            raise ValueError(f'"{text}": expected more than nothing')
        return cls(seconds, text)


def _unit_hint(text: str) -> str:
    decimal_unit = re.search(r"\b\d*\s?(kB|KB|MB|GB|TB)\b", text)
    if decimal_unit:
        return f"; {decimal_unit[1]} is read two ways, write {decimal_unit[1][0].upper()}iB"
    if "/" not in text:
        return "; the period is missing"
    return ""
