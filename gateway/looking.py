"""Looks at a task, and waits for its end for as long as the caller's key lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from gateway.call import Call
from gateway.tasks import TERMINAL
from libs.core.errors import PawlError
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2
from libs.process.logs import get_logger
from libs.rpc.client import caller_token
from libs.rpc.tokens import SKEW_SECONDS

T = TypeVar("T")

CALL_SECONDS = 5.0
ASK_AGAIN_SECONDS = 1.0
"""Between two questions whether a key lives, while auth cannot answer them."""

log = get_logger(__name__)


async def look(call: Call, task_id: str, *, wait_seconds: float) -> task_pb2.Task:
    """The task as it stands, or as soon as it has ended, after the wait at the latest.

    The scheduler ends a wait with the token; it goes on with a new one, or while auth is away is
    answered with the state of then. PawlError: what the scheduler refuses, and unauthenticated once
    the key lives no more.
    """
    clock = call.gateway.clock
    end = clock.monotonic() + wait_seconds
    left = wait_seconds
    while True:
        used = call.token
        asked = scheduler_service_pb2.GetTaskRequest(task_id=task_id, wait_seconds=left)
        with caller_token(used):
            asking = call.clients.scheduler.GetTask(asked, timeout=left + CALL_SECONDS)
            said = await waited(call, asking, wait_seconds=wait_seconds)
        left = end - clock.monotonic()
        if said.task.state in TERMINAL or left <= 0 or not has_outlived(call, used):
            return said.task
        await still_lives(call, used=used)
        if call.token == used:
            return said.task


def has_outlived(call: Call, used: str) -> bool:
    """Whether what the scheduler has ended before its time may have ended with the token that was
    used, by a clock as wrong as is allowed.
    """
    return call.token != used or call.admitted.ticket.seconds_left < SKEW_SECONDS


async def waited(call: Call, asking: Awaitable[T], *, wait_seconds: float) -> T:
    """What a call answers that waits for so long: at once, or `while_key_lives`."""
    return await (while_key_lives(call, asking) if wait_seconds else asking)


async def while_key_lives(call: Call, awaited: Awaitable[T]) -> T:
    """What is awaited, asking with each token's end for a new one.

    PawlError: what is awaited raises, and unauthenticated once the key lives no more: the wait ends
    then, and not the task.
    """
    answer = asyncio.ensure_future(awaited)
    ticket = call.admitted.ticket
    try:
        while not answer.done():
            await asyncio.wait({answer}, timeout=ticket.seconds_left or ASK_AGAIN_SECONDS)
            await still_lives(call)
        return answer.result()
    finally:
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)


async def still_lives(call: Call, *, used: str = "") -> None:
    """PawlError unauthenticated when the key lives no more. The token is another one afterwards if
    it had ended or is the one that was used; but not while auth cannot be asked.
    """
    ticket = call.admitted.ticket
    try:
        await (ticket.replace() if ticket.token == used else ticket.renew())
    except PawlError as error:
        if error.code == "unauthenticated":
            raise
        log.info("whether a key still lives could not be asked", code=error.code)
