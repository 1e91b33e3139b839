"""The bytes of large artifacts, in a directory or in a bucket; the only user of obstore.

Nothing is tried twice, and every call ends within its time. What obstore would take from the
environment (AWS_ENDPOINT_URL_S3 and its like) is said outright, so that PAWL_BLOBS alone decides.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, S3Store
from prometheus_client import Counter

from libs.core.errors import PawlError
from libs.process.env import ConfigError
from libs.process.logs import get_logger
from services.artifact.blob_place import DEFAULT_REGION, BlobKeys, BlobSettings, Bucket

if TYPE_CHECKING:
    from obstore.store import S3Credential

# Below the five seconds that a caller waits, so that it hears the reason.
TIMEOUT_SECONDS = 3.0
RETRY_AFTER_SECONDS = 1.0
PROBE_KEY = "pawl/probe"

_PROBE = b"Pawl keeps artifacts here.\n"
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
# Besides what obstore calls a lack of permission; the last is what versitygw says.
_BAD_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound"})

log = get_logger(__name__)
_operations = Counter(
    "pawl_artifact_blob_operations_total",
    "Reads and writes of blobs, by operation and outcome",
    ["operation", "outcome"],
)


class BlobDamaged(PawlError):  # noqa: N818 - a refusal, named by what is the matter
    """The bytes under a key are missing, or are not those that its name promises."""

    def __init__(self, message: str) -> None:
        super().__init__("internal", message)


class Blobs:
    """Bytes that are written once and never changed. Every method raises PawlError.

    All of them: `unavailable` when the store cannot be reached, refuses, or takes too long.
    """

    def __init__(
        self,
        store: LocalStore | S3Store,
        *,
        directory: Path | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._store = store
        self._directory = directory
        self._timeout_seconds = timeout_seconds

    async def put(self, key: str, data: bytes) -> None:
        """Store `data` under a key that names its content; once more is fine, and writes nothing.

        Raises BlobDamaged when other bytes are there.
        """
        async with self._attempt("put"):
            if not await self._create(key, data):
                found = await self._read(key, size_bytes=len(data))
                if found is None:
                    raise FileNotFoundError(key)
                if found != data:
                    raise BlobDamaged(f"other bytes are stored under {key}")
            await self._flush(key)

    async def get(self, key: str, *, sha256: str, size_bytes: int) -> bytes:
        """The bytes under a key; BlobDamaged when they are missing or do not match."""
        async with self._attempt("get"):
            data = await self._read(key, size_bytes=size_bytes)
            if data is None:
                raise BlobDamaged(f"nothing is stored under {key}")
            if hashlib.sha256(data).hexdigest() != sha256:
                raise BlobDamaged(f"what is stored under {key} does not match its SHA-256")
            return data

    async def check(self) -> None:
        """Prove that the store takes bytes, keeps what is there, and gives it back.

        Leaves one small object. ConfigError says what to do.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._create(PROBE_KEY, _PROBE)
                if await self._create(PROBE_KEY, _PROBE):
                    raise ConfigError(
                        "PAWL_BLOBS names a store that overwrites what it should keep: a server "
                        "that honours If-None-Match is needed"
                    )
                found = await self._read(PROBE_KEY, size_bytes=len(_PROBE))
        except (BaseError, OSError) as error:
            raise ConfigError(_advice(error)) from error
        except BlobDamaged:
            found = None
        if found != _PROBE:
            raise ConfigError(
                f"PAWL_BLOBS names a store where {PROBE_KEY} is not what Pawl wrote there: name "
                "a place of its own"
            )

    async def _create(self, key: str, data: bytes) -> bool:
        """Whether `data` was written; False: something is there already."""
        try:
            await obstore.put_async(self._store, key, data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    async def _read(self, key: str, *, size_bytes: int) -> bytes | None:
        """What stands under a key, or None; BlobDamaged for another size, which is not read."""
        try:
            found = await obstore.get_async(self._store, key)
        except FileNotFoundError as error:
            if self._directory is None and _code_of(error) != "NoSuchKey":
                raise
            return None
        if found.meta["size"] != size_bytes:
            raise BlobDamaged(f"{key} has {found.meta['size']} bytes instead of {size_bytes}")
        return bytes(await found.bytes_async())

    async def _flush(self, key: str) -> None:
        """Have a local file outlive a power failure, as the row that is written next does."""
        if self._directory is not None:
            await asyncio.to_thread(_sync_up, self._directory / key, self._directory)

    @asynccontextmanager
    async def _attempt(self, operation: str) -> AsyncIterator[None]:
        """Bound the time, count the outcome, and say `unavailable` for what is the store's."""
        outcome = "cancelled"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
            outcome = "ok"
        except BlobDamaged:
            outcome = "damaged"
            raise
        except (BaseError, OSError) as error:
            outcome = "unavailable"
            log.warning("blob store failed", operation=operation, error=_reason(error))
            raise PawlError(
                "unavailable",
                "the store of large artifacts cannot be used at the moment",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error
        finally:
            _operations.labels(operation, outcome).inc()


def open_blobs(settings: BlobSettings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Blobs:
    """The blobs at a place; nothing is asked of a server yet.

    Makes the directory where that is missing, or raises ConfigError.
    """
    place = settings.place
    if isinstance(place, Bucket):
        store = _s3_store(place, settings.keys, timeout_seconds=timeout_seconds)
        return Blobs(store, timeout_seconds=timeout_seconds)
    directory = place.directory
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        local = LocalStore(directory)
    except (BaseError, OSError) as error:
        raise ConfigError(
            f"PAWL_BLOBS names the directory {directory}, which cannot be made: {_reason(error)}"
        ) from error
    return Blobs(local, directory=directory, timeout_seconds=timeout_seconds)


async def make_bucket(
    bucket: Bucket, keys: BlobKeys, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> bool:
    """Make a bucket; False: it was there and belongs to these keys. ConfigError says what to do."""
    store = _s3_store(bucket, keys, timeout_seconds=timeout_seconds)
    # Neither S3Store nor its signer knows of buckets, but the empty key is the bucket's own URL.
    url = await obstore.sign_async(store, "PUT", "", timedelta(seconds=60))
    try:
        async with httpx2.AsyncClient(timeout=timeout_seconds, trust_env=False) as client:
            answer = await client.put(url, content=_location(bucket.region))
    except httpx2.HTTPError as error:
        raise ConfigError(
            f"PAWL_BLOBS names {bucket.endpoint}, which cannot be reached: "
            f"{type(error).__name__} {error}"
        ) from error
    if answer.is_success:
        return True
    code = _CODE.search(answer.text)
    if code is not None and code[1] == "BucketAlreadyOwnedByYou":
        return False
    raise ConfigError(
        f"the bucket {bucket.name} cannot be made at {bucket.endpoint}: "
        f"{answer.status_code} {code[1] if code else answer.reason_phrase}"
    )


def _s3_store(bucket: Bucket, keys: BlobKeys | None, *, timeout_seconds: float) -> S3Store:
    if keys is None:
        raise ConfigError("PAWL_BLOBS names a bucket, and there are no keys for it")
    credential: S3Credential = {
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "token": keys.session_token,
        "expires_at": None,
    }
    return S3Store(
        bucket.name,
        config={
            "endpoint": bucket.endpoint,
            "aws_endpoint_url_s3": bucket.endpoint,
            "region": bucket.region,
            "virtual_hosted_style_request": False,
            "skip_signature": False,
            "s3_express": False,
            "conditional_put": "etag",
        },
        client_options={
            "allow_http": bucket.is_plain_http,
            # Behind the time that Blobs allows, so that it is always that which says so.
            "connect_timeout": timedelta(seconds=2 * timeout_seconds),
            "timeout": timedelta(seconds=2 * timeout_seconds),
        },
        retry_config={"max_retries": 0},
        # Not in `config`, which is printed and pickled, and which the environment would complete.
        credential_provider=lambda: credential,
    )


def _location(region: str) -> bytes:
    """What says where a bucket is to lie; the default must not be said."""
    if region == DEFAULT_REGION:
        return b""
    return (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
    ).encode()


def _sync_up(path: Path, root: Path) -> None:
    """Flush a file and the directories above it, up to `root`."""
    for one in (path, *path.parents):
        descriptor = os.open(one, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if one == root:
            return


def _code_of(error: BaseException) -> str | None:
    """The code in an answer of S3."""
    found = _CODE.search(str(error))
    return None if found is None else found[1]


def _reason(error: BaseException) -> str:
    """One line without the server's answer, which repeats the key's name."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    line = str(error).partition("\n")[0].partition(": <")[0]
    code = _code_of(error)
    return line if code is None else f"{line}: {code}"


def _advice(error: BaseException) -> str:
    code = _code_of(error)
    if code == "NoSuchBucket":
        return (
            "PAWL_BLOBS names a bucket that does not exist: make it, for example with "
            "`python -m services.artifact.make_bucket`"
        )
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in _BAD_KEYS:
        return (
            f"the store that PAWL_BLOBS names refuses this process ({_reason(error)}): check "
            "PAWL_BLOBS_ACCESS_KEY and PAWL_BLOBS_SECRET_KEY, which must be allowed to read and "
            "write objects, or the owner of the directory"
        )
    return f"the store that PAWL_BLOBS names cannot be used: {_reason(error)}"
