"""Places off site: the first time, from elsewhere, on the beat, and by what should carry nothing."""

from typing import Any

from moves import DAY_NS, QUOTED, later, moved
from north import LAKE_NAME, MW, architecture, end, flow, upload

from detectors.destinations import BEATS_MIN, CARRIED_BYTES_MIN, LEARNING_NS, PLACES_MAX, Destinations
from detectors.moved import Moved
from detectors.offsite import shipped
from hopwatch.events import Finding


def watch(**options: Any) -> Destinations:  # Any: the detector's own
    return Destinations(architecture(), QUOTED, shipped(), **options)


def out(address: str, name: str | None = None, connection: str | None = None, **said: Any) -> Moved:  # Any: fields of a flow
    names = ((name, "dns"), (name, "sni")) if name else ()
    base = {
        "source": end(MW), "destination": end((address, 443), *names), "opened_by": "source", "protocol": "tls",
        "operation": "transfer", "depth": "sizes", "bytes": 5_000, "bytes_back": 900, "connection": connection or address,
        "protection": {"transport": "tls1.3"}, "completeness": {"state": "encrypted"},
    }  # fmt: skip
    return moved(flow(**(base | said)))


def run(detector: Destinations, *windows: tuple[int, Moved]) -> list[Finding]:
    return [found for at_ns, window in windows for found in detector.observe(later(window, at_ns))]


def test_a_place_never_talked_to_is_said_after_the_time_of_learning_and_once() -> None:
    detector = watch()
    assert run(detector, (0, out("192.0.32.8", "updates.example.net"))) == []
    model = out("192.0.32.9", "api.openai.com")
    found = run(detector, (LEARNING_NS, model), (LEARNING_NS + 10**9, model))
    assert [finding.verdict for finding in found] == ["new-destination"]
    assert found[0].destination == "api.openai.com"
    assert "model-api" in found[0].differences[0].observed


def test_a_place_of_the_first_days_is_no_news_later() -> None:
    detector = watch()
    place = out("192.0.32.8", "updates.example.net")
    assert run(detector, (0, place), (LEARNING_NS, place), (2 * LEARNING_NS, place)) == []


def test_a_declared_place_is_quiet_at_any_time() -> None:
    detector = watch()
    declared = moved(upload())
    assert run(detector, (0, out("192.0.32.8")), (LEARNING_NS, declared)) == []


def test_a_place_that_answers_from_another_country_is_said() -> None:
    countries = {"192.0.32.8": "DE", "192.0.32.9": "US"}
    detector = watch(located=lambda address: (countries[address], ""))
    name = "files.example.net"
    assert run(detector, (0, out("192.0.32.8", name))) == []
    (finding,) = run(detector, (10**9, out("192.0.32.9", name)))
    assert (finding.verdict, finding.severity) == ("new-country", "high")
    assert finding.differences[0].observed == f"{name} (192.0.32.9) in US"


def test_another_address_in_the_same_country_is_no_news() -> None:
    detector = watch(located=lambda address: ("DE", "AS64500 CLOUD"))
    assert run(detector, (0, out("192.0.32.8", "files.example.net")), (10**9, out("192.0.32.9", "files.example.net"))) == []


def test_a_place_of_another_operator_is_said() -> None:
    operators = {"192.0.32.8": "AS64500 CLOUD", "192.0.32.9": "AS64501 OTHER"}
    detector = watch(located=lambda address: ("", operators[address]))
    found = run(detector, (0, out("192.0.32.8", "files.example.net")), (10**9, out("192.0.32.9", "files.example.net")))
    assert [(one.verdict, one.differences[0].observed) for one in found] == [
        ("new-country", "files.example.net (192.0.32.9) in AS64501 OTHER")
    ]


def test_a_declared_zone_that_lies_elsewhere_than_it_says_is_said_at_once() -> None:
    """The lake is declared in DE."""
    declared = moved(upload())
    assert run(watch(located=lambda address: ("DE", "AS64500 CLOUD")), (0, declared)) == []
    found = run(watch(located=lambda address: ("US", "")), (0, declared), (10**9, declared))
    assert [(one.verdict, one.differences[0].declared) for one in found] == [("new-country", "lake in DE")]


def test_a_declared_name_that_moves_to_a_zone_in_another_country_is_said_without_any_file_of_locations() -> None:
    acme, terms = "  acme-rs:    {level: 5", "terms: {ref: VND-031, until: 2027-01-31}"
    elsewhere = f"  lake-us: {{level: 5, off_site: true, country: US, operator: CloudCo, {terms}, nets: [192.0.2.0/24]}}\n"
    plant = architecture(zones=(acme, elsewhere + acme))
    there = end(("192.0.2.8", 443), (LAKE_NAME, "dns"), (LAKE_NAME, "sni"))
    moved_there = moved(upload(destination=there), plant=plant)
    detector = Destinations(plant, QUOTED, shipped())
    found = run(detector, (0, moved(upload(), plant=plant)), (10**9, moved_there), (2 * 10**9, moved_there))
    assert [(one.verdict, one.differences[0].declared, one.differences[0].observed) for one in found] == [
        ("new-country", "lake in DE", "lake (192.0.2.8) in US")
    ]


def test_a_place_that_was_located_elsewhere_than_declared_has_not_moved_once_nobody_locates_it() -> None:
    said = iter(["IE", ""])
    detector = watch(located=lambda address: (next(said), ""))
    assert [one.verdict for one in run(detector, (0, moved(upload())))] == ["new-country"]
    assert run(detector, (10**9, moved(upload()))) == []


def beats(pauses_s: list[float]) -> list[Finding]:
    detector, at_s, found = watch(), 0.0, []
    for number, pause_s in enumerate(pauses_s):
        found += run(detector, (int(at_s * 1e9), out("192.0.32.8", connection=f"c{number}")))
        at_s += pause_s
    return found


def test_connections_as_regular_as_a_program_are_a_beacon() -> None:
    (finding,) = beats([60.0 + (number % 3) for number in range(BEATS_MIN + 5)])
    assert finding.verdict == "beacon"
    assert finding.differences[0].observed == "a connection every 61 s, give or take 1%"


def test_a_person_who_looks_something_up_is_no_beacon() -> None:
    assert beats([20.0 + (number * 7919 % 97) for number in range(60)]) == []


def test_windows_of_one_connection_are_no_beats() -> None:
    detector = watch()
    window = out("192.0.32.8")
    assert run(detector, *((number * 60 * 10**9, window) for number in range(30))) == []


def test_names_that_carry_a_file_out_are_a_carrier_and_a_days_look_ups_are_not() -> None:
    def asked(amount: int) -> Moved:
        return out("192.0.32.53", protocol="dns", operation="query", transport="udp", bytes=amount)

    detector = watch()
    assert run(detector, (0, asked(CARRIED_BYTES_MIN - 1))) == []
    (finding,) = run(detector, (10**9, asked(1)), (2 * 10**9, asked(1)))
    assert (finding.verdict, finding.severity) == ("carrier", "high")
    assert run(detector, (DAY_NS, asked(CARRIED_BYTES_MIN - 1))) == []


def test_places_of_one_host_are_bounded() -> None:
    detector = watch()
    run(detector, *((number * 10**9, out(f"192.0.{32 + number // 250}.{number % 250 + 1}")) for number in range(PLACES_MAX + 50)))
    ((_, talker),) = detector.memories()["talkers"].items()
    assert len(talker.places) == PLACES_MAX
