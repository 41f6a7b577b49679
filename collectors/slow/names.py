"""Addresses as object names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

RANGES_MAX: Final = 64
"""Ranges that are named one by one; of more, the name is ``PREFIX/*``."""


def ranges(prefix: str, addresses: Iterable[int]) -> tuple[str, ...]:
    """``PREFIX/100-109`` for addresses in a row, ``PREFIX/7`` for one."""
    found: list[list[int]] = []
    for address in sorted(set(addresses)):
        if found and address == found[-1][1] + 1:
            found[-1][1] = address
        else:
            found.append([address, address])
    if len(found) > RANGES_MAX:
        return (f"{prefix}/*",)
    return tuple(f"{prefix}/{first}" if first == last else f"{prefix}/{first}-{last}" for first, last in found)


def span(prefix: str, first: int, count: int) -> str:
    """The name of so many addresses from the first one on."""
    return f"{prefix}/{first}" if count <= 1 else f"{prefix}/{first}-{first + count - 1}"
