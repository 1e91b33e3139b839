"""`python -m bench`: starts Pawl on its own, measures it, prints a table and one line of JSON."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from bench import code_steps
from bench.code_steps import CodeSize
from bench.metrics import addresses_of
from bench.pgbench import measure_floor
from bench.report import Figures, Load, Workloads, json_line, print_table, this_machine
from bench.resources import cpu_seconds_of, idle_queries_per_second, memory_of
from bench.sustained import Sustained, sustained
from bench.traffic import Traffic, traffic
from bench.workloads import (
    Target,
    create_latency,
    end_to_end,
    per_step,
    throughput,
)
from libs.cli.stack import Stack, running_stack
from libs.db.embedded import SUPERUSER
from libs.db.roles import with_user

CLIENTS = (1, 8, 32, 64)
COUNTED_CLIENTS = (1, 32)
RATE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How long each measurement takes."""

    code: CodeSize
    creates: int
    chains: int
    tasks: int
    load_seconds: float
    sustained_seconds: float
    floor_seconds: int
    idle_seconds: float


FULL = Size(
    code=code_steps.FULL,
    creates=500,
    chains=20,
    tasks=300,
    load_seconds=15.0,
    sustained_seconds=60.0,
    floor_seconds=5,
    idle_seconds=30.0,
)
QUICK = Size(
    code=code_steps.QUICK,
    creates=100,
    chains=5,
    tasks=50,
    load_seconds=3.0,
    sustained_seconds=5.0,
    floor_seconds=2,
    idle_seconds=15.0,
)


def main(
    *,
    quick: Annotated[bool, typer.Option(help="Two minutes instead of ten.")] = False,
    rate: Annotated[
        float, typer.Option(help="Tasks per second that arrive in the open loop.")
    ] = RATE,
    write: Annotated[
        Path | None, typer.Option(help="Also append the line of JSON to this file.")
    ] = None,
) -> None:
    """Measure Pawl on this machine. PAWL_DATABASE_URL measures it on another PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="pawl-bench-") as name:
        size = QUICK if quick else FULL
        figures = measure(Path(name) / "data", size, rate=rate, quick=quick)
    figures = replace(figures, code=code_steps.code_steps(size.code, say=_say))
    print_table(figures)
    line = json_line(figures)
    print(line)
    if write is not None:
        with write.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def measure(data_dir: Path, size: Size, *, rate: float, quick: bool) -> Figures:
    """Start Pawl twice (the second start is a warm one), and measure the second."""
    with running_stack(data_dir) as stack:
        first_ready = stack.ready_seconds
    with running_stack(data_dir) as stack:
        before = memory_of(stack.pids)
        target = Target(url=stack.ready.url, api_key=stack.ready.api_key)
        workloads = _workloads(target, stack.pids, size)
        steady, steady_cpu = _sustained(stack, target, rate=rate, seconds=size.sustained_seconds)
        _say("statements and calls")
        counts = _traffic(stack, target, size)
        _say("pgbench")
        floor = measure_floor(_owner_dsn(stack), seconds=size.floor_seconds)
        after = memory_of(stack.pids)
        _say("idle")
        dsn = stack.ready.postgres.dsn
        idle = _idle(stack, seconds=size.idle_seconds)
        return Figures(
            machine=this_machine(_postgres_version(dsn)),
            quick=quick,
            first_ready_seconds=first_ready,
            ready_seconds=stack.ready_seconds,
            workloads=workloads,
            sustained=steady,
            sustained_cpu_ms_per_task=steady_cpu,
            traffic=counts,
            floor=floor,
            memory_before=before,
            memory_after=after,
            idle_queries_per_second=idle,
        )


def _workloads(target: Target, pids: Mapping[str, int], size: Size) -> Workloads:
    _say("warming up")
    end_to_end(target, count=20)
    _say("three steps end to end")
    whole = end_to_end(target, count=size.tasks)
    _say("forty steps")
    chain = per_step(target, count=size.chains)
    _say("create")
    calm = create_latency(target, count=size.creates, calm=True)
    busy = create_latency(target, count=size.creates, calm=False)
    return Workloads(
        create_calm=calm,
        create_busy=busy,
        per_step=chain,
        end_to_end=whole,
        loads=tuple(_load(target, pids, clients, size) for clients in CLIENTS),
    )


def _load(target: Target, pids: Mapping[str, int], clients: int, size: Size) -> Load:
    _say(f"{clients} clients")
    before = cpu_seconds_of(pids)
    seen = throughput(target, clients=clients, seconds=size.load_seconds)
    after = cpu_seconds_of(pids)
    # The warm-up task of each client is in the CPU time too.
    tasks = seen.tasks + clients
    return Load(throughput=seen, cpu_ms_per_task=_per_task(before, after, tasks=tasks))


def _sustained(
    stack: Stack, target: Target, *, rate: float, seconds: float
) -> tuple[Sustained, dict[str, float]]:
    _say(f"{rate:g} tasks per second")
    before = cpu_seconds_of(stack.pids)
    seen = sustained(target, rate=rate, seconds=seconds, dsn=stack.ready.postgres.dsn)
    after = cpu_seconds_of(stack.pids)
    return seen, _per_task(before, after, tasks=seen.accepted)


def _per_task(
    before: Mapping[str, float], after: Mapping[str, float], *, tasks: int
) -> dict[str, float]:
    return {name: (after[name] - before[name]) / tasks * 1000 for name in before}


def _traffic(stack: Stack, target: Target, size: Size) -> tuple[Traffic, ...]:
    if stack.ready.postgres.pid is None:
        return ()
    return tuple(
        traffic(
            target,
            clients=clients,
            seconds=min(5.0, size.load_seconds),
            owner_dsn=_owner_dsn(stack),
            log_path=_log_path(stack),
            metrics=addresses_of(stack),
        )
        for clients in COUNTED_CLIENTS
    )


def _idle(stack: Stack, *, seconds: float) -> float | None:
    if stack.ready.postgres.pid is None:
        return None
    return idle_queries_per_second(_owner_dsn(stack), log_path=_log_path(stack), seconds=seconds)


def _log_path(stack: Stack) -> Path:
    return stack.data_dir / "logs" / "postgres.log"


def _owner_dsn(stack: Stack) -> str:
    given = os.environ.get("PAWL_DATABASE_URL", "").strip()
    return given or with_user(stack.ready.postgres.dsn, user=SUPERUSER)


def _postgres_version(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        version = connection.info.server_version
    return f"{version // 10000}.{version % 10000}"


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
