"""What the verdict would be: the movement somebody asks about, made into a window and judged by the detector itself.

A person asks who moves what from where to where, and how much. Everything a window says beyond that (operation, hour,
application, protection, which end dials) is chosen as the hop in question would have it, and comes back as a condition; so what is
refused here no window could get past, and what is approved is approved on the wire. One thing is stricter than the wire: where the
receiving end's names say nothing about the class, the hop must name the data all the same.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from ipaddress import ip_address

from detectors.compare import covers
from detectors.judgement import QUIET, ROW, Judgement
from detectors.verdict import VerdictDetector
from hopwatch.declared.explain import Answer, conditions
from hopwatch.declared.match import End, Index
from hopwatch.declared.model import Architecture, Hop
from hopwatch.events import Endpoint, Flow, Name, ObjectSet, Protection, Side, time_text

DAYS_SEARCHED_MAX = 366
"""Days from the one asked within which a time is looked for at which the hop may run."""

NEARER_MAX = 4
"""How often the nearest hop is asked for anew, once the window is as the last answer would have it."""

_CLIENT_PORT, _SERVER_PORT = 50_000, 443
_NOWHERE = "192.0.2.1"  # documentation (RFC 5737): the address of what is known by name only


def what_if(architecture: Architecture, who: str, source: str, destination: str, what: str, count: int, day: date) -> Answer:
    """Whether ``count`` of ``what``, moved once by ``who``, would be approved on the day, and by which hop or why not.

    Ends are assets, zones or addresses. ``what`` is a data name, or a table, topic or node; it is counted in rows, messages, values.

    Raises:
        ValueError: an end is none of the three.
    """
    return _Asked(architecture, who, source, destination, what, count, day).answer()


class _Asked:
    def __init__(self, architecture: Architecture, who: str, source: str, destination: str, what: str, count: int, day: date) -> None:
        self._architecture = architecture
        self._index = Index(architecture)
        self._who, self._what, self._day, self._count = who, what, day, count
        self._ends = (source, destination)
        self._entries = self._entries_of(what)

    def answer(self) -> Answer:
        """The mildest judgement that any hop between the two ends, or the nearest one, can get."""
        judged = list(self._judged())
        best = max(judged, key=lambda one: (ROW[one[0].verdict], not self._unnamed(*one), -self._place(one[1])))
        judgement, hop = best
        differences = [f"{one.question}: {one.declared} -> {one.observed}" for one in judgement.differences]
        if self._unnamed(judgement, hop) and hop is not None:
            differences.append(f"what: {', '.join(self._architecture.hops[hop].what)} -> {self._what}{self._classed()}")
        if judgement.verdict in QUIET and not differences:
            if judgement.service is not None:
                return Answer(True, f"service {judgement.service}", ())
            assert hop is not None
            return Answer(True, hop, tuple(conditions(self._architecture, self._architecture.hops[hop])))
        verdict = judgement.verdict if judgement.verdict not in QUIET else "undeclared-data"
        return Answer(False, hop, tuple(differences), verdict)

    def _judged(self) -> Iterator[tuple[Judgement, str | None]]:
        """Each possible window's judgement, and the hop it was made for or comes nearest to."""
        for opened_by in self._sides():
            server, client = self._server_and_client(opened_by)
            joined = self._index.joined(server, client)
            for name in joined:
                judgement = self._judge(self._window(name, opened_by))
                yield judgement, judgement.hop or name
            hop: str | None = None
            for _ in () if joined else range(NEARER_MAX):
                judgement = self._judge(self._window(hop, opened_by))
                nearest = None if judgement.finding is None else judgement.finding.nearest_hop
                if nearest in (None, hop):
                    break
                hop = nearest
            if not joined:
                yield judgement, hop

    def _sides(self) -> list[Side]:
        """Which end dials: one the account may come from, else not the one that holds the data; both where nothing tells."""
        account = self._architecture.accounts.get(self._index.account(self._who) or "")

        def tells(opened_by: Side) -> tuple[bool, bool]:
            server, client = self._server_and_client(opened_by)
            comes = account is not None and self._index.comes_from(account, client)
            return comes, self._index.holds_data(server.asset or server.host)

        sides: tuple[Side, Side] = ("source", "destination")
        most = max(map(tells, sides))
        return [side for side in sides if tells(side) == most]

    def _server_and_client(self, opened_by: Side) -> tuple[End, End]:
        seen = self._window(None, opened_by)
        source, destination = (self._index.end(end.address, end.port, end.names) for end in (seen.source, seen.destination))
        return (destination, source) if opened_by == "source" else (source, destination)

    def _judge(self, window: Flow) -> Judgement:
        (judgement,) = VerdictDetector(self._architecture, at=self._day).observe(window)
        return judgement

    def _window(self, name: str | None, opened_by: Side) -> Flow:
        """The movement as a window that says the rest as the hop would have it."""
        hop = None if name is None else self._architecture.hops[name]
        account = self._architecture.accounts.get(self._who)
        names, unit = self._objects()
        # COPY names its columns or moves them all; which ones is not asked.
        columns = ["asked"] if hop is not None and hop.may[0] == "copy" else []
        start_s = int(self._time(name, hop).timestamp())
        part = ObjectSet.model_validate({"names": names, "columns": columns, unit: self._count})
        return Flow(
            event_id="what-if", plant=self._architecture.plant, agent="what-if", connection="what-if", flow_id="what-if", sequence=0,
            start=time_text(start_s * 10**9), end=time_text(start_s * 10**9), opened_by=opened_by,
            source=self._end(self._ends[0], server=opened_by != "source"),
            destination=self._end(self._ends[1], server=opened_by != "destination"),
            account=self._who, application=account.applications[0].replace("*", "1") if account and account.applications else None,
            operation="select" if hop is None else hop.may[0], depth="decoded", protection=Protection(transport="tls1.3"),
            objects=[part], rows=part.rows, values=part.values, messages=part.messages,
        )  # fmt: skip

    def _time(self, name: str | None, hop: Hop | None) -> datetime:
        """The first time from the day on at which the hop may run as it always may, and no ticket changes its limits."""
        timezone = self._architecture.timezone
        midnight = datetime(self._day.year, self._day.month, self._day.day, tzinfo=timezone)
        if name is None or hop is None:
            return midnight
        loosened = [one.when for _, one in self._index.exceptions_of_hop(name)]
        loosened += [self._architecture.calendar[place].when for place in self._index.calendar_of_hop(name)]
        for ahead in range(DAYS_SEARCHED_MAX):
            for minute in range(24 * 60) if hop.when is None else (hop.when.start_minute, hop.when.end_minute - 1):
                at = midnight + timedelta(days=ahead, minutes=minute)
                if (hop.when is None or covers(hop.when, at, timezone)) and not any(covers(when, at, timezone) for when in loosened):
                    return at
        return midnight

    def _end(self, place: str, *, server: bool) -> Endpoint:
        """The place as an end of a window: its own port where it is dialled, any other where it dials."""
        architecture = self._architecture
        if place in architecture.assets:
            endpoints = architecture.assets[place].endpoints
            at = next((one for one in endpoints if one.address is not None), endpoints[0])
            port = at.port or _SERVER_PORT if server else _CLIENT_PORT
            if at.address is not None:
                return Endpoint(address=str(at.address), port=port)
            return self._named(at.host, port, architecture.assets[place].zone)
        port = _SERVER_PORT if server else _CLIENT_PORT
        if place in architecture.zones:
            zone = architecture.zones[place]
            if not zone.nets:
                return self._named(zone.names[0], port, place)
            hosts = {str(one.address) for asset in architecture.assets.values() for one in asset.endpoints}
            inside = (str(host) for net in zone.nets for host in net.hosts())
            return Endpoint(address=next((host for host in inside if host not in hosts), str(zone.nets[0][0])), port=port)
        try:
            address = str(ip_address(place))
        except ValueError:
            raise ValueError(f"{place} is no asset or zone of this file, and no address") from None
        listening = (one.port for asset in architecture.assets.values() for one in asset.endpoints if str(one.address) == address)
        return Endpoint(address=address, port=next(listening, None) or port if server else _CLIENT_PORT)

    def _named(self, name: str, port: int, zone: str) -> Endpoint:
        """An end known by its name, which a DNS answer gave."""
        nets = self._architecture.zones[zone].nets
        address = str(next(iter(nets[0].hosts()))) if nets else _NOWHERE
        return Endpoint(address=address, port=port, names=[Name(name=name.replace("*", "x"), by="dns")])

    def _objects(self) -> tuple[list[str], str]:
        """Names of objects that are what was asked about, and the unit they are counted in."""
        entry = self._architecture.data.get(self._what)
        if entry is None:
            if self._what.startswith(("ns=", "i=", "s=", "nsu=")):
                return [self._what], "values"
            return [self._what], "messages" if "/" in self._what else "rows"
        filters = [topic.replace("+", "x").replace("#", "x") for topic in entry.topics]
        names = [glob.replace("*", "x") for glob in (*entry.tables, *entry.nodes)] + filters
        unit = "rows" if entry.tables or not (entry.nodes or entry.topics) else "values" if entry.nodes else "messages"
        return names or ["asked"], unit

    def _entries_of(self, what: str) -> frozenset[str]:
        if what in self._architecture.data:
            return frozenset((what,))
        homes = dict.fromkeys(home for data in self._architecture.data.values() for home in data.in_)
        globbed = {name for name, data in self._architecture.data.items() if data.tables or data.topics or data.nodes or data.columns}
        # An entry that is everything its asset holds says nothing of a name from elsewhere.
        return frozenset(entry for home in homes for entry in self._index.classify(home, what).entries if entry in globbed)

    def _unnamed(self, judgement: Judgement, hop: str | None) -> bool:
        """Whether the hop does not name the data, though the wire could not tell."""
        if hop is None or judgement.hop is None or any(one.question == "what" for one in judgement.differences):
            return False
        return judgement.checked["what"] != "checked" and not (self._entries and self._entries <= set(self._architecture.hops[hop].what))

    def _classed(self) -> str:
        classes = sorted({self._architecture.data[entry].class_ for entry in self._entries})
        return f" ({', '.join(classes)})" if classes else ", which is unclassified"

    def _place(self, hop: str | None) -> int:
        return len(self._index.hops) if hop is None else list(self._architecture.hops).index(hop)
