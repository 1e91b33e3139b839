"""The JSON shapes of the agents dialect, for the OpenAPI document only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Time = Annotated[
    str,
    Field(json_schema_extra={"format": "date-time"}, examples=["2026-04-23T10:00:00.000000Z"]),
]

TASK_ID = "task_0199d2a1-7c3e-7b52-9a64-3f0d5c1b8e27"


class CancelTask(BaseModel):
    """Nothing: an empty object, or no body at all."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})


class AgentTask(BaseModel):
    """A task as it stands."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "task_id": TASK_ID,
                    "status": "cancelled",
                    "input": {"scope": "full"},
                    "artifacts": [],
                    "error": None,
                    "created_at": "2026-04-23T10:00:00.000000Z",
                    "completed_at": "2026-04-23T10:00:04.127894Z",
                    "tenant_id": "0199d2a1-0000-7000-8000-3f0d5c1b8e27",
                }
            ]
        }
    )
    task_id: str = Field(description="task_ and a UUID.")
    status: Literal["pending", "running", "complete", "failed", "cancelled"]
    input: Any
    artifacts: list[str] | None = Field(
        description="Ids; empty until the task is complete, null where they were not looked up."
    )
    error: str | None = Field(description="Why it failed.")
    created_at: Time
    completed_at: Time | None = Field(description="When it ended, however it did.")
    tenant_id: Annotated[str, Field(json_schema_extra={"format": "uuid"})]
