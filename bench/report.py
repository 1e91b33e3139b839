"""The figures of one run as a table and as one line of JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.code_report import code_rows
from bench.code_steps import CodeFigures
from bench.measure import Latency
from bench.pgbench import Floor
from bench.resources import Memory
from bench.sustained import Sustained
from bench.traffic import Traffic
from bench.workloads import Throughput

FULL_LOAD_CLIENTS = 32
"""From so many clients on the target of the throughput holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where it was measured."""

    commit: str
    python: str
    postgres: str
    kernel: str
    cpu: str
    cores: int
    memory_gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Throughput at some clients, and the CPU milliseconds that each process spent per task."""

    throughput: Throughput
    cpu_ms_per_task: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workloads:
    """What was seen through REST."""

    create_calm: Latency
    create_busy: Latency
    per_step: Latency
    end_to_end: Latency
    loads: tuple[Load, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that was measured in one run."""

    machine: Machine
    quick: bool
    first_ready_seconds: float
    ready_seconds: float
    workloads: Workloads
    sustained: Sustained
    sustained_cpu_ms_per_task: Mapping[str, float]
    traffic: tuple[Traffic, ...]
    floor: Floor
    memory_before: Memory
    memory_after: Memory
    idle_queries_per_second: float | None
    code: tuple[CodeFigures, ...] = ()


def this_machine(postgres: str) -> Machine:
    """Commit, versions and hardware; "unknown" where it cannot be said."""
    return Machine(
        commit=_commit(),
        python=platform.python_version(),
        postgres=postgres,
        kernel=platform.release(),
        cpu=_first("/proc/cpuinfo", "model name"),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(int(_first("/proc/meminfo", "MemTotal").split()[0] or 0) / 2**20, 1),
    )


def print_table(figures: Figures) -> None:
    """The table for people, with the design's targets beside the figures."""
    console = print_rows("Pawl", _rows(figures))
    machine = figures.machine
    console.print(
        f"commit {machine.commit}, {machine.cores} cores ({machine.cpu}), "
        f"Python {machine.python}, PostgreSQL {machine.postgres}, {figures.floor.program}",
        soft_wrap=True,
        highlight=False,
    )


def print_rows(title: str, rows: Iterable[tuple[str, str, str]]) -> Console:
    """Print what, figure and target; where it was printed."""
    table = Table(title=title, title_justify="left", header_style="dim")
    for column in ("what", "figure", "target"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(table)
    return console


def json_line(figures: Figures) -> str:
    """All figures on one line, rounded."""
    return json.dumps(rounded(asdict(figures)), separators=(",", ":"))


def _rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    floor, seen = figures.floor, figures.workloads
    yield "create acknowledged, calm, p50 / p99", _pair(seen.create_calm), "≤ 5 ms p50"
    yield "create acknowledged, tasks running, p50 / p99", _pair(seen.create_busy), ""
    yield "per step, 40 math steps, p50 / p99", _pair(seen.per_step), "≤ 2 ms p50"
    yield "3-step task end to end, p50 / p99", _pair(seen.end_to_end), "≤ 12 ms p50"
    for load in seen.loads:
        one = load.throughput
        target = "≥ 300/s" if one.clients >= FULL_LOAD_CLIENTS else ""
        rate = f"{one.per_second:.0f}/s, {_pair(one.latency)}"
        yield f"3-step tasks, {one.clients} clients", rate, target
        yield "  CPU ms per task", _cpu(load.cpu_ms_per_task), ""
    yield from _sustained_rows(figures.sustained, figures.sustained_cpu_ms_per_task)
    for counts in figures.traffic:
        words = (
            f"{counts.statements:.1f} statements in {counts.transactions:.1f} transactions, "
            f"{counts.notifications:.1f} NOTIFY; {counts.calls:.1f} calls, {counts.reports:.1f} "
            f"reports in {counts.report_statements:.1f} statements"
        )
        yield f"per 3-step task, {counts.clients} clients", words, ""
    yield (
        "pgbench: insert, 1 / 16 clients; select 1",
        f"{floor.insert_1_client:.0f} / {floor.insert_16_clients:.0f}; {floor.select_1_client:.0f}",
        "",
    )
    best = max(load.throughput.per_second for load in seen.loads)
    yield "tasks per 1,000 inserts (16 clients)", f"{best / floor.insert_16_clients * 1000:.1f}", ""
    yield (
        "start to ready, first / warm",
        f"{figures.first_ready_seconds:.1f} / {figures.ready_seconds:.1f} s",
        "≤ 6 s",
    )
    for name, memory in (("fresh", figures.memory_before), ("after", figures.memory_after)):
        words = f"{memory.pss_mib:.0f} MiB PSS, {memory.rss_mib:.0f} MiB RSS"
        yield f"memory of all processes, {name}", words, "≤ 700 MB"
    idle = figures.idle_queries_per_second
    words = "not measured on a server of somebody else" if idle is None else f"{idle:.1f}"
    yield "idle, statements/s", words, "< 5"
    yield from code_rows(figures.code)


def _sustained_rows(
    one: Sustained, cpu_ms_per_task: Mapping[str, float]
) -> Iterator[tuple[str, str, str]]:
    yield (
        f"{one.asked_per_second:.0f} 3-step tasks/s for {one.seconds:.0f} s, accepted",
        f"{one.accepted_per_second:.0f}/s, all succeeded",
        "≥ 300/s",
    )
    yield "  create acknowledged, from when it was due", _pair(one.create), "≤ 250 ms p99"
    yield "  end to end by the database's clock", _pair(one.end_to_end), ""
    yield (
        "  backlog when the last was accepted",
        f"{one.backlog} tasks, worked off in {one.drain_seconds:.1f} s",
        "",
    )
    yield "  CPU ms per task", _cpu(cpu_ms_per_task), ""


def _cpu(by_name: Mapping[str, float]) -> str:
    parts = ", ".join(
        f"{name} {ms:.1f}" for name, ms in sorted(by_name.items(), key=lambda i: -i[1]) if ms >= 0.1
    )
    return f"{sum(by_name.values()):.1f}: {parts}"


def _pair(latency: Latency) -> str:
    return f"{latency.p50_ms:.2f} / {latency.p99_ms:.2f} ms"


def rounded(value: object) -> object:
    """JSON with its numbers to three decimals."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _commit() -> str:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _first(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
