"""What one task causes: statements, transactions, notifications, calls, reports."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.metrics import samples
from bench.statements import counted
from bench.workloads import Target, throughput

_CALLS, _REPORTS, _WRITES = "pawl_rpc_total", "pawl_reports_total", "pawl_report_batch_size_count"
_LATE_SECONDS = 0.5
"""What a task causes after its end, metering above all, has happened by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Per three-step task in a closed loop; what nobody's task causes in that time is in it too."""

    clients: int
    statements: float
    transactions: float
    notifications: float
    calls: float
    reports: float
    report_statements: float


def traffic(
    target: Target,
    *,
    clients: int,
    seconds: float,
    owner_dsn: str,
    log_path: Path,
    metrics: Iterable[str],
) -> Traffic:
    """Count while `clients` are at work. `metrics` are the addresses of all processes' metrics."""
    addresses = tuple(metrics)
    before = _metrics(addresses)
    with counted(owner_dsn, log_path=log_path) as count:
        seen = throughput(target, clients=clients, seconds=seconds)
        time.sleep(_LATE_SECONDS)
        said = count()
    after = _metrics(addresses)
    # The warm-up task of each client is counted too.
    tasks = seen.tasks + clients
    calls, reports, writes = ((after[n] - before[n]) / tasks for n in (_CALLS, _REPORTS, _WRITES))
    return Traffic(
        clients=clients,
        statements=said.statements / tasks,
        transactions=said.transactions / tasks,
        notifications=said.notifications / tasks,
        calls=calls,
        reports=reports,
        report_statements=writes,
    )


def _metrics(addresses: Iterable[str]) -> dict[str, float]:
    """Sums over all processes and labels."""
    sums = dict.fromkeys((_CALLS, _REPORTS, _WRITES), 0.0)
    for sample in samples(addresses):
        if sample.name in sums:
            sums[sample.name] += sample.value
    return sums
