"""Whether a plan that was frozen earlier may run once more as it is, and which tools it then calls.

Nothing of it is changed to make it fit: its limits and its tools are part of its hash.
"""

from __future__ import annotations

from collections.abc import Iterator

from libs.core.plan import LIMIT_NAMES
from libs.core.tool_spec import ToolRef
from services.planner.model import Admission, CatalogTool, FrozenPlanRequest, Problem, Snapshot
from services.planner.plan_limits import PLAN_LIMITS, shown_limit, tier_words
from services.planner.plan_validation import test_mode_problem


def admit_plan(request: FrozenPlanRequest, *, catalog: Snapshot, now: float) -> Admission:
    """Hold a frozen plan against the tier and the tools on offer at `now` (monotonic seconds).

    Tools that reach the network or a model are not called in a recorded replay: they need not be on
    offer, and a test key may use them.
    """
    problems = [*_check_limits(request)]
    recorded: list[str] = []
    for ref in request.tool_set:
        field = _field_of(ref, request)
        tool = _find(ref, catalog)
        if request.recorded and tool is not None and tool.spec.reaches_outside:
            recorded.append(ref.name)
        elif tool is None or not catalog.is_offered(tool, now=now):
            detail = _absent(ref, catalog, now=now)
            problems.append(Problem(code="tool_unavailable", field=field, detail=detail))
        elif request.test_mode:
            problems.extend(test_mode_problem(tool, field=field))
    return Admission(recorded_tools=tuple(recorded), problems=tuple(problems))


def _check_limits(request: FrozenPlanRequest) -> Iterator[Problem]:
    for name in LIMIT_NAMES:
        value, most = getattr(request.plan.limits, name), getattr(request.tier, name)
        if most is None or (value is not None and value <= most):
            continue
        said = "no limit" if value is None else shown_limit(value)
        detail = (
            f"{said} is above what {tier_words(request.tier_name)} allows now; the most is "
            f"{shown_limit(most)}, and the limits of a frozen plan stay as they are"
        )
        yield Problem(code="limit_exceeded", field=f"{PLAN_LIMITS}.{name}", detail=detail)


def _find(ref: ToolRef, catalog: Snapshot) -> CatalogTool | None:
    return next((tool for tool in catalog.by_name.get(ref.name, ()) if tool.ref == ref), None)


def _absent(ref: ToolRef, catalog: Snapshot, *, now: float) -> str:
    offered = catalog.find(ref.name, now=now)
    instead = f"; on offer is {offered.ref.label}" if isinstance(offered, CatalogTool) else ""
    if isinstance(offered, CatalogTool) and offered.ref.label == ref.label:
        instead += " with another digest"
    return (
        f"no executor offers {ref.label} (digest {ref.digest[:12]}) now, with which the plan was "
        f"frozen{instead}"
    )


def _field_of(ref: ToolRef, request: FrozenPlanRequest) -> str:
    """Where the plan names the tool first."""
    steps = request.plan.steps
    place = next((place for place, step in enumerate(steps) if step.tool == ref.name), 0)
    return f"plan.steps[{place}].tool"
