"""Reads answers: a refusal becomes an exception, JSON an object, an object a record. Pure."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from libs.client.errors import NotPawl, Refused, refusal
from libs.client.reading import Unexpected, read
from libs.client.retrying import retry_after_seconds
from libs.client.wire import Answer

JsonObject = dict[str, Any]
Record = TypeVar("Record")


def refused(answer: Answer, *, attempts: int) -> Refused:
    """The exception of an answer with a status from 400 on, whatever its body is."""
    try:
        problem = parsed(answer.body)
    except ValueError:
        problem = None
    return refusal(
        answer.status,
        problem if isinstance(problem, dict) else {},
        retry_after_seconds=retry_after_seconds(answer),
        attempts=attempts,
    )


def object_of(answer: Answer, *, url: str) -> JsonObject:
    """The JSON object of an answer, empty when it has no body. Raises NotPawl."""
    if not 200 <= answer.status < 300:
        where = answer.headers.get("location", "")
        words = f" and names {where[:200]!a}: use that address" if where else ""
        raise NotPawl(f"{url} answers {answer.status}, which Pawl never does{words}")
    if not answer.body:
        return {}
    try:
        value = parsed(answer.body)
    except ValueError as error:
        raise NotPawl(f"{url} answers, but not with JSON") from error
    if not isinstance(value, dict):
        raise NotPawl(f"{url} answers, but not as Pawl does")
    return value


def record_of(kind: type[Record], value: object, *, url: str) -> Record:
    """The record that a JSON value spells. Raises NotPawl, which names the member."""
    try:
        return read(kind, value)
    except Unexpected as error:
        raise NotPawl(f"{url} answers, but not as Pawl does: {error}") from error


def parsed(data: bytes | str) -> Any:
    """JSON as a value. Raises ValueError, also for what is nested too deeply to be read."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
