"""CloudEvents 1.0 in binary mode: an event as headers and a JSON value, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from libs.bus.bus import BusRecord
from libs.core.canonical import Json
from libs.pb.pawl.events.v1.events_pb2 import TaskEventData

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
TASK_SOURCE = "/pawl/scheduler"
MAX_VALUE_BYTES = 1024 * 1024
MAX_SEQUENCE = 2**31 - 1

_TASK_EVENT_MEMBERS = frozenset(TaskEventData.DESCRIPTOR.fields_by_name)

# Stands in place of all that a record has when its driver could not read it.
UNREADABLE_HEADER = "pawl_unreadable"


class UnreadableEventError(ValueError):
    """A record that no second try can make readable; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusEvent:
    """One event. `key` orders and partitions; (`topic`, `key`, `sequence`) is its identity.

    `sequence` counts from 1 per key. `time` is aware, the database's time of the cause. `position`
    is where the event stands in its topic.
    """

    topic: str
    position: int
    key: UUID
    sequence: int
    id: str
    type: str
    source: str
    subject: str
    tenant_id: UUID
    time: datetime
    data: Mapping[str, Json]
    traceparent: str = ""
    request_id: str = ""


def encode(event: BusEvent) -> tuple[dict[str, str], str]:
    """The headers and the value of an event."""
    headers = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": event.id,
        "ce_type": event.type,
        "ce_source": event.source,
        "ce_subject": event.subject,
        "ce_time": event.time.isoformat().replace("+00:00", "Z"),
        "ce_partitionkey": str(event.key),
        "ce_sequence": str(event.sequence),
        "ce_tenant": str(event.tenant_id),
        "content-type": CONTENT_TYPE,
    }
    if event.traceparent:
        headers["traceparent"] = event.traceparent
        headers["ce_traceparent"] = event.traceparent
    if event.request_id:
        headers["ce_requestid"] = event.request_id
    return headers, json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))


def event_headers(
    *,
    task_id: str,
    sequence: int,
    kind: str,
    time: str,
    tenant_id: UUID | None,
    traceparent: str | None,
    request_id: str | None,
) -> dict[str, str]:
    """The headers of an event of a task; `relay_task_events` in queries.sql writes the same."""
    headers = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": f"{task_id}:{sequence}",
        "ce_type": f"pawl.task.{kind}.v1",
        "ce_source": TASK_SOURCE,
        "ce_subject": task_id,
        "ce_time": time,
        "ce_partitionkey": task_id,
        "ce_sequence": str(sequence),
        "content-type": CONTENT_TYPE,
    }
    if tenant_id is not None:
        headers["ce_tenant"] = str(tenant_id)
    if traceparent:
        headers["traceparent"] = traceparent
        headers["ce_traceparent"] = traceparent
    if request_id:
        headers["ce_requestid"] = request_id
    return headers


def decode(record: BusRecord) -> BusEvent:
    """The event of a record; UnreadableEventError says what is wrong with it.

    Headers and members that are not known are let pass: a newer Pawl may add some.
    """
    if len(record.value) > MAX_VALUE_BYTES:
        raise UnreadableEventError(
            f"the value has {len(record.value)} characters; at most {MAX_VALUE_BYTES} are allowed"
        )
    if not record.value.isascii() and not _is_unicode(record.value):
        raise UnreadableEventError("the value is not UTF-8")
    headers = _object(record.headers, "headers")
    if UNREADABLE_HEADER in headers:
        raise UnreadableEventError(f"unreadable: {_header(headers, UNREADABLE_HEADER)}")
    version = _header(headers, "ce_specversion")
    if version != SPEC_VERSION:
        raise UnreadableEventError(f"ce_specversion is {version!r}; {SPEC_VERSION} is understood")
    return BusEvent(
        topic=record.topic,
        position=record.position,
        key=_uuid(record.key, "the key"),
        sequence=_sequence(_header(headers, "ce_sequence")),
        id=_header(headers, "ce_id"),
        type=_header(headers, "ce_type"),
        source=_header(headers, "ce_source"),
        subject=_header(headers, "ce_subject"),
        tenant_id=_uuid(_header(headers, "ce_tenant"), "ce_tenant"),
        time=_time(_header(headers, "ce_time")),
        data=_object(record.value, "value"),
        traceparent=_header(headers, "traceparent") if "traceparent" in headers else "",
        request_id=_header(headers, "ce_requestid") if "ce_requestid" in headers else "",
    )


def identity_of(record: BusRecord) -> tuple[UUID, int] | None:
    """Key and sequence of a record that may be unreadable otherwise; None when it does not say."""
    try:
        headers = _object(record.headers, "headers")
        return _uuid(record.key, "the key"), _sequence(_header(headers, "ce_sequence"))
    except UnreadableEventError:
        return None


def read_task_event(event: BusEvent) -> TaskEventData:
    """The data of an event of pawl.task.events.v1; UnreadableEventError when it is another."""
    known = {name: value for name, value in event.data.items() if name in _TASK_EVENT_MEMBERS}
    try:
        # Members have the names and the JSON types of the fields. Protobuf's own reader of JSON,
        # which takes other spellings too, needs ten times as long.
        data = TaskEventData(**known)  # type: ignore[arg-type]  # the message checks each type
    except (TypeError, ValueError) as error:
        raise UnreadableEventError(f"the data is no TaskEventData: {error}") from error
    said = (data.task_id, data.tenant_id, data.seq)
    if said != (str(event.key), str(event.tenant_id), event.sequence):
        raise UnreadableEventError(f"the data speaks of {said}, the headers do not")
    return data


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(text: str, what: str) -> dict[str, Json]:
    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise UnreadableEventError(f"the {what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableEventError(f"the {what} is not a JSON object")
    return value


def _header(headers: Mapping[str, Json], name: str) -> str:
    value = headers.get(name)
    if not isinstance(value, str) or not value:
        raise UnreadableEventError(f"the header {name} is missing or no text")
    return value


def _uuid(text: str, what: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise UnreadableEventError(f"{what} is {text[:64]!r}, not a UUID") from error


def _sequence(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 10 and 1 <= int(text) <= MAX_SEQUENCE:
        return int(text)
    raise UnreadableEventError(f"ce_sequence is {text[:64]!r}, not a number from 1")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnreadableEventError(f"ce_time is {text[:64]!r}, not RFC 3339") from error
    if time.tzinfo is None:
        raise UnreadableEventError(f"ce_time is {text[:64]!r}, without an offset")
    return time
