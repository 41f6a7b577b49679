"""Suppressions by scope: what is kept quiet, by whom and why and until when; making one, and ending one before its time.

A suppression is a decision about every alert of a plant whose finding has the fields that it names, also of those to come. Here as on the
command line the alert book carries it out or says why not; whoever may decide about one alert may decide about a scope.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Final, Literal

from starlette.responses import Response

from alerts.book import Book, DecisionRefused, decision_id
from alerts.desk import REASON_CHARACTERS_MAX
from alerts.memory import SCOPE
from dashboards.console.alerting import DAYS, hours
from dashboards.console.visit import Visit
from hopwatch.events import Decision, time_text
from hopwatch.store import IdUnknown

ENDED_LISTED: Final = 100
"""Suppressions that are over which are listed, those that ended last."""

VALUE_CHARACTERS_MAX: Final = 300

_SECOND_NS: Final = 10**9


async def show_suppressions(visit: Visit, wrong: str = "", status: int = 200) -> Response:
    """What is suppressed by scope, what was, and the form for another."""
    asked = visit.form if wrong else visit.request.query_params
    found = await visit.console.library.deal(lambda book: book.suppressions(ended=True))
    ours = [one for one in found if one["decision"]["plant"] == visit.plant]
    now = time_text(visit.console.wall_ns())
    held = [one for one in ours if one["ended"] is None and one["decision"]["until"] > now]
    over = sorted((one for one in ours if one not in held), key=lambda one: one["ended"] or one["decision"]["until"], reverse=True)
    return visit.page(
        "suppressions.html", status, title="Suppressions", held=held, over=over[:ENDED_LISTED], scope=SCOPE, days=DAYS, wrong=wrong,
        said={name: asked.get(name, "")[:VALUE_CHARACTERS_MAX] for name in (*SCOPE, "reason", "ticket", "for")},
        done="" if wrong else visit.request.query_params.get("done", ""),
        reason_max=REASON_CHARACTERS_MAX,
    )  # fmt: skip


async def suppress(visit: Visit) -> Response:
    """Keep quiet what has these fields."""
    scope = {name: value for name in SCOPE if (value := visit.form.get(name, "").strip())}
    if any(len(value) > VALUE_CHARACTERS_MAX for value in scope.values()):
        return await show_suppressions(visit, f"A field of a scope has at most {VALUE_CHARACTERS_MAX} characters.", 400)
    lasting = hours("suppress", visit.form.get("for", ""))
    plant = visit.plant

    def of(book: Book) -> tuple[str, dict[str, str]]:
        # Accounts of persons rest as pseudonyms; who writes the name in clear means the same.
        return plant, scope | ({"who": book.spelling(scope["who"])} if "who" in scope else {})

    return await _decided(visit, "suppress", of, visit.console.wall_ns() + lasting * 3600 * _SECOND_NS if lasting else None)


async def unsuppress(visit: Visit) -> Response:
    """It tells again from now on."""
    asked, plant = str(visit.request.path_params["id"]), visit.plant

    def of(book: Book) -> tuple[str, dict[str, str]]:
        for one in book.suppressions():
            if one["decision"]["event_id"] == asked and one["decision"]["plant"] == plant:
                return plant, one["decision"]["scope"]
        raise IdUnknown(asked)

    return await _decided(visit, "unsuppress", of, None)


async def _decided(
    visit: Visit, action: Literal["suppress", "unsuppress"], of: Callable[[Book], tuple[str, dict[str, str]]], until_ns: int | None
) -> Response:
    """``of`` says the plant and the scope."""
    assert visit.person is not None
    reason = " ".join(visit.form.get("reason", "").split())
    if not reason or len(reason) > REASON_CHARACTERS_MAX:
        return await show_suppressions(
            visit, f"A reason is needed, of at most {REASON_CHARACTERS_MAX} characters: others will read it.", 400
        )
    person, time = visit.person.name, time_text(visit.console.wall_ns())

    def carry(book: Book) -> tuple[str, int]:
        plant, scope = of(book)
        changed = book.decide(
            Decision(
                event_id=decision_id(plant, time, person, action, json.dumps(scope, sort_keys=True)),
                plant=plant,
                time=time,
                person=person,
                action=action,
                reason=reason,
                scope=scope,
                until=None if until_ns is None else time_text(until_ns),
                ticket=visit.form.get("ticket", "").strip()[:80] or None,
            )
        )
        return ", ".join(f"{name} {value}" for name, value in scope.items()), len(changed)

    try:
        about, changed = await visit.console.library.deal(carry)
    except IdUnknown:
        return visit.refused(404, "There is no such suppression in force.")
    except DecisionRefused as error:
        return await show_suppressions(visit, f"Not done: {error}", 409)
    visit.console.library.forget()
    visit.console.note("decided", person, visit.where, f"{action} {about}", level=logging.INFO)
    return visit.moved(f"/suppressions{visit.query(done=f'{action}, {changed} alerts changed now')}")
