"""Tools that come and go while an executor runs: the registry, and who tells the planner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from libs.core.errors import PawlError
from libs.core.tool_spec import ToolSpec
from services.executor.boot import Boot
from services.executor.clients import PlannerClient
from services.executor.registration import Registration
from services.executor.tools.registry import BadTool, ToolRegistry
from tests.executor_world import FakeTool, echo
from tests.waiting import eventually


def tool(name: str) -> FakeTool:
    return FakeTool(echo, name=name)


def names(specs: Sequence[ToolSpec]) -> list[str]:
    return [spec.name for spec in specs]


def test_a_tool_that_comes_later_is_offered_in_its_place() -> None:
    registry = ToolRegistry((tool("a"), tool("c")))
    watch = registry.watch()
    assert not watch.is_set()

    registry.add(tool("b"))

    assert watch.is_set()
    assert names(registry.specs) == ["a", "b", "c"]
    found = registry.find(registry.refs[1])
    assert found is not None
    assert found.ref.name == "b"


def test_a_name_is_taken_once() -> None:
    registry = ToolRegistry((tool("a"),))
    watch = registry.watch()

    with pytest.raises(BadTool, match="two tools named a"):
        registry.add(tool("a"))

    assert names(registry.specs) == ["a"]
    assert not watch.is_set()


def test_what_is_not_available_is_not_for_new_tasks_and_still_found() -> None:
    registry, available = ToolRegistry((tool("a"),)), False
    registry.add(tool("b"), is_available=lambda: available)
    refs = registry.refs

    assert names(registry.specs) == ["a"]
    assert [ref.name for ref in refs] == ["a", "b"]
    assert registry.available == refs[:1]
    assert registry.find(refs[1]) is not None

    available = True

    assert names(registry.specs) == ["a", "b"]
    assert registry.available == registry.refs == refs


def test_each_who_watches_is_told_of_each_change() -> None:
    registry = ToolRegistry(())
    one, other = registry.watch(), registry.watch()
    registry.changed()
    one.clear()

    registry.changed()

    assert one.is_set()
    assert other.is_set()
    assert not registry.watch().is_set(), "only of what comes from now on"


class FakePlanner:
    """Remembers offers; refuses while it is told to, and holds them up while it is `busy`."""

    def __init__(self) -> None:
        self.offers: list[list[str]] = []
        self.refuses = False
        self.refusals = 0
        self.ready = asyncio.Event()
        self.ready.set()

    async def register(self, tools: Sequence[ToolSpec]) -> None:
        offer = names(tools)
        await self.ready.wait()
        if self.refuses:
            self.refusals += 1
            raise PawlError("unavailable", "the planner is away")
        self.offers.append(offer)

    async def withdraw(self) -> None:
        self.offers.append([])


@asynccontextmanager
async def registering(planner: FakePlanner, registry: ToolRegistry) -> AsyncIterator[Registration]:
    registration = Registration(
        cast("PlannerClient", planner),
        registry=registry,
        boot=Boot(lambda: "boot"),
        renew_seconds=3600,
        retry_seconds=0.001,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(registration.run(stop))
    try:
        yield registration
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await running


async def test_the_planner_is_told_of_other_tools_at_once() -> None:
    planner, registry, available = FakePlanner(), ToolRegistry((tool("a"),)), True
    async with registering(planner, registry) as registration:
        await eventually(registration.registered.is_set)

        registry.add(tool("b"), is_available=lambda: available)
        await eventually(lambda: planner.offers[-1] == ["a", "b"])
        available = False
        registry.changed()
        await eventually(lambda: planner.offers[-1] == ["a"])

    assert planner.offers == [["a"], ["a", "b"], ["a"], []]


async def test_a_tool_that_comes_while_the_planner_is_asked_is_told_after_that() -> None:
    planner, registry = FakePlanner(), ToolRegistry((tool("a"),))
    planner.ready.clear()
    async with registering(planner, registry):
        await asyncio.sleep(0)
        registry.add(tool("b"))
        planner.ready.set()

        await eventually(lambda: planner.offers == [["a"], ["a", "b"]])


async def test_an_older_offer_is_not_the_current_one() -> None:
    planner, registry = FakePlanner(), ToolRegistry((tool("a"),))
    async with registering(planner, registry) as registration:
        async with asyncio.timeout(5):
            await registration.wait_current()
        planner.ready.clear()
        registry.add(tool("b"))
        waiting = asyncio.create_task(registration.wait_current())
        await asyncio.sleep(0)

        assert registration.registered.is_set()
        assert not waiting.done()
        planner.ready.set()
        async with asyncio.timeout(5):
            await waiting
        assert planner.offers[-1] == ["a", "b"]


async def test_a_planner_that_is_away_is_told_later() -> None:
    planner, registry = FakePlanner(), ToolRegistry((tool("a"),))
    async with registering(planner, registry) as registration:
        await eventually(registration.registered.is_set)
        planner.refuses = True
        registry.add(tool("b"))
        waiting = asyncio.create_task(registration.wait_current())
        await eventually(lambda: planner.refusals > 1)
        assert not waiting.done()

        planner.refuses = False
        async with asyncio.timeout(5):
            await waiting

    assert planner.offers == [["a"], ["a", "b"], []]
