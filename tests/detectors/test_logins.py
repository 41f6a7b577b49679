"""A connection that nobody could read is an account's, when only that account was logged in where it comes from."""

import json
from functools import partial
from typing import Any

import pytest
from north import MES_DB, MW, detector, end, flow

from detectors import logins
from detectors.verdict import VerdictDetector
from hopwatch.events import Flow, time_ns

OTHER = ("10.30.0.20", 50_777)
TLS = {"transport": "tls1.3"}


def login(account: str, **said: Any) -> Flow:
    """What a record without a port tells: a login from the middleware's address."""
    where = {"source": end((MW[0], 0)), "destination": end(MES_DB), "opened_by": "source"}
    base = {"account": account, "operation": "connect", "depth": "server-log", "seen_by": "server-log", "agent": "mes-db-log"}
    return flow(**where | base | {"key": f"login {account}", "at": "2026-04-07T00:00:00Z"} | said)


def unread(connection: str = "c", client: tuple[str, int] = MW, **said: Any) -> Flow:
    """What a tap sees of a connection over TLS."""
    where = {"source": end(client), "destination": end(MES_DB), "opened_by": "source", "connection": connection, "key": connection}
    what = {"operation": "transfer", "depth": "sizes", "bytes": 900, "protection": TLS, "protocol": "tls", "at": "2026-04-07T00:00:02Z"}
    return flow(**where | what | said)


def who(watching: VerdictDetector, window: Flow) -> str | None:
    return watching.observe(window)[0].outcome.who


def test_the_only_account_of_an_address_names_its_connections_for_as_long_as_they_last() -> None:
    watching = detector()
    watching.observe(login("svc_mw"))
    assert who(watching, unread()) == "svc_mw"
    # Somebody else logs in there later: that changes nothing of a connection that is known.
    watching.observe(login("h.keller", at="2026-04-07T00:01:00Z"))
    assert who(watching, unread(n=1, at="2026-04-07T00:02:00Z")) == "svc_mw"


def test_of_two_accounts_of_an_address_none_is_taken_and_the_connection_is_counted() -> None:
    watching = detector()
    watching.observe(login("svc_mw"))
    watching.observe(login("h.keller"))
    assert who(watching, unread()) is None
    assert who(watching, unread(n=1, final=True)) is None
    assert watching.forgotten()["ambiguous_accounts"] == 1


def test_a_login_that_has_ended_names_nobody_who_comes_later() -> None:
    watching = detector()
    watching.observe(login("svc_mw"))
    watching.observe(login("svc_mw", n=1, final=True, at="2026-04-07T00:00:20Z"))
    assert who(watching, unread("c", at="2026-04-07T00:00:10Z")) == "svc_mw"
    assert who(watching, unread("d", OTHER, at="2026-04-07T00:00:40Z")) is None
    watching.observe(login("h.keller", at="2026-04-07T00:00:50Z"))
    assert who(watching, unread("e", OTHER, at="2026-04-07T00:00:52Z")) == "h.keller"


def test_the_application_is_that_of_the_login_and_of_several_none() -> None:
    known = logins.Logins()
    whose = partial(known.whose, unread(), time_ns("2026-04-07T00:01:00Z"))
    known.learn(login("svc_mw", application="extract/1.3", final=True, at="2026-04-06T00:00:00Z"))
    known.learn(login("svc_mw", n=1, application="extract/1.4"))
    assert whose() == ("svc_mw", "extract/1.4")
    known.learn(login("svc_mw", n=2, application="psql", key="another"))
    assert whose() == ("svc_mw", None)


def test_another_address_and_another_server_are_not_named() -> None:
    watching = detector()
    watching.observe(login("svc_mw"))
    assert who(watching, unread(client=("10.30.0.21", 50_001))) is None
    assert who(watching, unread("d", destination=end((MES_DB[0], 1433)))) is None


def test_a_port_that_a_record_has_is_believed_before_any_address() -> None:
    watching = detector()
    watching.observe(login("svc_mw"))
    watching.observe(login("h.keller", source=end(OTHER), connection="d", key="with a port"))
    assert who(watching, unread("d", OTHER)) == "h.keller"


def test_what_is_known_survives_a_save_and_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, merged = detector(), detector(), detector()
    before.changes()
    merged.restore(json.loads(json.dumps(before.state())))
    before.observe(login("svc_mw"))
    after.restore(json.loads(json.dumps(before.state())))
    merged.merge(json.loads(json.dumps(before.changes())))
    assert who(after, unread()) == who(merged, unread()) == "svc_mw"


def test_every_bound_is_held_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "ACCOUNTS_MAX", 2)
    watching = detector()
    for account in ("a", "b", "c"):
        watching.observe(login(account))
    assert who(watching, unread(final=True)) is None
    assert watching.forgotten()["login_accounts"] == 1
