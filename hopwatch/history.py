"""What a declaration would have said of what is kept: the store's windows, judged once more by the judge itself.

Nothing is simulated. Flows, losses and heartbeats of a stretch of time go through the same detector, in the order of their times;
what a limit has counted, which hop was used and what differs is its own word (``Use``, ``Cases``).

**Names.** The store keeps whoever is no service or vendor as a keyed hash, while a declaration names people, or the judge could not
match them. So each name that a declaration holds is hashed with the store's key, and where the hash stands in an event the name is
put back, in memory only (``Names``). An identity that the file gives as a glob (``certificate:CN=eng-*``) cannot be hashed. It is known
by what was said then: a window whose account was found right is that of the account of its hop. What is left, a hash that nothing
explains, is a stranger, as it was on the day, or somebody whose account is gone; windows of such a one are set aside where only
that could make the difference.

**What differs from the day itself.** Budgets begin at nothing where the stretch begins, so a day more is read before it (thirty where a
limit counts thirty days), judged and not compared. Clocks were put right when the windows came; what is kept are the times they said.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from detectors.budget import MONTH_DAYS, Budgets
from detectors.compare import CONTROL
from detectors.judgement import QUIET, ROW, Judgement
from detectors.units import DAY_NS
from detectors.verdict import VerdictDetector
from hopwatch.declared.model import Architecture
from hopwatch.declared.quantity import Limit, Period, Unit
from hopwatch.events import SEVERITIES, Event, EventError, Flow, Heartbeat, Loss, time_ns, time_text
from hopwatch.lines import reader
from hopwatch.store import Query, Reader, StoreError
from hopwatch.store.pseudonyms import PSEUDONYM_PREFIX, Pseudonyms, key_file

DAYS: Final = 31
"""Days that are looked at if nothing else is said."""

CASES_MAX: Final = 10_000
"""Findings of one side that are told apart; windows of others are counted."""

STRANGERS_MAX: Final = 65_536
"""Hashes that nothing explains which are told apart, and hashes known by a glob; others are counted with the first stranger."""

_HASHED: Final = re.compile(re.escape(PSEUDONYM_PREFIX) + r"[0-9a-f]{16}")
_DECLARED: Final = ("hop", "budget", "account", "session")
_TICKETS: Final = {"exception": "exceptions", "calendar": "calendar"}
_APPROVES: Final = ROW["over-limit"]
"""From this row of the table on who, what and where are right: the hop was used."""


class Names:
    """Puts the names of the declarations in the place of their hashes. ``made`` is the store's pseudonym of a name."""

    def __init__(self, made: Callable[[str], str], architectures: Iterable[Architecture]) -> None:
        self._names: dict[str, str] = {}
        self._holders: dict[str, str] = {}
        self._learnt = 0
        self.strangers: Counter[str] = Counter()
        """Windows of each hash that nothing explains."""
        for architecture in architectures:
            for name, account in architecture.accounts.items():
                whole = [one for one in (name, *account.identities, *account.roles) if "*" not in one]
                # Statements about an account name it as an object.
                self._names |= {made(one): one for each in whole for one in (each, f"account:{each}")}
            for hop_name, hop in architecture.hops.items():
                if any("*" in one for one in architecture.accounts[hop.who].identities):
                    # What was said then, was said by the first.
                    self._holders.setdefault(hop_name, hop.who)

    def spoken(self, event: dict[str, Any]) -> tuple[bytes, bool]:  # Any: JSON values
        """The event's line with the names back, and whether its account is still a hash."""
        judgement = event.pop("judgement", None)
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        if PSEUDONYM_PREFIX not in line:
            return line.encode("utf-8", "surrogatepass"), False
        account = str(event.get("account"))
        hashed = account.startswith(PSEUDONYM_PREFIX)
        if hashed and account not in self._names and judgement and (holder := self._holders.get(judgement.get("hop") or "")):
            right = (judgement.get("checked") or {}).get("who") == "checked"
            if right and self._learnt < STRANGERS_MAX and not any(one.get("question") == "who" for one in judgement.get("differences", ())):
                self._names[account] = holder
                self._learnt += 1
        strange = hashed and account not in self._names
        if strange:
            self.strangers[account if len(self.strangers) < STRANGERS_MAX or account in self.strangers else next(iter(self.strangers))] += 1
        said = _HASHED.sub(lambda match: _escaped(self._names.get(match.group(), match.group())), line)
        return said.encode("utf-8", "surrogatepass"), strange


def _escaped(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)[1:-1]


@dataclass(frozen=True, slots=True)
class Window:
    """One event of the past; of a flow, what was said of it then, and whether its account is a hash that nothing explains."""

    event: Event
    said: Mapping[str, Any] | None = None  # Any: JSON values
    strange: bool = False


@dataclass(slots=True)
class Stretch:
    """From when to when, in nanoseconds; ``lead_ns`` is read before it, so that limits have counted what they count."""

    since_ns: int
    until_ns: int
    lead_ns: int = 0
    unread: int = 0
    """Records that this version cannot read."""

    @property
    def days(self) -> int:
        """Whole days, the begun one too."""
        return -(-(self.until_ns - self.since_ns) // DAY_NS)


def stretch(store: Reader, plant: str, days: int, until: str | None, architectures: Iterable[Architecture] = ()) -> Stretch:
    """The last ``days`` that the store holds of the plant, up to ``until`` or its newest window.

    Raises:
        StoreError: it holds no window of the plant.
    """
    newest = store.flows(Query(plant=plant, until=until, limit=1))
    if not newest:
        raise StoreError(f"no window of plant {plant} in the store" + (f" before {until}" if until else ""))
    until_ns = time_ns(newest[0]["start"]) + 1
    limits = [limit for one in architectures for limit in _limits(one)]
    month = any(limit.period is Period.MONTH for limit in limits)
    return Stretch(until_ns - days * DAY_NS, until_ns, (MONTH_DAYS if month else 1) * DAY_NS if limits else 0)


def _limits(architecture: Architecture) -> Iterator[Limit]:
    for hop in architecture.hops.values():
        yield from hop.limit
    for budget in architecture.budgets:
        yield from budget.limit
    for account in architecture.accounts.values():
        yield from account.limit


def pseudonyms(path: Path) -> Pseudonyms:
    """The store's own, by its key.

    Raises:
        StoreError: the key is not there, or is none.
    """
    if not path.exists():
        raise StoreError(f"{path}: the store's key is missing, without it every person looks unknown; --key names it")
    try:
        return Pseudonyms(key_file(path))
    except (OSError, ValueError) as error:
        raise StoreError(str(error)) from None


def replayed(store: Reader, plant: str, when: Stretch, names: Names) -> Iterator[Window]:
    """Everything of the plant in the stretch and its lead, in the order of time."""
    since, until = time_text(when.since_ns - when.lead_ns), time_text(when.until_ns)
    read = reader()
    for event in store.history(since, until, plant=plant, kinds=("flow", "loss", "heartbeat")):
        said = event.get("judgement")
        line, strange = names.spoken(event)
        try:
            yield Window(read(line), said, strange)
        except EventError:
            when.unread += 1


class Judge:
    """One declaration's judge, asked again."""

    def __init__(self, architecture: Architecture, at: date | None = None) -> None:
        self.architecture = architecture
        self._detector = VerdictDetector(architecture, at=at)

    def judged(self, event: Event) -> Judgement | None:
        """What is said of a flow; of anything else, and of a window that came already, nothing."""
        if isinstance(event, Loss):
            self._detector.blind(event)
        elif isinstance(event, Flow | Heartbeat):
            for judgement in self._detector.observe(event):
                return judgement
        return None

    def end(self, flow: Flow, *, source: bool) -> str | None:
        """The zone of one end of the flow."""
        end = flow.source if source else flow.destination
        return self._detector.index.end(end.address, end.port, end.names).zone


@dataclass(slots=True)
class Line:
    """How often one line of the declaration was used, and when."""

    windows: int = 0
    differing: int = 0
    """Windows that it joins and that differed in who, what or where."""
    last_ns: int = 0
    days: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Peak:
    """The most that a limit has counted, and when."""

    used: int = 0
    at_ns: int = 0


class Use:
    """How each line of a declaration was used, by what the judge said of each window; ``summed``: and what moved in all."""

    def __init__(self, judge: Judge, *, summed: bool = False) -> None:
        self._judge = judge
        self._summed = summed
        self.windows = 0
        self.lines: dict[tuple[str, str], Line] = {}
        """By section and name."""
        self.peaks: dict[str, Peak] = {}
        """By the key of a limit; an account's largest object, or session, stands for all."""
        self.sums: dict[tuple[str, str, str], Peak] = {}
        """By ``class`` and zone, or ``owner`` and an empty text: the most of each unit that moved in thirty days."""
        self._month = Budgets(judge.architecture.timezone)

    def add(self, judgement: Judgement) -> None:
        """Count one window."""
        self.windows += 1
        outcome, flow = judgement.outcome, judgement.flow
        at_ns = flow.start_ns
        used = ROW[outcome.verdict] >= _APPROVES or outcome.verdict == "service"
        if outcome.hop is not None:
            self._count("hops", outcome.hop, at_ns, used)
        # Where nobody could read the account, the hop's is assumed.
        who = outcome.who or (self._judge.architecture.hops[outcome.hop].who if outcome.hop is not None else None)
        if who in self._judge.architecture.accounts:
            self._count("accounts", who, at_ns, used)
        if outcome.service in self._judge.architecture.services:
            self._count("services", outcome.service, at_ns, True)
        shared: set[tuple[str, str]] = set()
        for spent in judgement.spent:
            kind, _, rest = spent.key.partition(":")
            if kind == "budget":
                shared.add(("budgets", rest.rpartition("#")[0]))
            elif kind in ("exception", "calendar"):
                shared.add((_TICKETS[kind], rest.rpartition("#")[0].rpartition(":")[0]))
            if kind not in _DECLARED:
                continue
            key = f"{kind}:{rest.partition('|')[0]}#{rest.rpartition('#')[2]}" if kind in ("account", "session") else spent.key
            peak = self.peaks.setdefault(key, Peak())
            if spent.used > peak.used:
                peak.used, peak.at_ns = spent.used, at_ns
        for section, name in shared:
            self._count(section, name, at_ns, used)
        if self._summed and outcome.hop is not None and used:
            self._sum(judgement, outcome.hop, at_ns)

    def line(self, section: str, name: str) -> Line:
        """How the line was used; not at all if nobody saw it."""
        return self.lines.get((section, name)) or Line()

    def peak(self, key: str) -> Peak:
        """The most the limit has counted."""
        return self.peaks.get(key) or Peak()

    def _count(self, section: str, name: str, at_ns: int, used: bool) -> None:
        line = self.lines.setdefault((section, name), Line())
        if not used:
            line.differing += 1
            return
        line.windows += 1
        line.last_ns = max(line.last_ns, at_ns)
        line.days.add(at_ns // DAY_NS)

    def _sum(self, judgement: Judgement, hop: str, at_ns: int) -> None:
        """What all hops move in thirty days, declared or not: what a budget could be written from."""
        zone = self._judge.end(judgement.flow, source=False) or "no declared zone"
        owner = self._judge.architecture.accounts[self._judge.architecture.hops[hop].who].owner
        pairs = [*((name, zone) for name in judgement.classes), (owner, "")]
        for unit in (Unit.ROWS, Unit.BYTES):
            amount = judgement.new.get(unit.value, 0)
            for first, second in pairs if amount > 0 else ():
                key = (first, second, unit.value)
                used = self._month.charge("|".join(key), Limit(0, unit, Period.MONTH), at_ns, amount)
                peak = self.sums.setdefault(key, Peak())
                if used > peak.used:
                    peak.used, peak.at_ns = used, at_ns


Identity = tuple[str, str, tuple[str, ...], str]
"""Verdict, who, the two ends whichever way the data goes, hop."""


@dataclass(slots=True)
class Case:
    """What is said of one identity in the stretch."""

    severity: str
    source: str
    destination: str
    first: str
    last: str
    windows: int = 0
    rows: int = 0
    bytes: int = 0
    differences: dict[tuple[str, str], str] = field(default_factory=dict)


class Cases:
    """The findings of one side, by identity."""

    def __init__(self) -> None:
        self.cases: dict[Identity, Case] = {}
        self.beyond = 0
        """Windows of findings beyond ``CASES_MAX``."""

    def add(self, judgement: Judgement, said: Said) -> None:
        """Count a window of which ``said`` was said; who and where are as ``judgement`` names them, on both sides the same."""
        if said.verdict in QUIET:
            return
        outcome, flow = judgement.outcome, judgement.flow
        attempt = flow.operation == "attempt"
        source, destination = outcome.source.shown, "any" if attempt else outcome.destination.shown
        ends = (source, destination) if attempt else tuple(sorted((source, destination)))
        identity = (said.verdict, "" if attempt else outcome.who or "", ends, "" if attempt else said.hop)
        case = self.cases.get(identity)
        if case is None:
            if len(self.cases) >= CASES_MAX:
                self.beyond += 1
                return
            case = self.cases[identity] = Case(said.severity, source, destination, flow.start, flow.end)
        case.severity = max(case.severity, said.severity, key=SEVERITIES.index)
        case.windows += 1
        case.rows += judgement.net.get("rows", 0)
        case.bytes += judgement.net.get("bytes", 0)
        case.last = max(case.last, flow.end, key=time_ns)
        if flow.operation not in CONTROL:
            case.source, case.destination = source, destination
        case.differences |= said.differences


@dataclass(frozen=True, slots=True)
class Said:
    """What was, or would be, said of a window."""

    verdict: str
    severity: str
    hop: str
    differences: dict[tuple[str, str], str]

    @property
    def about_who(self) -> bool:
        """Whether the account is what differs."""
        return any(question == "who" for question, _ in self.differences)


def said_now(judgement: Judgement) -> Said:
    """By the judge."""
    differences = {(one.question, one.declared): one.observed for one in judgement.differences}
    return Said(judgement.verdict, judgement.severity or "info", judgement.hop or "", differences)


def said_then(judgement: Mapping[str, Any] | None) -> Said | None:  # Any: JSON values
    """On the day, as the store kept it; None if nothing was said."""
    if not judgement or not judgement.get("verdict"):
        return None
    differences = {(one["question"], one["declared"]): one["observed"] for one in judgement.get("differences") or ()}
    return Said(judgement["verdict"], judgement.get("severity") or "info", judgement.get("hop") or "", differences)


@dataclass(slots=True)
class Comparison:
    """What two sides say of the same windows."""

    before: Cases = field(default_factory=Cases)
    after: Cases = field(default_factory=Cases)
    windows: int = 0
    changed: int = 0
    """Windows that get another verdict."""
    aside: int = 0
    """Windows of a stranger who was none then."""
    unjudged: int = 0
    """Windows of which nothing was said then."""

    def add(self, judgement: Judgement, before: Said | None, *, strange: bool) -> None:
        """Count a window."""
        now = said_now(judgement)
        if before is None:
            self.unjudged += 1
            return
        if strange and now.about_who and not before.about_who:
            self.aside += 1
            return
        self.windows += 1
        self.changed += now.verdict != before.verdict
        self.before.add(judgement, before)
        self.after.add(judgement, now)

    def appearing(self) -> list[tuple[Identity, Case]]:
        """Findings that only the new side has, the worst first."""
        return _worst_first(self.after.cases, self.before.cases)

    def disappearing(self) -> list[tuple[Identity, Case]]:
        """Findings that only the old side has, the worst first."""
        return _worst_first(self.before.cases, self.after.cases)

    def heavier(self) -> list[tuple[Identity, Case, Case]]:
        """Findings of both sides whose severity or windows differ: as they were, and as they would be."""
        both = [(key, case, self.after.cases[key]) for key, case in self.before.cases.items() if key in self.after.cases]
        return [one for one in both if (one[1].severity, one[1].windows) != (one[2].severity, one[2].windows)]


def _worst_first(cases: Mapping[Identity, Case], other: Mapping[Identity, Case]) -> list[tuple[Identity, Case]]:
    found = [(key, case) for key, case in cases.items() if key not in other]
    return sorted(found, key=lambda one: (-SEVERITIES.index(one[1].severity), one[1].first, one[0]))
