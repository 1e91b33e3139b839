"""Links between processes that can be made slow, one-way, silent or broken.

A service is told to call a port of ours in place of the real one. Nothing is ever dropped from the
middle of a stream: what a silent link holds is delivered when it heals, as TCP would do it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

Direction = Literal["there", "back"]
LINKS = "PAWL_FAULT_LINKS"
"""The environment variable with the address at which processes ask for their links."""

_HOST = "127.0.0.1"
_CHUNK_BYTES = 65_536
_RESET = struct.pack("ii", 1, 0)

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How a link behaves. `silent` directions carry nothing; `refuses`: nobody listens."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    silent: frozenset[Direction] = frozenset()
    refuses: bool = False


FAIR = Weather()
SILENT = Weather(silent=frozenset({"there", "back"}))
ONE_WAY_THERE = Weather(silent=frozenset({"back"}))
ONE_WAY_BACK = Weather(silent=frozenset({"there"}))
REFUSING = Weather(refuses=True)


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Who calls whom: the caller's own address, and a word for what it calls (`database`)."""

    caller: str
    callee: str


class _Link:
    """One listening port (or socket in a directory), and whatever goes through it."""

    def __init__(self, upstream: str, *, rng: random.Random) -> None:
        self.upstream = upstream
        self.address = ""
        self._rng = rng
        self._weather = FAIR
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    async def listen(self) -> None:
        if self.upstream.startswith("/"):
            if self._directory is None:
                self._directory = tempfile.TemporaryDirectory(prefix="pl-")
                self.address = self._directory.name
            name = Path(self.upstream).name
            path = Path(self.address) / name
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, path)
            path.chmod(0o777)
            return
        port = int(self.address.rpartition(":")[2] or 0)
        self._server = await asyncio.start_server(self._accept, _HOST, port, reuse_address=True)
        self.address = f"{_HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def turn(self, weather: Weather) -> None:
        if weather.refuses and self._server is not None:
            self._server.close()
            self._server = None
            if self.upstream.startswith("/"):
                (Path(self.address) / Path(self.upstream).name).unlink(missing_ok=True)
        elif not weather.refuses and self._server is None:
            await self.listen()
        async with self._changed:
            self._weather = weather
            self._changed.notify_all()
        if weather.refuses:
            self.reset()

    def reset(self) -> None:
        """Break every open connection with an RST."""
        for writer in tuple(self._open):
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        for pump in tuple(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        if self._directory is not None:
            self._directory.cleanup()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there[1]}
        ways: tuple[tuple[Direction, asyncio.StreamReader, asyncio.StreamWriter], ...] = (
            ("there", reader, there[1]),
            ("back", there[0], writer),
        )
        for way in ways:
            pump = asyncio.create_task(self._pump(*way))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _connect(self) -> Streams:
        if self.upstream.startswith("/"):
            return await asyncio.open_unix_connection(self.upstream)
        host, _, port = self.upstream.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _pump(
        self, way: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                await self._pass(way)
                writer.write(data)
                await writer.drain()
            # The end of a stream is news as well, and does not get through a silent link.
            await self._pass(way)
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            writer.transport.abort()
        finally:
            self._open.discard(writer)
            if reader.at_eof():
                writer.close()

    async def _pass(self, way: Direction) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: way not in self._weather.silent)
        weather = self._weather
        if weather.delay_seconds:
            jitter = self._rng.uniform(-weather.jitter_seconds, weather.jitter_seconds)
            await asyncio.sleep(max(0.0, weather.delay_seconds + jitter))


class Links:
    """All links of a run, in a thread of their own, so that a busy test does not slow them."""

    def __init__(self, *, seed: int) -> None:
        self.control = ""
        self._rng = random.Random(seed)
        self._links: dict[Pair, dict[str, _Link]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_error: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def pairs(self) -> list[Pair]:
        """Who has asked for a link so far."""
        return sorted(self._links)

    @contextmanager
    def weather(self, weather: Weather, *pairs: Pair) -> Iterator[None]:
        """Let these links, all without a pair, behave so during the block, and fair again after."""
        chosen = pairs or tuple(self._links)
        assert all(pair in self._links for pair in chosen), f"{chosen} of {self.pairs}"
        try:
            self._each(chosen, lambda link: link.turn(weather))
            yield
        finally:
            self._each(chosen, lambda link: link.turn(FAIR))

    def reset(self, *pairs: Pair) -> None:
        """Break what is open on these links by RST; all of them without a pair."""

        async def reset(link: _Link) -> None:
            link.reset()

        self._each(pairs or tuple(self._links), reset)

    def _each(self, pairs: tuple[Pair, ...], act: Callable[[_Link], Awaitable[None]]) -> None:
        async def all_of_them() -> None:
            for pair in pairs:
                for link in self._links[pair].values():
                    await act(link)

        self._do(all_of_them())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._answer, _HOST, 0)
        self.control = f"{_HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        for links in self._links.values():
            for link in links.values():
                await link.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            asked = json.loads(await reader.readline())
            pair = Pair(asked["caller"], asked["callee"])
            addresses = [await self._address(pair, upstream) for upstream in asked["upstreams"]]
            writer.write(json.dumps(addresses).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _address(self, pair: Pair, upstream: str) -> str:
        links = self._links.setdefault(pair, {})
        if upstream not in links:
            links[upstream] = _Link(upstream, rng=self._rng)
            await links[upstream].listen()
        return links[upstream].address


def ask_for_links(control: str, *, pair: Pair, upstreams: list[str]) -> list[str]:
    """The addresses to call in place of `upstreams`; asked by the process that is to be linked."""
    host, _, port = control.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        asked = {"caller": pair.caller, "callee": pair.callee, "upstreams": upstreams}
        connection.sendall(json.dumps(asked).encode() + b"\n")
        with connection.makefile("rb") as answer:
            found: list[str] = json.loads(answer.readline())
    return found
