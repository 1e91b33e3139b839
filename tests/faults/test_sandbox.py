"""Code steps while their containers, their executor or the container engine come to harm."""

from __future__ import annotations

import asyncio
import gc
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from libs.cli.client import Client
from tests.e2e.tasks import trace_of
from tests.faults.code_world import ADD, LOOP, READY, Box, CodeWorld, code_body, code_world
from tests.faults.judge import check_run
from tests.faults.load import Load, Pace, more_done
from tests.sandbox.own_engine import fill
from tests.waiting import eventually

pytestmark = [
    pytest.mark.faults,
    pytest.mark.docker,
    pytest.mark.timeout(120),
    # The SDK leaves a socket that it could not connect to the collector.
    pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning"),
]

GONE_SECONDS = 5.0
MOST_GUESTS = 50
PACE = Pace(clients=4, per_second=50, retry_seconds=10)
UNAVAILABLE = ("SANDBOX_UNAVAILABLE", 2)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What the SDK left is collected here, not in a test that knows nothing of it."""
    yield
    gc.collect()


@pytest_asyncio.fixture(scope="module")
async def lasting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CodeWorld]:
    async with code_world(tmp_path_factory.mktemp("code") / "stack") as world:
        yield world


@pytest_asyncio.fixture
async def world(lasting: CodeWorld) -> CodeWorld:
    """Two executors, an engine of their own. Every test heals what it has hurt."""
    await lasting.offered()
    return lasting


async def judged(world: CodeWorld, load: Load, *hits: object) -> None:
    """Hold every promise against all that was done to this world so far."""
    history = await world.stack.history(load.log)
    check_run(history, hits=hits)


async def gone(world: CodeWorld, box: Box) -> None:
    await eventually(lambda: box.id not in {b.id for b in world.boxes()}, timeout=GONE_SECONDS)


def statuses(world: CodeWorld, task_id: UUID) -> list[str]:
    """How each step that began has ended."""
    return [step["status"] for step in trace_of(Client(world.stack.server), str(task_id))["steps"]]


def failed_at(task: dict[str, Any]) -> tuple[str, int]:
    """With which code a task failed, and at which step."""
    assert task["status"] == "failed", task
    return task["failure"]["code"], task["failure"]["index"]


async def test_code_without_an_end_ends_in_time_with_its_container(
    world: CodeWorld, seed: int
) -> None:
    load = Load(world.stack.server, seed=f"{seed}-endless")
    with load.running(PACE) as log:
        task_id = world.begin(code_body(LOOP, step_seconds=3.0))
        box = await world.busy()
        task = await world.ended(task_id)
        await gone(world, box)
        await more_done(log, 100)

    assert failed_at(task) == ("TIMEOUT", 2)
    await judged(world, load, task_id)


async def test_code_that_is_held_or_killed_from_outside_fails_in_time(
    world: CodeWorld, seed: int
) -> None:
    load = Load(world.stack.server, seed=f"{seed}-outside")
    with load.running(PACE) as log:
        held = world.begin(code_body(LOOP, step_seconds=4.0))
        held_box = await world.busy()
        world.pause(held_box)
        assert failed_at(await world.ended(held)) == ("TIMEOUT", 2)
        await gone(world, held_box)

        killed = world.begin(code_body(LOOP))
        killed_box = await world.busy()
        world.kill(killed_box)
        assert failed_at(await world.ended(killed, timeout=5)) == ("SANDBOX_LOST", 2)
        await gone(world, killed_box)
        assert await world.run(code_body(ADD)) == "succeeded"
        await more_done(log, 100)

    assert statuses(world, killed) == ["succeeded", "failed"]
    await judged(world, load, held, killed)


async def test_containers_of_a_killed_executor_end_at_once_and_are_removed(
    world: CodeWorld, seed: int
) -> None:
    """Their stdin ends, and with it the code; another executor removes what is left."""
    load = Load(world.stack.server, seed=f"{seed}-executor")
    with load.running(PACE) as log:
        task_id = world.begin(code_body(LOOP))
        box = await world.busy()
        killed = world.stack.processes.kill(box.executor_id)
        await eventually(lambda: not running(world, box.boot_id), timeout=GONE_SECONDS)
        task = await world.ended(task_id)
        await world.stack.back(box.executor_id, after=killed)
        await eventually(lambda: box.boot_id not in boots(world), timeout=30)
        assert await world.run(code_body(ADD)) == "succeeded"
        await more_done(log, 100)

    assert failed_at(task) == ("EXECUTOR_LOST", 2)
    assert statuses(world, task_id) == ["succeeded", "interrupted"]
    await judged(world, load, task_id)


def boots(world: CodeWorld) -> set[str]:
    return {box.boot_id for box in world.boxes()}


def running(world: CodeWorld, boot_id: str) -> list[Box]:
    return [b for b in world.boxes() if b.boot_id == boot_id and b.state == "running"]


async def test_a_killed_engine_fails_what_runs_and_code_is_refused_until_it_is_back(
    world: CodeWorld, seed: int
) -> None:
    load = Load(world.stack.server, seed=f"{seed}-engine")
    with load.running(PACE) as log:
        in_code = world.begin(code_body(LOOP))
        before_code = world.begin(code_body(ADD, before_seconds=4.0))
        await world.busy()
        await asyncio.to_thread(world.engine.signal, signal.SIGKILL)

        assert failed_at(await world.ended(in_code, timeout=5)) == ("SANDBOX_LOST", 2)
        assert failed_at(await world.ended(before_code)) == UNAVAILABLE
        await world.not_offered()
        refused = world.submit(code_body(ADD))
        await more_done(log, 100)

        await asyncio.to_thread(world.engine.start)
        await world.offered()
        assert await world.run(code_body(ADD)) == "succeeded"

    assert (refused.status, refused.answer["code"]) == (422, "tool_unavailable")
    assert statuses(world, in_code) == ["succeeded", "failed"]
    await judged(world, load, in_code, before_code)


async def test_without_an_engine_at_the_start_code_is_refused_until_there_is_one(
    world: CodeWorld,
) -> None:
    refused = world.refused_at_start

    assert (refused.status, refused.answer["code"]) == (422, "unknown_tool")
    assert "Code docker" in world.stack.console
    assert await world.run(code_body(ADD)) == "succeeded"


def has_ended(world: CodeWorld, task_id: UUID) -> bool:
    task = Client(world.stack.server).get(f"/api/v1/tasks/{task_id}")
    return task["status"] in {"succeeded", "failed", "cancelled"}


async def test_a_full_disk_ends_the_offer_and_no_more(world: CodeWorld, seed: int) -> None:
    load = Load(world.stack.server, seed=f"{seed}-disk")
    filling = world.engine.data_root / "filling"
    filling.mkdir()
    taken: list[UUID] = []
    with load.running(PACE) as log:
        try:
            # Guests that were ready run code; what would take their place does not start, once
            # the room is taken that they leave.
            for number in range(MOST_GUESTS):
                fill(filling / str(number))
                last = world.submit(code_body(ADD))
                if last.task_id is None:
                    break
                taken.append(last.task_id)
                await eventually(
                    lambda: has_ended(world, taken[-1]) or not world.sandboxes(), timeout=20
                )
            await eventually(lambda: set(world.metric(READY).values()) == {0.0})
            await more_done(log, 100)
        finally:
            shutil.rmtree(filling)
        await world.offered()
        # What nobody could take has waited.
        for task_id in taken:
            task = await world.ended(task_id)
            assert task["status"] == "succeeded" or failed_at(task) == UNAVAILABLE
        assert await world.run(code_body(ADD)) == "succeeded"

    assert (last.status, last.answer["code"]) == (422, "tool_unavailable")
    assert "no space left" in world.stack.log_of("executor-1")
    await judged(world, load, last)


async def test_a_missing_image_ends_the_offer_until_it_is_back(world: CodeWorld, seed: int) -> None:
    load = Load(world.stack.server, seed=f"{seed}-image")
    image = await asyncio.to_thread(world.saved_image)
    with load.running(PACE) as log:
        before_code = world.begin(code_body(ADD, before_seconds=6.0))
        with world.stack.holding(), world.stack.processes.held("executor-1", "executor-2"):
            await asyncio.to_thread(world.remove_image)

        assert failed_at(await world.ended(before_code)) == UNAVAILABLE
        await world.not_offered()
        refused = world.submit(code_body(ADD))
        await more_done(log, 100)

        await asyncio.to_thread(world.engine.load, image)
        await world.offered()
        assert await world.run(code_body(ADD)) == "succeeded"

    assert (refused.status, refused.answer["code"]) == (422, "tool_unavailable")
    assert "No such image" in world.stack.log_of("executor-1")
    await judged(world, load, before_code)


async def test_an_engine_that_stands_still_holds_up_no_more_than_code(
    world: CodeWorld, seed: int
) -> None:
    """Nobody can remove the guest meanwhile; its own clock ends the code in time."""
    load = Load(world.stack.server, seed=f"{seed}-still")
    with load.running(PACE) as log:
        task_id = world.begin(code_body(LOOP, step_seconds=3.0))
        box = await world.busy()
        world.engine.signal(signal.SIGSTOP)
        try:
            task = await world.ended(task_id, timeout=3.0 + GONE_SECONDS)
            await more_done(log, 100)
        finally:
            world.engine.signal(signal.SIGCONT)
        await gone(world, box)
        await world.offered()
        assert await world.run(code_body(ADD)) == "succeeded"

    assert failed_at(task) == ("TIMEOUT", 2)
    await judged(world, load, task_id)
