"""What tables and queries of `table_query` may be at most, and how its failures are made."""

from __future__ import annotations

from libs.core.errors import FailureCode, StepFailed

MAX_TABLES = 20
MAX_COLUMNS = 200
MAX_ROWS = 200_000
MAX_NAME_LENGTH = 200
MAX_QUERY_LENGTH = 10_000
MAX_RESULT_ROWS = 10_000
MAX_RESULT_BYTES = 2**20
"""Of JSON text, where the work ends; what then is larger than a step's output fails as such."""

MEMORY_BYTES = 512 * 2**20
"""What the engine may use of the process's memory."""

DELIMITERS = (",", ";", "\t", "|")
TABLE_NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]{0,62}$"
COLUMN_TYPE_PATTERN = (
    "^(BOOLEAN|BIGINT|HUGEINT|DOUBLE|VARCHAR|DATE|TIME|TIMESTAMP|TIMESTAMPTZ|JSON"
    r"|DECIMAL\((3[0-8]|[12]?[0-9]), ?(3[0-8]|[12]?[0-9])\))$"
)


def syntax(message: str) -> StepFailed:
    """The query cannot be read, or names what is not there."""
    return _failed(message, "QUERY_SYNTAX")


def wrong_type(message: str) -> StepFailed:
    """A value does not fit what is done with it."""
    return _failed(message, "QUERY_TYPE")


def limit(message: str) -> StepFailed:
    """The query, a table or the result is too large."""
    return _failed(message, "QUERY_LIMIT")


def forbidden(message: str) -> StepFailed:
    """The query asks for what no query may."""
    return _failed(message, "QUERY_FORBIDDEN")


def bad_table(message: str) -> StepFailed:
    """A table that is none."""
    return _failed(message, "TABLE")


def _failed(message: str, reason: str) -> StepFailed:
    return StepFailed(FailureCode.TOOL_ERROR, message, reason=reason)
