"""Tenants, keys, tools, health and the OpenAPI document over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from gateway.app import create_app, document_of
from libs.core.ids import new_id
from libs.rpc.convert import from_timestamp
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import NO_KEY
from tests.gateway_world import VERSION, GatewayWorld, gateway_world, problem_of


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


async def test_a_tenant_is_made(world: GatewayWorld) -> None:
    answer = await world.http.post("/v1/tenants", json={"name": "acme", "tier": "pro"})

    assert answer.status_code == 201
    assert list(answer.json()) == ["id", "name", "tier", "created_at"]
    assert answer.json()["name"] == "acme"
    assert world.auth.requests[0].tier == "pro"


async def test_a_name_that_is_taken_is_409(world: GatewayWorld) -> None:
    answer = await world.http.post("/v1/tenants", json={"name": "taken", "tier": "pro"})

    assert answer.status_code == 409
    assert problem_of(answer)["code"] == "already_exists"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/tenants", {"tier": "pro"}, "name"),
        ("/v1/tenants", {"name": "a", "tier": 1}, "tier"),
        ("/v1/tenants", {"name": "a" * 256, "tier": "pro"}, "name"),
        ("/v1/tenants", {"name": "a", "tier": "pro", "id": "x"}, "id"),
        ("/v1/keys", {"scopes": "tasks:read"}, "scopes"),
        ("/v1/keys", {"scopes": [1]}, "scopes"),
        ("/v1/keys", {"scopes": []}, "scopes"),
        ("/v1/keys", {"scopes": ["x"] * 33}, "scopes"),
        ("/v1/keys", {"mode": ""}, "mode"),
        ("/v1/keys", {"expires_at": "tomorrow"}, "expires_at"),
        ("/v1/keys", {"expires_at": "2026-02-30T00:00:00Z"}, "expires_at"),
        ("/v1/keys", {"expires_at": "2026-02-27T00:00:00"}, "expires_at"),
        ("/v1/keys", {"expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
        ("/v1/keys", {"expires_at": 5}, "expires_at"),
    ],
)
async def test_bodies_are_read_strictly(
    world: GatewayWorld, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await world.http.post(path, json=body)

    assert answer.status_code == 422
    assert problem_of(answer)["errors"][0]["field"] == field
    assert not world.auth.requests


async def test_tenants_are_listed_in_pages(world: GatewayWorld) -> None:
    answer = await world.http.get("/v1/tenants?limit=7&cursor=abc")

    assert answer.json()["next_cursor"] == "more"
    assert answer.json()["data"][0]["name"] == "a"
    assert world.auth.requests[0].page_size == 7
    assert world.auth.requests[0].page_token == "abc"


async def test_a_cursor_of_another_list_is_refused_in_our_words(world: GatewayWorld) -> None:
    answer = await world.http.get("/v1/tenants?cursor=foreign")

    problem = problem_of(answer)
    assert answer.status_code == 422
    assert problem["detail"].startswith("cursor: ")
    assert problem["errors"][0]["field"] == "cursor"


@pytest.mark.parametrize("path", ["/v1/tenants", "/v1/keys", "/v1/tools"])
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "validation_failed"),
        ("limit=201", "validation_failed"),
        ("limit=1e9", "validation_failed"),
        ("limit=99999999999999999999", "validation_failed"),
        ("limit=", "validation_failed"),
        ("limit=%C2%B2", "validation_failed"),
        ("cursor=", "invalid_cursor"),
        ("cursor=%00", "invalid_cursor"),
        ("page=2", "unknown_field"),
    ],
)
async def test_paging_is_read_strictly(
    world: GatewayWorld, path: str, query: str, code: str
) -> None:
    answer = await world.http.get(f"{path}?{query}")

    assert answer.status_code == 422
    assert problem_of(answer)["code"] == code


async def test_a_key_is_made_and_its_secret_shown_once(world: GatewayWorld) -> None:
    body = {
        "tenant": "acme",
        "name": "",
        "mode": "test",
        "prefix": "ra",
        "scopes": ["tasks:read"],
        "expires_at": "2030-01-01T00:00:00.5+01:00",
    }

    answer = await world.http.post("/v1/keys", json=body)
    listed = await world.http.get("/v1/keys?tenant=acme")

    assert answer.status_code == 201
    assert answer.json()["key"] == "pawl_live_all"
    assert answer.headers["cache-control"] == "no-store"
    asked = world.auth.requests[0]
    assert (asked.tenant, asked.mode, asked.prefix, list(asked.scopes)) == (
        "acme",
        "test",
        "ra",
        ["tasks:read"],
    )
    assert from_timestamp(asked.expires_at) == datetime(2029, 12, 31, 23, 0, 0, 500000, tzinfo=UTC)
    assert "key" not in listed.json()["data"][0]
    assert listed.json()["next_cursor"] is None
    assert world.auth.requests[1].tenant == "acme"


async def test_a_key_is_revoked(world: GatewayWorld) -> None:
    key_id = str(new_id())

    answer = await world.http.delete(f"/v1/keys/{key_id}")

    assert answer.status_code == 200
    assert answer.json()["revoked_at"] == "2026-02-27T11:18:10.127894+00:00"
    assert world.auth.requests[0].key_id == key_id


async def test_an_unknown_key_and_what_is_none_are_answered_alike(world: GatewayWorld) -> None:
    answers = [await world.http.delete(f"/v1/keys/{text}") for text in (NO_KEY, "x", "%00")]

    problems = [problem_of(answer) | {"request_id": ""} for answer in answers]
    assert problems[0] == problems[1]
    assert {answer.status_code for answer in answers} == {404}


async def test_tools_are_listed_with_their_schemas_as_written(world: GatewayWorld) -> None:
    answer = await world.http.get("/v1/tools")

    assert answer.json()["data"][0]["name"] == "math"
    assert '"output_schema":{"maximum":1e+21}' in answer.text
    assert '{"title":"Much","input":{"n":1e+21},"output":{"m":1.0}}' in answer.text
    assert answer.json()["data"][0]["examples"][1:] == [
        {"title": "Nothing", "input": {}, "failure_code": "INPUT_SCHEMA"},
        {"title": "Anything", "input": {}},
    ]


async def test_ready_when_every_service_serves(world: GatewayWorld) -> None:
    answer = await world.http.get("/readyz")

    assert answer.status_code == 200
    assert set(answer.json()["services"]) == {"auth", "planner", "scheduler", "artifact"}
    assert (await world.http.get("/healthz")).json() == {"status": "ok"}


async def test_ready_says_what_runs_code_steps(keys: KeyRing) -> None:
    async with gateway_world(keys) as world:
        before = (await world.http.get("/readyz")).json()
        await world.servers["planner"].set_component("pawl.sandbox.docker", serving=True)
        await world.servers["planner"].set_component("pawl.sandbox.monty", serving=False)
        after = (await world.http.get("/readyz")).json()

    assert (before["status"], before["sandboxes"]) == ("ready", [])
    assert (after["status"], after["sandboxes"]) == ("ready", ["docker"])


async def test_degraded_while_the_bus_is_away(keys: KeyRing) -> None:
    async with gateway_world(keys) as world:
        await world.servers["scheduler"].set_component("pawl.bus", serving=False)
        away = await world.http.get("/readyz")
        await world.servers["scheduler"].set_component("pawl.bus", serving=True)
        back = await world.http.get("/readyz")

    assert (away.status_code, away.json()["status"]) == (200, "degraded")
    assert "published later" in away.json()["degraded"]["bus"]
    assert back.json()["status"] == "ready"
    assert "degraded" not in back.json()


async def test_not_ready_names_the_part(keys: KeyRing) -> None:
    async with gateway_world(keys) as world:
        await world.servers["planner"].set_serving(serving=False)
        await world.servers["artifact"].stop()

        answer = await world.http.get("/readyz")

    assert answer.status_code == 503
    assert [error["field"] for error in problem_of(answer)["errors"]] == ["artifact", "planner"]


async def test_the_openapi_document_is_served_without_a_key(world: GatewayWorld) -> None:
    answer = await world.http.get("/openapi.json", headers={"Authorization": ""})

    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["info"]["version"] == VERSION
    assert answer.json()["paths"] == document_of(create_app(world.gateway))["paths"]
