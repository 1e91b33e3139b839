"""The tools that this executor offers: the shipped ones, and those that other packages bring.

A package adds tools through the entry point group `pawl.tools`; each entry point names a callable
without arguments (a class will do) that returns a Tool.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from libs.core.json_schema import SchemaRefused, Validator, compile_schema
from libs.core.tool_examples import example_problems
from libs.core.tool_spec import ToolRef, ToolSpec
from libs.net.egress_rules import EgressRules
from libs.net.http_client import HttpClient
from services.executor.tools.artifact import ArtifactTool
from services.executor.tools.child_process import MOST_AT_ONCE, ChildProcesses
from services.executor.tools.http_request import HttpRequestTool
from services.executor.tools.json_query import JsonQueryTool
from services.executor.tools.math import MathTool
from services.executor.tools.table_query import TableQueryTool
from services.executor.tools.text_extract import TextExtractTool
from services.executor.tools.text_summarize import TextSummarizeTool
from services.executor.tools.tool import Tool
from services.executor.tools.wait import WaitTool

ENTRY_POINT_GROUP = "pawl.tools"
PUBLIC_ONLY = EgressRules()

_NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,64}", re.ASCII)


class BadTool(Exception):  # noqa: N818 - the name says what is wrong
    """A tool that cannot be offered; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedTool:
    """A tool with what calling it needs at hand: its exact name and its compiled schemas."""

    tool: Tool
    ref: ToolRef
    input_schema: Validator
    output_schema: Validator


def _always() -> bool:
    return True


class ToolRegistry:
    """Exact tools by reference. Tools may come later; one that is there never changes."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        """Raises BadTool as `add` does."""
        self._offered: dict[ToolRef, OfferedTool] = {}
        self._available: dict[ToolRef, Callable[[], bool]] = {}
        self._watches: list[asyncio.Event] = []
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool, *, is_available: Callable[[], bool] = _always) -> None:
        """Offer one more tool. While it is not available, new plans are not to name it and no task
        that needs it is to come; steps of tasks that run already still call it.

        Raises BadTool for a spec that cannot be offered and for a name that is taken.
        """
        offered = _offer(tool)
        if any(ref.name == offered.ref.name for ref in self._offered):
            raise BadTool(f"there are two tools named {offered.ref.name}")
        self._offered[offered.ref] = offered
        self._available[offered.ref] = is_available
        self.changed()

    def changed(self) -> None:
        """Tell who watches that other tools are on offer, or available."""
        for watch in self._watches:
            watch.set()

    def watch(self) -> asyncio.Event:
        """An event that each change sets from now on; who waits for it clears it."""
        watch = asyncio.Event()
        self._watches.append(watch)
        return watch

    @property
    def refs(self) -> tuple[ToolRef, ...]:
        """What is on offer, sorted."""
        return tuple(sorted(self._offered))

    @property
    def available(self) -> tuple[ToolRef, ...]:
        """What of that is available, sorted."""
        return tuple(ref for ref in self.refs if self._available[ref]())

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The specs of what is available, in the order of `available`."""
        return tuple(self._offered[ref].tool.spec for ref in self.available)

    def find(self, ref: ToolRef) -> OfferedTool | None:
        """Exactly this tool, or None."""
        return self._offered.get(ref)


def built_in_tools(
    *, egress: EgressRules = PUBLIC_ONLY, most_children: int = MOST_AT_ONCE
) -> tuple[Tool, ...]:
    """The tools that Pawl ships; `egress` says what those reach that use the network, and
    `most_children` how many processes of those run at once that work in a process of their own.
    """
    children = ChildProcesses(most_children)
    return (
        ArtifactTool(),
        HttpRequestTool(HttpClient(egress)),
        JsonQueryTool(),
        MathTool(),
        TableQueryTool(children),
        TextExtractTool(children),
        TextSummarizeTool(),
        WaitTool(),
    )


def load_tools(
    *, egress: EgressRules = PUBLIC_ONLY, most_children: int = MOST_AT_ONCE
) -> ToolRegistry:
    """The shipped tools and the installed ones. Raises BadTool; whoever installs a broken tool is
    told.
    """
    found = entry_points(group=ENTRY_POINT_GROUP)
    built_in = built_in_tools(egress=egress, most_children=most_children)
    return ToolRegistry((*built_in, *installed_tools(found)))


def installed_tools(found: Iterable[EntryPoint]) -> Iterator[Tool]:
    """The tools behind entry points, in order of their names. Raises BadTool."""
    for entry in sorted(found, key=lambda entry: (entry.name, entry.value)):
        try:
            tool: Tool = entry.load()()
        except Exception as error:
            raise BadTool(
                f"the tool {entry.name} ({entry.value}) cannot be loaded: {error}"
            ) from error
        yield tool


def _offer(tool: Tool) -> OfferedTool:
    spec = tool.spec
    if not _NAME.fullmatch(spec.name):
        raise BadTool(f"the tool name {spec.name!r} is not 1 to 64 of a-z, 0-9 and _")
    if not _VERSION.fullmatch(spec.version):
        raise BadTool(
            f"the version {spec.version!r} of {spec.name} is not 1 to 64 of A-Z, a-z, 0-9 . + _ -"
        )
    if not spec.effects:
        raise BadTool(f"{spec.name} declares no effects; pure is one")
    try:
        offered = OfferedTool(
            tool=tool,
            ref=ToolRef(spec.name, spec.version, spec.digest()),
            input_schema=compile_schema(spec.input_schema),
            output_schema=compile_schema(spec.output_schema),
        )
    except SchemaRefused as refused:
        raise BadTool(f"a schema of {spec.name} is refused: {refused}") from refused
    _check_examples(offered)
    return offered


def _check_examples(offered: OfferedTool) -> None:
    spec = offered.tool.spec
    found = example_problems(
        spec.examples, input_schema=offered.input_schema, output_schema=offered.output_schema
    )
    for place, problem in found:
        which = "the examples" if place is None else f"example {place + 1}"
        raise BadTool(f"{which} of {spec.name} cannot be offered: {problem}")
