"""Turns that owners share: order, bounds, and that who gives up takes none with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from libs.process.turns import FairTurns


class Takers:
    """Takes turns and notes who got one, in order."""

    def __init__(self, turns: FairTurns) -> None:
        self.turns = turns
        self.got: list[str] = []

    def ask(self, owner: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._take(owner))

    async def _take(self, owner: str) -> None:
        await self.turns.take(owner)
        self.got.append(owner)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_owner_never_has_all_turns() -> None:
    takers = Takers(FairTurns(3, most_each=2))

    waiting = [takers.ask("a") for _ in range(5)]
    await settle()
    assert takers.got == ["a", "a"]
    await takers.ask("b")
    takers.turns.give_back("b")
    await settle()

    assert takers.got == ["a", "a", "b"]
    for each in waiting:
        each.cancel()


async def test_a_turn_given_back_goes_to_who_holds_fewest() -> None:
    takers = Takers(FairTurns(3, most_each=2))
    waiting = [takers.ask(owner) for owner in "aabaac"]
    await settle()

    takers.turns.give_back("a")
    await settle()

    assert takers.got == ["a", "a", "b", "c"]
    for each in waiting:
        each.cancel()


@pytest.mark.parametrize("called_first", [False, True])
async def test_who_gives_up_waiting_takes_no_turn_with_it(*, called_first: bool) -> None:
    takers = Takers(FairTurns(1, most_each=1))
    await takers.ask("a")
    gives_up, stays = takers.ask("b"), takers.ask("c")
    await settle()

    # In one breath: the loop runs neither in between.
    acts: list[Callable[[], object]] = [lambda: takers.turns.give_back("a"), gives_up.cancel]
    for act in acts if called_first else reversed(acts):
        act()
    await asyncio.wait_for(stays, 5)

    assert gives_up.cancelled()
    assert takers.got == ["a", "c"]
    takers.turns.give_back("c")
    await asyncio.wait_for(takers.ask("d"), 5)


async def test_a_turn_ends_with_its_block_also_when_that_fails() -> None:
    turns = FairTurns(1, most_each=1)

    with pytest.raises(ValueError, match="no"):
        async with turns.turn("a"):
            raise ValueError("no")

    async with asyncio.timeout(5), turns.turn("b"):
        pass
