"""Which driver a process gets, by its settings. Only the kafka driver loads the Kafka library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from libs.bus.bus import Bus, Publisher
from libs.bus.postgres import CHANNEL, PostgresBus, PostgresPublisher
from libs.bus.settings import KAFKA, BusSettings
from libs.db.engine import Pool
from libs.db.wakeups import Wakeups


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the drivers work with in a process that writes an outbox.

    `wakeups` must listen on CHANNEL, and someone must run it.
    """

    pool: Pool
    wakeups: Wakeups
    database_url: str
    name: str


@asynccontextmanager
async def open_bus(
    settings: BusSettings, *, pool: Pool, database_url: str, name: str
) -> AsyncIterator[Bus]:
    """The bus for a process that consumes; its `run` must be running during the block."""
    if settings.driver == KAFKA:
        from libs.bus.kafka import KafkaBus
        from libs.bus.kafka_client import KafkaClient

        bus: Bus = KafkaBus(KafkaClient(settings, name=name))
    else:
        wakeups = Wakeups(database_url, name=f"{name}-wakeups", channels=(CHANNEL,))
        bus = PostgresBus(pool, wakeups=wakeups)
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def open_publishing(
    settings: BusSettings, sources: Sources
) -> AsyncIterator[tuple[Bus, Publisher]]:
    """The bus and the publisher of the outbox, for the scheduler."""
    bus, publisher = _publishing(settings, sources)
    try:
        yield bus, publisher
    finally:
        await publisher.close()
        await bus.close()


def _publishing(settings: BusSettings, sources: Sources) -> tuple[Bus, Publisher]:
    if settings.driver != KAFKA:
        bus = PostgresBus(sources.pool, wakeups=sources.wakeups)
        return bus, PostgresPublisher(sources.pool)
    from libs.bus.kafka import KafkaBus
    from libs.bus.kafka_client import KafkaClient
    from libs.bus.kafka_publisher import KafkaPublisher

    client = KafkaClient(settings, name=sources.name)
    publisher = KafkaPublisher(client, pool=sources.pool, database_url=sources.database_url)
    return KafkaBus(client), publisher
