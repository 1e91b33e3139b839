"""A plan: steps in strict order, and the limits they run within."""

from __future__ import annotations

from dataclasses import dataclass

from libs.core.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of one tool. `input` may hold references to the task's input and to earlier
    outputs.
    """

    step_index: int
    tool: str
    input: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a task. None means no bound. Seconds, tokens and US dollars."""

    max_steps: int | None = None
    max_total_seconds: float | None = None
    max_step_seconds: float | None = None
    max_total_tokens: int | None = None
    max_cost_usd: float | None = None
    max_queue_seconds: float | None = None

    def as_json(self) -> dict[str, Json]:
        """The limits that are set, by name: what is shown, stored and hashed. Unlimited ones are
        left out.
        """
        named = {name: getattr(self, name) for name in LIMIT_NAMES}
        return {name: _number(value) for name, value in named.items() if value is not None}


LIMIT_NAMES = (
    "max_steps",
    "max_total_seconds",
    "max_step_seconds",
    "max_total_tokens",
    "max_cost_usd",
    "max_queue_seconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps 1..n and resolved limits; frozen when the task is planned."""

    steps: tuple[Step, ...]
    limits: Limits

    def as_json(self) -> dict[str, Json]:
        """The plan in the shape that callers write and read."""
        steps = [
            {"step_index": step.step_index, "tool": step.tool, "input": step.input}
            for step in self.steps
        ]
        return {"steps": steps, "limits": self.limits.as_json()}


def plan_from_json(value: Json) -> Plan:
    """Read back what `Plan.as_json` wrote. Not for a caller's plan: that one the planner
    validates.
    """
    assert isinstance(value, dict)  # noqa: S101 - Pawl wrote it
    steps = tuple(
        Step(step_index=s["step_index"], tool=s["tool"], input=s["input"]) for s in value["steps"]
    )
    return Plan(steps=steps, limits=Limits(**value["limits"]))


def _number(value: float) -> float:
    return int(value) if isinstance(value, float) and value.is_integer() else value
