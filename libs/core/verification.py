"""Checks a trace by its own contents: computes every hash of its verification block again. Pure.

A hash is no signature: whoever changes a trace and computes all later hashes again makes a
consistent one. Against that, compare the task hash with one that was kept elsewhere (an event, a
webhook, a replay): `expected_task_hash`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from libs.core.canonical import Json, doubles, same_json
from libs.core.errors import FailureCode, StepFailed
from libs.core.hashing import RECIPE, step_hash, task_hash, written_plan_hash
from libs.core.lifecycle import TaskState
from libs.core.recorded_trace import (
    NotATrace,
    RecordedBlock,
    RecordedStep,
    ShownStep,
    ShownTrace,
    read_trace,
)
from libs.core.references import resolve
from libs.core.tool_spec import ToolRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was checked: the hash that the trace states for it, and what is wrong."""

    subject: str
    recorded: str | None = None
    differences: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All checks, in the order plan, steps, task, then the readable part of the trace."""

    task_id: str | None
    state: TaskState
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether every hash matches and nothing contradicts."""
        return self.first_difference is None

    @property
    def first_difference(self) -> Check | None:
        """The first check that fails: the place to look at."""
        return next((check for check in self.checks if not check.holds), None)


def verify(trace: Json, *, expected_task_hash: str | None = None) -> Report:
    """Check a trace, or its verification block alone. Raises NotATrace when it is neither."""
    try:
        # Steps saw 1e20 as the double that it is; a reader of the trace's JSON sees an integer.
        recorded = read_trace(doubles(trace))
        block, shown = recorded.block, recorded.shown
        checks = tuple(_checks(block, shown, expected_task_hash))
    except ValueError as error:
        raise NotATrace(str(error)) from error
    except RecursionError as error:
        raise NotATrace("the trace is nested too deeply") from error
    return Report(
        task_id=None if shown is None else shown.task_id, state=block.state, checks=checks
    )


def _checks(
    block: RecordedBlock, shown: ShownTrace | None, expected: str | None
) -> Iterator[Check]:
    if block.recipe != RECIPE:
        yield Check(
            subject="recipe",
            differences=(f"the trace was hashed by recipe {block.recipe!r}; known is {RECIPE!r}",),
        )
        return
    yield Check(subject="tool set", differences=tuple(_tool_set_differences(block)))
    yield Check(
        subject="plan", recorded=block.plan_hash, differences=tuple(_plan_differences(block))
    )
    yield from _step_checks(block, shown)
    yield Check(
        subject="task",
        recorded=block.task_hash,
        differences=tuple(_task_differences(block, expected)),
    )
    if shown is not None:
        yield Check(subject="summary", differences=tuple(_summary_differences(block, shown)))


def _tool_set_differences(block: RecordedBlock) -> Iterator[str]:
    names = [name for name, _, _ in block.tool_set]
    if list(block.tool_set) != sorted(set(block.tool_set)):
        yield "it is not sorted, or names a tool twice"
    if len(set(names)) != len(names):
        yield "it has two versions of one tool"
    planned = {str(step["tool"]) for step in block.plan_steps}
    for name in sorted(planned - set(names)):
        yield f"it lacks {name}, which the plan calls"
    for name in sorted(set(names) - planned):
        yield f"it has {name}, which the plan does not call"
    yield from _swapped_tools(block)


def _swapped_tools(block: RecordedBlock) -> Iterator[str]:
    """The tools that the plan was hashed with, where the steps still tell and the set does not."""
    ran = {step.tool: (step.tool, step.tool_version, step.tool_digest) for step in block.steps}
    stated = {tool[0]: tool for tool in block.tool_set}
    swapped = sorted(name for name in stated.keys() & ran.keys() if stated[name] != ran[name])
    if swapped and _plan_hash(block, stated | ran) == block.plan_hash:
        yield f"another {' and another '.join(swapped)} was planned and ran than it says"


def _plan_differences(block: RecordedBlock) -> Iterator[str]:
    if block.plan is None or block.plan_hash is None:
        if block.plan is not None or block.plan_hash is not None:
            yield "the plan and its hash are not both there"
        if block.state in {TaskState.QUEUED, TaskState.RUNNING, TaskState.SUCCEEDED}:
            yield f"a task that is {block.state} has a plan; this one has none"
        return
    yield from _plan_shape(block)
    computed = _plan_hash(block, {tool[0]: tool for tool in block.tool_set})
    if computed is not None and computed != block.plan_hash:
        yield (
            _mismatch("plan hash", block.plan_hash, computed)
            + ": a step, a limit, the tool set or the task input was changed, or the hash itself"
        )


def _plan_hash(block: RecordedBlock, tools: Mapping[str, tuple[str, str, str]]) -> str | None:
    if block.plan is None:
        return None
    exact = [ToolRef(*tool) for tool in tools.values()]
    return written_plan_hash(block.plan, tools=exact, task_input=block.task_input)


def _plan_shape(block: RecordedBlock) -> Iterator[str]:
    for name in _strangers(block.plan, {"steps", "limits"}):
        yield f"the plan has a member {name!r} that no plan has"
    for place, step in enumerate(block.plan_steps, start=1):
        if step["step_index"] != place:
            yield f"step {place} of the plan is numbered {step['step_index']}"
        for name in _strangers(step, {"step_index", "tool", "input"}):
            yield f"step {place} of the plan has a member {name!r} that no step has"


def _step_checks(block: RecordedBlock, shown: ShownTrace | None) -> Iterator[Check]:
    readable = {step.step_index: step for step in shown.steps} if shown is not None else None
    tools = frozenset(block.tool_set)
    previous = block.plan_hash or ""
    outputs: dict[int, Json] = {}
    for place, step in enumerate(block.steps, start=1):
        differences = [
            *_place_differences(block, place, tools),
            *_input_differences(block, step, outputs),
            *_hash_differences(step, previous),
        ]
        if readable is not None:
            differences += _shown_differences(step, readable.get(step.step_index))
        yield Check(
            subject=_step_subject(block, place),
            recorded=step.step_hash,
            differences=tuple(differences),
        )
        previous = step.step_hash or previous
        outputs[step.step_index] = step.output
    if block.state is TaskState.SUCCEEDED:
        for place in range(len(block.steps) + 1, len(block.plan_steps) + 1):
            yield Check(
                subject=_step_subject(block, place),
                differences=("the step is missing, though the task succeeded",),
            )


def _place_differences(
    block: RecordedBlock, place: int, tools: frozenset[tuple[str, str, str]]
) -> Iterator[str]:
    """What is wrong about this record standing at this place of the plan."""
    step, planned = block.steps[place - 1], block.plan_steps
    if step.step_index != place:
        yield f"the step is missing or out of order: step {step.step_index} stands in its place"
        return
    if place > len(planned):
        yield f"the plan has only {len(planned)} steps"
    elif planned[place - 1]["tool"] != step.tool:
        yield f"it ran {step.tool}; the plan says {planned[place - 1]['tool']}"
    if (step.tool, step.tool_version, step.tool_digest) not in tools:
        yield f"it ran {step.label} (digest {_head(step.tool_digest)}); the tool set has no such"
    if step.status != "succeeded" and place < len(block.steps):
        yield f"it {step.status}, yet a later step is recorded"
    if step.status != "succeeded" and block.state is TaskState.SUCCEEDED:
        yield f"it {step.status}, yet the task succeeded"


def _input_differences(
    block: RecordedBlock, step: RecordedStep, outputs: Mapping[int, Json]
) -> Iterator[str]:
    """Whether the input is what the plan says, with its references resolved."""
    if not step.is_finished or not 0 < step.step_index <= len(block.plan_steps):
        return
    planned = block.plan_steps[step.step_index - 1]["input"]
    not_resolved = step.failure_code == FailureCode.INPUT_SCHEMA
    if not_resolved and same_json(planned, step.resolved_input):
        return
    try:
        resolved = resolve(planned, task_input=block.task_input, outputs=outputs)
    except StepFailed as error:
        yield f"its input cannot be resolved ({error.message}), yet it was called"
        return
    if not same_json(resolved, step.resolved_input):
        yield "its input is not what the plan, the task input and the earlier outputs give"


def _hash_differences(step: RecordedStep, previous: str) -> Iterator[str]:
    if not step.is_finished:
        if step.step_hash is not None:
            yield "it has a hash, though it never finished"
        return
    if (step.failure_code is None) != (step.status == "succeeded"):
        yield f"it {step.status} with failure code {step.failure_code}"
    if step.status == "failed" and step.output is not None:
        yield "it failed and yet has an output"
    computed = step_hash(
        previous,
        step_index=step.step_index,
        tool=step.label,
        resolved_input=step.resolved_input,
        output=step.output,
        failure_code=step.failure_code,
    )
    if computed != step.step_hash:
        yield (
            _mismatch("step hash", step.step_hash, computed)
            + ": input, output, tool, status, failure code, its hash or the one before was changed"
        )


def _shown_differences(step: RecordedStep, shown: ShownStep | None) -> Iterator[str]:
    if shown is None:
        yield "the trace's list of steps does not have it"
        return
    if shown.tool_name != step.tool:
        yield f"the trace's list of steps says {shown.tool_name}, what was hashed is {step.tool}"
    if shown.status != step.status:
        yield f"the trace's list of steps says {shown.status}, what was hashed is {step.status}"
    if not step.is_finished:
        return
    if not same_json(shown.input, step.resolved_input):
        yield "the trace's list of steps shows another input than the one that was hashed"
    if not same_json(shown.output, step.output):
        yield "the trace's list of steps shows another output than the one that was hashed"
    if shown.step_hash != step.step_hash:
        yield "the trace's list of steps shows another hash than the one that was verified"


def _task_differences(block: RecordedBlock, expected: str | None) -> Iterator[str]:
    if expected is not None and expected != block.task_hash:
        yield f"its hash is {block.task_hash}; expected was {expected}"
    if not block.state.is_terminal:
        if block.task_hash is not None:
            yield f"it has a task hash, though it is {block.state} and has not ended"
        return
    if block.state is TaskState.SUCCEEDED and block.failure_code is not None:
        yield f"it succeeded and yet has failure code {block.failure_code}"
    if block.state is TaskState.FAILED and block.failure_code is None:
        yield "it failed without a failure code"
    computed = task_hash(
        block.plan_hash or "",
        step_hashes=_finished_hashes(block),
        state=block.state,
        failure_code=block.failure_code,
    )
    if computed != block.task_hash:
        yield (
            _mismatch("task hash", block.task_hash, computed)
            + ": state, failure code, a step hash, the plan hash or the hash itself was changed"
        )


def _summary_differences(block: RecordedBlock, shown: ShownTrace) -> Iterator[str]:
    if shown.task_hash != block.task_hash:
        yield f"summary.task_hash is {shown.task_hash}; what was verified is {block.task_hash}"
    if list(shown.step_hashes) != _finished_hashes(block):
        yield "summary.step_hashes are not the step hashes that were verified"
    if [step.step_index for step in shown.steps] != [step.step_index for step in block.steps]:
        yield "the trace's list of steps is not the list that was verified"
    cancelled = block.state is TaskState.CANCELLED
    if shown.status not in ({"failed", "cancelled"} if cancelled else {block.state.value}):
        yield f"the trace's status is {shown.status}; what was verified is {block.state}"
    if shown.failure_code != block.failure_code and not (
        cancelled and shown.failure_code == "CANCELLED"
    ):
        yield f"failure.code is {shown.failure_code}; what was verified is {block.failure_code}"


def _finished_hashes(block: RecordedBlock) -> list[str]:
    return [step.step_hash for step in block.steps if step.step_hash is not None]


def _strangers(record: Mapping[str, Json] | None, known: set[str]) -> list[str]:
    return sorted(set(record or ()) - known)


def _step_subject(block: RecordedBlock, place: int) -> str:
    planned = block.plan_steps
    return (
        f"step {place} ({planned[place - 1]['tool']})" if place <= len(planned) else f"step {place}"
    )


def _mismatch(what: str, recorded: str | None, computed: str) -> str:
    return f"{what} differs (recorded {_head(recorded)}, computed {_head(computed)})"


def _head(text: str | None) -> str:
    return "none" if text is None else f"{text[:12]}…" if len(text) > 12 else text
