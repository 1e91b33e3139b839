"""The judge of a run: every promise held against its history, and whether the run says anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tests.faults import client_promises, promises
from tests.faults.promises import Broken, Found
from tests.faults.records import History

LEAST_OK = 100
"""So many operations must have gone well before a run counts."""
MOST_SHOWN = 5

Promise = Callable[[History], Found]

PROMISES: tuple[Promise, ...] = (
    promises.states_go_forward,
    promises.ended_tasks_never_change,
    promises.no_step_runs_twice,
    promises.steps_come_in_order,
    promises.every_task_ends_in_time,
    promises.every_event_is_published_in_order,
    promises.state_and_event_agree,
    promises.hashes_recompute,
    promises.equal_tasks_hash_equally,
    promises.bounds_hold,
    client_promises.nothing_acknowledged_is_lost,
    client_promises.one_key_is_one_task,
    client_promises.cancel_has_one_winner,
    client_promises.use_is_what_was_accepted,
    client_promises.concurrency_stays_within_limits,
    client_promises.refusals_leave_no_trace,
    client_promises.readers_see_committed_states,
    client_promises.lack_is_admitted,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is broken, by the name of the promise."""

    broken: dict[str, tuple[Broken, ...]]

    @property
    def names(self) -> set[str]:
        """The promises that are broken."""
        return set(self.broken)

    def __str__(self) -> str:
        lines = []
        for name, found in self.broken.items():
            lines.append(f"{name}: {len(found)} times")
            lines += [f"  {one.task_id or '–'}: {one.what}" for one in found[:MOST_SHOWN]]
        return "\n".join(lines) or "every promise was kept"


def judge(history: History) -> Verdict:
    """Hold every promise against the history."""
    found = {promise.__name__: tuple(promise(history)) for promise in PROMISES}
    return Verdict(broken={name: broken for name, broken in found.items() if broken})


def check_run(history: History, *, hits: Collection[object]) -> None:
    """AssertionError when a promise is broken, or when the run proves nothing.

    It proves nothing with fewer than 100 operations that went well, or when nothing of what it was
    made for has happened; `hits` names what has.
    """
    verdict = judge(history)
    print(_summary(history, hits))
    assert not verdict.broken, f"\n{verdict}"
    assert history.ok_count >= LEAST_OK, f"only {history.ok_count} operations went well"
    assert hits, "nothing of what the run was made for has happened"


def _summary(history: History, hits: Collection[object]) -> str:
    outcomes = Counter(operation.outcome for operation in history.operations)
    states = Counter(task.state for task in history.dump.tasks)
    return f"operations {dict(outcomes)}, tasks {dict(states)}, hits {len(hits)}"
