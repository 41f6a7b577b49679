"""Which country and network operator an address belongs to, by files in the MaxMind DB format that the user brings.

Nothing is asked of anybody: the files are read into memory when the run begins. A file of countries or cities gives the country
(``country.iso_code``, else ``registered_country.iso_code``), one of autonomous systems the operator (``autonomous_system_number`` and
``autonomous_system_organization``); of several files that know an address the first counts (MaxMind DB file format, version 2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import maxminddb

from hopwatch.config import ConfigError

ADDRESSES_MAX: Final = 16_384
"""Addresses whose place is remembered; the one asked for longest ago is looked up again."""

Place = tuple[str, str]
"""Country (ISO 3166-1, two letters) and operator (``AS64500 NAME``); empty where nobody knows."""


class Located:
    """The place of an address."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Open the files.

        Raises:
            ConfigError: one cannot be read, or is of another format.
        """
        self._readers = [_opened(path) for path in files]
        self._remembered = lru_cache(maxsize=ADDRESSES_MAX)(self._look)

    def __call__(self, address: str) -> Place:
        """Country and operator of the address."""
        return self._remembered(address)

    def _look(self, address: str) -> Place:
        country = operator = ""
        for reader in self._readers:
            try:
                found = reader.get(address)
            except (ValueError, TypeError, LookupError, maxminddb.InvalidDatabaseError):
                # No address, one of a family that the file does not hold, or a damaged part of the file: nobody knows.
                continue
            if isinstance(found, dict):
                country = country or _country(found)
                operator = operator or _operator(found)
        return country, operator


def _opened(path: Path) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(path, maxminddb.MODE_MEMORY)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        said = getattr(error, "strerror", None) or "expected a file in the MaxMind DB format (.mmdb)"
        raise ConfigError(f"{path}: {said}") from None


def _country(found: dict[str, Any]) -> str:  # Any: whatever the file holds
    for key in ("country", "registered_country"):
        place = found.get(key)
        if isinstance(place, dict) and isinstance(place.get("iso_code"), str):
            return str(place["iso_code"])
    return ""


def _operator(found: dict[str, Any]) -> str:  # Any: whatever the file holds
    number, name = found.get("autonomous_system_number"), found.get("autonomous_system_organization")
    return " ".join([f"AS{number}"] * (number is not None) + [str(name)] * (name is not None))
