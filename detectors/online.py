"""The verdict and everything that builds on it, as one detector of the engine: each window is judged, then shown to every question.

A question (see ``moved``) asks what no single window shows: what adds up over hours and sessions, what is new, what went on
from host to host, what fell silent. What it finds are findings of their own; the window keeps its one verdict. Both run
unchanged embedded and on Kafka, and neither reads a store, so that a recorded stream gives the same findings again.

Windows of which the verdict said the very same are alike to the questions too, so that what follows from that alone is worked out
once: the ends, and what each question asks of such windows (``Question.asked``). Most of it is the same for every client that is anyone of
its zone, and is worked out with the first of them.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final

from msgspec import UNSET

from detectors.accounts import Accounts
from detectors.anomaly import Anomaly
from detectors.clock import Clocks
from detectors.destinations import Destinations
from detectors.dump import Dump
from detectors.extraction import Extraction, TableRows
from detectors.failures import Failures
from detectors.hidden import hidden
from detectors.hygiene import Hygiene
from detectors.inherited import Inherited
from detectors.judgement import Judgement, Outcome
from detectors.lineage import Lineage
from detectors.moved import Alike, Look, Moved, Question
from detectors.offsite import shipped
from detectors.secrets import Secrets
from detectors.silence import Silence
from detectors.verdict import VerdictDetector
from detectors.writeback import WriteBack
from hopwatch.declared.match import Index
from hopwatch.declared.model import Architecture
from hopwatch.events import Event, Finding, Loss

KINDS_MAX: Final = 16_384
"""Kinds of windows of which it is known what is asked, some 3 kB each; the one that was met first is forgotten, and worked out anew."""


def online(
    architecture: Architecture,
    *,
    at: date | None = None,
    edition: str = "",
    clocks: Clocks | None = None,
    located: Callable[[str], tuple[str, str]] | None = None,
    sizes: TableRows | None = None,
) -> "Online":
    """Every question that is asked of a plant; ``at``, ``edition`` and ``clocks`` as for the verdict.

    ``located`` is for destinations, ``sizes`` for extraction.
    """
    verdict = VerdictDetector(architecture, at=at, edition=edition, clocks=clocks)
    index, quoted = verdict.index, verdict.quoted
    inherited, hides = hidden(architecture, quoted, index)
    return Online(
        verdict,
        (
            Extraction(architecture, quoted, index, sizes),
            Dump(architecture, quoted),
            hides,
            Accounts(architecture, quoted, index),
            Failures(quoted),
            Secrets(architecture, quoted),
            Destinations(architecture, quoted, shipped(), located or _nowhere),
            Lineage(architecture, quoted, index),
            WriteBack(architecture, quoted),
            Anomaly(architecture, quoted),
            Silence(architecture, quoted),
            Hygiene(architecture, quoted),
        ),
        inherited,
    )


def _nowhere(address: str) -> tuple[str, str]:
    return "", ""


class Online:
    """One plant's verdicts and questions; the state of each lies under its name.

    Questions see a copy with the classes of what filled it, if there is something ``inherited`` that a question remembers.
    """

    # With or without questions, what is kept is found again: whoever turns them on or off goes on with the budgets there are.
    name = VerdictDetector.name

    def __init__(self, verdict: VerdictDetector, questions: Sequence[Question], inherited: Inherited | None = None) -> None:
        self.verdict = verdict
        self._inherited = inherited
        self._copies = {} if inherited is None else inherited.memory.entries
        self.questions = tuple(questions)
        self._by_client = [(place, question) for place, question in enumerate(self.questions) if question.by_client]
        self._kinds: OrderedDict[tuple[int, str, str | None], _Kind] = OrderedDict()
        self._anyones: OrderedDict[tuple[int, str, str | None], _Anyone] = OrderedDict()
        self._kinds_forgotten = 0

    def observe(self, event: Event) -> Sequence[Judgement | Finding]:
        """The judgement of a flow, then what each question says of it."""
        if event.kind != "flow":
            self.verdict.observe(event)
            return [found for question in self.questions for found in question.lives(event)] if event.kind == "heartbeat" else []
        judgement = self.verdict.judge(event)
        if judgement is None:
            return []
        if not self.questions:
            return [judgement]
        said: list[Judgement | Finding] = [judgement]
        course = judgement.course
        kind: _Kind | None = None if course is None else course.kind
        if kind is None:
            kind = self._kind(judgement)
        moved, asked = kind.moved(judgement), kind.asked
        if asked is None or self._copies:
            learnt = moved if self._inherited is None else self._inherited.learn(moved)
            if learnt is not moved:
                moved, asked = learnt, self._asked(learnt)
            elif asked is None:
                asked = kind.asked = self._asked_of(kind, moved)
        for look in asked:
            found = look(moved)
            if found:
                said += found
        return said

    def shown(self, judgement: Judgement) -> Moved:
        """The window as its questions see it, but for what copies inherit."""
        return self._kind(judgement).moved(judgement)

    def _kind(self, judgement: Judgement) -> "_Kind":
        """What the window shares with those like it."""
        course = judgement.course
        flow, index = judgement.flow, self.verdict.index
        if not judgement.kept or any([part.marks is not UNSET for part in flow.objects]):
            return _Kind(judgement, index)
        # As long as the kind is kept so is its outcome, and no other has its id.
        client = flow.source if judgement.up else flow.destination
        key = (id(judgement.outcome), client.address, flow.application)
        kind = self._kinds.get(key)
        if kind is None:
            kind = _Kind(judgement, index)
            anyone = None if client.names else index.anyone(client.address)
            if anyone is not None:
                kind.anyone = self._anyone(judgement.outcome, anyone, flow.application)
                if flow.sequence == 0:
                    # Most flows of a client that comes once say one window: what little is its own is made again if they go on.
                    return kind
            self._kinds[key] = kind
            if len(self._kinds) > KINDS_MAX:
                self._kinds.popitem(last=False)
                self._kinds_forgotten += 1
        if course is not None:
            course.kind = kind
        return kind

    def _anyone(self, outcome: Outcome, anyone: str, application: str | None) -> "_Anyone":
        """What the kinds of windows share that anyone's are of whom this is said."""
        key = (id(outcome), anyone, application)
        known = self._anyones.get(key)
        if known is None:
            known = self._anyones[key] = _Anyone(outcome)
            if len(self._anyones) > KINDS_MAX:
                self._anyones.popitem(last=False)
        return known

    def _asked_of(self, kind: "_Kind", moved: Moved) -> tuple[Look, ...]:
        """What questions ask of windows of the kind; of anyone's most is known."""
        anyone = kind.anyone
        if anyone is None:
            return self._asked(moved)
        if anyone.looks is None:
            anyone.looks = tuple([None if question.by_client else question.asked(moved) for question in self.questions])
        # In the order of the questions: what they find is told in it.
        asked = list(anyone.looks)
        for place, question in self._by_client:
            asked[place] = question.asked(moved)
        return tuple([look for look in asked if look is not None])

    def _asked(self, moved: Moved) -> tuple[Look, ...]:
        """What questions ask of windows like this one."""
        looks = [question.asked(moved) for question in self.questions]
        return tuple([look for look in looks if look is not None])

    def advance(self, now_ns: int) -> list[Judgement | Finding]:
        """What the passing of time shows."""
        return [*self.verdict.advance(now_ns), *(found for question in self.questions for found in question.advance(now_ns))]

    def blind(self, loss: Loss) -> None:
        """Nobody concludes anything from what was not seen."""
        self.verdict.blind(loss)
        for question in self.questions:
            if loss.plant == self.verdict.architecture.plant:
                question.blind(loss)

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Everything remembered, by who remembers it, under the verdict's edition."""
        verdict = self.verdict.state()
        return {"edition": verdict["edition"], self.name: verdict} | {question.name: question.state() for question in self.questions}

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave, or the verdict's own; a question that is new begins with nothing."""
        self.verdict.restore(state)
        for question in self.questions:
            if question.name in state:
                question.restore(state[question.name])

    def changes(self) -> dict[str, Any]:  # Any: JSON values
        """What changed since the last call; the first only begins to note it."""
        return {self.name: self.verdict.changes()} | {question.name: question.changes() for question in self.questions}

    def merge(self, changes: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        self.verdict.merge(changes)
        for question in self.questions:
            if question.name in changes:
                question.merge(changes[question.name])

    def sizes(self) -> dict[str, int]:
        """How much is remembered, table by table."""
        own = {f"{question.name}.{table}": len(memory) for question in self.questions for table, memory in question.memories().items()}
        return self.verdict.sizes() | own | {"kinds": len(self._kinds)}

    def forgotten(self) -> dict[str, int]:
        """What the bounds have pushed out, table by table."""
        own = {f"{question.name}.{table}": count for question in self.questions for table, count in question.forgotten().items()}
        return self.verdict.forgotten() | own | {"kinds": self._kinds_forgotten}


class _Anyone:
    """What each question asks of windows of which the very same is said, whoever their client is; None where it matters, too."""

    __slots__ = ("_outcome", "looks")

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self.looks: tuple[Look | None, ...] | None = None


class _Kind:
    """Windows of which the very same is said: what they share, and what is asked of them, None until that was worked out."""

    __slots__ = ("_outcome", "alike", "anyone", "asked")

    def __init__(self, judgement: Judgement, index: Index) -> None:
        flow, outcome = judgement.flow, judgement.outcome
        # Not the outcome's own ends: what is said of one client is said of others like it.
        source, destination = index.place(flow.source), index.place(flow.destination)
        client, server = (source, destination) if judgement.up else (destination, source)
        declared = outcome.who in index.architecture.accounts
        self.alike = Alike(outcome.verdict, outcome.hop, outcome.who, declared, source, destination, client, server, outcome.classes)
        self.asked: tuple[Look, ...] | None = None
        self.anyone: _Anyone | None = None
        self._outcome = outcome

    def moved(self, judgement: Judgement) -> Moved:
        """The window as questions see it."""
        flow, new = judgement.flow, judgement.new
        # In the order of the fields: naming each would cost as much as a question does.
        return Moved(
            flow, self.alike, judgement.start_ns, flow.end_ns + judgement.righted_ns,
            new["rows"], new["values"], new["messages"], new["bytes"], new["back"], judgement.complete, judgement.spent,
        )  # fmt: skip


def moved_of(judgement: Judgement, index: Index) -> Moved:
    """The window as the questions see it; ``index`` is that of the declaration it was judged by."""
    return _Kind(judgement, index).moved(judgement)
