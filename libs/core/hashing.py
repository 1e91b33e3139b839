"""The hashes of a plan, a step and a task. docs/determinism.md is the recipe in words; both must
agree.

H(tag, value) = SHA-256 over the tag, a newline and the RFC 8785 form of the value, as lower-case
hex.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from libs.core.canonical import Json, canonical
from libs.core.plan import Plan
from libs.core.tool_spec import ToolRef, tool_set_digest

RECIPE = "pawl:v1"


def plan_hash(plan: Plan, *, tools: Iterable[ToolRef], task_input: Json) -> str:
    """Hash of the frozen plan: steps, resolved limits, tool set and the task's input."""
    return written_plan_hash(plan.as_json(), tools=tools, task_input=task_input)


def written_plan_hash(
    plan: Mapping[str, Json], *, tools: Iterable[ToolRef], task_input: Json
) -> str:
    """`plan_hash` of a plan in its written form, {"steps", "limits"}, as a trace carries it."""
    body = {
        "steps": plan["steps"],
        "limits": plan["limits"],
        "tool_set": tool_set_digest(tools),
        "input": task_input,
    }
    return _hash(b"pawl:plan:v1", body)


def step_hash(
    previous: str,
    *,
    step_index: int,
    tool: str,
    resolved_input: Json,
    output: Json,
    failure_code: str | None,
) -> str:
    """Hash of one finished step. `previous` is the step before, or the plan's hash; `tool` is
    name@version.

    A failed step has output null and its failure code; its status follows from that and is hashed
    too.
    """
    body = {
        "previous": previous,
        "step_index": step_index,
        "tool": tool,
        "input": resolved_input,
        "output": output,
        "status": "succeeded" if failure_code is None else "failed",
        "failure_code": failure_code,
    }
    return _hash(b"pawl:step:v1", body)


def task_hash(
    plan: str, *, step_hashes: Sequence[str], state: str, failure_code: str | None
) -> str:
    """Hash of an ended task: the plan's hash, all step hashes in order, the final state and the
    failure code.
    """
    body = {
        "plan_hash": plan,
        "step_hashes": list(step_hashes),
        "state": state,
        "failure_code": failure_code,
    }
    return _hash(b"pawl:task:v1", body)


def _hash(tag: bytes, value: Json) -> str:
    return hashlib.sha256(tag + b"\n" + canonical(value)).hexdigest()
