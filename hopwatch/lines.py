"""A reader for a stream of lines: what a flow said before is not read again.

A flow goes on as it went a second before, so nearly every line differs from the one before it of its flow in a few numbers, two times and
an identity alone. Such a line is compared by its bytes with what stayed of that one, and its window shares with it every part that stayed:
the very same ends, names, protection and account, which whoever judges windows tells from others without looking into them. Whatever is
not plainly so is read by ``hopwatch.events.parse``; the event is the same either way, and so is a refusal.

Windows share their parts, so nobody changes a part of an event: who wants another makes one (``model_copy``).
"""

from collections.abc import Callable

from hopwatch.events import Event, Flow, parse
from hopwatch_wire import Lines

Read = Callable[[bytes | str], Event]


def reader() -> Read:
    """What reads one stream as ``parse`` does, one line after another.

    It remembers the last window of each flow, within the bounds of ``wire/src/lines.rs``; what it forgets is read anew.
    """
    return Lines(parse, Flow)
