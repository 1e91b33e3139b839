"""The same operations on the statements in memory and on a real database, and what both answer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from libs.bus.postgres import PostgresPublisher
from libs.core.errors import Failure, FailureCode
from libs.core.plan import Limits
from libs.core.tool_spec import ToolRef
from services.scheduler.judgement import (
    CANCEL_GRACE_SECONDS,
    RECONNECT_SECONDS,
    Settlement,
    judge_due,
    judge_lost,
)
from services.scheduler.model import (
    Agent,
    Assigned,
    NewTask,
    ReportRow,
    StoredTask,
    Stream,
    Verdict,
)
from services.scheduler.replay_model import Recall, ReplayOf
from services.scheduler.sweep_store import MOST_TASKS
from tests.scheduler_world import MATH, WAIT, make_plan
from tests.simulation.compared_rows import (
    assert_same_moment,
    assert_same_rows,
    assert_same_tasks,
    without_moments,
)
from tests.simulation.sweep_statements import Statements
from tests.simulation.tables import BEGINNING, S
from tests.store.scheduler_rows import LEASE_SECONDS, Stores, make_stream, make_task, row

TENANTS = (UUID(int=0xA1), UUID(int=0xA2))
AGENTS = (UUID(int=0xB1), UUID(int=0xB2))
TOOLS: tuple[tuple[ToolRef, ...], ...] = ((MATH,), (MATH, WAIT), (WAIT,), (MATH,))
BROKE = Failure(code=FailureCode.TOOL_ERROR, message="it broke", step="math", step_index=1)
LIMITS = Limits(max_steps=9, max_total_seconds=7, max_queue_seconds=20)
LATE_SECONDS = 0.015

# What takes part in time is kept where it was, as seen from now; an ended task never changes.
SHIFT = """
UPDATE scheduler.executors SET lease_until = lease_until - %(by)s,
  stream_ended_at = stream_ended_at - %(by)s;
UPDATE scheduler.tasks SET due_at = due_at - %(by)s, deadline_at = deadline_at - %(by)s,
  queue_deadline_at = queue_deadline_at - %(by)s
WHERE state IN ('created', 'planned', 'queued', 'running');
UPDATE scheduler.sweep SET last = last - %(by)s;
UPDATE scheduler.idempotency SET created_at = created_at - %(by)s;
"""
ALLOW_CLEARING = """
ALTER TABLE scheduler.tasks DISABLE TRIGGER tasks_no_truncate;
ALTER TABLE scheduler.task_events DISABLE TRIGGER task_events_no_truncate;
ALTER TABLE scheduler.steps DISABLE TRIGGER steps_no_truncate;
"""
CLEAR = """
TRUNCATE scheduler.tasks, scheduler.task_events, scheduler.steps, scheduler.outbox,
  scheduler.idempotency, scheduler.executors, bus.records;
UPDATE bus.topics SET last_position = 0;
UPDATE scheduler.sweep SET last = clock_timestamp(), previous = clock_timestamp();
"""


@dataclass
class BothStores:
    """One history on both sides. Every operation asserts that both answer the same."""

    real: Stores
    owner: psycopg.AsyncConnection[dict[str, Any]]
    most_rows: int
    memory: Statements = field(init=False)
    seconds: float = 0.0
    real_at: float = 0.0
    ids: int = 0
    tasks: list[StoredTask] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    assigned: list[tuple[Stream, Assigned]] = field(default_factory=list)
    written: list[ReportRow] = field(default_factory=list)
    old_settlements: list[Settlement] = field(default_factory=list)
    marks: Counter[str] = field(default_factory=Counter)
    """What has happened, over all histories: a comparison of nothing proves nothing."""

    async def begin(self) -> None:
        """Empty both."""
        self.seconds, self.ids = 0.0, 0
        self.tasks, self.streams, self.assigned = [], [], []
        self.written, self.old_settlements = [], []
        self.memory = Statements(lambda: self.seconds)
        await self.owner.execute(CLEAR.encode())
        self.real_at = time.monotonic()

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
        await self._shift(seconds)

    async def sweep_in_the_future(self, seconds: float) -> None:
        """The clock goes back, as the next sweep sees it."""
        self.memory.swept_at += timedelta(seconds=seconds)
        parameters = (timedelta(seconds=seconds),)
        await self.owner.execute("UPDATE scheduler.sweep SET last = last + %s", parameters)

    @property
    def is_late(self) -> bool:
        """Whether real time has gone on by more than what may decide."""
        return time.monotonic() - self.real_at > LATE_SECONDS

    async def _shift(self, seconds: float) -> None:
        """Move the real rows so that exactly `seconds` have passed for them since the last time."""
        now = time.monotonic()
        by = timedelta(seconds=seconds - (now - self.real_at))
        self.real_at = now
        for statement in SHIFT.strip().removesuffix(";").split(";"):
            await self.owner.execute(statement.encode(), {"by": by})

    async def submit(self, **said: Any) -> None:
        """Store a task: `tenant`, `tool`, `agent` as numbers, `scheduled_in` seconds; it `replays`
        an earlier one.
        """
        self.ids += 1
        scheduled_in = said.pop("scheduled_in")
        task = self._task(**said)
        late = await self._scheduled(task, scheduled_in)
        stored = self.memory.submit(_scheduled_at(task, self.memory.now(), scheduled_in))
        assert without_moments(stored) == without_moments(await self.real.tasks.submit(late))
        self.marks["submit " + ("replayed" if stored is None else stored.state)] += 1
        if stored is not None:
            self.tasks.append(stored)

    def _task(
        self,
        *,
        tenant: int,
        steps: int,
        tool: int,
        limit: int | None,
        agent: tuple[int, int | None] | None,
        replays: tuple[int, frozenset[str] | None] | None,
        **changes: Any,
    ) -> NewTask:
        task = make_task(
            steps=steps,
            tool=(MATH, WAIT)[tool],
            id=UUID(int=(self.ids * 7919) % 1009 + 1),
            tenant_id=TENANTS[tenant],
            tenant_limit=limit,
            agent=None
            if agent is None
            else Agent(agent_id=AGENTS[agent[0]], max_concurrent_tasks=agent[1]),
            **changes,
        )
        if task.frozen is None:
            return task
        plan = make_plan(steps, tool=(MATH, WAIT)[tool], limits=LIMITS)
        task = replace(task, frozen=replace(task.frozen, plan=plan))
        if replays is None or not self.tasks:
            return task
        original, recorded = _nth(self.tasks, replays[0]), replays[1]
        self.marks["replayed " + ("live" if recorded is None else "recorded")] += 1
        of = ReplayOf(task_id=original.id, clock_at=BEGINNING, recorded_tools=recorded)
        return replace(task, replay=of)

    async def _scheduled(self, task: NewTask, scheduled_in: float | None) -> NewTask:
        await self._shift(0)
        cursor = await self.owner.execute("SELECT clock_timestamp() AS now")
        found = await cursor.fetchone()
        assert found is not None
        return _scheduled_at(task, found["now"], scheduled_in)

    async def hello(self, executor: int, *, again: int | None, tools: int, slots: int) -> None:
        """A stream of a new boot, or of one that was there before."""
        await self._shift(0)
        stream = make_stream(executor_id=f"ex-{executor}", tools=TOOLS[tools], slots=slots)
        if again is not None and self.streams:
            former = _nth(self.streams, again)
            stream = replace(stream, boot_id=former.boot_id)
            if executor:
                stream = replace(stream, executor_id=former.executor_id)
        said = self.memory.hello(stream, lease_seconds=LEASE_SECONDS)
        assert said == await self.real.work.hello(stream)
        self.marks["hello refused" if said is None else f"hello ended {min(said, 1)}"] += 1
        self.streams.append(stream)

    async def live_on(self, seconds: float) -> None:
        """What a scheduler does by itself while time passes."""
        await self.advance(seconds)
        await self.sweep()
        await self.queue_due()

    async def on_stream(self, what: str, stream: int, *, slots: int = 1) -> None:
        """renew, end_stream, end_boot, held or claim."""
        if not self.streams:
            return
        await self._shift(0)
        chosen, work = _nth(self.streams, stream), self.real.work
        if what == "renew":
            renewed = self.memory.renew(chosen, lease_seconds=LEASE_SECONDS)
            assert renewed is await work.renew(chosen)
            self.marks[f"renewal {renewed}"] += 1
        elif what == "end_stream":
            self.memory.end_stream(chosen)
            await work.end_stream(chosen)
        elif what == "end_boot":
            self.memory.end_boot(chosen)
            await work.end_boot(chosen)
        elif what == "held":
            assert_same_tasks(self.memory.held(chosen.boot_id), await work.held(chosen.boot_id))
        else:
            claimed = self.memory.claim(chosen, slots=slots)
            really = await work.claim(chosen, slots=slots)
            assert_same_tasks(claimed.tasks, really.tasks)
            assert claimed.is_limited == really.is_limited
            self.assigned += [(chosen, task) for task in claimed.tasks]
            self.marks[f"claimed {min(len(claimed.tasks), 2)}"] += 1
            self.marks["limited"] += claimed.is_limited
            self.marks["taken over"] += any(task.lease_token > 1 for task in claimed.tasks)

    async def report(self, which: int, *, off: int, parts: Mapping[str, Any]) -> None:
        """A report on an assignment: what comes next, or (`off`) something that does not."""
        if not self.assigned:
            return
        await self._shift(0)
        stream, task = _nth(self.assigned, which)
        now = self.memory.tasks[task.task_id]
        said: dict[str, Any] = dict(parts)
        if off == 0:
            said = _next_report(now.steps_begun, now.steps_closed, now.step_count or 0, said)
        if off == 2 and self.streams:
            stream = _nth(self.streams, which)
        if off == 3:
            said["token"] = now.lease_token
        await self._write(row(stream, task, **said))

    async def report_again(self, which: int) -> None:
        """A report that was sent before."""
        if self.written:
            await self._shift(0)
            await self._write(_nth(self.written, which))

    async def _write(self, written: ReportRow) -> None:
        fates = self.memory.report([written])
        assert fates == await self.real.work.report([written])
        for fate in fates.values():
            self.marks[f"{fate.verdict} {fate.ended or 'goes on'}"] += 1
            if fate.verdict in {Verdict.OK, Verdict.LATE}:
                self.written.append(written)

    async def recall(self, which: int, *, step: int, off: int) -> None:
        """What is on record of a step of a replay; `off`: under a token that is not its own."""
        if not self.assigned:
            return
        await self._shift(0)
        _, task = _nth(self.assigned, which)
        token = self.memory.tasks[task.task_id].lease_token + off
        asked = Recall(
            task_id=task.task_id, lease_token=token, step_index=step, input_sha256="0" * 64
        )
        answer = self.memory.recall(asked)
        assert answer == await self.real.work.recall(asked)
        known = "nothing" if answer is None else "a step" if answer.input_sha256 else "no step"
        self.marks[f"recalled {known}"] += 1

    async def replay(self, stream: int) -> None:
        """Replay the youngest task that has closed a step, by whoever claims next; recall it."""
        places = range(len(self.tasks))
        known = [n for n in places if self.memory.steps.get(_nth(self.tasks, n).id)]
        if not known:
            return
        said = {"tenant": 0, "steps": 1, "tool": 0, "limit": None, "agent": None, "priority": 7}
        replays = (known[0], frozenset({"math"}))
        await self.submit(**said, key=None, planned=True, scheduled_in=None, replays=replays)
        await self.on_stream("claim", stream, slots=1)
        await self.recall(0, step=1, off=0)

    async def cancel(self, which: int, *, tenant: int) -> None:
        """Cancel a task, perhaps for the wrong tenant; read it."""
        if not self.tasks:
            return
        await self._shift(0)
        task_id = _nth(self.tasks, which).id
        cancelled = self.memory.cancel(TENANTS[tenant], task_id, grace_seconds=CANCEL_GRACE_SECONDS)
        assert without_moments(cancelled) == without_moments(
            await self.real.tasks.cancel(TENANTS[tenant], task_id)
        )
        self.marks["cancel " + ("refused" if cancelled is None else cancelled.state)] += 1
        await self.get(which, tenant=tenant)

    async def get(self, which: int, *, tenant: int) -> None:
        """Read a task."""
        if self.tasks:
            task_id = _nth(self.tasks, which).id
            found = self.memory.get(TENANTS[tenant], task_id)
            assert without_moments(found) == without_moments(
                await self.real.tasks.get(TENANTS[tenant], task_id)
            )

    async def sweep(self) -> None:
        """One sweep."""
        await self.advance(0.001)
        swept = self.memory.sweep(lease_seconds=LEASE_SECONDS, grace_seconds=RECONNECT_SECONDS)
        really = await self.real.sweeps.sweep()
        assert set(swept.ended) == set(really.ended)
        assert (swept.is_unsettled, swept.was_paused) == (really.is_unsettled, really.was_paused)
        assert_same_moment(swept.due_in_seconds, really.due_in_seconds)
        self.marks["paused"] += swept.was_paused
        self.marks["boot ended"] += bool(swept.ended)

    async def settle(self, what: str) -> None:
        """Judge lost or due tasks, carry that out; or (`old`) carry out what was judged before."""
        await self._shift(0)
        settlements: list[Settlement] = []
        if what == "lost":
            lost = self.memory.lost_tasks(most=MOST_TASKS)
            assert lost == await self.real.sweeps.lost_tasks()
            settlements = [judge_lost(task) for task in lost]
        elif what == "due":
            due = self.memory.due_tasks(most=MOST_TASKS)
            really = await self.real.sweeps.due_tasks()
            assert {task.task_id: task for task in due} == {task.task_id: task for task in really}
            settlements = [judge_due(task) for task in due]
        else:
            settlements = self.old_settlements[-3:]
        self.old_settlements += settlements
        settlements = list({one.task_id: one for one in settlements}.values())
        settled = self.memory.settle(settlements)
        assert settled == await self.real.sweeps.settle(settlements)
        for task_id, state in settled.items():
            self.marks[f"{what} settled {state} {self.memory.tasks[task_id].failure_code}"] += 1
        self.marks["void"] += len(settlements) - len(settled)

    async def queue_due(self) -> None:
        """Queue planned tasks whose time has come."""
        await self._shift(0)
        queued = self.memory.queue_due(most=MOST_TASKS)
        assert sorted(queued) == sorted(await self.real.sweeps.queue_due())
        self.marks["queued later"] += bool(queued)

    async def settle_boots(self) -> None:
        """Note boots that hold nothing."""
        self.memory.settle_boots()
        await self.real.sweeps.settle_boots()

    async def relay(self) -> None:
        """Publish some of the outbox."""
        publisher = PostgresPublisher(self.real.hot, most_rows=self.most_rows)
        rows = self.memory.relay(most=self.most_rows)
        self.marks["published"] += rows
        assert (await publisher.move()).is_more == (rows == self.most_rows)

    async def compare(self) -> None:
        """Every row of both."""
        now = self.memory.now()
        await self._shift(0)
        await assert_same_rows(self.memory, self.owner, now)


def _next_report(begun: int, closed: int, count: int, said: dict[str, Any]) -> dict[str, Any]:
    """The parts that fit where the task stands; `failure` and `ends` as they were drawn."""
    if begun == closed:
        return {"begins": closed + 1} if closed < count else {"ends": S.SUCCEEDED}
    if said.get("failure"):
        return {"closes": begun, "failure": BROKE, "ends": S.FAILED}
    if said.get("ends") is S.CANCELLED:
        return {"ends": S.CANCELLED, "cost_usd": 0.125, "tokens": 3, "sandbox_ms": 40}
    then: dict[str, Any] = {"begins": begun + 1} if begun < count else {"ends": S.SUCCEEDED}
    return {"closes": begun} if said.get("begins") == 1 else {"closes": begun, **then}


def _nth(items: list[Any], number: int) -> Any:
    """One of them; the youngest are nearest to 0."""
    return items[-1 - number % len(items)]


def _scheduled_at(task: NewTask, now: datetime, scheduled_in: float | None) -> NewTask:
    if scheduled_in is None:
        return task
    return replace(task, scheduled_at=now + timedelta(seconds=scheduled_in))
