"""Whether a step's input and output are what its tool promises, and small enough to be recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from libs.core.canonical import Json, canonical_text
from libs.core.errors import FailureCode, StepFailed
from libs.core.json_measure import Unfit, measure
from libs.core.json_schema import Validator, Violation
from libs.core.references import dotted, find_refs, resolve
from services.executor.model import SchemaFailure

MAX_OUTPUT_BYTES = 256 * 2**10
MAX_OUTPUT_DEPTH = 64


class SchemaMismatch(StepFailed):
    """A step's input or output breaks its schema; `schema_failures` says where."""

    def __init__(
        self,
        code: FailureCode,
        message: str,
        *,
        schema_failures: tuple[SchemaFailure, ...],
        reason: str | None = None,
    ) -> None:
        super().__init__(code, message, reason=reason)
        self.schema_failures = schema_failures


def resolve_step_input(planned: Json, *, task_input: Json, outputs: Mapping[int, Json]) -> Json:
    """The planned input with its references resolved. Raises SchemaMismatch(INPUT_SCHEMA).

    Reasons as those of `resolve`.
    """
    try:
        return resolve(planned, task_input=task_input, outputs=outputs)
    except StepFailed as error:
        path = _first_broken_ref(planned, task_input=task_input, outputs=outputs)
        raise _input_failed(error.message, path=path, reason=error.reason) from error


def validate_step_input(value: Json, *, schema: Validator, tool: str) -> None:
    """Raise SchemaMismatch(INPUT_SCHEMA) when the resolved input breaks the tool's input schema."""
    violations = schema.violations(value)
    if violations:
        raise SchemaMismatch(
            FailureCode.INPUT_SCHEMA,
            f"the input breaks the schema of {tool}: {_told(violations)}",
            schema_failures=_listed(violations, where="input"),
        )


def output_text(value: Json) -> str:
    """The canonical text of a tool's output.

    Raises StepFailed(OUTPUT_LIMIT) when it is too large or too deep, SchemaMismatch(OUTPUT_SCHEMA)
    with reason OUTPUT_NUMBER or OUTPUT_TYPE when it is no JSON that can be carried exactly.
    """
    try:
        measure(value, max_bytes=MAX_OUTPUT_BYTES, max_depth=MAX_OUTPUT_DEPTH)
        text = canonical_text(value)
        size = len(text) if text.isascii() else len(text.encode())
        if size > MAX_OUTPUT_BYTES:
            raise Unfit("SIZE", f"it has {size} bytes; {MAX_OUTPUT_BYTES} are allowed")
        return text
    except Unfit as unfit:
        if unfit.reason in {"SIZE", "DEPTH"}:
            raise StepFailed(
                FailureCode.OUTPUT_LIMIT,
                f"the output is too large: {unfit.message}; emit large data as an artifact.",
                reason="OUTPUT_TOO_LARGE" if unfit.reason == "SIZE" else "OUTPUT_TOO_DEEP",
            ) from unfit
        raise _output_failed(unfit.message, reason=f"OUTPUT_{unfit.reason}") from unfit
    except ValueError as error:
        raise _output_failed("a string is no valid Unicode", reason="OUTPUT_TYPE") from error


def validate_step_output(value: Json, *, schema: Validator, tool: str) -> None:
    """Raise SchemaMismatch(OUTPUT_SCHEMA) when the output breaks the tool's output schema."""
    violations = schema.violations(value)
    if violations:
        raise SchemaMismatch(
            FailureCode.OUTPUT_SCHEMA,
            f"the output breaks the schema of {tool}: {_told(violations)}",
            schema_failures=_listed(violations, where="output"),
        )


def _first_broken_ref(planned: Json, *, task_input: Json, outputs: Mapping[int, Json]) -> str:
    for site in find_refs(planned):
        if not site.alone:
            return dotted(site.path)
        try:
            resolve({"$ref": site.text}, task_input=task_input, outputs=outputs)
        except StepFailed:
            return dotted(site.path)
    return ""


def _input_failed(message: str, *, path: str = "", reason: str | None) -> SchemaMismatch:
    failure = SchemaFailure(path=path, message=message, where="input")
    return SchemaMismatch(
        FailureCode.INPUT_SCHEMA, message, schema_failures=(failure,), reason=reason
    )


def _output_failed(message: str, *, reason: str) -> SchemaMismatch:
    failure = SchemaFailure(path="", message=message, where="output")
    return SchemaMismatch(
        FailureCode.OUTPUT_SCHEMA,
        f"the output cannot be recorded: {message}",
        schema_failures=(failure,),
        reason=reason,
    )


def _told(violations: Sequence[Violation]) -> str:
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return f"{first.path}: {first.message}{more}" if first.path else f"{first.message}{more}"


def _listed(violations: Sequence[Violation], *, where: str) -> tuple[SchemaFailure, ...]:
    return tuple(SchemaFailure(path=v.path, message=v.message, where=where) for v in violations)
