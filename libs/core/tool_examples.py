"""Examples of a tool: what they may be like, and their JSON form.

An example is an object of `title`, `input` and, where it shows one, `output` or `failure_code`.
"""

from __future__ import annotations

from collections.abc import Iterator

from libs.core.canonical import Json, canonical
from libs.core.errors import FailureCode
from libs.core.json_schema import Validator
from libs.core.tool_spec import ToolExample

MAX_EXAMPLES = 10
MAX_TITLE_CHARACTERS = 200
MAX_EXAMPLES_BYTES = 16 * 2**10

_CODES = frozenset(FailureCode)


def example_problems(
    examples: tuple[ToolExample, ...], *, input_schema: Validator, output_schema: Validator
) -> Iterator[tuple[int | None, str]]:
    """What is wrong with a tool's examples: the place from 0 (None: with all together), and what.

    An input fits the schema, except where INPUT_SCHEMA is what the example shows. An output fits
    its schema; an example with a failure has none.
    """
    if len(examples) > MAX_EXAMPLES:
        yield None, f"{len(examples)} examples; {MAX_EXAMPLES} are allowed"
        return
    size_bytes = 0
    for place, example in enumerate(examples):
        try:
            size_bytes += len(canonical(example_json(example)))
        except (TypeError, ValueError, RecursionError):
            yield place, "its input or output is not JSON"
            return
        for problem in _problems(example, input_schema, output_schema):
            yield place, problem
    if size_bytes > MAX_EXAMPLES_BYTES:
        yield None, f"{size_bytes} bytes of canonical JSON; {MAX_EXAMPLES_BYTES} are allowed"


def example_json(example: ToolExample) -> dict[str, Json]:
    """An example as a JSON object; what it does not show is left out."""
    shown: dict[str, Json] = {"title": example.title, "input": example.input}
    if example.output is not None:
        shown["output"] = example.output
    if example.failure_code is not None:
        shown["failure_code"] = example.failure_code
    return shown


def example_from_json(value: Json) -> ToolExample:
    """An example from its JSON object. Raises ValueError for what is none."""
    members = value if isinstance(value, dict) else {}
    title, given, code = members.get("title"), members.get("input"), members.get("failure_code")
    if not isinstance(title, str) or not isinstance(given, dict):
        raise ValueError(  # noqa: TRY004 - a value of the wrong form
            "an example is an object with a title, a string, and an input, an object"
        )
    if code is not None and not isinstance(code, str):
        raise ValueError("the failure code of an example is a string")
    return ToolExample(title=title, input=given, output=members.get("output"), failure_code=code)


def _problems(
    example: ToolExample, input_schema: Validator, output_schema: Validator
) -> Iterator[str]:
    if not 1 <= len(example.title) <= MAX_TITLE_CHARACTERS or not example.title.isprintable():
        yield f"its title is not 1 to {MAX_TITLE_CHARACTERS} printable characters"
    if example.failure_code is not None and example.failure_code not in _CODES:
        yield f"{example.failure_code[:64]!r} is no failure code"
    if example.failure_code == FailureCode.INPUT_SCHEMA:
        if input_schema.accepts(example.input):
            yield "its input fits the input schema, so that it does not fail with INPUT_SCHEMA"
    else:
        yield from _misfit("input", example.input, input_schema)
    if example.output is None:
        return
    if example.failure_code is not None:
        yield "it has an output and a failure; one of them is allowed"
    yield from _misfit("output", example.output, output_schema)


def _misfit(kind: str, value: Json, schema: Validator) -> Iterator[str]:
    for violation in schema.violations(value)[:1]:
        place = f" at {violation.path}" if violation.path else ""
        yield f"its {kind} does not fit the {kind} schema{place}: {violation.message}"
