"""What is recorded in `recorded/`: one submission per file, under its name.

A new case is an entry here and `python -m tests.determinism.record NAME`.
"""

from __future__ import annotations

from typing import Any

from tests.e2e.tasks import CHAIN, FAILING, UNPLANNABLE, UNRESOLVED


def plan_of(*steps: tuple[str, Any], task_input: Any = None) -> dict[str, Any]:
    """A submission of these steps (tool, input)."""
    listed = [
        {"step_index": index, "tool": tool, "input": value}
        for index, (tool, value) in enumerate(steps, start=1)
    ]
    return {"task_definition": task_input or {}, "plan": {"steps": listed}}


_REPORT = (
    "The harbour tunnel opened in May after six years of work. Traffic on the old bridge fell by "
    "a third within four weeks. The city had expected a fifth. Größere Schiffe bleiben draußen. "
    "The tunnel cost 410 million, nine million less than planned. A toll was dropped."
)
_PAGE = (
    "<html><head><title>Prices &amp; seeds</title></head><body><h1>Seeds</h1>"
    "<p>Beans 3.20, <b>peas</b> 2.90. <a href='/order'>Order</a></p><script>x()</script></body>"
)

SUBMISSIONS: dict[str, dict[str, Any]] = {
    "chain": CHAIN,
    "failing": FAILING,
    "unresolved_reference": UNRESOLVED,
    "unplannable": UNPLANNABLE,
    "expression": {"task_definition": {"expression": "2**10 / 3"}},
    "text": {
        "task_definition": {
            "text": "The kiln was lit at dawn. Forty bowls went in. Thirty-eight came out whole.",
            "topic": "bowls",
        }
    },
    "page": {
        "task_definition": {
            "html": "<h1>Tides</h1><p>High water at 04:12. <a href='/next'>Next day</a></p>"
        }
    },
    "topic": {"task_definition": {"topic": "Summarize weekly release notes"}},
    "math_functions": plan_of(
        ("math", {"expression": "sqrt(2) + exp(1.5) - log(7)"}),
        ("math", {"expression": "sin(1) * cos(2) / tan(3)"}),
        ("math", {"expression": "1.1 ** 40 + 2 ** 0.5"}),
        ("math", {"expression": "round(2.675, 2) + 7 // 2 - -7 % 3"}),
        ("math", {"expression": "a * 3", "variables": {"a": {"$ref": "steps.1.output.result"}}}),
    ),
    "math_limit": plan_of(("math", {"expression": "9 ** 9 ** 9"})),
    "math_wrong_type": plan_of(
        ("json_query", {"data": {"word": "four"}, "query": "word"}),
        ("math", {"expression": "a", "variables": {"a": {"$ref": "steps.1.output.result"}}}),
    ),
    "numbers": plan_of(
        (
            "json_query",
            {"data": [1.0, 1e16, 1e-7, -0.0, 123456789.125, 5e-324], "query": "sum(@)"},
        ),
        (
            "json_query",
            {
                "data": {"größe": {"$ref": "input.a"}, "😀": 1, "￦": 2},
                "query": "keys(@) | sort(@)",
            },
        ),
        task_input={"a": 1.0, "b": 1e20},
    ),
    "query_fails": plan_of(("json_query", {"data": {"a": 1}, "query": "a["})),
    "literal": plan_of(
        ("json_query", {"data": {"$literal": {"$ref": "no reference"}}, "query": "@"}),
    ),
    "report": plan_of(
        ("text_extract", {"content": _PAGE, "media_type": "text/html"}),
        ("text_summarize", {"text": _REPORT, "max_sentences": 2, "topic": "tunnel"}),
        (
            "artifact",
            {
                "type": "report.summary",
                "data": {
                    "title": {"$ref": "steps.1.output.title"},
                    "summary": {"$ref": "steps.2.output.summary"},
                },
            },
        ),
    ),
    "wait": plan_of(
        ("wait", {"seconds": 0.05}),
        (
            "math",
            {"expression": "w*2", "variables": {"w": {"$ref": "steps.1.output.waited_seconds"}}},
        ),
    ),
    "limits": plan_of(("math", {"expression": "6*7"})) | {"max_steps": 3, "timeout_seconds": 7.5},
}
"""The tools of a case may be missing here; then it is skipped, and says which."""
