"""The attached connection of a container, taken apart: stdout to read, stderr to log."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import cast

from services.executor.sandbox.model import FrameRefused

STDERR_BYTES = 64 * 2**10
_BUFFER_BYTES = 64 * 2**10
_HEADER = struct.Struct(">B3sI")
_STDOUT, _STDERR = 1, 2
_FRAME = struct.Struct(">I")


@dataclass(slots=True)
class Demultiplexer:
    """Takes apart what an engine sends of a container without a terminal.

    Each piece has a header of 8 bytes: the stream, three zeros, the length. The engine writes them,
    so what the container writes cannot look like one.
    """

    stderr: bytearray = field(default_factory=bytearray)
    """The first 64 KiB."""
    _header: bytearray = field(default_factory=bytearray)
    _stream: int = 0
    _left: int = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived; the pieces of stdout in it. FrameRefused for what is no stream."""
        found: list[bytes] = []
        view = memoryview(data)
        while view:
            if self._left == 0:
                view = self._read_header(view)
                continue
            piece, view = view[: self._left], view[self._left :]
            self._left -= len(piece)
            if self._stream == _STDOUT:
                found.append(bytes(piece))
            else:
                self.stderr += piece[: STDERR_BYTES - len(self.stderr)]
        return found

    def _read_header(self, view: memoryview) -> memoryview:
        missing = _HEADER.size - len(self._header)
        self._header += view[:missing]
        if len(self._header) == _HEADER.size:
            self._stream, padding, self._left = _HEADER.unpack(self._header)
            if self._stream not in {_STDOUT, _STDERR} or any(padding):
                raise FrameRefused("the engine sends no stream of a container")
            self._header.clear()
        return view[missing:]


class AttachedStream(asyncio.Protocol):
    """Frames to a container's stdin and from its stdout, over a connection that the engine gave."""

    def __init__(self) -> None:
        self._parts = Demultiplexer()
        self._stdout = asyncio.StreamReader(limit=_BUFFER_BYTES)
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, connection: socket.socket) -> AttachedStream:
        """Take over `connection`, which is closed with the stream, or when this fails.

        Nobody else may close it from now on: the loop closes its descriptor, whose number is then
        another's.
        """
        loop = asyncio.get_running_loop()
        if connection.family == socket.AF_UNIX:
            _, stream = await loop.create_unix_connection(cls, sock=connection)
        else:
            _, stream = await loop.create_connection(cls, sock=connection)
        return stream

    @property
    def is_open(self) -> bool:
        """False once either side has ended it: the container then has ended, or soon will."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def stderr(self) -> str:
        """What came so far on stderr, at most 64 KiB of it."""
        return self._parts.stderr.decode("utf-8", "replace")

    def write_frame(self, body: bytes) -> None:
        """Send a frame. What cannot be sent at once waits in memory."""
        if self._transport is not None and self.is_open:
            self._transport.write(_FRAME.pack(len(body)) + body)

    async def read_frame(self, *, max_bytes: int) -> bytes | None:
        """The body of the next frame, None when stdout ends before its end.

        Raises FrameRefused for one that says it is longer than `max_bytes`.
        """
        try:
            (size,) = _FRAME.unpack(await self._stdout.readexactly(_FRAME.size))
            if size > max_bytes:
                raise FrameRefused(f"a frame of {size} bytes; {max_bytes} are allowed")
            return await self._stdout.readexactly(size)
        except asyncio.IncompleteReadError:
            return None

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio.Protocol."""
        # That of uvloop has all that a Transport has, but is none.
        self._transport = cast("asyncio.Transport", transport)
        # Whoever writes faster than we read is made to wait.
        self._stdout.set_transport(self._transport)

    def data_received(self, data: bytes) -> None:
        """As asyncio.Protocol."""
        try:
            pieces = self._parts.feed(data)
        except FrameRefused as error:
            self._stdout.set_exception(error)
            self.close()
            return
        for piece in pieces:
            self._stdout.feed_data(piece)

    def eof_received(self) -> bool:
        """As asyncio.Protocol: the other side has ended, and so do we."""
        self._stdout.feed_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio.Protocol. A connection that broke is one that ended."""
        del exc
        self._stdout.feed_eof()
