"""`table_query`: what a query may do, what it may not, and what its values become."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libs.core.errors import FailureCode, StepFailed
from libs.core.json_schema import compile_schema
from services.executor.tools.child_process import ChildProcesses
from services.executor.tools.table_query import SPEC, TableQueryTool
from tests.executor_world import make_context
from tests.table_queries import ROWS, query, refusal


def value(expression: str) -> Any:
    return query(f"SELECT {expression} AS v")["rows"][0]["v"]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT a FROM t ORDER BY a DESC", [{"a": 2}, {"a": 1}]),
        ("FROM t ORDER BY a LIMIT 1 -- the first\n;", [{"a": 1, "b": "x"}]),
        ("WITH c AS (SELECT max(a) AS m FROM t) SELECT * FROM c", [{"m": 2}]),
        (
            "WITH RECURSIVE r AS (SELECT 1 n UNION SELECT 2 FROM r) SELECT max(n) m FROM r",
            [{"m": 2}],
        ),
        ("VALUES (1)", [{"col0": 1}]),
        ("SELECT x.a FROM T AS x JOIN t AS y ON x.a = y.a + 1", [{"a": 2}]),
        ("SELECT * FROM range(2)", [{"range": 0}, {"range": 1}]),
        ("SELECT row_number() OVER (ORDER BY a DESC) AS n FROM t ORDER BY n", [{"n": 1}, {"n": 2}]),
        ("SELECT [y + 1 FOR y IN [1, 2]] AS l", [{"l": [2, 3]}]),
        ("SELECT unnest([3, 4]) AS u", [{"u": 3}, {"u": 4}]),
        ("FROM t PIVOT (sum(a) FOR b IN ('x'))", [{"x": 1}]),
        ("SELECT a FROM t WHERE a IN (SELECT 2)", [{"a": 2}]),
        ("SELECT 1 AS a, 2 AS a", [{"a": 1, "a_1": 2}]),
        ("SELECT a FROM t WHERE false", []),
        (
            "SELECT pg_typeof(1) t, age(DATE '2026-01-03', DATE '2026-01-01') d",
            [{"t": "integer", "d": "2 days"}],
        ),
    ],
)
def test_a_query_is_answered(sql: str, rows: Any) -> None:
    answer = query(sql)

    assert answer["rows"] == rows
    assert compile_schema(SPEC.output_schema).accepts(answer)


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("NULL", None),
        ("true", True),
        ("9007199254740991", 9007199254740991),
        ("9007199254740992", "9007199254740992"),
        ("-(2::HUGEINT * 4611686018427387904)", "-9223372036854775808"),
        ("1.50::DECIMAL(5,2)", 1.5),
        ("2.00::DECIMAL(5,2)", 2),
        ("1234567890123456.7::DECIMAL(38,1)", "1234567890123456.7"),
        ("12345678901234567890.00::DECIMAL(38,2)", "12345678901234567890.00"),
        ("0.1::DOUBLE", 0.1),
        ("0.1::FLOAT", 0.10000000149011612),
        ("'nan'::DOUBLE", "NaN"),
        ("'inf'::DOUBLE", "Infinity"),
        ("'-inf'::DOUBLE", "-Infinity"),
        ("DATE '2026-01-31'", "2026-01-31"),
        ("'infinity'::DATE", "infinity"),
        ("TIME '12:00:00.5'", "12:00:00.5"),
        ("TIMESTAMP '2026-01-31 12:00:00'", "2026-01-31 12:00:00"),
        ("TIMESTAMP_NS '2026-01-01 00:00:00.123456789'", "2026-01-01 00:00:00.123456789"),
        ("TIMESTAMPTZ '2026-01-01 01:00:00+02'", "2025-12-31 23:00:00+00"),
        ("INTERVAL 1 MONTH", "1 month"),
        (r"'\x00\xFF'::BLOB", "AP8="),
        ("UUID '12345678-1234-1234-1234-123456789012'", "12345678-1234-1234-1234-123456789012"),
        ("'101'::BIT", "101"),
        ("'a'::ENUM('a', 'b')", "a"),
        ("[DATE '2026-01-31', NULL]", ["2026-01-31", None]),
        ("[1, 2]::INTEGER[2]", [1, 2]),
        (
            "{'x': 9007199254740992, 'y z': ['inf'::DOUBLE]}",
            {"x": "9007199254740992", "y z": ["Infinity"]},
        ),
        ("'{\"a\": [9007199254740992, null, 1.5]}'::JSON", {"a": ["9007199254740992", None, 1.5]}),
        ("map_entries(MAP {'k': 1})", [{"key": "k", "value": 1}]),
    ],
)
def test_values_become_json_without_loss(expression: str, shown: Any) -> None:
    found = value(expression)

    assert found == shown
    assert type(found) is type(shown)


@pytest.mark.parametrize("expression", ["MAP {1: 2}", "[MAP {1: 2}]", "union_value(k := 1)"])
def test_what_json_cannot_hold_is_refused_with_a_hint(expression: str) -> None:
    failed = refusal(f"SELECT {expression} AS v")

    assert failed.reason == "QUERY_TYPE"
    assert "map_entries()" in failed.message or "CAST" in failed.message


def test_rows_and_columns_keep_their_types() -> None:
    tables = {
        "t": {
            "rows": [{"i": 1, "f": 1.5, "s": "ü\x00", "n": {"x": [1]}, "m": 1}, {"m": "a"}],
            "columns": {"d": "DATE"},
        }
    }

    answer = query("FROM t", tables)

    assert {column["name"]: column["type"] for column in answer["columns"]} == {
        "i": "BIGINT",
        "f": "DOUBLE",
        "s": "VARCHAR",
        "n": "STRUCT(x BIGINT[])",
        "m": "JSON",
        "d": "DATE",
    }
    assert answer["rows"] == [
        {"i": 1, "f": 1.5, "s": "ü\x00", "n": {"x": [1]}, "m": 1, "d": None},
        {"i": None, "f": None, "s": None, "n": None, "m": "a", "d": None},
    ]


def test_declared_decimals_are_exact() -> None:
    tables = {"t": {"rows": [{"p": 0.1}, {"p": "0.2"}], "columns": {"p": "DECIMAL(10,2)"}}}

    assert query("SELECT sum(p) = 0.3 AS exact FROM t", tables)["rows"] == [{"exact": True}]


def test_odd_names_are_names() -> None:
    tables = {"select": {"rows": [{'a "b"; DROP': 1, "order": 2}]}}

    assert query('SELECT * FROM "select"', tables)["rows"] == [{'a "b"; DROP': 1, "order": 2}]


@pytest.mark.parametrize("name", ["answer", "pawl", "sqlite_master", "pg_class", "tables"])
def test_a_table_may_have_any_name(name: str) -> None:
    tables = {name: {"rows": [{"a": 1}]}}

    assert query(f"WITH answer_2 AS (FROM {name}) FROM answer_2", tables)["rows"] == [{"a": 1}]


@pytest.mark.parametrize("name", ["sum", "list", "string_agg"])
def test_an_aggregate_may_be_named(name: str) -> None:
    assert len(query(f"SELECT list_aggregate([1, 2], '{name}')")["rows"]) == 1


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"t": {"csv": "a\nx\n", "columns": {"a": "DATE"}}}, "table t: "),
        ({"t": {"rows": [{"a": 1}], "columns": {"a": "DECIMAL(2,5)"}}}, "table t: "),
        ({"t": {"rows": [{"a": 1}]}, "T": {"rows": [{"a": 1}]}}, "upper and lower case"),
    ],
)
def test_tables_that_are_none_are_refused(tables: Any, said: str) -> None:
    failed = refusal("SELECT 1", tables)

    assert (failed.code, failed.reason) == (FailureCode.TOOL_ERROR, "TABLE")
    assert said in failed.message


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELEC 1", "QUERY_SYNTAX"),
        ("SELECT x FROM t", "QUERY_SYNTAX"),
        ("SELECT a FROM u", "QUERY_SYNTAX"),
        ("SELECT nothing(a) FROM t", "QUERY_SYNTAX"),
        ("SELECT list_sort([2, 1], 'UPWARD')", "QUERY_SYNTAX"),
        ("SELECT CAST(b AS INTEGER) FROM t", "QUERY_TYPE"),
        ("SELECT error('no')", "QUERY_TYPE"),
        ("SELECT 9223372036854775807 + a FROM t", "QUERY_TYPE"),
        ("SELECT ? FROM t", "QUERY_TYPE"),
        ("SELECT " + "(" * 1500 + "1" + ")" * 1500, "QUERY_LIMIT"),
        ("SELECT " + "+".join("1" * 1500), "QUERY_LIMIT"),
        ("SELECT * FROM range(20000)", "QUERY_LIMIT"),
        ("SELECT repeat('x', 2000000)", "QUERY_LIMIT"),
        ("SELECT " + ", ".join(["1"] * 201), "QUERY_LIMIT"),
    ],
)
def test_a_query_that_fails_says_why(sql: str, reason: str) -> None:
    failed = refusal(sql)

    assert (failed.code, failed.reason) == (FailureCode.TOOL_ERROR, reason)


async def call(sql: str, tables: Any = None) -> Any:
    tool = TableQueryTool(ChildProcesses())
    return await tool.call({"tables": tables or ROWS, "query": sql}, make_context())


async def test_the_same_query_gives_the_same_answer_in_every_process() -> None:
    sql = (
        "SELECT i % 97 AS k, sum(i * 0.1::DOUBLE) AS s, list(i)[1:3] AS l "
        "FROM range(50000) r(i) GROUP BY k"
    )

    answers = await asyncio.gather(*(call(sql) for _ in range(3)))

    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]["rows"]) == 97


async def test_too_much_memory_fails_the_step_and_not_the_executor() -> None:
    with pytest.raises(StepFailed) as failed:
        await call("SELECT list(i) FROM range(1000000000) r(i)")

    assert failed.value.code == FailureCode.MEMORY_LIMIT


async def test_a_query_without_end_is_ended() -> None:
    endless = asyncio.create_task(
        call(
            "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range = b.range % 11"
        )
    )
    await asyncio.sleep(0)

    async with asyncio.timeout(5):
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless


def test_the_schema_is_closed_and_names_are_plain() -> None:
    schema = compile_schema(SPEC.input_schema)

    assert schema.accepts({"tables": {"a_1": {"csv": "a\n"}}, "query": "SELECT 1"})
    for tables in (
        {},
        {"a b": {"csv": "a\n"}},
        {"t": {"csv": "a\n", "rows": []}},
        {"t": {"csv": "a\n", "columns": {"a": "INTEGER); DROP"}}},
        {"t": {"csv": "a\n", "columns": {"a": "DECIMAL(39,2)"}}},
        {"t": {"rows": [1]}},
        {"t": {"csv": "a\n", "delimiter": "ab"}},
    ):
        assert not schema.accepts({"tables": tables, "query": "SELECT 1"})
