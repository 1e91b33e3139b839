"""Which sandbox the executors of this machine use, chosen once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from libs.cli.up.services import Installation

SETTING = "PAWL_SANDBOX"
MODULE = "services.executor.sandbox_choice"
CHOICE = "sandbox: "
"""Begins the last line of the program that chooses; the name follows."""

NONE = "none"

CHOOSE_SECONDS = 600.0
"""A first start may have to fetch and build an image."""

STOP_SECONDS = 5.0


async def choose_sandbox(installation: Installation, tell: Callable[[str], None]) -> str | None:
    """The name for PAWL_SANDBOX; None when the choice failed, or took longer than ten minutes.

    What the program says on its way goes to `tell`, line by line; its log is sandbox.log.
    """
    if installation.environ.get(SETTING, "").strip() == NONE:
        return NONE
    process = await _start(installation)
    chosen: str | None = None
    try:
        async with asyncio.timeout(CHOOSE_SECONDS):
            assert process.stdout is not None  # noqa: S101 - it is a pipe, as asked above
            async for raw in process.stdout:
                line = raw.decode("utf-8", "replace").rstrip()
                if line.startswith(CHOICE):
                    chosen = line.removeprefix(CHOICE)
                elif line:
                    tell(line)
            await process.wait()
    except TimeoutError:
        tell("no sandbox was found in ten minutes")
    finally:
        await _end(process)
    if process.returncode != 0:
        tell(f"the choice of a sandbox failed ({process.returncode}); log: {_log(installation)}")
        return None
    return chosen


async def _start(installation: Installation) -> asyncio.subprocess.Process:
    with _log(installation).open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *installation.program(MODULE),
            env=installation.common_env("executor"),
            cwd=installation.data_dir.path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )


def _log(installation: Installation) -> Path:
    return installation.data_dir.logs / "sandbox.log"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
