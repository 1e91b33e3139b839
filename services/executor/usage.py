"""Model tokens and money: what the tool of a step uses, within what its task may use."""

from __future__ import annotations

import math

from libs.core.errors import FailureCode, StepFailed
from libs.core.plan import Limits
from services.executor.model import Used

_MAX_TOKENS = 2**53 - 1


class Usage:
    """What one step uses. `before` is what the steps before it used.

    A tool reserves the most that a call may use before it makes the call, and settles it
    afterwards. What is never settled counts in full: nobody knows what became of that call.
    """

    def __init__(self, limits: Limits, *, before: Used) -> None:
        self._limits = limits
        self._before = before
        self._settled = Used()
        self._reserved: dict[Reservation, Used] = {}

    @property
    def used(self) -> Used:
        """What the step has used so far, open reservations in full."""
        return sum(self._reserved.values(), self._settled)

    def add(self, *, tokens: int = 0, cost_usd: float = 0.0) -> None:
        """Count what was used without having been reserved."""
        self._settled += _checked(tokens, cost_usd)

    def reserve(self, *, tokens: int = 0, cost_usd: float = 0.0) -> Reservation:
        """Set aside what a call may use at most.

        Raises StepFailed (TOKEN_LIMIT, COST_LIMIT) when less is left of the task's limits.
        """
        asked = _checked(tokens, cost_usd)
        so_far = self._before + self.used
        if tokens and _is_over((so_far + asked).tokens, self._limits.max_total_tokens):
            raise StepFailed(
                FailureCode.TOKEN_LIMIT,
                f"the call may use {tokens} tokens; the task has used or reserved {so_far.tokens} "
                f"of {self._limits.max_total_tokens}",
            )
        if cost_usd and _is_over((so_far + asked).cost_usd, self._limits.max_cost_usd):
            raise StepFailed(
                FailureCode.COST_LIMIT,
                f"the call may cost ${cost_usd:g}; the task has used or reserved "
                f"${so_far.cost_usd:g} of ${self._limits.max_cost_usd:g}",
            )
        reservation = Reservation(self)
        self._reserved[reservation] = asked
        return reservation

    def settle(self, reservation: Reservation, used: Used) -> None:
        """Count `used` in place of what was reserved. ValueError when that is settled already."""
        if self._reserved.pop(reservation, None) is None:
            raise ValueError("the reservation is settled already")
        self._settled += used


class Reservation:
    """Tokens and money set aside for one call of a model."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    def settle(self, *, tokens: int = 0, cost_usd: float = 0.0) -> None:
        """Count what the call used instead, more than was reserved if so. To be called once."""
        self._usage.settle(self, _checked(tokens, cost_usd))


def exceeded(used: Used, limits: Limits) -> StepFailed | None:
    """The failure of a task that has used more than its limits allow; None within them."""
    if _is_over(used.tokens, limits.max_total_tokens):
        return StepFailed(
            FailureCode.TOKEN_LIMIT,
            f"the task used {used.tokens} tokens; {limits.max_total_tokens} are allowed",
        )
    if _is_over(used.cost_usd, limits.max_cost_usd):
        return StepFailed(
            FailureCode.COST_LIMIT,
            f"the task cost ${used.cost_usd:g}; ${limits.max_cost_usd:g} are allowed",
        )
    return None


def _is_over(amount: float, limit: float | None) -> bool:
    return limit is not None and amount > limit


def _checked(tokens: int, cost_usd: float) -> Used:
    if not 0 <= tokens <= _MAX_TOKENS:
        raise ValueError(f"{tokens} tokens; 0 to {_MAX_TOKENS} are allowed")
    if not (math.isfinite(cost_usd) and cost_usd >= 0):
        raise ValueError(f"a cost of {cost_usd}; it is to be finite and not negative")
    return Used(tokens=tokens, cost_usd=cost_usd)
