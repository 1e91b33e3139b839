from __future__ import annotations

import math

import pytest

from libs.core.plan import LIMIT_NAMES, Limits
from libs.core.tiers import TIERS
from services.planner.plan_limits import read_plan_limits, resolve_limits

PRO = Limits(max_steps=32, max_total_seconds=60, max_total_tokens=200_000, max_queue_seconds=3600)
NONE = Limits()


def tier_limits(name: str) -> Limits:
    tier = TIERS[name]
    return Limits(
        max_steps=tier.max_steps,
        max_total_seconds=tier.max_timeout_seconds,
        max_total_tokens=tier.max_tokens,
        max_queue_seconds=tier.max_queue_seconds,
    )


def effective(*, asked: Limits = NONE, planned: Limits = NONE, tier: Limits = PRO) -> Limits:
    resolved = resolve_limits(asked=asked, planned=planned, tier=tier)
    assert resolved.problems == ()
    return resolved.limits


@pytest.mark.parametrize(
    ("tier", "steps", "total", "tokens"),
    [
        ("free", 8, 30, 10_000),
        ("starter", 12, 45, 50_000),
        ("pro", 12, 45, 200_000),
        ("enterprise", 12, 45, None),
    ],
)
def test_defaults_of_each_tier(tier: str, steps: int, total: float, tokens: int | None) -> None:
    assert effective(tier=tier_limits(tier)) == Limits(
        max_steps=steps,
        max_total_seconds=total,
        max_step_seconds=10,
        max_total_tokens=tokens,
        max_queue_seconds=3600,
    )


def test_unlimited_ones_are_left_out_of_what_is_shown() -> None:
    assert effective(tier=NONE).as_json() == {
        "max_steps": 12,
        "max_total_seconds": 45,
        "max_step_seconds": 10,
    }


def test_the_least_of_asked_and_planned_holds() -> None:
    limits = effective(
        asked=Limits(max_steps=20, max_total_seconds=30, max_cost_usd=2),
        planned=Limits(max_steps=15, max_total_seconds=50, max_cost_usd=0.5, max_queue_seconds=60),
    )

    assert limits.max_steps == 15
    assert limits.max_total_seconds == 30
    assert limits.max_cost_usd == 0.5
    assert limits.max_queue_seconds == 60


def test_what_is_asked_may_be_above_the_default() -> None:
    limits = effective(asked=Limits(max_steps=32), planned=Limits(max_total_seconds=60))

    assert (limits.max_steps, limits.max_total_seconds) == (32, 60)


def test_a_step_never_gets_more_than_the_total() -> None:
    assert effective(asked=Limits(max_total_seconds=5)).max_step_seconds == 5
    assert effective(planned=Limits(max_step_seconds=50)).max_step_seconds == 45
    assert effective(planned=Limits(max_step_seconds=2)).max_step_seconds == 2


@pytest.mark.parametrize(
    ("asked", "planned", "field"),
    [
        (Limits(max_steps=33), NONE, "max_steps"),
        (Limits(max_total_seconds=60.001), NONE, "timeout_seconds"),
        (NONE, Limits(max_steps=33), "plan.limits.max_steps"),
        (NONE, Limits(max_total_tokens=200_001), "plan.limits.max_total_tokens"),
        (NONE, Limits(max_queue_seconds=3601), "plan.limits.max_queue_seconds"),
        (NONE, Limits(max_step_seconds=60.5), "plan.limits.max_step_seconds"),
        # Also when the other one is small enough: what was asked for is not given.
        (Limits(max_steps=2), Limits(max_steps=33), "plan.limits.max_steps"),
    ],
)
def test_a_value_above_the_tier_is_refused_and_named(
    asked: Limits, planned: Limits, field: str
) -> None:
    [problem] = resolve_limits(asked=asked, planned=planned, tier=PRO).problems

    assert (problem.code, problem.field) == ("limit_exceeded", field)


@pytest.mark.parametrize(("tier_name", "words"), [("pro", "the tier pro"), ("", "this tier")])
def test_the_refusal_says_value_tier_and_bound(tier_name: str, words: str) -> None:
    [problem] = resolve_limits(
        asked=Limits(max_steps=40), planned=NONE, tier=PRO, tier_name=tier_name
    ).problems

    assert problem.detail == f"40 is above what {words} allows; the most is 32"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (Limits(max_steps=0), "max_steps"),
        (Limits(max_steps=-1), "max_steps"),
        (Limits(max_total_seconds=0), "timeout_seconds"),
        (Limits(max_total_seconds=math.nan), "timeout_seconds"),
        (Limits(max_total_seconds=math.inf), "timeout_seconds"),
        (Limits(max_total_tokens=-1), "max_total_tokens"),
    ],
)
def test_what_is_asked_beside_the_plan_has_to_make_sense(asked: Limits, field: str) -> None:
    problems = resolve_limits(asked=asked, planned=NONE, tier=NONE).problems

    assert [(p.code, p.field) for p in problems] == [("validation_failed", field)]


@pytest.mark.parametrize("name", ["max_total_seconds", "max_cost_usd"])
def test_a_value_beyond_every_bound_is_told_which_is_allowed(name: str) -> None:
    [problem] = read_plan_limits({name: 1e300}).problems

    assert problem.detail == "1e+300; at most 9007199254740991 is allowed"


def test_zero_tokens_and_no_money_are_limits() -> None:
    limits = effective(planned=Limits(max_total_tokens=0, max_cost_usd=0))

    assert (limits.max_total_tokens, limits.max_cost_usd) == (0, 0)


def test_a_frozen_plan_s_own_limits_can_be_sent_again() -> None:
    shown = effective(planned=Limits(max_cost_usd=1)).as_json()
    assert set(shown) == set(LIMIT_NAMES)

    again = read_plan_limits(shown)

    assert again.problems == ()
    assert effective(planned=again.limits).as_json() == shown


def test_plan_limits_are_read_one_by_one() -> None:
    read = read_plan_limits({"max_steps": 3, "max_total_seconds": "x", "more": 1})

    assert read.limits == Limits(max_steps=3)
    assert [(p.field, p.fine or p.code) for p in read.problems] == [
        ("plan.limits.more", "unknown_field"),
        ("plan.limits.max_total_seconds", "plan_invalid"),
    ]
