"""What no query of `table_query` may do, held by its check and by the engine's own settings."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from libs.core.errors import FailureCode
from services.executor.tools.table_engine import open_engine
from services.executor.tools.table_statement import is_refused
from tests.table_queries import query, refusal

# Differ between overloads: with a time zone they are only steady while that is, and here it is UTC.
STEADY = frozenset(
    [
        "+",
        "-",
        "age",
        "century",
        "date_diff",
        "date_part",
        "date_sub",
        "date_trunc",
        "datediff",
        "datepart",
        "datesub",
        "datetrunc",
        "day",
        "dayname",
        "dayofmonth",
        "dayofweek",
        "dayofyear",
        "decade",
        "era",
        "error",
        "generate_series",
        "hour",
        "isodow",
        "isoyear",
        "julian",
        "last_day",
        "make_timestamptz",
        "microsecond",
        "millennium",
        "millisecond",
        "minute",
        "month",
        "monthname",
        "quarter",
        "range",
        "second",
        "strftime",
        "time_bucket",
        "timezone",
        "timezone_hour",
        "timezone_minute",
        "week",
        "weekday",
        "weekofyear",
        "year",
        "yearweek",
    ]
)


READS = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_json_objects('/etc/passwd')",
    "SELECT * FROM read_ndjson_auto('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM parquet_scan('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM read_duckdb('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM '/etc/*.csv'",
    'SELECT * FROM "/etc/passwd"',
    "SELECT * FROM read_csv('https://example.com/a.csv')",
    "SELECT * FROM 's3://bucket/a.parquet'",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH c AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM c",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM json_execute_serialized_sql('{}')",
]
ACTS = [
    "COPY (SELECT 1) TO '{place}/out.csv'",
    "COPY t FROM '/etc/passwd'",
    "EXPORT DATABASE '{place}/out'",
    "IMPORT DATABASE '{place}'",
    "ATTACH '{place}/out.db'",
    "ATTACH ':memory:' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{place}/x.duckdb_extension'",
    "SET threads = 4",
    "SET enable_external_access = true",
    "RESET threads",
    "SET TimeZone = 'Europe/Berlin'",
    "SET VARIABLE x = 1",
    "PRAGMA threads = 4",
    "PRAGMA database_list",
    "CALL duckdb_settings()",
    "CREATE TABLE x (a INTEGER)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE VIEW x AS SELECT 1",
    "CREATE MACRO x() AS 1",
    "CREATE SECRET s (TYPE s3)",
    "CREATE PERSISTENT SECRET s (TYPE s3)",
    "CREATE FUNCTION x() AS 1",
    "INSERT INTO t VALUES (1, 'a')",
    "WITH c AS (INSERT INTO t VALUES (1, 'a') RETURNING a) SELECT * FROM c",
    "UPDATE t SET a = 1",
    "DELETE FROM t",
    "DROP TABLE t",
    "TRUNCATE t",
    "ALTER TABLE t ADD COLUMN c INTEGER",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "DESCRIBE t",
    "SUMMARIZE t",
    "SHOW TABLES",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "USE memory",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{place}/out.csv'",
    "",
    ";",
    "-- nothing",
]
UNSTEADY = [
    "random()",
    "RANDOM()",
    "now()",
    "today()",
    "uuid()",
    "gen_random_uuid()",
    "uuidv7()",
    "current_date",
    "current_timestamp",
    "current_time",
    "localtime",
    "localtimestamp",
    "get_current_timestamp()",
    "transaction_timestamp()",
    "age(TIMESTAMP '2020-01-01')",
    "ago(INTERVAL 1 DAY)",
    "current_user",
    "user",
    "current_setting('threads')",
    "getvariable('x')",
    "getenv('HOME')",
    "version()",
    "current_query()",
    "txid_current()",
    "pg_postmaster_start_time()",
    "pg_backend_pid()",
    "inet_client_addr()",
    "nextval('s')",
    "setseed(0.5)",
    "sleep_ms(10000)",
    "write_log('x')",
    "list_transform([1], x -> random())",
    "[1].list_transform(lambda x: x + random())",
    "(SELECT random())",
    "CASE WHEN true THEN now() END",
    "reservoir_quantile(1, 0.5)",
    "reservoir_quantile(a, 0.5) OVER ()",
    "list_aggregate([1, 2], 'reservoir_quantile', 0.5)",
    "[1, 2].list_aggr('RESERVOIR_QUANTILE', 0.5)",
    "array_aggr([1, 2], b)",
    "json_serialize_plan('SELECT current_setting(''threads'')', optimize := true)",
    "row_number() OVER (ORDER BY random())",
    "system.main.random()",
]


@pytest.mark.parametrize("sql", [*READS, *ACTS])
def test_nothing_but_a_query_over_the_tables_runs(sql: str, tmp_path: Path) -> None:
    failed = refusal(sql.replace("{place}", str(tmp_path)))

    assert failed.code == FailureCode.TOOL_ERROR
    assert failed.reason in {"QUERY_FORBIDDEN", "QUERY_SYNTAX"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sql", READS)
def test_the_engine_itself_reads_nothing_from_outside(sql: str) -> None:
    with pytest.raises(duckdb.Error):
        open_engine().execute(sql).fetchall()


def test_a_file_named_like_a_query_of_with_is_not_read() -> None:
    failed = refusal(
        'WITH x AS (FROM "/etc/passwd.csv"), y AS (WITH "/etc/passwd.csv" AS (SELECT 1) SELECT 1) '
        "FROM x"
    )

    assert (failed.code, failed.reason) == (FailureCode.TOOL_ERROR, "QUERY_FORBIDDEN")
    assert "passwd" not in failed.message


def test_the_engine_itself_writes_nothing_and_cannot_be_set(tmp_path: Path) -> None:
    engine = open_engine()
    for sql in ACTS[:17]:
        if "VARIABLE" in sql or ":memory:" in sql or "database_list" in sql or "CALL" in sql:
            continue
        with pytest.raises(duckdb.Error):
            engine.execute(sql.replace("{place}", str(tmp_path)))

    assert list(tmp_path.iterdir()) == []


def test_variables_of_python_are_no_tables() -> None:
    secrets = [{"a": 1}]  # noqa: F841 - what a replacement scan would look for

    with pytest.raises(duckdb.CatalogException):
        open_engine().execute("SELECT * FROM secrets")
    assert refusal("SELECT * FROM secrets").reason == "QUERY_SYNTAX"


@pytest.mark.parametrize("expression", UNSTEADY)
def test_what_differs_between_runs_is_refused(expression: str) -> None:
    failed = refusal(f"SELECT {expression} AS v FROM t")

    assert failed.reason == "QUERY_FORBIDDEN"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t TABLESAMPLE 50%",
        "SELECT * FROM t USING SAMPLE 1",
        "SELECT * FROM t USING SAMPLE reservoir(1 ROWS) REPEATABLE (1)",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM pragma_version()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM duckdb_tables",
        "SELECT * FROM pg_class",
        "SELECT * FROM sqlite_master",
        "WITH x AS (FROM sqlite_master), y AS (WITH sqlite_master AS (SELECT 1) SELECT 1) FROM x",
        "WITH x AS (FROM DUCKDB_LOGS), duckdb_logs AS (SELECT 1) FROM x",
        "WITH x AS (FROM pg_class), y AS (WITH Pg_Class AS (SELECT 1) SELECT 1) FROM x",
        "SELECT * FROM memory.main.t",
        "SELECT * FROM test_all_types()",
        "SELECT * FROM t WHERE a IN (SELECT random())",
        "SELECT a FROM t ORDER BY random()",
        "SELECT a FROM t LIMIT (SELECT (random() * 2)::BIGINT)",
        "SELECT count(*) FILTER (WHERE random() > 0.5) FROM t",
        "SELECT * REPLACE (random() AS a) FROM t",
    ],
)
def test_samples_and_what_the_engine_knows_of_itself_are_refused(sql: str) -> None:
    assert refusal(sql).reason in {"QUERY_FORBIDDEN", "QUERY_SYNTAX"}


def test_every_function_that_the_engine_calls_unsteady_is_refused_or_known() -> None:
    found = open_engine().execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
    )

    names = {name for (name,) in found.fetchall()}
    assert {name for name in names if not is_refused(name)} == STEADY


def test_a_column_that_is_named_like_a_function_can_be_asked_for() -> None:
    tables = {"t": {"rows": [{"user": "ada"}]}}

    assert query("SELECT t.user FROM t", tables)["rows"] == [{"user": "ada"}]
