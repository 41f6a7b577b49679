"""Alerts: the list, one alert with everything that is known of it, what a person decides about it, and the hop it would need.

Nothing here changes an alert. A decision is an event with a person, a time and a reason; the alert book carries it out, or says why
not. A draft is text on a page: no declaration is ever written from here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from starlette.responses import Response

from alerts.book import AlertQuery, Book, DecisionRefused, decision_id
from alerts.desk import REASON_CHARACTERS_MAX, SHELVE_DAYS_MAX, SUPPRESS_DAYS_MAX
from alerts.outbox import QueueState
from alerts.techniques import technique
from dashboards.console.guard import number
from dashboards.console.looking import opened
from dashboards.console.visit import Visit
from hopwatch.declared.draft import draft
from hopwatch.declared.model import Architecture
from hopwatch.events import QUESTIONS, SEVERITIES, Decision, Disposition, Severity, time_text
from hopwatch.show import amounts, clean, instant
from hopwatch.store import IdUnknown

Json = Mapping[str, Any]  # Any: one JSON object.

PAGE_ALERTS: Final = 50
PAGES_MAX: Final = 40
"""Pages of the list; whoever looks for something older names a verdict or a state."""

EVIDENCE_LISTED: Final = 60
"""Windows of an alert that are listed, the oldest first: where it began."""

HISTORY_LISTED: Final = 200
"""Revisions and decisions of an alert that are listed, the newest."""

STATES: Final = ("open", "new", "in-progress", "suppressed", "resolved", "all")
DISPOSITIONS: Final[tuple[Disposition, ...]] = get_args(Disposition)
HOURS: Final = (1, 4, 8, 24, 24 * 7)
DAYS: Final = (1, 7, 30, 90)

ACTIONS: Final = ("acknowledge", "comment", "suppress", "unsuppress", "shelve", "unshelve", "resolve", "reopen")

_SECOND_NS: Final = 10**9


# The list


async def show_alerts(visit: Visit) -> Response:
    """The list, the one that changed last first."""
    asked = visit.request.query_params
    state = asked.get("state", "open")
    state = state if state in STATES else "open"
    severity = _severity(asked.get("severity", ""))
    verdict = asked.get("verdict", "")[:64]
    page = number(asked.get("page", ""), PAGES_MAX) or 1
    query = AlertQuery(
        plant=visit.plant, state=None if state == "all" else state, severity=severity, verdict=verdict or None, limit=page * PAGE_ALERTS + 1
    )

    def look(
        book: Book,
    ) -> tuple[list[dict[str, Any]], list[tuple[str, str, Severity, int]], list[str], list[QueueState]]:  # Any: JSON values.
        verdicts = sorted(one.verdict for one in book.precision())
        return book.alerts(query), book.counts(), verdicts, book.destinations()

    found, counts, verdicts, queues = await visit.console.library.deal(look, ("alerts", query))
    total: dict[str, int] = {}
    worst: dict[str, int] = {}
    for plant, held, severe, count in counts:
        if plant == visit.plant:
            total[held] = total.get(held, 0) + count
            if held != "resolved":
                worst[severe] = worst.get(severe, 0) + count
    return visit.page(
        "alerts.html", title="Alerts", alerts=found[(page - 1) * PAGE_ALERTS : page * PAGE_ALERTS], more=len(found) > page * PAGE_ALERTS,
        page=page, pages_max=PAGES_MAX, state=state, states=STATES, severity=severity or "", severities=SEVERITIES[::-1], verdict=verdict,
        verdicts=verdicts, total=total, worst=worst, queues=queues,
    )  # fmt: skip


def _severity(text: str) -> Severity | None:
    return next((one for one in SEVERITIES if one == text), None)


# One alert


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the six questions: what the nearest hop says, what was observed, and what differs."""

    question: str
    approved: str
    observed: str
    differs: Sequence[Json]
    checked: str


def side_by_side(architecture: Architecture, finding: Json, protections: Sequence[str]) -> list[Answer]:
    """The nearest approved hop beside what was observed, a question a row, in the order of the questions."""
    hop = architecture.hops.get(str(finding.get("nearest_hop") or ""))
    approved = dict.fromkeys(QUESTIONS, "")
    if hop is not None:
        hosts = ", ".join(architecture.accounts[hop.who].from_)
        without = f" without {', '.join(hop.without)}" if hop.without else ""
        what = f"{', '.join(hop.may)}: {', '.join(hop.what)}{without} ({', '.join(architecture.hop_classes(hop))})"
        where = f"{', '.join(hop.from_)} → {', '.join(hop.to)}{f' via {hop.via}' if hop.via else ''}"
        transit = architecture.hop_transit(hop)
        said = (
            f"{hop.who} from {hosts}", what, where, ", ".join(map(str, hop.limit)), str(hop.when or "any time"),
            "cleartext accepted" if transit == "any" else f"{transit} or better",
        )  # fmt: skip
        approved = dict(zip(QUESTIONS, said, strict=True))
    moved: Json = finding.get("observed") or {}
    who = clean(finding.get("who") or "account unread") + (f" from {clean(finding['client'])}" if finding.get("client") else "")
    objects = [clean(name) for name in moved.get("objects") or ()]
    shown = ", ".join(objects[:8]) + (f" and {len(objects) - 8} more" if len(objects) > 8 else "")
    classes = ", ".join(clean(name) for name in moved.get("classes") or ())
    observed = dict(
        zip(
            QUESTIONS,
            (
                who,
                (shown or "objects unknown") + (f" ({classes})" if classes else ""),
                f"{clean(finding['source'])} → {clean(finding['destination'])}",
                amounts(moved),
                f"{instant(finding['first_seen'])} to {instant(finding['last_seen'])}",
                ", ".join(protections) or "not seen",
            ),
            strict=True,
        )
    )
    differences = finding.get("differences") or ()
    checked: Json = finding.get("checked") or {}
    return [
        Answer(
            name, approved[name], observed[name], [one for one in differences if one.get("question") == name], str(checked.get(name, ""))
        )
        for name in QUESTIONS
    ]


async def show_alert(visit: Visit, wrong: str = "", status: int = 200) -> Response:
    """One alert: what differs, the evidence, its history, and what can be decided."""
    asked = str(visit.request.path_params["id"])

    def look(book: Book) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], list[str]]:  # Any: JSON values.
        alert = book.alert(asked)
        own = alert["alert_id"]
        return alert, book.revisions(own)[-HISTORY_LISTED:], book.decisions(own)[-HISTORY_LISTED:], book.members(own)

    try:
        alert, revisions, decisions, members = await visit.console.library.deal(look)
    except IdUnknown:
        return visit.refused(404, "There is no such alert; it may not have been raised yet.")
    plant = alert["plant"]
    if plant not in visit.console.declarations.of:
        return visit.refused(404, f"The declaration of plant {plant} is not looked at here: -d FILE.")
    visit.chosen_plant = plant
    declared = visit.console.declarations.fresh(plant)
    finding = alert["finding"]
    flows = await visit.console.library.ask(lambda reader: reader.flows_of(finding["finding_id"], EVIDENCE_LISTED))
    evidence = opened(flows)
    return visit.page(
        "alert.html", status, title=f"{finding['verdict']} {alert['alert_id'][:10]}", alert=alert, finding=finding, declared=declared,
        answers=side_by_side(declared.architecture, finding, [name for name, _ in evidence.protections.most_common(3)]), evidence=evidence,
        revisions=revisions[::-1], decisions={one["time"]: one for one in decisions}, members=members,
        techniques=[(one, technique(one)) for one in alert.get("techniques") or ()], dispositions=DISPOSITIONS, hours=HOURS, days=DAYS,
        wrong=wrong,
        done=visit.request.query_params.get("done", "") if not wrong else "", actions=possible(alert), reason=visit.form.get("reason", ""),
    )  # fmt: skip


def possible(alert: Json) -> list[str]:
    """What can be decided about an alert as it stands."""
    if alert["state"] == "resolved":
        return ["reopen", "comment"]
    shelf = "unshelve" if alert.get("shelved_until") else "shelve"
    quiet = "unsuppress" if alert.get("suppressed_by") else "suppress"
    return [*([] if alert["state"] == "in-progress" else ["acknowledge"]), "comment", shelf, quiet, "resolve"]


async def decide(visit: Visit) -> Response:
    """Carry out what the person decided."""
    assert visit.person is not None
    form = visit.form
    action = next((one for one in ACTIONS if one == form.get("action")), None)
    reason = " ".join(form.get("reason", "").split())
    if action is None:
        return await show_alert(visit, "That is nothing that can be decided.", 400)
    if not reason or len(reason) > REASON_CHARACTERS_MAX:
        return await show_alert(visit, f"A reason is needed, of at most {REASON_CHARACTERS_MAX} characters: others will read it.", 400)
    disposition = next((one for one in DISPOSITIONS if one == form.get("disposition")), None)
    now_ns = visit.console.wall_ns()
    lasting = hours(action, form.get("for", ""))
    asked = str(visit.request.path_params["id"])
    person = visit.person.name

    def carry(book: Book) -> str:
        alert = book.alert(asked)
        if alert["plant"] not in visit.console.declarations.of:
            raise IdUnknown(asked)
        own, time = alert["alert_id"], time_text(now_ns)
        book.decide(
            Decision(
                event_id=decision_id(alert["plant"], time, person, action, own),
                plant=alert["plant"],
                time=time,
                person=person,
                action=action,
                reason=reason,
                alert_id=own,
                until=time_text(now_ns + lasting * 3600 * _SECOND_NS) if lasting else None,
                disposition=disposition if action == "resolve" else None,
                ticket=form.get("ticket", "").strip()[:80] or None,
            )
        )
        return str(own)

    try:
        own = await visit.console.library.deal(carry)
    except IdUnknown:
        return visit.refused(404, "There is no such alert.")
    except DecisionRefused as error:
        return await show_alert(visit, f"Not done: {error}", 409)
    visit.console.library.forget()
    visit.console.note("decided", person, visit.where, f"{action} {own[:12]}", level=logging.INFO)
    return visit.moved(f"/alerts/{own}{visit.query(done=action)}")


def hours(action: str, text: str) -> int:
    """For how many hours, at most as many as it may last; 0 of a text that is no number."""
    most: int = {"shelve": SHELVE_DAYS_MAX, "suppress": SUPPRESS_DAYS_MAX}.get(action, 0) * 24
    return min(number(text, 10**9) or 0, most)


async def show_draft(visit: Visit) -> Response:
    """The hop that would approve what the finding saw, as text."""
    asked = str(visit.request.path_params["id"])
    try:
        alert = await visit.console.library.deal(lambda book: book.alert(asked))
    except IdUnknown:
        return visit.refused(404, "There is no such alert.")
    if alert["plant"] not in visit.console.declarations.of:
        return visit.refused(404, "The declaration of its plant is not looked at here.")
    visit.chosen_plant = alert["plant"]
    declared = visit.console.declarations.fresh(alert["plant"])
    finding = alert["finding"]
    flows = await visit.console.library.ask(lambda reader: reader.flows_of(finding["finding_id"], 1_000))
    return visit.page(
        "draft.html",
        title="A hop to review",
        alert=alert,
        finding=finding,
        text=draft(declared.architecture, finding, flows),
        declared=declared,
    )
