"""E-mail over TLS, gathered into digests: STARTTLS (RFC 3207) or TLS from the first byte (RFC 8314, 3.3); never in clear.

The first alert raised at the urgent severity goes at once with all that waits; the rest is gathered for ``digest_s``. A letter waits
for its digest in its queue, so that a restart loses none. A mail of the same alerts has the same Message-ID, by which
one that came twice is recognised.
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from alerts.delivery import Item, Plain, Refused, Retry, tls
from alerts.formats.mail import DIGEST_MAX, message
from alerts.formats.view import Origin
from alerts.settings import MailSettings
from hopwatch.events import SEVERITIES, Alert


class Mail(Plain):
    """One mail server and the people it writes to."""

    batch_max = DIGEST_MAX
    acknowledgement = "that of the mail server, which takes it on itself (RFC 5321, 4.1.1.4); not that of a reader"

    def __init__(self, settings: MailSettings, origin: Origin | None = None) -> None:
        parts = urlsplit(settings.address)
        assert parts.hostname is not None and parts.port is not None, "the settings ask for both"
        self._host, self._port, self._implicit = parts.hostname, parts.port, parts.scheme == "smtps"
        self._settings, self._origin = settings, origin
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
        alerts = [item.event for item in batch if isinstance(item.event, Alert)]
        if not alerts:
            return
        mail = message(alerts, self._origin, sender=self._settings.sender, recipients=self._settings.recipients)
        try:
            with self._connected() as server:
                refused = server.send_message(mail)
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

    @contextlib.contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        """A server that lets us in. What it says to our leaving changes nothing: it has taken the mail by then, or refused it."""
        server = self._let_in()
        try:
            yield server
        finally:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                server.quit()
            server.close()

    def _let_in(self) -> smtplib.SMTP:
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
