"""What was used: auth's words to the API's; and the days as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from gateway.answers import rfc3339
from gateway.wording import reworded
from libs.core.prices import usd, usd_text
from libs.pb.pawl.auth.v1 import auth_pb2, auth_service_pb2
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2

FIELDS = {"first_day": "from", "last_day": "to"}
"""Auth's names of what a query asks for, and the API's."""

COUNTED = ("requests", "tasks", "steps", "sandbox_seconds", "tokens", "cost_usd")
"""What is counted of each day, in the order of the table's columns."""


def account_record(
    said: auth_service_pb2.GetUsageResponse, active: scheduler_service_pb2.CountTasksResponse
) -> dict[str, Any]:
    """The answer of GET /api/v1/tasks/usage."""
    used, limits = said.usage, said.limits
    return {
        "user_id": said.user.number,
        "email": said.user.email,
        "plan": said.tier,
        "monthly_requests": used.requests,
        "monthly_task_executions": used.tasks,
        "total_usage_usd": used.cost_usd,
        "rate_limit_per_minute": _limit(limits, "rate_limit_per_minute"),
        "max_timeout_seconds": _limit(limits, "max_timeout_seconds"),
        "max_tasks_per_request": _limit(limits, "max_tasks_per_request"),
        "active_tasks": active.waiting + active.running,
        "month": used.month,
        "resets_at": resets_at(used.month),
        "monthly_requests_limit": _limit(limits, "monthly_requests"),
        "monthly_steps": used.steps,
        "monthly_sandbox_seconds": used.sandbox_ms / 1000,
        "monthly_tokens": used.tokens,
    }


def resets_at(month: str) -> str | None:
    """When the month (YYYY-MM) ends, in UTC; None for the last of all."""
    first = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    if first.month < 12:
        return rfc3339(first.replace(month=first.month + 1))
    return rfc3339(first.replace(year=first.year + 1, month=1)) if first.year < 9999 else None


def days_record(days: Sequence[auth_pb2.DayUsage]) -> dict[str, Any]:
    """The answer of GET /v1/usage: every day, and their sum."""
    total = {
        "requests": sum(day.requests for day in days),
        "tasks": sum(day.tasks for day in days),
        "steps": sum(day.steps for day in days),
        "sandbox_seconds": sum(day.sandbox_ms for day in days) / 1000,
        "tokens": sum(day.tokens for day in days),
        # In decimal numbers: the sum of the doubles would drift.
        "cost_usd": float(sum((usd(day.cost_usd) for day in days), Decimal(0))),
    }
    return {
        "from": days[0].day,
        "to": days[-1].day,
        "total": total,
        "data": [
            {
                "day": day.day,
                "requests": day.requests,
                "tasks": day.tasks,
                "steps": day.steps,
                "sandbox_seconds": day.sandbox_ms / 1000,
                "tokens": day.tokens,
                "cost_usd": day.cost_usd,
            }
            for day in days
        ],
    }


def days_table(days: Iterable[auth_pb2.DayUsage]) -> str:
    """The days as CSV (RFC 4180) with a header row.

    Every cell below the header is a day or a number without a sign or an exponent, so that no
    spreadsheet takes one for a formula.
    """
    rows = [
        (
            date.fromisoformat(day.day).isoformat(),
            str(day.requests),
            str(day.tasks),
            str(day.steps),
            usd_text(Decimal(day.sandbox_ms).scaleb(-3)),
            str(day.tokens),
            usd_text(day.cost_usd),
        )
        for day in days
    ]
    return "".join(",".join(row) + "\r\n" for row in (("day", *COUNTED), *rows))


def in_our_words() -> AbstractContextManager[None]:
    """Turn auth's refusal into the API's names of fields."""
    return reworded(FIELDS)


def _limit(limits: auth_pb2.TierLimits, name: str) -> float | None:
    """A limit as a number without needless decimals; None: unlimited."""
    if not limits.HasField(name):  # type: ignore[arg-type]  # a name of one of its limits
        return None
    value: float = getattr(limits, name)
    return int(value) if value == int(value) else value
