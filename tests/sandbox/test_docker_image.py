"""The image: built where it is missing, never taken from another guest, packaged with Pawl."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import docker
import pytest
import pytest_asyncio

from libs.process.env import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_STOPPED
from services.executor.sandbox.docker_engine import Engine
from services.executor.sandbox.docker_image import VERSION_LABEL, ensure_image, image_name
from services.executor.sandbox.image.context import ImageContext
from services.executor.sandbox.model import SandboxUnavailable
from tests.sandbox.docker_world import (
    BASE_IMAGE,
    STUB,
    DockerWorld,
    docker_world,
    engine_or_skip,
    said,
)

pytestmark = pytest.mark.docker

MADE: set[str] = set()
"""The versions of what was built here."""


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(engine_or_skip())
    yield engine
    engine.close()


@pytest_asyncio.fixture
async def world() -> AsyncIterator[DockerWorld]:
    """A world with an image of its own, not built yet, and removed in the end."""
    context = another()
    async with docker_world(engine_or_skip(), context=context, prepared=False) as world:
        yield world


@pytest.fixture(scope="module", autouse=True)
def removed() -> Iterator[None]:
    """Nothing that was built here stays."""
    yield
    client = docker.DockerClient(base_url=engine_or_skip())
    for image in client.images.list("pawl-sandbox"):
        if image.tags and MADE & {tag.partition(":")[2] for tag in image.tags}:
            client.images.remove(image.id, force=True)
    client.close()


def another() -> ImageContext:
    """The stub with a mark that no other test has."""
    mark = f"# {uuid4()}\n".encode()
    made = ImageContext(files=STUB.files | {"guest/mark.py": mark})
    MADE.add(made.version)
    return made


async def test_a_missing_image_is_built_and_then_kept(world: DockerWorld) -> None:
    first = await world.backend.prepare()
    second = await world.backend.prepare()

    assert first == second
    assert await said(await world.guest(), do="echo") == {"do": "echo"}


async def test_a_removed_image_is_built_again(world: DockerWorld) -> None:
    before = await world.backend.prepare()
    name = f"pawl-sandbox:{before.build.partition('.')[2]}"
    world.client.images.remove(name, force=True)

    with pytest.raises(SandboxUnavailable, match="image"):
        await world.backend.start("boot")
    after = await world.backend.prepare()

    assert after.build.partition(".")[2] == before.build.partition(".")[2]
    assert await said(await world.guest(), do="echo") == {"do": "echo"}


async def test_progress_is_told_while_it_is_built(engine: Engine) -> None:
    told: list[str] = []

    await ensure_image(engine, another(), progress=told.append)

    assert told[0].startswith("building the image pawl-sandbox:")
    assert any(re.match(r"Step 1/\d+ : FROM python:3.11-slim-bookworm", line) for line in told)
    assert told[-1].startswith("built pawl-sandbox:")


async def test_builders_at_the_same_time_agree_on_one_image(engine: Engine) -> None:
    context = another()

    ids = await asyncio.gather(
        *(ensure_image(engine, context, progress=lambda _: None) for _ in range(3))
    )

    assert len(set(ids)) == 1


async def test_another_image_under_our_name_is_not_taken(engine: Engine) -> None:
    context = another()
    stub = await ensure_image(engine, STUB, progress=lambda _: None)
    await engine.tag(stub, repository="pawl-sandbox", tag=context.version)

    taken = await ensure_image(engine, context, progress=lambda _: None)

    assert taken != stub
    assert (await engine.image(taken)).labels[VERSION_LABEL] == context.version


async def test_a_build_that_fails_says_where(engine: Engine) -> None:
    dockerfile = f"FROM {BASE_IMAGE}\nRUN no-such-command {uuid4()}\n".encode()
    broken = ImageContext(files=STUB.files | {"Dockerfile": dockerfile})

    with pytest.raises(SandboxUnavailable, match=r"building the image.*no-such-command"):
        await ensure_image(engine, broken, progress=lambda _: None)

    assert image_name(broken) != image_name(STUB)


def make_image(address: str) -> tuple[int, str]:
    """What `make sandbox-image` runs: its exit code, and what it said in the end."""
    done = subprocess.run(
        [sys.executable, "-m", "services.executor.sandbox.make_image"],
        env=os.environ | {"DOCKER_HOST": address},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()[-1]


def test_the_command_says_that_the_image_is_there_already() -> None:
    address = engine_or_skip()
    made = make_image(address)

    again = make_image(address)

    image_id = r"sha256:[0-9a-f]{64}"
    assert made[0] == again[0] == EXIT_STOPPED
    assert re.fullmatch(rf"pawl-sandbox:[0-9a-f]{{12}} is (there already: )?{image_id}", made[1])
    assert again[1] == made[1].replace(" is sha256", " is there already: sha256")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("unix:///nowhere/docker.sock", "No such file or directory"),
        ("tcp://127.0.0.1:1", "Connection refused"),
    ],
)
def test_the_command_fails_in_a_sentence_without_an_engine(address: str, why: str) -> None:
    code, said = make_image(address)

    assert code == EXIT_FAILED
    assert said == (
        f"sandbox image: no container engine answers at {address}: {why}; "
        "is Docker installed and running?"
    )


def test_the_command_says_what_an_address_may_be() -> None:
    code, said = make_image("ssh://elsewhere")

    assert code == EXIT_BAD_CONFIG
    assert said.endswith("'ssh://elsewhere'; unix:///path and tcp://host:port are allowed")


def test_the_archive_is_the_same_every_time() -> None:
    assert STUB.archive() == STUB.archive()
    with tarfile.open(fileobj=io.BytesIO(STUB.archive())) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == ["Dockerfile", "guest/__main__.py"]
    assert {(entry.mode, entry.mtime, entry.uid) for entry in entries} == {(0o444, 0, 0)}


def test_every_change_makes_another_version() -> None:
    changed = [
        STUB.files | {"guest/__main__.py": b"pass"},
        STUB.files | {"guest/more.py": b""},
        STUB.files | {"Dockerfile": b"FROM scratch"},
        # The same bytes in other places.
        {"Dockerfile": b"ab", "guest/__main__.py": b"c"},
        {"Dockerfile": b"a", "guest/__main__.py": b"bc"},
    ]

    versions = {ImageContext(files=files).version for files in changed} | {STUB.version}

    assert len(versions) == len(changed) + 1


def test_the_dockerfile_is_what_any_builder_understands() -> None:
    dockerfile = STUB.files["Dockerfile"].decode()

    assert not re.search(r"--mount|<<|^# *syntax=", dockerfile, re.MULTILINE)
    assert re.findall(r"^FROM (.*)$", dockerfile, re.MULTILINE) == ["python:3.11-slim-bookworm"]
    assert re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE) == ["65534:65534"]
