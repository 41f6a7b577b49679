"""A Mosquitto broker's log becomes flows: lines of a real Mosquitto 2.0.11 (Debian 12), with names of the example plant."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from collectors import tail
from collectors.feed import FeedError, Told
from collectors.mosquitto_log import MosquittoLog
from hopwatch.events import Flow, parse
from tests.collectors.killing import told_once

BROKER = "10.10.5.3"
STAMP = "2026-04-07T10:42:08+0000: "


def login(name: str = "press-7", port: int = 40_001, user: str | None = "svc_press", listener: int = 8883) -> list[str]:
    host = "10.10.4.7"
    who = f", u'{user}'" if user else ""
    return [
        f"New connection from {host}:{port} on port {listener}.",
        f"New client connected from {host}:{port} as {name} (p5, c1, k60{who}).",
        "No will message specified.",
        f"Sending CONNACK to {name} (0, 0)",
    ]


def subscribed(name: str, filters: Sequence[str], code: int = 0) -> list[str]:
    asked = [line for one in filters for line in (f"\t{one} (QoS 0)", f"{name} {code} {one}")]
    return [f"Received SUBSCRIBE from {name}", *asked, f"Sending SUBACK to {name}"]


def moved(what: str, name: str, topic: str, size: int) -> str:
    return f"{what} {name} (d0, q1, r0, m7, '{topic}', ... ({size} bytes))"


def received(name: str, topic: str, size: int) -> str:
    return moved("Received PUBLISH from", name, topic, size)


def sent(name: str, topic: str, size: int) -> str:
    return moved("Sending PUBLISH to", name, topic, size)


def day(turns: int = 3) -> list[str]:
    lines = [*login(), *login("history", 40_002, "svc_history"), *subscribed("history", ["line/#"])]
    for turn in range(turns):
        lines += [received("press-7", f"line/{turn % 2}", 10 + turn), sent("history", f"line/{turn % 2}", 10 + turn)]
    return [*lines, "Client press-7 disconnected.", "Client history closed its connection."]


def text(lines: Sequence[str], stamp: str = STAMP) -> str:
    return "".join(f"{stamp}{line}\n" for line in lines)


def reader(tmp_path: Path, options: str = "?tls=8883") -> MosquittoLog:
    told = Told.of(f"mosquitto-log:broker-log={BROKER}:1883={tmp_path}/*.log{options}", "agent")
    return MosquittoLog.of(told, "north", tmp_path / "place", now_ns=lambda: 0)


def batches(log: MosquittoLog) -> Iterator[list[bytes]]:
    return log.batches(lambda: False, follow=False)


def everything(log: MosquittoLog) -> list[bytes]:
    return [line for batch in batches(log) for line in batch]


def flows(lines: Sequence[bytes]) -> list[Flow]:
    return [event for event in map(parse, lines) if isinstance(event, Flow)]


def told_of(tmp_path: Path, lines: Sequence[str]) -> tuple[MosquittoLog, list[Flow]]:
    (tmp_path / "a.log").write_text(text(lines))
    log = reader(tmp_path)
    return log, flows(everything(log))


def counted(told: Sequence[Flow]) -> Counter[tuple[str | None, str, str]]:
    found: Counter[tuple[str | None, str, str]] = Counter()
    for flow in told:
        for part in flow.objects:
            found[(flow.account, flow.operation, " ".join(part.names))] += part.messages
    return +found


def test_who_published_and_who_was_sent_what_is_told_with_accounts_and_payload_bytes(tmp_path: Path) -> None:
    _, told = told_of(tmp_path, day())
    assert counted(told) == {
        ("svc_press", "publish", "line/0"): 2,
        ("svc_press", "publish", "line/1"): 1,
        ("svc_history", "subscribe", "line/0"): 2,
        ("svc_history", "subscribe", "line/1"): 1,
    }
    (published,) = [flow for flow in told if flow.operation == "publish"]
    assert (published.source.address, published.source.port, published.destination.address) == ("10.10.4.7", 40_001, BROKER)
    assert (published.bytes, published.messages, published.application, published.opened_by) == (33, 3, "press-7", "source")
    assert (published.account_from, published.seen_by, published.depth) == ("server-log", "server-log", "server-log")
    assert [part.names for flow in told for part in flow.objects if not part.messages] == [["line/#"]]


def test_the_listener_that_the_log_names_is_the_port_and_says_whether_it_takes_tls(tmp_path: Path) -> None:
    _, told = told_of(tmp_path, [*login(), received("press-7", "a", 1), *login("old", 40_003, listener=1883), received("old", "a", 1)])
    seen = {(flow.application, flow.destination.port, flow.protection.transport) for flow in told if flow.operation == "publish"}
    assert seen == {("press-7", 8883, "tls1.2"), ("old", 1883, "unknown")}


def test_seconds_since_the_epoch_are_the_same_times(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(text(day()))
    stamped = everything(reader(tmp_path))
    (tmp_path / "place").unlink()
    (tmp_path / "a.log").write_text(text(day(), "1775558528: "))
    assert everything(reader(tmp_path)) == stamped


def test_a_client_without_a_user_name_is_its_client_id(tmp_path: Path) -> None:
    _, told = told_of(tmp_path, [*login(user=None), received("press-7", "a", 1)])
    assert {flow.account for flow in told} == {"client-id:press-7"}


def test_a_name_that_forges_an_account_is_believed_nothing(tmp_path: Path) -> None:
    forged = "x (p5, c1, k60, u'svc_press')"
    log, told = told_of(tmp_path, [*login(forged, user=None), received(forged, "a", 1)])
    assert {(flow.account, flow.application) for flow in told} == {(None, forged)}
    assert log.counters()["mosquitto_log_ambiguous"] == 1


def test_a_topic_that_looks_like_a_line_stays_with_the_client_that_sent_it(tmp_path: Path) -> None:
    topic = "a (d0, q1, r0, m7, 'b', ... (9 bytes))"
    log, told = told_of(tmp_path, [*login("x"), received("x", topic, 5)])
    assert counted(told) == {("svc_press", "publish", topic): 1}
    other = f"x (d0, q1, r0, m7, '{topic.partition(chr(32))[0]}"
    (tmp_path / "place").unlink()
    log, told = told_of(tmp_path, [*login("x"), *login(other, 40_009, "svc_evil"), received("x", topic, 5)])
    assert log.counters()["mosquitto_log_ambiguous"] == 1
    assert {flow.completeness.state for flow in told if flow.operation == "publish"} == {"lossy"}


def test_what_was_refused_is_told_with_the_topic_and_the_host(tmp_path: Path) -> None:
    lines = [*login(), moved("Denied PUBLISH from", "press-7", "recipe/7", 4), *subscribed("press-7", ["secret/#"], 128)]
    lines += ["New connection from 10.10.4.9:40100 on port 8883.", "Sending CONNACK to 10.10.4.9 (0, 5)"]
    _, told = told_of(tmp_path, lines)
    refused = [(flow.source.address, flow.account, [part.names for part in flow.objects]) for flow in told if flow.operation == "refused"]
    assert sorted(refused) == [("10.10.4.7", "svc_press", [["recipe/7"], ["secret/#"]]), ("10.10.4.9", None, [])]


def test_a_refused_login_is_of_nobody_where_two_of_the_host_wait(tmp_path: Path) -> None:
    waiting = [f"New connection from 10.10.4.9:4010{n} on port 8883." for n in (0, 1)]
    log, told = told_of(tmp_path, [*waiting, "Sending CONNACK to 10.10.4.9 (0, 5)"])
    assert (told, log.counters()["mosquitto_log_refused_unplaced"]) == ([], 1)


def test_the_administration_of_accounts_is_told_without_whom_it_is_about(tmp_path: Path) -> None:
    _, told = told_of(tmp_path, [*login(), received("press-7", "$CONTROL/dynamic-security/v1", 90)])
    (admin,) = [flow for flow in told if flow.operation == "admin"]
    assert (admin.account, admin.messages, admin.objects) == ("svc_press", 1, [])


def test_filters_of_a_group_are_told_without_the_group_and_many_in_further_sets(tmp_path: Path) -> None:
    _, told = told_of(tmp_path, [*login(), *subscribed("press-7", ["$share/g/line/#", *(f"f/{n}" for n in range(100))])])
    names = [part.names for flow in told if flow.operation == "subscribe" for part in flow.objects]
    assert [len(one) for one in names] == [64, 37]
    assert names[0][0] == "line/#"


def test_a_client_that_comes_again_under_its_name_is_another_connection(tmp_path: Path) -> None:
    again = ["Client press-7 already connected, closing old connection.", *login(port=40_055)[1:]]
    _, told = told_of(tmp_path, [*login(), received("press-7", "a", 1), *again, received("press-7", "a", 1)])
    assert sorted(flow.source.port for flow in told if flow.operation == "publish") == [40_001, 40_055]


def test_messages_that_were_dropped_and_a_log_without_them_are_lossy(tmp_path: Path) -> None:
    _, told = told_of(tmp_path, [*login(), "Outgoing messages are being dropped for client press-7."])
    assert [flow.completeness.state for flow in told if flow.operation == "subscribe"] == ["lossy"]
    (tmp_path / "place").unlink()
    log, told = told_of(tmp_path, [*login()[:2], *login("other", 40_002)[:2]])
    assert log.counters()["mosquitto_log_undebugged"] == 1
    assert {flow.operation for flow in told if flow.completeness.state == "lossy"} == {"publish", "subscribe"}


def test_without_debug_a_subscriber_is_told_with_its_filters_and_what_it_is_sent_is_unknown(tmp_path: Path) -> None:
    granted = ["history 0 line/#", "history 1 $share/group/line/2 of 3", "history 128 secret/#", "nobody 0 line/#"]
    _, told = told_of(tmp_path, [*login("history", 40_002, "svc_history")[:2], *granted])
    asked = [(part.names, flow.account, flow.messages, flow.completeness.state) for flow in told for part in flow.objects]
    assert [(names, state) for names, _, _, state in asked if names != ["secret/#"]] == [(["line/#"], "lossy"), (["line/2 of 3"], "lossy")]
    assert {flow.operation for flow in told} == {"connect", "subscribe", "refused"}
    assert {(account, messages) for _, account, messages, _ in asked} == {("svc_history", 0)}


def test_without_debug_a_name_that_is_the_beginning_of_anothers_line_asks_for_nothing(tmp_path: Path) -> None:
    both = [*login("a", 40_001)[:2], *login("a 0 b", 40_002)[:2]]
    log, told = told_of(tmp_path, [*both, "a 0 b 0 line/#"])
    assert [part.names for flow in told for part in flow.objects] == []
    assert log.counters()["mosquitto_log_ambiguous"] == 1


def test_a_client_that_came_before_the_log_is_counted(tmp_path: Path) -> None:
    log, told = told_of(tmp_path, [received("earlier", "a", 1)])
    assert (told, log.counters()["mosquitto_log_unplaced"]) == ([], 1)


def test_a_broker_that_starts_again_has_no_clients(tmp_path: Path) -> None:
    log, _ = told_of(tmp_path, [*login(), "mosquitto version 2.0.11 starting"])
    assert log.counters()["mosquitto_log_clients"] == 0


@pytest.mark.parametrize(
    "line", ["Received PUBLISH from press-7 (d0, q1, r0, m7, 'a', ... (x", "Client", "\t", "New client connected from ::: as"]
)
def test_a_line_that_is_not_what_it_begins_like_ends_nothing(tmp_path: Path, line: str) -> None:
    _, told = told_of(tmp_path, [*login(), line, received("press-7", "a", 1)])
    assert counted(told) == {("svc_press", "publish", "a"): 1}


def test_a_line_that_cannot_be_read_is_counted_with_its_place(tmp_path: Path) -> None:
    first = text(login())
    (tmp_path / "a.log").write_text(f"{first}no time\n" + text([received("press-7", "a", 1)]))
    log = reader(tmp_path)
    assert counted(flows(everything(log))) == {("svc_press", "publish", "a"): 1}
    assert (log.counters()["mosquitto_log_unreadable"], log.example) == (1, f"{tmp_path / 'a.log'} at byte {len(first)}")


def test_a_log_whose_times_say_no_zone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(text(day(), "2026-04-07T10:42:08: "))
    with pytest.raises(FeedError, match="set log_timestamp_format"):
        reader(tmp_path)


def test_ports_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="expected ports such as 8883,8884"):
        reader(tmp_path, "?tls=8883,mqtts")


def test_a_reader_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PIECE_BYTES_MAX", 500)
    (tmp_path / "a.log").write_text(text(day(turns=30)))
    whole = told_once(lambda: reader(tmp_path), tmp_path / "place", kills=30)
    assert len(whole) > 12


def test_a_log_that_grows_while_its_reader_is_killed_is_told_once(tmp_path: Path) -> None:
    lines = text(day(turns=30)).splitlines(keepends=True)
    for killed_at in range(8):
        folder = tmp_path / str(killed_at)
        folder.mkdir()
        path = folder / "a.log"
        path.write_text("".join(lines[:12]))
        written, told = 12, []
        for turn, batch in enumerate(batches(reader(folder))):
            told += batch
            if turn == killed_at:
                break
            with path.open("a") as file:
                file.write("".join(lines[written : written + 5]))
            written += 5
        with path.open("a") as file:
            file.write("".join(lines[written:]))
        told += everything(reader(folder))
        once = list(dict.fromkeys(told))
        assert len({event.event_id for event in flows(once)}) == len(once)
        assert sum(counted(flows(once)).values()) == 60, f"killed after {killed_at} batches"
