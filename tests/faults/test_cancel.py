"""Cancelling while the last step ends, and while processes die."""

from __future__ import annotations

import random
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.judge import check_run
from tests.faults.load import ClientLog, FaultClient, Load, Pace, Work, more_done, plan_of
from tests.faults.records import Operation
from tests.faults.stack import FaultStack, fault_stack
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

RACES = 200
STEP_SECONDS = 0.05


async def test_cancel_and_last_step_have_one_winner(stack: FaultStack, seed: int) -> None:
    log = ClientLog()
    racers = [
        threading.Thread(target=_race, args=(stack, log, f"{seed}-{n}", RACES // 4))
        for n in range(4)
    ]
    for racer in racers:
        racer.start()
    await eventually(lambda: not any(racer.is_alive() for racer in racers), timeout=90)

    history = await stack.history(log)
    cancels = [o for o in log.operations if o.kind == "cancel"]
    assert {o.outcome for o in cancels} == {"ok", "failed"}, "one side has won every race"
    check_run(history, hits=cancels)


def _race(stack: FaultStack, log: ClientLog, name: str, races: int) -> None:
    """Cancel tasks at about the time at which they end by themselves."""
    rng, pause = random.Random(name), threading.Event()
    with closing(FaultClient(stack.server, log)) as client:
        for number in range(races):
            made = client.create(plan_of({"seconds": STEP_SECONDS}), f"{name}-{number}")
            pause.wait(rng.uniform(0, 2 * STEP_SECONDS))
            if made.task_id is not None:
                client.cancel(made.task_id)
                client.get(made.task_id)


async def test_cancel_that_was_committed_holds_although_the_scheduler_dies(
    tmp_path: Path, seed: int
) -> None:
    point = "cancel.after_commit_before_kill"
    async with fault_stack(tmp_path / "stack", crash_at=f"{point}:3") as stack:
        load = Load(stack.server, seed=f"{seed}", work=Work(most_steps=2))
        with load.running(Pace(clients=4, per_second=30, retry_seconds=10)) as log:
            cancelled = await _cancel_until_it_dies(stack, log, f"{seed}")
            await more_done(log, 100)
        history = await stack.history(log, settle_seconds=60)

    by_id = history.dump.by_id
    left = [o for o in cancelled if o.outcome != "failed" and o.task_id in by_id]
    assert {by_id[o.task_id].state for o in left if o.task_id} == {"cancelled"}
    check_run(history, hits=stack.crashed)


async def _cancel_until_it_dies(stack: FaultStack, log: ClientLog, key: str) -> list[Operation]:
    cancelled: list[Operation] = []
    with closing(FaultClient(stack.server, log)) as client:
        while not stack.crashed:
            made = client.create(plan_of({"seconds": 10}), f"{key}-long-{len(cancelled)}")
            if made.task_id is not None:
                cancelled.append(client.cancel(made.task_id))
            assert len(cancelled) < 50, "nobody died"
    return cancelled
