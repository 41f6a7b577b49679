"""Every format that a SOC reads alerts in, one file each: pure functions of an ``Alert``, found here by name.

``FORMATS[name].render(alert, origin)`` gives the bytes of one alert and ``.together`` puts several into one request or file the way
the format does. Nothing here opens a socket, reads a clock or draws randomness: the same alert gives the same bytes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from alerts.formats import alertmanager, cef, ecs, leef, mail, ocsf, splunk, syslog, template, text
from alerts.formats.view import Origin
from hopwatch.events import Alert, dump

Together = Literal["lines", "concatenated", "list", "alone"]


@dataclass(frozen=True, slots=True)
class Format:
    """One format: its name, what it is called where a media type is asked for, and how several alerts go together.

    ``lines``: one alert a line. ``concatenated``: one after the other. ``list``: each gives the members of a JSON list, which
    together are one list. ``alone``: each is a message of its own.
    """

    name: str
    media_type: str
    combine: Together
    render: Callable[[Alert, Origin], bytes]

    def together(self, rendered: Sequence[bytes]) -> bytes:
        """Several alerts in one.

        Raises:
            ValueError: each is a message of its own.
        """
        if self.combine == "lines":
            return b"".join(one + b"\n" for one in rendered)
        if self.combine == "concatenated":
            return b"".join(rendered)
        if self.combine == "list":
            return b"[" + b",".join(inner for one in rendered if (inner := one[1:-1])) + b"]"
        if len(rendered) != 1:
            raise ValueError(f"{self.name}: {len(rendered)} alerts, expected one: each is a message of its own")
        return rendered[0]


def _json(make: Callable[[Alert, Origin], Mapping[str, Any] | Sequence[Any]]) -> Callable[[Alert, Origin], bytes]:
    """The bytes of what makes JSON values."""

    def render(alert: Alert, origin: Origin) -> bytes:
        return json.dumps(make(alert, origin), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    return render


def _event(alert: Alert, origin: Origin) -> bytes:
    return dump(alert)


_EVERY: Final = (
    Format("event", "application/json", "lines", _event),
    Format("text", "text/plain; charset=utf-8", "lines", lambda alert, origin: text.render(alert, origin).encode()),
    Format("ocsf", "application/json", "lines", _json(ocsf.detection_finding)),
    Format("ocsf-data", "application/json", "lines", _json(ocsf.data_security_finding)),
    Format("ecs", "application/json", "lines", _json(ecs.document)),
    Format("cef", "text/plain; charset=utf-8", "lines", lambda alert, origin: cef.render(alert, origin).encode()),
    Format("leef", "text/plain; charset=utf-8", "lines", lambda alert, origin: leef.render(alert, origin).encode()),
    Format("syslog", "application/syslog", "alone", syslog.render),
    Format("syslog-cef", "application/syslog", "alone", lambda alert, origin: syslog.carry(alert, cef.render(alert, origin), origin)),
    Format("syslog-leef", "application/syslog", "alone", lambda alert, origin: syslog.carry(alert, leef.render(alert, origin), origin)),
    Format("splunk", "application/json", "concatenated", _json(splunk.event)),
    Format("alertmanager", "application/json", "list", _json(alertmanager.alerts)),
    Format("mail", "message/rfc822", "alone", mail.render),
    *(
        Format(f"webhook-{one}", "application/json", "list" if one in template.LISTS else "alone", template.shipped(one))
        for one in template.SHIPPED
    ),
)

FORMATS: Final[Mapping[str, Format]] = {one.name: one for one in _EVERY}
"""Every format by its name."""


def named(name: str) -> Format:
    """The format of a name.

    Raises:
        ValueError: there is none; the message lists them.
    """
    if name not in FORMATS:
        raise ValueError(f"{name}: no such format, expected one of {', '.join(FORMATS)}")
    return FORMATS[name]
