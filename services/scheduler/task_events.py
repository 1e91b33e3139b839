"""What an event on the bus says of a task."""

from __future__ import annotations

from libs.bus.envelope import BusEvent, UnreadableEventError
from libs.core.lifecycle import TaskState
from services.scheduler.model import EventType, StoredEvent

PREFIX = "pawl.task."
SUFFIX = ".v1"


def from_bus(event: BusEvent, *, data: str) -> StoredEvent:
    """The event as the event table has it; `data` is its text. UnreadableEventError for another
    kind.
    """
    name = event.type.removeprefix(PREFIX).removesuffix(SUFFIX)
    if event.type != f"{PREFIX}{name}{SUFFIX}" or name not in set(EventType):
        raise UnreadableEventError(f"{event.type[:64]!r} is no event of a task")
    to_state = _state(event.data.get("to_state"))
    if to_state is None:
        raise UnreadableEventError("the data has no to_state")
    return StoredEvent(
        task_id=event.key,
        seq=event.sequence,
        type=name,
        from_state=_state(event.data.get("from_state")),
        to_state=to_state,
        at=event.time,
        data=data,
        position=event.position,
    )


def _state(word: object) -> TaskState | None:
    if word is None:
        return None
    try:
        return TaskState(str(word))
    except ValueError as error:
        raise UnreadableEventError(f"{str(word)[:64]!r} is no state of a task") from error
