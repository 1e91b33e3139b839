"""What an account used, over HTTP: the contract's shape, days as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from libs.core.errors import FieldError, PawlError
from libs.core.tiers import TIERS
from libs.pb.pawl.auth.v1 import auth_pb2, auth_service_pb2
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2
from libs.rpc.convert import tier_limits_to_proto
from libs.rpc.tokens import KeyRing
from tests.gateway_world import GatewayWorld, gateway_world, problem_of

USAGE = "/api/v1/tasks/usage"
DAYS = "/v1/usage"
CONTRACT = {
    "user_id": 42,
    "email": "eng@example.com",
    "plan": "pro",
    "monthly_requests": 1643,
    "monthly_task_executions": 1588,
    "total_usage_usd": 23.48,
    "rate_limit_per_minute": 120,
    "max_timeout_seconds": 60,
    "max_tasks_per_request": 1,
    "active_tasks": 5,
}
"""The example of the contract, but for active_tasks, which the fake scheduler says."""


@pytest.fixture(scope="module")
async def shared(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(shared: GatewayWorld) -> GatewayWorld:
    shared.forget()
    return shared


def used(**members: Any) -> auth_pb2.Usage:
    said: dict[str, Any] = {"month": "2026-02", "tasks": 1588, "requests": 1643, "cost_usd": 23.48}
    return auth_pb2.Usage(**(said | members))


def account(
    tier: str = "pro", usage: auth_pb2.Usage | None = None
) -> auth_service_pb2.GetUsageResponse:
    return auth_service_pb2.GetUsageResponse(
        usage=usage or used(),
        user=auth_pb2.User(number=42, email="eng@example.com", role="owner"),
        tier=tier,
        limits=tier_limits_to_proto(TIERS[tier]),
    )


def day(number: int, **members: Any) -> auth_pb2.DayUsage:
    return auth_pb2.DayUsage(day=f"2026-02-{number:02}", **members)


async def test_usage_has_the_shape_of_the_contract(world: GatewayWorld) -> None:
    world.auth.usage = account()

    answer = await world.http.get(USAGE)

    said = answer.json()
    assert answer.status_code == 200
    assert dict(list(said.items())[:10]) == CONTRACT
    assert list(said)[:10] == list(CONTRACT)
    assert answer.headers["cache-control"] == "no-store"
    # A number as the contract writes it: 60, not 60.0.
    assert b'"max_timeout_seconds":60,' in answer.content
    assert world.scheduler.requests == [scheduler_service_pb2.CountTasksRequest()]


async def test_usage_says_more_than_the_contract(world: GatewayWorld) -> None:
    world.auth.usage = account(usage=used(steps=7, sandbox_ms=1234, tokens=30))

    said = (await world.http.get(USAGE, params={"month": "2026-02"})).json()

    assert dict(list(said.items())[10:]) == {
        "month": "2026-02",
        "resets_at": "2026-03-01T00:00:00.000000+00:00",
        "monthly_requests_limit": 100_000,
        "monthly_steps": 7,
        "monthly_sandbox_seconds": 1.234,
        "monthly_tokens": 30,
    }
    assert world.auth.requests == [auth_service_pb2.GetUsageRequest(month="2026-02")]


async def test_unlimited_is_null(world: GatewayWorld) -> None:
    world.auth.usage = account("enterprise")

    said = (await world.http.get(USAGE)).json()

    assert (said["rate_limit_per_minute"], said["monthly_requests_limit"]) == (None, None)
    assert (said["max_timeout_seconds"], said["max_tasks_per_request"]) == (3600, 100)


@pytest.mark.parametrize(
    ("month", "resets_at"),
    [("2026-12", "2027-01-01T00:00:00.000000+00:00"), ("9999-12", None)],
)
async def test_month_ends_where_the_next_begins(
    world: GatewayWorld, month: str, resets_at: str | None
) -> None:
    world.auth.usage = account(usage=used(month=month))

    assert (await world.http.get(USAGE)).json()["resets_at"] == resets_at


@pytest.mark.parametrize("asked", [f"{USAGE}?month=", f"{DAYS}?from=", f"{DAYS}?to="])
async def test_an_empty_month_or_day_is_refused(world: GatewayWorld, asked: str) -> None:
    answer = await world.http.get(asked)

    assert answer.status_code == 422
    assert [error["code"] for error in problem_of(answer)["errors"]] == ["out_of_range"]
    assert world.auth.requests == []


async def test_days_are_listed_with_their_sum(world: GatewayWorld) -> None:
    amounts = {"requests": 4, "tasks": 1, "steps": 2, "sandbox_ms": 7, "tokens": 5}
    world.auth.days = [day(n, cost_usd=0.1, **amounts) for n in (1, 2, 3)]

    said = (await world.http.get(DAYS, params={"from": "2026-02-01", "to": "2026-02-03"})).json()

    each = {"requests": 4, "tasks": 1, "steps": 2, "sandbox_seconds": 0.007, "tokens": 5}
    assert said["data"][1] == {"day": "2026-02-02", **each, "cost_usd": 0.1}
    assert (said["from"], said["to"], len(said["data"])) == ("2026-02-01", "2026-02-03", 3)
    # The sum of the doubles would be 0.30000000000000004.
    assert said["total"] == {
        "requests": 12,
        "tasks": 3,
        "steps": 6,
        "sandbox_seconds": 0.021,
        "tokens": 15,
        "cost_usd": 0.3,
    }
    assert world.auth.requests == [
        auth_service_pb2.ListUsageRequest(first_day="2026-02-01", last_day="2026-02-03")
    ]


async def test_days_come_as_csv_for_a_spreadsheet(world: GatewayWorld) -> None:
    world.auth.days = [
        day(1, requests=4, tasks=1, steps=2, sandbox_ms=1500, tokens=5, cost_usd=1e-7),
        day(2, cost_usd=1000),
    ]

    answer = await world.http.get(DAYS, params={"format": "csv"})

    assert answer.content == (
        b"day,requests,tasks,steps,sandbox_seconds,tokens,cost_usd\r\n"
        b"2026-02-01,4,1,2,1.5,5,0.0000001\r\n"
        b"2026-02-02,0,0,0,0,0,1000\r\n"
    )
    assert answer.headers["content-type"] == "text/csv; header=present; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="pawl-usage-2026-02-01-2026-02-02.csv"'
    )
    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Accept", "no-store")


async def test_csv_has_no_cell_that_a_spreadsheet_runs(world: GatewayWorld) -> None:
    world.auth.days = [day(n, requests=n, sandbox_ms=n, cost_usd=n * 1e-9) for n in range(1, 29)]

    text = (await world.http.get(DAYS, params={"format": "csv"})).text

    header, *rows = csv.reader(io.StringIO(text))
    assert len(rows) == 28
    assert all(re.fullmatch("[a-z_]+", cell) for cell in header)
    assert all(re.fullmatch(r"[0-9][0-9.-]*", cell) for row in rows for cell in row)
    assert {len(row) for row in rows} == {len(header)}


@pytest.mark.parametrize(
    ("accept", "is_csv"),
    [
        ("text/csv", True),
        ("Text/CSV; charset=utf-8", True),
        ("text/csv, */*;q=0.1", True),
        ("application/json;q=0.5, text/csv;q=0.6", True),
        ("text/csv; q=0", False),
        ("application/json, text/csv", False),
        ("*/*", False),
        ("text/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        (";;q=,/csv,text/csvx", False),
    ],
)
async def test_accept_asks_for_csv(world: GatewayWorld, accept: str, is_csv: bool) -> None:
    world.auth.days = [day(1)]

    answer = await world.http.get(DAYS, headers={"Accept": accept})
    as_json = await world.http.get(DAYS, headers={"Accept": accept}, params={"format": "json"})

    expected = "text/csv" if is_csv else "application/json"
    assert answer.headers["content-type"].startswith(expected)
    assert as_json.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "query", "field", "code"),
    [
        (DAYS, {"format": "xml"}, "format", "validation_failed"),
        (DAYS, {"format": ""}, "format", "validation_failed"),
        (DAYS, {"month": "2026-02"}, "month", "unknown_field"),
        (USAGE, {"from": "2026-02-01"}, "from", "unknown_field"),
    ],
)
async def test_query_that_is_not_known_is_refused(
    world: GatewayWorld, path: str, query: dict[str, str], field: str, code: str
) -> None:
    world.auth.days = [day(1)]

    problem = problem_of(await world.http.get(path, params=query))

    assert (problem["status"], problem["code"]) == (422, code)
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_what_auth_refuses_is_said_in_the_words_of_the_query(world: GatewayWorld) -> None:
    detail = "2026-01-01 is before the first day, 2026-02-01"
    error = FieldError(field="last_day", code="out_of_range", detail=detail)
    world.auth.usage_refusal = PawlError(
        "validation_failed", f"last_day: {detail}", errors=(error,)
    )

    problem = problem_of(await world.http.get(DAYS))

    assert problem["detail"] == f"to: {detail}"
    assert [one["field"] for one in problem["errors"]] == ["to"]


@pytest.mark.parametrize("path", [USAGE, DAYS])
async def test_usage_is_for_keys_only(world: GatewayWorld, path: str) -> None:
    problem = problem_of(await world.http.get(path, headers={"Authorization": "Bearer x"}))

    assert problem["status"] == 401
    assert world.auth.requests == []


async def test_count_that_fails_fails_the_answer(world: GatewayWorld) -> None:
    world.auth.usage = account()
    world.scheduler.refusal = PawlError("unavailable", "not now", retry_after_seconds=1)

    assert problem_of(await world.http.get(USAGE))["status"] == 503


async def test_usage_is_no_tasks_id(world: GatewayWorld) -> None:
    world.auth.usage = account()

    head = await world.http.head(USAGE)
    options = await world.http.options(USAGE)

    assert (head.status_code, options.headers["allow"]) == (200, "GET, HEAD, OPTIONS")
    assert problem_of(await world.http.get(f"{USAGE}/trace"))["status"] == 404
