"""`pawl tools`: what plans may name, and how it is called."""

from __future__ import annotations

from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.client import Client
from libs.cli.output import console, plain, pretty_json, print_json, record, table
from libs.cli.run import BadArgument
from libs.core.schema_members import members_of

PATH = "/v1/tools"
_LARGEST_PAGE = 200


def show_tools(client: Client, *, as_json: bool) -> int:
    """Print every tool of the catalogue, a line each; 0."""
    tools = _tools(client)
    if as_json:
        print_json(tools)
        return 0
    rows = [
        (
            tool["name"],
            tool["version"],
            ", ".join(tool["effects"]),
            "yes" if tool["available"] else "no",
            plain(tool["description"], limit=400),
        )
        for tool in tools
    ]
    columns = ("name", "version", "effects", "available", "description")
    console().print(table("Tools", columns, rows, whole=columns[0]))
    return 0


def show_tool(client: Client, name: str, *, as_json: bool) -> int:
    """Print one tool with its schemas and examples: its newest version on offer, else its newest;
    0.

    Raises BadArgument for a name that the catalogue does not hold.
    """
    tools = _tools(client)
    versions = [tool for tool in tools if tool["name"] == name]
    if not versions:
        known = ", ".join(dict.fromkeys(tool["name"] for tool in tools)) or "none"
        raise BadArgument(f"there is no tool named {name[:64]!r}; known are: {known}")
    tool = next((tool for tool in versions if tool["available"]), versions[0])
    if as_json:
        print_json(tool)
    else:
        _print_tool(tool, versions, console())
    return 0


def _tools(client: Client) -> list[dict[str, Any]]:
    return list(client.pages(PATH, {"limit": _LARGEST_PAGE}))


def _print_tool(tool: dict[str, Any], versions: list[dict[str, Any]], out: Console) -> None:
    members: list[tuple[str, object]] = [
        ("version", tool["version"]),
        ("does", plain(tool["description"], limit=1000)),
        ("effects", ", ".join(tool["effects"])),
        ("available", "yes" if tool["available"] else "no: no living executor offers it"),
        ("digest", tool["digest"]),
    ]
    others = [other["version"] for other in versions if other is not tool]
    if others:
        members.append(("also known", ", ".join(others)))
    out.print(record(tool["name"], members))
    out.print(_members("Input", tool["input_schema"]))
    out.print(_members("Output", tool["output_schema"]))
    for example in tool["examples"]:
        out.print(_example(example))


def _members(title: str, schema: dict[str, Any]) -> RenderableType:
    found = members_of(schema)
    if not found:
        return record(title, [("schema", _folded_json(schema))])
    rows = [
        (
            member.path,
            plain(member.type, limit=400),
            "required" if member.required else "",
            plain(member.words, limit=1000),
        )
        for member in found
    ]
    return table(title, ("member", "type", "", "meaning"), rows, whole="member")


def _example(example: dict[str, Any]) -> Table:
    members: list[tuple[str, object]] = [
        ("shows", example["title"]),
        ("input", _folded_json(example["input"])),
    ]
    if "output" in example:
        members.append(("output", _folded_json(example["output"])))
    if "failure_code" in example:
        members.append(("fails with", example["failure_code"]))
    return record("Example", members)


def _folded_json(value: object) -> Text:
    """Indented JSON of which nothing is cut off: long strings go on in the next line."""
    text = pretty_json(value).text
    text.no_wrap, text.overflow = False, "fold"
    return text
