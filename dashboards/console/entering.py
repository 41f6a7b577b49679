"""The pages of the door: in by a password or by the identity provider, out, and who may do what."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from starlette.responses import Response

from dashboards.console.access import NAME, RIGHTS, ROLES, SAID_OF_RIGHTS, Person
from dashboards.console.visit import Visit, came_in, onward

DECISIONS_LISTED: Final = 200

_CHECKS: Final = asyncio.Semaphore(2)
"""Passwords checked at once: each takes 64 MiB."""


async def show_login(visit: Visit) -> Response:
    """The form, for who has not said who they are."""
    if visit.person is not None:
        return visit.moved("/map")
    return _form(visit)


def _form(visit: Visit, wrong: str = "", status: int = 200) -> Response:
    entrance = visit.console.entrance
    wanted = onward(visit.form.get("next") or visit.request.query_params.get("next"))
    return visit.page(
        "login.html", status, title="Sign in", wrong=wrong, wanted=wanted, passwords=entrance.users is not None,
        provider=entrance.provider.title if entrance.provider is not None else "", asks=entrance.asks,
    )  # fmt: skip


async def login(visit: Visit) -> Response:
    """A name and a password."""
    entrance = visit.console.entrance
    if entrance.users is None:
        return visit.refused(404, "There is no such page.")
    name = visit.form.get("name", "").strip()
    keys = (f"name {name[:64]}", f"address {visit.where}")
    wait_s = visit.console.throttle.wait_s(*keys)
    if wait_s > 0:
        visit.console.note("throttled", name, visit.where, f"{wait_s:.0f} s", level=logging.WARNING)
        response = _form(visit, f"Too many attempts. Try again in {wait_s:.0f} seconds.", 429)
        response.headers["Retry-After"] = str(int(wait_s) + 1)
        return response
    # Counted before it is checked, so that many attempts at once are many attempts.
    visit.console.throttle.failed(*keys)
    async with _CHECKS:
        role = await asyncio.to_thread(entrance.users.check, name, visit.form.get("password", ""))
    if role is None or not NAME.fullmatch(name):
        visit.console.note("wrong-password", name, visit.where, level=logging.WARNING)
        return _form(visit, "Name or password is wrong.", 401)
    visit.console.throttle.right(*keys)
    came_in(visit, Person(name, role, "password"))
    return visit.moved(onward(visit.form.get("next")))


async def to_provider(visit: Visit) -> Response:
    """To the identity provider."""
    provider = visit.console.entrance.provider
    if provider is None or visit.person is not None:
        return visit.moved("/login")
    visit.session.login["next"] = onward(visit.request.query_params.get("next"))
    return visit.sent(await provider.ask(visit.request, visit.session.login))


async def from_provider(visit: Visit) -> Response:
    """Back from it, with a code that it will tell us the person for."""
    provider = visit.console.entrance.provider
    if provider is None:
        return visit.moved("/login")
    person, why = await provider.person(visit.request, visit.session.login)
    wanted = onward(visit.session.login.get("next"))
    if person is None:
        visit.console.note("refused-by-provider", "nobody", visit.where, why, level=logging.WARNING)
        return _form(visit, "The identity provider did not let you in, or your account has no role here.", 403)
    came_in(visit, person)
    return visit.moved(wanted)


async def logout(visit: Visit) -> Response:
    """Out: the session is over on this side too."""
    if visit.person is not None:
        visit.console.note("went-out", visit.person.name, visit.where)
    visit.console.sessions.end(visit.request.cookies.get(visit.console.cookie))
    visit.person = None
    visit.new_cookie, visit.session = visit.console.sessions.open(None)
    return visit.moved("/login" if visit.console.entrance.asks else "/")


async def show_access(visit: Visit) -> Response:
    """Who may do what; for who may see it, who is here and what happened at the door."""
    entries = list(visit.console.entries)[::-1] if visit.may("audit") else []
    sessions = list(visit.console.sessions.all()) if visit.may("audit") else []
    decisions: list[dict[str, Any]] = []  # Any: JSON values.
    if visit.may("audit") and visit.console.decides:
        decisions = (await visit.console.library.deal(lambda book: book.decisions()))[: -DECISIONS_LISTED - 1 : -1]
    return visit.page(
        "access.html", title="Access", roles=ROLES, rights=RIGHTS, said=SAID_OF_RIGHTS, entries=entries, sessions=sessions,
        decisions=decisions,
        now_s=visit.console.sessions.now_s(),
    )  # fmt: skip


async def end_session(visit: Visit) -> Response:
    """Another person's sessions are over."""
    name = visit.form.get("name", "")
    ended = visit.console.sessions.end_of(name)
    visit.console.note("ended-sessions", visit.person.name if visit.person else "", visit.where, f"{name}: {ended}")
    return visit.moved("/access")
