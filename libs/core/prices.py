"""What steps cost: the one price table, in US dollars, in exact decimal numbers."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

USD_PLACES = 9
"""Decimal places of a step's cost: it is rounded once, to a billionth of a dollar."""
MAX_PRICE_USD = Decimal(1000)

_SMALLEST_USD = Decimal(1).scaleb(-USD_PLACES)


class BadPrices(ValueError):  # noqa: N818 - the name says what is wrong
    """A price table that cannot be used; the message says what is wrong and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars for a step, for a second in a sandbox, and for 1,000 model tokens."""

    step_usd: Decimal
    sandbox_second_usd: Decimal
    thousand_tokens_usd: Decimal

    def of(self, *, steps: int = 0, sandbox_ms: int = 0, tokens: int = 0) -> Decimal:
        """What so much costs, not rounded."""
        thousandths = self.sandbox_second_usd * sandbox_ms + self.thousand_tokens_usd * tokens
        return self.step_usd * steps + thousandths.scaleb(-3)


PRICES = Prices(
    step_usd=Decimal("0.0001"),
    sandbox_second_usd=Decimal("0.0002"),
    thousand_tokens_usd=Decimal("0.002"),
)
"""The table of an installation that has none of its own. docs/usage.md says the same."""
FREE = Prices(step_usd=Decimal(0), sandbox_second_usd=Decimal(0), thousand_tokens_usd=Decimal(0))


def usd(amount: float | Decimal) -> Decimal:
    """The decimal number that `amount` is written as: 0.1 is a tenth, not the nearest double."""
    return amount if isinstance(amount, Decimal) else Decimal(repr(amount))


def rounded_usd(cost: Decimal) -> Decimal:
    """A cost as it is charged: to nine decimal places, half to even.

    A double holds such a number exactly up to a million dollars, so that it survives every message.
    """
    return cost.quantize(_SMALLEST_USD, rounding=ROUND_HALF_EVEN)


def usd_text(amount: float | Decimal) -> str:
    """An amount in digits, without an exponent and without zeros at the end: 0.0001."""
    return f"{usd(amount).normalize():f}"


def read_prices(text: str) -> Prices:
    """The table that a TOML document says: every price, each 0 to 1,000, and nothing else.

    Raises BadPrices, which names everything that is wrong.
    """
    try:
        said = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, ArithmeticError) as error:
        raise BadPrices(f"it is not TOML: {error}") from error
    names = [field.name for field in fields(Prices)]
    wrong = [f"{name!r} is not known; known are {', '.join(names)}" for name in said.keys() - names]
    wrong += [f"{name} is missing" for name in names if name not in said]
    wrong += [
        f"{name} is {said[name]!s:.40}; a number from 0 to {MAX_PRICE_USD} with at most"
        f" {USD_PLACES} decimal places is allowed"
        for name in names
        if name in said and not _is_price(said[name])
    ]
    if wrong:
        raise BadPrices("; ".join(sorted(wrong)))
    return Prices(**{name: Decimal(said[name]).copy_abs() for name in names})


def _is_price(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    price = Decimal(value)
    if not price.is_finite() or not 0 <= price <= MAX_PRICE_USD:
        return False
    return price == price.quantize(_SMALLEST_USD)
