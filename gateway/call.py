"""What every authenticated route begins with: headers, key and query are checked, in this order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fastapi import Request

from gateway.admitted import Admitted, admit
from gateway.caller import Callers
from gateway.clients import Clients
from gateway.edge import STANDING_KEY
from gateway.query import Query, read_query
from gateway.refusals import Limited
from gateway.shares import Load
from libs.core.clock import Clock
from libs.core.errors import PawlError

SINGLE_HEADERS = (b"authorization", b"content-type", b"idempotency-key", b"last-event-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What the routes share; `app.state.gateway`."""

    clients: Clients
    callers: Callers
    clock: Clock
    version: str
    load: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated request."""

    gateway: Gateway
    admitted: Admitted
    query: Query

    @property
    def token(self) -> str:
        """The caller token. Reading a body renews it: take it when it is needed."""
        return self.admitted.ticket.token

    @property
    def clients(self) -> Clients:
        """The services."""
        return self.gateway.clients


def gateway_of(request: Request) -> Gateway:
    """What the application was made with."""
    gateway: Gateway = request.app.state.gateway
    return gateway


async def open_call(request: Request, *, query: Collection[str] = ()) -> Call:
    """Check the caller, then the query, of which the names in `query` are known.

    The request counts as its tenant's until it is answered. Raises PawlError duplicate_header
    (400), unauthenticated (401), unknown_field and validation_failed (422), rate_limited and
    monthly_requests_exceeded (429), unavailable (503).
    """
    refuse_repeated_headers(request)
    gateway = gateway_of(request)
    source = request.client.host if request.client is not None else ""
    try:
        ticket = await gateway.callers.admit(request.headers.get("authorization"), source=source)
    except Limited as refusal:
        request.scope["state"][STANDING_KEY] = refusal.standing
        raise
    admitted = admit(request, ticket, gateway.load)
    return Call(
        gateway=gateway,
        admitted=admitted,
        query=read_query(request.scope["query_string"], known=query),
    )


def refuse_repeated_headers(request: Request) -> None:
    """PawlError duplicate_header when a header that two parties could read differently is there
    twice.
    """
    seen: set[bytes] = set()
    for name, _ in request.scope["headers"]:
        if name in SINGLE_HEADERS and name in seen:
            raise PawlError("duplicate_header", f"the header {name.decode()} occurs twice")
        seen.add(name)
