"""What the command line prints: rich tables on a terminal, plain text into a pipe."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.json import JSON
from rich.table import Table
from rich.text import Text

_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "interrupted": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "holds": "green",
    "differs": "bold red",
}


class ReaderLeft(Exception):  # noqa: N818 - what happened, in two words
    """Whoever read standard output left before its end.

    rich and click would leave with 1, which means something else in `run` and `verify`.
    """


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise ReaderLeft


def console() -> Console:
    """The console of standard output."""
    return _Output(file=sys.stdout, highlight=False, soft_wrap=False)


def error_console() -> Console:
    """The console of standard error: progress, remarks and errors."""
    return Console(file=sys.stderr, highlight=False)


def say_error(lines: Sequence[str]) -> None:
    """Print a refusal: the first line with the program's name, the others indented."""
    out = error_console()
    for place, line in enumerate(lines):
        out.print(
            plain(line if place else f"pawl: {line}", limit=2000), style="red", soft_wrap=True
        )


def plain(text: object, *, limit: int = 200) -> Text:
    """Text that somebody else wrote, made harmless for a terminal and bounded in length."""
    shown = "".join(_visible(character) for character in str(text)[: limit + 1])
    return Text(shown if len(shown) <= limit else shown[:limit] + "…")


def short_json(value: object, *, limit: int = 72) -> Text:
    """A value as compact JSON on one line, cut at `limit` characters."""
    return plain(json.dumps(value, ensure_ascii=False, separators=(",", ":")), limit=limit)


def styled(word: str) -> Text:
    """A state or status in its colour."""
    text = plain(word, limit=40)
    text.stylize(_STYLES.get(word, ""))
    return text


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: str = ""
) -> Table:
    """A table with a title above; cells that are not Text yet are made plain.

    The column named `whole` is never folded: what people copy from it stays in one piece.
    """
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    cells = [[cell if isinstance(cell, Text) else plain(cell) for cell in row] for row in rows]
    for place, column in enumerate(columns):
        is_whole = column == whole
        widest = max((_widest_line(row[place]) for row in cells if is_whole), default=None)
        made.add_column(column, overflow="fold", min_width=widest, no_wrap=is_whole)
    for row in cells:
        made.add_row(*row)
    return made


def record(title: str, members: Iterable[tuple[str, object]]) -> Table:
    """Names and values below one another, without a head."""
    made = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in members:
        made.add_row(name, value if isinstance(value, Text) else plain(value, limit=500))
    return made


def pretty_json(value: Any) -> JSON:
    """A value as indented JSON with colours."""
    return JSON.from_data(value, ensure_ascii=True)


def print_json(value: Any) -> None:
    """A value as JSON for programs: plain, on standard output."""
    print_line(json.dumps(value, indent=2))


def print_line(line: str) -> None:
    """A line for programs, on standard output at once. Raises ReaderLeft."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderLeft from error


def time_text(at: datetime) -> str:
    """A time as the server writes it: RFC 3339 with microseconds."""
    return at.isoformat(timespec="microseconds")


def day_text(time: str) -> str:
    """The day of an RFC 3339 time; the whole of it is in the JSON."""
    return time[:10]


def seconds_text(milliseconds: float | None) -> str:
    """A duration for people: 12 ms, 3.4 s; a dash when there is none."""
    if milliseconds is None:
        return "–"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _widest_line(cell: Text) -> int:
    return max(line.cell_len for line in cell.split())


def _visible(character: str) -> str:
    if character == "\n" or not unicodedata.category(character).startswith("C"):
        return character
    return "\ufffd"
