"""Artifact over real gRPC: what executors may store, and who may read what when."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from libs.core.ids import new_id
from libs.core.lifecycle import TaskState
from libs.pb.pawl.artifact.v1 import artifact_pb2
from libs.pb.pawl.artifact.v1 import artifact_service_pb2 as pb
from libs.pb.pawl.artifact.v1 import artifact_service_pb2_grpc as pb_grpc
from libs.rpc.client import caller_token
from libs.rpc.tokens import KeyRing
from services.artifact.content import MAX_INLINE_BYTES
from tests.artifact_world import (
    OTHER_TENANT,
    TENANT,
    ArtifactWorld,
    artifact_world,
    make_request,
    refused,
)
from tests.servers import Database


@pytest_asyncio.fixture
async def world(database: Database, keys: KeyRing) -> AsyncIterator[ArtifactWorld]:
    async with artifact_world(database, keys) as world:
        yield world


async def succeeded(world: ArtifactWorld, *, artifacts: int = 1) -> tuple[UUID, list[str]]:
    """A succeeded task with artifacts of as many steps; its events are not published."""
    task_id = await world.task()
    stored = [
        await world.put(make_request(task_id, step_index=index))
        for index in range(1, artifacts + 1)
    ]
    await world.ends(task_id, TaskState.SUCCEEDED)
    return task_id, [artifact.id for artifact in stored]


async def test_put_answers_the_stored_artifact_in_canonical_form(world: ArtifactWorld) -> None:
    task_id = await world.task()

    stored = await world.put(make_request(task_id, data_json='{"b": 2.0, "a": "\\u00e9"}'))

    assert stored.data_json == '{"a":"é","b":2}'
    assert stored.sha256 == hashlib.sha256(stored.data_json.encode()).hexdigest()
    assert stored.size_bytes == len(stored.data_json.encode())
    assert stored.state == artifact_pb2.ARTIFACT_STATE_STAGED
    assert (stored.tenant_id, stored.task_id) == (str(TENANT), str(task_id))
    assert UUID(stored.id).version == 7


async def test_put_again_answers_the_stored_one(world: ArtifactWorld) -> None:
    task_id = await world.task()
    first = await world.put(make_request(task_id, data_json='{"a":1,"b":[]}'))

    again = await world.put(make_request(task_id, data_json='{"b": [], "a": 1.0}'))
    await world.ends(task_id, TaskState.SUCCEEDED)
    late = await world.put(make_request(task_id, data_json='{"a":1,"b":[]}'))

    assert again == first
    assert late == first


@pytest.mark.parametrize("change", [{"data_json": '{"title":"y"}'}, {"type": "report.other"}])
async def test_put_of_something_else_at_the_same_place_is_refused(
    world: ArtifactWorld, change: dict[str, str]
) -> None:
    task_id = await world.task()
    await world.put(make_request(task_id))

    error = await refused(world.put(make_request(task_id, **change)))

    assert error.code == "already_exists"


async def test_put_at_a_place_of_another_tenant_tells_nothing(world: ArtifactWorld) -> None:
    task_id = await world.task()
    await world.put(make_request(task_id))

    error = await refused(world.put(make_request(task_id), tenant_id=OTHER_TENANT))

    assert error.code == "already_exists"


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED])
async def test_put_after_the_end_is_refused(world: ArtifactWorld, state: TaskState) -> None:
    task_id = await world.task(state)

    error = await refused(world.put(make_request(task_id)))

    assert error.code == "conflict"


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"task_id": "x"}, "validation_failed", "task_id"),
        ({"task_id": ""}, "validation_failed", "task_id"),
        ({"step_index": 0}, "validation_failed", "step_index"),
        ({"step_index": -1}, "validation_failed", "step_index"),
        ({"ordinal": -1}, "validation_failed", "ordinal"),
        ({"type": ""}, "validation_failed", "type"),
        ({"type": "Report"}, "validation_failed", "type"),
        ({"type": "a" * 129}, "validation_failed", "type"),
        ({"data_json": ""}, "validation_failed", "data_json"),
        ({"data_json": "{"}, "validation_failed", "data_json"),
        ({"data_json": "NaN"}, "validation_failed", "data_json"),
        ({"data_json": "1e999"}, "validation_failed", "data_json"),
        ({"data_json": "9" * 10_000}, "validation_failed", "data_json"),
        ({"data_json": '"\\ud800"'}, "validation_failed", "data_json"),
        ({"data_json": "[" * 200_000}, "validation_failed", "data_json"),
        ({"data_json": json.dumps("x" * 2**20)}, "payload_too_large", None),
        ({"data_json": " " * 2**20 + "1"}, "payload_too_large", None),
    ],
)
async def test_put_refuses_what_is_no_artifact(
    world: ArtifactWorld, change: dict[str, object], code: str, field: str | None
) -> None:
    task_id = await world.task()

    error = await refused(world.put(make_request(task_id, **change), task_id=task_id))

    assert error.code == code
    assert [one.field for one in error.errors] == ([field] if field else [])
    assert await world.ask("SELECT * FROM artifact.artifacts") == []


async def test_put_of_exactly_one_mebibyte_is_stored_and_read(world: ArtifactWorld) -> None:
    task_id = await world.task()
    data_json = json.dumps("x" * (2**20 - 2))
    stored = await world.put(make_request(task_id, data_json=data_json))
    await world.ends(task_id, TaskState.SUCCEEDED)

    found = await world.get(stored.id)

    assert found.data_json == data_json


def text_of(size_bytes: int) -> str:
    """JSON of so many bytes."""
    return json.dumps("x" * (size_bytes - 2))


@pytest.mark.parametrize(
    ("size_bytes", "count"), [(MAX_INLINE_BYTES, 0), (MAX_INLINE_BYTES + 1, 1)]
)
async def test_only_what_is_large_becomes_a_blob(
    world: ArtifactWorld, size_bytes: int, count: int
) -> None:
    task_id = await world.task()

    stored = await world.put(make_request(task_id, data_json=text_of(size_bytes)))
    await world.ends(task_id, TaskState.SUCCEEDED)

    assert await world.get(stored.id) == await listed_with_data(world, stored)
    sha256 = stored.sha256
    names = [str(path.relative_to(world.blobs_dir)) for path in world.blobs()]
    assert names == [f"{TENANT}/sha256/{sha256[:2]}/{sha256}"] * count
    (row,) = await world.ask("SELECT data IS NULL, blob_key FROM artifact.artifacts")
    assert row == ((True, names[0]) if count else (False, None))


async def listed_with_data(
    world: ArtifactWorld, stored: artifact_pb2.Artifact
) -> artifact_pb2.Artifact:
    """What the list says of an artifact, and the data that was stored."""
    (listed,) = (await world.list(stored.task_id)).artifacts
    listed.data_json = stored.data_json
    return listed


async def test_a_large_put_again_answers_the_stored_one_and_writes_nothing(
    world: ArtifactWorld,
) -> None:
    task_id = await world.task()
    first = await world.put(make_request(task_id, data_json=text_of(20_000)))
    (blob,) = world.blobs()
    before = blob.stat()

    again = await world.put(make_request(task_id, data_json=" " + text_of(20_000)))
    await world.ends(task_id, TaskState.SUCCEEDED)
    late = await world.put(make_request(task_id, data_json=text_of(20_000)))
    other = await refused(world.put(make_request(task_id, data_json=text_of(20_001))))

    assert (again, late, other.code) == (first, first, "already_exists")
    assert world.blobs() == [blob]
    assert (blob.stat().st_ino, blob.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_steps_with_equal_large_data_share_a_blob_and_tenants_do_not(
    world: ArtifactWorld,
) -> None:
    for tenant_id in (TENANT, OTHER_TENANT):
        for _ in range(2):
            request = make_request(await world.task(), data_json=text_of(20_000))
            await world.put(request, tenant_id=tenant_id)

    assert {path.relative_to(world.blobs_dir).parts[0] for path in world.blobs()} == {
        str(TENANT),
        str(OTHER_TENANT),
    }
    assert len(world.blobs()) == 2


@pytest.mark.parametrize("is_gone", [True, False])
async def test_a_damaged_blob_is_an_error_and_not_an_answer(
    world: ArtifactWorld, is_gone: bool
) -> None:
    task_id = await world.task()
    request = make_request(task_id, data_json=text_of(20_000))
    stored = await world.put(request)
    await world.ends(task_id, TaskState.SUCCEEDED)
    (blob,) = world.blobs()
    data = blob.read_bytes()
    blob.unlink() if is_gone else blob.write_bytes(data[:-2] + b'y"')
    before = REGISTRY.get_sample_value("pawl_artifact_corrupt_total") or 0

    errors = [await refused(world.get(stored.id)), await refused(world.put(request))]

    assert [error.code for error in errors] == ["internal"] * 2
    assert REGISTRY.get_sample_value("pawl_artifact_corrupt_total") == before + 2
    assert len((await world.list(task_id)).artifacts) == 1


async def test_a_new_artifact_does_not_stand_on_a_damaged_blob(world: ArtifactWorld) -> None:
    await world.put(make_request(await world.task(), data_json=text_of(20_000)))
    (blob,) = world.blobs()
    blob.write_bytes(blob.read_bytes()[:-2] + b'y"')
    before = REGISTRY.get_sample_value("pawl_artifact_corrupt_total") or 0

    error = await refused(world.put(make_request(await world.task(), data_json=text_of(20_000))))

    assert error.code == "internal"
    assert REGISTRY.get_sample_value("pawl_artifact_corrupt_total") == before + 1
    assert await world.ask("SELECT count(*) FROM artifact.artifacts") == [(1,)]


async def test_a_blob_store_that_is_away_is_said_and_leaves_no_row(world: ArtifactWorld) -> None:
    task_id = await world.task()
    stored = await world.put(make_request(task_id, data_json=text_of(20_000)))
    small = await world.put(make_request(task_id, step_index=2))
    away = world.blobs_dir.with_name(f"{world.blobs_dir.name}-away")
    world.blobs_dir.rename(away)
    world.blobs_dir.write_text("in the way")
    try:
        put = await refused(
            world.put(make_request(task_id, step_index=3, data_json=text_of(20_000)))
        )
        await world.ends(task_id, TaskState.SUCCEEDED)
        get = await refused(world.get(stored.id))
        found = await world.get(small.id)
    finally:
        world.blobs_dir.unlink()
        away.rename(world.blobs_dir)

    assert [error.code for error in (put, get)] == ["unavailable"] * 2
    assert put.retry_after_seconds is not None
    assert found.data_json == small.data_json
    assert (await world.get(stored.id)).data_json == text_of(20_000)
    assert await world.ask("SELECT count(*) FROM artifact.artifacts") == [(2,)]


@pytest.mark.parametrize("state", [TaskState.QUEUED, TaskState.CANCELLED])
async def test_large_data_of_a_task_that_is_not_running_gets_no_row(
    world: ArtifactWorld, state: TaskState
) -> None:
    task_id = await world.task(state)

    error = await refused(world.put(make_request(task_id, data_json=text_of(20_000))))

    assert error.code == "conflict"
    assert await world.ask("SELECT * FROM artifact.artifacts") == []


async def test_twenty_large_puts_at_once_store_one(world: ArtifactWorld) -> None:
    task_id = await world.task()
    request = make_request(task_id, data_json=text_of(100_000))

    stored = await asyncio.gather(*(world.put(request) for _ in range(20)))

    assert len({one.id for one in stored}) == 1
    assert {one.data_json for one in stored} == {text_of(100_000)}
    assert len(world.blobs()) == 1


async def test_put_needs_a_token_for_this_task_and_a_tenant(world: ArtifactWorld) -> None:
    task_id = await world.task()
    stub = world.channel.stub(pb_grpc.ArtifactServiceStub)

    elsewhere = await refused(world.put(make_request(task_id), task_id=new_id()))
    without_task = await refused(world.put(make_request(task_id), task_id=None))
    without_both = await refused(stub.PutArtifact(make_request(task_id)))

    codes = [error.code for error in (elsewhere, without_task, without_both)]
    assert codes == ["permission_denied"] * 3


async def test_callers_cannot_put_and_executors_cannot_read(world: ArtifactWorld) -> None:
    task_id = await world.task()
    stub = world.channel.stub(pb_grpc.ArtifactServiceStub)

    with caller_token(world.token(TENANT, scope="tasks:write")):
        put = await refused(stub.PutArtifact(make_request(task_id)))
    get = await refused(stub.GetArtifact(pb.GetArtifactRequest(artifact_id=str(task_id))))
    listing = await refused(stub.ListArtifacts(pb.ListArtifactsRequest(task_id=str(task_id))))

    assert [e.code for e in (put, get, listing)] == ["permission_denied"] * 3


async def test_reading_needs_its_scope(world: ArtifactWorld) -> None:
    task_id, (artifact_id,) = await succeeded(world)

    get = await refused(world.get(artifact_id, scope="keys:read"))
    listing = await refused(world.list(task_id, scope="keys:read"))

    assert [e.code for e in (get, listing)] == ["insufficient_scope"] * 2


@pytest.mark.parametrize("name", ["allowed_agent_ids", "allowed_task_ids"])
async def test_bound_key_reads_no_artifacts(world: ArtifactWorld, name: str) -> None:
    """Artifacts do not say of which agent they are."""
    stub = world.channel.stub(pb_grpc.ArtifactServiceStub)
    token = world.token(TENANT, scope="tasks:read", **{name: frozenset({str(TENANT)})})

    with caller_token(token):
        get = await refused(stub.GetArtifact(pb.GetArtifactRequest(artifact_id=str(TENANT))))
        listing = await refused(stub.ListArtifacts(pb.ListArtifactsRequest(task_id=str(TENANT))))

    assert (get.code, listing.code) == ("permission_denied", "permission_denied")


async def test_who_has_seen_the_success_sees_the_artifacts(world: ArtifactWorld) -> None:
    task_id, (artifact_id,) = await succeeded(world)

    found = await world.get(artifact_id)

    assert found.state == artifact_pb2.ARTIFACT_STATE_AVAILABLE
    assert found.data_json == '{"title":"x"}'
    assert [one.id for one in (await world.list(task_id)).artifacts] == [artifact_id]


async def test_list_sees_the_success_first_as_well(world: ArtifactWorld) -> None:
    task_id, ids = await succeeded(world, artifacts=3)

    page = await world.list(task_id)

    assert [one.id for one in page.artifacts] == ids
    assert {one.state for one in page.artifacts} == {artifact_pb2.ARTIFACT_STATE_AVAILABLE}
    assert {one.data_json for one in page.artifacts} == {""}
    assert page.next_page_token == ""


async def test_artifacts_of_a_running_task_are_not_seen(world: ArtifactWorld) -> None:
    task_id = await world.task()
    stored = await world.put(make_request(task_id))

    error = await refused(world.get(stored.id))

    assert error.code == "not_found"
    assert not (await world.list(task_id)).artifacts


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELLED])
async def test_artifacts_of_a_task_that_did_not_succeed_are_never_seen(
    world: ArtifactWorld, state: TaskState
) -> None:
    task_id = await world.task()
    stored = await world.put(make_request(task_id))
    await world.ends(task_id, state)

    assert not (await world.list(task_id)).artifacts
    assert (await refused(world.get(stored.id))).code == "not_found"
    assert await world.ask("SELECT state FROM artifact.artifacts") == [("discarded",)]


async def test_another_tenant_sees_what_an_unknown_id_shows(world: ArtifactWorld) -> None:
    task_id, (artifact_id,) = await succeeded(world)
    await world.get(artifact_id)

    foreign = await refused(world.get(artifact_id, tenant_id=OTHER_TENANT))
    unknown = await refused(world.get(str(new_id())))
    malformed = await refused(world.get("../x"))

    said = [(error.code, error.message) for error in (foreign, unknown, malformed)]
    assert said == [said[0]] * 3
    assert said[0][0] == "not_found"
    assert not (await world.list(task_id, tenant_id=OTHER_TENANT)).artifacts


async def test_a_damaged_artifact_is_an_error_and_not_an_answer(world: ArtifactWorld) -> None:
    task_id, ids = await succeeded(world, artifacts=2)
    await world.list(task_id)
    await world.ask(
        "ALTER TABLE artifact.artifacts DISABLE TRIGGER ALL;"
        "UPDATE artifact.artifacts SET data = replace(data, 'x', 'y') WHERE step_index = 1;"
        "ALTER TABLE artifact.artifacts ENABLE ALWAYS TRIGGER artifacts_immutable"
    )
    before = REGISTRY.get_sample_value("pawl_artifact_corrupt_total") or 0

    error = await refused(world.get(ids[0]))

    assert error.code == "internal"
    assert REGISTRY.get_sample_value("pawl_artifact_corrupt_total") == before + 1
    assert (await world.get(ids[1])).data_json == '{"title":"x"}'
    assert len((await world.list(task_id)).artifacts) == 2


async def test_list_pages_through_steps_and_ordinals(world: ArtifactWorld) -> None:
    task_id = await world.task()
    places = [(1, 0), (1, 1), (2, 0), (3, 0), (3, 5)]
    for step_index, ordinal in reversed(places):
        await world.put(make_request(task_id, step_index=step_index, ordinal=ordinal))
    await world.ends(task_id, TaskState.SUCCEEDED)

    seen, token = [], ""
    while True:
        page = await world.list(task_id, page_size=2, page_token=token)
        seen.append([(one.step_index, one.ordinal) for one in page.artifacts])
        token = page.next_page_token
        if not token:
            break

    assert seen == [places[:2], places[2:4], places[4:]]


async def test_list_refuses_bad_pages(world: ArtifactWorld) -> None:
    task_id, _ = await succeeded(world, artifacts=2)
    other_id, _ = await succeeded(world, artifacts=2)
    token = (await world.list(task_id, page_size=1)).next_page_token

    errors = [
        await refused(world.list(task_id, page_size=201)),
        await refused(world.list(task_id, page_size=-1)),
        await refused(world.list(task_id, page_token="x")),
        await refused(world.list(other_id, page_token=token)),
        await refused(world.list("no id")),
    ]

    assert [error.code for error in errors] == [
        "validation_failed",
        "validation_failed",
        "invalid_cursor",
        "invalid_cursor",
        "validation_failed",
    ]


async def test_a_database_that_is_away_is_said_to_be_unavailable(world: ArtifactWorld) -> None:
    await world.pool.close()

    error = await refused(world.list(new_id()))

    assert error.code == "unavailable"
    assert error.retry_after_seconds is not None
