"""The tasks of `pawl demo`, and what is said of each before it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_REPORT = (
    "The harbour tunnel opened in May after six years of work. Traffic on the old bridge fell by "
    "a third within four weeks. The city had expected a fifth. Cyclists keep the bridge, and two "
    "of its lanes become a cycle path next year. The tunnel cost 410 million, nine million less "
    "than planned. A toll was discussed and dropped. Residents near the southern entrance report "
    "more noise at night, and the city will measure it until autumn."
)
_PAGE = (
    "<html><head><title>Prices</title></head><body><h1>Seeds</h1>"
    '<p>All seeds are from <a href="https://garden.example/own">our own garden</a>.</p>'
    '<p>Beans 3.20, peas 2.90. <a href="https://garden.example/order">Order here</a>.</p>'
    "<script>track()</script></body></html>"
)
_SALES = "week,amount\n1,400\n2,300\n2,200\n3,700\n"
_WEEKS = "SELECT week, sum(amount) AS amount FROM sales GROUP BY week ORDER BY week"
_GROWTH = """\
amounts = [row["amount"] for row in input_data]
growth = [round(100 * (b - a) / a, 1) for a, b in zip(amounts, amounts[1:])]
best = max(input_data, key=lambda row: row["amount"])
print(f"compared {len(amounts)} weeks")
result = {"best_week": best["week"], "growth_percent": growth}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTask:
    """A submission and what must come of it.

    `result` holds members that the result must have; a failing task names its step and code. One
    that `needs` a tool runs where that tool is on offer.
    """

    title: str
    body: dict[str, Any]
    steps: int
    result: dict[str, Any] = field(default_factory=dict)
    failed_step: int | None = None
    failure_code: str | None = None
    needs: str | None = None

    def contradiction(self, task: dict[str, Any], trace: dict[str, Any]) -> str | None:
        """What came out otherwise than said; None when nothing did."""
        ran = trace["summary"]["total_steps"]
        if ran != self.steps:
            return f"{ran} steps ran; {self.steps} were to run"
        if self.failure_code is None:
            return self._wrong_success(task)
        failure = task["failure"] or {}
        found = (task["status"], failure.get("index"), failure.get("code"))
        if found != ("failed", self.failed_step, self.failure_code):
            return f"it was to fail in step {self.failed_step} with {self.failure_code}: {found}"
        return None

    def _wrong_success(self, task: dict[str, Any]) -> str | None:
        if task["status"] != "succeeded":
            return f"it was to succeed and {task['status']}: {task['error']}"
        for name, value in self.result.items():
            if task["result"].get(name) != value:
                return f"{name} was to be {value!r}, and is {task['result'].get(name)!r}"
        return None


def _ref(path: str) -> dict[str, str]:
    return {"$ref": path}


def _plan(*steps: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "steps": [
            {"step_index": place, "tool": tool, "input": given}
            for place, (tool, given) in enumerate(steps, start=1)
        ]
    }


INVOICE = DemoTask(
    title="A plan of three steps; each uses the results before it",
    body={
        "task_definition": {"topic": "An invoice: 12 seats at 25, plus 19 % tax"},
        "plan": _plan(
            ("math", {"expression": "12 * 25"}),
            (
                "math",
                {
                    "expression": "net * 19 / 100",
                    "variables": {"net": _ref("steps.1.output.result")},
                },
            ),
            (
                "math",
                {
                    "expression": "net + tax",
                    "variables": {
                        "net": _ref("steps.1.output.result"),
                        "tax": _ref("steps.2.output.result"),
                    },
                },
            ),
        ),
    },
    steps=3,
    result={"result": 357},
)
"""Also the trace that is changed afterwards, to see that the change is found."""

TASKS = (
    INVOICE,
    DemoTask(
        title="A text to summarise; the plan is made here, without a model",
        body={"task_definition": {"text": _REPORT, "topic": "the tunnel and its traffic"}},
        steps=1,
    ),
    DemoTask(
        title="A page to read: extract its text and links, then pick the links",
        body={
            "task_definition": {"html": _PAGE},
            "plan": _plan(
                ("text_extract", {"content": _ref("input.html"), "media_type": "text/html"}),
                ("json_query", {"data": _ref("steps.1.output"), "query": "links[].url"}),
            ),
        },
        steps=2,
        result={"result": ["https://garden.example/own", "https://garden.example/order"]},
    ),
    DemoTask(
        title="Code of your own, run in a sandbox on what the step before found",
        body={
            "task_definition": {"csv": _SALES},
            "plan": _plan(
                (
                    "table_query",
                    {
                        "tables": {"sales": {"csv": _ref("input.csv")}},
                        "query": _WEEKS,
                    },
                ),
                (
                    "python_sandbox",
                    {"code": _GROWTH, "input_data": _ref("steps.1.output.rows")},
                ),
            ),
        },
        steps=2,
        result={"result": {"best_week": 3, "growth_percent": [25.0, 40.0]}},
        needs="python_sandbox",
    ),
    DemoTask(
        title="Nothing but a topic",
        body={
            "task_definition": {"topic": "Summarize weekly release notes"},
            "max_steps": 12,
            "timeout_seconds": 45,
        },
        steps=2,
    ),
    DemoTask(
        title="A task that fails in step 2 of 3; step 3 must not run",
        body={
            "task_definition": {},
            "plan": _plan(
                ("math", {"expression": "7 - 7"}),
                (
                    "math",
                    {
                        "expression": "1 / zero",
                        "variables": {"zero": _ref("steps.1.output.result")},
                    },
                ),
                ("math", {"expression": "1 + 1"}),
            ),
        },
        steps=2,
        failed_step=2,
        failure_code="TOOL_ERROR",
    ),
)
