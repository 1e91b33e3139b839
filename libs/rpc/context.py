"""Who is calling and on whose behalf: carried through one call by a context variable."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from libs.core.errors import PawlError
from libs.core.tiers import TierLimits

REQUEST_ID_HEADER = "x-request-id"
TRACEPARENT_HEADER = "traceparent"
AUTHORIZATION_HEADER = "authorization"

OPERATOR = "operator"
"""The scope of who runs the installation and may see all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A key's holder, as a verified caller token says. `expires_at` is Unix seconds."""

    key_id: UUID
    tenant_id: UUID
    tier: str
    scopes: frozenset[str]
    mode: str
    limits: TierLimits
    expires_at: float
    roles: frozenset[str] = frozenset()
    allowed_agent_ids: frozenset[str] | None = None
    allowed_task_ids: frozenset[str] | None = None

    def seconds_left(self, now: datetime) -> float:
        """How long the token lives; not positive once it has ended."""
        return self.expires_at - now.timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One of Pawl's services, as a verified service token says; with the tenant and task it acts
    for.
    """

    name: str
    tenant_id: UUID | None = None
    task_id: UUID | None = None


Principal = Caller | Service


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What travels with a call: a request id for the logs, a W3C traceparent, who is calling.

    `deadline` is when the caller stops waiting, on the monotonic clock; calls made meanwhile
    inherit it.
    """

    request_id: str
    traceparent: str = ""
    principal: Principal | None = None
    deadline: float | None = None


_current: ContextVar[CallContext | None] = ContextVar("pawl_call_context", default=None)


def new_request_id() -> str:
    """A fresh request id: `req_` and 24 hex digits."""
    return f"req_{secrets.token_hex(12)}"


def current() -> CallContext:
    """The context of the call being served, or an empty one outside of any call."""
    return _current.get() or CallContext(request_id="")


@contextmanager
def bind(context: CallContext) -> Iterator[None]:
    """Make `context` the current one for the block."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def enter(context: CallContext) -> None:
    """Make `context` the current one for the rest of this task: a server's handler has a task of
    its own.
    """
    _current.set(context)


def current_caller() -> Caller:
    """The caller of this call; PawlError `unauthenticated` when a service or nobody calls."""
    principal = current().principal
    if isinstance(principal, Caller):
        return principal
    raise PawlError("unauthenticated", "this call needs a caller token")


def current_service() -> Service:
    """The service that makes this call; PawlError `unauthenticated` when a caller or nobody
    calls.
    """
    principal = current().principal
    if isinstance(principal, Service):
        return principal
    raise PawlError("unauthenticated", "this call needs a service token")


def require_scope(caller: Caller, scope: str) -> None:
    """PawlError `insufficient_scope` unless the caller's key has `scope`."""
    if scope not in caller.scopes:
        have = ", ".join(sorted(caller.scopes)) or "none"
        role = f" (its user is: {', '.join(sorted(caller.roles))})" if caller.roles else ""
        raise PawlError(
            "insufficient_scope", f"this needs the scope {scope}; the key has {have}{role}"
        )
