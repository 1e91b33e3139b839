"""All SQL that lists and counts tasks, on a pool of its own: it may take longer than the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from libs.core.api_key import MODES
from libs.db.engine import Pool
from libs.db.fetch import fetch
from libs.db.queries import load_queries
from services.scheduler.list_model import (
    BEGINNING,
    Place,
    TaskCounts,
    TaskFilter,
    TaskPage,
)
from services.scheduler.rows import stored_task

QUERIES = load_queries(Path(__file__).parent / "list_queries.sql")

PAGE_BYTES = 2**20
"""A page is full when its inputs, results and messages have so many bytes together."""
_ALWAYS = "-infinity"


class ListStore:
    """Lists of tasks, each read in one statement: it shows one committed moment."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, tenant_id: UUID, wanted: TaskFilter, *, after: Place = BEGINNING, page_size: int
    ) -> TaskPage:
        """Tasks of the tenant that come after a place, at most `page_size` and about 1 MiB."""
        rows = await self._rows(
            "list_tasks", list_parameters(tenant_id, wanted, after=after, page_size=page_size)
        )
        found = rows[0]["found"] if rows else 0
        return TaskPage(tasks=tuple(stored_task(row) for row in rows), is_last=found <= len(rows))

    async def count(
        self, tenant_id: UUID, *, agent_ids: frozenset[UUID] | None = None
    ) -> TaskCounts:
        """How many tasks of the tenant, or of these agents, have not ended."""
        agents = None if agent_ids is None else sorted(agent_ids)
        (row,) = await self._rows("count_tasks", {"tenant_id": tenant_id, "agent_ids": agents})
        return TaskCounts(waiting=row["waiting"], running=row["running"])

    async def _rows(self, name: str, parameters: Mapping[str, Any]) -> list[DictRow]:
        async with self._pool.connection() as connection:
            return await fetch(connection, QUERIES.block(name), parameters)


def list_parameters(
    tenant_id: UUID, wanted: TaskFilter, *, after: Place, page_size: int
) -> dict[str, object]:
    """Everything that the statement `list_tasks` binds."""
    before = after
    if wanted.created_before is not None:
        # No id is less than this one: all of that very moment are left out.
        before = min(after, Place(wanted.created_before, UUID(int=0)))
    return {
        "tenant_id": tenant_id,
        "states": sorted(state.value for state in wanted.states),
        "modes": list(MODES) if wanted.mode is None else [wanted.mode],
        "created_from": _ALWAYS if wanted.created_from is None else wanted.created_from,
        "before_at": before.created_at,
        "before_id": before.task_id,
        "agent_ids": None if wanted.agent_ids is None else sorted(wanted.agent_ids),
        "replay_of": wanted.replay_of,
        "page_size": page_size,
        "most": page_size + 1,
        "most_bytes": PAGE_BYTES,
    }
