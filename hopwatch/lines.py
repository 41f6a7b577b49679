"""A reader for a stream of lines: what a window of its kind said before is not read again.

A flow goes on as it went a second before, and a client's as another's: nearly every line differs from one before it in a few numbers, two
times, three identities and the client alone. Such a line is compared by its bytes with what stayed of that one, and its window shares with
it every part that stayed: the very same server, names, protection and account, which whoever judges windows tells from others without
looking into them. More than that, windows that say the same but for that have one ``mark``, so that who has judged one of them has judged
all. Whatever is not plainly so is read by ``hopwatch.events.parse``; the event is the same either way, and so is a refusal.

Windows share their parts, so nobody changes a part of an event: who wants another makes one (``model_copy``).
"""

from collections.abc import Callable

from hopwatch.events import Event, Flow, parse
from hopwatch_wire import Lines

Read = Callable[[bytes | str], Event]


def reader() -> Read:
    """What reads one stream as ``parse`` does, one line after another.

    It remembers a window of each kind, within the bounds of ``wire/src/lines.rs``; what it forgets is read anew.
    """
    return Lines(parse, Flow)
