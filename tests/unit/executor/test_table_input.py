"""Tables as they are given: rows and CSV to typed columns."""

from __future__ import annotations

from typing import Any

import pytest

from libs.core.errors import StepFailed
from services.executor.tools.table_bounds import MAX_COLUMNS, MAX_ROWS
from services.executor.tools.table_input import read_table


def kinds(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    table = read_table("t", {"rows": list(rows), **more})
    return {column.name: column.cast or column.kind for column in table.columns}


def csv_rows(text: str, **more: Any) -> list[dict[str, Any]]:
    return read_table("t", {"csv": text, **more}).rows


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, -5], "BIGINT"),
        ([2**63], "HUGEINT"),
        ([10**50], "DOUBLE"),
        ([1, 2.5], "DOUBLE"),
        ([True, False], "BOOLEAN"),
        (["a", None], "VARCHAR"),
        ([None], "VARCHAR"),
        ([1, "a"], "JSON"),
        ([True, 1], "JSON"),
        ([[1], [2.5], []], ["DOUBLE"]),
        ([[], None], ["VARCHAR"]),
        ([{"x": 1}, {"y": ["a"]}], {"x": "BIGINT", "y": ["VARCHAR"]}),
        ([{}], "JSON"),
        ([{"x": 1, "X": 2}], "JSON"),
        ([{f"m{n}": n for n in range(201)}], "JSON"),
        ([[1], {"x": 1}], "JSON"),
    ],
)
def test_a_type_follows_from_the_values(values: list[Any], kind: Any) -> None:
    assert kinds(*({"a": value} for value in values)) == {"a": kind}


def test_deep_nesting_becomes_json() -> None:
    value: Any = 1
    for _ in range(100):
        value = [value]

    kind = kinds({"a": value})["a"]

    assert str(kind).count("[") == 20
    assert "JSON" in str(kind)


def test_rows_get_every_column_and_structs_every_member() -> None:
    table = read_table("t", {"rows": [{"a": {"x": 1}}, {"b": 2}, {"a": {"y": 3}}]})

    assert table.rows == [
        {"a": {"x": 1, "y": None}, "b": None},
        {"a": None, "b": 2},
        {"a": {"x": None, "y": 3}, "b": None},
    ]


def test_declared_columns_are_cast_from_text() -> None:
    given = {"rows": [{"a": 1.10, "b": True}], "columns": {"a": "DECIMAL(10,2)", "c": "DATE"}}

    table = read_table("t", given)

    assert {column.name: column.cast for column in table.columns} == {
        "a": "DECIMAL(10,2)",
        "b": None,
        "c": "DATE",
    }
    assert table.rows == [{"a": "1.1", "b": True, "c": None}]


def test_a_table_without_rows_has_the_columns_that_are_declared() -> None:
    assert kinds(columns={"a": "BIGINT"}) == {"a": "BIGINT"}


def test_cells_are_read_as_they_are_written() -> None:
    text = 'i,f,b,zip,text,empty\n1,1.5,true,007,"a ""b"", c",\n-2,3,FALSE,12,"x\ny",\n'

    assert csv_rows("\ufeff" + text) == [
        {"i": 1, "f": 1.5, "b": True, "zip": "007", "text": 'a "b", c', "empty": None},
        {"i": -2, "f": 3.0, "b": False, "zip": "12", "text": "x\ny", "empty": None},
    ]


@pytest.mark.parametrize(
    "cell", ["1e999", "nan", "inf", "0x1", "1_000", "١", "+1", " 1", "1.", "-"]
)
def test_what_is_not_written_like_a_number_is_text(cell: str) -> None:
    assert csv_rows(f"a\n{cell}\n") == [{"a": cell}]


def test_another_delimiter_is_taken() -> None:
    assert csv_rows("a;b\n1;2,5\n", delimiter=";") == [{"a": 1, "b": "2,5"}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rows": []}, "no rows; name its columns"),
        ({"csv": ""}, "no rows"),
        ({"rows": [{"a": 1, "A": 2}]}, "two columns named 'A'"),
        ({"rows": [{" ": 1}]}, "a column's name is"),
        ({"rows": [{"a\x00": 1}]}, "a column's name is"),
        ({"csv": "a,a\n1,2\n"}, "two columns of one name"),
        ({"csv": "a,b\n1\n"}, "line 2 has 1 cells"),
        ({"csv": 'a\n"1\n'}, "no CSV"),
        ({"csv": 'a\n"1"2\n'}, "no CSV"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(given: Any, said: str) -> None:
    with pytest.raises(StepFailed, match=said) as failed:
        read_table("t", given)

    assert failed.value.reason == "TABLE"
    assert "table t" in failed.value.message


@pytest.mark.parametrize(
    "given",
    [
        {"rows": [{f"c{n}": n for n in range(MAX_COLUMNS + 1)}]},
        {"rows": [{}] * (MAX_ROWS + 1)},
        {"csv": "a\n" + "1\n" * (MAX_ROWS + 1)},
    ],
)
def test_tables_are_bounded(given: Any) -> None:
    with pytest.raises(StepFailed) as failed:
        read_table("t", given)

    assert failed.value.reason == "QUERY_LIMIT"
