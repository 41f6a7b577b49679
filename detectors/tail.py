"""How rare is this value: the tail of a stream, learnt as it goes by (peaks over threshold).

Whatever a stream's values are distributed like, what exceeds a high threshold follows a generalised Pareto distribution
(Balkema and de Haan 1974, Pickands 1975). So the few largest values seen say how large one must be to come along once in ``1 /
risk`` values, even if none like it ever did (Siffer, Fouque, Termier and Largouet 2017, "Anomaly detection in streams with
extreme value theory").

The distribution is fitted by probability-weighted moments (Hosking and Wallis 1987), which need no iteration and are steadier
than maximum likelihood for the some dozens of peaks that a plant's flow has in a month.
"""

from bisect import insort
from collections.abc import Sequence
from math import exp, inf, log
from typing import Any, Final

from msgspec import Struct, field

LEARNT_MIN: Final = 60
"""Values before anything is said: below it the quantile that the threshold rests on is a guess."""

QUANTILE: Final = 0.95
"""The share of values below the threshold; what is above it are the peaks."""

PEAKS_MAX: Final = 256
"""Peaks kept; the oldest gives way, so that the tail follows a plant that grows."""

PEAKS_MIN: Final = 8
"""Fewer peaks than this give no shape; then the tail is taken as exponential."""

SHAPE_MAX: Final = 0.5
"""The heaviest tail believed of few peaks: from 0.5 on a distribution has no variance, and no value would ever be rare."""

SHAPE_MIN: Final = 0.0
"""No tail is taken to end: that nothing larger was seen among some dozens of peaks is no reason why nothing larger can be."""

THRESHOLD_STEP: Final = 0.01
"""How fast the threshold follows its quantile, as a share of the peaks' mean per value (Robbins and Monro 1951)."""


class Tail(Struct):
    """The upper tail of one stream of numbers."""

    first: list[float] = field(default_factory=list)
    """The values of the first ``LEARNT_MIN``, until there is a threshold."""

    threshold: float = inf
    values_total: int = 0
    peaks: list[float] = field(default_factory=list)
    """Excesses over the threshold as of when each was seen, in the order of time."""

    peaks_total: int = 0
    _shape: float = 0.0
    _scale: float = 0.0

    @property
    def knows(self) -> bool:
        """Whether enough was seen to call a value rare."""
        return self.values_total >= LEARNT_MIN

    def chance(self, value: float) -> float:
        """The share of values that are at least as large, in 0..1; 1 while too little was seen, or if the value is no peak."""
        if not self.knows or value <= self.threshold:
            return 1.0
        share = self.peaks_total / self.values_total
        if self._scale <= 0.0:
            return share / (1 + len(self.peaks))
        excess = (value - self.threshold) / self._scale
        if self._shape < 1e-9:
            return share * exp(-excess)
        return share * exp(-log(1 + self._shape * excess) / self._shape)

    def level(self, risk: float) -> float:
        """The value that only a share ``risk`` of values reaches: the other way round than ``chance``."""
        share = self.peaks_total / max(1, self.values_total)
        if share <= risk:
            return self.threshold
        excess = log(share / risk)
        return self.threshold + self._scale * (excess if self._shape < 1e-9 else (exp(self._shape * excess) - 1) / self._shape)

    def learn(self, value: float) -> None:
        """Take the value as one of the stream; what was called an anomaly should not be."""
        self.values_total += 1
        if self.values_total <= LEARNT_MIN:
            insort(self.first, value)
            if self.values_total == LEARNT_MIN:
                self._begin()
            return
        if value > self.threshold:
            self.peaks_total += 1
            self.peaks.append(value - self.threshold)
            del self.peaks[:-PEAKS_MAX]
            self._fit()
        # The threshold follows the quantile: up by its share when exceeded, down by the rest when not.
        step = THRESHOLD_STEP * (sum(self.peaks) / len(self.peaks) if self.peaks else 0.0)
        self.threshold += step * (QUANTILE if value > self.threshold else QUANTILE - 1)

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything learnt, as JSON values."""
        return [list(self.first), None if self.threshold == inf else self.threshold, self.values_total, list(self.peaks), self.peaks_total]

    @classmethod
    def of(cls, state: Sequence[Any]) -> "Tail":  # Any: JSON values
        """The tail that ``state`` was taken from."""
        first, threshold, values_total, peaks, peaks_total = state
        tail = cls(list(first), inf if threshold is None else float(threshold), int(values_total), list(peaks), int(peaks_total))
        tail._fit()
        return tail

    def _begin(self) -> None:
        self.threshold = self.first[int(QUANTILE * LEARNT_MIN)]
        self.peaks = [value - self.threshold for value in self.first if value > self.threshold]
        self.peaks_total = len(self.peaks)
        self.first = []
        self._fit()

    def _fit(self) -> None:
        """Shape and scale by probability-weighted moments (Hosking and Wallis 1987, section 3)."""
        if not self.peaks:
            self._shape = self._scale = 0.0
            return
        ordered = sorted(self.peaks)
        many = len(ordered)
        mean = sum(ordered) / many
        weighted = sum(peak * (many - place - 0.65) for place, peak in enumerate(ordered)) / many**2
        spread = mean - 2 * weighted
        if many < PEAKS_MIN or spread <= 0.0:
            self._shape, self._scale = 0.0, mean
            return
        self._shape = min(max(2 - mean / spread, SHAPE_MIN), SHAPE_MAX)
        # With a shape that was bounded, the scale is the one that keeps the mean: mean = scale / (1 - shape).
        self._scale = mean * (1 - self._shape)
