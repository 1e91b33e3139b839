"""Waiting for something to come true, without guessing how long it takes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_LOOK_SECONDS = 0.01


@overload
async def eventually(check: Callable[[], Awaitable[T]], *, timeout: float = 5.0) -> T: ...
@overload
async def eventually(check: Callable[[], T], *, timeout: float = 5.0) -> T: ...
async def eventually(check: Callable[[], Any], *, timeout: float = 5.0) -> Any:
    """Call `check` every 10 ms until it returns something true, and return that.

    AssertionError with its last value after `timeout` seconds. What `check` raises passes through.
    """
    end = time.monotonic() + timeout
    while True:
        found = check()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"still {value!r} after {timeout} s")
        await asyncio.sleep(_LOOK_SECONDS)
