"""`python_sandbox`: Python code of the caller, run once in a sandbox."""

from __future__ import annotations

import hashlib
import json
from typing import cast

from libs.core.canonical import Json, canonical, canonical_text
from libs.core.errors import FailureCode, StepFailed
from libs.core.tool_spec import Effect, ToolExample, ToolSpec
from services.executor.sandbox.model import CodeRequest, Sandbox, SandboxIdentity
from services.executor.tools.tool import ToolContext

VERSION = "1.0.0"
MAX_CODE_LENGTH = 256 * 2**10
MOST_SECONDS = 3600.0
LEAST_SECONDS = 0.001
# The sandbox ends code a little before the step ends, so that the answer says what was wrong.
SPARE_SECONDS = 0.1
SPARE_SHARE = 0.05

_EXAMPLES = (
    ToolExample(
        title="Read input_data, set result",
        input={
            "code": "result = {'total': sum(input_data['prices'])}",
            "input_data": {"prices": [2.5, 4]},
        },
        output={"result": {"total": 6.5}, "stdout": "", "stderr": ""},
    ),
    ToolExample(
        title="What is printed is kept",
        input={"code": "print('halfway')\nresult = [n * n for n in range(4)]"},
        output={"result": [0, 1, 4, 9], "stdout": "halfway\n", "stderr": ""},
    ),
    ToolExample(
        title="An exception fails the step and names the line",
        input={"code": "total = 0\nresult = 1 / total"},
        failure_code="CODE_ERROR",
    ),
)


def make_spec(identity: SandboxIdentity) -> ToolSpec:
    """The tool's spec: what the sandbox is made of decides results, so it is in the version."""
    return ToolSpec(
        name="python_sandbox",
        version=f"{VERSION}+{identity.backend}.py{identity.python}.{identity.build}",
        description="Runs Python code that reads input_data and sets result, in a sandbox.",
        input_schema={
            "type": "object",
            "properties": {
                "code": {
                    "type": "string",
                    "description": "Reads input_data, sets result to any JSON; may print.",
                    "maxLength": MAX_CODE_LENGTH,
                },
                "input_data": {"description": "Any JSON; null unless given."},
            },
            "required": ["code"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "result": {"description": "What the code left in result; null when nothing."},
                "stdout": {"type": "string"},
                "stderr": {"type": "string"},
            },
            "required": ["result", "stdout", "stderr"],
            "additionalProperties": False,
        },
        effects=(Effect.SANDBOX,),
        examples=_EXAMPLES,
    )


class PythonSandboxTool:
    """The tool `python_sandbox`. Inside, the time is the task's creation, and chance follows from
    the input.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.spec = make_spec(sandbox.identity)

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Run the code for as long as there is time and money; cancellation kills it."""
        usage, allowed_seconds = context.usage, wall_of(context.seconds)
        paid_seconds = usage.affordable_seconds(allowed_seconds)
        request = CodeRequest(
            code=cast("str", arguments["code"]),
            input_json=canonical_text(arguments.get("input_data")),
            seed=seed_of(arguments),
            now=context.created_at.timestamp(),
            wall_seconds=max(LEAST_SECONDS, paid_seconds),
        )
        try:
            ran = await self._sandbox.run(
                request, spent=lambda seconds: usage.add(sandbox_seconds=seconds)
            )
        except StepFailed as failed:
            if failed.code is FailureCode.TIMEOUT and paid_seconds < allowed_seconds:
                raise usage.sandbox_too_dear() from failed
            raise
        return {
            # As it is: a number that JSON cannot carry exactly is refused as of any tool.
            "result": json.loads(ran.result_json),
            "stdout": ran.stdout,
            "stderr": ran.stderr,
        }


def seed_of(arguments: dict[str, Json]) -> int:
    """The first eight bytes of the SHA-256 of the canonical input."""
    return int.from_bytes(hashlib.sha256(canonical(arguments)).digest()[:8])


def wall_of(seconds: float | None) -> float:
    """What the code may take of the time that is left of the step."""
    if seconds is None:
        return MOST_SECONDS
    spare = min(SPARE_SECONDS, SPARE_SHARE * seconds)
    return min(MOST_SECONDS, max(LEAST_SECONDS, seconds - spare))
