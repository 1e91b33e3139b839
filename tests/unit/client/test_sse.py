"""Server-Sent Events by the rules of the format, however their bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libs.client.sse import EventReader

LINES = [
    b"\xef\xbb\xbf: ping\n",
    b"\n",
    b"id: 1\n",
    b"event: a\n",
    b'data: {"x":\n',
    b"data:1}\n",
    b"retry: 1000\n",
    b"unknown: x\n",
    b"\n",
    b"data: {}\r\n",
    b"\r\n",
    b"event: without data\n",
    b"\n",
    b"data:  two blanks\rid\r\r",
    b"id: a\0b\n",
    b"data: \xc3\xa4\n",
    b"data\n",
    b"\n",
    b'data: {"cut": true}\n',
]
STREAM = b"".join(LINES)
EVENTS = [
    ("1", "a", '{"x":\n1}'),
    ("1", "", "{}"),
    ("", "", " two blanks"),
    ("", "", "ä\n"),
]


def _read(chunks: list[bytes]) -> list[tuple[str, str, str]]:
    reader = EventReader()
    return [(one.id, one.name, one.data) for chunk in chunks for one in reader.feed(chunk)]


def test_events_are_read_by_the_rules_of_the_format() -> None:
    assert _read([STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_however_their_bytes_arrive(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[a:b] for a, b in pairwise(places)]

    assert _read(chunks) == EVENTS


def test_events_are_the_same_byte_by_byte() -> None:
    assert _read([bytes([byte]) for byte in STREAM]) == EVENTS
