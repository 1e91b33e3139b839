"""The sandbox of an executor: opened, offered, watched; what dead executors left is removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from libs.core.errors import PawlError
from services.executor.code_steps import CodePace, CodeSteps
from services.executor.model import JudgedBoots
from services.executor.sandbox.model import Sandbox, SandboxUnavailable
from services.executor.tools.registry import ToolRegistry
from tests.executor_world import FakeClock
from tests.sandbox_fakes import FakeSandbox
from tests.waiting import eventually

QUICK = CodePace(retry=0.001, look=0.001, reap=0.001, unknown_seconds=60)


class ListedSandbox(FakeSandbox):
    """Counts how often it is asked what is left; says once what `refusal` is."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.refusal = ""

    async def boots(self) -> frozenset[str]:
        self.looks += 1
        if self.refusal:
            said, self.refusal = self.refusal, ""
            raise SandboxUnavailable(said)
        return await super().boots()


@dataclass
class World:
    """Code steps over a fake sandbox, and what the scheduler says of boots: boots are
    alive unless they are `ended` or `unknown`.
    """

    sandbox: ListedSandbox = field(default_factory=ListedSandbox)
    registry: ToolRegistry = field(default_factory=lambda: ToolRegistry(()))
    clock: FakeClock = field(default_factory=FakeClock)
    own_boot: str = "mine"
    ended: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    asked: list[list[str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    opened: int = 0
    refusal: PawlError | None = None
    becomes: str = ""

    async def open_sandbox(self) -> Sandbox:
        """Raises once for each reason in `missing`."""
        self.opened += 1
        if self.missing:
            raise SandboxUnavailable(self.missing.pop(0))
        return self.sandbox

    async def judge(self, boots: Collection[str]) -> JudgedBoots:
        """Refuses once; has the executor boot again meanwhile, when it `becomes` another."""
        self.asked.append(list(boots))
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            raise refusal
        self.own_boot = self.becomes or self.own_boot
        return JudgedBoots(
            ended=frozenset(self.ended & set(boots)), unknown=frozenset(self.unknown & set(boots))
        )

    def steps(self, *, is_off: bool = False, pace: CodePace = QUICK) -> CodeSteps:
        return CodeSteps(
            self.open_sandbox,
            registry=self.registry,
            own_boot=lambda: self.own_boot,
            judge_boots=self.judge,
            clock=self.clock,
            is_off=is_off,
            pace=pace,
        )

    @asynccontextmanager
    async def running(self, steps: CodeSteps | None = None) -> AsyncIterator[CodeSteps]:
        steps, ended = steps or self.steps(), asyncio.Event()
        running = asyncio.create_task(steps.run(ended))
        try:
            yield steps
        finally:
            ended.set()
            async with asyncio.timeout(5):
                await running

    async def looked(self, times: int = 3) -> None:
        """Until what is left was looked for so often, from the beginning to the end."""
        before = self.sandbox.looks
        await eventually(lambda: self.sandbox.looks > before + times)

    @property
    def names(self) -> list[str]:
        """The tools of new plans."""
        return [spec.name for spec in self.registry.specs]


@pytest.fixture
async def world() -> World:
    return World()


async def test_an_open_sandbox_is_offered_and_closed_in_the_end(world: World) -> None:
    changed = world.registry.watch()

    async with world.running() as steps:
        await eventually(steps.settled.is_set)

        assert world.names == ["python_sandbox"]
        assert changed.is_set()
        assert not world.sandbox.is_closed

    assert world.opened == 1
    assert world.sandbox.is_closed


async def test_code_steps_that_are_off_ask_for_nothing(world: World) -> None:
    async with world.running(world.steps(is_off=True)) as steps:
        await eventually(steps.settled.is_set)

    assert (world.opened, world.names) == (0, [])


async def test_without_a_sandbox_all_is_settled_until_there_is_one(world: World) -> None:
    world.missing = ["no engine", "no engine", "no image"]
    changed = world.registry.watch()

    async with world.running(world.steps(pace=CodePace(retry=0.05))) as steps:
        await eventually(steps.settled.is_set)
        assert (world.opened, world.names) == (1, [])
        assert not changed.is_set()

        await eventually(changed.is_set)

        assert (world.opened, world.names) == (4, ["python_sandbox"])


async def test_who_ends_while_there_is_no_sandbox_waits_for_none(world: World) -> None:
    world.missing = ["no engine"]

    async with world.running(world.steps(pace=CodePace(retry=3600))) as steps:
        await eventually(steps.settled.is_set)

    assert world.opened == 1
    assert not world.sandbox.is_closed


async def test_another_fault_of_opening_ends_it(world: World) -> None:
    async def broken() -> Sandbox:
        raise RuntimeError("a bug")

    steps = CodeSteps(
        broken,
        registry=world.registry,
        own_boot=lambda: "mine",
        judge_boots=world.judge,
        clock=world.clock,
    )

    with pytest.raises(RuntimeError, match="a bug"):
        await steps.run(asyncio.Event())


async def test_the_offer_follows_the_health_of_the_sandbox(world: World) -> None:
    changed = world.registry.watch()

    async with world.running() as steps:
        await eventually(steps.settled.is_set)
        # Its first look is over once it has asked what is left.
        await world.looked()
        changed.clear()

        world.sandbox.is_healthy = False
        await eventually(changed.is_set)
        assert world.names == []
        assert [ref.name for ref in world.registry.refs] == ["python_sandbox"], "still callable"

        changed.clear()
        world.sandbox.is_healthy = True
        await eventually(changed.is_set)
        assert world.names == ["python_sandbox"]


async def test_health_that_stays_is_told_once(world: World) -> None:
    changed = world.registry.watch()

    async with world.running() as steps:
        await eventually(steps.settled.is_set)
        await world.looked()
        changed.clear()
        world.sandbox.is_healthy = False
        await eventually(changed.is_set)
        changed.clear()
        await world.looked()

        assert not changed.is_set()


async def test_what_the_dead_left_is_removed(world: World) -> None:
    world.sandbox.left = {"dead", "alive", "mine"}
    world.ended = {"dead", "mine"}

    async with world.running():
        await eventually(lambda: world.sandbox.removed)
        await world.looked()

    assert world.sandbox.removed == [frozenset({"dead"})]
    assert world.sandbox.left == {"alive", "mine"}
    assert all("mine" not in boots for boots in world.asked)


async def test_nobody_is_asked_while_only_our_own_are_there(world: World) -> None:
    world.sandbox.left = {"mine"}

    async with world.running():
        await world.looked()

    assert (world.asked, world.sandbox.removed) == ([], [])


async def test_what_nobody_knows_stays_for_a_while(world: World) -> None:
    world.sandbox.left, world.unknown = {"starting"}, {"starting"}

    async with world.running():
        await world.looked()
        world.clock.seconds += 59
        await world.looked()
        assert world.sandbox.removed == []

        world.clock.seconds += 1
        await eventually(lambda: world.sandbox.removed == [frozenset({"starting"})])


async def test_what_was_known_for_a_moment_is_not_unknown_for_long(world: World) -> None:
    world.sandbox.left = {"new"}
    world.unknown = {"new"}

    async with world.running():
        await world.looked()
        world.unknown = set()
        await world.looked()
        world.clock.seconds += 61
        world.unknown = {"new"}
        await world.looked()

    assert world.sandbox.removed == []


async def test_a_boot_that_has_become_our_own_is_not_removed(world: World) -> None:
    world.sandbox.left, world.ended = {"next"}, {"next"}
    world.becomes = "next"

    async with world.running():
        await world.looked()

    assert world.asked == [["next"]]
    assert world.sandbox.removed == []


@pytest.mark.parametrize("fault", ["engine", "scheduler"])
async def test_what_cannot_be_known_now_is_looked_for_again(world: World, fault: str) -> None:
    world.sandbox.left = {"dead"}
    world.ended = {"dead"}
    if fault == "engine":
        world.sandbox.refusal = "the container engine does not answer"
    else:
        world.refusal = PawlError("unavailable", "no scheduler")

    async with world.running():
        await eventually(lambda: world.sandbox.removed == [frozenset({"dead"})])

    assert world.sandbox.looks > 1
