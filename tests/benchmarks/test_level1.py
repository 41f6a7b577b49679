"""The labelled windows of the benchmark's first level: every one is judged as it is labelled, and every cell is accounted for."""

import pytest

from benchmarks.detection.level1 import PROTOCOLS, Case, Impossible, cases, said_of
from detectors.judgement import ROW

CASES = list(cases())


@pytest.mark.parametrize("verdict", ROW)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_window_is_judged_as_its_label_says_and_every_cell_has_one_or_says_why_not(protocol: str, verdict: str) -> None:
    cell = [one for one in CASES if (one.protocol, one.verdict) == (protocol, verdict)]
    assert cell
    for one in cell:
        if isinstance(one, Case):
            assert said_of(one) == (one.verdict, one.severity), one.clause
    assert len({isinstance(one, Impossible) for one in cell}) == 1
