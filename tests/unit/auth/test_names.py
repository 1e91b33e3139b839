"""What callers may write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.errors import FieldError, PawlError
from services.auth import names
from services.auth.wording import one_of, shown

NOW = datetime(2026, 5, 1, tzinfo=UTC)
A_UUID = "0198a000-0000-7000-8000-000000000000"
HOSTILE = [
    "\x00",
    "a\x00b",
    "\ud800",
    "a" * 1_000_000,
    "é",
    "١٢٣",
    "a b",
    "a\n",
    "\u2028",
    "'; DROP TABLE auth.tenants; --",
    "../../etc/passwd",
    "%s%n{0}",
]


@pytest.mark.parametrize("name", ["a", "default", "a-b-9", "z" * 64, "a-"])
def test_tenant_name_allowed(name: str) -> None:
    assert names.tenant_name_errors(name) == []
    assert names.tenant_ref_errors(name) == []


@pytest.mark.parametrize(
    "name",
    ["", "A", "9a", "-a", "a_b", "a" * 65, "ａ", "a0000000-0000-7000-8000-000000000000", *HOSTILE],
)
def test_tenant_name_refused(name: str) -> None:
    errors = names.tenant_name_errors(name)

    assert [error.field for error in errors] == ["name"]
    assert len(errors[0].detail) < 300


@pytest.mark.parametrize("ref", ["", "default", A_UUID, A_UUID.upper()])
def test_tenant_ref_allowed(ref: str) -> None:
    assert names.tenant_ref_errors(ref) == []


@pytest.mark.parametrize("ref", ["{" + A_UUID + "}", "urn:uuid:" + A_UUID, A_UUID + " ", *HOSTILE])
def test_tenant_ref_refused(ref: str) -> None:
    assert [error.field for error in names.tenant_ref_errors(ref)] == ["tenant"]


@pytest.mark.parametrize("text", ["", A_UUID[:-1], A_UUID + "0", A_UUID.replace("-", ""), "٠" * 36])
def test_only_hyphenated_uuids_are_ids(text: str) -> None:
    assert names.parse_uuid(text) is None


@pytest.mark.parametrize("tier", ["free", "starter", "pro", "enterprise"])
def test_tier_allowed(tier: str) -> None:
    assert names.tier_errors(tier) == []


@pytest.mark.parametrize(
    ("check", "field", "empty_is_fine"),
    [
        (names.tier_errors, "tier", False),
        (names.mode_errors, "mode", True),
        (names.prefix_errors, "prefix", True),
        (names.email_errors, "email", True),
        (names.month_errors, "month", True),
    ],
)
@pytest.mark.parametrize("text", ["", "FREE", "Live", *HOSTILE])
def test_words_of_no_list_are_refused(
    check: Callable[[str], list[FieldError]], field: str, empty_is_fine: bool, text: str
) -> None:
    expected = [] if empty_is_fine and not text else [field]

    assert [error.field for error in check(text)] == expected


@pytest.mark.parametrize("text", ["pawl", "atx", "ra"])
def test_prefix_allowed(text: str) -> None:
    assert names.prefix_errors(text) == []


@pytest.mark.parametrize("text", ["live", "test"])
def test_mode_allowed(text: str) -> None:
    assert names.mode_errors(text) == []


@pytest.mark.parametrize("text", ["a@b", "default@localhost", "x.y+z@mail.example.org"])
def test_email_allowed(text: str) -> None:
    assert names.email_errors(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "@b",
        "a@",
        "a@b@c",
        "a@b..c",
        "a@-b",
        "a@b-",
        "a@b\r\nBcc: c@d",
        "a@bé",
        "a b@c",
        f"a@{'b' * 64}",
        "a" * 65 + "@b",
        f"a@{'.'.join(['b' * 50] * 6)}",
        "@" * 1_000_000,
    ],
)
def test_email_refused(text: str) -> None:
    assert [error.code for error in names.email_errors(text)] == ["invalid_format"]


@pytest.mark.parametrize("text", ["", "CI", "Ключ 🔑", "x" * 100, "a\u200db", "'; --"])
def test_label_allowed(text: str) -> None:
    assert names.label_errors(text) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x" * 101, "too_long"),
        ("x" * 1_000_000, "too_long"),
        ("\x00", "invalid_characters"),
        ("a\nb", "invalid_characters"),
        ("\x1b[31m", "invalid_characters"),
        ("\x85", "invalid_characters"),
        ("\u2028", "invalid_characters"),
        ("\ud800", "invalid_characters"),
    ],
)
def test_label_refused(text: str, code: str) -> None:
    assert [error.code for error in names.label_errors(text)] == [code]


@pytest.mark.parametrize(
    "expires_at", [None, NOW + timedelta(microseconds=1), datetime(9998, 12, 31, tzinfo=UTC)]
)
def test_expiry_allowed(expires_at: datetime | None) -> None:
    assert names.expiry_errors(expires_at, now=NOW) == []


@pytest.mark.parametrize(
    ("expires_at", "word"),
    [(NOW, "future"), (datetime(1, 1, 1, tzinfo=UTC), "future"), (names.EXPIRY_BEFORE, "9998")],
)
def test_expiry_refused(expires_at: datetime, word: str) -> None:
    errors = names.expiry_errors(expires_at, now=NOW)

    assert [(error.field, error.code) for error in errors] == [("expires_at", "out_of_range")]
    assert word in errors[0].detail


@pytest.mark.parametrize("month", ["", "2026-01", "2026-12", "0001-01", "9999-12"])
def test_month_allowed(month: str) -> None:
    assert names.month_errors(month) == []


@pytest.mark.parametrize(
    "month", ["2026-00", "2026-13", "2026-1", "26-01", "2026-01-01", "٢٠٢٦-٠١", "0000-01"]
)
def test_month_refused(month: str) -> None:
    assert [error.field for error in names.month_errors(month)] == ["month"]


@pytest.mark.parametrize("day", ["", "2026-01-31", "2024-02-29", "0001-01-01", "9999-12-31"])
def test_day_allowed(day: str) -> None:
    assert names.day_errors("first_day", day) == []


@pytest.mark.parametrize(
    "day",
    [
        "2026-02-29",
        "2026-1-1",
        "20260101",
        "2026-W01-1",
        "2026-01-01T00",
        "0000-01-01",
        "٢٠٢٦-٠١-٠١",
    ],
)
def test_day_refused(day: str) -> None:
    assert [error.field for error in names.day_errors("last_day", day)] == ["last_day"]


@pytest.mark.parametrize("apart", [0, 366])
def test_days_allowed(apart: int) -> None:
    first = date(2026, 5, 1)

    assert names.days_errors(first, first + timedelta(days=apart)) == []


@pytest.mark.parametrize(("apart", "said"), [(-1, "before the first day"), (367, "at most 366")])
def test_days_refused(apart: int, said: str) -> None:
    first = date(2026, 5, 1)

    (error,) = names.days_errors(first, first + timedelta(days=apart))

    assert error.field == "last_day"
    assert said in error.detail


def test_check_passes_without_findings() -> None:
    names.check([], [])


def test_check_raises_one_finding_in_its_own_words() -> None:
    with pytest.raises(PawlError) as refused:
        names.check([], [FieldError(field="a", code="x", detail="it is odd")])

    assert refused.value.code == "validation_failed"
    assert refused.value.message == "a: it is odd"


def test_check_raises_all_findings_together() -> None:
    odd = FieldError(field="a", code="x", detail="odd")
    even = FieldError(field="b", code="x", detail="even")

    with pytest.raises(PawlError) as refused:
        names.check([odd], [even, odd])

    assert refused.value.errors == (odd, even, odd)
    assert refused.value.message == "not valid: a, b"


@given(st.text())
def test_checks_are_total_and_quote_in_ascii(text: str) -> None:
    checks = (
        names.tenant_name_errors,
        names.tenant_ref_errors,
        names.tier_errors,
        names.mode_errors,
        names.prefix_errors,
        names.email_errors,
        names.label_errors,
        names.month_errors,
        partial(names.day_errors, "first_day"),
    )
    for check in checks:
        for error in check(text):
            assert error.detail.replace("…", "").isprintable()
            assert error.detail.replace("…", "").isascii()


def test_shown_is_short_and_plain() -> None:
    assert shown("a\x00\x1bé") == r"'a\x00\x1b\xe9'"
    assert shown("x" * 40) == f"'{'x' * 40}'"
    assert shown("x" * 41) == f"'{'x' * 40}'… (41 characters)"
    assert shown("\ud800") == r"'\ud800'"


def test_one_of_reads_well() -> None:
    assert one_of(["a"]) == "a"
    assert one_of(["a", "b", "c"]) == "a, b and c"
