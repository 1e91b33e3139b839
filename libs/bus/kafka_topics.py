"""Making the topics on a Kafka cluster as topics.toml says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from libs.bus.kafka_client import REQUEST_SECONDS, kafka_refusals
from libs.bus.settings import BusSettings
from libs.bus.topics import TOPICS, Topic
from libs.core.errors import PawlError

RETENTION = "retention.ms"
LOOK_SECONDS = 0.05
_BROKERS_CHOICE = -1
_OF_THE_TOPIC = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedTopic:
    """What became of one topic: made, changed or kept, with the words to say of it."""

    name: str
    outcome: str
    detail: str


async def apply_topics(
    settings: BusSettings, topics: Iterable[Topic] = TOPICS.values()
) -> list[AppliedTopic]:
    """Make what is missing, set how long records are kept; replicas are as the brokers choose.

    PawlError `unavailable` when the brokers are away, `conflict` for a topic with another number of
    partitions: it is left as it is, because with more of them keys would move.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap,
        client_id="pawl-topics",
        request_timeout_ms=int(REQUEST_SECONDS * 1000),
    )
    with kafka_refusals():
        try:
            await admin.start()
            return [
                await _apply(admin, topic, name=settings.kafka_prefix + topic.name)
                for topic in topics
            ]
        finally:
            await admin.close()


async def _apply(admin: AIOKafkaAdminClient, topic: Topic, *, name: str) -> AppliedTopic:
    configs = {RETENTION: str(int(topic.kept_seconds * 1000))}
    detail = f"{topic.partitions} partitions, kept {topic.kept_seconds / 86_400:g} days"
    if name not in await admin.list_topics():
        made = await _create(admin, topic, name=name, configs=configs)
        if made:
            await _partitions(admin, name)
            return AppliedTopic(name=name, outcome="made", detail=detail)
    partitions = await _partitions(admin, name)
    if partitions != topic.partitions:
        raise PawlError(
            "conflict",
            f"the topic {name} has {partitions} partitions; topics.toml says {topic.partitions}, "
            "and they cannot be changed without moving keys: drain and delete the topic, or make "
            "topics.toml say what is there",
        )
    before = await _configs(admin, name)
    if before.get(RETENTION) == configs[RETENTION]:
        return AppliedTopic(name=name, outcome="kept", detail=detail)
    # The request replaces all settings of the topic, those of an operator too.
    wanted = ConfigResource(ConfigResourceType.TOPIC, name, before | configs)
    for answer in await admin.alter_configs([wanted]):
        for code, said, *_ in answer.resources:
            if code:
                raise for_code(code)(said)
    was = before.get(RETENTION, "not set")
    return AppliedTopic(name=name, outcome="changed", detail=f"{detail}; {RETENTION} was {was}")


async def _create(
    admin: AIOKafkaAdminClient, topic: Topic, *, name: str, configs: Mapping[str, str]
) -> bool:
    """Whether it was made here; False when somebody else was faster."""
    # An empty assignment, not none: the class takes the brokers' own choice only together with one.
    wanted = NewTopic(name, topic.partitions, _BROKERS_CHOICE, {}, topic_configs=dict(configs))
    answer = await admin.create_topics([wanted])
    for _, code, *said in answer.topic_errors:
        error = for_code(code)
        if error is TopicAlreadyExistsError:
            return False
        if code:
            raise error(*said)
    return True


async def _partitions(admin: AIOKafkaAdminClient, name: str) -> int:
    """How many partitions it has, once the brokers agree on it: a new topic takes them a moment."""
    async with asyncio.timeout(REQUEST_SECONDS):
        while True:
            (described,) = await admin.describe_topics([name])
            if not described["error_code"]:
                return len(described["partitions"])
            error = for_code(described["error_code"])
            if not error.retriable:
                raise error
            await asyncio.sleep(LOOK_SECONDS)


async def _configs(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    """The settings that were made for this very topic."""
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {
        key: value
        for _, _, _, _, entries in answer.resources
        for key, value, _, source, *_ in entries
        if source == _OF_THE_TOPIC
    }
