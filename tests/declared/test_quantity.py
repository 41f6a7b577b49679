"""Quantities read what the declaration writes, exactly, and refuse what two people would read differently."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch.declared.quantity import Duration, Factor, Limit, Period, Unit


@pytest.mark.parametrize(
    ("text", "amount", "unit", "period", "per_host"),
    [
        ("200k rows / 1h", 200_000, Unit.ROWS, Period.HOUR, False),
        ("2M rows / 1d", 2_000_000, Unit.ROWS, Period.DAY, False),
        ("300 MiB / 1d", 300 * 2**20, Unit.BYTES, Period.DAY, False),
        ("20 MiB / 1d per host", 20 * 2**20, Unit.BYTES, Period.DAY, True),
        ("1.5 GiB / 1h", 3 * 2**29, Unit.BYTES, Period.HOUR, False),
        ("12 objects / 1d", 12, Unit.OBJECTS, Period.DAY, False),
        ("20 GiB / 30d", 20 * 2**30, Unit.BYTES, Period.MONTH, False),
        ("10k rows / session", 10_000, Unit.ROWS, Period.SESSION, False),
    ],
)
def test_limit_phrase_is_read_exactly(text: str, amount: int, unit: Unit, period: Period, per_host: bool) -> None:
    limit = Limit.parse(text)
    assert (limit.amount, limit.unit, limit.period, limit.per_host) == (amount, unit, period, per_host)
    assert str(limit) == text


@pytest.mark.parametrize(
    ("text", "expectation"),
    [
        ("200 MB / 1d", "write MiB"),
        ("200k rows", "the period is missing"),
        ("200k rows / 2h", "1h, 1d or 30d"),
        ("1.5 rows / 1h", "whole number of rows"),
        ("-1 rows / 1h", "expected an amount"),
        ("200k rows / 1h ", "expected an amount"),
        ("٣ rows / 1h", "expected an amount"),
        ("99999999999 TiB / 1d", "expected at most"),
    ],
)
def test_limit_that_is_no_limit_is_refused_with_what_was_expected(text: str, expectation: str) -> None:
    with pytest.raises(ValueError, match=expectation):
        Limit.parse(text)


@given(st.integers(0, 2**53), st.sampled_from(Unit), st.sampled_from(Period), st.booleans())
def test_limit_written_out_is_read_back_equal(amount: int, unit: Unit, period: Period, per_host: bool) -> None:
    limit = Limit(amount, unit, period, per_host)
    assert Limit.parse(str(limit)) == limit


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_with_value_error(text: str) -> None:
    for read in (Limit.parse, Factor.parse, Duration.parse):
        try:
            assert str(read(text)) == text
        except ValueError as error:
            assert text in str(error)


def test_factor_loosens_and_never_tightens() -> None:
    assert Factor.parse("3x").of(500_000) == 1_500_000
    assert Factor.parse("1.5x").of(3) == 4
    with pytest.raises(ValueError, match="1x or more"):
        Factor.parse("0.5x")


def test_durations_compare_by_length_and_zero_is_refused() -> None:
    assert Duration.parse("24h") == Duration.parse("1d")
    assert Duration.parse("3y").seconds > Duration.parse("1000d").seconds
    with pytest.raises(ValueError, match="more than nothing"):
        Duration.parse("0d")
