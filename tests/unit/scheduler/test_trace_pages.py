"""How a trace is cut into pages."""

from __future__ import annotations

import pytest

from services.scheduler.trace_pages import PAGE_BYTES, step_ranges


@pytest.mark.parametrize(
    ("sizes", "ranges"),
    [
        ([], []),
        ([1], [(1, 1)]),
        ([1] * 200, [(1, 200)]),
        ([1] * 201, [(1, 200), (201, 201)]),
        ([PAGE_BYTES, 1], [(1, 1), (2, 2)]),
        ([1, PAGE_BYTES, 1], [(1, 1), (2, 2), (3, 3)]),
        ([1, PAGE_BYTES * 3, 1], [(1, 1), (2, 2), (3, 3)]),
        ([PAGE_BYTES // 2] * 5, [(1, 2), (3, 4), (5, 5)]),
    ],
)
def test_pages_are_bounded_and_leave_nothing_out(
    sizes: list[int], ranges: list[tuple[int, int]]
) -> None:
    assert list(step_ranges(sizes)) == ranges
