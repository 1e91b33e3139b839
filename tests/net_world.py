"""What tests of egress share: a resolver that says what it is told, a network that leads to
loopback and remembers what it was asked for, and servers that answer with given bytes.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import httpcore2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from libs.net.hosts import IpAddress
from libs.net.refusals import ExchangeFailed, ExchangeFault

PUBLIC = "93.184.216.34"
PUBLIC_V6 = "2606:2800:220:1:248:1893:25c8:1946"


class FakeResolver:
    """Answers each lookup with the next of the lists, the last one for ever after; remembers the
    names. No list: the name is not known.
    """

    def __init__(self, *answers: Sequence[str]) -> None:
        self.names: list[str] = []
        self.askers: list[Hashable] = []
        self._answers = list(answers)

    async def resolve(self, name: str, *, asker: Hashable = None) -> Sequence[IpAddress]:
        self.names.append(name)
        self.askers.append(asker)
        if not self._answers:
            raise ExchangeFailed(ExchangeFault.DNS, f"the name {name} cannot be resolved")
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [ip_address(text) for text in answer]


class HangingResolver:
    """Never answers."""

    async def resolve(self, name: str, *, asker: Hashable = None) -> Sequence[IpAddress]:
        await asyncio.Event().wait()
        raise AssertionError(name, asker)


class LoopbackNetwork(httpcore2.AsyncNetworkBackend):
    """Leads every connection to `port` of loopback; `dialed` says where it was meant to go.

    `dead` addresses refuse. Without a port everything refuses; with `only_loopback` everything but
    loopback.
    """

    def __init__(
        self, port: int | None = None, *, dead: Iterable[str] = (), only_loopback: bool = False
    ) -> None:
        self.dialed: list[tuple[str, int]] = []
        self._port = port
        self._dead = frozenset(dead)
        self._only_loopback = only_loopback
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        del local_address
        self.dialed.append((host, port))
        silent = self._only_loopback and not ip_address(host).is_loopback
        if self._port is None or host in self._dead or silent:
            raise httpcore2.ConnectError("refused")
        return await self._inner.connect_tcp(
            "127.0.0.1", self._port, timeout=timeout, socket_options=socket_options
        )


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(kw_only=True)
class Peer:
    """A server on loopback. `requests` are the heads and bodies that came, `connections` counts,
    `closed` is set when a connection ends.
    """

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def peer(
    answer: bytes | Handler, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    """A server that reads one request per connection and answers with these bytes, or lets the
    handler do it; then it closes.
    """
    known = Peer()
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        known.connections += 1
        try:
            known.requests.append(await _read_request(reader))
            if callable(answer):
                await answer(reader, writer)
            else:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            known.closed.set()
            writer.transport.abort() if writer.transport.is_closing() else writer.close()
            handlers.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    known.port = server.sockets[0].getsockname()[1]
    try:
        yield known
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return head + await reader.readexactly(length)


def http_answer(
    body: bytes = b"", *, status: int = 200, headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """The bytes of an answer, with its Content-Length."""
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers)]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def self_signed(directory: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server called `name`, and for a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = directory / f"{name}.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))
