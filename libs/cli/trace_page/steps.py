"""The table of steps: each with its bar on the axis, and its input and output to unfold. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from libs.cli.trace_page.markup import Child, Markup, element
from libs.cli.trace_page.picture import STATUSES, WAITING, Bar, lane, ruler
from libs.cli.trace_page.sections import badge, column, value_block
from libs.cli.trace_page.timeline import Axis, Span, Timeline
from libs.cli.trace_page.values import ShownValue, cut, duration_text, shown_value
from libs.cli.trace_page.words import reason_words
from libs.client.traces import StepRecord, Trace

_COLUMNS = ("#", "tool", "status", "starts at", "took")
_ERROR_CHARACTERS = 4000
_HINT_CHARACTERS = 160


def bars(trace: Trace, timeline: Timeline, *, limit: int) -> list[Bar]:
    """The steps as bars of the strip, with the beginning of input and output to point at."""
    return [
        Bar(span=span, status=step.status, number=place, hint=_hint(step, span, limit=limit))
        for place, (step, span) in enumerate(_both(trace, timeline), start=1)
    ]


def step_table(trace: Trace, timeline: Timeline, *, limit: int) -> Markup:
    """Every step that was begun, after the waiting."""
    heads = [column(name) for name in _COLUMNS]
    axis_head = element("th", element("span", "time", class_="heard"), ruler(timeline.axis),
                        scope="col", class_="drawn")  # fmt: skip
    groups = [
        _group(step, span, timeline.axis, number=place, limit=limit)
        for place, (step, span) in enumerate(_both(trace, timeline), start=1)
    ]
    return element(
        "table",
        element("caption", "Steps in the order in which they ran", class_="heard"),
        element("thead", element("tr", *heads, axis_head)),
        element("tbody", *_waits(timeline)),
        *groups,
        class_="steps",
    )


def _both(trace: Trace, timeline: Timeline) -> Iterator[tuple[StepRecord, Span]]:
    return zip(trace.steps, timeline.steps, strict=True)


def _waits(timeline: Timeline) -> Iterator[Markup]:
    named = (("before the queue", timeline.planning), ("in the queue", timeline.queued))
    for words, span in named:
        if span is not None:
            yield _row(("", words, "waited"), span, timeline.axis, status=WAITING)


def _group(step: StepRecord, span: Span, axis: Axis, *, number: int, limit: int) -> Markup:
    """A step's figures, and below them what went in and came out."""
    tool = f"{step.tool_name}@{step.tool_version}" if step.tool_version else step.tool_name
    kind = step.status if step.status in STATUSES else "unknown"
    status = badge(cut(step.status, 40), kind=kind)
    cells = (str(step.step_index), cut(tool, 200), status)
    return element(
        "tbody",
        _row(cells, span, axis, status=step.status),
        element("tr", element("td", _exchange(step, limit=limit), colspan=6), class_="exchange"),
        id=f"step-{number}",
    )


def _row(cells: tuple[str, str, Child], span: Span, axis: Axis, *, status: str) -> Markup:
    index, name, word = cells
    sign = "−" if span.begin < 0 else ""
    took = duration_text(span.seconds)
    return element(
        "tr",
        element("td", index, class_="number"),
        element("th", name, scope="row"),
        element("td", word),
        element("td", sign + duration_text(abs(span.begin)), class_="number"),
        element("td", f"{took}, open" if span.is_open else took, class_="number"),
        element("td", lane(axis, span, status=status), class_="drawn"),
    )


def _exchange(step: StepRecord, *, limit: int) -> Markup:
    given = shown_value(step.input, limit=limit)
    came = shown_value(step.output, limit=limit)
    error = _error(step)
    return element(
        "details",
        element("summary", element("code", given.preview), " → ", _end(came, step)),
        element(
            "div",
            value_block("Input", given),
            value_block("Output", came) if error is None else None,
            error and element("div", element("h3", "Error"), element("pre", error), class_="value"),
            class_="sides",
        ),
        step.step_hash and element("p", "Step hash ", element("code", step.step_hash)),
    )


def _end(came: ShownValue, step: StepRecord) -> Markup:
    error = _error(step)
    if error is not None:
        return element("strong", cut(error, _HINT_CHARACTERS), class_="failure")
    return element("code", came.preview if step.finished_at is not None else "no output yet")


def _error(step: StepRecord) -> str | None:
    if step.failure is not None:
        return cut(reason_words(step.failure), _ERROR_CHARACTERS)
    return None if step.error is None else cut(step.error, _ERROR_CHARACTERS)


def _hint(step: StepRecord, span: Span, *, limit: int) -> str:
    given = shown_value(step.input, limit=limit).preview
    came = _error(step) or shown_value(step.output, limit=limit).preview
    return (
        f"step {step.step_index} {step.tool_name}: {step.status}, took"
        f" {duration_text(span.seconds)}\ninput {cut(given, _HINT_CHARACTERS)}"
        f"\noutput {cut(came, _HINT_CHARACTERS)}"
    )
