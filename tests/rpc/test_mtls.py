"""mTLS between services over real sockets: who is let in, and whom a client believes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.core.errors import PawlError
from libs.pb.pawl.planner.v1 import planner_service_pb2 as planner_pb
from libs.pb.pawl.planner.v1 import planner_service_pb2_grpc as planner_grpc
from libs.process.env import ConfigError
from libs.rpc.certs import make_certificates
from libs.rpc.client import RpcChannel, caller_token
from libs.rpc.probe import NotServing, check
from libs.rpc.server import RpcServer
from libs.rpc.tls import TlsFiles, channel_credentials
from libs.rpc.tokens import ServiceTokens, TokenVerifier
from tests.rpc.test_rpc_server import ACCESS, NAME, RING, Planner, issue

REFUSED = {"unavailable"}
"""What a client is told when the handshake fails: gRPC has no other word for it."""


def files(directory: Path, name: str) -> TlsFiles:
    return TlsFiles(
        ca=directory / "ca.crt",
        certificate=directory / f"{name}.crt",
        key=directory / f"{name}.key",
    )


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority."""
    directory = tmp_path_factory.mktemp("certs")
    make_certificates(directory)
    return directory


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates with the same names, of another authority."""
    directory = tmp_path_factory.mktemp("others")
    make_certificates(directory)
    return directory


@asynccontextmanager
async def serving(tls: TlsFiles | None) -> AsyncIterator[int]:
    """A planner on a free port."""
    server = RpcServer(
        service="planner",
        address="127.0.0.1:0",
        verifier=TokenVerifier(RING.public, audience="planner"),
        access=ACCESS,
        tls=tls,
        drain_seconds=0.1,
    )
    server.add(planner_grpc.add_PlannerServiceServicer_to_server, Planner(), NAME)
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


async def build(
    port: int, *, tls: TlsFiles | None, service: str = "scheduler", audience: str = "planner"
) -> str:
    """Call BuildPlan as a service; the code of the refusal, or ok."""
    tokens = ServiceTokens(service, RING.private[service])
    channel = RpcChannel(f"127.0.0.1:{port}", audience=audience, tokens=tokens, tls=tls)
    # The token is always for the planner: only the certificate differs.
    channel._audience = "planner"
    try:
        stub = channel.stub(planner_grpc.PlannerServiceStub)
        await stub.BuildPlan(planner_pb.BuildPlanRequest(task_input_json="{}"), timeout=3)
    except PawlError as error:
        return error.code
    finally:
        await channel.close()
    return "ok"


async def test_services_with_their_certificates_are_heard(certs: Path) -> None:
    async with serving(files(certs, "planner")) as port:
        assert await build(port, tls=files(certs, "scheduler")) == "ok"


async def test_several_addresses_are_held_to_the_name_of_the_service(certs: Path) -> None:
    tokens = ServiceTokens("scheduler", RING.private["scheduler"])
    async with serving(files(certs, "planner")) as one, serving(files(certs, "planner")) as two:
        target = f"ipv4:127.0.0.1:{one},127.0.0.1:{two}"
        tls = files(certs, "scheduler")
        channel = RpcChannel(target, audience="planner", tokens=tokens, tls=tls)
        stub = channel.stub(planner_grpc.PlannerServiceStub)
        await stub.BuildPlan(planner_pb.BuildPlanRequest(task_input_json="{}"))
        await channel.close()


async def test_callers_are_heard_with_any_certificate_of_the_authority(certs: Path) -> None:
    async with serving(files(certs, "planner")) as port:
        channel = RpcChannel(f"127.0.0.1:{port}", audience="planner", tls=files(certs, "client"))
        with caller_token(issue()):
            stub = channel.stub(planner_grpc.PlannerServiceStub)
            await stub.ListTools(planner_pb.ListToolsRequest())
        await channel.close()


async def test_plaintext_is_refused(certs: Path) -> None:
    async with serving(files(certs, "planner")) as port:
        assert await build(port, tls=None) in REFUSED


async def test_a_client_with_certificates_does_not_speak_to_a_plain_server(certs: Path) -> None:
    async with serving(None) as port:
        assert await build(port, tls=files(certs, "scheduler")) in REFUSED


async def health(port: int, credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
    """Ask for what needs no token, as a program that is not ours."""
    options = (("grpc.ssl_target_name_override", "planner"),)
    target = f"127.0.0.1:{port}"
    async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=3)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_no_certificate_is_refused(certs: Path) -> None:
    authority_only = grpc.ssl_channel_credentials((certs / "ca.crt").read_bytes())
    async with serving(files(certs, "planner")) as port:
        assert await health(port, authority_only) is grpc.StatusCode.UNAVAILABLE
        ours = channel_credentials(files(certs, "client"))
        assert await health(port, ours) is grpc.StatusCode.OK


async def test_a_certificate_of_another_authority_is_refused(certs: Path, others: Path) -> None:
    theirs = TlsFiles(
        ca=certs / "ca.crt",
        certificate=others / "scheduler.crt",
        key=others / "scheduler.key",
    )
    async with serving(files(certs, "planner")) as port:
        assert await build(port, tls=theirs) in REFUSED


async def test_a_server_of_another_authority_is_not_believed(certs: Path, others: Path) -> None:
    ours = TlsFiles(
        ca=others / "ca.crt",
        certificate=certs / "scheduler.crt",
        key=certs / "scheduler.key",
    )
    async with serving(files(certs, "planner")) as port:
        assert await build(port, tls=ours) in REFUSED


async def test_a_token_counts_only_beside_the_certificate_of_its_service(certs: Path) -> None:
    async with serving(files(certs, "planner")) as port:
        assert await build(port, tls=files(certs, "executor")) == "unauthenticated"
        assert await build(port, tls=files(certs, "client")) == "unauthenticated"


async def test_a_server_with_another_name_is_not_believed(certs: Path) -> None:
    async with serving(files(certs, "planner")) as port:
        tls = files(certs, "scheduler")
        assert await build(port, tls=tls, audience="artifact") in REFUSED


async def test_an_expired_certificate_is_refused(certs: Path, tmp_path: Path) -> None:
    for name in ("ca.crt", "ca.key"):
        (tmp_path / name).write_bytes((certs / name).read_bytes())
    long_ago = datetime.now(UTC) - timedelta(days=100)
    make_certificates(tmp_path, ["scheduler"], now=long_ago, valid_days=99)
    tls = files(tmp_path, "scheduler")
    # Ours would not even start with it.
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(), tls.key.read_bytes(), tls.certificate.read_bytes()
    )
    async with serving(files(certs, "planner")) as port:
        assert await health(port, credentials) is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(ConfigError, match=r"scheduler\.crt is valid from .*, not now"):
            await build(port, tls=tls)


async def test_a_server_does_not_start_with_the_certificate_of_another(certs: Path) -> None:
    with pytest.raises(ConfigError, match=r"artifact\.crt is for artifact; .* name planner"):
        async with serving(files(certs, "artifact")):
            pass


async def test_the_probe_says_whether_a_process_serves(certs: Path) -> None:
    async with serving(files(certs, "planner")) as port:
        environ = {
            "PAWL_LISTEN": f"0.0.0.0:{port}",
            "PAWL_TLS_CA_FILE": str(certs / "ca.crt"),
            "PAWL_TLS_CERT_FILE": str(certs / "planner.crt"),
            "PAWL_TLS_KEY_FILE": str(certs / "planner.key"),
        }
        await asyncio.to_thread(check, environ)
        with pytest.raises(NotServing, match=str(port)):
            await asyncio.to_thread(check, {"PAWL_LISTEN": f"0.0.0.0:{port}"})
    with pytest.raises(NotServing):
        await asyncio.to_thread(check, environ)


async def test_the_probe_works_without_certificates_too() -> None:
    async with serving(None) as port:
        await asyncio.to_thread(check, {"PAWL_LISTEN": f"127.0.0.1:{port}"})
    with pytest.raises(NotServing):
        await asyncio.to_thread(check, {"PAWL_HTTP_LISTEN": "127.0.0.1:9"})
    with pytest.raises(ConfigError, match="PAWL_LISTEN"):
        check({})


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"ca": "missing.crt"}, "PAWL_TLS_CA_FILE.*cannot be read"),
        ({"ca": "scheduler.key"}, "PAWL_TLS_CA_FILE.*no PEM certificate"),
        ({"certificate": "scheduler.key"}, "PAWL_TLS_CERT_FILE"),
        ({"key": "executor.key"}, "is not the key of"),
    ],
)
def test_files_that_do_not_fit_are_named(certs: Path, broken: dict[str, str], said: str) -> None:
    given = {"ca": "ca.crt", "certificate": "scheduler.crt", "key": "scheduler.key"} | broken

    with pytest.raises(ConfigError, match=said):
        channel_credentials(TlsFiles(**{name: certs / file for name, file in given.items()}))


def test_certificates_that_still_hold_are_kept(tmp_path: Path) -> None:
    first = make_certificates(tmp_path, ["auth", "planner"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    second = make_certificates(tmp_path, ["auth", "planner"])

    assert [one.is_new for one in first] == [True, True, True]
    assert [one.is_new for one in second] == [False, False, False]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}


def test_certificates_that_end_soon_or_are_broken_are_made_anew(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["auth", "planner", "artifact"])
    long_ago = datetime.now(UTC) - timedelta(days=100)
    (tmp_path / "auth.crt").unlink()
    make_certificates(tmp_path, ["auth"], now=long_ago, valid_days=120)
    (tmp_path / "planner.key").write_text("half of it")

    again = make_certificates(tmp_path, ["auth", "planner", "artifact"])

    assert {one.name: one.is_new for one in again} == {
        "ca": False,
        "auth": True,
        "planner": True,
        "artifact": False,
    }


def test_a_new_authority_signs_everything_anew(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["auth"])
    (tmp_path / "ca.crt").unlink()

    again = make_certificates(tmp_path, ["auth"])

    assert [one.is_new for one in again] == [True, True]
