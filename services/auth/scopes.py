"""What a key may do, and which scopes one key may give to another."""

from __future__ import annotations

from collections.abc import Iterable

from libs.core.errors import FieldError
from services.auth.wording import one_of, shown

TASKS_READ = "tasks:read"
TASKS_WRITE = "tasks:write"
KEYS_READ = "keys:read"
KEYS_WRITE = "keys:write"
OPERATOR = "operator"

GRANTABLE = (TASKS_READ, TASKS_WRITE, KEYS_READ, KEYS_WRITE)
"""What a key made over the API may have, and what it has when nothing is asked for."""

ALL = (*GRANTABLE, OPERATOR)
"""What the key of the installation's operator has. Only bootstrap gives `operator`."""

_MAX_ERRORS = 10


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


def granted(asked: Iterable[str]) -> tuple[str, ...]:
    """The scopes of a new key, each once and in one order: those asked for, else all grantable."""
    wanted = set(asked)
    return tuple(scope for scope in GRANTABLE if not wanted or scope in wanted)


def missing(wanted: Iterable[str], *, held: frozenset[str]) -> tuple[str, ...]:
    """The scopes that a caller would give away without having them."""
    return tuple(scope for scope in wanted if scope not in held)
