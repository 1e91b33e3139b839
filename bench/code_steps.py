"""Steps of code through the whole engine, in each sandbox that this machine has.

Each round starts one Pawl per sandbox, in turn.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.measure import Latency, latency_of
from bench.metrics import addresses_of, total
from bench.workloads import (
    Connection,
    Target,
    Throughput,
    code_plan,
    math_plan,
    require_success,
    throughput,
    timed,
)
from libs.cli.stack import Stack, await_tool, running_stack
from libs.core.sandboxes import SANDBOXES
from libs.process.env import Env
from services.executor.sandbox.docker import DockerOwner
from services.executor.sandbox.model import SandboxUnavailable
from services.executor.sandbox_choice import MONTY, SandboxOpener, read_sandbox

GUESTS = 4
"""How many guests wait ready, in `pawl up` as it comes."""
CLIENTS = (4, 16)
BURST = 12
_REFILL_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_CALM_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSize:
    """How much is measured: rounds of so many single steps and bursts, and of so long loads."""

    rounds: int
    steps: int
    bursts: int
    load_seconds: float


FULL = CodeSize(rounds=3, steps=40, bursts=5, load_seconds=5.0)
QUICK = CodeSize(rounds=1, steps=20, bursts=3, load_seconds=3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeLoad:
    """A closed loop of one-step tasks. `cold` of them, between 0 and 1, found no guest waiting."""

    throughput: Throughput
    cold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRound:
    """What one round saw of one sandbox. Latencies are of whole tasks, but for `step`, which is the
    time from the beginning to the end of the step in the trace.

    `calm`: one after another, each when all guests wait again; `math` is the same plan with a step
    of that, each between two of these. `in_a_row`: each at once when the one before has ended.
    `past_pool`: the slowest of one more than guests wait, together; `burst`: three times as many.
    `start_ms` is the mean of what guests took to be ready in all of the round; None where none are
    made ahead, as `cold` is 0 there.
    """

    first_ms: float
    calm: Latency
    step: Latency
    math: Latency
    in_a_row: Latency
    in_a_row_cold: float
    loads: tuple[CodeLoad, ...]
    past_pool: Latency
    burst: Latency
    start_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFigures:
    """The rounds of one sandbox; none, and why, where this machine does not have it."""

    backend: str
    version: str
    missing: str
    rounds: tuple[CodeRound, ...]


def code_steps(
    size: CodeSize, *, say: Callable[[str], None], backends: Sequence[str] = SANDBOXES
) -> tuple[CodeFigures, ...]:
    """Measure these sandboxes; the missing ones are named too."""
    missing = {name: asyncio.run(_why_missing(name)) for name in backends}
    rounds: dict[str, list[CodeRound]] = {name: [] for name in backends}
    versions = dict.fromkeys(backends, "")
    for turn in range(size.rounds):
        for name in backends if turn % 2 == 0 else backends[::-1]:
            if missing[name]:
                continue
            say(f"code in {name}, round {turn + 1} of {size.rounds}")
            versions[name], seen = _round(name, size)
            rounds[name].append(seen)
    return tuple(
        CodeFigures(
            backend=name,
            version=versions[name],
            missing=missing[name],
            rounds=tuple(rounds[name]),
        )
        for name in backends
    )


async def _why_missing(backend: str) -> str:
    """Why this machine does not have a sandbox, "" when it has. Builds the image if need be."""
    opener = SandboxOpener(
        settings=read_sandbox(Env({**os.environ, "PAWL_SANDBOX": backend})),
        owner=DockerOwner(installation_id=f"bench-{os.getpid()}", executor_id="bench"),
        boot_id=lambda: "bench",
    )
    try:
        sandbox = await opener.open()
    except SandboxUnavailable as error:
        return str(error)
    await sandbox.close()
    return ""


def _round(backend: str, size: CodeSize) -> tuple[str, CodeRound]:
    """The version of the tool, and what was seen of it."""
    environ = {**os.environ, "PAWL_SANDBOX": backend, "PAWL_SANDBOX_GUESTS": str(GUESTS)}
    with (
        tempfile.TemporaryDirectory(prefix="pawl-bench-") as name,
        running_stack(Path(name) / "data", environ=environ) as stack,
    ):
        version = await_tool(stack, "python_sandbox")
        return version, _Measuring(stack, has_pool=backend != MONTY).round(size)


class _Measuring:
    """One Pawl that was just started."""

    def __init__(self, stack: Stack, *, has_pool: bool) -> None:
        self._target = Target(url=stack.ready.url, api_key=stack.ready.api_key)
        self._connection = Connection(self._target)
        self._addresses = addresses_of(stack)
        self._has_pool = has_pool
        self._code, self._math = code_plan(), math_plan(1)

    def round(self, size: CodeSize) -> CodeRound:
        first = timed(self._connection, self._code)
        for _ in range(5):
            timed(self._connection, self._math)
        calm, step, math = self._calm(size.steps)
        row, row_cold = self._in_a_row(size.steps)
        loads = tuple(self._load(clients, seconds=size.load_seconds) for clients in CLIENTS)
        past = [max(self._together(GUESTS + 1)) for _ in range(size.bursts)]
        burst = [one for _ in range(size.bursts) for one in self._together(BURST)]
        return CodeRound(
            first_ms=first * 1000,
            calm=calm,
            step=step,
            math=math,
            in_a_row=row,
            in_a_row_cold=row_cold,
            loads=loads,
            past_pool=latency_of(past),
            burst=latency_of(burst),
            start_ms=self._start_ms(),
        )

    def _calm(self, count: int) -> tuple[Latency, Latency, Latency]:
        """Tasks of a code step, the steps alone, and tasks of a math step in between."""
        code, math, ids = [], [], []
        for _ in range(count):
            self._until_full()
            began = time.perf_counter()
            done = self._connection.execute(self._code, wait=True)
            code.append(time.perf_counter() - began)
            require_success(done)
            ids.append(done["task_id"])
            self._until_full()
            math.append(timed(self._connection, self._math))
        steps = [_step_seconds(self._connection.trace(each)) for each in ids]
        return latency_of(code), latency_of(steps), latency_of(math)

    def _in_a_row(self, count: int) -> tuple[Latency, float]:
        self._until_full()
        before = self._cold_runs()
        seen = [timed(self._connection, self._code) for _ in range(count)]
        return latency_of(seen), (self._cold_runs() - before) / count

    def _load(self, clients: int, *, seconds: float) -> CodeLoad:
        self._until_full()
        before = self._cold_runs()
        seen = throughput(self._target, clients=clients, seconds=seconds, body=self._code)
        # The warm-up task of each client is among the runs too.
        cold = (self._cold_runs() - before) / (seen.tasks + clients)
        return CodeLoad(throughput=seen, cold=cold)

    def _together(self, count: int) -> list[float]:
        """So many tasks submitted at once when all guests wait; seconds of each."""
        self._until_full()
        connections = [Connection(self._target) for _ in range(count)]
        for connection in connections:
            timed(connection, self._math)
        seen: list[float] = []
        barrier = threading.Barrier(count)

        def ask(connection: Connection) -> None:
            barrier.wait()
            seen.append(timed(connection, self._code))

        threads = [threading.Thread(target=ask, args=(each,)) for each in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(seen) != count:
            raise RuntimeError(f"{count - len(seen)} of {count} tasks did not succeed")
        return seen

    def _until_full(self) -> None:
        """Until all guests wait, and a little longer."""
        deadline = time.monotonic() + _REFILL_SECONDS
        while self._has_pool and self._idle_guests() < GUESTS:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{GUESTS} guests are not ready after {_REFILL_SECONDS:g} s")
            time.sleep(_LOOK_SECONDS)
        time.sleep(_CALM_SECONDS)

    def _idle_guests(self) -> float:
        return total(self._addresses, "pawl_sandbox_idle_guests")

    def _cold_runs(self) -> float:
        return total(self._addresses, "pawl_sandbox_runs_total", guest="cold")

    def _start_ms(self) -> float | None:
        count = total(self._addresses, "pawl_sandbox_start_seconds_count")
        whole = total(self._addresses, "pawl_sandbox_start_seconds_sum")
        return whole / count * 1000 if count else None


def _step_seconds(trace: dict[str, Any]) -> float:
    (step,) = trace["steps"]
    began, ended = (datetime.fromisoformat(step[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()
