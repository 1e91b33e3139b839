"""The names of the topics: Kafka topics, and streams of the postgres driver."""

from __future__ import annotations

TASK_EVENTS = "pawl.task.events.v1"
"""Every event of every task; key = task id, in order of seq per task."""

ARTIFACT_EVENTS = "pawl.artifact.events.v1"
"""Every event of every artifact; key = task id, with a sequence of its own."""

DEAD_LETTERS = "pawl.dead-letters.v1"
"""Records that a consumer could not handle, with the reason in their headers."""

DAY_SECONDS = 86_400.0

KEPT_SECONDS: dict[str, float] = {
    TASK_EVENTS: 7 * DAY_SECONDS,
    ARTIFACT_EVENTS: 7 * DAY_SECONDS,
    # Long enough that a person who was away for a few weeks still finds what went wrong.
    DEAD_LETTERS: 30 * DAY_SECONDS,
}
"""How long the postgres driver keeps a record of each topic."""
