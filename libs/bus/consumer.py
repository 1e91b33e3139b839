"""The loop of a consumer: batches of events, each handled once in effect, poison put aside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from prometheus_client import Counter

from libs.bus.bus import Batch, Bus, BusRecord, DeadLetter, Subscription
from libs.bus.envelope import BusEvent, UnreadableEventError, decode
from libs.bus.statements import statements
from libs.bus.topics import DAY_SECONDS, KEPT_SECONDS
from libs.db.engine import Connection, Pool, transaction
from libs.db.outage import Outage, is_outage, pause
from libs.process.logs import get_logger

LOOK_SECONDS = 5.0
REST_SECONDS = 0.05
MOST_ATTEMPTS = 3
BACKOFF_SECONDS = (0.05, 0.25)
REASON_CHARS = 2000
FORGET_EVERY_SECONDS = 3600.0
FORGET_MOST_KEYS = 5_000

Handler = Callable[[Connection, BusEvent], Awaitable[None]]
"""Acts on one event in the transaction and nowhere else: it may be rolled back and called again."""

log = get_logger(__name__)
_handled = Counter("pawl_bus_events_total", "Events handled", ["topic", "group"])
_duplicates = Counter("pawl_bus_duplicates_total", "Events seen before", ["topic", "group"])
_letters = Counter("pawl_bus_dead_letters_total", "Records put aside", ["topic", "group"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A record, and its event or why it has none."""

    record: BusRecord
    event: BusEvent | None = None
    unreadable: str = ""


class _HandlerError(Exception):
    """The handler failed on this item; the cause says how."""

    def __init__(self, item: _Item) -> None:
        super().__init__(f"the handler failed at position {item.record.position}")
        self.item = item


class Consumer:
    """Reads `topic` as `group` and calls `handler` for each event that it `wants`.

    A batch is one transaction on `pool`: the group's position, the last sequence of each key (in
    `schema`, made by `consumer_tables`) and the handler's effects stand or fall together. At first
    the batch is handled straight through; when an event fails, everything is rolled back and the
    batch handled again with a savepoint around each event. An event that fails three times, or
    cannot be read, goes to the dead letters with its reason, and the stream moves on. An outage of
    the database is not a failure of the event: the batch is tried again until it is over.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        pool: Pool,
        schema: str,
        topic: str,
        group: str,
        handler: Handler,
        wants: Callable[[BusEvent], bool] = lambda _: True,
        look_seconds: float = LOOK_SECONDS,
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        self._bus = bus
        self._pool = pool
        self._schema = schema
        self._topic = topic
        self._group = group
        self._handler = handler
        self._wants = wants
        self._look_seconds = look_seconds
        self._rest_seconds = rest_seconds
        self._sql = statements(schema)
        self._names = {"topic": topic, "group_name": group}
        self._subscription: Subscription | None = None
        self._outage = Outage(log, f"consumer {group}")
        self._forget_at = time.monotonic() + FORGET_EVERY_SECONDS

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; the batch at hand is finished first."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake())
        try:
            while not stop.is_set():
                await self._turn(stop)
        finally:
            stopping.cancel()
            if self._subscription is not None:
                await self._subscription.close()

    async def _turn(self, stop: asyncio.Event) -> None:
        try:
            subscription = await self._subscribed()
            if stop.is_set():
                return
            batch = await subscription.fetch(wait_seconds=self._look_seconds)
            if batch is not None:
                await self._handle(subscription, batch)
            await self._forget_when_due()
        except Exception as error:
            if not is_outage(error):
                raise
            await pause(stop, self._outage.failed(error))
            return
        self._outage.over()
        if batch is not None and not batch.is_more:
            await pause(stop, self._rest_seconds)

    def _wake(self) -> None:
        if self._subscription is not None:
            self._subscription.wake()

    async def _subscribed(self) -> Subscription:
        if self._subscription is None:
            self._subscription = await self._bus.subscribe(
                topic=self._topic, group=self._group, schema=self._schema
            )
        return self._subscription

    async def _handle(self, subscription: Subscription, batch: Batch) -> None:
        items = tuple(self._read(batch))
        try:
            await self._transact(subscription, batch, items, failed=None)
        except _HandlerError as error:
            log.warning("batch is handled again one by one", group=self._group, exc_info=error)
            await self._transact(subscription, batch, items, failed=error)
        await subscription.committed(batch)

    def _read(self, batch: Batch) -> Iterable[_Item]:
        for record in batch.records:
            try:
                event = decode(record)
            except UnreadableEventError as error:
                yield _Item(record=record, unreadable=str(error))
                continue
            if self._wants(event):
                yield _Item(record=record, event=event)

    async def _transact(
        self,
        subscription: Subscription,
        batch: Batch,
        items: tuple[_Item, ...],
        *,
        failed: _HandlerError | None,
    ) -> None:
        async with transaction(self._pool) as tx:
            if not await subscription.commit_in(tx, batch):
                return
            last_seqs = await self._see(tx, items)
            for item in items:
                if item.event is None:
                    letter = self._letter(item, reason=item.unreadable, attempts=0)
                    await subscription.dead_letter_in(tx, letter)
                elif item.event.sequence <= last_seqs[item.event.key]:
                    _duplicates.labels(self._topic, self._group).inc()
                else:
                    last_seqs[item.event.key] = item.event.sequence
                    if failed is None:
                        await self._straight(tx, item, item.event)
                    else:
                        first = failed.__cause__ if item is failed.item else None
                        await self._careful(subscription, tx, item, item.event, first=first)
        _handled.labels(self._topic, self._group).inc(len(items))

    async def _see(self, tx: Connection, items: tuple[_Item, ...]) -> dict[UUID, int]:
        """Lock the keys of the batch, note its last sequences; what was handled of each before."""
        newest: dict[UUID, int] = {}
        for item in items:
            if item.event is not None:
                seq = max(item.event.sequence, newest.get(item.event.key, 0))
                newest[item.event.key] = seq
        if not newest:
            return {}
        seen = self._names | {"keys": list(newest), "seqs": list(newest.values())}
        cursor = await tx.execute(self._sql["note_seen"], seen)
        return {row["key"]: row["previous_seq"] for row in await cursor.fetchall()}

    async def _straight(self, tx: Connection, item: _Item, event: BusEvent) -> None:
        try:
            await self._handler(tx, event)
        except Exception as error:
            if is_outage(error):
                raise
            raise _HandlerError(item) from error

    async def _careful(
        self,
        subscription: Subscription,
        tx: Connection,
        item: _Item,
        event: BusEvent,
        *,
        first: BaseException | None,
    ) -> None:
        """Handle one event in savepoints, at most three times with `first`, or put it aside."""
        failure, attempts = first, 0 if first is None else 1
        while attempts == 0 or failure is not None:
            if isinstance(failure, UnreadableEventError) or attempts == MOST_ATTEMPTS:
                reason = f"{type(failure).__name__}: {failure}"
                letter = self._letter(item, reason=reason, attempts=attempts)
                await subscription.dead_letter_in(tx, letter)
                return
            if attempts:
                await asyncio.sleep(BACKOFF_SECONDS[attempts - 1])
            failure = await self._try(tx, event)
            attempts += 1

    async def _try(self, tx: Connection, event: BusEvent) -> Exception | None:
        """Handle one event in a savepoint; what went wrong, with its effects rolled back."""
        try:
            async with tx.transaction():
                await self._handler(tx, event)
        except Exception as error:
            if is_outage(error):
                raise
            return error
        return None

    def _letter(self, item: _Item, *, reason: str, attempts: int) -> DeadLetter:
        position = item.record.position
        log.error(
            "record put aside",
            topic=self._topic,
            group=self._group,
            position=position,
            reason=reason,
            attempts=attempts,
        )
        _letters.labels(self._topic, self._group).inc()
        return DeadLetter(
            record=item.record, group=self._group, reason=reason[:REASON_CHARS], attempts=attempts
        )

    async def _forget_when_due(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + FORGET_EVERY_SECONDS
        # A day more than the topic keeps its records: none that is forgotten can come again.
        kept_seconds = KEPT_SECONDS[self._topic] + DAY_SECONDS
        oldest_ms = int((time.time() - kept_seconds) * 1000)
        parameters = self._names | {
            "kept_seconds": kept_seconds,
            "before_key": UUID(int=oldest_ms << 80),
            "most": FORGET_MOST_KEYS,
        }
        while True:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(self._sql["forget_seen"], parameters)
            if cursor.rowcount < FORGET_MOST_KEYS:
                return
