"""Guests started ahead: each is asked once, removed, and replaced by a new one.

Code that finds none waits for the first that gets ready, whoever it was started for.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from libs.core.errors import StepFailed
from libs.process.logs import get_logger
from services.executor.sandbox import verdict
from services.executor.sandbox.model import (
    Backend,
    CodeLimits,
    CodeRequest,
    CodeResult,
    FrameRefused,
    Guest,
    SandboxIdentity,
    SandboxUnavailable,
    Spent,
    untold,
)

_LOOK_SECONDS = 5.0
"""How often guests that wait are looked at without being told to."""

log = get_logger(__name__)
_starts = Counter("pawl_sandbox_starts_total", "Guests started, by how that ended", ["outcome"])
_runs = Counter("pawl_sandbox_runs_total", "Code run, by whether a guest was ready", ["guest"])
_idle = Gauge("pawl_sandbox_idle_guests", "Guests that wait for code")
_start_seconds = Histogram("pawl_sandbox_start_seconds", "Seconds until a guest is ready")
_run_seconds = Histogram("pawl_sandbox_run_seconds", "Seconds from request to answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSize:
    """`guests` wait ready; at most `starting` are made at once, to keep them or for code that
    waits. One that was taken is replaced `rest_seconds` later, so that making another does not slow
    short code down; at once when it was the last. One that waited for `max_idle_seconds` is
    replaced. After `most_failures` starts in a row that failed the sandbox is not healthy; it is
    tried again after `retry_seconds`, each time twice as long, up to `longest_retry_seconds`. An
    answer is waited for `grace_seconds` longer than the code may take.
    """

    guests: int = 4
    starting: int = min(4, 2 * (os.cpu_count() or 1))
    rest_seconds: float = 0.05
    max_idle_seconds: float = 600.0
    most_failures: int = 3
    retry_seconds: float = 0.2
    longest_retry_seconds: float = 5.0
    grace_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Idle:
    guest: Guest
    boot_id: str
    since: float


class PooledSandbox:
    """A Sandbox over a Backend whose `prepare` gave `identity`.

    `boot_id` says for which start of an executor a guest is made; those of another are not used.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        identity: SandboxIdentity,
        boot_id: Callable[[], str],
        size: PoolSize | None = None,
        limits: CodeLimits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._identity = identity
        self._boot_id = boot_id
        self._size = size or PoolSize()
        self._limits = limits or CodeLimits()
        self._monotonic = monotonic
        self._idle: deque[_Idle] = deque()
        self._waiting: deque[asyncio.Future[_Idle]] = deque()
        self._starts: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._is_resting = self._is_pausing = False
        self._pause_seconds = self._size.retry_seconds
        self._wanted = asyncio.Event()
        self._removals: set[asyncio.Task[None]] = set()
        self._filling = asyncio.create_task(self._fill())

    @classmethod
    async def open(
        cls, backend: Backend, *, boot_id: Callable[[], str], size: PoolSize | None = None
    ) -> PooledSandbox:
        """Prepare the backend and begin to fill the pool. Raises SandboxUnavailable."""
        try:
            identity = await backend.prepare()
        except BaseException:
            await backend.close()
            raise
        return cls(backend, identity=identity, boot_id=boot_id, size=size)

    @property
    def identity(self) -> SandboxIdentity:
        """As Sandbox.identity."""
        return self._identity

    @property
    def is_healthy(self) -> bool:
        """As Sandbox.is_healthy."""
        return self._failures < self._size.most_failures

    async def run(self, request: CodeRequest, *, spent: Spent = untold) -> CodeResult:
        """As Sandbox.run."""
        verdict.check_size(request, self._limits)
        guest = await self._guest()
        try:
            said = await self._timed(guest, request, spent)
        except BaseException:
            # Only when it is removed has all of the code surely ended.
            await self._end(guest)
            raise
        # A guest that has answered has killed its code before, also code that failed.
        self._discard(guest)
        if isinstance(said, StepFailed):
            raise said
        return said

    async def boots(self) -> frozenset[str]:
        """As Sandbox.boots."""
        return await self._backend.boots()

    async def remove(self, boots: Collection[str]) -> int:
        """As Sandbox.remove."""
        return await self._backend.remove(boots)

    async def close(self) -> None:
        """As Sandbox.close."""
        ending = {self._filling, *self._starts}
        for each in ending:
            each.cancel()
        await asyncio.wait(ending)
        self._refuse(SandboxUnavailable("it is closed"), count=len(self._waiting))
        while self._idle:
            self._discard(self._idle.popleft().guest)
        while self._removals:
            await asyncio.wait(set(self._removals))
        _idle.set(0)
        await self._backend.close()

    async def _timed(
        self, guest: Guest, request: CodeRequest, spent: Spent
    ) -> CodeResult | StepFailed:
        began = self._monotonic()
        try:
            return await self._ask(guest, request)
        finally:
            seconds = self._monotonic() - began
            _run_seconds.observe(seconds)
            spent(seconds)

    async def _ask(self, guest: Guest, request: CodeRequest) -> CodeResult | StepFailed:
        """What the guest says of the code; StepFailed is raised where it says nothing valid."""
        request_id = verdict.new_request_id()
        frame = verdict.request_frame(request, request_id=request_id, limits=self._limits)
        try:
            async with asyncio.timeout(request.wall_seconds + self._size.grace_seconds):
                answer = await guest.ask(
                    frame, max_answer_bytes=verdict.max_answer_bytes(self._limits)
                )
        except TimeoutError as error:
            raise verdict.timed_out(request.wall_seconds) from error
        except FrameRefused as error:
            raise verdict.broken(str(error)) from error
        if answer is None:
            raise verdict.lost(await guest.death())
        return verdict.read_answer(
            answer,
            request_id=request_id,
            limits=self._limits,
            wall_seconds=request.wall_seconds,
        )

    async def _guest(self) -> Guest:
        """A guest that waits, else the next one. Raises StepFailed(SANDBOX_UNAVAILABLE)."""
        self._drop_stale()
        if self._idle:
            _runs.labels("warm").inc()
            found = self._idle.popleft()
            _idle.set(len(self._idle))
            self._rest()
            return found.guest
        if not self.is_healthy:
            raise verdict.unavailable("it did not get ready several times in a row")
        _runs.labels("cold").inc()
        waiting: asyncio.Future[_Idle] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._wanted.set()
        try:
            return (await waiting).guest
        except SandboxUnavailable as error:
            raise verdict.unavailable(str(error)) from error
        except asyncio.CancelledError:
            self._give_up(waiting)
            raise

    def _give_up(self, waiting: asyncio.Future[_Idle]) -> None:
        """Nobody waits there any more; what has just come goes to somebody else."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
        elif not waiting.cancelled() and waiting.exception() is None:
            self._hand_out(waiting.result())

    def _rest(self) -> None:
        """Let a guest that was taken do its work before the next is made."""
        if self._idle and not self._is_resting:
            self._is_resting = True
            asyncio.get_running_loop().call_later(self._size.rest_seconds, self._rested)
        elif not self._idle:
            self._wanted.set()

    def _rested(self) -> None:
        self._is_resting = False
        self._wanted.set()

    async def _fill(self) -> None:
        """Keep as many guests ready as there shall be, several made at once."""
        while True:
            self._wanted.clear()
            self._drop_stale()
            for _ in range(self._lacking()):
                start = asyncio.create_task(self._add())
                self._starts.add(start)
                start.add_done_callback(self._ended)
            await self._wait(self._size.max_idle_seconds / 4)

    def _lacking(self) -> int:
        """How many starts are to begin now."""
        wanted = len(self._waiting)
        if not self._is_pausing and not (self._is_resting and self._idle):
            wanted += self._size.guests - len(self._idle)
        return min(wanted, self._size.starting) - len(self._starts)

    def _ended(self, start: asyncio.Task[None]) -> None:
        self._starts.discard(start)
        self._wanted.set()

    async def _wait(self, seconds: float) -> None:
        """Until a guest is wanted, or for so long: one may have waited for too long, or died."""
        try:
            async with asyncio.timeout(min(seconds, _LOOK_SECONDS)):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def _add(self) -> None:
        was_healthy, boot_id, began = self.is_healthy, self._boot_id(), self._monotonic()
        try:
            guest = await self._backend.start(boot_id)
        except SandboxUnavailable as error:
            self._failed(error, was_healthy=was_healthy)
            return
        except Exception as error:
            log.exception("guest not started, unexpectedly")
            why = SandboxUnavailable(f"a guest does not start ({type(error).__name__})")
            self._failed(why, was_healthy=was_healthy)
            return
        self._failures, self._pause_seconds = 0, self._size.retry_seconds
        _starts.labels("ready").inc()
        now = self._monotonic()
        _start_seconds.observe(now - began)
        self._hand_out(_Idle(guest=guest, boot_id=boot_id, since=now))

    def _failed(self, error: SandboxUnavailable, *, was_healthy: bool) -> None:
        self._failures += 1
        _starts.labels("failed").inc()
        say = log.error if was_healthy and not self.is_healthy else log.warning
        say("guest not started", backend=self._identity.backend, why=str(error))
        self._pause()
        self._refuse(error, count=self._hopeless())

    def _hopeless(self) -> int:
        """How much of the code that waits is refused by a start that failed, which has not ended
        yet: one at most, and none while others are under way for all of it; everything when the
        pool is not healthy.
        """
        if not self.is_healthy:
            return len(self._waiting)
        others = len(self._starts) - 1
        return 1 if len(self._waiting) > others else 0

    def _hand_out(self, made: _Idle) -> None:
        """Give a guest to the code that has waited longest, else keep it."""
        if made.boot_id != self._boot_id():
            self._discard(made.guest)
            return
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(made)
                return
        self._idle.append(made)
        _idle.set(len(self._idle))

    def _refuse(self, error: SandboxUnavailable, *, count: int) -> None:
        """Tell so much of the code that waits, the oldest first, that it gets no guest."""
        for _ in range(min(count, len(self._waiting))):
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(error)

    def _pause(self) -> None:
        """Make none for nobody for a while, each time twice as long."""
        if not self._is_pausing:
            self._is_pausing = True
            asyncio.get_running_loop().call_later(self._pause_seconds, self._resume)
            longest = self._size.longest_retry_seconds
            self._pause_seconds = min(2 * self._pause_seconds, longest)

    def _resume(self) -> None:
        self._is_pausing = False
        self._wanted.set()

    def _drop_stale(self) -> None:
        """Remove guests that died, waited for too long, or were made for another boot."""
        boot_id, oldest = self._boot_id(), self._monotonic() - self._size.max_idle_seconds
        for one in list(self._idle):
            if not one.guest.is_alive or one.boot_id != boot_id or one.since < oldest:
                self._idle.remove(one)
                self._discard(one.guest)
        _idle.set(len(self._idle))

    async def _end(self, guest: Guest) -> None:
        """Remove a guest that was asked; only then has all of its code ended."""
        removal = self._discard(guest)
        try:
            await asyncio.shield(removal)
        except asyncio.CancelledError:
            await asyncio.wait({removal})
            raise

    def _discard(self, guest: Guest) -> asyncio.Task[None]:
        return self._spawn(guest.remove())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)
        return task
