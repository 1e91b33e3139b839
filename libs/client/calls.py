"""Every call that has one result, as steps: what is sent, what is read. Does no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from libs.client.accounts import Tool, Usage
from libs.client.address import Address, path_of, with_query
from libs.client.answers import JsonObject, object_of, record_of, refused
from libs.client.errors import NotPawl, Unreachable
from libs.client.retrying import GaveUp, Retry, exchanged, retry_after_seconds
from libs.client.submissions import Submission, TaskLike, id_of
from libs.client.tasks import Accepted, Task, WaitExpired
from libs.client.traces import Trace
from libs.client.wire import IDEMPOTENCY_KEY, Answer, Now, Pause, Request, Steps
from libs.core.verification import Report

TASKS = "/api/v1/tasks"
SILENCE_SECONDS = 35.0
"""More than the longest wait takes."""
LONGEST_WAIT_SECONDS = 25.0
"""The server holds an answer back no longer."""
_BEYOND_WAIT_SECONDS = 10.0
_LARGEST_PAGE = 200
_HEADER = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The calls to one server. `silence_seconds` is how long an answer may not come."""

    address: Address
    retry: Retry
    silence_seconds: float
    new_key: Callable[[], str]

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Steps[JsonObject]:
        """The JSON object that a route answers with, {} for an answer without a body."""
        request = self.request(
            method, with_query(path, dict(query or {})), body=body, headers=headers
        )
        answer = yield from self.answered(request)
        return object_of(answer, url=self.address.url)

    def text(self, path: str, *, query: Mapping[str, object] | None = None) -> Steps[str]:
        """The text of an answer that is not JSON."""
        request = self.request("GET", with_query(path, dict(query or {})))
        answer = yield from self.answered(request)
        return answer.body.decode(errors="replace")

    def submit(
        self, submission: Submission, *, idempotency_key: str | None, wait_seconds: float
    ) -> Steps[Accepted]:
        """Submit one task."""
        path = with_query(f"{TASKS}/execute", {"wait": _wait_text(wait_seconds)})
        key = self._key(idempotency_key)
        return (yield from self._create(path, submission.as_json(), key, wait_seconds))

    def submit_many(
        self, submissions: Iterable[Submission], *, idempotency_key: str | None
    ) -> Steps[tuple[Accepted, ...]]:
        """Submit all tasks or none."""
        body = {"tasks": [one.as_json() for one in submissions]}
        key = self._key(idempotency_key)
        request = self.request("POST", f"{TASKS}/batch", body=body, headers={IDEMPOTENCY_KEY: key})
        answer = yield from self.answered(request)
        tasks = object_of(answer, url=self.address.url).get("tasks")
        if not isinstance(tasks, list):
            raise NotPawl(f"{self.address.url} answers, but not as Pawl does: it has no 'tasks'")
        return tuple(self._accepted(one, answer, key) for one in tasks)

    def replay(
        self, task: TaskLike, *, mode: str, idempotency_key: str | None, wait_seconds: float
    ) -> Steps[Accepted]:
        """Do a task once more."""
        path = f"{TASKS}{path_of(id_of(task), 'replay')}"
        asked = with_query(path, {"wait": _wait_text(wait_seconds)})
        key = self._key(idempotency_key)
        return (yield from self._create(asked, {"mode": mode}, key, wait_seconds))

    def get(self, task: TaskLike, *, wait_seconds: float) -> Steps[Task]:
        """A task as it stands, or as it stands when it has ended or the wait is over."""
        answer = yield from self._looked(task, wait_seconds)
        return self._task(answer)

    def wait(self, task: TaskLike, *, timeout_seconds: float | None) -> Steps[Task]:
        """A task that has ended. Raises WaitExpired."""
        began = yield Now()
        while True:
            now = yield Now()
            left = None if timeout_seconds is None else began + timeout_seconds - now
            asked = LONGEST_WAIT_SECONDS if left is None else min(left, LONGEST_WAIT_SECONDS)
            answer = yield from self._looked(task, max(0.0, asked))
            found = self._task(answer)
            if found.has_ended:
                return found
            after = yield Now()
            if left is not None and after - now >= left:
                raise WaitExpired(found)
            yield from _rest(answer, early_seconds=asked - (after - now))

    def cancel(self, task: TaskLike) -> Steps[Task]:
        """End a task. Raises Conflict when it has ended already."""
        yield from self.ask("POST", f"/v1/tasks{path_of(id_of(task), 'cancel')}", body={})
        return (yield from self.get(task, wait_seconds=0))

    def trace(self, task: TaskLike) -> Steps[Trace]:
        """Everything that happened to a task."""
        found = yield from self.ask("GET", f"{TASKS}{path_of(id_of(task), 'trace')}")
        return record_of(Trace, found, url=self.address.url)

    def verify(self, task: TaskLike, *, expected_task_hash: str | None) -> Steps[Report]:
        """Fetch the trace of a task and compute its hashes here."""
        trace = yield from self.trace(task)
        return trace.verify(expected_task_hash=expected_task_hash)

    def usage(self, *, month: str | None) -> Steps[Usage]:
        """What the account used."""
        found = yield from self.ask("GET", f"{TASKS}/usage", query={"month": month})
        return record_of(Usage, found, url=self.address.url)

    def tools(self) -> Steps[tuple[Tool, ...]]:
        """The whole catalogue."""
        tools: list[Tool] = []
        cursor: object = None
        while True:
            query = {"limit": _LARGEST_PAGE, "cursor": cursor}
            page = yield from self.ask("GET", "/v1/tools", query=query)
            found, cursor = page_of(page, url=self.address.url, before=cursor)
            tools += [record_of(Tool, one, url=self.address.url) for one in found]
            if cursor is None:
                return tuple(tools)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        silence_seconds: float | None = None,
    ) -> Request:
        """A request with the key. Raises ValueError or TypeError for a body that is not JSON, and
        ValueError for a header that cannot be sent.
        """
        sent = {
            "Authorization": f"Bearer {self.address.api_key}",
            "Accept": "application/json",
        }
        for name, text in (headers or {}).items():
            if not _HEADER.fullmatch(text):
                raise ValueError(f"{name}: it must be printable ASCII without blanks at its ends")
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = json.dumps(body, allow_nan=False).encode()
        return Request(
            method=method,
            path=path,
            body=data,
            headers={**sent, **(headers or {})},
            silence_seconds=silence_seconds or self.silence_seconds,
        )

    def answered(self, request: Request) -> Steps[Answer]:
        """The answer to a request. Raises Refused, Unreachable."""
        try:
            answer, attempts = yield from exchanged(request, self.retry)
        except GaveUp as error:
            words = f"{self.address.url} cannot be reached: {error}"
            raise Unreachable(words, attempts=error.attempts) from error
        if answer.status >= 400:
            raise refused(answer, attempts=attempts)
        return answer

    def _key(self, given: str | None) -> str:
        """The key of a create, a fresh one when none was given; an empty one is no key."""
        if given == "":
            raise ValueError("idempotency_key: it is empty; leave it out for a fresh one")
        return self.new_key() if given is None else given

    def _create(
        self, path: str, body: JsonObject, key: str, wait_seconds: float
    ) -> Steps[Accepted]:
        request = self.request(
            "POST",
            path,
            body=body,
            headers={IDEMPOTENCY_KEY: key},
            silence_seconds=self._silence_while(wait_seconds),
        )
        answer = yield from self.answered(request)
        return self._accepted(object_of(answer, url=self.address.url), answer, key)

    def _accepted(self, value: object, answer: Answer, key: str) -> Accepted:
        found = record_of(Accepted, value, url=self.address.url)
        return replace(
            found,
            idempotency_key=key,
            is_replayed=answer.headers.get("idempotent-replayed") == "true",
            request_id=answer.headers.get("x-request-id", ""),
        )

    def _looked(self, task: TaskLike, wait_seconds: float) -> Steps[Answer]:
        path = f"{TASKS}{path_of(id_of(task))}"
        request = self.request(
            "GET",
            with_query(path, {"wait": _wait_text(wait_seconds)}),
            silence_seconds=self._silence_while(wait_seconds),
        )
        return (yield from self.answered(request))

    def _task(self, answer: Answer) -> Task:
        found = object_of(answer, url=self.address.url)
        return record_of(Task, found, url=self.address.url)

    def _silence_while(self, wait_seconds: float) -> float:
        beyond = wait_seconds + _BEYOND_WAIT_SECONDS if wait_seconds > 0 else 0.0
        return max(self.silence_seconds, beyond)


def page_of(page: JsonObject, *, url: str, before: object) -> tuple[list[Any], object]:
    """The items of a page and the cursor of the next one, None after the last. Raises NotPawl for
    what is no page, and for a cursor that leads to the same page.
    """
    items, cursor = page.get("data"), page.get("next_cursor")
    if not isinstance(items, list):
        raise NotPawl(f"{url} answers, but not as Pawl does: it has no 'data'")
    if cursor and cursor == before:
        raise NotPawl(f"{url} answers, but not as Pawl does: a page follows itself")
    return items, cursor or None


def _rest(answer: Answer, *, early_seconds: float) -> Steps[None]:
    """Wait a little before looking again, when the server has not waited itself."""
    if early_seconds > 0.0:
        yield Pause(min(early_seconds, retry_after_seconds(answer) or 1.0))


def _wait_text(seconds: float) -> str | None:
    return f"{seconds:.3f}".rstrip("0").rstrip(".") if seconds else None
