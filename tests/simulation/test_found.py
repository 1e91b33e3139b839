"""What histories have found, each as a short history that showed it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tests.simulation.__main__ import quiet
from tests.simulation.clients import Wish
from tests.simulation.machines import Build
from tests.simulation.tables import S
from tests.simulation.world import World


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Nothing is said of what happens in the histories."""
    before: dict[str, Any] = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)


def sessions(world: World) -> list[str]:
    """The executors that the schedulers that run take for connected."""
    return [
        session.stream.executor_id
        for scheduler in world.schedulers
        if scheduler is not None
        for session in scheduler.dispatcher._sessions.values()
    ]


@pytest.mark.parametrize("milliseconds", range(12))
def test_hello_that_comes_during_a_drain_is_sent_elsewhere(milliseconds: int) -> None:
    world = World(0, Build(schedulers=1, executors=1))
    world.reset(0)
    # The executor waits so long before it opens the next stream.
    world.advance(0.1 + milliseconds / 1000)

    world.stop_scheduler(0)
    world.start_scheduler(0)
    world.advance(2.0)

    assert sessions(world) == ["executor-0"]
    world.close()


def test_stream_of_a_machine_that_is_gone_takes_no_work_from_others() -> None:
    world = World(0, Build(schedulers=1))
    world.kill_executor(0, is_silent=True)
    world.advance(25.0)

    assert sessions(world) == ["executor-1"]
    world.submit(Wish(tenant=1, seconds=(0.01,)))
    world.advance(1.0)
    assert [task.state for task in world.tables.tasks.values()] == [S.SUCCEEDED]
    world.close()


@pytest.mark.parametrize("seconds", [3.5, 4.5, 6.0])
def test_executor_may_come_back_after_a_pause_of_the_database(seconds: float) -> None:
    world = World(0, Build(schedulers=1, executors=1, may_lose=False))
    world.submit(Wish(tenant=1, seconds=(8.0,)))
    world.advance(0.5)
    world.reset(0)
    world.pause_database()
    world.advance(seconds)
    world.resume_database()

    world.finish()

    assert world.marks["succeeded"] == 2  # the probe too
    world.close()
