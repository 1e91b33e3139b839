"""Use case of planning: a task's input, perhaps with the caller's own plan, to a frozen plan."""

from __future__ import annotations

from libs.core.canonical import Json
from libs.core.clock import Clock
from libs.core.errors import PawlError
from libs.core.hashing import plan_hash
from libs.core.plan import Limits, Plan, Step
from libs.core.references import LITERAL_KEY, REF_KEY, follow, parse_ref
from services.planner.catalog import Catalog
from services.planner.generators import offline
from services.planner.model import (
    FrozenPlan,
    FrozenPlanRequest,
    PlanRequest,
    Problem,
    Unplannable,
)
from services.planner.plan_admission import admit_plan
from services.planner.plan_limits import resolve_limits
from services.planner.plan_validation import CheckedPlan, Rules, check_plan
from services.planner.problems import refusal

BY_CALLER = "caller"
BY_OFFLINE = "offline"

# Problems of a generated plan that its caller can do something about.
_OF_THE_CALLER = frozenset({"validation_failed", "limit_exceeded", "step_limit"})
_OF_THE_OFFER = frozenset({"unknown_tool", "tool_unavailable"})


class Planner:
    """Builds and validates plans. Stores nothing."""

    def __init__(self, catalog: Catalog, *, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock

    async def build(self, request: PlanRequest) -> FrozenPlan | Unplannable:
        """The frozen plan of a task's input, or why nobody can plan it.

        Raises PawlError: plan_invalid, unknown_field, unknown_tool, bad_ref, step_limit or
        tool_unavailable with every problem of a given plan, limit_exceeded, or validation_failed
        for the limits asked beside it.
        """
        rules = Rules(
            catalog=await self._catalog.snapshot(),
            now=self._clock.monotonic(),
            task_input=request.task_input,
            asked=request.asked,
            tier=request.tier,
            test_mode=request.test_mode,
            tier_name=request.tier_name,
        )
        if request.given is None:
            return _generate(rules)
        checked = check_plan(request.given.value, rules=rules)
        refused = refusal(checked.problems)
        if refused is not None:
            raise refused
        return _freeze(checked, rules=rules, planned_by=BY_CALLER, note=None)

    async def admit(self, request: FrozenPlanRequest) -> tuple[str, ...]:
        """The names of the tools that a frozen plan, run once more, does not call.

        Raises PawlError: limit_exceeded, tool_unavailable or plan_invalid with every problem.
        """
        admission = admit_plan(
            request, catalog=await self._catalog.snapshot(), now=self._clock.monotonic()
        )
        refused = refusal(admission.problems)
        if refused is not None:
            raise refused
        return admission.recorded_tools


def _generate(rules: Rules) -> FrozenPlan | Unplannable:
    """The offline plan, held against the same rules as a caller's."""
    resolved = resolve_limits(
        asked=rules.asked, planned=Limits(), tier=rules.tier, tier_name=rules.tier_name
    )
    refused = refusal(resolved.problems)
    if refused is not None:
        raise refused
    proposal = offline.propose(rules.task_input, max_steps=resolved.limits.max_steps)
    if isinstance(proposal, Unplannable):
        return proposal
    checked = check_plan(_as_given(proposal.steps), rules=rules)
    # What the steps take from the input is known already: better said now than when they run.
    filled = check_plan(_filled(_as_given(proposal.steps), rules.task_input), rules=rules)
    problems = checked.problems or filled.problems
    if problems:
        return _explain(problems)
    return _freeze(checked, rules=rules, planned_by=BY_OFFLINE, note=proposal.note)


def _explain(problems: tuple[Problem, ...]) -> Unplannable:
    """Why a generated plan cannot run: the caller's limits and missing tools are refusals."""
    asked = refusal(problem for problem in problems if problem.code in _OF_THE_CALLER)
    if asked is not None:
        raise asked
    absent = [problem for problem in problems if problem.code in _OF_THE_OFFER]
    if absent:
        raise PawlError(
            "tool_unavailable",
            f"no executor offers what this input needs now: {absent[0].detail}",
        )
    first = problems[0]
    return Unplannable(
        message="this input cannot be planned: it does not fit the tools on offer "
        f"({first.field}: {first.detail}); change it or give a plan"
    )


def _as_given(steps: tuple[Step, ...]) -> Json:
    listed = [
        {"step_index": step.step_index, "tool": step.tool, "input": step.input} for step in steps
    ]
    return {"steps": listed}


def _filled(value: Json, task_input: dict[str, Json]) -> Json:
    """A plan with the references to the task's input replaced by what they stand for."""
    if isinstance(value, dict):
        ref = value.get(REF_KEY)
        if isinstance(ref, str) and ref.startswith("input."):
            return {LITERAL_KEY: follow(parse_ref(ref), root=task_input)}
        return {key: _filled(item, task_input) for key, item in value.items()}
    return [_filled(item, task_input) for item in value] if isinstance(value, list) else value


def _freeze(checked: CheckedPlan, *, rules: Rules, planned_by: str, note: str | None) -> FrozenPlan:
    plan = Plan(steps=checked.steps, limits=checked.limits)
    tools = tuple(sorted(checked.tools))
    return FrozenPlan(
        plan=plan,
        tool_set=tools,
        plan_hash=plan_hash(plan, tools=tools, task_input=rules.task_input),
        planned_by=planned_by,
        note=note,
    )
