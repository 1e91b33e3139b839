"""The JSON shapes of what was used, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

USED: dict[str, Any] = {
    "requests": 412,
    "tasks": 96,
    "steps": 288,
    "sandbox_seconds": 71.402,
    "tokens": 0,
    "cost_usd": 0.0430804,
}
DAY: dict[str, Any] = {"day": "2026-02-27", **USED}
DAYS: dict[str, Any] = {"from": "2026-02-27", "to": "2026-02-27", "total": USED, "data": [DAY]}
ACCOUNT: dict[str, Any] = {
    "user_id": 42,
    "email": "eng@example.com",
    "plan": "pro",
    "monthly_requests": 1643,
    "monthly_task_executions": 1588,
    "total_usage_usd": 23.48,
    "rate_limit_per_minute": 120,
    "max_timeout_seconds": 60,
    "max_tasks_per_request": 1,
    "active_tasks": 2,
    "month": "2026-02",
    "resets_at": "2026-03-01T00:00:00.000000+00:00",
    "monthly_requests_limit": 100_000,
    "monthly_steps": 4764,
    "monthly_sandbox_seconds": 803.25,
    "monthly_tokens": 0,
}


class AccountUsage(BaseModel):
    """Who asks, what their account used in a month, and what it may use."""

    model_config = ConfigDict(json_schema_extra={"examples": [ACCOUNT]})
    user_id: int = Field(description="The user whose key asks.")
    email: str
    plan: str = Field(description="The account's tier: free, starter, pro or enterprise.")
    monthly_requests: int = Field(description="Requests of live keys that were let through.")
    monthly_task_executions: int = Field(description="Tasks that live keys submitted.")
    total_usage_usd: float = Field(description="What their steps cost by the price table.")
    rate_limit_per_minute: int | None = Field(description="Null: unlimited, so too below.")
    max_timeout_seconds: float | None
    max_tasks_per_request: int | None
    active_tasks: int = Field(description="Tasks that have not ended, now.")
    month: str = Field(description="The month that is counted, YYYY-MM, in UTC.")
    resets_at: str | None = Field(description="When it ends and counting begins anew.")
    monthly_requests_limit: int | None
    monthly_steps: int = Field(description="Steps that finished, failed ones included.")
    monthly_sandbox_seconds: float
    monthly_tokens: int = Field(description="Model tokens.")


class Used(BaseModel):
    """What live keys used."""

    requests: int
    tasks: int
    steps: int
    sandbox_seconds: float
    tokens: int
    cost_usd: float


class UsedDay(Used):
    """What live keys used on one day, in UTC."""

    day: str = Field(json_schema_extra={"format": "date"})


class UsageByDay(BaseModel):
    """Every day asked for, with zeros where nothing was used, and their sum."""

    model_config = ConfigDict(json_schema_extra={"examples": [DAYS]})
    first: str = Field(alias="from", json_schema_extra={"format": "date"})
    to: str = Field(json_schema_extra={"format": "date"})
    total: Used
    data: list[UsedDay]
