"""A whole Pawl that speaks mTLS, and the client of docs/grpc.md."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
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
from libs.rpc.tls import TlsFiles
from tests.certificates import files_of
from tests.e2e.tasks import CHAIN, finished
from tests.e2e.ups import REAL, end, start_up
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


async def test_only_a_certificate_of_the_authority_is_let_in(
    stack: Stack, certs: Path, tmp_path: Path
) -> None:
    make_certificates(tmp_path, ["gateway"])
    stranger = files_of(tmp_path, "gateway")
    # It believes the services, so that it is they who refuse.
    stranger = TlsFiles(ca=certs / "ca.crt", certificate=stranger.certificate, key=stranger.key)

    with pytest.raises(PawlError) as refused:
        await authenticate(stack, stranger)

    assert refused.value.code == "unavailable"
    assert await authenticate(stack, files_of(certs, "client"))


async def authenticate(stack: Stack, tls: TlsFiles) -> str:
    """A caller token, by the RPC that needs none."""
    channel = RpcChannel(address_of(stack, "auth"), audience="auth", tls=tls)
    try:
        stub = channel.stub(auth_service_pb2_grpc.AuthServiceStub)
        request = auth_service_pb2.AuthenticateRequest(api_key=stack.ready.api_key)
        return (await stub.Authenticate(request, timeout=5)).caller_token
    finally:
        await channel.close()


def client_env(stack: Stack, certs: Path) -> dict[str, str]:
    """What the page tells a client to set."""
    files = files_of(certs, "client")
    return {name: text for name, text in os.environ.items() if "PAWL" not in name} | {
        "PAWL_API_KEY": stack.ready.api_key,
        "PAWL_TLS_CA_FILE": str(files.ca),
        "PAWL_TLS_CERT_FILE": str(files.certificate),
        "PAWL_TLS_KEY_FILE": str(files.key),
        **{f"PAWL_{name.upper()}_TARGET": address_of(stack, name) for name in SERVICES},
    }


def block(language: str) -> str:
    """The one code block of the page in `language`."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    (found,) = fence.findall(PAGE.read_text(encoding="utf-8"))
    return str(found)


async def run(argv: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, argv, env=env, capture_output=True, text=True, timeout=60, check=False
    )


async def test_the_client_of_the_page_runs_a_task(stack: Stack, certs: Path) -> None:
    program = [sys.executable, "-P", "-c", block("python")]
    env = client_env(stack, certs)

    done = await run(program, env)

    assert (done.returncode, done.stderr) == (0, "")
    task_id, state, result = done.stdout.split(maxsplit=2)
    assert (state, result.strip()) == ("TASK_STATE_SUCCEEDED", '{"result":42}')
    assert Client(stack.server).get(f"/api/v1/tasks/{task_id}")["status"] == "succeeded"


async def test_the_client_of_the_page_says_why_it_is_refused(stack: Stack, certs: Path) -> None:
    program = [sys.executable, "-P", "-c", block("python")]
    env = client_env(stack, certs)

    wrong_key = await run(program, env | {"PAWL_API_KEY": "pawl_live_wrong"})
    plaintext = await run(program, {n: text for n, text in env.items() if "TLS" not in n})

    assert (wrong_key.returncode, plaintext.returncode) == (1, 1)
    assert wrong_key.stderr.startswith("UNAUTHENTICATED UNAUTHENTICATED: ")
    assert plaintext.stderr.startswith("UNAVAILABLE : ")


async def test_the_shell_commands_of_the_page_run_a_task(stack: Stack, certs: Path) -> None:
    missing = [name for name in ("grpcurl", "jq") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} cannot be found")

    done = await run(["sh", "-euc", block("sh")], client_env(stack, certs))

    assert (done.returncode, done.stderr) == (0, "")
    assert '"status": "SERVING"' in done.stdout
    assert '"state": "TASK_STATE_SUCCEEDED"' in done.stdout


async def test_a_process_whose_certificate_is_missing_ends_the_start(
    certs: Path, tmp_path: Path, environs: StackEnvirons
) -> None:
    some = tmp_path / "certs"
    shutil.copytree(certs, some)
    (some / "planner.key").unlink()
    env = environs.bus() | {"PAWL_TLS_DIR": str(some)}

    up = start_up(tmp_path / "data", "--port", "0", program=REAL, env=env)
    try:
        code = await up.ended(timeout=60)
    finally:
        await end(up)

    assert code == 1
    # The console folds long lines.
    said = "".join(up.console.split())
    assert f"PAWL_TLS_KEY_FILE:{some / 'planner.key'}cannotberead" in said
