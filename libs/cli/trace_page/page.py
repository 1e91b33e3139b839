"""The page of a task: one HTML document that loads nothing and runs nothing. Pure.

Its own policy forbids what could reach elsewhere: no script, no image, no font, no form; the one
style is allowed by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path

from libs.cli.trace_page import sections
from libs.cli.trace_page.markup import Child, Markup, document, element
from libs.cli.trace_page.picture import legend, strip
from libs.cli.trace_page.steps import bars, step_table
from libs.cli.trace_page.timeline import Timeline, timeline_of
from libs.cli.trace_page.values import characters_each, shown_value
from libs.cli.trace_page.words import picture_words, state_of
from libs.client.traces import Trace
from libs.core.verification import Report


def draw(trace: Trace, report: Report, *, taken_at: datetime | None = None) -> str:
    """The page. `report` is of the same trace; `taken_at` is when it was read from the server,
    None for one that lay in a file.
    """
    timeline = timeline_of(trace, taken_at=taken_at)
    limit = characters_each(2 * len(trace.steps) + 4)
    return document(
        _head(f"Pawl task {trace.task_id}: {state_of(trace)}"),
        element(
            "body",
            sections.head(trace, timeline, report),
            element("main", *_parts(trace, timeline, report, limit=limit)),
            element("footer", element("p", _origin(trace))),
        ),
    )


def _parts(trace: Trace, timeline: Timeline, report: Report, *, limit: int) -> tuple[Child, ...]:
    task_input = shown_value(trace.verification.task_input, limit=limit)
    return (
        _timeline(trace, timeline, limit=limit),
        sections.limits(trace, timeline),
        sections.section(
            "input", "Input of the task", sections.value_block("As given", task_input)
        ),
        sections.replay(trace, limit=limit),
        sections.refusals(trace, limit=limit),
        sections.hashes(trace, report),
        sections.events(trace, timeline),
    )


def _timeline(trace: Trace, timeline: Timeline, *, limit: int) -> Markup:
    if timeline.zero is None:
        return sections.section("timeline", "Timeline", element("p", "The trace has no times."))
    title = "The task from left to right: waiting, then its steps"
    drawn = bars(trace, timeline, limit=limit)
    return sections.section(
        "timeline",
        "Timeline",
        strip(timeline, drawn, title=title, words=picture_words(trace, timeline)),
        legend(),
        element("p", "No step was begun.") if not trace.steps else None,
        step_table(trace, timeline, limit=limit),
    )


def _head(title: str) -> Markup:
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )


def _origin(trace: Trace) -> str:
    made = f" of a server that calls itself {trace.version}" if trace.version else ""
    return f"Drawn by pawl trace from the trace{made}. This page loads nothing and runs no script."


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")
