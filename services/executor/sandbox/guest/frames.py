"""Frames between guest and host: 4 bytes, big-endian, of length; then JSON in UTF-8."""

import json
import os
import struct
from typing import Any

REQUEST_BYTES = 8 * 2**20
_PIECE_BYTES = 64 * 2**10
_LENGTH = struct.Struct(">I")


class BadRequestError(Exception):
    """What came in is no request."""


def read_frame(descriptor: int) -> dict[str, Any] | None:
    """The next frame; None when there is none any more. BadRequestError for anything else."""
    head = _read(descriptor, _LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise BadRequestError("the frame ends within its length")
    (size,) = _LENGTH.unpack(head)
    if size > REQUEST_BYTES:
        raise BadRequestError(f"a frame of {size} bytes; {REQUEST_BYTES} are allowed")
    body = _read(descriptor, size)
    if len(body) < size:
        raise BadRequestError(f"the frame ends after {len(body)} of {size} bytes")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the frame is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadRequestError("the frame is no object")
    return found


def write_frame(descriptor: int, content: dict[str, Any]) -> None:
    """Send a frame."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = body.encode("utf-8", "replace")
    write_all(descriptor, _LENGTH.pack(len(data)) + data)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however many pieces it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int, size: int) -> bytes:
    """As much of `size` as comes before the end."""
    pieces, missing = [], size
    while missing and (piece := os.read(descriptor, min(missing, _PIECE_BYTES))):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
