"""A reader of a feed that is killed, and begun again by the state that it has left."""

from collections.abc import Callable
from pathlib import Path

from collectors.feed import Feed


def everything(feed: Feed) -> list[bytes]:
    """What it says to the end of what is there."""
    return [line for batch in feed.batches(lambda: False, follow=False) for line in batch]


def told_once(make: Callable[[], Feed], place: Path, kills: int) -> list[bytes]:
    """What a reader says, which is the same if it is killed after any of so many batches; ``make`` begins one by the state in ``place``."""
    whole = everything(make())
    for killed_at in range(kills):
        place.unlink()
        told: list[bytes] = []
        for turn, batch in enumerate(make().batches(lambda: False, follow=False)):
            if turn == killed_at:
                # The batch may have been handed over, or not: both readers say the same.
                told += batch if killed_at % 2 else []
                break
            told += batch
        told += everything(make())
        assert list(dict.fromkeys(told)) == whole, f"killed after {killed_at} batches"
    return whole
