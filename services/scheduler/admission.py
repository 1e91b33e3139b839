"""May this task enter? What a submission must be before it is planned, and what its key decides."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from libs.core.canonical import canonical_text
from libs.core.errors import PawlError, field_error
from libs.core.json_reader import json_type, read_json
from libs.core.plan import Limits
from libs.core.tiers import TierLimits
from services.scheduler.batch_model import Batch, KeyHolder
from services.scheduler.model import Admitted, Agent, IdempotencyKey, Submission

MAX_WAIT_SECONDS = 25.0
MAX_PRIORITY = 1000
MAX_DAYS_AHEAD = 366
MAX_CONCURRENT = 2**31 - 1
MAX_TASKS = 1000
"""Of one batch, where the tier sets no limit."""

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def admit(submission: Submission, *, now: datetime) -> Admitted:
    """Check everything that needs no plan; the input becomes canonical.

    Raises PawlError: validation_failed, invalid_idempotency_key, and what the strict reader says of
    the input.
    """
    if not -MAX_PRIORITY <= submission.priority <= MAX_PRIORITY:
        raise field_error(
            "validation_failed",
            "priority",
            f"{submission.priority} is not between −{MAX_PRIORITY} and {MAX_PRIORITY}",
        )
    check_wait(submission.wait_seconds)
    check_scheduled_at(submission.scheduled_at, now=now)
    _check_agent(submission.agent)
    value = read_json(submission.task_input_json.encode())
    if not isinstance(value, dict):
        raise field_error(
            "validation_failed", "task_input", f"it is {json_type(value)}; it must be an object"
        )
    return Admitted(
        task_input=canonical_text(value),
        idempotency=idempotency_key(submission.key, submission.fingerprint),
    )


def check_size(batch: Batch, *, tier: str, limits: TierLimits) -> None:
    """PawlError unless a batch has at least one task, and no more than the tier allows."""
    count = len(batch.submissions)
    if not count:
        raise field_error(
            "validation_failed",
            "tasks",
            "it is empty; at least one task is needed",
            fine="required",
        )
    most = limits.max_tasks_per_request
    if count > (MAX_TASKS if most is None else most):
        allowed = (
            f"at most {MAX_TASKS} are allowed"
            if most is None
            else f"the tier {tier} allows {most} (max_tasks_per_request)"
        )
        raise field_error("limit_exceeded", "tasks", f"{count} tasks in one request; {allowed}")


def admit_in_batch(submission: Submission, *, now: datetime) -> Admitted:
    """As `admit`, for a task whose batch has the key for all and answers at once."""
    for name, value in (
        ("idempotency_key", submission.key),
        ("request_fingerprint", submission.fingerprint),
        ("wait_seconds", submission.wait_seconds),
    ):
        if value:
            raise field_error("validation_failed", name, "a task of a batch has none of its own")
    return admit(submission, now=now)


def check_wait(wait_seconds: float) -> None:
    """PawlError validation_failed unless 0 to 25 seconds."""
    if not 0 <= wait_seconds <= MAX_WAIT_SECONDS:
        raise field_error(
            "validation_failed",
            "wait_seconds",
            f"{wait_seconds} is not between 0 and {MAX_WAIT_SECONDS:g}",
        )


def check_scheduled_at(scheduled_at: datetime | None, *, now: datetime) -> None:
    """PawlError validation_failed when it is more than 366 days ahead."""
    if scheduled_at is not None and scheduled_at - now > timedelta(days=MAX_DAYS_AHEAD):
        raise field_error(
            "validation_failed",
            "scheduled_at",
            f"{scheduled_at.isoformat()} is more than {MAX_DAYS_AHEAD} days ahead",
            fine="scheduled_at_too_far",
        )


def _check_agent(agent: Agent | None) -> None:
    limit = None if agent is None else agent.max_concurrent_tasks
    if limit is not None and not 1 <= limit <= MAX_CONCURRENT:
        raise field_error(
            "validation_failed",
            "agent.max_concurrent_tasks",
            f"{limit} is not between 1 and {MAX_CONCURRENT}",
        )


def idempotency_key(key: str | None, fingerprint: str) -> IdempotencyKey | None:
    """The key with its fingerprint, or None without a key."""
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise PawlError(
            "invalid_idempotency_key",
            "the idempotency key must be 1 to 255 printable ASCII characters",
        )
    if not _SHA256.fullmatch(fingerprint):
        raise field_error(
            "validation_failed",
            "request_fingerprint",
            "an idempotency key needs the SHA-256 of its request, 64 hex digits",
        )
    return IdempotencyKey(key=key, fingerprint=fingerprint)


def check_same_request(given: IdempotencyKey, holder: KeyHolder, *, is_batch: bool = False) -> None:
    """PawlError idempotency_key_reused unless the key's first request was this one."""
    if given.fingerprint != holder.fingerprint or is_batch is not holder.is_batch:
        raise key_reused()


def key_reused() -> PawlError:
    """For an idempotency key that stands for another request."""
    return PawlError(
        "idempotency_key_reused",
        "this idempotency key belongs to another request of the last 24 hours; send a new key",
    )


def tier_bounds(limits: TierLimits) -> Limits:
    """What a tier says about plans, in the words of a plan."""
    return Limits(
        max_steps=limits.max_steps,
        max_total_seconds=limits.max_timeout_seconds,
        max_total_tokens=limits.max_tokens,
        max_queue_seconds=limits.max_queue_seconds,
    )
