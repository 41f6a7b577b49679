"""Was a secret said in clear: a password in a statement, a login that anyone on the wire can read, a token in a URL, a vault without TLS.

Asks: of every window in clear, did whoever listens learn something that opens a door? Sees: the marks ``secret-…`` of object sets
(docs/events.md), logins that send the password or token itself (PostgreSQL ``password``, MySQL ``mysql_clear_password``, SQL Server
where the login is not encrypted, tokens of Oracle, MQTT, HTTP ``basic`` and ``bearer``, SOCKS), and HTTP in clear to a vault. The
sensor notes that there was a secret and of which kind; the secret is in no event, and no finding could show it.

Blind to: secrets under names that are not on the sensor's lists, in bodies, in payloads, and put together by the statement itself; what
encryption hides. A password that OPC UA encrypts by its token policy is none, and one that it does not cannot be told apart from it.
Raised wrongly by: a parameter called ``key`` that is no secret; an account whose cleartext login is declared, and approved on that hop, is
quiet.
What to do: change the secret, then the way it is said: TLS, SCRAM, ``\\password`` of psql, a header inside TLS.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from detectors.cases import Cases
from detectors.judgement import severities_of
from detectors.memory import Memory
from detectors.moved import Moved, Question
from detectors.units import DAY_NS
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Finding, Severity

CLEAR: Final = frozenset({"none", "opcua-none", "opcua-sign"})
"""Protections under which whoever listens can read."""

LOGINS: Final = {
    "postgresql": frozenset({"password"}),
    "mysql": frozenset({"mysql_clear_password", "dialog"}),
    # LOGIN7 scrambles a password with a constant, a federated login carries its token as it is (MS-TDS 2.2.6.4, 2.2.6.3).
    "tds": frozenset({"password", "fedauth"}),
    "tns": frozenset({"token"}),
    "mqtt": frozenset({"password", "enhanced:PLAIN"}),
    "http": frozenset({"basic", "bearer"}),
    "socks": frozenset({"password"}),
}
"""Ways to log in that say the secret itself, by protocol."""

VAULT_PORT: Final = 8200
VAULT_KINDS: Final = frozenset({"vault", "secret-store", "password-safe"})
"""Kinds of assets that give out secrets."""

SAID: Final = {
    "secret-password": "a password in the text of a statement or command",
    "secret-connection": "a password in a connection string or options",
    "secret-url": "a secret in a URL",
    "secret-header": "a secret in a header line",
    "login": "a login that says the secret",
    "vault": "HTTP in clear to a vault",
}


class Secrets(Question):
    """Windows in clear, by account or host, and kind."""

    name: ClassVar[str] = "secrets"
    by_client: ClassVar[bool] = False

    def __init__(self, architecture: Architecture, quoted: Declaration) -> None:
        self._cases = Cases(quoted, severities_of(architecture))
        self._vaults = {name for name, asset in architecture.assets.items() if asset.kind in VAULT_KINDS}
        self._told: Memory[list[int]] = Memory(lambda: [-1], list, list)

    def memories(self) -> Mapping[str, Memory[Any]]:  # Any: each memory has entries of its own
        """The day on which each was last said, and the open findings."""
        return {"told": self._told, "cases": self._cases.memory}

    def concerns(self, moved: Moved) -> bool:
        """What says a secret in clear: windows like one another say the same kinds."""
        return moved.flow.protection.transport in CLEAR and bool(self._kinds(moved))

    def look(self, moved: Moved) -> Sequence[Finding]:
        """One finding for each account or host and kind, brought up to date once a day."""
        return [found for kind in self._kinds(moved) for found in self._say(moved, kind)]

    def _kinds(self, moved: Moved) -> dict[str, None]:
        """What was said in clear: kinds, with the name that the secret went under where there is one."""
        flow = moved.flow
        kinds = {mark: None for part in flow.objects for mark in part.kinds if mark.startswith("secret-")}
        login = flow.protection.authentication
        if login in LOGINS.get(flow.protocol or "", ()) and not moved.approved:
            kinds[f"login:{login}"] = None
        if flow.protocol == "http" and (moved.server_port == VAULT_PORT or (moved.server.asset or moved.server.host) in self._vaults):
            kinds["vault"] = None
        return kinds

    def _say(self, moved: Moved, kind: str) -> Iterator[Finding]:
        client, server, day = moved.client.shown, moved.server.shown, moved.start_ns // DAY_NS
        told = self._told.of(f"{moved.who}|{client}|{server}|{kind}")
        if told[0] >= day:
            return
        told[0] = day
        sort, _, name = kind.partition(":")
        severity: Severity = "medium" if sort == "secret-url" else "high"
        seen = SAID.get(sort, sort) + (f": {name}" if name else "")
        yield self._cases.say(
            "secret-in-clear", severity, plant=moved.flow.plant, who=moved.account, source=client, destination=server, what=kind,
            first_ns=moved.start_ns, last_ns=moved.end_ns, differences=[("protection", "secrets inside encryption only", seen)],
            moved=moved, hop=moved.hop,
        )  # fmt: skip
