"""`python -m bench.lists`: lists of a tenant with very many tasks, and batches.

Prints a table and one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

import psycopg
import typer

from bench.many_tasks import AGENTS, Filled, fill, tidy
from bench.measure import Latency, latency_of
from bench.report import print_rows, rounded, this_machine
from bench.workloads import Connection, Target
from libs.cli.stack import Stack, running_stack
from libs.core.ids import new_id
from libs.db.embedded import SUPERUSER
from libs.db.roles import with_user

OTHER_TENANTS = 10
PAGES = (50, 200)
TARGET = "p99 < 300 ms"
_TASKS = "/api/v1/tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of one list, or of one size of batch."""

    what: str
    rows: int
    latency: Latency


def main(
    *,
    tasks: Annotated[int, typer.Option(min=1000, help="Of the tenant that lists.")] = 100_000,
    count: Annotated[int, typer.Option(min=10, help="Requests per figure.")] = 100,
) -> None:
    """Measure lists and batches through REST, the tenant beside ten with a tenth of its tasks."""
    environ = {name: v for name, v in os.environ.items() if name != "PAWL_DATABASE_URL"}
    with (
        tempfile.TemporaryDirectory(prefix="pawl-bench-") as name,
        running_stack(Path(name) / "data", environ=environ) as stack,
    ):
        seen = _measure(stack, tasks=tasks, count=count)
    machine = this_machine("embedded")
    print_rows(f"Lists of a tenant with {tasks} tasks", [_row(one) for one in seen])
    line = {"machine": asdict(machine), "tasks": tasks, "lists": [asdict(one) for one in seen]}
    print(json.dumps(rounded(line), separators=(",", ":")))


def _measure(stack: Stack, *, tasks: int, count: int) -> list[Seen]:
    owner_dsn = with_user(stack.ready.postgres.dsn, user=SUPERUSER)
    _say(f"writing {tasks} tasks, and as many of {OTHER_TENANTS} other tenants")
    filled = fill(owner_dsn, tenant_id=_tenant_of(stack), count=tasks)
    for _ in range(OTHER_TENANTS):
        fill(owner_dsn, tenant_id=new_id(), count=tasks // OTHER_TENANTS)
    tidy(owner_dsn)
    connection = Connection(Target(url=stack.ready.url, api_key=stack.ready.api_key))
    seen = []
    for limit in PAGES:
        for name, query in _filters(filled).items():
            _say(f"{name}, {limit} per page")
            path = f"{_TASKS}?{urlencode({**query, 'limit': limit})}"
            rows = len(connection.get(path)["data"])
            latency = _repeated(lambda path=path: connection.get(path), count)  # type: ignore[misc]
            seen.append(Seen(what=f"{name}, {limit} per page", rows=rows, latency=latency))
    seen.append(_walked(connection, pages=count))
    seen += [_batches(connection, size=size, count=max(10, count // 5)) for size in (1, 10, 100)]
    return seen


def _filters(filled: Filled) -> dict[str, dict[str, str]]:
    """A name → a query, common and rare ones."""
    now = datetime.now(UTC)
    month_ago, hour = (now - timedelta(days=29)).isoformat(), timedelta(hours=1)
    half, rare = str(AGENTS[0]), str(AGENTS[2])
    return {
        "all": {},
        "running (few)": {"status": "running"},
        "created (few)": {"status": "created"},
        "queued": {"status": "queued"},
        "failed": {"status": "failed"},
        "four statuses": {"status": "created,planned,queued,running"},
        "mode test": {"mode": "test"},
        "mode test, running (none)": {"mode": "test", "status": "running"},
        "the oldest": {"created_before": month_ago},
        "one hour": {
            "created_from": (now - timedelta(days=9)).isoformat(),
            "created_before": (now - timedelta(days=9) + hour).isoformat(),
        },
        "agent of half": {"agent_id": half},
        "agent of half, running (few)": {"agent_id": half, "status": "running"},
        "agent of half, mode test (none)": {"agent_id": half, "mode": "test"},
        "agent of few": {"agent_id": rare},
        "agent of none": {"agent_id": str(AGENTS[3])},
        "replays of one": {"replay_of_task_id": str(filled.replayed_id)},
        "replays of one, running (none)": {
            "replay_of_task_id": str(filled.replayed_id),
            "status": "running",
        },
        "replays of an unknown task": {"replay_of_task_id": str(new_id())},
    }


def _walked(connection: Connection, *, pages: int) -> Seen:
    """From the newest page by page, so that the last ones are far down."""
    took, rows, cursor = [], 0, None
    for _ in range(pages):
        begin = time.perf_counter()
        page = connection.get(f"{_TASKS}?limit=200" + (f"&cursor={cursor}" if cursor else ""))
        took.append(time.perf_counter() - begin)
        rows, cursor = rows + len(page["data"]), page["next_cursor"]
        if cursor is None:
            break
    return Seen(what="page after page, 200 per page", rows=rows, latency=latency_of(took))


def _batches(connection: Connection, *, size: int, count: int) -> Seen:
    one = {"task_definition": {"expression": "1+1"}}
    body = json.dumps({"tasks": [one] * size}).encode()
    latency = _repeated(lambda: connection.post(f"{_TASKS}/batch", body), count)
    return Seen(what=f"batch of {size}", rows=size, latency=latency)


def _repeated(act: Callable[[], object], count: int) -> Latency:
    took = []
    for _ in range(count):
        begin = time.perf_counter()
        act()
        took.append(time.perf_counter() - begin)
    return latency_of(took)


def _tenant_of(stack: Stack) -> UUID:
    """The tenant of the key in the ready file: it has just begun, and is the only one."""
    with psycopg.connect(stack.ready.postgres.dsn) as inspector:
        (row,) = inspector.execute("SELECT id FROM auth.tenants").fetchall()
    return UUID(str(row[0]))


def _row(seen: Seen) -> tuple[str, str, str]:
    latency = seen.latency
    said = f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms, {seen.rows} tasks"
    return seen.what, said, "" if seen.what.startswith("batch") else TARGET


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
