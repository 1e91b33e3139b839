"""What an account used and may use, and the tools on offer, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Who asks, what the account used this month, and its limits; a limit of None is none.

    `plan` is the account's tier. `active_tasks` have not ended.
    """

    user_id: int | None
    email: str | None
    plan: str
    monthly_requests: int
    monthly_task_executions: int
    total_usage_usd: float
    rate_limit_per_minute: int | None
    max_timeout_seconds: float | None
    max_tasks_per_request: int | None
    active_tasks: int
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolExample:
    """A call of a tool; `output` where it can be foretold, or the code with which it fails."""

    title: str
    input: Any
    output: Any = None
    failure_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool that plans may name. `available`: a living executor offers exactly this one."""

    name: str
    version: str
    description: str
    effects: tuple[str, ...]
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    available: bool
    digest: str = ""
    examples: tuple[ToolExample, ...] = ()
    raw: Mapping[str, Any] = field(repr=False, compare=False)
