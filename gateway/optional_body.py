"""Reads a body that may be absent, as strictly as any other when it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from gateway.body import read_body
from libs.core.canonical import Json

Parsed = TypeVar("Parsed")


async def read_optional_body(
    request: Request, parse: Callable[[dict[str, Json]], Parsed]
) -> Parsed:
    """What `parse` makes of the body, a JSON object; without a body, of an empty one.

    Raises PawlError as `read_body` does. Without a body the content type does not matter: some
    clients send one all the same.
    """
    if _has_body(request):
        return await read_body(request, parse)
    return parse({})


def _has_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""
