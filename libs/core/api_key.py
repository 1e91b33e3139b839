"""The format of API keys: made, parsed and checked without any look-up.

A key is `(pawl|atx|ra)_(live|test)_`, 32 random base62 characters, and 6 base62 characters of the
CRC-32 of everything before them. The prefix is how a key looks and means nothing. The checksum
makes a mistyped key fail before anybody is asked; it is no secret and proves nothing.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass, field

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIXES = ("pawl", "atx", "ra")
LIVE = "live"
"""The mode of keys whose requests and tasks are metered."""
MODES = (LIVE, "test")
RANDOM_CHARS = 32
CHECKSUM_CHARS = 6

_KEY = re.compile(r"(pawl|atx|ra)_(live|test)_[0-9A-Za-z]{38}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedKey:
    """A well-formed key. The secret itself stays out of every repr."""

    prefix: str
    mode: str
    secret: str = field(repr=False)

    @property
    def hash(self) -> bytes:
        """SHA-256 of the key: what is stored. 190 random bits need no slow hash."""
        return hashlib.sha256(self.secret.encode("ascii")).digest()

    @property
    def last_four(self) -> str:
        """The four characters that are shown beside the prefix."""
        return self.secret[-4:]


def make_key(*, prefix: str, mode: str, random_chars: str) -> ParsedKey:
    """The key with these 32 random base62 characters.

    ValueError when a part is not what the format says.
    """
    if prefix not in PREFIXES or mode not in MODES:
        raise ValueError(f"{prefix}_{mode}_ is not how a key begins")
    if len(random_chars) != RANDOM_CHARS or not set(random_chars) <= set(ALPHABET):
        raise ValueError(f"a key needs {RANDOM_CHARS} base62 characters")
    body = f"{prefix}_{mode}_{random_chars}"
    return ParsedKey(prefix=prefix, mode=mode, secret=body + checksum(body))


def parse_key(text: str) -> ParsedKey | None:
    """The key that `text` spells, or None when its form or its checksum is wrong."""
    form = _KEY.fullmatch(text)
    if form is None or checksum(text[:-CHECKSUM_CHARS]) != text[-CHECKSUM_CHARS:]:
        return None
    return ParsedKey(prefix=form[1], mode=form[2], secret=text)


def checksum(body: str) -> str:
    """The CRC-32 of ASCII `body` as 6 base62 digits, highest first, padded with 0."""
    rest = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(CHECKSUM_CHARS):
        rest, digit = divmod(rest, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
