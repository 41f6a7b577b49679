"""Which version of the program runs."""

from __future__ import annotations

from typing import Final

NOT_INSTALLED: Final = "not installed"


def version() -> str:
    """The version of the installed package; a checkout that is not installed has none."""
    # Its parts are those of a mail parser: loaded by who asks.
    from importlib import metadata

    try:
        return metadata.version("hopwatch")
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED
