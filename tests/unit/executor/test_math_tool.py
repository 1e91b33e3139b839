"""The math tool: what it computes, what it refuses, and how fast it refuses."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from services.executor.tools.math import MathTool
from services.executor.tools.math_expression import FUNCTIONS, MAX_LENGTH, evaluate
from tests.executor_world import make_context

COMPUTED = {
    "2**10": 1024,
    "-7//2": -4,
    "-7%3": 2,
    "5%-3": -1,
    "-5.5%2": 0.5,
    "7.5//2": 3.0,
    "6/2": 3.0,
    "1/3": 1 / 3,
    "0.1+0.2": 0.1 + 0.2,
    "1 - 2 - 3": -4,
    "2**-1": 0.5,
    "10**-2": 0.01,
    "-2**2": -4,
    "2**3**2": 512,
    "(-2.0)**-3": -0.125,
    "1.5**2": 2.25,
    "0**0": 1,
    "(-1)**(10**300)": 1,
    "(-1)**-3": -1,
    "0**(10**300)": 0,
    "1e-200**2": 0.0,
    "1e200**-2": 0.0,
    "2**1023 % 7": 1,
    "factorial(170)/factorial(168)": 28730.0,
    "round(2.5)": 2,
    "round(-2.5)": -2,
    "round(2.675, 2)": 2.67,
    "round(1234.567, -2)": 1200.0,
    "round(1234, -2)": 1200,
    "max(1, 2.5)": 2.5,
    "max(3)": 3,
    "min(3, 1, 2)": 1,
    "sum(1, 2, 3.5)": 6.5,
    "abs(-3)": 3,
    "floor(-2.5)": -3,
    "ceil(2.1)": 3,
    "trunc(-2.7)": -2,
    "sqrt(2)": 2**0.5,
    "hypot(3, 4)": 5.0,
    "gcd(12, 18)": 6,
    "comb(10, 3)": 120,
    "comb(5, 7)": 0,
    "perm(10, 3)": 720,
    "pow(2, 3)": 8,
    "log(1000, 10)": 3.0,
    "log10(1000)": 3.0,
    "log2(8)": 3.0,
    "exp(0)": 1.0,
    "cos(0)": 1.0,
    "1_000": 1000,
    "0x10 + 0b11 + 0o17": 34,
    "1.": 1.0,
    ".5": 0.5,
    "1e5": 100000.0,
    "1e16": 1e16,
    "9007199254740991": 9007199254740991,
    "-9007199254740991": -9007199254740991,
    " 1 +\n 2\t": 3,
    "(" * 50 + "1" + ")" * 50: 1,
    "-" * 40 + "1": 1,
    "1+" * 400 + "1": 401,
    "tau - 2*pi": 0.0,
}

REFUSED = {
    "MATH_LIMIT": [
        "9**9**9",
        "99999**99999",
        "10**10**7",
        "2**1024",
        "2**1023",
        "9007199254740991 + 1",
        "-9007199254740992",
        "1e308*10",
        "-1e308*10",
        "1e308*1e308",
        "1e200**2",
        "1e400",
        "1.5**5000",
        "exp(1000)",
        "9" * 999,
        "factorial(171)",
        "factorial(10**6)",
        "comb(10**6, 5*10**5)",
        "perm(10**6, 10**5)",
        "round(1, -10**9)",
        "round(1.5, 10**9)",
        "floor(1e300)",
        "(" * 51 + "1" + ")" * 51,
        "(" * 400 + "1" + ")" * 400,
        "-" * 900 + "1",
        "-" * 60 + "1",
        "abs(" * 51 + "1" + ")" * 51,
        "1+" * 5000 + "1",
        "0." + "1" * 5000,
        "1" * 5000,
        "2**" * 60 + "1",
    ],
    "MATH_DOMAIN": [
        "1/0",
        "1//0",
        "1%0",
        "1.0/0",
        "0**-1",
        "0.0**-1",
        "(-8)**(1/3)",
        "(-8)**0.5",
        "sqrt(-1)",
        "log(0)",
        "log(-1)",
        "log(8, 1)",
        "asin(2)",
        "factorial(-1)",
        "factorial(1.5)",
        "gcd(1.5, 2)",
        "round(1.5, 0.5)",
    ],
    "MATH_SYNTAX": [
        "",
        "  ",
        "+",
        "1+",
        "1 1",
        "1)",
        "(1",
        "0x",
        "012",
        "1e",
        "1__0",
        "1or 2",
        "1if 1else 2",
        "1j",
        "1.2.3",
        "min()",
        "pow(2, 3, 5)",
        "sqrt(1, 2)",
        "max(1 2)",
        "del x",
        "yield",
        "1\n2",
    ],
    "MATH_FORBIDDEN": [
        "'a'*10**10",
        "[1,2,3]",
        "...",
        "True",
        "None",
        "not 1",
        "1 or 2",
        "1 if 1 else 2",
        "await x",
        "(lambda: 1)()",
        'b"x"',
        "f'{1}'",
        "(x:=1)",
        "x = 1",
        "1<2<3",
        "1==1",
        "1|2",
        "1<<2",
        "~1",
        "1@2",
        "1,2",
        "()",
        "{}",
        "1;2",
        "1#2",
        "1\x0c",
        "1+\x00 1",
        "x",
        "inf",
        "nan",
        "sqrt",
        "globals()",
        "getattr(1,'real')",
        "__import__('os')",
        "().__class__",
        "(1).real",
        "pi.real",
        "max(*(1,2))",
        "max(1, key=2)",
        "max(**1)",
        "\uff4d\uff41\uff58(1,2)",
        "\u0663+1",
        "1\u00a0+1",
        "2\u00b2",
    ],
}


@pytest.mark.parametrize(("expression", "result"), COMPUTED.items())
def test_math_computes(expression: str, result: float) -> None:
    found = evaluate(expression, variables={})

    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("reason", "expression"),
    [(reason, expression) for reason, cases in REFUSED.items() for expression in cases],
)
def test_math_refuses_with_reason(reason: str, expression: str) -> None:
    began = time.perf_counter()

    with pytest.raises(StepFailed) as refused:
        evaluate(expression, variables={})

    assert (refused.value.code, refused.value.reason) == (FailureCode.TOOL_ERROR, reason)
    assert len(refused.value.message) < 500
    assert time.perf_counter() - began < 0.2


def test_math_bounds_the_costliest_expression_of_full_length() -> None:
    costly = ("1.1**1000+" * 99)[: MAX_LENGTH - 4] + "1+1"
    began = time.perf_counter()

    evaluate(costly, variables={})

    assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_math_function_refuses_too_many_arguments(name: str) -> None:
    arguments = ",".join(["1"] * (FUNCTIONS[name].most + 1))

    with pytest.raises(StepFailed) as refused:
        evaluate(f"{name}({arguments})", variables={})

    assert refused.value.reason == "MATH_SYNTAX"


def test_math_rounds_what_the_platform_library_computes() -> None:
    found = {name: evaluate(f"{name}(0.7)", variables={}) for name in ("sin", "exp", "log", "tanh")}

    assert all(value == float(f"{value:.15g}") for value in found.values())
    assert evaluate("2**0.5", variables={}) == 1.4142135623731


@pytest.mark.parametrize("base", [1.05, 0.1, 1.0000001, -1.7, 123.456, 1e-3])
@pytest.mark.parametrize("exponent", [2, 3, 10, 31, 100])
def test_math_powers_of_floats_are_correctly_rounded(base: float, exponent: int) -> None:
    exact = Fraction(base) ** exponent

    found = evaluate(f"({base})**{exponent}", variables={})

    assert found == exact.numerator / exact.denominator


async def test_math_tool_takes_variables_that_hide_constants() -> None:
    arguments: dict[str, Json] = {"expression": "a*2 + e", "variables": {"a": 1.5, "e": 10}}

    output = await MathTool().call(arguments, make_context())

    assert output == {"result": 13.0}


async def test_math_tool_reads_a_large_integer_as_the_double_it_stands_for() -> None:
    arguments: dict[str, Json] = {"expression": "a*10", "variables": {"a": 10**16}}

    output = await MathTool().call(arguments, make_context())

    assert output == {"result": 1e17}
