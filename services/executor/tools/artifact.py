"""`artifact`: emit a typed artifact. It is staged now and seen by others once the task has
succeeded.
"""

from __future__ import annotations

import hashlib
from typing import cast

from libs.core.canonical import Json, canonical_text
from libs.core.errors import FailureCode, StepFailed
from libs.core.tool_spec import Effect, ToolExample, ToolSpec
from services.executor.tools.tool import NewArtifact, ToolContext

MAX_DATA_BYTES = 2**20

SPEC = ToolSpec(
    name="artifact",
    version="1.0.0",
    description="Emits a typed, immutable artifact that holds the given JSON data.",
    input_schema={
        "type": "object",
        "properties": {
            "type": {
                "type": "string",
                "description": "Dotted lower-case type such as report.summary.",
                "pattern": r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$",
                "maxLength": 128,
            },
            "data": {"description": "Any JSON; at most 1 MiB in canonical form."},
        },
        "required": ["type", "data"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "size_bytes": {"type": "integer", "minimum": 0},
        },
        "required": ["type", "sha256", "size_bytes"],
        "additionalProperties": False,
    },
    effects=(Effect.ARTIFACT,),
    examples=(
        ToolExample(
            title="A report, named by its SHA-256 in canonical form",
            input={"type": "report.summary", "data": {"title": "Week 12", "open": 3}},
            output={
                "type": "report.summary",
                "sha256": "b135484b49ee59b3d0b7c68d21c0ae293fdcd443881cb8fe46ef6991af9b8b28",
                "size_bytes": 28,
            },
        ),
        ToolExample(
            title="A type is dotted lower case",
            input={"type": "Report", "data": None},
            failure_code="INPUT_SCHEMA",
        ),
    ),
)


class ArtifactTool:
    """The tool `artifact`. Its output names the data by hash, never by id: it is hashed in turn."""

    spec = SPEC

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Store the data. A store that keeps other bytes than these fails the step."""
        kind = cast("str", arguments["type"])
        data_json = canonical_text(arguments["data"])
        data = data_json.encode()
        if len(data) > MAX_DATA_BYTES:
            raise StepFailed(
                FailureCode.OUTPUT_LIMIT,
                f"the artifact has {len(data)} bytes; {MAX_DATA_BYTES} are allowed",
                reason="ARTIFACT_TOO_LARGE",
            )
        stored = await context.artifacts.put(
            NewArtifact(
                task_id=context.task_id,
                tenant_id=context.tenant_id,
                step_index=context.step_index,
                ordinal=0,
                type=kind,
                data_json=data_json,
            )
        )
        sha256 = hashlib.sha256(data).hexdigest()
        if stored != sha256:
            raise StepFailed(
                FailureCode.ARTIFACT_STORE,
                f"the artifact store holds other bytes (SHA-256 {stored[:64]}) than were sent",
            )
        return {"type": kind, "sha256": sha256, "size_bytes": len(data)}
