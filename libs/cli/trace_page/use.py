"""What a task used of what its plan's limits allow. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from libs.cli.trace_page.timeline import Timeline
from libs.cli.trace_page.values import duration_text
from libs.client.traces import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One limit: in words, what was used and what is allowed, and the share that was used."""

    words: str
    limit_name: str
    used: str
    allowed: str
    share: float


def uses_of(trace: Trace, timeline: Timeline) -> tuple[Use, ...]:
    """Every limit that the plan sets, in the order in which people ask for them."""
    return tuple(_uses(trace, timeline))


def _uses(trace: Trace, timeline: Timeline) -> Iterator[Use]:
    if trace.verification.plan is None:
        return
    limits, summary = trace.verification.plan.limits, trace.summary
    run = timeline.run.seconds if timeline.run else 0.0
    longest = max((span.seconds for span in timeline.steps), default=0.0)
    waited = (summary.queue_latency_ms or 0) / 1000
    if timeline.run is None and timeline.queued is not None:
        waited = timeline.queued.seconds
    if limits.max_total_seconds is not None:
        yield _time("Time from start to end", "max_total_seconds", run, limits.max_total_seconds)
    if limits.max_step_seconds is not None:
        yield _time("Longest step", "max_step_seconds", longest, limits.max_step_seconds)
    if limits.max_queue_seconds is not None:
        yield _time("Time in the queue", "max_queue_seconds", waited, limits.max_queue_seconds)
    if limits.max_steps is not None:
        yield _count("Steps begun", "max_steps", summary.total_steps, limits.max_steps)
    if limits.max_total_tokens is not None:
        yield _count("Model tokens", "max_total_tokens", summary.tokens, limits.max_total_tokens)
    if limits.max_cost_usd is not None:
        used, allowed = trace.estimated_cost_usd, limits.max_cost_usd
        yield Use(
            words="Cost",
            limit_name="max_cost_usd",
            used=f"{used:.4f} USD",
            allowed=f"{allowed:g} USD",
            share=_share(used, allowed),
        )


def _time(words: str, name: str, used: float, allowed: float) -> Use:
    return Use(
        words=words,
        limit_name=name,
        used=duration_text(used),
        allowed=duration_text(allowed),
        share=_share(used, allowed),
    )


def _count(words: str, name: str, used: int, allowed: int) -> Use:
    return Use(
        words=words,
        limit_name=name,
        used=f"{used:,}",
        allowed=f"{allowed:,}",
        share=_share(used, allowed),
    )


def _share(used: float, allowed: float) -> float:
    if allowed <= 0:
        return 1.0 if used > 0 else 0.0
    return max(0.0, used / allowed)
