"""What keys may do: scopes, the roles that bound them, and what one caller may give to another.

A key does what its scopes say, as far as the role of its user allows that at the time.
"""

from __future__ import annotations

from collections.abc import Iterable

from libs.core.errors import FieldError
from libs.rpc import context
from services.auth.wording import one_of, shown

TASKS_READ = "tasks:read"
TASKS_WRITE = "tasks:write"
KEYS_READ = "keys:read"
KEYS_WRITE = "keys:write"
USERS_READ = "users:read"
USERS_WRITE = "users:write"
AUDIT_READ = "audit:read"
OPERATOR = context.OPERATOR

GRANTABLE = (
    TASKS_READ,
    TASKS_WRITE,
    KEYS_READ,
    KEYS_WRITE,
    USERS_READ,
    USERS_WRITE,
    AUDIT_READ,
)
"""What a key made over the API may have."""

ALL = (*GRANTABLE, OPERATOR)
"""What the key of the installation's operator has. Only bootstrap gives `operator`."""

OWNER = "owner"
ADMIN = "admin"
MEMBER = "member"
VIEWER = "viewer"

ALLOWED: dict[str, frozenset[str]] = {
    VIEWER: frozenset({TASKS_READ, KEYS_READ, AUDIT_READ}),
    MEMBER: frozenset({TASKS_READ, TASKS_WRITE, KEYS_READ, AUDIT_READ}),
    ADMIN: frozenset(GRANTABLE),
    OWNER: frozenset(GRANTABLE),
}
"""Role → the scopes that keys of its users can have, the lowest role first. docs/accounts.md has
the same table for people.

Nobody may act on a role above their own, so an admin differs from the owner in this alone: the
owner is changed, and the tenant handed over, by the owner or the operator only. `operator` is in no
row: no role gives it, and none takes it away.
"""

ROLES = tuple(ALLOWED)
JOINABLE = (ADMIN, MEMBER, VIEWER)
"""The roles in which a person is added. An owner comes with the tenant, or by hand-over."""

_MAX_ERRORS = 10


def cut(held: Iterable[str], *, role: str) -> tuple[str, ...]:
    """What is left of a key's scopes when its user has this role, in one order."""
    scopes = set(held)
    allowed = ALLOWED[role] | {OPERATOR}
    return tuple(scope for scope in ALL if scope in scopes and scope in allowed)


def is_above(role: str, than: str) -> bool:
    """Whether one role is higher than another."""
    return ROLES.index(role) > ROLES.index(than)


def scope_errors(asked: Iterable[str]) -> list[FieldError]:
    """What is wrong with the scopes asked for, at most ten findings."""
    errors: list[FieldError] = []
    for index, scope in enumerate(asked):
        if scope in GRANTABLE:
            continue
        if scope == OPERATOR:
            detail = "operator cannot be asked for; only the installation's first key has it"
        else:
            detail = f"{shown(scope)} is not a scope; {one_of(GRANTABLE)} are"
        errors.append(FieldError(field=f"scopes[{index}]", code="unknown_value", detail=detail))
        if len(errors) == _MAX_ERRORS:
            break
    return errors


def role_errors(text: str, *, allowed: tuple[str, ...] = ROLES) -> list[FieldError]:
    """What is wrong with the role asked for."""
    if text in allowed:
        return []
    detail = f"{shown(text)} is not allowed; {one_of(allowed)} are"
    return [FieldError(field="role", code="unknown_value", detail=detail)]


def beyond_role_errors(asked: Iterable[str], *, role: str) -> list[FieldError]:
    """The scopes asked for that no key of a user with this role can have."""
    possible = one_of(cut(GRANTABLE, role=role))
    return [
        FieldError(
            field=f"scopes[{index}]",
            code="invalid_value",
            detail=f"the role {role} does not allow {scope}; it allows {possible}",
        )
        for index, scope in enumerate(asked)
        if scope not in ALLOWED[role]
    ][:_MAX_ERRORS]


def granted(asked: Iterable[str], *, role: str) -> tuple[str, ...]:
    """The scopes of a new key, each once and in one order: those asked for, else all that the role
    of its user allows.
    """
    return cut(set(asked) or GRANTABLE, role=role)


def missing(wanted: Iterable[str], *, held: frozenset[str]) -> tuple[str, ...]:
    """The scopes that a caller would give away without having them."""
    return tuple(scope for scope in wanted if scope not in held)
