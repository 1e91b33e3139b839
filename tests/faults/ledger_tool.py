"""The tool `ledger`: it writes into a file that it was called, outside of any database.

PAWL_FAULT_LEDGER names the file. Every line is appended by one write, so that processes cannot mix
theirs: `task_id step_index began|ended boot pid time`.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID, uuid4

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from libs.core.tool_spec import Effect, ToolSpec
from services.executor.tools.tool import ToolContext
from tests.faults.records import Effect as SideEffect

LEDGER = "PAWL_FAULT_LEDGER"
_BOOT = uuid4().hex

SPEC = ToolSpec(
    name="ledger",
    version="1.0.0",
    description="Writes down that it was called, and what of it was done.",
    input_schema={
        "type": "object",
        "properties": {
            "seconds": {"type": "number", "minimum": 0, "maximum": 3600},
            "fail": {"type": "boolean"},
        },
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {"written": {"type": "boolean"}},
        "required": ["written"],
        "additionalProperties": False,
    },
    effects=(Effect.NETWORK,),
)


class LedgerTool:
    """Takes `seconds` between its two lines; with `fail` it writes the first and fails."""

    spec = SPEC

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Write, wait, write."""
        _append(context, "began")
        await asyncio.sleep(cast("float", arguments.get("seconds", 0)))
        if arguments.get("fail"):
            raise StepFailed(FailureCode.TOOL_ERROR, "the ledger was asked to fail")
        _append(context, "ended")
        return {"written": True}


def install_ledger(directory: Path) -> None:
    """Make `directory`, once it is on PYTHONPATH, a place where this tool is installed."""
    info = directory / "pawl_ledger-1.0.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pawl-ledger\nVersion: 1.0.0\n")
    entry = "[pawl.tools]\nledger = tests.faults.ledger_tool:LedgerTool\n"
    (info / "entry_points.txt").write_text(entry)


def read_ledger(path: Path) -> tuple[SideEffect, ...]:
    """Every whole line, in the order in which they were written."""
    if not path.exists():
        return ()
    return tuple(_effect(line.split()) for line in path.read_text().splitlines())


def _effect(words: list[Any]) -> SideEffect:
    task_id, step, kind, boot, pid, at = words
    return SideEffect(
        task_id=UUID(task_id),
        step_index=int(step),
        kind=kind,
        boot=boot,
        pid=int(pid),
        at=float(at),
    )


def _append(context: ToolContext, kind: Literal["began", "ended"]) -> None:
    words = (context.task_id, context.step_index, kind, _BOOT, os.getpid(), f"{time.time():.6f}")
    line = " ".join(map(str, words)) + "\n"
    descriptor = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
