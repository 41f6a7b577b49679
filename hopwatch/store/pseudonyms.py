"""Pseudonyms of accounts: a keyed hash under which a person's records stay joinable without naming the person.

A plain hash of a user name is undone by hashing a list of names; with a secret key that needs the key (ISO/IEC 20889, 9.4.2
calls it keyed cryptographic hashing; RFC 2104 HMAC). Accounts the plant declares as ``service`` or ``vendor`` are no
persons and stay readable; every other account, an unknown one included, might be a person.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

KEY_BYTES = 32
PSEUDONYM_PREFIX = "person:"
_DIGITS = 16  # 64 bits: a plant's accounts do not collide.

_END = re.compile(r"(?:[\d.]{7,15}|\[[0-9A-Fa-f:.]+\]):\d{1,5}")
"""An address with a port, which a pool's log has instead of a name for whom it works; it is no person."""

ACCOUNT_FIELDS = ("account", "role", "on_behalf_of", "who")
"""Fields of an event that hold an account and nothing else."""

_ADMINISTERED = ("account:", "grant:", "revoke:")

_CLAIM_WORDS = ("by", "from", "kind", "claimed")  # Keys of a claimed identity that say how it was claimed, not who.


class Pseudonyms:
    """Rewrites events so that accounts which may be persons appear as a keyed hash only.

    ``is_clear`` says of an account name whether it may rest in clear (declared ``service`` or ``vendor``).
    """

    def __init__(self, key: bytes, is_clear: Callable[[str], bool] = lambda account: False) -> None:
        assert len(key) >= KEY_BYTES
        self._key = key
        self._is_clear = is_clear
        self._known: dict[str, str] = {}

    def of(self, account: str) -> str:
        """What stands for ``account`` in the store: itself if it may be read, else its pseudonym."""
        if account.startswith(PSEUDONYM_PREFIX) or self._is_clear(account):
            return account
        return self.made(account)

    def made(self, account: str) -> str:
        """The pseudonym of ``account``, whatever it is."""
        return PSEUDONYM_PREFIX + hmac.new(self._key, account.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:_DIGITS]

    def rewritten(self, event: Mapping[str, Any]) -> dict[str, Any]:  # Any: one JSON object.
        """A copy of ``event`` without the names of persons.

        An account is replaced where it has its own field or stands as an object (``account:h.keller``, what CREATE ROLE made), and as a
        whole word in the texts that quote it: the differences and observations of a finding, the application (``psql - h.keller``).
        """
        made = dict(event)
        names: dict[str, str] = {}
        for field in ACCOUNT_FIELDS:
            told = [name for name in _names(made.get(field)) if field != "on_behalf_of" or _END.fullmatch(name) is None]
            names |= {name: stands for name in told if (stands := self.of(name)) != name}
        names |= {name: stands for name in _administered(made) if (stands := self.of(name)) != name}
        if not names:
            return made
        words = re.compile("|".join(rf"(?<![\w.@-]){re.escape(name)}(?![\w@-])" for name in sorted(names, key=len, reverse=True)))

        def spoken(value: Any) -> Any:  # Any: a JSON value.
            if isinstance(value, str):
                return words.sub(lambda match: names[match.group()], value)
            if isinstance(value, Mapping):
                return {key: spoken(inner) for key, inner in value.items()}
            if isinstance(value, list | tuple):
                return [spoken(inner) for inner in value]
            return value

        for field in (*ACCOUNT_FIELDS, "application", "differences", "observed", "objects", "legs"):
            if field in made:
                made[field] = spoken(made[field])
        return made


def _administered(event: Mapping[str, Any]) -> list[str]:  # Any: one JSON object.
    """The accounts that were made, changed or given: ``account:NAME`` among objects, ``grant:NAME`` and ``revoke:NAME`` among columns."""
    objects = event.get("objects") or ()
    shown = [name for entry in objects for key in ("names", "columns") for name in entry.get(key) or ()]
    observed = event.get("observed")
    shown += observed.get("objects") or () if isinstance(observed, Mapping) else ()
    return [name.partition(":")[2] for name in shown if name.startswith(_ADMINISTERED)]


def _names(value: object) -> list[str]:
    """The accounts in a field: a text, or every text of an object (what an application claims has no fixed shape)."""
    if isinstance(value, Mapping):
        return [name for key, inner in value.items() if key not in _CLAIM_WORDS for name in _names(inner)]
    return [value] if isinstance(value, str) and value else []


def key_file(path: Path) -> bytes:
    """The key in ``path``; a file that does not exist is made, readable by its owner only (0600).

    Raises:
        OSError: the file cannot be made or read.
        ValueError: it holds no key, or others may read it.
    """
    if not path.exists():
        # Several programs may begin at once: whoever is first makes it, whole before it has its name, and all read that one.
        descriptor, made = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(KEY_BYTES) + "\n")
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
        finally:
            Path(made).unlink()
    if path.stat().st_mode & 0o077:
        raise ValueError(f"{path}: others may read this key, expected mode 0600")
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise ValueError(f"{path}: no key of {KEY_BYTES} bytes in hexadecimal")
    return key
