"""Task events to metered use."""

from __future__ import annotations

from collections.abc import Sequence

from libs.bus.bus import Bus
from libs.bus.consumer import Consumer
from libs.bus.envelope import BusEvent, UnreadableEventError, read_task_event
from libs.bus.topics import TASK_EVENTS
from libs.core.prices import usd
from libs.db.engine import Connection, Pool
from services.auth.keys import MODES
from services.auth.metering import record
from services.auth.model import Amounts, TaskFact
from services.auth.usage import may_count
from services.auth.wording import one_of, shown

GROUP = "auth-usage"
MAX_STEP_USD = 1e12
"""What says that it cost more was not written by a scheduler."""

_TYPE_PREFIX = "pawl.task."
_TYPE_SUFFIX = ".v1"


def make_consumer(bus: Bus, *, pool: Pool) -> Consumer:
    """Meters each event of the task topic once, in the transaction that moves the position."""
    return Consumer(
        bus,
        pool=pool,
        schema="auth",
        topic=TASK_EVENTS,
        group=GROUP,
        handler=_meter,
        together=_meter_all,
        wants=lambda event: may_count(
            kind=kind_of(event), seq=event.sequence, members=event.data.keys()
        ),
    )


def kind_of(event: BusEvent) -> str:
    """The event's word: step_finished of pawl.task.step_finished.v1."""
    return event.type.removeprefix(_TYPE_PREFIX).removesuffix(_TYPE_SUFFIX)


def fact_from_event(event: BusEvent) -> TaskFact:
    """What metering needs of an event of the task topic; UnreadableEventError if it lacks that."""
    data = read_task_event(event)
    if data.mode not in MODES:
        raise UnreadableEventError(f"mode is {shown(data.mode)}; {one_of(MODES)} are known")
    if not (min(data.tokens, data.sandbox_ms) >= 0 and 0 <= data.cost_usd <= MAX_STEP_USD):
        said = f"{data.tokens} tokens, {data.sandbox_ms} ms and ${data.cost_usd:g}"
        raise UnreadableEventError(f"it says that {said} were used; nothing below 0 can be")
    return TaskFact(
        kind=kind_of(event),
        tenant_id=event.tenant_id,
        seq=event.sequence,
        at=event.time,
        mode=data.mode,
        # Events from before these members were there have none of them: zero.
        used=Amounts(tokens=data.tokens, sandbox_ms=data.sandbox_ms, cost_usd=usd(data.cost_usd)),
    )


async def _meter(tx: Connection, event: BusEvent) -> None:
    await _meter_all(tx, (event,))


async def _meter_all(tx: Connection, events: Sequence[BusEvent]) -> None:
    await record(tx, [fact_from_event(event) for event in events])
