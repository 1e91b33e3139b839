"""Replaying over HTTP, in the runtime dialect; the scheduler faked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.idempotency import fingerprint
from libs.core.errors import FieldError, PawlError
from libs.core.ids import new_id
from libs.pb.pawl.scheduler.v1 import task_pb2, trace_pb2
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import make_task
from tests.gateway_world import VERSION, GatewayWorld, gateway_world, problem_of

JSON = {"Content-Type": "application/json"}


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


@pytest.fixture
def task_id(world: GatewayWorld) -> str:
    """A task that has succeeded."""
    return world.scheduler.keep(make_task(task_pb2.TASK_STATE_SUCCEEDED))


def refused(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """The problem of a refusal with that status."""
    assert answer.status_code == status, answer.text
    return problem_of(answer)


def path_of(task_id: str) -> str:
    return f"/api/v1/tasks/{task_id}/replay"


async def test_replay_answers_as_execute_does(world: GatewayWorld, task_id: str) -> None:
    answer = await world.http.post(path_of(task_id))

    assert answer.status_code == 200
    said = answer.json()
    assert said.pop("task_id") != task_id
    assert said == {
        "version": VERSION,
        "status": "queued",
        "duration_seconds": 0.0,
        "cost_usd": 0.0,
        "result": {"queued": True},
        "error": None,
        "failure": None,
    }
    (asked,) = world.scheduler.requests
    assert (asked.task_id, asked.mode, asked.wait_seconds) == (task_id, 0, 0)
    assert not asked.HasField("idempotency_key")


@pytest.mark.parametrize("spelled", ["{id}", "task_{id}", "TASK_{id}"])
async def test_replay_reads_both_spellings(world: GatewayWorld, task_id: str, spelled: str) -> None:
    answer = await world.http.post(path_of(spelled.format(id=task_id)))

    assert answer.status_code == 200
    assert world.scheduler.requests[0].task_id == task_id


@pytest.mark.parametrize(
    ("body", "mode"),
    [
        ({}, task_pb2.REPLAY_MODE_UNSPECIFIED),
        ({"mode": "live"}, task_pb2.REPLAY_MODE_LIVE),
        ({"mode": "recorded"}, task_pb2.REPLAY_MODE_RECORDED),
    ],
)
async def test_the_body_says_the_mode(
    world: GatewayWorld, task_id: str, body: dict[str, Any], mode: int
) -> None:
    answer = await world.http.post(path_of(task_id) + "?wait=2.5", json=body)

    assert answer.status_code == 200
    assert (world.scheduler.requests[0].mode, world.scheduler.requests[0].wait_seconds) == (
        mode,
        2.5,
    )


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"mode": "fast"}, "mode", "invalid_value"),
        ({"mode": None}, "mode", "wrong_type"),
        ({"mode": ["live"]}, "mode", "wrong_type"),
        ({"mode": "live", "max_steps": 3}, "max_steps", "unknown_field"),
    ],
)
async def test_a_body_that_says_something_else_is_refused(
    world: GatewayWorld, task_id: str, body: dict[str, Any], field: str, code: str
) -> None:
    answer = await world.http.post(path_of(task_id), json=body)

    problem = refused(answer, 422)
    assert [(error["field"], error["code"]) for error in problem["errors"]] == [(field, code)]
    assert world.scheduler.requests == []


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "malformed_json"),
        (b'{"mode":"live","mode":"live"}', JSON, 400, "duplicate_key"),
        (b"[]", JSON, 422, "validation_failed"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"mode":"\\ud800"}', JSON, 422, "invalid_characters"),
    ],
)
async def test_the_body_is_read_strictly(
    world: GatewayWorld,
    task_id: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    answer = await world.http.post(path_of(task_id), content=content, headers=headers)

    assert refused(answer, status)["code"] == code


async def test_a_key_stands_for_method_path_and_body(world: GatewayWorld, task_id: str) -> None:
    headers = {"Idempotency-Key": '"seen"'}

    answer = await world.http.post(
        path_of(f"task_{task_id}"), json={"mode": "recorded"}, headers=headers
    )

    assert answer.headers["Idempotent-Replayed"] == "true"
    (asked,) = world.scheduler.requests
    assert asked.idempotency_key == "seen"
    assert asked.request_fingerprint == fingerprint("POST", path_of(task_id), {"mode": "recorded"})


async def test_without_a_body_a_key_stands_for_an_empty_one(
    world: GatewayWorld, task_id: str
) -> None:
    await world.http.post(path_of(task_id), headers={"Idempotency-Key": "k"})
    await world.http.post(path_of(task_id), headers={"Idempotency-Key": "k"}, json={})

    one, other = (asked.request_fingerprint for asked in world.scheduler.requests)
    assert one == other == fingerprint("POST", path_of(task_id), {})


async def test_a_bad_key_and_a_bad_wait_are_refused(world: GatewayWorld, task_id: str) -> None:
    key = await world.http.post(path_of(task_id), headers={"Idempotency-Key": "x" * 256})
    wait = await world.http.post(path_of(task_id) + "?wait=26")
    other = await world.http.post(path_of(task_id) + "?mode=recorded")

    assert refused(key, 400)["code"] == "invalid_idempotency_key"
    assert refused(wait, 422)["code"] == "validation_failed"
    assert refused(other, 422)["code"] == "unknown_field"


@pytest.mark.parametrize("task_id", [str(new_id()), "task_x", "1"])
async def test_an_unknown_task_is_not_found(world: GatewayWorld, task_id: str) -> None:
    answer = await world.http.post(path_of(task_id))

    assert refused(answer, 404)["detail"] == "there is no such task"


async def test_a_task_that_has_not_ended_is_a_conflict(world: GatewayWorld) -> None:
    running = world.scheduler.keep(make_task(task_pb2.TASK_STATE_RUNNING))

    answer = await world.http.post(path_of(running))

    problem = refused(answer, 409)
    assert (problem["code"], problem["detail"]) == (
        "conflict",
        "only a task that has ended can be replayed",
    )


async def test_refusals_of_the_planner_keep_their_fields(world: GatewayWorld, task_id: str) -> None:
    error = FieldError(field="plan.limits.max_steps", code="limit_exceeded", detail="too many")
    world.scheduler.refusal = PawlError(
        "limit_exceeded", "plan.limits.max_steps: too many", errors=(error,)
    )

    answer = await world.http.post(path_of(task_id))

    problem = refused(answer, 422)
    assert problem["code"] == "limit_exceeded"
    assert problem["errors"] == [
        {
            "field": "plan.limits.max_steps",
            "pointer": "/plan/limits/max_steps",
            "code": "limit_exceeded",
            "detail": "too many",
        }
    ]


async def test_replay_needs_a_key_and_the_method_post(world: GatewayWorld, task_id: str) -> None:
    anonymous = await world.http.post(path_of(task_id), headers={"Authorization": "Bearer x"})
    got = await world.http.get(path_of(task_id))

    assert refused(anonymous, 401)["code"] == "unauthenticated"
    assert refused(got, 405)["code"] == "method_not_allowed"
    assert "POST" in got.headers["Allow"]


async def replay_block(world: GatewayWorld, replay: trace_pb2.Replay | None) -> Any:
    task = make_task(task_pb2.TASK_STATE_SUCCEEDED, replay_of_task_id=str(new_id()))
    head = trace_pb2.TraceHead(task=task, replay=replay)
    world.scheduler.pages = [trace_pb2.TracePage(head=head)]
    answer = await world.http.get(f"/api/v1/tasks/{world.scheduler.keep(task)}/trace")
    assert answer.status_code == 200, answer.text
    return answer.json()["replay"]


async def test_the_trace_says_where_a_replay_parts_from_its_original(world: GatewayWorld) -> None:
    original = str(new_id())
    first = trace_pb2.Divergence(
        step_index=2, field="output", original_json='{"n":1e20}', replayed_json="null"
    )
    replay = trace_pb2.Replay(
        of_task_id=original,
        mode=task_pb2.REPLAY_MODE_RECORDED,
        matches=False,
        first_divergence=first,
    )

    assert await replay_block(world, replay) == {
        "of_task_id": original,
        "mode": "recorded",
        "matches": False,
        "first_divergence": {
            "step_index": 2,
            "field": "output",
            "original": {"n": 1e20},
            "replayed": None,
        },
    }


async def test_the_trace_leaves_open_what_is_open(world: GatewayWorld) -> None:
    running = trace_pb2.Replay(of_task_id="x", mode=task_pb2.REPLAY_MODE_LIVE)
    whole = trace_pb2.Replay(
        of_task_id="x",
        mode=task_pb2.REPLAY_MODE_LIVE,
        matches=False,
        first_divergence=trace_pb2.Divergence(
            field="state", original_json='"succeeded"', replayed_json='"cancelled"'
        ),
    )

    block = await replay_block(world, running)
    assert (block["matches"], block["first_divergence"]) == (None, None)
    assert (await replay_block(world, whole))["first_divergence"]["step_index"] is None
    assert await replay_block(world, None) is None
