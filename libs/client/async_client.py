"""The client for asyncio. `Client` has the same methods, and says what they promise."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from libs.client import streams
from libs.client.accounts import Tool, Usage
from libs.client.address import address_of
from libs.client.answers import JsonObject
from libs.client.async_face import AsyncFace
from libs.client.calls import SILENCE_SECONDS, Calls
from libs.client.listing import list_query
from libs.client.retrying import DEFAULT, Retry
from libs.client.submissions import Submission, TaskLike
from libs.client.tasks import Accepted, Event, Task
from libs.client.traces import Trace
from libs.client.transport import OnRetry, Transport, log_again
from libs.core.ids import new_id
from libs.core.plan import Plan
from libs.core.verification import Report


class AsyncClient:
    """Talks to one server, from one event loop; close it, or use it in an `async with`.

    The arguments are those of Client, and every method does what the one of that name there does.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_seconds: float = SILENCE_SECONDS,
        retry: Retry = DEFAULT,
        on_retry: OnRetry = log_again,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        keeps_connections: bool = True,
    ) -> None:
        """Sends nothing yet. Raises BadAddress."""
        address = address_of(url, api_key)
        self._calls = Calls(
            address=address,
            retry=retry,
            silence_seconds=timeout_seconds,
            new_key=lambda: str(new_id()),
        )
        transport = Transport(
            address=address,
            ssl_context=ssl_context,
            proxy=proxy,
            keeps_connections=keeps_connections,
        )
        self._face = AsyncFace(transport, on_retry=on_retry)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._face.close()

    async def submit(
        self,
        task_definition: Mapping[str, Any] | None = None,
        *,
        plan: Plan | Mapping[str, Any] | None = None,
        max_steps: int | None = None,
        timeout_seconds: float | None = None,
        priority: int | None = None,
        scheduled_at: datetime | str | None = None,
        idempotency_key: str | None = None,
        wait_seconds: float = 0.0,
    ) -> Accepted:
        """As Client.submit."""
        submission = Submission(
            task_definition=task_definition or {},
            plan=plan,
            max_steps=max_steps,
            timeout_seconds=timeout_seconds,
            priority=priority,
            scheduled_at=scheduled_at,
        )
        return await self._face.run(
            self._calls.submit(
                submission, idempotency_key=idempotency_key, wait_seconds=wait_seconds
            )
        )

    async def submit_many(
        self, submissions: Iterable[Submission], *, idempotency_key: str | None = None
    ) -> tuple[Accepted, ...]:
        """As Client.submit_many."""
        return await self._face.run(
            self._calls.submit_many(submissions, idempotency_key=idempotency_key)
        )

    async def get(self, task: TaskLike, *, wait_seconds: float = 0.0) -> Task:
        """As Client.get."""
        return await self._face.run(self._calls.get(task, wait_seconds=wait_seconds))

    async def wait(self, task: TaskLike, *, timeout_seconds: float | None = None) -> Task:
        """As Client.wait."""
        return await self._face.run(self._calls.wait(task, timeout_seconds=timeout_seconds))

    def stream(self, task: TaskLike, *, after: int | None = None) -> AsyncIterator[Event]:
        """As Client.stream."""
        source = streams.of_task(task)
        return self._face.items(streams.follow(self._calls, source, after=after))

    def stream_all(
        self, *, after: int | None = None, idle_seconds: float | None = None
    ) -> AsyncIterator[Event]:
        """As Client.stream_all."""
        source = streams.of_all(idle_seconds=idle_seconds)
        return self._face.items(streams.follow(self._calls, source, after=after))

    async def trace(self, task: TaskLike) -> Trace:
        """As Client.trace."""
        return await self._face.run(self._calls.trace(task))

    async def verify(self, task: TaskLike, *, expected_task_hash: str | None = None) -> Report:
        """As Client.verify."""
        return await self._face.run(self._calls.verify(task, expected_task_hash=expected_task_hash))

    async def cancel(self, task: TaskLike) -> Task:
        """As Client.cancel."""
        return await self._face.run(self._calls.cancel(task))

    async def replay(
        self,
        task: TaskLike,
        *,
        mode: str = "live",
        idempotency_key: str | None = None,
        wait_seconds: float = 0.0,
    ) -> Accepted:
        """As Client.replay."""
        return await self._face.run(
            self._calls.replay(
                task, mode=mode, idempotency_key=idempotency_key, wait_seconds=wait_seconds
            )
        )

    def list(
        self,
        *,
        status: str | Iterable[str] | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        replay_of: TaskLike | None = None,
        agent_id: str | None = None,
        mode: str | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[Task]:
        """As Client.list."""
        query = list_query(
            status=status,
            created_from=created_from,
            created_before=created_before,
            replay_of=replay_of,
            agent_id=agent_id,
            mode=mode,
            page_size=page_size,
        )
        return self._face.items(streams.tasks(self._calls, query))

    async def usage(self, *, month: str | None = None) -> Usage:
        """As Client.usage."""
        return await self._face.run(self._calls.usage(month=month))

    async def tools(self) -> tuple[Tool, ...]:
        """As Client.tools."""
        return await self._face.run(self._calls.tools())

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> JsonObject:
        """As Client.request."""
        return await self._face.run(
            self._calls.ask(method, path, query=query, body=body, headers=headers)
        )

    async def request_text(self, path: str, *, query: Mapping[str, object] | None = None) -> str:
        """As Client.request_text."""
        return await self._face.run(self._calls.text(path, query=query))

    def request_pages(
        self, path: str, *, query: Mapping[str, object] | None = None
    ) -> AsyncIterator[JsonObject]:
        """As Client.request_pages."""
        return self._face.items(streams.objects(self._calls, path, query or {}))
