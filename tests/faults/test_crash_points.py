"""Processes that die at named points, each once, while clients are at work."""

from __future__ import annotations

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


class Unplannable(Work):
    """Inputs that nobody can plan: stored and failed in one transaction of two statements."""

    def body(self, _rng: Any) -> dict[str, Any]:
        return {"task_definition": {"colour": "blue"}}


async def test_key_of_a_transaction_that_broke_is_free_again(tmp_path: Path, seed: int) -> None:
    async with fault_stack(tmp_path / "stack", crash_at="idem.after_insert:20") as stack:
        load = Load(stack.server, seed=f"{seed}", work=Unplannable())
        with load.running(Pace(clients=4, per_second=50, retry_seconds=10)) as log:
            await more_done(log, 120)
        repeated = [o for o in log.operations if o.kind == "create" and o.attempts > 1]
        assert {o.outcome for o in repeated} == {"ok"}
        check_run(await stack.history(log), hits=stack.crashed)
