"""What runs for which start of which executor, so that it can be ended from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

REMEMBERED_SECONDS = 60.0
"""How long an end is remembered that came before its run; far above what a request is under way."""


class RunEnded(Exception):  # noqa: N818 - the wish of a caller, not a fault
    """A run that was ended from outside; nothing of it runs any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    boot_id: str
    task: asyncio.Task[Any]


class Runs:
    """The runs of this process."""

    def __init__(self) -> None:
        self._by_id: dict[str, _Run] = {}
        self._ended_before: dict[str, float] = {}

    @property
    def boots(self) -> frozenset[str]:
        """The starts of executors for which something runs."""
        return frozenset(run.boot_id for run in self._by_id.values())

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._by_id

    async def hold(self, run_id: str, *, boot_id: str, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, whose cancellation ends it. RunEnded when it was ended from outside, also when
        that came first: the small request to end it can overtake the large one to begin.

        However this ends, `work` has ended before.
        """
        if self._ended_before.pop(run_id, None) is not None:
            work.close()
            raise RunEnded
        task = asyncio.create_task(work)
        self._by_id[run_id] = _Run(boot_id=boot_id, task=task)
        # Whoever waits may be cancelled, again and again; the run is known until it has ended.
        task.add_done_callback(lambda _: self._by_id.pop(run_id, None))
        try:
            await asyncio.wait({task})
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            raise RunEnded
        return task.result()

    async def end(self, run_id: str) -> bool:
        """End a run; whether there was one. If it has not begun, it never will."""
        run = self._by_id.get(run_id)
        if run is None:
            self._remember(run_id)
            return False
        return await _end([run]) == 1

    async def end_boots(self, boots: Collection[str]) -> int:
        """End all runs of these starts; how many there were."""
        return await _end([run for run in self._by_id.values() if run.boot_id in boots])

    def _remember(self, run_id: str) -> None:
        now = asyncio.get_running_loop().time()
        kept = self._ended_before.items()
        self._ended_before = {i: at for i, at in kept if now - at < REMEMBERED_SECONDS}
        self._ended_before[run_id] = now


async def _end(runs: list[_Run]) -> int:
    for run in runs:
        run.task.cancel()
    if runs:
        await asyncio.wait({run.task for run in runs})
    return len(runs)
