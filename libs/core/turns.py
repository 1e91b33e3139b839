"""Whose turn it is, where few can go at once and nobody shall keep the others out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence


def next_turn(
    waiting: Sequence[Hashable], held: Mapping[Hashable, int], *, most: int, most_each: int
) -> int | None:
    """The place in `waiting` of who goes next; None: nobody may now.

    `waiting` names who each waiter belongs to, the longest wait first; `held` counts the turns that
    each has. At most `most` go at once, `most_each` of one owner. First goes whose owner holds
    fewest, of several who has waited longest.
    """
    if sum(held.values()) >= most:
        return None
    allowed = [
        (held.get(owner, 0), place)
        for place, owner in enumerate(waiting)
        if held.get(owner, 0) < most_each
    ]
    return min(allowed)[1] if allowed else None
