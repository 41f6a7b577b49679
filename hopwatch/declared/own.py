"""What hopwatch itself moves, as hops to review: a monitor that is not declared is one more unknown account in the plant.

As a draft from a finding (``draft``) it declares nothing and does not load while ``DECIDE`` stands in it; nothing is ever written into a
declaration. What is known from the settings is filled in: where it goes, as whom, with which login.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hopwatch.declared.draft import DECIDE, quoted, remark, way
from hopwatch.declared.match import Index
from hopwatch.declared.model import NAME_PATTERN, Architecture, Endpoint
from hopwatch.declared.table import heading

HERE: Final = "hopwatch"
"""What the host is called on which hopwatch runs, where the file has no asset for it."""

_NAME: Final = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that hopwatch moves: data goes ``out`` of its host to the other end, or comes in from there."""

    name: str
    other: str
    """The other end, such as a broker; its name where the file has no asset at its addresses."""

    kind: str
    at: tuple[str, ...]
    """Where it answers, HOST:PORT; empty if that is not known."""

    out: bool
    who: str | None
    auth: str
    may: tuple[str, ...]
    data: str
    holds: str
    """What of an entry of ``data`` names it, such as ``topics: ["hopwatch.*"]``."""

    why: str


def own(architecture: Architecture, moves: Sequence[Move], host: str | None = None) -> str:
    """The YAML of every hop, with comments; ``host`` is the address of hopwatch's own host as the plant sees it."""
    return "\n".join(_Own(architecture, moves, host).lines()) + "\n"


class _Own:
    """One draft in the making: ends, and what the file lacks."""

    def __init__(self, architecture: Architecture, moves: Sequence[Move], host: str | None) -> None:
        self.architecture, self.moves = architecture, moves
        self.index = Index(architecture)
        self.assets: dict[str, str] = {}
        """Assets that the file lacks, each with its line."""
        self.zones: dict[str, str | None] = {}
        self.here = self._end(HERE, "monitor", () if host is None else (host,))

    def lines(self) -> Iterator[str]:
        """The whole text."""
        yield "# What hopwatch itself moves, drafted from its settings. It declares nothing, and does not load while"
        yield f"# {DECIDE} stands in it: decide each, take the sections into the plant file, raise its version, let it be approved."
        yield f"# Drafted for {remark(heading(self.architecture))}."
        if not self.moves:
            yield "# By these settings nothing leaves this host: no broker, no database, no destination, no console off loopback."
            return
        hops = [line for move in self.moves for line in self._hop(move)]
        yield ""
        if self.assets:
            yield from ("assets:", *self.assets.values(), "")
        accounts = {self._account(move): move.auth for move in self.moves[::-1]}
        lacking = {name: auth for name, auth in accounts.items() if name not in self.architecture.accounts and _NAME.fullmatch(name)}
        if lacking:
            yield "accounts:"
            for name, auth in reversed(lacking.items()):
                yield f"  {quoted(name)}: {{kind: service, owner: {DECIDE}, from: [{quoted(self.here)}], auth: {auth}}}"
            yield ""
        yield "data:"
        for name, (homes, holds) in self._data().items():
            yield f"  {name}: {{class: {DECIDE}, in: [{', '.join(map(quoted, homes))}], {holds}}}   # the highest class that it may tell of"
        yield ""
        if self.conduits:
            yield from ("conduits:   # no conduit leads this way: is there to be one, and what enforces it?", *self.conduits.values(), "")
        yield "hops:"
        yield from hops

    @property
    def conduits(self) -> dict[str, str]:
        """Conduits that the file lacks, each with its line."""
        return {line: line for move in self.moves for line in way(self.architecture, *self._zones(move))[1]}

    def _end(self, name: str, kind: str, at: Sequence[str]) -> str:
        """An end as the file names it; one that it lacks becomes an asset of the draft."""
        for one in at:
            place = Endpoint.parse(one)
            for asset, known in self.architecture.assets.items():
                for held in (known.at, known.vip, *known.members, *known.standby):
                    if held is not None and held.host == place.host and held.port in (None, place.port):
                        self.zones[asset] = known.zone
                        return asset
        if name in self.architecture.assets:
            name = f"{name}-of-hopwatch"
        if name not in self.assets:
            zones = {self.index.zone(place.host) for one in at if (place := Endpoint.parse(one)).address is not None}
            zone = zones.pop() if len(zones) == 1 else None
            where = f"at: {quoted(at[0])}" if len(at) == 1 else f"members: [{', '.join(map(quoted, at))}]" if at else f"at: {DECIDE}"
            self.assets[name] = f"  {quoted(name)}: {{zone: {quoted(zone or DECIDE)}, kind: {kind}, {where}}}"
            self.zones[name] = zone
        return name

    def _other(self, move: Move) -> str:
        return self._end(move.other, move.kind, move.at)

    def _zones(self, move: Move) -> tuple[str | None, str | None]:
        here, there = self.zones[self.here], self.zones[self._other(move)]
        return (here, there) if move.out else (there, here)

    def _account(self, move: Move) -> str:
        return (self.index.account(move.who) or move.who) if move.who else f"hopwatch-{move.name}"

    def _data(self) -> dict[str, tuple[list[str], str]]:
        found: dict[str, tuple[list[str], str]] = {}
        for move in self.moves:
            homes, _ = found.setdefault(move.data, ([], move.holds))
            # What a broker or a database holds is classed there, whichever way it goes.
            home = self._other(move) if move.kind in ("kafka", "postgresql") or not move.out else self.here
            if home not in homes:
                homes.append(home)
        return found

    def _hop(self, move: Move) -> Iterator[str]:
        here, there = self.here, self._other(move)
        account = self._account(move)
        yield f"  hopwatch-{move.name}:"
        yield f"    who: {quoted(account) if _NAME.fullmatch(account) else f'{DECIDE}   # it signs in as {remark(account)}'}"
        yield f"    from: {quoted(here if move.out else there)}"
        yield f"    to: {quoted(there if move.out else here)}"
        yield from way(self.architecture, *self._zones(move))[0]
        yield f"    may: [{', '.join(move.may)}]"
        yield f"    what: [{move.data}]"
        yield f"    limit: {DECIDE}   # such as 2 GiB / 1d, after a week of looking"
        yield f"    keep: {DECIDE}   # how long the copy may live at the destination, such as 90d"
        yield f"    why: {quoted(move.why)}"
        yield f"    approved: {{by: {DECIDE}, ticket: {DECIDE}}}"
