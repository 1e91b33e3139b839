"""Keeps processes running: starts them, waits until they serve, starts them again when they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from libs.cli.up.health import is_serving
from libs.process.child import Child, ChildSpec, describe_exit, last_log_line, start_child
from libs.process.env import EXIT_BAD_CONFIG

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
# A process that served for this long starts with the short pause again.
CALM_SECONDS = 10.0
READY_SECONDS = 60.0
_LOOK_SECONDS = 0.03


class StartFailedError(Exception):
    """A process did not get ready. `hopeless`: it will not get better by trying again."""

    def __init__(self, what: str, *, hopeless: bool = False) -> None:
        super().__init__(what)
        self.hopeless = hopeless


class Supervised(Protocol):
    """Something that can be kept running."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def log_path(self) -> Path:
        """Where it says what it does."""
        ...

    @property
    def pid(self) -> int:
        """The process id of the last start."""
        ...

    async def start(self) -> None:
        """Start it and return when it serves; StartFailedError when it does not."""
        ...

    async def wait(self) -> int:
        """Return its exit code when it has ended."""
        ...

    async def stop(self) -> None:
        """End it, if it runs."""
        ...

    def kill(self) -> None:
        """End it without waiting, if nothing can be lost by that."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a process has to be started again, in words for the console."""

    name: str
    what: str
    log_path: Path
    last_line: str
    pause_seconds: float
    hopeless: bool


class ServiceProcess:
    """A service that says on its metrics address whether it serves."""

    def __init__(
        self,
        spec: ChildSpec,
        *,
        health_address: str,
        log_path: Path,
        stop_seconds: float,
        on_started: Callable[[str, int], None],
    ) -> None:
        self.name = spec.name
        self.log_path = log_path
        self._spec = spec
        self._health_address = health_address
        self._stop_seconds = stop_seconds
        self._on_started = on_started
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The process id of the last start."""
        return self._started().pid

    async def start(self) -> None:
        """Start it and wait up to 60 s until it serves."""
        try:
            self._child = await start_child(self._spec)
        except OSError as error:
            raise StartFailedError(f"could not be executed: {error}") from error
        self._on_started(self.name, self._child.pid)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await is_serving(self._health_address):
                    if self._child.exit_code is not None:
                        break
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            await self.stop()
            raise StartFailedError(f"did not get ready within {READY_SECONDS:.0f} s") from None
        code = self._child.exit_code
        if code is not None:
            raise StartFailedError(describe_exit(code), hopeless=code == EXIT_BAD_CONFIG)

    async def wait(self) -> int:
        """Return its exit code when it has ended."""
        return await self._started().wait()

    async def stop(self) -> None:
        """Let it drain, for as long as it was given."""
        if self._child is not None:
            await self._child.stop(grace_seconds=self._stop_seconds)

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            self._child.kill()

    def _started(self) -> Child:
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child


class Supervisor:
    """Keeps several processes running; tells its owner of every start and every end."""

    def __init__(
        self,
        *,
        on_ready: Callable[[Supervised, float], None],
        on_trouble: Callable[[Trouble], None],
    ) -> None:
        self._on_ready = on_ready
        self._on_trouble = on_trouble
        self._keepers: dict[str, tuple[Supervised, asyncio.Task[None]]] = {}
        self._ending: list[Supervised] = []

    def keep(self, process: Supervised) -> asyncio.Event:
        """Start `process` and keep it running; the event is set when it first serves."""
        serves = asyncio.Event()
        task = asyncio.create_task(self._run(process, serves), name=f"keep {process.name}")
        self._keepers[process.name] = (process, task)
        return serves

    async def stop(self, name: str) -> None:
        """End one process, if it is kept, and its keeping."""
        if name not in self._keepers:
            return
        process, task = self._keepers.pop(name)
        self._ending.append(process)
        task.cancel()
        await asyncio.wait([task])
        await process.stop()

    def kill(self) -> None:
        """Wait for nobody: end those that are being stopped, and those that will be."""
        for process, task in self._keepers.values():
            # Nobody is there to start it again.
            task.cancel()
            process.kill()
        for process in self._ending:
            process.kill()

    async def failed(self) -> None:
        """Never return; raise what a keeper itself failed with, a fault of this program."""
        tasks = [task for _, task in self._keepers.values()]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def _run(self, process: Supervised, serves: asyncio.Event) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            hopeless = False
            try:
                await process.start()
                self._on_ready(process, time.monotonic() - began)
                serves.set()
                ready_at = time.monotonic()
                what = describe_exit(await process.wait())
                if time.monotonic() - ready_at > CALM_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
            except StartFailedError as error:
                what, hopeless = str(error), error.hopeless
            self._on_trouble(
                Trouble(
                    name=process.name,
                    what=what,
                    log_path=process.log_path,
                    last_line=last_log_line(process.log_path),
                    pause_seconds=pause,
                    hopeless=hopeless,
                )
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
