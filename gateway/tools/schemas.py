"""The JSON shapes of the tool catalogue, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.accounts.schemas import Time
from gateway.optional_members import ABSENT, Optional
from libs.core.errors import FailureCode

Effect = Literal["pure", "network", "sandbox", "model", "artifact"]
TOOL: dict[str, Any] = {
    "name": "math",
    "version": "1.0.0",
    "description": "Evaluates an arithmetic expression.",
    "effects": ["pure"],
    "input_schema": {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
    "output_schema": {
        "type": "object",
        "properties": {"result": {"type": "number"}},
        "required": ["result"],
    },
    "examples": [
        {
            "title": "A sum",
            "input": {"expression": "2 + 3 * 4"},
            "output": {"result": 14},
        },
        {
            "title": "Division by zero",
            "input": {"expression": "1 / 0"},
            "failure_code": "TOOL_ERROR",
        },
    ],
    "digest": "0c7d9a55fd4b5a37a8d8f1f6c0b3f1d1f4f3a1f9b0e2cf7c2b1c4f0c5b6f7a89",
    "available": True,
    "registered_at": "2026-02-27T11:00:00.000000+00:00",
}


class ToolExample(BaseModel):
    """A call of a tool, and what comes of it where that can be foretold."""

    title: str
    input: dict[str, Any]
    output: Optional[Annotated[Any, Field(description="Absent: none is shown.")]] = ABSENT
    failure_code: Optional[
        Annotated[
            FailureCode,
            Field(description="The code with which the call fails. Absent: it does not fail."),
        ]
    ] = ABSENT


class Tool(BaseModel):
    """A tool that plans may name."""

    model_config = ConfigDict(json_schema_extra={"examples": [TOOL]})
    name: str
    version: str
    description: str
    effects: list[Effect]
    input_schema: dict[str, Any] = Field(description="JSON Schema (draft 2020-12).")
    output_schema: dict[str, Any] = Field(description="JSON Schema (draft 2020-12).")
    examples: list[ToolExample] = Field(description="At most 10.")
    digest: str = Field(
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the spec without its description and examples.",
    )
    available: bool = Field(description="Whether a living executor offers exactly this tool.")
    registered_at: Time


class ToolList(BaseModel):
    """A page of the catalogue; of one name the newest version comes first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"data": [TOOL], "next_cursor": None}]}
    )
    data: list[Tool]
    next_cursor: str | None
