"""Both clients behind one blocking interface, so that each test judges both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from libs.client.async_client import AsyncClient
from libs.client.client import Client


class Blocking:
    """pawl.Client."""

    def __init__(self, url: str, api_key: str = "pawl_test_key", **how: Any) -> None:
        self._client = Client(url, api_key, **how)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """The result of a method."""
        return getattr(self._client, name)(*args, **options)

    def items(self, name: str, *args: Any, most: int = 1000, **options: Any) -> list[Any]:
        """The first items of a method that gives many."""
        found = []
        for item in getattr(self._client, name)(*args, **options):
            found.append(item)
            if len(found) == most:
                break
        return found

    def close(self) -> None:
        """Close it."""
        self._client.close()


class Awaiting:
    """pawl.AsyncClient, on a loop of its own."""

    def __init__(self, url: str, api_key: str = "pawl_test_key", **how: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, api_key, **how)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """The result of a method."""
        return self._runner.run(getattr(self._client, name)(*args, **options))

    def items(self, name: str, *args: Any, most: int = 1000, **options: Any) -> list[Any]:
        """The first items of a method that gives many."""
        return self._runner.run(_first(getattr(self._client, name)(*args, **options), most))

    def close(self) -> None:
        """Close it and its loop."""
        self._runner.run(self._client.close())
        self._runner.close()


async def _first(items: Any, most: int) -> list[Any]:
    found = []
    async with aclosing(items) as open_items:
        given: AsyncIterator[Any] = open_items
        async for item in given:
            found.append(item)
            if len(found) == most:
                break
    return found
