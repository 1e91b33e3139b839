"""The newest events of the feed, read once for everybody here who follows a tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from libs.bus.postgres import CHANNEL
from libs.bus.topics import TASK_EVENTS
from libs.core.clock import Clock
from libs.core.errors import PawlError
from libs.db.outage import Outage, is_outage, pause
from libs.db.wakeups import Wakeup, Wakeups
from libs.process.logs import get_logger
from services.scheduler.feed import FedEvent, Feed
from services.scheduler.model import StoredEvent
from services.scheduler.wakeups import Signals

PAGE = 500
MOST_UNREAD = 10_000
LOOK_SECONDS = 15.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Events of a tenant, all of them up to `position`."""

    events: list[StoredEvent]
    position: int


class _Follower:
    """Events of one tenant that were read and not yet taken."""

    def __init__(self, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.unread: list[StoredEvent] = []
        self.has_lost = False
        self.news = Wakeup()

    def put(self, event: StoredEvent) -> None:
        if len(self.unread) >= MOST_UNREAD:
            self.has_lost = True
        else:
            self.unread.append(event)
        self.news.set()

    def take(self) -> list[StoredEvent]:
        if self.has_lost:
            raise PawlError(
                "unavailable",
                "this stream was read too slowly; follow again from its last position",
                retry_after_seconds=1,
            )
        events, self.unread = self.unread, []
        return events


class EventTail:
    """Reads the feed's end while somebody follows; `run` must be running."""

    def __init__(
        self,
        feed: Feed,
        *,
        wakeups: Wakeups,
        signals: Signals,
        clock: Clock,
    ) -> None:
        self._feed = feed
        self._clock = clock
        self._wakeups = wakeups
        self._signals = signals
        self._followers: set[_Follower] = set()
        self._position = 0
        self._joining = asyncio.Lock()
        self._flag = Wakeup()

    async def follow(
        self, tenant_id: UUID, *, after_position: int | None, until: float
    ) -> AsyncIterator[Followed]:
        """Events of a tenant after a position, or only new ones, until a monotonic time; first
        none, and where the stream begins.

        PawlError unavailable for a reader that falls too far behind, and when the process stops.
        """
        follower = _Follower(tenant_id)
        joined = await self._join(follower)
        try:
            after = after_position
            if after is None:
                after = await self._feed.last_position()
            yield Followed(events=[], position=after)
            async for fed in self._backlog(tenant_id, after=after, up_to=joined):
                yield fed
                if self._clock.monotonic() >= until:
                    return
            while (left := until - self._clock.monotonic()) > 0:
                follower.news.clear()
                # What was handed out so far is taken in the same instant.
                position = max(after, joined, self._position)
                events = [e for e in follower.take() if (e.position or 0) > after]
                yield Followed(events=events, position=position)
                if not events:
                    self._signals.check_open()
                    await follower.news.wait(min(LOOK_SECONDS, left))
        finally:
            self._followers.discard(follower)

    async def run(self, stop: asyncio.Event) -> None:
        """Read what is new, woken by notifications, until `stop` is set."""
        outage = Outage(log, "event tail")
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._flag.set())
        with self._wakeups.listen(CHANNEL, self._hear):
            while not stop.is_set():
                self._flag.clear()
                try:
                    await self._advance()
                    outage.over()
                except Exception as error:
                    if not is_outage(error):
                        raise
                    await pause(stop, outage.failed(error))
                    self._flag.set()
                await self._flag.wait(LOOK_SECONDS)
        stopping.cancel()

    def close(self) -> None:
        """Make every follower notice that the process stops."""
        for follower in self._followers:
            follower.news.set()

    def _hear(self, topic: str | None) -> None:
        if topic in {None, TASK_EVENTS}:
            self._flag.set()

    async def _join(self, follower: _Follower) -> int:
        """Note a follower; it is given everything after the position that is returned."""
        async with self._joining:
            if not self._followers:
                # While nobody followed, nothing was read.
                self._position = await self._feed.last_position()
            self._followers.add(follower)
            # What came since may have been passed over: nobody followed then.
            self._flag.set()
            return self._position

    async def _advance(self) -> None:
        while self._followers:
            fed = await self._feed.read(self._position, PAGE)
            for one in fed:
                self._hand_out(one)
            if len(fed) < PAGE:
                return

    def _hand_out(self, fed: FedEvent) -> None:
        if fed.position <= self._position:
            return
        self._position = fed.position
        if fed.event is None:
            return
        for follower in self._followers:
            if follower.tenant_id == fed.tenant_id:
                follower.put(fed.event)

    async def _backlog(self, tenant_id: UUID, *, after: int, up_to: int) -> AsyncIterator[Followed]:
        while after < up_to:
            fed = await self._feed.read(after, PAGE)
            if not fed:
                return
            after = fed[-1].position
            events = [
                one.event
                for one in fed
                if one.event is not None and one.tenant_id == tenant_id and one.position <= up_to
            ]
            # The rest of the page is with the follower's unread ones.
            yield Followed(events=events, position=min(after, up_to))
