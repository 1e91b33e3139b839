"""JMESPath within bounds.

A short query can double its result over and over (`[@, @][] | [@, @][] | …`) or nest it so that
only its written form is large. So every value that a query makes is weighed as if written out, and
all work is charged to one account; a query that overdraws either ends. Failures are TOOL_ERROR with
the reason QUERY_SYNTAX, QUERY_TYPE (a function got a value of the wrong type) or QUERY_LIMIT.
"""

from __future__ import annotations

import functools
import json
import operator
from typing import Any

import jmespath
from jmespath import exceptions, functions, visitor

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed

MAX_QUERY_LENGTH = 1000
MAX_DEPTH = 100
MAX_WEIGHT = 4 * 2**20
MAX_WORK = 2_000_000


def search(query: str, *, data: Json) -> Json:
    """What `query` picks from `data`. Raises StepFailed."""
    _check_brackets(query)
    try:
        parsed = jmespath.compile(query).parsed
        interpreter = _Interpreter()
        result = interpreter.visit(parsed, data)
        interpreter.check_is_data(result)
    except exceptions.JMESPathTypeError as error:
        # The error's own text would hold the value, which may be large.
        expected = " or ".join(map(str, error.expected_types))
        raise _failed(f"{error.function_name}() takes {expected}", reason="QUERY_TYPE") from error
    except exceptions.JMESPathError as error:
        raise _failed(_explain(error), reason="QUERY_SYNTAX") from error
    except RecursionError as error:
        raise _limit("the query or its result is nested too deeply") from error
    except (TypeError, ValueError, OverflowError) as error:
        # The library sorts and compares without a check where a list mixes kinds of values.
        raise _failed(
            "a function got values that it cannot work with", reason="QUERY_TYPE"
        ) from error
    return result


def _check_brackets(query: str) -> None:
    """Bound the parser's recursion; Python's own limit would depend on who calls."""
    depth = 0
    for character in query:
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_DEPTH // 2:
            raise _limit(f"the query is nested deeper than {MAX_DEPTH // 2}")


class _Functions(functions.Functions):
    """The standard functions, those that differ between Pythons or explode made safe."""

    @functions.signature({"types": ["array-number"]})
    def _func_sum(self, arg: list[float]) -> float:
        # The built-in sum of floats compensates in later Pythons, so its results would differ.
        return functools.reduce(operator.add, arg, 0)

    @functions.signature({"types": ["array-number"]})
    def _func_avg(self, arg: list[float]) -> float | None:
        return functools.reduce(operator.add, arg, 0) / len(arg) if arg else None

    @functions.signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, array: list[str]) -> str:
        if len(separator) * len(array) > MAX_WEIGHT:
            raise _too_large()
        return separator.join(array)

    @functions.signature({"types": []})
    def _func_to_string(self, arg: Any) -> str:
        if isinstance(arg, visitor._Expression):  # noqa: SLF001 - the library has no other name for it
            raise _failed("to_string() takes no expression (&)", reason="QUERY_TYPE")
        return arg if isinstance(arg, str) else json.dumps(arg, separators=(",", ":"))


class _Interpreter(visitor.TreeInterpreter):
    """Evaluates one query; `visit` is called for every node and every element that a node maps
    over.
    """

    def __init__(self) -> None:
        super().__init__()
        self._table = _Functions()
        self._work = 0
        self._depth = 0
        self._weights: dict[int, int] = {}
        # Holds what was weighed: the id of a value that was collected could be given out again.
        self._weighed: list[Any] = []

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._charge(1)
        if self._depth >= MAX_DEPTH:
            raise _limit(f"the query is nested deeper than {MAX_DEPTH}")
        self._depth += 1
        result = super().visit(node, *args, **kwargs)
        self._depth -= 1
        if self._weigh(result) > MAX_WEIGHT:
            raise _too_large()
        return result

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        arguments = [self.visit(child, value) for child in node["children"]]
        self._charge(sum(self._weigh(argument) for argument in arguments) // 64)
        return self._table.call_function(node["value"], arguments)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        left, right = (self.visit(child, value) for child in node["children"])
        self._charge((self._weigh(left) + self._weigh(right)) // 64)
        compare = self.COMPARATOR_FUNC[node["value"]]
        if node["value"] in {"eq", "ne"}:
            return compare(left, right)
        # Two numbers or two strings have an order; the standard answers null for anything else.
        return compare(left, right) if _have_order(left, right) else None

    def check_is_data(self, result: Any) -> None:
        """Refuse a result that is, or holds, an expression (`&name`), which only functions take."""
        self._part(result)

    def _weigh(self, value: Any) -> int:
        """About how many characters the value would have when written out."""
        if isinstance(value, str):
            return len(value) + 2
        if not isinstance(value, dict | list):
            return 8
        known = self._weights.get(id(value))
        if known is not None:
            return known
        self._charge(len(value))
        if isinstance(value, dict):
            weight = 2 + sum(len(key) + 4 + self._part(part) for key, part in value.items())
        else:
            weight = 2 + sum(1 + self._part(part) for part in value)
        self._weights[id(value)] = weight
        self._weighed.append(value)
        return weight

    def _part(self, value: Any) -> int:
        if isinstance(value, visitor._Expression):  # noqa: SLF001 - as above
            raise _failed("an expression (&) is only for functions", reason="QUERY_TYPE")
        return self._weigh(value)

    def _charge(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise _limit("the query takes too much work on this data")


def _have_order(left: Any, right: Any) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return isinstance(left, str) and isinstance(right, str)
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in (left, right)
    )


def _explain(error: exceptions.JMESPathError) -> str:
    if isinstance(error, exceptions.ArityError | exceptions.UnknownFunctionError):
        return str(error)[:300]
    place = getattr(error, "lex_position", None)
    where = f" at character {place + 1}" if isinstance(place, int) else ""
    return f"the query cannot be read{where}"


def _too_large() -> StepFailed:
    return _limit(f"a value that the query makes is larger than {MAX_WEIGHT} characters")


def _limit(message: str) -> StepFailed:
    return _failed(message, reason="QUERY_LIMIT")


def _failed(message: str, *, reason: str) -> StepFailed:
    return StepFailed(FailureCode.TOOL_ERROR, message, reason=reason)
