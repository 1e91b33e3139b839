"""`pawl events`: the tenant's events, or one task's, a line each; or published anew."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.text import Text

from libs.cli.client import Client
from libs.cli.output import console, plain, print_json, print_line
from libs.cli.run import BadArgument
from libs.cli.trace import event_row
from libs.client.tasks import Event

_BEGINNING = 0
_IDLE_SECONDS = 1.0


def show_events(client: Client, *, task_id: str | None, follow: bool, as_json: bool) -> int:
    """Print events until interrupted or, with a task, until it ends; without `follow` what is kept.

    With `as_json` each event is one line of JSON.
    """
    out = console()
    try:
        for event in _events(client, task_id, follow=follow):
            if as_json:
                print_line(json.dumps(event.raw))
            else:
                out.print(_line(event), soft_wrap=True)
    except KeyboardInterrupt:
        return 0
    return 0


def replay(client: Client, *, task_id: str | None, from_dead_letters: bool, as_json: bool) -> int:
    """Have events published once more and say how many; 0. BadArgument: not exactly one is said."""
    if (task_id is not None) is from_dead_letters:
        raise BadArgument("say either --task ID or --from-dead-letters")
    body = {"from_dead_letters": True} if task_id is None else {"task_id": task_id}
    said = client.post("/v1/events/replay", body)
    if as_json:
        print_json(said)
        return 0
    events, letters, unknown = said["events"], said["letters"], said["unknown_letters"]
    out = console()
    if from_dead_letters:
        out.print(f"{letters} dead letters read; {unknown} of them are no event of a task here")
    out.print(f"{events} events are published once more")
    return 0


def _events(client: Client, task_id: str | None, *, follow: bool) -> Iterable[Event]:
    if task_id is not None:
        return client.api.stream(task_id) if follow else client.api.trace(task_id).events
    if follow:
        return client.api.stream_all()
    return client.api.stream_all(after=_BEGINNING, idle_seconds=_IDLE_SECONDS)


def _line(event: Event) -> Text:
    seq, at, name, what = event_row(event)
    task = f"{event.task_id} " if event.task_id is not None else ""
    words = what if isinstance(what, Text) else plain(what)
    return Text(f"{at} ", "dim") + plain(f"{task}{seq} {name} ") + words
