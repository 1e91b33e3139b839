"""Tells the planner what this executor offers: at start, renewed, withdrawn at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from libs.core.errors import PawlError
from libs.core.tool_spec import ToolSpec
from libs.process.logs import get_logger
from services.executor.clients import PlannerClient

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
        specs: Sequence[ToolSpec],
        renew_seconds: float = RENEW_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._planner = planner
        self._specs = specs
        self._renew_seconds = renew_seconds
        self._retry_seconds = retry_seconds
        self.registered = asyncio.Event()
        """Set once the planner has taken the offer."""

    async def run(self, stop: asyncio.Event) -> None:
        """Register and renew until `stop` is set, then withdraw. A planner that is away is asked
        again.
        """
        retry_delay = self._retry_seconds
        while not stop.is_set():
            if await self._register():
                delay, retry_delay = self._renew_seconds, self._retry_seconds
            else:
                delay, retry_delay = retry_delay, min(2 * retry_delay, LONGEST_RETRY_SECONDS)
            try:
                async with asyncio.timeout(delay):
                    await stop.wait()
            except TimeoutError:
                continue
        if self.registered.is_set():
            await self._withdraw()

    async def _register(self) -> bool:
        try:
            await self._planner.register(self._specs)
        except PawlError as error:
            log.warning("tools could not be registered", code=error.code, error=error.message)
            return False
        if not self.registered.is_set():
            log.info("tools registered", tools=[spec.label for spec in self._specs])
            self.registered.set()
        return True

    async def _withdraw(self) -> None:
        try:
            await self._planner.withdraw()
        except PawlError as error:
            # It lapses by itself within a minute.
            log.warning("tools could not be withdrawn", code=error.code, error=error.message)
