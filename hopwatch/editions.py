"""The declarations in force, and the topic they come from: what detectors judge by, and what tells the store which accounts are no persons.

Who applied a declaration is not asked; whether someone approved it is, by each reader with the approver keys of its own host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import Final

from hopwatch.bus.kafka import Reader, Received
from hopwatch.declared.edition import architecture_of
from hopwatch.declared.match import Index
from hopwatch.declared.model import Architecture
from hopwatch.declared.problem import ArchitectureError
from hopwatch.events import DeclaredEdition, EventError, parse

POLL_S: Final = 0.1
SAY_AGAIN_S: Final = 60.0
"""How often is said again that the topic cannot be read."""


@dataclass(frozen=True, slots=True)
class Edition:
    """A plant's declaration, as it is judged by, and what names it in a memory."""

    architecture: Architecture
    name: str

    def is_clear(self) -> Callable[[str], bool]:
        """Whether an account may rest in clear: services and vendors are no persons."""
        architecture, index = self.architecture, Index(self.architecture)

        def clear(account: str) -> bool:
            name = account if account in architecture.accounts else index.account(account)
            return name is not None and architecture.accounts[name].kind in ("service", "vendor")

        return clear

    def highest(self, classes: Iterable[str]) -> str | None:
        """The class that the declaration lists last among these; None of none."""
        order = list(self.architecture.classes)
        return max((name for name in classes if name in self.architecture.classes), key=order.index, default=None)


def edition_name(digest: str, at: date | None) -> str:
    """A name for what judgements are made by: the declaration, by the digest of its bytes, and the stated day."""
    return blake2b(f"{digest}/{at}".encode(), digest_size=16).hexdigest()


@dataclass(slots=True)
class Editions:
    """The declarations in force, by plant. ``unsigned`` and ``older`` say what is let pass beyond a signed newer one."""

    at: date | None = None
    approvers: Path | None = None
    unsigned: bool = False
    older: bool = False
    of: dict[str, Edition] = field(default_factory=dict)

    def take(self, said: DeclaredEdition) -> tuple[str | None, str]:
        """Put an edition in force; the plant if it is now, and one line that says what was done or why not."""
        try:
            architecture = architecture_of(said, at=self.at, approvers=self.approvers)
        except ArchitectureError as error:
            return None, f"declaration of {said.plant} v{said.version} refused: {str(error).splitlines()[0]}"
        about = architecture.declaration
        if not about.signed and not self.unsigned:
            return None, f"declaration of {said.plant} v{said.version} refused: {about.approval}"
        before = self.of.get(said.plant)
        if before is not None and before.architecture.version > said.version and not self.older:
            return None, f"declaration of {said.plant} v{said.version} refused: v{before.architecture.version} is in force"
        name = edition_name(said.digest, self.at)
        if before is not None and before.name == name and before.architecture.declaration.commit == about.commit:
            return None, ""
        self.of[said.plant] = Edition(architecture, name)
        signed = about.approval if about.signed else "UNSIGNED"
        return said.plant, f"declaration of {said.plant} v{said.version} ({about.commit or 'no commit'}) in force: {signed}"


def read_edition(message: Received, editions: Editions) -> tuple[str | None, str]:
    """Put the declaration in a message in force; the plant if it is now, and one line that says what was done or why not."""
    try:
        said = parse(message.value)
    except EventError as error:
        return None, f"declaration at offset {message.offset} refused: {error}"
    if not isinstance(said, DeclaredEdition):
        return None, f"declaration at offset {message.offset} refused: not a declaration"
    return editions.take(said)


class Declarations:
    """The topic of declarations as one process follows it; without a ``reader`` nothing comes."""

    def __init__(
        self,
        reader: Reader | None,
        editions: Editions,
        in_force: Callable[[str, Edition], None],
        clock: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        """``in_force`` is told of each plant's edition when it takes force."""
        self._reader, self._editions, self._in_force, self._clock, self._say = reader, editions, in_force, clock, say
        self._said_s: float | None = None

    def read(self, stopping: Callable[[], bool]) -> None:
        """Read on to the topic's end; a cluster that is away is waited for, and said."""
        while self._reader is not None and not stopping():
            self.step(POLL_S)
            if self._reader.caught_up:
                return
            if self._reader.trouble and (self._said_s is None or self._clock() - self._said_s >= SAY_AGAIN_S):
                self._said_s = self._clock()
                self._say(f"declarations: {self._reader.trouble}")

    def step(self, timeout_s: float) -> None:
        """Put in force what has come."""
        if self._reader is None:
            return
        for message in self._reader.poll(timeout_s):
            plant, line = read_edition(message, self._editions)
            if line:
                self._say(line)
            if plant is not None:
                self._in_force(plant, self._editions.of[plant])

    def close(self) -> None:
        """Let go of the topic."""
        if self._reader is not None:
            self._reader.close()
