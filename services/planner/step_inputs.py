"""A step's input against its tool's schema and against what its references can reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from libs.core.canonical import Json
from libs.core.errors import StepFailed
from libs.core.references import (
    BadReference,
    Ref,
    RefSite,
    dotted,
    find_refs,
    follow,
    kind_of,
    parse_ref,
    without_literals,
)
from services.planner.model import CatalogTool, Problem
from services.planner.output_paths import is_possible

MAX_REFS = 100
"""References in one input: each may bring in a whole output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What steps can refer to: the task's input and outputs of the steps of a plan.

    `tools` holds the tools of the plan's steps by step_index, as far as they are known.
    """

    task_input: dict[str, Json]
    tools: Mapping[int, CatalogTool]


def check_input(
    value: Json, *, field: str, step_index: int, tool: CatalogTool | None, around: Surroundings
) -> Iterator[Problem]:
    """What is wrong with the input of the step `step_index`, whose place is `field`.

    A reference stands for any value: whatever depends on the value is left to the moment when the
    step runs. With `tool` None only references are checked.
    """
    if not isinstance(value, dict):
        detail = f"{kind_of(value)}; an object is allowed"
        yield Problem(code="plan_invalid", field=field, detail=detail)
        return
    sites = find_refs(value)
    if len(sites) > MAX_REFS:
        detail = f"{len(sites)} references; at most {MAX_REFS} are allowed in one input"
        yield Problem(code="plan_invalid", field=field, detail=detail)
        return
    for site in sites:
        wrong = _wrong_ref(site, step_index=step_index, around=around)
        if wrong:
            yield Problem(code="bad_ref", field=dotted(site.path, under=field), detail=wrong)
    if tool is not None:
        yield from _check_schema(value, sites=sites, field=field, tool=tool)


def _check_schema(
    value: Json, *, sites: list[RefSite], field: str, tool: CatalogTool
) -> Iterator[Problem]:
    probe = without_literals(value)
    unknown = [site.path for site in sites]
    for violation in tool.input_validator.violations(probe, unknown=unknown):
        unknown_key = violation.keyword == "additionalProperties"
        yield Problem(
            code="plan_invalid",
            fine="unknown_field" if unknown_key else "input_schema",
            field=dotted(violation.location, under=field),
            detail=f"{violation.message} ({tool.ref.label})",
        )


def _wrong_ref(site: RefSite, *, step_index: int, around: Surroundings) -> str:
    """Why a reference cannot be resolved; empty when it may be."""
    if not site.alone:
        return "an object with $ref has no other keys; $literal escapes data"
    try:
        ref = parse_ref(site.text)
    except BadReference as error:
        return str(error)
    if ref.step_index is None:
        return _missing_input(ref, task_input=around.task_input)
    if ref.step_index >= step_index:
        return f"step {step_index} can refer only to steps before it, not to step {ref.step_index}"
    tool = around.tools.get(ref.step_index)
    if tool is not None and not is_possible(ref.path, schema=tool.spec.output_schema):
        return f"the output of {tool.ref.label} never has {'.'.join(ref.path)}"
    return ""


def _missing_input(ref: Ref, *, task_input: dict[str, Json]) -> str:
    try:
        follow(ref, root=task_input)
    except StepFailed as error:
        return error.message
    return ""
