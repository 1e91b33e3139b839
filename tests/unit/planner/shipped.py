"""Tools like those that executors ship, and a catalogue that offers them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from libs.core.json_schema import compile_schema
from libs.core.plan import Limits
from libs.core.tool_spec import Effect, ToolRef, ToolSpec
from services.planner.model import CatalogTool, Snapshot
from services.planner.plan_validation import Rules

REGISTERED_AT = datetime(2026, 11, 23, tzinfo=UTC)
FOREVER = 1e9
TIER = Limits(max_steps=32, max_total_seconds=60, max_total_tokens=200_000, max_queue_seconds=3600)


def closed(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def make_spec(name: str, version: str = "1.0.0", **changes: Any) -> ToolSpec:
    fields: dict[str, Any] = {
        "description": f"Does {name}.",
        "input_schema": {"type": "object"},
        "output_schema": {"type": "object"},
    }
    return ToolSpec(name=name, version=version, **(fields | changes))


STRING = {"type": "string"}
STRINGS = {"type": "array", "items": STRING, "maxItems": 20}

MATH = make_spec(
    "math",
    input_schema=closed(
        ("expression",),
        expression=STRING,
        variables={"type": "object", "additionalProperties": {"type": "number"}},
    ),
    output_schema=closed(("result",), result={"type": "number"}),
)
WAIT = make_spec(
    "wait",
    input_schema=closed(("seconds",), seconds={"type": "number", "minimum": 0, "maximum": 3600}),
    output_schema=closed(("waited_seconds",), waited_seconds={"type": "number"}),
)
JSON_QUERY = make_spec(
    "json_query",
    input_schema=closed(("data", "query"), data={}, query=STRING),
    output_schema=closed(("result",), result={}),
)
TEXT_SUMMARIZE = make_spec(
    "text_summarize",
    input_schema=closed(
        ("text",),
        text={"type": "string", "minLength": 1, "maxLength": 200_000},
        max_sentences={"type": "integer", "minimum": 1, "maximum": 20},
        topic={"type": "string", "maxLength": 1000},
    ),
    output_schema=closed(
        ("summary", "sentences", "key_terms"), summary=STRING, sentences=STRINGS, key_terms=STRINGS
    ),
)
TEXT_EXTRACT = make_spec(
    "text_extract",
    input_schema=closed(
        ("content", "media_type"),
        content=STRING,
        media_type={"enum": ["text/plain", "text/html"]},
    ),
    output_schema=closed(("text",), text=STRING, title={"type": ["string", "null"]}),
)
HTTP = make_spec("http_request", effects=(Effect.NETWORK,))
LLM = make_spec("llm", effects=(Effect.NETWORK, Effect.MODEL))

OFFLINE = (MATH, WAIT, JSON_QUERY, TEXT_SUMMARIZE, TEXT_EXTRACT)
EVERYTHING = (*OFFLINE, HTTP, LLM)


def make_tool(spec: ToolSpec, *, registered_at: datetime = REGISTERED_AT) -> CatalogTool:
    return CatalogTool(
        spec=spec,
        ref=ToolRef(spec.name, spec.version, spec.digest()),
        input_validator=compile_schema(spec.input_schema),
        registered_at=registered_at,
    )


def make_snapshot(*specs: ToolSpec, gone: tuple[ToolSpec, ...] = ()) -> Snapshot:
    """A catalogue that offers `specs` for good; `gone` were offered once."""
    by_name: dict[str, tuple[CatalogTool, ...]] = {}
    for spec in (*specs, *gone):
        by_name[spec.name] = (*by_name.get(spec.name, ()), make_tool(spec))
    return Snapshot(
        read_at=0.0, by_name=by_name, expires={spec.digest(): FOREVER for spec in specs}
    )


def make_rules(**changes: Any) -> Rules:
    fields: dict[str, Any] = {
        "catalog": make_snapshot(*EVERYTHING),
        "now": 1.0,
        "task_input": {"topic": "x", "n": 5, "list": [1, 2]},
        "asked": Limits(),
        "tier": TIER,
    }
    return Rules(**(fields | changes))


def step(index: Any, tool: Any = "math", **arguments: Any) -> dict[str, Any]:
    return {"step_index": index, "tool": tool, "input": arguments or {"expression": "1+1"}}


def make_plan(*steps: Any, **limits: Any) -> dict[str, Any]:
    return {"steps": list(steps), "limits": limits}
