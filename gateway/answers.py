"""Writes JSON answers: orjson over plain values, with the services' JSON text embedded as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson
from fastapi import Response
from google.protobuf.timestamp_pb2 import Timestamp

from libs.rpc.convert import from_timestamp

JsonOut = object
"""What orjson writes: JSON values and `orjson.Fragment`."""


def json_answer(
    body: JsonOut, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An application/json answer that nobody may store."""
    return Response(
        orjson.dumps(body),
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def page_answer(rows: Sequence[JsonOut], *, next_page_token: str) -> Response:
    """A page of a list; `next_cursor` is null after the last."""
    return json_answer({"data": rows, "next_cursor": next_page_token or None})


def not_modified(headers: Mapping[str, str]) -> Response:
    """The answer to a caller who has it already; `headers` are those of the whole answer."""
    return Response(status_code=304, headers=dict(headers))


def embedded(text: str) -> orjson.Fragment:
    """JSON text that a service sent, for an answer: numbers stay as they are written."""
    return orjson.Fragment(text)


def rfc3339(at: datetime) -> str:
    """An aware UTC time with microseconds and +00:00."""
    return at.isoformat(timespec="microseconds")


def stamp(at: Timestamp) -> str:
    """A Timestamp in the form of `rfc3339`."""
    return rfc3339(from_timestamp(at))
