"""Stands in for a tool whose steps are answered from the record of an earlier task. It calls
nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from libs.core.canonical import Json, canonical, read_canonical
from libs.core.errors import Failure, FailureCode, StepFailed
from libs.core.json_schema import compile_schema
from libs.core.tool_spec import ToolRef, ToolSpec
from services.executor.model import TaskAssignment
from services.executor.tools.registry import OfferedTool
from services.executor.tools.tool import ToolContext

RECORDING_MISSING = "RECORDING_MISSING"

_ANYTHING = compile_schema({})


class Found(StrEnum):
    """Whether a record has an answer to a step."""

    YES = "yes"
    NOT_FINISHED = "not_finished"
    OTHER_INPUT = "other_input"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """What a record says of one step: its output as canonical JSON text, or its failure."""

    found: Found
    of_task_id: str
    output_json: str | None = None
    failure: Failure | None = None


class Recordings(Protocol):
    """Where recorded answers come from."""

    async def recall(
        self, *, task_id: UUID, lease_token: int, step_index: int, input_sha256: str
    ) -> RecordedAnswer:
        """What the original of a replay came to in a step with that input; waits as long as it
        takes.

        Raises StepFailed when the record cannot be read.
        """
        ...


class RecordedTool:
    """A tool that answers what was recorded for the same step and the same input.

    Without a record for just that the step fails with TOOL_ERROR, reason RECORDING_MISSING.
    """

    def __init__(self, ref: ToolRef, *, recordings: Recordings, lease_token: int) -> None:
        self.spec = ToolSpec(
            name=ref.name,
            version=ref.version,
            description="Answers from a record.",
            input_schema={},
            output_schema={},
        )
        self._recordings = recordings
        self._lease_token = lease_token

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """The recorded output."""
        answer = await self._recordings.recall(
            task_id=context.task_id,
            lease_token=self._lease_token,
            step_index=context.step_index,
            input_sha256=hashlib.sha256(canonical(arguments)).hexdigest(),
        )
        if answer.found is not Found.YES:
            raise StepFailed(
                FailureCode.TOOL_ERROR,
                self._missing(answer, context.step_index),
                reason=RECORDING_MISSING,
            )
        if answer.failure is not None:
            failure = answer.failure
            raise StepFailed(failure.code, failure.message, reason=failure.reason)
        return read_canonical(answer.output_json or "null")

    def _missing(self, answer: RecordedAnswer, step_index: int) -> str:
        why = (
            "had another input"
            if answer.found is Found.OTHER_INPUT
            else "never finished there, so that nothing is recorded of it"
        )
        return (
            f"{self.spec.label} was not called: it is answered from the record of task "
            f"{answer.of_task_id}, and step {step_index} {why}"
        )


def recorded_tools(assignment: TaskAssignment, *, recordings: Recordings) -> dict[str, OfferedTool]:
    """The stand-ins of a task, by name. The record was checked against the schemas once."""
    return {
        ref.name: OfferedTool(
            tool=RecordedTool(ref, recordings=recordings, lease_token=assignment.lease_token),
            ref=ref,
            input_schema=_ANYTHING,
            output_schema=_ANYTHING,
        )
        for ref in assignment.recorded_tools
    }
