"""One request of one person: who it is, what they may, and how their page is made."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dashboards.console.access import Person, Right, persons_of, without_persons
from dashboards.console.entrance import Entrance
from dashboards.console.guard import FORM_BYTES_MAX
from dashboards.console.library import SPAN, SPANS, Busy, Declarations, Library, attentive
from dashboards.console.pages import rendered
from dashboards.console.sessions import Session, Sessions, same
from dashboards.console.users import Throttle
from hopwatch.events import time_text
from hopwatch.show import clean
from hopwatch.store import StoreError

FIELDS_MAX: Final = 40
LOG_MAX: Final = 1_000
"""What was refused and who came in, as the audit page shows it; the log has all."""

UNCHANGED_MAX: Final = 256
"""Open pages of which it is known what they were made of; others are made anew to see whether they have changed."""

MINUTE_NS: Final = 60 * 10**9

LIVE, PANEL = "live", "panel"
PART: Final = "x-hopwatch-part"

log = logging.getLogger("hopwatch.console")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened at the door."""

    time: str
    what: str
    who: str
    where: str
    about: str


@dataclass
class Console:
    """What all requests share."""

    declarations: Declarations
    library: Library
    sessions: Sessions
    entrance: Entrance
    throttle: Throttle
    wall_ns: Callable[[], int]
    tls: bool = False
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=LOG_MAX))
    unchanged: OrderedDict[Hashable, tuple[str, Hashable]] = field(default_factory=OrderedDict)
    """By page and person: what the page was told apart by, and how everything stood that it was made of."""

    @property
    def decides(self) -> bool:
        """Whether there is an alert book to decide in."""
        return self.library.has_book

    @property
    def cookie(self) -> str:
        """The session cookie's name; the prefix binds it to this host and to TLS (RFC 6265bis, 4.1.3.2)."""
        return "__Host-hopwatch" if self.tls else "hopwatch"

    def note(self, what: str, who: str, where: str, about: str = "", *, level: int = logging.INFO) -> None:
        """Write down what happened at the door; nothing of it is a secret."""
        entry = Entry(time_text(self.wall_ns()), what, clean(who)[:80], clean(where)[:80], clean(about)[:200])
        self.entries.append(entry)
        log.log(level, "%s person=%s from=%s about=%s", entry.what, entry.who, entry.where, entry.about)

    def persons(self) -> frozenset[str]:
        """Names that only some may read."""
        return persons_of(self.declarations.architectures)


@dataclass(slots=True)
class Visit:
    """One request."""

    console: Console
    request: Request
    session: Session
    person: Person | None
    new_cookie: str | None = None
    form: dict[str, str] = field(default_factory=dict)
    chosen_plant: str = ""

    @property
    def plant(self) -> str:
        """The plant that is looked at: that of the alert, the one asked for, else the first."""
        if self.chosen_plant:
            return self.chosen_plant
        asked = self.request.query_params.get("plant") or self.form.get("plant", "")
        return asked if asked in self.console.declarations.of else next(iter(self.console.declarations.of))

    @property
    def span(self) -> str:
        """How far back."""
        asked = self.request.query_params.get("span", SPAN)
        return asked if asked in SPANS else SPAN

    @property
    def part(self) -> str:
        """Which part of the page is wanted: all of it, what changes by itself, or what stands in the panel."""
        return self.request.headers.get(PART, "")

    @property
    def where(self) -> str:
        """Where the request came from."""
        return self.request.client.host if self.request.client else "unknown"

    def query(self, **more: str) -> str:
        """What links keep of the page's address."""
        kept = {"plant": self.plant} if len(self.console.declarations.of) > 1 else {}
        kept |= {"span": self.span} if self.span != SPAN else {}
        kept |= more
        return "?" + "&".join(f"{name}={quote(value)}" for name, value in kept.items()) if kept else ""

    def may(self, right: Right) -> bool:
        """Whether the person has the right."""
        return self.person is not None and self.person.may(right)

    def page(self, name: str, status: int = 200, **context: Any) -> Response:  # Any: what templates are given.
        """A page, or the part of it that was asked for; nothing of it if the browser has it already."""
        content = rendered(
            name,
            base="part.html" if self.part in (LIVE, PANEL) else "base.html",
            part=self.part,
            visit=self,
            person=self.person,
            token=self.session.token,
            here=self.request.url.path,
            plants=list(self.console.declarations.of),
            now_ns=self.console.wall_ns(),
            spans=list(SPANS),
            **context,
        )
        return self.answer(content, "text/html; charset=utf-8", status)

    def answer(self, content: bytes, media_type: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """An answer without the names that this person may not read."""
        if not self.may("accounts"):
            content = without_persons(content, self.console.persons())
        headers = dict(headers or {})
        if self.part == LIVE and status == 200:
            tag = f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
            headers["ETag"] = tag
            if self.request.headers.get("if-none-match") == tag:
                return self.sent(Response(status_code=304, headers=headers))
        return self.sent(Response(content, status, headers, media_type))

    def moved(self, to: str) -> Response:
        """Elsewhere, by GET."""
        return self.sent(RedirectResponse(to, 303))

    def sent(self, response: Response) -> Response:
        """The answer with the session's cookie, if it is new."""
        if self.new_cookie is not None:
            response.set_cookie(self.console.cookie, self.new_cookie, path="/", secure=self.console.tls, httponly=True, samesite="lax")
        return response

    def refused(self, status: int, why: str, about: str = "") -> Response:
        """No, and why."""
        return self.page("refused.html", status, why=why, about=about, title="Refused" if status == 403 else "Not found")


Handler = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def door(console: Console, right: Right | None, handler: Handler) -> Endpoint:
    """The handler behind its door: a session, a right, and for what changes something a form with the session's token.

    ``right`` None lets in who has not yet said who they are.
    """

    @wraps(handler)
    async def endpoint(request: Request) -> Response:
        visit = _visit(console, request)
        if visit.person is None and right is not None:
            if request.method != "GET" or visit.part:
                return visit.answer(b"sign in first\n", "text/plain; charset=utf-8", 401)
            return visit.moved("/login?next=" + quote(_path(request), safe=""))
        if request.method == "POST":
            visit.form = await _form(request)
            if not same(visit.form.get("token"), visit.session.token):
                console.note("refused-form", _named(visit), visit.where, request.url.path, level=logging.WARNING)
                return visit.refused(
                    403, "The form is not of this session, or the session has ended. Go back, load the page again and repeat."
                )
        if right is not None and not visit.may(right):
            console.note("denied", _named(visit), visit.where, f"{right} {request.url.path}", level=logging.WARNING)
            return visit.refused(403, f"The role {visit.person.role if visit.person else 'none'} may not do this.", right)
        try:
            if request.method != "GET" or visit.person is None:
                return await handler(visit)
            return await _looked_at(visit, handler)
        except Busy:
            return visit.answer(b"busy: come again in a moment\n", "text/plain; charset=utf-8", 503, {"Retry-After": "2"})
        except StoreError as error:
            return visit.page("refused.html", 503, why=f"The store cannot be read: {error}", about="", title="Store away")

    return endpoint


async def _looked_at(visit: Visit, handler: Handler) -> Response:
    """The page; of one that a browser has, and that nothing has changed since, only that.

    A screen on a wall asks every few seconds. While nobody writes, asking costs a look at who wrote last, and no page is made.
    """
    console, request = visit.console, visit.request
    told = attentive()
    moment = await console.library.moment()
    if visit.part != LIVE:
        return await handler(visit)
    # Pages tell times in minutes, and agents that have been silent for one.
    minute = console.wall_ns() // MINUTE_NS
    state = (moment, console.declarations.stamps, minute)
    whose = (request.url.path, request.url.query, visit.person)
    tag, known = console.unchanged.get(whose, ("", None))
    if known == state and tag == request.headers.get("if-none-match"):
        return visit.sent(Response(status_code=304, headers={"ETag": tag}))
    answer = await handler(visit)
    if (tag := answer.headers.get("etag", "")) and not told:
        console.unchanged[whose] = tag, state
        console.unchanged.move_to_end(whose)
        while len(console.unchanged) > UNCHANGED_MAX:
            console.unchanged.popitem(last=False)
    return answer


def _visit(console: Console, request: Request) -> Visit:
    name = request.cookies.get(console.cookie)
    session = console.sessions.find(name, used=request.headers.get(PART) != LIVE)
    known = console.entrance.known(request)
    if known is not None and (session is None or session.person != known):
        # Nobody is asked here: whoever stands before us said who it is, and may say another with the next request.
        console.sessions.end(name)
        new, session = console.sessions.open(known)
        if known.by != "this host":
            console.note("came-in", known.name, request.client.host if request.client else "", known.by)
        return Visit(console, request, session, known, new)
    if session is None:
        new, session = console.sessions.open(None)
        return Visit(console, request, session, None, new)
    if session.person is not None and known is None and not console.entrance.still_holds(session.person):
        console.sessions.end(name)
        new, session = console.sessions.open(None)
        return Visit(console, request, session, None, new)
    return Visit(console, request, session, session.person)


def came_in(visit: Visit, person: Person) -> None:
    """A new session for who has just said who they are: the name of the old one was known before (session fixation)."""
    visit.console.sessions.end(visit.request.cookies.get(visit.console.cookie))
    visit.new_cookie, visit.session = visit.console.sessions.open(person)
    visit.person = person
    visit.console.note("came-in", person.name, visit.where, f"{person.by}, {person.role}")


def _named(visit: Visit) -> str:
    return visit.person.name if visit.person is not None else "nobody"


def _path(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def onward(path: str | None) -> str:
    """A path of ours and nothing else, where somebody was on their way to (no open redirect)."""
    if path and path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path:
        return path
    return "/"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; a longer one than FORM_BYTES_MAX has none."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > FORM_BYTES_MAX:
            return {}
    try:
        return dict(parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError:
        return {}
