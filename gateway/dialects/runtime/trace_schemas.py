"""The JSON shape of a trace, for the OpenAPI document only."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.dialects.runtime.schemas import (
    TASK_ID,
    Failure,
    Hash,
    Id,
    Plan,
    Queue,
    ReplayMode,
    Status,
    Time,
)
from gateway.dialects.runtime.trace_example import TRACE

StepStatus = Literal["running", "succeeded", "failed", "interrupted"]

DIVERGENCE: dict[str, Any] = {
    "step_index": 1,
    "field": "output",
    "original": {"result": 2},
    "replayed": {"result": 3},
}


class Event(BaseModel):
    """One event of a task. `seq` has no gaps."""

    event: str = Field(examples=["task.status_transition"])
    payload: dict[str, Any] = Field(
        description="from, to and at for a transition; what happened and at for other events.",
        examples=[{"from": "queued", "to": "running", "at": "2026-02-27T11:18:02.991451+00:00"}],
    )
    created_at: Time
    seq: int = Field(ge=1)


class StepRecord(BaseModel):
    """A step that was started. Interrupted: it never finished, and is never run again."""

    id: Id
    step_index: int
    tool_name: str
    tool_version: str
    input: Any = Field(description="After references were resolved, once the step has finished.")
    output: Any
    status: StepStatus
    error: str | None
    failure: Failure | None
    started_at: Time
    finished_at: Time | None
    duration_ms: int | None
    step_hash: Hash | None
    cost_usd: float = Field(
        description="0 while it runs; of an interrupted step what it used until it was killed, if"
        " that is known. So too the next two."
    )
    tokens: int
    sandbox_ms: int


class Summary(BaseModel):
    """Counts, durations and hashes of a trace."""

    total_steps: int = Field(description="Steps that were started.")
    succeeded_steps: int
    failed_steps: int
    running_steps: int
    interrupted_steps: int
    total_duration_ms: int = Field(description="The sum of the steps' durations.")
    tokens: int = Field(description="Model tokens used so far.")
    sandbox_runs: int
    task_hash: Hash | None
    step_hashes: list[Hash]
    queue_latency_ms: int | None
    retry_count: int = Field(description="Always 0: nothing is retried.")


class Divergence(BaseModel):
    """The first thing in which a replay differs from its original, in the order of the run."""

    model_config = ConfigDict(json_schema_extra={"examples": [DIVERGENCE]})
    step_index: int | None = Field(description="Null: no single step, but the whole task differs.")
    field: Literal[
        "plan_hash",
        "tool",
        "resolved_input",
        "output",
        "status",
        "failure_code",
        "state",
        "step_hash",
    ] = Field(description="step_hash: the hashes differ, and nothing that they cover.")
    original: Any = Field(
        description="The original's value; null: there is none. One of more than 2 KiB is replaced"
        " by $truncated, size_bytes, sha256 (both of its canonical form), excerpt and excerpt_at:"
        " the part around the first difference, and where it begins."
    )
    replayed: Any = Field(description="The replay's value, likewise.")


class Replay(BaseModel):
    """A replay beside its original."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "of_task_id": TASK_ID,
                    "mode": "live",
                    "matches": False,
                    "first_divergence": DIVERGENCE,
                }
            ]
        }
    )
    of_task_id: Id
    mode: ReplayMode
    matches: bool | None = Field(
        description="Whether all hashes are the same; null while nothing differs and the replay has"
        " not ended."
    )
    first_divergence: Divergence | None


class VerifiedStep(BaseModel):
    """What a step's hash is computed from."""

    step_index: int
    tool: str
    tool_version: str
    tool_digest: Hash
    resolved_input: Any
    output: Any
    status: StepStatus
    failure_code: str | None
    step_hash: Hash | None


class Verification(BaseModel):
    """All that `pawl verify` needs: the recipe is in docs/determinism.md."""

    recipe: str = Field(examples=["pawl:v1"])
    task_input: Any
    plan: Plan | None
    tool_set: list[tuple[str, str, str]] = Field(description="[name, version, digest], sorted.")
    plan_hash: Hash | None
    state: str = Field(description="The state in Pawl's own words.")
    failure_code: str | None
    steps: list[VerifiedStep]
    task_hash: Hash | None


class Trace(BaseModel):
    """Everything that happened to a task."""

    model_config = ConfigDict(json_schema_extra={"examples": [TRACE]})
    version: str
    task_id: Id
    replay_of_task_id: Id | None
    status: Status
    failure: Failure | None
    estimated_cost_usd: float
    scheduled_at: Time | None
    cancel_requested_at: Time | None
    queue: Queue | None
    events: list[Event]
    steps: list[StepRecord]
    plan_validation_failures: list[dict[str, Any]]
    runtime_schema_failures: list[dict[str, Any]]
    replay: Replay | None = Field(description="Null unless the task is a replay.")
    summary: Summary
    verification: Verification
