"""The limits of a task: what was asked beside the plan and inside it, within what the tier allows.

The effective limit is the least of what was asked and what the tier allows. Where nothing was
asked: 12 steps, 45 s in total and 10 s per step or the tier's limit if that is less; of tokens and
seconds in the queue what the tier allows; no cost limit. A step never gets more than the total. A
value above the tier is a problem, not silently cut. None means unlimited.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from libs.core.canonical import MAX_SAFE_INTEGER, Json
from libs.core.plan import LIMIT_NAMES, Limits
from libs.core.references import kind_of
from services.planner.model import Problem

DEFAULT_MAX_STEPS = 12
DEFAULT_TOTAL_SECONDS = 45.0
DEFAULT_STEP_SECONDS = 10.0

PLAN_LIMITS = "plan.limits"

NameField = Callable[[str], str]

_WHOLE = frozenset({"max_steps", "max_total_tokens"})
_MAY_BE_ZERO = frozenset({"max_total_tokens", "max_cost_usd"})
# What the fields beside the plan are called where people send them.
_ASKED_FIELDS = {"max_total_seconds": "timeout_seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedLimits:
    """Limits that hold, and what was wrong with those asked for; with problems they are a guess."""

    limits: Limits
    problems: tuple[Problem, ...]


def read_plan_limits(value: Json) -> ResolvedLimits:
    """The limits inside a plan as their author wrote them, each on its own."""
    if not isinstance(value, dict):
        detail = f"{kind_of(value)}; an object is allowed"
        return ResolvedLimits(limits=Limits(), problems=(_invalid(PLAN_LIMITS, detail),))
    problems = [
        _invalid(
            f"{PLAN_LIMITS}.{name[:64]}",
            f"not a limit; allowed are {', '.join(LIMIT_NAMES)}",
            fine="unknown_field",
        )
        for name in value
        if name not in LIMIT_NAMES
    ]
    good: dict[str, float] = {}
    for name in LIMIT_NAMES:
        if name in value:
            number = value[name]
            wrong = _wrong(name, number)
            if wrong:
                problems.append(_invalid(f"{PLAN_LIMITS}.{name}", wrong))
            elif isinstance(number, int | float):
                good[name] = number
    return ResolvedLimits(limits=_limits(good), problems=tuple(problems))


def resolve_limits(
    *, asked: Limits, planned: Limits, tier: Limits, tier_name: str = ""
) -> ResolvedLimits:
    """What holds for a task: `asked` beside the plan and `planned` inside it, under the tier."""
    problems = [*_check_asked(asked)]
    bounds = replace(tier, max_step_seconds=least(tier.max_step_seconds, tier.max_total_seconds))
    for holder, fields in ((asked, _asked_field), (planned, _planned_field)):
        problems.extend(_check_tier(holder, bounds=bounds, name_field=fields, tier_name=tier_name))
    return ResolvedLimits(
        limits=_effective(asked=asked, planned=planned, tier=tier), problems=tuple(problems)
    )


def least(*values: float | None) -> float | None:
    """The least of the limits that are set; None when none is."""
    return min((value for value in values if value is not None), default=None)


def tier_words(tier_name: str) -> str:
    """A tier as refusals name it."""
    return f"the tier {tier_name}" if tier_name else "this tier"


def shown_limit(value: float) -> str:
    """A limit's value as people write it."""
    return f"{value:.15g}"


def _effective(*, asked: Limits, planned: Limits, tier: Limits) -> Limits:
    found: dict[str, float] = {}
    defaults = {
        "max_steps": DEFAULT_MAX_STEPS,
        "max_total_seconds": DEFAULT_TOTAL_SECONDS,
        "max_step_seconds": DEFAULT_STEP_SECONDS,
    }
    for name in LIMIT_NAMES:
        wanted = least(getattr(asked, name), getattr(planned, name))
        if wanted is None:
            wanted = defaults.get(name)
        value = least(wanted, getattr(tier, name))
        if value is not None:
            found[name] = value
    total = found["max_total_seconds"]
    found["max_step_seconds"] = min(found["max_step_seconds"], total)
    return _limits(found)


def _check_asked(asked: Limits) -> Iterator[Problem]:
    for name in LIMIT_NAMES:
        value = getattr(asked, name)
        wrong = value is not None and _wrong(name, value)
        if wrong:
            yield Problem(code="validation_failed", field=_asked_field(name), detail=wrong)


def _check_tier(
    holder: Limits, *, bounds: Limits, name_field: NameField, tier_name: str
) -> Iterator[Problem]:
    for name in LIMIT_NAMES:
        value, most = getattr(holder, name), getattr(bounds, name)
        if value is not None and most is not None and value > most:
            said, allowed = shown_limit(value), shown_limit(most)
            words = tier_words(tier_name)
            detail = f"{said} is above what {words} allows; the most is {allowed}"
            yield Problem(code="limit_exceeded", field=name_field(name), detail=detail)


def _wrong(name: str, value: Json) -> str:
    """What is wrong with a limit's value; empty when nothing is."""
    allowed = "a whole number" if name in _WHOLE else "a number"
    allowed += ", at least 0" if name in _MAY_BE_ZERO else ", above 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{kind_of(value)}; {allowed} is allowed"
    sound = math.isfinite(value) and abs(value) <= MAX_SAFE_INTEGER
    whole = isinstance(value, int) or name not in _WHOLE
    if sound and whole and (value > 0 or (value == 0 and name in _MAY_BE_ZERO)):
        return ""
    if math.isfinite(value) and value > MAX_SAFE_INTEGER:
        allowed = f"at most {MAX_SAFE_INTEGER}"
    return f"{shown_limit(value)}; {allowed} is allowed"


def _limits(values: dict[str, float]) -> Limits:
    whole = {name: int(value) for name, value in values.items() if name in _WHOLE}
    rest = {name: value for name, value in values.items() if name not in _WHOLE}
    return Limits(**rest, **whole)  # type: ignore[arg-type]  # the names say which are whole


def _asked_field(name: str) -> str:
    return _ASKED_FIELDS.get(name, name)


def _planned_field(name: str) -> str:
    return f"{PLAN_LIMITS}.{name}"


def _invalid(field: str, detail: str, *, fine: str = "") -> Problem:
    return Problem(code="plan_invalid", field=field, detail=detail, fine=fine)
