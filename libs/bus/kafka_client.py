"""The connections of one process to the Kafka brokers, and what their errors mean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from libs.bus.settings import BusSettings
from libs.core.errors import PawlError
from libs.process.logs import get_logger

REQUEST_SECONDS = 10.0
CHECK_SECONDS = 3.0
METADATA_SECONDS = 60.0
MAX_BATCH_BYTES = 900_000
"""Below the 1 MiB that brokers take by default."""

STOP_SECONDS = 1.0
RETRY_AFTER_SECONDS = 1.0

log = get_logger(__name__)

# It says the same at every try to connect; whoever uses it says so once.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@contextmanager
def kafka_refusals() -> Iterator[None]:
    """Errors of the brokers and of the way to them become PawlError `unavailable`."""
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        message = f"Kafka is away or refuses: {reason_of(error)}"
        raise PawlError("unavailable", message, retry_after_seconds=RETRY_AFTER_SECONDS) from error


def reason_of(error: Exception) -> str:
    """What an error says, for people; some say nothing."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


class KafkaClient:
    """Knows the brokers; its producer is made when it is first needed.

    The producer is idempotent and waits for all replicas in sync. It sends what it was given again
    and again, in order, for as long as the brokers are away.
    """

    def __init__(self, settings: BusSettings, *, name: str) -> None:
        self.settings = settings
        self.name = name
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    def full_name(self, name: str) -> str:
        """The name of a topic or group on the brokers."""
        return self.settings.kafka_prefix + name

    async def producer(self) -> AIOKafkaProducer:
        """The running producer; PawlError `unavailable` when no broker answers."""
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self.settings.kafka_bootstrap,
                    client_id=self.name,
                    enable_idempotence=True,
                    acks="all",
                    max_batch_size=MAX_BATCH_BYTES,
                    request_timeout_ms=int(REQUEST_SECONDS * 1000),
                    metadata_max_age_ms=int(METADATA_SECONDS * 1000),
                )
                with kafka_refusals():
                    await _started(producer)
                self._producer = producer
            return self._producer

    async def places(self, topic: str) -> list[TopicPartition]:
        """The partitions of a topic, in order. PawlError `unavailable` when there is no such topic
        or no broker answers.
        """
        name = self.full_name(topic)
        producer = await self.producer()
        with kafka_refusals():
            return [TopicPartition(name, p) for p in sorted(await producer.partitions_for(name))]

    async def discard_producer(self) -> None:
        """Let the producer go with all that it has not delivered; the next one begins afresh."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)

    async def check(self) -> None:
        """PawlError `unavailable` when no broker answers."""
        with kafka_refusals():
            async with asyncio.timeout(CHECK_SECONDS):
                producer = await self.producer()
                await producer.client.fetch_all_metadata()

    async def close(self) -> None:
        """Close all connections; what was not delivered is dropped."""
        await self.discard_producer()


async def _started(producer: AIOKafkaProducer) -> None:
    """Start a producer, or leave nothing of it behind."""
    # Cancelled in the middle, it would forget a connection that it has just opened.
    starting = asyncio.ensure_future(producer.start())
    try:
        await asyncio.shield(starting)
    except BaseException:
        await asyncio.wait({starting}, timeout=STOP_SECONDS)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await _stopped(producer)
        raise


async def _stopped(producer: AIOKafkaProducer) -> None:
    """Stop a producer within a bounded time, delivered or not."""
    # To stop it waits until all is delivered, or until its sender has ended: for an absent broker
    # only the latter happens, and only when it is told to.
    sender = producer._sender.sender_task  # noqa: SLF001 - nothing public ends it
    if sender is not None:
        sender.cancel()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await producer.stop()
    except (KafkaError, TimeoutError) as error:
        log.warning("Kafka producer not stopped well", error=reason_of(error))
