"""The page about all tools, made from their specs; as a program it prints that page."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator

from libs.core.canonical import Json
from libs.core.schema_members import members_of
from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.sandbox.model import SandboxIdentity
from services.executor.tools.python_sandbox import make_spec
from services.executor.tools.registry import built_in_tools

_HEAD = """# Tools

Made from the specs of the tools by `make tool-docs`. A running Pawl shows its own: `pawl tools`,
`GET /v1/tools`.
Examples that fail with `INPUT_SCHEMA` do so when the input comes by reference; written in the plan
it is refused at once, 422 `plan_invalid`.
How values of `table_query` look and how to add a tool: [tools.md](tools.md).
"""


def shipped_specs() -> list[ToolSpec]:
    """All that Pawl ships. The version of `python_sandbox` names its parts, which differ between
    machines.
    """
    parts = SandboxIdentity(backend="BACKEND", python="PYTHON", build="BUILD")
    return [*(tool.spec for tool in built_in_tools()), make_spec(parts)]


def reference_page(specs: Iterable[ToolSpec]) -> str:
    """The page as Markdown, tools by name."""
    parts = [_HEAD, *_contents(specs := sorted(specs, key=lambda spec: spec.name))]
    for spec in specs:
        parts.extend(_tool(spec))
    return "\n".join(parts).rstrip("\n") + "\n"


def _contents(specs: Iterable[ToolSpec]) -> Iterator[str]:
    yield "| tool | does |"
    yield "|---|---|"
    for spec in specs:
        yield f"| [`{spec.name}`](#{spec.name}) | {_cell(spec.description)} |"
    yield ""


def _tool(spec: ToolSpec) -> Iterator[str]:
    yield f"## {spec.name}\n"
    yield f"{spec.description}\n"
    yield f"Version `{spec.version}`; effects: {', '.join(spec.effects)}.\n"
    yield from _members("input", spec.input_schema)
    yield from _members("output", spec.output_schema)
    for example in spec.examples:
        yield from _example(example)


def _members(title: str, schema: dict[str, Json]) -> Iterator[str]:
    members = members_of(schema)
    if not members:
        yield f"The {title} is any that fits `{json.dumps(schema)}`.\n"
        return
    yield f"| {title} | type | | meaning |"
    yield "|---|---|---|---|"
    for member in members:
        need = "required" if member.required else ""
        yield f"| `{member.path}` | `{_cell(member.type)}` | {need} | {_cell(member.words)} |"
    yield ""


def _example(example: ToolExample) -> Iterator[str]:
    yield f"{example.title}:\n"
    yield _block(example.input)
    if example.output is not None:
        yield "gives\n"
        yield _block(example.output)
    if example.failure_code is not None:
        yield f"fails with `{example.failure_code}`.\n"


def _block(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > 100:
        text = json.dumps(value, ensure_ascii=False, indent=2)
    return f"```json\n{text}\n```\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")


if __name__ == "__main__":
    sys.stdout.write(reference_page(shipped_specs()))
