"""Ending and holding processes of a running Pawl: those that its ready file names, no others."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.cli.up.leftovers import DATA_DIR_VARIABLE
from libs.cli.up.processes import environment_of, mark_of
from libs.cli.up.ready_file import ReadyFile

POSTGRES = "postgres"


class Processes:
    """The processes of one Pawl, by the names of its ready file: `executor-2`, `postgres`."""

    def __init__(self, data_dir: Path, *, look: Callable[[], ReadyFile | None]) -> None:
        self._data_dir = data_dir
        self._look = look

    def pid(self, name: str) -> int:
        """Its process id now; KeyError when Pawl has no process of this name."""
        ready = self._look()
        if ready is None:
            raise KeyError(f"Pawl does not run, and so does not {name}")
        if name == POSTGRES and ready.postgres.pid is not None:
            return ready.postgres.pid
        for instances in ready.services.values():
            for instance in instances:
                if instance.instance == name:
                    return instance.pid
        raise KeyError(name)

    def kill(self, name: str) -> int:
        """SIGKILL; the process id that it had."""
        return self._send(name, signal.SIGKILL)

    def terminate(self, name: str) -> int:
        """SIGTERM; the process id that it has."""
        return self._send(name, signal.SIGTERM)

    def kill_child_of_postgres(self, pid: int) -> None:
        """SIGKILL one server process of this PostgreSQL."""
        postmaster = self.pid(POSTGRES)
        assert pid in children_of(postmaster), f"{pid} is not of this server"
        os.kill(pid, signal.SIGKILL)

    def is_back(self, name: str, *, after: int) -> bool:
        """Whether another process than `after` serves under this name."""
        try:
            return self.pid(name) != after
        except KeyError:
            return False

    @contextmanager
    def held(self, *names: str) -> Iterator[None]:
        """Keep processes from doing anything during the block; PostgreSQL with all its own."""
        pids = [self._own(name) for name in names]
        if POSTGRES in names:
            pids += children_of(self.pid(POSTGRES))
        try:
            for pid in pids:
                _signal(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in reversed(pids):
                _signal(pid, signal.SIGCONT)

    def _send(self, name: str, number: signal.Signals) -> int:
        pid = self._own(name)
        os.kill(pid, number)
        return pid

    def _own(self, name: str) -> int:
        """The pid, after a look whether the process is really one of this Pawl."""
        pid = self.pid(name)
        if name != POSTGRES:
            owner = environment_of(pid).get(DATA_DIR_VARIABLE)
            assert owner == str(self._data_dir), f"{name} ({pid}) belongs to {owner}"
        return pid


def children_of(pid: int) -> list[int]:
    """The processes whose parent is `pid`."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [one for one in pids if parent_of(one) == pid]


def descendants_of(pid: int) -> list[int]:
    """Its children, theirs, and so on."""
    found: list[int] = []
    for child in children_of(pid):
        found += [child, *descendants_of(child)]
    return found


def parent_of(pid: int) -> int | None:
    """The parent's id; None when the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])


def lives(pid: int) -> bool:
    """Whether a process with this id runs."""
    return mark_of(pid) is not None


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        # A server process whose client has just left.
        return
