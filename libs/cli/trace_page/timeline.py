"""Where a task's waiting and its steps stand on an axis of time. Pure.

Times are seconds from the start of the run, negative before it; places go from 0 to 1. When a task
waited much longer than it ran, the waiting takes a fixed part of the axis, which then `is_broken`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from libs.client.tasks import ENDED
from libs.client.traces import StepRecord, Trace

BROKEN_SHARE = 0.15
_LONGEST_SHARE = 0.3
_MOST_TICKS = 7
_SHORTEST_SECONDS = 0.001
_DAY = 86400.0
_TICKS = (
    *(base * 10.0**power for power in range(-4, 1) for base in (1, 2, 5)),
    *(10.0, 15.0, 30.0),
    *(60.0 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3600.0 * hours for hours in (1, 2, 3, 6, 12)),
    *(_DAY * base * 10**power for power in range(7) for base in (1, 2, 5)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that lasted, in seconds; `is_open`: it had not ended when the trace was taken."""

    begin: float
    end: float
    is_open: bool = False

    @property
    def seconds(self) -> float:
        """How long it lasted, or has lasted so far."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """From `begin` (≤ 0) over 0, where `share` of the axis is passed, to `end`."""

    begin: float
    end: float
    share: float
    is_broken: bool

    def place(self, seconds: float) -> float:
        """Where a moment stands, 0 to 1."""
        if seconds <= 0:
            passed = (seconds - self.begin) / -self.begin if self.begin else 1.0
            return min(1.0, max(0.0, passed)) * self.share
        return self.share + min(1.0, seconds / self.end) * (1.0 - self.share)

    def ticks(self) -> Iterator[float]:
        """Moments of the run to mark, round ones, at most eight."""
        if self.end <= 0:
            return
        run = self.end
        step = next((tick for tick in _TICKS if run / tick <= _MOST_TICKS), run)
        for count in range(int(run / step) + 1):
            yield count * step


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """`planning` is what lies before the queue: planning, or waiting until the task is due.

    `run` is None for a task that never ran. `steps` are in the order of the trace's.
    """

    zero: datetime | None
    axis: Axis
    planning: Span | None
    queued: Span | None
    run: Span | None
    steps: tuple[Span, ...]


def timeline_of(trace: Trace, *, taken_at: datetime | None) -> Timeline:
    """The timeline. `taken_at` is when the trace was read, None for one that lay in a file: what
    was open then reaches to it, or to the last moment that the trace knows.
    """
    moments = sorted(_moments(trace))
    if taken_at is not None and not trace.has_ended and moments:
        moments.append(max(taken_at, moments[-1]))
    if not moments:
        axis = Axis(begin=0.0, end=0.0, share=0.0, is_broken=False)
        return Timeline(zero=None, axis=axis, planning=None, queued=None, run=None, steps=())
    reached = _reached(trace)
    began = reached.get("running") or min((s.started_at for s in trace.steps), default=None)
    zero = began or moments[-1]
    end = _seconds(moments[-1], zero)
    left = {state: _seconds(at, zero) for state, at in reached.items()}
    finish = min((left[state] for state in ENDED if state in left), default=end)
    run = Span(begin=0.0, end=max(0.0, finish), is_open=not trace.has_ended) if began else None
    planned_until = left.get("queued", min(finish, 0.0) if began is None else 0.0)
    return Timeline(
        zero=zero,
        axis=_axis(_seconds(moments[0], zero), end, has_run=run is not None),
        planning=_lasting(_seconds(moments[0], zero), planned_until),
        queued=_lasting(left["queued"], 0.0 if began else finish) if "queued" in left else None,
        run=run,
        steps=tuple(_step_span(step, zero, end) for step in trace.steps),
    )


def _axis(begin: float, end: float, *, has_run: bool) -> Axis:
    begin = min(0.0, begin)
    if not has_run:
        return Axis(begin=begin, end=0.0, share=1.0, is_broken=False)
    end = max(end, _SHORTEST_SECONDS)
    share = -begin / (end - begin)
    is_broken = share > _LONGEST_SHARE
    return Axis(
        begin=begin, end=end, share=BROKEN_SHARE if is_broken else share, is_broken=is_broken
    )


def _moments(trace: Trace) -> Iterator[datetime]:
    yield from (event.created_at for event in trace.events)
    for step in trace.steps:
        yield step.started_at
        if step.finished_at is not None:
            yield step.finished_at


def _reached(trace: Trace) -> dict[str, datetime]:
    """When each status was first reached."""
    reached: dict[str, datetime] = {}
    for event in trace.events:
        to = event.payload.get("to")
        if event.event == "task.status_transition" and isinstance(to, str):
            reached.setdefault(to, event.created_at)
    return reached


def _lasting(begin: float, end: float) -> Span | None:
    return Span(begin=begin, end=end) if end > begin else None


def _step_span(step: StepRecord, zero: datetime, end: float) -> Span:
    begin = _seconds(step.started_at, zero)
    if step.finished_at is not None:
        return Span(begin=begin, end=max(begin, _seconds(step.finished_at, zero)))
    return Span(begin=begin, end=max(begin, end), is_open=True)


def _seconds(at: datetime, zero: datetime) -> float:
    return (at - zero).total_seconds()
