"""`pawl topics apply`: the topics on the brokers of the settings, as topics.toml says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from libs.bus.settings import KAFKA, BusSettings, bus_from_env
from libs.bus.topics import TOPICS
from libs.cli.output import console, styled, table
from libs.core.errors import PawlError

BrokerTopics = tuple[tuple[str, str, str], ...]
"""Of each topic its name on the brokers, what became of it, and how it is now."""


def apply_topics(environ: Mapping[str, str]) -> int:
    """Make and change what is needed and print it; 0, or 1 when the brokers refuse.

    ConfigError names every setting that is missing or malformed.
    """
    settings = bus_from_env(environ)
    out = console()
    if settings.driver != KAFKA:
        out.print("PAWL_BUS is postgres: its topics are made by `pawl migrate`.")
        return 0
    try:
        rows = asyncio.run(ensure_topics(settings))
    except PawlError as error:
        out.print(f"pawl topics: {error.message}", style="red", markup=False, soft_wrap=True)
        return 1
    shown = [(name, styled(outcome), detail) for name, outcome, detail in rows]
    out.print(table("Topics", ("topic", "", "now"), shown, whole="topic"))
    return 0


async def ensure_topics(settings: BusSettings) -> BrokerTopics:
    """The topics on the brokers, made where they were missing. PawlError when that fails."""
    # The Kafka library takes a while to load, and only this needs it.
    from libs.bus.kafka_topics import apply_topics as apply

    applied = await apply(settings, TOPICS.values())
    return tuple((topic.name, topic.outcome, topic.detail) for topic in applied)
