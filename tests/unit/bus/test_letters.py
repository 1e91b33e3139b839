from __future__ import annotations

import json

import pytest

from libs.bus.bus import BusRecord, DeadLetter
from libs.bus.letters import event_of, letter_headers
from libs.bus.topics import ARTIFACT_EVENTS, TASK_EVENTS, TOPICS, read_topics
from libs.core.ids import new_id

KEY = new_id()


def record(headers: str, *, key: str = str(KEY)) -> BusRecord:
    return BusRecord(
        topic=TASK_EVENTS, position=7, key=key, headers=headers, value="{}", partition=3
    )


def test_a_letter_says_where_it_stood_and_why_it_was_put_aside() -> None:
    letter = DeadLetter(
        record=record('{"ce_id": "x:1", "odd": [1]}'), group="g", reason="it hurt", attempts=3
    )

    assert letter_headers(letter) == {
        "ce_id": "x:1",
        "odd": "[1]",
        "pawl_reason": "it hurt",
        "pawl_group": "g",
        "pawl_attempts": "3",
        "pawl_topic": TASK_EVENTS,
        "pawl_partition": "3",
        "pawl_position": "7",
    }


@pytest.mark.parametrize("headers", ["no json", "[1]", "[" * 100_000])
def test_headers_that_cannot_be_read_are_kept_as_they_are(headers: str) -> None:
    letter = DeadLetter(record=record(headers), group="g", reason="r", attempts=0)

    assert letter_headers(letter)["pawl_headers"] == headers


@pytest.mark.parametrize(
    ("said", "key", "expected"),
    [
        ({"pawl_topic": TASK_EVENTS, "ce_sequence": "4"}, str(KEY), (KEY, 4)),
        ({"pawl_topic": ARTIFACT_EVENTS, "ce_sequence": "4"}, str(KEY), None),
        ({"ce_sequence": "4"}, str(KEY), None),
        ({"pawl_topic": TASK_EVENTS, "ce_sequence": "0"}, str(KEY), None),
        ({"pawl_topic": TASK_EVENTS, "ce_sequence": "4"}, "junk", None),
        ({"pawl_topic": TASK_EVENTS}, str(KEY), None),
    ],
)
def test_a_letter_names_its_event_if_it_was_one(
    said: dict[str, str], key: str, expected: object
) -> None:
    assert event_of(record(json.dumps(said), key=key)) == expected


def test_the_reviewed_file_has_every_topic() -> None:
    assert TOPICS[TASK_EVENTS].partitions == 12
    assert TOPICS[ARTIFACT_EVENTS].kept_seconds == 7 * 86_400


def test_a_topic_that_is_not_whole_is_refused() -> None:
    with pytest.raises(KeyError):
        read_topics('["pawl.x"]\npartitions = 3\n')
