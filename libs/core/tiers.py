"""The commercial tiers and what each allows: the one place where these numbers stand.

docs/limits.md shows them to people, and a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE_LIMIT = "rate_limit_per_minute"
MONTHLY_REQUESTS = "monthly_requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class TierLimits:
    """What a tier allows; None means unlimited. Seconds, days, counts and model tokens.

    `max_timeout_seconds`, `max_steps`, `max_tokens` and `max_queue_seconds` are of one task,
    `max_tasks_per_request` of a batch, the others of a tenant over all its keys.
    `retention_days`: how long artifacts are to be kept; nothing removes them yet.
    """

    rate_limit_per_minute: int | None = None
    max_timeout_seconds: float | None = None
    max_steps: int | None = None
    max_tasks_per_request: int | None = None
    max_concurrent_tasks: int | None = None
    monthly_requests: int | None = None
    max_tokens: int | None = None
    max_queue_seconds: float | None = None
    retention_days: int | None = None


TIERS: dict[str, TierLimits] = {
    "free": TierLimits(
        rate_limit_per_minute=20,
        max_timeout_seconds=30,
        max_steps=8,
        max_tasks_per_request=1,
        max_concurrent_tasks=2,
        monthly_requests=200,
        max_tokens=10_000,
        max_queue_seconds=3600,
        retention_days=90,
    ),
    "starter": TierLimits(
        rate_limit_per_minute=60,
        max_timeout_seconds=60,
        max_steps=16,
        max_tasks_per_request=1,
        max_concurrent_tasks=5,
        monthly_requests=5_000,
        max_tokens=50_000,
        max_queue_seconds=3600,
        retention_days=90,
    ),
    "pro": TierLimits(
        rate_limit_per_minute=120,
        max_timeout_seconds=60,
        max_steps=32,
        max_tasks_per_request=1,
        max_concurrent_tasks=20,
        monthly_requests=100_000,
        max_tokens=200_000,
        max_queue_seconds=3600,
    ),
    "enterprise": TierLimits(
        max_timeout_seconds=3600,
        max_steps=1000,
        max_tasks_per_request=100,
        max_concurrent_tasks=1000,
        max_queue_seconds=3600,
    ),
}
"""Tier → limits, lowest first."""


def limits_of(tier: str) -> TierLimits:
    """What a tier allows. One that this release does not know allows what the lowest does."""
    return TIERS.get(tier) or next(iter(TIERS.values()))
