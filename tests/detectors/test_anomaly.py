"""Amounts without a limit: rhythms are learnt, what breaks them is said once, and never more often than a person can look."""

import itertools
import json
from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from moves import DAY_NS, HOUR_NS, QUOTED, later, moved
from north import NIGHT, architecture, extract, objects

import detectors.anomaly
from detectors.anomaly import ALERTS_A_DAY, Anomaly, days_of
from detectors.online import Online
from detectors.slow import Slow
from detectors.verdict import VerdictDetector
from detectors.volume import SLOT_S, Volumes, threshold
from hopwatch.declared.model import Architecture
from hopwatch.events import Finding, time_ns, time_text

BERLIN = ZoneInfo("Europe/Berlin")
# A Monday, in winter time.
MONDAY_S = 1_767_567_600
MIB = 1 << 20
DAY_S = 86_400


def shift(second: int) -> int:
    """Bytes of ten minutes of a pair that follows a shift, with a few per cent that come from the clock."""
    hour = (second - MONDAY_S) % DAY_S // 3600
    working = (second - MONDAY_S) // DAY_S % 7 < 5
    wobble = 1 + 0.05 * ((second // SLOT_S * 7919) % 97 / 97 - 0.5)
    return int((40 if working and 6 <= hour < 22 else 4) * MIB * wobble)


def added(pairs: Volumes | Slow, key: str, start_s: int, amount: int, *, excused: bool = False) -> list[Any]:
    """Count bytes as the question does; what ended before them shows is returned."""
    held = pairs.memory.hold(key)
    found, _ = pairs.reach(held, start_s)
    held.entry.bytes += amount
    held.entry.excused |= excused
    return found


def fed(volumes: Volumes, days: int, first_s: int = MONDAY_S) -> list[object]:
    found: list[object] = []
    for second in range(first_s, first_s + days * DAY_S, SLOT_S):
        found += added(volumes, "mes|mw", second, shift(second))
    return found


def test_a_shift_rhythm_of_four_weeks_is_quiet() -> None:
    assert fed(Volumes(BERLIN), 28) == []


def test_a_night_that_carries_what_a_day_does_is_said_with_what_was_expected() -> None:
    volumes = Volumes(BERLIN)
    fed(volumes, 14)
    night_s = MONDAY_S + 14 * DAY_S + 2 * 3600
    found = added(volumes, "mes|mw", night_s, 40 * MIB) + volumes.advance(night_s + SLOT_S)
    assert [(rare.start_s, rare.bytes) for rare in found] == [(night_s, 40 * MIB)]
    assert 3 * MIB < found[0].expected < 5 * MIB
    assert 9 < found[0].ratio < 11


def test_nothing_is_said_in_the_first_week() -> None:
    volumes = Volumes(BERLIN)
    fed(volumes, 6)
    night_s = MONDAY_S + 6 * DAY_S + 2 * 3600
    assert added(volumes, "mes|mw", night_s, 4_000 * MIB) + volumes.advance(night_s + SLOT_S) == []


def test_an_extraction_of_a_day_does_not_become_usual_by_the_evening() -> None:
    volumes = Volumes(BERLIN)
    fed(volumes, 14)
    said = 0
    for second in range(MONDAY_S + 14 * DAY_S, MONDAY_S + 15 * DAY_S, SLOT_S):
        said += len(added(volumes, "mes|mw", second, 10 * shift(second)))
    assert said > 100


def test_people_who_ask_now_and_then_are_quiet_and_one_who_takes_it_all_is_not() -> None:
    volumes = Volumes(BERLIN)
    found = []
    for day in range(28):
        for visit in range(8):
            at = MONDAY_S + day * DAY_S + (8 + visit) * 3600
            found += added(volumes, "mes|laptop", at, (1 + (day * 8 + visit) * 7919 % 13) * MIB // 4)
    assert found == []
    at = MONDAY_S + 28 * DAY_S + 10 * 3600
    found = added(volumes, "mes|laptop", at, 500 * MIB) + volumes.advance(at + SLOT_S)
    assert [rare.bytes for rare in found] == [500 * MIB]


def test_a_third_more_every_day_is_found_within_a_week_and_named_by_its_first_day() -> None:
    day_of = days_of(BERLIN)
    slow = Slow(day_of)
    found = []
    for day in range(40):
        at = MONDAY_S + day * DAY_S + 3 * 3600
        usual = (90 if day % 7 < 5 else 30) * MIB * (100 + day * 7919 % 11) // 105
        found += added(slow, "mes|mw", at, usual * (130 if day >= 30 else 100) // 100)
    assert {more.since for more in found} >= {day_of(MONDAY_S) + 30}
    assert found[0].since == day_of(MONDAY_S) + 30
    assert found[0].days <= 7
    assert 1.2 < found[0].ratio < 1.5


def test_one_day_of_twice_the_amount_leaves_no_trend_behind() -> None:
    slow = Slow(days_of(BERLIN))
    found = []
    for day in range(60):
        usual = (90 if day % 7 < 5 else 3) * MIB * (100 + day * 7919 % 11) // 105
        found += added(slow, "mes|mw", MONDAY_S + day * DAY_S, usual * (5 if day == 30 else 2) // 2)
    assert found == []


def test_a_tenth_more_is_a_plant_that_grows() -> None:
    slow = Slow(days_of(BERLIN))
    found = []
    for day in range(90):
        usual = 90 * MIB * (100 + day * 7919 % 3) // 100
        found += added(slow, "mes|mw", MONDAY_S + day * DAY_S, usual * (110 if day >= 30 else 100) // 100)
    assert found == []


def test_weekdays_that_differ_are_no_drift() -> None:
    slow = Slow(days_of(BERLIN))
    found = []
    for day in range(60):
        found += added(slow, "mes|mw", MONDAY_S + day * DAY_S, (90 if day % 7 < 5 else 3) * MIB * (100 + day * 7919 % 11) // 105)
    assert found == []


def test_memory_taken_up_again_says_the_same() -> None:
    whole = Volumes(BERLIN)
    fed(whole, 10)
    again = Volumes(BERLIN)
    again.memory.restore(json.loads(json.dumps(whole.memory.state())))
    first_s = MONDAY_S + 10 * DAY_S
    assert fed(again, 5, first_s) == fed(whole, 5, first_s)
    assert again.memory.state() == whole.memory.state()


def test_no_more_alerts_a_day_than_a_person_can_look_at() -> None:
    anomaly = Anomaly(architecture(), QUOTED)
    window = moved(extract(), bytes=4 * MIB, bytes_back=0)
    pairs = [f"10.20.1.{host}" for host in range(20)]
    ends = {pair: moved(extract(source={"address": pair, "port": 5432, "names": []}), bytes=4 * MIB, bytes_back=0) for pair in pairs}
    said = []
    for slot in range(15 * 144):
        at = slot * SLOT_S * 10**9
        for number, pair in enumerate(pairs):
            rare = slot == 14 * 144 + 80
            wobble = 4 * MIB + (slot * 7919 + number) % 97 * 1000
            said += anomaly.observe(later(ends[pair], at, bytes=400 * MIB if rare else wobble))
    assert len({finding.finding_id for finding in said}) == len(pairs)
    assert [finding.severity for finding in said].count("medium") == ALERTS_A_DAY
    assert {finding.severity for finding in said} == {"medium", "info"}
    assert window.bytes == 4 * MIB


def test_a_threshold_is_logged_when_it_is_learnt_and_when_it_has_doubled_and_a_restart_says_nothing_again() -> None:
    def days(anomaly: Anomaly, first: int, last: int, times: int) -> list[Finding]:
        said: list[Finding] = []
        for slot in range(first * 144, last * 144):
            at = slot * SLOT_S * 10**9
            said += anomaly.observe(later(window, at, bytes=times * (4 * MIB + slot * 7919 % 97 * 10_000)))
            said += anomaly.advance(window.start_ns + at)
        return [one for one in said if one.verdict == "threshold"]

    window = moved(extract(), bytes_back=0)
    anomaly = Anomaly(architecture(), QUOTED)
    assert days(anomaly, 0, 6, 1) == []
    (learnt,) = days(anomaly, 6, 10, 1)
    assert (learnt.severity, learnt.source, learnt.destination, learnt.windows) == ("info", "mes-db", "mw", 1)
    assert learnt.differences[0].declared == "none logged before"
    again = Anomaly(architecture(), QUOTED)
    again.restore(json.loads(json.dumps(anomaly.state())))
    assert again.advance(window.start_ns + 10 * DAY_NS - SLOT_S * 10**9) == []
    changed = days(again, 10, 40, 4)
    assert len(changed) > 1 and {one.finding_id for one in changed} == {learnt.finding_id}
    assert f"more than {learnt.observed.bytes} bytes in ten minutes since {learnt.last_seen[:10]}" in [
        one.declared for one in changed[0].differences
    ]
    logged = [one.observed.bytes for one in (learnt, *changed)]
    assert all(not 1 / 2 < later_ / before < 2 for before, later_ in itertools.pairwise(logged))


def test_a_threshold_that_is_logged_is_the_one_that_is_judged_by() -> None:
    volumes = Volumes(BERLIN)
    fed(volumes, 28)
    pair = volumes.memory.of("mes|mw")
    limit = threshold(pair)
    assert limit is not None
    hour = max((hour for hour in pair.hours if hour < 24), key=lambda hour: pair.hours[hour].mean)
    at = MONDAY_S + 28 * DAY_S + hour * 3600
    for times, rare in ((1.02, 1), (0.98, 0)):
        again = Volumes(BERLIN)
        again.memory.restore(json.loads(json.dumps(volumes.memory.state())))
        again.advance(at)
        assert len(added(again, "mes|mw", at, int(times * limit)) + again.advance(at + SLOT_S)) == rare


def test_no_more_thresholds_are_logged_a_day_than_allowed_and_none_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors.anomaly, "THRESHOLDS_A_DAY", 2)
    anomaly = Anomaly(architecture(), QUOTED)
    ends = [moved(extract(source={"address": f"10.20.1.{n}", "port": 5432, "names": []}), bytes=4 * MIB, bytes_back=0) for n in range(5)]
    said: list[tuple[int, str]] = []
    for hour in range(12 * 24):
        for window in ends:
            anomaly.observe(later(window, hour * HOUR_NS))
        found = anomaly.advance(ends[0].start_ns + hour * HOUR_NS)
        said += [(hour // 24, one.source) for one in found if one.verdict == "threshold"]
    assert max(Counter(day for day, _ in said).values()) == 2
    assert len({source for _, source in said}) == 5


def test_a_slot_under_a_ticket_is_neither_told_nor_learnt() -> None:
    volumes = Volumes(BERLIN)
    fed(volumes, 14)
    before = volumes.memory.state()
    night_s = MONDAY_S + 14 * DAY_S + 2 * 3600
    volumes.advance(night_s)
    known = volumes.memory.state()[0][1][3:]
    assert added(volumes, "mes|mw", night_s, 400 * MIB, excused=True) + volumes.advance(night_s + SLOT_S) == []
    assert volumes.memory.state()[0][1][3:] == known != before[0][1][3:]
    assert len(added(volumes, "mes|mw", night_s + SLOT_S, 400 * MIB) + volumes.advance(night_s + 2 * SLOT_S)) == 1


def test_what_follows_an_alert_within_a_week_belongs_to_it_and_what_comes_later_is_an_alert_of_its_own() -> None:
    anomaly = Anomaly(architecture(), QUOTED)
    window = moved(extract(), bytes=4 * MIB, bytes_back=0)
    found = []
    for slot in range(40 * 144):
        rare = slot // 144 in (14, 16, 30) and slot % 144 == 80
        wobble = 4 * MIB + slot * 7919 % 97 * 1000
        found += anomaly.observe(later(window, slot * SLOT_S * 10**9, bytes=400 * MIB if rare else wobble))
    volumes = [finding for finding in found if finding.verdict == "volume"]
    assert len({finding.finding_id for finding in volumes}) == 2
    assert [finding.finding_id == volumes[0].finding_id for finding in volumes] == [True, True, False]


def test_an_interval_that_was_lost_in_part_teaches_nothing() -> None:
    anomaly = Anomaly(architecture(), QUOTED)
    window = moved(extract(), bytes=MIB)
    for hour in range(48):
        assert anomaly.observe(later(window, hour * HOUR_NS, complete=False)) == ()
    assert len(anomaly.memories()["volumes"]) == 0
    anomaly.observe(later(window, 3 * DAY_NS))
    assert len(anomaly.memories()["volumes"]) == 1


def grown(days: int, *, first: int, percent: int, plant: Architecture | None = None, hops: int = 1) -> list[Finding]:
    """What is said of a hop's nights, the last five of which move more, and of a neighbour's between the same ends."""
    judge = VerdictDetector(plant or architecture())
    online = Online(judge, [Anomaly(judge.architecture, judge.quoted)])
    found = []
    for day in range(days):
        for hop in range(hops):
            wobble = 100 + (day * 7919 + hop) % 11 - 5
            usual = (90 if day % 7 < 5 else 30) * MIB * wobble // 100 * (9 if hop else 1)
            size = usual * (100 + percent) // 100 if day >= first and not hop else usual
            night = extract(
                at=time_text(time_ns(NIGHT) + day * DAY_NS), n=day, application="other/1" if hop else "quality-extract/2.1",
                account="svc_other" if hop else "svc_mw", objects=[objects("quality.inspection", columns=("lot",), rows=9, bytes=size)],
            )  # fmt: skip
            found += [one for one in online.observe(night) if isinstance(one, Finding)]
    found += [one for one in online.advance(time_ns(NIGHT) + days * DAY_NS) if isinstance(one, Finding)]
    return [one for one in found if one.verdict == "slow"]


def test_three_tenths_more_on_an_approved_hop_for_five_days_are_found_by_the_hop() -> None:
    found = grown(35, first=30, percent=30)
    assert len({one.finding_id for one in found}) == 1
    finding = found[0]
    assert (finding.nearest_hop, finding.source, finding.destination) == ("extract-quality", "mes-db", "mw")
    assert finding.first_seen.startswith("2026-05-07")
    assert grown(35, first=30, percent=0) == []


def test_growth_under_an_exception_is_quiet_and_teaches_nothing() -> None:
    lines = "".join(
        f"\n  line-{day}: {{hop: extract-quality, limit: [2 GiB / 1d], when: 2026-05-{day:02} 00:00-24:00, ticket: CHG-{day}, by: a.ruiz}}"
        for day in range(7, 12)
    )
    planned = architecture(exceptions=("exceptions:", f"exceptions:{lines}"))
    assert grown(35, first=30, percent=30, plant=planned) == []
    # After the ticket what has grown is growth again.
    assert grown(40, first=30, percent=30, plant=planned)[0].first_seen.startswith("2026-05-12")


def test_a_larger_hop_between_the_same_ends_hides_no_growth() -> None:
    second = (
        "  lake-upload:\n    who: svc_lake",
        "  big-copy:\n    {who: svc_other, from: mes-db, to: mw, via: c-ops, may: [select], what: [inspection], limit: 9 GiB / 1d,\n"
        '     keep: 7d, why: copies, approved: {by: a.ruiz, ticket: CHG-1}, without: ["*.operator_name"]}\n'
        "  lake-upload:\n    who: svc_lake",
    )
    account = ("  svc_lake: {kind", "  svc_other: {kind: service, owner: other, from: [mw], auth: scram-sha-256}\n  svc_lake: {kind")
    found = grown(35, first=30, percent=30, plant=architecture(second=second, account=account), hops=2)
    assert {one.nearest_hop for one in found} == {"extract-quality"}
