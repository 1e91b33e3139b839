"""A request that its tenant may make, with what it holds of the gateway until it is answered."""

from __future__ import annotations

from starlette.requests import Request

from gateway.caller import Ticket
from gateway.edge import ENDINGS_KEY, STANDING_KEY
from gateway.shares import SMALL_BYTES, Load, Release

_KEY = "pawl.admitted"


class Admitted:
    """What goes with one authenticated request. `end` gives everything back."""

    def __init__(self, ticket: Ticket, load: Load) -> None:
        self.ticket = ticket
        self._bodies = load.bodies
        self._leave = load.in_flight.enter(ticket.tenant_id)
        self._let_go: Release | None = None

    async def hold_body(self, size: int) -> None:
        """Wait for the space that a body of so many bytes takes, if it is a large one.

        PawlError unavailable (503) when there is none.
        """
        if size > SMALL_BYTES and self._let_go is None:
            self._let_go = await self._bodies.take(self.ticket.tenant_id, size)

    async def hold_answer(self, size: int) -> None:
        """The same for an answer, in place of the request's body, of which nothing is left."""
        if size > SMALL_BYTES:
            self.let_body_go()
            await self.hold_body(size)

    def let_body_go(self) -> None:
        """The body and what was made of it are held no more."""
        if self._let_go is not None:
            self._let_go()
            self._let_go = None

    @property
    def holds_body(self) -> bool:
        """Whether a large body is held."""
        return self._let_go is not None

    def end(self) -> None:
        """The request is answered."""
        self.let_body_go()
        self._leave()


def admit(request: Request, ticket: Ticket, load: Load) -> Admitted:
    """Count the request as its tenant's until it is answered, and note how its limit stands.

    PawlError rate_limited (429) when the tenant has as many at once as it may.
    """
    state = request.scope["state"]
    state[STANDING_KEY] = ticket.standing
    admitted = Admitted(ticket, load)
    state[_KEY] = admitted
    state[ENDINGS_KEY] = [admitted.end]
    return admitted


def admitted_of(request: Request) -> Admitted | None:
    """What was admitted; None for a request that needs no key."""
    found: Admitted | None = request.scope["state"].get(_KEY)
    return found
