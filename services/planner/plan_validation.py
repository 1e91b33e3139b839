"""A plan that somebody wrote, against its shape, its limits and the tools on offer.

Nothing stops at the first problem: all are collected, and problems.py says which word the refusal
gets. Unknown keys are refused rather than ignored, because ignoring `retries` or `parallel` would
promise what does not happen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from libs.core.canonical import Json
from libs.core.plan import Limits, Step
from libs.core.references import kind_of
from libs.core.tool_spec import NOT_IN_TEST_MODE, ToolRef
from services.planner.model import Absence, CatalogTool, Problem, Snapshot
from services.planner.plan_limits import read_plan_limits, resolve_limits, tier_words
from services.planner.step_inputs import Surroundings, check_input

PLAN_KEYS = ("steps", "limits")
STEP_KEYS = ("step_index", "tool", "input")

_SHOWN_CHARACTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a plan is held against. `now` is monotonic seconds, for the tools on offer."""

    catalog: Snapshot
    now: float
    task_input: dict[str, Json]
    asked: Limits
    tier: Limits
    test_mode: bool = False
    tier_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPlan:
    """What a plan says, as far as it could be read, and every problem found.

    Without problems the steps are complete, the limits resolved and the tools exact.
    """

    steps: tuple[Step, ...]
    limits: Limits
    tools: frozenset[ToolRef]
    problems: tuple[Problem, ...]


def check_plan(value: Json, *, rules: Rules) -> CheckedPlan:
    """Hold a plan, any JSON at all, against the rules."""
    body = value if isinstance(value, dict) else {}
    problems: list[Problem] = []
    if body is not value:
        detail = f"{kind_of(value)}; an object with steps and limits is allowed"
        problems.append(Problem(code="plan_invalid", field="plan", detail=detail))
    problems.extend(_unknown_keys(body, allowed=PLAN_KEYS, under="plan"))
    listed = body.get("steps")
    if body is value:
        problems.extend(_check_list(body))
    steps = listed if isinstance(listed, list) else []
    planned = read_plan_limits(body.get("limits", {}))
    resolved = resolve_limits(
        asked=rules.asked, planned=planned.limits, tier=rules.tier, tier_name=rules.tier_name
    )
    most = resolved.limits.max_steps
    if most is not None and len(steps) > most:
        detail = f"the plan has {len(steps)} steps; max_steps is {most}"
        detail += _allowed_steps(rules)
        problems.append(Problem(code="step_limit", field="plan.steps", detail=detail))
    tools = _tools_of(steps, rules=rules)
    around = Surroundings(task_input=rules.task_input, tools=_known(tools))
    for place, step in enumerate(steps):
        problems.extend(
            _check_step(step, place=place, found=tools[place], around=around, rules=rules)
        )
    problems.extend((*planned.problems, *resolved.problems))
    return CheckedPlan(
        steps=() if problems else tuple(Step(**step) for step in steps),
        limits=resolved.limits,
        tools=frozenset(tool.ref for tool in around.tools.values()),
        problems=tuple(problems),
    )


def test_mode_problem(tool: CatalogTool, *, field: str) -> Iterator[Problem]:
    """What a test key may not use of a tool."""
    refused = sorted(NOT_IN_TEST_MODE.intersection(tool.spec.effects))
    if refused:
        detail = f"{tool.spec.name} reaches {' and '.join(refused)}, which a test key may not use"
        yield Problem(code="plan_invalid", fine="not_in_test_mode", field=field, detail=detail)


def _check_list(body: dict[str, Json]) -> Iterator[Problem]:
    if "steps" not in body:
        yield Problem(code="plan_invalid", field="plan.steps", detail="the list is missing")
    elif not isinstance(body["steps"], list):
        detail = f"{kind_of(body['steps'])}; a list of steps is allowed"
        yield Problem(code="plan_invalid", field="plan.steps", detail=detail)
    elif not body["steps"]:
        yield Problem(
            code="plan_invalid", field="plan.steps", detail="a plan has at least one step"
        )


def _allowed_steps(rules: Rules) -> str:
    """What max_steps may be at most, for who needs more."""
    allowed = rules.tier.max_steps
    return "" if allowed is None else f", and {tier_words(rules.tier_name)} allows {allowed}"


def _tools_of(steps: list[Json], *, rules: Rules) -> list[CatalogTool | Absence]:
    """The tool of every step by its place; UNKNOWN for what is no tool's name at all."""
    found: list[CatalogTool | Absence] = []
    for step in steps:
        name = step.get("tool") if isinstance(step, dict) else None
        known = isinstance(name, str)
        found.append(rules.catalog.find(str(name), now=rules.now) if known else Absence.UNKNOWN)
    return found


def _known(tools: list[CatalogTool | Absence]) -> dict[int, CatalogTool]:
    """The tools that there are, by step_index."""
    numbered = enumerate(tools, start=1)
    return {index: tool for index, tool in numbered if isinstance(tool, CatalogTool)}


def _check_step(
    step: Json,
    *,
    place: int,
    found: CatalogTool | Absence,
    around: Surroundings,
    rules: Rules,
) -> Iterator[Problem]:
    field = f"plan.steps[{place}]"
    if not isinstance(step, dict):
        detail = f"{kind_of(step)}; an object with {', '.join(STEP_KEYS)} is allowed"
        yield Problem(code="plan_invalid", field=field, detail=detail)
        return
    yield from _unknown_keys(step, allowed=STEP_KEYS, under=field)
    for key in STEP_KEYS:
        if key not in step:
            yield Problem(code="plan_invalid", field=f"{field}.{key}", detail="it is missing")
    if "step_index" in step:
        yield from _check_index(step["step_index"], place=place, field=f"{field}.step_index")
    if "tool" in step:
        yield from _check_tool(step["tool"], found=found, field=f"{field}.tool", rules=rules)
    if "input" in step:
        yield from check_input(
            step["input"],
            field=f"{field}.input",
            step_index=place + 1,
            tool=found if isinstance(found, CatalogTool) else None,
            around=around,
        )


def _check_index(value: Json, *, place: int, field: str) -> Iterator[Problem]:
    expected = place + 1
    if isinstance(value, bool) or not isinstance(value, int):
        shown = repr(value) if isinstance(value, float) else kind_of(value)
        detail = f"{shown}; the whole number {expected} is expected"
        yield Problem(code="plan_invalid", field=field, detail=detail)
    elif value != expected:
        detail = f"{value}; {expected} is expected: steps count from 1 without gaps"
        yield Problem(code="plan_invalid", field=field, detail=detail)


def _check_tool(
    name: Json, *, found: CatalogTool | Absence, field: str, rules: Rules
) -> Iterator[Problem]:
    if not isinstance(name, str):
        detail = f"{kind_of(name)}; the name of a tool is allowed"
        yield Problem(code="unknown_tool", field=field, detail=detail)
    elif found is Absence.UNKNOWN:
        yield Problem(code="unknown_tool", field=field, detail=_unknown(name, rules.catalog))
    elif found is Absence.UNAVAILABLE:
        detail = f"{name} is known, but no executor offers it now"
        yield Problem(code="tool_unavailable", field=field, detail=detail)
    elif rules.test_mode and isinstance(found, CatalogTool):
        yield from test_mode_problem(found, field=field)


def _unknown(name: str, catalog: Snapshot) -> str:
    detail = f"{json.dumps(name[:_SHOWN_CHARACTERS])} was never registered by an executor"
    if name.lower() != name and name.lower() in catalog.by_name:
        detail += f"; names are lower case: {name.lower()}"
    return detail


def _unknown_keys(
    body: dict[str, Json], *, allowed: tuple[str, ...], under: str
) -> Iterator[Problem]:
    for key in body:
        if key not in allowed:
            detail = f"not a key here; allowed are {', '.join(allowed)}"
            field = f"{under}.{key[:_SHOWN_CHARACTERS]}"
            yield Problem(code="unknown_field", field=field, detail=detail)
