"""Tells the planner what this executor offers: at start, renewed, withdrawn at the end."""

from __future__ import annotations

import asyncio

from libs.core.errors import PawlError
from libs.process.logs import get_logger
from services.executor.boot import Boot
from services.executor.clients import PlannerClient
from services.executor.tools.registry import ToolRegistry

# A registration lives 60 s.
RENEW_SECONDS = 20.0
# The first wait after a failure; each further one is twice as long, up to LONGEST_RETRY_SECONDS.
RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 2.0

log = get_logger(__name__)


class Registration:
    """One executor's offer at the planner."""

    def __init__(
        self,
        planner: PlannerClient,
        *,
        registry: ToolRegistry,
        boot: Boot,
        renew_seconds: float = RENEW_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._planner = planner
        self._registry = registry
        self._other_tools = registry.watch()
        self._boot = boot
        self._renew_seconds = renew_seconds
        self._retry_seconds = retry_seconds
        self._known: list[str] = []
        self._taken = asyncio.Condition()
        self.registered = asyncio.Event()
        """Set once the planner has taken an offer."""

    async def wait_current(self) -> None:
        """Wait until the planner has taken what is on offer now."""
        async with self._taken:
            await self._taken.wait_for(
                lambda: self.registered.is_set() and self._known == self._labels()
            )

    async def run(self, stop: asyncio.Event) -> None:
        """Register and renew until `stop` is set, then withdraw. A planner that is away is asked
        again; a new boot is told at once, and so are other tools.
        """
        retry_delay = self._retry_seconds
        while not stop.is_set():
            self._boot.changed.clear()
            self._other_tools.clear()
            if await self._register():
                delay, retry_delay = self._renew_seconds, self._retry_seconds
            else:
                delay, retry_delay = retry_delay, min(2 * retry_delay, LONGEST_RETRY_SECONDS)
            await self._pause(stop, delay)
        if self.registered.is_set():
            await self._withdraw()

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait so long, or until there is a reason not to."""
        reasons = [
            asyncio.create_task(event.wait())
            for event in (stop, self._boot.changed, self._other_tools)
        ]
        try:
            await asyncio.wait(reasons, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for reason in reasons:
                reason.cancel()

    async def _register(self) -> bool:
        specs = self._registry.specs
        try:
            await self._planner.register(specs)
        except PawlError as error:
            log.warning("tools could not be registered", code=error.code, error=error.message)
            return False
        labels = [spec.label for spec in specs]
        if labels != self._known:
            log.info("tools registered", tools=labels)
        async with self._taken:
            self._known = labels
            self.registered.set()
            self._taken.notify_all()
        return True

    def _labels(self) -> list[str]:
        return [spec.label for spec in self._registry.specs]

    async def _withdraw(self) -> None:
        try:
            await self._planner.withdraw()
        except PawlError as error:
            # It lapses by itself within a minute.
            log.warning("tools could not be withdrawn", code=error.code, error=error.message)
