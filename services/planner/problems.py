"""Many problems of one plan, one refusal: which word stands at its top."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from libs.core.errors import FieldError, PawlError
from services.planner.model import Problem

MAX_ERRORS = 20
MAX_FIELD_CHARACTERS = 200
MAX_DETAIL_CHARACTERS = 300
# A refusal travels in the trailers of a call, which hold 8 KiB with the message in them twice.
MAX_BYTES = 3_000

PRECEDENCE = (
    "validation_failed",
    "unknown_field",
    "plan_invalid",
    "step_limit",
    "limit_exceeded",
    "unknown_tool",
    "tool_unavailable",
    "bad_ref",
)
"""Codes of a refusal. The first that any problem has is the refusal's: what cannot be read comes
before what is too much, and that before what does not exist. Problems of one code keep the order
in which they stand in the request (steps before limits)."""


def refusal(problems: Iterable[Problem]) -> PawlError | None:
    """The one refusal for all problems, None when there are none.

    Its code and message are those of the first problem by PRECEDENCE; `errors` lists the first of
    them in that order, at most MAX_ERRORS and MAX_BYTES.
    """
    ordered = sorted(problems, key=lambda problem: PRECEDENCE.index(problem.code))
    if not ordered:
        return None
    errors = tuple(_fitting(ordered))
    message = f"{errors[0].field}: {errors[0].detail}"
    more = len(ordered) - 1
    if more:
        message += f" (and {more} more {'problem' if more == 1 else 'problems'})"
    return PawlError(ordered[0].code, message, errors=errors)


def _fitting(problems: list[Problem]) -> Iterator[FieldError]:
    left = MAX_BYTES
    for problem in problems[:MAX_ERRORS]:
        error = FieldError(
            field=_cut(problem.field, MAX_FIELD_CHARACTERS),
            code=problem.fine or problem.code,
            detail=_cut(problem.detail, MAX_DETAIL_CHARACTERS),
        )
        left -= len(error.field.encode()) + len(error.code) + len(error.detail.encode())
        if left < 0:
            return
        yield error


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
