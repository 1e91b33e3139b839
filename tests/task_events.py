"""Events of tasks as the scheduler writes them, for tests of whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from uuid import UUID

from libs.bus.envelope import BusEvent
from libs.bus.topics import TASK_EVENTS
from libs.core.canonical import Json

HASH = "0" * 64
WAY = ("created", "planned", "queued", "running")
"""The states of a task that gets to run, in order."""


def make_event(
    task_id: UUID,
    seq: int,
    *,
    tenant_id: UUID,
    at: datetime,
    kind: str = "status_transition",
    from_state: str | None,
    to_state: str,
    mode: str = "live",
    members: Mapping[str, Json] | None = None,
) -> BusEvent:
    """One event. `members` are those that not all events have."""
    data: dict[str, Json] = {
        "task_id": str(task_id),
        "tenant_id": str(tenant_id),
        "seq": seq,
        **({} if from_state is None else {"from_state": from_state}),
        "to_state": to_state,
        "at": at.isoformat().replace("+00:00", "Z"),
        "mode": mode,
        **(members or {}),
    }
    return BusEvent(
        topic=TASK_EVENTS,
        position=0,
        key=task_id,
        sequence=seq,
        id=f"{task_id}:{seq}",
        type=f"pawl.task.{kind}.v1",
        source="/pawl/scheduler",
        subject=str(task_id),
        tenant_id=tenant_id,
        time=at,
        data=data,
    )


def make_way(task_id: UUID, *, tenant_id: UUID, at: datetime, mode: str = "live") -> list[BusEvent]:
    """The events of a task until it runs."""
    return [
        make_event(
            task_id, seq, tenant_id=tenant_id, at=at, mode=mode, from_state=before, to_state=after
        )
        for seq, (before, after) in enumerate(pairwise((None, *WAY)), start=1)
        if after is not None
    ]


def make_history(
    task_id: UUID,
    *,
    tenant_id: UUID,
    at: datetime,
    steps: int,
    mode: str = "live",
    used: Mapping[str, Json] | None = None,
) -> Iterator[BusEvent]:
    """Every event of a task that succeeds after so many steps; `used` is what each of them says
    that it used.
    """
    yield from make_way(task_id, tenant_id=tenant_id, at=at, mode=mode)
    seq = len(WAY)
    for step in range(1, steps + 1):
        started: dict[str, Json] = {"step_index": step, "tool": "math"}
        finished: dict[str, Json] = {**started, "status": "succeeded", "step_hash": HASH}
        finished |= used or {}
        for kind, members in (("step_started", started), ("step_finished", finished)):
            seq += 1
            yield make_event(
                task_id,
                seq,
                tenant_id=tenant_id,
                at=at,
                kind=kind,
                from_state="running",
                to_state="running",
                mode=mode,
                members=members,
            )
    yield make_event(
        task_id,
        seq + 1,
        tenant_id=tenant_id,
        at=at,
        from_state="running",
        to_state="succeeded",
        mode=mode,
        members={"task_hash": HASH},
    )
