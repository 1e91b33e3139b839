from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from libs.bus.bus import BusRecord
from libs.bus.envelope import (
    MAX_VALUE_BYTES,
    BusEvent,
    UnreadableEventError,
    decode,
    encode,
    read_task_event,
)

TASK = UUID("01936b2e-0000-7000-8000-000000000001")
TENANT = UUID("01936b2e-0000-7000-8000-00000000000a")


def make_event() -> BusEvent:
    return BusEvent(
        topic="pawl.task.events.v1",
        position=7,
        key=TASK,
        sequence=3,
        id=f"{TASK}:3",
        type="pawl.task.step_finished.v1",
        source="/pawl/scheduler",
        subject=str(TASK),
        tenant_id=TENANT,
        time=datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
        data={
            "task_id": str(TASK),
            "tenant_id": str(TENANT),
            "seq": 3,
            "from_state": "running",
            "to_state": "running",
            "at": "2026-01-02T03:04:05.678900Z",
            "mode": "live",
            "step_index": 1,
            "tool": "math",
            "status": "succeeded",
            "message": "grüße",
        },
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def make_record(
    event: BusEvent | None = None, headers: dict[str, str | None] | None = None
) -> BusRecord:
    """The record of an event, with some headers replaced, or taken out by None."""
    event = event or make_event()
    given, value = encode(event)
    changed = {**given, **(headers or {})}
    return BusRecord(
        topic=event.topic,
        position=event.position,
        key=str(event.key),
        headers=json.dumps({k: v for k, v in changed.items() if v is not None}),
        value=value,
    )


def test_decode_gives_back_what_was_encoded() -> None:
    assert decode(make_record()) == make_event()


def test_encode_names_headers_as_the_binary_mode_does() -> None:
    headers, value = encode(make_event())

    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": f"{TASK}:3",
        "ce_type": "pawl.task.step_finished.v1",
        "ce_source": "/pawl/scheduler",
        "ce_subject": str(TASK),
        "ce_time": "2026-01-02T03:04:05.678900Z",
        "ce_partitionkey": str(TASK),
        "ce_sequence": "3",
        "ce_tenant": str(TENANT),
        "content-type": "application/json",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "ce_traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    assert json.loads(value)["message"] == "grüße"


def test_a_traceparent_may_be_missing() -> None:
    event = replace(make_event(), traceparent="")

    assert decode(make_record(event)) == event


def test_decode_lets_unknown_headers_pass() -> None:
    assert decode(make_record(headers={"ce_later": "x"})) == make_event()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ce_specversion", "2.0"),
        ("ce_specversion", None),
        ("ce_id", None),
        ("ce_id", ""),
        ("ce_type", None),
        ("ce_source", None),
        ("ce_subject", None),
        ("ce_tenant", "nobody"),
        ("ce_tenant", None),
        ("ce_time", "yesterday"),
        ("ce_time", "2026-01-02T03:04:05"),
        ("ce_sequence", "0"),
        ("ce_sequence", "-1"),
        ("ce_sequence", "1.0"),
        ("ce_sequence", "2147483648"),
        ("ce_sequence", "٣"),
        ("ce_sequence", "9" * 5000),
        ("ce_sequence", None),
        ("traceparent", ""),
    ],
)
def test_decode_refuses_a_bad_header(name: str, text: str | None) -> None:
    with pytest.raises(UnreadableEventError, match=name):
        decode(make_record(headers={name: text}))


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("key", "no-uuid", "key"),
        ("key", "", "key"),
        ("headers", "{", "headers is not JSON"),
        ("headers", "[]", "headers is not a JSON object"),
        ("headers", '{"ce_specversion": 1}', "ce_specversion"),
        ("value", "", "value is not JSON"),
        ("value", "null", "value is not a JSON object"),
        ("value", "[" * 100_000, "value is not JSON"),
        ("value", " " * (MAX_VALUE_BYTES + 1), "at most"),
    ],
)
def test_decode_refuses_a_bad_record(field: str, text: str, words: str) -> None:
    record = replace(make_record(), **{field: text})  # type: ignore[arg-type]  # all are strings

    with pytest.raises(UnreadableEventError, match=words):
        decode(record)


def test_read_task_event_reads_the_data() -> None:
    data = read_task_event(make_event())

    assert (data.seq, data.tool, data.step_index, data.status) == (3, "math", 1, "succeeded")
    assert not data.HasField("failure_code")


def test_read_task_event_lets_members_of_a_newer_pawl_pass() -> None:
    event = make_event()

    assert read_task_event(replace(event, data={**event.data, "later": [1]})).seq == 3


@pytest.mark.parametrize(
    "change",
    [{"seq": 4}, {"seq": "three"}, {"task_id": str(TENANT)}, {"tenant_id": ""}, {"mode": 5}],
)
def test_read_task_event_refuses_data_of_something_else(change: dict[str, object]) -> None:
    event = make_event()

    with pytest.raises(UnreadableEventError):
        read_task_event(replace(event, data={**event.data, **change}))
