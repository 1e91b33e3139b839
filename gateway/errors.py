"""The one renderer of refusals: RFC 9457 problem+json, the same in every dialect."""

from __future__ import annotations

import math
from collections.abc import Mapping

import orjson
from starlette.responses import Response

from libs.core.errors import FieldError, PawlError
from libs.process.logs import get_logger
from libs.rpc.context import current

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:pawl:problem:"
MAX_TEXT = 4_000
MAX_ERRORS = 100

log = get_logger(__name__)


def problem(error: PawlError, *, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a refused request."""
    if error.kind.http >= 500:
        log.warning("request failed", code=error.code, error=error.message)
    return Response(
        orjson.dumps(problem_body(error, request_id=current().request_id)),
        status_code=error.kind.http,
        headers={**_headers(error), **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def problem_body(error: PawlError, *, request_id: str) -> dict[str, object]:
    """The members of the problem, in the order in which people read them."""
    return {
        "type": TYPE_PREFIX + error.code,
        "title": error.kind.title,
        "status": error.kind.http,
        "detail": _text(error.message),
        "code": error.code,
        "request_id": request_id,
        "errors": [_field(one) for one in error.errors[:MAX_ERRORS]],
    }


def no_route() -> PawlError:
    """No route has this path."""
    return PawlError("not_found", "there is nothing at this path")


def _headers(error: PawlError) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if error.kind.http == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    elif error.kind.http == 503:
        headers["Retry-After"] = "1"
    return headers


def _field(one: FieldError) -> dict[str, str]:
    return {
        "field": _text(one.field),
        "pointer": _text(one.pointer),
        "code": one.code,
        "detail": _text(one.detail),
    }


def _text(text: str) -> str:
    """Bounded, and without the half surrogate pairs that no answer can carry."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()
