"""The page of a task: what it says, and that nothing in it acts or reaches elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from libs.cli.trace_page.page import draw
from libs.core.verification import verify
from tests.drawn_traces import BEGIN, as_trace, make_long_trace, make_timed_trace
from tests.html_page import Element, read_page
from tests.recorded_traces import make_unplanned_trace

ORIGINAL = "0198c0de-7000-7abc-8def-000000000001"
FAILURE = {
    "step": "math",
    "index": 2,
    "code": "TOOL_ERROR",
    "message": "division by zero",
    "reason": "MATH_DOMAIN",
}
DIVERGENCE = {
    "step_index": 2,
    "field": "output",
    "original": {"result": 2},
    "replayed": {"result": 3},
}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></textarea><svg onload=alert(1)>",
    "' autofocus onfocus='alert(1)",
    "</pre></details></td></tr></table></section>",
    "<!-- <![CDATA[ ]]> -->",
    "&lt;b&gt;&#60;script&#62;",
    "javascript:alert(1)",
    "https://evil.example/x.png",
    'url("https://evil.example")} body {display: none',
    "\x00\x07\x1b[2J\x1b]0;x\x07",
    "\u202etxt.exe\u2066 \u200b\ufeff",
)


def page_of(trace: dict[str, Any], *, taken_after_seconds: float | None = None) -> Element:
    """The drawn page, read."""
    taken_at = None
    if taken_after_seconds is not None:
        taken_at = BEGIN + timedelta(seconds=taken_after_seconds)
    return read_page(draw(as_trace(trace), verify(trace), taken_at=taken_at))


def _failed() -> dict[str, Any]:
    trace = make_timed_trace(state="failed", failed_step=2, failure_code="TOOL_ERROR")
    trace["failure"] = FAILURE
    trace["steps"][1] |= {"error": FAILURE["message"], "failure": FAILURE}
    return trace


def _replayed() -> dict[str, Any]:
    replay = {
        "of_task_id": ORIGINAL,
        "mode": "live",
        "matches": False,
        "first_divergence": DIVERGENCE,
    }
    return make_timed_trace() | {"replay_of_task_id": ORIGINAL, "replay": replay}


def _refused() -> dict[str, Any]:
    failures = [{"step_index": 1, "problem": "result is not a number"}]
    return make_unplanned_trace() | {
        "plan_validation_failures": failures,
        "runtime_schema_failures": failures,
    }


def _waiting() -> dict[str, Any]:
    queue = {"reason": "no_slot", "detail": "every executor is busy", "position": 3}
    trace = make_timed_trace(state="queued")
    trace["verification"]["steps"] = []
    trace["events"] = trace["events"][:3]
    trace["summary"] |= {"total_steps": 0, "succeeded_steps": 0, "step_hashes": []}
    return trace | {"steps": [], "queue": queue, "scheduled_at": BEGIN.isoformat()}


TRACES: dict[str, Callable[[], dict[str, Any]]] = {
    "succeeded": make_timed_trace,
    "failed": _failed,
    "cancelled": lambda: make_timed_trace(state="cancelled", open_step=2),
    "running": lambda: make_timed_trace(state="running", open_step=2),
    "unplanned": make_unplanned_trace,
    "replayed": _replayed,
    "refused": _refused,
    "waiting": _waiting,
    "long": lambda: make_long_trace(40),
}


@pytest.mark.parametrize("name", TRACES)
def test_a_page_loads_nothing_and_runs_nothing(name: str) -> None:
    page = page_of(TRACES[name]())

    ids = [one.attributes["id"] for one in page.all() if "id" in one.attributes]
    allowed = {f"#{name}" for name in ids}
    assert len(ids) == len(set(ids))
    for one in page.all():
        assert one.tag not in {"script", "img", "image", "iframe", "object", "link", "form", "base"}
        assert not [key for key in one.attributes if key.startswith("on") or key == "style"], one
        assert not {"src", "srcset", "action", "data", "xlink:href"} & one.attributes.keys(), one
        assert "href" not in one.attributes or one.attributes["href"] in allowed, one
        for key in ("aria-labelledby", "aria-describedby"):
            assert set((one.attributes.get(key) or "").split()) <= set(map(str, ids)), one


@pytest.mark.parametrize("name", TRACES)
def test_a_page_names_no_address(name: str) -> None:
    trace = TRACES[name]()

    text = draw(as_trace(trace), verify(trace))

    assert "://" not in text
    assert text.count("http") == text.count("http-equiv=") == 1
    assert "@import" not in text
    assert text.count("url(") == text.count('url("#hatch")')


def test_the_policy_of_a_page_allows_its_own_style_alone() -> None:
    page = page_of(make_timed_trace())

    charset, policy = page.all("meta")[:2]
    style = "".join(map(str, page.one("style").children))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert charset.attributes == {"charset": "utf-8"}
    assert policy.attributes["http-equiv"] == "Content-Security-Policy"
    assert policy.attributes["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_that_a_trace_says_becomes_markup(name: str, text: str) -> None:
    harmless = page_of(_saying(TRACES[name](), "x"))

    drawn = draw(as_trace(hostile := _saying(TRACES[name](), text)), verify(hostile))

    drawn.encode()
    assert read_page(drawn).shape() == harmless.shape()


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_recipe_becomes_no_markup(text: str) -> None:
    pages = []
    for recipe in (text, "x"):
        trace = make_timed_trace()
        trace["verification"]["recipe"] = recipe
        pages.append(page_of(trace))

    assert pages[0].shape() == pages[1].shape()


def test_what_is_not_seen_or_turns_text_round_is_named() -> None:
    trace = _failed()
    trace["failure"] = FAILURE | {"message": "a\u202eb\x1b[2J\ud800c\u200b\nd"}

    failure = page_of(trace).one("p", class_="failure").text

    assert failure.endswith("a⟨U+202E⟩b⟨U+001B⟩[2J⟨U+D800⟩c⟨U+200B⟩ d")


def _saying(value: Any, text: str, *, where: str = "", inside: bool = False) -> Any:
    """The value with every string, and every key of an event's payload, replaced: but for what a
    trace must have to be one.
    """
    if isinstance(value, dict):
        inside = inside or where == "verification"
        return {
            (text if where == "payload" and key not in {"at", "from", "to"} else key): (
                kept
                if _is_kept(key, inside=inside)
                else _saying(kept, text, where=key, inside=inside)
            )
            for key, kept in value.items()
        }
    if isinstance(value, list):
        return [_saying(one, text, where=where, inside=inside) for one in value]
    return text if isinstance(value, str) else value


def _is_kept(key: str, *, inside: bool) -> bool:
    return key in {"at", "state", "recipe"} or key.endswith("_at") or (key == "status" and inside)


def test_a_succeeded_task_is_told_in_words_with_its_waiting() -> None:
    page = page_of(make_timed_trace())

    header = page.one("header")
    assert header.one("h1").text == "Task ✓ succeeded"
    assert header.one("p", class_="outcome").text == (
        "The task succeeded after 3.2 s; it ran 3 steps."
    )
    assert "Waited 500 ms in the queue" in header.text
    assert "Began 2026-02-27 11:18:02.500 UTC" in header.text
    assert "Hashes match" in header.text


def test_a_failed_task_says_where_and_why() -> None:
    page = page_of(_failed())

    assert page.one("h1").text == "Task ✗ failed"
    assert page.one("header").one("p", class_="failure").text == (
        "step 2 (math): TOOL_ERROR, MATH_DOMAIN: division by zero"
    )
    assert page.by_id("step-2").one("strong", class_="failure").text == (
        "TOOL_ERROR, MATH_DOMAIN: division by zero"
    )


def test_a_cancelled_task_is_not_called_failed() -> None:
    page = page_of(TRACES["cancelled"]())

    assert page.one("h1").text == "Task ⊘ cancelled"
    assert "The task was cancelled" in page.one("p", class_="outcome").text
    assert page.one("header").all("p", class_="failure") == []


def test_a_running_task_reaches_to_when_its_trace_was_taken() -> None:
    page = page_of(TRACES["running"](), taken_after_seconds=11.5)

    assert page.one("p", class_="outcome").text == (
        "The task was running when this trace was taken; it had begun 2 steps."
    )
    assert "10 s, open" in page.by_id("step-2").text
    (bar,) = page.by_id("step-2").all("rect")
    assert bar.classes == {"bar", "running", "open"}


def test_a_waiting_task_says_for_what() -> None:
    page = page_of(TRACES["waiting"](), taken_after_seconds=8)

    assert "Waits for every executor is busy" in page.one("header").text
    assert "Waited 8 s in the queue" in page.one("header").text
    assert "No step was begun." in page.by_id("timeline").text


def test_each_step_is_a_bar_where_it_ran_in_a_colour_and_in_words() -> None:
    page = page_of(_failed())

    rows = [page.by_id(f"step-{number}").all("tr")[0] for number in (1, 2)]
    bars = [row.one("rect") for row in rows]
    # 0.5 s of waiting, then 1 s and 2 s: 3.5 s are the whole axis.
    assert [bar.attributes["x"] for bar in bars] == ["14.286%", "42.857%"]
    assert [bar.attributes["width"] for bar in bars] == ["28.571%", "57.143%"]
    assert [bar.classes - {"bar"} for bar in bars] == [{"succeeded"}, {"failed"}]
    assert [row.text for row in rows] == [
        "1 math ✓ succeeded 0 ms 1 s",
        "2 math ✗ failed 1 s 2 s",
    ]


def test_the_strip_shows_the_waiting_and_leads_to_each_step() -> None:
    strip = page_of(_failed()).one("svg", class_="strip")

    assert strip.attributes["role"] == "img"
    assert [one.attributes["href"] for one in strip.all("a")] == ["#step-1", "#step-2"]
    assert strip.all("rect", class_="bar")[0].classes == {"bar", "waiting"}
    assert "✗ step 2 failed" in strip.text
    assert "500 ms in the queue" in strip.one("desc").text


def test_input_and_output_are_folded_away_until_they_are_asked_for() -> None:
    details = page_of(make_timed_trace()).by_id("step-2").one("details")

    assert "open" not in details.attributes
    assert details.one("summary").text == (
        '{"expression":"a*2","variables":{"a":2}} → {"result":4}'
    )
    assert [one.text for one in details.all("pre")] == [
        '{ "expression": "a*2", "variables": { "a": 2 } }',
        '{ "result": 4 }',
    ]


def test_of_a_large_value_the_beginning_is_shown_and_the_rest_is_said() -> None:
    trace = make_timed_trace()
    trace["steps"][0]["output"] = {"result": "a" * 100_000}

    text = draw(as_trace(trace), verify(make_timed_trace()))

    (note,) = read_page(text).by_id("step-1").all("p", class_="remark")
    assert note.text.startswith("Only the first 16,384 characters are shown; the whole value has")
    assert "100,013" in note.text
    assert len(text) < 100_000


def test_limits_stand_beside_what_was_used() -> None:
    rows = page_of(make_timed_trace()).by_id("limits").one("tbody").all("tr")

    assert [row.text for row in rows] == [
        "Time from start to end max_total_seconds 3.2 s 45 s 7 %",
        "Longest step max_step_seconds 2 s 10 s 20 %",
        "Steps begun max_steps 3 12 25 %",
    ]
    assert rows[2].one("rect", class_="within").attributes["width"] == "25%"


def test_a_changed_trace_is_told_on_the_page() -> None:
    trace = make_timed_trace()
    trace["verification"]["steps"][1]["output"] = {"result": 5}

    page = page_of(trace)

    hashes = page.by_id("hashes")
    assert hashes.one("p", class_="verdict").classes == {"verdict", "failed"}
    assert hashes.one("p", class_="verdict").text.startswith("step 2 (math) differs: ")
    assert "✗ differs" in hashes.one("table").text
    assert "Hashes ✗ differ" in page.one("header").text


def test_every_hash_of_an_honest_trace_is_there_with_its_result() -> None:
    trace = make_timed_trace()

    hashes = page_of(trace).by_id("hashes")

    assert hashes.one("p", class_="verdict").text == "Every hash matches."
    for wanted in (trace["verification"]["plan_hash"], *trace["summary"]["step_hashes"]):
        assert f"{wanted} ✓ holds" in hashes.text


def test_a_replay_stands_beside_its_original() -> None:
    replay = page_of(_replayed()).by_id("replay")

    assert replay.one("p", class_="verdict").text == (
        f"A replay (live) of task {ORIGINAL}: it differs first in step 2, in output."
    )
    assert [one.text for one in replay.all("pre")] == ['{ "result": 2 }', '{ "result": 3 }']


def test_failed_checks_are_shown() -> None:
    refusals = page_of(_refused()).by_id("refusals")

    assert "Plans that were refused" in refusals.text
    assert "result is not a number" in refusals.text


def test_events_are_listed_with_their_time_from_the_start() -> None:
    rows = page_of(make_timed_trace()).by_id("events").one("tbody").all("tr")

    assert rows[0].text == "1 −500 ms 11:18:02.000 status_transition nothing → created"
    assert rows[-1].text == "5 +3.2 s 11:18:05.750 status_transition running → succeeded"


def test_a_trace_without_times_is_drawn_too() -> None:
    trace = make_unplanned_trace() | {"events": []}

    assert "The trace has no times." in page_of(trace).by_id("timeline").text


def test_a_task_of_a_thousand_steps_stays_one_page_of_a_few_megabytes() -> None:
    trace = make_long_trace(1000, output={"result": "ä" * 20_000})

    text = draw(as_trace(trace), verify(trace))

    page = read_page(text)
    assert len(page.all("tr", class_="exchange")) == 1000
    assert len(page.one("svg", class_="strip").all("a")) == 1000
    assert page.by_id("hashes").one("p", class_="verdict").text == "Every hash matches."
    # What is long stays folded.
    assert all("open" not in one.attributes for one in page.by_id("hashes").all("details"))
    assert len(text) < 8 * 1024 * 1024
