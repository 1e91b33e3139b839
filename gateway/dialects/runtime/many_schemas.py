"""The JSON shapes of several tasks at once, for the OpenAPI document only."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gateway.dialects.runtime.schemas import (
    EXECUTION,
    INPUT,
    LISTED_TASK,
    ExecuteRequest,
    Execution,
    ListedTask,
)


class BatchRequest(BaseModel):
    """Tasks to run, all or none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "tasks": [
                        {"task_definition": {"expression": "6*7"}},
                        {"task_definition": INPUT, "max_steps": 12, "timeout_seconds": 45},
                    ]
                }
            ]
        },
    )
    tasks: list[ExecuteRequest] = Field(min_length=1, max_length=1000)


class BatchExecution(BaseModel):
    """What became of a batch."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"version": "pawl-0.1.0", "tasks": [EXECUTION]}]}
    )
    version: str
    tasks: list[Execution] = Field(
        description="In the order of the request. `result` is null once a task has ended: results"
        " are read from each task."
    )


class TaskList(BaseModel):
    """A page of tasks, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"data": [LISTED_TASK], "next_cursor": None}]}
    )
    data: list[ListedTask]
    next_cursor: str | None = Field(description="For the next page; null: this was the last one.")
