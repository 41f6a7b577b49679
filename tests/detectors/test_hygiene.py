"""The declaration itself: limits, ends, pilots."""

from datetime import date

from moves import DAY_NS, QUOTED, later, moved
from north import NIGHT, architecture, extract, objects

from detectors.hygiene import BROAD_DAYS, Hygiene
from hopwatch.declared.model import Architecture
from hopwatch.events import Finding, time_ns

START_NS = time_ns(NIGHT)


def watch(plant: Architecture | None = None) -> Hygiene:
    return Hygiene(plant or architecture(), QUOTED)


def night(detector: Hygiene, rows: int, day: int) -> list[Finding]:
    window = moved(extract(objects=[objects("quality.inspection", columns=("lot",), rows=rows, bytes=rows * 90)]))
    return [*detector.observe(later(window, day * DAY_NS)), *detector.advance(START_NS + day * DAY_NS)]


def said(found: list[Finding], verdict: str) -> list[tuple[str, str]]:
    return [(finding.differences[0].declared, finding.differences[0].observed) for finding in found if finding.verdict == verdict]


def test_a_limit_of_which_more_than_four_fifths_are_used_is_drifting() -> None:
    assert said(night(watch(), 160_000, 0), "drifting") == []
    assert said(night(watch(), 170_000, 0), "drifting") == [("extract-quality: 200k rows / 1h", "85% of it used: 170000 rows")]


def test_a_limit_far_above_every_peak_of_thirty_days_is_broad_and_said_once() -> None:
    detector = watch()
    found = [one for day in range(BROAD_DAYS) for one in night(detector, 24_000, day)]
    assert said(found, "broad") == []
    later_ = [one for day in range(BROAD_DAYS, BROAD_DAYS + 5) for one in night(detector, 24_000, day)]
    rows = [one for one in said(later_, "broad") if "rows / 1h" in one[0]]
    assert rows == [("extract-quality: 200k rows / 1h", "at most 24000 in 30 days, 12% of it")]


def test_one_large_night_of_the_month_keeps_a_limit_from_being_broad() -> None:
    detector = watch()
    found = [one for day in range(BROAD_DAYS + 5) for one in night(detector, 100_000 if day == 20 else 1_000, day)]
    assert [one for one in said(found, "broad") if "rows / 1h" in one[0]] == []


def test_ends_are_said_thirty_seven_and_one_day_ahead() -> None:
    detector = watch()
    # acme and its hop end on 2026-06-30.
    first = (date(2026, 6, 30) - date(2026, 4, 7)).days
    found = [one for day in range(first + 3) for one in detector.advance(START_NS + day * DAY_NS)]
    assert [one for one in said(found, "ending") if one[0].startswith("account acme")] == [
        ("account acme until 2026-06-30", "30 days left"),
        ("account acme until 2026-06-30", "7 days left"),
        ("account acme until 2026-06-30", "1 day left"),
    ]


def test_an_end_whose_day_nobody_looked_at_is_said_on_the_next_and_once() -> None:
    detector = watch()
    first = (date(2026, 6, 30) - date(2026, 4, 7)).days
    found = [one for left in (20, 19, 5, 4) for one in detector.advance(START_NS + (first - left) * DAY_NS)]
    assert [one[1] for one in said(found, "ending") if one[0].startswith("account acme")] == ["20 days left", "5 days left"]
    again = watch()
    again.restore(detector.state())
    assert said(list(again.advance(START_NS + (first - 3) * DAY_NS)), "ending") == []


def test_a_hop_that_another_covers_is_said_once() -> None:
    same = (
        "  again:\n    {who: svc_edge, from: opc-l1, to: uns, via: c-edge, may: [publish], what: [uns-events], when: daily 06:00-22:00,\n"
    )
    plant = architecture(again=("  extract-quality:", same + "     why: again, limit: 4 MiB / 1h, keep: 24h}\n  extract-quality:"))
    detector = watch(plant)
    found = [one for day in range(3) for one in detector.advance(START_NS + day * DAY_NS)]
    assert [(one.source, one.severity) for one in found if one.verdict == "overshadowed"] == [("again", "info")]
    assert said(found, "overshadowed") == [("again: again", "publish-uns allows everything that it does")]


def test_a_pilot_is_said_on_its_sixty_first_day_and_one_that_was_closed_is_not() -> None:
    pilot = architecture(pilot=("why: OEE forecast UC-07,", "why: OEE forecast UC-07, tags: [pilot],"),
                         approved=("CHG-4290, until: 2026-10-01", "CHG-4290, date: 2026-04-01, until: 2026-05-31"))  # fmt: skip
    window = moved(extract(), hop="ml-features")

    def runs(last_day: int) -> list[int]:
        detector = watch(pilot)
        found: dict[int, list[tuple[str, str]]] = {}
        for day in range(80):
            seen = list(detector.advance(START_NS + day * DAY_NS))
            seen += detector.observe(later(window, START_NS - window.start_ns + day * DAY_NS)) if day <= last_day else ()
            found[day] = said(seen, "ending")
        # The first day looked at is the sixth of the pilot.
        return [day + 6 for day, ends in found.items() if any("runs since" in observed for _, observed in ends)]

    assert runs(79) == [61]
    assert runs(53) == []
