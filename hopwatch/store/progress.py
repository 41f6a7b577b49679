"""Where each partition of a detector stands: what it remembers, the offset it reads next, and what it found, in one transaction.

Either all of a transaction is there or none: after any kill a detector goes on as if the work since the last one had not been done,
reads the same events again, and says the same. What is remembered rests sealed (``seal``), as a snapshot and the changes since;
when those have grown larger than the snapshot, a new snapshot takes the place of both.

**Fencing.** A partition's row bears an epoch that grows with every owner. Each transaction locks the row and holds its own epoch
against it, so that a detector that was stopped for a minute and believes it still owns a partition can write nothing for it, whatever
the group of consumers thinks; and taking over a partition waits for the transaction of whoever had it before.

**Outbox.** Findings go to the bus after the transaction, from a row that it wrote; the row goes when the bus has them. A finding
may therefore be said twice, with the same id, and never not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from psycopg import sql

from hopwatch.store import StoreError
from hopwatch.store.judgements import Judged, Outcomes
from hopwatch.store.postgresql import Connected, Hiding, Said, add_judgements, add_rows, rows_of, spoken, today
from hopwatch.store.rows import Row, clean
from hopwatch.store.seal import Sealer

CHANGES_BYTES_MIN: Final = 1 << 20
"""Changes of a plant that are never worth a new snapshot."""

CHANGES_SHARE: Final = 2.0
"""How many times the size of its snapshot the changes of a plant may reach."""

CHANGES_MAX: Final = 600
"""Changes of a plant, however small: ten minutes at one a second."""

_DECLARED_LOCK: Final = 0x6465636C
"""Advisory locks: one for the declaration of each plant."""

Offsets = dict[str, int]
"""The offset to read next, by topic."""


@dataclass(slots=True)
class Memory:
    """What was remembered for one plant: the snapshot, and the changes since, in order."""

    snapshot: bytes
    changes: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Claim:
    """A partition as its new owner finds it."""

    epoch: int
    offsets: Offsets
    numbers: dict[str, int]
    memories: dict[str, Memory]


@dataclass(slots=True)
class Step:
    """What a partition has done since its last step. A plant has a ``snapshot`` or ``changes``; neither if nothing moved."""

    number: int
    epoch: int
    offsets: Offsets
    numbers: dict[str, int]
    """The number that the next event of each spool is to have."""

    findings: Sequence[Said] = ()
    judged: Sequence[Judged] = ()
    """What was said of each window, to stand beside the flows."""

    listed: bool = True
    """Whether findings and judgements are put into the tables that are searched; the outbox has the findings either way."""

    snapshots: Mapping[str, bytes] = field(default_factory=dict)
    changes: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of steps: the place of each partition's findings in the outbox, and the partitions that are another's now."""

    outbox: dict[int, int]
    fenced: frozenset[int]


@dataclass(slots=True)
class _Grown:
    """How much rests for a plant; decides when a snapshot is due."""

    place: int = 0
    count: int = 0
    snapshot_bytes: int = 0
    changes_bytes: int = 0


class Progress(Connected):
    """The partitions of one consumer group in PostgreSQL; one connection, asked by one thread at a time."""

    application = "hopwatch detect"
    staged = ("finding_events", "findings", "outcomes", "judgements")

    def __init__(self, address: str, consumer: str, key: bytes, hiding: Hiding, *, today: Callable[[], date] = today) -> None:
        """Connect, and make what is missing.

        Raises:
            StoreError: the database cannot be reached or was made by another version.
        """
        self._consumer, self._hiding = consumer, hiding
        self._sealer = Sealer(key)
        self._outcomes = Outcomes(hiding)
        self._grown: dict[tuple[int, str], _Grown] = {}
        super().__init__(address, today)

    def claim(self, number: int, owner: str) -> Claim:
        """Take over a partition: whoever had it can write nothing for it from now on.

        Raises:
            StoreAway: the database went away.
            StoreError: what is remembered cannot be opened.
        """
        with spoken(), self._open.transaction():
            row = self._open.execute(
                "SELECT epoch, position FROM detector_partitions WHERE consumer = %s AND number = %s FOR UPDATE",
                (self._consumer, number),
            ).fetchone()
            epoch, position = (int(row[0]), row[1]) if row else (0, {})
            self._open.execute(
                "INSERT INTO detector_partitions (consumer, number, epoch, owner, position) VALUES (%s, %s, %s, %s, '{}')"
                " ON CONFLICT (consumer, number) DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner, changed_at = now()",
                (self._consumer, number, epoch + 1, owner),
            )
            memories = self._memories(number)
        return Claim(epoch + 1, dict(position.get("offsets", {})), dict(position.get("numbers", {})), memories)

    def _memories(self, number: int) -> dict[str, Memory]:
        where = "WHERE consumer = %s AND number = %s"
        found: dict[str, Memory] = {}
        for grown in [one for one in self._grown if one[0] == number]:
            del self._grown[grown]
        for plant, upto, sealed in self._open.execute(
            f"SELECT plant, upto, sealed FROM detector_snapshots {where}".encode(), (self._consumer, number)
        ):
            found[plant] = Memory(self._opened(number, plant, sealed))
            self._grown[number, plant] = _Grown(place=int(upto), snapshot_bytes=len(sealed))
        for plant, place, sealed in self._open.execute(
            f"SELECT plant, place, sealed FROM detector_changes {where} ORDER BY plant, place".encode(), (self._consumer, number)
        ):
            found[plant].changes.append(self._opened(number, plant, sealed))
            grown_plant = self._grown[number, plant]
            grown_plant.place = int(place)
            grown_plant.count += 1
            grown_plant.changes_bytes += len(sealed)
        return found

    def wants_snapshot(self, number: int, plant: str) -> bool:
        """Whether the next step of the plant is to bring a snapshot: it has none, or its changes have outgrown it."""
        grown = self._grown.get((number, plant))
        if grown is None:
            return True
        return grown.count >= CHANGES_MAX or grown.changes_bytes > max(CHANGES_BYTES_MIN, CHANGES_SHARE * grown.snapshot_bytes)

    def keep(self, steps: Sequence[Step], said: Collection[int] = ()) -> Kept:
        """All of the steps in one transaction, but none of a partition that is another's now. ``said`` are places of the outbox to clear.

        Raises:
            StoreAway: the database went away; nothing is kept, or everything is: claim the partitions again to see.
            StoreRefused: something in the findings cannot be kept.
        """
        listed = [step for step in steps if step.listed]
        rows = {step.number: rows_of(self._hiding, step.findings, ("finding_events", "findings"), own=True) for step in listed}
        told = {step.number: self._outcomes.told(step.judged) for step in listed}
        grown: dict[tuple[int, str], _Grown] = {}
        with spoken():
            for some in rows.values():
                self._make_days("finding_events", some["finding_events"])
            for table in ("judgements", "outcomes"):
                self._make_named(table, {day for one in told.values() for day in one.days})
            with self._open.transaction():
                # Always in one order, or two detectors could wait for one another.
                found = self._open.execute(
                    "SELECT number, epoch FROM detector_partitions WHERE consumer = %s AND number = ANY(%s) ORDER BY number FOR UPDATE",
                    (self._consumer, [step.number for step in steps]),
                ).fetchall()
                epochs = {int(number): int(epoch) for number, epoch in found}
                ours = [step for step in steps if epochs.get(step.number) == step.epoch]
                # One statement for all partitions: one for each would wait for the database as often as there are partitions.
                self._remember(ours, grown)
                shown = [step.number for step in ours if step.listed]
                together = {table: [row for number in shown for row in rows[number][table]] for table in ("finding_events", "findings")}
                add_rows(self._open, together | {"outcomes": [row for number in shown for row in told[number].outcomes]})
                add_judgements(self._open, "".join([told[number].lines for number in shown]))
                outbox = self._put_out([step for step in ours if step.findings])
                self._stand(ours)
                if said:
                    self._open.execute("DELETE FROM detector_outbox WHERE id = ANY(%s)", (list(said),))
        self._grown.update(grown)
        return Kept(outbox, frozenset({step.number for step in steps} - {step.number for step in ours}))

    def _remember(self, steps: Sequence[Step], grown: dict[tuple[int, str], _Grown]) -> None:
        for step in steps:
            for plant, snapshot in step.snapshots.items():
                before = self._grown.get((step.number, plant), _Grown())
                sealed = self._sealed(step.number, plant, snapshot)
                whose = (self._consumer, step.number, plant)
                self._open.execute(
                    "INSERT INTO detector_snapshots VALUES (%s, %s, %s, %s, %s)"
                    " ON CONFLICT (consumer, number, plant) DO UPDATE SET upto = excluded.upto, sealed = excluded.sealed",
                    (*whose, before.place, sealed),
                )
                self._open.execute("DELETE FROM detector_changes WHERE consumer = %s AND number = %s AND plant = %s", whose)
                grown[step.number, plant] = _Grown(place=before.place, snapshot_bytes=len(sealed))
        changed: list[tuple[int, str, int, bytes]] = []
        for step in steps:
            for plant, changes in step.changes.items():
                before = self._grown[step.number, plant]
                sealed = self._sealed(step.number, plant, changes)
                changed.append((step.number, plant, before.place + 1, sealed))
                size = before.changes_bytes + len(sealed)
                grown[step.number, plant] = _Grown(before.place + 1, before.count + 1, before.snapshot_bytes, size)
        if changed:
            numbers, plants, places, texts = map(list, zip(*changed, strict=True))
            self._open.execute(
                "INSERT INTO detector_changes SELECT %s, * FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::bytea[])",
                (self._consumer, numbers, plants, places, texts),
            )

    def _put_out(self, steps: Sequence[Step]) -> dict[int, int]:
        """The findings of each step as one row of the outbox; its place by partition."""
        if not steps:
            return {}
        # One seal for all of a step: the nonces of one key are not without end.
        sealed = [self._sealer.seal(self._outbox_name, b"\n".join(said.line for said in step.findings)) for step in steps]
        placed = self._open.execute(
            "INSERT INTO detector_outbox (consumer, number, sealed) SELECT %s, * FROM unnest(%s::int[], %s::bytea[]) RETURNING number, id",
            (self._consumer, [step.number for step in steps], sealed),
        ).fetchall()
        return {int(number): int(place) for number, place in placed}

    def _stand(self, steps: Sequence[Step]) -> None:
        """Where the partitions go on reading."""
        positions = [json.dumps({"offsets": step.offsets, "numbers": step.numbers}) for step in steps]
        self._open.execute(
            "UPDATE detector_partitions d SET position = now_at.position::jsonb, changed_at = now()"
            " FROM unnest(%s::int[], %s::text[]) AS now_at (number, position) WHERE d.consumer = %s AND d.number = now_at.number",
            ([step.number for step in steps], positions, self._consumer),
        )

    def declare(self, plant: str, edition: str, rows: Mapping[str, Sequence[Row]]) -> None:
        """What is in force for the plant (``schema.DECLARED``), in place of what was; its accounts hidden where they are persons.

        Raises:
            StoreAway: the database went away.
            StoreRefused: something in them cannot be kept.
        """
        with spoken(), self._open.transaction():
            # Several detectors judge by the same edition, and one writes it.
            self._open.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_DECLARED_LOCK, plant))
            known = self._open.execute("SELECT edition FROM declared_plants WHERE plant = %s", (plant,)).fetchone()
            if known == (edition,):
                return
            for table, some in rows.items():
                self._open.execute(sql.SQL("DELETE FROM {} WHERE plant = %s").format(sql.Identifier(table)), (plant,))
                with self._open.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
                    for row in some:
                        copy.write_row(clean(self._hidden(plant, row) if table == "declared_hops" else row))

    def _hidden(self, plant: str, row: Row) -> Row:
        name, hop, account, *rest = row
        return (name, hop, self._hiding.rewritten({"plant": plant, "who": account})["who"], *rest)

    def outbox(self, number: int) -> list[tuple[int, list[bytes]]]:
        """Findings that the bus may not have, oldest first: lines by their place.

        Raises:
            StoreAway: the database went away.
        """
        with spoken():
            rows = self._open.execute(
                "SELECT id, sealed FROM detector_outbox WHERE consumer = %s AND number = %s ORDER BY id", (self._consumer, number)
            ).fetchall()
        return [(int(place), self._open_sealed(self._outbox_name, sealed).split(b"\n")) for place, sealed in rows]

    def clear(self, said: Iterable[int]) -> None:
        """The bus has these findings."""
        with spoken():
            self._open.execute("DELETE FROM detector_outbox WHERE id = ANY(%s)", (list(said),))

    @property
    def _outbox_name(self) -> str:
        return f"outbox/{self._consumer}"

    def _name(self, number: int, plant: str) -> str:
        return f"detector/{self._consumer}/{number}/{plant}"

    def _sealed(self, number: int, plant: str, text: bytes) -> bytes:
        return self._sealer.seal(self._name(number, plant), text)

    def _opened(self, number: int, plant: str, sealed: bytes) -> bytes:
        return self._open_sealed(self._name(number, plant), sealed)

    def _open_sealed(self, name: str, sealed: Any) -> bytes:  # Any: bytes or a view of them, as the client gives them.
        try:
            return self._sealer.opened(name, bytes(sealed))
        except ValueError as error:
            raise StoreError(f"postgresql: {name}: {error}") from None
