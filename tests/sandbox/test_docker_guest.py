"""The guest that comes with Pawl, in real containers: what it runs, and that it outlives nobody."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.executor.sandbox.docker import DockerGuest
from services.executor.sandbox.image.context import packaged_context
from services.executor.sandbox.model import Death
from tests.sandbox.docker_owner import code_request
from tests.sandbox.docker_world import DockerWorld, docker_world, engine_or_skip
from tests.waiting import eventually

pytestmark = pytest.mark.docker


@pytest_asyncio.fixture
async def world() -> AsyncIterator[DockerWorld]:
    async with docker_world(engine_or_skip(), context=packaged_context()) as world:
        yield world


async def run(guest: DockerGuest, request: bytes) -> dict[str, object]:
    async with asyncio.timeout(30):
        answer = await guest.ask(request, max_answer_bytes=2**20)
    assert answer is not None
    found: dict[str, object] = json.loads(answer)
    return found


async def test_it_runs_code_and_says_what_came_out(world: DockerWorld) -> None:
    guest = await world.guest()

    answer = await run(guest, code_request("result = input_data * 2; print('so')", input_data=21))

    assert (answer["ok"], answer["result"], answer["stdout"]) == (True, 42, "so\n")
    assert await guest.death() == Death(is_out_of_memory=False, exit_code=0)
    assert guest.complaints == ""


async def test_memory_of_the_container_is_bounded_where_the_guests_own_bound_is_not(
    world: DockerWorld,
) -> None:
    guest = await world.guest()
    code = "held = [bytearray(2**20) for _ in range(2000)]"

    answer = await run(guest, code_request(code, memory_bytes=2**40))

    assert (answer["ok"], answer["code"]) == (False, "MEMORY_LIMIT")


async def test_code_reaches_no_network_and_sees_nobody(world: DockerWorld) -> None:
    code = """
import os, socket
def outcome(work):
    try:
        work()
    except OSError as error:
        return error.strerror
    return "allowed"
result = {
    "connect": outcome(lambda: socket.create_connection(("172.17.0.1", 80), 1)),
    "fork": outcome(os.fork),
    "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) > 1),
}
"""
    answer = await run(await world.guest(), code_request(code))

    assert answer["ok"] is True
    result = answer["result"]
    assert isinstance(result, dict)
    assert (result["connect"], result["fork"]) == ("Operation not permitted",) * 2
    assert len(result["pids"]) == 1


async def test_a_ready_guest_answers_within_milliseconds(world: DockerWorld) -> None:
    seconds = []
    for _ in range(10):
        guest = await world.guest()
        began = time.perf_counter()
        await run(guest, code_request("result = 1"))
        seconds.append(time.perf_counter() - began)

    assert statistics.median(seconds) < 0.06


async def test_a_killed_owner_leaves_nothing_that_runs(world: DockerWorld) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.sandbox.docker_owner"),
        *(engine_or_skip(), world.installation_id),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    names = set((await process.stdout.readline()).decode().split()[1:])
    assert set(world.containers(running=True)) == names

    process.kill()
    await process.wait()

    await eventually(lambda: world.containers(running=True) == [], timeout=5)
    # Who comes after finds what they were, and removes it.
    assert set(world.containers()) == names
    assert await world.backend.boots() == {"boot"}
    assert await world.backend.remove({"boot"}) == 2
    assert world.containers() == []
