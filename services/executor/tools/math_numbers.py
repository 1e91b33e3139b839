"""Arithmetic of the math tool: every operand is bounded before anything is computed with it.

Integers are exact, up to MAX_INTEGER_BITS while computing. Floats are IEEE doubles, and + - * / //
% and square roots on them are correctly rounded, the same on every machine. An integer power of a
float is computed from exact integers here, not by the platform. What is left to the platform's
mathematical library, which may differ between machines in the last bit, is rounded to
SIGNIFICANT_DIGITS (`settled`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from libs.core.canonical import MAX_SAFE_INTEGER
from libs.core.errors import FailureCode, StepFailed

Number = int | float

MAX_INTEGER_BITS = 1024
MAX_EXACT_EXPONENT = 1024
SIGNIFICANT_DIGITS = 15
_KEPT_BITS = 64


def limit(message: str) -> StepFailed:
    """The failure of an expression that asks for too much."""
    return StepFailed(FailureCode.TOOL_ERROR, message, reason="MATH_LIMIT")


def domain(message: str) -> StepFailed:
    """The failure of an operation that has no real, finite result."""
    return StepFailed(FailureCode.TOOL_ERROR, message, reason="MATH_DOMAIN")


def bounded(value: Number) -> Number:
    """`value`, if it may be used further; MATH_LIMIT for an overflow, MATH_DOMAIN for NaN."""
    if isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise limit(f"an integer needs more than {MAX_INTEGER_BITS} bits")
        return value
    if math.isnan(value):
        raise domain("an operation has no numeric result")
    if math.isinf(value):
        raise limit("a number is beyond the range of a double (about 1.8e308)")
    return value


def final(value: Number) -> Number:
    """`value`, if it may be a result: a finite double or an integer within ±(2**53 - 1)."""
    value = bounded(value)
    if isinstance(value, int) and not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        raise limit(
            "the result is an integer beyond 9007199254740991, which JSON cannot carry exactly"
        )
    return value


def settled(value: float) -> float:
    """A result of the platform's library, rounded to the digits on which platforms agree."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else value


def add(left: Number, right: Number) -> Number:
    """The sum."""
    return left + right


def subtract(left: Number, right: Number) -> Number:
    """The difference."""
    return left - right


def multiply(left: Number, right: Number) -> Number:
    """The product; both factors are bounded already, so this is at most 2048 bits of work."""
    return left * right


def divide(left: Number, right: Number) -> Number:
    """The quotient as a double."""
    return left / right


def floor_divide(left: Number, right: Number) -> Number:
    """The quotient, rounded down."""
    return left // right


def modulo(left: Number, right: Number) -> Number:
    """The remainder of the division that rounds down; it has the sign of the divisor."""
    return left % right


def power(base: Number, exponent: Number) -> Number:
    """`base` to the `exponent`: exact for integers, and not started when the result could not be
    held.
    """
    whole = int(exponent) if isinstance(exponent, int) or exponent.is_integer() else None
    if base == 0 and exponent < 0:
        raise domain("zero has no negative power")
    if isinstance(base, int) and isinstance(exponent, int):
        return _integer_power(base, exponent)
    if whole is not None and abs(whole) <= MAX_EXACT_EXPONENT:
        return _float_power(float(base), whole)
    if base < 0 and whole is None:
        raise domain("a fractional power of a negative number is not real")
    return settled(math.pow(base, exponent))


def _integer_power(base: int, exponent: int) -> Number:
    if base == 1 or exponent == 0:
        return 1
    if base in {0, -1}:
        return base if exponent % 2 else -base
    if (base.bit_length() - 1) * abs(exponent) >= MAX_INTEGER_BITS:
        raise limit(f"a power needs more than {MAX_INTEGER_BITS} bits")
    power_of_base: int = base ** abs(exponent)
    return power_of_base if exponent >= 0 else 1 / power_of_base


def _float_power(base: float, exponent: int) -> float:
    """`base` to an integer: an exact power of the significand, rounded once (twice below zero)."""
    if base == 0 or exponent == 0:
        return 1.0 if exponent == 0 else math.copysign(0.0, base) if exponent % 2 else 0.0
    fraction, scale = math.frexp(base)
    exact = int(fraction * 2**53) ** abs(exponent)
    scale = (scale - 53) * abs(exponent)
    surplus = max(exact.bit_length() - _KEPT_BITS, 0)
    magnitude = abs(exact)
    kept = magnitude >> surplus | bool(magnitude & ((1 << surplus) - 1))
    rounded = float(kept)
    scale += surplus
    result = math.ldexp(rounded, scale) if exponent > 0 else math.ldexp(1.0 / rounded, -scale)
    return -result if exact < 0 else result


def factorial(n: Number) -> Number:
    """n!, for whole n from 0."""
    n = _whole("factorial", n)
    if n > 170:
        raise limit("factorial takes at most 170")
    return math.factorial(n)


def combinations(n: Number, k: Number) -> Number:
    """Ways to choose k of n."""
    n, k = _whole("comb", n), _whole("comb", k)
    chosen = min(k, n - k) if k <= n else 0
    if n > MAX_INTEGER_BITS and chosen * n.bit_length() > MAX_INTEGER_BITS:
        raise limit(f"comb could need more than {MAX_INTEGER_BITS} bits")
    return math.comb(n, k)


def permutations(n: Number, k: Number) -> Number:
    """Ways to choose k of n in order."""
    n, k = _whole("perm", n), _whole("perm", k)
    if n > 170 and min(k, n) * n.bit_length() > MAX_INTEGER_BITS:
        raise limit(f"perm could need more than {MAX_INTEGER_BITS} bits")
    return math.perm(n, k)


def round_to(value: Number, digits: Number = 0) -> Number:
    """`value` rounded half to even: to an integer, or to `digits` places when `digits` is not 0."""
    if not isinstance(digits, int):
        raise domain("round takes a whole number of digits")
    if not -400 <= digits <= 400:
        raise limit("round takes -400 to 400 digits")
    return round(value, digits) if digits else round(value)


def logarithm(value: Number, base: Number | None = None) -> float:
    """The natural logarithm, or the one to `base`."""
    return settled(math.log(value) if base is None else math.log(value) / math.log(base))


def library(function: Callable[..., float]) -> Callable[..., float]:
    """`function` of the platform's library, with its result settled."""

    def settled_function(*values: Number) -> float:
        return settled(function(*values))

    return settled_function


def _whole(name: str, value: Number) -> int:
    if not isinstance(value, int) or value < 0:
        raise domain(f"{name} takes whole numbers from 0")
    return value
