"""What a replay came to beside its original, from both their records."""

from __future__ import annotations

from collections.abc import Sequence

from libs.core.canonical import read_canonical
from libs.core.comparison import Comparison, Outline, compare, first_step_apart
from libs.core.recorded_trace import RecordedStep
from libs.core.tool_spec import ToolRef
from services.scheduler.model import StoredStep, StoredTask
from services.scheduler.store import TaskStore
from services.scheduler.trace_pages import open_step


async def compare_with_original(store: TaskStore, replay: StoredTask) -> Comparison | None:
    """Compare a replay, as far as its row says that it has come, with the task that it replays.

    Reads all hashes, and of the steps only the first that differs. None: it is no replay, or its
    original is gone.
    """
    if replay.replay is None:
        return None
    original = await store.get(replay.tenant_id, replay.replay.task_id)
    if original is None:
        return None
    hashes = await store.step_hashes(replay.tenant_id, (original.id, replay.id))
    one, other = _outline(original, hashes[original.id]), _outline(replay, hashes[replay.id])
    place = first_step_apart(one, other)
    if place is None:
        return compare(one, other)
    step = await _step(store, original, place), await _step(store, replay, place)
    return compare(one, other, step=step)


def _outline(task: StoredTask, hashes: Sequence[str]) -> Outline:
    begun: tuple[str | None, ...] = (None,) if task.steps_begun > task.steps_closed else ()
    return Outline(
        plan_hash=task.plan_hash or None,
        state=task.state,
        failure_code=None if task.failure is None else task.failure.code.value,
        step_hashes=(*hashes[: task.steps_closed], *begun),
    )


async def _step(store: TaskStore, task: StoredTask, place: int) -> RecordedStep | None:
    if place <= task.steps_closed:
        found = (await store.steps(task, first=place, last=place))[0]
    elif place == task.steps_begun and (unfinished := open_step(task)) is not None:
        found = unfinished
    else:
        return None
    step, name = found
    return _recorded(step, next(tool for tool in task.tool_set if tool.name == name))


def _recorded(step: StoredStep, tool: ToolRef) -> RecordedStep:
    texts = step.resolved_input, step.output
    resolved_input, output = (None if text is None else read_canonical(text) for text in texts)
    return RecordedStep(
        step_index=step.step_index,
        tool=tool.name,
        tool_version=tool.version,
        tool_digest=tool.digest,
        resolved_input=resolved_input,
        output=output,
        status=step.status.value,
        failure_code=None if step.failure is None else step.failure.code.value,
        step_hash=step.step_hash or None,
    )
