"""Time-weighted statistics of a phase of a run (equipment.md §7.0, §7.5: nearest rank)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

SPARE_SAMPLES = 2
"""So many may always be missing in a phase with few expected samples (§7.5)."""
COVERAGE = 0.90
MIN_SAMPLES = 80


@dataclass(frozen=True, slots=True)
class Picked:
    """The usable samples of one channel in one phase: values, and for how many ms each held.

    ``expected`` is the number of samples that the phase should have had at the run's sampling interval.
    """

    values: Sequence[float]
    weights: Sequence[int]
    expected: float

    @property
    def count(self) -> int:
        """Samples with a usable value."""
        return len(self.values)

    @property
    def seconds(self) -> float:
        """Time that the usable samples stand for."""
        return sum(self.weights) / 1000.0

    @property
    def dense(self) -> bool:
        """At least 90 % of the expected samples are there; in a short phase two may be missing."""
        return self.count > 0 and self.count >= min(COVERAGE * self.expected, self.expected - SPARE_SAMPLES)

    def needed(self, complete: bool = True) -> int:
        """So many samples :attr:`dense`, or :meth:`enough`, asks for."""
        least = max(1, ceil(min(COVERAGE * self.expected, self.expected - SPARE_SAMPLES)))
        return least if complete else max(least, MIN_SAMPLES)

    def enough(self, complete: bool) -> bool:
        """Dense, and at least 80 samples unless the phase is as long as the plan makes it (``complete``)."""
        return self.dense and (complete or self.count >= MIN_SAMPLES)

    def percentile(self, percent: float) -> float:
        """Nearest rank, weighted by time: the smallest value that holds for at least that share of the time."""
        return percentile(self.values, self.weights, percent)

    @property
    def median(self) -> float:
        """The 50th percentile."""
        return self.percentile(50.0)

    def recovers_ms(self, percent: float, low: float | None, high: float | None) -> int:
        """How much good time must be added, at the least, before the percentile can be inside ``low`` … ``high`` again."""
        below = sum(w for v, w in zip(self.values, self.weights, strict=True) if low is not None and v < low)
        above = sum(w for v, w in zip(self.values, self.weights, strict=True) if high is not None and v > high)
        wanted = max(below / (percent / 100.0), above / (1.0 - percent / 100.0))
        return max(0, int(wanted) - sum(self.weights))

    @property
    def variation(self) -> float:
        """Coefficient of variation: standard deviation over mean (0 where the mean is 0)."""
        weights = self.weights if any(self.weights) else [1] * self.count
        total = sum(weights)
        mean = sum(v * w for v, w in zip(self.values, weights, strict=True)) / total
        spread = sum(w * (v - mean) ** 2 for v, w in zip(self.values, weights, strict=True)) / total
        return sqrt(spread) / abs(mean) if mean else 0.0

    def share(self, below: float) -> float:
        """Share of the time with a value below ``below`` (0…1)."""
        total = sum(self.weights)
        return sum(w for v, w in zip(self.values, self.weights, strict=True) if v < below) / total if total else 0.0


def percentile(values: Sequence[float], weights: Sequence[int], percent: float) -> float:
    """Nearest-rank percentile, weighted; a set of nothing but zero weights counts as equally weighted."""
    if not any(weights):
        weights = [1] * len(values)
    pairs = sorted(zip(values, weights, strict=True))
    rank, reached = sum(weights) * percent / 100.0, 0
    for value, weight in pairs:
        reached += weight
        if reached >= rank and weight:
            return value
    return pairs[-1][0]


def slope(pieces: Iterable[Sequence[tuple[float, float]]]) -> float | None:
    """Least-squares slope that several pieces (x, y) have in common, each with an intercept of its own; None without spread."""
    upper = lower = 0.0
    for piece in pieces:
        mean_x = sum(x for x, _ in piece) / len(piece)
        mean_y = sum(y for _, y in piece) / len(piece)
        upper += sum((x - mean_x) * (y - mean_y) for x, y in piece)
        lower += sum((x - mean_x) ** 2 for x, _ in piece)
    return upper / lower if lower else None
