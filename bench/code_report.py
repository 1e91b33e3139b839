"""The rows of a table for steps of code."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from bench.code_steps import BURST, CLIENTS, GUESTS, CodeFigures, CodeRound
from bench.measure import Latency, median_of


def code_rows(figures: Sequence[CodeFigures]) -> Iterator[tuple[str, str, str]]:
    """What, figure, target; for each sandbox, a missing one too."""
    for one in figures:
        if not one.rounds:
            yield f"code in {one.backend}", f"not here: {one.missing}", ""
            continue
        yield f"code in {one.backend}, one task after another, p50 / p95", *_calm(one)
        yield from _rest(one.rounds)


def _calm(one: CodeFigures) -> tuple[str, str]:
    calm = _median(one.rounds, lambda seen: seen.calm)
    step = _median(one.rounds, lambda seen: seen.step)
    math = _median(one.rounds, lambda seen: seen.math)
    words = f"{_pair(calm)}; the step {_pair(step)}; with math {_pair(math)}"
    return words, "≤ 60 ms p50" if one.backend == "docker" else ""


def _rest(rounds: Sequence[CodeRound]) -> Iterator[tuple[str, str, str]]:
    row = _pair(_median(rounds, lambda seen: seen.in_a_row))
    cold = statistics.median(seen.in_a_row_cold for seen in rounds)
    yield "  in a row, p50 / p95", f"{row}{_cold(cold)}", ""
    for place, clients in enumerate(CLIENTS):
        loads = [seen.loads[place] for seen in rounds]
        rate = statistics.median(load.throughput.per_second for load in loads)
        waits = _pair(median_of([load.throughput.latency for load in loads]))
        cold = statistics.median(load.cold for load in loads)
        yield f"  {clients} clients", f"{rate:.1f}/s, {waits}{_cold(cold)}", ""
    starts = [seen.start_ms for seen in rounds if seen.start_ms is not None]
    past = _median(rounds, lambda seen: seen.past_pool).p50_ms
    said = f", a start {statistics.median(starts):.0f} ms in the mean" if starts else ""
    yield f"  slowest of {GUESTS + 1} at once, p50", f"{past:.0f} ms{said}", ""
    burst = _median(rounds, lambda seen: seen.burst)
    yield f"  {BURST} at once, p50 / max", f"{burst.p50_ms:.0f} / {burst.max_ms:.0f} ms", ""
    first = statistics.median(seen.first_ms for seen in rounds)
    yield "  first after the start", f"{first:.0f} ms", ""


def _median(rounds: Sequence[CodeRound], figure: Callable[[CodeRound], Latency]) -> Latency:
    return median_of([figure(seen) for seen in rounds])


def _cold(share: float) -> str:
    return f", {share:.0%} found no guest" if share else ""


def _pair(latency: Latency) -> str:
    return f"{latency.p50_ms:.1f} / {latency.p95_ms:.1f} ms"
