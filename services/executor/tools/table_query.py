"""`table_query`: one SQL query over tables that come as JSON rows or as CSV.

DuckDB answers it in a process of its own, without files, network, extensions and settings, in one
thread. What would differ between runs (random(), now(), samples ...) is refused. Failures are
TOOL_ERROR with the reason QUERY_SYNTAX (it cannot be read, or names what is not there),
QUERY_TYPE (a value does not fit), QUERY_LIMIT, QUERY_FORBIDDEN or TABLE (a table is none);
MEMORY_LIMIT and TIMEOUT.
"""

from __future__ import annotations

from libs.core.canonical import Json
from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.tools.child_process import ChildLimits, ChildProcesses
from services.executor.tools.table_bounds import (
    COLUMN_TYPE_PATTERN,
    DELIMITERS,
    MAX_COLUMNS,
    MAX_QUERY_LENGTH,
    MAX_RESULT_BYTES,
    MAX_RESULT_ROWS,
    MAX_TABLES,
    TABLE_NAME_PATTERN,
)
from services.executor.tools.tool import ToolContext

LIMITS = ChildLimits(
    seconds=30, cpu_seconds=15, memory_bytes=1536 * 2**20, answer_bytes=2 * MAX_RESULT_BYTES
)

_COLUMNS: dict[str, Json] = {
    "type": "object",
    "description": (
        "Types of columns, by name; those of the others follow from the values. BOOLEAN, BIGINT, "
        "HUGEINT, DOUBLE, DECIMAL(p,s), VARCHAR, DATE, TIME, TIMESTAMP, TIMESTAMPTZ or JSON."
    ),
    "maxProperties": MAX_COLUMNS,
    "additionalProperties": {"type": "string", "pattern": COLUMN_TYPE_PATTERN},
}

SPEC = ToolSpec(
    name="table_query",
    version="1.0.0",
    description="Answers one SQL query (DuckDB) over tables given as JSON rows or CSV.",
    input_schema={
        "type": "object",
        "properties": {
            "tables": {
                "type": "object",
                "description": "Tables by name: letters, digits and _.",
                "minProperties": 1,
                "maxProperties": MAX_TABLES,
                "propertyNames": {"pattern": TABLE_NAME_PATTERN},
                "additionalProperties": {
                    "description": "Has either rows or csv.",
                    "oneOf": [
                        {
                            "type": "object",
                            "properties": {
                                "rows": {
                                    "type": "array",
                                    "description": "Objects; a key that is missing is NULL.",
                                    "items": {"type": "object"},
                                },
                                "columns": _COLUMNS,
                            },
                            "required": ["rows"],
                            "additionalProperties": False,
                        },
                        {
                            "type": "object",
                            "properties": {
                                "csv": {
                                    "type": "string",
                                    "description": "Names in the first line; empty is NULL.",
                                },
                                "delimiter": {"enum": list(DELIMITERS), "default": ","},
                                "columns": _COLUMNS,
                            },
                            "required": ["csv"],
                            "additionalProperties": False,
                        },
                    ],
                },
            },
            "query": {
                "type": "string",
                "description": "One SELECT. Rows have an order only by ORDER BY.",
                "minLength": 1,
                "maxLength": MAX_QUERY_LENGTH,
            },
        },
        "required": ["tables", "query"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {
            "columns": {
                "type": "array",
                "description": "Names and types of the columns, in order.",
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "type": {"type": "string"}},
                    "required": ["name", "type"],
                    "additionalProperties": False,
                },
                "maxItems": MAX_COLUMNS,
            },
            "rows": {"type": "array", "items": {"type": "object"}, "maxItems": MAX_RESULT_ROWS},
        },
        "required": ["columns", "rows"],
        "additionalProperties": False,
    },
    examples=(
        ToolExample(
            title="Totals by customer",
            input={
                "tables": {
                    "orders": {
                        "rows": [
                            {"customer": "ada", "amount": 10},
                            {"customer": "bob", "amount": 7.5},
                            {"customer": "ada", "amount": 2},
                        ]
                    }
                },
                "query": (
                    "SELECT customer, sum(amount) AS total FROM orders "
                    "GROUP BY customer ORDER BY total DESC"
                ),
            },
            output={
                "columns": [
                    {"name": "customer", "type": "VARCHAR"},
                    {"name": "total", "type": "DOUBLE"},
                ],
                "rows": [{"customer": "ada", "total": 12}, {"customer": "bob", "total": 7.5}],
            },
        ),
        ToolExample(
            title="CSV joined with rows, with exact decimals and dates",
            input={
                "tables": {
                    "sales": {
                        "csv": "day,item,price\n2026-01-05,1,0.10\n2026-01-06,2,0.20\n",
                        "columns": {"price": "DECIMAL(10,2)", "day": "DATE"},
                    },
                    "items": {"rows": [{"id": 1, "name": "pen"}, {"id": 2, "name": "ink"}]},
                },
                "query": (
                    "SELECT name, price * 3 AS price, day + 30 AS due FROM sales "
                    "JOIN items ON id = item ORDER BY id"
                ),
            },
            output={
                "columns": [
                    {"name": "name", "type": "VARCHAR"},
                    {"name": "price", "type": "DECIMAL(18,2)"},
                    {"name": "due", "type": "DATE"},
                ],
                "rows": [
                    {"name": "pen", "price": 0.3, "due": "2026-02-04"},
                    {"name": "ink", "price": 0.6, "due": "2026-02-05"},
                ],
            },
        ),
        ToolExample(
            title="What differs between runs is refused",
            input={"tables": {"t": {"rows": [{"a": 1}]}}, "query": "SELECT now(), a FROM t"},
            failure_code="TOOL_ERROR",
        ),
    ),
)


class TableQueryTool:
    """The tool `table_query`."""

    spec = SPEC

    def __init__(self, children: ChildProcesses) -> None:
        self._children = children

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Query."""
        return await self._children.run(
            "services.executor.tools.table_engine", arguments, limits=LIMITS, context=context
        )
