"""Where waiting and steps stand on the axis, and how durations and values are written."""

from __future__ import annotations

from datetime import timedelta

import pytest

from libs.cli.trace_page.timeline import BROKEN_SHARE, Axis, timeline_of
from libs.cli.trace_page.values import characters_each, duration_text, shown_value
from tests.drawn_traces import BEGIN, as_trace, make_timed_trace


def test_a_timeline_has_the_waiting_before_zero_and_the_steps_after() -> None:
    timeline = timeline_of(as_trace(make_timed_trace()), taken_at=None)

    assert timeline.zero == BEGIN + timedelta(seconds=0.5)
    assert timeline.queued is not None
    assert (timeline.queued.begin, timeline.queued.end) == (-0.5, 0.0)
    assert [(span.begin, span.end) for span in timeline.steps] == [(0, 1), (1, 3), (3, 3.25)]
    assert timeline.run is not None
    assert (timeline.run.seconds, timeline.run.is_open) == (3.25, False)
    assert timeline.planning is None


def test_what_was_open_reaches_to_the_moment_of_the_trace() -> None:
    trace = as_trace(make_timed_trace(state="running", open_step=2))

    live = timeline_of(trace, taken_at=BEGIN + timedelta(seconds=60.5)).steps[1]
    saved = timeline_of(trace, taken_at=None).steps[1]

    assert (live.begin, live.end, live.is_open) == (1, 60, True)
    assert (saved.begin, saved.end, saved.is_open) == (1, 1, True)


def test_an_ended_task_does_not_grow_with_the_moment_of_the_trace() -> None:
    trace = as_trace(make_timed_trace())

    late = timeline_of(trace, taken_at=BEGIN + timedelta(days=400))

    assert late == timeline_of(trace, taken_at=None)


def test_a_clock_that_lags_behind_the_server_turns_nothing_round() -> None:
    trace = as_trace(make_timed_trace(state="running", open_step=2))

    early = timeline_of(trace, taken_at=BEGIN - timedelta(hours=1))

    assert early == timeline_of(trace, taken_at=None)


def test_long_waiting_takes_a_fixed_part_of_the_axis() -> None:
    axis = timeline_of(as_trace(make_timed_trace(queued_seconds=86_400)), taken_at=None).axis

    assert axis.is_broken
    assert axis.place(0) == BROKEN_SHARE
    assert axis.place(-86_400) == 0
    assert axis.place(3.25) == 1


def test_places_never_leave_the_axis() -> None:
    axis = Axis(begin=-1, end=3, share=0.25, is_broken=False)

    assert [axis.place(at) for at in (-9, -1, 0, 3, 9)] == [0, 0, 0.25, 1, 1]


@pytest.mark.parametrize("end", [0.001, 0.37, 1, 7, 59, 3600, 86_400, 31_536_000, 1e9])
def test_ticks_are_few_round_and_within_the_run(end: float) -> None:
    ticks = list(Axis(begin=0, end=end, share=0, is_broken=False).ticks())

    assert 2 <= len(ticks) <= 8
    assert ticks[0] == 0
    assert ticks[-1] <= end * (1 + 1e-9)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"),
        (0.0005, "0.5 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1 s"),
        (1, "1 s"),
        (3.25, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (125, "2 min 5 s"),
        (3599.6, "1 h"),
        (12_000, "3 h 20 min"),
        (86_399, "24 h"),
        (187_200, "2 d 4 h"),
        (86_400 * 1500, "1,500 d"),
    ],
)
def test_durations_are_written_as_people_say_them(seconds: float, words: str) -> None:
    assert duration_text(seconds) == words


def test_a_value_is_shown_whole_as_long_as_it_is_short() -> None:
    shown = shown_value({"a": [1, "ä"]}, limit=100)

    assert (shown.text, shown.preview, shown.note) == (
        '{\n  "a": [\n    1,\n    "ä"\n  ]\n}',
        '{"a":[1,"ä"]}',
        None,
    )


def test_a_long_value_is_cut_and_says_so() -> None:
    shown = shown_value(list(range(10_000)), limit=50)

    assert len(shown.text) == 51
    assert shown.text.endswith("…")
    assert shown.note is not None
    assert "first 50 characters" in shown.note


def test_a_value_too_deep_to_be_written_is_named() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    assert shown_value(deep, limit=50).text == "(nested too deeply to be shown)"


def test_many_values_share_the_page() -> None:
    assert [characters_each(count) for count in (0, 1, 1000, 10**6)] == [16384, 16384, 4194, 512]
