"""The `pawl` command: says what can be asked for, and hands over to the module that does it."""

from __future__ import annotations

import io
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from libs.cli import account_commands
from libs.client.errors import Refused, Unreachable
from libs.core.recorded_trace import NotATrace

if TYPE_CHECKING:
    from libs.cli.client import Client

EXIT_READER_LEFT = 128 + 13

app = typer.Typer(
    name="pawl",
    help="Run AI tasks that are planned before they run, bounded, forward-only and verifiable.",
    epilog="Commands find the server by PAWL_URL and PAWL_API_KEY, else by the ready file of a"
    " running pawl up.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
events = typer.Typer(help="Print events, or publish them anew.", invoke_without_command=True)
topics = typer.Typer(help="The topics of the event bus.", no_args_is_help=True)
app.add_typer(events, name="events")
app.add_typer(topics, name="topics")
app.add_typer(account_commands.tenants, name="tenants")
app.add_typer(account_commands.keys, name="keys")
app.add_typer(account_commands.users, name="users")


class ReplayMode(StrEnum):
    """What `pawl replay --mode` knows."""

    live = "live"
    recorded = "recorded"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def main() -> None:
    """Run the command line. Exit 2: it could not be asked, or the server cannot be reached.

    Exit 141, as of a program that SIGPIPE ends: whoever read the output left before its end.
    """
    from libs.cli.output import ReaderLeft
    from libs.cli.run import BadArgument
    from libs.process.env import ConfigError

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that does not speak UTF-8 shows a ? for an arrow.
        sys.stdout.reconfigure(errors="replace")
    _add_server_commands(sys.argv[1:])
    try:
        app()
    except Refused as error:
        _leave(error.lines)
    except (Unreachable, NotATrace, BadArgument, ConfigError) as error:
        _leave([str(error)])
    except ReaderLeft:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_READER_LEFT)


@app.command()
def run(
    *,
    topic: Annotated[str | None, typer.Option(help="What the task is about.")] = None,
    expression: Annotated[str | None, typer.Option(help="A formula to calculate.")] = None,
    definition: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE", help="The task's input, an object.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE", help="The plan to run, an object.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="Most steps of the plan.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds from start to end.")] = None,
    priority: Annotated[
        int | None, typer.Option(help="-1000 to 1000; higher runs first.", show_default="0")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Not before this time, such as 2026-06-15T09:00:00+02:00."
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key submits only once.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit a task, follow it, print its result. Exit 0: it succeeded, 1: it failed."""
    from libs.cli.run import Submission, run_task

    submission = Submission(
        definition=definition,
        plan=plan,
        topic=topic,
        expression=expression,
        max_steps=max_steps,
        timeout_seconds=timeout,
        priority=priority,
        scheduled_at=at,
    )
    body = submission.body()
    sys.exit(run_task(_client(), body, idempotency_key=idempotency_key, as_json=as_json))


@app.command()
def cancel(
    task_id: Annotated[str, typer.Argument(help="The task's id.")], *, as_json: AsJson = False
) -> None:
    """End a task that has not ended. Exit 0: it is cancelled, 1: it had ended already."""
    from libs.cli.cancel import cancel_task

    sys.exit(cancel_task(_client(), task_id, as_json=as_json))


@app.command()
def trace(
    task: Annotated[
        str, typer.Argument(metavar="TASK|FILE", help="The task's id, or a file with its trace.")
    ],
    *,
    html: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw the task as a page that can be sent to somebody."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened to a task. With --json: the trace that `pawl verify` checks."""
    from libs.cli.run import BadArgument
    from libs.cli.trace import show_trace

    if html is not None and as_json:
        raise BadArgument("say either --html FILE or --json")
    sys.exit(show_trace(_client, task, html=html, as_json=as_json))


@app.command()
def replay(
    task_id: Annotated[str, typer.Argument(help="The id of a task that has ended.")],
    *,
    mode: Annotated[
        ReplayMode,
        typer.Option(help="live: run every step; recorded: answer network and model steps."),
    ] = ReplayMode.live,
    as_json: AsJson = False,
) -> None:
    """Do once more what a task did. Exit 0: all hashes match, 1: something differs."""
    from libs.cli.replay import replay_task

    sys.exit(replay_task(_client(), task_id, mode=mode.value, as_json=as_json))


@app.command()
def verify(
    file: Annotated[str, typer.Argument(help="A trace as JSON; - for standard input.")],
    *,
    against: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Another trace: check both, and whether they match."),
    ] = None,
    task_hash: Annotated[
        str | None, typer.Option(help="The task hash that was kept elsewhere.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the hashes of a trace, offline. Exit 0: all match, 1: one differs, 2: not a trace."""
    from libs.cli.verify import verify_file, verify_pair

    if against is not None:
        sys.exit(verify_pair(file, against, expected_task_hash=task_hash, as_json=as_json))
    sys.exit(verify_file(file, expected_task_hash=task_hash, as_json=as_json))


@app.command()
def tools(
    name: Annotated[
        str | None, typer.Argument(help="One tool, with its schemas and examples.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the tools that plans may name, or show how one is called."""
    from libs.cli.tools import show_tool, show_tools

    if name is None:
        sys.exit(show_tools(_client(), as_json=as_json))
    sys.exit(show_tool(_client(), name, as_json=as_json))


@app.command()
def usage(
    *,
    month: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM", help="In UTC.", show_default="the current month"),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the days as CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the account used in a month, what that cost, and what it may use."""
    from libs.cli.usage import show_usage

    sys.exit(show_usage(_client(), month=month, as_csv=as_csv, as_json=as_json))


@events.callback()
def show_events(
    context: typer.Context,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for new ones.")] = False,
    task: Annotated[str | None, typer.Option("--task", help="Of this task only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print events: those that are kept, or with --follow new ones as they happen."""
    if context.invoked_subcommand is not None:
        return
    from libs.cli.events import show_events as show

    sys.exit(show(_client(), task_id=task, follow=follow, as_json=as_json))


@events.command("replay")
def replay_events(
    *,
    task: Annotated[str | None, typer.Option("--task", help="All events of this task.")] = None,
    from_dead_letters: Annotated[
        bool,
        typer.Option("--from-dead-letters", help="Those that consumers had to put aside."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish events anew from the event table. Consumers pass by what they have handled."""
    from libs.cli.events import replay

    sys.exit(replay(_client(), task_id=task, from_dead_letters=from_dead_letters, as_json=as_json))


@topics.command("apply")
def apply_topics() -> None:
    """Make the topics on the brokers of PAWL_KAFKA_BOOTSTRAP, or say how they differ."""
    from libs.cli.topics import apply_topics as apply

    sys.exit(apply(os.environ))


@app.command()
def demo(
    *,
    url: Annotated[
        str | None, typer.Option(help="Use the server there, with the key in PAWL_API_KEY.")
    ] = None,
) -> None:
    """Start Pawl in a temporary directory, run a few tasks, show and verify them, stop."""
    from libs.cli.demo import run_demo

    sys.exit(run_demo(url))


app.command()(account_commands.audit)


def _add_server_commands(arguments: list[str]) -> None:
    """Add `up` and `migrate` unless another command is called: they need many more modules."""
    known = {group.name for group in app.registered_groups}
    known |= {command.callback.__name__ for command in app.registered_commands if command.callback}
    if arguments and arguments[0] in known:
        return
    from libs.cli.up.command import migrate, up

    app.command()(up)
    app.command()(migrate)


def _client() -> Client:
    from libs.cli.connect import connect

    return connect()


def _leave(lines: list[str]) -> None:
    from libs.cli.output import say_error

    say_error(lines)
    sys.exit(2)


if __name__ == "__main__":
    main()
