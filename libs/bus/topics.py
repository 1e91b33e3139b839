"""The topics: Kafka topics, and streams of the postgres driver; what topics.toml says of each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

TASK_EVENTS = "pawl.task.events.v1"
"""Every event of every task; key = task id, in order of seq per task."""

ARTIFACT_EVENTS = "pawl.artifact.events.v1"
"""Every event of every artifact; key = task id, with a sequence of its own."""

DEAD_LETTERS = "pawl.dead-letters.v1"
"""Records that a consumer could not handle, with the reason in their headers."""

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it is to be. The postgres driver has one partition of each."""

    name: str
    partitions: int
    kept_seconds: float


def read_topics(text: str) -> dict[str, Topic]:
    """The topics of a topics.toml by name; KeyError or TypeError for one that is not whole."""
    return {
        name: Topic(
            name=name,
            partitions=int(said["partitions"]),
            kept_seconds=said["kept_days"] * DAY_SECONDS,
        )
        for name, said in tomllib.loads(text).items()
    }


TOPICS = read_topics(Path(__file__).with_name("topics.toml").read_text(encoding="utf-8"))
"""All of them."""
