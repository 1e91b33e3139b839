"""The JSON shapes of the runtime dialect, for the OpenAPI document only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.optional_members import ABSENT, Optional
from libs.core.errors import FailureCode

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0, le=2**53 - 1)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
Status = Literal["created", "planned", "queued", "running", "succeeded", "failed"]
ReplayMode = Literal["live", "recorded"]
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
QUEUE: dict[str, Any] = {
    "reason": "no_slot",
    "detail": "every executor that offers its tools is busy",
    "position": 3,
}


class PlanStep(BaseModel):
    """One call of one tool. Its input may refer to outputs before: {"$ref": "steps.1.output.x"}."""

    model_config = ConfigDict(extra="forbid")
    step_index: int = Field(ge=1, description="Its place, from 1, without gaps.")
    tool: str = Field(min_length=1, description="A tool's name; GET /v1/tools lists them.")
    input: dict[str, Any] = Field(description="The tool's input, checked against its schema.")


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
