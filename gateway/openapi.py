"""The OpenAPI 3.1 document: what routes declare, and the parts that all of them share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.errors import MEDIA_TYPE, problem_body
from libs.core.errors import ERRORS, FieldError, PawlError

TITLE = "Pawl"
SCHEMA_REF = "#/components/schemas/"
REQUEST_ID = "req_5f0c6f1e8d3b4a72c9e01d44"
SUMMARY = "A runtime for AI tasks: planned before they run, bounded, forward-only, verifiable."
PUBLIC: dict[str, Any] = {"security": []}
"""`openapi_extra` of a route that needs no key."""

_RETRY_HEADER = "Retry-After"
STANDING_HEADERS = (
    "RateLimit-Policy",
    "RateLimit",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
)
"""Absent where a tenant has no limit on requests."""
_SECONDS = {"type": "integer", "minimum": 0}
HEADERS: dict[str, Any] = {
    "RateLimit-Policy": {
        "description": "The limits on requests: q requests within w seconds, all keys together.",
        "schema": {"type": "string"},
        "example": '"rate_limit_per_minute";q=120;w=60, "monthly_requests";q=100000',
    },
    "RateLimit": {
        "description": "The limit that is met first: r requests left, whole again in t seconds.",
        "schema": {"type": "string"},
        "example": '"rate_limit_per_minute";r=119;t=1',
    },
    "RateLimit-Limit": {
        "description": "That limit's number.",
        "schema": {"type": "integer"},
        "example": 120,
    },
    "RateLimit-Remaining": {
        "description": "Requests that it still allows.",
        "schema": {"type": "integer"},
        "example": 119,
    },
    "RateLimit-Reset": {
        "description": "Seconds until it is whole again.",
        "schema": _SECONDS,
        "example": 1,
    },
    _RETRY_HEADER: {
        "description": "Whole seconds after which to send it again.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 3,
    },
}

Parameter = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]
Headers = dict[str, dict[str, Any]]


class ProblemField(BaseModel):
    """One thing wrong with one field."""

    field: str
    pointer: str
    code: str
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details; every refusal has this shape."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemField]


def query_parameter(name: str, description: str, schema: dict[str, Any]) -> Parameter:
    """An optional query parameter."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def header_parameter(name: str, description: str, schema: dict[str, Any]) -> Parameter:
    """An optional request header."""
    return {"name": name, "in": "header", "description": description, "schema": schema}


WAIT = query_parameter(
    "wait",
    "Seconds to wait for the task to end before answering with its state of then.",
    {"type": "number", "minimum": 0, "maximum": 25, "default": 0},
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
    {"type": "string", "minLength": 1, "maxLength": 255},
)
LAST_EVENT_ID = header_parameter(
    "Last-Event-ID",
    "The id of the last event received; the stream goes on after it.",
    {"type": "string"},
)

RETRY_AFTER: Headers = {
    _RETRY_HEADER: {
        "description": "Seconds to leave before asking again; absent once the task has ended.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
PREFERENCE_APPLIED: Headers = {
    "Preference-Applied": {
        "description": "What of Prefer was heeded.",
        "schema": {"type": "string"},
    }
}
ETAG: Headers = {
    "ETag": {
        "description": "Weak tag of the answer, for If-None-Match.",
        "schema": {"type": "string"},
    }
}
IDEMPOTENT_REPLAYED: Headers = {
    "Idempotent-Replayed": {
        "description": "true: the key belongs to an earlier request; nothing new was stored.",
        "schema": {"const": "true"},
    }
}


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


def event_stream(description: str, example: str) -> Responses:
    """`responses` of a route that answers with Server-Sent Events."""
    content = {"text/event-stream": {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": description, "content": content}}


def document(
    app: FastAPI, *, bodies: Iterable[type[BaseModel]], answers: Iterable[type[BaseModel]]
) -> dict[str, Any]:
    """The whole document. `bodies` are the models of request bodies, which FastAPI does not see."""
    bodies = tuple(bodies)
    found = get_openapi(
        title=TITLE,
        version=app.version,
        summary=SUMMARY,
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
    components["securitySchemes"] = {
        "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key: pawl_live_…"}
    }
    return found | {"security": [{"apiKey": []}]}


def _say_headers(document: dict[str, Any]) -> None:
    """Note how the limits stand at what answers with a key, and when to come again."""
    standing = {name: {"$ref": f"#/components/headers/{name}"} for name in STANDING_HEADERS}
    retry = {_RETRY_HEADER: {"$ref": f"#/components/headers/{_RETRY_HEADER}"}}
    for operations in document.get("paths", {}).values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                has_key = operation.get("security") != PUBLIC["security"]
                headers = standing if (has_key and status[0] == "2") or status == "429" else {}
                headers = headers | (retry if status in {"429", "503"} else {})
                if headers:
                    response["headers"] = {**response.get("headers", {}), **headers}


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


REFUSALS: Responses = {
    status: problem_response(status)
    for status in (400, 401, 403, 404, 422, 429, 431, 500, 503, 504)
}
"""`responses` of a route: what it may refuse."""
BODY_REFUSALS: Responses = REFUSALS | {
    status: problem_response(status) for status in (408, 409, 413, 415)
}
"""`responses` of a route that reads a body."""
