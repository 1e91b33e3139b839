"""The code steps of this executor: its sandbox made ready and offered, the dead's left removed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from libs.core.clock import Clock
from libs.core.errors import PawlError
from libs.process.logs import get_logger
from services.executor.model import JudgedBoots
from services.executor.sandbox.model import Sandbox, SandboxUnavailable
from services.executor.tools.python_sandbox import PythonSandboxTool
from services.executor.tools.registry import ToolRegistry

log = get_logger(__name__)
_ready = Gauge("pawl_executor_sandbox_ready", "1: code steps are offered and their sandbox is well")
_reaped = Counter("pawl_executor_sandbox_reaped_total", "What dead executors left, removed")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePace:
    """Seconds: between tries to open the sandbox, between looks at its health and at what is left.

    A boot that nobody knows may be starting just now: what is left of it stays for
    `unknown_seconds`.
    """

    retry: float = 5.0
    look: float = 1.0
    reap: float = 5.0
    unknown_seconds: float = 60.0


class CodeSteps:
    """Keeps one sandbox. `open_sandbox` raises SandboxUnavailable while there is none."""

    def __init__(
        self,
        open_sandbox: Callable[[], Awaitable[Sandbox]],
        *,
        registry: ToolRegistry,
        own_boot: Callable[[], str],
        judge_boots: Callable[[Collection[str]], Awaitable[JudgedBoots]],
        clock: Clock,
        pace: CodePace | None = None,
    ) -> None:
        self._open_sandbox = open_sandbox
        self._registry = registry
        self._own_boot = own_boot
        self._judge_boots = judge_boots
        self._clock = clock
        self._pace = pace or CodePace()
        self._unknown_since: dict[str, float] = {}
        self.settled = asyncio.Event()
        """Set once it is known whether there is a sandbox, for the time being."""

    async def run(self, ended: asyncio.Event) -> None:
        """Offer code steps until `ended` is set: nothing runs any more, and the sandbox closes."""
        over = asyncio.create_task(ended.wait())
        keeping = asyncio.create_task(self._keep())
        try:
            await asyncio.wait({over, keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            keeping.cancel()
            await asyncio.wait({over, keeping})
        if not keeping.cancelled():
            keeping.result()

    async def _keep(self) -> None:
        sandbox = await self._opened()
        try:
            self._registry.add(PythonSandboxTool(sandbox), is_available=lambda: sandbox.is_healthy)
            self.settled.set()
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._watch(sandbox))
                loops.create_task(self._reap(sandbox))
        finally:
            _ready.set(0)
            await sandbox.close()

    async def _opened(self) -> Sandbox:
        said = ""
        while True:
            try:
                return await self._open_sandbox()
            except SandboxUnavailable as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("no sandbox: code steps are not offered", why=said)
            self.settled.set()
            await asyncio.sleep(self._pace.retry)

    async def _watch(self, sandbox: Sandbox) -> None:
        """Have the offer follow the sandbox's health."""
        identity = sandbox.identity
        log.info("sandbox ready", backend=identity.backend, python=identity.python)
        was_healthy = True
        while True:
            is_healthy = sandbox.is_healthy
            _ready.set(is_healthy)
            if is_healthy is not was_healthy:
                was_healthy = is_healthy
                say = log.info if is_healthy else log.error
                say("sandbox is well again" if is_healthy else "sandbox does not get ready")
                self._registry.changed()
            await asyncio.sleep(self._pace.look)

    async def _reap(self, sandbox: Sandbox) -> None:
        """Remove what boots left that hold no lease any more; at first at once."""
        while True:
            try:
                await self._reap_once(sandbox)
            except SandboxUnavailable as error:
                log.warning("nobody knows what dead executors left", why=str(error))
            except PawlError as error:
                log.warning("boots cannot be judged", code=error.code, error=error.message)
            await asyncio.sleep(self._pace.reap)

    async def _reap_once(self, sandbox: Sandbox) -> None:
        others = await sandbox.boots() - {self._own_boot()}
        if not others:
            self._unknown_since.clear()
            return
        judged = await self._judge_boots(sorted(others))
        now = self._clock.monotonic()
        self._unknown_since = {boot: self._unknown_since.get(boot, now) for boot in judged.unknown}
        dead = judged.ended | {
            boot
            for boot, since in self._unknown_since.items()
            if now - since >= self._pace.unknown_seconds
        }
        # The boot may have changed while the question was on its way: never our own.
        dead -= {self._own_boot()}
        if dead:
            removed = await sandbox.remove(dead)
            _reaped.inc(removed)
            log.warning("removed what dead executors left", boots=sorted(dead), removed=removed)
