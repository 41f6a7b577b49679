"""Who logged in from where: records of Windows, of a domain controller, or of anything that can write a line of JSON for each login.

They name the account of a connection whose login a tap cannot read. Three shapes: our own (`time`, `client`, `client_port`, `account`, …);
Windows' security log as Winlogbeat or any other writes it after the Elastic Common Schema (`winlog.event_id`, `winlog.event_data`); and
the event's own XML as JSON (`Event.System`, `Event.EventData`), or flat.

Windows events 4624 (an account was logged on), 4625 (failed), 4634 and 4647 (logged off), and of a domain controller 4768 and 4769
(a Kerberos ticket was granted) (Microsoft, "Appendix L: Events to Monitor"). The port in a Kerberos event is that of the request to
the domain controller, not that of the connection it is for; so these are logins of an address, without a port.
"""

from __future__ import annotations

from typing import Final

from collectors.feed import FeedError
from collectors.records import Entry, Json, Records, found, port_of, text_of, time_of

TICKET_NS: Final = 10 * 3_600 * 10**9
"""For how long a Kerberos ticket is good, if the domain's policy says nothing else (ten hours)."""

LOGON, FAILED, LOGOFF, TICKETS = "4624", "4625", ("4634", "4647"), ("4768", "4769")
NOBODY: Final = frozenset({"ANONYMOUS LOGON", "SYSTEM", "LOCAL SERVICE", "NETWORK SERVICE"})

EVENTS: Final = {"login": "login", "logout": "logout", "refused": "refused", "seen": "seen"}


class Logins(Records):
    """The logins to one server: ``[FEED=]ADDRESS:PORT=PATH[?service=NAME]``. Its own counters: as of all records.

    Of tickets for services, only those for the one of this name count.
    """

    KIND = "logins"
    OPTIONS = ("service",)

    def _begin(self) -> None:
        super()._begin()
        self._service = self._told.options.get("service")
        if self._service == "":
            raise FeedError(f"logins {self._told.feed}: service is empty, expected the name of an account such as svc_sql")

    def _said(self, record: Json) -> list[Entry]:
        number = found(record, "winlog.event_id", "event.code", "Event.System.EventID", "EventID", "EventId", "event_id")
        if isinstance(number, dict):
            number = number.get("#text")
        entry = _plain(record) if number is None else self._windows_event(record, str(number))
        return [] if entry is None else [entry]

    def _windows_event(self, record: Json, number: str) -> Entry | None:
        data = found(record, "winlog.event_data", "Event.EventData", "EventData") or record
        if isinstance(data, list) or (isinstance(data, dict) and isinstance(data.get("Data"), list)):
            # <Data Name="…">: as some write them.
            pairs = data if isinstance(data, list) else data["Data"]
            data = {str(text_of(one, "Name", "@Name", "#attributes.Name")): found(one, "#text", "Value", "value") for one in pairs}
        when = (
            "Event.System.TimeCreated.#attributes.SystemTime",
            "Event.System.TimeCreated.@SystemTime",
            "Event.System.TimeCreated.SystemTime",
        )
        time_ns = time_of(record, "winlog.time_created", *when, "TimeCreated", "EventTime", "@timestamp")
        user, domain = text_of(data, "TargetUserName"), text_of(data, "TargetDomainName")
        logon = text_of(data, "TargetLogonId") or ""
        if number in LOGOFF:
            return Entry(time_ns, "logout", f"logon {logon}")
        if number not in (LOGON, FAILED, *TICKETS):
            return None
        client = (text_of(data, "IpAddress") or "").removeprefix("::ffff:")
        if user is None or user.upper() in NOBODY or user.endswith("$") or client in ("", "::1", "127.0.0.1"):
            return None
        if number in TICKETS:
            user = user.partition("@")[0]
            if (text_of(data, "Status") or "0x0") not in ("0x0", "0"):
                return None
            service = text_of(data, "ServiceName")
            if number == "4769" and self._service is not None and (service or "").lower() != self._service.lower():
                return None
            if number == "4768" and self._service is not None:
                # That somebody logged in to the domain says nothing of this service.
                return None
            account = f"{domain.partition('.')[0].upper()}\\{user}" if domain else user
            session = f"ticket {account} {client}"
            return Entry(time_ns, "login", session, client, 0, account=account, authentication="kerberos", until_ns=time_ns + TICKET_NS)
        account = f"{domain}\\{user}" if domain else user
        method = (text_of(data, "AuthenticationPackageName") or "").lower() or None
        port = port_of(data, "IpPort")
        if number == FAILED:
            return Entry(time_ns, "refused", f"failed {client} {port} {account}", client, port, account=account, authentication=method)
        return Entry(time_ns, "login", f"logon {logon}", client, port, account=account, authentication=method)


def _plain(record: Json) -> Entry | None:
    time_ns = time_of(record, "time", "@timestamp")
    action = text_of(record, "event") or "login"
    if "event" in record and action not in EVENTS:
        outcome = text_of(record, "event.outcome")
        action = {"logged-in": "login", "logged-out": "logout", "session-started": "login", "session-ended": "logout"}.get(
            text_of(record, "event.action") or "", "login"
        )
        action = "refused" if outcome == "failure" else action
    client, port = text_of(record, "client", "source.ip", "client.ip") or "", port_of(record, "client_port", "source.port", "client.port")
    account = text_of(record, "account", "user.name")
    session = text_of(record, "session", "session_id") or f"{client} {port} {'' if port else account}"
    server, server_port = (
        text_of(record, "server", "destination.ip", "server.ip"),
        port_of(record, "server_port", "destination.port", "server.port"),
    )
    if action != "logout" and (not client or not account):
        raise ValueError("a login without its client or its account")
    at = (server, server_port) if server and server_port else None
    application = text_of(record, "application")
    return Entry(time_ns, EVENTS[action], session, client, port, at, account, application, text_of(record, "transport"))  # type: ignore[arg-type]  # The values are verbs.
