"""json_query: JMESPath, and the bounds around it."""

from __future__ import annotations

import time

import pytest

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from services.executor.tools.bounded_query import search
from services.executor.tools.json_query import JsonQueryTool
from tests.executor_world import make_context

DATA: Json = {
    "items": [{"n": "a", "p": 5}, {"n": "b", "p": 15}, {"n": "c", "p": 25}],
    "deep": {"x": [1, 2, [3, 4]]},
    "s": "str",
}


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("items[?p > `10`].n", ["b", "c"]),
        ("items[*].{name: n} | [0]", {"name": "a"}),
        ("sum(items[*].p)", 45),
        ("avg(items[*].p)", 15.0),
        ("avg(`[]`)", None),
        ("join(', ', items[*].n)", "a, b, c"),
        ("deep.x[]", [1, 2, 3, 4]),
        ("sort_by(items, &p)[-1].n", "c"),
        ("map(&n, items)", ["a", "b", "c"]),
        ("to_string(deep)", '{"x":[1,2,[3,4]]}'),
        ("to_string(s)", "str"),
        ("missing.key", None),
        ("items[0].p == `5`", True),
        ("items[0].p != `5`", False),
        ("`1` < 'a'", None),
        ("`true` < `2`", None),
        ("'a' < 'b'", True),
        ("type(@)", "object"),
        ("@|" * 90 + "s", "str"),
    ],
)
def test_json_query_answers(query: str, result: Json) -> None:
    assert search(query, data=DATA) == result


DOUBLING = "[@,@]" + "|[@,@]" * 40
FLATTENING = "[@,@][]" + "|[@,@][]" * 40
JOINING = "s" + "|[@,@]|join('',@)" * 40


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("items[", "QUERY_SYNTAX"),
        ("  ", "QUERY_SYNTAX"),
        ("foo(@)", "QUERY_SYNTAX"),
        ("length()", "QUERY_SYNTAX"),
        ("`{", "QUERY_SYNTAX"),
        ("sum(s)", "QUERY_TYPE"),
        ("&n", "QUERY_TYPE"),
        ("[&n]", "QUERY_TYPE"),
        ("to_string(&n)", "QUERY_TYPE"),
        ("(" * 400 + "@" + ")" * 400, "QUERY_LIMIT"),
        ("!" * 900 + "s", "QUERY_LIMIT"),
        ("@|" * 200 + "@", "QUERY_LIMIT"),
        (DOUBLING, "QUERY_LIMIT"),
        (FLATTENING, "QUERY_LIMIT"),
        (JOINING, "QUERY_LIMIT"),
    ],
)
def test_json_query_refuses_with_reason(query: str, reason: str) -> None:
    began = time.perf_counter()

    with pytest.raises(StepFailed) as refused:
        search(query, data=DATA)

    assert (refused.value.code, refused.value.reason) == (FailureCode.TOOL_ERROR, reason)
    assert len(refused.value.message) < 400
    assert time.perf_counter() - began < 5


def test_json_query_bounds_a_join_with_a_long_separator() -> None:
    data: Json = {"s": "x" * 500_000, "l": ["a"] * 200_000}

    with pytest.raises(StepFailed) as refused:
        search("join(s, l)", data=data)

    assert refused.value.reason == "QUERY_LIMIT"


def test_json_query_bounds_the_work_on_large_data() -> None:
    data: Json = {"l": list(range(150_000))}

    with pytest.raises(StepFailed) as refused:
        search("l" + "|reverse(@)" * 80, data=data)

    assert refused.value.reason == "QUERY_LIMIT"


async def test_json_query_tool_wraps_the_result() -> None:
    output = await JsonQueryTool().call({"data": DATA, "query": "s"}, make_context())

    assert output == {"result": "str"}
