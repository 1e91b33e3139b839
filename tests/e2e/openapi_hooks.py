"""What schemathesis is told of Pawl: loaded by its command line as hooks, not by pytest.

Two variables are read. PAWL_TEST_OWN names, with commas between, the key, the person and the tenant
that the run itself uses, which no request may end. PAWL_TEST_SEEDS is JSON: for an operation, path
parameters of things that are there, each used once.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from typing import Any

import jsonschema_rs
import schemathesis
from schemathesis.core.failures import Failure

OWN = frozenset(os.environ["PAWL_TEST_OWN"].replace("-", "").split(","))
SEEDS: dict[str, list[dict[str, str]]] = json.loads(os.environ["PAWL_TEST_SEEDS"])
UNKNOWN = "00000000-0000-7000-8000-000000000000"

REJECTED_POSITIVE = "ST202"
"""Schemathesis' code for a request that fits its schema and is refused all the same."""

BEYOND_A_SCHEMA = frozenset(
    {
        "bad_ref",
        "idempotency_key_reused",
        "invalid_characters",
        "invalid_cursor",
        "limit_exceeded",
        "number_out_of_range",
        "step_limit",
        "tool_unavailable",
        "unknown_tool",
    }
)
"""Codes whose reason no schema can say: it is the tier's, the catalogue's or the past's."""
BEYOND_A_FIELD = frozenset(
    {
        ("Last-Event-ID", "out_of_range"),
        ("expires_at", "out_of_range"),
        ("scheduled_at", "scheduled_at_too_far"),
        ("step_index", "plan_invalid"),
        ("to", "out_of_range"),
    }
)
"""Fields, with codes, that are measured by the clock or by what stands beside them."""
OTHER_SHAPE = "ST108"
"""Schemathesis' code for an answer that does not fit its schema. Of a stream it holds each event
against the schema, which is that of the whole.
"""
IDEMPOTENCY_KEY = "Idempotency-Key"
GOOD_KEY = re.compile(r"[ !#-~]{1,200}")
numbers = itertools.count()
EVENT_DATA = re.compile(r"^data: (.+?)\r?$", re.MULTILINE)
STREAMS = frozenset({"/v1/events", "/api/v1/tasks/{task_id}/events"})
LAST_EVENT_ID = "Last-Event-ID"
SANE_DIGITS = 9
FRAMING = frozenset(
    {"connection", "content-length", "content-type", "date", "transfer-encoding", "allow"}
)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Turn away whatever would change the run's own key, person or tenant; begin streams where
    there are events already.
    """
    if case.meta is None or case.meta.generation.mode.is_positive:
        _begin_stream(case)
        _renew_idempotency_key(case)
        if seeds := SEEDS.get(case.operation.label):
            case.path_parameters.update(seeds.pop())
    if case.operation.method.lower() == "get":
        return
    for name, value in (case.path_parameters or {}).items():
        spelled = str(value).lower().replace("-", "").rpartition("_")[2]
        if spelled in OWN:
            case.path_parameters[name] = UNKNOWN


def _begin_stream(case: Any) -> None:
    """From the first event, wherever the case would have the stream begin in good order."""
    if case.operation.path in STREAMS:
        after = case.headers.get(LAST_EVENT_ID, "")
        if not after or (after.isdecimal() and len(after) <= SANE_DIGITS):
            case.headers[LAST_EVENT_ID] = "0"


def _renew_idempotency_key(case: Any) -> None:
    """A good key is made new: else nearly all creates would be refused for having one and the same
    key with another body.
    """
    key = case.headers.get(IDEMPOTENCY_KEY)
    if isinstance(key, str) and GOOD_KEY.fullmatch(key):
        case.headers[IDEMPOTENCY_KEY] = f"{key}{next(numbers)}"


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Pass over what no schema of OpenAPI 3.1 can say: some reasons to refuse a request that fits
    its schema, and the shape of one event of a stream.
    """
    if failure.code == OTHER_SHAPE and case.operation.path in STREAMS:
        return False
    if failure.code != REJECTED_POSITIVE:
        return True
    problem = json.loads(response.content)
    whole = {"field": "", "code": problem["code"], "detail": problem["detail"]}
    return not all(map(_is_beyond_a_schema, problem["errors"] or [whole]))


def _is_beyond_a_schema(error: dict[str, str]) -> bool:
    field, code = error["field"].rpartition(".")[2], error["code"]
    if code in BEYOND_A_SCHEMA or (field, code) in BEYOND_A_FIELD:
        return True
    # To JSON Schema 2.0 is an integer.
    return error["detail"] == "it is a number; it must be an integer"


@schemathesis.check
def shape_of_events(_context: Any, response: Any, case: Any) -> None:
    """Every event of a stream is one as the trace has it, with what says whose it is."""
    if case.operation.path not in STREAMS or response.status_code != 200:
        return
    schema = {"$ref": "#/components/schemas/Event", "required": ["task_id"]}
    components = {"components": case.operation.schema.raw_schema["components"]}
    validator = jsonschema_rs.Draft202012Validator(schema | components)
    for data in EVENT_DATA.findall(response.content.decode()):
        for error in validator.iter_errors(json.loads(data)):
            raise Failure(operation=case.operation.label, title="Event", message=error.message)


@schemathesis.check
def documented_headers(_context: Any, response: Any, case: Any) -> None:
    """Every header of an answer is in the document."""
    definition = case.operation.responses.find_by_status_code(response.status_code)
    if definition is None:
        return
    known = {name.lower() for name, _ in definition.headers.items()}
    undocumented = {name.lower() for name in response.headers} - known - FRAMING
    if undocumented:
        raise Failure(
            operation=case.operation.label,
            title="Undocumented headers",
            message=", ".join(sorted(undocumented)),
        )
