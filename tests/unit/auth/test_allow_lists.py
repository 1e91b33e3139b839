"""Lists of agents and definitions: spelled, inherited, never widened."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.auth.allow_lists import (
    AGENTS,
    DEFINITIONS,
    beyond,
    given_or_own,
    list_errors,
    texts_of,
)

ONE = UUID("0199d2a0-4c11-7a3b-9d52-8b6f0e1c7a55")
TWO = UUID("0199d2a0-4c11-7a3b-9d52-8b6f0e1c7a66")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (AGENTS, str(ONE)),
        (AGENTS, str(ONE).upper()),
        (AGENTS, f"agent_{ONE}"),
        (AGENTS, f"agent_{ONE.hex}"),
        (DEFINITIONS, str(ONE)),
        (DEFINITIONS, f"task_{ONE.hex}"),
    ],
)
def test_an_id_may_be_spelled_as_elsewhere(field: str, text: str) -> None:
    assert list_errors(field, [text]) == []
    assert given_or_own(field, [text, str(ONE)], own=None) == (ONE,)


@pytest.mark.parametrize(
    "text", ["", "x", ONE.hex, f"{{{ONE}}}", f"urn:uuid:{ONE}", f"task_{ONE}", f" {ONE}", "\x00"]
)
def test_what_is_no_id_is_named_by_its_place(text: str) -> None:
    errors = list_errors(AGENTS, [str(ONE), text])

    assert [(error.field, error.code) for error in errors] == [
        ("allowed_agent_ids[1]", "invalid_format")
    ]


def test_a_list_has_at_most_100_ids() -> None:
    assert list_errors(AGENTS, [str(ONE)] * 100) == []
    [error] = list_errors(DEFINITIONS, ["x" * 1_000_000] * 101)
    assert (error.field, error.code) == ("allowed_task_ids", "out_of_range")
    assert len(list_errors(AGENTS, ["x"] * 100)) == 10


def test_absent_means_the_own_list_and_empty_means_none() -> None:
    own = frozenset({str(ONE)})

    assert given_or_own(AGENTS, None, own=own) == (ONE,)
    assert given_or_own(AGENTS, None, own=None) is None
    assert given_or_own(AGENTS, [], own=own) == ()


@pytest.mark.parametrize(
    ("wanted", "own", "outside"),
    [
        (None, None, ""),
        ((ONE, TWO), None, ""),
        ((), frozenset[str](), ""),
        ((ONE,), frozenset({str(ONE), str(TWO)}), ""),
        ((ONE, TWO), frozenset({str(ONE)}), str(TWO)),
        (None, frozenset({str(ONE)}), "all"),
        ((ONE,), frozenset[str](), str(ONE)),
    ],
)
def test_a_list_is_never_wider_than_the_own_one(
    wanted: tuple[UUID, ...] | None, own: frozenset[str] | None, outside: str
) -> None:
    assert beyond(wanted, own=own) == outside


def test_tokens_carry_canonical_texts() -> None:
    assert texts_of((ONE,)) == frozenset({str(ONE)})
    assert texts_of(()) == frozenset()
    assert texts_of(None) is None
