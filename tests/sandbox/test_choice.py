"""The program that chooses a sandbox for `pawl up`: it ends well, whatever it has tried."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("pydantic_monty", reason="the Python package pydantic-monty is missing")

PROGRAM = "services.executor.sandbox_choice"
AT_ONCE = 4
TIMES = 6


async def test_every_choice_of_monty_ends_well(tmp_path: Path) -> None:
    """One of seven aborted while the interpreter ended, on a busy machine."""
    keys = tmp_path / "public_keys.json"
    keys.write_text("{}")
    environ = os.environ | {"PAWL_SANDBOX": "monty", "PAWL_PUBLIC_KEYS_FILE": str(keys)}

    async def choose() -> set[tuple[int | None, bytes]]:
        return {await _run(environ) for _ in range(TIMES)}

    said = await asyncio.gather(*(choose() for _ in range(AT_ONCE)))

    assert set().union(*said) == {(0, b"sandbox: monty\n")}


async def _run(environ: dict[str, str]) -> tuple[int | None, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", PROGRAM, env=environ, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return process.returncode, said
