"""Texts of SQL as somebody's log or view has them, read by the reader of the wire's decoders; nothing else of them is kept."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hopwatch_wire import Read

STATEMENT_BYTES_MAX: Final = 1 << 16
"""Bytes of a statement that are read; of the rest nothing is known."""

MOVES: Final = frozenset({"select", "insert", "update", "delete", "copy"})
"""Operations that move rows."""

POSTGRESQL_REFUSED: Final = ("28", "3D000", "42501", "53300")
"""SQLSTATE of what was refused: authorization (class 28), no such database, no privilege, too many connections (Appendix A)."""


def reads(text: str, *, dialect: str = "postgresql", database: str | None = None, whole: bool = True) -> list[Read]:
    """The statements of a text; none of one that is not text. ``whole``: the log has all of it."""
    from hopwatch_wire import read_sql

    with suppress(UnicodeError):
        content = text.encode("utf-8", "surrogatepass")
        whole = whole and len(content) <= STATEMENT_BYTES_MAX
        return read_sql(content[:STATEMENT_BYTES_MAX], whole=whole, dialect=dialect, database=database)
    return []
