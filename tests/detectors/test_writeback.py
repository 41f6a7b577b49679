"""What a model says reaches the plant only over a hop that somebody has validated."""

from typing import Any

from moves import QUOTED, moved
from north import MES_DB, ML, OPC, UNS, architecture, end, flow, objects

from detectors.writeback import BACK_BYTES_MIN, WriteBack
from hopwatch.declared.model import Architecture
from hopwatch.events import Flow


def watch(plant: Architecture | None = None) -> WriteBack:
    return WriteBack(plant or architecture(), QUOTED)


def insert(**said: Any) -> Flow:  # Any: fields of a flow
    return flow(
        **{
            "source": end(ML), "destination": end(MES_DB), "opened_by": "source", "account": "svc_ml", "operation": "insert",
            "objects": [objects("mes.work_order", rows=3, messages=3, bytes=400)],
        }
        | said
    )  # fmt: skip


def test_an_insert_of_a_model_into_the_mes_is_said_with_who_and_what() -> None:
    (finding,) = watch().observe(moved(insert()))
    assert (finding.verdict, finding.severity, finding.source, finding.destination) == ("write-back", "critical", "ml", "mes-db")
    assert finding.differences[0].observed == "insert by svc_ml to mes.work_order"


def test_a_value_written_to_a_controller_is_critical() -> None:
    written = insert(destination=end(OPC), protocol="opcua", operation="write", objects=[objects("ns=2;s=Line1/Recipe/Speed", values=1)])
    (finding,) = watch().observe(moved(written))
    assert (finding.severity, finding.destination) == ("critical", "opc-l1")


def test_reading_is_no_writing() -> None:
    read = insert(source=end(MES_DB), destination=end(ML), opened_by="destination", operation="select")
    assert watch().observe(moved(read)) == ()


def test_a_host_nobody_declared_in_the_zone_of_models_is_one_of_them() -> None:
    (finding,) = watch().observe(moved(insert(source=end(("10.40.9.77", 50100)), account="analyst")))
    assert finding.source == "10.40.9.77"


def test_a_hop_towards_the_plant_is_quiet_only_once_it_is_validated() -> None:
    said = "why: OEE forecast UC-07,"
    validated = architecture(validated=(said, f"{said} validated: VAL-2026-11,"))
    for plant, quiet in ((validated, True), (architecture(), False)):
        window = moved(insert(), plant, hop="ml-features", verdict="declared")
        assert (watch(plant).observe(window) == ()) is quiet
    over = moved(insert(), validated, hop="ml-features", verdict="over-limit")
    assert watch(validated).observe(over) != ()


def test_a_neighbour_above_the_plant_may_be_written_to() -> None:
    assert watch().observe(moved(insert(destination=end(UNS), protocol="mqtt", operation="publish"))) == ()


def test_a_command_of_a_model_is_said_wherever_the_broker_stands() -> None:
    command = insert(destination=end(UNS), protocol="mqtt", operation="write", objects=[objects("spBv1.0/north/DCMD/press-1", values=1)])
    (finding,) = watch().observe(moved(command))
    assert (finding.severity, finding.destination) == ("critical", "uns")
    assert finding.differences[0].observed == "write by svc_ml to spBv1.0/north/DCMD/press-1"
    assert watch().observe(moved(insert(source=end(OPC), destination=end(UNS), protocol="mqtt", operation="write"))) == ()


def test_what_nobody_could_read_counts_where_more_goes_to_the_plant_than_comes_from_it() -> None:
    hidden = {"operation": "transfer", "depth": "sizes", "objects": []}
    up = insert(**hidden, bytes=BACK_BYTES_MIN, bytes_back=1000)
    assert len(watch().observe(moved(up))) == 1
    assert watch().observe(moved(insert(**hidden, bytes=BACK_BYTES_MIN - 1, bytes_back=1000))) == ()
    assert watch().observe(moved(insert(**hidden, bytes=BACK_BYTES_MIN, bytes_back=2 * BACK_BYTES_MIN))) == ()


def test_one_writer_is_one_finding_that_adds_up() -> None:
    detector = watch()
    first = detector.observe(moved(insert()))[0]
    second = detector.observe(moved(insert(n=1, at="2026-04-07T00:00:05Z")))[0]
    assert second.finding_id == first.finding_id
    assert (second.windows, second.observed.rows) == (2, 6)
    assert second.first_seen == first.first_seen
