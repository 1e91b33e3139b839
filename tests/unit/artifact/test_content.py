from __future__ import annotations

import hashlib
import json
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from services.artifact.content import (
    MAX_DATA_BYTES,
    MAX_INLINE_BYTES,
    MAX_ORDINAL,
    MAX_STEP_INDEX,
    blob_key_of,
    content_of,
    naming_errors,
    sha256_of,
)


@pytest.mark.parametrize(
    ("data_json", "canonical"),
    [
        ('{"b":1,"a":2}', '{"a":2,"b":1}'),
        (" [ 1.0 , 1e2 ] ", "[1,100]"),
        ("1e16", "10000000000000000"),
        ("10000000000000000", "10000000000000000"),
        ('"\\u00e9"', '"é"'),
        ('"\\u0000"', '"\\u0000"'),
        ("null", "null"),
        ("0", "0"),
        ('""', '""'),
    ],
)
def test_content_is_canonical(data_json: str, canonical: str) -> None:
    content = content_of(data_json)

    assert content.data == canonical
    assert content.sha256 == hashlib.sha256(canonical.encode()).hexdigest()
    assert content.size_bytes == len(canonical.encode())


def test_content_of_canonical_text_is_that_text() -> None:
    once = content_of('{"x": [1e21, 0.1, "ü", {"z": null, "y": true}]}')

    assert content_of(once.data) == once


@pytest.mark.parametrize(
    "data_json",
    ["", " ", "{", "{'a':1}", "NaN", "-Infinity", "1e999", '"\\ud800"', "9" * 5000, "[1,]"],
)
def test_content_refuses_what_has_no_canonical_form(data_json: str) -> None:
    with pytest.raises(PawlError) as caught:
        content_of(data_json)

    assert caught.value.code == "validation_failed"
    assert [error.field for error in caught.value.errors] == ["data_json"]


def test_content_refuses_depth_that_no_reader_survives() -> None:
    with pytest.raises(PawlError) as caught:
        content_of("[" * 100_000 + "]" * 100_000)

    assert [error.code for error in caught.value.errors] == ["too_deep"]


def test_content_is_bounded_in_bytes_and_in_both_forms() -> None:
    fits = json.dumps("x" * (MAX_DATA_BYTES - 2))
    long_in_canonical_form = "[" + ",".join(["1e20"] * 60_000) + "]"

    assert content_of(fits).size_bytes == MAX_DATA_BYTES
    for data_json in (
        json.dumps("x" * (MAX_DATA_BYTES - 1)),
        json.dumps("é" * (MAX_DATA_BYTES // 2), ensure_ascii=False),
        " " * MAX_DATA_BYTES + "1",
        long_in_canonical_form,
    ):
        with pytest.raises(PawlError) as caught:
            content_of(data_json)
        assert caught.value.code == "payload_too_large"


def test_sha256_is_of_the_utf8_bytes() -> None:
    assert sha256_of("é") == hashlib.sha256(b"\xc3\xa9").hexdigest()


@pytest.mark.parametrize("kind", ["a", "report.summary", "a_1.b2", "x" * 128])
def test_types_that_are_good(kind: str) -> None:
    assert naming_errors(kind=kind, step_index=1, ordinal=0) == []


@pytest.mark.parametrize(
    "kind", ["", "A", "1a", "a.", ".a", "a..b", "a b", "a-b", "x" * 129, "a\n", "é", "a.1b"]
)
def test_types_that_are_bad(kind: str) -> None:
    (error,) = naming_errors(kind=kind, step_index=1, ordinal=0)

    assert error.field == "type"


@pytest.mark.parametrize(
    ("step_index", "ordinal", "fields"),
    [
        (1, 0, []),
        (MAX_STEP_INDEX, MAX_ORDINAL, []),
        (0, 0, ["step_index"]),
        (MAX_STEP_INDEX + 1, 0, ["step_index"]),
        (1, -1, ["ordinal"]),
        (-5, MAX_ORDINAL + 1, ["step_index", "ordinal"]),
    ],
)
def test_places_are_bounded(step_index: int, ordinal: int, fields: list[str]) -> None:
    errors = naming_errors(kind="a", step_index=step_index, ordinal=ordinal)

    assert [error.field for error in errors] == fields


@pytest.mark.parametrize(
    ("size_bytes", "is_inline"),
    [(3, True), (MAX_INLINE_BYTES, True), (MAX_INLINE_BYTES + 1, False)],
)
def test_only_large_content_has_a_blob_named_by_tenant_and_hash(
    size_bytes: int, is_inline: bool
) -> None:
    content = content_of('"' + "x" * (size_bytes - 2) + '"')

    key = blob_key_of(content, tenant_id=UUID(int=7))

    sha256 = content.sha256
    expected = f"00000000-0000-0000-0000-000000000007/sha256/{sha256[:2]}/{sha256}"
    assert key == (None if is_inline else expected)
