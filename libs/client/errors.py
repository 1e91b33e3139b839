"""What a call can raise.

`Error`, the root of them all
├─ Unreachable            nobody answers
│  ├─ BadAddress          the URL or the key cannot be used at all
│  └─ NotPawl             somebody answers, but not as Pawl does
├─ Refused                the server said no: problem+json
│  ├─ Invalid             400, 413, 415, 422 and the like: the request itself is wrong
│  ├─ Unauthenticated     401
│  ├─ Forbidden           403
│  ├─ NotFound            404
│  ├─ Conflict            409: the present state does not allow it
│  ├─ RateLimited         429
│  └─ Unavailable         5xx: the server, or a part of it, is not there
├─ WaitExpired            (in tasks) a task has not ended in time
└─ TaskFailed             (in tasks) a task ended without success
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from libs.core.errors import FieldError


class Error(Exception):
    """Everything that this client raises of its own."""


class Unreachable(Error):  # noqa: N818 - what happened, in one word
    """No server answers, or what answers is not Pawl; the message says where and what to do.

    `attempts` counts the requests that were made.
    """

    def __init__(self, message: str, *, attempts: int = 1) -> None:
        super().__init__(message)
        self.attempts = attempts


class BadAddress(Unreachable, ValueError):  # noqa: N818 - what is wrong
    """The address or the key cannot be used; nothing was sent."""


class NotPawl(Unreachable):
    """Something answers, but not as Pawl does."""


class Refused(Error):  # noqa: N818 - what happened, in one word
    """The server answered with an error.

    `code` is Pawl's word for it (lower_snake; empty when the answer had none), `errors` name the
    fields, `request_id` is what the server's logs have, `attempts` counts the requests.
    """

    def __init__(
        self,
        status: int,
        problem: Mapping[str, Any],
        *,
        retry_after_seconds: float | None = None,
        attempts: int = 1,
    ) -> None:
        self.status = status
        self.problem = problem
        self.code = _text(problem, "code")
        self.detail = _text(problem, "detail") or _text(problem, "title") or _phrase(status)
        self.errors = tuple(_field_errors(problem))
        self.request_id = _text(problem, "request_id")
        self.retry_after_seconds = retry_after_seconds
        self.attempts = attempts
        super().__init__(self.lines[0])

    @property
    def lines(self) -> list[str]:
        """What to show to people, the first line first."""
        lines = [f"{self.status}{f' ({self.code})' if self.code else ''}: {self.detail}"]
        said = [f"{error.field or 'body'}: {error.detail}" for error in self.errors]
        lines += [line for line in said if line != self.detail]
        if self.status == HTTPStatus.UNAUTHORIZED:
            lines.append(
                "the API key is not valid there: set PAWL_API_KEY, or see pawl keys create"
            )
        if self.request_id:
            lines.append(f"request {self.request_id}")
        return lines


class Invalid(Refused):
    """The request itself is wrong; sent again it is refused again."""


class Unauthenticated(Refused):
    """The key is none that the server knows, or has expired or been revoked."""


class Forbidden(Refused):
    """The key may not do that."""


class NotFound(Refused):
    """There is no such thing, or it is another tenant's."""


class Conflict(Refused):
    """The present state does not allow it, such as cancelling a task that has ended."""


class RateLimited(Refused):
    """Too many requests; `retry_after_seconds` says when there may be another."""


class Unavailable(Refused):
    """The server, or a part of it, cannot serve now. What was asked may have been done."""


_BY_STATUS: Mapping[int, type[Refused]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
}


def refusal(
    status: int,
    problem: Mapping[str, Any],
    *,
    retry_after_seconds: float | None = None,
    attempts: int = 1,
) -> Refused:
    """The exception of a status from 400 on."""
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 else Invalid)
    return kind(status, problem, retry_after_seconds=retry_after_seconds, attempts=attempts)


def _field_errors(problem: Mapping[str, Any]) -> list[FieldError]:
    errors = problem.get("errors")
    return [
        FieldError(
            field=_text(error, "field"), code=_text(error, "code"), detail=_text(error, "detail")
        )
        for error in (errors if isinstance(errors, list) else [])
        if isinstance(error, dict)
    ]


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return "" if value is None else str(value)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "an error without a word"
