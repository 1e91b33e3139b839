"""The recipe of docs/determinism.md, written from that page alone.

Imports nothing of Pawl and no canonicalisation library on purpose: if this program and Pawl
disagree, the page, this program or Pawl is wrong.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def canonical(value: Any) -> str:
    """The canonical text, page section 1."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return _number(float(value))
        case str():
            return _string(value)
        case list():
            return "[" + ",".join(canonical(item) for item in value) + "]"
        case dict():
            keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
            return "{" + ",".join(f"{_string(key)}:{canonical(value[key])}" for key in keys) + "}"
    raise TypeError(value)


def hashed(tag: str, value: Any) -> str:
    """H(tag, value), page section 2."""
    return hashlib.sha256(f"{tag}\n{canonical(value)}".encode()).hexdigest()


def tool_digest(spec: dict[str, Any]) -> str:
    """Page section 3."""
    names = ("name", "version", "input_schema", "output_schema")
    promise = {name: spec[name] for name in names} | {"effects": sorted(spec["effects"])}
    return hashed("pawl:tool:v1", promise)


def hashes_of(block: dict[str, Any]) -> dict[str, Any]:
    """All hashes of a verification block, computed from its contents; page sections 4 to 6."""
    plan_hash = "" if block["plan"] is None else _plan_hash(block)
    steps: list[str] = []
    for step in block["steps"]:
        if step["status"] not in {"succeeded", "failed"}:
            continue
        body = {
            "previous": steps[-1] if steps else plan_hash,
            "step_index": step["step_index"],
            "tool": f"{step['tool']}@{step['tool_version']}",
            "input": step["resolved_input"],
            "output": step["output"],
            "status": step["status"],
            "failure_code": step["failure_code"],
        }
        steps.append(hashed("pawl:step:v1", body))
    task = {
        "plan_hash": plan_hash,
        "step_hashes": steps,
        "state": block["state"],
        "failure_code": block["failure_code"],
    }
    ended = block["state"] in {"succeeded", "failed", "cancelled"}
    return {
        "plan_hash": plan_hash or None,
        "step_hashes": steps,
        "task_hash": hashed("pawl:task:v1", task) if ended else None,
    }


def recorded_hashes(block: dict[str, Any]) -> dict[str, Any]:
    """The hashes that the block states, in the shape of `hashes_of`."""
    return {
        "plan_hash": block["plan_hash"],
        "step_hashes": [step["step_hash"] for step in block["steps"] if step["step_hash"]],
        "task_hash": block["task_hash"],
    }


def _plan_hash(block: dict[str, Any]) -> str:
    tools = sorted({tuple(tool) for tool in block["tool_set"]})
    body = {
        "steps": block["plan"]["steps"],
        "limits": block["plan"]["limits"],
        "tool_set": hashed("pawl:toolset:v1", [list(tool) for tool in tools]),
        "input": block["task_input"],
    }
    return hashed("pawl:plan:v1", body)


def _string(text: str) -> str:
    def escaped(match: re.Match[str]) -> str:
        return _SHORT.get(match[0], f"\\u{ord(match[0]):04x}")

    return '"' + re.sub(r'[\x00-\x1f"\\]', escaped, text) + '"'


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if value < 0:
        return "-" + _number(-value)
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    tail = "." + digits[1:] if count > 1 else ""
    return f"{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"
