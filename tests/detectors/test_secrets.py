"""Secrets in clear: said once for who and where and how, never shown, and quiet inside encryption."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from moves import DAY_NS, QUOTED, later, moved
from north import MES_DB, NOON, UNS, architecture, end, flow, objects
from spoken import Script, recording, spoken

from detectors.online import online
from detectors.secrets import Secrets
from hopwatch.events import Finding, Flow

LAPTOP = ("10.20.1.77", 51512)
VAULT = ("10.30.0.9", 8200)
CLEAR = {"transport": "none", "authentication": "scram-sha-256"}
TLS = CLEAR | {"transport": "tls1.3"}


def stated(marks: str, protection: dict[str, str] = CLEAR, account: str = "dba", number: int = 0) -> Flow:
    part = objects("account:clerk", columns=("alter", "password"), messages=1) | {"marks": marks.split()}
    return flow(
        source=end(LAPTOP), destination=end(MES_DB), opened_by="source", account=account, operation="admin", at=NOON, n=number,
        protection=protection, objects=[part],
    )  # fmt: skip


def login(protocol: str, authentication: str, transport: str = "none") -> Flow:
    return flow(
        source=end(LAPTOP), destination=end(UNS if protocol == "mqtt" else MES_DB), opened_by="source", protocol=protocol,
        account="someone", operation="connect", at=NOON, protection={"transport": transport, "authentication": authentication},
    )  # fmt: skip


def seen(windows: Iterable[Flow], **changes: object) -> list[str]:
    detector = Secrets(architecture(), QUOTED)
    return [found.differences[0].observed for window in windows for found in detector.observe(moved(window, **changes))]


def heard(script: Script, server: tuple[str, int], folder: Path) -> list[Finding]:
    """What is said of a conversation from the wire."""
    watch = online(architecture())
    said = [one for window in spoken(script, LAPTOP, server, NOON, folder) for one in watch.observe(window)]
    return [one for one in said if isinstance(one, Finding) and one.verdict == "secret-in-clear"]


def test_a_password_in_a_statement_is_said_once_for_the_account_and_the_kind() -> None:
    windows = [stated("secret-password", number=number) for number in range(5)]
    assert seen(windows) == ["a password in the text of a statement or command"]
    assert seen([*windows, stated("secret-connection to-server", number=9)])[1:] == ["a password in a connection string or options"]
    assert len(seen([*windows, stated("secret-password", account="other")])) == 2


def test_the_next_day_the_finding_is_brought_up_to_date_under_the_same_identity() -> None:
    detector, first = Secrets(architecture(), QUOTED), moved(stated("secret-password"))
    (one,) = detector.observe(first)
    (other,) = detector.observe(later(first, DAY_NS))
    assert (one.finding_id, one.windows, other.windows) == (other.finding_id, 1, 2)


def test_inside_encryption_and_without_a_secret_it_is_quiet() -> None:
    encrypted = CLEAR | {"transport": "opcua-signandencrypt"}
    assert seen([stated("secret-password", TLS), stated("secret-password", encrypted), stated("fills folded", number=1)]) == []
    assert len(seen([stated("secret-password", CLEAR | {"transport": "opcua-sign"})])) == 1


def test_a_url_or_a_header_line_is_said_with_the_name_that_the_secret_goes_under() -> None:
    assert seen([stated("secret-url:sig secret-header:x-vault-token")]) == [
        "a secret in a URL: sig", "a secret in a header line: x-vault-token",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "clear", "hidden"),
    [
        ("postgresql", "password", "scram-sha-256"),
        ("mysql", "mysql_clear_password", "mysql_native_password"),
        ("mysql", "dialog", "caching_sha2_password"),
        ("tds", "password", "ntlm"),
        ("tds", "fedauth", "kerberos"),
        ("tns", "token", "o5logon"),
        ("mqtt", "password", "none"),
        ("http", "basic", "digest"),
        ("http", "bearer", "negotiate"),
        ("socks", "password", "gssapi"),
    ],
)
def test_a_login_that_says_the_secret_is_said_and_one_that_proves_it_is_not(protocol: str, clear: str, hidden: str) -> None:
    assert seen([login(protocol, clear)]) == [f"a login that says the secret: {clear}"]
    assert seen([login(protocol, hidden), login(protocol, clear, "tls1.3")]) == []


def test_a_cleartext_login_that_is_approved_is_quiet_and_a_password_in_a_statement_never_is() -> None:
    approved = {"verdict": "declared", "hop": "mes-works"}
    assert seen([login("mqtt", "password")], **approved) == []
    assert seen([stated("secret-password")], **approved) != []


def test_http_in_clear_to_a_vault_is_said_by_its_port_or_its_kind_and_tls_is_not() -> None:
    def asked(port: int, protocol: str = "http", transport: str = "none") -> Flow:
        place = end((VAULT[0], port))
        return flow(
            source=place, destination=end(LAPTOP), protocol=protocol, operation="get", at=NOON, protection={"transport": transport},
            key=f"{port}{protocol}",
        )  # fmt: skip

    assert seen([asked(8200)]) == ["HTTP in clear to a vault"]
    assert seen([asked(8080), asked(8200, "tls", "tls1.3"), asked(8200, "postgresql")]) == []
    declared = architecture(
        vault=("  mw:        {zone: idmz", "  vault: {zone: idmz, kind: vault, at: '10.30.0.9:8080'}\n  mw:        {zone: idmz")
    )
    (finding,) = Secrets(declared, QUOTED).observe(moved(asked(8080), declared))
    assert finding.destination == "vault"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("accounts", ["a password in the text of a statement or command"]), ("hashed-password", []), ("login-scram", []), ("login-md5", []),
        ("login-password", ["a login that says the secret: password"]), ("elsewhere", ["a password in a connection string or options"]),
    ],
)  # fmt: skip
def test_conversations_with_a_real_server_are_told_apart(name: str, told: list[str], tmp_path: Path) -> None:
    found = heard(recording(name), MES_DB, tmp_path)
    assert sorted({one.differences[0].observed for one in found}) == told
    assert not any("synthetic-pw-71" in one.model_dump_json() for one in found)


@pytest.mark.parametrize(
    ("protocol", "name", "told"),
    [
        ("tds", "plain", ["a login that says the secret: password"]), ("tds", "freetds-shell", ["a login that says the secret: password"]),
        ("tds", "encrypted-login-select", []), ("tds", "ntlm", []), ("mysql", "plain-select", []), ("tns", "queries", []),
    ],
)  # fmt: skip
def test_recorded_logins_of_other_databases_are_told_apart(protocol: str, name: str, told: list[str], tmp_path: Path) -> None:
    found = heard(recording(name, protocol), MES_DB, tmp_path)
    assert sorted({one.differences[0].observed for one in found}) == told
    assert not any("synthetic-pw-71" in one.model_dump_json() for one in found)


def test_a_password_that_mysqls_server_asks_for_in_clear_is_said(tmp_path: Path) -> None:
    # A recorded greeting and answer; then the server asks for the password itself (MySQL, "Authentication Method Switch").
    begins = recording("plain-select", "mysql")[:2]
    asked, said = b"\xfemysql_clear_password\0", b"synthetic-pw-71\0"
    accepted = bytes.fromhex("00000002000000")
    switch = [(side, len(body).to_bytes(3, "little") + bytes([number]) + body)
              for number, (side, body) in enumerate([("server", asked), ("client", said), ("server", accepted)], 2)]  # fmt: skip
    found = heard([*begins, *switch], MES_DB, tmp_path)
    assert {one.differences[0].observed for one in found} == {"a login that says the secret: mysql_clear_password"}
    assert not any("synthetic-pw-71" in one.model_dump_json() for one in found)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_password_that_is_said_to_a_socks_relay_is_said_and_tls_behind_it_is_quiet(accepted: bool, tmp_path: Path) -> None:
    # RFC 1928 and 1929; behind it the first bytes of a ClientHello.
    login = [("client", b"\5\1\2"), ("server", b"\5\2"), ("client", b"\1\4lake\x0fsynthetic-pw-73")]
    asked = [("client", b"\5\1\0\1\xcb\0\x71\x0a\1\xbb"), ("server", b"\5\0\0\1\x0a\x1e\0\x28\xc0\0")]
    hello = [("client", bytes.fromhex("160301012c0100012803") + b"\3" + bytes(60))]
    script = [*login, ("server", b"\1\0"), *asked, *hello] if accepted else [*login, ("server", b"\1\1")]
    found = heard(script, VAULT, tmp_path)
    assert [one.differences[0].observed for one in found] == ["a login that says the secret: password"]
    assert not any("synthetic-pw-73" in one.model_dump_json() for one in found)
    assert heard([("client", b"\5\1\0"), ("server", b"\5\0"), *asked, *hello], VAULT, tmp_path) == []


def test_a_request_to_a_vault_is_heard_on_the_wire_and_its_token_is_in_nothing_that_is_said(tmp_path: Path) -> None:
    request = b"GET /v1/kv/data/mes?token=s.hidden HTTP/1.1\r\nHost: vault\r\nX-Vault-Token: s.hidden\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    found = heard([("client", request), ("server", answer)], VAULT, tmp_path)
    assert {one.differences[0].observed for one in found} == {
        "HTTP in clear to a vault", "a secret in a URL: token", "a secret in a header line: x-vault-token",
    }  # fmt: skip
    windows = spoken([("client", request), ("server", answer)], LAPTOP, VAULT, NOON, tmp_path)
    assert not any("hidden" in str(one.model_dump()) for one in (*found, *windows))
