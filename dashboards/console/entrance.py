"""How people come in: nobody is asked on the machine itself, a file of users, a proxy's word, an identity provider."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

from starlette.requests import Request

from dashboards.console.access import NAME, ROLES, Person, Role
from dashboards.console.users import Users

if TYPE_CHECKING:
    from dashboards.console.oidc import Provider

USER_HEADER: Final = "x-forwarded-user"
GROUPS_HEADER: Final = "x-forwarded-groups"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A reverse proxy that has asked who it is; believed from its own addresses only."""

    networks: Sequence[IPv4Network | IPv6Network]
    roles: Mapping[str, Role]
    """The role of each group; the strongest that a person has holds."""

    def person(self, request: Request) -> Person | None:
        """Who it says it is; None from anywhere else, and for a name or group that means nothing here."""
        if request.client is None or not self._trusted(request.client.host):
            return None
        names, groups = request.headers.getlist(USER_HEADER), request.headers.getlist(GROUPS_HEADER)
        if len(names) != 1 or len(groups) > 1 or not NAME.fullmatch(names[0]):
            return None
        role = strongest(self.roles, [group.strip() for group in groups[0].split(",")] if groups else [])
        return None if role is None else Person(names[0], role, "proxy")

    def _trusted(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


@dataclass(slots=True)
class Entrance:
    """Every way in that is open; with none but ``local`` everyone who reaches this console is that person."""

    local: Person | None = None
    users: Users | None = None
    provider: Provider | None = None
    proxy: Proxy | None = None
    names: Collection[str] = field(default_factory=frozenset)

    def known(self, request: Request) -> Person | None:
        """Who it is, where nobody has to be asked."""
        if self.local is not None:
            return self.local
        return self.proxy.person(request) if self.proxy is not None else None

    def still_holds(self, person: Person) -> bool:
        """Whether who came in may stay: a user that was removed, or has another role now, may not; a proxy says it each time."""
        if person.by == "password":
            return self.users is not None and self.users.role(person.name) == person.role
        return person.by not in ("proxy", "this host")

    @property
    def asks(self) -> bool:
        """Whether there is a page to say who one is."""
        return self.users is not None or self.provider is not None


def strongest(roles: Mapping[str, Role], groups: Collection[str]) -> Role | None:
    """The role of these groups; of several the one that stands last in ROLES."""
    held = [roles[group] for group in groups if group in roles]
    return max(held, key=ROLES.index, default=None)
