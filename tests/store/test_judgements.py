"""What was said of each window stands beside its flow in PostgreSQL, and goes when the class of its data may no longer be kept."""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hopwatch.declared.load import load
from hopwatch.declared.rows import rows
from hopwatch.editions import Edition
from hopwatch.store import Query
from hopwatch.store.judgements import Judged
from hopwatch.store.postgresql import ClassDays, Hiding, PostgresStore, Said, connect
from hopwatch.store.progress import Progress, Step
from hopwatch.store.reader import PostgresReader, reader
from hopwatch.store.schema import DECLARED
from hopwatch.storing import Keeping

TODAY = date(2026, 4, 30)
KEY = secrets.token_bytes(32)
Json = dict[str, Any]  # Any: one JSON object.


@dataclass(frozen=True)
class Differs:
    observed: str

    def model_dump(self) -> Json:
        return {"question": "who", "declared": "svc_mw at mw", "observed": self.observed}


@dataclass(frozen=True)
class Outcome:
    verdict: str = "declared"
    severity: str | None = None
    hop: str | None = "extract"
    who: str | None = "svc_mw"
    differences: Sequence[Differs] = ()
    classes: Sequence[str] = ("production",)
    version: int = 14
    highest: str | None = "production"
    service: str | None = None
    places: tuple[str | None, str | None, str | None, str | None] = ("site-ops", "mes-db", "idmz", "mw")

    @property
    def event(self) -> Json:
        return {
            "verdict": self.verdict, "severity": self.severity, "hop": self.hop, "service": None, "checked": {"who": "checked"},
            "differences": [one.model_dump() for one in self.differences], "classes": list(self.classes),
            "declaration": {"plant": "north", "version": self.version, "signed": True},
        }  # fmt: skip


def flow(number: int, day: str = "2026-04-29", **said: Any) -> Json:  # Any: JSON values.
    return {
        "kind": "flow", "event_id": f"{number:032x}", "plant": "north", "agent": "tap", "connection": "c", "flow_id": f"{number:032x}",
        "sequence": number, "start": f"{day}T10:00:{number:02d}Z", "end": f"{day}T10:00:{number:02d}.9Z", "operation": "select",
        "source": {"address": "10.0.0.1", "port": 5432}, "destination": {"address": "10.0.0.2", "port": 50000}, "account": "svc_mw",
        "depth": "decoded", "rows": 3, "bytes": 900,
    } | said  # fmt: skip


class House:
    """One database, with a store, a detector's progress, and a reader."""

    def __init__(self, address: str) -> None:
        hiding = Hiding(KEY)
        hiding.declare("north", lambda account: account == "svc_mw")
        self.address = address
        self.store = PostgresStore(address, hiding, today=lambda: TODAY)
        self.progress = Progress(address, "detect", KEY, hiding, today=lambda: TODAY)
        self.epoch = self.progress.claim(0, "me").epoch
        self.reader = PostgresReader(address)

    def keep(self, *events: Json) -> None:
        self.store.add([Said(json.dumps(event).encode(), event) for event in events])

    def judge(self, outcome: Outcome, *flows: Json, finding_id: str | None = None) -> None:
        judged = [
            Judged(
                one["event_id"], one["start"], one["plant"], outcome, finding_id,
                (one["account"], one.get("role"), one.get("on_behalf_of"), one.get("objects", [])) if outcome.differences else None,
                one["rows"], one["bytes"], one["depth"],
            )
            for one in flows
        ]  # fmt: skip
        assert not self.progress.keep([Step(0, self.epoch, {}, {}, judged=judged)]).fenced

    def rows(self, query: str) -> list[tuple[Any, ...]]:  # Any: SQL values.
        with psycopg.connect(self.address) as db:
            return db.execute(query.encode()).fetchall()

    def left(self) -> list[int]:
        return sorted(one["sequence"] for one in self.reader.history())

    def close(self) -> None:
        self.store.close()
        self.progress.close()
        self.reader.close()


@pytest.fixture
def house(postgres: str) -> Iterator[House]:
    made = House(postgres)
    yield made
    made.close()


def test_each_flow_is_read_with_what_was_said_of_it(house: House) -> None:
    flows = [flow(number) for number in range(1, 5)]
    house.keep(*flows)
    house.judge(Outcome(), *flows[:2])
    house.judge(Outcome("undeclared-hop", "critical", None, differences=(Differs("svc_mw at laptop"),)), flows[2], finding_id="F-7c1e9a02")
    told = {one["sequence"]: one["judgement"] for one in house.reader.history()}
    assert (told[1]["verdict"], told[1]["hop"], told[1]["finding_id"]) == ("declared", "extract", None)
    assert told[2] == told[1]
    assert (told[3]["severity"], told[3]["finding_id"]) == ("critical", "F-7c1e9a02")
    assert told[3]["differences"][0]["observed"] == "svc_mw at laptop"
    assert told[4] is None
    assert [one["sequence"] for one in house.reader.flows(Query(verdict="declared"))] == [2, 1]
    assert [one["sequence"] for one in house.reader.flows(Query(hop="extract", limit=1))] == [2]
    assert [one["sequence"] for one in house.reader.flows_of("F-7c1e9a02", 10)] == [3]
    assert house.reader.find(f"{3:032x}")["judgement"]["verdict"] == "undeclared-hop"
    # Two windows, one thing said.
    assert house.rows("SELECT verdict, classes FROM outcomes ORDER BY verdict") == [
        ("declared", ["production"]),
        ("undeclared-hop", ["production"]),
    ]


def test_a_window_judged_anew_shows_what_was_said_last_and_the_others_of_its_step_stay(house: House) -> None:
    house.keep(flow(1), flow(2))
    house.judge(Outcome(), flow(1))
    house.judge(Outcome("expired", "medium"), flow(1), flow(2), finding_id="F-00000001")
    assert [one["judgement"]["verdict"] for one in house.reader.history()] == ["expired", "expired"]


def test_an_id_of_any_characters_is_found_again(house: House) -> None:
    wild = flow(1, event_id="a\tb\\N\nc\rd\0\ud800")
    house.keep(wild)
    house.judge(Outcome(), wild)
    assert [one["judgement"]["verdict"] for one in house.reader.history()] == ["declared"]


def test_no_person_is_named_in_what_was_said(house: House) -> None:
    said = Outcome("undeclared-account", "high", who="h.keller", differences=(Differs("h.keller at 10.0.0.2"),))
    house.judge(said, flow(1, account="h.keller"))
    # The same was said of a service: what is remembered of one is no answer for the other.
    house.judge(replace(said, who="svc_mw", differences=(Differs("svc_mw at 10.0.0.2"),)), flow(2))
    made = replace(said, who="svc_mw", differences=(Differs("j.doe: created"),))
    house.judge(made, flow(3, objects=[{"names": ["account:j.doe"], "columns": ["create"]}]))
    kept = str(house.rows("SELECT * FROM judgements") + house.rows("SELECT * FROM outcomes"))
    assert "h.keller" not in kept and "j.doe" not in kept
    assert "person:" in kept and "svc_mw at 10.0.0.2" in kept


def test_a_step_of_a_detector_that_lost_its_partition_leaves_no_verdict(house: House) -> None:
    house.keep(flow(1))
    house.progress.claim(0, "another")
    assert house.progress.keep(
        [Step(0, house.epoch, {}, {}, judged=[Judged(f"{1:032x}", flow(1)["start"], "north", Outcome(), None, None, 3, 900, "decoded")])]
    ).fenced
    assert house.rows("SELECT count(*) FROM judgements") == [(0,)]


def test_data_of_a_class_goes_after_its_days_and_other_data_stays(house: House) -> None:
    old, new = [flow(number, "2026-04-10") for number in range(1, 5)], flow(5)
    house.keep(*old, new, flow(6, "2026-04-10", plant="south"))
    house.judge(Outcome(), old[0])
    house.judge(Outcome(classes=("production", "process_ip")), old[1], new)
    house.judge(Outcome(classes=()), old[2])
    house.judge(Outcome(classes=("process_ip",), version=3), flow(6, "2026-04-10", plant="south"))
    assert house.store.keep_only({}, None, [ClassDays("north", "process_ip", 14)]) == {"flows of class process_ip": 1}
    # The new one is not old enough, the fourth was never judged, the sixth is another plant's.
    assert house.left() == [1, 3, 4, 5, 6]
    assert sorted(house.rows("SELECT left(start_time, 10), count(*) FROM judgements GROUP BY 1")) == [("2026-04-10", 3), ("2026-04-29", 1)]
    assert house.store.keep_only({}, None, [ClassDays(None, "process_ip", 14)]) == {"flows of class process_ip": 1}
    assert house.left() == [1, 3, 4, 5]
    # With a table's days the day goes as a whole, and what was said with it.
    keeping = Keeping.parse("flows=15")
    assert house.store.keep_only(keeping.days) == {"flows": 1, "judgements": 1, "outcomes": 1}
    assert house.left() == [5]


def test_findings_about_a_class_go_with_it(house: House) -> None:
    trap = 'x "classes":["operator"]'

    def finding(number: int, classes: list[str], last: str) -> Json:
        return {
            "kind": "finding", "event_id": f"{number:032x}", "finding_id": f"F-{number:08x}", "verdict": "undeclared-hop",
            "severity": "high", "plant": "north", "first_seen": "2026-04-01T10:00:00Z", "last_seen": last, "windows": 1, "who": "svc_mw",
            "source": "a", "destination": "b", "observed": {"rows": 1, "objects": [trap], "classes": classes},
        }  # fmt: skip

    house.keep(
        finding(1, ["production", "operator"], "2026-04-10T10:00:00Z"),
        finding(2, ["production"], "2026-04-10T10:00:00Z"),
        finding(3, ["operator"], "2026-04-29T10:00:00Z"),
        finding(4, ["operator_shift"], "2026-04-10T10:00:00Z"),
    )
    gone = house.store.keep_only({}, None, [ClassDays(None, "operator", 14)])
    assert gone == {"findings of class operator": 1, "finding_events of class operator": 1}
    assert [one["finding_id"] for one in house.reader.findings(Query())] == ["F-00000003", "F-00000002", "F-00000004"]


def test_what_is_kept_by_class_is_said_in_days_or_taken_from_the_declaration() -> None:
    keeping = Keeping.parse("flows=30, class:process_ip=7,keep_max")
    assert (keeping.days["flows"], keeping.days["outcomes"], keeping.classes, keeping.declared) == (30, 30, {"process_ip": 7}, True)
    for wrong in ("class:=7", "class:a b=7", "class:x", "classes=3", "keep_max=4", "flows=0"):
        with pytest.raises(ValueError, match="expected NAME=DAYS"):
            Keeping.parse(wrong)


def test_a_database_of_the_version_before_gets_what_it_lacks_and_keeps_what_it_has(house: House, postgres: str) -> None:
    house.keep(flow(1))
    with psycopg.connect(postgres, autocommit=True) as db:
        for statement in (
            "DROP VIEW judged_flows",
            "DROP TABLE judgements",
            "DROP TABLE outcomes",
            "DROP TABLE finding_changes",
            "UPDATE schema_version SET version = 1",
        ):
            db.execute(statement.encode())
    with pytest.raises(Exception, match="schema version 1; `hopwatch store` of this version brings it to 5"):
        reader(postgres)
    connect(postgres, "test").close()
    again = reader(postgres)
    assert [one["judgement"] for one in again.history()] == [None]
    again.close()


def test_what_moved_is_told_from_where_to_where_and_a_window_judged_anew_moves_nothing_again(house: House) -> None:
    house.judge(Outcome(), flow(1), flow(2))
    said_again = flow(1) | {"rows": 0, "bytes": 0, "depth": "sizes"}
    house.judge(Outcome("undeclared-hop", "high", None, places=("site-ops", "mes-db", None, "198.51.100.9")), said_again)
    moved = "SELECT o.verdict, o.source_zone, o.source, o.destination_zone, o.destination, o.class, j.row_count, j.byte_count, j.depth"
    joined = f"{moved} FROM judgements j JOIN outcomes o USING (outcome) ORDER BY 1"
    assert house.rows(joined) == [
        ("declared", "site-ops", "mes-db", "idmz", "mw", "production", 3, 900, "decoded"),
        ("undeclared-hop", "site-ops", "mes-db", None, "198.51.100.9", "production", 3, 900, "sizes"),
    ]


def test_who_moved_it_is_a_pseudonym_where_it_may_be_a_person_and_goes_when_persons_go(house: House) -> None:
    old = [flow(1, "2026-04-10"), flow(2, "2026-04-10")]
    house.judge(Outcome(who="h.keller"), old[0])
    house.judge(Outcome(), old[1])
    ((hidden,), (clear,)) = house.rows("SELECT who FROM outcomes ORDER BY who")
    assert clear == "svc_mw" and hidden.startswith("person:") and "keller" not in hidden
    house.store.keep_only({}, person_days=5)
    assert house.rows("SELECT who FROM outcomes") == [("svc_mw",)]
    assert house.rows("SELECT count(*) FROM judgements") == [(1,)]


def test_the_declaration_in_force_stands_in_tables_and_names_no_person(house: House) -> None:
    plant = load(Path(__file__).parents[2] / "examples" / "plant-north.yaml")
    house.progress.declare("north", "first", rows(plant, "first"))
    assert house.rows("SELECT count(*) FROM declared_hops") == [(len(plant.hops),)]
    assert house.rows("SELECT class FROM declared_classes ORDER BY place") == [(name,) for name in plant.classes]
    ((account, sources, zones, off_site),) = house.rows(
        "SELECT account, sources, source_zones, off_site FROM declared_hops WHERE hop = 'extract-quality'"
    )
    assert (account, sources, zones, off_site) == ("svc_mw", ["mes-db"], ["site-ops"], False)
    assert house.rows("SELECT amount, period_s FROM declared_limits WHERE hop = 'extract-quality' AND unit = 'rows' ORDER BY 1") == [
        (200_000, 3_600),
        (400_000, 86_400),
    ]
    kept = str([house.rows(f"SELECT * FROM {table}") for table in DECLARED])
    assert "keller" not in kept and "ruiz" not in kept
    # Another detector with the same edition writes nothing; another edition takes its place.
    house.progress.declare("north", "first", {})
    assert house.rows("SELECT count(*) FROM declared_hops") == [(len(plant.hops),)]
    fewer = plant.model_copy(update={"hops": {"extract-quality": plant.hops["extract-quality"]}})
    house.progress.declare("north", "second", rows(fewer, "second"))
    assert house.rows("SELECT hop FROM declared_hops") == [("extract-quality",)]
    assert house.rows("SELECT edition FROM declared_plants") == [("second",)]


def test_a_database_of_version_2_gets_the_columns_where_they_are_in_a_new_one(house: House, postgres: str) -> None:
    def columns() -> list[tuple[Any, ...]]:  # Any: SQL values.
        return house.rows(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_name IN ('judgements', 'outcomes') ORDER BY table_name, ordinal_position"
        )

    new = columns()
    with psycopg.connect(postgres, autocommit=True) as db:
        db.execute(b"DROP VIEW judged_flows")
        for name in ("row_count", "byte_count", "depth"):
            db.execute(f"ALTER TABLE judgements DROP COLUMN {name}".encode())
        for name in ("service", "who", "class", "source_zone", "source", "destination_zone", "destination"):
            db.execute(f"ALTER TABLE outcomes DROP COLUMN {name}".encode())
        db.execute(b"UPDATE schema_version SET version = 2")
    connect(postgres, "test").close()
    assert columns() == new


def test_keep_max_is_of_the_classes_of_each_plant_by_the_declaration_in_force() -> None:
    edition = Edition(load(Path(__file__).parents[2] / "examples" / "plant-north.yaml"), "e")
    kept = {(one.plant, one.name): one.days for one in Keeping.parse("class:operator=30,keep_max").by_class({"north": edition})}
    assert kept["north", "operator"] == 180
    assert kept["north", "telemetry"] == 3 * 365
    assert kept[None, "operator"] == 30
    assert Keeping.parse("flows=3").by_class({"north": edition}) == []
