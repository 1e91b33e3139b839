"""HTTP as bytes: requests that no client library would send, and answers as they come."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The first answer on a connection. `status` 0: the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    closed: bool

    @property
    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """Where the server listens."""

    host: str
    port: int
    limit: int = field(default=2**24)
    source: str = ""
    """The address to come from; the system's choice when empty."""

    async def send(self, raw: bytes) -> Answer:
        """Send the bytes and read one answer."""
        begin = time.perf_counter()
        async with self.opened() as (reader, writer):
            writer.write(raw)
            return await asyncio.wait_for(read_answer(reader, begin), PATIENCE_SECONDS)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection that nothing has been sent on."""
        reader, writer = await asyncio.open_connection(
            self.host,
            self.port,
            limit=self.limit,
            local_addr=(self.source, 0) if self.source else None,
        )
        try:
            yield reader, writer
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def request(
    method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None = None
) -> bytes:
    """The bytes of a request; Host and Content-Length are added where they are not given."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    if "host" not in names:
        given.insert(0, ("Host", "pawl.test"))
    if body is not None and "content-length" not in names:
        given.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


async def read_answer(reader: asyncio.StreamReader, begin: float) -> Answer:
    """The first answer that comes; `begin` (perf_counter) is when the request was begun."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        seconds = time.perf_counter() - begin
        return Answer(status=0, headers={}, body=b"", seconds=seconds, closed=True)
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(
        status=int(first.split()[1]),
        headers=headers,
        body=body,
        seconds=time.perf_counter() - begin,
        closed=headers.get("connection") == "close",
    )
