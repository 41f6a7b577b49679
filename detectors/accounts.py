"""Who is new, and who is not who they were: accounts by their life, their hosts, their tools and their reach.

Asks: was an account made or given rights on the wire, is one used for the first time, from a host or with a program it never
used, after a long rest, from two places at once, with a person's tool, or on more objects than ever? Sees: the account, client,
application and objects of every window; what is declared of it (hosts, applications, kind) is known and quiet.

Blind to: accounts nobody could read (an encrypted login without a feed), who sits before a shared one, and the names that hosts of
a declared service give themselves inside it (a health check logs in as nobody). Raised wrongly by: a driver upgrade nobody declared;
an operator who helps out from another desk; the first two weeks of a plant are learnt, not judged.
What to do: ask the owner of the account; if the change is wanted, add host or application to it, else lock it and rotate its
secret.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, Final

from msgspec import Struct, field, to_builtins

from detectors.budget import digest
from detectors.cases import Cases
from detectors.compare import CONTROL
from detectors.judgement import severities_of
from detectors.memory import Held, Memory
from detectors.moved import Look, Moved, Question
from detectors.units import DAY_NS, MINUTE_NS
from hopwatch.declared.match import CACHE_ENTRIES_MAX, End, Index, Remembered, glob
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding, Severity, time_text

LEARNING_NS: Final = 14 * DAY_NS
"""An account that has been known for less is learnt: its hosts and programs are not news."""

DORMANT_NS: Final = 60 * DAY_NS
TOGETHER_NS: Final = 5 * MINUTE_NS
"""Two hosts within this time use an account at once; a failover, whose hosts are declared, is no news."""

WAYS_MAX: Final = 32
"""Hosts, or programs, remembered of one account; the one used longest ago is forgotten."""

OBJECTS_MAX: Final = 4_096
"""Distinct objects of a day told apart; beyond it the account is broad in any case."""

BREADTH_MIN: Final = 20
BREADTH_RATIO: Final = 4.0
"""An account is broad if it touches this many times as many objects in a day as on its own days before and as its peers do."""

TOOLS: Final = (
    "psql*", "*pgadmin*", "*dbeaver*", "*datagrip*", "*tableplus*", "*heidisql*", "*beekeeper*", "mysql", "mariadb", "*jupyter*",
    "*ipython*", "*mqtt explorer*", "*mqttx*", "mosquitto_sub*", "*uaexpert*", "*excel*", "*power bi*", "*tableau*",
)  # fmt: skip
"""Names under which programs that a person sits before introduce themselves."""


class Known(Struct):
    """One account: since when, until when, its hosts and programs with their last use, and how many objects it touches in a day."""

    first_ns: int = 0
    last_ns: int = 0
    hosts: dict[str, int] = field(default_factory=dict)
    programs: dict[str, int] = field(default_factory=dict)
    day: int = 0
    objects: dict[str, None] = field(default_factory=dict)
    breadth: float = 0.0
    days: int = 0
    made: str = ""
    """Who made it on the wire, and when; empty if nobody was seen to."""

    broad: bool = False


class _Use(Struct):
    """What is asked of windows of one account: where it is used from and with what, and whether it is declared to be."""

    accounts: "Accounts"
    name: str
    known: Held[Known]
    host: str
    program: str | None
    comes_from: bool
    goes_with: bool
    day: int = 0
    until_ns: int = 0
    noted: dict[str, None] | None = None
    """The account's objects of a day, once those of its windows are among them."""

    few: int = 0
    """Until then, on that ``day`` of the account's objects and as long as they are so few, its windows bring nothing new."""

    def look(self, moved: Moved) -> Sequence[Finding]:
        """What the window says of its account."""
        held, accounts, at_ns = self.known, self.accounts, moved.start_ns
        known = held.entry
        hosts, programs = known.hosts, known.programs
        if (
            at_ns >= self.until_ns
            or held.turn != accounts.known.turn
            or known.day != self.day
            or len(known.objects) >= self.few
            or len(hosts) > 1
            or len(programs) > 1
        ):
            return accounts.used(moved, self)
        hosts[self.host] = at_ns
        if self.program is not None:
            programs[self.program] = at_ns
        if at_ns > known.last_ns:
            known.last_ns = at_ns
        return ()


class Accounts(Question):
    """Every account by server asset and name, as far as the bound goes."""

    name: ClassVar[str] = "accounts"

    def __init__(self, architecture: Architecture, quoted: Declaration, index: Index | None = None) -> None:
        self._architecture = architecture
        self._index = index or Index(architecture)
        self._cases = Cases(quoted, severities_of(architecture))
        self.known: Memory[Known] = Memory(Known, to_builtins, _read)
        self._from = Remembered[tuple[str, End], bool](lambda asked: self._comes_from(*asked))
        self._anyone_from: dict[tuple[str, str], bool] = {}
        self._with = Remembered[tuple[str, str | None], bool](lambda asked: self._goes_with(*asked))

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """The accounts and the open findings."""
        return {"known": self.known, "cases": self._cases.memory}

    def asked(self, moved: Moved) -> Look | None:
        """Accounts that are used, and those that are administered."""
        use = None if moved.account is None else self._use(moved, moved.account)
        if moved.flow.operation == "admin":
            return partial(self._administers, use)
        # What a health check, an exporter or the declared scanner calls itself is its service's affair.
        return None if use is None or moved.flow.operation == "refused" or moved.verdict == "service" else use.look

    def _use(self, moved: Moved, name: str) -> _Use:
        host, program = moved.client.host or moved.client.address, _program(moved.flow.application)
        comes_from, goes_with = self._is_from(name, moved.client), self._with((name, moved.flow.application))
        return _Use(self, name, self.known.later(_key(moved, name)), host, program, comes_from, goes_with)

    # Accounts that are made or given rights

    def _administers(self, use: _Use | None, moved: Moved) -> Sequence[Finding]:
        """What the window says of the accounts it administers, and of its own."""
        return [*self._administered(moved), *(use.look(moved) if use is not None else ())]

    def _administered(self, moved: Moved) -> Iterator[Finding]:
        for part in moved.flow.objects:
            gained = [column for column in part.columns if column == "create" or column.startswith("grant:")]
            for name in (one.removeprefix("account:") for one in part.names if one.startswith("account:")):
                for done in gained:
                    known = self.known.of(_key(moved, name))
                    what = "made" if done == "create" else f"given {done.removeprefix('grant:')}"
                    if done == "create":
                        known.made = f"{time_text(moved.start_ns)} by {moved.who}"
                    yield self._new(moved, name, f"{what} by {moved.who} at {moved.client.shown}")

    def _new(self, moved: Moved, name: str, seen: str) -> Finding:
        """One finding an account: made, given rights, used."""
        what = re.split(" by | from ", seen, maxsplit=1)[0]
        return self._cases.say(
            "new-account", "high", plant=moved.flow.plant, who=name, source=moved.server.shown, destination=moved.server.shown,
            first_ns=moved.start_ns, last_ns=moved.end_ns, differences=[("who", what, seen)],
            moved=moved if moved.account == name else None,
        )  # fmt: skip

    # Accounts that are used

    def used(self, moved: Moved, use: _Use) -> list[Finding]:
        """What a window says that may bring something new."""
        found: list[Finding] = []
        held, name, program = use.known, use.name, use.program
        known = held.entry if held.turn == self.known.turn else self.known.again(held)
        fresh = not known.first_ns
        if fresh:
            known.first_ns = moved.start_ns
            if known.made or not moved.declared:
                made = f", made {known.made}" if known.made else ""
                found.append(self._new(moved, name, f"first use from {moved.client.shown} with {program or 'an unnamed program'}{made}"))
        elif moved.start_ns - known.last_ns > DORMANT_NS:
            rest = (moved.start_ns - known.last_ns) // DAY_NS
            found.append(self._changed(moved, name, "dormant-account", "when", "an account in use", f"used again after {rest} days"))
        if not use.comes_from:
            found += self._places(moved, name, known, use.host, fresh)
        _touch(known.hosts, use.host, moved.start_ns)
        if program is not None:
            if not use.goes_with:
                found += self._tools(moved, name, known, program)
            _touch(known.programs, program, moved.start_ns)
        known.last_ns = max(known.last_ns, moved.start_ns)
        last_day = known.last_ns // DAY_NS
        if moved.flow.operation not in CONTROL:
            found += self._breadth(moved, use, known)
            last_day = known.day
        if not found and known.first_ns:
            use.day, use.until_ns = known.day, (last_day + 1) * DAY_NS
            use.few = int(max(BREADTH_MIN, BREADTH_RATIO * known.breadth))
        return found

    def _places(self, moved: Moved, name: str, known: Known, host: str, fresh: bool) -> Iterator[Finding]:
        """What an account says that comes from where it is not declared to."""
        if moved.hop is not None and self._index.relay(moved.client) is not None:
            # Who comes through a declared pool is seen, as himself, on its other leg.
            return
        others = [one for one, at in known.hosts.items() if one != host and moved.start_ns - at <= TOGETHER_NS]
        if host not in known.hosts and not fresh and self._learnt(moved, known):
            usual = ", ".join(list(known.hosts)[-4:])
            yield self._changed(moved, name, "new-client", "who", f"{name} from {usual}", f"{name} from {moved.client.shown}")
        if others:
            yield self._changed(
                moved,
                name,
                "shared-account",
                "who",
                f"{name} in one place at a time",
                f"{', '.join(sorted((host, *others))[:4])} within 5 min",
            )

    def _tools(self, moved: Moved, name: str, known: Known, program: str) -> Iterator[Finding]:
        """What an account says that is used with what it is not declared for."""
        account = self._architecture.accounts.get(name)
        if account is not None and account.kind == "service" and _is_tool(program):
            yield self._changed(
                moved, name, "shared-account", "who", f"{name} is a service account", f"used with {program}, a person's tool"
            )
        elif program not in known.programs and known.programs and self._learnt(moved, known):
            usual = ", ".join(list(known.programs)[-4:])
            yield self._changed(moved, name, "new-client", "who", f"{name} with {usual}", f"{name} with {program}")

    def _breadth(self, moved: Moved, use: _Use, known: Known) -> Sequence[Finding]:
        day = moved.start_ns // DAY_NS
        if day > known.day:
            if known.day:
                known.days += 1
                known.breadth += (len(known.objects) - known.breadth) / min(known.days, 14)
            known.day, known.objects, known.broad = day, {}, False
        if use.noted is not known.objects:
            for part in moved.flow.objects:
                for one in part.names:
                    if len(known.objects) < OBJECTS_MAX:
                        known.objects[digest(one)] = None
            use.noted = known.objects
        name, reached = use.name, len(known.objects)
        if known.broad or reached < BREADTH_MIN or not self._learnt(moved, known) or reached <= BREADTH_RATIO * known.breadth:
            return ()
        peers = sorted(
            other.breadth for key, other in self.known.items() if other.days and key.split("|")[0] == _key(moved, name).split("|")[0]
        )
        if peers and reached <= BREADTH_RATIO * peers[len(peers) // 2]:
            return ()
        known.broad = True
        usual, today = f"about {known.breadth:.0f} objects a day", f"{reached} objects today"
        return (self._changed(moved, name, "broad-account", "what", usual, today),)

    def _changed(self, moved: Moved, name: str, verdict: str, question: str, declared: str, seen: str) -> Finding:
        severity: Severity = "high" if verdict == "shared-account" else "medium"
        return self._cases.say(
            verdict, severity, plant=moved.flow.plant, who=name,
            source=moved.source.shown, destination=moved.destination.shown, first_ns=moved.start_ns, last_ns=moved.end_ns,
            differences=[(question, declared, seen)], moved=moved, hop=moved.hop,
        )  # fmt: skip

    def _learnt(self, moved: Moved, known: Known) -> bool:
        return bool(known.first_ns) and moved.start_ns - known.first_ns >= LEARNING_NS

    def _is_from(self, name: str, client: End) -> bool:
        # Whom nothing tells from others comes from where they come from.
        anyone = None if client.name or client.claimed else self._index.anyone(client.address)
        if anyone is None:
            return self._from((name, client))
        known = self._anyone_from.get((name, anyone))
        if known is None:
            if len(self._anyone_from) >= CACHE_ENTRIES_MAX:
                self._anyone_from.clear()
            known = self._anyone_from[name, anyone] = self._comes_from(name, client)
        return known

    def _comes_from(self, name: str, client: End) -> bool:
        account = self._architecture.accounts.get(name)
        return account is not None and self._index.comes_from(account, client)

    def _goes_with(self, name: str, application: str | None) -> bool:
        account = self._architecture.accounts.get(name)
        return account is not None and any(glob(pattern)(application or "") for pattern in account.applications)


def _key(moved: Moved, name: str) -> str:
    return f"{moved.server.asset or moved.server.address}|{name}"


@lru_cache(maxsize=4_096)
def _program(application: str | None) -> str | None:
    """A program without its version: an upgrade of the same one is no other program."""
    if application is None:
        return None
    return application.split("/")[0].split(" ")[0].lower()[:64] or None


# Every window of an account with several hosts asks, of the few programs that a plant has.
@lru_cache(maxsize=4_096)
def _is_tool(program: str) -> bool:
    return any(glob(pattern)(program) for pattern in TOOLS)


def _touch(ways: dict[str, int], way: str, at_ns: int) -> None:
    if len(ways) > 1 or way not in ways:
        ways.pop(way, None)
    ways[way] = at_ns
    if len(ways) > WAYS_MAX:
        del ways[next(iter(ways))]


def _read(said: dict[str, Any]) -> Known:  # Any: JSON values
    return Known(**said)
