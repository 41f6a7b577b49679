"""What others do with one number every ten minutes: the detectors that ours stand beside in the table.

Each is given a pair's bytes of every ten minutes in order and answers with a score; above the threshold it alerts. The
thresholds are chosen on seeds that are never reported, as the lowest at which all of them together stay inside the budget of
alerts a day.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from math import log, log1p
from random import Random
from typing import Any, Final, Protocol

from detectors.tail import Tail

SLOTS_A_DAY: Final = 144
WARM_UP_SLOTS: Final = 7 * SLOTS_A_DAY
"""A week before anyone scores, as for ours."""


class Scorer(Protocol):
    """One pair's detector."""

    def score(self, slot: int, hour: int, amount: float) -> float:
        """How unusual the amount is; the amount is learnt afterwards. ``hour`` is 0..47, those of free days last."""
        ...


class Static:
    """So many times the largest amount of the first week."""

    def __init__(self) -> None:
        self._largest, self._slots = 1.0, 0

    def score(self, slot: int, hour: int, amount: float) -> float:
        self._slots += 1
        if self._slots <= WARM_UP_SLOTS:
            self._largest = max(self._largest, amount)
            return 0.0
        return amount / self._largest


class Ewma:
    """Deviations from an exponentially weighted mean, of the logarithm."""

    def __init__(self, weight: float = 0.01) -> None:
        self._weight, self._mean, self._variance = weight, 0.0, 1.0

    def score(self, slot: int, hour: int, amount: float) -> float:
        value = log1p(amount)
        away = value - self._mean
        score = away / max(self._variance, 0.01) ** 0.5
        self._mean += self._weight * away
        self._variance = (1 - self._weight) * (self._variance + self._weight * away * away)
        return score


class HourMad:
    """Median deviations from the median of the same hour's last amounts."""

    def __init__(self) -> None:
        self._hours: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=60))

    def score(self, slot: int, hour: int, amount: float) -> float:
        before = self._hours[hour]
        value = log1p(amount)
        score = 0.0
        if len(before) >= 12:
            ordered = sorted(before)
            median = ordered[len(ordered) // 2]
            deviation = sorted(abs(one - median) for one in ordered)[len(ordered) // 2]
            score = (value - median) / max(1.4826 * deviation, 0.05)
        before.append(value)
        return score


class Trees:
    """Half-space trees over amount and hour (Tan, Ting and Liu 2011), as river has them."""

    def __init__(self) -> None:
        # Only who runs the benchmark has river: `make bench-detection` installs it.
        from river import anomaly

        self._trees = anomaly.HalfSpaceTrees(
            n_trees=10, height=8, window_size=SLOTS_A_DAY, seed=1, limits={"amount": (0, 30), "hour": (0, 48)}
        )

    def score(self, slot: int, hour: int, amount: float) -> float:
        seen: dict[Any, float] = {"amount": log1p(amount), "hour": float(hour)}
        score = float(self._trees.score_one(seen))
        self._trees.learn_one(seen)
        return score


class Spot:
    """Peaks over threshold of the amounts as they are (Siffer et al. 2017); the score is the negative logarithm of the chance."""

    def __init__(self) -> None:
        self._tail = Tail()

    def score(self, slot: int, hour: int, amount: float) -> float:
        value = log1p(amount)
        chance = self._tail.chance(value)
        self._tail.learn(value)
        return -log(max(chance, 1e-300))


class HoltWinters:
    """What is over a forecast with a day's season, in mean errors of the forecast."""

    def __init__(self) -> None:
        from river import time_series

        self._model = time_series.HoltWinters(alpha=0.1, beta=0.01, gamma=0.2, seasonality=SLOTS_A_DAY)
        self._slots, self._error = 0, 1.0

    def score(self, slot: int, hour: int, amount: float) -> float:
        # It divides by the mean of its first season, which is nothing where a pair is silent on its first day.
        value = 1.0 + log1p(amount)
        self._slots += 1
        score = 0.0
        # It raises IndexError if it is asked before two seasons.
        if self._slots > 2 * SLOTS_A_DAY:
            away = value - float(self._model.forecast(horizon=1)[0])
            score = away / max(self._error, 0.05)
            self._error += 0.01 * (abs(away) - self._error)
        self._model.learn_one(value)
        return score


class Chance:
    """Alerts at random: what being right by luck looks like at the same rate."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def score(self, slot: int, hour: int, amount: float) -> float:
        return self._random.random() if amount > 0 else 0.0


BASELINES: Final[dict[str, Callable[[], Scorer]]] = {
    "static threshold": Static,
    "EWMA z": Ewma,
    "hour-of-day MAD": HourMad,
    "half-space trees": Trees,
    "SPOT alone": Spot,
    "Holt-Winters": HoltWinters,
    "random": lambda: Chance(1),
}
