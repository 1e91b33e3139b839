"""Reads a body that may be absent, as strictly as any other when it is there."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request

from gateway.body import read_body
from libs.core.canonical import Json


async def read_optional_body(request: Request, check: Callable[[dict[str, Json]], None]) -> None:
    """Have `check` look at the body, a JSON object, unless there is none.

    Raises PawlError as `read_body` does. Without a body the content type does not matter: some
    clients send one all the same.
    """
    if _has_body(request):
        await read_body(request, check)


def _has_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""
