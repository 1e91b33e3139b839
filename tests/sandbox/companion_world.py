"""The sandbox beside executors under test: over real gRPC, what it runs is made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from libs.rpc.client import RpcChannel
from libs.rpc.server import RpcServer
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import KeyRing, ServiceTokens, TokenVerifier
from services.executor.companion.server import SandboxServer, make_server
from services.executor.sandbox.companion import CompanionSandbox
from services.executor.sandbox.model import (
    CodeRequest,
    CodeResult,
    SandboxIdentity,
    Spent,
    untold,
)

IDENTITY = SandboxIdentity(backend="docker", python="3.11.2", build="0123456789ab.cdef01234567")
REQUEST = CodeRequest(
    code="result = input_data", input_json='{"a":1}', seed=2**64 - 1, now=1.5, wall_seconds=10
)
RESULT = CodeResult(result_json='{"a":1}', stdout="said\n", stderr="")
BOOT = "0193a5e0-0000-7000-8000-000000000001"
LOOK_SECONDS = 0.05


@dataclass(slots=True)
class MadeUpSandbox:
    """Runs nothing: answers with `outcome` once `gate` is open; None: waits until it is killed.

    It says that it took `seconds`; 0: nothing.
    """

    identity: SandboxIdentity = IDENTITY
    is_healthy: bool = True
    outcome: CodeResult | Exception | None = RESULT
    seen: list[CodeRequest] = field(default_factory=list)
    running: int = 0
    kill_seconds: float = 0.0
    seconds: float = 0.0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def run(self, request: CodeRequest, *, spent: Spent = untold) -> CodeResult:
        self.seen.append(request)
        self.running += 1
        try:
            await self.gate.wait()
            if self.outcome is None:
                await asyncio.Event().wait()
            if isinstance(self.outcome, Exception):
                raise self.outcome
            assert self.outcome is not None
            return replace(self.outcome)
        finally:
            # As the removal of a container: cancellation does not shorten it.
            if self.outcome is None:
                await asyncio.shield(asyncio.sleep(self.kill_seconds))
            self.running -= 1
            if self.seconds:
                spent(self.seconds)

    async def boots(self) -> frozenset[str]:
        return frozenset({"our own"})

    async def remove(self, boots: Collection[str]) -> int:
        raise AssertionError(boots)

    async def close(self) -> None:
        """Nothing."""


@dataclass(slots=True, kw_only=True)
class CompanionWorld:
    """`sandbox` is what the server runs, `client` the executor's way to it."""

    sandbox: MadeUpSandbox
    server: RpcServer
    channel: RpcChannel
    client: CompanionSandbox

    async def serve_again(self, keys: KeyRing) -> RpcServer:
        """Another server in place of the one that was stopped, at its address."""
        server = _server(self.sandbox, keys, port=self.server.port)
        await server.start()
        return server

    def channel_as(self, service: str, keys: KeyRing, tls: TlsFiles | None = None) -> RpcChannel:
        """A channel of another service; "" of nobody."""
        tokens = ServiceTokens(service, keys.private[service]) if service else None
        return RpcChannel(
            f"127.0.0.1:{self.server.port}", audience="sandbox", tokens=tokens, tls=tls
        )


@asynccontextmanager
async def companion_world(
    keys: KeyRing, *, server_tls: TlsFiles | None = None, client_tls: TlsFiles | None = None
) -> AsyncIterator[CompanionWorld]:
    """A server on a free port, and an executor's client that has asked it who it is."""
    sandbox = MadeUpSandbox()
    server = _server(sandbox, keys, tls=server_tls)
    port = await server.start()
    tokens = ServiceTokens("executor", keys.private["executor"])
    channel = RpcChannel(f"127.0.0.1:{port}", audience="sandbox", tokens=tokens, tls=client_tls)
    client = await CompanionSandbox.open(channel, boot_id=lambda: BOOT, look_seconds=LOOK_SECONDS)
    try:
        yield CompanionWorld(sandbox=sandbox, server=server, channel=channel, client=client)
    finally:
        await client.close()
        await server.stop()


def _server(
    sandbox: MadeUpSandbox, keys: KeyRing, *, port: int = 0, tls: TlsFiles | None = None
) -> RpcServer:
    return make_server(
        SandboxServer(sandbox),
        address=f"127.0.0.1:{port}",
        verifier=TokenVerifier(keys.public, audience="sandbox"),
        tls=tls,
    )
