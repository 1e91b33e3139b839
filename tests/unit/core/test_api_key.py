"""The format of API keys."""

from __future__ import annotations

import pytest

from libs.core.api_key import ALPHABET, MODES, PREFIXES, checksum, make_key, parse_key

RANDOM = ALPHABET[:32]
KEY = make_key(prefix="pawl", mode="live", random_chars=RANDOM)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("mode", MODES)
def test_a_key_that_was_made_is_parsed(prefix: str, mode: str) -> None:
    made = make_key(prefix=prefix, mode=mode, random_chars=RANDOM)

    assert parse_key(made.secret) == made
    assert made.secret not in repr(made)


@pytest.mark.parametrize("place", range(len(KEY.secret)))
def test_one_changed_character_is_noticed(place: int) -> None:
    other = "x" if KEY.secret[place] != "x" else "y"

    assert parse_key(KEY.secret[:place] + other + KEY.secret[place + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "null", KEY.secret.upper(), KEY.secret + "\n", " " + KEY.secret]
)
def test_what_is_no_key_is_not_parsed(text: str) -> None:
    assert parse_key(text) is None


def test_the_checksum_is_crc32_in_base62() -> None:
    number = 0
    for digit in checksum("123456789"):
        number = number * 62 + ALPHABET.index(digit)

    assert number == 0xCBF43926
    assert checksum("") == "000000"


@pytest.mark.parametrize(
    ("prefix", "mode", "random_chars"),
    [
        ("sk", "live", RANDOM),
        ("pawl", "prod", RANDOM),
        ("pawl", "live", "a"),
        ("pawl", "live", "-" * 32),
    ],
)
def test_a_key_of_other_parts_is_not_made(prefix: str, mode: str, random_chars: str) -> None:
    with pytest.raises(ValueError, match="key"):
        make_key(prefix=prefix, mode=mode, random_chars=random_chars)
