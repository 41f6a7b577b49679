"""The simulated plant is what it says, and the scores count what they say; two seeds of seven days go through the whole product."""

import numpy as np
import pytest

from benchmarks.detection import level2
from benchmarks.detection.ends import SHAPES, about, declaration, events
from benchmarks.detection.level2 import Alert, Score, product
from benchmarks.detection.plant import Incident, Run, wall
from benchmarks.detection.report import html, markdown
from benchmarks.detection.scenes import SCENES, struck
from hopwatch.events import Flow

SEEDS = (7_001, 7_002)
DAY = 1_440


def run_of(*incidents: Incident) -> Run:
    """Ten days in which nothing moves but what the incidents say."""
    return Run(1, 10, wall(10), {"mes-works": np.zeros(10 * DAY)}, list(incidents))


def pull(first: int, minutes: int, *, benign: bool = False) -> Incident:
    added = {"mes-works": np.full(minutes, 3_000.0)}
    return Incident("pull", ("mes-works",), first, first + minutes - 1, benign, frozenset({"volume"}), "S1", added)


def alert(minute: int, cause: str = "volume", *ends: str) -> Alert:
    return Alert(minute, frozenset(ends or ("s5", "c5")), cause)


def scored(run: Run, *alerts: Alert) -> Score:
    score = Score()
    score.add(run, alerts)
    return score


def test_what_was_gone_is_what_had_moved_by_the_minute_of_the_first_alert() -> None:
    score = scored(run_of(pull(6 * DAY, 10)), alert(6 * DAY + 3), alert(6 * DAY + 8))
    assert (score.found, score.gone, score.gone_bytes, score.gone_rows) == (1, [0.4], [12_000.0], [40.0])


def test_one_alert_finds_one_incident_and_not_what_lies_around_it() -> None:
    score = scored(run_of(pull(6 * DAY, 10), pull(7 * DAY, 10)), alert(6 * DAY + 3), alert(6 * DAY + DAY // 2, "over-limit"))
    assert (score.incidents, score.found, score.true, score.false) == (2, 1, 1, 1)


def test_an_alert_about_other_ends_or_before_or_long_after_is_false() -> None:
    run = run_of(pull(6 * DAY, 10))
    assert scored(run, alert(6 * DAY + 3, "volume", "s5", "10.4.0.77")).false == 1
    assert scored(run, alert(6 * DAY - 1)).false == 1
    assert scored(run, alert(6 * DAY + 9 + 10)).true == 1
    assert scored(run, alert(6 * DAY + 9 + 11)).false == 1


def test_an_alert_about_a_twin_is_a_benign_trigger_and_finds_nothing() -> None:
    score = scored(run_of(pull(6 * DAY, 10, benign=True)), alert(6 * DAY + 3))
    assert (score.incidents, score.benign, score.true, score.false, score.twins) == (0, 1, 0, 0, {"pull": [1, 1]})


def test_a_cause_that_is_not_the_injected_one_is_found_and_not_right() -> None:
    score = scored(run_of(pull(6 * DAY, 10)), alert(6 * DAY + 3, "decoy"))
    assert (score.found, score.true, score.causes_right, score.first_causes_right) == (1, 1, 0, 0)


def test_the_same_again_within_a_day_is_one_alert_and_the_days_of_learning_count_nothing() -> None:
    run = run_of()
    assert scored(run, alert(6 * DAY), alert(6 * DAY + 60), alert(7 * DAY + 1)).false == 2
    assert scored(run, alert(2 * DAY)).false == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_every_declaration_loads(shape: str) -> None:
    declaration(struck(SEEDS[0], 7), SHAPES[shape])


def test_the_events_carry_every_byte_of_the_run_and_the_same_seed_gives_the_same_run() -> None:
    run, again = struck(SEEDS[0], 7), struck(SEEDS[0], 7)
    moved = sum(event.bytes for _, event in events(run) if isinstance(event, Flow))
    assert moved == sum(amount.sum() for amount in run.series().values())
    assert [(one.kind, one.first_minute, one.bytes) for one in run.incidents] == [
        (one.kind, one.first_minute, one.bytes) for one in again.incidents
    ]


def test_every_scene_has_its_twin_or_is_one() -> None:
    evil = {scene.scenario for scene in SCENES if not scene.benign}
    # S5's twin is the pilot that ends in time, S10's and S11's are among the amounts; both are in every run.
    assert {scene.scenario for scene in SCENES if scene.benign} >= evil - {"S5", "S10"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_week_of_the_plant_every_incident_that_shows_at_once_is_found_with_its_cause(seed: int) -> None:
    print(f"seed {seed}")
    run = struck(seed, 7)
    alerts = product(run, "1.5")
    score = scored(run, *alerts)
    # In a week nothing is usual yet, so what only amounts show is not asked for here; the pilot has not ended.
    at_once = {scene.kind for scene in SCENES if not scene.benign} | {"agent killed"}
    found = {kind: (found, of) for kind, (_, found, of, _) in score.by_kind.items() if kind in at_once}
    assert found == dict.fromkeys(at_once - {"the pilot past its end"}, (1, 1))
    # Where so much happens in four days, lineage joins one incident with the next: right of the plant, and about neither.
    assert score.false - score.falsely.get("lineage", 0) <= 1
    assert score.false <= 4
    assert score.causes_right >= 0.9 * score.true
    twins = {scene.kind for scene in SCENES if scene.benign} | {"agent restarted"}
    assert {kind for kind, (alerted, _) in score.twins.items() if alerted and kind in twins} == set()


def test_the_report_says_every_row_and_the_page_loads_nothing() -> None:
    run = run_of(pull(6 * DAY, 10))
    rows = {name: level2.asdict(scored(run, alert(6 * DAY + 3))) for name in ("hopwatch", "declared only", "statistics only")}
    figures = {"days": 10, "results": {"1.5": rows, "3": rows}, "seeds": {"1.5": [1], "3": [1]}}
    assert all(f"| {name} | 1.000 |" in markdown(figures) for name in rows)
    page = html(figures)
    assert "<svg" in page
    assert "http" not in page
    assert about(run.incidents[0]) == {"s5", "c5"}
