"""Alerts for the tests of formats: one as it would be, and any that a hostile wire could bring about."""

from datetime import datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from hopwatch.events import Alert

JSON = dict[str, Any]

ANY = settings(deadline=None, max_examples=60)


def alert(finding: JSON | None = None, **said: Any) -> Alert:
    """The alert of a notebook that reads the genealogy, with other fields."""
    told: JSON = {
        "event_id": "9f2c5e" * 5, "alert_id": "A-7c1e9a02aabbccdd", "revision": 0, "plant": "north", "time": "2026-04-07T10:42:10.5Z",
        "change": "raised", "why": "first seen", "notify": True, "state": "new", "severity": "critical",
        "severity_because": "undeclared-hop is critical as declared", "techniques": ["T1213.006", "T0882"], "group": "north/svc_report",
        "raised": "2026-04-07T10:42:10Z", "notified": 1, "page": "docs/verdicts/undeclared-hop.md",
        "finding": {
            "event_id": "77b0" * 8, "finding_id": "F-7c1e9a02", "verdict": "undeclared-hop", "severity": "critical", "plant": "north",
            "first_seen": "2026-04-07T10:33:02Z", "last_seen": "2026-04-07T10:42:09.000000001Z", "windows": 540, "who": "svc_report",
            "client": "10.40.9.77", "source": "mes-db", "destination": "files.example (198.51.100.7)",
            "observed": {"rows": 1204331, "bytes": 851443712, "objects": ["mes.genealogy"], "classes": ["process_ip"]},
            "nearest_hop": "extract-quality",
            "differences": [{"question": "who", "declared": "svc_mw at mw", "observed": "svc_report at 10.40.9.77"}],
            "declaration": {"plant": "north", "version": 14, "commit": "9ab31c7", "signed": True}, "evidence": ["aa11", "bb22"],
        },
    }  # fmt: skip
    told["finding"] |= finding or {}
    return Alert.model_validate(told | said)


_SEPARATORS = "|=\\\"'[]{}<>&%$#*`_~!:;,/ \t\r\n\x00\x1b\x7f\x85\u2028\u2029\u202e\ufeffé漢😀"
NAMES = st.one_of(
    st.text(alphabet=st.one_of(st.sampled_from(_SEPARATORS), st.characters(exclude_categories=("Cs",))), max_size=40),
    st.sampled_from(
        [
            "svc|CEF:0|evil|x|1|y|z|9|act=deny", "a=b act=allowed", "x\tsev=1", "line\r\nBcc: all@example.org", "\n<34>1 - - - - - -",
            'q" injected="yes', "] [x@1 y=\"z\"]", "\\", "\\=", "\\\\|", "{{ 7*7 }}", "{% for x in y %}", "<!channel>", "</pre><script>",
            "[click](https://evil.example)", '","role":"admin', "\x1b[31mred", "10.0.0.1 (10.0.0.2)", "x" * 2000, "é" * 600,
        ]
    ),
)  # fmt: skip
ENDS = st.one_of(NAMES, st.ip_addresses().map(str), st.ip_addresses().map(lambda address: f"mw ({address})"))
COUNTS = st.integers(0, 2**63 - 1)
SEVERITIES = st.sampled_from(["info", "low", "medium", "high", "critical"])
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)).map(lambda at: f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}Z")


@st.composite
def alerts(draw: st.DrawFn) -> Alert:
    """Any alert: every text is whatever somebody called himself."""
    finding = {
        "finding_id": draw(NAMES), "verdict": draw(NAMES), "plant": draw(NAMES), "first_seen": draw(TIMES), "last_seen": draw(TIMES),
        "windows": draw(COUNTS), "who": draw(st.none() | NAMES), "client": draw(st.none() | ENDS), "source": draw(ENDS),
        "destination": draw(ENDS), "nearest_hop": draw(st.none() | NAMES), "severity": draw(SEVERITIES),
        "observed": {
            "rows": draw(COUNTS), "values": draw(COUNTS), "messages": draw(COUNTS), "bytes": draw(COUNTS),
            "objects": draw(st.lists(NAMES, max_size=3)), "classes": draw(st.lists(NAMES, max_size=3)),
        },
        "differences": draw(
            st.lists(st.fixed_dictionaries({"question": NAMES, "declared": NAMES, "observed": NAMES}), max_size=3)
        ),
        "declaration": draw(
            st.none() | st.fixed_dictionaries({"plant": NAMES, "version": st.integers(0, 99), "commit": st.none() | NAMES})
        ),
        "evidence": draw(st.lists(NAMES, max_size=3)),
    }  # fmt: skip
    return alert(
        finding, event_id=draw(NAMES), alert_id=draw(NAMES), plant=draw(NAMES), why=draw(NAMES), group=draw(NAMES),
        severity=draw(SEVERITIES), severity_because=draw(NAMES), techniques=draw(st.lists(NAMES, max_size=3)),
        owner=draw(st.none() | NAMES), page=draw(NAMES), state=draw(st.sampled_from(["new", "in-progress", "suppressed", "resolved"])),
        change=draw(st.sampled_from(["raised", "updated", "raised-again", "decided", "returned", "inhibited", "released"])),
        disposition=draw(st.none() | st.sampled_from(["true-positive", "benign-trigger", "false-positive", "duplicate", "test"])),
        revision=draw(st.integers(0, 2**31)), notify=draw(st.booleans()), notified=draw(st.integers(0, 9)), canary=draw(st.booleans()),
        time=draw(TIMES), raised=draw(TIMES),
    )  # fmt: skip


def shown(text: object, most: int = 1024) -> str:
    """A text as formats may show it: what is not printable is replaced, what is too long is cut."""
    line = "".join(one if one.isprintable() else "\ufffd" for one in str(text))
    return line if len(line) <= most else f"{line[: most - 3]}..."


def one_line(line: str, besides: str = "") -> bool:
    """Whether nothing in it ends a line, or speaks to a terminal."""
    return all(one.isprintable() or one in besides for one in line)
