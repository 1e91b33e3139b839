"""Compressed content within a bound."""

from __future__ import annotations

import gzip
import zlib

import pytest

from libs.net.content_coding import decode
from libs.net.refusals import ExchangeFailed, ExchangeFault

TEXT = b"a text that repeats, a text that repeats"
LIMIT = 1000


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("content", "coding"),
    [
        (TEXT, ""),
        (TEXT, "Identity"),
        (gzip.compress(TEXT), "gzip"),
        (gzip.compress(TEXT), " X-GZIP "),
        (zlib.compress(TEXT), "deflate"),
        (raw_deflate(TEXT), "deflate"),
    ],
)
def test_content_is_decoded(content: bytes, coding: str) -> None:
    assert decode(content, coding, max_bytes=LIMIT) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "what"])
def test_no_content_has_no_coding(coding: str) -> None:
    assert decode(b"", coding, max_bytes=LIMIT) == b""


@pytest.mark.parametrize(
    ("content", "coding"),
    [
        (TEXT, "br"),
        (TEXT, "zstd"),
        (gzip.compress(gzip.compress(TEXT)), "gzip, gzip"),
        (TEXT, "gzip"),
        (b"\x78\x9cxxxx", "deflate"),
        (gzip.compress(TEXT)[:-4], "gzip"),
        (zlib.compress(TEXT)[:-1], "deflate"),
        (gzip.compress(TEXT) + b"more", "gzip"),
    ],
)
def test_what_cannot_be_decoded_is_refused(content: bytes, coding: str) -> None:
    with pytest.raises(ExchangeFailed) as failed:
        decode(content, coding, max_bytes=LIMIT)

    assert failed.value.fault is ExchangeFault.ENCODING


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_bomb_is_found_out_before_it_unfolds(pack: object) -> None:
    assert callable(pack)
    bomb = pack(b"\0" * 50_000_000)

    with pytest.raises(ExchangeFailed) as failed:
        decode(bomb, "gzip" if pack is gzip.compress else "deflate", max_bytes=LIMIT)

    assert failed.value.fault is ExchangeFault.TOO_LARGE


def test_the_bound_itself_is_allowed() -> None:
    assert len(decode(gzip.compress(b"x" * LIMIT), "gzip", max_bytes=LIMIT)) == LIMIT
