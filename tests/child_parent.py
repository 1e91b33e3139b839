"""A process that is to be killed while a child of it works: `python -m tests.child_parent
ACT SECONDS`."""

from __future__ import annotations

import sys
from dataclasses import replace

import uvloop

from services.executor.tools.child_process import ChildLimits, ChildProcesses
from tests.executor_world import make_context

LIMITS = ChildLimits(seconds=60, cpu_seconds=60, memory_bytes=2**30, answer_bytes=2**20)


async def main(act: str, seconds: float) -> None:
    """Run one child that does not end by itself."""
    context = replace(make_context(), seconds=seconds)
    await ChildProcesses().run("tests.child_work", {"act": act}, limits=LIMITS, context=context)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2])))
