"""The JSON shapes of the runtime dialect, for the OpenAPI document only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.optional_members import ABSENT, Optional
from libs.core.errors import FailureCode

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
Status = Literal["created", "planned", "queued", "running", "succeeded", "failed"]
ReplayMode = Literal["live", "recorded"]
StepStatus = Literal["running", "succeeded", "failed", "interrupted"]
Time = Annotated[
    str,
    Field(json_schema_extra={"format": "date-time"}, examples=["2026-02-27T11:18:02.991451+00:00"]),
]
Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

TASK_ID = "0199d2a1-7c3e-7b52-9a64-3f0d5c1b8e27"
HASH = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
INPUT: dict[str, Any] = {"topic": "Summarize weekly release notes"}
PLAN: dict[str, Any] = {
    "steps": [{"step_index": 1, "tool": "math", "input": {"expression": "1+1"}}],
    "limits": {"max_steps": 12, "max_total_seconds": 45, "max_step_seconds": 10},
}
FAILURE: dict[str, Any] = {
    "step": "math",
    "index": 1,
    "code": "TOOL_ERROR",
    "message": "division by zero; step 1 had no effect, no later step was executed",
    "reason": "MATH_DOMAIN",
}
DIVERGENCE: dict[str, Any] = {
    "step_index": 1,
    "field": "output",
    "original": {"result": 2},
    "replayed": {"result": 3},
}
QUEUE: dict[str, Any] = {
    "reason": "no_slot",
    "detail": "every executor that offers its tools is busy",
    "position": 3,
}


class PlanStep(BaseModel):
    """One call of one tool. Its input may refer to outputs before: {"$ref": "steps.1.output.x"}."""

    model_config = ConfigDict(extra="forbid")
    step_index: int = Field(ge=1, description="Its place, from 1, without gaps.")
    tool: str = Field(description="A tool's name; GET /v1/tools lists them.")
    input: Any = Field(description="The tool's input, checked against its schema.")


class PlanLimits(BaseModel):
    """Bounds of a task. One that is absent takes the tier's default."""

    model_config = ConfigDict(extra="forbid")
    max_steps: Optional[Count] = ABSENT
    max_total_seconds: Optional[Positive] = ABSENT
    max_step_seconds: Optional[Positive] = ABSENT
    max_total_tokens: Optional[Annotated[int, Field(ge=0)]] = ABSENT
    max_cost_usd: Optional[Annotated[float, Field(ge=0)]] = ABSENT
    max_queue_seconds: Optional[Positive] = ABSENT


class Plan(BaseModel):
    """The steps, run strictly in order, and their limits."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [PLAN]})
    steps: list[PlanStep] = Field(min_length=1)
    limits: Optional[PlanLimits] = ABSENT


class ExecuteRequest(BaseModel):
    """A task to run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"task_definition": INPUT, "max_steps": 12, "timeout_seconds": 45},
                {"task_definition": {"expression": "6*7"}},
                {"task_definition": {}, "plan": {"steps": PLAN["steps"]}},
                {
                    "task_definition": {"expression": "6*7"},
                    "priority": 10,
                    "scheduled_at": "2026-06-15T09:00:00+00:00",
                },
            ]
        },
    )
    task_definition: dict[str, Any] = Field(description="The task's input.")
    max_steps: Optional[Annotated[Count, Field(description="Most steps of the plan.")]] = ABSENT
    timeout_seconds: Optional[Annotated[Positive, Field(description="Start to end.")]] = ABSENT
    plan: Optional[Plan] = ABSENT
    priority: Optional[
        Annotated[Priority, Field(description="Higher runs first; 0 when absent.")]
    ] = ABSENT
    scheduled_at: Optional[
        Annotated[
            Time,
            Field(
                description="Not before this time, at most 366 days ahead; until then the task is"
                " planned. At once when it is absent or past."
            ),
        ]
    ] = ABSENT


class ReplayRequest(BaseModel):
    """How to replay a task."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"mode": "recorded"}, {}]}
    )
    mode: Optional[
        Annotated[
            ReplayMode,
            Field(
                description="live (when absent): every step runs again. recorded: steps whose tool"
                " reaches the network or a model are answered from the original's record; such a"
                " step fails with reason RECORDING_MISSING when its input is not the recorded one."
            ),
        ]
    ] = ABSENT


class Failure(BaseModel):
    """Why a task failed, and what was and was not executed."""

    model_config = ConfigDict(json_schema_extra={"examples": [FAILURE]})
    step: str | None = Field(description="The tool to blame, if one is.")
    index: int | None = Field(description="Its step_index, if a step is to blame.")
    code: FailureCode
    message: str
    reason: str | None = Field(description="A finer word than code.")


EXECUTION: dict[str, Any] = {
    "version": "pawl-0.1.0",
    "task_id": TASK_ID,
    "status": "queued",
    "duration_seconds": 0.0,
    "cost_usd": 0.0,
    "result": {"queued": True},
    "error": None,
    "failure": None,
}


class Execution(BaseModel):
    """What became of a submission."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXECUTION]})
    version: str
    task_id: Id
    status: Status
    duration_seconds: float = Field(description="Seconds of execution so far.")
    cost_usd: float
    result: Any = Field(description='The last output; {"queued": true} until the task has ended.')
    error: str | None
    failure: Failure | None


class Queue(BaseModel):
    """What a waiting task waits for."""

    model_config = ConfigDict(json_schema_extra={"examples": [QUEUE]})
    reason: Literal[
        "scheduled", "no_executor", "tenant_limit", "agent_limit", "no_slot", "turn"
    ] = Field(description="What would have to change first.")
    detail: str = Field(description="The same in a sentence, with the numbers.")
    position: int | None = Field(
        description="Its place in the whole queue, from 1; null while it is not queued, or beyond"
        " 10,000."
    )


LISTED_TASK: dict[str, Any] = {
    "version": "pawl-0.1.0",
    "id": TASK_ID,
    "task_id": TASK_ID,
    "replay_of_task_id": None,
    "input": INPUT,
    "status": "succeeded",
    "planned_by": "caller",
    "result": {"result": 2},
    "error": None,
    "priority": 0,
    "created_at": "2026-02-27T11:18:01.127894+00:00",
    "scheduled_at": None,
    "cancel_requested_at": None,
    "execution_started_at": "2026-02-27T11:18:02.991451+00:00",
    "execution_finished_at": "2026-02-27T11:18:03.002295+00:00",
    "failure": None,
}
TASK: dict[str, Any] = LISTED_TASK | {"plan": PLAN, "planner_note": None, "queue": None}


class ListedTask(BaseModel):
    """A task as it stands, without what a look at that one task adds."""

    version: str
    id: Id
    task_id: Id
    replay_of_task_id: Id | None
    input: Any
    status: Status
    planned_by: str | None = Field(description="caller, offline, template or model.")
    result: Any = Field(description="The last output; null until the task has succeeded.")
    error: str | None
    priority: Priority
    created_at: Time
    scheduled_at: Time | None = Field(description="When it is due; null: at once.")
    cancel_requested_at: Time | None
    execution_started_at: Time | None
    execution_finished_at: Time | None
    failure: Failure | None


class Task(ListedTask):
    """A task as it stands."""

    model_config = ConfigDict(json_schema_extra={"examples": [TASK]})
    plan: Plan | None = Field(description="Null until the task is planned.")
    planner_note: str | None
    queue: Queue | None = Field(description="Null unless the task waits.")


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
    cost_usd: float = Field(description="0 until it has finished; so too the next two.")
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
