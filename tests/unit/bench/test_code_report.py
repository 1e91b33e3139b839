"""The rows for steps of code: medians of the rounds, and what is missing."""

from __future__ import annotations

from dataclasses import replace

from bench.code_report import code_rows
from bench.code_steps import CLIENTS, CodeFigures, CodeLoad, CodeRound
from bench.measure import latency_of
from bench.workloads import Throughput


def make_round(milliseconds: int, *, cold: float = 0.0) -> CodeRound:
    seen = latency_of([milliseconds / 1000])
    loads = tuple(
        CodeLoad(
            throughput=Throughput(
                clients=clients, processes=1, seconds=1, tasks=9, per_second=9, latency=seen
            ),
            cold=cold,
        )
        for clients in CLIENTS
    )
    return CodeRound(
        first_ms=milliseconds,
        calm=seen,
        step=seen,
        math=seen,
        in_a_row=seen,
        in_a_row_cold=cold,
        loads=loads,
        past_pool=seen,
        burst=seen,
        start_ms=milliseconds,
    )


HERE = CodeFigures(
    backend="docker",
    version="1",
    missing="",
    rounds=tuple(make_round(n, cold=0.25) for n in (9, 2, 4)),
)


def test_figures_are_medians_of_the_rounds() -> None:
    rows = {what.strip(): (figure, target) for what, figure, target in code_rows([HERE])}

    assert rows["code in docker, one task after another, p50 / p95"] == (
        "4.0 / 4.0 ms; the step 4.0 / 4.0 ms; with math 4.0 / 4.0 ms",
        "≤ 60 ms p50",
    )
    assert rows["4 clients"] == ("9.0/s, 4.0 / 4.0 ms, 25% found no guest", "")
    assert rows["first after the start"] == ("4 ms", "")


def test_a_sandbox_that_is_missing_is_said_to_be() -> None:
    gone = replace(HERE, rounds=(), missing="no engine answers")

    assert list(code_rows([gone])) == [("code in docker", "not here: no engine answers", "")]
