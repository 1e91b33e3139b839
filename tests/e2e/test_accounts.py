"""Keys, people and the audit log on a whole Pawl: effective everywhere, and no secret anywhere."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from libs.cli.client import Client, Refused, Server
from libs.cli.stack import Stack, running_stack
from tests.e2e.tasks import CHAIN, EXECUTE, finished
from tests.stacks import StackEnvirons

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
EFFECTIVE_SECONDS = 5.0
AGENT = "0199d2a0-4c11-7a3b-9d52-8b6f0e1c7a55"


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons) -> Iterator[Stack]:
    """A Pawl that logs whatever it can."""
    data_dir = tmp_path_factory.mktemp("loud") / "data"
    with running_stack(data_dir, environ=environs.fresh(PAWL_LOG_LEVEL="debug")) as running:
        yield running


class Tenant:
    """A new tenant with clients for its keys; every secret that it ever had."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.operator = Client(stack.server)
        self.name = f"acme-{secrets.token_hex(4)}"
        self.secrets: list[str] = []
        self.operator.post("/v1/tenants", {"name": self.name, "tier": "enterprise"})
        self.owner = self.key(self.operator, tenant=self.name)[1]

    def client(self, secret: str) -> Client:
        return Client(Server(url=self.stack.server.url, api_key=secret))

    def key(self, maker: Client, **body: Any) -> tuple[dict[str, Any], Client]:
        """A new key, and a client with it."""
        made = maker.post("/v1/keys", body)
        self.secrets.append(made["key"])
        return made, self.client(made["key"])

    def rotated(self, key_id: str, **body: Any) -> tuple[dict[str, Any], Client]:
        made = self.owner.post(f"/v1/keys/{key_id}/rotate", body)
        self.secrets.append(made["key"])
        return made, self.client(made["key"])

    def person(self, role: str) -> tuple[int, Client]:
        """A new person, and a client with a key of theirs."""
        email = f"{role}-{secrets.token_hex(4)}@example.org"
        number = int(self.owner.post("/v1/users", {"email": email, "role": role})["number"])
        return number, self.key(self.owner, user_number=number)[1]


def refusal(call: Any, *arguments: Any) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        call(*arguments)
    return refused.value.status, refused.value.code


async def seconds_until(status: int, *, url: str, secret: str, path: str) -> float:
    """How long it takes until a path is answered with this status; other answers are 200."""
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
        while (found := (await http.get(path)).status_code) != status:
            assert found == 200
            assert time.monotonic() - began < 2 * EFFECTIVE_SECONDS
    return time.monotonic() - began


def everything_about(tenant: Tenant) -> None:
    """Do all that can be done to keys and people of a tenant."""
    owner = tenant.owner
    admin, admins = tenant.person("admin")
    member, _ = tenant.person("member")
    made, _ = tenant.key(admins, name="ci", prefix="atx", user_number=member)
    tenant.rotated(made["id"], overlap_seconds=60)
    bound, _ = tenant.key(owner, allowed_agent_ids=[AGENT], mode="test")
    owner.delete(f"/v1/keys/{bound['id']}")
    owner.patch(f"/v1/users/{member}", {"role": "viewer"})
    owner.delete(f"/v1/users/{member}")
    owner.patch(f"/v1/users/{admin}", {"role": "owner"})
    tenant.operator.patch(f"/v1/tenants/{tenant.name}", {"tier": "pro"})
    finished(owner, CHAIN)
    refused = [
        refusal(tenant.client(tenant.secrets[0][:-1] + "!").get, "/v1/keys"),
        refusal(tenant.client(tenant.secrets[-1]).get, "/v1/keys"),
        refusal(owner.post, "/v1/keys", {"scopes": ["operator"]}),
        refusal(owner.post, "/v1/keys", {"name": tenant.secrets[0] + "\n"}),
    ]
    assert [status for status, _ in refused] == [401, 401, 422, 422]


def test_no_log_and_no_line_of_the_audit_log_has_a_secret(loud: Stack) -> None:
    tenant = Tenant(loud)

    everything_about(tenant)

    audit = json.dumps(list(tenant.owner.pages("/v1/audit", {"limit": 3})))
    keys = json.dumps(list(tenant.owner.pages("/v1/keys")))
    logs = {
        file: file.read_text() for file in (loud.data_dir / "logs").rglob("*") if file.is_file()
    }
    assert sum(map(len, logs.values())) > 10_000
    assert "key.rotated" in audit
    assert len(tenant.secrets) >= 6
    for secret in (*tenant.secrets, loud.ready.api_key):
        random_part = secret.rsplit("_", 1)[1][:32]
        for place, text in (("audit", audit), ("keys", keys), *logs.items()):
            assert random_part not in text, place


def test_audit_log_tells_who_did_what(loud: Stack) -> None:
    tenant = Tenant(loud)

    everything_about(tenant)

    lines = list(tenant.owner.pages("/v1/audit"))
    done = [line["action"] for line in reversed(lines)]
    assert done == [
        "tenant.created",
        *["key.created"],
        *["user.created", "key.created"] * 2,
        "key.created",
        *["key.created", "key.rotated"],
        *["key.created", "key.revoked"],
        "user.role_changed",
        *["key.revoked"] * 3,
        "user.removed",
        *["user.role_changed"] * 2,
        "tenant.tier_changed",
    ]
    operators = {line["action"] for line in lines if line["tenant_id"] and _by(tenant, line)}
    assert operators == {"tenant.created", "key.created", "tenant.tier_changed"}
    assert lines[0]["details"] == {"tier_before": "enterprise", "tier_after": "pro"}


def _by(tenant: Tenant, line: dict[str, Any]) -> bool:
    """Whether a key of another tenant, the operator's, made the change."""
    own = {key["id"] for key in tenant.owner.pages("/v1/keys")}
    return line["actor_key_id"] not in own


async def test_lowered_role_is_effective_everywhere_within_5_s(stack: Stack) -> None:
    tenant = Tenant(stack)
    number, admins = tenant.person("admin")
    secret = tenant.secrets[-1]
    assert admins.get("/v1/users")["data"]

    tenant.owner.patch(f"/v1/users/{number}", {"role": "viewer"})

    took = await seconds_until(403, url=stack.server.url, secret=secret, path="/v1/users")
    assert took <= EFFECTIVE_SECONDS
    assert refusal(admins.post, EXECUTE, CHAIN) == (403, "insufficient_scope")
    assert admins.get("/v1/keys")["data"]


async def test_removed_users_key_is_refused_within_5_s(stack: Stack) -> None:
    tenant = Tenant(stack)
    number, members = tenant.person("member")
    task_id = finished(members, CHAIN)["task_id"]

    tenant.owner.delete(f"/v1/users/{number}")

    took = await seconds_until(
        401,
        url=stack.server.url,
        secret=tenant.secrets[-1],
        path=f"/api/v1/tasks/{task_id}",
    )
    assert took <= EFFECTIVE_SECONDS
    assert tenant.owner.get(f"/api/v1/tasks/{task_id}")["status"] == "succeeded"


async def test_no_request_is_accepted_5_s_after_its_key_was_revoked(stack: Stack) -> None:
    """Many requests go on all the while, reads and submissions."""
    tenant = Tenant(stack)
    made, _ = tenant.key(tenant.owner)
    headers = {"Authorization": f"Bearer {made['key']}"}
    answers: list[tuple[float, int]] = []
    stop = asyncio.Event()

    async def keep_asking(http: httpx2.AsyncClient, *, submits: bool) -> None:
        while not stop.is_set():
            sent = time.monotonic()
            answer = await (
                http.post(EXECUTE, json=CHAIN) if submits else http.get("/v1/keys?limit=1")
            )
            answers.append((sent, answer.status_code))

    async with (
        httpx2.AsyncClient(base_url=stack.server.url, headers=headers, trust_env=False) as http,
        asyncio.TaskGroup() as group,
    ):
        for place in range(8):
            group.create_task(keep_asking(http, submits=place % 4 == 0))
        await asyncio.sleep(1)
        await asyncio.to_thread(tenant.owner.delete, f"/v1/keys/{made['id']}")
        revoked = time.monotonic()
        await asyncio.sleep(EFFECTIVE_SECONDS + 1)
        stop.set()

    before = {status for sent, status in answers if sent < revoked - 0.5}
    late = {status for sent, status in answers if sent > revoked + EFFECTIVE_SECONDS}
    assert before == {200}
    assert late == {401}


async def test_what_is_open_when_a_key_is_revoked_ends_within_5_s(stack: Stack) -> None:
    """A stream of another key of the tenant, opened at the same time, goes on."""
    tenant = Tenant(stack)
    made, _ = tenant.key(tenant.owner)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    task_id = tenant.owner.post(EXECUTE, CHAIN | {"scheduled_at": later})["task_id"]

    async def read(path: str, secret: str) -> str:
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx2.AsyncClient(base_url=stack.server.url, trust_env=False) as http:
            return (await http.get(path, headers=headers, timeout=30)).text

    paths = ["/v1/events", f"/api/v1/tasks/{task_id}/events", f"/api/v1/tasks/{task_id}?wait=25"]
    others = asyncio.create_task(read(paths[1], tenant.secrets[0]))
    open_ones = [asyncio.create_task(read(path, made["key"])) for path in paths]
    await asyncio.sleep(EFFECTIVE_SECONDS + 1)
    assert not any(one.done() for one in open_ones)

    await asyncio.to_thread(tenant.owner.delete, f"/v1/keys/{made['id']}")
    async with asyncio.timeout(EFFECTIVE_SECONDS):
        answers = await asyncio.gather(*open_ones)

    assert json.loads(answers[-1])["code"] == "unauthenticated"
    assert not others.done()
    await asyncio.to_thread(tenant.owner.post, f"/v1/tasks/{task_id}/cancel", {})
    assert "id: 4" in await others


async def test_rotation_has_no_moment_without_a_good_key(stack: Stack) -> None:
    tenant = Tenant(stack)
    made, old = tenant.key(tenant.owner)

    rotated, new = tenant.rotated(made["id"], overlap_seconds=3)
    both = [client.get("/v1/keys?limit=1")["data"][0]["id"] for client in (old, new)]
    took = await seconds_until(
        401, url=stack.server.url, secret=made["key"], path="/v1/keys?limit=1"
    )

    assert both == [rotated["id"]] * 2
    assert took <= 3 + EFFECTIVE_SECONDS
    assert new.get(f"/v1/keys/{made['id']}")["replaced_by_id"] == rotated["id"]
    assert refusal(tenant.owner.post, f"/v1/keys/{made['id']}/rotate", {}) == (409, "conflict")


def test_bound_keys_reach_no_task_of_no_agent(stack: Stack) -> None:
    tenant = Tenant(stack)
    task_id = finished(tenant.owner, CHAIN)["task_id"]
    _, to_agents = tenant.key(tenant.owner, allowed_agent_ids=[AGENT])
    _, to_definitions = tenant.key(tenant.owner, allowed_task_ids=[f"task_{AGENT}"])

    for bound in (to_agents, to_definitions):
        assert refusal(bound.post, EXECUTE, CHAIN) == (403, "permission_denied")
        assert refusal(bound.post, f"/v1/tasks/{task_id}/cancel", {}) == (404, "not_found")
        for path in ("", "/trace", "/events"):
            asked = f"/api/v1/tasks/{task_id}{path}"
            assert refusal(bound.get, asked) == (404, "not_found")
        assert list(bound.api.stream_all(after=0, idle_seconds=1.0)) == []
    assert list(tenant.owner.api.stream_all(after=0, idle_seconds=1.0))


def test_tasks_of_test_keys_are_marked_and_reach_no_network(stack: Stack) -> None:
    tenant = Tenant(stack)
    made, test = tenant.key(tenant.owner, mode="test")
    rotated, successor = tenant.rotated(made["id"])
    network = {
        "task_definition": {},
        "plan": {
            "steps": [
                {"step_index": 1, "tool": "http_request", "input": {"url": "http://example.org/"}}
            ]
        },
    }

    task_ids = [finished(client, CHAIN)["task_id"] for client in (test, successor)]

    assert rotated["mode"] == "test"
    assert rotated["key"].startswith("pawl_test_")
    for client in (test, successor):
        assert refusal(client.post, EXECUTE, network) == (422, "plan_invalid")
    with psycopg.connect(stack.ready.postgres.dsn) as connection:
        modes = connection.execute(
            "SELECT mode FROM scheduler.tasks WHERE id = ANY(%s)", (task_ids,)
        ).fetchall()
    assert modes == [("test",)] * 2


def test_accounts_are_managed_from_the_command_line(stack: Stack) -> None:
    tenant = Tenant(stack)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PAWL_")}
    env = kept | {"PAWL_URL": stack.server.url, "PAWL_API_KEY": tenant.secrets[0]}

    def pawl(*args: str) -> str:
        command = [sys.executable, "-m", "libs.cli", *args]
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    pawl("users", "add", "ann@example.org", "--role", "member")
    secret = pawl("keys", "create", "--user", "ann@example.org", "--scope", "tasks:read").strip()
    key = next(k for k in json.loads(pawl("keys", "list", "--json")) if k["name"] == "")
    rotated = pawl("keys", "rotate", key["id"], "--overlap", "60").strip()
    pawl("users", "set-role", "ann@example.org", "viewer")
    tables = [pawl(*words) for words in (("keys", "list"), ("users", "list"), ("audit",))]
    pawl("users", "remove", "ann@example.org")

    assert key["scopes"] == ["tasks:read"]
    assert tenant.client(tenant.secrets[0]).get(f"/v1/keys/{key['id']}")["replaced_by_id"]
    for made in (secret, rotated):
        assert refusal(tenant.client(made).get, "/v1/keys")[0] in {401, 403}
    assert all("ann@example.org" in table for table in tables[1:])
    assert key["id"] in tables[0]
