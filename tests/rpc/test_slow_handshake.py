"""A service that takes its time to greet, as on a busy machine or far away, is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from libs.rpc.certs import make_certificates
from tests.rpc.test_mtls import build, files, serving

SLOW_SECONDS = 0.6


@asynccontextmanager
async def slow_way_to(port: int) -> AsyncIterator[int]:
    """A port whose connections lead to `port`, the first byte of each after `SLOW_SECONDS`."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(SLOW_SECONDS)
            there, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(carry(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_the_first_call_waits_for_a_slow_handshake(tmp_path: Path) -> None:
    make_certificates(tmp_path)

    async with serving(files(tmp_path, "planner")) as port, slow_way_to(port) as slow_port:
        assert await build(slow_port, tls=files(tmp_path, "scheduler")) == "ok"
