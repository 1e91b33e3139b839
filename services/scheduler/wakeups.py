"""Who has to look again after a commit: waiters here, executors' streams, other schedulers, the
relay.

A wake-up is a hint, never the news itself: whoever waits clears its flag, looks, and only then
waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from uuid import UUID

import orjson

from libs.core.errors import PawlError
from libs.db.outage import Outage, is_outage, pause
from libs.db.wakeups import Wakeup
from libs.process.logs import get_logger

CHANNEL = "pawl_scheduler"

# A payload must stay below 8,000 bytes; an id takes 39 of them.
MOST_IDS = 180

Announce = Callable[[str, str], Awaitable[None]]

log = get_logger(__name__)


class TaskFlags:
    """Flags of those who wait for news of one task each."""

    def __init__(self) -> None:
        self._flags: dict[UUID, set[Wakeup]] = {}

    @contextmanager
    def flag(self, task_id: UUID) -> Iterator[Wakeup]:
        """A flag that news of the task raise during the block."""
        flag = Wakeup()
        flags = self._flags.setdefault(task_id, set())
        flags.add(flag)
        try:
            yield flag
        finally:
            flags.discard(flag)
            if not flags:
                self._flags.pop(task_id, None)

    def raise_for(self, task_ids: Iterable[UUID]) -> None:
        """Raise the flags of these tasks."""
        for task_id in task_ids:
            for flag in self._flags.get(task_id, ()):
                flag.set()

    def raise_all(self) -> None:
        """Raise every flag: something may have been missed."""
        self.raise_for(tuple(self._flags))


class Signals:
    """What one scheduler tells itself at once, and the others by NOTIFY.

    A NOTIFY is a statement of its own after the commit, and one carries whatever has piled up while
    the one before was on its way.
    """

    def __init__(self, instance_id: UUID, *, announce: Announce) -> None:
        self.changed = TaskFlags()
        self.ended = TaskFlags()
        self.is_closing = False
        self._name = str(instance_id)
        self._announce = announce
        self._on_commit: list[Callable[[], None]] = []
        self._on_queue: list[Callable[[], None]] = []
        self._news = asyncio.Event()
        self._tell_changed: set[UUID] = set()
        self._tell_ended: set[UUID] = set()
        self._tell_queue = False
        self._tell_all = False

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every commit that wrote events (the relay's wake)."""
        self._on_commit.append(listener)

    def on_queue(self, listener: Callable[[], None]) -> None:
        """Call `listener` when another scheduler says that work waits."""
        self._on_queue.append(listener)

    def committed(self, *, changed: Iterable[UUID] = (), ended: Iterable[UUID] = ()) -> None:
        """Events were committed: of tasks that others may know, and of some that ended with them.

        A new task needs no ids: nobody can wait for it yet.
        """
        changed, ended = set(changed), set(ended)
        self._hear(changed, ended)
        for listener in self._on_commit:
            listener()
        if changed or ended:
            self._tell_changed |= changed
            self._tell_ended |= ended
            self._news.set()

    def work_waits(self) -> None:
        """Tell the other schedulers that there is more in the queue than this one can give out."""
        self._tell_queue = True
        self._news.set()

    def heard(self, payload: str | None) -> None:
        """Take in a notification; None: some may have been missed."""
        if payload is None:
            self._missed()
            return
        try:
            said = orjson.loads(payload)
            by, everything, queue = said["by"], said.get("all"), said.get("queue")
            changed = {UUID(text) for text in said.get("changed", ())}
            ended = {UUID(text) for text in said.get("ended", ())}
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("notification not understood", payload=payload[:200])
            self._missed()
            return
        if by == self._name:
            return
        if everything:
            self._missed()
            return
        self._hear(changed, ended)
        if queue:
            self._look_at_queue()

    def close(self) -> None:
        """End every wait and every watch: the process stops."""
        self.is_closing = True
        self.changed.raise_all()
        self.ended.raise_all()

    def check_open(self) -> None:
        """PawlError unavailable once the process stops."""
        if self.is_closing:
            raise PawlError(
                "unavailable", "this scheduler is stopping; ask again", retry_after_seconds=1
            )

    async def run(self, stop: asyncio.Event) -> None:
        """Tell the other schedulers what there is to tell, until `stop` is set."""
        outage = Outage(log, "announcements")
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._news.set())
        try:
            while not stop.is_set():
                await self._news.wait()
                self._news.clear()
                try:
                    for payload in self._payloads():
                        await self._announce(CHANNEL, payload)
                    outage.over()
                except Exception as error:
                    if not is_outage(error):
                        raise
                    # What could not be told is lost; the next message makes the others look
                    # themselves.
                    self._tell_all = True
                    self._news.set()
                    await pause(stop, outage.failed(error))
        finally:
            stopping.cancel()

    def _payloads(self) -> Iterator[str]:
        changed, ended = self._tell_changed, self._tell_ended
        everything, queue = self._tell_all, self._tell_queue
        self._tell_changed, self._tell_ended = set(), set()
        self._tell_all = self._tell_queue = False
        if everything:
            yield self._payload(all=True)
            return
        if queue:
            yield self._payload(queue=True)
        for name, ids in (("changed", changed), ("ended", ended)):
            left = iter(ids)
            while part := [str(task_id) for task_id in islice(left, MOST_IDS)]:
                yield self._payload(**{name: part})

    def _payload(self, **said: object) -> str:
        return orjson.dumps({"by": self._name, **said}).decode()

    def _hear(self, changed: set[UUID], ended: set[UUID]) -> None:
        self.changed.raise_for(changed)
        self.changed.raise_for(ended)
        self.ended.raise_for(ended)

    def _missed(self) -> None:
        self.changed.raise_all()
        self.ended.raise_all()
        self._look_at_queue()

    def _look_at_queue(self) -> None:
        for listener in self._on_queue:
            listener()
