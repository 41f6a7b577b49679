"""How many rows tables have, by a file that a job of the user keeps current.

CSV with a header: ``asset,table,rows``, and ``plant`` where detectors judge several. One query of PostgreSQL's statistics makes it::

    psql --csv -c "SELECT 'mes-db' AS asset, schemaname || '.' || relname AS table, n_live_tup AS rows FROM pg_stat_user_tables"

The file is looked at again once a minute. What is wrong with a new one is said once, and the last one that was right still counts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hopwatch.config import ConfigError

RELOAD_S: Final = 60.0
"""How often the file is looked at."""

FILE_BYTES_MAX: Final = 16 << 20
TABLES_MAX: Final = 200_000

_NEEDED: Final = {"asset", "table", "rows"}

Tables = dict[tuple[str, str, str], int]
"""Rows by plant (empty: any), asset and table."""


class TableSizes:
    """The rows of a table as the file has them now; of no file, nothing is known."""

    def __init__(self, path: Path | None, clock: Callable[[], float], say: Callable[[str], object]) -> None:
        """Read the file.

        Raises:
            ConfigError: it cannot be read, or is no such list; the line is named.
        """
        self._path, self._clock, self._say = path, clock, say
        self._looked_s = clock()
        self._stamp: tuple[int, int] | None = None
        self._tables: Tables = {}
        self._look()

    def __call__(self, plant: str, asset: str | None, table: str) -> int | None:
        """Rows of the asset's table; None if the file does not know it."""
        if self._path is None or asset is None:
            return None
        now_s = self._clock()
        if now_s - self._looked_s >= RELOAD_S:
            self._looked_s = now_s
            try:
                self._look()
            except ConfigError as error:
                self._say(f"{error}; the sizes read before still count")
        return self._tables.get((plant, asset, table), self._tables.get(("", asset, table)))

    def _look(self) -> None:
        if self._path is None:
            return
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp == self._stamp:
                return
            # What is wrong is said once a version of the file.
            self._stamp = stamp
            if found.st_size > FILE_BYTES_MAX:
                raise ConfigError(f"{self._path}: {found.st_size} bytes, expected at most {FILE_BYTES_MAX}")
            self._tables = _read(self._path, self._path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{self._path}: expected UTF-8") from None


def _read(path: Path, text: str) -> Tables:
    lines = csv.DictReader(io.StringIO(text), strict=True)
    tables: Tables = {}
    try:
        if not set(lines.fieldnames or ()) >= _NEEDED:
            raise ConfigError(f"{path}:1: expected a header with asset, table and rows")
        for line in lines:
            rows = (line["rows"] or "").strip()
            if not (rows.isascii() and rows.isdigit() and len(rows) <= 18) or not line["asset"] or not line["table"]:
                raise ConfigError(f"{path}:{lines.line_num}: expected an asset, a table and a whole number of rows")
            tables[line.get("plant") or "", line["asset"], line["table"]] = int(rows)
            if len(tables) > TABLES_MAX:
                raise ConfigError(f"{path}:{lines.line_num}: expected at most {TABLES_MAX} tables")
    except csv.Error as error:
        raise ConfigError(f"{path}:{lines.reader.line_num}: {error}") from None
    return tables
