"""`json_query`: a JMESPath query over JSON data."""

from __future__ import annotations

import asyncio
from typing import cast

from libs.core.canonical import Json
from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.tools.bounded_query import MAX_QUERY_LENGTH, search
from services.executor.tools.tool import ToolContext

SPEC = ToolSpec(
    name="json_query",
    version="1.0.0",
    description="Picks, filters and reshapes JSON data with a JMESPath query.",
    input_schema={
        "type": "object",
        "properties": {
            "data": {"description": "Any JSON."},
            "query": {
                "type": "string",
                "description": "JMESPath such as items[?price > `10`].name.",
                "minLength": 1,
                "maxLength": MAX_QUERY_LENGTH,
            },
        },
        "required": ["data", "query"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {"result": {"description": "What the query gives; null when nothing."}},
        "required": ["result"],
        "additionalProperties": False,
    },
    examples=(
        ToolExample(
            title="Names of what costs more than 10",
            input={
                "data": {"items": [{"name": "pen", "price": 2}, {"name": "lamp", "price": 30}]},
                "query": "items[?price > `10`].name",
            },
            output={"result": ["lamp"]},
        ),
        ToolExample(
            title="Another shape, with a count",
            input={"data": [{"id": 1}, {"id": 2}], "query": "{ids: [].id, count: length(@)}"},
            output={"result": {"ids": [1, 2], "count": 2}},
        ),
        ToolExample(
            title="What is not there is null",
            input={"data": {"a": 1}, "query": "b.c"},
            output={"result": None},
        ),
        ToolExample(
            title="A query that cannot be read fails the step",
            input={"data": {}, "query": "a["},
            failure_code="TOOL_ERROR",
        ),
    ),
)


class JsonQueryTool:
    """The tool `json_query`. It runs in a thread: a query within its bounds may take about a
    second.
    """

    spec = SPEC

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Query."""
        del context
        query = cast("str", arguments["query"])
        return {"result": await asyncio.to_thread(search, query, data=arguments["data"])}
