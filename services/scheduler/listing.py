"""Use cases on many tasks: list and count those of a tenant."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from libs.core.paging import page_size_of
from libs.rpc.context import Caller, require_scope
from services.scheduler.list_cursor import listing_of, place_of, token_of
from services.scheduler.list_model import ListRequest, Place, TaskCounts, TaskFilter
from services.scheduler.list_store import ListStore
from services.scheduler.model import StoredTask
from services.scheduler.reach import is_bound
from services.scheduler.service import READ


class ListService:
    """Lists as callers see them; acts for the caller's tenant alone."""

    def __init__(self, store: ListStore) -> None:
        self._store = store

    async def page(
        self, caller: Caller, request: ListRequest
    ) -> tuple[tuple[StoredTask, ...], str]:
        """A page of tasks, newest first, and the token of the next one, empty after the last.

        A task that stood before the first page was read, and that the filter lets pass, is on
        exactly one page. One that was submitted after that is on none: it is newer than all that
        follows. PawlError invalid_cursor, validation_failed.
        """
        require_scope(caller, READ)
        page_size = page_size_of(request.page_size)
        wanted = within_reach(caller, request.wanted)
        listing = listing_of(caller.tenant_id, wanted)
        page = await self._store.page(
            caller.tenant_id,
            wanted,
            after=place_of(listing, request.page_token),
            page_size=page_size,
        )
        if page.is_last:
            return page.tasks, ""
        last = page.tasks[-1]
        return page.tasks, token_of(listing, Place(last.created_at, last.id))

    async def count(self, caller: Caller) -> TaskCounts:
        """How many of the tenant's tasks have not ended, of those that the key may see."""
        require_scope(caller, READ)
        agent_ids = within_reach(caller, TaskFilter()).agent_ids
        return await self._store.count(caller.tenant_id, agent_ids=agent_ids)


def within_reach(caller: Caller, wanted: TaskFilter) -> TaskFilter:
    """The filter, less the agents whose tasks the caller's key may not see; see reach.py."""
    if not is_bound(caller):
        return wanted
    texts = () if caller.allowed_task_ids is not None else caller.allowed_agent_ids or ()
    allowed = frozenset(UUID(text) for text in texts)
    asked = wanted.agent_ids
    return replace(wanted, agent_ids=allowed if asked is None else asked & allowed)
