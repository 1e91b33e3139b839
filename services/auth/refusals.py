"""The refusals whose every word must be the same whatever the reason, so that they tell nothing."""

from __future__ import annotations

from uuid import UUID

from libs.core.errors import PawlError


def bad_key() -> PawlError:
    """For a key that is malformed, unknown, expired or revoked; which of them is not said."""
    return PawlError("unauthenticated", "the API key is not valid")


def another_tenant() -> PawlError:
    """For any tenant but the caller's own, whether it exists or not."""
    return PawlError("insufficient_scope", "another tenant needs the scope operator")


def no_such_key(key_id: UUID | None) -> PawlError:
    """For a key that does not exist and for another tenant's. None: what was sent is not an id."""
    detail = "that is not the id of a key" if key_id is None else f"there is no key {key_id}"
    return PawlError("not_found", detail)


def no_such_user(number: int) -> PawlError:
    """For a person who does not exist, was removed or is of another tenant."""
    return PawlError("not_found", f"there is no user {number}")
