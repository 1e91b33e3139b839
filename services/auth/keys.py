"""The format of API keys, which the gateway checks too: see libs/core/api_key.py."""

from __future__ import annotations

from libs.core.api_key import (
    ALPHABET,
    CHECKSUM_CHARS,
    MODES,
    PREFIXES,
    RANDOM_CHARS,
    ParsedKey,
    checksum,
    make_key,
    parse_key,
)

__all__ = [
    "ALPHABET",
    "CHECKSUM_CHARS",
    "MODES",
    "PREFIXES",
    "RANDOM_CHARS",
    "ParsedKey",
    "checksum",
    "make_key",
    "parse_key",
]
