"""Flow records of switches: what is counted, what was missed, and what a stranger may send."""

import random
import struct
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import islice
from pathlib import Path

import pytest

from collectors import netflow
from collectors.feed import FeedError, Told
from collectors.netflow import Netflow
from hopwatch.events import Flow, Loss, parse

EXPORTER = "10.20.0.1"
CLIENT, SERVER = ("10.30.0.20", 39_460), ("203.0.113.10", 443)
BASIC = ((8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (6, 1), (1, 4), (2, 4))
NOW_S = 1_795_330_000
ACKED, ASKED = 0x1B, 0x02

Event = Flow | Loss
End = tuple[str, int]


class Clock:
    def __init__(self) -> None:
        self.now_ns = NOW_S * 10**9

    def __call__(self) -> int:
        return self.now_ns


def listener(folder: Path, clock: Clock, more: str = "") -> Netflow:
    return Netflow.of(Told.of(f"netflow:switch-1=127.0.0.1:0?from={EXPORTER}{more}", "a"), "north", folder / "place", clock)


def told(feed: Netflow, turns: int = 1, *, stop: bool = False) -> list[Event]:
    """What it says in so many turns; without ``stop`` it is killed after the last, which was handed over."""
    left = [turns + 1]

    def stopping() -> bool:
        left[0] -= 1
        return stop and left[0] <= 0

    lines: list[bytes] = []
    batches = feed.batches(stopping, follow=True, sleep=lambda seconds: None)
    for turn, batch in enumerate(batches):
        lines += batch
        if not stop and turn >= turns:
            break
    batches.close()  # type: ignore[attr-defined]  # it is a generator
    return [event for event in map(parse, lines) if isinstance(event, Flow | Loss)]


def set_(kind: int, body: bytes) -> bytes:
    return struct.pack("!HH", kind, len(body) + 4) + body


def template(number: int, fields: Sequence[tuple[int, int]] = BASIC) -> bytes:
    return struct.pack("!HH", number, len(fields)) + b"".join(struct.pack("!HH", *one) for one in fields)


def basic(src: End, dst: End, octets: int, packets: int, flags: int = ACKED, protocol: int = 6) -> bytes:
    ends = ip_address(src[0]).packed + ip_address(dst[0]).packed + struct.pack("!HH", src[1], dst[1])
    return ends + struct.pack("!BBII", protocol, flags, octets, packets)


def nine(sequence: int, *sets: bytes, count: int = 1, uptime: int = 5_000_000) -> bytes:
    return struct.pack("!HHIIII", 9, count, uptime, NOW_S, sequence, 0) + b"".join(sets)


def ten(sequence: int, *sets: bytes) -> bytes:
    body = b"".join(sets)
    return struct.pack("!HHIII", 10, 16 + len(body), NOW_S, sequence, 7) + body


BOTH = basic(CLIENT, SERVER, 5_040, 10) + basic(SERVER, CLIENT, 90_320, 8)


def one_flow(events: list[Event]) -> Flow:
    (flow,) = [event for event in events if isinstance(event, Flow)]
    return flow


def losses(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.events, event.why or "") for event in events if isinstance(event, Loss)]


def test_two_records_of_opposite_ways_are_one_connection_less_its_headers(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())
    feed.heard(ten(0, set_(2, template(256)), set_(256, BOTH)), EXPORTER)
    flow = one_flow(told(feed))
    assert (flow.source.address, flow.source.port, flow.destination.address, flow.destination.port) == (*CLIENT, *SERVER)
    assert (flow.bytes, flow.bytes_back) == (5_040 - 10 * 40, 90_320 - 8 * 40)
    assert (flow.operation, flow.depth, flow.seen_by, flow.transport, flow.protocol) == ("transfer", "sizes", "switch", "tcp", None)
    assert (flow.completeness.state, flow.completeness.estimated, flow.opened_by) == ("complete", True, None)


def test_a_record_whose_other_way_does_not_come_in_time_is_told_as_one_sided(tmp_path: Path) -> None:
    clock = Clock()
    feed = listener(tmp_path, clock)
    feed.heard(ten(0, set_(2, template(256)), set_(256, basic(SERVER, CLIENT, 1_040, 1))), EXPORTER)
    feed._expire(clock.now_ns - netflow.JOIN_NS)
    assert feed.counters()["netflow_pending"] == 1
    clock.now_ns += netflow.JOIN_NS
    flow = one_flow(told(feed))
    assert (flow.source.address, flow.bytes, flow.bytes_back, flow.completeness.state) == (CLIENT[0], 0, 1_000, "one-sided")


@pytest.mark.parametrize(("asker", "answerer"), [(("10.10.1.9", 102), ("10.20.1.9", 50_000)), (("10.20.1.9", 50_000), ("10.10.1.9", 102))])
def test_who_sent_a_syn_alone_has_opened_it_whatever_the_ports(tmp_path: Path, asker: End, answerer: End) -> None:
    feed = listener(tmp_path, Clock())
    records = basic(answerer, asker, 40, 1, 0x14) + basic(asker, answerer, 60, 1, ASKED)
    feed.heard(ten(0, set_(2, template(256)), set_(256, records)), EXPORTER)
    flow = one_flow(told(feed))
    assert (flow.source.address, flow.operation, flow.bytes, flow.opened_by) == (asker[0], "attempt", 0, "source")


def test_the_other_way_of_a_biflow_is_read_by_its_enterprise_number(tmp_path: Path) -> None:
    def back(kind: int) -> bytes:
        return struct.pack("!HHI", 0x8000 | kind, 4, netflow.REVERSE)

    foreign = struct.pack("!HHI", 0x8000 | 1, 4, 4_242)
    fields = template(256)[4:] + back(1) + back(2) + foreign
    laid = struct.pack("!HH", 256, len(BASIC) + 3) + fields
    feed = listener(tmp_path, Clock())
    record = basic(SERVER, CLIENT, 1_040, 1) + struct.pack("!III", 2_080, 2, 999_999)
    feed.heard(ten(0, set_(2, laid), set_(256, record)), EXPORTER)
    flow = one_flow(told(feed))
    # The first way of a biflow is that of who opened it (RFC 5103, 5).
    assert (flow.source.address, flow.bytes, flow.bytes_back, flow.opened_by) == (SERVER[0], 1_000, 2_000, "source")


def test_fields_of_variable_length_and_of_ciscos_own_numbers_move_nothing(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())
    rest = BOTH[: len(BOTH) // 2]
    varied = b"\x05hello" + rest + b"\xff\x01\x2c" + b"x" * 300 + rest
    feed.heard(ten(0, set_(2, template(300, ((82, netflow.VARIABLE), *BASIC))), set_(300, varied)), EXPORTER)
    feed.heard(nine(1, set_(0, template(301, ((40_001, 4), *BASIC))), set_(301, b"abcd" + rest)), EXPORTER)
    flows = [event for event in told(feed, stop=True) if isinstance(event, Flow)]
    assert [flow.bytes for flow in flows] == [4_640] * 3
    assert feed.counters()["netflow_malformed"] == 0


@pytest.mark.parametrize(
    ("fields", "values", "more"), [(((34, 4),), (10,), ""), (((305, 4), (306, 4)), (1, 9), ""), ((), (), "&sampling=10")]
)
def test_what_was_sampled_is_multiplied(tmp_path: Path, fields: tuple[tuple[int, int], ...], values: tuple[int, ...], more: str) -> None:
    feed = listener(tmp_path, Clock(), more)
    record = basic(CLIENT, SERVER, 1_040, 1) + struct.pack(f"!{len(values)}I", *values)
    feed.heard(nine(1, set_(0, template(256, (*BASIC, *fields))), set_(256, record)), EXPORTER)
    flow = one_flow(told(feed, stop=True))
    assert (flow.bytes, flow.completeness.estimated) == (10_000, True)


def test_what_did_not_come_is_a_loss_of_so_many(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())
    feed.heard(nine(7, set_(0, template(256)), set_(256, BOTH)), EXPORTER)
    feed.heard(nine(8, set_(256, BOTH)), EXPORTER)
    feed.heard(nine(12, set_(256, BOTH)), EXPORTER)
    feed.heard(nine(11, set_(256, BOTH)), EXPORTER)
    feed.heard(ten(0, set_(2, template(256)), set_(256, BOTH)), EXPORTER)
    feed.heard(ten(2, set_(256, BOTH[:22])), EXPORTER)
    feed.heard(ten(13, set_(256, BOTH)), EXPORTER)
    assert [count for count, _ in losses(told(feed))] == [3, 10]
    assert (feed.counters()["netflow_lost"], feed.counters()["netflow_reordered"]) == (13, 1)


def test_an_exporter_whose_number_counts_the_same_message_misses_nothing(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())
    total = 0
    for records in (24, 14, 2, 2, 30):
        total += records
        feed.heard(ten(total, set_(2, template(256)), set_(256, BOTH * (records // 2))), EXPORTER)
    assert losses(told(feed)) == []
    feed.heard(ten(total + 12, set_(256, BOTH)), EXPORTER)
    assert feed.counters()["netflow_lost"] == 10


def test_records_without_a_template_are_counted_and_a_loss(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())
    feed.heard(nine(1, set_(256, BOTH), count=2), EXPORTER)
    feed.heard(nine(2, set_(0, template(256)), set_(256, BOTH), count=3), EXPORTER)
    said = told(feed)
    assert losses(said) == [(2, f"the template of records was not known ({EXPORTER}, version 9, domain 0)")]
    assert (one_flow(said).bytes, feed.counters()["netflow_templates_missing"]) == (4_640, 2)


def test_records_about_the_exporter_itself_are_skipped_and_still_numbered(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())
    options = struct.pack("!HHHHHHH", 257, 2, 1, 149, 4, 160, 8)
    feed.heard(ten(0, set_(3, options), set_(257, bytes(12)), set_(2, template(256)), set_(256, BOTH)), EXPORTER)
    feed.heard(ten(3, set_(256, BOTH)), EXPORTER)
    said = told(feed)
    assert losses(said) == []
    assert feed.counters()["netflow_options_skipped"] == 1


def test_who_restarts_says_what_did_not_come_meanwhile_and_knows_the_templates(tmp_path: Path) -> None:
    clock = Clock()
    feed = listener(tmp_path, clock)
    feed.heard(nine(7, set_(0, template(256)), set_(256, BOTH)), EXPORTER)
    assert len(told(feed, stop=True)) == 1
    again = listener(tmp_path, clock)
    again.heard(nine(13, set_(256, BOTH)), EXPORTER)
    said = told(again, stop=True)
    assert losses(said) == [(5, f"datagrams of the exporter did not come ({EXPORTER}, version 9, domain 0)")]
    assert one_flow(said).bytes == 4_640


def test_a_record_that_waited_when_it_was_killed_is_said_to_be_lost(tmp_path: Path) -> None:
    clock = Clock()
    feed = listener(tmp_path, clock)
    feed.heard(nine(1, set_(0, template(256)), set_(256, BOTH)), EXPORTER)
    feed.heard(nine(2, set_(256, BOTH[:22])), EXPORTER)
    assert len(told(feed)) == 1
    again = listener(tmp_path, clock)
    again.heard(nine(3, set_(256, BOTH)), EXPORTER)
    assert [count for count, _ in losses(told(again))] == [1]


def test_an_exporter_that_began_again_is_told_and_its_templates_are_forgotten(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())
    feed.heard(nine(7, set_(0, template(256)), set_(256, BOTH)), EXPORTER)
    feed.heard(nine(9, set_(256, BOTH), uptime=1_000), EXPORTER)
    assert {why.partition(" (")[0] for _, why in losses(told(feed))} == {
        "the exporter began again: what it did not send is unknown",
        "the template of records was not known",
    }


def test_an_exporter_that_is_not_named_is_dropped_and_counted(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())
    feed.heard(ten(0, set_(2, template(256)), set_(256, BOTH)), "10.66.6.6")
    assert (told(feed), feed.counters()["netflow_strangers"], feed.lives) == ([], 1, False)
    feed.heard(ten(0, set_(2, template(256))), f"::ffff:{EXPORTER}")
    assert feed.lives


def test_garbage_is_counted_and_never_fatal(tmp_path: Path) -> None:
    feed, chance = listener(tmp_path, Clock()), random.Random(5)
    good = [
        nine(1, set_(0, template(256)), set_(256, BOTH)),
        ten(0, set_(2, template(256, ((82, 65_535), *BASIC))), set_(256, b"\x01a" + BOTH)),
    ]
    for data in good:
        for cut in range(len(data)):
            feed.heard(data[:cut], EXPORTER)
        for _ in range(2_000):
            broken = bytearray(data)
            for _ in range(chance.randrange(1, 8)):
                broken[chance.randrange(2, len(broken))] = chance.randrange(256)
            feed.heard(bytes(broken), EXPORTER)
    for _ in range(500):
        feed.heard(chance.randbytes(chance.randrange(200)), EXPORTER)
    told(feed)
    assert feed.counters()["netflow_malformed"] > 500
    assert feed.example.startswith(f"{EXPORTER}: a datagram of ")


def test_an_exporter_that_never_rests_lets_it_end(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())

    class Busy:
        asked = 0

        def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
            self.asked += 1
            if self.asked % 2 == 0:
                raise BlockingIOError
            return nine(self.asked // 2, count=0), (EXPORTER, 9)

        def close(self) -> None: ...

    feed._socket.close()
    feed._socket = Busy()  # type: ignore[assignment]  # What is asked of a socket.
    batches = feed.batches(lambda: True, follow=True, sleep=lambda seconds: None)
    assert len(list(islice(batches, 9))) == 1
    assert feed.counters()["netflow_datagrams"] == 1


def test_a_template_whose_records_have_no_octet_is_refused(tmp_path: Path) -> None:
    feed = listener(tmp_path, Clock())
    feed.heard(nine(1, set_(0, template(256, ((8, 0), (12, 0)))), set_(256, bytes(8))), EXPORTER)
    feed.heard(nine(2, set_(0, template(257, ((8, 0), *BASIC))), set_(257, BOTH)), EXPORTER)
    counters = feed.counters()
    assert (counters["netflow_templates_refused"], counters["netflow_templates_missing"], counters["netflow_records"]) == (1, 1, 2)


def test_what_an_exporter_may_make_us_keep_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netflow, "PENDING_MAX", 4)
    feed = listener(tmp_path, Clock())
    for domain in range(netflow.SOURCES_MAX + 3):
        feed.heard(struct.pack("!HHIIII", 9, 1, 5, NOW_S, 1, domain) + set_(0, template(256)), EXPORTER)
    feed.heard(nine(2, set_(0, b"".join(template(256 + one) for one in range(netflow.TEMPLATES_MAX + 5)))), EXPORTER)
    feed.heard(nine(3, set_(0, template(900, BASIC * 20))), EXPORTER)
    records = b"".join(basic(("10.0.0.1", 1_000 + one), SERVER, 1_040, 1) for one in range(9))
    feed.heard(nine(4, set_(300, records)), EXPORTER)
    counted = feed.counters()
    assert (counted["netflow_sources"], counted["netflow_sources_over"]) == (netflow.SOURCES_MAX, 4)
    assert (counted["netflow_templates_over"], counted["netflow_templates_refused"]) == (5, 1)
    assert (counted["netflow_pending"], counted["netflow_pending_over"]) == (4, 5)
    assert len([event for event in told(feed) if isinstance(event, Flow)]) == 5


@pytest.mark.parametrize(
    "wrong", ["0.0.0.0:2055", "0.0.0.0:2055?from=switch", "switch:2055?from=10.0.0.1", "0.0.0.0:2055?from=10.0.0.1&x=1"]
)
def test_what_cannot_be_a_listener_is_refused_by_name(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(FeedError, match="expected"):
        Netflow.of(Told.of(f"netflow:{wrong}", "a"), "north", tmp_path / "place")
