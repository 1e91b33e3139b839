"""`math`: the value of an arithmetic expression, always the same on every machine.

What is computed by the platform's mathematical library (sin, exp, log, a fractional power ...) is
rounded to 15 significant digits, because libraries differ in the last bit; everything else is exact
integer arithmetic or correctly rounded IEEE double arithmetic. Bounds are the tool's own checks, so
an expression that is too long or too large is a failed step, not a refused plan.
"""

from __future__ import annotations

from typing import cast

from libs.core.canonical import MAX_SAFE_INTEGER, Json
from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.tools.math_expression import evaluate
from services.executor.tools.math_numbers import Number
from services.executor.tools.tool import ToolContext

SPEC = ToolSpec(
    name="math",
    version="1.0.0",
    description="Computes an arithmetic expression over numbers and variables.",
    input_schema={
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "description": "Such as (a + 2) * sqrt(b); at most 1000 characters, 50 levels.",
            },
            "variables": {
                "type": "object",
                "description": "Values of the names in the expression.",
                "additionalProperties": {"type": "number"},
            },
        },
        "required": ["expression"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {"result": {"type": "number"}},
        "required": ["result"],
        "additionalProperties": False,
    },
    examples=(
        ToolExample(
            title="A sum and a product",
            input={"expression": "2 + 3 * 4"},
            output={"result": 14},
        ),
        ToolExample(
            title="Variables, which a plan fills from the output of an earlier step",
            input={"expression": "price * (1 + rate)", "variables": {"price": 80, "rate": 0.25}},
            output={"result": 100},
        ),
        ToolExample(
            title="A division by zero fails the step",
            input={"expression": "1 / 0"},
            failure_code="TOOL_ERROR",
        ),
    ),
)


class MathTool:
    """The tool `math`. An evaluation is bounded to a few milliseconds, so it runs on the event
    loop.
    """

    spec = SPEC

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Evaluate the expression."""
        del context
        variables = cast("dict[str, Number]", arguments.get("variables", {}))
        doubles = {name: _as_double(value) for name, value in variables.items()}
        return {"result": evaluate(cast("str", arguments["expression"]), variables=doubles)}


def _as_double(value: Number) -> Number:
    """An integer beyond the exact range stands for a double, as RFC 8785 writes it."""
    return value if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else float(value)
