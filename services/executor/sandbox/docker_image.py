"""The image of the docker backend: found by the version of its files, built where it is missing."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from libs.process.logs import get_logger
from services.executor.sandbox.docker_engine import Engine, NotThere, Progress
from services.executor.sandbox.image.context import ImageContext
from services.executor.sandbox.model import SandboxUnavailable

REPOSITORY = "pawl-sandbox"
VERSION_LABEL = "dev.pawl.sandbox.guest"
BUILD_SECONDS = 600.0
_LOOK_SECONDS = 0.2

log = get_logger(__name__)


def image_name(context: ImageContext) -> str:
    """Its name, which carries the version: a changed guest never runs from an older image."""
    return f"{REPOSITORY}:{context.version}"


async def ensure_image(
    engine: Engine,
    context: ImageContext,
    *,
    progress: Progress,
    build_seconds: float = BUILD_SECONDS,
) -> str:
    """The id (`sha256:…`) of the image of `context`, which is built if need be.

    Raises SandboxUnavailable.
    """
    found = await find_image(engine, context)
    if found is not None:
        return found
    # Two builders would make two images, and the id of the image stands in hashes.
    async with _alone(build_seconds):
        found = await find_image(engine, context)
        if found is not None:
            return found
        name = image_name(context)
        progress(f"building the image {name}; this takes a minute, once")
        labels = {VERSION_LABEL: context.version}
        built = await engine.build(
            context.archive(), labels=labels, progress=progress, seconds=build_seconds
        )
        await engine.tag(built, repository=REPOSITORY, tag=context.version)
        progress(f"built {name}")
        return built


def private_directory(*, runtime: Path, temporary: Path) -> Path | None:
    """A directory where no other user can put or hold a file: `runtime`/<user id> where that is
    there, else `temporary`/pawl-<user id>, made if need be. None where somebody else has taken that
    name.
    """
    user = os.getuid()
    given, own = runtime / str(user), temporary / f"pawl-{user}"
    if _is_private(given, user):
        return given
    with suppress(OSError):
        own.mkdir(mode=0o700)
    return own if _is_private(own, user) else None


def _is_private(path: Path, user: int) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077


@asynccontextmanager
async def _alone(seconds: float) -> AsyncIterator[None]:
    """As the one builder of this user on this machine. SandboxUnavailable after `seconds`."""
    directory = private_directory(runtime=Path("/run/user"), temporary=Path(tempfile.gettempdir()))
    if directory is None:
        # Two images are less bad than none: they matter only to those who build at the same time.
        log.warning("nothing keeps others from building the image at the same time")
        yield
        return
    path = directory / "pawl-sandbox-image.lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SandboxUnavailable(f"{path} cannot be opened: {error.strerror}") from error
    try:
        await _lock(file, path, seconds=seconds)
        yield
    finally:
        os.close(file)


async def _lock(file: int, path: Path, *, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not _is_locked(file):  # noqa: ASYNC110 - another process holds it
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError as error:
        raise SandboxUnavailable(f"another process holds {path}") from error


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def find_image(engine: Engine, context: ImageContext) -> str | None:
    """The id of the image of `context`, None where there is none. Raises SandboxUnavailable."""
    try:
        found = await engine.image(image_name(context))
    except NotThere:
        return None
    if found.labels.get(VERSION_LABEL) != context.version:
        log.warning("image under our name is not ours", image=image_name(context))
        return None
    return found.id
