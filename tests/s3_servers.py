"""S3 servers for tests: the one of PAWL_TEST_S3_ENDPOINT, else one in a container."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from testcontainers.core.container import DockerContainer

from libs.process.env import ConfigError
from services.artifact.blob_place import BlobKeys, BlobSettings, Bucket
from services.artifact.blobs import make_bucket
from tests.containers import S3_IMAGE, running
from tests.waiting import eventually

GIVEN = "PAWL_TEST_S3_ENDPOINT"
_PORT = 7070


@contextmanager
def s3_server() -> Iterator[BlobSettings]:
    """A running server with its keys, and a bucket that may not exist yet. Skips with the reason
    where there is none.
    """
    bucket = os.environ.get("PAWL_TEST_S3_BUCKET", "pawl-test")
    given = os.environ.get(GIVEN, "").strip()
    if given:
        yield _settings(
            bucket,
            endpoint=given,
            access_key=os.environ["PAWL_TEST_S3_ACCESS_KEY"],
            secret_key=os.environ["PAWL_TEST_S3_SECRET_KEY"],
        )
        return
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    container = (
        DockerContainer(S3_IMAGE)
        .with_env("ROOT_ACCESS_KEY", access_key)
        .with_env("ROOT_SECRET_KEY", secret_key)
        .with_exposed_ports(_PORT)
        .with_tmpfs_mount("/data")
        .with_command("posix /data")
    )
    with running(container, instead=GIVEN):
        host, port = container.get_container_host_ip(), container.get_exposed_port(_PORT)
        endpoint = f"http://{host}:{port}"
        yield _settings(bucket, endpoint=endpoint, access_key=access_key, secret_key=secret_key)


async def until_bucket_is_there(settings: BlobSettings) -> None:
    """Wait until the server answers, and make its bucket."""
    bucket, keys = settings.place, settings.keys
    assert isinstance(bucket, Bucket)
    assert keys is not None
    said: list[str] = []

    async def is_there() -> bool:
        try:
            await make_bucket(bucket, keys)
        except ConfigError as error:
            said.append(str(error))
            if "cannot be reached" not in said[-1]:
                raise
            return False
        return True

    await eventually(is_there, timeout=30)


def _settings(bucket: str, *, endpoint: str, access_key: str, secret_key: str) -> BlobSettings:
    return BlobSettings(
        place=Bucket(name=bucket, endpoint=endpoint, region="us-east-1"),
        keys=BlobKeys(access_key=access_key, secret_key=secret_key),
    )
