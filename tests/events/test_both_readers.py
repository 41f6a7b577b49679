"""The quick reader and the models say the same of every line: of what sensors write, and of that with anything changed."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopwatch import events
from hopwatch.events import EventError, Flow, parse
from hopwatch_wire import Sensor

DAY = Path(__file__).parents[2] / "examples" / "plant-day.pcap.gz"


def day() -> list[bytes]:
    """The shipped day as the sensor tells it."""
    sensor, said, done = Sensor("north", "tap"), [], False
    sensor.open_file(str(DAY))
    while not done:
        some, done = sensor.read(10_000)
        said += some
    return [*said, *sensor.finish()]


def shape(said: Any) -> str:
    """The types of everything that is said, whatever the values."""
    if isinstance(said, dict):
        return ",".join(f"{name}:{shape(one)}" for name, one in said.items())
    return f"[{shape(said[0]) if said else ''}]" if isinstance(said, list) else type(said).__name__


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text()
    | st.sampled_from(["0", "7", "true", "flow", "loss"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["port", "policy", "kind"]), inner, max_size=3),
    max_leaves=6,
)


EVERY = day()
FULL = json.loads(next(line for line in EVERY if b'"objects":[{' in line)) | {
    "protection": {
        "transport": "tls1.3", "cipher": "TLS_AES_128_GCM_SHA256", "policy": "Basic256Sha256", "authentication": "certificate",
        "certificate": {"subject": "CN=a", "self_signed": True, "days": 1.5}, "ja4": "t13d", "ech": True,
    },
    "source": {"address": "10.0.0.1", "port": 1, "names": [{"name": "a", "by": "dns"}, {"name": "b", "by": "connect", "port": 443}]},
    "on_behalf_of": {"application_name": "x", "levels": [1, None]},
    "objects": [{"names": ["b", "a"], "columns": ["*"], "rows": 1, "values": 0, "messages": 1, "bytes": 9, "marks": ["fills", "folded"]}],
    "merged": {"windows": 2},
}  # fmt: skip
LINES = [
    *{shape(json.loads(line)): line for line in EVERY}.values(),
    json.dumps(FULL).encode(),
    b'{"kind":"loss","event_id":"l","plant":"north","agent":"tap","stage":"kernel","start":"2026-04-07T10:42:08Z","end":"2026-04-07T10:42:09Z"}',
]


ODD = [
    None, True, False, 0, 1, -1, 65_535, 65_536, 2**63 - 1, 2**63, -(2**63) + 1, -(2**63), 10**30, 1.0, 0.5, 1e300, "", "1", "x",
    "true", "flow", "2026-04-07T10:42:08Z", "2026-02-30T10:42:08Z", "\u0662026-04-07T10:42:08Z", [],
    {}, [{}], ["x"], {"x": []}, [None], [{"by": 1}],
]  # fmt: skip


def places(said: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in an event something can be changed."""
    inner = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def answer(read: Callable[[bytes], events.Event], line: bytes) -> object:
    """What is known by name and the whole event, or the words of the refusal."""
    try:
        event = read(line)
    except EventError as error:
        return str(error)
    known = [getattr(event, name) for name in Flow.__struct_fields__] if isinstance(event, Flow) else event
    return repr(known), json.dumps(event.model_dump(), sort_keys=True)


def same(line: bytes) -> None:
    assert answer(parse, line) == answer(events._judged, line)


def test_every_window_of_a_sensor_is_read_at_once_and_as_the_models_read_it() -> None:
    flows = [line for line in (*EVERY, *LINES) if json.loads(line)["kind"] == "flow"]
    assert len(flows) > 40
    for line in flows:
        assert isinstance(events._plainly(line), Flow)
        same(line)


@pytest.mark.parametrize("whole", [FULL, json.loads(LINES[-1])], ids=["flow", "loss"])
def test_each_field_takes_and_refuses_the_same_odd_values(whole: dict[str, Any]) -> None:
    for *path, last in places(whole)[1:]:
        for odd in ODD:
            said = deepcopy(whole)
            inner: Any = said
            for key in path:
                inner = inner[key]
            inner[last] = odd
            same(json.dumps(said).encode())


@st.composite
def changed(draw: st.DrawFn, whole: dict[str, Any]) -> dict[str, Any]:
    """The event with something else, something more or nothing in one or two places."""
    said = deepcopy(whole)
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from(places(said)[1:]))
        inner: Any = said
        for key in path:
            inner = inner[key]
        what = draw(st.sampled_from(["another", "another", "nothing", "more"]))
        if what == "nothing":
            del inner[last]
        elif what == "more" and isinstance(inner, dict):
            inner[draw(st.text())] = draw(ANY)
        else:
            inner[last] = draw(ANY)
    return said


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(LINES).map(json.loads).flatmap(changed))
def test_any_value_anywhere_is_taken_or_refused_alike(said: dict[str, Any]) -> None:
    same(json.dumps(said).encode(errors="surrogatepass"))


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(LINES), st.integers(0), st.integers(0, 40), st.binary(max_size=8) | st.sampled_from([b"1.0", b"1e3", b'"\\ud800"']))
def test_any_bytes_anywhere_are_taken_or_refused_alike(line: bytes, at: int, length: int, put: bytes) -> None:
    at %= len(line)
    same(line[:at] + put + line[at + length :])


@pytest.mark.parametrize(
    "line",
    [
        LINES[0].replace(b'"sequence":', b'"sequence":9,"sequence":'),
        LINES[0].replace(b'{"kind":"flow",', b"{"),
        LINES[0].replace(b'{"kind":"flow",', b'{"kind":"flow","kind":"loss",'),
        LINES[0].replace(b'"rows":', b'"rows":true,"x":'),
        LINES[0].replace(b'{"kind":"flow",', b'{"kind":"",'), b"[" * 100_000,
        LINES[0][:-1] + b',"deep":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        LINES[0] + b"\n", b" " + LINES[0], LINES[0] + b"{}", b"\xef\xbb\xbf" + LINES[0],
    ],
)  # fmt: skip
def test_what_readers_of_json_quarrel_about_is_taken_or_refused_alike(line: bytes) -> None:
    same(line)


def test_newer_fields_are_kept_at_every_depth_and_the_rest_is_read_at_once() -> None:
    said = deepcopy(FULL) | {"later": {"a": [1]}}
    for part in (said["source"], said["source"]["names"][1], said["objects"][0], said["totals"], said["protection"], said["completeness"]):
        part["later"] = [None, 1.5]
    line = json.dumps(said).encode()
    event = events._newer(line)
    assert event is not None
    assert event.model_dump() == said
    assert event.model_copy(update={"rows": 7}).model_dump() == said | {"rows": 7}
    same(line)
