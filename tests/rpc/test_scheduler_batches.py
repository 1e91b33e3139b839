"""SubmitTasks over real gRPC: all or nothing, one key for all, bounded by the tier."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.core.tiers import TIERS, TierLimits
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.rpc.client import caller_token
from libs.rpc.tokens import KeyRing
from tests.scheduler_world import FINGERPRINT, SchedulerWorld, State, scheduler_world
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db

KEYED: dict[str, Any] = {"idempotency_key": "k", "request_fingerprint": FINGERPRINT}


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


def task(said: Any, **members: Any) -> service_pb.SubmitTaskRequest:
    return service_pb.SubmitTaskRequest(task_input_json=json.dumps(said), **members)


async def submit(
    world: SchedulerWorld,
    tasks: Sequence[service_pb.SubmitTaskRequest],
    *,
    token: dict[str, Any] | None = None,
    **members: Any,
) -> service_pb.SubmitTasksResponse:
    request = service_pb.SubmitTasksRequest(tasks=tasks, **members)
    with caller_token(world.token(**token or {})):
        answer: service_pb.SubmitTasksResponse = await world.tasks.SubmitTasks(request, timeout=30)
    return answer


async def refused(call: Any) -> PawlError:
    with pytest.raises(PawlError) as caught:
        await call
    return caught.value


async def counts(world: SchedulerWorld) -> dict[str, int]:
    rows = await world.ask(
        "SELECT (SELECT count(*) FROM scheduler.tasks) AS tasks,"
        " (SELECT count(*) FROM scheduler.task_events) AS events,"
        " (SELECT count(*) FROM scheduler.idempotency) AS keys"
    )
    return rows[0]


NOTHING = {"tasks": 0, "events": 0, "keys": 0}


async def test_tasks_are_stored_in_order_and_all_of_them_run(world: SchedulerWorld) -> None:
    wanted = [task({"steps": n}, priority=n) for n in (1, 2, 3)]
    answer = await submit(world, wanted)

    assert not answer.replayed
    assert [one.priority for one in answer.tasks] == [1, 2, 3]
    assert {one.state for one in answer.tasks} == {State.TASK_STATE_QUEUED}
    assert [one.id for one in answer.tasks] == sorted(one.id for one in answer.tasks)
    for one in answer.tasks:
        # What could be large is in each task, not in the answer to all of them.
        assert (one.input_json, one.HasField("plan"), one.HasField("planner_note")) == (
            "",
            False,
            False,
        )
    async with world.executor():
        ended = [await world.get(one.id, wait_seconds=10) for one in answer.tasks]
    assert [json.loads(one.input_json)["steps"] for one in ended] == [1, 2, 3]
    assert {one.state for one in ended} == {State.TASK_STATE_SUCCEEDED}


async def test_idle_executors_share_a_batch(world: SchedulerWorld) -> None:
    """One of them could not take all of it at once."""
    async with (
        world.executor(name="a", slots=2, is_manual=True) as first,
        world.executor(name="b", slots=2, is_manual=True) as second,
    ):
        await submit(world, [task({"steps": 1})] * 4)

        await eventually(lambda: len(first.assignments) == len(second.assignments) == 2)


async def test_one_refused_task_refuses_all_and_names_its_place(world: SchedulerWorld) -> None:
    wanted = [task({"steps": 1}) for _ in range(4)]
    wanted[1] = task({"refuse": "plan_invalid"})
    wanted[3] = task({"refuse": "unknown_tool"})

    error = await refused(submit(world, wanted, **KEYED))

    assert error.code == "plan_invalid"
    assert [(one.field, one.pointer, one.code) for one in error.errors] == [
        ("tasks[1]", "/tasks/1", "plan_invalid"),
        ("tasks[3]", "/tasks/3", "unknown_tool"),
    ]
    assert "tasks[1]: the planner refuses (and 1 more task is refused)" in error.message
    assert await counts(world) == NOTHING


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"priority": 1001}, "tasks[2].priority"),
        ({"task_input_json": "[]"}, "tasks[2].task_input"),
        ({"wait_seconds": 1}, "tasks[2].wait_seconds"),
        ({"idempotency_key": "x"}, "tasks[2].idempotency_key"),
        ({"request_fingerprint": FINGERPRINT}, "tasks[2].request_fingerprint"),
        ({"agent": service_pb.AgentRef(agent_id="me")}, "tasks[2].agent.agent_id"),
        ({"task_input_json": '{"a":1,"a":2}'}, "tasks[2].a"),
    ],
)
async def test_what_is_wrong_with_a_task_is_said_before_any_is_planned(
    world: SchedulerWorld, change: dict[str, Any], field: str
) -> None:
    wanted = [task({"steps": 1}) for _ in range(3)]
    wanted[2].MergeFrom(service_pb.SubmitTaskRequest(**change))

    error = await refused(submit(world, wanted))

    assert [one.field for one in error.errors] == [field]
    assert not world.planner.requests
    assert await counts(world) == NOTHING


@pytest.mark.parametrize(("tier", "most"), [("free", 1), ("pro", 1), ("enterprise", 100)])
async def test_more_than_the_tier_allows_is_refused_before_anything_is_planned(
    world: SchedulerWorld, tier: str, most: int
) -> None:
    token = {"tier": tier, "limits": TIERS[tier]}

    error = await refused(submit(world, [task({"steps": 1})] * (most + 1), token=token))

    assert error.code == "limit_exceeded"
    (one,) = error.errors
    assert one.field == "tasks"
    assert one.detail == (
        f"{most + 1} tasks in one request; the tier {tier} allows {most} (max_tasks_per_request)"
    )
    assert not world.planner.requests
    assert await counts(world) == NOTHING
    assert len((await submit(world, [task({"steps": 1})] * most, token=token)).tasks) == most


async def test_without_a_limit_of_the_tier_there_is_one_all_the_same(world: SchedulerWorld) -> None:
    limits = replace(TierLimits(), max_queue_seconds=3600)

    error = await refused(submit(world, [task({})] * 1001, token={"limits": limits}))

    assert error.code == "limit_exceeded"
    assert (await refused(submit(world, []))).errors[0].field == "tasks"


async def test_a_batch_needs_the_scope_of_writing(world: SchedulerWorld) -> None:
    token = {"scopes": frozenset({"tasks:read"})}

    error = await refused(submit(world, [task({"steps": 1})], token=token))

    assert error.code == "insufficient_scope"
    assert await counts(world) == NOTHING


async def test_a_key_that_is_bound_to_agents_submits_theirs_only(world: SchedulerWorld) -> None:
    agent_id, other = str(new_id()), str(new_id())
    token = {"allowed_agent_ids": frozenset({agent_id})}
    wanted = [
        task({"steps": 1}, agent=service_pb.AgentRef(agent_id=one)) for one in (agent_id, other)
    ]

    error = await refused(submit(world, wanted, token=token))

    assert error.code == "permission_denied"
    assert error.errors[0].field == "tasks[1]"
    assert len((await submit(world, wanted[:1], token=token)).tasks) == 1


async def test_a_planner_that_is_away_is_no_fault_of_a_task(world: SchedulerWorld) -> None:
    wanted = [task({"refuse": "plan_invalid"}), task({"refuse": "unavailable"})]

    error = await refused(submit(world, wanted))

    assert (error.code, error.errors) == ("unavailable", ())
    assert await counts(world) == NOTHING


async def test_what_nobody_can_plan_fails_beside_the_others(world: SchedulerWorld) -> None:
    answer = await submit(world, [task({"steps": 1}), task({"unplannable": True})])

    states = [one.state for one in answer.tasks]
    assert states == [State.TASK_STATE_QUEUED, State.TASK_STATE_FAILED]
    assert answer.tasks[1].failure.code == "PLANNER_UNAVAILABLE"


async def test_plans_are_made_a_few_at_a_time(world: SchedulerWorld) -> None:
    world.planner.gate = asyncio.Event()
    submitting = asyncio.create_task(submit(world, [task({"steps": 1})] * 20))
    await eventually(lambda: len(world.planner.requests) == 8)

    world.planner.gate.set()
    answer = await submitting

    assert len(answer.tasks) == len(world.planner.requests) == 20


# ---------------------------------------------------------------- one key for all of them


async def test_the_same_batch_again_is_the_same_tasks_as_they_stand(world: SchedulerWorld) -> None:
    wanted = [task({"steps": 1}), task({"steps": 2})]
    first = await submit(world, wanted, **KEYED)
    async with world.executor():
        for one in first.tasks:
            await world.get(one.id, wait_seconds=10)

    again = await submit(world, wanted, **KEYED)

    assert again.replayed
    assert [one.id for one in again.tasks] == [one.id for one in first.tasks]
    assert {one.state for one in again.tasks} == {State.TASK_STATE_SUCCEEDED}
    assert not any(one.HasField("result_json") for one in again.tasks)
    assert len(world.planner.requests) == 2
    assert await counts(world) == {"tasks": 2, "events": 16, "keys": 1}


async def test_a_key_again_is_answered_though_the_tier_allows_less_now(
    world: SchedulerWorld,
) -> None:
    wanted = [task({"steps": 1}), task({"steps": 2})]
    first = await submit(world, wanted, **KEYED)

    again = await submit(world, wanted, token={"tier": "free", "limits": TIERS["free"]}, **KEYED)

    assert [one.id for one in again.tasks] == [one.id for one in first.tasks]


async def test_a_key_of_another_request_is_refused(world: SchedulerWorld) -> None:
    await submit(world, [task({"steps": 1})], **KEYED)
    await world.submit({"steps": 1}, idempotency_key="one", request_fingerprint=FINGERPRINT)

    for call in (
        submit(world, [task({"steps": 2})], idempotency_key="k", request_fingerprint="0" * 64),
        # The same fingerprint, but the one made a batch, and the other a task.
        world.submit({"steps": 1}, **KEYED),
        submit(world, [task({"steps": 1})], idempotency_key="one", request_fingerprint=FINGERPRINT),
    ):
        assert (await refused(call)).code == "idempotency_key_reused"
    assert (await counts(world))["tasks"] == 2


@pytest.mark.parametrize("key", ["", "ä", "x" * 256, " x", "x\n"])
async def test_a_bad_key_is_refused(world: SchedulerWorld, key: str) -> None:
    call = submit(world, [task({})], idempotency_key=key, request_fingerprint=FINGERPRINT)

    assert (await refused(call)).code == "invalid_idempotency_key"


async def test_twenty_equal_batches_at_once_are_one(world: SchedulerWorld) -> None:
    wanted = [task({"steps": 1}) for _ in range(3)]

    answers = await asyncio.gather(*(submit(world, wanted, **KEYED) for _ in range(20)))

    assert len({tuple(one.id for one in answer.tasks) for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert await counts(world) == {"tasks": 3, "events": 9, "keys": 1}


async def test_losers_of_a_key_drop_their_plans(world: SchedulerWorld) -> None:
    """All have read that the key is free before the first of them writes."""
    world.planner.gate = asyncio.Event()
    wanted = [task({"steps": 1}) for _ in range(2)]
    calls = [asyncio.create_task(submit(world, wanted, **KEYED)) for _ in range(6)]
    await eventually(lambda: len(world.planner.requests) == 12)

    world.planner.gate.set()
    answers = await asyncio.gather(*calls)

    assert len({tuple(one.id for one in answer.tasks) for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert await counts(world) == {"tasks": 2, "events": 6, "keys": 1}


async def test_another_batch_with_the_key_loses_too(world: SchedulerWorld) -> None:
    world.planner.gate = asyncio.Event()
    calls = [
        asyncio.create_task(
            submit(
                world, [task({"steps": n})], idempotency_key="k", request_fingerprint=f"{n}" * 64
            )
        )
        for n in (1, 2)
    ]
    await eventually(lambda: len(world.planner.requests) == 2)

    world.planner.gate.set()
    done = await asyncio.gather(*calls, return_exceptions=True)

    (error,) = [one for one in done if isinstance(one, PawlError)]
    assert error.code == "idempotency_key_reused"
    assert (await counts(world))["tasks"] == 1
