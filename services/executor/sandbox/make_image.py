"""Builds the image of the docker backend: `python -m services.executor.sandbox.make_image`.

The engine is that of DOCKER_HOST, else the one of this machine. An image that is there is kept.
"""

from __future__ import annotations

import asyncio
import os
import sys

from libs.process.env import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_STOPPED, ConfigError, Env
from services.executor.sandbox.docker_address import read_engine_address
from services.executor.sandbox.docker_engine import Engine
from services.executor.sandbox.docker_image import ensure_image, find_image, image_name
from services.executor.sandbox.image.context import packaged_context
from services.executor.sandbox.model import SandboxUnavailable


async def build(address: str) -> None:
    """Build it if need be, and say so. Raises SandboxUnavailable."""
    engine = Engine(address)
    context = packaged_context()
    name = image_name(context)
    try:
        found = await find_image(engine, context)
        if found is not None:
            _say(f"{name} is there already: {found}")
            return
        _say(f"{name} is {await ensure_image(engine, context, progress=_say)}")
    finally:
        engine.close()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command


def main() -> int:
    """Exit code 0, 1 when the engine cannot build it, 2 for settings that do not work."""
    env = Env(os.environ)
    address = read_engine_address(env)
    try:
        env.check()
        asyncio.run(build(address))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return EXIT_BAD_CONFIG
    except SandboxUnavailable as error:
        print(f"sandbox image: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
