"""Every RPC against those who may not call it: nothing is told, nothing is changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.cli.stack import Stack
from libs.core.errors import PawlError
from libs.rpc.server import ANYONE, CALLER
from libs.rpc.tokens import SERVICES
from services.artifact import access as artifact_access
from services.auth import access as auth_access
from services.auth.scopes import GRANTABLE
from services.executor import access as executor_access
from services.executor.companion import access as sandbox_access
from services.planner import access as planner_access
from services.scheduler import access as scheduler_access
from tests.e2e.isolation.account import Account, account, filled
from tests.e2e.isolation.mesh import METHODS, PAST_SECONDS, Mesh, code_of, mesh_of
from tests.e2e.isolation.routes import OPERATOR
from tests.e2e.isolation.rpcs import RPCS, Rpc
from tests.e2e.tasks import EXECUTE
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

TABLES = (
    artifact_access.ACCESS,
    auth_access.ACCESS,
    executor_access.ACCESS,
    planner_access.ACCESS,
    sandbox_access.ACCESS,
    scheduler_access.ACCESS,
)
READING = tuple(scope for scope in GRANTABLE if scope.endswith(":read"))
FOR_CALLERS = [rpc for rpc in RPCS if CALLER in rpc.who]
FOR_SERVICES = [rpc for rpc in RPCS if rpc.who & set(SERVICES)]
NEEDING_A_SCOPE = [(rpc, scope) for rpc in FOR_CALLERS for scope in rpc.scopes]
NOT_HEARD = {"unauthenticated", "token_expired"}


@pytest_asyncio.fixture(scope="module")
async def mesh(stack: Stack) -> AsyncIterator[Mesh]:
    """The services of the stack."""
    async with mesh_of(stack) as mesh:
        yield mesh


@pytest_asyncio.fixture(scope="module")
async def mine(stack: Stack) -> AsyncIterator[Account]:
    """The account that others ask for. Only refused calls touch it."""
    async with account(stack) as made:
        yield made


async def bearer(mesh: Mesh, key: str) -> str:
    return f"Bearer {await mesh.caller_token(key)}"


async def request_of(rpc: Rpc, whose: Account) -> dict[str, Any]:
    """The request for things of an account."""
    request: dict[str, Any] = json.loads(await filled(whose, json.dumps(rpc.request)))
    return request


async def refusal(mesh: Mesh, rpc: Rpc, request: dict[str, Any], *, token: str) -> PawlError:
    with pytest.raises(PawlError) as refused:
        await mesh.call(rpc, request, token=token)
    return refused.value


def test_every_rpc_has_its_row() -> None:
    """Give a new RPC a row in rpcs.py; take out that of one which is gone."""
    assert {rpc.path for rpc in RPCS} == set(METHODS)


def test_services_let_in_whom_the_rows_name() -> None:
    let_in = {path: who for table in TABLES for path, who in table.items()}

    assert {rpc.path: rpc.who for rpc in RPCS} == let_in


@pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.id)
async def test_without_a_good_token_nobody_is_heard(rpc: Rpc, mesh: Mesh, mine: Account) -> None:
    good = await mesh.caller_token(mine.owner)
    service = next(iter(sorted(rpc.who & set(SERVICES))), "gateway")
    elsewhere = "planner" if rpc.audience != "planner" else "auth"
    bad = {
        "none": None,
        "empty": "Bearer ",
        "another scheme": f"Basic {good}",
        "an api key": f"Bearer {mine.owner}",
        "cut short": f"Bearer {good[:-8]}",
        "expired": f"Bearer {mesh.signed(good, age=PAST_SECONDS)}",
        "from the future": f"Bearer {mesh.signed(good, age=-PAST_SECONDS)}",
        "signed by another": f"Bearer {mesh.signed(good, by='gateway')}",
        "for another": f"Bearer {mesh.service_token(service, elsewhere)}",
        "a service's, expired": "Bearer "
        + mesh.service_token(service, rpc.audience, age=PAST_SECONDS),
    }
    request = await request_of(rpc, mine)
    before = await mine.rows()

    said = {name: await code_of(mesh, rpc, request, token=token) for name, token in bad.items()}

    assert {name: code for name, code in said.items() if code not in NOT_HEARD} == {}
    assert await mine.rows() == before


@pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.id)
async def test_only_those_that_are_named_get_in(rpc: Rpc, mesh: Mesh, mine: Account) -> None:
    if ANYONE in rpc.who:
        return
    request = await request_of(rpc, mine)
    before = await mine.rows()
    tokens = {
        name: f"Bearer {mesh.service_token(name, rpc.audience)}"
        for name in SERVICES
        if name not in rpc.who
    }
    if CALLER not in rpc.who:
        tokens[CALLER] = await bearer(mesh, mine.stack.ready.api_key)

    said = {name: await code_of(mesh, rpc, request, token=token) for name, token in tokens.items()}

    assert said == dict.fromkeys(tokens, "permission_denied")
    assert await mine.rows() == before


@pytest.mark.parametrize("rpc", FOR_SERVICES, ids=lambda rpc: rpc.id)
async def test_services_that_are_named_get_in(rpc: Rpc, mesh: Mesh, spent: Account) -> None:
    request = await request_of(rpc, spent)
    for name in sorted(rpc.who & set(SERVICES)):
        token = mesh.service_token(
            name, rpc.audience, tenant_id=spent.tenant_id, task_id=spent.things["TASK"]
        )

        code = await code_of(mesh, rpc, request, token=f"Bearer {token}")

        refused = {"unauthenticated", "permission_denied", "internal"}
        assert code not in refused or ANYONE in rpc.who


@pytest.mark.parametrize("rpc", FOR_CALLERS, ids=lambda rpc: rpc.id)
async def test_own_caller_is_answered(rpc: Rpc, mesh: Mesh, spent: Account) -> None:
    """So the refusals below are of the caller, not of the request."""
    key = spent.stack.ready.api_key if rpc.scopes == (OPERATOR,) else spent.owner

    said = await mesh.call(rpc, await request_of(rpc, spent), token=await bearer(mesh, key))

    assert bool(spent.seen_in(said)) is rpc.shows


@pytest.mark.parametrize("rpc", FOR_CALLERS, ids=lambda rpc: rpc.id)
async def test_caller_of_another_account_reads_nothing_and_changes_nothing(
    rpc: Rpc, mesh: Mesh, mine: Account, other: Account
) -> None:
    request = await request_of(rpc, mine)
    token = await bearer(mesh, other.owner)
    before = await mine.rows()

    if rpc.other:
        error = await refusal(mesh, rpc, request, token=token)
        assert error.code == rpc.other
        said = error.message
    else:
        said = await mesh.call(rpc, request, token=token)

    assert not mine.seen_in(said, said=json.dumps(request))
    assert await mine.rows() == before


@pytest.mark.parametrize(
    ("rpc", "scope"), NEEDING_A_SCOPE, ids=lambda value: getattr(value, "id", value)
)
async def test_caller_that_lacks_a_scope_is_told_which(
    rpc: Rpc, scope: str, mesh: Mesh, mine: Account
) -> None:
    key = mine.owner if scope == OPERATOR else await mine.key_without(scope)
    request = await request_of(rpc, mine)
    before = await mine.rows()

    error = await refusal(mesh, rpc, request, token=await bearer(mesh, key))

    assert error.code == "insufficient_scope"
    assert f"needs the scope {scope};" in error.message
    assert await mine.rows() == before


@pytest.mark.parametrize("rpc", FOR_CALLERS, ids=lambda rpc: rpc.id)
async def test_caller_that_only_reads_writes_nothing(rpc: Rpc, mesh: Mesh, mine: Account) -> None:
    token = await bearer(mesh, await mine.key(scopes=list(READING)))
    request = await request_of(rpc, mine)
    before = await mine.rows()

    code = await code_of(mesh, rpc, request, token=token)

    is_refused = rpc.writes or rpc.scopes == (OPERATOR,)
    assert code == ("insufficient_scope" if is_refused else "")
    assert await mine.rows() == before


@pytest.mark.parametrize("rpc", FOR_CALLERS, ids=lambda rpc: rpc.id)
async def test_caller_in_test_mode_touches_no_live_key_and_nobody(
    rpc: Rpc, mesh: Mesh, spent: Account
) -> None:
    token = await bearer(mesh, await spent.key(mode="test"))

    code = await code_of(mesh, rpc, await request_of(rpc, spent), token=token)

    if rpc.scopes == (OPERATOR,):
        assert code == "insufficient_scope"
    else:
        assert code == ("permission_denied" if rpc.test else "")


async def test_executor_that_speaks_for_another_account_stores_nothing_beside_the_task(
    mesh: Mesh, mine: Account, other: Account
) -> None:
    (rpc,) = [rpc for rpc in RPCS if rpc.method == "PutArtifact"]
    request = await request_of(rpc, mine)
    token = mesh.service_token(
        "executor", "artifact", tenant_id=other.tenant_id, task_id=mine.things["TASK"]
    )
    before = await mine.rows()

    error = await refusal(mesh, rpc, request, token=f"Bearer {token}")

    assert error.code in {"conflict", "already_exists", "not_found"}
    assert not mine.seen_in(error.message, said=json.dumps(request))
    assert await mine.rows() == before


async def test_executor_tells_no_caller_which_tasks_of_others_it_runs(
    mesh: Mesh, spent: Account, other: Account
) -> None:
    (rpc,) = [rpc for rpc in RPCS if rpc.method == "Describe"]
    plan = {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 20}}]}
    task = await spent.make(EXECUTE, {"task_definition": {}, "plan": plan})
    mark = task["task_id"]

    async def is_running() -> bool:
        token = f"Bearer {mesh.service_token('scheduler', 'executor')}"
        return mark in await mesh.call(rpc, {}, token=token)

    await eventually(is_running, timeout=10)
    said = await mesh.call(rpc, {}, token=await bearer(mesh, other.owner))
    told = await mesh.call(rpc, {}, token=await bearer(mesh, spent.stack.ready.api_key))
    await spent.make(f"/v1/tasks/{mark}/cancel", {})

    assert mark not in said
    assert mark in told
