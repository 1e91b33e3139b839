"""How a trace is cut into pages, and what it says of a step that never closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from libs.core.canonical import read_canonical
from libs.core.plan import plan_from_json
from services.scheduler.model import StepStatus, StoredEvent, StoredStep, StoredTask

EVENTS_PER_PAGE = 200
STEPS_PER_PAGE = 200
PAGE_BYTES = 2 * 2**20


def step_ranges(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last step of each page, given each step's bytes from step 1.

    A page has at most 200 steps and 2 MiB; a larger step has a page of its own.
    """
    first, size_bytes = 1, 0
    for step, step_bytes in enumerate(sizes, start=1):
        full = size_bytes + step_bytes > PAGE_BYTES or step - first == STEPS_PER_PAGE
        if full and step > first:
            yield first, step - 1
            first, size_bytes = step, 0
        size_bytes += step_bytes
    if sizes:
        yield first, len(sizes)


def open_step(
    head: StoredTask, *, last_event: StoredEvent | None = None
) -> tuple[StoredStep, str] | None:
    """The step that began and did not close, with its tool's name: running, or interrupted by the
    end. What it used until it was killed stands in the task's last event.
    """
    if head.steps_begun == head.steps_closed or head.plan is None:
        return None
    status = StepStatus.INTERRUPTED if head.state.is_terminal else StepStatus.RUNNING
    plan = plan_from_json(read_canonical(head.plan))
    said = read_canonical(last_event.data) if last_event and head.state.is_terminal else None
    used = said if isinstance(said, dict) else {}
    step = StoredStep(
        step_index=head.steps_begun,
        status=status,
        started_at=head.step_started_at,
        cost_usd=used.get("cost_usd", 0.0),
        tokens=used.get("tokens", 0),
        sandbox_ms=used.get("sandbox_ms", 0),
    )
    return step, plan.steps[head.steps_begun - 1].tool
