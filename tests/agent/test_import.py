"""What came over a one-way line reaches the broker in its order, whatever the broker refuses meanwhile."""

import pytest

from hopwatch.agents import _published
from hopwatch.bus import LogError
from tests.agent.test_pump import Broker, Reports
from tests.agent.windows import stream


class Refusing(Broker):
    """Refuses one event once and answers for all others at once."""

    def __init__(self, refused: int, *, lasting: bool = False) -> None:
        super().__init__(room=4)
        self.refused, self.lasting = refused, lasting

    def send(self, kind: str, plant: str, event_id: str, line: bytes, token: int) -> bool:
        if len(self.open) >= self.room:
            return False
        self.sent.append(token)
        self.open.append(token)
        return True

    def poll(self, timeout_s: float = 0.0) -> Reports:
        for token in self.open:
            if token == self.refused:
                self.refused = -1
                self.fail(token, lasting=self.lasting)
            else:
                self.acknowledge(token)
        return super().poll(timeout_s)


def test_what_was_refused_is_sent_again_with_what_followed_it() -> None:
    broker = Refusing(2)
    assert _published(broker, stream(range(8), 1), lambda: False)
    assert broker.sent == [0, 1, 2, 3, 2, 3, 4, 5, 6, 7]


def test_an_event_refused_for_good_ends_the_import_in_one_line() -> None:
    with pytest.raises(LogError, match="refuses an event for good: not leader"):
        _published(Refusing(2, lasting=True), stream(range(8), 1), lambda: False)


def test_a_signed_line_that_is_no_event_ends_the_import_in_one_line() -> None:
    with pytest.raises(LogError, match="line 1 of a signed segment is no event"):
        _published(Refusing(2), [b'{"kind":"other"}'], lambda: False)


def test_an_import_that_is_asked_to_end_says_that_it_is_not_done() -> None:
    broker = Refusing(-1)
    broker.room = 0
    assert not _published(broker, stream(range(2), 1), lambda: True)
