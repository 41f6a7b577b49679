"""What is wrong with a declaration, and where: one line a person can act on without reading our code."""

from dataclasses import dataclass
from enum import StrEnum

# Sections whose second key is the name of an entity; a message is headed by that name.
_ENTITY_SECTIONS = frozenset({"classes", "zones", "assets", "services", "data", "accounts", "conduits", "hops", "exceptions"})


class Level(StrEnum):
    """Whether the file is refused, approves less than it says, or will soon."""

    ERROR = "error"  # the file is refused
    FINDING = "finding"  # the file holds, but a promise in it is broken on the day asked
    WARNING = "warning"  # nothing is broken yet


@dataclass(frozen=True, slots=True)
class Problem:
    """One sentence about one place in the file. ``path`` is the key, outermost first."""

    file: str
    line: int
    column: int
    path: tuple[str, ...]
    message: str
    rule: str
    level: Level = Level.ERROR

    @property
    def key(self) -> str:
        """The path as text: ``hops.lake-upload.limit``."""
        return ".".join(self.path)

    @property
    def subject(self) -> str:
        """The entity the message is about, or the key where there is none."""
        if len(self.path) >= 2 and self.path[0] in _ENTITY_SECTIONS:
            return self.path[1]
        return self.key or "file"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.subject}: {self.message}"

    def as_dict(self) -> dict[str, str | int]:
        """For ``validate --json``."""
        return {
            "kind": "problem", "level": self.level.value, "rule": self.rule, "file": self.file, "line": self.line, "column": self.column,
            "key": self.key, "subject": self.subject, "message": self.message,
        }  # fmt: skip


class ArchitectureError(Exception):
    """The declaration is refused. ``problems`` holds every reason, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
