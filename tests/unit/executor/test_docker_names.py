"""The names of containers that a backend holds: given up whatever goes wrong, so none stays."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from services.executor.sandbox.docker import DockerBackend, DockerOwner
from services.executor.sandbox.docker_config import BOOT_LABEL
from services.executor.sandbox.docker_engine import (
    ContainerFacts,
    Engine,
    EngineVersion,
    ImageFacts,
)
from services.executor.sandbox.docker_image import VERSION_LABEL
from services.executor.sandbox.image.context import packaged_context
from services.executor.sandbox.model import SandboxUnavailable
from tests.waiting import eventually


class OddEngine(Engine):
    """Makes a container for each request, and says so in a way that nobody understands."""

    def __init__(self, odd: Exception) -> None:
        super().__init__("unix:///nowhere/docker.sock")
        self.odd = odd
        self.removal: Exception | None = None
        self.made: dict[str, ContainerFacts] = {}
        self.removals = 0

    async def version(self) -> EngineVersion:
        return EngineVersion(engine="", runc="")

    async def image(self, name: str) -> ImageFacts:
        del name
        version = packaged_context().version
        return ImageFacts(id="sha256:0", labels={VERSION_LABEL: version})

    def begin(self, config: dict[str, Any], *, name: str) -> asyncio.Future[socket.socket]:
        self.made[name] = ContainerFacts(id=name, name=name, labels=config["Labels"])
        failed: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        failed.set_exception(self.odd)
        return failed

    async def containers(self, label: str) -> list[ContainerFacts]:
        del label
        return list(self.made.values())

    async def remove(self, container: str) -> bool:
        self.removals += 1
        if self.removal is not None:
            raise self.removal
        return self.made.pop(container, None) is not None


@pytest.mark.parametrize("odd", [KeyError("Id"), AttributeError("_sock"), RuntimeError("shutdown")])
async def test_what_an_odd_answer_left_is_removed(odd: Exception) -> None:
    engine = OddEngine(odd)
    backend = DockerBackend(engine, owner=DockerOwner(installation_id="i", executor_id="e"))

    with pytest.raises(type(odd)):
        await backend.prepare()

    await eventually(lambda: engine.removals == 1)
    assert engine.made == {}
    await backend.close()


@pytest.mark.parametrize("removal", [SandboxUnavailable("away"), KeyError("odd")])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_what_could_not_be_removed_is_removed_later(removal: Exception) -> None:
    engine = OddEngine(KeyError("Id"))
    engine.removal = removal
    backend = DockerBackend(engine, owner=DockerOwner(installation_id="i", executor_id="e"))
    with pytest.raises(KeyError):
        await backend.prepare()
    await eventually(lambda: engine.removals == 1)
    assert len(engine.made) == 1

    engine.removal = None
    (left,) = engine.made.values()
    assert await backend.boots() == {left.labels[BOOT_LABEL]}

    await eventually(lambda: engine.made == {})
    await backend.close()
