"""Batches and lists over HTTP, the scheduler faked: what is asked of it, and what is answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.core.errors import FieldError, PawlError, field_error
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import at, make_task
from tests.gateway_world import VERSION, GatewayWorld, gateway_world, problem_of

TASKS = "/api/v1/tasks"
BATCH = "/api/v1/tasks/batch"
ONE: dict[str, Any] = {"task_definition": {"topic": "x"}}
TWO: dict[str, Any] = {"tasks": [ONE, ONE | {"max_steps": 3, "priority": 7}]}
QUEUED = task_pb2.TASK_STATE_QUEUED
SUCCEEDED = task_pb2.TASK_STATE_SUCCEEDED
CANCELLED = task_pb2.TASK_STATE_CANCELLED


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


# ---------------------------------------------------------------- batches


async def test_a_batch_is_answered_with_what_execute_answers(world: GatewayWorld) -> None:
    answer = await world.http.post(BATCH, json=TWO)

    assert answer.status_code == 200
    one = {
        "version": VERSION,
        "task_id": world.scheduler.task.id,
        "status": "queued",
        "duration_seconds": 0.0,
        "cost_usd": 0.0,
        "result": {"queued": True},
        "error": None,
        "failure": None,
    }
    assert answer.json() == {"version": VERSION, "tasks": [one, one]}
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["retry-after"]) in range(1, 6)
    assert "idempotent-replayed" not in answer.headers


async def test_a_batch_is_passed_on_in_the_words_of_the_scheduler(world: GatewayWorld) -> None:
    plan = {"steps": [{"b": 1.0, "c": 1e16}]}

    await world.http.post(BATCH, json={"tasks": [*TWO["tasks"], ONE | {"plan": plan}]})

    first, second, third = world.scheduler.requests[0].tasks
    assert first.task_input_json == second.task_input_json == '{"topic":"x"}'
    assert (second.asked.max_steps, second.priority) == (3, 7)
    assert third.plan_json == '{"steps":[{"b":1.0,"c":1e+16}]}'
    assert not first.HasField("plan_json")
    assert not first.asked.ListFields()
    assert not world.scheduler.requests[0].HasField("idempotency_key")


async def test_a_batch_has_one_key(world: GatewayWorld) -> None:
    for key in ("seen", '"seen"'):
        answer = await world.http.post(BATCH, json=TWO, headers={"Idempotency-Key": key})

        assert answer.headers["idempotent-replayed"] == "true"
        asked = world.scheduler.requests[-1]
        canonical = json.dumps(TWO, separators=(",", ":"), sort_keys=True)
        expected = hashlib.sha256(f"POST {BATCH}\n{canonical}".encode()).hexdigest()
        assert (asked.idempotency_key, asked.request_fingerprint) == ("seen", expected)
        assert not any(one.HasField("idempotency_key") for one in asked.tasks)


async def test_results_are_not_in_the_answer_to_a_batch(world: GatewayWorld) -> None:
    world.scheduler.task = make_task(SUCCEEDED)
    world.scheduler.task.ClearField("result_json")

    answer = await world.http.post(BATCH, json=TWO, headers={"Idempotency-Key": "seen"})

    assert [(t["status"], t["result"]) for t in answer.json()["tasks"]] == [("succeeded", None)] * 2
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(
    ("body", "fields", "code"),
    [
        ({}, ["tasks"], "validation_failed"),
        ({"tasks": None}, ["tasks"], "validation_failed"),
        ({"tasks": {}}, ["tasks"], "validation_failed"),
        ({"tasks": []}, ["tasks"], "validation_failed"),
        ({"tasks": [ONE, None]}, ["tasks[1]"], "validation_failed"),
        ({"tasks": [ONE, [ONE]]}, ["tasks[1]"], "validation_failed"),
        ({"tasks": [{}, ONE]}, ["tasks[0].task_definition"], "validation_failed"),
        ({"tasks": [ONE, ONE | {"max_steps": 0}]}, ["tasks[1].max_steps"], "validation_failed"),
        ({"tasks": [ONE | {"x": 1}]}, ["tasks[0].x"], "unknown_field"),
        ({"tasks": [ONE], "wait": 1}, ["wait"], "unknown_field"),
        ({"tasks": [ONE | {"tasks": []}]}, ["tasks[0].tasks"], "unknown_field"),
        ({"tasks": [1] * 1001}, ["tasks"], "validation_failed"),
        (
            {"tasks": [{"task_definition": 1}, {"task_definition": {}, "priority": 9999}]},
            ["tasks[0].task_definition", "tasks[1].priority"],
            "validation_failed",
        ),
    ],
)
async def test_what_is_wrong_with_a_batch_names_its_task(
    world: GatewayWorld, body: dict[str, Any], fields: list[str], code: str
) -> None:
    answer = await world.http.post(BATCH, json=body)

    problem = problem_of(answer)
    assert (answer.status_code, problem["code"]) == (422, code)
    assert [one["field"] for one in problem["errors"]] == fields
    pointers = [one["pointer"] for one in problem["errors"]]
    assert pointers == [
        "/" + f.replace("[", "/").replace("]", "").replace(".", "/") for f in fields
    ]
    assert not world.scheduler.requests


async def test_a_huge_batch_is_refused_in_few_words(world: GatewayWorld) -> None:
    content = b'{"tasks":[' + b",".join([b"1"] * 500_000) + b"]}"

    answer = await world.http.post(
        BATCH, content=content, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 422
    assert problem_of(answer)["errors"][0]["field"] == "tasks"
    assert len(answer.content) < 1000


async def test_equal_tasks_of_a_batch_are_so_many_tasks(world: GatewayWorld) -> None:
    answer = await world.http.post(BATCH, json={"tasks": [ONE] * 100})

    assert len(world.scheduler.requests[0].tasks) == 100
    assert len(answer.json()["tasks"]) == 100


async def test_refusals_of_a_batch_come_in_the_words_of_the_dialect(world: GatewayWorld) -> None:
    world.scheduler.refusal = PawlError(
        "limit_exceeded",
        "tasks[2].max_total_seconds: 99 is above 60 (and 1 more task is refused)",
        errors=(
            FieldError(field="tasks[2].max_total_seconds", code="limit_exceeded", detail="99"),
            FieldError(field="tasks[10].plan.steps[0].tool", code="unknown_tool", detail="no x"),
            FieldError(field="tasks[11].task_input", code="validation_failed", detail="[]"),
        ),
    )

    problem = problem_of(await world.http.post(BATCH, json=TWO))

    assert problem["detail"].startswith("tasks[2].timeout_seconds: 99 is above 60")
    assert [(one["field"], one["pointer"]) for one in problem["errors"]] == [
        ("tasks[2].timeout_seconds", "/tasks/2/timeout_seconds"),
        ("tasks[10].plan.steps[0].tool", "/tasks/10/plan/steps/0/tool"),
        ("tasks[11].task_definition", "/tasks/11/task_definition"),
    ]


@pytest.mark.parametrize("query", ["wait=1", "wait=0", "limit=1"])
async def test_a_batch_does_not_wait(world: GatewayWorld, query: str) -> None:
    answer = await world.http.post(f"{BATCH}?{query}", json=TWO)

    assert answer.status_code == 422
    assert problem_of(answer)["code"] == "unknown_field"
    assert not world.scheduler.requests


async def test_a_preference_to_wait_means_nothing_to_a_batch(world: GatewayWorld) -> None:
    answer = await world.http.post(BATCH, json=TWO, headers={"Prefer": "wait=10"})

    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers


# ---------------------------------------------------------------- lists


async def test_a_list_has_tasks_as_a_look_has_them_without_their_plans(world: GatewayWorld) -> None:
    kept = [make_task(SUCCEEDED), make_task(CANCELLED), make_task(QUEUED, scheduled_at=at(9))]
    for task in kept:
        world.scheduler.keep(task)

    answer = await world.http.get(TASKS)

    looks = [(await world.http.get(f"{TASKS}/{task.id}")).json() for task in kept]
    left_out = {"plan", "planner_note", "queue"}
    assert answer.json() == {
        "data": [{n: v for n, v in look.items() if n not in left_out} for look in looks],
        "next_cursor": "more",
    }
    assert [one["status"] for one in answer.json()["data"]] == ["succeeded", "failed", "queued"]
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


async def test_a_list_is_asked_for_in_the_words_of_the_scheduler(world: GatewayWorld) -> None:
    query = {"status": "failed,queued", "mode": "test", "limit": "7", "cursor": "abc"}

    answer = await world.http.get(TASKS, params=query)

    asked = world.scheduler.requests[0]
    assert set(asked.states) == {QUEUED, CANCELLED, task_pb2.TASK_STATE_FAILED}
    assert (asked.mode, asked.page_size, asked.page_token) == ("test", 7, "abc")
    assert answer.json() == {"data": [], "next_cursor": None}


async def test_a_cursor_that_the_scheduler_refuses_is_called_cursor(world: GatewayWorld) -> None:
    world.scheduler.refusal = field_error("invalid_cursor", "page_token", "it is none")

    problem = problem_of(await world.http.get(TASKS, params={"cursor": "abc"}))

    assert (problem["status"], problem["code"]) == (422, "invalid_cursor")
    assert problem["detail"] == "cursor: it is none"
    assert problem["errors"][0]["field"] == "cursor"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e9", "limit"),
        ("limit=1000000000", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("status=COMPLETED", "status"),
        ("status=succeeded%3Bdrop", "status"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("reference=%25", "reference"),
        ("status=queued&status=running", "status"),
    ],
)
async def test_a_query_that_is_wrong_is_refused_by_name(
    world: GatewayWorld, query: str, field: str
) -> None:
    answer = await world.http.get(f"{TASKS}?{query}")

    assert answer.status_code == 422
    assert problem_of(answer)["errors"][0]["field"] == field
    assert not world.scheduler.requests


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", TASKS, "GET, HEAD, OPTIONS"),
        ("PUT", BATCH, "OPTIONS, POST"),
    ],
)
async def test_other_methods_are_405(
    world: GatewayWorld, method: str, path: str, allowed: str
) -> None:
    answer = await world.http.request(method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_head_of_a_list_is_get_without_a_body(world: GatewayWorld) -> None:
    whole, head = await world.http.get(TASKS), await world.http.head(TASKS)

    assert head.status_code == 200
    assert not head.content
    assert head.headers["content-length"] == whole.headers["content-length"]
