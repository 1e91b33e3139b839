"""A `pawl up` under test: started as a process, watched by its ready file and its console."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from libs.cli.up import ready_file
from libs.cli.up.ready_file import ReadyFile
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
FAKE = (sys.executable, "-P", "-m", "tests.e2e.fake_up")
REAL = (sys.executable, "-P", "-m", "libs.cli", "up")


@dataclass(kw_only=True)
class Up:
    """One run. `process` is the parent; it does not depend on this one to be ended."""

    data_dir: Path
    process: subprocess.Popen[bytes]
    console_path: Path
    pids: set[int] = field(default_factory=set)

    @property
    def console(self) -> str:
        """What it has said so far."""
        return self.console_path.read_text()

    def ready_now(self) -> ReadyFile | None:
        """The ready file, if all is ready."""
        return ready_file.read(self.data_dir / "ready.json")

    async def ready(self, *, timeout: float = 60) -> ReadyFile:
        """Wait for the ready file, or for the end of the process, which is an error."""
        await eventually(
            lambda: self.ready_now() or self.process.poll() is not None, timeout=timeout
        )
        found = self.ready_now()
        assert found is not None, self.console
        self.pids |= all_pids(found)
        return found

    async def ended(self, *, timeout: float = 30) -> int:
        """Wait for its end; return the exit code."""
        await eventually(lambda: self.process.poll() is not None, timeout=timeout)
        return self.process.returncode

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end."""
        self.process.send_signal(number)
        return await self.ended()


def all_pids(ready: ReadyFile) -> set[int]:
    """Every process that a ready file names, the parent apart."""
    services = {one.pid for instances in ready.services.values() for one in instances}
    return services | ({ready.postgres.pid} if ready.postgres.pid else set())


def start_up(
    data_dir: Path,
    *options: str,
    program: tuple[str, ...] = FAKE,
    env: dict[str, str] | None = None,
) -> Up:
    """Start `pawl up` on `data_dir`; the caller ends it."""
    console_path = data_dir.with_name(f"{data_dir.name}.console")
    inherited = {name: value for name, value in os.environ.items() if "PAWL" not in name}
    with console_path.open("wb") as console:
        process = subprocess.Popen(
            [*program, "--data-dir", str(data_dir), *options],
            env={**inherited, "PYTHONPATH": str(ROOT), "PAWL_SANDBOX": "none", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    return Up(data_dir=data_dir, process=process, console_path=console_path)


async def end(up: Up) -> None:
    """Make sure that nothing of `up` is left after a test, whatever became of it."""
    if up.process.poll() is None:
        up.process.send_signal(signal.SIGTERM)
        try:
            await up.ended()
        except AssertionError:
            up.process.kill()
            await asyncio.to_thread(up.process.wait)
