"""Cursors of lists of tasks: what they say, and to whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.lifecycle import TaskState
from services.scheduler.list_cursor import listing_of, place_of, token_of
from services.scheduler.list_model import BEGINNING, Place, TaskFilter
from services.scheduler.list_store import list_parameters

TENANT = UUID("01936b2e-0000-7000-8000-000000000001")
OTHER = UUID("01936b2e-0000-7000-8000-000000000002")
TASK = UUID("0193f9c8-0000-7000-8000-000000000001")
AT = datetime(2026, 11, 28, 12, 0, 0, 123457, tzinfo=UTC)
WANTED = TaskFilter(states=frozenset({TaskState.QUEUED}), created_from=AT, mode="live")


@pytest.mark.parametrize("at", [AT, datetime(1970, 1, 1, tzinfo=UTC), AT - timedelta(days=40_000)])
def test_place_comes_back_to_the_microsecond(at: datetime) -> None:
    listing = listing_of(TENANT, WANTED)

    assert place_of(listing, token_of(listing, Place(at, TASK))) == Place(at, TASK)


def test_no_cursor_is_the_beginning() -> None:
    assert place_of(listing_of(TENANT, WANTED), "") == BEGINNING


@pytest.mark.parametrize(
    ("tenant_id", "changes"),
    [
        (OTHER, {}),
        (TENANT, {"states": frozenset({TaskState.QUEUED, TaskState.RUNNING})}),
        (TENANT, {"states": frozenset(TaskState)}),
        (TENANT, {"created_from": None}),
        (TENANT, {"created_before": AT}),
        (TENANT, {"created_from": None, "created_before": AT}),
        (TENANT, {"agent_ids": frozenset({OTHER})}),
        (TENANT, {"agent_ids": frozenset()}),
        (TENANT, {"replay_of": TASK}),
        (TENANT, {"mode": "test"}),
        (TENANT, {"mode": None}),
    ],
)
def test_cursor_of_another_list_is_refused(tenant_id: UUID, changes: dict[str, object]) -> None:
    token = token_of(listing_of(TENANT, WANTED), Place(AT, TASK))

    with pytest.raises(PawlError) as refused:
        place_of(listing_of(tenant_id, replace(WANTED, **changes)), token)  # type: ignore[arg-type]

    assert refused.value.code == "invalid_cursor"


@pytest.mark.parametrize(
    "keyset",
    [
        (2**53 - 1, "nobody"),
        (2**63, str(TASK)),
        (10**30, str(TASK)),
        (-(10**30), str(TASK)),
        (1, 2),
        ("1", str(TASK)),
        (1,),
    ],
)
def test_cursor_that_somebody_made_up_is_refused(keyset: tuple[str | int, ...]) -> None:
    listing = listing_of(TENANT, WANTED)

    with pytest.raises(PawlError) as refused:
        place_of(listing, listing.token(keyset))

    assert refused.value.code == "invalid_cursor"


def test_what_is_bound_begins_at_the_older_of_cursor_and_bound() -> None:
    wanted = replace(WANTED, created_before=AT)
    older, newer = (Place(AT + timedelta(seconds=s), TASK) for s in (-1, 1))

    def begin(after: Place) -> tuple[object, object]:
        bound = list_parameters(TENANT, wanted, after=after, page_size=7)
        return bound["before_at"], bound["before_id"]

    assert begin(BEGINNING) == begin(newer) == begin(Place(AT, TASK)) == (AT, UUID(int=0))
    assert begin(older) == (older.created_at, TASK)


def test_parameters_name_every_state_and_mode_unless_some_are_wanted() -> None:
    every = list_parameters(TENANT, TaskFilter(), after=BEGINNING, page_size=7)
    some = list_parameters(TENANT, WANTED, after=BEGINNING, page_size=7)

    assert (every["states"], every["modes"]) == (sorted(TaskState), ["live", "test"])
    assert (every["agent_ids"], every["replay_of"], every["most"]) == (None, None, 8)
    assert (some["states"], some["modes"], some["created_from"]) == (["queued"], ["live"], AT)
