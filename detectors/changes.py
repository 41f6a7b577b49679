"""What a table has changed since it was last asked: so that keeping a plant's memory costs what moved, not what is remembered.

A table that is bounded forgets what was touched longest ago, so it is an ordered dictionary whose last touched entry stands last.
The entries touched since a moment are therefore its tail, and in order: whoever puts them in at the end of a copy of then, and lets
the same bound forget from the front, has the table of now, order included. What was touched and forgotten in between needs no
word: of the tail alone there is already more than the bound holds.
"""

from collections import OrderedDict
from collections.abc import Container
from itertools import takewhile
from typing import TypeVar

Entry = TypeVar("Entry")


def tail(table: OrderedDict[str, Entry], touched: Container[str]) -> list[tuple[str, Entry]]:
    """The entries of the table that were touched, in its order."""
    keys = list(takewhile(touched.__contains__, reversed(table)))
    return [(key, table[key]) for key in reversed(keys)]


def put(table: OrderedDict[str, Entry], key: str, entry: Entry, most: int) -> None:
    """The entry at the table's end; beyond ``most`` the first is forgotten."""
    table[key] = entry
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
