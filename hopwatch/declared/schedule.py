"""Wall-clock windows as the declaration writes them: ``daily 01:30-03:00``, ``Tue 08:00-12:00``, ``last day 18:00-24:00``.

Every window is plant time. Daylight saving is decided so that a job that runs as planned is never reported:
an hour that is repeated lies inside both times, and a window that covers a skipped hour ends that hour later, so
that it is never shorter than on any other day. A window whose end is not after its start runs past midnight and
belongs to the day it starts on.
"""

import calendar
import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SCHEDULE_PATTERN = (
    r"^(daily|last day|\d{4}-\d{2}-\d{2}|(Mon|Tue|Wed|Thu|Fri|Sat|Sun)([,-](Mon|Tue|Wed|Thu|Fri|Sat|Sun))*) "
    r"\d{2}:\d{2}-\d{2}:\d{2}$"
)

_EXPECTED = (
    'expected a day and two times such as "daily 01:30-03:00", "Tue 08:00-12:00", "last day 18:00-24:00" or "2026-04-04 00:00-06:00"'
)
_WHEN = re.compile(r"(?P<days>.+) (?P<h1>\d{2}):(?P<m1>\d{2})-(?P<h2>\d{2}):(?P<m2>\d{2})", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DAY_MINUTES = 24 * 60


class Days(StrEnum):
    """Which days a schedule names."""

    DAILY = "daily"
    WEEKDAYS = "weekdays"
    LAST_DAY = "last day"
    DATE = "date"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A window of plant time that returns on the days named.

    ``start_minute`` and ``end_minute`` count from the midnight that starts the day, in wall time; the end is
    outside the window and may lie on the next day (over 1440).
    """

    days: Days
    start_minute: int
    end_minute: int
    weekdays: frozenset[int] = frozenset()
    on: date | None = None
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text

    def covers(self, instant_utc: datetime, timezone: tzinfo) -> bool:
        """Whether the instant (aware) lies inside the window as the plant's clocks show it."""
        wall = instant_utc.astimezone(timezone).replace(tzinfo=None, fold=0)
        # A window may have started yesterday, by running past midnight or by a skipped hour at midnight.
        return any(self._covers_on(day, wall, timezone) for day in (wall.date(), wall.date() - timedelta(days=1)))

    def last_day(self) -> date | None:
        """The last day on which the window can open; None if it returns for ever."""
        return self.on if self.days is Days.DATE else None

    def _covers_on(self, day: date, wall: datetime, timezone: tzinfo) -> bool:
        if not self._opens_on(day):
            return False
        midnight = datetime(day.year, day.month, day.day)
        start = midnight + timedelta(minutes=self.start_minute)
        end = midnight + timedelta(minutes=self.end_minute)
        return start <= wall < end + _skipped(start, end, timezone)

    def _opens_on(self, day: date) -> bool:
        match self.days:
            case Days.DAILY:
                return True
            case Days.WEEKDAYS:
                return day.weekday() in self.weekdays
            case Days.LAST_DAY:
                return day.day == calendar.monthrange(day.year, day.month)[1]
            case Days.DATE:
                return day == self.on

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read ``daily 01:30-03:00``.

        Raises:
            ValueError: the text is no schedule; the message says what one looks like.
        """
        match = _WHEN.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}": {_EXPECTED}')
        start = _minute(text, match["h1"], match["m1"])
        end = _minute(text, match["h2"], match["m2"])
        if start == _DAY_MINUTES:
            raise ValueError(f'"{text}": expected a start before 24:00')
        if start == end:
            raise ValueError(f'"{text}": expected an end other than the start, a whole day is 00:00-24:00')
        if end < start:
            end += _DAY_MINUTES
        days = match["days"]
        if days in (Days.DAILY.value, Days.LAST_DAY.value):
            return cls(Days(days), start, end, text=text)
        if _DATE.fullmatch(days):
            try:
                return cls(Days.DATE, start, end, on=date.fromisoformat(days), text=text)
            except ValueError as error:
                raise ValueError(f'"{text}": {days} is no day of the calendar') from error
        return cls(Days.WEEKDAYS, start, end, weekdays=_weekdays(text, days), text=text)


def _skipped(start: datetime, end: datetime, timezone: tzinfo) -> timedelta:
    """How much of the wall time between start and end the clocks skip.

    In a gap ``fold=0`` answers with the offset before it and ``fold=1`` with the one after (PEP 495), so the two ends
    see the change exactly when the window overlaps it. The end is outside the window, hence the microsecond.
    """
    before = start.replace(tzinfo=timezone, fold=0).utcoffset()
    after = (end - timedelta(microseconds=1)).replace(tzinfo=timezone, fold=1).utcoffset()
    if before is None or after is None:
        return timedelta(0)
    return max(after - before, timedelta(0))


def _minute(text: str, hour: str, minute: str) -> int:
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > _DAY_MINUTES:
        raise ValueError(f'"{text}": {hour}:{minute} is no time of day, expected 00:00 to 24:00')
    return value


def _weekdays(text: str, days: str) -> frozenset[int]:
    named: set[int] = set()
    for part in days.split(","):
        first, _, last = part.partition("-")
        if first not in WEEKDAYS or (last and last not in WEEKDAYS) or part.endswith("-"):
            raise ValueError(f'"{text}": {_EXPECTED}')
        from_day = WEEKDAYS.index(first)
        to_day = WEEKDAYS.index(last) if last else from_day
        named.update(day % 7 for day in range(from_day, to_day + 1 if to_day >= from_day else to_day + 8))
    return frozenset(named)
