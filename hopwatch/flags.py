"""How flags that several commands have are read."""

import argparse

from hopwatch.events import time_ns


def instant(text: str) -> str:
    """RFC 3339; a day alone begins at midnight UTC.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    full = f"{text}T00:00:00Z" if len(text) == 10 else text
    try:
        time_ns(full)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}": {error}') from error
    return full
