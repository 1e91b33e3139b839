"""One LISTEN connection per process, shared by everything in it that waits for a notification.

A notification is a hint and never the news itself: it may be lost with the connection. Whoever
waits therefore clears its flag, looks, and only then waits, and looks again after a while without
any hint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from psycopg import AsyncConnection, sql

from libs.db.engine import (
    KEEPALIVES_COUNT,
    KEEPALIVES_IDLE_SECONDS,
    KEEPALIVES_INTERVAL_SECONDS,
)
from libs.db.outage import AWAY, Outage
from libs.process.logs import get_logger

CONNECT_TIMEOUT_SECONDS = 5

Listener = Callable[[str | None], None]
"""Called with the payload of a notification; with None when any may have been missed: look."""

log = get_logger(__name__)


class Wakeup:
    """A flag of one waiter: `clear`, look at the database, `wait`."""

    def __init__(self) -> None:
        self._flag = asyncio.Event()

    def set(self) -> None:
        """End the present or the next wait."""
        self._flag.set()

    def clear(self) -> None:
        """Forget what was said so far; call it before looking, or news between the two is lost."""
        self._flag.clear()

    async def wait(self, timeout_seconds: float) -> bool:
        """Whether the flag was or came up within the time."""
        if not self._flag.is_set():
            try:
                # Not wait_for: in Python 3.11 it loses a cancellation that comes with the flag.
                async with asyncio.timeout(timeout_seconds):
                    await self._flag.wait()
            except TimeoutError:
                return False
        return True


class Wakeups:
    """Listens on `channels` and hands every notification to whoever asked for its channel.

    `name` is the application name of the connection. Nothing is heard before `run` has connected;
    every listener is called with None when it has, at first and after each reconnection.
    """

    def __init__(self, dsn: str, *, name: str, channels: Sequence[str]) -> None:
        self._dsn = dsn
        self._name = name
        self._listeners: dict[str, set[Listener]] = {channel: set() for channel in channels}
        self._outage = Outage(log, f"{name} notifications")

    @contextmanager
    def listen(self, channel: str, listener: Listener) -> Iterator[None]:
        """Call `listener` for every notification on `channel` during the block; it must not block.

        KeyError for a channel that was not named at construction.
        """
        listeners = self._listeners[channel]
        listeners.add(listener)
        try:
            yield
        finally:
            listeners.discard(listener)

    @contextmanager
    def wakeup(self, channel: str, *, payload: str | None = None) -> Iterator[Wakeup]:
        """A flag that notifications on `channel` raise, with `payload` only those that carry it."""
        flag = Wakeup()

        def hear(said: str | None) -> None:
            if payload is None or said is None or said == payload:
                flag.set()

        with self.listen(channel, hear):
            yield flag

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set; a lost connection is made again."""
        listening = asyncio.create_task(self._run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
        finally:
            listening.cancel()
            stopping.cancel()
            await asyncio.gather(listening, stopping, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except AWAY as error:
                await asyncio.sleep(self._outage.failed(error))

    async def _listen(self) -> None:
        connection = await AsyncConnection.connect(
            self._dsn,
            autocommit=True,
            application_name=self._name,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            keepalives_idle=KEEPALIVES_IDLE_SECONDS,
            keepalives_interval=KEEPALIVES_INTERVAL_SECONDS,
            keepalives_count=KEEPALIVES_COUNT,
        )
        async with connection:
            for channel in self._listeners:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            self._outage.over()
            for channel in self._listeners:
                self._tell(channel, None)
            async for notify in connection.notifies():
                self._tell(notify.channel, notify.payload)

    def _tell(self, channel: str, payload: str | None) -> None:
        # A copy: a listener may end its own block, or begin another.
        for listener in tuple(self._listeners.get(channel, ())):
            listener(payload)
