"""Tokens, sandbox time and money: what the tool of a step uses, within what its task may use."""

from __future__ import annotations

from decimal import Decimal

from libs.core.errors import FailureCode, StepFailed
from libs.core.plan import Limits
from libs.core.prices import FREE, Prices, rounded_usd, usd, usd_text
from services.executor.model import Used

MAX_CALL_USD = 10**6
"""The most that one call may cost: a tool that says more is wrong."""

_MAX_COUNT = 2**53 - 1


class Usage:
    """What one step uses. `before` is what the steps before it used.

    A tool reserves the most that a call may use before it makes the call, and settles it
    afterwards. What is never settled counts in full: nobody knows what became of that call.
    The step itself, tokens and sandbox time cost what `prices` says; what a tool counts in dollars
    comes on top.
    """

    def __init__(self, limits: Limits, *, before: Used, prices: Prices = FREE) -> None:
        self._limits = limits
        self._before = before
        self._prices = prices
        self._settled = Used()
        self._reserved: dict[Reservation, Used] = {}

    @property
    def used(self) -> Used:
        """What the step has used so far, open reservations in full, and what that costs."""
        return self._charged(self._counted)

    @property
    def used_without_step(self) -> Used:
        """The same without the price of the step: what is charged for one that never finishes."""
        return self._charged(self._counted, steps=0)

    def add(self, *, tokens: int = 0, cost_usd: float = 0.0, sandbox_seconds: float = 0.0) -> None:
        """Count what was used without having been reserved.

        A run in a sandbox counts in whole milliseconds, rounded up.
        """
        if not 0 <= sandbox_seconds <= _MAX_COUNT / 1000:
            raise ValueError(f"{sandbox_seconds} seconds in a sandbox; a count from 0 is allowed")
        microseconds = round(sandbox_seconds * 10**6)
        ran = Used(sandbox_ms=-(-microseconds // 1000))
        self._settled += _checked(tokens, cost_usd) + ran

    def reserve(self, *, tokens: int = 0, cost_usd: float = 0.0) -> Reservation:
        """Set aside what a call may use at most.

        Raises StepFailed (TOKEN_LIMIT, COST_LIMIT) when less is left of the task's limits.
        """
        asked = _checked(tokens, cost_usd)
        so_far = self._before + self.used
        then = self._before + self._charged(self._counted + asked)
        if tokens and _is_over(then.tokens, self._limits.max_total_tokens):
            raise StepFailed(
                FailureCode.TOKEN_LIMIT,
                f"the call may use {tokens} tokens; the task has used or reserved {so_far.tokens} "
                f"of {self._limits.max_total_tokens}",
            )
        call_usd = self._charged(asked, steps=0).cost_usd
        if call_usd and _is_over(then.cost_usd, self._limits.max_cost_usd):
            raise self._too_dear(f"the call may cost ${usd_text(call_usd)}")
        reservation = Reservation(self)
        self._reserved[reservation] = asked
        return reservation

    def settle(self, reservation: Reservation, used: Used) -> None:
        """Count `used` in place of what was reserved. ValueError when that is settled already."""
        if self._reserved.pop(reservation, None) is None:
            raise ValueError("the reservation is settled already")
        self._settled += used

    def affordable_seconds(self, seconds: float) -> float:
        """How many of `seconds` in a sandbox the task has the money for.

        Raises StepFailed (COST_LIMIT) when it has none.
        """
        limit, price = self._limits.max_cost_usd, self._prices.sandbox_second_usd
        if limit is None or not price:
            return seconds
        left = usd(limit) - (self._before + self.used).cost_usd
        if left <= 0:
            raise self.sandbox_too_dear()
        return min(seconds, float(left / price))

    def sandbox_too_dear(self) -> StepFailed:
        """The failure of a step whose time in the sandbox used up the task's money."""
        price = usd_text(self._prices.sandbox_second_usd)
        return self._too_dear(f"a second in the sandbox costs ${price}")

    def _too_dear(self, what: str) -> StepFailed:
        so_far = usd_text((self._before + self.used).cost_usd)
        limit = usd_text(self._limits.max_cost_usd or 0.0)
        return StepFailed(
            FailureCode.COST_LIMIT, f"{what}; the task has used or reserved ${so_far} of ${limit}"
        )

    @property
    def _counted(self) -> Used:
        return sum(self._reserved.values(), self._settled)

    def _charged(self, counted: Used, *, steps: int = 1) -> Used:
        priced = self._prices.of(steps=steps, sandbox_ms=counted.sandbox_ms, tokens=counted.tokens)
        return Used(
            tokens=counted.tokens,
            sandbox_ms=counted.sandbox_ms,
            cost_usd=rounded_usd(counted.cost_usd + priced),
        )


class Reservation:
    """Tokens and money set aside for one call of a model."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    def settle(self, *, tokens: int = 0, cost_usd: float = 0.0) -> None:
        """Count what the call used instead, more than was reserved if so. To be called once."""
        self._usage.settle(self, _checked(tokens, cost_usd))


def exceeded(used: Used, limits: Limits, *, next_step_usd: Decimal) -> StepFailed | None:
    """The failure of a task that may not begin a step of that price: it has used more than its
    limits allow, or would. None within them.
    """
    if _is_over(used.tokens, limits.max_total_tokens):
        return StepFailed(
            FailureCode.TOKEN_LIMIT,
            f"the task used {used.tokens} tokens; {limits.max_total_tokens} are allowed",
        )
    if _is_over(used.cost_usd + next_step_usd, limits.max_cost_usd):
        said = f"the task cost ${usd_text(used.cost_usd)}"
        if not _is_over(used.cost_usd, limits.max_cost_usd):
            said += f" and its next step costs ${usd_text(next_step_usd)}"
        allowed = usd_text(limits.max_cost_usd or 0.0)
        return StepFailed(FailureCode.COST_LIMIT, f"{said}; ${allowed} are allowed")
    return None


def _is_over(amount: int | Decimal, limit: float | None) -> bool:
    """Whether it is above the limit as that was written: 0.3 is three tenths."""
    return limit is not None and amount > usd(limit)


def _checked(tokens: int, cost_usd: float) -> Used:
    if not 0 <= tokens <= _MAX_COUNT:
        raise ValueError(f"{tokens} tokens; 0 to {_MAX_COUNT} are allowed")
    if not 0 <= cost_usd <= MAX_CALL_USD:
        raise ValueError(f"a cost of {cost_usd}; 0 to {MAX_CALL_USD} US dollars are allowed")
    return Used(tokens=tokens, cost_usd=usd(cost_usd))
