"""What a tool is: a spec and one async function."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from libs.core.canonical import Json
from libs.core.tool_spec import ToolSpec
from services.executor.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArtifact:
    """What a step emits. `data_json` is canonical JSON text; `ordinal` counts within the step, from
    0.
    """

    task_id: UUID
    tenant_id: UUID
    step_index: int
    ordinal: int
    type: str
    data_json: str


class ArtifactSink(Protocol):
    """Where a step's artifacts go."""

    async def put(self, artifact: NewArtifact) -> str:
        """Store the artifact as staged and return the SHA-256 (hex) under which it was stored.

        Raises StepFailed(ARTIFACT_STORE).
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a tool may know beyond its input. A pure tool uses none of it: all of it differs between
    runs.

    `created_at` is the task's creation, the only wall time that a tool may show; `mode` is live or
    test. A call that takes longer than `seconds` is ended from outside, None: by nothing. A tool
    that asks a model counts it in `usage`.
    """

    task_id: UUID
    tenant_id: UUID
    step_index: int
    created_at: datetime
    mode: str
    seconds: float | None
    artifacts: ArtifactSink
    usage: Usage


class Tool(Protocol):
    """One tool. The spec never changes while the process lives."""

    @property
    def spec(self) -> ToolSpec:
        """Name, version, schemas and effects."""
        ...

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Do the work once and return the output.

        `arguments` fit the input schema; the output is checked by the caller. Raise StepFailed to
        fail the step with a code; any other exception fails it with TOOL_ERROR. Cancellation must
        end the work: it is how a stop, a cancel and a timeout arrive.
        """
        ...
