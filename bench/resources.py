"""What a running Pawl takes while nobody asks for anything: memory and queries."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.statements import counted

SETTLE_SECONDS = 6.0
"""What the last task set going has come to rest by then."""

_MIB = 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """MiB of all processes. PSS shares pages among their users, RSS counts them for each."""

    pss_mib: float
    rss_mib: float
    processes: Mapping[str, float]


def memory_of(pids: Mapping[str, int]) -> Memory:
    """Memory of these processes and all their descendants; `processes` is PSS by name."""
    children = _children()
    pss: dict[str, float] = {}
    rss = 0.0
    counted: set[int] = set()
    for name, pid in sorted(pids.items(), key=lambda item: item[0] == "up"):
        family = [one for one in _family(pid, children) if one not in counted]
        counted.update(family)
        sizes = [_sizes(one) for one in family]
        pss[name] = sum(size[0] for size in sizes)
        rss += sum(size[1] for size in sizes)
    return Memory(pss_mib=sum(pss.values()), rss_mib=rss, processes=pss)


def cpu_seconds_of(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds so far, by name, of these processes and all their living descendants."""
    children = _children()
    ticks = os.sysconf("SC_CLK_TCK")
    spent: dict[str, float] = {}
    for name, pid in pids.items():
        family = [pid] if name == "up" else _family(pid, children)
        spent[name] = sum(_cpu_ticks(one) for one in family) / ticks
    return spent


def idle_queries_per_second(owner_dsn: str, *, log_path: Path, seconds: float) -> float:
    """Statements of all sessions per second, BEGIN and COMMIT included."""
    time.sleep(SETTLE_SECONDS)
    with counted(owner_dsn, log_path=log_path) as count:
        time.sleep(seconds)
        seen = count()
    return seen.statements / seen.seconds


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found.setdefault(int(fields[1]), []).append(int(status.parent.name))
    return found


def _family(pid: int, children: Mapping[int, list[int]]) -> list[int]:
    return [pid, *(one for child in children.get(pid, []) for one in _family(child, children))]


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(ticks) for ticks in fields[11:15])


def _sizes(pid: int) -> tuple[float, float]:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    kib = {
        line.split(":")[0]: int(line.split()[1])
        for line in text.splitlines()
        if line.startswith(("Pss:", "Rss:"))
    }
    return kib.get("Pss", 0) / _MIB, kib.get("Rss", 0) / _MIB
