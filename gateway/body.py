"""Reads request bodies strictly: media type and size, then JSON, then the members allowed."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from gateway.admitted import Admitted, admitted_of
from gateway.edge import BEGAN_KEY
from gateway.shares import SMALL_BYTES
from libs.core.canonical import Json
from libs.core.errors import PawlError
from libs.core.json_reader import read_object

MAX_BYTES = 2**20
REQUEST_SECONDS = 18.0
"""So long after its first byte a request must have arrived whole."""
MAX_MEDIA_TYPE = 128
PARSERS = 2
"""Larger bodies than small ones are parsed in threads, so that nobody waits for them. What is made
of a body can be twenty times its size until it is checked: so few at a time.
"""

_MEDIA_TYPE = re.compile(
    r'application/json[ \t]*(?:;[ \t]*(?:charset="?utf-?8"?)?[ \t]*)*', re.IGNORECASE | re.ASCII
)

Parsed = TypeVar("Parsed")

_parsers = ThreadPoolExecutor(PARSERS, thread_name_prefix="body")


async def read_body(request: Request, parse: Callable[[dict[str, Json]], Parsed]) -> Parsed:
    """What `parse` makes of the request's body, a JSON object.

    Raises PawlError: unsupported_media_type (415; also for a compressed body), payload_too_large
    (413; 1 MiB), request_timeout (408), unavailable (503) when too many are read at once, the
    reader's codes, and whatever `parse` raises. Afterwards the caller's token lives for a while.
    """
    check_media_type(request.headers.get("content-type", ""))
    check_encoding(request.headers.getlist("content-encoding"))
    admitted = admitted_of(request)
    data = await _bytes(request, admitted)
    if len(data) <= SMALL_BYTES:
        parsed = parse(read_object(data))
    else:
        reading = partial(contextvars.copy_context().run, lambda: parse(read_object(data)))
        parsed = await asyncio.get_running_loop().run_in_executor(_parsers, reading)
    if admitted is not None:
        await admitted.ticket.renew()
    return parsed


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


async def _bytes(request: Request, admitted: Admitted | None) -> bytes:
    announced = request.headers.get("content-length", "")
    if len(announced) > 15 or (announced.isdecimal() and int(announced) > MAX_BYTES):
        raise _too_large()
    loop = asyncio.get_running_loop()
    began = request.scope.get(BEGAN_KEY, loop.time())
    if admitted is not None and announced.isdecimal():
        asked = loop.time()
        await admitted.hold_body(int(announced))
        began += loop.time() - asked  # that was our time, not the client's
    try:
        async with asyncio.timeout_at(began + REQUEST_SECONDS):
            return await _collected(request, admitted)
    except TimeoutError as error:
        raise PawlError(
            "request_timeout", f"the request did not arrive within {REQUEST_SECONDS:.0f} s"
        ) from error


async def _collected(request: Request, admitted: Admitted | None) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BYTES:
            raise _too_large()
        if admitted is not None and size > SMALL_BYTES and not admitted.holds_body:
            # It came without its size: it may become as large as any.
            await admitted.hold_body(MAX_BYTES)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large() -> PawlError:
    return PawlError("payload_too_large", f"the body exceeds {MAX_BYTES} bytes (1 MiB)")
