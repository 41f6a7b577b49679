"""A sender keeps order, tries again ever later, puts aside what is refused for good, and never keeps another destination waiting."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from alerts.delivery import Item, Plain, Refused, Retry
from alerts.delivery.metrics import DeliveryCollector
from alerts.delivery.run import Delivery
from alerts.delivery.sender import BACKOFF_S_MAX, DELAY_BUCKETS_S, Sender, Senders
from alerts.outbox import Letter, Outbox, QueueState, letter
from alerts.settings import alerts_settings
from hopwatch.events import Alert
from hopwatch.store import StoreError
from tests.alerts.letters import T0_NS, Book, alert, book, letters

S = 10**9
HOUR_S = 3600


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_ns = T0_NS

    def __call__(self) -> int:
        return self.now_ns


class Receiver(Plain):
    """Takes what it is given, or fails as it is told to; remembers the order."""

    acknowledgement = "its word"

    def __init__(self, fails: Callable[[Sequence[Item]], None] = lambda batch: None, batch_max: int = 10) -> None:
        self.fails, self.batch_max = fails, batch_max
        self.got: list[str] = []
        self.asked_ns: list[int] = []
        self.clock = Clock()

    def send(self, batch: Sequence[Item]) -> None:
        self.asked_ns.append(self.clock.now_ns)
        self.fails(batch)
        self.got += [item.event.event_id for item in batch]


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Book]:
    with book(request.param, tmp_path, lambda: request.getfixturevalue("postgres")) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Book]:
    with book("sqlite", tmp_path, None) as made:
        yield made


def _sender(kept: Book, receiver: Receiver, clock: Clock | None = None, **more: float) -> tuple[Sender, Outbox, Clock]:
    clock = clock or Clock()
    receiver.clock = clock
    outbox = kept.outbox()
    return Sender("siem", receiver, outbox, clock_ns=clock, random=Random(7), **more), outbox, clock


def _run(sender: Sender, clock: Clock, until_s: float) -> None:
    """Let the sender work until the time is over."""
    end_ns = clock.now_ns + int(until_s * S)
    while clock.now_ns < end_ns:
        clock.now_ns = min(end_ns, clock.now_ns + int(sender.step() * S))


def _state(outbox: Outbox) -> QueueState:
    return next(state for state in outbox.states() if state.destination == "siem")


def _ids(some: list[Letter]) -> list[str]:
    return [one.event_id for one in some]


def test_an_hour_away_costs_no_letter_and_no_order(kept: Book) -> None:
    away = True

    def fails(batch: Sequence[Item]) -> None:
        if away:
            raise Retry("nobody answers")

    receiver = Receiver(fails)
    sender, outbox, clock = _sender(kept, receiver)
    told = []
    for minute in range(60):
        some = letters("siem", range(10 * minute, 10 * minute + 10))
        kept.queue(some, clock.now_ns)
        told += _ids(some)
        _run(sender, clock, 60)
    attempts = len(receiver.asked_ns)
    assert _state(outbox).circuit == "open" and _state(outbox).waiting == 600 and receiver.got == []
    # 1, 2, 4 ... 256 s and then 300 s, each between half and whole: some twenty attempts an hour, not one a second.
    assert 15 <= attempts <= 32
    away = False
    _run(sender, clock, BACKOFF_S_MAX + 1)
    assert receiver.got == told
    assert _state(outbox).circuit == "closed" and _state(outbox).waiting == 0 and _state(outbox).sent_total == 600


def test_waits_grow_to_a_cap_and_are_never_the_same_for_two(file: Book) -> None:
    def fails(batch: Sequence[Item]) -> None:
        raise Retry("no")

    receiver = Receiver(fails)
    sender, _, clock = _sender(file, receiver)
    file.queue(letters("siem", range(1)))
    _run(sender, clock, 2 * HOUR_S)
    waits = [(later - earlier) / S for earlier, later in zip(receiver.asked_ns, receiver.asked_ns[1:], strict=False)]
    assert all(min(2.0**n, BACKOFF_S_MAX) / 2 <= wait <= min(2.0**n, BACKOFF_S_MAX) for n, wait in enumerate(waits))
    assert len(set(waits)) == len(waits)


def test_receiver_that_asks_for_time_gets_it(file: Book) -> None:
    def fails(batch: Sequence[Item]) -> None:
        if len(receiver.asked_ns) == 1:
            raise Retry("busy", after_s=900)

    receiver = Receiver(fails)
    sender, _, clock = _sender(file, receiver)
    file.queue(letters("siem", range(1)))
    _run(sender, clock, HOUR_S)
    assert (receiver.asked_ns[1] - receiver.asked_ns[0]) / S >= 900


def test_crash_after_sending_repeats_letters_with_the_same_ids(kept: Book) -> None:
    """At least once: what was sent and not yet taken away comes again, and its id says so."""
    receiver = Receiver(batch_max=4)
    sender, outbox, _ = _sender(kept, receiver)
    some = letters("siem", range(6))
    kept.queue(some)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    outbox.sent = dies  # type: ignore[method-assign]  # the process ends here
    with pytest.raises(KeyboardInterrupt):
        sender.step()
    sender.close()
    again, _, clock = _sender(kept, receiver)
    _run(again, clock, 10)
    assert receiver.got == [*_ids(some)[:4], *_ids(some)]
    assert list(dict.fromkeys(receiver.got)) == _ids(some)


def test_part_of_a_batch_that_arrived_is_not_sent_again(file: Book) -> None:
    def fails(batch: Sequence[Item]) -> None:
        if not receiver.got:
            receiver.got += [item.event.event_id for item in batch[:3]]
            raise Retry("reset", done=3)

    receiver = Receiver(fails)
    sender, outbox, clock = _sender(file, receiver)
    some = letters("siem", range(5))
    file.queue(some)
    _run(sender, clock, 10)
    assert receiver.got == _ids(some) and _state(outbox).retried_total == 1


def test_refused_letter_is_put_aside_and_those_behind_it_go(kept: Book) -> None:
    some = letters("siem", range(25))
    bad = {some[0].event_id, some[7].event_id, some[24].event_id}

    def fails(batch: Sequence[Item]) -> None:
        if any(item.event.event_id in bad for item in batch):
            raise Refused("HTTP 400", whole=len(batch) > 1)

    receiver = Receiver(fails)
    sender, outbox, clock = _sender(kept, receiver)
    kept.queue(some)
    _run(sender, clock, 30)
    assert receiver.got == [one for one in _ids(some) if one not in bad]
    assert {one.event_id for one in outbox.dead_letters("siem")} == bad
    assert (_state(outbox).dead_total, _state(outbox).error) == (3, "HTTP 400")
    bad.clear()
    outbox.replay("siem", clock.now_ns)
    _run(sender, clock, 30)
    assert set(receiver.got) == set(_ids(some)) and _state(outbox).dead == 0


def test_letter_that_our_own_code_cannot_write_stops_nothing(file: Book) -> None:
    some = letters("siem", range(3))

    def fails(batch: Sequence[Item]) -> None:
        if any(item.event.event_id == some[1].event_id for item in batch):
            raise KeyError("account svc_1")

    receiver = Receiver(fails)
    sender, outbox, clock = _sender(file, receiver)
    file.queue(some)
    _run(sender, clock, 10)
    assert receiver.got == [some[0].event_id, some[2].event_id]
    (dead,) = outbox.dead_letters("siem")
    assert dead.error == "our own fault: KeyError while this letter was written"  # never what was in it


def test_line_that_is_no_alert_is_put_aside(file: Book) -> None:
    receiver = Receiver()
    sender, outbox, clock = _sender(file, receiver)
    broken = [Letter("siem", "x", 0, b'{"kind":"alert"}'), Letter("siem", "y", 0, b"no json")]
    good = letters("siem", range(2))
    file.queue([good[0], *broken, good[1]])
    _run(sender, clock, 10)
    assert receiver.got == _ids(good)
    assert [one.error for one in outbox.dead_letters("siem")] == ["no event: alert.event_id: missing", "no event: line: json_invalid"]


def test_queues_that_cannot_be_reached_are_tried_again(file: Book) -> None:
    receiver = Receiver()
    sender, outbox, clock = _sender(file, receiver)
    file.queue(letters("siem", range(2)))
    whole = outbox.sent
    outbox.sent = lambda *_, **__: (_ for _ in ()).throw(StoreError("no room for more: the disk is full"))  # type: ignore[method-assign]
    _run(sender, clock, 5)
    assert sender.trouble == "no room for more: the disk is full"
    outbox.sent = whole  # type: ignore[method-assign]
    _run(sender, clock, 600)
    assert sender.trouble is None and _state(outbox).waiting == 0
    assert set(receiver.got) == set(_ids(letters("siem", range(2))))


def test_book_that_cannot_be_read_kills_no_letter(file: Book) -> None:
    """An Alertmanager's open alerts come from the book; that it is away says nothing of the letter."""

    def fails(batch: Sequence[Item]) -> None:
        if len(receiver.asked_ns) < 3:
            raise StoreError("postgresql: away")

    receiver = Receiver(fails)
    sender, outbox, clock = _sender(file, receiver)
    file.queue(letters("siem", range(1)))
    _run(sender, clock, 60)
    assert receiver.got == [alert(0).event_id] and _state(outbox).dead_total == 0


def test_mistake_of_our_own_ends_no_thread(file: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.delivery.sender.FAULT_S", 0.01)
    mistakes = iter([True, True])
    arrived = threading.Event()

    class Careless(Receiver):
        def wait_s(self, batch: Sequence[Item], oldest_s: float) -> float:
            return 0.0 if not next(mistakes, False) else float("x")

        def send(self, batch: Sequence[Item]) -> None:
            arrived.set()

    senders = Senders({"siem": Careless()}, file.outbox, random=Random(1))
    file.queue(letters("siem", range(1)))
    senders.start()
    assert arrived.wait(10)
    assert senders.stop()


def test_second_process_stands_by_until_the_first_is_gone(kept: Book) -> None:
    first, second = Receiver(), Receiver()
    one, _, clock = _sender(kept, first)
    other, _, _ = _sender(kept, second, clock)
    kept.queue(letters("siem", range(1)))
    one.step()
    kept.queue(letters("siem", range(1, 2)))
    assert other.step() == 10.0 and second.got == []
    one.close()
    other.step()
    assert second.got == [alert(1).event_id]


def test_canary_is_sent_when_due_and_its_delay_is_known(file: Book) -> None:
    away = False

    def fails(batch: Sequence[Item]) -> None:
        if away:
            raise Retry("no")

    receiver = Receiver(fails)
    sender, outbox, clock = _sender(file, receiver, canary_s=60.0)
    _run(sender, clock, 150)
    assert len(receiver.got) == 3
    state = _state(outbox)
    assert state.canary_event == receiver.got[-1] and state.canary_delay_s is not None and state.canary_delay_s < 1.0
    away = True
    _run(sender, clock, HOUR_S)
    assert _state(outbox).waiting == 1  # one canary waits, not sixty
    away = False
    _run(sender, clock, 400)
    delay_s = _state(outbox).canary_delay_s
    assert delay_s is not None and delay_s < 70.0
    # The one that waited says what the outage cost; those behind it are quick again.
    assert sum(sender.alert_delays.counts[DELAY_BUCKETS_S.index(900.0) + 1 :]) == 1 and sum(sender.alert_delays.counts) == len(receiver.got)


@pytest.mark.parametrize("lost", ["refused", "dropped"])
def test_a_canary_that_was_lost_is_followed_by_the_next(file: Book, lost: str) -> None:
    """Refused for good, or gone at the bound of a long queue, of which canaries are the first to go."""
    away = True

    def fails(batch: Sequence[Item]) -> None:
        if away:
            raise Refused("HTTP 400") if lost == "refused" else Retry("nobody answers")

    receiver = Receiver(fails)
    sender, outbox, clock = _sender(file, receiver, canary_s=60.0)
    _run(sender, clock, 30)
    if lost == "dropped":
        file.queue(letters("siem", range(3)), clock.now_ns, most=3)
        assert _state(outbox).dropped_total == 1
    away = False
    _run(sender, clock, 200)
    assert _state(outbox).canary_event is not None and len(receiver.got) >= 3


def test_digest_is_gathered_over_a_restart(file: Book) -> None:
    class Digest(Receiver):
        def wait_s(self, batch: Sequence[Item], oldest_s: float) -> float:
            return max(0.0, 300 - oldest_s)

    receiver = Digest()
    sender, _, clock = _sender(file, receiver)
    file.queue(letters("siem", range(2)), clock.now_ns)
    _run(sender, clock, 200)
    sender.close()
    file.queue(letters("siem", range(2, 3)), clock.now_ns)
    again, _, _ = _sender(file, receiver, clock)
    _run(again, clock, 99)
    assert receiver.asked_ns == []
    _run(again, clock, 2)
    assert len(receiver.asked_ns) == 1 and len(receiver.got) == 3


def test_dead_destination_delays_no_other_and_not_whoever_queues(file: Book) -> None:
    silent = threading.Event()
    arrived = threading.Event()

    class Silent(Receiver):
        def send(self, batch: Sequence[Item]) -> None:
            silent.wait(30)

    class Quick(Receiver):
        def send(self, batch: Sequence[Item]) -> None:
            super().send(batch)
            if len(self.got) == 300:
                arrived.set()

    quick = Quick()
    senders = Senders({"dead": Silent(), "siem": quick}, file.outbox, random=Random(1))
    senders.start()
    try:
        for first in range(0, 300, 30):
            file.queue(letters("dead", range(first, first + 30)) + letters("siem", range(first, first + 30)))
            senders.wake()
        assert arrived.wait(20), f"{len(quick.got)} of 300 arrived"
        assert next(state for state in file.outbox().states() if state.destination == "dead").waiting == 300
        assert not senders.stop(0.2)
    finally:
        silent.set()
    assert senders.stop()


def test_figures_have_no_label_but_the_destination(file: Book) -> None:
    def fails(batch: Sequence[Item]) -> None:
        if isinstance(batch[0].event, Alert) and batch[0].event.revision:
            raise Refused("HTTP 400")

    receiver = Receiver(fails, batch_max=1)
    sender, outbox, clock = _sender(file, receiver)
    file.queue([*letters("siem", range(3)), letter("siem", alert(9, revision=1, change="updated")), *letters("gone", range(1))])
    clock.now_ns += 2 * S
    for _ in range(4):
        sender.step()
    file.queue(letters("siem", range(20, 22)), clock.now_ns - 40 * S)
    registry = CollectorRegistry()
    registry.register(DeliveryCollector(outbox.states, ["siem"], {"siem": sender}, clock))
    said = generate_latest(registry).decode()
    for line in (
        'hopwatch_delivery_queue_letters{destination="siem"} 2.0',
        'hopwatch_delivery_oldest_letter_age_seconds{destination="siem"} 40.0',
        'hopwatch_delivery_sent_total{destination="siem"} 3.0',
        'hopwatch_delivery_dead_total{destination="siem"} 1.0',
        'hopwatch_delivery_dead_letters{destination="siem"} 1.0',
        'hopwatch_delivery_last_success_timestamp_seconds{destination="siem"} 1.77555853e+09',
        'hopwatch_delivery_delay_seconds_bucket{destination="siem",le="1.0"} 0.0',
        'hopwatch_delivery_delay_seconds_bucket{destination="siem",le="2.5"} 3.0',
        'hopwatch_delivery_delay_seconds_count{destination="siem"} 3.0',
        "hopwatch_delivery_queues_readable 1.0",
    ):
        assert line in said.splitlines(), line
    assert "svc_" not in said and "gone" not in said
    # A digest that is still gathered is not late.
    gathering = CollectorRegistry()
    gathering.register(DeliveryCollector(outbox.states, ["siem"], {}, clock, {"siem": 30.0}))
    assert 'hopwatch_delivery_oldest_letter_age_seconds{destination="siem"} 10.0' in generate_latest(gathering).decode()


def test_where_canaries_go_their_interval_and_beginning_are_figures(file: Book, tmp_path: Path) -> None:
    clock = Clock()
    to = {"kind": "file", "address": str(tmp_path / "alerts.jsonl")}
    mail = {"kind": "mail", "address": "smtp://127.0.0.1:25", "sender": "h@example.org", "recipients": ["s@example.org"]}
    settings = alerts_settings(
        {"canary_s": 600, "destinations": {"siem": to | {"canary_s": 60}, "file": to, "mail": mail | {"digest_s": 3_600}}}, "test", {}
    )
    registry = CollectorRegistry()
    registry.register(Delivery(settings, file.outbox, lambda: pytest.fail("no broker"), clock_ns=clock).collector)
    lines = generate_latest(registry).decode().splitlines()
    for name, interval_s in (("siem", 60.0), ("file", 600.0), ("mail", 3600.0)):
        assert f'hopwatch_delivery_canary_interval_seconds{{destination="{name}"}} {interval_s}' in lines
    begun = [line.split()[1] for line in lines if line.startswith("hopwatch_delivery_canary_begun_timestamp_seconds{")]
    assert [float(value) for value in begun] == [clock.now_ns / 1e9] * 3
