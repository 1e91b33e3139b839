"""wait, artifact, and the registry of tools."""

from __future__ import annotations

import asyncio
import hashlib
from importlib.metadata import EntryPoint

import pytest

from libs.core.errors import FailureCode, StepFailed
from libs.core.json_schema import compile_schema
from libs.core.tool_spec import Effect, ToolRef
from services.executor.tools.artifact import MAX_DATA_BYTES, ArtifactTool
from services.executor.tools.math import MathTool
from services.executor.tools.registry import (
    BadTool,
    ToolRegistry,
    built_in_tools,
    installed_tools,
    load_tools,
)
from services.executor.tools.tool import Tool
from services.executor.tools.wait import WaitTool
from tests.executor_world import (
    TASK_ID,
    TENANT_ID,
    FakeArtifacts,
    FakeTool,
    echo,
    make_context,
)

EFFECTS = {"artifact": (Effect.ARTIFACT,), "http_request": (Effect.NETWORK,)}


async def test_wait_says_what_was_asked() -> None:
    assert await WaitTool().call({"seconds": 0.001}, make_context()) == {"waited_seconds": 0.001}


async def test_wait_ends_when_cancelled() -> None:
    call = asyncio.create_task(WaitTool().call({"seconds": 3600}, make_context()))
    await asyncio.sleep(0)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


async def test_artifact_stores_canonical_data_and_names_its_hash() -> None:
    artifacts = FakeArtifacts()
    data = b'{"a":[1.5],"b":"\xc3\xa9"}'

    output = await ArtifactTool().call(
        {"type": "report.summary", "data": {"b": "é", "a": [1.5]}}, make_context(artifacts)
    )

    assert output == {
        "type": "report.summary",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
    }
    stored = artifacts.stored[0]
    assert (stored.task_id, stored.tenant_id, stored.step_index) == (TASK_ID, TENANT_ID, 1)
    assert (stored.ordinal, stored.type, stored.data_json) == (0, "report.summary", data.decode())


async def test_artifact_fails_when_the_store_holds_other_bytes() -> None:
    artifacts = FakeArtifacts(answer="00" * 32)

    with pytest.raises(StepFailed) as failed:
        await ArtifactTool().call({"type": "a", "data": 1}, make_context(artifacts))

    assert failed.value.code == FailureCode.ARTIFACT_STORE


async def test_artifact_refuses_more_than_a_mebibyte() -> None:
    artifacts = FakeArtifacts()

    with pytest.raises(StepFailed) as failed:
        await ArtifactTool().call(
            {"type": "a", "data": "x" * (MAX_DATA_BYTES - 1)}, make_context(artifacts)
        )

    assert failed.value.code == FailureCode.OUTPUT_LIMIT
    assert artifacts.stored == []


@pytest.mark.parametrize("kind", ["Report", "a..b", ".a", "a.", "a b", "1a", "", "a" * 129, "a\n"])
def test_artifact_type_is_dotted_lower_case(kind: str) -> None:
    schema = compile_schema(ArtifactTool.spec.input_schema)

    assert not schema.accepts({"type": kind, "data": None})
    assert schema.accepts({"type": "report.summary_2", "data": None})


def test_built_in_tools_are_closed_and_offered() -> None:
    registry = load_tools()

    assert [spec.name for spec in registry.specs] == [
        "artifact",
        "http_request",
        "json_query",
        "math",
        "text_extract",
        "text_summarize",
        "wait",
    ]
    for spec in registry.specs:
        assert spec.input_schema["additionalProperties"] is False
        assert spec.output_schema["additionalProperties"] is False
        assert spec.effects == EFFECTS.get(spec.name, (Effect.PURE,))


def test_registry_finds_exactly_the_tool() -> None:
    registry = ToolRegistry(built_in_tools())
    spec = MathTool.spec

    assert registry.find(ToolRef("math", spec.version, spec.digest())) is not None
    assert registry.find(ToolRef("math", spec.version, "00" * 32)) is None
    assert registry.find(ToolRef("math", "9.9.9", spec.digest())) is None


def test_registry_refuses_two_tools_of_one_name() -> None:
    with pytest.raises(BadTool, match="two tools named math"):
        ToolRegistry((*built_in_tools(), FakeTool(echo, name="math")))


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        (FakeTool(echo, name="Bad Name"), "name"),
        (FakeTool(echo, input_schema={"type": "nonsense"}), "schema"),
        (FakeTool(echo, output_schema={"$ref": "http://127.0.0.1/x"}), "schema"),
    ],
)
def test_registry_refuses_a_tool_that_cannot_be_offered(tool: Tool, said: str) -> None:
    with pytest.raises(BadTool, match=said):
        ToolRegistry((tool,))


def test_installed_tools_come_from_entry_points() -> None:
    good = EntryPoint("w", "services.executor.tools.wait:WaitTool", "pawl.tools")
    bad = EntryPoint("x", "services.executor.tools.wait:Missing", "pawl.tools")

    assert [tool.spec.name for tool in installed_tools([good])] == ["wait"]
    with pytest.raises(BadTool, match="the tool x"):
        list(installed_tools([good, bad]))
