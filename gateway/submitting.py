"""Submits a task, and waits for it without holding on to a large body."""

from __future__ import annotations

from gateway.call import Call
from gateway.looking import CALL_SECONDS, look, waited
from gateway.tasks import TERMINAL
from libs.core.errors import PawlError
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2
from libs.process.logs import get_logger
from libs.rpc.client import caller_token

READ = "tasks:read"

Submitted = scheduler_service_pb2.SubmitTaskResponse

log = get_logger(__name__)


async def submit(call: Call, asked: scheduler_service_pb2.SubmitTaskRequest) -> Submitted:
    """Submit, and wait as long as was asked. PawlError: what the scheduler refuses.

    A small message waits at the scheduler. A large one is let go as soon as the task is stored, and
    the wait is a call of its own; so nobody else should keep the message.
    """
    wait = asked.wait_seconds
    waits_apart = wait > 0 and call.admitted.holds_body and READ in call.admitted.ticket.scopes
    if waits_apart:
        asked.wait_seconds = 0
    with caller_token(call.token):
        timeout = asked.wait_seconds + CALL_SECONDS
        submitting = call.clients.scheduler.SubmitTask(asked, timeout=timeout)
        said: Submitted = await waited(call, submitting, wait_seconds=asked.wait_seconds)
    del asked, submitting
    if not waits_apart or said.task.state in TERMINAL:
        return said
    said = _without_body(said)
    call.admitted.let_body_go()
    return Submitted(task=await _wait(call, said.task, wait), replayed=said.replayed)


async def _wait(call: Call, task: task_pb2.Task, wait: float) -> task_pb2.Task:
    """The task as it stands after the wait; as it was stored when that cannot be asked."""
    try:
        return await look(call, task.id, wait_seconds=wait)
    except PawlError as error:
        if error.code == "unauthenticated":
            raise
        # It was accepted: that is the answer, whatever becomes of the wait.
        log.info("waiting for a stored task failed", task_id=task.id, code=error.code)
        return task


def _without_body(said: Submitted) -> Submitted:
    """A copy, whose memory is its own, without what the caller has sent."""
    said.task.ClearField("input_json")
    said.task.ClearField("plan")
    return Submitted.FromString(said.SerializeToString())
