"""What a tool's spec has to be like before the catalogue takes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from libs.core.json_schema import SchemaRefused, Validator, compile_schema
from libs.core.tool_examples import example_problems
from libs.core.tool_spec import ToolSpec
from services.planner.model import Offer, Problem

MAX_TOOLS = 200
MAX_DESCRIPTION_CHARACTERS = 1000
MAX_EXECUTOR_ID_CHARACTERS = 128

_NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,64}", re.ASCII)


def check_offer(offer: Offer) -> Iterator[Problem]:
    """What is wrong with an executor's offer; every problem is validation_failed."""
    if not 1 <= len(offer.executor_id) <= MAX_EXECUTOR_ID_CHARACTERS:
        yield _wrong("executor_id", f"1 to {MAX_EXECUTOR_ID_CHARACTERS} characters are allowed")
    if not offer.executor_id.isprintable():
        yield _wrong("executor_id", "only printable characters are allowed")
    if not 1 <= len(offer.tools) <= MAX_TOOLS:
        yield _wrong("tools", f"{len(offer.tools)} tools; 1 to {MAX_TOOLS} are allowed")
        return
    yield from _check_twice(offer.tools)
    for place, spec in enumerate(offer.tools):
        yield from _check_spec(spec, field=f"tools[{place}]")


def _check_twice(tools: Sequence[ToolSpec]) -> Iterator[Problem]:
    seen: set[str] = set()
    for place, spec in enumerate(tools):
        if spec.label in seen:
            yield _wrong(f"tools[{place}]", f"{spec.label[:130]} is offered twice")
        seen.add(spec.label)


def _check_spec(spec: ToolSpec, *, field: str) -> Iterator[Problem]:
    if not _NAME.fullmatch(spec.name):
        yield _wrong(f"{field}.name", "1 to 64 of a-z, 0-9 and _ are allowed")
    if not _VERSION.fullmatch(spec.version):
        yield _wrong(f"{field}.version", "1 to 64 letters, digits and . + _ - are allowed")
    if not 1 <= len(spec.description) <= MAX_DESCRIPTION_CHARACTERS:
        yield _wrong(
            f"{field}.description", f"1 to {MAX_DESCRIPTION_CHARACTERS} characters are allowed"
        )
    if not spec.effects or len(set(spec.effects)) != len(spec.effects):
        yield _wrong(f"{field}.effects", "at least one effect is needed, each once")
    compiled: list[Validator] = []
    for key, schema in (
        ("input_schema_json", spec.input_schema),
        ("output_schema_json", spec.output_schema),
    ):
        try:
            compiled.append(compile_schema(schema))
        except SchemaRefused as error:
            yield _wrong(f"{field}.{key}", str(error), fine=error.code)
    if len(compiled) == 2:
        yield from _check_examples(spec, *compiled, field=field)


def _check_examples(
    spec: ToolSpec, input_schema: Validator, output_schema: Validator, *, field: str
) -> Iterator[Problem]:
    found = example_problems(spec.examples, input_schema=input_schema, output_schema=output_schema)
    for place, problem in found:
        where = "examples" if place is None else f"examples[{place}]"
        yield _wrong(f"{field}.{where}", problem)


def _wrong(field: str, detail: str, *, fine: str = "") -> Problem:
    return Problem(code="validation_failed", field=field, detail=detail, fine=fine)
