"""Tools whose outputs do not follow from their inputs, for tests of replays.

`counter` reaches the network, as it says, and counts its calls in the file that PAWL_TEST_COUNTER
names; `drift` does the same without saying so; `clock` shows the time that tools are shown.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from libs.core.tool_spec import Effect, ToolSpec
from services.executor.tools.tool import ToolContext

COUNTER = "PAWL_TEST_COUNTER"
_NUMBER: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
}


def _spec(name: str, effect: Effect, output_schema: dict[str, Any]) -> ToolSpec:
    return ToolSpec(
        name=name,
        version="1.0.0",
        description="For tests of replays.",
        input_schema={"type": "object"},
        output_schema=output_schema,
        effects=(effect,),
    )


class CounterTool:
    """How often it was called; fails when it is told to, and counts that too."""

    spec = _spec("counter", Effect.NETWORK, _NUMBER)

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Count."""
        del context
        calls = count_call()
        if arguments.get("fails"):
            raise StepFailed(FailureCode.TOOL_ERROR, f"call {calls} failed", reason="TOLD_TO")
        return {"n": calls}


class DriftTool:
    """As `counter`, but for what it says of itself: a recorded replay runs it again."""

    spec = _spec("drift", Effect.SANDBOX, _NUMBER)

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Count."""
        del arguments, context
        return {"n": count_call()}


class ClockTool:
    """The time that tools are shown."""

    spec = _spec("clock", Effect.SANDBOX, {"type": "object"})

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Look at the clock."""
        del arguments
        return {"now": context.created_at.isoformat()}


def count_call() -> int:
    """Note one more call; how many there were."""
    path = Path(os.environ[COUNTER])
    with path.open("a") as calls:
        calls.write("call\n")
    return calls_in(path)


def calls_in(path: Path) -> int:
    """How many calls are noted."""
    return len(path.read_text().splitlines()) if path.exists() else 0


def install_replay_tools(directory: Path) -> None:
    """Make `directory`, once it is on PYTHONPATH, a place where these tools are installed."""
    info = directory / "pawl_replay_tools-1.0.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: pawl-replay-tools\nVersion: 1.0.0\n"
    )
    classes = {"counter": "CounterTool", "drift": "DriftTool", "clock": "ClockTool"}
    lines = [f"{name} = tests.replay_tools:{tool}" for name, tool in classes.items()]
    (info / "entry_points.txt").write_text("\n".join(["[pawl.tools]", *lines]) + "\n")
