"""What the declaration says about an address, a name, an account, an object: looked up, never searched.

A plant has thousands of hops and an agent says a window a second for each connection, so no question here may cost more
because there are more hops: addresses go through one table per prefix length (at most 33 for IPv4 and 129 for IPv6, most
plants use five), ends and accounts through dictionaries, and hops through the pair (server end, client zone) that joins
them. Only globs are tried one after another, per asset, and what they answered is remembered in bounded caches.

A name approves only where an answer on the wire, not the sender, gave it: ``by`` must be ``dns``, or the nets of the
asset's zone must hold the address. SNI alone (RFC 6066, 3) is the sender's claim.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, inet_pton
from typing import Any, Final, Generic, TypeVar, cast

from hopwatch.declared.catalogue import is_metadata
from hopwatch.declared.model import OFF_SITE, TRANSIT_ORDER, Account, Architecture, Conduit, Hop, PlannedException, Service
from hopwatch.declared.rules import shared
from hopwatch.events import Endpoint, Name

CACHE_ENTRIES_MAX: Final = 65_536
"""Answers remembered per question; the one worked out first is forgotten."""

METADATA: Final = "metadata"
"""The built-in class of catalogues: what a client reads to find its way, not the plant's data."""

UNKNOWN_OBJECT: Final = "unknown"
"""What a decoder names an object it could not read."""

ASKED_BY: Final = frozenset({"connect", "absolute-form", "socks"})
"""How a client names its real destination to a relay (RFC 9110, 9.3.6; RFC 9112, 3.2.2; RFC 1928)."""

OUTER_SNI: Final = "outer-sni"
"""The name in the open beside an Encrypted Client Hello (RFC 9849): who stands before the destination, so it approves nothing."""

# Where a service is dialled that names only its protocol, for flows nobody decoded (IANA port numbers).
_PORTS: Final = {"dns": 53, "ntp": 123, "dhcp": 67, "syslog": 514, "snmp": 161, "ldap": 389, "kerberos": 88, "smb": 445}

_BROADCAST: Final = "255.255.255.255"
_BROADCAST_NET: Final = "255.255.255"

_UNKNOWN: Final = object()

BYTES: Final = frozenset(map(str, range(256)))
"""The last number of an IPv4 address, as it is written."""

_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")


class Remembered(Generic[_Key, _Answer]):
    """A question whose answers are kept; at the bound the one worked out first is forgotten, and counted.

    Not the one asked longest ago: to note that costs more than to work out now and then what is asked all the time.
    """

    def __init__(self, answer: Callable[[_Key], _Answer]) -> None:
        self._answer = answer
        self.kept: OrderedDict[_Key, _Answer] = OrderedDict()
        self.forgotten_total = 0

    def __call__(self, key: _Key) -> _Answer:
        """The answer, worked out the first time."""
        # What many ask for once is seldom there: looking costs less than being wrong.
        found = self.kept.get(key, _UNKNOWN)
        if found is _UNKNOWN:
            found = self.kept[key] = self._answer(key)
            if len(self.kept) > CACHE_ENTRIES_MAX:
                self.kept.popitem(last=False)
                self.forgotten_total += 1
        return cast(_Answer, found)

    def __len__(self) -> int:
        return len(self.kept)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a flow as the declaration knows it.

    ``asset`` is the asset that answers at this address and port; ``host`` any asset of the address, whatever the port.
    ``name`` is the name that led to the zone or asset, ``claimed`` one that nothing confirmed. ``places`` is everything a list of
    places may call the end: its address, asset, host and zone. ``shown`` is how a finding names it: its asset, a confirmed name, or
    the address.
    """

    address: str
    port: int
    zone: str | None
    asset: str | None
    host: str | None
    name: str | None = None
    claimed: str | None = None
    places: frozenset[str | None] = field(init=False, compare=False, repr=False)
    shown: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", frozenset((self.address, self.asset, self.host, self.zone)))
        object.__setattr__(self, "shown", self.asset or self.host or self.name or self.address)


@dataclass(frozen=True, slots=True)
class Classified:
    """What the declaration knows about one object: its entries (highest class only) and every class met."""

    entries: frozenset[str]
    classes: frozenset[str]
    decoy: bool = False
    metadata: bool = False
    unclassified: bool = False
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Met:
    """What the declaration knows about one set of objects and its columns: everything that is the same whatever the hop."""

    found: dict[str, Classified]
    classes: frozenset[str]
    metadata: bool = False
    """Every object is of a catalogue, and there is one."""
    unknown: bool = False
    unclassified: bool = False
    decoy: bool = False
    """An object could not be read; nothing classes it; it is a decoy."""


NOTHING_MET: Final = Met({}, frozenset())


class Index:
    """A declaration, indexed once. ``visited_total`` counts hops looked at, so that a test can prove it stays small."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.hops: tuple[tuple[str, Hop], ...] = tuple(architecture.hops.items())
        self.visited_total = 0
        self._class_order = {name: place for place, name in enumerate(architecture.classes)}
        self._build_places()
        self._build_hops()
        self._build_services()
        self._build_data()
        self._build_accounts()
        self._zones = Remembered(self._zone)
        self._places = Remembered[tuple[str, int], End](lambda key: self.end(*key))
        self._anyones = Remembered(self._anyone)
        self._nets_of_anyone = Remembered(self._anyone_of_net)
        self.nets_of_anyone = self._nets_of_anyone.kept
        """What is known for ``anyone`` of the first three numbers of addresses; for whoever does not change it."""

        self._classified = Remembered(self._classify)
        self._account_names = Remembered(self._account)
        self._met = Remembered(self._meet)
        self._transit: dict[str, int] = {}
        self.class_transit = {name: TRANSIT_ORDER.index(one.transit) for name, one in architecture.classes.items()}
        self._class_names: dict[str, frozenset[str]] = {}

    # Places

    def zone(self, address: str) -> str | None:
        """The zone whose net holds the address, the longest prefix first; None outside every zone."""
        # As for ``anyone``: of most addresses it is known by what they begin with.
        net, _, last = address.rpartition(".")
        anyone = self.nets_of_anyone.get(net) if last in BYTES else None
        return self._zone_of_anyone[anyone] if anyone else self._zones(address)

    def end(self, address: str, port: int, names: Sequence[Name] = ()) -> End:
        """What the declaration knows about an address, its port and the names given for it."""
        zone = self.zone(address)
        host = self._hosts.get(address)
        asset = self._listeners.get((address, port)) or self._listeners.get((address, None))
        relay = asset is not None and self.architecture.assets[asset].relay
        claimed: str | None = None
        for given in names:
            name = given.name.rstrip(".").lower()
            if relay and given.by in ASKED_BY:
                return self._asked(address, port, name, given.port or None)
            if given.by == OUTER_SNI:
                claimed = claimed or name
                continue
            named = self._asset_of_name(name, port)
            if given.by == "dns" or (named is not None and zone is not None and self.architecture.assets[named].zone == zone):
                named_zone = self.architecture.assets[named].zone if named else self._zone_of_name(name)
                if named is not None or named_zone is not None:
                    return End(address, port, zone or named_zone, asset or named, host or named, name)
                if given.by == "dns":
                    claimed = claimed or name
                    continue
            claimed = claimed or name
        return End(address, port, zone, asset, host, None, claimed)

    def place(self, seen: Endpoint) -> End:
        """The same of an end whose port is not asked for: a client is the same end on all its connections, and known at once."""
        if seen.names:
            return self.end(seen.address, seen.port, seen.names)
        return self._places((seen.address, seen.port if self.listens(seen.address, seen.port) else 0))

    def anyone(self, address: str) -> str | None:
        """What stands for every host of the zone that nothing in the file tells from the others; None of any other address."""
        # A plant has many clients and few nets: of most 256 addresses in a row it is known at once.
        net, _, last = address.rpartition(".")
        found = self._nets_of_anyone(net) if last in BYTES else None
        return found or self._anyones(address)

    def listens(self, address: str, port: int) -> bool:
        """Whether an asset answers at this very port."""
        return (address, port) in self._listeners

    def _asked(self, address: str, port: int, name: str, asked_port: int | None) -> End:
        """The destination a relay at ``address`` was asked for, by its name or by its address."""
        try:
            wanted = str(ip_address(name))
        except ValueError:
            named = self._asset_of_name(name, asked_port)
            zone = self.architecture.assets[named].zone if named else self._zone_of_name(name)
            return End(address, port, zone, named, named, name)
        asset = self._listeners.get((wanted, asked_port)) or self._listeners.get((wanted, None))
        return End(address, port, self.zone(wanted), asset, self._hosts.get(wanted), name)

    def is_off_site(self, zone: str | None) -> bool:
        """Whether the zone lies off site; an address in no zone counts as off site."""
        return zone is None or self.architecture.zones[zone].off_site

    # Hops

    def joined(self, server: End, client: End) -> list[str]:
        """The hops that join a flow, in file order: the server is the hop's asset and the client lies in the other end's zone."""
        found: set[int] = set()
        if client.zone is not None:
            if server.asset is not None:
                found.update(self._pairs.get(("asset", server.asset, client.zone), ()))
            if server.zone is not None:
                found.update(self._pairs.get(("zone", server.zone, client.zone), ()))
        relay = self.relay(server)
        if relay is not None and client.zone is not None and server.name is None:
            found.update(self._through.get((relay, "client", client.zone), ()))
        relay = self.relay(client)
        if relay is not None:
            if server.asset is not None:
                found.update(self._through.get((relay, "asset", server.asset), ()))
            if server.zone is not None:
                found.update(self._through.get((relay, "zone", server.zone), ()))
        self.visited_total += len(found)
        return [self.hops[place][0] for place in sorted(found)]

    def relay_between(self, hop: Hop, server: End, client: End) -> str | None:
        """``in`` where the server end is the relay of the hop's conduit, ``out`` where the client end is, None without relay."""
        through = self._relay_of_hop(hop)
        if through is None:
            return None
        if through in (server.asset, server.host) or self._listeners.get((server.address, server.port)) == through:
            return "in"
        return "out" if through in (client.asset, client.host) else None

    def runs_forward(self, name: str, source: End, destination: End) -> bool:
        """Whether data from source to destination runs the hop's way."""
        hop = self.architecture.hops[name]
        met = is_any(source, hop.from_) + is_any(destination, hop.to)
        back = is_any(source, hop.to) + is_any(destination, hop.from_)
        if met and met < back:
            # A replaced host meets neither end; the end that is known then says which way the data runs.
            relay = self._relay_of_hop(hop)
            return relay is not None and (relay in source.places or relay in destination.places)
        return met > 0 or back == 0

    def conduit(self, hop: Hop) -> Conduit | None:
        """The conduit the hop goes through; None inside one zone."""
        return self.architecture.conduits.get(hop.via) if hop.via is not None else None

    def hops_at(self, asset: str | None) -> Sequence[int]:
        """Places of the hops with this asset at either end."""
        return self._by_asset.get(asset or "", ())

    def hops_of(self, account: str | None) -> Sequence[int]:
        """Places of the hops of this account."""
        return self._by_account.get(account or "", ())

    def hops_with(self, class_name: str) -> Sequence[int]:
        """Places of the hops that carry the class."""
        return self._by_class.get(class_name, ())

    def sizes(self) -> dict[str, int]:
        """How many answers are remembered."""
        return {name: len(cache) for name, cache in self._caches().items()}

    def forgotten(self) -> dict[str, int]:
        """How many answers a bound has pushed out; they are worked out again when asked for."""
        return {name: cache.forgotten_total for name, cache in self._caches().items()}

    def _caches(self) -> dict[str, Remembered[Any, Any]]:  # Any: each question has its own key and answer
        return {
            "zones": self._zones,
            "places": self._places,
            "anyones": self._anyones,
            "nets": self._nets_of_anyone,
            "objects": self._classified,
            "identities": self._account_names,
            "object_sets": self._met,
        }

    # Services

    def services(self, server: End, client: End, port: int, protocol: str | None) -> list[tuple[str, Service]]:
        """Services whose servers, users and port or protocol are those of the flow."""
        keys = [key for key in (server.address, server.asset, server.host, server.zone) if key is not None]
        names = dict.fromkeys(name for key in keys for name in self._services.get(key, ()))
        found = []
        for name in names:
            service = self.architecture.services[name]
            # A port without its protocol read still says which service was dialled.
            right = port in service.ports
            if service.protocol is not None:
                right = right or service.protocol == protocol or (protocol is None and _PORTS.get(service.protocol) == port)
            if (right or (service.protocol is None and not service.ports)) and is_any(client, service.from_):
                found.append((name, service))
        return found

    # Accounts

    def account(self, identity: str | None) -> str | None:
        """The declared account of an identity seen on the wire: its name, or a glob of its ``identities``."""
        return None if identity is None else self._account_names(identity)

    def comes_from(self, account: Account, client: End) -> bool:
        """Whether the client is one of the hosts the account may come from."""
        return is_any(client, account.from_)

    def exceptions_of_hop(self, hop: str) -> Sequence[tuple[str, PlannedException]]:
        """Planned oddities of the hop."""
        return self._exceptions_by_hop.get(hop, ())

    def exceptions_of_account(self, account: str) -> Sequence[tuple[str, PlannedException]]:
        """Tickets under which the account may work."""
        return self._exceptions_by_account.get(account, ())

    def calendar_of_hop(self, hop: str) -> Sequence[int]:
        """Places of the calendar lines that loosen the hop."""
        return self._calendar_by_hop.get(hop, ())

    # Data

    def classify(self, asset: str | None, name: str) -> Classified:
        """The entries and classes of an object as the asset names it; of several entries the highest class holds."""
        return self._classified((asset, name))

    def column_classes(self, asset: str | None, tables: Iterable[str], columns: Iterable[str]) -> frozenset[str]:
        """Classes that column globs give to these columns in whatever table; ``*`` is every column."""
        globs = self._columns.get(asset or "", ())
        named = list(columns)
        if not globs or not named:
            return frozenset()
        if "*" in named:
            return frozenset(class_name for _, class_name in globs)
        full = {f"{table}.{column}" for table in tables for column in named} | set(named)
        return frozenset(class_name for matches, class_name in globs if any(matches(column) for column in full))

    def met(self, asset: str | None, names: Sequence[str], columns: Sequence[str]) -> Met:
        """What is known about objects and their columns, as the asset names them."""
        return self._met((asset, tuple(names), tuple(columns)))

    def holds_data(self, asset: str | None) -> bool:
        """Whether the declaration classes what the asset holds."""
        return asset is not None and asset in self._data

    def behind(self, relay: str | None) -> str | None:
        """The one asset with classed data that hops through the relay begin or end at; None if there are none or several."""
        return self._behind.get(relay or "")

    def highest(self, classes: Iterable[str]) -> str | None:
        """The class listed last among these; None of none."""
        known = [name for name in classes if name in self._class_order]
        return max(known, key=self._class_order.__getitem__, default=None)

    def hop_classes(self, name: str) -> frozenset[str]:
        """The classes of what the hop names."""
        found = self._class_names.get(name)
        if found is None:
            hop = self.architecture.hops[name]
            found = self._class_names[name] = frozenset(self.architecture.data[one].class_ for one in hop.what)
        return found

    def hop_transit(self, name: str) -> int:
        """What the hop demands in transit, by its place in ``TRANSIT_ORDER``; it follows from every class the hop meets."""
        found = self._transit.get(name)
        if found is None:
            found = self._transit[name] = TRANSIT_ORDER.index(self.architecture.hop_transit(self.architecture.hops[name]))
        return found

    # What the constructor builds

    def _build_places(self) -> None:
        self._nets: dict[int, list[tuple[int, dict[int, str]]]] = {4: [], 6: []}
        tables: dict[tuple[int, int], dict[int, str]] = {}
        self._zone_names: list[tuple[Callable[[str], bool], str]] = []
        # A net's own broadcast address (RFC 919, 7): a host shouts into its net as to 255.255.255.255.
        nets = [net for zone in self.architecture.zones.values() for net in zone.nets]
        self.broadcasts = frozenset(str(net.broadcast_address) for net in nets if net.version == 4 and net.prefixlen < 31)
        for name, zone in self.architecture.zones.items():
            for net in zone.nets:
                shift = net.max_prefixlen - net.prefixlen
                tables.setdefault((net.version, shift), {}).setdefault(int(net.network_address) >> shift, name)
            self._zone_names.extend((glob(pattern.lower()), name) for pattern in zone.names)
        for (version, shift), table in sorted(tables.items()):
            self._nets[version].append((shift, table))
        self._listeners: dict[tuple[str, int | None], str] = {}
        self._hosts: dict[str, str] = {}
        self._names: dict[str, list[tuple[int | None, str]]] = {}
        self._name_globs: list[tuple[Callable[[str], bool], int | None, str]] = []
        for name, asset in self.architecture.assets.items():
            for endpoint in asset.endpoints:
                if endpoint.address is not None:
                    self._listeners.setdefault((str(endpoint.address), endpoint.port), name)
                    self._hosts.setdefault(str(endpoint.address), name)
                elif "*" in endpoint.host:
                    self._name_globs.append((glob(endpoint.host.lower()), endpoint.port, name))
                else:
                    self._names.setdefault(endpoint.host.lower(), []).append((endpoint.port, name))

        # Whatever a list of places may name: an asset or a zone, or an address by itself.
        plant = self.architecture
        lists = [account.from_ for account in plant.accounts.values()]
        lists += [places for service in plant.services.values() for places in (service.from_, service.to)]
        lists += [places for hop in plant.hops.values() for places in (hop.from_, hop.to)]
        self._listed = frozenset(place for places in lists for place in places)
        self._nets_told_apart = frozenset(place.rpartition(".")[0] for place in (*self._hosts, *self._listed))
        self._anyone_in = {zone: f"anyone in {zone}" for zone in plant.zones}
        self._zone_of_anyone = {anyone: zone for zone, anyone in self._anyone_in.items()}

    def _build_hops(self) -> None:
        assets = self.architecture.assets
        self._relay_assets = frozenset(name for name, asset in assets.items() if asset.relay)
        self._relays = {name: door.through for name, door in self.architecture.conduits.items() if door.through in self._relay_assets}
        # Ends known only by a name that many tenants share: it says who received the data, not whose it is there.
        self.shared = frozenset(
            [name for name, asset in assets.items() if any("*" in one.host or shared(one.host) for one in asset.endpoints)]
            + [name for name, zone in self.architecture.zones.items() if not zone.nets and any(map(shared, zone.names))]
        )
        self._pairs: dict[tuple[str, str, str], list[int]] = {}
        self._through: dict[tuple[str, str, str], list[int]] = {}
        self._by_asset: dict[str, list[int]] = {}
        self._by_account: dict[str, list[int]] = {}
        self._by_class: dict[str, list[int]] = {}
        for place, (_, hop) in enumerate(self.hops):
            from_zones, to_zones = self.architecture.hop_zones(hop)
            relay = self._relay_of_hop(hop)
            for servers, zones in ((hop.from_, to_zones), (hop.to, from_zones)):
                for server in servers:
                    kind = "asset" if server in self.architecture.assets else "zone"
                    for zone in zones:
                        self._pairs.setdefault((kind, server, zone), []).append(place)
                    if relay is not None:
                        self._through.setdefault((relay, kind, server), []).append(place)
            if relay is not None:
                for zone in from_zones | to_zones:
                    self._through.setdefault((relay, "client", zone), []).append(place)
            for end in dict.fromkeys((*hop.from_, *hop.to)):
                self._by_asset.setdefault(end, []).append(place)
            self._by_account.setdefault(hop.who, []).append(place)
            for class_name in {self.architecture.data[name].class_ for name in hop.what if name in self.architecture.data}:
                self._by_class.setdefault(class_name, []).append(place)
        self._calendar_by_hop: dict[str, list[int]] = {}
        for place, line in enumerate(self.architecture.calendar):
            for name in line.hops:
                self._calendar_by_hop.setdefault(name, []).append(place)
        self._exceptions_by_hop: dict[str, list[tuple[str, PlannedException]]] = {}
        self._exceptions_by_account: dict[str, list[tuple[str, PlannedException]]] = {}
        for name, planned in self.architecture.exceptions.items():
            if planned.hop is not None:
                self._exceptions_by_hop.setdefault(planned.hop, []).append((name, planned))
            if planned.account is not None:
                self._exceptions_by_account.setdefault(planned.account, []).append((name, planned))

    def _build_services(self) -> None:
        self._services: dict[str, list[str]] = {}
        for name, service in self.architecture.services.items():
            for place in service.to:
                self._services.setdefault(place, []).append(name)

    def _build_data(self) -> None:
        # Per asset: what matches a name, the entry it belongs to. An entry without globs is everything the asset holds.
        self._data: dict[str, list[tuple[Callable[[str], bool], str]]] = {}
        self._topics: dict[str, list[tuple[str, str]]] = {}
        self._columns: dict[str, list[tuple[Callable[[str], bool], str]]] = {}
        for name, entry in self.architecture.data.items():
            for asset in entry.in_:
                tried = self._data.setdefault(asset, [])
                tried.extend((glob(pattern), name) for pattern in (*entry.tables, *entry.nodes, *entry.paths))
                self._topics.setdefault(asset, []).extend((pattern, name) for pattern in entry.topics)
                self._columns.setdefault(asset, []).extend((glob(pattern), entry.class_) for pattern in entry.columns)
                if not (entry.tables or entry.nodes or entry.paths or entry.topics or entry.columns):
                    tried.append((lambda _: True, name))

        behind: dict[str, set[str]] = {}
        for relay, kind, place in self._through:
            if kind == "asset" and place in self._data:
                behind.setdefault(relay, set()).add(place)
        self._behind = {relay: next(iter(assets)) for relay, assets in behind.items() if len(assets) == 1}

    def _build_accounts(self) -> None:
        self._identities = [(glob(pattern), name) for name, account in self.architecture.accounts.items() for pattern in account.identities]

    # How each question is answered the first time

    def _zone(self, address: str) -> str | None:
        try:
            # As ip_address reads it, in a fifth of the time: a plant under a scan asks for each address once.
            whole = int.from_bytes(inet_pton(AF_INET, address), "big")
        except (OSError, ValueError):
            return self._zone_of_number(address)
        for shift, table in self._nets[4]:
            if whole >> shift in table:
                return table[whole >> shift]
        return None

    def _zone_of_number(self, address: str) -> str | None:
        try:
            number = ip_address(address.partition("%")[0])
        except ValueError:
            return None
        if isinstance(number, IPv6Address) and number.ipv4_mapped is not None:
            number = number.ipv4_mapped
        for shift, table in self._nets[4 if isinstance(number, IPv4Address) else 6]:
            zone = table.get(int(number) >> shift)
            if zone is not None:
                return zone
        return None

    def _anyone(self, address: str) -> str | None:
        zone = self._zone(address)
        told_apart = address in self._hosts or address in self._listed or is_for_neighbours(address)
        return None if zone is None or told_apart else self._anyone_in[zone]

    def _anyone_of_net(self, net: str) -> str | None:
        """What stands for every address that begins so and has one number more; None if that is not the same for all of them."""
        try:
            first = int.from_bytes(inet_pton(AF_INET, f"{net}.0"), "big")
        except (OSError, ValueError):
            return None
        smaller = any(number << shift >> 8 == first >> 8 for shift, table in self._nets[4] if shift < 8 for number in table)
        if smaller or net in self._nets_told_apart or net == _BROADCAST_NET or is_for_neighbours(f"{net}.0"):
            return None
        zone = self._zone(f"{net}.0")
        return None if zone is None else self._anyone_in[zone]

    def _asset_of_name(self, name: str, port: int | None) -> str | None:
        for at_port, asset in self._names.get(name, ()):
            if port is None or at_port is None or at_port == port:
                return asset
        for matches, at_port, asset in self._name_globs:
            if matches(name) and (port is None or at_port is None or at_port == port):
                return asset
        return None

    def _zone_of_name(self, name: str) -> str | None:
        return next((zone for matches, zone in self._zone_names if matches(name)), None)

    def relay(self, end: End) -> str | None:
        """The relay that the end is, if it is one."""
        return next((name for name in (end.asset, end.host) if name in self._relay_assets), None)

    def _relay_of_hop(self, hop: Hop) -> str | None:
        return None if hop.via is None else self._relays.get(hop.via)

    def _account(self, identity: str) -> str | None:
        if identity in self.architecture.accounts:
            return identity
        return next((name for matches, name in self._identities if matches(identity)), None)

    def _meet(self, key: tuple[str | None, tuple[str, ...], tuple[str, ...]]) -> Met:
        asset, names, columns = key
        found = {name: self.classify(asset, name) for name in names}
        classes = frozenset(name for one in found.values() for name in one.classes)
        data = [name for name, one in found.items() if not (one.metadata or one.unknown)]
        if data:
            classes |= self.column_classes(asset, data, columns)
        every = found.values()
        return Met(
            found,
            classes,
            metadata=bool(every) and all(one.metadata for one in every),
            unknown=any(one.unknown for one in every),
            unclassified=any(one.unclassified for one in every),
            decoy=any(one.decoy for one in every),
        )

    def _classify(self, key: tuple[str | None, str]) -> Classified:
        asset, name = key
        if name == UNKNOWN_OBJECT:
            return Classified(frozenset(), frozenset(), unknown=True)
        if is_metadata(name):
            return Classified(frozenset(), frozenset(), metadata=True)
        found = {entry for matches, entry in self._data.get(asset or "", ()) if matches(name)}
        covered, broad = bool(found), False
        topic = shared_filter(name)
        for pattern, entry in self._topics.get(asset or "", ()):
            if filter_covers(pattern, topic):
                found.add(entry)
                covered = True
            elif ("+" in topic or "#" in topic) and filters_overlap(pattern, topic):
                # A filter wider than the entry reaches the entry's topics and others, which something else must class.
                found.add(entry)
                broad = True
        decoy = any(self.architecture.data[entry].decoy for entry in found)
        classes = frozenset(self.architecture.data[entry].class_ for entry in found)
        if not covered:
            return Classified(frozenset(), classes, decoy=decoy and not broad, unclassified=True)
        highest = self.highest(classes)
        entries = frozenset(entry for entry in found if self.architecture.data[entry].class_ == highest)
        return Classified(entries, classes, decoy=decoy)


def is_for_neighbours(address: str) -> bool:
    """Whether the address is link-local, broadcast or multicast (RFC 3927, RFC 919, RFC 5771, RFC 4291).

    Addresses are in their canonical text, and every window asks: no parsing.
    """
    first, dot, _ = address.partition(".")
    if dot:
        return address == _BROADCAST or address.startswith("169.254.") or (len(first) == 3 and "224" <= first <= "239")
    group = address.partition(":")[0].lower()
    return len(group) == 4 and (group.startswith("ff") or group[:3] in ("fe8", "fe9", "fea", "feb"))


def is_any(end: End, places: Iterable[str]) -> bool:
    """Whether the end is one of the places a list names: zones, assets or addresses."""
    return not end.places.isdisjoint(places)


@lru_cache(maxsize=16_384)
def glob(pattern: str) -> Callable[[str], bool]:
    """What matches the whole of a name; ``*`` is any text, dots and slashes included, and nothing else is special."""
    if "*" not in pattern:
        return pattern.__eq__
    # Adjacent stars mean one and would only make the match slow.
    expression = re.compile(".*?".join(re.escape(part) for part in re.sub(r"\*+", "*", pattern).split("*")), re.DOTALL)
    return lambda name: expression.fullmatch(name) is not None


def shared_filter(name: str) -> str:
    """The filter inside a shared subscription ``$share/group/filter`` (OASIS MQTT 5.0, 4.8.2); other names as they are."""
    if name.startswith("$share/"):
        parts = name.split("/", 2)
        return parts[2] if len(parts) == 3 else name
    return name


def filter_covers(pattern: str, other: str) -> bool:
    """Whether every topic that ``other`` (a topic or a filter) stands for matches the filter (OASIS MQTT 5.0, 4.7)."""
    mine, theirs = pattern.split("/"), other.split("/")
    # Wildcards at the first level do not match topics that begin with $ (4.7.2).
    if theirs[0].startswith("$") and mine[0] in ("#", "+"):
        return False
    for place, level in enumerate(mine):
        if level == "#":
            return True
        if place >= len(theirs):
            return False
        if theirs[place] == "#" or (level != "+" and level != theirs[place]):
            return False
    return len(theirs) == len(mine)


def filters_overlap(one: str, other: str) -> bool:
    """Whether some topic matches both filters."""
    mine, theirs = one.split("/"), other.split("/")
    for level, their in zip(mine, theirs, strict=False):
        if "#" in (level, their):
            return True
        if level != their and "+" not in (level, their):
            return False
    # "sport/#" also matches "sport" (4.7.1.2), hence one level more may follow if it is the wildcard.
    longer, shorter = (mine, theirs) if len(mine) > len(theirs) else (theirs, mine)
    return len(longer) == len(shorter) or longer[len(shorter)] == "#"


def budget_covers_zone(architecture: Architecture, to: str | None, zone: str | None) -> bool:
    """Whether a budget's ``to`` means the zone; ``off-site`` is every off-site zone and what lies in none."""
    if to is None:
        return True
    if to == OFF_SITE:
        return zone is None or architecture.zones[zone].off_site
    return to == zone
