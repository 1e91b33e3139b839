from __future__ import annotations

from pathlib import Path

import pytest

from libs.db.queries import Queries, load_queries


def load(tmp_path: Path, text: str) -> Queries:
    path = tmp_path / "queries.sql"
    path.write_text(text)
    return load_queries(path)


def test_block_has_name_purpose_and_parameters(tmp_path: Path) -> None:
    queries = load(
        tmp_path,
        "-- Head of the file.\n\n"
        "-- claim_task --\n-- Oldest due task,\n-- locked.\n-- system\n"
        "SELECT id FROM t\n  WHERE id = :id AND n < :n AND id <> :id;\n\n"
        "-- other --\n-- Another.\nSELECT 1;\n",
    )

    block = queries.block("claim_task")
    assert list(queries) == ["claim_task", "other"]
    assert queries["claim_task"] == (
        "SELECT id FROM t\nWHERE id = %(id)s AND n < %(n)s AND id <> %(id)s"
    )
    assert queries.purpose("claim_task") == "Oldest due task, locked."
    assert block.parameters == ("id", "n")
    assert block.raw == b"SELECT id FROM t\nWHERE id = $1 AND n < $2 AND id <> $1"
    assert block.bound({"n": 7, "id": "x", "other": 0}) == ["x", 7]
    assert block.is_system
    assert not queries.block("other").is_system


@pytest.mark.parametrize(
    ("written", "compiled"),
    [
        ("SELECT :a::text", "SELECT %(a)s::text"),
        ("SELECT CAST(:a AS text)", "SELECT CAST(%(a)s AS text)"),
        ("SELECT ':a', :b", "SELECT ':a', %(b)s"),
        ("SELECT 'it''s :a', :b", "SELECT 'it''s :a', %(b)s"),
        ("SELECT E'\\':a', :b", "SELECT E'\\':a', %(b)s"),
        ('SELECT ":a", :b', 'SELECT ":a", %(b)s'),
        ("SELECT $$:a$$, $x$:a$$:a$x$, :b", "SELECT $$:a$$, $x$:a$$:a$x$, %(b)s"),
        ("SELECT 7 % :b, 'x%'", "SELECT 7 %% %(b)s, 'x%%'"),
        ("SELECT 7 % 2, 'x%'", "SELECT 7 % 2, 'x%'"),
        ("SELECT 1 -- :a and 5 %\n, :b", "SELECT 1\n, %(b)s"),
        ("SELECT /* :a\n */ :b", "SELECT   %(b)s"),
        ("SELECT f(x := :b)", "SELECT f(x := %(b)s)"),
        ("SELECT 'two\n  lines', :b", "SELECT 'two\n  lines', %(b)s"),
        ("SELECT t.a1 - :b2_c", "SELECT t.a1 - %(b2_c)s"),
    ],
)
def test_only_parameters_are_translated(tmp_path: Path, written: str, compiled: str) -> None:
    assert load(tmp_path, f"-- q --\n-- Purpose.\n{written};\n")["q"] == compiled


def test_raw_text_keeps_percent_signs_and_literals(tmp_path: Path) -> None:
    written = "-- q --\n-- Purpose.\nSELECT 7 % :b, -- :c\n'x% :b';\n"

    assert load(tmp_path, written).block("q").raw == b"SELECT 7 % $1,\n'x% :b'"


def test_missing_parameter_is_named(tmp_path: Path) -> None:
    block = load(tmp_path, "-- q --\n-- Purpose.\nSELECT :a;").block("q")

    with pytest.raises(KeyError, match="a"):
        block.bound({"b": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1;", "no query"),
        ("-- q --\nSELECT 1;", "no purpose"),
        ("-- q --\n-- Purpose.\n", "no statement"),
        ("-- q --\n-- P.\nSELECT 1;\n-- q --\n-- P.\nSELECT 1;", "twice"),
    ],
)
def test_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, text)


def test_unknown_name_says_what_there_is(tmp_path: Path) -> None:
    queries = load(tmp_path, "-- q --\n-- Purpose.\nSELECT 1;")

    with pytest.raises(KeyError, match="has no query 'p'; it has q"):
        queries["p"]
