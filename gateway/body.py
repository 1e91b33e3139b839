"""Reads request bodies strictly: media type and size, then JSON, then the members allowed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from libs.core.canonical import Json
from libs.core.errors import PawlError
from libs.core.json_reader import read_object

MAX_BYTES = 2**20
BODY_SECONDS = 20.0
MAX_MEDIA_TYPE = 128
INLINE_BYTES = 32 * 2**10
"""Bodies up to this size are parsed at once, larger ones in a thread, so that nobody waits."""

_MEDIA_TYPE = re.compile(
    r'application/json[ \t]*(?:;[ \t]*(?:charset="?utf-?8"?)?[ \t]*)*', re.IGNORECASE | re.ASCII
)

Parsed = TypeVar("Parsed")


async def read_body(request: Request, parse: Callable[[dict[str, Json]], Parsed]) -> Parsed:
    """What `parse` makes of the request's body, a JSON object.

    Raises PawlError: unsupported_media_type (415; also for a compressed body), payload_too_large
    (413; 1 MiB), the reader's codes, and whatever `parse` raises.
    """
    check_media_type(request.headers.get("content-type", ""))
    check_encoding(request.headers.getlist("content-encoding"))
    data = await _bytes(request)
    if len(data) <= INLINE_BYTES:
        return parse(read_object(data))
    return await asyncio.to_thread(lambda: parse(read_object(data)))


def check_media_type(content_type: str) -> None:
    """Only application/json, in UTF-8. PawlError unsupported_media_type for anything else."""
    if len(content_type) > MAX_MEDIA_TYPE or not _MEDIA_TYPE.fullmatch(content_type):
        given = repr(content_type[:MAX_MEDIA_TYPE]) if content_type else "none"
        raise PawlError(
            "unsupported_media_type",
            f"the content type is {given}; it must be application/json, charset utf-8",
        )


def check_encoding(content_encodings: list[str]) -> None:
    """Only a body as it is, not compressed. PawlError unsupported_media_type for anything else."""
    for text in content_encodings:
        if text.lower() not in {"", "identity"}:
            raise PawlError(
                "unsupported_media_type",
                f"the content encoding is {text[:MAX_MEDIA_TYPE]!r}; send the body uncompressed",
            )


async def _bytes(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    if len(announced) > 15 or (announced.isdecimal() and int(announced) > MAX_BYTES):
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _collected(request)
    except TimeoutError as error:
        raise PawlError(
            "request_timeout", f"the body did not arrive within {BODY_SECONDS:.0f} s"
        ) from error


async def _collected(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BYTES:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large() -> PawlError:
    return PawlError("payload_too_large", f"the body exceeds {MAX_BYTES} bytes (1 MiB)")
