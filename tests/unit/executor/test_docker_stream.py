"""The stream of an attached container, taken apart: however it is cut, and when it is none."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox.docker_stream import STDERR_BYTES, AttachedStream, Demultiplexer
from services.executor.sandbox.model import FrameRefused


def piece(stream: int, data: bytes) -> bytes:
    """As the engine sends what a container wrote."""
    return struct.pack(">BxxxI", stream, len(data)) + data


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@given(
    pieces=st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=40)), max_size=8),
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=40),
)
def test_pieces_come_out_however_they_arrive(
    pieces: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    sent = b"".join(piece(stream, data) for stream, data in pieces)
    parts = Demultiplexer()
    stdout = b""
    while sent:
        size = cuts.pop() if cuts else len(sent)
        stdout += b"".join(parts.feed(sent[:size]))
        sent = sent[size:]

    assert stdout == b"".join(data for stream, data in pieces if stream == 1)
    assert bytes(parts.stderr) == b"".join(data for stream, data in pieces if stream == 2)


def test_what_looks_like_a_header_inside_a_piece_is_none() -> None:
    forged = piece(1, b"forged")

    assert b"".join(Demultiplexer().feed(piece(1, forged))) == forged


@pytest.mark.parametrize(
    "header", [b"\x03\0\0\0\0\0\0\1", b"\0\0\0\0\0\0\0\1", b"\1\0\0\1\0\0\0\1", b"HTTP/1.1"]
)
def test_what_no_engine_sends_is_refused(header: bytes) -> None:
    with pytest.raises(FrameRefused):
        Demultiplexer().feed(header)


def test_stderr_is_kept_up_to_its_bound() -> None:
    parts = Demultiplexer()

    for _ in range(3):
        parts.feed(piece(2, b"x" * 50_000))

    assert len(parts.stderr) == STDERR_BYTES


class Attached:
    """An attached stream and the engine's end of it."""

    def __init__(self, engine: socket.socket, stream: AttachedStream) -> None:
        self.engine = engine
        self.stream = stream

    @classmethod
    async def open(cls) -> Attached:
        engine, ours = socket.socketpair()
        engine.setblocking(False)
        return cls(engine, await AttachedStream.open(ours))

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.engine, data)

    def close(self) -> None:
        self.stream.close()
        self.engine.close()


async def test_a_frame_goes_out_and_one_comes_back() -> None:
    attached = await Attached.open()

    attached.stream.write_frame(b"request")
    await attached.send(piece(1, frame(b"answer")[:6]) + piece(2, b"!"))
    await attached.send(piece(1, frame(b"answer")[6:]))

    assert await attached.stream.read_frame(max_bytes=6) == b"answer"
    assert attached.engine.recv(100) == frame(b"request")
    assert attached.stream.stderr == "!"
    attached.close()


async def test_an_end_before_a_frame_is_no_frame() -> None:
    attached = await Attached.open()

    attached.engine.close()

    assert await attached.stream.read_frame(max_bytes=6) is None
    attached.stream.write_frame(b"nobody is there")
    attached.close()


async def test_an_end_inside_a_frame_is_no_frame() -> None:
    attached = await Attached.open()

    await attached.send(piece(1, frame(b"answer")[:-1]))
    attached.engine.close()

    assert await attached.stream.read_frame(max_bytes=6) is None
    attached.close()


async def test_a_longer_frame_is_refused_before_it_is_read() -> None:
    attached = await Attached.open()

    await attached.send(piece(1, struct.pack(">I", 2**32 - 1)))

    with pytest.raises(FrameRefused, match="4294967295"):
        await attached.stream.read_frame(max_bytes=6)
    attached.close()


async def test_a_broken_stream_is_refused_and_ended() -> None:
    attached = await Attached.open()

    await attached.send(b"HTTP/1.1 500 Internal Server Error\r\n")

    with pytest.raises(FrameRefused):
        await attached.stream.read_frame(max_bytes=6)
    assert await asyncio.get_running_loop().sock_recv(attached.engine, 1) == b""
    attached.close()


async def test_who_writes_without_end_is_made_to_wait() -> None:
    attached = await Attached.open()

    writing = asyncio.create_task(attached.send(piece(1, b"x" * 2**26)))
    done, _ = await asyncio.wait({writing}, timeout=0.3)

    assert not done
    writing.cancel()
    attached.close()
