"""Recorded replays over real gRPC: what is answered from the original, and to whom."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.core.errors import Failure, FailureCode
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.pb.pawl.scheduler.v1 import work_service_pb2_grpc as work_grpc
from libs.rpc.client import RpcChannel
from libs.rpc.tokens import KeyRing, ServiceTokens
from tests.rpc.test_replay import RECORDED, ended, refusal_of, replay_of
from tests.scheduler_world import MATH, WAIT, FakeExecutor, SchedulerWorld, State, scheduler_world
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db

BROKE = Failure(
    code=FailureCode.TOOL_ERROR, message="it broke", step="math", step_index=1, reason="X"
)


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


async def recall(
    world: SchedulerWorld, assignment: work_pb.Assignment, **changes: Any
) -> work_pb.RecallStepResponse:
    """What a recorded replay is told of its first step."""
    text = assignment.plan.steps[0].input_json
    asked: dict[str, Any] = {
        "task_id": assignment.task_id,
        "lease_token": assignment.lease_token,
        "step_index": 1,
        "input_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    tokens = ServiceTokens("executor", world.keys.private["executor"])
    channel = RpcChannel(world.channel.target, audience="scheduler", tokens=tokens)
    try:
        stub: Any = channel.stub(work_grpc.WorkServiceStub)
        answer: work_pb.RecallStepResponse = await stub.RecallStep(
            work_pb.RecallStepRequest(**(asked | changes))
        )
        return answer
    finally:
        await channel.close()


async def recorded_replay(
    world: SchedulerWorld, executor: FakeExecutor, original: task_pb2.Task
) -> work_pb.Assignment:
    """A recorded replay that `executor` holds; `math` is answered from the record."""
    world.planner.recorded_tools = ("math",)
    await world.replay(original.id, mode=RECORDED)
    await eventually(lambda: executor.assignments)
    return executor.assignments[-1]


async def test_a_recorded_replay_goes_to_any_executor_and_is_told_what_not_to_call(
    world: SchedulerWorld,
) -> None:
    original = await ended(world, {"steps": 1})
    async with world.executor(name="ex-2", tools=(WAIT,), is_manual=True) as executor:
        assignment = await recorded_replay(world, executor, original)

        answer = await recall(world, assignment)

    assert [tool.name for tool in assignment.recorded_tools] == ["math"]
    assert list(assignment.tool_set) == []
    assert answer.recall == work_pb.RECALL_FOUND
    assert (answer.output_json, answer.of_task_id) == ('{"result":1}', original.id)
    assert not answer.HasField("failure")
    assert (await replay_of(world, assignment.task_id)).mode == RECORDED


async def test_what_is_not_called_need_not_be_offered_but_the_rest_must(
    world: SchedulerWorld,
) -> None:
    original = await ended(world, {"steps": 1})
    world.planner.recorded_tools = ()
    waiting = (await world.replay(original.id, mode=RECORDED)).task

    rows = await world.ask("SELECT tools FROM scheduler.tasks WHERE id = %s", (waiting.id,))
    assert rows == [{"tools": [MATH.offer]}]
    async with world.executor() as able:
        done = await world.get(waiting.id, wait_seconds=10)

    assert done.state == State.TASK_STATE_SUCCEEDED
    assert [tool.name for tool in able.assignments[0].tool_set] == ["math"]


async def test_a_recorded_failure_is_recalled_as_one(world: SchedulerWorld) -> None:
    original = await ended(world, fail=lambda *_: BROKE)
    async with world.executor(is_manual=True) as executor:
        assignment = await recorded_replay(world, executor, original)

        answer = await recall(world, assignment)

    assert answer.recall == work_pb.RECALL_FOUND
    assert not answer.HasField("output_json")
    assert (answer.failure.code, answer.failure.message) == ("TOOL_ERROR", "it broke")
    assert answer.failure.reason == "X"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"input_sha256": "0" * 64}, work_pb.RECALL_OTHER_INPUT),
        ({"step_index": 2}, work_pb.RECALL_NOT_FINISHED),
        ({"step_index": 0}, work_pb.RECALL_NOT_FINISHED),
    ],
)
async def test_what_is_not_on_record_is_said_to_be_missing(
    world: SchedulerWorld, changes: dict[str, Any], word: work_pb.Recall.ValueType
) -> None:
    original = await ended(world, {"steps": 1})
    async with world.executor(is_manual=True) as executor:
        assignment = await recorded_replay(world, executor, original)

        answer = await recall(world, assignment, **changes)

    assert answer.recall == word
    assert not answer.output_json


async def test_only_the_holder_of_a_recorded_replay_is_told(world: SchedulerWorld) -> None:
    original = await ended(world, {"steps": 1})
    async with world.executor(is_manual=True) as executor:
        assignment = await recorded_replay(world, executor, original)

        stale = await refusal_of(recall(world, assignment, lease_token=assignment.lease_token + 1))
        other = await refusal_of(recall(world, assignment, task_id=original.id))
        nobody = await refusal_of(recall(world, assignment, task_id="x"))

    assert (stale.code, other.code, nobody.code) == ("conflict", "conflict", "validation_failed")


async def test_a_live_replay_recalls_nothing(world: SchedulerWorld) -> None:
    original = await ended(world, {"steps": 1})
    async with world.executor(is_manual=True) as executor:
        await world.replay(original.id)
        await eventually(lambda: executor.assignments)

        refused = await refusal_of(recall(world, executor.assignments[0]))

    assert refused.code == "conflict"
