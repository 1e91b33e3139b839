"""Cancelling over HTTP, in the agents dialect; the scheduler faked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.dialects.agents.mapping import STATUSES, task_record
from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.pb.pawl.common.v1 import failure_pb2
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import TENANT_ID, make_task
from tests.gateway_world import GatewayWorld, gateway_world, problem_of

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
    """A task that runs."""
    return world.scheduler.keep(make_task(task_pb2.TASK_STATE_RUNNING))


async def test_cancel_answers_with_the_task(world: GatewayWorld, task_id: str) -> None:
    answer = await world.http.post(f"/v1/tasks/{task_id}/cancel")

    assert answer.status_code == 200
    assert answer.json() == {
        "task_id": f"task_{task_id}",
        "status": "cancelled",
        "input": {"topic": "x"},
        "artifacts": [],
        "error": None,
        "created_at": "2026-02-27T11:18:01.127894Z",
        "completed_at": "2026-02-27T11:18:02.627894Z",
        "tenant_id": TENANT_ID,
    }
    assert [asked.task_id for asked in world.scheduler.requests] == [task_id]


@pytest.mark.parametrize("spelled", ["{id}", "task_{id}", "TASK_{id}"])
async def test_cancel_reads_both_spellings(world: GatewayWorld, task_id: str, spelled: str) -> None:
    answer = await world.http.post(f"/v1/tasks/{spelled.format(id=task_id)}/cancel")

    assert answer.json()["task_id"] == f"task_{task_id}"


@pytest.mark.parametrize("spelled", ["art_{id}", "{id}0", "null"])
async def test_cancel_of_what_is_no_id_is_not_found(
    world: GatewayWorld, task_id: str, spelled: str
) -> None:
    answer = await world.http.post(f"/v1/tasks/{spelled.format(id=task_id)}/cancel")
    unknown = await world.http.post(f"/v1/tasks/{new_id()}/cancel")

    assert answer.status_code == unknown.status_code == 404
    assert problem_of(answer)["detail"] == problem_of(unknown)["detail"]


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (task_pb2.TASK_STATE_SUCCEEDED, "complete"),
        (task_pb2.TASK_STATE_FAILED, "failed"),
        (task_pb2.TASK_STATE_CANCELLED, "cancelled"),
    ],
)
async def test_cancel_of_what_has_ended_is_a_conflict(
    world: GatewayWorld, state: task_pb2.TaskState.ValueType, word: str
) -> None:
    task_id = world.scheduler.keep(make_task(state))

    answer = await world.http.post(f"/v1/tasks/{task_id}/cancel")

    problem = problem_of(answer)
    assert answer.status_code == 409
    assert problem["code"] == "conflict"
    assert problem["detail"] == f"the task has ended already: {word}"


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", {}),
        (b"", JSON),
        (b"", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"{}", JSON),
        (b" { } ", JSON),
    ],
)
async def test_cancel_takes_no_body_or_an_empty_object(
    world: GatewayWorld, task_id: str, content: bytes, headers: dict[str, str]
) -> None:
    answer = await world.http.post(f"/v1/tasks/{task_id}/cancel", content=content, headers=headers)

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b'{"reason":"x"}', JSON, 422, "unknown_field"),
        (b"null", JSON, 422, "validation_failed"),
        (b"[]", JSON, 422, "validation_failed"),
        (b"{", JSON, 400, "malformed_json"),
        (b" ", JSON, 400, "malformed_json"),
        (b"{}", {}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", JSON | {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        (b"x" * (2**20 + 1), JSON, 413, "payload_too_large"),
    ],
)
async def test_cancel_refuses_any_other_body(
    world: GatewayWorld, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    task_id = world.scheduler.keep(make_task(task_pb2.TASK_STATE_RUNNING))

    answer = await world.http.post(f"/v1/tasks/{task_id}/cancel", content=content, headers=headers)

    assert (answer.status_code, problem_of(answer)["code"]) == (status, code)
    assert not world.scheduler.requests


async def test_cancel_says_which_members_are_known(world: GatewayWorld, task_id: str) -> None:
    answer = await world.http.post(f"/v1/tasks/{task_id}/cancel", json={"force": True})

    (error,) = problem_of(answer)["errors"]
    assert error["detail"] == "it is not known; known are none"


async def test_cancel_knows_no_query(world: GatewayWorld, task_id: str) -> None:
    answer = await world.http.post(f"/v1/tasks/{task_id}/cancel?wait=1")

    assert answer.status_code == 422
    assert not world.scheduler.requests


async def test_cancel_needs_a_key_and_its_scope(world: GatewayWorld, task_id: str) -> None:
    without = await world.http.post(
        f"/v1/tasks/{task_id}/cancel", headers={"Authorization": "Bearer x"}
    )
    world.scheduler.refusal = PawlError("insufficient_scope", "the key lacks tasks:write")
    unscoped = await world.http.post(f"/v1/tasks/{task_id}/cancel")

    assert without.status_code == 401
    assert unscoped.status_code == 403
    assert problem_of(unscoped)["code"] == "insufficient_scope"


async def test_cancel_while_no_scheduler_answers_is_503(world: GatewayWorld, task_id: str) -> None:
    world.scheduler.refusal = PawlError("unavailable", "away", retry_after_seconds=2)

    answer = await world.http.post(f"/v1/tasks/{task_id}/cancel")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("state", "members", "shown"),
    [
        (task_pb2.TASK_STATE_PLANNED, {}, {"status": "pending", "artifacts": []}),
        (task_pb2.TASK_STATE_RUNNING, {}, {"status": "running", "completed_at": None}),
        (task_pb2.TASK_STATE_SUCCEEDED, {}, {"status": "complete", "artifacts": None}),
        (
            task_pb2.TASK_STATE_FAILED,
            {"failure": failure_pb2.Failure(code="EXECUTOR_LOST", message="it was lost")},
            {"status": "failed", "error": "it was lost", "artifacts": []},
        ),
    ],
)
def test_a_task_is_shown_in_the_words_of_agents(
    state: task_pb2.TaskState.ValueType, members: dict[str, Any], shown: dict[str, Any]
) -> None:
    record = task_record(make_task(state, **members))

    assert record | shown == record


def test_every_state_has_a_word() -> None:
    assert set(STATUSES) == set(task_pb2.TaskState.values()) - {0}
