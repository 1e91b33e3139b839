"""Auth as a process: its two commands, and serving until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.pb.pawl.auth.v1 import auth_service_pb2_grpc as pb_grpc
from libs.rpc.client import RpcChannel, caller_token
from libs.rpc.context import Caller
from libs.rpc.tokens import KeyRing, TokenVerifier, private_key_file, public_keys_file
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db

BOOTSTRAP = ("bootstrap", "--tenant", "default", "--tier", "enterprise")


def environment(database: Database) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if "PAWL" not in name}
    return inherited | {"PAWL_AUTH_DATABASE_URL": database.dsn("auth")}


async def command(
    env: dict[str, str], *arguments: str, stdin: bytes = b""
) -> tuple[int | None, str, str]:
    """The exit code, stdout and stderr of `python -m services.auth`."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.auth",
        *arguments,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate(stdin)
    return child.returncode, out.decode(), err.decode()


@asynccontextmanager
async def serving(env: dict[str, str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as stderr:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.auth", env=env, stderr=stderr
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_bootstrap_prints_a_key_that_check_key_accepts(database: Database) -> None:
    env = environment(database)

    first_code, first, _ = await command(env, *BOOTSTRAP)
    second_code, second, _ = await command(env, *BOOTSTRAP)

    assert first_code == second_code == 0
    made, again = json.loads(first), json.loads(second)
    assert set(made) == {"api_key", "key_id", "tenant_id"}
    assert made["tenant_id"] == again["tenant_id"]
    assert made["api_key"] != again["api_key"]
    accepted, said, _ = await command(env, "check-key", stdin=made["api_key"].encode() + b"\n")
    assert (accepted, said) == (0, "")


@pytest.mark.parametrize(
    "stdin", [b"", b"null", b"pawl_live_" + b"a" * 38, b"x" * 10**5, b"\xff\0"]
)
async def test_check_key_refuses_anything_else(database: Database, stdin: bytes) -> None:
    code, out, _ = await command(environment(database), "check-key", stdin=stdin)

    assert (code, out) == (1, "")


async def test_commands_say_what_is_wrong(database: Database) -> None:
    env = environment(database)
    nowhere = env | {"PAWL_AUTH_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    owner = env | {"PAWL_AUTH_DATABASE_URL": database.owner_dsn}
    unset = {name: value for name, value in env.items() if name != "PAWL_AUTH_DATABASE_URL"}
    bad_name = ("bootstrap", "--tenant", "No", "--tier", "free")

    answers = await asyncio.gather(
        command(nowhere, "check-key"),
        command(nowhere, *BOOTSTRAP),
        command(owner, *BOOTSTRAP),
        command(unset, *BOOTSTRAP),
        command(unset),
        command(env, *bad_name),
    )

    assert [code for code, _, _ in answers] == [3, 3, 2, 2, 2, 2]
    assert all(not out for _, out, _ in answers)
    words = [
        "connect",
        "connect",
        "superuser",
        "PAWL_AUTH_DATABASE_URL",
        "PAWL_SERVICE_KEY_FILE",
        "name",
    ]
    assert all(word in err for word, (_, _, err) in zip(words, answers, strict=True))
    assert all("Traceback" not in err for _, _, err in answers)


async def test_process_serves_and_stops_on_sigterm(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    keys.write(tmp_path)
    port, log = free_port(), tmp_path / "log"
    env = environment(database) | {
        "PAWL_LISTEN": f"127.0.0.1:{port}",
        "PAWL_METRICS_LISTEN": "127.0.0.1:0",
        "PAWL_SERVICE_KEY_FILE": str(private_key_file(tmp_path, "auth")),
        "PAWL_PUBLIC_KEYS_FILE": str(public_keys_file(tmp_path)),
    }
    _, printed, _ = await command(env, *BOOTSTRAP)
    made = json.loads(printed)

    async with serving(env, log) as child:
        channel = RpcChannel(f"127.0.0.1:{port}", audience="auth")
        await eventually(lambda: b"serving" in log.read_bytes(), timeout=20)
        stub = channel.stub(pb_grpc.AuthServiceStub)
        answer = await stub.Authenticate(pb.AuthenticateRequest(api_key=made["api_key"]))
        with caller_token(answer.caller_token):
            listed = await stub.ListKeys(pb.ListKeysRequest())
        await channel.close()
        child.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(child.wait(), 15)

    principal = TokenVerifier(keys.public, audience="auth").verify(answer.caller_token)
    assert isinstance(principal, Caller)
    assert "operator" in principal.scopes
    assert [key.id for key in listed.keys] == [made["key_id"]]
    assert code == 0
    assert made["api_key"] not in log.read_text()
    assert answer.caller_token not in log.read_text()
