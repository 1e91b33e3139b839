"""`wait`: a bounded pause that ends at once when the step is stopped."""

from __future__ import annotations

import asyncio
from typing import cast

from libs.core.canonical import Json
from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.tools.tool import ToolContext

SPEC = ToolSpec(
    name="wait",
    version="1.0.0",
    description="Pauses for the given number of seconds, at most one hour.",
    input_schema={
        "type": "object",
        "properties": {"seconds": {"type": "number", "minimum": 0, "maximum": 3600}},
        "required": ["seconds"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {"waited_seconds": {"type": "number"}},
        "required": ["waited_seconds"],
        "additionalProperties": False,
    },
    examples=(
        ToolExample(
            title="A short pause", input={"seconds": 0.01}, output={"waited_seconds": 0.01}
        ),
        ToolExample(
            title="More than an hour is refused",
            input={"seconds": 3601},
            failure_code="INPUT_SCHEMA",
        ),
    ),
)


class WaitTool:
    """The tool `wait`. Its output says what was asked, not what a clock measured: it is hashed."""

    spec = SPEC

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Sleep."""
        del context
        seconds = cast("float", arguments["seconds"])
        await asyncio.sleep(seconds)
        return {"waited_seconds": seconds}
