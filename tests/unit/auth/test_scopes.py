"""Scopes asked for, granted and lacking."""

from __future__ import annotations

from itertools import pairwise

import pytest

from services.auth.scopes import (
    ALL,
    ALLOWED,
    GRANTABLE,
    JOINABLE,
    OPERATOR,
    ROLES,
    beyond_role_errors,
    cut,
    granted,
    is_above,
    missing,
    role_errors,
    scope_errors,
)


def test_grantable_is_all_but_operator() -> None:
    assert set(ALL) - set(GRANTABLE) == {OPERATOR}


@pytest.mark.parametrize("scope", GRANTABLE)
def test_every_grantable_scope_may_be_asked_for(scope: str) -> None:
    assert scope_errors([scope]) == []
    assert granted([scope, scope], role="owner") == (scope,)


@pytest.mark.parametrize("role", ROLES)
def test_nothing_asked_means_all_that_the_role_allows(role: str) -> None:
    assert set(granted([], role=role)) == ALLOWED[role]


def test_scopes_come_in_one_order() -> None:
    assert granted(reversed(GRANTABLE), role="admin") == GRANTABLE


@pytest.mark.parametrize(
    ("role", "left"),
    [
        ("viewer", "tasks:read keys:read audit:read operator"),
        ("member", "tasks:read tasks:write keys:read audit:read operator"),
        ("admin", " ".join(ALL)),
        ("owner", " ".join(ALL)),
    ],
)
def test_role_cuts_the_scopes_of_a_key_and_leaves_operator(role: str, left: str) -> None:
    assert cut(reversed(ALL), role=role) == tuple(left.split())
    assert OPERATOR not in ALLOWED[role]


def test_higher_roles_allow_no_less() -> None:
    assert ROLES == ("viewer", "member", "admin", "owner")
    for lower, higher in pairwise(ROLES):
        assert ALLOWED[lower] <= ALLOWED[higher]
        assert is_above(higher, lower)
        assert not is_above(lower, higher)
    assert not is_above("admin", "admin")


def test_scopes_beyond_the_role_are_named() -> None:
    errors = beyond_role_errors(["tasks:read", "tasks:write", "keys:write"], role="viewer")

    assert [(error.field, error.code) for error in errors] == [
        ("scopes[1]", "invalid_value"),
        ("scopes[2]", "invalid_value"),
    ]
    assert "it allows tasks:read, keys:read and audit:read" in errors[0].detail
    assert beyond_role_errors(GRANTABLE, role="admin") == []


def test_owner_is_no_role_to_join_in() -> None:
    assert [error.field for error in role_errors("owner", allowed=JOINABLE)] == ["role"]
    assert [role_errors(role) for role in ROLES] == [[]] * 4
    assert "owner" in role_errors("root")[0].detail


def test_operator_cannot_be_asked_for() -> None:
    errors = scope_errors(["tasks:read", OPERATOR])

    assert [error.field for error in errors] == ["scopes[1]"]
    assert "first key" in errors[0].detail


@pytest.mark.parametrize("scope", ["", "tasks", "TASKS:READ", "tasks:read ", "tasks:read\x00", "*"])
def test_unknown_scope_is_named(scope: str) -> None:
    errors = scope_errors([scope])

    assert [(error.field, error.code) for error in errors] == [("scopes[0]", "unknown_value")]


def test_many_findings_are_cut() -> None:
    errors = scope_errors(["x" * 1_000_000] * 1000)

    assert len(errors) == 10
    assert all(len(error.detail) < 200 for error in errors)


def test_missing_names_what_the_giver_lacks() -> None:
    assert missing(("tasks:read", "keys:write"), held=frozenset({"tasks:read"})) == ("keys:write",)
    assert missing((), held=frozenset()) == ()
