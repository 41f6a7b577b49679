"""``hopwatch declared apply``: the declaration that detectors judge by from now on, as a signed event in a compacted topic.

What is refused can each be overridden by name, and the event then says so: a file nobody but its author approved, one whose
bytes are in no commit, and one whose version is not above the one in force, by which a plant would fall back unseen.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hopwatch.bus import EVENT_BYTES_MAX
from hopwatch.bus.connection import BrokerError, Connection
from hopwatch.bus.kafka import Publisher, Reader
from hopwatch.bus.topics import topic_name
from hopwatch.config import kafka
from hopwatch.declared.edition import edition_of
from hopwatch.declared.problem import ArchitectureError
from hopwatch.events import DeclaredEdition, EventError, dump, parse, time_text

APPLY_S = 30.0
"""How long the cluster may take to answer: a person waits."""

PAUSE_S = 0.05
OK, REFUSED = 0, 2

OVERRIDES = ("unsigned", "older", "dirty")


class ApplyError(Exception):
    """The declaration is not applied; one line for each reason."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What is in force now; ``changed`` is False if it was before."""

    edition: DeclaredEdition
    topic: str
    changed: bool


def run(arguments: argparse.Namespace) -> int:
    """The command; its exit code."""
    allowed = [name for name in OVERRIDES if getattr(arguments, f"allow_{name}")]
    connection = kafka(vars(arguments), arguments.config)
    try:
        applied = apply(
            arguments.file,
            connection,
            time_text(time.time_ns()),
            allowed=allowed,
            at=arguments.at,
            approvers=arguments.approvers,
            timeout_s=APPLY_S,
        )
    except (ArchitectureError, ApplyError) as error:
        print(error, file=sys.stderr)
        return REFUSED
    edition = applied.edition
    where = f"{applied.topic} at {connection.bootstrap_servers}"
    state = "is in force now" if applied.changed else "was in force already"
    print(f"{edition.plant} version {edition.version} ({edition.commit or 'no commit'}, {edition.approval}) {state}: {where}")
    return OK


def apply(
    path: Path,
    connection: Connection,
    now: str,
    *,
    allowed: list[str],
    at: date | None = None,
    approvers: Path | None = None,
    timeout_s: float = APPLY_S,
    clock: Callable[[], float] = time.monotonic,
) -> Applied:
    """Publish the declaration at ``path`` if nothing speaks against it.

    Raises:
        ArchitectureError: the file is no declaration that holds.
        ApplyError: something speaks against it that ``allowed`` does not name.
        BrokerError: the topic cannot be read or written.
    """
    edition, _ = edition_of(path, now, at=at, approvers=approvers)
    before = in_force(connection, edition.plant, timeout_s, clock)
    against = _against(edition, before)
    refusals = [f"{path.name}: {why} (--allow-{name} applies it all the same)" for name, why in against.items() if name not in allowed]
    if refusals:
        raise ApplyError("\n".join(refusals))
    topic = topic_name("declared", connection.topic_prefix)
    if before is not None and _same(edition, before):
        return Applied(before, topic, False)
    edition = edition.model_copy(update={"allowed": list(against)})
    _publish(edition, connection, topic, timeout_s, clock)
    return Applied(edition, topic, True)


def in_force(
    connection: Connection, plant: str, timeout_s: float = APPLY_S, clock: Callable[[], float] = time.monotonic
) -> DeclaredEdition | None:
    """The plant's edition the topic holds: its last readable one; None if there is none.

    Raises:
        BrokerError: the topic cannot be read to its end in time.
    """
    reader = Reader(connection, "declared")
    found: DeclaredEdition | None = None
    deadline = clock() + timeout_s
    try:
        while not reader.caught_up:
            if clock() > deadline:
                raise BrokerError(f"{reader.topic} at {connection.bootstrap_servers} cannot be read: {reader.trouble or 'no answer'}")
            messages = reader.poll(0.2)
            if not messages:
                time.sleep(PAUSE_S)  # A cluster that says no at once is not asked in a circle.
            for message in messages:
                if message.key != plant.encode():
                    continue
                try:
                    event = parse(message.value)
                except EventError:
                    continue  # Detectors put it on the dead letters with the reason; it never was in force.
                if isinstance(event, DeclaredEdition) and event.plant == plant:
                    found = event
    finally:
        reader.close()
    return found


def _against(edition: DeclaredEdition, before: DeclaredEdition | None) -> dict[str, str]:
    """What speaks against applying it, by the name of its override."""
    said: dict[str, str] = {}
    if not edition.signed:
        said["unsigned"] = f"not approved: {edition.approval}"
    if before is not None and (edition.version < before.version or (edition.version == before.version and edition.digest != before.digest)):
        said["older"] = f"version {edition.version}, expected above {before.version} ({before.commit or 'no commit'}), which is in force"
    if edition.commit is None:
        said["dirty"] = "in no commit, so no finding could name where it is from"
    elif edition.commit.endswith("-dirty"):
        said["dirty"] = f"was changed since its commit {edition.commit.removesuffix('-dirty')}"
    return said


def _same(edition: DeclaredEdition, before: DeclaredEdition) -> bool:
    """Whether it is the one in force, with the same approval: applying it twice changes nothing."""
    kept = ("version", "digest", "commit", "signature", "commits", "file")
    return all(getattr(edition, name) == getattr(before, name) for name in kept)


def _publish(edition: DeclaredEdition, connection: Connection, topic: str, timeout_s: float, clock: Callable[[], float]) -> None:
    line = dump(edition)
    if len(line) > EVENT_BYTES_MAX:
        raise ApplyError(f"{edition.file}: an event of {len(line)} bytes, expected at most {EVENT_BYTES_MAX}")
    publisher: Publisher[str] = Publisher(connection, speaker="declared")
    deadline = clock() + timeout_s
    try:
        publisher.send("declared", edition.plant, edition.event_id, line, edition.event_id)
        while clock() < deadline:
            reports = publisher.poll(0.2)
            if reports.acknowledged:
                return
            if reports.failed:
                raise BrokerError(f"{topic} at {connection.bootstrap_servers}: {reports.failed[0].reason}")
        raise BrokerError(f"{topic} at {connection.bootstrap_servers}: not acknowledged within {timeout_s:.0f} s: {publisher.trouble}")
    finally:
        publisher.close(0.0)
