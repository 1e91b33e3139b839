"""The headers of answers, as the OpenAPI document says them."""

from __future__ import annotations

from typing import Any

Headers = dict[str, dict[str, Any]]

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
HEADERS: Headers = {
    "X-Request-Id": {
        "description": "The request's id: the caller's own when one was sent that is sane.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~:/+=@-]{1,128}$"},
        "example": "req_5f0c6f1e8d3b4a72c9e01d44",
    },
    "X-Content-Type-Options": {
        "description": "The content is what Content-Type says.",
        "required": True,
        "schema": {"const": "nosniff"},
        "example": "nosniff",
    },
    "Cache-Control": {
        "description": "no-store; private, no-cache where there is an ETag to ask with again.",
        "schema": _TEXT,
        "example": "no-store",
    },
    "RateLimit-Policy": {
        "description": "The limits on requests: q requests within w seconds, all keys together.",
        "schema": _TEXT,
        "example": '"rate_limit_per_minute";q=120;w=60, "monthly_requests";q=100000',
    },
    "RateLimit": {
        "description": "The limit that is met first: r requests left, whole again in t seconds.",
        "schema": _TEXT,
        "example": '"rate_limit_per_minute";r=119;t=1',
    },
    "RateLimit-Limit": {
        "description": "That limit's number.",
        "schema": {"type": "integer"},
        "example": 120,
    },
    "RateLimit-Remaining": {
        "description": "Requests that it still allows.",
        "schema": _COUNT,
        "example": 119,
    },
    "RateLimit-Reset": {
        "description": "Seconds until it is whole again.",
        "schema": _COUNT,
        "example": 1,
    },
    "Retry-After": {
        "description": "Whole seconds to leave before the request is sent again. Of an answer about"
        " tasks: before it is asked again; absent once they have ended.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 3,
    },
    "WWW-Authenticate": {
        "description": "How to authenticate: with a key as bearer token (RFC 6750).",
        "required": True,
        "schema": {"const": "Bearer"},
        "example": "Bearer",
    },
    "ETag": {
        "description": "Weak tag of the answer, for If-None-Match.",
        "required": True,
        "schema": {"type": "string", "pattern": '^W/"[0-9]+-[0-9a-f]{20}"$'},
        "example": 'W/"7-0c7d9a55fd4b5a37a8d8"',
    },
    "Preference-Applied": {
        "description": "What of Prefer was heeded.",
        "schema": {"type": "string", "pattern": "^wait=[0-9]{1,2}$"},
        "example": "wait=10",
    },
    "Idempotent-Replayed": {
        "description": "true: the key belongs to an earlier request; nothing new was stored.",
        "schema": {"const": "true"},
        "example": "true",
    },
    "Vary": {
        "description": "The request header that decides about the format.",
        "required": True,
        "schema": {"const": "Accept"},
        "example": "Accept",
    },
    "Content-Disposition": {
        "description": "With CSV: the name of the file.",
        "schema": _TEXT,
        "example": 'attachment; filename="pawl-usage-2026-02-01-2026-02-27.csv"',
    },
    "X-Accel-Buffering": {
        "description": "no: for proxies, which are to pass every event on at once.",
        "schema": {"const": "no"},
        "example": "no",
    },
}
"""By name. Those of the limits are absent where a tenant has none, and while none is known.

`required` is what every answer has that names the header.
"""

_ALWAYS = ("X-Request-Id", "X-Content-Type-Options", "Cache-Control")
_STANDING = tuple(name for name in HEADERS if name.startswith("RateLimit"))
_BEFORE_THE_KEY = frozenset({"401", "431"})
_REFUSED = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",)}


def said(*names: str) -> Headers:
    """The headers of that name, for `responses` of a route."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def of_every_answer(status: str, *, has_key: bool) -> Headers:
    """The headers that any answer with this status may have, whatever the route; `has_key`: one
    that needs a key.
    """
    standing = _STANDING if has_key and status not in _BEFORE_THE_KEY else ()
    return said(*_ALWAYS, *standing, *_REFUSED.get(status, ()))
