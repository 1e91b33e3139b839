"""Child processes that cannot outlive their parent."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.process.env import ConfigError

LOG_KEPT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OsUser:
    """A user of the operating system to run as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How to start one child.

    The kernel sends it `death_signal` when this process dies, in whatever way. `env` is its whole
    environment. Without `log_path` its output is dropped. `user` needs root.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    log_path: Path | None = None
    cwd: Path | None = None
    user: OsUser | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL


class Child:
    """A started child. It runs in its own session, so that Ctrl-C reaches its parent only."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process) -> None:
        self.spec = spec
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return await self._process.wait()

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.exit_code is None:
            self._process.kill()

    async def stop(self, *, grace_seconds: float) -> int:
        """Send the stop signal, wait, kill what is still there after `grace_seconds`."""
        if self.exit_code is None:
            self._process.send_signal(self.spec.stop_signal)
        try:
            return await asyncio.wait_for(self._process.wait(), grace_seconds)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


async def start_child(spec: ChildSpec) -> Child:
    """Start `spec`; OSError when the program cannot be executed."""
    log = _open_log(spec.log_path)
    try:
        process = await asyncio.create_subprocess_exec(
            *tied(spec.argv, death_signal=spec.death_signal, user=spec.user),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=spec.cwd,
            env=dict(spec.env),
            start_new_session=True,
        )
    finally:
        os.close(log)
    return Child(spec, process)


def tied(
    argv: tuple[str, ...], *, death_signal: signal.Signals, user: OsUser | None = None
) -> tuple[str, ...]:
    """`argv` behind setpriv, which ties it to its parent's life and drops to `user`."""
    setpriv = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if setpriv is None:
        raise ConfigError("the program setpriv is missing; it comes with the package util-linux")
    dropped: tuple[str, ...] = ()
    if user is not None:
        dropped = ("--reuid", str(user.uid), "--regid", str(user.gid), "--clear-groups")
    name = death_signal.name.removeprefix("SIG")
    return (setpriv, *dropped, "--pdeathsig", name, "--", *argv)


def describe_exit(code: int) -> str:
    """`exit code 2`, or `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def last_log_line(path: Path, *, max_bytes: int = 4096) -> str:
    """The last line of a log that says something; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - max_bytes))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _open_log(path: Path | None) -> int:
    if path is None:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    if path.exists() and path.stat().st_size > LOG_KEPT_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
