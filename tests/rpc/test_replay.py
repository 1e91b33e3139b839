"""Replays over real gRPC: what they copy, who may, what they say beside their original."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.core.errors import Failure, FailureCode, PawlError
from libs.core.ids import new_id
from libs.core.tiers import TIERS
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.pb.pawl.scheduler.v1 import task_pb2, trace_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.rpc.client import caller_token
from libs.rpc.tokens import KeyRing
from tests.scheduler_world import (
    FINGERPRINT,
    OTHER_TENANT,
    TENANT,
    FakeExecutor,
    SchedulerWorld,
    State,
    closed_step,
    scheduler_world,
)
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db

RECORDED = task_pb2.REPLAY_MODE_RECORDED
BROKE = Failure(
    code=FailureCode.TOOL_ERROR, message="it broke", step="math", step_index=2, reason="X"
)
COUNTS = (
    "SELECT (SELECT count(*) FROM scheduler.tasks) AS tasks,"
    " (SELECT count(*) FROM scheduler.task_events) AS events,"
    " (SELECT count(*) FROM scheduler.idempotency) AS keys"
)


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


async def refusal_of(call: Any) -> PawlError:
    with pytest.raises(PawlError) as refused:
        await call
    return refused.value


async def ended(world: SchedulerWorld, task_input: Any = None, **changes: Any) -> task_pb2.Task:
    """A task that an executor has run to its end."""
    async with world.executor(**changes):
        return (await world.submit(task_input, wait_seconds=10)).task


async def replay_of(world: SchedulerWorld, task_id: str) -> trace_pb2.Replay:
    """The replay block of a trace."""
    head = (await world.trace(task_id))[0].head
    assert head.HasField("replay")
    found: trace_pb2.Replay = head.replay
    return found


async def test_a_replay_copies_what_is_hashed_and_shows_its_tools_the_original_clock(
    world: SchedulerWorld,
) -> None:
    original = await ended(world, {"steps": 2, "b": 1.5})
    async with world.executor() as executor:
        answer = await world.replay(original.id, wait_seconds=10)

    task = answer.task
    assert not answer.replayed
    assert (task.state, task.replay_of_task_id) == (State.TASK_STATE_SUCCEEDED, original.id)
    for name in ("plan", "input_json", "plan_hash", "task_hash", "planned_by", "planner_note"):
        assert getattr(task, name) == getattr(original, name), name
    assert task.id != original.id
    assert task.created_at.ToNanoseconds() > original.created_at.ToNanoseconds()
    (assignment,) = executor.assignments
    assert assignment.created_at == original.created_at
    assert [tool.name for tool in assignment.tool_set] == ["math"]
    assert list(assignment.recorded_tools) == []
    (admission,) = world.planner.admissions
    assert (admission.plan, len(world.planner.requests)) == (original.plan, 1)


async def test_a_replay_that_did_the_same_matches(world: SchedulerWorld) -> None:
    original = await ended(world)
    waiting = (await world.replay(original.id)).task

    before = await replay_of(world, waiting.id)
    async with world.executor():
        await world.get(waiting.id, wait_seconds=10)
    after = await replay_of(world, waiting.id)

    assert (before.of_task_id, before.mode) == (original.id, task_pb2.REPLAY_MODE_LIVE)
    assert not before.HasField("matches")
    assert after.matches is True
    assert not after.HasField("first_divergence")
    assert not (await world.trace(original.id))[0].head.HasField("replay")


async def test_a_failed_task_is_replayed_to_the_same_failure(world: SchedulerWorld) -> None:
    def fail(_: work_pb.Assignment, step: int) -> Failure | None:
        return BROKE if step == 2 else None

    original = await ended(world, fail=fail)
    async with world.executor(fail=fail):
        task = (await world.replay(original.id, wait_seconds=10)).task

    assert (task.state, task.task_hash) == (State.TASK_STATE_FAILED, original.task_hash)
    assert (await replay_of(world, task.id)).matches is True


async def test_the_first_divergence_is_named_with_both_values(world: SchedulerWorld) -> None:
    original = await ended(world)
    async with world.executor(fail=lambda _, step: BROKE if step == 2 else None):
        task = (await world.replay(original.id, wait_seconds=10)).task

    found = await replay_of(world, task.id)

    first = found.first_divergence
    assert found.matches is False
    assert (first.step_index, first.field) == (2, "status")
    assert (first.original_json, first.replayed_json) == ('"succeeded"', '"failed"')


async def test_a_replay_that_is_cancelled_parts_where_it_stopped(world: SchedulerWorld) -> None:
    original = await ended(world)
    task = (await world.replay(original.id)).task
    await world.cancel(task.id)

    found = await replay_of(world, task.id)

    assert found.matches is False
    assert (found.first_divergence.step_index, found.first_divergence.field) == (1, "status")
    assert found.first_divergence.replayed_json == "null"


async def test_a_replay_of_a_replay_points_at_the_replay_and_keeps_the_first_clock(
    world: SchedulerWorld,
) -> None:
    original = await ended(world, {"steps": 1})
    async with world.executor() as executor:
        first = (await world.replay(original.id, wait_seconds=10)).task
        second = (await world.replay(first.id, wait_seconds=10)).task

    assert second.replay_of_task_id == first.id
    assert [one.created_at for one in executor.assignments] == [original.created_at] * 2
    assert (await replay_of(world, second.id)).matches is True


async def test_only_what_has_ended_with_a_plan_can_be_replayed(world: SchedulerWorld) -> None:
    waiting = (await world.submit({"steps": 1})).task
    unplanned = (await world.submit({"unplannable": True})).task
    rows = await world.ask(COUNTS)

    early = await refusal_of(world.replay(waiting.id))
    planless = await refusal_of(world.replay(unplanned.id))

    assert early.code == planless.code == "conflict"
    assert early.message == "the task is queued; only a task that has ended can be replayed"
    assert "failed with PLANNER_UNAVAILABLE and was never planned" in planless.message
    assert await world.ask(COUNTS) == rows


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"wait_seconds": 26}, "validation_failed"),
        ({"mode": 9}, "validation_failed"),
        ({"idempotency_key": "ä"}, "invalid_idempotency_key"),
        ({"idempotency_key": "k"}, "validation_failed"),
    ],
)
async def test_a_malformed_replay_is_refused(
    world: SchedulerWorld, fields: dict[str, Any], code: str
) -> None:
    original = await ended(world, {"steps": 1})

    assert (await refusal_of(world.replay(original.id, **fields))).code == code


async def test_anothers_task_is_as_unknown_as_any(world: SchedulerWorld) -> None:
    original = await ended(world, {"steps": 1})
    said = set()

    for tenant_id, task_id in ((OTHER_TENANT, original.id), (TENANT, str(new_id())), (TENANT, "x")):
        refused = await refusal_of(world.replay(task_id, tenant_id=tenant_id))
        said.add((refused.code, refused.message))

    assert said == {("not_found", "there is no such task")}


@pytest.mark.parametrize("scope", ["tasks:read", "tasks:write"])
async def test_a_replay_submits_and_shows_so_needs_both_scopes(
    world: SchedulerWorld, scope: str
) -> None:
    request = service_pb.ReplayTaskRequest(task_id=str(new_id()))

    with caller_token(world.token(scopes=frozenset({scope}))):
        refused = await refusal_of(world.tasks.ReplayTask(request))

    assert refused.code == "insufficient_scope"


async def test_what_the_planner_refuses_leaves_nothing(world: SchedulerWorld) -> None:
    original = await ended(world, {"steps": 1})
    rows = await world.ask(COUNTS)
    world.planner.refusal = PawlError("limit_exceeded", "plan.limits.max_steps: too many")

    refused = await refusal_of(
        world.replay(original.id, idempotency_key="k", request_fingerprint=FINGERPRINT)
    )

    assert (refused.code, refused.message) == ("limit_exceeded", "plan.limits.max_steps: too many")
    assert await world.ask(COUNTS) == rows


async def test_the_planner_hears_todays_tier_and_the_mode_of_the_key(world: SchedulerWorld) -> None:
    original = await ended(world, {"steps": 1})
    request = service_pb.ReplayTaskRequest(task_id=original.id, mode=RECORDED)

    with caller_token(world.token(limits=TIERS["free"], mode="test")):
        answer = await world.tasks.ReplayTask(request)

    (asked,) = world.planner.admissions
    assert (asked.tier.max_steps, asked.test_mode, asked.recorded) == (8, True, True)
    assert answer.task.mode == "test"


async def test_many_replays_with_one_key_make_one_task(world: SchedulerWorld) -> None:
    original = await ended(world, {"steps": 1})
    key: dict[str, Any] = {"idempotency_key": "k", "request_fingerprint": FINGERPRINT}

    answers = await asyncio.gather(*(world.replay(original.id, **key) for _ in range(20)))
    other = await refusal_of(
        world.replay(original.id, idempotency_key="k", request_fingerprint="0" * 64)
    )

    assert len({answer.task.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert other.code == "idempotency_key_reused"
    assert (await world.ask(COUNTS))[0]["tasks"] == 2


async def test_divergent_values_travel_bounded(world: SchedulerWorld) -> None:
    original = await ended(world, {"steps": 1})
    async with world.executor(is_manual=True) as executor:
        task = (await world.replay(original.id)).task
        await eventually(lambda: executor.assignments)
        await run_with_output(executor, executor.assignments[0], {"result": "x" * 100_000})

    first = (await replay_of(world, task.id)).first_divergence

    assert (first.step_index, first.field) == (1, "output")
    assert json.loads(first.original_json) == {"result": 1}
    shown = json.loads(first.replayed_json)
    assert (shown["$truncated"], shown["size_bytes"]) == (True, 100_013)
    assert len(first.replayed_json) < 1000


async def run_with_output(
    executor: FakeExecutor, assignment: work_pb.Assignment, output: dict[str, Any]
) -> None:
    """Run a task of one step that comes to `output`."""
    begins = work_pb.StepReport(
        task_id=assignment.task_id, lease_token=assignment.lease_token, started_step_index=1
    )
    assert await executor.report(begins) == work_pb.ACK_STATUS_OK
    closes = work_pb.StepReport(task_id=assignment.task_id, lease_token=assignment.lease_token)
    step = closed_step(assignment, 1, previous=assignment.plan_hash)
    step.output_json = json.dumps(output, separators=(",", ":"))
    step.step_hash = "0" * 64
    closes.finished.CopyFrom(step)
    closes.end.state = State.TASK_STATE_SUCCEEDED
    assert await executor.report(closes) == work_pb.ACK_STATUS_OK
