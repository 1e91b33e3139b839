"""The OpenAPI 3.1 document: what routes declare, and the parts that all of them share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from gateway.errors import MAX_ERRORS, MAX_TEXT, MEDIA_TYPE, TYPE_PREFIX, problem_body
from gateway.links import Links
from gateway.response_headers import HEADERS, Headers, of_every_answer, said
from libs.core.errors import ERRORS, FieldError, PawlError

TITLE = "Pawl"
SCHEMA_REF = "#/components/schemas/"
REQUEST_ID = "req_5f0c6f1e8d3b4a72c9e01d44"
SUMMARY = "A runtime for AI tasks: planned before they run, bounded, forward-only, verifiable."
DESCRIPTION = """\
Bodies are JSON in UTF-8 of at most 1 MiB, read strictly: a member or query parameter that is not
known, a repeated one, null where nothing is meant, an integer with a point or exponent, and a
number that is not finite are refused.
Every refusal is an `application/problem+json` (RFC 9457) whose `code` programs go by. Answers may
get members, and refusals codes, that are not in this document yet.

Every GET has its HEAD. OPTIONS says in `Allow` which methods a path knows; others are 405, with
`Allow` too. A path that is not here is 404.

Times are RFC 3339 in UTC, ids are UUIDs, lists come in pages (`limit`, `cursor`, `next_cursor`).
"""
TAGS = (
    ("Tasks", "Submit tasks, look at them, follow them, replay them."),
    ("Tasks of agents", "The same tasks in the words of agents."),
    ("Events", "What happens to all tasks, as it happens and once more."),
    ("Tools", "What plans may name."),
    ("Accounts", "Tenants, people, keys, the audit log and what was used."),
    ("Health", "For whoever watches the gateway."),
)
PUBLIC: dict[str, Any] = {"security": []}
"""`openapi_extra` of a route that needs no key."""

Parameter = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]


class ProblemField(BaseModel):
    """One thing wrong with one field."""

    field: str = Field(
        description="The path that people read.",
        examples=["plan.steps[0].tool"],
        max_length=MAX_TEXT,
    )
    pointer: str = Field(
        description="The same as JSON pointer (RFC 6901).", examples=["/plan/steps/0/tool"]
    )
    code: str = Field(pattern="^[a-z_]+$", examples=["wrong_type"])
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details; every refusal has this shape."""

    type: str = Field(
        pattern=f"^{TYPE_PREFIX}[a-z_]+$", examples=["urn:pawl:problem:validation_failed"]
    )
    title: str = Field(description="The same for every refusal with this code.")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What is wrong with this request.")
    code: str = Field(
        pattern="^[a-z_]+$",
        description="For programs; each response lists those that there are.",
        examples=["validation_failed"],
    )
    request_id: str
    errors: list[ProblemField] = Field(
        description="The fields to blame, if any are.", max_length=MAX_ERRORS
    )


def query_parameter(name: str, description: str, schema: dict[str, Any]) -> Parameter:
    """An optional query parameter."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def header_parameter(name: str, description: str, schema: dict[str, Any]) -> Parameter:
    """An optional request header."""
    return {"name": name, "in": "header", "description": description, "schema": schema}


WAIT = query_parameter(
    "wait",
    "Seconds to wait for the task to end before answering with its state of then; as `Prefer` says,"
    " or not at all, when absent.",
    # Without a default: generated clients would send it, and nothing would come of Prefer.
    {"type": "number", "minimum": 0, "maximum": 25},
)
PREFER = header_parameter(
    "Prefer",
    "`wait=N` (RFC 7240): as the query parameter `wait`, which comes before it. More than 25 means"
    " 25; what is not understood is ignored. The answer says Preference-Applied.",
    {"type": "string", "examples": ["wait=10"]},
)
IF_NONE_MATCH = header_parameter(
    "If-None-Match",
    "ETag of an answer that the caller still has; 304 without a body when it still holds.",
    {"type": "string"},
)
LIMIT = query_parameter(
    "limit", "Rows per page.", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
)
CURSOR = query_parameter(
    "cursor", "next_cursor of the page before.", {"type": "string", "minLength": 1}
)
IDEMPOTENCY_KEY = header_parameter(
    "Idempotency-Key",
    "The same key with the same body is answered with the task of the first request, for 24 hours;"
    " with another body it is refused. 1 to 255 printable ASCII characters, bare or quoted.",
    {
        "type": "string",
        "pattern": r'^([!#-~]([ -~]{0,253}[!-~])?|"([ !#-\[\]-~]|\\["\\]){1,255}")$',
        "examples": ["invoice-2026-117"],
    },
)
LAST_EVENT_ID = header_parameter(
    "Last-Event-ID",
    "The id of the last event received; the stream goes on after it. Empty is as absent.",
    {"type": "string", "pattern": "^[0-9]{0,19}$"},
)


def reads(
    *parameters: Parameter, body: type[BaseModel] | None = None, is_body_required: bool = True
) -> dict[str, Any]:
    """`openapi_extra` of a route: the parameters and the body that our own readers read."""
    operation: dict[str, Any] = {"parameters": list(parameters)}
    if body is not None:
        schema = {"$ref": SCHEMA_REF + body.__name__}
        content = {"application/json": {"schema": schema}}
        operation["requestBody"] = {"required": is_body_required, "content": content}
    return operation


def answer(
    status: int, description: str, *, headers: Headers | None = None, links: Links | None = None
) -> Responses:
    """`responses` of a route: what is to be said of the answer beside its model."""
    said_of_it = {"headers": headers or {}, "links": links or {}}
    return {status: {"description": description, **{n: v for n, v in said_of_it.items() if v}}}


def event_stream(description: str, example: str) -> Responses:
    """`responses` of a route that answers with Server-Sent Events."""
    content = {"text/event-stream": {"schema": {"type": "string"}, "example": example}}
    headers = said("X-Accel-Buffering")
    return {200: {"description": description, "content": content, "headers": headers}}


def document(
    app: FastAPI, *, bodies: Iterable[type[BaseModel]], answers: Iterable[type[BaseModel]]
) -> dict[str, Any]:
    """The whole document. `bodies` are the models of request bodies, which FastAPI does not see."""
    bodies = tuple(bodies)
    found = get_openapi(
        title=TITLE,
        version=app.version,
        summary=SUMMARY,
        description=DESCRIPTION,
        tags=[{"name": name, "description": words} for name, words in TAGS],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        routes=app.routes,
        openapi_version="3.1.0",
    )
    models = [(model, "validation") for model in (*bodies, Problem)]
    # mypy takes "validation" for any string; pydantic names the words that it knows.
    _, schemas = models_json_schema(models, ref_template=SCHEMA_REF + "{model}")  # type: ignore[arg-type]
    components = found.setdefault("components", {})
    known = {**schemas["$defs"], **components.get("schemas", {})}
    components["schemas"] = known
    for model in (*bodies, *answers):
        # FastAPI drops what is null, in examples too.
        extra = model.model_config.get("json_schema_extra")
        if isinstance(extra, dict):
            known[model.__name__] |= extra
    components["headers"] = HEADERS
    _say_headers(found)
    components["responses"] = _shared_refusals(found)
    components["securitySchemes"] = {
        "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key: pawl_live_…"}
    }
    return found | {"security": [{"apiKey": []}]}


def _say_headers(document: dict[str, Any]) -> None:
    """Note at every answer the headers that it may have, whatever its route; sort the answers."""
    for operations in document.get("paths", {}).values():
        for operation in operations.values():
            has_key = operation.get("security") != PUBLIC["security"]
            for status, response in operation["responses"].items():
                known = of_every_answer(status, has_key=has_key)
                response["headers"] = {**known, **response.get("headers", {})}
            operation["responses"] = dict(sorted(operation["responses"].items()))


def _shared_refusals(document: dict[str, Any]) -> dict[str, Any]:
    """The refusals, each once; the operations refer to them from here on."""
    shared: dict[str, Any] = {}
    for operations in document.get("paths", {}).values():
        for operation in operations.values():
            responses = operation["responses"]
            for status, response in responses.items():
                if MEDIA_TYPE in response.get("content", {}):
                    name = f"Refused{status}"
                    kept = shared.setdefault(name, response)
                    kept["headers"] |= response["headers"]
                    responses[status] = {"$ref": f"#/components/responses/{name}"}
    return shared


def problem_response(status: int) -> dict[str, Any]:
    """How a refusal with this status is documented."""
    code = next(code for code, kind in ERRORS.items() if kind.http == status)
    errors: tuple[FieldError, ...] = ()
    message = ERRORS[code].title
    if status == 422:
        detail = "it is a string; it must be an integer"
        message = f"max_steps: {detail}"
        errors = (FieldError(field="max_steps", code="wrong_type", detail=detail),)
    example = problem_body(PawlError(code, message, errors=errors), request_id=REQUEST_ID)
    codes = ", ".join(code for code, kind in ERRORS.items() if kind.http == status)
    return {
        "description": f"{ERRORS[code].title}. Codes: {codes}.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMA_REF + "Problem"}, "example": example}},
    }


PUBLIC_REFUSALS: Responses = {
    status: problem_response(status) for status in (400, 404, 431, 500, 503)
}
"""`responses` of a route that needs no key."""
REFUSALS: Responses = PUBLIC_REFUSALS | {
    status: problem_response(status) for status in (401, 403, 422, 429, 504)
}
"""`responses` of a route: what it may refuse."""
BODY_REFUSALS: Responses = REFUSALS | {
    status: problem_response(status) for status in (408, 409, 413, 415)
}
"""`responses` of a route that reads a body."""
