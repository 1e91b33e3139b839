"""`pawl verify`: check a trace file offline. Needs no server and reads no environment."""

from __future__ import annotations

from libs.cli.comparison import comparison_json, print_outcome, shown_divergence
from libs.cli.output import console, plain, print_json, styled, table
from libs.cli.trace_file import read_trace_file
from libs.core.canonical import doubles
from libs.core.comparison import compare_blocks
from libs.core.recorded_trace import NotATrace, RecordedBlock, read_trace
from libs.core.verification import Report, verify

_MOST_SHOWN = 20


def verify_file(name: str, *, expected_task_hash: str | None, as_json: bool) -> int:
    """Check the trace in a file (`-`: standard input) and print what was found; 0 or 1.

    Raises NotATrace.
    """
    report = verify(read_trace_file(name), expected_task_hash=expected_task_hash)
    if as_json:
        print_json(report_json(report))
    else:
        print_report(report)
    return 0 if report.holds else 1


def verify_pair(name: str, original: str, *, expected_task_hash: str | None, as_json: bool) -> int:
    """Check the traces in two files, then the first as a replay of the second; 0 or 1.

    Raises NotATrace.
    """
    report, replayed = _judged(name, expected_task_hash)
    other_report, against = _judged(original, None)
    reports = report, other_report
    comparison = compare_blocks(against, replayed)
    holds = all(report.holds for report in reports)
    if as_json:
        checked = dict(zip(("trace", "against"), map(report_json, reports), strict=True))
        print_json({**checked, "comparison": comparison_json(comparison)})
    else:
        for report, path in zip(reports, (name, original), strict=True):
            console().print(plain(path), style="bold")
            print_report(report)
        # What does not hold says nothing.
        if holds:
            first = shown_divergence(comparison)
            print_outcome(first, console(), matches=comparison.matches)
    return 0 if holds and comparison.matches else 1


def _judged(name: str, expected_task_hash: str | None) -> tuple[Report, RecordedBlock]:
    """The report of one of several files. Raises NotATrace, which names the file."""
    trace = read_trace_file(name)
    try:
        report = verify(trace, expected_task_hash=expected_task_hash)
        return report, read_trace(doubles(trace)).block
    except NotATrace as error:
        raise NotATrace(f"{name}: {error}") from error


def print_report(report: Report) -> None:
    """One row per check, then the verdict; the first difference is named in it."""
    out = console()
    rows = [
        (
            check.subject,
            _head(check.recorded),
            styled("holds" if check.holds else "differs"),
        )
        for check in report.checks
    ]
    shown = rows if len(rows) <= _MOST_SHOWN else [*rows[:_MOST_SHOWN], ("…", "", "")]
    out.print(table("Verification", ("what", "recorded hash", "result"), shown))
    first = report.first_difference
    if first is None:
        remark = (
            "" if report.state.is_terminal else f" The task is {report.state}: not all is said."
        )
        out.print(f"Every hash matches.{remark}")
        task = next((c.recorded for c in report.checks if c.subject == "task"), None)
        out.print(f"Task hash {task or 'none yet'}", soft_wrap=True)
        return
    out.print(plain(f"{first.subject} differs:", limit=300), style="bold red")
    for difference in first.differences:
        out.print(plain(f"  {difference}", limit=600), soft_wrap=True)
    others = sum(not check.holds for check in report.checks) - 1
    if others:
        out.print(f"After it {others} more {'differs' if others == 1 else 'differ'}.")


def _head(text: str | None) -> str:
    return "–" if text is None else f"{text[:16]}…"


def report_json(report: Report) -> dict[str, object]:
    """The report for programs."""
    first = report.first_difference
    return {
        "task_id": report.task_id,
        "state": report.state,
        "holds": report.holds,
        "first_difference": None if first is None else first.subject,
        "checks": [
            {
                "subject": check.subject,
                "recorded": check.recorded,
                "holds": check.holds,
                "differences": list(check.differences),
            }
            for check in report.checks
        ],
    }
