"""A burst becomes few alerts and few notifications, and no finding of it is lost (`python -m benchmarks.alerts` has the whole size)."""

from pathlib import Path

from alerts.desk import ALIKE_MAX
from benchmarks.alerts import burst


def test_many_words_of_few_findings_are_one_alert_each(tmp_path: Path) -> None:
    made = burst(tmp_path, 3_000, accounts=5, different=20)
    assert (made.alerts, made.folded) == (20, 0)
    assert made.notified <= 2 * 5, "an account's first, and its batch"
    assert made.revisions <= 20 * 4


def test_many_different_findings_are_folded_and_told_in_few_notifications(tmp_path: Path) -> None:
    made = burst(tmp_path, 2_000, accounts=5, different=2_000)
    # Each of four verdicts has 200 alerts at most, each of five accounts 20 of them; then one for all that are alike.
    assert made.alerts == 4 * 5 * (ALIKE_MAX + 1)
    assert made.folded == 2_000 - 4 * 5 * ALIKE_MAX
    assert made.notified <= 15
