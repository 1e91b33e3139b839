"""Plans made without a model: by the keys of the task's input.

Recognised, in this order: `expression` [with `variables`] is computed; `data` with `query` is
queried; `html` is read and summarised; `text` [with `topic`] is summarised; a bare `topic` becomes
an outline of its own words. Steps refer to the input instead of copying it.
"""

from __future__ import annotations

from collections.abc import Callable

from libs.core.canonical import Json
from libs.core.plan import Step
from libs.core.references import kind_of
from services.planner.model import Proposal, Unplannable

WITHOUT_MODEL = "planned without a model"
INPUTS = (
    '{"expression": "1+1"}, {"data": …, "query": "…"}, {"html": "…"}, {"text": "…"} or '
    '{"topic": "…"}'
)
NOBODY = (
    "nobody can plan this input: no model is configured for planning. Give a plan (steps and "
    f"limits) or one of these inputs: {INPUTS}"
)

Input = dict[str, Json]
Call = tuple[str, Input]


class _Unusable(Exception):  # noqa: N818 - carries what is wrong with one key of the input
    """A recognised key whose value cannot be planned with."""


def propose(task_input: Input, *, max_steps: int | None) -> Proposal | Unplannable:
    """The plan of an input, of at most `max_steps` steps where a shorter one makes sense."""
    try:
        for keys, plan in _KINDS:
            if all(key in task_input for key in keys):
                return plan(task_input, _least(max_steps))
    except _Unusable as error:
        return Unplannable(message=f"this input cannot be planned: {error}")
    return Unplannable(message=_why_not(task_input))


def _math(task_input: Input, _: int) -> Proposal:
    _require_text(task_input, "expression")
    arguments: Input = {"expression": _of_input("expression")}
    if "variables" in task_input:
        _require_numbers(task_input, "variables")
        arguments["variables"] = _of_input("variables")
    steps = _steps(("math", arguments))
    return _proposal(steps, task_input, used=("expression", "variables"))


def _query(task_input: Input, _: int) -> Proposal:
    _require_text(task_input, "query")
    steps = _steps(("json_query", {"data": _of_input("data"), "query": _of_input("query")}))
    return _proposal(steps, task_input, used=("data", "query"))


def _html(task_input: Input, max_steps: int) -> Proposal:
    _require_text(task_input, "html")
    topic = _topic(task_input)
    extract: Call = ("text_extract", {"content": _of_input("html"), "media_type": "text/html"})
    summarise: Call = ("text_summarize", {"text": {"$ref": "steps.1.output.text"}, **topic})
    steps = _steps(extract, summarise)[:max_steps]
    about = "" if len(steps) > 1 else "max_steps is 1, so the text is extracted, not summarised"
    return _proposal(steps, task_input, used=("html", *topic), about=about)


def _text(task_input: Input, _: int) -> Proposal:
    _require_text(task_input, "text")
    topic = _topic(task_input)
    steps = _steps(("text_summarize", {"text": _of_input("text"), **topic}))
    return _proposal(steps, task_input, used=("text", *topic))


def _outline(task_input: Input, max_steps: int) -> Proposal:
    _require_text(task_input, "topic")
    summarise: Call = ("text_summarize", {"text": _of_input("topic")})
    outline: Input = {
        "topic": _of_input("topic"),
        "summary": {"$ref": "steps.1.output.summary"},
        "key_terms": {"$ref": "steps.1.output.key_terms"},
        "sources": [],
        "made_without_a_model": True,
        "basis": "Only the words of the topic: no document was given and no model was asked.",
        "to_get_more": 'Supply {"text": …} or {"html": …} to summarise, or give a plan.',
    }
    shape: Call = ("json_query", {"data": outline, "query": "@"})
    about = "only the topic's own words are known, so the result outlines these"
    steps = _steps(summarise, shape)[:max_steps]
    return _proposal(steps, task_input, used=("topic",), about=about)


_KINDS: tuple[tuple[tuple[str, ...], Callable[[Input, int], Proposal]], ...] = (
    (("expression",), _math),
    (("data", "query"), _query),
    (("html",), _html),
    (("text",), _text),
    (("topic",), _outline),
)


def _steps(*calls: Call) -> tuple[Step, ...]:
    return tuple(
        Step(step_index=index, tool=tool, input=arguments)
        for index, (tool, arguments) in enumerate(calls, start=1)
    )


def _proposal(
    steps: tuple[Step, ...], task_input: Input, *, used: tuple[str, ...], about: str = ""
) -> Proposal:
    unused = sorted(key for key in task_input if key not in used)
    parts = [WITHOUT_MODEL, about]
    if unused:
        shown = ", ".join(_short(key) for key in unused[:5])
        parts.append(f"not used of the input: {shown}{' …' if len(unused) > 5 else ''}")
    return Proposal(steps=steps, note="; ".join(part for part in parts if part))


def _topic(task_input: Input) -> Input:
    """The topic as an argument, when the input has one."""
    if "topic" not in task_input:
        return {}
    _require_text(task_input, "topic")
    return {"topic": _of_input("topic")}


def _require_text(task_input: Input, key: str) -> None:
    value = task_input[key]
    if not isinstance(value, str):
        raise _Unusable(f"{key} is {kind_of(value)}; a string is allowed")
    if not value.strip():
        raise _Unusable(f"{key} is empty; a string with words in it is allowed")


def _require_numbers(task_input: Input, key: str) -> None:
    value = task_input[key]
    if not isinstance(value, dict):
        raise _Unusable(f"{key} is {kind_of(value)}; an object of numbers is allowed")
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise _Unusable(f"{key}.{_short(name)} is {kind_of(number)}; a number is allowed")


def _why_not(task_input: Input) -> str:
    if "data" in task_input:
        return f"{NOBODY}. data is there, query is missing"
    if "query" in task_input:
        return f"{NOBODY}. query is there, data is missing"
    return NOBODY


def _of_input(key: str) -> dict[str, Json]:
    return {"$ref": f"input.{key}"}


def _least(max_steps: int | None) -> int:
    return 2 if max_steps is None else max(1, min(2, max_steps))


def _short(key: str) -> str:
    return key if len(key) <= 40 else key[:39] + "…"
