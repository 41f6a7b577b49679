"""The tail of a stream is what its distribution says, whatever the distribution."""

import json
from collections.abc import Callable
from math import erfc, exp
from random import Random

import pytest

from detectors.tail import LEARNT_MIN, Tail

SEED = 20261121
# By their textbook survival functions, not by what we compute.
STREAMS: dict[str, tuple[Callable[[Random], float], Callable[[float], float]]] = {
    "exponential": (lambda random: random.expovariate(1), lambda value: exp(-value)),
    "normal": (lambda random: random.gauss(0, 1), lambda value: 0.5 * erfc(value / 2**0.5)),
    "Pareto, shape 3": (lambda random: random.paretovariate(3), lambda value: value**-3),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_a_level_is_reached_about_as_often_as_it_says(name: str, seed: int) -> None:
    draw, survives = STREAMS[name]
    random, tail = Random(seed), Tail()
    for _ in range(20_000):
        tail.learn(draw(random))
    for risk in (1e-3, 1e-4):
        true = survives(tail.level(risk))
        # A thousand peaks fit a tail to within a factor of a few; without the fit it would be wrong by orders of magnitude.
        assert true <= risk * 5, (name, seed, risk, true)
        # No tail is believed to be thinner than exponential, so of normal values fewer are called rare than might be.
        assert true >= risk / (100 if name == "normal" else 5), (name, seed, risk, true)


@pytest.mark.parametrize("name", STREAMS)
def test_chance_and_level_are_one_another_the_other_way_round(name: str) -> None:
    random, tail = Random(SEED), Tail()
    for _ in range(5_000):
        tail.learn(STREAMS[name][0](random))
    for risk in (1e-2, 1e-4, 1e-6):
        assert tail.chance(tail.level(risk)) == pytest.approx(risk, rel=1e-6)


def test_nothing_is_rare_before_enough_was_seen() -> None:
    tail = Tail()
    for value in range(LEARNT_MIN - 1):
        tail.learn(float(value))
    assert tail.chance(1e9) == 1.0
    tail.learn(1.0)
    assert tail.chance(1e9) < 1e-3


def test_equal_values_make_no_tail_and_the_first_other_one_is_rare() -> None:
    tail = Tail()
    for _ in range(500):
        tail.learn(3.0)
    assert tail.chance(3.0) == 1.0
    assert tail.chance(4.0) < 0.05


def test_a_tail_taken_up_again_learns_on_as_if_it_had_never_stopped() -> None:
    random, whole = Random(SEED), Tail()
    values = [random.gauss(0, 1) for _ in range(2_000)]
    for value in values[:700]:
        whole.learn(value)
    again = Tail.of(json.loads(json.dumps(whole.state())))
    for value in values[700:]:
        whole.learn(value)
        again.learn(value)
    assert again.state() == whole.state()
    assert again.chance(4.0) == whole.chance(4.0)
