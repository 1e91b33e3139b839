"""The image of the docker backend: found by the version of its files, built where it is missing."""

from __future__ import annotations

from libs.process.logs import get_logger
from services.executor.sandbox.docker_engine import Engine, NotThere, Progress
from services.executor.sandbox.image.context import ImageContext

REPOSITORY = "pawl-sandbox"
VERSION_LABEL = "dev.pawl.sandbox.guest"
BUILD_SECONDS = 600.0

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
    name = image_name(context)
    progress(f"building the image {name}; this takes a minute, once")
    labels = {VERSION_LABEL: context.version}
    built = await engine.build(
        context.archive(), labels=labels, progress=progress, seconds=build_seconds
    )
    # Somebody else has built it meanwhile? Then all take that one: its id stands in hashes.
    found = await find_image(engine, context)
    if found is not None:
        return found
    await engine.tag(built, repository=REPOSITORY, tag=context.version)
    progress(f"built {name}")
    return (await engine.image(name)).id


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
