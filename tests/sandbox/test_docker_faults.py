"""An engine that is killed, stands still, is full or not there: nothing hangs, nothing stays."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.executor.sandbox.docker import DockerBackend, DockerOwner
from services.executor.sandbox.docker_engine import Engine
from services.executor.sandbox.model import Death, SandboxUnavailable
from tests.sandbox.docker_world import STUB, DockerWorld, docker_world, engine_or_skip, said
from tests.sandbox.own_engine import OwnEngine, fill, own_engine
from tests.waiting import eventually

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(180),
    # The SDK leaves a socket that it could not connect to the collector.
    pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning"),
]

CALL_SECONDS = 2.0


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What the SDK left is collected here, not in a test that knows nothing of it."""
    yield
    gc.collect()


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path: that of a socket has 108 characters."""
    with tempfile.TemporaryDirectory(prefix="pawl-engine-") as place:
        yield Path(place)


@pytest_asyncio.fixture(scope="module")
async def stub_image() -> None:
    async with docker_world(engine_or_skip()):
        pass


@pytest.fixture
def engine(place: Path, stub_image: None) -> Iterator[OwnEngine]:
    del stub_image
    with own_engine(place) as engine:
        yield engine


@pytest_asyncio.fixture
async def world(engine: OwnEngine) -> AsyncIterator[DockerWorld]:
    async with docker_world(engine.address, call_seconds=CALL_SECONDS) as world:
        yield world


async def test_an_engine_that_is_killed_takes_its_guests_and_comes_back(
    engine: OwnEngine, world: DockerWorld
) -> None:
    guest = await world.guest()
    asking = asyncio.create_task(said(guest, do="sleep"))
    await asyncio.sleep(0)

    await asyncio.to_thread(engine.signal, signal.SIGKILL)

    async with asyncio.timeout(2):
        assert await asking is None
    assert await guest.death() == Death(is_out_of_memory=False, exit_code=None)
    with pytest.raises(SandboxUnavailable, match="container engine"):
        await world.backend.start("boot")
    with pytest.raises(SandboxUnavailable):
        await world.backend.boots()

    await asyncio.to_thread(engine.start)

    assert await said(await world.guest("later"), do="echo") == {"do": "echo"}
    await eventually(lambda: world.containers(running=True) != [guest.name], timeout=10)
    assert await world.backend.remove({"boot"}) == 1
    assert await world.backend.boots() == {"later"}


async def test_an_engine_that_stands_still_holds_nobody_up(
    engine: OwnEngine, world: DockerWorld
) -> None:
    guest = await world.guest()
    engine.signal(signal.SIGSTOP)
    began = time.monotonic()

    with pytest.raises(SandboxUnavailable):
        await world.backend.start("boot")
    with pytest.raises(SandboxUnavailable, match="does not answer"):
        await world.backend.boots()
    await guest.remove()

    assert time.monotonic() - began < 6 * CALL_SECONDS
    engine.signal(signal.SIGCONT)
    # What was asked for and given up is found later, and removed.
    await eventually(lambda: nothing_left(world), timeout=20)


async def nothing_left(world: DockerWorld) -> bool:
    return not await world.backend.boots()


async def test_a_full_disk_is_said_and_passes(place: Path, stub_image: None) -> None:
    del stub_image
    with own_engine(place, tmpfs_bytes=400 * 2**20) as engine:
        async with docker_world(engine.address) as world:
            filling = engine.data_root / "filling"
            fill(filling)

            with pytest.raises(SandboxUnavailable, match="no space left"):
                await world.backend.start("boot")

            filling.unlink()
            assert await said(await world.guest(), do="echo") == {"do": "echo"}


async def test_no_engine_is_said_at_once() -> None:
    backend = backend_at("unix:///nowhere/docker.sock")

    said = (
        r"^no container engine answers at unix:///nowhere/docker\.sock: No such file or directory;"
    )
    with pytest.raises(SandboxUnavailable, match=said):
        await backend.prepare()
    with pytest.raises(SandboxUnavailable, match="not prepared"):
        await backend.start("boot")
    with pytest.raises(SandboxUnavailable):
        await backend.boots()

    await backend.close()


async def test_what_accepts_and_never_answers_is_left_in_time(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "mute.sock"))
        listening.listen()
        backend = backend_at(f"unix://{place}/mute.sock")
        began = time.monotonic()

        with pytest.raises(SandboxUnavailable, match="does not answer"):
            await backend.prepare()

        assert time.monotonic() - began < 2 * CALL_SECONDS
        await backend.close()


def backend_at(address: str) -> DockerBackend:
    return DockerBackend(
        Engine(address, call_seconds=CALL_SECONDS),
        owner=DockerOwner(installation_id=f"test-{os.getpid()}", executor_id="executor-1"),
        context=STUB,
    )
