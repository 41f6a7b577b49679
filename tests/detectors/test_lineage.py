"""Legs joined: what arrives on a host and leaves it again is one movement."""

from itertools import pairwise
from typing import Any

from moves import QUOTED, later, moved
from north import LAKE, LAKE_NAME, MES_DB, MW, architecture, end, extract, flow, objects, upload

from detectors.lineage import BYTES_MIN, CHAIN_MAX, LOOKBACK_NS, Lineage
from detectors.moved import Moved
from hopwatch.events import Clock, Finding, Heartbeat

MIB = 1 << 20
LAPTOP = ("10.40.9.77", 50200)
SHARE = ("10.50.1.9", 445)
AWAY = ("198.51.100.200", 443)
MINUTE_NS = 60 * 10**9


def watch() -> Lineage:
    return Lineage(architecture(), QUOTED)


def genealogy(mib: float, to: tuple[str, int] = LAPTOP, **said: Any) -> Moved:  # Any: fields of a flow
    amount = int(mib * MIB)
    return moved(
        extract(
            **{"destination": end(to), "account": "svc_report", "objects": [objects("mes.genealogy", rows=amount // 90, bytes=amount)]}
            | said
        )
    )


def sent(mib: float, source: tuple[str, int] = LAPTOP, to: tuple[str, int] = AWAY, **said: Any) -> Moved:  # Any: fields of a flow
    base = {
        "source": end(source), "destination": end(to), "opened_by": "source", "protocol": "tls", "operation": "transfer",
        "depth": "sizes", "bytes": int(mib * MIB), "bytes_back": 2_000, "agent": "tap-egress",
        "protection": {"transport": "tls1.3"}, "completeness": {"state": "encrypted"},
    }  # fmt: skip
    return moved(flow(**(base | said)))


def run(detector: Lineage, *windows: tuple[int, Moved]) -> list[Finding]:
    return [found for at_ns, window in windows for found in detector.observe(later(window, at_ns))]


def test_what_came_in_and_went_off_site_is_one_finding_that_names_both_legs() -> None:
    found = run(watch(), (0, genealogy(10)), (4 * MINUTE_NS, sent(9.8)))
    (finding,) = found
    assert (finding.verdict, finding.severity, finding.source) == ("lineage", "critical", "mes-db")
    assert finding.observed.classes == ["process_ip"]
    said = finding.model_dump()
    assert said["legs"] == [{"from": "mes-db", "to": LAPTOP[0]}, {"from": LAPTOP[0], "to": AWAY[0]}]
    assert said["confidence"] == "high"


def test_an_upload_of_another_size_or_much_later_is_not_joined() -> None:
    assert run(watch(), (0, genealogy(10)), (4 * MINUTE_NS, sent(1))) == []
    assert run(watch(), (0, genealogy(10)), (LOOKBACK_NS + 5 * MINUTE_NS, sent(10))) == []


def test_an_upload_that_was_packed_is_joined_with_less_confidence() -> None:
    (finding,) = run(watch(), (0, genealogy(10)), (4 * MINUTE_NS, sent(4)))
    assert finding.model_dump()["confidence"] == "medium"


def test_three_legs_are_one_chain_from_the_first_host() -> None:
    found = run(watch(), (0, genealogy(10)), (2 * MINUTE_NS, sent(10, LAPTOP, SHARE)), (6 * MINUTE_NS, sent(10, SHARE, AWAY)))
    last = found[-1].model_dump()
    assert [leg["from"] for leg in last["legs"]] == ["mes-db", LAPTOP[0], SHARE[0]]
    assert last["destination"] == AWAY[0]


def test_legs_of_many_windows_are_one_chain_too() -> None:
    windows = [(n * 10**9, genealogy(0.5)) for n in range(20)]
    windows += [(2 * MINUTE_NS + n * 10**9, sent(0.5, LAPTOP, SHARE)) for n in range(20)]
    windows += [(6 * MINUTE_NS + n * 10**9, sent(0.5, SHARE, AWAY)) for n in range(20)]
    last = run(watch(), *windows)[-1].model_dump()
    assert [leg["from"] for leg in last["legs"]] == ["mes-db", LAPTOP[0], SHARE[0]]
    assert (last["source"], last["destination"], last["confidence"]) == ("mes-db", AWAY[0], "high")


def test_a_chain_longer_than_is_shown_keeps_its_first_and_last() -> None:
    hosts = [(f"10.50.1.{n}", 445) for n in range(1, 12)]
    windows = [(0, genealogy(10, hosts[0]))]
    windows += [(n * MINUTE_NS, sent(10, one, other)) for n, (one, other) in enumerate(pairwise(hosts), 1)]
    last = run(watch(), *windows)[-1].model_dump()
    assert (last["legs"][0]["from"], last["legs"][-1]["to"], len(last["legs"])) == ("mes-db", hosts[-1][0], CHAIN_MAX + 1)


def test_what_a_hop_is_declared_for_explains_what_goes_out_on_it() -> None:
    quality = moved(extract(objects=[objects("quality.inspection", columns=("lot",), rows=9000, bytes=10 * MIB)]))
    declared = moved(upload(bytes=10 * MIB))
    assert declared.hop == "lake-upload"
    assert run(watch(), (0, quality), (80 * MINUTE_NS, declared)) == []


def test_a_declared_hop_that_carries_what_it_is_not_declared_for_is_found_by_its_size() -> None:
    stolen = genealogy(10, MW, account="svc_mw")
    found = run(watch(), (0, stolen), (5 * MINUTE_NS, moved(upload(bytes=10 * MIB))))
    assert [(finding.nearest_hop, finding.observed.classes) for finding in found] == [("lake-upload", ["process_ip"])]


def test_telemetry_of_its_own_on_its_own_hop_is_quiet() -> None:
    small = moved(extract(objects=[objects("quality.inspection", columns=("lot",), rows=9, bytes=1000)]))
    assert run(watch(), (0, small), (5 * MINUTE_NS, moved(upload(bytes=10 * MIB)))) == []


def test_small_movements_are_joined_with_nothing() -> None:
    mib = (BYTES_MIN - 1) / MIB
    assert run(watch(), (0, genealogy(mib)), (MINUTE_NS, sent(mib))) == []


def test_behind_a_relay_two_clients_that_fit_are_called_ambiguous() -> None:
    proxy = ("10.30.0.40", 3128)
    into = [genealogy(10, proxy, connection="a"), genealogy(10.1, proxy, connection="b", source=end(("10.20.1.22", 5432)))]
    other = [later(into[1], 0, classes=("quality",))]
    found = run(watch(), (0, into[0]), (0, other[0]), (10**9, sent(10, proxy, AWAY)))
    assert {finding.model_dump()["confidence"] for finding in found} == {"ambiguous"}
    alone = run(watch(), (0, into[0]), (10**9, sent(10, proxy, AWAY)))
    assert [finding.model_dump()["confidence"] for finding in alone] == ["high"]


def test_clocks_that_differ_widen_the_time_behind_a_relay() -> None:
    proxy = ("10.30.0.40", 3128)
    late_ns = 4 * MINUTE_NS
    assert run(watch(), (0, genealogy(10, proxy)), (late_ns, sent(10, proxy, AWAY))) == []
    detector = watch()
    beat = Heartbeat(event_id="1", plant="north", agent="tap-egress", time="2026-04-07T00:00:00Z", clock=Clock(offset_s=240.0, error_s=1.0))
    assert detector.lives(beat) == ()
    assert len(run(detector, (0, genealogy(10, proxy)), (late_ns, sent(10, proxy, AWAY)))) == 1


def test_a_host_that_gathers_from_many_declared_sources_is_a_staging_place() -> None:
    detector = watch()
    sources = [MES_DB, ("10.10.1.10", 4840), ("10.20.1.30", 50004), ("10.30.0.10", 8883)]
    found = [one for place in sources for one in run(detector, (0, genealogy(3, LAPTOP, source=end(place))))]
    assert [(finding.verdict, finding.source) for finding in found] == [("staging", LAPTOP[0])]
    assert "mes-db" in found[0].differences[0].observed


def test_names_and_zones_of_the_lake_are_known() -> None:
    found = run(
        watch(), (0, genealogy(10, MW, account="svc_mw")), (MINUTE_NS, sent(10, MW, LAKE, destination=end(LAKE, (LAKE_NAME, "dns"))))
    )
    assert [finding.destination for finding in found] == ["lake"]


def test_legs_are_counted_by_the_minute_and_remembered_with_the_one_that_is_under_way() -> None:
    detector, window = watch(), moved(extract())
    look = detector.asked(window)
    assert look is not None
    for at_ns in (0, 10**9, MINUTE_NS, 2 * 10**9, MINUTE_NS + 10**9):
        look(later(window, at_ns))
    ((_, (chain, class_, minutes, bytes_)),) = detector.state()["legs"]
    first = window.start_ns // MINUTE_NS
    # What comes late counts in the minute under way.
    assert (chain, class_, bytes_) == (["mes-db"], "quality", 5 * window.bytes)
    assert minutes == [[first, 2 * window.bytes], [first + 1, 3 * window.bytes]]
    detector.changes()
    look(later(window, MINUTE_NS))
    assert detector.changes()["legs"][0][1][3] == 6 * window.bytes
