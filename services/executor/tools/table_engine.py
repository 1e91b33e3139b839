"""Answers one request of `table_query` with DuckDB; runs in a child process (see child.py)."""

from __future__ import annotations

import json
from typing import Any

import duckdb

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from services.executor.tools.table_bounds import (
    MAX_COLUMNS,
    MAX_RESULT_BYTES,
    MAX_RESULT_ROWS,
    MEMORY_BYTES,
    bad_table,
    forbidden,
    limit,
    syntax,
    wrong_type,
)
from services.executor.tools.table_input import Table, read_table
from services.executor.tools.table_output import carried_type, json_value, quoted
from services.executor.tools.table_statement import check_statement

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": "1",
    "async_threads": "1",
    "memory_limit": f"{MEMORY_BYTES}B",
    "temp_directory": "",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
_FETCHED_ROWS = 500
_TOO_DEEP = "Max expression depth"
# No table can have this name.
_ANSWER = 'pawl."the answer"'
_OWN_VIEWS = (
    "SELECT view_name FROM duckdb_views() WHERE internal AND schema_name IN ('main', 'pg_catalog')"
)


def run(request: dict[str, Any]) -> Json:
    """The output of the tool. Raises StepFailed."""
    connection = open_engine()
    try:
        tables = [read_table(name, given) for name, given in request["tables"].items()]
        _check_names(tables)
        _check_query(connection, request["query"], tables)
        for table in tables:
            _load(connection, table)
        return _answer(connection, request["query"])
    except (duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException) as error:
        if _TOO_DEEP in str(error):
            raise limit("the query is nested too deeply") from error
        raise syntax(_first_line(error)) from error
    except duckdb.NotSupportedError as error:
        raise syntax(_first_line(error)) from error
    except duckdb.PermissionException as error:
        # The engine's own words may hold paths of the machine.
        raise forbidden("the query reaches for files or settings") from error
    except duckdb.OutOfMemoryException as error:
        raise StepFailed(
            FailureCode.MEMORY_LIMIT, "the query needs more memory than it may use"
        ) from error
    except (duckdb.DataError, duckdb.InvalidInputException) as error:
        raise wrong_type(_first_line(error)) from error
    except RecursionError as error:
        raise limit("the query or a value is nested too deeply") from error


def open_engine() -> duckdb.DuckDBPyConnection:
    """An empty database in memory that reaches nothing outside and cannot be set otherwise."""
    connection = duckdb.connect(":memory:", config=_CONFIG)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _check_names(tables: list[Table]) -> None:
    names = {table.name.lower() for table in tables}
    if len(names) < len(tables):
        raise bad_table("two tables have names that differ only in upper and lower case")


def _check_query(connection: duckdb.DuckDBPyConnection, query: str, tables: list[Table]) -> None:
    found = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    assert found is not None  # noqa: S101 - a SELECT without FROM has one row
    tree: dict[str, Any] = json.loads(found[0])
    if _TOO_DEEP in tree.get("error_message", ""):
        raise limit("the query is nested too deeply")
    views = [name for (name,) in connection.execute(_OWN_VIEWS).fetchall()]
    check_statement(tree, tables=[table.name for table in tables], own_views=views)


def _load(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    columns = ", ".join(
        f"CAST(r.{quoted(c.name)} AS {c.cast}) AS {quoted(c.name)}"
        if c.cast
        else f"r.{quoted(c.name)}"
        for c in table.columns
    )
    structure = json.dumps([{column.name: column.kind for column in table.columns}])
    rows = json.dumps(table.rows, allow_nan=False)
    try:
        connection.execute(
            f"CREATE TABLE {quoted(table.name)} AS SELECT {columns} "  # noqa: S608 - names are quoted, types are from a list
            "FROM (SELECT unnest(from_json_strict(?::VARCHAR, ?)) AS r)",
            [rows, structure],
        )
    except (duckdb.BinderException, duckdb.DataError, duckdb.InvalidInputException) as error:
        raise bad_table(f"table {table.name}: {_first_line(error)}") from error


def _answer(connection: duckdb.DuckDBPyConnection, query: str) -> Json:
    connection.execute("CREATE SCHEMA pawl")
    connection.execute(f"CREATE VIEW {_ANSWER} AS {query}")
    shown = connection.execute(f"FROM {_ANSWER} LIMIT 0").description or []
    if len(shown) > MAX_COLUMNS:
        raise limit(f"the result has {len(shown)} columns; {MAX_COLUMNS} are allowed")
    carried = ", ".join(
        f"CAST({quoted(name)} AS {carried_type(kind, column=name)}) AS {quoted(name)}"
        for name, kind, *_ in shown
    )
    result = connection.execute(f"SELECT {carried} FROM {_ANSWER}")  # noqa: S608 - names are quoted
    columns: list[Json] = [{"name": name, "type": str(kind)} for name, kind, *_ in shown]
    return {"columns": columns, "rows": _rows(result)}


def _rows(result: duckdb.DuckDBPyConnection) -> list[Json]:
    described = result.description or []
    rows: list[Json] = []
    size_bytes = 0
    while fetched := result.fetchmany(_FETCHED_ROWS):
        for values in fetched:
            row: Json = {
                name: json_value(value, kind)
                for (name, kind, *_), value in zip(described, values, strict=True)
            }
            size_bytes += len(json.dumps(row, ensure_ascii=False).encode())
            rows.append(row)
        if len(rows) > MAX_RESULT_ROWS:
            raise limit(f"the result has more than {MAX_RESULT_ROWS} rows; aggregate or LIMIT it")
        if size_bytes > MAX_RESULT_BYTES:
            raise limit(f"the result has more than {MAX_RESULT_BYTES} bytes; aggregate or LIMIT it")
    return rows


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0][:300]
