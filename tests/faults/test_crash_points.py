"""Processes that die at named points, each once, while clients are at work."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.judge import check_run
from tests.faults.load import Load, Pace, Work, more_done
from tests.faults.stack import fault_stack
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

OF_THE_SCHEDULER = (
    "create.before_commit:10",
    "create.after_commit_before_reply:25",
    "queue.after_claim:20",
    "finish.before_commit:30",
    "finish.after_commit_before_event_publish:40",
    "outbox.after_send_before_mark:30",
)
OF_CONSUMERS = ("consumer.after_db_before_offset:20",)
OF_ARTIFACT = ("artifact.after_blob_before_row:10", "artifact.after_row:25")


@pytest.mark.parametrize(
    "crash_at", [OF_THE_SCHEDULER, OF_CONSUMERS], ids=["scheduler", "consumer"]
)
async def test_work_goes_on_whole_wherever_a_process_dies(
    tmp_path: Path, seed: int, crash_at: tuple[str, ...]
) -> None:
    names = {point.partition(":")[0] for point in crash_at}
    async with fault_stack(tmp_path / "stack", crash_at=",".join(crash_at)) as stack:
        load = Load(stack.server, seed=f"{seed}")
        with load.running(Pace(clients=8, retry_seconds=20, wait_seconds=1)) as log:
            await eventually(lambda: stack.crashed >= names, timeout=45)
            await stack.look_back()
            await more_done(log, 100)
        check_run(await stack.history(log), hits=stack.crashed)


async def test_artifact_service_that_dies_fails_the_step_and_leaves_no_row_without_bytes(
    tmp_path: Path, seed: int
) -> None:
    async with fault_stack(tmp_path / "stack", crash_at=",".join(OF_ARTIFACT)) as stack:
        load = Load(stack.server, seed=f"{seed}", work=Emitting())
        with load.running(Pace(clients=4, per_second=40, retry_seconds=10)) as log:
            await eventually(lambda: len(stack.crashed) == len(OF_ARTIFACT), timeout=30)
            await more_done(log, 100)
        history = await stack.history(log)
        rows = await stack.ask("SELECT blob_key, state FROM artifact.artifacts")

    codes = {task.failure_code for task in history.dump.tasks}
    assert codes == {None, "ARTIFACT_STORE"}
    assert {row["state"] for row in rows} == {"available", "discarded"}
    assert all((stack.data_dir / "blobs" / row["blob_key"]).exists() for row in rows)
    check_run(history, hits=stack.crashed)


class Emitting(Work):
    """Tasks that emit an artifact too large for a row."""

    def body(self, rng: random.Random) -> dict[str, Any]:
        data = rng.randbytes(10_000).hex()
        step = {"step_index": 1, "tool": "artifact", "input": {"type": "note", "data": data}}
        return {"task_definition": {}, "plan": {"steps": [step]}, "timeout_seconds": 12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """An executor's death: how many tasks are lost by it, how often the step at hand was called."""

    point: str
    lost: int
    calls: int


@pytest.mark.parametrize(
    "death",
    [
        Death(point="step.before_record:20", lost=0, calls=1),
        Death(point="step.after_record_before_call:40", lost=1, calls=0),
        Death(point="step.after_call_before_commit:40", lost=1, calls=1),
    ],
    ids=lambda death: death.point,
)
async def test_executor_that_dies_in_a_step_loses_it_once_it_has_begun_and_never_repeats_it(
    tmp_path: Path, seed: int, death: Death
) -> None:
    async with fault_stack(tmp_path / "stack", crash_at=death.point) as stack:
        load = Load(stack.server, seed=f"{seed}", work=Work(failing_share=0))
        # One after the other, so that nothing else is lost with the one.
        with load.running(Pace(clients=1, wait_seconds=20, readers=1)) as log:
            await eventually(lambda: stack.crashed, timeout=40)
            await more_done(log, 100, timeout=60)
        history = await stack.history(log)

    lost = [task for task in history.dump.tasks if task.failure_code == "EXECUTOR_LOST"]
    assert len(lost) == death.lost
    for task in lost:
        begun = max(e.data.get("step_index", 0) for e in history.dump.events_of[task.id])
        calls = [e for e in history.effects if (e.task_id, e.step_index) == (task.id, begun)]
        assert sum(call.kind == "began" for call in calls) == death.calls
    moved = [task for task in history.dump.tasks if task.lease_token > 1]
    check_run(history, hits=lost or moved)


async def test_executor_that_dies_after_a_record_loses_no_more_than_its_open_step(
    tmp_path: Path, seed: int
) -> None:
    async with fault_stack(tmp_path / "stack", crash_at="step.after_commit:40") as stack:
        load = Load(stack.server, seed=f"{seed}", work=Work(failing_share=0))
        with load.running(Pace(clients=1, wait_seconds=20)) as log:
            await eventually(lambda: stack.crashed, timeout=40)
            await more_done(log, 100, timeout=60)
        history = await stack.history(log)

    lost = [task for task in history.dump.tasks if task.failure_code == "EXECUTOR_LOST"]
    assert len(lost) <= 1
    check_run(history, hits=stack.crashed)


async def test_task_that_was_claimed_for_an_executor_that_never_heard_of_it_is_found(
    tmp_path: Path, seed: int
) -> None:
    """The scheduler dies with the claim, the executors before they can ask what they hold."""
    async with fault_stack(tmp_path / "stack", crash_at="queue.after_claim:30") as stack:
        load = Load(stack.server, seed=f"{seed}")
        with load.running(Pace(clients=4, per_second=40, retry_seconds=15)) as log:
            with stack.processes.held("executor-1", "executor-2"):
                await eventually(lambda: stack.crashed, timeout=40)
                killed = {n: stack.processes.kill(n) for n in ("executor-1", "executor-2")}
            for name, pid in killed.items():
                await stack.back(name, after=pid)
            await more_done(log, 100)
        history = await stack.history(log, settle_seconds=60)
        check_run(history, hits=stack.crashed)


async def test_lost_tasks_are_settled_once_although_those_who_settle_them_die(
    tmp_path: Path, seed: int
) -> None:
    points = ("lost.before_settle", "lost.after_settle")
    async with fault_stack(tmp_path / "stack", crash_at=",".join(points)) as stack:
        work = Work(most_seconds=1.0, failing_share=0)
        load = Load(stack.server, seed=f"{seed}", work=work)
        with load.running(Pace(clients=6, per_second=30, retry_seconds=15)) as log:
            while not stack.crashed >= set(points):
                await more_done(log, 40)
                killed = {n: stack.processes.kill(n) for n in ("executor-1", "executor-2")}
                for name, pid in killed.items():
                    await stack.back(name, after=pid)
            await more_done(log, 60)
        history = await stack.history(log, settle_seconds=60)

    assert "EXECUTOR_LOST" in {task.failure_code for task in history.dump.tasks}
    check_run(history, hits=stack.crashed)


class Unplannable(Work):
    """Inputs that nobody can plan: stored and failed in one transaction of two statements."""

    def body(self, rng: random.Random) -> dict[str, Any]:
        return {"task_definition": {"colour": rng.choice(("blue", "red"))}}


async def test_key_of_a_transaction_that_broke_is_free_again(tmp_path: Path, seed: int) -> None:
    async with fault_stack(tmp_path / "stack", crash_at="idem.after_insert:20") as stack:
        load = Load(stack.server, seed=f"{seed}", work=Unplannable())
        with load.running(Pace(clients=4, per_second=50, retry_seconds=10)) as log:
            await more_done(log, 120)
        repeated = [o for o in log.operations if o.kind == "create" and o.attempts > 1]
        assert {o.outcome for o in repeated} == {"ok"}
        check_run(await stack.history(log), hits=stack.crashed)
