"""How an OPC UA server is asked: one Read of its diagnostics an answer, and a subscription to its audit events.

Who a session is and how it is protected is in a structure of its own, which fewer may read (OPC 10000-5, 12.12).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaError
from cryptography import x509

from collectors import opcua_server as server
from collectors.dialled import STOP_S
from collectors.feed import FeedError, Told
from collectors.log import UNREADABLE

VALUE: Final = AttributeIds.Value
DIAGNOSTICS: Final = (
    ObjectIds.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray,
    ObjectIds.Server_ServerDiagnostics_SubscriptionDiagnosticsArray,
    ObjectIds.Server_ServerDiagnostics_ServerDiagnosticsSummary,
    ObjectIds.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionSecurityDiagnosticsArray,
)

MODES: Final = {1: "opcua-none", 2: "opcua-sign", 3: "opcua-signandencrypt"}
AUDIT_PERIOD_MS: Final = 500
LIFETIME_MS: Final = 60_000

for _name in ("asyncua", "asyncua.client", "asyncua.uaprotocol"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass
class SessionSecurity:
    """SessionSecurityDiagnosticsDataType: asyncua 2.1 takes its field Encoding for the structure's own encoding, and cannot read it."""

    SessionId: ua.NodeId = field(default_factory=ua.NodeId)
    ClientUserIdOfSession: ua.String = None  # type: ignore[assignment]  # as below
    ClientUserIdHistory: list[ua.String] = field(default_factory=list)
    AuthenticationMechanism: ua.String = None  # type: ignore[assignment]  # as below
    EncodingOfSession: ua.String = None  # type: ignore[assignment]  # as below
    TransportProtocol: ua.String = None  # type: ignore[assignment]  # as below
    SecurityMode: ua.MessageSecurityMode = ua.MessageSecurityMode.Invalid
    SecurityPolicyUri: ua.String = None  # type: ignore[assignment]  # as below
    ClientCertificate: ua.ByteString = None  # type: ignore[assignment]  # asyncua leaves out what is said to be optional


ua.register_extension_object(
    "SessionSecurityDiagnosticsDataType",
    ua.NodeId(ua.Int32(ObjectIds.SessionSecurityDiagnosticsDataType_Encoding_DefaultBinary)),
    SessionSecurity,
)


@dataclass(slots=True)
class _Known:
    """Who a session is, and how it is protected."""

    user: str = ""
    mode: str = "unknown"
    policy: str = ""
    certificate: x509.Certificate | None = None


@dataclass(slots=True)
class _Heard:
    """Audit events since the last answer."""

    written: dict[str, Counter[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    count: int = 0


class _Own(Client):
    """A client that knows its own session."""

    own_session: ua.NodeId | None = None

    async def create_session(self) -> Any:  # Any: as asyncua says it
        made = await super().create_session()
        self.own_session = made.SessionId
        return made


class Asking:
    """One connection to a server, as long as it stands."""

    def __init__(self, told: Told, password: str | None, clients: server.Clients) -> None:
        self._told, self._password, self._clients = told, password, clients
        self._certificates: dict[bytes, x509.Certificate | None] = {}
        self._heard = _Heard()
        poll_s = int(told.options.get("poll", "5"))
        # The watchdog reads the server's state; it needs to do so no oftener than it is asked anyway.
        self._client = _Own(told.where, timeout=server.TIMEOUT_S, watchdog_intervall=float(max(poll_s, 5)))
        self._client.session_timeout = LIFETIME_MS
        self._client.application_uri = told.options.get("uri", "urn:hopwatch")
        self._client.name = self._client.description = "hopwatch"

    async def __aenter__(self) -> Asking:
        options, client = self._told.options, self._client
        if "cert" in options:
            await client.set_security(
                SecurityPolicyBasic256Sha256,
                Path(options["cert"]),
                Path(options["key"]),
                server_certificate=options["server_cert"],
                mode=ua.MessageSecurityMode.SignAndEncrypt,
            )
        if "user" in options:
            client.set_user(options["user"])
            client.set_password(self._password or "")
        elif "user_cert" in options:
            await client.load_client_certificate(options["user_cert"])
            await client.load_private_key(Path(options["user_key"]))
        await client.connect()
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            await asyncio.wait_for(self._client.disconnect(), STOP_S / 2)

    async def answer(self, now_ns: Callable[[], int]) -> dict[str, Any]:  # Any: JSON values
        """What the server has counted for every session, and what its audit events said since the last answer.

        Raises:
            FeedError: this account may not read the diagnostics, or they are switched off.
        """
        nodes = [ua.NodeId(ua.Int32(number)) for number in DIAGNOSTICS]
        told = await self._client.uaclient.read_attributes(nodes, VALUE)
        sessions, subscriptions, summary, secured = map(_value, told)
        if not isinstance(sessions, list):
            raise FeedError(f"no session diagnostics ({told[0].StatusCode}): the account may not read them, or EnabledFlag is off")
        asked_ns = now_ns()
        # The oldest stay the same from answer to answer, however many there are.
        sessions = sorted(sessions, key=lambda one: (str(one.ClientConnectionTime), _text(one.SessionId)))
        over = max(0, len(sessions) - server.SESSIONS_MAX)
        keys = {_text(one.SessionId): one for one in sessions[: server.SESSIONS_MAX]}
        unread: set[str] = set()
        known: dict[str, _Known] = {}
        for one in secured or ():
            key = _text(one.SessionId)
            try:
                known[key] = self._secured(one)
            except UNREADABLE:
                unread.add(key)
        sent: dict[str, dict[str, int]] = {}
        subscriptions = sorted(subscriptions or [], key=lambda one: int(one.SubscriptionId))
        over += max(0, len(subscriptions) - server.SUBSCRIPTIONS_MAX)
        for one in subscriptions[: server.SUBSCRIPTIONS_MAX]:
            key = _text(one.SessionId)
            counts = sent.setdefault(key, {})
            try:
                counts[f"{server.VALUES}{one.SubscriptionId}"] = one.DataChangeNotificationsCount + one.EventNotificationsCount
                counts[f"{server.NOTES}{one.SubscriptionId}"] = max(0, one.NextSequenceNumber - 1)
            except UNREADABLE:
                unread.add(key)
        read: dict[str, Any] = {}  # Any: JSON values
        for key, one in keys.items():
            try:
                read[key] = self._session(key, one, known.get(key, _Known()), sent.get(key, {}), asked_ns)
            except UNREADABLE:
                unread.add(key)
        heard, self._heard = self._heard, _Heard()
        return {
            "time_ns": asked_ns,
            "sessions": {key: said for key, said in read.items() if key not in unread},
            "unread": sorted(unread & keys.keys()),
            "cumulated": None if summary is None else summary.CumulatedSessionCount,
            "written": {user: dict(nodes_) for user, nodes_ in heard.written.items()},
            "refused": heard.refused,
            "audited": heard.count,
            "over": over,
        }

    def _session(
        self, key: str, said: Any, known: _Known, sent: dict[str, int], asked_ns: int
    ) -> dict[str, Any]:  # Any: asyncua's structure; JSON values
        uri = _clip(said.ClientDescription.ApplicationUri)
        host, port = self._clients.place(uri, known.certificate) or "", 0
        if self._client.own_session is not None and key == _text(self._client.own_session):
            host, port = self._own_address()
        counts = {name: _total(said, name) for name in server.SERVICES}
        return {
            "name": uri or _clip(said.SessionName),
            "user": known.user,
            "account": server.account_of(known.user, known.certificate, uri),
            "host": host,
            "port": port,
            "first_ns": server.started(said.ClientConnectionTime, asked_ns),
            "mode": known.mode,
            "policy": known.policy,
            "counts": counts | sent,
        }

    def _own_address(self) -> tuple[str, int]:
        transport = getattr(self._client.uaclient.protocol, "transport", None)
        found = transport.get_extra_info("sockname") if transport is not None else None
        return (found[0], found[1]) if found else ("", 0)

    def _secured(self, said: SessionSecurity) -> _Known:
        der = said.ClientCertificate or b""
        if der not in self._certificates:
            if len(self._certificates) >= server.SESSIONS_MAX:
                self._certificates.clear()
            self._certificates[der] = None
            with suppress(ValueError):
                # A chain has the client's own first (OPC 10000-6, 6.2.6).
                self._certificates[der] = x509.load_der_x509_certificate(first_certificate(der))
        mode, policy = MODES.get(int(said.SecurityMode), "unknown"), _clip(said.SecurityPolicyUri).rpartition("#")[2]
        return _Known(_clip(said.ClientUserIdOfSession), mode, policy, self._certificates[der])

    # Audit events.

    async def _listen(self) -> None:
        """A server without them, or an account that may not have them, is read all the same."""
        chosen = ua.EventFilter()
        for number, name in server.AUDIT_FIELDS:
            operand = ua.SimpleAttributeOperand()
            operand.TypeDefinitionId = ua.NodeId(ua.Int32(number))
            operand.BrowsePath = [ua.QualifiedName(name)]
            operand.AttributeId = VALUE
            chosen.SelectClauses.append(operand)
        with suppress(UaError):
            made = await self._client.create_subscription(AUDIT_PERIOD_MS, self)
            await made.subscribe_events(self._client.nodes.server, ObjectIds.AuditEventType, evfilter=chosen)

    def event_notification(self, event: Any) -> None:  # Any: as asyncua says it
        """One audit event."""
        heard, kind = self._heard, getattr(event, "EventType", None)
        if heard.count >= server.AUDITED_MAX or not isinstance(kind, ua.NodeId) or kind.NamespaceIndex:
            return
        heard.count += 1
        good = getattr(event, "Status", None) is not False
        if kind.Identifier == server.AUDIT_WRITE and good:
            heard.written.setdefault(_clip(getattr(event, "ClientUserId", None)), Counter())[_text(event.SourceNode)] += 1
        elif kind.Identifier in server.AUDIT_SESSIONS and not good:
            certificate = None
            with suppress(ValueError, TypeError):
                certificate = x509.load_der_x509_certificate(getattr(event, "ClientCertificate", None) or b"")
            heard.refused.append(self._clients.place("", certificate) or "")

    def status_change_notification(self, status: Any) -> None:  # Any: as asyncua says it
        """The subscription has ended; the next answer fails, or goes without audit events."""


def first_certificate(der: bytes) -> bytes:
    """The first of a chain of certificates, by the length in its head (X.690, 8.1.3)."""
    if len(der) < 4 or der[1] & 0x80 == 0:
        return der
    octets = der[1] & 0x7F
    return der[: 2 + octets + int.from_bytes(der[2 : 2 + octets], "big")]


def _value(said: ua.DataValue) -> Any:  # Any: values of OPC UA
    if said.Value is None or said.StatusCode is None or not said.StatusCode.is_good():
        return None
    return said.Value.Value


def _total(said: Any, name: str) -> int:  # Any: asyncua's structure
    found = getattr(said, name, 0)
    return int(getattr(found, "TotalCount", found) or 0)


def _clip(text: object) -> str:
    return text[: server.NAME_CHARS_MAX] if isinstance(text, str) else ""


def _text(node: ua.NodeId) -> str:
    return str(node.to_string())
