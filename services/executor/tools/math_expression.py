"""An arithmetic expression: read by an allow-list of tokens, then of syntax nodes, then evaluated.

Nothing of Python but its number syntax and its operators' precedence gets through: no attribute,
string, comparison, lambda, keyword or star. The failures are TOOL_ERROR with the reason MATH_SYNTAX
(cannot be read), MATH_FORBIDDEN (is no arithmetic), MATH_LIMIT (too long, deep or large) or
MATH_DOMAIN (no real, finite result).
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from libs.core.errors import FailureCode, StepFailed
from services.executor.tools import math_numbers as numbers
from services.executor.tools.math_numbers import Number

MAX_LENGTH = 1000
MAX_DEPTH = 50
MAX_ARGUMENTS = 100

CONSTANTS: dict[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau}

# A number must not run into a name ("1or 2", "1j"): Python would warn about some of these and
# guess.
_TOKEN = re.compile(
    r"(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+"
    r"|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?)(?![A-Za-z0-9_.])"
    r"|[A-Za-z_][A-Za-z0-9_]*|[-+*/%(),]|[ \t\r\n]+",
    re.ASCII,
)
_NUMBER_START = re.compile(r"\.?[0-9]", re.ASCII)
_FLAT_SPACE = str.maketrans("\t\r\n", "   ")


@dataclass(frozen=True, slots=True)
class Function:
    """A function by name, and how many arguments it takes."""

    call: Callable[..., Number]
    least: int
    most: int


# The built-in sum is not used: later Pythons add floats with compensation, and results would
# differ.
def _table() -> dict[str, Function]:
    one: dict[str, Callable[..., Number]] = {
        "abs": abs,
        "floor": math.floor,
        "ceil": math.ceil,
        "trunc": math.trunc,
        "sqrt": math.sqrt,
        "degrees": numbers.library(math.degrees),
        "radians": numbers.library(math.radians),
        "factorial": numbers.factorial,
    }
    names = "exp log2 log10 sin cos tan asin acos atan sinh cosh tanh cbrt"
    one |= {name: numbers.library(getattr(math, name)) for name in names.split()}
    table = {name: Function(call, 1, 1) for name, call in one.items()}
    return table | {
        "round": Function(numbers.round_to, 1, 2),
        "log": Function(numbers.logarithm, 1, 2),
        "pow": Function(numbers.power, 2, 2),
        "atan2": Function(numbers.library(math.atan2), 2, 2),
        "hypot": Function(numbers.library(math.hypot), 1, MAX_ARGUMENTS),
        "comb": Function(numbers.combinations, 2, 2),
        "perm": Function(numbers.permutations, 2, 2),
        "gcd": Function(math.gcd, 1, MAX_ARGUMENTS),
        "min": Function(lambda *values: min(values), 1, MAX_ARGUMENTS),
        "max": Function(lambda *values: max(values), 1, MAX_ARGUMENTS),
        "sum": Function(lambda *values: functools.reduce(numbers.add, values), 1, MAX_ARGUMENTS),
    }


FUNCTIONS = _table()

_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: numbers.add,
    ast.Sub: numbers.subtract,
    ast.Mult: numbers.multiply,
    ast.Div: numbers.divide,
    ast.FloorDiv: numbers.floor_divide,
    ast.Mod: numbers.modulo,
    ast.Pow: numbers.power,
}


def evaluate(expression: str, *, variables: Mapping[str, Number]) -> Number:
    """The value of `expression`; a variable hides a constant of its name. Raises StepFailed."""
    tree = _parse(expression)
    try:
        return numbers.final(_Evaluation(variables).value(tree, depth=1))
    except ZeroDivisionError as error:
        raise numbers.domain("division by zero") from error
    except OverflowError as error:
        raise numbers.limit("a number is beyond the range of a double (about 1.8e308)") from error
    except (ValueError, TypeError) as error:
        # The functions of the table say so when an argument is outside their domain (log(0),
        # gcd(1.5)).
        raise numbers.domain("an argument is outside the domain of its function") from error


def _parse(expression: str) -> ast.expr:
    if len(expression) > MAX_LENGTH:
        raise numbers.limit(
            f"the expression has {len(expression)} characters; {MAX_LENGTH} are allowed"
        )
    _check_tokens(expression)
    _check_brackets(expression)
    try:
        return ast.parse(expression.translate(_FLAT_SPACE).strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _syntax("the expression cannot be read: it is not complete arithmetic") from error
    except (RecursionError, MemoryError) as error:
        raise numbers.limit("the expression is nested too deeply") from error


def _check_tokens(expression: str) -> None:
    """Refuse what is no token of arithmetic, on the raw source: Python folds look-alike letters to
    ASCII.
    """
    place = 0
    while place < len(expression):
        token = _TOKEN.match(expression, place)
        if token is None:
            if _NUMBER_START.match(expression, place):
                raise _syntax(f"the number at character {place + 1} cannot be read")
            raise _forbidden(f"the character at {place + 1} is no part of arithmetic")
        place = token.end()


def _check_brackets(expression: str) -> None:
    depth = 0
    for character in expression:
        depth += (character == "(") - (character == ")")
        if depth > MAX_DEPTH:
            raise numbers.limit(f"the expression is nested deeper than {MAX_DEPTH}")


class _Evaluation:
    """One evaluation. Depth counts nesting; a chain such as 1+2+3 is one level, however long."""

    def __init__(self, variables: Mapping[str, Number]) -> None:
        self._variables = variables

    def value(self, node: ast.expr, *, depth: int) -> Number:
        if depth > MAX_DEPTH:
            raise numbers.limit(f"the expression is nested deeper than {MAX_DEPTH}")
        match node:
            case ast.Constant(value=constant) if type(constant) in {int, float}:
                return numbers.bounded(constant)  # type: ignore[arg-type]  # the guard says so
            case ast.Name(id=name):
                return self._named(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand, depth=depth + 1)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand, depth=depth + 1)
            case ast.BinOp():
                return self._chain(node, depth=depth)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments, depth=depth)
            case _:
                raise _forbidden(f"{type(node).__name__} is no arithmetic: {ALLOWED}")

    def _chain(self, node: ast.BinOp, *, depth: int) -> Number:
        operations: list[ast.BinOp] = []
        first: ast.expr = node
        while isinstance(first, ast.BinOp):
            operations.append(first)
            first = first.left
        result = self.value(first, depth=depth + 1)
        for operation in reversed(operations):
            operator = _BINARY.get(type(operation.op))
            if operator is None:
                raise _forbidden(f"{type(operation.op).__name__} is no arithmetic: {ALLOWED}")
            right = self.value(operation.right, depth=depth + 1)
            result = numbers.bounded(operator(result, right))
        return result

    def _call(self, name: str, arguments: list[ast.expr], *, depth: int) -> Number:
        function = FUNCTIONS.get(name)
        if function is None:
            raise _forbidden(
                f"there is no function {name[:64]}; there are {', '.join(sorted(FUNCTIONS))}"
            )
        if not function.least <= len(arguments) <= function.most:
            takes = f"{function.least}" + (
                f" to {function.most}" * (function.most > function.least)
            )
            raise _syntax(f"{name} takes {takes} arguments, not {len(arguments)}")
        values = [self.value(argument, depth=depth + 1) for argument in arguments]
        return numbers.bounded(function.call(*values))

    def _named(self, name: str) -> Number:
        if name in self._variables:
            return numbers.bounded(self._variables[name])
        if name in CONSTANTS:
            return CONSTANTS[name]
        raise _forbidden(f"{name[:64]} is neither a variable of this step nor one of pi, e and tau")


ALLOWED = "numbers, variables, + - * / // % **, parentheses and the listed functions are allowed"


def _syntax(message: str) -> StepFailed:
    return StepFailed(FailureCode.TOOL_ERROR, message, reason="MATH_SYNTAX")


def _forbidden(message: str) -> StepFailed:
    return StepFailed(FailureCode.TOOL_ERROR, message, reason="MATH_FORBIDDEN")
