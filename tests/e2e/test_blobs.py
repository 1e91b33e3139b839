"""A large artifact of a step: kept in a directory or a bucket, and read back over gRPC."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import LocalStore, S3Store

from libs.cli.client import Client, Server
from libs.cli.stack import Stack, running_stack
from libs.pb.pawl.artifact.v1 import artifact_pb2, artifact_service_pb2, artifact_service_pb2_grpc
from libs.pb.pawl.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from libs.rpc.client import RpcChannel, caller_token
from services.artifact.blob_place import Bucket
from tests.e2e.tasks import finished
from tests.s3_servers import s3_server
from tests.stacks import StackEnvirons

pytestmark = pytest.mark.e2e

LARGE = "x" * 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A running Pawl, and its blobs past it."""

    stack: Stack
    behind: LocalStore | S3Store


@pytest.fixture
def in_a_directory(stack: Stack) -> Kept:
    return Kept(stack=stack, behind=LocalStore(stack.data_dir / "blobs"))


@pytest.fixture(scope="module")
def in_a_bucket(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> Iterator[Kept]:
    with s3_server() as settings:
        bucket, keys = settings.place, settings.keys
        assert isinstance(bucket, Bucket)
        assert keys is not None
        secret_file = tmp_path_factory.mktemp("secrets") / "secret_key"
        secret_file.write_text(keys.secret_key + "\n")
        name = f"pawl-{secrets.token_hex(6)}"
        environ = environs.fresh(
            PAWL_BLOBS=f"s3://{name}?endpoint={bucket.endpoint}",
            PAWL_BLOBS_ACCESS_KEY=keys.access_key,
            PAWL_BLOBS_SECRET_KEY_FILE=str(secret_file),
        )
        _make_bucket(environ)
        behind = S3Store(
            name,
            endpoint=bucket.endpoint,
            region=bucket.region,
            access_key_id=keys.access_key,
            secret_access_key=keys.secret_key,
            client_options={"allow_http": True},
        )
        data_dir = tmp_path_factory.mktemp("stack") / "data"
        with running_stack(data_dir, environ=environ) as stack:
            yield Kept(stack=stack, behind=behind)


def _make_bucket(environ: dict[str, str]) -> None:
    """As the container profile does; twice, as it does at every start."""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "services.artifact.make_bucket"],
            env=environ,
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Signature" not in done.stderr


@pytest.fixture(params=["in_a_directory", "in_a_bucket"])
def kept(request: pytest.FixtureRequest) -> Kept:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Kept)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A new tenant with its id and key."""

    id: str
    key: str
    client: Client


def new_tenant(stack: Stack) -> Tenant:
    operator = Client(stack.server)
    name = f"blobs-{secrets.token_hex(4)}"
    made = operator.post("/v1/tenants", {"name": name, "tier": "pro"})
    key = operator.post("/v1/keys", {"tenant": name})["key"]
    client = Client(Server(url=stack.server.url, api_key=key))
    return Tenant(id=made["id"], key=key, client=client)


def emitting(*data: str) -> dict[str, Any]:
    """A task that emits one artifact per step."""
    steps = [
        {
            "step_index": index,
            "tool": "artifact",
            "input": {"type": "report.text", "data": {"text": text}},
        }
        for index, text in enumerate(data, start=1)
    ]
    return {"task_definition": {}, "plan": {"steps": steps}}


async def artifacts_of(stack: Stack, tenant: Tenant, task_id: str) -> list[artifact_pb2.Artifact]:
    """Every artifact of a task, read one by one over gRPC by whoever holds the key."""
    auth = RpcChannel(stack.ready.services["auth"][0].address, audience="auth")
    artifact = RpcChannel(stack.ready.services["artifact"][0].address, audience="artifact")
    try:
        authenticate = auth.stub(auth_service_pb2_grpc.AuthServiceStub).Authenticate
        said = await authenticate(auth_service_pb2.AuthenticateRequest(api_key=tenant.key))
        stub = artifact.stub(artifact_service_pb2_grpc.ArtifactServiceStub)
        with caller_token(said.caller_token):
            page = await stub.ListArtifacts(
                artifact_service_pb2.ListArtifactsRequest(task_id=task_id)
            )
            asked = [
                artifact_service_pb2.GetArtifactRequest(artifact_id=one.id)
                for one in page.artifacts
            ]
            return [(await stub.GetArtifact(one)).artifact for one in asked]
    finally:
        await auth.close()
        await artifact.close()


def blobs_of(kept: Kept, tenant: Tenant) -> dict[str, bytes]:
    """What the blob store has of a tenant."""
    names = [one["path"] for page in obstore.list(kept.behind, tenant.id) for one in page]
    return {name: bytes(obstore.get(kept.behind, name).bytes()) for name in names}


async def test_a_large_artifact_is_kept_as_a_blob_and_read_back(kept: Kept) -> None:
    tenant = new_tenant(kept.stack)

    done = finished(tenant.client, emitting("small", LARGE))

    assert done["status"] == "succeeded"
    small, large = await artifacts_of(kept.stack, tenant, done["task_id"])
    assert json.loads(small.data_json) == {"text": "small"}
    assert json.loads(large.data_json) == {"text": LARGE}
    sha256 = hashlib.sha256(large.data_json.encode()).hexdigest()
    assert (large.sha256, large.size_bytes) == (sha256, len(large.data_json))
    assert blobs_of(kept, tenant) == {
        f"{tenant.id}/sha256/{sha256[:2]}/{sha256}": large.data_json.encode()
    }


async def test_a_step_fails_when_the_store_does_not_take_its_artifact(
    in_a_directory: Kept,
) -> None:
    stack = in_a_directory.stack
    tenant = new_tenant(stack)
    (stack.data_dir / "blobs" / tenant.id).write_text("in the way")

    done = finished(tenant.client, emitting("small", LARGE))

    assert (done["status"], done["failure"]["code"]) == ("failed", "ARTIFACT_STORE")
    assert done["failure"]["reason"] == "UNAVAILABLE"
    assert await artifacts_of(stack, tenant, done["task_id"]) == []
