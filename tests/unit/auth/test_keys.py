"""The key format."""

from __future__ import annotations

import hashlib
import string
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.keys import ALPHABET, MODES, PREFIXES, checksum, make_key, parse_key

RANDOM = "abcdefghijklmnopqrstuvwxyz012345"
KEY = make_key(prefix="pawl", mode="live", random_chars=RANDOM)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("mode", MODES)
def test_made_key_parses_back(prefix: str, mode: str) -> None:
    made = make_key(prefix=prefix, mode=mode, random_chars=RANDOM)

    assert made.secret.startswith(f"{prefix}_{mode}_{RANDOM}")
    assert len(made.secret) == len(prefix) + len(mode) + 2 + 32 + 6
    assert parse_key(made.secret) == made
    assert made.hash == hashlib.sha256(made.secret.encode()).digest()
    assert made.last_four == made.secret[-4:]


def test_checksum_is_crc32_in_base62() -> None:
    body = f"pawl_live_{RANDOM}"
    value = 0
    for digit in checksum(body):
        value = value * 62 + ALPHABET.index(digit)

    assert value == zlib.crc32(body.encode())
    assert checksum("") == "000000"


def test_known_key_stays_as_it_is() -> None:
    """A recorded key: keys that people hold must stay good in every later release."""
    assert KEY.secret == "pawl_live_abcdefghijklmnopqrstuvwxyz0123450uHFAr"


@pytest.mark.parametrize("place", range(len(KEY.secret)))
def test_one_changed_character_is_refused(place: int) -> None:
    for char in string.ascii_letters + string.digits + "_-\x00é":
        changed = KEY.secret[:place] + char + KEY.secret[place + 1 :]

        assert (parse_key(changed) is None) == (changed != KEY.secret)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        KEY.secret.upper(),
        KEY.secret.lower(),
        KEY.secret + "\n",
        " " + KEY.secret,
        KEY.secret[:-1],
        KEY.secret + "0",
        KEY.secret.replace("pawl_", "pawl-"),
        KEY.secret.replace("live", "prod"),
        "sk" + KEY.secret[4:],
        KEY.secret.replace("0", "٠"),
        KEY.secret.replace("a", "ａ"),
        KEY.secret + "\x00",
        "\ud800" * 48,
        "a" * 1_000_000,
        KEY.secret * 2,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    assert parse_key(text) is None


@given(st.text())
def test_parsing_is_total(text: str) -> None:
    assert parse_key(text) is None


@given(st.text(alphabet=ALPHABET, min_size=32, max_size=32))
def test_every_random_part_makes_a_good_key(random_chars: str) -> None:
    made = make_key(prefix="ra", mode="test", random_chars=random_chars)

    assert parse_key(made.secret) == made


@pytest.mark.parametrize(
    ("prefix", "mode", "random_chars"),
    [
        ("sk", "live", RANDOM),
        ("pawl", "prod", RANDOM),
        ("pawl", "live", RANDOM[:-1]),
        ("pawl", "live", RANDOM[:-1] + "é"),
        ("pawl", "live", RANDOM + "0"),
    ],
)
def test_wrong_parts_make_no_key(prefix: str, mode: str, random_chars: str) -> None:
    with pytest.raises(ValueError, match=r"base62|begins"):
        make_key(prefix=prefix, mode=mode, random_chars=random_chars)


def test_repr_hides_the_secret() -> None:
    assert RANDOM not in repr(KEY)
