"""All n×n pairs of states; the trigger is held against the same table elsewhere."""

from __future__ import annotations

from itertools import product

import pytest

from libs.core.lifecycle import EDGES, TERMINAL, TaskState, may_follow

_PERMITTED = {
    "created": {"planned", "failed", "cancelled"},
    "planned": {"queued", "failed", "cancelled"},
    "queued": {"running", "failed", "cancelled"},
    "running": {"succeeded", "failed", "cancelled"},
    "succeeded": set[str](),
    "failed": set[str](),
    "cancelled": set[str](),
}


@pytest.mark.parametrize(("before", "after"), list(product(TaskState, TaskState)))
def test_may_follow_permits_exactly_the_forward_edges(before: TaskState, after: TaskState) -> None:
    assert may_follow(before, after) is (after.value in _PERMITTED[before.value])


@pytest.mark.parametrize("state", list(TaskState))
def test_nothing_leaves_a_terminal_state(state: TaskState) -> None:
    leaves = any(before == state for before, _ in EDGES)

    assert state.is_terminal is (state in TERMINAL) is (not leaves)


def test_no_state_is_reached_again() -> None:
    reached: dict[TaskState, set[TaskState]] = {state: set() for state in TaskState}
    for _ in TaskState:
        for before, after in EDGES:
            reached[before] |= {after} | reached[after]

    assert not [state for state in TaskState if state in reached[state]]
