"""Opaque page tokens: where a page ended, bound to the list that it came from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from libs.core.canonical import canonical, read_canonical
from libs.core.errors import PawlError, field_error

VERSION = 1
TOKEN_MAX_CHARS = 1024
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
_TAG_BYTES = 12

Keyset = tuple[str | int, ...]
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One list that is read page by page: its name, and what its tokens are bound to (tenant,
    filter).

    A token of another list, tenant or filter is refused as `invalid_cursor`. Without a
    `signing_key` that
    guards against mistakes only, which is enough where the query binds the tenant itself; a caller
    who may
    not choose a keyset of their own needs a key that all instances share. `field` is the name of
    the
    request's field, for the refusal.
    """

    name: str
    bound_to: tuple[str, ...] = ()
    signing_key: bytes = field(default=b"", repr=False)
    field: str = "page_token"

    def token(self, keyset: Sequence[str | int]) -> str:
        """The token of a page whose last row has this keyset."""
        payload = canonical([VERSION, *keyset])
        return base64.urlsafe_b64encode(self._tag(payload) + payload).rstrip(b"=").decode()

    def page(
        self, found: Sequence[Row], *, count: int, keyset_of: Callable[[Row], Sequence[str | int]]
    ) -> tuple[tuple[Row, ...], str]:
        """The first `count` of the rows, and the token of the next page, empty after the last.

        `found` holds one row more than a page where there is another page.
        """
        page = tuple(found[:count])
        return page, self.token(keyset_of(page[-1])) if len(found) > count else ""

    def keyset(self, token: str, *, kinds: Sequence[type[str | int]]) -> Keyset:
        """The keyset of a token that `token` made, its members of these kinds.

        Raises PawlError `invalid_cursor` for anything else: a changed or foreign token, another
        version,
        other members.
        """
        raw = _decode(token) if len(token) <= TOKEN_MAX_CHARS else None
        if raw is None:
            raise self.refused()
        payload = raw[_TAG_BYTES:]
        # The tag is checked before the payload is read, so what is parsed below was written by
        # `token`.
        if not hmac.compare_digest(raw[:_TAG_BYTES], self._tag(payload)):
            raise self.refused()
        try:
            version, *keyset = _members(payload)
        except (ValueError, RecursionError) as error:
            raise self.refused() from error
        if version != VERSION or [type(member) for member in keyset] != list(kinds):
            raise self.refused()
        return tuple(keyset)

    def _tag(self, payload: bytes) -> bytes:
        about = canonical([self.name, *self.bound_to])
        message = len(about).to_bytes(4, "big") + about + payload
        return hmac.digest(self.signing_key, message, hashlib.sha256)[:_TAG_BYTES]

    def refused(self) -> PawlError:
        """The refusal of a token whose keyset no row of this list can have."""
        detail = "it is not the token of a page of this list; leave it out to begin again"
        return field_error("invalid_cursor", self.field, detail)


def page_size_of(asked: int, *, field: str = "page_size") -> int:
    """Rows per page: 0 means 50, and 1 to 200 is allowed. Raises PawlError `validation_failed`."""
    if asked == 0:
        return DEFAULT_PAGE_SIZE
    if not 1 <= asked <= MAX_PAGE_SIZE:
        detail = f"{asked} is not a page size; 1 to {MAX_PAGE_SIZE} are allowed"
        raise field_error("validation_failed", field, detail, fine="out_of_range")
    return asked


def _decode(token: str) -> bytes | None:
    """The bytes of unpadded base64url text in its one canonical spelling, else None."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    spelled = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return raw if spelled == token and len(raw) > _TAG_BYTES else None


def _members(payload: bytes) -> list[str | int]:
    value = read_canonical(payload)
    if not isinstance(value, list) or not value:
        raise ValueError("a keyset is an array that begins with its version")
    return value
