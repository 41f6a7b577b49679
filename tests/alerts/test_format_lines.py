"""CEF, LEEF and syslog, read back by parsers of their own: whatever somebody called himself, each value is where it belongs."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from told import ANY, alert, alerts, one_line, shown

from alerts.formats import FORMATS, cef, leef, syslog, text
from alerts.formats.view import Origin
from hopwatch.events import Alert, time_ns

SOC = Origin("soc-1", "0.1.0", "https://console.plant.example:8443")


def read_cef(line: str) -> tuple[list[str], dict[str, str]]:
    """By the standard alone: seven fields up to unescaped bars; a key is the word before an equals sign that is not escaped."""
    fields, here, rest = [], "", line
    while len(fields) < 7:
        one, rest = rest[0], rest[1:]
        if one == "\\":
            assert rest[0] in "\\|", "only these are escaped in a header"
            here, rest = here + rest[0], rest[1:]
        elif one == "|":
            fields.append(here)
            here = ""
        else:
            here += one
    signs = [found.start(1) for found in re.finditer(r"(?<!\\)(?:\\\\)*(=)", rest)]
    keys = [re.search(r"(?:^|(?<= ))[A-Za-z0-9]+$", rest[:sign]) for sign in signs]
    assert all(keys), "every equals sign that is not escaped follows a key"
    pairs = {}
    for place, (sign, key) in enumerate(zip(signs, keys, strict=True)):
        assert key is not None
        following = keys[place + 1] if place + 1 < len(keys) else None
        value = rest[sign + 1 : following.start() - 1 if following else len(rest)]
        assert key[0] not in pairs, "no key twice"
        pairs[key[0]] = re.sub(r"\\([\\=])", r"\1", value)
    return fields, pairs


def read_leef(line: str) -> tuple[list[str], dict[str, str]]:
    *fields, attributes = line.split("|", 6)
    delimiter = chr(int(fields[5].removeprefix("x"), 16))
    return fields[:5], dict(one.split("=", 1) for one in attributes.split(delimiter))  # type: ignore[misc]  # split gives pairs


SYSLOG = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<time>\S+) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<proc>[!-~]{1,128}) (?P<id>[!-~]{1,32}) "
    rb'(?P<data>-|\[[!-<>-\\^-~]{1,32}(?: [!-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\.)*")*\])(?: (?P<text>.*))?',
    re.DOTALL,
)


def read_syslog(message: bytes) -> tuple[dict[str, bytes], dict[str, str]]:
    """By the grammar of RFC 5424, section 6."""
    found = SYSLOG.fullmatch(message)
    assert found, message
    data = found["data"].decode()
    pairs = re.findall(r' ([^ =\]"]+)="((?:[^"\\\]]|\\.)*)"', data)
    assert len(pairs) == len({name for name, _ in pairs})
    return found.groupdict(), {name: re.sub(r'\\(["\\\]])', r"\1", value) for name, value in pairs}


def values(said: Alert) -> dict[str, str]:
    """What a reader must find, empty where there is nothing."""
    finding = said.finding
    return {
        "alert": shown(said.alert_id), "finding": shown(finding.finding_id), "plant": shown(said.plant), "verdict": shown(finding.verdict),
        "who": shown(finding.who or ""), "client": shown(finding.client or ""), "hop": shown(finding.nearest_hop or ""),
        "source": shown(finding.source), "destination": shown(finding.destination), "rows": str(finding.observed.rows),
        "bytes": str(finding.observed.bytes), "state": said.state, "change": said.change, "page": shown(said.page),
        "classes": ", ".join(map(shown, finding.observed.classes)), "objects": ", ".join(map(shown, finding.observed.objects)),
        "because": shown(said.severity_because),
    }  # fmt: skip


@ANY
@given(alerts())
def test_a_reader_of_cef_finds_every_value_of_any_alert(said: Alert) -> None:
    line = cef.render(said, SOC)
    header, pairs = read_cef(line)
    want = values(said)
    assert one_line(line)
    assert header[:5] == ["CEF:0", "hopwatch", "hopwatch", "0.1.0", want["verdict"]]
    assert int(header[6]) == {"info": 1, "low": 3, "medium": 5, "high": 8, "critical": 10}[said.severity]
    places = {
        "externalId": ("alert", 40), "deviceExternalId": ("plant", 255), "suser": ("who", 1023), "cs1": ("finding", 4000),
        "cs2": ("hop", 4000), "cs3": ("classes", 4000), "cs4": ("objects", 4000), "act": ("change", 63), "outcome": ("state", 63),
        "flexString1": ("client", 1023), "flexString2": ("page", 1023), "cn1": ("rows", 99), "cn2": ("bytes", 99),
        "reason": ("because", 1023),
    }  # fmt: skip
    assert {key: pairs.get(key, "") for key in places} == {key: shown(want[name], most) for key, (name, most) in places.items()}
    assert int(pairs["rt"]) == time_ns(said.time) // 10**6
    assert all(f"{key}Label" in pairs for key in pairs if re.fullmatch(r"(cs|cn|c6a|flex(String|Number))\d", key))


@ANY
@given(alerts())
def test_a_reader_of_leef_finds_every_value_of_any_alert(said: Alert) -> None:
    line = leef.render(said, SOC)
    header, pairs = read_leef(line)
    want = values(said)
    assert one_line(line, "\t")
    assert header == ["LEEF:2.0", "hopwatch", "hopwatch", "0.1.0", re.sub(r"[^A-Za-z0-9._-]", "_", want["verdict"])]
    names = {
        "alertId": "alert", "findingId": "finding", "plant": "plant", "verdict": "verdict", "usrName": "who", "identHostName": "client",
        "policy": "hop", "source": "source", "destination": "destination", "rows": "rows", "bytes": "bytes", "state": "state",
        "change": "change", "page": "page", "classes": "classes", "resource": "objects", "severityBecause": "because",
    }  # fmt: skip
    assert {key: pairs.get(key, "") for key in names} == {key: want[name] for key, name in names.items()}
    assert datetime.strptime(pairs["devTime"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp() == time_ns(said.time) // 10**6 / 1000


@ANY
@given(alerts())
def test_a_reader_of_syslog_finds_every_value_of_any_alert(said: Alert) -> None:
    message = syslog.render(said, SOC, most=65_536)
    fields, pairs = read_syslog(message)
    want = values(said)
    names = [name for name in want if name not in ("objects", "because")]
    assert {name: pairs.get(name, "") for name in names} == {name: shown(want[name], 255) for name in names}
    assert divmod(int(fields["pri"]), 8) == (16, {"critical": 2, "high": 3, "medium": 4, "low": 5, "info": 6}[said.severity])
    assert time_ns(fields["time"].decode()) == time_ns(said.time) // 1000 * 1000
    assert fields["text"].startswith(b"\xef\xbb\xbf")
    assert one_line(message.decode().replace("\ufeff", "", 1))


@ANY
@given(alerts())
def test_a_message_of_syslog_is_never_longer_than_asked_and_always_one_message(said: Alert) -> None:
    for most in (syslog.DATAGRAM_BYTES_MAX, 600):
        message = syslog.render(said, SOC, most=most)
        assert len(message) <= most
        read_syslog(message)
        message.decode()


@ANY
@given(alerts())
def test_text_shows_any_alert_in_lines_of_our_own(said: Alert) -> None:
    shown_text = text.render(said, SOC)
    first, *rest = shown_text.split("\n")
    assert all(one_line(line) for line in (first, *rest))
    if said.canary:
        assert first.startswith("CANARY")
        first, *rest = rest
    assert first.startswith(said.severity.upper())
    assert all(line.startswith("  ") for line in rest)


def test_a_finding_reads_the_same_in_text_as_everywhere_else() -> None:
    lines = text.render(alert(owner="h.keller", state="in-progress", hidden=3), SOC).split("\n")
    assert lines[0] == "CRITICAL  undeclared-hop   north   2026-04-07 10:42:09Z   finding F-7c1e9a02"
    assert "    who         svc_mw at mw                 -> svc_report at 10.40.9.77" in lines
    assert lines[-6:] == [
        "  alert A-7c1e9a02aabbccdd, revision 0: raised, first seen",
        "  in-progress, h.keller, raised 2026-04-07 10:42:10Z, 3 kept quiet",
        "  severity: undeclared-hop is critical as declared",
        "  may be: T1213.006 Databases, T0882 Theft of Operational Information",
        "  do next: docs/verdicts/undeclared-hop.md",
        "  https://console.plant.example:8443/alerts/A-7c1e9a02aabbccdd",
    ]


def test_addresses_go_where_their_version_goes() -> None:
    _, pairs = read_cef(cef.render(alert({"source": "2001:db8::7", "destination": "mw (10.30.0.20)"})))
    assert (pairs["c6a2"], pairs["c6a2Label"], pairs["dst"], pairs["dhost"]) == (
        "2001:db8::7", "Source IPv6 Address", "10.30.0.20", "mw (10.30.0.20)",
    )  # fmt: skip
    assert "src" not in pairs
    _, attributes = read_leef(leef.render(alert({"source": "fe80::1%eth0", "destination": "mes-db"})))
    assert attributes["src"] == "fe80::1"
    assert "dst" not in attributes


def test_a_stream_of_framed_messages_is_parted_by_their_lengths() -> None:
    messages = [syslog.render(alert({"who": "x 12 <34>1 é"}), SOC), syslog.carry(alert(), cef.render(alert(), SOC), SOC)]
    stream, found = b"".join(map(syslog.framed, messages)), []
    while stream:
        length, stream = stream.split(b" ", 1)
        found.append(stream[: int(length)])
        stream = stream[int(length) :]
    assert found == messages


def test_a_line_of_another_format_is_the_text_of_a_syslog_message_as_it_is() -> None:
    fields, pairs = read_syslog(FORMATS["syslog-cef"].render(alert(), SOC))
    assert fields["text"].decode() == cef.render(alert(), SOC)
    assert (fields["data"], pairs) == (b"-", {})


def test_text_that_is_cut_ends_between_characters() -> None:
    said = alert({"differences": [{"question": "what", "declared": "é" * 900, "observed": "x"}]})
    for most in range(700, 720):
        syslog.render(said, SOC, most=most).decode()


@pytest.mark.parametrize("name", ["cef", "leef", "syslog", "splunk", "ocsf", "ecs", "mail", "webhook-slack"])
def test_a_canary_says_so_in_every_format(name: str) -> None:
    assert b"canary" in FORMATS[name].render(alert(canary=True), SOC).lower()
    assert b"canary" not in FORMATS[name].render(alert(), SOC).lower().replace(b'"canary":false', b"")


def test_times_beyond_the_second_stay() -> None:
    _, pairs = read_cef(cef.render(alert(time="2026-04-07T12:42:10.123456789+02:00")))
    assert datetime.fromtimestamp(int(pairs["rt"]) / 1000, UTC).isoformat() == "2026-04-07T10:42:10.123000+00:00"
