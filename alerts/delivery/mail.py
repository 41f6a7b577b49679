"""E-mail over TLS, gathered into digests: STARTTLS (RFC 3207) or TLS from the first byte (RFC 8314, 3.3); never in clear.

The first alert raised at the urgent severity goes at once with all that waits; the rest is gathered for ``digest_s``. A letter waits
for its digest in its queue, so that a restart loses none. The mail names the event ids, by which one that came twice is recognised.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate
from hashlib import blake2b
from typing import Final
from urllib.parse import urlsplit

from alerts.delivery import Item, Plain, Refused, Retry, tls
from alerts.delivery.rendering import Render
from alerts.settings import MailSettings
from hopwatch.events import SEVERITIES, Alert, time_ns

LINES_MAX: Final = 200
"""Alerts in one digest; the next digest goes on."""

_SUBJECT_CHARACTERS: Final = 150


class Mail(Plain):
    """One mail server and the people it writes to."""

    batch_max = LINES_MAX
    acknowledgement = "that of the mail server, which takes it on itself (RFC 5321, 4.1.1.4); not that of a reader"

    def __init__(self, settings: MailSettings, render: Render) -> None:
        parts = urlsplit(settings.address)
        assert parts.hostname is not None and parts.port is not None, "the settings ask for both"
        self._host, self._port, self._implicit = parts.hostname, parts.port, parts.scheme == "smtps"
        self._settings, self._render = settings, render
        self._tls = tls.context(settings.ca_file, settings.certificate_file, settings.key_file, settings.key_password)

    def wait_s(self, batch: Sequence[Item], oldest_s: float) -> float:
        urgent = SEVERITIES.index(self._settings.urgent)
        for item in batch:
            event = item.event
            if not isinstance(event, Alert) or event.canary:
                return 0.0
            if event.change in ("raised", "raised-again") and SEVERITIES.index(event.severity) >= urgent:
                return 0.0
        return max(0.0, self._settings.digest_s - oldest_s) if len(batch) < self.batch_max else 0.0

    def send(self, batch: Sequence[Item]) -> None:
        message = self._message(batch)
        try:
            with self._connected() as server:
                refused = server.send_message(message)
        except smtplib.SMTPDataError as error:
            # 5yz to the content is for good, 4yz is not (RFC 5321, 4.2.1).
            why = f"SMTP {error.smtp_code} to the message"
            if 500 <= error.smtp_code < 600:
                raise Refused(why, whole=len(batch) > 1) from None
            raise Retry(why) from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise Retry(f"SMTP {', '.join(map(str, codes))}: no recipient is accepted") from None
        except smtplib.SMTPResponseException as error:
            raise Retry(f"{type(error).__name__}: SMTP {error.smtp_code}") from None
        except ssl.SSLCertVerificationError as error:
            raise Retry(f"its certificate is not accepted: {error.verify_message}") from None
        except TimeoutError:
            raise Retry(f"no answer within {self._settings.timeout_s:g} s") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Retry(f"{type(error).__name__}: {error}") from None
        if refused:
            self.remark = f"{len(refused)} of {len(self._settings.recipients)} recipients were not accepted"

    def _connected(self) -> smtplib.SMTP:
        timeout_s = self._settings.timeout_s
        if self._implicit:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=timeout_s, context=self._tls)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=timeout_s)
        try:
            if not self._implicit:
                # Raises where the server offers none: there is no going on in clear.
                server.starttls(context=self._tls)
            if self._settings.username is not None:
                assert self._settings.password is not None, "the settings ask for it"
                server.login(self._settings.username, self._settings.password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server

    def _message(self, batch: Sequence[Item]) -> EmailMessage:
        ids = [item.event.event_id for item in batch]
        message = EmailMessage()
        message["From"] = self._settings.sender
        message["To"] = ", ".join(self._settings.recipients)
        message["Subject"] = _subject([item.event for item in batch if isinstance(item.event, Alert)], len(batch))
        message["Date"] = formatdate(max(time_ns(item.event.time) for item in batch) / 1e9)
        message["Message-ID"] = f"<{blake2b(' '.join(ids).encode(), digest_size=16).hexdigest()}@hopwatch>"
        # No answer is wanted of machines (RFC 3834, 5).
        message["Auto-Submitted"] = "auto-generated"
        texts = [self._render(item.event).decode(errors="replace").rstrip() + f"\nevent {item.event.event_id}\n" for item in batch]
        message.set_content("\n".join(texts))
        return message


def _subject(alerts: list[Alert], count: int) -> str:
    """What stands first; names come from the wire and hold whatever somebody put there."""
    if not alerts:
        return f"[hopwatch] {count} decisions"
    worst = max(alerts, key=lambda alert: SEVERITIES.index(alert.severity))
    what = f"{worst.severity.upper()} {worst.finding.verdict} {worst.plant} {worst.finding.who or ''}"
    canary = "canary: " if worst.canary else ""
    more = f" and {count - 1} more" if count > 1 else ""
    return " ".join(f"[hopwatch] {canary}{what}".split())[:_SUBJECT_CHARACTERS] + more
