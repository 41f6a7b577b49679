"""What a plant must notice and what it must not be woken for: five pairs of `make scenarios`, and all of them in the long run."""

import os
from collections.abc import Iterator

import pytest

from benchmarks.detection.scenarios import SCENARIOS
from benchmarks.detection.scenarios.play import play_scenario
from benchmarks.detection.scenarios.stage import Stage, stage
from examples.plant import servers
from examples.plant.network import namespaces_work

QUICK = ("S2", "S3", "S9", "S14", "S19")
SEED = int(os.environ.get("SEED") or 20_260_407)


@pytest.fixture(scope="module")
def raised() -> Iterator[Stage]:
    if missing := servers.missing_servers():
        pytest.fail(f"not installed: {', '.join(missing)}; `make setup` as root installs them")
    if not namespaces_work():
        pytest.fail("network namespaces need root: each host of a scenario is one")
    print(f"seed {SEED}")
    with stage(SEED) as built:
        yield built


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in SCENARIOS])
def test_the_attack_is_alerted_with_its_cause_and_the_twin_is_silent(raised: Stage, name: str) -> None:
    outcome = play_scenario(SCENARIOS[name], raised)
    assert outcome.found
    assert outcome.silent
    assert outcome.misses == []
