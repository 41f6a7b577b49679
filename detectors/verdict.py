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
from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final

from detectors.budget import Budgets
from detectors.compare import (
    ACCOUNT_SEVERITY,
    ATTEMPT,
    CONTROL,
    UNREAD,
    Allowance,
    Seen,
    amount_of,
    classes_of,
    compare,
    covers,
    day_of,
    feed_of,
    instant,
    overdue,
)
from detectors.failover import Failovers
from detectors.findings import Findings
from detectors.judgement import QUIET, ROW, Judgement, Opinion, raised
from detectors.nearest import nearest
from detectors.offsite import OffsiteList, shipped
from detectors.views import Repeats, Views
from hopwatch.declared.match import End, Index, budget_covers_zone
from hopwatch.declared.model import Architecture, Hop
from hopwatch.declared.quantity import Limit, Unit
from hopwatch.events import SEVERITIES, Declaration, Difference, Event, Finding, Flow, Heartbeat, Loss, ObjectSet, time_ns

FEED_QUIET_S: Final = 120
"""A feed lives for this long after its last event or heartbeat."""

AGENTS_MAX: Final = 4_096
"""Agents and feeds whose last sign of life is remembered."""

LOSSES_MAX: Final = 4_096
"""Losses remembered; amounts in the intervals they cover are unknown."""

METADATA_LIMITS: Final = tuple(Limit(10_000, unit, Limit.parse("1 rows / 1h").period) for unit in (Unit.ROWS, Unit.VALUES, Unit.MESSAGES))
"""What a declared account may read of catalogues in an hour, whatever its hops say."""

DISCOVERY_LIMIT: Final = Limit.parse("1 MiB / 1d")
"""What a pair may exchange by ICMP, link-local, broadcast and multicast before it is judged as any flow."""

_ATTEMPT_SEVERITY_MAX: Final = "medium"
_ICMP: Final = frozenset({"icmp", "icmp6", "icmpv6", "ipv6-icmp"})
_BROADCAST: Final = "255.255.255.255"


class VerdictDetector:
    """Judges every window against one declaration.

    ``at`` states the day for expiries, so that an old capture is not judged by what has ended since.
    ``edition`` names everything but the windows that a judgement depends on: a state of another edition keeps what was spent and
    seen, and its windows are judged anew, at no charge, when they are read again.
    Counters (``counted``) say how many windows got each verdict.
    """

    name = "verdict"

    def __init__(
        self, architecture: Architecture, *, at: date | None = None, offsite: OffsiteList | None = None, edition: str = ""
    ) -> None:
        self.architecture = architecture
        self.index = Index(architecture)
        self.counted: dict[str, int] = {}
        self._at = at
        self._budgets = Budgets(architecture.timezone)
        self._views = Views()
        self._legs = Views()
        self._edition = edition
        self._repeats = Repeats()
        self._earlier = Repeats()
        self._failovers = Failovers(architecture)
        self._review_said = False
        said = architecture.declaration
        self._findings = Findings(
            Declaration(plant=said.plant, version=said.version, commit=said.commit, signed=said.signed), offsite or shipped()
        )
        self._alive: OrderedDict[str, int] = OrderedDict()
        self._losses: OrderedDict[str, tuple[str, int, int, tuple[str, ...], bool]] = OrderedDict()

    # The detector's contract

    def observe(self, event: Event) -> list[Judgement]:
        """The judgement of a flow; a repeated window, another plant's or anything but a flow has none."""
        if isinstance(event, Heartbeat):
            self._lives(event.agent, time_ns(event.time))
        elif isinstance(event, Loss):
            self.blind(event)
        elif isinstance(event, Flow) and event.plant == self.architecture.plant and self._repeats.first(event):
            return [self._judge(event)]
        return []

    def advance(self, now_ns: int) -> list[Judgement]:
        """Nothing here waits for time to pass: budgets slide by the time of the windows themselves."""
        return []

    def blind(self, loss: Loss) -> None:
        """Remember what was not seen: no amount of a window it covers counts as known."""
        if loss.plant != self.architecture.plant:
            return
        self._losses[loss.event_id] = (loss.agent, time_ns(loss.start), time_ns(loss.end), tuple(loss.flows), loss.events > 0)
        if len(self._losses) > LOSSES_MAX:
            self._losses.popitem(last=False)

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Everything remembered, as JSON values."""
        return {
            "budgets": self._budgets.state(),
            "views": self._views.state(),
            "legs": self._legs.state(),
            "edition": self._edition,
            "repeats": self._repeats.state(),
            "earlier": self._earlier.state(),
            "failovers": self._failovers.state(),
            "review_said": self._review_said,
            "findings": self._findings.state(),
            "alive": list(self._alive.items()),
            "losses": [[key, *value] for key, value in self._losses.items()],
            "counted": dict(self.counted),
        }

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Go on where ``state`` was taken."""
        self._budgets.restore(state["budgets"])
        self._views.restore(state["views"])
        self._legs.restore(state["legs"])
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
        self._failovers.restore(state["failovers"])
        self._alive = OrderedDict((str(agent), int(at)) for agent, at in state["alive"])
        self._losses = OrderedDict(
            (str(key), (str(agent), int(start), int(end), tuple(flows), bool(events)))
            for key, agent, start, end, flows, events in state["losses"]
        )
        self.counted = dict(state["counted"])

    def sizes(self) -> dict[str, int]:
        """How much is remembered, for the health page and for the test of the bounds."""
        return {
            "connections": len(self._views),
            "legs": len(self._legs),
            "flows": len(self._repeats),
            "members": len(self._failovers),
            "findings": len(self._findings),
            "agents": len(self._alive),
            "losses": len(self._losses),
        }

    # One window

    def _judge(self, flow: Flow) -> Judgement:
        self._lives(flow.agent, time_ns(flow.start))
        seen = self._seen(flow)
        new = self._new_amounts(seen)
        notices = self._overdue_review(seen)
        quiet = self._infrastructure(seen)
        if quiet is not None:
            service, opinion = quiet
            joined: list[str] = []
        else:
            service = None
            joined = self.index.joined(seen.server, seen.client)
            opinion = self._ticket(seen) or (self._by_hops(seen, joined, new) if joined else self._by_none(seen, new))
            self._decoys(seen, opinion)
            if joined:
                notices += self._members(seen, opinion)
        verdict = "service" if quiet is not None and not opinion.differing else opinion.verdict
        severity = None if verdict == "service" else opinion.severity
        if flow.operation == ATTEMPT and severity is not None and verdict != "decoy":
            severity = min(severity, _ATTEMPT_SEVERITY_MAX, key=SEVERITIES.index)
        hop = opinion.hop if opinion.hop in joined else None
        finding = None
        if verdict not in QUIET:
            assert severity is not None
            finding = self._findings.update(
                flow=flow,
                verdict=verdict,
                severity=severity,
                who=seen.declared_account or seen.account,
                client=seen.client,
                source=seen.source,
                destination=seen.destination,
                hop=hop,
                nearest_hop=opinion.hop,
                checked=opinion.checked,
                differing=opinion.differing,
                classes=opinion.classes,
            )
        self.counted[verdict] = self.counted.get(verdict, 0) + 1
        return Judgement(
            flow=flow,
            verdict=verdict,
            severity=severity,
            hop=hop,
            checked=dict(opinion.checked),
            differences=tuple(one.said for one in sorted(opinion.differing, key=lambda each: ROW[each.verdict])),
            classes=tuple(sorted(opinion.classes)),
            service=service,
            source=seen.source.shown,
            destination=seen.destination.shown,
            finding=finding,
            notices=tuple(notices),
        )

    def _seen(self, flow: Flow) -> Seen:
        source = self.index.end(flow.source.address, flow.source.port, flow.source.names)
        destination = self.index.end(flow.destination.address, flow.destination.port, flow.destination.names)
        opened_by = flow.opened_by
        if opened_by is None:
            # Nobody saw the handshake: the end that the file knows as listening there is the server, else the lower port.
            known = (source.asset is not None, destination.asset is not None)
            lower = 0 < source.port < destination.port if known[0] == known[1] else known[0]
            opened_by = "destination" if lower else "source"
        server, client = (destination, source) if opened_by == "source" else (source, destination)
        connection = self._views.learn(flow)
        deeper = flow.account is None and connection.account is not None
        account = connection.account if deeper else flow.account
        start_ns = time_ns(flow.start)
        start = instant(start_ns)
        own_password = flow.operation == "admin" and bool(flow.objects) and all(_own_password(part, flow.account) for part in flow.objects)
        unread = flow.operation == UNREAD or (flow.depth in ("sizes", "blind") and flow.operation not in (ATTEMPT, *CONTROL))
        sets: tuple[ObjectSet | None, ...]
        sets = (None,) if unread or own_password or flow.operation in (ATTEMPT, *CONTROL) else _sets(flow)
        complete = flow.completeness.state in ("complete", "encrypted") and not self._lossy(flow, start_ns)
        return Seen(
            flow=flow,
            server=server,
            client=client,
            source=source,
            destination=destination,
            start_ns=start_ns,
            start=start,
            day=day_of(self.index, start, self._at),
            account=account,
            declared_account=self.index.account(account),
            application=connection.application if deeper else flow.application,
            role=connection.role if deeper else flow.role,
            control=flow.operation in CONTROL or own_password,
            unread=unread,
            complete=complete,
            again=self._earlier.has(flow),
            sets=sets,
        )

    def _new_amounts(self, seen: Seen) -> dict[str, int]:
        """What of the window no other view of its connection has counted, by unit; ``back`` is the other way."""
        flow = seen.flow
        if seen.again:
            return dict.fromkeys(("rows", "values", "messages", "bytes", "back"), 0)
        to_server = seen.source is seen.client
        ahead, behind = ("up", "down") if to_server else ("down", "up")
        amounts = {
            f"{ahead}.rows": flow.rows,
            f"{ahead}.values": flow.values,
            f"{ahead}.messages": flow.messages,
            f"{ahead}.bytes": flow.bytes,
            f"{behind}.bytes": flow.bytes_back,
        }
        new = self._views.added(flow.connection, f"{flow.agent}/{flow.seen_by}", amounts)
        return {
            "rows": new[f"{ahead}.rows"],
            "values": new[f"{ahead}.values"],
            "messages": new[f"{ahead}.messages"],
            "bytes": new[f"{ahead}.bytes"],
            "back": new[f"{behind}.bytes"],
        }

    # Rows of the table, top to bottom

    def _decoys(self, seen: Seen, opinion: Opinion) -> None:
        for part in seen.flow.objects:
            if classes_of(self.index, seen, part)[2]:
                opinion.differ("decoy", "critical", "what", "a decoy: nobody touches it", ", ".join(part.names[:8]))

    def _members(self, seen: Seen, opinion: Opinion) -> list[Finding]:
        """A failover, said once; two active members differ in the window that shows it."""
        found: list[Finding] = []
        if seen.control or seen.flow.operation == ATTEMPT:
            # A client that tries the old address is refused there, or says goodbye; that is not serving.
            return found
        for end in (seen.server, seen.client):
            left, beside = self._failovers.serves(end, seen.start_ns)
            if beside is not None:
                opinion.differ(
                    "undeclared-hop", "high", "where", f"one active member of {end.shown}", f"{end.address} and {beside} in one minute"
                )
            if left is not None:
                said = Difference(question="where", declared=f"{end.shown} at {left}", observed=f"{end.shown} at {end.address}")
                stamp = f"{left}|{end.address}|{seen.start_ns}"
                found.append(self._findings.notice(seen.flow, "failover", "info", None, end.shown, stamp, said))
        return found

    def _overdue_review(self, seen: Seen) -> list[Finding]:
        """The one finding about the declaration itself, on the first window after ``review_by``."""
        plant = self.architecture
        if self._review_said or seen.day <= plant.review_by:
            return []
        self._review_said = True
        said = Difference(question="when", declared=f"review_by {plant.review_by}", observed=str(seen.day))
        what = f"declaration {plant.plant} v{plant.version}"
        return [self._findings.notice(seen.flow, "expired", overdue(seen.day, plant.review_by), plant.owner, what, "", said)]

    def _infrastructure(self, seen: Seen) -> tuple[str, Opinion] | None:
        """The service the window belongs to and what is said of its cap; None if it is judged as any flow."""
        flow = seen.flow
        if any(classes_of(self.index, seen, part)[2] for part in flow.objects):
            return None
        amount = 0 if seen.again else flow.bytes + flow.bytes_back
        if _is_discovery(flow):
            pair = "|".join(sorted((flow.source.address, flow.destination.address)))
            if self._budgets.would_use(f"discovery:{pair}", DISCOVERY_LIMIT, seen.start_ns, amount) <= DISCOVERY_LIMIT.amount:
                self._budgets.charge(f"discovery:{pair}", DISCOVERY_LIMIT, seen.start_ns, amount)
                return "discovery", Opinion(None)
            return None
        asset = seen.server.asset
        if asset is not None and asset == (seen.client.asset or seen.client.host):
            replication = self.architecture.assets[asset].replication
            if replication is not None and seen.declared_account == replication and flow.operation in ("replicate", *CONTROL):
                return "replication", Opinion(None)
        port = seen.server.port
        for name, service in self.index.services(seen.server, seen.client, port, flow.protocol):
            if service.may and flow.operation not in service.may:
                continue
            if service.when is not None and not covers(service.when, seen.start, self.architecture.timezone):
                continue
            cap = service.cap
            key = f"service:{name}" + (f"|{seen.client.address}" if cap.per_host else "")
            counts = {Unit.ROWS: flow.rows, Unit.VALUES: flow.values, Unit.MESSAGES: flow.messages, Unit.BYTES: amount}
            moved = 0 if seen.again else counts.get(cap.unit, 0)
            used = self._budgets.would_use(key, cap, seen.start_ns, moved)
            self._budgets.charge(key, cap, seen.start_ns, moved)
            opinion = Opinion(None)
            if used > cap.amount:
                ratio = used / cap.amount if cap.amount else float("inf")
                opinion.differ(
                    "over-limit", raised("medium", ratio), "how_much", f"{name}: {cap}", f"{used} {cap.unit.value}, {ratio:.1f} x"
                )
            return name, opinion
        return None

    def _ticket(self, seen: Seen) -> Opinion | None:
        """What a ``needs: ticket`` account may do under an exception; None if no exception covers the window."""
        name = seen.declared_account
        if name is None or self.architecture.accounts[name].needs is None:
            return None
        account = self.architecture.accounts[name]
        for _, planned in self.index.exceptions_of_account(name):
            if planned.asset not in (seen.server.asset, seen.server.host):
                continue
            if not covers(planned.when, seen.start, self.architecture.timezone) or not self.index.comes_from(account, seen.client):
                continue
            opinion = Opinion(None)
            opinion.classes.update(name for part in seen.flow.objects for name in classes_of(self.index, seen, part)[0])
            metadata = bool(seen.flow.objects) and all(
                self.index.classify(seen.server.asset, one).metadata for part in seen.flow.objects for one in part.names
            )
            if not (seen.control or metadata or seen.flow.operation in planned.may):
                may = f"{planned.ticket}: may {', '.join(planned.may)}"
                opinion.differ("unapproved-operation", "high", "what", may, seen.flow.operation)
            if seen.unread:
                opinion.answer("what", "assumed")
            if not seen.complete:
                opinion.answer("how_much", "unknown")
            return opinion
        return None

    def _by_none(self, seen: Seen, new: dict[str, int]) -> Opinion:
        """No hop joins: the destination or the hop is undeclared, and the nearest hop says what else differs."""
        classes: set[str] = set()
        for touched in seen.flow.objects:
            classes.update(classes_of(self.index, seen, touched)[0])
        part = next((one for one in seen.sets if one is not None), None)

        def opine(name: str) -> Opinion:
            return self._compare(seen, name, part, self._allowances(seen, name, part, new, classes))

        opinion = nearest(self.index, seen, classes, opine) or Opinion(None)
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
        chosen: list[Opinion] = []
        left = dict(new)
        for part in seen.sets:
            share = dict(new) if seen.again else _share(part, left)
            classes, _, _ = classes_of(self.index, seen, part)
            metadata = self._metadata_allowances(seen, part, share)
            tried = [(name, self._allowances(seen, name, part, self._once_over_legs(seen, name, share), classes)) for name in joined]
            opinions = [self._compare(seen, name, part, allowances, metadata) for name, allowances in tried]
            best = max(range(len(opinions)), key=lambda place: (ROW[opinions[place].verdict], -place))
            if seen.control or seen.flow.operation == ATTEMPT:
                charged: Iterable[int] = ()
            elif seen.unread:
                row = ROW[opinions[best].verdict]
                charged = [place for place, one in enumerate(opinions) if ROW[one.verdict] == row]
            else:
                charged = (best,)
            metadata_only = part is not None and self._metadata_only(seen, part)
            done: set[str] = set()
            for place in charged:
                for allowance in metadata if metadata_only else tried[place][1]:
                    if allowance.key not in done:
                        done.add(allowance.key)
                        self._budgets.charge(allowance.key, allowance.limit, seen.start_ns, allowance.amount, allowance.objects)
            chosen.append(opinions[best])
        return _merged(chosen)

    # Amounts

    def _compare(
        self, seen: Seen, name: str, part: ObjectSet | None, allowances: Sequence[Allowance], metadata: Sequence[Allowance] = ()
    ) -> Opinion:
        hop = self.architecture.hops[name]

        def used(allowance: Allowance) -> int:
            return self._budgets.would_use(allowance.key, allowance.limit, seen.start_ns, allowance.amount, allowance.objects)

        return compare(
            self.index,
            seen,
            name,
            part,
            allowances,
            used,
            feed_lives=self._feed_lives(hop, seen),
            loosened=self._loosening(name, seen) is not None,
            metadata_used=used,
            metadata_allowances=metadata,
        )

    def _allowances(self, seen: Seen, name: str, part: ObjectSet | None, share: dict[str, int], classes: Iterable[str]) -> list[Allowance]:
        """The limits that bind the set at this time: the hop's own and the plant's budgets, or what a ticket puts in their place."""
        hop = self.architecture.hops[name]
        forward = self.index.runs_forward(name, seen.source, seen.destination)

        def allowance(key: str, limit: Limit, prefix: str = "") -> Allowance:
            host = f"|{seen.client.address}" if limit.per_host else ""
            objects = () if part is None else tuple(part.names)
            return Allowance(
                f"{key}#{limit}{host}", limit, amount_of(share, limit.unit, unread=part is None, forward=forward), objects, prefix
            )

        loosening = self._loosening(name, seen)
        if loosening is not None:
            key, limits = loosening
            return [allowance(f"{key}:{name}", limit) for limit in limits]
        found = [allowance(f"hop:{name}", limit) for limit in hop.limit]
        met = set(classes) or self.index.hop_classes(name)
        zone = seen.destination.zone
        for budget in self.architecture.budgets:
            if budget.class_ is not None and budget.class_ not in met:
                continue
            if budget.owner is not None and self.architecture.accounts[hop.who].owner != budget.owner:
                continue
            ends = [zone, seen.source.zone] if seen.unread else [zone]
            if not any(budget_covers_zone(self.architecture, budget.to, end) for end in ends):
                continue
            found.extend(allowance(f"budget:{budget.class_}|{budget.owner}|{budget.to}", limit, "all hops: ") for limit in budget.limit)
        return found

    def _metadata_allowances(self, seen: Seen, part: ObjectSet | None, share: dict[str, int]) -> list[Allowance]:
        if part is None:
            return []
        key = f"metadata:{seen.account or seen.client.address}"
        return [Allowance(f"{key}#{limit.unit.value}", limit, share.get(limit.unit.value, 0)) for limit in METADATA_LIMITS]

    def _metadata_only(self, seen: Seen, part: ObjectSet) -> bool:
        return bool(part.names) and all(self.index.classify(seen.server.asset, name).metadata for name in part.names)

    def _once_over_legs(self, seen: Seen, name: str, share: dict[str, int]) -> dict[str, int]:
        """Of what crosses a relay both legs see every byte; only what the larger one adds is charged to the hop."""
        leg = self.index.relay_between(self.architecture.hops[name], seen.server, seen.client)
        if leg is None:
            return share
        # The leg the client dials and the leg the relay dials run the same way, whatever side is the source.
        ahead, behind = ("up", "down") if seen.source is seen.client else ("down", "up")
        counted = {f"{behind if unit == 'back' else ahead}.{'bytes' if unit == 'back' else unit}": share[unit] for unit in share}
        new = self._legs.added(f"{name}|{seen.day.toordinal()}", leg, counted)
        return {unit: new[f"{behind if unit == 'back' else ahead}.{'bytes' if unit == 'back' else unit}"] for unit in share}

    def _loosening(self, name: str, seen: Seen) -> tuple[str, list[Limit]] | None:
        """The exception or calendar line that covers the hop now, and the limits in its place."""
        hop = self.architecture.hops[name]
        for title, planned in self.index.exceptions_of_hop(name):
            if covers(planned.when, seen.start, self.architecture.timezone):
                return f"exception:{title}", list(planned.limit or hop.limit)
        for place in self.index.calendar_of_hop(name):
            line = self.architecture.calendar[place]
            if seen.day <= self.architecture.calendar_until(line) and covers(line.when, seen.start, self.architecture.timezone):
                factor = line.limit
                limits = list(hop.limit) if factor is None else [_times(limit, factor.of(limit.amount), str(factor)) for limit in hop.limit]
                return f"calendar:{line.ticket}|{line.what}", limits
        return None

    # What is known about agents

    def _lives(self, agent: str, at_ns: int) -> None:
        self._alive[agent] = max(at_ns, self._alive.get(agent, at_ns))
        self._alive.move_to_end(agent)
        if len(self._alive) > AGENTS_MAX:
            self._alive.popitem(last=False)

    def _feed_lives(self, hop: Hop, seen: Seen) -> bool:
        """Whether a feed that reads what this view cannot is there to say it, in a view of its own."""
        feed = feed_of(self.index, hop)
        if feed is None or feed == seen.flow.agent:
            return False
        last_ns = self._alive.get(feed)
        return last_ns is not None and abs(seen.start_ns - last_ns) <= FEED_QUIET_S * 10**9

    def _lossy(self, flow: Flow, start_ns: int) -> bool:
        if not self._losses:
            return False
        end_ns = time_ns(flow.end)
        return any(
            flow.flow_id in flows or (events and not flows and agent == flow.agent and first_ns <= end_ns and start_ns <= last_ns)
            for agent, first_ns, last_ns, flows, events in self._losses.values()
        )


def _sets(flow: Flow) -> tuple[ObjectSet, ...]:
    """The window's object sets; together they have the window's bytes, so that protocol overhead is charged too."""
    if not flow.objects:
        return (ObjectSet(names=[], rows=flow.rows, values=flow.values, messages=flow.messages, bytes=flow.bytes),)
    rest = flow.bytes - sum(part.bytes for part in flow.objects)
    if rest <= 0:
        return tuple(flow.objects)
    first = flow.objects[0]
    return (first.model_copy(update={"bytes": first.bytes + rest}), *flow.objects[1:])


def _share(part: ObjectSet | None, left: dict[str, int]) -> dict[str, int]:
    """What of the set is new among the views; ``left`` is what of the window is, and shrinks."""
    if part is None:
        return dict(left)
    share = {"back": 0}
    for unit, amount in (("rows", part.rows), ("values", part.values), ("messages", part.messages), ("bytes", part.bytes)):
        share[unit] = amount if amount < 0 else min(amount, max(0, left[unit]))
        left[unit] -= share[unit]
    return share


def _merged(opinions: Sequence[Opinion]) -> Opinion:
    """The window's opinion: the worst set's hop, everything that differs, the weakest answer to each question."""
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


def _own_password(part: ObjectSet, account: str | None) -> bool:
    """Whether the statement changes the password of the account that makes it, and nothing else."""
    return account is not None and part.names == [f"account:{account}"] and part.columns == ["password"]


def _is_discovery(flow: Flow) -> bool:
    if flow.transport in _ICMP:
        return True
    return _is_for_neighbours(flow.source.address) or _is_for_neighbours(flow.destination.address)


@lru_cache(maxsize=65_536)
def _is_for_neighbours(text: str) -> bool:
    """Whether the address is link-local, broadcast or multicast (RFC 3927, RFC 919, RFC 5771, RFC 4291)."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return address.is_multicast or address.is_link_local or text == _BROADCAST


def _times(limit: Limit, amount: int, factor: str) -> Limit:
    return Limit(amount, limit.unit, limit.period, limit.per_host, f"{factor} {limit}")


def _place(end: End) -> str:
    """An end with its zone, and a name nobody confirmed."""
    zone = end.zone or "no declared zone"
    claimed = f", name unconfirmed: {end.claimed}" if end.claimed is not None else ""
    return f"{end.shown} ({zone}{claimed})"
