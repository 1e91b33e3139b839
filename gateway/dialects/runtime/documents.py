"""What the OpenAPI document says of the runtime dialect's parameters and answers."""

from __future__ import annotations

from gateway.dialects.runtime import lists, streams
from gateway.links import TASK_LINKS, next_page
from gateway.openapi import (
    BODY_REFUSALS,
    CURSOR,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    LIMIT,
    PREFER,
    REFUSALS,
    WAIT,
    Responses,
    answer,
    event_stream,
    query_parameter,
)
from gateway.response_headers import said
from libs.core.api_key import MODES

_UUID = {"type": "string", "format": "uuid"}
_TIME = {"type": "string", "format": "date-time"}
_WORDS = "|".join(lists.WORDS)

CREATE = (WAIT, PREFER, IDEMPOTENCY_KEY)
"""What is read beside the body of a create."""
LOOK = (WAIT, PREFER, IF_NONE_MATCH)
"""What is read when a task is looked at."""
LIST_QUERY = (
    query_parameter(
        "status",
        "In this status, or in one of several with commas between.",
        {
            "type": "string",
            "pattern": f"^({_WORDS})(,({_WORDS}))*$",
            "examples": ["queued,running"],
        },
    ),
    query_parameter("created_from", "Submitted at this time or later.", _TIME),
    query_parameter("created_before", "Submitted before this time.", _TIME),
    query_parameter("agent_id", "Of this agent.", _UUID),
    query_parameter("replay_of_task_id", "Replays of this task.", _UUID),
    query_parameter(
        "mode", "Submitted with a key of this mode.", {"type": "string", "enum": list(MODES)}
    ),
    LIMIT,
    CURSOR,
)


def _looked_at(*headers: str) -> Responses:
    """The answer about a task as it stands, whole or without a body."""
    known = "The answer that If-None-Match names still holds."
    whole, not_modified = said(*headers), said(*headers)
    return (
        REFUSALS
        | answer(200, "How it stands.", headers=whole)
        | answer(304, known, headers=not_modified)
    )


ACCEPTED: Responses = BODY_REFUSALS | answer(
    200,
    "How it stands.",
    headers=said("Retry-After", "Preference-Applied", "Idempotent-Replayed"),
    links=TASK_LINKS,
)
ALL_ACCEPTED: Responses = BODY_REFUSALS | answer(
    200, "How they stand.", headers=said("Retry-After", "Idempotent-Replayed")
)
LISTED: Responses = REFUSALS | answer(200, "A page of them.", links=next_page("list_tasks"))
LOOKED_AT: Responses = _looked_at("ETag", "Retry-After", "Preference-Applied")
TRACED: Responses = _looked_at("ETag", "Retry-After")
STREAMED: Responses = (
    REFUSALS
    | event_stream(
        "The task's events from the first, or after Last-Event-ID, to the last.", streams.EXAMPLE
    )
    | {204: {"description": "The task has ended and Last-Event-ID is its last event."}}
)
