"""The drawing: the strip of the whole task, the axis, and the lane of one step. Pure.

Everything across is in percent, so a picture is as wide as its place while its text stays as large
as other text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from libs.cli.trace_page.markup import Markup, element, joined
from libs.cli.trace_page.timeline import Axis, Span, Timeline
from libs.cli.trace_page.values import duration_text

STATUSES = frozenset({"running", "succeeded", "failed", "interrupted"})
WAITING = "waiting"
_LEAST_WIDTH = 0.15
"""Percent: what lasted no time at all is still to be seen."""
_TOP, _HEIGHT, _AXIS_AT, _STRIP = 20, 26, 62, 68
_LANE, _BAR = 20, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A step on the strip: its status as a class, what a pointer is shown, where a click leads."""

    span: Span
    status: str
    number: int
    hint: str


def strip(timeline: Timeline, bars: list[Bar], *, title: str, words: str) -> Markup:
    """The whole task on one line, with its axis; `words` say the same to those who cannot see."""
    axis = timeline.axis
    return element(
        "svg",
        element("title", title, id="picture-title"),
        element("desc", words, id="picture-words"),
        element("defs", _hatch(), element("g", *_grid(axis), id="grid")),
        element("use", href="#grid"),
        *(_waiting(axis, span, hint) for span, hint in _waits(timeline)),
        *(_strip_bar(axis, bar) for bar in bars),
        *_tick_labels(axis, y=_AXIS_AT),
        *_break_mark(axis),
        class_="strip",
        role="img",
        aria_labelledby="picture-title picture-words",
        width="100%",
        height=_STRIP,
    )


def ruler(axis: Axis) -> Markup:
    """The marks of the axis alone, for the head of a column of lanes."""
    return element(
        "svg",
        *_tick_labels(axis, y=13),
        class_="ruler",
        aria_hidden="true",
        width="100%",
        height=18,
    )


def lane(axis: Axis, span: Span, *, status: str) -> Markup:
    """One bar on the axis; what it shows stands in words beside it."""
    return element(
        "svg",
        element("use", href="#grid"),
        _rect(axis, span, y=(_LANE - _BAR) // 2, height=_BAR, class_=_bar_class(span, status)),
        class_="lane",
        aria_hidden="true",
        width="100%",
        height=_LANE,
    )


def share_bar(share: float) -> Markup:
    """How much of a limit was used."""
    level = "over" if share >= 1 else "near" if share >= 0.8 else "within"
    return element(
        "svg",
        element("rect", class_="all", width="100%", height=10, rx=2),
        element("rect", class_=level, width=_percent(min(1.0, share)), height=10, rx=2),
        class_="share",
        aria_hidden="true",
        width="100%",
        height=10,
    )


def _strip_bar(axis: Axis, bar: Bar) -> Markup:
    failed = bar.status in {"failed", "interrupted"}
    top, height = (_TOP - 4, _HEIGHT + 8) if failed else (_TOP, _HEIGHT)
    drawn = [
        element("title", bar.hint),
        _rect(axis, bar.span, y=top, height=height, class_=_bar_class(bar.span, bar.status)),
    ]
    if failed:
        at = axis.place(bar.span.begin)
        anchor = "end" if at > 0.9 else "start"
        words = f"✗ step {bar.number} {bar.status}"
        drawn.append(
            element("text", words, x=_percent(at), y=12, text_anchor=anchor, class_="mark")
        )
    return element("a", *drawn, href=f"#step-{bar.number}", tabindex="-1")


def _waiting(axis: Axis, span: Span, hint: str) -> Markup:
    return element(
        "g",
        element("title", hint),
        _rect(axis, span, y=_TOP, height=_HEIGHT, class_=f"bar {WAITING}"),
    )


def _waits(timeline: Timeline) -> Iterator[tuple[Span, str]]:
    if timeline.planning is not None:
        yield timeline.planning, f"before the queue: {duration_text(timeline.planning.seconds)}"
    if timeline.queued is not None:
        yield timeline.queued, f"in the queue: {duration_text(timeline.queued.seconds)}"


def _rect(axis: Axis, span: Span, *, y: int, height: int, class_: str) -> Markup:
    begin = axis.place(span.begin)
    width = max(axis.place(span.end) - begin, _LEAST_WIDTH / 100)
    begin = min(begin, 1.0 - width)
    return element(
        "rect", class_=class_, x=_percent(begin), width=_percent(width), y=y, height=height, rx=1
    )


def _bar_class(span: Span, status: str) -> str:
    known = status if status in STATUSES or status == WAITING else "unknown"
    return f"bar {known} open" if span.is_open else f"bar {known}"


def _hatch() -> Markup:
    return element(
        "pattern",
        element("rect", width=6, height=6, class_="hatch-ground"),
        element("line", y2=6, class_="hatch-line"),
        id="hatch",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )


def _grid(axis: Axis) -> Iterator[Markup]:
    for tick in axis.ticks():
        at = _percent(axis.place(tick))
        yield element("line", x1=at, x2=at, y1="0", y2="100%", class_="grid")


def _tick_labels(axis: Axis, *, y: int) -> Iterator[Markup]:
    for tick in axis.ticks():
        at = axis.place(tick)
        anchor = "start" if at < 0.03 else "end" if at > 0.97 else "middle"
        words = "0" if tick == 0 else duration_text(tick)
        yield element("text", words, x=_percent(at), y=y, text_anchor=anchor, class_="tick")


def _break_mark(axis: Axis) -> list[Markup]:
    if not axis.is_broken:
        return []
    return [element("text", "not to scale", x="0", dx=3, y=_TOP + 17, class_="tick")]


def _percent(share: float) -> str:
    return f"{100 * share:.3f}".rstrip("0").rstrip(".") + "%"


def legend() -> Markup:
    """What the colours and patterns of bars mean."""
    return element("p", joined(map(_key, _KEYS)), class_="legend")


_KEYS = (
    ("waiting", "waiting"),
    ("succeeded", "step succeeded"),
    ("failed", "step failed (taller)"),
    ("running open", "running"),
    ("interrupted open", "interrupted"),
)


def _key(key: tuple[str, str]) -> Markup:
    kind, words = key
    swatch = element("rect", class_=f"bar {kind}", width=14, height=12, rx=1)
    return element(
        "span", element("svg", swatch, aria_hidden="true", width=14, height=12), f" {words}"
    )
