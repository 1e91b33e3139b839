from __future__ import annotations

import asyncio
from uuid import UUID

from services.planner.catalog import Catalog
from services.planner.model import Offer
from services.planner.sandbox_watch import serving_backends, watch_sandboxes
from tests.unit.planner.fakes import FakeCatalogStore, HeldClock
from tests.unit.planner.shipped import MATH, make_spec
from tests.waiting import eventually

BOOT = UUID(int=1)
DOCKER = make_spec("python_sandbox", "1.0.0+docker.py3.11.2.0a1b")
MONTY = make_spec("python_sandbox", "1.0.0+monty.py3.14.0.0a1b")


async def test_backends_are_those_of_the_code_tools_on_offer() -> None:
    clock = HeldClock()
    catalog = Catalog(FakeCatalogStore(clock), clock=clock)
    await catalog.register(Offer(executor_id="e1", boot_id=BOOT, tools=(MATH, DOCKER)))
    await catalog.register(Offer(executor_id="e2", boot_id=BOOT, tools=(MONTY,)))
    await catalog.withdraw(executor_id="e2", boot_id=BOOT)
    snapshot = await catalog.snapshot()

    assert serving_backends(snapshot, now=clock.monotonic()) == {"docker"}
    assert serving_backends(snapshot, now=clock.monotonic() + 61) == frozenset()


async def test_a_change_is_told_once_and_at_once() -> None:
    clock, stop = HeldClock(), asyncio.Event()
    catalog = Catalog(FakeCatalogStore(clock), clock=clock)
    told: list[tuple[str, bool]] = []

    async def tell(component: str, serving: bool) -> None:
        told.append((component, serving))

    watching = asyncio.create_task(
        watch_sandboxes(catalog, tell, stop, clock=clock, look_seconds=60)
    )
    await eventually(lambda: len(told) == 3)
    await catalog.register(Offer(executor_id="e1", boot_id=BOOT, tools=(DOCKER,)))
    await eventually(lambda: len(told) == 4)
    await catalog.register(Offer(executor_id="e1", boot_id=BOOT, tools=(DOCKER,)))
    await catalog.withdraw(executor_id="e1", boot_id=BOOT)
    await eventually(lambda: len(told) == 5)
    stop.set()
    await watching

    assert told[:3] == [
        (f"pawl.sandbox.{name}", False) for name in ("docker", "bubblewrap", "monty")
    ]
    assert told[3:] == [("pawl.sandbox.docker", True), ("pawl.sandbox.docker", False)]
