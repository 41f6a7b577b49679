"""Who may do what: four roles, one table, and the names that a role may not read.

Roles are of NIST's core model (INCITS 359-2012, 6.1): a person has one role, a role has rights, and nothing asks for anything but a
right. The store holds every account that may be a person's as a keyed hash; whoever may not see even that sees "a person". That is
done to the finished page, in one place, so that no page can forget it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final, Literal, get_args

import markupsafe

from hopwatch.declared.model import Architecture

Role = Literal["viewer", "analyst", "auditor", "admin"]
Right = Literal["look", "accounts", "decide", "draft", "audit", "sessions"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)

RIGHTS: Final[dict[Role, frozenset[Right]]] = {
    "viewer": frozenset(("look",)),
    "analyst": frozenset(("look", "accounts", "decide", "draft")),
    "auditor": frozenset(("look", "accounts", "audit")),
    "admin": frozenset(("look", "accounts", "decide", "draft", "audit", "sessions")),
}

SAID_OF_RIGHTS: Final[dict[Right, str]] = {
    "look": "see the map, alerts, the declaration, coverage",
    "accounts": "see accounts of persons (pseudonyms of the store, names of the declaration)",
    "decide": "acknowledge, comment, suppress, shelve, resolve, reopen",
    "draft": "have a hop drafted for review",
    "audit": "see who decided what, who came in and who was refused",
    "sessions": "end the sessions of others",
}

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}", re.ASCII)
"""What a person may be called."""

A_PERSON: Final = "a person"

_PSEUDONYM: Final = re.compile(rb"person:[0-9a-f]{4,16}(?:\xe2\x80\xa6)?")
_NAMED_OBJECT: Final = re.compile(rb"account:([A-Za-z0-9_.@-]{2,128})")
_PIECE: Final = re.compile(rb"<[^>]*>|[^<]+")
_READ: Final = re.compile(rb"""((?:aria-label|title|alt|value|placeholder)=")([^"]*)""")


@dataclass(frozen=True, slots=True)
class Person:
    """Who is at the console, and how that is known."""

    name: str
    role: Role
    by: str

    def may(self, right: Right) -> bool:
        """Whether the role has the right."""
        return right in RIGHTS[self.role]


def persons_of(architectures: Iterable[Architecture]) -> frozenset[str]:
    """The accounts that declarations name and that are no services and no vendors, with the identities they go under."""
    names: set[str] = set()
    for architecture in architectures:
        for name, account in architecture.accounts.items():
            if account.kind not in ("service", "vendor"):
                names.update((name, *account.identities))
    return frozenset(names)


def without_persons(page: bytes, names: Iterable[str]) -> bytes:
    """The page with "a person" in the place of every pseudonym, every account that a statement was about, and these names.

    Pseudonyms go wherever they are. A name goes from what is read: between tags, and in attributes that are read aloud or shown; an
    account that is called ``map`` must not break links. Everything that a page is told is escaped, so a ``>`` ends a tag.
    """
    page = _PSEUDONYM.sub(A_PERSON.encode(), page)
    about = {match.decode() for match in _NAMED_OBJECT.findall(page)}
    # As they stand in a page: escaped by a template, or by what draws.
    spelt = {spelling for name in {*names, *about} if name for spelling in (name, escape(name), str(markupsafe.escape(name)))}
    words = sorted(spelt, key=len, reverse=True)
    if not words:
        return page
    either = re.compile(rb"(?<![\w.@-])(?:" + b"|".join(re.escape(name.encode()) for name in words) + rb")(?![\w@-])")

    def masked(text: bytes) -> bytes:
        return either.sub(A_PERSON.encode(), text)

    def piece(match: re.Match[bytes]) -> bytes:
        if not match[0].startswith(b"<"):
            return masked(match[0])
        return _READ.sub(lambda read: read[1] + masked(read[2]), match[0])

    return _PIECE.sub(piece, page)
