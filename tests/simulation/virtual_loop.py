"""An event loop whose time is virtual, and processes of it that can stand still.

Nothing waits: when nothing is ready, time jumps to the next timer. There is no I/O and no thread,
so one seed gives one history.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from datetime import datetime, timedelta
from typing import Any, ClassVar

from tests.simulation.tables import BEGINNING

MOST_HANDLES = 300_000
"""More than this at once is a loop that does not end."""


class Process:
    """What runs under one name. Held, none of it runs: its timers and callbacks pile up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_held = False
        self.waiting: deque[asyncio.Handle] = deque()
        self.context = Context()
        self.context.run(_process.set, self)


_process: ContextVar[Process | None] = ContextVar("simulated_process", default=None)


def running_process() -> Process | None:
    """Whose callback runs; None outside of all processes."""
    return _process.get()


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    _numbers = itertools.count()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*arguments, **named)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs only inside `advance`; `time` is in virtual seconds since its beginning."""

    latest: ClassVar[VirtualLoop | None] = None
    """The one that was made last, for whoever tells what happens."""

    def __init__(self) -> None:
        super().__init__()
        VirtualLoop.latest = self
        self.errors: list[str] = []
        self.handles = 0
        """How many callbacks have run."""
        self.outside = Context()
        """Where things happen that are part of no process: what is on its way goes on."""
        self._now = 0.0
        self._until = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._ready: deque[asyncio.Handle]
        self.set_task_factory(lambda loop, coro, **named: _Task(coro, loop=loop, **named))
        self.set_exception_handler(self._note)

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def call_at(  # type: ignore[override]  # the same, without the typing of its arguments
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at a virtual moment."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(  # type: ignore[override]  # as above
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back after virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that happens in it."""
        self._until = self._now + seconds
        self.run_forever()

    def hold(self, process: Process) -> None:
        """Let nothing of a process run from now on."""
        process.is_held = True

    def release(self, process: Process) -> None:
        """Let a process go on, with all that has piled up."""
        process.is_held = False
        self._ready.extend(process.waiting)
        process.waiting.clear()

    def close_all(self) -> None:
        """Cancel every task, let them end, and close."""
        for _ in range(20):
            left = asyncio.all_tasks(self)
            if not left:
                break
            for task in left:
                task.cancel()
            self.advance(5.0)
        self.close()

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        budget = MOST_HANDLES
        while True:
            while ready:
                self._run(ready.popleft())
                budget -= 1
                if not budget:
                    raise RuntimeError(f"{MOST_HANDLES} callbacks without an end")
            if not timers or timers[0][0] > self._until:
                self._now = max(self._now, self._until)
                self._stopping = True
                return
            self._now = max(self._now, timers[0][0])
            while timers and timers[0][0] <= self._now:
                timer = heapq.heappop(timers)[2]
                if not timer.cancelled():
                    ready.append(timer)

    def _run(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        process = handle._context.get(_process)  # type: ignore[attr-defined]
        if process is not None and process.is_held:
            process.waiting.append(handle)
            return
        self.handles += 1
        handle._run()

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are skipped when their time comes."""

    def _process_events(self, _events: object) -> None:
        """There is no I/O."""

    def _write_to_self(self) -> None:
        """Nothing waits that could be woken."""


class VirtualClock:
    """The clock of a process in the simulation."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        """The wall time of services; the database has its own."""
        return BEGINNING + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        """Virtual seconds."""
        return self._loop.time()
