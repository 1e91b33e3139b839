"""What becomes of a boot's tasks when its executor says hello."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from services.scheduler.leases import reunite
from services.scheduler.model import RunningTask
from tests.unit.scheduler.test_reports import make_assigned

A, B, C = (UUID(int=n) for n in (1, 2, 3))


def test_named_with_the_held_token_goes_on() -> None:
    held = replace(make_assigned(is_step_open=True), task_id=A)

    found = reunite([RunningTask(task_id=A, lease_token=1)], [held])

    assert (found.keep, found.stop, found.again, found.lost) == ((held,), (), (), ())


def test_named_and_not_held_stops() -> None:
    found = reunite([RunningTask(task_id=B, lease_token=1)], [])

    assert (found.keep, found.stop) == ((), (B,))


def test_named_with_an_old_token_stops() -> None:
    held = replace(make_assigned(), task_id=A, lease_token=2)

    found = reunite([RunningTask(task_id=A, lease_token=1)], [held])

    assert (found.keep, found.stop, found.again) == ((), (A,), (held,))


def test_held_and_not_named_is_sent_again_or_lost() -> None:
    between = replace(make_assigned(closed=1), task_id=A)
    inside = replace(make_assigned(is_step_open=True), task_id=C)

    found = reunite([], [between, inside])

    assert (found.again, found.lost) == ((between,), (inside,))
