"""The planner over real gRPC and PostgreSQL: who may call, what is answered, what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from libs.core.clock import SystemClock
from libs.core.errors import PawlError
from libs.core.hashing import plan_hash
from libs.core.tiers import TIERS
from libs.db.engine import open_pool
from libs.pb.pawl.plan.v1 import plan_pb2
from libs.pb.pawl.planner.v1 import planner_service_pb2 as pb
from libs.pb.pawl.planner.v1 import planner_service_pb2_grpc as pb_grpc
from libs.rpc.client import RpcChannel, caller_token
from libs.rpc.context import Caller
from libs.rpc.convert import plan_from_proto, tool_ref_from_proto, tool_spec_to_proto
from libs.rpc.tokens import CallerTokens, KeyRing, ServiceTokens, TokenVerifier, public_keys_file
from services.planner.catalog import Catalog
from services.planner.server import make_server
from services.planner.service import Planner
from services.planner.store import PlannerStore
from tests.servers import Database
from tests.unit.planner.shipped import EVERYTHING, MATH, make_plan, make_spec, step
from tests.waiting import eventually

pytestmark = pytest.mark.db

BOOT = "185d012b-a332-4924-b84c-8edd78d64975"
TIER = plan_pb2.Limits(max_steps=32, max_total_seconds=60, max_queue_seconds=3600)
CALLER = Caller(
    key_id=UUID(int=1),
    tenant_id=UUID(int=2),
    tier="free",
    scopes=frozenset(),
    mode="live",
    limits=TIERS["free"],
    expires_at=1e12,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A running planner and stubs of those who call it."""

    scheduler: pb_grpc.PlannerServiceAsyncStub
    executor: pb_grpc.PlannerServiceAsyncStub
    gateway: pb_grpc.PlannerServiceAsyncStub
    caller_tokens: CallerTokens

    async def register(self, *specs: Any, executor_id: str = "e1") -> pb.RegisterToolsResponse:
        tools = [tool_spec_to_proto(spec) for spec in specs or EVERYTHING]
        return await self.executor.RegisterTools(
            pb.RegisterToolsRequest(executor_id=executor_id, boot_id=BOOT, tools=tools)
        )

    async def build(self, task_input: Any, plan: Any = None, **fields: Any) -> pb.BuildPlanResponse:
        request = pb.BuildPlanRequest(task_input_json=json.dumps(task_input), tier=TIER, **fields)
        if plan is not None:
            request.plan_json = json.dumps(plan)
        return await self.scheduler.BuildPlan(request)

    async def refused(self, task_input: Any, plan: Any = None, **fields: Any) -> PawlError:
        with pytest.raises(PawlError) as caught:
            await self.build(task_input, plan, **fields)
        return caught.value

    def as_caller(self) -> AbstractContextManager[None]:
        return caller_token(self.caller_tokens.issue(CALLER)[0])

    async def list(self, **fields: Any) -> pb.ListToolsResponse:
        with self.as_caller():
            return await self.gateway.ListTools(pb.ListToolsRequest(**fields))


@pytest.fixture
async def world(database: Database, keys: KeyRing) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        pool = await open_pool(database.dsn("planner"), name="test-planner")
        stack.push_async_callback(pool.close)
        clock = SystemClock()
        catalog = Catalog(PlannerStore(pool), clock=clock)
        verifier = TokenVerifier(keys.public, audience="planner")
        server = make_server(
            Planner(catalog, clock=clock), catalog, address="127.0.0.1:0", verifier=verifier
        )
        await server.start()
        stack.push_async_callback(server.stop)
        yield await make_world(f"127.0.0.1:{server.port}", keys, stack)


async def make_world(target: str, keys: KeyRing, stack: AsyncExitStack) -> World:
    stubs = {}
    for name in ("scheduler", "executor", "gateway"):
        tokens = ServiceTokens(name, keys.private[name])
        channel = RpcChannel(target, audience="planner", tokens=tokens)
        stack.push_async_callback(channel.close)
        stubs[name] = channel.stub(pb_grpc.PlannerServiceStub)
    return World(**stubs, caller_tokens=CallerTokens(keys.private["auth"]))


async def test_a_plan_is_validated_and_tied_to_exact_tools(world: World) -> None:
    await world.register()
    plan = make_plan(step(1), step(2, expression="a", variables={"$ref": "steps.1.output"}))

    planned = (await world.build({"topic": "x"}, plan)).planned

    assert [tool_ref_from_proto(ref).label for ref in planned.tool_set] == ["math@1.0.0"]
    assert planned.tool_set[0].digest == MATH.digest()
    assert planned.planned_by == "caller"
    assert not planned.HasField("note")
    assert planned.plan.limits.max_steps == 12
    assert not planned.plan.limits.HasField("max_total_tokens")
    frozen = plan_from_proto(planned.plan)
    tools = [tool_ref_from_proto(ref) for ref in planned.tool_set]
    assert planned.plan_hash == plan_hash(frozen, tools=tools, task_input={"topic": "x"})


async def test_a_bare_topic_is_planned_offline_and_says_so(world: World) -> None:
    await world.register()

    planned = (await world.build({"topic": "Summarize weekly release notes"})).planned

    assert planned.planned_by == "offline"
    assert "without a model" in planned.note


async def test_an_input_that_nobody_can_plan_is_an_answer(world: World) -> None:
    await world.register()

    answer = await world.build({})

    assert answer.unplannable.code == "PLANNER_UNAVAILABLE"


@pytest.mark.parametrize(
    ("plan", "code", "field"),
    [
        (make_plan(), "plan_invalid", "plan.steps"),
        (make_plan(step(1) | {"parallel": True}), "unknown_field", "plan.steps[0].parallel"),
        (make_plan(step(1, None)), "unknown_tool", "plan.steps[0].tool"),
        (make_plan(*(step(i) for i in range(1, 14))), "step_limit", "plan.steps"),
        (
            make_plan(step(1, expression={"$ref": "env.X"})),
            "bad_ref",
            "plan.steps[0].input.expression",
        ),
        (make_plan(step(1), max_steps=33), "limit_exceeded", "plan.limits.max_steps"),
    ],
)
async def test_refusals_keep_code_and_field_on_the_wire(
    world: World, plan: Any, code: str, field: str
) -> None:
    await world.register()

    error = await world.refused({"topic": "x"}, plan)

    assert (error.code, error.errors[0].field) == (code, field)


async def test_a_refusal_with_many_long_problems_fits_on_the_wire(world: World) -> None:
    await world.register()
    odd = {"ключ" * 1000: 1, "é" * 5000: 2}
    plan = make_plan(*({"step_index": 0, "tool": "ü" * 5000, "input": odd} | odd for _ in range(5)))

    error = await world.refused({"topic": "x"}, plan)

    assert error.code == "unknown_field"
    assert 1 <= len(error.errors) <= 20


async def test_asked_limits_and_test_mode_are_policy(world: World) -> None:
    await world.register()

    above = await world.refused({"topic": "x"}, asked=plan_pb2.Limits(max_total_seconds=61))
    network = await world.refused({}, make_plan(step(1, "http_request", url="x")), test_mode=True)

    assert (above.code, above.errors[0].field) == ("limit_exceeded", "timeout_seconds")
    assert (network.code, network.errors[0].code) == ("plan_invalid", "not_in_test_mode")


async def test_withdrawn_tools_are_unavailable(world: World) -> None:
    await world.register()
    await world.executor.WithdrawTools(pb.WithdrawToolsRequest(executor_id="e1", boot_id=BOOT))

    error = await world.refused({"topic": "x"}, make_plan(step(1)))

    assert (error.code, error.errors[0].field) == ("tool_unavailable", "plan.steps[0].tool")
    assert (await world.refused({"topic": "x"})).code == "tool_unavailable"


async def test_registering_says_until_when_and_refuses_unsound_schemas(world: World) -> None:
    answer = await world.register()
    assert answer.expires_at.seconds > 0

    with pytest.raises(PawlError) as caught:
        await world.register(make_spec("odd", input_schema={"$ref": "http://127.0.0.1:1/x"}))

    assert caught.value.code == "validation_failed"
    assert caught.value.errors[0].code == "remote_ref_forbidden"


async def test_the_catalogue_is_listed_page_by_page_for_any_caller(world: World) -> None:
    await world.register()
    await world.register(make_spec("math", "0.9"), executor_id="e2")

    first = await world.list(page_size=5)
    second = await world.list(page_size=5, page_token=first.next_page_token)

    listed = [(tool.spec.name, tool.spec.version) for tool in (*first.tools, *second.tools)]
    assert listed == sorted(listed, key=lambda item: item[0])
    assert [version for name, version in listed if name == "math"] == ["1.0.0", "0.9"]
    assert len(listed) == len(EVERYTHING) + 1
    assert second.next_page_token == ""
    assert all(tool.available and tool.spec.digest for tool in first.tools)
    with pytest.raises(PawlError) as caught:
        await world.list(page_token="x")
    assert caught.value.code == "invalid_cursor"


async def test_only_the_named_services_may_call(world: World) -> None:
    calls: list[tuple[Any, Any]] = [
        (world.executor.BuildPlan, pb.BuildPlanRequest()),
        (world.gateway.BuildPlan, pb.BuildPlanRequest()),
        (world.scheduler.RegisterTools, pb.RegisterToolsRequest()),
        (world.scheduler.WithdrawTools, pb.WithdrawToolsRequest()),
        (world.gateway.ListTools, pb.ListToolsRequest()),
    ]
    for call, request in calls:
        with pytest.raises(PawlError) as caught:
            await call(request)
        assert caught.value.code == "permission_denied"

    with world.as_caller(), pytest.raises(PawlError) as caught:
        await world.gateway.BuildPlan(pb.BuildPlanRequest())
    assert caught.value.code == "permission_denied"


async def test_a_lost_database_is_unavailable_with_a_time_to_retry(
    world: World, database: Database
) -> None:
    await world.register()
    name = psycopg.conninfo.conninfo_to_dict(database.owner_dsn)["dbname"]
    admin = database.owner_dsn.replace(f"/{name}", "/postgres")
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as owner:
        await owner.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )

    error = await world.refused({"topic": "x"}, make_plan(step(1)))

    assert error.code == "unavailable"
    assert error.retry_after_seconds is not None


async def test_the_process_serves_until_it_is_told_to_stop(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    keys.write(tmp_path)
    log = tmp_path / "log"
    env = os.environ | {
        "PAWL_PLANNER_DATABASE_URL": database.dsn("planner"),
        "PAWL_PUBLIC_KEYS_FILE": str(public_keys_file(tmp_path)),
    }
    with log.open("wb") as stderr:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.planner", env=env, stderr=stderr
        )
    try:
        port = await eventually(lambda: _port(log), timeout=20)
        async with AsyncExitStack() as stack:
            world = await make_world(f"127.0.0.1:{port}", keys, stack)
            await world.register()
            assert (await world.build({"expression": "1+1"})).planned.planned_by == "offline"
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 15) == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_the_process_refuses_the_owner_s_role(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    keys.write(tmp_path)
    env = os.environ | {
        "PAWL_PLANNER_DATABASE_URL": database.owner_dsn,
        "PAWL_PUBLIC_KEYS_FILE": str(public_keys_file(tmp_path)),
    }

    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.planner", env=env, stderr=asyncio.subprocess.PIPE
    )
    _, said = await child.communicate()

    assert child.returncode == 2
    assert b"service needs" in said


def _port(log: Path) -> int:
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "serving":
            return int(event["port"])
    return 0


async def test_a_frozen_plan_is_admitted_as_long_as_its_tools_are_offered(world: World) -> None:
    await world.register()
    planned = (await world.build({}, make_plan(step(1), step(2, "http_request")))).planned
    asked: dict[str, Any] = {"plan": planned.plan, "tool_set": planned.tool_set, "tier": TIER}

    live = await world.scheduler.AdmitPlan(pb.AdmitPlanRequest(**asked))
    recorded = await world.scheduler.AdmitPlan(pb.AdmitPlanRequest(**asked, recorded=True))
    await world.register(MATH)
    still = await world.scheduler.AdmitPlan(pb.AdmitPlanRequest(**asked, recorded=True))
    with pytest.raises(PawlError) as gone:
        await world.scheduler.AdmitPlan(pb.AdmitPlanRequest(**asked))

    assert list(live.recorded_tools) == []
    assert list(recorded.recorded_tools) == list(still.recorded_tools) == ["http_request"]
    assert gone.value.code == "tool_unavailable"
    assert [error.field for error in gone.value.errors] == ["plan.steps[1].tool"]
    assert "http_request@1.0.0" in gone.value.message


async def test_a_frozen_plan_above_todays_tier_is_refused_by_name(world: World) -> None:
    await world.register()
    planned = (await world.build({}, make_plan(step(1)))).planned
    tier = plan_pb2.Limits(max_steps=8, max_total_seconds=60, max_queue_seconds=3600)
    request = pb.AdmitPlanRequest(plan=planned.plan, tool_set=planned.tool_set, tier=tier)

    with pytest.raises(PawlError) as refused:
        await world.scheduler.AdmitPlan(request)

    assert refused.value.code == "limit_exceeded"
    assert refused.value.message.startswith(
        "plan.limits.max_steps: 12 is above what this tier allows now; the most is 8"
    )


@pytest.mark.parametrize("missing", ["plan", "tool_set", "tier"])
async def test_what_is_no_frozen_plan_is_not_admitted(world: World, missing: str) -> None:
    await world.register()
    planned = (await world.build({}, make_plan(step(1)))).planned
    parts: dict[str, Any] = {"plan": planned.plan, "tool_set": planned.tool_set, "tier": TIER}
    del parts[missing]

    with pytest.raises(PawlError) as refused:
        await world.scheduler.AdmitPlan(pb.AdmitPlanRequest(**parts))

    assert refused.value.code == "validation_failed"
