"""How the OpenAPI document says that a member may be left out, but is never null."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

Value = TypeVar("Value")
Optional: TypeAlias = Value | SkipJsonSchema[None]
"""A member that may be left out, but is never null."""


def _without_default(schema: dict[str, Any]) -> None:
    """Leaving a member out has no value that stands for it."""
    schema.pop("default", None)


ABSENT: Any = Field(None, json_schema_extra=_without_default)
