"""How the command line shows whether two runs came to the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.cli.output import plain, record, short_json
from libs.client.traces import Divergence, Replay
from libs.core.comparison import Comparison, shown_values

MATCH = "hashes match"
_TRUNCATED = {"$truncated", "size_bytes", "sha256", "excerpt", "excerpt_at"}


def print_outcome(first: Divergence | None, out: Console, *, matches: bool | None) -> None:
    """`hashes match`, or the first divergence with its step, its field and both values."""
    if matches:
        out.print(MATCH, style="green")
    elif first is not None:
        out.print(divergence_table(first))
    else:
        out.print("nothing differs so far; it has not ended, or its original is gone")


def divergence_table(first: Divergence) -> Table:
    """The first divergence."""
    step = first.step_index
    return record(
        "First divergence",
        [
            ("where", "the whole task" if step is None else f"step {step}"),
            ("what", first.field),
            ("original", value_text(first.original)),
            ("replayed", value_text(first.replayed)),
        ],
    )


def outcome_text(replay: Replay) -> Text:
    """The same on one line."""
    first = replay.first_divergence
    if replay.matches:
        return Text(MATCH, "green")
    if first is None:
        return Text("nothing differs so far")
    where = "in the whole task" if first.step_index is None else f"in step {first.step_index}"
    return Text("differs ", "bold red") + plain(f"{where}: {first.field}")


def value_text(value: Any) -> Text:
    """A value, or of a large one the part around what differs, its size and its hash."""
    if not isinstance(value, dict) or set(value) != _TRUNCATED:
        return short_json(value, limit=2000)
    words = "…{excerpt}… (from character {excerpt_at} of {size_bytes} bytes, sha256 {sha256})"
    return plain(words.format_map(value), limit=1000)


def shown_divergence(comparison: Comparison) -> Divergence | None:
    """The first divergence of a comparison made here, as a trace carries one."""
    first = comparison.first_divergence
    if first is None:
        return None
    original, replayed = shown_values(first)
    return Divergence(
        step_index=first.step_index,
        field=first.field.value,
        original=original,
        replayed=replayed,
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison made here, in the shape in which a trace carries one."""
    first = shown_divergence(comparison)
    return {
        "matches": comparison.matches,
        "first_divergence": None if first is None else asdict(first),
    }
