"""Running Pawls with a sandbox, one for each kind, and what is to be left in them after a case."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError

from libs.cli.up.ready_file import ReadyFile
from services.executor.sandbox.docker_config import INSTALLATION_LABEL
from services.executor.sandbox.installation import installation_of
from tests.e2e.ups import REAL, end, start_up
from tests.hostile.canary import listening
from tests.hostile.target import Target, target_of
from tests.sandbox.docker_world import engine_or_skip
from tests.sandbox.process_table import processes_below, still_running
from tests.stacks import StackEnvirons
from tests.waiting import eventually

GUESTS = 2
LEFT_SECONDS = 15.0
"""Guests that were used are replaced in this time, however busy the machine is."""
GROWTH_BYTES = 50 * 2**20
HONEST = {"code": "print(sum(input_data)); result = sum(input_data)", "input_data": [2, 3]}

# A container shows the guest's process alone; beside it, bwrap has one that waits for it.
_IDLE = {"docker": [1] * GUESTS, "bubblewrap": [2] * GUESTS}
_CHANGING = ("logs", "pg")
"""Places of a data directory that change while Pawl runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandboxed:
    """A running Pawl whose code steps run in `name`. `guests` counts the processes of each."""

    name: str
    target: Target
    guests: Callable[[], list[int]]
    places: tuple[Path, ...]
    files: frozenset[Path]

    async def check_left(self) -> None:
        """AssertionError unless guests that wait are all there is, and no file is new."""
        await eventually(lambda: self.guests() == _IDLE[self.name], timeout=LEFT_SECONDS)
        assert files_below(*self.places) <= self.files


class SandboxedStacks:
    """The stacks of this session, each started when it is first asked for."""

    def __init__(self, environs: StackEnvirons, place: Path) -> None:
        self._environs = environs
        self._place = place
        self._open = AsyncExitStack()
        self._running: dict[str, Sandboxed] = {}

    async def get(self, name: str) -> Sandboxed:
        """The one with this sandbox. Skips where the machine cannot have it."""
        if name not in self._running:
            if name == "bubblewrap" and shutil.which("bwrap") is None:
                pytest.skip("no bwrap; it is in the package bubblewrap")
            engine = engine_or_skip() if name == "docker" else None
            running = _running(name, self._place / name, self._environs, engine)
            self._running[name] = await self._open.enter_async_context(running)
        return self._running[name]

    async def close(self) -> None:
        """End them; nothing may be left, nor may one have grown."""
        await self._open.aclose()


@asynccontextmanager
async def _running(
    name: str, place: Path, environs: StackEnvirons, engine: str | None
) -> AsyncIterator[Sandboxed]:
    places = place / "data", place / "tmp"
    places[1].mkdir(parents=True)
    # Temporary files of the stack are to be seen.
    env = environs.bus() | {
        "PAWL_SANDBOX": name,
        "PAWL_SANDBOX_GUESTS": str(GUESTS),
        "TMPDIR": str(places[1]),
    }
    client = docker.DockerClient(base_url=engine) if engine else None
    up = start_up(places[0], "--port", "0", program=REAL, env=env)
    try:
        ready = await up.ready()
        guests = _containers(client, ready) if client else _processes(ready)
        async with listening() as canary, target_of(ready, canary) as target:
            await eventually(lambda: guests() == _IDLE[name], timeout=30)
            before = target.resident_bytes()
            files = frozenset(files_below(*places))
            yield Sandboxed(name=name, target=target, guests=guests, places=places, files=files)
            assert target.resident_bytes() - before < GROWTH_BYTES
        processes = processes_below(up.process.pid)
        await up.stop()
        assert guests() == []
        assert still_running(processes) == set()
    finally:
        await end(up)
        if client:
            client.close()


def files_below(*places: Path) -> set[Path]:
    """All files there, but those of the database and the logs."""
    return {
        path
        for place in places
        for path in place.rglob("*")
        if not set(path.relative_to(place).parts[:1]) & set(_CHANGING)
    }


def _containers(client: Any, ready: ReadyFile) -> Callable[[], list[int]]:
    """Processes in each container of the installation; none for one that is about to go."""
    own = installation_of(Path(ready.data_dir) / "secrets" / "public_keys.json")
    label = f"{INSTALLATION_LABEL}={own}"

    def count() -> list[int]:
        found = client.api.containers(all=True, filters={"label": [label]})
        return [_processes_in(client, each["Id"]) for each in found]

    return count


def _processes_in(client: Any, container_id: str) -> int:
    try:
        return len(client.api.top(container_id)["Processes"] or [])
    except APIError:
        return 0


def _processes(ready: ReadyFile) -> Callable[[], list[int]]:
    """Each child of the executors, with all that descends from it."""
    executors = [one.pid for one in ready.services["executor"]]

    def count() -> list[int]:
        below = {each.process_id for pid in executors for each in processes_below(pid)}
        lines = {pid: {each.process_id for each in processes_below(pid)} for pid in below}
        children = below - set().union(*lines.values())
        return [1 + len(lines[pid]) for pid in children]

    return count
