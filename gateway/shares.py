"""How much of the gateway one tenant may take: requests being answered, bytes of large messages.

A tenant that floods meets its own bound and leaves the rest to the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from libs.core.errors import PawlError

SHARE = 4
"""One tenant may have a quarter."""
SMALL_BYTES = 32 * 2**10
"""Bodies up to this size are not counted: the bound on requests at once bounds them."""
SPACE_SECONDS = 3.0
"""How long a large body may wait before it is read, a large answer before it is sent."""
MAX_WAITING = 64

Release = Callable[[], None]


def share_of(whole: int) -> int:
    """What one tenant may have of it."""
    return max(1, whole // SHARE)


class NoRoom(PawlError):  # noqa: N818 - a refusal, as PawlError is
    """The gateway has enough of this tenant, or of all. The connection ends with the answer."""


class InFlight:
    """Requests that are being answered, by tenant; streams and those that wait included."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()

    def enter(self, tenant_id: str) -> Release:
        """Count one more request, until the answer is called.

        PawlError rate_limited (429) when the tenant has as many as it may.
        """
        if self._counts[tenant_id] >= self._most:
            raise NoRoom(
                "rate_limited",
                f"requests at once: {self._most} of this tenant are being answered by this "
                "gateway, and no more are allowed",
                retry_after_seconds=1,
            )
        self._counts[tenant_id] += 1

        def leave() -> None:
            self._counts[tenant_id] -= 1
            if not self._counts[tenant_id]:
                del self._counts[tenant_id]

        return leave

    def of(self, tenant_id: str) -> int:
        """How many of the tenant's there are."""
        return self._counts[tenant_id]


@dataclass(slots=True, eq=False)
class _Body:
    """A body that waits for space."""

    tenant_id: str
    size: int
    future: asyncio.Future[None]


class BodySpace:
    """Bytes of large bodies, of requests and of answers, that are held at once, over all requests
    and by tenant.
    """

    def __init__(
        self, *, most_bytes: int, most_of_tenant: int, wait_seconds: float = SPACE_SECONDS
    ) -> None:
        self._most_bytes = most_bytes
        self._most_of_tenant = most_of_tenant
        self._wait_seconds = wait_seconds
        self._held = 0
        self._of_tenant: Counter[str] = Counter()
        self._waiting: deque[_Body] = deque()

    @property
    def held_bytes(self) -> int:
        """How much is held now."""
        return self._held

    async def take(self, tenant_id: str, size: int) -> Release:
        """Space for so many bytes, until the answer is called; once is enough.

        In the order of asking, but nobody waits behind a tenant that has its share. PawlError
        unavailable (503) when there is none within some seconds, or too many wait already.
        """
        body = _Body(tenant_id, size, asyncio.get_running_loop().create_future())
        if self._fits(body):
            self._hold(body)
        elif len(self._waiting) >= MAX_WAITING:
            raise self._full()
        else:
            await self._wait(body)
        return self._release_of(body)

    async def _wait(self, body: _Body) -> None:
        self._waiting.append(body)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await body.future
        except BaseException as error:
            if body in self._waiting:
                self._waiting.remove(body)
            elif not body.future.cancelled():
                self._give(body)  # it was its turn just when it was given up
            if isinstance(error, TimeoutError):
                raise self._full() from error
            raise

    def _fits(self, body: _Body) -> bool:
        theirs = self._of_tenant[body.tenant_id]
        # What is larger than a whole share goes alone.
        fits = not theirs or theirs + body.size <= self._most_of_tenant
        return fits and (not self._held or self._held + body.size <= self._most_bytes)

    def _hold(self, body: _Body) -> None:
        self._held += body.size
        self._of_tenant[body.tenant_id] += body.size

    def _release_of(self, body: _Body) -> Release:
        is_held = True

        def release() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                self._give(body)

        return release

    def _give(self, body: _Body) -> None:
        self._held -= body.size
        self._of_tenant[body.tenant_id] -= body.size
        if not self._of_tenant[body.tenant_id]:
            del self._of_tenant[body.tenant_id]
        for next_one in tuple(self._waiting):
            if not next_one.future.done() and self._fits(next_one):
                self._waiting.remove(next_one)
                self._hold(next_one)
                next_one.future.set_result(None)

    def _full(self) -> PawlError:
        return NoRoom("unavailable", "too much is read and sent at once", retry_after_seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the gateway takes on at once."""

    in_flight: InFlight
    bodies: BodySpace

    @classmethod
    def of(cls, *, max_in_flight: int, max_body_bytes: int) -> Load:
        """Everybody may have these together, one tenant a quarter of them."""
        return cls(
            in_flight=InFlight(most=share_of(max_in_flight)),
            bodies=BodySpace(most_bytes=max_body_bytes, most_of_tenant=share_of(max_body_bytes)),
        )
