"""Dead letters: what is written on a record that is put aside, and which event it was."""

from __future__ import annotations

import json
from uuid import UUID

from libs.bus.bus import BusRecord, DeadLetter
from libs.bus.envelope import identity_of
from libs.bus.topics import TASK_EVENTS


def letter_headers(letter: DeadLetter) -> dict[str, str]:
    """The record's headers with where it stood and why it was put aside."""
    return _texts(letter.record.headers) | {
        "pawl_reason": letter.reason,
        "pawl_group": letter.group,
        "pawl_attempts": str(letter.attempts),
        "pawl_topic": letter.record.topic,
        "pawl_partition": str(letter.record.partition),
        "pawl_position": str(letter.record.position),
    }


def event_of(letter: BusRecord) -> tuple[UUID, int] | None:
    """Task id and sequence of the event that a dead letter was; None when it was none of a task."""
    if _texts(letter.headers).get("pawl_topic") != TASK_EVENTS:
        return None
    return identity_of(letter)


def _texts(headers: str) -> dict[str, str]:
    try:
        given = json.loads(headers)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        return {"pawl_headers": headers}
    return {
        name: text if isinstance(text, str) else json.dumps(text) for name, text in given.items()
    }
