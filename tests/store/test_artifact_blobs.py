"""What blobs promise, of a directory and of a bucket alike; and what befalls each alone."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import stat
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import obstore
import pytest
import pytest_asyncio
from obstore.store import LocalStore, S3Store
from prometheus_client import REGISTRY

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.process.env import ConfigError
from services.artifact.blob_place import BlobKeys, BlobSettings, Bucket, LocalPlace
from services.artifact.blobs import PROBE_KEY, BlobDamaged, Blobs, make_bucket, open_blobs
from services.artifact.content import blob_key_of, content_of
from tests.s3_servers import s3_server, until_bucket_is_there

SHORT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place for blobs, and a way to it past the code under test."""

    settings: BlobSettings
    behind: LocalStore | S3Store

    @property
    def blobs(self) -> Blobs:
        return open_blobs(self.settings)

    async def overwrite(self, key: str, data: bytes) -> None:
        await obstore.put_async(self.behind, key, data, mode="overwrite")

    async def remove(self, key: str) -> None:
        await obstore.delete_async(self.behind, key)


@pytest.fixture(scope="module")
def s3() -> Iterator[BlobSettings]:
    with s3_server() as settings:
        yield settings


@pytest_asyncio.fixture
async def bucket(s3: BlobSettings) -> Place:
    await until_bucket_is_there(s3)
    assert isinstance(s3.place, Bucket)
    assert s3.keys is not None
    behind = S3Store(
        s3.place.name,
        endpoint=s3.place.endpoint,
        region=s3.place.region,
        access_key_id=s3.keys.access_key,
        secret_access_key=s3.keys.secret_key,
        client_options={"allow_http": True},
    )
    return Place(settings=s3, behind=behind)


@pytest.fixture
def directory(tmp_path: Path) -> Place:
    path = tmp_path / "blobs"
    settings = BlobSettings(place=LocalPlace(directory=path))
    return Place(settings=settings, behind=LocalStore(path, mkdir=True))


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Place)
    return found


@pytest.fixture
def key() -> str:
    return f"{new_id()}/sha256/{secrets.token_hex(1)}/{secrets.token_hex(32)}"


async def read(blobs: Blobs, key: str, data: bytes) -> bytes:
    """What is under a key where `data` should be."""
    return await blobs.get(key, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def count(operation: str, outcome: str) -> float:
    labels = {"operation": operation, "outcome": outcome}
    return REGISTRY.get_sample_value("pawl_artifact_blob_operations_total", labels) or 0.0


@pytest.mark.parametrize("data", [b"x", bytes(range(256)) * 4096], ids=["byte", "mebibyte"])
async def test_what_is_put_comes_back(place: Place, key: str, data: bytes) -> None:
    puts, gets = count("put", "ok"), count("get", "ok")

    await place.blobs.put(key, data)

    assert await read(place.blobs, key, data) == data
    assert (count("put", "ok"), count("get", "ok")) == (puts + 1, gets + 1)


async def test_a_second_put_of_equal_bytes_writes_nothing(place: Place, key: str) -> None:
    await place.blobs.put(key, b"data")
    first = await obstore.head_async(place.behind, key)

    await place.blobs.put(key, b"data")

    assert await obstore.head_async(place.behind, key) == first


@pytest.mark.parametrize("other", [b"dato", b"data and more"])
async def test_a_put_of_other_bytes_is_refused_and_changes_nothing(
    place: Place, key: str, other: bytes
) -> None:
    await place.blobs.put(key, b"data")

    with pytest.raises(BlobDamaged) as caught:
        await place.blobs.put(key, other)

    assert caught.value.code == "internal"
    assert await read(place.blobs, key, b"data") == b"data"


async def test_of_puts_at_once_one_wins_and_all_see_its_bytes(place: Place, key: str) -> None:
    blobs = place.blobs
    offered = [bytes([number]) * 50_000 for number in range(16)]

    said = await asyncio.gather(*(blobs.put(key, data) for data in offered), return_exceptions=True)

    winners = [data for data, error in zip(offered, said, strict=True) if error is None]
    losers = [error for error in said if error is not None]
    assert len(winners) == 1
    assert [type(error) for error in losers] == [BlobDamaged] * 15
    assert await read(blobs, key, winners[0]) == winners[0]


async def test_of_equal_puts_at_once_all_succeed(place: Place, key: str) -> None:
    blobs = place.blobs

    await asyncio.gather(*(blobs.put(key, b"d" * 50_000) for _ in range(16)))

    assert await read(blobs, key, b"d" * 50_000) == b"d" * 50_000


@pytest.mark.parametrize("changed", [b"dat\x61\x00", b"dats", b"dat", b""])
async def test_bytes_that_were_changed_are_not_given_out(
    place: Place, key: str, changed: bytes
) -> None:
    await place.blobs.put(key, b"data")
    await place.overwrite(key, changed)
    before = count("get", "damaged")

    with pytest.raises(BlobDamaged):
        await read(place.blobs, key, b"data")

    assert count("get", "damaged") == before + 1


async def test_bytes_that_are_gone_are_damage_and_not_an_outage(place: Place, key: str) -> None:
    await place.blobs.put(key, b"data")
    await place.remove(key)

    with pytest.raises(BlobDamaged, match="nothing is stored"):
        await read(place.blobs, key, b"data")


async def test_equal_content_of_two_tenants_is_kept_apart(place: Place) -> None:
    content = content_of('"' + "x" * 20_000 + '"')
    mine, theirs = (_key(content.sha256, tenant) for tenant in (new_id(), new_id()))
    assert mine == blob_key_of(content, tenant_id=UUID(mine.partition("/")[0]))
    data = content.data.encode()
    await place.blobs.put(mine, data)
    await place.blobs.put(theirs, data)

    await place.overwrite(theirs, b"spoiled")

    assert await read(place.blobs, mine, data) == data
    with pytest.raises(BlobDamaged):
        await read(place.blobs, theirs, data)


def _key(sha256: str, tenant_id: UUID) -> str:
    return f"{tenant_id}/sha256/{sha256[:2]}/{sha256}"


async def test_a_usable_place_passes_its_check_again_and_again(place: Place) -> None:
    for _ in range(3):
        await place.blobs.check()

    assert (await obstore.head_async(place.behind, PROBE_KEY))["size"] < 100


@pytest.mark.parametrize("changed", [b"", b"other", b"x" * 27])
async def test_a_place_of_something_else_fails_its_check(place: Place, changed: bytes) -> None:
    await place.overwrite(PROBE_KEY, changed)
    try:
        with pytest.raises(ConfigError, match=r"PAWL_BLOBS.*a place of its own"):
            await place.blobs.check()
    finally:
        await place.remove(PROBE_KEY)


async def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"

    await open_blobs(BlobSettings(place=LocalPlace(directory=path))).check()

    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "blobs"

    with pytest.raises(ConfigError, match=rf"PAWL_BLOBS.*{path}"):
        open_blobs(BlobSettings(place=LocalPlace(directory=path)))


async def test_a_directory_that_cannot_be_written_is_an_outage(
    directory: Place, tmp_path: Path, key: str
) -> None:
    tenant = key.partition("/")[0]
    (tmp_path / "blobs" / tenant).write_text("in the way")

    error = await refusal(directory.blobs, key)

    assert error.code == "unavailable"


async def refusal(blobs: Blobs, key: str) -> PawlError:
    """How a put is refused; a get is refused alike."""
    with pytest.raises(PawlError) as put:
        await blobs.put(key, b"data")
    with pytest.raises(PawlError) as get:
        await read(blobs, key, b"data")
    assert (get.value.code, get.value.message) == (put.value.code, put.value.message)
    return put.value


def aimed(s3: BlobSettings, *, keys: BlobKeys | None = None, **changes: str) -> BlobSettings:
    """The settings of a server with something wrong about them."""
    assert isinstance(s3.place, Bucket)
    return BlobSettings(place=replace(s3.place, **changes), keys=keys or s3.keys)


NO_SERVER = BlobSettings(
    place=Bucket(name="pawl-test", endpoint="http://127.0.0.1:1", region="us-east-1"),
    keys=BlobKeys(access_key="a", secret_key="hush-hush"),
)


@asynccontextmanager
async def http_server(answer: bytes | None) -> AsyncIterator[tuple[BlobSettings, list[bytes]]]:
    """A server that says `answer` to every request, or nothing ever; and what it was asked."""
    asked: list[bytes] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.partition(b"\r\n")[0])
        if answer is None:
            await done.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield aimed(NO_SERVER, endpoint=f"http://127.0.0.1:{port}"), asked
    finally:
        done.set()
        server.close()
        await server.wait_closed()


async def test_a_server_that_is_away_is_an_outage(key: str) -> None:
    before = count("put", "unavailable")

    error = await refusal(open_blobs(NO_SERVER), key)

    assert error.code == "unavailable"
    assert error.retry_after_seconds is not None
    assert "hush-hush" not in "".join(traceback.format_exception(error))
    assert count("put", "unavailable") == before + 1
    with pytest.raises(ConfigError, match=r"PAWL_BLOBS.*127\.0\.0\.1:1"):
        await open_blobs(NO_SERVER).check()


async def test_a_server_that_never_answers_is_given_up(key: str) -> None:
    async with http_server(None) as (settings, asked):
        blobs = open_blobs(settings, timeout_seconds=SHORT_SECONDS)
        began = time.monotonic()

        error = await refusal(blobs, key)

        assert error.code == "unavailable"
        assert time.monotonic() - began < 2 * SHORT_SECONDS + 1
        assert len(asked) == 2
        with pytest.raises(ConfigError, match="no answer in time"):
            await blobs.check()


async def test_nothing_is_tried_twice(key: str) -> None:
    failed = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with http_server(failed) as (settings, asked):
        error = await refusal(open_blobs(settings), key)

    assert error.code == "unavailable"
    assert [line.split()[0] for line in asked] == [b"PUT", b"GET"]


async def test_a_server_that_overwrites_is_not_used() -> None:
    taken = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
    async with http_server(taken) as (settings, _):
        with pytest.raises(ConfigError, match="If-None-Match"):
            await open_blobs(settings).check()


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
async def test_wrong_keys_are_said_at_the_start(bucket: Place, key: str, wrong: str) -> None:
    assert bucket.settings.keys is not None
    changed = {"access_key": "stranger"} if wrong == "access_key" else {"secret_key": "guessed"}
    settings = aimed(bucket.settings, keys=replace(bucket.settings.keys, **changed))

    with pytest.raises(ConfigError, match="PAWL_BLOBS_SECRET_KEY"):
        await open_blobs(settings).check()
    error = await refusal(open_blobs(settings), key)

    assert error.code == "unavailable"


async def test_a_missing_bucket_is_said_at_the_start_and_can_be_made(
    bucket: Place, key: str
) -> None:
    settings = aimed(bucket.settings, name=f"pawl-{secrets.token_hex(6)}")
    assert isinstance(settings.place, Bucket)
    assert settings.keys is not None
    blobs = open_blobs(settings)
    with pytest.raises(ConfigError, match="make_bucket"):
        await blobs.check()
    assert (await refusal(blobs, key)).code == "unavailable"

    made = [await make_bucket(settings.place, settings.keys) for _ in range(2)]

    assert made == [True, False]
    await blobs.check()


async def test_a_bucket_cannot_be_made_with_wrong_keys(bucket: Place) -> None:
    place = bucket.settings.place
    assert isinstance(place, Bucket)

    with pytest.raises(ConfigError, match="cannot be made"):
        await make_bucket(place, BlobKeys(access_key="a", secret_key="b"))


async def test_the_environment_cannot_turn_the_store_elsewhere(bucket: Place, key: str) -> None:
    misleading = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "stranger",
        "AWS_SECRET_ACCESS_KEY": "guessed",
        "AWS_SESSION_TOKEN": "old",
        "AWS_REGION": "eu-central-1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_S3_EXPRESS": "true",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in misleading.items():
            environment.setenv(name, value)
        await open_blobs(bucket.settings).put(key, b"data")

    assert await read(bucket.blobs, key, b"data") == b"data"
