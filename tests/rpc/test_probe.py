"""The health check of a container, against servers that serve, do not, or are not there."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from libs.rpc.certs import make_certificates
from libs.rpc.probe import reachable
from libs.rpc.server import RpcServer
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import TokenVerifier
from tests.certificates import files_of

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    code: int
    said: str
    seconds: float


async def probe(settings: Mapping[str, str]) -> Answer:
    """Run it as Docker would."""
    inherited = {name: value for name, value in os.environ.items() if "PAWL" not in name}
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "libs.rpc.probe",
        cwd=ROOT,
        env={**inherited, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    seconds = time.monotonic() - began
    return Answer(code=process.returncode, said=said.decode(), seconds=seconds)


def settings_of(port: int, tls: TlsFiles | None = None) -> dict[str, str]:
    settings = {"PAWL_LISTEN": f"0.0.0.0:{port}"}
    if tls is not None:
        settings["PAWL_TLS_CA_FILE"] = str(tls.ca)
        settings["PAWL_TLS_CERT_FILE"] = str(tls.certificate)
        settings["PAWL_TLS_KEY_FILE"] = str(tls.key)
    return settings


async def start(tls: TlsFiles | None) -> RpcServer:
    server = RpcServer(
        service="planner",
        address="127.0.0.1:0",
        verifier=TokenVerifier({}, audience="planner"),
        access={},
        tls=tls,
        drain_seconds=1,
    )
    await server.start()
    return server


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    make_certificates(directory)
    return directory


@pytest.fixture(params=["plaintext", "certificates"])
def tls(request: pytest.FixtureRequest, certs: Path) -> TlsFiles | None:
    return files_of(certs, "planner") if request.param == "certificates" else None


@pytest.fixture
async def server(tls: TlsFiles | None) -> AsyncIterator[RpcServer]:
    server = await start(tls)
    yield server
    await server.stop()


async def test_a_process_that_serves_is_healthy(server: RpcServer, tls: TlsFiles | None) -> None:
    answer = await probe(settings_of(server.port, tls))

    assert (answer.code, answer.said) == (0, "")


async def test_a_process_that_drains_is_not(server: RpcServer, tls: TlsFiles | None) -> None:
    await server.set_serving(serving=False)

    answer = await probe(settings_of(server.port, tls))

    assert answer.code == 1
    assert answer.said == f"not serving: 127.0.0.1:{server.port} says NOT_SERVING\n"


async def test_nobody_there_is_said_in_one_line() -> None:
    answer = await probe(settings_of(1))

    assert answer.code == 1
    assert answer.said.startswith("not serving: 127.0.0.1:1: UNAVAILABLE: ")
    assert answer.said.count("\n") == 1
    assert answer.seconds < 3


async def test_another_service_at_the_address_is_not_healthy(certs: Path) -> None:
    server = await start(files_of(certs, "planner"))

    answer = await probe(settings_of(server.port, files_of(certs, "auth")))

    assert answer.code == 1
    assert "Hostname Verification" in answer.said
    assert answer.said.count("\n") == 1
    await server.stop()


async def test_files_that_do_not_work_are_named(certs: Path) -> None:
    files = replace(files_of(certs, "planner"), ca=certs / "nowhere.crt")

    answer = await probe(settings_of(1, files))

    assert answer.code == 1
    assert f"PAWL_TLS_CA_FILE: {certs / 'nowhere.crt'} cannot be read" in answer.said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "PAWL_LISTEN is not set"),
        ({"PAWL_LISTEN": "0.0.0.0:0"}, "0.0.0.0:0 names no port"),
        ({"PAWL_LISTEN": "7000"}, "host:port is allowed"),
        ({"PAWL_HTTP_LISTEN": "127.0.0.1:1"}, "127.0.0.1:1: [Errno 111] Connection refused"),
    ],
)
async def test_settings_without_an_address_to_ask_are_refused(
    settings: dict[str, str], said: str
) -> None:
    answer = await probe(settings)

    assert answer.code == 1
    assert said in answer.said


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        ("200 OK", 0, ""),
        ("503 Service Unavailable", 1, "answers HTTP/1.1 503 Service Unavailable"),
        ("", 1, "answers nothing"),
    ],
)
async def test_the_gateway_is_asked_over_http(status: str, code: int, said: str) -> None:
    asked: list[bytes] = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if status:
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    answer = await probe({"PAWL_HTTP_LISTEN": f"0.0.0.0:{port}"})

    assert answer.code == code
    assert said in answer.said
    assert asked[0].startswith(b"GET /healthz HTTP/1.1\r\n")
    server.close()


@pytest.mark.parametrize("setting", ["PAWL_LISTEN", "PAWL_HTTP_LISTEN"])
async def test_a_process_that_hangs_is_given_up_within_three_seconds(setting: str) -> None:
    hung = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hung.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    answer = await probe({setting: f"127.0.0.1:{port}"})

    assert answer.code == 1
    assert answer.said.count("\n") == 1
    assert answer.seconds < 3
    hung.set()
    server.close()


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("0.0.0.0:7000", "127.0.0.1:7000"),
        ("[::]:7000", "[::1]:7000"),
        ("10.1.2.3:7000", "10.1.2.3:7000"),
        ("localhost:7000", "localhost:7000"),
    ],
)
def test_every_address_is_asked_on_loopback(listen: str, address: str) -> None:
    assert reachable(listen) == address
