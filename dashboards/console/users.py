"""The file of users: a name, a role and an Argon2id hash a line, readable by its owner only.

Argon2id with the first recommended parameters that fit a small machine (RFC 9106, 4: 64 MiB, three passes). The file is written anew
beside the old one and takes its place in one step, so that no reader ever sees half of it, and is read again when it has changed: who
is removed is out with their next request.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from dashboards.console.access import NAME, ROLES, Role

USERS_MAX: Final = 1_000
PASSWORD_CHARACTERS_MIN: Final = 12
"""NIST SP 800-63B-4, 3.1.1.2 asks for eight at least, and for fifteen where nothing else is asked."""
PASSWORD_CHARACTERS_MAX: Final = 256

FAILURES_FREE: Final = 5
WAIT_S_MAX: Final = 900.0
THROTTLED_MAX: Final = 10_000
"""Names and addresses whose failures are remembered; the one that failed longest ago is forgotten."""

_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4)


class UsersError(Exception):
    """The file of users is wrong; one line that says how."""


@dataclass(frozen=True, slots=True)
class User:
    """A line of the file."""

    name: str
    role: Role
    hash: str


class Users:
    """The users in a file."""

    def __init__(self, path: Path) -> None:
        """Read them.

        Raises:
            UsersError: the file is not there, others may read it, or a line is wrong.
        """
        self._path = path
        # What is compared with where there is no such user: an answer takes as long for a name that is not there.
        self._nobody = _HASHER.hash(secrets.token_urlsafe(16))
        # Before it is read: what changes meanwhile is read again.
        self._stamp = self._now()
        self._users = read(path)

    def _now(self) -> tuple[int, int, int]:
        try:
            said = self._path.stat()
        except OSError:
            return 0, 0, 0
        return said.st_mtime_ns, said.st_size, said.st_ino

    def _fresh(self) -> dict[str, User]:
        stamp = self._now()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._users = read(self._path)
            except UsersError:
                # Whoever broke the file meant to take rights away as likely as to give some.
                self._users = {}
        return self._users

    def role(self, name: str) -> Role | None:
        """The role of a user; None if there is none of that name."""
        user = self._fresh().get(name)
        return None if user is None else user.role

    def check(self, name: str, password: str) -> Role | None:
        """The role of who knows the password; takes a tenth of a second, and as long where the name is not there."""
        user = self._fresh().get(name)
        try:
            _HASHER.verify(self._nobody if user is None else user.hash, password[:PASSWORD_CHARACTERS_MAX])
        except (Argon2Error, InvalidHashError):
            return None
        return None if user is None else user.role


def read(path: Path) -> dict[str, User]:
    """The users of a file.

    Raises:
        UsersError: as above.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise UsersError(f"{path}: others may read these hashes, expected mode 0600")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsersError(f"{path}: {error.strerror}; `hopwatch console user add NAME --role ROLE --users {path}` makes it") from None
    except UnicodeDecodeError:
        raise UsersError(f"{path}: not UTF-8") from None
    users: dict[str, User] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split()
        if len(parts) != 3 or not NAME.fullmatch(parts[0]) or parts[1] not in ROLES or not parts[2].startswith("$argon2id$"):
            raise UsersError(f"{path}:{number}: expected a name, a role ({', '.join(ROLES)}) and an Argon2id hash")
        if parts[0] in users:
            raise UsersError(f"{path}:{number}: {parts[0]} is there twice")
        users[parts[0]] = User(parts[0], parts[1], parts[2])
        if len(users) > USERS_MAX:
            raise UsersError(f"{path}: over {USERS_MAX} users")
    return users


def write(path: Path, users: dict[str, User]) -> None:
    """Write the file anew, whole or not at all, mode 0600.

    Raises:
        UsersError: it cannot be written.
    """
    text = "# hopwatch console: name, role, Argon2id hash\n" + "".join(f"{one.name} {one.role} {one.hash}\n" for one in users.values())
    try:
        # mkstemp makes the file with mode 0600.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsersError(f"{path}: {error.strerror}") from None


def put(path: Path, name: str, role: Role, password: str) -> bool:
    """Add a user, or give an old one a new role and password; whether there was one.

    Raises:
        UsersError: name or password will not do, or the file is wrong.
    """
    if not NAME.fullmatch(name):
        raise UsersError(f"{name!r}: a name has letters, digits and _.@-, 64 at most")
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise UsersError(f"a password of {len(password)} characters, expected {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX}")
    users = read(path) if path.exists() else {}
    there = name in users
    users[name] = User(name, role, _HASHER.hash(password))
    if len(users) > USERS_MAX:
        raise UsersError(f"{path}: over {USERS_MAX} users")
    write(path, users)
    return there


def remove(path: Path, name: str) -> None:
    """Take a user out.

    Raises:
        UsersError: there is none of that name.
    """
    users = read(path)
    if users.pop(name, None) is None:
        raise UsersError(f"{path}: no user {name}")
    write(path, users)


class Throttle:
    """Who has failed to come in waits, twice as long each time: by name and by address, so that neither can be tried at will."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, *keys: str) -> float:
        """How long they must wait; nothing if they may try."""
        now_s = self._clock()
        return max((self._until(key) - now_s for key in keys), default=0.0)

    def _until(self, key: str) -> float:
        count, last_s = self._failed.get(key, (0, 0.0))
        return last_s + min(2.0 ** min(count - FAILURES_FREE, 30), WAIT_S_MAX) if count >= FAILURES_FREE else 0.0

    def failed(self, *keys: str) -> None:
        """They were wrong."""
        for key in keys:
            count, _ = self._failed.get(key, (0, 0.0))
            self._failed[key] = (count + 1, self._clock())
            self._failed.move_to_end(key)
        while len(self._failed) > THROTTLED_MAX:
            self._failed.popitem(last=False)

    def right(self, *keys: str) -> None:
        """They were right: what they failed before is forgotten."""
        for key in keys:
            self._failed.pop(key, None)
