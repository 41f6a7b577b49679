"""How a letter is written for a destination: by a format's name."""

from __future__ import annotations

from collections.abc import Callable

from hopwatch.events import Alert, Decision, dump

Render = Callable[[Alert | Decision], bytes]


def renderer(name: str) -> Render:
    """What writes events in the format ``name``.

    Raises:
        ValueError: there is no such format.
    """
    if name != "event":
        raise ValueError(f"format {name}: known are event")
    return dump
