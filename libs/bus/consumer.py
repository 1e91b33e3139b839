"""The loop of a consumer: batches of events, each handled once in effect, poison put aside."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

from prometheus_client import Counter, Gauge
from structlog.contextvars import bound_contextvars

from libs.bus.bus import Batch, Bus, BusRecord, DeadLetter, Subscription
from libs.bus.envelope import BusEvent, UnreadableEventError, decode, identity_of
from libs.bus.statements import statements
from libs.bus.topics import DAY_SECONDS, TOPICS
from libs.db.engine import Connection, Pool, transaction
from libs.db.outage import Outage, is_outage, pause
from libs.process.crash_points import pass_crash_point
from libs.process.logs import get_logger
from libs.process.tracing import Span, is_exported, span, trace_id_of
from libs.process.until import until

LOOK_SECONDS = 5.0
REST_SECONDS = 0.1
LAST_SECONDS = 2.0
MOST_ATTEMPTS = 3
BACKOFF_SECONDS = (0.05, 0.25)
REASON_CHARS = 2000
FORGET_EVERY_SECONDS = 3600.0
FORGET_MOST_KEYS = 5_000

Handler = Callable[[Connection, BusEvent], Awaitable[None]]
"""Acts on one event in the transaction and nowhere else: it may be rolled back and called again."""
Together = Callable[[Connection, Sequence[BusEvent]], Awaitable[None]]
"""Acts on the events of a batch, in order, as a `Handler` on one after the other."""

log = get_logger(__name__)
_handled = Counter("pawl_bus_events_total", "Events handled", ["topic", "group"])
_duplicates = Counter("pawl_bus_duplicates_total", "Events seen before", ["topic", "group"])
_letters = Counter("pawl_bus_dead_letters_total", "Records put aside", ["topic", "group"])
_lag = Gauge("pawl_bus_lag_records", "Records not handled yet, when last seen", ["topic", "group"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A record, and its event or why it has none."""

    record: BusRecord
    event: BusEvent | None = None
    unreadable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Of the keys of a batch: the last sequence handled, kept up to date, and what is aside."""

    last_seqs: dict[UUID, int]
    asides: set[tuple[UUID, int]]


class _HandlerError(Exception):
    """The handler failed on this item, or on one of several; the cause says how."""

    def __init__(self, item: _Item | None = None) -> None:
        where = "a batch" if item is None else f"position {item.record.position}"
        super().__init__(f"the handler failed at {where}")
        self.item = item


class Consumer:
    """Reads `topic` as `group` and calls `handler` for each event that it `wants`, or `together`,
    where that is given, for all of a batch at once.

    A batch is one transaction on `pool`: the group's position, the last sequence of each key (in
    `schema`, made by `consumer_tables`) and the handler's effects stand or fall together. At first
    the batch is handled straight through; when an event fails, everything is rolled back and the
    batch handled again with a savepoint around each event. An event that fails three times, or
    cannot be read, goes to the dead letters with its reason, and the stream moves on; when it comes
    once more, published anew, it is handled. An outage of the database or the bus is not a failure
    of the event: the batch is tried again until it is over.
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
        together: Together | None = None,
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
        self._together = together
        self._wants = wants
        self._look_seconds = look_seconds
        self._rest_seconds = rest_seconds
        self._sql = statements(schema)
        self._names = {"topic": topic, "group_name": group}
        self._subscription: Subscription | None = None
        self._outage = Outage(log, f"consumer {group}")
        self._lag = _lag.labels(topic, group)
        self._forget_at = time.monotonic() + FORGET_EVERY_SECONDS

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; the batch at hand is finished first, unless the database or
        the bus holds it up for longer than two seconds.
        """
        try:
            await until(stop, self._turns(stop), grace=LAST_SECONDS, wake=self._wake)
        finally:
            if self._subscription is not None:
                await self._subscription.close()

    async def _turns(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._turn(stop)

    async def _turn(self, stop: asyncio.Event) -> None:
        try:
            subscription = await self._subscribed()
            if stop.is_set():
                return
            batch = await subscription.fetch(wait_seconds=self._look_seconds)
            self._lag.set(subscription.behind())
            if batch is not None:
                await self._handle(subscription, batch)
                self._lag.set(subscription.behind())
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
        pass_crash_point("consumer.after_db_before_offset")
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
            seen = await self._see(tx, items)
            new, letters = await self._sorted(tx, items, seen, failed=failed)
            await self._straight(tx, new)
            # Last, because a driver may be unable to take a letter back when `tx` is rolled back.
            for letter in letters:
                await subscription.dead_letter_in(tx, letter)
        self._note(items, letters)

    async def _sorted(
        self, tx: Connection, items: tuple[_Item, ...], seen: _Seen, *, failed: _HandlerError | None
    ) -> tuple[list[tuple[_Item, BusEvent]], list[DeadLetter]]:
        """What is still to be handled, nothing once it `failed`, and what was put aside."""
        new: list[tuple[_Item, BusEvent]] = []
        letters: list[DeadLetter] = []
        for item in items:
            event = item.event
            if event is None:
                await self._put_unreadable_aside(tx, item, seen)
                letters.append(self._letter(item, reason=item.unreadable, attempts=0))
            elif not await self._is_new(tx, event, seen):
                _duplicates.labels(self._topic, self._group).inc()
            elif failed is None:
                new.append((item, event))
            elif letter := await self._careful(tx, item, event, failed=failed):
                await self._put_aside(tx, seen, key=event.key, seq=event.sequence)
                letters.append(letter)
        return new, letters

    async def _see(self, tx: Connection, items: tuple[_Item, ...]) -> _Seen:
        """Lock the keys of the batch and note its last sequences; what was of each before."""
        newest: dict[UUID, int] = {}
        for item in items:
            if item.event is not None:
                seq = max(item.event.sequence, newest.get(item.event.key, 0))
                newest[item.event.key] = seq
        if not newest:
            return _Seen(last_seqs={}, asides=set())
        keys = self._names | {"keys": list(newest), "seqs": list(newest.values())}
        cursor = await tx.execute(self._sql["note_seen"], keys)
        last_seqs = {row["key"]: row["previous_seq"] for row in await cursor.fetchall()}
        # A statement of its own: it sees what was committed before the keys were locked here.
        cursor = await tx.execute(self._sql["asides_of"], keys)
        asides = {(row["key"], row["seq"]) for row in await cursor.fetchall()}
        return _Seen(last_seqs=last_seqs, asides=asides)

    async def _is_new(self, tx: Connection, event: BusEvent, seen: _Seen) -> bool:
        """Whether the event was not handled before; from now on it counts as handled."""
        key, seq = event.key, event.sequence
        was_aside = (key, seq) in seen.asides
        if seq <= seen.last_seqs[key] and not was_aside:
            return False
        if was_aside:
            seen.asides.remove((key, seq))
            await tx.execute(self._sql["take_aside"], self._names | {"key": key, "seq": seq})
        seen.last_seqs[key] = max(seq, seen.last_seqs[key])
        return True

    async def _put_unreadable_aside(self, tx: Connection, item: _Item, seen: _Seen) -> None:
        """Note an unreadable record that says which event it is, so that the event may come again.

        Not one whose event was handled, and never as handled: what is written on it may be wrong.
        """
        named = identity_of(item.record)
        if named is None:
            return
        key, seq = named
        if key not in seen.last_seqs:
            cursor = await tx.execute(self._sql["last_seen"], self._names | {"key": key})
            row = await cursor.fetchone()
            seen.last_seqs[key] = 0 if row is None else row["last_seq"]
        if seq > seen.last_seqs[key]:
            await self._put_aside(tx, seen, key=key, seq=seq)

    async def _put_aside(self, tx: Connection, seen: _Seen, *, key: UUID, seq: int) -> None:
        seen.asides.add((key, seq))
        await tx.execute(self._sql["put_aside"], self._names | {"key": key, "seq": seq})

    async def _straight(self, tx: Connection, new: list[tuple[_Item, BusEvent]]) -> None:
        """Handle events as if nothing could fail; _HandlerError when something does."""
        failing = None
        try:
            if self._together is not None:
                await self._act_together(tx, self._together, [event for _, event in new])
                return
            for failing, event in new:  # noqa: B007 - named in the error
                await self._act(tx, event)
        except Exception as error:
            if is_outage(error):
                raise
            raise _HandlerError(failing) from error

    async def _careful(
        self, tx: Connection, item: _Item, event: BusEvent, *, failed: _HandlerError
    ) -> DeadLetter | None:
        """Handle one event in savepoints, at most three times with the one that `failed`; else its
        letter.
        """
        failure = failed.__cause__ if item is failed.item else None
        attempts = 0 if failure is None else 1
        while attempts == 0 or failure is not None:
            if isinstance(failure, UnreadableEventError) or attempts == MOST_ATTEMPTS:
                reason = f"{type(failure).__name__}: {failure}"
                return self._letter(item, reason=reason, attempts=attempts)
            if attempts:
                await asyncio.sleep(BACKOFF_SECONDS[attempts - 1])
            failure = await self._try(tx, event)
            attempts += 1
        return None

    async def _try(self, tx: Connection, event: BusEvent) -> Exception | None:
        """Handle one event in a savepoint; what went wrong, with its effects rolled back."""
        try:
            async with tx.transaction():
                await self._act(tx, event)
        except Exception as error:
            if is_outage(error):
                raise
            return error
        return None

    async def _act(self, tx: Connection, event: BusEvent) -> None:
        """Call the handler, within the trace of whatever caused the event."""
        with (
            self._span(event) as handling,
            bound_contextvars(
                trace_id=trace_id_of(handling.traceparent), request_id=event.request_id
            ),
        ):
            try:
                await self._handler(tx, event)
            except Exception as error:
                handling.fail(type(error).__name__)
                raise
            log.debug("event handled", group=self._group, event_id=event.id, type=event.type)

    async def _act_together(
        self, tx: Connection, together: Together, events: list[BusEvent]
    ) -> None:
        """Handle all events at once, within the trace of each."""
        if not events:
            return
        with ExitStack() as open_spans:
            spans: list[Span] = []
            if is_exported():
                spans = [open_spans.enter_context(self._span(event)) for event in events]
            try:
                await together(tx, events)
            except Exception as error:
                for handling in spans:
                    handling.fail(type(error).__name__)
                raise
        line = log.bind(group=self._group)
        if line.is_enabled_for(logging.DEBUG):
            for event in events:
                line.debug(
                    "event handled",
                    type=event.type,
                    event_id=event.id,
                    trace_id=trace_id_of(event.traceparent),
                    request_id=event.request_id,
                )

    def _span(self, event: BusEvent) -> Span:
        attributes = {
            "messaging.destination.name": self._topic,
            "messaging.consumer.group.name": self._group,
            "messaging.operation.type": "process",
            "messaging.message.id": event.id,
        }
        return span(
            f"process {self._topic}",
            traceparent=event.traceparent,
            attributes=attributes,
            kind="consumer",
        )

    def _letter(self, item: _Item, *, reason: str, attempts: int) -> DeadLetter:
        return DeadLetter(
            record=item.record, group=self._group, reason=reason[:REASON_CHARS], attempts=attempts
        )

    def _note(self, items: tuple[_Item, ...], letters: list[DeadLetter]) -> None:
        """Count what was committed, and say what was put aside."""
        _handled.labels(self._topic, self._group).inc(len(items))
        for letter in letters:
            log.error(
                "record put aside",
                topic=self._topic,
                group=self._group,
                partition=letter.record.partition,
                position=letter.record.position,
                reason=letter.reason,
                attempts=letter.attempts,
            )
            _letters.labels(self._topic, self._group).inc()

    async def _forget_when_due(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + FORGET_EVERY_SECONDS
        # A day more than the topic keeps its records: none that is forgotten can come again.
        kept_seconds = TOPICS[self._topic].kept_seconds + DAY_SECONDS
        oldest_ms = int((time.time() - kept_seconds) * 1000)
        parameters = self._names | {
            "kept_seconds": kept_seconds,
            "before_key": UUID(int=oldest_ms << 80),
            "most": FORGET_MOST_KEYS,
        }
        async with self._pool.connection() as connection:
            await connection.execute(self._sql["forget_aside"], parameters)
        while True:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(self._sql["forget_seen"], parameters)
            if cursor.rowcount < FORGET_MOST_KEYS:
                return
