"""Read a declaration: YAML to text to models, with every error located.

YAML is read as events, not as values, because a value has already been guessed at: 1.1 reads ``no`` as false and
``22:00`` as 1320, 1.2 does not. Here each scalar stays text until the schema types it. Reading events also keeps the
place of every key for messages and lets this file refuse what the format does not have: duplicate keys, anchors and
aliases (a diff of one line must be a change of one thing), tags, and nesting without end.
"""

import difflib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from hopwatch.declared.model import Architecture, Declaration, PlantFile
from hopwatch.declared.problem import ArchitectureError, Level, Problem
from hopwatch.declared.rules import prove, review, shadows
from hopwatch.declared.sign import Verdict, verify_file

FILE_BYTES_MAX = 8 * 2**20  # a plant of ten thousand hops is under 4 MiB
DEPTH_MAX = 12  # the format itself nests five deep
ERRORS_MAX = 200  # a person reads none beyond; the count of the rest is said
_GIT_TIMEOUT_S = 5.0

Path_ = tuple[str, ...]


@dataclass(slots=True)
class Marks:
    """Where each key of a file stands: line and column, both from 1."""

    file: str
    places: dict[Path_, tuple[int, int]] = field(default_factory=dict)

    def place(self, path: Path_) -> tuple[int, int]:
        """The place of the path, or of the nearest part of the file that contains it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def problem(self, path: Path_, message: str, rule: str, level: Level = Level.ERROR) -> Problem:
        """A problem at the path."""
        line, column = self.place(path)
        return Problem(self.file, line, column, path, message, rule, level)


def load(path: Path, at: date | None = None, approvers: Path | None = None) -> Architecture:
    """Read, type and prove a declaration, and check its signature.

    ``at`` is the day that expiries are judged on, today if None; no expiry refuses a file. ``approvers`` holds the
    approver keys; without it those of the host.

    Raises:
        ArchitectureError: the file cannot be read or breaks a rule; holds every error found.
    """
    content = read(path)
    architecture, verdict = judge(path, content, at, approvers)
    return approved(architecture, verdict)


def read(path: Path) -> bytes:
    """The bytes of a declaration, bounded.

    Raises:
        ArchitectureError: the file cannot be read or is too long.
    """
    name = path.name
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ArchitectureError([Problem(name, 1, 1, (), f"file of over {FILE_BYTES_MAX} bytes, expected a declaration", "file")])
        return path.read_bytes()
    except OSError as error:
        raise ArchitectureError([Problem(name, 1, 1, (), f"cannot be read: {error.strerror}", "file")]) from error


def judge(path: Path, content: bytes, at: date | None, approvers: Path | None) -> tuple[Architecture, Verdict]:
    """What ``load`` makes of the bytes at ``path``, and what their signature is worth.

    Raises:
        ArchitectureError: as for ``load``.
    """
    commit, notice = git_state(path)
    notices = () if notice is None else (Problem(path.name, 1, 1, (), notice, "git", Level.WARNING),)
    architecture = loads(decoded(content, path.name), path.name, commit=commit, at=at, notices=notices)
    return architecture, verify_file(path, content, architecture.owner, approvers)


def decoded(content: bytes, name: str) -> str:
    """The text of a declaration.

    Raises:
        ArchitectureError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArchitectureError([Problem(name, 1, 1, (), f"byte {error.start} is not UTF-8", "file")]) from error


def approved(architecture: Architecture, verdict: Verdict) -> Architecture:
    """The declaration with what its signature is worth."""
    declaration = architecture.declaration.model_copy(update={"signed": verdict.signed, "approval": verdict.why})
    return architecture.model_copy(update={"declaration": declaration})


def loads(
    text: str,
    file: str = "declaration",
    commit: str | None = None,
    at: date | None = None,
    notices: tuple[Problem, ...] = (),
) -> Architecture:
    """``load`` for text already read; ``file`` is the name errors carry.

    Raises:
        ArchitectureError: as for ``load``.
    """
    marks = Marks(file)
    tree = read_tree(text, marks)
    try:
        plant = PlantFile.model_validate(tree)
    except ValidationError as error:
        raise ArchitectureError(_located(error, marks)) from error
    declaration = Declaration(plant=plant.plant, version=plant.version, commit=commit, signed=False)
    lines = {path: line for path, (line, _) in marks.places.items()}
    # model_construct: every part was validated a line above, and the models are frozen.
    architecture = Architecture.model_construct(**dict(plant), declaration=declaration, file=file, lines=lines)
    broken = [marks.problem(path, message, rule) for rule, path, message in prove(architecture)]
    if broken:
        raise ArchitectureError(_capped(broken, marks))
    day = today() if at is None else at
    found = [
        marks.problem(path, message, rule, Level.FINDING if ended else Level.WARNING)
        for ended, rule, path, message in review(architecture, day)
    ]
    found += [marks.problem(path, message, "overshadowed", Level.WARNING) for path, message in shadows(architecture)]
    return architecture.model_copy(update={"problems": (*notices, *found)})


def git_state(path: Path) -> tuple[str | None, str | None]:
    """Short id of the last commit that changed the file, and what git has against it.

    The id ends in ``-dirty`` if the file was changed since; it is None outside git and for a file git does not track.
    """
    if _git(path, "rev-parse", "--is-inside-work-tree") != "true":
        return None, None
    if not _git(path, "ls-files", "--", path.name):
        ignored = _git(path, "check-ignore", "--", path.name)
        return (
            None,
            "is ignored by git (.gitignore), so no change to it can be traced"
            if ignored
            else "is not in git, so no change to it can be traced",
        )
    commit = _git(path, "log", "-1", "--format=%h", "--", path.name) or None
    if _git(path, "status", "--porcelain", "--", path.name):
        return commit and f"{commit}-dirty", "was changed since its last commit"
    return commit, None


def today() -> date:
    """The day it is, in UTC: the loader is at the rim and may ask."""
    return datetime.now(UTC).date()


def _git(path: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(path.resolve().parent), *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def read_tree(text: str, marks: Marks) -> Any:
    """Mappings, lists and text, with every place noted in ``marks``.

    Raises:
        ArchitectureError: not YAML, or YAML this format does not have.
    """
    problems: list[Problem] = []
    try:
        events = iter(YAML(typ="safe", pure=True).parse(text))
        tree = _Builder(events, marks, problems).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problems.append(Problem(marks.file, line, column, (), f"not YAML: {error.problem or error.context}", "yaml"))
    except YAMLError as error:
        problems.append(Problem(marks.file, 1, 1, (), f"not YAML: {str(error).splitlines()[0]}", "yaml"))
    if problems:
        raise ArchitectureError(problems)
    return tree


class _Builder:
    """Builds the tree of one document from parsing events."""

    def __init__(self, events: Iterator[Event], marks: Marks, problems: list[Problem]) -> None:
        self._events = events
        self._marks = marks
        self._problems = problems

    def document(self) -> Any:
        documents = 0
        tree: Any = None
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse((), event, "a second document starts here, expected one declaration a file")
                    break
            elif isinstance(event, NodeEvent):
                tree = self._node(event, ())
                if not isinstance(tree, dict):
                    self._refuse((), event, "expected the keys of a declaration such as plant: and hops:")
                    break
        if documents == 0:
            self._problems.append(Problem(self._marks.file, 1, 1, (), "file is empty, expected a declaration", "yaml"))
        return tree

    def _refuse(self, path: Path_, event: Event, message: str) -> None:
        mark = event.start_mark
        self._problems.append(Problem(self._marks.file, mark.line + 1, mark.column + 1, path, message, "yaml"))
        if len(self._problems) >= ERRORS_MAX:
            raise ArchitectureError(self._problems)

    def _node(self, event: Event, path: Path_) -> Any:
        self._marks.places.setdefault(path, (event.start_mark.line + 1, event.start_mark.column + 1))
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            self._refuse(path, event, "anchors and aliases are no part of the format, write the value out")
        if isinstance(event, (ScalarEvent, CollectionStartEvent)) and getattr(event, "ctag", None) is not None and str(event.ctag):
            self._refuse(path, event, f"tag {event.ctag} is no part of the format, the schema types every value")
        if len(path) > DEPTH_MAX:
            self._refuse(path, event, f"nested over {DEPTH_MAX} deep")
            raise ArchitectureError(self._problems)
        if isinstance(event, MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path)
        return event.value if isinstance(event, ScalarEvent) else None

    def _mapping(self, path: Path_) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                break
            key = event.value if isinstance(event, ScalarEvent) else None
            if key is None:
                self._refuse(path, event, "expected a name as key")
                key = ""
                self._node(event, (*path, key))
            here = (*path, key)
            if key in tree:
                first, _ = self._marks.places[here]
                self._refuse(here, event, f"{key} is declared twice, first in line {first}")
            self._marks.places.setdefault(here, (event.start_mark.line + 1, event.start_mark.column + 1))
            tree[key] = self._node(next(self._events), here)
        return tree

    def _sequence(self, path: Path_) -> list[Any]:
        tree: list[Any] = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                break
            tree.append(self._node(event, (*path, str(len(tree)))))
        return tree


def _located(error: ValidationError, marks: Marks) -> list[Problem]:
    """Errors of the models in the file's language, each at its place."""
    problems: dict[tuple[Path_, str], Problem] = {}
    for detail in error.errors(include_url=False):
        path = tuple(str(part) for part in detail["loc"] if part != "[key]")
        while path and path not in marks.places and detail["type"] != "missing":
            path = path[:-1]  # a validator that turns one name into a list adds a place the file does not have
        message = _sentence(detail, path)
        problems.setdefault((path, message), marks.problem(path, message, "schema"))
    return _capped(list(problems.values()), marks)


def _capped(found: list[Problem], marks: Marks) -> list[Problem]:
    if len(found) <= ERRORS_MAX:
        return found
    return [*found[:ERRORS_MAX], marks.problem((), f"and {len(found) - ERRORS_MAX} more errors", "count")]


def _sentence(detail: Any, path: Path_) -> str:  # Any: pydantic's ErrorDetails, whose ctx differs by type
    key = path[-1] if path else "file"
    value = detail.get("input")
    shown = f'"{value}"' if isinstance(value, str) else "a list" if isinstance(value, list) else "keys and values"
    inside = ".".join(path[2:])
    head = f"{inside} " if inside else ""
    context = detail.get("ctx") or {}
    match detail["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden":
            known = _known_keys(path[:-1])
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            if path[:1] == ("exceptions",) and key in ("who", "from", "to", "via", "what", "class"):
                return f"{key} has no place here, an exception never adds an account, a destination or a class"
            return f"key {key} is unknown, " + (f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}")
        case "value_error":
            return f"{head}{context.get('error', detail['msg'])}"
        case "literal_error":
            choices = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
            near = difflib.get_close_matches(str(value), choices.split(", "), n=1, cutoff=0.6)
            return f"{head}{shown}: expected one of {choices}" + (f", did you mean {near[0]}?" if near else "")
        case "string_pattern_mismatch":
            if isinstance(value, str) and not value:
                return f"{head}has no value"
            return f"{head}{shown}: expected " + _PATTERNS.get(str(context.get("pattern")), "a text with something in it")
        case "string_too_short":
            return f"{head}has no value"
        case "string_too_long":
            return f"{head}is over {context.get('max_length')} characters long"
        case "too_short":
            return f"{head}is empty, expected at least one entry"
        case "string_type":
            return f"{head}is {shown}, expected one text"
        case "list_type" | "tuple_type":
            return f"{head}is {shown}, expected a list"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{head}is {shown}, expected keys and values"
    return f"{head}{detail['msg']}"


_PATTERNS = {
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$": "a name of letters, digits, . _ and -",
    r"^[A-Z]{2}$": "a country as two capital letters such as DE (ISO 3166-1)",
}


def _known_keys(path: Path_) -> list[str]:
    """The keys the schema has at a path of the file."""
    model: Any = PlantFile  # Any: a model or the annotation of a field
    named = False  # whether the next part is the name of an entity, or a place in a list, and so no key
    for part in path:
        if named:
            named = False
            continue
        fields = {info.alias or name: info.annotation for name, info in model.model_fields.items()}
        named = get_origin(fields.get(part)) in (dict, list)
        model = _inner(fields.get(part))
        if model is None:
            return []
    return [info.alias or name for name, info in model.model_fields.items()]


def _inner(annotation: Any) -> Any:
    """The model inside ``dict[Name, Model]``, ``list[Model]`` or ``Model | None``; None if there is none."""
    if get_origin(annotation) in (dict, list, Union, UnionType):
        return next(filter(None, (_inner(argument) for argument in get_args(annotation))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
