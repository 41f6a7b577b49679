"""The verdict: is this window declared, and if not, what differs?

Asks: of every window, which account moved which data from where to where, how much, when and how protected, against the
declared hops. Sees: flow windows of every agent; each gets exactly one verdict, the first row of the table that applies.

Blind to: what no agent sees; the content of encrypted connections without a feed (then *what* is assumed or unknown, never
checked); movement that keeps inside a hop's account, hosts, objects, amount and hours.
Raised wrongly by: a declaration behind reality (a new host, a renamed table), clocks that are wrong by more than a schedule's
slack, names whose DNS answer was not seen.
What to do: ask the owner of the account, compare with the nearest hop; if the movement is wanted, draft a hop and have it approved;
if not, block it at the conduit.

The detector has no clock: time is that of the packets, and everything is judged at the window's start.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from datetime import date
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import replace

from detectors.amounts import AMOUNTS, DOWN, UP, new_amounts, portion, portion_of
from detectors.budget import Budgets
from detectors.changes import put, tail
from detectors.clock import Clocks
from detectors.compare import (
    ACCOUNT_SEVERITY,
    ATTEMPT,
    Seen,
    compare,
    counted_as,
    covers,
    day_of,
    feed_of,
    instant,
    overdue,
    under_ticket,
)
from detectors.course import Course, said
from detectors.failover import Failovers
from detectors.findings import Findings
from detectors.judgement import QUIET, ROW, Judgement, Opinion, Outcome, Spent, severities_of
from detectors.kept import (
    NEW,
    NO_SETS,
    TOGETHER,
    Allowance,
    Due,
    Judgements,
    Kept,
    Likeness,
    dues,
    likeness,
    narrow,
    nearness,
)
from detectors.limits import Limits, Loosening
from detectors.logins import Logins
from detectors.losses import Losses
from detectors.nearest import nearest
from detectors.offsite import OffsiteList, shipped
from detectors.services import Services
from detectors.units import MINUTE_NS, SECOND_NS
from detectors.views import LEG_UNITS, Repeats, Run, Views
from detectors.window import seen_as
from hopwatch.declared.match import Classified, End, Index, Met
from hopwatch.declared.model import Architecture, Hop
from hopwatch.events import SEVERITIES, Declaration, Difference, Event, Finding, Flow, Heartbeat, Loss, ObjectSet, time_ns

TOGETHER_SETS_MIN: Final = 3
"""Sets of a window from which it pays to ask first whether they can be judged as one."""

FEED_QUIET_NS: Final = 120 * SECOND_NS
"""A feed lives for this long after its last event or heartbeat."""

AGENTS_MAX: Final = 4_096
"""Agents and feeds whose last sign of life is remembered."""

_ATTEMPT_SEVERITY_MAX: Final = "medium"

_NOTHING: Final = dict.fromkeys(AMOUNTS, 0)


class Table(Protocol):
    """Something remembered up to a bound."""

    @property
    def forgotten_total(self) -> int: ...

    def __len__(self) -> int: ...


class Changing(Protocol):
    """Something remembered that says what of it has changed; Any: JSON values."""

    def changes(self) -> Any: ...
    def merge(self, changes: Any) -> None: ...


class Weighed(NamedTuple):
    """What the joined hops say of one set, by their place; which says the mildest; and what each would be charged."""

    opinions: list[Opinion]
    rows: list[int]
    place: int
    allowances: list[list[Allowance]]

    @property
    def best(self) -> Opinion:
        """The mildest."""
        return self.opinions[self.place]


class VerdictDetector:
    """Judges every window against one declaration.

    ``at`` states the day for expiries, so that an old capture is not judged by what has ended since.
    ``edition`` names everything but the windows that a judgement depends on: a state of another edition keeps what was spent and
    seen, and its windows are judged anew, at no charge, when they are read again.
    ``keeps``: a judgement is given again to windows like the one it was made of; without it the same is said, and it takes longer.
    Counters (``counted``) say how many windows got each verdict.
    """

    name = "verdict"

    def __init__(
        self,
        architecture: Architecture,
        *,
        at: date | None = None,
        offsite: OffsiteList | None = None,
        edition: str = "",
        keeps: bool = True,
        clocks: Clocks | None = None,
    ) -> None:
        self.architecture = architecture
        self._plant = architecture.plant
        self.index = Index(architecture)
        self.counted: dict[str, int] = {}
        self._spent: list[Spent] = []
        """The limits that the window under way was charged to."""
        self._at = at
        self._second, self._today = 0, self._day(0)
        """Window after window is of the second of the one before."""
        self._covered: dict[int, bool] = {}
        """Whether a schedule of the declaration, by its place in memory, covers that second."""
        # What peers spend of caps is kept apart: however many they are, they push no hop's budget out.
        self._budgets = Budgets(architecture.timezone)
        self._caps = Budgets(architecture.timezone)
        self._limits = Limits(architecture, self.index)
        self._services = Services(architecture, self.index, self._caps)
        self._views = Views()
        self._legs = Views(LEG_UNITS)
        self._logins = Logins()
        self._edition = edition
        self._clocks = clocks or Clocks()
        self._repeats = Repeats()
        self._earlier = Repeats()
        self._judges_again = False
        """Whether another edition has judged some of what may come."""
        self._failovers = Failovers(architecture)
        self._keeps = keeps
        self._kept = Judgements()
        self._review_said = False
        said = architecture.declaration
        quoted = Declaration(plant=said.plant, version=said.version, commit=said.commit, signed=said.signed)
        self.quoted = quoted
        self._findings = Findings(quoted, offsite or shipped(), severities_of(architecture))
        self._declaration = quoted.model_dump() | {"edition": edition}
        self._alive: OrderedDict[str, int] = OrderedDict()
        self._heard_last: str | None = None
        """The agent heard of last, and when that was."""
        self._heard_ns = 0
        self._agents_forgotten = 0
        self._agents_touched: set[str] | None = None
        self._losses = Losses()

    # The detector's contract

    def observe(self, event: Event) -> list[Judgement]:
        """The judgement of a flow; a repeated window, another plant's or anything but a flow has none."""
        if isinstance(event, Flow):
            judgement = self.judge(event)
            return [] if judgement is None else [judgement]
        if isinstance(event, Heartbeat):
            self._lives(event.agent, self._clocks.right(event.agent, time_ns(event.time)))
        elif isinstance(event, Loss):
            self.blind(event)
        return []

    def judge(self, flow: Flow) -> Judgement | None:
        """The judgement of a window; None of a repeated one, and of another plant's."""
        if flow.plant != self._plant:
            return None
        run = self._repeats.first(flow)
        return None if run is None else self._judge(flow, run)

    def advance(self, now_ns: int) -> list[Judgement]:
        """Nothing here waits for time to pass: budgets slide by the time of the windows themselves."""
        return []

    def blind(self, loss: Loss) -> None:
        """Remember what was not seen: no amount of a window it covers counts as known."""
        if loss.plant == self.architecture.plant:
            self._losses.add(loss)

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Everything remembered, as JSON values."""
        return {
            "budgets": self._budgets.state(),
            "caps": self._caps.state(),
            "views": self._views.state(),
            "legs": self._legs.state(),
            "logins": self._logins.state(),
            "edition": self._edition,
            "repeats": self._repeats.state(),
            "earlier": self._earlier.state(),
            "failovers": self._failovers.state(),
            "review_said": self._review_said,
            "findings": self._findings.state(),
            "alive": list(self._alive.items()),
            "losses": self._losses.state(),
            "counted": dict(self.counted),
        }

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Go on where ``state`` was taken, by this detector or by one that asked questions besides."""
        state = state.get(self.name, state)
        self._budgets.restore(state["budgets"])
        self._caps.restore(state["caps"])
        self._views.restore(state["views"])
        self._legs.restore(state["legs"])
        self._logins.restore(state.get("logins", []))
        self._earlier.restore(state["earlier"])
        if state["edition"] == self._edition:
            self._repeats.restore(state["repeats"])
            self._review_said = bool(state["review_said"])
            self._findings.restore(state["findings"])
        else:
            # Another declaration says other things of the same windows; what they have spent is spent all the same.
            before = Repeats()
            before.restore(state["repeats"])
            self._earlier.absorb(before)
        self._judges_again = len(self._earlier) > 0
        self._failovers.restore(state["failovers"])
        self._alive = OrderedDict((str(agent), int(at)) for agent, at in state["alive"])
        self._heard_last = None
        self._losses.restore(state["losses"])
        self.counted = dict(state["counted"])

    def changes(self) -> dict[str, Any]:  # Any: JSON values
        """What the last call has not said yet; the first call only begins to note it, and goes with a ``state`` of the same moment."""
        touched, self._agents_touched = self._agents_touched, set()
        made: dict[str, Any] = {name: table.changes() for name, table in self._changing().items()}
        made["alive"] = tail(self._alive, touched or ())
        made = {name: entries for name, entries in made.items() if entries}
        return made | {"edition": self._edition, "review_said": self._review_said, "counted": dict(self.counted)}

    def merge(self, changes: dict[str, Any]) -> None:  # Any: JSON values
        """Go on where ``changes`` was taken, from the moment of the ``changes`` or ``state`` before it.

        Raises:
            ValueError: the changes are those of another edition.
        """
        changes = changes.get(self.name, changes)
        if changes["edition"] != self._edition:
            raise ValueError("changes of another edition")
        for name, table in self._changing().items():
            if name in changes:
                table.merge(changes[name])
        for agent, at in changes.get("alive", ()):
            put(self._alive, str(agent), int(at), AGENTS_MAX)
        self._heard_last = None
        self._judges_again = len(self._earlier) > 0
        self._review_said = bool(changes["review_said"])
        self.counted = dict(changes["counted"])

    def sizes(self) -> dict[str, int]:
        """How much is remembered, table by table; each has its bound, and reaching it is counted in ``forgotten``."""
        tables = {name: len(table) for name, table in self._tables().items()}
        return tables | {"sessions": self._findings.sessions, "agents": len(self._alive)} | self.index.sizes()

    def forgotten(self) -> dict[str, int]:
        """What the bounds have pushed out since the start: of each table, and inside its entries."""
        tables = {name: table.forgotten_total for name, table in self._tables().items()}
        inside = {
            "views": self._views.refused_total + self._legs.refused_total,
            "window_runs": self._repeats.joined_total + self._earlier.joined_total,
            "slots": self._budgets.slots_forgotten_total + self._caps.slots_forgotten_total,
            "distinct_objects": self._budgets.objects_refused_total,
            "sessions": self._findings.sessions_forgotten_total,
            "login_accounts": self._logins.accounts_forgotten_total,
            "ambiguous_accounts": self._logins.ambiguous_total,
        }
        return tables | inside | {"agents": self._agents_forgotten} | self.index.forgotten()

    def _tables(self) -> dict[str, Table]:
        return {
            "connections": self._views,
            "legs": self._legs,
            "logins": self._logins.memory,
            "flows": self._repeats,
            "earlier_flows": self._earlier,
            "budgets": self._budgets,
            "caps": self._caps,
            "members": self._failovers,
            "findings": self._findings,
            "losses": self._losses,
            "judgements": self._kept,
        }

    def _changing(self) -> dict[str, Changing]:
        return {
            "budgets": self._budgets,
            "caps": self._caps,
            "views": self._views,
            "legs": self._legs,
            "logins": self._logins,
            "repeats": self._repeats,
            "earlier": self._earlier,
            "failovers": self._failovers,
            "findings": self._findings,
            "losses": self._losses,
        }

    # One window

    def _judge(self, flow: Flow, run: Run) -> Judgement:
        self._spent = []
        said_ns = flow.start_ns
        start_ns = self._clocks.right(flow.agent, said_ns) if self._clocks.ahead_ns else said_ns
        agent = flow.agent
        if agent != self._heard_last:
            self._lives(agent, start_ns)
        elif start_ns > self._heard_ns:
            # It stands last among the agents already.
            self._heard_ns = self._alive[agent] = start_ns
            if self._agents_touched is not None:
                self._agents_touched.add(agent)
        before = run.course
        if before is not None and (at_hand := before.connection).turn == self._views.memory.turn and before.key == flow.connection:
            connection = at_hand
        else:
            connection = self._views.of(flow.connection)
        if (
            flow.account != connection.account
            or flow.application != connection.application
            or flow.role != connection.role
            or flow.depth != connection.depth
        ):
            connection.learn(flow)
        if flow.operation == "connect":
            self._logins.learn(flow)
        if connection.account is None and len(self._logins) and (known := self._logins.whose(flow, start_ns)) is not None:
            connection.account, connection.application = known
        is_told = flow.account is not None or connection.account is None
        who = (flow.account, flow.application, flow.role) if is_told else (connection.account, connection.application, connection.role)
        # Who it is, where the window does not say it.
        whose = None if is_told else who
        complete = flow.completeness.state in ("complete", "encrypted") and not (self._losses.spans and self._losses.cover(flow, said_ns))
        again = self._judges_again and self._earlier.has(flow)
        if start_ns // SECOND_NS != self._second:
            self._second, self._today = start_ns // SECOND_NS, self._day(start_ns)
            self._covered.clear()
        day = self._today
        looks = self._keeps and not again
        kept: Kept | None = None
        like: Likeness | None = None
        near: Likeness | None = None
        if before is not None:
            kept = before.kept
            says = said(flow, who, whose, complete, day, in_order=kept.narrow is not None) if looks else None
            if says is not None and before.said == says and self._holds(kept, flow, start_ns):
                # What is the very same is found so at a glance, the next time.
                before.said = says
            else:
                kept = before = None
        if kept is None and looks and (mark := flow.mark) is not None:
            near = nearness(self.index, flow, mark, whose, complete, day)
            kept = self._kept.like(near, flow)
            if kept is not None and not self._holds(kept, flow, start_ns):
                kept = None
        if flow.final and run.course is not None:
            run.course = None
        if kept is None and looks:
            like = likeness(self.index, flow, who, complete, day)
            kept = None if like is None else self._kept.like(like, flow)
            if kept is not None and not self._holds(kept, flow, start_ns):
                kept = None
            if kept is not None and near is not None:
                self._kept.keep(near, kept)
        new = net = _NOTHING
        if not again:
            new, net = new_amounts(self._views, flow, connection, complete=complete, start_ns=start_ns, righted_ns=start_ns - said_ns)
        if kept is not None and (
            self._affords(kept, flow, new, start_ns) if kept.dues is None else self._pays(kept.dues, flow, new, start_ns)
        ):
            self._kept.given_total += 1
            # Most flows say one window, or two: there may be a hundred thousand, and what the last of them says is compared with none.
            if before is None and flow.sequence > 0 and not flow.final:
                says = said(flow, who, whose, complete, day, in_order=kept.narrow is not None)
                if says is not None:
                    before = run.course = Course(says, kept, flow.connection, connection)
            outcome = kept.outcome
            if kept.quiet and (day <= self.architecture.review_by or self._review_said):
                self.counted[outcome.verdict] = self.counted.get(outcome.verdict, 0) + 1
                spent = tuple(self._spent)
                return Judgement(flow, outcome, None, (), new, kept.up, complete, spent, start_ns, start_ns - said_ns, True, net, before)
            return self._said(
                flow, start_ns, start_ns - said_ns, day, kept.opinion, outcome, kept.members, new, net, kept.up, complete, True, before
            )
        seen = seen_as(self.index, flow, start_ns, day, who, complete=complete, again=again)
        service, opinion, joined = self._opinion(seen, new)
        outcome = self._outcome(seen, opinion, service, joined)
        members = (seen.server, seen.client) if joined and not (seen.control or flow.operation == ATTEMPT) else ()
        if kept is not None and like is None:
            like = likeness(self.index, flow, who, complete, day)
        keeps = like is not None and seen.asked.keepable
        if like is not None and keeps:
            self._keep(like, seen, opinion, outcome, tuple(filter(self._failovers.has_members, members)))
        up = seen.source is seen.client
        return self._said(flow, start_ns, start_ns - said_ns, day, opinion, outcome, members, new, net, up, complete, keeps)

    def _opinion(self, seen: Seen, new: dict[str, int]) -> tuple[str | None, Opinion, list[str]]:
        """The service that the window belongs to, what is said of it, and the hops that join it."""
        quiet = self._services.service(seen)
        if quiet is not None:
            return *quiet, []
        joined = self.index.joined(seen.server, seen.client)
        opinion = self._ticket(seen, new) or (self._by_hops(seen, joined, new) if joined else self._by_none(seen, new))
        self._decoys(seen, opinion)
        return None, opinion, joined

    def _outcome(self, seen: Seen, opinion: Opinion, service: str | None, joined: Collection[str]) -> Outcome:
        verdict = "service" if service is not None and not opinion.differing else opinion.verdict
        severity = None if verdict == "service" else opinion.severity
        if seen.flow.operation == ATTEMPT and severity is not None and verdict != "decoy":
            severity = min(severity, _ATTEMPT_SEVERITY_MAX, key=SEVERITIES.index)
        hop = opinion.hop if opinion.hop in joined else None
        return Outcome(
            verdict=verdict,
            severity=severity,
            hop=hop,
            nearest_hop=opinion.hop,
            checked=dict(opinion.checked),
            differences=_differences(opinion),
            classes=tuple(sorted(opinion.classes)),
            service=service,
            who=seen.declared_account or seen.account,
            client=self._client(seen.client, hop),
            source=seen.source,
            destination=seen.destination,
            declaration=self._declaration,
            highest=self.index.highest(opinion.classes),
            ratio=opinion.ratio,
        )

    def _said(
        self,
        flow: Flow,
        start_ns: int,
        righted_ns: int,
        day: date,
        opinion: Opinion | None,
        outcome: Outcome,
        members: Sequence[End],
        new: dict[str, int],
        net: dict[str, int],
        up: bool,
        complete: bool,
        kept: bool,
        course: Course | None = None,
    ) -> Judgement:
        """The judgement, with what of it is not the same for the next window like this one."""
        notices = [] if self._review_said else self._overdue_review(flow, day)
        for end in members:
            left, beside = self._failovers.serves(end, start_ns)
            if beside is not None:
                assert opinion is not None, "it is kept where there are members"
                opinion = opinion.copy()
                opinion.differ(
                    "undeclared-hop", "high", "where", f"one active member of {end.shown}", f"{end.address} and {beside} in one minute"
                )
                outcome = replace(outcome, verdict=opinion.verdict, severity=opinion.severity, differences=_differences(opinion))
                kept, course = False, None
            if left is not None:
                said = Difference(question="where", declared=f"{end.shown} at {left}", observed=f"{end.shown} at {end.address}")
                notices.append(self._findings.notice(flow, "failover", "info", None, end.shown, f"{left}|{end.address}|{start_ns}", said))
        verdict = outcome.verdict
        self.counted[verdict] = self.counted.get(verdict, 0) + 1
        finding = None if verdict in QUIET else self._findings.update(flow, outcome, net)
        spent = tuple(self._spent)
        return Judgement(flow, outcome, finding, tuple(notices), new, up, complete, spent, start_ns, righted_ns, kept, net, course)

    # What was said before

    def _keep(self, like: Likeness, seen: Seen, opinion: Opinion, outcome: Outcome, members: tuple[End, ...]) -> None:
        asked = seen.asked
        # A finding names the host, and so do differences, whether or not they are one.
        exactly = asked.personal or bool(members or opinion.differing) or outcome.verdict not in QUIET
        exactly = exactly or (len(seen.flow.objects) > 1 and not asked.together)
        kept = Kept(
            opinion=opinion if members else None,
            outcome=outcome,
            narrow=narrow(seen.flow) if exactly else None,
            up=seen.source is seen.client,
            members=members,
            schedules=tuple(dict(asked.schedules).items()),
            feeds=tuple(dict(asked.feeds).items()),
            minute=seen.start_ns // MINUTE_NS if asked.minute else None,
            steps=tuple(asked.steps),
            counts=tuple(dict.fromkeys(one.counts for step in asked.steps for one in (*step.asked, *step.charged))),
            dues=dues(asked.steps),
            quiet=not members and outcome.verdict in QUIET,
        )
        self._kept.keep(like, kept)

    def _holds(self, kept: Kept, flow: Flow, start_ns: int) -> bool:
        """Whether what was asked of the time and of feeds has the answers that it had."""
        if kept.minute is not None and kept.minute != start_ns // MINUTE_NS:
            return False
        for schedule, answer in kept.schedules:
            covered = self._covered.get(id(schedule))
            if covered is None:
                covered = self._covered[id(schedule)] = covers(schedule, instant(start_ns), self.architecture.timezone)
            if covered != answer:
                return False
        for feed, answer in kept.feeds:
            # As ``_lived`` says it.
            last_ns = self._alive.get(feed)
            if (last_ns is not None and abs(start_ns - last_ns) <= FEED_QUIET_NS) != answer:
                return False
        return True

    def _affords(self, kept: Kept, flow: Flow, new: dict[str, int], start_ns: int) -> bool:
        """Charge what was charged then, if every limit that was asked for is wide enough for this window too."""
        due: list[tuple[Allowance, int]] = []
        pending: dict[str, int] = {}
        left = dict(new)
        for part, asked, charged in kept.steps:
            shares = {counts: portion_of(flow, part, counts, new, left) for counts in kept.counts}
            for one in asked:
                amount = shares[one.counts] + pending.get(one.key, 0)
                if self._of(one).would_use(one.key, one.limit, start_ns, amount, one.objects) > one.limit.amount:
                    return False
            for counts, share in shares.items():
                left[counts] = left.get(counts, 0) - share
            for one in charged:
                pending[one.key] = pending.get(one.key, 0) + shares[one.counts]
            due += [(one, shares[one.counts]) for one in charged]
        for one, amount in due:
            self._spend(one, start_ns, amount)
        return True

    def _pays(self, dues: tuple[Due, ...], flow: Flow, new: dict[str, int], start_ns: int) -> bool:
        """The same where each limit is asked for once."""
        due = []
        for claim, most, part, counts, name, charged, cap in dues:
            budgets = self._caps if cap else self._budgets
            amount = portion_of(flow, part, counts, new, new)
            if budgets.used(claim, start_ns) + amount > most:
                return False
            if charged:
                due.append((budgets, claim, name, amount))
        for budgets, claim, name, amount in due:
            # What Spent(...) does, without a call of Python.
            self._spent.append(tuple.__new__(Spent, (claim.key, claim.limit, name, budgets.pay(claim, amount))))
        return True

    def _spend(self, one: Allowance, start_ns: int, amount: int) -> None:
        used = self._of(one).charge(one.key, one.limit, start_ns, amount, one.objects)
        self._spent.append(Spent(one.key, one.limit, one.name, used))

    def _client(self, client: End, hop: str | None) -> str:
        """Who dialled, as a finding names it: ``mw (10.30.0.20)``, or the relay that hides it."""
        asset = client.host or client.asset
        shown = client.address if asset is None else f"{asset} ({client.address})"
        joined = None if hop is None else self.architecture.hops[hop]
        is_end = joined is not None and (asset in joined.from_ or asset in joined.to)
        return f"client hidden by {shown}" if self.index.relay(client) is not None and not is_end else shown

    def _day(self, start_ns: int) -> date:
        """The day that decides what has ended: the plant's, or the one stated for an old capture."""
        return self._at or day_of(start_ns // 10**9, self.architecture.timezone)

    # Rows of the table, top to bottom

    def _decoys(self, seen: Seen, opinion: Opinion) -> None:
        for part, met in zip(seen.flow.objects, seen.met, strict=True):
            if met.decoy:
                opinion.differ("decoy", "critical", "what", "a decoy: nobody touches it", ", ".join(part.names[:8]))

    def _overdue_review(self, flow: Flow, day: date) -> list[Finding]:
        """The one finding about the declaration itself, on the first window after ``review_by``."""
        plant = self.architecture
        if self._review_said or day <= plant.review_by:
            return []
        self._review_said = True
        said = Difference(question="when", declared=f"review_by {plant.review_by}", observed=str(day))
        what = f"declaration {plant.plant} v{plant.version}"
        return [self._findings.notice(flow, "expired", overdue(day, plant.review_by), plant.owner, what, "", said)]

    def _ticket(self, seen: Seen, new: dict[str, int]) -> Opinion | None:
        """What a ``needs: ticket`` account may do under an exception; None if no exception covers the window.

        No hop limits it, so the account's own limits are all there is.
        """
        name = seen.declared_account
        if name is None or self.architecture.accounts[name].needs is None:
            return None
        account = self.architecture.accounts[name]
        for _, planned in self.index.exceptions_of_account(name):
            if planned.asset not in (seen.server.asset, seen.server.host):
                continue
            if not seen.within(planned.when, self.architecture.timezone) or not self.index.comes_from(account, seen.client):
                continue
            bound = self._bound_by_own(seen, name, new)
            opinion = under_ticket(self.index, seen, name, planned, bound, lambda one: self._used_with(seen, one))
            for one in bound:
                self._spend(one, seen.start_ns, one.amount)
            return opinion
        return None

    def _bound_by_own(self, seen: Seen, name: str, new: dict[str, int]) -> list[Allowance]:
        """The account's own limits, each with what the window as a whole counts towards it."""
        if seen.control or seen.flow.operation == ATTEMPT or not (name in self._limits.of_object or name in self._limits.of_session):
            return []
        # What of it is whose is worked out each time.
        seen.asked.anew = True
        found: dict[str, Allowance] = {}
        left = dict(new)
        for part, met in seen.sets:
            share = dict(new) if seen.again else portion(part, left)
            if met.metadata:
                continue
            for keyed, title, of_session in self._limits.own(seen, name, part, met, ()):
                for key, limit in keyed:
                    counts = counted_as(limit.unit, unread=part is None, forward=True)
                    before = found[key].amount if key in found else 0
                    found[key] = Allowance(key, limit, before + share.get(counts, 0), counts, name=title, cap=of_session)
        return list(found.values())

    def _by_none(self, seen: Seen, new: dict[str, int]) -> Opinion:
        """No hop joins: the destination or the hop is undeclared, and the nearest hop says what else differs."""
        classes = {name for met in seen.met for name in met.classes}
        part, met = seen.sets[0]

        def opine(name: str) -> Opinion:
            loosening = self._limits.loosening(name, seen)
            bound = self._limits.allowances(seen, name, part, new, met, classes, loosening)
            return self._compare(seen, name, part, met, bound, loosening)

        opinion = nearest(self.index, seen, classes, opine) or Opinion(None)
        seen.asked.step(NEW)
        opinion.classes = classes
        # What is known of a hop that does not join says nothing about this flow beyond what differs.
        if seen.unread:
            opinion.answer("what", "unknown")
        if seen.account is None:
            opinion.answer("who", "unknown")
        receiving = [seen.source, seen.destination] if seen.unread else [seen.destination]
        outside = [end for end in receiving if self.index.is_off_site(end.zone)]
        declared = "no hop between these ends"
        if opinion.hop is not None:
            hop = self.architecture.hops[opinion.hop]
            declared = f"{', '.join(hop.from_)} -> {', '.join(hop.to)}"
        observed = f"{_place(seen.source)} -> {_place(seen.destination)}"
        if outside:
            opinion.differ("undeclared-destination", "critical", "where", declared, observed)
        else:
            severity = self.architecture.unlisted
            opinion.differ("undeclared-hop", severity, "where", declared, observed)
        if seen.account is not None and seen.declared_account is None:
            opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", "accounts of the file", f"{seen.account} is not in the file")
        return opinion

    def _by_hops(self, seen: Seen, joined: Sequence[str], new: dict[str, int]) -> Opinion:
        """Each set goes to the joined hop that gives it the mildest row, which alone is charged; the window takes the worst set's."""
        loosenings = [self._limits.loosening(name, seen) for name in joined]
        together = self._together(seen, joined)
        if together is not None:
            share = dict(new) if seen.again else portion(together[0], dict(new))
            weighed = self._weigh(seen, joined, loosenings, *together, share)
            # Some of the sets could be approved by a hop that stands before the one which approves all.
            if not weighed.best.differing and (len(joined) == 1 or (weighed.place == 0 and weighed.best.verdict == "declared")):
                seen.asked.step(TOGETHER, self._charge(seen, weighed))
                seen.asked.together = True
                return weighed.best
            # Whether a limit was too narrow for all of them says nothing about each; being refused together follows from the rest.
            seen.asked.limits.clear()
        chosen: list[Opinion] = []
        left = dict(new)
        for place, (part, met) in enumerate(seen.sets):
            share = dict(new) if seen.again else portion(part, left)
            weighed = self._weigh(seen, joined, loosenings, part, met, share)
            seen.asked.step(NEW if part is None else place if seen.flow.objects else NO_SETS, self._charge(seen, weighed))
            chosen.append(weighed.best)
        return _merged(chosen)

    def _together(self, seen: Seen, joined: Sequence[str]) -> tuple[ObjectSet, Met] | None:
        """The many topics or nodes of a window as one set, where nothing but names and amounts tells them apart."""
        if len(seen.sets) < TOGETHER_SETS_MIN or seen.flow.operation == "admin":
            return None
        hops = [self.architecture.hops[name] for name in joined]
        # A hop without some columns looks at each set's; over a relay each set is counted on its leg.
        if any(hop.without or self.index.relay_between(hop, seen.server, seen.client) for hop in hops):
            return None
        first = seen.sets[0][1]
        names: list[str] = []
        found: dict[str, Classified] = {}
        sums = ObjectSet(names=[])
        for part, met in seen.sets:
            if part is None or not part.names or met.metadata or met.unclassified or met.decoy:
                return None
            if met.unknown != first.unknown or met.classes != first.classes or min(part.rows, part.values, part.messages) < 0:
                return None
            names.extend(part.names)
            found.update(met.found)
            sums.rows += part.rows
            sums.values += part.values
            sums.messages += part.messages
            sums.bytes += part.bytes
        if any(name.startswith("account:") for name in names):
            return None
        account = seen.declared_account
        if account in self._limits.of_object and len({entry for one in found.values() for entry in one.entries}) > 1:
            # Each thing has a limit of its own, and together nobody knows how much is whose.
            return None
        sums.names = names
        return sums, Met(found, first.classes, unknown=first.unknown)

    def _weigh(
        self,
        seen: Seen,
        joined: Sequence[str],
        loosenings: Sequence[Loosening | None],
        part: ObjectSet | None,
        met: Met,
        share: dict[str, int],
    ) -> Weighed:
        """What every joined hop says of a set, and which says the mildest; nothing is charged."""
        metadata = self._limits.metadata(seen, share) if met.metadata else []
        bound: list[list[Allowance]] = []
        opinions: list[Opinion] = []
        for name, loosening in zip(joined, loosenings, strict=True):
            bound.append(self._limits.allowances(seen, name, part, self._once_over_legs(seen, name, share), met, met.classes, loosening))
            opinions.append(self._compare(seen, name, part, met, bound[-1], loosening, metadata))
        rows = [ROW[one.verdict] for one in opinions]
        return Weighed(opinions, rows, rows.index(max(rows)), [metadata] * len(bound) if met.metadata else bound)

    def _charge(self, seen: Seen, weighed: Weighed) -> list[Allowance]:
        """Charge the mildest hop, and of an unread window each that says the same; returns what was charged."""
        if seen.control or seen.flow.operation == ATTEMPT:
            return []
        charged = [weighed.place]
        if seen.unread:
            charged = [place for place, row in enumerate(weighed.rows) if row == weighed.rows[weighed.place]]
        done: dict[str, Allowance] = {}
        for place in charged:
            for one in weighed.allowances[place]:
                if done.setdefault(one.key, one) is one:
                    self._spend(one, seen.start_ns, one.amount)
        return list(done.values())

    # Amounts

    def _compare(
        self,
        seen: Seen,
        name: str,
        part: ObjectSet | None,
        met: Met,
        allowances: Sequence[Allowance],
        loosening: Loosening | None,
        metadata: Sequence[Allowance] = (),
    ) -> Opinion:
        return compare(
            self.index,
            seen,
            name,
            part,
            allowances,
            lambda one: self._used_with(seen, one),
            feed_lives=self._feed_lives(self.architecture.hops[name], seen),
            loosened=loosening is not None,
            met=met,
            metadata_allowances=metadata,
        )

    def _used_with(self, seen: Seen, one: Allowance) -> int:
        """What the limit would have counted with the amount; a judgement that finds it too narrow is of this window alone."""
        used = self._of(one).would_use(one.key, one.limit, seen.start_ns, one.amount, one.objects)
        seen.asked.limits.append(one)
        seen.asked.anew = seen.asked.anew or used > one.limit.amount
        return used

    def _of(self, allowance: Allowance) -> Budgets:
        return self._caps if allowance.cap else self._budgets

    def _once_over_legs(self, seen: Seen, name: str, share: dict[str, int]) -> dict[str, int]:
        """Of what crosses a relay both legs see every byte; only what the larger one adds is charged to the hop."""
        leg = self.index.relay_between(self.architecture.hops[name], seen.server, seen.client)
        if leg is None:
            return share
        # The leg counts what it adds each time it is asked.
        seen.asked.anew = True
        keys = UP if seen.source is seen.client else DOWN
        new = self._legs.added(f"{name}|{seen.day.toordinal()}", leg, {key: share[unit] for key, unit in zip(keys, AMOUNTS, strict=True)})
        return {unit: new[key] for key, unit in zip(keys, AMOUNTS, strict=True)}

    # What is known about agents

    def _lives(self, agent: str, at_ns: int) -> None:
        known_ns = self._alive.get(agent)
        self._heard_last = agent
        self._heard_ns = at_ns if known_ns is None else max(at_ns, known_ns)
        if self._agents_touched is not None:
            self._agents_touched.add(agent)
        self._alive[agent] = self._heard_ns
        self._alive.move_to_end(agent)
        if len(self._alive) > AGENTS_MAX:
            self._alive.popitem(last=False)
            self._agents_forgotten += 1

    def _feed_lives(self, hop: Hop, seen: Seen) -> bool:
        """Whether a feed that reads what this view cannot is there to say it, in a view of its own."""
        feed = feed_of(self.index, hop)
        if feed is None or feed == seen.flow.agent:
            return False
        answer = self._lived(feed, seen.start_ns)
        seen.asked.feeds.append((feed, answer))
        return answer

    def _lived(self, agent: str, at_ns: int) -> bool:
        last_ns = self._alive.get(agent)
        return last_ns is not None and abs(at_ns - last_ns) <= FEED_QUIET_NS


def _merged(opinions: Sequence[Opinion]) -> Opinion:
    """The window's opinion: the worst set's hop, everything that differs, the weakest answer to each question."""
    if len(opinions) == 1:
        return opinions[0]
    worst = min(opinions, key=lambda one: ROW[one.verdict])
    merged = Opinion(worst.hop)
    for one in opinions:
        for question, answer in one.checked.items():
            merged.answer(question, answer)
        merged.classes.update(one.classes)
    for one in [worst, *(other for other in opinions if other is not worst)]:
        for differing in one.differing:
            merged.differ(differing.verdict, differing.severity, differing.question, differing.declared, differing.observed)
    return merged


def _differences(opinion: Opinion) -> tuple[Difference, ...]:
    """Everything that differs, the worst first."""
    return tuple(one.said for one in sorted(opinion.differing, key=lambda each: ROW[each.verdict]))


def _place(end: End) -> str:
    """An end with its zone, and a name nobody confirmed."""
    zone = end.zone or "no declared zone"
    claimed = f", name unconfirmed: {end.claimed}" if end.claimed is not None else ""
    return f"{end.shown} ({zone}{claimed})"
