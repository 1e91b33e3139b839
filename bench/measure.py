"""Arithmetic of measurements: percentiles, medians."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What was seen of one duration, in milliseconds."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def latency_of(seconds: Sequence[float]) -> Latency:
    """Percentiles of durations given in seconds; at least one."""
    ordered = sorted(seconds)
    return Latency(
        count=len(ordered),
        p50_ms=_percentile(ordered, 50) * 1000,
        p95_ms=_percentile(ordered, 95) * 1000,
        p99_ms=_percentile(ordered, 99) * 1000,
        max_ms=ordered[-1] * 1000,
    )


def median_of(seen: Sequence[Latency]) -> Latency:
    """The medians of each figure over several runs; `count` is that of all of them together."""
    return Latency(
        count=sum(one.count for one in seen),
        p50_ms=statistics.median(one.p50_ms for one in seen),
        p95_ms=statistics.median(one.p95_ms for one in seen),
        p99_ms=statistics.median(one.p99_ms for one in seen),
        max_ms=statistics.median(one.max_ms for one in seen),
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that is not exceeded by `percent` of the values (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
