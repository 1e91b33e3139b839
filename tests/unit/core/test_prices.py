"""The price table: exact sums, one rounding, strict reading."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.prices import (
    FREE,
    PRICES,
    BadPrices,
    Prices,
    read_prices,
    rounded_usd,
    usd,
    usd_text,
)

COUNT = st.integers(0, 10**9)
PRICE = st.integers(0, 10**12).map(lambda billionths: Decimal(billionths).scaleb(-9))
TABLE = st.builds(Prices, step_usd=PRICE, sandbox_second_usd=PRICE, thousand_tokens_usd=PRICE)
GOOD = """
# Ours.
step_usd = 0.001
sandbox_second_usd = 1e-3
thousand_tokens_usd = 2
"""


def test_the_page_shows_the_table_that_is_built_in() -> None:
    page = (Path(__file__).parents[3] / "docs" / "usage.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

    assert read_prices(table) == PRICES


def test_a_step_costs_its_price_its_sandbox_time_and_its_tokens() -> None:
    cost = PRICES.of(steps=2, sandbox_ms=5000, tokens=500)

    assert cost == Decimal("0.0002") + Decimal("0.001") + Decimal("0.001")


@given(TABLE, st.lists(st.tuples(COUNT, COUNT, COUNT), max_size=20))
def test_the_whole_costs_what_its_parts_cost(
    prices: Prices, parts: list[tuple[int, int, int]]
) -> None:
    steps, sandbox_ms, tokens = (sum(part[place] for part in parts) for place in range(3))

    whole = prices.of(steps=steps, sandbox_ms=sandbox_ms, tokens=tokens)

    assert whole == sum(
        (prices.of(steps=a, sandbox_ms=b, tokens=c) for a, b, c in parts), Decimal(0)
    )


@given(st.decimals(0, 10**6, places=12))
def test_rounding_moves_a_cost_by_half_a_billionth_at_most(cost: Decimal) -> None:
    rounded = rounded_usd(cost)

    assert abs(rounded - cost) <= Decimal("0.0000000005")
    assert rounded_usd(rounded) == rounded


@pytest.mark.parametrize(
    ("cost", "rounded"),
    [
        ("0.0000000005", "0"),
        ("0.0000000015", "0.000000002"),
        ("0.0000000025", "0.000000002"),
        ("0.00000000250001", "0.000000003"),
    ],
)
def test_half_a_billionth_goes_to_the_even_one(cost: str, rounded: str) -> None:
    assert rounded_usd(Decimal(cost)) == Decimal(rounded)


@given(st.integers(0, 10**15 - 1))
def test_a_rounded_cost_survives_doubles_and_json(billionths: int) -> None:
    cost = Decimal(billionths).scaleb(-9)

    assert usd(float(cost)) == cost
    assert usd(orjson.loads(orjson.dumps(float(cost)))) == cost
    assert Decimal(usd_text(float(cost))) == cost


def test_a_tenth_is_a_tenth() -> None:
    assert sum((usd(0.1) for _ in range(3)), Decimal(0)) == usd(0.3)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.0, "0"), (1e-7, "0.0000001"), (1000.0, "1000"), (Decimal("0.100"), "0.1")],
)
def test_amounts_are_shown_in_digits(amount: float | Decimal, text: str) -> None:
    assert usd_text(amount) == text


def test_a_table_is_read_exactly() -> None:
    assert read_prices(GOOD) == Prices(
        step_usd=Decimal("0.001"),
        sandbox_second_usd=Decimal("0.001"),
        thousand_tokens_usd=Decimal(2),
    )


def test_a_table_may_be_free() -> None:
    zeros = "step_usd = 0\nsandbox_second_usd = 0.0\nthousand_tokens_usd = -0.0"

    assert read_prices(zeros) == FREE
    assert usd_text(read_prices(zeros).of(tokens=1)) == "0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("step_usd = 0.001", ""), "step_usd is missing"),
        (("step_usd", "step_eur"), "'step_eur' is not known; known are step_usd"),
        (("0.001", "-0.001"), "step_usd is -0.001; a number from 0 to 1000"),
        (("0.001", "1000.1"), "step_usd is 1000.1"),
        (("0.001", "1e-10"), "at most 9 decimal places"),
        (("0.001", "nan"), "step_usd is NaN"),
        (("0.001", "inf"), "step_usd is Infinity"),
        (("0.001", "1e999999"), "step_usd is 1E"),
        (("0.001", "1e99999999999999999999"), "it is not TOML"),
        (("0.001", "true"), "step_usd is True"),
        (("0.001", '"0.001"'), "step_usd is 0.001; a number"),
        (("0.001", "[1]"), "step_usd is"),
        (("0.001", "2026-05-01"), "step_usd is 2026-05-01"),
        (("step_usd = 0.001", "step_usd = 1\nstep_usd = 1"), "it is not TOML"),
        (("step_usd = ", "step_usd : "), "it is not TOML"),
    ],
)
def test_a_table_that_is_not_one_is_refused(change: tuple[str, str], said: str) -> None:
    with pytest.raises(BadPrices) as refused:
        read_prices(GOOD.replace(*change))

    assert said in str(refused.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(BadPrices) as refused:
        read_prices("step_usd = -1\nfoo = 1\n")

    for said in ("step_usd is -1", "'foo'", "sandbox_second_usd is", "thousand_tokens_usd is"):
        assert said in str(refused.value)
