"""Queries of `table_query` answered in this process."""

from __future__ import annotations

from typing import Any

import pytest

from libs.core.errors import StepFailed
from services.executor.tools.table_engine import run

ROWS = {"t": {"rows": [{"a": 1, "b": "x"}, {"a": 2, "b": None}]}}


def query(sql: str, tables: Any = None) -> Any:
    return run({"tables": ROWS if tables is None else tables, "query": sql})


def refusal(sql: str, tables: Any = None) -> StepFailed:
    with pytest.raises(StepFailed) as failed:
        query(sql, tables)
    assert failed.value.message
    assert len(failed.value.message) < 500
    return failed.value
