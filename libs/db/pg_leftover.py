"""End a PostgreSQL server whose parent died before it, and clear what it left in its directory."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

END_SECONDS = 60.0
_LOOK_SECONDS = 0.02


async def end_leftover(cluster: Path) -> None:
    """Return when no process works in `cluster` any more.

    A postmaster that is still there gets a fast shutdown, which keeps everything committed. Back
    ends without a postmaster end by themselves; only they are waited for. TimeoutError after 60 s.

    The caller holds the lock on the data directory, so whatever works there is nobody else's.
    """
    pid_file = cluster / "postmaster.pid"
    postmaster = _read_pid(pid_file)
    if postmaster is not None and postmaster in _processes_in(cluster):
        os.kill(postmaster, signal.SIGINT)
    async with asyncio.timeout(END_SECONDS):
        while _processes_in(cluster):  # noqa: ASYNC110 - the kernel tells only parents
            await asyncio.sleep(_LOOK_SECONDS)
    # In a container process ids start anew, and the number in the file may by now be anybody's:
    # PostgreSQL would then refuse to start. Nothing works in the directory, so the file is stale.
    pid_file.unlink(missing_ok=True)


def _read_pid(pid_file: Path) -> int | None:
    try:
        first_line = pid_file.read_text(encoding="ascii", errors="replace").partition("\n")[0]
    except FileNotFoundError:
        return None
    return int(first_line) if first_line.isdecimal() else None


def _processes_in(cluster: Path) -> set[int]:
    """The processes that work in the cluster: the postmaster and all its back ends."""
    wanted = cluster.stat()
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and _is_directory_of(int(entry.name), wanted)
    }


def _is_directory_of(pid: int, wanted: os.stat_result) -> bool:
    try:
        found = Path(f"/proc/{pid}/cwd").stat()
    except OSError:
        # It has ended meanwhile, or belongs to another user and so not to us.
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)
