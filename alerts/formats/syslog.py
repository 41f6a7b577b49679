"""Syslog messages (RFC 5424) and their framing on a stream by octet counting (RFC 6587, 3.4.1; RFC 5425, 4.3).

The message carries its most asked-for values as structured data and the alert in one line as text; ``carry`` puts another format's
line in the place of that text. Text begins with the byte order mark that says UTF-8 (RFC 5424, 6.4); a line of another format does not,
because what reads such a line looks for its first word, and says so by being of no declared encoding (MSG-ANY).
"""

import re
from typing import Final

from alerts.formats.view import Origin, View, instant, view
from hopwatch.events import Alert, Severity

FACILITY: Final = 16
"""local0 (RFC 5424, table 1)."""

ENTERPRISE: Final = 32473
"""The number of the structured data's name. hopwatch has none of its own; this is the one reserved for examples (RFC 5612)."""

MESSAGE_BYTES_MAX: Final = 8192
"""Octets of one message; receivers should take 2048 (RFC 5424, 6.1), rsyslog and syslog-ng take this much as they come."""

DATAGRAM_BYTES_MAX: Final = 2048
"""Octets of one message in a datagram (RFC 5426, 3.2)."""

PARAM_CHARACTERS_MAX: Final = 255
"""Characters of one value of the structured data."""

_BOM: Final = b"\xef\xbb\xbf"
# RFC 5424, table 2: 2 critical, 3 error, 4 warning, 5 notice, 6 informational.
_SEVERITIES: Final[dict[Severity, int]] = {"critical": 2, "high": 3, "medium": 4, "low": 5, "info": 6}
_NO_PRINTUSASCII: Final = re.compile(r"[^!-~]")


def render(alert: Alert, origin: Origin | None = None, *, facility: int = FACILITY, most: int = MESSAGE_BYTES_MAX) -> bytes:
    """One message, without framing, of at most ``most`` octets: what is too long is cut from the text, then from the structured data."""
    seen = view(alert, origin)
    return _message(seen, facility, _data(seen), _BOM, seen.message, most)


def carry(alert: Alert, line: str, origin: Origin | None = None, *, facility: int = FACILITY, most: int = MESSAGE_BYTES_MAX) -> bytes:
    """The same with ``line``, a CEF or LEEF line of the alert, as its text, and no structured data, as readers of those expect."""
    return _message(view(alert, origin), facility, [], b"", line, most)


def framed(message: bytes) -> bytes:
    """The message on a stream: its length in octets, a space, the message (RFC 6587, 3.4.1)."""
    return b"%d %b" % (len(message), message)


def _message(seen: View, facility: int, params: list[tuple[str, str]], mark: bytes, text: str, most: int) -> bytes:
    priority = facility * 8 + _SEVERITIES[seen.severity]
    words = (_word(seen.origin.host, 255), "hopwatch", "-", _word(seen.verdict, 32))
    head = f"<{priority}>1 {_time(seen.time_ns)} {' '.join(words)} ".encode()
    data = b""
    for name, value in params:
        param = f' {name}="{_escaped(value)}"'.encode()
        if len(head) + len(data) + len(param) + 64 <= most:
            data += param
    element = f"[hopwatch@{ENTERPRISE}".encode() + data + b"]" if params else b"-"
    body = mark + text.encode()
    room = most - len(head) - len(element) - 1
    if len(body) > room:
        # Not inside a character of UTF-8.
        body = body[: max(room, 0)].decode(errors="ignore").encode()
    return head + element + b" " + body


def _data(seen: View) -> list[tuple[str, str]]:
    pairs = [
        ("alert", seen.alert_id),
        ("finding", seen.finding_id),
        ("revision", str(seen.revision)),
        ("change", seen.change),
        ("state", seen.state),
        ("severity", seen.severity),
        ("plant", seen.plant),
        ("verdict", seen.verdict),
        ("who", seen.who),
        ("client", "" if seen.client is None else seen.client.name),
        *seen.ends,
        ("hop", seen.hop),
        ("techniques", ", ".join(seen.technique_ids)),
        ("page", seen.page),
        ("canary", "true" if seen.canary else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def _escaped(value: str) -> str:
    """Inside quotes ``"``, ``\\`` and ``]`` are escaped (RFC 5424, 6.3.3)."""
    value = value if len(value) <= PARAM_CHARACTERS_MAX else f"{value[: PARAM_CHARACTERS_MAX - 3]}..."
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _word(text: str, most: int) -> str:
    """A header field: printable US-ASCII without spaces, ``-`` where there is none."""
    return _NO_PRINTUSASCII.sub("_", text)[:most] or "-"


def _time(instant_ns: int) -> str:
    """At most six digits of a second (RFC 5424, 6.2.3)."""
    return instant(instant_ns, 6)
