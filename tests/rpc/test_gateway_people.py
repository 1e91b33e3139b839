"""People, the audit log, tiers, and keys that are rotated and bound, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from libs.core.ids import new_id
from libs.rpc.convert import from_timestamp
from libs.rpc.tokens import KeyRing
from tests.gateway_account_fakes import AGENT, OWNER, UNKNOWN_KEY, UNKNOWN_USER
from tests.gateway_world import GatewayWorld, gateway_world, problem_of

KEY = str(new_id())


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


async def test_a_person_is_added(world: GatewayWorld) -> None:
    body = {"tenant": "acme", "email": "bo@example.org", "role": "viewer"}

    answer = await world.http.post("/v1/users", json=body)

    assert answer.status_code == 201
    assert list(answer.json()) == ["number", "tenant_id", "email", "role", "created_at"]
    asked = world.auth.requests[0]
    assert (asked.tenant, asked.email, asked.role) == ("acme", "bo@example.org", "viewer")


async def test_people_are_listed_in_pages(world: GatewayWorld) -> None:
    answer = await world.http.get("/v1/users?limit=7&cursor=abc&tenant=acme")

    assert answer.json()["data"][0]["number"] == 42
    assert answer.json()["next_cursor"] == "more"
    asked = world.auth.requests[0]
    assert (asked.page_size, asked.page_token, asked.tenant) == (7, "abc", "acme")


async def test_a_role_is_changed_and_a_person_removed(world: GatewayWorld) -> None:
    changed = await world.http.patch("/v1/users/43", json={"role": "admin"})
    removed = await world.http.delete("/v1/users/43")
    owner = await world.http.delete(f"/v1/users/{OWNER}")

    assert (changed.json()["number"], changed.json()["role"]) == (43, "admin")
    assert (removed.status_code, removed.json()["keys_revoked"]) == (200, 2)
    assert (owner.status_code, problem_of(owner)["code"]) == (409, "conflict")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_an_unknown_user_and_what_is_none_are_answered_alike(
    world: GatewayWorld, method: str
) -> None:
    body = {"role": "admin"} if method == "PATCH" else None

    answers = [
        await world.http.request(method, f"/v1/users/{text}", json=body)
        for text in (UNKNOWN_USER, "x", "-1", "1e3", "9" * 19, "%D9%A1")
    ]

    problems = [problem_of(answer) | {"request_id": ""} for answer in answers]
    assert {answer.status_code for answer in answers} == {404}
    assert all(problem == problems[0] for problem in problems)


async def test_the_audit_log_is_read(world: GatewayWorld) -> None:
    answer = await world.http.get("/v1/audit?limit=2&tenant=acme")

    mine, by_installation = answer.json()["data"]
    assert mine["details"] == {"email": "bo@example.org", "role": "viewer"}
    assert (mine["action"], mine["subject"], mine["actor_user_number"]) == (
        "user.created",
        "43",
        42,
    )
    assert (by_installation["actor_key_id"], by_installation["actor_user_number"]) == (None, None)
    assert answer.json()["next_cursor"] is None
    assert answer.headers["cache-control"] == "no-store"
    assert world.auth.requests[0].tenant == "acme"


async def test_a_tenant_is_read_and_its_tier_changed(world: GatewayWorld) -> None:
    tenant_id = str(new_id())

    found = await world.http.get("/v1/tenants/acme")
    changed = await world.http.patch(f"/v1/tenants/{tenant_id}", json={"tier": "enterprise"})

    assert found.json()["name"] == "acme"
    assert changed.json()["tier"] == "enterprise"
    assert world.auth.requests[1].tenant == tenant_id


@pytest.mark.parametrize("ref", ["No", "a" * 65, "%00", "a%2Fb", "-a", "٣"])
async def test_what_can_be_no_tenant_is_not_found(world: GatewayWorld, ref: str) -> None:
    answer = await world.http.get(f"/v1/tenants/{ref}")

    assert answer.status_code == 404
    assert not world.auth.requests


async def test_a_key_is_read_with_all_that_is_known(world: GatewayWorld) -> None:
    answer = await world.http.get(f"/v1/keys/{KEY}")

    key = answer.json()
    assert (key["id"], key["user_number"]) == (KEY, 42)
    assert (key["allowed_agent_ids"], key["allowed_task_ids"]) == ([AGENT], [])
    assert key["last_used_at"] == "2026-02-27T12:00:00.000000+00:00"
    assert (key["expires_at"], key["replaced_by_id"]) == (None, None)
    assert "key" not in key


async def test_a_key_is_rotated_and_its_secret_shown_once(world: GatewayWorld) -> None:
    body = {"overlap_seconds": 0, "expires_at": "2030-01-01T00:00:00Z"}

    answer = await world.http.post(f"/v1/keys/{KEY}/rotate", json=body)

    said = answer.json()
    assert answer.status_code == 201
    assert said["key"] == "pawl_live_new"
    assert said["replaced"]["id"] == KEY
    assert said["replaced"]["replaced_by_id"] == said["id"]
    assert "key" not in said["replaced"]
    asked = world.auth.requests[0]
    assert (asked.HasField("overlap_seconds"), asked.overlap_seconds) == (True, 0)
    assert from_timestamp(asked.expires_at) == datetime(2030, 1, 1, tzinfo=UTC)


async def test_a_key_is_rotated_without_a_body(world: GatewayWorld) -> None:
    answer = await world.http.post(f"/v1/keys/{KEY}/rotate")

    assert answer.status_code == 201
    asked = world.auth.requests[0]
    assert not asked.HasField("overlap_seconds")
    assert not asked.HasField("expires_at")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/rotate"), ("DELETE", "")])
async def test_an_unknown_key_and_what_is_none_are_answered_alike(
    world: GatewayWorld, method: str, path: str
) -> None:
    answers = [
        await world.http.request(method, f"/v1/keys/{text}{path}")
        for text in (UNKNOWN_KEY, "x", "key_1")
    ]

    problems = [problem_of(answer) | {"request_id": ""} for answer in answers]
    assert {answer.status_code for answer in answers} == {404}
    assert all(problem == problems[0] for problem in problems)


async def test_lists_and_user_of_a_new_key_go_through(world: GatewayWorld) -> None:
    bound = {"allowed_agent_ids": [AGENT], "allowed_task_ids": [], "user_number": 43}

    await world.http.post("/v1/keys", json=bound)
    await world.http.post("/v1/keys", json={})

    asked, free = world.auth.requests
    assert list(asked.allowed_agent_ids.ids) == [AGENT]
    assert (asked.HasField("allowed_task_ids"), list(asked.allowed_task_ids.ids)) == (True, [])
    assert asked.user_number == 43
    for name in ("allowed_agent_ids", "allowed_task_ids", "user_number"):
        assert not free.HasField(name)


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/keys", {"allowed_agent_ids": "x"}, "allowed_agent_ids"),
        ("POST", "/v1/keys", {"allowed_agent_ids": None}, "allowed_agent_ids"),
        ("POST", "/v1/keys", {"allowed_agent_ids": [1]}, "allowed_agent_ids"),
        ("POST", "/v1/keys", {"allowed_task_ids": [AGENT] * 101}, "allowed_task_ids"),
        ("POST", "/v1/keys", {"user_number": "42"}, "user_number"),
        ("POST", "/v1/keys", {"user_number": 0}, "user_number"),
        ("POST", "/v1/keys", {"user_number": 42.0}, "user_number"),
        ("POST", f"/v1/keys/{KEY}/rotate", {"overlap_seconds": -1}, "overlap_seconds"),
        ("POST", f"/v1/keys/{KEY}/rotate", {"overlap_seconds": True}, "overlap_seconds"),
        ("POST", f"/v1/keys/{KEY}/rotate", {"expires_at": "soon"}, "expires_at"),
        ("POST", f"/v1/keys/{KEY}/rotate", {"scopes": ["tasks:read"]}, "scopes"),
        ("POST", "/v1/users", {"role": "viewer"}, "email"),
        ("POST", "/v1/users", {"email": "a@b.example", "role": 1}, "role"),
        ("POST", "/v1/users", {"email": "a@b.example", "role": "viewer", "number": 1}, "number"),
        ("PATCH", "/v1/users/42", {}, "role"),
        ("PATCH", "/v1/users/42", {"role": "viewer", "email": "x@y.example"}, "email"),
        ("PATCH", "/v1/tenants/acme", {}, "tier"),
        ("PATCH", "/v1/tenants/acme", {"tier": "pro", "name": "x"}, "name"),
    ],
)
async def test_bodies_are_read_strictly(
    world: GatewayWorld, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await world.http.request(method, path, json=body)

    assert answer.status_code == 422
    assert problem_of(answer)["errors"][0]["field"] == field
    assert not world.auth.requests


@pytest.mark.parametrize("path", ["/v1/users", "/v1/audit"])
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "validation_failed"),
        ("limit=201", "validation_failed"),
        ("cursor=", "invalid_cursor"),
        ("cursor=%00", "invalid_cursor"),
        ("page=2", "unknown_field"),
        ("tenant=a&tenant=b", "validation_failed"),
    ],
)
async def test_paging_is_read_strictly(
    world: GatewayWorld, path: str, query: str, code: str
) -> None:
    answer = await world.http.get(f"{path}?{query}")

    assert answer.status_code == 422
    assert problem_of(answer)["code"] == code


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/users", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/v1/users/42", "DELETE, OPTIONS, PATCH"),
        ("POST", "/v1/audit", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v1/audit", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v1/tenants/acme", "GET, HEAD, OPTIONS, PATCH"),
        ("GET", f"/v1/keys/{KEY}/rotate", "OPTIONS, POST"),
    ],
)
async def test_other_methods_are_405(
    world: GatewayWorld, method: str, path: str, allow: str
) -> None:
    answer = await world.http.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
