"""Idempotency keys and fingerprints."""

from __future__ import annotations

import pytest

from gateway.idempotency import fingerprint, parse_key
from libs.core.errors import PawlError


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("ord-123-create", "ord-123-create"),
        ('"ord-123"', "ord-123"),
        (r'"a\"b\\c"', 'a"b\\c'),
        ("a, b", "a, b"),
        ('a"', 'a"'),
        ("~" * 255, "~" * 255),
        (f'"{"x" * 255}"', "x" * 255),
    ],
)
def test_a_key_is_read_bare_or_quoted(text: str, key: str) -> None:
    assert parse_key(text) == key


@pytest.mark.parametrize(
    "text",
    ["", '"', '""', '"a', '"a"b"', '"a"; p=1', r'"\a"', "é", "\u00a0", "a\x7f", "a\tb", "x" * 256],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(PawlError) as caught:
        parse_key(text)

    assert caught.value.code == "invalid_idempotency_key"


def test_a_fingerprint_follows_from_method_path_and_body() -> None:
    first = fingerprint("POST", "/a", {"x": 1.0, "y": [None]})

    assert first == fingerprint("POST", "/a", {"y": [None], "x": 1})
    assert (
        len({first, fingerprint("PUT", "/a", {"x": 1, "y": [None]}), fingerprint("POST", "/b", {})})
        == 3
    )
