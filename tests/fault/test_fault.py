"""Brokers, agents, detectors and the database are killed, the network is cut: nothing is lost, and nothing is found twice or not at all."""

import os
import time

import pytest

from examples.plant.network import namespaces_work
from tests.fault.run import run

SEED = 20_260_407


def whatever_happens(seed: int, duration_s: float, brokers: int) -> None:
    if not namespaces_work():
        pytest.fail("a network that can be cut needs network namespaces: run as root, in a container that allows them")
    print(f"seed {seed}: make fault SEED={seed} DURATION_S={duration_s:.0f} BROKERS={brokers}")
    account = run(seed, duration_s, brokers=brokers)
    print(account)
    assert not account.wrong, str(account)


def test_kills_and_cuts_of_ninety_seconds_lose_nothing_and_change_no_finding() -> None:
    whatever_happens(int(os.environ.get("SEED") or SEED), 90, 1)


@pytest.mark.long
def test_kills_and_cuts_of_ten_minutes_with_three_brokers_lose_nothing_and_change_no_finding() -> None:
    whatever_happens(int(os.environ.get("SEED") or time.time()), 600, 3)
