"""Processes that are killed while clients are at work."""

from __future__ import annotations

import pytest

from tests.faults.judge import check_run
from tests.faults.load import Load, Pace, more_done
from tests.faults.stack import FaultStack

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
