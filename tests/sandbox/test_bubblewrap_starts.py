"""Guests that are given up while bubblewrap starts them: nothing of them is left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.executor.sandbox.bubblewrap import BubblewrapBackend
from tests.waiting import eventually

SECONDS = 10
# bwrap ties its child to itself only once the child runs: killed before, it leaves it behind.
PROGRAM = """#!/bin/sh
/bin/sleep 300 &
echo $! > {child}
wait
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A bwrap whose child goes on without it; the child's process id is in the file beside it."""
    program = tmp_path / "bwrap"
    program.write_text(PROGRAM.format(child=tmp_path / "child"))
    program.chmod(0o755)
    # Guests of root run as nobody.
    tmp_path.chmod(0o777)
    for place in tmp_path.parents[:2]:
        place.chmod(0o711)
    return program


async def test_a_start_that_is_given_up_leaves_no_child_of_bwrap(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = program.with_name("child")
    backend = BubblewrapBackend()
    monkeypatch.setattr(backend, "_program", str(program))

    start = asyncio.create_task(backend.start("boot"))
    await eventually(lambda: child.exists() and child.read_text().strip())
    start.cancel()
    async with asyncio.timeout(SECONDS):
        with pytest.raises(asyncio.CancelledError):
            await start

    await eventually(lambda: not _runs(int(child.read_text())))


def _runs(process_id: int) -> bool:
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
