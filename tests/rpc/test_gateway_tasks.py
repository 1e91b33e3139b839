"""The runtime dialect over HTTP, the scheduler faked: what is asked of it, and what is answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.core.errors import FieldError, PawlError
from libs.core.ids import new_id
from libs.pb.pawl.common.v1 import failure_pb2
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import make_task
from tests.gateway_world import VERSION, GatewayWorld, gateway_world, problem_of

EXECUTE = "/api/v1/tasks/execute"
BODY: dict[str, Any] = {"task_definition": {"topic": "x"}, "max_steps": 12, "timeout_seconds": 45}


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


async def test_execute_answers_every_field_of_the_contract(world: GatewayWorld) -> None:
    answer = await world.http.post(EXECUTE, json=BODY)

    assert answer.status_code == 200
    assert answer.json() == {
        "version": VERSION,
        "task_id": world.scheduler.task.id,
        "status": "queued",
        "duration_seconds": 0.0,
        "cost_usd": 0.0,
        "result": {"queued": True},
        "error": None,
        "failure": None,
    }
    assert "idempotent-replayed" not in answer.headers


async def test_execute_asks_the_scheduler_in_its_words(world: GatewayWorld) -> None:
    body = BODY | {"plan": {"steps": [{"b": 1.0, "a": 2, "c": 1e16}]}}

    await world.http.post(EXECUTE, json=body, headers={"X-Request-Id": "abc-1"})

    asked = world.scheduler.requests[0]
    assert asked.task_input_json == '{"topic":"x"}'
    assert asked.plan_json == '{"steps":[{"b":1.0,"a":2,"c":1e+16}]}'
    assert asked.asked.max_steps == 12
    assert asked.asked.max_total_seconds == 45
    assert not asked.HasField("idempotency_key")
    assert world.scheduler.callers[0] == _ending_at(
        world.auth.callers[world.key], world.scheduler.callers[0].expires_at
    )
    assert world.scheduler.contexts[0].request_id == "abc-1"


async def test_execute_leaves_unset_what_was_not_asked(world: GatewayWorld) -> None:
    await world.http.post(EXECUTE, json={"task_definition": {}})

    asked = world.scheduler.requests[0]
    assert asked.task_input_json == "{}"
    assert not asked.HasField("plan_json")
    assert not asked.asked.ListFields()


async def test_execute_passes_any_plan_to_the_planner(world: GatewayWorld) -> None:
    plans: list[Any] = [None, [], "x", {}]

    for plan in plans:
        await world.http.post(EXECUTE, json=BODY | {"plan": plan})

    assert [asked.plan_json for asked in world.scheduler.requests] == ["null", "[]", '"x"', "{}"]


async def test_execute_says_how_a_task_ended(world: GatewayWorld) -> None:
    world.scheduler.task = make_task(task_pb2.TASK_STATE_SUCCEEDED, result_json='{"result":1e+21}')

    answer = await world.http.post(f"{EXECUTE}?wait=2.5", json=BODY)

    assert world.scheduler.requests[0].wait_seconds == 2.5
    assert answer.json()["status"] == "succeeded"
    assert answer.json()["duration_seconds"] == 0.5
    assert '"result":{"result":1e+21}' in answer.text


async def test_a_replay_says_so(world: GatewayWorld) -> None:
    headers = {"Idempotency-Key": '"seen"'}

    answer = await world.http.post(EXECUTE, json=BODY, headers=headers)

    assert answer.status_code == 200
    assert answer.headers["idempotent-replayed"] == "true"
    asked = world.scheduler.requests[0]
    assert asked.idempotency_key == "seen"
    canonical = '{"max_steps":12,"task_definition":{"topic":"x"},"timeout_seconds":45}'
    expected = hashlib.sha256(f"POST {EXECUTE}\n{canonical}".encode()).hexdigest()
    assert asked.request_fingerprint == expected


@pytest.mark.parametrize("key", ["", '"', '""', '"a', "kéy", "a" * 256, '"a"b"', "a\tb"])
async def test_a_bad_idempotency_key_is_refused(world: GatewayWorld, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]

    answer = await world.http.post(EXECUTE, json=BODY, headers=headers)

    assert answer.status_code == 400
    assert problem_of(answer)["code"] == "invalid_idempotency_key"
    assert not world.scheduler.requests


@pytest.mark.parametrize(
    ("change", "field", "fine"),
    [
        ({"task_definition": "x"}, "task_definition", "wrong_type"),
        ({"task_definition": None}, "task_definition", "wrong_type"),
        ({"max_steps": None}, "max_steps", "wrong_type"),
        ({"max_steps": True}, "max_steps", "wrong_type"),
        ({"max_steps": "12"}, "max_steps", "wrong_type"),
        ({"max_steps": 1.0}, "max_steps", "wrong_type"),
        ({"max_steps": 0}, "max_steps", "out_of_range"),
        ({"max_steps": 2**31}, "max_steps", "out_of_range"),
        ({"timeout_seconds": 0}, "timeout_seconds", "out_of_range"),
        ({"timeout_seconds": -1.5}, "timeout_seconds", "out_of_range"),
        ({"timeout_seconds": True}, "timeout_seconds", "wrong_type"),
        ({"timeout_seconds": "45"}, "timeout_seconds", "wrong_type"),
    ],
)
async def test_a_member_of_the_wrong_kind_is_refused(
    world: GatewayWorld, change: dict[str, Any], field: str, fine: str
) -> None:
    answer = await world.http.post(EXECUTE, json=BODY | change)

    problem = problem_of(answer)
    assert answer.status_code == 422
    assert problem["code"] == "validation_failed"
    assert [(e["field"], e["pointer"], e["code"]) for e in problem["errors"]] == [
        (field, f"/{field}", fine)
    ]
    assert not world.scheduler.requests


async def test_everything_wrong_is_said_at_once(world: GatewayWorld) -> None:
    answer = await world.http.post(EXECUTE, json={"max_steps": 0, "user_id": 1, "x" * 999: 2})

    problem = problem_of(answer)
    assert problem["code"] == "unknown_field"
    assert [error["code"] for error in problem["errors"]] == [
        "required",
        "out_of_range",
        "unknown_field",
        "unknown_field",
    ]
    assert len(answer.content) < 2000


async def test_refusals_come_back_in_the_words_of_the_dialect(world: GatewayWorld) -> None:
    world.scheduler.refusal = PawlError(
        "limit_exceeded",
        "asked.max_total_seconds: 99 is above 60",
        errors=(
            FieldError(field="asked.max_total_seconds", code="limit_exceeded", detail="99 > 60"),
            FieldError(field="plan.steps[0].tool", code="unknown_tool", detail="no x"),
        ),
    )

    answer = await world.http.post(EXECUTE, json=BODY)

    problem = problem_of(answer)
    assert answer.status_code == 422
    assert problem["detail"] == "timeout_seconds: 99 is above 60"
    assert [(e["field"], e["pointer"]) for e in problem["errors"]] == [
        ("timeout_seconds", "/timeout_seconds"),
        ("plan.steps[0].tool", "/plan/steps/0/tool"),
    ]


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (PawlError("unavailable", "away", retry_after_seconds=0.2), 503, "1"),
        (PawlError("deadline_exceeded", "late"), 504, None),
        (PawlError("idempotency_key_reused", "other body"), 422, None),
        (PawlError("insufficient_scope", "needs tasks:write"), 403, None),
        (RuntimeError("secret"), 500, None),
    ],
)
async def test_errors_of_services_have_their_statuses(
    world: GatewayWorld, error: Exception, status: int, retry_after: str | None
) -> None:
    world.scheduler.refusal = error

    answer = await world.http.post(EXECUTE, json=BODY)

    problem_of(answer)
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == retry_after
    assert "secret" not in answer.text


async def test_a_scheduler_that_is_away_is_503(keys: KeyRing) -> None:
    async with gateway_world(keys) as world:
        await world.servers["scheduler"].stop()

        answer = await world.http.post(EXECUTE, json=BODY)

    assert answer.status_code == 503
    assert problem_of(answer)["code"] == "unavailable"
    assert answer.headers["retry-after"] == "1"


async def test_get_task_answers_every_field_of_the_contract(world: GatewayWorld) -> None:
    task = make_task(task_pb2.TASK_STATE_RUNNING)
    task_id = world.scheduler.keep(task)

    answer = await world.http.get(f"/api/v1/tasks/{task_id}")

    assert answer.json() == {
        "version": VERSION,
        "id": task_id,
        "task_id": task_id,
        "replay_of_task_id": None,
        "input": {"topic": "x"},
        "status": "running",
        "plan": {
            "steps": [{"step_index": 1, "tool": "math", "input": {"expression": "1+1"}}],
            "limits": {"max_steps": 12, "max_total_seconds": 45, "max_step_seconds": 10.5},
        },
        "planned_by": "caller",
        "planner_note": None,
        "result": None,
        "error": None,
        "priority": 0,
        "queue": None,
        "created_at": "2026-02-27T11:18:01.127894+00:00",
        "scheduled_at": None,
        "cancel_requested_at": None,
        "execution_started_at": "2026-02-27T11:18:02.127894+00:00",
        "execution_finished_at": None,
        "failure": None,
    }
    assert '"max_total_seconds":45,' in answer.text


async def test_a_task_that_failed_says_why(world: GatewayWorld) -> None:
    why = failure_pb2.Failure(
        code="TIMEOUT", message="STEP_TIMEOUT: 10 s", step="math", step_index=1, reason="WALL"
    )
    task_id = world.scheduler.keep(make_task(task_pb2.TASK_STATE_FAILED, failure=why))

    answer = await world.http.get(f"/api/v1/tasks/{task_id}")

    assert answer.json()["error"] == "STEP_TIMEOUT: 10 s"
    assert answer.json()["failure"] == {
        "step": "math",
        "index": 1,
        "code": "TIMEOUT",
        "message": "STEP_TIMEOUT: 10 s",
        "reason": "WALL",
    }


async def test_a_cancelled_task_failed_with_code_cancelled(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(task_pb2.TASK_STATE_CANCELLED))

    answer = (await world.http.get(f"/api/v1/tasks/{task_id}")).json()

    assert answer["status"] == "failed"
    assert answer["failure"]["code"] == "CANCELLED"
    assert answer["failure"]["step"] is None


async def test_a_task_without_a_plan_shows_none(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(task_pb2.TASK_STATE_CREATED, plan=None, planned_by=""))

    answer = (await world.http.get(f"/api/v1/tasks/{task_id}")).json()

    assert answer["plan"] is None
    assert answer["planned_by"] is None


async def test_both_spellings_of_an_id_are_read(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(task_pb2.TASK_STATE_QUEUED))
    short = task_id.replace("-", "")

    for spelled in (task_id, task_id.upper(), f"task_{task_id}", f"task_{short}"):
        answer = await world.http.get(f"/api/v1/tasks/{spelled}")
        assert answer.json()["task_id"] == task_id

    assert {asked.task_id for asked in world.scheduler.requests} == {task_id}


@pytest.mark.parametrize("route", ["", "/trace", "/events"])
@pytest.mark.parametrize(
    "spelled",
    [
        "null",
        "urn:uuid:{id}",
        "%7B{id}%7D",
        "%0a{id}",
        "{id}%20",
        "{id}%00",
        "{id}%0a",
        "art_{id}",
        "%c0%ae%c0%ae",
        "{id}0",
        "{short}",
        "..%2f{id}",
        "%ff",
        "1",
        "a" * 3000,
    ],
)
async def test_what_is_no_id_is_answered_as_an_unknown_id_is(
    world: GatewayWorld, spelled: str, route: str
) -> None:
    task_id = world.scheduler.keep(make_task(task_pb2.TASK_STATE_QUEUED))
    path = spelled.format(id=task_id, short=task_id.replace("-", ""))

    answer = await world.http.get(f"/api/v1/tasks/{path}{route}")
    unknown = await world.http.get(f"/api/v1/tasks/{new_id()}{route}")

    problem, other = problem_of(answer), problem_of(unknown)
    assert answer.status_code == 404
    assert problem["code"] == "not_found"
    if "%" not in spelled:
        assert problem | {"request_id": ""} == other | {"request_id": ""}


@pytest.mark.parametrize(
    "query",
    [
        "wait=26",
        "wait=-1",
        "wait=1e2",
        "wait=",
        "wait=nan",
        "wait=%00",
        "wait=1&wait=1",
        "wait=1%2e",
    ],
)
async def test_a_wait_that_is_not_allowed_is_refused(world: GatewayWorld, query: str) -> None:
    for answer in (
        await world.http.post(f"{EXECUTE}?{query}", json=BODY),
        await world.http.get(f"/api/v1/tasks/{new_id()}?{query}"),
    ):
        assert answer.status_code == 422
        assert problem_of(answer)["errors"][0]["field"] == "wait"
    assert not world.scheduler.requests


@pytest.mark.parametrize(
    "query", ["validate_only=true", "%ff=1", "a=%zz", "wait=%ff", "x", "%00", "&".join("a" * 99)]
)
async def test_a_query_that_is_not_known_is_refused(world: GatewayWorld, query: str) -> None:
    answer = await world.http.post(f"{EXECUTE}?{query}", json=BODY)

    assert answer.status_code == 422
    assert problem_of(answer)["code"] in {"unknown_field", "validation_failed"}
    assert not world.scheduler.requests


async def test_keys_in_another_order_are_the_same_request(world: GatewayWorld) -> None:
    for body in (BODY, dict(reversed(BODY.items()))):
        headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
        await world.http.post(EXECUTE, content=json.dumps(body), headers=headers)

    first, second = world.scheduler.requests
    assert first.request_fingerprint == second.request_fingerprint


def _ending_at(caller: Any, expires_at: float) -> Any:
    return type(caller)(
        **{name: getattr(caller, name) for name in caller.__slots__} | {"expires_at": expires_at}
    )
