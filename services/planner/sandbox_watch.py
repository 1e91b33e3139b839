"""Which kinds of sandbox run code steps now, said over gRPC health: the gateway shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from libs.core.clock import Clock
from libs.core.sandboxes import SANDBOXES, health_name
from libs.db.outage import Outage, is_outage
from libs.process.logs import get_logger
from libs.process.until import until
from services.planner.catalog import Catalog
from services.planner.model import Snapshot

TOOL = "python_sandbox"

LOOK_SECONDS = 10.0

log = get_logger(__name__)


def serving_backends(snapshot: Snapshot, *, now: float) -> frozenset[str]:
    """The backends of the code tool that some executor offers; `now` is monotonic."""
    return frozenset(
        tool.spec.version.partition("+")[2].partition(".")[0]
        for tool in snapshot.by_name.get(TOOL, ())
        if snapshot.is_offered(tool, now=now)
    )


async def watch_sandboxes(
    catalog: Catalog,
    tell: Callable[[str, bool], Awaitable[None]],
    stop: asyncio.Event,
    *,
    clock: Clock,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Call `tell` for each backend with whether it serves, at first and whenever that changes."""
    await until(stop, _watch(catalog, tell, clock=clock, look_seconds=look_seconds), grace=0.0)


async def _watch(
    catalog: Catalog,
    tell: Callable[[str, bool], Awaitable[None]],
    *,
    clock: Clock,
    look_seconds: float,
) -> None:
    outage = Outage(log, "sandboxes on offer")
    told: dict[str, bool] = {}
    while True:
        catalog.changed.clear()
        try:
            serving = serving_backends(await catalog.snapshot(), now=clock.monotonic())
            outage.over()
        except Exception as error:
            if not is_outage(error):
                raise
            await asyncio.sleep(outage.failed(error))
            continue
        for backend in SANDBOXES:
            if told.get(backend) is not (backend in serving):
                told[backend] = backend in serving
                await tell(health_name(backend), told[backend])
        await _changed(catalog, look_seconds)


async def _changed(catalog: Catalog, seconds: float) -> None:
    """Wait until the catalogue changes here, at most so long: other planners say nothing."""
    try:
        async with asyncio.timeout(seconds):
            await catalog.changed.wait()
    except TimeoutError:
        return
