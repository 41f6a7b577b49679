"""One transaction of SQLite, as every room that keeps a file of its own makes it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(db: sqlite3.Connection, *, reads: bool = False) -> Iterator[sqlite3.Connection]:
    """All of it or nothing. One that does not only read waits for other writers at its beginning, not in its middle (BEGIN IMMEDIATE).

    Raises:
        sqlite3.Error: nothing of it was written.
    """
    db.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        # SQLite rolls some failures back by itself, a full disk among them.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
