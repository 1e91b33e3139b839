"""The parts of the page, each from what the trace says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from libs.cli.trace_page.markup import Child, Markup, element
from libs.cli.trace_page.picture import share_bar
from libs.cli.trace_page.timeline import Timeline
from libs.cli.trace_page.use import uses_of
from libs.cli.trace_page.values import ShownValue, cut, duration_text, shown_value
from libs.cli.trace_page.words import (
    MARKS,
    failure_words,
    outcome,
    replay_words,
    state_of,
    verdict,
    waiting_words,
)
from libs.client.tasks import Event
from libs.client.traces import Trace
from libs.core.verification import Report

_TEXT_CHARACTERS = 4000
_EVENTS_OPEN = 60
_FIGURES = frozenset({"#", "seq", "from start", "starts at", "took", "used", "allowed", "share"})
_STATES = frozenset({"created", "planned", "queued", "running", "succeeded", "failed", "cancelled"})


def section(key: str, title: str, *children: Child) -> Markup:
    """A part of the page, named by its heading."""
    head = element("h2", title, id=f"{key}-title")
    return element("section", head, *children, id=key, aria_labelledby=f"{key}-title")


def head(trace: Trace, timeline: Timeline, report: Report) -> Markup:
    """State, failure and the figures that people ask for first."""
    state = state_of(trace)
    failure = None
    if trace.failure is not None and state == "failed":
        failure = cut(failure_words(trace.failure), _TEXT_CHARACTERS)
    figures: list[tuple[str, Child]] = [
        ("Task", element("code", trace.task_id)),
        ("Waited", waiting_words(timeline)),
        ("Ran", duration_text(timeline.run.seconds) if timeline.run else "not at all"),
        ("Cost", f"{trace.estimated_cost_usd:.4f} USD"),
        ("Hashes", "match" if report.holds else badge("differ", kind="failed")),
    ]
    if timeline.zero is not None:
        figures.insert(1, ("Began" if timeline.run else "Ended", time_text(timeline.zero)))
    if trace.scheduled_at is not None:
        figures.insert(1, ("Due at", time_text(trace.scheduled_at)))
    if trace.cancel_requested_at is not None:
        figures.insert(3, ("Cancel asked", time_text(trace.cancel_requested_at)))
    if trace.queue is not None:
        figures.append(("Waits for", cut(trace.queue.detail, _TEXT_CHARACTERS)))
    return element(
        "header",
        element("h1", "Task ", badge(state, kind=state if state in _STATES else "unknown")),
        element("p", outcome(trace, timeline), class_="outcome"),
        element("p", failure, class_="failure") if failure else None,
        element("dl", *(_pair(name, value) for name, value in figures), class_="figures"),
    )


def badge(word: str, *, kind: str) -> Markup:
    """A status: its sign, its word and its colour."""
    mark = MARKS.get(kind)
    return element("span", f"{mark} {word}" if mark else word, class_=f"badge {kind}")


def time_text(at: datetime) -> Markup:
    """A UTC time with milliseconds, read by programs too."""
    text = at.isoformat(timespec="milliseconds")
    return element("time", f"{text[:10]} {text[11:23]} UTC", datetime=text)


def limits(trace: Trace, timeline: Timeline) -> Markup | None:
    """What was used of what is allowed."""
    uses = uses_of(trace, timeline)
    if not uses:
        return None
    rows = [
        (
            element("th", use.words, " ", element("code", use.limit_name), scope="row"),
            element("td", use.used, class_="number"),
            element("td", use.allowed, class_="number"),
            element("td", _percent(use.share), class_="number"),
            element("td", share_bar(use.share), class_="drawn"),
        )
        for use in uses
    ]
    columns = ("limit", "used", "allowed", "share", "")
    return section("limits", "Limits and use", table("Limits of the plan and use", columns, rows))


def replay(trace: Trace, *, limit: int) -> Markup | None:
    """How a replay compares with its original."""
    if trace.replay is None:
        return None
    first = trace.replay.first_divergence
    kind = "succeeded" if trace.replay.matches else "failed" if first else "running"
    sentence = element("p", replay_words(trace.replay), class_=f"verdict {kind}")
    sides = None
    if first is not None:
        sides = element(
            "div",
            value_block("Original", shown_value(first.original, limit=limit)),
            value_block("Replayed", shown_value(first.replayed, limit=limit)),
            class_="sides",
        )
    return section("replay", "Replay", sentence, sides)


def hashes(trace: Trace, report: Report) -> Markup:
    """Every hash with what became of checking it."""
    rows = [
        (
            element("th", check.subject, scope="row"),
            element("td", element("code", check.recorded or "–"), class_="hash"),
            element("td", badge("holds", kind="succeeded")
                    if check.holds else badge("differs", kind="failed")),
            element("td", cut("; ".join(check.differences), _TEXT_CHARACTERS)),
        )
        for check in report.checks
    ]  # fmt: skip
    remark = (
        f"Checked by the recipe {cut(trace.verification.recipe, 40)} when this page was made. A"
        " hash is no signature: compare the task hash with one that was kept elsewhere, or check"
        " the trace itself with pawl verify."
    )
    kind = "succeeded" if report.holds else "failed"
    return section(
        "hashes",
        "Hashes",
        element("p", cut(verdict(report), _TEXT_CHARACTERS), class_=f"verdict {kind}"),
        _folded(
            f"{len(rows)} checks",
            table("Hashes and their checks", ("what", "recorded", "result", "why"), rows),
            is_open=len(rows) <= _EVENTS_OPEN,
        ),
        element("p", remark, class_="remark"),
    )


def events(trace: Trace, timeline: Timeline) -> Markup:
    """Every event in order, with its time from the start of the run."""
    columns = ("seq", "from start", "time (UTC)", "event", "what it says")
    rows = [tuple(_event_cells(event, timeline)) for event in trace.events]
    listed = table("Events of the task", columns, rows)
    words = f"{len(rows):,} events"
    return section("events", "Events", _folded(words, listed, is_open=len(rows) <= _EVENTS_OPEN))


def refusals(trace: Trace, *, limit: int) -> Markup | None:
    """What plan checks and schema checks found."""
    found = [
        value_block(title, shown_value(list(values), limit=limit))
        for title, values in (
            ("Plans that were refused", trace.plan_validation_failures),
            ("Inputs and outputs that fit no schema", trace.runtime_schema_failures),
        )
        if values
    ]
    return section("refusals", "Failed checks", *found) if found else None


def value_block(title: str, shown: ShownValue) -> Markup:
    """A value as it is, with a remark when not all of it is shown."""
    return element(
        "div",
        element("h3", title),
        element("pre", shown.text),
        shown.note and element("p", shown.note, class_="remark"),
        class_="value",
    )


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Child]]) -> Markup:
    """A table with a caption for those who hear it."""
    return element(
        "table",
        element("caption", caption, class_="heard"),
        element("thead", element("tr", *map(column, columns))),
        element("tbody", *(element("tr", *row) for row in rows)),
    )


def column(name: str) -> Markup:
    """The head of a column; over figures it stands to the right."""
    if not name:
        return element("td")
    return element("th", name, scope="col", class_="number" if name in _FIGURES else None)


def _folded(words: str, content: Markup, *, is_open: bool) -> Markup:
    return element("details", element("summary", words), content, open=is_open)


def _event_cells(event: Event, timeline: Timeline) -> Iterator[Markup]:
    offset = (event.created_at - timeline.zero).total_seconds() if timeline.zero else 0.0
    sign = "−" if offset < 0 else "+"
    payload = {name: value for name, value in event.payload.items() if name != "at"}
    words = ""
    if payload.keys() >= {"from", "to"}:
        words = f"{payload.pop('from') or 'nothing'} → {payload.pop('to')} "
    rest = " ".join(f"{name}={value}" for name, value in payload.items())
    yield element("td", str(event.seq), class_="number")
    yield element("td", f"{sign}{duration_text(abs(offset))}", class_="number")
    time = event.created_at.isoformat(timespec="milliseconds")[11:23]
    yield element("td", time, class_="whole")
    yield element("td", cut(event.event.removeprefix("task."), 80), class_="whole")
    yield element("td", cut(words + rest, 600), class_="said")


def _percent(share: float) -> str:
    return "< 1 %" if 0 < share < 0.01 else f"{100 * share:,.0f} %"


def _pair(name: str, value: Child) -> Markup:
    return element("div", element("dt", name), element("dd", value))
