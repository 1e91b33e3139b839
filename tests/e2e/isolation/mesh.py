"""The services of a running Pawl as their peers call them, with any token that there can be."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

import libs.pb
from libs.cli.stack import Stack
from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2
from libs.rpc.context import Caller
from libs.rpc.errors import from_rpc_error
from libs.rpc.tokens import (
    SERVICES,
    CallerTokens,
    KeyRing,
    ServiceTokens,
    TokenVerifier,
    load_private_key,
    load_public_keys,
    private_key_file,
    public_keys_file,
)
from services.executor.companion.server import SandboxServer, make_server
from tests.e2e.isolation.account import until_idle
from tests.e2e.isolation.rpcs import AUTH, Rpc
from tests.sandbox_fakes import FakeSandbox

AUTHENTICATE = f"/{AUTH}/Authenticate"
PAST_SECONDS = 300.0


def all_methods() -> Iterator[MethodDescriptor]:
    """Every method of every service that Pawl's protos describe."""
    for module in pkgutil.walk_packages(libs.pb.__path__, prefix="libs.pb."):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(module.name).DESCRIPTOR
            for service in file.services_by_name.values():
                yield from service.methods


def path_of(method: MethodDescriptor) -> str:
    """As gRPC spells it."""
    return f"/{method.containing_service.full_name}/{method.name}"


METHODS = {path_of(method): method for method in all_methods()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Channels by service, and the keys of the installation."""

    channels: dict[str, Any]
    keys: KeyRing
    verifier: TokenVerifier

    async def call(self, rpc: Rpc, request: dict[str, Any], *, token: str | None) -> str:
        """The answers as JSON; of a stream, what came until nothing more did. PawlError."""
        method = METHODS[rpc.path]
        message = json_format.ParseDict(request, GetMessageClass(method.input_type)())
        metadata = () if token is None else (("authorization", token),)
        try:
            answers = await self._answers(
                rpc, method, data=message.SerializeToString(), metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        read = GetMessageClass(method.output_type).FromString
        return "".join(json_format.MessageToJson(read(answer)) for answer in answers)

    async def _answers(
        self, rpc: Rpc, method: MethodDescriptor, *, data: bytes, metadata: Any
    ) -> list[bytes]:
        channel = self.channels[rpc.audience]
        if not method.server_streaming:
            return [await channel.unary_unary(rpc.path)(data, timeout=10, metadata=metadata)]
        if method.client_streaming:
            both: Any = channel.stream_stream(rpc.path)(timeout=10, metadata=metadata)
            await both.done_writing()
            return await _read(both)
        return await _read(channel.unary_stream(rpc.path)(data, timeout=10, metadata=metadata))

    async def caller_token(self, key: str) -> str:
        """What auth gives for an API key."""
        wanted = auth_service_pb2.AuthenticateRequest(api_key=key).SerializeToString()
        said = await self.channels["auth"].unary_unary(AUTHENTICATE)(wanted, timeout=10)
        return auth_service_pb2.AuthenticateResponse.FromString(said).caller_token

    def service_token(
        self,
        name: str,
        audience: str,
        *,
        tenant_id: str | None = None,
        task_id: str | None = None,
        age: float = 0.0,
    ) -> str:
        """A service's token, signed so many seconds ago."""
        tokens = ServiceTokens(name, self.keys.private[name], now=lambda: time.time() - age)
        return tokens.token_for(
            audience,
            tenant_id=None if tenant_id is None else UUID(tenant_id),
            task_id=None if task_id is None else UUID(task_id),
        )

    def signed(self, like: str, *, by: str = "auth", age: float = 0.0) -> str:
        """A caller token with the claims of another one, signed by a service some time ago."""
        caller = self.verifier.verify(like)
        assert isinstance(caller, Caller)
        tokens = CallerTokens(self.keys.private[by], now=lambda: time.time() - age)
        return tokens.issue(caller)[0]


@asynccontextmanager
async def mesh_of(stack: Stack) -> AsyncIterator[Mesh]:
    """Channels to every service; a sandbox of this process stands for the one it was not given."""
    secrets = stack.data_dir / "secrets"
    public = load_public_keys(public_keys_file(secrets))
    keys = KeyRing({name: load_private_key(private_key_file(secrets, name)) for name in SERVICES})
    addresses = {name: one[0].address for name, one in stack.ready.services.items()}
    async with AsyncExitStack() as opened:
        sandbox = make_server(
            SandboxServer(FakeSandbox()),
            address="127.0.0.1:0",
            verifier=TokenVerifier(public, audience="sandbox"),
        )
        addresses["sandbox"] = f"127.0.0.1:{await sandbox.start()}"
        opened.push_async_callback(sandbox.stop)
        channels = {
            name: await opened.enter_async_context(grpc.aio.insecure_channel(address))
            for name, address in addresses.items()
            if name != "gateway"
        }
        verifier = TokenVerifier(public, audience="auth")
        yield Mesh(channels=channels, keys=keys, verifier=verifier)


async def code_of(mesh: Mesh, rpc: Rpc, request: dict[str, Any], *, token: str | None) -> str:
    """The code of the refusal; empty when there is none."""
    try:
        await mesh.call(rpc, request, token=token)
    except PawlError as error:
        return error.code
    return ""


async def _read(stream: Any) -> list[bytes]:
    try:
        return [answer async for answer in until_idle(aiter(stream))]
    finally:
        stream.cancel()
