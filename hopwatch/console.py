"""`hopwatch console`, and the console beside `watch`: settings and flags put together, and the file of users.

Exit status: 0 the run was asked to end, 2 a wrong command or setting, or a console that may not be opened so.
"""

from __future__ import annotations

import argparse
import getpass
import stat
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hopwatch.config import NO_STORE, ConfigError, Settings, console, settings
from hopwatch.process import Ending, say

if TYPE_CHECKING:
    from alerts.book import Book
    from dashboards.console.serve import Options, Serving
    from dashboards.console.settings import ConsoleSettings

DONE: Final = 0

_SECRET_BYTES_MAX: Final = 4_096
_USERS: Final = Path("hopwatch.users")


def add_console(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch console`, and its commands for users."""
    parser.add_argument(
        "-d", "--declaration", type=Path, action="append", metavar="FILE", help="the declaration looked at; again for each plant"
    )
    parser.add_argument("--approvers", type=Path, metavar="FILE", help="the keys whose signature approves a declaration")
    parser.add_argument("--address", metavar="ADDRESS:PORT", help="where it listens (default 127.0.0.1:8710)")
    parser.add_argument("--name", dest="names", action="append", metavar="HOST", help="what browsers call it; again for each name")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM; needed off this machine")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM")
    parser.add_argument("--users", type=Path, metavar="FILE", help="ask for name and password: the file of users")
    parser.add_argument("--proxy", action="append", metavar="NET", help="believe X-Forwarded-User and -Groups from there, and only there")
    parser.add_argument("--role", dest="roles", action="append", metavar="GROUP=ROLE", help="the role of a group of proxy or provider")
    parser.add_argument("--local-role", metavar="ROLE", help="the role where nobody is asked (default analyst)")
    commands = parser.add_subparsers(metavar="COMMAND")
    user = commands.add_parser("user", help="the file of users", allow_abbrev=False)
    users = user.add_subparsers(metavar="COMMAND", required=True)
    for name, about in (
        ("add", "add a user, or give one a new role and password"),
        ("remove", "remove a user"),
        ("list", "names and roles"),
    ):
        one = users.add_parser(name, help=about, allow_abbrev=False)
        # A flag of the command itself would be overwritten by the default of the same flag here.
        one.add_argument("--users", dest="file", type=Path, metavar="FILE", default=_USERS, help=f"the file of users (default {_USERS})")
        one.set_defaults(user_command=name)
        if name != "list":
            one.add_argument("user", metavar="NAME")
        if name == "add":
            one.add_argument("--role", dest="user_role", required=True, metavar="ROLE", help="viewer, analyst, auditor or admin")
            one.add_argument(
                "--password-file", type=Path, metavar="FILE", help="read the password there; - is standard input (default: ask)"
            )


def run(arguments: argparse.Namespace, ending: Ending) -> int:
    """`hopwatch console`.

    Raises:
        ConfigError, StoreError, ArchitectureError: one line each.
    """
    if getattr(arguments, "user_command", None):
        return _users(arguments)
    chosen = settings({"store": arguments.store, "key": arguments.key, "approvers": arguments.approvers}, arguments.config)
    serving = _serving(chosen, arguments, arguments.declaration or [])
    say(f"console on {serving.address}")
    with ending(serving.stop):
        serving.run()
    return DONE


def beside(chosen: Settings, address: str) -> Serving:
    """The console beside a watch, over its store and declaration; it listens when this returns.

    Raises:
        ConfigError, ArchitectureError: one line each.
    """
    assert chosen.declaration is not None
    flags = argparse.Namespace(config=None, address=address or None)
    serving = _serving(chosen, flags, [chosen.declaration])
    serving.start()
    say(f"console on {serving.address}")
    return serving


def _serving(chosen: Settings, arguments: argparse.Namespace, declarations: list[Path]) -> Serving:
    # The web server is loaded by who needs it.
    from dashboards.console.serve import ConsoleError, Serving

    flags: dict[str, Any] = {  # Any: values of argparse.
        name: getattr(arguments, name, None) for name in ("address", "names", "tls_cert", "tls_key", "users", "proxy", "local_role")
    }
    if getattr(arguments, "roles", None):
        flags["roles"] = dict(_pair(one) for one in arguments.roles)
    said = console(flags, arguments.config)
    try:
        return Serving(_options(chosen, said, declarations))
    except ConsoleError as error:
        raise ConfigError(str(error)) from None


def _options(chosen: Settings, said: ConsoleSettings, declarations: list[Path]) -> Options:
    from dashboards.console.serve import Oidc, Options

    paths = declarations or said.declarations or ([chosen.declaration] if chosen.declaration is not None else [])
    if not paths:
        raise ConfigError("console: a declaration is needed: -d plant.yaml")
    if chosen.store == NO_STORE:
        raise ConfigError("console: there is no store to look at: --store PATH")
    oidc = None
    if said.oidc_issuer is not None:
        if said.oidc_back is None or said.oidc_client_secret_file is None or not said.roles:
            raise ConfigError("console: oidc_issuer needs oidc_back, oidc_client_secret_file and [console.roles]")
        oidc = Oidc(
            said.oidc_issuer, said.oidc_client_id, _secret(said.oidc_client_secret_file), said.oidc_back, said.roles,
            said.oidc_claim, said.oidc_name_claim, said.oidc_title, str(said.oidc_ca) if said.oidc_ca else None,
        )  # fmt: skip
    # The client of PostgreSQL is loaded by who needs it.
    from hopwatch.store.reader import is_postgres, reader

    return Options(
        paths, partial(reader, chosen.store, chosen.key), partial(booked, chosen.store, chosen.key), not is_postgres(chosen.store),
        address=said.address, at=chosen.at, approvers=chosen.approvers, names=said.names, tls_cert=said.tls_cert, tls_key=said.tls_key,
        local_role=said.local_role, users=said.users, proxies=said.proxy, roles=said.roles, oidc=oidc, idle_s=said.idle_minutes * 60,
        absolute_s=said.absolute_hours * 3600,
    )  # fmt: skip


def booked(store: str, key: Path | None = None) -> Book:
    """The alert book beside a store, or in it, as the console opens it.

    Raises:
        StoreError: it cannot be opened.
    """
    from alerts.book import book
    from alerts.techniques import page, techniques

    opened = book(store, key)
    opened.about = lambda verdict: (techniques(verdict), page(verdict))
    return opened


def _pair(text: str) -> tuple[str, str]:
    group, equals, role = text.rpartition("=")
    if not equals or not group:
        raise ConfigError(f"--role {text}: expected GROUP=ROLE")
    return group, role


def _secret(path: Path) -> str:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{path}: others may read this secret, expected mode 0600")
        return path.read_text(encoding="utf-8")[:_SECRET_BYTES_MAX].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


# Users


def _users(arguments: argparse.Namespace) -> int:
    from dashboards.console.access import ROLES, Role
    from dashboards.console.users import UsersError, put, read, remove

    path: Path = arguments.file
    try:
        if arguments.user_command == "list":
            for user in read(path).values():
                print(f"{user.name}\t{user.role}")
        elif arguments.user_command == "remove":
            remove(path, arguments.user)
            print(f"{arguments.user} may not come in any more")
        else:
            roles: dict[str, Role] = {role: role for role in ROLES}
            if arguments.user_role not in roles:
                raise UsersError(f"{arguments.user_role}: no role, expected one of {', '.join(ROLES)}")
            there = put(path, arguments.user, roles[arguments.user_role], _password(arguments.password_file))
            print(f"{arguments.user}, {arguments.user_role}: {'changed' if there else 'added'} in {path}")
    except UsersError as error:
        raise ConfigError(f"console user: {error}") from None
    return DONE


def _password(file: Path | None) -> str:
    """The password, never from the command line: every user of the machine could read it there."""
    if file is not None:
        try:
            return (sys.stdin.readline() if str(file) == "-" else file.read_text(encoding="utf-8")).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: {error}") from None
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise ConfigError("console user: the two are not the same")
    return first
