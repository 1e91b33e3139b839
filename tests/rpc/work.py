"""What tests of the Work stream do with an executor that does nothing by itself."""

from __future__ import annotations

from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from tests.scheduler_world import FakeExecutor
from tests.waiting import eventually

OK = work_pb.ACK_STATUS_OK


async def assigned(executor: FakeExecutor) -> work_pb.Assignment:
    """Its first assignment."""
    await eventually(lambda: executor.assignments)
    return executor.assignments[0]


async def begin(executor: FakeExecutor, step: int = 1) -> work_pb.Assignment:
    """A step that is open."""
    task = await assigned(executor)
    report = work_pb.StepReport(
        task_id=task.task_id, lease_token=task.lease_token, started_step_index=step
    )
    assert await executor.report(report) == OK
    return task
