"""Windows of plant time, both sides of every edge and through both clock changes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch.declared.schedule import Schedule

BERLIN = ZoneInfo("Europe/Berlin")


def covers(when: str, instant: str) -> bool:
    return Schedule.parse(when).covers(datetime.fromisoformat(instant), BERLIN)


def test_start_is_inside_and_end_is_outside() -> None:
    assert not covers("daily 01:30-03:00", "2026-04-06T23:29:59Z")
    assert covers("daily 01:30-03:00", "2026-04-06T23:30:00Z")
    assert covers("daily 01:30-03:00", "2026-04-07T00:59:59Z")
    assert not covers("daily 01:30-03:00", "2026-04-07T01:00:00Z")


def test_weekday_holds_on_that_day_of_plant_time_only() -> None:
    assert covers("Tue 08:00-12:00", "2026-04-07T06:00:00Z")
    assert not covers("Tue 08:00-12:00", "2026-04-08T06:00:00Z")
    assert covers("Tue 00:00-24:00", "2026-04-06T22:00:00Z")  # Monday in UTC, Tuesday in Berlin
    assert covers("Mon-Fri 06:00-22:00", "2026-04-10T05:00:00Z")
    assert not covers("Mon-Fri 06:00-22:00", "2026-04-11T05:00:00Z")
    assert covers("Sat-Mon 06:00-22:00", "2026-04-12T05:00:00Z")


def test_last_day_is_the_last_of_each_month_leap_years_included() -> None:
    assert covers("last day 18:00-24:00", "2028-02-29T20:00:00Z")
    assert not covers("last day 18:00-24:00", "2028-02-28T20:00:00Z")
    assert covers("last day 18:00-24:00", "2027-02-28T20:00:00Z")


def test_date_holds_on_its_day_only() -> None:
    assert covers("2026-04-04 00:00-06:00", "2026-04-03T22:00:00Z")
    assert not covers("2026-04-04 00:00-06:00", "2026-04-04T04:00:00Z")
    assert not covers("2026-04-04 00:00-06:00", "2026-04-05T00:00:00Z")


def test_window_past_midnight_belongs_to_the_day_it_starts_on() -> None:
    assert covers("Fri 22:00-02:00", "2026-04-10T23:30:00Z")  # Saturday 01:30 in Berlin
    assert not covers("Fri 22:00-02:00", "2026-04-09T23:30:00Z")  # Friday 01:30 in Berlin


def test_repeated_hour_is_inside_both_times() -> None:
    # 2026-10-25 02:00-03:00 happens twice in Berlin: 00:30Z and 01:30Z are both 02:30.
    assert covers("daily 02:00-03:00", "2026-10-25T00:30:00Z")
    assert covers("daily 02:00-03:00", "2026-10-25T01:30:00Z")
    assert not covers("daily 02:00-03:00", "2026-10-25T02:00:00Z")


def test_window_over_the_skipped_hour_ends_an_hour_later() -> None:
    # 2026-03-29 02:00-03:00 does not exist in Berlin: 00:59:59Z is 01:59:59, 01:00Z is 03:00.
    assert covers("daily 01:30-03:00", "2026-03-29T00:30:00Z")
    assert covers("daily 01:30-03:00", "2026-03-29T01:59:59Z")
    assert not covers("daily 01:30-03:00", "2026-03-29T02:00:00Z")
    assert covers("daily 02:15-02:45", "2026-03-29T01:30:00Z")


def test_window_beside_the_skipped_hour_ends_on_time() -> None:
    assert not covers("daily 00:30-02:00", "2026-03-29T01:00:00Z")
    assert not covers("daily 03:00-04:00", "2026-03-29T02:00:00Z")


@given(
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    st.sampled_from(["Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Asia/Kolkata"]),
)
def test_daily_window_agrees_with_the_clock_on_the_wall_away_from_clock_changes(start: int, end: int, instant: datetime, zone: str) -> None:
    timezone = ZoneInfo(zone)
    if start >= end or end == 1440:
        return
    offsets = {(instant + timedelta(hours=hours)).astimezone(timezone).utcoffset() for hours in range(-48, 49, 2)}
    if len(offsets) > 1:
        return
    schedule = Schedule.parse(f"daily {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}")
    wall = instant.astimezone(timezone)
    assert schedule.covers(instant, timezone) == (start <= wall.hour * 60 + wall.minute < end)


@pytest.mark.parametrize(
    "text",
    ["daily", "daily 1:30-3:00", "daily 24:00-24:00", "daily 01:30-01:30", "Die 08:00-12:00", "2026-02-30 00:00-06:00", "daily 01:60-02:00",
     "Tue- 08:00-12:00", "first day 08:00-12:00", "daily 01:30-24:01"],
)  # fmt: skip
def test_text_that_is_no_schedule_is_refused_by_its_own_words(text: str) -> None:
    with pytest.raises(ValueError, match=text[:3]):
        Schedule.parse(text)
