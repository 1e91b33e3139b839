from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = """
import asyncio
from libs.process.env import ConfigError
from libs.process.run import run

async def main(stop):
    {body}

run(main, service="probe")
"""


def program(body: str) -> list[str]:
    return [sys.executable, "-c", _PROGRAM.format(body=body)]


def outcome(body: str) -> tuple[int, str]:
    done = subprocess.run(
        program(body), cwd=_ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    return done.returncode, done.stderr


def test_end_of_main_is_exit_code_0() -> None:
    assert outcome("return None") == (0, "")


def test_failure_is_exit_code_1_and_a_line_in_the_log() -> None:
    code, stderr = outcome("raise RuntimeError('no room')")

    line = json.loads(stderr.splitlines()[-1])
    assert code == 1
    assert line["event"] == "process failed"
    assert line["service"] == "probe"
    assert "RuntimeError: no room" in line["exception"]


def test_bad_settings_are_exit_code_2_and_a_sentence() -> None:
    assert outcome("raise ConfigError('X is not set')") == (2, "probe: X is not set\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_sets_stop(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        *program("print('up', flush=True); await stop.wait()"),
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()

    process.send_signal(number)

    assert await process.wait() == 0
