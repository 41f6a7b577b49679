"""Log Event Extended Format 2.0 (IBM QRadar LEEF guide).

One line: a header of six fields parted by ``|``, the last of which names the tab as what parts the attributes, then ``key=value``
pairs. The format has no escapes. A view has neither tabs nor line ends, a value may hold ``=`` (a reader parts at the first), and
in the header whatever is no letter, digit, dot, underscore or hyphen is replaced.
"""

import re
from typing import Final

from alerts.formats.view import PRODUCT, VENDOR, Origin, View, instant, view
from hopwatch.events import Alert

DELIMITER: Final = "\t"
TIME_FORMAT: Final = "yyyy-MM-dd'T'HH:mm:ss.SSSX"
_NO_WORD: Final = re.compile(r"[^A-Za-z0-9._-]")


def render(alert: Alert, origin: Origin | None = None) -> str:
    """One line."""
    seen = view(alert, origin)
    header = (VENDOR, PRODUCT, seen.origin.version, seen.verdict)
    attributes = DELIMITER.join(f"{key}={value}" for key, value in _attributes(seen) if value)
    return "|".join(["LEEF:2.0", *(_NO_WORD.sub("_", one) for one in header), "x09", attributes])


def _attributes(seen: View) -> list[tuple[str, str]]:
    return [
        ("cat", "canary" if seen.canary else "alert"),
        ("devTime", _time(seen.time_ns)),
        ("devTimeFormat", TIME_FORMAT),
        ("sev", str(seen.severity_10)),
        ("src", "" if seen.source.address is None else str(seen.source.address)),
        ("dst", "" if seen.destination.address is None else str(seen.destination.address)),
        ("usrName", seen.who),
        ("identHostName", "" if seen.client is None else seen.client.name),
        ("resource", ", ".join(seen.objects)),
        ("policy", seen.hop),
        ("url", seen.url),
        ("alertId", seen.alert_id),
        ("findingId", seen.finding_id),
        ("revision", str(seen.revision)),
        ("change", seen.change),
        ("state", seen.state),
        ("disposition", seen.disposition),
        ("plant", seen.plant),
        ("verdict", seen.verdict),
        ("severity", seen.severity),
        ("severityBecause", seen.because),
        *seen.ends,
        ("windows", str(seen.windows)),
        ("firstSeen", _time(seen.first_ns)),
        ("lastSeen", _time(seen.last_ns)),
        ("techniques", ", ".join(seen.technique_ids)),
        ("page", seen.page),
        ("msg", seen.message),
    ]


def _time(instant_ns: int) -> str:
    return instant(instant_ns, 3)
