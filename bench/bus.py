"""`python -m bench.bus`: the two drivers of the bus against each other, in turn, in one run.

Needs a broker: PAWL_KAFKA_BOOTSTRAP. Each round starts one Pawl per driver; figures are medians of
the rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console
from rich.table import Table

from bench.measure import Latency, latency_of
from bench.report import this_machine
from bench.workloads import Connection, Target, create_latency, end_to_end, math_plan, throughput
from libs.bus.postgres import CHANNEL
from libs.bus.topics import TASK_EVENTS
from libs.cli.stack import Stack, running_stack
from libs.db.embedded import SUPERUSER
from libs.db.roles import with_user

DRIVERS = ("postgres", "kafka")
CLIENTS = 32
CALM_REST_SECONDS = 0.05
BACKLOG_EVENTS = 60_000
_LOOK_SECONDS = 0.01
_POLL = "SELECT last_position FROM bus.topics WHERE topic = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one round saw of one driver. Delays are from the event's time to a consumer's hands."""

    create_calm: Latency
    end_to_end: Latency
    tasks_per_second: float
    busy: Latency
    delay_calm: Latency
    delay_busy: Latency
    relay_events_per_second: float


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How often each driver has its turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Of each load.")] = 8.0,
) -> None:
    """Measure both drivers on this machine and print a table and one line of JSON."""
    bootstrap = os.environ.get("PAWL_KAFKA_BOOTSTRAP", "").strip()
    if not bootstrap:
        sys.exit("bench: PAWL_KAFKA_BOOTSTRAP is not set; it names the broker to measure")
    seen: dict[str, list[Seen]] = {driver: [] for driver in DRIVERS}
    for turn in range(rounds):
        for driver in DRIVERS if turn % 2 == 0 else reversed(DRIVERS):
            _say(f"round {turn + 1} of {rounds}: {driver}")
            seen[driver].append(_round(driver, bootstrap, seconds=seconds))
    _print(seen)
    machine = this_machine("embedded")
    line = {"machine": asdict(machine), "bus": {d: [asdict(s) for s in seen[d]] for d in DRIVERS}}
    print(json.dumps(line, separators=(",", ":"), default=float))


def _round(driver: str, bootstrap: str, *, seconds: float) -> Seen:
    prefix = f"bench-{secrets.token_hex(4)}."
    environ = {n: v for n, v in os.environ.items() if n != "PAWL_DATABASE_URL"} | {
        "PAWL_BUS": driver,
        "PAWL_KAFKA_PREFIX": prefix,
    }
    try:
        with (
            tempfile.TemporaryDirectory(prefix="pawl-bench-") as name,
            running_stack(Path(name) / "data", environ=environ) as stack,
        ):
            return _measure(stack, driver, bootstrap, prefix=prefix, seconds=seconds)
    finally:
        if driver == "kafka":
            asyncio.run(_delete_topics(bootstrap, prefix))


def _measure(stack: Stack, driver: str, bootstrap: str, *, prefix: str, seconds: float) -> Seen:
    target = Target(url=stack.ready.url, api_key=stack.ready.api_key)
    end_to_end(target, count=30)
    whole = end_to_end(target, count=100)
    create = create_latency(target, count=150, calm=True)
    read = (
        _postgres_reader(stack)
        if driver == "postgres"
        else _kafka_reader(bootstrap, prefix + TASK_EVENTS)
    )
    with _delays(read) as calm:
        _trickle(target, seconds=seconds)
    with _delays(read) as busy:
        load = throughput(target, clients=CLIENTS, seconds=seconds)
    return Seen(
        create_calm=create,
        end_to_end=whole,
        tasks_per_second=load.per_second,
        busy=load.latency,
        delay_calm=latency_of(calm),
        delay_busy=latency_of(busy),
        relay_events_per_second=_drain(stack),
    )


def _trickle(target: Target, *, seconds: float) -> None:
    """One three-step task after the other, with rests: what a consumer sees of a calm system."""
    connection, body = Connection(target), math_plan(3)
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        connection.execute(body, wait=True)
        time.sleep(CALM_REST_SECONDS)


Reader = Callable[[threading.Event, threading.Event, list[float]], None]
"""Reads new events until told to stop; says when it stands; collects delays in seconds."""


@contextmanager
def _delays(read: Reader) -> Iterator[list[float]]:
    """The delays of all events that come during the block."""
    stands, stop = threading.Event(), threading.Event()
    delays: list[float] = []
    thread = threading.Thread(target=read, args=(stands, stop, delays))
    thread.start()
    if not stands.wait(30):
        raise RuntimeError("the consumer does not stand after 30 s")
    try:
        yield delays
        time.sleep(1)
    finally:
        stop.set()
        thread.join()


def _postgres_reader(stack: Stack) -> Reader:
    """As the postgres driver reads: woken by a notification, all after a position."""

    def read(stands: threading.Event, stop: threading.Event, delays: list[float]) -> None:
        with psycopg.connect(stack.ready.postgres.dsn, autocommit=True) as connection:
            connection.execute(f"LISTEN {CHANNEL}".encode())
            row = connection.execute(_POLL, (TASK_EVENTS,)).fetchone()
            position = 0 if row is None else row[0]
            stands.set()
            while not stop.is_set():
                for _ in connection.notifies(timeout=0.5, stop_after=1):
                    pass
                rows = connection.execute(
                    "SELECT position, headers::json->>'ce_time' FROM bus.records"
                    " WHERE topic = %s AND position > %s ORDER BY position",
                    (TASK_EVENTS, position),
                ).fetchall()
                now = datetime.now(UTC)
                delays += [(now - datetime.fromisoformat(at)).total_seconds() for _, at in rows]
                position = rows[-1][0] if rows else position

    return read


def _kafka_reader(bootstrap: str, topic: str) -> Reader:
    """As the kafka driver reads: a member of a group, from now on."""

    async def consume(stands: threading.Event, stop: threading.Event, delays: list[float]) -> None:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=f"bench-{secrets.token_hex(4)}",
            auto_offset_reset="latest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        try:
            await consumer.seek_to_end()
            for place in consumer.assignment():
                await consumer.position(place)
            stands.set()
            while not stop.is_set():
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    now = datetime.now(UTC)
                    delays += [
                        (now - _time_of(record.headers)).total_seconds() for record in records
                    ]
        finally:
            await consumer.stop()

    def read(stands: threading.Event, stop: threading.Event, delays: list[float]) -> None:
        asyncio.run(consume(stands, stop, delays))

    return read


def _time_of(headers: list[tuple[str, bytes]]) -> datetime:
    return datetime.fromisoformat(dict(headers)["ce_time"].decode())


def _drain(stack: Stack) -> float:
    """Events per second while the relay works off a backlog: finished tasks, published anew."""
    with psycopg.connect(
        with_user(stack.ready.postgres.dsn, user=SUPERUSER), autocommit=True
    ) as owner:
        owner.execute("SET default_transaction_read_only = off")
        before = _position(owner)
        made = owner.execute(
            "INSERT INTO scheduler.outbox SELECT t.id, 1, t.seq FROM scheduler.tasks t,"
            " generate_series(1, 1000) WHERE t.finished_at IS NOT NULL LIMIT %s",
            (BACKLOG_EVENTS // 11,),
        )
        if not made.rowcount:
            raise RuntimeError("there is no finished task to publish anew")
        samples: list[tuple[float, int]] = []
        while owner.execute("SELECT FROM scheduler.outbox LIMIT 1").fetchone() is not None:
            samples.append((time.perf_counter(), _position(owner) - before))
            time.sleep(_LOOK_SECONDS)
        samples.append((time.perf_counter(), _position(owner) - before))
    began = next(i for i, (_, events) in enumerate(samples) if events)
    seconds = samples[-1][0] - samples[began][0]
    return (samples[-1][1] - samples[began][1]) / seconds


def _position(connection: psycopg.Connection) -> int:
    row = connection.execute(_POLL, (TASK_EVENTS,)).fetchone()
    return 0 if row is None else int(row[0])


async def _delete_topics(bootstrap: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([n for n in await admin.list_topics() if n.startswith(prefix)])
    finally:
        await admin.close()


def _print(seen: dict[str, list[Seen]]) -> None:
    table = Table(title="Drivers of the bus, medians", title_justify="left", header_style="dim")
    for column in ("what", *DRIVERS, "kafka / postgres"):
        table.add_column(column)
    for words, figure, unit in _FIGURES:
        values = [statistics.median(figure(one) for one in seen[driver]) for driver in DRIVERS]
        shown = [
            f"{value:,.0f}{unit}" if value >= 100 else f"{value:.1f}{unit}" for value in values
        ]
        table.add_row(words, *shown, f"{values[1] / values[0]:.2f}")
    (Console() if sys.stdout.isatty() else Console(width=120)).print(table)


_FIGURES: tuple[tuple[str, Callable[[Seen], float], str], ...] = (
    ("create acknowledged, calm, p50", lambda s: s.create_calm.p50_ms, " ms"),
    ("create acknowledged, calm, p99", lambda s: s.create_calm.p99_ms, " ms"),
    ("3-step task end to end, p50", lambda s: s.end_to_end.p50_ms, " ms"),
    (f"3-step tasks, {CLIENTS} clients", lambda s: s.tasks_per_second, "/s"),
    (f"3-step tasks, {CLIENTS} clients, p99", lambda s: s.busy.p99_ms, " ms"),
    ("commit to consumer, calm, p50", lambda s: s.delay_calm.p50_ms, " ms"),
    ("commit to consumer, calm, p99", lambda s: s.delay_calm.p99_ms, " ms"),
    (f"commit to consumer, {CLIENTS} clients, p50", lambda s: s.delay_busy.p50_ms, " ms"),
    (f"commit to consumer, {CLIENTS} clients, p99", lambda s: s.delay_busy.p99_ms, " ms"),
    ("relay, backlog", lambda s: s.relay_events_per_second, " events/s"),
)


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
