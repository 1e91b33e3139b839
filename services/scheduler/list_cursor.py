"""Cursors of lists of tasks: a place in the list, bound to tenant and filter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from libs.core.ids import parse_id
from libs.core.paging import Listing
from services.scheduler.list_model import BEGINNING, Place, TaskFilter

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def listing_of(tenant_id: UUID, wanted: TaskFilter) -> Listing:
    """The list that a tenant reads with this filter; a cursor of another one is refused."""
    agents = wanted.agent_ids
    bound_to = (
        str(tenant_id),
        ",".join(sorted(wanted.states)),
        _said(wanted.created_from),
        _said(wanted.created_before),
        "any" if agents is None else ",".join(sorted(str(agent) for agent in agents)),
        str(wanted.replay_of or ""),
        wanted.mode or "",
    )
    return Listing(name="tasks", bound_to=bound_to)


def token_of(listing: Listing, place: Place) -> str:
    """The cursor after a place."""
    return listing.token(((place.created_at - _EPOCH) // _MICROSECOND, str(place.task_id)))


def place_of(listing: Listing, token: str) -> Place:
    """The place that a cursor says; an empty one: before the newest. PawlError invalid_cursor."""
    if not token:
        return BEGINNING
    microseconds, text = listing.keyset(token, kinds=(int, str))
    task_id = parse_id(str(text))
    if task_id is None:
        raise listing.refused()
    try:
        created_at = _EPOCH + int(microseconds) * _MICROSECOND
    except OverflowError as error:
        raise listing.refused() from error
    return Place(created_at, task_id)


def _said(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).isoformat()
