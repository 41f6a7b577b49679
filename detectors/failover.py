"""Which member of an asset serves: a failover keeps the hop and is worth a word, two active members are not one asset any more.

A member is an address of ``at``, ``members`` or ``standby``; ``vip`` stands for whichever is active and counts as none. A failover
is one-way: the new member serves later than the old one ever did. Two are active when a member serves again within a minute of
serving last, and another has served in between.
"""

from typing import Any, Final

from detectors.units import MINUTE_NS
from hopwatch.declared.match import End
from hopwatch.declared.model import Architecture

ACTIVE_NS: Final = MINUTE_NS
"""A member that serves twice within this time, around another's turn, has been active all along."""

MEMBERS_MAX: Final = 64
"""Addresses of one asset told apart (an asset known by name has any number); the one that served longest ago is forgotten."""


class Failovers:
    """The member of each asset that serves, and when each served last."""

    def __init__(self, architecture: Architecture) -> None:
        self._virtual = {
            name: None if asset.vip is None else str(asset.vip.address or asset.vip.host)
            for name, asset in architecture.assets.items()
            if len({one.host for one in (*([asset.at] if asset.at else []), *asset.members, *asset.standby)}) > 1
        }
        self._active: dict[str, str] = {}
        self._served: dict[str, dict[str, int]] = {}
        self._touched: set[str] = set()
        self.forgotten_total = 0

    def has_members(self, end: End) -> bool:
        """Whether the end is one of several that may serve."""
        name = end.asset or end.host
        return name is not None and name in self._virtual and end.address != self._virtual[name]

    def serves(self, end: End, start_ns: int) -> tuple[str | None, str | None]:
        """The address a failover to this end left, and the one that is active beside it; None and None as a rule."""
        name = end.asset or end.host
        if name is None or not self.has_members(end):
            return None, None
        self._touched.add(name)
        served = self._served.setdefault(name, {})
        before_ns = served.get(end.address)
        beside = None
        if before_ns is not None and len(served) > 1 and start_ns - before_ns <= ACTIVE_NS:
            beside = next((other for other, at_ns in served.items() if other != end.address and before_ns < at_ns < start_ns), None)
        active = self._active.setdefault(name, end.address)
        left = None
        if active != end.address and beside is None and start_ns > served.get(active, start_ns):
            self._active[name], left = end.address, active
        served[end.address] = max(start_ns, before_ns or start_ns)
        if len(served) > MEMBERS_MAX:
            del served[min(served, key=served.__getitem__)]
            self.forgotten_total += 1
        return left, beside

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything remembered."""
        return [self._active, self._served]

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        active, served = state
        self._active = dict(active)
        self._served = {str(name): {str(address): int(at) for address, at in members.items()} for name, members in served.items()}

    def changes(self) -> list[Any]:  # Any: JSON values
        """The assets of which a member served since the last call: there are no more of them than the file declares."""
        touched, self._touched = self._touched, set()
        return [[name, self._active[name], self._served[name]] for name in sorted(touched) if name in self._active]

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        for name, active, members in changes:
            self._active[name] = active
            self._served[name] = {str(address): int(at) for address, at in members.items()}

    def __len__(self) -> int:
        return sum(map(len, self._served.values()))
