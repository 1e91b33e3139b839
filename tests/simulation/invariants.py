"""What holds of every history: judged after each commit, at each side effect, and at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from libs.core.errors import FailureCode
from libs.core.hashing import task_hash
from libs.core.lifecycle import may_follow
from tests.simulation.tables import EventRow, S, Tables, TaskRow

FROZEN = ("state", "seq", "failure_code", "task_hash", "finished_at", "steps_closed", "lease_token")


class Violation(AssertionError):  # noqa: N818 - it is what the tests look for
    """An invariant does not hold."""


@dataclass
class Watch:
    """Judges the rows of one history as they change.

    `may_lose`: executors may be lost in it; otherwise no task may fail for that.
    """

    tables: Tables
    may_lose: bool = True
    marks: Counter[str] = field(default_factory=Counter)
    effects: dict[tuple[UUID, int], UUID] = field(default_factory=dict)
    _seen: Counter[UUID] = field(default_factory=Counter)
    _ends: dict[UUID, tuple[Any, ...]] = field(default_factory=dict)
    _holders: dict[tuple[UUID, int], UUID] = field(default_factory=dict)
    _last_boots: dict[UUID, UUID] = field(default_factory=dict)
    _published: int = 0
    _last_seq: Counter[UUID] = field(default_factory=Counter)
    _grants: int = 0
    _granted: dict[tuple[UUID, int], UUID] = field(default_factory=dict)

    def commit(self) -> None:
        """Judge what the last statement has changed."""
        tables = self.tables
        if tables.refusals:
            raise Violation(f"a guard had to stop {tables.refusals}")
        for grant in tables.grants[self._grants :]:
            place = grant.task_id, grant.step_index
            holder = self._granted.setdefault(place, grant.boot_id)
            if holder != grant.boot_id:
                raise Violation(f"step {place} was granted to {holder} and to {grant.boot_id}")
        self._grants = len(tables.grants)
        for task_id in tables.touched:
            self._task(tables.tasks[task_id])
        tables.touched.clear()

    def effect(self, task_id: UUID, step_index: int, boots: set[UUID]) -> None:
        """Judge the call of a tool by an executor that had these boots so far."""
        place = task_id, step_index
        if place in self.effects:
            raise Violation(f"step {place} ran twice")
        granted = self._granted.get(place)
        if granted is None:
            raise Violation(f"step {place} ran without a record that it begins")
        if granted not in boots:
            raise Violation(f"step {place} ran at another boot than was told so")
        if step_index > 1 and (task_id, step_index - 1) not in self.effects:
            raise Violation(f"step {place} ran before the one ahead of it")
        self.effects[place] = granted

    def _task(self, task: TaskRow) -> None:
        events = self.tables.events[task.id]
        for event in events[self._seen[task.id] :]:
            self._event(task, events, event)
        self._seen[task.id] = len(events)
        if len(events) != task.seq or events[-1].to_state is not task.state:
            raise Violation(f"task {task.id} stands at {task.seq}, its events at {len(events)}")
        if task.state.is_terminal:
            self._end(task)
        elif task.state is S.RUNNING:
            self._lease(task)
            self._limits(task)

    def _lease(self, task: TaskRow) -> None:
        """A token belongs to one holder; a task without one is between two steps, and its last
        holder has ended.
        """
        last = self._last_boots.get(task.id)
        if task.boot_id is None:
            if task.is_step_open:
                raise Violation(f"task {task.id} was freed within step {task.steps_begun}")
            if last is None or self.tables.boots[last].ended_at is None:
                raise Violation(f"task {task.id} was taken from boot {last}, which lives")
            return
        self.marks["taken over"] += last is not None and last != task.boot_id
        self._last_boots[task.id] = task.boot_id
        holder = self._holders.setdefault((task.id, task.lease_token), task.boot_id)
        if holder != task.boot_id:
            raise Violation(f"token {task.lease_token} of task {task.id} has two holders")

    def _event(self, task: TaskRow, events: list[EventRow], event: EventRow) -> None:
        where = f"event {event.seq} of task {task.id}"
        before = events[event.seq - 2] if event.seq > 1 else None
        if events[event.seq - 1] is not event:
            raise Violation(f"{where} is not at its place")
        if before is not None:
            if before.to_state is not event.from_state:
                raise Violation(f"{where} leaves {event.from_state}, not {before.to_state}")
            if event.at < before.at:
                raise Violation(f"{where} is older than the one before")
        if event.from_state is not None and event.from_state is not event.to_state:
            if not may_follow(event.from_state, event.to_state):
                raise Violation(f"{where}: {event.from_state} to {event.to_state}")
        elif event.seq > 1 and event.type == "status_transition":
            raise Violation(f"{where} is a transition to the same state")
        if event.type in {"step_started", "step_finished"}:
            self._step(events, event, where)

    def _step(self, events: list[EventRow], event: EventRow, where: str) -> None:
        index = event.data["step_index"]
        earlier = events[: event.seq - 1]
        steps = [(e.type, e.data["step_index"]) for e in earlier if "step_index" in e.data]
        if event.type == "step_finished":
            if not steps or steps[-1] != ("step_started", index):
                raise Violation(f"{where} closes step {index} after {steps[-1:]}")
            return
        expected = ("step_finished", index - 1) if index > 1 else None
        if (steps[-1] if steps else None) != expected:
            raise Violation(f"{where} begins step {index} after {steps[-1:]}")
        if any(e.type == "cancel_requested" for e in earlier):
            raise Violation(f"{where} begins step {index} of a task that is to be cancelled")

    def _end(self, task: TaskRow) -> None:
        now = tuple(getattr(task, name) for name in FROZEN)
        before = self._ends.setdefault(task.id, now)
        if before != now:
            raise Violation(f"task {task.id} ended as {before} and is now {now}")
        self.marks[f"{task.state} {task.failure_code or ''}".strip()] += 1
        if task.state is S.SUCCEEDED and task.steps_closed != task.step_count:
            raise Violation(f"task {task.id} succeeded with {task.steps_closed} steps")
        if task.cancel_requested_at is not None and (
            task.state is S.SUCCEEDED
            or (task.state is S.FAILED and task.failure_code != FailureCode.EXECUTOR_LOST)
        ):
            raise Violation(f"task {task.id} was to be cancelled and {task.state}")
        if task.failure_code == FailureCode.EXECUTOR_LOST:
            if not task.is_step_open:
                raise Violation(f"task {task.id} was lost between two steps: it can go on")
            if not self.may_lose:
                raise Violation(f"task {task.id} was lost though nobody was gone for long")
        hashes = [step.step_hash for step in self.tables.steps.get(task.id, ())]
        code = task.failure_code
        recomputed = task_hash(
            task.plan_hash or "", step_hashes=hashes, state=task.state, failure_code=code
        )
        if recomputed != task.task_hash:
            raise Violation(f"task {task.id} has another hash than its steps say")

    def _limits(self, task: TaskRow) -> None:
        tables = self.tables
        if task.tenant_limit is not None:
            load = tables.running_of(tenant_id=task.tenant_id)
            if load > task.tenant_limit:
                raise Violation(f"{load} tasks of tenant {task.tenant_id} run")
        if task.agent_limit is not None:
            load = tables.running_of(agent_id=task.agent_id)
            if load > task.agent_limit:
                raise Violation(f"{load} tasks of agent {task.agent_id} run")
        boot = tables.boots.get(task.boot_id) if task.boot_id is not None else None
        if boot is not None:
            load = sum(
                t.boot_id == boot.boot_id and t.state is S.RUNNING for t in tables.tasks.values()
            )
            if load > boot.slots:
                raise Violation(f"boot {boot.boot_id} holds {load} tasks in {boot.slots} slots")

    def published(self) -> None:
        """Judge what has been published since the last time: each event once, in order."""
        for task_id, seq in self.tables.published[self._published :]:
            if seq != self._last_seq[task_id] + 1:
                last = self._last_seq[task_id]
                raise Violation(f"event {seq} of {task_id} was published after {last}")
            self._last_seq[task_id] = seq
        self._published = len(self.tables.published)

    def all_published(self) -> None:
        """Judge the topic at the end: nothing is missing."""
        self.published()
        for task in self.tables.tasks.values():
            if self._last_seq[task.id] != task.seq:
                last = self._last_seq[task.id]
                raise Violation(f"of {task.seq} events of {task.id}, {last} came out")
