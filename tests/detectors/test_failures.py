"""A job that is set up wrongly is apart from somebody who tries doors."""

from moves import HOUR_NS, QUOTED, later, moved
from north import extract, objects

from detectors.failures import PROBED_MIN, REPEATED_MIN, Failures
from hopwatch.events import Finding


def refused(*, things: int, times: int, seconds: int = 1, detector: Failures | None = None) -> list[Finding]:
    """So many refusals, of so many different tables, so many seconds apart."""
    detector = detector or Failures(QUOTED)
    found: list[Finding] = []
    for number in range(times):
        window = moved(extract(operation="refused", objects=[objects(f"mes.table_{number % things}")], messages=1))
        found += detector.observe(later(window, number * seconds * 10**9))
    return found


def test_three_tables_refused_again_and_again_are_one_quiet_finding() -> None:
    (finding,) = refused(things=3, times=200)
    assert (finding.verdict, finding.severity) == ("repeated-refusals", "low")
    assert finding.differences[0].observed == f"{REPEATED_MIN} refusals of 4 different things within an hour"


def test_three_hundred_tables_are_a_probe_said_before_most_of_them_were_tried() -> None:
    (finding,) = refused(things=300, times=300)
    assert (finding.verdict, finding.severity) == ("probing", "high")
    assert finding.windows == 1
    # One of the different things is the account itself.
    assert f"{PROBED_MIN - 1} refusals" in finding.differences[0].observed


def test_a_few_refusals_a_day_are_nothing() -> None:
    assert refused(things=5, times=REPEATED_MIN - 1) == []
    assert refused(things=3, times=24 * 30, seconds=3600) == []


def test_a_new_hour_begins_anew() -> None:
    detector = Failures(QUOTED)
    assert len(refused(things=300, times=300, detector=detector)) == 1
    window = moved(extract(operation="refused", objects=[objects("mes.other")], messages=1))
    assert detector.observe(later(window, 2 * HOUR_NS)) == ()


def test_what_is_answered_is_no_refusal() -> None:
    assert Failures(QUOTED).observe(moved(extract())) == ()
