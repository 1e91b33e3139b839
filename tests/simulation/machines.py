"""Schedulers, executors, the network and a database in one loop, and what can happen to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from services.executor.tools.tool import ToolContext
from tests.simulation.invariants import Violation, Watch
from tests.simulation.memory_store import MemoryServer
from tests.simulation.processes import Ids, SimulatedExecutor, SimulatedScheduler
from tests.simulation.streams import SimulatedStream
from tests.simulation.sweep_statements import Statements
from tests.simulation.virtual_loop import VirtualLoop


@dataclass(kw_only=True)
class Build:
    """What a world is made of; a mutant replaces a part."""

    schedulers: int = 2
    executors: int = 2
    statements: type[Statements] = Statements
    executor: type[SimulatedExecutor] = SimulatedExecutor
    may_lose: bool = True


@dataclass
class Machines:
    """The machines of one history. Every method is something that happens to them."""

    seed: int
    build: Build = field(default_factory=Build)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.loop = VirtualLoop()
        self.ids = Ids(self.random)
        self.tables = self.build.statements(self.loop.time)
        self.watch = Watch(self.tables, may_lose=self.build.may_lose)
        self.server = MemoryServer(self.loop, self.tables, self.random)
        self.server.on_effect = self._committed
        self.violation: Violation | None = None
        self.streams: list[SimulatedStream] = []
        self.leaving: dict[int, SimulatedExecutor] = {}
        self.dead: list[SimulatedScheduler | SimulatedExecutor] = []
        self.schedulers: list[SimulatedScheduler | None] = [None] * self.build.schedulers
        self.executors: list[SimulatedExecutor | None] = [None] * self.build.executors
        for n in range(self.build.schedulers):
            self.start_scheduler(n)
        for n in range(self.build.executors):
            self.start_executor(n)
        self.advance(0.5)

    @property
    def marks(self) -> Counter[str]:
        """What has happened in this history."""
        return self.watch.marks

    def advance(self, seconds: float) -> None:
        """Let time pass, and judge what came of it."""
        self.loop.advance(seconds)
        errors = [error for error in self.loop.errors if "OperationalError" not in error]
        if errors:
            self._violated(Violation(f"nobody caught {errors[0]}"))
        try:
            self.watch.published()
        except Violation as violation:
            self._violated(violation)
        if self.violation is not None:
            raise self.violation

    def step_clock(self, seconds: float) -> None:
        """The database's clock jumps."""
        self.tables.step_clock(seconds)

    def start_scheduler(self, n: int) -> None:
        """A scheduler process starts, if none runs under this number."""
        if self.schedulers[n] is None:
            scheduler = SimulatedScheduler(f"scheduler-{n}", self, self.ids)
            self.schedulers[n] = scheduler
            self.deafen(n, seconds=self.random.uniform(0.01, 0.2))

    def kill_scheduler(self, n: int) -> None:
        """SIGKILL."""
        scheduler = self.schedulers[n]
        if scheduler is None:
            return
        self.schedulers[n] = None
        self._bury(scheduler)
        self._hear(scheduler, listens=False)
        for stream in self._streams_of(scheduler):
            stream.lose_server()

    def stop_scheduler(self, n: int) -> None:
        """SIGTERM: it drains and ends."""
        scheduler = self.schedulers[n]
        if scheduler is not None and not scheduler.process.is_held:
            self.schedulers[n] = None
            scheduler.stop()
            self._hear(scheduler, listens=False)

    def freeze_scheduler(self, n: int) -> None:
        """SIGSTOP."""
        scheduler = self.schedulers[n]
        if scheduler is not None:
            self.loop.hold(scheduler.process)

    def thaw_scheduler(self, n: int) -> None:
        """SIGCONT."""
        scheduler = self.schedulers[n]
        if scheduler is not None:
            self.loop.release(scheduler.process)

    def deafen(self, n: int, *, seconds: float) -> None:
        """The connection on which a scheduler listens is gone for a time."""
        scheduler = self.schedulers[n]
        if scheduler is None:
            return
        self._hear(scheduler, listens=False)

        def listen_again() -> None:
            if scheduler in self.schedulers:
                self._hear(scheduler, listens=True)
                scheduler.signals.heard(None)

        self.loop.call_later(seconds, listen_again, context=scheduler.process.context)

    def _hear(self, scheduler: SimulatedScheduler, *, listens: bool) -> None:
        scheduler.is_listening = listens
        self.tables.listening = sum(one is not None and one.is_listening for one in self.schedulers)

    def notify(self, payload: str) -> None:
        """A notification on its way to whoever listens."""
        for scheduler in self.schedulers:
            if scheduler is not None and scheduler.is_listening:
                self.loop.call_later(
                    self.random.uniform(0.0002, 0.003),
                    scheduler.signals.heard,
                    payload,
                    context=scheduler.process.context,
                )

    def start_executor(self, n: int) -> None:
        """An executor process starts, if none runs under this number, nor is about to end."""
        former = self.leaving.get(n)
        if self.executors[n] is None and (former is None or former.working.done()):
            self.executors[n] = self.build.executor(f"executor-{n}", self, self.ids)

    def kill_executor(self, n: int, *, is_silent: bool) -> None:
        """SIGKILL; or (`is_silent`) its machine is gone, and nobody says so."""
        executor = self.executors[n]
        if executor is None:
            return
        self.executors[n] = None
        self._bury(executor)
        for stream in self._streams_of(executor):
            if is_silent:
                stream.hold(up=True, down=True)
            else:
                stream.lose_client()

    def stop_executor(self, n: int) -> None:
        """SIGTERM: it drains, takes leave and ends."""
        executor = self.executors[n]
        if executor is not None and not executor.process.is_held:
            self.executors[n] = None
            self.leaving[n] = executor
            executor.stop()
            self.marks["executor left"] += 1

    def freeze_executor(self, n: int) -> None:
        """SIGSTOP."""
        executor = self.executors[n]
        if executor is not None:
            self.loop.hold(executor.process)

    def thaw_executor(self, n: int) -> None:
        """SIGCONT."""
        executor = self.executors[n]
        if executor is not None:
            self.loop.release(executor.process)

    def cut(self, n: int, *, up: bool, down: bool) -> None:
        """An executor's stream lets nothing through, in one direction or both."""
        for stream in self._streams_of(self.executors[n]):
            stream.hold(up=up, down=down)

    def heal(self, n: int) -> None:
        """An executor's stream lets everything through again."""
        for stream in self._streams_of(self.executors[n]):
            stream.let_go()

    def reset(self, n: int) -> None:
        """An executor's stream breaks for both ends."""
        for stream in self._streams_of(self.executors[n]):
            stream.reset()

    @property
    def is_any_leaving(self) -> bool:
        """Whether an executor drains."""
        return any(not one.working.done() for one in self.leaving.values())

    def is_connected(self, n: int) -> bool:
        """Whether an executor has a stream whose hello was answered."""
        executor = self.executors[n]
        return executor is not None and executor.worker.connected.is_set()

    def open_stream(self, executor: SimulatedExecutor) -> SimulatedStream:
        """A stream to some scheduler; it fails at once when there is none."""
        scheduler = self._some_scheduler()
        server = executor.process if scheduler is None else scheduler.process
        stream = SimulatedStream(self.loop, self.random, client=executor.process, server=server)
        if scheduler is None:
            stream.reset()
        else:
            self.streams.append(stream)
            scheduler.take(stream)
        return stream

    def begin_step(self, executor: SimulatedExecutor, context: ToolContext) -> None:
        """A tool is called."""
        try:
            self.watch.effect(context.task_id, context.step_index, executor.boots)
        except Violation as violation:
            self._violated(violation)

    def pause_database(self) -> None:
        """SIGSTOP of all of it."""
        self.loop.hold(self.server.process)

    def resume_database(self) -> None:
        """SIGCONT."""
        self.loop.release(self.server.process)

    def fail(self, of_a_thousand: int) -> None:
        """From now on so many statements are not run, and as many answers get lost."""
        self.server.failures = of_a_thousand

    def _committed(self) -> None:
        try:
            self.watch.commit()
        except Violation as violation:
            self._violated(violation)

    def _violated(self, violation: Violation) -> None:
        if self.violation is None:
            self.violation = violation

    def _some_scheduler(self) -> SimulatedScheduler | None:
        alive = [one for one in self.schedulers if one is not None]
        return self.random.choice(alive) if alive else None

    def close(self) -> None:
        """End every task of the loop, those of dead processes too."""
        self.server.on_effect = lambda: None
        for one in (*self.dead, *self.schedulers, *self.executors, *self.leaving.values()):
            if one is not None:
                self.loop.release(one.process)
        self.loop.close_all()

    def _streams_of(
        self, one: SimulatedScheduler | SimulatedExecutor | None
    ) -> list[SimulatedStream]:
        if one is None:
            return []
        return [s for s in self.streams if one.process in {s.client, s.server}]

    def _bury(self, one: SimulatedScheduler | SimulatedExecutor) -> None:
        """It never runs again; until the end it is kept, so that nothing of it is cleaned up."""
        self.loop.hold(one.process)
        self.dead.append(one)
