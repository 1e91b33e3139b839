"""Every shipped tool does what its examples show.

Those of the network are in test_http_request.py, those of the sandbox in tests/sandbox.
"""

from __future__ import annotations

import pytest

from libs.core.tool_spec import Effect, ToolExample, ToolSpec
from services.executor.tools.registry import BadTool, ToolRegistry, built_in_tools
from tests.executor_world import (
    FakeReporter,
    FakeTool,
    answering,
    make_assignment,
    make_registry,
    make_service,
)

_SPECS = {tool.spec.name: tool.spec for tool in built_in_tools()}
_SHOWN = [
    pytest.param(spec, example, id=f"{spec.name}: {example.title}")
    for spec in _SPECS.values()
    for example in spec.examples
    if example.output is not None or example.failure_code is not None
    if Effect.NETWORK not in spec.effects
]


@pytest.mark.parametrize(("spec", "example"), _SHOWN)
async def test_a_step_does_what_the_example_shows(spec: ToolSpec, example: ToolExample) -> None:
    reporter = FakeReporter()
    assignment = make_assignment((spec.name, {"$literal": example.input}))

    await make_service().run_task(assignment, reporter)

    [outcome] = [report.finished for report in reporter.reports if report.finished is not None]
    failure = outcome.failure
    assert (failure.code if failure else None) == example.failure_code, failure
    assert outcome.output == example.output


@pytest.mark.parametrize("name", sorted(_SPECS))
def test_a_shipped_tool_shows_two_to_four_examples(name: str) -> None:
    assert 2 <= len(_SPECS[name].examples) <= 4


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (ToolExample(title="Bad", input={"a": 1}), "example 1 of fake .* no key is known here"),
        (ToolExample(title="Bad", input={}, output=[]), "example 1 of fake .* output schema"),
        (ToolExample(title="", input={}), "example 1 of fake .* title"),
    ],
)
def test_a_tool_with_a_bad_example_is_not_offered(example: ToolExample, said: str) -> None:
    tool = FakeTool(
        answering({}),
        input_schema={"type": "object", "additionalProperties": False},
        output_schema={"type": "object"},
        examples=(example,),
    )

    with pytest.raises(BadTool, match=said):
        ToolRegistry((tool,))


def test_too_many_examples_are_not_offered() -> None:
    tool = FakeTool(answering({}), examples=(ToolExample(title="One", input={}),) * 11)

    with pytest.raises(BadTool, match=r"the examples of fake .* 10 are allowed"):
        make_registry(tool)
