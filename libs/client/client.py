"""The client that blocks. `AsyncClient` has the same methods."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from libs.client import streams
from libs.client.accounts import Tool, Usage
from libs.client.address import address_of
from libs.client.answers import JsonObject
from libs.client.calls import SILENCE_SECONDS, Calls
from libs.client.listing import list_query
from libs.client.retrying import DEFAULT, Retry
from libs.client.submissions import Submission, TaskLike
from libs.client.sync_face import SyncFace
from libs.client.tasks import Accepted, Event, Task
from libs.client.traces import Trace
from libs.client.transport import OnRetry, Transport, log_again
from libs.core.ids import new_id
from libs.core.plan import Plan
from libs.core.verification import Report


class Client:
    """Talks to one server. Threads may share it; close it, or use it in a `with`.

    Every call raises Refused (the server said no) or Unreachable (nobody answers, or not as Pawl
    does). `timeout_seconds` is how long an answer may not come. What `retry` allows is sent once
    more after `on_retry` was told, which by default warns in the log `pawl`. `ssl_context` None:
    the system's authorities. `proxy` None: none, whatever the environment says.
    `keeps_connections` False: each request has a connection of its own.
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
        self._face = SyncFace(transport, on_retry=on_retry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._face.close()

    def submit(
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
        """Submit a task; the answer comes when it is stored, or when it has ended, at the latest
        after `wait_seconds` (25 at most).

        The members are those of Submission. The same `idempotency_key` submits once, however often
        it is sent; None makes a fresh one, so that a lost answer can be asked for again.
        """
        submission = Submission(
            task_definition=task_definition or {},
            plan=plan,
            max_steps=max_steps,
            timeout_seconds=timeout_seconds,
            priority=priority,
            scheduled_at=scheduled_at,
        )
        return self._face.run(
            self._calls.submit(
                submission, idempotency_key=idempotency_key, wait_seconds=wait_seconds
            )
        )

    def submit_many(
        self, submissions: Iterable[Submission], *, idempotency_key: str | None = None
    ) -> tuple[Accepted, ...]:
        """Submit all tasks, or none when one is refused: the answers in the same order."""
        return self._face.run(self._calls.submit_many(submissions, idempotency_key=idempotency_key))

    def get(self, task: TaskLike, *, wait_seconds: float = 0.0) -> Task:
        """The task as it stands; with `wait_seconds` (25 at most) when it has ended, or then."""
        return self._face.run(self._calls.get(task, wait_seconds=wait_seconds))

    def wait(self, task: TaskLike, *, timeout_seconds: float | None = None) -> Task:
        """The task when it has ended. Raises WaitExpired when that takes longer than
        `timeout_seconds`; the task goes on.
        """
        return self._face.run(self._calls.wait(task, timeout_seconds=timeout_seconds))

    def stream(self, task: TaskLike, *, after: int | None = None) -> Iterator[Event]:
        """The task's events from the first, or after number `after`, to the last.

        A stream that breaks is taken up after the last event, which `on_retry` is told; after ten
        vain tries in a row Unreachable is raised.
        """
        source = streams.of_task(task)
        return self._face.items(streams.follow(self._calls, source, after=after))

    def stream_all(
        self, *, after: int | None = None, idle_seconds: float | None = None
    ) -> Iterator[Event]:
        """New events of all tasks, or those after position `after` (0: all that are kept), without
        end; with `idle_seconds` until none comes for so long. Broken streams as in `stream`.
        """
        source = streams.of_all(idle_seconds=idle_seconds)
        return self._face.items(streams.follow(self._calls, source, after=after))

    def trace(self, task: TaskLike) -> Trace:
        """Everything that happened to the task."""
        return self._face.run(self._calls.trace(task))

    def verify(self, task: TaskLike, *, expected_task_hash: str | None = None) -> Report:
        """Fetch the task's trace and compute all its hashes here."""
        return self._face.run(self._calls.verify(task, expected_task_hash=expected_task_hash))

    def cancel(self, task: TaskLike) -> Task:
        """End the task; it may take some seconds more, when its step does not end at once. Raises
        Conflict when it has ended already.
        """
        return self._face.run(self._calls.cancel(task))

    def replay(
        self,
        task: TaskLike,
        *,
        mode: str = "live",
        idempotency_key: str | None = None,
        wait_seconds: float = 0.0,
    ) -> Accepted:
        """Do once more what a task did that has ended, as a new task; `mode` is live or recorded.

        The new task's trace says whether it came to the same. Raises Conflict.
        """
        return self._face.run(
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
    ) -> Iterator[Task]:
        """Tasks, newest first, read page by page as they are needed; without plans."""
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

    def usage(self, *, month: str | None = None) -> Usage:
        """What the account used in a month (YYYY-MM in UTC; None: this one), and its limits."""
        return self._face.run(self._calls.usage(month=month))

    def tools(self) -> tuple[Tool, ...]:
        """The tools that plans may name; of one name the newest version first."""
        return self._face.run(self._calls.tools())

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> JsonObject:
        """Ask any route, and return the JSON object that it answers with."""
        return self._face.run(
            self._calls.ask(method, path, query=query, body=body, headers=headers)
        )

    def request_text(self, path: str, *, query: Mapping[str, object] | None = None) -> str:
        """GET any route, and return the text that it answers with."""
        return self._face.run(self._calls.text(path, query=query))

    def request_pages(
        self, path: str, *, query: Mapping[str, object] | None = None
    ) -> Iterator[JsonObject]:
        """Every item of any list that comes in pages of {"data": […], "next_cursor": …}."""
        return self._face.items(streams.objects(self._calls, path, query or {}))
