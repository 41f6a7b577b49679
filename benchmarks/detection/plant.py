"""A plant's data movement by the minute, with incidents in it: what detection is judged by.

Seventeen pairs of ends of the kinds that plants have (flat OPC UA, shift-shaped MES traffic, nightly batches, people who ask now
and then), 42 days around a change to summer time, with a weekend's rhythm, a month end, a maintenance day and its backlog,
growth and heavy tails. The true amounts of every incident are known by the minute, so that what was gone before an alert can be
said. Here are amounts only, and the incidents that amounts alone show (``STORIES``); those that show by who, what and where are in
``scenes``, and what the pairs are called in ``ends``.

All randomness comes from one seed; days are 1,440 minutes of UTC, and the plant's wall clock is Europe/Berlin's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Minutes = npt.NDArray[np.float64]

DAYS: Final = 42
LEARNING_DAYS: Final = 14
"""Days without incidents: what a plant is given to watch before anyone relies on it."""

BEGIN: Final = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday; the clocks change on the 28th day, and the month ends on the 30th."""

TIMEZONE: Final = ZoneInfo("Europe/Berlin")
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Wall:
    """The plant's wall clock at every minute of a run."""

    hour: Minutes
    weekday: npt.NDArray[np.int64]
    day: npt.NDArray[np.int64]
    """The plant's calendar day, from 0."""

    last_of_month: npt.NDArray[np.bool_]

    @property
    def working(self) -> npt.NDArray[np.bool_]:
        """Monday to Friday."""
        return self.weekday < 5


def wall(days: int = DAYS) -> Wall:
    """The wall clock of ``days`` days from ``BEGIN``."""
    hours = [(BEGIN + timedelta(hours=hour)).astimezone(TIMEZONE) for hour in range(days * 24)]
    minute = np.tile(np.arange(60) / 60.0, len(hours))
    first = hours[0].toordinal()
    return Wall(
        np.repeat([float(at.hour) for at in hours], 60) + minute,
        np.repeat([at.weekday() for at in hours], 60),
        np.repeat([at.toordinal() - first for at in hours], 60),
        np.repeat([(at + timedelta(days=1)).day == 1 for at in hours], 60),
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """One pair of ends: who moves data between them, how much a row has, and its bytes by the minute."""

    name: str
    bytes_per_row: int
    moves: Callable[[Wall, np.random.Generator], Minutes]


@dataclass(frozen=True, slots=True)
class Part:
    """Windows beside a pair's own: ``amounts`` by the minute, of a pair that may be new, with what they say otherwise."""

    pair: str
    like: str
    """The pair whose windows they resemble."""

    first_minute: int
    amounts: Minutes
    said: dict[str, Any] = field(default_factory=dict)  # Any: fields of a flow
    objects: tuple[str, ...] = ()
    rows_a_minute: int | None = None
    """Where it is not what the bytes say."""


@dataclass(slots=True)
class Incident:
    """Data that should not have moved, or (``benign``) that looks so and may."""

    kind: str
    pairs: tuple[str, ...]
    first_minute: int
    last_minute: int
    benign: bool
    causes: frozenset[str] = frozenset()
    """What an alert may state and be right about what happened."""

    scenario: str = ""
    added: dict[str, Minutes] = field(default_factory=dict)
    """Bytes beyond the pair's own, from ``first_minute`` to ``last_minute`` inclusive."""

    parts: tuple[Part, ...] = ()
    ends: frozenset[str] = frozenset()
    """The ends that its windows name, where they are not the pairs' own."""

    ticket: str = ""
    """The hop that an exception of the declaration loosens for it."""

    @property
    def bytes(self) -> float:
        """What it moved in all."""
        return float(sum(part.sum() for part in self.added.values()))

    def gone(self, minute: int) -> float:
        """What it had moved by the end of ``minute``."""
        upto = max(0, minute + 1 - self.first_minute)
        return float(sum(part[:upto].sum() for part in self.added.values()))

    def rows_gone(self, minute: int) -> float:
        """The rows (values, messages) of that; every pair's have a size of their own."""
        upto = max(0, minute + 1 - self.first_minute)
        size = {part.pair: BYTES_PER_ROW[part.like] for part in self.parts} | BYTES_PER_ROW
        return float(sum(part[:upto].sum() / size[name] for name, part in self.added.items()))


@dataclass(slots=True)
class Run:
    """One simulated run: bytes by pair and minute, incidents among them."""

    seed: int
    days: int
    wall: Wall
    bytes: dict[str, Minutes]
    """Of the pairs' own windows."""

    incidents: list[Incident]
    silent: list[tuple[str, int, int]] = field(default_factory=list)
    """Agents that say nothing, from a minute to another inclusive."""

    restarted: set[tuple[str, int]] = field(default_factory=set)
    """Agents and minutes of which they missed the end."""

    lossy: list[tuple[str, int, int]] = field(default_factory=list)
    """Agents that lose some of every minute."""

    @property
    def pairs(self) -> list[str]:
        """The names, in a fixed order."""
        return list(self.bytes)

    def series(self) -> dict[str, Minutes]:
        """Everything that moved, by pair and minute, pairs that only an incident has included."""
        all_ = {name: amount.copy() for name, amount in self.bytes.items()}
        for part in (part for incident in self.incidents for part in incident.parts):
            whole = all_.setdefault(part.pair, np.zeros(self.days * 1440))
            whole[part.first_minute : part.first_minute + len(part.amounts)] += part.amounts
        return all_


# The rhythms of a plant


def _noise(many: int, spread: float, random: np.random.Generator, memory: float = 0.9) -> Minutes:
    """Log-normal noise with a memory of some minutes and a mean of about one."""
    steps = random.normal(0.0, spread * np.sqrt(1 - memory**2), many)
    level = np.empty(many)
    kept = 0.0
    for place, step in enumerate(steps):
        kept = memory * kept + step
        level[place] = kept
    return np.exp(level - spread**2 / 2)


def _shifts(clock: Wall, early: float, late: float, night: float, free: float) -> Minutes:
    """Two shifts and a night, with half an hour's ramp at the change; weekends run at ``free``."""
    hour = clock.hour
    shape = np.where((hour >= 6) & (hour < 14), early, np.where((hour >= 14) & (hour < 22), late, night))
    ramp = np.clip(np.minimum(np.abs(hour - 6), np.minimum(np.abs(hour - 14), np.abs(hour - 22))) / 0.5, 0.4, 1.0)
    return np.asarray(shape * ramp * np.where(clock.working, 1.0, free))


def _flat(bytes_a_minute: float, spread: float) -> Callable[[Wall, np.random.Generator], Minutes]:
    def moves(clock: Wall, random: np.random.Generator) -> Minutes:
        many = len(clock.hour)
        amount = bytes_a_minute * _noise(many, spread, random)
        # A subscription that is made anew reads everything once.
        for minute in random.integers(0, many, max(1, many // (1440 * 6))):
            amount[minute] *= random.uniform(2, 5)
        return amount

    return moves


def _shifted(
    bytes_a_minute: float, spread: float, free: float = 0.2, growth_a_day: float = 0.0, month_end: float = 1.0
) -> Callable[[Wall, np.random.Generator], Minutes]:
    def moves(clock: Wall, random: np.random.Generator) -> Minutes:
        shape = _shifts(clock, 1.0, 0.8, 0.25, free)
        growth = (1 + growth_a_day) ** clock.day
        ends = np.where(clock.last_of_month & (clock.hour >= 18), month_end, 1.0)
        tails = np.where(random.random(len(shape)) < 0.002, random.pareto(2.5, len(shape)) + 1.5, 1.0)
        return np.asarray(bytes_a_minute * shape * growth * ends * tails * _noise(len(shape), spread, random))

    return moves


def _batch(
    mib_a_night: float, from_h: float, minutes: float, spread: float, weekdays: tuple[int, ...] = tuple(range(7))
) -> Callable[[Wall, np.random.Generator], Minutes]:
    def moves(clock: Wall, random: np.random.Generator) -> Minutes:
        amount = np.zeros(len(clock.hour))
        for day in range(int(clock.day[-1]) + 1):
            begin = from_h + abs(random.normal(0, 4)) / 60
            lasts = int(minutes * random.uniform(0.8, 1.1))
            night = mib_a_night * MIB * np.exp(random.normal(0, spread))
            # As long as on any other day, whatever the clocks do meanwhile.
            after = np.flatnonzero((clock.day == day) & (clock.hour >= begin))
            if len(after) and int(clock.weekday[after[0]]) in weekdays and after[0] + lasts < len(amount):
                amount[after[0] : after[0] + lasts] = night / lasts * _noise(lasts, 0.2, random)
        return amount

    return moves


def _people(
    visits_a_day: float, mib: float, tail: float, from_h: float = 7.5, to_h: float = 17.5, weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
) -> Callable[[Wall, np.random.Generator], Minutes]:
    """Somebody asks now and then: sizes with a Pareto tail, a few minutes each."""

    def moves(clock: Wall, random: np.random.Generator) -> Minutes:
        amount = np.zeros(len(clock.hour))
        open_ = np.isin(clock.weekday, weekdays) & (clock.hour >= from_h) & (clock.hour < to_h)
        minutes_a_day = (to_h - from_h) * 60
        starts = np.flatnonzero(open_ & (random.random(len(open_)) < visits_a_day / minutes_a_day))
        for start in starts:
            lasts = int(random.integers(1, 8))
            size = mib * MIB * min(random.pareto(tail) + 0.3, 40.0)
            amount[start : start + lasts] += size / lasts
        return amount

    return moves


def _hourly(mib: float, spread: float) -> Callable[[Wall, np.random.Generator], Minutes]:
    def moves(clock: Wall, random: np.random.Generator) -> Minutes:
        many = len(clock.hour)
        amount = np.zeros(many)
        for start in range(5, many - 3, 60):
            amount[start : start + 3] = mib * MIB / 3 * np.exp(random.normal(0, spread))
        return np.asarray(amount * np.where(clock.working, 1.0, 0.5))

    return moves


def _until(days: int, moves: Callable[[Wall, np.random.Generator], Minutes]) -> Callable[[Wall, np.random.Generator], Minutes]:
    """Something that ends, as it should, with a day."""

    def ends(clock: Wall, random: np.random.Generator) -> Minutes:
        return np.where(clock.day < days, moves(clock, random), 0.0)

    return ends


PILOT_DAYS: Final = 33
"""Days of the run until the pilot ends."""

KINDS: Final[tuple[Kind, ...]] = (
    Kind("collect-tags-1", 40, _flat(160_000, 0.03)),
    Kind("collect-tags-2", 40, _flat(220_000, 0.04)),
    Kind("publish-uns", 120, _shifted(350_000, 0.10, free=0.4)),
    Kind("ml-features", 120, _shifted(300_000, 0.12, free=0.4)),
    Kind("dashboards", 200, _shifted(500_000, 0.25, free=0.05)),
    Kind("mes-works", 300, _shifted(1_500_000, 0.30, free=0.15, growth_a_day=0.003, month_end=2.5)),
    Kind("mes-writes", 200, _shifted(400_000, 0.30, free=0.15, growth_a_day=0.003)),
    Kind("historian-copy", 60, _shifted(250_000, 0.08, free=0.7, growth_a_day=0.008)),
    Kind("extract-quality", 250, _batch(90, 1.6, 60, 0.12)),
    Kind("lake-upload", 250, _batch(70, 3.1, 40, 0.12)),
    Kind("nightly-orders", 180, _batch(25, 0.3, 15, 0.20, weekdays=(1, 2, 3, 4, 5))),
    Kind("backup", 4_000, _batch(3_000, 2.0, 110, 0.03, weekdays=(6,))),
    Kind("reporting", 220, _hourly(6, 0.25)),
    Kind("analyst", 250, _people(10, 0.8, 1.6)),
    Kind("vendor", 90, _people(4, 1.5, 2.5, from_h=8, to_h=12, weekdays=(1,))),
    Kind("planner", 250, _people(25, 0.3, 2.2, from_h=6, to_h=18)),
    Kind("pilot", 200, _until(PILOT_DAYS, _hourly(2, 0.2))),
)
BYTES_PER_ROW: Final = {kind.name: kind.bytes_per_row for kind in KINDS}


def plant(seed: int, days: int = DAYS, *, incidents: bool = True) -> Run:
    """One run; without incidents it is what the plant would have been."""
    clock = wall(days)
    own = np.random.SeedSequence(seed).spawn(len(KINDS) + 1)
    moved = {kind.name: kind.moves(clock, np.random.default_rng(own[place])) for place, kind in enumerate(KINDS)}
    _maintenance(clock, moved)
    for name, amount in moved.items():
        moved[name] = np.floor(amount)
    run = Run(seed, days, clock, moved, [])
    if incidents:
        _strike(run, np.random.default_rng(own[-1]))
    return run


def _maintenance(clock: Wall, moved: dict[str, Minutes]) -> None:
    """A Saturday on which the cells stand still; what waited comes in the two hours after."""
    if int(clock.day[-1]) < 20:
        return
    stands = (clock.day == 19) & (clock.hour >= 6) & (clock.hour < 14)
    after = (clock.day == 19) & (clock.hour >= 14) & (clock.hour < 16)
    for name in ("collect-tags-1", "collect-tags-2", "publish-uns", "ml-features", "historian-copy"):
        waited = moved[name][stands].sum()
        moved[name][stands] = 0.0
        if name in ("historian-copy", "publish-uns", "ml-features"):
            moved[name][after] += 0.5 * waited / after.sum()


# What goes wrong, and what only looks so


def _strike(run: Run, random: np.random.Generator) -> None:
    """One incident of every kind and as many benign ones, at times that do not touch for the same pair."""
    taken: dict[str, list[tuple[int, int]]] = {name: [] for name in run.pairs}
    for told in STORIES:
        for _ in range(200):
            story = told.make(run, random)
            if story is None:
                continue
            pairs, first, parts = story
            last = first + max(len(part) for part in parts.values()) - 1
            if last >= run.days * 1440 or any(first <= end + 120 and begin <= last + 120 for name in pairs for begin, end in taken[name]):
                continue
            added = {name: np.floor(part) for name, part in parts.items()}
            ticket = pairs[0] if told.ticket else ""
            run.incidents.append(
                Incident(told.kind, pairs, first, last, told.benign, told.causes, told.scenario, added=added, ticket=ticket)
            )
            for name, part in added.items():
                run.bytes[name][first : first + len(part)] += part
                taken[name].append((first, last))
            break
    run.incidents.sort(key=lambda one: one.first_minute)


Story = tuple[tuple[str, ...], int, dict[str, Minutes]]

MUCH: Final = frozenset({"over-limit", "volume", "slow", "bulk-extraction"})
"""Verdicts that say of an amount that it is too large, by a limit or by what was usual."""


def _start(run: Run, random: np.random.Generator, from_h: float, to_h: float, *, working: bool = True) -> int | None:
    """A minute after the days of learning, between two hours of a working day."""
    clock = run.wall
    fits = (clock.day >= min(LEARNING_DAYS, run.days // 2)) & (clock.hour >= from_h) & (clock.hour < to_h)
    fits &= clock.working if working else ~clock.working
    minutes = np.flatnonzero(fits)
    return int(random.choice(minutes)) if len(minutes) else None


def _pull(
    pairs: tuple[str, ...], from_h: float, to_h: float, mib: tuple[float, float], minutes: tuple[int, int], *, working: bool = True
) -> Callable[[Run, np.random.Generator], Story | None]:
    """Somebody takes ``mib`` over ``minutes`` on one of the pairs."""

    def make(run: Run, random: np.random.Generator) -> Story | None:
        first = _start(run, random, from_h, to_h, working=working)
        if first is None:
            return None
        name = str(random.choice(pairs))
        lasts = int(random.integers(minutes[0], minutes[1] + 1))
        amount = random.uniform(*mib) * MIB * random.dirichlet(np.full(lasts, 5.0))
        return (name,), first, {name: np.asarray(amount)}

    return make


def _share(pairs: tuple[str, ...], more: float, days: int) -> Callable[[Run, np.random.Generator], Story | None]:
    """A hop moves ``more`` of its own amount on top, every day for ``days`` days."""

    def make(run: Run, random: np.random.Generator) -> Story | None:
        first_day = int(random.integers(min(LEARNING_DAYS, run.days // 2), max(run.days - days, run.days // 2) + 1))
        first = int(np.argmax(run.wall.day == first_day))
        name = str(random.choice(pairs))
        return (name,), first, {name: run.bytes[name][first : first + days * 1440] * more}

    return make


def _spread(mib_each: float) -> Callable[[Run, np.random.Generator], Story | None]:
    """Five hops each carry a little more in one night, together a recipe book."""
    pairs = ("extract-quality", "lake-upload", "nightly-orders", "reporting", "historian-copy")

    def make(run: Run, random: np.random.Generator) -> Story | None:
        first = _start(run, random, 0.2, 1.0)
        return (
            None
            if first is None
            else (pairs, first, {name: np.asarray(mib_each * MIB * random.dirichlet(np.full(180, 5.0))) for name in pairs})
        )

    return make


def _trickle(mib_a_day: float, days: int) -> Callable[[Run, np.random.Generator], Story | None]:
    """A flat stream that takes a little, day and night."""

    def make(run: Run, random: np.random.Generator) -> Story | None:
        first = _start(run, random, 0, 24)
        if first is None:
            return None
        many = min(days * 1440, run.days * 1440 - first)
        return ("planner",), first, {"planner": np.asarray(np.full(many, mib_a_day * MIB / 1440) * random.uniform(0.8, 1.2, many))}

    return make


@dataclass(frozen=True, slots=True)
class Told:
    """A kind of incident that amounts alone show: ``causes`` are what an alert may state and be right."""

    kind: str
    scenario: str
    benign: bool
    make: Callable[[Run, np.random.Generator], Story | None]
    causes: frozenset[str] = MUCH
    ticket: bool = False
    """Whether it is planned: an exception of the declaration says so."""


STORIES: Final = (
    Told("bulk pull on a hop by day", "S9", False, _pull(("extract-quality", "nightly-orders"), 8, 17, (60, 400), (5, 40)),
         MUCH | {"outside-window"}),
    Told("history pulled at night", "S1", False, _pull(("mes-works", "dashboards"), 22.5, 24, (250, 900), (20, 90))),
    Told("history pulled in a shift", "S1", False, _pull(("mes-works",), 7, 13, (400, 1200), (10, 60))),
    Told("weekend extraction", "S1", False, _pull(("reporting", "analyst", "planner"), 9, 18, (80, 300), (15, 120), working=False)),
    Told("dump through the analyst", "S7", False, _pull(("analyst",), 8, 16, (200, 800), (5, 30))),
    Told("OPC UA history harvest", "S11", False, _pull(("collect-tags-1", "collect-tags-2"), 0, 24, (30, 150), (10, 60))),
    Told("vendor takes more", "S1", False, _pull(("vendor",), 8.5, 11, (150, 400), (20, 60))),
    Told("nightly batch twice as large", "S1", False, _share(("extract-quality", "lake-upload"), 1.2, 1)),
    Told("low and slow", "S8", False, _share(("extract-quality", "historian-copy", "lake-upload"), 0.3, 5)),
    Told("trickle", "S8", False, _trickle(40, 4), MUCH | {"outside-window"}),
    Told("spread over five hops", "S1", False, _spread(45), MUCH | {"outside-window"}),
    Told("a larger report", "S1", True, _pull(("reporting",), 8, 17, (4, 8), (3, 6))),
    Told("reload under a ticket", "S1", True, _share(("extract-quality",), 1.0, 1), ticket=True),
    Told("a planner's long list", "S7", True, _pull(("planner",), 8, 16, (2, 6), (3, 10))),
    Told("retained backlog", "S10", True, _pull(("ml-features", "publish-uns"), 6, 20, (15, 40), (5, 15))),
    Told("a new line", "S8", True, _share(("mes-writes",), 0.15, 7), ticket=True),
)  # fmt: skip
"""What happens, whether it is benign, and how it is made."""
