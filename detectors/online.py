"""The verdict and everything that builds on it, as one detector of the engine: each window is judged, then shown to every question.

A question (see ``moved``) asks what no single window shows: what adds up over hours and sessions, what is new, what went on
from host to host, what fell silent. What it finds are findings of their own; the window keeps its one verdict. Both run
unchanged embedded and on Kafka, and neither reads a store, so that a recorded stream gives the same findings again.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from detectors.accounts import Accounts
from detectors.anomaly import Anomaly
from detectors.clock import Clocks
from detectors.destinations import Destinations
from detectors.dump import Dump
from detectors.extraction import Extraction
from detectors.failures import Failures
from detectors.hidden import hidden
from detectors.hygiene import Hygiene
from detectors.inherited import Inherited
from detectors.judgement import Judgement
from detectors.lineage import Lineage
from detectors.moved import Moved, Question
from detectors.offsite import shipped
from detectors.secrets import Secrets
from detectors.silence import Silence
from detectors.verdict import VerdictDetector
from detectors.writeback import WriteBack
from hopwatch.declared.match import Index
from hopwatch.declared.model import Architecture
from hopwatch.events import Event, Finding, Heartbeat, Loss, time_ns


def online(
    architecture: Architecture,
    *,
    at: date | None = None,
    edition: str = "",
    clocks: Clocks | None = None,
    located: Callable[[str], tuple[str, str]] | None = None,
) -> "Online":
    """Every question that is asked of a plant; ``at``, ``edition`` and ``clocks`` as for the verdict, ``located`` as for destinations."""
    verdict = VerdictDetector(architecture, at=at, edition=edition, clocks=clocks)
    index, quoted = verdict.index, verdict.quoted
    inherited, hides = hidden(architecture, quoted, index)
    return Online(
        verdict,
        (
            Extraction(architecture, quoted, index),
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

    name = "online"

    def __init__(self, verdict: VerdictDetector, questions: Sequence[Question], inherited: Inherited | None = None) -> None:
        self.verdict = verdict
        self._inherited = inherited
        self.questions = tuple(questions)

    def observe(self, event: Event) -> list[Judgement | Finding]:
        """The judgement of a flow, then what each question says of it."""
        if isinstance(event, Heartbeat):
            self.verdict.observe(event)
            return [found for question in self.questions for found in question.lives(event)]
        said: list[Judgement | Finding] = []
        for judgement in self.verdict.observe(event):
            said.append(judgement)
            if not self.questions:
                continue
            moved = moved_of(judgement, self.verdict.index)
            if self._inherited is not None:
                moved = self._inherited.learn(moved)
            for question in self.questions:
                said += question.observe(moved)
        return said

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
        """Everything remembered, by who remembers it."""
        return {"verdict": self.verdict.state()} | {question.name: question.state() for question in self.questions}

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave; a question that is new begins with nothing."""
        self.verdict.restore(state["verdict"])
        for question in self.questions:
            if question.name in state:
                question.restore(state[question.name])

    def changes(self) -> dict[str, Any]:  # Any: JSON values
        """What changed since the last call; the first only begins to note it."""
        return {"verdict": self.verdict.changes()} | {question.name: question.changes() for question in self.questions}

    def merge(self, changes: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        self.verdict.merge(changes["verdict"])
        for question in self.questions:
            if question.name in changes:
                question.merge(changes[question.name])

    def sizes(self) -> dict[str, int]:
        """How much is remembered, table by table."""
        own = {f"{question.name}.{table}": len(memory) for question in self.questions for table, memory in question.memories().items()}
        return self.verdict.sizes() | own

    def forgotten(self) -> dict[str, int]:
        """What the bounds have pushed out, table by table."""
        own = {f"{question.name}.{table}": count for question in self.questions for table, count in question.forgotten().items()}
        return self.verdict.forgotten() | own


def moved_of(judgement: Judgement, index: Index) -> Moved:
    """The window as the questions see it; ``index`` is that of the declaration it was judged by."""
    flow, outcome, new = judgement.flow, judgement.outcome, judgement.new
    # Not the outcome's own ends: what is said of one client is said of others like it.
    source, destination = index.place(flow.source), index.place(flow.destination)
    client, server = (source, destination) if judgement.up else (destination, source)
    return Moved(
        flow=flow,
        verdict=outcome.verdict,
        hop=outcome.hop,
        account=outcome.who,
        declared=outcome.who in index.architecture.accounts,
        source=source,
        destination=destination,
        client=client,
        server=server,
        classes=outcome.classes,
        start_ns=judgement.start_ns,
        end_ns=time_ns(flow.end) + judgement.start_ns - time_ns(flow.start),
        rows=new["rows"],
        values=new["values"],
        messages=new["messages"],
        bytes=new["bytes"],
        bytes_back=new["back"],
        complete=judgement.complete,
        spent=judgement.spent,
    )
