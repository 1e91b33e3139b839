"""Tables as they are given (rows or CSV) to columns with types and rows of plain values.

A column's type follows from its values: BOOLEAN, BIGINT, HUGEINT (beyond 64 bits), DOUBLE, VARCHAR;
lists and structs of these; JSON where kinds mix. A cell of a CSV is a number if it is written like
one (a leading zero makes it text), true or false, NULL when it is empty, else text. A column with
a declared type comes as text and is cast by the engine.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.executor.tools.table_bounds import (
    MAX_COLUMNS,
    MAX_NAME_LENGTH,
    MAX_ROWS,
    bad_table,
    limit,
)

Kind = str | list[Any] | dict[str, Any]
"""A type as the engine's from_json takes it: a name, [element], {member: type}."""

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,37})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_WORDS = {"true": True, "false": False}
_MAX_KIND_DEPTH = 20
_MAX_MEMBERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: how it is read, and the type to cast it to, if one was declared."""

    name: str
    kind: Kind
    cast: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table. Every row has every column, and every struct every member."""

    name: str
    columns: tuple[Column, ...]
    rows: list[dict[str, Any]]


def read_table(name: str, given: Mapping[str, Any]) -> Table:
    """The table of that name. Raises StepFailed."""
    declared: dict[str, str] = given.get("columns", {})
    if "csv" in given:
        names, rows = _read_csv(name, given["csv"], delimiter=given.get("delimiter", ","))
    else:
        rows = given["rows"]
        names = list(dict.fromkeys(key for row in rows for key in row))
    names = list(dict.fromkeys((*names, *declared)))
    _check(name, names, row_count=len(rows))
    if "csv" in given:
        rows = _typed_cells(rows, [column for column in names if column not in declared])
    columns = tuple(_column(column, rows, declared) for column in names)
    return Table(
        name=name,
        columns=columns,
        rows=[{c.name: _shaped(row.get(c.name), c.kind) for c in columns} for row in rows],
    )


def _check(table: str, names: list[str], *, row_count: int) -> None:
    if row_count > MAX_ROWS:
        raise limit(f"table {table} has {row_count} rows; {MAX_ROWS} are allowed")
    if not names:
        raise bad_table(f"table {table} has no rows; name its columns and their types in columns")
    if len(names) > MAX_COLUMNS:
        raise limit(f"table {table} has {len(names)} columns; {MAX_COLUMNS} are allowed")
    seen: set[str] = set()
    for name in names:
        if not name.strip() or len(name) > MAX_NAME_LENGTH or "\x00" in name:
            raise bad_table(
                f"table {table}: a column's name is 1 to {MAX_NAME_LENGTH} characters, not all "
                "of them blank"
            )
        if name.lower() in seen:
            raise bad_table(f"table {table} has two columns named {name[:64]!r}, or nearly so")
        seen.add(name.lower())


def _column(name: str, rows: list[dict[str, Any]], declared: Mapping[str, str]) -> Column:
    if name in declared:
        return Column(name=name, kind="VARCHAR", cast=declared[name])
    return Column(name=name, kind=_kind_of(row.get(name) for row in rows), cast=None)


def _kind_of(values: Iterable[Any], depth: int = 0) -> Kind:
    """The one type that holds all values."""
    known = [value for value in values if value is not None]
    types = {type(value) for value in known}
    if not types:
        return "VARCHAR"
    if types == {bool}:
        return "BOOLEAN"
    if types == {str}:
        return "VARCHAR"
    if types == {int}:
        widest = max(map(abs, known))
        return "BIGINT" if widest < 2**63 else "HUGEINT" if widest < 2**127 else "DOUBLE"
    if types <= {int, float}:
        return "DOUBLE"
    if depth < _MAX_KIND_DEPTH and types == {list}:
        return [_kind_of((part for value in known for part in value), depth + 1)]
    if depth < _MAX_KIND_DEPTH and types == {dict}:
        return _struct_of(known, depth)
    return "JSON"


def _struct_of(values: list[dict[str, Any]], depth: int) -> Kind:
    members = list(dict.fromkeys(key for value in values for key in value))
    distinct = {member.lower() for member in members}
    if not members or len(members) > _MAX_MEMBERS or len(distinct) < len(members):
        return "JSON"
    if any(not member.strip() or "\x00" in member for member in members):
        return "JSON"
    return {
        member: _kind_of((value.get(member) for value in values), depth + 1) for member in members
    }


def _shaped(value: Any, kind: Kind) -> Any:
    """The value with every member of its structs; what is cast later becomes text."""
    if value is None:
        return None
    if isinstance(kind, list):
        return [_shaped(part, kind[0]) for part in value]
    if isinstance(kind, dict):
        return {member: _shaped(value.get(member), part) for member, part in kind.items()}
    if kind == "VARCHAR" and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return value


def _read_csv(
    table: str, text: str, *, delimiter: str
) -> tuple[list[str], list[dict[str, str | None]]]:
    csv.field_size_limit(max(len(text) + 1, csv.field_size_limit()))
    reader = csv.reader(
        io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter, strict=True
    )
    rows: list[dict[str, str | None]] = []
    try:
        names = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(names):
                raise bad_table(
                    f"table {table}: line {reader.line_num} has {len(cells)} cells, the first "
                    f"line {len(names)}"
                )
            rows.append({name: cell or None for name, cell in zip(names, cells, strict=True)})
    except csv.Error as error:
        raise bad_table(f"table {table}: line {reader.line_num} is no CSV: {error}") from error
    if len(set(names)) < len(names):
        raise bad_table(f"table {table} has two columns of one name in its first line")
    return names, rows


def _typed_cells(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """The rows with the cells of these columns as what all cells of the column are written like."""
    readers = {name: _reader_of([row.get(name) for row in rows]) for name in names}
    return [
        {
            name: readers[name](cell) if name in readers and cell else cell
            for name, cell in row.items()
        }
        for row in rows
    ]


def _reader_of(cells: list[str | None]) -> Any:
    texts = [cell for cell in cells if cell]
    if all(_INTEGER.fullmatch(text) for text in texts):
        return int
    if all(_NUMBER.fullmatch(text) and math.isfinite(float(text)) for text in texts):
        return float
    if all(text.lower() in _WORDS for text in texts):
        return lambda text: _WORDS[text.lower()]
    return str
