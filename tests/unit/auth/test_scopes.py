"""Scopes asked for, granted and lacking."""

from __future__ import annotations

import pytest

from services.auth.scopes import ALL, GRANTABLE, OPERATOR, granted, missing, scope_errors


def test_grantable_is_all_but_operator() -> None:
    assert set(ALL) - set(GRANTABLE) == {OPERATOR}


@pytest.mark.parametrize("scope", GRANTABLE)
def test_every_grantable_scope_may_be_asked_for(scope: str) -> None:
    assert scope_errors([scope]) == []
    assert granted([scope, scope]) == (scope,)


def test_nothing_asked_means_all_grantable() -> None:
    assert granted([]) == GRANTABLE


def test_scopes_come_in_one_order() -> None:
    assert granted(reversed(GRANTABLE)) == GRANTABLE


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
