"""Many refused tasks of one batch, one refusal; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from libs.core.errors import FieldError, PawlError

MAX_ERRORS = 20


def refusal(refused: Mapping[int, PawlError]) -> PawlError | None:
    """The refusal of a batch whose tasks at these places (from 0) were refused; None for none.

    Its code is that of the first, and every field begins with its task: `tasks[2].priority`. That a
    service is away says nothing about a task: it is passed on as it is.
    """
    if not refused:
        return None
    ordered = sorted(refused.items())
    for _, error in ordered:
        if error.kind.http >= 500:
            return error
    place, first = ordered[0]
    more = len(ordered) - 1
    message = _message(place, first)
    if more:
        message += f" (and {more} more {'task is' if more == 1 else 'tasks are'} refused)"
    errors = [one for at, error in ordered for one in _fields(at, error)]
    return PawlError(first.code, message, errors=tuple(errors[:MAX_ERRORS]))


def _message(place: int, error: PawlError) -> str:
    begins_with_field = error.errors and error.message.startswith(f"{error.errors[0].field}:")
    return f"tasks[{place}]{'.' if begins_with_field else ': '}{error.message}"


def _fields(place: int, error: PawlError) -> list[FieldError]:
    task = f"tasks[{place}]"
    if not error.errors:
        return [FieldError(field=task, code=error.code, detail=error.message)]
    return [
        replace(one, field=f"{task}.{one.field}" if one.field else task) for one in error.errors
    ]
