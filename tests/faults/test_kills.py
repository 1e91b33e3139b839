"""Processes that are killed, held or told to stop while clients are at work."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from uuid import UUID

import pytest

from tests.faults.judge import check_run
from tests.faults.load import FaultClient, Load, Pace, Work, more_done, plan_of
from tests.faults.processes import descendants_of, lives
from tests.faults.records import History, TaskRow
from tests.faults.stack import FaultStack, fault_stack
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]


async def test_killed_gateway_loses_nothing_and_repeats_nothing(
    stack: FaultStack, seed: int
) -> None:
    load = Load(stack.server, seed=f"{seed}-gateway")
    with load.running(Pace(clients=10, per_second=50, retry_seconds=10)) as log:
        for _ in range(3):
            await more_done(log, 60)
            killed = stack.processes.kill("gateway-1")
            await stack.back("gateway-1", after=killed)
        await stack.look_back()
        await more_done(log, 60)

    history = await stack.history(log)
    repeated = {o.key for o in log.operations if o.kind == "create" and o.attempts > 1}
    check_run(history, hits=repeated)


async def test_two_relays_publish_every_task_in_order(stack: FaultStack, seed: int) -> None:
    load = Load(stack.server, seed=f"{seed}-relays")
    before = _moved(stack)
    with load.running(Pace(clients=8)) as log:
        await more_done(log, 150)
        # A relay that nobody wakes looks every 2 s.
        both = await eventually(lambda: _both_moved(stack, before), timeout=30)

    check_run(await stack.history(log), hits=both)


def _both_moved(stack: FaultStack, before: dict[str, float]) -> set[str]:
    """The schedulers, once each of them has published something."""
    moved = {name for name, count in _moved(stack).items() if count > before[name]}
    return moved if moved == set(before) else set()


def _moved(stack: FaultStack) -> dict[str, float]:
    """How many events each scheduler's relay has published."""
    found = {}
    for scheduler in stack.ready.services["scheduler"]:
        with urllib.request.urlopen(f"http://{scheduler.metrics_address}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        (line,) = [one for one in lines if one.startswith("pawl_relay_events_total ")]
        found[scheduler.instance] = float(line.split()[1])
    return found


async def test_restart_of_every_service_in_turn_is_an_error_for_nobody_who_asks_again(
    stack: FaultStack, seed: int
) -> None:
    load = Load(stack.server, seed=f"{seed}-rolling")
    names = [i.instance for instances in stack.ready.services.values() for i in instances]
    with load.running(Pace(clients=6, per_second=40, retry_seconds=20, readers=0)) as log:
        for name in names:
            await more_done(log, 15)
            told = stack.processes.terminate(name)
            await stack.back(name, after=told)
        await more_done(log, 60)

    assert {o.outcome for o in log.operations} == {"ok"}
    assert all(f"{name}: exit code 0" in stack.console for name in names), stack.console
    check_run(await stack.history(log), hits=names)


async def test_restart_of_executors_hands_over_what_takes_longer_than_their_stop(
    stack: FaultStack, seed: int
) -> None:
    """Whole tasks do not fit into the eight seconds of a stop, steps do into its last two."""
    work = Work(least_steps=8, most_steps=8, most_seconds=1.5, failing_share=0, total_seconds=30)
    load = Load(stack.server, seed=f"{seed}-leaving", work=work)
    with load.running(Pace(clients=6, per_second=20, retry_seconds=20)) as log:
        for name in ("executor-1", "executor-2"):
            await more_done(log, 60)
            told = stack.processes.terminate(name)
            await stack.back(name, after=told)

    assert {o.outcome for o in log.operations} == {"ok"}
    history = await stack.history(log)
    assert not _lost(history)
    check_run(history, hits=_taken_over(history))


async def test_killed_scheduler_is_replaced_by_the_other_one(stack: FaultStack, seed: int) -> None:
    load = Load(stack.server, seed=f"{seed}-scheduler")
    with load.running(Pace(per_second=40, retry_seconds=15)) as log:
        for name in ("scheduler-1", "scheduler-2", "scheduler-1"):
            await more_done(log, 50)
            killed = stack.processes.kill(name)
            await stack.back(name, after=killed)
        await stack.look_back()
        await more_done(log, 50)

    check_run(await stack.history(log), hits=[killed])


async def test_without_any_scheduler_nothing_is_accepted_and_nothing_lost(
    stack: FaultStack, seed: int
) -> None:
    names = ("scheduler-1", "scheduler-2")
    load = Load(stack.server, seed=f"{seed}-schedulers")
    with load.running(Pace(per_second=40)) as log:
        await more_done(log, 60)
        with stack.holding():
            killed = {name: stack.processes.kill(name) for name in names}
            # Ended again as soon as they are back: the pause before the next start grows.
            for name in names:
                await stack.back(name, after=killed[name])
                killed[name] = stack.processes.kill(name)
            for name in names:
                await stack.back(name, after=killed[name])
        await stack.look_back()
        await more_done(log, 60)

    refused = [o for o in log.operations if o.status == 503]
    check_run(await stack.history(log), hits=refused)


async def test_killed_executor_loses_at_most_the_steps_that_it_had_begun(
    stack: FaultStack, seed: int
) -> None:
    load = Load(stack.server, seed=f"{seed}-executor", work=Work(most_steps=4, most_seconds=0.2))
    with load.running(Pace(per_second=30, retry_seconds=10)) as log:
        for name in ("executor-1", "executor-2", "executor-1"):
            await more_done(log, 50)
            killed = stack.processes.kill(name)
            await stack.back(name, after=killed)
        await more_done(log, 50)

    history = await stack.history(log)
    check_run(history, hits=_lost(history) + _taken_over(history))


async def test_executor_that_was_held_for_longer_than_its_lease_has_no_say_any_more(
    stack: FaultStack, seed: int
) -> None:
    """Three leases long; what it reports when it goes on changes nothing."""
    load = Load(stack.server, seed=f"{seed}-zombie", work=Work(most_steps=4, most_seconds=0.2))
    with load.running(Pace(per_second=10, retry_seconds=10)) as log:
        await more_done(log, 100)
        with stack.processes.held(await _busiest(stack)):
            began = log.count("ok")
            await eventually(lambda: log.count("ok") >= began + 300, timeout=60)
        await more_done(log, 60)

    history = await stack.history(log)
    check_run(history, hits=_lost(history) + _taken_over(history))


async def test_step_that_begins_again_after_a_restart_of_all_executors_does_not_exist(
    tmp_path: Path, seed: int
) -> None:
    """Long steps are open on both executors when both are killed: all are lost, none repeated."""
    async with fault_stack(tmp_path / "stack") as stack:
        load = Load(stack.server, seed=f"{seed}-both", work=Work(most_steps=3, most_seconds=2.0))
        with load.running(Pace(clients=6, per_second=40)) as log:
            await more_done(log, 100)
            for name in ("executor-1", "executor-2"):
                stack.processes.kill(name)
        history = await stack.history(log, settle_seconds=60)
        check_run(history, hits=_lost(history))


async def test_processes_of_a_killed_executor_end_with_it(stack: FaultStack) -> None:
    client = FaultClient(stack.server, Load(stack.server, seed="unused").log)
    client.create(plan_of({"seconds": 0.1}), "processes-of-an-executor", wait_seconds=5)
    client.close()
    below = descendants_of(stack.processes.pid("executor-2"))
    if not below:
        pytest.skip("the executor has no processes of its own")

    killed = stack.processes.kill("executor-2")
    await stack.back("executor-2", after=killed)

    await eventually(lambda: not any(map(lives, below)), timeout=15)


async def _busiest(stack: FaultStack) -> str:
    """The executor that was given the most tasks."""
    rows = await stack.ask(
        "SELECT executor_id FROM scheduler.tasks JOIN scheduler.executors USING (boot_id)"
        " WHERE ended_at IS NULL GROUP BY executor_id ORDER BY count(*) DESC LIMIT 1"
    )
    return str(rows[0]["executor_id"])


def _lost(history: History) -> list[UUID]:
    """The tasks of this run that failed because their executor was lost."""
    return [task.id for task in _own(history) if task.failure_code == "EXECUTOR_LOST"]


def _taken_over(history: History) -> list[UUID]:
    """The tasks of this run that a second executor has gone on with."""
    return [task.id for task in _own(history) if task.lease_token > 1]


def _own(history: History) -> list[TaskRow]:
    """The stack has tasks of earlier runs as well."""
    keys = {operation.key for operation in history.operations}
    return [task for task in history.dump.tasks if task.mark in keys]
