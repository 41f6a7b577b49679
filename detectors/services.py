"""What a plant needs besides: services by which machines find, name, time and keep one another, each up to its cap.

A window of a service is no movement of data between assets; beyond its cap, with data that the file classes, or under somebody's account
from elsewhere, it is judged as any flow.
"""

from typing import Final

from detectors.budget import Budgets
from detectors.compare import ATTEMPT, CONTROL, Seen, counted_as
from detectors.judgement import Opinion, raised
from detectors.kept import WHOLE, Allowance
from hopwatch.declared.match import Index, is_for_neighbours
from hopwatch.declared.model import Architecture, Service
from hopwatch.declared.quantity import Limit, Unit
from hopwatch.events import Flow

DISCOVERY_LIMIT: Final = Limit.parse("1 MiB / 1d")
"""What a pair may exchange by ICMP, link-local, broadcast and multicast before it is judged as any flow."""

_ICMP: Final = frozenset({"icmp", "icmp6", "icmpv6", "ipv6-icmp"})


class Services:
    """The services of one declaration; what peers spend of their caps is counted in ``caps``."""

    def __init__(self, architecture: Architecture, index: Index, caps: Budgets) -> None:
        self._architecture, self._index, self._caps = architecture, index, caps

    def service(self, seen: Seen) -> tuple[str, Opinion] | None:
        """The service the window belongs to and what is said of its cap; None if it is judged as any flow."""
        flow = seen.flow
        if any(met.decoy for met in seen.met):
            return None
        amount = 0 if seen.again else flow.bytes + flow.bytes_back
        if _is_discovery(flow, self._index):
            seen.asked.personal = True
            pair = "|".join(sorted((flow.source.address, flow.destination.address)))
            if self._caps.would_use(f"discovery:{pair}", DISCOVERY_LIMIT, seen.start_ns, amount) <= DISCOVERY_LIMIT.amount:
                self._cap(seen, f"discovery:{pair}", DISCOVERY_LIMIT, amount)
                return "discovery", Opinion(None)
            seen.asked.anew = True
            return None
        asset = seen.server.asset
        if asset is not None and asset == (seen.client.asset or seen.client.host):
            replication = self._architecture.assets[asset].replication
            # A standby that was cut off knocks until the primary is back, and begins as a base backup.
            knocks = seen.account is None and flow.operation in (ATTEMPT, *CONTROL)
            works = seen.declared_account == replication and flow.operation in ("replicate", "backup", *CONTROL)
            if replication is not None and (works or knocks):
                return "replication", Opinion(None)
        port = seen.server.port
        for name, service in self._index.services(seen.server, seen.client, port, flow.protocol):
            if service.may and flow.operation not in service.may:
                continue
            if service.when is not None and not seen.within(service.when, self._architecture.timezone):
                continue
            if self._is_no_service(seen, service):
                return None
            cap = service.cap
            key = f"service:{name}" + (f"|{seen.client.address}" if cap.per_host else "")
            seen.asked.personal = seen.asked.personal or cap.per_host
            counts = {Unit.ROWS: flow.rows, Unit.VALUES: flow.values, Unit.MESSAGES: flow.messages, Unit.BYTES: amount}
            moved = 0 if seen.again else counts.get(cap.unit, 0)
            used = self._caps.would_use(key, cap, seen.start_ns, moved)
            self._cap(seen, key, cap, moved)
            opinion = Opinion(None)
            if used > cap.amount:
                seen.asked.anew = True
                ratio = used / cap.amount if cap.amount else float("inf")
                opinion.differ(
                    "over-limit", raised("medium", ratio), "how_much", f"{name}: {cap}", f"{used} {cap.unit}, {ratio:.1f} x", ratio
                )
            return name, opinion
        return None

    def _is_no_service(self, seen: Seen, service: Service) -> bool:
        """Whether it is a hop's affair whoever is listed as a service: somebody's account elsewhere, or data that the file classes."""
        account = seen.declared_account
        if account is not None and not self._index.comes_from(self._architecture.accounts[account], seen.client):
            return True
        if any(met.classes for met in seen.met):
            return True
        # What nobody classed is the service's own where it names the operation: a scanner may get, a backup may copy.
        named = bool(service.may) or not self._index.holds_data(seen.server.asset)
        return not named and any(met.unclassified or met.unknown for met in seen.met)

    def _cap(self, seen: Seen, key: str, cap: Limit, amount: int) -> None:
        """Count the whole window against what peers spend."""
        self._caps.charge(key, cap, seen.start_ns, amount)
        one = Allowance(key, cap, amount, counted_as(cap.unit, unread=False, forward=True), cap=True)
        seen.asked.limits.append(one)
        seen.asked.step(WHOLE, (one,))


def _is_discovery(flow: Flow, index: Index) -> bool:
    if flow.transport in _ICMP:
        return True
    ends = (flow.source.address, flow.destination.address)
    return any(map(is_for_neighbours, ends)) or (flow.transport == "udp" and not index.broadcasts.isdisjoint(ends))
