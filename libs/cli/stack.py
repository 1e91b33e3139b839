"""A whole Pawl for a while: `pawl up` as a child, for the demo, the benchmarks and tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.cli.client import Client, Server
from libs.cli.up import ready_file
from libs.cli.up.data_dir import DataDir
from libs.cli.up.ready_file import ReadyFile
from libs.process.child import tied

READY_SECONDS = 120.0
STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_NOT_INHERITED = ("PAWL_URL", "PAWL_API_KEY", "PAWL_DATA_DIR")


class StackFailed(Exception):  # noqa: N818 - what happened
    """Pawl did not start or did not stop; the message ends with what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running Pawl. `ready_seconds` went by from the start of the process to the ready file."""

    data_dir: Path
    ready: ReadyFile
    ready_seconds: float

    @property
    def server(self) -> Server:
        """Where it is, with the operator's key."""
        return Server(url=self.ready.url, api_key=self.ready.api_key)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name: `up`, each service instance, and postgres unless it is another's."""
        found = {"up": self.ready.pid}
        for instances in self.ready.services.values():
            found |= {instance.instance: instance.pid for instance in instances}
        if self.ready.postgres.pid is not None:
            found["postgres"] = self.ready.postgres.pid
        return found


@contextmanager
def running_stack(
    data_dir: Path, *options: str, environ: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """Run `pawl up --data-dir DATA_DIR OPTIONS…` on a free port, stop it at the end.

    It ends with this process, however that ends. Raises StackFailed.
    """
    data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    output = data_dir / "up.log"
    command = ("-P", "-m", "libs.cli", "up", "--data-dir", str(data_dir), "--port", "0", *options)
    env = {n: v for n, v in (environ or os.environ).items() if n not in _NOT_INHERITED}
    began = time.monotonic()
    with output.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603 - this very program
            tied((sys.executable, *command), death_signal=signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
    try:
        ready = _when_ready(process, DataDir(path=data_dir).ready_file, output)
        yield Stack(data_dir=data_dir, ready=ready, ready_seconds=time.monotonic() - began)
    finally:
        _stop(process, output)


def await_tool(stack: Stack, name: str, *, seconds: float = READY_SECONDS) -> str:
    """Wait until an executor offers a tool, which may come later than `pawl up` is ready: its
    version. Raises StackFailed.
    """
    client = Client(stack.server)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for tool in client.pages("/v1/tools", {"limit": 200}):
            if tool["name"] == name and tool["available"]:
                return str(tool["version"])
        time.sleep(_LOOK_SECONDS)
    raise StackFailed(f"no executor offers {name} after {seconds:g} s")


def _when_ready(process: subprocess.Popen[bytes], path: Path, output: Path) -> ReadyFile:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StackFailed(f"pawl up ended at once:\n{_said(output)}")
        ready = ready_file.read(path)
        if ready is not None:
            return ready
        time.sleep(_LOOK_SECONDS)
    raise StackFailed(f"pawl up is not ready after {READY_SECONDS:.0f} s:\n{_said(output)}")


def _stop(process: subprocess.Popen[bytes], output: Path) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        code = process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise StackFailed(
            f"pawl up did not stop within {STOP_SECONDS:.0f} s:\n{_said(output)}"
        ) from error
    if code != 0 and sys.exc_info()[0] is None:
        raise StackFailed(f"pawl up ended with exit code {code}:\n{_said(output)}")


def _said(output: Path) -> str:
    return output.read_text(encoding="utf-8", errors="replace")[-4000:].strip()
