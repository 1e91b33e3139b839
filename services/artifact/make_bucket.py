"""Makes the bucket that PAWL_BLOBS names: `python -m services.artifact.make_bucket`.

Reads PAWL_BLOBS and its keys as the service does. A bucket that is there already is fine; a
directory is made by the service itself.
"""

from __future__ import annotations

import asyncio
import os

from libs.process.logs import get_logger
from libs.process.run import run
from services.artifact.blob_place import Bucket
from services.artifact.blobs import make_bucket, open_blobs
from services.artifact.config import blobs_from_env

log = get_logger(__name__)


async def main(_: asyncio.Event) -> None:
    """Make it, and prove that it can be used."""
    settings = blobs_from_env(os.environ)
    if isinstance(settings.place, Bucket) and settings.keys is not None:
        was_made = await make_bucket(settings.place, settings.keys)
        log.info("bucket is there", bucket=settings.place.name, was_made=was_made)
    await open_blobs(settings).check()


if __name__ == "__main__":
    run(main, service="artifact-make-bucket")
