"""Submit, look, wait, trace and follow over real gRPC, with a planner and executors of the test."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.core.errors import Failure, FailureCode, PawlError
from libs.core.hashing import RECIPE
from libs.core.ids import new_id
from libs.core.plan import plan_from_json
from libs.core.tiers import TIERS
from libs.core.verification import verify
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2_grpc as service_grpc
from libs.pb.pawl.scheduler.v1 import trace_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.rpc.client import NO_DEADLINE, RpcChannel, caller_token
from libs.rpc.convert import plan_from_proto
from libs.rpc.tokens import KeyRing, ServiceTokens
from services.scheduler.trace_pages import PAGE_BYTES
from tests.scheduler_world import (
    FINGERPRINT,
    OTHER_TENANT,
    TENANT,
    SchedulerWorld,
    State,
    scheduler_world,
)
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


async def code_of(call: Any) -> str:
    """The code of the refusal that a call must end with."""
    with pytest.raises(PawlError) as refused:
        await call
    return refused.value.code


async def counts(world: SchedulerWorld) -> list[dict[str, Any]]:
    return await world.ask(
        "SELECT (SELECT count(*) FROM scheduler.tasks) AS tasks,"
        " (SELECT count(*) FROM scheduler.task_events) AS events,"
        " (SELECT count(*) FROM scheduler.idempotency) AS keys"
    )


def verification_block(pages: list[trace_pb2.TracePage]) -> dict[str, Any]:
    """The block that proves a trace, built from nothing but its pages."""
    head = pages[0].head
    steps = [step for page in pages for step in page.steps]
    words = {
        trace_pb2.STEP_STATUS_SUCCEEDED: "succeeded",
        trace_pb2.STEP_STATUS_FAILED: "failed",
        trace_pb2.STEP_STATUS_INTERRUPTED: "interrupted",
    }
    failure = head.task.failure
    return {
        "recipe": RECIPE,
        "task_input": json.loads(head.task.input_json),
        "plan": plan_from_proto(head.task.plan).as_json() if head.task.plan_hash else None,
        "tool_set": [[tool.name, tool.version, tool.digest] for tool in head.tool_set],
        "plan_hash": head.task.plan_hash or None,
        "state": State.Name(head.task.state).removeprefix("TASK_STATE_").lower(),
        "failure_code": failure.code or None,
        "task_hash": head.task.task_hash or None,
        "steps": [
            {
                "step_index": step.step_index,
                "tool": step.tool.name,
                "tool_version": step.tool.version,
                "tool_digest": step.tool.digest,
                "resolved_input": json.loads(step.resolved_input_json or "null"),
                "output": json.loads(step.output_json) if step.output_json else None,
                "status": words[step.status],
                "failure_code": step.failure.code or None,
                "step_hash": step.step_hash or None,
            }
            for step in steps
        ],
    }


# ---------------------------------------------------------------- submit


async def test_submit_answers_with_the_queued_task(world: SchedulerWorld) -> None:
    answer = await world.submit({"b": 1, "steps": 2, "a": 1.0}, priority=7)

    task = answer.task
    assert not answer.replayed
    assert (task.state, task.seq, task.priority) == (State.TASK_STATE_QUEUED, 3, 7)
    assert task.input_json == '{"a":1,"b":1,"steps":2}'
    assert (task.planned_by, task.planner_note, task.mode) == (
        "offline",
        "planned by a fake",
        "live",
    )
    assert (task.tenant_id, task.cost_usd, len(task.plan_hash)) == (str(TENANT), 0, 64)
    assert [step.step_index for step in task.plan.steps] == [1, 2]
    assert not task.HasField("result_json")
    assert not task.HasField("failure")
    assert not task.task_hash
    again = await world.get(task.id)
    again.ClearField("waiting")
    assert again == task


async def test_submit_tells_the_planner_tenant_tier_and_mode(world: SchedulerWorld) -> None:
    token = world.token(limits=TIERS["free"], mode="test")
    request = service_pb.SubmitTaskRequest(task_input_json='{"steps":1}', plan_json='{"x":1}')
    request.asked.max_steps = 3
    with caller_token(token):
        await world.tasks.SubmitTask(request)

    (asked,) = world.planner.requests
    assert world.planner.tenants == [TENANT]
    assert (asked.plan_json, asked.test_mode, asked.asked.max_steps) == ('{"x":1}', True, 3)
    assert (asked.tier.max_steps, asked.tier.max_total_seconds) == (8, 30)
    assert (asked.tier.max_total_tokens, asked.tier.max_queue_seconds) == (10_000, 3600)
    assert not asked.tier.HasField("max_step_seconds")


@pytest.mark.parametrize(
    ("request_fields", "code"),
    [
        ({"task_input_json": '{"refuse":"plan_invalid"}'}, "plan_invalid"),
        ({"task_input_json": '{"refuse":"tool_unavailable"}'}, "tool_unavailable"),
        ({"task_input_json": "[1]"}, "validation_failed"),
        ({"task_input_json": ""}, "malformed_json"),
        ({"task_input_json": '{"a":1,"a":2}'}, "duplicate_key"),
        ({"task_input_json": '{"a":"\\u0000"}'}, "invalid_characters"),
        ({"task_input_json": '{"a":1e999}'}, "non_finite_number"),
        ({"priority": 1001}, "validation_failed"),
        ({"wait_seconds": 25.5}, "validation_failed"),
        ({"wait_seconds": float("nan")}, "validation_failed"),
        ({"idempotency_key": ""}, "invalid_idempotency_key"),
        ({"idempotency_key": "ä"}, "invalid_idempotency_key"),
        ({"idempotency_key": "x" * 256}, "invalid_idempotency_key"),
        ({"idempotency_key": "k"}, "validation_failed"),
    ],
)
async def test_refused_submit_leaves_nothing(
    world: SchedulerWorld, request_fields: dict[str, Any], code: str
) -> None:
    assert await code_of(world.submit(**request_fields)) == code
    assert await counts(world) == [{"tasks": 0, "events": 0, "keys": 0}]


async def test_submit_needs_its_scope_and_a_caller(world: SchedulerWorld) -> None:
    request = service_pb.SubmitTaskRequest(task_input_json='{"steps":1}')
    with caller_token(world.token(scopes=frozenset({"tasks:read"}))):
        assert await code_of(world.tasks.SubmitTask(request)) == "insufficient_scope"
    assert await code_of(world.tasks.SubmitTask(request)) == "unauthenticated"
    tokens = ServiceTokens("executor", world.keys.private["executor"])
    channel = RpcChannel(world.channel.target, audience="scheduler", tokens=tokens)
    stub: Any = channel.stub(service_grpc.SchedulerServiceStub)
    assert await code_of(stub.SubmitTask(request)) == "permission_denied"
    await channel.close()


async def test_submit_without_a_planner_is_unavailable_and_stores_nothing(
    world: SchedulerWorld,
) -> None:
    assert await code_of(world.submit({"refuse": "unavailable"})) == "unavailable"
    assert await counts(world) == [{"tasks": 0, "events": 0, "keys": 0}]


async def test_task_that_nobody_can_plan_is_stored_as_failed(world: SchedulerWorld) -> None:
    answer = await world.submit({"unplannable": True}, wait_seconds=5)

    task = answer.task
    assert (task.state, task.seq, task.plan_hash) == (State.TASK_STATE_FAILED, 2, "")
    assert (task.failure.code, task.planned_by) == ("PLANNER_UNAVAILABLE", "")
    assert task.failure.message == "nobody can plan this; give a plan. No step was executed."
    assert not task.HasField("plan")
    pages = await world.trace(task.id)
    assert verify(verification_block(pages)).holds


async def test_fifty_submits_with_one_key_answer_with_one_task(world: SchedulerWorld) -> None:
    key: dict[str, Any] = {"idempotency_key": "k 1", "request_fingerprint": FINGERPRINT}

    answers = await asyncio.gather(*(world.submit({"steps": 1}, **key) for _ in range(50)))

    assert len({answer.task.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert await counts(world) == [{"tasks": 1, "events": 3, "keys": 1}]


async def test_losers_of_a_key_drop_their_plans(world: SchedulerWorld) -> None:
    """All have read that the key is free before the first of them writes."""
    world.planner.gate = asyncio.Event()
    key: dict[str, Any] = {"idempotency_key": "k", "request_fingerprint": FINGERPRINT}
    calls = [asyncio.create_task(world.submit({"steps": 1}, **key)) for _ in range(8)]
    await eventually(lambda: len(world.planner.requests) == 8)

    world.planner.gate.set()
    answers = await asyncio.gather(*calls)

    assert len({answer.task.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert await counts(world) == [{"tasks": 1, "events": 3, "keys": 1}]


async def test_replay_answers_with_the_present_state_and_plans_nothing(
    world: SchedulerWorld,
) -> None:
    key: dict[str, Any] = {"idempotency_key": "k", "request_fingerprint": FINGERPRINT}
    first = await world.submit({"steps": 1}, **key)
    async with world.executor():
        await world.get(first.task.id, wait_seconds=10)

    again = await world.submit({"steps": 1}, **key)
    other = world.submit({"steps": 1}, idempotency_key="k", request_fingerprint="0" * 64)

    assert (again.replayed, again.task.id) == (True, first.task.id)
    assert again.task.state == State.TASK_STATE_SUCCEEDED
    assert await code_of(other) == "idempotency_key_reused"
    assert len(world.planner.requests) == 1
    theirs = await world.submit({"steps": 1}, tenant_id=OTHER_TENANT, **key)
    assert not theirs.replayed


async def test_a_key_in_test_mode_names_no_live_task_and_the_other_way_round(
    world: SchedulerWorld,
) -> None:
    key: dict[str, Any] = {"idempotency_key": "k", "request_fingerprint": FINGERPRINT}

    answers = [
        await world.submit({"steps": 1}, mode=mode, **key)
        for mode in ("live", "test", "test", "live")
    ]

    assert [answer.replayed for answer in answers] == [False, False, True, True]
    assert [answer.task.mode for answer in answers] == ["live", "test", "test", "live"]
    assert await counts(world) == [{"tasks": 2, "events": 6, "keys": 2}]


# ---------------------------------------------------------------- look and wait


async def test_another_tenants_task_is_as_unknown_as_any(world: SchedulerWorld) -> None:
    task_id = (await world.submit({"steps": 1})).task.id
    said = []

    for tenant_id, wanted in ((OTHER_TENANT, task_id), (TENANT, str(new_id())), (TENANT, "x")):
        for call in (
            world.get(wanted, tenant_id=tenant_id),
            world.get(wanted, tenant_id=tenant_id, wait_seconds=3),
            world.trace(wanted, tenant_id=tenant_id),
            first_answers(world, 1, tenant_id=tenant_id, task_id=wanted),
        ):
            with pytest.raises(PawlError) as refused:
                await call
            said.append((refused.value.code, refused.value.message))

    assert set(said) == {("not_found", "there is no such task")}


async def test_wait_ends_with_the_task(world: SchedulerWorld) -> None:
    async with world.executor() as executor:
        executor.is_manual = True
        task_id = (await world.submit({"steps": 1})).task.id
        waiting = asyncio.create_task(world.get(task_id, wait_seconds=20))
        await eventually(lambda: executor.assignments)
        began = time.monotonic()

        await executor.run_task(executor.assignments[0])
        task = await waiting

    assert task.state == State.TASK_STATE_SUCCEEDED
    assert task.result_json == '{"result":1}'
    assert time.monotonic() - began < 5


async def test_wait_that_runs_out_answers_with_the_present_state(world: SchedulerWorld) -> None:
    answer = await world.submit({"steps": 1}, wait_seconds=0.2)

    task = await world.get(answer.task.id, wait_seconds=0.2)

    assert answer.task.state == task.state == State.TASK_STATE_QUEUED


async def test_wait_is_ended_by_a_scheduler_elsewhere(
    world: SchedulerWorld, keys: KeyRing, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    elsewhere = scheduler_world(world.database, keys, tmp_path / "b")
    async with elsewhere as other, other.executor() as executor:
        began = time.monotonic()
        answer = await world.submit({"steps": 2}, wait_seconds=20)

    assert answer.task.state == State.TASK_STATE_SUCCEEDED
    assert len(executor.ran) == 2
    assert time.monotonic() - began < 8


# ---------------------------------------------------------------- trace


async def test_trace_of_a_success_proves_itself(world: SchedulerWorld) -> None:
    async with world.executor():
        task_id = (await world.submit({"steps": 3}, wait_seconds=10)).task.id

    pages = await world.trace(task_id)

    head = pages[0].head
    assert head.task.state == State.TASK_STATE_SUCCEEDED
    assert [tool.name for tool in head.tool_set] == ["math"]
    events = [event for page in pages for event in page.events]
    assert [event.seq for event in events] == list(range(1, 12))
    assert events[0].from_state == State.TASK_STATE_UNSPECIFIED
    assert not events[0].HasField("position")
    steps = [step for page in pages for step in page.steps]
    assert [step.output_json for step in steps] == [f'{{"result":{k}}}' for k in (1, 2, 3)]
    assert len({step.id for step in steps}) == 3
    assert verify(verification_block(pages)).holds


async def test_trace_of_a_failure_says_what_ran_and_proves_itself(world: SchedulerWorld) -> None:
    broke = Failure(
        code=FailureCode.TOOL_ERROR, message="it broke", step="math", step_index=2, reason="MATH_X"
    )
    async with world.executor(fail=lambda _, step: broke if step == 2 else None) as executor:
        task = (await world.submit({"steps": 4}, wait_seconds=10)).task

    pages = await world.trace(task.id)

    assert task.state == State.TASK_STATE_FAILED
    assert (task.failure.step, task.failure.step_index) == ("math", 2)
    assert (task.failure.code, task.failure.reason) == ("TOOL_ERROR", "MATH_X")
    assert task.failure.message == (
        "it broke. Step 1 of 4 ran, step 2 failed; steps 3 to 4 did not run."
    )
    steps = [step for page in pages for step in page.steps]
    assert [trace_pb2.StepStatus.Name(step.status) for step in steps] == [
        "STEP_STATUS_SUCCEEDED",
        "STEP_STATUS_FAILED",
    ]
    assert (steps[1].failure.message, steps[1].HasField("output_json")) == ("it broke", False)
    assert [step for _, step in executor.ran] == [1, 2]
    assert verify(verification_block(pages)).holds


async def test_trace_shows_the_running_step(world: SchedulerWorld) -> None:
    async with world.executor(is_manual=True) as executor:
        task_id = (await world.submit({"steps": 3})).task.id
        assignment = (await eventually(lambda: executor.assignments))[0]
        await executor.run_task(assignment)
        ended = await world.trace(task_id)
        second = (await world.submit({"steps": 3})).task.id
        await eventually(lambda: executor.assignments[1:])
        report = work_pb.StepReport(task_id=second, lease_token=1, started_step_index=1)
        await executor.report(report)
        pages = await world.trace(second)

    (step,) = [step for page in pages for step in page.steps]
    assert (step.status, step.step_index) == (trace_pb2.STEP_STATUS_RUNNING, 1)
    assert step.HasField("started_at")
    assert not step.HasField("finished_at")
    assert ended[0].head.task.state == State.TASK_STATE_SUCCEEDED


async def test_trace_comes_in_pages_of_a_bounded_size(world: SchedulerWorld) -> None:
    async with world.executor():
        task_id = (await world.submit({"steps": 450}, wait_seconds=25)).task.id

    pages = await world.trace(task_id)

    assert [len(page.events) for page in pages] == [200, 200, 200, 200, 105, 0, 0, 0]
    assert [len(page.steps) for page in pages] == [0, 0, 0, 0, 0, 200, 200, 50]
    assert [page.HasField("head") for page in pages] == [True] + [False] * 7
    assert all(page.ByteSize() < PAGE_BYTES * 2 for page in pages)
    indexes = [step.step_index for page in pages for step in page.steps]
    assert indexes == list(range(1, 451))
    assert plan_from_json(plan_from_proto(pages[0].head.task.plan).as_json())


# ---------------------------------------------------------------- follow


def follow(world: SchedulerWorld, *, tenant_id: Any = TENANT, **request: Any) -> Any:
    """The open stream of WatchEvents."""
    return _follow(world, service_pb.WatchEventsRequest(**request), world.token(tenant_id))


async def _follow(
    world: SchedulerWorld, request: service_pb.WatchEventsRequest, token: str
) -> AsyncIterator[service_pb.WatchEventsResponse]:
    async with aclosing(world.tasks.WatchEvents(request, timeout=NO_DEADLINE)) as answers:
        while True:
            # The call is made, and its token read, with the first message.
            with caller_token(token):
                answer = await anext(answers, None)
            if answer is None:
                return
            yield answer


async def first_answers(world: SchedulerWorld, count: int, **request: Any) -> list[Any]:
    """So many answers of a stream, or all when it ends before."""
    answers = []
    async with aclosing(follow(world, **request)) as stream:
        async for answer in stream:
            answers.append(answer)
            if len(answers) == count:
                break
    return answers


async def events_of(world: SchedulerWorld, **request: Any) -> list[Any]:
    """Every event until the stream ends."""
    answers = await first_answers(world, 10_000, **request)
    return [event for answer in answers for event in answer.events]


async def test_follow_a_task_from_its_first_event_to_its_end(world: SchedulerWorld) -> None:
    task_id = (await world.submit({"steps": 2})).task.id
    following = asyncio.create_task(events_of(world, task_id=task_id))

    async with world.executor():
        events = await asyncio.wait_for(following, 10)

    assert [event.seq for event in events] == list(range(1, 10))
    assert events[-1].to_state == State.TASK_STATE_SUCCEEDED
    assert events == [e for page in await world.trace(task_id) for e in page.events]


async def test_follow_goes_on_after_a_seq(world: SchedulerWorld) -> None:
    async with world.executor():
        task_id = (await world.submit({"steps": 2}, wait_seconds=10)).task.id

    rest = await events_of(world, task_id=task_id, after_seq=7)
    nothing = await events_of(world, task_id=task_id, after_seq=9)

    assert [event.seq for event in rest] == [8, 9]
    assert nothing == []


async def test_follow_a_tenant_live(world: SchedulerWorld) -> None:
    seen: list[Any] = []
    async with aclosing(follow(world)) as stream, world.executor():
        first = await anext(stream)
        assert list(first.events) == []
        mine = (await world.submit({"steps": 1}, wait_seconds=10)).task.id
        await world.submit({"steps": 1}, tenant_id=OTHER_TENANT, wait_seconds=10)
        while len(seen) < 7:
            seen.extend((await asyncio.wait_for(anext(stream), 10)).events)

    assert {event.task_id for event in seen} == {mine}
    assert [event.seq for event in seen] == list(range(1, 8))
    positions = [event.position for event in seen]
    assert positions == sorted(set(positions))
    in_table = [e for page in await world.trace(mine) for e in page.events]
    for live, stored in zip(seen, in_table, strict=True):
        live.ClearField("position")
        assert live == stored


async def test_follow_a_tenant_from_the_beginning_and_from_a_position(
    world: SchedulerWorld,
) -> None:
    async with world.executor():
        ids = [(await world.submit({"steps": 1}, wait_seconds=10)).task.id for _ in range(3)]
    await eventually(lambda: _is_published(world, 21))

    _, all_of_it = await first_answers(world, 2, after_position=0)
    tenth = all_of_it.events[9].position
    _, rest = await first_answers(world, 2, after_position=tenth)

    assert [event.task_id for event in all_of_it.events] == [i for i in ids for _ in range(7)]
    assert list(rest.events) == list(all_of_it.events)[10:]


async def _is_published(world: SchedulerWorld, events: int) -> bool:
    rows = await world.ask("SELECT count(*) AS n FROM bus.records")
    return bool(rows[0]["n"] >= events)


@pytest.mark.parametrize(
    "request_fields",
    [
        {"after_seq": 1},
        {"after_position": -1},
        {"task_id": str(new_id()), "after_seq": -1},
        {"task_id": str(new_id()), "after_position": 1},
    ],
)
async def test_follow_refuses_what_does_not_go_together(
    world: SchedulerWorld, request_fields: dict[str, Any]
) -> None:
    assert await code_of(first_answers(world, 1, **request_fields)) == "validation_failed"


async def test_stopping_ends_waits_and_streams_at_once(
    world: SchedulerWorld,
) -> None:
    task_id = (await world.submit({"steps": 1})).task.id
    waiting = asyncio.create_task(world.get(task_id, wait_seconds=25))
    watching = asyncio.create_task(events_of(world, task_id=task_id))
    tenant = follow(world)
    await anext(tenant)
    following = asyncio.create_task(anext(tenant))
    await eventually(lambda: world.process.signals.changed._flags)
    began = time.monotonic()

    world.stop.set()

    assert (await waiting).state == State.TASK_STATE_QUEUED
    assert await code_of(watching) == "unavailable"
    assert await code_of(following) == "unavailable"
    await asyncio.wait_for(asyncio.shield(world.serving), 10)
    assert time.monotonic() - began < 5


async def test_database_that_is_away_is_unavailable(world: SchedulerWorld) -> None:
    task_id = (await world.submit({"steps": 1})).task.id
    (database,) = await world.ask("SELECT current_database() AS name")
    limit = f"ALTER DATABASE {database['name']} CONNECTION LIMIT"
    await world.ask(f"{limit} 0")
    try:
        await world.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'pawl_scheduler' AND datname = current_database()"
        )
        refused = await code_of(world.submit({"steps": 1}))
    finally:
        await world.ask(f"{limit} -1")

    assert refused == "unavailable"
    await eventually(lambda: _answers(world, task_id), timeout=20)
    async with world.executor():
        assert (await world.get(task_id, wait_seconds=15)).state == State.TASK_STATE_SUCCEEDED


async def _answers(world: SchedulerWorld, task_id: str) -> bool:
    try:
        return bool((await world.get(task_id)).id)
    except PawlError:
        return False


async def test_health_and_reflection_name_both_services(world: SchedulerWorld) -> None:
    async with grpc.aio.insecure_channel(world.channel.target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("pawl.scheduler.v1.SchedulerService", "pawl.scheduler.v1.WorkService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
