"""Reads a trace that somebody hands in: every member that verification needs, with its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.core.canonical import Json
from libs.core.lifecycle import TaskState

_STATES = frozenset(TaskState)
_STATUSES = frozenset({"running", "succeeded", "failed", "interrupted"})


class NotATrace(ValueError):  # noqa: N818 - what the file is, not a fault of Pawl
    """The value is no trace with a verification block; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStep:
    """One step of the verification block. A step that never finished has no hash."""

    step_index: int
    tool: str
    tool_version: str
    tool_digest: str
    resolved_input: Json
    output: Json
    status: str
    failure_code: str | None
    step_hash: str | None

    @property
    def is_finished(self) -> bool:
        """Whether the step succeeded or failed, and so has a hash."""
        return self.status in {"succeeded", "failed"}

    @property
    def label(self) -> str:
        """`name@version`, the form that is hashed."""
        return f"{self.tool}@{self.tool_version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedBlock:
    """The `verification` block. Plan and plan_hash are None for a task that was never planned.

    `plan_steps` are the plan's steps as written; none without a plan.
    """

    recipe: str
    task_input: Json
    plan: Mapping[str, Json] | None
    plan_steps: tuple[Mapping[str, Json], ...]
    tool_set: tuple[tuple[str, str, str], ...]
    plan_hash: str | None
    state: TaskState
    failure_code: str | None
    steps: tuple[RecordedStep, ...]
    task_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownStep:
    """One element of the trace's `steps`, the part that people read."""

    step_index: int
    tool_name: str
    input: Json
    output: Json
    status: str
    step_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTrace:
    """What the trace says outside of the verification block."""

    task_id: str
    status: str
    failure_code: str | None
    steps: tuple[ShownStep, ...]
    task_hash: str | None
    step_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTrace:
    """A whole trace; `shown` is None when only the verification block was handed in."""

    block: RecordedBlock
    shown: ShownTrace | None


def read_trace(value: Json) -> RecordedTrace:
    """Read a trace, or a verification block alone. Raises NotATrace for anything else."""
    trace = _record(value, "the file")
    if "verification" not in trace and "recipe" in trace:
        return RecordedTrace(block=_block(trace), shown=None)
    block = _record(_member(trace, "verification", "the file"), "verification")
    return RecordedTrace(block=_block(block), shown=_shown(trace))


def _block(block: Mapping[str, Json]) -> RecordedBlock:
    at = "verification"
    state = _text(block, "state", at)
    if state not in _STATES:
        raise NotATrace(f"{at}.state is {_short(state)}; a task has no such state")
    plan = _plan(_member(block, "plan", at))
    return RecordedBlock(
        recipe=_text(block, "recipe", at),
        task_input=_member(block, "task_input", at),
        plan=plan,
        plan_steps=() if plan is None else tuple(_records(plan, "steps", f"{at}.plan")),
        tool_set=_tool_set(block),
        plan_hash=_optional_text(block, "plan_hash", at),
        state=TaskState(state),
        failure_code=_optional_text(block, "failure_code", at),
        steps=tuple(
            _step(step, f"{at}.steps[{place}]")
            for place, step in enumerate(_records(block, "steps", at))
        ),
        task_hash=_optional_text(block, "task_hash", at),
    )


def _plan(value: Json) -> Mapping[str, Json] | None:
    if value is None:
        return None
    at = "verification.plan"
    plan = _record(value, at)
    _record(_member(plan, "limits", at), f"{at}.limits")
    for place, step in enumerate(_records(plan, "steps", at)):
        _integer(step, "step_index", f"{at}.steps[{place}]")
        _text(step, "tool", f"{at}.steps[{place}]")
        _member(step, "input", f"{at}.steps[{place}]")
    return plan


def _tool_set(block: Mapping[str, Json]) -> tuple[tuple[str, str, str], ...]:
    tools = []
    for place, tool in enumerate(_array(block, "tool_set", "verification")):
        match tool:
            case [str(name), str(version), str(digest)]:
                tools.append((name, version, digest))
            case _:
                raise NotATrace(f"verification.tool_set[{place}] is not [name, version, digest]")
    return tuple(tools)


def _step(step: Mapping[str, Json], at: str) -> RecordedStep:
    status = _text(step, "status", at)
    if status not in _STATUSES:
        raise NotATrace(f"{at}.status is {_short(status)}; a step has no such status")
    return RecordedStep(
        step_index=_integer(step, "step_index", at),
        tool=_text(step, "tool", at),
        tool_version=_text(step, "tool_version", at),
        tool_digest=_text(step, "tool_digest", at),
        resolved_input=_member(step, "resolved_input", at),
        output=_member(step, "output", at),
        status=status,
        failure_code=_optional_text(step, "failure_code", at),
        step_hash=_optional_text(step, "step_hash", at),
    )


def _shown(trace: Mapping[str, Json]) -> ShownTrace:
    at = "the trace"
    failure = _member(trace, "failure", at)
    summary = _record(_member(trace, "summary", at), "summary")
    hashes = _array(summary, "step_hashes", "summary")
    if not all(isinstance(one, str) for one in hashes):
        raise NotATrace("summary.step_hashes is not an array of strings")
    return ShownTrace(
        task_id=_text(trace, "task_id", at),
        status=_text(trace, "status", at),
        failure_code=None
        if failure is None
        else _text(_record(failure, "failure"), "code", "failure"),
        steps=tuple(
            ShownStep(
                step_index=_integer(step, "step_index", f"steps[{place}]"),
                tool_name=_text(step, "tool_name", f"steps[{place}]"),
                input=_member(step, "input", f"steps[{place}]"),
                output=_member(step, "output", f"steps[{place}]"),
                status=_text(step, "status", f"steps[{place}]"),
                step_hash=_optional_text(step, "step_hash", f"steps[{place}]"),
            )
            for place, step in enumerate(_records(trace, "steps", at))
        ),
        task_hash=_optional_text(summary, "task_hash", "summary"),
        step_hashes=tuple(str(one) for one in hashes),
    )


def _record(value: Json, at: str) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise NotATrace(f"{at} is not a JSON object")
    return value


def _member(record: Mapping[str, Json], name: str, at: str) -> Json:
    if name not in record:
        raise NotATrace(f"{at} has no {name!r}")
    return record[name]


def _array(record: Mapping[str, Json], name: str, at: str) -> list[Json]:
    value = _member(record, name, at)
    if not isinstance(value, list):
        raise NotATrace(f"{at}: {name!r} is not an array")
    return value


def _records(record: Mapping[str, Json], name: str, at: str) -> list[Mapping[str, Json]]:
    return [_record(v, f"{at}.{name}[{n}]") for n, v in enumerate(_array(record, name, at))]


def _text(record: Mapping[str, Json], name: str, at: str) -> str:
    value = _member(record, name, at)
    if not isinstance(value, str):
        raise NotATrace(f"{at}: {name!r} is not a string")
    return value


def _optional_text(record: Mapping[str, Json], name: str, at: str) -> str | None:
    return None if _member(record, name, at) is None else _text(record, name, at)


def _integer(record: Mapping[str, Json], name: str, at: str) -> int:
    value = _member(record, name, at)
    if isinstance(value, bool) or not isinstance(value, int):
        raise NotATrace(f"{at}: {name!r} is not an integer")
    return value


def _short(text: str) -> str:
    return repr(text) if len(text) <= 40 else repr(text[:40]) + "…"
