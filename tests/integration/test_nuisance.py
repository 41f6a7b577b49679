"""What kills a monitor in week one stays quiet, and its evil twin is found: pairs of `make nuisance`, recorded from real tools."""

import random
from collections.abc import Iterator

import pytest

from benchmarks.detection.nuisance import judge, recordings
from benchmarks.detection.nuisance_cases import CASES, Case
from benchmarks.detection.nuisance_plant import Plant, missing, plant
from examples.plant.network import namespaces_work

FAST = ("load balancer checks", "metrics exporter", "pool resets", "patch reboot")
SEED = 20_260_330


@pytest.fixture(scope="module")
def here() -> Iterator[Plant | None]:
    """The plant of the benchmark; None where nobody may make network namespaces."""
    if not namespaces_work():
        print("network namespaces are refused here: `make nuisance` has no plant")
        yield None
        return
    lacking = missing()
    if lacking is not None:
        pytest.fail(lacking)
    print(f"seed {SEED}")
    with plant(random.Random(SEED)) as started:
        yield started


def marked(case: Case) -> "Case | object":
    return case if case.name in FAST else pytest.param(case, marks=pytest.mark.long)


@pytest.mark.parametrize("case", [marked(case) for case in CASES], ids=lambda case: case.name.replace(" ", "-"))
def test_every_day_work_is_quiet_and_its_evil_twin_is_found(here: Plant | None, case: Case) -> None:
    if here is None:
        return
    assert missing(case.needs) is None, missing(case.needs)
    recordings(here, [case])
    pair = judge(here, case)
    assert [(one["verdict"], one["source"], one["destination"], one["differences"]) for one in pair.raised] == []
    assert pair.found, pair.added
