"""Runs the SQL of artifact and returns models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from libs.core.lifecycle import TaskState
from libs.db.engine import Connection, Pool
from libs.db.queries import load_queries
from services.artifact.model import Artifact, ArtifactState, NewArtifact, Place, Settlement

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))


class ArtifactStore:
    """The schema `artifact` of one database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(
        self, new: NewArtifact, *, artifact_id: UUID, blob_key: str | None = None
    ) -> Artifact | None:
        """The artifact as stored, staged; None when its place is taken or its task not running.

        With a `blob_key` the row names the blob that holds the data, which is stored already.
        """
        row = await self._read(
            "put_artifact",
            **_place(new.place),
            id=artifact_id,
            type=new.type,
            data=new.content.data if blob_key is None else None,
            blob_key=blob_key,
            sha256=new.content.sha256,
            size_bytes=new.content.size_bytes,
        )
        return None if row is None else _artifact(row)

    async def at(self, place: Place) -> Artifact | None:
        """What stands at a place of this tenant, whatever its state."""
        row = await self._read("read_place", **_place(place))
        return None if row is None else _artifact(row)

    async def is_taken(self, place: Place) -> bool:
        """Whether anything stands at the place, of whichever tenant."""
        parameters = _place(place)
        del parameters["tenant_id"]
        row = await self._read("is_taken", **parameters)
        return row is not None and bool(row["is_taken"])

    async def read(self, artifact_id: UUID, *, tenant_id: UUID) -> Artifact | None:
        """One artifact of a tenant, whatever its state."""
        row = await self._read("read_artifact", id=artifact_id, tenant_id=tenant_id)
        return None if row is None else _artifact(row)

    async def list_available(
        self, task_id: UUID, *, tenant_id: UUID, after: tuple[int, int], count: int
    ) -> list[Artifact]:
        """At most `count` available artifacts from after (step, ordinal), without their data."""
        step_index, ordinal = after
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                QUERIES["list_available"],
                {
                    "task_id": task_id,
                    "tenant_id": tenant_id,
                    "step_index": step_index,
                    "ordinal": ordinal,
                    "count": count,
                },
            )
            return [_artifact(row) for row in await cursor.fetchall()]

    async def state_if_staged(self, task_id: UUID, *, tenant_id: UUID) -> TaskState | None:
        """The task's state by the event log; None when nothing of it is staged."""
        row = await self._read("state_if_staged", task_id=task_id, tenant_id=tenant_id)
        state = None if row is None else row["state"]
        return None if state is None else TaskState(state)

    async def settle(self, task_id: UUID, *, tenant_id: UUID, state: ArtifactState) -> int:
        """Make what is staged of a task available or discarded; how many."""
        settlement = Settlement(task_id=task_id, tenant_id=tenant_id, state=state)
        async with self._pool.connection() as connection:
            return await settle_in(connection, [settlement])

    async def _read(self, name: str, **parameters: object) -> dict[str, Any] | None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERIES[name], parameters)
            return await cursor.fetchone()


async def settle_in(tx: Connection, settlements: Sequence[Settlement]) -> int:
    """`ArtifactStore.settle` of many tasks on a connection, in its transaction if it has one."""
    values = {
        "task_ids": [one.task_id for one in settlements],
        "tenant_ids": [one.tenant_id for one in settlements],
        "states": [one.state.value for one in settlements],
    }
    cursor = await tx.execute(QUERIES["settle"], values)
    return cursor.rowcount


def _place(place: Place) -> dict[str, object]:
    return {
        "tenant_id": place.tenant_id,
        "task_id": place.task_id,
        "step_index": place.step_index,
        "ordinal": place.ordinal,
    }


def _artifact(row: dict[str, Any]) -> Artifact:
    place = Place(
        tenant_id=row["tenant_id"],
        task_id=row["task_id"],
        step_index=row["step_index"],
        ordinal=row["ordinal"],
    )
    return Artifact(
        id=row["id"],
        place=place,
        type=row["type"],
        sha256=row["sha256"],
        size_bytes=row["size_bytes"],
        state=ArtifactState(row["state"]),
        created_at=row["created_at"],
        data=row.get("data"),
        blob_key=row.get("blob_key"),
    )
