"""Mail (RFC 5322): one alert, or a digest of several, as plain text and HTML beside each other (RFC 2046, 5.1.4).

Says that no person wrote it (``Auto-Submitted``, RFC 3834), threads every revision below the first by ``In-Reply-To``, and asks for
no answer. Subject and names hold no line ends, so that no header can be begun by a name; HTML is escaped. Boundary and Message-ID come
from the alerts' ids, so that the same alerts give the same bytes and a mail that is sent twice is recognised.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import blake2b
from html import escape
from typing import Final

from alerts.formats import text
from alerts.formats.view import Origin, View, cut, view
from hopwatch.events import SEVERITIES, Alert
from hopwatch.show import clean

DIGEST_MAX: Final = 200
"""Alerts that one digest shows; of more it says how many."""

SUBJECT_CHARACTERS_MAX: Final = 160

_NO_ID: Final = re.compile(r"[^A-Za-z0-9.-]")
_COLOURS: Final = {"critical": "#b00020", "high": "#c43e00", "medium": "#8a6d00", "low": "#1f6f8b", "info": "#4a4a4a"}


def render(alert: Alert, origin: Origin | None = None) -> bytes:
    """A mail of one alert from nobody to nobody: whoever sends it names both with ``message``."""
    return message([alert], origin, sender="hopwatch@localhost", recipients=()).as_bytes()


def message(alerts: Sequence[Alert], origin: Origin | None = None, *, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """A mail of the alerts, the worst first; several are a digest.

    Raises:
        ValueError: no alert, or an address that is none (RFC 5322, 3.4.1).
    """
    if not alerts:
        raise ValueError("no alerts, expected one or more")
    ordered = sorted(alerts, key=lambda one: (-SEVERITIES.index(one.severity), one.time, one.alert_id))
    seen = [view(one, origin) for one in ordered]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = _address(sender)
    if recipients:
        mail["To"] = [_address(one) for one in recipients]
    mail["Subject"] = cut(_subject(seen), SUBJECT_CHARACTERS_MAX)
    mail["Date"] = format_datetime(datetime.fromtimestamp(max(one.time_ns for one in seen) // 10**9, UTC))
    host = _NO_ID.sub("-", seen[0].origin.host).strip("-.") or "hopwatch.invalid"
    digest = blake2b("/".join(one.event_id for one in seen).encode(), digest_size=16).hexdigest()
    mail["Message-ID"] = f"<{digest}@{host}>"
    if len(seen) == 1:
        mail["References"] = mail["In-Reply-To"] = f"<{_NO_ID.sub('-', seen[0].alert_id)}@{host}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    worst = SEVERITIES.index(seen[0].severity)
    mail["Importance"] = "high" if worst >= SEVERITIES.index("high") else "normal"
    mail["X-Hopwatch-Alert"] = ", ".join(_NO_ID.sub("-", one.alert_id) for one in seen[:DIGEST_MAX])
    mail.set_content(_text(ordered, seen, origin), cte="quoted-printable")
    mail.add_alternative(_html(ordered, seen, origin), subtype="html", cte="quoted-printable")
    mail.set_boundary(f"=_{digest}")
    return mail


def _subject(seen: Sequence[View]) -> str:
    first = seen[0]
    if len(seen) == 1:
        done = f" {first.state}" if first.state != "new" else ""
        return f"[hopwatch {first.plant}] {first.severity.upper()}{done} {first.title}"
    plants = ", ".join(sorted({one.plant for one in seen}))
    counted = [f"{count} {severity}" for severity in reversed(SEVERITIES) if (count := sum(one.severity == severity for one in seen))]
    return f"[hopwatch {plants}] {len(seen)} alerts: {', '.join(counted)}"


def _text(alerts: Sequence[Alert], seen: Sequence[View], origin: Origin | None) -> str:
    lines = []
    if len(seen) > 1:
        lines += [f"{len(seen)} alerts, the worst first.", ""]
        lines += [f"{one.severity.upper():8}  {one.message}" for one in seen[:DIGEST_MAX]]
        lines += [f"and {len(seen) - DIGEST_MAX} more" if len(seen) > DIGEST_MAX else "", ""]
    for one in alerts[:DIGEST_MAX]:
        lines += [text.render(one, origin), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _html(alerts: Sequence[Alert], seen: Sequence[View], origin: Origin | None) -> str:
    """A heading and the text of each alert as it is; no picture, no script, nothing that is fetched."""
    parts = ["<!doctype html>", '<html lang="en"><head><meta charset="utf-8"><title>hopwatch</title></head><body>']
    for alert, one in list(zip(alerts, seen, strict=True))[:DIGEST_MAX]:
        link = f' <a href="{escape(one.url)}">open</a>' if one.url.startswith(("https://", "http://")) else ""
        parts.append(f'<h2 style="color:{_COLOURS[one.severity]}">{escape(one.severity.upper())} {escape(one.title)}</h2>')
        parts.append(f"<p>{escape(one.message)}{link}</p>")
        parts.append(f'<pre style="white-space:pre-wrap">{escape(text.render(alert, origin))}</pre>')
    if len(seen) > DIGEST_MAX:
        parts.append(f"<p>and {len(seen) - DIGEST_MAX} more</p>")
    return "\n".join([*parts, "</body></html>", ""])


def _address(said: str) -> Address:
    """``name <local@domain>`` or ``local@domain``."""
    name, bracket, rest = said.rpartition("<")
    try:
        return Address(display_name=clean(name.strip().strip('"')), addr_spec=rest.removesuffix(">").strip() if bracket else said.strip())
    except (ValueError, IndexError) as error:
        raise ValueError(f"an address of mail: {error}") from None
