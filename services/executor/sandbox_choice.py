"""Which sandbox runs code steps here: the one that is named, or the first that works.

`python -m services.executor.sandbox_choice` makes the choice ahead of all executors of a machine.
It says how that goes in lines for people; the last is `sandbox: ` and the name, or `none`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from libs.core.ids import new_id
from libs.core.sandboxes import SANDBOXES
from libs.process.env import EXIT_BAD_CONFIG, EXIT_STOPPED, ConfigError, Env
from libs.process.logs import configure_logs
from libs.process.run import leave_at_once
from services.executor.sandbox.bubblewrap import BubblewrapBackend
from services.executor.sandbox.docker import DockerBackend, DockerOwner
from services.executor.sandbox.docker_address import read_engine_address
from services.executor.sandbox.docker_engine import Engine, Progress
from services.executor.sandbox.installation import installation_of
from services.executor.sandbox.model import Backend, Sandbox, SandboxUnavailable
from services.executor.sandbox.monty import MontySandbox
from services.executor.sandbox.pool import PooledSandbox, PoolSize

AUTO, NONE, MONTY = "auto", "none", "monty"
CHOICES = (AUTO, *SANDBOXES, NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """`choice` is one of CHOICES. `engine` is where a container engine listens, `runtime` the name
    of a container runtime there, "" its default. So many `guests` are kept ready.
    """

    choice: str
    engine: str
    runtime: str
    guests: int


def read_sandbox(env: Env) -> SandboxSettings:
    """Read PAWL_SANDBOX, DOCKER_HOST, PAWL_SANDBOX_RUNTIME and PAWL_SANDBOX_GUESTS."""
    return SandboxSettings(
        choice=env.choice("PAWL_SANDBOX", CHOICES, AUTO),
        engine=read_engine_address(env),
        runtime=env.text("PAWL_SANDBOX_RUNTIME", ""),
        guests=env.integer("PAWL_SANDBOX_GUESTS", 4, minimum=1, maximum=64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOpener:
    """Opens sandboxes for one executor, whose start `boot_id` names at any time."""

    settings: SandboxSettings
    owner: DockerOwner
    boot_id: Callable[[], str]
    progress: Progress | None = None

    async def open(self) -> Sandbox:
        """The sandbox that is named, or the first that works. Raises SandboxUnavailable, which
        says of each why not.
        """
        choice = self.settings.choice
        reasons: list[str] = []
        for name in SANDBOXES if choice == AUTO else (choice,):
            try:
                return await self._open(name)
            except SandboxUnavailable as error:
                reasons.append(f"{name}: {error}")
        raise SandboxUnavailable("; ".join(reasons))

    async def _open(self, name: str) -> Sandbox:
        guests = self.settings.guests
        if name == MONTY:
            return await MontySandbox.open(processes=2 * guests)
        return await PooledSandbox.open(
            self._backend(name), boot_id=self.boot_id, size=PoolSize(guests=guests)
        )

    def _backend(self, name: str) -> Backend:
        if name == "bubblewrap":
            return BubblewrapBackend()
        return DockerBackend(
            Engine(self.settings.engine),
            owner=self.owner,
            runtime=self.settings.runtime,
            progress=self.progress,
        )


async def choose(opener: SandboxOpener) -> str:
    """The name of the sandbox for executors; the given one also when it does not work yet."""
    choice = opener.settings.choice
    if choice == NONE:
        return NONE
    try:
        sandbox = await opener.open()
    except SandboxUnavailable as error:
        _say(f"no sandbox: {error}")
        return NONE if choice == AUTO else choice
    name = sandbox.identity.backend
    await sandbox.close()
    return name


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command


def main() -> int:
    """Exit code 0, or 2 for settings that do not work."""
    env = Env(os.environ)
    configure_logs("executor", level="error")
    # One guest is enough to see that it works.
    settings = replace(read_sandbox(env), guests=1)
    keys: Path = env.path("PAWL_PUBLIC_KEYS_FILE")
    try:
        env.check()
        boot_id = str(new_id())
        opener = SandboxOpener(
            settings=settings,
            owner=DockerOwner(installation_id=installation_of(keys), executor_id="choice"),
            boot_id=lambda: boot_id,
            progress=_say,
        )
        _say(f"sandbox: {asyncio.run(choose(opener))}")
    except ConfigError as error:
        _say(str(error))
        return EXIT_BAD_CONFIG
    return EXIT_STOPPED


if __name__ == "__main__":
    # Monty, once tried, has such threads.
    leave_at_once(main())
