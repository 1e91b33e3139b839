"""What is recorded in `recorded/`: one submission per file, under its name.

A new case is an entry here and `python -m tests.determinism.record NAME`.
"""

from __future__ import annotations

from typing import Any

from tests.documents import encoded, make_plain_pdf
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

_TOTALS = """
totals = {}
for order in input_data["orders"]:
    totals[order["to"]] = totals.get(order["to"], 0) + order["price"] * order["count"]
print(len(totals), "customers")
result = [{"to": to, "total": totals[to]} for to in sorted(totals)]
"""
_SHARES = """
whole = sum(each["total"] for each in input_data)
result = [each["total"] / whole for each in input_data]
"""
_CHANCE = """
import datetime, os, random, secrets, tempfile, time, uuid

names = {f"name-{number}" for number in range(12)}
now = time.time()
time.sleep(0.01)
result = {
    "random": [random.random(), random.Random(5).randint(1, 10**9), random.SystemRandom().random()],
    "drawn": random.sample(sorted(names), 3),
    "uuids": [str(uuid.uuid4()), str(uuid.uuid1())],
    "secrets": [secrets.token_hex(8), os.urandom(6).hex(), tempfile.mkdtemp()],
    "order": list(names),
    "hash": str(hash("a name")),
    "clock": [now, time.time() - now, datetime.datetime.now().isoformat()],
}
"""
_CODE = plan_of(
    ("python_sandbox", {"code": _TOTALS, "input_data": {"orders": {"$ref": "input.orders"}}}),
    ("math", {"expression": "t/4", "variables": {"t": {"$ref": "steps.1.output.result.0.total"}}}),
    (
        "python_sandbox",
        {"code": _SHARES, "input_data": {"$ref": "steps.1.output.result"}},
    ),
    task_input={
        "orders": [
            {"to": "Ünal", "price": 12.5, "count": 2},
            {"to": "Brandt", "price": 0.1, "count": 3},
            {"to": "Ünal", "price": 7, "count": 1},
        ]
    },
)
_SALES = """
SELECT region, sum(amount) AS total, count(*) AS sales, max(day) AS last
FROM sales WHERE amount > 0 GROUP BY region ORDER BY total DESC, region
"""
SERVED_PORT = 18417
"""Where the server of `fetch` listens while it is recorded, on loopback."""

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
    "table": plan_of(
        (
            "table_query",
            {
                "tables": {
                    "sales": {
                        "csv": "region,amount,day\nnorth,12.50,2026-03-01\nsouth,8,2026-03-02\n"
                        "north,0.10,2026-03-03\nsouth,-3,2026-03-04\n",
                        "columns": {"amount": "DECIMAL(10,2)", "day": "DATE"},
                    }
                },
                "query": _SALES,
            },
        ),
        ("json_query", {"data": {"$ref": "steps.1.output.rows"}, "query": "[].region"}),
    ),
    "document": plan_of(
        (
            "text_extract",
            {
                "content_base64": encoded(make_plain_pdf("The kiln was lit at dawn.", "Page two.")),
                "media_type": "application/pdf",
            },
        ),
        ("text_summarize", {"text": {"$ref": "steps.1.output.text"}, "max_sentences": 1}),
    ),
    "fetch": plan_of(
        ("http_request", {"url": f"http://localhost:{SERVED_PORT}/price"}),
        ("math", {"expression": "p*2", "variables": {"p": {"$ref": "steps.1.output.body.price"}}}),
    ),
    "code_docker": _CODE,
    "code_bubblewrap": _CODE,
    "code_monty": _CODE,
    "code_chance": plan_of(("python_sandbox", {"code": _CHANCE})),
    "code_error": plan_of(
        ("python_sandbox", {"code": "print('so far')\nresult = [1][input_data]", "input_data": 3}),
        ("math", {"expression": "1"}),
    ),
}
"""The tools of a case may be missing here; then it is skipped, and says which."""

ENVIRONS: dict[str, dict[str, str]] = {
    "fetch": {"PAWL_EGRESS_ALLOW": "loopback"},
    "code_docker": {"PAWL_SANDBOX": "docker"},
    "code_bubblewrap": {"PAWL_SANDBOX": "bubblewrap"},
    "code_monty": {"PAWL_SANDBOX": "monty"},
    "code_chance": {"PAWL_SANDBOX": "bubblewrap"},
    "code_error": {"PAWL_SANDBOX": "docker"},
}
"""What the Pawl of a case is started with. All others are recorded in one without a sandbox."""
