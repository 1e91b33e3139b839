"""Page tokens: what comes back, and what is refused."""

from __future__ import annotations

import base64

import pytest

from libs.core.errors import PawlError
from libs.core.paging import Listing, page_size_of

KEYS = Listing(name="keys", bound_to=("tenant-a",))


def test_token_gives_back_its_keyset() -> None:
    token = KEYS.token(("2026-01-01T00:00:00Z", 7))

    assert KEYS.keyset(token, kinds=(str, int)) == ("2026-01-01T00:00:00Z", 7)


def test_token_is_plain_url_text() -> None:
    token = KEYS.token(("ü\u0000\U0001f600" * 20,))

    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert KEYS.keyset(token, kinds=(str,)) == ("ü\u0000\U0001f600" * 20,)


@pytest.mark.parametrize(
    "other",
    [
        Listing(name="tenants", bound_to=("tenant-a",)),
        Listing(name="keys", bound_to=("tenant-b",)),
        Listing(name="keys"),
        Listing(name="keys", bound_to=("tenant-a", "filter")),
        Listing(name="keys", bound_to=("tenant-a",), signing_key=b"k" * 32),
    ],
)
def test_token_of_another_list_is_refused(other: Listing) -> None:
    token = other.token(("x",))

    with pytest.raises(PawlError) as refused:
        KEYS.keyset(token, kinds=(str,))

    assert refused.value.code == "invalid_cursor"
    assert [error.field for error in refused.value.errors] == ["page_token"]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "\x00",
        "AAAA",
        "=",
        "a",
        "!" * 40,
        "ＡＡＡＡ" * 10,
        "\ud800" * 20,
        "A" * 2000,
        "A" * 1_000_000,
        "AAAA AAAA AAAA AAAA AAAA AAAA",
        "AAAA\nAAAAAAAAAAAAAAAAAAAAAAAA",
    ],
)
def test_junk_is_refused(token: str) -> None:
    with pytest.raises(PawlError) as refused:
        KEYS.keyset(token, kinds=(str,))

    assert refused.value.code == "invalid_cursor"


def test_every_changed_character_is_refused() -> None:
    token = KEYS.token(("b",))

    for place, char in enumerate(token):
        changed = token[:place] + ("A" if char != "A" else "B") + token[place + 1 :]
        with pytest.raises(PawlError):
            KEYS.keyset(changed, kinds=(str,))


@pytest.mark.parametrize("tail", ["=", "==", "A", " ", "\n"])
def test_another_spelling_of_a_token_is_refused(tail: str) -> None:
    token = KEYS.token(("b",))

    with pytest.raises(PawlError):
        KEYS.keyset(token + tail, kinds=(str,))


def test_unused_low_bits_are_not_another_spelling() -> None:
    token = KEYS.token(("bc",))
    while len(token) % 4 == 0:
        token = KEYS.token(("b" * len(token),))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sibling = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert base64.urlsafe_b64decode(sibling + "=" * (-len(sibling) % 4)) == raw

    with pytest.raises(PawlError):
        KEYS.keyset(sibling, kinds=(str,))


@pytest.mark.parametrize("kinds", [(), (int,), (str, str), (str, int)])
def test_members_of_other_kinds_are_refused(kinds: tuple[type[str | int], ...]) -> None:
    with pytest.raises(PawlError):
        KEYS.keyset(KEYS.token(("a",)), kinds=kinds)


def test_another_version_is_refused() -> None:
    payload = b'[2,"a"]'
    forged = base64.urlsafe_b64encode(KEYS._tag(payload) + payload).rstrip(b"=").decode()

    with pytest.raises(PawlError):
        KEYS.keyset(forged, kinds=(str,))


@pytest.mark.parametrize("payload", [b"{}", b"[]", b"nonsense", b"\xff", b"[" * 400])
def test_a_payload_that_is_no_keyset_is_refused(payload: bytes) -> None:
    forged = base64.urlsafe_b64encode(KEYS._tag(payload) + payload).rstrip(b"=").decode()

    with pytest.raises(PawlError):
        KEYS.keyset(forged, kinds=(str,))


def test_signing_key_decides() -> None:
    signed = Listing(name="tasks", signing_key=b"a" * 32, field="cursor")
    elsewhere = Listing(name="tasks", signing_key=b"b" * 32, field="cursor")

    assert signed.keyset(signed.token((1,)), kinds=(int,)) == (1,)
    with pytest.raises(PawlError) as refused:
        signed.keyset(elsewhere.token((1,)), kinds=(int,))
    assert refused.value.errors[0].field == "cursor"
    assert "aaaa" not in repr(signed)


@pytest.mark.parametrize(("asked", "rows"), [(0, 50), (1, 1), (200, 200)])
def test_page_size_allowed(asked: int, rows: int) -> None:
    assert page_size_of(asked) == rows


@pytest.mark.parametrize("asked", [-1, 201, 2**31 - 1, -(2**31)])
def test_page_size_refused(asked: int) -> None:
    with pytest.raises(PawlError) as refused:
        page_size_of(asked)

    assert refused.value.code == "validation_failed"
    assert refused.value.errors[0].field == "page_size"
    assert str(asked) in refused.value.message
