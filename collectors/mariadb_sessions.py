"""Who is connected to a MariaDB or MySQL server now, and from which port: its process list, asked for by an account that may see it.

Only numbers, names and addresses are asked for, never what a session is saying (its column INFO).
"""

from __future__ import annotations

import ssl
import time
from typing import Any, Final, NamedTuple

from collectors.asked import Asked, every
from collectors.dialled import secret
from collectors.feed import FeedError, Told

SESSIONS_MAX: Final = 8_192
"""Sessions followed at a time; of more, the one heard of longest ago is let go, and counted."""

TIMEOUT_S: Final = 5

LIST: Final = f"SELECT ID, USER, HOST FROM information_schema.PROCESSLIST WHERE HOST LIKE '%:%' ORDER BY ID DESC LIMIT {SESSIONS_MAX}"
CLOCK: Final = "SHOW GLOBAL STATUS LIKE 'Uptime'"
SETTINGS: Final = """SHOW GLOBAL VARIABLES WHERE Variable_name IN
('slow_query_log', 'long_query_time', 'log_slow_rate_limit', 'min_examined_row_limit', 'log_slow_min_examined_row_limit')"""

WHOLE: Final = {"slow_query_log": ("ON",), "log_slow_rate_limit": ("1",)}
"""Settings under which every statement is in the slow log; of the others it is 0."""


LOGIN: Final = ("user", "password_file", "ca", "server_name", "every")
"""The options that say how to log in to a server."""


class Place(NamedTuple):
    """Where a session comes from, since when the numbers of sessions are the server's, and when it was first in the list."""

    host: str
    port: int
    user: str
    began_ns: int
    listed_ns: int


class Sample(NamedTuple):
    """The list at one time of our clock; ``partial``: the slow log has not every statement."""

    time_ns: int
    places: dict[int, Place]
    partial: bool


class Sessions:
    """One server's process list, asked for by a thread of its own."""

    def __init__(self, address: str, port: int, options: dict[str, Any], every_s: float) -> None:
        self._address, self._port, self._options = address, port, options
        self._connection: Any = None  # Any: PyMySQL has no types.
        self._listed: dict[int, Place] = {}
        self._asks = Asked(self._ask, every_s)
        self.counters = self._asks.counters
        self.sample, self.stop = self._asks.newest, self._asks.stop

    @classmethod
    def of(cls, told: Told, address: str, port: int) -> Sessions | None:
        """None if no account is said.

        Raises:
            FeedError: a password without an account, or one or a certificate that cannot be read.
        """
        if "user" not in told.options:
            if set(LOGIN) & set(told.options):
                raise FeedError(f"{told.kind} {told.feed}: {', '.join(LOGIN[1:])} are of the account user=, which is not said")
            return None
        try:
            context = _context(told.options.get("ca"), told.options.get("server_name"))
        except OSError:
            raise FeedError(f"{told.kind} {told.feed}: ca {told.options.get('ca')} cannot be read") from None
        options = {"user": told.options["user"], "password": secret(told, "password_file") or "", "ssl": context}
        return cls(address, port, options, every(told))

    @property
    def failure(self) -> str:
        """Why it was asked for in vain the last time."""
        return self._asks.failure

    def _ask(self) -> Sample:
        try:
            return self._asked()
        except Exception:
            self._hang_up()
            raise

    def _asked(self) -> Sample:
        import pymysql

        if self._connection is None:
            self._connection = pymysql.connect(
                host=self._address, port=self._port, connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, write_timeout=TIMEOUT_S,
                autocommit=True, program_name="hopwatch", **self._options,
            )  # fmt: skip
        with self._connection.cursor() as cursor:
            cursor.execute(LIST)
            listed = cursor.fetchall()
            time_ns = time.time_ns()
            cursor.execute(CLOCK)
            began_ns = time_ns - (int(cursor.fetchone()[1]) + 1) * 10**9
            cursor.execute(SETTINGS)
            settings = cursor.fetchall()
        places: dict[int, Place] = {}
        for thread, user, where in listed:
            host, _, port = str(where).rpartition(":")
            if port.isdecimal() and user not in ("unauthenticated user", "system user"):
                place = Place(host.strip("[]"), int(port), str(user), began_ns, time_ns)
                known = self._listed.get(int(thread))
                # Who it was the last time stays, with when it was first here.
                places[int(thread)] = known if known is not None and known[:3] == place[:3] else place
        self._listed = places
        return Sample(time_ns, places, any(not _whole(str(name), str(value)) for name, value in settings))

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection._force_close()


def _context(ca: str | None, name: str | None) -> ssl.SSLContext:
    """``name``: what the certificate calls the server, if not by the address that is dialled, which the driver would expect."""

    class Named(ssl.SSLContext):
        def wrap_socket(self, sock: Any, *args: Any, **more: Any) -> ssl.SSLSocket:  # Any: as the class has it.
            return super().wrap_socket(sock, *args, **more | ({"server_hostname": name} if name else {}))

    context = Named(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca)
    return context


def _whole(name: str, value: str) -> bool:
    return value in WHOLE[name] if name in WHOLE else float(value) == 0
