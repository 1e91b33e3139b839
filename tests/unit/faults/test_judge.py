"""The judge itself: a good history passes, and each promise is found broken when it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from tests.faults.judge import LEAST_OK, PROMISES, check_run, judge
from tests.faults.records import Effect, History, KeyRow, Operation
from tests.unit.faults.good_run import (
    BEGIN,
    CANCELLED,
    FAILING,
    GOOD,
    TENANT,
    WAITING,
    Life,
    good_history,
    with_dump,
    with_event,
    with_operation,
    with_task,
)

Break = Callable[[History], History]
ANOTHER = UUID(int=99)
LATE = BEGIN + timedelta(seconds=500)


def waiting(**changes: object) -> History:
    """A run with one task that still waits."""
    history = good_history([Life(id=WAITING, key="waiting", closed=0, end=None)])
    return replace(with_task(history, WAITING, **changes), is_settled=False)


def effect(step: int, *, task_id: UUID = GOOD, at: float = 200.0) -> Effect:
    return Effect(task_id=task_id, step_index=step, kind="began", boot="x", pid=2, at=at)


def also_called(step: int, *, task_id: UUID = GOOD, at: float = 200.0) -> Break:
    one = effect(step, task_id=task_id, at=at)
    return lambda h: replace(h, effects=(*h.effects, one))


def without_event(task_id: UUID, seq: int) -> Break:
    return lambda h: with_dump(
        h, events=tuple(e for e in h.dump.events if (e.task_id, e.seq) != (task_id, seq))
    )


def another_task(h: History) -> History:
    """A second task of the same client's key, with events of its own."""
    task = replace(h.dump.by_id[GOOD], id=ANOTHER)
    events = tuple(replace(e, task_id=ANOTHER) for e in h.dump.events_of[GOOD])
    steps = tuple(replace(s, task_id=ANOTHER) for s in h.dump.steps_of[GOOD])
    published = tuple((ANOTHER, e.seq) for e in events)
    used = {TENANT: (len(h.dump.tasks) + 1, len(h.dump.steps) + 3)}
    return with_dump(
        h,
        tasks=(*h.dump.tasks, task),
        events=(*h.dump.events, *events),
        steps=(*h.dump.steps, *steps),
        published=(*h.dump.published, *published),
        used=used,
    )


def swapped(h: History) -> History:
    first, second, *rest = h.dump.published
    return with_dump(h, published=(second, first, *rest))


def of(
    kind: str, task_id: UUID | None = None, status: int | None = None
) -> Callable[[Operation], bool]:
    return lambda o: (
        o.kind == kind
        and (task_id is None or o.task_id == task_id)
        and (status is None or o.status == status)
    )


def at(task_id: UUID, seq: int) -> Callable[..., bool]:
    return lambda e: (e.task_id, e.seq) == (task_id, seq)


def last_get(status: str, **answer: object) -> Break:
    said = {"status": status, "execution_finished_at": None, "result": None, **answer}
    return lambda h: with_operation(
        h, lambda o: o.kind == "get" and o.task_id == GOOD and o.began_at == 110.0, answer=said
    )


BROKEN: list[tuple[str, Break]] = [
    ("states_go_forward", lambda h: with_event(h, at(GOOD, 4), from_state="planned")),
    ("states_go_forward", lambda h: with_event(h, at(GOOD, 3), to_state="succeeded")),
    ("states_go_forward", lambda h: with_event(h, at(GOOD, 1), from_state="planned")),
    ("states_go_forward", lambda h: with_event(h, at(GOOD, 6), to_state="failed")),
    ("ended_tasks_never_change", lambda h: with_task(h, GOOD, digest="another")),
    ("ended_tasks_never_change", lambda h: with_dump(h, tasks=h.dump.tasks[1:])),
    (
        "ended_tasks_never_change",
        lambda h: with_dump(h, events=(*h.dump.events, replace(h.dump.events[0], seq=12))),
    ),
    ("no_step_runs_twice", also_called(2)),
    ("no_step_runs_twice", also_called(3, task_id=CANCELLED)),
    ("no_step_runs_twice", lambda h: with_event(h, at(GOOD, 7), data={"step_index": 1})),
    ("steps_come_in_order", also_called(1)),
    ("steps_come_in_order", without_event(GOOD, 6)),
    ("steps_come_in_order", lambda h: with_event(h, at(GOOD, 7), data={"step_index": 3})),
    (
        "steps_come_in_order",
        lambda h: with_event(h, at(GOOD, 6), data={"step_index": 1, "status": "failed"}),
    ),
    (
        "steps_come_in_order",
        lambda h: with_event(h, at(GOOD, 8), type="cancel_requested", data={}),
    ),
    (
        "steps_come_in_order",
        lambda h: with_event(h, at(GOOD, 10), type="status_transition", to_state="failed"),
    ),
    ("every_task_ends_in_time", lambda h: with_task(h, GOOD, state="running")),
    ("every_task_ends_in_time", lambda h: with_task(h, GOOD, finished_at=LATE)),
    ("every_task_ends_in_time", lambda _: with_dump(waiting(), taken_at=LATE)),
    ("every_event_is_published_in_order", without_event(GOOD, 2)),
    ("every_event_is_published_in_order", swapped),
    (
        "every_event_is_published_in_order",
        lambda h: with_dump(h, published=tuple(p for p in h.dump.published if p != (GOOD, 5))),
    ),
    (
        "every_event_is_published_in_order",
        lambda h: with_dump(h, published=(*h.dump.published, (ANOTHER, 1))),
    ),
    ("state_and_event_agree", lambda h: with_task(h, GOOD, state="failed")),
    ("state_and_event_agree", lambda h: with_task(h, GOOD, seq=10)),
    ("state_and_event_agree", lambda h: with_dump(h, events=h.dump.events[11:])),
    ("hashes_recompute", lambda h: with_task(h, GOOD, task_hash="0" * 64)),
    ("hashes_recompute", lambda h: with_task(h, GOOD, plan_hash="0" * 64)),
    (
        "hashes_recompute",
        lambda h: with_dump(h, steps=(replace(h.dump.steps[0], output="{}"), *h.dump.steps[1:])),
    ),
    ("bounds_hold", lambda h: with_task(h, GOOD, max_total_seconds=-2)),
    ("bounds_hold", lambda h: with_dump(h, steps=(replace(h.dump.steps[0], finished_at=LATE),))),
    ("bounds_hold", lambda h: with_dump(h, steps=(*h.dump.steps, h.dump.steps[0]))),
    ("nothing_acknowledged_is_lost", lambda h: with_dump(h, tasks=h.dump.tasks[1:])),
    (
        "nothing_acknowledged_is_lost",
        lambda h: with_operation(h, of("create", GOOD), task_id=FAILING),
    ),
    (
        "nothing_acknowledged_is_lost",
        lambda h: with_operation(h, of("cancel"), task_id=GOOD),
    ),
    ("one_key_is_one_task", another_task),
    (
        "one_key_is_one_task",
        lambda h: replace(h, operations=(*h.operations, replace(h.operations[0], task_id=FAILING))),
    ),
    ("one_key_is_one_task", lambda h: with_dump(h, keys=(KeyRow(key="good", task_id=FAILING),))),
    ("cancel_has_one_winner", lambda h: with_task(h, CANCELLED, state="succeeded")),
    ("cancel_has_one_winner", lambda h: with_task(h, CANCELLED, state="running")),
    ("cancel_has_one_winner", also_called(2, task_id=CANCELLED)),
    (
        "cancel_has_one_winner",
        lambda h: with_operation(h, of("cancel"), outcome="failed", status=409),
    ),
    (
        "cancel_has_one_winner",
        lambda h: with_event(h, at(GOOD, 10), type="status_transition", to_state="failed"),
    ),
    ("use_is_what_was_accepted", lambda h: with_dump(h, used={TENANT: (2, 6)})),
    ("use_is_what_was_accepted", lambda h: with_dump(h, used={TENANT: (3, 7)})),
    ("use_is_what_was_accepted", lambda h: with_dump(h, used={**h.dump.used, ANOTHER: (1, 0)})),
    (
        "concurrency_stays_within_limits",
        lambda h: replace(h, most_running={TENANT: 2}),
    ),
    (
        "refusals_leave_no_trace",
        lambda h: with_operation(h, of("create", GOOD), outcome="failed", status=422),
    ),
    (
        "refusals_leave_no_trace",
        lambda h: with_dump(h, keys=(KeyRow(key="refused-good", task_id=GOOD),)),
    ),
    ("refusals_leave_no_trace", lambda h: with_dump(h, tasks=h.dump.tasks[1:])),
    ("readers_see_committed_states", last_get("failed", execution_finished_at="x")),
    ("readers_see_committed_states", last_get("succeeded", result={"n": 3})),
    ("readers_see_committed_states", last_get("succeeded", execution_finished_at="x")),
    ("readers_see_committed_states", last_get("created")),
    ("lack_is_admitted", lambda h: with_operation(h, of("create", status=503), status=500)),
    ("lack_is_admitted", lambda h: with_operation(h, of("create", status=503), status=504)),
    ("lack_is_admitted", lambda h: with_operation(h, of("create", status=503), retry_after=None)),
    ("lack_is_admitted", lambda h: with_operation(h, of("create", status=503), retry_after="60")),
    ("lack_is_admitted", lambda h: with_operation(h, of("get", GOOD), ended_at=130.0)),
]


def test_good_history_keeps_every_promise() -> None:
    assert str(judge(good_history())) == "every promise was kept"
    assert str(judge(waiting())) == "every promise was kept"


@pytest.mark.parametrize(("promise", "breaks"), BROKEN)
def test_broken_promise_is_found(promise: str, breaks: Break) -> None:
    verdict = judge(breaks(good_history()))

    assert promise in verdict.names, str(verdict)


def test_equal_tasks_with_other_hashes_are_found() -> None:
    history = another_task(good_history())
    steps = tuple(
        replace(s, step_hash="0" * 64) if s.task_id == ANOTHER else s for s in history.dump.steps
    )

    assert "equal_tasks_hash_equally" in judge(with_dump(history, steps=steps)).names
    assert "equal_tasks_hash_equally" in judge(with_task(history, ANOTHER, plan_hash="0")).names
    assert "equal_tasks_hash_equally" not in judge(history).names


def test_every_promise_has_a_history_that_breaks_it() -> None:
    tested = {name for name, _ in BROKEN} | {"equal_tasks_hash_equally"}

    assert tested == {promise.__name__ for promise in PROMISES}


def test_verdict_names_the_promise_and_the_task() -> None:
    verdict = judge(with_task(good_history(), GOOD, task_hash="0" * 64))

    assert str(verdict).startswith(f"hashes_recompute: 1 times\n  {GOOD}: task_hash is 0000")


@pytest.mark.parametrize(
    ("operations", "hits", "said"),
    [(LEAST_OK - 1, {"a"}, "only 99 operations"), (LEAST_OK, set[str](), "nothing of what")],
)
def test_run_that_proves_nothing_does_not_count(operations: int, hits: set[str], said: str) -> None:
    history = good_history()
    one = history.operations[0]
    many = replace(history, operations=(one,) * operations)

    with pytest.raises(AssertionError, match=said):
        check_run(many, hits=hits)


def test_run_counts_with_enough_operations_and_a_hit() -> None:
    history = good_history()

    check_run(replace(history, operations=(history.operations[0],) * LEAST_OK), hits={"a"})


def test_broken_run_does_not_count() -> None:
    with pytest.raises(AssertionError, match="hashes_recompute: 1 times"):
        check_run(with_task(good_history(), GOOD, task_hash="0" * 64), hits={"a"})
