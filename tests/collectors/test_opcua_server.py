"""What a server's diagnostics have grown by becomes flows, once: with answers like those of node-opcua 2.120."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua

from collectors.feed import FeedError, Told
from collectors.opcua_client import Asking
from collectors.opcua_server import COUNTER_MAX, SERVICES, Clients, OpcuaServer, account_of
from hopwatch.events import Flow, Loss, parse

NS = 10**9
BEGIN = 1_775_558_528 * NS
HISTORIAN = "10.20.1.30"


def session(
    *,
    host: str = HISTORIAN,
    account: str = "certificate:CN=historian",
    began: int = BEGIN - 60 * NS,
    subscription: int = 1,
    **counts: int,
) -> dict[str, Any]:
    """As the collector's client says it; ``values`` and ``notes`` are those of one subscription."""
    of_subscription = {"values": f"values {subscription}", "notes": f"notifications {subscription}"}
    return {
        "name": "urn:historian", "user": "", "account": account, "host": host, "port": 0, "first_ns": began,
        "mode": "opcua-signandencrypt", "policy": "Basic256Sha256",
        "counts": dict.fromkeys(SERVICES, 0) | {of_subscription.get(name, name): count for name, count in counts.items()},
    }  # fmt: skip


def answer(at: int, sessions: dict[str, Any], *, cumulated: int | None = 1, **more: Any) -> dict[str, Any]:
    said = {"time_ns": BEGIN + at * NS, "sessions": sessions, "cumulated": cumulated, "written": {}, "refused": [], "audited": 0}
    return said | more


class Server:
    """Answers what it is told, one batch at a time."""

    def __init__(self, tmp_path: Path, *answers: dict[str, Any], options: str = "") -> None:
        told = Told.of(f"opcua-server:opc=opc.tcp://10.10.1.10:4840?cleartext=yes{options}", "agent")
        self.feed = OpcuaServer.of(told, "north", tmp_path / "place")

        self.feed._dial = lambda: None  # type: ignore[method-assign]  # nothing is dialled here
        for one in answers:
            self.feed._heard.put(json.loads(json.dumps(one)))

    def batches(self) -> Iterator[list[bytes]]:
        return self.feed.batches(lambda: False, follow=True, sleep=lambda _: None)

    def lines(self) -> list[bytes]:
        """Every answer in one batch of its own, until none is left."""
        told: list[bytes] = []
        for batch in self.batches():
            if not batch and self.feed._heard.empty:
                break
            told += batch
        return told


def flows(lines: Sequence[bytes]) -> list[Flow]:
    return [event for event in map(parse, lines) if isinstance(event, Flow)]


def values(lines: Sequence[bytes]) -> int:
    return sum(flow.values for flow in flows(lines))


@pytest.fixture(autouse=True)
def one_answer_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.opcua_server.ITEMS_MAX", 1)


def test_a_session_is_told_with_who_it_is_how_it_is_protected_and_what_it_was_sent(tmp_path: Path) -> None:
    new = session(began=BEGIN + 2 * NS, values=40, notes=4)
    lines = Server(
        tmp_path,
        answer(0, {}),
        answer(5, {"a": new}, cumulated=2),
        answer(10, {"a": session(began=BEGIN + 2 * NS, values=55, notes=5)}, cumulated=2),
        options="&objects=any-node",
    ).lines()
    told = [flow for flow in flows(lines) if flow.operation == "subscribe"]
    assert [(flow.values, flow.messages, flow.bytes, flow.completeness.state) for flow in told] == [
        (40, 0, 0, "complete"),
        (15, 0, 0, "complete"),
    ]
    assert {(flow.account, flow.account_from, flow.seen_by, flow.depth) for flow in told} == {
        ("certificate:CN=historian", "server-log", "server-log", "server-log")
    }
    assert (told[0].source.address, told[0].destination.address, told[0].destination.port) == ("10.10.1.10", HISTORIAN, 0)
    assert (told[0].protection.transport, told[0].protection.policy) == ("opcua-signandencrypt", "Basic256Sha256")
    assert told[0].objects[0].names == ["any-node"]
    assert [flow.operation for flow in flows(lines)].count("connect") == 1


def test_what_a_session_did_before_anybody_asked_is_not_told(tmp_path: Path) -> None:
    lines = Server(tmp_path, answer(0, {"a": session(values=9_000)}), answer(5, {"a": session(values=9_003)})).lines()
    assert values(lines) == 3
    assert {flow.completeness.joined_late for flow in flows(lines) if flow.values} == {True}


def test_calls_whose_values_nobody_counts_are_lossy_and_others_are_not(tmp_path: Path) -> None:
    calls = {"ReadCount": 7, "WriteCount": 1, "HistoryReadCount": 2, "BrowseCount": 3, "CallCount": 4, "UnauthorizedRequestCount": 5}
    lines = Server(tmp_path, answer(0, {"a": session()}), answer(5, {"a": session(**calls)}), options="&messages=yes").lines()
    told = {flow.operation: (flow.messages, flow.completeness.state) for flow in flows(lines) if flow.operation != "connect"}
    assert told == {
        "read": (14, "lossy"),
        "write": (2, "lossy"),
        "history-read": (4, "lossy"),
        "browse": (6, "late"),
        "call": (8, "late"),
        "refused": (5, "late"),
    }


def test_a_tap_counts_the_messages_so_they_are_told_only_where_there_is_none(tmp_path: Path) -> None:
    lines = Server(tmp_path, answer(0, {"a": session()}), answer(5, {"a": session(ReadCount=7, values=2, notes=2)})).lines()
    assert [(flow.operation, flow.messages, flow.values) for flow in flows(lines) if flow.operation != "connect"] == [
        ("read", 0, 0),
        ("subscribe", 0, 2),
    ]


def test_audited_writes_name_their_nodes_and_count_their_values(tmp_path: Path) -> None:
    written = {"svc_mes": {"ns=2;s=Line1/Setpoint": 2, "ns=2;s=Line1/Curve": 1}}
    who = {"account": "svc_mes"}
    one, two = session(**who) | {"user": "svc_mes"}, session(**who, WriteCount=3) | {"user": "svc_mes"}
    lines = Server(tmp_path, answer(0, {"a": one}), answer(5, {"a": two}, written=written, audited=3)).lines()
    (write,) = [flow for flow in flows(lines) if flow.operation == "write"]
    assert sorted((part.names[0], part.values) for part in write.objects) == [("ns=2;s=Line1/Curve", 1), ("ns=2;s=Line1/Setpoint", 2)]
    assert (write.source.address, write.completeness.state) == (HISTORIAN, "late")


def test_what_a_session_did_last_nobody_has_counted(tmp_path: Path) -> None:
    lines = Server(
        tmp_path,
        answer(0, {}),
        answer(5, {"a": session(began=BEGIN + NS, values=3, ReadCount=1)}, cumulated=2),
        answer(10, {}, cumulated=2),
    ).lines()
    assert [
        (flow.operation, flow.values, flow.completeness.state) for flow in flows(lines) if flow.final and flow.operation != "connect"
    ] == [
        ("read", 0, "lossy"),
        ("subscribe", 0, "lossy"),
    ]
    assert values(lines) == 3
    assert [flow.final for flow in flows(lines) if flow.operation == "connect"] == [False, True]


def test_sessions_that_came_and_went_between_two_answers_are_a_loss(tmp_path: Path) -> None:
    server = Server(tmp_path, answer(0, {"a": session()}, cumulated=1), answer(5, {"a": session()}, cumulated=4))
    (loss,) = [event for event in map(parse, server.lines()) if isinstance(event, Loss)]
    assert (loss.start, loss.end, loss.events > 0) == ("2026-04-07T10:42:08Z", "2026-04-07T10:42:13Z", True)
    assert server.feed.counters()["opcua_server_sessions_missed"] == 3


def test_a_server_that_does_not_answer_says_no_heartbeat_and_that_began_anew_is_a_loss(tmp_path: Path) -> None:
    gone = Server(tmp_path, answer(0, {"a": session()}, cumulated=9), {"gone": True})
    assert not [event for event in map(parse, gone.lines()) if isinstance(event, Loss)]
    assert not gone.feed.lives
    again = Server(tmp_path, answer(60, {"b": session(began=BEGIN + 59 * NS, values=2)}, cumulated=1))
    lines = again.lines()
    assert again.feed.lives
    assert values(lines) == 2
    assert [event.why for event in map(parse, lines) if isinstance(event, Loss)] == [
        "the server began anew: what it counted before is gone"
    ]


def test_counters_that_wrap_or_begin_anew_are_followed(tmp_path: Path) -> None:
    steps = [COUNTER_MAX - 3, 4, 10, 6]
    lines = Server(tmp_path, *(answer(5 * n, {"a": session(values=count)}) for n, count in enumerate(steps))).lines()
    assert values(lines) == 7 + 6 + 6


def test_a_subscription_that_ends_takes_nothing_back_and_one_that_moves_is_told_once(tmp_path: Path) -> None:
    one, both = session(values=100), session(values=100)
    both["counts"]["values 2"] = 50
    only, other = session(subscription=2, values=60), session(host="10.20.1.31", subscription=2, values=65)
    steps = [{"a": one}, {"a": both}, {"a": only}, {"a": session(), "b": other}]
    lines = Server(tmp_path, *(answer(5 * n, step, cumulated=1) for n, step in enumerate(steps))).lines()
    assert [flow.values for flow in flows(lines) if flow.values] == [50, 10, 5]
    assert [flow.completeness.state for flow in flows(lines) if flow.operation == "subscribe"].count("lossy") == 2


def test_another_user_of_a_session_is_another_account(tmp_path: Path) -> None:
    lines = Server(
        tmp_path,
        answer(0, {"a": session(account="svc_a")}),
        answer(5, {"a": session(account="svc_a", values=1)}),
        answer(10, {"a": session(account="svc_b", values=3)}),
    ).lines()
    assert {flow.account: flow.values for flow in flows(lines) if flow.values} == {"svc_a": 1, "svc_b": 2}


def test_a_client_that_nobody_can_place_is_counted(tmp_path: Path) -> None:
    server = Server(tmp_path, answer(0, {"a": session(host="")}), answer(5, {"a": session(host="", values=9)}))
    assert server.lines() == []
    assert server.feed.counters()["opcua_server_unplaced"] == 1


def test_a_collector_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    answers = [
        answer(5 * n, {"a": session(values=n * n, ReadCount=n), "b": session(host="10.20.1.31", values=3 * n)}, cumulated=2)
        for n in range(12)
    ]
    whole = Server(tmp_path, *answers).lines()
    assert len(whole) > 30
    for killed_at in range(12):
        (tmp_path / "place").unlink()
        told: list[bytes] = []
        for turn, batch in enumerate(Server(tmp_path, *answers).batches()):
            if turn == killed_at:
                # The batch may have been handed over, or not: both collectors say the same.
                told += batch if killed_at % 2 else []
                break
            told += batch
        # The server has counted on meanwhile; what it answered then, it does not answer again.
        told += Server(tmp_path, *answers[killed_at + 1 :]).lines()
        assert list(dict.fromkeys(told)) == whole, f"killed after {killed_at} answers"


def test_what_was_missed_while_dead_is_told_at_the_next_answer(tmp_path: Path) -> None:
    lines = Server(tmp_path, answer(0, {"a": session(values=5)}), answer(5, {"a": session(values=8)})).lines()
    lines += Server(tmp_path, answer(600, {"a": session(values=108)})).lines()
    assert values(lines) == 103


def test_a_client_is_where_the_file_or_the_only_address_of_its_certificate_says(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    path.write_text("# historians\n10.20.1.30 urn:historian\n\n10.20.1.31   historian 2\n")
    clients = Clients(Told.of(f"opcua-server:opc=opc.tcp://10.10.1.10?clients={path}", "agent"))
    assert (clients.place("urn:historian", None), clients.place("urn:other", None)) == (HISTORIAN, None)
    for wrong in ("10.20.1.30", "historian 10.20.1.30"):
        path.write_text(wrong)
        with pytest.raises(FeedError, match="line 1: expected ADDRESS NAME"):
            Clients(Told.of(f"opcua-server:opc=opc.tcp://10.10.1.10?clients={path}", "agent"))


def test_who_a_session_is_follows_the_contract() -> None:
    assert account_of("svc_hist", None, "urn:x") == "svc_hist"
    assert account_of("", None, "urn:x") == "application:urn:x"
    assert account_of("", None, "") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("opc=10.10.1.10:4840", "expected opc.tcp://ADDRESS:PORT"),
        ("opc=opc.tcp://press-7:4840?cleartext=yes", "expected opc.tcp://ADDRESS:PORT"),
        ("opc=opc.tcp://10.10.1.10", "cert and key of this client"),
        ("opc=opc.tcp://10.10.1.10?cert=/a&key=/b", "without it anyone could be the server"),
        ("opc=opc.tcp://10.10.1.10?cert=/a&key=/b&server_cert=/c", "no such file"),
        ("opc=opc.tcp://10.10.1.10?cleartext=yes&poll=0", "poll=0, expected 1 to 3600"),
        ("opc=opc.tcp://10.10.1.10?nodes=all", "unknown option 'nodes'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(FeedError, match=expected):
        OpcuaServer.of(Told.of(f"opcua-server:{text}", "agent"), "north", tmp_path / "place")


class Answering:
    """What a server's diagnostics say, as asyncua gives it."""

    own_session = None

    def __init__(self, *values: Any) -> None:
        self.uaclient, self._values = self, values

    async def read_attributes(self, *_: object) -> list[ua.DataValue]:
        return [SimpleNamespace(Value=SimpleNamespace(Value=one), StatusCode=ua.StatusCode()) for one in self._values]  # type: ignore[misc]  # as much of one as is read


def test_a_session_that_cannot_be_read_is_named_and_the_others_are_told(tmp_path: Path) -> None:
    told = Told.of("opcua-server:opc=opc.tcp://10.10.1.10:4840?cleartext=yes", "agent")
    asking = Asking(told, None, Clients(told))
    good, bad, odd = (ua.SessionDiagnosticsDataType(SessionId=ua.NodeId(ua.Int32(number))) for number in (7, 8, 9))
    bad.ClientDescription = None  # type: ignore[assignment]  # as no server should
    sent = [ua.SubscriptionDiagnosticsDataType(SessionId=one.SessionId, SubscriptionId=ua.UInt32(3)) for one in (good, odd)]
    sent[1].DataChangeNotificationsCount = None  # type: ignore[assignment]  # as above
    asking._client = Answering([good, bad, odd], sent, None, None)  # type: ignore[assignment]  # as much of a client as is needed
    said = asyncio.run(asking.answer(lambda: BEGIN))
    assert (list(said["sessions"]), said["unread"]) == (["i=7"], ["i=8", "i=9"])


def test_a_session_that_could_not_be_read_once_is_told_from_where_it_was(tmp_path: Path) -> None:
    steps = [{"a": session(values=1)}, {"a": session(values=5)}, {}, {"a": session(values=11)}]
    server = Server(tmp_path, *(answer(5 * n, step, unread=[] if step else ["a"]) for n, step in enumerate(steps)))
    assert values(server.lines()) == 10
    assert (server.feed.unreadable, server.feed.counters()["opcua_server_sessions"]) == (1, 1)


def test_a_server_is_not_read_again(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="use -i"):
        next(Server(tmp_path).feed.batches(lambda: True, follow=False))
