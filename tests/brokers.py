"""Kafka brokers for tests: the one of PAWL_TEST_KAFKA_BOOTSTRAP, else one in a container."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from testcontainers.core.container import DockerContainer

from libs.bus.bus import BusRecord
from libs.bus.kafka import record_of
from libs.bus.kafka_client import KafkaClient
from libs.bus.settings import BusSettings
from tests.containers import KAFKA_IMAGE, free_port, running
from tests.waiting import eventually

GIVEN = "PAWL_TEST_KAFKA_BOOTSTRAP"


@contextmanager
def broker() -> Iterator[str]:
    """The bootstrap address of a running broker. Skips with the reason where there is none."""
    given = os.environ.get(GIVEN, "").strip()
    if given:
        yield given
        return
    port = free_port()
    with running(_container(port), instead=GIVEN):
        yield f"127.0.0.1:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnBroker:
    """A broker that a test may hurt. Its data and its port survive."""

    bootstrap: str
    container: DockerContainer

    def pause(self) -> None:
        """Stop all its processes: connections stay, and nothing answers."""
        self.container.get_wrapped_container().pause()

    def unpause(self) -> None:
        """Let it go on."""
        self.container.get_wrapped_container().unpause()

    def kill(self) -> None:
        """SIGKILL."""
        self.container.get_wrapped_container().kill()

    def start(self) -> None:
        """Start it again."""
        self.container.get_wrapped_container().start()


@contextmanager
def own_broker() -> Iterator[OwnBroker]:
    """A broker in a container of its own. Skips where no engine answers."""
    port = free_port()
    with running(_container(port), instead="nothing else") as container:
        yield OwnBroker(bootstrap=f"127.0.0.1:{port}", container=container)


async def until_it_answers(bootstrap: str) -> None:
    """Wait until the broker takes requests."""

    async def answers() -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            await admin.start()
            await admin.list_topics()
        except KafkaError:
            return False
        finally:
            await admin.close()
        return True

    await eventually(answers, timeout=60)


def new_prefix() -> str:
    """What the names of one test's topics and groups begin with."""
    return f"t{secrets.token_hex(5)}."


@asynccontextmanager
async def topics_removed(bootstrap: str, prefix: str) -> AsyncIterator[None]:
    """Delete every topic whose name begins with `prefix` at the end of the block."""
    try:
        yield
    finally:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            names = [name for name in await admin.list_topics() if name.startswith(prefix)]
            if names:
                await admin.delete_topics(names)
        finally:
            await admin.close()


async def read_topic(settings: BusSettings, topic: str) -> list[BusRecord]:
    """All that stands in a topic, partition by partition in order."""
    client = KafkaClient(settings, name="test-topics")
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap)
    found: list[BusRecord] = []
    try:
        places = await client.places(topic)
        await consumer.start()
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [record_of(record, topic=topic) for record in records]
    finally:
        await consumer.stop()
        await client.close()
    return sorted(found, key=lambda record: (record.partition, record.position))


def _container(port: int) -> DockerContainer:
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:29093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "CONTROLLER_QUORUM_VOTERS": "1@127.0.0.1:29093",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(port, port)
    for name, value in settings.items():
        container = container.with_env(f"KAFKA_{name}", value)
    return container
