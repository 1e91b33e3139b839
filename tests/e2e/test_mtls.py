"""A whole Pawl that speaks mTLS, and the client of docs/grpc.md."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack, running_stack
from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from libs.rpc.certs import make_certificates
from libs.rpc.client import RpcChannel
from tests.e2e.tasks import CHAIN, finished
from tests.stacks import StackEnvirons

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs" / "grpc.md"
SERVICES = ("auth", "scheduler")


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    make_certificates(directory)
    return directory


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons, certs: Path
) -> Iterator[Stack]:
    environ = environs.fresh(PAWL_TLS_DIR=str(certs))
    data_dir = tmp_path_factory.mktemp("stack") / "data"
    with running_stack(data_dir, "--executors", "2", "--schedulers", "2", environ=environ) as up:
        yield up


def address_of(stack: Stack, service: str) -> str:
    return stack.ready.services[service][0].address


def test_tasks_run_over_mtls(stack: Stack) -> None:
    client = Client(stack.server)

    assert [finished(client, CHAIN)["status"] for _ in range(5)] == ["succeeded"] * 5
    assert client.get("/readyz")["status"] == "ready"


@pytest.mark.parametrize("service", ["auth", "planner", "scheduler", "executor", "artifact"])
async def test_no_port_takes_plaintext(stack: Stack, service: str) -> None:
    channel = RpcChannel(address_of(stack, service), audience=service)
    try:
        stub = channel.stub(auth_service_pb2_grpc.AuthServiceStub)
        with pytest.raises(PawlError) as refused:
            await stub.Authenticate(auth_service_pb2.AuthenticateRequest(api_key="x"), timeout=3)
    finally:
        await channel.close()

    assert refused.value.code == "unavailable"


async def test_the_client_of_the_page_runs_a_task(stack: Stack, certs: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    environ = os.environ | {
        "PAWL_TLS_DIR": str(certs),
        "PAWL_API_KEY": stack.ready.api_key,
        **{f"PAWL_{name.upper()}_TARGET": address_of(stack, name) for name in SERVICES},
    }

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-c", program],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    task_id, result = done.stdout.split(maxsplit=1)
    assert result.strip() == '{"result":42}'
    assert Client(stack.server).get(f"/api/v1/tasks/{task_id}")["status"] == "succeeded"
