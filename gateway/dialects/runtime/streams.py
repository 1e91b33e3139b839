"""The runtime dialect's event stream of one task."""

from __future__ import annotations

from sse_starlette import ServerSentEvent

from gateway.dialects.runtime.trace import TRANSITION, event_record
from gateway.events import frame
from gateway.tasks import TERMINAL
from libs.pb.pawl.scheduler.v1 import task_pb2

EXAMPLE = (
    "id: 4\n"
    "event: task.status_transition\n"
    'data: {"task_id":"0199d2a1-7c3e-7b52-9a64-3f0d5c1b8e27","event":"task.status_transition",'
    '"payload":{"from":"queued","to":"running","at":"2026-02-27T11:18:02.991451+00:00"},'
    '"created_at":"2026-02-27T11:18:02.991451+00:00","seq":4}\n\n'
)


def task_frame(event: task_pb2.TaskEvent) -> ServerSentEvent:
    """One event of a task; its id is the seq."""
    record = event_record(event)
    return frame(
        event_id=event.seq, event=record["event"], data={"task_id": event.task_id} | record
    )


def is_last(event: task_pb2.TaskEvent) -> bool:
    """Whether nothing can follow: the task has reached a terminal state."""
    return event.type == TRANSITION and event.to_state in TERMINAL
