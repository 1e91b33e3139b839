"""The arithmetic of the benchmarks, and the plan that they run."""

from __future__ import annotations

import json

import pytest

from bench.measure import latency_of
from bench.workloads import math_plan


@pytest.mark.parametrize(
    ("milliseconds", "p50", "p99"),
    [([7], 7, 7), ([1, 2], 1, 2), (range(1, 101), 50, 99), (range(1000, 0, -1), 500, 990)],
)
def test_latency_takes_the_nearest_rank(milliseconds: list[int], p50: int, p99: int) -> None:
    found = latency_of([one / 1000 for one in milliseconds])

    assert (round(found.p50_ms), round(found.p99_ms)) == (p50, p99)
    assert (found.count, round(found.max_ms)) == (len(milliseconds), max(milliseconds))


def test_the_math_plan_is_a_chain() -> None:
    steps = json.loads(math_plan(3))["plan"]["steps"]

    assert [step["step_index"] for step in steps] == [1, 2, 3]
    assert steps[2]["input"]["variables"] == {"a": {"$ref": "steps.2.output.result"}}
