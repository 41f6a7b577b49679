"""Mail, read back by the standard library's parser."""

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told import ANY, NAMES, alert, alerts, shown

from alerts.formats import mail
from alerts.formats.view import Origin
from hopwatch.events import Alert

SOC = Origin("soc-1.plant.example", "0.1.0", "https://console.plant.example:8443")
TO = ["soc@plant.example"]
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "References", "In-Reply-To", "Auto-Submitted", "X-Auto-Response-Suppress", "Importance",
    "X-Hopwatch-Alert", "MIME-Version", "Content-Type",
}  # fmt: skip


def read(said: list[Alert]) -> EmailMessage:
    written = mail.message(said, SOC, sender="hopwatch <hopwatch@plant.example>", recipients=TO)
    return cast(EmailMessage, message_from_bytes(written.as_bytes(policy=SMTP), policy=default))


def part(message: EmailMessage, kind: str) -> str:
    found = message.get_body((kind,))
    assert found is not None
    return str(found.get_content()).replace("\r\n", "\n")


@ANY
@given(st.lists(alerts(), min_size=1, max_size=2))
def test_a_reader_of_mail_finds_our_headers_alone_and_both_bodies_whole(said: list[Alert]) -> None:
    message = read(said)
    assert set(message.keys()) <= HEADERS
    assert len(message.keys()) == len(set(message.keys()))
    assert (message["To"], message["Auto-Submitted"]) == ("soc@plant.example", "auto-generated")
    assert [one.get_content_type() for one in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    text, html = part(message, "plain"), part(message, "html")
    for one in said:
        assert shown(one.alert_id) in text
        assert "<script>" not in html
    assert all(one.isprintable() or one == "\n" for one in text + html)


@ANY
@given(NAMES)
def test_no_name_begins_a_header(name: str) -> None:
    message = read([alert({"source": name, "verdict": name}, alert_id=name)])
    assert str(message["Subject"]).strip().startswith("[hopwatch north] CRITICAL")
    assert message["Bcc"] is None


def test_revisions_of_an_alert_are_one_thread_and_the_same_mail_has_the_same_id() -> None:
    first, second = read([alert()]), read([alert(revision=1, event_id="ab" * 16)])
    assert first["In-Reply-To"] == second["In-Reply-To"] == "<A-7c1e9a02aabbccdd@soc-1.plant.example>"
    assert first["Message-ID"] == read([alert()])["Message-ID"] != second["Message-ID"]


def test_a_digest_counts_by_severity_and_shows_the_worst_first() -> None:
    message = read([alert(alert_id="A-1", severity="low"), alert(alert_id="A-2"), alert(alert_id="A-3", severity="low")])
    assert message["Subject"] == "[hopwatch north] 3 alerts: 1 critical, 2 low"
    text = part(message, "plain")
    assert text.startswith(
        "3 alerts, the worst first.\n\nCRITICAL  undeclared-hop: mes-db -> files.example (198.51.100.7) (north); account"
    )
    assert text.index("alert A-2") < text.index("alert A-1") < text.index("alert A-3")


def test_a_digest_of_very_many_is_bounded_and_says_so() -> None:
    message = read([alert(alert_id=f"A-{number}", event_id=f"{number:032x}") for number in range(mail.DIGEST_MAX + 5)])
    assert "and 5 more" in part(message, "plain")
    assert "and 5 more" in part(message, "html")


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="an address of mail"):
        mail.message([alert()], SOC, sender="x\r\nBcc: y@z", recipients=TO)
    with pytest.raises(ValueError, match="no alerts"):
        mail.message([], SOC, sender="a@b.example", recipients=TO)
