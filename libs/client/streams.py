"""Every call that gives item after item, as steps: lists in pages, events as they happen.

An event is given once and in order: a stream that breaks is taken up after the last one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from libs.client.address import path_of
from libs.client.answers import JsonObject, parsed, record_of, refused
from libs.client.calls import TASKS, Calls, page_of
from libs.client.errors import NotPawl, Unreachable
from libs.client.retrying import again_of, backoff_seconds, retry_after_seconds
from libs.client.sse import EventReader, ServerEvent
from libs.client.submissions import TaskLike, id_of
from libs.client.tasks import Event, Task
from libs.client.wire import (
    Answer,
    Effect,
    Give,
    Item,
    Items,
    Lost,
    Open,
    Pause,
    Read,
    Request,
    Steps,
    Tell,
)

STREAM_SILENCE_SECONDS = 60.0
"""The server sends something at least every 15 s."""
TRIES = 10
"""Streams in a row that give nothing; then it is given up."""
MOST_EVENT_BYTES = 16 * 2**20
"""Far more than an event of Pawl's has: who sends so much without an end is somebody else."""
_ID = re.compile(r"[0-9]{1,19}", re.ASCII)
_COME_BACK = frozenset({429, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where events come from. Of one `task` they end with it; of all tasks (None) never, but after
    `idle_seconds` without any, if that is set.
    """

    path: str
    task: TaskLike | None = None
    idle_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """How one connection ended: `last` is the id up to which all is known, `outcome` what broke it,
    None when the server ended it.
    """

    last: str | None
    has_given: bool = False
    is_last: bool = False
    outcome: Answer | Lost | None = None


def pages(
    calls: Calls, path: str, query: Mapping[str, object], *, as_item: Callable[[Any], Item]
) -> Items[Item]:
    """Every item of a list that comes in pages of {"data": […], "next_cursor": …}."""
    cursor: object = None
    while True:
        page = yield from calls.ask("GET", path, query={**query, "cursor": cursor})
        found, cursor = page_of(page, url=calls.address.url, before=cursor)
        for one in found:
            yield Give(as_item(one))
        if cursor is None:
            return


def tasks(calls: Calls, query: Mapping[str, object]) -> Items[Task]:
    """Every task of a list."""
    url = calls.address.url
    return pages(calls, TASKS, query, as_item=lambda one: record_of(Task, one, url=url))


def objects(calls: Calls, path: str, query: Mapping[str, object]) -> Items[JsonObject]:
    """Every item of any list, as it is."""
    return pages(calls, path, query, as_item=_object)


def of_task(task: TaskLike) -> Source:
    """The events of one task."""
    return Source(path=f"{TASKS}{path_of(id_of(task), 'events')}", task=task)


def of_all(*, idle_seconds: float | None) -> Source:
    """The events of all tasks."""
    return Source(path="/v1/events", idle_seconds=idle_seconds)


def follow(calls: Calls, source: Source, *, after: int | None) -> Items[Event]:
    """The events after number `after`. Raises Refused, and Unreachable after ten vain tries in a
    row to go on.
    """
    last = None if after is None else str(after)
    vain = 0
    while True:
        request = _request(calls, source, last)
        end = yield from _connection(calls, source, request, last)
        last = end.last
        if end.is_last or (yield from _is_all(calls, source, end)):
            return
        vain = 0 if end.has_given else vain + 1
        if vain == TRIES:
            raise Unreachable(f"the stream from {calls.address.url} broke: {_reason(end)}")
        pause = _pause_seconds(end, vain)
        outcome = end.outcome or Lost(_reason(end))
        yield Tell(again_of(request, outcome, attempt=max(1, vain), wait_seconds=pause))
        if pause:
            yield Pause(pause)


def _object(value: Any) -> JsonObject:
    if not isinstance(value, dict):
        raise NotPawl("the server answers, but not as Pawl does: an item is not an object")
    return value


def _request(calls: Calls, source: Source, last: str | None) -> Request:
    headers = {"Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = last
    silence = source.idle_seconds or STREAM_SILENCE_SECONDS
    return calls.request("GET", source.path, headers=headers, silence_seconds=silence)


def _connection(
    calls: Calls, source: Source, request: Request, last: str | None
) -> Generator[Effect | Give[Event], Any, _End]:
    """Give the events of one connection."""
    has_given = False
    try:
        answer: Answer = yield Open(request)
        if _asks_to_come_back(answer, within_seconds=calls.retry.total_seconds):
            return _End(last=last, outcome=answer)
        if answer.status == 204:
            return _End(last=last, is_last=True)
        _check_stream(calls, answer)
        reader = EventReader()
        while chunk := (yield Read()):
            for said in reader.feed(chunk):
                event = _event(calls, said)
                if _is_known(said.id, last):
                    continue
                last, has_given = said.id or last, True
                yield Give(event)
                if source.task is not None and event.is_last:
                    return _End(last=last, has_given=True, is_last=True)
            if reader.held_bytes > MOST_EVENT_BYTES:
                raise NotPawl(f"{calls.address.url} sends an event without end")
    except Lost as error:
        return _End(last=last, has_given=has_given, outcome=error)
    return _End(last=last, has_given=has_given)


def _is_all(calls: Calls, source: Source, end: _End) -> Steps[bool]:
    """Whether no more events come, though none said that it was the last."""
    if source.idle_seconds is not None:
        is_silence = isinstance(end.outcome, Lost) and end.outcome.is_silence
        return end.outcome is None or is_silence
    if source.task is None or end.outcome is not None or end.has_given:
        return False
    task = yield from calls.get(source.task, wait_seconds=0)
    return task.has_ended


def _asks_to_come_back(answer: Answer, *, within_seconds: float) -> bool:
    pause = retry_after_seconds(answer)
    return answer.status in _COME_BACK and pause is not None and pause <= within_seconds


def _check_stream(calls: Calls, answer: Answer) -> None:
    if answer.status >= 400:
        raise refused(answer, attempts=1)
    kind = answer.headers.get("content-type", "")
    if answer.status != 200 or not kind.startswith("text/event-stream"):
        raise NotPawl(f"{calls.address.url} answers, but not with a stream of events")


def _event(calls: Calls, said: ServerEvent) -> Event:
    if said.id and not _ID.fullmatch(said.id):
        raise NotPawl(f"{calls.address.url} sends an event whose id is no number")
    try:
        value = parsed(said.data)
    except ValueError as error:
        raise NotPawl(f"{calls.address.url} sends an event that is not JSON") from error
    return record_of(Event, value, url=calls.address.url)


def _is_known(event_id: str, last: str | None) -> bool:
    """Whether an event was given already, as a server that knows no Last-Event-ID sends it."""
    if last is None or not event_id:
        return False
    return int(event_id) <= int(last)


def _pause_seconds(end: _End, vain: int) -> float:
    if isinstance(end.outcome, Answer):
        return retry_after_seconds(end.outcome) or backoff_seconds(max(1, vain))
    return backoff_seconds(max(1, vain)) if end.outcome is not None or vain else 0.0


def _reason(end: _End) -> str:
    if isinstance(end.outcome, Answer):
        return f"the server answered {end.outcome.status}"
    return "it ended early" if end.outcome is None else str(end.outcome)
