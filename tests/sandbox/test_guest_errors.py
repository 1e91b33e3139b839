"""What is told of an exception: where in the code it was, in its own words, and no more."""

from __future__ import annotations

import pytest

from tests.sandbox.guest_world import GuestWorld

CHAIN = """
def inner():
    return {}["a"]

try:
    inner()
except KeyError as error:
    raise ValueError("outer") from error
"""

GROUP = """
def fail(error):
    raise error

found = []
for error in (ValueError("first"), TypeError("second")):
    try:
        fail(error)
    except Exception as caught:
        found.append(caught)
raise ExceptionGroup("both", found)
"""

IN_LIBRARY = """
import json

def load(text):
    return json.loads(text)

load("{")
"""


async def traceback_of(guests: GuestWorld, code: str) -> str:
    answer = await guests.run(code)
    assert answer["code"] == "CODE_ERROR", answer
    text = answer["error"]["traceback"]
    assert isinstance(text, str)
    return text


def files_in(text: str) -> set[str]:
    """The names of the files of its frames."""
    return {line.split('"')[1] for line in text.splitlines() if 'File "' in line}


@pytest.mark.parametrize("code", [CHAIN, GROUP, IN_LIBRARY], ids=["chain", "group", "library"])
async def test_traceback_has_frames_of_the_code_alone(guests: GuestWorld, code: str) -> None:
    assert files_in(await traceback_of(guests, code)) == {"<step>"}


async def test_chain_is_told_with_its_lines(guests: GuestWorld) -> None:
    text = await traceback_of(guests, CHAIN)

    assert 'line 3, in inner\n    return {}["a"]' in text
    assert "direct cause" in text
    assert text.endswith("ValueError: outer\n")


async def test_group_is_told_with_its_parts(guests: GuestWorld) -> None:
    text = await traceback_of(guests, GROUP)

    assert "ValueError: first" in text
    assert "TypeError: second" in text
    assert text.count("in fail") == 2


async def test_line_is_the_innermost_of_the_code(guests: GuestWorld) -> None:
    answer = await guests.run(IN_LIBRARY)

    assert answer["error"]["line"] == 5
    assert answer["error"]["type"] == "JSONDecodeError"


async def test_syntax_error_has_line_and_text(guests: GuestWorld) -> None:
    answer = await guests.run("x = 1\nif x:\nprint(x)")

    assert answer["error"]["line"] == 3
    assert answer["error"]["message"].startswith("expected an indented block")
    assert "print(x)" in answer["error"]["traceback"]


async def test_recursion_is_told_briefly(guests: GuestWorld) -> None:
    answer = await guests.run("def f(n):\n    return f(n + 1)\nf(0)")

    assert (answer["error"]["type"], answer["error"]["line"]) == ("RecursionError", 2)
    assert "Previous line repeated" in answer["error"]["traceback"]


async def test_long_texts_are_cut(guests: GuestWorld) -> None:
    code = "class " + "A" * 5000 + "(Exception): pass\nraise " + "A" * 5000 + "('ä' * 10 ** 6)"

    error = (await guests.run(code))["error"]

    assert len(error["type"]) == 200
    assert error["message"] == "ä" * 2000
    assert len(error["traceback"]) == 8000


async def test_text_that_is_no_unicode_is_told(guests: GuestWorld) -> None:
    answer = await guests.run("raise ValueError('a\\ud800')")

    assert answer["error"]["message"] == "a\\ud800"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("result = {1, 2}", "result: set cannot be written as JSON"),
        ("result = {'a': [1, object()]}", "result['a'][1]: object cannot be written as JSON"),
        ("result = [float('inf')]", "result[0]: inf is no number in JSON"),
        ("result = '\\ud800'", "result: half a surrogate pair, '\\ud800'"),
        ("result = {1: 1, '1': 2}", "result: two keys are written '1'"),
        ("result = {(1, 2): 1}", "result: a key of type tuple cannot be written as JSON"),
    ],
)
async def test_result_that_is_no_json_is_told_with_its_place(
    guests: GuestWorld, code: str, message: str
) -> None:
    answer = await guests.run(code)

    assert answer["code"] == "CODE_ERROR"
    assert answer["error"]["message"] == message


async def test_result_that_is_not_set_is_null(guests: GuestWorld) -> None:
    assert await guests.result("x = 1") is None
    assert await guests.result("result = 1\ndel result") is None


async def test_result_is_what_its_classes_hold(guests: GuestWorld) -> None:
    code = """
import collections, enum
class D(dict):
    def items(self): return 1 / 0
class S(str):
    def __str__(self): return "another"
    def __hash__(self): return 1
class N(int):
    def __repr__(self): return "another"
class K(enum.IntEnum): A = 4
P = collections.namedtuple("P", "x y")
result = D(a=S("text"), b=N(3), c=K.A, d=P(1, (2, True)), e=collections.Counter("aab"))
"""
    found = await guests.result(code)

    assert found == {"a": "text", "b": 3, "c": 4, "d": [1, [2, True]], "e": {"a": 2, "b": 1}}
