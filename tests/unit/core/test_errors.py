"""The one error table, and what a refusal says about fields."""

from __future__ import annotations

import re

import grpc
import pytest

from libs.core.errors import (
    ERRORS,
    FailureCode,
    FieldError,
    PawlError,
    StepFailed,
    field_error,
    pointer_of,
)

_STATUSES = {
    "INVALID_ARGUMENT": {400, 413, 415, 422, 431},
    "UNAUTHENTICATED": {401},
    "PERMISSION_DENIED": {403},
    "NOT_FOUND": {404},
    "UNIMPLEMENTED": {405},
    "ALREADY_EXISTS": {409},
    "FAILED_PRECONDITION": {409, 422},
    "RESOURCE_EXHAUSTED": {429},
    "INTERNAL": {500},
    "UNAVAILABLE": {503},
    "DEADLINE_EXCEEDED": {408, 504},
}


@pytest.mark.parametrize("code", list(ERRORS))
def test_each_code_has_a_grpc_status_that_fits_its_http_status(code: str) -> None:
    kind = ERRORS[code]

    assert hasattr(grpc.StatusCode, kind.grpc)
    assert kind.http in _STATUSES[kind.grpc]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", code)
    assert kind.title


def test_failure_codes_spell_their_names() -> None:
    assert [code.value for code in FailureCode] == [code.name for code in FailureCode]


@pytest.mark.parametrize(
    ("field", "pointer"),
    [
        ("", ""),
        ("plan", "/plan"),
        ("plan.steps[0].tool", "/plan/steps/0/tool"),
        ("matrix[1][2]", "/matrix/1/2"),
        ("[3].name", "/3/name"),
        ("a~b/c", "/a~0b~1c"),
    ],
)
def test_pointer_of_follows_the_path(field: str, pointer: str) -> None:
    assert pointer_of(field) == pointer
    assert FieldError(field=field, code="x", detail="y").pointer == pointer


def test_field_error_names_field_and_fine_code() -> None:
    error = field_error("plan_invalid", "plan.steps", "is empty", fine="too_short")

    assert (error.code, error.message) == ("plan_invalid", "plan.steps: is empty")
    assert [(e.field, e.code, e.detail) for e in error.errors] == [
        ("plan.steps", "too_short", "is empty")
    ]
    assert error.kind.http == 422


def test_field_error_about_the_whole_body_has_no_prefix() -> None:
    error = field_error("malformed_json", "", "is not JSON")

    assert (str(error), error.errors[0].code) == ("is not JSON", "malformed_json")


def test_an_unknown_code_is_refused_where_it_is_raised() -> None:
    with pytest.raises(ValueError, match="no_such_code"):
        PawlError("no_such_code", "text")


def test_step_failed_keeps_code_and_reason() -> None:
    failed = StepFailed(FailureCode.TOOL_ERROR, "too large", reason="MATH_LIMIT")

    assert (failed.code, failed.message, failed.reason) == ("TOOL_ERROR", "too large", "MATH_LIMIT")
