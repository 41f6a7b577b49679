"""Alerts arrive at real receivers: in order, once or recognisably twice, through outages, restarts and wrong certificates."""

import argparse
import base64
import hmac
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from prometheus_client import CollectorRegistry, generate_latest

from alerts.delivery import Destination, Item, Refused, Retry, cli
from alerts.delivery.canary import canary
from alerts.delivery.make import destination
from alerts.delivery.run import Delivery
from alerts.delivery.sender import Sender
from alerts.delivery.webhook import key, signature
from alerts.outbox import Letter, letter
from alerts.settings import KINDS, SettingsError, alerts_settings
from examples.authority import Authority
from examples.broker import Cluster
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Reader
from hopwatch.events import Alert, Decision, dump, parse, time_text
from hopwatch.store import StoreError
from tests.alerts.letters import T0_NS, Book, alert, book, letters
from tests.bus.real import clear, make_topics
from tests.integration.receivers import (
    ADDRESS,
    HttpReceiver,
    Process,
    Rsyslog,
    Taken,
    alertmanager,
    eventually,
    free_port,
    http,
    rsyslog,
    silent,
)
from tests.integration.test_full_disk import small_disk

S = 10**9


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
def syslog(tmp_path: Path, authority: Authority) -> Iterator[Rsyslog]:
    with rsyslog(tmp_path / "rsyslog", authority) as server:
        yield server


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Book]:
    with book("sqlite", tmp_path, None) as made:
        yield made


def _no_cluster() -> Connection:
    raise AssertionError("Kafka is not asked for")


def made(cluster: Callable[[], Connection] = _no_cluster, firing: Callable[[], list[Alert]] = list, **said: Any) -> Destination:
    """A destination as the settings file would say it."""
    told = {name: str(value) if isinstance(value, Path) else value for name, value in said.items()}
    return destination("siem", alerts_settings({"destinations": {"siem": told}}, "test", {}).destinations["siem"], cluster, firing)


def items(some: list[Letter]) -> list[Item]:
    return [Item(parse(one.line), one.line) for one in some]  # type: ignore[arg-type]  # alerts


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns()

    def __call__(self) -> int:
        return self.now_ns


def run(sender: Sender, clock: Clock, seconds: float) -> None:
    """Let simulated time pass."""
    end_ns = clock.now_ns + int(seconds * S)
    while clock.now_ns < end_ns:
        clock.now_ns = min(end_ns, clock.now_ns + max(int(sender.step() * S), 1))


# syslog


def _alert_ids(server: Rsyslog) -> list[str]:
    return [data.split('alert="')[1].split('"')[0] for data in server.events()]


def _has(server: Rsyslog, count: int) -> Callable[[], bool]:
    return lambda: len(server.lines()) >= count


def test_rsyslog_reads_every_alert_by_udp_tcp_and_tls(syslog: Rsyslog, authority: Authority) -> None:
    own = authority.issue("hopwatch", ADDRESS)
    ways = {
        "udp": {"address": f"udp://{ADDRESS}:{syslog.udp}"},
        "tcp": {"address": f"tcp://{ADDRESS}:{syslog.port}"},
        "tls": {
            "address": f"tls://{ADDRESS}:{syslog.tls}",
            "ca_file": authority.certificate,
            "certificate_file": own.certificate,
            "key_file": own.key,
        },
    }
    wanted = []
    for number, (way, said) in enumerate(ways.items()):
        some = letters("siem", range(10 * number, 10 * number + 10), why=f"{way}: with\nline ends and 5 digits 12 3")
        to = made(kind="syslog", **said)
        to.send(items(some))
        wanted += [item.event.alert_id for item in items(some)]
        eventually(_has(syslog, len(wanted)), f"{way} arrives")
        to.close()
    assert _alert_ids(syslog) == wanted
    line = syslog.lines()[-1]
    assert (line["severity"], line["app"], line["id"]) == ("crit", "hopwatch", "undeclared-hop")


def test_syslog_by_tls_refuses_wrong_certificates_on_both_sides(syslog: Rsyslog, authority: Authority, stranger: Authority) -> None:
    own, other = authority.issue("hopwatch", ADDRESS), authority.issue("someone", ADDRESS)
    address = f"tls://{ADDRESS}:{syslog.tls}"
    named = {"certificate_file": own.certificate, "key_file": own.key}
    for wrong, why in (
        ({"ca_file": stranger.certificate, **named}, "its certificate is not accepted"),
        ({"ca_file": authority.certificate, "server_name": "other.example", **named}, "its certificate is not accepted"),
        ({"ca_file": authority.certificate}, ""),
        ({"ca_file": authority.certificate, "certificate_file": other.certificate, "key_file": other.key}, ""),
    ):
        to = made(kind="syslog", address=address, **wrong)
        for _ in range(10):  # The refusal of a certificate races with what is sent (RFC 8446, 4.4.2.4): none may be taken for success.
            with pytest.raises(Retry, match=why or "."):
                to.send(items(letters("siem", range(1))))
        to.close()
    assert syslog.lines() == []


def test_syslog_receiver_away_for_an_hour_gets_everything_in_order(syslog: Rsyslog, kept: Book) -> None:
    clock = Clock()
    sender = Sender("siem", made(kind="syslog", address=f"tcp://{ADDRESS}:{syslog.port}"), kept.outbox(), clock_ns=clock, random=Random(3))
    some = letters("siem", range(60))
    kept.queue(some[:20], clock.now_ns)
    run(sender, clock, 5)
    syslog.stop()
    for first in range(20, 60, 10):
        kept.queue(some[first : first + 10], clock.now_ns)
        run(sender, clock, 900)
    (state,) = kept.outbox().states()
    assert (state.circuit, state.waiting) == ("open", 40) and "refused" in (state.error or "").lower()
    # The machine restarts in the middle, too: another sender, another process's view of the queue.
    sender.close()
    syslog.start()
    again = Sender("siem", made(kind="syslog", address=f"tcp://{ADDRESS}:{syslog.port}"), kept.outbox(), clock_ns=clock, random=Random(4))
    run(again, clock, 5)
    eventually(lambda: len(set(_alert_ids(syslog))) == 60, "all arrive")
    assert list(dict.fromkeys(_alert_ids(syslog))) == [item.event.alert_id for item in items(some)]
    again.close()


def test_syslog_receiver_that_dies_with_bytes_unread_gets_them_again() -> None:
    """Its machine had acknowledged every byte; a reset instead of an orderly end says that nobody read them."""
    with socket.create_server((ADDRESS, 0)) as server:
        to = made(kind="syslog", address=f"tcp://{ADDRESS}:{server.getsockname()[1]}")

        def dies() -> None:
            peer, _ = server.accept()
            peer.recv(10)
            peer.close()

        threading.Thread(target=dies, daemon=True).start()
        with pytest.raises(Retry, match=r"ConnectionResetError|BrokenPipeError|not connected"):
            to.send(items(letters("siem", range(2))))


def test_syslog_receiver_that_never_ends_a_connection_is_remarked_on() -> None:
    with silent() as port:
        to = made(kind="syslog", address=f"tcp://{ADDRESS}:{port}", timeout_s=0.5)
        to.send(items(letters("siem", range(1))))
        assert "whether they are read is not known" in (to.remark or "")


def test_udp_says_that_it_cannot_know() -> None:
    assert made(kind="syslog", address=f"udp://{ADDRESS}:9").acknowledgement.startswith("none: UDP cannot know")


# webhook


def test_webhook_is_signed_so_that_a_receiver_knows_a_replay(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    (tmp_path / "token").write_text("a-token\n")
    own = authority.issue("hopwatch", ADDRESS)
    with http(certificate=authority.issue("hook.example", ADDRESS), client_ca=authority.certificate) as receiver:
        to = made(
            kind="webhook",
            address=f"{receiver.url}/in",
            ca_file=authority.certificate,
            certificate_file=own.certificate,
            key_file=own.key,
            secret_file=tmp_path / "secret",
            token_file=tmp_path / "token",
        )
        to.send(items(letters("siem", range(2))))
        first, second = receiver.taken
        assert first.path == "/in" and first.headers["Authorization"] == "Bearer a-token"
        assert parse(first.body) == alert(0) and parse(second.body) == alert(1)
        assert first.headers["webhook-id"] == alert(0).event_id != second.headers["webhook-id"]
        assert abs(int(first.headers["webhook-timestamp"]) - time.time()) < 60
        # As a receiver that knows nothing of this code would check it.
        signed = f"{first.headers['webhook-id']}.{first.headers['webhook-timestamp']}.".encode() + first.body
        mac = hmac.new(base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), signed, sha256).digest()
        assert first.headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
        # Its own answer counts: a second delivery has the same id.
        to.send(items(letters("siem", range(1))))
        assert receiver.taken[2].headers["webhook-id"] == first.headers["webhook-id"]
        to.close()


def test_signature_is_that_of_the_published_example() -> None:
    held = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    said = signature(held, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert said == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_webhook_checks_whom_it_speaks_to(authority: Authority, stranger: Authority) -> None:
    with http(certificate=stranger.issue("hook.example", ADDRESS)) as receiver:
        with pytest.raises(Retry, match="CERTIFICATE_VERIFY_FAILED"):
            made(kind="webhook", address=receiver.url, ca_file=authority.certificate).send(items(letters("siem", range(1))))
        assert receiver.taken == []


def test_webhook_speaks_by_the_users_template(tmp_path: Path) -> None:
    (tmp_path / "ticket.j2").write_text('{"short": {{ title }}, "key": {{ event_id }}}')
    with http() as receiver:
        made(kind="webhook", address=receiver.url, template=tmp_path / "ticket.j2").send(items(letters("siem", range(1))))
        assert receiver.taken[0].json()["key"] == alert(0).event_id


def test_template_that_is_wrong_is_found_before_the_first_alert(tmp_path: Path) -> None:
    (tmp_path / "ticket.j2").write_text('{"short": {{ titel }}}')
    with pytest.raises(SettingsError, match=r"\[alerts\.destinations\.siem\] .*template: 'titel' is undefined"):
        made(kind="webhook", address="http://127.0.0.1:9", template=tmp_path / "ticket.j2")
    (tmp_path / "ticket.j2").write_text('{"team": {{ settings.team }}}')
    with http() as receiver:
        made(kind="webhook", address=receiver.url, template=tmp_path / "ticket.j2", settings={"team": "ot"}).send(
            items(letters("siem", range(1)))
        )
        assert receiver.taken[0].json() == {"team": "ot"}


def test_what_a_status_means_for_a_letter() -> None:
    """A letter is dead only for what is wrong with it; the receiver's own troubles leave it in the queue."""
    said = 200
    with http(lambda taken: (said, b"", {"Retry-After": "120"} if said == 429 else {})) as receiver:
        to = made(kind="webhook", address=receiver.url)
        (one,) = items(letters("siem", range(1)))
        for said in (400, 413, 415, 422):
            with pytest.raises(Refused, match=f"HTTP {said}"):
                to.send([one])
        for said in (301, 401, 403, 404, 408, 429, 500, 502, 503):
            with pytest.raises(Retry, match=f"HTTP {said}") as error:
                to.send([one])
            assert error.value.after_s == (120.0 if said == 429 else None)
        said = 202
        to.send([one])
        to.close()


def test_webhook_is_led_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirection, or a proxy of the environment, would carry alerts and a token to whom nobody named."""
    with http() as other, http(lambda taken: (307, b"", {"Location": other.url})) as receiver:
        monkeypatch.setenv("HTTP_PROXY", other.url)
        with pytest.raises(Retry, match="HTTP 307: not the address of such a receiver"):
            made(kind="webhook", address=receiver.url).send(items(letters("siem", range(1))))
        assert other.taken == []


# Splunk


@dataclass
class Collector:
    """Splunk's HTTP Event Collector as its documentation has it: channel, ackId, acknowledgement once."""

    loses: int = 0
    indexed: list[Any] = field(default_factory=list)
    pending: dict[int, list[Any]] = field(default_factory=dict)
    asked: int = 0
    numbers: int = 0

    def __call__(self, taken: Taken) -> tuple[int, bytes, dict[str, str]]:
        if taken.headers.get("Authorization") != "Splunk t0ken":
            return 403, b'{"text":"Invalid token","code":4}', {}
        channel = taken.headers.get("X-Splunk-Request-Channel")
        if channel is None:
            return 400, b'{"text":"Data channel is missing","code":10}', {}
        if taken.path == "/services/collector/ack":
            self.asked += 1
            said = {}
            for number in taken.json()["acks"]:
                held = self.pending.get(number)
                # The indexer takes its time: at the second question.
                said[str(number)] = held is not None and self.asked % 2 == 0
                if said[str(number)]:
                    self.indexed += self.pending.pop(number)
            return 200, json.dumps({"acks": said}).encode(), {}
        decoder, text, events = json.JSONDecoder(), taken.body.decode(), []
        while text:
            event, end = decoder.raw_decode(text)
            events.append(event)
            text = text[end:]
        if any("svc_66" in json.dumps(event) for event in events):
            return 400, b'{"text":"Invalid data format","code":6}', {}
        self.numbers += 1
        if self.loses:
            self.loses -= 1
        else:
            self.pending[self.numbers] = events
        return 200, json.dumps({"text": "Success", "code": 0, "ackId": self.numbers}).encode(), {}


def _splunk(receiver: HttpReceiver, tmp_path: Path, **more: Any) -> Destination:
    (tmp_path / "token").write_text("t0ken\n")
    return made(kind="splunk", address=receiver.url, token_file=tmp_path / "token", index="soc", acknowledge_s=2.0, **more)


def test_splunk_letters_count_when_the_indexer_has_them(tmp_path: Path) -> None:
    collector = Collector()
    with http(collector) as receiver:
        _splunk(receiver, tmp_path).send(items(letters("siem", range(3))))
    assert collector.asked == 2
    assert [event["event"]["event_id"] for event in collector.indexed] == [alert(n).event_id for n in range(3)]
    assert {event["index"] for event in collector.indexed} == {"soc"}
    assert {event["sourcetype"] for event in collector.indexed} == {"hopwatch:alert"}


def test_splunk_letters_the_indexer_does_not_acknowledge_are_sent_again(tmp_path: Path, kept: Book) -> None:
    collector = Collector(loses=1)
    clock = Clock()
    with http(collector) as receiver:
        sender = Sender("siem", _splunk(receiver, tmp_path), kept.outbox(), clock_ns=clock, random=Random(1))
        kept.queue(letters("siem", range(3)), clock.now_ns)
        sender.step()
        assert "has not acknowledged within 2 s" in (kept.outbox().states()[0].error or "")
        run(sender, clock, 5)
        assert kept.outbox().states()[0].waiting == 0
    assert [event["event"]["event_id"] for event in collector.indexed] == [alert(n).event_id for n in range(3)]


def test_splunk_puts_one_bad_event_aside_and_keeps_the_batch(tmp_path: Path, kept: Book) -> None:
    collector = Collector()
    clock = Clock()
    with http(collector) as receiver:
        sender = Sender("siem", _splunk(receiver, tmp_path), kept.outbox(), clock_ns=clock, random=Random(1))
        kept.queue(letters("siem", range(65, 68)), clock.now_ns)
        run(sender, clock, 5)
    assert [event["event"]["event_id"] for event in collector.indexed] == [alert(n).event_id for n in (65, 67)]
    (dead,) = kept.outbox().dead_letters("siem")
    assert dead.event_id == alert(66).event_id and dead.error == "HTTP 400, code 6: Invalid data format"


def test_splunk_token_without_acknowledgement_is_said(tmp_path: Path) -> None:
    with http(lambda taken: (200, b'{"text":"Success","code":0}', {})) as receiver:
        with pytest.raises(Retry, match="gives no ackId"):
            _splunk(receiver, tmp_path).send(items(letters("siem", range(1))))
        _splunk(receiver, tmp_path, acknowledge=False).send(items(letters("siem", range(1))))


# Alertmanager


def _firing(server: Process) -> dict[str, str]:
    """Severity of what fires, by alert id or name."""
    found = httpx.get(f"http://{ADDRESS}:{server.port}/api/v2/alerts", trust_env=False).json()
    return {one["labels"].get("alert_id", one["labels"]["alertname"]): one["labels"]["severity"] for one in found}


def test_alertmanager_fires_while_an_alert_is_open_and_no_longer(tmp_path: Path) -> None:
    with alertmanager(tmp_path / "alertmanager") as server:
        now = time_text(time.time_ns())
        first, second = alert(1, time=now, raised=now, severity="high"), alert(2, time=now, raised=now)
        to = made(kind="alertmanager", address=f"http://{ADDRESS}:{server.port}", repeat_s=5)
        to.send([Item(first, b""), Item(second, b"")])
        to.idle()
        eventually(lambda: len(_firing(server)) == 3, "both fire")
        assert _firing(server) == {first.alert_id: "high", second.alert_id: "critical", "hopwatch_watchdog": "none"}
        later = time_text(time.time_ns())
        risen = alert(1, time=later, raised=now, severity="critical", revision=1, change="raised-again")
        done = alert(2, time=later, raised=now, revision=1, change="decided", state="resolved", disposition="true-positive")
        to.send([Item(risen, b""), Item(done, b"")])
        eventually(
            lambda: _firing(server).get(first.alert_id) == "critical" and second.alert_id not in _firing(server), "one rises, one ends"
        )
        to.close()


def test_alertmanager_that_forgot_everything_is_told_again_also_by_the_next_process(tmp_path: Path) -> None:
    now = time_text(time.time_ns())
    held = [alert(n, time=now, raised=now) for n in (1, 2)]
    with alertmanager(tmp_path / "alertmanager") as server:
        to = made(kind="alertmanager", address=f"http://{ADDRESS}:{server.port}", firing=lambda: held)
        to.idle()
        eventually(lambda: {one.alert_id for one in held} <= set(_firing(server)), "what was open before this process fires")
        found = httpx.get(f"http://{ADDRESS}:{server.port}/api/v2/alerts", trust_env=False).json()
        # It ends by itself if nobody repeats it any more.
        assert all(one["endsAt"] < time_text(time.time_ns() + 300 * S) for one in found)
        to.close()


def test_alertmanager_takes_an_alert_of_a_clock_that_is_ahead(tmp_path: Path) -> None:
    with alertmanager(tmp_path / "alertmanager") as server:
        soon = time_text(time.time_ns() + 3_600 * S)
        to = made(kind="alertmanager", address=f"http://{ADDRESS}:{server.port}")
        ahead = alert(1, time=soon, raised=soon)
        to.send([Item(ahead, b"")])
        eventually(lambda: ahead.alert_id in _firing(server), "it fires now")
        to.idle()
        to.close()


def test_alertmanager_that_refuses_one_alert_is_told_of_the_others_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.delivery.alertmanager.POST_MAX", 2)
    held = [alert(n) for n in range(5)]
    bad = held[0].alert_id
    with http(lambda taken: (400 if bad in taken.body.decode() else 200, b"{}", {})) as receiver:
        to = made(kind="alertmanager", address=receiver.url, firing=lambda: held)
        to.idle()
        said = {one["labels"].get("alert_id", one["labels"]["alertname"]) for taken in receiver.taken for one in json.loads(taken.body)}
        assert said == {*(one.alert_id for one in held[2:]), "hopwatch_watchdog"}
        assert to.remark == "HTTP 400 to what is said again: some of it is refused"
        to.close()


# mail


@dataclass
class Postbox:
    """A mail server that takes nothing in clear and nobody without a password."""

    mails: list[bytes] = field(default_factory=list)
    refuses: str = ""
    leaves: str = "221 bye"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return self.leaves

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refuses:
            return self.refuses
        assert isinstance(envelope.content, bytes)
        self.mails.append(envelope.content)
        return "250 taken"

    def login(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"hopwatch", b"pass"), handled=False)


@pytest.fixture(params=["smtp", "smtps"])
def mail(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[tuple[Postbox, Callable[..., Destination]]]:
    held = authority.issue("mail.example", ADDRESS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(held.certificate, held.key)
    box = Postbox()
    starttls = request.param == "smtp"
    controller = Controller(
        box,
        hostname=ADDRESS,
        port=free_port(),
        ssl_context=None if starttls else context,
        tls_context=context if starttls else None,
        require_starttls=starttls,
        authenticator=box.login,
        auth_required=True,
        auth_require_tls=starttls,
    )
    controller.start()
    (tmp_path / "password").write_text("pass\n")

    def to(**more: Any) -> Destination:
        said = {
            "kind": "mail",
            "address": f"{request.param}://{ADDRESS}:{controller.port}",
            "ca_file": authority.certificate,
            "sender": "hopwatch@plant.example",
            "recipients": ["soc@plant.example", "night@plant.example"],
            "username": "hopwatch",
            "password_file": tmp_path / "password",
        }
        return made(**(said | more))

    try:
        yield box, to
    finally:
        controller.stop()


def test_mail_goes_over_tls_with_a_digest_of_what_waited(mail: tuple[Postbox, Callable[..., Destination]], kept: Book) -> None:
    box, to = mail
    clock = Clock()
    sender = Sender("siem", to(digest_s=300), kept.outbox(), clock_ns=clock, random=Random(1))
    some = [letter("siem", alert(n, severity="high")) for n in range(3)]
    kept.queue(some, clock.now_ns)
    run(sender, clock, 290)
    assert box.mails == []
    run(sender, clock, 20)
    assert len(box.mails) == 1
    said = message_from_bytes(box.mails[0], policy=policy.default)
    assert said["To"] == "soc@plant.example, night@plant.example" and "3 alerts" in said["Subject"]
    body = said.get_body(("plain",))
    assert body is not None and all(f"svc_{n}" in body.get_content() for n in range(3))
    # A critical one waits for no digest; the same mail twice has one Message-ID.
    kept.queue(letters("siem", range(7, 8)), clock.now_ns)
    run(sender, clock, 2)
    to().send(items(letters("siem", range(7, 8))))
    again = [message_from_bytes(one, policy=policy.default)["Message-ID"] for one in box.mails[1:]]
    assert len(again) == 2 and again[0] == again[1]


def test_mail_to_whom_it_cannot_trust_or_that_refuses_waits_or_dies(
    mail: tuple[Postbox, Callable[..., Destination]], stranger: Authority, tmp_path: Path
) -> None:
    box, to = mail
    one = items(letters("siem", range(1)))
    with pytest.raises(Retry, match="its certificate is not accepted"):
        to(ca_file=stranger.certificate).send(one)
    (tmp_path / "wrong").write_text("other\n")
    with pytest.raises(Retry, match="SMTP 535"):
        to(password_file=tmp_path / "wrong").send(one)
    box.refuses = "451 not now"
    with pytest.raises(Retry, match="SMTP 451 to the message"):
        to().send(one)
    box.refuses = "554 no such content here"
    with pytest.raises(Refused, match="SMTP 554 to the message"):
        to().send(one)
    assert box.mails == []


def test_what_a_mail_server_says_to_our_leaving_changes_nothing(mail: tuple[Postbox, Callable[..., Destination]]) -> None:
    """Else a mail that it took would be sent again and again, and one that it refuses would keep the others waiting."""
    box, to = mail
    box.leaves = "421 I am going down"
    to().send(items(letters("siem", range(1))))
    assert len(box.mails) == 1
    box.refuses = "554 no such content here"
    with pytest.raises(Refused, match="SMTP 554 to the message"):
        to().send(items(letters("siem", range(1))))


def test_mail_server_without_starttls_gets_nothing_in_clear(authority: Authority) -> None:
    box = Postbox()
    controller = Controller(box, hostname=ADDRESS, port=free_port())
    controller.start()
    try:
        to = made(
            kind="mail",
            address=f"smtp://{ADDRESS}:{controller.port}",
            ca_file=authority.certificate,
            sender="h@a.example",
            recipients=["s@a.example"],
        )
        with pytest.raises(Retry, match="STARTTLS"):
            to.send(items(letters("siem", range(1))))
    finally:
        controller.stop()
    assert box.mails == []


# Kafka


def test_kafka_has_alerts_and_decisions_each_on_its_topic(broker: Cluster, prefix: str) -> None:
    make_topics(broker, prefix, ("alert", "decision"))
    connection = clear(broker, prefix)
    decision = Decision(event_id="d", plant="north", time=time_text(T0_NS), person="a", action="acknowledge", reason="seen")
    to = made(lambda: connection, kind="kafka", timeout_s=30)
    some = [*items(letters("siem", range(3))), Item(decision, dump(decision))]
    to.send(some)
    to.send(some[:1])  # At least once: the same id.
    to.close()
    for kind, wanted in (("alert", [*some[:3], some[0]]), ("decision", some[3:])):
        reader = Reader(connection, kind)
        got: list[bytes] = []
        eventually(
            lambda reader=reader, got=got, wanted=wanted: got.extend(one.value for one in reader.poll(0.2)) or len(got) >= len(wanted), kind
        )
        assert got == [item.line for item in wanted]
        reader.close()


def test_kafka_that_is_away_keeps_the_letter_and_sends_it_once(broker: Cluster, prefix: str) -> None:
    make_topics(broker, prefix, ("alert",))
    connection = clear(broker, prefix)
    to = made(lambda: connection, kind="kafka", timeout_s=1)
    some = items(letters("siem", range(3)))
    broker.pause()
    try:
        with pytest.raises(Retry):
            to.send(some)
    finally:
        broker.resume()

    def goes() -> bool:
        try:
            to.send(some)
        except Retry:
            return False
        return True

    eventually(goes, "it goes when the broker is back")
    to.close()
    reader = Reader(connection, "alert")
    got: list[bytes] = []
    eventually(lambda: got.extend(one.value for one in reader.poll(0.2)) or (len(got) >= 3 and reader.caught_up), "three are there")
    assert list(dict.fromkeys(got)) == [item.line for item in some]
    reader.close()


# file


def test_file_is_begun_anew_by_size_and_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    to = made(kind="file", address=path, bytes_max=1 << 14, keep=50)
    some = items(letters("siem", range(100)))
    for first in range(0, 100, 7):
        to.send(some[first : first + 7])
    files = sorted(tmp_path.glob("alerts.jsonl*"), key=lambda one: -int(one.suffix[1:]) if one.suffix[1:].isdigit() else 0)
    files = [one for one in files if one.suffix != ".lock"]
    assert len(files) > 3 and all(one.stat().st_size <= 1 << 14 for one in files)
    assert [line for one in files for line in one.read_bytes().splitlines()] == [item.line for item in some]


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    some = items(letters("siem", range(2)))
    path.write_bytes(some[0].line + b"\n" + some[1].line[:40])
    made(kind="file", address=path).send(some[1:])
    assert path.read_bytes().splitlines() == [item.line for item in some]


def test_full_disk_leaves_whole_lines_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk), book("sqlite", tmp_path, None) as kept:
        if not disk.is_mount():
            pytest.fail("a file system of its own needs root, a container's is enough")
        clock = Clock()
        path = disk / "alerts.jsonl"
        sender = Sender("siem", made(kind="file", address=path), kept.outbox(), clock_ns=clock, random=Random(1))
        some = letters("siem", range(2_000))
        kept.queue(some, clock.now_ns)
        run(sender, clock, 60)
        (state,) = kept.outbox().states()
        assert state.waiting and "No space left on device" in (state.error or "")
        assert path.read_bytes().endswith(b"}\n")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        run(sender, clock, 600)
        assert path.read_bytes().splitlines() == [one.line for one in some]
        sender.close()


def test_full_disk_of_the_queues_loses_no_letter_that_was_accepted(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    got = tmp_path / "alerts.jsonl"
    with small_disk(disk), book("sqlite", disk, None) as kept:
        outbox = kept.outbox()
        accepted: list[Letter] = []
        with pytest.raises(StoreError, match="the disk is full"):
            while len(accepted) < 20_000:
                some = letters("siem", range(len(accepted), len(accepted) + 50))
                outbox.add(some, T0_NS)
                accepted += some
        assert [one.event_id for one in outbox.waiting("siem", 1_000)] == [one.event_id for one in accepted][:1_000]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        sender = Sender("siem", made(kind="file", address=got), outbox, clock_ns=Clock(), random=Random(1))
        for _ in range(len(accepted)):
            sender.step()
        sender.close()
    assert got.read_bytes().splitlines() == [one.line for one in accepted]


# every kind


def test_receiver_that_never_answers_is_given_up_in_time(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t\n")
    with silent() as port:
        kinds: dict[str, dict[str, Any]] = {
            "syslog": {"address": f"tls://{ADDRESS}:{port}"},
            "webhook": {"address": f"https://{ADDRESS}:{port}"},
            "splunk": {"address": f"http://{ADDRESS}:{port}", "token_file": tmp_path / "token"},
            "alertmanager": {"address": f"http://{ADDRESS}:{port}"},
            "mail": {"address": f"smtp://{ADDRESS}:{port}", "sender": "h@a.example", "recipients": ["s@a.example"]},
            "kafka": {},
        }
        assert set(kinds) == set(KINDS) - {"file"}
        connection = Connection(bootstrap_servers=f"{ADDRESS}:{port}")
        for kind, said in kinds.items():
            to = made(lambda: connection, kind=kind, timeout_s=0.5, **said)
            before = time.monotonic()
            with pytest.raises(Retry):
                to.send(items(letters("siem", range(1))))
            assert time.monotonic() - before < 5, kind
            to.close()


def test_receiver_that_answers_a_byte_at_a_time_is_given_up_too() -> None:
    with socket.create_server((ADDRESS, 0)) as server:

        def drip() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                try:
                    while True:
                        peer.sendall(b" ")
                        time.sleep(0.05)
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        before = time.monotonic()
        with pytest.raises(Retry, match="no whole answer within"):
            made(kind="webhook", address=f"http://{ADDRESS}:{server.getsockname()[1]}", timeout_s=0.5).send(
                items(letters("siem", range(1)))
            )
        assert time.monotonic() - before < 5


@pytest.mark.parametrize("kind", ["webhook", "file"])
def test_canary_says_of_itself_what_it_is(kind: str, tmp_path: Path) -> None:
    one = canary("siem", "north", time.time_ns())
    with http() as receiver:
        to = made(kind=kind, address=receiver.url if kind == "webhook" else tmp_path / "alerts.jsonl")
        to.send([Item(one, dump(one))])
        said = receiver.taken[0].json() if kind == "webhook" else json.loads((tmp_path / "alerts.jsonl").read_text())
    assert said["canary"] is True and said["disposition"] == "test" and parse(json.dumps(said)) == one


# the whole


RUNNER = """
import sys
from alerts.delivery.run import Delivery
from alerts.outbox import open_outbox
from alerts.settings import alerts_settings
told = {"siem": {"kind": "webhook", "address": sys.argv[2]}, "dead": {"kind": "syslog", "address": sys.argv[3], "timeout_s": 60}}
delivery = Delivery(alerts_settings({"destinations": told}, "test", {}), lambda: open_outbox(sys.argv[1]), lambda: None)
delivery.start()
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_process_that_is_killed_loses_no_letter_and_what_comes_twice_is_recognised(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    arrived: list[str] = []
    with http(_slow(arrived)) as receiver, silent() as port, book(kind, tmp_path, lambda: request.getfixturevalue("postgres")) as kept:
        some = letters("siem", range(120))
        for first in range(0, 120, 20):
            kept.queue(some[first : first + 20] + letters("dead", range(first, first + 20)))
        command = [sys.executable, "-c", RUNNER, kept.address, receiver.url, f"tcp://{ADDRESS}:{port}"]
        for upto in (30, 60, 120):
            with subprocess.Popen(command, stdin=subprocess.PIPE) as running:
                eventually(lambda upto=upto: len(set(arrived)) >= upto, f"{upto} arrive")  # type: ignore[misc]
                running.kill()
        assert list(dict.fromkeys(arrived)) == [one.event_id for one in some]
        # A receiver that says nothing kept nobody waiting, and has all of its letters still.
        assert next(state for state in kept.outbox().states() if state.destination == "dead").waiting == 120


def _slow(arrived: list[str]) -> Callable[[Taken], tuple[int, bytes, dict[str, str]]]:
    def answer(taken: Taken) -> tuple[int, bytes, dict[str, str]]:
        arrived.append(taken.headers["webhook-id"])
        time.sleep(0.002)
        return 200, b"", {}

    return answer


def test_canary_through_the_queue_measures_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with http() as receiver, book("sqlite", tmp_path, None) as kept:
        settings = alerts_settings({"destinations": {"siem": {"kind": "webhook", "address": receiver.url}}}, "test", {})
        delivery = Delivery(settings, kept.outbox, _no_cluster)
        delivery.start()
        try:
            arguments = argparse.Namespace(destination="siem", queued=True, wait=20.0, plant="north", json=True)
            assert cli.run("test", arguments, settings, kept.outbox, _no_cluster) == 0
        finally:
            assert delivery.stop()
        said = json.loads(capsys.readouterr().out)
        assert said["arrived"] is True and 0 < said["delay_s"] < 10
        assert receiver.taken[0].json()["canary"] is True and receiver.taken[0].headers["webhook-id"] == said["event_id"]
        registry = CollectorRegistry()
        registry.register(delivery.collector)
        assert f'hopwatch_delivery_canary_delay_seconds{{destination="siem"}} {said["delay_s"]}' in generate_latest(registry).decode()
