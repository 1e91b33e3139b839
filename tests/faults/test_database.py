"""PostgreSQL that is killed, held, full or at odds with itself, while clients are at work."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.faults.judge import check_run
from tests.faults.load import FaultClient, Load, Pace, more_done, plan_of
from tests.faults.processes import POSTGRES
from tests.faults.records import Operation
from tests.faults.stack import FaultStack
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

_BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'pawl-scheduler' ORDER BY pid"
)
_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'pawl-scheduler' AND state <> 'idle' LIMIT 1"""


async def test_killed_session_takes_all_others_along_and_nothing_is_lost(
    stack: FaultStack, seed: int
) -> None:
    load, kills = Load(stack.server, seed=f"{seed}-session"), 0
    with load.running(Pace(per_second=50, retry_seconds=10)) as log:
        for _ in range(3):
            await more_done(log, 40)
            pid = random.Random(seed).choice([row["pid"] for row in await stack.ask(_BACKENDS)])
            stack.processes.kill_child_of_postgres(pid)
            kills += 1
        await more_done(log, 40)
        await stack.look_back()
        await more_done(log, 40)

    check_run(await stack.history(log), hits=range(kills))


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGQUIT])
async def test_server_that_dies_comes_back_with_all_that_was_acknowledged(
    stack: FaultStack, seed: int, way: signal.Signals
) -> None:
    load = Load(stack.server, seed=f"{seed}-server-{way.name}")
    with load.running(Pace(per_second=50)) as log:
        await more_done(log, 60)
        with stack.holding():
            died = stack.processes.pid(POSTGRES)
            os.kill(died, way)
            await stack.back(POSTGRES, after=died)
            await more_done(log, 1)
        await stack.look_back()
        await more_done(log, 60)

    check_run(await stack.history(log), hits=[died])


async def test_commit_whose_outcome_nobody_knows_is_found_by_its_key(
    stack: FaultStack, seed: int
) -> None:
    load, ended = Load(stack.server, seed=f"{seed}-commit"), 0
    with load.running(Pace(clients=8, retry_seconds=5)) as log:
        for _ in range(60):
            await more_done(log, 3)
            ended += len(await stack.ask(_END_SESSIONS))
        await more_done(log, 40)

    repeated = [o for o in log.operations if o.kind == "create" and o.attempts > 1]
    check_run(await stack.history(log), hits=repeated or range(ended))


async def test_server_that_stands_still_is_admitted_within_five_seconds(
    stack: FaultStack, seed: int
) -> None:
    load = Load(stack.server, seed=f"{seed}-still")
    with load.running(Pace(clients=6)) as log:
        await more_done(log, 100)
        tokens = await _tokens(stack)
        with stack.holding(), stack.processes.held(POSTGRES):
            began = time.time()
            # As long as nobody could keep a lease: what runs is known only when it goes on.
            await asyncio.sleep(20)
        went_on = time.time()
        await more_done(log, 60)

    history = await stack.history(log, slowest_seconds=6.0)
    refused = [o for o in log.operations if began < o.began_at < went_on - 6]
    assert {o.status for o in refused} == {503}, _statuses(refused)
    check_run(history, hits=refused)
    assert await _tokens(stack, known=tokens) == tokens, "a lease was taken away"


async def _tokens(stack: FaultStack, known: dict[Any, int] | None = None) -> dict[Any, int]:
    """The lease tokens of the running tasks, or of those that were known."""
    rows = await stack.ask("SELECT id, lease_token, state FROM scheduler.tasks")
    return {
        row["id"]: row["lease_token"]
        for row in rows
        if (row["state"] == "running" if known is None else row["id"] in known)
    }


def _statuses(operations: list[Operation]) -> Sequence[tuple[object, ...]]:
    seconds = [round(o.ended_at - o.began_at, 1) for o in operations]
    return [(o.kind, o.status, took) for o, took in zip(operations, seconds, strict=True)][:20]


async def test_server_without_a_free_session_is_admitted_and_nobody_waits_for_ever(
    stack: FaultStack, seed: int
) -> None:
    load = Load(stack.server, seed=f"{seed}-sessions")
    async with AsyncExitStack() as sessions:
        taken = 0
        try:
            while True:
                await sessions.enter_async_context(
                    await psycopg.AsyncConnection.connect(stack.owner_dsn, autocommit=True)
                )
                taken += 1
        except psycopg.OperationalError:
            assert taken > 10, "the server had no sessions to give"
        with load.running(Pace(clients=100, readers=4)) as log:
            await more_done(log, 300, timeout=60)

    with load.running(Pace(per_second=30)) as log:
        await more_done(log, 60)
    check_run(await stack.history(log), hits=range(taken))


async def test_deadlock_is_resolved_without_anybody_noticing(stack: FaultStack, seed: int) -> None:
    load = Load(stack.server, seed=f"{seed}-deadlock")
    before = await _deadlocks(stack)
    client = FaultClient(stack.server, load.log)
    with closing(client), load.running(Pace(per_second=30)) as log:
        await more_done(log, 60)
        for attempt in range(6):
            if await _deadlocks(stack) > before:
                break
            await _cross(stack, client, key=f"{seed}-crossed-{attempt}")
        await more_done(log, 60)

    deadlocks = await _deadlocks(stack) - before
    check_run(await stack.history(log), hits=range(deadlocks))


async def _cross(stack: FaultStack, client: FaultClient, *, key: str) -> None:
    """Make a batch of reports wait for one row while its other row is wanted by us.

    The first task holds up a writer, so that the reports of the two others come to wait together.
    """
    first, low, high = await _same_writer(stack, client, key)
    connect = psycopg.AsyncConnection.connect
    lock = "SELECT FROM scheduler.tasks WHERE id = %s FOR UPDATE"
    async with await connect(stack.owner_dsn) as one, await connect(stack.owner_dsn) as other:
        await one.execute(lock, (first,))
        await other.execute(lock, (high,))
        await eventually(lambda: _waits(stack), timeout=10)
        # Both tools have ended by now or soon; their reports wait behind the first one's.
        await eventually(lambda: _have_ended(stack, [low, high]), timeout=10)
        await one.rollback()
        await eventually(lambda: _waits(stack), timeout=10)
        await other.execute(lock, (low,))
        await other.rollback()


async def _same_writer(stack: FaultStack, client: FaultClient, key: str) -> tuple[UUID, UUID, UUID]:
    """Three running tasks whose reports go through one writer; the last two in order of their ids.

    That is: of the same boot, and of even or odd ids alike.
    """
    body = plan_of({"seconds": 1.5})
    made = [client.create(body, f"{key}-{number}").task_id for number in range(12)]

    async def holders() -> list[dict[str, Any]] | None:
        rows = await stack.ask(
            "SELECT id, boot_id FROM scheduler.tasks WHERE id = ANY(%s) AND steps_begun = 1",
            (made,),
        )
        return rows if len(rows) == len(made) else None

    groups: dict[tuple[UUID, int], list[UUID]] = defaultdict(list)
    for row in await eventually(holders, timeout=5) or []:
        groups[row["boot_id"], row["id"].int % 2].append(row["id"])
    largest: list[UUID] = max(groups.values(), key=len)
    first, low, high, *_ = sorted(largest)
    return first, low, high


async def _waits(stack: FaultStack) -> bool:
    rows = await stack.ask(
        "SELECT FROM pg_stat_activity WHERE application_name = 'pawl-scheduler'"
        " AND wait_event_type = 'Lock'"
    )
    return bool(rows)


async def _have_ended(stack: FaultStack, tasks: list[UUID]) -> bool:
    text = (stack.place / "ledger").read_text()
    return all(f"{task} 1 ended" in text for task in tasks)


async def _deadlocks(stack: FaultStack) -> int:
    rows = await stack.ask(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    return int(rows[0]["deadlocks"])
