"""Whether a query is one that may run: judged on the engine's own parse tree.

Allowed is what is listed; whatever the engine may learn to do besides stays refused. Of functions
those are refused that answer differently from run to run, or tell about the machine or the
engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from services.executor.tools.table_bounds import forbidden, syntax

_NODES = frozenset(
    {
        "SELECT_NODE",
        "SET_OPERATION_NODE",
        "RECURSIVE_CTE_NODE",
        "CTE_NODE",
        "BASE_TABLE",
        "SUBQUERY",
        "JOIN",
        "TABLE_FUNCTION",
        "EXPRESSION_LIST",
        "EMPTY",
        "PIVOT",
        "ORDER_MODIFIER",
        "LIMIT_MODIFIER",
        "LIMIT_PERCENT_MODIFIER",
        "DISTINCT_MODIFIER",
        "ORDER_DEFAULT",
        "ASCENDING",
        "DESCENDING",
    }
)
_TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})
_FUNCTIONS = frozenset(
    {
        "ago",
        "current_catalog",
        "current_connection_id",
        "current_database",
        "current_date",
        "current_localtime",
        "current_localtimestamp",
        "current_query",
        "current_query_id",
        "current_role",
        "current_schema",
        "current_schemas",
        "current_setting",
        "current_time",
        "current_timestamp",
        "current_transaction_id",
        "current_user",
        "currval",
        "gen_random_uuid",
        "get_block_size",
        "get_current_time",
        "get_current_timestamp",
        "getenv",
        "getvariable",
        "in_search_path",
        "json_serialize_plan",
        "localtime",
        "localtimestamp",
        "nextval",
        "now",
        "random",
        "reservoir_quantile",
        "session_user",
        "setseed",
        "setval",
        "sleep_ms",
        "stats",
        "today",
        "transaction_timestamp",
        "txid_current",
        "user",
        "uuid",
        "uuidv4",
        "uuidv7",
        "vector_type",
        "version",
        "write_log",
    }
)
_FUNCTION_PREFIXES = ("duckdb_", "has_", "inet_", "pg_", "pragma_")
_HARMLESS = frozenset({"pg_typeof"})
# They call the aggregate that their second argument names.
_BY_NAME = frozenset({"aggregate", "array_aggr", "array_aggregate", "list_aggr", "list_aggregate"})
# Written without brackets these are functions too, unless a table has such a column.
_BARE = frozenset(
    {
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "localtime",
        "localtimestamp",
        "session_user",
        "user",
    }
)


def check_statement(
    parsed: dict[str, Any], *, tables: Collection[str], own_views: Collection[str]
) -> None:
    """Judge what json_serialize_sql made of a query over these tables. Raises StepFailed.

    `own_views` are the engine's, which tell about the machine.
    """
    if parsed["error"]:
        message = parsed["error_message"]
        if parsed.get("error_type") == "not implemented":
            raise forbidden("only SELECT is allowed")
        raise syntax(str(message).splitlines()[0][:300])
    statements = parsed["statements"]
    if len(statements) != 1:
        raise forbidden(f"{len(statements)} statements; one SELECT is allowed")
    nodes = list(_nodes(statements[0]["node"]))
    named = {entry["key"].lower() for node in nodes for entry in _ctes(node)}
    # Where such a name does not reach, it would mean the engine's view.
    for name in sorted(named & {view.lower() for view in own_views}):
        raise forbidden(f"{name} is a name of the engine's own; name the WITH query otherwise")
    known = {name.lower() for name in tables} | named
    for node in nodes:
        _check_node(node, known)


def is_refused(function: str) -> bool:
    """Whether no query may call the function of that name."""
    name = function.lower()
    return name in _FUNCTIONS or (name.startswith(_FUNCTION_PREFIXES) and name not in _HARMLESS)


def _nodes(root: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree."""
    left = [root]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)


def _ctes(node: dict[str, Any]) -> list[dict[str, Any]]:
    held = node.get("cte_map")
    entries: list[dict[str, Any]] = held["map"] if isinstance(held, dict) else []
    return entries


def _check_node(node: dict[str, Any], known: Collection[str]) -> None:
    kind = node.get("type")
    if node.get("sample") is not None:
        raise forbidden("a sample differs from run to run")
    if node.get("class") in {"FUNCTION", "WINDOW"}:
        _check_function(node)
    elif node.get("class") == "COLUMN_REF":
        _check_column(node)
    elif "class" not in node and isinstance(kind, str):
        if kind not in _NODES:
            raise forbidden(f"{kind} is not allowed; one SELECT is")
        if kind == "BASE_TABLE":
            _check_table(node, known)
        if kind == "TABLE_FUNCTION":
            _check_table_function(node)


def _check_function(node: dict[str, Any]) -> None:
    name = node["function_name"].lower()
    arguments: list[dict[str, Any]] = node["arguments"]
    if name in _BY_NAME and len(arguments) > 1:
        name = _constant(arguments[1])
    if is_refused(name):
        raise forbidden(
            f"{name}() is not allowed: it depends on more than the tables; hand such values in"
        )
    if name == "age" and len(arguments) < 2:
        raise forbidden("age() with one time depends on today; give two")


def _constant(argument: dict[str, Any]) -> str:
    """The name that an argument is. Raises StepFailed for one that is worked out only later."""
    literal = argument["expression"].get("literal") or {}
    if argument["name"] or literal.get("kind") != "STRING":
        raise forbidden("the aggregate is named by a text as it stands, such as 'sum'")
    return str(literal["text"]).lower()


def _check_column(node: dict[str, Any]) -> None:
    names = node["column_names"]
    if len(names) == 1 and names[0].lower() in _BARE:
        raise forbidden(
            f"{names[0]} is not allowed: it depends on more than the tables; a column of that name "
            "is written table.column"
        )


def _check_table(node: dict[str, Any], known: Collection[str]) -> None:
    name = node["table_name"]
    if node["schema_name"] or node["catalog_name"] or name.lower() not in known:
        where = ".".join(part for part in (node["catalog_name"], node["schema_name"], name) if part)
        raise syntax(
            f"there is no table {where[:100]!r}; there are {', '.join(sorted(known))[:200]}"
        )


def _check_table_function(node: dict[str, Any]) -> None:
    called = node["function"]["function_name"].lower()
    if called not in _TABLE_FUNCTIONS:
        allowed = ", ".join(sorted(_TABLE_FUNCTIONS))
        raise forbidden(f"{called[:64]}() is not allowed as a table; {allowed} are")
