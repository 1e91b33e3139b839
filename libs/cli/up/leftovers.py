"""Processes that outlived the `pawl up` that started them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from libs.cli.up.processes import ProcessMark, environment_of

DATA_DIR_VARIABLE = "PAWL_DATA_DIR"
"""Every child is given the data directory under this name; that is how it is recognised."""

GRACE_SECONDS = 3.0
_LOOK_SECONDS = 0.02


async def end_leftovers(processes: Mapping[str, ProcessMark], *, data_dir: Path) -> tuple[str, ...]:
    """End those of `processes` that still run and belong to `data_dir`; return their names.

    They are asked first and killed after 3 s. A process whose start time differs, or that was given
    another data directory (the directory may be a copy), is left alone.
    """
    left = {
        name: mark
        for name, mark in processes.items()
        if mark.lives() and environment_of(mark.pid).get(DATA_DIR_VARIABLE) == str(data_dir)
    }
    for number in (signal.SIGTERM, signal.SIGKILL):
        for mark in left.values():
            _send(mark, number)
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                while _any_lives(left):  # noqa: ASYNC110 - they are not our children
                    await asyncio.sleep(_LOOK_SECONDS)
            break
        except TimeoutError:
            continue
    return tuple(left)


def _any_lives(processes: Mapping[str, ProcessMark]) -> bool:
    return any(mark.lives() for mark in processes.values())


def _send(mark: ProcessMark, number: signal.Signals) -> None:
    if not mark.lives():
        return
    try:
        os.kill(mark.pid, number)
    except ProcessLookupError:
        # It ended between the two lines.
        return
