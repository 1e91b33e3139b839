"""Runs the SQL of the planner and returns models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from libs.core.canonical import canonical_text, read_canonical
from libs.core.json_schema import compile_schema
from libs.core.tool_examples import example_from_json, example_json
from libs.core.tool_spec import Effect, ToolRef, ToolSpec
from libs.db.engine import Pool, transaction
from libs.db.queries import load_queries
from services.planner.model import CatalogTool

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTool:
    """A tool that was checked, with its digest."""

    digest: str
    spec: ToolSpec


class PlannerStore:
    """The schema `planner` of one database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read_catalog(self) -> dict[str, float]:
        """Every digest and for how many seconds it is still on offer; 0 when it is not."""
        rows = await self._read("read_catalog")
        return {row["digest"]: max(0.0, row["seconds_left"] or 0.0) for row in rows}

    async def read_tools(self, digests: Collection[str]) -> list[CatalogTool]:
        """The tools with these digests."""
        rows = await self._read("read_tools", digests=list(digests))
        return [_tool(row) for row in rows]

    async def register(
        self,
        tools: Sequence[NewTool],
        *,
        executor_id: str,
        boot_id: UUID,
        lifetime_seconds: float,
    ) -> datetime:
        """Note the offer of one boot of an executor, in place of what it offered; until when."""
        # Everyone inserts in the same order, so that two executors cannot block each other.
        ordered = sorted(tools, key=lambda tool: tool.digest)
        offer = {
            "executor_id": executor_id,
            "boot_id": boot_id,
            "digests": [tool.digest for tool in ordered],
        }
        async with transaction(self._pool) as tx:
            columns = _columns(ordered)
            await tx.execute(QUERIES["add_tools"], columns)
            await tx.execute(
                QUERIES["add_examples"], {key: columns[key] for key in ("digests", "examples")}
            )
            await tx.execute(QUERIES["drop_replaced"], offer)
            renewed = await tx.execute(
                QUERIES["renew_registrations"], offer | {"seconds": lifetime_seconds}
            )
            expires_at: datetime = min(row["expires_at"] for row in await renewed.fetchall())
            return expires_at

    async def withdraw(self, *, executor_id: str, boot_id: UUID) -> None:
        """End the offer of one boot of an executor, if there is one."""
        async with self._pool.connection() as connection:
            await connection.execute(
                QUERIES["withdraw"], {"executor_id": executor_id, "boot_id": boot_id}
            )

    async def _read(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERIES[name], parameters or None)
            return await cursor.fetchall()


def _columns(tools: Sequence[NewTool]) -> dict[str, list[str]]:
    return {
        "digests": [tool.digest for tool in tools],
        "names": [tool.spec.name for tool in tools],
        "versions": [tool.spec.version for tool in tools],
        "descriptions": [tool.spec.description for tool in tools],
        "input_schemas": [canonical_text(tool.spec.input_schema) for tool in tools],
        "output_schemas": [canonical_text(tool.spec.output_schema) for tool in tools],
        "effects": [",".join(tool.spec.effects) for tool in tools],
        "examples": [
            canonical_text([example_json(example) for example in tool.spec.examples])
            for tool in tools
        ],
    }


def _tool(row: dict[str, Any]) -> CatalogTool:
    input_schema, output_schema = (
        read_canonical(row[key]) for key in ("input_schema", "output_schema")
    )
    assert isinstance(input_schema, dict)  # noqa: S101 - it was checked when it was stored
    assert isinstance(output_schema, dict)  # noqa: S101 - it was checked when it was stored
    examples = read_canonical(row["examples"])
    assert isinstance(examples, list)  # noqa: S101 - it was checked when it was stored
    spec = ToolSpec(
        name=row["name"],
        version=row["version"],
        description=row["description"],
        input_schema=input_schema,
        output_schema=output_schema,
        effects=tuple(Effect(effect) for effect in row["effects"]),
        examples=tuple(example_from_json(example) for example in examples),
    )
    return CatalogTool(
        spec=spec,
        ref=ToolRef(spec.name, spec.version, row["digest"]),
        input_validator=compile_schema(spec.input_schema),
        registered_at=row["registered_at"],
    )
