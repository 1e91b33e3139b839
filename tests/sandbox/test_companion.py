"""The sandbox beside executors over real gRPC: who may call, what arrives, what loss means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from libs.core.errors import FailureCode, PawlError, StepFailed
from libs.pb.pawl.executor.v1 import sandbox_service_pb2 as pb
from libs.pb.pawl.executor.v1.sandbox_service_pb2_grpc import SandboxServiceStub
from libs.rpc.certs import make_certificates
from libs.rpc.client import RpcChannel
from libs.rpc.tokens import SERVICES, KeyRing, ServiceTokens
from services.executor.companion.access import ACCESS
from services.executor.sandbox.companion import MAX_FAILURES, CompanionSandbox
from services.executor.sandbox.model import MIB, CodeResult, SandboxIdentity, SandboxUnavailable
from tests.certificates import files_of
from tests.sandbox.companion_world import (
    BOOT,
    IDENTITY,
    REQUEST,
    RESULT,
    CompanionWorld,
    companion_world,
)
from tests.waiting import eventually

METHODS = [path.rpartition("/")[2] for path in ACCESS]
OTHERS = sorted(set(SERVICES) - {"executor"})


@pytest_asyncio.fixture
async def world(keys: KeyRing) -> AsyncIterator[CompanionWorld]:
    async with companion_world(keys) as world:
        yield world


def call(channel: RpcChannel, method: str, **fields: Any) -> Any:
    request = getattr(pb, f"{method}Request")(**fields)
    return getattr(channel.stub(SandboxServiceStub), method)(request)


def run_request(**changed: Any) -> dict[str, Any]:
    """The fields of a request that is good but for what is changed."""
    good = {
        "code": "1",
        "input_json": "{}",
        "wall_seconds": 1.0,
        "boot_id": BOOT,
        "run_id": str(uuid4()),
        "identity": pb.SandboxIdentity(
            backend=IDENTITY.backend, python=IDENTITY.python, build=IDENTITY.build
        ),
    }
    return good | changed


async def test_what_is_asked_and_what_comes_back_are_the_same(world: CompanionWorld) -> None:
    assert world.client.identity == IDENTITY
    assert await world.client.run(REQUEST) == RESULT
    assert world.sandbox.seen == [REQUEST]
    assert world.client.is_healthy


async def test_the_largest_input_and_output_pass(world: CompanionWorld) -> None:
    text = json.dumps("x" * (4 * MIB - 2))
    largest = CodeResult(
        result_json=json.dumps("y" * (256 * 2**10 - 2)), stdout="a" * 131_072, stderr="ü" * 131_072
    )
    world.sandbox.outcome = largest

    result = await world.client.run(replace(REQUEST, code="#" * 256 * 2**10, input_json=text))

    assert result == largest
    assert world.sandbox.seen[0].input_json == text


async def test_input_reaches_the_sandbox_as_one_value_written_anew(world: CompanionWorld) -> None:
    text = ' {"b" : 1, "b": 2,\n"a": 10000000000000000} '

    await call(world.channel, "RunCode", **run_request(input_json=text, wall_seconds=3600))

    assert world.sandbox.seen[0].input_json == '{"a":10000000000000000,"b":2}'


@pytest.mark.parametrize("code", list(FailureCode))
async def test_a_failure_arrives_as_it_was_raised(world: CompanionWorld, code: FailureCode) -> None:
    world.sandbox.outcome = StepFailed(code, "line 3: no", reason="RUNTIME_ERROR")

    with pytest.raises(StepFailed) as raised:
        await world.client.run(REQUEST)

    failed = raised.value
    assert (failed.code, failed.message, failed.reason) == (code, "line 3: no", "RUNTIME_ERROR")


async def test_it_is_as_well_as_the_process_says(world: CompanionWorld) -> None:
    world.sandbox.is_healthy = False
    await eventually(lambda: not world.client.is_healthy)

    world.sandbox.is_healthy = True
    await eventually(lambda: world.client.is_healthy)

    assert world.sandbox.seen == []


async def test_one_that_is_away_is_not_well_until_it_is_back(
    world: CompanionWorld, keys: KeyRing
) -> None:
    await world.server.stop()
    await eventually(lambda: not world.client.is_healthy)

    again = await world.serve_again(keys)
    try:
        await eventually(lambda: world.client.is_healthy)
        assert await world.client.run(REQUEST) == RESULT
    finally:
        await again.stop()


async def test_another_sandbox_is_not_well_until_it_is_the_old_one_again(
    world: CompanionWorld,
) -> None:
    world.sandbox.identity = replace(IDENTITY, build="other")
    await eventually(lambda: not world.client.is_healthy)
    assert world.client.identity == IDENTITY

    world.sandbox.identity = IDENTITY
    await eventually(lambda: world.client.is_healthy)


async def test_what_cannot_run_now_does_not_make_it_unwell_by_itself(
    world: CompanionWorld,
) -> None:
    world.sandbox.outcome = StepFailed(FailureCode.SANDBOX_UNAVAILABLE, "no place")
    for _ in range(MAX_FAILURES):
        with pytest.raises(StepFailed):
            await world.client.run(REQUEST)

    assert world.client.is_healthy


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("service", OTHERS)
async def test_only_executors_may_call(
    world: CompanionWorld, keys: KeyRing, service: str, method: str
) -> None:
    channel = world.channel_as(service, keys)

    with pytest.raises(PawlError, match=f"{service} may not call") as raised:
        await call(channel, method)

    assert raised.value.code == "permission_denied"
    assert world.sandbox.seen == []
    await channel.close()


@pytest.mark.parametrize("method", METHODS)
async def test_nobody_calls_without_a_token_or_with_anothers(
    world: CompanionWorld, keys: KeyRing, method: str
) -> None:
    nobody = world.channel_as("", keys)
    stranger = RpcChannel(
        nobody.target,
        audience="sandbox",
        tokens=ServiceTokens("executor", KeyRing.generate().private["executor"]),
    )

    for channel in (nobody, stranger):
        with pytest.raises(PawlError) as raised:
            await call(channel, method)
        assert raised.value.code == "unauthenticated"
        await channel.close()
    assert world.sandbox.seen == []


async def test_certificates_name_who_calls(keys: KeyRing, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    ours, theirs = files_of(tmp_path, "executor"), files_of(tmp_path, "gateway")

    async with companion_world(
        keys, server_tls=files_of(tmp_path, "sandbox"), client_tls=ours
    ) as world:
        assert await world.client.run(REQUEST) == RESULT
        # A good token of an executor, over the connection of another.
        channel = world.channel_as("executor", keys, tls=theirs)
        with pytest.raises(PawlError) as raised:
            await call(channel, "RunCode", **run_request())
        await channel.close()

    assert raised.value.code == "unauthenticated"


@pytest.mark.parametrize(
    "changed",
    [
        {"boot_id": ""},
        {"boot_id": "one"},
        {"run_id": "two"},
        {"wall_seconds": 0},
        {"wall_seconds": -1},
        {"wall_seconds": float("nan")},
        {"wall_seconds": float("inf")},
        {"wall_seconds": 3600.1},
        {"input_json": ""},
        {"input_json": "{"},
        {"input_json": '1,"limits":{"wall_seconds":9e9}'},
        {"input_json": "NaN"},
        {"input_json": "1e999"},
        {"input_json": "[" * 100_000},
        {"now": float("nan")},
    ],
)
async def test_bad_requests_run_nothing(world: CompanionWorld, changed: dict[str, Any]) -> None:
    with pytest.raises(PawlError, match=next(iter(changed))) as raised:
        await call(world.channel, "RunCode", **run_request(**changed))

    assert raised.value.code == "validation_failed"
    assert world.sandbox.seen == []


async def test_a_sandbox_that_changed_runs_nothing_under_the_old_name(
    world: CompanionWorld,
) -> None:
    world.sandbox.identity = SandboxIdentity(backend="docker", python="3.11.9", build="other")

    with pytest.raises(StepFailed, match=r"3\.11\.9 other") as raised:
        await world.client.run(REQUEST)

    assert raised.value.code is FailureCode.SANDBOX_UNAVAILABLE
    assert world.sandbox.seen == []


async def test_a_cancelled_run_is_dead_when_its_caller_hears_of_it(world: CompanionWorld) -> None:
    world.sandbox.outcome = None
    world.sandbox.kill_seconds = 0.2
    running = asyncio.create_task(world.client.run(REQUEST))
    await eventually(lambda: world.sandbox.running == 1)

    running.cancel()
    await asyncio.wait({running})

    assert running.cancelled()
    assert world.sandbox.running == 0


async def test_what_code_spent_is_told_however_it_ended(world: CompanionWorld) -> None:
    told: list[float] = []
    world.sandbox.seconds = 0.25
    await world.client.run(REQUEST, spent=told.append)
    world.sandbox.outcome = StepFailed(FailureCode.CODE_ERROR, "no")
    with pytest.raises(StepFailed):
        await world.client.run(REQUEST, spent=told.append)
    world.sandbox.outcome = None
    running = asyncio.create_task(world.client.run(REQUEST, spent=told.append))
    await eventually(lambda: world.sandbox.running == 1)

    running.cancel()
    await asyncio.wait({running})

    assert running.cancelled()
    assert told == [0.25] * 3


async def test_of_code_that_never_ran_nothing_is_told(world: CompanionWorld) -> None:
    told: list[float] = []
    world.sandbox.outcome = StepFailed(FailureCode.SANDBOX_UNAVAILABLE, "none is ready")

    with pytest.raises(StepFailed):
        await world.client.run(REQUEST, spent=told.append)

    assert told == []


async def test_a_caller_that_is_gone_takes_its_run_along(world: CompanionWorld) -> None:
    world.sandbox.outcome = None
    running = asyncio.create_task(world.client.run(REQUEST))
    await eventually(lambda: world.sandbox.running == 1)

    await world.channel.close()

    await eventually(lambda: world.sandbox.running == 0)
    await asyncio.wait({running})


async def test_a_connection_that_is_lost_while_it_runs_is_a_lost_sandbox(
    world: CompanionWorld,
) -> None:
    world.sandbox.outcome = None
    running = asyncio.create_task(world.client.run(REQUEST))
    await eventually(lambda: world.sandbox.running == 1)

    await world.server._server.stop(0)

    with pytest.raises(StepFailed) as raised:
        await running
    assert raised.value.code is FailureCode.SANDBOX_LOST
    assert len(world.sandbox.seen) == 1
    await eventually(lambda: world.sandbox.running == 0)


async def test_one_that_cannot_be_reached_has_run_nothing(world: CompanionWorld) -> None:
    await world.server.stop()

    with pytest.raises(StepFailed, match="nothing of it was run") as raised:
        await world.client.run(REQUEST)
    assert raised.value.code is FailureCode.SANDBOX_UNAVAILABLE
    with pytest.raises(SandboxUnavailable):
        await world.client.boots()
    with pytest.raises(SandboxUnavailable):
        await world.client.remove({BOOT})
    with pytest.raises(SandboxUnavailable):
        await CompanionSandbox.open(world.channel, boot_id=lambda: BOOT, connect_seconds=0.1)


async def test_boots_are_those_that_run_and_removing_ends_them(world: CompanionWorld) -> None:
    assert await world.client.boots() == frozenset()
    world.sandbox.outcome = None
    world.sandbox.kill_seconds = 0.1
    running = [asyncio.create_task(world.client.run(REQUEST)) for _ in range(3)]
    await eventually(lambda: world.sandbox.running == 3)

    assert await world.client.boots() == {BOOT}
    assert await world.client.remove({"0193a5e0-0000-7000-8000-000000000002"}) == 0
    assert world.sandbox.running == 3
    assert await world.client.remove({BOOT}) == 3
    assert world.sandbox.running == 0

    for each in running:
        with pytest.raises(StepFailed) as raised:
            await each
        assert raised.value.code is FailureCode.SANDBOX_LOST
    assert await world.client.boots() == frozenset()


async def test_a_drain_lets_runs_end(world: CompanionWorld) -> None:
    world.sandbox.gate.clear()
    running = asyncio.create_task(world.client.run(REQUEST))
    await eventually(lambda: world.sandbox.running == 1)

    stopping = asyncio.create_task(world.server.stop())
    await asyncio.sleep(0)
    world.sandbox.gate.set()

    assert await running == RESULT
    await stopping


async def test_a_run_can_be_cancelled_during_a_drain(world: CompanionWorld) -> None:
    world.sandbox.outcome = None
    running = asyncio.create_task(world.client.run(REQUEST))
    await eventually(lambda: world.sandbox.running == 1)

    stopping = asyncio.create_task(world.server.stop())
    await asyncio.sleep(0)
    running.cancel()

    await stopping
    await eventually(lambda: world.sandbox.running == 0)
    assert running.cancelled()
