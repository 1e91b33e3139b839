"""Who has to look again after a commit: waiters here, executors' streams, other schedulers, the
relay.

A wake-up is a hint, never the news itself: whoever waits clears its flag, looks, and only then
waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from uuid import UUID

import orjson

from libs.core.errors import PawlError
from libs.db.outage import Outage, is_outage, pause
from libs.db.wakeups import Wakeup
from libs.process.logs import get_logger

CHANNEL = "pawl_scheduler"

# A payload must stay below 8,000 bytes; an id takes 39 of them, with a token at most 50.
MOST_IDS = 150

PEER_SECONDS = 3.0
REST_SECONDS = 0.02
"""How long changes that end nothing wait for more of their kind."""

Announce = Callable[[str, str], Awaitable[None]]
OnCancel = Callable[[Iterable[UUID]], None]
OnRevoke = Callable[[Mapping[UUID, int]], None]
"""Told tasks with the lease token that is no longer good."""

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
    """What one scheduler tells itself at once, and the others, while there are any, by NOTIFY.

    A NOTIFY is a statement of its own after the commit, and one carries whatever has piled up while
    the one before was on its way. Changes that end nothing may rest for 20 ms.
    """

    def __init__(
        self,
        instance_id: UUID,
        *,
        announce: Announce,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.changed = TaskFlags()
        self.ended = TaskFlags()
        self.is_closing = False
        self._name = str(instance_id)
        self._announce = announce
        self._monotonic = monotonic
        self._on_commit: list[Callable[[], None]] = []
        self._on_queue: list[Callable[[], None]] = []
        self._on_end: list[Callable[[], None]] = []
        self._on_cancel: list[OnCancel] = []
        self._on_revoke: list[OnRevoke] = []
        self._on_missed: list[Callable[[], None]] = []
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self.is_alone = False
        self._heard_at = self._monotonic()
        self._tell_hello = False
        self._tell_changed: set[UUID] = set()
        self._tell_ended: set[UUID] = set()
        self._tell_cancelling: set[UUID] = set()
        self._tell_revoked: dict[UUID, int] = {}
        self._tell_queue = False
        self._tell_all = False

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every commit that wrote events (the relay's wake)."""
        self._on_commit.append(listener)

    def on_queue(self, listener: Callable[[], None]) -> None:
        """Call `listener` when another scheduler says that work waits."""
        self._on_queue.append(listener)

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call `listener` when tasks have ended, here or elsewhere."""
        self._on_end.append(listener)

    def on_cancel(self, listener: OnCancel) -> None:
        """Call `listener` with tasks whose steps are to be killed, wherever they run."""
        self._on_cancel.append(listener)

    def on_revoke(self, listener: OnRevoke) -> None:
        """Call `listener` with tasks whose holder has lost them."""
        self._on_revoke.append(listener)

    def on_missed(self, listener: Callable[[], None]) -> None:
        """Call `listener` when something may have been missed."""
        self._on_missed.append(listener)

    def committed(self, *, changed: Iterable[UUID] = (), ended: Iterable[UUID] = ()) -> None:
        """Events were committed: of tasks that others may know, and of some that ended with them.

        A new task needs no ids: nobody can wait for it yet.
        """
        changed, ended = set(changed), set(ended)
        self._hear(changed, ended)
        for listener in self._on_commit:
            listener()
        if self.is_alone:
            return
        if changed:
            self._tell_changed |= changed
            self._news.set()
        if ended:
            self._tell_ended |= ended
            self._hurry()

    def peers(self, listening: int) -> None:
        """Note how many schedulers listen, this one included."""
        # One that was just heard may have begun to listen after this was counted.
        is_quiet = self._monotonic() - self._heard_at > PEER_SECONDS
        if listening <= 1 and is_quiet:
            self.is_alone = True
        else:
            self._has_company()

    def work_waits(self) -> None:
        """Tell the other schedulers that there is more in the queue than this one can give out."""
        self._tell_queue = True
        self._hurry()

    def work_has_come(self) -> None:
        """Tell everybody that tasks were queued, or freed."""
        self._look_at_queue()
        self.work_waits()

    def cancelling(self, task_ids: Iterable[UUID]) -> None:
        """These tasks are to be cancelled; whoever runs their steps has to kill them."""
        ids = set(task_ids)
        self._cancel(ids)
        self._tell_cancelling |= ids
        self._hurry()

    def revoked(self, tokens: Mapping[UUID, int]) -> None:
        """Whoever held these tasks under these lease tokens, or older ones, holds them no more."""
        self._revoke(tokens)
        self._tell_revoked |= tokens
        self._hurry()

    def heard(self, payload: str | None) -> None:
        """Take in a notification; None: some may have been missed."""
        if payload is None:
            self._missed()
            # Who thinks to be alone tells nothing: now somebody listens.
            self._tell_hello = True
            self._hurry()
            return
        try:
            said = orjson.loads(payload)
            by, everything, queue = said["by"], said.get("all"), said.get("queue")
            changed, ended, cancelling = (
                {UUID(text) for text in said.get(name, ())}
                for name in ("changed", "ended", "cancelling")
            )
            revoked = dict(_with_token(text) for text in said.get("revoked", ()))
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("notification not understood", payload=payload[:200])
            self._missed()
            return
        if by == self._name:
            return
        self._heard_at = self._monotonic()
        self._has_company()
        if everything:
            self._missed()
            return
        self._hear(changed, ended)
        self._cancel(cancelling)
        self._revoke(revoked)
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
        rested_at = 0.0
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._hurry())
        try:
            while not stop.is_set():
                await self._news.wait()
                await pause(self._urgent, max(0.0, rested_at - self._monotonic()))
                self._news.clear()
                self._urgent.clear()
                rested_at = self._monotonic() + REST_SECONDS
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
                    self._hurry()
                    await pause(stop, outage.failed(error))
        finally:
            stopping.cancel()

    def _has_company(self) -> None:
        """What was not told while this one believed to be alone, the others look up themselves."""
        if self.is_alone:
            self.is_alone = False
            self._tell_all = True
            self._hurry()

    def _hurry(self) -> None:
        self._news.set()
        self._urgent.set()

    def _payloads(self) -> Iterator[str]:
        told: dict[str, Iterable[object]] = {
            "cancelling": self._tell_cancelling,
            "revoked": [f"{task_id}:{token}" for task_id, token in self._tell_revoked.items()],
            "changed": self._tell_changed,
            "ended": self._tell_ended,
        }
        everything, queue, hello = self._tell_all, self._tell_queue, self._tell_hello
        self._tell_changed, self._tell_ended = set(), set()
        self._tell_cancelling, self._tell_revoked = set(), {}
        self._tell_all = self._tell_queue = self._tell_hello = False
        if hello:
            yield self._payload(hello=True)
        if self.is_alone:
            return
        if everything:
            yield self._payload(all=True)
            return
        if queue:
            yield self._payload(queue=True)
        for name, ids in told.items():
            left = iter(ids)
            while part := [str(one) for one in islice(left, MOST_IDS)]:
                yield self._payload(**{name: part})

    def _payload(self, **said: object) -> str:
        return orjson.dumps({"by": self._name, **said}).decode()

    def _hear(self, changed: set[UUID], ended: set[UUID]) -> None:
        self.changed.raise_for(changed)
        self.changed.raise_for(ended)
        self.ended.raise_for(ended)
        if ended:
            for listener in self._on_end:
                listener()

    def _cancel(self, task_ids: set[UUID]) -> None:
        if task_ids:
            for listener in self._on_cancel:
                listener(task_ids)

    def _revoke(self, tokens: Mapping[UUID, int]) -> None:
        if tokens:
            for listener in self._on_revoke:
                listener(tokens)

    def _missed(self) -> None:
        self.changed.raise_all()
        self.ended.raise_all()
        for listener in self._on_missed:
            listener()
        self._look_at_queue()

    def _look_at_queue(self) -> None:
        for listener in self._on_queue:
            listener()


def _with_token(text: str) -> tuple[UUID, int]:
    task_id, token = text.split(":")
    return UUID(task_id), int(token)
