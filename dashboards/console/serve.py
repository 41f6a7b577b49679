"""A console that listens: what is allowed where, then uvicorn.

Off this machine there is no console without TLS and a way to say who one is. On it, whoever reaches the port is the person who started
the program, as with any program of theirs; a file of users, a proxy or an identity provider ends that.
"""

from __future__ import annotations

import asyncio
import getpass
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final

import uvicorn

from alerts.book import Book
from dashboards.console.access import NAME, Person, Role
from dashboards.console.app import application
from dashboards.console.entrance import Entrance, Proxy
from dashboards.console.guard import number
from dashboards.console.library import Declarations, Library
from dashboards.console.sessions import ABSOLUTE_S, IDLE_S, Sessions
from dashboards.console.settings import ADDRESS
from dashboards.console.users import Throttle, Users, UsersError
from dashboards.console.visit import Console
from hopwatch.store import Reader

CONNECTIONS_MAX: Final = 200
"""Connections at once; more are answered 503."""
HEADERS_BYTES_MAX: Final = 32 * 1024
START_S_MAX: Final = 10.0


class ConsoleError(Exception):
    """The console cannot be started so; one line that says why."""


@dataclass(frozen=True, slots=True)
class Oidc:
    """How the identity provider is reached."""

    issuer: str
    client_id: str
    client_secret: str
    back: str
    roles: Mapping[str, Role]
    claim: str = "groups"
    name_claim: str = "preferred_username"
    title: str = ""
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What a console is told."""

    declarations: Sequence[Path]
    opened: Callable[[], Reader]
    booked: Callable[[], Book] | None = None
    takes_in: bool = False
    """Whether findings are taken into the alert book when it is looked at."""
    address: str = ADDRESS
    at: date | None = None
    approvers: Path | None = None
    names: Sequence[str] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    local_role: Role = "analyst"
    users: Path | None = None
    proxies: Sequence[str] = ()
    roles: dict[str, Role] = field(default_factory=dict)
    oidc: Oidc | None = None
    idle_s: float = IDLE_S
    absolute_s: float = ABSOLUTE_S


def split(address: str) -> tuple[str, int]:
    """Host and port; ``[::1]:8710``, ``127.0.0.1:8710``, ``:8710`` and ``8710`` are understood.

    Raises:
        ConsoleError: it is none.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if number(port, 65_535) is None:
        raise ConsoleError(f"console: {address}: expected ADDRESS:PORT, such as {ADDRESS}")
    return host, int(port)


def on_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches the host (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3)."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def made(
    options: Options, clock: Callable[[], float] = time.monotonic, wall_ns: Callable[[], int] = time.time_ns
) -> tuple[Console, set[str]]:
    """The console and the names it answers to; nothing listens yet.

    Raises:
        ConsoleError: it would be open to people it must not be open to.
        ArchitectureError: a declaration is refused.
    """
    host, _ = split(options.address)
    local = on_loopback(host)
    asks = options.users is not None or options.oidc is not None or bool(options.proxies)
    tls = options.tls_cert is not None
    if tls != (options.tls_key is not None):
        raise ConsoleError("console: TLS needs both --tls-cert and --tls-key")
    if not local and not (tls and asks):
        lacking = " and ".join(
            ([] if tls else ["TLS (--tls-cert, --tls-key)"]) + ([] if asks else ["a login (--users, --proxy or [console] oidc_issuer)"])
        )
        raise ConsoleError(f"console: {host} is reached from other machines, which needs {lacking}; or serve it on 127.0.0.1")
    entrance = Entrance()
    if not asks:
        entrance.local = Person(_name_here(), options.local_role, "this host")
    try:
        entrance.users = Users(options.users) if options.users is not None else None
    except UsersError as error:
        raise ConsoleError(f"console: {error}") from None
    if options.proxies:
        if not options.roles:
            raise ConsoleError("console: --proxy needs to know which group has which role: --role GROUP=ROLE")
        try:
            entrance.proxy = Proxy([ip_network(one, strict=False) for one in options.proxies], options.roles)
        except ValueError as error:
            raise ConsoleError(f"console: --proxy: {error}") from None
    if options.oidc is not None:
        # Authlib is loaded by who needs it.
        from dashboards.console.oidc import Provider

        said = options.oidc
        entrance.provider = Provider(
            said.issuer, said.client_id, said.client_secret, said.roles, said.back, claim=said.claim, name_claim=said.name_claim,
            title=said.title, ca=said.ca,
        )  # fmt: skip
    console = Console(
        Declarations(options.declarations, at=options.at, approvers=options.approvers),
        Library(options.opened, clock, options.booked, wall_ns if options.takes_in else None),
        Sessions(clock, idle_s=options.idle_s, absolute_s=options.absolute_s),
        entrance,
        Throttle(clock),
        wall_ns,
        tls=tls,
    )
    names = {name.lower() for name in options.names}
    names |= {"localhost", "127.0.0.1", "::1", host} if local else ({host} - {"0.0.0.0", "::"})
    if not names:
        raise ConsoleError(f"console: {host} is every address of this machine: --name HOST says what browsers call it")
    return console, names


def _name_here() -> str:
    """The name of who started the program, as the operating system knows it."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unknown"
    return name if NAME.fullmatch(name) else "unknown"


class Serving:
    """A console that is being served; ``address`` is where."""

    def __init__(self, options: Options, wall_ns: Callable[[], int] = time.time_ns) -> None:
        """Bind the port: whoever cannot have it learns so before anything else is started.

        Raises:
            ConsoleError, ArchitectureError: as for ``made``; or the port is taken.
        """
        self.console, names = made(options, wall_ns=wall_ns)
        host, port = split(options.address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise ConsoleError(f"console: {options.address}: {error.strerror or error}") from None
        port = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{'https' if self.console.tls else 'http'}://{shown}:{port}/"
        try:
            certificate = (str(options.tls_cert), str(options.tls_key)) if options.tls_cert else (None, None)
            config = uvicorn.Config(
                application(self.console, names), log_config=None, access_log=False, server_header=False, proxy_headers=False,
                limit_concurrency=CONNECTIONS_MAX, timeout_keep_alive=15, timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=HEADERS_BYTES_MAX, ssl_certfile=certificate[0], ssl_keyfile=certificate[1],
            )  # fmt: skip
            config.load()
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise ConsoleError(f"console: {options.tls_cert}: no certificate and key that fit: {error}") from None
        if config.ssl is not None:
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until ``stop``; uvicorn's own signal handlers are not used."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        await self._server._serve(sockets=[self._socket])

    def start(self) -> None:
        """Serve in a thread of its own.

        Raises:
            ConsoleError: it did not come up.
        """
        self._thread = threading.Thread(target=self.run, name="console", daemon=True)
        self._thread.start()
        until_s = time.monotonic() + START_S_MAX
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until_s:
                raise ConsoleError(f"console: {self.address} did not come up")
            time.sleep(0.01)

    def stop(self) -> None:
        """End; in a thread it is waited for."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(START_S_MAX)
