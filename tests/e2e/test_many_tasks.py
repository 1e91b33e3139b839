"""Batches, lists and polling through a whole Pawl, with races and hostile requests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.cli.client import Client, Refused, Server
from libs.cli.stack import Stack
from tests.e2e.http_calls import Answer, call
from tests.e2e.tasks import CHAIN, EXECUTE, FAILING, finished, new_tenant, trace_of

pytestmark = pytest.mark.e2e

TASKS = "/api/v1/tasks"
BATCH = "/api/v1/tasks/batch"
SLOW: dict[str, Any] = {
    "task_definition": {},
    "plan": {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 2}}]},
}


@pytest.fixture
def tenant(stack: Stack) -> Client:
    """A client of a tenant without tasks, of the tier that allows batches."""
    return new_tenant(stack, f"many-{secrets.token_hex(4)}", tier="enterprise")


def server_of(client: Client) -> Server:
    return client.server


def listed(client: Client, **query: object) -> list[str]:
    """The ids of a whole list."""
    return [task["task_id"] for task in client.pages(TASKS, query)]


def nothing_more(client: Client, before: list[str]) -> bool:
    return listed(client) == before


# ---------------------------------------------------------------- batches


def test_a_batch_runs_and_its_tasks_are_tasks_as_any(tenant: Client) -> None:
    answer = tenant.post(BATCH, {"tasks": [CHAIN, FAILING, CHAIN]})

    assert [task["status"] for task in answer["tasks"]] == ["queued"] * 3
    ids = [task["task_id"] for task in answer["tasks"]]
    ended = [tenant.get(f"{TASKS}/{task_id}?wait=25") for task_id in ids]
    assert [task["status"] for task in ended] == ["succeeded", "failed", "succeeded"]
    hashes = [trace_of(tenant, one)["summary"]["task_hash"] for one in (ids[0], ids[2])]
    assert hashes[0] == hashes[1]
    assert listed(tenant) == list(reversed(ids))


def test_one_refused_task_leaves_none_and_is_named(tenant: Client) -> None:
    plan = {"steps": [{"step_index": 1, "tool": "no_such_tool", "input": {}}]}
    bad = {"task_definition": {}, "plan": plan}

    with pytest.raises(Refused) as refused:
        tenant.post(BATCH, {"tasks": [CHAIN, CHAIN, bad]})

    (error,) = refused.value.problem["errors"]
    assert (refused.value.status, refused.value.code) == (422, "unknown_tool")
    assert error["field"] == "tasks[2].plan.steps[0].tool"
    assert error["pointer"] == "/tasks/2/plan/steps/0/tool"
    assert listed(tenant) == []


@pytest.mark.parametrize("tier", ["free", "starter", "pro"])
def test_a_tier_says_how_many_a_request_may_have(stack: Stack, tier: str) -> None:
    client = new_tenant(stack, f"{tier}-{secrets.token_hex(4)}", tier=tier)

    with pytest.raises(Refused) as refused:
        client.post(BATCH, {"tasks": [CHAIN, CHAIN]})

    (error,) = refused.value.problem["errors"]
    assert (refused.value.status, refused.value.code) == (422, "limit_exceeded")
    assert (error["field"], error["pointer"]) == ("tasks", "/tasks")
    for word in ("2 tasks", tier, "allows 1", "max_tasks_per_request"):
        assert word in error["detail"]
    assert len(client.post(BATCH, {"tasks": [CHAIN]})["tasks"]) == 1


def test_a_hundred_equal_tasks_are_a_hundred_tasks(tenant: Client) -> None:
    answer = tenant.post(BATCH, {"tasks": [CHAIN] * 100})

    ids = [task["task_id"] for task in answer["tasks"]]
    assert len(set(ids)) == 100
    assert tenant.get(f"{TASKS}/{ids[-1]}?wait=25")["status"] == "succeeded"
    assert listed(tenant, limit=7) == list(reversed(ids))
    with pytest.raises(Refused) as refused:
        tenant.post(BATCH, {"tasks": [CHAIN] * 101})
    assert "101 tasks" in refused.value.problem["detail"]


def test_twelve_equal_batches_at_once_are_one(tenant: Client) -> None:
    headers = {"Idempotency-Key": f'"{secrets.token_hex(8)}"'}
    body = {"tasks": [CHAIN, FAILING]}

    def submit(_: int) -> Answer:
        return call(server_of(tenant), "POST", BATCH, body, headers=headers)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(submit, range(12)))

    assert [answer.status for answer in answers] == [200] * 12
    made = {tuple(t["task_id"] for t in answer.json["tasks"]) for answer in answers}
    assert len(made) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert listed(tenant) == list(reversed(made.pop()))


def test_a_key_stands_for_one_request_of_any_kind(tenant: Client) -> None:
    keyed = {"Idempotency-Key": secrets.token_hex(8)}
    batch = tenant.post(BATCH, {"tasks": [CHAIN]}, headers=keyed)
    task_id = batch["tasks"][0]["task_id"]
    tenant.get(f"{TASKS}/{task_id}?wait=25")
    before = listed(tenant)

    again = tenant.post(BATCH, {"tasks": [dict(reversed(CHAIN.items()))]}, headers=keyed)
    refusals = []
    for path, body in (
        (BATCH, {"tasks": [FAILING]}),
        (BATCH, {"tasks": [CHAIN, CHAIN]}),
        (EXECUTE, CHAIN),
        (f"{TASKS}/{task_id}/replay", {}),
    ):
        with pytest.raises(Refused) as refused:
            tenant.post(path, body, headers=keyed)
        refusals.append((refused.value.status, refused.value.code))

    assert [task["task_id"] for task in again["tasks"]] == [task_id]
    assert again["tasks"][0]["status"] == "succeeded"
    assert refusals == [(422, "idempotency_key_reused")] * 4
    assert nothing_more(tenant, before)


def create(tenant: Client, kind: str) -> tuple[str, Any]:
    """The path and the body of a create."""
    if kind == "replay":
        return f"{TASKS}/{finished(tenant, CHAIN)['task_id']}/replay", None
    return {"execute": (EXECUTE, CHAIN), "batch": (BATCH, {"tasks": [CHAIN]})}[kind]


@pytest.mark.parametrize("kind", ["execute", "batch", "replay"])
@pytest.mark.parametrize(
    ("key", "same"), [("x", '"x"'), ("a b", "a b"), ("~" * 255, "~" * 255), ('"a \\" b"', 'a " b')]
)
def test_every_create_takes_a_key(tenant: Client, kind: str, key: str, same: str) -> None:
    path, body = create(tenant, kind)
    before = len(listed(tenant))

    first, again = (
        call(server_of(tenant), "POST", path, body, headers={"Idempotency-Key": one})
        for one in (key, same)
    )

    assert (first.status, again.status) == (200, 200)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(listed(tenant)) == before + 1


@pytest.mark.parametrize("kind", ["execute", "batch", "replay"])
@pytest.mark.parametrize("key", ["", "kéy", "x" * 256, '"', '"a'])
def test_no_create_takes_a_key_that_is_none(tenant: Client, kind: str, key: str) -> None:
    path, body = create(tenant, kind)
    before = listed(tenant)

    answer = call(server_of(tenant), "POST", path, body, headers={"Idempotency-Key": key})

    assert (answer.status, answer.json["code"]) == (400, "invalid_idempotency_key")
    assert nothing_more(tenant, before)


# ---------------------------------------------------------------- lists


def test_filters_find_what_they_say(tenant: Client) -> None:
    good, bad = finished(tenant, CHAIN)["task_id"], finished(tenant, FAILING)["task_id"]
    middle = tenant.get(f"{TASKS}/{bad}")["created_at"]
    due = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    planned = tenant.post(EXECUTE, CHAIN | {"scheduled_at": due})["task_id"]
    replay = tenant.post(f"{TASKS}/{good}/replay?wait=25", {})["task_id"]

    assert listed(tenant) == [replay, planned, bad, good]
    assert listed(tenant, status="succeeded") == [replay, good]
    assert listed(tenant, status="planned,failed", limit=1) == [planned, bad]
    assert listed(tenant, created_from=middle) == [replay, planned, bad]
    assert listed(tenant, created_before=middle) == [good]
    assert listed(tenant, replay_of_task_id=good) == [replay]
    assert listed(tenant, replay_of_task_id=f"task_{good}", status="failed") == []
    assert listed(tenant, mode="test") == []
    assert listed(tenant, mode="live", status="queued") == []
    cancelled = tenant.post(f"/v1/tasks/{planned}/cancel", {})
    assert cancelled["status"] == "cancelled"
    assert listed(tenant, status="failed") == [planned, bad]


def test_cancels_and_creates_while_a_list_is_read_skip_and_repeat_nobody(tenant: Client) -> None:
    answer = tenant.post(BATCH, {"tasks": [SLOW] * 40})
    ids = [task["task_id"] for task in reversed(answer["tasks"])]

    def cancel(task_id: str) -> None:
        tenant.post(f"/v1/tasks/{task_id}/cancel", {})
        tenant.post(EXECUTE, CHAIN)

    with ThreadPoolExecutor(2) as pool:
        cancelling = [pool.submit(cancel, task_id) for task_id in ids[:20]]
        walks = [listed(tenant, limit=7) for _ in range(6)]
        for one in cancelling:
            one.result()

    for found in walks:
        assert [task_id for task_id in found if task_id in set(ids)] == ids
        assert len(found) == len(set(found))
    assert set(ids[:20]) <= set(listed(tenant, status="failed"))


def test_cursors_are_of_one_tenant_and_one_list(stack: Stack, tenant: Client) -> None:
    tenant.post(BATCH, {"tasks": [CHAIN] * 3})
    page = tenant.get(TASKS, {"limit": 1, "mode": "live"})
    cursor = page["next_cursor"]
    stranger = new_tenant(stack, f"stranger-{secrets.token_hex(4)}")

    assert len(tenant.get(TASKS, {"limit": 1, "mode": "live", "cursor": cursor})["data"]) == 1
    for client, query in (
        (stranger, {"mode": "live", "cursor": cursor}),
        (tenant, {"cursor": cursor}),
        (tenant, {"mode": "test", "cursor": cursor}),
        (tenant, {"mode": "live", "status": "queued", "cursor": cursor}),
        (tenant, {"mode": "live", "cursor": cursor[:-2]}),
        (tenant, {"mode": "live", "cursor": cursor.swapcase()}),
        (tenant, {"mode": "live", "cursor": "x" * 1500}),
        (tenant, {"mode": "live", "cursor": "é"}),
    ):
        with pytest.raises(Refused) as refused:
            client.get(TASKS, query)
        assert (refused.value.status, refused.value.code) == (422, "invalid_cursor")
        assert refused.value.problem["errors"][0]["field"] == "cursor"
    assert listed(stranger) == []


def hostile_queries() -> Iterator[tuple[str, str]]:
    """A query, and the name that its refusal says."""
    for value in ("0", "-1", "1e9", "1000000000", "201", "99999999999999999999", "", "%31%30%30x"):
        yield f"limit={value}", "limit"
    for value in ("COMPLETED", "succeeded%3Bdrop", "succeeded%27--", "", ",", "%00", "cancelled"):
        yield f"status={value}", "status"
    for value in ("", "%00", "..", "AAAA"):
        yield f"cursor={value}", "cursor"
    yield "created_from=0000-00-00T00:00:00Z", "created_from"
    yield "created_before=9999-12-31T23:59:59.999999999-23:59", "created_before"
    yield "agent_id=%27%20OR%201=1", "agent_id"
    yield "replay_of_task_id=null", "replay_of_task_id"
    yield "mode=both", "mode"
    yield "reference=%25", "reference"
    yield "wait=1", "wait"


@pytest.mark.parametrize(("query", "field"), list(hostile_queries()))
def test_a_hostile_query_is_refused_by_name(client: Client, query: str, field: str) -> None:
    answer = call(server_of(client), "GET", f"{TASKS}?{query}")

    assert answer.status == 422, answer.body
    assert answer.json["errors"][0]["field"] == field
    for leak in (b"Traceback", b"psycopg", b"SELECT", b".py"):
        assert leak not in answer.body


@pytest.mark.parametrize(
    "query",
    [
        "created_from=0001-01-01T00:00:00Z",
        "created_before=9999-12-31T23:59:59Z",
        "created_from=9999-12-31T23:59:59Z&created_before=0001-01-01T00:00:00Z",
        "limit=200&status=created,planned,queued,running,succeeded,failed",
    ],
)
def test_an_odd_query_is_answered(client: Client, query: str) -> None:
    assert call(server_of(client), "GET", f"{TASKS}?{query}").status == 200


def test_a_huge_batch_harms_nobody(client: Client) -> None:
    begin = len(listed(client, limit=200))

    answer = call(server_of(client), "POST", BATCH, {"tasks": [{"task_definition": {}}] * 5000})

    assert answer.status == 422
    assert len(answer.body) < 2000
    assert call(server_of(client), "GET", "/healthz").status == 200
    assert len(listed(client, limit=200)) == begin


# ---------------------------------------------------------------- polling


def test_polling_as_it_is_meant(tenant: Client) -> None:
    """Create, ask again as told, know what is known, and see the end."""
    server = server_of(tenant)
    plan = {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 4}}]}
    created = call(server, "POST", EXECUTE, {"task_definition": {}, "plan": plan})
    path = f"{TASKS}/{created.json['task_id']}"
    assert created.headers["retry-after"] == "1"
    assert created.headers["cache-control"] == "no-store"

    known, statuses, etag = [], [], ""
    for _ in range(100):
        headers = {"If-None-Match": etag, "Prefer": "wait=1"} if etag else {}
        looked = call(server, "GET", path, headers=headers)
        assert looked.status in {200, 304}
        assert looked.headers["cache-control"] == "private, no-cache"
        known.append(looked.status == 304)
        etag = looked.headers["etag"]
        if looked.status == 304:
            assert looked.body == b""
            assert looked.headers["retry-after"] == "1"
        elif looked.json["status"] not in statuses:
            statuses.append(looked.json["status"])
        if statuses[-1] == "succeeded":
            break

    assert any(known)
    assert statuses[-2:] == ["running", "succeeded"]
    last = call(server, "GET", path, headers={"If-None-Match": etag})
    assert (last.status, "retry-after" in last.headers) == (304, False)
    trace = call(server, "GET", f"{path}/trace")
    again = call(server, "GET", f"{path}/trace", headers={"If-None-Match": trace.headers["etag"]})
    head = call(server, "HEAD", path, headers={"If-None-Match": '"x"'})
    assert (trace.status, again.status, again.body) == (200, 304, b"")
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", etag)


def test_a_wait_by_preference_ends_with_the_task(tenant: Client) -> None:
    prefer = {"Prefer": "respond-async, wait=20"}
    server = server_of(tenant)

    created = call(server, "POST", EXECUTE, CHAIN, headers=prefer)
    path = f"{TASKS}/{created.json['task_id']}"
    replayed = call(server, "POST", f"{path}/replay", headers=prefer)
    looked = call(server, "GET", f"{TASKS}/{replayed.json['task_id']}", headers=prefer)

    for answer in (created, replayed, looked):
        assert answer.json["status"] == "succeeded"
        assert answer.headers["preference-applied"] == "wait=20"
        assert "retry-after" not in answer.headers


def test_a_task_of_an_hour_later_is_asked_for_in_an_hour(tenant: Client) -> None:
    due = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    created = call(server_of(tenant), "POST", EXECUTE, CHAIN | {"scheduled_at": due})
    looked = call(server_of(tenant), "GET", f"{TASKS}/{created.json['task_id']}")

    for answer in (created, looked):
        assert 3500 < int(answer.headers["retry-after"]) <= 3600
