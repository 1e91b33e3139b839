"""Compressed content undone within a bound: a small bomb is found out before it unfolds."""

from __future__ import annotations

import zlib

from libs.net.refusals import ExchangeFailed, ExchangeFault

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_ZLIB_METHOD = 8


def decode(content: bytes, coding: str, *, max_bytes: int) -> bytes:
    """The content without its coding: identity, gzip or deflate.

    Raises ExchangeFailed: ENCODING for another coding or broken content, TOO_LARGE beyond
    `max_bytes`.
    """
    coding = coding.strip().lower()
    if not content or coding in {"", "identity"}:
        return content
    if coding in {"gzip", "x-gzip"}:
        return _inflate(content, _GZIP, coding=coding, max_bytes=max_bytes)
    if coding == "deflate":
        # The standard means zlib's format, some servers send it without its header.
        has_header = (
            content[0] & 0x0F == _ZLIB_METHOD and int.from_bytes(content[:2], "big") % 31 == 0
        )
        bits = _ZLIB if has_header else _RAW
        return _inflate(content, bits, coding=coding, max_bytes=max_bytes)
    raise ExchangeFailed(
        ExchangeFault.ENCODING,
        f"the answer is encoded as {coding[:40]!a}, though none was asked for; "
        "identity, gzip and deflate are read",
    )


def too_large(max_bytes: int) -> ExchangeFailed:
    """The failure of an answer that has more than is allowed."""
    return ExchangeFailed(
        ExchangeFault.TOO_LARGE, f"the answer has more than the {max_bytes} bytes that are allowed"
    )


def _inflate(content: bytes, bits: int, *, coding: str, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=bits)
    try:
        plain = inflater.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise ExchangeFailed(ExchangeFault.ENCODING, f"the answer is no {coding}") from error
    if len(plain) > max_bytes:
        raise too_large(max_bytes)
    if not inflater.eof or inflater.unused_data:
        raise ExchangeFailed(ExchangeFault.ENCODING, f"the answer's {coding} is cut short or mixed")
    return plain
