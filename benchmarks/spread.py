"""What many values say: the middle, the spread, the tail, the growth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """The median of the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float
    values: tuple[float, ...]


def percentile(values: Sequence[float], percent: float) -> float:
    """Between the two values beside it, in proportion."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarize(values: Sequence[float]) -> Summary:
    return Summary(
        statistics.median(values),
        percentile(values, 25),
        percentile(values, 75),
        tuple(values),
    )


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of *costs* over *sizes*, both logarithmic: 1 is linear."""
    slope = statistics.linear_regression(
        [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    ).slope
    return float(slope)
