"""Every error of Pawl, and the one table that says how each is answered over gRPC and HTTP.

A `code` is what a caller's request can be refused with (lower_snake). A `FailureCode` is why a task
failed (UPPER_SNAKE, a closed list); finer words travel as the free `reason` of a failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One thing wrong with one field of a request.

    `field` is the dotted path that people read (`plan.steps[0].tool`), `pointer` the RFC 6901 JSON
    pointer.
    """

    field: str
    code: str
    detail: str

    @property
    def pointer(self) -> str:
        """The field as an RFC 6901 pointer; `plan.steps[0].tool` becomes `/plan/steps/0/tool`."""
        return pointer_of(self.field)


def pointer_of(field: str) -> str:
    """Turn a dotted field path into an RFC 6901 JSON pointer; the empty path is the whole
    document.
    """
    if not field:
        return ""
    parts = field.replace("[", ".").replace("]", "").removeprefix(".").split(".")
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorKind:
    """How one code is answered: the name of the gRPC status, the HTTP status and a title."""

    grpc: str
    http: int
    title: str


ERRORS: dict[str, ErrorKind] = {
    code: ErrorKind(grpc=grpc, http=http, title=title)
    for code, grpc, http, title in (
        ("malformed_json", "INVALID_ARGUMENT", 400, "The body is not JSON"),
        ("invalid_encoding", "INVALID_ARGUMENT", 400, "The body is not UTF-8"),
        ("non_finite_number", "INVALID_ARGUMENT", 400, "A number is not finite"),
        ("duplicate_key", "INVALID_ARGUMENT", 400, "A key occurs twice"),
        ("duplicate_header", "INVALID_ARGUMENT", 400, "A header occurs twice"),
        ("invalid_header", "INVALID_ARGUMENT", 400, "A header is not valid"),
        ("invalid_idempotency_key", "INVALID_ARGUMENT", 400, "The idempotency key is not valid"),
        ("bad_request", "INVALID_ARGUMENT", 400, "The request is not valid"),
        ("unauthenticated", "UNAUTHENTICATED", 401, "Authentication is needed"),
        ("token_expired", "UNAUTHENTICATED", 401, "The token has expired"),
        ("insufficient_scope", "PERMISSION_DENIED", 403, "The key lacks a scope"),
        ("permission_denied", "PERMISSION_DENIED", 403, "This caller may not do that"),
        ("not_found", "NOT_FOUND", 404, "Not found"),
        ("method_not_allowed", "UNIMPLEMENTED", 405, "The method is not allowed here"),
        ("request_timeout", "DEADLINE_EXCEEDED", 408, "The request took too long to arrive"),
        ("already_exists", "ALREADY_EXISTS", 409, "It exists already"),
        ("conflict", "FAILED_PRECONDITION", 409, "The present state does not allow that"),
        ("payload_too_large", "INVALID_ARGUMENT", 413, "The body is too large"),
        ("unsupported_media_type", "INVALID_ARGUMENT", 415, "The media type is not supported"),
        ("validation_failed", "INVALID_ARGUMENT", 422, "The request is not valid"),
        ("unknown_field", "INVALID_ARGUMENT", 422, "A field is not known"),
        ("too_deep", "INVALID_ARGUMENT", 422, "The body is nested too deeply"),
        ("too_many_keys", "INVALID_ARGUMENT", 422, "The body has too many keys"),
        ("number_out_of_range", "INVALID_ARGUMENT", 422, "A number is out of range"),
        ("invalid_characters", "INVALID_ARGUMENT", 422, "A string has forbidden characters"),
        ("invalid_cursor", "INVALID_ARGUMENT", 422, "The cursor is not valid"),
        ("plan_invalid", "INVALID_ARGUMENT", 422, "The plan is not valid"),
        ("step_limit", "INVALID_ARGUMENT", 422, "The plan has too many steps"),
        ("unknown_tool", "INVALID_ARGUMENT", 422, "The tool is not known"),
        ("tool_unavailable", "FAILED_PRECONDITION", 422, "No executor offers the tool now"),
        ("bad_ref", "INVALID_ARGUMENT", 422, "A reference cannot be resolved"),
        ("limit_exceeded", "INVALID_ARGUMENT", 422, "A limit is above what the tier allows"),
        (
            "idempotency_key_reused",
            "FAILED_PRECONDITION",
            422,
            "The idempotency key belongs to another request",
        ),
        ("rate_limited", "RESOURCE_EXHAUSTED", 429, "Too many requests"),
        (
            "monthly_requests_exceeded",
            "RESOURCE_EXHAUSTED",
            429,
            "The requests of this month are used up",
        ),
        ("header_too_large", "INVALID_ARGUMENT", 431, "The headers are too large"),
        ("internal", "INTERNAL", 500, "Pawl failed"),
        ("unavailable", "UNAVAILABLE", 503, "A part of Pawl cannot be reached"),
        ("deadline_exceeded", "DEADLINE_EXCEEDED", 504, "A part of Pawl did not answer in time"),
    )
}
"""The one table. Adding a code means adding a row here and nothing elsewhere."""


class PawlError(Exception):
    """A refusal that its caller is meant to read: what is wrong, with which value, and what is
    allowed.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        if code not in ERRORS:
            raise ValueError(f"unknown error code {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds

    @property
    def kind(self) -> ErrorKind:
        """The row of the table."""
        return ERRORS[self.code]

    def reworded(self, message: str, errors: Iterable[FieldError]) -> PawlError:
        """The same refusal in other words, for a caller who knows its fields by other names."""
        return PawlError(
            self.code,
            message,
            errors=tuple(errors),
            retry_after_seconds=self.retry_after_seconds,
        )


def field_error(code: str, field: str, detail: str, *, fine: str | None = None) -> PawlError:
    """A refusal about exactly one field; `fine` is the field's own code where it differs from
    `code`.
    """
    return PawlError(
        code,
        f"{field}: {detail}" if field else detail,
        errors=(FieldError(field=field, code=fine or code, detail=detail),),
    )


class FailureCode(StrEnum):
    """Why a task failed: a closed list. Anything finer is a failure's `reason`."""

    PLAN_INVALID = "PLAN_INVALID"
    PLANNER_UNAVAILABLE = "PLANNER_UNAVAILABLE"
    STEP_LIMIT = "STEP_LIMIT"
    TOKEN_LIMIT = "TOKEN_LIMIT"  # noqa: S105 - a failure code, not a password
    COST_LIMIT = "COST_LIMIT"
    TIMEOUT = "TIMEOUT"
    TOOL_ERROR = "TOOL_ERROR"
    TOOL_UNAVAILABLE = "TOOL_UNAVAILABLE"
    INPUT_SCHEMA = "INPUT_SCHEMA"
    OUTPUT_SCHEMA = "OUTPUT_SCHEMA"
    OUTPUT_LIMIT = "OUTPUT_LIMIT"
    EGRESS_DENIED = "EGRESS_DENIED"
    CODE_ERROR = "CODE_ERROR"
    CPU_LIMIT = "CPU_LIMIT"
    MEMORY_LIMIT = "MEMORY_LIMIT"
    FILE_LIMIT = "FILE_LIMIT"
    CRASHED = "CRASHED"
    SANDBOX_ERROR = "SANDBOX_ERROR"
    SANDBOX_LOST = "SANDBOX_LOST"
    SANDBOX_UNAVAILABLE = "SANDBOX_UNAVAILABLE"
    ARTIFACT_STORE = "ARTIFACT_STORE"
    EXECUTOR_LOST = "EXECUTOR_LOST"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task or a step failed. `step` is the tool's name; `step` and `step_index` are None
    when no step is to blame.
    """

    code: FailureCode
    message: str
    step: str | None = None
    step_index: int | None = None
    reason: str | None = None


class StepFailed(Exception):  # noqa: N818 - an outcome of a step, not a fault of Pawl
    """Raised inside a step (by a tool or a check) to fail it with a code of the closed list."""

    def __init__(self, code: FailureCode, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.code = FailureCode(code)
        self.message = message
        self.reason = reason
