"""What a tool promises, and the digests by which a plan is tied to exact tools."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from libs.core.canonical import Json, canonical


class Effect(StrEnum):
    """What a tool reaches beyond its input. A pure tool's output follows from its input alone."""

    PURE = "pure"
    NETWORK = "network"
    SANDBOX = "sandbox"
    MODEL = "model"
    ARTIFACT = "artifact"


NOT_IN_TEST_MODE = frozenset({Effect.NETWORK, Effect.MODEL})
"""What a task of a test key may not reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolExample:
    """One call that shows what a tool does: its input, and its output or the code of its failure.

    An example with neither shows an input whose output nobody can foretell.
    """

    title: str
    input: dict[str, Json]
    output: Json = None
    failure_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool's name, version, JSON Schemas (draft 2020-12) of input and output, and declared
    effects. Examples are for people and planners.
    """

    name: str
    version: str
    description: str
    input_schema: dict[str, Json]
    output_schema: dict[str, Json]
    effects: tuple[Effect, ...] = (Effect.PURE,)
    examples: tuple[ToolExample, ...] = ()

    @property
    def label(self) -> str:
        """`name@version`, the form that is hashed and shown."""
        return f"{self.name}@{self.version}"

    @property
    def reaches_outside(self) -> bool:
        """Whether it asks the network or a model: what these answered can be kept, not foretold."""
        return not {Effect.NETWORK, Effect.MODEL}.isdisjoint(self.effects)

    def digest(self) -> str:
        """SHA-256 (hex) over name, version, schemas and effects; description and examples are
        not part of the promise.
        """
        promise = {
            "name": self.name,
            "version": self.version,
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
            "effects": sorted(self.effects),
        }
        return hashlib.sha256(b"pawl:tool:v1\n" + canonical(promise)).hexdigest()


@dataclass(frozen=True, slots=True, order=True)
class ToolRef:
    """One tool of a task's tool set: which tool exactly."""

    name: str
    version: str
    digest: str

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def offer(self) -> str:
        """The one string by which queue and executors match a tool exactly."""
        return f"{self.name}@{self.version}#{self.digest}"


def tool_set_json(tools: Iterable[ToolRef]) -> list[list[str]]:
    """The tool set as hashed: distinct [name, version, digest], sorted."""
    return [[tool.name, tool.version, tool.digest] for tool in sorted(set(tools))]


def tool_set_digest(tools: Iterable[ToolRef]) -> str:
    """SHA-256 (hex) of a task's tool set."""
    return hashlib.sha256(b"pawl:toolset:v1\n" + canonical(tool_set_json(tools))).hexdigest()
