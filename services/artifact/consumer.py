"""Ends of tasks to artifacts: available when the task succeeded, else discarded."""

from __future__ import annotations

from collections.abc import Sequence

from libs.bus.bus import Bus
from libs.bus.consumer import Consumer
from libs.bus.envelope import BusEvent
from libs.bus.topics import TASK_EVENTS
from libs.db.engine import Connection, Pool
from services.artifact.convert import end_from_event, ends_a_task
from services.artifact.model import TaskEnd
from services.artifact.service import settle_tasks

GROUP = "artifact-states"


def make_consumer(bus: Bus, *, pool: Pool) -> Consumer:
    """Settles each ended task once, in the transaction that moves the position."""
    return Consumer(
        bus,
        pool=pool,
        schema="artifact",
        topic=TASK_EVENTS,
        group=GROUP,
        handler=_settle,
        together=_settle_all,
        wants=ends_a_task,
    )


async def _settle(tx: Connection, event: BusEvent) -> None:
    await _settle_all(tx, (event,))


async def _settle_all(tx: Connection, events: Sequence[BusEvent]) -> None:
    ends = (
        TaskEnd(task_id=event.key, tenant_id=event.tenant_id, state=end_from_event(event))
        for event in events
    )
    await settle_tasks(tx, ends)
