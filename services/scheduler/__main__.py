"""One scheduler process: reads its settings, wires the parts, serves until it is told to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from libs.bus.bus import Bus, Publisher
from libs.bus.driver import Sources, open_publishing
from libs.bus.health import COMPONENT, watch_bus
from libs.bus.outbox import OUTBOX_CHANNEL
from libs.bus.postgres import CHANNEL as BUS_CHANNEL
from libs.bus.postgres import PostgresBus
from libs.bus.relay import Relay
from libs.core.clock import SystemClock
from libs.db.engine import Pool, open_pool, refuse_privileged
from libs.db.outage import database_refusal
from libs.db.wakeups import Wakeups
from libs.pb.pawl.scheduler.v1.scheduler_service_pb2_grpc import (
    add_SchedulerServiceServicer_to_server,
)
from libs.pb.pawl.scheduler.v1.work_service_pb2_grpc import add_WorkServiceServicer_to_server
from libs.process.logs import configure_logs
from libs.process.metrics import serve_metrics, set_ready
from libs.process.run import run
from libs.rpc.client import RpcChannel
from libs.rpc.server import RpcServer
from libs.rpc.tokens import ServiceTokens, TokenVerifier, load_private_key, load_public_keys
from services.scheduler.access import ACCESS, SCHEDULER_SERVICE, WORK_SERVICE
from services.scheduler.batching import BatchService
from services.scheduler.cancelling import CancelService
from services.scheduler.clients import PlannerClient
from services.scheduler.config import Settings
from services.scheduler.dispatch import Dispatcher
from services.scheduler.event_tail import EventTail
from services.scheduler.feed import Feed, RecordFeed, TableFeed
from services.scheduler.list_store import ListStore
from services.scheduler.listing import ListService
from services.scheduler.replaying import ReplayService
from services.scheduler.report_writers import WRITERS, ReportWriters
from services.scheduler.republishing import Republishing
from services.scheduler.server import SchedulerServicer, UseCases
from services.scheduler.service import TaskService
from services.scheduler.store import TaskStore
from services.scheduler.sweep_store import LISTENER, SweepStore
from services.scheduler.sweeper import Sweeper
from services.scheduler.wakeups import CHANNEL, Signals
from services.scheduler.watching import WatchService
from services.scheduler.work_server import WorkServicer
from services.scheduler.work_store import WorkStore

SERVICE = "scheduler"
HOT_CONNECTIONS = 10
OTHER_CONNECTIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The wired parts of one scheduler; `server` is not started yet."""

    server: RpcServer
    dispatcher: Dispatcher
    sweeper: Sweeper
    tasks: TaskStore
    work: WorkStore
    writers: ReportWriters
    signals: Signals
    tail: EventTail
    bus: Bus
    relay: Relay
    wakeups: Wakeups


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the parts stand on: pools, notifications, the bus, the planner."""

    hot: Pool
    pool: Pool
    wakeups: Wakeups
    bus: Bus
    publisher: Publisher
    planner: RpcChannel


@asynccontextmanager
async def open_outside(settings: Settings) -> AsyncIterator[Outside]:
    """Everything opened, and closed in the reverse order."""
    tokens = ServiceTokens(SERVICE, load_private_key(settings.service_key_file))
    async with AsyncExitStack() as stack:
        hot = await open_pool(
            settings.database_url,
            name="pawl-scheduler",
            min_size=2,
            max_size=HOT_CONNECTIONS,
            hot=True,
        )
        stack.push_async_callback(hot.close)
        pool = await open_pool(
            settings.database_url, name="pawl-scheduler-read", max_size=OTHER_CONNECTIONS
        )
        stack.push_async_callback(pool.close)
        await refuse_privileged(pool, "scheduler")
        planner = RpcChannel(
            settings.planner_target, audience="planner", tokens=tokens, tls=settings.tls
        )
        stack.push_async_callback(planner.close)
        wakeups = Wakeups(
            settings.database_url,
            name=LISTENER,
            channels=[CHANNEL, BUS_CHANNEL, OUTBOX_CHANNEL],
        )
        sources = Sources(
            pool=hot, wakeups=wakeups, database_url=settings.database_url, name="pawl-scheduler"
        )
        bus, publisher = await stack.enter_async_context(open_publishing(settings.bus, sources))
        yield Outside(
            hot=hot, pool=pool, wakeups=wakeups, bus=bus, publisher=publisher, planner=planner
        )


def wire(settings: Settings, outside: Outside) -> Process:
    """Put the parts together."""
    work = WorkStore(outside.hot, lease_seconds=settings.lease_seconds, writers=WRITERS)
    tasks = TaskStore(hot=outside.hot, pool=outside.pool)
    signals = Signals(uuid4(), announce=work.announce)
    clock = SystemClock()
    relay = Relay(outside.publisher)
    signals.on_commit(relay.wake)
    writers = ReportWriters(work.report, signals=signals)
    sweeps = SweepStore(outside.hot, lease_seconds=settings.lease_seconds)
    sweeper = Sweeper(sweeps, signals=signals, clock=clock)
    dispatcher = Dispatcher(work, writers=writers, signals=signals, sweeper=sweeper)
    tail = EventTail(_feed(outside), wakeups=outside.wakeups, signals=signals, clock=clock)
    planner = PlannerClient(outside.planner)
    service = TaskService(
        tasks,
        planner=planner,
        signals=signals,
        on_queued=dispatcher.queued,
        clock=clock,
    )
    server = RpcServer(
        service=SERVICE,
        address=settings.listen,
        verifier=TokenVerifier(load_public_keys(settings.public_keys_file), audience=SERVICE),
        access=ACCESS,
        translate=database_refusal,
        tls=settings.tls,
    )
    use_cases = UseCases(
        tasks=service,
        batching=BatchService(service, store=tasks, clock=clock),
        listing=ListService(ListStore(outside.pool)),
        replaying=ReplayService(service, store=tasks, planner=planner),
        cancelling=CancelService(tasks, signals=signals, clock=clock),
        watching=WatchService(tasks, tail=tail, signals=signals, clock=clock),
        republishing=Republishing(tasks, bus=outside.bus, signals=signals),
    )
    servicer = SchedulerServicer(use_cases)
    server.add(add_SchedulerServiceServicer_to_server, servicer, SCHEDULER_SERVICE)
    work_servicer = WorkServicer(
        dispatcher, sweeps=sweeps, work=work, lease_seconds=settings.lease_seconds
    )
    server.add(add_WorkServiceServicer_to_server, work_servicer, WORK_SERVICE)
    return Process(
        server=server,
        dispatcher=dispatcher,
        sweeper=sweeper,
        tasks=tasks,
        work=work,
        writers=writers,
        signals=signals,
        tail=tail,
        bus=outside.bus,
        relay=relay,
        wakeups=outside.wakeups,
    )


def _feed(outside: Outside) -> Feed:
    if isinstance(outside.bus, PostgresBus):
        return RecordFeed(outside.bus)
    return TableFeed(outside.pool)


async def serve(process: Process, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain: streams first, calls next, events last."""
    try:
        await _serve(process, stop)
    finally:
        await process.work.close()
        await process.tasks.close()


async def _serve(process: Process, stop: asyncio.Event) -> None:
    written, told = asyncio.Event(), asyncio.Event()
    with (
        process.wakeups.listen(CHANNEL, process.signals.heard),
        process.wakeups.listen(OUTBOX_CHANNEL, lambda _: process.relay.wake()),
    ):
        async with asyncio.TaskGroup() as group:
            group.create_task(process.writers.run(written))
            for loop in (process.wakeups, process.tail, process.relay, process.signals):
                group.create_task(loop.run(told))
            group.create_task(process.sweeper.run(stop))
            group.create_task(process.dispatcher.gauge(told))
            await process.server.start()
            group.create_task(watch_bus(_Leaving(process), _teller(process.server), stop))
            set_ready(True)
            await stop.wait()
            set_ready(False)
            await process.server.set_serving(serving=False)
            await process.dispatcher.drain()
            process.signals.close()
            process.tail.close()
            await process.server.stop()
            await process.dispatcher.part()
            written.set()
            told.set()


class _Leaving:
    """Whether events leave this process: the bus answers, and publishing does not fail."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def check(self) -> None:
        await self._process.bus.check()
        await self._process.relay.check()


def _teller(server: RpcServer) -> Callable[[bool], Awaitable[None]]:
    async def tell(answers: bool) -> None:
        await server.set_component(COMPONENT, serving=answers)

    return tell


async def main(stop: asyncio.Event) -> None:
    """The whole life of the process."""
    settings = Settings.from_env(os.environ)
    configure_logs(SERVICE, level=settings.log_level)
    async with open_outside(settings) as outside:
        serve_metrics(settings.metrics_listen)
        await serve(wire(settings, outside), stop)


if __name__ == "__main__":
    run(main, service=SERVICE)
