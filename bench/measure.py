"""Arithmetic of measurements: percentiles, medians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What was seen of one duration, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def latency_of(seconds: Sequence[float]) -> Latency:
    """Percentiles of durations given in seconds; at least one."""
    ordered = sorted(seconds)
    return Latency(
        count=len(ordered),
        p50_ms=_percentile(ordered, 50) * 1000,
        p99_ms=_percentile(ordered, 99) * 1000,
        max_ms=ordered[-1] * 1000,
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that is not exceeded by `percent` of the values (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
