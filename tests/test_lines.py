"""The reader of a stream and the reader of a line say the same of every line, whatever was read before it."""

import gc
import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.online import online
from hopwatch.engine import Engine
from hopwatch.events import Flow, parse
from hopwatch.lines import reader
from hopwatch_wire import Lines
from tests.detectors.north import MES_APP, MES_DB, architecture, end, flow, objects
from tests.events.test_both_readers import EVERY, FULL, LINES, ODD, answer, changed, places

ON = {"final": False, "sequence": 7, "agent_sequence": 70, "spool": "5p"}


def compact(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def later(said: dict[str, Any]) -> dict[str, Any]:
    """What the flow says a second later."""
    said = deepcopy(said)
    totals = {name: count + 1_000_000 for name, count in said["totals"].items()}
    sets = [one | {"rows": 3, "values": -2, "bytes": 10**12} for one in said["objects"]]
    return said | {
        "event_id": "e" * 32, "sequence": said["sequence"] + 1, "start": "2026-04-07T10:42:09.000000001Z", "end": "2026-04-07T10:42:10Z",
        "statement": None, "objects": sets, "totals": totals, "packets": 12_345, "completeness": said["completeness"] | {"lost_bytes": 9},
    }  # fmt: skip


SAID = [json.loads(line) | ON for line in (*LINES, compact({})) if b'"flow"' in line]
GOES_ON = [(compact(said), compact(later(said))) for said in SAID]


def lines() -> "Lines[Any]":
    return Lines(parse, Flow)


def same(read: Callable[[bytes], Any], line: bytes) -> None:
    assert answer(read, line) == answer(parse, line)


def said_so(first: bytes, line: bytes) -> None:
    """The line is read alike after the first, and the first after it."""
    read = lines()
    same(read, first)
    for one in (line, line, first, line):
        same(read, one)


@pytest.mark.parametrize(("first", "second"), GOES_ON)
def test_a_window_like_the_one_before_it_is_read_by_that_and_shares_what_stayed(first: bytes, second: bytes) -> None:
    read = lines()
    before = [read(first), read(second)]
    assert read.counters()["again"] == 1
    for line, window in zip((first, second, first), (*before, read(first)), strict=True):
        alone = parse(line)
        assert window == alone and (window.start_ns, window.end_ns) == (alone.start_ns, alone.end_ns)
        assert window.model_dump() == json.loads(line)
        for name in ("source", "destination", "protection", "account", "application", "connection", "plant", "spool"):
            assert getattr(window, name) is getattr(before[1], name)
        for one, other in zip(window.objects, before[1].objects, strict=True):
            assert one.names is other.names and one.columns is other.columns and one.marks is other.marks


def test_sets_come_in_any_order_and_number() -> None:
    kinds = [{"names": [name], "columns": [], "rows": 1, "values": 2, "messages": 3, "bytes": 4} for name in ("a", "b", 'c"]', "ä")]
    marked = kinds[0] | {"marks": ["fills"]}
    read, again = lines(), 0
    for sets in (kinds, kinds[::-1], kinds[:1], [], kinds * 16, [*kinds, marked], [marked, kinds[0], marked], kinds * 17):
        line = compact(FULL | ON | {"objects": sets})
        same(read, line)
        again = read.counters()["again"]
    # The first, the one with a kind that was new, and the one with more than a window holds were read by the vocabulary.
    assert again == 5
    line = compact(FULL | ON | {"objects": [*kinds, marked, kinds[0] | {"names": ["d"]}]})
    same(read, line)
    same(read, compact(FULL | ON | {"objects": kinds}))
    assert read.counters()["again"] == again + 1


def test_every_window_of_a_sensor_is_read_alike_whatever_came_before() -> None:
    read = reader()
    for line in (*EVERY, *EVERY):
        same(read, line)


@pytest.mark.parametrize("said", SAID[-1:], ids=["flow"])
def test_each_field_takes_and_refuses_the_same_odd_values_after_a_plain_line(said: dict[str, Any]) -> None:
    read = lines()
    first = compact(said)
    for *path, last in places(said)[1:]:
        for odd in ODD:
            other = deepcopy(said)
            inner: Any = other
            for key in path:
                inner = inner[key]
            inner[last] = odd
            same(read, first)
            same(read, compact(other))


NUMBERS = ["0", "-0", "00", "01", "-1", "-01", "1.0", "1e3", "+1", " 1", "1 ", "", "-", "999999999999999999", "-999999999999999999",
    "9223372036854775807", "9223372036854775808",
    "-9223372036854775807", "-9223372036854775808", "1" * 40, "true", "null", '"1"', "[1]"]  # fmt: skip
COUNTS = ["sequence", "rows", "values", "messages", "bytes", "bytes_back", "packets", "agent_sequence", "lost_bytes"]
TIMES = [
    "2026-04-07T10:42:08Z", "2026-04-07T10:42:08.1Z", "2026-04-07T10:42:08.123456789Z", "2026-04-07T10:42:08.1234567891Z",
    "2026-04-07T10:42:08.Z", "2026-04-07t10:42:08z", "2026-04-07T10:42:08+00:00", "2026-04-07T10:42:60Z", "2026-04-07T24:00:00Z",
    "2026-02-29T00:00:00Z", "2024-02-29T23:59:59.999999999Z", "2000-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2026-02-30T00:00:00Z",
    "2026-04-31T00:00:00Z", "2026-12-31T23:59:59Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z",
    "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2261-12-31T23:59:59.999999999Z", "2262-12-31T23:59:59Z", "9999-12-31T23:59:59Z",
    "0000-01-01T00:00:00Z", "2026-04-07T10:60:08Z", "2026-04-07 10:42:08Z", "2026-04-07T10:42:08", "", "2026-04-07T10:42:0\\u0038Z",
]  # fmt: skip
TEXTS = ['"x"', '""', '"a\\"b"', '"a\\\\"', '"\\u0041"', '"ä"', '"\x7f"', '"\x01"', '"a', "null", "1", "[]", '"' + "y" * 70_000 + '"']


@pytest.mark.parametrize(
    ("key", "values"),
    [
        *((key, NUMBERS) for key in COUNTS),
        *((key, [f'"{time}"' for time in TIMES]) for key in ("start", "end")),
        *((key, TEXTS) for key in ("event_id", "statement", "flow_id", "account", "plant")),
        ("final", ["true", "false", "null", "True", "1", "tru", "falsetrue", '"true"']),
    ],
)  # fmt: skip
def test_values_at_the_edge_of_what_is_plain_are_read_alike_wherever_they_stand(key: str, values: list[str]) -> None:
    first, second = GOES_ON[-1]
    before, *stretches = first.split(b'"%s":' % key.encode())
    read = lines()
    same(read, first)
    for value in values:
        for place in range(len(stretches)):
            rest = list(stretches)
            old = json.JSONDecoder().raw_decode(rest[place].decode())[1]
            rest[place] = value.encode() + rest[place].decode()[old:].encode()
            same(read, (b'"%s":' % key.encode()).join([before, *rest]))
            same(read, second)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_value_anywhere_is_read_alike(data: st.DataObject) -> None:
    first = data.draw(st.sampled_from(SAID))
    said = data.draw(changed(later(first) if data.draw(st.booleans()) else first))
    said_so(compact(first), compact(said))


SOME = st.binary(max_size=8) | st.sampled_from(
    [b"1.0", b"1e3", b'"\\ud800"', b"0", b"7", b"-", b'"', b",", b"}", b"]", b"true", b'"rows":1,', b"\xff"]
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(GOES_ON), st.integers(0, 1), st.integers(0), st.integers(0, 40), SOME)
def test_any_bytes_anywhere_are_read_alike(pair: tuple[bytes, bytes], which: int, at: int, length: int, put: bytes) -> None:
    line = pair[which]
    at %= len(line)
    said_so(pair[0], line[:at] + put + line[at + length :])


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"rows":', b'"rows":9,"rows":', 1),
        lambda line: line.replace(b'"account":', b'"account":"x","account":'),
        lambda line: line.replace(b'"totals":', b'"totals":{},"totals":'), lambda line: line[:-1] + b',"totals":{}}',
        lambda line: line.replace(b'"objects":', b'"objects":[],"objects":'), lambda line: line[:-1] + b',"objects":[]}',
        lambda line: line.replace(b'"rows":', b'"\\u0072ows":'), lambda line: line.replace(b",", b", "), lambda line: line + b"\n",
        lambda line: line.replace(b'"kind":"flow",', b"", 1), lambda line: line.replace(b'"kind":"flow"', b'"kind":"loss"'),
        lambda line: line[:-1] + b',"later":{"rows":1}}', lambda line: line.replace(b'"final":false,', b""),
        lambda line: json.dumps(dict(reversed(json.loads(line).items())), separators=(",", ":")).encode(),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pair", [GOES_ON[0], GOES_ON[-1]])
def test_lines_that_are_written_otherwise_are_read_alike_before_and_after(
    pair: tuple[bytes, bytes], change: Callable[[bytes], bytes]
) -> None:
    first, second = pair
    said_so(first, change(second))
    said_so(change(first), second)
    said_so(change(first), change(second))


@example("plain")
@given(st.text(max_size=20))
@settings(max_examples=50, deadline=None)
def test_names_of_any_text_stay_what_they_were(name: str) -> None:
    said = FULL | ON | {"account": name, "objects": [FULL["objects"][0] | {"names": [name]}]}
    said_so(compact(said), compact(later(said)))


def test_text_that_is_no_bytes_is_read_too() -> None:
    first, second = GOES_ON[-1]
    read = lines()
    assert read(first.decode()) == parse(first) == read(first) and read(second.decode()) == parse(second)
    assert read.counters()["again"] == 0


def test_nobody_who_judges_windows_changes_what_they_share() -> None:
    class Quiet:
        def say(self, outcome: object) -> None: ...

    read, engine = reader(), Engine([online(architecture())], Quiet())
    told = [
        flow(
            source=end(MES_DB), destination=end(MES_APP), account=account, operation="select", n=n, key=account, connection=n % 2,
            objects=[objects(name, rows=n, bytes=90) for name in ("mes.genealogy", "mes.orders")[: 1 + n % 2]],
        )
        for n in range(40)
        for account in ("svc_mes", "stranger")
    ]  # fmt: skip
    written = [compact(one.model_dump()) for one in told]
    for line in written:
        engine.take((read(line),))
    for line in written:
        same(read, line)


def other(said: dict[str, Any], n: int) -> dict[str, Any]:
    """A window of another client that says the same."""
    client = {"address": f"10.64.0.{n}", "port": 40_000 + n, "names": []}
    ends = {"source": client} if said["opened_by"] == "source" else {"destination": client}
    return later(said) | ends | {"flow_id": f"f{n}", "connection": f"c{n}"}


PLAIN = FULL | ON | {"opened_by": "destination"}


def test_another_client_s_window_is_read_by_the_first_one_s_and_bears_its_mark() -> None:
    for said in (
        PLAIN,
        PLAIN | {"final": True},
        PLAIN | {"opened_by": "source", "source": PLAIN["destination"], "destination": PLAIN["source"]},
    ):
        read = lines()
        same(read, compact(other(said, 1)))
        windows = [read(compact(other(said, n))) for n in range(2, 40)]
        assert windows == [parse(compact(other(said, n))) for n in range(2, 40)]
        assert (read.counters()["again"], read.counters()["learned"], read.counters()["kinds"]) == (38, 1, 1)
        assert windows[0].mark is not None and {id(window.mark) for window in windows} == {id(windows[0].mark)}


DIFFERENT = [
    {"account": "another"}, {"role": "another"}, {"application": "another"}, {"operation": "another"}, {"agent": "another"},
    {"protocol": "x"}, {"transport": "udp"}, {"protection": FULL["protection"] | {"authentication": "none"}}, {"depth": "sizes"},
    {"completeness": FULL["completeness"] | {"estimated": True}}, {"objects": []}, {"objects": FULL["objects"] * 2},
    {"objects": [FULL["objects"][0] | {"names": ["another"]}]}, {"objects": [FULL["objects"][0] | {"columns": ["another"]}]},
    {"source": FULL["source"] | {"address": "10.9.9.9"}}, {"source": FULL["source"] | {"port": 9}},
    {"source": FULL["source"] | {"names": []}},
]  # fmt: skip


def test_whatever_a_judgement_follows_from_has_a_mark_of_its_own() -> None:
    read, first = lines(), other(PLAIN, 1)
    for _ in range(3):
        windows = [read(compact(first | different)) for different in ({}, *DIFFERENT)]
    marks = [window.mark for window in windows]
    assert all(mark is not None for mark in marks)
    assert len({id(mark) for mark in marks}) == 1 + len(DIFFERENT)
    again = [read(compact(first | different | {"rows": 7, "start": "2026-04-07T10:42:09.1Z"})).mark for different in ({}, *DIFFERENT)]
    assert again == marks


def test_a_window_that_is_judged_for_itself_has_no_mark() -> None:
    named = {"address": "10.64.0.1", "port": 4, "names": [{"name": "a", "by": "dns"}]}
    sets = [PLAIN["objects"][0] | {"names": names} for names in (["a"], ["b"])]
    for different in (
        {"opened_by": None}, {"destination": named},
        {"objects": [sets[0], sets[1] | {"names": []}]}, {"objects": [sets[0], sets[1] | {"rows": -1}]},
    ):  # fmt: skip
        read, line = lines(), compact(other(PLAIN, 1) | different)
        assert parse(line).mark is None
        assert [read(line).mark for _ in range(3)] == [None] * 3
        assert read.counters()["again"] == 2
    read = lines()
    forth, back = (compact(other(PLAIN, 1) | {"objects": order}) for order in (sets, sets[::-1]))
    # Of several sets the order is no difference.
    assert read(forth).mark is None and read(forth).mark is read(back).mark is not None


def test_kinds_of_sets_beyond_the_bound_begin_anew() -> None:
    read = lines()
    for n in range(3_000):
        same(read, compact(other(PLAIN, 1) | {"objects": [PLAIN["objects"][0] | {"names": [f"name {n % 1_500}"]}]}))
    assert read.counters()["learned"] <= 1_024 + 3_000 // 32
    assert read.counters()["kinds"] == 1


def test_kinds_beyond_the_bound_are_passed_over_and_what_is_remembered_stays_small() -> None:
    read, said = lines(), later(FULL | ON)
    for n in range(33_000):
        read(compact({"kind": "flow", "event_id": "e", "plant": "p", "agent": "a", "connection": "c", "flow_id": "f", "sequence": 1,
            "start": "2026-04-07T10:42:08Z", "end": "2026-04-07T10:42:08Z", "source": {"address": "x"}, "destination": {"address": "y"},
            "opened_by": "source", "operation": str(n), "statement": None, "depth": "decoded"}))  # fmt: skip
    counters = read.counters()
    assert counters["learned"] == counters["kinds"] and counters["learned"] + counters["passed_over"] == 33_000
    assert 1_024 <= counters["learned"] <= 1_024 + 33_000 // 32
    assert counters["parts"] < 1_024 + 1_100
    same(read, compact(said))
    gc.collect()
