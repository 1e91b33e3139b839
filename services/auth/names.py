"""Checks of what callers write: names, labels, addresses, months, days, ids; each pure and total.

Nothing that passes here can be refused by the database for its form; what could (NUL, a surrogate,
a digit of another script, a year that PostgreSQL stores and Python cannot read) is refused here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from libs.core.errors import FieldError, PawlError
from libs.core.paging import Listing
from libs.core.tiers import TIERS
from services.auth.keys import MODES, PREFIXES
from services.auth.times import days_of, parse_day
from services.auth.wording import one_of, shown

LABEL_MAX_CHARS = 100
EMAIL_MAX_CHARS = 254
HIGHEST_NUMBER = 2**63 - 1
"""Of a row that is numbered by the database."""
MAX_DAYS_APART = 366
EXPIRY_BEFORE = datetime(9999, 1, 1, tzinfo=UTC)

_TENANT_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_LOCAL_PART = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}", re.ASCII)
_DOMAIN_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def check(*findings: Sequence[FieldError]) -> None:
    """Raise PawlError `validation_failed` with all findings, unless there are none."""
    errors = tuple(error for found in findings for error in found)
    if not errors:
        return
    fields = ", ".join(dict.fromkeys(error.field for error in errors))
    only = errors[0]
    message = f"{only.field}: {only.detail}" if len(errors) == 1 else f"not valid: {fields}"
    raise PawlError("validation_failed", message, errors=errors)


def parse_uuid(text: str) -> UUID | None:
    """The UUID that `text` spells with hyphens, or None. No braces, no urn, no blanks."""
    return UUID(text) if _UUID.fullmatch(text) else None


def row_number(listing: Listing, page_token: str) -> int:
    """The number of a row at which a page ended. PawlError `invalid_cursor`."""
    number = listing.keyset(page_token, kinds=(int,))[0]
    if not isinstance(number, int) or not 0 <= number <= HIGHEST_NUMBER:
        raise listing.refused()
    return number


def is_tenant_name(text: str) -> bool:
    """Whether a tenant can have this name. The text of a UUID cannot: it always means an id."""
    return _TENANT_NAME.fullmatch(text) is not None and parse_uuid(text) is None


def tenant_name_errors(text: str) -> list[FieldError]:
    """What is wrong with a tenant's name."""
    if is_tenant_name(text):
        return []
    allowed = "1 to 64 characters of a-z, 0-9 and -, beginning with a letter, not a UUID"
    return _invalid("name", f"{shown(text)} is not a tenant's name; it has {allowed}")


def tenant_ref_errors(text: str) -> list[FieldError]:
    """What is wrong with a tenant's name or id; empty means the caller's own and is fine."""
    if not text or is_tenant_name(text) or parse_uuid(text):
        return []
    return _invalid("tenant", f"{shown(text)} is neither a tenant's name nor its id")


def tier_errors(text: str) -> list[FieldError]:
    """What is wrong with a tier's name."""
    return _unknown("tier", text, tuple(TIERS))


def mode_errors(text: str) -> list[FieldError]:
    """What is wrong with a key's mode; empty means live and is fine."""
    return _unknown("mode", text, MODES) if text else []


def prefix_errors(text: str) -> list[FieldError]:
    """What is wrong with a key's prefix; empty means pawl and is fine."""
    return _unknown("prefix", text, PREFIXES) if text else []


def email_errors(text: str) -> list[FieldError]:
    """What is wrong with an e-mail address; empty is fine."""
    if not text:
        return []
    local, at, domain = text.rpartition("@")
    if (
        len(text) <= EMAIL_MAX_CHARS
        and at
        and _LOCAL_PART.fullmatch(local)
        and all(_DOMAIN_LABEL.fullmatch(label) for label in domain.split("."))
    ):
        return []
    allowed = f"name@domain in ASCII, at most {EMAIL_MAX_CHARS} characters"
    return _invalid("email", f"{shown(text)} is not an e-mail address; it is {allowed}")


def label_errors(text: str) -> list[FieldError]:
    """What is wrong with a key's label; empty is fine."""
    if len(text) > LABEL_MAX_CHARS:
        detail = f"it has {len(text)} characters; at most {LABEL_MAX_CHARS} are allowed"
        return [FieldError(field="name", code="too_long", detail=detail)]
    if any(unicodedata.category(char) in _FORBIDDEN_CATEGORIES for char in text):
        detail = "it has a control character or a line break; a label is one line of text"
        return [FieldError(field="name", code="invalid_characters", detail=detail)]
    return []


def expiry_errors(expires_at: datetime | None, *, now: datetime) -> list[FieldError]:
    """What is wrong with the end of a key's life; None means never and is fine."""
    if expires_at is None or now < expires_at < EXPIRY_BEFORE:
        return []
    detail = "it is not in the future" if expires_at <= now else "it is after the year 9998"
    return [FieldError(field="expires_at", code="out_of_range", detail=detail)]


def month_errors(text: str) -> list[FieldError]:
    """What is wrong with a month; empty means the current one and is fine."""
    if not text or days_of(text):
        return []
    return _invalid("month", f"{shown(text)} is not a month; it is written YYYY-MM")


def day_errors(field: str, text: str) -> list[FieldError]:
    """What is wrong with a day; empty means the default and is fine."""
    if not text or parse_day(text):
        return []
    return _invalid(field, f"{shown(text)} is not a day; it is written YYYY-MM-DD")


def days_errors(first: date, last: date) -> list[FieldError]:
    """What is wrong with days from `first` to `last`."""
    apart = (last - first).days
    if 0 <= apart <= MAX_DAYS_APART:
        return []
    if apart < 0:
        detail = f"{last} is before the first day, {first}"
    else:
        detail = f"{last} is {apart} days after the first day; at most {MAX_DAYS_APART} are allowed"
    return [FieldError(field="last_day", code="out_of_range", detail=detail)]


def _invalid(field: str, detail: str) -> list[FieldError]:
    return [FieldError(field=field, code="invalid_format", detail=detail)]


def _unknown(field: str, text: str, allowed: tuple[str, ...]) -> list[FieldError]:
    if text in allowed:
        return []
    detail = f"{shown(text)} is not allowed; {one_of(allowed)} are"
    return [FieldError(field=field, code="unknown_value", detail=detail)]
